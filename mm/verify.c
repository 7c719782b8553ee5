// MmVerify: every numbered invariant of mm, as code. Tests call it after each case; it may be
// called at any time at IRQL <= DISPATCH_LEVEL. The other processors stand still meanwhile, so none of
// them is inside mm at DISPATCH_LEVEL; no thread may be inside of one of its routines below that. Its
// cost is a walk over everything.
//
// An invariant that one file can check alone is checked there; here are those that tie files
// together.
#include "mm/mi.h"

// Enough to see what is wrong; where one thing is, thousands may follow.
#define MI_VIOLATIONS_PRINTED 16

static ULONG MiViolationCount;

// Counted in one walk, compared with what another one found: a count is cheaper than a search for
// each page.
static ULONG64 MiAliasesExpected;
static ULONG64 MiAliasesSeen;
static ULONG64 MiMappedPagesExpected;
static ULONG64 MiMappedPagesSeen;
static ULONG64 MiLocksSeen;

static VOID MiExpect(BOOLEAN Holds, const CHAR *Invariant, const CHAR *Sentence, ULONG64 Where)
{
    if (Holds) {
        return;
    }
    MiViolationCount += 1;
    if (MiViolationCount <= MI_VIOLATIONS_PRINTED) {
        DbgPrint("mm: invariant %s is violated: %s (0x%llx)\n", Invariant, Sentence, Where);
    } else if (MiViolationCount == MI_VIOLATIONS_PRINTED + 1) {
        DbgPrint("mm: more invariants are violated; they are only counted\n");
    }
}

static VOID MiVerifyPhysicalMap(VOID)
{
    ULONG RegionCount;
    const MI_PHYSICAL_REGION *Regions = MiPhysicalRegions(&RegionCount);
    for (ULONG Index = 0; Index < RegionCount; Index += 1) {
        const MI_PFN_RANGE Range = Regions[Index].Range;
        MiExpect(Range.FirstPfn <= Range.LastPfn && Regions[Index].Kind != MiPhysicalIoSpace &&
                     Range.LastPfn <= MiHighestPfn(),
                 "P2", "a region is empty, or I/O space, or beyond the processor", Range.FirstPfn);
        if (Index > 0) {
            const MI_PFN_RANGE Previous = Regions[Index - 1].Range;
            MiExpect(Previous.LastPfn < Range.FirstPfn, "P1", "regions overlap or are not sorted",
                     Range.FirstPfn);
            MiExpect(Previous.LastPfn + 1 < Range.FirstPfn ||
                         Regions[Index - 1].Kind != Regions[Index].Kind,
                     "P1", "neighbouring regions are of one kind", Range.FirstPfn);
        }
    }
}

static BOOLEAN MiIsAliasMissing(PFN_NUMBER Pfn)
{
    PFN_NUMBER Found;
    return !MiTranslate((ULONG_PTR)MiFrameToVa(Pfn), &Found);
}

static VOID MiVerifyFrame(PFN_NUMBER Pfn, const MMPFN *Element)
{
    MiLocksSeen += Element->LockCount;
    const BOOLEAN IsHidden =
        Element->State == MiPfnImage ||
        (MiHasChosenCacheType((MI_PFN_STATE)Element->State) &&
         Element->CacheType != MiCacheUndecided && Element->CacheType != MiCacheWriteBack);
    if (MiIsFree((MI_PFN_STATE)Element->State)) {
        MiExpect(FALSE, "F3", "a free frame has a cache type or a mapping", Pfn);
        return;
    }
    if (Element->State == MiPfnNotRam) {
        return;
    }
    if (IsHidden) {
        MiExpect(MiIsAliasMissing(Pfn), "A1", "a frame's alias should be missing", Pfn);
        return;
    }
    // The kernel image is no part of the direct map.
    MiAliasesExpected += Element->State != MiPfnKernel || !MiIsAliasMissing(Pfn);
}

// All free frames look alike from MapCount on, and all cached ones.
static inline BOOLEAN MiLooksLike(const MMPFN *Element, const MMPFN *Other)
{
    const SIZE_T Skipped = FIELD_OFFSET(MMPFN, MapCount);
    return RtlEqualMemory((const UCHAR *)Element + Skipped, (const UCHAR *)Other + Skipped,
                          sizeof(MMPFN) - FIELD_OFFSET(MMPFN, MapCount));
}

// Most frames are free: one comparison each.
static VOID MiVerifyFrames(MI_PFN_RANGE Range, BOOLEAN IsRam, ULONG64 *Counts)
{
    static const MMPFN Free = {.State = MiPfnFree, .CacheType = MI_CACHE_NONE};
    static const MMPFN Cached = {.State = MiPfnCached, .CacheType = MI_CACHE_NONE};
    const MMPFN *const Database = MiPfnDatabase;
    ULONG64 FreeCount = 0;
    for (PFN_NUMBER Pfn = Range.FirstPfn; Pfn <= Range.LastPfn; Pfn += 1) {
        const MMPFN *Element = &Database[Pfn];
        if (IsRam && MiLooksLike(Element, &Free)) {
            FreeCount += 1;
            continue;
        }
        Counts[Element->State] += 1;
        if (IsRam && MiLooksLike(Element, &Cached)) {
            continue;
        }
        MiExpect((Element->State != MiPfnNotRam) == IsRam, "F1",
                 "the database and the physical map disagree about RAM", Pfn);
        MiVerifyFrame(Pfn, Element);
    }
    Counts[MiPfnFree] += FreeCount;
}

// Follows a list of frames in one state to its end. How many there are of the Most that can be.
static ULONG64 MiCountListed(PFN_NUMBER Pfn, MI_PFN_STATE State, ULONG64 Most)
{
    const MMPFN *const Database = MiPfnDatabase;
    ULONG64 Count = 0;
    while (Pfn != MI_NO_PFN && Pfn < MiPfnDatabaseEnd && Count < Most &&
           Database[Pfn].State == State) {
        Count += 1;
        Pfn = Database[Pfn].Flink;
    }
    MiExpect(Pfn == MI_NO_PFN, "F2", "a list of free frames leads elsewhere, or in a circle", Pfn);
    return Count;
}

static VOID MiVerifyFreeLists(VOID)
{
    const ULONG64 FreeCount = MiPfnStateCountOf(MiPfnFree);
    MiExpect(MiCountListed(MiFirstFreePfn(), MiPfnFree, FreeCount) == FreeCount, "F2",
             "a free frame is not in the list, or twice", MiFirstFreePfn());
    ULONG64 Rest = MiPfnStateCountOf(MiPfnCached);
    for (ULONG Processor = 0; Processor < MI_ARCH_PROCESSORS; Processor += 1) {
        Rest -= MiCountListed(MiFirstCachedPfn(Processor), MiPfnCached, Rest);
    }
    MiExpect(Rest == 0, "F2", "a cached frame is in no cache", Rest);
}

static VOID MiVerifyPfnDatabase(VOID)
{
    ULONG64 Counts[MiPfnStateCount] = {0};
    PFN_NUMBER LastPfn;
    MiAliasesExpected = 0;
    MiLocksSeen = 0;
    for (PFN_NUMBER Pfn = 0; Pfn <= MiHighestRamPfn(); Pfn = LastPfn + 1) {
        const BOOLEAN IsRam = MiPhysicalKindOf(Pfn, &LastPfn) == MiPhysicalRam;
        LastPfn = LastPfn < MiHighestRamPfn() ? LastPfn : MiHighestRamPfn();
        MiVerifyFrames((MI_PFN_RANGE){Pfn, LastPfn}, IsRam, Counts);
    }
    MiAliasesExpected += Counts[MiPfnFree] + Counts[MiPfnCached];
    for (ULONG State = 0; State < MiPfnStateCount; State += 1) {
        MiExpect(Counts[State] == MiPfnStateCountOf((MI_PFN_STATE)State), "F2",
                 "the count of a state is wrong", State);
    }
    MiVerifyFreeLists();
}

//
// Page tables. Every leaf must belong somewhere, and every frame in state Table must be in the tree
// once.
//

static ULONG64 MiTablesSeen;
static ULONG64 MiImagePagesSeen;

static VOID MiVerifyTable(PFN_NUMBER TablePfn, ULONG Level)
{
    MiTablesSeen += 1;
    MiExpect(MiPfnState(TablePfn) == MiPfnTable, "T2",
             "an entry points to a frame that is no table", TablePfn);
    if (Level == 1) {
        return; // neither tables below nor anything to align
    }
    const MMPTE *Table = MiFrameToVa(TablePfn);
    for (ULONG Index = 0; Index < MI_PTES_PER_TABLE; Index += 1) {
        if (Level == MiArchTopLevel() && Index == MiArchSelfMapSlot()) {
            continue;
        }
        const MMPTE Entry = MiArchLoadPte(&Table[Index]);
        const MI_PTE_KIND Kind = MiArchPteKind(Entry, Level);
        if (Kind == MiPteTable) {
            MiVerifyTable(MiArchPtePfn(Entry, Level), Level - 1);
        } else if (Kind == MiPteLeaf) {
            MiExpect(MiArchIsLeafAllowed(Level) &&
                         MiArchPtePfn(Entry, Level) % MiPagesPerLeaf(Level) == 0,
                     "T3", "a leaf is where none may be, or is not aligned", Entry.Value);
        }
    }
}

static BOOLEAN MiIsIn(MI_REGION Region, ULONG_PTR Va)
{
    return Va - MiArchLayout[Region].BaseVa < MiArchLayout[Region].ByteCount;
}

static BOOLEAN MiIsWritableAndExecutable(MI_ACCESS Access)
{
    return Access == MiAccessExecuteReadWrite;
}

// Only a driver that asked for PAGE_EXECUTE_READWRITE gets just that.
static VOID MiVerifySystemLeaf(ULONG_PTR Va, MI_PROTECTION Protection)
{
    if (!MiIsWritableAndExecutable(Protection.Access)) {
        return;
    }
    const PMI_MAPPING Mapping = MiFindMappingAround((PVOID)Va);
    MiExpect(Mapping != NULL && Mapping->Protection.Access == MiAccessExecuteReadWrite, "T4",
             "a page is writable and executable, and nobody asked for it", Va);
}

static BOOLEAN MiVerifyLeaf(ULONG_PTR Va, ULONG Level, MMPTE Leaf, PVOID Context)
{
    UNREFERENCED_PARAMETER(Context);
    const PFN_NUMBER Pfn = MiArchPtePfn(Leaf, Level);
    const MI_PROTECTION Protection = MiArchPteProtection(Leaf, Level);
    if (MiIsIn(MiRegionDirectMap, Va)) {
        MiAliasesSeen += MiPagesPerLeaf(Level);
        MiExpect(Va == (ULONG_PTR)MiFrameToVa(Pfn) && MiPfnElement(Pfn) != NULL &&
                     MiPfnElement(Pfn + MiPagesPerLeaf(Level) - 1) != NULL &&
                     Protection.Access == MiAccessReadWrite &&
                     Protection.CacheType == MiCacheWriteBack,
                 "C2",
                 "the direct map holds something but write-back, writable, non-executable RAM", Va);
    } else if (MiIsIn(MiRegionSystemPtes, Va) || MiIsIn(MiRegionLargeSystemPtes, Va)) {
        MiMappedPagesSeen += MiPagesPerLeaf(Level);
        MiVerifySystemLeaf(Va, Protection);
    } else if (MiIsIn(MiRegionPool, Va)) {
        MiExpect(MiPfnState(Pfn) == MiPfnPool || MiPfnState(Pfn) == MiPfnDriver, "T4",
                 "a pool address leads to a frame that is not the pool's", Va);
    } else if (MiIsIn(MiRegionDriverImages, Va)) {
        MiImagePagesSeen += 1;
        MiExpect(MiIsImageLeafConsistent(Va, Pfn, Protection), "I1",
                 "a page of a driver's image is not as its frame and its record say", Va);
    } else if (MiIsIn(MiRegionSharedData, Va)) {
        MiExpect(MiPfnState(Pfn) == MiPfnKernel && Protection.Access == MiAccessRead, "T4",
                 "the shared page can be written to, or is not the kernel's", Va);
    } else {
        MiExpect(MiIsIn(MiRegionKernelImage, Va) && !MiIsWritableAndExecutable(Protection.Access),
                 "T4", "a leaf lies in no region, or the kernel image is writable and executable",
                 Va);
    }
    return TRUE;
}

static VOID MiVerifyPageTables(VOID)
{
    MiTablesSeen = 0;
    MiImagePagesSeen = 0;
    MiAliasesSeen = 0;
    MiMappedPagesSeen = 0;
    MiVerifyTable(MiRootPfn, MiArchTopLevel());
    MiExpect(MiTablesSeen == MiPfnStateCountOf(MiPfnTable), "T2",
             "some table is in the tree twice, or not at all", MiTablesSeen);
    MiWalkLeaves(MiVerifyLeaf, NULL);
    MiExpect(MiImagePagesSeen == MiPfnStateCountOf(MiPfnImage), "I2",
             "the pages of driver images are not the frames in that state", MiImagePagesSeen);
    MiExpect(MiAliasesSeen == MiAliasesExpected, "A1",
             "a frame's alias is missing from the direct map", MiAliasesSeen);
}

//
// Mappings.
//

static BOOLEAN MiIsUnmapped(ULONG_PTR Va)
{
    PFN_NUMBER Pfn;
    return !MiTranslate(Va, &Pfn);
}

static PFN_NUMBER MiMappedPagesOf(const MI_MAPPING *Mapping)
{
    switch (Mapping->Kind) {
    case MiMappingIdle:
        return 0;
    case MiMappingReserved:
        return Mapping->Reserved.MappedPageCount;
    case MiMappingIo:
    case MiMappingMdl:
        break;
    }
    return Mapping->PageCount;
}

// The frame that a mapping's record gives for one of its pages.
static PFN_NUMBER MiExpectedFrame(const MI_MAPPING *Mapping, PFN_NUMBER Page)
{
    switch (Mapping->Kind) {
    case MiMappingIdle:
        break;
    case MiMappingIo:
        return Mapping->Io.FirstPfn + Page;
    case MiMappingMdl:
        return MmGetMdlPfnArray(Mapping->Locked.Mdl)[Page - Mapping->SkippedPages];
    case MiMappingReserved:
        return MmGetMdlPfnArray(Mapping->Reserved.Mdl)[Page];
    }
    return MI_NO_PFN;
}

// Every page of a small mapping; of a large one the two at its ends, which is where a leaf could go
// wrong.
static VOID MiVerifyPagesOf(const MI_MAPPING *Mapping)
{
    const PFN_NUMBER Mapped = MiMappedPagesOf(Mapping);
    const PFN_NUMBER Step = Mapped > MI_PTES_PER_TABLE ? Mapped - 1 : 1;
    for (PFN_NUMBER Page = Mapping->SkippedPages; Page < Mapped; Page += Step) {
        PFN_NUMBER Pfn = MI_NO_PFN;
        (VOID) MiFindMappedFrame(Mapping->Va + (Page << PAGE_SHIFT), &Pfn);
        MiExpect(Pfn == MiExpectedFrame(Mapping, Page), "M2",
                 "a mapped page leads to a frame that its record does not name",
                 Mapping->Va + (Page << PAGE_SHIFT));
    }
    for (PFN_NUMBER Page = Mapped;
         Mapping->Region == MiRegionSystemPtes && Page < Mapping->SlotPages; Page += 1) {
        MiExpect(MiIsUnmapped(Mapping->Va + (Page << PAGE_SHIFT)), "M2",
                 "a page of a slot is mapped by nobody", Mapping->Va + (Page << PAGE_SHIFT));
    }
}

static VOID MiVerifyGuards(const MI_MAPPING *Mapping)
{
    const ULONG_PTR EndVa = Mapping->Va + (Mapping->SlotPages << PAGE_SHIFT);
    MiExpect(MiIsUnmapped(EndVa), "V2", "the guard behind a mapping is mapped", EndVa);
    MiExpect(MiIsUnmapped(Mapping->Va - PAGE_SIZE), "V2", "the guard before a mapping is mapped",
             Mapping->Va);
}

static VOID MiVerifyMdlOf(const MI_MAPPING *Mapping)
{
    const PMDL Mdl = Mapping->Kind == MiMappingMdl        ? Mapping->Locked.Mdl
                     : Mapping->Kind == MiMappingReserved ? Mapping->Reserved.Mdl
                                                          : NULL;
    if (Mdl != NULL) {
        const ULONG_PTR Offset = Mapping->Kind == MiMappingMdl ? Mdl->ByteOffset : 0;
        MiExpect((Mdl->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA) != 0 &&
                     (ULONG_PTR)Mdl->MappedSystemVa == MiShownVa(Mapping) + Offset,
                 "D1", "an MDL does not know its own mapping", Mapping->Va);
    }
}

// What the mappings should hold in the ledger.
typedef struct _MI_EXPECTED_HOLDERS {
    ULONG64 Frames;
    ULONG64 Ranges;
    ULONG64 IdleSlots;
} MI_EXPECTED_HOLDERS;

static VOID MiVerifyMapping(PMI_MAPPING Mapping, PVOID Context)
{
    MI_EXPECTED_HOLDERS *Holders = Context;
    Holders->IdleSlots += Mapping->Kind == MiMappingIdle;
    if (Mapping->Kind == MiMappingIo && Mapping->Io.Hold != MiHoldNothing) {
        const BOOLEAN IsRange = Mapping->Io.Hold == MiHoldAsRange;
        Holders->Ranges += IsRange;
        Holders->Frames += IsRange ? 0 : Mapping->PageCount;
    }
    MiMappedPagesExpected +=
        MiMappedPagesOf(Mapping) - Mapping->SkippedPages - Mapping->InaccessiblePages;
    MiExpect(MiFindSlotAt(Mapping->Va) == Mapping, "M1", "a mapping is not found at its address",
             Mapping->Va);
    MiExpect(Mapping->PageCount <= Mapping->SlotPages &&
                 MiIsSystemVaReserved(Mapping->Region, Mapping->Va, Mapping->SlotPages),
             "M1", "the addresses of a mapping are not reserved", Mapping->Va);
    MiVerifyGuards(Mapping);
    MiVerifyPagesOf(Mapping);
    MiVerifyMdlOf(Mapping);
}

static VOID MiVerifyAlone(PVOID Context)
{
    MI_EXPECTED_HOLDERS Expected = {0, 0, 0};
    ULONG64 FrameHolders;
    ULONG64 RangeHolders;
    MiViolationCount = 0;
    MiVerifyPhysicalMap();
    MiVerifyPfnDatabase();
    MiVerifyPageTables();
    MiExpect(MiIsZoneConsistent(MiRegionSystemPtes) &&
                 MiIsZoneConsistent(MiRegionLargeSystemPtes) && MiIsZoneConsistent(MiRegionPool) &&
                 MiIsZoneConsistent(MiRegionDriverImages),
             "V1", "the bitmap of system addresses does not agree with its counts", 0);
    MiMappedPagesExpected = 0;
    MiEnumerateSlots(MiVerifyMapping, &Expected);
    // Each mapping has its pages (M2), so a surplus lies in none of them.
    MiExpect(MiMappedPagesSeen == MiMappedPagesExpected, "T4",
             "leaves of system addresses belong to no mapping", MiMappedPagesSeen);
    MiExpect(MiListedSlotCount() == Expected.IdleSlots, "M3",
             "the lists of slots do not have just those that are idle", Expected.IdleSlots);
    MiExpect(MiIsLedgerConsistent(&FrameHolders, &RangeHolders), "C2",
             "the ledger contradicts itself, or names RAM", 0);
    MiExpect(FrameHolders == Expected.Frames + MiIoFramesHeldByMdls(), "C3",
             "the ledger's frames are not those of the mappings and MDLs", FrameHolders);
    MiExpect(RangeHolders == Expected.Ranges + MiPermanentRangeCount(), "C3",
             "the ledger's ranges are not those of the large mappings", RangeHolders);
    MiExpect(MiAreClaimsConsistent(), "O1", "claims overlap, or name RAM", 0);
    MiExpect(MiAreLocksConsistent(MiLocksSeen), "L1", "frames are locked that no MDL locks",
             MiLocksSeen);
    MiExpect(MiIsPoolConsistent(), "B1", "a pool page's list of free blocks is damaged", 0);
    MiExpect(MiAreBlocksConsistent(), "K2",
             "contiguous or non-cached memory is not as its record says", 0);
    MiExpect(MiAreImagesConsistent(), "I1", "the records of driver images overlap", 0);
    *(PULONG)Context = MiViolationCount;
}

// The slowest processor of a busy host is waited for; one that never comes is a violation, too.
#define MI_VERIFY_MILLISECONDS 30000

ULONG MmVerify(VOID)
{
    ULONG ViolationCount = 0;
    const BOOLEAN WasAlone = KiRunAlone(MiVerifyAlone, &ViolationCount, MI_VERIFY_MILLISECONDS);
    MiExpect(WasAlone, "AL3", "a processor does not stand still, so nothing was verified", 0);
    return ViolationCount + !WasAlone;
}
