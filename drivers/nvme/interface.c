// Queue pairs for other drivers: NVME_QUEUE_INTERFACE (ntddnvme.h).
//
// Such a queue is a queue as any other, with an id beyond those of the processors. What is special is who
// gives it commands, and that these come with logical addresses: nothing is mapped here. A command costs
// a tracker, a look at what it says, and 64 bytes.
//
//   NVME_IO --Submit--> tracker: command, ring; one doorbell for all --> NvmeEndIo --> Done
//
// The owner may close it whenever he likes, also when the controller has been stopped or is gone: then the
// queue was failed, and forgotten by the controller, but its memory is the owner's to give back. A
// reference to the interface keeps the controller's device object.
//
// Lock: the queue's, once for each batch. So any processor may submit and poll.
#include "nvme.h"
#include "queueinline.h"

#define NVME_CLOSE_INTERVAL 1 // milliseconds

BOOLEAN NvmeIsQueueOwned(const NVME_QUEUE *Queue)
{
    return !IsListEmpty(&Queue->Link);
}

// -------------------------------------------------------------------------------------------------
// Commands.

// NVME_TRACKER_DONE.
static VOID NvmeEndIo(PNVME_TRACKER Tracker, NTSTATUS Status, ULONG Result, PNVME_FINISHED Finished)
{
    const PNVME_IO Io = Tracker->Io;
    Io->Status = Status;
    Io->Result = Result;
    *Finished->NextIo = Io;
    Finished->NextIo = &Io->Next;
}

// The namespace of a command: most often that of the one before. The namespace may go meanwhile: then the
// controller says so.
static inline const NVME_IO_NAMESPACE *NvmeNamespaceOfIo(PNVME_QUEUE Queue, ULONG Id)
{
    if (Queue->LastNamespace.Id == Id) {
        return &Queue->LastNamespace;
    }
    return NvmeLookUpForIo(Queue->Controller, Id, &Queue->LastNamespace) ? &Queue->LastNamespace
                                                                         : NULL;
}

// Everything that an emulated controller might let pass is refused here.
static inline NTSTATUS NvmeBuildIo(PNVME_QUEUE Queue, PNVME_TRACKER Tracker, const NVME_IO *Io)
{
    const PNVME_COMMAND Command = &Tracker->Command;
    const NVME_IO_NAMESPACE *Namespace = NvmeNamespaceOfIo(Queue, Io->NamespaceId);
    if (Namespace == NULL) {
        return STATUS_NO_SUCH_DEVICE;
    }
    *Command = (NVME_COMMAND){.Opcode = Io->Opcode, .NamespaceId = Io->NamespaceId};
    if (Io->Opcode == NvmeIoFlush) {
        return STATUS_SUCCESS;
    }
    if (Io->Opcode != NvmeIoRead && Io->Opcode != NvmeIoWrite) {
        return STATUS_INVALID_DEVICE_REQUEST;
    }
    const ULONG BlockCount = Io->BlockCount;
    if (BlockCount == 0 || BlockCount > Queue->MaximumTransferBytes >> Namespace->BlockShift ||
        Io->List == NULL) {
        return STATUS_INVALID_PARAMETER;
    }
    if (Io->FirstBlock > Namespace->BlockCount ||
        BlockCount > Namespace->BlockCount - Io->FirstBlock) {
        return STATUS_NONEXISTENT_SECTOR;
    }
    Command->Cdw10 = (ULONG)Io->FirstBlock;
    Command->Cdw11 = (ULONG)(Io->FirstBlock >> 32);
    Command->Cdw12 = BlockCount - 1;
    if ((Io->Flags & NVME_IO_FORCE_UNIT_ACCESS) != 0) {
        Command->Cdw12 |= NVME_FORCE_UNIT_ACCESS;
    }
    const ULONG ByteCount = BlockCount << Namespace->BlockShift;
    if (NvmeDescribePage(Queue, Tracker, Io->List, Io->ByteOffset, ByteCount)) {
        return STATUS_SUCCESS;
    }
    return NvmeDescribeList(Tracker, Io->List, Io->ByteOffset, ByteCount);
}

// FALSE: the queue is full.
static inline BOOLEAN NvmeSubmitIo(PNVME_QUEUE Queue, PNVME_IO Io, PNVME_FINISHED Finished)
{
    const PNVME_TRACKER Tracker = NvmeTakeTracker(Queue);
    if (Tracker == NULL) {
        return FALSE;
    }
    Tracker->Io = Io;
    Tracker->Done = NvmeEndIo;
    const NTSTATUS Status =
        NT_SUCCESS(Queue->ClosedStatus) ? NvmeBuildIo(Queue, Tracker, Io) : Queue->ClosedStatus;
    if (NT_SUCCESS(Status)) {
        NvmeSubmitTracker(Queue, Tracker);
    } else {
        NvmeEndIo(Tracker, Status, 0, Finished);
        NvmeReturnTracker(Queue, Tracker);
    }
    return TRUE;
}

static ULONG NTAPI NvmeSubmitIos(PNVME_QUEUE Queue, PNVME_IO const *Ios, ULONG Count)
{
    NVME_FINISHED Finished;
    ULONG Accepted = 0;
    NvmeStartFinished(&Finished);
    const KIRQL OldIrql = NvmeAcquireQueue(Queue);
    while (Accepted < Count && NvmeSubmitIo(Queue, Ios[Accepted], &Finished)) {
        Accepted += 1;
    }
    KeMemoryBarrier(); // Q4 of queue.c
    if (Queue->ReapCount == 0) {
        NvmeRing(Queue);
    }
    KeReleaseSpinLockFromDpcLevel(&Queue->Lock);
    if (Finished.FirstIo != NULL) {
        NvmeTellFinished(&Finished);
    }
    KeLowerIrql(OldIrql);
    return Accepted;
}

static ULONG NTAPI NvmePoll(PNVME_QUEUE Queue)
{
    return NvmeReap(Queue);
}

static PDMA_ADAPTER NTAPI NvmeAdapterOfQueue(PNVME_QUEUE Queue)
{
    return Queue->Adapter;
}

static VOID NTAPI NvmeQueryCounters(PNVME_QUEUE Queue, PNVME_QUEUE_COUNTERS Counters)
{
    *Counters = Queue->Counters;
}

// -------------------------------------------------------------------------------------------------
// Opening and closing.

static USHORT NvmeFreeQueueId(const NVME_CONTROLLER *Controller)
{
    for (ULONG Id = Controller->IoQueueCount + 1; Id <= Controller->MaximumQueueId; Id += 1) {
        if (Controller->Queues[Id] == NULL) {
            return (USHORT)Id;
        }
    }
    return 0;
}

// One entry of a ring always stays free.
static NTSTATUS NvmeCreateOwnedQueue(PNVME_CONTROLLER Controller, const NVME_QUEUE_OPTIONS *Options,
                                     PNVME_QUEUE *Result)
{
    const USHORT Id = NvmeFreeQueueId(Controller);
    PNVME_QUEUE Queue;
    if (Controller->State != NvmeReady) {
        return STATUS_DEVICE_NOT_READY;
    }
    if (Id == 0) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    NTSTATUS Status = NvmeAllocateQueue(Controller, Id, (USHORT)(Options->Depth + 1),
                                        Controller->MaximumTransferBytes, &Queue);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    Queue->IsPolled = Options->IsPolled;
    Queue->UsesLists = Options->WantsLists && NvmeCanUseLists(Controller);
    // The controller knows the buffers already. Entries of an earlier queue of this id must be gone before it
    // has the new one; and to tell of the buffers once more could put old values into those of others.
    NvmeSetShadow(Queue,
                  Controller->Queues[1] != NULL && Controller->Queues[1]->ShadowTail != NULL);
    Status = NvmeCreateQueuePair(Queue);
    if (!NT_SUCCESS(Status)) {
        NvmeFreeQueue(Queue);
        return Status;
    }
    InsertTailList(&Controller->OwnedQueues, &Queue->Link);
    NvmeOpenQueue(Queue);
    *Result = Queue;
    return STATUS_SUCCESS;
}

static NTSTATUS NTAPI NvmeOpenOwnedQueue(PVOID Context, const NVME_QUEUE_OPTIONS *Options,
                                         PNVME_QUEUE *Queue)
{
    const PNVME_CONTROLLER Controller = Context;
    (VOID)
        KeWaitForSingleObject(&Controller->ConfigurationMutex, Executive, KernelMode, FALSE, NULL);
    const ULONG Room = Controller->State == NvmeReady
                           ? NvmeSmaller(NVME_CAP_QUEUE_ENTRIES(Controller->Capabilities),
                                         NVME_MAXIMUM_QUEUE_ENTRIES)
                           : NVME_MAXIMUM_QUEUE_ENTRIES;
    const NTSTATUS Status = Options->Depth == 0 || Options->Depth >= Room
                                ? STATUS_INVALID_PARAMETER
                                : NvmeCreateOwnedQueue(Controller, Options, Queue);
    KeReleaseMutex(&Controller->ConfigurationMutex, FALSE);
    return Status;
}

static VOID NTAPI NvmeCloseOwnedQueue(PNVME_QUEUE Queue)
{
    const PNVME_CONTROLLER Controller = Queue->Controller;
    NvmeCloseQueue(Queue, STATUS_INVALID_DEVICE_STATE);
    while (!NvmeIsQueueIdle(Queue)) {
        (VOID) NvmeReap(Queue);
        NvmeSleep(NVME_CLOSE_INTERVAL);
    }
    (VOID)
        KeWaitForSingleObject(&Controller->ConfigurationMutex, Executive, KernelMode, FALSE, NULL);
    RemoveEntryList(&Queue->Link);
    InitializeListHead(&Queue->Link);
    if (Queue->State == NvmeQueueOpen && Controller->State == NvmeReady) {
        (VOID) NvmeDeleteQueuePair(Queue);
    }
    NvmeFreeQueue(Queue);
    KeReleaseMutex(&Controller->ConfigurationMutex, FALSE);
}

static NTSTATUS NTAPI NvmeQueryNamespace(PVOID Context, ULONG NamespaceId,
                                         PNVME_NAMESPACE_INFORMATION Information)
{
    const PNVME_CONTROLLER Controller = Context;
    NTSTATUS Status = STATUS_NO_MORE_ENTRIES;
    (VOID)
        KeWaitForSingleObject(&Controller->ConfigurationMutex, Executive, KernelMode, FALSE, NULL);
    for (PLIST_ENTRY Entry = Controller->Namespaces.Flink;
         Entry != &Controller->Namespaces && !NT_SUCCESS(Status); Entry = Entry->Flink) {
        const NVME_NAMESPACE *Namespace = CONTAINING_RECORD(Entry, NVME_NAMESPACE, Link);
        if (Namespace->IsPresent && Namespace->Id >= NamespaceId) {
            *Information = (NVME_NAMESPACE_INFORMATION){.NamespaceId = Namespace->Id,
                                                        .BlockBytes = 1u << Namespace->BlockShift,
                                                        .BlockCount = Namespace->BlockCount,
                                                        .MaximumTransferBytes =
                                                            Controller->MaximumTransferBytes};
            Status = STATUS_SUCCESS;
        }
    }
    KeReleaseMutex(&Controller->ConfigurationMutex, FALSE);
    return Status;
}

// -------------------------------------------------------------------------------------------------
// The interface.

static VOID NTAPI NvmeReferenceInterface(PVOID Context)
{
    ObReferenceObject(((PNVME_CONTROLLER)Context)->Device.Self);
}

static VOID NTAPI NvmeDereferenceInterface(PVOID Context)
{
    ObDereferenceObject(((PNVME_CONTROLLER)Context)->Device.Self);
}

NTSTATUS NvmeQueryInterface(PNVME_CONTROLLER Controller, const IO_STACK_LOCATION *Stack)
{
    if (!RtlEqualMemory(Stack->Parameters.QueryInterface.InterfaceType, &GUID_NVME_QUEUE_INTERFACE,
                        sizeof(GUID)) ||
        Stack->Parameters.QueryInterface.Version != NVME_QUEUE_INTERFACE_VERSION ||
        Stack->Parameters.QueryInterface.Size < sizeof(NVME_QUEUE_INTERFACE)) {
        return STATUS_NOT_SUPPORTED;
    }
    *(PNVME_QUEUE_INTERFACE)Stack->Parameters.QueryInterface.Interface = (NVME_QUEUE_INTERFACE){
        .Size = sizeof(NVME_QUEUE_INTERFACE),
        .Version = NVME_QUEUE_INTERFACE_VERSION,
        .Context = Controller,
        .InterfaceReference = NvmeReferenceInterface,
        .InterfaceDereference = NvmeDereferenceInterface,
        .QueryNamespace = NvmeQueryNamespace,
        .OpenQueue = NvmeOpenOwnedQueue,
        .CloseQueue = NvmeCloseOwnedQueue,
        .GetAdapter = NvmeAdapterOfQueue,
        .Submit = NvmeSubmitIos,
        .Poll = NvmePoll,
        .QueryCounters = NvmeQueryCounters,
    };
    NvmeReferenceInterface(Controller);
    return STATUS_SUCCESS;
}
