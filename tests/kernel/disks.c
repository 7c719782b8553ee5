// Disks as tests see them; disks.h says what is what.
#include "tests/kernel/disks.h"

#include "kernel/inc/io.h"

#include <ntddstor.h>

#define SCRATCH_SERIAL "SCRATCH"
#define PRODUCT_BYTES 256

static NTSTATUS Ask(PDEVICE_OBJECT Device, ULONG Code, PVOID Output, ULONG OutputBytes)
{
    ULONG_PTR Information;
    return IoControlSynchronously(Device, Code, NULL, 0, Output, OutputBytes, &Information);
}

static NTSTATUS AskProperty(PDEVICE_OBJECT Device, STORAGE_PROPERTY_ID Id, PVOID Output,
                            ULONG OutputBytes)
{
    const STORAGE_PROPERTY_QUERY Query = {.PropertyId = Id, .QueryType = PropertyStandardQuery};
    ULONG_PTR Information;
    return IoControlSynchronously(Device, IOCTL_STORAGE_QUERY_PROPERTY, &Query, sizeof(Query),
                                  Output, OutputBytes, &Information);
}

BOOLEAN KtOpenDisk(ULONG Index, PKT_DISK Disk)
{
    GET_LENGTH_INFORMATION Length = {0};
    DISK_GEOMETRY Geometry = {0};
    STORAGE_ADAPTER_DESCRIPTOR Adapter = {0};
    union {
        STORAGE_DEVICE_DESCRIPTOR Descriptor;
        CHAR Bytes[PRODUCT_BYTES];
    } Product = {0};

    RtlZeroMemory(Disk, sizeof(*Disk));
    const PDEVICE_OBJECT Device = IoFindDevice(FILE_DEVICE_DISK, Index);
    if (Device == NULL) {
        return FALSE;
    }
    KT_EQUAL(Ask(Device, IOCTL_DISK_GET_LENGTH_INFO, &Length, sizeof(Length)), STATUS_SUCCESS);
    KT_EQUAL(Ask(Device, IOCTL_DISK_GET_DRIVE_GEOMETRY, &Geometry, sizeof(Geometry)),
             STATUS_SUCCESS);
    KT_EQUAL(AskProperty(Device, StorageAdapterProperty, &Adapter, sizeof(Adapter)),
             STATUS_SUCCESS);
    KT_EQUAL(AskProperty(Device, StorageDeviceProperty, &Product, sizeof(Product)), STATUS_SUCCESS);
    *Disk =
        (KT_DISK){.Device = Device,
                  .ByteCount = (ULONG64)Length.Length.QuadPart,
                  .BlockBytes = Geometry.BytesPerSector,
                  .CommandBytes = Adapter.MaximumTransferLength,
                  .IsScratch = RtlEqualMemory(Product.Bytes + Product.Descriptor.SerialNumberOffset,
                                              SCRATCH_SERIAL, sizeof(SCRATCH_SERIAL) - 1)};
    return KT_CHECK(Disk->BlockBytes != 0 && Disk->ByteCount != 0 && Disk->CommandBytes != 0);
}

BOOLEAN KtOpenScratchDisk(PKT_DISK Disk)
{
    for (ULONG Index = 0; KtOpenDisk(Index, Disk); Index += 1) {
        if (Disk->IsScratch) {
            return TRUE;
        }
    }
    return FALSE;
}

static VOID ShuffleFrames(PMDL Mdl)
{
    const PPFN_NUMBER Frames = MmGetMdlPfnArray(Mdl);
    const ULONG Count = (ULONG)BYTES_TO_PAGES(MmGetMdlByteCount(Mdl));
    for (ULONG Index = 0; Index < Count / 2; Index += 2) {
        const PFN_NUMBER Frame = Frames[Index];
        Frames[Index] = Frames[Count - 1 - Index];
        Frames[Count - 1 - Index] = Frame;
    }
}

BOOLEAN KtAllocateBuffer(PKT_BUFFER Buffer, ULONG ByteCount)
{
    Buffer->Mdl = KtAllocatePages((ULONG)BYTES_TO_PAGES(ByteCount));
    if (Buffer->Mdl == NULL) {
        return FALSE;
    }
    ShuffleFrames(Buffer->Mdl);
    Buffer->Va =
        MmGetSystemAddressForMdlSafe(Buffer->Mdl, NormalPagePriority | MdlMappingNoExecute);
    if (Buffer->Va == NULL) {
        KtFreePages(Buffer->Mdl);
        return FALSE;
    }
    return TRUE;
}

VOID KtFreeBuffer(PKT_BUFFER Buffer)
{
    MmUnmapLockedPages(Buffer->Va, Buffer->Mdl);
    KtFreePages(Buffer->Mdl);
}

PMDL KtDescribe(PVOID Va, ULONG ByteCount)
{
    const PMDL Mdl = IoAllocateMdl(Va, ByteCount, FALSE, FALSE, NULL);
    if (Mdl != NULL) {
        MmBuildMdlForNonPagedPool(Mdl);
    }
    return Mdl;
}

static NTSTATUS NTAPI TransferIsDone(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    const PKT_TRANSFER Transfer = Context;
    Transfer->Result = Irp->IoStatus;
    KeSetEvent(&Transfer->Done, IO_NO_INCREMENT, FALSE);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static BOOLEAN StartIrp(PKT_TRANSFER Transfer, const KT_DISK *Disk, UCHAR MajorFunction,
                        ULONG64 Offset, ULONG ByteCount)
{
    Transfer->Irp = IoAllocateIrp(Disk->Device->StackSize, FALSE);
    if (Transfer->Irp == NULL) {
        return FALSE;
    }
    KeInitializeEvent(&Transfer->Done, NotificationEvent, FALSE);
    const PIO_STACK_LOCATION Stack = IoGetNextIrpStackLocation(Transfer->Irp);
    Transfer->Irp->MdlAddress = Transfer->Mdl;
    Stack->MajorFunction = MajorFunction;
    Stack->Flags = Transfer->StackFlags;
    // Parameters.Write has the same layout.
    Stack->Parameters.Read.Length = ByteCount;
    Stack->Parameters.Read.ByteOffset.QuadPart = (LONGLONG)Offset;
    IoSetCompletionRoutine(Transfer->Irp, TransferIsDone, Transfer, TRUE, TRUE, TRUE);
    (VOID) IoCallDriver(Disk->Device, Transfer->Irp);
    return TRUE;
}

BOOLEAN KtStartTransfer(PKT_TRANSFER Transfer, const KT_DISK *Disk, UCHAR MajorFunction, PVOID Va,
                        ULONG64 Offset, ULONG ByteCount)
{
    Transfer->Mdl = KtDescribe(Va, ByteCount);
    if (Transfer->Mdl == NULL) {
        return FALSE;
    }
    if (!StartIrp(Transfer, Disk, MajorFunction, Offset, ByteCount)) {
        IoFreeMdl(Transfer->Mdl);
        return FALSE;
    }
    return TRUE;
}

NTSTATUS KtWaitForTransfer(PKT_TRANSFER Transfer)
{
    KeWaitForSingleObject(&Transfer->Done, Executive, KernelMode, FALSE, NULL);
    IoFreeIrp(Transfer->Irp);
    if (Transfer->Mdl != NULL) {
        IoFreeMdl(Transfer->Mdl);
    }
    return Transfer->Result.Status;
}

NTSTATUS KtTransferDisk(const KT_DISK *Disk, UCHAR MajorFunction, PVOID Va, ULONG64 Offset,
                        ULONG ByteCount)
{
    KT_TRANSFER Transfer = {.StackFlags = 0};
    return KtStartTransfer(&Transfer, Disk, MajorFunction, Va, Offset, ByteCount)
               ? KtWaitForTransfer(&Transfer)
               : STATUS_INSUFFICIENT_RESOURCES;
}

NTSTATUS KtFlushDisk(const KT_DISK *Disk)
{
    KT_TRANSFER Transfer = {.Mdl = NULL};
    return StartIrp(&Transfer, Disk, IRP_MJ_FLUSH_BUFFERS, 0, 0) ? KtWaitForTransfer(&Transfer)
                                                                 : STATUS_INSUFFICIENT_RESOURCES;
}
