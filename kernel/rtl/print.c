// Formatted print. Text leaves in runs through a sink, so that a line of the console takes few
// calls.
//
//   %[flags][width][.precision][size]conversion      "%-16s|%08llx|%p|%5u"
//
// A conversion is a row of RtlpConversions: its base, whether it is signed, its digits. Everything
// that is not a number (%s %c %p %%) has a case of its own.

#include "kernel/inc/rtl.h"

#define PRINT_MAX_DIGITS 64
#define PRINT_PAD_RUN 16

typedef enum _PRINT_SIZE { PrintChar, PrintShort, PrintInt, PrintLong64 } PRINT_SIZE;

typedef struct _PRINT_FIELD {
    ULONG Width;
    ULONG Precision;
    BOOLEAN HasPrecision;
    BOOLEAN LeftJustified;
    BOOLEAN ZeroPadded;
    PRINT_SIZE Size;
    CHAR Conversion;
} PRINT_FIELD;

typedef struct _PRINT_OUTPUT {
    PRTL_SINK Sink;
    PVOID Context;
} PRINT_OUTPUT;

typedef struct _PRINT_CONVERSION {
    CHAR Letter;
    UCHAR Base;
    BOOLEAN Signed;
    PCSTR Digits;
} PRINT_CONVERSION;

static const CHAR LowerDigits[] = "0123456789abcdef";
static const CHAR UpperDigits[] = "0123456789ABCDEF";

static const PRINT_CONVERSION RtlpConversions[] = {
    {'d', 10, TRUE, LowerDigits},  {'i', 10, TRUE, LowerDigits},  {'u', 10, FALSE, LowerDigits},
    {'x', 16, FALSE, LowerDigits}, {'X', 16, FALSE, UpperDigits},
};

typedef struct _PRINT_SIZE_PREFIX {
    CHAR Text[4];
    PRINT_SIZE Size;
} PRINT_SIZE_PREFIX;

// Longer prefixes stand before the shorter ones that they begin with.
static const PRINT_SIZE_PREFIX RtlpSizePrefixes[] = {
    {"I64", PrintLong64}, {"ll", PrintLong64}, {"l", PrintInt},   {"z", PrintLong64},
    {"I", PrintLong64},   {"hh", PrintChar},   {"h", PrintShort},
};

static VOID RtlpPad(const PRINT_OUTPUT *Output, CHAR Character, SIZE_T Count)
{
    CHAR Run[PRINT_PAD_RUN];
    for (SIZE_T Index = 0; Index < PRINT_PAD_RUN; Index += 1) {
        Run[Index] = Character;
    }
    for (; Count > PRINT_PAD_RUN; Count -= PRINT_PAD_RUN) {
        Output->Sink(Output->Context, Run, PRINT_PAD_RUN);
    }
    if (Count > 0) {
        Output->Sink(Output->Context, Run, Count);
    }
}

static VOID RtlpPrintText(const PRINT_OUTPUT *Output, const PRINT_FIELD *Field, PCSTR Text,
                          SIZE_T Length)
{
    const SIZE_T Padding = Field->Width > Length ? Field->Width - Length : 0;
    if (!Field->LeftJustified) {
        RtlpPad(Output, ' ', Padding);
    }
    if (Length > 0) {
        Output->Sink(Output->Context, Text, Length);
    }
    if (Field->LeftJustified) {
        RtlpPad(Output, ' ', Padding);
    }
}

static VOID RtlpPrintString(const PRINT_OUTPUT *Output, const PRINT_FIELD *Field, PCSTR Text)
{
    if (Text == NULL) {
        Text = "(null)";
    }
    // With a precision the text need not end with a zero.
    const SIZE_T Limit = Field->HasPrecision ? Field->Precision : MAXULONG;
    SIZE_T Length = 0;
    while (Length < Limit && Text[Length] != 0) {
        ++Length;
    }
    RtlpPrintText(Output, Field, Text, Length);
}

static VOID RtlpPrintNumber(const PRINT_OUTPUT *Output, const PRINT_FIELD *Field,
                            const PRINT_CONVERSION *Conversion, ULONG64 Magnitude, BOOLEAN Negative)
{
    CHAR Text[PRINT_MAX_DIGITS + 1];
    ULONG Start = sizeof(Text);
    do {
        Text[--Start] = Conversion->Digits[Magnitude % Conversion->Base];
        Magnitude /= Conversion->Base;
    } while (Magnitude != 0);

    ULONG MinimumDigits = Field->HasPrecision ? Field->Precision : 1;
    if (Field->ZeroPadded && !Field->LeftJustified && !Field->HasPrecision) {
        MinimumDigits = Field->Width > (ULONG)Negative ? Field->Width - Negative : 1;
    }
    while (sizeof(Text) - Start < MinimumDigits && Start > 1) {
        Text[--Start] = '0';
    }
    if (Negative) {
        Text[--Start] = '-';
    }
    RtlpPrintText(Output, Field, Text + Start, sizeof(Text) - Start);
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

static VOID RtlpPrintInteger(const PRINT_OUTPUT *Output, const PRINT_FIELD *Field,
                             const PRINT_CONVERSION *Conversion, ULONG64 Argument)
{
    const ULONG64 Value = RtlpTruncate(Argument, Field->Size, Conversion->Signed);
    const BOOLEAN Negative = Conversion->Signed && (LONG64)Value < 0;
    RtlpPrintNumber(Output, Field, Conversion, Negative ? 0 - Value : Value, Negative);
}

static const PRINT_CONVERSION *RtlpFindConversion(CHAR Letter)
{
    for (ULONG Index = 0; Index < sizeof(RtlpConversions) / sizeof(RtlpConversions[0]);
         Index += 1) {
        if (RtlpConversions[Index].Letter == Letter) {
            return &RtlpConversions[Index];
        }
    }
    return NULL;
}

static PCSTR RtlpParseSize(PCSTR Cursor, PRINT_FIELD *Field)
{
    Field->Size = PrintInt;
    for (ULONG Index = 0; Index < sizeof(RtlpSizePrefixes) / sizeof(RtlpSizePrefixes[0]);
         Index += 1) {
        if (RtlStringStartsWith(Cursor, RtlpSizePrefixes[Index].Text)) {
            Field->Size = RtlpSizePrefixes[Index].Size;
            return Cursor + RtlStringLength(RtlpSizePrefixes[Index].Text);
        }
    }
    return Cursor;
}

static PCSTR RtlpParseFlags(PCSTR Cursor, PRINT_FIELD *Field)
{
    for (;; Cursor += 1) {
        if (*Cursor == '-') {
            Field->LeftJustified = TRUE;
        } else if (*Cursor == '0') {
            Field->ZeroPadded = TRUE;
        } else {
            return Cursor;
        }
    }
}

// In a structure of its own and passed by pointer: a list that is passed by value does not move on
// for the caller.
typedef struct _PRINT_ARGUMENTS {
    __builtin_ms_va_list List;
} PRINT_ARGUMENTS;

static PCSTR RtlpParseNumber(PCSTR Cursor, PRINT_ARGUMENTS *Arguments, PULONG Value)
{
    *Value = 0;
    if (*Cursor == '*') {
        *Value = __builtin_va_arg(Arguments->List, ULONG);
        return Cursor + 1;
    }
    for (; *Cursor >= '0' && *Cursor <= '9'; Cursor += 1) {
        *Value = *Value * 10 + (ULONG)(*Cursor - '0');
    }
    return Cursor;
}

// From behind the '%' to behind the conversion letter. At the end of the text Conversion is 0.
static PCSTR RtlpParseField(PCSTR Cursor, PRINT_ARGUMENTS *Arguments, PRINT_FIELD *Field)
{
    *Field = (PRINT_FIELD){0};
    Cursor = RtlpParseFlags(Cursor, Field);
    Cursor = RtlpParseNumber(Cursor, Arguments, &Field->Width);
    if (*Cursor == '.') {
        Field->HasPrecision = TRUE;
        Cursor = RtlpParseNumber(Cursor + 1, Arguments, &Field->Precision);
    }
    Cursor = RtlpParseSize(Cursor, Field);
    Field->Conversion = *Cursor;
    return *Cursor == 0 ? Cursor : Cursor + 1;
}

static VOID RtlpPrintPointer(const PRINT_OUTPUT *Output, const PRINT_FIELD *Field, ULONG64 Value)
{
    PRINT_FIELD PointerField = *Field;
    PointerField.HasPrecision = TRUE;
    PointerField.Precision = 2 * sizeof(PVOID);
    RtlpPrintNumber(Output, &PointerField, RtlpFindConversion('x'), Value, FALSE);
}

// Start is where the field began: an unknown conversion is printed as it stands.
static VOID RtlpPrintField(const PRINT_OUTPUT *Output, const PRINT_FIELD *Field,
                           PRINT_ARGUMENTS *Arguments, PCSTR Start, PCSTR End)
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
        RtlpPrintString(Output, Field, __builtin_va_arg(Arguments->List, PCSTR));
        return;
    case 'c': {
        const CHAR Character = (CHAR) __builtin_va_arg(Arguments->List, int);
        RtlpPrintText(Output, Field, &Character, 1);
        return;
    }
    case 'p':
        RtlpPrintPointer(Output, Field, __builtin_va_arg(Arguments->List, ULONG64));
        return;
    case '%':
        Output->Sink(Output->Context, "%", 1);
        return;
    default:
        Output->Sink(Output->Context, Start, (SIZE_T)(End - Start));
        return;
    }
}

VOID RtlFormat(PRTL_SINK Sink, PVOID Context, PCSTR Format, __builtin_ms_va_list Arguments)
{
    const PRINT_OUTPUT Output = {Sink, Context};
    PRINT_ARGUMENTS Copy;
    __builtin_ms_va_copy(Copy.List, Arguments);
    while (*Format != 0) {
        PCSTR Run = Format;
        while (*Format != 0 && *Format != '%') {
            ++Format;
        }
        if (Format != Run) {
            Sink(Context, Run, (SIZE_T)(Format - Run));
        }
        if (*Format == '%') {
            PRINT_FIELD Field;
            PCSTR Start = Format;
            Format = RtlpParseField(Format + 1, &Copy, &Field);
            RtlpPrintField(&Output, &Field, &Copy, Start, Format);
        }
    }
    __builtin_ms_va_end(Copy.List);
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
