// The PFN database: one 24-byte entry per frame of RAM, and the allocator of frames.
//
//   frame   0        1        2        3        4
//          +--------+--------+--------+--------+--------
//          | head   | free   | kernel | free   | table ...
//          +--------+--------+--------+--------+--------
//
// Free frames are a circular list through their entries. Frame 0 is never RAM, so its entry is the
// list's head. A processor keeps a few for itself, its cache, and meets no other while it has one to take,
// or room for one that is freed; frames go from the list to a cache and back in batches.
//
// Who asks for any frame gets the first of its cache, or else of the list, and what few devices reach comes
// last: RAM above 4 GiB first, then the rest, and below 16 MiB when there is nothing else, in no cache either.
// At first the lowest frames of such a zone come first, so that neighbours stay together. Until the kernel's
// own tables are loaded, RAM above 4 GiB cannot be used, and comes second. A frame that is freed is handed out
// again soon, unless it lies below 16 MiB. Whoever takes more than a batch asks the list at once, where
// neighbours stand side by side; whoever asks for runs, or for addresses, has the caches emptied and finds
// them without the list.
//
// The database lies in RAM that it describes, in the direct map. Frames that firmware's holes
// separate have entries too (state NotRam), so that an entry is found by its index alone.
//
// Invariants (checked by MmVerify):
//   F1  A frame's state is NotRam exactly when the physical map does not call it RAM.
//   F2  The free list holds the frames in state Free, each once, and nothing else; the caches those in
//       state Cached; the counts per state are right.
//   F3  A frame that is free or cached has no cache type, no mapping, and its alias in the direct map.
// Locks: MiPfnLock, for the list, and for who enters state Free or leaves it; a cache's own, for its frames,
// taken last. Each guards counts of its own, which are added when somebody asks. A frame's other fields
// belong to its owner.
// Memory order: a search for a run reads the state of frames that caches hand out meanwhile. It looks for one
// value, Free, which nobody else can store or replace while it holds MiPfnLock. A state is stored at once, and
// last: who reads it without a lock sees the one or the other.
#include "kernel/inc/loader.h"
#include "mm/mi.h"

// Until the kernel's own tables are loaded, only this much of the direct map exists.
#define MI_BOOT_MAP_PAGES ((4ull << 30) >> PAGE_SHIFT)

// What the kernel needs to reach the self-tests; below that it says so and stops.
#define MI_MINIMUM_PAGES ((16ull << 20) >> PAGE_SHIFT)

// The first megabyte is left for what needs low addresses.
#define MI_LOW_MEMORY_PAGES ((1ull << 20) >> PAGE_SHIFT)

// What devices of 24 address bits reach, and those of 32.
#define MI_PAGES_OF_24_BITS ((1ull << 24) >> PAGE_SHIFT)
#define MI_PAGES_OF_32_BITS ((1ull << 32) >> PAGE_SHIFT)

#define MI_FREE_LIST_HEAD 0u

static KI_LOCK MiPfnLock = KI_LOCK_INITIALIZER(MI_RANK_PFN, "MiPfnLock");
PMMPFN MiPfnDatabase;
PFN_NUMBER MiPfnDatabaseEnd;

// How many frames are in each state, as far as the changes under one lock tell: only sums mean something.
typedef ULONG64 MI_PFN_COUNTS[MiPfnStateCount];

static MI_PFN_COUNTS MiPfnCounts;

typedef struct __attribute__((aligned(256))) _MI_FRAME_CACHE {
    KI_LOCK Lock;
    PFN_NUMBER First; // linked through Flink, or MI_NO_PFN
    ULONG Count;
    MI_PFN_COUNTS Counts;
} MI_FRAME_CACHE, *PMI_FRAME_CACHE;

static MI_FRAME_CACHE MiFrameCaches[MI_ARCH_PROCESSORS] = {
    [0 ... MI_ARCH_PROCESSORS -
     1] = {.Lock = KI_LOCK_INITIALIZER(MI_RANK_FRAME_CACHE, "MiFrameCacheLock")},
};

PFN_NUMBER MiHighestRamPfn(VOID)
{
    return MiPfnDatabaseEnd - 1;
}

ULONG64 MiPfnStateCountOf(MI_PFN_STATE State)
{
    ULONG64 Count = MiPfnCounts[State];
    for (ULONG Number = 0; Number < MI_ARCH_PROCESSORS; Number += 1) {
        Count += MiFrameCaches[Number].Counts[State];
    }
    // What was allocated here and freed there, between the looks at both, is less than nothing.
    return (LONG64)Count > 0 ? Count : 0;
}

// With the lock nothing goes from caches to the list, or back, in between.
ULONG64 MiFreePageCount(VOID)
{
    const KIRQL OldIrql = KiAcquireLock(&MiPfnLock);
    const ULONG64 Count = MiPfnStateCountOf(MiPfnFree) + MiPfnStateCountOf(MiPfnCached);
    KiReleaseLock(&MiPfnLock, OldIrql);
    return Count;
}

PFN_NUMBER MiFirstFreePfn(VOID)
{
    return MiPfnDatabase[MI_FREE_LIST_HEAD].Flink;
}

PFN_NUMBER MiFirstCachedPfn(ULONG Processor)
{
    return MiFrameCaches[Processor].First;
}

// The cache type of a frame that came into a state. MI_CACHE_NONE: nobody may map it.
static const UCHAR MiCacheTypeOfState[] = {
    [MiPfnNotRam] = MI_CACHE_NONE,   [MiPfnFree] = MI_CACHE_NONE,
    [MiPfnCached] = MI_CACHE_NONE,   [MiPfnKernel] = MI_CACHE_NONE,
    [MiPfnTable] = MI_CACHE_NONE,    [MiPfnPool] = MiCacheWriteBack,
    [MiPfnMdl] = MiCacheUndecided,   [MiPfnLedger] = MI_CACHE_NONE,
    [MiPfnRecord] = MI_CACHE_NONE,   [MiPfnDriver] = MiCacheUndecided,
    [MiPfnImage] = MiCacheWriteBack, [MiPfnQuarantine] = MI_CACHE_NONE,
};
C_ASSERT(ARRAYSIZE(MiCacheTypeOfState) == MiPfnStateCount);

// Field by field: whoever looks at a frame without the lock must not take it for no RAM (state 0).
static VOID MiSetPfnState(MI_PFN_COUNTS Counts, PMMPFN Element, MI_PFN_STATE State)
{
    Counts[Element->State] -= 1;
    Counts[State] += 1;
    Element->Flink = Element->Blink = 0;
    Element->MapCount = Element->LockCount = 0;
    Element->FirstFreeBlock = Element->UsedBlockCount = 0;
    Element->PoolClass = Element->PoolKind = 0;
    Element->CacheType = MiCacheTypeOfState[State];
    __atomic_store_n(&Element->State, (UCHAR)State, __ATOMIC_RELEASE);
}

//
// The list.
//

// Links a frame in front of another, or of the head: at the end.
static VOID MiLinkFreeFrame(PFN_NUMBER Pfn, PFN_NUMBER NextPfn)
{
    const PMMPFN Element = &MiPfnDatabase[Pfn];
    const PMMPFN Next = &MiPfnDatabase[NextPfn];
    Element->Flink = (ULONG)NextPfn;
    Element->Blink = Next->Blink;
    MiPfnDatabase[Next->Blink].Flink = (ULONG)Pfn;
    Next->Blink = (ULONG)Pfn;
}

static VOID MiPushFreeFrame(PFN_NUMBER Pfn)
{
    MiSetPfnState(MiPfnCounts, &MiPfnDatabase[Pfn], MiPfnFree);
    MiLinkFreeFrame(Pfn, Pfn < MI_PAGES_OF_24_BITS ? MI_FREE_LIST_HEAD : MiFirstFreePfn());
}

static VOID MiTakeFreeFrame(PFN_NUMBER Pfn, MI_PFN_STATE State)
{
    PMMPFN Element = &MiPfnDatabase[Pfn];
    NT_ASSERT_INVARIANT("F2", Element->State == MiPfnFree);
    MiPfnDatabase[Element->Blink].Flink = Element->Flink;
    MiPfnDatabase[Element->Flink].Blink = Element->Blink;
    MiSetPfnState(MiPfnCounts, Element, State);
}

//
// The caches. A frame below 16 MiB is in none: what takes it must have looked for another everywhere.
//

static inline PMI_FRAME_CACHE MiThisFrameCache(VOID)
{
    return &MiFrameCaches[MiArchProcessor()];
}

static VOID MiPushCachedFrame(PMI_FRAME_CACHE Cache, PFN_NUMBER Pfn)
{
    MiPfnDatabase[Pfn].Flink = (ULONG)Cache->First;
    Cache->First = Pfn;
    Cache->Count += 1;
}

// MI_NO_PFN: there is none.
static PFN_NUMBER MiPopCachedFrame(PMI_FRAME_CACHE Cache)
{
    const PFN_NUMBER Pfn = Cache->First;
    if (Pfn != MI_NO_PFN) {
        Cache->First = MiPfnDatabase[Pfn].Flink;
        Cache->Count -= 1;
    }
    return Pfn;
}

static PFN_NUMBER MiTakeCachedFrame(MI_PFN_STATE State)
{
    const PMI_FRAME_CACHE Cache = MiThisFrameCache();
    const ULONG64 Flags = KiAcquireBriefLock(&Cache->Lock);
    const PFN_NUMBER Pfn = MiPopCachedFrame(Cache);
    if (Pfn != MI_NO_PFN) {
        MiSetPfnState(Cache->Counts, &MiPfnDatabase[Pfn], State);
    }
    KiReleaseBriefLock(&Cache->Lock, Flags);
    return Pfn;
}

// FALSE: no room, or the frame must not be in a cache. Nothing was done.
static BOOLEAN MiCacheFrame(PFN_NUMBER Pfn)
{
    const PMI_FRAME_CACHE Cache = MiThisFrameCache();
    if (Pfn < MI_PAGES_OF_24_BITS) {
        return FALSE;
    }
    const ULONG64 Flags = KiAcquireBriefLock(&Cache->Lock);
    const BOOLEAN HasRoom = Cache->Count < MI_CACHED_FRAMES;
    if (HasRoom) {
        MiSetPfnState(Cache->Counts, &MiPfnDatabase[Pfn], MiPfnCached);
        MiPushCachedFrame(Cache, Pfn);
    }
    KiReleaseBriefLock(&Cache->Lock, Flags);
    return HasRoom;
}

// A batch from the list, if the cache is empty. MiPfnLock is held. The first of the list shall be the first
// of the cache.
static VOID MiFillFrameCache(PMI_FRAME_CACHE Cache)
{
    PFN_NUMBER Pfns[MI_FRAME_BATCH];
    ULONG Count = 0;
    while (Cache->First == MI_NO_PFN && Count < MI_FRAME_BATCH &&
           MiFirstFreePfn() >= MI_PAGES_OF_24_BITS) {
        Pfns[Count] = MiFirstFreePfn();
        MiTakeFreeFrame(Pfns[Count], MiPfnCached);
        Count += 1;
    }
    const ULONG64 Flags = KiAcquireBriefLock(&Cache->Lock);
    while (Count > 0) {
        Count -= 1;
        MiPushCachedFrame(Cache, Pfns[Count]);
    }
    KiReleaseBriefLock(&Cache->Lock, Flags);
}

// Moves frames to the beginning of the list, in their order, until Count are left. MiPfnLock is held.
static VOID MiShrinkFrameCache(PMI_FRAME_CACHE Cache, ULONG Count)
{
    const PFN_NUMBER NextPfn = MiFirstFreePfn();
    const ULONG64 Flags = KiAcquireBriefLock(&Cache->Lock);
    while (Cache->Count > Count) {
        const PFN_NUMBER Pfn = MiPopCachedFrame(Cache);
        MiSetPfnState(MiPfnCounts, &MiPfnDatabase[Pfn], MiPfnFree);
        MiLinkFreeFrame(Pfn, NextPfn);
    }
    KiReleaseBriefLock(&Cache->Lock, Flags);
}

static VOID MiEmptyFrameCaches(VOID)
{
    for (ULONG Number = 0; Number < (ULONG)KeNumberProcessors; Number += 1) {
        if (MiFrameCaches[Number].First != MI_NO_PFN) {
            MiShrinkFrameCache(&MiFrameCaches[Number], 0);
        }
    }
}

VOID MiTrimFrames(VOID)
{
    const KIRQL OldIrql = KiAcquireLock(&MiPfnLock);
    MiEmptyFrameCaches();
    KiReleaseLock(&MiPfnLock, OldIrql);
}

//
// One frame.
//

// From the list, with a batch for this processor.
static PFN_NUMBER MiTakeListedFrame(MI_PFN_STATE State)
{
    const KIRQL OldIrql = KiAcquireLock(&MiPfnLock);
    if (MiFirstFreePfn() < MI_PAGES_OF_24_BITS) {
        MiEmptyFrameCaches();
    }
    const PFN_NUMBER Pfn = MiFirstFreePfn();
    if (Pfn != MI_FREE_LIST_HEAD) {
        MiTakeFreeFrame(Pfn, State);
        MiFillFrameCache(MiThisFrameCache());
    }
    KiReleaseLock(&MiPfnLock, OldIrql);
    return Pfn;
}

PFN_NUMBER MiAllocateFrame(MI_PFN_STATE State)
{
    if (MiMustFail(MM_FAIL_FRAMES)) {
        return MI_NO_PFN;
    }
    const PFN_NUMBER Pfn = MiTakeCachedFrame(State);
    return Pfn != MI_NO_PFN ? Pfn : MiTakeListedFrame(State);
}

PFN_NUMBER MiAllocateFrameOfMany(MI_PFN_STATE State)
{
    return MiMustFail(MM_FAIL_FRAMES) ? MI_NO_PFN : MiTakeListedFrame(State);
}

VOID MiCheckFrameUnmapped(PFN_NUMBER Pfn)
{
    const PMMPFN Element = MiPfnElement(Pfn);
    const ULONG64 UseCount = (ULONG64)Element->MapCount + Element->LockCount;
    if (UseCount != 0) {
        MiBugCheck(
            PFN_LIST_CORRUPT, 0x9A, Pfn, Element->State, UseCount,
            "frame 0x%llx is freed, but %u mappings of it are left, and %u locked MDLs list it",
            Pfn, Element->MapCount, Element->LockCount);
    }
}

// To the list, or to where nobody takes it from; with what makes room in this processor's cache, if that is full.
static VOID MiListFrame(PFN_NUMBER Pfn)
{
    const KIRQL OldIrql = KiAcquireLock(&MiPfnLock);
    if (MiThisFrameCache()->Count >= MI_CACHED_FRAMES) {
        MiShrinkFrameCache(MiThisFrameCache(), MI_CACHED_FRAMES - MI_FRAME_BATCH);
    }
    if (MiIsQuarantined(MiPfnElement(Pfn))) {
        MiSetPfnState(MiPfnCounts, MiPfnElement(Pfn), MiPfnQuarantine);
    } else {
        MiPushFreeFrame(Pfn);
    }
    KiReleaseLock(&MiPfnLock, OldIrql);
}

VOID MiFreeFrame(PFN_NUMBER Pfn)
{
    NT_ASSERT_INVARIANT("F2", MiPfnElement(Pfn) != NULL && !MiIsFree(MiPfnState(Pfn)));
    MiCheckFrameUnmapped(Pfn);
    if (MiIsQuarantined(MiPfnElement(Pfn)) || !MiCacheFrame(Pfn)) {
        MiListFrame(Pfn);
    }
}

//
// Runs.
//

static PFN_NUMBER MiAlignPfn(PFN_NUMBER Pfn, PFN_NUMBER AlignmentPages)
{
    return (Pfn + AlignmentPages - 1) & ~(AlignmentPages - 1);
}

// The last frame of [FirstPfn, FirstPfn + PageCount) that is not free, or MI_NO_PFN.
static PFN_NUMBER MiLastUsedPfn(PFN_NUMBER FirstPfn, PFN_NUMBER PageCount)
{
    for (PFN_NUMBER Pfn = FirstPfn + PageCount; Pfn > FirstPfn; Pfn -= 1) {
        if (MiPfnDatabase[Pfn - 1].State != MiPfnFree) {
            return Pfn - 1;
        }
    }
    return MI_NO_PFN;
}

// The lowest frame from FirstPfn on where a run may begin.
static PFN_NUMBER MiNextBeginning(PFN_NUMBER FirstPfn, PFN_NUMBER PageCount,
                                  PFN_NUMBER AlignmentPages, PFN_NUMBER BoundaryPages)
{
    const PFN_NUMBER Aligned = MiAlignPfn(FirstPfn, AlignmentPages);
    const BOOLEAN IsCrossing =
        BoundaryPages != 0 && (Aligned & (BoundaryPages - 1)) + PageCount > BoundaryPages;
    return IsCrossing ? MiAlignPfn(Aligned, BoundaryPages) : Aligned;
}

static PFN_NUMBER MiFindFreeRun(PFN_NUMBER PageCount, PFN_NUMBER AlignmentPages,
                                PFN_NUMBER BoundaryPages, MI_PFN_RANGE Window)
{
    const PFN_NUMBER EndPfn =
        Window.LastPfn < MiPfnDatabaseEnd ? Window.LastPfn + 1 : MiPfnDatabaseEnd;
    PFN_NUMBER FirstPfn = MiNextBeginning(Window.FirstPfn > 1 ? Window.FirstPfn : 1, PageCount,
                                          AlignmentPages, BoundaryPages);
    while (FirstPfn < EndPfn && PageCount <= EndPfn - FirstPfn) {
        const PFN_NUMBER UsedPfn = MiLastUsedPfn(FirstPfn, PageCount);
        if (UsedPfn == MI_NO_PFN) {
            return FirstPfn;
        }
        FirstPfn = MiNextBeginning(UsedPfn + 1, PageCount, AlignmentPages, BoundaryPages);
    }
    return MI_NO_PFN;
}

// Takes a run that was found.
static VOID MiTakeFreeRun(PFN_NUMBER FirstPfn, PFN_NUMBER PageCount, MI_PFN_STATE State)
{
    for (PFN_NUMBER Index = 0; FirstPfn != MI_NO_PFN && Index < PageCount; Index += 1) {
        MiTakeFreeFrame(FirstPfn + Index, State);
    }
}

// The same as MiFindFreeRun; above what devices of 24 address bits need, if it can be.
static PFN_NUMBER MiFindHighRun(PFN_NUMBER PageCount, PFN_NUMBER BoundaryPages, MI_PFN_RANGE Window)
{
    PFN_NUMBER FirstPfn = MI_NO_PFN;
    if (Window.FirstPfn < MI_PAGES_OF_24_BITS && Window.LastPfn >= MI_PAGES_OF_24_BITS) {
        const MI_PFN_RANGE Above = {MI_PAGES_OF_24_BITS, Window.LastPfn};
        FirstPfn = MiFindFreeRun(PageCount, 1, BoundaryPages, Above);
    }
    return FirstPfn != MI_NO_PFN ? FirstPfn : MiFindFreeRun(PageCount, 1, BoundaryPages, Window);
}

PFN_NUMBER MiAllocateBoundedFrameRun(PFN_NUMBER PageCount, PFN_NUMBER BoundaryPages,
                                     MI_PFN_RANGE Window, MI_PFN_STATE State)
{
    NT_ASSERT(PageCount > 0 && (BoundaryPages & (BoundaryPages - 1)) == 0 &&
              (BoundaryPages == 0 || BoundaryPages >= PageCount));
    if (MiMustFail(MM_FAIL_FRAMES)) {
        return MI_NO_PFN;
    }
    const KIRQL OldIrql = KiAcquireLock(&MiPfnLock);
    MiEmptyFrameCaches();
    const PFN_NUMBER FirstPfn = MiFindHighRun(PageCount, BoundaryPages, Window);
    MiTakeFreeRun(FirstPfn, PageCount, State);
    KiReleaseLock(&MiPfnLock, OldIrql);
    return FirstPfn;
}

PFN_NUMBER MiAllocateFrameRun(PFN_NUMBER PageCount, PFN_NUMBER AlignmentPages, MI_PFN_RANGE Window,
                              MI_PFN_STATE State)
{
    NT_ASSERT(PageCount > 0 && AlignmentPages > 0 && (AlignmentPages & (AlignmentPages - 1)) == 0);
    if (MiMustFail(MM_FAIL_FRAMES)) {
        return MI_NO_PFN;
    }
    const KIRQL OldIrql = KiAcquireLock(&MiPfnLock);
    MiEmptyFrameCaches();
    const PFN_NUMBER FirstPfn = MiFindFreeRun(PageCount, AlignmentPages, 0, Window);
    MiTakeFreeRun(FirstPfn, PageCount, State);
    KiReleaseLock(&MiPfnLock, OldIrql);
    return FirstPfn;
}

//
// Chains.
//

PFN_NUMBER MiAllocateFrameChain(MI_PFN_STATE State, PFN_NUMBER PageCount)
{
    // Not to take all of memory for a request that cannot be met.
    if (PageCount > MiFreePageCount()) {
        return MI_NO_PFN;
    }
    PFN_NUMBER FirstPfn = MI_NO_PFN;
    for (PFN_NUMBER Count = 0; Count < PageCount; Count += 1) {
        const PFN_NUMBER Pfn = MiAllocateFrame(State);
        if (Pfn == MI_NO_PFN) {
            MiFreeFrameChain(FirstPfn);
            return MI_NO_PFN;
        }
        MiPfnElement(Pfn)->Flink = (ULONG)FirstPfn;
        FirstPfn = Pfn;
    }
    return FirstPfn;
}

VOID MiFreeFrameChain(PFN_NUMBER FirstPfn)
{
    PFN_NUMBER Pfn = FirstPfn;
    while (Pfn != MI_NO_PFN) {
        const PFN_NUMBER Next = MiNextInChain(Pfn);
        MiFreeFrame(Pfn);
        Pfn = Next;
    }
}

//
// Initialisation. The database has to find a place for itself before it can say what is free.
//

static MI_PFN_RANGE MiRangeOfLoaded(const LOADER_RANGE *Loaded)
{
    return (MI_PFN_RANGE){Loaded->BaseAddress >> PAGE_SHIFT,
                          (Loaded->BaseAddress + Loaded->ByteCount - 1) >> PAGE_SHIFT};
}

// Moves *EndPfn to the beginning of something that the boot loader left in [*EndPfn - PageCount, *EndPfn).
// FALSE: nothing is.
static BOOLEAN MiSkipLoadedRange(const LOADER_BLOCK *LoaderBlock, PFN_NUMBER *EndPfn,
                                 PFN_NUMBER PageCount)
{
    for (ULONG Index = 0; Index < LoaderBlock->LoadedRangeCount; Index += 1) {
        if (LoaderBlock->LoadedRanges[Index].ByteCount == 0) {
            continue;
        }
        const MI_PFN_RANGE Range = MiRangeOfLoaded(&LoaderBlock->LoadedRanges[Index]);
        if (Range.FirstPfn < *EndPfn && Range.LastPfn + PageCount >= *EndPfn) {
            *EndPfn = Range.FirstPfn;
            return TRUE;
        }
    }
    return FALSE;
}

// The highest run of RAM that the boot tables map and nothing occupies, or MI_NO_PFN.
static PFN_NUMBER MiFindBootRun(const LOADER_BLOCK *LoaderBlock, PFN_NUMBER PageCount)
{
    ULONG RegionCount;
    const MI_PHYSICAL_REGION *Regions = MiPhysicalRegions(&RegionCount);
    for (ULONG Index = RegionCount; Index > 0; Index -= 1) {
        const MI_PFN_RANGE Range = Regions[Index - 1].Range;
        const PFN_NUMBER LowestPfn =
            Range.FirstPfn > MI_LOW_MEMORY_PAGES ? Range.FirstPfn : MI_LOW_MEMORY_PAGES;
        PFN_NUMBER EndPfn =
            Range.LastPfn < MI_BOOT_MAP_PAGES ? Range.LastPfn + 1 : MI_BOOT_MAP_PAGES;
        if (Regions[Index - 1].Kind != MiPhysicalRam) {
            continue;
        }
        while (MiSkipLoadedRange(LoaderBlock, &EndPfn, PageCount)) {
        }
        if (EndPfn > LowestPfn && EndPfn - LowestPfn >= PageCount) {
            return EndPfn - PageCount;
        }
    }
    return MI_NO_PFN;
}

static PFN_NUMBER MiCountRam(PFN_NUMBER *EndPfn)
{
    ULONG RegionCount;
    const MI_PHYSICAL_REGION *Regions = MiPhysicalRegions(&RegionCount);
    PFN_NUMBER PageCount = 0;
    *EndPfn = 0;
    for (ULONG Index = 0; Index < RegionCount; Index += 1) {
        if (Regions[Index].Kind == MiPhysicalRam) {
            PageCount += MiRangePageCount(Regions[Index].Range);
            *EndPfn = Regions[Index].Range.LastPfn + 1;
        }
    }
    return PageCount;
}

// Parts of RAM, in the order in which their frames are handed out.
#define MI_ZONE_COUNT 3
typedef MI_PFN_RANGE MI_ZONES[MI_ZONE_COUNT];

static const MI_ZONES MiBootZones = {
    {MI_PAGES_OF_24_BITS, MI_PAGES_OF_32_BITS - 1},
    {MI_PAGES_OF_32_BITS, MAXULONG64},
    {1, MI_PAGES_OF_24_BITS - 1},
};
static const MI_ZONES MiZones = {
    {MI_PAGES_OF_32_BITS, MAXULONG64},
    {MI_PAGES_OF_24_BITS, MI_PAGES_OF_32_BITS - 1},
    {1, MI_PAGES_OF_24_BITS - 1},
};

// Makes the list of free frames anew.
static VOID MiOrderFreeFrames(const MI_ZONES Zones)
{
    const PMMPFN Head = &MiPfnDatabase[MI_FREE_LIST_HEAD];
    Head->Flink = Head->Blink = MI_FREE_LIST_HEAD;
    for (ULONG Zone = 0; Zone < MI_ZONE_COUNT; Zone += 1) {
        for (PFN_NUMBER Pfn = Zones[Zone].FirstPfn;
             Pfn < MiPfnDatabaseEnd && Pfn <= Zones[Zone].LastPfn; Pfn += 1) {
            if (MiPfnDatabase[Pfn].State == MiPfnFree) {
                MiLinkFreeFrame(Pfn, MI_FREE_LIST_HEAD);
            }
        }
    }
}

static VOID MiFreeAllRam(VOID)
{
    ULONG RegionCount;
    const MI_PHYSICAL_REGION *Regions = MiPhysicalRegions(&RegionCount);
    for (ULONG Index = 0; Index < RegionCount; Index += 1) {
        const MI_PHYSICAL_REGION *Region = &Regions[Index];
        for (PFN_NUMBER Pfn = Region->Range.FirstPfn;
             Region->Kind == MiPhysicalRam && Pfn <= Region->Range.LastPfn; Pfn += 1) {
            MiSetPfnState(MiPfnCounts, &MiPfnDatabase[Pfn], MiPfnFree);
        }
    }
    MiOrderFreeFrames(MiBootZones);
}

VOID MiReleaseHighMemory(VOID)
{
    const KIRQL OldIrql = KiAcquireLock(&MiPfnLock);
    MiEmptyFrameCaches();
    MiOrderFreeFrames(MiZones);
    KiReleaseLock(&MiPfnLock, OldIrql);
}

static VOID MiKeepFrames(MI_PFN_RANGE Range)
{
    for (PFN_NUMBER Pfn = Range.FirstPfn; Pfn <= Range.LastPfn; Pfn += 1) {
        if (MiPfnState(Pfn) == MiPfnFree) {
            MiTakeFreeFrame(Pfn, MiPfnKernel);
        }
    }
}

VOID MiInitializePfnDatabase(const LOADER_BLOCK *LoaderBlock)
{
    const PFN_NUMBER RamPageCount = MiCountRam(&MiPfnDatabaseEnd);
    const PFN_NUMBER DatabasePages = BYTES_TO_PAGES(MiPfnDatabaseEnd * sizeof(MMPFN));
    const PFN_NUMBER DatabasePfn =
        RamPageCount < MI_MINIMUM_PAGES ? MI_NO_PFN : MiFindBootRun(LoaderBlock, DatabasePages);
    if (DatabasePfn == MI_NO_PFN) {
        MiBugCheck(INSTALL_MORE_MEMORY, RamPageCount, MI_MINIMUM_PAGES, MiPfnDatabaseEnd, 0,
                   "this machine has %llu KiB of usable RAM; IoSpace needs %llu KiB, and %llu KiB "
                   "in one piece below 4 GiB",
                   RamPageCount << (PAGE_SHIFT - 10), MI_MINIMUM_PAGES << (PAGE_SHIFT - 10),
                   DatabasePages << (PAGE_SHIFT - 10));
    }
    MiPfnDatabase = MiFrameToVa(DatabasePfn);
    RtlZeroMemory(MiPfnDatabase, DatabasePages << PAGE_SHIFT);
    RtlZeroMemory(MiPfnCounts, sizeof(MiPfnCounts));
    MiPfnCounts[MiPfnNotRam] = MiPfnDatabaseEnd;
    for (PFN_NUMBER Pfn = 0; Pfn < MiPfnDatabaseEnd; Pfn += 1) {
        MiPfnDatabase[Pfn].CacheType = MI_CACHE_NONE;
    }
    MiFreeAllRam();
    MiKeepFrames((MI_PFN_RANGE){DatabasePfn, DatabasePfn + DatabasePages - 1});
    for (ULONG Index = 0; Index < LoaderBlock->LoadedRangeCount; Index += 1) {
        if (LoaderBlock->LoadedRanges[Index].ByteCount != 0) {
            MiKeepFrames(MiRangeOfLoaded(&LoaderBlock->LoadedRanges[Index]));
        }
    }
}
