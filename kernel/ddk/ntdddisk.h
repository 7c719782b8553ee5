// Requests to disks (IRP_MJ_DEVICE_CONTROL, METHOD_BUFFERED), with NT's codes and layouts.
#pragma once

#include <ioddk.h>
#include <ntdef.h>

#define IOCTL_DISK_BASE FILE_DEVICE_DISK

// Output: DISK_GEOMETRY.
#define IOCTL_DISK_GET_DRIVE_GEOMETRY                                                              \
    CTL_CODE(IOCTL_DISK_BASE, 0x0000, METHOD_BUFFERED, FILE_ANY_ACCESS)
// Output: GET_LENGTH_INFORMATION.
#define IOCTL_DISK_GET_LENGTH_INFO                                                                 \
    CTL_CODE(IOCTL_DISK_BASE, 0x0017, METHOD_BUFFERED, FILE_READ_ACCESS)

// Input: VERIFY_INFORMATION. The device reads the blocks and sends nothing.
// STATUS_NOT_SUPPORTED: it cannot.
#define IOCTL_DISK_VERIFY CTL_CODE(IOCTL_DISK_BASE, 0x0005, METHOD_BUFFERED, FILE_ANY_ACCESS)
// Output and input: DISK_CACHE_INFORMATION. Setting looks at WriteCacheEnabled alone.
#define IOCTL_DISK_GET_CACHE_INFORMATION                                                           \
    CTL_CODE(IOCTL_DISK_BASE, 0x0035, METHOD_BUFFERED, FILE_READ_ACCESS)
#define IOCTL_DISK_SET_CACHE_INFORMATION                                                           \
    CTL_CODE(IOCTL_DISK_BASE, 0x0036, METHOD_BUFFERED, FILE_READ_ACCESS | FILE_WRITE_ACCESS)

typedef enum _MEDIA_TYPE {
    Unknown = 0,
    RemovableMedia = 11,
    FixedMedia = 12,
} MEDIA_TYPE;

typedef struct _DISK_GEOMETRY {
    LARGE_INTEGER Cylinders;
    MEDIA_TYPE MediaType;
    ULONG TracksPerCylinder;
    ULONG SectorsPerTrack;
    ULONG BytesPerSector;
} DISK_GEOMETRY, *PDISK_GEOMETRY;

typedef struct _GET_LENGTH_INFORMATION {
    LARGE_INTEGER Length; // in bytes
} GET_LENGTH_INFORMATION, *PGET_LENGTH_INFORMATION;

typedef struct _VERIFY_INFORMATION {
    LARGE_INTEGER StartingOffset;
    ULONG Length;
} VERIFY_INFORMATION, *PVERIFY_INFORMATION;

typedef enum _DISK_CACHE_RETENTION_PRIORITY {
    EqualPriority,
    KeepPrefetchedData,
    KeepReadData,
} DISK_CACHE_RETENTION_PRIORITY;

typedef struct _DISK_CACHE_INFORMATION {
    BOOLEAN ParametersSavable;
    BOOLEAN ReadCacheEnabled;
    BOOLEAN WriteCacheEnabled;
    DISK_CACHE_RETENTION_PRIORITY ReadRetentionPriority;
    DISK_CACHE_RETENTION_PRIORITY WriteRetentionPriority;
    USHORT DisablePrefetchTransferLength;
    BOOLEAN PrefetchScalar;
    union {
        struct {
            USHORT Minimum;
            USHORT Maximum;
            USHORT MaximumBlocks;
        } ScalarPrefetch;
        struct {
            USHORT Minimum;
            USHORT Maximum;
        } BlockPrefetch;
    };
} DISK_CACHE_INFORMATION, *PDISK_CACHE_INFORMATION;

C_ASSERT(sizeof(VERIFY_INFORMATION) == 0x10 && sizeof(DISK_CACHE_INFORMATION) == 0x18);
C_ASSERT(IOCTL_DISK_GET_DRIVE_GEOMETRY == 0x00070000 && IOCTL_DISK_GET_LENGTH_INFO == 0x0007405C);
C_ASSERT(sizeof(DISK_GEOMETRY) == 0x18 && FIELD_OFFSET(DISK_GEOMETRY, BytesPerSector) == 0x14);
C_ASSERT(sizeof(GET_LENGTH_INFORMATION) == 8);
