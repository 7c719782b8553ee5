// What several suites need: places to map, pages of RAM, and the comparison of what mm holds.
#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "tests/kernel/tests.h"

#define KT_DIRECT_MAP 0xFFFF800000000000ull

PVOID KtDirectMap(ULONG64 PhysicalAddress)
{
    return (PVOID)(KT_DIRECT_MAP + PhysicalAddress);
}

BOOLEAN KtHasOption(PCSTR Name)
{
    return KeGetBootOption(Name, NULL, 0);
}

ULONG64 KtFindGap(ULONG64 ByteCount, ULONG64 Alignment)
{
    PHYSICAL_ADDRESS Base;
    PMM_CLAIM Claim;
    const NTSTATUS Status = MmPlacePhysicalRange(ByteCount, Alignment, KT_GAP_LOWEST,
                                                 KT_GAP_HIGHEST, "tests", &Base, &Claim);
    if (!NT_SUCCESS(Status)) {
        return 0;
    }
    MmReleasePhysicalRange(Claim);
    return (ULONG64)Base.QuadPart;
}

PMDL KtAllocatePages(ULONG PageCount)
{
    return MmAllocatePagesForMdlEx(KtPhysical(0), KtPhysical(MAXULONG64), KtPhysical(0),
                                   (SIZE_T)PageCount * PAGE_SIZE, MmCached,
                                   MM_ALLOCATE_FULLY_REQUIRED);
}

PMDL KtAllocateRun(ULONG PageCount)
{
    return MmAllocatePagesForMdlEx(KtPhysical(0), KtPhysical(MAXULONG64), KtPhysical(0),
                                   (SIZE_T)PageCount * PAGE_SIZE, MmCached,
                                   MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS);
}

VOID KtFreePages(PMDL Mdl)
{
    MmFreePagesFromMdl(Mdl);
    ExFreePool(Mdl);
}

ULONG64 KtPageAddress(PMDL Mdl, ULONG Index)
{
    return MmGetMdlPfnArray(Mdl)[Index] << PAGE_SHIFT;
}

static const SIZE_T KtPoolSizes[] = {48, 80, 112, 176, 240, 368, 496, 784, 1008};
static PVOID KtHeldPool[ARRAYSIZE(KtPoolSizes)];

// Leaves Count free blocks of a size in pages that the pool has already.
static VOID KtMakeRoomInPool(SIZE_T ByteCount, ULONG Count)
{
    const PVOID Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, ByteCount, KT_TAG);
    if (Count > 1) {
        KtMakeRoomInPool(ByteCount, Count - 1);
    }
    if (Block != NULL) {
        ExFreePool(Block);
    }
}

// One block of every common size, so that its page stays, and room for those that a test may ask for.
static VOID KtHoldPool(VOID)
{
    for (ULONG Row = 0; Row < ARRAYSIZE(KtPoolSizes); Row += 1) {
        KtHeldPool[Row] = ExAllocatePool2(POOL_FLAG_NON_PAGED, KtPoolSizes[Row], KT_TAG);
        KtMakeRoomInPool(KtPoolSizes[Row], 3);
    }
}

static KIRQL KtIrqlBefore;

VOID KtReleaseFreeRun(VOID)
{
    KeLowerIrql(KtIrqlBefore);
    for (ULONG Row = 0; Row < ARRAYSIZE(KtPoolSizes); Row += 1) {
        if (KtHeldPool[Row] != NULL) {
            ExFreePool(KtHeldPool[Row]);
        }
    }
}

ULONG64 KtFindFreeRun(ULONG PageCount)
{
    KtHoldPool();
    KtIrqlBefore = KeRaiseIrqlToDpcLevel();
    return KtFindFreeFrames(PageCount);
}

ULONG64 KtFindFreeFrames(ULONG PageCount)
{
    const PMDL Mdl = KtAllocateRun(PageCount);
    if (Mdl == NULL) {
        return 0;
    }
    const ULONG64 Address = KtPageAddress(Mdl, 0);
    KtFreePages(Mdl);
    return Address;
}

PMDL KtAllocateGapMdl(ULONG PageCount)
{
    const ULONG64 Gap = KtFindGap((ULONG64)PageCount * PAGE_SIZE, PAGE_SIZE);
    MM_PHYSICAL_ADDRESS_LIST List = {KtPhysical(Gap), (SIZE_T)PageCount * PAGE_SIZE};
    PMDL Mdl;
    if (Gap == 0 || !NT_SUCCESS(MmAllocateMdlForIoSpace(&List, 1, &Mdl))) {
        return NULL;
    }
    return Mdl;
}

//
// Device memory, found through the configuration ports: the tests ask the bus themselves, so that
// they do not depend on the kernel's own enumeration.
//

#define KT_PCI_ADDRESS_PORT 0xCF8
#define KT_PCI_DATA_PORT 0xCFC
#define KT_PCI_ENABLE 0x80000000u
#define KT_PCI_DEVICE_COUNT 32
#define KT_PCI_BAR0 0x10
#define KT_PCI_BAR_IS_64BIT 0x4u
#define KT_PCI_BAR_FLAGS 0xFu

// Functions whose BAR is plain memory.
static const struct {
    ULONG Id; // device << 16 | vendor
    UCHAR BarOffset;
} KtMemoryDevices[] = {
    {0x11101AF4, KT_PCI_BAR0 + 2 * sizeof(ULONG)}, // ivshmem, BAR 2
    {0x11111234, KT_PCI_BAR0},                     // QEMU's and Bochs' standard video, BAR 0
};

static ULONG KtReadPciConfig(ULONG Device, ULONG Offset)
{
    KeArchWritePort32(KT_PCI_ADDRESS_PORT, KT_PCI_ENABLE | Device << 11 | Offset);
    return KeArchReadPort32(KT_PCI_DATA_PORT);
}

static ULONG64 KtReadPciBar(ULONG Device, ULONG Offset)
{
    const ULONG Low = KtReadPciConfig(Device, Offset);
    const ULONG High =
        (Low & KT_PCI_BAR_IS_64BIT) != 0 ? KtReadPciConfig(Device, Offset + sizeof(ULONG)) : 0;
    return (ULONG64)High << 32 | (Low & ~KT_PCI_BAR_FLAGS);
}

static ULONG64 KtFindMemoryBar(ULONG Id, UCHAR BarOffset)
{
    for (ULONG Device = 0; Device < KT_PCI_DEVICE_COUNT; Device += 1) {
        if (KtReadPciConfig(Device, 0) == Id) {
            return KtReadPciBar(Device, BarOffset);
        }
    }
    return 0;
}

ULONG64 KtFindDeviceMemory(VOID)
{
    for (ULONG Row = 0; Row < ARRAYSIZE(KtMemoryDevices); Row += 1) {
        const ULONG64 Base =
            KtFindMemoryBar(KtMemoryDevices[Row].Id, KtMemoryDevices[Row].BarOffset);
        if (Base != 0) {
            return Base;
        }
    }
    return 0;
}

//
// Leaks.
//

typedef VOID KT_TELL_LEAK(PCSTR Name, ULONG64 Before, ULONG64 After);

static VOID KtTellLeak(PCSTR Name, ULONG64 Before, ULONG64 After)
{
    DbgPrint("    # leak: %s went from %llu to %llu\n", Name, Before, After);
}

static VOID KtKeepSilent(PCSTR Name, ULONG64 Before, ULONG64 After)
{
    UNREFERENCED_PARAMETER(Name);
    UNREFERENCED_PARAMETER(Before);
    UNREFERENCED_PARAMETER(After);
}

// Less is as bad as more: something was given back twice.
static ULONG KtCompareUse(const MM_MEMORY_USE *Before, KT_TELL_LEAK *Tell)
{
    MM_MEMORY_USE After;
    MmQueryMemoryUse(&After);
    const struct {
        PCSTR Name;
        ULONG64 Before;
        ULONG64 After;
    } Rows[] = {
        // A frame that became a page table is kept for reuse; any other that is no longer free is lost.
        {"available frames", Before->FreePages + Before->TablePages,
         After.FreePages + After.TablePages},
        {"pool pages", Before->PoolPages, After.PoolPages},
        {"pool blocks", Before->PoolBlocks, After.PoolBlocks},
        {"MDL pages", Before->MdlPages, After.MdlPages},
        {"pages of driver memory", Before->DriverPages, After.DriverPages},
        {"blocks of driver memory", Before->DriverBlocks, After.DriverBlocks},
        {"pages of driver images", Before->ImagePages, After.ImagePages},
        {"driver images", Before->Images, After.Images},
        {"mappings", Before->Mappings, After.Mappings},
        {"system PTEs", Before->SystemPtes, After.SystemPtes},
        {"ledger entries", Before->LedgerEntries, After.LedgerEntries},
        {"claims", Before->Claims, After.Claims},
    };
    ULONG Count = 0;
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        if (Rows[Row].After != Rows[Row].Before) {
            Tell(Rows[Row].Name, Rows[Row].Before, Rows[Row].After);
            Count += 1;
        }
    }
    return Count;
}

ULONG KtCountLeaks(const MM_MEMORY_USE *Before)
{
    return KtCompareUse(Before, KtTellLeak);
}

BOOLEAN KtHasLeaks(const MM_MEMORY_USE *Before)
{
    return KtCompareUse(Before, KtKeepSilent) != 0;
}

ULONG64 KtNumberOption(PCSTR Name, ULONG64 Default)
{
    CHAR Text[24];
    ULONG64 Value = 0;
    if (!KeGetBootOption(Name, Text, sizeof(Text))) {
        return Default;
    }
    for (PCSTR Digit = Text; *Digit >= '0' && *Digit <= '9'; Digit += 1) {
        Value = 10 * Value + (ULONG64)(*Digit - '0');
    }
    return Value;
}

BOOLEAN KtAwaitProcessor(const volatile LONG *Value, LONG AtLeast)
{
    const ULONG64 End = KeReadCycles() + KeGetCyclesPerSecond() / 1000 * KT_LATEST_MS;
    while (__atomic_load_n(Value, __ATOMIC_ACQUIRE) < AtLeast) {
        if (KeReadCycles() > End) {
            return FALSE;
        }
        KeArchPause();
    }
    return TRUE;
}
