// Driver and device objects.
//
//   driver ──DeviceObject──▶ FDO ──NextDevice──▶ FDO ...         devices of one driver
//   PDO ──AttachedDevice──▶ FDO ──AttachedDevice──▶ NULL          devices of one stack, from below
//
// A device object is laid out as   header of Ob | DEVICE_OBJECT | driver's extension | IOP_DEVICE
//
// Invariants:
//   V1  StackSize of a device is the number of devices from the bottom of its stack up to it, or more
//       if its driver asked for more.
//   V2  A device keeps a reference to the one below it, so that a bus driver may delete a PDO before
//       the drivers above it have detached: they hear of a removal after it.
//   V3  A device keeps a reference to its driver. It is freed when it was deleted and nobody refers
//       to it any more: an open file does.
// Lock: IopDeviceLock for both kinds of links. They change only while devices come and go.
#include "kernel/io/pnp.h"

#define IOP_MAXIMUM_STACK_SIZE 64

static KI_LOCK IopDeviceLock = KI_LOCK_INITIALIZER(IOP_RANK_DEVICES, "IopDeviceLock");

typedef struct _IOP_DRIVER {
    DRIVER_OBJECT Object;
    DRIVER_EXTENSION Extension;
} IOP_DRIVER, *PIOP_DRIVER;

static VOID IopFreeDriver(PVOID Object);
static VOID IopFreeDevice(PVOID Object);

static OBJECT_TYPE IopDriverType = {.Name = "Driver", .Delete = IopFreeDriver};
static OBJECT_TYPE IopDeviceType = {.Name = "Device", .Delete = IopFreeDevice, .IsNameEnd = TRUE};
POBJECT_TYPE IopDriverObjectType = &IopDriverType;
POBJECT_TYPE IopDeviceObjectType = &IopDeviceType;
POBJECT_TYPE *IoDriverObjectType = &IopDriverObjectType;
POBJECT_TYPE *IoDeviceObjectType = &IopDeviceObjectType;

//
// Drivers.
//

static NTSTATUS NTAPI IopInvalidDeviceRequest(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    return IopCompleteIrp(Irp, STATUS_INVALID_DEVICE_REQUEST, 0);
}

PDRIVER_OBJECT IopCreateDriver(PCUNICODE_STRING Name)
{
    PIOP_DRIVER Driver = ObAllocateObject(&IopDriverType, sizeof(*Driver) + Name->Length);
    if (Driver == NULL) {
        return NULL;
    }
    PWSTR NameCopy = (PWSTR)(Driver + 1);
    RtlCopyMemory(NameCopy, Name->Buffer, Name->Length);
    Driver->Object.Type = IO_TYPE_DRIVER;
    Driver->Object.Size = sizeof(DRIVER_OBJECT);
    Driver->Object.DriverName = (UNICODE_STRING){Name->Length, Name->Length, NameCopy};
    Driver->Object.DriverExtension = &Driver->Extension;
    Driver->Extension.DriverObject = &Driver->Object;
    for (ULONG Major = 0; Major <= IRP_MJ_MAXIMUM_FUNCTION; Major += 1) {
        Driver->Object.MajorFunction[Major] = IopInvalidDeviceRequest;
    }
    const NTSTATUS Status = ObInsertName(&Driver->Object, NULL, &Driver->Object.DriverName);
    if (!NT_SUCCESS(Status)) {
        ObDereferenceObject(&Driver->Object);
        return NULL;
    }
    return &Driver->Object;
}

static VOID IopFreeDriver(PVOID Object)
{
    const PDRIVER_OBJECT Driver = Object;
    NT_ASSERT(Driver->DeviceObject == NULL);
    IopFreeDriverExtensions(Driver);
}

VOID IopDeleteDriver(PDRIVER_OBJECT DriverObject)
{
    ObRemoveName(DriverObject);
    ObDereferenceObject(DriverObject);
}

//
// Devices.
//

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
    Device->NextDevice = NULL;
    KiReleaseLock(&IopDeviceLock, OldIrql);
}

static PDEVICE_OBJECT IopAllocateDevice(PDRIVER_OBJECT DriverObject, ULONG ExtensionByteCount)
{
    const ULONG64 Rounded = ((ULONG64)ExtensionByteCount + 15) & ~15ULL;
    const ULONG64 ByteCount = sizeof(DEVICE_OBJECT) + Rounded + sizeof(IOP_DEVICE);
    // The size that the driver sees has 16 bits.
    if (sizeof(DEVICE_OBJECT) + Rounded > MAXUSHORT) {
        return NULL;
    }
    PDEVICE_OBJECT Device = ObAllocateObject(&IopDeviceType, ByteCount);
    if (Device == NULL) {
        return NULL;
    }
    PIOP_DEVICE Extra = (PIOP_DEVICE)(PVOID)((PUCHAR)(Device + 1) + Rounded);
    Extra->Public.Type = IO_TYPE_DEVICE_OBJECT_EXTENSION;
    Extra->Public.DeviceObject = Device;
    Device->Type = IO_TYPE_DEVICE;
    Device->Size = (USHORT)(sizeof(*Device) + ExtensionByteCount);
    Device->DeviceExtension = ExtensionByteCount != 0 ? Device + 1 : NULL;
    Device->DeviceObjectExtension = &Extra->Public;
    Device->DriverObject = DriverObject;
    return Device;
}

// "\Device\0000002a": a name that nobody else has.
static NTSTATUS IopInsertGeneratedName(PDEVICE_OBJECT Device)
{
    static volatile LONG LastNumber;
    static const CHAR Prefix[] = "\\Device\\";
    CHAR Text[sizeof(Prefix) + 8];
    WCHAR Wide[sizeof(Text)];
    const ULONG Number = (ULONG)__atomic_add_fetch(&LastNumber, 1, __ATOMIC_RELAXED);
    const SIZE_T Count = RtlFormatBuffer(Text, sizeof(Text), "%s%08x", Prefix, Number);
    for (SIZE_T Index = 0; Index < Count; Index += 1) {
        Wide[Index] = (UCHAR)Text[Index];
    }
    const UNICODE_STRING Name = {(USHORT)(Count * sizeof(WCHAR)), (USHORT)(Count * sizeof(WCHAR)),
                                 Wide};
    return ObInsertName(Device, NULL, &Name);
}

static NTSTATUS IopNameDevice(PDEVICE_OBJECT Device, PCUNICODE_STRING Name)
{
    NTSTATUS Status = STATUS_SUCCESS;
    if (Name != NULL && Name->Length != 0) {
        Status = ObInsertName(Device, NULL, Name);
    } else if ((Device->Characteristics & FILE_AUTOGENERATED_DEVICE_NAME) != 0) {
        Status = IopInsertGeneratedName(Device);
    }
    if (NT_SUCCESS(Status) && ObLastName(Device).Length != 0) {
        Device->Flags |= DO_DEVICE_HAS_NAME;
    }
    return Status;
}

NTSTATUS NTAPI IoCreateDevice(PDRIVER_OBJECT DriverObject, ULONG DeviceExtensionSize,
                              PUNICODE_STRING DeviceName, DEVICE_TYPE DeviceType,
                              ULONG DeviceCharacteristics, BOOLEAN Exclusive,
                              PDEVICE_OBJECT *DeviceObject)
{
    *DeviceObject = NULL;
    PDEVICE_OBJECT Device = IopAllocateDevice(DriverObject, DeviceExtensionSize);
    if (Device == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    Device->Flags = DO_DEVICE_INITIALIZING | (Exclusive ? DO_EXCLUSIVE : 0);
    Device->Characteristics = DeviceCharacteristics;
    Device->DeviceType = DeviceType;
    Device->StackSize = 1;
    // As the file systems and their volumes expect to find it.
    if (DeviceType == FILE_DEVICE_DISK || DeviceType == FILE_DEVICE_VIRTUAL_DISK ||
        DeviceType == FILE_DEVICE_CD_ROM || DeviceType == FILE_DEVICE_TAPE) {
        Device->SectorSize = 512;
    }
    KeInitializeDeviceQueue(&Device->DeviceQueue);
    KeInitializeEvent(&Device->DeviceLock, SynchronizationEvent, TRUE);
    ObReferenceObject(DriverObject);
    IopLinkDevice(Device);
    const NTSTATUS Status = IopNameDevice(Device, DeviceName);
    if (!NT_SUCCESS(Status)) {
        IoDeleteDevice(Device);
        return Status;
    }
    *DeviceObject = Device;
    return STATUS_SUCCESS;
}

static VOID IopFreeDevice(PVOID Object)
{
    const PDEVICE_OBJECT Device = Object;
    ObDereferenceObject(Device->DriverObject);
}

VOID NTAPI IoDeleteDevice(PDEVICE_OBJECT DeviceObject)
{
    NT_ASSERT(!IopDeviceOf(DeviceObject)->IsDeleted);
    IopDeviceOf(DeviceObject)->IsDeleted = TRUE;
    IopDeleteTimer(DeviceObject);
    IopUnlinkDevice(DeviceObject);
    ObRemoveName(DeviceObject);
    ObDereferenceObject(DeviceObject);
}

BOOLEAN IopCountOpen(PDEVICE_OBJECT DeviceObject)
{
    const KIRQL OldIrql = KiAcquireLock(&IopDeviceLock);
    const BOOLEAN IsTaken =
        (DeviceObject->Flags & DO_EXCLUSIVE) != 0 && DeviceObject->ReferenceCount != 0;
    if (!IsTaken) {
        DeviceObject->ReferenceCount += 1;
    }
    KiReleaseLock(&IopDeviceLock, OldIrql);
    return !IsTaken;
}

VOID IopCountClose(PDEVICE_OBJECT DeviceObject)
{
    const KIRQL OldIrql = KiAcquireLock(&IopDeviceLock);
    DeviceObject->ReferenceCount -= 1;
    KiReleaseLock(&IopDeviceLock, OldIrql);
}

//
// Stacks.
//

PDEVICE_OBJECT IopTopOfStack(PDEVICE_OBJECT DeviceObject)
{
    while (DeviceObject->AttachedDevice != NULL) {
        DeviceObject = DeviceObject->AttachedDevice;
    }
    return DeviceObject;
}

PDEVICE_OBJECT IopBaseOfStack(PDEVICE_OBJECT DeviceObject)
{
    while (IopDeviceOf(DeviceObject)->AttachedTo != NULL) {
        DeviceObject = IopDeviceOf(DeviceObject)->AttachedTo;
    }
    return DeviceObject;
}

static BOOLEAN IopMayAttachTo(const DEVICE_OBJECT *Top)
{
    return (Top->Flags & DO_DEVICE_INITIALIZING) == 0 && Top->StackSize < IOP_MAXIMUM_STACK_SIZE &&
           !IopDeviceOf(Top)->IsDeleted;
}

// Returns the device below, or NULL. *AttachedTo, where given, gets it under the lock: requests may
// come at once.
static PDEVICE_OBJECT IopAttach(PDEVICE_OBJECT Source, PDEVICE_OBJECT Target,
                                PDEVICE_OBJECT *AttachedTo)
{
    const KIRQL OldIrql = KiAcquireLock(&IopDeviceLock);
    PDEVICE_OBJECT Top = IopTopOfStack(Target);
    if (IopMayAttachTo(Top) && IopDeviceOf(Source)->AttachedTo == NULL) {
        if (AttachedTo != NULL) {
            *AttachedTo = Top;
        }
        ObReferenceObject(Top);
        Top->AttachedDevice = Source;
        IopDeviceOf(Source)->AttachedTo = Top;
        Source->StackSize = (CCHAR)(Top->StackSize + 1);
        Source->AlignmentRequirement = Top->AlignmentRequirement;
        Source->SectorSize = Top->SectorSize;
    } else {
        Top = NULL;
    }
    KiReleaseLock(&IopDeviceLock, OldIrql);
    return Top;
}

PDEVICE_OBJECT NTAPI IoAttachDeviceToDeviceStack(PDEVICE_OBJECT SourceDevice,
                                                 PDEVICE_OBJECT TargetDevice)
{
    return IopAttach(SourceDevice, TargetDevice, NULL);
}

NTSTATUS NTAPI IoAttachDeviceToDeviceStackSafe(PDEVICE_OBJECT SourceDevice,
                                               PDEVICE_OBJECT TargetDevice,
                                               PDEVICE_OBJECT *AttachedToDeviceObject)
{
    return IopAttach(SourceDevice, TargetDevice, AttachedToDeviceObject) != NULL
               ? STATUS_SUCCESS
               : STATUS_NO_SUCH_DEVICE;
}

VOID NTAPI IoDetachDevice(PDEVICE_OBJECT TargetDevice)
{
    const KIRQL OldIrql = KiAcquireLock(&IopDeviceLock);
    const PDEVICE_OBJECT Upper = TargetDevice->AttachedDevice;
    if (Upper != NULL) {
        IopDeviceOf(Upper)->AttachedTo = NULL;
    }
    TargetDevice->AttachedDevice = NULL;
    KiReleaseLock(&IopDeviceLock, OldIrql);
    if (Upper != NULL) {
        ObDereferenceObject(TargetDevice);
    }
}

PDEVICE_OBJECT NTAPI IoGetAttachedDeviceReference(PDEVICE_OBJECT DeviceObject)
{
    const KIRQL OldIrql = KiAcquireLock(&IopDeviceLock);
    PDEVICE_OBJECT Top = IopTopOfStack(DeviceObject);
    ObReferenceObject(Top);
    KiReleaseLock(&IopDeviceLock, OldIrql);
    return Top;
}

PDEVICE_OBJECT NTAPI IoGetAttachedDevice(PDEVICE_OBJECT DeviceObject)
{
    return IopTopOfStack(DeviceObject);
}

PDEVICE_OBJECT NTAPI IoGetLowerDeviceObject(PDEVICE_OBJECT DeviceObject)
{
    const KIRQL OldIrql = KiAcquireLock(&IopDeviceLock);
    PDEVICE_OBJECT Lower = IopDeviceOf(DeviceObject)->AttachedTo;
    if (Lower != NULL) {
        ObReferenceObject(Lower);
    }
    KiReleaseLock(&IopDeviceLock, OldIrql);
    return Lower;
}

PDEVICE_OBJECT NTAPI IoGetDeviceAttachmentBaseRef(PDEVICE_OBJECT DeviceObject)
{
    const KIRQL OldIrql = KiAcquireLock(&IopDeviceLock);
    PDEVICE_OBJECT Base = IopBaseOfStack(DeviceObject);
    ObReferenceObject(Base);
    KiReleaseLock(&IopDeviceLock, OldIrql);
    return Base;
}

NTSTATUS NTAPI IoEnumerateDeviceObjectList(PDRIVER_OBJECT DriverObject,
                                           PDEVICE_OBJECT *DeviceObjectList,
                                           ULONG DeviceObjectListSize,
                                           PULONG ActualNumberDeviceObjects)
{
    const ULONG Capacity = DeviceObjectListSize / sizeof(PDEVICE_OBJECT);
    ULONG Count = 0;
    const KIRQL OldIrql = KiAcquireLock(&IopDeviceLock);
    for (PDEVICE_OBJECT Device = DriverObject->DeviceObject; Device != NULL;
         Device = Device->NextDevice) {
        Count += 1;
    }
    if (Count <= Capacity) {
        ULONG Index = 0;
        for (PDEVICE_OBJECT Device = DriverObject->DeviceObject; Device != NULL;
             Device = Device->NextDevice) {
            ObReferenceObject(Device);
            DeviceObjectList[Index++] = Device;
        }
    }
    KiReleaseLock(&IopDeviceLock, OldIrql);
    *ActualNumberDeviceObjects = Count;
    return Count <= Capacity ? STATUS_SUCCESS : STATUS_BUFFER_TOO_SMALL;
}

//
// Symbolic links.
//

NTSTATUS NTAPI IoCreateSymbolicLink(PUNICODE_STRING SymbolicLinkName, PUNICODE_STRING DeviceName)
{
    return ObCreateSymbolicLink(SymbolicLinkName, DeviceName, __builtin_return_address(0));
}

NTSTATUS NTAPI IoCreateUnprotectedSymbolicLink(PUNICODE_STRING SymbolicLinkName,
                                               PUNICODE_STRING DeviceName)
{
    return ObCreateSymbolicLink(SymbolicLinkName, DeviceName, __builtin_return_address(0));
}

NTSTATUS NTAPI IoDeleteSymbolicLink(PUNICODE_STRING SymbolicLinkName)
{
    return ObDeleteSymbolicLink(SymbolicLinkName);
}
