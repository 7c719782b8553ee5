// Numbers and GUIDs as text.

#include <rtlddk.h>

#include "kernel/inc/crt.h"
#include "kernel/runtime/runtime.h"

typedef struct _RTL_BASE_MARK {
    WCHAR Letter;
    ULONG Base;
} RTL_BASE_MARK;

static const RTL_BASE_MARK RtlpBaseMarks[] = {{'x', 16}, {'o', 8}, {'b', 2}};

static BOOLEAN RtlpIsBase(ULONG Base)
{
    return Base == 2 || Base == 8 || Base == 10 || Base == 16;
}

static ULONG RtlpDigitOf(WCHAR Unit)
{
    if (Unit >= '0' && Unit <= '9') {
        return Unit - (ULONG)'0';
    }
    const WCHAR Upper = RtlUpcaseUnicodeChar(Unit);
    return Upper >= 'A' && Upper <= 'F' ? Upper - (ULONG)'A' + 10 : MAXULONG;
}

// Bytes are widened first, so that there is one reader.
typedef struct _RTL_TEXT {
    PCWCH Wide;
    PCSZ Narrow;
    SIZE_T Length;
} RTL_TEXT;

static WCHAR RtlpUnit(const RTL_TEXT *Text, SIZE_T Index)
{
    if (Index >= Text->Length) {
        return 0;
    }
    return Text->Wide != NULL ? Text->Wide[Index] : (UCHAR)Text->Narrow[Index];
}

static NTSTATUS RtlpParse(const RTL_TEXT *Text, ULONG Base, PULONG Value)
{
    if (Base != 0 && !RtlpIsBase(Base)) {
        return STATUS_INVALID_PARAMETER;
    }
    SIZE_T Index = 0;
    while (Index < Text->Length && RtlpUnit(Text, Index) <= ' ') {
        Index += 1;
    }
    const BOOLEAN IsNegative = RtlpUnit(Text, Index) == '-';
    if (IsNegative || RtlpUnit(Text, Index) == '+') {
        Index += 1;
    }
    if (Base == 0) {
        Base = 10;
        for (ULONG Row = 0; Row < ARRAYSIZE(RtlpBaseMarks); Row += 1) {
            if (RtlpUnit(Text, Index) == '0' &&
                RtlpUnit(Text, Index + 1) == RtlpBaseMarks[Row].Letter) {
                Base = RtlpBaseMarks[Row].Base;
                Index += 2;
                break;
            }
        }
    }
    ULONG Result = 0;
    for (; RtlpDigitOf(RtlpUnit(Text, Index)) < Base; Index += 1) {
        Result = Result * Base + RtlpDigitOf(RtlpUnit(Text, Index));
    }
    *Value = IsNegative ? 0 - Result : Result;
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI RtlUnicodeStringToInteger(PCUNICODE_STRING String, ULONG Base, PULONG Value)
{
    const RTL_TEXT Text = {String->Buffer, NULL, String->Length / sizeof(WCHAR)};
    return RtlpParse(&Text, Base, Value);
}

NTSTATUS NTAPI RtlCharToInteger(PCSZ String, ULONG Base, PULONG Value)
{
    const RTL_TEXT Text = {NULL, String, CrtStrlen(String)};
    return RtlpParse(&Text, Base, Value);
}

#define RTL_MAXIMUM_DIGITS 64

NTSTATUS NTAPI RtlInt64ToUnicodeString(ULONGLONG Value, ULONG Base, PUNICODE_STRING String)
{
    Base = Base == 0 ? 10 : Base;
    if (!RtlpIsBase(Base)) {
        return STATUS_INVALID_PARAMETER;
    }
    WCHAR Digits[RTL_MAXIMUM_DIGITS];
    SIZE_T Start = ARRAYSIZE(Digits);
    do {
        Digits[--Start] = (UCHAR) "0123456789ABCDEF"[Value % Base];
        Value /= Base;
    } while (Value != 0);
    const SIZE_T ByteCount = (ARRAYSIZE(Digits) - Start) * sizeof(WCHAR);
    if (ByteCount > String->MaximumLength) {
        return STATUS_BUFFER_OVERFLOW;
    }
    RtlCopyMemory(String->Buffer, Digits + Start, ByteCount);
    String->Length = (USHORT)ByteCount;
    if (ByteCount + sizeof(WCHAR) <= String->MaximumLength) {
        String->Buffer[ByteCount / sizeof(WCHAR)] = 0;
    }
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI RtlIntegerToUnicodeString(ULONG Value, ULONG Base, PUNICODE_STRING String)
{
    return RtlInt64ToUnicodeString(Value, Base, String);
}

// The digits of a GUID's text, in order: the letter is the field that the digit belongs to.
static const CHAR RtlpGuidForm[] = "{11111111-2222-3333-44aa-bbccddeeffgg}";
#define GUID_TEXT_LENGTH (ARRAYSIZE(RtlpGuidForm) - 1)

NTSTATUS NTAPI RtlGUIDFromString(PUNICODE_STRING GuidString, GUID *Guid)
{
    if (GuidString->Length != GUID_TEXT_LENGTH * sizeof(WCHAR)) {
        return STATUS_INVALID_PARAMETER;
    }
    UCHAR Digits[2 * sizeof(GUID)];
    SIZE_T Count = 0;
    for (SIZE_T Index = 0; Index < GUID_TEXT_LENGTH; Index += 1) {
        const CHAR Form = RtlpGuidForm[Index];
        const WCHAR Unit = GuidString->Buffer[Index];
        if (Form == '{' || Form == '-' || Form == '}') {
            if (Unit != (UCHAR)Form) {
                return STATUS_INVALID_PARAMETER;
            }
            continue;
        }
        if (RtlpDigitOf(Unit) > 15) {
            return STATUS_INVALID_PARAMETER;
        }
        Digits[Count++] = (UCHAR)RtlpDigitOf(Unit);
    }
    UCHAR Bytes[sizeof(GUID)];
    for (SIZE_T Index = 0; Index < sizeof(GUID); Index += 1) {
        Bytes[Index] = (UCHAR)(Digits[2 * Index] << 4 | Digits[2 * Index + 1]);
    }
    Guid->Data1 = (ULONG)Bytes[0] << 24 | (ULONG)Bytes[1] << 16 | (ULONG)Bytes[2] << 8 | Bytes[3];
    Guid->Data2 = (USHORT)(Bytes[4] << 8 | Bytes[5]);
    Guid->Data3 = (USHORT)(Bytes[6] << 8 | Bytes[7]);
    RtlCopyMemory(Guid->Data4, Bytes + 8, sizeof(Guid->Data4));
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI RtlStringFromGUID(const GUID *Guid, PUNICODE_STRING GuidString)
{
    const USHORT ByteCount = (GUID_TEXT_LENGTH + 1) * sizeof(WCHAR);
    PWSTR Buffer = RtlpAllocateText(ByteCount);
    if (Buffer == NULL) {
        return STATUS_NO_MEMORY;
    }
    CrtSnwprintf(Buffer, GUID_TEXT_LENGTH + 1,
                 u"{%08X-%04hX-%04hX-%02X%02X-%02X%02X%02X%02X%02X%02X}", Guid->Data1, Guid->Data2,
                 Guid->Data3, Guid->Data4[0], Guid->Data4[1], Guid->Data4[2], Guid->Data4[3],
                 Guid->Data4[4], Guid->Data4[5], Guid->Data4[6], Guid->Data4[7]);
    *GuidString = (UNICODE_STRING){GUID_TEXT_LENGTH * sizeof(WCHAR), ByteCount, Buffer};
    return STATUS_SUCCESS;
}
