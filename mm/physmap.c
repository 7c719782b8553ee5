// The physical map: what the machine is.
//
// Firmware describes physical memory as a list that may be unsorted, may overlap itself and need
// not end at page borders. Here it becomes a sorted table of page-granular regions, each of one
// kind; whatever lies between them is I/O space. Who uses I/O space is another question, with
// another table (claim.c).
//
//   firmware:   |--usable--------------------------|      |--reserved--|
//                         |--ACPI--|
//   regions:    |--RAM----|--ACPI--|--RAM----------|  gap |--firmware--|  gap ...
//
// Where descriptions overlap, the kind with the higher rank wins: nobody may use as RAM what
// something else calls its own. RAM shrinks to whole pages, everything else grows to whole pages,
// for the same reason. Frame 0 is never RAM, so that physical address 0 can mean "none".
//
// Invariants (checked by MmVerify):
//   P1  Regions are sorted, disjoint and not empty; neighbours that touch differ in kind.
//   P2  No region is I/O space, and none reaches beyond the processor's physical addresses.
// Lock: none. The table is written once, before anything else of mm runs, and never again.
#include "kernel/inc/checked.h"
#include "kernel/inc/loader.h"
#include "mm/mi.h"

// One descriptor can cut another in two, so n descriptors make at most 2n + 1 regions. One more is
// frame 0.
#define MI_MAXIMUM_DESCRIPTORS (LOADER_MAXIMUM_MEMORY_DESCRIPTORS + 1)
#define MI_MAXIMUM_BORDERS (2 * MI_MAXIMUM_DESCRIPTORS)

static MI_PHYSICAL_REGION MiRegions[MI_MAXIMUM_BORDERS];
static ULONG MiRegionCountInMap;
static PFN_NUMBER MiTopPfn;

// What drivers may map as device memory: maximal ranges, ascending. Derived from the regions.
MI_PFN_RANGE MiMappableRanges[MI_MAXIMUM_BORDERS + 1];
static ULONG MiMappableRangeCount;
ULONG MiLastMappableRange;

// What follows from the kind of a region.
static const struct {
    const CHAR *Name;
    ULONG Rank;         // the greater one wins an overlap
    BOOLEAN IsMappable; // drivers may map it as device memory
    MI_REASON Reason;   // why not
} MiKinds[] = {
    [MiPhysicalIoSpace] = {"I/O space", 0, TRUE, MiReasonCount},
    [MiPhysicalRam] = {"RAM", 1, FALSE, MiReasonRam},
    [MiPhysicalAcpi] = {"ACPI tables", 2, TRUE, MiReasonCount},
    [MiPhysicalNvs] = {"ACPI NVS", 3, TRUE, MiReasonCount},
    [MiPhysicalFirmware] = {"firmware", 4, TRUE, MiReasonCount},
    [MiPhysicalBad] = {"bad memory", 5, FALSE, MiReasonBadMemory},
};
C_ASSERT(ARRAYSIZE(MiKinds) == MiPhysicalKindCount);

static const MI_PHYSICAL_KIND MiKindOfLoaderType[] = {
    [LoaderMemoryUsable] = MiPhysicalRam,
    [LoaderMemoryReserved] = MiPhysicalFirmware,
    [LoaderMemoryAcpiReclaimable] = MiPhysicalAcpi,
    [LoaderMemoryAcpiNvs] = MiPhysicalNvs,
    [LoaderMemoryBad] = MiPhysicalBad,
};

const CHAR *MiPhysicalKindName(MI_PHYSICAL_KIND Kind)
{
    return MiKinds[Kind].Name;
}

PFN_NUMBER MiHighestPfn(VOID)
{
    return MiTopPfn;
}

BOOLEAN MiRangeFromBytes(ULONG64 BaseAddress, ULONG64 ByteCount, MI_PFN_RANGE *Range,
                         MI_REASON *Reason)
{
    if (ByteCount == 0) {
        *Reason = MiReasonZeroBytes;
        return FALSE;
    }
    ULONG64 LastAddress;
    if (!RtlAddChecked64(BaseAddress, ByteCount - 1, &LastAddress) ||
        LastAddress >> PAGE_SHIFT > MiTopPfn) {
        *Reason = MiReasonBeyondPhysical;
        return FALSE;
    }
    Range->FirstPfn = BaseAddress >> PAGE_SHIFT;
    Range->LastPfn = LastAddress >> PAGE_SHIFT;
    return TRUE;
}

// A descriptor of firmware in frames. FALSE: nothing is left of it.
typedef struct _MI_DESCRIPTION {
    MI_PFN_RANGE Range;
    MI_PHYSICAL_KIND Kind;
} MI_DESCRIPTION;

// RAM behind this frame is left alone: the direct map does not reach it, or the links of the PFN
// database, which have 32 bits.
static PFN_NUMBER MiLastUsablePfn(VOID)
{
    const PFN_NUMBER DirectMapPages = MiArchLayout[MiRegionDirectMap].ByteCount >> PAGE_SHIFT;
    return DirectMapPages - 1 < MAXULONG ? DirectMapPages - 1 : MAXULONG;
}

static BOOLEAN MiDescribe(const LOADER_MEMORY_DESCRIPTOR *Descriptor, MI_DESCRIPTION *Description)
{
    const MI_PHYSICAL_KIND Kind = (ULONG)Descriptor->Type < ARRAYSIZE(MiKindOfLoaderType)
                                      ? MiKindOfLoaderType[Descriptor->Type]
                                      : MiPhysicalFirmware;
    if (Descriptor->ByteCount == 0) {
        return FALSE;
    }
    ULONG64 EndAddress;
    if (!RtlAddChecked64(Descriptor->BaseAddress, Descriptor->ByteCount, &EndAddress)) {
        EndAddress = MAXULONG64;
    }
    PFN_NUMBER FirstPfn = Descriptor->BaseAddress >> PAGE_SHIFT;
    PFN_NUMBER EndPfn = EndAddress >> PAGE_SHIFT;
    if (Kind == MiPhysicalRam) {
        FirstPfn += (Descriptor->BaseAddress & (PAGE_SIZE - 1)) != 0;
    } else {
        EndPfn += (EndAddress & (PAGE_SIZE - 1)) != 0;
    }
    const PFN_NUMBER UsablePfn = Kind == MiPhysicalRam ? MiLastUsablePfn() : MiTopPfn;
    const PFN_NUMBER LimitPfn = UsablePfn < MiTopPfn ? UsablePfn : MiTopPfn;
    if (FirstPfn >= EndPfn || FirstPfn > LimitPfn) {
        return FALSE;
    }
    const PFN_NUMBER LastPfn = EndPfn - 1 < LimitPfn ? EndPfn - 1 : LimitPfn;
    *Description = (MI_DESCRIPTION){{FirstPfn, LastPfn}, Kind};
    return TRUE;
}

// All descriptions that are not empty, and frame 0. Returns their count.
static ULONG MiDescribeAll(const LOADER_BLOCK *LoaderBlock, MI_DESCRIPTION *Descriptions)
{
    Descriptions[0] = (MI_DESCRIPTION){{0, 0}, MiPhysicalFirmware};
    ULONG Count = 1;
    for (ULONG Index = 0; Index < LoaderBlock->MemoryDescriptorCount; Index += 1) {
        if (MiDescribe(&LoaderBlock->MemoryDescriptors[Index], &Descriptions[Count])) {
            Count += 1;
        }
    }
    return Count;
}

static VOID MiInsertBorder(PFN_NUMBER *Borders, ULONG *BorderCount, PFN_NUMBER Border)
{
    ULONG Index = *BorderCount;
    while (Index > 0 && Borders[Index - 1] > Border) {
        Borders[Index] = Borders[Index - 1];
        Index -= 1;
    }
    Borders[Index] = Border;
    *BorderCount += 1;
}

// The winning kind of a frame. Between two neighbouring borders it is the same for all frames.
static MI_PHYSICAL_KIND MiWinningKind(const MI_DESCRIPTION *Descriptions, ULONG Count,
                                      PFN_NUMBER Pfn)
{
    MI_PHYSICAL_KIND Winner = MiPhysicalIoSpace;
    for (ULONG Index = 0; Index < Count; Index += 1) {
        const MI_DESCRIPTION *Description = &Descriptions[Index];
        if (Pfn >= Description->Range.FirstPfn && Pfn <= Description->Range.LastPfn &&
            MiKinds[Description->Kind].Rank > MiKinds[Winner].Rank) {
            Winner = Description->Kind;
        }
    }
    return Winner;
}

static VOID MiAppendRegion(MI_PFN_RANGE Range, MI_PHYSICAL_KIND Kind)
{
    if (MiRegionCountInMap > 0) {
        MI_PHYSICAL_REGION *Previous = &MiRegions[MiRegionCountInMap - 1];
        if (Previous->Kind == Kind && Previous->Range.LastPfn + 1 == Range.FirstPfn) {
            Previous->Range.LastPfn = Range.LastPfn;
            return;
        }
    }
    MiRegions[MiRegionCountInMap] = (MI_PHYSICAL_REGION){Range, Kind};
    MiRegionCountInMap += 1;
}

const MI_PHYSICAL_REGION *MiPhysicalRegions(PULONG RegionCount)
{
    *RegionCount = MiRegionCountInMap;
    return MiRegions;
}

MI_PHYSICAL_KIND MiPhysicalKindOf(PFN_NUMBER Pfn, PFN_NUMBER *LastPfn)
{
    // Finds the first region that ends at or behind Pfn.
    ULONG Low = 0;
    ULONG High = MiRegionCountInMap;
    while (Low < High) {
        const ULONG Middle = (Low + High) / 2;
        if (MiRegions[Middle].Range.LastPfn < Pfn) {
            Low = Middle + 1;
        } else {
            High = Middle;
        }
    }
    if (Low == MiRegionCountInMap) {
        *LastPfn = MiTopPfn;
        return MiPhysicalIoSpace;
    }
    const MI_PHYSICAL_REGION *Region = &MiRegions[Low];
    if (Pfn < Region->Range.FirstPfn) {
        *LastPfn = Region->Range.FirstPfn - 1;
        return MiPhysicalIoSpace;
    }
    *LastPfn = Region->Range.LastPfn;
    return Region->Kind;
}

// Why Range is not to be mapped.
static MI_REASON MiReasonAgainst(MI_PFN_RANGE Range)
{
    PFN_NUMBER LastPfn;
    MI_PHYSICAL_KIND Kind = MiPhysicalKindOf(Range.FirstPfn, &LastPfn);
    if (LastPfn >= Range.LastPfn) {
        return MiKinds[Kind].Reason;
    }
    return MiReasonMixed;
}

BOOLEAN MiFindMappableRange(MI_PFN_RANGE Range, MI_REASON *Reason)
{
    for (ULONG Index = 0; Index < MiMappableRangeCount; Index += 1) {
        const MI_PFN_RANGE Mappable = MiMappableRanges[Index];
        if (Range.FirstPfn >= Mappable.FirstPfn && Range.LastPfn <= Mappable.LastPfn) {
            MiLastMappableRange = Index;
            return TRUE;
        }
    }
    *Reason = MiReasonAgainst(Range);
    return FALSE;
}

static VOID MiAppendMappable(PFN_NUMBER FirstPfn, PFN_NUMBER LastPfn)
{
    MI_PFN_RANGE *Previous =
        MiMappableRangeCount > 0 ? &MiMappableRanges[MiMappableRangeCount - 1] : NULL;
    if (Previous != NULL && Previous->LastPfn + 1 == FirstPfn) {
        Previous->LastPfn = LastPfn;
        return;
    }
    MiMappableRanges[MiMappableRangeCount] = (MI_PFN_RANGE){FirstPfn, LastPfn};
    MiMappableRangeCount += 1;
}

static VOID MiCollectMappableRanges(VOID)
{
    PFN_NUMBER LastPfn;
    MiMappableRangeCount = 0;
    MiLastMappableRange = 0;
    for (PFN_NUMBER Pfn = 0; Pfn <= MiTopPfn; Pfn = LastPfn + 1) {
        if (MiKinds[MiPhysicalKindOf(Pfn, &LastPfn)].IsMappable) {
            MiAppendMappable(Pfn, LastPfn);
        }
    }
}

VOID MiInitializePhysicalMap(const LOADER_BLOCK *LoaderBlock)
{
    static MI_DESCRIPTION Descriptions[MI_MAXIMUM_DESCRIPTORS];
    static PFN_NUMBER Borders[MI_MAXIMUM_BORDERS];

    MiTopPfn = (1ull << (MiArchPhysicalBits() - PAGE_SHIFT)) - 1;
    MiRegionCountInMap = 0;
    const ULONG Count = MiDescribeAll(LoaderBlock, Descriptions);
    ULONG BorderCount = 0;
    for (ULONG Index = 0; Index < Count; Index += 1) {
        MiInsertBorder(Borders, &BorderCount, Descriptions[Index].Range.FirstPfn);
        MiInsertBorder(Borders, &BorderCount, Descriptions[Index].Range.LastPfn + 1);
    }
    for (ULONG Index = 0; Index + 1 < BorderCount; Index += 1) {
        if (Borders[Index] == Borders[Index + 1]) {
            continue;
        }
        const MI_PHYSICAL_KIND Kind = MiWinningKind(Descriptions, Count, Borders[Index]);
        if (Kind != MiPhysicalIoSpace) {
            MiAppendRegion((MI_PFN_RANGE){Borders[Index], Borders[Index + 1] - 1}, Kind);
        }
    }
    MiCollectMappableRanges();
}
