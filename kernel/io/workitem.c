// Work items, and the system threads that run them.
//
//   queue               threads   priority
//   CriticalWorkQueue   2         13        HyperCriticalWorkQueue   1   15
//   DelayedWorkQueue    3         12        (what may wait for other work items)
//
// An item belongs to the queue from ExQueueWorkItem until its routine is called. An IO_WORKITEM keeps
// its device or driver for as long, and until the routine has returned.
//
// Locks: a queue's own for its list; IopWorkItemLock for the list of all IO_WORKITEMs.
#include "kernel/io/pnp.h"

#define IOP_MAXIMUM_WORKERS 3

typedef struct _IOP_WORK_QUEUE {
    KPRIORITY Priority;
    ULONG WorkerCount;
    KSPIN_LOCK Lock;
    LIST_ENTRY Items;
    KSEMAPHORE Count;
    PWORKER_THREAD_ROUTINE Running[IOP_MAXIMUM_WORKERS];
    volatile LONG NextWorker;
} IOP_WORK_QUEUE, *PIOP_WORK_QUEUE;

#define IOP_WORK_QUEUES (HyperCriticalWorkQueue + 1)

static IOP_WORK_QUEUE IopWorkQueues[IOP_WORK_QUEUES] = {
    [CriticalWorkQueue] = {.Priority = 13, .WorkerCount = 2},
    [DelayedWorkQueue] = {.Priority = 12, .WorkerCount = 3},
    [HyperCriticalWorkQueue] = {.Priority = 15, .WorkerCount = 1},
};

struct _IO_WORKITEM {
    WORK_QUEUE_ITEM Item;
    LIST_ENTRY Link;
    PVOID IoObject; // a device or a driver; referenced while the item is queued
    PIO_WORKITEM_ROUTINE Routine;
    PIO_WORKITEM_ROUTINE_EX RoutineEx;
    PVOID Context;
    volatile LONG IsQueued;
};

static KI_LOCK IopWorkItemLock = KI_LOCK_INITIALIZER(IOP_RANK_WORK_ITEMS, "IopWorkItemLock");
static LIST_ENTRY IopWorkItems = {&IopWorkItems, &IopWorkItems};

//
// Threads.
//

static PWORK_QUEUE_ITEM IopTakeItem(PIOP_WORK_QUEUE Queue, ULONG Worker)
{
    KeWaitForSingleObject(&Queue->Count, Executive, KernelMode, FALSE, NULL);
    const KIRQL OldIrql = KeAcquireSpinLockRaiseToDpc(&Queue->Lock);
    const PWORK_QUEUE_ITEM Item =
        CONTAINING_RECORD(RemoveHeadList(&Queue->Items), WORK_QUEUE_ITEM, List);
    Item->List.Flink = NULL;
    Queue->Running[Worker] = Item->WorkerRoutine;
    KeReleaseSpinLock(&Queue->Lock, OldIrql);
    return Item;
}

static VOID NTAPI IopWorkerThread(PVOID Context)
{
    const PIOP_WORK_QUEUE Queue = Context;
    const ULONG Worker =
        (ULONG)__atomic_fetch_add(&Queue->NextWorker, 1, __ATOMIC_RELAXED) % IOP_MAXIMUM_WORKERS;
    KeSetPriorityThread(KeGetCurrentThread(), Queue->Priority);
    for (;;) {
        const PWORK_QUEUE_ITEM Item = IopTakeItem(Queue, Worker);
        const PWORKER_THREAD_ROUTINE Routine = Item->WorkerRoutine;
        Routine(Item->Parameter);
        if (KeGetCurrentIrql() != PASSIVE_LEVEL) {
            KiBugCheckSaying(IRQL_NOT_LESS_OR_EQUAL, (ULONG_PTR)Routine, KeGetCurrentIrql(), 0, 0,
                             "the routine of a work item returned at a raised IRQL");
        }
        Queue->Running[Worker] = NULL;
    }
}

VOID IopStartWorkers(VOID)
{
    for (ULONG Type = 0; Type < IOP_WORK_QUEUES; Type += 1) {
        const PIOP_WORK_QUEUE Queue = &IopWorkQueues[Type];
        InitializeListHead(&Queue->Items);
        KeInitializeSemaphore(&Queue->Count, 0, MAXLONG);
        for (ULONG Worker = 0; Worker < Queue->WorkerCount; Worker += 1) {
            HANDLE Thread;
            const NTSTATUS Status =
                PsCreateSystemThread(&Thread, 0, NULL, NULL, NULL, IopWorkerThread, Queue);
            if (NT_SUCCESS(Status)) {
                ZwClose(Thread);
            } else {
                DbgPrint("io: no system thread for work items: status 0x%08x\n", Status);
            }
        }
    }
}

VOID NTAPI ExQueueWorkItem(PWORK_QUEUE_ITEM WorkItem, WORK_QUEUE_TYPE QueueType)
{
    const PIOP_WORK_QUEUE Queue =
        &IopWorkQueues[QueueType < IOP_WORK_QUEUES ? QueueType : DelayedWorkQueue];
    const KIRQL OldIrql = KeAcquireSpinLockRaiseToDpc(&Queue->Lock);
    if (WorkItem->List.Flink != NULL) {
        KiBugCheckSaying(WORKER_INVALID, 1, (ULONG_PTR)WorkItem, (ULONG_PTR)WorkItem->WorkerRoutine,
                         0,
                         "a work item was queued that is queued already, or was not initialized");
    }
    InsertTailList(&Queue->Items, &WorkItem->List);
    KeReleaseSpinLock(&Queue->Lock, OldIrql);
    KeReleaseSemaphore(&Queue->Count, IO_NO_INCREMENT, 1, FALSE);
}

//
// IO_WORKITEMs.
//

static VOID NTAPI IopRunWorkItem(PVOID Parameter)
{
    const PIO_WORKITEM WorkItem = Parameter;
    // The routine may free the item, or queue it again.
    const struct _IO_WORKITEM Copy = *WorkItem;
    __atomic_store_n(&WorkItem->IsQueued, FALSE, __ATOMIC_RELEASE);
    if (Copy.RoutineEx != NULL) {
        Copy.RoutineEx(Copy.IoObject, Copy.Context, WorkItem);
    } else {
        Copy.Routine(Copy.IoObject, Copy.Context);
    }
    ObDereferenceObject(Copy.IoObject);
}

VOID NTAPI IoInitializeWorkItem(PVOID IoObject, PIO_WORKITEM IoWorkItem)
{
    *IoWorkItem = (struct _IO_WORKITEM){.IoObject = IoObject};
    ExInitializeWorkItem(&IoWorkItem->Item, IopRunWorkItem, IoWorkItem);
    const KIRQL OldIrql = KiAcquireLock(&IopWorkItemLock);
    InsertTailList(&IopWorkItems, &IoWorkItem->Link);
    KiReleaseLock(&IopWorkItemLock, OldIrql);
}

VOID NTAPI IoUninitializeWorkItem(PIO_WORKITEM IoWorkItem)
{
    if (IoWorkItem->IsQueued) {
        KiBugCheckSaying(WORKER_INVALID, 0, (ULONG_PTR)IoWorkItem,
                         (ULONG_PTR)IoWorkItem->Item.WorkerRoutine, 0,
                         "a work item was freed that is still queued");
    }
    const KIRQL OldIrql = KiAcquireLock(&IopWorkItemLock);
    RemoveEntryList(&IoWorkItem->Link);
    KiReleaseLock(&IopWorkItemLock, OldIrql);
}

PIO_WORKITEM NTAPI IoAllocateWorkItem(PDEVICE_OBJECT DeviceObject)
{
    PIO_WORKITEM WorkItem = ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(*WorkItem), IOP_TAG);
    if (WorkItem != NULL) {
        IoInitializeWorkItem(DeviceObject, WorkItem);
    }
    return WorkItem;
}

VOID NTAPI IoFreeWorkItem(PIO_WORKITEM IoWorkItem)
{
    IoUninitializeWorkItem(IoWorkItem);
    ExFreePoolWithTag(IoWorkItem, IOP_TAG);
}

ULONG NTAPI IoSizeofWorkItem(VOID)
{
    return sizeof(struct _IO_WORKITEM);
}

static VOID IopQueueIoWorkItem(PIO_WORKITEM WorkItem, WORK_QUEUE_TYPE QueueType)
{
    if (__atomic_exchange_n(&WorkItem->IsQueued, TRUE, __ATOMIC_ACQ_REL)) {
        KiBugCheckSaying(WORKER_INVALID, 1, (ULONG_PTR)WorkItem,
                         (ULONG_PTR)WorkItem->Item.WorkerRoutine, 0,
                         "a work item was queued that is queued already");
    }
    ObReferenceObject(WorkItem->IoObject);
    ExQueueWorkItem(&WorkItem->Item, QueueType);
}

VOID NTAPI IoQueueWorkItem(PIO_WORKITEM IoWorkItem, PIO_WORKITEM_ROUTINE WorkerRoutine,
                           WORK_QUEUE_TYPE QueueType, PVOID Context)
{
    IoWorkItem->Routine = WorkerRoutine;
    IoWorkItem->RoutineEx = NULL;
    IoWorkItem->Context = Context;
    IopQueueIoWorkItem(IoWorkItem, QueueType);
}

VOID NTAPI IoQueueWorkItemEx(PIO_WORKITEM IoWorkItem, PIO_WORKITEM_ROUTINE_EX WorkerRoutine,
                             WORK_QUEUE_TYPE QueueType, PVOID Context)
{
    IoWorkItem->Routine = NULL;
    IoWorkItem->RoutineEx = WorkerRoutine;
    IoWorkItem->Context = Context;
    IopQueueIoWorkItem(IoWorkItem, QueueType);
}

//
// What is still there, for the check of a driver's unload.
//

static VOID IopWalkQueue(PIOP_WORK_QUEUE Queue, IOP_PENDING_ROUTINE *Routine, PVOID Context)
{
    const KIRQL OldIrql = KeAcquireSpinLockRaiseToDpc(&Queue->Lock);
    for (PLIST_ENTRY Link = Queue->Items.Flink; Link != &Queue->Items; Link = Link->Flink) {
        const WORK_QUEUE_ITEM *Item = CONTAINING_RECORD(Link, WORK_QUEUE_ITEM, List);
        Routine("a work item that is queued", Item, (PVOID)Item->WorkerRoutine, Context);
    }
    for (ULONG Worker = 0; Worker < Queue->WorkerCount; Worker += 1) {
        if (Queue->Running[Worker] != NULL) {
            Routine("a work item that runs", NULL, (PVOID)Queue->Running[Worker], Context);
        }
    }
    KeReleaseSpinLock(&Queue->Lock, OldIrql);
}

VOID IopWalkWorkItems(IOP_PENDING_ROUTINE *Routine, PVOID Context)
{
    for (ULONG Type = 0; Type < IOP_WORK_QUEUES; Type += 1) {
        IopWalkQueue(&IopWorkQueues[Type], Routine, Context);
    }
    const KIRQL OldIrql = KiAcquireLock(&IopWorkItemLock);
    for (PLIST_ENTRY Link = IopWorkItems.Flink; Link != &IopWorkItems; Link = Link->Flink) {
        const struct _IO_WORKITEM *WorkItem = CONTAINING_RECORD(Link, struct _IO_WORKITEM, Link);
        const PVOID Last =
            WorkItem->RoutineEx != NULL ? (PVOID)WorkItem->RoutineEx : (PVOID)WorkItem->Routine;
        Routine("a work item that was not freed", WorkItem, Last, Context);
    }
    KiReleaseLock(&IopWorkItemLock, OldIrql);
}
