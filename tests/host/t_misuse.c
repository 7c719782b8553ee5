// Every bug check that the contract names for these routines: the code and all four parameters.
// After each, nothing has changed: the machine would have stopped before it did anything.
#include "tests/host/host.h"

#define TAG 0x21676154u
#define OTHER_TAG 0x31676154u

static MM_MEMORY_USE Before;

// Statement stops with 0xDA and these parameters, and has changed nothing.
#define CHECK_MISUSE(Statement, P1, P2, P3, P4)                                                    \
    do {                                                                                           \
        MmQueryMemoryUse(&Before);                                                                 \
        EXPECT_BUG_CHECK(Statement);                                                               \
        CHECK_BUG_CHECK(SYSTEM_PTE_MISUSE, P1, P2, P3, P4);                                        \
        HostCheckSameUse(&Before, #Statement);                                                     \
    } while (0)

static PVOID Map(PMDL Mdl)
{
    return MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmCached, NULL, FALSE, NormalPagePriority);
}

//
// MmUnmapIoSpace.
//

static VOID Unmapping_twice_is_0xDA_0x400(VOID)
{
    const PVOID Va = MmMapIoSpace(Pa(FAKE_IO_LOW + 0x10), 2 * PAGE_SIZE, MmNonCached);
    MmUnmapIoSpace(Va, 2 * PAGE_SIZE);
    CHECK_MISUSE(MmUnmapIoSpace(Va, 2 * PAGE_SIZE), 0x400, (ULONG_PTR)Va, 3, 0);
    CHECK_MISUSE(MmUnmapIoSpace(NULL, PAGE_SIZE), 0x400, 0, 1, 0);
}

static VOID Unmapping_with_another_size_is_0xDA_0x305(VOID)
{
    const PVOID Va =
        MmMapIoSpace(Pa(FAKE_IO_LOW + 0x10), 2 * PAGE_SIZE, MmNonCached); // three pages
    CHECK_MISUSE(MmUnmapIoSpace(Va, 2), 0x305, (ULONG_PTR)Va, 1, 3);
    CHECK_MISUSE(MmUnmapIoSpace(Va, 4 * PAGE_SIZE), 0x305, (ULONG_PTR)Va, 5, 3);
    // A size that has the right number of pages only after it was cut to 32 bits.
    CHECK_MISUSE(MmUnmapIoSpace(Va, PAGES(1ull << 32) + 2 * PAGE_SIZE), 0x305, (ULONG_PTR)Va,
                 (1ull << 32) + 3, 3);
    CHECK_MISUSE(MmUnmapIoSpace(Va, MAXULONG64), 0x305, (ULONG_PTR)Va, (1ull << 52) + 1, 3);
    MmUnmapIoSpace(Va, 2 * PAGE_SIZE);

    const PVOID Page = MmMapIoSpace(Pa(FAKE_IO_LOW + 0x10), 1, MmNonCached);
    CHECK_MISUSE(MmUnmapIoSpace(Page, PAGE_SIZE), 0x305, (ULONG_PTR)Page, 2, 1);
    CHECK_MISUSE(MmUnmapIoSpace(Page, MAXULONG64), 0x305, (ULONG_PTR)Page, (1ull << 52) + 1, 1);
    MmUnmapIoSpace(Page, 1);
}

static VOID Unmapping_no_bytes_is_0xDA_0x300(VOID)
{
    const PVOID Va = MmMapIoSpace(Pa(FAKE_IO_LOW), PAGE_SIZE, MmNonCached);
    CHECK_MISUSE(MmUnmapIoSpace(Va, 0), 0x300, (ULONG_PTR)Va, 0, 0);
    MmUnmapIoSpace(Va, PAGE_SIZE);
}

static VOID Unmapping_from_the_middle_is_0xDA_0x304(VOID)
{
    const PUCHAR Va = MmMapIoSpace(Pa(FAKE_IO_LOW), 3 * PAGE_SIZE, MmNonCached);
    CHECK_MISUSE(MmUnmapIoSpace(Va + PAGE_SIZE, 2 * PAGE_SIZE), 0x304, (ULONG_PTR)Va + PAGE_SIZE, 2,
                 0);
    MmUnmapIoSpace(Va, 3 * PAGE_SIZE);
}

static VOID Unmapping_what_another_routine_mapped_is_0xDA_0x301(VOID)
{
    const PVOID Reservation = MmAllocateMappingAddress(PAGE_SIZE, TAG);
    const PMDL Mdl = HostPagesMdl(1);
    const PVOID Va = Map(Mdl);
    CHECK_MISUSE(MmUnmapIoSpace(Reservation, PAGE_SIZE), 0x301, (ULONG_PTR)Reservation, 0, 0);
    CHECK_MISUSE(MmUnmapIoSpace(Va, PAGE_SIZE), 0x301, (ULONG_PTR)Va, 0, 0);
    HostFreePagesMdl(Mdl);
    MmFreeMappingAddress(Reservation, TAG);
}

//
// Reservations.
//

static VOID Reserving_no_bytes_is_0xDA_0x100(VOID)
{
    EXPECT_BUG_CHECK(Ignore(MmAllocateMappingAddress(0, TAG)));
    CHECK_EQUAL(FakeBugCheck.Code, SYSTEM_PTE_MISUSE);
    CHECK(FakeBugCheck.Parameters[0] == 0x100 && FakeBugCheck.Parameters[1] == 0 &&
          FakeBugCheck.Parameters[2] == TAG && FakeBugCheck.Parameters[3] != 0);
}

static VOID Another_tag_is_0xDA_0x101_0x104_0x108(VOID)
{
    const PVOID Va = MmAllocateMappingAddress(2 * PAGE_SIZE, TAG);
    const PMDL Mdl = HostPagesMdl(1);
    const ULONG_PTR At = (ULONG_PTR)Va;
    CHECK_MISUSE(MmFreeMappingAddress(Va, OTHER_TAG), 0x101, At, OTHER_TAG, TAG);
    CHECK_MISUSE(Ignore(MmMapLockedPagesWithReservedMapping(Va, OTHER_TAG, Mdl, MmCached)), 0x104,
                 At, OTHER_TAG, TAG);
    Ignore(MmMapLockedPagesWithReservedMapping(Va, TAG, Mdl, MmCached));
    CHECK_MISUSE(MmUnmapReservedMapping(Va, OTHER_TAG, Mdl), 0x108, At, OTHER_TAG, TAG);
    // All 32 bits of the tag count.
    CHECK_MISUSE(MmUnmapReservedMapping(Va, TAG ^ 1, Mdl), 0x108, At, TAG ^ 1, TAG);
    MmUnmapReservedMapping(Va, TAG, Mdl);
    HostFreePagesMdl(Mdl);
    MmFreeMappingAddress(Va, TAG);
}

static VOID An_address_that_is_no_reservation_is_0xDA_0x102_0x105_0x109(VOID)
{
    const PVOID Va = MmAllocateMappingAddress(2 * PAGE_SIZE, TAG);
    const PMDL Mdl = HostPagesMdl(1);
    const PVOID Second = (PUCHAR)Va + PAGE_SIZE; // inside, but not its start
    const ULONG_PTR At = (ULONG_PTR)Second;
    CHECK_MISUSE(MmFreeMappingAddress(Second, TAG), 0x102, At, TAG, 0);
    CHECK_MISUSE(Ignore(MmMapLockedPagesWithReservedMapping(Second, TAG, Mdl, MmCached)), 0x105, At,
                 TAG, 0);
    CHECK_MISUSE(MmUnmapReservedMapping(Second, TAG, Mdl), 0x109, At, TAG, 0);
    MmFreeMappingAddress(Va, TAG);
    CHECK_MISUSE(MmFreeMappingAddress(Va, TAG), 0x102, (ULONG_PTR)Va, TAG, 0); // twice
    const PVOID Io = MmMapIoSpace(Pa(FAKE_IO_LOW), PAGE_SIZE, MmNonCached);
    CHECK_MISUSE(MmFreeMappingAddress(Io, TAG), 0x102, (ULONG_PTR)Io, TAG, 0);
    MmUnmapIoSpace(Io, PAGE_SIZE);
    HostFreePagesMdl(Mdl);
}

static VOID Freeing_a_mapped_reservation_is_0xDA_0x103(VOID)
{
    const PVOID Va = MmAllocateMappingAddress(2 * PAGE_SIZE, TAG);
    const PMDL Mdl = HostPagesMdl(1);
    Ignore(MmMapLockedPagesWithReservedMapping(Va, TAG, Mdl, MmCached));
    CHECK_MISUSE(MmFreeMappingAddress(Va, TAG), 0x103, (ULONG_PTR)Va, TAG, 2);
    MmUnmapReservedMapping(Va, TAG, Mdl);
    HostFreePagesMdl(Mdl);
    MmFreeMappingAddress(Va, TAG);
}

static VOID Mapping_twice_into_a_reservation_is_0xDA_0x107(VOID)
{
    const PVOID Va = MmAllocateMappingAddress(3 * PAGE_SIZE, TAG);
    const PMDL Mdl = HostPagesMdl(1);
    const PMDL Other = HostPagesMdl(1);
    const ULONG_PTR At = (ULONG_PTR)Va;
    Ignore(MmMapLockedPagesWithReservedMapping(Va, TAG, Mdl, MmCached));
    CHECK_MISUSE(Ignore(MmMapLockedPagesWithReservedMapping(Va, TAG, Mdl, MmCached)), 0x107, At, At,
                 At + 2 * PAGE_SIZE);
    CHECK_MISUSE(Ignore(MmMapLockedPagesWithReservedMapping(Va, TAG, Other, MmCached)), 0x107, At,
                 At, At + 2 * PAGE_SIZE);
    HostFreePagesMdl(Mdl);
    HostFreePagesMdl(Other);
    MmFreeMappingAddress(Va, TAG);
}

static VOID Unmapping_what_is_not_wholly_mapped_is_0xDA_0x10A_to_0x10C(VOID)
{
    const PVOID Va = MmAllocateMappingAddress(3 * PAGE_SIZE, TAG);
    const PMDL One = HostPagesMdl(1);
    const PMDL Two = HostPagesMdl(2);
    const PMDL Three = HostPagesMdl(3);
    const PMDL Four = HostPagesMdl(4);
    const ULONG_PTR At = (ULONG_PTR)Va;
    CHECK_MISUSE(MmUnmapReservedMapping(Va, TAG, One), 0x10B, At, TAG, 1); // nothing is mapped
    Ignore(MmMapLockedPagesWithReservedMapping(Va, TAG, Two, MmCached));
    CHECK_MISUSE(MmUnmapReservedMapping(Va, TAG, Four), 0x10A, At, 3, 4);
    CHECK_MISUSE(MmUnmapReservedMapping(Va, TAG, Three), 0x10B, At, TAG, 3);
    CHECK_MISUSE(MmUnmapReservedMapping(Va, TAG, One), 0x10C, At, TAG, 1);
    HostFreePagesMdl(One);
    HostFreePagesMdl(Two);
    HostFreePagesMdl(Three);
    HostFreePagesMdl(Four);
    MmFreeMappingAddress(Va, TAG);
}

static VOID Unmapping_with_an_MDL_that_is_not_mapped_there_is_0xDA_0x06(VOID)
{
    const PVOID Va = MmAllocateMappingAddress(PAGE_SIZE, TAG);
    const PMDL Mdl = HostPagesMdl(1);
    const PMDL Other = HostPagesMdl(1);
    Ignore(MmMapLockedPagesWithReservedMapping(Va, TAG, Mdl, MmCached));
    CHECK_MISUSE(MmUnmapReservedMapping(Va, TAG, Other), 0x06, (ULONG_PTR)Other, (ULONG_PTR)Va, 1);
    HostFreePagesMdl(Mdl);
    HostFreePagesMdl(Other);
    MmFreeMappingAddress(Va, TAG);
}

//
// MmUnmapLockedPages. The second parameter is the record of the mapping, whose address only mm
// knows.
//

#define CHECK_TRACKED(Statement, P1, P3, P4)                                                       \
    do {                                                                                           \
        EXPECT_BUG_CHECK(Statement);                                                               \
        CHECK_EQUAL(FakeBugCheck.Code, SYSTEM_PTE_MISUSE);                                         \
        CHECK_EQUAL(FakeBugCheck.Parameters[0], P1);                                               \
        CHECK(FakeBugCheck.Parameters[1] != 0);                                                    \
        CHECK_EQUAL(FakeBugCheck.Parameters[2], P3);                                               \
        CHECK_EQUAL(FakeBugCheck.Parameters[3], P4);                                               \
    } while (0)

static VOID Unmapping_an_MDL_twice_is_0xDA_0x06(VOID)
{
    const PMDL Mdl = HostPagesMdl(2);
    const PVOID Va = Map(Mdl);
    MmUnmapLockedPages(Va, Mdl);
    CHECK_MISUSE(MmUnmapLockedPages(Va, Mdl), 0x06, (ULONG_PTR)Mdl, (ULONG_PTR)Va, 2);
    HostFreePagesMdl(Mdl);
}

static VOID Unmapping_an_MDL_elsewhere_is_0xDA_0x03(VOID)
{
    const PMDL Mdl = HostPagesMdl(2);
    const PVOID Va = Map(Mdl);
    const ULONG_PTR Wrong = (ULONG_PTR)Va + PAGE_SIZE;
    CHECK_TRACKED(MmUnmapLockedPages((PVOID)Wrong, Mdl), 0x03, (ULONG_PTR)Va, Wrong);
    HostFreePagesMdl(Mdl);
}

static VOID An_MDL_that_changed_while_mapped_is_0xDA_0x02_0x04_0x05(VOID)
{
    const PMDL Mdl = HostPagesMdl(2);
    const PVOID Va = Map(Mdl);
    const PFN_NUMBER Pfn = MmGetMdlPfnArray(Mdl)[0];
    const PFN_NUMBER SecondPfn = MmGetMdlPfnArray(Mdl)[1];
    Mdl->ByteCount = PAGE_SIZE;
    CHECK_TRACKED(MmUnmapLockedPages(Va, Mdl), 0x02, 2, 1);
    Mdl->ByteCount = 2 * PAGE_SIZE;
    MmGetMdlPfnArray(Mdl)[0] = Pfn + 1000;
    CHECK_TRACKED(MmUnmapLockedPages(Va, Mdl), 0x04, Pfn, Pfn + 1000);
    MmGetMdlPfnArray(Mdl)[0] = Pfn;
    MmGetMdlPfnArray(Mdl)[1] = SecondPfn + 1000;
    CHECK_TRACKED(MmUnmapLockedPages(Va, Mdl), 0x04, Pfn, Pfn);
    MmGetMdlPfnArray(Mdl)[1] = SecondPfn;
    Mdl->StartVa = (PVOID)0x5000;
    CHECK_TRACKED(MmUnmapLockedPages(Va, Mdl), 0x05, 0, 0x5000);
    Mdl->StartVa = NULL;
    MmUnmapLockedPages(Va, Mdl);
    HostFreePagesMdl(Mdl);
}

static VOID An_MDL_of_one_page_that_changed_while_mapped_is_0xDA_0x02_0x04_0x05(VOID)
{
    const PMDL Mdl = HostPagesMdl(1);
    const PVOID Va = Map(Mdl);
    const PFN_NUMBER Pfn = MmGetMdlPfnArray(Mdl)[0];
    Mdl->ByteOffset = 1;
    CHECK_TRACKED(MmUnmapLockedPages(Va, Mdl), 0x02, 1, 2);
    Mdl->ByteOffset = 0;
    MmGetMdlPfnArray(Mdl)[0] = Pfn + 1000;
    CHECK_TRACKED(MmUnmapLockedPages(Va, Mdl), 0x04, Pfn, Pfn + 1000);
    MmGetMdlPfnArray(Mdl)[0] = Pfn;
    Mdl->StartVa = (PVOID)0x5000;
    CHECK_TRACKED(MmUnmapLockedPages(Va, Mdl), 0x05, 0, 0x5000);
    Mdl->StartVa = NULL;
    MmUnmapLockedPages(Va, Mdl);
    HostFreePagesMdl(Mdl);
}

static VOID Undoing_a_reserved_mapping_with_the_wrong_routine_is_0xDA_0x301(VOID)
{
    const PVOID Va = MmAllocateMappingAddress(PAGE_SIZE, TAG);
    const PMDL Mdl = HostPagesMdl(1);
    Ignore(MmMapLockedPagesWithReservedMapping(Va, TAG, Mdl, MmCached));
    CHECK_MISUSE(MmUnmapLockedPages(Va, Mdl), 0x301, (ULONG_PTR)Va, 0, 0);
    HostFreePagesMdl(Mdl);
    MmFreeMappingAddress(Va, TAG);
}

//
// Frames of MDLs.
//

static VOID A_frame_that_is_not_locked_is_0x1A_0x1236(VOID)
{
    const PVOID Reservation = MmAllocateMappingAddress(2 * PAGE_SIZE, TAG);
    const PMDL Pages = HostPagesMdl(1);
    const PMDL Mdl = IoAllocateMdl(NULL, 2 * PAGE_SIZE, FALSE, FALSE, NULL);
    const PPFN_NUMBER Pfns = MmGetMdlPfnArray(Mdl);
    // A table, the kernel, free RAM, nothing at all.
    const PFN_NUMBER Bad[] = {MiRootPfn, FAKE_KERNEL_PA >> PAGE_SHIFT, MiFirstFreePfn(), MAXULONG64,
                              1ull << 40};
    Mdl->MdlFlags |= MDL_PAGES_LOCKED;
    Pfns[0] = MmGetMdlPfnArray(Pages)[0];
    for (ULONG Row = 0; Row < ARRAYSIZE(Bad); Row += 1) {
        Pfns[1] = Bad[Row];
        EXPECT_BUG_CHECK(Ignore(Map(Mdl)));
        CHECK_BUG_CHECK(MEMORY_MANAGEMENT, 0x1236, (ULONG_PTR)Mdl, (ULONG_PTR)&Pfns[1], Bad[Row]);
        EXPECT_BUG_CHECK(
            Ignore(MmMapLockedPagesWithReservedMapping(Reservation, TAG, Mdl, MmCached)));
        CHECK_BUG_CHECK(MEMORY_MANAGEMENT, 0x1236, (ULONG_PTR)Mdl, (ULONG_PTR)&Pfns[1], Bad[Row]);
    }
    IoFreeMdl(Mdl);
    HostFreePagesMdl(Pages);
    MmFreeMappingAddress(Reservation, TAG);
}

static VOID Freeing_pages_twice_is_0x1A_0x1236(VOID)
{
    const PMDL Mdl = HostPagesMdl(3);
    MmFreePagesFromMdl(Mdl);
    EXPECT_BUG_CHECK(MmFreePagesFromMdl(Mdl));
    CHECK_BUG_CHECK(MEMORY_MANAGEMENT, 0x1236, (ULONG_PTR)Mdl, (ULONG_PTR)MmGetMdlPfnArray(Mdl),
                    MAXULONG64);
    CHECK(strstr(FakeBugCheck.Sentence, "freed already") != NULL);
    ExFreePool(Mdl);
}

static VOID Freeing_frames_that_others_map_is_0x4E_0x9A(VOID)
{
    const PMDL Mdl = HostPagesMdl(1);
    const PFN_NUMBER Pfn = MmGetMdlPfnArray(Mdl)[0];
    const PVOID Va = MmMapIoSpace(Pa(PAGES(Pfn)), PAGE_SIZE, MmCached);
    EXPECT_BUG_CHECK(MmFreePagesFromMdl(Mdl));
    CHECK_BUG_CHECK(PFN_LIST_CORRUPT, 0x9A, Pfn, MiPfnMdl, 1);
    MmUnmapIoSpace(Va, PAGE_SIZE);
    HostFreePagesMdl(Mdl);
}

static VOID Freeing_frames_that_a_copy_of_the_MDL_maps_is_0x4E_0x9A(VOID)
{
    const PMDL Mdl = HostPagesMdl(2);
    const PMDL Copy = IoAllocateMdl(NULL, 2 * PAGE_SIZE, FALSE, FALSE, NULL);
    RtlCopyMemory(MmGetMdlPfnArray(Copy), MmGetMdlPfnArray(Mdl), 2 * sizeof(PFN_NUMBER));
    Copy->MdlFlags |= MDL_PAGES_LOCKED;
    const PVOID Va =
        MmMapLockedPagesSpecifyCache(Copy, KernelMode, MmCached, NULL, FALSE, NormalPagePriority);
    CHECK(Va != NULL);
    EXPECT_BUG_CHECK(MmFreePagesFromMdl(Mdl));
    CHECK_BUG_CHECK(PFN_LIST_CORRUPT, 0x9A, MmGetMdlPfnArray(Mdl)[0], MiPfnMdl, 1);
    MmUnmapLockedPages(Va, Copy);
    Copy->MdlFlags &= ~MDL_PAGES_LOCKED;
    IoFreeMdl(Copy);
    HostFreePagesMdl(Mdl);
}

static VOID Freeing_pool_that_is_mapped_is_0x4E_0x9A(VOID)
{
    const PVOID Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, PAGE_SIZE, TAG);
    const PHYSICAL_ADDRESS Address = MmGetPhysicalAddress(Block);
    const PVOID Va = MmMapIoSpace(Address, PAGE_SIZE, MmCached);
    EXPECT_BUG_CHECK(ExFreePool(Block));
    CHECK_BUG_CHECK(PFN_LIST_CORRUPT, 0x9A, PfnOf((ULONG64)Address.QuadPart), MiPfnPool, 1);
    MmUnmapIoSpace(Va, PAGE_SIZE);
    ExFreePool(Block);
}

static VOID Describing_a_buffer_that_is_not_there_is_0x1A_0x1240(VOID)
{
    const PVOID Reservation = MmAllocateMappingAddress(PAGE_SIZE, TAG);
    const PMDL Mdl = IoAllocateMdl(Reservation, PAGE_SIZE, FALSE, FALSE, NULL);
    EXPECT_BUG_CHECK(MmBuildMdlForNonPagedPool(Mdl));
    CHECK_BUG_CHECK(MEMORY_MANAGEMENT, 0x1240, (ULONG_PTR)Mdl, MiPteAddress((ULONG_PTR)Reservation),
                    0);
    IoFreeMdl(Mdl);
    MmFreeMappingAddress(Reservation, TAG);
}

static VOID Freeing_what_is_no_MDL_is_0xC2(VOID)
{
    const PMDL Mdl = IoAllocateMdl(NULL, PAGE_SIZE, FALSE, FALSE, NULL);
    const PMDL Keeper = IoAllocateMdl(NULL, PAGE_SIZE, FALSE, FALSE, NULL);
    const PMDL Pages = HostPagesMdl(1);
    IoFreeMdl(Mdl);
    EXPECT_BUG_CHECK(IoFreeMdl(Mdl));
    CHECK_BUG_CHECK(BAD_POOL_CALLER, 0x07, (ULONG_PTR)Mdl, 0, 0);
    EXPECT_BUG_CHECK(IoFreeMdl(NULL));
    CHECK_BUG_CHECK(BAD_POOL_CALLER, 0x99, 0, 0, 0);
    EXPECT_BUG_CHECK(IoFreeMdl(Pages)); // belongs to ExFreePool
    CHECK_BUG_CHECK(BAD_POOL_CALLER, 0x99, (ULONG_PTR)Pages, 0, 0);
    IoFreeMdl(Keeper);
    HostFreePagesMdl(Pages);
}

static VOID A_hold_that_was_never_taken_is_0x1A_0x61948(VOID)
{
    static const MI_PFN_RANGE Range = {FAKE_IO_LOW >> PAGE_SHIFT, (FAKE_IO_LOW >> PAGE_SHIFT) + 3};
    EXPECT_BUG_CHECK(MiReleaseFrames(Range));
    CHECK_BUG_CHECK(MEMORY_MANAGEMENT, 0x61948, PfnOf(FAKE_IO_LOW), 4, PfnOf(FAKE_IO_LOW));
}

static const HOST_TEST Tests[] = {
    HOST_ROW(Unmapping_twice_is_0xDA_0x400, "contract 4.3.3, 0xDA/0x400, 18.6", &FakeMachineMax),
    HOST_ROW(Unmapping_with_another_size_is_0xDA_0x305, "contract 4.3.4, 0xDA/0x305, 18.6",
             &FakeMachineMax),
    HOST_ROW(Unmapping_no_bytes_is_0xDA_0x300, "contract 4.3.4, 0xDA/0x300", &FakeMachineMax),
    HOST_ROW(Unmapping_from_the_middle_is_0xDA_0x304, "contract 4.3.6, 0xDA/0x304",
             &FakeMachineMax),
    HOST_ROW(Unmapping_what_another_routine_mapped_is_0xDA_0x301, "contract 4.3.6, 0xDA/0x301",
             &FakeMachineMax),
    HOST_ROW(Reserving_no_bytes_is_0xDA_0x100, "contract 5.1.3, 0xDA/0x100, 18.11",
             &FakeMachineMax),
    HOST_ROW(Another_tag_is_0xDA_0x101_0x104_0x108,
             "contract 5.2.7, 5.3.3, 5.4.2, 0xDA/0x101, 0xDA/0x104, 0xDA/0x108, 18.13",
             &FakeMachineMax),
    HOST_ROW(An_address_that_is_no_reservation_is_0xDA_0x102_0x105_0x109,
             "contract 5.2.8, 5.3.4, 5.4.3, 0xDA/0x102, 0xDA/0x105, 0xDA/0x109", &FakeMachineMax),
    HOST_ROW(Freeing_a_mapped_reservation_is_0xDA_0x103, "contract 5.4.4, 0xDA/0x103, 18.13",
             &FakeMachineMax),
    HOST_ROW(Mapping_twice_into_a_reservation_is_0xDA_0x107, "contract 5.2.9, 0xDA/0x107, 18.13",
             &FakeMachineMax),
    HOST_ROW(Unmapping_what_is_not_wholly_mapped_is_0xDA_0x10A_to_0x10C,
             "contract 5.3.5, 0xDA/0x10A, 0xDA/0x10B, 0xDA/0x10C, 18.13", &FakeMachineMax),
    HOST_ROW(Unmapping_with_an_MDL_that_is_not_mapped_there_is_0xDA_0x06,
             "contract 5.3.5, 0xDA/0x06", &FakeMachineMax),
    HOST_ROW(Unmapping_an_MDL_twice_is_0xDA_0x06, "contract 6.10.3, 0xDA/0x06", &FakeMachineMax),
    HOST_ROW(Unmapping_an_MDL_elsewhere_is_0xDA_0x03, "contract 6.10.3, 0xDA/0x03",
             &FakeMachineMax),
    HOST_ROW(An_MDL_that_changed_while_mapped_is_0xDA_0x02_0x04_0x05,
             "contract 6.10.3, 0xDA/0x02, 0xDA/0x04, 0xDA/0x05", &FakeMachineMax),
    HOST_ROW(An_MDL_of_one_page_that_changed_while_mapped_is_0xDA_0x02_0x04_0x05,
             "contract 6.10.3, 0xDA/0x02, 0xDA/0x04, 0xDA/0x05", &FakeMachineMax),
    HOST_ROW(Undoing_a_reserved_mapping_with_the_wrong_routine_is_0xDA_0x301,
             "contract 6.10.4, 0xDA/0x301", &FakeMachineMax),
    HOST_ROW(A_frame_that_is_not_locked_is_0x1A_0x1236, "contract 6.8.9, 0x1A/0x1236",
             &FakeMachineMax),
    HOST_ROW(Freeing_pages_twice_is_0x1A_0x1236, "contract 7.3.3, 0x1A/0x1236", &FakeMachineMax),
    HOST_ROW(Freeing_frames_that_others_map_is_0x4E_0x9A, "contract 7.3.4, 0x4E/0x9A",
             &FakeMachineMax),
    HOST_ROW(Freeing_frames_that_a_copy_of_the_MDL_maps_is_0x4E_0x9A, "contract 7.3.4, 0x4E/0x9A",
             &FakeMachineMax),
    HOST_ROW(Freeing_pool_that_is_mapped_is_0x4E_0x9A, "contract 0x4E/0x9A", &FakeMachineMax),
    HOST_ROW(Describing_a_buffer_that_is_not_there_is_0x1A_0x1240, "contract 6.5.4, 0x1A/0x1240",
             &FakeMachineMax),
    HOST_ROW(Freeing_what_is_no_MDL_is_0xC2, "contract 6.2.4, 0xC2/0x99", &FakeMachineMax),
    HOST_ROW(A_hold_that_was_never_taken_is_0x1A_0x61948, "contract 0x1A/0x61948", &FakeMachineMax),
};

HOST_DEFINE_SUITE(misuse);
