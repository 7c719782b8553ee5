// Values of a driver's key Parameters, as its module's arguments give them:
//
//   value:NAME=dword:NUMBER      decimal, or hexadecimal behind 0x
//   value:NAME=sz:TEXT           expand:TEXT is REG_EXPAND_SZ
//   value:NAME=multi:TEXT,TEXT   REG_MULTI_SZ
//   value:NAME=binary:0A1BFF     two digits a byte
//
// In names and texts %20 is a blank: two hexadecimal digits behind a percent sign are a character. The
// tools write such words for the AddReg sections of a driver's INF file; who starts the kernel by hand may
// write others. They are in the registry before DriverEntry runs.
#include "kernel/inc/cm.h"
#include "kernel/io/pnp.h"

#define IOP_VALUE_WORD "value:"
#define IOP_VALUE_NAME_LENGTH 64
#define IOP_VALUE_LENGTH 256

// A value on its way: Data are characters, or bytes.
typedef struct _IOP_VALUE {
    WCHAR Name[IOP_VALUE_NAME_LENGTH];
    ULONG Type;
    ULONG ByteCount;
    union {
        WCHAR Text[IOP_VALUE_LENGTH];
        UCHAR Bytes[IOP_VALUE_LENGTH * sizeof(WCHAR)];
        ULONG Number;
    };
} IOP_VALUE, *PIOP_VALUE;

// What is left of a word.
typedef struct _IOP_WORD {
    PCSTR Text;
    ULONG Length;
} IOP_WORD, *PIOP_WORD;

// -1: no such digit.
static LONG IopDigit(CHAR Character)
{
    if (Character >= '0' && Character <= '9') {
        return Character - '0';
    }
    const CHAR Lower = Character | 0x20;
    return Lower >= 'a' && Lower <= 'f' ? Lower - 'a' + 10 : -1;
}

static CHAR IopTakeCharacter(PIOP_WORD Word)
{
    const CHAR Character = *Word->Text;
    Word->Text += 1;
    Word->Length -= 1;
    return Character;
}

// A byte of two digits. FALSE: there are none.
static BOOLEAN IopTakeByte(PIOP_WORD Word, PUCHAR Byte)
{
    const LONG High = Word->Length >= 2 ? IopDigit(Word->Text[0]) : -1;
    const LONG Low = High >= 0 ? IopDigit(Word->Text[1]) : -1;
    if (Low < 0) {
        return FALSE;
    }
    *Byte = (UCHAR)(High * 16 + Low);
    Word->Text += 2;
    Word->Length -= 2;
    return TRUE;
}

// Characters up to End, which is taken, too, or to the word's end; with a zero behind them. Returns how many,
// the zero not counted; Room: they do not fit.
static ULONG IopTakeText(PIOP_WORD Word, CHAR End, PWSTR Text, ULONG Room)
{
    ULONG Length = 0;
    while (Word->Length != 0 && Length + 1 < Room) {
        UCHAR Character = (UCHAR)IopTakeCharacter(Word);
        if (Character == (UCHAR)End) {
            Text[Length] = 0;
            return Length;
        }
        if (Character == '%') {
            (VOID) IopTakeByte(Word, &Character); // a percent sign alone is itself
        }
        Text[Length] = Character;
        Length += 1;
    }
    Text[Length] = 0;
    return Word->Length == 0 ? Length : Room;
}

static BOOLEAN IopReadText(PIOP_WORD Word, PIOP_VALUE Value)
{
    const ULONG Length = IopTakeText(Word, 0, Value->Text, IOP_VALUE_LENGTH);
    Value->ByteCount = (Length + 1) * (ULONG)sizeof(WCHAR);
    return Length < IOP_VALUE_LENGTH;
}

// Strings, each with its zero, and one zero more.
static BOOLEAN IopReadTexts(PIOP_WORD Word, PIOP_VALUE Value)
{
    ULONG Used = 0;
    while (Word->Length != 0) {
        const ULONG Room = IOP_VALUE_LENGTH - 1 - Used;
        const ULONG Length = IopTakeText(Word, ',', Value->Text + Used, Room);
        if (Length >= Room) {
            return FALSE;
        }
        Used += Length + 1;
    }
    Value->Text[Used] = 0;
    Value->ByteCount = (Used + 1) * (ULONG)sizeof(WCHAR);
    return TRUE;
}

static BOOLEAN IopReadBytes(PIOP_WORD Word, PIOP_VALUE Value)
{
    Value->ByteCount = 0;
    while (Value->ByteCount < sizeof(Value->Bytes) &&
           IopTakeByte(Word, &Value->Bytes[Value->ByteCount])) {
        Value->ByteCount += 1;
    }
    return Word->Length == 0;
}

static BOOLEAN IopReadNumber(PIOP_WORD Word, PIOP_VALUE Value)
{
    const BOOLEAN IsHexadecimal = Word->Length > 2 && Word->Text[0] == '0' && Word->Text[1] == 'x';
    const LONG Base = IsHexadecimal ? 16 : 10;
    ULONG64 Number = 0;
    if (IsHexadecimal) {
        Word->Text += 2;
        Word->Length -= 2;
    }
    BOOLEAN IsNumber = Word->Length != 0;
    while (IsNumber && Word->Length != 0) {
        const LONG Digit = IopDigit(IopTakeCharacter(Word));
        Number = Number * (ULONG)Base + (ULONG)Digit;
        IsNumber = Digit >= 0 && Digit < Base && Number <= MAXULONG;
    }
    Value->Number = (ULONG)Number;
    Value->ByteCount = sizeof(Value->Number);
    return IsNumber;
}

// FALSE: no such type, or not written as it should be.
static BOOLEAN IopReadValue(IOP_WORD Word, PIOP_VALUE Value)
{
    static const struct {
        PCSTR Prefix;
        ULONG Type;
        BOOLEAN (*Read)(PIOP_WORD Word, PIOP_VALUE Value);
    } Kinds[] = {
        {"dword:", REG_DWORD, IopReadNumber},    {"sz:", REG_SZ, IopReadText},
        {"expand:", REG_EXPAND_SZ, IopReadText}, {"multi:", REG_MULTI_SZ, IopReadTexts},
        {"binary:", REG_BINARY, IopReadBytes},
    };
    if (IopTakeText(&Word, '=', Value->Name, IOP_VALUE_NAME_LENGTH) >= IOP_VALUE_NAME_LENGTH) {
        return FALSE;
    }
    for (ULONG Row = 0; Row < ARRAYSIZE(Kinds); Row += 1) {
        const ULONG Length = (ULONG)RtlStringLength(Kinds[Row].Prefix);
        if (Word.Length >= Length && RtlStringStartsWith(Word.Text, Kinds[Row].Prefix)) {
            Word.Text += Length;
            Word.Length -= Length;
            Value->Type = Kinds[Row].Type;
            return Kinds[Row].Read(&Word, Value);
        }
    }
    return FALSE;
}

static VOID IopWriteParameter(PCWSTR Key, PCSTR Text, ULONG Length)
{
    IOP_VALUE Value;
    const IOP_WORD Word = {Text, Length};
    if (!IopReadValue(Word, &Value)) {
        DbgPrint("io: a driver's argument is no value: %.*s\n", (int)Length, Text);
        return;
    }
    const NTSTATUS Status = RtlWriteRegistryValue(RTL_REGISTRY_ABSOLUTE, Key, Value.Name,
                                                  Value.Type, Value.Bytes, Value.ByteCount);
    if (!NT_SUCCESS(Status)) {
        DbgPrint("io: a driver's value is not in the registry: status 0x%08x\n", Status);
    }
}

VOID IopWriteParameters(PCWSTR Key, PCSTR Arguments)
{
    ULONG Length;
    for (PCSTR Word = IopNextWord(&Arguments, &Length); Word != NULL;
         Word = IopNextWord(&Arguments, &Length)) {
        if (RtlStringStartsWith(Word, IOP_VALUE_WORD)) {
            const ULONG Skipped = sizeof(IOP_VALUE_WORD) - 1;
            IopWriteParameter(Key, Word + Skipped, Length - Skipped);
        }
    }
}
