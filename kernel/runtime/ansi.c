// Bytes of Latin-1 and UTF-16: as counted strings, and as raw text.

#include <rtlddk.h>

#include "kernel/runtime/runtime.h"

#define LAST_ANSI_UNIT 0xFF
#define ANSI_DEFAULT_CHARACTER '?'

static CHAR RtlpToAnsi(WCHAR Unit)
{
    return Unit <= LAST_ANSI_UNIT ? (CHAR)Unit : ANSI_DEFAULT_CHARACTER;
}

NTSTATUS NTAPI RtlMultiByteToUnicodeN(PWCHAR UnicodeString, ULONG MaxBytesInUnicodeString,
                                      PULONG BytesInUnicodeString, const CHAR *MultiByteString,
                                      ULONG BytesInMultiByteString)
{
    const ULONG Room = MaxBytesInUnicodeString / sizeof(WCHAR);
    const ULONG Count = BytesInMultiByteString < Room ? BytesInMultiByteString : Room;
    for (ULONG Index = 0; Index < Count; Index += 1) {
        UnicodeString[Index] = (UCHAR)MultiByteString[Index];
    }
    if (BytesInUnicodeString != NULL) {
        *BytesInUnicodeString = Count * sizeof(WCHAR);
    }
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI RtlUnicodeToMultiByteN(PCHAR MultiByteString, ULONG MaxBytesInMultiByteString,
                                      PULONG BytesInMultiByteString, PCWCH UnicodeString,
                                      ULONG BytesInUnicodeString)
{
    const ULONG Length = BytesInUnicodeString / sizeof(WCHAR);
    const ULONG Count = Length < MaxBytesInMultiByteString ? Length : MaxBytesInMultiByteString;
    for (ULONG Index = 0; Index < Count; Index += 1) {
        MultiByteString[Index] = RtlpToAnsi(UnicodeString[Index]);
    }
    if (BytesInMultiByteString != NULL) {
        *BytesInMultiByteString = Count;
    }
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI RtlMultiByteToUnicodeSize(PULONG BytesInUnicodeString, const CHAR *MultiByteString,
                                         ULONG BytesInMultiByteString)
{
    UNREFERENCED_PARAMETER(MultiByteString);
    *BytesInUnicodeString = BytesInMultiByteString * sizeof(WCHAR);
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI RtlUnicodeToMultiByteSize(PULONG BytesInMultiByteString, PCWCH UnicodeString,
                                         ULONG BytesInUnicodeString)
{
    UNREFERENCED_PARAMETER(UnicodeString);
    *BytesInMultiByteString = BytesInUnicodeString / sizeof(WCHAR);
    return STATUS_SUCCESS;
}

WCHAR NTAPI RtlAnsiCharToUnicodeChar(PUCHAR *SourceCharacter)
{
    const WCHAR Unit = **SourceCharacter;
    *SourceCharacter += 1;
    return Unit;
}

ULONG NTAPI RtlxAnsiStringToUnicodeSize(PCANSI_STRING AnsiString)
{
    return (AnsiString->Length + 1u) * (ULONG)sizeof(WCHAR);
}

ULONG NTAPI RtlxUnicodeStringToAnsiSize(PCUNICODE_STRING UnicodeString)
{
    return UnicodeString->Length / sizeof(WCHAR) + 1;
}

NTSTATUS NTAPI RtlAnsiStringToUnicodeString(PUNICODE_STRING DestinationString,
                                            PANSI_STRING SourceString,
                                            BOOLEAN AllocateDestinationString)
{
    const ULONG ByteCount = RtlxAnsiStringToUnicodeSize(SourceString);
    if (ByteCount > MAXUSHORT) {
        return STATUS_INVALID_PARAMETER_2;
    }
    if (AllocateDestinationString) {
        PWSTR Buffer = RtlpAllocateText(ByteCount);
        if (Buffer == NULL) {
            return STATUS_NO_MEMORY;
        }
        RtlInitEmptyUnicodeString(DestinationString, Buffer, (USHORT)ByteCount);
    } else if (ByteCount > DestinationString->MaximumLength) {
        return STATUS_BUFFER_OVERFLOW;
    }
    RtlMultiByteToUnicodeN(DestinationString->Buffer, ByteCount, NULL, SourceString->Buffer,
                           SourceString->Length);
    DestinationString->Buffer[SourceString->Length] = 0;
    DestinationString->Length = (USHORT)(ByteCount - sizeof(WCHAR));
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI RtlUnicodeStringToAnsiString(PANSI_STRING DestinationString,
                                            PCUNICODE_STRING SourceString,
                                            BOOLEAN AllocateDestinationString)
{
    const ULONG ByteCount = RtlxUnicodeStringToAnsiSize(SourceString);
    NTSTATUS Status = STATUS_SUCCESS;
    if (AllocateDestinationString) {
        PCHAR Buffer = RtlpAllocateText(ByteCount);
        if (Buffer == NULL) {
            return STATUS_NO_MEMORY;
        }
        RtlInitEmptyAnsiString(DestinationString, Buffer, (USHORT)ByteCount);
    } else if (DestinationString->MaximumLength == 0) {
        return STATUS_BUFFER_OVERFLOW;
    } else if (ByteCount > DestinationString->MaximumLength) {
        // As on NT: what fits is there, with its terminator.
        Status = STATUS_BUFFER_OVERFLOW;
    }
    ULONG Length;
    RtlUnicodeToMultiByteN(DestinationString->Buffer, DestinationString->MaximumLength - 1u,
                           &Length, SourceString->Buffer, SourceString->Length);
    DestinationString->Buffer[Length] = 0;
    DestinationString->Length = (USHORT)Length;
    return Status;
}
