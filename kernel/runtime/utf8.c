// UTF-8 and UTF-16. What is not well formed becomes U+FFFD, and the result says so.

#include <rtlddk.h>

#define REPLACEMENT 0xFFFD
#define FIRST_SUPPLEMENTARY 0x10000
#define LAST_CODE_POINT 0x10FFFF
#define FIRST_HIGH_SURROGATE 0xD800
#define FIRST_LOW_SURROGATE 0xDC00
#define LAST_SURROGATE 0xDFFF
#define MALFORMED 0xFFFFFFFF

static BOOLEAN RtlpIsLowSurrogate(WCHAR Unit)
{
    return Unit >= FIRST_LOW_SURROGATE && Unit <= LAST_SURROGATE;
}

// The code point at Units[*Index], or MALFORMED; moves on behind it.
static ULONG RtlpReadUtf16(PCWCH Units, ULONG Count, PULONG Index)
{
    const WCHAR First = Units[*Index];
    *Index += 1;
    if (First < FIRST_HIGH_SURROGATE || First > LAST_SURROGATE) {
        return First;
    }
    if (First >= FIRST_LOW_SURROGATE || *Index == Count || !RtlpIsLowSurrogate(Units[*Index])) {
        return MALFORMED;
    }
    const WCHAR Second = Units[*Index];
    *Index += 1;
    return FIRST_SUPPLEMENTARY + ((ULONG)(First - FIRST_HIGH_SURROGATE) << 10) +
           (ULONG)(Second - FIRST_LOW_SURROGATE);
}

typedef struct _RTL_UTF8_LEAD {
    UCHAR Mask;
    UCHAR Value;
    UCHAR TrailCount;
    ULONG Least; // code point: a smaller one has a shorter form
} RTL_UTF8_LEAD;

static const RTL_UTF8_LEAD RtlpLeads[] = {
    {0x80, 0x00, 0, 0},
    {0xE0, 0xC0, 1, 0x80},
    {0xF0, 0xE0, 2, 0x800},
    {0xF8, 0xF0, 3, FIRST_SUPPLEMENTARY},
};

static ULONG RtlpReadTrail(const UCHAR *Bytes, ULONG Count, PULONG Index, const RTL_UTF8_LEAD *Lead,
                           ULONG CodePoint)
{
    for (ULONG Trail = 0; Trail < Lead->TrailCount; Trail += 1) {
        if (*Index == Count || (Bytes[*Index] & 0xC0) != 0x80) {
            return MALFORMED;
        }
        CodePoint = (CodePoint << 6) | (Bytes[*Index] & 0x3Fu);
        *Index += 1;
    }
    const BOOLEAN IsSurrogate = CodePoint >= FIRST_HIGH_SURROGATE && CodePoint <= LAST_SURROGATE;
    return CodePoint < Lead->Least || CodePoint > LAST_CODE_POINT || IsSurrogate ? MALFORMED
                                                                                 : CodePoint;
}

static ULONG RtlpReadUtf8(const UCHAR *Bytes, ULONG Count, PULONG Index)
{
    const UCHAR First = Bytes[*Index];
    *Index += 1;
    for (ULONG Row = 0; Row < ARRAYSIZE(RtlpLeads); Row += 1) {
        if ((First & RtlpLeads[Row].Mask) == RtlpLeads[Row].Value) {
            return RtlpReadTrail(Bytes, Count, Index, &RtlpLeads[Row],
                                 First & (UCHAR)~RtlpLeads[Row].Mask);
        }
    }
    return MALFORMED;
}

// Returns the count of bytes.
static ULONG RtlpEncodeUtf8(ULONG CodePoint, UCHAR *Bytes)
{
    ULONG Row = ARRAYSIZE(RtlpLeads) - 1;
    while (CodePoint < RtlpLeads[Row].Least) {
        Row -= 1;
    }
    const ULONG TrailCount = RtlpLeads[Row].TrailCount;
    for (ULONG Trail = TrailCount; Trail > 0; Trail -= 1, CodePoint >>= 6) {
        Bytes[Trail] = (UCHAR)(0x80 | (CodePoint & 0x3F));
    }
    Bytes[0] = (UCHAR)(RtlpLeads[Row].Value | CodePoint);
    return TrailCount + 1;
}

static ULONG RtlpEncodeUtf16(ULONG CodePoint, PWCHAR Units)
{
    if (CodePoint < FIRST_SUPPLEMENTARY) {
        Units[0] = (WCHAR)CodePoint;
        return 1;
    }
    Units[0] = (WCHAR)(FIRST_HIGH_SURROGATE + ((CodePoint - FIRST_SUPPLEMENTARY) >> 10));
    Units[1] = (WCHAR)(FIRST_LOW_SURROGATE + ((CodePoint - FIRST_SUPPLEMENTARY) & 0x3FF));
    return 2;
}

// Where encoded characters go: whole ones only, until the first that does not fit.
typedef struct _RTL_UTF_OUTPUT {
    PUCHAR Buffer; // NULL: only the length is wanted
    ULONG Capacity;
    ULONG Length;
    BOOLEAN IsFull;
    BOOLEAN IsChanged; // something was not well formed
} RTL_UTF_OUTPUT;

static VOID RtlpPutBytes(RTL_UTF_OUTPUT *Output, const VOID *Bytes, ULONG ByteCount)
{
    if (Output->Buffer != NULL) {
        if (Output->IsFull || ByteCount > Output->Capacity - Output->Length) {
            Output->IsFull = TRUE;
            return;
        }
        RtlCopyMemory(Output->Buffer + Output->Length, Bytes, ByteCount);
    }
    Output->Length += ByteCount;
}

static ULONG RtlpReplace(RTL_UTF_OUTPUT *Output, ULONG CodePoint)
{
    if (CodePoint == MALFORMED) {
        Output->IsChanged = TRUE;
        return REPLACEMENT;
    }
    return CodePoint;
}

static NTSTATUS RtlpFinish(const RTL_UTF_OUTPUT *Output, PULONG ActualByteCount)
{
    if (ActualByteCount != NULL) {
        *ActualByteCount = Output->Length;
    }
    if (Output->IsFull) {
        return STATUS_BUFFER_TOO_SMALL;
    }
    return Output->IsChanged ? STATUS_SOME_NOT_MAPPED : STATUS_SUCCESS;
}

NTSTATUS NTAPI RtlUnicodeToUTF8N(PCHAR UTF8StringDestination, ULONG UTF8StringMaxByteCount,
                                 PULONG UTF8StringActualByteCount, PCWCH UnicodeStringSource,
                                 ULONG UnicodeStringByteCount)
{
    if (UnicodeStringSource == NULL) {
        return STATUS_INVALID_PARAMETER_4;
    }
    if (UnicodeStringByteCount % sizeof(WCHAR) != 0 ||
        (UTF8StringDestination == NULL && UTF8StringActualByteCount == NULL)) {
        return UnicodeStringByteCount % sizeof(WCHAR) != 0 ? STATUS_INVALID_PARAMETER_5
                                                           : STATUS_INVALID_PARAMETER;
    }
    RTL_UTF_OUTPUT Output = {(PUCHAR)UTF8StringDestination, UTF8StringMaxByteCount, 0, FALSE,
                             FALSE};
    const ULONG Count = UnicodeStringByteCount / sizeof(WCHAR);
    for (ULONG Index = 0; Index < Count;) {
        UCHAR Bytes[4];
        const ULONG CodePoint =
            RtlpReplace(&Output, RtlpReadUtf16(UnicodeStringSource, Count, &Index));
        RtlpPutBytes(&Output, Bytes, RtlpEncodeUtf8(CodePoint, Bytes));
    }
    return RtlpFinish(&Output, UTF8StringActualByteCount);
}

NTSTATUS NTAPI RtlUTF8ToUnicodeN(PWSTR UnicodeStringDestination, ULONG UnicodeStringMaxByteCount,
                                 PULONG UnicodeStringActualByteCount, PCCH UTF8StringSource,
                                 ULONG UTF8StringByteCount)
{
    if (UTF8StringSource == NULL) {
        return STATUS_INVALID_PARAMETER_4;
    }
    if (UnicodeStringDestination == NULL && UnicodeStringActualByteCount == NULL) {
        return STATUS_INVALID_PARAMETER;
    }
    RTL_UTF_OUTPUT Output = {(PUCHAR)UnicodeStringDestination,
                             UnicodeStringMaxByteCount & ~(ULONG)1, 0, FALSE, FALSE};
    for (ULONG Index = 0; Index < UTF8StringByteCount;) {
        WCHAR Units[2];
        const ULONG CodePoint = RtlpReplace(
            &Output, RtlpReadUtf8((const UCHAR *)UTF8StringSource, UTF8StringByteCount, &Index));
        RtlpPutBytes(&Output, Units, RtlpEncodeUtf16(CodePoint, Units) * (ULONG)sizeof(WCHAR));
    }
    return RtlpFinish(&Output, UnicodeStringActualByteCount);
}
