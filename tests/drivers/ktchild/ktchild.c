// The function driver for the children of ktbus: each has the name \Device\KtChild and its number in
// the order in which it came.
#include <ntddk.h>

typedef struct _CHILD {
    PDEVICE_OBJECT Lower;
} CHILD;

static LONG Count;

static NTSTATUS Complete(PIRP Irp, NTSTATUS Status)
{
    Irp->IoStatus.Status = Status;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
    return Status;
}

static NTSTATUS NTAPI DispatchPnp(PDEVICE_OBJECT Device, PIRP Irp)
{
    CHILD *Child = Device->DeviceExtension;
    PDEVICE_OBJECT Lower = Child->Lower;
    UCHAR Minor = IoGetCurrentIrpStackLocation(Irp)->MinorFunction;
    if (Minor == IRP_MN_START_DEVICE) {
        if (!IoForwardIrpSynchronously(Lower, Irp)) {
            return Complete(Irp, STATUS_UNSUCCESSFUL);
        }
        return Complete(Irp, Irp->IoStatus.Status);
    }
    if (Minor <= IRP_MN_CANCEL_STOP_DEVICE || Minor == IRP_MN_SURPRISE_REMOVAL) {
        Irp->IoStatus.Status = STATUS_SUCCESS;
    }
    IoSkipCurrentIrpStackLocation(Irp);
    NTSTATUS Status = IoCallDriver(Lower, Irp);
    if (Minor == IRP_MN_REMOVE_DEVICE) {
        IoDetachDevice(Lower);
        IoDeleteDevice(Device);
    }
    return Status;
}

static NTSTATUS NTAPI DispatchFile(PDEVICE_OBJECT Device, PIRP Irp)
{
    UNREFERENCED_PARAMETER(Device);
    return Complete(Irp, STATUS_SUCCESS);
}

static NTSTATUS NTAPI AddDevice(PDRIVER_OBJECT Driver, PDEVICE_OBJECT Pdo)
{
    UNICODE_STRING Name;
    WCHAR Text[] = L"\\Device\\KtChild0";
    PDEVICE_OBJECT Device;
    Text[sizeof(Text) / sizeof(Text[0]) - 2] = (WCHAR)('0' + InterlockedIncrement(&Count) - 1);
    RtlInitUnicodeString(&Name, Text);
    NTSTATUS Status =
        IoCreateDevice(Driver, sizeof(CHILD), &Name, FILE_DEVICE_UNKNOWN, 0, FALSE, &Device);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    CHILD *Child = Device->DeviceExtension;
    Child->Lower = IoAttachDeviceToDeviceStack(Device, Pdo);
    if (Child->Lower == NULL) {
        IoDeleteDevice(Device);
        return STATUS_NO_SUCH_DEVICE;
    }
    Device->Flags &= ~DO_DEVICE_INITIALIZING;
    return STATUS_SUCCESS;
}

static VOID NTAPI Unload(PDRIVER_OBJECT Driver)
{
    UNREFERENCED_PARAMETER(Driver);
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT Driver, PUNICODE_STRING RegistryPath)
{
    UNREFERENCED_PARAMETER(RegistryPath);
    Driver->DriverUnload = Unload;
    Driver->DriverExtension->AddDevice = AddDevice;
    Driver->MajorFunction[IRP_MJ_PNP] = DispatchPnp;
    Driver->MajorFunction[IRP_MJ_CREATE] = DispatchFile;
    Driver->MajorFunction[IRP_MJ_CLEANUP] = DispatchFile;
    Driver->MajorFunction[IRP_MJ_CLOSE] = DispatchFile;
    return STATUS_SUCCESS;
}
