// Formatted print. Text leaves in runs through a sink, so that a line of the console takes few
// calls.
//
//   %[flags][width][.precision][size]conversion      "%-16s|%08llx|%p|%5u|%wZ"
//
// The format is of bytes or of UTF-16 units, and so is the output; text arguments of the other kind
// are converted unit by unit (the code page is Latin-1: units beyond it become '?'). A conversion of
// a number is a row of RtlpConversions: its base, whether it is signed, its digits. Everything that
// is not a number (%s %S %c %C %Z %p %%) has a case of its own.

#include "kernel/inc/rtl.h"

#define PRINT_MAX_DIGITS 64
#define PRINT_RUN 16
#define PRINT_LAST_NARROW_UNIT 0xFF

typedef enum _PRINT_SIZE { PrintChar, PrintShort, PrintInt, PrintLong64 } PRINT_SIZE;
typedef enum _PRINT_TEXT { PrintTextDefault, PrintTextNarrow, PrintTextWide } PRINT_TEXT;

// One of the two is NULL.
typedef struct _PRINT_CURSOR {
    PCSTR Narrow;
    PCWSTR Wide;
} PRINT_CURSOR;

typedef struct _PRINT_FIELD {
    ULONG Width;
    ULONG Precision;
    BOOLEAN HasPrecision;
    BOOLEAN LeftJustified;
    BOOLEAN ZeroPadded;
    BOOLEAN Alternate;   // '#': 0x before %x, 0 before %o
    CHAR PositivePrefix; // '+' or ' ' before numbers that are not negative; 0: nothing
    PRINT_SIZE Size;
    PRINT_TEXT Text;
    WCHAR Conversion;
} PRINT_FIELD;

typedef struct _PRINT_CONVERSION {
    CHAR Letter;
    UCHAR Base;
    BOOLEAN Signed;
    PCSTR Digits;
    CHAR Prefix[3]; // with '#'
} PRINT_CONVERSION;

static const CHAR LowerDigits[] = "0123456789abcdef";
static const CHAR UpperDigits[] = "0123456789ABCDEF";

static const PRINT_CONVERSION RtlpConversions[] = {
    {'d', 10, TRUE, LowerDigits, ""},    {'i', 10, TRUE, LowerDigits, ""},
    {'u', 10, FALSE, LowerDigits, ""},   {'x', 16, FALSE, LowerDigits, "0x"},
    {'X', 16, FALSE, UpperDigits, "0X"}, {'o', 8, FALSE, LowerDigits, "0"},
};

typedef struct _PRINT_SIZE_PREFIX {
    CHAR Text[4];
    PRINT_SIZE Size;
    PRINT_TEXT TextKind;
} PRINT_SIZE_PREFIX;

// Longer prefixes stand before the shorter ones that they begin with.
static const PRINT_SIZE_PREFIX RtlpSizePrefixes[] = {
    {"I64", PrintLong64, PrintTextDefault}, {"I32", PrintInt, PrintTextDefault},
    {"I", PrintLong64, PrintTextDefault},   {"ll", PrintLong64, PrintTextWide},
    {"l", PrintInt, PrintTextWide},         {"w", PrintInt, PrintTextWide},
    {"hh", PrintChar, PrintTextNarrow},     {"h", PrintShort, PrintTextNarrow},
    {"z", PrintLong64, PrintTextDefault},   {"j", PrintLong64, PrintTextDefault},
    {"t", PrintLong64, PrintTextDefault},
};

// -------------------------------------------------------------------------------------------------
// Output.

static VOID RtlpEmitNarrow(const RTL_FORMAT_OUTPUT *Output, const CHAR *Text, SIZE_T Length)
{
    if (Output->Sink != NULL) {
        Output->Sink(Output->Context, Text, Length);
        return;
    }
    WCHAR Run[PRINT_RUN];
    while (Length > 0) {
        SIZE_T Count = 0;
        for (; Count < PRINT_RUN && Count < Length; Count += 1) {
            Run[Count] = (UCHAR)Text[Count];
        }
        Output->WideSink(Output->Context, Run, Count);
        Text += Count;
        Length -= Count;
    }
}

static VOID RtlpEmitWide(const RTL_FORMAT_OUTPUT *Output, const WCHAR *Text, SIZE_T Length)
{
    if (Output->WideSink != NULL) {
        Output->WideSink(Output->Context, Text, Length);
        return;
    }
    CHAR Run[PRINT_RUN];
    while (Length > 0) {
        SIZE_T Count = 0;
        for (; Count < PRINT_RUN && Count < Length; Count += 1) {
            Run[Count] = Text[Count] <= PRINT_LAST_NARROW_UNIT ? (CHAR)Text[Count] : '?';
        }
        Output->Sink(Output->Context, Run, Count);
        Text += Count;
        Length -= Count;
    }
}

static VOID RtlpEmit(const RTL_FORMAT_OUTPUT *Output, const PRINT_CURSOR *Text, SIZE_T Length)
{
    if (Length == 0) {
        return;
    }
    if (Text->Narrow != NULL) {
        RtlpEmitNarrow(Output, Text->Narrow, Length);
    } else {
        RtlpEmitWide(Output, Text->Wide, Length);
    }
}

static VOID RtlpPad(const RTL_FORMAT_OUTPUT *Output, CHAR Character, SIZE_T Count)
{
    CHAR Run[PRINT_RUN];
    for (SIZE_T Index = 0; Index < PRINT_RUN; Index += 1) {
        Run[Index] = Character;
    }
    for (; Count > PRINT_RUN; Count -= PRINT_RUN) {
        RtlpEmitNarrow(Output, Run, PRINT_RUN);
    }
    if (Count > 0) {
        RtlpEmitNarrow(Output, Run, Count);
    }
}

// -------------------------------------------------------------------------------------------------
// The format as units.

static WCHAR RtlpUnitAt(const PRINT_CURSOR *Cursor, SIZE_T Index)
{
    return Cursor->Narrow != NULL ? (UCHAR)Cursor->Narrow[Index] : Cursor->Wide[Index];
}

static VOID RtlpAdvance(PRINT_CURSOR *Cursor, SIZE_T Count)
{
    if (Cursor->Narrow != NULL) {
        Cursor->Narrow += Count;
    } else {
        Cursor->Wide += Count;
    }
}

// How many units Prefix has if the text begins with it, else 0.
static SIZE_T RtlpMatch(const PRINT_CURSOR *Cursor, PCSTR Prefix)
{
    SIZE_T Length = 0;
    for (; Prefix[Length] != 0; Length += 1) {
        if (RtlpUnitAt(Cursor, Length) != (UCHAR)Prefix[Length]) {
            return 0;
        }
    }
    return Length;
}

// -------------------------------------------------------------------------------------------------
// Text and numbers.

static VOID RtlpPrintText(const RTL_FORMAT_OUTPUT *Output, const PRINT_FIELD *Field,
                          const PRINT_CURSOR *Text, SIZE_T Length)
{
    const SIZE_T Padding = Field->Width > Length ? Field->Width - Length : 0;
    if (!Field->LeftJustified) {
        RtlpPad(Output, ' ', Padding);
    }
    RtlpEmit(Output, Text, Length);
    if (Field->LeftJustified) {
        RtlpPad(Output, ' ', Padding);
    }
}

static VOID RtlpPrintString(const RTL_FORMAT_OUTPUT *Output, const PRINT_FIELD *Field,
                            PRINT_CURSOR Text, SIZE_T MaximumLength)
{
    if (Text.Narrow == NULL && Text.Wide == NULL) {
        Text.Narrow = "(null)";
        MaximumLength = MAXULONG;
    }
    // With a precision the text need not end with a zero.
    const SIZE_T Limit =
        Field->HasPrecision && Field->Precision < MaximumLength ? Field->Precision : MaximumLength;
    SIZE_T Length = 0;
    while (Length < Limit && RtlpUnitAt(&Text, Length) != 0) {
        Length += 1;
    }
    RtlpPrintText(Output, Field, &Text, Length);
}

// Whether a text argument is of UTF-16 units: the lower-case letter means the format's own kind,
// the upper-case one the other.
static BOOLEAN RtlpIsWideText(const RTL_FORMAT_OUTPUT *Output, const PRINT_FIELD *Field)
{
    if (Field->Text != PrintTextDefault) {
        return Field->Text == PrintTextWide;
    }
    const BOOLEAN IsOwnKind = Field->Conversion == 's' || Field->Conversion == 'c';
    return (Output->WideSink != NULL) == IsOwnKind;
}

// %Z takes an ANSI_STRING, %wZ a UNICODE_STRING: the same layout, with lengths in bytes.
static VOID RtlpPrintCountedString(const RTL_FORMAT_OUTPUT *Output, const PRINT_FIELD *Field,
                                   const UNICODE_STRING *String)
{
    const BOOLEAN IsWide = Field->Text == PrintTextWide;
    PRINT_CURSOR Text = {NULL, NULL};
    if (String == NULL || String->Buffer == NULL) {
        RtlpPrintString(Output, Field, Text, 0);
    } else if (IsWide) {
        Text.Wide = String->Buffer;
        RtlpPrintString(Output, Field, Text, String->Length / sizeof(WCHAR));
    } else {
        Text.Narrow = (PCSTR)String->Buffer;
        RtlpPrintString(Output, Field, Text, String->Length);
    }
}

// Prefix is the sign or the mark of the base: zeros come behind it, spaces before it.
static VOID RtlpPrintDigits(const RTL_FORMAT_OUTPUT *Output, const PRINT_FIELD *Field, PCSTR Prefix,
                            const CHAR *Digits, SIZE_T DigitCount)
{
    const SIZE_T PrefixLength = RtlStringLength(Prefix);
    SIZE_T ZeroCount = 0;
    if (Field->HasPrecision) {
        ZeroCount = Field->Precision > DigitCount ? Field->Precision - DigitCount : 0;
    } else if (Field->ZeroPadded && !Field->LeftJustified &&
               Field->Width > PrefixLength + DigitCount) {
        ZeroCount = Field->Width - PrefixLength - DigitCount;
    }
    const SIZE_T Length = PrefixLength + ZeroCount + DigitCount;
    const SIZE_T Padding = Field->Width > Length ? Field->Width - Length : 0;
    const PRINT_CURSOR PrefixText = {Prefix, NULL};
    const PRINT_CURSOR DigitText = {Digits, NULL};
    if (!Field->LeftJustified) {
        RtlpPad(Output, ' ', Padding);
    }
    RtlpEmit(Output, &PrefixText, PrefixLength);
    RtlpPad(Output, '0', ZeroCount);
    RtlpEmit(Output, &DigitText, DigitCount);
    if (Field->LeftJustified) {
        RtlpPad(Output, ' ', Padding);
    }
}

static VOID RtlpPrintNumber(const RTL_FORMAT_OUTPUT *Output, const PRINT_FIELD *Field,
                            const PRINT_CONVERSION *Conversion, ULONG64 Magnitude, PCSTR Prefix)
{
    CHAR Text[PRINT_MAX_DIGITS];
    ULONG Start = sizeof(Text);
    for (; Magnitude != 0; Magnitude /= Conversion->Base) {
        Text[--Start] = Conversion->Digits[Magnitude % Conversion->Base];
    }
    // A zero has one digit, but none where the precision asks for none.
    if (Start == sizeof(Text) && !(Field->HasPrecision && Field->Precision == 0)) {
        Text[--Start] = '0';
    }
    RtlpPrintDigits(Output, Field, Prefix, Text + Start, sizeof(Text) - Start);
}

static ULONG64 RtlpTruncate(ULONG64 Value, PRINT_SIZE Size, BOOLEAN Signed)
{
    switch (Size) {
    case PrintChar:
        return Signed ? (ULONG64)(signed char)Value : (UCHAR)Value;
    case PrintShort:
        return Signed ? (ULONG64)(SHORT)Value : (USHORT)Value;
    case PrintInt:
        return Signed ? (ULONG64)(LONG)Value : (ULONG)Value;
    case PrintLong64:
        return Value;
    }
    return Value;
}

static VOID RtlpPrintInteger(const RTL_FORMAT_OUTPUT *Output, const PRINT_FIELD *Field,
                             const PRINT_CONVERSION *Conversion, ULONG64 Argument)
{
    const ULONG64 Value = RtlpTruncate(Argument, Field->Size, Conversion->Signed);
    const BOOLEAN Negative = Conversion->Signed && (LONG64)Value < 0;
    const CHAR Sign[2] = {Negative ? '-' : Field->PositivePrefix, 0};
    PCSTR Prefix = Conversion->Signed ? Sign : "";
    if (Field->Alternate && Value != 0) {
        Prefix = Conversion->Prefix[0] != 0 ? Conversion->Prefix : Prefix;
    }
    RtlpPrintNumber(Output, Field, Conversion, Negative ? 0 - Value : Value, Prefix);
}

static const PRINT_CONVERSION *RtlpFindConversion(WCHAR Letter)
{
    for (ULONG Index = 0; Index < sizeof(RtlpConversions) / sizeof(RtlpConversions[0]);
         Index += 1) {
        if (RtlpConversions[Index].Letter == Letter) {
            return &RtlpConversions[Index];
        }
    }
    return NULL;
}

// -------------------------------------------------------------------------------------------------
// Fields.

static VOID RtlpParseSize(PRINT_CURSOR *Cursor, PRINT_FIELD *Field)
{
    Field->Size = PrintInt;
    for (ULONG Index = 0; Index < sizeof(RtlpSizePrefixes) / sizeof(RtlpSizePrefixes[0]);
         Index += 1) {
        const SIZE_T Length = RtlpMatch(Cursor, RtlpSizePrefixes[Index].Text);
        if (Length > 0) {
            Field->Size = RtlpSizePrefixes[Index].Size;
            Field->Text = RtlpSizePrefixes[Index].TextKind;
            RtlpAdvance(Cursor, Length);
            return;
        }
    }
}

static VOID RtlpParseFlags(PRINT_CURSOR *Cursor, PRINT_FIELD *Field)
{
    for (;; RtlpAdvance(Cursor, 1)) {
        switch (RtlpUnitAt(Cursor, 0)) {
        case '-':
            Field->LeftJustified = TRUE;
            break;
        case '0':
            Field->ZeroPadded = TRUE;
            break;
        case '#':
            Field->Alternate = TRUE;
            break;
        case '+':
            Field->PositivePrefix = '+';
            break;
        case ' ':
            Field->PositivePrefix = Field->PositivePrefix != 0 ? Field->PositivePrefix : ' ';
            break;
        default:
            return;
        }
    }
}

// In a structure of its own and passed by pointer: a list that is passed by value does not move on
// for the caller.
typedef struct _PRINT_ARGUMENTS {
    __builtin_ms_va_list List;
} PRINT_ARGUMENTS;

static LONG RtlpParseNumber(PRINT_CURSOR *Cursor, PRINT_ARGUMENTS *Arguments)
{
    if (RtlpUnitAt(Cursor, 0) == '*') {
        RtlpAdvance(Cursor, 1);
        return __builtin_va_arg(Arguments->List, LONG);
    }
    ULONG Value = 0;
    for (; RtlpUnitAt(Cursor, 0) >= '0' && RtlpUnitAt(Cursor, 0) <= '9'; RtlpAdvance(Cursor, 1)) {
        Value = Value * 10 + (ULONG)(RtlpUnitAt(Cursor, 0) - '0');
    }
    return (LONG)(Value & MAXLONG);
}

// From behind the '%' to behind the conversion letter. At the end of the text Conversion is 0.
static VOID RtlpParseField(PRINT_CURSOR *Cursor, PRINT_ARGUMENTS *Arguments, PRINT_FIELD *Field)
{
    *Field = (PRINT_FIELD){0};
    RtlpParseFlags(Cursor, Field);
    const LONG Width = RtlpParseNumber(Cursor, Arguments);
    // Only a width from the arguments can be negative: it says "left", too.
    Field->LeftJustified = Field->LeftJustified || Width < 0;
    Field->Width = Width < 0 ? 0 - (ULONG)Width : (ULONG)Width;
    if (RtlpUnitAt(Cursor, 0) == '.') {
        RtlpAdvance(Cursor, 1);
        const LONG Precision = RtlpParseNumber(Cursor, Arguments);
        Field->HasPrecision = Precision >= 0;
        Field->Precision = (ULONG)Precision;
    }
    RtlpParseSize(Cursor, Field);
    Field->Conversion = RtlpUnitAt(Cursor, 0);
    RtlpAdvance(Cursor, Field->Conversion == 0 ? 0 : 1);
}

static VOID RtlpPrintPointer(const RTL_FORMAT_OUTPUT *Output, const PRINT_FIELD *Field,
                             ULONG64 Value)
{
    PRINT_FIELD PointerField = *Field;
    PointerField.HasPrecision = TRUE;
    PointerField.Precision = 2 * sizeof(PVOID);
    RtlpPrintNumber(Output, &PointerField,
                    RtlpFindConversion(Output->HasUpperCasePointers ? 'X' : 'x'), Value, "");
}

static VOID RtlpPrintCharacter(const RTL_FORMAT_OUTPUT *Output, const PRINT_FIELD *Field,
                               WCHAR Unit)
{
    const CHAR Narrow = (CHAR)Unit;
    const BOOLEAN IsWide = RtlpIsWideText(Output, Field);
    const PRINT_CURSOR Text = {IsWide ? NULL : &Narrow, IsWide ? &Unit : NULL};
    RtlpPrintText(Output, Field, &Text, 1);
}

static VOID RtlpPrintStringArgument(const RTL_FORMAT_OUTPUT *Output, const PRINT_FIELD *Field,
                                    const VOID *String)
{
    const BOOLEAN IsWide = RtlpIsWideText(Output, Field);
    const PRINT_CURSOR Text = {IsWide ? NULL : String, IsWide ? String : NULL};
    RtlpPrintString(Output, Field, Text, MAXULONG);
}

// Start is where the field began: an unknown conversion is printed as it stands.
static VOID RtlpPrintField(const RTL_FORMAT_OUTPUT *Output, const PRINT_FIELD *Field,
                           PRINT_ARGUMENTS *Arguments, const PRINT_CURSOR *Start,
                           const PRINT_CURSOR *End)
{
    const PRINT_CONVERSION *Conversion = RtlpFindConversion(Field->Conversion);
    if (Conversion != NULL) {
        // [x64] The Microsoft ABI gives every argument eight bytes; the upper half of a smaller one
        // is undefined.
        RtlpPrintInteger(Output, Field, Conversion, __builtin_va_arg(Arguments->List, ULONG64));
        return;
    }
    switch (Field->Conversion) {
    case 's':
    case 'S':
        RtlpPrintStringArgument(Output, Field, __builtin_va_arg(Arguments->List, PVOID));
        return;
    case 'Z':
        RtlpPrintCountedString(Output, Field, __builtin_va_arg(Arguments->List, PVOID));
        return;
    case 'c':
    case 'C':
        RtlpPrintCharacter(Output, Field, (WCHAR) __builtin_va_arg(Arguments->List, int));
        return;
    case 'p':
        RtlpPrintPointer(Output, Field, __builtin_va_arg(Arguments->List, ULONG64));
        return;
    case '%':
        RtlpEmitNarrow(Output, "%", 1);
        return;
    default:
        RtlpEmit(Output, Start,
                 Start->Narrow != NULL ? (SIZE_T)(End->Narrow - Start->Narrow)
                                       : (SIZE_T)(End->Wide - Start->Wide));
        return;
    }
}

static VOID RtlpFormatCursor(const RTL_FORMAT_OUTPUT *Output, PRINT_CURSOR Format,
                             __builtin_ms_va_list Arguments)
{
    PRINT_ARGUMENTS Copy;
    __builtin_ms_va_copy(Copy.List, Arguments);
    while (RtlpUnitAt(&Format, 0) != 0) {
        SIZE_T Length = 0;
        while (RtlpUnitAt(&Format, Length) != 0 && RtlpUnitAt(&Format, Length) != '%') {
            Length += 1;
        }
        RtlpEmit(Output, &Format, Length);
        RtlpAdvance(&Format, Length);
        if (RtlpUnitAt(&Format, 0) == '%') {
            PRINT_FIELD Field;
            const PRINT_CURSOR Start = Format;
            RtlpAdvance(&Format, 1);
            RtlpParseField(&Format, &Copy, &Field);
            RtlpPrintField(Output, &Field, &Copy, &Start, &Format);
        }
    }
    __builtin_ms_va_end(Copy.List);
}

VOID RtlFormatOutput(const RTL_FORMAT_OUTPUT *Output, const VOID *Format,
                     __builtin_ms_va_list Arguments)
{
    const BOOLEAN IsWide = Output->WideSink != NULL;
    const PRINT_CURSOR Cursor = {IsWide ? NULL : Format, IsWide ? Format : NULL};
    RtlpFormatCursor(Output, Cursor, Arguments);
}

VOID RtlFormat(PRTL_SINK Sink, PVOID Context, PCSTR Format, __builtin_ms_va_list Arguments)
{
    const RTL_FORMAT_OUTPUT Output = {Sink, NULL, Context, FALSE};
    RtlFormatOutput(&Output, Format, Arguments);
}

typedef struct _PRINT_BUFFER {
    PCHAR Buffer;
    SIZE_T ByteCount;
    SIZE_T Length; // of the whole text, whether it fits or not
} PRINT_BUFFER;

static VOID RtlpBufferSink(PVOID Context, const CHAR *Text, SIZE_T ByteCount)
{
    PRINT_BUFFER *Target = Context;
    for (SIZE_T Index = 0; Index < ByteCount; ++Index, ++Target->Length) {
        if (Target->Length + 1 < Target->ByteCount) {
            Target->Buffer[Target->Length] = Text[Index];
        }
    }
}

SIZE_T RtlFormatBufferArguments(PCHAR Buffer, SIZE_T BufferByteCount, PCSTR Format,
                                __builtin_ms_va_list Arguments)
{
    PRINT_BUFFER Target = {Buffer, BufferByteCount, 0};
    RtlFormat(RtlpBufferSink, &Target, Format, Arguments);
    if (BufferByteCount > 0) {
        Buffer[Target.Length < BufferByteCount ? Target.Length : BufferByteCount - 1] = 0;
    }
    return Target.Length;
}

SIZE_T NTAPI RtlFormatBuffer(PCHAR Buffer, SIZE_T BufferByteCount, PCSTR Format, ...)
{
    __builtin_ms_va_list Arguments;
    __builtin_ms_va_start(Arguments, Format);
    const SIZE_T Length = RtlFormatBufferArguments(Buffer, BufferByteCount, Format, Arguments);
    __builtin_ms_va_end(Arguments);
    return Length;
}
