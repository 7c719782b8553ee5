// Control requests to disks: what disk it is.
#include "nvme.h"

//
// IOCTLs. Each answer is built whole and then copied as far as the caller's buffer goes.
//

typedef struct _NVME_PRODUCT {
    STORAGE_DEVICE_DESCRIPTOR Descriptor;
    CHAR Model[RTL_FIELD_SIZE(NVME_CONTROLLER, ModelNumber)];
    CHAR Firmware[RTL_FIELD_SIZE(NVME_CONTROLLER, FirmwareRevision)];
    CHAR Serial[RTL_FIELD_SIZE(NVME_CONTROLLER, SerialNumber)];
} NVME_PRODUCT;

typedef union _NVME_ANSWER {
    GET_LENGTH_INFORMATION Length;
    DISK_GEOMETRY Geometry;
    STORAGE_ADAPTER_DESCRIPTOR Adapter;
    NVME_PRODUCT Product;
} NVME_ANSWER, *PNVME_ANSWER;

// Fills the answer, which is all zero, and returns its length.
typedef ULONG NVME_ANSWER_ROUTINE(const NVME_NAMESPACE *Namespace, PNVME_ANSWER Answer);

static ULONG NvmeAnswerLength(const NVME_NAMESPACE *Namespace, PNVME_ANSWER Answer)
{
    Answer->Length.Length.QuadPart = (LONGLONG)(Namespace->ByteCount);
    return sizeof(Answer->Length);
}

// A disk without heads: one track of one block, as many cylinders as there are blocks.
static ULONG NvmeAnswerGeometry(const NVME_NAMESPACE *Namespace, PNVME_ANSWER Answer)
{
    Answer->Geometry.MediaType = FixedMedia;
    Answer->Geometry.Cylinders.QuadPart = (LONGLONG)Namespace->BlockCount;
    Answer->Geometry.TracksPerCylinder = 1;
    Answer->Geometry.SectorsPerTrack = 1;
    Answer->Geometry.BytesPerSector = 1u << Namespace->BlockShift;
    return sizeof(Answer->Geometry);
}

static ULONG NvmeAnswerProduct(const NVME_NAMESPACE *Namespace, PNVME_ANSWER Answer)
{
    NVME_PRODUCT *Product = &Answer->Product;
    Product->Descriptor.Version = sizeof(Product->Descriptor);
    Product->Descriptor.Size = sizeof(*Product);
    Product->Descriptor.CommandQueueing = TRUE;
    Product->Descriptor.BusType = BusTypeNvme;
    Product->Descriptor.ProductIdOffset = FIELD_OFFSET(NVME_PRODUCT, Model);
    Product->Descriptor.ProductRevisionOffset = FIELD_OFFSET(NVME_PRODUCT, Firmware);
    Product->Descriptor.SerialNumberOffset = FIELD_OFFSET(NVME_PRODUCT, Serial);
    RtlCopyMemory(Product->Model, Namespace->Device.Controller->ModelNumber,
                  sizeof(Product->Model));
    RtlCopyMemory(Product->Firmware, Namespace->Device.Controller->FirmwareRevision,
                  sizeof(Product->Firmware));
    RtlCopyMemory(Product->Serial, Namespace->Device.Controller->SerialNumber,
                  sizeof(Product->Serial));
    return sizeof(*Product);
}

static ULONG NvmeAnswerAdapter(const NVME_NAMESPACE *Namespace, PNVME_ANSWER Answer)
{
    Answer->Adapter.Version = sizeof(Answer->Adapter);
    Answer->Adapter.Size = sizeof(Answer->Adapter);
    Answer->Adapter.MaximumTransferLength = Namespace->Device.Controller->MaximumTransferBytes;
    Answer->Adapter.MaximumPhysicalPages =
        Namespace->Device.Controller->MaximumTransferBytes / PAGE_SIZE + 1;
    Answer->Adapter.AlignmentMask = Namespace->Device.Self->AlignmentRequirement;
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

static NTSTATUS NvmeComplete(PNVME_NAMESPACE Namespace, PIRP Irp, NTSTATUS Status,
                             ULONG_PTR Information)
{
    IoReleaseRemoveLock(&Namespace->RemoveLock, Irp);
    return NvmeFinishIrp(Irp, Status, Information);
}

static NTSTATUS NvmeNamespaceControl(PNVME_NAMESPACE Namespace, PIRP Irp)
{
    const IO_STACK_LOCATION *Stack = IoGetCurrentIrpStackLocation(Irp);
    const ULONG ControlCode = Stack->Parameters.DeviceIoControl.IoControlCode;
    const ULONG OutputByteCount = Stack->Parameters.DeviceIoControl.OutputBufferLength;
    STORAGE_PROPERTY_QUERY Query = {.PropertyId = NVME_NO_PROPERTY,
                                    .QueryType = PropertyStandardQuery};

    const NTSTATUS Status = IoAcquireRemoveLock(&Namespace->RemoveLock, Irp);
    if (!NT_SUCCESS(Status)) {
        return NvmeFinishIrp(Irp, Status, 0);
    }
    if (Namespace->Device.Controller->State != NvmeReady) {
        return NvmeComplete(Namespace, Irp, STATUS_DEVICE_NOT_READY, 0);
    }
    if (ControlCode == IOCTL_STORAGE_QUERY_PROPERTY) {
        if (Stack->Parameters.DeviceIoControl.InputBufferLength < sizeof(Query)) {
            return NvmeComplete(Namespace, Irp, STATUS_INVALID_PARAMETER, 0);
        }
        Query = *(const STORAGE_PROPERTY_QUERY *)Irp->AssociatedIrp.SystemBuffer;
    }
    const NVME_IOCTL *Ioctl = NvmeFindIoctl(ControlCode, Query.PropertyId);
    if (Ioctl == NULL) {
        return NvmeComplete(Namespace, Irp, STATUS_INVALID_DEVICE_REQUEST, 0);
    }
    if (Query.QueryType == PropertyExistsQuery) {
        return NvmeComplete(Namespace, Irp, STATUS_SUCCESS, 0);
    }
    if (OutputByteCount < Ioctl->LeastByteCount) {
        return NvmeComplete(Namespace, Irp, STATUS_BUFFER_TOO_SMALL, 0);
    }
    NVME_ANSWER Answer;
    RtlZeroMemory(&Answer, sizeof(Answer));
    const ULONG ByteCount = NvmeSmaller(Ioctl->Routine(Namespace, &Answer), OutputByteCount);
    RtlCopyMemory(Irp->AssociatedIrp.SystemBuffer, &Answer, ByteCount);
    return NvmeComplete(Namespace, Irp, STATUS_SUCCESS, ByteCount);
}

NTSTATUS NTAPI NvmeDispatchDeviceControl(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    const PNVME_DEVICE Device = NvmeDeviceOf(DeviceObject);
    if (Device->Kind != NvmeDeviceNamespace) {
        return NvmeFinishIrp(Irp, STATUS_INVALID_DEVICE_REQUEST, 0);
    }
    return NvmeNamespaceControl((PNVME_NAMESPACE)Device, Irp);
}
