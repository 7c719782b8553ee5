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
#define MI_CACHED_SLOTS 128 // in each list of a processor
#define MI_SLOT_BATCH 64    // that go from a processor's list to the common one, or back, at a time
#define MI_IDLE_LIMIT 1024  // idle slots of each size in the common list
#define MI_RECENT_LIMIT 8

typedef struct _MI_SLOT_LIST {
    PMI_MAPPING First;
    PMI_MAPPING Last; // of the quarantine, which is a queue
    ULONG Count;
} MI_SLOT_LIST, *PMI_SLOT_LIST;

struct _MI_LEDGER_LEAF;

// What a processor keeps for itself, so that it meets no other on the short ways. The lock is mostly its
// own, too: others take it to trim, and a thread that has been moved since it looked which one it runs on.
typedef struct __attribute__((aligned(512))) _MI_PROCESSOR_CACHE {
    KI_LOCK Lock;
    MI_SLOT_LIST Idle[MI_SMALL_CLASSES];
    MI_SLOT_LIST Waiting; // released, and not forgotten everywhere; of any size class
    struct _MI_LEDGER_LEAF
        *SpareLeaf;         // the one that it emptied last, which is kept for its next hold
    PFN_NUMBER SpareNumber; // its first frame >> MI_LEAF_BITS
} MI_PROCESSOR_CACHE, *PMI_PROCESSOR_CACHE;

C_ASSERT(sizeof(MI_PROCESSOR_CACHE) == 512);

extern MI_PROCESSOR_CACHE MiCaches[MI_ARCH_PROCESSORS];

static inline PMI_PROCESSOR_CACHE MiThisCache(VOID)
{
    return &MiCaches[MiArchProcessor()];
}

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

// An idle slot for PageCount pages, which must be few; or NULL.
FORCEINLINE PMI_MAPPING MiAcquireQuickly(PFN_NUMBER PageCount, PVOID Caller, ULONG64 Time)
{
    const PMI_PROCESSOR_CACHE Cache = MiThisCache();
    const ULONG64 Flags = KiAcquireBriefLock(&Cache->Lock);
    const PMI_MAPPING Slot = MiPopSlot(&Cache->Idle[MiClassOf(PageCount)]);
    KiReleaseBriefLock(&Cache->Lock, Flags);
    if (Slot != NULL) {
        Slot->PageCount = PageCount;
        Slot->Caller = Caller;
        Slot->Time = Time;
    }
    return Slot;
}

// The list of a processor that a slot of one page goes to when it is released.
FORCEINLINE PMI_SLOT_LIST MiListForPage(PMI_PROCESSOR_CACHE Cache, const MI_MAPPING *Mapping)
{
    return Mapping->Stamp == 0 ? &Cache->Idle[0] : &Cache->Waiting;
}

// Releases a slot of one page. FALSE: the list is full; nothing was done.
FORCEINLINE BOOLEAN MiReleaseQuickly(PMI_MAPPING Mapping)
{
    const PMI_PROCESSOR_CACHE Cache = MiThisCache();
    const ULONG64 Flags = KiAcquireBriefLock(&Cache->Lock);
    const PMI_SLOT_LIST List = MiListForPage(Cache, Mapping);
    const BOOLEAN HasRoom = List->Count < MI_CACHED_SLOTS;
    if (HasRoom) {
        Mapping->Kind = MiMappingIdle;
        MiPushSlot(List, Mapping);
    }
    KiReleaseBriefLock(&Cache->Lock, Flags);
    return HasRoom;
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
        Slot->Time = KeTickCycles;
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

// One frame. Word says how many hold it, its MI_CACHE_TYPE, and since when (KeTickCycles):
//
//   63 ......... 35  34 . 32  31 ........ 0
//   time             type     holders          0: nobody holds the frame
typedef struct _MI_LEDGER_SLOT {
    ULONG64 Word;
    PVOID Caller; // who was first to hold it, or to decide it
} MI_LEDGER_SLOT, *PMI_LEDGER_SLOT;

#define MI_SLOT_TYPE_SHIFT 32
#define MI_SLOT_TYPE_MASK 7u
#define MI_SLOT_TIME_SHIFT 35

static inline ULONG MiHoldersOf(ULONG64 Word)
{
    return (ULONG)Word;
}

static inline MI_CACHE_TYPE MiTypeOf(ULONG64 Word)
{
    return (MI_CACHE_TYPE)((Word >> MI_SLOT_TYPE_SHIFT) & MI_SLOT_TYPE_MASK);
}

static inline ULONG64 MiTimeOf(ULONG64 Word)
{
    return Word >> MI_SLOT_TIME_SHIFT << MI_LEDGER_TIME_SHIFT;
}

static inline ULONG64 MiSlotWord(ULONG HolderCount, MI_CACHE_TYPE CacheType, ULONG64 Time)
{
    return HolderCount | (ULONG64)CacheType << MI_SLOT_TYPE_SHIFT |
           Time >> MI_LEDGER_TIME_SHIFT << MI_SLOT_TIME_SHIFT;
}

typedef struct _MI_LEDGER_LEAF {
    PMI_LEDGER_SLOT Slots; // or NULL
    ULONG64 UsedCount;
} MI_LEDGER_LEAF, *PMI_LEDGER_LEAF;

typedef struct _MI_LEDGER_LOWER {
    MI_LEDGER_LEAF Leaves[MI_LOWER_ENTRIES];
} MI_LEDGER_LOWER, *PMI_LEDGER_LOWER;

typedef struct _MI_LEDGER_BRANCH {
    PMI_LEDGER_LOWER Lower; // or NULL
    ULONG64 Reserved;
} MI_LEDGER_BRANCH, *PMI_LEDGER_BRANCH;

typedef struct _MI_LEDGER_UPPER {
    MI_LEDGER_BRANCH Branches[MI_UPPER_ENTRIES];
} MI_LEDGER_UPPER, *PMI_LEDGER_UPPER;

C_ASSERT(sizeof(MI_LEDGER_SLOT) * MI_LEAF_SLOTS == PAGE_SIZE);
C_ASSERT(sizeof(MI_LEDGER_LOWER) == PAGE_SIZE && sizeof(MI_LEDGER_UPPER) == PAGE_SIZE);

extern KI_LOCK MiLedgerLock;
extern PMI_LEDGER_UPPER *MiLedgerRoot;
extern BOOLEAN MiIsLedgerChanging;
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

// The same, looking first at the leaf that a processor keeps. NULL: as above, or it keeps none.
FORCEINLINE PMI_LEDGER_LEAF MiFindLeafQuickly(const MI_PROCESSOR_CACHE *Cache, PFN_NUMBER Pfn)
{
    return Cache->SpareNumber == Pfn >> MI_LEAF_BITS ? Cache->SpareLeaf : MiFindLeaf(Pfn);
}

// Whether the ledger may be read, and its slots be changed by compare and exchange, as long as the lock of
// any processor's cache is held: nobody is at work in it who excludes that.
FORCEINLINE BOOLEAN MiIsLedgerOpen(VOID)
{
    return !__atomic_load_n(&MiIsLedgerChanging, __ATOMIC_ACQUIRE);
}

// Adds a holder to a slot that is free or of this type, while the ledger is open. FALSE: it is of another
// type, or perhaps below a range of another; nothing was done.
FORCEINLINE BOOLEAN MiAddHolderQuickly(PMI_LEDGER_LEAF Leaf, PFN_NUMBER Pfn,
                                       MI_CACHE_TYPE CacheType, PVOID Caller, ULONG64 Time)
{
    const PMI_LEDGER_SLOT Slot = MiSlotOf(Leaf, Pfn);
    ULONG64 Old = __atomic_load_n(&Slot->Word, __ATOMIC_RELAXED);
    ULONG64 New;
    do {
        if (Old == 0 ? MiOpposingRangeCount[CacheType] != 0 : MiTypeOf(Old) != CacheType) {
            return FALSE;
        }
        New = Old == 0 ? MiSlotWord(1, CacheType, Time) : Old + 1;
    } while (!__atomic_compare_exchange_n(&Slot->Word, &Old, New, FALSE, __ATOMIC_ACQ_REL,
                                          __ATOMIC_RELAXED));
    if (Old == 0) {
        __atomic_fetch_add(&Leaf->UsedCount, 1, __ATOMIC_RELAXED);
        Slot->Caller = Caller;
    }
    return TRUE;
}

// Takes a holder away from a slot that has one, while the ledger is open.
FORCEINLINE VOID MiDropHolderQuickly(PMI_LEDGER_LEAF Leaf, PFN_NUMBER Pfn)
{
    const PMI_LEDGER_SLOT Slot = MiSlotOf(Leaf, Pfn);
    ULONG64 Old = __atomic_load_n(&Slot->Word, __ATOMIC_RELAXED);
    ULONG64 New;
    do {
        New = MiHoldersOf(Old) == 1 ? 0 : Old - 1;
    } while (!__atomic_compare_exchange_n(&Slot->Word, &Old, New, FALSE, __ATOMIC_ACQ_REL,
                                          __ATOMIC_RELAXED));
    if (New == 0) {
        __atomic_fetch_sub(&Leaf->UsedCount, 1, __ATOMIC_RELAXED);
    }
}

// Whether a leaf would be left with a holder, or may be left without one, when this many slots are given
// back: what becomes empty is kept by one processor or freed, and neither is done on a short way.
FORCEINLINE BOOLEAN MiMayDropQuickly(const MI_PROCESSOR_CACHE *Cache, const MI_LEDGER_LEAF *Leaf,
                                     PFN_NUMBER SlotCount)
{
    return Leaf == Cache->SpareLeaf ||
           __atomic_load_n(&Leaf->UsedCount, __ATOMIC_RELAXED) > SlotCount;
}

// Holds a frame with a type. FALSE: this takes more than a look at its slot; nothing was done. The lock of
// the cache is held.
// A type that is not uncached may be another one than that which some processor remembers the frame with:
// the caller then calls MiForgetTypes, behind this, because only now nobody else can map the frame.
FORCEINLINE BOOLEAN MiHoldQuickly(const MI_PROCESSOR_CACHE *Cache, PFN_NUMBER Pfn,
                                  MI_CACHE_TYPE CacheType, PVOID Caller, ULONG64 Time)
{
    const PMI_LEDGER_LEAF Leaf = MiIsLedgerOpen() ? MiFindLeafQuickly(Cache, Pfn) : NULL;
    return Leaf != NULL && MiAddHolderQuickly(Leaf, Pfn, CacheType, Caller, Time);
}

// Releases a frame that its caller holds. FALSE: its leaf may become empty, and is not the one that this
// processor keeps, or the ledger is not open; nothing was done. The lock of the cache is held.
FORCEINLINE BOOLEAN MiReleaseFrameQuickly(const MI_PROCESSOR_CACHE *Cache, PFN_NUMBER Pfn)
{
    const PMI_LEDGER_LEAF Leaf = MiIsLedgerOpen() ? MiFindLeafQuickly(Cache, Pfn) : NULL;
    if (Leaf == NULL) {
        return FALSE;
    }
    const ULONG64 Word = __atomic_load_n(&MiSlotOf(Leaf, Pfn)->Word, __ATOMIC_RELAXED);
    if (MiHoldersOf(Word) == 1 && !MiMayDropQuickly(Cache, Leaf, 1)) {
        return FALSE;
    }
    MiDropHolderQuickly(Leaf, Pfn);
    return TRUE;
}

// Releases the frame and the slot of a page of device memory. FALSE: this takes more; nothing was done.
FORCEINLINE BOOLEAN MiReleasePageQuickly(PMI_MAPPING Mapping)
{
    const PMI_PROCESSOR_CACHE Cache = MiThisCache();
    const ULONG64 Flags = KiAcquireBriefLock(&Cache->Lock);
    const PMI_SLOT_LIST List = MiListForPage(Cache, Mapping);
    const BOOLEAN IsReleased =
        List->Count < MI_CACHED_SLOTS && MiReleaseFrameQuickly(Cache, Mapping->Io.FirstPfn);
    if (IsReleased) {
        Mapping->Kind = MiMappingIdle;
        MiPushSlot(List, Mapping);
    }
    KiReleaseBriefLock(&Cache->Lock, Flags);
    return IsReleased;
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

// Takes away the leaf of a mapping of one page, and has it forgotten.
FORCEINLINE VOID MiClearOnePage(PMI_MAPPING Mapping, BOOLEAN MayWait)
{
    if (MiMustForget(MiArchWasUsed(MiArchTakePte(Mapping->FirstPte)))) {
        MiForgetPages(Mapping, 1, MayWait);
    }
}
