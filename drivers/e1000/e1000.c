// The e1000 driver: its entry, its devices and their life. Written against <wdm.h> alone.
//
//   DriverEntry            tells the I/O manager what the driver can do
//   E1000AddDevice         a function device object on top of the bus driver's
//   IRP_MN_START_DEVICE    registers mapped, rings allocated, card brought up: E1000Started
//   requests               request.c; frames in transmit.c and receive.c
//   IRP_MN_STOP_DEVICE     the same in reverse: requests end, DMA ends, memory is freed: E1000Stopped
//   IRP_MN_REMOVE_DEVICE   as STOP, then the device object goes
//
// IRQL: PASSIVE_LEVEL in this file. PnP, settings and resets take turns.
#include "e1000.h"

#define E1000_LENT_MS 3000u // that STOP waits for frames that are lent

// -------------------------------------------------------------------------------------------------
// Taking turns. Its owner stays at PASSIVE_LEVEL, which a mutex would not allow.

VOID E1000AcquireTurn(PE1000_ADAPTER Adapter)
{
    (VOID) KeWaitForSingleObject(&Adapter->Turn, Executive, KernelMode, FALSE, NULL);
}

VOID E1000ReleaseTurn(PE1000_ADAPTER Adapter)
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

static NTSTATUS E1000AllocateAll(PE1000_ADAPTER Adapter)
{
    NTSTATUS Status = E1000GetDmaAdapter(Adapter);
    if (NT_SUCCESS(Status)) {
        Status =
            E1000AllocateReceive(Adapter, &Adapter->Receive, Adapter->Options.ReceiveRingCount);
    }
    if (NT_SUCCESS(Status)) {
        Status =
            E1000AllocateTransmit(Adapter, &Adapter->Transmit, Adapter->Options.TransmitRingCount);
    }
    return Status;
}

static VOID E1000FreeAll(PE1000_ADAPTER Adapter)
{
    if (Adapter->Dma != NULL) {
        E1000FreeTransmit(Adapter, &Adapter->Transmit);
        E1000FreeReceive(Adapter, &Adapter->Receive);
        E1000PutDmaAdapter(Adapter);
    }
}

// The memory stays allocated for ever (W3 in recover.c, or frames that nobody returns).
static VOID E1000ForgetAll(PE1000_ADAPTER Adapter, PCSTR Reason)
{
    DbgPrint("e1000: %s; the memory of the rings is given up.\n", Reason);
    Adapter->Receive.LentCount = 0;
    Adapter->Receive.Buffers = NULL;
    Adapter->Receive.BufferCount = 0;
    Adapter->Receive.Chunks = NULL;
    Adapter->Receive.Free = NULL;
    Adapter->Transmit.SmallAreas = NULL;
    Adapter->Transmit.LargeAreas = NULL;
    Adapter->Dma = NULL;
}

// Settings that every START begins with. Options stay.
static VOID E1000ResetSettings(PE1000_ADAPTER Adapter)
{
    RtlZeroMemory(&Adapter->Filter, sizeof(Adapter->Filter));
    RtlZeroMemory(&Adapter->Vlan, sizeof(Adapter->Vlan));
    Adapter->Filter.Flags = NET_FILTER_DIRECTED | NET_FILTER_BROADCAST;
    Adapter->Link.Sequence = 0;
    Adapter->Receive.First = NULL;
    Adapter->Receive.LentCount = 0;
    Adapter->Transmit.MappedCount = 0;
    Adapter->Transmit.Next = Adapter->Transmit.Clean = Adapter->Transmit.Rung = 0;
}

static NTSTATUS E1000BringUp(PE1000_ADAPTER Adapter)
{
    NTSTATUS Status = E1000QuiesceDma(Adapter);
    if (NT_SUCCESS(Status)) {
        Status = E1000ReadMacAddress(Adapter);
    }
    if (NT_SUCCESS(Status)) {
        Status = E1000ConnectInterrupt(Adapter);
    }
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    E1000ResetSettings(Adapter);
    E1000ClearStatistics(Adapter);
    E1000Program(Adapter);
    return E1000IsGone(Adapter) ? STATUS_DEVICE_DOES_NOT_EXIST : STATUS_SUCCESS;
}

// From here on requests are served.
static VOID E1000OpenAdapter(PE1000_ADAPTER Adapter)
{
    Adapter->State = E1000Started;
    E1000SetLinkRefusal(Adapter, STATUS_SUCCESS);
    E1000SetReceiveRefusal(Adapter, STATUS_SUCCESS);
    E1000SetTransmitRefusal(Adapter, STATUS_SUCCESS);
    E1000HaltReceive(Adapter, FALSE);
    E1000HaltTransmit(Adapter, FALSE);
    E1000StartWatchdog(Adapter);
    if (Adapter->InterfaceName.Buffer != NULL) {
        (VOID) IoSetDeviceInterfaceState(&Adapter->InterfaceName, TRUE);
    }
}

static NTSTATUS E1000StartAdapter(PE1000_ADAPTER Adapter, const CM_RESOURCE_LIST *Translated)
{
    NTSTATUS Status = E1000MapRegisters(Adapter, Translated);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    Status = E1000AllocateAll(Adapter);
    if (NT_SUCCESS(Status)) {
        Status = E1000BringUp(Adapter);
    }
    if (NT_SUCCESS(Status)) {
        E1000OpenAdapter(Adapter);
        return STATUS_SUCCESS;
    }
    if (Adapter->Dma != NULL && !E1000StopCard(Adapter, Status)) {
        E1000ForgetAll(Adapter, "the card does not obey");
    }
    E1000DisconnectInterrupt(Adapter);
    E1000FreeAll(Adapter);
    E1000UnmapRegisters(Adapter);
    return Status;
}

static ULONG E1000CountLent(PE1000_ADAPTER Adapter)
{
    KIRQL OldIrql;

    KeAcquireSpinLock(&Adapter->Receive.Lock, &OldIrql);
    const ULONG Count = Adapter->Receive.LentCount;
    KeReleaseSpinLock(&Adapter->Receive.Lock, OldIrql);
    return Count;
}

// FALSE: some are not returned.
static BOOLEAN E1000AwaitLent(PE1000_ADAPTER Adapter)
{
    const E1000_DEADLINE Deadline = E1000StartDeadline(E1000_LENT_MS);

    while (E1000CountLent(Adapter) != 0) {
        if (E1000IsDeadlineOver(Deadline)) {
            return FALSE;
        }
        E1000Sleep(10);
    }
    return TRUE;
}

// All requests end with Refusal, and later ones too.
static VOID E1000CloseAdapter(PE1000_ADAPTER Adapter, NTSTATUS Refusal)
{
    E1000SetTransmitRefusal(Adapter, Refusal);
    E1000SetReceiveRefusal(Adapter, Refusal);
    E1000SetLinkRefusal(Adapter, Refusal);
}

// Refusal: what requests end with, now and until the next START.
static VOID E1000StopAdapter(PE1000_ADAPTER Adapter, NTSTATUS Refusal)
{
    E1000CloseAdapter(Adapter, Refusal);
    if (Adapter->State == E1000Stopped) {
        return;
    }
    if (Adapter->InterfaceName.Buffer != NULL) {
        (VOID) IoSetDeviceInterfaceState(&Adapter->InterfaceName, FALSE);
    }
    E1000StopWatchdog(Adapter);
    const BOOLEAN IsQuiet = E1000StopCard(Adapter, Refusal);
    E1000DisconnectInterrupt(Adapter);
    Adapter->State = E1000Stopped;
    if (!IsQuiet) {
        E1000ForgetAll(Adapter, "the card does not obey");
    } else if (!E1000AwaitLent(Adapter)) {
        E1000ForgetAll(Adapter, "frames that are lent were not returned");
    }
    E1000FreeAll(Adapter);
    E1000UnmapRegisters(Adapter);
}

// -------------------------------------------------------------------------------------------------
// PnP. Each routine completes the IRP or passes it down.

typedef NTSTATUS E1000_PNP_ROUTINE(PE1000_ADAPTER Adapter, PIRP Irp);

// What AddDevice has made besides the device object.
static VOID E1000FreeDevice(PE1000_ADAPTER Adapter)
{
    if (Adapter->InterfaceName.Buffer != NULL) {
        RtlFreeUnicodeString(&Adapter->InterfaceName);
    }
    if (Adapter->ResetItem != NULL) {
        IoFreeWorkItem(Adapter->ResetItem);
    }
}

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

// The bus driver starts the device first: until then its registers need not answer. A second START
// without a STOP brings other resources; the old ones go before they are taken away.
static NTSTATUS E1000PnpStart(PE1000_ADAPTER Adapter, PIRP Irp)
{
    const PIO_STACK_LOCATION Stack = IoGetCurrentIrpStackLocation(Irp);

    E1000AcquireTurn(Adapter);
    E1000StopAdapter(Adapter, STATUS_DEVICE_NOT_READY);
    NTSTATUS Status = STATUS_UNSUCCESSFUL;
    if (IoForwardIrpSynchronously(Adapter->LowerDevice, Irp)) {
        Status = Irp->IoStatus.Status;
    }
    if (NT_SUCCESS(Status)) {
        Status =
            E1000StartAdapter(Adapter, Stack->Parameters.StartDevice.AllocatedResourcesTranslated);
    }
    E1000ReleaseTurn(Adapter);
    return E1000CompletePnp(Irp, Status);
}

static NTSTATUS E1000PnpStop(PE1000_ADAPTER Adapter, PIRP Irp)
{
    E1000AcquireTurn(Adapter);
    E1000StopAdapter(Adapter, STATUS_DEVICE_NOT_READY);
    E1000ReleaseTurn(Adapter);
    return E1000AgreeAndPassDown(Adapter, Irp);
}

// The card is already gone; requests end here, and REMOVE follows.
static NTSTATUS E1000PnpSurpriseRemoval(PE1000_ADAPTER Adapter, PIRP Irp)
{
    E1000AcquireTurn(Adapter);
    if (Adapter->State == E1000Started) {
        E1000Fail(Adapter);
    }
    E1000ReleaseTurn(Adapter);
    return E1000AgreeAndPassDown(Adapter, Irp);
}

static NTSTATUS E1000PnpRemove(PE1000_ADAPTER Adapter, PIRP Irp)
{
    const PDEVICE_OBJECT LowerDevice = Adapter->LowerDevice;

    (VOID) IoAcquireRemoveLock(&Adapter->RemoveLock, Irp);
    E1000AcquireTurn(Adapter);
    E1000StopAdapter(Adapter, STATUS_DEVICE_DOES_NOT_EXIST);
    E1000ReleaseTurn(Adapter);
    const NTSTATUS Status = E1000AgreeAndPassDown(Adapter, Irp);
    IoReleaseRemoveLockAndWait(&Adapter->RemoveLock, Irp);
    E1000FreeDevice(Adapter);
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

static VOID E1000SetUpAdapter(PE1000_ADAPTER Adapter, PDEVICE_OBJECT Fdo, PDEVICE_OBJECT Pdo)
{
    RtlZeroMemory(Adapter, sizeof(*Adapter));
    Adapter->Fdo = Fdo;
    Adapter->Pdo = Pdo;
    IoInitializeRemoveLock(&Adapter->RemoveLock, E1000_TAG, 0, 0);
    KeInitializeEvent(&Adapter->Turn, SynchronizationEvent, TRUE);
    KeInitializeTimer(&Adapter->WatchTimer);
    KeInitializeSpinLock(&Adapter->Receive.Lock);
    KeInitializeSpinLock(&Adapter->Transmit.Lock);
    KeInitializeSpinLock(&Adapter->LinkLock);
    KeInitializeSpinLock(&Adapter->StatisticsLock);
    InitializeListHead(&Adapter->Receive.Waiting);
    InitializeListHead(&Adapter->Transmit.Waiting);
    InitializeListHead(&Adapter->LinkWaiting);
    E1000CloseAdapter(Adapter, STATUS_DEVICE_NOT_READY);
    Adapter->Receive.IsHalted = Adapter->Transmit.IsHalted = TRUE;
    Adapter->Options.ReceiveRingCount = E1000_DEFAULT_RING_COUNT;
    Adapter->Options.TransmitRingCount = E1000_DEFAULT_RING_COUNT;
    Adapter->Options.MaximumFrameBytes = NET_STANDARD_FRAME_BYTES;
    Adapter->Options.CopyBytes = E1000_SLOT_BYTES;
    Adapter->Options.Throttle = NET_THROTTLE_ADAPTIVE;
}

static NTSTATUS E1000FinishDevice(PE1000_ADAPTER Adapter)
{
    Adapter->ResetItem = IoAllocateWorkItem(Adapter->Fdo);
    if (Adapter->ResetItem == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    return IoRegisterDeviceInterface(Adapter->Pdo, &GUID_DEVINTERFACE_NET, NULL,
                                     &Adapter->InterfaceName);
}

static NTSTATUS NTAPI E1000AddDevice(PDRIVER_OBJECT DriverObject, PDEVICE_OBJECT Pdo)
{
    PDEVICE_OBJECT Fdo;

    NTSTATUS Status =
        IoCreateDevice(DriverObject, sizeof(E1000_ADAPTER), NULL, FILE_DEVICE_PHYSICAL_NETCARD,
                       FILE_DEVICE_SECURE_OPEN, FALSE, &Fdo);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    const PE1000_ADAPTER Adapter = Fdo->DeviceExtension;
    E1000SetUpAdapter(Adapter, Fdo, Pdo);
    Status = E1000FinishDevice(Adapter);
    if (NT_SUCCESS(Status)) {
        Adapter->LowerDevice = IoAttachDeviceToDeviceStack(Fdo, Pdo);
        Status = Adapter->LowerDevice != NULL ? STATUS_SUCCESS : STATUS_NO_SUCH_DEVICE;
    }
    if (!NT_SUCCESS(Status)) {
        E1000FreeDevice(Adapter);
        IoDeleteDevice(Fdo);
        return Status;
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
    DriverObject->MajorFunction[IRP_MJ_READ] = E1000DispatchRead;
    DriverObject->MajorFunction[IRP_MJ_WRITE] = E1000DispatchWrite;
    DriverObject->MajorFunction[IRP_MJ_DEVICE_CONTROL] = E1000DispatchControl;
    DriverObject->MajorFunction[IRP_MJ_INTERNAL_DEVICE_CONTROL] = E1000DispatchInternalControl;
    DriverObject->MajorFunction[IRP_MJ_PNP] = E1000DispatchPnp;
    DriverObject->MajorFunction[IRP_MJ_POWER] = E1000DispatchPassDown;
    DriverObject->MajorFunction[IRP_MJ_SYSTEM_CONTROL] = E1000DispatchPassDown;
    return STATUS_SUCCESS;
}
