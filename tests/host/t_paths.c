// The long ways of mapping.c, ledger.c and mdlmap.c: lists that are full, buckets with several records,
// allocations that fail in the middle, another processor that takes the last idle slot.
#include <sys/wait.h>
#include <unistd.h>

#include "mm/miquick.h"
#include "tests/host/host.h"

#define TAG 0x21676154u
#define LARGE_PAGES 512u

//
// Idle slots.
//

// More than there are buckets.
#define MANY ((1u << MI_BUCKET_BITS) + 500)

static VOID More_slots_than_are_kept_are_given_back(VOID)
{
    static PVOID Vas[MANY];
    MM_MEMORY_USE Before;
    MmQueryMemoryUse(&Before);
    for (ULONG Index = 0; Index < MANY; Index += 1) {
        Vas[Index] = MmMapIoSpace(Pa(FAKE_IO_LOW + PAGES(Index)), PAGE_SIZE, MmNonCached);
        CHECK(Vas[Index] != NULL);
    }
    // So many that buckets have several: each is found at its own address.
    for (ULONG Index = 0; Index < MANY; Index += 1) {
        CHECK_EQUAL(MiFindMapping(Vas[Index])->Io.FirstPfn, PfnOf(FAKE_IO_LOW) + Index);
        CHECK_EQUAL(MiFindSlotAt((ULONG_PTR)Vas[Index])->Io.FirstPfn, PfnOf(FAKE_IO_LOW) + Index);
    }
    const PMDL Mdl = MmAllocatePagesForMdl(Pa(0), Pa(MAXULONG64), Pa(0), PAGE_SIZE);
    const PVOID Last = MmMapLockedPages(Mdl, KernelMode);
    // In reverse, so that the bucket's first record is not the first to go.
    for (ULONG Index = MANY; Index > 0; Index -= 1) {
        MmUnmapIoSpace(Vas[Index - 1], PAGE_SIZE);
    }
    CHECK_EQUAL(MiIdle[0].Count, MI_IDLE_LIMIT);
    // The lists are full, sooner or later also when one of these is unmapped.
    PMDL Mdls[MI_CACHED_SLOTS];
    for (ULONG Index = 0; Index < ARRAYSIZE(Mdls); Index += 1) {
        Mdls[Index] = MmAllocatePagesForMdl(Pa(0), Pa(MAXULONG64), Pa(0), PAGE_SIZE);
        CHECK(MmMapLockedPages(Mdls[Index], KernelMode) != NULL);
    }
    MmUnmapLockedPages(Last, Mdl);
    for (ULONG Index = 0; Index < ARRAYSIZE(Mdls); Index += 1) {
        MmUnmapLockedPages(Mdls[Index]->MappedSystemVa, Mdls[Index]);
        MmFreePagesFromMdl(Mdls[Index]);
        ExFreePool(Mdls[Index]);
    }
    CHECK(HostIdleCount(0) <= MI_IDLE_LIMIT + MI_CACHED_SLOTS);
    MmFreePagesFromMdl(Mdl);
    ExFreePool(Mdl);
    HostCheckSameUse(&Before, "many mappings");
    CHECK_EQUAL(HostIdleCount(0), 0);
}

#define MANY_LARGE (MI_RECENT_LIMIT + 4)

static VOID More_large_slots_than_are_kept_are_given_back(VOID)
{
    PVOID Vas[MANY_LARGE];
    MM_MEMORY_USE Before;
    MmQueryMemoryUse(&Before);
    for (ULONG Index = 0; Index < MANY_LARGE; Index += 1) {
        Vas[Index] = MmMapIoSpace(Pa(FAKE_IO_HIGH + PAGES(LARGE_PAGES * Index)), PAGES(LARGE_PAGES),
                                  MmNonCached);
    }
    for (ULONG Index = 0; Index < MANY_LARGE; Index += 1) {
        MmUnmapIoSpace(Vas[Index], PAGES(LARGE_PAGES));
    }
    CHECK_EQUAL(MiRecent.Count, MI_RECENT_LIMIT);
    CHECK_EQUAL(MiIdleRangeCount, MI_RECENT_LIMIT);
    HostAudit();
    HostCheckSameUse(&Before, "many large mappings");
    CHECK_EQUAL(MiIdleRangeCount, 0);
}

static VOID The_queue_of_resting_addresses_is_not_endless(VOID)
{
    MmVerifierLevel = 1;
    MmInitSystem(&FakeLoaderBlock);
    const PVOID First = MmMapIoSpace(Pa(FAKE_IO_LOW), PAGE_SIZE, MmNonCached);
    MmUnmapIoSpace(First, PAGE_SIZE);
    ULONG Count = 0;
    PVOID Va = NULL;
    while (Va != First) {
        Va = MmMapIoSpace(Pa(FAKE_IO_LOW), PAGE_SIZE, MmNonCached);
        MmUnmapIoSpace(Va, PAGE_SIZE);
        Count += 1;
        CHECK(Count < 1000);
    }
    CHECK(Count > 200);
}

static VOID What_was_unmapped_already_says_so(VOID)
{
    const PVOID Va = MmMapIoSpace(Pa(FAKE_IO_LOW), PAGE_SIZE, MmNonCached);
    MmUnmapIoSpace(Va, PAGE_SIZE);
    EXPECT_BUG_CHECK(MmUnmapIoSpace(Va, PAGE_SIZE));
    CHECK_BUG_CHECK(SYSTEM_PTE_MISUSE, 0x400, (ULONG_PTR)Va, 1, 0);
    CHECK(strstr(FakeBugCheck.Sentence, "unmapped already") != NULL);
    const ULONG_PTR Guard = (ULONG_PTR)Va + PAGE_SIZE;
    EXPECT_BUG_CHECK(MmUnmapIoSpace((PVOID)Guard, PAGE_SIZE));
    CHECK_BUG_CHECK(SYSTEM_PTE_MISUSE, 0x400, Guard, 1, 0);
}

static PVOID FasterVa;

// Between the hold of the frame and the slot for it.
static VOID TakeLastSlot(const KI_LOCK *Lock)
{
    if (strcmp(Lock->Name, "MiCacheLock") == 0) {
        FakeBeforeLock = NULL;
        FasterVa = MmMapIoSpace(Pa(FAKE_IO_LOW + PAGE_SIZE), PAGE_SIZE, MmNonCached);
    }
}

static PVOID MapByProtection(VOID)
{
    return MmMapIoSpaceEx(Pa(FAKE_IO_LOW), PAGE_SIZE, PAGE_READWRITE | PAGE_NOCACHE);
}

static PVOID MapByType(VOID)
{
    return MmMapIoSpace(Pa(FAKE_IO_LOW), PAGE_SIZE, MmNonCached);
}

static VOID MapBehindAFasterOne(PVOID (*Map)(VOID))
{
    MmTrim();
    MmUnmapIoSpace(MapByType(), PAGE_SIZE);
    CHECK_EQUAL(HostIdleCount(0), 1);
    FakeBeforeLock = TakeLastSlot;
    const PVOID Va = Map();
    CHECK_EQUAL(FakeBeforeLock, NULL);
    CHECK(Va != NULL && Va != FasterVa);
    CHECK_PAGE(Va, PfnOf(FAKE_IO_LOW), MiAccessReadWrite, MiCacheUncached);
    HostAudit();
    MmUnmapIoSpace(Va, PAGE_SIZE);
    MmUnmapIoSpace(FasterVa, PAGE_SIZE);
}

static VOID The_last_idle_slot_may_go_to_another_processor(VOID)
{
    MapBehindAFasterOne(MapByProtection);
    MapBehindAFasterOne(MapByType);
}

static VOID The_last_idle_slot_for_an_MDL_may_go_to_another_processor(VOID)
{
    const PMDL Mdl = MmAllocatePagesForMdl(Pa(0), Pa(MAXULONG64), Pa(0), PAGE_SIZE);
    MmUnmapIoSpace(MmMapIoSpace(Pa(FAKE_IO_LOW), PAGE_SIZE, MmNonCached), PAGE_SIZE);
    FakeBeforeLock = TakeLastSlot;
    const PVOID Va =
        MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmCached, NULL, FALSE, NormalPagePriority);
    CHECK_EQUAL(FakeBeforeLock, NULL);
    CHECK(Va != NULL && Va != FasterVa);
    MmUnmapLockedPages(Va, Mdl);
    MmUnmapIoSpace(FasterVa, PAGE_SIZE);
    MmFreePagesFromMdl(Mdl);
    ExFreePool(Mdl);
}

// A page of the range: whoever asks about its frames makes the ledger forget what is idle.
static VOID MapWithin(const KI_LOCK *Lock)
{
    if (strcmp(Lock->Name, "MiLedgerLock") == 0) {
        FakeBeforeLock = NULL;
        FasterVa = MmMapIoSpace(Pa(FAKE_IO_HIGH + PAGE_SIZE), PAGE_SIZE, MmCached);
        CHECK(FasterVa != NULL);
    }
}

static VOID An_idle_range_may_be_forgotten_before_it_is_held_again(VOID)
{
    const PVOID First = MmMapIoSpaceEx(Pa(FAKE_IO_HIGH), PAGES(LARGE_PAGES), PAGE_READWRITE);
    MmUnmapIoSpace(First, PAGES(LARGE_PAGES));
    FakeBeforeLock = MapWithin;
    const PVOID Va = MmMapIoSpaceEx(Pa(FAKE_IO_HIGH), PAGES(LARGE_PAGES), PAGE_READWRITE);
    CHECK_EQUAL(FakeBeforeLock, NULL);
    CHECK(Va != NULL);
    CHECK_PAGE(Va, PfnOf(FAKE_IO_HIGH), MiAccessReadWrite, MiCacheWriteBack);
    HostAudit();
    MmUnmapIoSpace(Va, PAGES(LARGE_PAGES));
    MmUnmapIoSpace(FasterVa, PAGE_SIZE);
}

// Pairs of what can hold a frame: a page, a range, an MDL, and each of them idle or with another type.
static VOID Every_pair_of_holders_agrees_or_is_refused(VOID)
{
    static const SIZE_T Bytes[] = {PAGE_SIZE, PAGES(LARGE_PAGES), PAGES(2 * LARGE_PAGES)};
    static const MEMORY_CACHING_TYPE Types[] = {MmNonCached, MmCached, MmWriteCombined};
    for (ULONG Case = 0; Case < 81; Case += 1) {
        const SIZE_T FirstBytes = Bytes[Case % 3];
        const SIZE_T SecondBytes = Bytes[Case / 3 % 3];
        const MEMORY_CACHING_TYPE FirstType = Types[Case / 9 % 3];
        const MEMORY_CACHING_TYPE SecondType = Types[Case / 27];
        const PVOID First = MmMapIoSpace(Pa(FAKE_IO_HIGH), FirstBytes, FirstType);
        PVOID Second = MmMapIoSpace(Pa(FAKE_IO_HIGH), SecondBytes, SecondType);
        CHECK(First != NULL);
        CHECK_EQUAL(Second != NULL, FirstType == SecondType);
        if (Second != NULL) {
            MmUnmapIoSpace(Second, SecondBytes);
        }
        MmUnmapIoSpace(First, FirstBytes);
        // Nobody holds it any more, whatever is written down.
        Second = MmMapIoSpace(Pa(FAKE_IO_HIGH), SecondBytes, SecondType);
        CHECK(Second != NULL);
        HostAudit();
        MmUnmapIoSpace(Second, SecondBytes);
    }
}

//
// MDLs.
//

// An MDL of adjacent I/O frames that nobody has claimed, as a driver of old would make it.
static PMDL IoMdlByHand(PFN_NUMBER PageCount)
{
    const PMDL Mdl = IoAllocateMdl((PVOID)0x5000, (ULONG)PAGES(PageCount), FALSE, FALSE, NULL);
    for (PFN_NUMBER Page = 0; Page < PageCount; Page += 1) {
        MmGetMdlPfnArray(Mdl)[Page] = PfnOf(FAKE_IO_LOW) + Page;
    }
    Mdl->MdlFlags |= MDL_PAGES_LOCKED | MDL_IO_SPACE;
    return Mdl;
}

static VOID A_mapping_whose_frames_cannot_be_held_leaves_no_trace(VOID)
{
    const PMDL Mdl = IoMdlByHand(3);
    MM_MEMORY_USE Before;
    MmQueryMemoryUse(&Before);
    PVOID Va = NULL;
    for (ULONG Skip = 0; Va == NULL; Skip += 1) {
        MmStartFailures(MM_FAIL_FRAMES, Skip, 1);
        Va = MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmNonCached, NULL, FALSE,
                                          NormalPagePriority);
        MmStopFailures();
        if (Va == NULL) {
            HostCheckSameUse(&Before, "a mapping that failed");
        }
    }
    MmUnmapLockedPages(Va, Mdl);
    IoFreeMdl(Mdl);
}

static VOID A_reservation_whose_frames_cannot_be_held_stays_empty(VOID)
{
    // Held as a range: the ledger has no slots for its frames yet.
    const PVOID Io = MmMapIoSpace(Pa(FAKE_IO_LOW), PAGES(LARGE_PAGES), MmNonCached);
    const PVOID Reservation = MmAllocateMappingAddress(2 * PAGE_SIZE, TAG);
    const PMDL Mdl = IoMdlByHand(2);
    MmStartFailures(MM_FAIL_FRAMES, 0, 1);
    CHECK(MmMapLockedPagesWithReservedMapping(Reservation, TAG, Mdl, MmNonCached) == NULL);
    MmStopFailures();
    CHECK_UNMAPPED(Reservation);
    HostAudit();
    const PVOID Va = MmMapLockedPagesWithReservedMapping(Reservation, TAG, Mdl, MmNonCached);
    CHECK(Va != NULL);
    MmUnmapReservedMapping(Va, TAG, Mdl);
    IoFreeMdl(Mdl);
    MmFreeMappingAddress(Reservation, TAG);
    MmUnmapIoSpace(Io, PAGES(LARGE_PAGES));
}

static VOID A_lock_whose_frames_cannot_be_held_raises(VOID)
{
    // Held as a range: the ledger has no slots for its frames yet.
    const PVOID Io = MmMapIoSpace(Pa(FAKE_IO_HIGH), PAGES(LARGE_PAGES), MmNonCached);
    const PMDL Mdl = IoAllocateMdl(Io, 2 * PAGE_SIZE, FALSE, FALSE, NULL);
    volatile ULONG RaisedCount = 0;
    volatile BOOLEAN IsLocked = FALSE;
    for (ULONG Skip = 0; !IsLocked; Skip += 1) {
        MmStartFailures(MM_FAIL_ALL, Skip, 1);
        KmTry {
            MmProbeAndLockPages(Mdl, KernelMode, IoWriteAccess);
            IsLocked = TRUE;
        }
        KmCatch (Status) {
            CHECK_EQUAL((ULONG)Status, (ULONG)STATUS_INSUFFICIENT_RESOURCES);
            RaisedCount += 1;
        }
        MmStopFailures();
    }
    CHECK(RaisedCount > 0);
    MmUnlockPages(Mdl);
    IoFreeMdl(Mdl);
    MmUnmapIoSpace(Io, PAGES(LARGE_PAGES));
}

// In a process of its own: the machine stops in the middle of a mapping, and stays so.
static VOID A_frame_that_was_put_into_a_locked_MDL_stops_the_machine(VOID)
{
    int Status = 0;
    fflush(stdout);
    const pid_t Child = fork();
    if (Child == 0) {
        MmInitSystem(&FakeLoaderBlock);
        const PMDL Mdl = MmAllocatePagesForMdl(Pa(0), Pa(MAXULONG64), Pa(0), 2 * PAGE_SIZE);
        const PPFN_NUMBER Pfns = MmGetMdlPfnArray(Mdl);
        Pfns[1] = PfnOf(FAKE_KERNEL_PA);
        FakeExpectBugCheck();
        if (setjmp(FakeBugCheck.Return) == 0) {
            Ignore(MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmCached, NULL, FALSE,
                                                NormalPagePriority));
        }
        exit(FakeBugCheck.Code == MEMORY_MANAGEMENT && FakeBugCheck.Parameters[0] == 0x1236 &&
                     FakeBugCheck.Parameters[3] == Pfns[1]
                 ? 0
                 : 1);
    }
    CHECK(Child > 0 && waitpid(Child, &Status, 0) == Child && WIFEXITED(Status));
    CHECK_EQUAL(WEXITSTATUS(Status), 0);
}

// Once an idle slot lies ready, a mapping makes no call: the type that a frame has is looked up there,
// too.
static VOID The_short_ways_give_a_frame_the_type_that_it_has(VOID)
{
    for (PFN_NUMBER PageCount = 1; PageCount <= 9; PageCount += 1) {
        const PMDL Mdl = MmAllocatePagesForMdl(Pa(0), Pa(MAXULONG64), Pa(0), PAGES(PageCount));
        const PVOID Reservation = MmAllocateMappingAddress(PAGES(PageCount), TAG);
        const PFN_NUMBER LastPfn = MmGetMdlPfnArray(Mdl)[PageCount - 1];
        PUCHAR Va = MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmNonCached, NULL, FALSE,
                                                 NormalPagePriority);
        MmUnmapLockedPages(Va, Mdl);
        Va = MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmCached, NULL, FALSE,
                                          NormalPagePriority | MdlMappingNoWrite);
        CHECK_PAGE(Va + PAGES(PageCount - 1), LastPfn, MiAccessRead, MiCacheUncached);
        MmUnmapLockedPages(Va, Mdl);
        Va = MmMapLockedPagesWithReservedMapping(Reservation, TAG, Mdl, MmWriteCombined);
        CHECK_PAGE(Va + PAGES(PageCount - 1), LastPfn, MiAccessReadWrite, MiCacheUncached);
        MmUnmapReservedMapping(Va, TAG, Mdl);
        HostAudit();
        MmFreeMappingAddress(Reservation, TAG);
        MmFreePagesFromMdl(Mdl);
        ExFreePool(Mdl);
    }
}

// Wherever it is among those that are mapped eight at a time.
static VOID Any_frame_of_an_MDL_may_have_another_type(VOID)
{
    for (PFN_NUMBER Odd = 0; Odd < 9; Odd += 1) {
        const PMDL Mdl = MmAllocatePagesForMdl(Pa(0), Pa(MAXULONG64), Pa(0), PAGES(9));
        const PVOID PartVa = (PUCHAR)MmGetMdlVirtualAddress(Mdl) + PAGES(Odd);
        const PMDL Part = IoAllocateMdl(PartVa, PAGE_SIZE, FALSE, FALSE, NULL);
        IoBuildPartialMdl(Mdl, Part, PartVa, PAGE_SIZE);
        PUCHAR Va = MmMapLockedPagesSpecifyCache(Part, KernelMode, MmNonCached, NULL, FALSE,
                                                 NormalPagePriority);
        MmUnmapLockedPages(Va, Part);
        IoFreeMdl(Part);
        for (ULONG Round = 0; Round < 2; Round += 1) { // the second time every frame has a type
            Va = MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmCached, NULL, FALSE,
                                              NormalPagePriority);
            for (PFN_NUMBER Page = 0; Page < 9; Page += 1) {
                CHECK_PAGE(Va + PAGES(Page), MmGetMdlPfnArray(Mdl)[Page], MiAccessReadWrite,
                           Page == Odd ? MiCacheUncached : MiCacheWriteBack);
            }
            HostAudit();
            MmUnmapLockedPages(Va, Mdl);
        }
        MmFreePagesFromMdl(Mdl);
        ExFreePool(Mdl);
    }
}

static VOID The_short_way_of_a_range_asks_for_its_type(VOID)
{
    const PVOID First = MmMapIoSpaceEx(Pa(FAKE_IO_HIGH), PAGES(LARGE_PAGES), PAGE_READWRITE);
    MmUnmapIoSpace(First, PAGES(LARGE_PAGES));
    const PVOID Va =
        MmMapIoSpaceEx(Pa(FAKE_IO_HIGH), PAGES(LARGE_PAGES), PAGE_READONLY | PAGE_NOCACHE);
    CHECK_PAGE(Va, PfnOf(FAKE_IO_HIGH), MiAccessRead, MiCacheUncached);
    HostAudit();
    CHECK(MmMapIoSpace(Pa(FAKE_IO_HIGH), PAGE_SIZE, MmCached) == NULL);
    MmUnmapIoSpace(Va, PAGES(LARGE_PAGES));
}

// More pages than the tables of one entry name.
static VOID An_MDL_may_lie_across_several_tables(VOID)
{
    const PMDL Mdl = MmAllocatePagesForMdl(Pa(0), Pa(MAXULONG64), Pa(0), PAGES(LARGE_PAGES + 88));
    const PVOID Reservation = MmAllocateMappingAddress(PAGES(LARGE_PAGES + 88), TAG);
    const PPFN_NUMBER Pfns = MmGetMdlPfnArray(Mdl);
    for (ULONG Round = 0; Round < 2; Round += 1) { // the second time every frame has a type
        const PUCHAR Va = MmMapLockedPagesWithReservedMapping(Reservation, TAG, Mdl, MmCached);
        CHECK_PAGE(Va + PAGES(LARGE_PAGES + 87), Pfns[LARGE_PAGES + 87], MiAccessReadWrite,
                   MiCacheWriteBack);
        HostAudit();
        MmUnmapReservedMapping(Va, TAG, Mdl);
        CHECK_UNMAPPED(Va);
        CHECK_UNMAPPED(Va + PAGES(LARGE_PAGES + 87));
    }
    MmFreeMappingAddress(Reservation, TAG);
    MmFreePagesFromMdl(Mdl);
    ExFreePool(Mdl);
}

static VOID Addresses_that_lie_idle_do_not_lower_a_priority(VOID)
{
    const PMDL Mdl = MmAllocatePagesForMdl(Pa(0), Pa(MAXULONG64), Pa(0), PAGE_SIZE);
    const PVOID Reservation =
        MmAllocateMappingAddress(MiArchLayout[MiRegionSystemPtes].ByteCount / 16 * 15, TAG);
    CHECK(Reservation != NULL);
    CHECK(MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmCached, NULL, FALSE, LowPagePriority) ==
          NULL);
    // Nor are a few of another size that lie idle.
    MmUnmapIoSpace(MmMapIoSpace(Pa(FAKE_IO_LOW), 2 * PAGE_SIZE, MmNonCached), 2 * PAGE_SIZE);
    CHECK(MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmCached, NULL, FALSE, LowPagePriority) ==
          NULL);
    MmFreeMappingAddress(Reservation, TAG);
    const PVOID Va =
        MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmCached, NULL, FALSE, LowPagePriority);
    CHECK(Va != NULL);
    MmUnmapLockedPages(Va, Mdl);
    MmFreePagesFromMdl(Mdl);
    ExFreePool(Mdl);
}

//
// Unmaps that are wrong, each in one thing.
//

static PMDL OnePage(VOID)
{
    return MmAllocatePagesForMdl(Pa(0), Pa(MAXULONG64), Pa(0), PAGE_SIZE);
}

static VOID FreePages(PMDL Mdl)
{
    MmFreePagesFromMdl(Mdl);
    ExFreePool(Mdl);
}

static VOID The_address_in_an_MDL_is_not_believed(VOID)
{
    const PMDL Mdl = OnePage();
    const PMDL Other = OnePage();
    const PVOID Va = MmMapLockedPages(Mdl, KernelMode);
    const PVOID Reservation = MmAllocateMappingAddress(PAGE_SIZE, TAG);
    const PVOID Wrong[] = {Va, Reservation, (PVOID)MiArchLayout[MiRegionSystemPtes].BaseVa};
    Other->MdlFlags |= MDL_MAPPED_TO_SYSTEM_VA;
    for (ULONG Index = 0; Index < ARRAYSIZE(Wrong); Index += 1) {
        Other->MappedSystemVa = Wrong[Index];
        EXPECT_BUG_CHECK(MmUnmapLockedPages(Wrong[Index], Other));
        CHECK_BUG_CHECK(SYSTEM_PTE_MISUSE, 0x06, (ULONG_PTR)Other, (ULONG_PTR)Wrong[Index], 1);
    }
    Other->MdlFlags &= ~MDL_MAPPED_TO_SYSTEM_VA;
    EXPECT_BUG_CHECK(MmUnmapReservedMapping(Va, TAG, Mdl)); // no reservation
    CHECK_EQUAL(FakeBugCheck.Code, SYSTEM_PTE_MISUSE);
    MmUnmapLockedPages(Va, Mdl);
    MmFreeMappingAddress(Reservation, TAG);
    FreePages(Other);
    FreePages(Mdl);
}

static VOID A_page_that_has_vanished_is_a_changed_one(VOID)
{
    const PMDL Mdl = MmAllocatePagesForMdl(Pa(0), Pa(MAXULONG64), Pa(0), 2 * PAGE_SIZE);
    const PVOID Va = MmMapLockedPages(Mdl, KernelMode);
    const PMMPTE Pte = MiFindMapping(Va)->FirstPte;
    const MMPTE Whole = *Pte;
    *Pte = (MMPTE){0};
    EXPECT_BUG_CHECK(MmUnmapLockedPages(Va, Mdl));
    CHECK_EQUAL(FakeBugCheck.Parameters[0], 0x04);
    *Pte = Whole;
    MmUnmapLockedPages(Va, Mdl);
    FreePages(Mdl);
}

static VOID A_reserved_mapping_is_undone_as_long_as_it_was_made(VOID)
{
    const PMDL Mdl = OnePage();
    const PVOID Reservation = MmAllocateMappingAddress(2 * PAGE_SIZE, TAG);
    const PVOID Va = MmMapLockedPagesWithReservedMapping(Reservation, TAG, Mdl, MmCached);
    Mdl->ByteCount += PAGE_SIZE;
    EXPECT_BUG_CHECK(MmUnmapReservedMapping(Va, TAG, Mdl));
    CHECK_EQUAL(FakeBugCheck.Code, SYSTEM_PTE_MISUSE);
    Mdl->ByteCount -= PAGE_SIZE;
    MmUnmapReservedMapping(Va, TAG, Mdl);
    MmFreeMappingAddress(Reservation, TAG);
    FreePages(Mdl);
}

static VOID A_range_of_no_bytes_is_not_unmapped(VOID)
{
    const PVOID Va = MmMapIoSpace(Pa(FAKE_IO_HIGH), PAGES(LARGE_PAGES), MmNonCached);
    EXPECT_BUG_CHECK(MmUnmapIoSpace(Va, 0));
    CHECK_EQUAL(FakeBugCheck.Code, SYSTEM_PTE_MISUSE);
    MmUnmapIoSpace(Va, PAGES(LARGE_PAGES));
}

static VOID One_page_without_access_is_unmapped_as_any_other(VOID)
{
    const PMDL Mdl = OnePage();
    const PVOID Va = MmMapLockedPages(Mdl, KernelMode);
    CHECK_EQUAL(MmProtectMdlSystemAddress(Mdl, PAGE_NOACCESS), STATUS_SUCCESS);
    MmUnmapLockedPages(Va, Mdl);
    CHECK_UNMAPPED(Va);
    HostAudit();
    FreePages(Mdl);
}

static VOID The_kernels_own_page_is_mapped_as_it_was_locked(VOID)
{
    const ULONG_PTR Data = MiArchLayout[MiRegionKernelImage].BaseVa + FAKE_KERNEL_PA + 0xC0000;
    const PMDL Mdl = IoAllocateMdl((PVOID)Data, 2 * PAGE_SIZE, FALSE, FALSE, NULL);
    MmProbeAndLockPages(Mdl, KernelMode, IoReadAccess);
    const PVOID Va = MmMapLockedPages(Mdl, KernelMode);
    CHECK_PAGE(Va, PfnOf(FAKE_KERNEL_PA + 0xC0000), MiAccessRead, MiCacheWriteBack);
    // For as long as it is locked, another MDL may name it.
    const PMDL Other = IoAllocateMdl((PVOID)Data, PAGE_SIZE, FALSE, FALSE, NULL);
    MmGetMdlPfnArray(Other)[0] = MmGetMdlPfnArray(Mdl)[0];
    Other->MdlFlags |= MDL_PAGES_LOCKED;
    MmUnmapLockedPages(MmMapLockedPages(Other, KernelMode), Other);
    IoFreeMdl(Other);
    MmUnlockPages(Mdl);
    IoFreeMdl(Mdl);
}

static VOID More_addresses_than_there_are_cannot_be_reserved(VOID)
{
    CHECK_EQUAL(MiReserveAlignedSystemVa(1ull << 40, 0), 0);
}

static VOID A_range_that_is_partly_RAM_is_no_RAM(VOID)
{
    // The last page of RAM that the pages of MDLs can have.
    CHECK(MmMapIoSpace(Pa(FAKE_ACPI - PAGE_SIZE), 2 * PAGE_SIZE, MmCached) == NULL);
}

static VOID Only_IO_mappings_are_listed(VOID)
{
    const PMDL Mdl = OnePage();
    const PVOID Va = MmMapLockedPages(Mdl, KernelMode);
    const SIZE_T Bytes = PAGES(LARGE_PAGES + 1);
    const PVOID Io = MmMapIoSpace(Pa(FAKE_IO_HIGH), Bytes, MmNonCached);
    HostForgetPrinted();
    MmPrintIoMappings();
    CHECK(strstr(HostPrinted(), "1 x 2M + 1 x 4K") != NULL);
    MmUnmapIoSpace(Io, Bytes);
    MmUnmapLockedPages(Va, Mdl);
    FreePages(Mdl);
}

static VOID A_target_that_still_locks_its_pages_is_told(VOID)
{
    const PVOID Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, PAGE_SIZE, TAG);
    const PMDL Source = IoAllocateMdl(Block, PAGE_SIZE, FALSE, FALSE, NULL);
    const PMDL Target = IoAllocateMdl(Block, PAGE_SIZE, FALSE, FALSE, NULL);
    MmBuildMdlForNonPagedPool(Source);
    MmProbeAndLockPages(Target, KernelMode, IoReadAccess);
    const MDL Whole = *Target;
    HostForgetPrinted();
    IoBuildPartialMdl(Source, Target, Block, PAGE_SIZE);
    CHECK(strstr(HostPrinted(), "nobody will unlock them now") != NULL);
    *Target = Whole;
    MmUnlockPages(Target);
    IoFreeMdl(Target);
    IoFreeMdl(Source);
    ExFreePool(Block);
}

//
// The exported routines call the verifier.
//

static VOID StartVerified(VOID)
{
    MmVerifierLevel = 1;
    MmInitSystem(&FakeLoaderBlock);
}

static VOID The_verifier_sees_every_routine_that_locks(VOID)
{
    StartVerified();
    const PVOID Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 3 * PAGE_SIZE, TAG);
    const PMDL Mdl = IoAllocateMdl(Block, PAGE_SIZE, FALSE, FALSE, NULL);
    MmBuildMdlForNonPagedPool(Mdl);
    EXPECT_BUG_CHECK(MmProbeAndLockPages(Mdl, KernelMode, IoReadAccess));
    CHECK_EQUAL(FakeBugCheck.Parameters[0], 0xB0);
    EXPECT_BUG_CHECK(MmProbeAndLockProcessPages(Mdl, NULL, KernelMode, IoReadAccess));
    CHECK_EQUAL(FakeBugCheck.Parameters[0], 0xB1);
    EXPECT_BUG_CHECK(MmProbeAndLockSelectedPages(Mdl, NULL, KernelMode, IoReadAccess));
    CHECK_EQUAL(FakeBugCheck.Parameters[0], 0xB0);
    EXPECT_BUG_CHECK(MmUnlockPages(Mdl));
    CHECK_EQUAL(FakeBugCheck.Parameters[0], 0x7D);
    IoFreeMdl(Mdl);
    ExFreePool(Block);
}

static VOID The_verifier_sees_every_routine_that_maps(VOID)
{
    StartVerified();
    const PMDL Mdl = MmAllocatePagesForMdl(Pa(0), Pa(MAXULONG64), Pa(0), 2 * PAGE_SIZE);
    const PVOID Va = MmMapLockedPages(Mdl, KernelMode);
    CHECK(Va != NULL);
    EXPECT_BUG_CHECK(Ignore(MmMapLockedPages(Mdl, KernelMode)));
    CHECK_EQUAL(FakeBugCheck.Parameters[0], 0xB2);
    MmUnmapLockedPages(Va, Mdl);
    // Not a driver's: the plain bug check.
    MmStartFailures(MM_FAIL_ADDRESSES, 0, MAXULONG);
    EXPECT_BUG_CHECK(Ignore(
        MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmCached, NULL, TRUE, NormalPagePriority)));
    MmStopFailures();
    CHECK_EQUAL(FakeBugCheck.Code, NO_MORE_SYSTEM_PTES);
    MmFreePagesFromMdl(Mdl);
    ExFreePool(Mdl);
}

static VOID The_verifier_undoes_a_mapping_of_one_page(VOID)
{
    StartVerified();
    const PMDL Mdl = OnePage();
    const PVOID Va = MmMapLockedPages(Mdl, KernelMode);
    MmUnmapLockedPages(Va, Mdl);
    CHECK_UNMAPPED(Va);
    FreePages(Mdl);
}

static VOID A_track_is_found_by_its_kind_and_its_bytes(VOID)
{
    MI_TRACK Track;
    StartVerified();
    FakeCallerIsDriver = TRUE;
    const PVOID Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 100, TAG);
    CHECK(MiFindTrackAround(MiTrackPool, Block, &Track));
    CHECK(!MiFindTrackAround(MiTrackPool, (PVOID)PAGE_SIZE, &Track));
    CHECK(!MiFindTrackAround(MiTrackLockedPages, Block, &Track));
    ExFreePool(Block);
    FakeCallerIsDriver = FALSE;
}

static VOID An_option_that_is_not_given_is_no_number(VOID)
{
    FakeSetBootOption("fail", "frames");
    MmReadFailureOptions();
    CHECK_EQUAL(MiKindsThatMayFail, 0);
}

static VOID A_driver_is_warned_once_and_of_device_memory_only(VOID)
{
    StartVerified();
    FakeCallerIsDriver = TRUE;
    CHECK(MmMapIoSpaceEx(Pa(MAXULONG64 & ~(ULONG64)(PAGE_SIZE - 1)), 2 * PAGE_SIZE,
                         PAGE_READWRITE) == NULL);
    CHECK(MmMapIoSpaceEx(Pa(FAKE_KERNEL_PA), PAGE_SIZE, PAGE_READWRITE) == NULL);
    CHECK(strstr(HostPrinted(), "is mapped cached") == NULL);
    PVOID Vas[] = {MmMapIoSpace(Pa(FAKE_IO_LOW), PAGE_SIZE, MmNonCached),
                   MmMapIoSpace(Pa(FAKE_IO_LOW), PAGE_SIZE, MmNonCached)};
    FakeIrql = DISPATCH_LEVEL;
    HostForgetPrinted();
    for (ULONG Index = 0; Index < ARRAYSIZE(Vas); Index += 1) {
        MmUnmapIoSpace(Vas[Index], PAGE_SIZE);
        CHECK_EQUAL(strstr(HostPrinted(), "is called at DISPATCH_LEVEL") != NULL, Index == 0);
        HostForgetPrinted();
    }
    FakeIrql = PASSIVE_LEVEL;
    FakeCallerIsDriver = FALSE;
}

//
// Pages of MDLs.
//

// A step of one page over all of RAM: quick enough, because no frame is searched twice.
static VOID Many_small_windows_are_one_search(VOID)
{
    const PMDL Mdl = MmAllocatePagesForMdlEx(Pa(0), Pa(0x3FFFFFF), Pa(PAGE_SIZE), PAGES(0x8000),
                                             MmCached, MM_DONT_ZERO_ALLOCATION);
    CHECK(Mdl != NULL);
    CHECK(MiMdlPageCount(Mdl) < 0x8000); // there is no more
    CHECK_EQUAL(MiFreePageCount(), 0);
    MmFreePagesFromMdl(Mdl);
    ExFreePool(Mdl);
}

static const HOST_TEST Tests[] = {
    HOST_ROW(More_slots_than_are_kept_are_given_back, "mapping.c", &FakeMachineMax),
    HOST_ROW(More_large_slots_than_are_kept_are_given_back, "mapping.c, ledger.c", &FakeMachineMax),
    HOST_ROW(The_queue_of_resting_addresses_is_not_endless, "mapping.c", &FakeMachineBare),
    HOST_ROW(What_was_unmapped_already_says_so, "contract 0xDA/0x400", &FakeMachineMax),
    HOST_ROW(The_last_idle_slot_may_go_to_another_processor, "iospace.c", &FakeMachineMax),
    HOST_ROW(The_last_idle_slot_for_an_MDL_may_go_to_another_processor, "mdlmap.c",
             &FakeMachineMax),
    HOST_ROW(An_idle_range_may_be_forgotten_before_it_is_held_again, "iospace.c", &FakeMachineMax),
    HOST_ROW(Every_pair_of_holders_agrees_or_is_refused, "C2, C3", &FakeMachineMax),
    HOST_ROW(A_mapping_whose_frames_cannot_be_held_leaves_no_trace, "mdlmap.c", &FakeMachineMax),
    HOST_ROW(A_reservation_whose_frames_cannot_be_held_stays_empty, "reserve.c", &FakeMachineMax),
    HOST_ROW(A_lock_whose_frames_cannot_be_held_raises, "lock.c", &FakeMachineMax),
    HOST_ROW(A_frame_that_was_put_into_a_locked_MDL_stops_the_machine, "mdlmap.c",
             &FakeMachineBare),
    HOST_ROW(Any_frame_of_an_MDL_may_have_another_type, "miquick.h", &FakeMachineMax),
    HOST_ROW(The_short_ways_give_a_frame_the_type_that_it_has, "mdlmap.c, reserve.c",
             &FakeMachineMax),
    HOST_ROW(The_short_way_of_a_range_asks_for_its_type, "iospace.c", &FakeMachineMax),
    HOST_ROW(An_MDL_may_lie_across_several_tables, "reserve.c", &FakeMachineMax),
    HOST_ROW(Addresses_that_lie_idle_do_not_lower_a_priority, "mdlmap.c", &FakeMachineMax),
    HOST_ROW(The_verifier_sees_every_routine_that_locks, "contract 0xC4/0xB0, 0xC4/0xB1",
             &FakeMachineBare),
    HOST_ROW(The_verifier_sees_every_routine_that_maps, "contract 0xC4/0xB2", &FakeMachineBare),
    HOST_ROW(The_address_in_an_MDL_is_not_believed, "contract 0xDA/0x06", &FakeMachineMax),
    HOST_ROW(A_page_that_has_vanished_is_a_changed_one, "contract 0xDA/0x04", &FakeMachineMax),
    HOST_ROW(A_reserved_mapping_is_undone_as_long_as_it_was_made, "reserve.c", &FakeMachineMax),
    HOST_ROW(A_range_of_no_bytes_is_not_unmapped, "iospace.c", &FakeMachineMax),
    HOST_ROW(One_page_without_access_is_unmapped_as_any_other, "mdlmap.c", &FakeMachineMax),
    HOST_ROW(The_kernels_own_page_is_mapped_as_it_was_locked, "mdlmap.c", &FakeMachineMax),
    HOST_ROW(More_addresses_than_there_are_cannot_be_reserved, "sysva.c", &FakeMachineMax),
    HOST_ROW(A_range_that_is_partly_RAM_is_no_RAM, "iospace.c", &FakeMachineMax),
    HOST_ROW(Only_IO_mappings_are_listed, "report.c", &FakeMachineMax),
    HOST_ROW(A_target_that_still_locks_its_pages_is_told, "mdlpart.c", &FakeMachineMax),
    HOST_ROW(The_verifier_undoes_a_mapping_of_one_page, "mdlmap.c", &FakeMachineBare),
    HOST_ROW(A_track_is_found_by_its_kind_and_its_bytes, "leak.c", &FakeMachineBare),
    HOST_ROW(An_option_that_is_not_given_is_no_number, "failure.c", &FakeMachineMax),
    HOST_ROW(A_driver_is_warned_once_and_of_device_memory_only, "contract 4.2.5, 0xC4/0x7B",
             &FakeMachineBare),
    HOST_ROW(Many_small_windows_are_one_search, "contract 7.1.3", &FakeMachineQemu64),
};

HOST_DEFINE_SUITE(paths);
