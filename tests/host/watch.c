// The watcher: sees every store of an entry, at the moment it happens, and holds it against the
// rules that a walker on another processor relies on.
//
// Rules, each of which ends the test when it is broken:
//   W1  Within one call of an exported routine, what an address translates to changes at most once:
//       a walker that looks at any moment finds the old translation or the new one. (Not so in the
//       pool: a call may allocate and free.)
//   W2  A leaf never replaces another one, unless only the rights differ; and a table that replaces
//       a leaf translates alike.
//   W3  Every linked table is a frame in state Table, linked once; no leaf reaches a table but the
//       direct map's, and none but the direct map's reaches a free frame.
//   W4  No frame is mapped, or remembered by the TLB, with two cache types at a time.
//   W5  No address and no frame is used again while the TLB remembers what it was; when an exported
//       routine returns, the TLB remembers nothing that the tables do not say. The same holds for
//       tables that were taken out. With several processors, at level 0, what was in small mappings may
//       be remembered by others until the address is used again; the frame may be used with the same
//       cache type meanwhile, not with another one (W4).
//   W6  The direct map maps RAM only: each frame to its own address, read-write and write-back.
//   W7  A frame of RAM that was cached is flushed from the cache before it is used with another
//       type, and again, once it is write-back, for the lines that were fetched just before.
//   W8  Locks are free and the IRQL is the caller's when an exported routine returns.
//
// The model of the TLB is the worst one that the manuals allow: it reads a translation as soon as it is
// there, which marks the leaf as used, and forgets none of its own accord. So it is enough to remember
// those that the tables have lost: Stale. Which leaves it reads is WatchReadsLeaf's to say; a leaf that
// it has not read is read at the last moment when it is overwritten by a store, and not when it is taken
// by an exchange, which is the one way to know.
#define _GNU_SOURCE
#include <sys/mman.h>

#include "tests/host/arch.h"

#define TOP_LEVEL 4u
#define CHUNK_PAGES 512u

// What is known of one frame of RAM.
typedef struct _WATCHED_FRAME {
    ULONG64 BaseVa;       // linked tables: what the first entry maps
    ULONG CacheFlushCall; // the call in which its cache lines were flushed
    UCHAR TableLevel;     // 0: not a linked table
    BOOLEAN WasCached;
    BOOLEAN WasUncached; // or write-combined
} WATCHED_FRAME;

// Mappings of 512 frames that begin at a multiple of 512.
typedef struct _CHUNK {
    ULONG LargeCount[MiCacheTypeCount]; // of leaves that map the whole chunk
    ULONG PageCount[MiCacheTypeCount];  // of small leaves
    USHORT (*PerPage)[CHUNK_PAGES];     // small leaves: [type][page]
} CHUNK;

typedef struct _STALE {
    ULONG_PTR Va;
    PFN_NUMBER Pfn;
    ULONG Level;
    MI_CACHE_TYPE CacheType;
} STALE;

static struct {
    WATCHED_FRAME *Frames;
    ULONG *
        EntryCalls; // per entry of a linked table: the call that last changed what it translates to
    CHUNK *Chunks;
    STALE *Stale;
    ULONG64 StaleCount;
    ULONG64 StaleCapacity;
    PFN_NUMBER *LostTables;
    ULONG64 LostTableCount;
    ULONG64 LostTableCapacity;
    PFN_NUMBER *UnflushedFrames; // W7
    ULONG64 UnflushedCount;
    ULONG64 UnflushedCapacity;
    ULONG Call; // number of the current call
    ULONG Depth;
    KIRQL IrqlAtBegin;
    const CHAR *Routine;
} Watch;

static PVOID AllocateSparse(ULONG64 ByteCount)
{
    const PVOID Result = mmap(NULL, ByteCount, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(Result != MAP_FAILED);
    return Result;
}

// Makes room for one more element of a growing array.
static PVOID Grow(PVOID Array, ULONG64 Count, ULONG64 *Capacity, SIZE_T ElementBytes)
{
    if (Count < *Capacity) {
        return Array;
    }
    *Capacity = *Capacity == 0 ? 1024 : *Capacity * 2;
    const PVOID Result = realloc(Array, *Capacity * ElementBytes);
    CHECK(Result != NULL);
    return Result;
}

VOID WatchInitialize(ULONG PhysicalBits)
{
    const ULONG64 RamFrames = MiArchLayout[MiRegionDirectMap].ByteCount >> PAGE_SHIFT;
    memset(&Watch, 0, sizeof(Watch));
    Watch.Frames = AllocateSparse(RamFrames * sizeof(WATCHED_FRAME));
    Watch.EntryCalls = AllocateSparse(RamFrames * MI_PTES_PER_TABLE * sizeof(ULONG));
    Watch.Chunks =
        AllocateSparse((1ull << (PhysicalBits - PAGE_SHIFT)) / CHUNK_PAGES * sizeof(CHUNK));
    Watch.Routine = "start";
}

static ULONG64 PagesOf(ULONG Level)
{
    return 1ull << (9 * (Level - 1));
}

//
// W4: mappings per frame and cache type.
//

static BOOLEAN IsMappedOtherwise(const CHUNK *Chunk, ULONG Page, BOOLEAN IsWhole,
                                 MI_CACHE_TYPE CacheType)
{
    for (ULONG Other = 0; Other < MiCacheTypeCount; Other += 1) {
        if (Other == (ULONG)CacheType) {
            continue;
        }
        if (Chunk->LargeCount[Other] != 0 || (IsWhole && Chunk->PageCount[Other] != 0) ||
            (!IsWhole && Chunk->PageCount[Other] != 0 && Chunk->PerPage[Other][Page] != 0)) {
            return TRUE;
        }
    }
    return FALSE;
}

static VOID CountSmallLeaf(PFN_NUMBER Pfn, MI_CACHE_TYPE CacheType, int Step)
{
    CHUNK *Chunk = &Watch.Chunks[Pfn / CHUNK_PAGES];
    const ULONG Page = Pfn % CHUNK_PAGES;
    if (Chunk->PerPage == NULL) {
        Chunk->PerPage = calloc(MiCacheTypeCount, sizeof(*Chunk->PerPage));
        CHECK(Chunk->PerPage != NULL);
    }
    Chunk->PageCount[CacheType] += (ULONG)Step;
    Chunk->PerPage[CacheType][Page] += (USHORT)Step;
    if (Step > 0 && IsMappedOtherwise(Chunk, Page, FALSE, CacheType)) {
        FAIL("W4: %s maps frame 0x%llx as %s while it is mapped, or in the TLB, with another type",
             Watch.Routine, Pfn, MiCacheTypeName(CacheType));
    }
}

static VOID CountLeaf(PFN_NUMBER Pfn, ULONG Level, MI_CACHE_TYPE CacheType, int Step)
{
    if (Level == 1) {
        CountSmallLeaf(Pfn, CacheType, Step);
        return;
    }
    for (ULONG64 Index = 0; Index < PagesOf(Level) / CHUNK_PAGES; Index += 1) {
        CHUNK *Chunk = &Watch.Chunks[Pfn / CHUNK_PAGES + Index];
        Chunk->LargeCount[CacheType] += (ULONG)Step;
        if (Step > 0 && IsMappedOtherwise(Chunk, 0, TRUE, CacheType)) {
            FAIL("W4: %s maps frames from 0x%llx as %s while some are mapped, or in the TLB, with "
                 "another type",
                 Watch.Routine, Pfn, MiCacheTypeName(CacheType));
        }
    }
}

ULONG64 WatchMapCount(PFN_NUMBER Pfn, MI_CACHE_TYPE CacheType)
{
    const CHUNK *Chunk = &Watch.Chunks[Pfn / CHUNK_PAGES];
    const ULONG64 Small = Chunk->PerPage != NULL ? Chunk->PerPage[CacheType][Pfn % CHUNK_PAGES] : 0;
    return Chunk->LargeCount[CacheType] + Small;
}

//
// W5: the TLB.
//

static BOOLEAN PagesOverlap(ULONG64 FirstA, ULONG64 CountA, ULONG64 FirstB, ULONG64 CountB)
{
    return FirstA < FirstB + CountB && FirstB < FirstA + CountA;
}

static VOID CheckNoStaleAddress(ULONG_PTR Va, ULONG64 PageCount, const CHAR *What)
{
    for (ULONG64 Index = 0; Index < Watch.StaleCount; Index += 1) {
        const STALE *Stale = &Watch.Stale[Index];
        if (PagesOverlap(Stale->Va >> PAGE_SHIFT, PagesOf(Stale->Level), Va >> PAGE_SHIFT,
                         PageCount)) {
            FAIL("W5: %s %s 0x%llx, which the TLB still translates to frame 0x%llx", Watch.Routine,
                 What, Stale->Va, Stale->Pfn);
        }
    }
}

// Whether what the TLB remembers may be forgotten later: by other processors, of small mappings, at level 0.
static BOOLEAN MayWait(const STALE *Stale)
{
    return KeNumberProcessors > 1 && MmVerifierLevel == 0 && Stale->Level == 1 &&
           Stale->Va - MiArchLayout[MiRegionSystemPtes].BaseVa <
               MiArchLayout[MiRegionSystemPtes].ByteCount;
}

// How many times the TLB remembers a frame with this type, by addresses that may wait.
static ULONG64 WaitingCount(PFN_NUMBER Pfn, MI_CACHE_TYPE CacheType)
{
    ULONG64 Count = 0;
    for (ULONG64 Index = 0; Index < Watch.StaleCount; Index += 1) {
        const STALE *Stale = &Watch.Stale[Index];
        Count += MayWait(Stale) && Stale->Pfn == Pfn && Stale->CacheType == CacheType;
    }
    return Count;
}

static VOID CheckNoStaleFrame(PFN_NUMBER Pfn)
{
    for (ULONG64 Index = 0; Index < Watch.StaleCount; Index += 1) {
        const STALE *Stale = &Watch.Stale[Index];
        if (!MayWait(Stale) && PagesOverlap(Stale->Pfn, PagesOf(Stale->Level), Pfn, 1)) {
            FAIL("W5: %s frees frame 0x%llx, which the TLB still reaches at 0x%llx", Watch.Routine,
                 Pfn, Stale->Va);
        }
    }
}

static VOID RememberStale(ULONG_PTR Va, ULONG Level, PFN_NUMBER Pfn, MI_CACHE_TYPE CacheType)
{
    Watch.Stale = Grow(Watch.Stale, Watch.StaleCount, &Watch.StaleCapacity, sizeof(STALE));
    Watch.Stale[Watch.StaleCount++] = (STALE){Va, Pfn, Level, CacheType};
}

static VOID ForgetStale(ULONG64 Index)
{
    const STALE Stale = Watch.Stale[Index];
    CountLeaf(Stale.Pfn, Stale.Level, Stale.CacheType, -1);
    Watch.Stale[Index] = Watch.Stale[--Watch.StaleCount];
}

VOID WatchFlushPage(ULONG_PTR Va)
{
    for (ULONG64 Index = Watch.StaleCount; Index > 0; Index -= 1) {
        const STALE *Stale = &Watch.Stale[Index - 1];
        if (PagesOverlap(Stale->Va >> PAGE_SHIFT, PagesOf(Stale->Level), Va >> PAGE_SHIFT, 1)) {
            ForgetStale(Index - 1);
        }
    }
}

VOID WatchFlushAll(VOID)
{
    while (Watch.StaleCount > 0) {
        ForgetStale(Watch.StaleCount - 1);
    }
    Watch.LostTableCount = 0;
}

//
// W7: the caches.
//

static VOID ExpectCacheFlush(PFN_NUMBER Pfn)
{
    Watch.UnflushedFrames = Grow(Watch.UnflushedFrames, Watch.UnflushedCount,
                                 &Watch.UnflushedCapacity, sizeof(PFN_NUMBER));
    Watch.UnflushedFrames[Watch.UnflushedCount++] = Pfn;
}

static VOID NoteCacheUse(PFN_NUMBER Pfn, MI_CACHE_TYPE CacheType)
{
    WATCHED_FRAME *Frame = &Watch.Frames[Pfn];
    if (CacheType == MiCacheWriteBack && Frame->WasUncached) {
        Frame->CacheFlushCall = 0; // an earlier one does not count
        ExpectCacheFlush(Pfn);
    } else if (CacheType != MiCacheWriteBack && Frame->WasCached) {
        ExpectCacheFlush(Pfn);
    }
    Frame->WasCached = CacheType == MiCacheWriteBack;
    Frame->WasUncached = CacheType != MiCacheWriteBack;
}

VOID WatchFlushCache(ULONG_PTR Va, SIZE_T ByteCount)
{
    CHECK(ByteCount > 0);
    for (ULONG_PTR Page = Va & ~(ULONG_PTR)(PAGE_SIZE - 1); Page < Va + ByteCount;
         Page += PAGE_SIZE) {
        const FAKE_PAGE At = FakeWalk(Page);
        if (At.Level == 0) {
            FAIL("W7: %s flushes the cache at 0x%llx, where nothing is mapped", Watch.Routine,
                 (ULONG64)Page);
        }
        if (FakeIsRam(At.Pfn)) {
            Watch.Frames[At.Pfn].CacheFlushCall = Watch.Call;
        }
    }
}

//
// Leaves that come and go.
//

static BOOLEAN IsDirectMap(ULONG_PTR Va)
{
    const MI_VIRTUAL_REGION *DirectMap = &MiArchLayout[MiRegionDirectMap];
    return Va >= DirectMap->BaseVa && Va - DirectMap->BaseVa < DirectMap->ByteCount;
}

// W6.
static VOID CheckDirectLeaf(ULONG_PTR Va, ULONG Level, PFN_NUMBER Pfn, MI_PROTECTION Protection)
{
    const PFN_NUMBER Own = (Va - MiArchLayout[MiRegionDirectMap].BaseVa) >> PAGE_SHIFT;
    if (Own != Pfn || Protection.Access != MiAccessReadWrite ||
        Protection.CacheType != MiCacheWriteBack) {
        FAIL("W6: the direct map at 0x%llx has frame 0x%llx, %s %s", (ULONG64)Va, Pfn,
             MiAccessName(Protection.Access), MiCacheTypeName(Protection.CacheType));
    }
    for (ULONG64 Index = 0; Index < PagesOf(Level); Index += 1) {
        if (!FakeIsRam(Pfn + Index)) {
            FAIL("W6: the direct map reaches frame 0x%llx, which is not RAM", Pfn + Index);
        }
    }
}

// W3: what a leaf elsewhere may reach.
static VOID CheckOtherLeaf(ULONG_PTR Va, ULONG Level, PFN_NUMBER Pfn)
{
    for (ULONG64 Index = 0; Index < PagesOf(Level) && FakeIsRam(Pfn + Index); Index += 1) {
        const MI_PFN_STATE State = MiPfnState(Pfn + Index);
        if (State == MiPfnTable || MiIsFree(State)) {
            FAIL("W3: %s maps frame 0x%llx at 0x%llx, which is %s", Watch.Routine, Pfn + Index,
                 (ULONG64)Va, State == MiPfnTable ? "a page table" : "free");
        }
    }
}

static VOID AddLeaf(ULONG_PTR Va, ULONG Level, MMPTE Pte)
{
    const PFN_NUMBER Pfn = MiArchPtePfn(Pte, Level);
    const MI_PROTECTION Protection = MiArchPteProtection(Pte, Level);
    CHECK(MiArchIsLeafAllowed(Level) && Pfn % PagesOf(Level) == 0);
    if (IsDirectMap(Va)) {
        CheckDirectLeaf(Va, Level, Pfn, Protection);
    } else {
        CheckOtherLeaf(Va, Level, Pfn);
    }
    CheckNoStaleAddress(Va, PagesOf(Level), "maps something at");
    CountLeaf(Pfn, Level, Protection.CacheType, +1);
    for (ULONG64 Index = 0; Index < PagesOf(Level) && FakeIsRam(Pfn + Index); Index += 1) {
        NoteCacheUse(Pfn + Index, Protection.CacheType);
    }
    FakeMirrorLeaf(Va, PagesOf(Level) << PAGE_SHIFT, Pfn);
}

WATCH_READS WatchReads;

// Whether the processor reads this leaf at once.
static BOOLEAN ReadsLeaf(VOID)
{
    static ULONG Turn;
    Turn = Turn * 1103515245 + 12345;
    return WatchReads == WatchReadsAll || (WatchReads == WatchReadsSome && (Turn >> 16) % 2 == 0);
}

static VOID ReadLeaf(PFN_NUMBER TablePfn, ULONG Index, ULONG Level)
{
    if (ReadsLeaf()) {
        FakeUseLeaf(TablePfn, Index, Level);
    }
}

static VOID RemoveLeaf(ULONG_PTR Va, ULONG Level, MMPTE Pte)
{
    RememberStale(Va, Level, MiArchPtePfn(Pte, Level), MiArchPteProtection(Pte, Level).CacheType);
    FakeMirrorNothing(Va, PagesOf(Level) << PAGE_SHIFT);
}

static BOOLEAN IsPool(ULONG_PTR Va)
{
    return Va - MiArchLayout[MiRegionPool].BaseVa < MiArchLayout[MiRegionPool].ByteCount;
}

// W1.
static VOID NoteChange(PFN_NUMBER TablePfn, ULONG Index, ULONG_PTR Va)
{
    ULONG *Call = &Watch.EntryCalls[TablePfn * MI_PTES_PER_TABLE + Index];
    if (Watch.Depth > 0 && *Call == Watch.Call && !IsPool(Va)) {
        FAIL("W1: %s changes twice what 0x%llx translates to", Watch.Routine, (ULONG64)Va);
    }
    *Call = Watch.Call;
}

//
// Tables that come and go.
//

static ULONG_PTR VaOfEntry(ULONG_PTR BaseVa, ULONG Level, ULONG Index)
{
    return BaseVa + ((Index * PagesOf(Level)) << PAGE_SHIFT);
}

static BOOLEAN IsSelfMap(ULONG Level, ULONG Index)
{
    return Level == TOP_LEVEL && Index == MiArchSelfMapSlot();
}

// W3, for the table and all below it.
static VOID LinkTable(PFN_NUMBER TablePfn, ULONG Level, ULONG_PTR BaseVa)
{
    if (Level == 0 || !FakeIsRam(TablePfn) || MiPfnState(TablePfn) != MiPfnTable) {
        FAIL("W3: %s links frame 0x%llx as a table of level %u, which it is not", Watch.Routine,
             TablePfn, Level);
    }
    WATCHED_FRAME *Frame = &Watch.Frames[TablePfn];
    if (Frame->TableLevel != 0) {
        FAIL("W3: %s links table 0x%llx a second time", Watch.Routine, TablePfn);
    }
    Frame->TableLevel = (UCHAR)Level;
    Frame->BaseVa = BaseVa;
    for (ULONG Index = 0; Index < MI_PTES_PER_TABLE; Index += 1) {
        const MMPTE Entry = FakeLoad(TablePfn, Index);
        const MI_PTE_KIND Kind = MiArchPteKind(Entry, Level);
        if (Kind == MiPteLeaf) {
            AddLeaf(VaOfEntry(BaseVa, Level, Index), Level, Entry);
            ReadLeaf(TablePfn, Index, Level);
        } else if (Kind == MiPteTable && !IsSelfMap(Level, Index)) {
            LinkTable(MiArchPtePfn(Entry, Level), Level - 1, VaOfEntry(BaseVa, Level, Index));
        }
    }
}

static VOID UnlinkTable(PFN_NUMBER TablePfn)
{
    WATCHED_FRAME *Frame = &Watch.Frames[TablePfn];
    const ULONG Level = Frame->TableLevel;
    CHECK(Level != 0);
    for (ULONG Index = 0; Index < MI_PTES_PER_TABLE; Index += 1) {
        const MMPTE Entry = FakeLoad(TablePfn, Index);
        const MI_PTE_KIND Kind = MiArchPteKind(Entry, Level);
        if (Kind == MiPteLeaf) {
            FAIL("W2: %s takes out a table that still maps 0x%llx", Watch.Routine,
                 (ULONG64)VaOfEntry(Frame->BaseVa, Level, Index));
        }
        if (Kind == MiPteTable) {
            UnlinkTable(MiArchPtePfn(Entry, Level));
        }
    }
    Frame->TableLevel = 0;
    Watch.LostTables =
        Grow(Watch.LostTables, Watch.LostTableCount, &Watch.LostTableCapacity, sizeof(PFN_NUMBER));
    Watch.LostTables[Watch.LostTableCount++] = TablePfn;
}

// W2: a leaf becomes a table of smaller ones.
static VOID SplitLeaf(ULONG_PTR Va, ULONG Level, MMPTE Leaf, PFN_NUMBER TablePfn)
{
    const MI_PROTECTION Protection = MiArchPteProtection(Leaf, Level);
    for (ULONG Index = 0; Index < MI_PTES_PER_TABLE; Index += 1) {
        const MMPTE Part = FakeLoad(TablePfn, Index);
        const BOOLEAN IsLeaf = MiArchPteKind(Part, Level - 1) == MiPteLeaf;
        const MI_PROTECTION Its =
            IsLeaf ? MiArchPteProtection(Part, Level - 1) : (MI_PROTECTION){0};
        if (!IsLeaf ||
            MiArchPtePfn(Part, Level - 1) !=
                MiArchPtePfn(Leaf, Level) + Index * PagesOf(Level - 1) ||
            Its.Access != Protection.Access || Its.CacheType != Protection.CacheType) {
            FAIL("W2: the split at 0x%llx does not translate as before", (ULONG64)Va);
        }
    }
    CountLeaf(MiArchPtePfn(Leaf, Level), Level, Protection.CacheType, -1);
    LinkTable(TablePfn, Level - 1, Va);
}

VOID WatchLoadRoot(PFN_NUMBER RootPfn)
{
    Watch.StaleCount = 0;
    Watch.LostTableCount = 0;
    LinkTable(RootPfn, TOP_LEVEL, 0);
}

//
// A store. Rows: what the entry was; columns: what it becomes.
//

static VOID StoreOverEmpty(PFN_NUMBER TablePfn, ULONG Index, ULONG_PTR Va, MMPTE New)
{
    const ULONG Level = Watch.Frames[TablePfn].TableLevel;
    switch (MiArchPteKind(New, Level)) {
    case MiPteEmpty:
        return;
    case MiPteTable:
        LinkTable(MiArchPtePfn(New, Level), Level - 1, Va);
        return;
    case MiPteLeaf:
        NoteChange(TablePfn, Index, Va);
        AddLeaf(Va, Level, New);
        ReadLeaf(TablePfn, Index, Level);
        return;
    }
}

static VOID StoreOverTable(PFN_NUMBER TablePfn, ULONG Index, ULONG_PTR Va, MMPTE Old, MMPTE New)
{
    const ULONG Level = Watch.Frames[TablePfn].TableLevel;
    UnlinkTable(MiArchPtePfn(Old, Level));
    StoreOverEmpty(TablePfn, Index, Va, New);
}

// W2: the TLB keeps the old rights until it is told, so the old leaf counts beside the new one.
static VOID ChangeRights(PFN_NUMBER TablePfn, ULONG Index, ULONG_PTR Va, MMPTE Old, MMPTE New)
{
    const ULONG Level = Watch.Frames[TablePfn].TableLevel;
    const PFN_NUMBER Pfn = MiArchPtePfn(New, Level);
    const MI_CACHE_TYPE CacheType = MiArchPteProtection(New, Level).CacheType;
    if (IsDirectMap(Va) || MiArchPtePfn(Old, Level) != Pfn ||
        MiArchPteProtection(Old, Level).CacheType != CacheType) {
        FAIL("W2: %s stores a leaf over a leaf at 0x%llx", Watch.Routine, (ULONG64)Va);
    }
    NoteChange(TablePfn, Index, Va);
    CountLeaf(Pfn, Level, CacheType, +1);
    RememberStale(Va, Level, Pfn, CacheType);
    ReadLeaf(TablePfn, Index, Level);
}

static VOID StoreOverLeaf(PFN_NUMBER TablePfn, ULONG Index, ULONG_PTR Va, MMPTE Old, MMPTE New)
{
    const ULONG Level = Watch.Frames[TablePfn].TableLevel;
    switch (MiArchPteKind(New, Level)) {
    case MiPteEmpty:
        NoteChange(TablePfn, Index, Va);
        RemoveLeaf(Va, Level, Old);
        return;
    case MiPteTable:
        SplitLeaf(Va, Level, Old, MiArchPtePfn(New, Level));
        return;
    case MiPteLeaf:
        ChangeRights(TablePfn, Index, Va, Old, New);
        return;
    }
}

VOID WatchStore(PFN_NUMBER TablePfn, ULONG Index, MMPTE Old, MMPTE New)
{
    if (!FakeIsRam(TablePfn) || MiPfnState(TablePfn) != MiPfnTable) {
        FAIL("W3: %s stores an entry in frame 0x%llx, which is not a table", Watch.Routine,
             TablePfn);
    }
    const ULONG Level = Watch.Frames[TablePfn].TableLevel;
    if (Level == 0 || Old.Value == New.Value) {
        return;
    }
    const ULONG_PTR Va = VaOfEntry(Watch.Frames[TablePfn].BaseVa, Level, Index);
    switch (MiArchPteKind(Old, Level)) {
    case MiPteEmpty:
        StoreOverEmpty(TablePfn, Index, Va, New);
        return;
    case MiPteTable:
        StoreOverTable(TablePfn, Index, Va, Old, New);
        return;
    case MiPteLeaf:
        StoreOverLeaf(TablePfn, Index, Va, Old, New);
        return;
    }
}

VOID WatchTake(PFN_NUMBER TablePfn, ULONG Index, MMPTE Old)
{
    if (!FakeIsRam(TablePfn) || MiPfnState(TablePfn) != MiPfnTable) {
        FAIL("W3: %s takes an entry of frame 0x%llx, which is not a table", Watch.Routine,
             TablePfn);
    }
    const ULONG Level = Watch.Frames[TablePfn].TableLevel;
    if (Level == 0 || MiArchPteKind(Old, Level) != MiPteLeaf) {
        return;
    }
    const ULONG_PTR Va = VaOfEntry(Watch.Frames[TablePfn].BaseVa, Level, Index);
    NoteChange(TablePfn, Index, Va);
    RemoveLeaf(Va, Level, Old);
    if (!MiArchWasUsed(Old)) {
        ForgetStale(Watch.StaleCount - 1); // which is the leaf that was just removed
    }
}

//
// Frames and addresses that may be used again.
//

VOID WatchFreeFrame(PFN_NUMBER Pfn)
{
    const MMPFN *Element = MiPfnElement(Pfn);
    if (Element != NULL && (Element->MapCount != 0 || Element->LockCount != 0)) {
        return; // mm stops the machine instead
    }
    if (Watch.Frames[Pfn].TableLevel != 0) {
        FAIL("W3: %s frees table 0x%llx, which is linked", Watch.Routine, Pfn);
    }
    for (ULONG64 Index = 0; Index < Watch.LostTableCount; Index += 1) {
        if (Watch.LostTables[Index] == Pfn) {
            FAIL("W5: %s frees table 0x%llx before the processor has forgotten it", Watch.Routine,
                 Pfn);
        }
    }
    CheckNoStaleFrame(Pfn);
    const BOOLEAN HasAlias = FakeWalk((ULONG_PTR)MiFrameToVa(Pfn)).Level != 0;
    for (ULONG Type = 0; Type < MiCacheTypeCount; Type += 1) {
        const ULONG64 Expected = HasAlias && Type == MiCacheWriteBack;
        // Remembered with another type than write-back it cannot be freed: its alias comes back.
        const ULONG64 Waiting = Type == MiCacheWriteBack ? WaitingCount(Pfn, MiCacheWriteBack) : 0;
        if (WatchMapCount(Pfn, (MI_CACHE_TYPE)Type) != Expected + Waiting) {
            FAIL("W5: %s frees frame 0x%llx, which is mapped", Watch.Routine, Pfn);
        }
    }
    if (!HasAlias) {
        FAIL("A1: %s frees frame 0x%llx without its place in the direct map", Watch.Routine, Pfn);
    }
}

VOID WatchFreeAddresses(ULONG_PTR Va, PFN_NUMBER PageCount)
{
    CheckNoStaleAddress(Va, PageCount, "frees");
    if (FakeWalk(Va).Level != 0 || FakeWalk(Va + ((PageCount - 1) << PAGE_SHIFT)).Level != 0) {
        FAIL("W5: %s frees the addresses from 0x%llx, which are mapped", Watch.Routine,
             (ULONG64)Va);
    }
}

//
// Calls.
//

VOID WatchBeginCall(const CHAR *Routine)
{
    Watch.Depth += 1;
    if (Watch.Depth == 1) {
        Watch.Call += 1;
        Watch.Routine = Routine;
        Watch.IrqlAtBegin = FakeIrql;
    }
}

VOID WatchEndCall(VOID)
{
    Watch.Depth -= 1;
    if (Watch.Depth > 0) {
        return;
    }
    for (ULONG64 Index = 0; Index < Watch.StaleCount; Index += 1) {
        if (!MayWait(&Watch.Stale[Index])) {
            FAIL("W5: %s returns while the TLB still translates 0x%llx to frame 0x%llx",
                 Watch.Routine, Watch.Stale[Index].Va, Watch.Stale[Index].Pfn);
        }
    }
    if (Watch.LostTableCount != 0) {
        FAIL("W5: %s returns while the processor may still walk table 0x%llx", Watch.Routine,
             Watch.LostTables[0]);
    }
    for (; Watch.UnflushedCount > 0; Watch.UnflushedCount -= 1) {
        const PFN_NUMBER Pfn = Watch.UnflushedFrames[Watch.UnflushedCount - 1];
        if (Watch.Frames[Pfn].CacheFlushCall != Watch.Call) {
            FAIL("W7: %s leaves cache lines of frame 0x%llx, the type of which it changed",
                 Watch.Routine, Pfn);
        }
    }
    if (FakeHeldRanks != 0 || FakeIrql != Watch.IrqlAtBegin) {
        FAIL("W8: %s returns with locks 0x%x at IRQL %u", Watch.Routine, FakeHeldRanks, FakeIrql);
    }
    Watch.Routine = "nobody";
}

VOID WatchEndCalls(VOID)
{
    if (Watch.Depth > 0) {
        Watch.Depth = 1;
        WatchEndCall();
    }
}

VOID WatchAbandonCall(VOID)
{
    Watch.Depth = 0;
    WatchFlushAll();
    Watch.UnflushedCount = 0;
}

//
// The audit.
//

typedef struct _AUDIT {
    ULONG64 LeafCount[5];
    ULONG64 TableCount;
} AUDIT;

static VOID AuditTable(PFN_NUMBER TablePfn, ULONG Level, ULONG_PTR BaseVa, AUDIT *Audit)
{
    const WATCHED_FRAME *Frame = &Watch.Frames[TablePfn];
    CHECK(Frame->TableLevel == Level && Frame->BaseVa == BaseVa &&
          MiPfnState(TablePfn) == MiPfnTable);
    Audit->TableCount += 1;
    for (ULONG Index = 0; Index < MI_PTES_PER_TABLE; Index += 1) {
        const MMPTE Entry = FakeLoad(TablePfn, Index);
        const MI_PTE_KIND Kind = MiArchPteKind(Entry, Level);
        if (Kind == MiPteLeaf) {
            Audit->LeafCount[Level] += 1;
            CHECK(WatchMapCount(MiArchPtePfn(Entry, Level),
                                MiArchPteProtection(Entry, Level).CacheType) > 0);
        } else if (Kind == MiPteTable && !IsSelfMap(Level, Index)) {
            AuditTable(MiArchPtePfn(Entry, Level), Level - 1, VaOfEntry(BaseVa, Level, Index),
                       Audit);
        }
    }
}

VOID WatchAudit(VOID)
{
    AUDIT Audit = {0};
    AuditTable(FakeRootPfn(), TOP_LEVEL, 0, &Audit);
    CHECK_EQUAL(Audit.TableCount, MiPfnStateCountOf(MiPfnTable));
    for (ULONG64 Index = 0; Index < Watch.StaleCount; Index += 1) {
        CHECK(MayWait(&Watch.Stale[Index]));
    }
    CHECK_EQUAL(Watch.LostTableCount, 0);
}
