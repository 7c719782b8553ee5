// Memory of driver images: addresses of a region of their own, backed as a whole, each section with a
// protection of its own.
//
//   allocated     zeroed, readable and writable, so that the loader can fill it
//   protected     as the sections ask: read-only, read-write, execute-read
//   discarded     the pages of a section that is not needed any longer
//
// Nothing here is ever writable and executable. That would be worth little if the direct map showed
// the same frames writable: so they have no place in it, as long as they are an image's. What is left
// is what NT leaves, too: a driver that locks pages of an image for reading and maps the MDL gets a
// view that it may write through, unless it asks for MdlMappingNoWrite.
//
// A frame of an image names its page (MMPFN.Flink: how many pages behind the beginning of the region),
// so that the way back from a frame to its address is as short as in the direct map.
//
// Invariants (checked by MmVerify):
//   I1  Records do not overlap. Each mapped page of the region lies in one, leads to a frame in state
//       MiPfnImage that names it, and is not both writable and executable.
//   I2  There are as many such pages as frames in state MiPfnImage.
// Lock: MiImageLock, for the tree. The pages are the loader's.
#include "mm/mi.h"

#define MI_IMAGE_TAG 'gmIM'
#define MI_LEADING_GUARDS 1

static KI_LOCK MiImageLock = KI_LOCK_INITIALIZER(MI_RANK_IMAGE, "MiImageLock");
static RTL_INTERVAL_TREE MiImages = RTL_INTERVAL_TREE_INITIALIZER;

static ULONG_PTR MiRegionBase(VOID)
{
    return MiArchLayout[MiRegionDriverImages].BaseVa;
}

ULONG_PTR MiVaOfImageFrame(PFN_NUMBER Pfn)
{
    return MiRegionBase() + ((ULONG_PTR)MiPfnElement(Pfn)->Flink << PAGE_SHIFT);
}

//
// Allocate.
//

// Addresses with tables. 0: not enough of something, or, with a preferred address, not just there.
static ULONG_PTR MiPrepareImageVa(ULONG_PTR PreferredVa, PFN_NUMBER PageCount)
{
    const ULONG_PTR Va =
        PreferredVa == 0
            ? MiReserveSystemVa(MiRegionDriverImages, PageCount, 0, MI_LEADING_GUARDS)
            : MiReserveSystemVaAt(MiRegionDriverImages, PreferredVa, PageCount, MI_LEADING_GUARDS);
    if (Va != 0 && !NT_SUCCESS(MiPreparePages(Va, PageCount))) {
        MiReleaseSystemVa(MiRegionDriverImages, Va, PageCount, MI_LEADING_GUARDS);
        return 0;
    }
    return Va;
}

// Zeroes the frames, takes them out of the direct map, and maps them. Cannot fail.
static VOID MiCommitImage(ULONG_PTR Va, PFN_NUMBER FirstPfn)
{
    MI_TLB_BATCH Batch;
    MiInitializeTlbBatch(&Batch);
    PFN_NUMBER Pfn = FirstPfn;
    for (ULONG_PTR At = Va; Pfn != MI_NO_PFN; At += PAGE_SIZE) {
        const PFN_NUMBER Next = MiNextInChain(Pfn);
        MiPfnElement(Pfn)->Flink = (ULONG)((At - MiRegionBase()) >> PAGE_SHIFT);
        RtlZeroMemory(MiFrameToVa(Pfn), PAGE_SIZE);
        MiDropAlias(Pfn, &Batch);
        MiCommitPages(At, &Pfn, 1, (MI_PROTECTION){MiAccessReadWrite, MiCacheWriteBack});
        Pfn = Next;
    }
    MiFlushTlbBatch(&Batch);
}

static VOID MiInsertImage(PRTL_INTERVAL_NODE Image, ULONG_PTR Va, PFN_NUMBER PageCount)
{
    Image->First = Va >> PAGE_SHIFT;
    Image->Last = Image->First + PageCount - 1;
    const KIRQL OldIrql = KiAcquireLock(&MiImageLock);
    RtlInsertInterval(&MiImages, Image);
    KiReleaseLock(&MiImageLock, OldIrql);
}

PVOID MmAllocateImage(PVOID PreferredBase, SIZE_T ByteCount)
{
    const PFN_NUMBER PageCount = BYTES_TO_PAGES(ByteCount);
    NT_ASSERT(PageCount != 0 && BYTE_OFFSET(PreferredBase) == 0);
    PRTL_INTERVAL_NODE Image = MiAllocatePool(sizeof(*Image), MI_IMAGE_TAG);
    if (Image == NULL) {
        return NULL;
    }
    const PFN_NUMBER FirstPfn = MiAllocateFrameChain(MiPfnImage, PageCount);
    const ULONG_PTR Va = FirstPfn != MI_NO_PFN && NT_SUCCESS(MiPrepareChainAliases(FirstPfn))
                             ? MiPrepareImageVa((ULONG_PTR)PreferredBase, PageCount)
                             : 0;
    if (Va == 0) {
        MiFreeFrameChain(FirstPfn);
        MiFreePool(Image);
        return NULL;
    }
    MiCommitImage(Va, FirstPfn);
    MiInsertImage(Image, Va, PageCount);
    return (PVOID)Va;
}

//
// Protect.
//

static MI_ACCESS MiAccessOfImagePages(ULONG Protect)
{
    MI_PROTECTION Protection = {MiAccessRead, MiCacheWriteBack};
    const BOOLEAN IsKnown = MiDecodePageProtection(Protect, &Protection);
    NT_ASSERT_INVARIANT("I1", IsKnown && Protection.CacheType == MiCacheWriteBack &&
                                  Protection.Access != MiAccessExecuteReadWrite);
    UNREFERENCED_PARAMETER(IsKnown);
    return Protection.Access;
}

VOID MmProtectImage(PVOID Va, SIZE_T ByteCount, ULONG Protect)
{
    const MI_PROTECTION Protection = {MiAccessOfImagePages(Protect), MiCacheWriteBack};
    const PFN_NUMBER PageCount = BYTES_TO_PAGES(ByteCount);
    PFN_NUMBER Done = 0;
    while (Done < PageCount) {
        ULONG EntryCount;
        const ULONG_PTR At = (ULONG_PTR)Va + (Done << PAGE_SHIFT);
        const PMMPTE Pte = MiFindPages(NULL, At, PageCount - Done, &EntryCount);
        for (ULONG Index = 0; Index < EntryCount; Index += 1) {
            const PFN_NUMBER Pfn = MiArchPtePfn(MiArchLoadPte(&Pte[Index]), 1);
            MiArchStorePte(&Pte[Index], MiArchMakeLeaf(1, Pfn, Protection));
        }
        Done += EntryCount;
    }
    MiFlushPages((ULONG_PTR)Va, PageCount);
}

//
// Discard and free.
//

// Stops the machine while somebody else maps or locks a page.
static VOID MiCheckImagePages(ULONG_PTR Va, PFN_NUMBER PageCount)
{
    PFN_NUMBER Pfn;
    for (PFN_NUMBER Page = 0; Page < PageCount; Page += 1) {
        if (MiTranslate(Va + (Page << PAGE_SHIFT), &Pfn)) {
            MiCheckFrameUnmapped(Pfn);
        }
    }
}

// Unmaps the pages that are there and frees their frames.
static VOID MiFreeImagePages(ULONG_PTR Va, PFN_NUMBER PageCount)
{
    MI_TLB_BATCH Batch;
    PFN_NUMBER FirstPfn = MI_NO_PFN;
    PFN_NUMBER Pfn;
    MiInitializeTlbBatch(&Batch);
    for (PFN_NUMBER Page = PageCount; Page > 0; Page -= 1) {
        const ULONG_PTR At = Va + ((Page - 1) << PAGE_SHIFT);
        if (MiTranslate(At, &Pfn)) {
            MiPfnElement(Pfn)->Flink = (ULONG)FirstPfn;
            FirstPfn = Pfn;
            MiClearRange(At, 1, &Batch);
        }
    }
    MiFlushTlbBatch(&Batch);
    for (Pfn = FirstPfn; Pfn != MI_NO_PFN; Pfn = MiNextInChain(Pfn)) {
        MiRestoreAlias(Pfn);
    }
    MiFreeFrameChain(FirstPfn);
}

VOID MmDiscardImagePages(PVOID Va, SIZE_T ByteCount)
{
    MiCheckImagePages((ULONG_PTR)Va, BYTES_TO_PAGES(ByteCount));
    MiFreeImagePages((ULONG_PTR)Va, BYTES_TO_PAGES(ByteCount));
}

PRTL_INTERVAL_NODE MiFindImage(const VOID *Va)
{
    const ULONG64 Page = (ULONG_PTR)Va >> PAGE_SHIFT;
    const KIRQL OldIrql = KiAcquireLock(&MiImageLock);
    const PRTL_INTERVAL_NODE Image = RtlFirstOverlap(&MiImages, Page, Page);
    KiReleaseLock(&MiImageLock, OldIrql);
    return Image;
}

VOID MmFreeImage(PVOID Base)
{
    const PRTL_INTERVAL_NODE Image = MiFindImage(Base);
    NT_ASSERT_INVARIANT("I1", Image != NULL && Image->First == (ULONG_PTR)Base >> PAGE_SHIFT);
    const PFN_NUMBER PageCount = Image->Last - Image->First + 1;
    MiCheckImagePages((ULONG_PTR)Base, PageCount);
    const KIRQL OldIrql = KiAcquireLock(&MiImageLock);
    RtlRemoveInterval(&MiImages, Image);
    KiReleaseLock(&MiImageLock, OldIrql);
    MiFreeImagePages((ULONG_PTR)Base, PageCount);
    MiReleaseSystemVa(MiRegionDriverImages, (ULONG_PTR)Base, PageCount, MI_LEADING_GUARDS);
    MiFreePool(Image);
}

ULONG64 MiImageCount(VOID)
{
    return MiImages.NodeCount;
}

//
// For MmVerify.
//

BOOLEAN MiIsImageLeafConsistent(ULONG_PTR Va, PFN_NUMBER Pfn, MI_PROTECTION Protection)
{
    return MiFindImage((PVOID)Va) != NULL && MiPfnState(Pfn) == MiPfnImage &&
           MiVaOfImageFrame(Pfn) == Va && Protection.Access != MiAccessExecuteReadWrite;
}

BOOLEAN MiAreImagesConsistent(VOID)
{
    ULONG64 EndPage = 0;
    for (PRTL_INTERVAL_NODE Node = RtlFirstInterval(&MiImages); Node != NULL;
         Node = RtlNextInterval(Node)) {
        if (Node->First < EndPage) {
            return FALSE;
        }
        EndPage = Node->Last + 1;
    }
    return RtlVerifyIntervalTree(&MiImages);
}
