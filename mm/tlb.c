// TLB batches: translations that must be forgotten, and page tables that may be freed only after
// that.
//
// A routine that takes entries away collects their addresses in a batch, and flushes it once.
// Tables that fell out of the tree are freed behind the flush, never before: the processor may
// still walk them, or remember the pointer.
//
// The other processors are told at the same places: by a broadcast (kernel/ke/multi.c), which has ended
// when the routine returns. There is one for a batch, however many pages it has.
//
// Invariant:
//   T1  A batch is empty when it is initialised and when it goes out of use.
#include "mm/mi.h"

VOID MiAddPageToBatch(PMI_TLB_BATCH Batch, ULONG_PTR Va)
{
    if (Batch->PageCount == MI_TLB_BATCH_PAGES) {
        Batch->FlushAll = TRUE;
        return;
    }
    Batch->Page[Batch->PageCount] = Va;
    Batch->PageCount += 1;
}

VOID MiAddTableToBatch(PMI_TLB_BATCH Batch, PFN_NUMBER TablePfn)
{
    MiPfnElement(TablePfn)->Flink = (ULONG)Batch->FirstTable;
    Batch->FirstTable = TablePfn;
    Batch->FlushAll = TRUE;
}

static VOID MiFlushTranslations(const MI_TLB_BATCH *Batch)
{
    if (Batch->FlushAll) {
        MiArchFlushAll();
        return;
    }
    for (ULONG Index = 0; Index < Batch->PageCount; Index += 1) {
        MiArchFlushPage(Batch->Page[Index]);
    }
}

static VOID MiFlushTranslationsThere(PVOID Context)
{
    MiFlushTranslations(Context);
}

VOID MiFlushTlbBatch(PMI_TLB_BATCH Batch)
{
    if (Batch->PageCount != 0 || Batch->FlushAll) {
        MiFlushTranslations(Batch);
        if (KeNumberProcessors > 1) {
            KiBroadcast(MiFlushTranslationsThere, Batch);
        }
    }
    MiFreeFrameChain(Batch->FirstTable);
    MiInitializeTlbBatch(Batch);
}

// Eight at a time: counting would cost as much as telling the processor.
static VOID MiFlushSmallPages(ULONG_PTR Va, PFN_NUMBER PageCount)
{
    for (; PageCount >= 8; PageCount -= 8, Va += 8ull * PAGE_SIZE) {
        MiArchFlushPage(Va);
        MiArchFlushPage(Va + 1ull * PAGE_SIZE);
        MiArchFlushPage(Va + 2ull * PAGE_SIZE);
        MiArchFlushPage(Va + 3ull * PAGE_SIZE);
        MiArchFlushPage(Va + 4ull * PAGE_SIZE);
        MiArchFlushPage(Va + 5ull * PAGE_SIZE);
        MiArchFlushPage(Va + 6ull * PAGE_SIZE);
        MiArchFlushPage(Va + 7ull * PAGE_SIZE);
    }
    for (; PageCount > 0; PageCount -= 1, Va += PAGE_SIZE) {
        MiArchFlushPage(Va);
    }
}

FORCEINLINE VOID MiFlushPagesHere(ULONG_PTR Va, PFN_NUMBER PageCount)
{
    if (PageCount > MI_TLB_BATCH_PAGES) {
        MiArchFlushAll();
    } else {
        MiFlushSmallPages(Va, PageCount);
    }
}

FORCEINLINE VOID MiFlushLeavesHere(ULONG_PTR Va, PFN_NUMBER LeafCount, PFN_NUMBER LeafPages)
{
    if (LeafCount > MI_TLB_BATCH_PAGES) {
        MiArchFlushAll();
        return;
    }
    for (PFN_NUMBER Leaf = 0; Leaf < LeafCount; Leaf += 1) {
        MiArchFlushPage(Va);
        Va += LeafPages << PAGE_SHIFT;
    }
}

// What a broadcast is about.
typedef struct _MI_FLUSH_RANGE {
    ULONG_PTR Va;
    PFN_NUMBER LeafCount;
    PFN_NUMBER LeafPages;
} MI_FLUSH_RANGE;

static VOID MiFlushRange(PVOID Context)
{
    const MI_FLUSH_RANGE *Range = Context;
    if (Range->LeafPages == 1) {
        MiFlushPagesHere(Range->Va, Range->LeafCount);
    } else {
        MiFlushLeavesHere(Range->Va, Range->LeafCount, Range->LeafPages);
    }
}

// Not inline: with one processor its callers have no frame of their own.
DECLSPEC_NOINLINE static VOID MiFlushEverywhere(ULONG_PTR Va, PFN_NUMBER LeafCount,
                                                PFN_NUMBER LeafPages)
{
    MI_FLUSH_RANGE Range = {Va, LeafCount, LeafPages};
    MiFlushRange(&Range);
    KiBroadcast(MiFlushRange, &Range);
}

VOID MiFlushPageThere(ULONG_PTR Va)
{
    MI_FLUSH_RANGE Range = {Va, 1, 1};
    KiBroadcast(MiFlushRange, &Range);
}

VOID MiFlushPages(ULONG_PTR Va, PFN_NUMBER PageCount)
{
    if (__builtin_expect(KeNumberProcessors > 1, 0)) {
        MiFlushEverywhere(Va, PageCount, 1);
    } else {
        MiFlushPagesHere(Va, PageCount);
    }
}

VOID MiFlushLeaves(ULONG_PTR Va, PFN_NUMBER LeafCount, PFN_NUMBER LeafPages)
{
    if (__builtin_expect(KeNumberProcessors > 1, 0)) {
        MiFlushEverywhere(Va, LeafCount, LeafPages);
    } else {
        MiFlushLeavesHere(Va, LeafCount, LeafPages);
    }
}
