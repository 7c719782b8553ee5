// Misuses of objects and requests. Each must end in the bug check that tests/qemu/bugchecks.py names.
#include "kernel/inc/io.h"
#include "kernel/inc/ob.h"
#include "kernel/inc/rtl.h"
#include "kernel/inc/ps.h"
#include "tests/drivers/leaver/leaver.h"
#include "tests/kernel/misuse.h"

static VOID NTAPI NeverCalled(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    UNREFERENCED_PARAMETER(Irp);
}

static NTSTATUS NTAPI CompleteWithCancelRoutine(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    (VOID) IoSetCancelRoutine(Irp, NeverCalled);
    Irp->IoStatus.Status = STATUS_SUCCESS;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
    return STATUS_SUCCESS;
}

static NTSTATUS NTAPI ReturnRaised(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    Irp->IoStatus.Status = STATUS_SUCCESS;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
    (VOID) KeRaiseIrqlToDpcLevel();
    return STATUS_SUCCESS;
}

static NTSTATUS NTAPI CompletePending(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    Irp->IoStatus.Status = STATUS_PENDING;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
    return STATUS_PENDING;
}

static KT_DRIVER Driver =
    KT_DRIVER_INITIALIZER(.MajorFunction[IRP_MJ_READ] = CompleteWithCancelRoutine,
                          .MajorFunction[IRP_MJ_WRITE] = ReturnRaised,
                          .MajorFunction[IRP_MJ_FLUSH_BUFFERS] = CompletePending);

static NTSTATUS NTAPI TakeBack(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    UNREFERENCED_PARAMETER(Irp);
    UNREFERENCED_PARAMETER(Context);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static VOID Send(UCHAR MajorFunction, ULONG IrpParameter)
{
    PDEVICE_OBJECT Device;
    NEED(NT_SUCCESS(
        IoCreateDevice(&Driver.Object, 0, NULL, FILE_DEVICE_UNKNOWN, 0, FALSE, &Device)));
    PIRP Irp = IoAllocateIrp(1, FALSE);
    NEED(Irp != NULL);
    if (IrpParameter != 0) {
        AnnouncePointer(IrpParameter, Irp);
    } else {
        AnnouncePointer(2, Device);
    }
    IoGetNextIrpStackLocation(Irp)->MajorFunction = MajorFunction;
    IoSetCompletionRoutine(Irp, TakeBack, NULL, TRUE, TRUE, TRUE);
    (VOID) IoCallDriver(Device, Irp);
}

static VOID IrpCompletedWithCancelRoutine(VOID)
{
    Send(IRP_MJ_READ, 3);
}

static VOID IrpDispatchLeavesIrqlRaised(VOID)
{
    Send(IRP_MJ_WRITE, 0);
}

static VOID IrpCompletedAsPending(VOID)
{
    Send(IRP_MJ_FLUSH_BUFFERS, 2);
}

static VOID IrpOfAThreadFreed(VOID)
{
    static IO_STATUS_BLOCK StatusBlock;
    PDEVICE_OBJECT Device;
    NEED(NT_SUCCESS(
        IoCreateDevice(&Driver.Object, 0, NULL, FILE_DEVICE_UNKNOWN, 0, FALSE, &Device)));
    PIRP Irp = IoBuildDeviceIoControlRequest(CTL_CODE(FILE_DEVICE_UNKNOWN, 1, METHOD_NEITHER, 0),
                                             Device, NULL, 0, NULL, 0, FALSE, NULL, &StatusBlock);
    NEED(Irp != NULL);
    AnnouncePointer(2, Irp);
    IoFreeIrp(Irp);
}

static VOID IrpOfTheCallerFreed(VOID)
{
    static DECLSPEC_ALIGN(16) UCHAR Memory[sizeof(IRP) + sizeof(IO_STACK_LOCATION)];
    PIRP Irp = (PIRP)(PVOID)Memory;
    IoInitializeIrp(Irp, sizeof(Memory), 1);
    AnnouncePointer(2, Irp);
    IoFreeIrp(Irp);
}

static VOID IrpCancelledAfterCompletion(VOID)
{
    PIRP Irp = IoAllocateIrp(1, FALSE);
    NEED(Irp != NULL);
    AnnouncePointer(1, Irp);
    (VOID) IoSetCancelRoutine(Irp, NeverCalled);
    IoCancelIrp(Irp);
}

static VOID ObjectDereferencedTooOften(VOID)
{
    AnnouncePointer(2, &Driver.Object);
    ObDereferenceObject(&Driver.Object);
}

static VOID HandleClosedTwice(VOID)
{
    HANDLE Event;
    NEED(NT_SUCCESS(ZwCreateEvent(&Event, EVENT_ALL_ACCESS, NULL, NotificationEvent, FALSE)));
    AnnouncePointer(1, Event);
    ZwClose(Event);
    ZwClose(Event);
}

static VOID NTAPI DoNothing(PVOID Parameter)
{
    UNREFERENCED_PARAMETER(Parameter);
}

static VOID WorkItemQueuedTwice(VOID)
{
    static WORK_QUEUE_ITEM Item;
    ExInitializeWorkItem(&Item, DoNothing, NULL);
    AnnouncePointer(2, &Item);
    (VOID) KeRaiseIrqlToDpcLevel(); // so that nobody takes it in between
    ExQueueWorkItem(&Item, DelayedWorkQueue);
    ExQueueWorkItem(&Item, DelayedWorkQueue);
}

// tests/drivers/leaver makes one thing, and is unloaded.
static VOID UnloadWith(ULONG Thing)
{
    ULONG_PTR Information;
    NEED(NT_SUCCESS(IoLoadDriver("leaver")));
    if (Thing == LeaverDpc) {
        KeStopClock(); // which would run it
    }
    NEED(NT_SUCCESS(IoControlSynchronously(IoFindDriver("leaver")->DeviceObject, IOCTL_LEAVER_MAKE,
                                           &Thing, sizeof(Thing), NULL, 0, &Information)));
    IoUnloadDriver("leaver");
}

static VOID DriverLeavesTimer(VOID)
{
    UnloadWith(LeaverTimer);
}

static VOID DriverLeavesDpc(VOID)
{
    UnloadWith(LeaverDpc);
}

static VOID DriverLeavesWorkItem(VOID)
{
    UnloadWith(LeaverWorkItem);
}

static VOID DriverLeavesThread(VOID)
{
    UnloadWith(LeaverThread);
}

static const MISUSE_TEST Tests[] = {
    MISUSE(IrpCompletedWithCancelRoutine),
    MISUSE(IrpDispatchLeavesIrqlRaised),
    MISUSE(IrpCompletedAsPending),
    MISUSE(IrpOfAThreadFreed),
    MISUSE(IrpOfTheCallerFreed),
    MISUSE(IrpCancelledAfterCompletion),
    MISUSE(ObjectDereferencedTooOften),
    MISUSE(HandleClosedTwice),
    MISUSE(WorkItemQueuedTwice),
    MISUSE(DriverLeavesTimer),
    MISUSE(DriverLeavesDpc),
    MISUSE(DriverLeavesWorkItem),
    MISUSE(DriverLeavesThread),
};

BOOLEAN KtRunIoViolation(PCSTR Name)
{
    for (ULONG Index = 0; Index < ARRAYSIZE(Tests); Index += 1) {
        if (RtlStringsEqual(Tests[Index].Name, Name)) {
            Tests[Index].Routine();
            return TRUE;
        }
    }
    return FALSE;
}
