// The e1000 driver: its entry, its devices and their life. Written against <wdm.h> alone.
//
//   DriverEntry       tells the I/O manager what the driver can do
//   E1000AddDevice         a function device object on top of the bus driver's
//   IRP_MN_START_DEVICE    registers mapped, rings allocated, card brought up: E1000Started
//   reads, writes, IOCTLs  request.c
//   IRP_MN_STOP_DEVICE     the same in reverse, DMA ends before memory is freed: E1000Stopped
//   IRP_MN_REMOVE_DEVICE   as STOP, then the device object goes
//
// IRQL: PASSIVE_LEVEL throughout. Requests and PnP routines take turns (E1000AcquireAdapter).
#include "e1000.h"

// -------------------------------------------------------------------------------------------------
// Taking turns. A turn may last seconds; its owner stays at PASSIVE_LEVEL.

BOOLEAN E1000TryAcquireAdapter(PE1000_ADAPTER Adapter)
{
    LARGE_INTEGER AtOnce;

    AtOnce.QuadPart = 0;
    return KeWaitForSingleObject(&Adapter->Turn, Executive, KernelMode, FALSE, &AtOnce) ==
           STATUS_SUCCESS;
}

VOID E1000AcquireAdapter(PE1000_ADAPTER Adapter)
{
    (VOID) KeWaitForSingleObject(&Adapter->Turn, Executive, KernelMode, FALSE, NULL);
}

VOID E1000ReleaseAdapter(PE1000_ADAPTER Adapter)
{
    KeSetEvent(&Adapter->Turn, IO_NO_INCREMENT, FALSE);
}

// -------------------------------------------------------------------------------------------------
// Resources of a started adapter.

// The first memory descriptor that is large enough: the 82540EM's registers are its only memory
// BAR.
static const CM_PARTIAL_RESOURCE_DESCRIPTOR *E1000FindRegisters(const CM_RESOURCE_LIST *List)
{
    if (List == NULL || List->Count == 0) {
        return NULL;
    }
    const CM_PARTIAL_RESOURCE_LIST *const Partial = &List->List[0].PartialResourceList;
    for (ULONG Index = 0; Index < Partial->Count; Index += 1) {
        const CM_PARTIAL_RESOURCE_DESCRIPTOR *const Descriptor =
            &Partial->PartialDescriptors[Index];
        if (Descriptor->Type == CmResourceTypeMemory &&
            Descriptor->u.Memory.Length >= E1000_REGISTER_BYTES) {
            return Descriptor;
        }
    }
    return NULL;
}

static NTSTATUS E1000MapRegisters(PE1000_ADAPTER Adapter, const CM_RESOURCE_LIST *Translated)
{
    const CM_PARTIAL_RESOURCE_DESCRIPTOR *const Descriptor = E1000FindRegisters(Translated);

    if (Descriptor == NULL) {
        DbgPrint("e1000: the card has no memory BAR of at least %u KiB.\n",
                 E1000_REGISTER_BYTES / 1024);
        return STATUS_DEVICE_CONFIGURATION_ERROR;
    }
    Adapter->RegisterByteCount = Descriptor->u.Memory.Length;
    Adapter->Registers = MmMapIoSpaceEx(Descriptor->u.Memory.Start, Adapter->RegisterByteCount,
                                        PAGE_READWRITE | PAGE_NOCACHE);
    if (Adapter->Registers == NULL) {
        DbgPrint("e1000: the registers at 0x%llx could not be mapped.\n",
                 Descriptor->u.Memory.Start.QuadPart);
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    return STATUS_SUCCESS;
}

static VOID E1000UnmapRegisters(PE1000_ADAPTER Adapter)
{
    MmUnmapIoSpace(Adapter->Registers, Adapter->RegisterByteCount);
    Adapter->Registers = NULL;
}

// Frees what the card's DMA could reach, once it can't any more.
static VOID E1000ReleaseRings(PE1000_ADAPTER Adapter)
{
    if (E1000QuiesceDma(Adapter) == STATUS_IO_TIMEOUT) {
        // A card that ignores a reset may still write frames. Pages lost are better than pages
        // overwritten.
        DbgPrint("e1000: the card does not obey; the memory of its rings is given up.\n");
        return;
    }
    E1000FreeRings(Adapter);
}

static NTSTATUS E1000StartAdapter(PE1000_ADAPTER Adapter, const CM_RESOURCE_LIST *Translated)
{
    NTSTATUS Status = E1000MapRegisters(Adapter, Translated);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    Status = E1000AllocateRings(Adapter);
    if (!NT_SUCCESS(Status)) {
        goto UnmapRegisters;
    }
    Status = E1000QuiesceDma(Adapter);
    if (NT_SUCCESS(Status)) {
        Status = E1000ConnectInterrupt(Adapter);
    }
    if (NT_SUCCESS(Status)) {
        Status = E1000BringUp(Adapter);
    }
    if (!NT_SUCCESS(Status)) {
        goto ReleaseRings;
    }
    Adapter->State = E1000Started;
    return STATUS_SUCCESS;

ReleaseRings:
    E1000ReleaseRings(Adapter);
    E1000DisconnectInterrupt(Adapter);
UnmapRegisters:
    E1000UnmapRegisters(Adapter);
    return Status;
}

static VOID E1000StopAdapter(PE1000_ADAPTER Adapter)
{
    if (Adapter->State != E1000Stopped) {
        E1000ReleaseRings(Adapter);
        E1000DisconnectInterrupt(Adapter);
        E1000UnmapRegisters(Adapter);
        Adapter->State = E1000Stopped;
    }
}

// -------------------------------------------------------------------------------------------------
// PnP. Each routine completes the IRP or passes it down.

typedef NTSTATUS E1000_PNP_ROUTINE(PE1000_ADAPTER Adapter, PIRP Irp);

static NTSTATUS E1000CompletePnp(PIRP Irp, NTSTATUS Status)
{
    Irp->IoStatus.Status = Status;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
    return Status;
}

static NTSTATUS E1000PassDown(PE1000_ADAPTER Adapter, PIRP Irp)
{
    IoSkipCurrentIrpStackLocation(Irp);
    return IoCallDriver(Adapter->LowerDevice, Irp);
}

static NTSTATUS E1000AgreeAndPassDown(PE1000_ADAPTER Adapter, PIRP Irp)
{
    Irp->IoStatus.Status = STATUS_SUCCESS;
    return E1000PassDown(Adapter, Irp);
}

// The bus driver starts the device first: until then its registers need not answer.
static NTSTATUS E1000PnpStart(PE1000_ADAPTER Adapter, PIRP Irp)
{
    const PIO_STACK_LOCATION Stack = IoGetCurrentIrpStackLocation(Irp);

    if (!IoForwardIrpSynchronously(Adapter->LowerDevice, Irp)) {
        return E1000CompletePnp(Irp, STATUS_UNSUCCESSFUL);
    }
    NTSTATUS Status = Irp->IoStatus.Status;
    if (NT_SUCCESS(Status)) {
        E1000AcquireAdapter(Adapter);
        // A second START without a STOP brings other resources; the old ones go first.
        E1000StopAdapter(Adapter);
        Status =
            E1000StartAdapter(Adapter, Stack->Parameters.StartDevice.AllocatedResourcesTranslated);
        E1000ReleaseAdapter(Adapter);
    }
    return E1000CompletePnp(Irp, Status);
}

static NTSTATUS E1000PnpStop(PE1000_ADAPTER Adapter, PIRP Irp)
{
    E1000AcquireAdapter(Adapter);
    E1000StopAdapter(Adapter);
    E1000ReleaseAdapter(Adapter);
    return E1000AgreeAndPassDown(Adapter, Irp);
}

// The card is already gone; requests are refused from here on, and REMOVE follows.
static NTSTATUS E1000PnpSurpriseRemoval(PE1000_ADAPTER Adapter, PIRP Irp)
{
    E1000AcquireAdapter(Adapter);
    if (Adapter->State == E1000Started) {
        Adapter->State = E1000Gone;
    }
    E1000ReleaseAdapter(Adapter);
    return E1000AgreeAndPassDown(Adapter, Irp);
}

static NTSTATUS E1000PnpRemove(PE1000_ADAPTER Adapter, PIRP Irp)
{
    const PDEVICE_OBJECT LowerDevice = Adapter->LowerDevice;

    E1000AcquireAdapter(Adapter);
    E1000StopAdapter(Adapter);
    E1000ReleaseAdapter(Adapter);
    const NTSTATUS Status = E1000AgreeAndPassDown(Adapter, Irp);
    IoDetachDevice(LowerDevice);
    IoDeleteDevice(Adapter->Fdo);
    return Status;
}

// What is absent here is passed down untouched.
static E1000_PNP_ROUTINE *const E1000PnpRoutines[] = {
    [IRP_MN_START_DEVICE] = E1000PnpStart,
    [IRP_MN_QUERY_REMOVE_DEVICE] = E1000AgreeAndPassDown,
    [IRP_MN_REMOVE_DEVICE] = E1000PnpRemove,
    [IRP_MN_CANCEL_REMOVE_DEVICE] = E1000AgreeAndPassDown,
    [IRP_MN_STOP_DEVICE] = E1000PnpStop,
    [IRP_MN_QUERY_STOP_DEVICE] = E1000AgreeAndPassDown,
    [IRP_MN_CANCEL_STOP_DEVICE] = E1000AgreeAndPassDown,
    [IRP_MN_SURPRISE_REMOVAL] = E1000PnpSurpriseRemoval,
};

static NTSTATUS NTAPI E1000DispatchPnp(PDEVICE_OBJECT Fdo, PIRP Irp)
{
    const PE1000_ADAPTER Adapter = Fdo->DeviceExtension;
    const UCHAR Minor = IoGetCurrentIrpStackLocation(Irp)->MinorFunction;

    if (Minor >= ARRAYSIZE(E1000PnpRoutines) || E1000PnpRoutines[Minor] == NULL) {
        return E1000PassDown(Adapter, Irp);
    }
    return E1000PnpRoutines[Minor](Adapter, Irp);
}

// -------------------------------------------------------------------------------------------------
// The driver.

static NTSTATUS NTAPI E1000DispatchPassDown(PDEVICE_OBJECT Fdo, PIRP Irp)
{
    return E1000PassDown(Fdo->DeviceExtension, Irp);
}

// Opening and closing need nothing: the adapter has no state per handle.
static NTSTATUS NTAPI E1000DispatchCreateClose(PDEVICE_OBJECT Fdo, PIRP Irp)
{
    UNREFERENCED_PARAMETER(Fdo);
    Irp->IoStatus.Status = STATUS_SUCCESS;
    Irp->IoStatus.Information = 0;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
    return STATUS_SUCCESS;
}

static NTSTATUS NTAPI E1000AddDevice(PDRIVER_OBJECT DriverObject, PDEVICE_OBJECT Pdo)
{
    PDEVICE_OBJECT Fdo;

    const NTSTATUS Status =
        IoCreateDevice(DriverObject, sizeof(E1000_ADAPTER), NULL, FILE_DEVICE_PHYSICAL_NETCARD,
                       FILE_DEVICE_SECURE_OPEN, FALSE, &Fdo);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    const PE1000_ADAPTER Adapter = Fdo->DeviceExtension;
    RtlZeroMemory(Adapter, sizeof(*Adapter));
    KeInitializeEvent(&Adapter->Turn, SynchronizationEvent, TRUE);
    Adapter->Pdo = Pdo;
    Adapter->Fdo = Fdo;
    Adapter->LowerDevice = IoAttachDeviceToDeviceStack(Fdo, Pdo);
    if (Adapter->LowerDevice == NULL) {
        IoDeleteDevice(Fdo);
        return STATUS_NO_SUCH_DEVICE;
    }
    Fdo->Flags |= DO_DIRECT_IO;
    Fdo->Flags &= ~(ULONG)DO_DEVICE_INITIALIZING;
    return STATUS_SUCCESS;
}

// Every device is gone by now, and the driver holds nothing besides.
static VOID NTAPI E1000Unload(PDRIVER_OBJECT DriverObject)
{
    UNREFERENCED_PARAMETER(DriverObject);
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath)
{
    UNREFERENCED_PARAMETER(RegistryPath);
    DriverObject->DriverExtension->AddDevice = E1000AddDevice;
    DriverObject->DriverUnload = E1000Unload;
    DriverObject->MajorFunction[IRP_MJ_CREATE] = E1000DispatchCreateClose;
    DriverObject->MajorFunction[IRP_MJ_CLOSE] = E1000DispatchCreateClose;
    DriverObject->MajorFunction[IRP_MJ_READ] = E1000DispatchRequest;
    DriverObject->MajorFunction[IRP_MJ_WRITE] = E1000DispatchRequest;
    DriverObject->MajorFunction[IRP_MJ_DEVICE_CONTROL] = E1000DispatchRequest;
    DriverObject->MajorFunction[IRP_MJ_PNP] = E1000DispatchPnp;
    DriverObject->MajorFunction[IRP_MJ_POWER] = E1000DispatchPassDown;
    DriverObject->MajorFunction[IRP_MJ_SYSTEM_CONTROL] = E1000DispatchPassDown;
    return STATUS_SUCCESS;
}
