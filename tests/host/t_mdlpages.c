// MmAllocatePagesForMdl(Ex), MmFreePagesFromMdl.
#include "tests/host/host.h"

#define MIB (1ull << 20)
#define ALL_RAM Pa(0), Pa(MAXULONG64)

static VOID Free(PMDL Mdl)
{
    MmFreePagesFromMdl(Mdl);
    ExFreePoolWithTag(Mdl, 0);
}

static VOID Pages_come_zeroed_locked_and_unmapped(VOID)
{
    // Dirty some frames first.
    PMDL Mdl = MmAllocatePagesForMdl(ALL_RAM, Pa(0), 16 * PAGE_SIZE);
    for (ULONG Page = 0; Page < 16; Page += 1) {
        memset(FakeFrame(MmGetMdlPfnArray(Mdl)[Page]), 0xA5, PAGE_SIZE);
    }
    Free(Mdl);

    static const UCHAR Zeros[PAGE_SIZE];
    Mdl = MmAllocatePagesForMdl(ALL_RAM, Pa(0), 16 * PAGE_SIZE - 100);
    CHECK(MmGetMdlVirtualAddress(Mdl) == NULL && Mdl->Next == NULL);
    CHECK_EQUAL(MmGetMdlByteCount(Mdl), 16 * PAGE_SIZE);
    CHECK_EQUAL(Mdl->MdlFlags, MDL_PAGES_LOCKED);
    for (ULONG Page = 0; Page < 16; Page += 1) {
        const PFN_NUMBER Pfn = MmGetMdlPfnArray(Mdl)[Page];
        CHECK(Pfn != 0 && Pfn != MAXULONG64 && MiPfnState(Pfn) == MiPfnMdl);
        CHECK(memcmp(FakeFrame(Pfn), Zeros, PAGE_SIZE) == 0);
    }
    Free(Mdl);
}

static VOID Zeroing_can_be_declined(VOID)
{
    PMDL Mdl = MmAllocatePagesForMdl(ALL_RAM, Pa(0), PAGE_SIZE);
    const PFN_NUMBER Pfn = MmGetMdlPfnArray(Mdl)[0];
    memset(FakeFrame(Pfn), 0xA5, PAGE_SIZE);
    Free(Mdl);
    Mdl = MmAllocatePagesForMdlEx(Pa(PAGES(Pfn)), Pa(PAGES(Pfn) + PAGE_SIZE - 1), Pa(0), PAGE_SIZE,
                                  MmCached, MM_DONT_ZERO_ALLOCATION);
    CHECK_EQUAL(MmGetMdlPfnArray(Mdl)[0], Pfn);
    CHECK_EQUAL(*(PUCHAR)FakeFrame(Pfn), 0xA5);
    Free(Mdl);
}

static VOID The_address_window_is_inclusive_and_kept(VOID)
{
    const PMDL Mdl = MmAllocatePagesForMdl(Pa(0x2000000), Pa(0x2003FFF), Pa(0), 64 * PAGE_SIZE);
    CHECK_EQUAL(MmGetMdlByteCount(Mdl), 4 * PAGE_SIZE); // fewer than asked
    for (ULONG Page = 0; Page < 4; Page += 1) {
        CHECK_EQUAL(MmGetMdlPfnArray(Mdl)[Page], 0x2000 + Page);
    }
    CHECK(MmAllocatePagesForMdl(Pa(0x2000000), Pa(0x2003FFF), Pa(0), PAGE_SIZE) == NULL);
    Free(Mdl);
    CHECK(MmAllocatePagesForMdl(Pa(0x2000001), Pa(0x2001FFE), Pa(0), PAGE_SIZE) ==
          NULL); // no whole page
    CHECK(MmAllocatePagesForMdl(Pa(0x2001000), Pa(0x2000000), Pa(0), PAGE_SIZE) == NULL);
    CHECK(MmAllocatePagesForMdl(Pa(FAKE_IO_LOW), Pa(FAKE_IO_LOW + MIB), Pa(0), PAGE_SIZE) == NULL);
    CHECK(MmAllocatePagesForMdl(Pa(MAXULONG64), Pa(MAXULONG64), Pa(0), PAGE_SIZE) == NULL);
}

static VOID Memory_above_4_GiB_can_be_asked_for(VOID)
{
    const PMDL Mdl =
        MmAllocatePagesForMdl(Pa(0x100000000ull), Pa(MAXULONG64), Pa(0), 8 * PAGE_SIZE);
    CHECK(MmGetMdlPfnArray(Mdl)[0] >= 0x100000 && MmGetMdlByteCount(Mdl) == 8 * PAGE_SIZE);
    Free(Mdl);
}

static VOID The_window_steps_by_SkipBytes_until_all_is_found(VOID)
{
    const PMDL Mdl =
        MmAllocatePagesForMdl(Pa(0x2000000), Pa(0x2000FFF), Pa(2 * PAGE_SIZE), 3 * PAGE_SIZE);
    CHECK_EQUAL(MmGetMdlByteCount(Mdl), 3 * PAGE_SIZE);
    for (ULONG Page = 0; Page < 3; Page += 1) {
        CHECK_EQUAL(MmGetMdlPfnArray(Mdl)[Page], 0x2000 + 2 * Page);
    }
    Free(Mdl);
}

static VOID A_window_that_steps_beyond_all_RAM_ends(VOID)
{
    // 2^46 bytes of physical addresses, a page at a time, would take minutes.
    const PMDL Mdl = MmAllocatePagesForMdl(Pa(0x101FFF000ull), Pa(0x101FFFFFFull), Pa(PAGE_SIZE),
                                           64 * PAGE_SIZE);
    CHECK(Mdl != NULL);
    CHECK_EQUAL(MmGetMdlByteCount(Mdl), PAGE_SIZE);
    Free(Mdl);
    CHECK(MmAllocatePagesForMdl(Pa(FAKE_IO_HIGH), Pa(FAKE_IO_HIGH + PAGE_SIZE - 1), Pa(PAGE_SIZE),
                                PAGE_SIZE) == NULL);
}

static VOID One_contiguous_chunk_is_contiguous(VOID)
{
    const PMDL Mdl = MmAllocatePagesForMdlEx(ALL_RAM, Pa(0), 300 * PAGE_SIZE, MmCached,
                                             MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS);
    for (ULONG Page = 1; Page < 300; Page += 1) {
        CHECK_EQUAL(MmGetMdlPfnArray(Mdl)[Page], MmGetMdlPfnArray(Mdl)[0] + Page);
    }
    Free(Mdl);
    // A chunk does not span the hole between low and high RAM.
    CHECK(MmAllocatePagesForMdlEx(ALL_RAM, Pa(0), 80 * MIB, MmCached,
                                  MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS) == NULL);
}

static VOID Chunks_of_SkipBytes_are_aligned_and_whole(VOID)
{
    const PMDL Mdl =
        MmAllocatePagesForMdlEx(Pa(0x2001000), Pa(0x2013FFF), Pa(4 * PAGE_SIZE), 32 * PAGE_SIZE,
                                MmCached, MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS);
    CHECK_EQUAL(MmGetMdlByteCount(Mdl), 16 * PAGE_SIZE); // 0x2004000 .. 0x2013FFF
    for (ULONG Page = 0; Page < 16; Page += 1) {
        CHECK_EQUAL(MmGetMdlPfnArray(Mdl)[Page], 0x2004 + Page);
    }
    Free(Mdl);
}

static VOID CheckRefused(PHYSICAL_ADDRESS Skip, SIZE_T Bytes, MEMORY_CACHING_TYPE Type, ULONG Flags,
                         const CHAR *Words)
{
    CHECK(MmAllocatePagesForMdlEx(ALL_RAM, Skip, Bytes, Type, Flags) == NULL);
    HostCheckRefusal(Words);
}

static VOID Illegal_requests_return_NULL(VOID)
{
    const ULONG Chunks = MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS;
    CheckRefused(Pa(0), 0, MmCached, 0, "zero bytes");
    CheckRefused(Pa(0), 0x100000000ull - PAGE_SIZE + 1, MmCached, 0,
                 "more than this routine can describe");
    CheckRefused(Pa(0), MAXULONG64, MmCached, 0, "more than this routine can describe");
    CheckRefused(Pa(0), PAGE_SIZE, MmMaximumCacheType, 0, "no such cache type");
    CheckRefused(Pa(0), PAGE_SIZE, MmCached, 0x200, "flags");
    CheckRefused(Pa(100), PAGE_SIZE, MmCached, 0, "flags");
    CheckRefused(Pa(3 * PAGE_SIZE), 6 * PAGE_SIZE, MmCached, Chunks, "flags");
    CheckRefused(Pa(2 * PAGE_SIZE), 3 * PAGE_SIZE, MmCached, Chunks, "flags");
    CheckRefused(Pa(2048), 4096, MmCached, Chunks, "flags");
    CheckRefused(Pa(0), 200 * MIB, MmCached, MM_ALLOCATE_FULLY_REQUIRED,
                 "no pool, frames or system addresses left");
}

static VOID Asking_for_more_than_there_is_gives_what_there_is(VOID)
{
    MM_MEMORY_USE Before;
    MmQueryMemoryUse(&Before);
    const PMDL Mdl = MmAllocatePagesForMdl(ALL_RAM, Pa(0), 200 * MIB);
    CHECK(Mdl != NULL && MmGetMdlByteCount(Mdl) > 60 * MIB && MmGetMdlByteCount(Mdl) < 96 * MIB);
    CHECK(MmAllocatePagesForMdl(ALL_RAM, Pa(0), PAGE_SIZE) == NULL);
    HostAudit();
    Free(Mdl);
    HostCheckSameUse(&Before, "all of RAM in one MDL");
}

static VOID Freeing_unmaps_and_returns_the_frames(VOID)
{
    MM_MEMORY_USE Before;
    MmQueryMemoryUse(&Before);
    const PMDL Mdl = MmAllocatePagesForMdl(ALL_RAM, Pa(0), 5 * PAGE_SIZE);
    const PVOID Va =
        MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmNonCached, NULL, FALSE, NormalPagePriority);
    CHECK(Va != NULL);
    MmFreePagesFromMdl(Mdl);
    CHECK_UNMAPPED(Va);
    CHECK_EQUAL(Mdl->MdlFlags & (MDL_PAGES_LOCKED | MDL_MAPPED_TO_SYSTEM_VA), 0);
    ExFreePool(Mdl);
    HostCheckSameUse(&Before, "free while mapped");
}

static VOID Freeing_also_ends_a_mapping_in_a_reservation(VOID)
{
    const PVOID Reservation = MmAllocateMappingAddress(5 * PAGE_SIZE, 'tseT');
    const PMDL Mdl = MmAllocatePagesForMdl(ALL_RAM, Pa(0), 5 * PAGE_SIZE);
    CHECK(MmMapLockedPagesWithReservedMapping(Reservation, 'tseT', Mdl, MmWriteCombined) != NULL);
    Free(Mdl);
    CHECK_UNMAPPED(Reservation);
    MmFreeMappingAddress(Reservation, 'tseT');
}

static VOID A_freed_frame_forgets_its_cache_type(VOID)
{
    const PHYSICAL_ADDRESS Low = Pa(0x2100000);
    const PHYSICAL_ADDRESS High = Pa(0x2100FFF);
    static const MEMORY_CACHING_TYPE Types[] = {MmNonCached, MmCached, MmWriteCombined};
    static const MI_CACHE_TYPE Expected[] = {MiCacheUncached, MiCacheWriteBack,
                                             MiCacheWriteCombined};
    for (ULONG Row = 0; Row < ARRAYSIZE(Types); Row += 1) {
        const PMDL Mdl = MmAllocatePagesForMdl(Low, High, Pa(0), PAGE_SIZE);
        const PVOID Va = MmMapLockedPagesSpecifyCache(Mdl, KernelMode, Types[Row], NULL, FALSE,
                                                      NormalPagePriority);
        CHECK_PAGE(Va, 0x2100, MiAccessReadWrite, Expected[Row]);
        Free(Mdl);
    }
}

static VOID Contiguous_pages_are_preferred_where_there_are_any(VOID)
{
    // Holes of 1 and 3 pages below, then plenty: whoever does not care gets the holes.
    const PMDL Low =
        MmAllocatePagesForMdl(Pa(0x2000000), Pa(0x2000FFF), Pa(2 * PAGE_SIZE), 64 * PAGE_SIZE);
    CHECK_EQUAL(MmGetMdlPfnArray(Low)[63], 0x2000 + 126);
    const PMDL Mdl = MmAllocatePagesForMdlEx(Pa(0x2000000), Pa(MAXULONG64), Pa(0), 100 * PAGE_SIZE,
                                             MmCached, MM_ALLOCATE_PREFER_CONTIGUOUS);
    CHECK_EQUAL(MmGetMdlByteCount(Mdl), 100 * PAGE_SIZE);
    for (ULONG Page = 1; Page < 100; Page += 1) {
        CHECK_EQUAL(MmGetMdlPfnArray(Mdl)[Page], MmGetMdlPfnArray(Mdl)[0] + Page);
    }
    Free(Mdl);
    // Where nothing adjoins, single pages will do.
    const PMDL Singles =
        MmAllocatePagesForMdlEx(Pa(0x2000000), Pa(0x207FFFF), Pa(0), 64 * PAGE_SIZE, MmCached,
                                MM_ALLOCATE_PREFER_CONTIGUOUS | MM_ALLOCATE_FULLY_REQUIRED);
    CHECK(Singles != NULL);
    Free(Singles);
    Free(Low);
    // In a window of 10 pages: 10 of 16, though no run of 16 or 8 + 8 is there.
    const PMDL Few = MmAllocatePagesForMdlEx(Pa(0x2000000), Pa(0x2009FFF), Pa(0), 16 * PAGE_SIZE,
                                             MmCached, MM_ALLOCATE_PREFER_CONTIGUOUS);
    CHECK_EQUAL(MmGetMdlByteCount(Few), 10 * PAGE_SIZE);
    Free(Few);
}

static VOID Large_pages_need_chunks_of_large_pages(VOID)
{
    const ULONG Large = MM_ALLOCATE_FAST_LARGE_PAGES;
    const ULONG Chunks = MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS;
    CheckRefused(Pa(2 * MIB), 4 * MIB, MmCached, Large, "flags");
    CheckRefused(Pa(0), 4 * MIB, MmCached, Large | Chunks, "flags");
    CheckRefused(Pa(MIB), 4 * MIB, MmCached, Large | Chunks, "flags");
    const PMDL Mdl =
        MmAllocatePagesForMdlEx(ALL_RAM, Pa(2 * MIB), 8 * MIB, MmCached, Large | Chunks);
    CHECK_EQUAL(MmGetMdlByteCount(Mdl), 8 * MIB);
    for (ULONG Page = 0; Page < 2048; Page += 512) {
        CHECK_EQUAL(MmGetMdlPfnArray(Mdl)[Page] % 512, 0);
        CHECK_EQUAL(MmGetMdlPfnArray(Mdl)[Page + 511], MmGetMdlPfnArray(Mdl)[Page] + 511);
    }
    Free(Mdl);
}

static VOID Pages_are_hot_removed_at_PASSIVE_LEVEL_and_never_all_or_nothing(VOID)
{
    CheckRefused(Pa(0), PAGE_SIZE, MmCached,
                 MM_ALLOCATE_AND_HOT_REMOVE | MM_ALLOCATE_FULLY_REQUIRED, "flags");
    FakeIrql = APC_LEVEL;
    CheckRefused(Pa(0), PAGE_SIZE, MmCached, MM_ALLOCATE_AND_HOT_REMOVE, "not at this IRQL");
    FakeIrql = PASSIVE_LEVEL;
    const PMDL Mdl = MmAllocatePagesForMdlEx(ALL_RAM, Pa(0), 3 * PAGE_SIZE, MmCached,
                                             MM_ALLOCATE_AND_HOT_REMOVE);
    CHECK_EQUAL(MmGetMdlByteCount(Mdl), 3 * PAGE_SIZE);
    Free(Mdl);
}

static VOID Flags_that_change_nothing_are_accepted(VOID)
{
    static const ULONG Flags[] = {MM_ALLOCATE_FROM_LOCAL_NODE_ONLY, MM_ALLOCATE_NO_WAIT,
                                  MM_ALLOCATE_TRIM_IF_NECESSARY};
    for (ULONG Row = 0; Row < ARRAYSIZE(Flags); Row += 1) {
        const PMDL Mdl =
            MmAllocatePagesForMdlEx(ALL_RAM, Pa(0), 3 * PAGE_SIZE, MmCached, Flags[Row]);
        CHECK_EQUAL(MmGetMdlByteCount(Mdl), 3 * PAGE_SIZE);
        Free(Mdl);
    }
    // More than there is: everything, once, also where memory is asked for a second time.
    const PMDL All =
        MmAllocatePagesForMdlEx(ALL_RAM, Pa(0), 200 * MIB, MmCached, MM_ALLOCATE_TRIM_IF_NECESSARY);
    CHECK(MmGetMdlByteCount(All) > 60 * MIB && MmGetMdlByteCount(All) < 96 * MIB);
    Free(All);
}

static VOID Node_0_of_the_NULL_partition_has_all_pages(VOID)
{
    PMDL Mdl = MmAllocateNodePagesForMdlEx(ALL_RAM, Pa(0), 3 * PAGE_SIZE, MmCached, 0, 0);
    CHECK_EQUAL(MmGetMdlByteCount(Mdl), 3 * PAGE_SIZE);
    Free(Mdl);
    Mdl = MmAllocatePartitionNodePagesForMdlEx(ALL_RAM, Pa(0), 3 * PAGE_SIZE, MmCached, 0,
                                               MM_ALLOCATE_FULLY_REQUIRED, NULL);
    CHECK_EQUAL(MmGetMdlByteCount(Mdl), 3 * PAGE_SIZE);
    Free(Mdl);
    CHECK(MmAllocateNodePagesForMdlEx(ALL_RAM, Pa(0), PAGE_SIZE, MmCached, 1, 0) == NULL);
    HostCheckRefusal("MmAllocateNodePagesForMdlEx refused: there is one node");
    CHECK(MmAllocatePartitionNodePagesForMdlEx(ALL_RAM, Pa(0), PAGE_SIZE, MmCached, 1, 0, NULL) ==
          NULL);
    CHECK(MmAllocatePartitionNodePagesForMdlEx(ALL_RAM, Pa(0), PAGE_SIZE, MmCached, 0, 0, &Mdl) ==
          NULL);
    HostCheckRefusal("MmAllocatePartitionNodePagesForMdlEx refused: there is one node");
    CHECK(MmAllocateNodePagesForMdlEx(ALL_RAM, Pa(0), 0, MmCached, 0, 0) == NULL);
    HostCheckRefusal("MmAllocateNodePagesForMdlEx refused: zero bytes");
}

static VOID Pages_can_be_zeroed_when_they_are_freed(VOID)
{
    static const UCHAR Zeros[PAGE_SIZE];
    static const MEMORY_CACHING_TYPE Types[] = {MmCached, MmNonCached};
    for (ULONG Row = 0; Row < ARRAYSIZE(Types); Row += 1) {
        const PMDL Mdl = MmAllocatePagesForMdl(Pa(0x2000000), Pa(0x2001FFF), Pa(0), 2 * PAGE_SIZE);
        Ignore(MmMapLockedPagesSpecifyCache(Mdl, KernelMode, Types[Row], NULL, FALSE,
                                            NormalPagePriority));
        memset(FakeFrame(0x2000), 0xA5, 2 * PAGE_SIZE);
        MmFreePagesFromMdlEx(Mdl, Row == 0 ? MM_FREE_MDL_PAGES_ZERO : MAXULONG);
        ExFreePool(Mdl);
        CHECK(memcmp(FakeFrame(0x2000), Zeros, PAGE_SIZE) == 0);
        CHECK(memcmp(FakeFrame(0x2001), Zeros, PAGE_SIZE) == 0);
    }
    const PMDL Mdl = MmAllocatePagesForMdl(Pa(0x2000000), Pa(0x2000FFF), Pa(0), PAGE_SIZE);
    memset(FakeFrame(0x2000), 0xA5, PAGE_SIZE);
    MmFreePagesFromMdlEx(Mdl, 0);
    ExFreePool(Mdl);
    CHECK_EQUAL(*(PUCHAR)FakeFrame(0x2000), 0xA5);
}

static VOID Pages_that_are_not_out_cannot_be_freed(VOID)
{
    const PMDL Mdl = MmAllocatePagesForMdl(ALL_RAM, Pa(0), PAGE_SIZE);
    const PFN_NUMBER Pfn = MmGetMdlPfnArray(Mdl)[0];
    MmFreePagesFromMdl(Mdl);
    EXPECT_BUG_CHECK(MmFreePagesFromMdl(Mdl));
    CHECK_BUG_CHECK(MEMORY_MANAGEMENT, 0x1236, (ULONG_PTR)Mdl, (ULONG_PTR)MmGetMdlPfnArray(Mdl),
                    MAXULONG64);
    CHECK(strstr(FakeBugCheck.Sentence, "freed already") != NULL);
    MmGetMdlPfnArray(Mdl)[0] = Pfn;
    EXPECT_BUG_CHECK(MmFreePagesFromMdl(Mdl));
    CHECK_BUG_CHECK(MEMORY_MANAGEMENT, 0x1236, (ULONG_PTR)Mdl, (ULONG_PTR)MmGetMdlPfnArray(Mdl),
                    Pfn);
    CHECK(strstr(FakeBugCheck.Sentence, "freed already") == NULL);
    ExFreePool(Mdl);
}

static VOID The_MDL_is_sealed_while_it_has_its_pages(VOID)
{
    const PMDL Mdl = MmAllocatePagesForMdl(ALL_RAM, Pa(0), PAGE_SIZE);
    CHECK(MiIsMdlSealed(Mdl) && !MiIsMdlLocked(Mdl));
    MmFreePagesFromMdl(Mdl);
    CHECK(!MiIsMdlSealed(Mdl));
    ExFreePool(Mdl);
}

static VOID At_level_1_pages_are_recorded_filled_and_their_IRQL_is_checked(VOID)
{
    MI_TRACK Track;
    MmVerifierLevel = 1;
    const PMDL Mdl =
        MmAllocatePagesForMdlEx(ALL_RAM, Pa(0), 2 * PAGE_SIZE, MmCached, MM_DONT_ZERO_ALLOCATION);
    CHECK(MiFindTrack(MiTrackPages, Mdl, &Track) && Track.ByteCount == 2 * PAGE_SIZE);
    const PUCHAR Bytes = FakeFrame(MmGetMdlPfnArray(Mdl)[1]);
    ULONG Different = 0;
    for (ULONG Index = 1; Index < PAGE_SIZE; Index += 1) {
        Different += Bytes[Index] != Bytes[Index - 1];
    }
    CHECK(Different > PAGE_SIZE / 2);
    FakeIrql = DISPATCH_LEVEL + 1;
    EXPECT_BUG_CHECK(MmFreePagesFromMdl(Mdl));
    CHECK_BUG_CHECK(DRIVER_VERIFIER_DETECTED_VIOLATION, 0x7E, DISPATCH_LEVEL + 1, 2, 0);
    FakeIrql = DISPATCH_LEVEL + 1;
    EXPECT_BUG_CHECK(Ignore(MmAllocatePagesForMdl(ALL_RAM, Pa(0), PAGE_SIZE)));
    CHECK_BUG_CHECK(DRIVER_VERIFIER_DETECTED_VIOLATION, 0x7E, DISPATCH_LEVEL + 1, 2, 0);
    FakeIrql = DISPATCH_LEVEL;
    MmFreePagesFromMdl(Mdl);
    FakeIrql = PASSIVE_LEVEL;
    CHECK(!MiFindTrack(MiTrackPages, Mdl, &Track));
    ExFreePool(Mdl);
}

static const HOST_TEST Tests[] = {
    HOST_ROW(Pages_come_zeroed_locked_and_unmapped, "contract 7.1.1, 7.1.5, 18.20",
             &FakeMachineMax),
    HOST_ROW(Zeroing_can_be_declined, "contract 7.1.1", &FakeMachineMax),
    HOST_ROW(The_address_window_is_inclusive_and_kept, "contract 7.1.2, 18.20", &FakeMachineMax),
    HOST_ROW(Memory_above_4_GiB_can_be_asked_for, "contract 7.1.2", &FakeMachineMax),
    HOST_ROW(The_window_steps_by_SkipBytes_until_all_is_found, "contract 7.1.3", &FakeMachineMax),
    HOST_ROW(A_window_that_steps_beyond_all_RAM_ends, "contract 7.1.3", &FakeMachineMax),
    HOST_ROW(One_contiguous_chunk_is_contiguous, "contract 7.2.2, 18.21", &FakeMachineMax),
    HOST_ROW(Chunks_of_SkipBytes_are_aligned_and_whole, "contract 7.2.3, 18.21", &FakeMachineMax),
    HOST_ROW(Illegal_requests_return_NULL, "contract 2.5.2, 7.1.7, 7.2.3", &FakeMachineMax),
    HOST_ROW(Asking_for_more_than_there_is_gives_what_there_is, "contract 7.1.4, 7.2.1",
             &FakeMachineMax),
    HOST_ROW(Freeing_unmaps_and_returns_the_frames, "contract 7.3.1, 7.3.2, 18.20",
             &FakeMachineMax),
    HOST_ROW(Freeing_also_ends_a_mapping_in_a_reservation, "contract 7.3.2", &FakeMachineMax),
    HOST_ROW(A_freed_frame_forgets_its_cache_type, "contract 12.2.9, F3", &FakeMachineMax),
    HOST_ROW(Contiguous_pages_are_preferred_where_there_are_any, "contract 7.2.7", &FakeMachineMax),
    HOST_ROW(Large_pages_need_chunks_of_large_pages, "contract 7.2.4", &FakeMachineMax),
    HOST_ROW(Pages_are_hot_removed_at_PASSIVE_LEVEL_and_never_all_or_nothing, "contract 7.2.5",
             &FakeMachineMax),
    HOST_ROW(Flags_that_change_nothing_are_accepted, "contract 7.2.6", &FakeMachineMax),
    HOST_ROW(Node_0_of_the_NULL_partition_has_all_pages, "contract 7.1.11", &FakeMachineMax),
    HOST_ROW(Pages_can_be_zeroed_when_they_are_freed, "contract 7.3.5", &FakeMachineMax),
    HOST_ROW(Pages_that_are_not_out_cannot_be_freed, "contract 7.3.3, 0x1A/0x1236",
             &FakeMachineMax),
    HOST_ROW(The_MDL_is_sealed_while_it_has_its_pages, "mi.h, MiSealMdl", &FakeMachineMax),
    HOST_ROW(At_level_1_pages_are_recorded_filled_and_their_IRQL_is_checked,
             "contract 14.5, 14.6, 0xC4/0x7E", &FakeMachineMax),
};

HOST_DEFINE_SUITE(mdlpages);
