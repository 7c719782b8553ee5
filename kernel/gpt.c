// The partition table of UEFI (GPT): a header in sector 1, an array of entries that it points to,
// and a copy of both at the end of the disk. Header and array carry CRC-32s; nothing is believed
// before they are right.
#include <stddef.h>

#include "kernel/disk.h"
#include "kernel/inc/rtl.h"

#define GPT_SIGNATURE "EFI PART"
#define GPT_SIGNATURE_CHARS 8
#define GPT_MINIMUM_ENTRY_BYTES 128
#define GPT_MAXIMUM_ENTRY_BYTES PAGE_SIZE
#define GPT_MAXIMUM_ENTRIES 1024
#define GPT_TAG 'tpgK'

typedef struct __attribute__((packed)) _GPT_HEADER {
    CHAR Signature[GPT_SIGNATURE_CHARS];
    ULONG Revision;
    ULONG HeaderBytes; // that HeaderCrc is over, with 0 in its own place
    ULONG HeaderCrc;
    ULONG Reserved;
    ULONG64 MySector;
    ULONG64 OtherSector;
    ULONG64 FirstUsableSector;
    ULONG64 LastUsableSector;
    GUID DiskId;
    ULONG64 EntriesSector;
    ULONG EntryCount;
    ULONG EntryBytes;
    ULONG EntriesCrc;
} GPT_HEADER;

typedef struct _GPT_ENTRY {
    GUID Type; // all zero: unused
    GUID Id;
    ULONG64 FirstSector;
    ULONG64 LastSector;
    ULONG64 Attributes;
    WCHAR Name[KI_PARTITION_NAME_CHARS];
} GPT_ENTRY;

C_ASSERT(sizeof(GPT_HEADER) == 92 && sizeof(GPT_ENTRY) == GPT_MINIMUM_ENTRY_BYTES);

typedef struct _GPT_TYPE_NAME {
    GUID Type;
    PCSTR Name;
} GPT_TYPE_NAME;

static const GPT_TYPE_NAME KiGptTypes[] = {
    {{0xC12A7328, 0xF81F, 0x11D2, {0xBA, 0x4B, 0x00, 0xA0, 0xC9, 0x3E, 0xC9, 0x3B}}, "EFI system"},
    {{0xEBD0A0A2, 0xB9E5, 0x4433, {0x87, 0xC0, 0x68, 0xB6, 0xB7, 0x26, 0x99, 0xC7}}, "basic data"},
    {{0x0FC63DAF, 0x8483, 0x4772, {0x8E, 0x79, 0x3D, 0x69, 0xD8, 0x47, 0x7D, 0xE4}}, "Linux data"},
    {{0x21686148, 0x6449, 0x6E6F, {0x74, 0x4E, 0x65, 0x65, 0x64, 0x45, 0x46, 0x49}}, "BIOS boot"},
};

//
// The header.
//

// Sector points to SectorBytes bytes, and is changed: the CRC counts as 0 in itself.
static BOOLEAN KiIsHeaderWhole(PUCHAR Sector, ULONG SectorBytes)
{
    GPT_HEADER Header;
    RtlCopyMemory(&Header, Sector, sizeof(Header));
    if (!RtlEqualMemory(Header.Signature, GPT_SIGNATURE, GPT_SIGNATURE_CHARS) ||
        Header.HeaderBytes < sizeof(Header) || Header.HeaderBytes > SectorBytes) {
        return FALSE;
    }
    RtlZeroMemory(Sector + offsetof(GPT_HEADER, HeaderCrc), sizeof(Header.HeaderCrc));
    return RtlCrc32(Sector, Header.HeaderBytes, 0) == Header.HeaderCrc;
}

static BOOLEAN KiIsHeaderSensible(const KI_DISK *Disk, const GPT_HEADER *Header, ULONG64 MySector)
{
    return Header->MySector == MySector && Header->EntryBytes >= GPT_MINIMUM_ENTRY_BYTES &&
           Header->EntryBytes <= GPT_MAXIMUM_ENTRY_BYTES &&
           (Header->EntryBytes & (Header->EntryBytes - 1)) == 0 &&
           Header->EntryCount <= GPT_MAXIMUM_ENTRIES &&
           Header->EntriesSector < Disk->ByteCount / Disk->SectorBytes;
}

// The header of a table that is whole, entries included.
static NTSTATUS KiReadTableHeader(PKI_DISK Disk, ULONG64 MySector, GPT_HEADER *Header)
{
    PUCHAR Sector = ExAllocatePool2(POOL_FLAG_NON_PAGED, Disk->SectorBytes, GPT_TAG);
    if (Sector == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    NTSTATUS Status = KiReadDiskInto(Disk, MySector * Disk->SectorBytes, Sector, Disk->SectorBytes);
    if (NT_SUCCESS(Status)) {
        RtlCopyMemory(Header, Sector, sizeof(*Header));
        if (!KiIsHeaderWhole(Sector, Disk->SectorBytes) ||
            !KiIsHeaderSensible(Disk, Header, MySector)) {
            Status = STATUS_DISK_CORRUPT_ERROR;
        }
    }
    ExFreePoolWithTag(Sector, GPT_TAG);
    return Status;
}

static NTSTATUS KiCheckEntries(PKI_DISK Disk, const GPT_HEADER *Header)
{
    ULONG Crc;
    const NTSTATUS Status = KiChecksumDisk(Disk, Header->EntriesSector * Disk->SectorBytes,
                                           (ULONG64)Header->EntryCount * Header->EntryBytes, &Crc);
    return NT_SUCCESS(Status) && Crc != Header->EntriesCrc ? STATUS_DISK_CORRUPT_ERROR : Status;
}

static NTSTATUS KiFindTable(PKI_DISK Disk, GPT_HEADER *Header)
{
    const ULONG64 Sectors[] = {1, Disk->ByteCount / Disk->SectorBytes - 1};
    NTSTATUS Status = STATUS_DISK_CORRUPT_ERROR;
    for (ULONG Copy = 0; Copy < ARRAYSIZE(Sectors); Copy += 1) {
        Status = KiReadTableHeader(Disk, Sectors[Copy], Header);
        if (NT_SUCCESS(Status)) {
            Status = KiCheckEntries(Disk, Header);
        }
        if (Status != STATUS_DISK_CORRUPT_ERROR) {
            return Status;
        }
    }
    return Status;
}

//
// The entries.
//

static PCSTR KiGptTypeName(const GUID *Type)
{
    for (ULONG Row = 0; Row < ARRAYSIZE(KiGptTypes); Row += 1) {
        if (RtlEqualMemory(&KiGptTypes[Row].Type, Type, sizeof(*Type))) {
            return KiGptTypes[Row].Name;
        }
    }
    return "other type";
}

// An entry that reaches beyond the disk is as good as unused.
static BOOLEAN KiIsEntryUsed(const KI_DISK *Disk, const GPT_ENTRY *Entry)
{
    const GUID Unused = {0};
    return !RtlEqualMemory(&Entry->Type, &Unused, sizeof(Unused)) &&
           Entry->FirstSector <= Entry->LastSector &&
           Entry->LastSector < Disk->ByteCount / Disk->SectorBytes;
}

// What is not printable ASCII becomes a question mark.
static VOID KiNarrowName(const GPT_ENTRY *Entry, PCHAR Name)
{
    ULONG Length = 0;
    for (; Length < KI_PARTITION_NAME_CHARS && Entry->Name[Length] != 0; Length += 1) {
        const WCHAR Character = Entry->Name[Length];
        Name[Length] = Character >= ' ' && Character <= '~' ? (CHAR)Character : '?';
    }
    Name[Length] = 0;
}

// How far the reading of entries has come.
typedef struct _KI_ENTRY_READER {
    const KI_DISK *Disk;
    ULONG EntryBytes;
    ULONG NextNumber;
    PKI_PARTITION Partitions;
    ULONG Capacity;
    ULONG Count;
} KI_ENTRY_READER;

static VOID KiTakeEntry(KI_ENTRY_READER *Reader, const GPT_ENTRY *Entry)
{
    if (!KiIsEntryUsed(Reader->Disk, Entry) || Reader->Count == Reader->Capacity) {
        return;
    }
    PKI_PARTITION Partition = &Reader->Partitions[Reader->Count++];
    Partition->Number = Reader->NextNumber;
    Partition->FirstByte = Entry->FirstSector * Reader->Disk->SectorBytes;
    Partition->ByteCount = (Entry->LastSector - Entry->FirstSector + 1) * Reader->Disk->SectorBytes;
    Partition->TypeName = KiGptTypeName(&Entry->Type);
    KiNarrowName(Entry, Partition->Name);
}

// Pieces hold whole entries: both sizes are powers of two, and a piece is not the smaller one.
static NTSTATUS KiTakeEntries(const UCHAR *Bytes, ULONG ByteCount, PVOID Context)
{
    KI_ENTRY_READER *Reader = Context;
    for (ULONG Offset = 0; Offset < ByteCount; Offset += Reader->EntryBytes) {
        GPT_ENTRY Entry;
        RtlCopyMemory(&Entry, Bytes + Offset, sizeof(Entry));
        KiTakeEntry(Reader, &Entry);
        Reader->NextNumber++;
    }
    return STATUS_SUCCESS;
}

NTSTATUS KiReadPartitions(PKI_DISK Disk, PKI_PARTITION Partitions, ULONG Capacity, PULONG Count)
{
    GPT_HEADER Header;
    *Count = 0;
    NTSTATUS Status = KiFindTable(Disk, &Header);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    if (Disk->BufferBytes % Header.EntryBytes != 0) {
        return STATUS_NOT_SUPPORTED;
    }
    KI_ENTRY_READER Reader = {.Disk = Disk,
                              .EntryBytes = Header.EntryBytes,
                              .NextNumber = 1,
                              .Partitions = Partitions,
                              .Capacity = Capacity};
    Status = KiReadDisk(Disk, Header.EntriesSector * Disk->SectorBytes,
                        (ULONG64)Header.EntryCount * Header.EntryBytes, KiTakeEntries, &Reader);
    *Count = Reader.Count;
    return Status;
}
