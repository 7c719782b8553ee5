// The default of the kernel: shows what the machine is, how it is mapped, and that its devices work
// through these mappings; then tests itself.
//
// A device that is not there is told of and is no failure. One that is there and does not work is.
#include "kernel/demo.h"

#include <ntddnet.h>
#include <ntddnvme.h>
#include <wdm.h>

#include "kernel/disk.h"
#include "kernel/inc/io.h"
#include "kernel/inc/ke.h"
#include "kernel/inc/rtl.h"
#include "kernel/inc/tests.h"

#define KIB 1024ull
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

#define KI_CHECKSUM_BYTES (64 * MIB)
#define KI_MAXIMUM_PARTITIONS 16

static VOID KiPrintHeading(PCSTR Text)
{
    DbgPrint("\n== %s\n", Text);
}

// "16 KiB": the largest unit that divides.
#define KI_SIZE_CHARS 24
static PCSTR KiFormatSize(ULONG64 ByteCount, PCHAR Buffer)
{
    static const struct {
        ULONG64 Bytes;
        PCSTR Name;
    } Units[] = {{GIB, "GiB"}, {MIB, "MiB"}, {KIB, "KiB"}, {1, "bytes"}};
    for (ULONG Row = 0; Row < ARRAYSIZE(Units); Row += 1) {
        if (ByteCount % Units[Row].Bytes == 0 && ByteCount != 0) {
            RtlFormatBuffer(Buffer, KI_SIZE_CHARS, "%llu %s", ByteCount / Units[Row].Bytes,
                            Units[Row].Name);
            return Buffer;
        }
    }
    return "0 bytes";
}

//
// Memory.
//

static PCSTR KiMemoryTypeName(LOADER_MEMORY_TYPE Type)
{
    static const PCSTR Names[] = {
        [LoaderMemoryUsable] = "usable",
        [LoaderMemoryReserved] = "reserved",
        [LoaderMemoryAcpiReclaimable] = "ACPI tables",
        [LoaderMemoryAcpiNvs] = "ACPI NVS",
        [LoaderMemoryBad] = "bad",
    };
    C_ASSERT(ARRAYSIZE(Names) == LoaderMemoryTypeCount);
    return (ULONG)Type < ARRAYSIZE(Names) ? Names[Type] : "of an unknown type";
}

static VOID KiPrintFirmwareMap(const LOADER_BLOCK *LoaderBlock)
{
    KiPrintHeading("Memory map of the firmware");
    DbgPrint("%s firmware, booted by %s\n",
             LoaderBlock->FirmwareType == LoaderFirmwareEfi ? "UEFI" : "BIOS",
             LoaderBlock->BootLoaderName);
    for (ULONG Index = 0; Index < LoaderBlock->MemoryDescriptorCount; Index += 1) {
        const LOADER_MEMORY_DESCRIPTOR *Row = &LoaderBlock->MemoryDescriptors[Index];
        DbgPrint("0x%012llx - 0x%012llx  %10llu KiB  %s\n", Row->BaseAddress,
                 Row->BaseAddress + Row->ByteCount - 1, Row->ByteCount / KIB,
                 KiMemoryTypeName(Row->Type));
    }
}

static VOID KiPrintMemory(const LOADER_BLOCK *LoaderBlock)
{
    KiPrintFirmwareMap(LoaderBlock);
    DbgPrint("\n");
    MmPrintPhysicalMap();
    DbgPrint("\n");
    MmPrintVirtualLayout();
}

//
// PCI.
//

static VOID KiPrintMappingWithin(const MM_MAPPING_INFORMATION *Mapping, PVOID Context)
{
    static const PCSTR LeafNames[] = {"4 KiB", "2 MiB", "1 GiB"};
    C_ASSERT(ARRAYSIZE(LeafNames) == ARRAYSIZE(Mapping->LeafCount));
    const IO_PCI_BAR *Bar = Context;
    const ULONG64 First = (ULONG64)Mapping->FirstPage.QuadPart;
    if (First + Mapping->PageCount * PAGE_SIZE <= Bar->Base ||
        First >= Bar->Base + Bar->ByteCount) {
        return;
    }
    DbgPrint("           at 0x%p %s %s,", Mapping->Va, Mapping->Access, Mapping->CacheType);
    for (ULONG Size = 0; Size < ARRAYSIZE(LeafNames); Size += 1) {
        if (Mapping->LeafCount[Size] != 0) {
            DbgPrint(" %llu x %s", Mapping->LeafCount[Size], LeafNames[Size]);
        }
    }
    DbgPrint("\n");
}

static VOID KiPrintBar(const IO_PCI_BAR *Bar, ULONG Index)
{
    static const PCSTR States[] = {
        [IoBarAbsent] = "",
        [IoBarAssigned] = "",
        [IoBarPlaced] = ", placed by this kernel",
        [IoBarUnusable] = ", without a place",
    };
    CHAR Size[KI_SIZE_CHARS];
    DbgPrint("    BAR%u   0x%llx, %s of %s%s%s%s\n", Index, Bar->Base,
             KiFormatSize(Bar->ByteCount, Size), Bar->IsPort ? "ports" : "memory",
             Bar->Is64Bit ? ", 64-bit" : "", Bar->IsPrefetchable ? ", prefetchable" : "",
             States[Bar->State]);
    if (!Bar->IsPort) {
        MmEnumerateIoMappings(KiPrintMappingWithin, (PVOID)(ULONG_PTR)Bar);
    }
}

static VOID KiPrintFunction(const IO_PCI_FUNCTION *Function)
{
    CHAR Name[IO_PCI_NAME_BYTES];
    IoFormatPciName(Function, Name, sizeof(Name));
    DbgPrint("%s  %04x:%04x  %s", Name, Function->VendorId, Function->DeviceId,
             IoPciClassName(Function));
    if (Function->DriverName != NULL) {
        DbgPrint(", driver %s: %s", Function->DriverName,
                 NT_SUCCESS(Function->StartStatus) ? "started" : "not started");
    }
    DbgPrint("\n");
    for (ULONG Index = 0; Index < ARRAYSIZE(Function->Bars); Index += 1) {
        if (Function->Bars[Index].State != IoBarAbsent) {
            KiPrintBar(&Function->Bars[Index], Index);
        }
    }
}

// FALSE: there is a device with a driver that did not start.
static BOOLEAN KiShowPci(VOID)
{
    BOOLEAN AllStarted = TRUE;
    KiPrintHeading("PCI functions, their base address registers, and where these are mapped");
    for (const IO_PCI_FUNCTION *Function = IoNextPciFunction(NULL); Function != NULL;
         Function = IoNextPciFunction(Function)) {
        KiPrintFunction(Function);
        AllStarted &= Function->DriverName == NULL || NT_SUCCESS(Function->StartStatus);
    }
    return AllStarted;
}

//
// The disk.
//

static VOID KiPrintPartition(const KI_PARTITION *Partition)
{
    CHAR Size[KI_SIZE_CHARS];
    DbgPrint("disk: partition %u at byte 0x%llx, %s, %s, \"%s\"\n", Partition->Number,
             Partition->FirstByte, KiFormatSize(Partition->ByteCount, Size), Partition->TypeName,
             Partition->Name);
}

static NTSTATUS KiShowVolume(PKI_DISK Disk, const KI_PARTITION *Partition)
{
    KI_FAT_VOLUME Volume;
    CHAR Size[KI_SIZE_CHARS];
    const NTSTATUS Status = KiReadFatVolume(Disk, Partition, &Volume);
    if (Status == STATUS_UNRECOGNIZED_MEDIA) {
        DbgPrint("disk: partition %u does not hold a FAT file system\n", Partition->Number);
        return STATUS_SUCCESS;
    }
    if (NT_SUCCESS(Status)) {
        DbgPrint("disk: partition %u is FAT%u, volume label \"%s\", %llu clusters of %s\n",
                 Partition->Number, Volume.Bits, Volume.Label, Volume.ClusterCount,
                 KiFormatSize(Volume.ClusterBytes, Size));
    }
    return Status;
}

// A disk without partitions is no failure.
static NTSTATUS KiShowPartitions(PKI_DISK Disk)
{
    KI_PARTITION Partitions[KI_MAXIMUM_PARTITIONS];
    ULONG Count;
    const NTSTATUS Status = KiReadPartitions(Disk, Partitions, ARRAYSIZE(Partitions), &Count);
    if (Status == STATUS_DISK_CORRUPT_ERROR) {
        DbgPrint("disk: no GUID partition table\n");
        return STATUS_SUCCESS;
    }
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    for (ULONG Index = 0; Index < Count; Index += 1) {
        KiPrintPartition(&Partitions[Index]);
    }
    if (Count == 0) {
        DbgPrint("disk: the partition table is empty\n");
        return STATUS_SUCCESS;
    }
    return KiShowVolume(Disk, &Partitions[0]);
}

// Reads through the driver, with all that takes: requests, frames of an MDL, a mapping.
static NTSTATUS KiShowChecksum(PKI_DISK Disk)
{
    const ULONG64 ByteCount =
        Disk->ByteCount < KI_CHECKSUM_BYTES ? Disk->ByteCount : KI_CHECKSUM_BYTES;
    const ULONG64 Start = KeReadCycles();
    CHAR Size[KI_SIZE_CHARS];
    ULONG Crc;
    const NTSTATUS Status = KiChecksumDisk(Disk, 0, ByteCount, &Crc);
    if (NT_SUCCESS(Status)) {
        const ULONG64 Milliseconds = (KeReadCycles() - Start) / (KeGetCyclesPerSecond() / 1000 + 1);
        DbgPrint("disk: crc32 of the first %s: 0x%08x\n", KiFormatSize(ByteCount, Size), Crc);
        DbgPrint("disk: read and summed in %llu ms, in requests of up to %s\n", Milliseconds,
                 KiFormatSize(Disk->BufferBytes, Size));
    }
    return Status;
}

static NTSTATUS KiShowOpenDisk(PKI_DISK Disk)
{
    CHAR Size[KI_SIZE_CHARS];
    DbgPrint("disk: \"%s\", serial \"%s\", %s in sectors of %u bytes\n", Disk->Model, Disk->Serial,
             KiFormatSize(Disk->ByteCount, Size), Disk->SectorBytes);
    const NTSTATUS Status = KiShowPartitions(Disk);
    return NT_SUCCESS(Status) ? KiShowChecksum(Disk) : Status;
}

// In the driver's own words, if it has any.
static VOID KiShowWhatItTook(PDEVICE_OBJECT Device)
{
    ULONG_PTR Information;
    const NTSTATUS Status =
        IoControlSynchronously(Device, IOCTL_NVME_PRINT_COUNTERS, NULL, 0, NULL, 0, &Information);
    UNREFERENCED_PARAMETER(Status);
}

static BOOLEAN KiShowDisk(VOID)
{
    KI_DISK Disk;
    KiPrintHeading("Disk");
    PDEVICE_OBJECT Device = IoFindDevice(FILE_DEVICE_DISK, 0);
    if (Device == NULL) {
        DbgPrint("disk: this machine has no disk that the kernel can use\n");
        return TRUE;
    }
    NTSTATUS Status = KiOpenDisk(Device, &Disk);
    if (NT_SUCCESS(Status)) {
        Status = KiShowOpenDisk(&Disk);
        KiCloseDisk(&Disk);
        KiShowWhatItTook(Device);
    }
    if (!NT_SUCCESS(Status)) {
        DbgPrint("disk: cannot be read: status 0x%08x\n", Status);
    }
    return NT_SUCCESS(Status);
}

//
// The network.
//

static NTSTATUS KiShowAdapter(PDEVICE_OBJECT Device, PBOOLEAN LinkUp)
{
    NET_ADAPTER_INFORMATION Adapter;
    ULONG_PTR Information;
    RtlZeroMemory(&Adapter, sizeof(Adapter));
    const NTSTATUS Status = IoControlSynchronously(Device, IOCTL_NET_QUERY_ADAPTER, NULL, 0,
                                                   &Adapter, sizeof(Adapter), &Information);
    if (NT_SUCCESS(Status)) {
        const UCHAR *Mac = Adapter.EthernetAddress;
        DbgPrint("net: address %02x:%02x:%02x:%02x:%02x:%02x, link %s, %u Mbit/s\n", Mac[0], Mac[1],
                 Mac[2], Mac[3], Mac[4], Mac[5], Adapter.LinkUp ? "up" : "down",
                 Adapter.MegabitsPerSecond);
    }
    *LinkUp = Adapter.LinkUp;
    return Status;
}

static BOOLEAN KiShowNetwork(VOID)
{
    BOOLEAN LinkUp;
    KiPrintHeading("Network");
    PDEVICE_OBJECT Device = IoFindDevice(FILE_DEVICE_PHYSICAL_NETCARD, 0);
    if (Device == NULL) {
        DbgPrint("net: this machine has no network card that the kernel can use\n");
        return TRUE;
    }
    NTSTATUS Status = KiShowAdapter(Device, &LinkUp);
    if (NT_SUCCESS(Status) && !LinkUp) {
        DbgPrint("net: no cable, no lease\n");
        return TRUE;
    }
    if (NT_SUCCESS(Status)) {
        Status = KiShowLease();
    }
    if (!NT_SUCCESS(Status)) {
        DbgPrint("net: no lease: status 0x%08x\n", Status);
    }
    return NT_SUCCESS(Status);
}

BOOLEAN KiRunDemo(const LOADER_BLOCK *LoaderBlock)
{
    KiPrintMemory(LoaderBlock);
    BOOLEAN Passed = KiShowPci();
    Passed &= KiShowDisk();
    Passed &= KiShowNetwork();
    DbgPrint("\n");
    MmPrintIoMappings();
    DbgPrint("\n");
    MmPrintMemoryUse();
    KiPrintHeading("Self-tests");
    Passed &= KiRunSelfTests();
    DbgPrint("\n%s\n", Passed ? "IoSpace: all is well" : "IoSpace: something above went wrong");
    return Passed;
}

#define KI_DRIVERS_SECONDS 1

BOOLEAN KiRunDrivers(const LOADER_BLOCK *LoaderBlock)
{
    LARGE_INTEGER Interval = {.QuadPart = -10000000LL * KI_DRIVERS_SECONDS};
    MM_LEAKS Leaks;
    UNREFERENCED_PARAMETER(LoaderBlock);
    (VOID) KiShowPci();
    KiPrintHeading("Drivers at work");
    (VOID) KeDelayExecutionThread(KernelMode, FALSE, &Interval);
    KiPrintHeading("Drivers are removed and unloaded");
    IoUnloadDrivers();
    MmReportLeaks(NULL, &Leaks);
    DbgPrint("left behind: %u things, %llu bytes\n", Leaks.Count, Leaks.ByteCount);
    return Leaks.Count == 0;
}
