// NVMe controllers beyond what every disk has: queues of one's own. This kernel's own, not NT's.
//
// An IRP to a disk is convenient, and pays for it. Who wants the last instruction asks the
// controller's device for NVME_QUEUE_INTERFACE (IRP_MN_QUERY_INTERFACE), opens a queue pair, and gives
// it commands in batches, with logical addresses that are mapped before.
//
//   OpenQueue --> GetAdapter --> map buffers: lists --> Submit(n commands) --> Done of each
//                                                        Poll, if the queue is polled
//
// Nothing is allocated and no register is read between Submit and Done.
#pragma once

#include <wdm.h>
#include <ntdef.h>

// -------------------------------------------------------------------------------------------------
// Counters of one queue pair. They only grow, and are exact while the queue is idle.

typedef struct _NVME_QUEUE_COUNTERS {
    ULONG64 Commands;           // put into the submission queue
    ULONG64 Completions;        // taken from the completion queue
    ULONG64 TailDoorbells;      // registers written: submission
    ULONG64 HeadDoorbells;      // registers written: completion
    ULONG64 SavedDoorbells;     // that shadow doorbells made unnecessary
    ULONG64 Interrupts;         // calls of the interrupt routine for this queue
    ULONG64 Reaps;              // passes that found completions
    ULONG64 Errors;             // completions with a status other than success
    ULONG64 Retries;            // commands that were given to the controller once more
    ULONG64 Timeouts;           // commands that were not answered in time
    ULONG64 MissedInterrupts;   // completions that nobody had announced
    ULONG64 UnknownCompletions; // for a command that was not under way, or was given up
    ULONG64 Waits;              // requests that had to wait for a tracker or a map register
} NVME_QUEUE_COUNTERS, *PNVME_QUEUE_COUNTERS;

// -------------------------------------------------------------------------------------------------
// Recovery. Requests to a controller's device, or to one of its disks.

typedef enum _NVME_RESET_KIND {
    NvmeControllerReset = 1, // CC.EN; what follows if that is not obeyed
    NvmeFunctionReset = 2,   // of the PCI function
} NVME_RESET_KIND;

// Resets the controller; commands that are under way are given to it once more. Input: NVME_RESET.
// STATUS_DEVICE_NOT_READY: it is not started. STATUS_DEVICE_DOES_NOT_EXIST, STATUS_DEVICE_HARDWARE_ERROR:
// it did not come back.
#define IOCTL_NVME_RESET                                                                           \
    CTL_CODE(FILE_DEVICE_CONTROLLER, 0x0A00, METHOD_BUFFERED, FILE_READ_ACCESS | FILE_WRITE_ACCESS)

// How long a command may take: it is aborted then, and after as much again the controller is reset.
// Input: NVME_TIMEOUT. STATUS_INVALID_PARAMETER: not from 100 to 600,000 milliseconds.
#define IOCTL_NVME_SET_TIMEOUT                                                                     \
    CTL_CODE(FILE_DEVICE_CONTROLLER, 0x0A01, METHOD_BUFFERED, FILE_READ_ACCESS | FILE_WRITE_ACCESS)

// Output: NVME_RECOVERY_COUNTERS.
#define IOCTL_NVME_QUERY_RECOVERY                                                                  \
    CTL_CODE(FILE_DEVICE_CONTROLLER, 0x0A02, METHOD_BUFFERED, FILE_ANY_ACCESS)

typedef struct _NVME_RESET {
    ULONG Kind; // NVME_RESET_KIND
} NVME_RESET, *PNVME_RESET;

typedef struct _NVME_TIMEOUT {
    ULONG Milliseconds;
} NVME_TIMEOUT, *PNVME_TIMEOUT;

// Since the device was started.
typedef struct _NVME_RECOVERY_COUNTERS {
    ULONG64 Resets;          // after which the controller worked again
    ULONG64 FunctionResets;  // tried
    ULONG64 Aborts;          // Abort commands
    ULONG64 AbortedCommands; // ... that the controller carried out
    ULONG64 FatalErrors;     // CSTS.CFS
    ULONG64 ProtocolErrors;  // completions of nothing, and such
    ULONG64
    LostCommands; // that never end, because the controller cannot be stopped: their memory is lost
    ULONG64 LostPages; // of admin commands that were not answered: until the next reset
} NVME_RECOVERY_COUNTERS, *PNVME_RECOVERY_COUNTERS;

// -------------------------------------------------------------------------------------------------
// Blocks. Requests to a disk. STATUS_NOT_SUPPORTED: the controller does not offer that.
// STATUS_INVALID_PARAMETER: not whole blocks, or none. STATUS_NONEXISTENT_SECTOR: not all on the disk.

// Writes zeroes without sending them. Input: NVME_WRITE_ZEROES.
#define IOCTL_NVME_WRITE_ZEROES                                                                    \
    CTL_CODE(FILE_DEVICE_CONTROLLER, 0x0A10, METHOD_BUFFERED, FILE_WRITE_ACCESS)

// Has the controller compare blocks with the buffer, which is as long as the range. Input:
// NVME_COMPARE. STATUS_DATA_ERROR: they differ.
#define IOCTL_NVME_COMPARE                                                                         \
    CTL_CODE(FILE_DEVICE_CONTROLLER, 0x0A11, METHOD_IN_DIRECT, FILE_READ_ACCESS)

// Erases the disk and gives its blocks another size, or the same. Until that is done, requests to the disk
// fail with STATUS_DEVICE_BUSY. Input: NVME_FORMAT. STATUS_NOT_SUPPORTED: there is no such format.
#define IOCTL_NVME_FORMAT                                                                          \
    CTL_CODE(FILE_DEVICE_CONTROLLER, 0x0A12, METHOD_BUFFERED, FILE_READ_ACCESS | FILE_WRITE_ACCESS)

#define NVME_ZEROES_DEALLOCATE 0x1        // the blocks may be given back
#define NVME_ZEROES_FORCE_UNIT_ACCESS 0x2 // the zeroes are on the medium at the end

typedef struct _NVME_WRITE_ZEROES {
    ULONG64 ByteOffset;
    ULONG64 ByteCount;
    ULONG Flags;
    ULONG Reserved;
} NVME_WRITE_ZEROES, *PNVME_WRITE_ZEROES;

typedef struct _NVME_COMPARE {
    ULONG64 ByteOffset;
} NVME_COMPARE, *PNVME_COMPARE;

typedef enum _NVME_ERASE { NvmeEraseNothing, NvmeEraseData, NvmeEraseByKey } NVME_ERASE;

typedef struct _NVME_FORMAT {
    ULONG BlockBytes;
    ULONG Erase; // NVME_ERASE: how thoroughly
} NVME_FORMAT, *PNVME_FORMAT;

// -------------------------------------------------------------------------------------------------
// Counters. Requests to a controller's device, or to one of its disks.

// Output: NVME_COUNTERS with as many NVME_QUEUE_REPORTs as fit.
#define IOCTL_NVME_QUERY_COUNTERS                                                                  \
    CTL_CODE(FILE_DEVICE_CONTROLLER, 0x0A13, METHOD_BUFFERED, FILE_ANY_ACCESS)

// Prints them as sentences on the kernel's log.
#define IOCTL_NVME_PRINT_COUNTERS                                                                  \
    CTL_CODE(FILE_DEVICE_CONTROLLER, 0x0A14, METHOD_BUFFERED, FILE_ANY_ACCESS)

// Of asynchronous events, since the device was started first.
typedef struct _NVME_EVENT_COUNTERS {
    ULONG64 Events;
    ULONG64 Errors; // events of this kind, as the next four
    ULONG64 HealthWarnings;
    ULONG64 TemperatureWarnings;
    ULONG64 NamespaceChanges;
    ULONG64 OtherEvents;
    ULONG64 LostEvents; // nobody had time to look at them
    ULONG LastResult;   // dword 0 of the completion that told of the last one
    ULONG Reserved;
} NVME_EVENT_COUNTERS, *PNVME_EVENT_COUNTERS;

typedef struct _NVME_QUEUE_REPORT {
    ULONG Id; // 0: the admin queue
    ULONG EntryCount;
    ULONG OutstandingCount;
    ULONG Processor; // whose requests it takes; MAXULONG: no processor's
    BOOLEAN IsPolled;
    BOOLEAN HasShadow;      // shadow doorbells
    BOOLEAN IsInController; // its submission queue is in the controller memory buffer
    BOOLEAN UsesLists;      // SGLs
    ULONG Reserved;
    NVME_QUEUE_COUNTERS Counters;
} NVME_QUEUE_REPORT, *PNVME_QUEUE_REPORT;

#define NVME_COUNTERS_VERSION 1

typedef struct _NVME_COUNTERS {
    ULONG Version;            // NVME_COUNTERS_VERSION
    ULONG QueueCount;         // that there are
    ULONG ReturnedQueueCount; // that are in Queues
    ULONG LostAdminPages;     // that the controller may still write to
    ULONG64 RegisterReads;
    ULONG64 LineInterrupts;
    ULONG64 CmbByteCount; // controller memory buffer: mapped
    ULONG64 CmbUsedByteCount;
    NVME_EVENT_COUNTERS Events;
    NVME_QUEUE_REPORT Queues[1];
} NVME_COUNTERS, *PNVME_COUNTERS;

// -------------------------------------------------------------------------------------------------
// Persistent memory of a controller: a device of its own, of type FILE_DEVICE_NVME_PMR. IRP_MJ_READ and
// IRP_MJ_WRITE move bytes at any byte offset; what was written is durable when IRP_MJ_FLUSH_BUFFERS, or the
// write itself with SL_WRITE_THROUGH, has ended.

#define FILE_DEVICE_NVME_PMR 0x00008A11

// Output: NVME_PMR_INFORMATION.
#define IOCTL_NVME_QUERY_PMR                                                                       \
    CTL_CODE(FILE_DEVICE_NVME_PMR, 0x0A20, METHOD_BUFFERED, FILE_ANY_ACCESS)

// Describes pages of the memory for a mapping of the caller's, write-combined. Input: NVME_PMR_RANGE.
// Output: NVME_PMR_PAGES. Kernel mode only. STATUS_INVALID_PARAMETER: not whole pages, or not all there.
#define IOCTL_NVME_DESCRIBE_PMR                                                                    \
    CTL_CODE(FILE_DEVICE_NVME_PMR, 0x0A21, METHOD_BUFFERED, FILE_READ_ACCESS | FILE_WRITE_ACCESS)

static const GUID GUID_DEVINTERFACE_NVME_PMR __attribute__((unused)) = {
    0x2B8C6A1E, 0x47D3, 0x4F6B, {0x9A, 0x61, 0x5C, 0x0E, 0x7F, 0x14, 0xB2, 0x38}};

typedef enum _NVME_PMR_STATE { // as NVMe numbers them
    NvmePmrStateNormal = 0,
    NvmePmrStateRestoreFailed = 1, // what was there is lost
    NvmePmrStateReadOnly = 2,
    NvmePmrStateUnreliable = 3,
} NVME_PMR_STATE;

typedef struct _NVME_PMR_INFORMATION {
    ULONG64 ByteCount;
    ULONG State; // NVME_PMR_STATE
    ULONG Error; // 0: none
    BOOLEAN IsReady;
    UCHAR Reserved[7];
} NVME_PMR_INFORMATION, *PNVME_PMR_INFORMATION;

typedef struct _NVME_PMR_RANGE {
    ULONG64 ByteOffset;
    ULONG64 ByteCount;
} NVME_PMR_RANGE, *PNVME_PMR_RANGE;

// The caller frees it (IoFreeMdl) before the device goes.
typedef struct _NVME_PMR_PAGES {
    PMDL Mdl;
} NVME_PMR_PAGES, *PNVME_PMR_PAGES;

// -------------------------------------------------------------------------------------------------
// Commands.

typedef enum _NVME_IO_OPCODE { // as NVMe numbers them
    NvmeIoFlush = 0x00,
    NvmeIoWrite = 0x01,
    NvmeIoRead = 0x02,
} NVME_IO_OPCODE;

#define NVME_IO_FORCE_UNIT_ACCESS 0x01 // NVME_IO.Flags: the data are on the medium at the end

struct _NVME_IO;

// At DISPATCH_LEVEL, with no lock held, once per accepted command: from the queue's DPC, from Poll, or
// from whoever ends the queue. Io is the caller's again. The routine may call Submit.
typedef VOID(NTAPI NVME_IO_DONE)(_Inout_ struct _NVME_IO *Io);
typedef NVME_IO_DONE *PNVME_IO_DONE;

// The caller fills in what is above Status, and leaves it alone from Submit to Done.
typedef struct _NVME_IO {
    UCHAR Opcode; // NVME_IO_OPCODE
    UCHAR Flags;
    USHORT Reserved;
    ULONG NamespaceId;
    ULONG64 FirstBlock;
    ULONG BlockCount; // 0 for a flush
    ULONG ByteOffset; // where in the list the data begin
    // Logical addresses, mapped by the queue's adapter. All pieces but the first begin, all but the last
    // end at a page; the first byte has an address that 4 divides.
    const SCATTER_GATHER_LIST *List;
    PNVME_IO_DONE Done;
    PVOID Context;
    NTSTATUS Status;       // valid in Done
    ULONG Result;          // dword 0 of the completion
    struct _NVME_IO *Next; // the driver's
} NVME_IO, *PNVME_IO;

// -------------------------------------------------------------------------------------------------
// Queues.

typedef struct _NVME_QUEUE *PNVME_QUEUE;

typedef struct _NVME_QUEUE_OPTIONS {
    ULONG Depth;        // commands at a time; more are not accepted
    BOOLEAN IsPolled;   // no interrupts: completions are found by Poll alone
    BOOLEAN WantsLists; // describe buffers by scatter-gather lists (SGL) if the controller can
    USHORT Reserved;
} NVME_QUEUE_OPTIONS, *PNVME_QUEUE_OPTIONS;

typedef struct _NVME_NAMESPACE_INFORMATION {
    ULONG NamespaceId;
    ULONG BlockBytes;
    ULONG64 BlockCount;
    ULONG MaximumTransferBytes; // of one command
    ULONG Reserved;
} NVME_NAMESPACE_INFORMATION, *PNVME_NAMESPACE_INFORMATION;

// The namespace with the lowest id that is not below NamespaceId. STATUS_NO_MORE_ENTRIES.
typedef NTSTATUS(NTAPI NVME_QUERY_NAMESPACE)(_In_ PVOID Context, _In_ ULONG NamespaceId,
                                             _Out_ PNVME_NAMESPACE_INFORMATION Information);

// A queue pair of the caller's own. STATUS_DEVICE_NOT_READY: the controller is not started, or
// recovers. STATUS_INSUFFICIENT_RESOURCES: no memory, or the controller has no queue left.
// STATUS_INVALID_PARAMETER: a depth of 0, or more than the controller's queues hold. IRQL =
// PASSIVE_LEVEL.
typedef NTSTATUS(NTAPI NVME_OPEN_QUEUE)(_In_ PVOID Context, _In_ const NVME_QUEUE_OPTIONS *Options,
                                        _Out_ PNVME_QUEUE *Queue);

// Waits for the commands that are under way, and frees the queue. What was mapped with its adapter must
// be unmapped before. IRQL = PASSIVE_LEVEL.
typedef VOID(NTAPI NVME_CLOSE_QUEUE)(_In_ PNVME_QUEUE Queue);

// The adapter for the buffers of this queue's commands; valid until the queue is closed.
typedef PDMA_ADAPTER(NTAPI NVME_GET_QUEUE_ADAPTER)(_In_ PNVME_QUEUE Queue);

// Gives Count commands to the controller, in this order, with one doorbell at most. Returns how many were
// accepted; the rest found the queue full. A command that makes no sense is accepted, too, and its Done
// gets the reason before Submit returns. IRQL <= DISPATCH_LEVEL; any processor.
typedef ULONG(NTAPI NVME_SUBMIT)(_In_ PNVME_QUEUE Queue, _In_reads_(Count) PNVME_IO const *Ios,
                                 _In_ ULONG Count);

// Ends every command that is answered; returns how many. Of use for queues with interrupts, too. IRQL <=
// DISPATCH_LEVEL.
typedef ULONG(NTAPI NVME_POLL)(_In_ PNVME_QUEUE Queue);

typedef VOID(NTAPI NVME_QUERY_QUEUE_COUNTERS)(_In_ PNVME_QUEUE Queue,
                                              _Out_ PNVME_QUEUE_COUNTERS Counters);

#define NVME_QUEUE_INTERFACE_VERSION 1

static const GUID GUID_NVME_QUEUE_INTERFACE __attribute__((unused)) = {
    0x6D1F3A52, 0x9C1B, 0x4E0E, {0x8A, 0x57, 0x21, 0xD4, 0x0B, 0x73, 0xE6, 0x9C}};

// The answer to IRP_MN_QUERY_INTERFACE (Size, Version as here); the caller dereferences it in the end,
// when its queues are closed.
typedef struct _NVME_QUEUE_INTERFACE {
    USHORT Size;
    USHORT Version;
    PVOID Context;
    PINTERFACE_REFERENCE InterfaceReference;
    PINTERFACE_DEREFERENCE InterfaceDereference;
    NVME_QUERY_NAMESPACE *QueryNamespace;
    NVME_OPEN_QUEUE *OpenQueue;
    NVME_CLOSE_QUEUE *CloseQueue;
    NVME_GET_QUEUE_ADAPTER *GetAdapter;
    NVME_SUBMIT *Submit;
    NVME_POLL *Poll;
    NVME_QUERY_QUEUE_COUNTERS *QueryCounters;
} NVME_QUEUE_INTERFACE, *PNVME_QUEUE_INTERFACE;
