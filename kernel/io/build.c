// Requests that are built for the caller: buffers by the method of the control code or of the device.
//
//   buffered       one system buffer, copied in before and out at the end
//   direct         a locked MDL; the other buffer of a control code is a system buffer
//   neither        the pointers as they are
//
// What is built here is taken apart by IopFinishIrp, or by IopAbandonIrp when it is never sent.
#include "kernel/io/iop.h"

#include <except.h>

VOID IopAbandonIrp(PIRP Irp)
{
    MmReleaseMdlChain(Irp->MdlAddress);
    if ((Irp->Flags & IRP_DEALLOCATE_BUFFER) != 0) {
        ExFreePool(Irp->AssociatedIrp.SystemBuffer);
    }
    IopDisownIrp(Irp);
    IoFreeIrp(Irp);
}

// A system buffer of ByteCount bytes that begins with a copy of Input. No bytes: none.
static NTSTATUS IopAddSystemBuffer(PIRP Irp, const VOID *Input, ULONG InputByteCount,
                                   ULONG ByteCount)
{
    if (ByteCount == 0) {
        return STATUS_SUCCESS;
    }
    Irp->AssociatedIrp.SystemBuffer = ExAllocatePool2(POOL_FLAG_NON_PAGED, ByteCount, IOP_TAG);
    if (Irp->AssociatedIrp.SystemBuffer == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    Irp->Flags |= IRP_BUFFERED_IO | IRP_DEALLOCATE_BUFFER;
    if (Input != NULL) {
        RtlCopyMemory(Irp->AssociatedIrp.SystemBuffer, Input, InputByteCount);
    }
    return STATUS_SUCCESS;
}

// The system buffer is copied to Output at the end.
static VOID IopReturnSystemBuffer(PIRP Irp, PVOID Output, ULONG ByteCount)
{
    Irp->Flags |= IRP_INPUT_OPERATION;
    Irp->UserBuffer = Output;
    Irp->Overlay.AllocationSize.QuadPart = ByteCount;
}

// An MDL of the buffer, locked for what the device does with it.
static NTSTATUS IopAddLockedMdl(PIRP Irp, PVOID Buffer, ULONG ByteCount, LOCK_OPERATION Operation)
{
    PMDL Mdl = IoAllocateMdl(Buffer, ByteCount, FALSE, FALSE, NULL);
    if (Mdl == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    KmTry {
        MmProbeAndLockPages(Mdl, KernelMode, Operation);
    }
    KmCatch (Status) {
        IoFreeMdl(Mdl);
        return Status;
    }
    Irp->MdlAddress = Mdl;
    return STATUS_SUCCESS;
}

NTSTATUS IopAddControlBuffers(PIRP Irp, ULONG IoControlCode, PVOID Input, ULONG InputByteCount,
                              PVOID Output, ULONG OutputByteCount)
{
    const ULONG Method = METHOD_FROM_CTL_CODE(IoControlCode);
    const ULONG Longer = InputByteCount > OutputByteCount ? InputByteCount : OutputByteCount;
    NTSTATUS Status = STATUS_SUCCESS;
    PIO_STACK_LOCATION Stack = IoGetNextIrpStackLocation(Irp);
    Stack->Parameters.DeviceIoControl.IoControlCode = IoControlCode;
    Stack->Parameters.DeviceIoControl.InputBufferLength = InputByteCount;
    Stack->Parameters.DeviceIoControl.OutputBufferLength = OutputByteCount;
    switch (Method) {
    case METHOD_BUFFERED:
        Status = IopAddSystemBuffer(Irp, Input, InputByteCount, Longer);
        if (NT_SUCCESS(Status) && Output != NULL && OutputByteCount != 0) {
            IopReturnSystemBuffer(Irp, Output, OutputByteCount);
        }
        break;
    case METHOD_IN_DIRECT:
    case METHOD_OUT_DIRECT:
        Status = IopAddSystemBuffer(Irp, Input, InputByteCount, InputByteCount);
        if (NT_SUCCESS(Status) && Output != NULL && OutputByteCount != 0) {
            Status = IopAddLockedMdl(Irp, Output, OutputByteCount,
                                     Method == METHOD_IN_DIRECT ? IoReadAccess : IoWriteAccess);
        }
        break;
    default:
        Irp->UserBuffer = Output;
        Stack->Parameters.DeviceIoControl.Type3InputBuffer = Input;
    }
    return Status;
}

NTSTATUS IopAddTransferBuffer(PIRP Irp, PDEVICE_OBJECT DeviceObject, UCHAR MajorFunction,
                              PVOID Buffer, ULONG ByteCount, ULONG64 ByteOffset)
{
    const BOOLEAN IsRead = MajorFunction == IRP_MJ_READ;
    NTSTATUS Status = STATUS_SUCCESS;
    PIO_STACK_LOCATION Stack = IoGetNextIrpStackLocation(Irp);
    Irp->Flags |= IsRead ? IRP_READ_OPERATION : IRP_WRITE_OPERATION;
    // Parameters.Write has the same layout.
    Stack->Parameters.Read.Length = ByteCount;
    Stack->Parameters.Read.ByteOffset.QuadPart = (LONGLONG)ByteOffset;
    if ((DeviceObject->Flags & DO_BUFFERED_IO) != 0) {
        Status = IopAddSystemBuffer(Irp, IsRead ? NULL : Buffer, ByteCount, ByteCount);
        if (NT_SUCCESS(Status) && IsRead && ByteCount != 0) {
            IopReturnSystemBuffer(Irp, Buffer, ByteCount);
        }
    } else if ((DeviceObject->Flags & DO_DIRECT_IO) != 0) {
        if (ByteCount != 0) {
            Status = IopAddLockedMdl(Irp, Buffer, ByteCount, IsRead ? IoWriteAccess : IoReadAccess);
        }
    } else {
        Irp->UserBuffer = Buffer;
    }
    return Status;
}

PIRP NTAPI IoBuildDeviceIoControlRequest(ULONG IoControlCode, PDEVICE_OBJECT DeviceObject,
                                         PVOID InputBuffer, ULONG InputBufferLength,
                                         PVOID OutputBuffer, ULONG OutputBufferLength,
                                         BOOLEAN InternalDeviceIoControl, PKEVENT Event,
                                         PIO_STATUS_BLOCK IoStatusBlock)
{
    PIRP Irp = IoAllocateIrp(DeviceObject->StackSize, FALSE);
    if (Irp == NULL) {
        return NULL;
    }
    IoGetNextIrpStackLocation(Irp)->MajorFunction =
        InternalDeviceIoControl ? IRP_MJ_INTERNAL_DEVICE_CONTROL : IRP_MJ_DEVICE_CONTROL;
    Irp->UserEvent = Event;
    Irp->UserIosb = IoStatusBlock;
    if (!NT_SUCCESS(IopAddControlBuffers(Irp, IoControlCode, InputBuffer, InputBufferLength,
                                         OutputBuffer, OutputBufferLength))) {
        IopAbandonIrp(Irp);
        return NULL;
    }
    IopOwnIrpByThread(Irp);
    return Irp;
}

PIRP NTAPI IoBuildAsynchronousFsdRequest(ULONG MajorFunction, PDEVICE_OBJECT DeviceObject,
                                         PVOID Buffer, ULONG Length, PLARGE_INTEGER StartingOffset,
                                         PIO_STATUS_BLOCK IoStatusBlock)
{
    PIRP Irp = MajorFunction <= IRP_MJ_MAXIMUM_FUNCTION
                   ? IoAllocateIrp(DeviceObject->StackSize, FALSE)
                   : NULL;
    if (Irp == NULL) {
        return NULL;
    }
    IoGetNextIrpStackLocation(Irp)->MajorFunction = (UCHAR)MajorFunction;
    Irp->UserIosb = IoStatusBlock;
    Irp->Tail.Overlay.Thread = PsGetCurrentThread();
    if (MajorFunction == IRP_MJ_READ || MajorFunction == IRP_MJ_WRITE) {
        const ULONG64 Offset = StartingOffset != NULL ? (ULONG64)StartingOffset->QuadPart : 0;
        if (!NT_SUCCESS(IopAddTransferBuffer(Irp, DeviceObject, (UCHAR)MajorFunction, Buffer,
                                             Length, Offset))) {
            IopAbandonIrp(Irp);
            return NULL;
        }
    }
    return Irp;
}

PIRP NTAPI IoBuildSynchronousFsdRequest(ULONG MajorFunction, PDEVICE_OBJECT DeviceObject,
                                        PVOID Buffer, ULONG Length, PLARGE_INTEGER StartingOffset,
                                        PKEVENT Event, PIO_STATUS_BLOCK IoStatusBlock)
{
    PIRP Irp = IoBuildAsynchronousFsdRequest(MajorFunction, DeviceObject, Buffer, Length,
                                             StartingOffset, IoStatusBlock);
    if (Irp != NULL) {
        Irp->UserEvent = Event;
        IopOwnIrpByThread(Irp);
    }
    return Irp;
}
