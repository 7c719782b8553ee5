// IRPs that wait and can be cancelled, and the end of all IRPs.
//
// An IRP in a queue belongs to whoever takes its cancel routine away: the driver, with the queue's lock
// held, or IoCancelIrp, whose cancel routine then wants that lock. In the second case the driver only
// takes it out of the queue and forgets it.
//
// Invariant:
//   Q1  The list entry of an IRP that is being cancelled is in the queue, or points to itself: the cancel
//       routine may remove it in both cases.
#include "e1000.h"

BOOLEAN E1000InsertWaiting(PLIST_ENTRY Queue, PIRP Irp, PDRIVER_CANCEL CancelRoutine)
{
    (VOID) IoSetCancelRoutine(Irp, CancelRoutine);
    // Who cancels sets Cancel first. If it was set before the routine was there, nobody has called it.
    if (Irp->Cancel && IoSetCancelRoutine(Irp, NULL) != NULL) {
        return FALSE;
    }
    InsertTailList(Queue, &Irp->Tail.Overlay.ListEntry);
    return TRUE;
}

BOOLEAN E1000TakeWaiting(PIRP Irp)
{
    RemoveEntryList(&Irp->Tail.Overlay.ListEntry);
    if (IoSetCancelRoutine(Irp, NULL) != NULL) {
        return TRUE;
    }
    InitializeListHead(&Irp->Tail.Overlay.ListEntry);
    return FALSE;
}

PIRP E1000RemoveWaiting(PLIST_ENTRY Queue)
{
    while (!IsListEmpty(Queue)) {
        const PIRP Irp = CONTAINING_RECORD(Queue->Flink, IRP, Tail.Overlay.ListEntry);
        if (E1000TakeWaiting(Irp)) {
            return Irp;
        }
    }
    return NULL;
}

VOID E1000CompleteIrp(PE1000_ADAPTER Adapter, PIRP Irp, NTSTATUS Status, ULONG_PTR Information)
{
    Irp->IoStatus.Status = Status;
    Irp->IoStatus.Information = Information;
    IoCompleteRequest(Irp, IO_NETWORK_INCREMENT);
    IoReleaseRemoveLock(&Adapter->RemoveLock, Irp);
}

VOID E1000CompleteList(PE1000_ADAPTER Adapter, PLIST_ENTRY List)
{
    while (!IsListEmpty(List)) {
        const PIRP Irp = CONTAINING_RECORD(RemoveHeadList(List), IRP, Tail.Overlay.ListEntry);
        E1000CompleteIrp(Adapter, Irp, Irp->IoStatus.Status, Irp->IoStatus.Information);
    }
}
