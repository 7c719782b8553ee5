// Reading a disk for reports: its identity, checksums, partitions, and what file system they hold.
#pragma once

#include <wdm.h>

typedef struct _KI_DISK {
    PDEVICE_OBJECT Device;
    ULONG64 ByteCount;
    ULONG SectorBytes;
    PMDL Mdl; // the buffer
    PUCHAR Buffer;
    ULONG BufferBytes; // whole sectors, and no more than one request may transfer
    BOOLEAN IsLost;    // a request never ended: the device keeps the buffer
    CHAR Model[48];
    CHAR Serial[32];
} KI_DISK, *PKI_DISK;

// Asks the disk what it is and allocates a buffer; KiCloseDisk frees it. Returns the driver's
// status, STATUS_INSUFFICIENT_RESOURCES, or STATUS_NOT_SUPPORTED for sectors that do not fit.
_Must_inspect_result_ NTSTATUS KiOpenDisk(_In_ PDEVICE_OBJECT Device, _Out_ PKI_DISK Disk);
VOID KiCloseDisk(_Inout_ PKI_DISK Disk);

// Called with successive pieces of what is read; an error ends the reading.
typedef NTSTATUS KI_CHUNK_ROUTINE(_In_reads_bytes_(ByteCount) const UCHAR *Bytes,
                                  _In_ ULONG ByteCount, _Inout_ PVOID Context);

// Reads [FirstByte, FirstByte + ByteCount), which begins at a sector, piece by piece through the
// disk's buffer. Returns the first error of the driver (STATUS_IO_TIMEOUT when it never answers) or
// of Routine; STATUS_END_OF_FILE: beyond the disk.
_Must_inspect_result_ NTSTATUS KiReadDisk(_Inout_ PKI_DISK Disk, _In_ ULONG64 FirstByte,
                                          _In_ ULONG64 ByteCount, _In_ KI_CHUNK_ROUTINE *Routine,
                                          _Inout_ PVOID Context);

_Must_inspect_result_ NTSTATUS KiReadDiskInto(_Inout_ PKI_DISK Disk, _In_ ULONG64 FirstByte,
                                              _Out_writes_bytes_(ByteCount) PVOID To,
                                              _In_ ULONG ByteCount);

_Must_inspect_result_ NTSTATUS KiChecksumDisk(_Inout_ PKI_DISK Disk, _In_ ULONG64 FirstByte,
                                              _In_ ULONG64 ByteCount, _Out_ PULONG Crc);

//
// gpt.c
//

#define KI_PARTITION_NAME_CHARS 36

typedef struct _KI_PARTITION {
    ULONG Number; // from 1, its place in the table
    ULONG64 FirstByte;
    ULONG64 ByteCount;
    PCSTR TypeName;
    CHAR Name[KI_PARTITION_NAME_CHARS + 1];
} KI_PARTITION, *PKI_PARTITION;

// The used entries of the partition table, Capacity at most, *Count of them. Uses the copy at the
// end of the disk when the one at the beginning is damaged. STATUS_DISK_CORRUPT_ERROR: neither is
// whole. Otherwise as KiReadDisk.
_Must_inspect_result_ NTSTATUS KiReadPartitions(_Inout_ PKI_DISK Disk,
                                                _Out_writes_(Capacity) PKI_PARTITION Partitions,
                                                _In_ ULONG Capacity, _Out_ PULONG Count);

//
// fat.c
//

#define KI_FAT_LABEL_CHARS 11

typedef struct _KI_FAT_VOLUME {
    ULONG Bits; // 12, 16 or 32
    ULONG ClusterBytes;
    ULONG64 ClusterCount;
    CHAR Label[KI_FAT_LABEL_CHARS + 1];
} KI_FAT_VOLUME, *PKI_FAT_VOLUME;

// STATUS_UNRECOGNIZED_MEDIA: not FAT. Otherwise as KiReadDisk.
_Must_inspect_result_ NTSTATUS KiReadFatVolume(_Inout_ PKI_DISK Disk,
                                               _In_ const KI_PARTITION *Partition,
                                               _Out_ PKI_FAT_VOLUME Volume);
