// Rtl for drivers: strings, bitmaps, tables, time, versions, memory.
//
// Strings. Lengths are in bytes. Routines that compare without regard to case, upcase or downcase
// know the simple pairs of Latin, Greek, Cyrillic, Armenian and the full-width forms (ours: a table
// of ranges; NT has a larger one). The ANSI and the OEM code page are Latin-1 (ours): byte n is
// U+00nn, and what has no byte becomes '?'. What is allocated comes from paged pool and is freed by
// RtlFreeUnicodeString or RtlFreeAnsiString: IRQL = PASSIVE_LEVEL for those that may allocate, any
// IRQL at which the buffers can be touched for the others.
#pragma once

#include <ntdef.h>
#include <ntstatus.h>

#include <keddk.h>

typedef const CHAR *PCSZ;
typedef const WCHAR *PCWCH;

// The layout of UNICODE_STRING, with bytes.
typedef struct _STRING {
    USHORT Length;
    USHORT MaximumLength;
    PCHAR Buffer;
} STRING, *PSTRING, ANSI_STRING, *PANSI_STRING, OEM_STRING, *POEM_STRING;
typedef const STRING *PCANSI_STRING, *PCOEM_STRING;

C_ASSERT(sizeof(STRING) == 0x10 && FIELD_OFFSET(STRING, Buffer) == 8);

#define UNICODE_NULL ((WCHAR)0)
#define ANSI_NULL ((CHAR)0)
#define UNICODE_STRING_MAX_BYTES ((USHORT)65534)
#define UNICODE_STRING_MAX_CHARS 32767

// -------------------------------------------------------------------------------------------------
// Making strings. The source must outlive the string.

// A NULL source makes an empty string. A source of more than 65,532 bytes is cut.
VOID NTAPI RtlInitUnicodeString(_Out_ PUNICODE_STRING DestinationString,
                                _In_opt_z_ PCWSTR SourceString);
VOID NTAPI RtlInitAnsiString(_Out_ PANSI_STRING DestinationString, _In_opt_z_ PCSZ SourceString);
VOID NTAPI RtlInitString(_Out_ PSTRING DestinationString, _In_opt_z_ PCSZ SourceString);

// STATUS_NAME_TOO_LONG: the source has more than 65,532 bytes.
NTSTATUS NTAPI RtlInitUnicodeStringEx(_Out_ PUNICODE_STRING DestinationString,
                                      _In_opt_z_ PCWSTR SourceString);
NTSTATUS NTAPI RtlInitAnsiStringEx(_Out_ PANSI_STRING DestinationString,
                                   _In_opt_z_ PCSZ SourceString);

FORCEINLINE VOID RtlInitEmptyUnicodeString(_Out_ PUNICODE_STRING UnicodeString, _In_ PWSTR Buffer,
                                           _In_ USHORT BufferSize)
{
    UnicodeString->Length = 0;
    UnicodeString->MaximumLength = BufferSize;
    UnicodeString->Buffer = Buffer;
}

FORCEINLINE VOID RtlInitEmptyAnsiString(_Out_ PANSI_STRING AnsiString, _In_ PCHAR Buffer,
                                        _In_ USHORT BufferSize)
{
    AnsiString->Length = 0;
    AnsiString->MaximumLength = BufferSize;
    AnsiString->Buffer = Buffer;
}

// A copy in paged pool, terminated; FALSE: no memory, or too long.
_Must_inspect_result_ BOOLEAN NTAPI RtlCreateUnicodeString(_Out_ PUNICODE_STRING DestinationString,
                                                           _In_z_ PCWSTR SourceString);

#define RTL_DUPLICATE_UNICODE_STRING_NULL_TERMINATE 1
#define RTL_DUPLICATE_UNICODE_STRING_ALLOCATE_NULL_STRING 2

// A copy in paged pool. STATUS_NO_MEMORY; STATUS_INVALID_PARAMETER: unknown flags, or the second
// one without the first; STATUS_NAME_TOO_LONG: no room for the terminator.
_Must_inspect_result_ NTSTATUS NTAPI RtlDuplicateUnicodeString(_In_ ULONG Flags,
                                                               _In_ PCUNICODE_STRING StringIn,
                                                               _Out_ PUNICODE_STRING StringOut);

// Free the buffer, if there is one, and empty the string.
VOID NTAPI RtlFreeUnicodeString(_Inout_ PUNICODE_STRING UnicodeString);
VOID NTAPI RtlFreeAnsiString(_Inout_ PANSI_STRING AnsiString);
VOID NTAPI RtlFreeOemString(_Inout_ POEM_STRING OemString);

// -------------------------------------------------------------------------------------------------
// Copying and appending. A terminator is added where there is room for it.

// As much as fits; a NULL source empties the destination.
VOID NTAPI RtlCopyUnicodeString(_Inout_ PUNICODE_STRING DestinationString,
                                _In_opt_ PCUNICODE_STRING SourceString);

// STATUS_BUFFER_TOO_SMALL: it does not fit, and nothing was appended.
NTSTATUS NTAPI RtlAppendUnicodeStringToString(_Inout_ PUNICODE_STRING Destination,
                                              _In_ PCUNICODE_STRING Source);
NTSTATUS NTAPI RtlAppendUnicodeToString(_Inout_ PUNICODE_STRING Destination,
                                        _In_opt_z_ PCWSTR Source);
NTSTATUS NTAPI RtlAppendStringToString(_Inout_ PSTRING Destination, _In_ const STRING *Source);
NTSTATUS NTAPI RtlAppendAsciizToString(_Inout_ PSTRING Destination, _In_opt_z_ PCSZ Source);

// -------------------------------------------------------------------------------------------------
// Comparing.

// Negative, 0, positive; a string that another one begins with comes first.
LONG NTAPI RtlCompareUnicodeString(_In_ PCUNICODE_STRING String1, _In_ PCUNICODE_STRING String2,
                                   _In_ BOOLEAN CaseInSensitive);
// Lengths in characters.
LONG NTAPI RtlCompareUnicodeStrings(_In_reads_(String1Length) PCWCH String1,
                                    _In_ SIZE_T String1Length,
                                    _In_reads_(String2Length) PCWCH String2,
                                    _In_ SIZE_T String2Length, _In_ BOOLEAN CaseInSensitive);
BOOLEAN NTAPI RtlEqualUnicodeString(_In_ const UNICODE_STRING *String1,
                                    _In_ const UNICODE_STRING *String2,
                                    _In_ BOOLEAN CaseInSensitive);
// Whether String2 begins with String1.
BOOLEAN NTAPI RtlPrefixUnicodeString(_In_ PCUNICODE_STRING String1, _In_ PCUNICODE_STRING String2,
                                     _In_ BOOLEAN CaseInSensitive);

LONG NTAPI RtlCompareString(_In_ const STRING *String1, _In_ const STRING *String2,
                            _In_ BOOLEAN CaseInSensitive);
BOOLEAN NTAPI RtlEqualString(_In_ const STRING *String1, _In_ const STRING *String2,
                             _In_ BOOLEAN CaseInSensitive);
BOOLEAN NTAPI RtlPrefixString(_In_ const STRING *String1, _In_ const STRING *String2,
                              _In_ BOOLEAN CaseInSensitive);

#define HASH_STRING_ALGORITHM_DEFAULT 0
#define HASH_STRING_ALGORITHM_X65599 1
#define HASH_STRING_ALGORITHM_INVALID 0xFFFFFFFF

// STATUS_INVALID_PARAMETER: no string, no place for the value, or an unknown algorithm.
NTSTATUS NTAPI RtlHashUnicodeString(_In_ const UNICODE_STRING *String, _In_ BOOLEAN CaseInSensitive,
                                    _In_ ULONG HashAlgorithm, _Out_ PULONG HashValue);

// -------------------------------------------------------------------------------------------------
// Case.

WCHAR NTAPI RtlUpcaseUnicodeChar(_In_ WCHAR SourceCharacter);
WCHAR NTAPI RtlDowncaseUnicodeChar(_In_ WCHAR SourceCharacter);
CHAR NTAPI RtlUpperChar(_In_ CHAR Character);
VOID NTAPI RtlUpperString(_Inout_ PSTRING DestinationString, _In_ const STRING *SourceString);

// STATUS_BUFFER_OVERFLOW: it does not fit; STATUS_NO_MEMORY.
NTSTATUS NTAPI RtlUpcaseUnicodeString(_Inout_ PUNICODE_STRING DestinationString,
                                      _In_ PCUNICODE_STRING SourceString,
                                      _In_ BOOLEAN AllocateDestinationString);
NTSTATUS NTAPI RtlDowncaseUnicodeString(_Inout_ PUNICODE_STRING DestinationString,
                                        _In_ PCUNICODE_STRING SourceString,
                                        _In_ BOOLEAN AllocateDestinationString);

// -------------------------------------------------------------------------------------------------
// From bytes to UTF-16 and back. STATUS_BUFFER_OVERFLOW: it does not fit; STATUS_NO_MEMORY: there
// was none; STATUS_INVALID_PARAMETER_2: the result would be longer than a string can be.

NTSTATUS NTAPI RtlAnsiStringToUnicodeString(_Inout_ PUNICODE_STRING DestinationString,
                                            _In_ PANSI_STRING SourceString,
                                            _In_ BOOLEAN AllocateDestinationString);
NTSTATUS NTAPI RtlUnicodeStringToAnsiString(_Inout_ PANSI_STRING DestinationString,
                                            _In_ PCUNICODE_STRING SourceString,
                                            _In_ BOOLEAN AllocateDestinationString);

// Bytes that the converted string needs, its terminator included.
ULONG NTAPI RtlxAnsiStringToUnicodeSize(_In_ PCANSI_STRING AnsiString);
ULONG NTAPI RtlxUnicodeStringToAnsiSize(_In_ PCUNICODE_STRING UnicodeString);

WCHAR NTAPI RtlAnsiCharToUnicodeChar(_Inout_ PUCHAR *SourceCharacter);

// Raw text without terminators; what does not fit is left out.
NTSTATUS NTAPI RtlMultiByteToUnicodeN(_Out_ PWCHAR UnicodeString,
                                      _In_ ULONG MaxBytesInUnicodeString,
                                      _Out_opt_ PULONG BytesInUnicodeString,
                                      _In_ const CHAR *MultiByteString,
                                      _In_ ULONG BytesInMultiByteString);
NTSTATUS NTAPI RtlUnicodeToMultiByteN(_Out_ PCHAR MultiByteString,
                                      _In_ ULONG MaxBytesInMultiByteString,
                                      _Out_opt_ PULONG BytesInMultiByteString,
                                      _In_ PCWCH UnicodeString, _In_ ULONG BytesInUnicodeString);
NTSTATUS NTAPI RtlMultiByteToUnicodeSize(_Out_ PULONG BytesInUnicodeString,
                                         _In_ const CHAR *MultiByteString,
                                         _In_ ULONG BytesInMultiByteString);
NTSTATUS NTAPI RtlUnicodeToMultiByteSize(_Out_ PULONG BytesInMultiByteString,
                                         _In_ PCWCH UnicodeString, _In_ ULONG BytesInUnicodeString);

// A NULL destination asks for the length. STATUS_BUFFER_TOO_SMALL: not all of it fits.
// STATUS_SOME_NOT_MAPPED (a success): the source was not well formed, and U+FFFD stands for what was
// wrong. STATUS_INVALID_PARAMETER_4, _5: no source, or half a character of it.
NTSTATUS NTAPI RtlUnicodeToUTF8N(_Out_ PCHAR UTF8StringDestination,
                                 _In_ ULONG UTF8StringMaxByteCount,
                                 _Out_ PULONG UTF8StringActualByteCount,
                                 _In_ PCWCH UnicodeStringSource, _In_ ULONG UnicodeStringByteCount);
NTSTATUS NTAPI RtlUTF8ToUnicodeN(_Out_ PWSTR UnicodeStringDestination,
                                 _In_ ULONG UnicodeStringMaxByteCount,
                                 _Out_ PULONG UnicodeStringActualByteCount,
                                 _In_ PCCH UTF8StringSource, _In_ ULONG UTF8StringByteCount);

// -------------------------------------------------------------------------------------------------
// Numbers and GUIDs as text.

// Base 0 takes it from the text: 0x, 0o, 0b, else 10; blanks and a sign may come first, and what is
// no digit ends the number. STATUS_INVALID_PARAMETER: no such base.
NTSTATUS NTAPI RtlUnicodeStringToInteger(_In_ PCUNICODE_STRING String, _In_ ULONG Base,
                                         _Out_ PULONG Value);
NTSTATUS NTAPI RtlCharToInteger(_In_z_ PCSZ String, _In_ ULONG Base, _Out_ PULONG Value);

// Base 2, 8, 10, 16; 0 is 10. STATUS_BUFFER_OVERFLOW: it does not fit. STATUS_INVALID_PARAMETER: no
// such base.
NTSTATUS NTAPI RtlIntegerToUnicodeString(_In_ ULONG Value, _In_ ULONG Base,
                                         _Inout_ PUNICODE_STRING String);
NTSTATUS NTAPI RtlInt64ToUnicodeString(_In_ ULONGLONG Value, _In_ ULONG Base,
                                       _Inout_ PUNICODE_STRING String);

// "{xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx}" and back. STATUS_INVALID_PARAMETER: another form.
NTSTATUS NTAPI RtlGUIDFromString(_In_ PUNICODE_STRING GuidString, _Out_ GUID *Guid);
// The caller frees the string with RtlFreeUnicodeString. STATUS_NO_MEMORY.
NTSTATUS NTAPI RtlStringFromGUID(_In_ const GUID *Guid, _Out_ PUNICODE_STRING GuidString);

// -------------------------------------------------------------------------------------------------
// Memory.

// How many bytes are equal before the first that differs.
SIZE_T NTAPI RtlCompareMemory(_In_ const VOID *Source1, _In_ const VOID *Source2,
                              _In_ SIZE_T Length);
// How many bytes of whole ULONGs equal Pattern.
SIZE_T NTAPI RtlCompareMemoryUlong(_In_ PVOID Source, _In_ SIZE_T Length, _In_ ULONG Pattern);
// Here an ordinary copy (ours).
VOID NTAPI RtlCopyMemoryNonTemporal(_Out_ VOID *Destination, _In_ const VOID *Source,
                                    _In_ SIZE_T Length);
// A hint; nothing is done (ours).
VOID FASTCALL RtlPrefetchMemoryNonTemporal(_In_ PVOID Source, _In_ SIZE_T Length);

USHORT FASTCALL RtlUshortByteSwap(_In_ USHORT Source);
ULONG FASTCALL RtlUlongByteSwap(_In_ ULONG Source);
ULONGLONG FASTCALL RtlUlonglongByteSwap(_In_ ULONGLONG Source);

// The number of the highest (lowest) set bit, or -1.
CCHAR NTAPI RtlFindMostSignificantBit(_In_ ULONGLONG Set);
CCHAR NTAPI RtlFindLeastSignificantBit(_In_ ULONGLONG Set);
ULONG NTAPI RtlNumberOfSetBitsUlongPtr(_In_ ULONG_PTR Target);

// Pseudo-random numbers below MAXLONG; *Seed is the state, and new afterwards.
ULONG NTAPI RtlRandom(_Inout_ PULONG Seed);
ULONG NTAPI RtlRandomEx(_Inout_ PULONG Seed);

// CRC-32 as in Ethernet; InitialCrc is 0, or what the last call returned.
ULONG NTAPI RtlComputeCrc32(_In_ ULONG InitialCrc, _In_ PUCHAR Buffer, _In_ ULONG Length);

// -------------------------------------------------------------------------------------------------
// Bitmaps of ULONGs; bit n is bit n % 32 of ULONG n / 32. The caller serialises and owns the
// buffer. The routines that the kernel has under the same name for bitmaps of its own are not
// declared here.

typedef struct _RTL_BITMAP {
    ULONG SizeOfBitMap; // in bits
    PULONG Buffer;
} RTL_BITMAP, *PRTL_BITMAP;

typedef struct _RTL_BITMAP_RUN {
    ULONG StartingIndex;
    ULONG NumberOfBits;
} RTL_BITMAP_RUN, *PRTL_BITMAP_RUN;

VOID NTAPI RtlInitializeBitMap(_Out_ PRTL_BITMAP BitMapHeader, _In_ PULONG BitMapBuffer,
                               _In_ ULONG SizeOfBitMap);
VOID NTAPI RtlClearAllBits(_In_ PRTL_BITMAP BitMapHeader);
VOID NTAPI RtlSetAllBits(_In_ PRTL_BITMAP BitMapHeader);
VOID NTAPI RtlClearBit(_In_ PRTL_BITMAP BitMapHeader, _In_ ULONG BitNumber);
VOID NTAPI RtlSetBit(_In_ PRTL_BITMAP BitMapHeader, _In_ ULONG BitNumber);
ULONG NTAPI RtlNumberOfClearBits(_In_ PRTL_BITMAP BitMapHeader);
ULONG NTAPI RtlNumberOfSetBits(_In_ PRTL_BITMAP BitMapHeader);

// The start of a run of NumberToFind such bits: looked for from HintIndex to the end, then from the
// beginning. 0xFFFFFFFF: there is none. 0 bits are found at HintIndex, or at 0 when that is outside.
ULONG NTAPI RtlFindClearBits(_In_ PRTL_BITMAP BitMapHeader, _In_ ULONG NumberToFind,
                             _In_ ULONG HintIndex);
ULONG NTAPI RtlFindSetBits(_In_ PRTL_BITMAP BitMapHeader, _In_ ULONG NumberToFind,
                           _In_ ULONG HintIndex);
// The same, and changes the bits that it finds.
ULONG NTAPI RtlFindClearBitsAndSet(_In_ PRTL_BITMAP BitMapHeader, _In_ ULONG NumberToFind,
                                   _In_ ULONG HintIndex);
ULONG NTAPI RtlFindSetBitsAndClear(_In_ PRTL_BITMAP BitMapHeader, _In_ ULONG NumberToFind,
                                   _In_ ULONG HintIndex);

// Runs of clear bits: their length is returned, 0 when there is none.
ULONG NTAPI RtlFindFirstRunClear(_In_ PRTL_BITMAP BitMapHeader, _Out_ PULONG StartingIndex);
ULONG NTAPI RtlFindLongestRunClear(_In_ PRTL_BITMAP BitMapHeader, _Out_ PULONG StartingIndex);
ULONG NTAPI RtlFindNextForwardRunClear(_In_ PRTL_BITMAP BitMapHeader, _In_ ULONG FromIndex,
                                       _Out_ PULONG StartingRunIndex);
// The run that ends at or before FromIndex.
ULONG NTAPI RtlFindLastBackwardRunClear(_In_ PRTL_BITMAP BitMapHeader, _In_ ULONG FromIndex,
                                        _Out_ PULONG StartingRunIndex);
// Up to SizeOfRunArray runs: the first ones, or the longest ones in falling order. Returns how many.
ULONG NTAPI RtlFindClearRuns(_In_ PRTL_BITMAP BitMapHeader, _Out_ PRTL_BITMAP_RUN RunArray,
                             _In_ ULONG SizeOfRunArray, _In_ BOOLEAN LocateLongestRuns);

// -------------------------------------------------------------------------------------------------
// Time: 100 ns since 1601, as fields, as seconds since 1970 or 1980. No time zone is known: local
// time is system time (ours).

typedef struct _TIME_FIELDS {
    CSHORT Year;
    CSHORT Month; // 1 .. 12
    CSHORT Day;   // 1 .. 31
    CSHORT Hour;
    CSHORT Minute;
    CSHORT Second;
    CSHORT Milliseconds;
    CSHORT Weekday; // 0: Sunday
} TIME_FIELDS, *PTIME_FIELDS;

VOID NTAPI RtlTimeToTimeFields(_In_ PLARGE_INTEGER Time, _Out_ PTIME_FIELDS TimeFields);
// FALSE: no such date or time. Weekday is ignored.
BOOLEAN NTAPI RtlTimeFieldsToTime(_In_ PTIME_FIELDS TimeFields, _Out_ PLARGE_INTEGER Time);
// FALSE: before that year, or too late for 32 bits.
BOOLEAN NTAPI RtlTimeToSecondsSince1970(_In_ PLARGE_INTEGER Time, _Out_ PULONG ElapsedSeconds);
BOOLEAN NTAPI RtlTimeToSecondsSince1980(_In_ PLARGE_INTEGER Time, _Out_ PULONG ElapsedSeconds);
VOID NTAPI RtlSecondsSince1970ToTime(_In_ ULONG ElapsedSeconds, _Out_ PLARGE_INTEGER Time);
VOID NTAPI RtlSecondsSince1980ToTime(_In_ ULONG ElapsedSeconds, _Out_ PLARGE_INTEGER Time);
