// Frames left by an image's tables: arch/x64/unwind.c, on images and stacks in memory of this machine.
//
// The first tests are vectors written by hand. Then random functions are run by a naive processor,
// instruction by instruction, and left at every one of them: the registers must be those at the entry.
// At last tables, code and stacks are damaged: under the address sanitizer nothing may be touched that
// is not theirs.
#include "arch/x64/unwind.h"
#include "tests/host/host.h"
#include "tests/host/random.h"

//
// An image and a stack, each in a block of its own, so that one byte beyond is an error.
//

#define IMAGE_BYTES 0x400
#define FUNCTION_RVA 0x100
#define OTHER_RVA 0x200
#define INFO_RVA 0x300
#define PARENT_INFO_RVA 0x380
#define STACK_WORDS 256
#define ROWS 3

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 };

static PUCHAR Bytes;
static PULONG64 Stack;
static PRUNTIME_FUNCTION Rows;
static LDR_IMAGE Image;
static CONTEXT Context;
static KI_FRAME_HANDLER Handler;
static ULONG64 Establisher;
static KNONVOLATILE_CONTEXT_POINTERS Pointers;

static BOOLEAN IsWithin(ULONG64 Va, SIZE_T ByteCount, const VOID *Base, SIZE_T BaseByteCount)
{
    const ULONG64 Offset = Va - (ULONG64)(ULONG_PTR)Base;
    return Offset <= BaseByteCount && ByteCount <= BaseByteCount - Offset;
}

BOOLEAN KiUnwindRead(ULONG64 Va, PVOID Buffer, SIZE_T ByteCount)
{
    if (!IsWithin(Va, ByteCount, Bytes, IMAGE_BYTES) &&
        !IsWithin(Va, ByteCount, Stack, STACK_WORDS * sizeof(ULONG64))) {
        return FALSE;
    }
    memcpy(Buffer, (const VOID *)(ULONG_PTR)Va, ByteCount);
    return TRUE;
}

static ULONG64 AddressOf(ULONG Word)
{
    return (ULONG64)(ULONG_PTR)&Stack[Word];
}

// A function of 0x80 bytes, of no-operations and without a prolog.
static VOID Start(VOID)
{
    Bytes = malloc(IMAGE_BYTES);
    Stack = calloc(STACK_WORDS, sizeof(ULONG64));
    Rows = calloc(ROWS, sizeof(*Rows));
    CHECK(Bytes != NULL && Stack != NULL && Rows != NULL);
    memset(Bytes, 0x90, IMAGE_BYTES);
    memset(&Bytes[INFO_RVA], 0, IMAGE_BYTES - INFO_RVA);
    Bytes[INFO_RVA] = 1; // the version
    Rows[0] = (RUNTIME_FUNCTION){
        .BeginAddress = FUNCTION_RVA, .EndAddress = FUNCTION_RVA + 0x80, .UnwindData = INFO_RVA};
    Rows[1] = (RUNTIME_FUNCTION){
        .BeginAddress = OTHER_RVA, .EndAddress = OTHER_RVA + 0x10, .UnwindData = INFO_RVA};
    Image = (LDR_IMAGE){.Base = (ULONG_PTR)Bytes,
                        .ByteCount = IMAGE_BYTES,
                        .FunctionTable = Rows,
                        .FunctionCount = 2};
    memset(&Context, 0, sizeof(Context));
    memset(&Pointers, 0, sizeof(Pointers));
    Context.Rsp = AddressOf(100);
    for (ULONG Word = 0; Word < STACK_WORDS; Word += 1) {
        Stack[Word] = 0x5000 + Word;
    }
}

#define INFO(...)                                                                                  \
    do {                                                                                           \
        static const UCHAR InfoBytes[] = {__VA_ARGS__};                                            \
        memcpy(&Bytes[INFO_RVA], InfoBytes, sizeof(InfoBytes));                                    \
    } while (0)
#define CODE(Offset, ...)                                                                          \
    do {                                                                                           \
        static const UCHAR CodeBytes[] = {__VA_ARGS__};                                            \
        memcpy(&Bytes[FUNCTION_RVA + (Offset)], CodeBytes, sizeof(CodeBytes));                     \
    } while (0)

static BOOLEAN Leave(ULONG Offset, ULONG HandlerType)
{
    const ULONG64 Pc = Image.Base + FUNCTION_RVA + Offset;
    return KiUnwindImageFrame(&Image, Pc, KiFindFunction(&Image, Pc), HandlerType, &Context,
                              &Handler, &Establisher, &Pointers);
}

static VOID CheckCaller(ULONG ReturnWord)
{
    CHECK_EQUAL(Context.Rip, 0x5000 + ReturnWord);
    CHECK_EQUAL(Context.Rsp, AddressOf(ReturnWord + 1));
}

//
// Vectors.
//

static VOID A_leaf_has_its_return_address_on_top(VOID)
{
    Start();
    CHECK(KiFindFunction(&Image, Image.Base + 0x50) == NULL);
    CHECK(KiFindFunction(&Image, Image.Base + FUNCTION_RVA + 0x80) == NULL);
    CHECK(KiFindFunction(&Image, Image.Base + FUNCTION_RVA) == &Rows[0]);
    CHECK(KiFindFunction(&Image, Image.Base + OTHER_RVA + 0xF) == &Rows[1]);
    CHECK(KiUnwindImageFrame(&Image, Image.Base + 0x50, NULL, 0, &Context, &Handler, &Establisher,
                             NULL));
    CheckCaller(100);
    CHECK_EQUAL(Establisher, AddressOf(100));
}

// push rbx; push rbp; sub rsp, 0x20
#define PUSHES_AND_ROOM                                                                            \
    1, 6, 3, 0, /* version, prolog, codes, no frame register */                                    \
        6, 0x32, 2, 0x50, 1, 0x30

static VOID Only_what_the_prolog_has_done_is_undone(VOID)
{
    static const struct {
        ULONG Offset, ReturnWord, BaseWord;
    } Steps[] = {{0, 100, 100}, {1, 101, 100}, {2, 102, 100},
                 {5, 102, 100}, {6, 106, 100}, {0x40, 106, 100}};
    for (ULONG Row = 0; Row < ARRAYSIZE(Steps); Row += 1) {
        Start();
        INFO(PUSHES_AND_ROOM);
        CHECK(Leave(Steps[Row].Offset, 0));
        CheckCaller(Steps[Row].ReturnWord);
        CHECK_EQUAL(Establisher, AddressOf(Steps[Row].BaseWord));
        CHECK_EQUAL(Context.Rbx, Steps[Row].Offset >= 1 ? 0x5000 + Steps[Row].ReturnWord - 1 : 0);
        CHECK_EQUAL(Context.Rbp, Steps[Row].Offset >= 2 ? 0x5000 + Steps[Row].ReturnWord - 2 : 0);
    }
}

static VOID Registers_are_found_where_they_were_pushed(VOID)
{
    Start();
    INFO(PUSHES_AND_ROOM);
    CHECK(Leave(0x40, 0));
    CHECK_EQUAL((ULONG64)(ULONG_PTR)Pointers.IntegerContext[RBX], AddressOf(105));
    CHECK_EQUAL((ULONG64)(ULONG_PTR)Pointers.IntegerContext[RBP], AddressOf(104));
    CHECK(Pointers.IntegerContext[RSI] == NULL);
}

static VOID Large_rooms_have_two_forms(VOID)
{
    Start();
    INFO(1, 7, 2, 0, 7, 0x01, 0x20, 0x00); // 0x20 words
    CHECK(Leave(0x40, 0));
    CheckCaller(132);
    Start();
    INFO(1, 7, 3, 0, 7, 0x11, 0x88, 0x00, 0, 0); // 0x88 bytes
    CHECK(Leave(0x40, 0));
    CheckCaller(117);
}

static VOID A_frame_register_survives_what_moves_the_stack(VOID)
{
    Start();
    INFO(1, 10, 3, 0x25, // rbp, 2 * 16 bytes above the base
         10, 0x03, 5, 0x72, 1, 0x50);
    Context.Rbp = AddressOf(120 + 4);
    CHECK(Leave(0x40, 0)); // rsp is at 100, far below the base at 120
    CHECK_EQUAL(Establisher, AddressOf(120));
    CHECK_EQUAL(Context.Rbp, 0x5000 + 128);
    CheckCaller(129);
    // Before it is set, the stack pointer counts.
    Start();
    INFO(1, 10, 3, 0x25, 10, 0x03, 5, 0x72, 1, 0x50);
    Context.Rbp = 0x1234;
    CHECK(Leave(5, 0));
    CHECK_EQUAL(Establisher, AddressOf(100));
    CheckCaller(109);
}

static VOID Saved_registers_lie_in_the_frame(VOID)
{
    Start();
    INFO(1, 40, 13, 0,            //
         40, 0x65, 0x18, 0, 0, 0, // rsi at 0x18, far
         30, 0x34, 1, 0,          // rbx at 8
         20, 0x78, 2, 0,          // xmm7 at 0x20
         10, 0xF9, 0x30, 0, 0, 0, // xmm15 at 0x30, far
         4, 0x11, 0x80, 0, 0, 0); // 0x80 bytes
    Bytes[INFO_RVA + 2] = 13;
    CHECK(Leave(0x50, 0));
    CHECK_EQUAL(Context.Rbx, 0x5000 + 101);
    CHECK_EQUAL(Context.Rsi, 0x5000 + 103);
    CHECK_EQUAL(Context.Xmm7.Low, 0x5000 + 104);
    CHECK_EQUAL((ULONG64)Context.Xmm7.High, 0x5000 + 105);
    CHECK_EQUAL(Context.Xmm15.Low, 0x5000 + 106);
    CHECK((ULONG64)(ULONG_PTR)Pointers.FloatingContext[7] == AddressOf(104));
    CheckCaller(116);
}

static VOID A_machine_frame_is_gone_back_through(VOID)
{
    for (ULONG ErrorCode = 0; ErrorCode < 2; ErrorCode += 1) {
        Start();
        INFO(1, 0, 1, 0, 0, 0x0A);
        Bytes[INFO_RVA + 5] |= (UCHAR)(ErrorCode << 4);
        CHECK(Leave(0x40, 0));
        CHECK_EQUAL(Context.Rip, 0x5000 + 100 + ErrorCode);
        CHECK_EQUAL(Context.Rsp, 0x5000 + 103 + ErrorCode);
    }
}

static VOID A_part_of_a_function_is_followed_by_its_parent(VOID)
{
    Start();
    // The part saved rsi; its parent has pushed rbx and has made room.
    INFO(UNW_FLAG_CHAININFO << 3 | 1, 5, 2, 0, 5, 0x64, 2, 0);
    const RUNTIME_FUNCTION Parent = {
        .BeginAddress = OTHER_RVA, .EndAddress = OTHER_RVA + 0x10, .UnwindData = PARENT_INFO_RVA};
    memcpy(&Bytes[INFO_RVA + 8], &Parent, sizeof(Parent));
    static const UCHAR ParentInfo[] = {UNW_FLAG_EHANDLER << 3 | 1,
                                       5,
                                       2,
                                       0,
                                       5,
                                       0x42,
                                       1,
                                       0x30,
                                       0x10,
                                       2,
                                       0,
                                       0}; // the handler is at OTHER_RVA + 0x10
    memcpy(&Bytes[PARENT_INFO_RVA], ParentInfo, sizeof(ParentInfo));
    CHECK(Leave(0x40, UNW_FLAG_EHANDLER));
    CHECK_EQUAL(Context.Rsi, 0x5000 + 102);
    CHECK_EQUAL(Context.Rbx, 0x5000 + 105);
    CheckCaller(106);
    CHECK(Handler.Routine == (PEXCEPTION_ROUTINE)(Image.Base + 0x210));
}

static VOID A_chain_that_never_ends_is_refused(VOID)
{
    Start();
    INFO(UNW_FLAG_CHAININFO << 3 | 1, 0, 0, 0);
    memcpy(&Bytes[INFO_RVA + 4], &Rows[0], sizeof(Rows[0]));
    CHECK(!Leave(0x40, 0));
    Rows[0].UnwindData = INFO_RVA | RUNTIME_FUNCTION_INDIRECT;
    memcpy(&Bytes[INFO_RVA], &Rows[0], sizeof(Rows[0]));
    CHECK(!Leave(0x40, 0));
}

static VOID A_row_may_stand_for_another(VOID)
{
    Start();
    const RUNTIME_FUNCTION Real = {.BeginAddress = FUNCTION_RVA,
                                   .EndAddress = FUNCTION_RVA + 0x80,
                                   .UnwindData = PARENT_INFO_RVA};
    static const UCHAR RealInfo[] = {1, 1, 1, 0, 1, 0x30};
    memcpy(&Bytes[PARENT_INFO_RVA], RealInfo, sizeof(RealInfo));
    memcpy(&Bytes[INFO_RVA], &Real, sizeof(Real));
    Rows[0].UnwindData = INFO_RVA | RUNTIME_FUNCTION_INDIRECT;
    CHECK(Leave(0x40, 0));
    CheckCaller(101);
}

static VOID A_handler_is_in_force_in_the_body_only(VOID)
{
    static const struct {
        ULONG Offset, Type;
        BOOLEAN Found;
    } Cases[] = {
        {0x40, UNW_FLAG_EHANDLER, TRUE},  {0x40, UNW_FLAG_UHANDLER, FALSE},
        {0x40, UNW_FLAG_NHANDLER, FALSE}, {1, UNW_FLAG_EHANDLER, FALSE},
        {0x70, UNW_FLAG_EHANDLER, FALSE}, // the epilog
    };
    for (ULONG Row = 0; Row < ARRAYSIZE(Cases); Row += 1) {
        Start();
        INFO(UNW_FLAG_EHANDLER << 3 | 1, 2, 1, 0, 2, 0x30, 0, 0, 0x00, 0x02, 0, 0, 0x77);
        CODE(0x70, 0x5B, 0xC3);
        CHECK(Leave(Cases[Row].Offset, Cases[Row].Type));
        CHECK_EQUAL(Handler.Routine != NULL, Cases[Row].Found);
        if (Cases[Row].Found) {
            CHECK(Handler.Routine == (PEXCEPTION_ROUTINE)(Image.Base + 0x200));
            CHECK_EQUAL(*(const UCHAR *)Handler.Data, 0x77);
        }
    }
}

// What follows a function's last instructions; whether these are an epilog.
typedef struct _EPILOG_CASE {
    const CHAR *Name;
    UCHAR Code[12];
    BOOLEAN IsEpilog;
} EPILOG_CASE;

static VOID Epilogs_are_recognised_by_their_instructions(VOID)
{
    static const EPILOG_CASE Cases[] = {
        {"ret", {0xC3}, TRUE},
        {"ret n", {0xC2, 8, 0}, TRUE},
        {"rep ret", {0xF3, 0xC3}, TRUE},
        {"jmp short, out", {0xEB, 0x70}, TRUE},
        {"jmp near, out", {0xE9, 0, 1, 0, 0}, TRUE},
        {"jmp near, to the function's begin", {0xE9, 0x8B, 0xFF, 0xFF, 0xFF}, TRUE},
        {"jmp near, within", {0xE9, 0xF0, 0xFF, 0xFF, 0xFF}, FALSE},
        {"jmp short, within", {0xEB, 0xF0}, FALSE},
        {"jmp [rip]", {0xFF, 0x25, 0, 0, 0, 0}, TRUE},
        {"rex jmp [rip]", {0x48, 0xFF, 0x25, 0, 0, 0, 0}, TRUE},
        {"rex jmp rax", {0x48, 0xFF, 0xE0}, TRUE},
        {"jmp rax, as for a table", {0xFF, 0xE0}, FALSE},
        {"call", {0xE8, 0, 0, 0, 0}, FALSE},
        {"call [rip]", {0xFF, 0x15, 0, 0, 0, 0}, FALSE},
        {"jmp [rax + n]", {0xFF, 0x60, 8}, FALSE},
    };
    for (ULONG Row = 0; Row < ARRAYSIZE(Cases); Row += 1) {
        Start();
        INFO(1, 1, 1, 0, 1, 0x30);
        memcpy(&Bytes[FUNCTION_RVA + 0x70], Cases[Row].Code, sizeof(Cases[Row].Code));
        CHECK(Leave(0x70, 0));
        // Behind its pop nothing is left to undo.
        if (Context.Rip != (ULONG64)(0x5000 + (Cases[Row].IsEpilog ? 100 : 101))) {
            FAIL("%s: taken for %s", Cases[Row].Name, Cases[Row].IsEpilog ? "body" : "epilog");
        }
    }
}

static VOID A_jump_into_another_part_of_the_function_is_none(VOID)
{
    Start();
    // [0x100, 0x180) is a part of the function at OTHER_RVA, and so is [0x240, 0x250).
    static const UCHAR ParentInfo[] = {1, 1, 1, 0, 1, 0x30};
    const RUNTIME_FUNCTION Parent = {
        .BeginAddress = OTHER_RVA, .EndAddress = OTHER_RVA + 0x10, .UnwindData = PARENT_INFO_RVA};
    memcpy(&Bytes[PARENT_INFO_RVA], ParentInfo, sizeof(ParentInfo));
    INFO(UNW_FLAG_CHAININFO << 3 | 1, 0, 0, 0);
    memcpy(&Bytes[INFO_RVA + 4], &Parent, sizeof(Parent));
    Rows[1] = Parent;
    Rows[2] =
        (RUNTIME_FUNCTION){.BeginAddress = 0x240, .EndAddress = 0x250, .UnwindData = INFO_RVA};
    Image.FunctionCount = 3;
    CODE(0x70, 0xE9, 0xCB, 0, 0, 0); // to 0x240
    CHECK(Leave(0x70, 0));
    CheckCaller(101);
}

static VOID Version_2_tells_where_its_epilogs_are(VOID)
{
    // Two epilogs of 3 bytes: one at the end, one that ends 0x20 bytes before it. They end in an
    // instruction that version 1 would not know.
    static const ULONG Begins[] = {0x7D, 0x60};
    for (ULONG Row = 0; Row < ARRAYSIZE(Begins); Row += 1) {
        for (ULONG Step = 0; Step < 2; Step += 1) {
            Start();
            INFO(2, 2, 4, 0, 3, 0x16, 0x20, 0x06, 2, 0x30, 1, 0x50);
            memcpy(&Bytes[FUNCTION_RVA + Begins[Row]], "\x5B\x5D\xCC", 3);
            CHECK(Leave(Begins[Row] + Step, 0));
            CheckCaller(Step == 0 ? 102 : 101);
            CHECK_EQUAL(Context.Rbx, Step == 0 ? 0x5000 + 100 : 0);
            CHECK_EQUAL(Context.Rbp, 0x5000 + (Step == 0 ? 101 : 100));
        }
    }
    Start(); // the body
    INFO(2, 2, 4, 0, 3, 0x16, 0x00, 0x00, 2, 0x30, 1, 0x50);
    CHECK(Leave(0x40, 0));
    CheckCaller(102);
    CHECK_EQUAL(Context.Rax, 0);
}

static VOID Damaged_tables_are_refused(VOID)
{
    static const UCHAR Damaged[][8] = {
        {3},                         // a version that does not exist
        {1, 0, 1, 0, 0, 0x0B},       // an operation that does not exist
        {1, 0, 1, 0, 0, 0x01},       // a code that is cut off
        {1, 0, 2, 0, 0, 0x21, 0, 0}, // a third form of a large room
        {1, 0, 1, 0, 0, 0x03},       // a frame register that is not named
        {1, 0, 255, 0, 0, 0x02},     // more codes than the image has bytes
    };
    for (ULONG Row = 0; Row < ARRAYSIZE(Damaged); Row += 1) {
        Start();
        memcpy(&Bytes[INFO_RVA], Damaged[Row], sizeof(Damaged[Row]));
        CHECK(!Leave(0x40, 0));
    }
    static const ULONG Places[] = {IMAGE_BYTES, IMAGE_BYTES - 2, INFO_RVA + 2, MAXULONG & ~1u};
    for (ULONG Row = 0; Row < ARRAYSIZE(Places); Row += 1) {
        Start();
        Rows[0].UnwindData = Places[Row];
        CHECK(!Leave(0x40, 0));
    }
    Start();
    INFO(UNW_FLAG_EHANDLER << 3 | 1, 0, 0, 0, 0xFF, 0xFF, 0xFF,
         0x7F); // a handler that is elsewhere
    CHECK(!Leave(0x40, UNW_FLAG_EHANDLER));
    Start();
    Context.Rsp = 0x1000; // no stack
    CHECK(!Leave(0x40, 0));
}

//
// Random functions, run by a naive processor.
//

#define PROLOG_MAXIMUM 24
#define EPILOG_OFFSET 0x60

typedef enum _STEP_KIND { StepPush, StepRoom, StepFrame, StepSave, StepSaveXmm } STEP_KIND;

typedef struct _STEP {
    STEP_KIND Kind;
    ULONG Register;
    ULONG Bytes;
} STEP;

typedef struct _MODEL {
    STEP Steps[PROLOG_MAXIMUM];
    ULONG StepCount;
    ULONG FrameRegister;
    ULONG FrameOffset; // in words of 16
    ULONG RoomBytes;
} MODEL;

static const ULONG Nonvolatile[] = {RBX, RBP, RSI, RDI, R12, R13, R14, R15};

static VOID MakeModel(MODEL *Model, RANDOM *Random)
{
    BOOLEAN Used[16] = {FALSE};
    memset(Model, 0, sizeof(*Model));
    for (ULONG Left = (ULONG)RandomBelow(Random, 6); Left > 0; Left -= 1) {
        const ULONG Register = Nonvolatile[RandomBelow(Random, ARRAYSIZE(Nonvolatile))];
        if (!Used[Register]) {
            Used[Register] = TRUE;
            Model->Steps[Model->StepCount++] = (STEP){StepPush, Register, 0};
        }
    }
    Model->RoomBytes =
        16 * (1 + (ULONG)RandomBelow(Random, 20)) + (Model->StepCount % 2 == 0 ? 8 : 0);
    Model->Steps[Model->StepCount++] = (STEP){StepRoom, 0, Model->RoomBytes};
    if (RandomOneIn(Random, 2)) {
        const ULONG Register = Nonvolatile[RandomBelow(Random, ARRAYSIZE(Nonvolatile))];
        if (Used[Register]) {
            Model->FrameRegister = Register;
            Model->FrameOffset = (ULONG)RandomBelow(Random, Model->RoomBytes / 16 + 1) & 15;
            Model->Steps[Model->StepCount++] = (STEP){StepFrame, Register, 0};
        }
    }
    ULONG At = 0;
    while (At + 32 <= Model->RoomBytes && RandomOneIn(Random, 2)) {
        const ULONG Register = Nonvolatile[RandomBelow(Random, ARRAYSIZE(Nonvolatile))];
        if (RandomOneIn(Random, 2) && !Used[Register]) {
            Used[Register] = TRUE;
            Model->Steps[Model->StepCount++] = (STEP){StepSave, Register, At};
        } else {
            Model->Steps[Model->StepCount++] = (STEP){StepSaveXmm, 6 + At / 16 % 10, At};
        }
        At += 16;
    }
}

static VOID PutCode(ULONG *Count, ULONG Offset, ULONG Operation, ULONG Info)
{
    Bytes[INFO_RVA + 4 + 2 * *Count] = (UCHAR)Offset;
    Bytes[INFO_RVA + 5 + 2 * *Count] = (UCHAR)(Operation | Info << 4);
    *Count += 1;
}

static VOID PutNumber(ULONG *Count, ULONG Number, ULONG Words)
{
    memcpy(&Bytes[INFO_RVA + 4 + 2 * *Count], &Number, Words * 2);
    *Count += Words;
}

// The tables: every instruction of the prolog counts as two bytes.
static VOID PutTables(const MODEL *Model, RANDOM *Random)
{
    ULONG Count = 0;
    for (ULONG Index = Model->StepCount; Index > 0; Index -= 1) {
        const STEP *Step = &Model->Steps[Index - 1];
        const ULONG Offset = 2 * Index;
        const BOOLEAN Far = RandomOneIn(Random, 2);
        switch (Step->Kind) {
        case StepPush:
            PutCode(&Count, Offset, 0, Step->Register);
            break;
        case StepRoom:
            if (Step->Bytes <= 128 && Far) {
                PutCode(&Count, Offset, 2, Step->Bytes / 8 - 1);
            } else {
                PutCode(&Count, Offset, 1, Far);
                PutNumber(&Count, Far ? Step->Bytes : Step->Bytes / 8, Far ? 2 : 1);
            }
            break;
        case StepFrame:
            PutCode(&Count, Offset, 3, 0);
            break;
        case StepSave:
            PutCode(&Count, Offset, Far ? 5 : 4, Step->Register);
            PutNumber(&Count, Far ? Step->Bytes : Step->Bytes / 8, Far ? 2 : 1);
            break;
        case StepSaveXmm:
            PutCode(&Count, Offset, Far ? 9 : 8, Step->Register);
            PutNumber(&Count, Far ? Step->Bytes : Step->Bytes / 16, Far ? 2 : 1);
            break;
        }
    }
    Bytes[INFO_RVA + 1] = (UCHAR)(2 * Model->StepCount);
    Bytes[INFO_RVA + 2] = (UCHAR)Count;
    Bytes[INFO_RVA + 3] = (UCHAR)(Model->FrameRegister | Model->FrameOffset << 4);
}

static PULONG64 Register(CONTEXT *Of, ULONG Number)
{
    return &KiRegistersOf(Of)[Number];
}

static VOID Push(CONTEXT *Of, ULONG64 Value)
{
    Of->Rsp -= 8;
    memcpy((VOID *)(ULONG_PTR)Of->Rsp, &Value, sizeof(Value));
}

static VOID RunStep(const MODEL *Model, const STEP *Step, CONTEXT *Of)
{
    switch (Step->Kind) {
    case StepPush:
        Push(Of, *Register(Of, Step->Register));
        break;
    case StepRoom:
        Of->Rsp -= Step->Bytes;
        break;
    case StepFrame:
        *Register(Of, Step->Register) = Of->Rsp + 16ull * Model->FrameOffset;
        break;
    case StepSave:
        memcpy((VOID *)(ULONG_PTR)(Of->Rsp + Step->Bytes), Register(Of, Step->Register), 8);
        break;
    case StepSaveXmm:
        memcpy((VOID *)(ULONG_PTR)(Of->Rsp + Step->Bytes), &KiXmmOf(Of)[Step->Register], 16);
        break;
    }
}

// What a body may do: registers that were saved change, the stack grows when there is a frame register.
static VOID RunBody(const MODEL *Model, CONTEXT *Of, RANDOM *Random)
{
    for (ULONG Index = 0; Index < Model->StepCount; Index += 1) {
        const STEP *Step = &Model->Steps[Index];
        if ((Step->Kind == StepPush || Step->Kind == StepSave) &&
            Step->Register != Model->FrameRegister) {
            *Register(Of, Step->Register) = RandomNext(Random);
        } else if (Step->Kind == StepSaveXmm) {
            KiXmmOf(Of)[Step->Register].Low = RandomNext(Random);
        }
    }
    if (Model->FrameRegister != 0) {
        Of->Rsp -= 16 * RandomBelow(Random, 8);
    }
}

static VOID CheckLeft(const MODEL *Model, ULONG Offset, const CONTEXT *At, const CONTEXT *Entry,
                      ULONG64 ReturnAddress, ULONG Seed)
{
    Context = *At;
    if (!Leave(Offset, 0)) {
        FAIL("seed %u, offset %u: not left", Seed, Offset);
    }
    CHECK_EQUAL(Context.Rip, ReturnAddress);
    CHECK_EQUAL(Context.Rsp, Entry->Rsp + 8);
    for (ULONG Index = 0; Index < ARRAYSIZE(Nonvolatile); Index += 1) {
        const ULONG Number = Nonvolatile[Index];
        if (*Register(&Context, Number) != *Register((CONTEXT *)(ULONG_PTR)Entry, Number)) {
            FAIL("seed %u, offset %u: register %u of %u steps", Seed, Offset, Number,
                 Model->StepCount);
        }
    }
    CHECK(memcmp(&Context.Xmm6, &Entry->Xmm6, 10 * sizeof(M128A)) == 0 || Offset >= EPILOG_OFFSET);
}

// The epilog: its bytes, and its steps on the processor.
static VOID CheckEpilog(const MODEL *Model, CONTEXT *At, const CONTEXT *Entry,
                        ULONG64 ReturnAddress, ULONG Seed)
{
    PUCHAR Code = &Bytes[FUNCTION_RVA];
    ULONG Offset = EPILOG_OFFSET;
    ULONG Begins[PROLOG_MAXIMUM];
    ULONG Pops[PROLOG_MAXIMUM];
    ULONG PopCount = 0;
    if (Model->FrameRegister != 0) { // lea rsp, [frame register + displacement]
        const LONG Displacement = (LONG)Model->RoomBytes - 16 * (LONG)Model->FrameOffset;
        Code[Offset++] = (UCHAR)(0x48 | Model->FrameRegister >> 3);
        Code[Offset++] = 0x8D;
        Code[Offset++] = (UCHAR)(0xA0 | (Model->FrameRegister & 7));
        if ((Model->FrameRegister & 7) == 4) {
            Code[Offset++] = 0x24;
        }
        memcpy(&Code[Offset], &Displacement, 4);
    } else { // add rsp, room
        Code[Offset++] = 0x48;
        Code[Offset++] = 0x81;
        Code[Offset++] = 0xC4;
        memcpy(&Code[Offset], &Model->RoomBytes, 4);
    }
    Offset += 4;
    for (ULONG Index = Model->StepCount; Index > 0; Index -= 1) {
        const STEP *Step = &Model->Steps[Index - 1];
        if (Step->Kind == StepPush) {
            Begins[PopCount] = Offset;
            Pops[PopCount++] = Step->Register;
            if (Step->Register >= 8) {
                Code[Offset++] = 0x41;
            }
            Code[Offset++] = (UCHAR)(0x58 | (Step->Register & 7));
        }
    }
    Code[Offset] = 0xC3;

    CheckLeft(Model, EPILOG_OFFSET, At, Entry, ReturnAddress, Seed);
    At->Rsp = Entry->Rsp - 8ull * PopCount;
    for (ULONG Index = 0; Index < PopCount; Index += 1) {
        CheckLeft(Model, Begins[Index], At, Entry, ReturnAddress, Seed);
        memcpy(Register(At, Pops[Index]), (const VOID *)(ULONG_PTR)At->Rsp, 8);
        At->Rsp += 8;
    }
    CheckLeft(Model, Offset, At, Entry, ReturnAddress, Seed);
}

// A body has restored what it saved by a move when its epilog begins.
static VOID RestoreSaved(const MODEL *Model, CONTEXT *At, const CONTEXT *Entry)
{
    for (ULONG Index = 0; Index < Model->StepCount; Index += 1) {
        const STEP *Step = &Model->Steps[Index];
        if (Step->Kind == StepSave) {
            *Register(At, Step->Register) = *Register((CONTEXT *)(ULONG_PTR)Entry, Step->Register);
        }
    }
}

static VOID CheckFunction(ULONG Seed)
{
    RANDOM Random = RandomStart(Seed);
    MODEL Model;
    Start();
    MakeModel(&Model, &Random);
    PutTables(&Model, &Random);
    CONTEXT Entry;
    memset(&Entry, 0, sizeof(Entry));
    for (ULONG Number = 0; Number < 16; Number += 1) {
        *Register(&Entry, Number) = RandomNext(&Random);
        KiXmmOf(&Entry)[Number].Low = RandomNext(&Random);
    }
    const ULONG64 ReturnAddress = RandomNext(&Random);
    Entry.Rsp = AddressOf(STACK_WORDS - 8);
    Push(&Entry, ReturnAddress);
    CONTEXT At = Entry;
    for (ULONG Index = 0; Index < Model.StepCount; Index += 1) {
        CheckLeft(&Model, 2 * Index, &At, &Entry, ReturnAddress, Seed);
        RunStep(&Model, &Model.Steps[Index], &At);
    }
    RunBody(&Model, &At, &Random);
    CheckLeft(&Model, 2 * Model.StepCount, &At, &Entry, ReturnAddress, Seed);
    RestoreSaved(&Model, &At, &Entry);
    CheckEpilog(&Model, &At, &Entry, ReturnAddress, Seed);
    free(Bytes);
    free(Stack);
    free(Rows);
}

static VOID A_function_can_be_left_at_each_of_its_instructions(VOID)
{
    for (ULONG Seed = 1; Seed <= 20000; Seed += 1) {
        CheckFunction(Seed);
    }
}

//
// Damage.
//

static VOID Damage(RANDOM *Random)
{
    for (ULONG Left = 1 + (ULONG)RandomBelow(Random, 12); Left > 0; Left -= 1) {
        const ULONG Place = RandomOneIn(Random, 4) ? (ULONG)RandomBelow(Random, IMAGE_BYTES)
                                                   : INFO_RVA + (ULONG)RandomBelow(Random, 32);
        Bytes[Place] = (UCHAR)RandomNext(Random);
    }
    if (RandomOneIn(Random, 4)) {
        PULONG Words = (PULONG)(PVOID)Rows;
        Words[RandomBelow(Random, sizeof(*Rows) * ROWS / sizeof(ULONG))] =
            (ULONG)RandomNext(Random);
    }
    if (RandomOneIn(Random, 4)) {
        Context.Rsp = RandomOneIn(Random, 2) ? RandomNext(Random)
                                             : AddressOf((ULONG)RandomBelow(Random, STACK_WORDS));
    }
}

static VOID Nothing_is_touched_that_is_not_the_images_or_the_stacks(VOID)
{
    RANDOM Random = RandomStart(7);
    ULONG LeftCount = 0;
    for (ULONG Round = 0; Round < 300000; Round += 1) {
        if (Round % 8 == 0) {
            MODEL Model;
            if (Round != 0) {
                free(Bytes);
                free(Stack);
                free(Rows);
            }
            Start();
            MakeModel(&Model, &Random);
            PutTables(&Model, &Random);
        }
        for (ULONG Number = 0; Number < 16; Number += 1) {
            *Register(&Context, Number) = AddressOf((ULONG)RandomBelow(&Random, STACK_WORDS));
        }
        Damage(&Random);
        const ULONG64 Pc = Image.Base + RandomBelow(&Random, IMAGE_BYTES + 16);
        const PRUNTIME_FUNCTION Function = RandomOneIn(&Random, 4)
                                               ? &Rows[RandomBelow(&Random, ROWS)]
                                               : KiFindFunction(&Image, Pc);
        LeftCount += KiUnwindImageFrame(&Image, Pc, Function, (ULONG)RandomNext(&Random), &Context,
                                        &Handler, &Establisher, NULL);
        if (Handler.Routine != NULL) {
            CHECK(IsWithin((ULONG64)(ULONG_PTR)Handler.Routine, 1, Bytes, IMAGE_BYTES));
        }
    }
    CHECK(LeftCount > 10000 && LeftCount < 300000);
}

static const HOST_TEST Tests[] = {
    HOST_ROW(A_leaf_has_its_return_address_on_top, "unwind.c", NULL),
    HOST_ROW(Only_what_the_prolog_has_done_is_undone, "unwind.c", NULL),
    HOST_ROW(Registers_are_found_where_they_were_pushed, "unwind.c", NULL),
    HOST_ROW(Large_rooms_have_two_forms, "unwind.c", NULL),
    HOST_ROW(A_frame_register_survives_what_moves_the_stack, "unwind.c", NULL),
    HOST_ROW(Saved_registers_lie_in_the_frame, "unwind.c", NULL),
    HOST_ROW(A_machine_frame_is_gone_back_through, "unwind.c", NULL),
    HOST_ROW(A_part_of_a_function_is_followed_by_its_parent, "unwind.c", NULL),
    HOST_ROW(A_chain_that_never_ends_is_refused, "unwind.c, U2", NULL),
    HOST_ROW(A_row_may_stand_for_another, "unwind.c", NULL),
    HOST_ROW(A_handler_is_in_force_in_the_body_only, "unwind.c", NULL),
    HOST_ROW(Epilogs_are_recognised_by_their_instructions, "unwind.c", NULL),
    HOST_ROW(A_jump_into_another_part_of_the_function_is_none, "unwind.c", NULL),
    HOST_ROW(Version_2_tells_where_its_epilogs_are, "unwind.c", NULL),
    HOST_ROW(Damaged_tables_are_refused, "unwind.c, U1", NULL),
    HOST_ROW(A_function_can_be_left_at_each_of_its_instructions, "unwind.c", NULL),
    HOST_ROW(Nothing_is_touched_that_is_not_the_images_or_the_stacks, "unwind.c, U1", NULL),
};

HOST_DEFINE_SUITE(unwind);
