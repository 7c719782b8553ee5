// The driver of QEMU's ivshmem-plain: a PCI device whose second memory register (BAR 2) is plain RAM,
// which the host has as a file. A small driver to read, about memory of a device that is not registers:
//
//   MmAllocateMdlForIoSpace               a piece of the BAR, or several, as an MDL
//   MmMapLockedPagesSpecifyCache          maps it, write-combined or cached
//   MmAllocateMappingAddress              room for a mapping, once,
//   MmMapLockedPagesWithReservedMapping   and mappings there that cannot fail for want of anything
//
// A frame has one cache type at a time, so the driver maps nothing for longer than a request takes, and
// lets one request in at a time. What a fill writes tells where it was written, so that whoever reads
// the file sees whether each page came to its place.
#include <ntddivshmem.h>

#define IVSHMEM_TAG 'hsvI'
#define IVSHMEM_PIECES 4            // of a write-combined fill
#define IVSHMEM_WINDOW_BYTES 0x8000 // of the reserved mapping
#define IVSHMEM_PRIORITY (NormalPagePriority | MdlMappingNoExecute)

typedef struct _IVSHMEM_DEVICE {
    PDEVICE_OBJECT Self;
    PDEVICE_OBJECT Lower;
    FAST_MUTEX OneRequest;
    PHYSICAL_ADDRESS Base; // of the memory
    ULONG64 ByteCount;     // 0: not started
} IVSHMEM_DEVICE, *PIVSHMEM_DEVICE;

// The bytes [Offset, Offset + ByteCount) of the memory.
typedef struct _IVSHMEM_RANGE {
    ULONG64 Offset;
    ULONG64 ByteCount;
} IVSHMEM_RANGE;

DRIVER_INITIALIZE DriverEntry;
static DRIVER_ADD_DEVICE IvshmemAddDevice;
static DRIVER_UNLOAD IvshmemUnload;
static DRIVER_DISPATCH IvshmemPnp;
static DRIVER_DISPATCH IvshmemPassOn;
static DRIVER_DISPATCH IvshmemCreateClose;
static DRIVER_DISPATCH IvshmemReadWrite;
static DRIVER_DISPATCH IvshmemControl;

static NTSTATUS IvshmemComplete(PIRP Irp, NTSTATUS Status, ULONG_PTR Information)
{
    Irp->IoStatus.Status = Status;
    Irp->IoStatus.Information = Information;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
    return Status;
}

static NTSTATUS IvshmemPassDown(PIVSHMEM_DEVICE Device, PIRP Irp)
{
    IoSkipCurrentIrpStackLocation(Irp);
    return IoCallDriver(Device->Lower, Irp);
}

// Power and the like are the bus driver's.
static NTSTATUS NTAPI IvshmemPassOn(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    return IvshmemPassDown(DeviceObject->DeviceExtension, Irp);
}

static BOOLEAN IvshmemIsInside(const IVSHMEM_DEVICE *Device, IVSHMEM_RANGE Range)
{
    return Range.Offset <= Device->ByteCount && Range.ByteCount <= Device->ByteCount - Range.Offset;
}

//
// Mappings.
//

// An MDL of the range's pages, in PieceCount equal pieces of which the last comes first: the order of an
// MDL's pages is the driver's choice.
static NTSTATUS IvshmemDescribe(const IVSHMEM_DEVICE *Device, IVSHMEM_RANGE Range, ULONG PieceCount,
                                PMDL *Mdl)
{
    MM_PHYSICAL_ADDRESS_LIST List[IVSHMEM_PIECES];
    const ULONG64 PieceBytes = Range.ByteCount / PieceCount;
    for (ULONG Index = 0; Index < PieceCount; Index += 1) {
        const ULONG Piece = PieceCount - 1 - Index;
        List[Index].PhysicalAddress.QuadPart =
            Device->Base.QuadPart + (LONG64)(Range.Offset + Piece * PieceBytes);
        List[Index].NumberOfBytes = PieceBytes;
    }
    return MmAllocateMdlForIoSpace(List, PieceCount, Mdl);
}

static VOID IvshmemWriteWords(volatile ULONG64 *Words, ULONG Path, IVSHMEM_RANGE Range)
{
    for (ULONG64 Place = 0; Place < Range.ByteCount; Place += sizeof(ULONG64)) {
        Words[Place / sizeof(ULONG64)] = IVSHMEM_WORD(Path, Range.Offset + Place);
    }
    KeMemoryBarrier(); // what a write-combining buffer still holds reaches the memory
}

// The whole range by one mapping of CacheType.
static NTSTATUS IvshmemFillAtOnce(const IVSHMEM_DEVICE *Device, ULONG Path, IVSHMEM_RANGE Range,
                                  MEMORY_CACHING_TYPE CacheType)
{
    const ULONG PieceCount =
        Range.ByteCount % (IVSHMEM_PIECES * PAGE_SIZE) == 0 ? IVSHMEM_PIECES : 1;
    const ULONG64 PieceBytes = Range.ByteCount / PieceCount;
    PMDL Mdl;
    NTSTATUS Status = IvshmemDescribe(Device, Range, PieceCount, &Mdl);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    const PUCHAR Va = MmMapLockedPagesSpecifyCache(Mdl, KernelMode, CacheType, NULL, FALSE,
                                                   (MM_PAGE_PRIORITY)IVSHMEM_PRIORITY);
    if (Va == NULL) {
        IoFreeMdl(Mdl);
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    for (ULONG Index = 0; Index < PieceCount; Index += 1) {
        const ULONG Piece = PieceCount - 1 - Index;
        const IVSHMEM_RANGE OfPiece = {Range.Offset + Piece * PieceBytes, PieceBytes};
        IvshmemWriteWords((volatile ULONG64 *)(Va + Index * PieceBytes), Path, OfPiece);
    }
    MmUnmapLockedPages(Va, Mdl);
    IoFreeMdl(Mdl);
    return STATUS_SUCCESS;
}

static NTSTATUS IvshmemFillWindow(const IVSHMEM_DEVICE *Device, PVOID Window, IVSHMEM_RANGE Range)
{
    PMDL Mdl;
    const NTSTATUS Status = IvshmemDescribe(Device, Range, 1, &Mdl);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    volatile ULONG64 *const Words =
        MmMapLockedPagesWithReservedMapping(Window, IVSHMEM_TAG, Mdl, MmWriteCombined);
    if (Words == NULL) { // only for a wrong parameter
        IoFreeMdl(Mdl);
        return STATUS_INVALID_PARAMETER;
    }
    IvshmemWriteWords(Words, IvshmemReserved, Range);
    MmUnmapReservedMapping(Window, IVSHMEM_TAG, Mdl);
    IoFreeMdl(Mdl);
    return STATUS_SUCCESS;
}

// Piece by piece through the same addresses.
static NTSTATUS IvshmemFillByWindow(const IVSHMEM_DEVICE *Device, IVSHMEM_RANGE Range)
{
    const PVOID Window = MmAllocateMappingAddress(IVSHMEM_WINDOW_BYTES, IVSHMEM_TAG);
    NTSTATUS Status = Window != NULL ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;
    while (NT_SUCCESS(Status) && Range.ByteCount != 0) {
        const ULONG64 ByteCount =
            Range.ByteCount < IVSHMEM_WINDOW_BYTES ? Range.ByteCount : IVSHMEM_WINDOW_BYTES;
        Status = IvshmemFillWindow(Device, Window, (IVSHMEM_RANGE){Range.Offset, ByteCount});
        Range.Offset += ByteCount;
        Range.ByteCount -= ByteCount;
    }
    if (Window != NULL) {
        MmFreeMappingAddress(Window, IVSHMEM_TAG);
    }
    return Status;
}

static NTSTATUS IvshmemFill(const IVSHMEM_DEVICE *Device, const IVSHMEM_FILL *Fill)
{
    const IVSHMEM_RANGE Range = {Fill->Offset, Fill->ByteCount};
    if (!IvshmemIsInside(Device, Range) || Range.ByteCount == 0 ||
        ((Range.Offset | Range.ByteCount) & (PAGE_SIZE - 1)) != 0) {
        return STATUS_INVALID_PARAMETER;
    }
    switch (Fill->Path) {
    case IvshmemWriteCombined:
        return IvshmemFillAtOnce(Device, Fill->Path, Range, MmWriteCombined);
    case IvshmemCached:
        return IvshmemFillAtOnce(Device, Fill->Path, Range, MmCached);
    case IvshmemReserved:
        return IvshmemFillByWindow(Device, Range);
    }
    return STATUS_INVALID_PARAMETER;
}

// Moves bytes between the memory and Buffer.
static NTSTATUS IvshmemMove(const IVSHMEM_DEVICE *Device, IVSHMEM_RANGE Range, PUCHAR Buffer,
                            BOOLEAN IsWrite)
{
    const ULONG InPage = BYTE_OFFSET(Range.Offset);
    const IVSHMEM_RANGE Pages = {Range.Offset - InPage, ROUND_TO_PAGES(InPage + Range.ByteCount)};
    PMDL Mdl;
    const NTSTATUS Status = IvshmemDescribe(Device, Pages, 1, &Mdl);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    const PUCHAR Va = MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmCached, NULL, FALSE,
                                                   (MM_PAGE_PRIORITY)IVSHMEM_PRIORITY);
    if (Va == NULL) {
        IoFreeMdl(Mdl);
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    if (IsWrite) {
        RtlCopyMemory(Va + InPage, Buffer, Range.ByteCount);
    } else {
        RtlCopyMemory(Buffer, Va + InPage, Range.ByteCount);
    }
    MmUnmapLockedPages(Va, Mdl);
    IoFreeMdl(Mdl);
    return STATUS_SUCCESS;
}

//
// Requests.
//

static NTSTATUS NTAPI IvshmemReadWrite(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    const PIVSHMEM_DEVICE Device = DeviceObject->DeviceExtension;
    const IO_STACK_LOCATION *Stack = IoGetCurrentIrpStackLocation(Irp);
    const BOOLEAN IsWrite = Stack->MajorFunction == IRP_MJ_WRITE;
    const IVSHMEM_RANGE Range = {(ULONG64)Stack->Parameters.Read.ByteOffset.QuadPart,
                                 Stack->Parameters.Read.Length};
    if (Range.ByteCount == 0) {
        return IvshmemComplete(Irp, STATUS_SUCCESS, 0);
    }
    if (!IvshmemIsInside(Device, Range) || Irp->MdlAddress == NULL) {
        return IvshmemComplete(Irp, STATUS_INVALID_PARAMETER, 0);
    }
    const PUCHAR Buffer = MmGetSystemAddressForMdlSafe(Irp->MdlAddress, IVSHMEM_PRIORITY);
    if (Buffer == NULL) {
        return IvshmemComplete(Irp, STATUS_INSUFFICIENT_RESOURCES, 0);
    }
    ExAcquireFastMutex(&Device->OneRequest);
    const NTSTATUS Status = IvshmemMove(Device, Range, Buffer, IsWrite);
    ExReleaseFastMutex(&Device->OneRequest);
    return IvshmemComplete(Irp, Status, NT_SUCCESS(Status) ? Range.ByteCount : 0);
}

static NTSTATUS IvshmemHandleFill(PIVSHMEM_DEVICE Device, PIRP Irp, ULONG InputBytes)
{
    if (InputBytes < sizeof(IVSHMEM_FILL)) {
        return IvshmemComplete(Irp, STATUS_BUFFER_TOO_SMALL, 0);
    }
    ExAcquireFastMutex(&Device->OneRequest);
    const NTSTATUS Status = IvshmemFill(Device, Irp->AssociatedIrp.SystemBuffer);
    ExReleaseFastMutex(&Device->OneRequest);
    return IvshmemComplete(Irp, Status, 0);
}

static NTSTATUS IvshmemHandleQuery(const IVSHMEM_DEVICE *Device, PIRP Irp, ULONG OutputBytes)
{
    const PIVSHMEM_INFORMATION Information = Irp->AssociatedIrp.SystemBuffer;
    if (OutputBytes < sizeof(*Information)) {
        return IvshmemComplete(Irp, STATUS_BUFFER_TOO_SMALL, 0);
    }
    Information->ByteCount = Device->ByteCount;
    return IvshmemComplete(Irp, STATUS_SUCCESS, sizeof(*Information));
}

static NTSTATUS NTAPI IvshmemControl(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    const PIVSHMEM_DEVICE Device = DeviceObject->DeviceExtension;
    const IO_STACK_LOCATION *Stack = IoGetCurrentIrpStackLocation(Irp);
    switch (Stack->Parameters.DeviceIoControl.IoControlCode) {
    case IOCTL_IVSHMEM_FILL:
        return IvshmemHandleFill(Device, Irp, Stack->Parameters.DeviceIoControl.InputBufferLength);
    case IOCTL_IVSHMEM_QUERY:
        return IvshmemHandleQuery(Device, Irp,
                                  Stack->Parameters.DeviceIoControl.OutputBufferLength);
    }
    return IvshmemComplete(Irp, STATUS_INVALID_DEVICE_REQUEST, 0);
}

static NTSTATUS NTAPI IvshmemCreateClose(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    return IvshmemComplete(Irp, STATUS_SUCCESS, 0);
}

//
// Start and end.
//

// The memory is the last memory resource: BAR 0 is a page of registers, which ivshmem-plain does not
// use, and BAR 1 does not exist.
static NTSTATUS IvshmemStart(PIVSHMEM_DEVICE Device, PCM_RESOURCE_LIST Resources)
{
    const ULONG Count = Resources != NULL ? Resources->List[0].PartialResourceList.Count : 0;
    for (ULONG Index = 0; Index < Count; Index += 1) {
        const PCM_PARTIAL_RESOURCE_DESCRIPTOR Descriptor =
            &Resources->List[0].PartialResourceList.PartialDescriptors[Index];
        if (Descriptor->Type == CmResourceTypeMemory ||
            Descriptor->Type == CmResourceTypeMemoryLarge) {
            ULONGLONG First;
            Device->ByteCount = RtlCmDecodeMemIoResource(Descriptor, &First);
            Device->Base.QuadPart = (LONG64)First;
        }
    }
    return Device->ByteCount > PAGE_SIZE ? STATUS_SUCCESS : STATUS_DEVICE_CONFIGURATION_ERROR;
}

static NTSTATUS IvshmemHandleStart(PIVSHMEM_DEVICE Device, PIRP Irp)
{
    NTSTATUS Status = STATUS_NO_SUCH_DEVICE;
    if (IoForwardIrpSynchronously(Device->Lower, Irp)) {
        Status = Irp->IoStatus.Status;
    }
    if (NT_SUCCESS(Status)) {
        Status = IvshmemStart(
            Device,
            IoGetCurrentIrpStackLocation(Irp)->Parameters.StartDevice.AllocatedResourcesTranslated);
    }
    return IvshmemComplete(Irp, Status, 0);
}

static NTSTATUS IvshmemHandleRemove(PIVSHMEM_DEVICE Device, PIRP Irp)
{
    const PDEVICE_OBJECT Lower = Device->Lower;
    Irp->IoStatus.Status = STATUS_SUCCESS;
    const NTSTATUS Status = IvshmemPassDown(Device, Irp);
    IoDetachDevice(Lower);
    IoDeleteDevice(Device->Self);
    return Status;
}

static NTSTATUS NTAPI IvshmemPnp(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    const PIVSHMEM_DEVICE Device = DeviceObject->DeviceExtension;
    switch (IoGetCurrentIrpStackLocation(Irp)->MinorFunction) {
    case IRP_MN_START_DEVICE:
        return IvshmemHandleStart(Device, Irp);
    case IRP_MN_REMOVE_DEVICE:
        return IvshmemHandleRemove(Device, Irp);
    case IRP_MN_STOP_DEVICE:
    case IRP_MN_SURPRISE_REMOVAL:
        Device->ByteCount = 0;
        Irp->IoStatus.Status = STATUS_SUCCESS;
        break;
    case IRP_MN_QUERY_STOP_DEVICE:
    case IRP_MN_CANCEL_STOP_DEVICE:
    case IRP_MN_QUERY_REMOVE_DEVICE:
    case IRP_MN_CANCEL_REMOVE_DEVICE:
        Irp->IoStatus.Status = STATUS_SUCCESS;
        break;
    }
    return IvshmemPassDown(Device, Irp);
}

static NTSTATUS NTAPI IvshmemAddDevice(PDRIVER_OBJECT DriverObject,
                                       PDEVICE_OBJECT PhysicalDeviceObject)
{
    PDEVICE_OBJECT Self;
    const NTSTATUS Status =
        IoCreateDevice(DriverObject, sizeof(IVSHMEM_DEVICE), NULL, FILE_DEVICE_IVSHMEM,
                       FILE_DEVICE_SECURE_OPEN, FALSE, &Self);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    const PIVSHMEM_DEVICE Device = Self->DeviceExtension;
    Device->Self = Self;
    Device->Lower = IoAttachDeviceToDeviceStack(Self, PhysicalDeviceObject);
    if (Device->Lower == NULL) {
        IoDeleteDevice(Self);
        return STATUS_NO_SUCH_DEVICE;
    }
    ExInitializeFastMutex(&Device->OneRequest);
    Self->Flags |= DO_DIRECT_IO;
    Self->Flags &= ~DO_DEVICE_INITIALIZING;
    return STATUS_SUCCESS;
}

static VOID NTAPI IvshmemUnload(PDRIVER_OBJECT DriverObject)
{
    UNREFERENCED_PARAMETER(DriverObject); // devices are gone by now, and nothing else is held
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath)
{
    UNREFERENCED_PARAMETER(RegistryPath);
    DriverObject->DriverUnload = IvshmemUnload;
    DriverObject->DriverExtension->AddDevice = IvshmemAddDevice;
    DriverObject->MajorFunction[IRP_MJ_PNP] = IvshmemPnp;
    DriverObject->MajorFunction[IRP_MJ_POWER] = IvshmemPassOn;
    DriverObject->MajorFunction[IRP_MJ_SYSTEM_CONTROL] = IvshmemPassOn;
    DriverObject->MajorFunction[IRP_MJ_CREATE] = IvshmemCreateClose;
    DriverObject->MajorFunction[IRP_MJ_CLOSE] = IvshmemCreateClose;
    DriverObject->MajorFunction[IRP_MJ_READ] = IvshmemReadWrite;
    DriverObject->MajorFunction[IRP_MJ_WRITE] = IvshmemReadWrite;
    DriverObject->MajorFunction[IRP_MJ_DEVICE_CONTROL] = IvshmemControl;
    return STATUS_SUCCESS;
}
