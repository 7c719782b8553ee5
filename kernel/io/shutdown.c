// Shutdown notifications: IRP_MJ_SHUTDOWN to who asked for it, the last one first.
#include "kernel/io/pnp.h"

typedef enum _IOP_SHUTDOWN_PHASE { IopShutdownFirst, IopShutdownLast } IOP_SHUTDOWN_PHASE;

typedef struct _IOP_SHUTDOWN {
    LIST_ENTRY Link;
    PDEVICE_OBJECT DeviceObject; // referenced
    IOP_SHUTDOWN_PHASE Phase;
} IOP_SHUTDOWN, *PIOP_SHUTDOWN;

// Under the PnP mutex.
static LIST_ENTRY IopShutdowns = {&IopShutdowns, &IopShutdowns};

static NTSTATUS IopRegisterShutdown(PDEVICE_OBJECT Device, IOP_SHUTDOWN_PHASE Phase)
{
    PIOP_SHUTDOWN Entry = ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(*Entry), IOP_TAG);
    if (Entry == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    ObReferenceObject(Device);
    Entry->DeviceObject = Device;
    Entry->Phase = Phase;
    IopAcquirePnp();
    InsertHeadList(&IopShutdowns, &Entry->Link);
    Device->Flags |= DO_SHUTDOWN_REGISTERED;
    IopReleasePnp();
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI IoRegisterShutdownNotification(PDEVICE_OBJECT DeviceObject)
{
    return IopRegisterShutdown(DeviceObject, IopShutdownFirst);
}

NTSTATUS NTAPI IoRegisterLastChanceShutdownNotification(PDEVICE_OBJECT DeviceObject)
{
    return IopRegisterShutdown(DeviceObject, IopShutdownLast);
}

static VOID IopFreeShutdown(PIOP_SHUTDOWN Entry)
{
    RemoveEntryList(&Entry->Link);
    ObDereferenceObject(Entry->DeviceObject);
    ExFreePoolWithTag(Entry, IOP_TAG);
}

VOID NTAPI IoUnregisterShutdownNotification(PDEVICE_OBJECT DeviceObject)
{
    IopAcquirePnp();
    for (PLIST_ENTRY Link = IopShutdowns.Flink, Next; Link != &IopShutdowns; Link = Next) {
        const PIOP_SHUTDOWN Entry = CONTAINING_RECORD(Link, IOP_SHUTDOWN, Link);
        Next = Link->Flink;
        if (Entry->DeviceObject == DeviceObject) {
            IopFreeShutdown(Entry);
        }
    }
    DeviceObject->Flags &= ~(ULONG)DO_SHUTDOWN_REGISTERED;
    IopReleasePnp();
}

static VOID IopSendShutdown(PDEVICE_OBJECT Device)
{
    PDEVICE_OBJECT Top = IoGetAttachedDeviceReference(Device);
    PIRP Irp = IoAllocateIrp(Top->StackSize, FALSE);
    if (Irp != NULL) {
        IoGetNextIrpStackLocation(Irp)->MajorFunction = IRP_MJ_SHUTDOWN;
        if (IopSendAndWait(Top, Irp) != STATUS_PENDING) {
            IoFreeIrp(Irp);
        }
    }
    ObDereferenceObject(Top);
}

static VOID IopRunShutdownPhase(IOP_SHUTDOWN_PHASE Phase)
{
    for (PLIST_ENTRY Link = IopShutdowns.Flink, Next; Link != &IopShutdowns; Link = Next) {
        const PIOP_SHUTDOWN Entry = CONTAINING_RECORD(Link, IOP_SHUTDOWN, Link);
        Next = Link->Flink;
        if (Entry->Phase == Phase) {
            IopSendShutdown(Entry->DeviceObject);
            IopFreeShutdown(Entry);
        }
    }
}

VOID IoShutdownDrivers(VOID)
{
    IopAcquirePnp();
    IopRunShutdownPhase(IopShutdownFirst);
    IopRunShutdownPhase(IopShutdownLast);
    IopReleasePnp();
}
