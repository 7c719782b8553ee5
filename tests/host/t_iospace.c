// MmMapIoSpaceEx, MmMapIoSpace, MmUnmapIoSpace, MmIsIoSpaceActive.
#include "tests/host/host.h"

#define REGISTERS_PFN (FAKE_IO_REGISTERS >> PAGE_SHIFT)
#define MIB (1ull << 20)
#define GIB (1ull << 30)

static VOID A_mapping_keeps_the_page_offset_and_goes_with_its_unmap(VOID)
{
    const PUCHAR Va = MmMapIoSpace(Pa(FAKE_IO_REGISTERS + 4), 8, MmNonCached);
    CHECK_EQUAL(BYTE_OFFSET(Va), 4);
    CHECK_PAGE(Va, REGISTERS_PFN, MiAccessReadWrite, MiCacheUncached);
    CHECK_UNMAPPED(Va + PAGE_SIZE);
    MmUnmapIoSpace(Va, 8);
    CHECK_UNMAPPED(Va);
}

static VOID A_range_that_crosses_a_page_border_maps_both_pages(VOID)
{
    const PUCHAR Va = MmMapIoSpace(Pa(FAKE_IO_REGISTERS + 0xFFC), 8, MmNonCached);
    CHECK_PAGE(Va, REGISTERS_PFN, MiAccessReadWrite, MiCacheUncached);
    CHECK_PAGE(Va + 4, REGISTERS_PFN + 1, MiAccessReadWrite, MiCacheUncached);
    CHECK_UNMAPPED(Va + 4 + PAGE_SIZE);
    MmUnmapIoSpace(Va, 8);
}

static VOID Every_legal_protection_is_in_the_page_as_it_was_asked(VOID)
{
    static const struct {
        ULONG Base;
        MI_ACCESS Access;
    } Bases[] = {{PAGE_READONLY, MiAccessRead},
                 {PAGE_READWRITE, MiAccessReadWrite},
                 {PAGE_EXECUTE, MiAccessExecute},
                 {PAGE_EXECUTE_READ, MiAccessExecuteRead},
                 {PAGE_EXECUTE_READWRITE, MiAccessExecuteReadWrite}};
    static const struct {
        ULONG Modifier;
        MI_CACHE_TYPE CacheType;
    } Modifiers[] = {{0, MiCacheWriteBack},
                     {PAGE_NOCACHE, MiCacheUncached},
                     {PAGE_WRITECOMBINE, MiCacheWriteCombined}};
    for (ULONG Base = 0; Base < ARRAYSIZE(Bases); Base += 1) {
        for (ULONG Modifier = 0; Modifier < ARRAYSIZE(Modifiers); Modifier += 1) {
            const PVOID Va = MmMapIoSpaceEx(Pa(FAKE_IO_LOW), 3 * PAGE_SIZE,
                                            Bases[Base].Base | Modifiers[Modifier].Modifier);
            CHECK_PAGE((ULONG_PTR)Va + PAGES(2), PfnOf(FAKE_IO_LOW) + 2, Bases[Base].Access,
                       Modifiers[Modifier].CacheType);
            MmUnmapIoSpace(Va, 3 * PAGE_SIZE);
        }
    }
}

static VOID Every_illegal_protection_returns_NULL(VOID)
{
    for (ULONG Protect = 0; Protect < 0x1000; Protect += 1) {
        MI_PROTECTION Protection;
        if (!MiDecodePageProtection(Protect, &Protection)) {
            CHECK(MmMapIoSpaceEx(Pa(FAKE_IO_LOW), PAGE_SIZE, Protect) == NULL);
        }
    }
    HostCheckRefusal("MmMapIoSpaceEx refused: no such protection");
}

static VOID MmMapIoSpace_is_never_executable(VOID)
{
    static const MI_CACHE_TYPE Types[] = {MiCacheUncached,  MiCacheWriteBack, MiCacheWriteCombined,
                                          MiCacheWriteBack, MiCacheUncached,  MiCacheWriteCombined};
    for (ULONG Type = 0; Type < MmMaximumCacheType; Type += 1) {
        const PVOID Va = MmMapIoSpace(Pa(FAKE_IO_LOW), 1, (MEMORY_CACHING_TYPE)(0x100 + Type));
        CHECK_PAGE(Va, PfnOf(FAKE_IO_LOW), MiAccessReadWrite, Types[Type]);
        MmUnmapIoSpace(Va, 1);
    }
    CHECK(MmMapIoSpace(Pa(FAKE_IO_LOW), 1, MmMaximumCacheType) == NULL);
    CHECK(MmMapIoSpace(Pa(FAKE_IO_LOW), 1, (MEMORY_CACHING_TYPE)7) == NULL);
    CHECK(MmMapIoSpace(Pa(FAKE_IO_LOW), 1, MmNotMapped) == NULL);
    HostCheckRefusal("no such cache type");
}

static VOID Zero_bytes_return_NULL_even_with_an_offset(VOID)
{
    CHECK(MmMapIoSpaceEx(Pa(FAKE_IO_LOW), 0, PAGE_READWRITE) == NULL);
    CHECK(MmMapIoSpaceEx(Pa(FAKE_IO_LOW + 1), 0, PAGE_READWRITE) == NULL);
    HostCheckRefusal("zero bytes");
}

static VOID A_range_that_wraps_or_is_too_high_returns_NULL(VOID)
{
    const ULONG64 Top = 1ull << 46;
    CHECK(MmMapIoSpaceEx(Pa(FAKE_IO_LOW), MAXULONG64, PAGE_READWRITE) == NULL);
    CHECK(MmMapIoSpaceEx(Pa(MAXULONG64), 2, PAGE_READWRITE) == NULL);
    CHECK(MmMapIoSpaceEx(Pa(Top), 1, PAGE_READWRITE) == NULL);
    CHECK(MmMapIoSpaceEx(Pa(Top - 1), 2, PAGE_READWRITE) == NULL);
    HostCheckRefusal("leaves the processor's physical addresses");
    const PVOID Va = MmMapIoSpaceEx(Pa(Top - 1), 1, PAGE_READWRITE);
    CHECK_PAGE(Va, PfnOf(Top) - 1, MiAccessReadWrite, MiCacheWriteBack);
    MmUnmapIoSpace(Va, 1);
}

static VOID A_range_larger_than_the_addresses_returns_NULL(VOID)
{
    CHECK(MmMapIoSpaceEx(Pa(1ull << 42), 1ull << 41, PAGE_READWRITE) == NULL);
    HostCheckRefusal("no pool, frames or system addresses left");
}

static VOID RAM_that_the_system_uses_is_refused_and_the_reason_kept(VOID)
{
    CHECK(MmMapIoSpaceEx(Pa(0x2000000), PAGE_SIZE, PAGE_READWRITE) == NULL);
    HostCheckRefusal(
        "MmMapIoSpaceEx refused frames 0x2000-0x2000: RAM that the operating system uses");
    CHECK(MmMapIoSpaceEx(Pa(FAKE_KERNEL_PA), PAGE_SIZE, PAGE_READWRITE) == NULL);
    HostCheckRefusal("the kernel's own image or data");
    CHECK(MmMapIoSpaceEx(Pa(FAKE_ACPI - 1), 2, PAGE_READWRITE) == NULL);
    HostCheckRefusal("partly RAM, partly device memory");
    CHECK(MmMapIoSpace(Pa(0x100000000ull), PAGE_SIZE, MmNonCached) == NULL);
    HostCheckRefusal("MmMapIoSpace refused frames 0x100000");
}

// Every table there is, found by walking from the root.
static VOID TryTables(PFN_NUMBER TablePfn, ULONG Level, ULONG *Tried)
{
    CHECK(MmMapIoSpaceEx(Pa(PAGES(TablePfn)), PAGE_SIZE, PAGE_READONLY) == NULL);
    HostCheckRefusal("a live page table");
    Tried[Level] += 1;
    for (ULONG Index = 0; Level > 1 && Index < MI_PTES_PER_TABLE; Index += 1) {
        const MMPTE Entry = FakeLoad(TablePfn, Index);
        if (!(Level == 4 && Index == MiArchSelfMapSlot()) &&
            MiArchPteKind(Entry, Level) == MiPteTable) {
            TryTables(MiArchPtePfn(Entry, Level), Level - 1, Tried);
        }
    }
}

static VOID Page_tables_of_every_level_are_refused(VOID)
{
    ULONG Tried[5] = {0};
    const PVOID Va = MmMapIoSpaceEx(Pa(FAKE_IO_LOW), PAGE_SIZE, PAGE_READWRITE);
    TryTables(FakeRootPfn(), 4, Tried);
    for (ULONG Level = 1; Level <= 4; Level += 1) {
        CHECK(Tried[Level] > 0);
    }
    MmUnmapIoSpace(Va, PAGE_SIZE);
}

static VOID A_second_mapping_needs_the_same_cache_type(VOID)
{
    const PVOID First = MmMapIoSpace(Pa(FAKE_IO_LOW), PAGE_SIZE, MmNonCached);
    CHECK(MmMapIoSpace(Pa(FAKE_IO_LOW), PAGE_SIZE, MmCached) == NULL);
    HostCheckRefusal("already in use with another cache type, held by HostCaller");
    CHECK(MmMapIoSpaceEx(Pa(FAKE_IO_LOW + 8), 1, PAGE_READWRITE | PAGE_WRITECOMBINE) == NULL);
    const PVOID Second = MmMapIoSpaceEx(Pa(FAKE_IO_LOW), PAGE_SIZE, PAGE_READONLY | PAGE_NOCACHE);
    CHECK(First != NULL && Second != NULL && First != Second);
    MmUnmapIoSpace(First, PAGE_SIZE);
    CHECK(MmMapIoSpace(Pa(FAKE_IO_LOW), PAGE_SIZE, MmCached) == NULL);
    MmUnmapIoSpace(Second, PAGE_SIZE);
    const PVOID Third = MmMapIoSpace(Pa(FAKE_IO_LOW), PAGE_SIZE, MmCached);
    CHECK_PAGE(Third, PfnOf(FAKE_IO_LOW), MiAccessReadWrite, MiCacheWriteBack);
    MmUnmapIoSpace(Third, PAGE_SIZE);
}

static VOID A_conflict_in_one_page_refuses_the_whole_range(VOID)
{
    const PVOID First = MmMapIoSpace(Pa(FAKE_IO_LOW + 5 * PAGE_SIZE), PAGE_SIZE, MmWriteCombined);
    MM_MEMORY_USE Before;
    MmQueryMemoryUse(&Before);
    CHECK(MmMapIoSpace(Pa(FAKE_IO_LOW), 6 * PAGE_SIZE, MmNonCached) == NULL);
    HostCheckSameUse(&Before, "a refused mapping");
    const PVOID Second = MmMapIoSpace(Pa(FAKE_IO_LOW), 5 * PAGE_SIZE, MmNonCached);
    CHECK(Second != NULL);
    MmUnmapIoSpace(Second, 5 * PAGE_SIZE);
    MmUnmapIoSpace(First, PAGE_SIZE);
}

// After a mapping elsewhere in the same device memory there is an idle slot: the next page takes the
// short way, if the ledger knows its surroundings.
static PVOID MapPageQuickly(ULONG64 Address, MEMORY_CACHING_TYPE CacheType)
{
    const PVOID Elsewhere = MmMapIoSpace(Pa(FAKE_IO_HIGH + GIB), 1, MmNonCached);
    MmUnmapIoSpace(Elsewhere, 1);
    return MmMapIoSpace(Pa(Address), PAGE_SIZE, CacheType);
}

static VOID A_large_range_agrees_with_every_other_mapping_of_its_frames(VOID)
{
    const ULONG64 Base = FAKE_IO_HIGH + 2 * MIB;
    const PVOID Large = MmMapIoSpace(Pa(Base), 2 * MIB, MmNonCached);
    CHECK(MmMapIoSpace(Pa(FAKE_IO_HIGH), 4 * MIB, MmWriteCombined) == NULL);
    HostCheckRefusal("already in use with another cache type, held by HostCaller");
    const PVOID Page = MmMapIoSpace(Pa(Base), PAGE_SIZE, MmNonCached);
    CHECK(Large != NULL && Page != NULL);
    CHECK(MapPageQuickly(Base + PAGE_SIZE, MmCached) == NULL);
    CHECK(MmMapIoSpace(Pa(Base + PAGE_SIZE), 3 * PAGE_SIZE, MmCached) == NULL);
    MmUnmapIoSpace(Large, 2 * MIB);
    CHECK(MmMapIoSpace(Pa(FAKE_IO_HIGH), 4 * MIB, MmWriteCombined) == NULL); // because of the page
    MmUnmapIoSpace(Page, PAGE_SIZE);
    const PVOID Other = MmMapIoSpace(Pa(FAKE_IO_HIGH), 4 * MIB, MmWriteCombined);
    CHECK_PAGE(Other, PfnOf(FAKE_IO_HIGH), MiAccessReadWrite, MiCacheWriteCombined);
    MmUnmapIoSpace(Other, 4 * MIB);
}

static VOID A_large_range_that_nobody_maps_decides_nothing(VOID)
{
    const ULONG64 Base = FAKE_IO_HIGH + 2 * MIB;
    for (ULONG Round = 0; Round < 3; Round += 1) {
        MmUnmapIoSpace(MmMapIoSpace(Pa(Base), 2 * MIB, MmNonCached), 2 * MIB);
        const PVOID Page = MapPageQuickly(Base + PAGE_SIZE, MmCached);
        CHECK_PAGE(Page, PfnOf(Base) + 1, MiAccessReadWrite, MiCacheWriteBack);
        CHECK(MmMapIoSpace(Pa(Base), 2 * MIB, MmNonCached) == NULL);
        MmUnmapIoSpace(Page, PAGE_SIZE);
        MmUnmapIoSpace(MmMapIoSpace(Pa(Base), 2 * MIB, MmNonCached), 2 * MIB);
        const PVOID Large = MmMapIoSpace(Pa(FAKE_IO_HIGH), 4 * MIB, MmWriteCombined);
        CHECK_PAGE((ULONG_PTR)Large + 2 * MIB, PfnOf(Base), MiAccessReadWrite,
                   MiCacheWriteCombined);
        MmUnmapIoSpace(Large, 4 * MIB);
    }
}

static VOID An_MDL_remembers_the_type_of_a_large_range(VOID)
{
    MM_PHYSICAL_ADDRESS_LIST Page = {Pa(FAKE_IO_HIGH + 3 * PAGE_SIZE), PAGE_SIZE};
    const PVOID Large = MmMapIoSpace(Pa(FAKE_IO_HIGH), 2 * MIB, MmWriteCombined);
    PMDL Mdl;
    CHECK_EQUAL(MmAllocateMdlForIoSpace(&Page, 1, &Mdl), STATUS_SUCCESS);
    MmUnmapIoSpace(Large, 2 * MIB);
    CHECK(MmMapIoSpace(Pa(FAKE_IO_HIGH), 2 * MIB, MmNonCached) == NULL);
    const PVOID Va =
        MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmCached, NULL, FALSE, NormalPagePriority);
    CHECK_PAGE(Va, PfnOf(FAKE_IO_HIGH) + 3, MiAccessReadWrite, MiCacheWriteCombined);
    MmUnmapLockedPages(Va, Mdl);
    IoFreeMdl(Mdl);
}

static VOID CheckLeaf(PVOID Va, ULONG Level)
{
    CHECK_EQUAL(FakeWalk((ULONG_PTR)Va).Level, Level);
}

static VOID Aligned_ranges_get_the_largest_leaves(VOID)
{
    const PUCHAR Small = MmMapIoSpaceEx(Pa(FAKE_IO_HIGH), 2 * MIB, PAGE_READWRITE | PAGE_NOCACHE);
    CheckLeaf(Small, 2);
    MmUnmapIoSpace(Small, 2 * MIB);

    // The edges get smaller leaves than the middle.
    const PUCHAR Va =
        MmMapIoSpaceEx(Pa(FAKE_IO_HIGH + GIB - 2 * MIB - PAGE_SIZE), GIB + 2 * MIB + 2 * PAGE_SIZE,
                       PAGE_READWRITE | PAGE_WRITECOMBINE);
    CheckLeaf(Va, 1);
    CheckLeaf(Va + PAGE_SIZE, 2);
    CheckLeaf(Va + PAGE_SIZE + 2 * MIB, 3);
    CheckLeaf(Va + PAGE_SIZE + 2 * MIB + GIB - 1, 3);
    CheckLeaf(Va + PAGE_SIZE + 2 * MIB + GIB, 1);
    CHECK_PAGE(Va + GIB, PfnOf(FAKE_IO_HIGH + 2 * GIB - 2 * MIB) - 1, MiAccessReadWrite,
               MiCacheWriteCombined);
    MmUnmapIoSpace(Va, GIB + 2 * MIB + 2 * PAGE_SIZE);
    CHECK_UNMAPPED(Va + GIB);
}

static VOID A_processor_without_1_GiB_leaves_gets_2_MiB_ones(VOID)
{
    const PUCHAR Va = MmMapIoSpaceEx(Pa(FAKE_IO_HIGH), GIB, PAGE_READWRITE);
    CheckLeaf(Va, 2);
    CheckLeaf(Va + GIB - 1, 2);
    MmUnmapIoSpace(Va, GIB);
}

static VOID The_boot_option_leaf4k_leaves_only_small_leaves(VOID)
{
    const PUCHAR Va = MmMapIoSpaceEx(Pa(FAKE_IO_HIGH), 16 * MIB, PAGE_READWRITE);
    for (ULONG64 Offset = 0; Offset < 16 * MIB; Offset += PAGE_SIZE) {
        CheckLeaf(Va + Offset, 1);
    }
    MmUnmapIoSpace(Va, 16 * MIB);
    CheckLeaf(MiFrameToVa(0x1000), 1);
}

static VOID A_large_leaf_replaces_the_tables_of_an_earlier_mapping(VOID)
{
    // Misaligned by a page: leaves of 4 KiB all over; and again where a large leaf fits.
    for (ULONG Round = 0; Round < 4; Round += 1) {
        const PUCHAR Small = MmMapIoSpaceEx(Pa(FAKE_IO_HIGH + PAGE_SIZE), 4 * MIB, PAGE_READWRITE);
        MmUnmapIoSpace(Small, 4 * MIB);
        MmTrim(); // or its addresses would wait for the next mapping of this size
        const PUCHAR Large = MmMapIoSpaceEx(Pa(FAKE_IO_HIGH), 4 * MIB, PAGE_READWRITE);
        CheckLeaf(Large, 2);
        MmUnmapIoSpace(Large, 4 * MIB);
        MmTrim();
        const PUCHAR Huge = MmMapIoSpaceEx(Pa(FAKE_IO_HIGH), 3 * GIB, PAGE_READWRITE);
        CheckLeaf(Huge, 3);
        MmUnmapIoSpace(Huge, 3 * GIB);
        MmTrim();
    }
}

static VOID Locked_RAM_is_mapped_with_the_type_that_it_has(VOID)
{
    const PUCHAR Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, PAGE_SIZE, 'tseT');
    const PHYSICAL_ADDRESS BlockPa = MmGetPhysicalAddress(Block);
    const PVOID Va = MmMapIoSpace(BlockPa, PAGE_SIZE, MmNonCached);
    CHECK_PAGE(Va, PfnOf((ULONG64)BlockPa.QuadPart), MiAccessReadWrite, MiCacheWriteBack);
    MmUnmapIoSpace(Va, PAGE_SIZE);
    ExFreePool(Block);

    const PMDL Mdl = MmAllocatePagesForMdl(Pa(0), Pa(MAXULONG64), Pa(0), 2 * PAGE_SIZE);
    const PFN_NUMBER Pfn = MmGetMdlPfnArray(Mdl)[0];
    const PVOID First = MmMapIoSpace(Pa(PAGES(Pfn)), PAGE_SIZE, MmNonCached);
    const PVOID Second = MmMapIoSpaceEx(Pa(PAGES(Pfn)), PAGE_SIZE, PAGE_READONLY);
    CHECK_PAGE(First, Pfn, MiAccessReadWrite, MiCacheUncached);
    CHECK_PAGE(Second, Pfn, MiAccessRead, MiCacheUncached);
    CHECK_UNMAPPED(MiFrameToVa(Pfn)); // no write-back alias
    MmUnmapIoSpace(First, PAGE_SIZE);
    MmUnmapIoSpace(Second, PAGE_SIZE);
    MmFreePagesFromMdl(Mdl);
    CHECK_PAGE(MiFrameToVa(Pfn), Pfn, MiAccessReadWrite, MiCacheWriteBack);
    ExFreePool(Mdl);
}

static VOID IoSpaceActive_is_true_while_something_is_mapped_there(VOID)
{
    CHECK(!MmIsIoSpaceActive(Pa(FAKE_IO_LOW), PAGE_SIZE));
    const PVOID Va = MmMapIoSpace(Pa(FAKE_IO_LOW + PAGE_SIZE), 1, MmNonCached);
    CHECK(MmIsIoSpaceActive(Pa(FAKE_IO_LOW), 2 * PAGE_SIZE));
    CHECK(MmIsIoSpaceActive(Pa(FAKE_IO_LOW + PAGE_SIZE + 100), 1));
    CHECK(!MmIsIoSpaceActive(Pa(FAKE_IO_LOW), PAGE_SIZE));
    CHECK(!MmIsIoSpaceActive(Pa(FAKE_IO_LOW), 0));
    CHECK(!MmIsIoSpaceActive(Pa(MAXULONG64), 2));
    MmUnmapIoSpace(Va, 1);
    CHECK(!MmIsIoSpaceActive(Pa(FAKE_IO_LOW), 2 * PAGE_SIZE));
}

static VOID Everything_works_at_DISPATCH_LEVEL(VOID)
{
    FakeIrql = DISPATCH_LEVEL;
    const PVOID Va = MmMapIoSpaceEx(Pa(FAKE_IO_HIGH), 2 * MIB, PAGE_READWRITE | PAGE_NOCACHE);
    CHECK(Va != NULL && MmIsIoSpaceActive(Pa(FAKE_IO_HIGH), 1));
    MmUnmapIoSpace(Va, 2 * MIB);
    CHECK_EQUAL(FakeIrql, DISPATCH_LEVEL);
    FakeIrql = PASSIVE_LEVEL;
}

static VOID Ten_thousand_rounds_leak_nothing(VOID)
{
    MM_MEMORY_USE Before;
    MmQueryMemoryUse(&Before);
    for (ULONG Round = 0; Round < 10000; Round += 1) {
        const SIZE_T ByteCount = 1 + Round * 37 % (3 * MIB);
        const PVOID Va = MmMapIoSpaceEx(Pa(FAKE_IO_HIGH + Round * 0x1357ull), ByteCount,
                                        PAGE_READWRITE | PAGE_NOCACHE);
        CHECK(Va != NULL);
        MmUnmapIoSpace(Va, ByteCount);
    }
    HostCheckSameUse(&Before, "ten thousand rounds");
}

static const HOST_TEST Tests[] = {
    HOST_ROW(A_mapping_keeps_the_page_offset_and_goes_with_its_unmap, "contract 4.1.1, 4.3.1, 18.1",
             &FakeMachineMax),
    HOST_ROW(A_range_that_crosses_a_page_border_maps_both_pages, "contract 4.1.2, 18.2",
             &FakeMachineMax),
    HOST_ROW(Every_legal_protection_is_in_the_page_as_it_was_asked, "contract 2.2.1, 4.2.1, 18.7",
             &FakeMachineMax),
    HOST_ROW(Every_illegal_protection_returns_NULL, "contract 2.2.2", &FakeMachineMax),
    HOST_ROW(MmMapIoSpace_is_never_executable, "contract 2.1.1, 4.1.9, 18.3", &FakeMachineMax),
    HOST_ROW(Zero_bytes_return_NULL_even_with_an_offset, "contract 4.1.3, 18.3", &FakeMachineMax),
    HOST_ROW(A_range_that_wraps_or_is_too_high_returns_NULL, "contract 4.1.4", &FakeMachineMax),
    HOST_ROW(A_range_larger_than_the_addresses_returns_NULL, "contract 4.1.5", &FakeMachineMax),
    HOST_ROW(RAM_that_the_system_uses_is_refused_and_the_reason_kept, "contract 4.1.7, 12.2.3",
             &FakeMachineMax),
    HOST_ROW(Page_tables_of_every_level_are_refused, "contract 4.1.8, 18.4", &FakeMachineLeaf4K),
    HOST_ROW(A_second_mapping_needs_the_same_cache_type, "contract 4.1.12, 12.2.1, 12.2.2, 18.5",
             &FakeMachineMax),
    HOST_ROW(A_conflict_in_one_page_refuses_the_whole_range, "contract 12.2.2, C2",
             &FakeMachineMax),
    HOST_ROW(A_large_range_agrees_with_every_other_mapping_of_its_frames,
             "contract 4.1.12, 12.2.1, 12.2.2, C2", &FakeMachineMax),
    HOST_ROW(A_large_range_that_nobody_maps_decides_nothing, "contract 12.2.1, C2",
             &FakeMachineMax),
    HOST_ROW(An_MDL_remembers_the_type_of_a_large_range, "contract 12.2.1, 12.2.4, C2",
             &FakeMachineMax),
    HOST_ROW(Aligned_ranges_get_the_largest_leaves, "T3", &FakeMachineMax),
    HOST_ROW(A_processor_without_1_GiB_leaves_gets_2_MiB_ones, "T3", &FakeMachineQemu64),
    HOST_ROW(The_boot_option_leaf4k_leaves_only_small_leaves, "mm.h, MmLimitLeafSize",
             &FakeMachineLeaf4K),
    HOST_ROW(A_large_leaf_replaces_the_tables_of_an_earlier_mapping, "contract 12.3.2, T2",
             &FakeMachineMax),
    HOST_ROW(Locked_RAM_is_mapped_with_the_type_that_it_has, "contract 4.1.6, 12.2.5, A1",
             &FakeMachineMax),
    HOST_ROW(IoSpaceActive_is_true_while_something_is_mapped_there, "contract 4.10.1",
             &FakeMachineMax),
    HOST_ROW(Everything_works_at_DISPATCH_LEVEL, "contract 4.1.10, 4.3.5, 18.28", &FakeMachineMax),
    HOST_ROW(Ten_thousand_rounds_leak_nothing, "contract 4.3.1", &FakeMachineMax),
};

HOST_DEFINE_SUITE(iospace);
