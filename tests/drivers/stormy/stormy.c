// A broken driver for QEMU's educational device: its interrupt routine leaves the device as it is, so that
// the line stays asserted. First it does not even claim the interrupts, then it claims them all. The
// machine must go on, and work again once the device is quiet.
#include <wdm.h>

#define EDU_RAISE 0x60
#define EDU_ACKNOWLEDGE 0x64
#define STORM_MILLISECONDS 200
#define PAUSE_MILLISECONDS 1000 // longer than any pause that the storm has brought about

typedef struct _STORMY_DEVICE {
    PDEVICE_OBJECT Pdo;
    PDEVICE_OBJECT Lower;
    PUCHAR Registers; // NULL: not mapped
    ULONG RegisterBytes;
    PKINTERRUPT Interrupt;
    BOOLEAN Claims;
    BOOLEAN IsCured; // serves the device as it should
    volatile LONG CallCount;
} STORMY_DEVICE, *PSTORMY_DEVICE;

DRIVER_INITIALIZE DriverEntry;

static VOID StormyWrite(PSTORMY_DEVICE Device, ULONG Register)
{
    WRITE_REGISTER_ULONG((PULONG)(Device->Registers + Register), 1);
}

static VOID StormyWait(LONG Milliseconds)
{
    LARGE_INTEGER Time;
    Time.QuadPart = -10000ll * Milliseconds;
    KeDelayExecutionThread(KernelMode, FALSE, &Time);
}

static BOOLEAN NTAPI StormyInterrupt(PKINTERRUPT Interrupt, PVOID Context)
{
    const PSTORMY_DEVICE Device = Context;
    UNREFERENCED_PARAMETER(Interrupt);
    InterlockedIncrement(&Device->CallCount);
    if (Device->IsCured) {
        StormyWrite(Device, EDU_ACKNOWLEDGE);
    }
    return Device->Claims;
}

static VOID StormyStorm(PSTORMY_DEVICE Device, BOOLEAN Claims)
{
    Device->CallCount = 0;
    Device->Claims = Claims;
    StormyWrite(Device, EDU_RAISE);
    StormyWait(STORM_MILLISECONDS);
    StormyWrite(Device, EDU_ACKNOWLEDGE);
    StormyWait(PAUSE_MILLISECONDS);
    DbgPrint("stormy: the machine goes on after %s interrupts\n",
             Device->CallCount >= 5000 ? "5000" : "few");
}

static NTSTATUS StormyConnect(PSTORMY_DEVICE Device)
{
    IO_CONNECT_INTERRUPT_PARAMETERS Parameters;
    RtlZeroMemory(&Parameters, sizeof(Parameters));
    Parameters.Version = CONNECT_LINE_BASED;
    Parameters.LineBased.PhysicalDeviceObject = Device->Pdo;
    Parameters.LineBased.InterruptObject = &Device->Interrupt;
    Parameters.LineBased.ServiceRoutine = StormyInterrupt;
    Parameters.LineBased.ServiceContext = Device;
    return IoConnectInterruptEx(&Parameters);
}

static NTSTATUS StormyStart(PSTORMY_DEVICE Device, PCM_RESOURCE_LIST Resources)
{
    const PCM_PARTIAL_RESOURCE_DESCRIPTOR Registers =
        &Resources->List[0].PartialResourceList.PartialDescriptors[0];
    NTSTATUS Status;
    Device->RegisterBytes = Registers->u.Memory.Length;
    Device->Registers = MmMapIoSpaceEx(Registers->u.Memory.Start, Device->RegisterBytes,
                                       PAGE_READWRITE | PAGE_NOCACHE);
    if (Device->Registers == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    Status = StormyConnect(Device);
    if (!NT_SUCCESS(Status)) {
        MmUnmapIoSpace(Device->Registers, Device->RegisterBytes);
        Device->Registers = NULL;
        return Status;
    }
    StormyStorm(Device, FALSE);
    StormyStorm(Device, TRUE);
    Device->IsCured = TRUE;
    Device->CallCount = 0;
    StormyWrite(Device, EDU_RAISE);
    StormyWait(1);
    DbgPrint("stormy: cured, %d interrupt\n", Device->CallCount);
    return STATUS_SUCCESS;
}

static VOID StormyStop(PSTORMY_DEVICE Device)
{
    if (Device->Registers != NULL) {
        IoDisconnectInterrupt(Device->Interrupt);
        MmUnmapIoSpace(Device->Registers, Device->RegisterBytes);
        Device->Registers = NULL;
    }
}

static NTSTATUS NTAPI StormyPnp(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    const PSTORMY_DEVICE Device = DeviceObject->DeviceExtension;
    const PDEVICE_OBJECT Lower = Device->Lower;
    const PIO_STACK_LOCATION Stack = IoGetCurrentIrpStackLocation(Irp);
    NTSTATUS Status;
    if (Stack->MinorFunction == IRP_MN_START_DEVICE) {
        Status = IoForwardIrpSynchronously(Lower, Irp) ? Irp->IoStatus.Status : STATUS_UNSUCCESSFUL;
        if (NT_SUCCESS(Status)) {
            Status =
                StormyStart(Device, Stack->Parameters.StartDevice.AllocatedResourcesTranslated);
        }
        Irp->IoStatus.Status = Status;
        IoCompleteRequest(Irp, IO_NO_INCREMENT);
        return Status;
    }
    if (Stack->MinorFunction != IRP_MN_REMOVE_DEVICE) {
        IoSkipCurrentIrpStackLocation(Irp);
        return IoCallDriver(Lower, Irp);
    }
    StormyStop(Device);
    Irp->IoStatus.Status = STATUS_SUCCESS;
    IoSkipCurrentIrpStackLocation(Irp);
    Status = IoCallDriver(Lower, Irp);
    IoDetachDevice(Lower);
    IoDeleteDevice(DeviceObject);
    return Status;
}

static NTSTATUS NTAPI StormyAddDevice(PDRIVER_OBJECT DriverObject, PDEVICE_OBJECT Pdo)
{
    PDEVICE_OBJECT Self;
    PSTORMY_DEVICE Device;
    const NTSTATUS Status = IoCreateDevice(DriverObject, sizeof(STORMY_DEVICE), NULL,
                                           FILE_DEVICE_UNKNOWN, 0, FALSE, &Self);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    Device = Self->DeviceExtension;
    Device->Pdo = Pdo;
    Device->Lower = IoAttachDeviceToDeviceStack(Self, Pdo);
    Self->Flags &= ~DO_DEVICE_INITIALIZING;
    return STATUS_SUCCESS;
}

static VOID NTAPI StormyUnload(PDRIVER_OBJECT DriverObject)
{
    UNREFERENCED_PARAMETER(DriverObject);
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath)
{
    UNREFERENCED_PARAMETER(RegistryPath);
    DriverObject->DriverUnload = StormyUnload;
    DriverObject->DriverExtension->AddDevice = StormyAddDevice;
    DriverObject->MajorFunction[IRP_MJ_PNP] = StormyPnp;
    return STATUS_SUCCESS;
}
