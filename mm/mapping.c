// Mappings: who uses which system addresses. Every successful map leaves a record here, so that
// unmap need not believe its caller: the address must be one that was handed out, and the size and
// the MDL must be the same.
//
// A record, its addresses, the guards around them and the page tables below them are made together,
// a slot, and stay together when the mapping ends: an idle slot is what the next mapping of its
// size takes. So mapping a page costs neither a search for addresses nor an allocation.
//
//   | guard | guard | Va: SlotPages pages, tables but no leaves | guard |      record
//
//   slots of 1, 2, 4, ... 256 pages   a list of idle ones per size and processor; and a common one, from
//                                     which and to which these go in batches
//   larger ones                       a short list of recent ones, for exactly the same number of
//                                     pages; in the region of large leaves also at the same distance
//                                     from a multiple of the leaf
//
// Slots hang in a hash table by their first page for as long as they exist, idle or not. A correct
// unmap finds its record there at once, however many are live; only the diagnosis of a wrong one
// searches.
//
// A small slot that was forgotten here, but not on all processors (tlb.c), waits in a list of its processor.
// When that is full, everything is forgotten everywhere, once for all of them, and they are idle.
//
// At verifier level 1 a slot waits in a queue before it is idle, so that an address which was
// unmapped faults for a while instead of showing somebody else's pages.
//
// Invariants (checked by MmVerify):
//   M1  Slots do not overlap; their pages and guards are reserved in their region.
//   M2  Inside a slot, exactly the pages that its record calls mapped have a leaf, with its frames; in
//       an idle one, none.
//   M3  A slot that is idle is in one list, and only those that wait have a stamp; no other slot is in any.
// Locks: MiMappingLock, for the table, the common lists and the counts; the lock of a processor's cache, for
// its lists. No two of them are held at a time. What a record in use says belongs to whoever mapped it.
// Memory order: a slot is whole before it hangs in the table (release; acquire in MiFindSlotQuickly), and its
// record before its kind says so (MiPublishMapping).
#include "mm/miquick.h"

#define MI_QUARANTINE_LIMIT 256
#define MI_LEADING_GUARD_PAGES 2

KI_LOCK MiMappingLock = KI_LOCK_INITIALIZER(MI_RANK_MAPPING, "MiMappingLock");
PMI_MAPPING MiBuckets[1u << MI_BUCKET_BITS];
MI_SLOT_LIST MiIdle[MI_SMALL_CLASSES];
MI_PROCESSOR_CACHE MiCaches[MI_ARCH_PROCESSORS] = {
    [0 ... MI_ARCH_PROCESSORS - 1] = {.Lock = KI_LOCK_INITIALIZER(MI_RANK_MAPPING, "MiCacheLock")},
};
static PMI_MAPPING MiFreeRecords; // linked through NextIdle
MI_SLOT_LIST MiRecent;
static MI_SLOT_LIST MiQuarantine;

//
// Records. They are cut from frames of their own and never given back: a reader without the lock may
// stand on one that has just left the table, and must find a record there.
//

static VOID MiPushRecord(PMI_MAPPING Record)
{
    const KIRQL OldIrql = KiAcquireLock(&MiMappingLock);
    Record->NextIdle = MiFreeRecords;
    MiFreeRecords = Record;
    KiReleaseLock(&MiMappingLock, OldIrql);
}

static PMI_MAPPING MiPopRecord(VOID)
{
    const KIRQL OldIrql = KiAcquireLock(&MiMappingLock);
    const PMI_MAPPING Record = MiFreeRecords;
    if (Record != NULL) {
        MiFreeRecords = Record->NextIdle;
    }
    KiReleaseLock(&MiMappingLock, OldIrql);
    return Record;
}

// A record that is all zero but for its link. NULL: no frame left.
static PMI_MAPPING MiAllocateRecord(VOID)
{
    if (MiMustFail(MM_FAIL_POOL)) {
        return NULL;
    }
    const PMI_MAPPING Free = MiPopRecord();
    if (Free != NULL) {
        return Free;
    }
    const PFN_NUMBER Pfn = MiAllocateFrame(MiPfnRecord);
    if (Pfn == MI_NO_PFN) {
        return NULL;
    }
    const PMI_MAPPING Records = MiFrameToVa(Pfn);
    RtlZeroMemory(Records, PAGE_SIZE);
    for (ULONG Index = 1; Index < PAGE_SIZE / sizeof(MI_MAPPING); Index += 1) {
        MiPushRecord(&Records[Index]);
    }
    return &Records[0];
}

static VOID MiFreeRecord(PMI_MAPPING Record)
{
    // A reader may stand on this record: its link must still lead on. The rest is as new.
    const PMI_MAPPING NextInBucket = Record->NextInBucket;
    *Record = (MI_MAPPING){.NextInBucket = NextInBucket};
    MiPushRecord(Record);
}

//
// Slots.
//

static PFN_NUMBER MiLeadingGuards(MI_REGION Region)
{
    return Region == MiRegionSystemPtes ? MI_LEADING_GUARD_PAGES : 0;
}

static VOID MiInsertSlot(PMI_MAPPING Slot)
{
    PMI_MAPPING *Bucket = MiBucketOf(Slot->Va);
    const KIRQL OldIrql = KiAcquireLock(&MiMappingLock);
    Slot->NextInBucket = *Bucket;
    __atomic_store_n(Bucket, Slot, __ATOMIC_RELEASE);
    KiReleaseLock(&MiMappingLock, OldIrql);
}

static VOID MiRemoveSlot(PMI_MAPPING Slot)
{
    PMI_MAPPING *Link = MiBucketOf(Slot->Va);
    const KIRQL OldIrql = KiAcquireLock(&MiMappingLock);
    while (*Link != Slot) {
        Link = &(*Link)->NextInBucket;
    }
    *Link = Slot->NextInBucket;
    KiReleaseLock(&MiMappingLock, OldIrql);
}

// Makes the tables of a slot and remembers its first entry.
static NTSTATUS MiPrepareSlot(PMI_MAPPING Slot, PFN_NUMBER FirstPfn)
{
    const NTSTATUS Status = Slot->Region == MiRegionLargeSystemPtes
                                ? MiPrepareRange(Slot->Va, FirstPfn, Slot->SlotPages)
                                : MiPreparePages(Slot->Va, Slot->SlotPages);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    ULONG Level;
    Slot->FirstPte = MiFindPte(Slot->Va, &Level);
    Slot->FirstRun = MI_PTES_PER_TABLE - ((Slot->Va >> PAGE_SHIFT) & (MI_PTES_PER_TABLE - 1));
    if (Slot->Region == MiRegionLargeSystemPtes) {
        Slot->PhaseMask = MiUsefulAlignment(Slot->SlotPages) - 1;
        if (!MiIsOneRun(Slot->Va, FirstPfn, Slot->SlotPages, &Slot->LeafLevel, &Slot->LeafCount)) {
            Slot->LeafCount = 0;
        }
    }
    return STATUS_SUCCESS;
}

// A new idle slot, in no list; with IsAligned its address is a multiple of its size, a power of two.
// NULL: no pool, addresses or tables.
static PMI_MAPPING MiCreateSlot(MI_REGION Region, PFN_NUMBER SlotPages, PFN_NUMBER FirstPfn,
                                BOOLEAN IsAligned)
{
    const PMI_MAPPING Slot = MiAllocateRecord();
    if (Slot == NULL) {
        return NULL;
    }
    Slot->Region = Region;
    Slot->SlotPages = SlotPages;
    Slot->Va = IsAligned ? MiReserveAlignedSystemVa(SlotPages, MiLeadingGuards(Region))
                         : MiReserveSystemVa(Region, SlotPages, FirstPfn, MiLeadingGuards(Region));
    if (Slot->Va == 0) {
        goto FreeSlot;
    }
    if (!NT_SUCCESS(MiPrepareSlot(Slot, FirstPfn))) {
        goto ReleaseVa;
    }
    MiInsertSlot(Slot);
    return Slot;

ReleaseVa:
    MiReleaseSystemVa(Region, Slot->Va, SlotPages, MiLeadingGuards(Region));
FreeSlot:
    MiFreeRecord(Slot);
    return NULL;
}

static VOID MiDestroySlot(PMI_MAPPING Slot)
{
    NT_ASSERT_INVARIANT("M3", Slot->Stamp == 0);
    if (Slot->Region == MiRegionLargeSystemPtes) {
        MiForgetRange(&Slot->Io.Range);
    }
    MiRemoveSlot(Slot);
    MiReleaseSystemVa(Slot->Region, Slot->Va, Slot->SlotPages, MiLeadingGuards(Slot->Region));
    MiFreeRecord(Slot);
}

static VOID MiDestroySlots(PMI_MAPPING Slot)
{
    while (Slot != NULL) {
        const PMI_MAPPING Next = Slot->NextIdle;
        MiDestroySlot(Slot);
        Slot = Next;
    }
}

//
// Lists of idle slots. The lock is held.
//

static VOID MiAppendSlot(PMI_SLOT_LIST List, PMI_MAPPING Slot)
{
    Slot->NextIdle = NULL;
    if (List->First == NULL) {
        List->First = Slot;
    } else {
        List->Last->NextIdle = Slot;
    }
    List->Last = Slot;
    List->Count += 1;
}

// Whether a recent slot fits: it has exactly these pages, and the same leaves.
static inline BOOLEAN MiFitsSlot(const MI_MAPPING *Slot, MI_REGION Region, PFN_NUMBER PageCount,
                                 PFN_NUMBER FirstPfn)
{
    return Slot->SlotPages == PageCount && Slot->Region == Region &&
           (((Slot->Va >> PAGE_SHIFT) ^ FirstPfn) & Slot->PhaseMask) == 0;
}

static PMI_MAPPING MiPopRecent(MI_REGION Region, PFN_NUMBER PageCount, PFN_NUMBER FirstPfn)
{
    const KIRQL OldIrql = KiAcquireLock(&MiMappingLock);
    PMI_MAPPING *Link = &MiRecent.First;
    while (*Link != NULL && !MiFitsSlot(*Link, Region, PageCount, FirstPfn)) {
        Link = &(*Link)->NextIdle;
    }
    const PMI_MAPPING Slot = *Link;
    if (Slot != NULL) {
        *Link = Slot->NextIdle;
        MiRecent.Count -= 1;
    }
    KiReleaseLock(&MiMappingLock, OldIrql);
    return Slot;
}

// The slot of a list that is too long, which the caller destroys; or NULL.
static PMI_MAPPING MiPopSurplus(PMI_SLOT_LIST List, ULONG Limit)
{
    if (List->Count <= Limit) {
        return NULL;
    }
    PMI_MAPPING *Link = &List->First;
    while ((*Link)->NextIdle != NULL) {
        Link = &(*Link)->NextIdle;
    }
    const PMI_MAPPING Slot = *Link;
    *Link = NULL;
    List->Count -= 1;
    return Slot;
}

// Moves slots from the front of one list to another.
static VOID MiMoveSlots(PMI_SLOT_LIST From, PMI_SLOT_LIST To, ULONG Count)
{
    while (Count > 0 && From->First != NULL) {
        MiPushSlot(To, MiPopSlot(From));
        Count -= 1;
    }
}

//
// From the processors' lists to the common ones, and back.
//

// The slots that a processor has too many of become common ones; those that are too many there, too, are
// destroyed.
static VOID MiGiveBack(PMI_SLOT_LIST Batch, ULONG Class)
{
    const KIRQL OldIrql = KiAcquireLock(&MiMappingLock);
    MiMoveSlots(Batch, &MiIdle[Class], MI_IDLE_LIMIT - MiIdle[Class].Count);
    KiReleaseLock(&MiMappingLock, OldIrql);
    MiDestroySlots(Batch->First);
}

static VOID MiMakeSmallIdle(PMI_MAPPING Slot)
{
    MI_SLOT_LIST Batch = {0};
    const ULONG Class = MiClassOf(Slot->SlotPages);
    const PMI_PROCESSOR_CACHE Cache = MiThisCache();
    const ULONG64 Flags = KiAcquireBriefLock(&Cache->Lock);
    MiPushSlot(&Cache->Idle[Class], Slot);
    if (Cache->Idle[Class].Count > MI_CACHED_SLOTS) {
        MiMoveSlots(&Cache->Idle[Class], &Batch, MI_SLOT_BATCH);
    }
    KiReleaseBriefLock(&Cache->Lock, Flags);
    if (Batch.First != NULL) {
        MiGiveBack(&Batch, Class);
    }
}

static VOID MiMakeLargeIdle(PMI_MAPPING Slot)
{
    const KIRQL OldIrql = KiAcquireLock(&MiMappingLock);
    MiPushSlot(&MiRecent, Slot);
    const PMI_MAPPING Surplus = MiPopSurplus(&MiRecent, MI_RECENT_LIMIT);
    KiReleaseLock(&MiMappingLock, OldIrql);
    MiDestroySlots(Surplus);
}

static VOID MiMakeIdle(PMI_MAPPING Slot)
{
    if (MiIsSmall(Slot->SlotPages)) {
        MiMakeSmallIdle(Slot);
    } else {
        MiMakeLargeIdle(Slot);
    }
}

// At level 1: the slot rests, and the one that has rested longest is idle.
static VOID MiQuarantineSlot(PMI_MAPPING Slot)
{
    const KIRQL OldIrql = KiAcquireLock(&MiMappingLock);
    MiAppendSlot(&MiQuarantine, Slot);
    const PMI_MAPPING Rested =
        MiQuarantine.Count > MI_QUARANTINE_LIMIT ? MiPopSlot(&MiQuarantine) : NULL;
    KiReleaseLock(&MiMappingLock, OldIrql);
    if (Rested != NULL) {
        Rested->NextIdle = NULL;
        MiMakeIdle(Rested);
    }
}

// A small slot of this class: from this processor's list, or with a batch for it from the common one. NULL:
// none is idle.
static PMI_MAPPING MiTakeSmallIdle(ULONG Class)
{
    MI_SLOT_LIST Batch = {0};
    const PMI_PROCESSOR_CACHE Cache = MiThisCache();
    ULONG64 Flags = KiAcquireBriefLock(&Cache->Lock);
    PMI_MAPPING Slot = MiPopSlot(&Cache->Idle[Class]);
    KiReleaseBriefLock(&Cache->Lock, Flags);
    if (Slot != NULL) {
        return Slot;
    }
    const KIRQL OldIrql = KiAcquireLock(&MiMappingLock);
    MiMoveSlots(&MiIdle[Class], &Batch, MI_SLOT_BATCH);
    KiReleaseLock(&MiMappingLock, OldIrql);
    Slot = MiPopSlot(&Batch);
    Flags = KiAcquireBriefLock(&Cache->Lock);
    MiMoveSlots(&Batch, &Cache->Idle[Class], MI_SLOT_BATCH);
    KiReleaseBriefLock(&Cache->Lock, Flags);
    return Slot;
}

//
// Slots that wait to be forgotten.
//

VOID NTAPI MiForgetPages(PMI_MAPPING Mapping, PFN_NUMBER PageCount, BOOLEAN MayWait)
{
    if (MayWait && !MiIsVerifying()) {
        Mapping->Stamp = MiFlushPagesLater(Mapping->Va, PageCount);
    } else {
        MiFlushPages(Mapping->Va, PageCount);
    }
}

// To forget few pages costs less than to forget everything; of many slots the first pays for all.
VOID MiSettleMapping(PMI_MAPPING Mapping)
{
    if (MiIsForgotten(Mapping->Stamp)) {
        // by whoever had everything forgotten since
    } else if (Mapping->PageCount <= MI_TLB_BATCH_PAGES) {
        MiForgetFewPages(Mapping->Va, Mapping->PageCount, Mapping->Stamp);
    } else {
        MiForgetStamped(Mapping->Stamp, MmShootdownReservation);
    }
    Mapping->Stamp = 0;
}

static VOID MiSettleSlots(PMI_MAPPING First, MM_SHOOTDOWN_REASON Reason)
{
    for (PMI_MAPPING Slot = First; Slot != NULL; Slot = Slot->NextIdle) {
        if (!MiIsForgotten(Slot->Stamp)) {
            MiForgetStamped(Slot->Stamp, Reason);
        }
        Slot->Stamp = 0;
    }
}

// The slot waits, in its processor's list. When that is full, all of them become idle.
static VOID MiLetWait(PMI_MAPPING Mapping)
{
    MI_SLOT_LIST Batch = {0};
    const PMI_PROCESSOR_CACHE Cache = MiThisCache();
    const ULONG64 Flags = KiAcquireBriefLock(&Cache->Lock);
    MiPushSlot(&Cache->Waiting, Mapping);
    if (Cache->Waiting.Count > MI_CACHED_SLOTS) {
        Batch = Cache->Waiting;
        Cache->Waiting = (MI_SLOT_LIST){0};
    }
    KiReleaseBriefLock(&Cache->Lock, Flags);
    MiSettleSlots(Batch.First, MmShootdownSlots);
    while (Batch.First != NULL) {
        MiMakeIdle(MiPopSlot(&Batch));
    }
}

//
// Acquire and release.
//

static inline VOID MiStampMapping(PMI_MAPPING Mapping, PFN_NUMBER PageCount, PVOID Caller)
{
    Mapping->PageCount = PageCount;
    Mapping->Caller = Caller;
    Mapping->Time = KeTickCycles;
}

// Where no idle slot fits: makes one, if need be with what others keep idle.
static PMI_MAPPING MiAcquireNewSlot(MI_REGION Region, PFN_NUMBER PageCount, PFN_NUMBER FirstPfn)
{
    const PFN_NUMBER SlotPages = MiIsSmall(PageCount) ? 1ull << MiClassOf(PageCount) : PageCount;
    PMI_MAPPING Slot = MiCreateSlot(Region, SlotPages, FirstPfn, FALSE);
    if (Slot == NULL && MiTrimMappings()) {
        Slot = MiCreateSlot(Region, SlotPages, FirstPfn, FALSE);
    }
    return Slot;
}

PMI_MAPPING MiAcquireMapping(MI_REGION Region, PFN_NUMBER PageCount, PFN_NUMBER FirstPfn,
                             PVOID Caller)
{
    if (MiMustFail(MM_FAIL_ADDRESSES)) {
        return NULL;
    }
    PMI_MAPPING Slot = MiIsSmall(PageCount) ? MiTakeSmallIdle(MiClassOf(PageCount))
                                            : MiPopRecent(Region, PageCount, FirstPfn);
    if (Slot == NULL) {
        Slot = MiAcquireNewSlot(Region, PageCount, FirstPfn);
    }
    if (Slot != NULL) {
        MiStampMapping(Slot, PageCount, Caller);
    }
    return Slot;
}

PMI_MAPPING MiAcquireAlignedMapping(PFN_NUMBER PageCount, PVOID Caller)
{
    PMI_MAPPING Slot = MiCreateSlot(MiRegionSystemPtes, PageCount, 0, TRUE);
    if (Slot == NULL && MiTrimMappings()) {
        Slot = MiCreateSlot(MiRegionSystemPtes, PageCount, 0, TRUE);
    }
    if (Slot != NULL) {
        MiStampMapping(Slot, PageCount, Caller);
    }
    return Slot;
}

VOID MiReleaseMapping(PMI_MAPPING Mapping)
{
    Mapping->Kind = MiMappingIdle;
    Mapping->SkippedPages = 0;
    Mapping->InaccessiblePages = 0;
    if (MiIsVerifying() || !MiIsSmall(Mapping->SlotPages)) {
        MiSettleMapping(Mapping);
    }
    if (MiIsVerifying()) {
        MiQuarantineSlot(Mapping);
    } else if (Mapping->Stamp != 0) {
        MiLetWait(Mapping);
    } else {
        MiMakeIdle(Mapping);
    }
}

static VOID MiTakeList(PMI_SLOT_LIST From, PMI_SLOT_LIST To)
{
    MiMoveSlots(From, To, From->Count);
}

static VOID MiTakeCommonLists(PMI_SLOT_LIST All)
{
    const KIRQL OldIrql = KiAcquireLock(&MiMappingLock);
    for (ULONG Class = 0; Class < MI_SMALL_CLASSES; Class += 1) {
        MiTakeList(&MiIdle[Class], All);
    }
    MiTakeList(&MiRecent, All);
    MiTakeList(&MiQuarantine, All);
    KiReleaseLock(&MiMappingLock, OldIrql);
}

static VOID MiTakeListsOf(PMI_PROCESSOR_CACHE Cache, PMI_SLOT_LIST All)
{
    MI_SLOT_LIST Taken[MI_SMALL_CLASSES + 1];
    const ULONG64 Flags = KiAcquireBriefLock(&Cache->Lock);
    for (ULONG Class = 0; Class < MI_SMALL_CLASSES; Class += 1) {
        Taken[Class] = Cache->Idle[Class];
        Cache->Idle[Class] = (MI_SLOT_LIST){0};
    }
    Taken[MI_SMALL_CLASSES] = Cache->Waiting;
    Cache->Waiting = (MI_SLOT_LIST){0};
    KiReleaseBriefLock(&Cache->Lock, Flags);
    for (ULONG List = 0; List < ARRAYSIZE(Taken); List += 1) {
        MiTakeList(&Taken[List], All);
    }
}

BOOLEAN MiTrimMappings(VOID)
{
    MI_SLOT_LIST All = {0};
    MiTakeCommonLists(&All);
    for (ULONG Number = 0; Number < (ULONG)KeNumberProcessors; Number += 1) {
        MiTakeListsOf(&MiCaches[Number], &All);
    }
    MiSettleSlots(All.First, MmShootdownTrim);
    MiDestroySlots(All.First);
    return All.Count != 0;
}

// How many slots are in lists, for M3.
ULONG64 MiListedSlotCount(VOID)
{
    ULONG64 Count = MiRecent.Count + MiQuarantine.Count;
    for (ULONG Class = 0; Class < MI_SMALL_CLASSES; Class += 1) {
        Count += MiIdle[Class].Count;
    }
    for (ULONG Number = 0; Number < MI_ARCH_PROCESSORS; Number += 1) {
        Count += MiCaches[Number].Waiting.Count;
        for (ULONG Class = 0; Class < MI_SMALL_CLASSES; Class += 1) {
            Count += MiCaches[Number].Idle[Class].Count;
        }
    }
    return Count;
}

//
// Find.
//

PMI_MAPPING MiFindSlotAt(ULONG_PTR PageVa)
{
    PMI_MAPPING Slot = MiFindSlotQuickly(PageVa);
    if (Slot == NULL) {
        const KIRQL OldIrql = KiAcquireLock(&MiMappingLock);
        Slot = MiFindSlotQuickly(PageVa);
        KiReleaseLock(&MiMappingLock, OldIrql);
    }
    return Slot;
}

VOID MiEnumerateSlots(MI_MAPPING_ROUTINE *Routine, PVOID Context)
{
    for (ULONG Index = 0; Index < ARRAYSIZE(MiBuckets); Index += 1) {
        for (PMI_MAPPING Slot = MiBuckets[Index]; Slot != NULL; Slot = Slot->NextInBucket) {
            Routine(Slot, Context);
        }
    }
}

VOID MiEnumerateMappings(MI_MAPPING_ROUTINE *Routine, PVOID Context)
{
    for (ULONG Index = 0; Index < ARRAYSIZE(MiBuckets); Index += 1) {
        for (PMI_MAPPING Slot = MiBuckets[Index]; Slot != NULL; Slot = Slot->NextInBucket) {
            if (Slot->Kind != MiMappingIdle) {
                Routine(Slot, Context);
            }
        }
    }
}

typedef struct _MI_AROUND {
    ULONG_PTR Va;
    PMI_MAPPING Found;
} MI_AROUND;

static VOID MiNoteIfAround(PMI_MAPPING Mapping, PVOID Context)
{
    MI_AROUND *Around = Context;
    if (Around->Va >= Mapping->Va && Around->Va - Mapping->Va < Mapping->PageCount << PAGE_SHIFT) {
        Around->Found = Mapping;
    }
}

PMI_MAPPING MiFindMappingAround(const VOID *Va)
{
    MI_AROUND Around = {(ULONG_PTR)Va, NULL};
    const KIRQL OldIrql = KiAcquireLock(&MiMappingLock);
    MiEnumerateMappings(MiNoteIfAround, &Around);
    KiReleaseLock(&MiMappingLock, OldIrql);
    return Around.Found;
}

static BOOLEAN MiIsIoFrameIn(MI_PFN_RANGE Range, PFN_NUMBER Pfn)
{
    return Pfn >= Range.FirstPfn && Pfn <= Range.LastPfn && MiPfnElement(Pfn) == NULL;
}

// By its entries: the MDL may be gone any moment, the tables of a slot stay.
static BOOLEAN MiDoSlotPagesShow(MI_PFN_RANGE Range, const MI_MAPPING *Slot)
{
    for (PFN_NUMBER Page = 0; Page < Slot->SlotPages; Page += 1) {
        PFN_NUMBER Pfn;
        if (MiFindMappedFrame(Slot->Va + (Page << PAGE_SHIFT), &Pfn) && MiIsIoFrameIn(Range, Pfn)) {
            return TRUE;
        }
    }
    return FALSE;
}

static BOOLEAN MiDoesMappingShow(MI_PFN_RANGE Range, const MI_MAPPING *Mapping)
{
    switch (Mapping->Kind) {
    case MiMappingIdle:
        return FALSE;
    case MiMappingIo:
        return Mapping->Io.Hold != MiHoldNothing && Mapping->Io.FirstPfn <= Range.LastPfn &&
               Range.FirstPfn <= Mapping->Io.FirstPfn + Mapping->PageCount - 1;
    case MiMappingMdl:
    case MiMappingReserved:
        return MiDoSlotPagesShow(Range, Mapping);
    }
    return FALSE;
}

BOOLEAN MiIsIoRangeMapped(MI_PFN_RANGE Range)
{
    BOOLEAN IsMapped = FALSE;
    const KIRQL OldIrql = KiAcquireLock(&MiMappingLock);
    for (ULONG Index = 0; Index < ARRAYSIZE(MiBuckets) && !IsMapped; Index += 1) {
        const MI_MAPPING *Mapping = MiBuckets[Index];
        while (Mapping != NULL && !MiDoesMappingShow(Range, Mapping)) {
            Mapping = Mapping->NextInBucket;
        }
        IsMapped = Mapping != NULL;
    }
    KiReleaseLock(&MiMappingLock, OldIrql);
    return IsMapped;
}

static VOID MiCountMapping(PMI_MAPPING Mapping, PVOID Context)
{
    UNREFERENCED_PARAMETER(Mapping);
    *(ULONG64 *)Context += 1;
}

ULONG64 MiMappingCount(VOID)
{
    ULONG64 Count = 0;
    MiEnumerateMappings(MiCountMapping, &Count);
    return Count;
}
