// Private to kernel/ps.
#pragma once

#include <wdm.h>

#define PSP_CURRENT_PROCESS ((HANDLE)(LONG_PTR)-1)
#define PSP_CURRENT_THREAD ((HANDLE)(LONG_PTR)-2)
#define PSP_SYSTEM_PROCESS_ID ((HANDLE)4)

// What a driver's PsThreadType and PsProcessType are: variables that hold the type.
extern struct _OBJECT_TYPE *PspThreadTypePointer;
extern struct _OBJECT_TYPE *PspProcessTypePointer;

// process.c: the system process, and what the pseudo handles stand for.
VOID PspInitializeProcess(VOID);
PVOID PspResolvePseudoHandle(HANDLE Handle);
