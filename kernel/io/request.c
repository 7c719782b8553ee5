// Requests whose sender waits.
//
// Drivers bound their own waits; a request that one of them leaves pending nevertheless, because its
// device could not be stopped, is given up after a while. Sender and completion then race for one
// word, and the later one frees:
//
//   IopWaiting ──completion──▶ IopCompleted    the sender goes on and owns the IRP
//   IopWaiting ──sender──────▶ IopAbandoned    the completion, if it ever comes, frees the IRP
#include "kernel/io/iop.h"

#define IOP_PENDING_SECONDS 60 // longer than drivers wait for their devices

typedef enum _IOP_WAIT_STATE { IopWaiting, IopCompleted, IopAbandoned } IOP_WAIT_STATE;

typedef struct _IOP_WAIT {
    volatile LONG State; // IOP_WAIT_STATE
    KEVENT Done;
} IOP_WAIT, *PIOP_WAIT;

static NTSTATUS NTAPI IopSenderCompletion(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context)
{
    PIOP_WAIT Wait = Context;
    UNREFERENCED_PARAMETER(DeviceObject);
    if (__atomic_exchange_n(&Wait->State, IopCompleted, __ATOMIC_ACQ_REL) == IopAbandoned) {
        ExFreePoolWithTag(Wait, IOP_TAG);
        IoFreeIrp(Irp);
    } else {
        KeSetEvent(&Wait->Done, IO_NO_INCREMENT, FALSE);
    }
    return STATUS_MORE_PROCESSING_REQUIRED;
}

// FALSE: given up; the wait block is no longer the caller's.
static BOOLEAN IopWaitForCompletion(PIOP_WAIT Wait)
{
    LARGE_INTEGER Limit = {.QuadPart = -10000000LL * IOP_PENDING_SECONDS};
    if (KeWaitForSingleObject(&Wait->Done, Executive, KernelMode, FALSE, &Limit) !=
        STATUS_TIMEOUT) {
        return TRUE;
    }
    LONG Expected = IopWaiting;
    if (__atomic_compare_exchange_n(&Wait->State, &Expected, IopAbandoned, FALSE, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE)) {
        return FALSE;
    }
    // It came in this very moment: the event is about to be set.
    KeWaitForSingleObject(&Wait->Done, Executive, KernelMode, FALSE, NULL);
    return TRUE;
}

NTSTATUS IopSendAndWait(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    PIOP_WAIT Wait = ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(*Wait), IOP_TAG);
    if (Wait == NULL) {
        Irp->IoStatus.Status = STATUS_INSUFFICIENT_RESOURCES;
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    KeInitializeEvent(&Wait->Done, NotificationEvent, FALSE);
    IoSetCompletionRoutine(Irp, IopSenderCompletion, Wait, TRUE, TRUE, TRUE);
    (VOID) IoCallDriver(DeviceObject, Irp);
    if (!IopWaitForCompletion(Wait)) {
        DbgPrint("io: a request was not completed within %u seconds and is given up\n",
                 IOP_PENDING_SECONDS);
        return STATUS_PENDING;
    }
    ExFreePoolWithTag(Wait, IOP_TAG);
    return Irp->IoStatus.Status;
}

static NTSTATUS NTAPI IopForwardCompletion(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    UNREFERENCED_PARAMETER(Irp);
    KeSetEvent(Context, IO_NO_INCREMENT, FALSE);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

BOOLEAN NTAPI IoForwardIrpSynchronously(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    KEVENT Done;
    if (Irp->CurrentLocation <= 1) {
        return FALSE;
    }
    KeInitializeEvent(&Done, NotificationEvent, FALSE);
    IoCopyCurrentIrpStackLocationToNext(Irp);
    IoSetCompletionRoutine(Irp, IopForwardCompletion, &Done, TRUE, TRUE, TRUE);
    if (IoCallDriver(DeviceObject, Irp) == STATUS_PENDING) {
        // Without a bound, as documented: the caller is in the middle of this very IRP.
        KeWaitForSingleObject(&Done, Executive, KernelMode, FALSE, NULL);
    }
    return TRUE;
}

// Sends an IRP whose location the caller filled, and frees it, unless it stays pending for ever.
static NTSTATUS IopRunRequest(PDEVICE_OBJECT DeviceObject, PIRP Irp, PULONG_PTR Information)
{
    const NTSTATUS Status = IopSendAndWait(DeviceObject, Irp);
    if (Status == STATUS_PENDING) {
        *Information = 0;
        return STATUS_PENDING;
    }
    *Information = Irp->IoStatus.Information;
    IoFreeIrp(Irp);
    return Status;
}

NTSTATUS IoTransferSynchronously(PDEVICE_OBJECT DeviceObject, UCHAR MajorFunction, PMDL Mdl,
                                 ULONG64 ByteOffset, ULONG ByteCount, PULONG_PTR Information)
{
    NT_ASSERT(MajorFunction == IRP_MJ_READ || MajorFunction == IRP_MJ_WRITE);
    *Information = 0;
    PIRP Irp = IoAllocateIrp(DeviceObject->StackSize, FALSE);
    if (Irp == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    PIO_STACK_LOCATION Stack = IoGetNextIrpStackLocation(Irp);
    Irp->MdlAddress = Mdl;
    Irp->Flags = MajorFunction == IRP_MJ_READ ? IRP_READ_OPERATION : IRP_WRITE_OPERATION;
    Stack->MajorFunction = MajorFunction;
    // Parameters.Write has the same layout.
    Stack->Parameters.Read.Length = ByteCount;
    Stack->Parameters.Read.ByteOffset.QuadPart = (LONGLONG)ByteOffset;
    return IopRunRequest(DeviceObject, Irp, Information);
}

// An IRP whose system buffer holds the input and has room for the output, all else zero.
static PIRP IopBuildControlIrp(PDEVICE_OBJECT DeviceObject, ULONG IoControlCode, const VOID *Input,
                               ULONG InputByteCount, ULONG OutputByteCount)
{
    const ULONG ByteCount = InputByteCount > OutputByteCount ? InputByteCount : OutputByteCount;
    PIRP Irp = IoAllocateIrp(DeviceObject->StackSize, FALSE);
    if (Irp == NULL) {
        return NULL;
    }
    if (ByteCount != 0) {
        Irp->AssociatedIrp.SystemBuffer = ExAllocatePool2(POOL_FLAG_NON_PAGED, ByteCount, IOP_TAG);
        if (Irp->AssociatedIrp.SystemBuffer == NULL) {
            IoFreeIrp(Irp);
            return NULL;
        }
        RtlCopyMemory(Irp->AssociatedIrp.SystemBuffer, Input, InputByteCount);
    }
    Irp->Flags = IRP_BUFFERED_IO | IRP_INPUT_OPERATION;
    PIO_STACK_LOCATION Stack = IoGetNextIrpStackLocation(Irp);
    Stack->MajorFunction = IRP_MJ_DEVICE_CONTROL;
    Stack->Parameters.DeviceIoControl.IoControlCode = IoControlCode;
    Stack->Parameters.DeviceIoControl.InputBufferLength = InputByteCount;
    Stack->Parameters.DeviceIoControl.OutputBufferLength = OutputByteCount;
    return Irp;
}

NTSTATUS IoControlSynchronously(PDEVICE_OBJECT DeviceObject, ULONG IoControlCode, const VOID *Input,
                                ULONG InputByteCount, PVOID Output, ULONG OutputByteCount,
                                PULONG_PTR Information)
{
    *Information = 0;
    if (METHOD_FROM_CTL_CODE(IoControlCode) != METHOD_BUFFERED) {
        return STATUS_INVALID_PARAMETER;
    }
    PIRP Irp =
        IopBuildControlIrp(DeviceObject, IoControlCode, Input, InputByteCount, OutputByteCount);
    if (Irp == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    PVOID Buffer = Irp->AssociatedIrp.SystemBuffer;
    const NTSTATUS Status = IopRunRequest(DeviceObject, Irp, Information);
    if (Status == STATUS_PENDING) {
        return STATUS_PENDING;
    }
    if (!NT_ERROR(Status) && OutputByteCount != 0) {
        const ULONG_PTR ByteCount = *Information < OutputByteCount ? *Information : OutputByteCount;
        RtlCopyMemory(Output, Buffer, ByteCount);
    }
    if (Buffer != NULL) {
        ExFreePoolWithTag(Buffer, IOP_TAG);
    }
    return Status;
}
