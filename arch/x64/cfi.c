// Frames of the kernel, left by the tables that its compiler writes (DWARF call frame information).
//
//   .eh_frame_hdr   (first address of a function, its record), ascending: found by bisection
//   .eh_frame       records: what is common to many functions (CIE), and one for each function (FDE)
//
// A record is a small program that builds a row of a table: by which rule the CFA (what RSP was before
// the call pushed the return address) and each register of the caller can be had at a given address.
// The program is run up to the address, then the rules are applied. The format is that of the System
// V ABI's x86-64 supplement and of the DWARF standard; of the encodings of pointers only those are
// known that gcc emits for a static kernel.
//
// Invariants:
//   C1  Nothing here reads outside the two sections, but for the stack, and that by KiUnwindRead.
//   C2  What the reader does not know ends the walk, and never yields a wrong frame.
// Lock: none. Any IRQL.
#include "arch/x64/unwind.h"

#include "kernel/inc/ke.h"

// The encodings of pointers, in the low half what is stored, in the high half what it is relative to.
#define POINTER_UDATA4 0x03
#define POINTER_SDATA4 0x0B
#define POINTER_RELATIVE_TO_ITSELF 0x10
#define POINTER_RELATIVE_TO_HEADER 0x30

#define HEADER_VERSION 1
#define CIE_VERSION 1

// Columns: the general registers by DWARF's numbers, then the return address.
#define COLUMN_RSP 7
#define COLUMN_RIP 16
#define COLUMN_COUNT 17

static const UCHAR KiRegisterOfColumn[COLUMN_RIP] = {
    0, 2, 1,  3,  6,  7,  5,  4, // rax, rdx, rcx, rbx, rsi, rdi, rbp, rsp
    8, 9, 10, 11, 12, 13, 14, 15,
};

typedef enum _KI_RULE_KIND {
    RuleSame, // also of registers that nobody speaks of
    RuleUndefined,
    RuleAtOffset,     // in memory, at CFA + Offset
    RuleIsOffset,     // is CFA + Offset
    RuleRegister,     // in another register
    RuleAtExpression, // in memory, where the expression says
    RuleIsExpression,
} KI_RULE_KIND;

typedef struct _KI_RULE {
    KI_RULE_KIND Kind;
    LONG64 Offset; // or a column
    const UCHAR *Expression;
    SIZE_T ExpressionByteCount;
} KI_RULE;

typedef struct _KI_ROW {
    KI_RULE Cfa; // RuleIsOffset: Column + Offset; or RuleIsExpression
    ULONG CfaColumn;
    KI_RULE Registers[COLUMN_COUNT];
} KI_ROW, *PKI_ROW;

// A part of a section that is being read. A read beyond the end yields zero and sets Bad.
typedef struct _KI_READER {
    const UCHAR *At;
    const UCHAR *End;
    BOOLEAN Bad;
} KI_READER, *PKI_READER;

typedef struct _KI_CIE {
    ULONG64 CodeFactor;
    LONG64 DataFactor;
    UCHAR PointerEncoding;
    BOOLEAN IsInterrupted; // 'S': the frame of an interrupt or a trap
    BOOLEAN HasAugmentation;
    KI_READER Program;
} KI_CIE;

typedef struct _KI_FDE {
    KI_CIE Cie;
    ULONG64 Begin;
    ULONG64 ByteCount;
    KI_READER Program;
} KI_FDE;

#define SAVED_ROWS 2

typedef struct _KI_PROGRAM {
    const KI_CIE *Cie;
    ULONG64 Location;
    ULONG64 Target; // the row for this address is wanted
    KI_ROW Row;
    const KI_ROW *InitialRow; // as the CIE left it
    KI_ROW Saved[SAVED_ROWS];
    ULONG SavedCount;
} KI_PROGRAM, *PKI_PROGRAM;

// -------------------------------------------------------------------------------------------------
// Reading.

static const UCHAR *KiTake(PKI_READER Reader, SIZE_T ByteCount)
{
    if (Reader->Bad || (SIZE_T)(Reader->End - Reader->At) < ByteCount) {
        Reader->Bad = TRUE;
        return NULL;
    }
    const UCHAR *Bytes = Reader->At;
    Reader->At += ByteCount;
    return Bytes;
}

static ULONG64 KiTakeUnsigned(PKI_READER Reader, ULONG ByteCount)
{
    ULONG64 Value = 0;
    const UCHAR *Bytes = KiTake(Reader, ByteCount);
    if (Bytes != NULL) {
        RtlCopyMemory(&Value, Bytes, ByteCount);
    }
    return Value;
}

static UCHAR KiTakeByte(PKI_READER Reader)
{
    return (UCHAR)KiTakeUnsigned(Reader, 1);
}

// Seven bits a byte, the lowest ones first.
static ULONG64 KiTakeUleb(PKI_READER Reader)
{
    ULONG64 Value = 0;
    for (ULONG Shift = 0; Shift < 64; Shift += 7) {
        const UCHAR Byte = KiTakeByte(Reader);
        Value |= (ULONG64)(Byte & 0x7F) << Shift;
        if (!(Byte & 0x80)) {
            return Value;
        }
    }
    Reader->Bad = TRUE;
    return 0;
}

static LONG64 KiTakeSleb(PKI_READER Reader)
{
    ULONG64 Value = 0;
    for (ULONG Shift = 0; Shift < 64; Shift += 7) {
        const UCHAR Byte = KiTakeByte(Reader);
        Value |= (ULONG64)(Byte & 0x7F) << Shift;
        if (!(Byte & 0x80)) {
            const BOOLEAN IsNegative = (Byte & 0x40) != 0 && Shift + 7 < 64;
            return (LONG64)(IsNegative ? Value | ~0ull << (Shift + 7) : Value);
        }
    }
    Reader->Bad = TRUE;
    return 0;
}

// A part with its length before it.
static KI_READER KiTakeBlock(PKI_READER Reader, ULONG64 ByteCount)
{
    const UCHAR *Bytes = KiTake(Reader, ByteCount);
    return (KI_READER){Bytes, Bytes != NULL ? Bytes + ByteCount : NULL, Bytes == NULL};
}

// A record of .eh_frame: its bytes behind the length.
static KI_READER KiOpenRecord(const KI_CFI_TABLES *Tables, const UCHAR *At)
{
    KI_READER Reader = {At, Tables->FramesEnd, At < Tables->Frames || At >= Tables->FramesEnd};
    const ULONG64 ByteCount = KiTakeUnsigned(&Reader, sizeof(ULONG));
    if (ByteCount == 0 || ByteCount == MAXULONG) { // the terminator; the 64-bit format
        Reader.Bad = TRUE;
    }
    return KiTakeBlock(&Reader, ByteCount);
}

static BOOLEAN KiReadAugmentation(PKI_READER Reader, const UCHAR *Letters, KI_CIE *Cie)
{
    if (*Letters == 0) {
        return !Reader->Bad;
    }
    if (*Letters != 'z') {
        return FALSE;
    }
    Cie->HasAugmentation = TRUE;
    KI_READER Data = KiTakeBlock(Reader, KiTakeUleb(Reader));
    for (Letters += 1; *Letters != 0; Letters += 1) {
        if (*Letters == 'R') {
            Cie->PointerEncoding = KiTakeByte(&Data);
        } else if (*Letters == 'S') {
            Cie->IsInterrupted = TRUE;
        } else {
            return FALSE;
        }
    }
    return !Data.Bad && !Reader->Bad;
}

static BOOLEAN KiReadCie(const KI_CFI_TABLES *Tables, const UCHAR *At, KI_CIE *Cie)
{
    KI_READER Reader = KiOpenRecord(Tables, At);
    *Cie = (KI_CIE){0};
    if (KiTakeUnsigned(&Reader, sizeof(ULONG)) != 0 || KiTakeByte(&Reader) != CIE_VERSION) {
        return FALSE;
    }
    const UCHAR *Letters = Reader.At;
    while (KiTakeByte(&Reader) != 0) {
    }
    Cie->CodeFactor = KiTakeUleb(&Reader);
    Cie->DataFactor = KiTakeSleb(&Reader);
    const ULONG64 ReturnColumn = KiTakeUleb(&Reader);
    if (Reader.Bad || ReturnColumn != COLUMN_RIP || !KiReadAugmentation(&Reader, Letters, Cie)) {
        return FALSE;
    }
    Cie->Program = Reader;
    return Cie->PointerEncoding == (POINTER_RELATIVE_TO_ITSELF | POINTER_SDATA4);
}

static BOOLEAN KiReadFde(const KI_CFI_TABLES *Tables, const UCHAR *At, KI_FDE *Fde)
{
    KI_READER Reader = KiOpenRecord(Tables, At);
    const UCHAR *CieField = Reader.At;
    const ULONG64 CieDistance = KiTakeUnsigned(&Reader, sizeof(ULONG));
    if (Reader.Bad || CieDistance == 0 || CieDistance > (ULONG64)(CieField - Tables->Frames) ||
        !KiReadCie(Tables, CieField - CieDistance, &Fde->Cie)) {
        return FALSE;
    }
    const ULONG64 Field = (ULONG64)(ULONG_PTR)Reader.At;
    Fde->Begin = Field + (ULONG64)(LONG64)(LONG)KiTakeUnsigned(&Reader, sizeof(ULONG));
    Fde->ByteCount = KiTakeUnsigned(&Reader, sizeof(ULONG));
    if (Fde->Cie.HasAugmentation) {
        (VOID) KiTakeBlock(&Reader, KiTakeUleb(&Reader));
    }
    Fde->Program = Reader;
    return !Reader.Bad;
}

// -------------------------------------------------------------------------------------------------
// The sorted table.

typedef struct _KI_HEADER {
    UCHAR Version;
    UCHAR FramesEncoding;
    UCHAR CountEncoding;
    UCHAR TableEncoding;
    LONG FramesDistance;
    ULONG Count;
} KI_HEADER;

typedef struct _KI_HEADER_ROW {
    LONG Function; // both relative to the header
    LONG Record;
} KI_HEADER_ROW;

C_ASSERT(sizeof(KI_HEADER) == 12);

// The record of the last function that begins at or before the address.
static const UCHAR *KiFindRecord(const KI_CFI_TABLES *Tables, ULONG64 Address)
{
    const KI_HEADER *Header = (const KI_HEADER *)(const VOID *)Tables->Header;
    const KI_HEADER_ROW *Rows = (const KI_HEADER_ROW *)(const VOID *)(Header + 1);
    const SIZE_T ByteCount = (SIZE_T)(Tables->HeaderEnd - Tables->Header);
    if (ByteCount < sizeof(*Header) || Header->Version != HEADER_VERSION ||
        Header->FramesEncoding != (POINTER_RELATIVE_TO_ITSELF | POINTER_SDATA4) ||
        Header->CountEncoding != POINTER_UDATA4 ||
        Header->TableEncoding != (POINTER_RELATIVE_TO_HEADER | POINTER_SDATA4) ||
        (ByteCount - sizeof(*Header)) / sizeof(*Rows) < Header->Count) {
        return NULL;
    }
    const ULONG64 Base = (ULONG64)(ULONG_PTR)Header;
    ULONG Low = 0;
    ULONG High = Header->Count;
    while (Low < High) {
        const ULONG Middle = Low + (High - Low) / 2;
        if (Base + (ULONG64)(LONG64)Rows[Middle].Function <= Address) {
            Low = Middle + 1;
        } else {
            High = Middle;
        }
    }
    return Low == 0 ? NULL : Tables->Header + Rows[Low - 1].Record;
}

// -------------------------------------------------------------------------------------------------
// Programs.

// Instructions with an operand in their low six bits...
#define CFA_ADVANCE 0x40
#define CFA_OFFSET 0x80
#define CFA_RESTORE 0xC0
#define CFA_OPERAND 0x3F

// ... and those without.
typedef enum _KI_CFA_INSTRUCTION {
    CfaNop = 0x00,
    CfaAdvance1 = 0x02,
    CfaAdvance2 = 0x03,
    CfaAdvance4 = 0x04,
    CfaOffsetExtended = 0x05,
    CfaRestoreExtended = 0x06,
    CfaUndefined = 0x07,
    CfaSameValue = 0x08,
    CfaRegister = 0x09,
    CfaRememberState = 0x0A,
    CfaRestoreState = 0x0B,
    CfaDefine = 0x0C,
    CfaDefineRegister = 0x0D,
    CfaDefineOffset = 0x0E,
    CfaDefineExpression = 0x0F,
    CfaExpression = 0x10,
    CfaOffsetSigned = 0x11,
    CfaDefineSigned = 0x12,
    CfaDefineOffsetSigned = 0x13,
    CfaValueOffset = 0x14,
    CfaValueOffsetSigned = 0x15,
    CfaValueExpression = 0x16,
    CfaArgumentsSize = 0x2E,
} KI_CFA_INSTRUCTION;

// Rules of other registers (xmm, which the kernel does not touch) are read over.
static VOID KiSetRule(PKI_PROGRAM Program, ULONG64 Column, KI_RULE Rule)
{
    if (Column < COLUMN_COUNT) {
        Program->Row.Registers[Column] = Rule;
    }
}

static VOID KiSetOffsetRule(PKI_PROGRAM Program, ULONG64 Column, KI_RULE_KIND Kind, LONG64 Words)
{
    KiSetRule(Program, Column, (KI_RULE){.Kind = Kind, .Offset = Words * Program->Cie->DataFactor});
}

static VOID KiRestoreRule(PKI_PROGRAM Program, ULONG64 Column)
{
    if (Column < COLUMN_COUNT && Program->InitialRow != NULL) {
        Program->Row.Registers[Column] = Program->InitialRow->Registers[Column];
    }
}

static KI_RULE KiTakeExpression(PKI_READER Reader, KI_RULE_KIND Kind)
{
    const KI_READER Block = KiTakeBlock(Reader, KiTakeUleb(Reader));
    return (KI_RULE){.Kind = Kind,
                     .Expression = Block.At,
                     .ExpressionByteCount = Block.Bad ? 0 : (SIZE_T)(Block.End - Block.At)};
}

static VOID KiDefineCfa(PKI_PROGRAM Program, ULONG64 Column, LONG64 Offset)
{
    Program->Row.CfaColumn = Column < COLUMN_RIP ? (ULONG)Column : COLUMN_COUNT;
    Program->Row.Cfa = (KI_RULE){.Kind = RuleIsOffset, .Offset = Offset};
}

static BOOLEAN KiRememberRow(PKI_PROGRAM Program)
{
    if (Program->SavedCount == SAVED_ROWS) {
        return FALSE;
    }
    Program->Saved[Program->SavedCount++] = Program->Row;
    return TRUE;
}

static BOOLEAN KiRestoreRow(PKI_PROGRAM Program)
{
    if (Program->SavedCount == 0) {
        return FALSE;
    }
    Program->Row = Program->Saved[--Program->SavedCount];
    return TRUE;
}

static VOID KiAdvance(PKI_PROGRAM Program, ULONG64 Delta)
{
    Program->Location += Delta * Program->Cie->CodeFactor;
}

static BOOLEAN KiRunPlainInstruction(PKI_PROGRAM Program, PKI_READER Reader,
                                     KI_CFA_INSTRUCTION Instruction)
{
    const LONG64 DataFactor = Program->Cie->DataFactor;
    ULONG64 Column;
    switch (Instruction) {
    case CfaNop:
        return TRUE;
    case CfaAdvance1:
        KiAdvance(Program, KiTakeUnsigned(Reader, 1));
        return TRUE;
    case CfaAdvance2:
        KiAdvance(Program, KiTakeUnsigned(Reader, 2));
        return TRUE;
    case CfaAdvance4:
        KiAdvance(Program, KiTakeUnsigned(Reader, 4));
        return TRUE;
    case CfaOffsetExtended:
        Column = KiTakeUleb(Reader);
        KiSetOffsetRule(Program, Column, RuleAtOffset, (LONG64)KiTakeUleb(Reader));
        return TRUE;
    case CfaOffsetSigned:
        Column = KiTakeUleb(Reader);
        KiSetOffsetRule(Program, Column, RuleAtOffset, KiTakeSleb(Reader));
        return TRUE;
    case CfaValueOffset:
        Column = KiTakeUleb(Reader);
        KiSetOffsetRule(Program, Column, RuleIsOffset, (LONG64)KiTakeUleb(Reader));
        return TRUE;
    case CfaValueOffsetSigned:
        Column = KiTakeUleb(Reader);
        KiSetOffsetRule(Program, Column, RuleIsOffset, KiTakeSleb(Reader));
        return TRUE;
    case CfaRestoreExtended:
        KiRestoreRule(Program, KiTakeUleb(Reader));
        return TRUE;
    case CfaUndefined:
        KiSetRule(Program, KiTakeUleb(Reader), (KI_RULE){.Kind = RuleUndefined});
        return TRUE;
    case CfaSameValue:
        KiSetRule(Program, KiTakeUleb(Reader), (KI_RULE){.Kind = RuleSame});
        return TRUE;
    case CfaRegister:
        Column = KiTakeUleb(Reader);
        KiSetRule(Program, Column,
                  (KI_RULE){.Kind = RuleRegister, .Offset = (LONG64)KiTakeUleb(Reader)});
        return TRUE;
    case CfaRememberState:
        return KiRememberRow(Program);
    case CfaRestoreState:
        return KiRestoreRow(Program);
    case CfaDefine:
        Column = KiTakeUleb(Reader);
        KiDefineCfa(Program, Column, (LONG64)KiTakeUleb(Reader));
        return TRUE;
    case CfaDefineSigned:
        Column = KiTakeUleb(Reader);
        KiDefineCfa(Program, Column, KiTakeSleb(Reader) * DataFactor);
        return TRUE;
    case CfaDefineRegister:
        KiDefineCfa(Program, KiTakeUleb(Reader), Program->Row.Cfa.Offset);
        return TRUE;
    case CfaDefineOffset:
        Program->Row.Cfa.Offset = (LONG64)KiTakeUleb(Reader);
        return TRUE;
    case CfaDefineOffsetSigned:
        Program->Row.Cfa.Offset = KiTakeSleb(Reader) * DataFactor;
        return TRUE;
    case CfaDefineExpression:
        Program->Row.Cfa = KiTakeExpression(Reader, RuleIsExpression);
        return TRUE;
    case CfaExpression:
        Column = KiTakeUleb(Reader);
        KiSetRule(Program, Column, KiTakeExpression(Reader, RuleAtExpression));
        return TRUE;
    case CfaValueExpression:
        Column = KiTakeUleb(Reader);
        KiSetRule(Program, Column, KiTakeExpression(Reader, RuleIsExpression));
        return TRUE;
    case CfaArgumentsSize:
        (VOID) KiTakeUleb(Reader);
        return TRUE;
    }
    return FALSE;
}

static BOOLEAN KiRunInstruction(PKI_PROGRAM Program, PKI_READER Reader)
{
    const UCHAR Byte = KiTakeByte(Reader);
    const UCHAR Operand = Byte & CFA_OPERAND;
    switch (Byte & ~CFA_OPERAND) {
    case CFA_ADVANCE:
        KiAdvance(Program, Operand);
        return TRUE;
    case CFA_OFFSET:
        KiSetOffsetRule(Program, Operand, RuleAtOffset, (LONG64)KiTakeUleb(Reader));
        return TRUE;
    case CFA_RESTORE:
        KiRestoreRule(Program, Operand);
        return TRUE;
    }
    return KiRunPlainInstruction(Program, Reader, (KI_CFA_INSTRUCTION)Byte);
}

// Stops at the first row that is beyond the target: what is in force there has not been built yet.
static BOOLEAN KiRunProgram(PKI_PROGRAM Program, KI_READER Reader)
{
    while (Reader.At < Reader.End) {
        if (!KiRunInstruction(Program, &Reader) || Reader.Bad) {
            return FALSE;
        }
        if (Program->Location > Program->Target) {
            return TRUE;
        }
    }
    return TRUE;
}

// -------------------------------------------------------------------------------------------------
// Rules.

#define EXPRESSION_STACK 8

typedef enum _KI_EXPRESSION_OPERATION {
    ExpressionDereference = 0x06,
    ExpressionConstant1 = 0x08,
    ExpressionConstant1Signed = 0x09,
    ExpressionAnd = 0x1A,
    ExpressionMinus = 0x1C,
    ExpressionPlus = 0x22,
    ExpressionPlusConstant = 0x23,
    ExpressionLiteral = 0x30,  // + 0 .. 31
    ExpressionRegister = 0x70, // + column; a signed offset follows
} KI_EXPRESSION_OPERATION;

#define EXPRESSION_OPERANDS 32

typedef struct _KI_EVALUATION {
    ULONG64 Stack[EXPRESSION_STACK];
    ULONG Depth;
} KI_EVALUATION;

static BOOLEAN KiPush(KI_EVALUATION *Evaluation, ULONG64 Value)
{
    if (Evaluation->Depth == EXPRESSION_STACK) {
        return FALSE;
    }
    Evaluation->Stack[Evaluation->Depth++] = Value;
    return TRUE;
}

static BOOLEAN KiCombine(KI_EVALUATION *Evaluation, UCHAR Operation)
{
    if (Evaluation->Depth < 2) {
        return FALSE;
    }
    const ULONG64 Right = Evaluation->Stack[--Evaluation->Depth];
    PULONG64 Left = &Evaluation->Stack[Evaluation->Depth - 1];
    *Left = Operation == ExpressionAnd     ? *Left & Right
            : Operation == ExpressionMinus ? *Left - Right
                                           : *Left + Right;
    return TRUE;
}

static BOOLEAN KiEvaluateOperation(KI_EVALUATION *Evaluation, PKI_READER Reader,
                                   const ULONG64 *Registers)
{
    const UCHAR Operation = KiTakeByte(Reader);
    if (Operation >= ExpressionRegister && Operation < ExpressionRegister + COLUMN_RIP) {
        const ULONG64 Base = Registers[KiRegisterOfColumn[Operation - ExpressionRegister]];
        return KiPush(Evaluation, Base + (ULONG64)KiTakeSleb(Reader));
    }
    if (Operation >= ExpressionLiteral && Operation < ExpressionLiteral + EXPRESSION_OPERANDS) {
        return KiPush(Evaluation, Operation - (ULONG)ExpressionLiteral);
    }
    switch (Operation) {
    case ExpressionConstant1:
        return KiPush(Evaluation, KiTakeByte(Reader));
    case ExpressionConstant1Signed:
        return KiPush(Evaluation, (ULONG64)(LONG64)(SCHAR)KiTakeByte(Reader));
    case ExpressionAnd:
    case ExpressionMinus:
    case ExpressionPlus:
        return KiCombine(Evaluation, Operation);
    }
    if (Evaluation->Depth == 0) {
        return FALSE;
    }
    PULONG64 Top = &Evaluation->Stack[Evaluation->Depth - 1];
    if (Operation == ExpressionPlusConstant) {
        *Top += KiTakeUleb(Reader);
        return TRUE;
    }
    return Operation == ExpressionDereference && KiUnwindRead(*Top, Top, sizeof(*Top));
}

// First is what lies on the stack at the beginning; NULL: nothing.
static BOOLEAN KiEvaluate(const KI_RULE *Rule, const ULONG64 *Registers, const ULONG64 *First,
                          PULONG64 Value)
{
    KI_EVALUATION Evaluation = {.Depth = 0};
    KI_READER Reader = {Rule->Expression, Rule->Expression + Rule->ExpressionByteCount, FALSE};
    if (First != NULL) {
        (VOID) KiPush(&Evaluation, *First);
    }
    while (Reader.At < Reader.End) {
        if (!KiEvaluateOperation(&Evaluation, &Reader, Registers) || Reader.Bad) {
            return FALSE;
        }
    }
    if (Evaluation.Depth == 0) {
        return FALSE;
    }
    *Value = Evaluation.Stack[Evaluation.Depth - 1];
    return TRUE;
}

static BOOLEAN KiComputeCfa(const KI_ROW *Row, const ULONG64 *Registers, PULONG64 Cfa)
{
    if (Row->Cfa.Kind == RuleIsExpression) {
        return KiEvaluate(&Row->Cfa, Registers, NULL, Cfa);
    }
    if (Row->Cfa.Kind != RuleIsOffset || Row->CfaColumn >= COLUMN_RIP) {
        return FALSE;
    }
    *Cfa = Registers[KiRegisterOfColumn[Row->CfaColumn]] + (ULONG64)Row->Cfa.Offset;
    return TRUE;
}

// Value holds what the register is in the frame, and becomes what it was in the caller.
static BOOLEAN KiApplyRule(const KI_RULE *Rule, const ULONG64 *Registers, ULONG64 Cfa,
                           PULONG64 Value)
{
    switch (Rule->Kind) {
    case RuleSame:
    case RuleUndefined: // of no use to the caller
        return TRUE;
    case RuleAtOffset:
        return KiUnwindRead(Cfa + (ULONG64)Rule->Offset, Value, sizeof(*Value));
    case RuleIsOffset:
        *Value = Cfa + (ULONG64)Rule->Offset;
        return TRUE;
    case RuleRegister:
        if ((ULONG64)Rule->Offset >= COLUMN_RIP) {
            return FALSE;
        }
        *Value = Registers[KiRegisterOfColumn[Rule->Offset]];
        return TRUE;
    case RuleAtExpression:
        return KiEvaluate(Rule, Registers, &Cfa, Value) &&
               KiUnwindRead(*Value, Value, sizeof(*Value));
    case RuleIsExpression:
        return KiEvaluate(Rule, Registers, &Cfa, Value);
    }
    return FALSE;
}

static BOOLEAN KiApplyRow(const KI_ROW *Row, PCONTEXT Context)
{
    ULONG64 Registers[KI_REGISTER_COUNT];
    RtlCopyMemory(Registers, KiRegistersOf(Context), sizeof(Registers));
    ULONG64 Cfa;
    const KI_RULE_KIND ReturnKind = Row->Registers[COLUMN_RIP].Kind;
    if (ReturnKind == RuleUndefined) {
        Context->Rip = 0;
        return FALSE;
    }
    if (ReturnKind == RuleSame || !KiComputeCfa(Row, Registers, &Cfa)) {
        return FALSE;
    }
    PULONG64 Targets = KiRegistersOf(Context);
    Targets[KI_REGISTER_RSP] = Cfa; // unless a rule says otherwise
    for (ULONG Column = 0; Column < COLUMN_COUNT; Column += 1) {
        PULONG64 Value =
            Column == COLUMN_RIP ? &Context->Rip : &Targets[KiRegisterOfColumn[Column]];
        if (!KiApplyRule(&Row->Registers[Column], Registers, Cfa, Value)) {
            return FALSE;
        }
    }
    return TRUE;
}

BOOLEAN KiUnwindByCfi(const KI_CFI_TABLES *Tables, ULONG64 Lookup, PCONTEXT Context,
                      PBOOLEAN IsInterrupted)
{
    KI_FDE Fde;
    const UCHAR *Record = KiFindRecord(Tables, Lookup);
    if (Record == NULL || !KiReadFde(Tables, Record, &Fde) || Lookup - Fde.Begin >= Fde.ByteCount) {
        return FALSE;
    }
    KI_PROGRAM Program = {.Cie = &Fde.Cie, .Location = Fde.Begin, .Target = MAXULONG64};
    if (!KiRunProgram(&Program, Fde.Cie.Program)) {
        return FALSE;
    }
    const KI_ROW Initial = Program.Row;
    Program.InitialRow = &Initial;
    Program.Target = Lookup;
    if (!KiRunProgram(&Program, Fde.Program)) {
        return FALSE;
    }
    *IsInterrupted = Fde.Cie.IsInterrupted;
    return KiApplyRow(&Program.Row, Context);
}
