// Physical pages by MDL: MmAllocatePagesForMdl(Ex), MmFreePagesFromMdl.
//
// Frames that belong to the MDL alone: mapped nowhere but in the direct map, of no cache type until
// somebody maps them. Everything that a later mapping could need is done here, where failing is
// allowed: the direct map is split around the frames, so that their alias can be hidden.
//
// The address range [Low, High] is a window that steps by SkipBytes until the request is met or RAM
// ends. With MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS SkipBytes is the size and alignment of each
// contiguous chunk instead, and 0 asks for one chunk of everything.
#include "kernel/inc/checked.h"
#include "mm/mi.h"

#define MI_PAGES_KNOWN_FLAGS                                                                       \
    (MM_DONT_ZERO_ALLOCATION | MM_ALLOCATE_FROM_LOCAL_NODE_ONLY | MM_ALLOCATE_FULLY_REQUIRED |     \
     MM_ALLOCATE_NO_WAIT | MM_ALLOCATE_PREFER_CONTIGUOUS | MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS)
#define MI_PAGES_MAXIMUM_BYTES (0x100000000ull - PAGE_SIZE)
#define MI_POISONED_PFN MAXULONG64

typedef struct _MI_PAGES_REQUEST {
    MI_PFN_RANGE Window;
    PFN_NUMBER StridePages; // 0: one window
    PFN_NUMBER ChunkPages;  // frames that must be adjacent
    PFN_NUMBER ChunkAlignmentPages;
    PFN_NUMBER PageCount;
    BOOLEAN IsZeroed;
} MI_PAGES_REQUEST;

//
// Decide.
//

// Whole frames within [Low, High]. FALSE: there is none.
static BOOLEAN MiFramesWithin(ULONG64 Low, ULONG64 High, MI_PFN_RANGE *Window)
{
    ULONG64 FirstAddress;
    if (!RtlAlignUpChecked64(Low, PAGE_SIZE, &FirstAddress)) {
        return FALSE;
    }
    const ULONG64 EndPfn =
        High >> PAGE_SHIFT >= MiHighestPfn() ? MiHighestPfn() + 1 : (High + 1) >> PAGE_SHIFT;
    if (FirstAddress >> PAGE_SHIFT >= EndPfn) {
        return FALSE;
    }
    *Window = (MI_PFN_RANGE){FirstAddress >> PAGE_SHIFT, EndPfn - 1};
    return TRUE;
}

// What chunks a request consists of. FALSE: SkipBytes does not fit the flags.
static BOOLEAN MiDecodeChunks(ULONG64 SkipBytes, SIZE_T TotalBytes, ULONG Flags,
                              MI_PAGES_REQUEST *Request)
{
    Request->StridePages = 0;
    Request->ChunkPages = 1;
    Request->ChunkAlignmentPages = 1;
    if ((Flags & MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS) == 0) {
        Request->StridePages = SkipBytes >> PAGE_SHIFT;
        return (SkipBytes & (PAGE_SIZE - 1)) == 0;
    }
    if (SkipBytes == 0) {
        Request->ChunkPages = Request->PageCount;
        return TRUE;
    }
    Request->ChunkPages = SkipBytes >> PAGE_SHIFT;
    Request->ChunkAlignmentPages = Request->ChunkPages;
    return RtlIsPowerOfTwo64(SkipBytes) && SkipBytes >= PAGE_SIZE && TotalBytes % SkipBytes == 0;
}

static BOOLEAN MiDecodeRequest(ULONG64 Low, ULONG64 High, ULONG64 SkipBytes, SIZE_T TotalBytes,
                               MEMORY_CACHING_TYPE CachingType, ULONG Flags,
                               MI_PAGES_REQUEST *Request, MI_REASON *Reason)
{
    MI_CACHE_TYPE CacheType;
    if (!MiDecodeCachingType(CachingType, &CacheType)) {
        *Reason = MiReasonCacheType;
        return FALSE;
    }
    if (TotalBytes == 0 || TotalBytes > MI_PAGES_MAXIMUM_BYTES) {
        *Reason = TotalBytes == 0 ? MiReasonZeroBytes : MiReasonTooLarge;
        return FALSE;
    }
    Request->PageCount = BYTES_TO_PAGES(TotalBytes);
    Request->IsZeroed = (Flags & MM_DONT_ZERO_ALLOCATION) == 0;
    if ((Flags & ~(ULONG)MI_PAGES_KNOWN_FLAGS) != 0 ||
        !MiDecodeChunks(SkipBytes, TotalBytes, Flags, Request)) {
        *Reason = MiReasonFlags;
        return FALSE;
    }
    *Reason = MiReasonResources;
    return MiFramesWithin(Low, High, &Request->Window) &&
           Request->Window.FirstPfn <= MiHighestRamPfn();
}

//
// Do.
//

static VOID MiFreeMdlFrames(const PFN_NUMBER *Pfns, PFN_NUMBER PageCount)
{
    for (PFN_NUMBER Page = 0; Page < PageCount; Page += 1) {
        MiFreeFrame(Pfns[Page]);
    }
}

// Adjacent free frames in Window, or MI_NO_PFN. Window moves behind them, so that all searches
// together take one pass; where any frame will do, there is no search.
static PFN_NUMBER MiTakeChunk(const MI_PAGES_REQUEST *Request, MI_PFN_RANGE *Window)
{
    if (Request->ChunkPages == 1 && Window->FirstPfn <= 1 && Window->LastPfn >= MiHighestRamPfn()) {
        return MiAllocateFrame(MiPfnMdl);
    }
    const PFN_NUMBER FirstPfn =
        MiAllocateFrameRun(Request->ChunkPages, Request->ChunkAlignmentPages, *Window, MiPfnMdl);
    Window->FirstPfn = FirstPfn + Request->ChunkPages;
    return FirstPfn;
}

// The same, zeroed if that is asked for, and ready for any mapping.
static PFN_NUMBER MiAllocateChunk(const MI_PAGES_REQUEST *Request, MI_PFN_RANGE *Window)
{
    const PFN_NUMBER FirstPfn = MiTakeChunk(Request, Window);
    if (FirstPfn == MI_NO_PFN) {
        return MI_NO_PFN;
    }
    if (!NT_SUCCESS(MiPrepareAlias(FirstPfn, Request->ChunkPages))) {
        for (PFN_NUMBER Page = 0; Page < Request->ChunkPages; Page += 1) {
            MiFreeFrame(FirstPfn + Page);
        }
        return MI_NO_PFN;
    }
    if (Request->IsZeroed) {
        RtlZeroMemory(MiFrameToVa(FirstPfn), Request->ChunkPages << PAGE_SHIFT);
    }
    return FirstPfn;
}

// Fills Pfns from one window. Returns how many frames there are now.
static PFN_NUMBER MiFillFromWindow(const MI_PAGES_REQUEST *Request, MI_PFN_RANGE Window,
                                   PPFN_NUMBER Pfns, PFN_NUMBER Filled)
{
    while (Request->PageCount - Filled >= Request->ChunkPages &&
           Window.FirstPfn <= Window.LastPfn) {
        const PFN_NUMBER FirstPfn = MiAllocateChunk(Request, &Window);
        if (FirstPfn == MI_NO_PFN) {
            break;
        }
        for (PFN_NUMBER Page = 0; Page < Request->ChunkPages; Page += 1) {
            Pfns[Filled] = FirstPfn + Page;
            Filled += 1;
        }
    }
    return Filled;
}

static PFN_NUMBER MiFillFrames(const MI_PAGES_REQUEST *Request, PPFN_NUMBER Pfns)
{
    MI_PFN_RANGE Window = Request->Window;
    PFN_NUMBER Filled = MiFillFromWindow(Request, Window, Pfns, 0);
    while (Filled < Request->PageCount && Request->StridePages != 0 &&
           Request->StridePages <= MiHighestRamPfn() - Window.FirstPfn) {
        Window.FirstPfn += Request->StridePages;
        Window.LastPfn += Request->StridePages;
        Filled = MiFillFromWindow(Request, Window, Pfns, Filled);
    }
    return Filled;
}

static PMDL MiAllocatePagesForMdl(const MI_PAGES_REQUEST *Request, BOOLEAN IsFullyRequired)
{
    // The block is the MDL: the driver frees it by ExFreePool.
    PMDL Mdl = MiAllocatePool(sizeof(MDL) + Request->PageCount * sizeof(PFN_NUMBER), 'PldM');
    if (Mdl == NULL) {
        return NULL;
    }
    PPFN_NUMBER Pfns = MmGetMdlPfnArray(Mdl);
    const PFN_NUMBER Filled = MiFillFrames(Request, Pfns);
    if (Filled == 0 || (IsFullyRequired && Filled < Request->PageCount)) {
        MiFreeMdlFrames(Pfns, Filled);
        MiFreePool(Mdl);
        return NULL;
    }
    MmInitializeMdl(Mdl, NULL, Filled << PAGE_SHIFT);
    Mdl->MdlFlags = MDL_PAGES_LOCKED;
    return Mdl;
}

PMDL NTAPI MmAllocatePagesForMdlEx(PHYSICAL_ADDRESS LowAddress, PHYSICAL_ADDRESS HighAddress,
                                   PHYSICAL_ADDRESS SkipBytes, SIZE_T TotalBytes,
                                   MEMORY_CACHING_TYPE CacheType, ULONG Flags)
{
    MI_PAGES_REQUEST Request;
    MI_REASON Reason;
    PMDL Mdl = NULL;
    if (MiDecodeRequest((ULONG64)LowAddress.QuadPart, (ULONG64)HighAddress.QuadPart,
                        (ULONG64)SkipBytes.QuadPart, TotalBytes, CacheType, Flags, &Request,
                        &Reason)) {
        Mdl = MiAllocatePagesForMdl(&Request, (Flags & MM_ALLOCATE_FULLY_REQUIRED) != 0);
    }
    if (Mdl == NULL) {
        MiRefusePlain(__func__, Reason);
    }
    return Mdl;
}

PMDL NTAPI MmAllocatePagesForMdl(PHYSICAL_ADDRESS LowAddress, PHYSICAL_ADDRESS HighAddress,
                                 PHYSICAL_ADDRESS SkipBytes, SIZE_T TotalBytes)
{
    return MmAllocatePagesForMdlEx(LowAddress, HighAddress, SkipBytes, TotalBytes, MmCached, 0);
}

//
// Free.
//

// Gives back one frame of an MDL, which must be one that the MDL owns and that nothing maps any
// more.
static VOID MiFreeOwnFrame(PMDL Mdl, PPFN_NUMBER Slot)
{
    const PFN_NUMBER Pfn = *Slot;
    if (MiPfnState(Pfn) != MiPfnMdl) {
        MiBugCheck(
            MEMORY_MANAGEMENT, 0x1236, (ULONG_PTR)Mdl, (ULONG_PTR)Slot, Pfn,
            "MmFreePagesFromMdl: 0x%llx in the MDL at 0x%p is no frame of MmAllocatePagesForMdl%s",
            Pfn, Mdl, Pfn == MI_POISONED_PFN ? "; the MDL's pages were freed already" : "");
    }
    MiCheckFrameUnmapped(Pfn);
    MiForgetRamCacheType(Pfn);
    MiFreeFrame(Pfn);
    *Slot = MI_POISONED_PFN;
}

VOID NTAPI MmFreePagesFromMdl(PMDL MemoryDescriptorList)
{
    MiUnmapMdl(MemoryDescriptorList);
    PPFN_NUMBER Pfns = MmGetMdlPfnArray(MemoryDescriptorList);
    const PFN_NUMBER PageCount = MiMdlPageCount(MemoryDescriptorList);
    for (PFN_NUMBER Page = 0; Page < PageCount; Page += 1) {
        MiFreeOwnFrame(MemoryDescriptorList, &Pfns[Page]);
    }
    MemoryDescriptorList->MdlFlags &= ~(MDL_PAGES_LOCKED | MDL_IO_SPACE);
}
