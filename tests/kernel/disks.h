// Disks as tests see them: by the documented requests alone.
#pragma once

#include "tests/kernel/tests.h"

typedef struct _KT_DISK {
    PDEVICE_OBJECT Device;
    ULONG64 ByteCount;
    ULONG BlockBytes;
    ULONG CommandBytes; // of one command, at most; a longer request is split
    BOOLEAN IsScratch;  // its serial number begins with SCRATCH: it may be written to
} KT_DISK, *PKT_DISK;

// The Index-th disk; FALSE: there are no more, or it does not tell what it is (a failed check).
BOOLEAN KtOpenDisk(ULONG Index, PKT_DISK Disk);

// The first disk that may be written to.
BOOLEAN KtOpenScratchDisk(PKT_DISK Disk);

// Memory in frames that are in no order, mapped: what a device puts in a wrong frame is in a wrong
// place.
typedef struct _KT_BUFFER {
    PMDL Mdl;
    PUCHAR Va;
} KT_BUFFER, *PKT_BUFFER;

BOOLEAN KtAllocateBuffer(PKT_BUFFER Buffer, ULONG ByteCount);
VOID KtFreeBuffer(PKT_BUFFER Buffer);

// An MDL for a part of a buffer, for IoFreeMdl. NULL: no pool.
PMDL KtDescribe(PVOID Va, ULONG ByteCount);

// IRP_MJ_READ or IRP_MJ_WRITE at a part of a buffer. Waits.
NTSTATUS KtTransferDisk(const KT_DISK *Disk, UCHAR MajorFunction, PVOID Va, ULONG64 Offset,
                        ULONG ByteCount);
NTSTATUS KtFlushDisk(const KT_DISK *Disk);

// Requests that are under way together. KtStartTransfer: FALSE: no memory. KtWaitForTransfer frees
// what the start allocated. StackFlags, as SL_WRITE_THROUGH, is set by who starts it, usually to 0.
typedef struct _KT_TRANSFER {
    UCHAR StackFlags;
    PIRP Irp;
    PMDL Mdl;
    KEVENT Done;
    IO_STATUS_BLOCK Result;
} KT_TRANSFER, *PKT_TRANSFER;

BOOLEAN KtStartTransfer(PKT_TRANSFER Transfer, const KT_DISK *Disk, UCHAR MajorFunction, PVOID Va,
                        ULONG64 Offset, ULONG ByteCount);
NTSTATUS KtWaitForTransfer(PKT_TRANSFER Transfer);
