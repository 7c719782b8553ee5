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
#include "mm/miquick.h"

//
// Pages.
//

// Decides the types of the MDL's frames of RAM that have none, from one of them on: all together.
static VOID MiDecideFrames(PMDL Mdl, const PFN_NUMBER *First, MI_CACHE_TYPE Requested)
{
    const PFN_NUMBER *const End = MmGetMdlPfnArray(Mdl) + MiMdlPageCount(Mdl);
    MI_TLB_BATCH Batch;
    MiInitializeTlbBatch(&Batch);
    for (const PFN_NUMBER *Slot = First; Slot != End; Slot += 1) {
        const PMMPFN Element = MiPfnElement(*Slot);
        if (Element != NULL && Element->CacheType == MiCacheUndecided) {
            (VOID) MiDecideRamCacheType(*Slot, Requested, &Batch);
        }
    }
    MiFlushTlbBatch(&Batch);
}

// How a page of the MDL is mapped: with the cache type that its frame has; where it has none,
// Requested's. The kernel's own frames are written only through an MDL that was locked for that.
static MI_PROTECTION MiProtectionOfPage(PMDL Mdl, const PFN_NUMBER *Slot, MI_PROTECTION Requested,
                                        PVOID Caller)
{
    const PMMPFN Element = MiPfnElement(*Slot);
    MI_PROTECTION Protection = Requested;
    if (Element == NULL) {
        Protection.CacheType = MiDecideIoCacheType(*Slot, Requested.CacheType, Caller);
    } else if (Element->CacheType <= MiCacheUndecided) {
        if (Element->CacheType == MiCacheUndecided) {
            MiDecideFrames(Mdl, Slot, Requested.CacheType);
        }
        Protection.CacheType = (MI_CACHE_TYPE)Element->CacheType;
    } else if (Element->State == MiPfnKernel && Element->LockCount != 0) {
        Protection.CacheType = MiCacheWriteBack;
        Protection.Access =
            (Mdl->MdlFlags & MDL_WRITE_OPERATION) != 0 ? Requested.Access : MiAccessRead;
    } else {
        MiStopUnlockedFrame(Mdl, Slot);
    }
    return Protection;
}

static VOID MiCommitEntries(PMDL Mdl, PMMPTE Pte, const PFN_NUMBER *Pfns, ULONG EntryCount,
                            MI_PROTECTION Requested, PVOID Caller)
{
    ULONG Done = 0;
    while (Done < EntryCount) {
        const MI_PROTECTION Protection = MiProtectionOfPage(Mdl, &Pfns[Done], Requested, Caller);
        NT_ASSERT(MiArchPteKind(MiArchLoadPte(&Pte[Done]), 1) == MiPteEmpty);
        MiArchStorePte(&Pte[Done], MiArchMakeLeaf(1, Pfns[Done], Protection));
        Done += 1;
        if (Protection.Access == Requested.Access) {
            Done += (ULONG)MiStoreTypedRun(&Pte[Done], &Pfns[Done], EntryCount - Done, Protection);
        }
    }
}

// Adds Change to the borrowers of every frame of RAM that the mapping shows in PageCount pages.
static VOID MiCountBorrowers(const MI_MAPPING *Mapping, PFN_NUMBER PageCount, LONG Change)
{
    const ULONG_PTR Va = MiShownVa(Mapping);
    for (PFN_NUMBER Page = 0; Page < PageCount; Page += 1) {
        PFN_NUMBER Pfn = MI_NO_PFN;
        (VOID) MiFindMappedFrame(Va + (Page << PAGE_SHIFT), &Pfn);
        const PMMPFN Element = MiPfnElement(Pfn);
        if (Element != NULL) {
            __atomic_fetch_add(&Element->MapCount, (ULONG)Change, __ATOMIC_RELAXED);
        }
    }
}

VOID MiCommitMdlFrom(PMI_MAPPING Mapping, PMDL Mdl, PFN_NUMBER Page, PFN_NUMBER PageCount,
                     MI_PROTECTION Requested)
{
    const PPFN_NUMBER Pfns = MmGetMdlPfnArray(Mdl);
    while (Page < PageCount) {
        ULONG EntryCount;
        const PMMPTE Pte =
            MiFindPages(Page == 0 ? Mapping->FirstPte : NULL, Mapping->Va + (Page << PAGE_SHIFT),
                        PageCount - Page, &EntryCount);
        MiCommitEntries(Mdl, Pte, &Pfns[Page], EntryCount, Requested, Mapping->Caller);
        Page += EntryCount;
    }
}

VOID MiCommitSimplePages(PMI_MAPPING Mapping, PMDL Mdl, PFN_NUMBER PageCount,
                         MI_PROTECTION Requested)
{
    MiCommitManyPages(Mapping, Mdl, PageCount, Requested);
}

BOOLEAN MiCommitMdl(PMI_MAPPING Mapping, PMDL Mdl, PFN_NUMBER PageCount, MI_PROTECTION Requested)
{
    const BOOLEAN IsBorrowed = !MiIsMdlSealed(Mdl) || MiIsVerifying();
    MiCommitMdlFrom(Mapping, Mdl, 0, PageCount, Requested);
    if (IsBorrowed) {
        MiCountBorrowers(Mapping, PageCount, 1);
    }
    return IsBorrowed;
}

VOID MiUncommitLeadingPages(PMI_MAPPING Mapping, PFN_NUMBER PageCount)
{
    const ULONG_PTR Va = MiShownVa(Mapping);
    if (Mapping->Locked.IsBorrowed) {
        MiCountBorrowers(Mapping, PageCount, -1);
    }
    MiClearPages(MiFindFirstPage(Va), Va, PageCount);
}

VOID MiUncommitMdl(PMI_MAPPING Mapping, PFN_NUMBER PageCount, BOOLEAN IsBorrowed,
                   BOOLEAN HoldsFrames)
{
    if (IsBorrowed) {
        MiCountBorrowers(Mapping, PageCount - Mapping->SkippedPages, -1);
    }
    if (MiTakePages(Mapping->FirstPte, Mapping->Va, PageCount)) {
        MiForgetPages(Mapping, PageCount, !HoldsFrames);
    }
    Mapping->SkippedPages = 0;
    Mapping->InaccessiblePages = 0;
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
    ULONG Row = 0;
    while ((Priority & MI_PRIORITY_MASK) > MiPriorities[Row].Priority &&
           Row + 1 < ARRAYSIZE(MiPriorities)) {
        Row += 1;
    }
    MiQuerySystemVa(MiRegionSystemPtes, &Used, &Total);
    return (Total - Used) * 100 >= Total * MiPriorities[Row].FreePercent;
}

// Maps an MDL whose state is in order. NULL: there is not enough of something.
static PVOID MiMapMdl(PMDL Mdl, MI_CACHE_TYPE CacheType, ULONG Priority, PVOID Caller)
{
    const BOOLEAN IsSimple = MiIsMdlSimple(Mdl) || MiCheckMdlFrames(Mdl);
    const PFN_NUMBER PageCount = MiMdlPageCount(Mdl);
    const PMI_MAPPING Mapping = MiAcquireMapping(MiRegionSystemPtes, PageCount, 0, Caller);
    if (Mapping == NULL) {
        return NULL;
    }
    // A driver's code and data pages are not made of what a device writes: never executable.
    Mapping->Protection.Access =
        (Priority & MdlMappingNoWrite) != 0 ? MiAccessRead : MiAccessReadWrite;
    Mapping->Protection.CacheType = CacheType;
    Mapping->Locked.Mdl = Mdl;
    Mapping->Locked.StartVa = Mdl->StartVa;
    Mapping->Locked.FirstPfn = MmGetMdlPfnArray(Mdl)[0];
    if (!IsSimple && !NT_SUCCESS(MiHoldIoFrames(MmGetMdlPfnArray(Mdl), PageCount, Caller))) {
        MiReleaseMapping(Mapping);
        return NULL;
    }
    Mapping->Locked.HoldsFrames = !IsSimple;
    Mapping->Locked.IsBorrowed = MiCommitMdl(Mapping, Mdl, PageCount, Mapping->Protection);
    MiSetMdlMapped(Mdl, Mapping->Va + Mdl->ByteOffset);
    MiPublishMapping(Mapping, MiMappingMdl);
    return Mdl->MappedSystemVa;
}

DECLSPEC_NOINLINE static PVOID NTAPI MiMapLockedPages(PMDL Mdl, KPROCESSOR_MODE AccessMode,
                                                      MEMORY_CACHING_TYPE CachingType,
                                                      ULONG BugCheckOnFailure, ULONG Priority,
                                                      PVOID Caller)
{
    const CHAR *const Routine = "MmMapLockedPagesSpecifyCache";
    MI_CACHE_TYPE CacheType;
    if (AccessMode != KernelMode) {
        MiRefusePlain(Routine, MiReasonUserMode);
        KiRaiseStatus(Routine, STATUS_NO_MEMORY, Caller);
    }
    if (!MiDecodeCachingType(CachingType, &CacheType)) {
        MiRefusePlain(Routine, MiReasonCacheType);
        return NULL;
    }
    if (!MiIsMdlMappable(Mdl)) {
        MiRefusePlain(Routine, MiReasonMdlState);
        return NULL;
    }
    // What lies idle is as good as free, but only the last resort gives it back.
    const BOOLEAN IsRoom =
        MiIsPriorityMet(Priority) || (MiTrimMappings() && MiIsPriorityMet(Priority));
    PVOID Va = IsRoom ? MiMapMdl(Mdl, CacheType, Priority, Caller) : NULL;
    if (Va != NULL) {
        return Va;
    }
    MiRefusePlain(Routine, MiReasonResources);
    if (BugCheckOnFailure && (Mdl->MdlFlags & MDL_MAPPING_CAN_FAIL) == 0) {
        ULONG64 Used;
        ULONG64 Total;
        MiQuerySystemVa(MiRegionSystemPtes, &Used, &Total);
        if (MiIsVerifying()) {
            MiVerifyPtesLeft(Total - Used, Total, Caller);
        }
        MiBugCheck(NO_MORE_SYSTEM_PTES, 0, MiMdlPageCount(Mdl), Total - Used, Total,
                   "an MDL of %llu pages cannot be mapped, and its driver asked for a bug check "
                   "instead of NULL",
                   MiMdlPageCount(Mdl));
    }
    return NULL;
}

// A simple MDL that fits an idle slot. NULL: it takes more than that. An idle slot has its addresses
// already, so the priority does not matter.
FORCEINLINE PVOID MiMapMdlQuickly(PMDL Mdl, KPROCESSOR_MODE AccessMode,
                                  MEMORY_CACHING_TYPE CachingType, ULONG Priority, PVOID Caller)
{
    const PFN_NUMBER PageCount = MiMdlPageCount(Mdl);
    MI_PROTECTION Protection;
    if (AccessMode != KernelMode || !MiDecodeCachingType(CachingType, &Protection.CacheType) ||
        !MiIsMdlMappable(Mdl) || !MiIsMdlSimple(Mdl) || !MiIsSmall(PageCount) ||
        !MiAreShortWaysOpen()) {
        return NULL;
    }
    const PMI_MAPPING Mapping = MiAcquireQuickly(PageCount, Caller, KeTickCycles);
    if (Mapping == NULL) {
        return NULL;
    }
    Protection.Access = (Priority & MdlMappingNoWrite) != 0 ? MiAccessRead : MiAccessReadWrite;
    Mapping->Protection = Protection;
    Mapping->Locked.Mdl = Mdl;
    Mapping->Locked.StartVa = Mdl->StartVa;
    Mapping->Locked.FirstPfn = MmGetMdlPfnArray(Mdl)[0];
    Mapping->Locked.HoldsFrames = FALSE;
    Mapping->Locked.IsBorrowed = FALSE;
    MiCommitSimpleMdl(Mapping, Mdl, PageCount, Protection);
    MiSetWholeMdlMapped(Mdl, Mapping->Va + Mdl->ByteOffset);
    MiPublishMapping(Mapping, MiMappingMdl);
    return Mdl->MappedSystemVa;
}

PVOID NTAPI MmMapLockedPagesSpecifyCache(PMDL MemoryDescriptorList, KPROCESSOR_MODE AccessMode,
                                         MEMORY_CACHING_TYPE CacheType, PVOID RequestedAddress,
                                         ULONG BugCheckOnFailure, ULONG Priority)
{
    const PVOID Caller = __builtin_return_address(0);
    UNREFERENCED_PARAMETER(RequestedAddress); // user mode's
    const PVOID Va = MiMapMdlQuickly(MemoryDescriptorList, AccessMode, CacheType, Priority, Caller);
    if (Va != NULL) {
        return Va;
    }
    if (MiIsVerifying()) {
        MiVerifyMapLockedPagesSpecifyCache(MemoryDescriptorList, AccessMode, BugCheckOnFailure,
                                           Priority, Caller);
    }
    return MiMapLockedPages(MemoryDescriptorList, AccessMode, CacheType, BugCheckOnFailure,
                            Priority, Caller);
}

PVOID NTAPI MmMapLockedPages(PMDL MemoryDescriptorList, KPROCESSOR_MODE AccessMode)
{
    const PVOID Caller = __builtin_return_address(0);
    if (MiIsVerifying()) {
        MiVerifyMapLockedPages(MemoryDescriptorList, AccessMode, Caller);
    }
    return MiMapLockedPages(MemoryDescriptorList, AccessMode, MmCached, TRUE, HighPagePriority,
                            Caller);
}

//
// Unmap.
//

PFN_NUMBER MiFindChangedPage(ULONG_PTR Va, const PFN_NUMBER *Pfns, PFN_NUMBER PageCount)
{
    PFN_NUMBER Page = 0;
    PFN_NUMBER Pfn = MI_NO_PFN;
    while (Page < PageCount && MiFindMappedFrame(Va + (Page << PAGE_SHIFT), &Pfn) &&
           Pfn == Pfns[Page]) {
        Page += 1;
    }
    return Page;
}

// The MDL must describe what it described when it was mapped.
static VOID MiCheckMdlUnchanged(PMI_MAPPING Mapping, PMDL Mdl)
{
    const PFN_NUMBER PageCount = MiMdlPageCount(Mdl);
    const PFN_NUMBER MappedCount = MiShownPageCount(Mapping);
    if (PageCount != MappedCount) {
        MiBugCheck(
            SYSTEM_PTE_MISUSE, 0x02, (ULONG_PTR)Mapping, MappedCount, PageCount,
            "MmUnmapLockedPages: the MDL at 0x%p was mapped with %llu pages and spans %llu now",
            Mdl, MappedCount, PageCount);
    }
    if (Mdl->StartVa != Mapping->Locked.StartVa) {
        MiBugCheck(SYSTEM_PTE_MISUSE, 0x05, (ULONG_PTR)Mapping, (ULONG_PTR)Mapping->Locked.StartVa,
                   (ULONG_PTR)Mdl->StartVa,
                   "MmUnmapLockedPages: StartVa of the MDL at 0x%p changed while it was mapped",
                   Mdl);
    }
    const PFN_NUMBER Page =
        MiFindChangedPage(MiShownVa(Mapping), MmGetMdlPfnArray(Mdl), MappedCount);
    if (Page < MappedCount) {
        MiBugCheck(SYSTEM_PTE_MISUSE, 0x04, (ULONG_PTR)Mapping, Mapping->Locked.FirstPfn,
                   MmGetMdlPfnArray(Mdl)[0],
                   "MmUnmapLockedPages: frame %llu of the MDL at 0x%p changed while it was mapped",
                   Page, Mdl);
    }
}

// The record of what the MDL calls its system address, whosesoever it is; or NULL. Behind pages that
// MmAdvanceMdl has passed, the address is not the slot's first.
static PMI_MAPPING MiFindMappingOfMdl(const MDL *Mdl)
{
    if ((Mdl->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA) == 0) {
        return NULL;
    }
    return (Mdl->MdlFlags & MDL_FREE_EXTRA_PTES) != 0 ? MiFindMappingAround(Mdl->MappedSystemVa)
                                                      : MiFindMapping(Mdl->MappedSystemVa);
}

// The record of the MDL's own mapping, which must be at BaseAddress.
static PMI_MAPPING MiFindMdlMapping(PVOID BaseAddress, PMDL Mdl)
{
    const PMI_MAPPING Mapping = MiFindMappingOfMdl(Mdl);
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
    if ((ULONG_PTR)PAGE_ALIGN(BaseAddress) != MiShownVa(Mapping)) {
        MiBugCheck(SYSTEM_PTE_MISUSE, 0x03, (ULONG_PTR)Mapping, MiShownVa(Mapping),
                   (ULONG_PTR)BaseAddress,
                   "MmUnmapLockedPages: the MDL at 0x%p is mapped at 0x%p, not at 0x%p", Mdl,
                   (PVOID)MiShownVa(Mapping), BaseAddress);
    }
    return Mapping;
}

static VOID MiUnmapLockedMapping(PMI_MAPPING Mapping)
{
    const PMDL Mdl = Mapping->Locked.Mdl;
    const PFN_NUMBER ShownCount = MiShownPageCount(Mapping);
    MiUncommitMdl(Mapping, Mapping->PageCount, Mapping->Locked.IsBorrowed,
                  Mapping->Locked.HoldsFrames);
    if (Mapping->Locked.HoldsFrames) {
        MiReleaseIoFrames(MmGetMdlPfnArray(Mdl), ShownCount);
    }
    MiSetMdlUnmapped(Mdl);
    MiReleaseMapping(Mapping);
}

DECLSPEC_NOINLINE static VOID NTAPI MiUnmapLockedPages(PVOID BaseAddress, PMDL Mdl, PVOID Caller)
{
    if (MiIsVerifying()) {
        MiVerifyUnmapLockedPages(BaseAddress, Mdl, Caller);
    }
    const PMI_MAPPING Mapping = MiFindMdlMapping(BaseAddress, Mdl);
    MiCheckMdlUnchanged(Mapping, Mdl);
    MiUnmapLockedMapping(Mapping);
}

// Whether the mapping is one page of an MDL that is as it was when it was mapped.
static inline BOOLEAN MiIsQuickUnmap(const MI_MAPPING *Mapping, PVOID BaseAddress, PMDL Mdl)
{
    return Mapping != NULL && Mapping->Kind == MiMappingMdl && Mapping->PageCount == 1 &&
           Mapping->Locked.Mdl == Mdl && Mapping->Locked.StartVa == Mdl->StartVa &&
           !Mapping->Locked.IsBorrowed && !Mapping->Locked.HoldsFrames &&
           Mapping->InaccessiblePages == 0 && (ULONG_PTR)PAGE_ALIGN(BaseAddress) == Mapping->Va &&
           MiMdlPageCount(Mdl) == 1 && MmGetMdlPfnArray(Mdl)[0] == Mapping->Locked.FirstPfn;
}

VOID NTAPI MmUnmapLockedPages(PVOID BaseAddress, PMDL MemoryDescriptorList)
{
    const PMDL Mdl = MemoryDescriptorList;
    const PMI_MAPPING Mapping = (Mdl->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA) != 0
                                    ? MiFindSlotQuickly((ULONG_PTR)PAGE_ALIGN(Mdl->MappedSystemVa))
                                    : NULL;
    if (!MiIsQuickUnmap(Mapping, BaseAddress, Mdl) || MiIsVerifying()) {
        MiUnmapLockedPages(BaseAddress, Mdl, __builtin_return_address(0));
        return;
    }
    // As MiUnmapLockedPages, for one page.
    MiClearOnePage(Mapping, TRUE);
    MiSetMdlUnmapped(Mdl);
    if (!MiReleaseQuickly(Mapping)) {
        MiReleaseMapping(Mapping);
    }
}

PMI_MAPPING MiFindOwnMapping(PMDL Mdl)
{
    const PMI_MAPPING Mapping = MiFindMappingOfMdl(Mdl);
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
