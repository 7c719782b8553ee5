// Mapped MDLs: another protection, a mapping for the time of one call, a mapping in a crash.
//
// A page that is made inaccessible keeps its frame in its entry, which the processor does not look at.
// So unmapping finds the frames as ever, and a later protection brings the same frames back. The
// mapping's record counts such pages, for MmVerify: they are mapped, and translate to nothing.
//
// Callers serialise the use of an MDL, as documented.
#include "mm/mi.h"

PFN_NUMBER MiCountInaccessible(ULONG_PTR Va, PFN_NUMBER PageCount)
{
    PFN_NUMBER Count = 0;
    for (PFN_NUMBER Page = 0; Page < PageCount; Page += 1) {
        ULONG EntryCount;
        const PMMPTE Pte = MiFindPages(NULL, Va + (Page << PAGE_SHIFT), 1, &EntryCount);
        Count += MiArchIsInaccessible(MiArchLoadPte(Pte));
    }
    return Count;
}

//
// MmProtectMdlSystemAddress.
//

// No access at all: what MI_ACCESS has no word for.
#define MI_NO_ACCESS MiAccessCount

// A protection without modifiers. FALSE: no such protection.
static BOOLEAN MiDecodeAccess(ULONG Protect, MI_ACCESS *Access)
{
    MI_PROTECTION Protection;
    if (Protect == PAGE_NOACCESS) {
        *Access = MI_NO_ACCESS;
        return TRUE;
    }
    if ((Protect & MI_CACHE_MODIFIERS) != 0 || !MiDecodePageProtection(Protect, &Protection)) {
        return FALSE;
    }
    *Access = Protection.Access;
    return TRUE;
}

// The mapping that shows the MDL's pages, its own or the source's, which must show these very frames.
static PMI_MAPPING MiFindShownMapping(PMDL Mdl)
{
    const PMI_MAPPING Own = MiFindOwnMapping(Mdl);
    const PMI_MAPPING Mapping = Own != NULL ? Own : MiFindMappingAround(Mdl->MappedSystemVa);
    const ULONG_PTR FirstVa = (ULONG_PTR)PAGE_ALIGN(Mdl->MappedSystemVa);
    const PFN_NUMBER PageCount = MiMdlPageCount(Mdl);
    for (PFN_NUMBER Page = 0; Page < PageCount; Page += 1) {
        const ULONG_PTR Va = FirstVa + (Page << PAGE_SHIFT);
        PFN_NUMBER Pfn = MI_NO_PFN;
        if (Mapping == NULL || Mapping->Kind == MiMappingIo ||
            Va - Mapping->Va >= Mapping->PageCount << PAGE_SHIFT || !MiFindMappedFrame(Va, &Pfn) ||
            Pfn != MmGetMdlPfnArray(Mdl)[Page]) {
            MiBugCheck(
                MEMORY_MANAGEMENT, 0x1235, (ULONG_PTR)Mdl, Va, Pfn,
                "MmProtectMdlSystemAddress: page %llu of the MDL at 0x%p should be mapped at "
                "0x%p, and is not",
                Page, Mdl, (PVOID)Va);
        }
    }
    return Mapping;
}

// The entry with the access, of the same frame and cache type.
static MMPTE MiChangeAccess(MMPTE Entry, MI_ACCESS Access)
{
    const MMPTE Leaf = MiArchIsInaccessible(Entry) ? MiArchMakeAccessible(Entry) : Entry;
    MI_PROTECTION Protection = MiArchPteProtection(Leaf, 1);
    if (Access == MI_NO_ACCESS) {
        return MiArchMakeInaccessible(Leaf);
    }
    Protection.Access = Access;
    return MiArchMakeLeaf(1, MiArchPtePfn(Leaf, 1), Protection);
}

static VOID MiProtectPages(PMI_MAPPING Mapping, ULONG_PTR FirstVa, PFN_NUMBER PageCount,
                           MI_ACCESS Access)
{
    Mapping->InaccessiblePages -= MiCountInaccessible(FirstVa, PageCount);
    Mapping->InaccessiblePages += Access == MI_NO_ACCESS ? PageCount : 0;
    for (PFN_NUMBER Page = 0; Page < PageCount; Page += 1) {
        ULONG EntryCount;
        const PMMPTE Pte = MiFindPages(NULL, FirstVa + (Page << PAGE_SHIFT), 1, &EntryCount);
        MiArchStorePte(Pte, MiChangeAccess(MiArchLoadPte(Pte), Access));
    }
    MiFlushPages(FirstVa, PageCount);
}

NTSTATUS NTAPI MmProtectMdlSystemAddress(PMDL MemoryDescriptorList, ULONG NewProtect)
{
    if (MiIsVerifying()) {
        MiVerifyProtection(MiIrqlProtectMdlSystemAddress, NewProtect, __builtin_return_address(0));
    }
    const PMDL Mdl = MemoryDescriptorList;
    MI_ACCESS Access;
    if (!MiDecodeAccess(NewProtect, &Access)) {
        MiRefusePlain(__func__, MiReasonProtection);
        return STATUS_INVALID_PAGE_PROTECTION;
    }
    if ((Mdl->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA) == 0 ||
        (Mdl->MdlFlags & MDL_SOURCE_IS_NONPAGED_POOL) != 0) {
        MiRefusePlain(__func__, MiReasonMdlState);
        return STATUS_NOT_MAPPED_VIEW;
    }
    const PMI_MAPPING Mapping = MiFindShownMapping(Mdl);
    // The record says the most that was asked for: a part may get more than the whole has.
    if (Access != MI_NO_ACCESS && Mapping->Protection.Access != MiAccessExecuteReadWrite) {
        Mapping->Protection.Access = Access;
    }
    MiProtectPages(Mapping, (ULONG_PTR)PAGE_ALIGN(Mdl->MappedSystemVa), MiMdlPageCount(Mdl),
                   Access);
    return STATUS_SUCCESS;
}

//
// MmMapMdl.
//

// Maps the MDL with the protection. NULL: there is not enough of something.
static PVOID MiMapForCall(PMDL Mdl, ULONG Protect, MI_PROTECTION Protection)
{
    const PVOID Va =
        MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MiCachingTypeOf[Protection.CacheType], NULL,
                                     FALSE, NormalPagePriority | MdlMappingNoExecute);
    if (Va != NULL && Protection.Access != MiAccessReadWrite) {
        const NTSTATUS Status = MmProtectMdlSystemAddress(Mdl, Protect & ~MI_CACHE_MODIFIERS);
        NT_ASSERT(NT_SUCCESS(Status));
        UNREFERENCED_PARAMETER(Status);
    }
    return Va;
}

// Calls the routine, and unmaps also when it raises.
static VOID MiCallWithMapping(PMDL Mdl, PVOID Va, PMM_MDL_ROUTINE Routine, PVOID Context)
{
    KmTry {
        Routine(Context, Va);
    }
    KmCatch (Status) {
        MmUnmapLockedPages(Va, Mdl);
        ExRaiseStatus(Status);
    }
    MmUnmapLockedPages(Va, Mdl);
}

NTSTATUS NTAPI MmMapMdl(PMDL MemoryDescriptorList, ULONG Protection, PMM_MDL_ROUTINE DriverRoutine,
                        PVOID DriverContext)
{
    if (MiIsVerifying()) {
        MiVerifyProtection(MiIrqlMapMdl, Protection, __builtin_return_address(0));
    }
    const PMDL Mdl = MemoryDescriptorList;
    MI_PROTECTION Decoded;
    if (!MiDecodePageProtection(Protection, &Decoded)) {
        MiRefusePlain(__func__, MiReasonProtection);
        return STATUS_INVALID_PAGE_PROTECTION;
    }
    if ((Mdl->MdlFlags & (MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL)) != 0) {
        // A reservation's address lacks the byte offset.
        DriverRoutine(DriverContext, (PUCHAR)PAGE_ALIGN(Mdl->MappedSystemVa) + Mdl->ByteOffset);
        return STATUS_SUCCESS;
    }
    if (!MiIsMdlMappable(Mdl)) {
        MiRefusePlain(__func__, MiReasonMdlState);
        return STATUS_INVALID_PARAMETER;
    }
    const PVOID Va = MiMapForCall(Mdl, Protection, Decoded);
    if (Va == NULL) {
        MiRefusePlain(__func__, MiReasonResources);
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    MiCallWithMapping(Mdl, Va, DriverRoutine, DriverContext);
    return STATUS_SUCCESS;
}

//
// MmMapMemoryDumpMdl. In a crash nothing is allocated, counted or checked more than it must be: what
// the tables hold is replaced, whatever it is, and nobody comes back to look.
//

#define MI_DUMP_PAGES 16

static ULONG_PTR MiDumpVa; // 0: there were no tables for it

// The addresses are the last of the image's region, which no image reaches, with a page to spare.
VOID MiInitializeDumpMapping(VOID)
{
    const MI_VIRTUAL_REGION *Region = &MiArchLayout[MiRegionKernelImage];
    const ULONG_PTR Va =
        Region->BaseVa + Region->ByteCount - ((MI_DUMP_PAGES + 1ull) << PAGE_SHIFT);
    MiDumpVa = NT_SUCCESS(MiPreparePages(Va, MI_DUMP_PAGES)) ? Va : 0;
}

// The type that a frame has. One of RAM that has none is write-back: so the direct map shows it.
static MI_CACHE_TYPE MiCacheTypeInDump(PFN_NUMBER Pfn)
{
    const PMMPFN Element = MiPfnElement(Pfn);
    if (Element == NULL) {
        return MiCacheUncached;
    }
    const MI_CACHE_TYPE CacheType = MiRamCacheType(Element);
    return CacheType == MiCacheUndecided ? MiCacheWriteBack : CacheType;
}

// Shows the frames from Va on, and nothing in the rest of PageCount pages.
static VOID MiShowDumpPages(ULONG_PTR Va, PFN_NUMBER PageCount, PMDL Mdl)
{
    const PFN_NUMBER Shown = MiMdlPageCount(Mdl);
    for (PFN_NUMBER Page = 0; Page < PageCount; Page += 1) {
        ULONG EntryCount;
        const ULONG_PTR PageVa = Va + (Page << PAGE_SHIFT);
        const PMMPTE Pte = MiFindPages(NULL, PageVa, 1, &EntryCount);
        (VOID) MiArchTakePte(Pte);
        MiArchFlushPage(PageVa);
        if (Page < Shown) {
            const PFN_NUMBER Pfn = MmGetMdlPfnArray(Mdl)[Page];
            const MI_PROTECTION Protection = {MiAccessReadWrite, MiCacheTypeInDump(Pfn)};
            MiArchStorePte(Pte, MiArchMakeLeaf(1, Pfn, Protection));
        }
    }
    MiSetMdlMapped(Mdl, Va + Mdl->ByteOffset);
}

VOID NTAPI MmMapMemoryDumpMdl(PMDL MemoryDumpMdl)
{
    if (!KiIsBugCheckActive() || MiDumpVa == 0 || MiMdlPageCount(MemoryDumpMdl) > MI_DUMP_PAGES) {
        MiRefusePlain(__func__, KiIsBugCheckActive() ? MiReasonTooLarge : MiReasonNoCrash);
        return;
    }
    MiShowDumpPages(MiDumpVa, MI_DUMP_PAGES, MemoryDumpMdl);
}

NTSTATUS NTAPI MmMapMemoryDumpMdlEx(PVOID Va, PFN_NUMBER PageTotal, PMDL MemoryDumpMdl, ULONG Flags)
{
    if (!KiIsBugCheckActive()) {
        MiRefusePlain(__func__, MiReasonNoCrash);
        return STATUS_NOT_SUPPORTED;
    }
    const PMI_MAPPING Mapping = MiFindMapping(Va);
    if (Mapping == NULL || Mapping->Kind != MiMappingReserved || PageTotal > Mapping->PageCount ||
        MiMdlPageCount(MemoryDumpMdl) > PageTotal ||
        (Flags & ~(ULONG)(MM_DUMP_MAP_CACHED | MM_DUMP_MAP_INVALIDATE)) != 0) {
        MiRefusePlain(__func__, MiReasonFlags);
        return STATUS_INVALID_PARAMETER;
    }
    MiShowDumpPages(Mapping->Va, PageTotal, MemoryDumpMdl);
    if ((Flags & MM_DUMP_MAP_INVALIDATE) != 0) {
        MiArchFlushAll();
    }
    return STATUS_SUCCESS;
}
