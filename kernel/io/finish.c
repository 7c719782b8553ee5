// The end of a request that nobody took back.
//
//   its MDLs are unlocked and freed; buffered output goes to where it belongs, and the system buffer
//   to the pool; a part of another request counts there; the status block is written; the IRP is
//   freed; last, whoever waits is told
//
// IRPs that free themselves because a thread waits for them stand in one list. When the thread ends, those
// that are still there are cancelled, and it waits for them: their status blocks may lie on its stack.
//
// Invariant:
//   F1  An IRP that IopHeldIrp names is not freed by its completion but by whoever holds it, a thread that
//       ends. There is one at a time: IopEndMutex.
// Lock: IopThreadIrpLock.
#include "kernel/inc/ps.h"
#include "kernel/io/iop.h"

#define IOP_END_WAIT_MS 5000

static KI_LOCK IopThreadIrpLock = KI_LOCK_INITIALIZER(IOP_RANK_IRPS, "IopThreadIrpLock");
static LIST_ENTRY IopThreadIrps = {&IopThreadIrps, &IopThreadIrps};
static PIRP IopHeldIrp;
static FAST_MUTEX IopEndMutex;

VOID IopOwnIrpByThread(PIRP Irp)
{
    Irp->Tail.Overlay.Thread = PsGetCurrentThread();
    const KIRQL OldIrql = KiAcquireLock(&IopThreadIrpLock);
    InsertTailList(&IopThreadIrps, &Irp->ThreadListEntry);
    KiReleaseLock(&IopThreadIrpLock, OldIrql);
}

BOOLEAN IopDisownIrp(PIRP Irp)
{
    BOOLEAN IsHeld = FALSE;
    if (!IsListEmpty(&Irp->ThreadListEntry)) {
        const KIRQL OldIrql = KiAcquireLock(&IopThreadIrpLock);
        RemoveEntryList(&Irp->ThreadListEntry);
        InitializeListHead(&Irp->ThreadListEntry);
        IsHeld = IopHeldIrp == Irp;
        KiReleaseLock(&IopThreadIrpLock, OldIrql);
    }
    return IsHeld;
}

//
// The end of a thread.
//

static PIRP IopFindIrpOf(const KTHREAD *Thread, BOOLEAN OnlyUncancelled)
{
    for (PLIST_ENTRY Link = IopThreadIrps.Flink; Link != &IopThreadIrps; Link = Link->Flink) {
        const PIRP Irp = CONTAINING_RECORD(Link, IRP, ThreadListEntry);
        if ((PKTHREAD)Irp->Tail.Overlay.Thread == Thread && !(OnlyUncancelled && Irp->Cancel)) {
            return Irp;
        }
    }
    return NULL;
}

static BOOLEAN IopHasIrps(const KTHREAD *Thread)
{
    const KIRQL OldIrql = KiAcquireLock(&IopThreadIrpLock);
    const BOOLEAN Has = IopFindIrpOf(Thread, FALSE) != NULL;
    KiReleaseLock(&IopThreadIrpLock, OldIrql);
    return Has;
}

// FALSE: there is none that is not cancelled yet.
static BOOLEAN IopCancelNextIrpOf(const KTHREAD *Thread)
{
    KIRQL OldIrql = KiAcquireLock(&IopThreadIrpLock);
    const PIRP Irp = IopFindIrpOf(Thread, TRUE);
    IopHeldIrp = Irp;
    KiReleaseLock(&IopThreadIrpLock, OldIrql);
    if (Irp == NULL) {
        return FALSE;
    }
    IoCancelIrp(Irp);
    OldIrql = KiAcquireLock(&IopThreadIrpLock);
    IopHeldIrp = NULL;
    const BOOLEAN IsOver = IsListEmpty(&Irp->ThreadListEntry);
    KiReleaseLock(&IopThreadIrpLock, OldIrql);
    if (IsOver) {
        IoFreeIrp(Irp);
    }
    return TRUE;
}

// What was not completed in time must not write to the stack that goes.
static VOID IopForgetIrpsOf(const KTHREAD *Thread)
{
    const KIRQL OldIrql = KiAcquireLock(&IopThreadIrpLock);
    for (PIRP Irp = IopFindIrpOf(Thread, FALSE); Irp != NULL; Irp = IopFindIrpOf(Thread, FALSE)) {
        DbgPrint("io: IRP %p of thread %llu, which ends, is cancelled and not completed\n", Irp,
                 (ULONG64)(ULONG_PTR)Thread->ThreadId);
        RemoveEntryList(&Irp->ThreadListEntry);
        InitializeListHead(&Irp->ThreadListEntry);
        Irp->UserIosb = NULL;
        if (Irp->Tail.Overlay.OriginalFileObject == NULL) {
            Irp->UserEvent = NULL;
        }
    }
    KiReleaseLock(&IopThreadIrpLock, OldIrql);
}

static VOID IopEndIrpsOfThread(VOID)
{
    LARGE_INTEGER Tick = {.QuadPart = -10000};
    const PKTHREAD Thread = KeGetCurrentThread();
    if (!IopHasIrps(Thread)) {
        return;
    }
    ExAcquireFastMutex(&IopEndMutex);
    while (IopCancelNextIrpOf(Thread)) {
    }
    ExReleaseFastMutex(&IopEndMutex);
    for (ULONG Round = 0; Round < IOP_END_WAIT_MS && IopHasIrps(Thread); Round += 1) {
        KeDelayExecutionThread(KernelMode, FALSE, &Tick);
    }
    IopForgetIrpsOf(Thread);
}

VOID IopWatchThreads(VOID)
{
    ExInitializeFastMutex(&IopEndMutex);
    KeSetThreadEndRoutine(IopEndIrpsOfThread);
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
    const BOOLEAN IsHeld = IopDisownIrp(Irp);
    if (Irp->AllocationFlags != IOP_IRP_OF_CALLER && !IsHeld) {
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
