// A driver with a mistake, for the lab: it wants one page of a device's memory in two ways at a time.
//
// The device is QEMU's pci-testdev, whose BAR 2 stands for the frame buffer of a graphics card. The driver
// maps all of it write-combined, to draw. The last page is registers, so it maps that once more,
// uncached: but a page has one cache type at a time, or else what one mapping writes is hidden from the
// other by caches and buffers. The second mapping fails, so the driver does not start, and the kernel
// says whose mapping is in the way.
//
// To repair it: map the drawing surface without its last page.
#include <wdm.h>

typedef struct _LAB_DEVICE {
    PDEVICE_OBJECT Self;
    PDEVICE_OBJECT Lower;
    PVOID Surface; // NULL: not mapped
    SIZE_T SurfaceBytes;
    PULONG Registers; // the last page
} LAB_DEVICE, *PLAB_DEVICE;

DRIVER_INITIALIZE DriverEntry;
static DRIVER_ADD_DEVICE LabAddDevice;
static DRIVER_UNLOAD LabUnload;
static DRIVER_DISPATCH LabPnp;

static VOID LabUnmap(PLAB_DEVICE Device)
{
    if (Device->Registers != NULL) {
        MmUnmapIoSpace(Device->Registers, PAGE_SIZE);
        Device->Registers = NULL;
    }
    if (Device->Surface != NULL) {
        MmUnmapIoSpace(Device->Surface, Device->SurfaceBytes);
        Device->Surface = NULL;
    }
}

static NTSTATUS LabMap(PLAB_DEVICE Device, PHYSICAL_ADDRESS Base, SIZE_T ByteCount)
{
    PHYSICAL_ADDRESS LastPage = Base;
    LastPage.QuadPart += (LONG64)ByteCount - PAGE_SIZE;
    Device->SurfaceBytes = ByteCount;
    Device->Surface = MmMapIoSpaceEx(Base, ByteCount, PAGE_READWRITE | PAGE_WRITECOMBINE);
    Device->Registers = MmMapIoSpaceEx(LastPage, PAGE_SIZE, PAGE_READWRITE | PAGE_NOCACHE);
    if (Device->Surface == NULL || Device->Registers == NULL) {
        LabUnmap(Device);
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    return STATUS_SUCCESS;
}

// The frame buffer is the largest of the device's memory resources.
static NTSTATUS LabStart(PLAB_DEVICE Device, PCM_RESOURCE_LIST Resources)
{
    if (Resources == NULL) {
        return STATUS_DEVICE_CONFIGURATION_ERROR;
    }
    const PCM_PARTIAL_RESOURCE_LIST List = &Resources->List[0].PartialResourceList;
    PHYSICAL_ADDRESS Base = {.QuadPart = 0};
    ULONG ByteCount = 0;
    for (ULONG Index = 0; Index < List->Count; Index += 1) {
        const PCM_PARTIAL_RESOURCE_DESCRIPTOR Descriptor = &List->PartialDescriptors[Index];
        if (Descriptor->Type == CmResourceTypeMemory && Descriptor->u.Memory.Length > ByteCount) {
            Base = Descriptor->u.Memory.Start;
            ByteCount = Descriptor->u.Memory.Length;
        }
    }
    return ByteCount > PAGE_SIZE ? LabMap(Device, Base, ByteCount)
                                 : STATUS_DEVICE_CONFIGURATION_ERROR;
}

static NTSTATUS LabHandleStart(PLAB_DEVICE Device, PIRP Irp)
{
    NTSTATUS Status = STATUS_NO_SUCH_DEVICE;
    if (IoForwardIrpSynchronously(Device->Lower, Irp)) {
        Status = Irp->IoStatus.Status;
    }
    if (NT_SUCCESS(Status)) {
        Status = LabStart(
            Device,
            IoGetCurrentIrpStackLocation(Irp)->Parameters.StartDevice.AllocatedResourcesTranslated);
    }
    Irp->IoStatus.Status = Status;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
    return Status;
}

static NTSTATUS NTAPI LabPnp(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    const PLAB_DEVICE Device = DeviceObject->DeviceExtension;
    const PDEVICE_OBJECT Lower = Device->Lower;
    const UCHAR Minor = IoGetCurrentIrpStackLocation(Irp)->MinorFunction;
    NTSTATUS Status;
    if (Minor == IRP_MN_START_DEVICE) {
        return LabHandleStart(Device, Irp);
    }
    if (Minor == IRP_MN_REMOVE_DEVICE || Minor == IRP_MN_STOP_DEVICE ||
        Minor == IRP_MN_SURPRISE_REMOVAL) {
        LabUnmap(Device);
        Irp->IoStatus.Status = STATUS_SUCCESS;
    }
    IoSkipCurrentIrpStackLocation(Irp);
    Status = IoCallDriver(Lower, Irp);
    if (Minor == IRP_MN_REMOVE_DEVICE) {
        IoDetachDevice(Lower);
        IoDeleteDevice(DeviceObject);
    }
    return Status;
}

static NTSTATUS NTAPI LabAddDevice(PDRIVER_OBJECT DriverObject, PDEVICE_OBJECT PhysicalDeviceObject)
{
    PDEVICE_OBJECT Self;
    const NTSTATUS Status = IoCreateDevice(DriverObject, sizeof(LAB_DEVICE), NULL,
                                           FILE_DEVICE_UNKNOWN, 0, FALSE, &Self);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    const PLAB_DEVICE Device = Self->DeviceExtension;
    Device->Self = Self;
    Device->Lower = IoAttachDeviceToDeviceStack(Self, PhysicalDeviceObject);
    if (Device->Lower == NULL) {
        IoDeleteDevice(Self);
        return STATUS_NO_SUCH_DEVICE;
    }
    Self->Flags &= ~DO_DEVICE_INITIALIZING;
    return STATUS_SUCCESS;
}

static VOID NTAPI LabUnload(PDRIVER_OBJECT DriverObject)
{
    UNREFERENCED_PARAMETER(DriverObject);
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath)
{
    UNREFERENCED_PARAMETER(RegistryPath);
    DriverObject->DriverUnload = LabUnload;
    DriverObject->DriverExtension->AddDevice = LabAddDevice;
    DriverObject->MajorFunction[IRP_MJ_PNP] = LabPnp;
    return STATUS_SUCCESS;
}
