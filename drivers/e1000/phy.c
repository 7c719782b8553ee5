// The PHY, which the card reaches by a serial wire of two lines (MDIC), and the link that it makes.
//
// What the link is like is read from the card's STATUS, not from the PHY: it costs one register read,
// at any IRQL up to DISPATCH_LEVEL. It is looked at when the card interrupts for a change (LSC), and
// by the watchdog.
//
// Lock: LinkLock.
#include "e1000.h"

#define E1000_MDIC_MS 10

static NTSTATUS E1000AccessPhy(const E1000_ADAPTER *Adapter, ULONG Access, ULONG Register,
                               PUSHORT Value)
{
    E1000WriteRegister(Adapter, E1000_MDIC,
                       Access | Register << E1000_MDIC_REGISTER_SHIFT |
                           E1000_MDIC_INTERNAL_PHY << E1000_MDIC_PHY_SHIFT | *Value);
    const NTSTATUS Status =
        E1000WaitForBits(Adapter, E1000_MDIC, E1000_MDIC_READY, E1000_MDIC_READY, E1000_MDIC_MS);
    if (Status == STATUS_DEVICE_DOES_NOT_EXIST) {
        return Status;
    }
    const ULONG Result = E1000ReadRegister(Adapter, E1000_MDIC);
    if (!NT_SUCCESS(Status) || (Result & E1000_MDIC_ERROR) != 0) {
        return STATUS_IO_DEVICE_ERROR;
    }
    *Value = (USHORT)Result;
    return STATUS_SUCCESS;
}

NTSTATUS E1000ReadPhy(const E1000_ADAPTER *Adapter, ULONG Register, PUSHORT Value)
{
    *Value = 0;
    return E1000AccessPhy(Adapter, E1000_MDIC_READ, Register, Value);
}

NTSTATUS E1000WritePhy(const E1000_ADAPTER *Adapter, ULONG Register, USHORT Value)
{
    return E1000AccessPhy(Adapter, E1000_MDIC_WRITE, Register, &Value);
}

// In loopback nobody is there to negotiate with, so speed and duplex are forced, in the card too.
static VOID E1000ForceSpeed(const E1000_ADAPTER *Adapter)
{
    const ULONG Control = E1000ReadRegister(Adapter, E1000_CTRL) & ~(ULONG)E1000_CTRL_SPEED;

    E1000WriteRegister(Adapter, E1000_CTRL,
                       Control | E1000_CTRL_SPEED_1000 | E1000_CTRL_FRCSPD | E1000_CTRL_FRCDPLX |
                           E1000_CTRL_FD | E1000_CTRL_SLU);
}

NTSTATUS E1000SetLoopback(const E1000_ADAPTER *Adapter, BOOLEAN IsOn)
{
    USHORT Control;

    NTSTATUS Status = E1000ReadPhy(Adapter, E1000_PHY_CONTROL, &Control);
    if (!NT_SUCCESS(Status) || (!IsOn && !(Control & E1000_PHY_CONTROL_LOOPBACK))) {
        return Status;
    }
    if (!IsOn) {
        return E1000WritePhy(Adapter, E1000_PHY_CONTROL,
                             E1000_PHY_CONTROL_NEGOTIATE | E1000_PHY_CONTROL_RESTART |
                                 E1000_PHY_CONTROL_FULL_DUPLEX | E1000_PHY_CONTROL_SPEED_1000);
    }
    Status = E1000WritePhy(Adapter, E1000_PHY_CONTROL,
                           E1000_PHY_CONTROL_LOOPBACK | E1000_PHY_CONTROL_FULL_DUPLEX |
                               E1000_PHY_CONTROL_SPEED_1000);
    if (NT_SUCCESS(Status)) {
        E1000ForceSpeed(Adapter);
        Status = E1000ReadPhy(Adapter, E1000_PHY_CONTROL, &Control);
    }
    if (NT_SUCCESS(Status) && !(Control & E1000_PHY_CONTROL_LOOPBACK)) {
        Status = STATUS_IO_DEVICE_ERROR;
    }
    return Status;
}

// -------------------------------------------------------------------------------------------------
// The link.

static NET_EVENT E1000ReadLink(const E1000_ADAPTER *Adapter)
{
    static const ULONG Megabits[] = {10, 100, 1000, 1000};
    const ULONG Status = E1000ReadRegister(Adapter, E1000_STATUS);
    NET_EVENT Link;

    RtlZeroMemory(&Link, sizeof(Link));
    if (Adapter->Options.Loopback != 0) {
        Link.LinkUp = Link.FullDuplex = TRUE;
        Link.MegabitsPerSecond = 1000;
    } else if (Status != E1000_ABSENT && (Status & E1000_STATUS_LU) != 0) {
        Link.LinkUp = TRUE;
        Link.FullDuplex = (Status & E1000_STATUS_FD) != 0;
        Link.MegabitsPerSecond =
            Megabits[(Status >> E1000_STATUS_SPEED_SHIFT) & E1000_STATUS_SPEED_MASK];
    }
    return Link;
}

static VOID E1000TellEvent(PIRP Irp, const NET_EVENT *Event)
{
    *(PNET_EVENT)Irp->AssociatedIrp.SystemBuffer = *Event;
    Irp->IoStatus.Status = STATUS_SUCCESS;
    Irp->IoStatus.Information = sizeof(*Event);
}

// Moves everybody who waits to Done. The lock is held.
static VOID E1000TellAll(PE1000_ADAPTER Adapter, PLIST_ENTRY Done)
{
    for (PIRP Irp = E1000RemoveWaiting(&Adapter->LinkWaiting); Irp != NULL;
         Irp = E1000RemoveWaiting(&Adapter->LinkWaiting)) {
        E1000TellEvent(Irp, &Adapter->Link);
        InsertTailList(Done, &Irp->Tail.Overlay.ListEntry);
    }
}

VOID E1000UpdateLink(PE1000_ADAPTER Adapter)
{
    LIST_ENTRY Done;
    KIRQL OldIrql;

    InitializeListHead(&Done);
    KeAcquireSpinLock(&Adapter->LinkLock, &OldIrql);
    NET_EVENT Link = E1000ReadLink(Adapter);
    Link.Sequence = Adapter->Link.Sequence;
    const BOOLEAN IsChanged =
        Link.Sequence == 0 || !RtlEqualMemory(&Link, &Adapter->Link, sizeof(Link));
    if (IsChanged) {
        Link.Sequence += 1;
        Adapter->Link = Link;
        E1000TellAll(Adapter, &Done);
    }
    KeReleaseSpinLock(&Adapter->LinkLock, OldIrql);

    KeAcquireSpinLock(&Adapter->Transmit.Lock, &OldIrql);
    Adapter->Transmit.IsLinkUp = Link.LinkUp;
    KeReleaseSpinLock(&Adapter->Transmit.Lock, OldIrql);
    if (IsChanged) {
        // What waits to be sent is refused without a link, and goes on with one.
        E1000ServiceTransmit(Adapter);
    }
    E1000CompleteList(Adapter, &Done);
}

static DRIVER_CANCEL E1000CancelEvent;

static VOID NTAPI E1000CancelEvent(PDEVICE_OBJECT Fdo, PIRP Irp)
{
    const PE1000_ADAPTER Adapter = Fdo->DeviceExtension;
    KIRQL OldIrql;

    IoReleaseCancelSpinLock(Irp->CancelIrql);
    KeAcquireSpinLock(&Adapter->LinkLock, &OldIrql);
    RemoveEntryList(&Irp->Tail.Overlay.ListEntry);
    KeReleaseSpinLock(&Adapter->LinkLock, OldIrql);
    E1000CompleteIrp(Adapter, Irp, STATUS_CANCELLED, 0);
}

NTSTATUS E1000WaitEvent(PE1000_ADAPTER Adapter, PIRP Irp)
{
    const IO_STACK_LOCATION *const Stack = IoGetCurrentIrpStackLocation(Irp);
    NTSTATUS Status = STATUS_PENDING;
    BOOLEAN IsCancelled = FALSE;
    KIRQL OldIrql;

    if (Stack->Parameters.DeviceIoControl.InputBufferLength < sizeof(ULONG) ||
        Stack->Parameters.DeviceIoControl.OutputBufferLength < sizeof(NET_EVENT)) {
        Irp->IoStatus.Information = 0;
        return STATUS_BUFFER_TOO_SMALL;
    }
    const ULONG Seen = *(const ULONG *)Irp->AssociatedIrp.SystemBuffer;
    Irp->IoStatus.Information = 0;
    KeAcquireSpinLock(&Adapter->LinkLock, &OldIrql);
    if (!NT_SUCCESS(Adapter->LinkRefusal)) {
        Status = Adapter->LinkRefusal;
    } else if (Adapter->Link.Sequence != Seen) {
        E1000TellEvent(Irp, &Adapter->Link);
        Status = STATUS_SUCCESS;
    } else {
        IoMarkIrpPending(Irp);
        IsCancelled = !E1000InsertWaiting(&Adapter->LinkWaiting, Irp, E1000CancelEvent);
    }
    KeReleaseSpinLock(&Adapter->LinkLock, OldIrql);
    if (IsCancelled) {
        E1000CompleteIrp(Adapter, Irp, STATUS_CANCELLED, 0);
    }
    return Status;
}

VOID E1000SetLinkRefusal(PE1000_ADAPTER Adapter, NTSTATUS Refusal)
{
    LIST_ENTRY Done;
    KIRQL OldIrql;

    InitializeListHead(&Done);
    KeAcquireSpinLock(&Adapter->LinkLock, &OldIrql);
    Adapter->LinkRefusal = Refusal;
    for (PIRP Irp = NT_SUCCESS(Refusal) ? NULL : E1000RemoveWaiting(&Adapter->LinkWaiting);
         Irp != NULL; Irp = E1000RemoveWaiting(&Adapter->LinkWaiting)) {
        Irp->IoStatus.Status = Refusal;
        InsertTailList(&Done, &Irp->Tail.Overlay.ListEntry);
    }
    KeReleaseSpinLock(&Adapter->LinkLock, OldIrql);
    E1000CompleteList(Adapter, &Done);
}
