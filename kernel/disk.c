// Reading a disk through its driver: IRP_MJ_READ into pages that an MDL describes, in pieces that
// are as large as one request may be. Capacity and limits come from IOCTLs.
#include "kernel/disk.h"

#include <ntddstor.h>

#include "kernel/inc/io.h"
#include "kernel/inc/rtl.h"

#define KI_BUFFER_BYTES 0x100000u
#define KI_MAXIMUM_SECTOR_BYTES PAGE_SIZE
#define KI_DESCRIPTOR_BYTES 512

//
// What disk it is.
//

static NTSTATUS KiAskDisk(PDEVICE_OBJECT Device, ULONG Code, PVOID Answer, ULONG ByteCount)
{
    ULONG_PTR Information;
    const NTSTATUS Status =
        IoControlSynchronously(Device, Code, NULL, 0, Answer, ByteCount, &Information);
    return NT_SUCCESS(Status) && Information < ByteCount ? STATUS_INFO_LENGTH_MISMATCH : Status;
}

// A part of the answer that does not arrive stays zero.
static NTSTATUS KiAskProperty(PDEVICE_OBJECT Device, STORAGE_PROPERTY_ID Property, PVOID Answer,
                              ULONG ByteCount)
{
    const STORAGE_PROPERTY_QUERY Query = {.PropertyId = Property,
                                          .QueryType = PropertyStandardQuery};
    ULONG_PTR Information;
    RtlZeroMemory(Answer, ByteCount);
    return IoControlSynchronously(Device, IOCTL_STORAGE_QUERY_PROPERTY, &Query, sizeof(Query),
                                  Answer, ByteCount, &Information);
}

// Copies the string at Offset of a descriptor without the blanks at its ends.
static VOID KiCopyIdentity(const CHAR *Descriptor, ULONG Offset, PCHAR To, SIZE_T ToByteCount)
{
    *To = 0;
    if (Offset == 0 || Offset >= KI_DESCRIPTOR_BYTES) {
        return;
    }
    while (Descriptor[Offset] == ' ') {
        Offset++;
    }
    RtlCopyString(To, ToByteCount, Descriptor + Offset);
    for (SIZE_T Length = RtlStringLength(To); Length > 0 && To[Length - 1] == ' '; Length--) {
        To[Length - 1] = 0;
    }
}

static VOID KiAskIdentity(PKI_DISK Disk)
{
    // One byte more than is asked for ends a string that does not.
    DECLSPEC_ALIGN(8) CHAR Buffer[KI_DESCRIPTOR_BYTES + 1];
    Buffer[KI_DESCRIPTOR_BYTES] = 0;
    if (!NT_SUCCESS(
            KiAskProperty(Disk->Device, StorageDeviceProperty, Buffer, KI_DESCRIPTOR_BYTES))) {
        return;
    }
    const STORAGE_DEVICE_DESCRIPTOR *Descriptor = (const STORAGE_DEVICE_DESCRIPTOR *)Buffer;
    KiCopyIdentity(Buffer, Descriptor->ProductIdOffset, Disk->Model, sizeof(Disk->Model));
    KiCopyIdentity(Buffer, Descriptor->SerialNumberOffset, Disk->Serial, sizeof(Disk->Serial));
}

static NTSTATUS KiAskSizes(PKI_DISK Disk, PULONG MaximumTransferBytes)
{
    GET_LENGTH_INFORMATION Length;
    DISK_GEOMETRY Geometry;
    STORAGE_ADAPTER_DESCRIPTOR Adapter;
    NTSTATUS Status = KiAskDisk(Disk->Device, IOCTL_DISK_GET_LENGTH_INFO, &Length, sizeof(Length));
    if (NT_SUCCESS(Status)) {
        Status =
            KiAskDisk(Disk->Device, IOCTL_DISK_GET_DRIVE_GEOMETRY, &Geometry, sizeof(Geometry));
    }
    if (NT_SUCCESS(Status)) {
        Status = KiAskProperty(Disk->Device, StorageAdapterProperty, &Adapter, sizeof(Adapter));
    }
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    Disk->ByteCount = (ULONG64)Length.Length.QuadPart;
    Disk->SectorBytes = Geometry.BytesPerSector;
    *MaximumTransferBytes = Adapter.MaximumTransferLength;
    return STATUS_SUCCESS;
}

//
// The buffer.
//

static NTSTATUS KiAllocateBuffer(PKI_DISK Disk, ULONG MaximumTransferBytes)
{
    const ULONG Wanted =
        MaximumTransferBytes < KI_BUFFER_BYTES ? MaximumTransferBytes : KI_BUFFER_BYTES;
    const PHYSICAL_ADDRESS Lowest = {.QuadPart = 0};
    const PHYSICAL_ADDRESS Highest = {.QuadPart = MAXLONGLONG};
    Disk->Mdl =
        MmAllocatePagesForMdlEx(Lowest, Highest, Lowest, Wanted, MmCached, MM_DONT_ZERO_ALLOCATION);
    if (Disk->Mdl == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    Disk->Buffer =
        MmGetSystemAddressForMdlSafe(Disk->Mdl, NormalPagePriority | MdlMappingNoExecute);
    // There may be fewer pages than were asked for.
    const ULONG ByteCount =
        MmGetMdlByteCount(Disk->Mdl) < Wanted ? MmGetMdlByteCount(Disk->Mdl) : Wanted;
    Disk->BufferBytes = ByteCount - ByteCount % Disk->SectorBytes;
    return Disk->Buffer != NULL && Disk->BufferBytes != 0 ? STATUS_SUCCESS
                                                          : STATUS_INSUFFICIENT_RESOURCES;
}

VOID KiCloseDisk(PKI_DISK Disk)
{
    if (Disk->Mdl == NULL || Disk->IsLost) {
        return;
    }
    MmFreePagesFromMdl(Disk->Mdl);
    ExFreePool(Disk->Mdl);
    Disk->Mdl = NULL;
}

NTSTATUS KiOpenDisk(PDEVICE_OBJECT Device, PKI_DISK Disk)
{
    ULONG MaximumTransferBytes;
    *Disk = (KI_DISK){.Device = Device};
    NTSTATUS Status = KiAskSizes(Disk, &MaximumTransferBytes);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    if (Disk->SectorBytes == 0 || Disk->SectorBytes > KI_MAXIMUM_SECTOR_BYTES) {
        return STATUS_NOT_SUPPORTED;
    }
    KiAskIdentity(Disk);
    Status = KiAllocateBuffer(Disk, MaximumTransferBytes);
    if (!NT_SUCCESS(Status)) {
        KiCloseDisk(Disk);
    }
    return Status;
}

//
// Reading.
//

// Fills the buffer from Offset on; ByteCount is in whole sectors.
static NTSTATUS KiFillBuffer(PKI_DISK Disk, ULONG64 Offset, ULONG ByteCount)
{
    ULONG_PTR Information;
    const NTSTATUS Status = IoTransferSynchronously(Disk->Device, IRP_MJ_READ, Disk->Mdl, Offset,
                                                    ByteCount, &Information);
    if (Status == STATUS_PENDING) {
        Disk->IsLost = TRUE;
        return STATUS_IO_TIMEOUT;
    }
    return NT_SUCCESS(Status) && Information != ByteCount ? STATUS_DEVICE_DATA_ERROR : Status;
}

NTSTATUS KiReadDisk(PKI_DISK Disk, ULONG64 FirstByte, ULONG64 ByteCount, KI_CHUNK_ROUTINE *Routine,
                    PVOID Context)
{
    if (Disk->IsLost) {
        return STATUS_IO_TIMEOUT;
    }
    if (FirstByte > Disk->ByteCount || ByteCount > Disk->ByteCount - FirstByte) {
        return STATUS_END_OF_FILE;
    }
    while (ByteCount > 0) {
        const ULONG Piece = ByteCount < Disk->BufferBytes ? (ULONG)ByteCount : Disk->BufferBytes;
        const ULONG Sectors = (Piece + Disk->SectorBytes - 1) / Disk->SectorBytes;
        NTSTATUS Status = KiFillBuffer(Disk, FirstByte, Sectors * Disk->SectorBytes);
        if (NT_SUCCESS(Status)) {
            Status = Routine(Disk->Buffer, Piece, Context);
        }
        if (!NT_SUCCESS(Status)) {
            return Status;
        }
        FirstByte += Piece;
        ByteCount -= Piece;
    }
    return STATUS_SUCCESS;
}

static NTSTATUS KiCopyChunk(const UCHAR *Bytes, ULONG ByteCount, PVOID Context)
{
    PUCHAR *To = Context;
    RtlCopyMemory(*To, Bytes, ByteCount);
    *To += ByteCount;
    return STATUS_SUCCESS;
}

NTSTATUS KiReadDiskInto(PKI_DISK Disk, ULONG64 FirstByte, PVOID To, ULONG ByteCount)
{
    return KiReadDisk(Disk, FirstByte, ByteCount, KiCopyChunk, &To);
}

static NTSTATUS KiChecksumChunk(const UCHAR *Bytes, ULONG ByteCount, PVOID Context)
{
    PULONG Crc = Context;
    *Crc = RtlCrc32(Bytes, ByteCount, *Crc);
    return STATUS_SUCCESS;
}

NTSTATUS KiChecksumDisk(PKI_DISK Disk, ULONG64 FirstByte, ULONG64 ByteCount, PULONG Crc)
{
    *Crc = 0;
    return KiReadDisk(Disk, FirstByte, ByteCount, KiChecksumChunk, Crc);
}
