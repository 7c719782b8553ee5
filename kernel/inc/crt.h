// The C runtime that drivers import from ntoskrnl.exe, under its own names (kernel/ldr/exports.txt:
// `strlen = CrtStrlen`). The kernel itself uses <wdm.h> and "kernel/inc/rtl.h".
//
// All of it may be called at any IRQL at which its arguments can be touched, allocates nothing and
// keeps no state but that of rand and strtok_s. The locale is "C": letters are those of ASCII, bytes
// are Latin-1. int and long have 32 bits, wchar_t 16.
//
// The _s forms return 0 or an errno_t. A buffer that is NULL or has no bytes is CRT_EINVAL; a text
// that does not fit is CRT_ERANGE and leaves an empty one. Nothing is called (no invalid-parameter
// handler exists in a kernel).
#pragma once

#include <stddef.h>

#include <ntdef.h>

typedef INT CRT_ERROR;

#define CRT_EINVAL 22
#define CRT_ERANGE 34
#define CRT_STRUNCATE 80

#define CRT_TRUNCATE ((SIZE_T)-1) // _TRUNCATE: as much as fits

// Orders two elements: negative, 0, positive.
typedef INT(NTAPI CRT_COMPARE)(const VOID *A, const VOID *B);

//
// Memory and arrays (kernel/runtime/crtmemory.c).
//

PVOID NTAPI CrtMemcpy(PVOID To, const VOID *From, SIZE_T ByteCount);
PVOID NTAPI CrtMemmove(PVOID To, const VOID *From, SIZE_T ByteCount);
PVOID NTAPI CrtMemset(PVOID To, INT Value, SIZE_T ByteCount);
INT NTAPI CrtMemcmp(const VOID *A, const VOID *B, SIZE_T ByteCount);
PVOID NTAPI CrtMemchr(const VOID *Bytes, INT Value, SIZE_T ByteCount);
CRT_ERROR NTAPI CrtMemcpyS(PVOID To, SIZE_T ToByteCount, const VOID *From, SIZE_T ByteCount);
CRT_ERROR NTAPI CrtMemmoveS(PVOID To, SIZE_T ToByteCount, const VOID *From, SIZE_T ByteCount);
VOID NTAPI CrtQsort(PVOID Base, SIZE_T Count, SIZE_T ElementBytes, CRT_COMPARE *Compare);
PVOID NTAPI CrtBsearch(const VOID *Key, const VOID *Base, SIZE_T Count, SIZE_T ElementBytes,
                       CRT_COMPARE *Compare);
INT NTAPI CrtRand(VOID);
VOID NTAPI CrtSrand(ULONG Seed);

//
// Characters (kernel/runtime/crtcharacter.c).
//

INT NTAPI CrtIsalpha(INT Character);
INT NTAPI CrtIsalnum(INT Character);
INT NTAPI CrtIscntrl(INT Character);
INT NTAPI CrtIsdigit(INT Character);
INT NTAPI CrtIsgraph(INT Character);
INT NTAPI CrtIslower(INT Character);
INT NTAPI CrtIsprint(INT Character);
INT NTAPI CrtIspunct(INT Character);
INT NTAPI CrtIsspace(INT Character);
INT NTAPI CrtIsupper(INT Character);
INT NTAPI CrtIsxdigit(INT Character);
INT NTAPI CrtTolower(INT Character);
INT NTAPI CrtToupper(INT Character);
WCHAR NTAPI CrtTowlower(WCHAR Unit);
WCHAR NTAPI CrtTowupper(WCHAR Unit);
INT NTAPI CrtIswctype(WCHAR Unit, USHORT TypeMask);
SIZE_T NTAPI CrtMbstowcs(PWCHAR To, PCSTR From, SIZE_T UnitCount);
SIZE_T NTAPI CrtWcstombs(PCHAR To, PCWSTR From, SIZE_T ByteCount);
INT NTAPI CrtMbtowc(PWCHAR To, PCSTR From, SIZE_T ByteCount);
INT NTAPI CrtWctomb(PCHAR To, WCHAR Unit);

//
// Text: the same set for bytes and for UTF-16 units (kernel/runtime/crttext.inc).
//

#define CRT_DECLARE_TEXT(Name, UNIT)                                                               \
    SIZE_T NTAPI Name##len(const UNIT *Text);                                                      \
    SIZE_T NTAPI Name##nlen(const UNIT *Text, SIZE_T MaximumCount);                                \
    INT NTAPI Name##cmp(const UNIT *A, const UNIT *B);                                             \
    INT NTAPI Name##ncmp(const UNIT *A, const UNIT *B, SIZE_T MaximumCount);                       \
    INT NTAPI Name##icmp(const UNIT *A, const UNIT *B);                                            \
    INT NTAPI Name##nicmp(const UNIT *A, const UNIT *B, SIZE_T MaximumCount);                      \
    UNIT *NTAPI Name##cpy(UNIT *To, const UNIT *From);                                             \
    UNIT *NTAPI Name##ncpy(UNIT *To, const UNIT *From, SIZE_T Count);                              \
    UNIT *NTAPI Name##cat(UNIT *To, const UNIT *From);                                             \
    UNIT *NTAPI Name##ncat(UNIT *To, const UNIT *From, SIZE_T Count);                              \
    UNIT *NTAPI Name##chr(const UNIT *Text, INT Unit);                                             \
    UNIT *NTAPI Name##rchr(const UNIT *Text, INT Unit);                                            \
    UNIT *NTAPI Name##str(const UNIT *Text, const UNIT *Part);                                     \
    SIZE_T NTAPI Name##spn(const UNIT *Text, const UNIT *Set);                                     \
    SIZE_T NTAPI Name##cspn(const UNIT *Text, const UNIT *Set);                                    \
    UNIT *NTAPI Name##pbrk(const UNIT *Text, const UNIT *Set);                                     \
    UNIT *NTAPI Name##lwr(UNIT *Text);                                                             \
    UNIT *NTAPI Name##upr(UNIT *Text);                                                             \
    UNIT *NTAPI Name##rev(UNIT *Text);                                                             \
    UNIT *NTAPI Name##set(UNIT *Text, INT Unit);                                                   \
    UNIT *NTAPI Name##nset(UNIT *Text, INT Unit, SIZE_T Count);                                    \
    UNIT *NTAPI Name##tok_s(UNIT *Text, const UNIT *Separators, UNIT **Context);                   \
    CRT_ERROR NTAPI Name##cpy_s(UNIT *To, SIZE_T ToCount, const UNIT *From);                       \
    CRT_ERROR NTAPI Name##ncpy_s(UNIT *To, SIZE_T ToCount, const UNIT *From, SIZE_T Count);        \
    CRT_ERROR NTAPI Name##cat_s(UNIT *To, SIZE_T ToCount, const UNIT *From);                       \
    CRT_ERROR NTAPI Name##ncat_s(UNIT *To, SIZE_T ToCount, const UNIT *From, SIZE_T Count)

CRT_DECLARE_TEXT(CrtStr, CHAR);
CRT_DECLARE_TEXT(CrtWcs, WCHAR);

//
// Numbers, the same set for both (kernel/runtime/crtnumber.inc). A text that is too large a number
// gives the largest (or smallest) value; *End is behind what was read.
//

#define CRT_DECLARE_NUMBER(Name, UNIT)                                                             \
    LONG NTAPI Name##ToLong(const UNIT *Text);                                                     \
    LONG64 NTAPI Name##ToLong64(const UNIT *Text);                                                 \
    LONG NTAPI Name##ToLongBase(const UNIT *Text, UNIT **End, INT Base);                           \
    ULONG NTAPI Name##ToUlongBase(const UNIT *Text, UNIT **End, INT Base);                         \
    LONG64 NTAPI Name##ToLong64Base(const UNIT *Text, UNIT **End, INT Base);                       \
    ULONG64 NTAPI Name##ToUlong64Base(const UNIT *Text, UNIT **End, INT Base);                     \
    UNIT *NTAPI Name##FromLong(LONG Value, UNIT *Text, INT Base);                                  \
    UNIT *NTAPI Name##FromUlong(ULONG Value, UNIT *Text, INT Base);                                \
    UNIT *NTAPI Name##FromLong64(LONG64 Value, UNIT *Text, INT Base);                              \
    UNIT *NTAPI Name##FromUlong64(ULONG64 Value, UNIT *Text, INT Base);                            \
    CRT_ERROR NTAPI Name##FromLongS(LONG Value, UNIT *Text, SIZE_T Count, INT Base);               \
    CRT_ERROR NTAPI Name##FromUlongS(ULONG Value, UNIT *Text, SIZE_T Count, INT Base);             \
    CRT_ERROR NTAPI Name##FromLong64S(LONG64 Value, UNIT *Text, SIZE_T Count, INT Base);           \
    CRT_ERROR NTAPI Name##FromUlong64S(ULONG64 Value, UNIT *Text, SIZE_T Count, INT Base)

CRT_DECLARE_NUMBER(CrtStr, CHAR);
CRT_DECLARE_NUMBER(CrtWcs, WCHAR);

//
// Formatted print (kernel/runtime/crtprint.c). What the formats are: "kernel/inc/rtl.h".
//
// The counted forms without _s return -1 when the text does not fit, and then, or when it just fits,
// leave no terminator; the _s forms always terminate, and return -1 when it does not fit.
//

INT NTAPI CrtSprintf(PCHAR To, PCSTR Format, ...);
INT NTAPI CrtVsprintf(PCHAR To, PCSTR Format, __builtin_ms_va_list Arguments);
INT NTAPI CrtSnprintf(PCHAR To, SIZE_T Count, PCSTR Format, ...);
INT NTAPI CrtVsnprintf(PCHAR To, SIZE_T Count, PCSTR Format, __builtin_ms_va_list Arguments);
INT NTAPI CrtSprintfS(PCHAR To, SIZE_T ToCount, PCSTR Format, ...);
INT NTAPI CrtVsprintfS(PCHAR To, SIZE_T ToCount, PCSTR Format, __builtin_ms_va_list Arguments);
INT NTAPI CrtSnprintfS(PCHAR To, SIZE_T ToCount, SIZE_T Count, PCSTR Format, ...);
INT NTAPI CrtVsnprintfS(PCHAR To, SIZE_T ToCount, SIZE_T Count, PCSTR Format,
                        __builtin_ms_va_list Arguments);
INT NTAPI CrtSwprintf(PWCHAR To, PCWSTR Format, ...);
INT NTAPI CrtVswprintf(PWCHAR To, PCWSTR Format, __builtin_ms_va_list Arguments);
INT NTAPI CrtSnwprintf(PWCHAR To, SIZE_T Count, PCWSTR Format, ...);
INT NTAPI CrtVsnwprintf(PWCHAR To, SIZE_T Count, PCWSTR Format, __builtin_ms_va_list Arguments);
INT NTAPI CrtSwprintfS(PWCHAR To, SIZE_T ToCount, PCWSTR Format, ...);
INT NTAPI CrtVswprintfS(PWCHAR To, SIZE_T ToCount, PCWSTR Format, __builtin_ms_va_list Arguments);
INT NTAPI CrtSnwprintfS(PWCHAR To, SIZE_T ToCount, SIZE_T Count, PCWSTR Format, ...);
INT NTAPI CrtVsnwprintfS(PWCHAR To, SIZE_T ToCount, SIZE_T Count, PCWSTR Format,
                         __builtin_ms_va_list Arguments);

//
// What compilers call (kernel/runtime/crtstack.c).
//

// Before a frame of a page or more: kernel stacks are whole, so nothing is to be touched. Preserves
// every register.
VOID NTAPI CrtCheckStack(VOID);
// The body of a pure virtual function: stops the machine.
DECLSPEC_NORETURN INT NTAPI CrtPureCall(VOID);
