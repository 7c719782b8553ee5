// The kernel's own state as text, for drivers that show it to somebody: \Device\KernelState. This
// kernel's own, not NT's.
#pragma once

#include <wdm.h>
#include <ntdef.h>

// IRP_MJ_DEVICE_CONTROL, METHOD_BUFFERED; IRQL = PASSIVE_LEVEL; done when the call returns. Input: the
// name of a report, ASCII, without a terminating zero. Output: its text, lines that end with "\n", no
// terminating zero; what does not fit is left out. Information: its bytes. The report "help" lists the
// names. STATUS_OBJECT_NAME_NOT_FOUND: there is none of that name. STATUS_INVALID_PARAMETER: no name,
// or no room.
#define IOCTL_STATE_REPORT CTL_CODE(FILE_DEVICE_UNKNOWN, 0x0900, METHOD_BUFFERED, FILE_ANY_ACCESS)

#define STATE_NAME_BYTES 32 // the longest name
