// Frames of drivers, left by the tables of their images.
//
// A function that changes the stack pointer or saves registers has a row in .pdata, which leads to
// its unwind information: what the prolog did, as codes, last instruction first. To leave a frame is
// to undo them. In the middle of the prolog only those count whose instruction has run; in an epilog,
// which the tables do not describe, the rest of it is carried out as it stands. A function without
// a row is a leaf: the return address lies on top of the stack.
//
// This follows the published ABI ("x64 exception handling" in Microsoft's documentation).
//
// Invariants:
//   U1  Nothing here faults, whatever the tables and the stack contain: tables are read within the
//       bounds of their image, and all memory through KiUnwindRead.
//   U2  Every loop ends: over codes by their count (8 bits), over chains by MAXIMUM_CHAIN.
// Lock: none. Any IRQL.
#include "arch/x64/unwind.h"

#include "kernel/inc/ke.h"

#define MAXIMUM_CHAIN 32

typedef enum _KI_UNWIND_OPERATION {
    UnwindPush,         // of a nonvolatile register
    UnwindAllocLarge,   // the size follows: in words of 8, or (Info 1) in bytes
    UnwindAllocSmall,   // Info * 8 + 8 bytes
    UnwindSetFrame,     // the frame register was set
    UnwindSave,         // a register was stored: the offset follows, in words of 8
    UnwindSaveFar,      // the same, in bytes
    UnwindEpilog,       // version 2: where the epilogs are
    UnwindSpare,        // not in use
    UnwindSaveXmm,      // the offset follows, in words of 16
    UnwindSaveXmmFar,   // the same, in bytes
    UnwindMachineFrame, // an interrupt or a trap pushed it, with an error code when Info is 1
    UnwindOperationCount,
} KI_UNWIND_OPERATION;

typedef struct _KI_UNWIND_CODE {
    UCHAR PrologOffset; // behind the instruction
    UCHAR Operation : 4;
    UCHAR Info : 4;
} KI_UNWIND_CODE;

C_ASSERT(sizeof(KI_UNWIND_CODE) == 2);

// The fixed part; the codes follow, then (at an even count) a chained row, or the handler's place and
// its data.
typedef struct _KI_UNWIND_HEADER {
    UCHAR Version : 3;
    UCHAR Flags : 5;
    UCHAR PrologByteCount;
    UCHAR CodeCount;
    UCHAR FrameRegister : 4;
    UCHAR FrameOffset : 4; // in words of 16
} KI_UNWIND_HEADER;

C_ASSERT(sizeof(KI_UNWIND_HEADER) == 4);

// The unwind information of one function, or of one part of it.
typedef struct _KI_UNWIND_INFO {
    KI_UNWIND_HEADER Header;
    ULONG Rva; // of the header
    ULONG CodesRva;
    ULONG TailRva; // of what follows the codes
} KI_UNWIND_INFO;

typedef struct _KI_UNWINDING {
    const LDR_IMAGE *Image;
    ULONG PcRva;
    RUNTIME_FUNCTION Function;
    PCONTEXT Context;
    PULONG64 Registers;
    PKNONVOLATILE_CONTEXT_POINTERS Pointers; // or NULL
    BOOLEAN MachineFrame;                    // Rip and Rsp came from one
} KI_UNWINDING, *PKI_UNWINDING;

// -------------------------------------------------------------------------------------------------
// Reading.

static BOOLEAN KiReadImage(const LDR_IMAGE *Image, ULONG64 Rva, PVOID Buffer, SIZE_T ByteCount)
{
    return Rva <= Image->ByteCount && ByteCount <= Image->ByteCount - Rva &&
           KiUnwindRead(Image->Base + Rva, Buffer, ByteCount);
}

static BOOLEAN KiReadUnwindInfo(const LDR_IMAGE *Image, ULONG Rva, KI_UNWIND_INFO *Info)
{
    if (Rva % sizeof(ULONG) != 0 || !KiReadImage(Image, Rva, &Info->Header, sizeof(Info->Header)) ||
        (Info->Header.Version != 1 && Info->Header.Version != 2)) {
        return FALSE;
    }
    const ULONG EvenCount = (Info->Header.CodeCount + 1u) & ~1u;
    Info->Rva = Rva;
    Info->CodesRva = Rva + (ULONG)sizeof(KI_UNWIND_HEADER);
    Info->TailRva = Info->CodesRva + EvenCount * (ULONG)sizeof(KI_UNWIND_CODE);
    return TRUE;
}

static BOOLEAN KiReadCode(const KI_UNWINDING *Unwinding, const KI_UNWIND_INFO *Info, ULONG Index,
                          KI_UNWIND_CODE *Code)
{
    return Index < Info->Header.CodeCount &&
           KiReadImage(Unwinding->Image, Info->CodesRva + Index * sizeof(*Code), Code,
                       sizeof(*Code));
}

// One or two codes' worth of a number.
static BOOLEAN KiReadNumber(const KI_UNWINDING *Unwinding, const KI_UNWIND_INFO *Info, ULONG Index,
                            ULONG CodeCount, PULONG Number)
{
    *Number = 0;
    return Index + CodeCount <= Info->Header.CodeCount &&
           KiReadImage(Unwinding->Image, Info->CodesRva + Index * sizeof(KI_UNWIND_CODE), Number,
                       CodeCount * sizeof(KI_UNWIND_CODE));
}

static BOOLEAN KiReadChained(const KI_UNWINDING *Unwinding, const KI_UNWIND_INFO *Info,
                             RUNTIME_FUNCTION *Chained)
{
    return KiReadImage(Unwinding->Image, Info->TailRva, Chained, sizeof(*Chained));
}

// -------------------------------------------------------------------------------------------------
// Functions.

// The row that was meant: some rows stand for another one.
static BOOLEAN KiResolveIndirect(const LDR_IMAGE *Image, RUNTIME_FUNCTION *Function)
{
    for (ULONG Depth = 0; Function->UnwindData & RUNTIME_FUNCTION_INDIRECT; Depth += 1) {
        if (Depth == MAXIMUM_CHAIN ||
            !KiReadImage(Image, Function->UnwindData & ~RUNTIME_FUNCTION_INDIRECT, Function,
                         sizeof(*Function))) {
            return FALSE;
        }
    }
    return TRUE;
}

PRUNTIME_FUNCTION KiFindFunction(const LDR_IMAGE *Image, ULONG64 ControlPc)
{
    const ULONG64 Rva = ControlPc - Image->Base;
    ULONG Low = 0;
    ULONG High = Image->FunctionTable != NULL ? Image->FunctionCount : 0;
    while (Low < High) {
        const ULONG Middle = Low + (High - Low) / 2;
        const RUNTIME_FUNCTION *Function = &Image->FunctionTable[Middle];
        if (Rva < Function->BeginAddress) {
            High = Middle;
        } else if (Rva >= Function->EndAddress) {
            Low = Middle + 1;
        } else {
            return (PRUNTIME_FUNCTION)(ULONG_PTR)Function;
        }
    }
    return NULL;
}

// The begin of the function that a row is a part of, at the end of its chain.
static BOOLEAN KiFindPrimary(const LDR_IMAGE *Image, RUNTIME_FUNCTION Function, PULONG BeginRva)
{
    for (ULONG Depth = 0; Depth < MAXIMUM_CHAIN; Depth += 1) {
        KI_UNWIND_INFO Info;
        if (!KiResolveIndirect(Image, &Function) ||
            !KiReadUnwindInfo(Image, Function.UnwindData, &Info)) {
            return FALSE;
        }
        if (!(Info.Header.Flags & UNW_FLAG_CHAININFO)) {
            *BeginRva = Function.BeginAddress;
            return TRUE;
        }
        if (!KiReadImage(Image, Info.TailRva, &Function, sizeof(Function))) {
            return FALSE;
        }
    }
    return FALSE;
}

// -------------------------------------------------------------------------------------------------
// The stack.

static BOOLEAN KiLoadRegister(PKI_UNWINDING Unwinding, ULONG Register, ULONG64 Va)
{
    if (!KiUnwindRead(Va, &Unwinding->Registers[Register], sizeof(ULONG64))) {
        return FALSE;
    }
    if (Unwinding->Pointers != NULL) {
        Unwinding->Pointers->IntegerContext[Register] = (PULONG64)Va;
    }
    return TRUE;
}

static BOOLEAN KiLoadXmm(PKI_UNWINDING Unwinding, ULONG Register, ULONG64 Va)
{
    if (!KiUnwindRead(Va, &KiXmmOf(Unwinding->Context)[Register], sizeof(M128A))) {
        return FALSE;
    }
    if (Unwinding->Pointers != NULL) {
        Unwinding->Pointers->FloatingContext[Register] = (PM128A)Va;
    }
    return TRUE;
}

static BOOLEAN KiPop(PKI_UNWINDING Unwinding, ULONG Register)
{
    const PCONTEXT Context = Unwinding->Context;
    const ULONG64 Va = Context->Rsp;
    Context->Rsp += sizeof(ULONG64); // first: pop rsp loads what was there
    return KiLoadRegister(Unwinding, Register, Va);
}

static BOOLEAN KiReturn(PCONTEXT Context)
{
    const ULONG64 Va = Context->Rsp;
    Context->Rsp += sizeof(ULONG64);
    return KiUnwindRead(Va, &Context->Rip, sizeof(ULONG64));
}

// What the processor pushed: Rip, Cs, Rflags, Rsp, Ss.
static BOOLEAN KiLoadMachineFrame(PKI_UNWINDING Unwinding, BOOLEAN HasErrorCode)
{
    const PCONTEXT Context = Unwinding->Context;
    ULONG64 Words[4];
    if (!KiUnwindRead(Context->Rsp + (HasErrorCode ? sizeof(ULONG64) : 0), Words, sizeof(Words))) {
        return FALSE;
    }
    Unwinding->MachineFrame = TRUE;
    Context->Rip = Words[0];
    Context->Rsp = Words[3];
    return TRUE;
}

// -------------------------------------------------------------------------------------------------
// Codes.

// Version 1 had other uses for two of the numbers, which no compiler emits; their codes are skipped.
static ULONG KiLengthOfCode(KI_UNWIND_CODE Code, UCHAR Version)
{
    static const UCHAR Lengths[UnwindOperationCount] = {
        [UnwindPush] = 1,    [UnwindAllocLarge] = 2, [UnwindAllocSmall] = 1,   [UnwindSetFrame] = 1,
        [UnwindSave] = 2,    [UnwindSaveFar] = 3,    [UnwindEpilog] = 1,       [UnwindSpare] = 3,
        [UnwindSaveXmm] = 2, [UnwindSaveXmmFar] = 3, [UnwindMachineFrame] = 1,
    };
    if (Code.Operation == UnwindEpilog) {
        return Version == 1 ? 2 : 1;
    }
    return Lengths[Code.Operation] +
           (Code.Operation == UnwindAllocLarge && Code.Info != 0 ? 1u : 0);
}

// Undoes one instruction of the prolog. Base: of the fixed part of the frame, which offsets count
// from.
static BOOLEAN KiUndoCode(PKI_UNWINDING Unwinding, const KI_UNWIND_INFO *Info, ULONG Index,
                          KI_UNWIND_CODE Code, ULONG64 Base)
{
    const PCONTEXT Context = Unwinding->Context;
    const ULONG Length = KiLengthOfCode(Code, Info->Header.Version);
    ULONG Number = 0;
    if (Length > 1 && !KiReadNumber(Unwinding, Info, Index + 1, Length - 1, &Number)) {
        return FALSE;
    }
    switch ((KI_UNWIND_OPERATION)Code.Operation) {
    case UnwindPush:
        return KiPop(Unwinding, Code.Info);
    case UnwindAllocLarge:
        Context->Rsp += Code.Info == 0 ? Number * 8ull : Number;
        return Code.Info <= 1;
    case UnwindAllocSmall:
        Context->Rsp += Code.Info * 8ull + 8;
        return TRUE;
    case UnwindSetFrame:
        Context->Rsp =
            Unwinding->Registers[Info->Header.FrameRegister] - Info->Header.FrameOffset * 16ull;
        return Info->Header.FrameRegister != 0;
    case UnwindSave:
        return KiLoadRegister(Unwinding, Code.Info, Base + Number * 8ull);
    case UnwindSaveFar:
        return KiLoadRegister(Unwinding, Code.Info, Base + Number);
    case UnwindSaveXmm:
        return KiLoadXmm(Unwinding, Code.Info, Base + Number * 16ull);
    case UnwindSaveXmmFar:
        return KiLoadXmm(Unwinding, Code.Info, Base + Number);
    case UnwindMachineFrame:
        return KiLoadMachineFrame(Unwinding, Code.Info == 1);
    case UnwindEpilog:
    case UnwindSpare:
        return TRUE;
    case UnwindOperationCount:
        break;
    }
    return FALSE;
}

// Whether the prolog has set the frame register at this point of it.
static BOOLEAN KiIsFrameSet(const KI_UNWINDING *Unwinding, const KI_UNWIND_INFO *Info,
                            ULONG PrologOffset)
{
    if (Info->Header.FrameRegister == 0) {
        return FALSE;
    }
    if (PrologOffset >= Info->Header.PrologByteCount || (Info->Header.Flags & UNW_FLAG_CHAININFO)) {
        return TRUE;
    }
    KI_UNWIND_CODE Code;
    for (ULONG Index = 0; KiReadCode(Unwinding, Info, Index, &Code);
         Index += KiLengthOfCode(Code, Info->Header.Version)) {
        if (Code.Operation >= UnwindOperationCount) {
            return FALSE;
        }
        if (Code.Operation == UnwindSetFrame) {
            return PrologOffset >= Code.PrologOffset;
        }
    }
    return FALSE;
}

// The base of the frame's fixed part: what handlers know the frame by.
static ULONG64 KiFindFrameBase(const KI_UNWINDING *Unwinding, const KI_UNWIND_INFO *Info,
                               ULONG PrologOffset)
{
    return KiIsFrameSet(Unwinding, Info, PrologOffset)
               ? Unwinding->Registers[Info->Header.FrameRegister] - Info->Header.FrameOffset * 16ull
               : Unwinding->Context->Rsp;
}

// Undoes what the prolog has done when PrologOffset bytes of it have run.
static BOOLEAN KiUndoCodes(PKI_UNWINDING Unwinding, const KI_UNWIND_INFO *Info, ULONG PrologOffset)
{
    const ULONG64 Base = KiFindFrameBase(Unwinding, Info, PrologOffset);
    KI_UNWIND_CODE Code;
    for (ULONG Index = 0; Index < Info->Header.CodeCount;
         Index += KiLengthOfCode(Code, Info->Header.Version)) {
        if (!KiReadCode(Unwinding, Info, Index, &Code) || Code.Operation >= UnwindOperationCount) {
            return FALSE;
        }
        // [x64] A pair of epilog codes is filled up with a zero, which would read as "push rax".
        const BOOLEAN IsFiller = Info->Header.Version == 2 && Code.PrologOffset == 0 &&
                                 Code.Operation == UnwindPush && Code.Info == 0;
        if (!IsFiller && PrologOffset >= Code.PrologOffset &&
            !KiUndoCode(Unwinding, Info, Index, Code, Base)) {
            return FALSE;
        }
    }
    return TRUE;
}

// Undoes a whole chain, from the part that the address lies in to the function itself; Info becomes
// the function's.
static BOOLEAN KiUndoChain(PKI_UNWINDING Unwinding, KI_UNWIND_INFO *Info, ULONG PrologOffset)
{
    for (ULONG Depth = 0; Depth < MAXIMUM_CHAIN; Depth += 1) {
        if (!KiUndoCodes(Unwinding, Info, PrologOffset)) {
            return FALSE;
        }
        if (!(Info->Header.Flags & UNW_FLAG_CHAININFO)) {
            return TRUE;
        }
        RUNTIME_FUNCTION Chained;
        if (!KiReadChained(Unwinding, Info, &Chained) ||
            !KiResolveIndirect(Unwinding->Image, &Chained) ||
            !KiReadUnwindInfo(Unwinding->Image, Chained.UnwindData, Info)) {
            return FALSE;
        }
        PrologOffset = MAXULONG; // all of that prolog has run
    }
    return FALSE;
}

// -------------------------------------------------------------------------------------------------
// Epilogs: [add rsp, n | lea rsp, [frame register + n]] {pop} (ret | jmp elsewhere). They are
// recognised by their instructions, read from the address on.

#define REX_MASK 0xF0
#define REX 0x40
#define REX_W 0x08
#define REX_R 0x04
#define REX_B 0x01
#define CODE_WINDOW_BYTES 16

typedef struct _KI_INSTRUCTION {
    UCHAR Bytes[CODE_WINDOW_BYTES];
    ULONG ByteCount; // of Bytes: fewer at the end of the image
} KI_INSTRUCTION;

static BOOLEAN KiReadInstruction(const KI_UNWINDING *Unwinding, ULONG64 Rva, KI_INSTRUCTION *Code)
{
    RtlZeroMemory(Code, sizeof(*Code));
    if (Rva >= Unwinding->Image->ByteCount) {
        return FALSE;
    }
    const ULONG64 Left = Unwinding->Image->ByteCount - Rva;
    Code->ByteCount = Left < CODE_WINDOW_BYTES ? (ULONG)Left : CODE_WINDOW_BYTES;
    return KiReadImage(Unwinding->Image, Rva, Code->Bytes, Code->ByteCount);
}

static LONG KiDisplacement32(const UCHAR *Bytes)
{
    LONG Value;
    RtlCopyMemory(&Value, Bytes, sizeof(Value));
    return Value;
}

// The length of an instruction that takes the stack down to the pushed registers, and what RSP is
// then; 0: it is none.
static ULONG KiDecodeStackCut(const KI_UNWINDING *Unwinding, const KI_UNWIND_INFO *Info,
                              const UCHAR *Bytes, PULONG64 Rsp)
{
    if (Bytes[0] == (REX | REX_W) && Bytes[1] == 0x83 && Bytes[2] == 0xC4) { // add rsp, imm8
        *Rsp += (ULONG64)(LONG64)(SCHAR)Bytes[3];
        return 4;
    }
    if (Bytes[0] == (REX | REX_W) && Bytes[1] == 0x81 && Bytes[2] == 0xC4) { // add rsp, imm32
        *Rsp += (ULONG64)(LONG64)KiDisplacement32(&Bytes[3]);
        return 7;
    }
    // lea rsp, [register + displacement], and only by the frame register.
    if ((Bytes[0] & ~REX_B) != (REX | REX_W) || Bytes[1] != 0x8D || (Bytes[2] >> 3 & 7) != 4) {
        return 0;
    }
    const ULONG Register = (Bytes[2] & 7u) | (Bytes[0] & REX_B ? 8u : 0);
    const ULONG SibBytes = (Bytes[2] & 7) == 4 ? 1 : 0; // r12 as a base needs one
    const ULONG Mode = Bytes[2] >> 6;
    if (Info->Header.FrameRegister == 0 || Register != Info->Header.FrameRegister ||
        (SibBytes != 0 && Bytes[3] != 0x24)) {
        return 0;
    }
    const UCHAR *Displacement = &Bytes[3 + SibBytes];
    if (Mode == 1) {
        *Rsp = Unwinding->Registers[Register] + (ULONG64)(LONG64)(SCHAR)*Displacement;
        return 4 + SibBytes;
    }
    if (Mode == 2) {
        *Rsp = Unwinding->Registers[Register] + (ULONG64)(LONG64)KiDisplacement32(Displacement);
        return 7 + SibBytes;
    }
    return 0;
}

static ULONG KiDecodePop(const UCHAR *Bytes, PULONG Register)
{
    const ULONG Prefix = (Bytes[0] & REX_MASK) == REX ? 1 : 0;
    if ((Bytes[Prefix] & 0xF8) != 0x58) {
        return 0;
    }
    *Register = (Bytes[Prefix] & 7u) | (Prefix != 0 && (Bytes[0] & REX_B) ? 8u : 0);
    return Prefix + 1;
}

// A jump to another function ends one; a jump within the function is a jump.
static BOOLEAN KiLeavesFunction(const KI_UNWINDING *Unwinding, const KI_UNWIND_INFO *Info,
                                ULONG64 TargetRva)
{
    const RUNTIME_FUNCTION *Function = &Unwinding->Function;
    if (TargetRva >= Function->BeginAddress && TargetRva < Function->EndAddress) {
        return TargetRva == Function->BeginAddress && !(Info->Header.Flags & UNW_FLAG_CHAININFO);
    }
    const LDR_IMAGE *Image = Unwinding->Image;
    const PRUNTIME_FUNCTION Other =
        TargetRva < Image->ByteCount ? KiFindFunction(Image, Image->Base + TargetRva) : NULL;
    ULONG Own;
    ULONG Others;
    return Other == NULL || !KiFindPrimary(Image, *Other, &Others) ||
           !KiFindPrimary(Image, *Function, &Own) || Own != Others || TargetRva == Others;
}

static BOOLEAN KiEndsFunction(const KI_UNWINDING *Unwinding, const KI_UNWIND_INFO *Info,
                              const UCHAR *Bytes, ULONG64 Rva)
{
    const UCHAR First = Bytes[0];
    if (First == 0xC3 || First == 0xC2 || (First == 0xF3 && Bytes[1] == 0xC3)) { // ret
        return TRUE;
    }
    if (First == 0xEB) { // jmp rel8
        return KiLeavesFunction(Unwinding, Info, Rva + 2 + (ULONG64)(LONG64)(SCHAR)Bytes[1]);
    }
    if (First == 0xE9) { // jmp rel32
        return KiLeavesFunction(Unwinding, Info,
                                Rva + 5 + (ULONG64)(LONG64)KiDisplacement32(&Bytes[1]));
    }
    // jmp [memory], which compilers use for nothing else; by a register with REX.W only, as the ABI
    // demands of the last jump: jump tables have none.
    const ULONG Prefix = (First & REX_MASK) == REX ? 1 : 0;
    if (Bytes[Prefix] != 0xFF || (Bytes[Prefix + 1] >> 3 & 7) != 4) {
        return FALSE;
    }
    const ULONG Mode = Bytes[Prefix + 1] >> 6;
    return Mode == 0 || (Mode == 3 && Prefix != 0 && (First & REX_W));
}

// Version 2 tells where its epilogs are (from the first pop on), and lets them end in any way.
static BOOLEAN KiIsInListedEpilog(const KI_UNWINDING *Unwinding, const KI_UNWIND_INFO *Info)
{
    KI_UNWIND_CODE Code;
    ULONG EpilogBytes = 0;
    for (ULONG Index = 0; KiReadCode(Unwinding, Info, Index, &Code); Index += 1) {
        if (Code.Operation != UnwindEpilog) {
            break;
        }
        ULONG FromEnd = Code.PrologOffset | (ULONG)Code.Info << 8;
        if (Index == 0) {
            EpilogBytes = Code.PrologOffset;
            FromEnd = Code.Info & 1 ? EpilogBytes : 0;
        }
        const ULONG ToEnd = Unwinding->Function.EndAddress - Unwinding->PcRva;
        if (FromEnd != 0 && ToEnd <= FromEnd && FromEnd - ToEnd < EpilogBytes) {
            return TRUE;
        }
    }
    return FALSE;
}

typedef enum _KI_EPILOG { EpilogNone, EpilogLeft, EpilogDamaged } KI_EPILOG;

// If the address lies in an epilog: carries out the rest of that.
static KI_EPILOG KiLeaveByEpilog(PKI_UNWINDING Unwinding, const KI_UNWIND_INFO *Info)
{
    const BOOLEAN IsListed = Info->Header.Version == 2 && KiIsInListedEpilog(Unwinding, Info);
    ULONG64 Rva = Unwinding->PcRva;
    ULONG64 Rsp = Unwinding->Context->Rsp;
    ULONG Pops[KI_REGISTER_COUNT];
    ULONG PopCount = 0;
    KI_INSTRUCTION Code;
    if (!KiReadInstruction(Unwinding, Rva, &Code)) {
        return EpilogNone;
    }
    Rva += KiDecodeStackCut(Unwinding, Info, Code.Bytes, &Rsp);
    for (;;) {
        ULONG Register;
        if (!KiReadInstruction(Unwinding, Rva, &Code)) {
            return EpilogNone;
        }
        const ULONG Length = KiDecodePop(Code.Bytes, &Register);
        if (Length == 0) {
            break;
        }
        if (PopCount == KI_REGISTER_COUNT) {
            return EpilogNone;
        }
        Pops[PopCount++] = Register;
        Rva += Length;
    }
    if (!IsListed && !KiEndsFunction(Unwinding, Info, Code.Bytes, Rva)) {
        return EpilogNone;
    }
    Unwinding->Context->Rsp = Rsp;
    for (ULONG Index = 0; Index < PopCount; Index += 1) {
        if (!KiPop(Unwinding, Pops[Index])) {
            return EpilogDamaged;
        }
    }
    return KiReturn(Unwinding->Context) ? EpilogLeft : EpilogDamaged;
}

// -------------------------------------------------------------------------------------------------
// Frames.

static BOOLEAN KiReadHandler(const KI_UNWINDING *Unwinding, const KI_UNWIND_INFO *Info,
                             PKI_FRAME_HANDLER Handler)
{
    const LDR_IMAGE *Image = Unwinding->Image;
    ULONG HandlerRva;
    if (!KiReadImage(Image, Info->TailRva, &HandlerRva, sizeof(HandlerRva)) ||
        HandlerRva >= Image->ByteCount) {
        return FALSE;
    }
    Handler->Routine = (PEXCEPTION_ROUTINE)(Image->Base + HandlerRva);
    Handler->Data = (PVOID)(Image->Base + Info->TailRva + sizeof(HandlerRva));
    return TRUE;
}

static BOOLEAN KiUnwindFunction(PKI_UNWINDING Unwinding, ULONG HandlerType,
                                PKI_FRAME_HANDLER Handler, PULONG64 EstablisherFrame)
{
    KI_UNWIND_INFO Info;
    if (!KiReadUnwindInfo(Unwinding->Image, Unwinding->Function.UnwindData, &Info)) {
        return FALSE;
    }
    const ULONG PrologOffset = Unwinding->PcRva - Unwinding->Function.BeginAddress;
    const BOOLEAN InBody = PrologOffset >= Info.Header.PrologByteCount ||
                           (Info.Header.Flags & UNW_FLAG_CHAININFO) != 0;
    *EstablisherFrame = KiFindFrameBase(Unwinding, &Info, PrologOffset);
    if (InBody) {
        const KI_EPILOG Epilog = KiLeaveByEpilog(Unwinding, &Info);
        if (Epilog != EpilogNone) {
            return Epilog == EpilogLeft;
        }
    }
    if (!KiUndoChain(Unwinding, &Info, PrologOffset)) {
        return FALSE;
    }
    if (InBody && (Info.Header.Flags & HandlerType) != 0 &&
        !KiReadHandler(Unwinding, &Info, Handler)) {
        return FALSE;
    }
    return Unwinding->MachineFrame || KiReturn(Unwinding->Context);
}

BOOLEAN KiUnwindImageFrame(const LDR_IMAGE *Image, ULONG64 ControlPc, const RUNTIME_FUNCTION *Entry,
                           ULONG HandlerType, PCONTEXT Context, PKI_FRAME_HANDLER Handler,
                           PULONG64 EstablisherFrame, PKNONVOLATILE_CONTEXT_POINTERS Pointers)
{
    *Handler = (KI_FRAME_HANDLER){NULL, NULL};
    *EstablisherFrame = Context->Rsp;
    if (Entry == NULL) {
        return KiReturn(Context);
    }
    KI_UNWINDING Unwinding = {
        .Image = Image,
        .PcRva = (ULONG)(ControlPc - Image->Base),
        .Function = *Entry,
        .Context = Context,
        .Registers = KiRegistersOf(Context),
        .Pointers = Pointers,
    };
    return KiResolveIndirect(Image, &Unwinding.Function) &&
           KiUnwindFunction(&Unwinding, HandlerType & (UNW_FLAG_EHANDLER | UNW_FLAG_UHANDLER),
                            Handler, EstablisherFrame);
}
