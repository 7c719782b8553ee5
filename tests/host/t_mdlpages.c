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

static const HOST_TEST Tests[] = {
    HOST_ROW(Pages_come_zeroed_locked_and_unmapped, "contract 7, 18.20", &FakeMachineMax),
    HOST_ROW(Zeroing_can_be_declined, "contract 7, flags", &FakeMachineMax),
    HOST_ROW(The_address_window_is_inclusive_and_kept, "contract 7, Low/High, 18.20",
             &FakeMachineMax),
    HOST_ROW(Memory_above_4_GiB_can_be_asked_for, "contract 7, Low/High", &FakeMachineMax),
    HOST_ROW(The_window_steps_by_SkipBytes_until_all_is_found, "contract 7, SkipBytes",
             &FakeMachineMax),
    HOST_ROW(A_window_that_steps_beyond_all_RAM_ends, "contract 7, SkipBytes", &FakeMachineMax),
    HOST_ROW(One_contiguous_chunk_is_contiguous, "contract 7, 18.21", &FakeMachineMax),
    HOST_ROW(Chunks_of_SkipBytes_are_aligned_and_whole, "contract 7, 18.21", &FakeMachineMax),
    HOST_ROW(Illegal_requests_return_NULL, "contract 7", &FakeMachineMax),
    HOST_ROW(Asking_for_more_than_there_is_gives_what_there_is, "contract 7, partial result",
             &FakeMachineMax),
    HOST_ROW(Freeing_unmaps_and_returns_the_frames, "contract 7, 18.20", &FakeMachineMax),
    HOST_ROW(Freeing_also_ends_a_mapping_in_a_reservation, "contract 7", &FakeMachineMax),
    HOST_ROW(A_freed_frame_forgets_its_cache_type, "contract 12.2, F3", &FakeMachineMax),
};

HOST_DEFINE_SUITE(mdlpages);
