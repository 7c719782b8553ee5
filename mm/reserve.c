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
#include "kernel/inc/checked.h"
#include "mm/miquick.h"

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

static PVOID MiReserveMapping(PFN_NUMBER PageCount, ULONG Tag, BOOLEAN IsAligned, PVOID Caller)
{
    const PMI_MAPPING Mapping = IsAligned
                                    ? MiAcquireAlignedMapping(PageCount, Caller)
                                    : MiAcquireMapping(MiRegionSystemPtes, PageCount, 0, Caller);
    if (Mapping == NULL) {
        return NULL;
    }
    Mapping->Protection = (MI_PROTECTION){MiAccessReadWrite, MiCacheUndecided};
    Mapping->Reserved.Tag = Tag;
    Mapping->Reserved.IsBorrowed = FALSE;
    Mapping->Reserved.HoldsFrames = FALSE;
    Mapping->Reserved.Mdl = NULL;
    Mapping->Reserved.MappedPageCount = 0;
    MiPublishMapping(Mapping, MiMappingReserved);
    return (PVOID)Mapping->Va;
}

// Whether a reservation may be asked for. FALSE: *Reason says why not.
static BOOLEAN MiIsReservationLegal(PFN_NUMBER PageCount, ULONG Tag, ULONG Flags, MI_REASON *Reason)
{
    const BOOLEAN IsAligned = (Flags & MM_MAPPING_ADDRESS_DIVISIBLE) != 0;
    *Reason = Tag == 0                                              ? MiReasonTag
              : PageCount > MI_RESERVATION_MAXIMUM_PAGES            ? MiReasonTooLarge
              : (Flags & ~(ULONG)MM_MAPPING_ADDRESS_DIVISIBLE) != 0 ? MiReasonFlags
              : IsAligned && !RtlIsPowerOfTwo64(PageCount)          ? MiReasonAlignment
                                                                    : MiReasonCount;
    return *Reason == MiReasonCount;
}

static PVOID MiAllocateMappingAddress(const CHAR *Routine, SIZE_T NumberOfBytes, ULONG PoolTag,
                                      ULONG Flags, PVOID Caller)
{
    if (MiIsVerifying()) {
        MiVerifyIrql(MiIrqlAllocateMappingAddress, 0, 0, Caller);
    }
    NT_ASSERT(KeGetCurrentIrql() <= APC_LEVEL);
    const PFN_NUMBER PageCount = BYTES_TO_PAGES(NumberOfBytes);
    MI_REASON Reason;
    if (NumberOfBytes == 0) {
        MiBugCheck(SYSTEM_PTE_MISUSE, 0x100, 0, PoolTag, (ULONG_PTR)Caller,
                   "%s: a reservation of no bytes is asked for", Routine);
    }
    if (!MiIsReservationLegal(PageCount, PoolTag, Flags, &Reason)) {
        MiRefusePlain(Routine, Reason);
        return NULL;
    }
    const BOOLEAN IsAligned = (Flags & MM_MAPPING_ADDRESS_DIVISIBLE) != 0;
    const PVOID Va = MiReserveMapping(PageCount, PoolTag, IsAligned, Caller);
    if (Va == NULL) {
        MiRefusePlain(Routine, MiReasonResources);
    }
    return Va;
}

PVOID NTAPI MmAllocateMappingAddress(SIZE_T NumberOfBytes, ULONG PoolTag)
{
    return MiAllocateMappingAddress(__func__, NumberOfBytes, PoolTag, 0,
                                    __builtin_return_address(0));
}

PVOID NTAPI MmAllocateMappingAddressEx(SIZE_T NumberOfBytes, ULONG PoolTag, ULONG Flags)
{
    return MiAllocateMappingAddress(__func__, NumberOfBytes, PoolTag, Flags,
                                    __builtin_return_address(0));
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
    if (MiIsVerifying()) {
        MiVerifyIrql(MiIrqlFreeMappingAddress, 0, 0, __builtin_return_address(0));
    }
    NT_ASSERT(KeGetCurrentIrql() <= APC_LEVEL);
    const PMI_MAPPING Mapping = MiFindReservation(BaseAddress, PoolTag, MiUseFree);
    if (Mapping->Reserved.Mdl != NULL) {
        MiBugCheck(
            SYSTEM_PTE_MISUSE, 0x103, Mapping->Va, PoolTag, Mapping->PageCount,
            "MmFreeMappingAddress: the MDL at 0x%p is still mapped into the reservation at 0x%p",
            Mapping->Reserved.Mdl, (PVOID)Mapping->Va);
    }
    MiReleaseMapping(Mapping);
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
    MI_CACHE_OWNER Owner;
    const PFN_NUMBER *Pfns = MmGetMdlPfnArray(Mdl);
    const PFN_NUMBER PageCount = MiMdlPageCount(Mdl);
    for (PFN_NUMBER Page = 0; Page < PageCount; Page += 1) {
        if (MiPfnElement(Pfns[Page]) == NULL && !MiQueryFrame(Pfns[Page], &Owner)) {
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
    return MiIsMdlSimple(Mdl) || MiCheckMdlFrames(Mdl) || MiAreFramesHeld(Mdl);
}

// Holds the I/O frames for as long as they are mapped, whatever becomes of who holds them now. What is
// held frame by frame, as by every MDL, has its place in the ledger, so this needs no memory. FALSE:
// only a large mapping holds them, and there was no memory.
static BOOLEAN MiHoldReserved(PMI_MAPPING Mapping, PMDL Mdl, PFN_NUMBER PageCount)
{
    Mapping->Reserved.HoldsFrames =
        !MiIsMdlSimple(Mdl) &&
        NT_SUCCESS(MiHoldIoFrames(MmGetMdlPfnArray(Mdl), PageCount, Mapping->Caller));
    return Mapping->Reserved.HoldsFrames || MiIsMdlSimple(Mdl);
}

// The tag and the cache type in one word: four parameters go in registers, so the short way needs no frame.
static inline ULONG64 MiPackTagAndType(ULONG PoolTag, MEMORY_CACHING_TYPE CacheType)
{
    return PoolTag | (ULONG64)CacheType << 32;
}

DECLSPEC_NOINLINE static PVOID NTAPI MiMapReserved(PVOID MappingAddress, ULONG64 TagAndType,
                                                   PMDL Mdl, PVOID Caller)
{
    const ULONG PoolTag = (ULONG)TagAndType;
    const MEMORY_CACHING_TYPE CacheType = (MEMORY_CACHING_TYPE)(TagAndType >> 32);
    if (MiIsVerifying()) {
        MiVerifyMapReserved(MappingAddress, Mdl, Caller);
    }
    const CHAR *const Routine = "MmMapLockedPagesWithReservedMapping";
    const PMI_MAPPING Mapping = MiFindReservation(MappingAddress, PoolTag, MiUseMap);
    MI_PROTECTION Protection = {.Access = MiAccessReadWrite};
    MI_REASON Reason;
    MiCheckReservationEmpty(Mapping);
    if (!MiDecodeCachingType(CacheType, &Protection.CacheType)) {
        MiRefusePlain(Routine, MiReasonCacheType);
        return NULL;
    }
    if (!MiFitsReservation(Mapping, Mdl, &Reason)) {
        MiRefusePlain(Routine, Reason);
        return NULL;
    }
    const PFN_NUMBER PageCount = MiMdlPageCount(Mdl);
    if (!MiHoldReserved(Mapping, Mdl, PageCount)) {
        MiRefusePlain(Routine, MiReasonResources);
        return NULL;
    }
    MiSettleMapping(Mapping);
    Mapping->Reserved.IsBorrowed = MiCommitMdl(Mapping, Mdl, PageCount, Protection);
    Mapping->Reserved.Mdl = Mdl;
    Mapping->Reserved.MappedPageCount = PageCount;
    // Documented: the field holds the address without the byte offset, the return value with it.
    MiSetMdlMapped(Mdl, Mapping->Va);
    return (PVOID)(Mapping->Va + Mdl->ByteOffset);
}

// The caller's reservation, if it is in the expected state: Mdl is what is mapped there, NULL nothing.
static inline BOOLEAN MiIsReservationOf(const MI_MAPPING *Mapping, ULONG Tag, const MDL *Mdl)
{
    return Mapping != NULL && Mapping->Kind == MiMappingReserved && Mapping->Reserved.Tag == Tag &&
           Mapping->Reserved.Mdl == Mdl;
}

// As MiMapReserved, for a simple MDL: what is left when its pages are mapped.
FORCEINLINE PVOID MiFinishReservedMap(PMI_MAPPING Mapping, PMDL Mdl, PFN_NUMBER PageCount)
{
    Mapping->Reserved.Mdl = Mdl; // not borrowed, and nothing held: so every unmap leaves it
    Mapping->Reserved.MappedPageCount = PageCount;
    MiSetWholeMdlMapped(Mdl, Mapping->Va);
    return (PVOID)(Mapping->Va + Mdl->ByteOffset);
}

DECLSPEC_NOINLINE static PVOID NTAPI
MiMapReservedPages(PMI_MAPPING Mapping, PMDL Mdl, PFN_NUMBER PageCount, MI_PROTECTION Protection)
{
    MiCommitManyPages(Mapping, Mdl, PageCount, Protection);
    return MiFinishReservedMap(Mapping, Mdl, PageCount);
}

PVOID NTAPI MmMapLockedPagesWithReservedMapping(PVOID MappingAddress, ULONG PoolTag,
                                                PMDL MemoryDescriptorList,
                                                MEMORY_CACHING_TYPE CacheType)
{
    const PMDL Mdl = MemoryDescriptorList;
    const PMI_MAPPING Mapping = MiFindSlotQuickly((ULONG_PTR)PAGE_ALIGN(MappingAddress));
    const PFN_NUMBER PageCount = MiMdlPageCount(Mdl);
    MI_PROTECTION Protection = {.Access = MiAccessReadWrite};
    if (!MiIsReservationOf(Mapping, PoolTag, NULL) || !MiIsMdlMappable(Mdl) ||
        !MiIsMdlSimple(Mdl) || PageCount > Mapping->PageCount ||
        !MiDecodeCachingType(CacheType, &Protection.CacheType) || !MiAreShortWaysOpen() ||
        Mapping->Stamp != 0) {
        return MiMapReserved(MappingAddress, MiPackTagAndType(PoolTag, CacheType), Mdl,
                             __builtin_return_address(0));
    }
    if (PageCount != 1 || !MiCommitTypedPage(Mapping, MmGetMdlPfnArray(Mdl)[0], Protection)) {
        return MiMapReservedPages(Mapping, Mdl, PageCount, Protection);
    }
    return MiFinishReservedMap(Mapping, Mdl, 1);
}

VOID MiUnmapReservation(PMI_MAPPING Mapping)
{
    const PFN_NUMBER PageCount = Mapping->Reserved.MappedPageCount;
    MiUncommitMdl(Mapping, PageCount, Mapping->Reserved.IsBorrowed, Mapping->Reserved.HoldsFrames);
    if (Mapping->Reserved.HoldsFrames) {
        MiReleaseIoFrames(MmGetMdlPfnArray(Mapping->Reserved.Mdl), PageCount);
    }
    MiSetMdlUnmapped(Mapping->Reserved.Mdl);
    Mapping->Reserved.IsBorrowed = FALSE;
    Mapping->Reserved.HoldsFrames = FALSE;
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
    const PFN_NUMBER Page = MiFindChangedPage(Mapping->Va, MmGetMdlPfnArray(Mdl), PageCount);
    if (Page < PageCount) {
        PFN_NUMBER Expected = MI_NO_PFN;
        (VOID) MiFindMappedFrame(Mapping->Va, &Expected);
        MiBugCheck(
            SYSTEM_PTE_MISUSE, 0x04, (ULONG_PTR)Mapping, Expected, MmGetMdlPfnArray(Mdl)[0],
            "MmUnmapReservedMapping: frame %llu of the MDL at 0x%p changed while it was mapped",
            Page, Mdl);
    }
}

DECLSPEC_NOINLINE static VOID NTAPI MiUnmapReserved(PVOID BaseAddress, ULONG PoolTag, PMDL Mdl,
                                                    PVOID Caller)
{
    if (MiIsVerifying()) {
        MiVerifyIrql(MiIrqlUnmapReserved, 0, 0, Caller);
    }
    const PMI_MAPPING Mapping = MiFindReservation(BaseAddress, PoolTag, MiUseUnmap);
    MiCheckUnmap(Mapping, Mdl);
    MiUnmapReservation(Mapping);
}

// As MiUnmapReserved, for a simple MDL: what is left when nothing is mapped any more.
FORCEINLINE VOID MiFinishReservedUnmap(PMI_MAPPING Mapping, PMDL Mdl)
{
    Mdl->MdlFlags &= ~MDL_MAPPED_TO_SYSTEM_VA;
    Mapping->Reserved.Mdl = NULL;
    Mapping->Reserved.MappedPageCount = 0;
}

// The general end, out of line so that the short way has no frame: forgets what was mapped.
DECLSPEC_NOINLINE static VOID NTAPI MiForgetReserved(PMI_MAPPING Mapping, PMDL Mdl)
{
    MiForgetPages(Mapping, Mapping->Reserved.MappedPageCount, TRUE);
    MiFinishReservedUnmap(Mapping, Mdl);
}

DECLSPEC_NOINLINE static VOID NTAPI MiUnmapReservedTables(PMI_MAPPING Mapping, PMDL Mdl)
{
    MiUncommitMdl(Mapping, Mapping->Reserved.MappedPageCount, FALSE, FALSE);
    MiFinishReservedUnmap(Mapping, Mdl);
}

VOID NTAPI MmUnmapReservedMapping(PVOID BaseAddress, ULONG PoolTag, PMDL MemoryDescriptorList)
{
    const PMDL Mdl = MemoryDescriptorList;
    const PMI_MAPPING Mapping = MiFindSlotQuickly((ULONG_PTR)PAGE_ALIGN(BaseAddress));
    if (!MiIsReservationOf(Mapping, PoolTag, Mdl) || Mapping->Reserved.IsBorrowed ||
        Mapping->Reserved.HoldsFrames || Mapping->InaccessiblePages != 0 ||
        MiMdlPageCount(Mdl) != Mapping->Reserved.MappedPageCount) {
        MiUnmapReserved(BaseAddress, PoolTag, Mdl, __builtin_return_address(0));
        return;
    }
    const PFN_NUMBER PageCount = Mapping->Reserved.MappedPageCount;
    if (PageCount > Mapping->FirstRun) {
        MiUnmapReservedTables(Mapping, Mdl);
        return;
    }
    if (MiMustForget(PageCount == 1 ? MiArchWasUsed(MiArchTakePte(Mapping->FirstPte))
                                    : MiArchTakePages(Mapping->FirstPte, (ULONG)PageCount))) {
        MiForgetReserved(Mapping, Mdl);
        return;
    }
    MiFinishReservedUnmap(Mapping, Mdl);
}
