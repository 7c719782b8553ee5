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

VOID MiAddPagesToBatch(PMI_TLB_BATCH Batch, ULONG_PTR Va, PFN_NUMBER PageCount)
{
    if (PageCount > MI_TLB_BATCH_PAGES - Batch->PageCount) {
        Batch->FlushAll = TRUE;
        return;
    }
    for (PFN_NUMBER Page = 0; Page < PageCount; Page += 1) {
        Batch->Page[Batch->PageCount + Page] = Va + (Page << PAGE_SHIFT);
    }
    Batch->PageCount += (ULONG)PageCount;
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
    PFN_NUMBER Pfn = Batch->FirstTable;
    while (Pfn != MI_NO_PFN) {
        const PFN_NUMBER Next = MiPfnElement(Pfn)->Flink;
        MiFreeFrame(Pfn);
        Pfn = Next;
    }
    MiInitializeTlbBatch(Batch);
}
