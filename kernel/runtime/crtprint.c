// The C runtime's formatted print: one engine (kernel/rtl/print.c), many rules about the end of the
// buffer.

#include "kernel/inc/crt.h"
#include "kernel/inc/rtl.h"

typedef struct _CRT_BUFFER {
    PVOID Buffer;
    SIZE_T Capacity; // in units, the terminator included if there is to be one
    SIZE_T Length;   // of the whole text, whether it fits or not
} CRT_BUFFER;

static VOID CrtpKeepBytes(PVOID Context, const CHAR *Text, SIZE_T Count)
{
    CRT_BUFFER *Target = Context;
    for (SIZE_T Index = 0; Index < Count; Index += 1, Target->Length += 1) {
        if (Target->Length < Target->Capacity) {
            ((PCHAR)Target->Buffer)[Target->Length] = Text[Index];
        }
    }
}

static VOID CrtpKeepUnits(PVOID Context, const WCHAR *Text, SIZE_T Count)
{
    CRT_BUFFER *Target = Context;
    for (SIZE_T Index = 0; Index < Count; Index += 1, Target->Length += 1) {
        if (Target->Length < Target->Capacity) {
            ((PWCHAR)Target->Buffer)[Target->Length] = Text[Index];
        }
    }
}

static VOID CrtpTerminate(const CRT_BUFFER *Target, BOOLEAN IsWide, SIZE_T Index)
{
    if (IsWide) {
        ((PWCHAR)Target->Buffer)[Index] = 0;
    } else {
        ((PCHAR)Target->Buffer)[Index] = 0;
    }
}

static VOID CrtpFormat(CRT_BUFFER *Target, BOOLEAN IsWide, const VOID *Format,
                       __builtin_ms_va_list Arguments)
{
    const RTL_FORMAT_OUTPUT Output = {IsWide ? NULL : CrtpKeepBytes, IsWide ? CrtpKeepUnits : NULL,
                                      Target, TRUE};
    RtlFormatOutput(&Output, Format, Arguments);
}

// The old forms: no terminator when the text fills the buffer or exceeds it.
static INT CrtpFormatCounted(PVOID To, SIZE_T Count, BOOLEAN IsWide, const VOID *Format,
                             __builtin_ms_va_list Arguments)
{
    CRT_BUFFER Target = {To, To != NULL ? Count : 0, 0};
    CrtpFormat(&Target, IsWide, Format, Arguments);
    if (Target.Length < Target.Capacity) {
        CrtpTerminate(&Target, IsWide, Target.Length);
    }
    // Without a buffer and a count the length is what was asked for.
    const BOOLEAN Fits = Target.Length <= Target.Capacity || (To == NULL && Count == 0);
    return Fits ? (INT)Target.Length : -1;
}

// The _s forms: at most Count units, and always a terminator.
static INT CrtpFormatSecure(PVOID To, SIZE_T ToCount, SIZE_T Count, BOOLEAN IsWide,
                            const VOID *Format, __builtin_ms_va_list Arguments)
{
    if (To == NULL || ToCount == 0 || Format == NULL) {
        return -1;
    }
    const SIZE_T Room = ToCount - 1;
    CRT_BUFFER Target = {To, Count < Room ? Count : Room, 0};
    CrtpFormat(&Target, IsWide, Format, Arguments);
    if (Target.Length <= Target.Capacity) {
        CrtpTerminate(&Target, IsWide, Target.Length);
        return (INT)Target.Length;
    }
    // Cut where the caller wanted it cut; a text that only the buffer is too small for is none.
    const BOOLEAN IsWanted = Count == CRT_TRUNCATE || Count <= Room;
    CrtpTerminate(&Target, IsWide, IsWanted ? Target.Capacity : 0);
    return -1;
}

#define CRT_NO_LIMIT ((SIZE_T)MAXLONG)

INT NTAPI CrtVsprintf(PCHAR To, PCSTR Format, __builtin_ms_va_list Arguments)
{
    return CrtpFormatCounted(To, CRT_NO_LIMIT, FALSE, Format, Arguments);
}

INT NTAPI CrtVsnprintf(PCHAR To, SIZE_T Count, PCSTR Format, __builtin_ms_va_list Arguments)
{
    return CrtpFormatCounted(To, Count, FALSE, Format, Arguments);
}

INT NTAPI CrtVswprintf(PWCHAR To, PCWSTR Format, __builtin_ms_va_list Arguments)
{
    return CrtpFormatCounted(To, CRT_NO_LIMIT, TRUE, Format, Arguments);
}

INT NTAPI CrtVsnwprintf(PWCHAR To, SIZE_T Count, PCWSTR Format, __builtin_ms_va_list Arguments)
{
    return CrtpFormatCounted(To, Count, TRUE, Format, Arguments);
}

INT NTAPI CrtVsnprintfS(PCHAR To, SIZE_T ToCount, SIZE_T Count, PCSTR Format,
                        __builtin_ms_va_list Arguments)
{
    return CrtpFormatSecure(To, ToCount, Count, FALSE, Format, Arguments);
}

INT NTAPI CrtVsprintfS(PCHAR To, SIZE_T ToCount, PCSTR Format, __builtin_ms_va_list Arguments)
{
    return CrtpFormatSecure(To, ToCount, CRT_TRUNCATE - 1, FALSE, Format, Arguments);
}

INT NTAPI CrtVsnwprintfS(PWCHAR To, SIZE_T ToCount, SIZE_T Count, PCWSTR Format,
                         __builtin_ms_va_list Arguments)
{
    return CrtpFormatSecure(To, ToCount, Count, TRUE, Format, Arguments);
}

INT NTAPI CrtVswprintfS(PWCHAR To, SIZE_T ToCount, PCWSTR Format, __builtin_ms_va_list Arguments)
{
    return CrtpFormatSecure(To, ToCount, CRT_TRUNCATE - 1, TRUE, Format, Arguments);
}

// The forms with arguments of their own: each hands its list to the one above.
#define CRT_DEFINE_VARIADIC(Call)                                                                  \
    __builtin_ms_va_list Arguments;                                                                \
    __builtin_ms_va_start(Arguments, Format);                                                      \
    const INT Length = Call;                                                                       \
    __builtin_ms_va_end(Arguments);                                                                \
    return Length

INT NTAPI CrtSprintf(PCHAR To, PCSTR Format, ...)
{
    CRT_DEFINE_VARIADIC(CrtVsprintf(To, Format, Arguments));
}

INT NTAPI CrtSnprintf(PCHAR To, SIZE_T Count, PCSTR Format, ...)
{
    CRT_DEFINE_VARIADIC(CrtVsnprintf(To, Count, Format, Arguments));
}

INT NTAPI CrtSprintfS(PCHAR To, SIZE_T ToCount, PCSTR Format, ...)
{
    CRT_DEFINE_VARIADIC(CrtVsprintfS(To, ToCount, Format, Arguments));
}

INT NTAPI CrtSnprintfS(PCHAR To, SIZE_T ToCount, SIZE_T Count, PCSTR Format, ...)
{
    CRT_DEFINE_VARIADIC(CrtVsnprintfS(To, ToCount, Count, Format, Arguments));
}

INT NTAPI CrtSwprintf(PWCHAR To, PCWSTR Format, ...)
{
    CRT_DEFINE_VARIADIC(CrtVswprintf(To, Format, Arguments));
}

INT NTAPI CrtSnwprintf(PWCHAR To, SIZE_T Count, PCWSTR Format, ...)
{
    CRT_DEFINE_VARIADIC(CrtVsnwprintf(To, Count, Format, Arguments));
}

INT NTAPI CrtSwprintfS(PWCHAR To, SIZE_T ToCount, PCWSTR Format, ...)
{
    CRT_DEFINE_VARIADIC(CrtVswprintfS(To, ToCount, Format, Arguments));
}

INT NTAPI CrtSnwprintfS(PWCHAR To, SIZE_T ToCount, SIZE_T Count, PCWSTR Format, ...)
{
    CRT_DEFINE_VARIADIC(CrtVsnwprintfS(To, ToCount, Count, Format, Arguments));
}
