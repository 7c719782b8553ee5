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
    PFN_NUMBER Pfn;
    return MiTranslate((ULONG_PTR)VirtualAddress, &Pfn);
}

PPHYSICAL_MEMORY_RANGE NTAPI MmGetPhysicalMemoryRanges(VOID)
{
    NT_ASSERT(KeGetCurrentIrql() == PASSIVE_LEVEL);
    ULONG RegionCount;
    const MI_PHYSICAL_REGION *Regions = MiPhysicalRegions(&RegionCount);
    // One more than there can be: the last one is zero.
    PPHYSICAL_MEMORY_RANGE Ranges =
        MiAllocatePool((RegionCount + 1) * sizeof(PHYSICAL_MEMORY_RANGE), 'hPmM');
    ULONG RangeCount = 0;
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
    const ULONG64 SparePages = MiSparePoolPageCount();
    *Use = (MM_MEMORY_USE){
        .FreePages = MiPfnStateCountOf(MiPfnFree) + SparePages,
        .TablePages = MiPfnStateCountOf(MiPfnTable),
        .PoolPages = MiPfnStateCountOf(MiPfnPool) - SparePages,
        .PoolBlocks = MiPoolBlockCount(),
        .MdlPages = MiPfnStateCountOf(MiPfnMdl),
        .Mappings = MiMappingCount(),
        .LedgerEntries = MiLedgerEntryCount(),
        .Claims = MiClaimCount(),
    };
    MiQuerySystemVa(MiRegionSystemPtes, &Use->SystemPtes, &Total);
    MiQuerySystemVa(MiRegionLargeSystemPtes, &LargePages, &Total);
    Use->SystemPtes += LargePages;
}
