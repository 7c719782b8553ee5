// The NVMe driver's own state. One device object, the top of its stack, stands for one controller
// and for the first of its namespaces that has plain blocks of 512 to 4096 bytes.
//
//   IRP --> io.c: list --> worker --> queue.c --> submission queue --> doorbell
//                            |           ^                                |
//                      list of pieces    +---- completion queue <-- controller
//                                        +---- event <-- DPC <-- interrupt routine
//
//   nvme.c: entry, PnP; controller.c: bring-up, end; memory.c: what it reaches; interrupt.c
//
// Invariants:
//   N1  Pages, and the lists of a transfer, are freed only when the controller cannot reach them: it is
//       disabled, or gone.
//   N2  An IRP is completed only when the controller has done with its MDL. An IRP whose commands
//       were not answered by a controller that does not even stop stays pending for ever, and a
//       message says so.
//   N3  Commands run in batches: a batch is filled, rung with one doorbell and drained before the
//       next begins. The command id is the place in the batch, so an entry of the ring is never
//       reused while its command runs.
//   N4  The controller is told logical addresses only: those of the common buffer Pages, and those that
//       the DMA adapter gives for the pieces of a buffer. Bounce pages make no difference.
//
// Threads and IRQL: requests wait in a list, under RequestLock. One thread, the worker, runs them one
// after the other at PASSIVE_LEVEL and sleeps while the controller works; until it takes a request, that
// can be cancelled. REMOVE waits for the remove lock, which every request holds. PnP requests come at
// PASSIVE_LEVEL, one at a time; only they use the admin queue, while there is no worker.
#pragma once

#include <wdm.h>

#include <ntdddisk.h>
#include <ntddstor.h>

#include "nvmespec.h"

#define NVME_TAG 'emvN'
#define NVME_QUEUE_ENTRIES 64  // of each queue, unless the controller offers fewer
#define NVME_BATCH_COMMANDS 16 // of which at most so many are under way

// The pages shared with the controller: one common buffer.
typedef enum _NVME_PAGE {
    NvmePageAdminSubmission,
    NvmePageAdminCompletion,
    NvmePageIoSubmission,
    NvmePageIoCompletion,
    NvmePageIdentify,
    NvmePageNamespaceList,
    NvmePageFirstPrpList, // one for each command of a batch
    NvmePageCount = NvmePageFirstPrpList + NVME_BATCH_COMMANDS,
} NVME_PAGE;

C_ASSERT(NVME_QUEUE_ENTRIES * sizeof(NVME_COMMAND) <= PAGE_SIZE);
C_ASSERT(NVME_NAMESPACE_LIST_ENTRIES * sizeof(ULONG) == PAGE_SIZE);

#define NVME_PRP_LIST_ENTRIES (PAGE_SIZE / sizeof(ULONG64))

// What one list page describes: with the first page, which is not in the list, even from an odd
// offset.
#define NVME_MAXIMUM_COMMAND_BYTES ((ULONG)(NVME_PRP_LIST_ENTRIES * PAGE_SIZE))

// Head, Tail and Phase are the driver's side of the two rings of one queue pair.
typedef struct _NVME_QUEUE {
    PNVME_COMMAND Submission;
    volatile NVME_COMPLETION *Completion;
    volatile ULONG *TailDoorbell;
    volatile ULONG *HeadDoorbell;
    USHORT Id;
    USHORT EntryCount;
    USHORT Tail;          // the next entry to fill
    USHORT Head;          // the next completion to look at
    USHORT Phase;         // what NVME_STATUS_PHASE of a new completion is
    USHORT BatchStart;    // the entry of command id 0
    USHORT BatchCount;    // commands in the batch
    ULONG UnansweredIds;  // bit n: command n of the batch has no completion yet
    NTSTATUS BatchStatus; // of the first command of the batch that failed
} NVME_QUEUE, *PNVME_QUEUE;

C_ASSERT(NVME_BATCH_COMMANDS <= 32);

// The buffer of one command of a batch, mapped for the controller.
typedef struct _NVME_TRANSFER {
    DECLSPEC_ALIGN(16) UCHAR Context[DMA_TRANSFER_CONTEXT_SIZE_V1];
    PSCATTER_GATHER_LIST List; // NULL: not mapped
    BOOLEAN WriteToDevice;
} NVME_TRANSFER, *PNVME_TRANSFER;

typedef enum _NVME_STATE {
    NvmeStopped, // no resources
    NvmeStarted, // ready for requests
    NvmeFailed,  // given up: refuses requests until it is restarted
} NVME_STATE;

typedef struct _NVME_DEVICE {
    PDEVICE_OBJECT Self;
    PDEVICE_OBJECT Lower;
    PDEVICE_OBJECT Pdo;
    NVME_STATE State;
    BOOLEAN Unstoppable; // it was told to stop, and may all the same touch memory (N1, N2)

    volatile NVME_REGISTERS *Registers;
    SIZE_T RegisterByteCount;
    ULONG64 Capabilities;

    PDMA_ADAPTER Adapter;
    ULONG MapRegisterCount; // pages that may be mapped at a time
    PUCHAR Pages;           // NvmePageCount pages; NULL: none
    PHYSICAL_ADDRESS PagesAddress;
    NVME_TRANSFER Transfers[NVME_BATCH_COMMANDS]; // of the batch, by command id

    PVOID InterruptContext; // an interrupt object or a message table; NULL: not connected
    ULONG InterruptVersion; // which of them: CONNECT_LINE_BASED or CONNECT_MESSAGE_BASED
    KDPC Dpc;
    KEVENT Answered; // set by the DPC: there may be new completions

    NVME_QUEUE AdminQueue;
    NVME_QUEUE IoQueue; // EntryCount 0: the controller does not have it

    IO_REMOVE_LOCK RemoveLock; // held by every request
    KSPIN_LOCK RequestLock;
    LIST_ENTRY Requests; // IRPs, by Tail.Overlay.ListEntry; under RequestLock
    BOOLEAN IsEnding;    // no request is taken any more, the worker goes; under RequestLock
    KEVENT WorkToDo;     // the worker shall look at the list, and at IsEnding
    PVOID Worker;        // its thread object; NULL: there is none

    ULONG NamespaceId;
    ULONG BlockShift;
    ULONG64 BlockCount;
    ULONG MaximumTransferBytes; // per command; whole pages
    CHAR SerialNumber[20 + 1];
    CHAR ModelNumber[40 + 1];
    CHAR FirmwareRevision[8 + 1];
} NVME_DEVICE, *PNVME_DEVICE;

static inline ULONG NvmeSmaller(ULONG A, ULONG B)
{
    return A < B ? A : B;
}

// nvme.c

DRIVER_INITIALIZE DriverEntry;

// controller.c

// Maps the registers that the translated resources name and makes the controller ready for
// requests. On failure everything is undone.
NTSTATUS NvmeStartDevice(PNVME_DEVICE Device, const CM_RESOURCE_LIST *Resources);

// Undoes a start, whole or partial, in reverse order.
VOID NvmeStopDevice(PNVME_DEVICE Device);

// The value of the performance counter that Milliseconds from now are over.
LONG64 NvmeDeadline(ULONG Milliseconds);
BOOLEAN NvmeHasPassed(LONG64 Deadline);

// STATUS_DEVICE_NOT_CONNECTED when the controller is gone, STATUS_DEVICE_HARDWARE_ERROR when it
// reports a fatal error.
NTSTATUS NvmeCheckHealth(const NVME_DEVICE *Device);

// Gives the controller up because of Reason. Disables it, so that it can no longer touch memory; if
// it does not let itself be disabled, sets Unstoppable.
VOID NvmeFailController(PNVME_DEVICE Device, NTSTATUS Reason);

// memory.c

// Gets the DMA adapter and the common buffer, which is zeroed. On failure NvmeFreePages frees what there
// is.
NTSTATUS NvmeAllocatePages(PNVME_DEVICE Device);
VOID NvmeFreePages(PNVME_DEVICE Device);

PVOID NvmePageVa(const NVME_DEVICE *Device, ULONG Page);
ULONG64 NvmePageAddress(const NVME_DEVICE *Device, ULONG Page); // logical

// Maps ByteCount bytes of the MDL's buffer, from Offset, for the command of this id.
// STATUS_INSUFFICIENT_RESOURCES: not now; with fewer under way it may go.
NTSTATUS NvmeMapTransfer(PNVME_DEVICE Device, ULONG CommandId, PMDL Mdl, ULONG Offset,
                         ULONG ByteCount, BOOLEAN WriteToDevice);

// Ends all transfers of the batch: the data are in the buffers then.
VOID NvmeUnmapTransfers(PNVME_DEVICE Device);

// interrupt.c

// Connects to the controller's messages, or else to its line. It must be disabled: some controllers look
// at their messages only when they are enabled.
NTSTATUS NvmeConnectInterrupt(PNVME_DEVICE Device);
VOID NvmeDisconnectInterrupt(PNVME_DEVICE Device);

// Sleeps until the controller has interrupted since the last call, for Milliseconds at most. FALSE: it
// has not.
BOOLEAN NvmeWaitForInterrupt(PNVME_DEVICE Device, ULONG Milliseconds);

// queue.c

// Makes both rings empty. The pages SubmissionPage and SubmissionPage + 1 must be zero: a phase of
// 0 means "old".
VOID NvmeInitializeQueue(const NVME_DEVICE *Device, PNVME_QUEUE Queue, USHORT Id, USHORT EntryCount,
                         ULONG SubmissionPage);

BOOLEAN NvmeIsBatchFull(const NVME_QUEUE *Queue);

// The next command of a batch that is not full, zero but for its id, which is the BatchCount before. The
// controller sees it at NvmeRunBatch.
PNVME_COMMAND NvmeAddCommand(PNVME_QUEUE Queue);

// Whether a completion has arrived that is not consumed yet. Any IRQL; Queue may be in use.
BOOLEAN NvmeHasCompletion(const NVME_QUEUE *Queue);

// Hands the batch to the controller and waits for all of it. Returns the first failure. If commands
// stay unanswered, the controller is given up (NvmeFailController).
NTSTATUS NvmeRunBatch(PNVME_DEVICE Device, PNVME_QUEUE Queue);

// io.c

// The thread that runs the requests. It ends when it has run what is left of them.
NTSTATUS NvmeStartWorker(PNVME_DEVICE Device);
VOID NvmeStopWorker(PNVME_DEVICE Device);

DRIVER_DISPATCH NvmeDispatchReadWrite;
DRIVER_DISPATCH NvmeDispatchFlush;
DRIVER_DISPATCH NvmeDispatchDeviceControl;
