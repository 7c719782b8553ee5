// Queue pairs: rings, trackers, doorbells.
//
//   tracker      Free --Get--> Taken --Submit--> Submitted --completion--> Free
//   submission   RungTail .. Tail   filled, and the controller does not know yet
//   completion   Head               an entry is new when its phase bit is Queue->Phase
//
// One block of pool holds a queue, its trackers, and a scatter-gather list for each; one common buffer
// holds both rings, and a page list for each tracker.
//
// Invariants: N3 and N5 of nvme.h, and
//   Q1  A completion's phase is read before the rest of it: one 8-byte load has both, and this processor
//       keeps loads in order.
//   Q2  Entries are in memory before the doorbell, or the shadow of it, says so. With a shadow, the store
//       to it comes before the load of the event index: a full barrier. Else both sides could miss each
//       other's news.
//   Q3  Memory given to a controller that reads submissions from its own buffer goes by stores of 8 bytes:
//       some take no longer ones.
//   Q4  Whoever submits leaves the doorbell to the passes that are under way: he stores Tail before he reads
//       ReapCount, and a pass lowers ReapCount before it reads Tail, each with a full barrier between.
#include "nvme.h"
#include "queueinline.h"

#define NVME_PRINTED_ERRORS 32 // of each queue; the counters tell of the rest
#define NVME_ENTRY_ALIGNMENT 16

// -------------------------------------------------------------------------------------------------
// What the status of a completion means. Type and code as in "Status Code", the sentence for the
// log.

typedef struct _NVME_STATUS_MEANING {
    UCHAR Type;
    UCHAR Code;
    NTSTATUS Status;
    PCSTR Text;
} NVME_STATUS_MEANING;

static const NVME_STATUS_MEANING NvmeStatusMeanings[] = {
    {NvmeStatusGeneric, 0x00, STATUS_SUCCESS, "success"},
    {NvmeStatusGeneric, 0x01, STATUS_INVALID_DEVICE_REQUEST, "invalid command opcode"},
    {NvmeStatusGeneric, 0x02, STATUS_INVALID_PARAMETER, "invalid field in command"},
    {NvmeStatusGeneric, 0x04, STATUS_IO_DEVICE_ERROR, "data transfer error"},
    {NvmeStatusGeneric, 0x06, STATUS_DEVICE_HARDWARE_ERROR, "internal error"},
    {NvmeStatusGeneric, 0x07, STATUS_CANCELLED, "aborted by request"},
    {NvmeStatusGeneric, 0x08, STATUS_CANCELLED, "aborted with its submission queue"},
    {NvmeStatusGeneric, 0x0B, STATUS_NO_SUCH_DEVICE, "invalid namespace or format"},
    {NvmeStatusGeneric, 0x13, STATUS_DATATYPE_MISALIGNMENT, "invalid PRP offset"},
    {NvmeStatusGeneric, 0x20, STATUS_MEDIA_WRITE_PROTECTED, "namespace is write protected"},
    {NvmeStatusGeneric, 0x80, STATUS_NONEXISTENT_SECTOR, "block out of range"},
    {NvmeStatusGeneric, 0x81, STATUS_DISK_FULL, "capacity exceeded"},
    {NvmeStatusGeneric, 0x82, STATUS_DEVICE_NOT_READY, "namespace not ready"},
    {NvmeStatusGeneric, 0x84, STATUS_DEVICE_BUSY, "format in progress"},
    {NvmeStatusCommandSpecific, 0x09, STATUS_INVALID_PARAMETER, "invalid log page"},
    {NvmeStatusCommandSpecific, 0x0A, STATUS_NOT_SUPPORTED, "invalid format"},
    {NvmeStatusCommandSpecific, 0x0E, STATUS_ACCESS_DENIED, "the feature cannot be changed"},
    {NvmeStatusCommandSpecific, 0x0F, STATUS_INVALID_PARAMETER, "no feature of a namespace"},
    {NvmeStatusCommandSpecific, 0x82, STATUS_MEDIA_WRITE_PROTECTED, "write to a read-only range"},
    {NvmeStatusMedia, 0x80, STATUS_DEVICE_DATA_ERROR, "write fault"},
    {NvmeStatusMedia, 0x81, STATUS_DEVICE_DATA_ERROR, "unrecovered read error"},
    {NvmeStatusMedia, 0x82, STATUS_CRC_ERROR, "end-to-end guard check error"},
    {NvmeStatusMedia, 0x83, STATUS_CRC_ERROR, "end-to-end application tag check error"},
    {NvmeStatusMedia, 0x84, STATUS_CRC_ERROR, "end-to-end reference tag check error"},
    {NvmeStatusMedia, 0x85, STATUS_DATA_ERROR, "compare failure"},
    {NvmeStatusMedia, 0x86, STATUS_ACCESS_DENIED, "access denied"},
};

NTSTATUS NvmeTranslateStatus(USHORT Status, PCSTR *Text)
{
    static const NVME_STATUS_MEANING Unknown = {0, 0, STATUS_IO_DEVICE_ERROR, "device error"};
    const NVME_STATUS_MEANING *Meaning = &Unknown;
    for (ULONG Index = 0; Index < ARRAYSIZE(NvmeStatusMeanings); Index += 1) {
        if (NvmeStatusMeanings[Index].Type == NVME_STATUS_TYPE(Status) &&
            NvmeStatusMeanings[Index].Code == NVME_STATUS_CODE(Status)) {
            Meaning = &NvmeStatusMeanings[Index];
            break;
        }
    }
    if (Text != NULL) {
        *Text = Meaning->Text;
    }
    return Meaning->Status;
}

// -------------------------------------------------------------------------------------------------
// Memory.

typedef struct _NVME_QUEUE_LAYOUT {
    ULONG SubmissionBytes; // of the common buffer
    ULONG CompletionBytes;
    ULONG PrpBytes; // of each tracker
    ULONG TrackerCount;
    ULONG ListBytes; // of each tracker, in pool
    SIZE_T ListsOffset;
    SIZE_T PoolBytes;
} NVME_QUEUE_LAYOUT;

static ULONG NvmeRoundToPages(ULONG ByteCount)
{
    return (ULONG)ROUND_TO_PAGES(ByteCount);
}

// Page lists are as long as the longest transfer needs for SGLs, which take twice what PRPs take, and a
// power of two, so that none crosses a page needlessly.
static ULONG NvmePrpBytes(ULONG MaximumTransferBytes)
{
    ULONG ByteCount = 64;
    while (ByteCount < MaximumTransferBytes / PAGE_SIZE * sizeof(NVME_SGL_DESCRIPTOR)) {
        ByteCount *= 2;
    }
    return ByteCount;
}

static NTSTATUS NvmeLayOutQueue(PDMA_ADAPTER Adapter, USHORT EntryCount, ULONG MaximumTransferBytes,
                                NVME_QUEUE_LAYOUT *Layout)
{
    RtlZeroMemory(Layout, sizeof(*Layout));
    Layout->SubmissionBytes = NvmeRoundToPages(EntryCount * (ULONG)sizeof(NVME_COMMAND));
    Layout->CompletionBytes = NvmeRoundToPages(EntryCount * (ULONG)sizeof(NVME_COMPLETION));
    Layout->TrackerCount = EntryCount - 1u;
    Layout->ListsOffset = sizeof(NVME_QUEUE) + Layout->TrackerCount * sizeof(NVME_TRACKER);
    if (MaximumTransferBytes != 0) {
        Layout->PrpBytes = NvmePrpBytes(MaximumTransferBytes);
        // The longest list there is: as many pages as there can be, each an element.
        const NTSTATUS Status = Adapter->DmaOperations->CalculateScatterGatherList(
            Adapter, NULL, (PVOID)(ULONG_PTR)(PAGE_SIZE - sizeof(ULONG)), MaximumTransferBytes,
            &Layout->ListBytes, NULL);
        if (!NT_SUCCESS(Status)) {
            return Status;
        }
        Layout->ListBytes =
            (Layout->ListBytes + NVME_ENTRY_ALIGNMENT - 1) & ~(ULONG)(NVME_ENTRY_ALIGNMENT - 1);
    }
    Layout->PoolBytes = Layout->ListsOffset + (SIZE_T)Layout->TrackerCount * Layout->ListBytes;
    return STATUS_SUCCESS;
}

static VOID NvmeSetUpTrackers(PNVME_QUEUE Queue, const NVME_QUEUE_LAYOUT *Layout)
{
    const PUCHAR Lists = (PUCHAR)Queue + Layout->ListsOffset;
    const ULONG PrpOffset = Layout->SubmissionBytes + Layout->CompletionBytes;
    Queue->Trackers = (PNVME_TRACKER)(Queue + 1);
    Queue->TrackerCount = (USHORT)Layout->TrackerCount;
    Queue->FirstFree = NVME_NO_TRACKER;
    for (ULONG Index = Layout->TrackerCount; Index-- > 0;) {
        const PNVME_TRACKER Tracker = &Queue->Trackers[Index];
        const ULONG Offset = PrpOffset + Index * Layout->PrpBytes;
        Tracker->Queue = Queue;
        Tracker->Index = (USHORT)Index;
        Tracker->NextFree = Queue->FirstFree;
        Queue->FirstFree = (USHORT)Index;
        if (Layout->PrpBytes != 0) {
            Tracker->PrpList = (PULONG64)((PUCHAR)Queue->Buffer + Offset);
            Tracker->PrpListAddress = (ULONG64)Queue->BufferAddress.QuadPart + Offset;
            Tracker->ListBuffer = Lists + (SIZE_T)Index * Layout->ListBytes;
            (VOID) Queue->Operations->InitializeDmaTransferContext(Queue->Adapter,
                                                                   Tracker->TransferContext);
        }
    }
}

static VOID NvmeSetUpQueue(PNVME_QUEUE Queue, PNVME_CONTROLLER Controller, USHORT Id,
                           USHORT EntryCount)
{
    const ULONG Stride = NVME_CAP_DOORBELL_STRIDE(Controller->Capabilities);
    volatile UCHAR *Doorbells = (volatile UCHAR *)Controller->Registers + NVME_DOORBELL_OFFSET;
    Queue->Controller = Controller;
    Queue->DeviceObject = Controller->Device.Self;
    Queue->Id = Id;
    Queue->EntryCount = EntryCount;
    Queue->TailDoorbell = (volatile ULONG *)(Doorbells + 2 * Id * Stride);
    Queue->HeadDoorbell = (volatile ULONG *)(Doorbells + (2 * Id + 1) * Stride);
    Queue->Message = NvmeMessageOfQueue(Controller, Id);
    Queue->Processor = MAXULONG;
    Queue->ClosedStatus = STATUS_DEVICE_NOT_READY;
    Queue->Phase = NVME_STATUS_PHASE;
    KeInitializeSpinLock(&Queue->Lock);
    InitializeListHead(&Queue->Waiting);
    InitializeListHead(&Queue->Link);
    NvmeInitializeDpcs(Queue);
}

static NTSTATUS NvmeAllocateQueueBuffer(PNVME_QUEUE Queue, const NVME_QUEUE_LAYOUT *Layout)
{
    Queue->BufferByteCount = NvmeRoundToPages(Layout->SubmissionBytes + Layout->CompletionBytes +
                                              Layout->TrackerCount * Layout->PrpBytes);
    Queue->Buffer = Queue->Operations->AllocateCommonBuffer(Queue->Adapter, Queue->BufferByteCount,
                                                            &Queue->BufferAddress, TRUE);
    if (Queue->Buffer == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    RtlZeroMemory(Queue->Buffer, Queue->BufferByteCount);
    Queue->Submission = Queue->Buffer;
    Queue->SubmissionAddress = (ULONG64)Queue->BufferAddress.QuadPart;
    Queue->Completion = (PVOID)((PUCHAR)Queue->Buffer + Layout->SubmissionBytes);
    Queue->CompletionAddress = Queue->SubmissionAddress + Layout->SubmissionBytes;
    return STATUS_SUCCESS;
}

// Of a processor's queue, where the controller has memory for that. Other drivers' queues come and go, and
// nothing of that memory can be given back.
static VOID NvmeMoveSubmissionToCmb(PNVME_QUEUE Queue)
{
    const BOOLEAN IsOfProcessor = Queue->Id != 0 && Queue->Controller->State == NvmeStarting;
    ULONG64 Address;
    const ULONG ByteCount = Queue->EntryCount * (ULONG)sizeof(NVME_COMMAND);
    const PVOID Va = IsOfProcessor ? NvmeTakeCmb(Queue->Controller, ByteCount, &Address) : NULL;
    if (Va != NULL) {
        Queue->Submission = Va;
        Queue->SubmissionAddress = Address;
        Queue->SubmissionIsInCmb = TRUE;
    }
}

// All trackers may have a transfer of the longest kind, at an odd offset. The adapter grants what it
// has.
static ULONG NvmeOutstandingBytes(USHORT EntryCount, ULONG MaximumTransferBytes)
{
    const ULONG64 ByteCount = (EntryCount - 1ull) * (MaximumTransferBytes + PAGE_SIZE);
    return MaximumTransferBytes == 0 ? PAGE_SIZE : ByteCount > MAXLONG ? MAXLONG : (ULONG)ByteCount;
}

NTSTATUS NvmeAllocateQueue(PNVME_CONTROLLER Controller, USHORT Id, USHORT EntryCount,
                           ULONG MaximumTransferBytes, PNVME_QUEUE *Result)
{
    NVME_QUEUE_LAYOUT Layout;
    ULONG MapRegisterCount;
    const PDMA_ADAPTER Adapter = NvmeGetAdapter(
        Controller, NvmeOutstandingBytes(EntryCount, MaximumTransferBytes), &MapRegisterCount);
    if (Adapter == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    // With bounce pages there may be fewer: a page at an odd offset takes two.
    MaximumTransferBytes = NvmeSmaller(MaximumTransferBytes, (MapRegisterCount - 1) * PAGE_SIZE);
    NTSTATUS Status = NvmeLayOutQueue(Adapter, EntryCount, MaximumTransferBytes, &Layout);
    const PNVME_QUEUE Queue = NT_SUCCESS(Status)
                                  ? ExAllocatePool2(POOL_FLAG_NON_PAGED, Layout.PoolBytes, NVME_TAG)
                                  : NULL;
    if (Queue == NULL) {
        Adapter->DmaOperations->PutDmaAdapter(Adapter);
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    NvmeSetUpQueue(Queue, Controller, Id, EntryCount);
    Queue->Adapter = Adapter;
    Queue->Operations = Adapter->DmaOperations;
    Queue->ListByteCount = Layout.ListBytes;
    Queue->MaximumTransferBytes = MaximumTransferBytes;
    Queue->PrpByteCount = Layout.PrpBytes;
    Queue->MapRegisterCount = MapRegisterCount;
    Status = NvmeAllocateQueueBuffer(Queue, &Layout);
    if (!NT_SUCCESS(Status)) {
        Adapter->DmaOperations->PutDmaAdapter(Adapter);
        ExFreePoolWithTag(Queue, NVME_TAG);
        return Status;
    }
    NvmeSetUpTrackers(Queue, &Layout);
    NvmeMoveSubmissionToCmb(Queue);
    Controller->Queues[Id] = Queue;
    *Result = Queue;
    return STATUS_SUCCESS;
}

// Whoever finds a queue by these pointers does so at DISPATCH_LEVEL, and leaves that when he has done with
// the queue.
VOID NvmeForgetQueue(PNVME_QUEUE Queue)
{
    const PNVME_CONTROLLER Controller = Queue->Controller;
    if (Controller->Queues[Queue->Id] == Queue) {
        Controller->Queues[Queue->Id] = NULL;
    }
    for (ULONG Processor = 0; Processor < NVME_MAXIMUM_PROCESSORS; Processor += 1) {
        if (Controller->QueueOfProcessor[Processor] == Queue) {
            Controller->QueueOfProcessor[Processor] = NULL;
        }
    }
    KeFlushQueuedDpcs();
}

VOID NvmeFreeQueue(PNVME_QUEUE Queue)
{
    if (Queue == NULL) {
        return;
    }
    NvmeForgetQueue(Queue);
    if (Queue->Controller->Unstoppable) {
        DbgPrint("NVMe: queue %u is lost: the controller may still write to it\n", Queue->Id);
        return;
    }
    NT_ASSERT(Queue->OutstandingCount == 0 && IsListEmpty(&Queue->Waiting));
    Queue->Operations->FreeCommonBuffer(Queue->Adapter, Queue->BufferByteCount,
                                        Queue->BufferAddress, Queue->Buffer, TRUE);
    Queue->Operations->PutDmaAdapter(Queue->Adapter);
    ExFreePoolWithTag(Queue, NVME_TAG);
}

// -------------------------------------------------------------------------------------------------
// Trackers.

PNVME_TRACKER NvmeGetTracker(PNVME_QUEUE Queue)
{
    return NvmeTakeTracker(Queue);
}

VOID NvmePutTracker(PNVME_TRACKER Tracker)
{
    NvmeReturnTracker(Tracker->Queue, Tracker);
}

VOID NvmeSubmit(PNVME_TRACKER Tracker)
{
    NvmeSubmitTracker(Tracker->Queue, Tracker);
}

// -------------------------------------------------------------------------------------------------
// Doorbells.

// Whether the controller wants to hear of the move from Old to New by a register: it wrote the index that
// it waits for, and is only interested when that was passed ("Doorbell Buffer Config command").
static BOOLEAN NvmeWantsDoorbell(USHORT EventIndex, USHORT New, USHORT Old)
{
    return (USHORT)(New - EventIndex - 1) < (USHORT)(New - Old);
}

// Q2. FALSE: the controller finds the shadow by itself.
static BOOLEAN NvmeUpdateShadow(volatile ULONG *Shadow, volatile ULONG *Event, USHORT New)
{
    const USHORT Old = (USHORT)*Shadow;
    KeMemoryBarrierWithoutFence();
    *Shadow = New;
    KeMemoryBarrier();
    return NvmeWantsDoorbell((USHORT)*Event, New, Old);
}

VOID NvmeRing(PNVME_QUEUE Queue)
{
    if (Queue->RungTail == Queue->Tail || Queue->State != NvmeQueueOpen) {
        return;
    }
    Queue->RungTail = Queue->Tail;
    if (Queue->ShadowTail != NULL &&
        !NvmeUpdateShadow(Queue->ShadowTail, Queue->TailEvent, Queue->Tail)) {
        Queue->Counters.SavedDoorbells += 1;
        return;
    }
    if (Queue->SubmissionIsInCmb) {
        KeMemoryBarrier(); // write-combined stores are not in order with uncached ones
    }
    Queue->Counters.TailDoorbells += 1;
    WRITE_REGISTER_ULONG(Queue->TailDoorbell, Queue->Tail);
}

VOID NvmeRingSoon(PNVME_QUEUE Queue, KIRQL OldIrql)
{
    KeMemoryBarrier(); // Q4
    if (Queue->ReapCount != 0 || Queue->IsRingDeferred) {
        return;
    }
    if (OldIrql < DISPATCH_LEVEL) {
        NvmeRing(Queue);
        return;
    }
    Queue->IsRingDeferred = TRUE;
    (VOID) KeInsertQueueDpc(&Queue->RingDpc, NULL, NULL);
}

static VOID NvmeTellHead(PNVME_QUEUE Queue)
{
    if (Queue->IsMuted) {
        return;
    }
    if (Queue->ShadowHead != NULL &&
        !NvmeUpdateShadow(Queue->ShadowHead, Queue->HeadEvent, Queue->Head)) {
        Queue->Counters.SavedDoorbells += 1;
        return;
    }
    Queue->Counters.HeadDoorbells += 1;
    WRITE_REGISTER_ULONG(Queue->HeadDoorbell, Queue->Head);
}

VOID NvmeSetShadow(PNVME_QUEUE Queue, BOOLEAN IsOn)
{
    const PNVME_CONTROLLER Controller = Queue->Controller;
    const ULONG Stride = NVME_CAP_DOORBELL_STRIDE(Controller->Capabilities);
    const PUCHAR Tail = (PUCHAR)Controller->Shadow + 2 * Queue->Id * Stride;
    const BOOLEAN IsUsed = IsOn && Queue->Id != 0;
    KIRQL OldIrql;
    KeAcquireSpinLock(&Queue->Lock, &OldIrql);
    Queue->ShadowTail = IsUsed ? (PULONG)Tail : NULL;
    Queue->ShadowHead = IsUsed ? (PULONG)(Tail + Stride) : NULL;
    Queue->TailEvent = IsUsed ? (PULONG)(Tail + PAGE_SIZE) : NULL;
    Queue->HeadEvent = IsUsed ? (PULONG)(Tail + Stride + PAGE_SIZE) : NULL;
    if (IsUsed) {
        *Queue->ShadowTail = Queue->RungTail;
        *Queue->ShadowHead = Queue->Head;
        *Queue->TailEvent = Queue->RungTail;
        *Queue->HeadEvent = Queue->Head;
    }
    KeReleaseSpinLock(&Queue->Lock, OldIrql);
}

// -------------------------------------------------------------------------------------------------
// Completions.

BOOLEAN NvmeHasCompletion(const NVME_QUEUE *Queue)
{
    return (Queue->Completion[Queue->Head].Status & NVME_STATUS_PHASE) == Queue->Phase;
}

VOID NvmeTellFinished(PNVME_FINISHED Finished)
{
    // What is finished is its owner's again when he is told: the next one is looked up before.
    *Finished->NextIo = NULL;
    *Finished->NextIrp = NULL;
    for (PNVME_IO Io = Finished->FirstIo, Next; Io != NULL; Io = Next) {
        Next = Io->Next;
        Io->Done(Io);
    }
    for (PIRP Irp = Finished->FirstIrp, Next; Irp != NULL; Irp = Next) {
        Next = *NvmeNextFinished(Irp);
        IoCompleteRequest(Irp, IO_DISK_INCREMENT);
    }
}

static VOID NvmePrintFailure(const NVME_QUEUE *Queue, const NVME_COMMAND *Command, USHORT Status)
{
    PCSTR Text;
    const NTSTATUS Meaning = NvmeTranslateStatus(Status, &Text);
    DbgPrint("NVMe: queue %u: command 0x%02x (0x%x, 0x%x, 0x%x) failed: %s (SCT %u, SC 0x%02x), "
             "status 0x%08x\n",
             Queue->Id, Command->Opcode, Command->Cdw10, Command->Cdw11, Command->Cdw12, Text,
             NVME_STATUS_TYPE(Status), NVME_STATUS_CODE(Status), Meaning);
}

static inline VOID NvmeEndTracker(PNVME_QUEUE Queue, PNVME_TRACKER Tracker, NTSTATUS Status,
                                  ULONG Result, PNVME_FINISHED Finished)
{
    Queue->OutstandingCount -= 1;
    Tracker->Done(Tracker, Status, Result, Finished);
    NvmeReturnTracker(Queue, Tracker);
}

static DECLSPEC_NOINLINE VOID NvmeRefuseCompletion(PNVME_QUEUE Queue, USHORT CommandId)
{
    Queue->Counters.UnknownCompletions += 1;
    DbgPrint("NVMe: queue %u: the controller completed command 0x%x, which was not under way\n",
             Queue->Id, CommandId);
    NvmeRequestRecovery(Queue->Controller, NvmeReasonProtocol);
}

static DECLSPEC_NOINLINE NTSTATUS NvmeNoteError(PNVME_QUEUE Queue, PNVME_TRACKER Tracker,
                                                USHORT Status)
{
    Tracker->StatusField = Status;
    Queue->Counters.Errors += 1;
    if (Queue->Counters.Errors <= NVME_PRINTED_ERRORS) {
        NvmePrintFailure(Queue, &Tracker->Command, Status);
    }
    const NTSTATUS Meaning = NvmeTranslateStatus(Status, NULL);
    // The recovery has it aborted because it is late.
    return Meaning == STATUS_CANCELLED && Tracker->IsAborting ? STATUS_IO_TIMEOUT : Meaning;
}

// Status and CommandId come from the device: they are looked at before they are believed.
static inline VOID NvmeTakeCompletion(PNVME_QUEUE Queue, USHORT CommandId, USHORT Status,
                                      ULONG Result, PNVME_FINISHED Finished)
{
    const ULONG Index = CommandId & NVME_TRACKER_INDEX_MASK;
    const PNVME_TRACKER Tracker = &Queue->Trackers[Index];
    if (Index >= Queue->TrackerCount || Tracker->State != NvmeTrackerSubmitted ||
        Tracker->Command.CommandId != CommandId) {
        NvmeRefuseCompletion(Queue, CommandId);
        return;
    }
    const NTSTATUS Meaning =
        (Status & ~NVME_STATUS_PHASE) == 0 ? STATUS_SUCCESS : NvmeNoteError(Queue, Tracker, Status);
    NvmeEndTracker(Queue, Tracker, Meaning, Result, Finished);
}

// Consumes every completion that has arrived, but no more than the ring holds, so that nothing that
// a controller writes can keep it here; then tells the controller once.
static ULONG NvmeConsumeCompletions(PNVME_QUEUE Queue, PNVME_FINISHED Finished)
{
    const ULONG EntryCount = Queue->EntryCount;
    ULONG Count = 0;
    for (; Count < EntryCount; Count += 1) {
        const volatile ULONG64 *Entry = (const volatile ULONG64 *)&Queue->Completion[Queue->Head];
        const ULONG64 Upper = Entry[1]; // Q1
        const USHORT Status = (USHORT)(Upper >> 48);
        if ((Status & NVME_STATUS_PHASE) != Queue->Phase) {
            break;
        }
        const ULONG Result = (ULONG)Entry[0];
        Queue->Head += 1;
        if (Queue->Head == EntryCount) {
            Queue->Head = 0;
            Queue->Phase ^= NVME_STATUS_PHASE;
        }
        NvmeTakeCompletion(Queue, (USHORT)(Upper >> 32), Status, Result, Finished);
    }
    if (Count != 0) {
        Queue->Counters.Completions += Count;
        Queue->Counters.Reaps += 1;
        NvmeTellHead(Queue);
    }
    return Count;
}

// What is submitted while others are told of the ends goes to the controller with one doorbell, after.
// Q4: one of the two rings.
ULONG NvmeReap(PNVME_QUEUE Queue)
{
    NVME_FINISHED Finished;
    if (!NvmeHasCompletion(Queue)) {
        return 0;
    }
    NvmeStartFinished(&Finished);
    const KIRQL OldIrql = NvmeAcquireQueue(Queue);
    const ULONG Count = NvmeConsumeCompletions(Queue, &Finished);
    if (!IsListEmpty(&Queue->Waiting)) {
        NvmeStartWaiting(Queue, &Finished);
    }
    (VOID) InterlockedIncrement(&Queue->ReapCount);
    KeReleaseSpinLockFromDpcLevel(&Queue->Lock);

    NvmeTellFinished(&Finished);

    (VOID) InterlockedDecrement(&Queue->ReapCount);
    if (*(volatile USHORT *)&Queue->Tail != Queue->RungTail) {
        KeAcquireSpinLockAtDpcLevel(&Queue->Lock);
        NvmeRing(Queue);
        KeReleaseSpinLockFromDpcLevel(&Queue->Lock);
    }
    KeLowerIrql(OldIrql);
    return Count;
}

// -------------------------------------------------------------------------------------------------
// Recovery.

VOID NvmeHoldQueue(PNVME_QUEUE Queue)
{
    KIRQL OldIrql;
    KeAcquireSpinLock(&Queue->Lock, &OldIrql);
    Queue->State = NvmeQueueHeld;
    KeReleaseSpinLock(&Queue->Lock, OldIrql);
}

VOID NvmeMuteQueue(PNVME_QUEUE Queue)
{
    KIRQL OldIrql;
    KeAcquireSpinLock(&Queue->Lock, &OldIrql);
    Queue->IsMuted = TRUE;
    KeReleaseSpinLock(&Queue->Lock, OldIrql);
}

VOID NvmeResetQueue(PNVME_QUEUE Queue)
{
    KIRQL OldIrql;
    KeAcquireSpinLock(&Queue->Lock, &OldIrql);
    Queue->IsMuted = FALSE;
    Queue->Tail = 0;
    Queue->RungTail = 0;
    Queue->Head = 0;
    Queue->Phase = NVME_STATUS_PHASE;
    for (ULONG Index = 0; Index < Queue->EntryCount; Index += 1) {
        Queue->Completion[Index].Status = 0; // a phase of 0 means "old"
    }
    if (Queue->ShadowTail != NULL) {
        *Queue->ShadowTail = 0;
        *Queue->ShadowHead = 0;
        *Queue->TailEvent = 0;
        *Queue->HeadEvent = 0;
    }
    KeReleaseSpinLock(&Queue->Lock, OldIrql);
}

VOID NvmeResubmit(PNVME_QUEUE Queue)
{
    NVME_FINISHED Finished;
    KIRQL OldIrql;
    NvmeStartFinished(&Finished);
    KeAcquireSpinLock(&Queue->Lock, &OldIrql);
    Queue->State = NvmeQueueOpen;
    for (ULONG Index = 0; Index < Queue->TrackerCount; Index += 1) {
        const PNVME_TRACKER Tracker = &Queue->Trackers[Index];
        if (Tracker->State != NvmeTrackerSubmitted) {
            continue;
        }
        if (Tracker->EndStatus != STATUS_SUCCESS) {
            NvmeEndTracker(Queue, Tracker, Tracker->EndStatus, 0, &Finished);
            continue;
        }
        Tracker->RetryCount += 1;
        Tracker->IsAborting = FALSE;
        Queue->Counters.Retries += 1;
        NvmeGiveToController(Queue, Tracker);
    }
    NvmeStartWaiting(Queue, &Finished);
    NvmeRing(Queue);
    KeReleaseSpinLockFromDpcLevel(&Queue->Lock);
    NvmeTellFinished(&Finished);
    KeLowerIrql(OldIrql);
}

VOID NvmeOpenQueue(PNVME_QUEUE Queue)
{
    KIRQL OldIrql;
    KeAcquireSpinLock(&Queue->Lock, &OldIrql);
    Queue->State = NvmeQueueOpen;
    Queue->ClosedStatus = STATUS_SUCCESS;
    KeReleaseSpinLock(&Queue->Lock, OldIrql);
}

VOID NvmeCloseQueue(PNVME_QUEUE Queue, NTSTATUS Status)
{
    KIRQL OldIrql;
    KeAcquireSpinLock(&Queue->Lock, &OldIrql);
    Queue->ClosedStatus = Status;
    KeReleaseSpinLock(&Queue->Lock, OldIrql);
}

BOOLEAN NvmeIsQueueIdle(PNVME_QUEUE Queue)
{
    KIRQL OldIrql;
    KeAcquireSpinLock(&Queue->Lock, &OldIrql);
    const BOOLEAN IsIdle = Queue->OutstandingCount == 0 && IsListEmpty(&Queue->Waiting);
    KeReleaseSpinLock(&Queue->Lock, OldIrql);
    return IsIdle;
}

VOID NvmeFailQueue(PNVME_QUEUE Queue, NTSTATUS Status)
{
    NVME_FINISHED Finished;
    KIRQL OldIrql;
    NvmeStartFinished(&Finished);
    KeAcquireSpinLock(&Queue->Lock, &OldIrql);
    Queue->State = NvmeQueueClosed;
    Queue->ClosedStatus = Status;
    for (ULONG Index = 0; Index < Queue->TrackerCount; Index += 1) {
        const PNVME_TRACKER Tracker = &Queue->Trackers[Index];
        if (Tracker->State == NvmeTrackerSubmitted) {
            NvmeEndTracker(Queue, Tracker,
                           Tracker->EndStatus != STATUS_SUCCESS ? Tracker->EndStatus : Status, 0,
                           &Finished);
        }
    }
    NvmeFailWaiting(Queue, Status, &Finished);
    KeReleaseSpinLockFromDpcLevel(&Queue->Lock);
    NvmeTellFinished(&Finished);
    KeLowerIrql(OldIrql);
}
