// Driver and device objects.
//
//   driver ──DeviceObject──▶ FDO ──NextDevice──▶ FDO ...         devices of one driver
//   PDO ──AttachedDevice──▶ FDO ──AttachedDevice──▶ NULL          devices of one stack, from below
//
// Invariants:
//   V1  StackSize of a device is the number of devices from the bottom of its stack up to it.
//   V2  A device is deleted only when nothing is attached to it.
// Lock: IopDeviceLock for both kinds of links. They change only while devices come and go.
#include "kernel/io/iop.h"

#define IOP_MAXIMUM_STACK_SIZE 32

static KI_LOCK IopDeviceLock = KI_LOCK_INITIALIZER(IOP_RANK_DEVICES, "IopDeviceLock");

typedef struct _IOP_DRIVER {
    DRIVER_OBJECT Object;
    DRIVER_EXTENSION Extension;
} IOP_DRIVER, *PIOP_DRIVER;

static NTSTATUS NTAPI IopInvalidDeviceRequest(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    return IopCompleteIrp(Irp, STATUS_INVALID_DEVICE_REQUEST, 0);
}

PDRIVER_OBJECT IopCreateDriver(PCUNICODE_STRING Name)
{
    PIOP_DRIVER Driver = ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(*Driver), IOP_TAG);
    if (Driver == NULL) {
        return NULL;
    }
    Driver->Object.Type = IO_TYPE_DRIVER;
    Driver->Object.Size = sizeof(DRIVER_OBJECT);
    Driver->Object.DriverName = *Name;
    Driver->Object.DriverExtension = &Driver->Extension;
    Driver->Extension.DriverObject = &Driver->Object;
    for (ULONG Major = 0; Major <= IRP_MJ_MAXIMUM_FUNCTION; Major += 1) {
        Driver->Object.MajorFunction[Major] = IopInvalidDeviceRequest;
    }
    return &Driver->Object;
}

VOID IopDeleteDriver(PDRIVER_OBJECT DriverObject)
{
    NT_ASSERT(DriverObject->DeviceObject == NULL);
    ExFreePoolWithTag(CONTAINING_RECORD(DriverObject, IOP_DRIVER, Object), IOP_TAG);
}

static VOID IopLinkDevice(PDEVICE_OBJECT Device)
{
    const KIRQL OldIrql = KiAcquireLock(&IopDeviceLock);
    Device->NextDevice = Device->DriverObject->DeviceObject;
    Device->DriverObject->DeviceObject = Device;
    KiReleaseLock(&IopDeviceLock, OldIrql);
}

static VOID IopUnlinkDevice(PDEVICE_OBJECT Device)
{
    const KIRQL OldIrql = KiAcquireLock(&IopDeviceLock);
    PDEVICE_OBJECT *Link = &Device->DriverObject->DeviceObject;
    while (*Link != Device) {
        Link = &(*Link)->NextDevice;
    }
    *Link = Device->NextDevice;
    KiReleaseLock(&IopDeviceLock, OldIrql);
}

NTSTATUS NTAPI IoCreateDevice(PDRIVER_OBJECT DriverObject, ULONG DeviceExtensionSize,
                              PUNICODE_STRING DeviceName, DEVICE_TYPE DeviceType,
                              ULONG DeviceCharacteristics, BOOLEAN Exclusive,
                              PDEVICE_OBJECT *DeviceObject)
{
    *DeviceObject = NULL;
    if (DeviceName != NULL) {
        return STATUS_NOT_SUPPORTED;
    }
    PDEVICE_OBJECT Device = ExAllocatePool2(POOL_FLAG_NON_PAGED,
                                            sizeof(*Device) + (SIZE_T)DeviceExtensionSize, IOP_TAG);
    if (Device == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    Device->Type = IO_TYPE_DEVICE;
    Device->Size = (USHORT)(sizeof(*Device) + DeviceExtensionSize);
    Device->DriverObject = DriverObject;
    Device->Flags = DO_DEVICE_INITIALIZING | (Exclusive ? DO_EXCLUSIVE : 0);
    Device->Characteristics = DeviceCharacteristics;
    Device->DeviceExtension = DeviceExtensionSize != 0 ? Device + 1 : NULL;
    Device->DeviceType = DeviceType;
    Device->StackSize = 1;
    IopLinkDevice(Device);
    *DeviceObject = Device;
    return STATUS_SUCCESS;
}

VOID NTAPI IoDeleteDevice(PDEVICE_OBJECT DeviceObject)
{
    NT_ASSERT_INVARIANT("V2", DeviceObject->AttachedDevice == NULL);
    IopUnlinkDevice(DeviceObject);
    ExFreePoolWithTag(DeviceObject, IOP_TAG);
}

PDEVICE_OBJECT IopTopOfStack(PDEVICE_OBJECT DeviceObject)
{
    while (DeviceObject->AttachedDevice != NULL) {
        DeviceObject = DeviceObject->AttachedDevice;
    }
    return DeviceObject;
}

static BOOLEAN IopMayAttachTo(const DEVICE_OBJECT *Top)
{
    return (Top->Flags & DO_DEVICE_INITIALIZING) == 0 && Top->StackSize < IOP_MAXIMUM_STACK_SIZE;
}

PDEVICE_OBJECT NTAPI IoAttachDeviceToDeviceStack(PDEVICE_OBJECT SourceDevice,
                                                 PDEVICE_OBJECT TargetDevice)
{
    const KIRQL OldIrql = KiAcquireLock(&IopDeviceLock);
    PDEVICE_OBJECT Top = IopTopOfStack(TargetDevice);
    if (IopMayAttachTo(Top)) {
        Top->AttachedDevice = SourceDevice;
        SourceDevice->StackSize = (CCHAR)(Top->StackSize + 1);
        SourceDevice->AlignmentRequirement = Top->AlignmentRequirement;
        SourceDevice->SectorSize = Top->SectorSize;
    } else {
        Top = NULL;
    }
    KiReleaseLock(&IopDeviceLock, OldIrql);
    return Top;
}

VOID NTAPI IoDetachDevice(PDEVICE_OBJECT TargetDevice)
{
    const KIRQL OldIrql = KiAcquireLock(&IopDeviceLock);
    TargetDevice->AttachedDevice = NULL;
    KiReleaseLock(&IopDeviceLock, OldIrql);
}
