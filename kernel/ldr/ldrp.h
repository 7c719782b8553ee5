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

//
// images.c: the loaded images.
//

// A record with these contents, which everybody sees from then on; its version is the record's own.
// NULL: all are in use.
PLDR_IMAGE LdrpPublishImage(_In_ const LDR_IMAGE *Contents);
VOID LdrpWithdrawImage(_Inout_ PLDR_IMAGE Image);

// The loaded images one after the other: the first one for NULL, behind the last one NULL.
PLDR_IMAGE LdrpNextImage(_In_opt_ const LDR_IMAGE *Previous);

ULONG LdrpIndexOfImage(_In_ const LDR_IMAGE *Image);
PLDR_IMAGE LdrpImageOfIndex(_In_ ULONG Index);
