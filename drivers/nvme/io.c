// Requests to the disk: read, write, flush, and the IOCTLs that tell what disk it is.
//
// A read or write is first checked as a whole and waits for the worker. That cuts it into commands of at most
// MaximumTransferBytes, which run in batches. The DMA adapter says where the pieces of a buffer lie for
// the controller; PRPs (physical region pages) tell it page by page:
//
//   buffer  |..aaaa|aaaaaa|aaaaaa|aaa...|     Prp1  page 0 + byte offset
//   page       0      1      2      3         Prp2  of two pages: page 1
//                                                   of more: the command's list page = {1, 2, 3, ...}
#include "oldnvme.h"

#define NVME_MDL_HAS_FRAMES (MDL_PAGES_LOCKED | MDL_SOURCE_IS_NONPAGED_POOL | MDL_PARTIAL)

// A flush has no bytes and takes one command.
typedef struct _NVME_REQUEST {
    UCHAR Opcode;
    PMDL Mdl;
    ULONG ByteCount;
    ULONG64 FirstByte; // on the disk
} NVME_REQUEST;

static NTSTATUS NvmeFinishIrp(PIRP Irp, NTSTATUS Status, ULONG_PTR Information)
{
    Irp->IoStatus.Status = Status;
    Irp->IoStatus.Information = NT_SUCCESS(Status) ? Information : 0;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
    return Status;
}

// Every request has the remove lock from here to its end: REMOVE waits for them all.
static NTSTATUS NvmeBegin(PNVME_DEVICE Device, PIRP Irp)
{
    const NTSTATUS Status = IoAcquireRemoveLock(&Device->RemoveLock, Irp);
    return NT_SUCCESS(Status) ? Status : NvmeFinishIrp(Irp, Status, 0);
}

static NTSTATUS NvmeCompleteIrp(PNVME_DEVICE Device, PIRP Irp, NTSTATUS Status,
                                ULONG_PTR Information)
{
    (VOID) NvmeFinishIrp(Irp, Status, Information);
    IoReleaseRemoveLock(&Device->RemoveLock, Irp);
    return Status;
}

// Everything that an emulated controller might let pass is refused here, before anything is
// submitted.
static NTSTATUS NvmeCheckRequest(const NVME_DEVICE *Device, const NVME_REQUEST *Request)
{
    if (Device->State != NvmeStarted) {
        return STATUS_DEVICE_NOT_READY;
    }
    if (Request->ByteCount == 0) {
        return STATUS_SUCCESS;
    }
    const ULONG64 DiskByteCount = Device->BlockCount << Device->BlockShift;
    const ULONG64 BlockMask = (1ull << Device->BlockShift) - 1;
    const PMDL Mdl = Request->Mdl;
    if (((Request->FirstByte | Request->ByteCount) & BlockMask) != 0) {
        return STATUS_INVALID_PARAMETER;
    }
    if (Mdl == NULL || (Mdl->MdlFlags & NVME_MDL_HAS_FRAMES) == 0 ||
        MmGetMdlByteCount(Mdl) < Request->ByteCount) {
        return STATUS_INVALID_PARAMETER;
    }
    if (MmGetMdlByteOffset(Mdl) % sizeof(ULONG) != 0) {
        return STATUS_DATATYPE_MISALIGNMENT;
    }
    if (Request->FirstByte > DiskByteCount ||
        Request->ByteCount > DiskByteCount - Request->FirstByte) {
        return STATUS_NONEXISTENT_SECTOR;
    }
    return STATUS_SUCCESS;
}

// Walks through the pages of a list of pieces. Only the first piece may begin inside a page, and only
// the last may end in one, because the buffer has no gaps.
typedef struct _NVME_PAGE_WALK {
    const SCATTER_GATHER_LIST *List;
    ULONG Element;
    ULONG Offset; // in the element
} NVME_PAGE_WALK;

// The address where the walk is; moves on to the next page. MAXULONG64: no page is left.
static ULONG64 NvmeNextPage(NVME_PAGE_WALK *Walk)
{
    if (Walk->Element == Walk->List->NumberOfElements) {
        return MAXULONG64;
    }
    const SCATTER_GATHER_ELEMENT *Element = &Walk->List->Elements[Walk->Element];
    const ULONG64 Address = (ULONG64)Element->Address.QuadPart + Walk->Offset;
    Walk->Offset += PAGE_SIZE - (ULONG)(Address % PAGE_SIZE);
    if (Walk->Offset >= Element->Length) {
        Walk->Element += 1;
        Walk->Offset = 0;
    }
    return Address;
}

// Points the command at the pages of its transfer.
static VOID NvmeDescribeBuffer(const NVME_DEVICE *Device, PNVME_COMMAND Command)
{
    NVME_PAGE_WALK Walk = {.List = Device->Transfers[Command->CommandId].List};
    Command->Prp1 = NvmeNextPage(&Walk);
    const ULONG64 Second = NvmeNextPage(&Walk);
    ULONG64 Next = Second == MAXULONG64 ? MAXULONG64 : NvmeNextPage(&Walk);
    if (Next == MAXULONG64) {
        Command->Prp2 = Second == MAXULONG64 ? 0 : Second;
        return;
    }
    const ULONG ListPage = NvmePageFirstPrpList + Command->CommandId;
    const PULONG64 List = NvmePageVa(Device, ListPage);
    List[0] = Second;
    for (ULONG Index = 1; Next != MAXULONG64; Index += 1) {
        List[Index] = Next;
        Next = NvmeNextPage(&Walk);
    }
    Command->Prp2 = NvmePageAddress(Device, ListPage);
}

static VOID NvmeDescribeBlocks(const NVME_DEVICE *Device, PNVME_COMMAND Command, ULONG64 FirstByte,
                               ULONG ByteCount)
{
    const ULONG64 FirstBlock = FirstByte >> Device->BlockShift;
    Command->Cdw10 = (ULONG)FirstBlock;
    Command->Cdw11 = (ULONG)(FirstBlock >> 32);
    Command->Cdw12 = (ByteCount >> Device->BlockShift) - 1;
}

// Adds commands for the request from *Offset on, as many as go at a time, and moves *Offset behind what
// they do. Fails only when not even the first one goes.
static NTSTATUS NvmeFillBatch(PNVME_DEVICE Device, const NVME_REQUEST *Request, PULONG Offset)
{
    const PNVME_QUEUE Queue = &Device->IoQueue;
    do {
        const ULONG ByteCount =
            NvmeSmaller(Request->ByteCount - *Offset, Device->MaximumTransferBytes);
        if (NvmeIsBatchFull(Queue)) {
            break;
        }
        if (ByteCount != 0) {
            const NTSTATUS Status =
                NvmeMapTransfer(Device, Queue->BatchCount, Request->Mdl, *Offset, ByteCount,
                                Request->Opcode == NVME_NVM_WRITE);
            if (!NT_SUCCESS(Status)) {
                return Queue->BatchCount == 0 ? Status : STATUS_SUCCESS;
            }
        }
        const PNVME_COMMAND Command = NvmeAddCommand(Queue);
        Command->Opcode = Request->Opcode;
        Command->NamespaceId = Device->NamespaceId;
        if (ByteCount != 0) {
            NvmeDescribeBlocks(Device, Command, Request->FirstByte + *Offset, ByteCount);
            NvmeDescribeBuffer(Device, Command);
        }
        *Offset += ByteCount;
    } while (*Offset < Request->ByteCount);
    return STATUS_SUCCESS;
}

// STATUS_PENDING: the controller neither answered nor could be stopped, the pages of the buffer are
// still its own (N2).
static NTSTATUS NvmeRunRequest(PNVME_DEVICE Device, const NVME_REQUEST *Request)
{
    NTSTATUS Status = NvmeCheckRequest(Device, Request);
    ULONG Offset = 0;
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    do {
        Status = NvmeFillBatch(Device, Request, &Offset);
        if (NT_SUCCESS(Status)) {
            Status = NvmeRunBatch(Device, &Device->IoQueue);
        }
        if (Device->Unstoppable) {
            return STATUS_PENDING;
        }
        NvmeUnmapTransfers(Device);
    } while (NT_SUCCESS(Status) && Offset < Request->ByteCount);
    return Status;
}

static NVME_REQUEST NvmeDescribeRequest(PIRP Irp)
{
    const IO_STACK_LOCATION *Stack = IoGetCurrentIrpStackLocation(Irp);
    NVME_REQUEST Request;
    RtlZeroMemory(&Request, sizeof(Request));
    Request.Opcode = NVME_NVM_FLUSH;
    if (Stack->MajorFunction != IRP_MJ_FLUSH_BUFFERS) {
        // Parameters.Write has the same layout.
        Request.Opcode = Stack->MajorFunction == IRP_MJ_READ ? NVME_NVM_READ : NVME_NVM_WRITE;
        Request.Mdl = Irp->MdlAddress;
        Request.ByteCount = Stack->Parameters.Read.Length;
        Request.FirstByte = (ULONG64)Stack->Parameters.Read.ByteOffset.QuadPart;
    }
    return Request;
}

//
// The worker, and the list that it works off.
//

// Of an IRP that waits in the list, or that NvmeTakeIrp has just left to us.
static VOID NTAPI NvmeCancelIrp(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    const PNVME_DEVICE Device = DeviceObject->DeviceExtension;
    KIRQL OldIrql;
    IoReleaseCancelSpinLock(Irp->CancelIrql);
    KeAcquireSpinLock(&Device->RequestLock, &OldIrql);
    RemoveEntryList(&Irp->Tail.Overlay.ListEntry);
    KeReleaseSpinLock(&Device->RequestLock, OldIrql);
    (VOID) NvmeCompleteIrp(Device, Irp, STATUS_CANCELLED, 0);
}

// FALSE: the device is stopping, nothing is taken.
static BOOLEAN NvmeQueueIrp(PNVME_DEVICE Device, PIRP Irp)
{
    KIRQL OldIrql;
    BOOLEAN IsCancelled = FALSE;
    KeAcquireSpinLock(&Device->RequestLock, &OldIrql);
    const BOOLEAN IsTaken = Device->Worker != NULL && !Device->IsEnding;
    if (IsTaken) {
        IoMarkIrpPending(Irp);
        (VOID) IoSetCancelRoutine(Irp, NvmeCancelIrp);
        // Cancelled before, and nobody calls the routine any more: we end it.
        IsCancelled = Irp->Cancel && IoSetCancelRoutine(Irp, NULL) != NULL;
    }
    if (IsTaken && !IsCancelled) {
        InsertTailList(&Device->Requests, &Irp->Tail.Overlay.ListEntry);
        // Under the lock: once it is released, the request may be over, and the device gone.
        KeSetEvent(&Device->WorkToDo, IO_NO_INCREMENT, FALSE);
    }
    KeReleaseSpinLock(&Device->RequestLock, OldIrql);
    if (IsCancelled) {
        (VOID) NvmeCompleteIrp(Device, Irp, STATUS_CANCELLED, 0);
    }
    return IsTaken;
}

// The next IRP, or NULL: there is none.
static PIRP NvmeTakeIrp(PNVME_DEVICE Device, PBOOLEAN IsEnding)
{
    PIRP Irp = NULL;
    KIRQL OldIrql;
    KeAcquireSpinLock(&Device->RequestLock, &OldIrql);
    while (Irp == NULL && !IsListEmpty(&Device->Requests)) {
        Irp = CONTAINING_RECORD(RemoveHeadList(&Device->Requests), IRP, Tail.Overlay.ListEntry);
        if (IoSetCancelRoutine(Irp, NULL) == NULL) {
            // Its cancel routine waits for the lock, and takes it out of a list: of its own.
            InitializeListHead(&Irp->Tail.Overlay.ListEntry);
            Irp = NULL;
        }
    }
    *IsEnding = Device->IsEnding;
    KeReleaseSpinLock(&Device->RequestLock, OldIrql);
    return Irp;
}

// The remove lock goes before the request: whoever waits for the one finds the other free, and REMOVE waits
// for the worker anyway.
static VOID NvmeRunIrp(PNVME_DEVICE Device, PIRP Irp)
{
    const NVME_REQUEST Request = NvmeDescribeRequest(Irp);
    const NTSTATUS Status = NvmeRunRequest(Device, &Request);
    IoReleaseRemoveLock(&Device->RemoveLock, Irp);
    if (Status == STATUS_PENDING) {
        DbgPrint("NVMe: IRP 0x%p stays pending for ever: its buffer cannot be taken back from the "
                 "controller\n",
                 Irp);
        return;
    }
    (VOID) NvmeFinishIrp(Irp, Status, Request.ByteCount);
}

static VOID NTAPI NvmeWork(PVOID StartContext)
{
    const PNVME_DEVICE Device = StartContext;
    BOOLEAN IsEnding = FALSE;
    while (!IsEnding) {
        (VOID) KeWaitForSingleObject(&Device->WorkToDo, Executive, KernelMode, FALSE, NULL);
        for (PIRP Irp = NvmeTakeIrp(Device, &IsEnding); Irp != NULL;
             Irp = NvmeTakeIrp(Device, &IsEnding)) {
            NvmeRunIrp(Device, Irp);
        }
    }
    (VOID) PsTerminateSystemThread(STATUS_SUCCESS);
}

NTSTATUS NvmeStartWorker(PNVME_DEVICE Device)
{
    HANDLE Handle;
    Device->IsEnding = FALSE;
    NTSTATUS Status =
        PsCreateSystemThread(&Handle, SYNCHRONIZE, NULL, NULL, NULL, NvmeWork, Device);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    // The handle is good, so that there is nothing to fail.
    Status =
        ObReferenceObjectByHandle(Handle, SYNCHRONIZE, NULL, KernelMode, &Device->Worker, NULL);
    NT_ASSERT(NT_SUCCESS(Status));
    (VOID) ZwClose(Handle);
    return Status;
}

VOID NvmeStopWorker(PNVME_DEVICE Device)
{
    KIRQL OldIrql;
    if (Device->Worker == NULL) {
        return;
    }
    KeAcquireSpinLock(&Device->RequestLock, &OldIrql);
    Device->IsEnding = TRUE;
    KeReleaseSpinLock(&Device->RequestLock, OldIrql);
    KeSetEvent(&Device->WorkToDo, IO_NO_INCREMENT, FALSE);
    (VOID) KeWaitForSingleObject(Device->Worker, Executive, KernelMode, FALSE, NULL);
    ObDereferenceObject(Device->Worker);
    Device->Worker = NULL;
}

//
// Dispatch.
//

static NTSTATUS NvmeDispatchRequest(PNVME_DEVICE Device, PIRP Irp, const NVME_REQUEST *Request)
{
    const NTSTATUS Status = NvmeCheckRequest(Device, Request);
    if (!NT_SUCCESS(Status)) {
        return NvmeCompleteIrp(Device, Irp, Status, 0);
    }
    return NvmeQueueIrp(Device, Irp) ? STATUS_PENDING
                                     : NvmeCompleteIrp(Device, Irp, STATUS_DEVICE_NOT_READY, 0);
}

NTSTATUS NTAPI NvmeDispatchReadWrite(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    const PNVME_DEVICE Device = DeviceObject->DeviceExtension;
    const NVME_REQUEST Request = NvmeDescribeRequest(Irp);
    const NTSTATUS Status = NvmeBegin(Device, Irp);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    if (Request.ByteCount == 0) {
        return NvmeCompleteIrp(Device, Irp, STATUS_SUCCESS, 0);
    }
    return NvmeDispatchRequest(Device, Irp, &Request);
}

NTSTATUS NTAPI NvmeDispatchFlush(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    const PNVME_DEVICE Device = DeviceObject->DeviceExtension;
    const NVME_REQUEST Request = NvmeDescribeRequest(Irp);
    const NTSTATUS Status = NvmeBegin(Device, Irp);
    return NT_SUCCESS(Status) ? NvmeDispatchRequest(Device, Irp, &Request) : Status;
}

//
// IOCTLs. Each answer is built whole and then copied as far as the caller's buffer goes.
//

typedef struct _NVME_PRODUCT {
    STORAGE_DEVICE_DESCRIPTOR Descriptor;
    CHAR Model[RTL_FIELD_SIZE(NVME_DEVICE, ModelNumber)];
    CHAR Firmware[RTL_FIELD_SIZE(NVME_DEVICE, FirmwareRevision)];
    CHAR Serial[RTL_FIELD_SIZE(NVME_DEVICE, SerialNumber)];
} NVME_PRODUCT;

typedef union _NVME_ANSWER {
    GET_LENGTH_INFORMATION Length;
    DISK_GEOMETRY Geometry;
    STORAGE_ADAPTER_DESCRIPTOR Adapter;
    NVME_PRODUCT Product;
} NVME_ANSWER, *PNVME_ANSWER;

// Fills the answer, which is all zero, and returns its length.
typedef ULONG NVME_ANSWER_ROUTINE(const NVME_DEVICE *Device, PNVME_ANSWER Answer);

static ULONG NvmeAnswerLength(const NVME_DEVICE *Device, PNVME_ANSWER Answer)
{
    Answer->Length.Length.QuadPart = (LONGLONG)(Device->BlockCount << Device->BlockShift);
    return sizeof(Answer->Length);
}

// A disk without heads: one track of one block, as many cylinders as there are blocks.
static ULONG NvmeAnswerGeometry(const NVME_DEVICE *Device, PNVME_ANSWER Answer)
{
    Answer->Geometry.MediaType = FixedMedia;
    Answer->Geometry.Cylinders.QuadPart = (LONGLONG)Device->BlockCount;
    Answer->Geometry.TracksPerCylinder = 1;
    Answer->Geometry.SectorsPerTrack = 1;
    Answer->Geometry.BytesPerSector = 1u << Device->BlockShift;
    return sizeof(Answer->Geometry);
}

static ULONG NvmeAnswerProduct(const NVME_DEVICE *Device, PNVME_ANSWER Answer)
{
    NVME_PRODUCT *Product = &Answer->Product;
    Product->Descriptor.Version = sizeof(Product->Descriptor);
    Product->Descriptor.Size = sizeof(*Product);
    Product->Descriptor.CommandQueueing = TRUE;
    Product->Descriptor.BusType = BusTypeNvme;
    Product->Descriptor.ProductIdOffset = FIELD_OFFSET(NVME_PRODUCT, Model);
    Product->Descriptor.ProductRevisionOffset = FIELD_OFFSET(NVME_PRODUCT, Firmware);
    Product->Descriptor.SerialNumberOffset = FIELD_OFFSET(NVME_PRODUCT, Serial);
    RtlCopyMemory(Product->Model, Device->ModelNumber, sizeof(Product->Model));
    RtlCopyMemory(Product->Firmware, Device->FirmwareRevision, sizeof(Product->Firmware));
    RtlCopyMemory(Product->Serial, Device->SerialNumber, sizeof(Product->Serial));
    return sizeof(*Product);
}

static ULONG NvmeAnswerAdapter(const NVME_DEVICE *Device, PNVME_ANSWER Answer)
{
    Answer->Adapter.Version = sizeof(Answer->Adapter);
    Answer->Adapter.Size = sizeof(Answer->Adapter);
    Answer->Adapter.MaximumTransferLength = Device->MaximumTransferBytes;
    Answer->Adapter.MaximumPhysicalPages = Device->MaximumTransferBytes / PAGE_SIZE + 1;
    Answer->Adapter.AlignmentMask = Device->Self->AlignmentRequirement;
    Answer->Adapter.CommandQueueing = TRUE;
    Answer->Adapter.BusType = BusTypeNvme;
    return sizeof(Answer->Adapter);
}

#define NVME_NO_PROPERTY MAXULONG

typedef struct _NVME_IOCTL {
    ULONG ControlCode;
    ULONG PropertyId;
    ULONG LeastByteCount; // a shorter output buffer is refused
    NVME_ANSWER_ROUTINE *Routine;
} NVME_IOCTL;

static const NVME_IOCTL NvmeIoctls[] = {
    {IOCTL_DISK_GET_LENGTH_INFO, NVME_NO_PROPERTY, sizeof(GET_LENGTH_INFORMATION),
     NvmeAnswerLength},
    {IOCTL_DISK_GET_DRIVE_GEOMETRY, NVME_NO_PROPERTY, sizeof(DISK_GEOMETRY), NvmeAnswerGeometry},
    {IOCTL_STORAGE_QUERY_PROPERTY, StorageDeviceProperty, sizeof(STORAGE_DESCRIPTOR_HEADER),
     NvmeAnswerProduct},
    {IOCTL_STORAGE_QUERY_PROPERTY, StorageAdapterProperty, sizeof(STORAGE_DESCRIPTOR_HEADER),
     NvmeAnswerAdapter},
};

static const NVME_IOCTL *NvmeFindIoctl(ULONG ControlCode, ULONG PropertyId)
{
    for (ULONG Index = 0; Index < ARRAYSIZE(NvmeIoctls); Index += 1) {
        if (NvmeIoctls[Index].ControlCode == ControlCode &&
            NvmeIoctls[Index].PropertyId == PropertyId) {
            return &NvmeIoctls[Index];
        }
    }
    return NULL;
}

NTSTATUS NTAPI NvmeDispatchDeviceControl(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    const PNVME_DEVICE Device = DeviceObject->DeviceExtension;
    const IO_STACK_LOCATION *Stack = IoGetCurrentIrpStackLocation(Irp);
    const ULONG ControlCode = Stack->Parameters.DeviceIoControl.IoControlCode;
    const ULONG OutputByteCount = Stack->Parameters.DeviceIoControl.OutputBufferLength;
    STORAGE_PROPERTY_QUERY Query = {.PropertyId = NVME_NO_PROPERTY,
                                    .QueryType = PropertyStandardQuery};

    const NTSTATUS Status = NvmeBegin(Device, Irp);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    if (Device->State != NvmeStarted) {
        return NvmeCompleteIrp(Device, Irp, STATUS_DEVICE_NOT_READY, 0);
    }
    if (ControlCode == IOCTL_STORAGE_QUERY_PROPERTY) {
        if (Stack->Parameters.DeviceIoControl.InputBufferLength < sizeof(Query)) {
            return NvmeCompleteIrp(Device, Irp, STATUS_INVALID_PARAMETER, 0);
        }
        Query = *(const STORAGE_PROPERTY_QUERY *)Irp->AssociatedIrp.SystemBuffer;
    }
    const NVME_IOCTL *Ioctl = NvmeFindIoctl(ControlCode, Query.PropertyId);
    if (Ioctl == NULL) {
        return NvmeCompleteIrp(Device, Irp, STATUS_INVALID_DEVICE_REQUEST, 0);
    }
    if (Query.QueryType == PropertyExistsQuery) {
        return NvmeCompleteIrp(Device, Irp, STATUS_SUCCESS, 0);
    }
    if (OutputByteCount < Ioctl->LeastByteCount) {
        return NvmeCompleteIrp(Device, Irp, STATUS_BUFFER_TOO_SMALL, 0);
    }
    NVME_ANSWER Answer;
    RtlZeroMemory(&Answer, sizeof(Answer));
    const ULONG ByteCount = NvmeSmaller(Ioctl->Routine(Device, &Answer), OutputByteCount);
    RtlCopyMemory(Irp->AssociatedIrp.SystemBuffer, &Answer, ByteCount);
    return NvmeCompleteIrp(Device, Irp, STATUS_SUCCESS, ByteCount);
}
