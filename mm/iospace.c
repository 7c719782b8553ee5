// I/O space: MmMapIoSpaceEx, MmMapIoSpace, MmUnmapIoSpace, MmIsIoSpaceActive.
//
// A mapping is decided first and done afterwards:
//
//   decide   MiDecodePageProtection   what may be done with the pages
//            MiRangeFromBytes         which frames
//            MiMayMapFrames           whether these may be mapped
//            MiAcquireMapping         where: a slot of system addresses, its tables and its record
//            MiHoldMapping            the cache type: the last step that may fail
//   do       MiCommitRange            leaves
//
// That is MiMapIoSpace, which knows every case and every reason. One page of device memory, and the
// range that was unmapped last, go a short way (miquick.h), which takes what is at hand, and turns to
// MiMapIoSpace where that is not enough.
//
// Two sorts of frames may be mapped: I/O space, which takes a hold in the ledger; and RAM that
// stays where it is until its owner frees it (pool, pages of an MDL), which has a cache type of its
// own that silently wins. Page tables, the kernel, free RAM, and mixtures are refused, and the
// reason is kept.
#include "mm/miquick.h"

//
// Decide.
//

// Counts mappings in each frame, which may not be freed while there are any.
static VOID MiCountFrames(MI_PFN_RANGE Range, LONG Change)
{
    for (PFN_NUMBER Pfn = Range.FirstPfn; Pfn <= Range.LastPfn; Pfn += 1) {
        PMMPFN Element = MiPfnElement(Pfn);
        __atomic_fetch_add(&Element->MapCount, (ULONG)Change, __ATOMIC_RELAXED);
    }
}

static BOOLEAN MiIsAllLocked(MI_PFN_RANGE Range, MI_REASON *Reason)
{
    for (PFN_NUMBER Pfn = Range.FirstPfn; Pfn <= Range.LastPfn; Pfn += 1) {
        if (!MiIsLockedFrame(Pfn, Reason)) {
            return FALSE;
        }
    }
    return TRUE;
}

static BOOLEAN MiIsAllRam(MI_PFN_RANGE Range)
{
    PFN_NUMBER LastPfn;
    return MiPhysicalKindOf(Range.FirstPfn, &LastPfn) == MiPhysicalRam && LastPfn >= Range.LastPfn;
}

// Whether the frames may be mapped at all.
static BOOLEAN MiMayMapFrames(MI_PFN_RANGE Range, BOOLEAN IsRam, MI_REASON *Reason)
{
    return IsRam ? MiIsAllLocked(Range, Reason) : MiIsIoSpace(Range, Reason);
}

// Says who has the frames with which type, since when, and whose they are.
VOID MiRefuseCacheConflict(const CHAR *Routine, MI_PFN_RANGE Range, MI_CACHE_TYPE CacheType)
{
    MI_CACHE_OWNER Owner = {CacheType, NULL, 0};
    CHAR Claim[MI_CLAIM_NAME_CHARS];
    CHAR Who[MI_WHO_BYTES];
    CHAR Text[MI_OWNER_CHARS];
    (VOID) MiFindCacheOwner(Range, CacheType, &Owner);
    const BOOLEAN IsClaimed = MiDescribeClaim(Range, Claim, sizeof(Claim));
    MiDescribeWho(Owner.Caller, Owner.Time, Who, sizeof(Who));
    RtlFormatBuffer(Text, sizeof(Text), "%s%s%s, as %s", IsClaimed ? Claim : "",
                    IsClaimed ? " for " : "", Who, MiCacheTypeName(Owner.CacheType));
    MiRefuse(Routine, MiReasonCacheConflict, Range, Text);
}

static MI_PFN_RANGE MiRangeOfMapping(const MI_MAPPING *Mapping)
{
    return (MI_PFN_RANGE){Mapping->Io.FirstPfn, Mapping->Io.FirstPfn + Mapping->PageCount - 1};
}

// Large leaves pay from one large page up, and only for contiguous device memory.
static MI_REGION MiRegionForRange(PFN_NUMBER PageCount)
{
    return PageCount >= MI_PTES_PER_TABLE ? MiRegionLargeSystemPtes : MiRegionSystemPtes;
}

// Takes the hold of I/O frames that a mapping needs.
static NTSTATUS MiHoldMapping(PMI_MAPPING Mapping, MI_PFN_RANGE Range)
{
    Mapping->Io.Hold =
        Mapping->Region == MiRegionLargeSystemPtes ? MiHoldAsRange : MiHoldFrameByFrame;
    const NTSTATUS Status =
        Mapping->Io.Hold == MiHoldAsRange
            ? MiHoldRange(&Mapping->Io.Range, Range, Mapping->Protection.CacheType, Mapping->Caller)
            : MiHoldFrames(Range, Mapping->Protection.CacheType, Mapping->Caller);
    if (Mapping->Protection.CacheType != MiCacheUncached) {
        MiForgetTypes();
    }
    return Status;
}

//
// Do.
//

static inline VOID MiCommitLarge(const MI_MAPPING *Mapping)
{
    if (Mapping->LeafCount != 0) {
        MiArchStoreLeaves(Mapping->FirstPte, Mapping->LeafLevel, Mapping->Io.FirstPfn,
                          Mapping->LeafCount, Mapping->Protection);
    } else {
        MiCommitRange(Mapping->FirstPte, Mapping->Va, Mapping->Io.FirstPfn, Mapping->PageCount,
                      Mapping->Protection);
    }
}

static inline VOID MiUncommitLarge(const MI_MAPPING *Mapping)
{
    if (Mapping->LeafCount != 0) {
        if (MiTakeLeaves(Mapping->FirstPte, Mapping->LeafCount)) {
            MiFlushLeaves(Mapping->Va, Mapping->LeafCount, MiPagesPerLeaf(Mapping->LeafLevel));
        }
    } else {
        MiUncommitRange(Mapping->FirstPte, Mapping->Va, Mapping->Io.FirstPfn, Mapping->PageCount);
    }
}

// Device memory that is not uncached does not wait: a frame may get another type as soon as nobody holds
// it, and then nobody may remember it with that one.
static inline BOOLEAN MiMayWait(const MI_MAPPING *Mapping)
{
    return Mapping->Io.Hold == MiHoldNothing || Mapping->Protection.CacheType == MiCacheUncached;
}

static VOID MiUncommitSmall(PMI_MAPPING Mapping)
{
    if (MiTakePages(Mapping->FirstPte, Mapping->Va, Mapping->PageCount)) {
        MiForgetPages(Mapping, Mapping->PageCount, MiMayWait(Mapping));
    }
}

// Device memory.
static PVOID MiMapDevice(const CHAR *Routine, MI_PFN_RANGE Range, MI_PROTECTION Protection,
                         PVOID Caller)
{
    const PFN_NUMBER PageCount = MiRangePageCount(Range);
    const PMI_MAPPING Mapping =
        MiAcquireMapping(MiRegionForRange(PageCount), PageCount, Range.FirstPfn, Caller);
    if (Mapping == NULL) {
        MiRefuse(Routine, MiReasonResources, Range, NULL);
        return NULL;
    }
    Mapping->Protection = Protection;
    Mapping->Io.FirstPfn = Range.FirstPfn;
    // The last question: an MDL of these frames learns the answer, so it must not be asked in vain.
    const NTSTATUS Status = MiHoldMapping(Mapping, Range);
    if (!NT_SUCCESS(Status)) {
        MiReleaseMapping(Mapping);
        if (Status == STATUS_CONFLICTING_ADDRESSES) {
            MiRefuseCacheConflict(Routine, Range, Protection.CacheType);
        } else {
            MiRefuse(Routine, MiReasonResources, Range, NULL);
        }
        return NULL;
    }
    if (Mapping->Io.Hold == MiHoldAsRange) {
        MiCommitLarge(Mapping);
    } else {
        MiCommitSmallRange(Mapping->FirstPte, Mapping->Va, Range.FirstPfn, PageCount, Protection);
    }
    MiPublishMapping(Mapping, MiMappingIo);
    return (PVOID)Mapping->Va;
}

// RAM, page by page, each with the cache type that it has, or now gets.
static PVOID MiMapRam(const CHAR *Routine, MI_PFN_RANGE Range, MI_PROTECTION Protection,
                      PVOID Caller)
{
    const PMI_MAPPING Mapping =
        MiAcquireMapping(MiRegionSystemPtes, MiRangePageCount(Range), 0, Caller);
    if (Mapping == NULL) {
        MiRefuse(Routine, MiReasonResources, Range, NULL);
        return NULL;
    }
    Mapping->Protection = Protection;
    Mapping->Io.FirstPfn = Range.FirstPfn;
    Mapping->Io.Hold = MiHoldNothing;
    MI_TLB_BATCH Batch;
    MiInitializeTlbBatch(&Batch);
    for (PFN_NUMBER Page = 0; Page < Mapping->PageCount; Page += 1) {
        (VOID) MiDecideRamCacheType(Range.FirstPfn + Page, Protection.CacheType, &Batch);
    }
    MiFlushTlbBatch(&Batch);
    for (PFN_NUMBER Page = 0; Page < Mapping->PageCount; Page += 1) {
        const PFN_NUMBER Pfn = Range.FirstPfn + Page;
        MI_PROTECTION OfPage = Protection;
        OfPage.CacheType = MiRamCacheType(MiPfnElement(Pfn));
        MiCommitPages(Mapping->Va + (Page << PAGE_SHIFT), &Pfn, 1, OfPage);
    }
    MiCountFrames(Range, 1);
    MiPublishMapping(Mapping, MiMappingIo);
    return (PVOID)Mapping->Va;
}

DECLSPEC_NOINLINE static PVOID NTAPI MiMapIoSpace(const CHAR *Routine,
                                                  PHYSICAL_ADDRESS PhysicalAddress,
                                                  SIZE_T NumberOfBytes, MI_PROTECTION Protection,
                                                  PVOID Caller)
{
    MI_PFN_RANGE Range;
    MI_REASON Reason;
    if (!MiRangeFromBytes((ULONG64)PhysicalAddress.QuadPart, NumberOfBytes, &Range, &Reason)) {
        MiRefusePlain(Routine, Reason);
        return NULL;
    }
    const BOOLEAN IsRam = MiPfnElement(Range.FirstPfn) != NULL && MiIsAllRam(Range);
    if (!MiMayMapFrames(Range, IsRam, &Reason)) {
        MiRefuse(Routine, Reason, Range, NULL);
        return NULL;
    }
    const PVOID Va = IsRam ? MiMapRam(Routine, Range, Protection, Caller)
                           : MiMapDevice(Routine, Range, Protection, Caller);
    return Va != NULL ? (PUCHAR)Va + BYTE_OFFSET(PhysicalAddress.QuadPart) : NULL;
}

// The short ways, which make no call while all goes well.

typedef PVOID NTAPI MI_MAP_ROUTINE(PHYSICAL_ADDRESS PhysicalAddress, SIZE_T NumberOfBytes,
                                   MI_PROTECTION Protection, PVOID Caller);

// The range that was unmapped last, once more. NULL: it is another one, or takes more than one run of
// leaves.
static inline PVOID MiMapRangeQuickly(PHYSICAL_ADDRESS PhysicalAddress, SIZE_T NumberOfBytes,
                                      MI_PROTECTION Protection, PVOID Caller)
{
    const ULONG64 Base = (ULONG64)PhysicalAddress.QuadPart;
    const MI_PFN_RANGE Range = {Base >> PAGE_SHIFT, (Base + NumberOfBytes - 1) >> PAGE_SHIFT};
    const PMI_MAPPING Mapping =
        MiAreShortWaysOpen() ? MiAcquireSameRange(Range, Protection.CacheType, Caller) : NULL;
    if (Mapping == NULL) {
        return NULL;
    }
    if (!MiHoldIdleRange(&Mapping->Io.Range, Caller, Mapping->Time)) {
        MiReleaseMapping(Mapping);
        return NULL;
    }
    Mapping->Protection = Protection;
    MiArchStoreLeaves(Mapping->FirstPte, Mapping->LeafLevel, Range.FirstPfn, Mapping->LeafCount,
                      Protection);
    MiPublishMapping(Mapping, MiMappingIo);
    return (PUCHAR)Mapping->Va + BYTE_OFFSET(Base);
}

// Whether a request is for one page of device memory.
FORCEINLINE BOOLEAN MiIsQuickPage(PHYSICAL_ADDRESS PhysicalAddress, SIZE_T NumberOfBytes)
{
    const PFN_NUMBER Pfn = (ULONG64)PhysicalAddress.QuadPart >> PAGE_SHIFT;
    return NumberOfBytes - 1 < PAGE_SIZE - BYTE_OFFSET(PhysicalAddress.QuadPart) &&
           MiIsInLastMappableRange((MI_PFN_RANGE){Pfn, Pfn});
}

// Maps a page that satisfies MiIsQuickPage; goes to Generally when it takes more than a look at the
// ledger, or this processor has no idle slot.
FORCEINLINE PVOID MiMapPageQuickly(PHYSICAL_ADDRESS PhysicalAddress, SIZE_T NumberOfBytes,
                                   MI_PROTECTION Protection, PVOID Caller,
                                   MI_MAP_ROUTINE *Generally)
{
    const PFN_NUMBER Pfn = (ULONG64)PhysicalAddress.QuadPart >> PAGE_SHIFT;
    const ULONG64 Time = KeTickCycles;
    const PMI_PROCESSOR_CACHE Cache = MiThisCache();
    const ULONG64 Flags = KiAcquireBriefLock(&Cache->Lock);
    const PMI_MAPPING Mapping = Cache->Idle[0].First;
    if (Mapping == NULL || !MiHoldQuickly(Cache, Pfn, Protection.CacheType, Caller, Time)) {
        KiReleaseBriefLock(&Cache->Lock, Flags);
        return Generally(PhysicalAddress, NumberOfBytes, Protection, Caller);
    }
    (VOID) MiPopSlot(&Cache->Idle[0]);
    KiReleaseBriefLock(&Cache->Lock, Flags);
    if (Protection.CacheType != MiCacheUncached) {
        MiForgetTypes();
    }
    Mapping->PageCount = 1;
    Mapping->Caller = Caller;
    Mapping->Time = Time;
    Mapping->Protection = Protection;
    Mapping->Io.FirstPfn = Pfn;
    Mapping->Io.Hold = MiHoldFrameByFrame;
    MiArchStorePte(Mapping->FirstPte, MiArchMakeLeaf(1, Pfn, Protection));
    MiPublishMapping(Mapping, MiMappingIo);
    return (PUCHAR)Mapping->Va + BYTE_OFFSET(PhysicalAddress.QuadPart);
}

DECLSPEC_NOINLINE static PVOID NTAPI MiMapIoSpaceEx(PHYSICAL_ADDRESS PhysicalAddress,
                                                    SIZE_T NumberOfBytes, MI_PROTECTION Protection,
                                                    PVOID Caller)
{
    const PVOID Va = MiMapRangeQuickly(PhysicalAddress, NumberOfBytes, Protection, Caller);
    return Va != NULL
               ? Va
               : MiMapIoSpace("MmMapIoSpaceEx", PhysicalAddress, NumberOfBytes, Protection, Caller);
}

// Every case, every check.
DECLSPEC_NOINLINE static PVOID NTAPI MiMapIoSpaceClosely(PHYSICAL_ADDRESS PhysicalAddress,
                                                         SIZE_T NumberOfBytes, ULONG Protect,
                                                         PVOID Caller)
{
    MI_PROTECTION Protection;
    if (MiIsVerifying()) {
        MiVerifyMapIoSpace(PhysicalAddress, NumberOfBytes, Protect, Caller);
    }
    if (!MiDecodePageProtection(Protect, &Protection)) {
        MiRefusePlain("MmMapIoSpaceEx", MiReasonProtection);
        return NULL;
    }
    return MiMapIoSpaceEx(PhysicalAddress, NumberOfBytes, Protection, Caller);
}

PVOID NTAPI MmMapIoSpaceEx(PHYSICAL_ADDRESS PhysicalAddress, SIZE_T NumberOfBytes, ULONG Protect)
{
    const PVOID Caller = __builtin_return_address(0);
    MI_PROTECTION Protection;
    if (!MiAreShortWaysOpen() || !MiDecodePageProtection(Protect, &Protection) ||
        !MiIsQuickPage(PhysicalAddress, NumberOfBytes)) {
        return MiMapIoSpaceClosely(PhysicalAddress, NumberOfBytes, Protect, Caller);
    }
    return MiMapPageQuickly(PhysicalAddress, NumberOfBytes, Protection, Caller, MiMapIoSpaceEx);
}

// The same for MmMapIoSpace.
DECLSPEC_NOINLINE static PVOID NTAPI MiMapIoSpaceByType(PHYSICAL_ADDRESS PhysicalAddress,
                                                        SIZE_T NumberOfBytes,
                                                        MI_PROTECTION Protection, PVOID Caller)
{
    return MiMapIoSpace("MmMapIoSpace", PhysicalAddress, NumberOfBytes, Protection, Caller);
}

// Device memory is not code: unlike on Windows, the mapping is never executable.
static BOOLEAN MiDecodeTypeOf(const CHAR *Routine, MEMORY_CACHING_TYPE CacheType,
                              PMI_PROTECTION Protection)
{
    Protection->Access = MiAccessReadWrite;
    if (!MiDecodeCachingType(CacheType, &Protection->CacheType)) {
        MiRefusePlain(Routine, MiReasonCacheType);
        return FALSE;
    }
    return TRUE;
}

// The verifier thinks in protections.
static VOID MiVerifyMapByType(PHYSICAL_ADDRESS PhysicalAddress, SIZE_T NumberOfBytes,
                              MEMORY_CACHING_TYPE CacheType, PVOID Caller)
{
    static const ULONG Modifiers[] = {
        [MiCacheWriteBack] = 0,
        [MiCacheWriteCombined] = PAGE_WRITECOMBINE,
        [MiCacheUncached] = PAGE_NOCACHE,
    };
    MI_CACHE_TYPE Type;
    const ULONG Modifier = MiDecodeCachingType(CacheType, &Type) ? Modifiers[Type] : PAGE_NOCACHE;
    MiVerifyMapIoSpace(PhysicalAddress, NumberOfBytes, PAGE_READWRITE | Modifier, Caller);
}

PVOID NTAPI MmMapIoSpace(PHYSICAL_ADDRESS PhysicalAddress, SIZE_T NumberOfBytes,
                         MEMORY_CACHING_TYPE CacheType)
{
    const PVOID Caller = __builtin_return_address(0);
    MI_PROTECTION Protection;
    if (MiIsVerifying()) {
        MiVerifyMapByType(PhysicalAddress, NumberOfBytes, CacheType, Caller);
    }
    if (!MiDecodeTypeOf(__func__, CacheType, &Protection)) {
        return NULL;
    }
    if (!MiAreShortWaysOpen() || !MiIsQuickPage(PhysicalAddress, NumberOfBytes)) {
        return MiMapIoSpaceByType(PhysicalAddress, NumberOfBytes, Protection, Caller);
    }
    return MiMapPageQuickly(PhysicalAddress, NumberOfBytes, Protection, Caller, MiMapIoSpaceByType);
}

PVOID NTAPI MmMapVideoDisplay(PHYSICAL_ADDRESS PhysicalAddress, SIZE_T NumberOfBytes,
                              MEMORY_CACHING_TYPE CacheType)
{
    const PVOID Caller = __builtin_return_address(0);
    MI_PROTECTION Protection;
    if (MiIsVerifying()) {
        MiVerifyIrql(MiIrqlMapVideoDisplay, 0, 0, Caller);
        MiVerifyMapByType(PhysicalAddress, NumberOfBytes, CacheType, Caller);
    }
    if (!MiDecodeTypeOf(__func__, CacheType, &Protection)) {
        return NULL;
    }
    return MiMapIoSpace(__func__, PhysicalAddress, NumberOfBytes, Protection, Caller);
}

//
// Unmap.
//

// Nothing begins at Base: says what is there instead.
DECLSPEC_NORETURN static VOID MiStopNoIoMapping(ULONG_PTR Base, PFN_NUMBER PageCount)
{
    const PMI_MAPPING Slot = MiFindSlotAt((ULONG_PTR)PAGE_ALIGN(Base));
    CHAR Who[MI_WHO_BYTES];
    if (Slot != NULL && Slot->PageCount != 0) {
        MiDescribeWho(Slot->Caller, Slot->Time, Who, sizeof(Who));
        MiBugCheck(
            SYSTEM_PTE_MISUSE, 0x400, Base, PageCount, 0,
            "MmUnmapIoSpace: nothing is mapped at 0x%p any more; what was mapped there by %s, was "
            "unmapped already",
            (PVOID)Base, Who);
    }
    if (MiFindMappingAround((PVOID)Base) != NULL) {
        MiBugCheck(
            SYSTEM_PTE_MISUSE, 0x304, Base, PageCount, 0,
            "MmUnmapIoSpace: 0x%p lies inside a mapping; only a whole mapping can be unmapped",
            (PVOID)Base);
    }
    MiBugCheck(SYSTEM_PTE_MISUSE, 0x400, Base, PageCount, 0,
               "MmUnmapIoSpace: nothing is mapped at 0x%p (never was, or it was unmapped already)",
               (PVOID)Base);
}

// A mapping begins at Base, but it is not the caller's to unmap in this way.
DECLSPEC_NORETURN static VOID MiStopWrongIoUnmap(const MI_MAPPING *Mapping, ULONG_PTR Base,
                                                 SIZE_T NumberOfBytes)
{
    if (Mapping->Kind != MiMappingIo) {
        MiBugCheck(SYSTEM_PTE_MISUSE, 0x301, Base, 0, 0,
                   "MmUnmapIoSpace: 0x%p was not mapped by MmMapIoSpace or MmMapIoSpaceEx",
                   (PVOID)Base);
    }
    if (NumberOfBytes == 0) {
        MiBugCheck(SYSTEM_PTE_MISUSE, 0x300, Base, 0, 0,
                   "MmUnmapIoSpace: no bytes are to be unmapped at 0x%p", (PVOID)Base);
    }
    const PFN_NUMBER PageCount = MiPagesSpanned(Base, NumberOfBytes);
    MiBugCheck(SYSTEM_PTE_MISUSE, 0x305, Base, PageCount, Mapping->PageCount,
               "MmUnmapIoSpace: %llu pages are to be unmapped at 0x%p, but %llu were mapped",
               PageCount, (PVOID)Base, Mapping->PageCount);
}

// The record that BaseAddress and NumberOfBytes name. Whatever else they name is a bug of the
// caller.
static inline PMI_MAPPING MiFindIoMapping(ULONG_PTR Base, SIZE_T NumberOfBytes)
{
    const PMI_MAPPING Mapping = MiFindMapping((PVOID)Base);
    if (Mapping == NULL) {
        MiStopNoIoMapping(Base, MiPagesSpanned(Base, NumberOfBytes));
    }
    if (Mapping->Kind != MiMappingIo || NumberOfBytes == 0 ||
        Mapping->PageCount != MiPagesSpanned(Base, NumberOfBytes)) {
        MiStopWrongIoUnmap(Mapping, Base, NumberOfBytes);
    }
    return Mapping;
}

DECLSPEC_NOINLINE static VOID NTAPI MiUnmapIoSpace(PVOID BaseAddress, SIZE_T NumberOfBytes,
                                                   PVOID Caller)
{
    if (MiIsVerifying()) {
        MiVerifyUnmapIoSpace(BaseAddress, NumberOfBytes, Caller);
    }
    const PMI_MAPPING Mapping = MiFindIoMapping((ULONG_PTR)BaseAddress, NumberOfBytes);
    switch (Mapping->Io.Hold) {
    case MiHoldNothing:
        MiUncommitSmall(Mapping);
        MiCountFrames(MiRangeOfMapping(Mapping), -1);
        break;
    case MiHoldFrameByFrame:
        MiUncommitSmall(Mapping);
        MiReleaseFrames(MiRangeOfMapping(Mapping));
        break;
    case MiHoldAsRange:
        MiUncommitLarge(Mapping);
        MiReleaseRange(&Mapping->Io.Range);
        break;
    }
    MiReleaseMapping(Mapping);
}

// What is left of unmapping one page, where its frame or its slot take more than a look.
DECLSPEC_NOINLINE static VOID NTAPI MiReleasePage(PMI_MAPPING Mapping)
{
    MiReleaseFrames(MiRangeOfMapping(Mapping));
    MiReleaseMapping(Mapping);
}

// As MiUnmapIoSpace, for one page. FALSE: it is something else.
FORCEINLINE BOOLEAN MiUnmapPageQuickly(PMI_MAPPING Mapping, ULONG_PTR Base, SIZE_T NumberOfBytes)
{
    if (Mapping->PageCount != 1 || Mapping->Io.Hold != MiHoldFrameByFrame ||
        NumberOfBytes - 1 >= PAGE_SIZE - BYTE_OFFSET(Base) || MiIsVerifying()) {
        return FALSE;
    }
    MiClearOnePage(Mapping, MiMayWait(Mapping));
    if (!MiReleasePageQuickly(Mapping)) {
        MiReleasePage(Mapping);
    }
    return TRUE;
}

// The same for a range of one run of leaves.
FORCEINLINE BOOLEAN MiUnmapRangeQuickly(PMI_MAPPING Mapping, ULONG_PTR Base, SIZE_T NumberOfBytes)
{
    if (Mapping->Io.Hold != MiHoldAsRange || Mapping->LeafCount == 0 || NumberOfBytes == 0 ||
        MiPagesSpanned(Base, NumberOfBytes) != Mapping->PageCount || !MiMayReleaseLargeQuickly()) {
        return FALSE;
    }
    MiUncommitLarge(Mapping);
    MiReleaseRange(&Mapping->Io.Range);
    MiReleaseLargeQuickly(Mapping);
    return TRUE;
}

VOID NTAPI MmUnmapIoSpace(PVOID BaseAddress, SIZE_T NumberOfBytes)
{
    const ULONG_PTR Base = (ULONG_PTR)BaseAddress;
    const PMI_MAPPING Mapping = MiFindSlotQuickly((ULONG_PTR)PAGE_ALIGN(Base));
    if (Mapping == NULL || Mapping->Kind != MiMappingIo ||
        (!MiUnmapPageQuickly(Mapping, Base, NumberOfBytes) &&
         !MiUnmapRangeQuickly(Mapping, Base, NumberOfBytes))) {
        MiUnmapIoSpace(BaseAddress, NumberOfBytes, __builtin_return_address(0));
    }
}

VOID NTAPI MmUnmapVideoDisplay(PVOID BaseAddress, SIZE_T NumberOfBytes)
{
    const PVOID Caller = __builtin_return_address(0);
    if (MiIsVerifying()) {
        MiVerifyIrql(MiIrqlUnmapVideoDisplay, 0, 0, Caller);
    }
    MiUnmapIoSpace(BaseAddress, NumberOfBytes, Caller);
}

LOGICAL NTAPI MmIsIoSpaceActive(PHYSICAL_ADDRESS StartAddress, SIZE_T NumberOfBytes)
{
    MI_PFN_RANGE Range;
    MI_REASON Reason;
    return MiRangeFromBytes((ULONG64)StartAddress.QuadPart, NumberOfBytes, &Range, &Reason) &&
           MiIsIoRangeMapped(Range);
}
