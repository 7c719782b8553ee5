// What the drivers of the exception tests and the test itself (tests/kernel/t_seh.c) agree on.
//
// A check is an exported routine without arguments: 0 when all is well, otherwise the line that is not.
#pragma once

#include <wdm.h>

typedef ULONG(NTAPI SEH_ROUTINE)(PVOID Context);

// Calls Routine(Context) through frames that are not the driver's.
typedef ULONG(NTAPI SEH_BRIDGE)(SEH_ROUTINE *Routine, PVOID Context);

typedef struct _SEH_LINKS {
    SEH_BRIDGE *ThroughKernel; // through frames of the kernel
    SEH_BRIDGE *ThroughTry;    // and one of them handles by KmTry: the status is the result
    SEH_BRIDGE *ThroughGcc;    // through a driver that gcc compiled
    SEH_BRIDGE *ThroughGccTry; // and which handles by KmTry
} SEH_LINKS;

#define SEH_STATUS ((NTSTATUS)0xE0001234)
#define SEH_OTHER ((NTSTATUS)0xE0005678)
