/*
 * stranger.h - what the driver and its callers share
 */
#ifndef STRANGER_H
#define STRANGER_H

#define STRANGER_DEVICE_NAME L"\\Device\\Stranger"
#define STRANGER_LINK_NAME L"\\DosDevices\\Stranger"

#define STRANGER_TYPE 40000

/* out: ULONG, the number of bytes in the buffer */
#define IOCTL_STRANGER_COUNT \
    CTL_CODE(STRANGER_TYPE, 0x900, METHOD_BUFFERED, FILE_ANY_ACCESS)
/* in: bytes; out: the same in reverse order */
#define IOCTL_STRANGER_REVERSE \
    CTL_CODE(STRANGER_TYPE, 0x901, METHOD_BUFFERED, FILE_ANY_ACCESS)
/* in: ULONG milliseconds; pends until they are over, or until it is cancelled */
#define IOCTL_STRANGER_WAIT \
    CTL_CODE(STRANGER_TYPE, 0x902, METHOD_BUFFERED, FILE_ANY_ACCESS)
/* in: by the system buffer; out: the sum of the bytes that the MDL describes goes to Information */
#define IOCTL_STRANGER_SUM \
    CTL_CODE(STRANGER_TYPE, 0x903, METHOD_IN_DIRECT, FILE_ANY_ACCESS)

#endif
