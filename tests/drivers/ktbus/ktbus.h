// What the tests and ktbus agree on.
#pragma once

#define KTBUS_NAME L"\\Device\\KtBus"

// Input: a ULONG, the number of the child.
#define IOCTL_KTBUS_PLUG CTL_CODE(FILE_DEVICE_BUS_EXTENDER, 0x801, METHOD_BUFFERED, FILE_ANY_ACCESS)
#define IOCTL_KTBUS_UNPLUG                                                                         \
    CTL_CODE(FILE_DEVICE_BUS_EXTENDER, 0x802, METHOD_BUFFERED, FILE_ANY_ACCESS)

// Input: two ULONGs, the number of the child, and what it says of itself from now on (PNP_DEVICE_FAILED ...).
#define IOCTL_KTBUS_STATE                                                                          \
    CTL_CODE(FILE_DEVICE_BUS_EXTENDER, 0x803, METHOD_BUFFERED, FILE_ANY_ACCESS)

// What a child was asked and told. Input: its number; output: this.
typedef struct _KTBUS_COUNTS {
    ULONG Starts;
    ULONG Stops;
    ULONG CapabilityQueries;
    ULONG StateQueries;
} KTBUS_COUNTS;
#define IOCTL_KTBUS_COUNTS                                                                         \
    CTL_CODE(FILE_DEVICE_BUS_EXTENDER, 0x804, METHOD_BUFFERED, FILE_ANY_ACCESS)

// This child has no driver, and says that it works without one.
#define KTBUS_RAW_CHILD 3
