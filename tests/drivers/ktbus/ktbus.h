// What the tests and ktbus agree on.
#pragma once

#define KTBUS_NAME L"\\Device\\KtBus"

// Input: a ULONG, the number of the child.
#define IOCTL_KTBUS_PLUG CTL_CODE(FILE_DEVICE_BUS_EXTENDER, 0x801, METHOD_BUFFERED, FILE_ANY_ACCESS)
#define IOCTL_KTBUS_UNPLUG                                                                         \
    CTL_CODE(FILE_DEVICE_BUS_EXTENDER, 0x802, METHOD_BUFFERED, FILE_ANY_ACCESS)
