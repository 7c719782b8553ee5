// The NVMe driver as the PnP manager sees it: entry, AddDevice, start, stop, remove; and which routine
// serves which kind of device.
#include "nvme.h"

DRIVER_ADD_DEVICE NvmeAddDevice;
DRIVER_DISPATCH NvmeDispatchPnp;

// -------------------------------------------------------------------------------------------------
// Parameters: values of the driver's key Parameters.

static NVME_PARAMETERS NvmeParameters = {
    .QueueEntries = NVME_IO_QUEUE_ENTRIES,
    .UseShadow = TRUE,
    .UseCmb = TRUE,
    .CommandTimeout = NVME_COMMAND_TIMEOUT,
};

#define NVME_MINIMUM_QUEUE_ENTRIES 2

// RTL_QUERY_REGISTRY_ROUTINE of one value: a number, or a number in decimal digits.
static NTSTATUS NTAPI NvmeTakeParameter(PWSTR ValueName, ULONG ValueType, PVOID ValueData,
                                        ULONG ValueLength, PVOID Context, PVOID EntryContext)
{
    const WCHAR *Digits = ValueData;
    ULONG Number = 0;
    UNREFERENCED_PARAMETER(ValueName);
    UNREFERENCED_PARAMETER(Context);
    if (ValueType == REG_DWORD && ValueLength == sizeof(ULONG)) {
        RtlCopyMemory(EntryContext, ValueData, sizeof(ULONG));
    } else if (ValueType == REG_SZ) {
        for (ULONG Index = 0; Index < ValueLength / sizeof(WCHAR) && Digits[Index] >= '0' &&
                              Digits[Index] <= '9' && Number < 10000000;
             Index += 1) {
            Number = Number * 10 + (ULONG)(Digits[Index] - '0');
        }
        *(PULONG)EntryContext = Number;
    }
    return STATUS_SUCCESS;
}

static VOID NvmeReadParameters(PUNICODE_STRING RegistryPath)
{
    const PNVME_PARAMETERS Values = &NvmeParameters;
    RTL_QUERY_REGISTRY_TABLE Table[] = {
        {.Flags = RTL_QUERY_REGISTRY_SUBKEY, .Name = L"Parameters"},
        {.Name = L"QueueEntries", .EntryContext = &Values->QueueEntries},
        {.Name = L"QueueCount", .EntryContext = &Values->QueueCount},
        {.Name = L"UseLists", .EntryContext = &Values->UseLists},
        {.Name = L"UseShadow", .EntryContext = &Values->UseShadow},
        {.Name = L"UseCmb", .EntryContext = &Values->UseCmb},
        {.Name = L"CommandTimeout", .EntryContext = &Values->CommandTimeout},
        {.Name = NULL},
    };
    for (ULONG Index = 1; Table[Index].Name != NULL; Index += 1) {
        Table[Index].QueryRoutine = NvmeTakeParameter;
    }
    // No key: the defaults stay.
    (VOID) RtlQueryRegistryValues(RTL_REGISTRY_ABSOLUTE, RegistryPath->Buffer, Table, NULL, NULL);
    if (Values->QueueEntries < NVME_MINIMUM_QUEUE_ENTRIES ||
        Values->QueueEntries > NVME_MAXIMUM_QUEUE_ENTRIES) {
        Values->QueueEntries = NVME_IO_QUEUE_ENTRIES;
    }
    if (Values->CommandTimeout == 0) {
        Values->CommandTimeout = NVME_COMMAND_TIMEOUT;
    }
}

// -------------------------------------------------------------------------------------------------
// PnP of a controller.

static NTSTATUS NvmePassDown(PNVME_CONTROLLER Controller, PIRP Irp)
{
    IoSkipCurrentIrpStackLocation(Irp);
    return IoCallDriver(Controller->Lower, Irp);
}

// The bus driver starts the device first: only then does it decode its registers.
static NTSTATUS NvmeHandleStart(PNVME_CONTROLLER Controller, PIRP Irp)
{
    NvmeStopController(Controller, STATUS_DEVICE_NOT_READY);
    NTSTATUS Status = STATUS_NO_SUCH_DEVICE;
    if (IoForwardIrpSynchronously(Controller->Lower, Irp)) {
        Status = Irp->IoStatus.Status;
    }
    if (NT_SUCCESS(Status)) {
        const IO_STACK_LOCATION *Stack = IoGetCurrentIrpStackLocation(Irp);
        Status = NvmeStartController(Controller,
                                     Stack->Parameters.StartDevice.AllocatedResourcesTranslated);
    }
    return NvmeFinishIrp(Irp, Status, 0);
}

static NTSTATUS NvmeHandleRemove(PNVME_CONTROLLER Controller, PIRP Irp)
{
    const PDEVICE_OBJECT Lower = Controller->Lower;
    (VOID) IoAcquireRemoveLock(&Controller->RemoveLock, Irp);
    NvmeStopController(Controller, STATUS_DEVICE_DOES_NOT_EXIST);
    NvmeDeleteNamespaces(Controller);
    NvmeDeletePmr(Controller);
    Irp->IoStatus.Status = STATUS_SUCCESS;
    const NTSTATUS Status = NvmePassDown(Controller, Irp);
    IoReleaseRemoveLockAndWait(&Controller->RemoveLock, Irp);
    IoDetachDevice(Lower);
    IoDeleteDevice(Controller->Device.Self);
    return Status;
}

// A request that we answer, and pass down for others to add to. STATUS_NOT_SUPPORTED: we have nothing to
// say.
static NTSTATUS NvmeAnswerAndPassDown(PNVME_CONTROLLER Controller, PIRP Irp, NTSTATUS Status)
{
    if (Status == STATUS_NOT_SUPPORTED) {
        return NvmePassDown(Controller, Irp);
    }
    if (!NT_SUCCESS(Status)) {
        return NvmeFinishIrp(Irp, Status, 0);
    }
    Irp->IoStatus.Status = Status;
    return NvmePassDown(Controller, Irp);
}

static NTSTATUS NvmeControllerPnp(PNVME_CONTROLLER Controller, PIRP Irp)
{
    const IO_STACK_LOCATION *Stack = IoGetCurrentIrpStackLocation(Irp);
    switch (Stack->MinorFunction) {
    case IRP_MN_START_DEVICE:
        return NvmeHandleStart(Controller, Irp);
    case IRP_MN_REMOVE_DEVICE:
        return NvmeHandleRemove(Controller, Irp);
    case IRP_MN_STOP_DEVICE:
        NvmeStopController(Controller, STATUS_DEVICE_NOT_READY);
        return NvmeAnswerAndPassDown(Controller, Irp, STATUS_SUCCESS);
    case IRP_MN_SURPRISE_REMOVAL:
        NvmeStopController(Controller, STATUS_DEVICE_DOES_NOT_EXIST);
        return NvmeAnswerAndPassDown(Controller, Irp, STATUS_SUCCESS);
    case IRP_MN_QUERY_DEVICE_RELATIONS:
        if (Stack->Parameters.QueryDeviceRelations.Type == BusRelations) {
            return NvmeAnswerAndPassDown(Controller, Irp, NvmeQueryBusRelations(Controller, Irp));
        }
        break;
    case IRP_MN_QUERY_INTERFACE:
        return NvmeAnswerAndPassDown(Controller, Irp, NvmeQueryInterface(Controller, Stack));
    case IRP_MN_QUERY_STOP_DEVICE:
    case IRP_MN_CANCEL_STOP_DEVICE:
    case IRP_MN_QUERY_REMOVE_DEVICE:
    case IRP_MN_CANCEL_REMOVE_DEVICE:
        return NvmeAnswerAndPassDown(Controller, Irp, STATUS_SUCCESS);
    }
    return NvmePassDown(Controller, Irp);
}

// -------------------------------------------------------------------------------------------------
// Dispatch.

NTSTATUS NTAPI NvmeDispatchPnp(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    const PNVME_DEVICE Device = NvmeDeviceOf(DeviceObject);
    switch (Device->Kind) {
    case NvmeDeviceNamespace:
        return NvmeNamespacePnp((PNVME_NAMESPACE)Device, Irp);
    case NvmeDevicePmr:
        return NvmePmrPnp(Device, Irp);
    default:
        return NvmeControllerPnp((PNVME_CONTROLLER)Device, Irp);
    }
}

// Power and WMI requests are the bus driver's: of a controller the one below, of a child this one, which
// has nothing to switch.
static NTSTATUS NTAPI NvmeDispatchPower(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    const PNVME_DEVICE Device = NvmeDeviceOf(DeviceObject);
    if (Device->Kind == NvmeDeviceController) {
        return NvmePassDown((PNVME_CONTROLLER)Device, Irp);
    }
    return NvmeFinishIrp(Irp, STATUS_SUCCESS, 0);
}

static NTSTATUS NTAPI NvmeDispatchSystemControl(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    const PNVME_DEVICE Device = NvmeDeviceOf(DeviceObject);
    if (Device->Kind == NvmeDeviceController) {
        return NvmePassDown((PNVME_CONTROLLER)Device, Irp);
    }
    return NvmeFinishIrp(Irp, Irp->IoStatus.Status, Irp->IoStatus.Information);
}

// Opening and closing need nothing: there is no state per handle.
static NTSTATUS NTAPI NvmeDispatchCreateClose(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    return NvmeFinishIrp(Irp, STATUS_SUCCESS, 0);
}

// Its devices are gone by then.
static VOID NTAPI NvmeUnload(PDRIVER_OBJECT DriverObject)
{
    UNREFERENCED_PARAMETER(DriverObject);
}

static VOID NvmeSetUpController(PNVME_CONTROLLER Controller, PDEVICE_OBJECT Self,
                                PDEVICE_OBJECT Pdo)
{
    Controller->Device = (NVME_DEVICE){NvmeDeviceController, Self, Controller};
    Controller->Pdo = Pdo;
    Controller->Parameters = NvmeParameters;
    IoInitializeRemoveLock(&Controller->RemoveLock, NVME_TAG, 0, 0);
    KeInitializeMutex(&Controller->ConfigurationMutex, 0);
    KeInitializeSpinLock(&Controller->AdminPageLock);
    KeInitializeSpinLock(&Controller->NamespaceLock);
    InitializeListHead(&Controller->Namespaces);
    InitializeListHead(&Controller->OwnedQueues);
}

NTSTATUS NTAPI NvmeAddDevice(PDRIVER_OBJECT DriverObject, PDEVICE_OBJECT PhysicalDeviceObject)
{
    PDEVICE_OBJECT Self;
    const NTSTATUS Status =
        IoCreateDevice(DriverObject, sizeof(NVME_CONTROLLER), NULL, FILE_DEVICE_CONTROLLER,
                       FILE_DEVICE_SECURE_OPEN, FALSE, &Self);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    const PNVME_CONTROLLER Controller = Self->DeviceExtension;
    NvmeSetUpController(Controller, Self, PhysicalDeviceObject);
    Controller->Lower = IoAttachDeviceToDeviceStack(Self, PhysicalDeviceObject);
    if (Controller->Lower == NULL) {
        IoDeleteDevice(Self);
        return STATUS_NO_SUCH_DEVICE;
    }
    Self->Flags &= ~DO_DEVICE_INITIALIZING;
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath)
{
    NvmeReadParameters(RegistryPath);
    DriverObject->DriverUnload = NvmeUnload;
    DriverObject->DriverExtension->AddDevice = NvmeAddDevice;
    DriverObject->MajorFunction[IRP_MJ_CREATE] = NvmeDispatchCreateClose;
    DriverObject->MajorFunction[IRP_MJ_CLOSE] = NvmeDispatchCreateClose;
    DriverObject->MajorFunction[IRP_MJ_CLEANUP] = NvmeDispatchCreateClose;
    DriverObject->MajorFunction[IRP_MJ_POWER] = NvmeDispatchPower;
    DriverObject->MajorFunction[IRP_MJ_SYSTEM_CONTROL] = NvmeDispatchSystemControl;
    DriverObject->MajorFunction[IRP_MJ_PNP] = NvmeDispatchPnp;
    DriverObject->MajorFunction[IRP_MJ_READ] = NvmeDispatchReadWrite;
    DriverObject->MajorFunction[IRP_MJ_WRITE] = NvmeDispatchReadWrite;
    DriverObject->MajorFunction[IRP_MJ_FLUSH_BUFFERS] = NvmeDispatchFlush;
    DriverObject->MajorFunction[IRP_MJ_DEVICE_CONTROL] = NvmeDispatchDeviceControl;
    return STATUS_SUCCESS;
}
