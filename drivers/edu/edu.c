// A driver for QEMU's educational device (`-device edu`), complete and in one file, to be read from top
// to bottom. It shows what nearly every driver of a PCI device does:
//
//   registers    mapped with MmMapIoSpaceEx, used with READ_REGISTER_* and WRITE_REGISTER_*
//   interrupts   IoConnectInterruptEx; a short interrupt routine, and a DPC for the rest
//   DMA          an adapter of IoGetDmaAdapter says where the device finds a request's memory
//   requests     one at a time, the others wait in a queue (StartIo)
//   PnP          start, stop, surprise removal, removal
//
// The device inverts numbers (liveness), computes factorials, and has a buffer that it fills from the
// machine's memory, or copies there. It does one thing at a time and interrupts when it is done. Its
// specification is docs/specs/edu.txt in QEMU's sources. What a driver of real hardware would have
// besides is a time limit for a device that never answers.
#include <wdm.h>

// -------------------------------------------------------------------------------------------------
// The device: offsets of its registers, in bytes.

#define EDU_LIVENESS 0x04  // gives back the complement of what was written
#define EDU_FACTORIAL 0x08 // n, and when the device is done, n!
#define EDU_STATUS 0x20
#define EDU_CAUSES 0x24      // why it interrupts: EDU_CAUSE_*
#define EDU_ACKNOWLEDGE 0x64 // causes written here are served
#define EDU_DMA_SOURCE 0x80  // 64 bits, as the next two
#define EDU_DMA_TARGET 0x88
#define EDU_DMA_COUNT 0x90 // bytes
#define EDU_DMA_COMMAND 0x98

#define EDU_STATUS_INTERRUPT 0x80 // interrupt after a factorial

#define EDU_CAUSE_FACTORIAL 0x001
#define EDU_CAUSE_DMA 0x100

#define EDU_COMMAND_START 0x1
#define EDU_COMMAND_TO_MEMORY 0x2 // out of the device's buffer; else into it
#define EDU_COMMAND_INTERRUPT 0x4

#define EDU_REGISTER_BYTES 0xA0
#define EDU_BUFFER 0x40000      // the buffer's address, as the device sees it
#define EDU_BUFFER_BYTES 4095   // of 4,096: QEMU 7.2 refuses a transfer that touches the last one
#define EDU_DMA_ADDRESS_BITS 28 // it reaches the first 256 MiB

// Both take a ULONG and give a ULONG.
#define IOCTL_EDU_LIVENESS CTL_CODE(FILE_DEVICE_UNKNOWN, 0x800, METHOD_BUFFERED, FILE_ANY_ACCESS)
#define IOCTL_EDU_FACTORIAL CTL_CODE(FILE_DEVICE_UNKNOWN, 0x801, METHOD_BUFFERED, FILE_ANY_ACCESS)

// -------------------------------------------------------------------------------------------------
// What the driver knows of a device: the device extension of its device object.

typedef struct _EDU_DEVICE {
    PDEVICE_OBJECT Self;
    PDEVICE_OBJECT Pdo;   // the bus driver's device: who we are, to IoGetDmaAdapter and others
    PDEVICE_OBJECT Lower; // where requests go on

    // From start to stop.
    PUCHAR Registers;
    SIZE_T RegisterBytes;
    PDMA_ADAPTER Adapter;
    ULONG ConnectVersion; // how the interrupt was connected; 0: it was not
    union {
        PVOID Generic;
        PIO_INTERRUPT_MESSAGE_INFO Messages; // CONNECT_MESSAGE_BASED
        PKINTERRUPT Line;                    // CONNECT_LINE_BASED
    } Connection;

    // Requests that are being served or wait, and 1 as long as the device is started. At 0, Idle is set.
    volatile LONG UseCount;
    volatile LONG IsStarted;
    KEVENT Idle;

    volatile LONG Causes; // from the interrupt routine to the DPC

    // The current transfer. A device that could follow a list would get the whole of it.
    PSCATTER_GATHER_LIST List;
    ULONG NextElement;
    ULONG BytesDone;
} EDU_DEVICE, *PEDU_DEVICE;

DRIVER_INITIALIZE DriverEntry;

static PEDU_DEVICE EduDevice(PDEVICE_OBJECT DeviceObject)
{
    return DeviceObject->DeviceExtension;
}

static ULONG EduRead(PEDU_DEVICE Device, ULONG Register)
{
    return READ_REGISTER_ULONG((PULONG)(Device->Registers + Register));
}

static VOID EduWrite(PEDU_DEVICE Device, ULONG Register, ULONG Value)
{
    WRITE_REGISTER_ULONG((PULONG)(Device->Registers + Register), Value);
}

static VOID EduWrite64(PEDU_DEVICE Device, ULONG Register, ULONG64 Value)
{
    WRITE_REGISTER_ULONG64((PULONG64)(Device->Registers + Register), Value);
}

// -------------------------------------------------------------------------------------------------
// The life of a request. Whoever enters keeps the device from being stopped until it leaves.

static VOID EduLeave(PEDU_DEVICE Device)
{
    if (InterlockedDecrement(&Device->UseCount) == 0) {
        KeSetEvent(&Device->Idle, IO_NO_INCREMENT, FALSE);
    }
}

static BOOLEAN EduEnter(PEDU_DEVICE Device)
{
    InterlockedIncrement(&Device->UseCount);
    if (Device->IsStarted) {
        return TRUE;
    }
    EduLeave(Device);
    return FALSE;
}

static NTSTATUS EduComplete(PIRP Irp, NTSTATUS Status, ULONG_PTR Information)
{
    Irp->IoStatus.Status = Status;
    Irp->IoStatus.Information = Information;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
    return Status;
}

// Completes the request that the device was busy with, and starts the next one. At DISPATCH_LEVEL.
static VOID EduFinish(PEDU_DEVICE Device, NTSTATUS Status, ULONG_PTR Information)
{
    PIRP Irp = Device->Self->CurrentIrp;
    IoStartNextPacket(Device->Self, FALSE);
    EduComplete(Irp, Status, Information);
    EduLeave(Device);
}

// -------------------------------------------------------------------------------------------------
// Transfers: between a request's memory, as the DMA adapter shows it to the device, and the buffer.

static BOOLEAN EduIsWrite(PIRP Irp)
{
    return IoGetCurrentIrpStackLocation(Irp)->MajorFunction == IRP_MJ_WRITE;
}

// Has the device transfer the next piece of memory.
static VOID EduTransferNext(PEDU_DEVICE Device)
{
    const PIRP Irp = Device->Self->CurrentIrp;
    const PSCATTER_GATHER_ELEMENT Element = &Device->List->Elements[Device->NextElement];
    const ULONG64 Memory = (ULONG64)Element->Address.QuadPart;
    const ULONG64 Buffer =
        EDU_BUFFER + Device->BytesDone +
        // Read and Write have the same parameters, in the same places.
        (ULONG64)IoGetCurrentIrpStackLocation(Irp)->Parameters.Read.ByteOffset.QuadPart;
    const ULONG Direction = EduIsWrite(Irp) ? 0 : EDU_COMMAND_TO_MEMORY;
    EduWrite64(Device, EDU_DMA_SOURCE, EduIsWrite(Irp) ? Memory : Buffer);
    EduWrite64(Device, EDU_DMA_TARGET, EduIsWrite(Irp) ? Buffer : Memory);
    EduWrite64(Device, EDU_DMA_COUNT, Element->Length);
    EduWrite64(Device, EDU_DMA_COMMAND, EDU_COMMAND_START | EDU_COMMAND_INTERRUPT | Direction);
}

// The adapter calls this as soon as it has translated the request's memory into pieces.
static VOID NTAPI EduListReady(PDEVICE_OBJECT DeviceObject, PIRP Irp, PSCATTER_GATHER_LIST List,
                               PVOID Context)
{
    const PEDU_DEVICE Device = Context;
    UNREFERENCED_PARAMETER(DeviceObject);
    UNREFERENCED_PARAMETER(Irp);
    Device->List = List;
    Device->NextElement = 0;
    Device->BytesDone = 0;
    EduTransferNext(Device);
}

static VOID EduStartTransfer(PEDU_DEVICE Device, PIRP Irp)
{
    const NTSTATUS Status = Device->Adapter->DmaOperations->GetScatterGatherList(
        Device->Adapter, Device->Self, Irp->MdlAddress, MmGetMdlVirtualAddress(Irp->MdlAddress),
        IoGetCurrentIrpStackLocation(Irp)->Parameters.Read.Length, EduListReady, Device,
        EduIsWrite(Irp));
    if (!NT_SUCCESS(Status)) {
        EduFinish(Device, Status, 0);
    }
}

// The device has transferred a piece. Behind the last one, the list goes back to the adapter: only then
// is what was read in the request's memory, and only then may the request be completed.
static VOID EduContinueTransfer(PEDU_DEVICE Device)
{
    Device->BytesDone += Device->List->Elements[Device->NextElement].Length;
    Device->NextElement += 1;
    if (Device->NextElement < Device->List->NumberOfElements) {
        EduTransferNext(Device);
        return;
    }
    Device->Adapter->DmaOperations->PutScatterGatherList(Device->Adapter, Device->List,
                                                         EduIsWrite(Device->Self->CurrentIrp));
    EduFinish(Device, STATUS_SUCCESS, Device->BytesDone);
}

// -------------------------------------------------------------------------------------------------
// Interrupts. The routine runs at the device's IRQL, where little is allowed: it quiets the device,
// remembers why, and leaves the rest to the DPC, which runs at DISPATCH_LEVEL behind it.

static BOOLEAN NTAPI EduInterrupt(PKINTERRUPT Interrupt, PVOID Context)
{
    const PEDU_DEVICE Device = Context;
    const ULONG Causes = EduRead(Device, EDU_CAUSES);
    UNREFERENCED_PARAMETER(Interrupt);
    if (Causes == 0) {
        return FALSE; // a line is shared: it was another device
    }
    EduWrite(Device, EDU_ACKNOWLEDGE, Causes);
    InterlockedOr(&Device->Causes, (LONG)Causes);
    IoRequestDpc(Device->Self, NULL, NULL);
    return TRUE;
}

static BOOLEAN NTAPI EduMessage(PKINTERRUPT Interrupt, PVOID Context, ULONG MessageId)
{
    UNREFERENCED_PARAMETER(MessageId); // there is only one
    return EduInterrupt(Interrupt, Context);
}

// Several interrupts may have come before it: it serves whatever they have left.
static VOID NTAPI EduDpc(PKDPC Dpc, PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context)
{
    const PEDU_DEVICE Device = EduDevice(DeviceObject);
    const LONG Causes = InterlockedExchange(&Device->Causes, 0);
    UNREFERENCED_PARAMETER(Dpc);
    UNREFERENCED_PARAMETER(Irp);
    UNREFERENCED_PARAMETER(Context);
    if (Causes & EDU_CAUSE_DMA) {
        EduContinueTransfer(Device);
    }
    if (Causes & EDU_CAUSE_FACTORIAL) {
        *(PULONG)DeviceObject->CurrentIrp->AssociatedIrp.SystemBuffer =
            EduRead(Device, EDU_FACTORIAL);
        EduFinish(Device, STATUS_SUCCESS, sizeof(ULONG));
    }
}

// -------------------------------------------------------------------------------------------------
// Requests: a dispatch routine checks one and queues it; the I/O manager calls EduStartIo, at
// DISPATCH_LEVEL, when its turn has come.

static VOID NTAPI EduStartIo(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    const PEDU_DEVICE Device = EduDevice(DeviceObject);
    if (IoGetCurrentIrpStackLocation(Irp)->MajorFunction == IRP_MJ_DEVICE_CONTROL) {
        EduWrite(Device, EDU_STATUS, EDU_STATUS_INTERRUPT);
        EduWrite(Device, EDU_FACTORIAL, *(PULONG)Irp->AssociatedIrp.SystemBuffer);
    } else {
        EduStartTransfer(Device, Irp);
    }
}

// These two return STATUS_PENDING for a request that the device is to serve.
static NTSTATUS EduCheckTransfer(PIRP Irp)
{
    const PIO_STACK_LOCATION Stack = IoGetCurrentIrpStackLocation(Irp);
    const ULONG64 Offset = (ULONG64)Stack->Parameters.Read.ByteOffset.QuadPart;
    const ULONG Length = Stack->Parameters.Read.Length;
    if (Offset > EDU_BUFFER_BYTES || Length > EDU_BUFFER_BYTES - Offset) {
        return STATUS_INVALID_PARAMETER;
    }
    return Length == 0 ? STATUS_SUCCESS : STATUS_PENDING;
}

static NTSTATUS EduCheckControl(PEDU_DEVICE Device, PIRP Irp, PULONG_PTR Information)
{
    const PIO_STACK_LOCATION Stack = IoGetCurrentIrpStackLocation(Irp);
    const PULONG Buffer = Irp->AssociatedIrp.SystemBuffer; // input and, later, output
    if (Stack->Parameters.DeviceIoControl.InputBufferLength < sizeof(ULONG) ||
        Stack->Parameters.DeviceIoControl.OutputBufferLength < sizeof(ULONG)) {
        return STATUS_BUFFER_TOO_SMALL;
    }
    switch (Stack->Parameters.DeviceIoControl.IoControlCode) {
    case IOCTL_EDU_LIVENESS: // the device answers at once
        EduWrite(Device, EDU_LIVENESS, *Buffer);
        *Buffer = EduRead(Device, EDU_LIVENESS);
        *Information = sizeof(ULONG);
        return STATUS_SUCCESS;
    case IOCTL_EDU_FACTORIAL:
        return STATUS_PENDING;
    }
    return STATUS_INVALID_DEVICE_REQUEST;
}

static NTSTATUS NTAPI EduDispatch(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    const PEDU_DEVICE Device = EduDevice(DeviceObject);
    const UCHAR Major = IoGetCurrentIrpStackLocation(Irp)->MajorFunction;
    ULONG_PTR Information = 0;
    NTSTATUS Status;
    if (!EduEnter(Device)) {
        return EduComplete(Irp, STATUS_DEVICE_NOT_READY, 0);
    }
    Status = Major == IRP_MJ_DEVICE_CONTROL ? EduCheckControl(Device, Irp, &Information)
                                            : EduCheckTransfer(Irp);
    if (Status == STATUS_PENDING) {
        IoMarkIrpPending(Irp); // before it can be completed
        IoStartPacket(DeviceObject, Irp, NULL, NULL);
    } else {
        EduComplete(Irp, Status, Information);
        EduLeave(Device);
    }
    return Status;
}

static NTSTATUS NTAPI EduOpenClose(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    return EduComplete(Irp, STATUS_SUCCESS, 0);
}

// -------------------------------------------------------------------------------------------------
// Start and stop.

static NTSTATUS EduMapRegisters(PEDU_DEVICE Device, PCM_RESOURCE_LIST Resources)
{
    PCM_PARTIAL_RESOURCE_LIST List;
    if (Resources == NULL) {
        return STATUS_DEVICE_CONFIGURATION_ERROR;
    }
    List = &Resources->List[0].PartialResourceList;
    for (ULONG Index = 0; Index < List->Count; Index += 1) {
        const PCM_PARTIAL_RESOURCE_DESCRIPTOR Resource = &List->PartialDescriptors[Index];
        if (Resource->Type == CmResourceTypeMemory &&
            Resource->u.Memory.Length >= EDU_REGISTER_BYTES) {
            Device->RegisterBytes = Resource->u.Memory.Length;
            Device->Registers = MmMapIoSpaceEx(Resource->u.Memory.Start, Device->RegisterBytes,
                                               PAGE_READWRITE | PAGE_NOCACHE);
            return Device->Registers != NULL ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;
        }
    }
    return STATUS_DEVICE_CONFIGURATION_ERROR;
}

static NTSTATUS EduGetAdapter(PEDU_DEVICE Device)
{
    DEVICE_DESCRIPTION Description;
    ULONG MapRegisterCount;
    RtlZeroMemory(&Description, sizeof(Description));
    Description.Version = DEVICE_DESCRIPTION_VERSION3;
    Description.Master = TRUE;
    Description.ScatterGather = TRUE; // one piece after the other
    Description.Dma32BitAddresses = TRUE;
    Description.InterfaceType = PCIBus;
    Description.MaximumLength = EDU_BUFFER_BYTES;
    Description.DmaAddressWidth = EDU_DMA_ADDRESS_BITS;
    Device->Adapter = IoGetDmaAdapter(Device->Pdo, &Description, &MapRegisterCount);
    return Device->Adapter != NULL ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;
}

// By a message if the device was given one, else by its line.
static NTSTATUS EduConnect(PEDU_DEVICE Device)
{
    IO_CONNECT_INTERRUPT_PARAMETERS Parameters;
    RtlZeroMemory(&Parameters, sizeof(Parameters));
    Parameters.Version = CONNECT_MESSAGE_BASED;
    Parameters.MessageBased.PhysicalDeviceObject = Device->Pdo;
    Parameters.MessageBased.ConnectionContext.Generic = &Device->Connection.Generic;
    Parameters.MessageBased.MessageServiceRoutine = EduMessage;
    Parameters.MessageBased.FallBackServiceRoutine = EduInterrupt;
    Parameters.MessageBased.ServiceContext = Device;
    const NTSTATUS Status = IoConnectInterruptEx(&Parameters);
    Device->ConnectVersion = NT_SUCCESS(Status) ? Parameters.Version : 0;
    return Status;
}

// Takes down whatever there is; also of a start that failed.
static VOID EduRelease(PEDU_DEVICE Device)
{
    if (Device->ConnectVersion != 0) {
        IO_DISCONNECT_INTERRUPT_PARAMETERS Parameters;
        Parameters.Version = Device->ConnectVersion;
        Parameters.ConnectionContext.Generic = Device->Connection.Generic;
        IoDisconnectInterruptEx(&Parameters);
        Device->ConnectVersion = 0;
    }
    if (Device->Adapter != NULL) {
        Device->Adapter->DmaOperations->PutDmaAdapter(Device->Adapter);
        Device->Adapter = NULL;
    }
    if (Device->Registers != NULL) {
        MmUnmapIoSpace(Device->Registers, Device->RegisterBytes);
        Device->Registers = NULL;
    }
}

static NTSTATUS EduStart(PEDU_DEVICE Device, PCM_RESOURCE_LIST Resources)
{
    NTSTATUS Status = EduMapRegisters(Device, Resources);
    if (NT_SUCCESS(Status)) {
        EduWrite(Device, EDU_ACKNOWLEDGE, MAXULONG); // what others may have left
        Status = EduGetAdapter(Device);
    }
    if (NT_SUCCESS(Status)) {
        Status = EduConnect(Device);
    }
    if (!NT_SUCCESS(Status)) {
        EduRelease(Device);
        return Status;
    }
    KeClearEvent(&Device->Idle);
    InterlockedIncrement(&Device->UseCount);
    InterlockedExchange(&Device->IsStarted, TRUE);
    DbgPrint("edu: started, with %s\n",
             Device->ConnectVersion == CONNECT_MESSAGE_BASED ? "a message" : "a line");
    return STATUS_SUCCESS;
}

// Lets in nobody more, and waits for those who are inside: the device answers them all.
static VOID EduStop(PEDU_DEVICE Device)
{
    if (InterlockedExchange(&Device->IsStarted, FALSE)) {
        EduLeave(Device);
        KeWaitForSingleObject(&Device->Idle, Executive, KernelMode, FALSE, NULL);
        EduRelease(Device);
    }
}

// -------------------------------------------------------------------------------------------------
// Plug and play.

// The bus driver starts first, because the device does not answer before. It ends last.
static NTSTATUS NTAPI EduPnp(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    const PEDU_DEVICE Device = EduDevice(DeviceObject);
    const PDEVICE_OBJECT Lower = Device->Lower;
    const PIO_STACK_LOCATION Stack = IoGetCurrentIrpStackLocation(Irp);
    NTSTATUS Status;
    switch (Stack->MinorFunction) {
    case IRP_MN_START_DEVICE:
        Status = IoForwardIrpSynchronously(Lower, Irp) ? Irp->IoStatus.Status : STATUS_UNSUCCESSFUL;
        if (NT_SUCCESS(Status)) {
            Status = EduStart(Device, Stack->Parameters.StartDevice.AllocatedResourcesTranslated);
        }
        return EduComplete(Irp, Status, 0);
    case IRP_MN_REMOVE_DEVICE:
        EduStop(Device);
        Irp->IoStatus.Status = STATUS_SUCCESS;
        IoSkipCurrentIrpStackLocation(Irp);
        Status = IoCallDriver(Lower, Irp);
        IoDetachDevice(Lower);
        IoDeleteDevice(DeviceObject);
        return Status;
    case IRP_MN_STOP_DEVICE:
    case IRP_MN_SURPRISE_REMOVAL:
        EduStop(Device);
        /* fall through */
    case IRP_MN_QUERY_STOP_DEVICE: // we agree
    case IRP_MN_CANCEL_STOP_DEVICE:
    case IRP_MN_QUERY_REMOVE_DEVICE:
    case IRP_MN_CANCEL_REMOVE_DEVICE:
        Irp->IoStatus.Status = STATUS_SUCCESS;
        break;
    }
    IoSkipCurrentIrpStackLocation(Irp); // what we don't know is for those below
    return IoCallDriver(Lower, Irp);
}

// -------------------------------------------------------------------------------------------------
// A device was found, and the driver itself.

// The first device is \Device\Edu0, the next one \Device\Edu1.
static NTSTATUS EduCreate(PDRIVER_OBJECT DriverObject, PDEVICE_OBJECT *Self)
{
    static LONG DeviceCount;
    WCHAR Text[] = L"\\Device\\Edu0";
    UNICODE_STRING Name;
    Text[ARRAYSIZE(Text) - 2] += (WCHAR)((InterlockedIncrement(&DeviceCount) - 1) % 10);
    RtlInitUnicodeString(&Name, Text);
    return IoCreateDevice(DriverObject, sizeof(EDU_DEVICE), &Name, FILE_DEVICE_UNKNOWN,
                          FILE_DEVICE_SECURE_OPEN, FALSE, Self);
}

static NTSTATUS NTAPI EduAddDevice(PDRIVER_OBJECT DriverObject, PDEVICE_OBJECT Pdo)
{
    PDEVICE_OBJECT Self;
    const NTSTATUS Status = EduCreate(DriverObject, &Self);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    const PEDU_DEVICE Device = EduDevice(Self);
    Device->Self = Self;
    Device->Pdo = Pdo;
    KeInitializeEvent(&Device->Idle, NotificationEvent, FALSE);
    IoInitializeDpcRequest(Self, EduDpc);
    Device->Lower = IoAttachDeviceToDeviceStack(Self, Pdo);
    if (Device->Lower == NULL) {
        IoDeleteDevice(Self);
        return STATUS_NO_SUCH_DEVICE;
    }
    Self->Flags |= DO_DIRECT_IO; // reads and writes come with an MDL
    Self->Flags &= ~DO_DEVICE_INITIALIZING;
    return STATUS_SUCCESS;
}

static VOID NTAPI EduUnload(PDRIVER_OBJECT DriverObject)
{
    UNREFERENCED_PARAMETER(DriverObject); // its devices are gone by now, and that is all there was
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath)
{
    UNREFERENCED_PARAMETER(RegistryPath);
    DriverObject->DriverUnload = EduUnload;
    DriverObject->DriverStartIo = EduStartIo;
    DriverObject->DriverExtension->AddDevice = EduAddDevice;
    DriverObject->MajorFunction[IRP_MJ_PNP] = EduPnp;
    DriverObject->MajorFunction[IRP_MJ_CREATE] = EduOpenClose;
    DriverObject->MajorFunction[IRP_MJ_CLOSE] = EduOpenClose;
    DriverObject->MajorFunction[IRP_MJ_READ] = EduDispatch;
    DriverObject->MajorFunction[IRP_MJ_WRITE] = EduDispatch;
    DriverObject->MajorFunction[IRP_MJ_DEVICE_CONTROL] = EduDispatch;
    return STATUS_SUCCESS;
}
