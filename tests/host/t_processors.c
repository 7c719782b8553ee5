// Several processors: what each keeps for itself, and what all of them forget, and when. The watcher looks
// on at the last one's TLB (watch.c).
#include "mm/miquick.h"
#include "tests/host/host.h"

#define TAG 0x21676154u
#define LEAF_BYTES PAGES(MI_LEAF_SLOTS)
#define PAGES_OF_24_BITS 0x1000u

static PVOID Map(ULONG64 Address, MEMORY_CACHING_TYPE CacheType)
{
    const PVOID Va = MmMapIoSpace(Pa(Address), PAGE_SIZE, CacheType);
    CHECK(Va != NULL);
    return Va;
}

static VOID Unmap(PVOID Va)
{
    MmUnmapIoSpace(Va, PAGE_SIZE);
}

static PMDL AllocateMdl(PFN_NUMBER PageCount)
{
    const PMDL Mdl = MmAllocatePagesForMdl(Pa(0), Pa(MAXULONG64), Pa(0), PAGES(PageCount));
    CHECK(Mdl != NULL);
    return Mdl;
}

static VOID FreeMdl(PMDL Mdl)
{
    MmFreePagesFromMdl(Mdl);
    ExFreePool(Mdl);
}

static PVOID MapReserved(PVOID Base, PMDL Mdl, MEMORY_CACHING_TYPE CacheType)
{
    const PVOID Va = MmMapLockedPagesWithReservedMapping(Base, TAG, Mdl, CacheType);
    CHECK(Va != NULL);
    return Va;
}

//
// Shootdowns that wait.
//

// Each used page costs no broadcast; many together cost one.
static VOID Addresses_wait_until_their_processor_has_many(VOID)
{
    KeNumberProcessors = 2;
    const ULONG64 Before = FakeBroadcasts;
    const PVOID First = Map(FAKE_IO_LOW, MmNonCached);
    Unmap(First);
    CHECK_EQUAL(FakeBroadcasts, Before);
    CHECK_EQUAL(MiCaches[0].Waiting.Count, 1);
    for (ULONG Count = 1; Count < MI_CACHED_SLOTS; Count += 1) {
        const PVOID Va = Map(FAKE_IO_LOW, MmNonCached);
        CHECK(Va != First);
        Unmap(Va);
    }
    CHECK_EQUAL(MiCaches[0].Waiting.Count, MI_CACHED_SLOTS);
    CHECK_EQUAL(FakeBroadcasts, Before);
    HostAudit();
    Unmap(Map(FAKE_IO_LOW, MmNonCached));
    CHECK_EQUAL(FakeBroadcasts, Before + 1);
    CHECK_EQUAL(MiCaches[0].Waiting.Count, 0);
    // And then they are used again.
    Unmap(Map(FAKE_IO_LOW, MmNonCached));
    CHECK(HostIdleCount(0) >= MI_CACHED_SLOTS);
    MmTrim();
    CHECK_EQUAL(FakeBroadcasts, Before + 2);
    CHECK_EQUAL(MiListedSlotCount(), 0);
}

static VOID Pages_that_nobody_used_do_not_wait(VOID)
{
    KeNumberProcessors = 2;
    WatchReads = WatchReadsNone;
    const ULONG64 Before = FakeBroadcasts;
    for (ULONG Count = 0; Count < 1000; Count += 1) {
        Unmap(Map(FAKE_IO_LOW, MmNonCached));
    }
    CHECK_EQUAL(FakeBroadcasts, Before);
    CHECK_EQUAL(MiCaches[0].Waiting.Count, 0);
}

// What one processor makes everybody forget, the others need not ask for.
static VOID One_shootdown_counts_for_all_processors(VOID)
{
    KeNumberProcessors = 2;
    FakeProcessor = 1;
    for (ULONG Count = 0; Count < MI_CACHED_SLOTS; Count += 1) {
        Unmap(Map(FAKE_IO_LOW, MmNonCached));
    }
    FakeProcessor = 0;
    MiForgetEverything(MmShootdownSlots);
    const ULONG64 Before = FakeBroadcasts;
    CHECK(MiIsForgotten(MiLastStamp));
    FakeProcessor = 1;
    const PMI_MAPPING Mapping = MiFindMapping(Map(FAKE_IO_LOW, MmNonCached));
    WatchReads = WatchReadsNone;
    Mapping->Stamp = 1; // as if it had been flushed here just now
    Unmap((PVOID)Mapping->Va);
    CHECK_EQUAL(MiCaches[1].Waiting.Count, 0);
    CHECK_EQUAL(MiCaches[1].Idle[0].Count, MI_CACHED_SLOTS + 1 - MI_SLOT_BATCH);
    CHECK(FakeBroadcasts <= Before + 1);
    FakeProcessor = 0;
}

static VOID A_reservation_is_forgotten_before_it_is_mapped_again(VOID)
{
    static const PFN_NUMBER PageCounts[] = {1, 3, 20, 300, 700};
    KeNumberProcessors = 2;
    for (ULONG Row = 0; Row < ARRAYSIZE(PageCounts); Row += 1) {
        const PMDL Mdl = AllocateMdl(PageCounts[Row]);
        const PVOID Base = MmAllocateMappingAddress(PAGES(PageCounts[Row]), TAG);
        const ULONG64 Before = FakeBroadcasts;
        CHECK(Base != NULL);
        (VOID) MapReserved(Base, Mdl, MmCached);
        MmUnmapReservedMapping(Base, TAG, Mdl);
        CHECK_EQUAL(FakeBroadcasts, Before);
        (VOID) MapReserved(Base, Mdl, MmCached);
        CHECK_EQUAL(FakeBroadcasts, Before + 1);
        MmUnmapReservedMapping(Base, TAG, Mdl);
        // Somebody has everything forgotten meanwhile.
        MiForgetEverything(MmShootdownTrim);
        (VOID) MapReserved(Base, Mdl, MmCached);
        CHECK_EQUAL(FakeBroadcasts, Before + 2);
        MmUnmapReservedMapping(Base, TAG, Mdl);
        // Large addresses do not wait once they are free.
        MmFreeMappingAddress(Base, TAG);
        CHECK_EQUAL(FakeBroadcasts, Before + 2 + (PageCounts[Row] > MI_SMALL_PAGES));
        FreeMdl(Mdl);
    }
    HostAudit();
}

// Another processor has everything forgotten while this one waits for its turn.
static VOID ForgetFirst(const KI_LOCK *Lock)
{
    if (strcmp(Lock->Name, "MiShootdownLock") == 0) {
        FakeBeforeLock = NULL;
        MiForgetEverything(MmShootdownTrim);
    }
}

static VOID Who_waits_to_have_all_forgotten_is_served_by_another(VOID)
{
    static const PFN_NUMBER PageCounts[] = {1, MI_TLB_BATCH_PAGES + 1};
    KeNumberProcessors = 2;
    for (ULONG Row = 0; Row < ARRAYSIZE(PageCounts); Row += 1) {
        const PMDL Mdl = AllocateMdl(PageCounts[Row]);
        const PVOID Base = MmAllocateMappingAddress(PAGES(PageCounts[Row]), TAG);
        CHECK(Base != NULL);
        (VOID) MapReserved(Base, Mdl, MmCached);
        MmUnmapReservedMapping(Base, TAG, Mdl);
        const ULONG64 Before = FakeBroadcasts;
        FakeBeforeLock = ForgetFirst;
        (VOID) MapReserved(Base, Mdl, MmCached);
        CHECK_EQUAL(FakeBroadcasts, Before + 1);
        CHECK(FakeBeforeLock == NULL);
        MmUnmapReservedMapping(Base, TAG, Mdl);
        MmFreeMappingAddress(Base, TAG);
        FreeMdl(Mdl);
    }
    HostAudit();
}

// What is good enough to use an address again is not for a frame's type: some processor may sleep.
static VOID A_type_changes_when_sleepers_have_forgotten_too(VOID)
{
    KeNumberProcessors = 2;
    FakeSleepers = 1;
    const PMDL Mdl = AllocateMdl(1);
    const PVOID Base = MmAllocateMappingAddress(PAGES(1), TAG);
    CHECK(Base != NULL);
    (VOID) MapReserved(Base, Mdl, MmCached);
    MmUnmapReservedMapping(Base, TAG, Mdl);
    MiForgetStamped(MiLastStamp, MmShootdownSlots);
    CHECK(MiIsForgotten(MiLastStamp) && MiIsAnythingRemembered());
    MiForgetEverything(MmShootdownCacheType);
    CHECK(!MiIsAnythingRemembered());
    FakeSleepers = 0;
    MmFreeMappingAddress(Base, TAG);
    FreeMdl(Mdl);
    HostAudit();
}

static VOID At_level_1_nothing_waits(VOID)
{
    KeNumberProcessors = 2;
    const PMDL Mdl = AllocateMdl(2);
    const PVOID Base = MmAllocateMappingAddress(PAGES(2), TAG);
    CHECK(Base != NULL);
    (VOID) MapReserved(Base, Mdl, MmCached);
    MmUnmapReservedMapping(Base, TAG, Mdl);
    MmVerifierLevel = 1;
    const ULONG64 Before = FakeBroadcasts;
    MmFreeMappingAddress(Base, TAG); // which was unmapped at level 0
    CHECK_EQUAL(FakeBroadcasts, Before + 1);
    Unmap(Map(FAKE_IO_LOW, MmNonCached));
    CHECK_EQUAL(FakeBroadcasts, Before + 2);
    CHECK_EQUAL(MiCaches[0].Waiting.Count, 0);
    MmVerifierLevel = 0;
    FreeMdl(Mdl);
    const PMDL Page = AllocateMdl(1);
    const PVOID Va =
        MmMapLockedPagesSpecifyCache(Page, KernelMode, MmCached, NULL, FALSE, NormalPagePriority);
    CHECK(Va != NULL);
    MmVerifierLevel = 1;
    MmUnmapLockedPages(Va, Page); // which was mapped at level 0
    CHECK_EQUAL(MiCaches[0].Waiting.Count, 0);
    MmVerifierLevel = 0;
    FreeMdl(Page);
}

//
// Cache types.
//

// W4: no frame is remembered with two types.
static VOID A_frame_gets_another_type_when_nobody_remembers_the_old_one(VOID)
{
    KeNumberProcessors = 2;
    Unmap(Map(FAKE_IO_LOW, MmNonCached));
    Unmap(Map(FAKE_IO_LOW, MmNonCached));
    const ULONG64 Before = FakeBroadcasts;
    const PVOID Combined = Map(FAKE_IO_LOW, MmWriteCombined);
    CHECK_EQUAL(FakeBroadcasts, Before + 1);
    const PVOID Second = Map(FAKE_IO_LOW, MmWriteCombined);
    Unmap(Combined); // which does not wait
    CHECK_EQUAL(FakeBroadcasts, Before + 2);
    Unmap(Second);
    Unmap(Map(FAKE_IO_LOW, MmNonCached));
    CHECK(MiIsAnythingRemembered());
    CHECK(MiCaches[0].Idle[0].First != NULL); // so this one goes the short way
    Unmap(Map(FAKE_IO_LOW, MmWriteCombined));
    CHECK(!MiIsAnythingRemembered());
    Unmap(Map(FAKE_IO_LOW, MmNonCached));
    PMDL Io = NULL;
    MM_PHYSICAL_ADDRESS_LIST List = {Pa(FAKE_IO_LOW), PAGE_SIZE};
    CHECK_EQUAL(MmAllocateMdlForIoSpace(&List, 1, &Io), STATUS_SUCCESS);
    const PVOID Va =
        MmMapLockedPagesSpecifyCache(Io, KernelMode, MmCached, NULL, FALSE, NormalPagePriority);
    CHECK(Va != NULL);
    CHECK(!MiIsAnythingRemembered());
    MmUnmapLockedPages(Va, Io);
    IoFreeMdl(Io);
    Unmap(Map(FAKE_IO_LOW, MmNonCached));
    const PVOID Large = MmMapIoSpace(Pa(FAKE_IO_LOW), PAGES(3), MmCached);
    CHECK(Large != NULL && !MiIsAnythingRemembered());
    MmUnmapIoSpace(Large, PAGES(3));
}

static VOID RAM_gets_another_type_when_nobody_remembers_the_old_one(VOID)
{
    KeNumberProcessors = 2;
    for (ULONG Round = 0; Round < 4; Round += 1) {
        const PMDL Mdl = AllocateMdl(3);
        const PVOID Va =
            MmMapLockedPagesSpecifyCache(Mdl, KernelMode, Round % 2 == 0 ? MmCached : MmNonCached,
                                         NULL, FALSE, NormalPagePriority);
        CHECK(Va != NULL);
        MmUnmapLockedPages(Va, Mdl);
        CHECK(MiIsAnythingRemembered());
        FreeMdl(Mdl); // the next one has the same frames
        CHECK_EQUAL(MiIsAnythingRemembered(), Round % 2 == 0);
    }
    HostAudit();
}

//
// What each processor keeps.
//

static VOID Slots_go_from_processor_to_processor_in_batches(VOID)
{
    static PVOID Vas[4 * MI_CACHED_SLOTS];
    KeNumberProcessors = 2;
    WatchReads = WatchReadsNone;
    for (ULONG Round = 0; Round < 3; Round += 1) {
        FakeProcessor = 0;
        for (ULONG Index = 0; Index < ARRAYSIZE(Vas); Index += 1) {
            Vas[Index] = Map(FAKE_IO_LOW + PAGES(Index), MmNonCached);
        }
        FakeProcessor = 1;
        for (ULONG Index = 0; Index < ARRAYSIZE(Vas); Index += 1) {
            Unmap(Vas[Index]);
        }
        CHECK(MiCaches[1].Idle[0].Count <= MI_CACHED_SLOTS);
        CHECK(HostIdleCount(0) >= ARRAYSIZE(Vas));
        HostAudit();
    }
    CHECK(HostIdleCount(0) < ARRAYSIZE(Vas) + 2 * MI_CACHED_SLOTS);
    FakeProcessor = 0;
    MmTrim();
    CHECK_EQUAL(MiListedSlotCount(), 0);
}

static PFN_NUMBER Frame(VOID)
{
    return MiAllocateFrame(MiPfnMdl);
}

static VOID A_processor_keeps_the_frames_that_it_frees(VOID)
{
    KeNumberProcessors = 2;
    MiTrimFrames();
    CHECK_EQUAL(MiPfnStateCountOf(MiPfnCached), 0);
    const PFN_NUMBER First = MiFirstFreePfn();
    const PFN_NUMBER Second = MiPfnElement(First)->Flink;
    CHECK_EQUAL(Frame(), First);
    CHECK_EQUAL(MiPfnStateCountOf(MiPfnCached), MI_FRAME_BATCH);
    CHECK(MiFirstCachedPfn(0) == Second && MiFirstCachedPfn(1) == MI_NO_PFN);
    const PFN_NUMBER Listed = MiFirstFreePfn();
    FakeProcessor = 1;
    CHECK_EQUAL(Frame(), Listed); // what the other keeps is the other's
    MiFreeFrame(First);           // who had it does not matter
    CHECK_EQUAL(MiFirstCachedPfn(1), First);
    FakeProcessor = 0;
    CHECK_EQUAL(Frame(), Second);
    FakeProcessor = 1;
    CHECK_EQUAL(Frame(), First);
    MiFreeFrame(First);
    MiFreeFrame(Second);
    MiFreeFrame(Listed);
    HostAudit();
}

static PFN_NUMBER FrameOfAnother;

// The thread has found its cache empty, and is interrupted by one that frees a frame.
static VOID FreeFirst(const KI_LOCK *Lock)
{
    if (strcmp(Lock->Name, "MiPfnLock") == 0) {
        FakeBeforeLock = NULL;
        MiFreeFrame(FrameOfAnother);
    }
}

static VOID A_cache_that_is_not_empty_any_more_is_not_filled(VOID)
{
    FrameOfAnother = Frame();
    MiTrimFrames();
    FakeBeforeLock = FreeFirst;
    const PFN_NUMBER Pfn = Frame();
    CHECK_EQUAL(FakeBeforeLock, NULL);
    CHECK(Pfn != FrameOfAnother && MiFirstCachedPfn(0) == FrameOfAnother);
    CHECK_EQUAL(MiPfnStateCountOf(MiPfnCached), 1);
    MiFreeFrame(Pfn);
    HostAudit();
}

static VOID What_a_cache_has_no_room_for_goes_to_the_list(VOID)
{
    PFN_NUMBER Pfns[3 * MI_CACHED_FRAMES];
    const ULONG64 FreeCount = MiFreePageCount();
    for (ULONG Index = 0; Index < ARRAYSIZE(Pfns); Index += 1) {
        Pfns[Index] = Frame();
    }
    for (ULONG Index = 0; Index < ARRAYSIZE(Pfns); Index += 1) {
        MiFreeFrame(Pfns[Index]);
        CHECK(MiPfnStateCountOf(MiPfnCached) <= MI_CACHED_FRAMES);
    }
    CHECK(MiPfnStateCountOf(MiPfnCached) >= MI_FRAME_BATCH);
    CHECK_EQUAL(MiFreePageCount(), FreeCount);
    HostAudit();
}

// All of RAM but what is below 16 MiB, though another processor keeps some of it.
static VOID What_others_keep_is_taken_before_what_few_devices_reach(VOID)
{
    KeNumberProcessors = 2;
    FakeProcessor = 1;
    const PFN_NUMBER Others = Frame();
    MiFreeFrame(Others);
    FakeProcessor = 0;
    PFN_NUMBER Chain = MI_NO_PFN;
    PFN_NUMBER Pfn = Frame();
    for (; Pfn >= PAGES_OF_24_BITS; Pfn = Frame()) {
        MiPfnElement(Pfn)->Flink = (ULONG)Chain;
        Chain = Pfn;
    }
    CHECK_EQUAL(MiPfnState(Others), MiPfnMdl);
    MiFreeFrame(Pfn);
    CHECK_EQUAL(MiPfnStateCountOf(MiPfnCached), 0); // one below 16 MiB is in no cache
    MiFreeFrameChain(Chain);
    HostAudit();
}

static VOID A_run_is_found_though_processors_keep_parts_of_it(VOID)
{
    KeNumberProcessors = 2;
    MiTrimFrames();
    const PFN_NUMBER First = MiAllocateFrameRun(8, 8, (MI_PFN_RANGE){0x2000, 0x3000}, MiPfnMdl);
    for (PFN_NUMBER Page = 0; Page < 8; Page += 1) {
        FakeProcessor = Page % 2;
        MiFreeFrame(First + Page);
        CHECK_EQUAL(MiPfnState(First + Page), MiPfnCached);
    }
    CHECK_EQUAL(MiAllocateFrameRun(8, 8, (MI_PFN_RANGE){First, First + 7}, MiPfnMdl), First);
    for (PFN_NUMBER Page = 0; Page < 8; Page += 1) {
        MiFreeFrame(First + Page);
    }
    HostAudit();
}

// Another processor begins to change the ledger when this one is about to look at it.
static VOID CloseLedger(const KI_LOCK *Lock)
{
    if (strcmp(Lock->Name, "MiCacheLock") == 0) {
        FakeBeforeLock = NULL;
        MiIsLedgerChanging = TRUE;
    }
}

// The general way has been there, and ended it.
static VOID CheckOpenAgain(VOID)
{
    CHECK_EQUAL(FakeBeforeLock, NULL);
    CHECK_EQUAL(MiIsLedgerChanging, FALSE);
}

static VOID A_ledger_that_is_being_changed_closes_the_short_ways(VOID)
{
    WatchReads = WatchReadsNone;
    Unmap(Map(FAKE_IO_LOW, MmNonCached));
    Unmap(Map(FAKE_IO_LOW, MmNonCached));
    FakeBeforeLock = CloseLedger;
    const PVOID Va = Map(FAKE_IO_LOW, MmNonCached);
    CheckOpenAgain();
    FakeBeforeLock = CloseLedger;
    Unmap(Va);
    CheckOpenAgain();
    const MI_PFN_RANGE Range = {PfnOf(FAKE_IO_LOW), PfnOf(FAKE_IO_LOW) + 3};
    FakeBeforeLock = CloseLedger;
    CHECK_EQUAL(MiHoldFrames(Range, MiCacheUncached, NULL), STATUS_SUCCESS);
    CheckOpenAgain();
    FakeBeforeLock = CloseLedger;
    MiReleaseFrames(Range);
    CheckOpenAgain();
    HostAudit();
}

// A leaf that another processor keeps, too, is not freed.
static VOID Each_processor_keeps_the_leaf_that_it_emptied_last(VOID)
{
    KeNumberProcessors = 2;
    WatchReads = WatchReadsNone;
    for (ULONG Round = 0; Round < 3; Round += 1) {
        for (FakeProcessor = 0; FakeProcessor < 2; FakeProcessor += 1) {
            Unmap(Map(FAKE_IO_LOW + FakeProcessor * LEAF_BYTES, MmNonCached));
        }
    }
    FakeProcessor = 0;
    const PFN_NUMBER Pfn = PfnOf(FAKE_IO_LOW);
    CHECK(MiCaches[0].SpareLeaf == MiFindLeaf(Pfn) && MiCaches[0].SpareLeaf != NULL);
    CHECK(MiCaches[1].SpareLeaf == MiFindLeaf(Pfn + MI_LEAF_SLOTS));
    // The last page of another leaf goes the general way, one of several does not.
    const PVOID One = Map(FAKE_IO_LOW + 5 * LEAF_BYTES, MmNonCached);
    const PVOID Two = Map(FAKE_IO_LOW + 5 * LEAF_BYTES + PAGE_SIZE, MmNonCached);
    Unmap(One);
    CHECK(MiCaches[0].SpareLeaf == MiFindLeaf(Pfn));
    Unmap(Two);
    CHECK(MiCaches[0].SpareLeaf == MiFindLeaf(Pfn + 5 * MI_LEAF_SLOTS));
    // Both keep the same one, and then one of them another.
    MiCaches[0].SpareLeaf = NULL;
    MiCaches[0].SpareNumber = 0;
    const PVOID Va = Map(FAKE_IO_LOW + LEAF_BYTES, MmNonCached);
    Unmap(Va);
    CHECK(MiCaches[0].SpareLeaf == MiCaches[1].SpareLeaf);
    Unmap(Map(FAKE_IO_LOW, MmNonCached));
    CHECK(MiFindLeaf(Pfn + MI_LEAF_SLOTS) != NULL);
    FakeProcessor = 1;
    Unmap(Map(FAKE_IO_LOW + 2 * LEAF_BYTES, MmNonCached));
    CHECK(MiFindLeaf(Pfn + MI_LEAF_SLOTS) == NULL);
    FakeProcessor = 0;
    HostAudit();
}

static ULONG64 BroadcastsSince(PULONG64 Before)
{
    const ULONG64 Count = FakeBroadcasts - *Before;
    *Before = FakeBroadcasts;
    return Count;
}

// However many frames change their type, and also when addresses wait that may show them.
static VOID Frames_change_their_type_by_one_broadcast(VOID)
{
    KeNumberProcessors = 2;
    MmFreeNonCachedMemory(MmAllocateNonCachedMemory(PAGES(32)), PAGES(32)); // splits the direct map
    for (ULONG Round = 0; Round < 2; Round += 1) {
        const PMDL Mdl = AllocateMdl(9);
        ULONG64 Before = FakeBroadcasts;
        const PVOID Va = MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmNonCached, NULL, FALSE,
                                                      NormalPagePriority);
        CHECK(Va != NULL && BroadcastsSince(&Before) <= 1);
        MmUnmapLockedPages(Va, Mdl);
        CHECK_EQUAL(BroadcastsSince(&Before), 0);
        FreeMdl(Mdl);
        CHECK(BroadcastsSince(&Before) <= 1);
        Unmap(Map(FAKE_IO_LOW, MmNonCached)); // waits
        CHECK_EQUAL(BroadcastsSince(&Before), 0);
        const PVOID Block = MmAllocateNonCachedMemory(PAGES(9));
        CHECK(Block != NULL && BroadcastsSince(&Before) == 1);
        Unmap(Map(FAKE_IO_LOW, MmNonCached));
        CHECK_EQUAL(BroadcastsSince(&Before), 0);
        MmFreeNonCachedMemory(Block, PAGES(9));
        CHECK_EQUAL(BroadcastsSince(&Before), 1);
    }
    HostAudit();
}

// Leaves of 2 MiB, and of 4 KiB behind them.
static VOID Several_runs_are_forgotten_by_one_broadcast(VOID)
{
    KeNumberProcessors = 2;
    const PVOID Va = Map(FAKE_IO_LOW, MmNonCached); // so that the tables are there
    const PVOID Mixed = MmMapIoSpace(Pa(FAKE_IO_LOW), PAGES(MI_PTES_PER_TABLE + 3), MmNonCached);
    CHECK(Mixed != NULL);
    const ULONG64 Before = FakeBroadcasts;
    MmUnmapIoSpace(Mixed, PAGES(MI_PTES_PER_TABLE + 3));
    CHECK_EQUAL(FakeBroadcasts, Before + 1);
    Unmap(Va);
    HostAudit();
}

//
// The ring.
//

static VOID The_last_shootdowns_are_told(VOID)
{
    MM_SHOOTDOWN Last[MM_SHOOTDOWN_COUNT + 2];
    CHECK_EQUAL(MmQueryShootdowns(Last, ARRAYSIZE(Last)), 0);
    KeNumberProcessors = 2;
    MiFlushPages(0x300000010000, 7);
    FakeSleepers = 1;
    MiForgetStamped(MiTlbEpoch, MmShootdownTrim);
    FakeSleepers = 0;
    CHECK_EQUAL(MmQueryShootdowns(Last, ARRAYSIZE(Last)), 2);
    CHECK(Last[0].Number == 2 && Last[0].Reason == MmShootdownTrim && Last[0].LeafCount == 0 &&
          Last[0].ProcessorCount == 1);
    CHECK(Last[1].Number == 1 && Last[1].Reason == MmShootdownUnmap && Last[1].LeafCount == 7 &&
          Last[1].LeafPages == 1 && Last[1].Va == 0x300000010000 && Last[1].ProcessorCount == 2 &&
          Last[1].Cycles != 0);
    HostForgetPrinted();
    MmPrintShootdowns();
    CHECK(strstr(HostPrinted(), "everything, 1 processors") != NULL);
    CHECK(strstr(HostPrinted(), "7 leaves of 1 pages") != NULL);
    for (ULONG Count = 0; Count < MM_SHOOTDOWN_COUNT; Count += 1) {
        MiForgetEverything(MmShootdownSlots);
    }
    CHECK_EQUAL(MmQueryShootdowns(Last, 1), 1);
    CHECK_EQUAL(MmQueryShootdowns(Last, ARRAYSIZE(Last)), MM_SHOOTDOWN_COUNT);
    CHECK_EQUAL(Last[0].Number, 2 + MM_SHOOTDOWN_COUNT);
}

static const HOST_TEST Tests[] = {
    HOST_ROW(Addresses_wait_until_their_processor_has_many, "contract 12.3.1, T5", &FakeMachineMax),
    HOST_ROW(Pages_that_nobody_used_do_not_wait, "contract 12.3.1", &FakeMachineMax),
    HOST_ROW(One_shootdown_counts_for_all_processors, "contract 12.3.1, T5", &FakeMachineMax),
    HOST_ROW(A_reservation_is_forgotten_before_it_is_mapped_again, "contract 12.3.1, T5",
             &FakeMachineMax),
    HOST_ROW(Who_waits_to_have_all_forgotten_is_served_by_another, "contract 12.3.1, T5",
             &FakeMachineMax),
    HOST_ROW(A_type_changes_when_sleepers_have_forgotten_too, "contract 12.3.5, C2",
             &FakeMachineMax),
    HOST_ROW(At_level_1_nothing_waits, "contract 12.3.1", &FakeMachineMax),
    HOST_ROW(A_frame_gets_another_type_when_nobody_remembers_the_old_one, "C2", &FakeMachineMax),
    HOST_ROW(RAM_gets_another_type_when_nobody_remembers_the_old_one, "C2, A1", &FakeMachineMax),
    HOST_ROW(Slots_go_from_processor_to_processor_in_batches, "mapping.c, M3", &FakeMachineMax),
    HOST_ROW(A_processor_keeps_the_frames_that_it_frees, "pfn.c, F2", &FakeMachineMax),
    HOST_ROW(A_cache_that_is_not_empty_any_more_is_not_filled, "pfn.c", &FakeMachineMax),
    HOST_ROW(What_a_cache_has_no_room_for_goes_to_the_list, "pfn.c, F2", &FakeMachineMax),
    HOST_ROW(What_others_keep_is_taken_before_what_few_devices_reach, "pfn.c", &FakeMachineMax),
    HOST_ROW(A_run_is_found_though_processors_keep_parts_of_it, "pfn.c", &FakeMachineMax),
    HOST_ROW(A_ledger_that_is_being_changed_closes_the_short_ways, "ledger.c", &FakeMachineMax),
    HOST_ROW(Each_processor_keeps_the_leaf_that_it_emptied_last, "ledger.c", &FakeMachineMax),
    HOST_ROW(Frames_change_their_type_by_one_broadcast, "contract 12.3.4, C2", &FakeMachineMax),
    HOST_ROW(Several_runs_are_forgotten_by_one_broadcast, "contract 12.3.4", &FakeMachineMax),
    HOST_ROW(The_last_shootdowns_are_told, "mm.h, MmQueryShootdowns", &FakeMachineMax),
};

HOST_DEFINE_SUITE(processors);
