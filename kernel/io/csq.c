// Cancel-safe queues.
//
// An IRP in a queue has IopCancelQueued as its cancel routine, and DriverContext[3] leads back to the
// queue: to the IO_CSQ itself, or to the context, which leads to it.
// Invariant:
//   Q1  Whoever exchanges the cancel routine out, under the queue's lock or in IoCancelIrp, takes the
//       IRP out of the queue. So it is taken out once.
#include <csqddk.h>

#include "kernel/inc/ke.h"

#define QUEUE_OF(Irp) ((Irp)->Tail.Overlay.DriverContext[3])

static PIO_CSQ_IRP_CONTEXT IopContextOf(PIRP Irp)
{
    PIO_CSQ_IRP_CONTEXT Context = QUEUE_OF(Irp);
    return Context->Type == IO_TYPE_CSQ_IRP_CONTEXT ? Context : NULL;
}

// Under the queue's lock, with the cancel routine exchanged out.
static VOID IopTakeOut(PIO_CSQ Csq, PIRP Irp)
{
    PIO_CSQ_IRP_CONTEXT Context = IopContextOf(Irp);
    Csq->CsqRemoveIrp(Csq, Irp);
    if (Context != NULL) {
        Context->Irp = NULL;
    }
    QUEUE_OF(Irp) = NULL;
}

static VOID NTAPI IopCancelQueued(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    IoReleaseCancelSpinLock(Irp->CancelIrql);
    PIO_CSQ_IRP_CONTEXT Context = IopContextOf(Irp);
    PIO_CSQ Csq = Context != NULL ? Context->Csq : QUEUE_OF(Irp);
    KIRQL OldIrql;
    Csq->CsqAcquireLock(Csq, &OldIrql);
    IopTakeOut(Csq, Irp);
    Csq->CsqReleaseLock(Csq, OldIrql);
    Csq->CsqCompleteCanceledIrp(Csq, Irp);
}

static NTSTATUS IopInitializeQueue(PIO_CSQ Csq, ULONG Type, const IO_CSQ *Routines)
{
    *Csq = *Routines;
    Csq->Type = Type;
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI IoCsqInitialize(PIO_CSQ Csq, PIO_CSQ_INSERT_IRP CsqInsertIrp,
                               PIO_CSQ_REMOVE_IRP CsqRemoveIrp,
                               PIO_CSQ_PEEK_NEXT_IRP CsqPeekNextIrp,
                               PIO_CSQ_ACQUIRE_LOCK CsqAcquireLock,
                               PIO_CSQ_RELEASE_LOCK CsqReleaseLock,
                               PIO_CSQ_COMPLETE_CANCELED_IRP CsqCompleteCanceledIrp)
{
    const IO_CSQ Routines = {0,
                             CsqInsertIrp,
                             CsqRemoveIrp,
                             CsqPeekNextIrp,
                             CsqAcquireLock,
                             CsqReleaseLock,
                             CsqCompleteCanceledIrp,
                             NULL};
    return IopInitializeQueue(Csq, IO_TYPE_CSQ, &Routines);
}

NTSTATUS NTAPI IoCsqInitializeEx(PIO_CSQ Csq, PIO_CSQ_INSERT_IRP_EX CsqInsertIrpEx,
                                 PIO_CSQ_REMOVE_IRP CsqRemoveIrp,
                                 PIO_CSQ_PEEK_NEXT_IRP CsqPeekNextIrp,
                                 PIO_CSQ_ACQUIRE_LOCK CsqAcquireLock,
                                 PIO_CSQ_RELEASE_LOCK CsqReleaseLock,
                                 PIO_CSQ_COMPLETE_CANCELED_IRP CsqCompleteCanceledIrp)
{
    // Both insert routines lie in the same member; Type says which one it is.
    const IO_CSQ Routines = {0,
                             (PIO_CSQ_INSERT_IRP)(PVOID)CsqInsertIrpEx,
                             CsqRemoveIrp,
                             CsqPeekNextIrp,
                             CsqAcquireLock,
                             CsqReleaseLock,
                             CsqCompleteCanceledIrp,
                             NULL};
    return IopInitializeQueue(Csq, IO_TYPE_CSQ_EX, &Routines);
}

static NTSTATUS IopCallInsert(PIO_CSQ Csq, PIRP Irp, PVOID InsertContext)
{
    if (Csq->Type == IO_TYPE_CSQ_EX) {
        return ((PIO_CSQ_INSERT_IRP_EX)(PVOID)Csq->CsqInsertIrp)(Csq, Irp, InsertContext);
    }
    Csq->CsqInsertIrp(Csq, Irp);
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI IoCsqInsertIrpEx(PIO_CSQ Csq, PIRP Irp, PIO_CSQ_IRP_CONTEXT Context,
                                PVOID InsertContext)
{
    KIRQL OldIrql;
    Csq->CsqAcquireLock(Csq, &OldIrql);
    const NTSTATUS Status = IopCallInsert(Csq, Irp, InsertContext);
    if (NT_ERROR(Status)) {
        Csq->CsqReleaseLock(Csq, OldIrql);
        return Status;
    }
    IoMarkIrpPending(Irp);
    if (Context != NULL) {
        Context->Type = IO_TYPE_CSQ_IRP_CONTEXT;
        Context->Irp = Irp;
        Context->Csq = Csq;
        QUEUE_OF(Irp) = Context;
    } else {
        QUEUE_OF(Irp) = Csq;
    }
    (VOID) IoSetCancelRoutine(Irp, IopCancelQueued);
    // Cancelled before the routine was there, and nobody calls it any more: it is ours to complete.
    if (Irp->Cancel && IoSetCancelRoutine(Irp, NULL) != NULL) {
        IopTakeOut(Csq, Irp);
        Csq->CsqReleaseLock(Csq, OldIrql);
        Csq->CsqCompleteCanceledIrp(Csq, Irp);
        return Status;
    }
    Csq->CsqReleaseLock(Csq, OldIrql);
    return Status;
}

VOID NTAPI IoCsqInsertIrp(PIO_CSQ Csq, PIRP Irp, PIO_CSQ_IRP_CONTEXT Context)
{
    (VOID) IoCsqInsertIrpEx(Csq, Irp, Context, NULL);
}

PIRP NTAPI IoCsqRemoveIrp(PIO_CSQ Csq, PIO_CSQ_IRP_CONTEXT Context)
{
    KIRQL OldIrql;
    Csq->CsqAcquireLock(Csq, &OldIrql);
    PIRP Irp = Context->Irp;
    if (Irp != NULL && IoSetCancelRoutine(Irp, NULL) != NULL) {
        IopTakeOut(Csq, Irp);
    } else {
        Irp = NULL;
    }
    Csq->CsqReleaseLock(Csq, OldIrql);
    return Irp;
}

PIRP NTAPI IoCsqRemoveNextIrp(PIO_CSQ Csq, PVOID PeekContext)
{
    KIRQL OldIrql;
    Csq->CsqAcquireLock(Csq, &OldIrql);
    PIRP Irp = Csq->CsqPeekNextIrp(Csq, NULL, PeekContext);
    // One that is just being cancelled is its cancel routine's.
    while (Irp != NULL && IoSetCancelRoutine(Irp, NULL) == NULL) {
        Irp = Csq->CsqPeekNextIrp(Csq, Irp, PeekContext);
    }
    if (Irp != NULL) {
        IopTakeOut(Csq, Irp);
    }
    Csq->CsqReleaseLock(Csq, OldIrql);
    return Irp;
}
