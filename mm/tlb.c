// TLB batches: translations that must be forgotten, and page tables that may be freed only after
// that.
//
// A routine that takes entries away collects their addresses in a batch, and flushes it once.
// Tables that fell out of the tree are freed behind the flush, never before: the processor may
// still walk them, or remember the pointer.
//
// Invariant:
//   T1  A batch is empty when it is initialised and when it goes out of use.
// One processor runs; remote processors will be told here, at this one place.
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

VOID MiFlushTlbBatch(PMI_TLB_BATCH Batch)
{
    MiFlushTranslations(Batch);
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

VOID MiFlushPages(ULONG_PTR Va, PFN_NUMBER PageCount)
{
    if (PageCount > MI_TLB_BATCH_PAGES) {
        MiArchFlushAll();
    } else {
        MiFlushSmallPages(Va, PageCount);
    }
}

VOID MiFlushLeaves(ULONG_PTR Va, PFN_NUMBER LeafCount, PFN_NUMBER LeafPages)
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
