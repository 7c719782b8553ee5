// Private to kernel/ex: data that images import.
#pragma once

#include <seddk.h>

#define EXP_HAL_ROUTINES 31

// The HAL's table of routines: nothing of it is supported.
typedef struct _EXP_HAL_DISPATCH {
    ULONG Version;
    PVOID Routines[EXP_HAL_ROUTINES];
} EXP_HAL_DISPATCH;

extern EXP_HAL_DISPATCH HalDispatchTable;
