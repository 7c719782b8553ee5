// What the files of the loader tell each other.
#pragma once

#include <wdm.h>

#include "kernel/inc/ldr.h"

//
// export.c: the kernel's exports.
//

typedef struct _LDRP_EXPORT {
    PCSTR Name;
    PVOID Address; // of the routine, or of the variable
} LDRP_EXPORT;

// Made by makeexports.py, ascending by name.
extern const LDRP_EXPORT LdrpExports[];
extern const ULONG LdrpExportCount;

// Negative, 0 or positive: A comes before B, is the same, comes behind it; byte by byte.
static inline LONG LdrpCompareNames(PCSTR A, PCSTR B)
{
    while (*A != 0 && *A == *B) {
        A += 1;
        B += 1;
    }
    return (LONG)(UCHAR)*A - (LONG)(UCHAR)*B;
}
