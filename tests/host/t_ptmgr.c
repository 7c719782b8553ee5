// Frames, system addresses, TLB batches, page tables, the ledger: what their callers rely on, where
// the exported routines do not show it already.
#include "tests/host/host.h"

#define MIB (1ull << 20)
#define SMALL_VA (0x300000000000 + 0x40000000 - 0x200000) // the end of the system PTEs
#define RANGE(First, Last)                                                                         \
    ((MI_PFN_RANGE){PfnOf(FAKE_IO_LOW) + (First), PfnOf(FAKE_IO_LOW) + (Last)})

//
// pfn.c
//

static VOID A_frame_changes_its_state_and_comes_back(VOID)
{
    const ULONG64 Free = MiFreePageCount();
    const PFN_NUMBER Pfn = MiAllocateFrame(MiPfnPool);
    CHECK(Pfn != MI_NO_PFN && MiPfnState(Pfn) == MiPfnPool);
    CHECK_EQUAL(MiFreePageCount(), Free - 1);
    MiFreeFrame(Pfn);
    CHECK(MiIsFree(MiPfnState(Pfn)) && MiFreePageCount() == Free);
}

static VOID Frames_that_are_not_RAM_have_no_element(VOID)
{
    CHECK(MiPfnElement(0) == NULL && MiPfnElement(PfnOf(FAKE_IO_LOW)) == NULL &&
          MiPfnElement(MAXULONG64) == NULL);
    CHECK(MiPfnElement(PfnOf(FAKE_ACPI)) == NULL && MiPfnElement(PfnOf(FAKE_ACPI) - 1) != NULL);
    CHECK_EQUAL(MiPfnState(MAXULONG64), MiPfnNotRam);
}

static VOID A_run_is_aligned_and_within_its_window(VOID)
{
    const MI_PFN_RANGE Window = {0x2003, 0x2100};
    const PFN_NUMBER First = MiAllocateFrameRun(16, 8, Window, MiPfnMdl);
    CHECK_EQUAL(First, 0x2008);
    const PFN_NUMBER Second = MiAllocateFrameRun(16, 8, Window, MiPfnMdl);
    CHECK_EQUAL(Second, 0x2018);
    CHECK_EQUAL(MiAllocateFrameRun(0x100, 1, Window, MiPfnMdl), MI_NO_PFN);
    const PFN_NUMBER High =
        MiAllocateFrameRun(1, 1, (MI_PFN_RANGE){PfnOf(FAKE_IO_LOW), MiHighestPfn()}, MiPfnMdl);
    CHECK(High >= 0x100000);
    for (PFN_NUMBER Page = 0; Page < 16; Page += 1) {
        MiFreeFrame(First + Page);
        MiFreeFrame(Second + Page);
    }
    MiFreeFrame(High);
}

#define PAGES_OF_24_BITS 0x1000u

// Above 4 GiB first; what a device of 24 address bits needs last, and last again when it is freed; and runs
// keep away from it, too, unless they must lie there.
static VOID Frames_that_few_devices_reach_are_handed_out_last(VOID)
{
    PFN_NUMBER FreeCount = MiFreePageCount();
    CHECK(MiFirstFreePfn() >= 0x100000);
    const MI_PFN_RANGE Low = {1, PAGES_OF_24_BITS - 1};
    const MI_PFN_RANGE All = {1, MiHighestPfn()};
    const PFN_NUMBER LowRun = MiAllocateBoundedFrameRun(16, 0, Low, MiPfnMdl);
    CHECK(LowRun != MI_NO_PFN && LowRun + 15 < PAGES_OF_24_BITS);
    const PFN_NUMBER Run = MiAllocateBoundedFrameRun(16, 0, All, MiPfnMdl);
    CHECK(Run >= PAGES_OF_24_BITS && Run < 0x100000);
    for (PFN_NUMBER Page = 0; Page < 16; Page += 1) {
        MiFreeFrame(LowRun + Page);
        MiFreeFrame(Run + Page);
    }
    PFN_NUMBER Chain = MI_NO_PFN;
    ULONG Changes = 0;
    BOOLEAN WasLow = FALSE;
    for (; FreeCount != 0; FreeCount -= 1) {
        const PFN_NUMBER Pfn = MiAllocateFrame(MiPfnMdl);
        const BOOLEAN IsLow = Pfn < PAGES_OF_24_BITS;
        Changes += IsLow != WasLow ? 1 : 0;
        WasLow = IsLow;
        MiPfnElement(Pfn)->Flink = (ULONG)Chain;
        Chain = Pfn;
    }
    CHECK_EQUAL(MiAllocateFrame(MiPfnMdl), MI_NO_PFN);
    CHECK_EQUAL(Changes, 1);
    CHECK(WasLow);
    MiFreeFrameChain(Chain);
}

//
// sysva.c
//

static VOID Every_piece_has_its_guards_and_a_freed_one_is_found_again(VOID)
{
    ULONG_PTR Pieces[64];
    for (ULONG Index = 0; Index < ARRAYSIZE(Pieces); Index += 1) {
        Pieces[Index] = MiReserveSystemVa(MiRegionSystemPtes, 1 + Index % 5, 0, Index % 3);
        CHECK(Pieces[Index] != 0 &&
              MiIsSystemVaReserved(MiRegionSystemPtes, Pieces[Index], 1 + Index % 5));
        for (ULONG Other = 0; Other < Index; Other += 1) {
            const ULONG_PTR End = Pieces[Other] + PAGES(1 + Other % 5 + 1);
            CHECK(Pieces[Index] - PAGES(Index % 3) >= End || Pieces[Index] < Pieces[Other]);
        }
    }
    const ULONG_PTR Freed = Pieces[10];
    MiReleaseSystemVa(MiRegionSystemPtes, Freed, 1 + 10 % 5, 10 % 3);
    CHECK(!MiIsSystemVaReserved(MiRegionSystemPtes, Freed, 1));
    CHECK_EQUAL(MiReserveSystemVa(MiRegionSystemPtes, 1 + 10 % 5, 0, 10 % 3), Freed);
    for (ULONG Index = 0; Index < ARRAYSIZE(Pieces); Index += 1) {
        MiReleaseSystemVa(MiRegionSystemPtes, Pieces[Index], 1 + Index % 5, Index % 3);
    }
    ULONG64 Used;
    ULONG64 Total;
    MiQuerySystemVa(MiRegionSystemPtes, &Used, &Total);
    CHECK(Used == 0 && Total == MiArchLayout[MiRegionSystemPtes].ByteCount >> PAGE_SHIFT);
}

static VOID Large_pieces_are_aligned_as_their_frames(VOID)
{
    static const PFN_NUMBER FirstPfns[] = {0xE000000, 0xE000001, 0xE0001FF, 0xE000200, 0xE012345};
    for (ULONG Row = 0; Row < ARRAYSIZE(FirstPfns); Row += 1) {
        const ULONG_PTR Va = MiReserveSystemVa(MiRegionLargeSystemPtes, 3 * 512, FirstPfns[Row], 0);
        const ULONG_PTR Huge =
            MiReserveSystemVa(MiRegionLargeSystemPtes, 2 * 262144, FirstPfns[Row], 0);
        CHECK_EQUAL((Va >> PAGE_SHIFT) % 512, FirstPfns[Row] % 512);
        CHECK_EQUAL((Huge >> PAGE_SHIFT) % 262144, FirstPfns[Row] % 262144);
        MiReleaseSystemVa(MiRegionLargeSystemPtes, Va, 3 * 512, 0);
        MiReleaseSystemVa(MiRegionLargeSystemPtes, Huge, 2 * 262144, 0);
    }
}

static VOID Addresses_run_out_and_come_back(VOID)
{
    const PFN_NUMBER All = MiArchLayout[MiRegionSystemPtes].ByteCount >> PAGE_SHIFT;
    CHECK_EQUAL(MiReserveSystemVa(MiRegionSystemPtes, All, 0, 0), 0); // no room for the guard
    const ULONG_PTR Va = MiReserveSystemVa(MiRegionSystemPtes, All - 1, 0, 0);
    CHECK(Va != 0);
    CHECK_EQUAL(MiReserveSystemVa(MiRegionSystemPtes, 1, 0, 0), 0);
    MiReleaseSystemVa(MiRegionSystemPtes, Va, All - 1, 0);
    CHECK_EQUAL(MiReserveSystemVa(MiRegionSystemPtes, MAXULONG64, 0, 0), 0);
}

//
// tlb.c
//

static VOID A_batch_flushes_what_it_was_told_and_everything_when_it_is_full(VOID)
{
    MI_TLB_BATCH Batch;
    FakePageFlushes = FakeFullFlushes = 0;
    MiInitializeTlbBatch(&Batch);
    MiFlushTlbBatch(&Batch);
    CHECK(FakePageFlushes == 0 && FakeFullFlushes == 0);
    for (ULONG Page = 0; Page < MI_TLB_BATCH_PAGES; Page += 1) {
        MiAddPageToBatch(&Batch, SMALL_VA + PAGES(Page));
    }
    MiFlushTlbBatch(&Batch);
    CHECK(FakePageFlushes == MI_TLB_BATCH_PAGES && FakeFullFlushes == 0);
    for (ULONG Page = 0; Page <= MI_TLB_BATCH_PAGES; Page += 1) {
        MiAddPageToBatch(&Batch, SMALL_VA + PAGES(Page));
    }
    MiFlushTlbBatch(&Batch);
    CHECK(FakePageFlushes == MI_TLB_BATCH_PAGES && FakeFullFlushes == 1);
}

static VOID A_batch_is_flushed_on_the_other_processors_at_once(VOID)
{
    MI_TLB_BATCH Batch;
    MiInitializeTlbBatch(&Batch);
    KeNumberProcessors = 3;
    FakePageFlushes = FakeFullFlushes = 0;
    MiAddPageToBatch(&Batch, SMALL_VA);
    MiAddPageToBatch(&Batch, SMALL_VA + PAGES(1));
    MiFlushTlbBatch(&Batch);
    CHECK(FakeBroadcasts == 1 && FakePageFlushes == 3 * 2ull && FakeFullFlushes == 0);
    MiAddTableToBatch(&Batch, MiAllocateFrame(MiPfnTable));
    MiFlushTlbBatch(&Batch);
    CHECK(FakeBroadcasts == 2 && FakeFullFlushes == 3);
    MiFlushTlbBatch(&Batch); // which is empty
    CHECK_EQUAL(FakeBroadcasts, 2);
}

static VOID Pages_and_leaves_are_flushed_on_the_other_processors_at_once(VOID)
{
    KeNumberProcessors = 2;
    FakePageFlushes = FakeFullFlushes = 0;
    MiFlushPages(SMALL_VA, 11);
    CHECK(FakeBroadcasts == 1 && FakePageFlushes == 2 * 11ull);
    MiFlushLeaves(SMALL_VA, 3, 512);
    CHECK(FakeBroadcasts == 2 && FakePageFlushes == 2 * 14ull && FakeFullFlushes == 0);
    MiFlushLeaves(SMALL_VA, MI_TLB_BATCH_PAGES + 1, 512);
    CHECK(FakeBroadcasts == 3 && FakeFullFlushes == 2);
}

// contract 12.3.1: what no processor has used, none remembers.
static VOID Pages_that_nobody_used_are_not_flushed(VOID)
{
    static const PFN_NUMBER PageCounts[] = {1, 12, MI_ASKED_PAGES, 600};
    const MI_PROTECTION Uncached = {MiAccessReadWrite, MiCacheUncached};
    const ULONG_PTR Va = SMALL_VA - PAGES(1024 + 5); // five pages are in the table before
    for (ULONG Row = 0; Row < ARRAYSIZE(PageCounts); Row += 1) {
        for (ULONG Level = 0; Level < 2; Level += 1) {
            const BOOLEAN IsAsked = Level == 0 && PageCounts[Row] <= MI_ASKED_PAGES;
            CHECK(NT_SUCCESS(MiPreparePages(Va, PageCounts[Row])));
            WatchReads = WatchReadsNone;
            MmVerifierLevel = Level;
            MiCommitSmallRange(NULL, Va, PfnOf(FAKE_IO_LOW), PageCounts[Row], Uncached);
            FakePageFlushes = FakeFullFlushes = 0;
            MiClearPages(MiFindFirstPage(Va), Va, PageCounts[Row]);
            CHECK_EQUAL(FakePageFlushes + FakeFullFlushes == 0, IsAsked);
            MmVerifierLevel = 0;
            WatchReads = WatchReadsAll;
        }
    }
}

static VOID Tables_of_a_batch_are_free_after_the_flush(VOID)
{
    MI_TLB_BATCH Batch;
    const PFN_NUMBER First = MiAllocateFrame(MiPfnTable);
    const PFN_NUMBER Second = MiAllocateFrame(MiPfnTable);
    MiInitializeTlbBatch(&Batch);
    MiAddTableToBatch(&Batch, First);
    MiAddTableToBatch(&Batch, Second);
    CHECK(MiPfnState(First) == MiPfnTable && MiPfnState(Second) == MiPfnTable);
    MiFlushTlbBatch(&Batch);
    CHECK(MiIsFree(MiPfnState(First)) && MiIsFree(MiPfnState(Second)));
}

//
// ptmgr.c
//

static VOID Splitting_keeps_every_translation(VOID)
{
    const PFN_NUMBER Pfn = 0x2000; // in a large leaf of the direct map
    const ULONG_PTR Va = (ULONG_PTR)MiFrameToVa(Pfn);
    CHECK_EQUAL(FakeWalk(Va).Level, 2);
    CHECK_EQUAL(MiSplitRange(Va + PAGES(3), 4), STATUS_SUCCESS);
    for (PFN_NUMBER Page = 0; Page < 1024; Page += 1) {
        CHECK_PAGE(Va + PAGES(Page), Pfn + Page, MiAccessReadWrite, MiCacheWriteBack);
    }
    CHECK(FakeWalk(Va).Level == 1 && FakeWalk(Va + PAGES(512)).Level == 2);
    CHECK_EQUAL(MiSplitRange(Va, 512), STATUS_SUCCESS); // nothing left to do
}

static VOID Splitting_a_1_GiB_leaf_goes_down_both_levels(VOID)
{
    const ULONG_PTR Va = (ULONG_PTR)MiFrameToVa(0x40000); // the second GiB
    CHECK_EQUAL(FakeWalk(Va).Level, 3);
    CHECK_EQUAL(MiSplitRange(Va + PAGES(511), 2), STATUS_SUCCESS);
    CHECK_EQUAL(FakeWalk(Va).Level, 1);
    CHECK_EQUAL(FakeWalk(Va + PAGES(512)).Level, 1);
    CHECK_EQUAL(FakeWalk(Va + PAGES(1024)).Level, 2);
    CHECK_PAGE(Va + PAGES(100000), 0x40000 + 100000, MiAccessReadWrite, MiCacheWriteBack);
    WatchAudit();
}

static VOID A_split_that_fails_changes_nothing(VOID)
{
    const ULONG_PTR Va = (ULONG_PTR)MiFrameToVa(0x2000);
    MmStartFailures(MM_FAIL_FRAMES, 0, 1);
    CHECK_EQUAL(MiSplitRange(Va, 1), STATUS_INSUFFICIENT_RESOURCES);
    MmStopFailures();
    CHECK_EQUAL(FakeWalk(Va).Level, 2);
}

//
// ledger.c
//

static BOOLEAN IsHeld(PFN_NUMBER Pfn)
{
    MI_CACHE_OWNER Owner;
    return MiQueryFrame(Pfn, &Owner);
}

static VOID Holds_of_the_same_range_are_counted(VOID)
{
    CHECK_EQUAL(MiHoldFrames(RANGE(0, 3), MiCacheUncached, NULL), STATUS_SUCCESS);
    CHECK_EQUAL(MiHoldFrames(RANGE(0, 3), MiCacheUncached, NULL), STATUS_SUCCESS);
    CHECK_EQUAL(MiHoldFrames(RANGE(2, 5), MiCacheUncached, NULL), STATUS_SUCCESS);
    CHECK_EQUAL(MiLedgerUsedCount(), 6);
    CHECK_EQUAL(MiHoldFrames(RANGE(5, 5), MiCacheWriteBack, NULL), STATUS_CONFLICTING_ADDRESSES);
    MiReleaseFrames(RANGE(0, 3));
    CHECK(IsHeld((FAKE_IO_LOW >> PAGE_SHIFT)));
    MiReleaseFrames(RANGE(0, 3));
    CHECK(!IsHeld((FAKE_IO_LOW >> PAGE_SHIFT) + 1) && IsHeld((FAKE_IO_LOW >> PAGE_SHIFT) + 2));
    MiReleaseFrames(RANGE(2, 5));
    CHECK_EQUAL(MiLedgerUsedCount(), 0);
}

static VOID An_open_frame_takes_any_type_once(VOID)
{
    CHECK_EQUAL(MiHoldFrames(RANGE(0, 3), MiCacheUndecided, NULL), STATUS_SUCCESS);
    CHECK_EQUAL(MiDecideIoCacheType((FAKE_IO_LOW >> PAGE_SHIFT) + 1, MiCacheUncached, NULL),
                MiCacheUncached);
    CHECK_EQUAL(MiDecideIoCacheType((FAKE_IO_LOW >> PAGE_SHIFT) + 1, MiCacheWriteBack, NULL),
                MiCacheUncached);
    CHECK_EQUAL(MiDecideIoCacheType((FAKE_IO_LOW >> PAGE_SHIFT) + 2, MiCacheWriteBack, NULL),
                MiCacheWriteBack);
    CHECK_EQUAL(MiHoldFrames(RANGE(1, 2), MiCacheUncached, NULL), STATUS_CONFLICTING_ADDRESSES);
    CHECK_EQUAL(MiHoldFrames(RANGE(0, 1), MiCacheUncached, NULL), STATUS_SUCCESS);
    MiReleaseFrames(RANGE(0, 1));
    MiReleaseFrames(RANGE(0, 3));
}

static VOID A_type_stays_until_nobody_holds_the_frame(VOID)
{
    // Decided by a mapping that came after the MDL, or before it: either way the MDL keeps it.
    CHECK_EQUAL(MiHoldFrames(RANGE(2, 2), MiCacheWriteCombined, NULL), STATUS_SUCCESS);
    CHECK_EQUAL(MiHoldFrames(RANGE(0, 3), MiCacheUndecided, NULL), STATUS_SUCCESS);
    CHECK_EQUAL(MiHoldFrames(RANGE(1, 1), MiCacheUncached, NULL), STATUS_SUCCESS);
    MiReleaseFrames(RANGE(1, 1));
    MiReleaseFrames(RANGE(2, 2));
    CHECK_EQUAL(MiDecideIoCacheType((FAKE_IO_LOW >> PAGE_SHIFT) + 1, MiCacheWriteBack, NULL),
                MiCacheUncached);
    CHECK_EQUAL(MiDecideIoCacheType((FAKE_IO_LOW >> PAGE_SHIFT) + 2, MiCacheWriteBack, NULL),
                MiCacheWriteCombined);
    // A second MDL of the frame inherits it, and hands it on.
    CHECK_EQUAL(MiHoldFrames(RANGE(1, 5), MiCacheUndecided, NULL), STATUS_SUCCESS);
    MiReleaseFrames(RANGE(0, 3));
    CHECK_EQUAL(MiDecideIoCacheType((FAKE_IO_LOW >> PAGE_SHIFT) + 1, MiCacheWriteBack, NULL),
                MiCacheUncached);
    MiReleaseFrames(RANGE(1, 5));
    CHECK_EQUAL(MiHoldFrames(RANGE(1, 1), MiCacheWriteBack, NULL), STATUS_SUCCESS);
    MiReleaseFrames(RANGE(1, 1));
}

static VOID An_owner_is_found_by_another_type(VOID)
{
    CHECK_EQUAL(MiHoldFrames(RANGE(0, 3), MiCacheUncached, (PVOID)0x1234), STATUS_SUCCESS);
    MI_CACHE_OWNER Owner;
    CHECK(MiFindCacheOwner(RANGE(3, 9), MiCacheWriteBack, &Owner));
    CHECK(Owner.Caller == (PVOID)0x1234 && Owner.CacheType == MiCacheUncached);
    CHECK(!MiFindCacheOwner(RANGE(3, 9), MiCacheUncached, &Owner));
    CHECK(!MiFindCacheOwner(RANGE(4, 9), MiCacheWriteBack, &Owner));
    MiReleaseFrames(RANGE(0, 3));
}

static const HOST_TEST Tests[] = {
    HOST_ROW(A_frame_changes_its_state_and_comes_back, "pfn.c, F2", &FakeMachineMax),
    HOST_ROW(Frames_that_are_not_RAM_have_no_element, "pfn.c, F1", &FakeMachineMax),
    HOST_ROW(A_run_is_aligned_and_within_its_window, "mi.h, MiAllocateFrameRun", &FakeMachineMax),
    HOST_ROW(Frames_that_few_devices_reach_are_handed_out_last, "pfn.c", &FakeMachineMax),
    HOST_ROW(Every_piece_has_its_guards_and_a_freed_one_is_found_again, "sysva.c, V1, V2",
             &FakeMachineMax),
    HOST_ROW(Large_pieces_are_aligned_as_their_frames, "mi.h, MiReserveSystemVa", &FakeMachineMax),
    HOST_ROW(Addresses_run_out_and_come_back, "mi.h, MiReserveSystemVa", &FakeMachineMax),
    HOST_ROW(A_batch_flushes_what_it_was_told_and_everything_when_it_is_full, "tlb.c",
             &FakeMachineMax),
    HOST_ROW(A_batch_is_flushed_on_the_other_processors_at_once, "tlb.c", &FakeMachineMax),
    HOST_ROW(Pages_and_leaves_are_flushed_on_the_other_processors_at_once, "tlb.c",
             &FakeMachineMax),
    HOST_ROW(Pages_that_nobody_used_are_not_flushed, "contract 12.3.1, 18.27", &FakeMachineMax),
    HOST_ROW(Tables_of_a_batch_are_free_after_the_flush, "tlb.c", &FakeMachineMax),
    HOST_ROW(Splitting_keeps_every_translation, "ptmgr.c, MiSplitRange", &FakeMachineMax),
    HOST_ROW(Splitting_a_1_GiB_leaf_goes_down_both_levels, "ptmgr.c, MiSplitRange",
             &FakeMachineLarge),
    HOST_ROW(A_split_that_fails_changes_nothing, "ptmgr.c, MiSplitRange", &FakeMachineMax),
    HOST_ROW(Holds_of_the_same_range_are_counted, "ledger.c, C3", &FakeMachineMax),
    HOST_ROW(An_open_frame_takes_any_type_once, "ledger.c, C2", &FakeMachineMax),
    HOST_ROW(A_type_stays_until_nobody_holds_the_frame, "ledger.c, C2", &FakeMachineMax),
    HOST_ROW(An_owner_is_found_by_another_type, "ledger.c", &FakeMachineMax),
};

HOST_DEFINE_SUITE(ptmgr);
