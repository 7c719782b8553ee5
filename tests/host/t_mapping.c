// Slots of system addresses: of which size, how many are kept, how long they
// rest, and how they are given back. MmAllocateMappingAddressEx. (What the
// mappings show is in the suites of the routines that map.)
#include "kernel/inc/checked.h"
#include "mm/miquick.h"
#include "tests/host/host.h"

#define MIB (1ull << 20)
#define TAG 0x21676154u
#define QUARANTINE 256  // how many releases later an address may be seen again
#define AROUND 3        // guard pages of a small slot
#define LINE_PAGES 8ull // whose entries are a cache line

// The addresses of a small slot, its guards included.
static ULONG64 PiecePages(PFN_NUMBER SlotPages)
{
    return (SlotPages + AROUND + LINE_PAGES - 1) / LINE_PAGES * LINE_PAGES;
}

static PVOID Reserve(PFN_NUMBER PageCount)
{
    const PVOID Va = MmAllocateMappingAddress(PAGES(PageCount), TAG);
    CHECK(Va != NULL);
    return Va;
}

static PVOID ReserveDivisible(SIZE_T NumberOfBytes)
{
    return MmAllocateMappingAddressEx(NumberOfBytes, TAG, MM_MAPPING_ADDRESS_DIVISIBLE);
}

static VOID Free(PVOID Va)
{
    MmFreeMappingAddress(Va, TAG);
}

static ULONG64 UsedPages(MI_REGION Region)
{
    ULONG64 Used;
    ULONG64 Total;
    MiQuerySystemVa(Region, &Used, &Total);
    return Used;
}

static ULONG IdleCount(VOID)
{
    ULONG Count = 0;
    for (ULONG Class = 0; Class < MI_SMALL_CLASSES; Class += 1) {
        Count += HostIdleCount(Class);
    }
    return Count;
}

static VOID The_last_slot_of_a_size_is_the_next_one(VOID)
{
    static const PFN_NUMBER Sizes[] = {1, 2, 3, 4, 5, 8, 9, 16, 17, 100, 128, 129, 255, 256};
    for (ULONG Row = 0; Row < ARRAYSIZE(Sizes); Row += 1) {
        const PVOID Va = Reserve(Sizes[Row]);
        Free(Va);
        CHECK(Reserve(Sizes[Row]) == Va);
        Free(Va);
    }
}

static VOID A_slot_has_the_next_power_of_two_of_pages(VOID)
{
    for (PFN_NUMBER PageCount = 1; PageCount <= MI_SMALL_PAGES; PageCount += 1) {
        const PMI_MAPPING Mapping = MiFindMapping(Reserve(PageCount));
        CHECK(RtlIsPowerOfTwo64(Mapping->SlotPages));
        CHECK(Mapping->SlotPages >= PageCount && Mapping->SlotPages < 2 * PageCount);
        CHECK_EQUAL(Mapping->PageCount, PageCount);
        Free((PVOID)Mapping->Va);
        CHECK_EQUAL(MiCaches[0].Idle[MiClassOf(PageCount)].First->Va, Mapping->Va);
    }
    MmTrim();
    const ULONG64 Used = UsedPages(MiRegionSystemPtes);
    const PVOID Large = Reserve(MI_SMALL_PAGES + 1); // beyond that, exactly
    CHECK_EQUAL(UsedPages(MiRegionSystemPtes), Used + PiecePages(MI_SMALL_PAGES + 1));
    Free(Large);
}

static VOID A_slot_serves_every_kind_of_mapping(VOID)
{
    const PVOID First = Reserve(1);
    Free(First);
    const PVOID Io = MmMapIoSpace(Pa(FAKE_IO_LOW), PAGE_SIZE, MmNonCached);
    CHECK(Io == First);
    MmUnmapIoSpace(Io, PAGE_SIZE);
    const PMDL Mdl = MmAllocatePagesForMdl(Pa(0), Pa(MAXULONG64), Pa(0), PAGE_SIZE);
    const PVOID Va =
        MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmCached, NULL, FALSE, NormalPagePriority);
    CHECK(Va == First);
    MmUnmapLockedPages(Va, Mdl);
    MmFreePagesFromMdl(Mdl);
    ExFreePool(Mdl);
    CHECK(Reserve(1) == First);
    CHECK_UNMAPPED(First);
    Free(First);
}

static VOID Nothing_of_an_earlier_use_is_left_in_a_slot(VOID)
{
    const PMDL Mdl = MmAllocatePagesForMdl(Pa(0), Pa(MAXULONG64), Pa(0), 4 * PAGE_SIZE);
    const PVOID First =
        MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmCached, NULL, FALSE, NormalPagePriority);
    MmFreePagesFromMdl(Mdl); // unmaps
    ExFreePool(Mdl);
    const PUCHAR Second = MmMapIoSpace(Pa(FAKE_IO_LOW), 3 * PAGE_SIZE, MmNonCached);
    CHECK(Second == First);
    CHECK_UNMAPPED(Second + 3 * PAGE_SIZE);
    EXPECT_BUG_CHECK(MmUnmapIoSpace(Second, 4 * PAGE_SIZE));
    CHECK_BUG_CHECK(SYSTEM_PTE_MISUSE, 0x305, (ULONG_PTR)Second, 4, 3);
    MmUnmapIoSpace(Second, 3 * PAGE_SIZE);
    EXPECT_BUG_CHECK(MmUnmapIoSpace(Second, 3 * PAGE_SIZE));
    CHECK_BUG_CHECK(SYSTEM_PTE_MISUSE, 0x400, (ULONG_PTR)Second, 3, 0);
    EXPECT_BUG_CHECK(Free(Second));
    CHECK_EQUAL(FakeBugCheck.Parameters[0], 0x102);
}

static VOID The_first_owner_of_an_idle_address_is_named(VOID)
{
    const PVOID Va = MmMapIoSpace(Pa(FAKE_IO_LOW), PAGE_SIZE, MmNonCached);
    MmUnmapIoSpace(Va, PAGE_SIZE);
    EXPECT_BUG_CHECK(MmUnmapIoSpace(Va, PAGE_SIZE));
    CHECK(strstr(FakeBugCheck.Sentence, "by HostCaller+0x0") != NULL);
    CHECK(strstr(FakeBugCheck.Sentence, "unmapped already") != NULL);
}

//
// How many are kept.
//

static VOID Fill(PVOID *Vas, ULONG Count, PFN_NUMBER PageCount)
{
    for (ULONG Index = 0; Index < Count; Index += 1) {
        Vas[Index] = Reserve(PageCount);
    }
    for (ULONG Index = 0; Index < Count; Index += 1) {
        Free(Vas[Index]);
    }
}

static VOID So_many_small_slots_are_kept_and_no_more(VOID)
{
    static PVOID Vas[MI_IDLE_LIMIT + 2 * MI_CACHED_SLOTS];
    MmTrim();
    const ULONG64 Used = UsedPages(MiRegionSystemPtes);
    Fill(Vas, ARRAYSIZE(Vas), 1);
    const ULONG Kept = HostIdleCount(0);
    CHECK(MiIdle[0].Count == MI_IDLE_LIMIT && Kept <= MI_IDLE_LIMIT + MI_CACHED_SLOTS);
    CHECK_EQUAL(UsedPages(MiRegionSystemPtes), Used + Kept * PiecePages(1));
}

static VOID So_many_large_slots_are_kept_and_no_more(VOID)
{
    PVOID Vas[MI_RECENT_LIMIT + 3];
    MmTrim();
    const ULONG64 Used = UsedPages(MiRegionSystemPtes);
    Fill(Vas, ARRAYSIZE(Vas), 300);
    CHECK_EQUAL(MiRecent.Count, MI_RECENT_LIMIT);
    CHECK_EQUAL(UsedPages(MiRegionSystemPtes), Used + MI_RECENT_LIMIT * PiecePages(300));
    // Those that were released last are the ones that are kept.
    CHECK(Reserve(300) == Vas[ARRAYSIZE(Vas) - 1]);
    Free(Vas[ARRAYSIZE(Vas) - 1]);
}

static VOID A_large_slot_fits_its_own_size_only(VOID)
{
    const PVOID First = Reserve(300);
    Free(First);
    const PVOID Smaller = Reserve(299);
    CHECK(Smaller != First);
    CHECK(Reserve(300) == First);
    Free(Smaller);
    Free(First);
}

static VOID A_slot_of_large_leaves_fits_where_its_leaves_do(VOID)
{
    const PVOID First = MmMapIoSpace(Pa(FAKE_IO_HIGH), 4 * MIB, MmNonCached);
    MmUnmapIoSpace(First, 4 * MIB);
    const PVOID Shifted = MmMapIoSpace(Pa(FAKE_IO_HIGH + PAGE_SIZE), 4 * MIB, MmNonCached);
    CHECK(Shifted != First);
    CHECK_EQUAL(FakeWalk((ULONG_PTR)Shifted).Level, 1);
    const PVOID Aligned = MmMapIoSpace(Pa(FAKE_IO_HIGH + 32 * MIB), 4 * MIB, MmNonCached);
    CHECK(Aligned == First);
    CHECK_EQUAL(FakeWalk((ULONG_PTR)Aligned).Level, 2);
    MmUnmapIoSpace(Aligned, 4 * MIB);
    MmUnmapIoSpace(Shifted, 4 * MIB);
}

//
// Trimming.
//

static VOID Trimming_gives_back_all_that_is_idle_and_nothing_else(VOID)
{
    PVOID Vas[20];
    MM_MEMORY_USE Before;
    const PVOID Used = Reserve(5);
    const PVOID Large = MmMapIoSpace(Pa(FAKE_IO_HIGH), 2 * MIB, MmNonCached);
    MmQueryMemoryUse(&Before); // trims
    for (PFN_NUMBER PageCount = 1; PageCount <= 400; PageCount *= 3) {
        Fill(Vas, ARRAYSIZE(Vas), PageCount);
    }
    MmUnmapIoSpace(MmMapIoSpace(Pa(FAKE_IO_HIGH + 8 * MIB), 2 * MIB, MmCached), 2 * MIB);
    CHECK(IdleCount() > 0 && MiRecent.Count > 0 && MiIdleRangeCount > 0);
    MmTrim();
    CHECK_EQUAL(IdleCount(), 0);
    CHECK_EQUAL(MiRecent.Count, 0);
    CHECK_EQUAL(MiIdleRangeCount, 0);
    HostCheckSameUse(&Before, "trimming");
    HostAudit();
    MmTrim(); // nothing is left to be given back
    Free(Used);
    MmUnmapIoSpace(Large, 2 * MIB);
}

static VOID Addresses_that_are_idle_do_not_count_as_used_up(VOID)
{
    static PVOID Vas[2048];
    ULONG Count = 0;
    while ((Vas[Count] = MmAllocateMappingAddress(PAGES(MI_SMALL_PAGES), TAG)) != NULL) {
        Count += 1;
    }
    HostCheckRefusal("no pool, frames or system addresses left");
    CHECK(Count < MI_IDLE_LIMIT);
    for (ULONG Index = 0; Index < Count; Index += 1) {
        Free(Vas[Index]);
    }
    CHECK_EQUAL(HostIdleCount(MI_SMALL_CLASSES - 1), Count);
    const PFN_NUMBER Many = Count / 2 * PiecePages(MI_SMALL_PAGES);
    const PVOID Va = Reserve(Many);
    CHECK_EQUAL(IdleCount(), 0);
    Free(Va);
    Fill(Vas, Count, MI_SMALL_PAGES);
    const PVOID Aligned = ReserveDivisible(PAGES(1 << 15));
    CHECK(Aligned != NULL);
    Free(Aligned);
}

static VOID Memory_that_is_kept_does_not_count_as_used_up(VOID)
{
    static PVOID Vas[512];
    Fill(Vas, ARRAYSIZE(Vas), 1);
    MM_MEMORY_USE Use;
    MmQueryMemoryUse(&Use);
    Fill(Vas, ARRAYSIZE(Vas), 1);
    MmUnmapIoSpace(MmMapIoSpace(Pa(FAKE_IO_LOW), PAGE_SIZE, MmNonCached), PAGE_SIZE);
    const ULONG64 Free = MiFreePageCount();
    MmTrim();
    CHECK(MiFreePageCount() > Free); // nodes of the ledger
}

//
// The verifier's quarantine.
//

static PVOID MapAndUnmap(PFN_NUMBER PageCount)
{
    const PVOID Va = MmMapIoSpace(Pa(FAKE_IO_LOW), PAGES(PageCount), MmNonCached);
    CHECK(Va != NULL);
    MmUnmapIoSpace(Va, PAGES(PageCount));
    return Va;
}

static VOID CheckRest(PVOID (*Use)(PFN_NUMBER PageCount), PFN_NUMBER PageCount)
{
    const PVOID First = Use(PageCount);
    for (ULONG Release = 0; Release < QUARANTINE; Release += 1) {
        const PVOID Va = Use(PageCount);
        CHECK(Va != First);
        CHECK_UNMAPPED(First);
    }
    CHECK(Use(PageCount) == First); // and not longer
}

static PVOID ReserveAndFree(PFN_NUMBER PageCount)
{
    const PVOID Va = Reserve(PageCount);
    Free(Va);
    return Va;
}

static VOID At_level_1_an_address_rests_for_256_releases(VOID)
{
    MmVerifierLevel = 1;
    CheckRest(ReserveAndFree, 1);
    CheckRest(ReserveAndFree, 200);
    CheckRest(ReserveAndFree, 300);
    CheckRest(MapAndUnmap, 1);
    CheckRest(MapAndUnmap, 512);
}

static VOID Without_the_verifier_no_address_rests(VOID)
{
    CHECK(MapAndUnmap(1) == MapAndUnmap(1));
    CHECK(MapAndUnmap(512) == MapAndUnmap(512));
    CHECK(ReserveAndFree(300) == ReserveAndFree(300));
}

static VOID Addresses_at_rest_do_not_count_as_used_up(VOID)
{
    const ULONG64 HalfOfAll = MiArchLayout[MiRegionSystemPtes].ByteCount / 2;
    MmVerifierLevel = 1;
    for (ULONG Round = 0; Round < 5; Round += 1) {
        const PVOID Va = MmAllocateMappingAddress(HalfOfAll + PAGES(Round), TAG);
        CHECK(Va != NULL);
        Free(Va);
    }
}

static VOID What_was_at_rest_goes_on_when_the_level_falls(VOID)
{
    MmVerifierLevel = 1;
    const PVOID First = ReserveAndFree(1);
    MmVerifierLevel = 0;
    CHECK(ReserveAndFree(1) != First);
    MmTrim();
    CHECK(ReserveAndFree(1) == First);
}

//
// Divisible reservations.
//

static VOID A_divisible_reservation_is_aligned_to_its_size(VOID)
{
    PVOID Vas[16];
    const PVOID Disturbance = Reserve(1);
    for (ULONG Round = 0; Round < 2; Round += 1) {
        for (ULONG Bit = 0; Bit < ARRAYSIZE(Vas); Bit += 1) {
            Vas[Bit] = ReserveDivisible(PAGES(1ull << Bit));
            CHECK(Vas[Bit] != NULL && (ULONG_PTR)Vas[Bit] % PAGES(1ull << Bit) == 0);
        }
        for (ULONG Bit = 0; Bit < ARRAYSIZE(Vas); Bit += 1) {
            Free(Vas[Bit]);
        }
    }
    Free(Disturbance);
}

static VOID The_size_of_a_divisible_reservation_is_a_power_of_two_of_pages(VOID)
{
    for (PFN_NUMBER PageCount = 1; PageCount <= 40; PageCount += 1) {
        const PVOID Va = ReserveDivisible(PAGES(PageCount) - 7); // rounded up to pages
        CHECK_EQUAL(Va != NULL, RtlIsPowerOfTwo64(PageCount));
        if (Va != NULL) {
            CHECK_EQUAL(MiFindMapping(Va)->PageCount, PageCount);
            Free(Va);
        } else {
            HostCheckRefusal("MmAllocateMappingAddressEx refused: not page aligned, or not whole");
        }
    }
    CHECK(ReserveDivisible(MiArchLayout[MiRegionSystemPtes].ByteCount) == NULL);
    HostCheckRefusal("no pool, frames or system addresses left");
}

static VOID Without_flags_Ex_is_the_same_and_other_flags_are_refused(VOID)
{
    const PVOID Va = MmAllocateMappingAddressEx(PAGES(3), TAG, 0);
    CHECK(Va != NULL);
    Free(Va);
    for (ULONG Bit = 1; Bit < 32; Bit += 1) {
        CHECK(MmAllocateMappingAddressEx(PAGE_SIZE, TAG, 1u << Bit) == NULL);
        CHECK(MmAllocateMappingAddressEx(PAGE_SIZE, TAG, 1u << Bit | 1) == NULL);
    }
    HostCheckRefusal("MmAllocateMappingAddressEx refused: flags");
    CHECK(MmAllocateMappingAddressEx(PAGE_SIZE, 0, 0) == NULL);
    HostCheckRefusal("pool tag 0");
    CHECK(MmAllocateMappingAddressEx(PAGES(1ull << 32), TAG, MM_MAPPING_ADDRESS_DIVISIBLE) == NULL);
    EXPECT_BUG_CHECK(Ignore(MmAllocateMappingAddressEx(0, TAG, MM_MAPPING_ADDRESS_DIVISIBLE)));
    CHECK_EQUAL(FakeBugCheck.Parameters[0], 0x100);
}

static VOID A_divisible_reservation_maps_like_any_other(VOID)
{
    const PMDL Mdl = MmAllocatePagesForMdl(Pa(0), Pa(MAXULONG64), Pa(0), PAGES(4));
    const PUCHAR Base = ReserveDivisible(PAGES(4));
    const PUCHAR Va = MmMapLockedPagesWithReservedMapping(Base, TAG, Mdl, MmCached);
    CHECK(Va == Base);
    CHECK_PAGE(Va + PAGES(3), MmGetMdlPfnArray(Mdl)[3], MiAccessReadWrite, MiCacheWriteBack);
    MmUnmapReservedMapping(Va, TAG, Mdl);
    Free(Base);
    MmFreePagesFromMdl(Mdl);
    ExFreePool(Mdl);
}

static VOID A_divisible_reservation_that_fails_leaves_no_trace(VOID)
{
    static const ULONG Kinds[] = {MM_FAIL_POOL, MM_FAIL_ADDRESSES, MM_FAIL_FRAMES};
    MM_MEMORY_USE Before;
    const PVOID Tables = ReserveDivisible(PAGES(1024)); // has the pool's first page made as well
    Free(Tables);
    for (ULONG Row = 0; Row < ARRAYSIZE(Kinds); Row += 1) {
        MmQueryMemoryUse(&Before);
        MmStartFailures(Kinds[Row], 0, MAXULONG);
        const PVOID Va = ReserveDivisible(PAGES(1ull << 16));
        CHECK(MmStopFailures() != 0);
        CHECK(Va == NULL);
        HostCheckSameUse(&Before, "a failed reservation");
    }
}

static const HOST_TEST Tests[] = {
    HOST_ROW(The_last_slot_of_a_size_is_the_next_one, "mapping.c, M1", &FakeMachineMax),
    HOST_ROW(A_slot_has_the_next_power_of_two_of_pages, "mapping.c, M1, M2", &FakeMachineMax),
    HOST_ROW(A_slot_serves_every_kind_of_mapping, "contract 4.3.1, 12.3.2", &FakeMachineMax),
    HOST_ROW(Nothing_of_an_earlier_use_is_left_in_a_slot,
             "contract 4.3.1, 0xDA/0x305, 0xDA/0x400, 0xDA/0x102, M2", &FakeMachineMax),
    HOST_ROW(The_first_owner_of_an_idle_address_is_named, "contract 4.3.3, 0xDA/0x400",
             &FakeMachineMax),
    HOST_ROW(So_many_small_slots_are_kept_and_no_more, "mapping.c, M1", &FakeMachineMax),
    HOST_ROW(So_many_large_slots_are_kept_and_no_more, "mapping.c, M1", &FakeMachineMax),
    HOST_ROW(A_large_slot_fits_its_own_size_only, "mapping.c, M1", &FakeMachineMax),
    HOST_ROW(A_slot_of_large_leaves_fits_where_its_leaves_do, "mapping.c, T3", &FakeMachineMax),
    HOST_ROW(Trimming_gives_back_all_that_is_idle_and_nothing_else, "mm.h, MmTrim",
             &FakeMachineMax),
    HOST_ROW(Addresses_that_are_idle_do_not_count_as_used_up, "contract 5.1.5", &FakeMachineMax),
    HOST_ROW(Memory_that_is_kept_does_not_count_as_used_up, "mm.h, MmTrim", &FakeMachineMax),
    HOST_ROW(At_level_1_an_address_rests_for_256_releases, "contract 14.3", &FakeMachineMax),
    HOST_ROW(Without_the_verifier_no_address_rests, "contract 14.9", &FakeMachineMax),
    HOST_ROW(Addresses_at_rest_do_not_count_as_used_up, "contract 14.3, 5.1.5", &FakeMachineMax),
    HOST_ROW(What_was_at_rest_goes_on_when_the_level_falls, "contract 14.3, 14.9", &FakeMachineMax),
    HOST_ROW(A_divisible_reservation_is_aligned_to_its_size, "contract 5.1.7", &FakeMachineMax),
    HOST_ROW(The_size_of_a_divisible_reservation_is_a_power_of_two_of_pages, "contract 5.1.7",
             &FakeMachineMax),
    HOST_ROW(Without_flags_Ex_is_the_same_and_other_flags_are_refused,
             "contract 5.1.3, 5.1.4, 5.1.5, 5.1.7, 0xDA/0x100", &FakeMachineMax),
    HOST_ROW(A_divisible_reservation_maps_like_any_other, "contract 5.1.7, 5.2.1", &FakeMachineMax),
    HOST_ROW(A_divisible_reservation_that_fails_leaves_no_trace, "contract 5.1.5, 5.1.7",
             &FakeMachineMax),
};
HOST_DEFINE_SUITE(mapping);
