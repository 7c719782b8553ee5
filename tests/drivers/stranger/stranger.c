/*
 * stranger.c - a WDM function driver as third parties write them
 *
 * A device without hardware: a buffer of 4 KiB that can be written and read (direct I/O), a few
 * IOCTLs, one of which pends. Plain mingw-w64, <ntddk.h> and nothing of this kernel.
 */
#include <ntddk.h>
#include <ntstrsafe.h>
#include <initguid.h>
#include "Stranger.h"

#define STRANGER_TAG 'rtSI'
#define BUFFER_SIZE 4096

/* {5C1C1F3E-93A4-4BB4-9E0E-2F6D9D0F8F11} */
DEFINE_GUID(GUID_DEVINTERFACE_STRANGER, 0x5c1c1f3e, 0x93a4, 0x4bb4, 0x9e, 0x0e, 0x2f, 0x6d, 0x9d,
            0x0f, 0x8f, 0x11);

typedef struct _DEVICE_EXTENSION {
    PDEVICE_OBJECT Self;
    PDEVICE_OBJECT Pdo;
    PDEVICE_OBJECT NextLower;
    IO_REMOVE_LOCK RemoveLock;
    UNICODE_STRING InterfaceName;
    BOOLEAN Started;

    FAST_MUTEX BufferMutex;
    PUCHAR Buffer;
    ULONG BytesInBuffer;

    KSPIN_LOCK WaitLock;
    PIRP WaitIrp;
    KTIMER WaitTimer;
    KDPC WaitDpc;
} DEVICE_EXTENSION, *PDEVICE_EXTENSION;

DRIVER_INITIALIZE DriverEntry;
DRIVER_UNLOAD StrangerUnload;
DRIVER_ADD_DEVICE StrangerAddDevice;
DRIVER_DISPATCH StrangerCreateClose, StrangerReadWrite, StrangerIoctl, StrangerPnp,
    StrangerPower, StrangerSystemControl;
DRIVER_CANCEL StrangerCancelWait;
KDEFERRED_ROUTINE StrangerWaitIsOver;
IO_COMPLETION_ROUTINE StrangerSignal;

#ifdef ALLOC_PRAGMA
#pragma alloc_text(INIT, DriverEntry)
#pragma alloc_text(PAGE, StrangerAddDevice)
#pragma alloc_text(PAGE, StrangerPnp)
#endif

static NTSTATUS StrangerComplete(PIRP Irp, NTSTATUS Status, ULONG_PTR Information)
{
    Irp->IoStatus.Status = Status;
    Irp->IoStatus.Information = Information;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
    return Status;
}

/* ------------------------------------------------------------------------------------------- */

NTSTATUS NTAPI StrangerCreateClose(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    return StrangerComplete(Irp, STATUS_SUCCESS, 0);
}

/* Takes the waiting IRP, if it is still there; whoever gets it completes it. */
static PIRP StrangerTakeWaitIrp(PDEVICE_EXTENSION devExt, PIRP Wanted)
{
    KIRQL oldIrql;
    PIRP irp;

    KeAcquireSpinLock(&devExt->WaitLock, &oldIrql);
    irp = devExt->WaitIrp;
    if (irp != NULL && (Wanted == NULL || irp == Wanted)) {
        devExt->WaitIrp = NULL;
    } else {
        irp = NULL;
    }
    KeReleaseSpinLock(&devExt->WaitLock, oldIrql);
    return irp;
}

VOID NTAPI StrangerWaitIsOver(PKDPC Dpc, PVOID Context, PVOID Argument1, PVOID Argument2)
{
    PDEVICE_EXTENSION devExt = (PDEVICE_EXTENSION)Context;
    PIRP irp = StrangerTakeWaitIrp(devExt, NULL);

    UNREFERENCED_PARAMETER(Dpc);
    UNREFERENCED_PARAMETER(Argument1);
    UNREFERENCED_PARAMETER(Argument2);
    if (irp != NULL) {
        if (IoSetCancelRoutine(irp, NULL) == NULL) {
            return; /* the cancel routine is running and will find that we have given it up */
        }
        StrangerComplete(irp, STATUS_SUCCESS, 0);
        IoReleaseRemoveLock(&devExt->RemoveLock, irp);
    }
}

VOID NTAPI StrangerCancelWait(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    PDEVICE_EXTENSION devExt = (PDEVICE_EXTENSION)DeviceObject->DeviceExtension;

    IoReleaseCancelSpinLock(Irp->CancelIrql);
    KeCancelTimer(&devExt->WaitTimer);
    (VOID) StrangerTakeWaitIrp(devExt, Irp);
    StrangerComplete(Irp, STATUS_CANCELLED, 0);
    IoReleaseRemoveLock(&devExt->RemoveLock, Irp);
}

static NTSTATUS StrangerWait(PDEVICE_EXTENSION devExt, PIRP Irp, ULONG Milliseconds)
{
    LARGE_INTEGER dueTime;
    KIRQL oldIrql;

    KeAcquireSpinLock(&devExt->WaitLock, &oldIrql);
    if (devExt->WaitIrp != NULL) {
        KeReleaseSpinLock(&devExt->WaitLock, oldIrql);
        return STATUS_DEVICE_BUSY;
    }
    IoMarkIrpPending(Irp);
    IoSetCancelRoutine(Irp, StrangerCancelWait);
    if (Irp->Cancel && IoSetCancelRoutine(Irp, NULL) != NULL) {
        KeReleaseSpinLock(&devExt->WaitLock, oldIrql);
        StrangerComplete(Irp, STATUS_CANCELLED, 0);
        IoReleaseRemoveLock(&devExt->RemoveLock, Irp);
        return STATUS_PENDING;
    }
    devExt->WaitIrp = Irp;
    KeReleaseSpinLock(&devExt->WaitLock, oldIrql);
    dueTime.QuadPart = -10000LL * Milliseconds;
    KeSetTimer(&devExt->WaitTimer, dueTime, &devExt->WaitDpc);
    return STATUS_PENDING;
}

/* ------------------------------------------------------------------------------------------- */

NTSTATUS NTAPI StrangerReadWrite(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    PDEVICE_EXTENSION devExt = (PDEVICE_EXTENSION)DeviceObject->DeviceExtension;
    PIO_STACK_LOCATION stack = IoGetCurrentIrpStackLocation(Irp);
    BOOLEAN isWrite = stack->MajorFunction == IRP_MJ_WRITE;
    ULONG length = isWrite ? stack->Parameters.Write.Length : stack->Parameters.Read.Length;
    LONGLONG offset = isWrite ? stack->Parameters.Write.ByteOffset.QuadPart
                              : stack->Parameters.Read.ByteOffset.QuadPart;
    NTSTATUS status;
    PUCHAR data;

    PAGED_CODE();
    status = IoAcquireRemoveLock(&devExt->RemoveLock, Irp);
    if (!NT_SUCCESS(status)) {
        return StrangerComplete(Irp, status, 0);
    }
    if (length == 0) {
        status = StrangerComplete(Irp, STATUS_SUCCESS, 0);
        goto Done;
    }
    if (!devExt->Started || offset < 0 || offset > BUFFER_SIZE || length > BUFFER_SIZE - offset) {
        status = StrangerComplete(Irp, devExt->Started ? STATUS_INVALID_PARAMETER
                                                       : STATUS_DEVICE_NOT_READY, 0);
        goto Done;
    }
    data = MmGetSystemAddressForMdlSafe(Irp->MdlAddress, NormalPagePriority);
    if (data == NULL) {
        status = StrangerComplete(Irp, STATUS_INSUFFICIENT_RESOURCES, 0);
        goto Done;
    }
    ExAcquireFastMutex(&devExt->BufferMutex);
    if (isWrite) {
        RtlCopyMemory(devExt->Buffer + offset, data, length);
        devExt->BytesInBuffer = max(devExt->BytesInBuffer, (ULONG)offset + length);
    } else {
        RtlCopyMemory(data, devExt->Buffer + offset, length);
    }
    ExReleaseFastMutex(&devExt->BufferMutex);
    status = StrangerComplete(Irp, STATUS_SUCCESS, length);
Done:
    IoReleaseRemoveLock(&devExt->RemoveLock, Irp);
    return status;
}

static NTSTATUS StrangerReverse(PIRP Irp, ULONG InLength, ULONG OutLength, PULONG_PTR Information)
{
    PUCHAR bytes = Irp->AssociatedIrp.SystemBuffer;
    ULONG i;

    if (OutLength < InLength) {
        return STATUS_BUFFER_TOO_SMALL;
    }
    for (i = 0; i < InLength / 2; i++) {
        UCHAR byte = bytes[i];
        bytes[i] = bytes[InLength - 1 - i];
        bytes[InLength - 1 - i] = byte;
    }
    *Information = InLength;
    return STATUS_SUCCESS;
}

static NTSTATUS StrangerSum(PIRP Irp, ULONG Length, PULONG_PTR Information)
{
    PUCHAR bytes;
    ULONG i;

    if (Irp->MdlAddress == NULL) {
        return STATUS_INVALID_PARAMETER;
    }
    bytes = MmGetSystemAddressForMdlSafe(Irp->MdlAddress, NormalPagePriority);
    if (bytes == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    for (i = 0; i < Length; i++) {
        *Information += bytes[i];
    }
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI StrangerIoctl(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    PDEVICE_EXTENSION devExt = (PDEVICE_EXTENSION)DeviceObject->DeviceExtension;
    PIO_STACK_LOCATION stack = IoGetCurrentIrpStackLocation(Irp);
    ULONG inLength = stack->Parameters.DeviceIoControl.InputBufferLength;
    ULONG outLength = stack->Parameters.DeviceIoControl.OutputBufferLength;
    ULONG_PTR information = 0;
    NTSTATUS status;

    status = IoAcquireRemoveLock(&devExt->RemoveLock, Irp);
    if (!NT_SUCCESS(status)) {
        return StrangerComplete(Irp, status, 0);
    }
    switch (stack->Parameters.DeviceIoControl.IoControlCode) {
    case IOCTL_STRANGER_COUNT:
        status = STATUS_BUFFER_TOO_SMALL;
        if (outLength >= sizeof(ULONG)) {
            *(PULONG)Irp->AssociatedIrp.SystemBuffer = devExt->BytesInBuffer;
            information = sizeof(ULONG);
            status = STATUS_SUCCESS;
        }
        break;
    case IOCTL_STRANGER_REVERSE:
        status = StrangerReverse(Irp, inLength, outLength, &information);
        break;
    case IOCTL_STRANGER_SUM:
        status = StrangerSum(Irp, outLength, &information);
        break;
    case IOCTL_STRANGER_WAIT:
        status = STATUS_BUFFER_TOO_SMALL;
        if (inLength >= sizeof(ULONG)) {
            status = StrangerWait(devExt, Irp, *(PULONG)Irp->AssociatedIrp.SystemBuffer);
        }
        if (status == STATUS_PENDING) {
            return status;
        }
        break;
    default:
        status = STATUS_INVALID_DEVICE_REQUEST;
        break;
    }
    status = StrangerComplete(Irp, status, information);
    IoReleaseRemoveLock(&devExt->RemoveLock, Irp);
    return status;
}

/* ------------------------------------------------------------------------------------------- */

NTSTATUS NTAPI StrangerSignal(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    if (Irp->PendingReturned) {
        KeSetEvent((PKEVENT)Context, IO_NO_INCREMENT, FALSE);
    }
    return STATUS_MORE_PROCESSING_REQUIRED;
}

/* The classic way to wait for the drivers below. */
static NTSTATUS StrangerForwardAndWait(PDEVICE_EXTENSION devExt, PIRP Irp)
{
    KEVENT event;
    NTSTATUS status;

    KeInitializeEvent(&event, NotificationEvent, FALSE);
    IoCopyCurrentIrpStackLocationToNext(Irp);
    IoSetCompletionRoutine(Irp, StrangerSignal, &event, TRUE, TRUE, TRUE);
    status = IoCallDriver(devExt->NextLower, Irp);
    if (status == STATUS_PENDING) {
        KeWaitForSingleObject(&event, Executive, KernelMode, FALSE, NULL);
        status = Irp->IoStatus.Status;
    }
    return status;
}

static NTSTATUS StrangerStart(PDEVICE_EXTENSION devExt, PIRP Irp)
{
    NTSTATUS status = StrangerForwardAndWait(devExt, Irp);

    if (NT_SUCCESS(status) && devExt->Buffer == NULL) {
        devExt->Buffer = ExAllocatePoolWithTag(NonPagedPoolNx, BUFFER_SIZE, STRANGER_TAG);
        status = devExt->Buffer == NULL ? STATUS_INSUFFICIENT_RESOURCES : STATUS_SUCCESS;
    }
    if (NT_SUCCESS(status)) {
        RtlZeroMemory(devExt->Buffer, BUFFER_SIZE);
        devExt->Started = TRUE;
        IoSetDeviceInterfaceState(&devExt->InterfaceName, TRUE);
        DbgPrint("stranger: started\n");
    }
    return StrangerComplete(Irp, status, 0);
}

static VOID StrangerStop(PDEVICE_EXTENSION devExt)
{
    PIRP irp;

    devExt->Started = FALSE;
    KeCancelTimer(&devExt->WaitTimer);
    irp = StrangerTakeWaitIrp(devExt, NULL);
    if (irp != NULL && IoSetCancelRoutine(irp, NULL) != NULL) {
        StrangerComplete(irp, STATUS_DELETE_PENDING, 0);
        IoReleaseRemoveLock(&devExt->RemoveLock, irp);
    }
    KeFlushQueuedDpcs();
}

static NTSTATUS StrangerRemove(PDEVICE_EXTENSION devExt, PIRP Irp)
{
    UNICODE_STRING link;
    NTSTATUS status;

    if (devExt->InterfaceName.Buffer != NULL) {
        IoSetDeviceInterfaceState(&devExt->InterfaceName, FALSE);
    }
    StrangerStop(devExt);
    Irp->IoStatus.Status = STATUS_SUCCESS;
    IoSkipCurrentIrpStackLocation(Irp);
    status = IoCallDriver(devExt->NextLower, Irp);
    IoReleaseRemoveLockAndWait(&devExt->RemoveLock, Irp);

    RtlInitUnicodeString(&link, STRANGER_LINK_NAME);
    IoDeleteSymbolicLink(&link);
    RtlFreeUnicodeString(&devExt->InterfaceName);
    if (devExt->Buffer != NULL) {
        ExFreePoolWithTag(devExt->Buffer, STRANGER_TAG);
    }
    IoDetachDevice(devExt->NextLower);
    IoDeleteDevice(devExt->Self);
    DbgPrint("stranger: removed\n");
    return status;
}

NTSTATUS NTAPI StrangerPnp(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    PDEVICE_EXTENSION devExt = (PDEVICE_EXTENSION)DeviceObject->DeviceExtension;
    PIO_STACK_LOCATION stack = IoGetCurrentIrpStackLocation(Irp);
    NTSTATUS status;

    PAGED_CODE();
    status = IoAcquireRemoveLock(&devExt->RemoveLock, Irp);
    if (!NT_SUCCESS(status)) {
        return StrangerComplete(Irp, status, 0);
    }
    switch (stack->MinorFunction) {
    case IRP_MN_START_DEVICE:
        status = StrangerStart(devExt, Irp);
        break;
    case IRP_MN_REMOVE_DEVICE:
        return StrangerRemove(devExt, Irp);
    case IRP_MN_STOP_DEVICE:
    case IRP_MN_SURPRISE_REMOVAL:
        StrangerStop(devExt);
        /* fall through */
    case IRP_MN_QUERY_STOP_DEVICE:
    case IRP_MN_CANCEL_STOP_DEVICE:
    case IRP_MN_QUERY_REMOVE_DEVICE:
    case IRP_MN_CANCEL_REMOVE_DEVICE:
        Irp->IoStatus.Status = STATUS_SUCCESS;
        /* fall through */
    default:
        IoSkipCurrentIrpStackLocation(Irp);
        status = IoCallDriver(devExt->NextLower, Irp);
        break;
    }
    IoReleaseRemoveLock(&devExt->RemoveLock, Irp);
    return status;
}

NTSTATUS NTAPI StrangerPower(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    PDEVICE_EXTENSION devExt = (PDEVICE_EXTENSION)DeviceObject->DeviceExtension;

    PoStartNextPowerIrp(Irp);
    IoSkipCurrentIrpStackLocation(Irp);
    return PoCallDriver(devExt->NextLower, Irp);
}

NTSTATUS NTAPI StrangerSystemControl(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    PDEVICE_EXTENSION devExt = (PDEVICE_EXTENSION)DeviceObject->DeviceExtension;

    IoSkipCurrentIrpStackLocation(Irp);
    return IoCallDriver(devExt->NextLower, Irp);
}

NTSTATUS NTAPI StrangerAddDevice(PDRIVER_OBJECT DriverObject, PDEVICE_OBJECT PhysicalDeviceObject)
{
    UNICODE_STRING name, link;
    PDEVICE_OBJECT fdo;
    PDEVICE_EXTENSION devExt;
    NTSTATUS status;

    PAGED_CODE();
    RtlInitUnicodeString(&name, STRANGER_DEVICE_NAME);
    status = IoCreateDevice(DriverObject, sizeof(DEVICE_EXTENSION), &name, STRANGER_TYPE,
                            FILE_DEVICE_SECURE_OPEN, FALSE, &fdo);
    if (!NT_SUCCESS(status)) {
        return status;
    }
    devExt = (PDEVICE_EXTENSION)fdo->DeviceExtension;
    RtlZeroMemory(devExt, sizeof(DEVICE_EXTENSION));
    devExt->Self = fdo;
    devExt->Pdo = PhysicalDeviceObject;
    IoInitializeRemoveLock(&devExt->RemoveLock, STRANGER_TAG, 1, 100);
    ExInitializeFastMutex(&devExt->BufferMutex);
    KeInitializeSpinLock(&devExt->WaitLock);
    KeInitializeTimer(&devExt->WaitTimer);
    KeInitializeDpc(&devExt->WaitDpc, StrangerWaitIsOver, devExt);

    RtlInitUnicodeString(&link, STRANGER_LINK_NAME);
    status = IoCreateSymbolicLink(&link, &name);
    if (!NT_SUCCESS(status)) {
        IoDeleteDevice(fdo);
        return status;
    }
    devExt->NextLower = IoAttachDeviceToDeviceStack(fdo, PhysicalDeviceObject);
    if (devExt->NextLower == NULL) {
        IoDeleteSymbolicLink(&link);
        IoDeleteDevice(fdo);
        return STATUS_NO_SUCH_DEVICE;
    }
    status = IoRegisterDeviceInterface(PhysicalDeviceObject, &GUID_DEVINTERFACE_STRANGER, NULL,
                                       &devExt->InterfaceName);
    if (!NT_SUCCESS(status)) {
        IoDetachDevice(devExt->NextLower);
        IoDeleteSymbolicLink(&link);
        IoDeleteDevice(fdo);
        return status;
    }
    fdo->Flags |= DO_DIRECT_IO | DO_POWER_PAGABLE;
    fdo->Flags &= ~DO_DEVICE_INITIALIZING;
    return STATUS_SUCCESS;
}

VOID NTAPI StrangerUnload(PDRIVER_OBJECT DriverObject)
{
    UNREFERENCED_PARAMETER(DriverObject);
    DbgPrint("stranger: unloaded\n");
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath)
{
    WCHAR text[64];

    if (NT_SUCCESS(RtlStringCbPrintfW(text, sizeof(text), L"built with gcc %d", __GNUC__))) {
        DbgPrint("stranger: %ws, key %wZ\n", text, RegistryPath);
    }
    DriverObject->DriverUnload = StrangerUnload;
    DriverObject->DriverExtension->AddDevice = StrangerAddDevice;
    DriverObject->MajorFunction[IRP_MJ_CREATE] = StrangerCreateClose;
    DriverObject->MajorFunction[IRP_MJ_CLOSE] = StrangerCreateClose;
    DriverObject->MajorFunction[IRP_MJ_CLEANUP] = StrangerCreateClose;
    DriverObject->MajorFunction[IRP_MJ_READ] = StrangerReadWrite;
    DriverObject->MajorFunction[IRP_MJ_WRITE] = StrangerReadWrite;
    DriverObject->MajorFunction[IRP_MJ_DEVICE_CONTROL] = StrangerIoctl;
    DriverObject->MajorFunction[IRP_MJ_PNP] = StrangerPnp;
    DriverObject->MajorFunction[IRP_MJ_POWER] = StrangerPower;
    DriverObject->MajorFunction[IRP_MJ_SYSTEM_CONTROL] = StrangerSystemControl;
    return STATUS_SUCCESS;
}
