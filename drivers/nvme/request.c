// Reads, writes and flushes of namespaces, as IRPs.
//
// An IRP is checked as a whole, and goes to the queue of the current processor at once: as one command, or,
// if it is longer than MaximumTransferBytes or its buffer cannot be described as one, as several. How
// far it is, is written in the IRP (NVME_PROGRESS), under the queue lock. The first failure is its
// status; what follows is not begun.
//
//   dispatch --> trackers, map registers? --yes--> submitted --> NvmeEndPart of each, or
//                     |                                          NvmeEndWhole --> completed
//                     | no                             ^
//                     v                                |
//                  Queue->Waiting ---- a pass has freed some
//
// An IRP that waits can be cancelled; one whose commands are all submitted cannot.
//
// The doorbell. At IRQL < DISPATCH_LEVEL it rings before the dispatch routine returns. A sender at
// DISPATCH_LEVEL may send more: a DPC rings, once for all, when the processor leaves that level, and for
// what is sent from completion routines the pass that called them rings at its end. So 32 IRPs that are
// sent in a row cost one doorbell.
//
// A queue, and a namespace, are found and used at DISPATCH_LEVEL. Who takes them away waits until no
// processor is there (NvmeFreeQueue, NvmeQuiesceNamespace).
#include "nvme.h"
#include "queueinline.h"

#define NVME_MDL_HAS_FRAMES (MDL_PAGES_LOCKED | MDL_SOURCE_IS_NONPAGED_POOL | MDL_PARTIAL)

#define NVME_WANTS_MEDIUM (SL_FORCE_DIRECT_WRITE | SL_WRITE_THROUGH)

// In Tail.Overlay.DriverContext, of an IRP that is not one command from the beginning to the end.
typedef struct _NVME_PROGRESS {
    PNVME_QUEUE Queue;
    ULONG ByteCount; // of the request
    ULONG NextByte;  // what is before has been given to the controller; ByteCount: nothing more is
    ULONG CommandCount; // under way
    NTSTATUS Status;    // the first failure
} NVME_PROGRESS, *PNVME_PROGRESS;

C_ASSERT(sizeof(NVME_PROGRESS) <= 3 * sizeof(PVOID)); // NvmeNextFinished has the rest

static PNVME_PROGRESS NvmeProgressOf(PIRP Irp)
{
    return (PNVME_PROGRESS)Irp->Tail.Overlay.DriverContext;
}

NTSTATUS NvmeFinishIrp(PIRP Irp, NTSTATUS Status, ULONG_PTR Information)
{
    Irp->IoStatus.Status = Status;
    Irp->IoStatus.Information = NT_SUCCESS(Status) ? Information : 0;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
    return Status;
}

// The IRP is over, and is completed when the lock is released.
static VOID NvmeNoteEnd(PIRP Irp, PNVME_FINISHED Finished)
{
    const NVME_PROGRESS *Progress = NvmeProgressOf(Irp);
    const NTSTATUS Status = Progress->Status;
    Irp->IoStatus.Information = NT_SUCCESS(Status) ? Progress->ByteCount : 0;
    Irp->IoStatus.Status = Status;
    NvmeAddFinished(Finished, Irp);
}

// Nothing more of the IRP is begun.
static VOID NvmeFailRest(PIRP Irp, NTSTATUS Status, PNVME_FINISHED Finished)
{
    const PNVME_PROGRESS Progress = NvmeProgressOf(Irp);
    if (NT_SUCCESS(Progress->Status)) {
        Progress->Status = Status;
    }
    Progress->NextByte = Progress->ByteCount;
    if (Progress->CommandCount == 0) {
        NvmeNoteEnd(Irp, Finished);
    }
}

// -------------------------------------------------------------------------------------------------
// Commands.

// NVME_TRACKER_DONE of a part of an IRP.
static VOID NvmeEndPart(PNVME_TRACKER Tracker, NTSTATUS Status, ULONG Result,
                        PNVME_FINISHED Finished)
{
    const PIRP Irp = Tracker->Irp;
    const PNVME_PROGRESS Progress = NvmeProgressOf(Irp);
    UNREFERENCED_PARAMETER(Result);
    NvmePutList(Tracker->Queue, Tracker);
    if (!NT_SUCCESS(Status) && NT_SUCCESS(Progress->Status)) {
        Progress->Status = Status;
    }
    Progress->CommandCount -= 1;
    // Else there is a rest of it in the waiting list.
    if (Progress->CommandCount == 0 && Progress->NextByte == Progress->ByteCount) {
        NvmeNoteEnd(Irp, Finished);
    }
}

// NVME_TRACKER_DONE of an IRP that is one command (NvmeSubmitWhole).
static VOID NvmeEndWhole(PNVME_TRACKER Tracker, NTSTATUS Status, ULONG Result,
                         PNVME_FINISHED Finished)
{
    const PIRP Irp = Tracker->Irp;
    UNREFERENCED_PARAMETER(Result);
    NvmePutList(Tracker->Queue, Tracker);
    Irp->IoStatus.Status = Status;
    Irp->IoStatus.Information =
        NT_SUCCESS(Status) ? IoGetCurrentIrpStackLocation(Irp)->Parameters.Read.Length : 0;
    NvmeAddFinished(Finished, Irp);
}

static inline VOID NvmeBeginCommand(PNVME_COMMAND Command, UCHAR Opcode, ULONG NamespaceId)
{
    *Command = (NVME_COMMAND){.Opcode = Opcode, .NamespaceId = NamespaceId};
}

// What cannot be described as one command goes as several: the longest that can be, half by half.
static DECLSPEC_NOINLINE NTSTATUS NvmeMapLess(PNVME_TRACKER Tracker, PMDL Mdl, ULONG Offset,
                                              PULONG ByteCount, BOOLEAN IsWrite, ULONG BlockMask)
{
    NTSTATUS Status;
    do {
        *ByteCount = (*ByteCount / 2 + BlockMask) & ~BlockMask;
        Status = NvmeMapTransfer(Tracker, Mdl, Offset, *ByteCount, IsWrite);
    } while (!NT_SUCCESS(Status) && Status != STATUS_INSUFFICIENT_RESOURCES &&
             *ByteCount > BlockMask + 1);
    return Status;
}

// The blocks of ByteCount bytes, from Offset of the request.
static inline VOID NvmeDescribePart(PNVME_COMMAND Command, const IO_STACK_LOCATION *Stack,
                                    const NVME_NAMESPACE *Namespace, ULONG Offset, ULONG ByteCount)
{
    const BOOLEAN IsWrite = Stack->MajorFunction == IRP_MJ_WRITE;
    // Parameters.Write has the same layout.
    const ULONG64 FirstByte = (ULONG64)Stack->Parameters.Read.ByteOffset.QuadPart + Offset;
    NvmeDescribeBlocks(Command, IsWrite ? NVME_NVM_WRITE : NVME_NVM_READ, Namespace->Id,
                       FirstByte >> Namespace->BlockShift, ByteCount >> Namespace->BlockShift,
                       IsWrite && (Stack->Flags & NVME_WANTS_MEDIUM) != 0 ? NVME_FORCE_UNIT_ACCESS
                                                                          : 0);
}

// A read or write from NextByte on, as much as goes into one command.
static inline NTSTATUS NvmeBuildTransfer(PNVME_TRACKER Tracker, PIRP Irp,
                                         const IO_STACK_LOCATION *Stack,
                                         const NVME_NAMESPACE *Namespace, ULONG Offset,
                                         PULONG ByteCount)
{
    const ULONG BlockMask = (1u << Namespace->BlockShift) - 1;
    const BOOLEAN IsWrite = Stack->MajorFunction == IRP_MJ_WRITE;
    NvmeBeginCommand(&Tracker->Command, 0, Namespace->Id);
    NTSTATUS Status = NvmeMapTransfer(Tracker, Irp->MdlAddress, Offset, *ByteCount, IsWrite);
    if (!NT_SUCCESS(Status) && Status != STATUS_INSUFFICIENT_RESOURCES &&
        *ByteCount > BlockMask + 1) {
        Status = NvmeMapLess(Tracker, Irp->MdlAddress, Offset, ByteCount, IsWrite, BlockMask);
    }
    const NVME_COMMAND Mapped = Tracker->Command;
    NvmeDescribePart(&Tracker->Command, Stack, Namespace, Offset, *ByteCount);
    Tracker->Command.Flags = Mapped.Flags;
    Tracker->Command.Prp1 = Mapped.Prp1;
    Tracker->Command.Prp2 = Mapped.Prp2;
    return Status;
}

// The next command of the IRP. STATUS_PENDING: there is no tracker or map register now, but there will
// be.
static inline NTSTATUS NvmeSubmitPart(PNVME_QUEUE Queue, PIRP Irp, PNVME_PROGRESS Progress)
{
    const IO_STACK_LOCATION *Stack = IoGetCurrentIrpStackLocation(Irp);
    const NVME_NAMESPACE *Namespace = Stack->DeviceObject->DeviceExtension;
    const PNVME_TRACKER Tracker = NvmeTakeTracker(Queue);
    if (Tracker == NULL) {
        return STATUS_PENDING;
    }
    const ULONG Offset = Progress->NextByte;
    ULONG ByteCount = NvmeSmaller(Progress->ByteCount - Offset, Queue->MaximumTransferBytes);
    NTSTATUS Status = STATUS_SUCCESS;
    if (ByteCount == 0) {
        NvmeBeginCommand(&Tracker->Command, NVME_NVM_FLUSH, Namespace->Id);
    } else {
        Status = NvmeBuildTransfer(Tracker, Irp, Stack, Namespace, Offset, &ByteCount);
    }
    if (!NT_SUCCESS(Status)) {
        NvmeReturnTracker(Queue, Tracker);
        return Status == STATUS_INSUFFICIENT_RESOURCES && Queue->OutstandingCount != 0
                   ? STATUS_PENDING
                   : Status;
    }
    Tracker->Irp = Irp;
    Tracker->Done = NvmeEndPart;
    Progress->NextByte = Offset + ByteCount;
    Progress->CommandCount += 1;
    NvmeSubmitTracker(Queue, Tracker);
    return STATUS_SUCCESS;
}

// What most requests are: one command, at a queue that has room for it. FALSE: it is not that simple, and
// nothing was done.
static inline __attribute__((always_inline)) BOOLEAN
NvmeSubmitWhole(PNVME_QUEUE Queue, const NVME_NAMESPACE *Namespace, PIRP Irp,
                const IO_STACK_LOCATION *Stack)
{
    const ULONG ByteCount = Stack->Parameters.Read.Length;
    const BOOLEAN IsWrite = Stack->MajorFunction == IRP_MJ_WRITE;
    if (ByteCount > Queue->MaximumTransferBytes || Irp->MdlAddress->Next != NULL) {
        return FALSE;
    }
    const PNVME_TRACKER Tracker = NvmeTakeTracker(Queue);
    if (Tracker == NULL) {
        return FALSE;
    }
    if (!NT_SUCCESS(NvmeBuildList(Queue, Tracker, Irp->MdlAddress, 0, ByteCount, IsWrite))) {
        Tracker->List = NULL;
        NvmeReturnTracker(Queue, Tracker);
        return FALSE;
    }
    NvmeDescribePart(&Tracker->Command, Stack, Namespace, 0, ByteCount);
    if (!NvmeDescribePage(Queue, Tracker, Tracker->List, 0, ByteCount) &&
        !NT_SUCCESS(NvmeDescribeList(Tracker, Tracker->List, 0, ByteCount))) {
        NvmePutList(Queue, Tracker);
        NvmeReturnTracker(Queue, Tracker);
        return FALSE;
    }
    Tracker->Irp = Irp;
    Tracker->Done = NvmeEndWhole;
    NvmeSubmitTracker(Queue, Tracker);
    return TRUE;
}

// What is left of the IRP. STATUS_PENDING: as NvmeSubmitPart; anything else is taken care of.
static NTSTATUS NvmeSubmitRest(PNVME_QUEUE Queue, PIRP Irp, PNVME_FINISHED Finished)
{
    const PNVME_PROGRESS Progress = NvmeProgressOf(Irp);
    NTSTATUS Status;
    do {
        Status = NvmeSubmitPart(Queue, Irp, Progress);
    } while (Status == STATUS_SUCCESS && Progress->NextByte < Progress->ByteCount);
    if (!NT_SUCCESS(Status)) {
        NvmeFailRest(Irp, Status, Finished);
    }
    return Status;
}

// -------------------------------------------------------------------------------------------------
// Waiting.

// Of an IRP that waits, or that NvmeTakeWaiting has just left to us. The queue lock is taken before the
// cancel lock goes: from then on the queue could be freed.
static VOID NTAPI NvmeCancelIrp(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    const PNVME_QUEUE Queue = NvmeProgressOf(Irp)->Queue;
    const KIRQL OldIrql = Irp->CancelIrql;
    NVME_FINISHED Finished;
    UNREFERENCED_PARAMETER(DeviceObject);
    NvmeStartFinished(&Finished);
    KeAcquireSpinLockAtDpcLevel(&Queue->Lock);
    IoReleaseCancelSpinLock(DISPATCH_LEVEL);
    RemoveEntryList(&Irp->Tail.Overlay.ListEntry);
    NvmeFailRest(Irp, STATUS_CANCELLED, &Finished);
    KeReleaseSpinLockFromDpcLevel(&Queue->Lock);
    NvmeTellFinished(&Finished);
    KeLowerIrql(OldIrql);
}

typedef enum _NVME_PLACE_IN_LINE { NvmeFirstInLine, NvmeLastInLine } NVME_PLACE_IN_LINE;

static VOID NvmeWait(PNVME_QUEUE Queue, PIRP Irp, NVME_PLACE_IN_LINE Where, PNVME_FINISHED Finished)
{
    (VOID) IoSetCancelRoutine(Irp, NvmeCancelIrp);
    // Cancelled before, and nobody calls the routine any more: we end it.
    if (Irp->Cancel && IoSetCancelRoutine(Irp, NULL) != NULL) {
        NvmeFailRest(Irp, STATUS_CANCELLED, Finished);
        return;
    }
    Queue->Counters.Waits += 1;
    if (Where == NvmeFirstInLine) {
        InsertHeadList(&Queue->Waiting, &Irp->Tail.Overlay.ListEntry);
    } else {
        InsertTailList(&Queue->Waiting, &Irp->Tail.Overlay.ListEntry);
    }
}

// The first IRP that waits, which cannot be cancelled any more. NULL: there is none.
static PIRP NvmeTakeWaiting(PNVME_QUEUE Queue)
{
    while (!IsListEmpty(&Queue->Waiting)) {
        const PIRP Irp =
            CONTAINING_RECORD(RemoveHeadList(&Queue->Waiting), IRP, Tail.Overlay.ListEntry);
        if (IoSetCancelRoutine(Irp, NULL) != NULL) {
            return Irp;
        }
        // Its cancel routine waits for the lock, and takes it out of a list: of its own.
        InitializeListHead(&Irp->Tail.Overlay.ListEntry);
    }
    return NULL;
}

VOID NvmeStartWaiting(PNVME_QUEUE Queue, PNVME_FINISHED Finished)
{
    while (Queue->FirstFree != NVME_NO_TRACKER) {
        const PIRP Irp = NvmeTakeWaiting(Queue);
        if (Irp == NULL) {
            return;
        }
        if (!NT_SUCCESS(NvmeProgressOf(Irp)->Status)) {
            NvmeFailRest(Irp, NvmeProgressOf(Irp)->Status, Finished);
        } else if (NvmeSubmitRest(Queue, Irp, Finished) == STATUS_PENDING) {
            NvmeWait(Queue, Irp, NvmeFirstInLine, Finished);
            return;
        }
    }
}

VOID NvmeFailWaiting(PNVME_QUEUE Queue, NTSTATUS Status, PNVME_FINISHED Finished)
{
    for (PIRP Irp = NvmeTakeWaiting(Queue); Irp != NULL; Irp = NvmeTakeWaiting(Queue)) {
        NvmeFailRest(Irp, Status, Finished);
    }
}

BOOLEAN NvmeQueueHasRequestOf(PNVME_QUEUE Queue, const DEVICE_OBJECT *DeviceObject)
{
    KIRQL OldIrql;
    BOOLEAN IsFound = FALSE;
    KeAcquireSpinLock(&Queue->Lock, &OldIrql);
    for (ULONG Index = 0; Index < Queue->TrackerCount && !IsFound; Index += 1) {
        const NVME_TRACKER *Tracker = &Queue->Trackers[Index];
        IsFound = Tracker->State == NvmeTrackerSubmitted &&
                  (Tracker->Done == NvmeEndWhole || Tracker->Done == NvmeEndPart) &&
                  IoGetCurrentIrpStackLocation(Tracker->Irp)->DeviceObject == DeviceObject;
    }
    for (PLIST_ENTRY Entry = Queue->Waiting.Flink; Entry != &Queue->Waiting && !IsFound;
         Entry = Entry->Flink) {
        const PIRP Irp = CONTAINING_RECORD(Entry, IRP, Tail.Overlay.ListEntry);
        IsFound = IoGetCurrentIrpStackLocation(Irp)->DeviceObject == DeviceObject;
    }
    KeReleaseSpinLock(&Queue->Lock, OldIrql);
    return IsFound;
}

// -------------------------------------------------------------------------------------------------
// Dispatch.

PNVME_QUEUE NvmeCurrentQueue(PNVME_CONTROLLER Controller)
{
    return Controller->QueueOfProcessor[KeGetCurrentProcessorNumber() % NVME_MAXIMUM_PROCESSORS];
}

// Every MDL has its frames, and together they have ByteCount bytes.
static inline BOOLEAN NvmeIsChainLongEnough(PMDL Mdl, ULONG ByteCount)
{
    for (; Mdl != NULL && (Mdl->MdlFlags & NVME_MDL_HAS_FRAMES) != 0; Mdl = Mdl->Next) {
        if (ByteCount <= MmGetMdlByteCount(Mdl)) {
            return TRUE;
        }
        ByteCount -= MmGetMdlByteCount(Mdl);
    }
    return FALSE;
}

// Everything that an emulated controller might let pass is refused here, before anything is
// submitted.
static inline NTSTATUS NvmeCheckTransfer(const NVME_NAMESPACE *Namespace, PIRP Irp,
                                         const IO_STACK_LOCATION *Stack)
{
    const ULONG64 FirstByte = (ULONG64)Stack->Parameters.Read.ByteOffset.QuadPart;
    const ULONG ByteCount = Stack->Parameters.Read.Length;
    const ULONG64 BlockMask = (1ull << Namespace->BlockShift) - 1;
    if (((FirstByte | ByteCount) & BlockMask) != 0) {
        return STATUS_INVALID_PARAMETER;
    }
    if (!NvmeIsChainLongEnough(Irp->MdlAddress, ByteCount)) {
        return STATUS_INVALID_PARAMETER;
    }
    if (MmGetMdlByteOffset(Irp->MdlAddress) % sizeof(ULONG) != 0) {
        return STATUS_DATATYPE_MISALIGNMENT;
    }
    if (FirstByte > Namespace->ByteCount || ByteCount > Namespace->ByteCount - FirstByte) {
        return STATUS_NONEXISTENT_SECTOR;
    }
    return STATUS_SUCCESS;
}

// With the queue lock.
static inline NTSTATUS NvmeRefusal(const NVME_QUEUE *Queue, const NVME_NAMESPACE *Namespace)
{
    return Queue->ClosedStatus != STATUS_SUCCESS ? Queue->ClosedStatus : Namespace->ClosedStatus;
}

// With the queue lock, at DISPATCH_LEVEL: what is not as simple as NvmeSubmitWhole has it. ByteCount 0: a
// flush. Releases the lock. Queue NULL: there is none.
static DECLSPEC_NOINLINE VOID NvmeStartCarefully(PNVME_QUEUE Queue, PNVME_NAMESPACE Namespace,
                                                 PIRP Irp, ULONG ByteCount, KIRQL OldIrql)
{
    NVME_FINISHED Finished;
    NvmeStartFinished(&Finished);
    *NvmeProgressOf(Irp) = (NVME_PROGRESS){.Queue = Queue, .ByteCount = ByteCount};
    if (Queue == NULL) {
        NvmeFailRest(Irp,
                     NT_SUCCESS(Namespace->ClosedStatus) ? STATUS_DEVICE_NOT_READY
                                                         : Namespace->ClosedStatus,
                     &Finished);
    } else {
        const NTSTATUS Refusal = NvmeRefusal(Queue, Namespace);
        if (Refusal != STATUS_SUCCESS) {
            NvmeFailRest(Irp, Refusal, &Finished);
        } else if (!IsListEmpty(&Queue->Waiting) ||
                   NvmeSubmitRest(Queue, Irp, &Finished) == STATUS_PENDING) {
            NvmeWait(Queue, Irp, NvmeLastInLine, &Finished);
        }
        NvmeRingSoon(Queue, OldIrql);
        KeReleaseSpinLockFromDpcLevel(&Queue->Lock);
    }
    NvmeTellFinished(&Finished);
}

// The IRP has begun, and nothing of it is submitted. At DISPATCH_LEVEL, with the lock of the queue that is
// returned. NULL: there is none.
static inline PNVME_QUEUE NvmeBeginIrp(const NVME_NAMESPACE *Namespace, PIRP Irp, PKIRQL OldIrql)
{
    IoMarkIrpPending(Irp);
    KeRaiseIrql(DISPATCH_LEVEL, OldIrql);
    const PNVME_QUEUE Queue = NvmeCurrentQueue(Namespace->Device.Controller);
    if (Queue != NULL) {
        KeAcquireSpinLockAtDpcLevel(&Queue->Lock);
    }
    return Queue;
}

static inline NTSTATUS NvmeQueueTransfer(PNVME_NAMESPACE Namespace, PIRP Irp,
                                         const IO_STACK_LOCATION *Stack)
{
    KIRQL OldIrql;
    const PNVME_QUEUE Queue = NvmeBeginIrp(Namespace, Irp, &OldIrql);
    if (Queue != NULL && IsListEmpty(&Queue->Waiting) &&
        NvmeRefusal(Queue, Namespace) == STATUS_SUCCESS &&
        NvmeSubmitWhole(Queue, Namespace, Irp, Stack)) {
        if (!Queue->IsRingDeferred) {
            NvmeRingSoon(Queue, OldIrql);
        }
        KeReleaseSpinLockFromDpcLevel(&Queue->Lock);
    } else {
        NvmeStartCarefully(Queue, Namespace, Irp, Stack->Parameters.Read.Length, OldIrql);
    }
    KeLowerIrql(OldIrql);
    return STATUS_PENDING;
}

NTSTATUS NTAPI NvmeDispatchReadWrite(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    const PNVME_NAMESPACE Namespace = DeviceObject->DeviceExtension;
    const IO_STACK_LOCATION *Stack = IoGetCurrentIrpStackLocation(Irp);
    if (Namespace->Device.Kind != NvmeDeviceNamespace) {
        return Namespace->Device.Kind == NvmeDevicePmr
                   ? NvmePmrReadWrite(&Namespace->Device, Irp)
                   : NvmeFinishIrp(Irp, STATUS_INVALID_DEVICE_REQUEST, 0);
    }
    if (Stack->Parameters.Read.Length == 0) {
        return NvmeFinishIrp(Irp, STATUS_SUCCESS, 0);
    }
    const NTSTATUS Status = NvmeCheckTransfer(Namespace, Irp, Stack);
    if (!NT_SUCCESS(Status)) {
        return NvmeFinishIrp(Irp, Status, 0);
    }
    return NvmeQueueTransfer(Namespace, Irp, Stack);
}

NTSTATUS NTAPI NvmeDispatchFlush(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    KIRQL OldIrql;
    const PNVME_NAMESPACE Namespace = DeviceObject->DeviceExtension;
    if (Namespace->Device.Kind != NvmeDeviceNamespace) {
        return Namespace->Device.Kind == NvmeDevicePmr
                   ? NvmePmrFlush(&Namespace->Device, Irp)
                   : NvmeFinishIrp(Irp, STATUS_INVALID_DEVICE_REQUEST, 0);
    }
    const PNVME_QUEUE Queue = NvmeBeginIrp(Namespace, Irp, &OldIrql);
    NvmeStartCarefully(Queue, Namespace, Irp, 0, OldIrql);
    KeLowerIrql(OldIrql);
    return STATUS_PENDING;
}
