// The memory operand of the instruction that faulted.
//
// A page fault tells its address; a general protection fault does not. For the dump, and for the
// choice between "non-canonical address" and any other protection violation, the operand is worked
// out from the instruction's bytes and the registers. Understood: everything with a ModRM byte in
// the one-byte and 0F maps, moves to and from an absolute address, string instructions, and near
// returns, pushes, pops, calls through the stack. Anything else is simply "not known".
//
//   [prefixes] [REX] opcode [ModRM [SIB] [displacement 1/4]] [immediate]

#include "arch/x64/x64.h"

#include "kernel/inc/ke.h"
#include "mm/miarch.h"

#define MAXIMUM_INSTRUCTION_BYTES 15

#define REX_B 1
#define REX_X 2
#define OPCODE_ESCAPE 0x0F

typedef struct _KI_INSTRUCTION {
    UCHAR Bytes[MAXIMUM_INSTRUCTION_BYTES + 1];
    ULONG ByteCount; // readable ones
    ULONG Next;      // index of the next byte to decode
    UCHAR Rex;
    BOOLEAN TwoByte; // opcode from the 0F map
    UCHAR Opcode;
    BOOLEAN HasSegmentBase; // fs: or gs:, whose bases are not added here
} KI_INSTRUCTION, *PKI_INSTRUCTION;

// Registers by their number in an instruction.
static const USHORT KiRegisterOffset[16] = {
    FIELD_OFFSET(KTRAP_FRAME, Rax), FIELD_OFFSET(KTRAP_FRAME, Rcx), FIELD_OFFSET(KTRAP_FRAME, Rdx),
    FIELD_OFFSET(KTRAP_FRAME, Rbx), FIELD_OFFSET(KTRAP_FRAME, Rsp), FIELD_OFFSET(KTRAP_FRAME, Rbp),
    FIELD_OFFSET(KTRAP_FRAME, Rsi), FIELD_OFFSET(KTRAP_FRAME, Rdi), FIELD_OFFSET(KTRAP_FRAME, R8),
    FIELD_OFFSET(KTRAP_FRAME, R9),  FIELD_OFFSET(KTRAP_FRAME, R10), FIELD_OFFSET(KTRAP_FRAME, R11),
    FIELD_OFFSET(KTRAP_FRAME, R12), FIELD_OFFSET(KTRAP_FRAME, R13), FIELD_OFFSET(KTRAP_FRAME, R14),
    FIELD_OFFSET(KTRAP_FRAME, R15),
};

static ULONG64 KiReadRegister(const KTRAP_FRAME *Frame, ULONG Number)
{
    return *(const ULONG64 *)((const UCHAR *)Frame + KiRegisterOffset[Number]);
}

static VOID KiReadInstruction(ULONG64 Rip, PKI_INSTRUCTION Instruction)
{
    *Instruction = (KI_INSTRUCTION){0};
    while (Instruction->ByteCount < sizeof(Instruction->Bytes)) {
        ULONG64 Word;
        if (KeProbeRead((const VOID *)(Rip + Instruction->ByteCount), &Word).Faulted) {
            return;
        }
        __builtin_memcpy(Instruction->Bytes + Instruction->ByteCount, &Word, sizeof(Word));
        Instruction->ByteCount += sizeof(Word);
    }
}

// Bytes beyond the readable ones are 0, which decodes to something harmless.
static UCHAR KiNextByte(PKI_INSTRUCTION Instruction)
{
    return Instruction->Next < sizeof(Instruction->Bytes) ? Instruction->Bytes[Instruction->Next++]
                                                          : 0;
}

static BOOLEAN KiIsPrefix(UCHAR Byte)
{
    static const UCHAR Prefixes[] = {0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65,
                                     0x66, 0x67, 0xF0, 0xF2, 0xF3};
    for (ULONG Index = 0; Index < sizeof(Prefixes); Index += 1) {
        if (Prefixes[Index] == Byte) {
            return TRUE;
        }
    }
    return FALSE;
}

static VOID KiDecodeOpcode(PKI_INSTRUCTION Instruction)
{
    UCHAR Byte = KiNextByte(Instruction);
    while (KiIsPrefix(Byte)) {
        Instruction->HasSegmentBase |= Byte == 0x64 || Byte == 0x65;
        Byte = KiNextByte(Instruction);
    }
    if ((Byte & 0xF0) == 0x40) {
        Instruction->Rex = Byte;
        Byte = KiNextByte(Instruction);
    }
    if (Byte == OPCODE_ESCAPE) {
        Instruction->TwoByte = TRUE;
        Byte = KiNextByte(Instruction);
    }
    Instruction->Opcode = Byte;
}

// A set of opcodes: a row covers First .. Last where (opcode & Mask) == Match.
typedef struct _KI_OPCODE_ROW {
    BOOLEAN TwoByte;
    UCHAR First;
    UCHAR Last;
    UCHAR Mask;
    UCHAR Match;
} KI_OPCODE_ROW;

static const KI_OPCODE_ROW KiModRmOpcodes[] = {
    {FALSE, 0x00, 0x3F, 0x04, 0x00}, // arithmetic, register and memory forms
    {FALSE, 0x62, 0x63, 0x00, 0x00}, {FALSE, 0x69, 0x69, 0x00, 0x00},
    {FALSE, 0x6B, 0x6B, 0x00, 0x00}, {FALSE, 0x80, 0x8F, 0x00, 0x00},
    {FALSE, 0xC0, 0xC1, 0x00, 0x00}, {FALSE, 0xC6, 0xC7, 0x00, 0x00},
    {FALSE, 0xD0, 0xD3, 0x00, 0x00}, {FALSE, 0xD8, 0xDF, 0x00, 0x00},
    {FALSE, 0xF6, 0xF7, 0x00, 0x00}, {FALSE, 0xFE, 0xFF, 0x00, 0x00},
    {TRUE, 0x00, 0x03, 0x00, 0x00},  {TRUE, 0x0D, 0x0D, 0x00, 0x00},
    {TRUE, 0x10, 0x1F, 0x00, 0x00},  {TRUE, 0x28, 0x2F, 0x00, 0x00},
    {TRUE, 0x40, 0x76, 0x00, 0x00},  {TRUE, 0x78, 0x7F, 0x00, 0x00},
    {TRUE, 0x90, 0x9F, 0x00, 0x00},  {TRUE, 0xA3, 0xA5, 0x00, 0x00},
    {TRUE, 0xAB, 0xC7, 0x00, 0x00},  {TRUE, 0xD0, 0xFF, 0x00, 0x00},
};

static const KI_OPCODE_ROW KiWriteOpcodes[] = {
    {FALSE, 0x00, 0x37, 0x06, 0x00}, // arithmetic with the result in memory; 0x38 compares
    {FALSE, 0x86, 0x89, 0x00, 0x00}, {FALSE, 0x8F, 0x8F, 0x00, 0x00},
    {FALSE, 0xA4, 0xA5, 0x00, 0x00}, {FALSE, 0xAA, 0xAB, 0x00, 0x00},
    {FALSE, 0xC0, 0xC1, 0x00, 0x00}, {FALSE, 0xC6, 0xC7, 0x00, 0x00},
    {FALSE, 0xD0, 0xD3, 0x00, 0x00}, {TRUE, 0x11, 0x11, 0x00, 0x00},
    {TRUE, 0x13, 0x13, 0x00, 0x00},  {TRUE, 0x17, 0x17, 0x00, 0x00},
    {TRUE, 0x29, 0x29, 0x00, 0x00},  {TRUE, 0x2B, 0x2B, 0x00, 0x00},
    {TRUE, 0x7E, 0x7F, 0x00, 0x00},  {TRUE, 0x90, 0x9F, 0x00, 0x00},
    {TRUE, 0xAB, 0xAB, 0x00, 0x00},  {TRUE, 0xB0, 0xB1, 0x00, 0x00},
    {TRUE, 0xC0, 0xC1, 0x00, 0x00},  {TRUE, 0xC3, 0xC3, 0x00, 0x00},
};

#define ROW_COUNT(Table) (sizeof(Table) / sizeof((Table)[0]))

static BOOLEAN KiIsOpcodeIn(const KI_INSTRUCTION *Instruction, const KI_OPCODE_ROW *Rows,
                            SIZE_T RowCount)
{
    const UCHAR Opcode = Instruction->Opcode;
    for (SIZE_T Index = 0; Index < RowCount; Index += 1) {
        const KI_OPCODE_ROW *Row = &Rows[Index];
        if (Row->TwoByte == Instruction->TwoByte && Opcode >= Row->First && Opcode <= Row->Last &&
            (Opcode & Row->Mask) == Row->Match) {
            return TRUE;
        }
    }
    return FALSE;
}

// In these the middle field of ModRM chooses the operation, and only some operations write.
static KI_FAULT_ACCESS KiAccessOfGroup(const KI_INSTRUCTION *Instruction, UCHAR Operation)
{
    switch (Instruction->Opcode) {
    case 0x80:
    case 0x81:
    case 0x83:
        return Operation == 7 ? KiFaultRead : KiFaultWrite; // 7: compare
    case 0xF6:
    case 0xF7:
        return Operation == 2 || Operation == 3 ? KiFaultWrite : KiFaultRead; // not, negate
    case 0xFE:
    case 0xFF:
        return Operation <= 1 ? KiFaultWrite : KiFaultRead; // increment, decrement
    default:
        return KiFaultRead;
    }
}

static KI_FAULT_ACCESS KiAccessOfOpcode(const KI_INSTRUCTION *Instruction, UCHAR Operation)
{
    if (KiIsOpcodeIn(Instruction, KiWriteOpcodes, ROW_COUNT(KiWriteOpcodes))) {
        return KiFaultWrite;
    }
    return Instruction->TwoByte ? KiFaultRead : KiAccessOfGroup(Instruction, Operation);
}

static LONG64 KiNextDisplacement(PKI_INSTRUCTION Instruction, ULONG ByteCount)
{
    ULONG Value = 0;
    for (ULONG Index = 0; Index < ByteCount; Index += 1) {
        Value |= (ULONG)KiNextByte(Instruction) << (8 * Index);
    }
    return ByteCount == 1 ? (signed char)Value : (LONG)Value;
}

// Base and scaled index of a SIB byte. Base 5 without a displacement of its own means "none, but 32
// bits follow".
static ULONG64 KiSumOfSib(const KTRAP_FRAME *Frame, PKI_INSTRUCTION Instruction, UCHAR Mode)
{
    const UCHAR Sib = KiNextByte(Instruction);
    const ULONG Index = (Sib >> 3 & 7) | (Instruction->Rex & REX_X ? 8 : 0);
    const ULONG Base = (Sib & 7) | (Instruction->Rex & REX_B ? 8 : 0);
    ULONG64 Sum = Index == 4 ? 0 : KiReadRegister(Frame, Index) << (Sib >> 6);
    if (Mode == 0 && (Base & 7) == 5) {
        return Sum + (ULONG64)KiNextDisplacement(Instruction, 4);
    }
    return Sum + KiReadRegister(Frame, Base);
}

// The address in ModRM. FALSE: the operand is a register, or relative to an instruction pointer
// that is canonical.
static BOOLEAN KiDecodeModRm(const KTRAP_FRAME *Frame, PKI_INSTRUCTION Instruction,
                             PKI_OPERAND Operand)
{
    const UCHAR ModRm = KiNextByte(Instruction);
    const UCHAR Mode = ModRm >> 6;
    const UCHAR Base = ModRm & 7;
    const UCHAR Operation = ModRm >> 3 & 7;
    Operand->Access = KiAccessOfOpcode(Instruction, Operation);
    const ULONG BaseNumber = Base | (Instruction->Rex & REX_B ? 8 : 0);
    if (Mode == 3) {
        // A call or jump through a register: it is the target that may be wrong.
        const BOOLEAN Branches = !Instruction->TwoByte && Instruction->Opcode == 0xFF &&
                                 Operation >= 2 && Operation <= 5;
        *Operand = (KI_OPERAND){KiReadRegister(Frame, BaseNumber), KiFaultExecute};
        return Branches;
    }
    if (Mode == 0 && Base == 5) {
        return FALSE;
    }
    Operand->Va =
        Base == 4 ? KiSumOfSib(Frame, Instruction, Mode) : KiReadRegister(Frame, BaseNumber);
    if (Mode != 0) {
        Operand->Va += (ULONG64)KiNextDisplacement(Instruction, Mode == 1 ? 1 : 4);
    }
    return TRUE;
}

typedef struct _KI_IMPLICIT_ROW {
    UCHAR First;
    UCHAR Last;
    USHORT RegisterOffset;
    KI_FAULT_ACCESS Access;
} KI_IMPLICIT_ROW;

// One-byte instructions that address memory through a fixed register.
static const KI_IMPLICIT_ROW KiImplicitOperands[] = {
    {0x50, 0x57, FIELD_OFFSET(KTRAP_FRAME, Rsp), KiFaultWrite}, // push
    {0x58, 0x5F, FIELD_OFFSET(KTRAP_FRAME, Rsp), KiFaultRead},  // pop
    {0xAA, 0xAB, FIELD_OFFSET(KTRAP_FRAME, Rdi), KiFaultWrite}, // store string
    {0xAC, 0xAD, FIELD_OFFSET(KTRAP_FRAME, Rsi), KiFaultRead},  // load string
    {0xAE, 0xAF, FIELD_OFFSET(KTRAP_FRAME, Rdi), KiFaultRead},  // scan string
    {0xC9, 0xC9, FIELD_OFFSET(KTRAP_FRAME, Rbp), KiFaultRead},  // leave
    {0xE8, 0xE8, FIELD_OFFSET(KTRAP_FRAME, Rsp), KiFaultWrite}, // call
};

// A copy has two operands; the one that is not canonical is the culprit.
static VOID KiDecodeStringCopy(const KTRAP_FRAME *Frame, PKI_OPERAND Operand)
{
    *Operand = MiArchIsCanonical(Frame->Rdi) ? (KI_OPERAND){Frame->Rsi, KiFaultRead}
                                             : (KI_OPERAND){Frame->Rdi, KiFaultWrite};
}

// A return goes to the address on the stack, or cannot read it.
static VOID KiDecodeReturn(const KTRAP_FRAME *Frame, PKI_OPERAND Operand)
{
    ULONG64 Target;
    const BOOLEAN Unreadable = KeProbeRead((const VOID *)Frame->Rsp, &Target).Faulted;
    *Operand =
        Unreadable ? (KI_OPERAND){Frame->Rsp, KiFaultRead} : (KI_OPERAND){Target, KiFaultExecute};
}

// [x64] Moves between rAX and a 64-bit address in the instruction itself: 0xA0-0xA1 read, 0xA2-0xA3
// write.
static BOOLEAN KiDecodeAbsolute(PKI_INSTRUCTION Instruction, PKI_OPERAND Operand)
{
    if (Instruction->TwoByte || Instruction->Opcode < 0xA0 || Instruction->Opcode > 0xA3) {
        return FALSE;
    }
    const ULONG64 Low = (ULONG)KiNextDisplacement(Instruction, sizeof(ULONG));
    const ULONG64 High = (ULONG)KiNextDisplacement(Instruction, sizeof(ULONG));
    *Operand =
        (KI_OPERAND){High << 32 | Low, Instruction->Opcode >= 0xA2 ? KiFaultWrite : KiFaultRead};
    return TRUE;
}

static BOOLEAN KiDecodeImplicit(const KTRAP_FRAME *Frame, const KI_INSTRUCTION *Instruction,
                                PKI_OPERAND Operand)
{
    if (Instruction->TwoByte) {
        return FALSE;
    }
    if (Instruction->Opcode == 0xA4 || Instruction->Opcode == 0xA5) {
        KiDecodeStringCopy(Frame, Operand);
        return TRUE;
    }
    if (Instruction->Opcode == 0xC2 || Instruction->Opcode == 0xC3) {
        KiDecodeReturn(Frame, Operand);
        return TRUE;
    }
    for (ULONG Index = 0; Index < ROW_COUNT(KiImplicitOperands); Index += 1) {
        const KI_IMPLICIT_ROW *Row = &KiImplicitOperands[Index];
        if (Instruction->Opcode >= Row->First && Instruction->Opcode <= Row->Last) {
            *Operand = (KI_OPERAND){*(const ULONG64 *)((const UCHAR *)Frame + Row->RegisterOffset),
                                    Row->Access};
            return TRUE;
        }
    }
    return FALSE;
}

BOOLEAN KiDecodeMemoryOperand(const KTRAP_FRAME *Frame, PKI_OPERAND Operand)
{
    KI_INSTRUCTION Instruction;
    KiReadInstruction(Frame->Rip, &Instruction);
    KiDecodeOpcode(&Instruction);
    if (Instruction.HasSegmentBase) {
        return FALSE;
    }
    if (KiIsOpcodeIn(&Instruction, KiModRmOpcodes, ROW_COUNT(KiModRmOpcodes))) {
        return KiDecodeModRm(Frame, &Instruction, Operand);
    }
    return KiDecodeAbsolute(&Instruction, Operand) ||
           KiDecodeImplicit(Frame, &Instruction, Operand);
}
