// What leaver and the tests agree on.
#pragma once

// The input, a ULONG: which thing the driver makes, and leaves behind when it is unloaded.
#define IOCTL_LEAVER_MAKE CTL_CODE(FILE_DEVICE_UNKNOWN, 0x801, METHOD_BUFFERED, FILE_ANY_ACCESS)

typedef enum _LEAVER_THING {
    LeaverTimer,
    LeaverDpc, // of low importance: it waits for the clock
    LeaverWorkItem,
    LeaverThread,
} LEAVER_THING;
