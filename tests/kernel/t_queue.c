// Cancel-safe queues, remove locks, power requests: what drivers' dispatch routines lean on.
#include <csqddk.h>
#include <poddk.h>

#include "kernel/inc/io.h"
#include "kernel/inc/ke.h"
#include "tests/kernel/tests.h"

//
// Cancel-safe queues.
//

typedef struct _KT_QUEUE {
    IO_CSQ Csq;
    LIST_ENTRY Irps;
    KSPIN_LOCK Lock;
    ULONG CancelledCount;
    NTSTATUS InsertStatus;
} KT_QUEUE;

static KT_QUEUE KtQueue;

static VOID NTAPI InsertIrp(PIO_CSQ Csq, PIRP Irp)
{
    KT_QUEUE *Queue = CONTAINING_RECORD(Csq, KT_QUEUE, Csq);
    InsertTailList(&Queue->Irps, &Irp->Tail.Overlay.ListEntry);
}

static NTSTATUS NTAPI InsertIrpEx(PIO_CSQ Csq, PIRP Irp, PVOID InsertContext)
{
    KT_QUEUE *Queue = CONTAINING_RECORD(Csq, KT_QUEUE, Csq);
    UNREFERENCED_PARAMETER(InsertContext);
    if (!NT_ERROR(Queue->InsertStatus)) {
        InsertIrp(Csq, Irp);
    }
    return Queue->InsertStatus;
}

static VOID NTAPI RemoveIrp(PIO_CSQ Csq, PIRP Irp)
{
    UNREFERENCED_PARAMETER(Csq);
    RemoveEntryList(&Irp->Tail.Overlay.ListEntry);
}

static PIRP NTAPI PeekNextIrp(PIO_CSQ Csq, PIRP Irp, PVOID PeekContext)
{
    KT_QUEUE *Queue = CONTAINING_RECORD(Csq, KT_QUEUE, Csq);
    PLIST_ENTRY Link = Irp != NULL ? Irp->Tail.Overlay.ListEntry.Flink : Queue->Irps.Flink;
    for (; Link != &Queue->Irps; Link = Link->Flink) {
        PIRP Next = CONTAINING_RECORD(Link, IRP, Tail.Overlay.ListEntry);
        if (PeekContext == NULL || Next->UserBuffer == PeekContext) {
            return Next;
        }
    }
    return NULL;
}

static VOID NTAPI AcquireLock(PIO_CSQ Csq, PKIRQL Irql)
{
    KeAcquireSpinLock(&CONTAINING_RECORD(Csq, KT_QUEUE, Csq)->Lock, Irql);
}

static VOID NTAPI ReleaseLock(PIO_CSQ Csq, KIRQL Irql)
{
    KeReleaseSpinLock(&CONTAINING_RECORD(Csq, KT_QUEUE, Csq)->Lock, Irql);
}

static VOID NTAPI CompleteCanceledIrp(PIO_CSQ Csq, PIRP Irp)
{
    Irp->IoStatus.Status = STATUS_CANCELLED;
    CONTAINING_RECORD(Csq, KT_QUEUE, Csq)->CancelledCount += 1;
}

static VOID StartQueue(VOID)
{
    RtlZeroMemory(&KtQueue, sizeof(KtQueue));
    InitializeListHead(&KtQueue.Irps);
    KT_EQUAL(IoCsqInitialize(&KtQueue.Csq, InsertIrp, RemoveIrp, PeekNextIrp, AcquireLock,
                             ReleaseLock, CompleteCanceledIrp),
             STATUS_SUCCESS);
}

// An IRP as a dispatch routine has it: with a current location.
static PIRP AllocateIrp(PVOID Mark)
{
    PIRP Irp = IoAllocateIrp(1, FALSE);
    if (Irp != NULL) {
        IoSetNextIrpStackLocation(Irp);
        Irp->UserBuffer = Mark;
    }
    return Irp;
}

static VOID QueuedIrpsComeOutInOrder(VOID)
{
    StartQueue();
    PIRP First = AllocateIrp((PVOID)1), Second = AllocateIrp((PVOID)2);
    KT_REQUIRE(First != NULL && Second != NULL);
    IoCsqInsertIrp(&KtQueue.Csq, First, NULL);
    IoCsqInsertIrp(&KtQueue.Csq, Second, NULL);
    KT_CHECK((IoGetCurrentIrpStackLocation(First)->Control & SL_PENDING_RETURNED) != 0);
    KT_CHECK(First->CancelRoutine != NULL);
    KT_EQUAL(IoCsqRemoveNextIrp(&KtQueue.Csq, (PVOID)2), Second);
    KT_EQUAL(IoCsqRemoveNextIrp(&KtQueue.Csq, (PVOID)2), NULL);
    KT_EQUAL(IoCsqRemoveNextIrp(&KtQueue.Csq, NULL), First);
    KT_EQUAL(First->CancelRoutine, NULL);
    KT_EQUAL(IoCsqRemoveNextIrp(&KtQueue.Csq, NULL), NULL);
    IoFreeIrp(First);
    IoFreeIrp(Second);
}

static VOID CancelledIrpsLeaveTheQueue(VOID)
{
    StartQueue();
    IO_CSQ_IRP_CONTEXT Context;
    PIRP Irp = AllocateIrp(NULL);
    KT_REQUIRE(Irp != NULL);
    IoCsqInsertIrp(&KtQueue.Csq, Irp, &Context);
    KT_EQUAL(Context.Irp, Irp);
    KT_CHECK(IoCancelIrp(Irp));
    KT_EQUAL(KtQueue.CancelledCount, 1);
    KT_EQUAL(Irp->IoStatus.Status, STATUS_CANCELLED);
    KT_EQUAL(Context.Irp, NULL);
    KT_EQUAL(IoCsqRemoveIrp(&KtQueue.Csq, &Context), NULL);
    KT_CHECK(IsListEmpty(&KtQueue.Irps));
    // It is cancelled now, before it gets into the queue.
    IoCsqInsertIrp(&KtQueue.Csq, Irp, NULL);
    KT_EQUAL(KtQueue.CancelledCount, 2);
    KT_CHECK(IsListEmpty(&KtQueue.Irps));
    IoFreeIrp(Irp);
}

static VOID ContextsNameOneIrp(VOID)
{
    StartQueue();
    IO_CSQ_IRP_CONTEXT Contexts[2];
    PIRP First = AllocateIrp(NULL), Second = AllocateIrp(NULL);
    KT_REQUIRE(First != NULL && Second != NULL);
    IoCsqInsertIrp(&KtQueue.Csq, First, &Contexts[0]);
    IoCsqInsertIrp(&KtQueue.Csq, Second, &Contexts[1]);
    KT_EQUAL(IoCsqRemoveIrp(&KtQueue.Csq, &Contexts[1]), Second);
    KT_EQUAL(IoCsqRemoveIrp(&KtQueue.Csq, &Contexts[1]), NULL);
    KT_EQUAL(IoCsqRemoveNextIrp(&KtQueue.Csq, NULL), First);
    KT_EQUAL(IoCsqRemoveIrp(&KtQueue.Csq, &Contexts[0]), NULL);
    IoFreeIrp(First);
    IoFreeIrp(Second);
}

static VOID TheInsertRoutineMayRefuse(VOID)
{
    StartQueue();
    KT_EQUAL(IoCsqInitializeEx(&KtQueue.Csq, InsertIrpEx, RemoveIrp, PeekNextIrp, AcquireLock,
                               ReleaseLock, CompleteCanceledIrp),
             STATUS_SUCCESS);
    PIRP Irp = AllocateIrp(NULL);
    KT_REQUIRE(Irp != NULL);
    KtQueue.InsertStatus = STATUS_DEVICE_NOT_READY;
    KT_EQUAL(IoCsqInsertIrpEx(&KtQueue.Csq, Irp, NULL, NULL), STATUS_DEVICE_NOT_READY);
    KT_EQUAL(IoGetCurrentIrpStackLocation(Irp)->Control & SL_PENDING_RETURNED, 0);
    KT_EQUAL(Irp->CancelRoutine, NULL);
    KtQueue.InsertStatus = STATUS_PENDING;
    KT_EQUAL(IoCsqInsertIrpEx(&KtQueue.Csq, Irp, NULL, NULL), STATUS_PENDING);
    KT_EQUAL(IoCsqRemoveNextIrp(&KtQueue.Csq, NULL), Irp);
    IoFreeIrp(Irp);
}

//
// Remove locks.
//

typedef struct _KT_TRACKED_LOCK {
    IO_REMOVE_LOCK_COMMON_BLOCK Common;
    IO_REMOVE_LOCK_DBG_BLOCK Dbg;
} KT_TRACKED_LOCK;

static VOID TryRemoveLock(PIO_REMOVE_LOCK Lock, ULONG ByteCount)
{
    IoInitializeRemoveLockEx(Lock, KT_TAG, 1, 2, ByteCount);
    KT_EQUAL(IoAcquireRemoveLockEx(Lock, (PVOID)1, __FILE__, __LINE__, ByteCount), STATUS_SUCCESS);
    KT_EQUAL(IoAcquireRemoveLockEx(Lock, (PVOID)2, __FILE__, __LINE__, ByteCount), STATUS_SUCCESS);
    IoReleaseRemoveLockEx(Lock, (PVOID)1, ByteCount);
    KT_EQUAL(Lock->Common.IoCount, 2);
    IoReleaseRemoveLockAndWaitEx(Lock, (PVOID)2, ByteCount);
    KT_CHECK(Lock->Common.Removed);
    KT_EQUAL(Lock->Common.IoCount, 0);
    KT_EQUAL(IoAcquireRemoveLockEx(Lock, NULL, __FILE__, __LINE__, ByteCount),
             STATUS_DELETE_PENDING);
}

static VOID RemoveLocksCountAndRefuse(VOID)
{
    KT_TRACKED_LOCK Lock;
    TryRemoveLock((PIO_REMOVE_LOCK)&Lock, sizeof(Lock.Common));
    TryRemoveLock((PIO_REMOVE_LOCK)&Lock, sizeof(Lock));
}

static IO_REMOVE_LOCK_COMMON_BLOCK KtLock;
static BOOLEAN KtReleased;

static VOID NTAPI ReleaseLater(PVOID Context)
{
    LARGE_INTEGER Interval = {.QuadPart = -20 * 10000ll};
    UNREFERENCED_PARAMETER(Context);
    KeDelayExecutionThread(KernelMode, FALSE, &Interval);
    KtReleased = TRUE;
    IoReleaseRemoveLockEx((PIO_REMOVE_LOCK)&KtLock, NULL, sizeof(KtLock));
    PsTerminateSystemThread(STATUS_SUCCESS);
}

static VOID TheRemovalWaitsForTheLastRelease(VOID)
{
    HANDLE Thread;
    const PIO_REMOVE_LOCK Lock = (PIO_REMOVE_LOCK)&KtLock;
    KtReleased = FALSE;
    IoInitializeRemoveLockEx(Lock, KT_TAG, 0, 0, sizeof(KtLock));
    IoAcquireRemoveLockEx(Lock, NULL, "", 1, sizeof(KtLock));
    IoAcquireRemoveLockEx(Lock, NULL, "", 1, sizeof(KtLock));
    KT_REQUIRE(NT_SUCCESS(PsCreateSystemThread(&Thread, 0, NULL, NULL, NULL, ReleaseLater, NULL)));
    IoReleaseRemoveLockAndWaitEx(Lock, NULL, sizeof(KtLock));
    KT_CHECK(KtReleased);
    PVOID Object;
    if (NT_SUCCESS(ObReferenceObjectByHandle(Thread, 0, NULL, KernelMode, &Object, NULL))) {
        KeWaitForSingleObject(Object, Executive, KernelMode, FALSE, NULL);
        ObDereferenceObject(Object);
    }
    ZwClose(Thread);
}

static VOID NobodyListensToEvents(VOID)
{
    static const GUID Provider = {1, 2, 3, {4}};
    REGHANDLE Handle;
    GUID Id;
    KT_EQUAL(EtwRegister(&Provider, NULL, NULL, &Handle), STATUS_SUCCESS);
    KT_CHECK(Handle != 0);
    KT_EQUAL(EtwRegister(NULL, NULL, NULL, &Handle), STATUS_INVALID_PARAMETER);
    KT_CHECK(!EtwProviderEnabled(Handle, 1, 0));
    KT_EQUAL(EtwWrite(Handle, NULL, NULL, 0, NULL), STATUS_SUCCESS);
    KT_EQUAL(EtwActivityIdControl(3, &Id), STATUS_SUCCESS);
    KT_EQUAL(EtwUnregister(Handle), STATUS_SUCCESS);
    KT_EQUAL(EtwUnregister(0), STATUS_INVALID_HANDLE);
    KT_EQUAL(IoWMIRegistrationControl(NULL, WMIREG_ACTION_REGISTER), STATUS_SUCCESS);
    KT_EQUAL(IoWMIRegistrationControl(NULL, 9), STATUS_INVALID_PARAMETER);
}

static const KT_TEST Tests[] = {
    {"Queued IRPs come out in order [23.2.5]", QueuedIrpsComeOutInOrder},
    {"Cancelled IRPs leave the queue [23.2.5]", CancelledIrpsLeaveTheQueue},
    {"A context names one IRP", ContextsNameOneIrp},
    {"The insert routine of a queue may refuse", TheInsertRoutineMayRefuse},
    {"Remove locks count, and refuse after the removal [23.2.6]", RemoveLocksCountAndRefuse},
    {"A removal waits for the last release [23.2.6]", TheRemovalWaitsForTheLastRelease},
    {"Nobody listens to events", NobodyListensToEvents},
};

const KT_SUITE KtQueueSuite = {"queue", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
