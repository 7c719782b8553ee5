// A filter for the children of ktbus, which lets everything pass.
//
// ktlower stands below the function driver and ktupper above it, by their .inf files alone.
#include <ntddk.h>

typedef struct _FILTER {
    PDEVICE_OBJECT Lower;
} FILTER;

static NTSTATUS NTAPI PassDown(PDEVICE_OBJECT Device, PIRP Irp)
{
    FILTER *Filter = Device->DeviceExtension;
    IoSkipCurrentIrpStackLocation(Irp);
    return IoCallDriver(Filter->Lower, Irp);
}

static NTSTATUS NTAPI DispatchPnp(PDEVICE_OBJECT Device, PIRP Irp)
{
    FILTER *Filter = Device->DeviceExtension;
    PDEVICE_OBJECT Lower = Filter->Lower;
    UCHAR Minor = IoGetCurrentIrpStackLocation(Irp)->MinorFunction;
    NTSTATUS Status = PassDown(Device, Irp);
    if (Minor == IRP_MN_REMOVE_DEVICE) {
        IoDetachDevice(Lower);
        IoDeleteDevice(Device);
    }
    return Status;
}

static NTSTATUS NTAPI AddDevice(PDRIVER_OBJECT Driver, PDEVICE_OBJECT Pdo)
{
    PDEVICE_OBJECT Device;
    NTSTATUS Status =
        IoCreateDevice(Driver, sizeof(FILTER), NULL, FILE_DEVICE_UNKNOWN, 0, FALSE, &Device);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    FILTER *Filter = Device->DeviceExtension;
    Filter->Lower = IoAttachDeviceToDeviceStack(Device, Pdo);
    if (Filter->Lower == NULL) {
        IoDeleteDevice(Device);
        return STATUS_NO_SUCH_DEVICE;
    }
    Device->Flags |= Filter->Lower->Flags & (DO_BUFFERED_IO | DO_DIRECT_IO | DO_POWER_PAGABLE);
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
    for (ULONG Major = 0; Major <= IRP_MJ_MAXIMUM_FUNCTION; Major += 1) {
        Driver->MajorFunction[Major] = PassDown;
    }
    Driver->MajorFunction[IRP_MJ_PNP] = DispatchPnp;
    Driver->DriverUnload = Unload;
    Driver->DriverExtension->AddDevice = AddDevice;
    return STATUS_SUCCESS;
}
