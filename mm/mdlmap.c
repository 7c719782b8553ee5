// MDLs in system addresses: MmMapLockedPagesSpecifyCache, MmMapLockedPages, MmUnmapLockedPages for
// kernel mode; and what reserve.c shares with them.
//
// Which cache type does a page get? The one that its frame has. The caller's counts only for a
// frame that has none: pages of MmAllocatePagesForMdl and of MmAllocateMdlForIoSpace that nobody
// mapped yet. Documented so, and it keeps every frame at one type.
//
// Invariant (checked by MmVerify):
//   D1  An MDL with a mapping of its own has MDL_MAPPED_TO_SYSTEM_VA, and MappedSystemVa lies in
//       the mapping's first page: with the byte offset after MmMapLockedPagesSpecifyCache, without
//       it in a reservation.
#include "mm/mi.h"

//
// Cache types, page by page.
//

// The cache type of a mapping's page: the one that its frame has; where it has none, Requested's.
static MI_CACHE_TYPE MiDecideCacheType(PFN_NUMBER Pfn, const MMPFN *Element,
                                       MI_CACHE_TYPE Requested)
{
    if (Element == NULL) {
        return MiDecideIoCacheType(Pfn, Requested);
    }
    const MI_CACHE_TYPE CacheType = MiRamCacheType(Element);
    return CacheType != MiCacheUndecided ? CacheType : MiDecideRamCacheType(Pfn, Requested);
}

// The leading pages that share one cache type, which goes to *CacheType. Frames of RAM may not be
// freed while something maps them, so each of them counts one mapping more.
static PFN_NUMBER MiCountTypedRun(const PFN_NUMBER *Pfns, PFN_NUMBER PageCount,
                                  MI_CACHE_TYPE Requested, MI_CACHE_TYPE *CacheType)
{
    PFN_NUMBER Page = 0;
    PMMPFN Element = MiPfnElement(Pfns[0]);
    *CacheType = MiDecideCacheType(Pfns[0], Element, Requested);
    do {
        if (Element != NULL) {
            Element->MapCount += 1;
        }
        Page += 1;
        if (Page == PageCount) {
            break;
        }
        Element = MiPfnElement(Pfns[Page]);
    } while (MiDecideCacheType(Pfns[Page], Element, Requested) == *CacheType);
    return Page;
}

VOID MiCommitFrames(PMMPTE KnownPte, ULONG_PTR Va, const PFN_NUMBER *Pfns, PFN_NUMBER PageCount,
                    MI_PROTECTION Requested)
{
    PFN_NUMBER Done = 0;
    while (Done < PageCount) {
        MI_PROTECTION Protection = Requested;
        const PFN_NUMBER Run = MiCountTypedRun(&Pfns[Done], PageCount - Done, Requested.CacheType,
                                               &Protection.CacheType);
        MiCommitPages(Done == 0 ? KnownPte : NULL, Va + (Done << PAGE_SHIFT), &Pfns[Done], Run,
                      Protection);
        Done += Run;
    }
}

static VOID MiUncountFrames(const MMPTE *Pte, ULONG EntryCount)
{
    for (ULONG Index = 0; Index < EntryCount; Index += 1) {
        const PMMPFN Element = MiPfnElement(MiArchPtePfn(MiArchLoadPte(&Pte[Index]), 1));
        if (Element != NULL) {
            Element->MapCount -= 1;
        }
    }
}

VOID MiUncommitFrames(PMMPTE KnownPte, ULONG_PTR Va, PFN_NUMBER PageCount)
{
    MI_TLB_BATCH Batch;
    MiInitializeTlbBatch(&Batch);
    PFN_NUMBER Done = 0;
    while (Done < PageCount) {
        ULONG EntryCount;
        const PMMPTE Pte = MiFindPages(Done == 0 ? KnownPte : NULL, Va + (Done << PAGE_SHIFT),
                                       PageCount - Done, &EntryCount);
        MiUncountFrames(Pte, EntryCount);
        MiArchClearPages(Pte, EntryCount);
        Done += EntryCount;
    }
    MiAddPagesToBatch(&Batch, Va, PageCount);
    MiFlushTlbBatch(&Batch);
}

//
// Map.
//

#define MI_PRIORITY_MASK 0xFFFF

// How much of the system PTEs must be free, in percent, for a request of a priority.
static const struct {
    ULONG Priority;
    ULONG FreePercent;
} MiPriorities[] = {
    {LowPagePriority, 25},
    {NormalPagePriority, 6},
    {HighPagePriority, 0},
};

static BOOLEAN MiIsPriorityMet(ULONG Priority)
{
    ULONG64 Used;
    ULONG64 Total;
    ULONG FreePercent = 0;
    MiQuerySystemVa(MiRegionSystemPtes, &Used, &Total);
    for (ULONG Row = ARRAYSIZE(MiPriorities); Row > 0; Row -= 1) {
        if ((Priority & MI_PRIORITY_MASK) <= MiPriorities[Row - 1].Priority) {
            FreePercent = MiPriorities[Row - 1].FreePercent;
        }
    }
    return (Total - Used) * 100 >= Total * FreePercent;
}

static BOOLEAN MiReserveForMdl(PMI_MAPPING Mapping)
{
    Mapping->Va =
        MiReserveSystemVa(Mapping->Region, Mapping->PageCount, 0, Mapping->LeadingGuardPages);
    if (Mapping->Va == 0) {
        return FALSE;
    }
    if (!NT_SUCCESS(MiPreparePages(Mapping->Va, Mapping->PageCount))) {
        MiReleaseSystemVa(Mapping->Region, Mapping->Va, Mapping->PageCount,
                          Mapping->LeadingGuardPages);
        return FALSE;
    }
    return TRUE;
}

// Maps an MDL whose state is in order. NULL: there is not enough of something.
static PVOID MiMapMdl(PMDL Mdl, MI_CACHE_TYPE CacheType, ULONG Priority, PVOID Caller)
{
    const PPFN_NUMBER Pfns = MmGetMdlPfnArray(Mdl);
    (VOID) MiCheckMdlFrames(Mdl);
    PMI_MAPPING Mapping = MiAllocateMapping(MiMappingMdl, Caller);
    if (Mapping == NULL) {
        return NULL;
    }
    Mapping->Region = MiRegionSystemPtes;
    Mapping->PageCount = MiMdlPageCount(Mdl);
    Mapping->LeadingGuardPages = (Priority & MdlMappingWithGuardPtes) != 0 ? 1 : 0;
    Mapping->Protection.Access =
        (Priority & MdlMappingNoWrite) != 0 ? MiAccessRead : MiAccessReadWrite;
    Mapping->Protection.CacheType = CacheType;
    Mapping->Locked.Mdl = Mdl;
    Mapping->Locked.StartVa = Mdl->StartVa;
    Mapping->Locked.FirstPfn = Pfns[0];
    if (!NT_SUCCESS(MiHoldIoFrames(Pfns, Mapping->PageCount, Caller))) {
        goto FreeMapping;
    }
    if (!MiReserveForMdl(Mapping)) {
        goto ReleaseFrames;
    }
    MiCommitFrames(NULL, Mapping->Va, Pfns, Mapping->PageCount, Mapping->Protection);
    MiInsertMapping(Mapping);
    MiSetMdlMapped(Mdl, Mapping->Va + Mdl->ByteOffset);
    return Mdl->MappedSystemVa;

ReleaseFrames:
    MiReleaseIoFrames(Pfns, Mapping->PageCount);
FreeMapping:
    MiFreeMapping(Mapping);
    return NULL;
}

static PVOID MiMapLockedPages(PMDL Mdl, KPROCESSOR_MODE AccessMode, MEMORY_CACHING_TYPE CachingType,
                              ULONG BugCheckOnFailure, ULONG Priority, PVOID Caller)
{
    const CHAR *const Routine = "MmMapLockedPagesSpecifyCache";
    MI_CACHE_TYPE CacheType;
    if (AccessMode != KernelMode) {
        MiRefusePlain(Routine, MiReasonUserMode);
        return NULL;
    }
    if (!MiDecodeCachingType(CachingType, &CacheType)) {
        MiRefusePlain(Routine, MiReasonCacheType);
        return NULL;
    }
    if (!MiIsMdlMappable(Mdl)) {
        MiRefusePlain(Routine, MiReasonMdlState);
        return NULL;
    }
    PVOID Va = MiIsPriorityMet(Priority) ? MiMapMdl(Mdl, CacheType, Priority, Caller) : NULL;
    if (Va != NULL) {
        return Va;
    }
    MiRefusePlain(Routine, MiReasonResources);
    if (BugCheckOnFailure && (Mdl->MdlFlags & MDL_MAPPING_CAN_FAIL) == 0) {
        ULONG64 Used;
        ULONG64 Total;
        MiQuerySystemVa(MiRegionSystemPtes, &Used, &Total);
        MiBugCheck(NO_MORE_SYSTEM_PTES, 0, MiMdlPageCount(Mdl), Total - Used, Total,
                   "an MDL of %llu pages cannot be mapped, and its driver asked for a bug check "
                   "instead of NULL",
                   MiMdlPageCount(Mdl));
    }
    return NULL;
}

PVOID NTAPI MmMapLockedPagesSpecifyCache(PMDL MemoryDescriptorList, KPROCESSOR_MODE AccessMode,
                                         MEMORY_CACHING_TYPE CacheType, PVOID RequestedAddress,
                                         ULONG BugCheckOnFailure, ULONG Priority)
{
    UNREFERENCED_PARAMETER(RequestedAddress); // user mode's
    return MiMapLockedPages(MemoryDescriptorList, AccessMode, CacheType, BugCheckOnFailure,
                            Priority, __builtin_return_address(0));
}

PVOID NTAPI MmMapLockedPages(PMDL MemoryDescriptorList, KPROCESSOR_MODE AccessMode)
{
    return MiMapLockedPages(MemoryDescriptorList, AccessMode, MmCached, TRUE, HighPagePriority,
                            __builtin_return_address(0));
}

//
// Unmap.
//

// The first page whose frame in the page tables is not the one in Pfns, or PageCount.
static PFN_NUMBER MiFindChangedPage(ULONG_PTR Va, const PFN_NUMBER *Pfns, PFN_NUMBER PageCount)
{
    PFN_NUMBER Page = 0;
    while (Page < PageCount) {
        ULONG EntryCount;
        const MMPTE *Pte =
            MiFindPages(NULL, Va + (Page << PAGE_SHIFT), PageCount - Page, &EntryCount);
        for (ULONG Index = 0; Index < EntryCount; Index += 1, Page += 1) {
            if (MiArchPtePfn(MiArchLoadPte(&Pte[Index]), 1) != Pfns[Page]) {
                return Page;
            }
        }
    }
    return PageCount;
}

// The MDL must describe what it described when it was mapped.
static VOID MiCheckMdlUnchanged(PMI_MAPPING Mapping, PMDL Mdl)
{
    const PFN_NUMBER PageCount = MiMdlPageCount(Mdl);
    if (PageCount != Mapping->PageCount) {
        MiBugCheck(
            SYSTEM_PTE_MISUSE, 0x02, (ULONG_PTR)Mapping, Mapping->PageCount, PageCount,
            "MmUnmapLockedPages: the MDL at 0x%p was mapped with %llu pages and spans %llu now",
            Mdl, Mapping->PageCount, PageCount);
    }
    if (Mdl->StartVa != Mapping->Locked.StartVa) {
        MiBugCheck(SYSTEM_PTE_MISUSE, 0x05, (ULONG_PTR)Mapping, (ULONG_PTR)Mapping->Locked.StartVa,
                   (ULONG_PTR)Mdl->StartVa,
                   "MmUnmapLockedPages: StartVa of the MDL at 0x%p changed while it was mapped",
                   Mdl);
    }
    const PFN_NUMBER Page =
        MiFindChangedPage(Mapping->Va, MmGetMdlPfnArray(Mdl), Mapping->PageCount);
    if (Page < Mapping->PageCount) {
        MiBugCheck(SYSTEM_PTE_MISUSE, 0x04, (ULONG_PTR)Mapping, Mapping->Locked.FirstPfn,
                   MmGetMdlPfnArray(Mdl)[0],
                   "MmUnmapLockedPages: frame %llu of the MDL at 0x%p changed while it was mapped",
                   Page, Mdl);
    }
}

// The record of the MDL's own mapping, which must be at BaseAddress.
static PMI_MAPPING MiFindMdlMapping(PVOID BaseAddress, PMDL Mdl)
{
    const PMI_MAPPING Mapping =
        (Mdl->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA) != 0 ? MiFindMapping(Mdl->MappedSystemVa) : NULL;
    if (Mapping != NULL && Mapping->Kind == MiMappingReserved && Mapping->Reserved.Mdl == Mdl) {
        MiBugCheck(SYSTEM_PTE_MISUSE, 0x301, (ULONG_PTR)BaseAddress, 0, 0,
                   "MmUnmapLockedPages: the MDL at 0x%p is mapped into a reservation; "
                   "MmUnmapReservedMapping undoes that",
                   Mdl);
    }
    if (Mapping == NULL || Mapping->Kind != MiMappingMdl || Mapping->Locked.Mdl != Mdl) {
        MiBugCheck(SYSTEM_PTE_MISUSE, 0x06, (ULONG_PTR)Mdl, (ULONG_PTR)BaseAddress,
                   MiMdlPageCount(Mdl),
                   "MmUnmapLockedPages: the MDL at 0x%p has no mapping of its own", Mdl);
    }
    if ((ULONG_PTR)PAGE_ALIGN(BaseAddress) != Mapping->Va) {
        MiBugCheck(SYSTEM_PTE_MISUSE, 0x03, (ULONG_PTR)Mapping, Mapping->Va, (ULONG_PTR)BaseAddress,
                   "MmUnmapLockedPages: the MDL at 0x%p is mapped at 0x%p, not at 0x%p", Mdl,
                   (PVOID)Mapping->Va, BaseAddress);
    }
    return Mapping;
}

static VOID MiUnmapLockedMapping(PMI_MAPPING Mapping)
{
    const PMDL Mdl = Mapping->Locked.Mdl;
    MiRemoveMapping(Mapping);
    MiUncommitFrames(NULL, Mapping->Va, Mapping->PageCount);
    MiReleaseSystemVa(Mapping->Region, Mapping->Va, Mapping->PageCount, Mapping->LeadingGuardPages);
    MiReleaseIoFrames(MmGetMdlPfnArray(Mdl), Mapping->PageCount);
    MiSetMdlUnmapped(Mdl);
    MiFreeMapping(Mapping);
}

VOID NTAPI MmUnmapLockedPages(PVOID BaseAddress, PMDL MemoryDescriptorList)
{
    const PMI_MAPPING Mapping = MiFindMdlMapping(BaseAddress, MemoryDescriptorList);
    MiCheckMdlUnchanged(Mapping, MemoryDescriptorList);
    MiUnmapLockedMapping(Mapping);
}

// The record of the MDL's own mapping, of whichever kind, or NULL.
static PMI_MAPPING MiFindOwnMapping(PMDL Mdl)
{
    const PMI_MAPPING Mapping =
        (Mdl->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA) != 0 ? MiFindMapping(Mdl->MappedSystemVa) : NULL;
    if (Mapping == NULL) {
        return NULL;
    }
    const BOOLEAN IsOwn = (Mapping->Kind == MiMappingMdl && Mapping->Locked.Mdl == Mdl) ||
                          (Mapping->Kind == MiMappingReserved && Mapping->Reserved.Mdl == Mdl);
    return IsOwn ? Mapping : NULL;
}

BOOLEAN MiHasOwnMapping(PMDL Mdl)
{
    return MiFindOwnMapping(Mdl) != NULL;
}

VOID MiUnmapMdl(PMDL Mdl)
{
    const PMI_MAPPING Mapping = MiFindOwnMapping(Mdl);
    if (Mapping != NULL && Mapping->Kind == MiMappingReserved) {
        MiUnmapReservation(Mapping);
    } else if (Mapping != NULL) {
        MiCheckMdlUnchanged(Mapping, Mdl);
        MiUnmapLockedMapping(Mapping);
    }
}
