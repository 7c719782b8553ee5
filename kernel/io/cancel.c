// Cancelling requests, and devices that work on one request at a time.
//
// A cancel routine belongs to whoever exchanges it out: IoCancelIrp, which then calls it, or the
// driver, which then completes the IRP itself. The cancel spin lock is one for all drivers.
//
//   IoStartPacket ──not busy──▶ DriverStartIo ──▶ IoStartNextPacket ──▶ the next one, or not busy
//                 ──busy──────▶ the device's queue ─────────────────────┘
//
// Invariant:
//   C1  With the attribute DeferredStartIo, DriverStartIo of a device does not nest: IOP_DEVICE's
//       StartIoCount says how many packets are still to be started, and whoever raised it from 0
//       starts them all.
#include "kernel/io/iop.h"

static KSPIN_LOCK IopCancelLock;

VOID NTAPI IoAcquireCancelSpinLock(PKIRQL Irql)
{
    *Irql = KeAcquireSpinLockRaiseToDpc(&IopCancelLock);
}

VOID NTAPI IoReleaseCancelSpinLock(KIRQL Irql)
{
    KeReleaseSpinLock(&IopCancelLock, Irql);
}

BOOLEAN NTAPI IoCancelIrp(PIRP Irp)
{
    KIRQL OldIrql;
    IoAcquireCancelSpinLock(&OldIrql);
    Irp->Cancel = TRUE;
    PDRIVER_CANCEL Routine = IoSetCancelRoutine(Irp, NULL);
    if (Routine == NULL) {
        IoReleaseCancelSpinLock(OldIrql);
        return FALSE;
    }
    if (Irp->CurrentLocation > Irp->StackCount) {
        KiBugCheckSaying(
            CANCEL_STATE_IN_COMPLETED_IRP, (ULONG_PTR)Irp, (ULONG_PTR)Routine, 0, 0,
            "an IRP was cancelled that had been completed with its cancel routine set");
    }
    Irp->CancelIrql = OldIrql;
    // It releases the lock.
    Routine(IoGetCurrentIrpStackLocation(Irp)->DeviceObject, Irp);
    return TRUE;
}

//
// StartIo.
//

// Starts the packet. Cancelable: the cancel lock is held, and is released.
static VOID IopCallStartIo(PDEVICE_OBJECT Device, PIRP Irp, BOOLEAN Cancelable)
{
    Device->CurrentIrp = Irp;
    if (Cancelable) {
        if (IopDeviceOf(Device)->NonCancelable) {
            Irp->CancelRoutine = NULL;
        }
        KeReleaseSpinLockFromDpcLevel(&IopCancelLock);
    }
    Device->DriverObject->DriverStartIo(Device, Irp);
}

static VOID IopStartNext(PDEVICE_OBJECT Device, BOOLEAN Cancelable, const ULONG *Key)
{
    if (Cancelable) {
        KeAcquireSpinLockAtDpcLevel(&IopCancelLock);
    }
    Device->CurrentIrp = NULL;
    PKDEVICE_QUEUE_ENTRY Entry = Key != NULL ? KeRemoveByKeyDeviceQueue(&Device->DeviceQueue, *Key)
                                             : KeRemoveDeviceQueue(&Device->DeviceQueue);
    if (Entry != NULL) {
        PIRP Irp = CONTAINING_RECORD(Entry, IRP, Tail.Overlay.DeviceQueueEntry);
        IopCallStartIo(Device, Irp, Cancelable);
    } else if (Cancelable) {
        KeReleaseSpinLockFromDpcLevel(&IopCancelLock);
    }
}

// The packets that were asked for while DriverStartIo ran. The caller counts for one.
static VOID IopStartDeferred(PDEVICE_OBJECT Device)
{
    PIOP_DEVICE Extra = IopDeviceOf(Device);
    while (__atomic_sub_fetch(&Extra->StartIoCount, 1, __ATOMIC_ACQ_REL) > 0) {
        IopStartNext(Device, Extra->StartIoCancelable,
                     Extra->StartIoHasKey ? &Extra->StartIoKey : NULL);
    }
}

static VOID IopStartFirst(PDEVICE_OBJECT Device, PIRP Irp, BOOLEAN Cancelable)
{
    PIOP_DEVICE Extra = IopDeviceOf(Device);
    if (Extra->DeferredStartIo) {
        __atomic_add_fetch(&Extra->StartIoCount, 1, __ATOMIC_ACQ_REL);
    }
    IopCallStartIo(Device, Irp, Cancelable);
    if (Extra->DeferredStartIo) {
        IopStartDeferred(Device);
    }
}

VOID NTAPI IoStartPacket(PDEVICE_OBJECT DeviceObject, PIRP Irp, PULONG Key,
                         PDRIVER_CANCEL CancelFunction)
{
    const KIRQL OldIrql = KeRaiseIrqlToDpcLevel();
    if (CancelFunction != NULL) {
        KeAcquireSpinLockAtDpcLevel(&IopCancelLock);
        Irp->CancelRoutine = CancelFunction;
    }
    PKDEVICE_QUEUE_ENTRY Entry = &Irp->Tail.Overlay.DeviceQueueEntry;
    const BOOLEAN IsQueued = Key != NULL
                                 ? KeInsertByKeyDeviceQueue(&DeviceObject->DeviceQueue, Entry, *Key)
                                 : KeInsertDeviceQueue(&DeviceObject->DeviceQueue, Entry);
    if (!IsQueued) {
        IopStartFirst(DeviceObject, Irp, CancelFunction != NULL);
    } else if (CancelFunction != NULL && Irp->Cancel) {
        // It was cancelled on its way here: nobody but us will call the routine, which releases the
        // lock.
        Irp->CancelRoutine = NULL;
        Irp->CancelIrql = DISPATCH_LEVEL;
        CancelFunction(DeviceObject, Irp);
    } else if (CancelFunction != NULL) {
        KeReleaseSpinLockFromDpcLevel(&IopCancelLock);
    }
    KeLowerIrql(OldIrql);
}

static VOID IopStartNextOrDefer(PDEVICE_OBJECT Device, BOOLEAN Cancelable, const ULONG *Key)
{
    PIOP_DEVICE Extra = IopDeviceOf(Device);
    if (!Extra->DeferredStartIo) {
        IopStartNext(Device, Cancelable, Key);
        return;
    }
    Extra->StartIoCancelable = Cancelable;
    Extra->StartIoHasKey = Key != NULL;
    Extra->StartIoKey = Key != NULL ? *Key : 0;
    if (__atomic_add_fetch(&Extra->StartIoCount, 1, __ATOMIC_ACQ_REL) == 1) {
        IopStartNext(Device, Cancelable, Key);
        IopStartDeferred(Device);
    }
}

VOID NTAPI IoStartNextPacket(PDEVICE_OBJECT DeviceObject, BOOLEAN Cancelable)
{
    IopStartNextOrDefer(DeviceObject, Cancelable, NULL);
}

VOID NTAPI IoStartNextPacketByKey(PDEVICE_OBJECT DeviceObject, BOOLEAN Cancelable, ULONG Key)
{
    IopStartNextOrDefer(DeviceObject, Cancelable, &Key);
}

VOID NTAPI IoSetStartIoAttributes(PDEVICE_OBJECT DeviceObject, BOOLEAN DeferredStartIo,
                                  BOOLEAN NonCancelable)
{
    IopDeviceOf(DeviceObject)->DeferredStartIo = DeferredStartIo;
    IopDeviceOf(DeviceObject)->NonCancelable = NonCancelable;
}
