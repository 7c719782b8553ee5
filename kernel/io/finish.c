// The end of a request that nobody took back.
//
//   its MDLs are unlocked and freed; buffered output goes to where it belongs, and the system buffer
//   to the pool; a part of another request counts there; the status block is written; the IRP is
//   freed; last, whoever waits is told
//
// IRPs that free themselves because a thread waits for them stand in one list, so that one that is
// never completed can be named. Lock: IopThreadIrpLock.
#include "kernel/io/iop.h"

static KI_LOCK IopThreadIrpLock = KI_LOCK_INITIALIZER(IOP_RANK_IRPS, "IopThreadIrpLock");
static LIST_ENTRY IopThreadIrps = {&IopThreadIrps, &IopThreadIrps};

VOID IopOwnIrpByThread(PIRP Irp)
{
    Irp->Tail.Overlay.Thread = PsGetCurrentThread();
    const KIRQL OldIrql = KiAcquireLock(&IopThreadIrpLock);
    InsertTailList(&IopThreadIrps, &Irp->ThreadListEntry);
    KiReleaseLock(&IopThreadIrpLock, OldIrql);
}

VOID IopDisownIrp(PIRP Irp)
{
    if (!IsListEmpty(&Irp->ThreadListEntry)) {
        const KIRQL OldIrql = KiAcquireLock(&IopThreadIrpLock);
        RemoveEntryList(&Irp->ThreadListEntry);
        KiReleaseLock(&IopThreadIrpLock, OldIrql);
        InitializeListHead(&Irp->ThreadListEntry);
    }
}

// Buffered output: as many bytes as the driver says, and not more than there is room for, where that
// is known.
static VOID IopCopyOutput(const IRP *Irp)
{
    const ULONG_PTR Done = Irp->IoStatus.Information;
    const ULONG_PTR Known = Irp->Overlay.AllocationSize.LowPart;
    const ULONG_PTR Room = Known != 0 ? Known : Done;
    if (Done > Room) {
        DbgPrint("io: a driver says that it has given %llu bytes, where there is room for %llu\n",
                 Done, Room);
    }
    RtlCopyMemory(Irp->UserBuffer, Irp->AssociatedIrp.SystemBuffer, Done < Room ? Done : Room);
}

static VOID IopFinishBuffer(PIRP Irp)
{
    if ((Irp->Flags & IRP_BUFFERED_IO) == 0) {
        return;
    }
    if ((Irp->Flags & IRP_INPUT_OPERATION) != 0 && !NT_ERROR(Irp->IoStatus.Status) &&
        Irp->UserBuffer != NULL) {
        IopCopyOutput(Irp);
    }
    if ((Irp->Flags & IRP_DEALLOCATE_BUFFER) != 0) {
        ExFreePool(Irp->AssociatedIrp.SystemBuffer);
    }
}

static VOID IopFinishPart(PIRP Irp)
{
    PIRP Master = Irp->AssociatedIrp.MasterIrp;
    MmReleaseMdlChain(Irp->MdlAddress);
    IoFreeIrp(Irp);
    if (__atomic_sub_fetch(&Master->AssociatedIrp.IrpCount, 1, __ATOMIC_ACQ_REL) == 0) {
        IofCompleteRequest(Master, IO_NO_INCREMENT);
    }
}

// Tells a file, and lets it go.
static VOID IopSignalFile(PFILE_OBJECT File, NTSTATUS Status, CCHAR PriorityBoost)
{
    File->FinalStatus = Status;
    KeSetEvent(&File->Event, PriorityBoost, FALSE);
    ObDereferenceObject(File);
}

VOID IopFinishIrp(PIRP Irp, CCHAR PriorityBoost)
{
    if ((Irp->Flags & IRP_ASSOCIATED_IRP) != 0) {
        IopFinishPart(Irp);
        return;
    }
    MmReleaseMdlChain(Irp->MdlAddress);
    IopFinishBuffer(Irp);
    if (Irp->UserIosb != NULL) {
        *Irp->UserIosb = Irp->IoStatus;
    }
    PKEVENT Event = Irp->UserEvent;
    PFILE_OBJECT File = Irp->Tail.Overlay.OriginalFileObject;
    const NTSTATUS Status = Irp->IoStatus.Status;
    IopDisownIrp(Irp);
    if (Irp->AllocationFlags != IOP_IRP_OF_CALLER) {
        IoFreeIrp(Irp);
    }
    if (Event != NULL) {
        KeSetEvent(Event, PriorityBoost, FALSE);
        // A file's request has got its event by a handle.
        if (File != NULL) {
            ObDereferenceObject(Event);
        }
    }
    if (File != NULL) {
        IopSignalFile(File, Status, PriorityBoost);
    }
}
