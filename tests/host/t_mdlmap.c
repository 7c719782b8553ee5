// MmMapLockedPagesSpecifyCache, MmMapLockedPages, MmUnmapLockedPages, MmGetSystemAddressForMdlSafe.
#include "tests/host/host.h"

#define PRIORITY NormalPagePriority

static PMDL IoMdl(ULONG64 Base, PFN_NUMBER PageCount)
{
    MM_PHYSICAL_ADDRESS_LIST List = {Pa(Base), PAGES(PageCount)};
    PMDL Mdl;
    CHECK_EQUAL(MmAllocateMdlForIoSpace(&List, 1, &Mdl), STATUS_SUCCESS);
    return Mdl;
}

// As a driver makes it: over frames that somebody has locked, with a byte offset.
static PMDL OffsetMdl(PMDL Source, ULONG Offset, ULONG ByteCount)
{
    const PMDL Mdl = IoAllocateMdl((PVOID)(0x7000ull + Offset), ByteCount, FALSE, FALSE, NULL);
    memcpy(MmGetMdlPfnArray(Mdl), MmGetMdlPfnArray(Source),
           MiMdlPageCount(Mdl) * sizeof(PFN_NUMBER));
    Mdl->MdlFlags |= MDL_PAGES_LOCKED;
    return Mdl;
}

static PVOID Map(PMDL Mdl, MEMORY_CACHING_TYPE Type)
{
    return MmMapLockedPagesSpecifyCache(Mdl, KernelMode, Type, NULL, FALSE, PRIORITY);
}

static VOID The_address_and_MappedSystemVa_include_the_byte_offset(VOID)
{
    const PMDL Pages = HostPagesMdl(3);
    const PMDL Mdl = OffsetMdl(Pages, 0x123, 2 * PAGE_SIZE);
    const PUCHAR Va = Map(Mdl, MmCached);
    CHECK_EQUAL(BYTE_OFFSET(Va), 0x123);
    CHECK(Mdl->MappedSystemVa == Va &&
          Mdl->MdlFlags == (MDL_PAGES_LOCKED | MDL_MAPPED_TO_SYSTEM_VA));
    for (ULONG Page = 0; Page < 3; Page += 1) {
        CHECK_PAGE(Va + PAGES(Page), MmGetMdlPfnArray(Pages)[Page], MiAccessReadWrite,
                   MiCacheWriteBack);
    }
    MmUnmapLockedPages(Va, Mdl);
    CHECK_EQUAL(Mdl->MdlFlags, MDL_PAGES_LOCKED);
    CHECK_UNMAPPED(Va);
    IoFreeMdl(Mdl);
    HostFreePagesMdl(Pages);
}

static VOID Unmap_takes_the_address_with_or_without_the_offset(VOID)
{
    const PMDL Pages = HostPagesMdl(2);
    const PMDL Mdl = OffsetMdl(Pages, 0xFF0, 32);
    for (ULONG Round = 0; Round < 2; Round += 1) {
        const PUCHAR Va = Map(Mdl, MmCached);
        CHECK(FakeWalk((ULONG_PTR)Va + 16).Level == 1);
        MmUnmapLockedPages(Round == 0 ? PAGE_ALIGN(Va) : Va, Mdl);
        CHECK_UNMAPPED(Va);
    }
    IoFreeMdl(Mdl);
    HostFreePagesMdl(Pages);
}

static VOID The_first_mapping_decides_the_type_of_fresh_pages(VOID)
{
    static const struct {
        MEMORY_CACHING_TYPE Caching;
        MI_CACHE_TYPE CacheType;
    } Rows[] = {{MmCached, MiCacheWriteBack},
                {MmNonCached, MiCacheUncached},
                {MmWriteCombined, MiCacheWriteCombined}};
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        const PMDL Mdl = HostPagesMdl(2);
        const PFN_NUMBER Pfn = MmGetMdlPfnArray(Mdl)[1];
        for (ULONG Other = 0; Other < ARRAYSIZE(Rows); Other += 1) {
            // From the second time on, the request is overruled without a word.
            const PUCHAR Va = Map(Mdl, Rows[(Row + Other) % ARRAYSIZE(Rows)].Caching);
            CHECK_PAGE(Va + PAGE_SIZE, Pfn, MiAccessReadWrite, Rows[Row].CacheType);
            CHECK_EQUAL(FakeWalk((ULONG_PTR)MiFrameToVa(Pfn)).Level != 0,
                        Rows[Row].CacheType == MiCacheWriteBack);
            MmUnmapLockedPages(Va, Mdl);
        }
        HostFreePagesMdl(Mdl);
        CHECK_PAGE(MiFrameToVa(Pfn), Pfn, MiAccessReadWrite, MiCacheWriteBack);
    }
}

static VOID Device_memory_keeps_the_type_of_an_earlier_mapping(VOID)
{
    const PVOID Registers = MmMapIoSpace(Pa(FAKE_IO_LOW + PAGE_SIZE), PAGE_SIZE, MmNonCached);
    const PMDL Mdl = IoMdl(FAKE_IO_LOW, 4);
    const PUCHAR Va = Map(Mdl, MmCached);
    CHECK_PAGE(Va, PfnOf(FAKE_IO_LOW), MiAccessReadWrite, MiCacheWriteBack);
    CHECK_PAGE(Va + PAGE_SIZE, PfnOf(FAKE_IO_LOW) + 1, MiAccessReadWrite, MiCacheUncached);
    CHECK_PAGE(Va + PAGES(3), PfnOf(FAKE_IO_LOW) + 3, MiAccessReadWrite, MiCacheWriteBack);
    MmUnmapIoSpace(Registers, PAGE_SIZE);
    // The MDL is still mapped: its types hold, page by page.
    CHECK(MmMapIoSpace(Pa(FAKE_IO_LOW + PAGE_SIZE), PAGE_SIZE, MmCached) == NULL);
    CHECK(MmMapIoSpace(Pa(FAKE_IO_LOW), PAGE_SIZE, MmNonCached) == NULL);
    CHECK(MmIsIoSpaceActive(Pa(FAKE_IO_LOW + PAGES(2)), 1));
    MmUnmapLockedPages(Va, Mdl);
    // Decided, but mapped no more.
    CHECK(!MmIsIoSpaceActive(Pa(FAKE_IO_LOW), 4 * PAGE_SIZE));
    CHECK(MmMapIoSpace(Pa(FAKE_IO_LOW), PAGE_SIZE, MmNonCached) == NULL);
    IoFreeMdl(Mdl);
    const PVOID Io = MmMapIoSpace(Pa(FAKE_IO_LOW), PAGE_SIZE, MmNonCached);
    CHECK(Io != NULL);
    MmUnmapIoSpace(Io, PAGE_SIZE);
}

static VOID Frames_of_one_run_may_have_two_types(VOID)
{
    const PVOID First = MmMapIoSpace(Pa(FAKE_IO_LOW), PAGE_SIZE, MmNonCached);
    const PVOID Second = MmMapIoSpace(Pa(FAKE_IO_LOW + PAGE_SIZE), PAGE_SIZE, MmWriteCombined);
    const PMDL Mdl = IoMdl(FAKE_IO_LOW, 3);
    const PUCHAR Reservation = MmAllocateMappingAddress(PAGES(3), 'tseT');
    CHECK(MmMapLockedPagesWithReservedMapping(Reservation, 'tseT', Mdl, MmCached) == Reservation);
    CHECK_PAGE(Reservation, PfnOf(FAKE_IO_LOW), MiAccessReadWrite, MiCacheUncached);
    CHECK_PAGE(Reservation + PAGE_SIZE, PfnOf(FAKE_IO_LOW) + 1, MiAccessReadWrite,
               MiCacheWriteCombined);
    CHECK_PAGE(Reservation + PAGES(2), PfnOf(FAKE_IO_LOW) + 2, MiAccessReadWrite, MiCacheWriteBack);
    MmUnmapReservedMapping(Reservation, 'tseT', Mdl);
    MmFreeMappingAddress(Reservation, 'tseT');
    MmUnmapIoSpace(First, PAGE_SIZE);
    MmUnmapIoSpace(Second, PAGE_SIZE);
    IoFreeMdl(Mdl);
}

static VOID An_MDL_over_a_part_of_another_goes_into_a_reservation(VOID)
{
    const PMDL Whole = IoMdl(FAKE_IO_LOW, 4);
    const PMDL Part = IoAllocateMdl(NULL, 2 * PAGE_SIZE, FALSE, FALSE, NULL);
    MmGetMdlPfnArray(Part)[0] = PfnOf(FAKE_IO_LOW) + 1;
    MmGetMdlPfnArray(Part)[1] = PfnOf(FAKE_IO_LOW) + 2;
    Part->MdlFlags |= MDL_PAGES_LOCKED | MDL_IO_SPACE;
    const PUCHAR Reservation = MmAllocateMappingAddress(PAGES(2), 'tseT');
    CHECK(MmMapLockedPagesWithReservedMapping(Reservation, 'tseT', Part, MmWriteCombined) ==
          Reservation);
    CHECK_PAGE(Reservation + PAGE_SIZE, PfnOf(FAKE_IO_LOW) + 2, MiAccessReadWrite,
               MiCacheWriteCombined);
    MmUnmapReservedMapping(Reservation, 'tseT', Part);
    IoFreeMdl(Part);
    MmFreeMappingAddress(Reservation, 'tseT');
    // The decision outlived the mapping: the whole MDL still holds the frames.
    const PUCHAR Va = Map(Whole, MmNonCached);
    CHECK_PAGE(Va, PfnOf(FAKE_IO_LOW), MiAccessReadWrite, MiCacheUncached);
    CHECK_PAGE(Va + PAGE_SIZE, PfnOf(FAKE_IO_LOW) + 1, MiAccessReadWrite, MiCacheWriteCombined);
    IoFreeMdl(Whole);
}

static VOID Priority_flags_restrict_and_guard_the_mapping(VOID)
{
    const PMDL Mdl = HostPagesMdl(2);
    const PVOID First = Map(Mdl, MmCached);
    MmUnmapLockedPages(First, Mdl);
    const PUCHAR Va = MmMapLockedPagesSpecifyCache(
        Mdl, KernelMode, MmCached, NULL, FALSE,
        HighPagePriority | MdlMappingNoWrite | MdlMappingNoExecute | MdlMappingWithGuardPtes);
    CHECK_PAGE(Va, MmGetMdlPfnArray(Mdl)[0], MiAccessRead, MiCacheWriteBack);
    CHECK_UNMAPPED(Va - PAGE_SIZE);
    CHECK_UNMAPPED(Va + 2 * PAGE_SIZE);
    MmUnmapLockedPages(Va, Mdl);
    HostFreePagesMdl(Mdl);
}

static VOID What_cannot_be_mapped_returns_NULL(VOID)
{
    const PMDL Pages = HostPagesMdl(1);
    volatile NTSTATUS Raised = STATUS_SUCCESS;
    KmTry {
        (VOID) !MmMapLockedPagesSpecifyCache(Pages, UserMode, MmCached, NULL, FALSE, PRIORITY);
    }
    KmCatch (Status) {
        Raised = Status;
    }
    CHECK_EQUAL((ULONG)Raised, (ULONG)STATUS_NO_MEMORY);
    HostCheckRefusal("there is no user mode");
    CHECK(Map(Pages, MmMaximumCacheType) == NULL);
    HostCheckRefusal("no such cache type");
    const PVOID Va = Map(Pages, MmCached);
    CHECK(Map(Pages, MmCached) == NULL); // mapped already
    HostCheckRefusal("not locked, or is mapped already");
    MmUnmapLockedPages(Va, Pages);
    Pages->MdlFlags &= ~MDL_PAGES_LOCKED;
    CHECK(Map(Pages, MmCached) == NULL);
    Pages->MdlFlags |= MDL_PAGES_LOCKED;
    const ULONG ByteCount = Pages->ByteCount;
    Pages->ByteCount = 0;
    CHECK(Map(Pages, MmCached) == NULL);
    Pages->ByteCount = ByteCount;
    HostFreePagesMdl(Pages);
}

static VOID An_MDL_larger_than_all_addresses_returns_NULL(VOID)
{
    const PMDL Mdl = IoMdl(FAKE_IO_HIGH, 0xFFFFF);
    MM_MEMORY_USE Before;
    MmQueryMemoryUse(&Before);
    CHECK(Map(Mdl, MmNonCached) == NULL);
    HostCheckRefusal("no pool, frames or system addresses left");
    HostCheckSameUse(&Before, "a mapping without addresses");
    CHECK(!MmIsIoSpaceActive(Pa(FAKE_IO_HIGH), PAGE_SIZE));
    IoFreeMdl(Mdl);
}

static VOID A_driver_that_wants_a_bug_check_gets_one_unless_mapping_may_fail(VOID)
{
    const PMDL Mdl = IoMdl(FAKE_IO_HIGH, 0xFFFFF);
    ULONG64 Used;
    ULONG64 Total;
    MiQuerySystemVa(MiRegionSystemPtes, &Used, &Total);
    EXPECT_BUG_CHECK(
        Ignore(MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmCached, NULL, TRUE, PRIORITY)));
    CHECK_BUG_CHECK(NO_MORE_SYSTEM_PTES, 0, 0xFFFFF, Total - Used, Total);
    EXPECT_BUG_CHECK(Ignore(MmMapLockedPages(Mdl, KernelMode)));
    CHECK_BUG_CHECK(NO_MORE_SYSTEM_PTES, 0, 0xFFFFF, Total - Used, Total);
    Mdl->MdlFlags |= MDL_MAPPING_CAN_FAIL;
    CHECK(MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmCached, NULL, TRUE, PRIORITY) == NULL);
    IoFreeMdl(Mdl);
}

static VOID Low_priorities_fail_before_the_addresses_end(VOID)
{
    static const struct {
        ULONG Priority;
        ULONG FreePercent;
    } Rows[] = {{LowPagePriority, 25}, {NormalPagePriority, 6}, {HighPagePriority, 0}};
    const PMDL Mdl = HostPagesMdl(1);
    const PFN_NUMBER Total = MiArchLayout[MiRegionSystemPtes].ByteCount >> PAGE_SHIFT;
    for (ULONG Free = 40; Free > 1; Free -= 1) {
        // One reservation leaves just so much.
        const PVOID Reservation =
            MmAllocateMappingAddress(PAGES(Total * (100 - Free) / 100), 'tseT');
        for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
            const PVOID Va = MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmCached, NULL, FALSE,
                                                          Rows[Row].Priority);
            if (Free != Rows[Row].FreePercent) { // at the border, guards and rounding decide
                CHECK_EQUAL(Va != NULL, Free > Rows[Row].FreePercent);
            }
            if (Va != NULL) {
                MmUnmapLockedPages(Va, Mdl);
            }
        }
        MmFreeMappingAddress(Reservation, 'tseT');
    }
    HostFreePagesMdl(Mdl);
}

static VOID GetSystemAddressForMdlSafe_maps_once_and_remembers(VOID)
{
    const PMDL Mdl = HostPagesMdl(1);
    const PVOID Va = MmGetSystemAddressForMdlSafe(Mdl, PRIORITY);
    CHECK(Va != NULL && MmGetSystemAddressForMdlSafe(Mdl, PRIORITY) == Va);
    CHECK_EQUAL(MiMappingCount(), 1);
    HostFreePagesMdl(Mdl);
    CHECK_EQUAL(MiMappingCount(), 0);
}

static VOID A_partial_MDL_remembers_a_mapping_of_its_own(VOID)
{
    const PMDL Pages = HostPagesMdl(2);
    const PMDL Mdl = OffsetMdl(Pages, 0, PAGE_SIZE);
    Mdl->MdlFlags = MDL_PARTIAL;
    const PVOID Va = Map(Mdl, MmCached);
    CHECK_EQUAL(Mdl->MdlFlags, MDL_PARTIAL | MDL_PARTIAL_HAS_BEEN_MAPPED | MDL_MAPPED_TO_SYSTEM_VA);
    MmPrepareMdlForReuse(Mdl);
    CHECK_EQUAL(Mdl->MdlFlags, MDL_PARTIAL);
    CHECK_UNMAPPED(Va);
    IoFreeMdl(Mdl);
    HostFreePagesMdl(Pages);
}

static VOID MmMapLockedPages_maps_cached(VOID)
{
    const PMDL Mdl = HostPagesMdl(1);
    const PVOID Va = MmMapLockedPages(Mdl, KernelMode);
    CHECK_PAGE(Va, MmGetMdlPfnArray(Mdl)[0], MiAccessReadWrite, MiCacheWriteBack);
    MmUnmapLockedPages(Va, Mdl);
    HostFreePagesMdl(Mdl);
}

static VOID Many_pages_leave_no_stale_translation_behind(VOID)
{
    // More than fit into a batch of single invalidations; the watcher looks at the model of the
    // TLB.
    static const PFN_NUMBER Counts[] = {
        1, 2, MI_TLB_BATCH_PAGES - 1, MI_TLB_BATCH_PAGES, MI_TLB_BATCH_PAGES + 1, 700};
    for (ULONG Row = 0; Row < ARRAYSIZE(Counts); Row += 1) {
        const PMDL Mdl = HostPagesMdl(Counts[Row]);
        const PUCHAR Va = Map(Mdl, Row % 2 == 0 ? MmNonCached : MmCached);
        CHECK(FakeWalk((ULONG_PTR)Va + PAGES(Counts[Row] - 1)).Level == 1);
        MmUnmapLockedPages(Va, Mdl);
        CHECK_UNMAPPED(Va + PAGES(Counts[Row] - 1));
        HostFreePagesMdl(Mdl);
    }
}

static const HOST_TEST Tests[] = {
    HOST_ROW(The_address_and_MappedSystemVa_include_the_byte_offset, "contract 2.6.2, 6.8.1, 18.19",
             &FakeMachineMax),
    HOST_ROW(Unmap_takes_the_address_with_or_without_the_offset, "contract 6.10.1",
             &FakeMachineMax),
    HOST_ROW(The_first_mapping_decides_the_type_of_fresh_pages, "contract 6.8.2, 7.1.8, 12.2.4, A1",
             &FakeMachineMax),
    HOST_ROW(Device_memory_keeps_the_type_of_an_earlier_mapping, "contract 6.8.2, 12.2.4, C2",
             &FakeMachineMax),
    HOST_ROW(Frames_of_one_run_may_have_two_types, "contract 5.2.6, 12.2.4, C2", &FakeMachineMax),
    HOST_ROW(An_MDL_over_a_part_of_another_goes_into_a_reservation, "contract 5.2.1, 12.2.4",
             &FakeMachineMax),
    HOST_ROW(Priority_flags_restrict_and_guard_the_mapping, "contract 2.3.2, 2.3.3, 2.3.4, 6.8.10",
             &FakeMachineMax),
    HOST_ROW(What_cannot_be_mapped_returns_NULL, "contract 6.8.3, 6.8.4, 6.8.13", &FakeMachineMax),
    HOST_ROW(An_MDL_larger_than_all_addresses_returns_NULL, "contract 6.8.5, 18.19",
             &FakeMachineMax),
    HOST_ROW(A_driver_that_wants_a_bug_check_gets_one_unless_mapping_may_fail,
             "contract 6.8.6, 6.8.7, 6.9.1, 0x3F, 18.19", &FakeMachineMax),
    HOST_ROW(Low_priorities_fail_before_the_addresses_end, "contract 2.3.1", &FakeMachineMax),
    HOST_ROW(GetSystemAddressForMdlSafe_maps_once_and_remembers, "contract 6.11.1",
             &FakeMachineMax),
    HOST_ROW(A_partial_MDL_remembers_a_mapping_of_its_own, "contract 6.8.12, 6.16.1",
             &FakeMachineMax),
    HOST_ROW(MmMapLockedPages_maps_cached, "contract 6.9.1", &FakeMachineMax),
    HOST_ROW(Many_pages_leave_no_stale_translation_behind, "contract 12.3.1", &FakeMachineLeaf4K),
};

HOST_DEFINE_SUITE(mdlmap);
