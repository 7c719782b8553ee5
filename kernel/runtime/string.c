// Counted strings: making, copying, appending, comparing.
//
// Invariant of every routine: Length <= MaximumLength afterwards if it was so before, and nothing is
// written behind MaximumLength. A terminator is written only where it fits behind the text.

#include <rtlddk.h>

#include "kernel/inc/crt.h"
#include "kernel/runtime/runtime.h"

#define RTL_MAXIMUM_UNICODE_BYTES (UNICODE_STRING_MAX_BYTES - sizeof(WCHAR))
#define RTL_MAXIMUM_ANSI_BYTES (MAXUSHORT - 1)

NTSTATUS NTAPI RtlInitUnicodeStringEx(PUNICODE_STRING DestinationString, PCWSTR SourceString)
{
    const SIZE_T ByteCount = SourceString != NULL ? CrtWcslen(SourceString) * sizeof(WCHAR) : 0;
    if (ByteCount > RTL_MAXIMUM_UNICODE_BYTES) {
        return STATUS_NAME_TOO_LONG;
    }
    DestinationString->Length = (USHORT)ByteCount;
    DestinationString->MaximumLength =
        SourceString != NULL ? (USHORT)(ByteCount + sizeof(WCHAR)) : 0;
    DestinationString->Buffer = (PWSTR)SourceString;
    return STATUS_SUCCESS;
}

VOID NTAPI RtlInitUnicodeString(PUNICODE_STRING DestinationString, PCWSTR SourceString)
{
    if (!NT_SUCCESS(RtlInitUnicodeStringEx(DestinationString, SourceString))) {
        DestinationString->Length = RTL_MAXIMUM_UNICODE_BYTES;
        DestinationString->MaximumLength = UNICODE_STRING_MAX_BYTES;
        DestinationString->Buffer = (PWSTR)SourceString;
    }
}

NTSTATUS NTAPI RtlInitAnsiStringEx(PANSI_STRING DestinationString, PCSZ SourceString)
{
    const SIZE_T ByteCount = SourceString != NULL ? CrtStrlen(SourceString) : 0;
    if (ByteCount > RTL_MAXIMUM_ANSI_BYTES) {
        return STATUS_NAME_TOO_LONG;
    }
    DestinationString->Length = (USHORT)ByteCount;
    DestinationString->MaximumLength = SourceString != NULL ? (USHORT)(ByteCount + 1) : 0;
    DestinationString->Buffer = (PCHAR)SourceString;
    return STATUS_SUCCESS;
}

VOID NTAPI RtlInitAnsiString(PANSI_STRING DestinationString, PCSZ SourceString)
{
    if (!NT_SUCCESS(RtlInitAnsiStringEx(DestinationString, SourceString))) {
        DestinationString->Length = RTL_MAXIMUM_ANSI_BYTES;
        DestinationString->MaximumLength = MAXUSHORT;
        DestinationString->Buffer = (PCHAR)SourceString;
    }
}

VOID NTAPI RtlInitString(PSTRING DestinationString, PCSZ SourceString)
{
    RtlInitAnsiString(DestinationString, SourceString);
}

// -------------------------------------------------------------------------------------------------
// Strings in pool.

PVOID RtlpAllocateText(SIZE_T ByteCount)
{
    return ExAllocatePool2(POOL_FLAG_PAGED | POOL_FLAG_UNINITIALIZED, ByteCount, RTL_STRING_TAG);
}

BOOLEAN NTAPI RtlCreateUnicodeString(PUNICODE_STRING DestinationString, PCWSTR SourceString)
{
    UNICODE_STRING Source;
    return NT_SUCCESS(RtlInitUnicodeStringEx(&Source, SourceString)) &&
           NT_SUCCESS(
               RtlDuplicateUnicodeString(RTL_DUPLICATE_UNICODE_STRING_NULL_TERMINATE |
                                             RTL_DUPLICATE_UNICODE_STRING_ALLOCATE_NULL_STRING,
                                         &Source, DestinationString));
}

#define RTL_DUPLICATE_FLAGS                                                                        \
    (RTL_DUPLICATE_UNICODE_STRING_NULL_TERMINATE |                                                 \
     RTL_DUPLICATE_UNICODE_STRING_ALLOCATE_NULL_STRING)

NTSTATUS NTAPI RtlDuplicateUnicodeString(ULONG Flags, PCUNICODE_STRING StringIn,
                                         PUNICODE_STRING StringOut)
{
    const BOOLEAN Terminates = (Flags & RTL_DUPLICATE_UNICODE_STRING_NULL_TERMINATE) != 0;
    const BOOLEAN AllocatesEmpty = (Flags & RTL_DUPLICATE_UNICODE_STRING_ALLOCATE_NULL_STRING) != 0;
    if ((Flags & ~(ULONG)RTL_DUPLICATE_FLAGS) != 0 || (AllocatesEmpty && !Terminates) ||
        StringOut == NULL || (StringIn != NULL && StringIn->Length % sizeof(WCHAR) != 0)) {
        return STATUS_INVALID_PARAMETER;
    }
    RtlInitEmptyUnicodeString(StringOut, NULL, 0);
    const USHORT Length = StringIn != NULL ? StringIn->Length : 0;
    if (Length == 0 && !AllocatesEmpty) {
        return STATUS_SUCCESS;
    }
    if (Terminates && Length > RTL_MAXIMUM_UNICODE_BYTES) {
        return STATUS_NAME_TOO_LONG;
    }
    const USHORT Capacity = (USHORT)(Length + (Terminates ? sizeof(WCHAR) : 0));
    PWSTR Buffer = RtlpAllocateText(Capacity);
    if (Buffer == NULL) {
        return STATUS_NO_MEMORY;
    }
    if (Length > 0) {
        RtlCopyMemory(Buffer, StringIn->Buffer, Length);
    }
    if (Terminates) {
        Buffer[Length / sizeof(WCHAR)] = 0;
    }
    *StringOut = (UNICODE_STRING){Length, Capacity, Buffer};
    return STATUS_SUCCESS;
}

VOID NTAPI RtlFreeUnicodeString(PUNICODE_STRING UnicodeString)
{
    if (UnicodeString->Buffer != NULL) {
        ExFreePool(UnicodeString->Buffer);
        RtlZeroMemory(UnicodeString, sizeof(*UnicodeString));
    }
}

VOID NTAPI RtlFreeAnsiString(PANSI_STRING AnsiString)
{
    if (AnsiString->Buffer != NULL) {
        ExFreePool(AnsiString->Buffer);
        RtlZeroMemory(AnsiString, sizeof(*AnsiString));
    }
}

VOID NTAPI RtlFreeOemString(POEM_STRING OemString)
{
    RtlFreeAnsiString(OemString);
}

// -------------------------------------------------------------------------------------------------
// Copying and appending.

static VOID RtlpTerminateUnicode(PUNICODE_STRING String)
{
    if (String->Length + sizeof(WCHAR) <= String->MaximumLength) {
        String->Buffer[String->Length / sizeof(WCHAR)] = 0;
    }
}

static VOID RtlpTerminate(PSTRING String)
{
    if (String->Length < String->MaximumLength) {
        String->Buffer[String->Length] = 0;
    }
}

VOID NTAPI RtlCopyUnicodeString(PUNICODE_STRING DestinationString, PCUNICODE_STRING SourceString)
{
    if (SourceString == NULL) {
        DestinationString->Length = 0;
        return;
    }
    const USHORT Room = DestinationString->MaximumLength & ~(USHORT)1;
    const USHORT Length = SourceString->Length < Room ? SourceString->Length : Room;
    if (Length > 0) {
        RtlMoveMemory(DestinationString->Buffer, SourceString->Buffer, Length);
    }
    DestinationString->Length = Length;
    RtlpTerminateUnicode(DestinationString);
}

VOID NTAPI RtlExportCopyString(PSTRING DestinationString, const STRING *SourceString)
{
    if (SourceString == NULL) {
        DestinationString->Length = 0;
        return;
    }
    const USHORT Length = SourceString->Length < DestinationString->MaximumLength
                              ? SourceString->Length
                              : DestinationString->MaximumLength;
    if (Length > 0) {
        RtlMoveMemory(DestinationString->Buffer, SourceString->Buffer, Length);
    }
    DestinationString->Length = Length;
}

static NTSTATUS RtlpAppendUnicode(PUNICODE_STRING Destination, PCWSTR Text, SIZE_T ByteCount)
{
    if (ByteCount > (SIZE_T)Destination->MaximumLength - Destination->Length) {
        return STATUS_BUFFER_TOO_SMALL;
    }
    if (ByteCount > 0) {
        RtlMoveMemory((PUCHAR)Destination->Buffer + Destination->Length, Text, ByteCount);
        Destination->Length = (USHORT)(Destination->Length + ByteCount);
        RtlpTerminateUnicode(Destination);
    }
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI RtlAppendUnicodeStringToString(PUNICODE_STRING Destination, PCUNICODE_STRING Source)
{
    return RtlpAppendUnicode(Destination, Source->Buffer, Source->Length);
}

NTSTATUS NTAPI RtlAppendUnicodeToString(PUNICODE_STRING Destination, PCWSTR Source)
{
    return RtlpAppendUnicode(Destination, Source,
                             Source != NULL ? CrtWcslen(Source) * sizeof(WCHAR) : 0);
}

static NTSTATUS RtlpAppend(PSTRING Destination, PCSZ Text, SIZE_T ByteCount)
{
    if (ByteCount > (SIZE_T)Destination->MaximumLength - Destination->Length) {
        return STATUS_BUFFER_TOO_SMALL;
    }
    if (ByteCount > 0) {
        RtlMoveMemory(Destination->Buffer + Destination->Length, Text, ByteCount);
        Destination->Length = (USHORT)(Destination->Length + ByteCount);
        RtlpTerminate(Destination);
    }
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI RtlAppendStringToString(PSTRING Destination, const STRING *Source)
{
    return RtlpAppend(Destination, Source->Buffer, Source->Length);
}

NTSTATUS NTAPI RtlAppendAsciizToString(PSTRING Destination, PCSZ Source)
{
    return RtlpAppend(Destination, Source, Source != NULL ? CrtStrlen(Source) : 0);
}

// -------------------------------------------------------------------------------------------------
// Comparing.

static WCHAR RtlpFold(WCHAR Unit, BOOLEAN CaseInSensitive)
{
    return CaseInSensitive ? RtlUpcaseUnicodeChar(Unit) : Unit;
}

LONG NTAPI RtlCompareUnicodeStrings(PCWCH String1, SIZE_T String1Length, PCWCH String2,
                                    SIZE_T String2Length, BOOLEAN CaseInSensitive)
{
    const SIZE_T Common = String1Length < String2Length ? String1Length : String2Length;
    for (SIZE_T Index = 0; Index < Common; Index += 1) {
        const LONG Difference = (LONG)RtlpFold(String1[Index], CaseInSensitive) -
                                (LONG)RtlpFold(String2[Index], CaseInSensitive);
        if (Difference != 0) {
            return Difference;
        }
    }
    return String1Length == String2Length ? 0 : String1Length < String2Length ? -1 : 1;
}

LONG NTAPI RtlCompareUnicodeString(PCUNICODE_STRING String1, PCUNICODE_STRING String2,
                                   BOOLEAN CaseInSensitive)
{
    return RtlCompareUnicodeStrings(String1->Buffer, String1->Length / sizeof(WCHAR),
                                    String2->Buffer, String2->Length / sizeof(WCHAR),
                                    CaseInSensitive);
}

BOOLEAN NTAPI RtlEqualUnicodeString(const UNICODE_STRING *String1, const UNICODE_STRING *String2,
                                    BOOLEAN CaseInSensitive)
{
    return String1->Length == String2->Length &&
           RtlCompareUnicodeString(String1, String2, CaseInSensitive) == 0;
}

BOOLEAN NTAPI RtlPrefixUnicodeString(PCUNICODE_STRING String1, PCUNICODE_STRING String2,
                                     BOOLEAN CaseInSensitive)
{
    return String1->Length <= String2->Length &&
           RtlCompareUnicodeStrings(String1->Buffer, String1->Length / sizeof(WCHAR),
                                    String2->Buffer, String1->Length / sizeof(WCHAR),
                                    CaseInSensitive) == 0;
}

static LONG RtlpCompareBytes(PCSZ A, SIZE_T ALength, PCSZ B, SIZE_T BLength,
                             BOOLEAN CaseInSensitive)
{
    const SIZE_T Common = ALength < BLength ? ALength : BLength;
    for (SIZE_T Index = 0; Index < Common; Index += 1) {
        const LONG Difference = CaseInSensitive ? (LONG)(UCHAR)RtlUpperChar(A[Index]) -
                                                      (LONG)(UCHAR)RtlUpperChar(B[Index])
                                                : (LONG)(UCHAR)A[Index] - (LONG)(UCHAR)B[Index];
        if (Difference != 0) {
            return Difference;
        }
    }
    return ALength == BLength ? 0 : ALength < BLength ? -1 : 1;
}

LONG NTAPI RtlCompareString(const STRING *String1, const STRING *String2, BOOLEAN CaseInSensitive)
{
    return RtlpCompareBytes(String1->Buffer, String1->Length, String2->Buffer, String2->Length,
                            CaseInSensitive);
}

BOOLEAN NTAPI RtlEqualString(const STRING *String1, const STRING *String2, BOOLEAN CaseInSensitive)
{
    return String1->Length == String2->Length &&
           RtlCompareString(String1, String2, CaseInSensitive) == 0;
}

BOOLEAN NTAPI RtlPrefixString(const STRING *String1, const STRING *String2, BOOLEAN CaseInSensitive)
{
    return String1->Length <= String2->Length &&
           RtlpCompareBytes(String1->Buffer, String1->Length, String2->Buffer, String1->Length,
                            CaseInSensitive) == 0;
}

// x65599: the sum of the characters, each time multiplied by this.
#define RTL_HASH_MULTIPLIER 65599

NTSTATUS NTAPI RtlHashUnicodeString(const UNICODE_STRING *String, BOOLEAN CaseInSensitive,
                                    ULONG HashAlgorithm, PULONG HashValue)
{
    if (String == NULL || HashValue == NULL || HashAlgorithm > HASH_STRING_ALGORITHM_X65599) {
        return STATUS_INVALID_PARAMETER;
    }
    ULONG Hash = 0;
    for (SIZE_T Index = 0; Index < String->Length / sizeof(WCHAR); Index += 1) {
        Hash = Hash * RTL_HASH_MULTIPLIER + RtlpFold(String->Buffer[Index], CaseInSensitive);
    }
    *HashValue = Hash;
    return STATUS_SUCCESS;
}

// -------------------------------------------------------------------------------------------------
// Case.

typedef WCHAR(NTAPI *PRTL_MAP_UNIT)(WCHAR Unit);

static NTSTATUS RtlpMapString(PUNICODE_STRING Destination, PCUNICODE_STRING Source,
                              BOOLEAN Allocates, PRTL_MAP_UNIT Map)
{
    if (Allocates) {
        PWSTR Buffer = RtlpAllocateText(Source->Length > 0 ? Source->Length : sizeof(WCHAR));
        if (Buffer == NULL) {
            return STATUS_NO_MEMORY;
        }
        RtlInitEmptyUnicodeString(Destination, Buffer, Source->Length);
    } else if (Source->Length > Destination->MaximumLength) {
        return STATUS_BUFFER_OVERFLOW;
    }
    for (SIZE_T Index = 0; Index < Source->Length / sizeof(WCHAR); Index += 1) {
        Destination->Buffer[Index] = Map(Source->Buffer[Index]);
    }
    Destination->Length = Source->Length;
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI RtlUpcaseUnicodeString(PUNICODE_STRING DestinationString,
                                      PCUNICODE_STRING SourceString,
                                      BOOLEAN AllocateDestinationString)
{
    return RtlpMapString(DestinationString, SourceString, AllocateDestinationString,
                         RtlUpcaseUnicodeChar);
}

NTSTATUS NTAPI RtlDowncaseUnicodeString(PUNICODE_STRING DestinationString,
                                        PCUNICODE_STRING SourceString,
                                        BOOLEAN AllocateDestinationString)
{
    return RtlpMapString(DestinationString, SourceString, AllocateDestinationString,
                         RtlDowncaseUnicodeChar);
}

VOID NTAPI RtlUpperString(PSTRING DestinationString, const STRING *SourceString)
{
    const USHORT Length = SourceString->Length < DestinationString->MaximumLength
                              ? SourceString->Length
                              : DestinationString->MaximumLength;
    for (USHORT Index = 0; Index < Length; Index += 1) {
        DestinationString->Buffer[Index] = RtlUpperChar(SourceString->Buffer[Index]);
    }
    DestinationString->Length = Length;
}
