// Requests to the driver of QEMU's shared memory device (ivshmem-plain). This kernel's own, not NT's.
//
// IRP_MJ_READ and IRP_MJ_WRITE move bytes at any byte offset of the memory.
#pragma once

#include <wdm.h>
#include <ntdef.h>

#define FILE_DEVICE_IVSHMEM 0x00008A10

// Output: IVSHMEM_INFORMATION.
#define IOCTL_IVSHMEM_QUERY CTL_CODE(FILE_DEVICE_IVSHMEM, 0x0800, METHOD_BUFFERED, FILE_ANY_ACCESS)

// Input: IVSHMEM_FILL. STATUS_INVALID_PARAMETER: not whole pages, or not all in the memory.
#define IOCTL_IVSHMEM_FILL CTL_CODE(FILE_DEVICE_IVSHMEM, 0x0801, METHOD_BUFFERED, FILE_ANY_ACCESS)

// The ways in which the driver maps the memory to fill it.
typedef enum _IVSHMEM_PATH {
    IvshmemWriteCombined = 1, // MmMapLockedPagesSpecifyCache
    IvshmemCached,            // the same
    IvshmemReserved,          // MmMapLockedPagesWithReservedMapping, window by window
} IVSHMEM_PATH;

typedef struct _IVSHMEM_INFORMATION {
    ULONG64 ByteCount;
} IVSHMEM_INFORMATION, *PIVSHMEM_INFORMATION;

typedef struct _IVSHMEM_FILL {
    ULONG Path; // IVSHMEM_PATH
    ULONG Reserved;
    ULONG64 Offset;
    ULONG64 ByteCount;
} IVSHMEM_FILL, *PIVSHMEM_FILL;

C_ASSERT(sizeof(IVSHMEM_INFORMATION) == 8 && sizeof(IVSHMEM_FILL) == 0x18);

// What a fill leaves in the eight bytes at Offset: which way they came, and where they are.
#define IVSHMEM_WORD(Path, Offset) (((ULONG64)(Path) << 56) | (ULONG64)(Offset))
