// FAT, as far as telling which FAT it is: the boot sector's parameter block.
//
// Nothing in it names the type: by definition it follows from the number of clusters.
#include "kernel/disk.h"
#include "kernel/inc/rtl.h"

#define FAT_BOOT_SIGNATURE 0xAA55
#define FAT_EXTENDED_SIGNATURE 0x29 // the label that follows is meant
#define FAT_DIRECTORY_ENTRY_BYTES 32
#define FAT12_CLUSTER_LIMIT 4085u
#define FAT16_CLUSTER_LIMIT 65525u

typedef struct __attribute__((packed)) _FAT_EXTENSION {
    UCHAR DriveNumber;
    UCHAR Reserved;
    UCHAR Signature;
    ULONG VolumeId;
    CHAR Label[KI_FAT_LABEL_CHARS];
    CHAR TypeText[8]; // not to be relied on
} FAT_EXTENSION;

typedef struct __attribute__((packed)) _FAT_BOOT_SECTOR {
    UCHAR Jump[3];
    CHAR OemName[8];
    USHORT SectorBytes;
    UCHAR SectorsPerCluster;
    USHORT ReservedSectors;
    UCHAR FatCount;
    USHORT RootEntries;
    USHORT SectorCount16;
    UCHAR Media;
    USHORT FatSectors16;
    USHORT SectorsPerTrack;
    USHORT Heads;
    ULONG HiddenSectors;
    ULONG SectorCount32;
    union {
        FAT_EXTENSION Fat16;
        struct __attribute__((packed)) {
            ULONG FatSectors32;
            USHORT Flags;
            USHORT Version;
            ULONG RootCluster;
            USHORT InformationSector;
            USHORT BackupSector;
            UCHAR Reserved[12];
            FAT_EXTENSION Extension;
        } Fat32;
    };
    UCHAR Code[420];
    USHORT BootSignature;
} FAT_BOOT_SECTOR;

C_ASSERT(sizeof(FAT_BOOT_SECTOR) == 512);
C_ASSERT(FIELD_OFFSET(FAT_BOOT_SECTOR, Fat16.Label) == 43);
C_ASSERT(FIELD_OFFSET(FAT_BOOT_SECTOR, Fat32.Extension.Label) == 71);

static BOOLEAN KiIsPowerOfTwo(ULONG Value)
{
    return Value != 0 && (Value & (Value - 1)) == 0;
}

static BOOLEAN KiLooksLikeFat(const FAT_BOOT_SECTOR *Boot)
{
    return Boot->BootSignature == FAT_BOOT_SIGNATURE && KiIsPowerOfTwo(Boot->SectorBytes) &&
           Boot->SectorBytes >= sizeof(*Boot) && KiIsPowerOfTwo(Boot->SectorsPerCluster) &&
           Boot->ReservedSectors != 0 && Boot->FatCount != 0;
}

// FALSE: the parts before the clusters are larger than the whole.
static BOOLEAN KiCountClusters(const FAT_BOOT_SECTOR *Boot, PULONG64 ClusterCount)
{
    const ULONG64 SectorCount =
        Boot->SectorCount16 != 0 ? Boot->SectorCount16 : Boot->SectorCount32;
    const ULONG64 FatSectors =
        Boot->FatSectors16 != 0 ? Boot->FatSectors16 : Boot->Fat32.FatSectors32;
    const ULONG64 RootSectors =
        ((ULONG64)Boot->RootEntries * FAT_DIRECTORY_ENTRY_BYTES + Boot->SectorBytes - 1) /
        Boot->SectorBytes;
    const ULONG64 Overhead = Boot->ReservedSectors + Boot->FatCount * FatSectors + RootSectors;
    if (Overhead > SectorCount) {
        return FALSE;
    }
    *ClusterCount = (SectorCount - Overhead) / Boot->SectorsPerCluster;
    return TRUE;
}

static ULONG KiFatBits(ULONG64 ClusterCount)
{
    if (ClusterCount < FAT12_CLUSTER_LIMIT) {
        return 12;
    }
    return ClusterCount < FAT16_CLUSTER_LIMIT ? 16 : 32;
}

// The label without the blanks that fill it up; empty when there is none.
static VOID KiCopyLabel(const FAT_EXTENSION *Extension, PCHAR Label)
{
    ULONG Length = Extension->Signature == FAT_EXTENDED_SIGNATURE ? KI_FAT_LABEL_CHARS : 0;
    while (Length > 0 && Extension->Label[Length - 1] == ' ') {
        Length--;
    }
    RtlCopyMemory(Label, Extension->Label, Length);
    Label[Length] = 0;
}

NTSTATUS KiReadFatVolume(PKI_DISK Disk, const KI_PARTITION *Partition, PKI_FAT_VOLUME Volume)
{
    FAT_BOOT_SECTOR Boot;
    const NTSTATUS Status = KiReadDiskInto(Disk, Partition->FirstByte, &Boot, sizeof(Boot));
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    if (!KiLooksLikeFat(&Boot) || !KiCountClusters(&Boot, &Volume->ClusterCount)) {
        return STATUS_UNRECOGNIZED_MEDIA;
    }
    Volume->Bits = KiFatBits(Volume->ClusterCount);
    Volume->ClusterBytes = (ULONG)Boot.SectorBytes * Boot.SectorsPerCluster;
    KiCopyLabel(Volume->Bits == 32 ? &Boot.Fat32.Extension : &Boot.Fat16, Volume->Label);
    return STATUS_SUCCESS;
}
