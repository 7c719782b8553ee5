// Allocations that fail. For every exported routine that allocates: the N-th allocation fails, for
// N = 1, 2, ... until the routine succeeds. After each failure the invariants hold, nothing is held
// that was not held before, and nobody can see that the routine was called.
#include "tests/host/host.h"

#define TAG 0x21676154u
#define MIB (1ull << 20)
#define MAXIMUM_ALLOCATIONS 4000

// A routine under test: does its work and undoes it; FALSE when it was refused.
typedef BOOLEAN ATTEMPT(VOID);

static BOOLEAN IsVisible(VOID)
{
    return MmIsIoSpaceActive(Pa(FAKE_IO_LOW), 64 * MIB) ||
           MmIsIoSpaceActive(Pa(FAKE_IO_HIGH), 4096 * MIB);
}

static VOID FailOneByOne(ATTEMPT *Attempt, ULONG Kinds, BOOLEAN MustFailAtLeastOnce)
{
    MM_MEMORY_USE Before;
    const BOOLEAN WasVisible = IsVisible();
    for (ULONG Skip = 0; Skip < MAXIMUM_ALLOCATIONS; Skip += 1) {
        MmQueryMemoryUse(&Before);
        MmStartFailures(Kinds, Skip, 1);
        const BOOLEAN Succeeded = Attempt();
        const ULONG Failed = MmStopFailures();
        HostCheckSameUse(&Before, Succeeded ? "after success" : "after failure");
        CHECK_EQUAL(IsVisible(), WasVisible);
        if (Skip % 16 == 0) {
            HostAudit();
        }
        if (!Succeeded) {
            CHECK(Failed == 1);
            HostCheckRefusal("no pool, frames or system addresses left");
        } else if (Failed == 0) {
            CHECK(Skip > 0 || !MustFailAtLeastOnce);
            HostAudit();
            return;
        }
    }
    FAIL("it still fails");
}

static VOID FailAllKinds(ATTEMPT *Attempt)
{
    FailOneByOne(Attempt, MM_FAIL_FRAMES, FALSE);
    FailOneByOne(Attempt, MM_FAIL_POOL, FALSE);
    FailOneByOne(Attempt, MM_FAIL_ADDRESSES, FALSE);
    FailOneByOne(Attempt, MM_FAIL_ALL, TRUE);
}

//
// I/O space.
//

static BOOLEAN MapOnePage(VOID)
{
    const PVOID Va = MmMapIoSpace(Pa(FAKE_IO_LOW), PAGE_SIZE, MmNonCached);
    if (Va != NULL) {
        MmUnmapIoSpace(Va, PAGE_SIZE);
    }
    return Va != NULL;
}

static VOID MapIoSpace_leaves_nothing_when_an_allocation_fails(VOID)
{
    FailAllKinds(MapOnePage);
}

// Misaligned, so that it needs tables of every level in several places.
static BOOLEAN MapManyTables(VOID)
{
    const SIZE_T ByteCount = 1024 * MIB + 8 * MIB;
    const PVOID Va = MmMapIoSpaceEx(Pa(FAKE_IO_HIGH + 3 * PAGE_SIZE), ByteCount,
                                    PAGE_READWRITE | PAGE_WRITECOMBINE);
    if (Va != NULL) {
        MmUnmapIoSpace(Va, ByteCount);
    }
    return Va != NULL;
}

static VOID MapIoSpaceEx_with_many_tables_leaves_nothing_when_an_allocation_fails(VOID)
{
    FailOneByOne(MapManyTables, MM_FAIL_ALL, TRUE);
}

static BOOLEAN MapOverAnMdl(VOID)
{
    // An MDL holds the same range without a type: a refused mapping must not give it one.
    const PVOID Va = MmMapIoSpace(Pa(FAKE_IO_LOW), 2 * PAGE_SIZE, MmWriteCombined);
    if (Va != NULL) {
        MmUnmapIoSpace(Va, 2 * PAGE_SIZE);
    } else {
        CHECK(!MmIsIoSpaceActive(Pa(FAKE_IO_LOW), 2 * PAGE_SIZE));
    }
    return Va != NULL;
}

static VOID A_failed_mapping_leaves_an_MDL_of_the_range_undecided(VOID)
{
    MM_PHYSICAL_ADDRESS_LIST List = {Pa(FAKE_IO_LOW), 2 * PAGE_SIZE};
    PMDL Mdl;
    CHECK_EQUAL(MmAllocateMdlForIoSpace(&List, 1, &Mdl), STATUS_SUCCESS);
    ULONG FailedCount = 0;
    BOOLEAN Succeeded = FALSE;
    while (!Succeeded) {
        MmStartFailures(MM_FAIL_ALL, FailedCount, 1);
        Succeeded = MapOverAnMdl();
        FailedCount += MmStopFailures();
    }
    CHECK(FailedCount > 0);
    IoFreeMdl(Mdl);
}

static PFN_NUMBER LockedPfn;

static BOOLEAN MapLockedRam(VOID)
{
    const PVOID Va = MmMapIoSpace(Pa(PAGES(LockedPfn)), PAGE_SIZE, MmNonCached);
    if (Va != NULL) {
        MmUnmapIoSpace(Va, PAGE_SIZE);
    } else {
        CHECK(FakeWalk((ULONG_PTR)MiFrameToVa(LockedPfn)).Level != 0); // its alias is still there
    }
    return Va != NULL;
}

static VOID MapIoSpace_of_locked_RAM_leaves_nothing_when_an_allocation_fails(VOID)
{
    const PMDL Mdl = MmAllocatePagesForMdl(Pa(0), Pa(MAXULONG64), Pa(0), PAGE_SIZE);
    LockedPfn = MmGetMdlPfnArray(Mdl)[0];
    FailOneByOne(MapLockedRam, MM_FAIL_ALL, TRUE);
    MmFreePagesFromMdl(Mdl);
    ExFreePool(Mdl);
}

//
// MDLs.
//

static BOOLEAN AllocateMdl(VOID)
{
    const PMDL Mdl = IoAllocateMdl(NULL, 3 * MIB, FALSE, FALSE, NULL); // a block of several pages
    if (Mdl != NULL) {
        IoFreeMdl(Mdl);
    }
    return Mdl != NULL;
}

static VOID IoAllocateMdl_leaves_nothing_when_an_allocation_fails(VOID)
{
    FailAllKinds(AllocateMdl);
}

static BOOLEAN AllocateMdlForIoSpace(VOID)
{
    MM_PHYSICAL_ADDRESS_LIST List[] = {{Pa(FAKE_IO_LOW), 3 * PAGE_SIZE},
                                       {Pa(FAKE_IO_HIGH), PAGE_SIZE},
                                       {Pa(FAKE_ECAM), 2 * PAGE_SIZE},
                                       {Pa(FAKE_IO_LOW + 64 * MIB), PAGE_SIZE}};
    PMDL Mdl;
    const NTSTATUS Status = MmAllocateMdlForIoSpace(List, ARRAYSIZE(List), &Mdl);
    CHECK(Status == STATUS_SUCCESS || Status == STATUS_INSUFFICIENT_RESOURCES);
    CHECK_EQUAL(Mdl != NULL, NT_SUCCESS(Status));
    if (Mdl != NULL) {
        IoFreeMdl(Mdl);
    }
    return Mdl != NULL;
}

static VOID MmAllocateMdlForIoSpace_leaves_nothing_when_an_allocation_fails(VOID)
{
    FailAllKinds(AllocateMdlForIoSpace);
}

static PMDL MappedMdl;

static BOOLEAN MapMdl(VOID)
{
    const PVOID Va = MmMapLockedPagesSpecifyCache(MappedMdl, KernelMode, MmNonCached, NULL, FALSE,
                                                  NormalPagePriority);
    if (Va != NULL) {
        MmUnmapLockedPages(Va, MappedMdl);
    } else {
        CHECK_EQUAL(MappedMdl->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA, 0);
        CHECK(!MmIsIoSpaceActive(Pa(FAKE_IO_LOW), MIB)); // undecided as before
    }
    return Va != NULL;
}

static VOID FailMdlMapping(VOID)
{
    // Until it has succeeded once, which decides the type for good.
    for (ULONG Skip = 0; Skip < 200; Skip += 1) {
        MM_MEMORY_USE Before;
        MmQueryMemoryUse(&Before);
        MmStartFailures(MM_FAIL_ALL, Skip, 1);
        const BOOLEAN Succeeded = MapMdl();
        MmStopFailures();
        HostCheckSameUse(&Before, "MmMapLockedPagesSpecifyCache");
        HostAudit();
        if (Succeeded) {
            CHECK(Skip > 0);
            return;
        }
    }
    FAIL("it still fails");
}

static VOID MapLockedPages_of_device_memory_leaves_nothing_when_an_allocation_fails(VOID)
{
    MM_PHYSICAL_ADDRESS_LIST List[] = {{Pa(FAKE_IO_LOW), 3 * PAGE_SIZE},
                                       {Pa(FAKE_IO_LOW + MIB), 600 * PAGE_SIZE}};
    CHECK_EQUAL(MmAllocateMdlForIoSpace(List, 2, &MappedMdl), STATUS_SUCCESS);
    FailMdlMapping();
    IoFreeMdl(MappedMdl);
}

static VOID MapLockedPages_of_RAM_leaves_nothing_when_an_allocation_fails(VOID)
{
    MappedMdl = MmAllocatePagesForMdl(Pa(0), Pa(MAXULONG64), Pa(0), 600 * PAGE_SIZE);
    FailMdlMapping();
    MmFreePagesFromMdl(MappedMdl);
    ExFreePool(MappedMdl);
}

static ULONG PagesFlags;

static BOOLEAN AllocatePages(VOID)
{
    const PMDL Mdl =
        MmAllocatePagesForMdlEx(Pa(0), Pa(MAXULONG64), Pa(0), 40 * PAGE_SIZE, MmCached, PagesFlags);
    if (Mdl == NULL) {
        return FALSE;
    }
    CHECK(MmGetMdlByteCount(Mdl) == 40 * PAGE_SIZE ||
          (PagesFlags & MM_ALLOCATE_FULLY_REQUIRED) == 0);
    MmFreePagesFromMdl(Mdl);
    ExFreePool(Mdl);
    return TRUE;
}

static VOID AllocatePagesForMdl_leaves_nothing_when_an_allocation_fails(VOID)
{
    static const ULONG Flags[] = {0, MM_ALLOCATE_FULLY_REQUIRED,
                                  MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS};
    for (ULONG Row = 0; Row < ARRAYSIZE(Flags); Row += 1) {
        PagesFlags = Flags[Row];
        FailAllKinds(AllocatePages);
    }
}

static VOID A_shortage_in_the_middle_gives_a_shorter_MDL(VOID)
{
    MmStartFailures(MM_FAIL_FRAMES, 12, MAXULONG);
    const PMDL Mdl =
        MmAllocatePagesForMdlEx(Pa(0), Pa(MAXULONG64), Pa(0), 40 * PAGE_SIZE, MmCached, 0);
    CHECK(MmStopFailures() > 0);
    CHECK(Mdl != NULL && MmGetMdlByteCount(Mdl) > 0 && MmGetMdlByteCount(Mdl) < 40 * PAGE_SIZE);
    MmFreePagesFromMdl(Mdl);
    ExFreePool(Mdl);
}

//
// Reservations, claims, pool.
//

static BOOLEAN Reserve(VOID)
{
    const PVOID Va = MmAllocateMappingAddress(1200 * PAGE_SIZE, TAG);
    if (Va != NULL) {
        MmFreeMappingAddress(Va, TAG);
    }
    return Va != NULL;
}

static VOID MmAllocateMappingAddress_leaves_nothing_when_an_allocation_fails(VOID)
{
    FailAllKinds(Reserve);
}

static BOOLEAN ClaimAndPlace(VOID)
{
    PMM_CLAIM First;
    PMM_CLAIM Second;
    PHYSICAL_ADDRESS Base;
    if (!NT_SUCCESS(MmClaimPhysicalRange(Pa(FAKE_IO_LOW), MIB, MmClaimDevice, "first", &First))) {
        return FALSE;
    }
    const NTSTATUS Status =
        MmPlacePhysicalRange(MIB, MIB, FAKE_IO_LOW, MAXULONG64, "second", &Base, &Second);
    if (NT_SUCCESS(Status)) {
        MmReleasePhysicalRange(Second);
    }
    MmReleasePhysicalRange(First);
    return NT_SUCCESS(Status);
}

static VOID Claims_leave_nothing_when_an_allocation_fails(VOID)
{
    FailOneByOne(ClaimAndPlace, MM_FAIL_POOL, TRUE);
}

static SIZE_T PoolBytes;

static BOOLEAN AllocatePool(VOID)
{
    const PVOID Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, PoolBytes, TAG);
    if (Block != NULL) {
        ExFreePool(Block);
    } else {
        MiRefusePlain("the pool",
                      MiReasonResources); // the pool itself does not explain a plain shortage
    }
    return Block != NULL;
}

static VOID The_pool_leaves_nothing_when_an_allocation_fails(VOID)
{
    static const SIZE_T Sizes[] = {16, 100, 2032, 2033, PAGE_SIZE, 3 * PAGE_SIZE, 700 * PAGE_SIZE};
    for (ULONG Row = 0; Row < ARRAYSIZE(Sizes); Row += 1) {
        PoolBytes = Sizes[Row];
        FailOneByOne(AllocatePool, MM_FAIL_ALL, FALSE);
    }
}

//
// Forward progress.
//

static VOID What_was_given_can_be_given_back_with_every_allocation_failing(VOID)
{
    MM_MEMORY_USE Before;
    MmQueryMemoryUse(&Before);
    MM_PHYSICAL_ADDRESS_LIST List = {Pa(FAKE_IO_LOW), 64 * PAGE_SIZE};
    PMDL Io;
    CHECK_EQUAL(MmAllocateMdlForIoSpace(&List, 1, &Io), STATUS_SUCCESS);
    const PMDL Pages = MmAllocatePagesForMdl(Pa(0), Pa(MAXULONG64), Pa(0), 64 * PAGE_SIZE);
    const PVOID Large = MmMapIoSpaceEx(Pa(FAKE_IO_HIGH), 1024 * MIB, PAGE_READWRITE | PAGE_NOCACHE);
    const PVOID Reservation = MmAllocateMappingAddress(64 * PAGE_SIZE, TAG);
    const PVOID Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 5 * PAGE_SIZE, TAG);
    const PVOID Mapped =
        MmMapLockedPagesSpecifyCache(Io, KernelMode, MmNonCached, NULL, FALSE, NormalPagePriority);
    MmStartFailures(MM_FAIL_ALL, 0, MAXULONG);
    CHECK(MmMapLockedPagesWithReservedMapping(Reservation, TAG, Pages, MmWriteCombined) ==
          Reservation);
    MmUnmapReservedMapping(Reservation, TAG, Pages);
    MmFreeMappingAddress(Reservation, TAG);
    MmUnmapIoSpace(Large, 1024 * MIB);
    MmUnmapLockedPages(Mapped, Io);
    IoFreeMdl(Io);
    MmFreePagesFromMdl(Pages);
    ExFreePool(Pages);
    ExFreePool(Block);
    CHECK_EQUAL(MmStopFailures(), 0);
    HostCheckSameUse(&Before, "everything given back under failures");
}

//
// Memory of drivers.
//

static MEMORY_CACHING_TYPE BlockType;

static BOOLEAN AllocateContiguous(VOID)
{
    const PVOID Va = MmAllocateContiguousMemorySpecifyCache(600 * PAGE_SIZE, Pa(0), Pa(MAXULONG64),
                                                            Pa(0), BlockType);
    if (Va != NULL) {
        MmFreeContiguousMemory(Va);
    }
    return Va != NULL;
}

static VOID FailAndLookAtAddresses(ATTEMPT *Attempt)
{
    ULONG64 Before;
    ULONG64 After;
    ULONG64 Total;
    MiQuerySystemVa(MiRegionPool, &Before, &Total);
    FailAllKinds(Attempt);
    MiQuerySystemVa(MiRegionPool, &After, &Total);
    CHECK_EQUAL(After, Before);
}

static VOID Contiguous_memory_leaves_nothing_when_an_allocation_fails(VOID)
{
    static const MEMORY_CACHING_TYPE Types[] = {MmCached, MmNonCached, MmWriteCombined};
    for (ULONG Row = 0; Row < ARRAYSIZE(Types); Row += 1) {
        BlockType = Types[Row];
        FailAndLookAtAddresses(AllocateContiguous);
    }
}

static BOOLEAN AllocateExecutable(VOID)
{
    PVOID Va;
    SIZE_T Bytes = 5 * PAGE_SIZE;
    const NTSTATUS Status = MmAllocateContiguousMemoryEx(&Bytes, Pa(0), Pa(MAXULONG64), Pa(0), 0,
                                                         PAGE_EXECUTE_READWRITE, NULL, TAG, 0, &Va);
    CHECK(Status == STATUS_SUCCESS || Status == STATUS_INSUFFICIENT_RESOURCES);
    CHECK_EQUAL(Va != NULL, NT_SUCCESS(Status));
    if (Va != NULL) {
        MmFreeContiguousMemory(Va);
    }
    return Va != NULL;
}

static VOID Executable_contiguous_memory_leaves_nothing_when_an_allocation_fails(VOID)
{
    FailAndLookAtAddresses(AllocateExecutable);
}

static BOOLEAN AllocateNonCached(VOID)
{
    const PVOID Va = MmAllocateNonCachedMemory(20 * PAGE_SIZE);
    if (Va != NULL) {
        MmFreeNonCachedMemory(Va, 20 * PAGE_SIZE);
    }
    return Va != NULL;
}

static VOID Non_cached_memory_leaves_nothing_when_an_allocation_fails(VOID)
{
    FailAndLookAtAddresses(AllocateNonCached);
}

static BOOLEAN CreateStack(VOID)
{
    const PVOID Stack = MmCreateKernelStack(NULL);
    if (Stack != NULL) {
        MmDeleteKernelStack(Stack);
    }
    return Stack != NULL;
}

static VOID A_stack_leaves_nothing_when_an_allocation_fails(VOID)
{
    FailAndLookAtAddresses(CreateStack);
}

static BOOLEAN AllocateAdjacentPages(VOID)
{
    const PMDL Mdl = MmAllocatePagesForMdlEx(
        Pa(0), Pa(MAXULONG64), Pa(0), 300 * PAGE_SIZE, MmCached,
        MM_ALLOCATE_PREFER_CONTIGUOUS | MM_ALLOCATE_FULLY_REQUIRED | MM_ALLOCATE_TRIM_IF_NECESSARY);
    if (Mdl != NULL) {
        MmFreePagesFromMdl(Mdl);
        ExFreePool(Mdl);
    }
    return Mdl != NULL;
}

static VOID AllocatePagesForMdl_in_large_pieces_leaves_nothing_when_an_allocation_fails(VOID)
{
    FailOneByOne(AllocateAdjacentPages, MM_FAIL_ALL, TRUE);
}

//
// Low-resource simulation.
//

// The attempts of Count that failed.
static ULONG CountFailures(ULONG Count)
{
    ULONG FailedCount = 0;
    for (ULONG Index = 0; Index < Count; Index += 1) {
        const PVOID Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 100, 'tseT');
        FailedCount += Block == NULL;
        if (Block != NULL) {
            ExFreePool(Block);
        }
    }
    return FailedCount;
}

static VOID Every_kth_allocation_fails_or_just_the_nth(VOID)
{
    MmSimulateLowResources(MM_FAIL_POOL, 4, FALSE);
    CHECK_EQUAL(CountFailures(40), 10);
    CHECK_EQUAL(MmSimulatedFailureCount(), 10);
    MmStartFailures(MM_FAIL_FRAMES, 1000, 1); // the simulation rests
    CHECK_EQUAL(CountFailures(40), 0);
    MmStopFailures();
    CHECK_EQUAL(CountFailures(40), 10);
    MmSimulateLowResources(MM_FAIL_POOL, 4, TRUE);
    CHECK_EQUAL(CountFailures(3), 0);
    CHECK_EQUAL(CountFailures(40), 1);
    MmSimulateLowResources(MM_FAIL_ADDRESSES, 1, FALSE);
    CHECK_EQUAL(CountFailures(40), 0);
    CHECK(MmAllocateMappingAddress(PAGE_SIZE, 'tseT') == NULL);
    MmSimulateLowResources(MM_FAIL_ALL, 0, FALSE);
    CHECK_EQUAL(CountFailures(40), 0);
}

// The routines of the tests above that need nothing made ready, with every k-th allocation failing.
static VOID Every_routine_leaves_nothing_when_every_kth_allocation_fails(VOID)
{
    static BOOLEAN (*const Routines[])(VOID) = {MapOnePage,         MapManyTables,
                                                AllocateMdl,        AllocateMdlForIoSpace,
                                                AllocatePages,      Reserve,
                                                ClaimAndPlace,      AllocatePool,
                                                AllocateContiguous, AllocateExecutable,
                                                AllocateNonCached,  AllocateAdjacentPages,
                                                CreateStack};
    BlockType = MmNonCached;
    PoolBytes = 3 * PAGE_SIZE;
    for (ULONG Interval = 1; Interval < 30; Interval += 1) {
        MM_MEMORY_USE Before;
        MmQueryMemoryUse(&Before);
        MmSimulateLowResources(MM_FAIL_ALL, Interval, FALSE);
        for (ULONG Index = 0; Index < 10 * ARRAYSIZE(Routines); Index += 1) {
            (VOID) Routines[Index % ARRAYSIZE(Routines)]();
        }
        CHECK(MmSimulatedFailureCount() > 0);
        MmSimulateLowResources(0, 0, FALSE);
        HostCheckSameUse(&Before, "every k-th allocation fails");
        HostAudit();
    }
}

static VOID The_boot_options_say_what_fails(VOID)
{
    static CHAR Fail[64];
    static CHAR Every[64];
    static CHAR At[64];
    static const struct {
        const CHAR *Fail;
        const CHAR *Every;
        const CHAR *At;
        ULONG FailedCount; // of 40
    } Rows[] = {
        {"pool", "5", "", 8},
        {"frames,pool", "10", "x", 4},
        {"all", "", "3", 1},
        {"pool", "", "", 0},
        {"pool", "0", "", 0},
        {"pool", "1x", "", 0},
        {"pool", "99999999999", "", 0},
        {"nothing", "5", "", 0},
        {"addresses,locks", "1", "", 0},
    };
    MmReadFailureOptions(); // none
    CHECK_EQUAL(CountFailures(40), 0);
    FakeSetBootOption("fail", Fail);
    FakeSetBootOption("every", Every);
    FakeSetBootOption("at", At);
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        strcpy(Fail, Rows[Row].Fail);
        strcpy(Every, Rows[Row].Every);
        strcpy(At, Rows[Row].At);
        MmSimulateLowResources(0, 0, FALSE);
        MmReadFailureOptions();
        CHECK_EQUAL(CountFailures(40), Rows[Row].FailedCount);
    }
}

static const HOST_TEST Tests[] = {
    HOST_ROW(MapIoSpace_leaves_nothing_when_an_allocation_fails, "contract 4.1.5", &FakeMachineMax),
    HOST_ROW(MapIoSpaceEx_with_many_tables_leaves_nothing_when_an_allocation_fails,
             "contract 4.2.4", &FakeMachineQemu64),
    HOST_ROW(A_failed_mapping_leaves_an_MDL_of_the_range_undecided, "contract 12.2.8",
             &FakeMachineMax),
    HOST_ROW(MapIoSpace_of_locked_RAM_leaves_nothing_when_an_allocation_fails, "contract 4.1.5, A1",
             &FakeMachineMax),
    HOST_ROW(IoAllocateMdl_leaves_nothing_when_an_allocation_fails, "contract 6.1.5",
             &FakeMachineMax),
    HOST_ROW(MmAllocateMdlForIoSpace_leaves_nothing_when_an_allocation_fails, "contract 4.4.7, C3",
             &FakeMachineMax),
    HOST_ROW(MapLockedPages_of_device_memory_leaves_nothing_when_an_allocation_fails,
             "contract 6.8.5", &FakeMachineMax),
    HOST_ROW(MapLockedPages_of_RAM_leaves_nothing_when_an_allocation_fails, "contract 6.8.5, A1",
             &FakeMachineMax),
    HOST_ROW(AllocatePagesForMdl_leaves_nothing_when_an_allocation_fails, "contract 7.1.10",
             &FakeMachineMax),
    HOST_ROW(A_shortage_in_the_middle_gives_a_shorter_MDL, "contract 7.1.4", &FakeMachineMax),
    HOST_ROW(MmAllocateMappingAddress_leaves_nothing_when_an_allocation_fails, "contract 5.1.5",
             &FakeMachineMax),
    HOST_ROW(Claims_leave_nothing_when_an_allocation_fails, "mm.h, physical ranges",
             &FakeMachineMax),
    HOST_ROW(The_pool_leaves_nothing_when_an_allocation_fails, "contract 8.3.6", &FakeMachineMax),
    HOST_ROW(Contiguous_memory_leaves_nothing_when_an_allocation_fails, "contract 8.1.10",
             &FakeMachineMax),
    HOST_ROW(Executable_contiguous_memory_leaves_nothing_when_an_allocation_fails,
             "contract 8.1.9, 8.1.10", &FakeMachineMax),
    HOST_ROW(Non_cached_memory_leaves_nothing_when_an_allocation_fails, "contract 8.2.2",
             &FakeMachineMax),
    HOST_ROW(A_stack_leaves_nothing_when_an_allocation_fails, "mm.h", &FakeMachineMax),
    HOST_ROW(AllocatePagesForMdl_in_large_pieces_leaves_nothing_when_an_allocation_fails,
             "contract 7.1.10", &FakeMachineMax),
    HOST_ROW(Every_kth_allocation_fails_or_just_the_nth, "contract 14.8", &FakeMachineMax),
    HOST_ROW(Every_routine_leaves_nothing_when_every_kth_allocation_fails, "contract 14.8",
             &FakeMachineMax),
    HOST_ROW(The_boot_options_say_what_fails, "contract 14.8", &FakeMachineMax),
    HOST_ROW(What_was_given_can_be_given_back_with_every_allocation_failing, "contract 5.2.3",
             &FakeMachineMax),
};

HOST_DEFINE_SUITE(failure);
