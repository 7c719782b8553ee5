// Reserved mapping addresses.
#include "tests/host/host.h"

#define TAG 0x21676154u

static VOID A_reservation_is_aligned_unmapped_and_guarded(VOID)
{
    const PUCHAR Va = MmAllocateMappingAddress(10 * PAGE_SIZE - 5, TAG);
    CHECK(Va != NULL && BYTE_OFFSET(Va) == 0);
    for (LONG Page = -2; Page <= 10; Page += 1) {
        CHECK_UNMAPPED(Va + Page * PAGE_SIZE);
    }
    MmFreeMappingAddress(Va, TAG);
}

static VOID Neighbours_leave_two_pages_before_and_one_behind(VOID)
{
    const PUCHAR First = MmAllocateMappingAddress(PAGE_SIZE, TAG);
    const PUCHAR Second = MmAllocateMappingAddress(PAGE_SIZE, TAG);
    const ULONG_PTR Distance =
        First < Second ? (ULONG_PTR)(Second - First) : (ULONG_PTR)(First - Second);
    CHECK(Distance >= PAGES(1 + 1 + 2));
    MmFreeMappingAddress(First, TAG);
    MmFreeMappingAddress(Second, TAG);
}

static VOID Tag_0_is_refused_and_tag_1_is_not(VOID)
{
    CHECK(MmAllocateMappingAddress(PAGE_SIZE, 0) == NULL);
    HostCheckRefusal("pool tag 0");
    const PVOID Va = MmAllocateMappingAddress(PAGE_SIZE, 1);
    CHECK(Va != NULL);
    MmFreeMappingAddress(Va, 1);
}

static VOID What_is_too_large_returns_NULL(VOID)
{
    CHECK(MmAllocateMappingAddress(PAGES(1ull << 32), TAG) == NULL);
    CHECK(MmAllocateMappingAddress(MAXULONG64, TAG) == NULL);
    CHECK(MmAllocateMappingAddress(MiArchLayout[MiRegionSystemPtes].ByteCount, TAG) == NULL);
    HostCheckRefusal("no pool, frames or system addresses left");
}

static VOID Mapping_returns_the_offset_and_MappedSystemVa_does_not(VOID)
{
    const PUCHAR Reservation = MmAllocateMappingAddress(10 * PAGE_SIZE, TAG);
    const PMDL Pages = HostPagesMdl(3);
    const PMDL Mdl = IoAllocateMdl((PVOID)0x8123, 2 * PAGE_SIZE, FALSE, FALSE, NULL);
    memcpy(MmGetMdlPfnArray(Mdl), MmGetMdlPfnArray(Pages), 3 * sizeof(PFN_NUMBER));
    Mdl->MdlFlags |= MDL_PAGES_LOCKED;
    for (ULONG Round = 0; Round < 2; Round += 1) {
        const PUCHAR Va = MmMapLockedPagesWithReservedMapping(Reservation, TAG, Mdl, MmCached);
        CHECK(Va == Reservation + 0x123);
        CHECK(Mdl->MappedSystemVa == Reservation && (Mdl->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA) != 0);
        CHECK_PAGE(Va + 2 * PAGE_SIZE, MmGetMdlPfnArray(Pages)[2], MiAccessReadWrite,
                   MiCacheWriteBack);
        CHECK_UNMAPPED(Reservation + 3 * PAGE_SIZE);
        MmUnmapReservedMapping(Round == 0 ? Va : Reservation, TAG, Mdl);
        CHECK_EQUAL(Mdl->MdlFlags, MDL_PAGES_LOCKED);
        CHECK_UNMAPPED(Reservation);
    }
    IoFreeMdl(Mdl);
    HostFreePagesMdl(Pages);
    MmFreeMappingAddress(Reservation + 5, TAG);
}

static VOID An_MDL_of_at_most_the_reservations_pages_fits(VOID)
{
    const PVOID Reservation = MmAllocateMappingAddress(10 * PAGE_SIZE, TAG);
    for (PFN_NUMBER PageCount = 1; PageCount <= 11; PageCount += 1) {
        const PMDL Mdl = HostPagesMdl(PageCount);
        const PVOID Va = MmMapLockedPagesWithReservedMapping(Reservation, TAG, Mdl, MmCached);
        CHECK_EQUAL(Va != NULL, PageCount <= 10);
        if (Va != NULL) {
            MmUnmapReservedMapping(Va, TAG, Mdl);
        } else {
            HostCheckRefusal("the MDL spans more pages than the reservation");
        }
        HostFreePagesMdl(Mdl);
    }
    MmFreeMappingAddress(Reservation, TAG);
}

static VOID An_address_inside_the_first_page_will_do(VOID)
{
    const PUCHAR Reservation = MmAllocateMappingAddress(PAGE_SIZE, TAG);
    const PMDL Mdl = HostPagesMdl(1);
    CHECK(MmMapLockedPagesWithReservedMapping(Reservation + 4, TAG, Mdl, MmCached) == Reservation);
    MmUnmapReservedMapping(Reservation + 4, TAG, Mdl);
    HostFreePagesMdl(Mdl);
    MmFreeMappingAddress(Reservation + 4, TAG);
}

static VOID Mapping_allocates_nothing(VOID)
{
    const PVOID Reservation = MmAllocateMappingAddress(64 * PAGE_SIZE, TAG);
    const PMDL Pages = HostPagesMdl(64);
    MM_PHYSICAL_ADDRESS_LIST List = {Pa(FAKE_IO_LOW), 64 * PAGE_SIZE};
    PMDL Io;
    CHECK_EQUAL(MmAllocateMdlForIoSpace(&List, 1, &Io), STATUS_SUCCESS);
    static const MEMORY_CACHING_TYPE Types[] = {MmNonCached, MmCached, MmWriteCombined};
    MmStartFailures(MM_FAIL_ALL, 0, MAXULONG);
    for (ULONG Round = 0; Round < 1000; Round += 1) {
        const PMDL Mdl = Round % 2 == 0 ? Pages : Io;
        CHECK(MmMapLockedPagesWithReservedMapping(Reservation, TAG, Mdl, Types[Round % 3]) ==
              Reservation);
        MmUnmapReservedMapping(Reservation, TAG, Mdl);
    }
    CHECK_EQUAL(MmStopFailures(), 0); // it did not even ask
    HostFreePagesMdl(Pages);
    IoFreeMdl(Io);
    MmFreeMappingAddress(Reservation, TAG);
}

static VOID The_type_of_device_memory_outlives_the_mapping_it_came_from(VOID)
{
    // The MDL takes its type from a larger mapping that goes away first.
    MM_PHYSICAL_ADDRESS_LIST List = {Pa(FAKE_IO_LOW), 2 * PAGE_SIZE};
    PMDL Mdl;
    const PVOID Reservation = MmAllocateMappingAddress(2 * PAGE_SIZE, TAG);
    const PVOID Registers = MmMapIoSpace(Pa(FAKE_IO_LOW), 8 * PAGE_SIZE, MmNonCached);
    CHECK_EQUAL(MmAllocateMdlForIoSpace(&List, 1, &Mdl), STATUS_SUCCESS);
    CHECK(MmMapLockedPagesWithReservedMapping(Reservation, TAG, Mdl, MmCached) == Reservation);
    CHECK_PAGE(Reservation, PfnOf(FAKE_IO_LOW), MiAccessReadWrite, MiCacheUncached);
    MmUnmapIoSpace(Registers, 8 * PAGE_SIZE);
    CHECK(MmMapIoSpace(Pa(FAKE_IO_LOW), PAGE_SIZE, MmWriteCombined) == NULL);
    MmUnmapReservedMapping(Reservation, TAG, Mdl);
    IoFreeMdl(Mdl);
    MmFreeMappingAddress(Reservation, TAG);
}

static VOID Wrong_MDLs_return_NULL(VOID)
{
    const PVOID Reservation = MmAllocateMappingAddress(PAGE_SIZE, TAG);
    const PVOID Other = MmAllocateMappingAddress(PAGE_SIZE, TAG);
    const PMDL Mdl = HostPagesMdl(1);
    CHECK(MmMapLockedPagesWithReservedMapping(Reservation, TAG, Mdl, MmMaximumCacheType) == NULL);
    HostCheckRefusal("no such cache type");
    CHECK(MmMapLockedPagesWithReservedMapping(Reservation, TAG, Mdl, MmCached) != NULL);
    CHECK(MmMapLockedPagesWithReservedMapping(Other, TAG, Mdl, MmCached) ==
          NULL); // mapped elsewhere
    HostCheckRefusal("not locked, or is mapped already");
    MmUnmapReservedMapping(Reservation, TAG, Mdl);
    Mdl->MdlFlags &= ~MDL_PAGES_LOCKED;
    CHECK(MmMapLockedPagesWithReservedMapping(Reservation, TAG, Mdl, MmCached) == NULL);
    Mdl->MdlFlags |= MDL_PAGES_LOCKED | MDL_SOURCE_IS_NONPAGED_POOL;
    CHECK(MmMapLockedPagesWithReservedMapping(Reservation, TAG, Mdl, MmCached) == NULL);
    Mdl->MdlFlags &= ~MDL_SOURCE_IS_NONPAGED_POOL;
    Mdl->ByteCount = 0;
    CHECK(MmMapLockedPagesWithReservedMapping(Reservation, TAG, Mdl, MmCached) == NULL);
    Mdl->ByteCount = PAGE_SIZE;
    HostFreePagesMdl(Mdl);
    MmFreeMappingAddress(Reservation, TAG);
    MmFreeMappingAddress(Other, TAG);
}

static VOID Device_memory_that_nobody_holds_returns_NULL(VOID)
{
    const PVOID Reservation = MmAllocateMappingAddress(PAGE_SIZE, TAG);
    const PMDL Mdl = IoAllocateMdl(NULL, PAGE_SIZE, FALSE, FALSE, NULL);
    MmGetMdlPfnArray(Mdl)[0] = PfnOf(FAKE_IO_LOW);
    Mdl->MdlFlags |= MDL_PAGES_LOCKED;
    CHECK(MmMapLockedPagesWithReservedMapping(Reservation, TAG, Mdl, MmCached) == NULL);
    HostCheckRefusal("device memory that no MDL and no mapping has claimed");
    IoFreeMdl(Mdl);
    MmFreeMappingAddress(Reservation, TAG);
}

static VOID A_partial_MDL_remembers_a_mapping_in_a_reservation(VOID)
{
    const PVOID Reservation = MmAllocateMappingAddress(PAGE_SIZE, TAG);
    const PMDL Pages = HostPagesMdl(1);
    const PMDL Mdl = IoAllocateMdl(NULL, PAGE_SIZE, FALSE, FALSE, NULL);
    MmGetMdlPfnArray(Mdl)[0] = MmGetMdlPfnArray(Pages)[0];
    Mdl->MdlFlags = MDL_PARTIAL;
    CHECK(MmMapLockedPagesWithReservedMapping(Reservation, TAG, Mdl, MmCached) == Reservation);
    CHECK_EQUAL(Mdl->MdlFlags, MDL_PARTIAL | MDL_PARTIAL_HAS_BEEN_MAPPED | MDL_MAPPED_TO_SYSTEM_VA);
    IoFreeMdl(Mdl); // unmaps it, too
    CHECK_UNMAPPED(Reservation);
    HostFreePagesMdl(Pages);
    MmFreeMappingAddress(Reservation, TAG);
}

static VOID A_thousand_rounds_leak_nothing(VOID)
{
    MM_MEMORY_USE Before;
    MmQueryMemoryUse(&Before);
    for (ULONG Round = 0; Round < 1000; Round += 1) {
        const PVOID Reservation = MmAllocateMappingAddress(PAGES(1 + Round % 40), TAG);
        const PMDL Mdl = HostPagesMdl(1 + Round % 40);
        CHECK(MmMapLockedPagesWithReservedMapping(Reservation, TAG, Mdl,
                                                  Round % 2 == 0 ? MmCached : MmNonCached) != NULL);
        MmUnmapReservedMapping(Reservation, TAG, Mdl);
        HostFreePagesMdl(Mdl);
        MmFreeMappingAddress(Reservation, TAG);
    }
    HostCheckSameUse(&Before, "a thousand rounds");
}

static const HOST_TEST Tests[] = {
    HOST_ROW(A_reservation_is_aligned_unmapped_and_guarded, "contract 5.1.1, 5.1.6, 18.10",
             &FakeMachineMax),
    HOST_ROW(Neighbours_leave_two_pages_before_and_one_behind, "contract 5.1.6, 18.10",
             &FakeMachineMax),
    HOST_ROW(Tag_0_is_refused_and_tag_1_is_not, "contract 5.1.4, 18.11", &FakeMachineMax),
    HOST_ROW(What_is_too_large_returns_NULL, "contract 5.1.5", &FakeMachineMax),
    HOST_ROW(Mapping_returns_the_offset_and_MappedSystemVa_does_not,
             "contract 5.2.1, 5.2.2, 5.3.1, 18.12", &FakeMachineMax),
    HOST_ROW(An_MDL_of_at_most_the_reservations_pages_fits, "contract 5.2.4, 18.10",
             &FakeMachineMax),
    HOST_ROW(An_address_inside_the_first_page_will_do, "contract 5.2.11, 5.3.1, 5.4.1",
             &FakeMachineMax),
    HOST_ROW(Mapping_allocates_nothing, "contract 5.2.3", &FakeMachineMax),
    HOST_ROW(The_type_of_device_memory_outlives_the_mapping_it_came_from, "contract 12.2.1, C2",
             &FakeMachineMax),
    HOST_ROW(Wrong_MDLs_return_NULL, "contract 5.2.5", &FakeMachineMax),
    HOST_ROW(Device_memory_that_nobody_holds_returns_NULL, "contract 12.2.1, C3", &FakeMachineMax),
    HOST_ROW(A_partial_MDL_remembers_a_mapping_in_a_reservation, "contract 6.2.3, 6.8.12",
             &FakeMachineMax),
    HOST_ROW(A_thousand_rounds_leak_nothing, "contract 5.3.1, 18.10", &FakeMachineMax),
};

HOST_DEFINE_SUITE(reserve);
