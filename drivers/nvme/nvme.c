// The NVMe driver as the PnP manager sees it: entry, AddDevice, start, stop, remove.
#include "oldnvme.h"

DRIVER_ADD_DEVICE NvmeAddDevice;
DRIVER_DISPATCH NvmeDispatchPnp;

static NTSTATUS NvmePassDown(PNVME_DEVICE Device, PIRP Irp)
{
    IoSkipCurrentIrpStackLocation(Irp);
    return IoCallDriver(Device->Lower, Irp);
}

// The bus driver starts the device first: only then does it decode its registers.
static NTSTATUS NvmeHandleStart(PNVME_DEVICE Device, PIRP Irp)
{
    NvmeStopDevice(Device);
    NTSTATUS Status = STATUS_NO_SUCH_DEVICE;
    if (IoForwardIrpSynchronously(Device->Lower, Irp)) {
        Status = Irp->IoStatus.Status;
    }
    if (NT_SUCCESS(Status)) {
        const IO_STACK_LOCATION *Stack = IoGetCurrentIrpStackLocation(Irp);
        Status =
            NvmeStartDevice(Device, Stack->Parameters.StartDevice.AllocatedResourcesTranslated);
    }
    Irp->IoStatus.Status = Status;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
    return Status;
}

static NTSTATUS NvmeHandleRemove(PNVME_DEVICE Device, PIRP Irp)
{
    const PDEVICE_OBJECT Lower = Device->Lower;
    (VOID) IoAcquireRemoveLock(&Device->RemoveLock, Irp);
    NvmeStopDevice(Device);
    Irp->IoStatus.Status = STATUS_SUCCESS;
    const NTSTATUS Status = NvmePassDown(Device, Irp);
    IoReleaseRemoveLockAndWait(&Device->RemoveLock, Irp);
    IoDetachDevice(Lower);
    IoDeleteDevice(Device->Self);
    return Status;
}

NTSTATUS NTAPI NvmeDispatchPnp(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    const PNVME_DEVICE Device = DeviceObject->DeviceExtension;
    switch (IoGetCurrentIrpStackLocation(Irp)->MinorFunction) {
    case IRP_MN_START_DEVICE:
        return NvmeHandleStart(Device, Irp);
    case IRP_MN_REMOVE_DEVICE:
        return NvmeHandleRemove(Device, Irp);
    case IRP_MN_STOP_DEVICE:
    case IRP_MN_SURPRISE_REMOVAL:
        NvmeStopDevice(Device);
        Irp->IoStatus.Status = STATUS_SUCCESS;
        break;
    case IRP_MN_QUERY_STOP_DEVICE:
    case IRP_MN_CANCEL_STOP_DEVICE:
    case IRP_MN_QUERY_REMOVE_DEVICE:
    case IRP_MN_CANCEL_REMOVE_DEVICE:
        Irp->IoStatus.Status = STATUS_SUCCESS;
        break;
    }
    return NvmePassDown(Device, Irp);
}

// Power and WMI requests are the bus driver's.
static NTSTATUS NTAPI NvmeDispatchPassDown(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    return NvmePassDown(DeviceObject->DeviceExtension, Irp);
}

// Opening and closing need nothing: the disk has no state per handle.
static NTSTATUS NTAPI NvmeDispatchCreateClose(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    Irp->IoStatus.Status = STATUS_SUCCESS;
    Irp->IoStatus.Information = 0;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
    return STATUS_SUCCESS;
}

// Its devices are gone by then.
static VOID NTAPI NvmeUnload(PDRIVER_OBJECT DriverObject)
{
    UNREFERENCED_PARAMETER(DriverObject);
}

NTSTATUS NTAPI NvmeAddDevice(PDRIVER_OBJECT DriverObject, PDEVICE_OBJECT PhysicalDeviceObject)
{
    PDEVICE_OBJECT Self;
    const NTSTATUS Status = IoCreateDevice(DriverObject, sizeof(NVME_DEVICE), NULL,
                                           FILE_DEVICE_DISK, FILE_DEVICE_SECURE_OPEN, FALSE, &Self);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    const PNVME_DEVICE Device = Self->DeviceExtension;
    Device->Self = Self;
    Device->Pdo = PhysicalDeviceObject;
    Device->Lower = IoAttachDeviceToDeviceStack(Self, PhysicalDeviceObject);
    if (Device->Lower == NULL) {
        IoDeleteDevice(Self);
        return STATUS_NO_SUCH_DEVICE;
    }
    IoInitializeRemoveLock(&Device->RemoveLock, NVME_TAG, 0, 0);
    KeInitializeSpinLock(&Device->RequestLock);
    InitializeListHead(&Device->Requests);
    KeInitializeEvent(&Device->WorkToDo, SynchronizationEvent, FALSE);
    Self->AlignmentRequirement |= FILE_LONG_ALIGNMENT;
    Self->Flags |= DO_DIRECT_IO;
    Self->Flags &= ~DO_DEVICE_INITIALIZING;
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath)
{
    UNREFERENCED_PARAMETER(RegistryPath);
    DriverObject->DriverUnload = NvmeUnload;
    DriverObject->DriverExtension->AddDevice = NvmeAddDevice;
    DriverObject->MajorFunction[IRP_MJ_CREATE] = NvmeDispatchCreateClose;
    DriverObject->MajorFunction[IRP_MJ_CLOSE] = NvmeDispatchCreateClose;
    DriverObject->MajorFunction[IRP_MJ_CLEANUP] = NvmeDispatchCreateClose;
    DriverObject->MajorFunction[IRP_MJ_POWER] = NvmeDispatchPassDown;
    DriverObject->MajorFunction[IRP_MJ_SYSTEM_CONTROL] = NvmeDispatchPassDown;
    DriverObject->MajorFunction[IRP_MJ_PNP] = NvmeDispatchPnp;
    DriverObject->MajorFunction[IRP_MJ_READ] = NvmeDispatchReadWrite;
    DriverObject->MajorFunction[IRP_MJ_WRITE] = NvmeDispatchReadWrite;
    DriverObject->MajorFunction[IRP_MJ_FLUSH_BUFFERS] = NvmeDispatchFlush;
    DriverObject->MajorFunction[IRP_MJ_DEVICE_CONTROL] = NvmeDispatchDeviceControl;
    return STATUS_SUCCESS;
}
