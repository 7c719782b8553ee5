// The short ways: what mapping.c and ledger.c do on every map and unmap, inline, so that the common
// case of iospace.c, mdlmap.c and reserve.c makes no call. A call saves and restores registers, which
// costs as much as what is done in it.
//
// Each of these takes what is at hand and gives up when it is not (no idle slot, no leaf of the
// ledger, another cache type, verifier level 1): then the caller goes the general way, which knows
// every case and every reason. Nothing is decided here that is not decided there.
#pragma once

#include "mm/mi.h"

// Closed at verifier level 1, which has more to check, and while allocations fail on purpose, which must
// not find what was kept.
FORCEINLINE BOOLEAN MiAreShortWaysOpen(VOID)
{
    return (MmVerifierLevel | MiKindsThatMayFail) == 0;
}

//
// mapping.c: slots.
//

#define MI_BUCKET_BITS 14
#define MI_SMALL_CLASSES 9 // 1 to 256 pages
#define MI_SMALL_PAGES (1u << (MI_SMALL_CLASSES - 1))
#define MI_IDLE_LIMIT 1024 // idle slots of each size
#define MI_RECENT_LIMIT 8

typedef struct _MI_SLOT_LIST {
    PMI_MAPPING First;
    PMI_MAPPING Last; // of the quarantine, which is a queue
    ULONG Count;
} MI_SLOT_LIST, *PMI_SLOT_LIST;

extern KI_LOCK MiMappingLock;
extern PMI_MAPPING MiBuckets[1u << MI_BUCKET_BITS];
extern MI_SLOT_LIST MiIdle[MI_SMALL_CLASSES];
extern MI_SLOT_LIST MiRecent;

static inline PMI_MAPPING *MiBucketOf(ULONG_PTR Va)
{
    // Fibonacci hashing: neighbours go to buckets far from each other.
    return &MiBuckets[((Va >> PAGE_SHIFT) * 0x9E3779B97F4A7C15ull) >> (64 - MI_BUCKET_BITS)];
}

// The size class of a small slot for PageCount pages.
static inline ULONG MiClassOf(PFN_NUMBER PageCount)
{
    return PageCount == 1 ? 0 : 64 - (ULONG)__builtin_clzll(PageCount - 1);
}

static inline BOOLEAN MiIsSmall(PFN_NUMBER PageCount)
{
    return PageCount <= MI_SMALL_PAGES;
}

static inline VOID MiPushSlot(PMI_SLOT_LIST List, PMI_MAPPING Slot)
{
    Slot->NextIdle = List->First;
    List->First = Slot;
    List->Count += 1;
}

static inline PMI_MAPPING MiPopSlot(PMI_SLOT_LIST List)
{
    const PMI_MAPPING Slot = List->First;
    if (Slot != NULL) {
        List->First = Slot->NextIdle;
        List->Count -= 1;
    }
    return Slot;
}

// The slot that begins at this page, idle or not, or NULL: without the lock. Records are never freed,
// and one that hangs in the table keeps its address, so what is found is right. What is not found may
// have been missed, when a record on the way was moved to another bucket meanwhile: then the general
// way looks again, with the lock.
FORCEINLINE PMI_MAPPING MiFindSlotQuickly(ULONG_PTR PageVa)
{
    PMI_MAPPING Slot = __atomic_load_n(MiBucketOf(PageVa), __ATOMIC_ACQUIRE);
    while (Slot != NULL && Slot->Va != PageVa) {
        Slot = __atomic_load_n(&Slot->NextInBucket, __ATOMIC_ACQUIRE);
    }
    return Slot;
}

// The idle slots of one page.
#define MI_IDLE_PAGES (&MiIdle[0])

// An idle slot for PageCount pages, which must be few; or NULL.
FORCEINLINE PMI_MAPPING MiAcquireQuickly(PFN_NUMBER PageCount, PVOID Caller, ULONG64 Time)
{
    const KIRQL OldIrql = KiAcquireLock(&MiMappingLock);
    const PMI_MAPPING Slot = MiPopSlot(&MiIdle[MiClassOf(PageCount)]);
    KiReleaseLock(&MiMappingLock, OldIrql);
    if (Slot != NULL) {
        Slot->PageCount = PageCount;
        Slot->Caller = Caller;
        Slot->Time = Time;
    }
    return Slot;
}

// Whether a small slot can become idle just so: its list has room, and there is no quarantine.
FORCEINLINE BOOLEAN MiMayReleaseQuickly(const MI_SLOT_LIST *List)
{
    return List->Count < MI_IDLE_LIMIT && !MiIsVerifying();
}

FORCEINLINE VOID MiReleaseQuickly(PMI_SLOT_LIST List, PMI_MAPPING Mapping)
{
    const KIRQL OldIrql = KiAcquireLock(&MiMappingLock);
    Mapping->Kind = MiMappingIdle;
    MiPushSlot(List, Mapping);
    KiReleaseLock(&MiMappingLock, OldIrql);
}

// The large slot that was released last, if it was for this range and cache type; or NULL.
FORCEINLINE PMI_MAPPING MiAcquireSameRange(MI_PFN_RANGE Range, MI_CACHE_TYPE CacheType,
                                           PVOID Caller)
{
    const KIRQL OldIrql = KiAcquireLock(&MiMappingLock);
    PMI_MAPPING Slot = MiRecent.First;
    if (Slot != NULL && Slot->Io.Range.Node.First == Range.FirstPfn &&
        Slot->Io.Range.Node.Last == Range.LastPfn && Slot->Io.Range.CacheType == CacheType &&
        Slot->LeafCount != 0) {
        MiRecent.First = Slot->NextIdle;
        MiRecent.Count -= 1;
    } else {
        Slot = NULL;
    }
    KiReleaseLock(&MiMappingLock, OldIrql);
    if (Slot != NULL) {
        Slot->Caller = Caller;
        Slot->Time = MiArchReadTime();
    }
    return Slot;
}

// The same for a large slot.
FORCEINLINE BOOLEAN MiMayReleaseLargeQuickly(VOID)
{
    return MiRecent.Count < MI_RECENT_LIMIT && !MiIsVerifying();
}

FORCEINLINE VOID MiReleaseLargeQuickly(PMI_MAPPING Mapping)
{
    const KIRQL OldIrql = KiAcquireLock(&MiMappingLock);
    Mapping->Kind = MiMappingIdle;
    MiPushSlot(&MiRecent, Mapping);
    KiReleaseLock(&MiMappingLock, OldIrql);
}

//
// ledger.c: frames held one by one, and ranges.
//

#define MI_LEAF_BITS 8
#define MI_LOWER_BITS 8
#define MI_UPPER_BITS 8
#define MI_LEAF_SLOTS (1u << MI_LEAF_BITS)
#define MI_LOWER_ENTRIES (1u << MI_LOWER_BITS)
#define MI_UPPER_ENTRIES (1u << MI_UPPER_BITS)

// One frame. Time is what MiLedgerTime says.
typedef struct _MI_LEDGER_SLOT {
    ULONG HolderCount;
    ULONG CacheType : 3; // MI_CACHE_TYPE
    ULONG Time : 29;
    PVOID Caller; // who was first to hold it, or to decide it
} MI_LEDGER_SLOT, *PMI_LEDGER_SLOT;

typedef struct _MI_LEDGER_LEAF {
    PMI_LEDGER_SLOT Slots; // or NULL
    ULONG64 UsedCount;
} MI_LEDGER_LEAF, *PMI_LEDGER_LEAF;

typedef struct _MI_LEDGER_LOWER {
    MI_LEDGER_LEAF Leaves[MI_LOWER_ENTRIES];
} MI_LEDGER_LOWER, *PMI_LEDGER_LOWER;

typedef struct _MI_LEDGER_BRANCH {
    PMI_LEDGER_LOWER Lower; // or NULL
    ULONG64 UsedCount;      // leaves with a slot in use
} MI_LEDGER_BRANCH, *PMI_LEDGER_BRANCH;

typedef struct _MI_LEDGER_UPPER {
    MI_LEDGER_BRANCH Branches[MI_UPPER_ENTRIES];
} MI_LEDGER_UPPER, *PMI_LEDGER_UPPER;

C_ASSERT(sizeof(MI_LEDGER_SLOT) * MI_LEAF_SLOTS == PAGE_SIZE);
C_ASSERT(sizeof(MI_LEDGER_LOWER) == PAGE_SIZE && sizeof(MI_LEDGER_UPPER) == PAGE_SIZE);

extern KI_LOCK MiLedgerLock;
extern PMI_LEDGER_UPPER *MiLedgerRoot;
extern PMI_LEDGER_LEAF
    MiSpareLeaf; // the one that was emptied last, which is kept for the next hold
extern RTL_INTERVAL_TREE MiRanges[MiCacheTypeCount];
extern ULONG MiIdleRangeCount;
extern ULONG MiOpposingRangeCount[MiCacheTypeCount]; // ranges of the other types

#define MI_LOWER_SHIFT MI_LEAF_BITS
#define MI_UPPER_SHIFT (MI_LOWER_SHIFT + MI_LOWER_BITS)
#define MI_ROOT_SHIFT (MI_UPPER_SHIFT + MI_UPPER_BITS)

static inline PMI_LEDGER_UPPER *MiUpperOf(PFN_NUMBER Pfn)
{
    return &MiLedgerRoot[Pfn >> MI_ROOT_SHIFT];
}

static inline PMI_LEDGER_BRANCH MiBranchOf(PMI_LEDGER_UPPER Upper, PFN_NUMBER Pfn)
{
    return &Upper->Branches[(Pfn >> MI_UPPER_SHIFT) & (MI_UPPER_ENTRIES - 1)];
}

static inline PMI_LEDGER_LEAF MiLeafOf(PMI_LEDGER_LOWER Lower, PFN_NUMBER Pfn)
{
    return &Lower->Leaves[(Pfn >> MI_LOWER_SHIFT) & (MI_LOWER_ENTRIES - 1)];
}

static inline PMI_LEDGER_SLOT MiSlotOf(PMI_LEDGER_LEAF Leaf, PFN_NUMBER Pfn)
{
    return &Leaf->Slots[Pfn & (MI_LEAF_SLOTS - 1)];
}

// The leaf of a frame, which has slots; NULL: nobody holds the frame by a slot.
static inline PMI_LEDGER_LEAF MiFindLeaf(PFN_NUMBER Pfn)
{
    const PMI_LEDGER_UPPER Upper = *MiUpperOf(Pfn);
    if (Upper == NULL) {
        return NULL;
    }
    const PMI_LEDGER_LOWER Lower = MiBranchOf(Upper, Pfn)->Lower;
    if (Lower == NULL) {
        return NULL;
    }
    const PMI_LEDGER_LEAF Leaf = MiLeafOf(Lower, Pfn);
    return Leaf->Slots != NULL ? Leaf : NULL;
}

// Keeps a leaf that became empty, and frees the one that was kept before, if it still is empty.
VOID MiChangeSpareLeaf(_In_ PMI_LEDGER_LEAF Leaf);

static inline VOID MiCountUsedSlot(PFN_NUMBER Pfn, PMI_LEDGER_LEAF Leaf)
{
    if (Leaf->UsedCount == 0) {
        MiBranchOf(*MiUpperOf(Pfn), Pfn)->UsedCount += 1;
    }
    Leaf->UsedCount += 1;
}

static inline VOID MiUncountUsedSlot(PFN_NUMBER Pfn, PMI_LEDGER_LEAF Leaf)
{
    Leaf->UsedCount -= 1;
    if (Leaf->UsedCount == 0) {
        MiBranchOf(*MiUpperOf(Pfn), Pfn)->UsedCount -= 1;
        if (MiSpareLeaf != Leaf) {
            MiChangeSpareLeaf(Leaf);
        }
    }
}

static inline ULONG MiLedgerTime(ULONG64 Time)
{
    return (ULONG)(Time >> MI_LEDGER_TIME_SHIFT);
}

// Holds a frame with a type. FALSE: this takes more than a look at its slot; nothing was done.
FORCEINLINE BOOLEAN MiHoldQuickly(PFN_NUMBER Pfn, MI_CACHE_TYPE CacheType, PVOID Caller,
                                  ULONG64 Time)
{
    BOOLEAN IsHeld = FALSE;
    const KIRQL OldIrql = KiAcquireLock(&MiLedgerLock);
    const PMI_LEDGER_LEAF Leaf = MiFindLeaf(Pfn);
    const PMI_LEDGER_SLOT Slot = Leaf != NULL ? MiSlotOf(Leaf, Pfn) : NULL;
    if (Slot != NULL && Slot->HolderCount == 0 && MiOpposingRangeCount[CacheType] == 0) {
        MiCountUsedSlot(Pfn, Leaf);
        *Slot = (MI_LEDGER_SLOT){1, CacheType, MiLedgerTime(Time), Caller};
        IsHeld = TRUE;
    } else if (Slot != NULL && Slot->HolderCount != 0 && Slot->CacheType == (ULONG)CacheType) {
        Slot->HolderCount += 1;
        IsHeld = TRUE;
    }
    KiReleaseLock(&MiLedgerLock, OldIrql);
    return IsHeld;
}

// Holds a range again that is still written down. FALSE: it was forgotten; nothing was done.
FORCEINLINE BOOLEAN MiHoldIdleRange(PMI_RANGE_HOLD Hold, PVOID Caller, ULONG64 Time)
{
    const KIRQL OldIrql = KiAcquireLock(&MiLedgerLock);
    const BOOLEAN IsIdle = Hold->State == MiRangeIdle;
    if (IsIdle) {
        Hold->State = MiRangeHeld;
        Hold->Caller = Caller;
        Hold->Time = Time;
        MiIdleRangeCount -= 1;
    }
    KiReleaseLock(&MiLedgerLock, OldIrql);
    return IsIdle;
}

// Releases a range; it stays written down, and idle.
FORCEINLINE VOID MiReleaseRange(PMI_RANGE_HOLD Hold)
{
    const KIRQL OldIrql = KiAcquireLock(&MiLedgerLock);
    Hold->State = MiRangeIdle;
    MiIdleRangeCount += 1;
    KiReleaseLock(&MiLedgerLock, OldIrql);
}

// Takes a holder away from a slot that has one. The lock is held.
FORCEINLINE VOID MiDropHolder(PFN_NUMBER Pfn, PMI_LEDGER_LEAF Leaf)
{
    const PMI_LEDGER_SLOT Slot = MiSlotOf(Leaf, Pfn);
    Slot->HolderCount -= 1;
    if (Slot->HolderCount == 0) {
        *Slot = (MI_LEDGER_SLOT){0};
        MiUncountUsedSlot(Pfn, Leaf);
    }
}

// Releases a frame that its caller holds.
FORCEINLINE VOID MiReleaseFrameQuickly(PFN_NUMBER Pfn)
{
    const KIRQL OldIrql = KiAcquireLock(&MiLedgerLock);
    const PMI_LEDGER_LEAF Leaf = MiFindLeaf(Pfn);
    NT_ASSERT_INVARIANT("C3", Leaf != NULL && MiSlotOf(Leaf, Pfn)->HolderCount != 0);
    MiDropHolder(Pfn, Leaf);
    KiReleaseLock(&MiLedgerLock, OldIrql);
}

//
// mdlmap.c: pages of an MDL.
//

// The PFN database, in registers: the stores of entries must not make the compiler load it again.
typedef struct _MI_FRAMES {
    const MMPFN *Database;
    PFN_NUMBER EndPfn;
} MI_FRAMES;

// Maps a page whose frame is RAM of this cache type. FALSE: it is something else.
FORCEINLINE BOOLEAN MiStoreIfTyped(MI_FRAMES Frames, PMMPTE Pte, PFN_NUMBER Pfn, MMPTE Template,
                                   UCHAR CacheType)
{
    if (Pfn >= Frames.EndPfn || Frames.Database[Pfn].CacheType != CacheType) {
        return FALSE;
    }
    MiArchStorePte(Pte, MiArchPlaceFrame(Template, Pfn));
    return TRUE;
}

// Four of them. Returns how many were mapped before one that is something else.
FORCEINLINE ULONG MiStoreFourIfTyped(MI_FRAMES Frames, PMMPTE Pte, const PFN_NUMBER *Pfns,
                                     MMPTE Template, UCHAR CacheType)
{
    if (!MiStoreIfTyped(Frames, &Pte[0], Pfns[0], Template, CacheType)) {
        return 0;
    }
    if (!MiStoreIfTyped(Frames, &Pte[1], Pfns[1], Template, CacheType)) {
        return 1;
    }
    if (!MiStoreIfTyped(Frames, &Pte[2], Pfns[2], Template, CacheType)) {
        return 2;
    }
    return MiStoreIfTyped(Frames, &Pte[3], Pfns[3], Template, CacheType) ? 4 : 3;
}

// Maps the leading pages whose frames are RAM of the protection's cache type, and returns how many.
// Eight at a time: counting would cost as much as looking.
FORCEINLINE PFN_NUMBER MiStoreTypedRun(PMMPTE Pte, const PFN_NUMBER *Pfns, PFN_NUMBER PageCount,
                                       MI_PROTECTION Protection)
{
    const MI_FRAMES Frames = {MiPfnDatabase, MiPfnDatabaseEnd};
    const MMPTE Template = MiArchMakeLeaf(1, 0, Protection);
    const UCHAR Type = (UCHAR)Protection.CacheType;
    const PFN_NUMBER *const First = Pfns;
    const PFN_NUMBER *const End = Pfns + PageCount;
    for (; End - Pfns >= 8; Pfns += 8, Pte += 8) {
        ULONG Stored = MiStoreFourIfTyped(Frames, Pte, Pfns, Template, Type);
        if (Stored == 4) {
            Stored += MiStoreFourIfTyped(Frames, Pte + 4, Pfns + 4, Template, Type);
        }
        if (Stored != 8) {
            return (PFN_NUMBER)(Pfns - First) + Stored;
        }
    }
    while (Pfns != End && MiStoreIfTyped(Frames, Pte, *Pfns, Template, Type)) {
        Pfns += 1;
        Pte += 1;
    }
    return (PFN_NUMBER)(Pfns - First);
}

// The protection of a page whose frame is RAM with a cache type. FALSE: the frame is not that.
FORCEINLINE BOOLEAN MiIsTypedRam(PFN_NUMBER Pfn, PMI_PROTECTION Protection)
{
    if (Pfn >= MiPfnDatabaseEnd || MiPfnDatabase[Pfn].CacheType >= MiCacheTypeCount) {
        return FALSE;
    }
    Protection->CacheType = (MI_CACHE_TYPE)MiPfnDatabase[Pfn].CacheType;
    return TRUE;
}

// Maps a page whose frame is RAM with a cache type. FALSE: it is something else.
FORCEINLINE BOOLEAN MiCommitTypedPage(PMI_MAPPING Mapping, PFN_NUMBER Pfn, MI_PROTECTION Protection)
{
    if (!MiIsTypedRam(Pfn, &Protection)) {
        return FALSE;
    }
    MiArchStorePte(Mapping->FirstPte, MiArchMakeLeaf(1, Pfn, Protection));
    return TRUE;
}

// As MiCommitMdl, for a simple MDL of several pages.
FORCEINLINE VOID MiCommitManyPages(PMI_MAPPING Mapping, PMDL Mdl, PFN_NUMBER PageCount,
                                   MI_PROTECTION Requested)
{
    const PFN_NUMBER *Pfns = MmGetMdlPfnArray(Mdl);
    MI_PROTECTION Protection = Requested;
    PFN_NUMBER Done = 0;
    if (MiIsTypedRam(Pfns[0], &Protection)) {
        const PFN_NUMBER EntryCount = PageCount < Mapping->FirstRun ? PageCount : Mapping->FirstRun;
        Done = MiStoreTypedRun(Mapping->FirstPte, Pfns, EntryCount, Protection);
    }
    if (Done < PageCount) {
        MiCommitMdlFrom(Mapping, Mdl, Done, PageCount, Requested);
    }
}

// As MiCommitMdl, for a simple MDL.
FORCEINLINE VOID MiCommitSimpleMdl(PMI_MAPPING Mapping, PMDL Mdl, PFN_NUMBER PageCount,
                                   MI_PROTECTION Requested)
{
    if (PageCount != 1 || !MiCommitTypedPage(Mapping, MmGetMdlPfnArray(Mdl)[0], Requested)) {
        MiCommitSimplePages(Mapping, Mdl, PageCount, Requested);
    }
}

// What MiSetMdlMapped does, for an MDL that is not a partial one.
FORCEINLINE VOID MiSetWholeMdlMapped(PMDL Mdl, ULONG_PTR SystemVa)
{
    Mdl->MappedSystemVa = (PVOID)SystemVa;
    Mdl->MdlFlags |= MDL_MAPPED_TO_SYSTEM_VA;
}

// What MiClearPages does, for a mapping of one page.
FORCEINLINE VOID MiClearOnePage(const MI_MAPPING *Mapping)
{
    if (!MiMustForget(MiArchWasUsed(MiArchTakePte(Mapping->FirstPte)))) {
        return;
    }
    MiArchFlushPage(Mapping->Va);
    if (__builtin_expect(KeNumberProcessors > 1, 0)) {
        MiFlushPageThere(Mapping->Va);
    }
}
