// I/O space: MmMapIoSpaceEx, MmMapIoSpace, MmUnmapIoSpace, MmIsIoSpaceActive.
//
// A mapping is decided first and done afterwards:
//
//   decide   MiDecodePageProtection   what may be done with the pages
//            MiRangeFromBytes         which frames
//            MiMayMapFrames           whether these may be mapped
//            MiPrepareAddresses       where: system addresses, and their tables
//            MiHoldFrames             the cache type: the last step that may fail
//   do       MiCommitRange            leaves
//            MiInsertMapping          the record by which unmap will know it
//
// Two sorts of frames may be mapped: I/O space, which takes a hold in the ledger; and RAM that
// stays where it is until its owner frees it (pool, pages of an MDL), which has a cache type of its
// own that silently wins. Page tables, the kernel, free RAM, and mixtures are refused, and the
// reason is kept.
#include "mm/mi.h"

//
// Decide.
//

// Counts mappings in each frame, which may not be freed while there are any.
static VOID MiCountFrames(MI_PFN_RANGE Range, LONG Change)
{
    for (PFN_NUMBER Pfn = Range.FirstPfn; Pfn <= Range.LastPfn; Pfn += 1) {
        PMMPFN Element = MiPfnElement(Pfn);
        Element->MapCount += (ULONG)Change;
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

static VOID MiRefuseCacheConflict(const CHAR *Routine, MI_PFN_RANGE Range, MI_CACHE_TYPE CacheType)
{
    CHAR Owner[48];
    ULONG_PTR Offset;
    const PCSTR Symbol = KiFindSymbol((ULONG_PTR)MiFindCacheOwner(Range, CacheType), &Offset);
    if (!MiDescribeClaim(Range, Owner, sizeof(Owner))) {
        RtlCopyString(Owner, sizeof(Owner), Symbol != NULL ? Symbol : "");
    }
    MiRefuse(Routine, MiReasonCacheConflict, Range, Owner);
}

// Takes the hold of I/O frames that a mapping needs. RAM needs none.
static BOOLEAN MiHoldFrames(const CHAR *Routine, PMI_MAPPING Mapping, MI_PFN_RANGE Range)
{
    if (Mapping->Io.IsRam) {
        return TRUE;
    }
    const NTSTATUS Status =
        MiAcquireCacheRange(Range, Mapping->Protection.CacheType, Mapping->Caller);
    if (Status == STATUS_CONFLICTING_ADDRESSES) {
        MiRefuseCacheConflict(Routine, Range, Mapping->Protection.CacheType);
    } else if (!NT_SUCCESS(Status)) {
        MiRefuse(Routine, MiReasonResources, Range, NULL);
    }
    return NT_SUCCESS(Status);
}

static MI_PFN_RANGE MiRangeOfMapping(const MI_MAPPING *Mapping)
{
    return (MI_PFN_RANGE){Mapping->Io.FirstPfn, Mapping->Io.FirstPfn + Mapping->PageCount - 1};
}

// Large leaves pay from one large page up, and only for contiguous device memory.
static MI_REGION MiRegionForRange(PFN_NUMBER PageCount, BOOLEAN IsRam)
{
    return !IsRam && PageCount >= MiPagesPerLeaf(2) ? MiRegionLargeSystemPtes : MiRegionSystemPtes;
}

static NTSTATUS MiPrepareMapping(const MI_MAPPING *Mapping)
{
    return Mapping->Io.IsRam
               ? MiPreparePages(Mapping->Va, Mapping->PageCount)
               : MiPrepareRange(Mapping->Va, Mapping->Io.FirstPfn, Mapping->PageCount);
}

// Finds addresses and makes their tables exist. On failure nothing is reserved.
static BOOLEAN MiPrepareAddresses(PMI_MAPPING Mapping)
{
    Mapping->Region = MiRegionForRange(Mapping->PageCount, Mapping->Io.IsRam);
    Mapping->Va = MiReserveSystemVa(Mapping->Region, Mapping->PageCount, Mapping->Io.FirstPfn, 0);
    if (Mapping->Va == 0) {
        return FALSE;
    }
    if (!NT_SUCCESS(MiPrepareMapping(Mapping))) {
        MiReleaseSystemVa(Mapping->Region, Mapping->Va, Mapping->PageCount, 0);
        return FALSE;
    }
    return TRUE;
}

//
// Do.
//

// RAM is mapped page by page, each with the cache type that it has, or now gets.
static VOID MiCommitRam(const MI_MAPPING *Mapping)
{
    MI_PROTECTION Protection = Mapping->Protection;
    for (PFN_NUMBER Page = 0; Page < Mapping->PageCount; Page += 1) {
        const PFN_NUMBER Pfn = Mapping->Io.FirstPfn + Page;
        Protection.CacheType = MiDecideRamCacheType(Pfn, Mapping->Protection.CacheType);
        MiCommitPages(NULL, Mapping->Va + (Page << PAGE_SHIFT), &Pfn, 1, Protection);
    }
    MiCountFrames(MiRangeOfMapping(Mapping), 1);
}

static VOID MiCommitMapping(PMI_MAPPING Mapping)
{
    if (Mapping->Io.IsRam) {
        MiCommitRam(Mapping);
    } else {
        MiCommitRange(Mapping->Va, Mapping->Io.FirstPfn, Mapping->PageCount, Mapping->Protection);
    }
    MiInsertMapping(Mapping);
}

static PVOID MiMapIoSpace(const CHAR *Routine, PHYSICAL_ADDRESS PhysicalAddress,
                          SIZE_T NumberOfBytes, MI_PROTECTION Protection, PVOID Caller)
{
    MI_PFN_RANGE Range;
    MI_REASON Reason;
    if (!MiRangeFromBytes((ULONG64)PhysicalAddress.QuadPart, NumberOfBytes, &Range, &Reason)) {
        MiRefusePlain(Routine, Reason);
        return NULL;
    }
    const BOOLEAN IsRam = MiIsAllRam(Range);
    if (!MiMayMapFrames(Range, IsRam, &Reason)) {
        MiRefuse(Routine, Reason, Range, NULL);
        return NULL;
    }
    PMI_MAPPING Mapping = MiAllocateMapping(MiMappingIo, Caller);
    if (Mapping == NULL) {
        MiRefuse(Routine, MiReasonResources, Range, NULL);
        return NULL;
    }
    Mapping->PageCount = MiRangePageCount(Range);
    Mapping->Protection = Protection;
    Mapping->Io.FirstPfn = Range.FirstPfn;
    Mapping->Io.IsRam = IsRam;
    if (!MiPrepareAddresses(Mapping)) {
        MiRefuse(Routine, MiReasonResources, Range, NULL);
        goto FreeMapping;
    }
    // The last question: an MDL of these frames learns the answer, so it must not be asked in vain.
    if (!MiHoldFrames(Routine, Mapping, Range)) {
        goto ReleaseVa;
    }
    MiCommitMapping(Mapping);
    return (PVOID)(Mapping->Va + BYTE_OFFSET(PhysicalAddress.QuadPart));

ReleaseVa:
    MiReleaseSystemVa(Mapping->Region, Mapping->Va, Mapping->PageCount, 0);
FreeMapping:
    MiFreeMapping(Mapping);
    return NULL;
}

PVOID NTAPI MmMapIoSpaceEx(PHYSICAL_ADDRESS PhysicalAddress, SIZE_T NumberOfBytes, ULONG Protect)
{
    MI_PROTECTION Protection;
    if (!MiDecodePageProtection(Protect, &Protection)) {
        MiRefusePlain(__func__, MiReasonProtection);
        return NULL;
    }
    return MiMapIoSpace(__func__, PhysicalAddress, NumberOfBytes, Protection,
                        __builtin_return_address(0));
}

PVOID NTAPI MmMapIoSpace(PHYSICAL_ADDRESS PhysicalAddress, SIZE_T NumberOfBytes,
                         MEMORY_CACHING_TYPE CacheType)
{
    // Device memory is not code: unlike on Windows, the mapping is never executable.
    MI_PROTECTION Protection = {.Access = MiAccessReadWrite};
    if (!MiDecodeCachingType(CacheType, &Protection.CacheType)) {
        MiRefusePlain(__func__, MiReasonCacheType);
        return NULL;
    }
    return MiMapIoSpace(__func__, PhysicalAddress, NumberOfBytes, Protection,
                        __builtin_return_address(0));
}

//
// Unmap.
//

// The record that BaseAddress and NumberOfBytes name. Whatever else they name is a bug of the
// caller.
static PMI_MAPPING MiFindIoMapping(PVOID BaseAddress, SIZE_T NumberOfBytes)
{
    const ULONG_PTR Base = (ULONG_PTR)BaseAddress;
    // Not ADDRESS_AND_SIZE_TO_SPAN_PAGES, which cuts the count to 32 bits: a wrong size might pass.
    const PFN_NUMBER PageCount =
        (NumberOfBytes >> PAGE_SHIFT) +
        ((BYTE_OFFSET(Base) + BYTE_OFFSET(NumberOfBytes) + PAGE_SIZE - 1) >> PAGE_SHIFT);
    const PMI_MAPPING Mapping = MiFindMapping(BaseAddress);
    if (Mapping == NULL && MiFindMappingAround(BaseAddress) != NULL) {
        MiBugCheck(
            SYSTEM_PTE_MISUSE, 0x304, Base, PageCount, 0,
            "MmUnmapIoSpace: 0x%p lies inside a mapping; only a whole mapping can be unmapped",
            BaseAddress);
    }
    if (Mapping == NULL) {
        MiBugCheck(
            SYSTEM_PTE_MISUSE, 0x400, Base, PageCount, 0,
            "MmUnmapIoSpace: nothing is mapped at 0x%p (never was, or it was unmapped already)",
            BaseAddress);
    }
    if (Mapping->Kind != MiMappingIo) {
        MiBugCheck(SYSTEM_PTE_MISUSE, 0x301, Base, 0, 0,
                   "MmUnmapIoSpace: 0x%p was not mapped by MmMapIoSpace or MmMapIoSpaceEx",
                   BaseAddress);
    }
    if (NumberOfBytes == 0) {
        MiBugCheck(SYSTEM_PTE_MISUSE, 0x300, Base, 0, 0,
                   "MmUnmapIoSpace: no bytes are to be unmapped at 0x%p", BaseAddress);
    }
    if (Mapping->PageCount != PageCount) {
        MiBugCheck(SYSTEM_PTE_MISUSE, 0x305, Base, PageCount, Mapping->PageCount,
                   "MmUnmapIoSpace: %llu pages are to be unmapped at 0x%p, but %llu were mapped",
                   PageCount, BaseAddress, Mapping->PageCount);
    }
    return Mapping;
}

VOID NTAPI MmUnmapIoSpace(PVOID BaseAddress, SIZE_T NumberOfBytes)
{
    const PMI_MAPPING Mapping = MiFindIoMapping(BaseAddress, NumberOfBytes);
    MI_TLB_BATCH Batch;
    MiInitializeTlbBatch(&Batch);
    MiRemoveMapping(Mapping);
    MiClearRange(Mapping->Va, Mapping->PageCount, &Batch);
    MiFlushTlbBatch(&Batch);
    MiReleaseSystemVa(Mapping->Region, Mapping->Va, Mapping->PageCount, 0);
    if (Mapping->Io.IsRam) {
        MiCountFrames(MiRangeOfMapping(Mapping), -1);
    } else {
        MiReleaseCacheRange(MiRangeOfMapping(Mapping));
    }
    MiFreeMapping(Mapping);
}

LOGICAL NTAPI MmIsIoSpaceActive(PHYSICAL_ADDRESS StartAddress, SIZE_T NumberOfBytes)
{
    MI_PFN_RANGE Range;
    MI_REASON Reason;
    return MiRangeFromBytes((ULONG64)StartAddress.QuadPart, NumberOfBytes, &Range, &Reason) &&
           MiIsIoRangeMapped(Range);
}
