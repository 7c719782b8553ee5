// A driver that is unloaded while something of its own may still call it.
#include <ntddk.h>

#include "leaver.h"

static PDEVICE_OBJECT Device;
static KTIMER Timer;
static KDPC Dpc;
static KEVENT Never;

static VOID NTAPI DoNothing(PKDPC Object, PVOID Context, PVOID Argument1, PVOID Argument2)
{
    UNREFERENCED_PARAMETER(Object);
    UNREFERENCED_PARAMETER(Context);
    UNREFERENCED_PARAMETER(Argument1);
    UNREFERENCED_PARAMETER(Argument2);
}

static VOID NTAPI Return(PDEVICE_OBJECT DeviceObject, PVOID Context)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    UNREFERENCED_PARAMETER(Context);
}

static VOID NTAPI WaitForEver(PVOID Context)
{
    UNREFERENCED_PARAMETER(Context);
    KeWaitForSingleObject(&Never, Executive, KernelMode, FALSE, NULL);
}

static NTSTATUS MakeTimer(VOID)
{
    LARGE_INTEGER Hour;
    Hour.QuadPart = -36000000000LL;
    KeSetTimer(&Timer, Hour, &Dpc);
    return STATUS_SUCCESS;
}

static NTSTATUS MakeDpc(VOID)
{
    KeSetImportanceDpc(&Dpc, LowImportance);
    KeInsertQueueDpc(&Dpc, NULL, NULL);
    return STATUS_SUCCESS;
}

static NTSTATUS MakeWorkItem(VOID)
{
    PIO_WORKITEM WorkItem = IoAllocateWorkItem(Device);
    if (WorkItem == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    IoQueueWorkItem(WorkItem, Return, DelayedWorkQueue, NULL);
    return STATUS_SUCCESS;
}

static NTSTATUS MakeThread(VOID)
{
    HANDLE Handle;
    NTSTATUS Status =
        PsCreateSystemThread(&Handle, SYNCHRONIZE, NULL, NULL, NULL, WaitForEver, NULL);
    if (NT_SUCCESS(Status)) {
        ZwClose(Handle);
    }
    return Status;
}

static NTSTATUS NTAPI DispatchControl(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    static NTSTATUS (*const Makers[])(VOID) = {MakeTimer, MakeDpc, MakeWorkItem, MakeThread};
    PIO_STACK_LOCATION Stack = IoGetCurrentIrpStackLocation(Irp);
    NTSTATUS Status = STATUS_INVALID_PARAMETER;
    UNREFERENCED_PARAMETER(DeviceObject);
    if (Stack->Parameters.DeviceIoControl.IoControlCode == IOCTL_LEAVER_MAKE &&
        Stack->Parameters.DeviceIoControl.InputBufferLength == sizeof(ULONG) &&
        *(PULONG)Irp->AssociatedIrp.SystemBuffer < ARRAYSIZE(Makers)) {
        Status = Makers[*(PULONG)Irp->AssociatedIrp.SystemBuffer]();
    }
    Irp->IoStatus.Status = Status;
    Irp->IoStatus.Information = 0;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
    return Status;
}

static VOID NTAPI Unload(PDRIVER_OBJECT Driver)
{
    UNREFERENCED_PARAMETER(Driver);
    IoDeleteDevice(Device);
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT Driver, PUNICODE_STRING RegistryPath)
{
    UNREFERENCED_PARAMETER(RegistryPath);
    KeInitializeTimer(&Timer);
    KeInitializeDpc(&Dpc, DoNothing, NULL);
    KeInitializeEvent(&Never, NotificationEvent, FALSE);
    Driver->DriverUnload = Unload;
    Driver->MajorFunction[IRP_MJ_DEVICE_CONTROL] = DispatchControl;
    return IoCreateDevice(Driver, 0, NULL, FILE_DEVICE_UNKNOWN, 0, FALSE, &Device);
}
