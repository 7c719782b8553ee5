// Who owns a frame, and what happens when somebody else acts as if he did: partial MDLs, copies of MDLs,
// MDLs that changed while they were mapped.
#include "tests/host/host.h"

#define TAG 0x21676154u

static PMDL IoMdl(VOID)
{
    MM_PHYSICAL_ADDRESS_LIST List = {Pa(FAKE_IO_LOW), PAGE_SIZE};
    PMDL Mdl;
    CHECK_EQUAL(MmAllocateMdlForIoSpace(&List, 1, &Mdl), STATUS_SUCCESS);
    return Mdl;
}

static PMDL PartOf(PMDL Source)
{
    const PMDL Part = IoAllocateMdl(NULL, PAGE_SIZE, FALSE, FALSE, NULL);
    IoBuildPartialMdl(Source, Part, NULL, PAGE_SIZE);
    return Part;
}

static VOID Only_the_MDL_that_got_the_pages_can_free_them(VOID)
{
    const PMDL Mdl = HostPagesMdl(1);
    const PVOID Va = MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmCached, NULL, FALSE, 16);
    const PMDL Part = PartOf(Mdl);
    CHECK(Va != NULL);
    EXPECT_BUG_CHECK(MmFreePagesFromMdl(Part));
    CHECK_BUG_CHECK(MEMORY_MANAGEMENT, 0x1236, (ULONG_PTR)Part,
                    (ULONG_PTR)&MmGetMdlPfnArray(Part)[0], MmGetMdlPfnArray(Part)[0]);
    UCHAR Bytes[sizeof(MDL) + sizeof(PFN_NUMBER)];
    memcpy(Bytes, Mdl, sizeof(Bytes));
    EXPECT_BUG_CHECK(MmFreePagesFromMdl((PMDL)Bytes));
    CHECK_EQUAL(FakeBugCheck.Parameters[0], 0x1236);
    CHECK(FakeWalk((ULONG_PTR)Va).Level == 1);
}

static VOID An_MDL_that_was_initialised_again_owns_nothing(VOID)
{
    const PMDL Mdl = HostPagesMdl(1);
    CHECK(MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmCached, NULL, FALSE, 16) != NULL);
    const MDL Header = *Mdl;
    MmInitializeMdl(Mdl, NULL, PAGE_SIZE);
    Mdl->MdlFlags = MDL_PAGES_LOCKED;
    EXPECT_BUG_CHECK(MmFreePagesFromMdl(Mdl));
    CHECK_EQUAL(FakeBugCheck.Parameters[0], 0x1236);
    *Mdl = Header;
    HostFreePagesMdl(Mdl);
}

static VOID A_reservation_holds_the_device_memory_that_it_shows(VOID)
{
    const PVOID Base = MmAllocateMappingAddress(PAGE_SIZE, TAG);
    const PMDL Mdl = IoMdl();
    const PMDL Part = PartOf(Mdl);
    CHECK(MmMapLockedPagesWithReservedMapping(Base, TAG, Part, MmNonCached) == Base);
    IoFreeMdl(Mdl);
    CHECK(MmMapIoSpace(Pa(FAKE_IO_LOW), PAGE_SIZE, MmWriteCombined) == NULL);
    HostAudit();
    MmUnmapReservedMapping(Base, TAG, Part);
    const PVOID Va = MmMapIoSpace(Pa(FAKE_IO_LOW), PAGE_SIZE, MmWriteCombined);
    CHECK(Va != NULL);
    MmUnmapIoSpace(Va, PAGE_SIZE);
    MmFreeMappingAddress(Base, TAG);
    IoFreeMdl(Part);
}

static VOID A_reservation_holds_what_only_a_mapping_held(VOID)
{
    const PVOID Base = MmAllocateMappingAddress(PAGE_SIZE, TAG);
    const PVOID Registers = MmMapIoSpace(Pa(FAKE_IO_LOW), PAGE_SIZE, MmNonCached);
    const PMDL Mdl = IoAllocateMdl(Registers, PAGE_SIZE, FALSE, FALSE, NULL);
    MmGetMdlPfnArray(Mdl)[0] = PfnOf(FAKE_IO_LOW);
    Mdl->MdlFlags |= MDL_PAGES_LOCKED | MDL_IO_SPACE;
    CHECK(MmMapLockedPagesWithReservedMapping(Base, TAG, Mdl, MmCached) != NULL);
    MmUnmapIoSpace(Registers, PAGE_SIZE);
    CHECK(MmMapIoSpace(Pa(FAKE_IO_LOW), PAGE_SIZE, MmCached) == NULL);
    MmUnmapReservedMapping(Base, TAG, Mdl);
    MmFreeMappingAddress(Base, TAG);
    IoFreeMdl(Mdl);
}

static VOID A_frame_changed_while_it_was_in_a_reservation_is_0xDA_0x04(VOID)
{
    const PVOID Base = MmAllocateMappingAddress(PAGES(2), TAG);
    const PMDL Io = IoMdl();
    CHECK(MmMapLockedPagesWithReservedMapping(Base, TAG, Io, MmNonCached) == Base);
    MmGetMdlPfnArray(Io)[0] += 1;
    EXPECT_BUG_CHECK(MmUnmapReservedMapping(Base, TAG, Io));
    CHECK_EQUAL(FakeBugCheck.Code, SYSTEM_PTE_MISUSE);
    CHECK_EQUAL(FakeBugCheck.Parameters[0], 0x04);
    MmGetMdlPfnArray(Io)[0] -= 1;
    MmUnmapReservedMapping(Base, TAG, Io);
    MmFreeMappingAddress(Base, TAG);
    IoFreeMdl(Io);
}

static VOID An_MDL_of_device_memory_whose_frame_became_nonsense_stops(VOID)
{
    const PMDL Mdl = IoMdl();
    MmGetMdlPfnArray(Mdl)[0] = MAXULONG64;
    EXPECT_BUG_CHECK(IoFreeMdl(Mdl));
    CHECK_EQUAL(FakeBugCheck.Code, MEMORY_MANAGEMENT);
    CHECK_EQUAL(FakeBugCheck.Parameters[0], 0x61948);
}

static VOID A_reservation_that_cannot_be_had_keeps_no_tables(VOID)
{
    const ULONG64 FreeCount = MiFreePageCount();
    const PMDL Rest = MmAllocatePagesForMdlEx(Pa(0), Pa(MAXULONG64), Pa(0), PAGES(FreeCount - 300),
                                              MmCached, MM_DONT_ZERO_ALLOCATION);
    const ULONG64 Before = MiFreePageCount();
    CHECK(Rest != NULL && Before < 400);
    CHECK(MmAllocateMappingAddress(900ull << 20, TAG) == NULL);
    MmTrim();
    CHECK(MiFreePageCount() + 4 >= Before);
    HostFreePagesMdl(Rest);
}

static VOID What_the_kernel_uses_is_cached(VOID)
{
    const PVOID Va = MmMapIoSpace(Pa(FAKE_IO_LOW), PAGE_SIZE, MmNonCached);
    ULONG Seen = 0;
    for (PFN_NUMBER Pfn = 1; Pfn < MiPfnDatabaseEnd; Pfn += 1) {
        const MI_PFN_STATE State = MiPfnState(Pfn);
        if (State == MiPfnLedger || State == MiPfnRecord || State == MiPfnTable) {
            MEMORY_CACHING_TYPE Type;
            CHECK_EQUAL(MmGetCacheAttribute(Pa(Pfn << PAGE_SHIFT), &Type), STATUS_SUCCESS);
            CHECK_EQUAL(Type, MmCached);
            Seen += 1;
        }
    }
    CHECK(Seen > 3);
    MmUnmapIoSpace(Va, PAGE_SIZE);
}

static const HOST_TEST Tests[] = {
    HOST_ROW(Only_the_MDL_that_got_the_pages_can_free_them, "contract 0x1A/0x1236, 7.3.3",
             &FakeMachineMax),
    HOST_ROW(An_MDL_that_was_initialised_again_owns_nothing, "contract 0x1A/0x1236",
             &FakeMachineMax),
    HOST_ROW(A_reservation_holds_the_device_memory_that_it_shows, "contract 12.2.1, C2",
             &FakeMachineMax),
    HOST_ROW(A_reservation_holds_what_only_a_mapping_held, "contract 12.2.1, C2", &FakeMachineMax),
    HOST_ROW(A_frame_changed_while_it_was_in_a_reservation_is_0xDA_0x04, "contract 0xDA/0x04",
             &FakeMachineMax),
    HOST_ROW(An_MDL_of_device_memory_whose_frame_became_nonsense_stops, "contract 0x1A/0x61948",
             &FakeMachineMax),
    HOST_ROW(A_reservation_that_cannot_be_had_keeps_no_tables, "contract 5.1.5", &FakeMachineMax),
    HOST_ROW(What_the_kernel_uses_is_cached, "contract 4.11.3", &FakeMachineMax),
};

HOST_DEFINE_SUITE(owners);
