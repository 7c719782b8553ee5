// Questions: what does an address translate to, what memory is there. Nothing here takes a lock:
// the walk reads each entry once, through the direct map, so that it may be asked at any IRQL and
// during a crash.
#include "mm/mi.h"

PHYSICAL_ADDRESS NTAPI MmGetPhysicalAddress(PVOID BaseAddress)
{
    PHYSICAL_ADDRESS PhysicalAddress = {.QuadPart = 0};
    PFN_NUMBER Pfn;
    if (MiTranslate((ULONG_PTR)BaseAddress, &Pfn)) {
        PhysicalAddress.QuadPart = (LONG64)((Pfn << PAGE_SHIFT) + BYTE_OFFSET(BaseAddress));
    }
    return PhysicalAddress;
}

BOOLEAN NTAPI MmIsAddressValid(PVOID VirtualAddress)
{
    if (MiIsVerifying()) {
        MiVerifyIrql(MiIrqlIsAddressValid, 0, 0, __builtin_return_address(0));
    }
    PFN_NUMBER Pfn;
    return MiTranslate((ULONG_PTR)VirtualAddress, &Pfn);
}

PVOID MiKernelVaOfFrame(PFN_NUMBER Pfn)
{
    PFN_NUMBER Found;
    if (MiTranslate((ULONG_PTR)MiFrameToVa(Pfn), &Found)) {
        return MiFrameToVa(Pfn);
    }
    if (MiPfnState(Pfn) == MiPfnImage) {
        return (PVOID)MiVaOfImageFrame(Pfn);
    }
    const MI_IMAGE_SECTION *Sections;
    const ULONG SectionCount = MiArchImageSections(&Sections);
    for (ULONG Index = 0; Index < SectionCount; Index += 1) {
        const ULONG64 Offset = (Pfn << PAGE_SHIFT) - Sections[Index].BasePa;
        if (Offset < Sections[Index].EndVa - Sections[Index].BaseVa) {
            return (PVOID)(Sections[Index].BaseVa + Offset);
        }
    }
    return NULL;
}

PVOID NTAPI MmGetVirtualForPhysical(PHYSICAL_ADDRESS PhysicalAddress)
{
    const PFN_NUMBER Pfn = (ULONG64)PhysicalAddress.QuadPart >> PAGE_SHIFT;
    const MI_PFN_STATE State = MiPfnState(Pfn);
    if (State == MiPfnNotRam || MiIsFree(State) || State == MiPfnTable) {
        return NULL;
    }
    const PVOID Page = MiKernelVaOfFrame(Pfn);
    return Page != NULL ? (PUCHAR)Page + BYTE_OFFSET(PhysicalAddress.QuadPart) : NULL;
}

#define MI_RANGES_TAG 'hPmM'

// Room for RangeCount ranges, all zero, which the driver frees by ExFreePool. NULL: no pool.
static PPHYSICAL_MEMORY_RANGE MiAllocateRanges(ULONG RangeCount, PVOID Caller)
{
    const SIZE_T ByteCount = RangeCount * sizeof(PHYSICAL_MEMORY_RANGE);
    PPHYSICAL_MEMORY_RANGE Ranges = MiAllocatePool(ByteCount, MI_RANGES_TAG);
    if (Ranges != NULL && MiIsVerifying()) {
        MiTrack(MiTrackPool, Ranges, ByteCount, MI_RANGES_TAG, Caller);
    }
    return Ranges;
}

static PPHYSICAL_MEMORY_RANGE MiListRam(const CHAR *Routine, PVOID Partition, PVOID Caller)
{
    if (MiIsVerifying()) {
        MiVerifyIrql(MiIrqlGetPhysicalMemoryRanges, 0, 0, Caller);
    }
    NT_ASSERT(KeGetCurrentIrql() == PASSIVE_LEVEL);
    if (Partition != NULL) {
        MiRefusePlain(Routine, MiReasonNode);
        return NULL;
    }
    ULONG RegionCount;
    const MI_PHYSICAL_REGION *Regions = MiPhysicalRegions(&RegionCount);
    // One more than there can be: the last one is zero.
    PPHYSICAL_MEMORY_RANGE Ranges = MiAllocateRanges(RegionCount + 1, Caller);
    ULONG RangeCount = 0;
    if (Ranges == NULL) {
        MiRefusePlain(Routine, MiReasonResources);
    }
    for (ULONG Index = 0; Ranges != NULL && Index < RegionCount; Index += 1) {
        if (Regions[Index].Kind == MiPhysicalRam) {
            const MI_PFN_RANGE Range = Regions[Index].Range;
            Ranges[RangeCount].BaseAddress.QuadPart = (LONG64)(Range.FirstPfn << PAGE_SHIFT);
            Ranges[RangeCount].NumberOfBytes.QuadPart =
                (LONG64)(MiRangePageCount(Range) << PAGE_SHIFT);
            RangeCount += 1;
        }
    }
    return Ranges;
}

PPHYSICAL_MEMORY_RANGE NTAPI MmGetPhysicalMemoryRanges(VOID)
{
    return MiListRam(__func__, NULL, __builtin_return_address(0));
}

PPHYSICAL_MEMORY_RANGE NTAPI MmGetPhysicalMemoryRangesEx(PVOID PartitionObject)
{
    return MiListRam(__func__, PartitionObject, __builtin_return_address(0));
}

PPHYSICAL_MEMORY_RANGE NTAPI MmGetPhysicalMemoryRangesEx2(PVOID PartitionObject, ULONG Flags)
{
    UNREFERENCED_PARAMETER(Flags);
    return MiListRam(__func__, PartitionObject, __builtin_return_address(0));
}

static const CHAR *MiMemoryTypeName(MI_MEMORY_TYPE MemoryType)
{
    static const CHAR *const Names[] = {
        [MiMemoryUncached] = "UC",     [MiMemoryWriteCombined] = "WC",
        [MiMemoryWriteThrough] = "WT", [MiMemoryWriteProtected] = "WP",
        [MiMemoryWriteBack] = "WB",
    };
    C_ASSERT(ARRAYSIZE(Names) == MiMemoryTypeCount);
    return Names[MemoryType];
}

static VOID MiDescribeLeaf(MMPTE Leaf, ULONG Level, ULONG_PTR Va, PMM_PAGE_INFORMATION Information)
{
    const MI_PROTECTION Protection = MiArchPteProtection(Leaf, Level);
    const ULONG64 LeafBytes = MiPagesPerLeaf(Level) << PAGE_SHIFT;
    Information->Level = Level;
    Information->Entry = Leaf.Value;
    Information->PhysicalAddress.QuadPart =
        (LONG64)((MiArchPtePfn(Leaf, Level) << PAGE_SHIFT) + (Va & (LeafBytes - 1)));
    RtlCopyString(Information->Access, sizeof(Information->Access),
                  MiAccessName(Protection.Access));
    RtlCopyString(Information->CacheType, sizeof(Information->CacheType),
                  MiCacheTypeName(Protection.CacheType));
    const PFN_NUMBER Pfn = (ULONG64)Information->PhysicalAddress.QuadPart >> PAGE_SHIFT;
    RtlCopyString(Information->EffectiveType, sizeof(Information->EffectiveType),
                  MiMemoryTypeName(MiArchEffectiveCacheType(Pfn, Protection.CacheType)));
}

VOID MmQueryPage(const VOID *Va, PMM_PAGE_INFORMATION Information)
{
    RtlZeroMemory(Information, sizeof(*Information));
    if (!MiArchIsCanonical((ULONG_PTR)Va)) {
        return;
    }
    ULONG Level;
    const MMPTE Entry = MiArchLoadPte(MiFindPte((ULONG_PTR)Va, &Level));
    if (MiArchPteKind(Entry, Level) == MiPteLeaf) {
        MiDescribeLeaf(Entry, Level, (ULONG_PTR)Va, Information);
    }
}

typedef struct _MI_LEAF_CONTEXT {
    MM_LEAF_ROUTINE *Routine;
    PVOID Context;
} MI_LEAF_CONTEXT;

static BOOLEAN MiTellLeaf(ULONG_PTR Va, ULONG Level, MMPTE Leaf, PVOID Context)
{
    const MI_LEAF_CONTEXT *Caller = Context;
    MM_PAGE_INFORMATION Information;
    MiDescribeLeaf(Leaf, Level, Va, &Information);
    return Caller->Routine(Va, &Information, Caller->Context);
}

VOID MmEnumerateLeaves(MM_LEAF_ROUTINE *Routine, PVOID Context)
{
    MI_LEAF_CONTEXT Caller = {Routine, Context};
    MiWalkLeaves(MiTellLeaf, &Caller);
}

VOID MmQueryMemoryUse(PMM_MEMORY_USE Use)
{
    ULONG64 Total;
    ULONG64 LargePages;
    ULONG64 ImagePages;
    MmTrim();
    const ULONG64 SparePages = MiSparePoolPageCount();
    *Use = (MM_MEMORY_USE){
        .FreePages = MiFreePageCount() + SparePages,
        .TablePages = MiPfnStateCountOf(MiPfnTable) + MiPfnStateCountOf(MiPfnRecord) +
                      MiPfnStateCountOf(MiPfnLedger),
        .PoolPages = MiPfnStateCountOf(MiPfnPool) - SparePages,
        .PoolBlocks = MiPoolBlockCount(),
        .MdlPages = MiPfnStateCountOf(MiPfnMdl),
        .DriverPages = MiPfnStateCountOf(MiPfnDriver),
        .DriverBlocks = MiBlockCount(),
        .ImagePages = MiPfnStateCountOf(MiPfnImage),
        .Images = MiImageCount(),
        .Mappings = MiMappingCount(),
        .LedgerEntries = MiLedgerUsedCount(),
        .Claims = MiClaimCount(),
        .QuarantinedPages = MiPfnStateCountOf(MiPfnQuarantine),
    };
    MiQuerySystemVa(MiRegionSystemPtes, &Use->SystemPtes, &Total);
    MiQuerySystemVa(MiRegionLargeSystemPtes, &LargePages, &Total);
    Use->SystemPtes += LargePages;
    MiQuerySystemVa(MiRegionDriverImages, &ImagePages, &Total);
    Use->SystemPtes += ImagePages;
}
