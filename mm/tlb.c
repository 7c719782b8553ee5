// Translations that must be forgotten, at once or later, here and on the other processors; and page tables
// that may be freed only after that.
//
// A routine that takes entries away collects their addresses in a batch, and flushes it once.
// Tables that fell out of the tree are freed behind the flush, never before: the processor may
// still walk them, or remember the pointer.
//
// The other processors are told by a broadcast (kernel/ke/multi.c), which has ended when the routine
// returns: one for a batch, or a range, however many pages it has. A broadcast costs thousands of cycles,
// so the addresses of small mappings are forgotten here at once, and there later: they get a stamp, and
// whoever would use them again looks whether everything was forgotten everywhere since (MiIsForgotten),
// and sees to it if not (MiForgetEverything). At level 1 nothing waits.
//
//   entry taken ─▶ stamp = epoch ──── waits ────▶ stamp < clean epoch ─▶ used again
//                                epoch + 1 ─▶ all processors forget everything ─▶ clean epoch = epoch
//
// What waits can be noticed only by a driver that uses an address which it has unmapped: that address is handed
// out to nobody, and its frame is either device memory that is uncached, or RAM. Whoever gives a frame another
// cache type has everything forgotten first (MiForgetTypes), so no frame is remembered with two.
//
// A processor that halts is not told of what has a stamp: it forgets everything when it wakes up
// (KI_SLEEPERS).
//
// Who finds that somebody else is having everything forgotten waits for that, and may be served by it.
//
// Process-context identifiers are for address spaces that alternate; here is one, and all of its translations
// are global, which identifiers do not touch.
//
// Invariants:
//   T1  A batch is empty when it is initialised and when it goes out of use.
//   T5  A translation that some processor may use, and the tables do not say any more, has a stamp that is not
//       smaller than MiCleanEpoch; its address is in a slot that waits, or in a reservation. Of what a
//       processor that sleeps remembers besides, which it forgets before it can use it, MiLastStamp is not
//       smaller than MiWokenEpoch.
// Memory order: an entry is taken by an exchange, and flushed here before its stamp is loaded; no load
// passes either. MiForgetEverything adds to the epoch before it sends. So a stamp that is smaller than the new epoch
// was loaded before the addition, and its entry was gone before any processor began to forget. MiCleanEpoch
// grows, with release, after all have; who reads it, with acquire, and finds his stamp smaller, stores
// his new entry after that.
// Lock: MiShootdownLock, for the ring and the epochs; it also keeps who flushes everywhere on the processor
// where he flushes.
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

VOID MiAddLeavesToBatch(PMI_TLB_BATCH Batch, ULONG_PTR Va, PFN_NUMBER LeafCount,
                        PFN_NUMBER LeafPages)
{
    for (PFN_NUMBER Leaf = 0; Leaf < LeafCount && !Batch->FlushAll; Leaf += 1) {
        MiAddPageToBatch(Batch, Va + (Leaf * LeafPages << PAGE_SHIFT));
    }
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

static VOID MiFlushTranslationsOf(PVOID Context)
{
    MiFlushTranslations(Context);
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

static VOID MiFlushPagesHere(ULONG_PTR Va, PFN_NUMBER PageCount)
{
    if (PageCount > MI_TLB_BATCH_PAGES) {
        MiArchFlushAll();
    } else {
        MiFlushSmallPages(Va, PageCount);
    }
}

static VOID MiFlushLeavesHere(ULONG_PTR Va, PFN_NUMBER LeafCount, PFN_NUMBER LeafPages)
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

static BOOLEAN MiHasOthers(VOID)
{
    return KeNumberProcessors > 1;
}

//
// Broadcasts, and the ring of the last of them.
//

static KI_LOCK MiShootdownLock = KI_LOCK_INITIALIZER(MI_RANK_SHOOTDOWN, "MiShootdownLock");
static MM_SHOOTDOWN MiShootdowns[MM_SHOOTDOWN_COUNT];
static ULONG64 MiShootdownNumber;

// A processor that sleeps may miss addresses that have a stamp (KiLetSleepersMiss), but not frames whose cache
// type or whose use as a table changes: until it has forgotten them, it might look ahead with the old ones.

// Runs the routine on all processors, this one included. The lock is held.
static VOID MiBroadcastFlush(KI_BROADCAST_ROUTINE *Routine, PVOID Context, KI_SLEEPERS Sleepers,
                             const MM_SHOOTDOWN *About)
{
    const ULONG64 Start = KeReadCycles();
    const ULONG OtherCount = KiBroadcast(Routine, Context, Sleepers);
    MM_SHOOTDOWN *const Entry = &MiShootdowns[MiShootdownNumber % MM_SHOOTDOWN_COUNT];
    *Entry = *About;
    Entry->Cycles = KeReadCycles() - Start;
    Entry->ProcessorCount = 1 + OtherCount;
    Entry->Number = ++MiShootdownNumber;
}

static VOID MiFlushEverywhere(KI_BROADCAST_ROUTINE *Routine, PVOID Context,
                              const MM_SHOOTDOWN *About)
{
    const KIRQL OldIrql = KiAcquireLock(&MiShootdownLock);
    MiBroadcastFlush(Routine, Context, KiWakeSleepers, About);
    KiReleaseLock(&MiShootdownLock, OldIrql);
}

ULONG MmQueryShootdowns(PMM_SHOOTDOWN Shootdowns, ULONG Count)
{
    ULONG Done = 0;
    const KIRQL OldIrql = KiAcquireLock(&MiShootdownLock);
    while (Done < Count && Done < MM_SHOOTDOWN_COUNT && Done < MiShootdownNumber) {
        Shootdowns[Done] = MiShootdowns[(MiShootdownNumber - 1 - Done) % MM_SHOOTDOWN_COUNT];
        Done += 1;
    }
    KiReleaseLock(&MiShootdownLock, OldIrql);
    return Done;
}

//
// What is forgotten later.
//

ULONG64 MiTlbEpoch = 1;
ULONG64 MiCleanEpoch = 1;
ULONG64 MiWokenEpoch = 1;
ULONG64 MiLastStamp;

static VOID MiNoteStamp(ULONG64 Stamp)
{
    ULONG64 Old = __atomic_load_n(&MiLastStamp, __ATOMIC_RELAXED);
    while (Old < Stamp && !__atomic_compare_exchange_n(&MiLastStamp, &Old, Stamp, FALSE,
                                                       __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
    }
}

static VOID MiFlushAllRoutine(PVOID Context)
{
    UNREFERENCED_PARAMETER(Context);
    MiArchFlushAll();
}

// The lock is held.
static VOID MiForgetNow(KI_SLEEPERS Sleepers, MM_SHOOTDOWN_REASON Reason)
{
    const ULONG64 Epoch = __atomic_add_fetch(&MiTlbEpoch, 1, __ATOMIC_SEQ_CST);
    MiBroadcastFlush(MiFlushAllRoutine, NULL, Sleepers, &(MM_SHOOTDOWN){.Reason = Reason});
    __atomic_store_n(&MiCleanEpoch, Epoch, __ATOMIC_RELEASE);
    if (Sleepers == KiWakeSleepers) {
        __atomic_store_n(&MiWokenEpoch, Epoch, __ATOMIC_RELEASE);
    }
}

VOID MiForgetEverything(MM_SHOOTDOWN_REASON Reason)
{
    const KIRQL OldIrql = KiAcquireLock(&MiShootdownLock);
    MiForgetNow(KiWakeSleepers, Reason);
    KiReleaseLock(&MiShootdownLock, OldIrql);
}

VOID MiForgetStamped(ULONG64 Stamp, MM_SHOOTDOWN_REASON Reason)
{
    const KIRQL OldIrql = KiAcquireLock(&MiShootdownLock);
    if (!MiIsForgotten(Stamp)) { // else by whoever held the lock before
        MiForgetNow(KiLetSleepersMiss, Reason);
    }
    KiReleaseLock(&MiShootdownLock, OldIrql);
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

VOID MiForgetFewPages(ULONG_PTR Va, PFN_NUMBER PageCount, ULONG64 Stamp)
{
    MI_FLUSH_RANGE Range = {Va, PageCount, 1};
    const KIRQL OldIrql = KiAcquireLock(&MiShootdownLock);
    if (!MiIsForgotten(Stamp)) {
        MiBroadcastFlush(MiFlushRange, &Range, KiLetSleepersMiss,
                         &(MM_SHOOTDOWN){.Reason = MmShootdownReservation,
                                         .Va = Va,
                                         .LeafCount = PageCount,
                                         .LeafPages = 1});
    }
    KiReleaseLock(&MiShootdownLock, OldIrql);
}

//
// Batches.
//

VOID MiFlushTlbBatch(PMI_TLB_BATCH Batch)
{
    if (!MiHasOthers()) {
        MiFlushTranslations(Batch);
    } else if (Batch->FlushAll) {
        MiForgetEverything(MmShootdownBatch);
    } else if (Batch->PageCount != 0) {
        MiFlushEverywhere(MiFlushTranslationsOf, Batch,
                          &(MM_SHOOTDOWN){.Reason = MmShootdownBatch,
                                          .Va = Batch->Page[0],
                                          .LeafCount = Batch->PageCount,
                                          .LeafPages = 1});
    }
    MiFreeFrameChain(Batch->FirstTable);
    MiInitializeTlbBatch(Batch);
}

//
// Ranges.
//

// Not inline: with one processor its callers have no frame of their own.
DECLSPEC_NOINLINE static VOID MiFlushRangeEverywhere(ULONG_PTR Va, PFN_NUMBER LeafCount,
                                                     PFN_NUMBER LeafPages)
{
    MI_FLUSH_RANGE Range = {Va, LeafCount, LeafPages};
    MiFlushEverywhere(
        MiFlushRange, &Range,
        &(MM_SHOOTDOWN){
            .Reason = MmShootdownUnmap, .Va = Va, .LeafCount = LeafCount, .LeafPages = LeafPages});
}

VOID MiFlushPages(ULONG_PTR Va, PFN_NUMBER PageCount)
{
    if (MiHasOthers()) {
        MiFlushRangeEverywhere(Va, PageCount, 1);
    } else {
        MiFlushPagesHere(Va, PageCount);
    }
}

VOID MiFlushLeaves(ULONG_PTR Va, PFN_NUMBER LeafCount, PFN_NUMBER LeafPages)
{
    if (MiHasOthers()) {
        MiFlushRangeEverywhere(Va, LeafCount, LeafPages);
    } else {
        MiFlushLeavesHere(Va, LeafCount, LeafPages);
    }
}

ULONG64 MiFlushPagesLater(ULONG_PTR Va, PFN_NUMBER PageCount)
{
    if (!MiHasOthers()) {
        MiFlushPagesHere(Va, PageCount);
        return 0;
    }
    const ULONG64 Flags = MiArchPin();
    MiFlushPagesHere(Va, PageCount);
    MiArchUnpin(Flags);
    const ULONG64 Stamp = __atomic_load_n(&MiTlbEpoch, __ATOMIC_ACQUIRE);
    MiNoteStamp(Stamp);
    return Stamp;
}
