// The NVMe driver's own state. An FDO stands for one controller; each usable namespace is a child of it,
// and a disk.
//
//   IRP to a namespace --> request.c --> transfer.c --> queue.c --> submission queue --> doorbell
//   NVME_IO ------------> interface.c ------^              ^                                |
//   admin command ------> admin.c -------------------------+   completion queue <-- controller
//                                                          |          |
//                                        Done <-- NvmeReap <-- DPC <-- message, or line
//
//   nvme.c       entry, PnP and dispatch            queue.c      rings, trackers, doorbells
//   controller.c bring-up, reset, shutdown          request.c    IRPs: read, write, flush; the waiting list
//   recover.c    watchdog, abort, reset, removal    transfer.c   DMA mapping, PRPs and SGLs
//   admin.c      admin commands, Identify           interrupt.c  messages, line, DPCs
//   ioctl.c      control requests                   namespace.c  the children
//   protocol.c   those that are NVMe's own
//   event.c      asynchronous events                interface.c  queues for other drivers
//   cmb.c, pmr.c memory of the controller           memory.c     adapters, common buffers
//
// Invariants:
//   N1  Memory that the controller was told of is freed only when the controller cannot reach it: it is
//       disabled, or gone. What it may still reach when it does not let itself be stopped is kept for
//       ever (Unstoppable).
//   N2  A request is completed only when the controller has done with its memory: its command was
//       answered, or the controller was reset since.
//   N3  A command id is the index of a tracker and a generation, which changes with each use. A completion
//       whose id is not that of a submitted tracker is counted and dropped.
//   N4  The controller is told logical addresses only: those of common buffers, of the controller's own
//       memory buffer, and those that the DMA adapter gives for the pieces of a buffer.
//   N5  A tracker is in one place: the free stack, the hands of who took it, or submitted. Only submitted
//       trackers stand for entries of the ring, and there are fewer trackers than entries, so that neither
//       ring can overflow.
//   N6  No pool is allocated, no register read and no lock shared between processors from the arrival of a
//       request to its end, when there are trackers and map registers enough.
//
// Locks. NVME_QUEUE.Lock: everything of a queue and of its trackers; nothing is called under it but the
// DMA adapter's operations and Done routines. NamespaceLock: the list of namespaces. AdminPageLock: the
// admin pages. None is taken under another. At PASSIVE_LEVEL, ConfigurationMutex is held by whoever
// changes which queues and namespaces there are (start, stop, recovery, rescan, opening of queues).
#pragma once

#include <wdm.h>

#include <ntdddisk.h>
#include <ntddnvme.h>
#include <ntddstor.h>
#include <resetddk.h>

#include "nvmespec.h"

#define NVME_TAG 'emvN'

#define NVME_ADMIN_QUEUE_ENTRIES 32
#define NVME_IO_QUEUE_ENTRIES 128 // unless the controller offers fewer
#define NVME_MAXIMUM_QUEUE_ENTRIES 1024
#define NVME_COMMAND_TIMEOUT 5000 // milliseconds until a command is late
#define NVME_MAXIMUM_QUEUES 65    // queue pairs, the admin queue among them
#define NVME_MAXIMUM_PROCESSORS 64
#define NVME_ADMIN_PAGES 16 // common-buffer pages for the data of admin commands

#define NVME_PRP_LIST_ENTRIES (PAGE_SIZE / sizeof(ULONG64))

// What one list page describes: with the first page, which is not in the list, even from an odd
// offset.
#define NVME_MAXIMUM_COMMAND_BYTES ((ULONG)(NVME_PRP_LIST_ENTRIES * PAGE_SIZE))

typedef struct _NVME_CONTROLLER *PNVME_CONTROLLER;
typedef struct _NVME_NAMESPACE *PNVME_NAMESPACE;
typedef struct _NVME_TRACKER *PNVME_TRACKER;

static inline ULONG NvmeSmaller(ULONG A, ULONG B)
{
    return A < B ? A : B;
}

// -------------------------------------------------------------------------------------------------
// Trackers: each is one command that is outstanding, or room for one.

#define NVME_TRACKER_INDEX_BITS 10
#define NVME_TRACKER_INDEX_MASK ((1u << NVME_TRACKER_INDEX_BITS) - 1)
C_ASSERT(NVME_MAXIMUM_QUEUE_ENTRIES <= 1u << NVME_TRACKER_INDEX_BITS);

typedef enum _NVME_TRACKER_STATE {
    NvmeTrackerFree,      // on the free stack
    NvmeTrackerTaken,     // by who builds its command
    NvmeTrackerSubmitted, // the controller has it, or gets it at NvmeResubmit
} NVME_TRACKER_STATE;

// What a pass over the completions has ended, and has to tell others when the queue lock is released.
typedef struct _NVME_FINISHED {
    PIRP FirstIrp; // IoStatus is filled in
    PIRP *NextIrp; // where the next one is linked: NvmeNextFinished
    PNVME_IO FirstIo;
    PNVME_IO *NextIo; // where the next one is linked
} NVME_FINISHED, *PNVME_FINISHED;

// In an NVME_FINISHED: the IRP behind this one. DriverContext[0..2] are request.c's.
static inline PIRP *NvmeNextFinished(PIRP Irp)
{
    return (PIRP *)&Irp->Tail.Overlay.DriverContext[3];
}

// Called once for each tracker that was submitted, with the queue lock held: unmaps the transfer, and
// notes in Finished whom to tell. The tracker is free when it returns. Status is that of the completion,
// as NvmeTranslateStatus says; Result is its dword 0.
typedef VOID NVME_TRACKER_DONE(PNVME_TRACKER Tracker, NTSTATUS Status, ULONG Result,
                               PNVME_FINISHED Finished);

typedef struct DECLSPEC_ALIGN(64) _NVME_TRACKER {
    NVME_COMMAND Command; // as it is in the ring, and as it is submitted again
    PNVME_QUEUE Queue;
    NVME_TRACKER_DONE *Done;
    union {
        PVOID Context;
        PIRP Irp;
        PNVME_IO Io;
    };
    PSCATTER_GATHER_LIST List; // what is mapped; NULL: nothing, or by somebody else
    PULONG64 PrpList;          // preallocated: one page at most, never across a page
    ULONG64 PrpListAddress;
    PVOID ListBuffer;  // preallocated, for the adapter's list
    USHORT Index;      // of the tracker
    USHORT Generation; // of its command id
    USHORT NextFree;   // index of the next one on the free stack
    UCHAR State;       // NVME_TRACKER_STATE
    BOOLEAN WriteToDevice;
    ULONG StartTime; // NVME_CONTROLLER.Clock when it was submitted
    ULONG TimeLimit; // in units of Clock; 0: CommandTimeout; MAXULONG: none. 0 again at its end
    union {
        ULONG64 Trouble; // all of these: 0 when the command is submitted, and most often at its end
        struct {
            NTSTATUS EndStatus; // not 0: NvmeResubmit ends it with this
            USHORT StatusField; // of a completion that told of an error, as it came
            UCHAR RetryCount;   // at most NVME_RETRY_LIMIT
            BOOLEAN IsAborting; // recover.c's: an Abort command was sent for it
        };
    };
    DECLSPEC_ALIGN(16) UCHAR TransferContext[DMA_TRANSFER_CONTEXT_SIZE_V1];
} NVME_TRACKER;

C_ASSERT(FIELD_OFFSET(NVME_TRACKER, Command) == 0);

#define NVME_NO_TRACKER 0xFFFF // NextFree, FirstFree

// -------------------------------------------------------------------------------------------------
// Queues.

typedef enum _NVME_QUEUE_STATE {
    NvmeQueueClosed, // nothing is under way
    NvmeQueueHeld,   // takes commands, but the controller gets them at NvmeResubmit only
    NvmeQueueOpen,
} NVME_QUEUE_STATE;

// What the watchdog saw of a queue when it looked last.
typedef struct _NVME_WATCH {
    ULONG64 Completions; // counters
    ULONG64 Interrupts;
    ULONG QuietTicks;      // so long nothing was completed though something was under way
    ULONG Misses;          // interrupts missed since the last one that came
    BOOLEAN HadCompletion; // that nobody had consumed
    BOOLEAN IsPolled;      // its interrupts do not come: the watchdog reaps
} NVME_WATCH, *PNVME_WATCH;
// What a command must be checked against. Id 0: nothing.
typedef struct _NVME_IO_NAMESPACE {
    ULONG Id;
    ULONG BlockShift;
    ULONG64 BlockCount;
} NVME_IO_NAMESPACE, *PNVME_IO_NAMESPACE;

// One queue pair. Trackers, and the lists of their transfers, lie behind it in the same block of pool.
typedef struct DECLSPEC_ALIGN(64) _NVME_QUEUE {
    KSPIN_LOCK Lock;
    PNVME_COMMAND Submission; // in common memory, or in the controller's
    volatile NVME_COMPLETION *Completion;
    volatile ULONG *TailDoorbell;
    volatile ULONG *HeadDoorbell;
    volatile ULONG *ShadowTail; // shadow doorbells and event indexes; NULL: there are none
    volatile ULONG *TailEvent;
    volatile ULONG *ShadowHead;
    volatile ULONG *HeadEvent;
    PNVME_TRACKER Trackers;
    USHORT Id;
    USHORT EntryCount;   // of both rings
    USHORT TrackerCount; // EntryCount - 1 at most
    USHORT FirstFree;    // the top of the free stack
    USHORT Tail;         // the next entry to fill
    USHORT RungTail;     // as the controller was told
    USHORT Head;         // the next completion to look at
    USHORT Phase;        // what NVME_STATUS_PHASE of a new completion is
    USHORT OutstandingCount;
    UCHAR State;            // NVME_QUEUE_STATE
    BOOLEAN IsMuted;        // the controller does not know it: no doorbells
    BOOLEAN IsRingDeferred; // RingDpc is queued
    BOOLEAN IsPolled;
    BOOLEAN UsesLists; // SGLs instead of PRPs
    BOOLEAN SubmissionIsInCmb;
    NTSTATUS ClosedStatus;   // not 0: new requests are refused with it
    volatile LONG ReapCount; // passes that are under way: they ring at their end

    PNVME_CONTROLLER Controller;
    PDEVICE_OBJECT DeviceObject; // the controller's
    PDMA_ADAPTER Adapter;        // of its own, so that nothing is shared with other queues
    PDMA_OPERATIONS Operations;  // the adapter's
    ULONG ListByteCount;         // of each tracker's ListBuffer
    ULONG PrpByteCount;          // of each PrpList
    ULONG MapRegisterCount;      // of Adapter
    ULONG MaximumTransferBytes;
    LIST_ENTRY Waiting; // IRPs that found no tracker or no map register, by Tail.Overlay.ListEntry
    LIST_ENTRY Link;    // in NVME_CONTROLLER.OwnedQueues: a queue of another driver
    KDPC ReapDpc;       // queued by the interrupt routine
    KDPC RingDpc;       // rings for everything that was submitted at DISPATCH_LEVEL
    ULONG Message;      // of its completion queue
    ULONG
    Processor; // whose requests it takes; MAXULONG: it is another driver's, or the admin queue

    PVOID Buffer; // the common buffer: submission queue, completion queue, PRP lists
    PHYSICAL_ADDRESS BufferAddress;
    ULONG BufferByteCount;
    ULONG64 SubmissionAddress; // logical
    ULONG64 CompletionAddress;

    NVME_WATCH Watch;                // the watchdog's
    NVME_IO_NAMESPACE LastNamespace; // interface.c's: that of the last NVME_IO

    NVME_QUEUE_COUNTERS Counters;
} NVME_QUEUE;

// -------------------------------------------------------------------------------------------------
// What device objects of this driver are.

typedef enum _NVME_DEVICE_KIND {
    NvmeDeviceController,
    NvmeDeviceNamespace,
    NvmeDevicePmr,
    NvmeDeviceKindCount,
} NVME_DEVICE_KIND;

// The beginning of every device extension.
typedef struct _NVME_DEVICE {
    NVME_DEVICE_KIND Kind;
    PDEVICE_OBJECT Self;
    PNVME_CONTROLLER Controller; // of itself, or of its parent
} NVME_DEVICE, *PNVME_DEVICE;

// A child: the PDO of one namespace. It lives while the controller's PDO is there and the namespace is;
// IRPs to it are refused from the moment when it IsGone, or the controller is not ready.
typedef struct _NVME_NAMESPACE {
    NVME_DEVICE Device;
    ULONG Id;
    ULONG BlockShift;
    ULONG64 BlockCount;
    ULONG64 ByteCount;
    LIST_ENTRY Link; // in Controller->Namespaces, by Id
    // Held by PnP and control requests. Reads and writes need none: their trackers tell.
    IO_REMOVE_LOCK RemoveLock;
    BOOLEAN IsPresent;     // reported to the PnP manager
    BOOLEAN WasRemoved;    // RemoveLock is used up
    NTSTATUS ClosedStatus; // not 0: requests are refused with it. Written by PnP requests
    BOOLEAN IsReadOnly;    // NSATTR, as of the last Identify
    NVME_IDENTIFY_NAMESPACE_DATA Data; // as last identified
} NVME_NAMESPACE;

// -------------------------------------------------------------------------------------------------
// Controllers.

typedef enum _NVME_STATE {
    NvmeStopped,    // no resources
    NvmeStarting,   // admin commands work
    NvmeReady,      // requests work
    NvmeRecovering, // requests wait
    NvmeFailed,     // given up: refuses requests until it is restarted
    NvmeGone,       // removed without a word: refuses requests for ever
} NVME_STATE;

// Why somebody wants the controller to be looked at (NvmeRequestRecovery), by weight.
typedef enum _NVME_REASON {
    NvmeReasonNone,
    NvmeReasonLook,        // something is late: find out what
    NvmeReasonProtocol,    // the controller did what it must not
    NvmeReasonFatalStatus, // CSTS.CFS
    NvmeReasonRequested,   // somebody asks for a reset
    NvmeReasonGone,
} NVME_REASON;

typedef struct _NVME_ADMIN_PAGE {
    PVOID Va;
    ULONG64 Address; // logical
    BOOLEAN IsTaken;
    BOOLEAN IsLost; // the controller may still write to it: until the next reset
} NVME_ADMIN_PAGE, *PNVME_ADMIN_PAGE;

// Values of the driver's Parameters key (nvme.c); the default is what is there without them.
typedef struct _NVME_PARAMETERS {
    ULONG QueueEntries;   // NVME_IO_QUEUE_ENTRIES
    ULONG QueueCount;     // 0: one for each processor
    ULONG UseLists;       // 1: SGLs instead of PRPs where the controller can. 0
    ULONG UseShadow;      // 1: shadow doorbells where the controller can. 1
    ULONG UseCmb;         // 1: submission queues in the controller's memory where there is. 1
    ULONG CommandTimeout; // milliseconds until a command is late. 5000
} NVME_PARAMETERS, *PNVME_PARAMETERS;

typedef struct _NVME_RECOVERY {
    KTIMER Timer;
    KDPC TimerDpc;
    ULONG Period;     // of the timer, milliseconds
    ULONG Elapsed;    // of the current tick of Clock, milliseconds
    LONG64 StartTime; // value of the performance counter when Clock was 0
    ULONG Ticks;
    ULONG IdleTicks;
    ULONG64 Commands;     // of all queues, when the watchdog looked last
    PVOID Thread;         // its object; NULL: there is none
    KEVENT Work;          // the thread shall look at Reason and IsEnding
    volatile LONG Reason; // NVME_REASON, the weightiest since the thread looked
    volatile BOOLEAN IsEnding;
    NVME_RECOVERY_COUNTERS Counters;
} NVME_RECOVERY, *PNVME_RECOVERY;

typedef struct _NVME_CONTROLLER {
    NVME_DEVICE Device;
    PDEVICE_OBJECT Lower;
    PDEVICE_OBJECT Pdo;
    NVME_PARAMETERS Parameters;
    volatile LONG State; // NVME_STATE
    BOOLEAN Unstoppable; // it was told to stop, and may all the same touch memory (N1, N2)
    IO_REMOVE_LOCK RemoveLock;
    KMUTEX ConfigurationMutex;

    // Registers: controller.c.
    volatile NVME_REGISTERS *Registers; // NULL: not mapped
    SIZE_T RegisterByteCount;
    ULONG64 Capabilities;
    ULONG Version;
    const CM_RESOURCE_LIST *Resources; // as translated, a copy of our own; for the CMB and the PMR
    BUS_INTERFACE_STANDARD Bus; // the PDO's, for configuration space; Context NULL: there is none
    DEVICE_RESET_INTERFACE_STANDARD BusReset; // the same, for a function-level reset

    // What it said of itself: admin.c.
    NVME_IDENTIFY_CONTROLLER_DATA *Data; // NULL: not identified
    CHAR SerialNumber[20 + 1];
    CHAR ModelNumber[40 + 1];
    CHAR FirmwareRevision[8 + 1];
    ULONG MaximumTransferBytes; // per command; whole pages
    ULONG MaximumQueueId;       // granted by Set Features

    // Queues. Queues[0] is the admin queue; 1 to IoQueueCount are those of processors. The rest are those
    // of other drivers, in no order.
    PNVME_QUEUE Queues[NVME_MAXIMUM_QUEUES]; // by id; NULL: none
    ULONG IoQueueCount;
    PNVME_QUEUE QueueOfProcessor[NVME_MAXIMUM_PROCESSORS];
    LIST_ENTRY OwnedQueues; // by Link; under ConfigurationMutex

    // Admin commands: admin.c.
    PDMA_ADAPTER Adapter; // for common buffers that are no queue's
    ULONG MapRegisterCount;
    PUCHAR AdminBuffer; // NVME_ADMIN_PAGES pages; NULL: none
    PHYSICAL_ADDRESS AdminBufferAddress;
    KSPIN_LOCK AdminPageLock;
    NVME_ADMIN_PAGE AdminPages[NVME_ADMIN_PAGES];

    // Interrupts: interrupt.c.
    PVOID InterruptContext; // an interrupt object or a message table; NULL: not connected
    ULONG InterruptVersion; // which of them: CONNECT_LINE_BASED or CONNECT_MESSAGE_BASED
    ULONG MessageCount;     // 0: a line
    KDPC LineDpc;
    ULONG64 LineInterrupts;

    // Shadow doorbells: queue.c. Two pages: doorbells, event indexes. NULL: none.
    PULONG Shadow;
    PHYSICAL_ADDRESS ShadowAddress;

    // Namespaces: namespace.c.
    KSPIN_LOCK NamespaceLock;
    LIST_ENTRY Namespaces; // by Link, ascending ids

    // Recovery: recover.c.
    volatile ULONG Clock;  // of 100 ms each, since the start
    ULONG64 RegisterReads; // counted where registers are read
    NVME_RECOVERY Recovery;

    // Controller memory buffer: cmb.c.
    PUCHAR Cmb;         // NULL: none, or not used
    ULONG64 CmbAddress; // logical
    SIZE_T CmbByteCount;
    SIZE_T CmbUsedByteCount;

    struct _NVME_PMR *Pmr;       // the child that stands for persistent memory: pmr.c; NULL: none
    struct _NVME_EVENTS *Events; // event.c; NULL: not started
    NVME_EVENT_COUNTERS EventCounters;
} NVME_CONTROLLER;

// -------------------------------------------------------------------------------------------------
// nvme.c

DRIVER_INITIALIZE DriverEntry;

static inline PNVME_DEVICE NvmeDeviceOf(const DEVICE_OBJECT *DeviceObject)
{
    return DeviceObject->DeviceExtension;
}

NTSTATUS NvmeFinishIrp(PIRP Irp, NTSTATUS Status, ULONG_PTR Information);

// -------------------------------------------------------------------------------------------------
// controller.c. All at PASSIVE_LEVEL, under ConfigurationMutex where nothing else is said.

// Maps the registers that the translated resources name and makes the controller ready for
// requests. On failure everything is undone. Takes the mutex itself.
NTSTATUS NvmeStartController(PNVME_CONTROLLER Controller, const CM_RESOURCE_LIST *Resources);

// Undoes a start, whole or partial, in reverse order: every request that is outstanding ends with Reason.
// Takes the mutex itself.
VOID NvmeStopController(PNVME_CONTROLLER Controller, NTSTATUS Reason);

// Disables the controller and waits until it is. STATUS_DEVICE_NOT_CONNECTED: it is gone.
// STATUS_IO_TIMEOUT: it may still touch memory.
NTSTATUS NvmeDisableController(PNVME_CONTROLLER Controller);

// Makes certain that the controller touches no memory any more, by the gentlest means that works: CC.EN,
// unless Least asks for more; a function-level reset; the end of its bus mastering.
// STATUS_DEVICE_DOES_NOT_EXIST: it is gone. STATUS_DEVICE_HARDWARE_ERROR: it is cut off from the bus, and
// of no use until it is started again. STATUS_IO_TIMEOUT: nothing helped, it is Unstoppable.
NTSTATUS NvmeHaltController(PNVME_CONTROLLER Controller, NVME_RESET_KIND Least);

// Whether the bus still knows the device. FALSE, too, when nobody can say.
BOOLEAN NvmeIsOnBus(const NVME_CONTROLLER *Controller);

// Asserts that the one state may follow the other.
VOID NvmeSetState(PNVME_CONTROLLER Controller, NVME_STATE State);

// ConfigurationMutex. PASSIVE_LEVEL.
VOID NvmeLockController(PNVME_CONTROLLER Controller);
VOID NvmeUnlockController(PNVME_CONTROLLER Controller);

// From disabled to ready again with the queues that there are: admin queue, Set Features, I/O queues.
// Trackers keep their commands. For the recovery.
NTSTATUS NvmeReenableController(PNVME_CONTROLLER Controller);

// STATUS_DEVICE_NOT_CONNECTED when the controller is gone, STATUS_DEVICE_HARDWARE_ERROR when it
// reports a fatal error. Reads registers. Any IRQL.
NTSTATUS NvmeCheckHealth(PNVME_CONTROLLER Controller);

// The value of the performance counter that Milliseconds from now are over. Any IRQL.
LONG64 NvmeDeadline(ULONG Milliseconds);
BOOLEAN NvmeHasPassed(LONG64 Deadline);
VOID NvmeSleep(ULONG Milliseconds);

// -------------------------------------------------------------------------------------------------
// recover.c

// The watchdog and the recovery thread. Stop returns when neither runs any more. PASSIVE_LEVEL, without
// ConfigurationMutex.
NTSTATUS NvmeStartWatchdog(PNVME_CONTROLLER Controller);
VOID NvmeStopWatchdog(PNVME_CONTROLLER Controller);

// Has the controller looked at soon, by the recovery thread. IRQL <= DISPATCH_LEVEL, queue lock or not.
VOID NvmeRequestRecovery(PNVME_CONTROLLER Controller, NVME_REASON Reason);

// Resets the controller now; commands that are under way are given to it once more.
// STATUS_DEVICE_NOT_READY: it is not started. STATUS_DEVICE_DOES_NOT_EXIST,
// STATUS_DEVICE_HARDWARE_ERROR: it did not come back. PASSIVE_LEVEL, without ConfigurationMutex.
NTSTATUS NvmeResetByRequest(PNVME_CONTROLLER Controller, NVME_RESET_KIND Kind);

// What has become of the controller since it was started. Any IRQL.
VOID NvmeQueryRecovery(PNVME_CONTROLLER Controller, PNVME_RECOVERY_COUNTERS Counters);

// Under ConfigurationMutex, for every queue that there is. ReapAll: polled queues, too. EndAll: as
// NvmeFailQueue, but of an Unstoppable controller only what it was not given ends.
VOID NvmeForEachQueue(PNVME_CONTROLLER Controller, VOID (*Routine)(PNVME_QUEUE Queue));
VOID NvmeReapAll(PNVME_CONTROLLER Controller);
VOID NvmeEndAll(PNVME_CONTROLLER Controller, NTSTATUS Status);

// -------------------------------------------------------------------------------------------------
// memory.c. PASSIVE_LEVEL.

// An adapter for transfers of up to MaximumBytes. NULL: no memory. *MapRegisterCount: as
// IoGetDmaAdapter says.
PDMA_ADAPTER NvmeGetAdapter(PNVME_CONTROLLER Controller, ULONG MaximumBytes,
                            PULONG MapRegisterCount);

// The controller's own adapter, the admin pages and the shadow doorbells. On failure
// NvmeFreeControllerMemory frees what there is.
NTSTATUS NvmeAllocateControllerMemory(PNVME_CONTROLLER Controller);

// Keeps everything when the controller is Unstoppable.
VOID NvmeFreeControllerMemory(PNVME_CONTROLLER Controller);

// -------------------------------------------------------------------------------------------------
// queue.c

// A queue pair of EntryCount entries with memory, adapter and trackers; Closed, and unknown to the
// controller, but in Controller->Queues. MaximumTransferBytes: of one command; 0 for the admin queue.
// PASSIVE_LEVEL. STATUS_INSUFFICIENT_RESOURCES.
NTSTATUS NvmeAllocateQueue(PNVME_CONTROLLER Controller, USHORT Id, USHORT EntryCount,
                           ULONG MaximumTransferBytes, PNVME_QUEUE *Queue);

// Takes it out of Controller->Queues and frees it. No tracker is submitted, or the controller is
// Unstoppable: then it keeps the queue. NULL is legal. PASSIVE_LEVEL.
VOID NvmeFreeQueue(PNVME_QUEUE Queue);

// Takes it out of the controller's tables. No DPC and no interrupt routine uses it any more. PASSIVE_LEVEL.
VOID NvmeForgetQueue(PNVME_QUEUE Queue);

// With the queue lock. Get: NULL when none is free. Put: of one that was not submitted.
PNVME_TRACKER NvmeGetTracker(PNVME_QUEUE Queue);
VOID NvmePutTracker(PNVME_TRACKER Tracker);

// With the queue lock. Gives the tracker's command an id and puts it into the ring; does not ring.
VOID NvmeSubmit(PNVME_TRACKER Tracker);

// With the queue lock. Tells the controller of everything that was submitted: one doorbell, or none if
// the shadow doorbell does.
VOID NvmeRing(PNVME_QUEUE Queue);

// With the queue lock, held at OldIrql before. Rings now, or has it done when that makes one doorbell of
// many: at the end of the pass that is under way, or when the processor leaves DISPATCH_LEVEL.
VOID NvmeRingSoon(PNVME_QUEUE Queue, KIRQL OldIrql);

// Takes every completion that is there, calls Done routines, tells the controller once, starts requests
// that wait, and then completes IRPs and NVME_IOs without the lock. Returns the number of completions.
// IRQL <= DISPATCH_LEVEL, without the lock.
ULONG NvmeReap(PNVME_QUEUE Queue);

// Whether a completion has arrived that is not consumed yet. Any IRQL; Queue may be in use.
BOOLEAN NvmeHasCompletion(const NVME_QUEUE *Queue);

// These take the lock themselves. IRQL <= DISPATCH_LEVEL.
//   Open      The controller has the queue, and new requests are taken.
//   Close     New requests are refused with Status; those that are under way go on.
//   Hold      Nothing more goes to the controller, until Resubmit.
//   Reset     Empties both rings, for a controller that has been reset. Trackers keep their commands.
//   Resubmit  Ends Hold: submits every command that is under way again, by a new id, or ends it with
//             its EndStatus, and rings.
//   Mute      The controller does not know the queue any more, until Reset: completions that it left are
//             taken, but the doorbells are left alone.
//   Fail      Closes the queue: every tracker and every IRP that waits ends with Status, as does whatever
//             comes later. The controller must not be able to touch memory (N2).
VOID NvmeOpenQueue(PNVME_QUEUE Queue);
VOID NvmeCloseQueue(PNVME_QUEUE Queue, NTSTATUS Status);
VOID NvmeHoldQueue(PNVME_QUEUE Queue);
VOID NvmeMuteQueue(PNVME_QUEUE Queue);
VOID NvmeResetQueue(PNVME_QUEUE Queue);
VOID NvmeResubmit(PNVME_QUEUE Queue);
VOID NvmeFailQueue(PNVME_QUEUE Queue, NTSTATUS Status);

// Whether nothing is under way and nothing waits.
BOOLEAN NvmeIsQueueIdle(PNVME_QUEUE Queue);

// What the status field of a completion means; STATUS_SUCCESS for 0. *Text (optional): in words.
NTSTATUS NvmeTranslateStatus(USHORT Status, PCSTR *Text);

// Completes what a pass has ended, from NvmeStartFinished on (queueinline.h). Without locks, DISPATCH_LEVEL.
VOID NvmeTellFinished(PNVME_FINISHED Finished);

// Points the queues' shadow pointers at Controller->Shadow, once the controller knows of it (nc's
// NvmeEnableShadow calls it), or away from it. The admin queue's stay NULL.
VOID NvmeSetShadow(PNVME_QUEUE Queue, BOOLEAN IsOn);

// -------------------------------------------------------------------------------------------------
// request.c

DRIVER_DISPATCH NvmeDispatchReadWrite;
DRIVER_DISPATCH NvmeDispatchFlush;

// With the queue lock: gives trackers to IRPs that wait, as far as there are. Does not ring. IRPs that
// cannot be started go to Finished.
VOID NvmeStartWaiting(PNVME_QUEUE Queue, PNVME_FINISHED Finished);

// With the queue lock: moves every IRP that waits to Finished.
VOID NvmeFailWaiting(PNVME_QUEUE Queue, NTSTATUS Status, PNVME_FINISHED Finished);

// Whether an IRP to that device is under way, or waits. Takes the lock itself.
BOOLEAN NvmeQueueHasRequestOf(PNVME_QUEUE Queue, const DEVICE_OBJECT *DeviceObject);

// The queue for requests of the current processor. IRQL = DISPATCH_LEVEL. NULL: no queues.
PNVME_QUEUE NvmeCurrentQueue(PNVME_CONTROLLER Controller);

// -------------------------------------------------------------------------------------------------
// transfer.c. With the queue lock.

// Maps ByteCount bytes of the MDL chain, from Offset, and describes them in the tracker's command, by
// PRPs or an SGL. STATUS_INSUFFICIENT_RESOURCES: no map registers now. STATUS_DATATYPE_MISALIGNMENT: the
// pieces do not follow each other page by page.
NTSTATUS NvmeMapTransfer(PNVME_TRACKER Tracker, PMDL Mdl, ULONG Offset, ULONG ByteCount,
                         BOOLEAN WriteToDevice);

// Ends the mapping, if there is one: the data are in the buffer then.
VOID NvmeUnmapTransfer(PNVME_TRACKER Tracker);

// Whether the controller understands SGLs.
BOOLEAN NvmeCanUseLists(const NVME_CONTROLLER *Controller);

// Describes ByteCount bytes at Offset of a list that somebody else has mapped.
NTSTATUS NvmeDescribeList(PNVME_TRACKER Tracker, const SCATTER_GATHER_LIST *List, ULONG Offset,
                          ULONG ByteCount);

// -------------------------------------------------------------------------------------------------
// interrupt.c. PASSIVE_LEVEL.

// Connects to the controller's messages, or else to its line. It must be disabled: some controllers look
// at their messages only when they are enabled.
NTSTATUS NvmeConnectInterrupt(PNVME_CONTROLLER Controller);

// No interrupt routine and no DPC of the driver runs any more when it returns.
VOID NvmeDisconnectInterrupt(PNVME_CONTROLLER Controller);

// The queue's DPCs, of a new queue.
VOID NvmeInitializeDpcs(PNVME_QUEUE Queue);

// The message that the completion queue of this id shall use.
ULONG NvmeMessageOfQueue(const NVME_CONTROLLER *Controller, USHORT Id);

// Line only, no effect with messages: after CC.EN = 0, which clears the mask.
VOID NvmeUnmaskLine(PNVME_CONTROLLER Controller);

// -------------------------------------------------------------------------------------------------
// namespace.c. PASSIVE_LEVEL, under ConfigurationMutex.

// Identifies the active namespaces and brings the list up to date: new ones become children, those that
// are gone are no longer reported, those that changed get their new size. Tells the PnP manager if
// children came or went.
NTSTATUS NvmeScanNamespaces(PNVME_CONTROLLER Controller);

// Refuses new requests with Status, and waits for those that are under way, for Milliseconds at most.
// FALSE: there are still some.
BOOLEAN NvmeQuiesceNamespace(PNVME_NAMESPACE Namespace, NTSTATUS Status, ULONG Milliseconds);

// The namespace of that id, with its remove lock held under Tag (IoReleaseRemoveLock ends that). NULL:
// none. IRQL <= DISPATCH_LEVEL, without the mutex.
PNVME_NAMESPACE NvmeFindNamespace(PNVME_CONTROLLER Controller, ULONG Id, PVOID Tag);

// Fills Information, if there is such a namespace. IRQL <= DISPATCH_LEVEL, without the mutex.
BOOLEAN NvmeLookUpForIo(PNVME_CONTROLLER Controller, ULONG Id, PNVME_IO_NAMESPACE Information);

// PnP requests to a namespace, and BusRelations of the controller: nvme.c dispatches.
NTSTATUS NvmeNamespacePnp(PNVME_NAMESPACE Namespace, PIRP Irp);
NTSTATUS NvmeQueryBusRelations(PNVME_CONTROLLER Controller, PIRP Irp);

// For answers of children: a copy in paged pool (NULL: none), IRP_MN_QUERY_DEVICE_RELATIONS.
PWSTR NvmeCopyWide(const WCHAR *Text, SIZE_T ByteCount);
NTSTATUS NvmeQueryTargetRelation(PDEVICE_OBJECT DeviceObject, PIRP Irp);

// The controller is removed: deletes the PDOs.
VOID NvmeDeleteNamespaces(PNVME_CONTROLLER Controller);

// -------------------------------------------------------------------------------------------------
// interface.c

// Whether it was opened by another driver, and not closed yet.
BOOLEAN NvmeIsQueueOwned(const NVME_QUEUE *Queue);

// IRP_MN_QUERY_INTERFACE. STATUS_NOT_SUPPORTED: it is not for us.
NTSTATUS NvmeQueryInterface(PNVME_CONTROLLER Controller, const IO_STACK_LOCATION *Stack);

// -------------------------------------------------------------------------------------------------
// admin.c

// Runs one admin command and waits for it: any thread at PASSIVE_LEVEL, with or without
// ConfigurationMutex. The command's id is given here. *Result (optional): dword 0 of the completion. What
// the command points at must be an admin page, or other memory that nobody frees before the next reset.
// STATUS_IO_TIMEOUT: not answered; the recovery knows. STATUS_DEVICE_NOT_READY,
// STATUS_DEVICE_DOES_NOT_EXIST: the admin queue is closed.
NTSTATUS NvmeRunAdmin(PNVME_CONTROLLER Controller, const NVME_COMMAND *Command, PULONG Result);

// What came of a command, in the controller's words, too.
typedef struct _NVME_OUTCOME {
    NTSTATUS Status;
    USHORT StatusField; // as it came; 0: success, or the controller did not answer
    ULONG Result;
} NVME_OUTCOME, *PNVME_OUTCOME;

// The same, for at most so long.
NTSTATUS NvmeRunAdminFor(PNVME_CONTROLLER Controller, const NVME_COMMAND *Command,
                         ULONG Milliseconds, PNVME_OUTCOME Outcome);

// The data of an NVM command: ByteCount bytes at Offset of the MDL, which the caller has checked against
// what the command moves. BlockShift is that of the namespace when the command was built.
typedef struct _NVME_DATA {
    PMDL Mdl; // NULL: none
    ULONG Offset;
    ULONG ByteCount;
    ULONG BlockShift;
    BOOLEAN WriteToDevice;
} NVME_DATA;

// Runs one NVM command for the namespace on the queue of the current processor and waits for its end,
// which the recovery guarantees. STATUS_DEVICE_BUSY: the namespace got another block size since.
// PASSIVE_LEVEL, with the namespace's remove lock.
NTSTATUS NvmeRunNvm(PNVME_NAMESPACE Namespace, const NVME_COMMAND *Command, const NVME_DATA *Data,
                    PNVME_OUTCOME Outcome);

// Whether a command of NvmeRunNvm for the namespace is under way in the queue.
BOOLEAN NvmeQueueHasCommandOf(PNVME_QUEUE Queue, ULONG NamespaceId);

// A zeroed page for the data of an admin command. NULL: all are taken. Return: Status is that of
// the command; after STATUS_IO_TIMEOUT the page is lost until NvmeForgetLostPages. IRQL <=
// DISPATCH_LEVEL.
PNVME_ADMIN_PAGE NvmeTakeAdminPage(PNVME_CONTROLLER Controller);

// The same at PASSIVE_LEVEL, after a while if others have all pages. NULL: none came back in time.
PNVME_ADMIN_PAGE NvmeWaitForAdminPage(PNVME_CONTROLLER Controller);
VOID NvmeReturnAdminPage(PNVME_CONTROLLER Controller, PNVME_ADMIN_PAGE Page, NTSTATUS Status);
VOID NvmeForgetLostPages(PNVME_CONTROLLER Controller); // the controller was reset

// Identify (nvmespec.h: NVME_IDENTIFY_...) into a page.
NTSTATUS NvmeIdentify(PNVME_CONTROLLER Controller, ULONG What, ULONG NamespaceId,
                      PNVME_ADMIN_PAGE Page);

// Fills Data, the names, MaximumTransferBytes.
NTSTATUS NvmeIdentifyController(PNVME_CONTROLLER Controller);

// Asks for Count I/O queue pairs; *Granted of them may be created.
NTSTATUS NvmeSetQueueCount(PNVME_CONTROLLER Controller, ULONG Count, PULONG Granted);

// Creates the pair on the controller, completion queue first, or deletes it, in reverse.
NTSTATUS NvmeCreateQueuePair(PNVME_QUEUE Queue);
NTSTATUS NvmeDeleteQueuePair(PNVME_QUEUE Queue);

// Doorbell Buffer Config, if the controller can and the parameters say so: NvmeSetShadow for all I/O
// queues then. A failure is no error: doorbells are registers then.
VOID NvmeEnableShadow(PNVME_CONTROLLER Controller);

// -------------------------------------------------------------------------------------------------
// ioctl.c

DRIVER_DISPATCH NvmeDispatchDeviceControl; // of every kind of device

// One control request. Buffer is the system buffer: input, and output in its place.
typedef struct _NVME_CONTROL {
    PNVME_DEVICE Device;
    PNVME_CONTROLLER Controller;
    PNVME_NAMESPACE Namespace; // NULL: it is to the controller
    ULONG BlockShift;          // the namespace's, once for the whole request
    PIRP Irp;
    PVOID Buffer;
    ULONG InputByteCount;
    ULONG OutputByteCount;
    ULONG_PTR Information; // bytes of output
} NVME_CONTROL, *PNVME_CONTROL;

// -------------------------------------------------------------------------------------------------
// protocol.c. PASSIVE_LEVEL.

// IOCTL_STORAGE_QUERY_PROPERTY of what is specific to NVMe, IOCTL_STORAGE_SET_PROPERTY,
// IOCTL_STORAGE_PROTOCOL_COMMAND.
NTSTATUS NvmeQueryProtocol(PNVME_CONTROL Control);
NTSTATUS NvmeSetProperty(PNVME_CONTROL Control);
NTSTATUS NvmePassCommand(PNVME_CONTROL Control);

// The beginning of a log page; its event, if there is one, stays. ByteCount: a multiple of 4, 16 KiB at
// most.
NTSTATUS NvmeReadLogPage(PNVME_CONTROLLER Controller, ULONG NamespaceId, ULONG LogPage,
                         PVOID Buffer, ULONG ByteCount);

NTSTATUS NvmeGetFeature(PNVME_CONTROLLER Controller, ULONG Feature, ULONG Cdw11, PULONG Value);
NTSTATUS NvmeSetFeature(PNVME_CONTROLLER Controller, ULONG Feature, ULONG Value);

// -------------------------------------------------------------------------------------------------
// event.c. PASSIVE_LEVEL.

// Asynchronous Event Requests: after the admin queue works, and after each reset; before it is closed.
NTSTATUS NvmeStartEvents(PNVME_CONTROLLER Controller);
VOID NvmeStopEvents(PNVME_CONTROLLER Controller);

// -------------------------------------------------------------------------------------------------
// cmb.c. PASSIVE_LEVEL, under ConfigurationMutex. No CMB is no error.

// The resource that BAR Index, 2 to 5, decodes. FALSE: there is none.
BOOLEAN NvmeFindBar(PNVME_CONTROLLER Controller, ULONG Index, PULONG64 Start, PULONG64 ByteCount);

// Before CC.EN is set, and after each reset. Unmap: the controller is disabled.
NTSTATUS NvmeEnableCmb(PNVME_CONTROLLER Controller);
VOID NvmeUnmapCmb(PNVME_CONTROLLER Controller);

// A part of it, page aligned. NULL: none, or no room. There is no way to give it back but NvmeUnmapCmb.
PVOID NvmeTakeCmb(PNVME_CONTROLLER Controller, ULONG ByteCount, PULONG64 Address);

// -------------------------------------------------------------------------------------------------
// pmr.c. As cmb.c. No PMR is no error.

NTSTATUS NvmeEnablePmr(PNVME_CONTROLLER Controller);
VOID NvmeUnmapPmr(PNVME_CONTROLLER Controller);

// The child that stands for it; NULL: none. Referenced by BusRelations only (namespace.c).
PDEVICE_OBJECT NvmePmrDevice(PNVME_CONTROLLER Controller);
NTSTATUS NvmePmrPnp(PNVME_DEVICE Device, PIRP Irp);

// The controller is removed: deletes the PDO, if there is one.
VOID NvmeDeletePmr(PNVME_CONTROLLER Controller);

// Requests to that child (IRP_MJ_READ and WRITE, FLUSH_BUFFERS, DEVICE_CONTROL).
NTSTATUS NvmePmrReadWrite(PNVME_DEVICE Device, PIRP Irp);
NTSTATUS NvmePmrFlush(PNVME_DEVICE Device, PIRP Irp);
NTSTATUS NvmePmrControl(PNVME_DEVICE Device, PIRP Irp);
