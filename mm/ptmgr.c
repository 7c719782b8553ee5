// The page-table manager: one walker for all levels, and a decision before every deed.
//
//   MiPrepare...  makes tables; may fail; changes no translation
//   MiCommit...   stores leaves; cannot fail
//   MiClear...    takes leaves away; the caller flushes
//   MiSplit...    replaces a large leaf by a table of smaller ones that translate alike
//
// A contiguous range is mapped as a sequence of runs: leaves of one level within one table. The
// level of a run is the largest that the alignment of both addresses allows, so that prepare and
// commit, given the same range, agree.
//
// Tables that became empty stay and are used again. The one exception: where a large leaf will take
// the place of a table, the table leaves through a TLB batch, when the range is prepared.
//
// Invariants (checked by MmVerify):
//   T2  Every entry of kind Table points to a frame in state Table, and no such frame is pointed to
//       twice.
//   T3  Leaves have the alignment of their level and occur only at levels that allow them.
//   T4  Outside the self-map, a leaf to RAM lies in the direct map, in the kernel image, or in a
//       recorded mapping.
// Lock: MiPageTableLock, to add a table or to split. Leaves are stored without a lock: a range of
// addresses has one owner, who alone stores there, and its tables stay for as long as he owns it.
#include "mm/mi.h"

PFN_NUMBER MiRootPfn;

static KI_LOCK MiPageTableLock = KI_LOCK_INITIALIZER(MI_RANK_PAGE_TABLE, "MiPageTableLock");
static ULONG MiMaximumLeafLevel = MAXULONG;

static const MMPTE MiEmptyPte;

VOID MmLimitLeafSize(VOID)
{
    MiMaximumLeafLevel = 1;
}

ULONG64 MiPagesPerLeaf(ULONG Level)
{
    NT_ASSERT(Level >= 1 && Level <= MI_MAXIMUM_LEVEL);
    return 1ull << (MI_PTE_INDEX_BITS * (Level - 1));
}

static ULONG MiPteIndex(ULONG_PTR Va, ULONG Level)
{
    return (ULONG)(Va >> (PAGE_SHIFT + MI_PTE_INDEX_BITS * (Level - 1))) & (MI_PTES_PER_TABLE - 1);
}

// The entry for Va at StopLevel, or the one above it that ends the walk: a leaf, or empty. *Level
// is its level.
static PMMPTE MiWalk(ULONG_PTR Va, ULONG StopLevel, PULONG Level)
{
    ULONG At = MiArchTopLevel();
    PMMPTE Table = MiFrameToVa(MiRootPfn);
    for (;;) {
        PMMPTE Pte = &Table[MiPteIndex(Va, At)];
        const MMPTE Entry = MiArchLoadPte(Pte);
        if (At == StopLevel || MiArchPteKind(Entry, At) != MiPteTable) {
            *Level = At;
            return Pte;
        }
        Table = MiFrameToVa(MiArchPtePfn(Entry, At));
        At -= 1;
    }
}

PMMPTE MiFindPte(ULONG_PTR Va, PULONG Level)
{
    return MiWalk(Va, 1, Level);
}

// The leaf that translates Va, and its level. FALSE: there is none.
static inline BOOLEAN MiFindLeafEntry(ULONG_PTR Va, PMMPTE Leaf, PULONG Level)
{
    if (!MiArchIsCanonical(Va)) {
        return FALSE;
    }
    *Leaf = MiArchLoadPte(MiFindPte(Va, Level));
    return MiArchPteKind(*Leaf, *Level) == MiPteLeaf;
}

static inline PFN_NUMBER MiFrameBehind(ULONG_PTR Va, MMPTE Leaf, ULONG Level)
{
    return MiArchPtePfn(Leaf, Level) + ((Va >> PAGE_SHIFT) & (MiPagesPerLeaf(Level) - 1));
}

BOOLEAN MiTranslate(ULONG_PTR Va, PFN_NUMBER *Pfn)
{
    MMPTE Leaf;
    ULONG Level;
    if (!MiFindLeafEntry(Va, &Leaf, &Level)) {
        return FALSE;
    }
    *Pfn = MiFrameBehind(Va, Leaf, Level);
    return TRUE;
}

BOOLEAN MiFindMappedFrame(ULONG_PTR Va, PFN_NUMBER *Pfn)
{
    ULONG Level;
    const MMPTE Entry = MiArchLoadPte(MiFindPte(Va, &Level));
    if (Level == 1 && MiArchIsInaccessible(Entry)) {
        *Pfn = MiArchPtePfn(Entry, 1);
        return TRUE;
    }
    return MiTranslate(Va, Pfn);
}

BOOLEAN MiTranslateWithProtection(ULONG_PTR Va, PFN_NUMBER *Pfn, PMI_PROTECTION Protection)
{
    MMPTE Leaf;
    ULONG Level;
    if (!MiFindLeafEntry(Va, &Leaf, &Level)) {
        return FALSE;
    }
    *Pfn = MiFrameBehind(Va, Leaf, Level);
    *Protection = MiArchPteProtection(Leaf, Level);
    return TRUE;
}

//
// Runs.
//

typedef struct _MI_RUN {
    ULONG Level;
    ULONG LeafCount; // all in one table
} MI_RUN;

static ULONG MiLeafLevel(ULONG_PTR Va, PFN_NUMBER Pfn, PFN_NUMBER PageCount)
{
    const ULONG64 Alignment = (Va >> PAGE_SHIFT) | Pfn;
    ULONG Level = 1;
    while (Level < MiMaximumLeafLevel && MiArchIsLeafAllowed(Level + 1) &&
           PageCount >= MiPagesPerLeaf(Level + 1) &&
           (Alignment & (MiPagesPerLeaf(Level + 1) - 1)) == 0) {
        Level += 1;
    }
    return Level;
}

static MI_RUN MiRunAt(ULONG_PTR Va, ULONG Level, PFN_NUMBER PageCount)
{
    const ULONG64 Wanted = PageCount >> (MI_PTE_INDEX_BITS * (Level - 1));
    const ULONG Room = MI_PTES_PER_TABLE - MiPteIndex(Va, Level);
    return (MI_RUN){Level, Wanted < Room ? (ULONG)Wanted : Room};
}

static MI_RUN MiFirstRun(ULONG_PTR Va, PFN_NUMBER Pfn, PFN_NUMBER PageCount)
{
    return MiRunAt(Va, MiLeafLevel(Va, Pfn, PageCount), PageCount);
}

static PFN_NUMBER MiRunPageCount(MI_RUN Run)
{
    return Run.LeafCount * MiPagesPerLeaf(Run.Level);
}

//
// Prepare.
//

// An empty table of its own frame, or MI_NO_PFN.
static PFN_NUMBER MiAllocateTable(VOID)
{
    const PFN_NUMBER Pfn = MiAllocateFrame(MiPfnTable);
    if (Pfn != MI_NO_PFN) {
        RtlZeroMemory(MiFrameToVa(Pfn), PAGE_SIZE);
    }
    return Pfn;
}

// Adds the tables that are missing between the root and the entry of Va at Level.
static NTSTATUS MiAddTables(ULONG_PTR Va, ULONG Level)
{
    NTSTATUS Status = STATUS_SUCCESS;
    const KIRQL OldIrql = KiAcquireLock(&MiPageTableLock);
    for (;;) {
        ULONG Reached;
        PMMPTE Pte = MiWalk(Va, Level, &Reached);
        if (Reached == Level) {
            break;
        }
        NT_ASSERT(MiArchPteKind(MiArchLoadPte(Pte), Reached) == MiPteEmpty);
        const PFN_NUMBER TablePfn = MiAllocateTable();
        if (TablePfn == MI_NO_PFN) {
            Status = STATUS_INSUFFICIENT_RESOURCES;
            break;
        }
        MiArchStorePte(Pte, MiArchMakeTable(TablePfn));
    }
    KiReleaseLock(&MiPageTableLock, OldIrql);
    return Status;
}

// Collects an unused table and all tables below it.
static VOID MiRetireTable(PFN_NUMBER TablePfn, ULONG Level, PMI_TLB_BATCH Batch)
{
    const MMPTE *Table = MiFrameToVa(TablePfn);
    for (ULONG Index = 0; Level > 1 && Index < MI_PTES_PER_TABLE; Index += 1) {
        const MMPTE Entry = MiArchLoadPte(&Table[Index]);
        if (MiArchPteKind(Entry, Level) == MiPteTable) {
            MiRetireTable(MiArchPtePfn(Entry, Level), Level - 1, Batch);
        }
    }
    MiAddTableToBatch(Batch, TablePfn);
}

// Takes away the tables that stand where a run will have its leaves. They are unused: the addresses
// are the caller's, and nothing is mapped there.
static VOID MiRetireTables(PMMPTE Pte, MI_RUN Run)
{
    MI_TLB_BATCH Batch;
    MiInitializeTlbBatch(&Batch);
    for (ULONG Leaf = 0; Run.Level > 1 && Leaf < Run.LeafCount; Leaf += 1) {
        const MMPTE Old = MiArchLoadPte(&Pte[Leaf]);
        if (MiArchPteKind(Old, Run.Level) == MiPteTable) {
            MiArchStorePte(&Pte[Leaf], MiEmptyPte);
            MiRetireTable(MiArchPtePfn(Old, Run.Level), Run.Level - 1, &Batch);
        }
    }
    if (Batch.FlushAll) {
        MiFlushTlbBatch(&Batch);
    }
}

static NTSTATUS MiPrepareRun(ULONG_PTR Va, MI_RUN Run)
{
    ULONG Reached;
    PMMPTE Pte = MiWalk(Va, Run.Level, &Reached);
    if (Reached == Run.Level) {
        MiRetireTables(Pte, Run);
        return STATUS_SUCCESS;
    }
    return MiAddTables(Va, Run.Level);
}

NTSTATUS MiPrepareRange(ULONG_PTR Va, PFN_NUMBER FirstPfn, PFN_NUMBER PageCount)
{
    NTSTATUS Status = STATUS_SUCCESS;
    PFN_NUMBER Done = 0;
    while (NT_SUCCESS(Status) && Done < PageCount) {
        const MI_RUN Run = MiFirstRun(Va + (Done << PAGE_SHIFT), FirstPfn + Done, PageCount - Done);
        Status = MiPrepareRun(Va + (Done << PAGE_SHIFT), Run);
        Done += MiRunPageCount(Run);
    }
    return Status;
}

// Frees the tables that hold nothing but this range, in which nothing is mapped: a request that can't
// be met must not keep memory.
static VOID MiGiveTablesBack(ULONG_PTR Va, PFN_NUMBER PageCount)
{
    PFN_NUMBER Page = (0 - (Va >> PAGE_SHIFT)) & (MI_PTES_PER_TABLE - 1);
    for (; Page + MI_PTES_PER_TABLE <= PageCount; Page += MI_PTES_PER_TABLE) {
        ULONG Level;
        const PMMPTE Pte = MiWalk(Va + (Page << PAGE_SHIFT), 2, &Level);
        if (Level == 2) {
            MiRetireTables(Pte, (MI_RUN){2, 1});
        }
    }
}

NTSTATUS MiPreparePages(ULONG_PTR Va, PFN_NUMBER PageCount)
{
    NTSTATUS Status = STATUS_SUCCESS;
    PFN_NUMBER Done = 0;
    while (NT_SUCCESS(Status) && Done < PageCount) {
        const MI_RUN Run = MiRunAt(Va + (Done << PAGE_SHIFT), 1, PageCount - Done);
        Status = MiPrepareRun(Va + (Done << PAGE_SHIFT), Run);
        Done += Run.LeafCount;
    }
    if (!NT_SUCCESS(Status)) {
        MiGiveTablesBack(Va, PageCount);
    }
    return Status;
}

//
// Commit.
//

// The entry of a run's first leaf. The tables exist.
static PMMPTE MiFindRun(PMMPTE KnownPte, ULONG_PTR Va, ULONG Level)
{
    if (KnownPte != NULL) {
        return KnownPte;
    }
    ULONG Reached;
    PMMPTE Pte = MiWalk(Va, Level, &Reached);
    NT_ASSERT(Reached == Level);
    return Pte;
}

BOOLEAN MiIsOneRun(ULONG_PTR Va, PFN_NUMBER FirstPfn, PFN_NUMBER PageCount, PULONG Level,
                   PULONG LeafCount)
{
    const MI_RUN Run = MiFirstRun(Va, FirstPfn, PageCount);
    *Level = Run.Level;
    *LeafCount = Run.LeafCount;
    return MiRunPageCount(Run) == PageCount;
}

VOID MiCommitRange(PMMPTE KnownPte, ULONG_PTR Va, PFN_NUMBER FirstPfn, PFN_NUMBER PageCount,
                   MI_PROTECTION Protection)
{
    while (PageCount > 0) {
        const MI_RUN Run = MiFirstRun(Va, FirstPfn, PageCount);
        PMMPTE Pte = MiFindRun(KnownPte, Va, Run.Level);
        NT_ASSERT(MiArchPteKind(MiArchLoadPte(Pte), Run.Level) == MiPteEmpty);
        MiArchStoreLeaves(Pte, Run.Level, FirstPfn, Run.LeafCount, Protection);
        FirstPfn += MiRunPageCount(Run);
        Va += MiRunPageCount(Run) << PAGE_SHIFT;
        PageCount -= MiRunPageCount(Run);
        KnownPte = NULL;
    }
}

VOID MiUncommitRange(PMMPTE KnownPte, ULONG_PTR Va, PFN_NUMBER FirstPfn, PFN_NUMBER PageCount)
{
    MI_TLB_BATCH Batch;
    MiInitializeTlbBatch(&Batch);
    while (PageCount > 0) {
        const MI_RUN Run = MiFirstRun(Va, FirstPfn, PageCount);
        PMMPTE Pte = MiFindRun(KnownPte, Va, Run.Level);
        if (MiTakeLeaves(Pte, Run.LeafCount)) {
            MiAddLeavesToBatch(&Batch, Va, Run.LeafCount, MiPagesPerLeaf(Run.Level));
        }
        FirstPfn += MiRunPageCount(Run);
        Va += MiRunPageCount(Run) << PAGE_SHIFT;
        PageCount -= MiRunPageCount(Run);
        KnownPte = NULL;
    }
    MiFlushTlbBatch(&Batch);
}

PMMPTE MiFindFirstPage(ULONG_PTR Va)
{
    return MiFindRun(NULL, Va, 1);
}

VOID MiCommitPages(ULONG_PTR Va, const PFN_NUMBER *Pfns, PFN_NUMBER PageCount,
                   MI_PROTECTION Protection)
{
    const MMPTE Template = MiArchMakeLeaf(1, 0, Protection);
    PFN_NUMBER Done = 0;
    while (Done < PageCount) {
        ULONG EntryCount;
        PMMPTE Pte = MiFindPages(NULL, Va + (Done << PAGE_SHIFT), PageCount - Done, &EntryCount);
        NT_ASSERT(MiArchPteKind(MiArchLoadPte(Pte), 1) == MiPteEmpty);
        for (ULONG Index = 0; Index < EntryCount; Index += 1, Done += 1) {
            MiArchStorePte(&Pte[Index], MiArchPlaceFrame(Template, Pfns[Done]));
        }
    }
}

VOID MiCommitSmallRange(PMMPTE KnownPte, ULONG_PTR Va, PFN_NUMBER FirstPfn, PFN_NUMBER PageCount,
                        MI_PROTECTION Protection)
{
    do {
        ULONG EntryCount;
        PMMPTE Pte = MiFindPages(KnownPte, Va, PageCount, &EntryCount);
        NT_ASSERT(MiArchPteKind(MiArchLoadPte(Pte), 1) == MiPteEmpty);
        MiArchStoreLeaves(Pte, 1, FirstPfn, EntryCount, Protection);
        FirstPfn += EntryCount;
        Va += (ULONG_PTR)EntryCount << PAGE_SHIFT;
        PageCount -= EntryCount;
        KnownPte = NULL;
    } while (PageCount > 0);
}

// As MiTakePages, over several tables.
DECLSPEC_NOINLINE static BOOLEAN MiTakeTables(ULONG_PTR Va, PFN_NUMBER PageCount)
{
    PFN_NUMBER Done = 0;
    BOOLEAN MustForget = FALSE;
    while (Done < PageCount) {
        ULONG EntryCount;
        PMMPTE Pte = MiFindPages(NULL, Va + (Done << PAGE_SHIFT), PageCount - Done, &EntryCount);
        MustForget |= MiTakeLeaves(Pte, EntryCount);
        Done += EntryCount;
    }
    return MustForget;
}

BOOLEAN MiTakePages(PMMPTE FirstPte, ULONG_PTR Va, PFN_NUMBER PageCount)
{
    return MiPteIndex(Va, 1) + PageCount > MI_PTES_PER_TABLE
               ? MiTakeTables(Va, PageCount)
               : MiTakeLeaves(FirstPte, (ULONG)PageCount);
}

VOID MiClearPages(PMMPTE FirstPte, ULONG_PTR Va, PFN_NUMBER PageCount)
{
    if (MiTakePages(FirstPte, Va, PageCount)) {
        MiFlushPages(Va, PageCount);
    }
}

//
// Clear and split.
//

VOID MiClearRange(ULONG_PTR Va, PFN_NUMBER PageCount, PMI_TLB_BATCH Batch)
{
    PFN_NUMBER Done = 0;
    while (Done < PageCount) {
        ULONG Level;
        PMMPTE Pte = MiFindPte(Va + (Done << PAGE_SHIFT), &Level);
        const MI_RUN Run = MiRunAt(Va + (Done << PAGE_SHIFT), Level, PageCount - Done);
        NT_ASSERT(Run.LeafCount > 0);
        ULONG Leaf = 0;
        do {
            if (MiMustForget(MiArchWasUsed(MiArchTakePte(&Pte[Leaf])))) {
                MiAddPageToBatch(Batch, Va + (Done << PAGE_SHIFT));
            }
            Done += MiPagesPerLeaf(Level);
            Leaf += 1;
        } while (Leaf < Run.LeafCount &&
                 MiArchPteKind(MiArchLoadPte(&Pte[Leaf]), Level) == MiPteLeaf);
    }
}

// Replaces a leaf by a table of leaves one level below that translate alike.
static NTSTATUS MiSplitLeaf(PMMPTE Pte, ULONG Level, ULONG_PTR Va)
{
    const PFN_NUMBER TablePfn = MiAllocateTable();
    if (TablePfn == MI_NO_PFN) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    const MMPTE Leaf = MiArchLoadPte(Pte);
    const MI_PROTECTION Protection = MiArchPteProtection(Leaf, Level);
    const PFN_NUMBER FirstPfn = MiArchPtePfn(Leaf, Level);
    PMMPTE Table = MiFrameToVa(TablePfn);
    for (ULONG Index = 0; Index < MI_PTES_PER_TABLE; Index += 1) {
        const PFN_NUMBER Pfn = FirstPfn + Index * MiPagesPerLeaf(Level - 1);
        MiArchStorePte(&Table[Index], MiArchMakeLeaf(Level - 1, Pfn, Protection));
    }
    MiArchStorePte(Pte, MiArchMakeTable(TablePfn));
    MiFlushPages(Va, 1);
    return STATUS_SUCCESS;
}

// Whether all these pages have leaves of 4 KiB. Without the lock: what is split stays so.
static BOOLEAN MiIsRangeSplit(ULONG_PTR Va, PFN_NUMBER PageCount)
{
    ULONG Level = 1;
    for (PFN_NUMBER Done = 0; Level == 1 && Done < PageCount;) {
        const ULONG_PTR At = Va + (Done << PAGE_SHIFT);
        (VOID) MiFindPte(At, &Level);
        Done += MiRunAt(At, 1, PageCount - Done).LeafCount;
    }
    return Level == 1;
}

NTSTATUS MiSplitRange(ULONG_PTR Va, PFN_NUMBER PageCount)
{
    NTSTATUS Status = STATUS_SUCCESS;
    if (MiIsRangeSplit(Va, PageCount)) {
        // Whoever splits has the large leaf forgotten before he releases the lock.
        KiAwaitFreeLock(&MiPageTableLock);
        return STATUS_SUCCESS;
    }
    const KIRQL OldIrql = KiAcquireLock(&MiPageTableLock);
    for (PFN_NUMBER Done = 0; NT_SUCCESS(Status) && Done < PageCount;) {
        const ULONG_PTR At = Va + (Done << PAGE_SHIFT);
        ULONG Level;
        PMMPTE Pte = MiFindPte(At, &Level);
        NT_ASSERT(MiArchPteKind(MiArchLoadPte(Pte), Level) == MiPteLeaf);
        if (Level == 1) {
            Done += MiRunAt(At, Level, PageCount - Done).LeafCount;
        } else {
            Status = MiSplitLeaf(Pte, Level, At);
        }
    }
    KiReleaseLock(&MiPageTableLock, OldIrql);
    return Status;
}

//
// Walking everything.
//

static ULONG_PTR MiSignExtend(ULONG_PTR Va)
{
    const ULONG UnusedBits = 64 - PAGE_SHIFT - MI_PTE_INDEX_BITS * MiArchTopLevel();
    return (ULONG_PTR)((LONG64)(Va << UnusedBits) >> UnusedBits);
}

ULONG_PTR MiPteAddress(ULONG_PTR Va)
{
    const ULONG64 PageIndex =
        (Va >> PAGE_SHIFT) & (MiPagesPerLeaf(MiArchTopLevel()) * MI_PTES_PER_TABLE - 1);
    return MiArchLayout[MiRegionSelfMap].BaseVa + PageIndex * sizeof(MMPTE);
}

static BOOLEAN MiWalkTable(PFN_NUMBER TablePfn, ULONG Level, ULONG_PTR BaseVa,
                           MI_LEAF_ROUTINE *Routine, PVOID Context)
{
    const MMPTE *Table = MiFrameToVa(TablePfn);
    const ULONG SkippedIndex = Level == MiArchTopLevel() ? MiArchSelfMapSlot() : MI_PTES_PER_TABLE;
    const ULONG64 LeafBytes = MiPagesPerLeaf(Level) << PAGE_SHIFT;
    for (ULONG Index = 0; Index < MI_PTES_PER_TABLE; Index += 1) {
        if (Index == SkippedIndex) {
            continue;
        }
        const MMPTE Entry = MiArchLoadPte(&Table[Index]);
        const MI_PTE_KIND Kind = MiArchPteKind(Entry, Level);
        const ULONG_PTR Va = MiSignExtend(BaseVa + Index * LeafBytes);
        if (Kind == MiPteLeaf && !Routine(Va, Level, Entry, Context)) {
            return FALSE;
        }
        if (Kind == MiPteTable &&
            !MiWalkTable(MiArchPtePfn(Entry, Level), Level - 1, Va, Routine, Context)) {
            return FALSE;
        }
    }
    return TRUE;
}

VOID MiWalkLeaves(MI_LEAF_ROUTINE *Routine, PVOID Context)
{
    (VOID) MiWalkTable(MiRootPfn, MiArchTopLevel(), 0, Routine, Context);
}

//
// The kernel's address space.
//

DECLSPEC_NORETURN static VOID MiStopForLackOfTables(PFN_NUMBER FirstPfn, PFN_NUMBER PageCount)
{
    MiBugCheck(INSTALL_MORE_MEMORY, FirstPfn, PageCount, 0, 0,
               "no memory for the kernel's own page tables");
}

static VOID MiMapAtBoot(ULONG_PTR Va, PFN_NUMBER FirstPfn, PFN_NUMBER PageCount, MI_ACCESS Access)
{
    if (!NT_SUCCESS(MiPrepareRange(Va, FirstPfn, PageCount))) {
        MiStopForLackOfTables(FirstPfn, PageCount);
    }
    MiCommitRange(NULL, Va, FirstPfn, PageCount, (MI_PROTECTION){Access, MiCacheWriteBack});
}

static VOID MiMapDirectly(PFN_NUMBER FirstPfn, PFN_NUMBER EndPfn)
{
    if (FirstPfn < EndPfn) {
        MiMapAtBoot((ULONG_PTR)MiFrameToVa(FirstPfn), FirstPfn, EndPfn - FirstPfn,
                    MiAccessReadWrite);
    }
}

// The direct map leaves out the kernel image: read-only code must not have a writable second name.
static VOID MiMapRam(MI_PFN_RANGE Range, PFN_NUMBER ImageFirstPfn, PFN_NUMBER ImageEndPfn)
{
    const PFN_NUMBER EndPfn = Range.LastPfn + 1;
    MiMapDirectly(Range.FirstPfn, EndPfn < ImageFirstPfn ? EndPfn : ImageFirstPfn);
    MiMapDirectly(Range.FirstPfn > ImageEndPfn ? Range.FirstPfn : ImageEndPfn, EndPfn);
}

static VOID MiMapAllRam(PFN_NUMBER ImageFirstPfn, PFN_NUMBER ImageEndPfn)
{
    ULONG RegionCount;
    const MI_PHYSICAL_REGION *Regions = MiPhysicalRegions(&RegionCount);
    for (ULONG Index = 0; Index < RegionCount; Index += 1) {
        if (Regions[Index].Kind == MiPhysicalRam) {
            MiMapRam(Regions[Index].Range, ImageFirstPfn, ImageEndPfn);
        }
    }
}

VOID MiInitializeAddressSpace(VOID)
{
    MiRootPfn = MiAllocateTable();
    if (MiRootPfn == MI_NO_PFN) {
        MiStopForLackOfTables(0, 0);
    }
    const MI_IMAGE_SECTION *Sections;
    const ULONG SectionCount = MiArchImageSections(&Sections);
    PFN_NUMBER ImageFirstPfn = 0;
    PFN_NUMBER ImageEndPfn = 0;
    for (ULONG Index = 0; Index < SectionCount; Index += 1) {
        const MI_IMAGE_SECTION *Section = &Sections[Index];
        const PFN_NUMBER FirstPfn = Section->BasePa >> PAGE_SHIFT;
        const PFN_NUMBER PageCount = BYTES_TO_PAGES(Section->EndVa - Section->BaseVa);
        MiMapAtBoot(Section->BaseVa, FirstPfn, PageCount, Section->Access);
        ImageFirstPfn = Index == 0 ? FirstPfn : ImageFirstPfn;
        ImageEndPfn = FirstPfn + PageCount;
    }
    MiMapAllRam(ImageFirstPfn, ImageEndPfn);
    PMMPTE Root = MiFrameToVa(MiRootPfn);
    MiArchStorePte(&Root[MiArchSelfMapSlot()], MiArchMakeSelfMap(MiRootPfn));
    MiArchLoadRoot(MiRootPfn);
}
