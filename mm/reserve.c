// Reserved mappings: addresses and page tables set aside, so that an MDL can be mapped later
// without needing anything.
//
//   MmAllocateMappingAddress   | guard | guard | Va: PageCount pages, tables but no leaves | guard |
//   MmMapLockedPagesWithReservedMapping      one store per page
//   MmUnmapReservedMapping
//   MmFreeMappingAddress
//
// All failing is in the first routine. The second allocates nothing, because there is nothing left
// that it lacks: the record and the tables exist, the direct map was split when the frames were
// allocated, and the ledger knows every I/O frame of an MDL. It returns NULL for wrong parameters
// only.
//
// The two pages before a reservation never map anything, so that underruns fault. (NT keeps its
// bookkeeping there.)
#include "mm/mi.h"

#define MI_RESERVATION_GUARD_PAGES 2
#define MI_RESERVATION_MAXIMUM_PAGES 0xFFFFFFFFull

// The codes of 0xDA by the routine that met the misuse.
typedef enum _MI_RESERVATION_USE { MiUseFree, MiUseMap, MiUseUnmap, MiUseCount } MI_RESERVATION_USE;

static const struct {
    const CHAR *Routine;
    ULONG_PTR ForeignTag;
    ULONG_PTR NoReservation;
} MiUses[] = {
    [MiUseFree] = {"MmFreeMappingAddress", 0x101, 0x102},
    [MiUseMap] = {"MmMapLockedPagesWithReservedMapping", 0x104, 0x105},
    [MiUseUnmap] = {"MmUnmapReservedMapping", 0x108, 0x109},
};
C_ASSERT(ARRAYSIZE(MiUses) == MiUseCount);

//
// Reserve and release.
//

static PVOID MiReserveMapping(PFN_NUMBER PageCount, ULONG Tag, PVOID Caller)
{
    PMI_MAPPING Mapping = MiAllocateMapping(MiMappingReserved, Caller);
    if (Mapping == NULL) {
        return NULL;
    }
    Mapping->Region = MiRegionSystemPtes;
    Mapping->PageCount = PageCount;
    Mapping->LeadingGuardPages = MI_RESERVATION_GUARD_PAGES;
    Mapping->Reserved.Tag = Tag;
    Mapping->Va = MiReserveSystemVa(Mapping->Region, PageCount, 0, MI_RESERVATION_GUARD_PAGES);
    if (Mapping->Va == 0) {
        goto FreeMapping;
    }
    if (!NT_SUCCESS(MiPreparePages(Mapping->Va, PageCount))) {
        goto ReleaseVa;
    }
    ULONG EntryCount;
    Mapping->Reserved.FirstPte = MiFindPages(NULL, Mapping->Va, PageCount, &EntryCount);
    MiInsertMapping(Mapping);
    return (PVOID)Mapping->Va;

ReleaseVa:
    MiReleaseSystemVa(Mapping->Region, Mapping->Va, PageCount, MI_RESERVATION_GUARD_PAGES);
FreeMapping:
    MiFreeMapping(Mapping);
    return NULL;
}

PVOID NTAPI MmAllocateMappingAddress(SIZE_T NumberOfBytes, ULONG PoolTag)
{
    NT_ASSERT(KeGetCurrentIrql() <= APC_LEVEL);
    const PVOID Caller = __builtin_return_address(0);
    const PFN_NUMBER PageCount = BYTES_TO_PAGES(NumberOfBytes);
    if (NumberOfBytes == 0) {
        MiBugCheck(SYSTEM_PTE_MISUSE, 0x100, 0, PoolTag, (ULONG_PTR)Caller,
                   "MmAllocateMappingAddress: a reservation of no bytes is asked for");
    }
    if (PoolTag == 0 || PageCount > MI_RESERVATION_MAXIMUM_PAGES) {
        MiRefusePlain(__func__, PoolTag == 0 ? MiReasonTag : MiReasonTooLarge);
        return NULL;
    }
    PVOID Va = MiReserveMapping(PageCount, PoolTag, Caller);
    if (Va == NULL) {
        MiRefusePlain(__func__, MiReasonResources);
    }
    return Va;
}

// The reservation that begins in the page of Address, for its owner. Anything else is a bug of the
// caller.
static PMI_MAPPING MiFindReservation(PVOID Address, ULONG Tag, MI_RESERVATION_USE Use)
{
    const PMI_MAPPING Mapping = MiFindMapping(Address);
    if (Mapping == NULL || Mapping->Kind != MiMappingReserved) {
        MiBugCheck(SYSTEM_PTE_MISUSE, MiUses[Use].NoReservation, (ULONG_PTR)PAGE_ALIGN(Address),
                   Tag, 0, "%s: no reservation begins at 0x%p", MiUses[Use].Routine, Address);
    }
    if (Mapping->Reserved.Tag != Tag) {
        MiBugCheck(SYSTEM_PTE_MISUSE, MiUses[Use].ForeignTag, Mapping->Va, Tag,
                   Mapping->Reserved.Tag,
                   "%s: the reservation at 0x%p has tag 0x%08x, but the caller says 0x%08x",
                   MiUses[Use].Routine, (PVOID)Mapping->Va, Mapping->Reserved.Tag, Tag);
    }
    return Mapping;
}

VOID NTAPI MmFreeMappingAddress(PVOID BaseAddress, ULONG PoolTag)
{
    NT_ASSERT(KeGetCurrentIrql() <= APC_LEVEL);
    const PMI_MAPPING Mapping = MiFindReservation(BaseAddress, PoolTag, MiUseFree);
    if (Mapping->Reserved.Mdl != NULL) {
        MiBugCheck(
            SYSTEM_PTE_MISUSE, 0x103, Mapping->Va, PoolTag, Mapping->PageCount,
            "MmFreeMappingAddress: the MDL at 0x%p is still mapped into the reservation at 0x%p",
            Mapping->Reserved.Mdl, (PVOID)Mapping->Va);
    }
    MiRemoveMapping(Mapping);
    MiReleaseSystemVa(Mapping->Region, Mapping->Va, Mapping->PageCount, Mapping->LeadingGuardPages);
    MiFreeMapping(Mapping);
}

//
// Map and unmap.
//

static VOID MiCheckReservationEmpty(const MI_MAPPING *Mapping)
{
    if (Mapping->Reserved.Mdl != NULL) {
        MiBugCheck(SYSTEM_PTE_MISUSE, 0x107, Mapping->Va, Mapping->Va,
                   Mapping->Va + ((Mapping->PageCount - 1) << PAGE_SHIFT),
                   "MmMapLockedPagesWithReservedMapping: the MDL at 0x%p is still mapped into the "
                   "reservation at 0x%p",
                   Mapping->Reserved.Mdl, (PVOID)Mapping->Va);
    }
}

// Whether somebody holds every I/O frame of the MDL: the MDL itself, if MmAllocateMdlForIoSpace made
// it. What nobody holds has no cache type, and no place to write one down.
static BOOLEAN MiAreFramesHeld(PMDL Mdl)
{
    const PFN_NUMBER *Pfns = MmGetMdlPfnArray(Mdl);
    const PFN_NUMBER PageCount = MiMdlPageCount(Mdl);
    for (PFN_NUMBER Page = 0; Page < PageCount; Page += 1) {
        if (MiPfnElement(Pfns[Page]) == NULL && !MiIsFrameHeld(Pfns[Page])) {
            return FALSE;
        }
    }
    return TRUE;
}

// Whether the MDL may be mapped into the reservation. FALSE: *Reason is a wrong parameter.
static BOOLEAN MiFitsReservation(const MI_MAPPING *Mapping, PMDL Mdl, MI_REASON *Reason)
{
    if (!MiIsMdlMappable(Mdl)) {
        *Reason = MiReasonMdlState;
        return FALSE;
    }
    if (MiMdlPageCount(Mdl) > Mapping->PageCount) {
        *Reason = MiReasonReservationSize;
        return FALSE;
    }
    *Reason = MiReasonUnclaimedFrame;
    return MiCheckMdlFrames(Mdl) || MiAreFramesHeld(Mdl);
}

PVOID NTAPI MmMapLockedPagesWithReservedMapping(PVOID MappingAddress, ULONG PoolTag,
                                                PMDL MemoryDescriptorList,
                                                MEMORY_CACHING_TYPE CacheType)
{
    const PMDL Mdl = MemoryDescriptorList;
    const PMI_MAPPING Mapping = MiFindReservation(MappingAddress, PoolTag, MiUseMap);
    MI_PROTECTION Protection = {.Access = MiAccessReadWrite};
    MI_REASON Reason;
    MiCheckReservationEmpty(Mapping);
    if (!MiDecodeCachingType(CacheType, &Protection.CacheType)) {
        MiRefusePlain(__func__, MiReasonCacheType);
        return NULL;
    }
    if (!MiFitsReservation(Mapping, Mdl, &Reason)) {
        MiRefusePlain(__func__, Reason);
        return NULL;
    }
    const PFN_NUMBER PageCount = MiMdlPageCount(Mdl);
    MiCommitFrames(Mapping->Reserved.FirstPte, Mapping->Va, MmGetMdlPfnArray(Mdl), PageCount,
                   Protection);
    Mapping->Reserved.Mdl = Mdl;
    Mapping->Reserved.MappedPageCount = PageCount;
    // Documented: the field holds the address without the byte offset, the return value with it.
    MiSetMdlMapped(Mdl, Mapping->Va);
    return (PVOID)(Mapping->Va + Mdl->ByteOffset);
}

VOID MiUnmapReservation(PMI_MAPPING Mapping)
{
    MiUncommitFrames(Mapping->Reserved.FirstPte, Mapping->Va, Mapping->Reserved.MappedPageCount);
    MiSetMdlUnmapped(Mapping->Reserved.Mdl);
    Mapping->Reserved.Mdl = NULL;
    Mapping->Reserved.MappedPageCount = 0;
}

// The MDL must be the one that is mapped, with all of its pages.
static VOID MiCheckUnmap(const MI_MAPPING *Mapping, PMDL Mdl)
{
    const PFN_NUMBER PageCount = MiMdlPageCount(Mdl);
    if (PageCount > Mapping->PageCount) {
        MiBugCheck(
            SYSTEM_PTE_MISUSE, 0x10A, Mapping->Va, Mapping->PageCount, PageCount,
            "MmUnmapReservedMapping: the MDL at 0x%p spans %llu pages, the reservation has %llu",
            Mdl, PageCount, Mapping->PageCount);
    }
    if (PageCount > Mapping->Reserved.MappedPageCount) {
        MiBugCheck(
            SYSTEM_PTE_MISUSE, 0x10B, Mapping->Va, Mapping->Reserved.Tag, PageCount,
            "MmUnmapReservedMapping: the MDL at 0x%p spans %llu pages, but %llu are mapped at 0x%p",
            Mdl, PageCount, Mapping->Reserved.MappedPageCount, (PVOID)Mapping->Va);
    }
    if (PageCount < Mapping->Reserved.MappedPageCount) {
        MiBugCheck(SYSTEM_PTE_MISUSE, 0x10C, Mapping->Va, Mapping->Reserved.Tag, PageCount,
                   "MmUnmapReservedMapping: the MDL at 0x%p spans only %llu of the %llu pages "
                   "mapped at 0x%p",
                   Mdl, PageCount, Mapping->Reserved.MappedPageCount, (PVOID)Mapping->Va);
    }
    if (Mapping->Reserved.Mdl != Mdl) {
        MiBugCheck(SYSTEM_PTE_MISUSE, 0x06, (ULONG_PTR)Mdl, Mapping->Va, PageCount,
                   "MmUnmapReservedMapping: the MDL at 0x%p is not the one that is mapped at 0x%p",
                   Mdl, (PVOID)Mapping->Va);
    }
}

VOID NTAPI MmUnmapReservedMapping(PVOID BaseAddress, ULONG PoolTag, PMDL MemoryDescriptorList)
{
    const PMI_MAPPING Mapping = MiFindReservation(BaseAddress, PoolTag, MiUseUnmap);
    MiCheckUnmap(Mapping, MemoryDescriptorList);
    MiUnmapReservation(Mapping);
}
