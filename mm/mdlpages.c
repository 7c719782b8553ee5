// Physical pages by MDL: MmAllocatePagesForMdl(Ex) and its node forms, MmFreePagesFromMdl(Ex).
//
// Frames that belong to the MDL alone: mapped nowhere but in the direct map, of no cache type until
// somebody maps them. Everything that a later mapping could need is done here, where failing is
// allowed: the direct map is split around the frames, so that their alias can be hidden.
//
// The address range [Low, High] is a window that steps by SkipBytes until the request is met or RAM
// ends. With MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS SkipBytes is the size and alignment of each
// contiguous chunk instead, and 0 asks for one chunk of everything. Else a chunk is one frame, or,
// with MM_ALLOCATE_PREFER_CONTIGUOUS, as many as lie side by side: the search halves its wish until
// something is found.
#include "kernel/inc/checked.h"
#include "mm/mi.h"

#define MI_PAGES_KNOWN_FLAGS                                                                       \
    (MM_DONT_ZERO_ALLOCATION | MM_ALLOCATE_FROM_LOCAL_NODE_ONLY | MM_ALLOCATE_FULLY_REQUIRED |     \
     MM_ALLOCATE_NO_WAIT | MM_ALLOCATE_PREFER_CONTIGUOUS | MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS | \
     MM_ALLOCATE_FAST_LARGE_PAGES | MM_ALLOCATE_TRIM_IF_NECESSARY | MM_ALLOCATE_AND_HOT_REMOVE)
#define MI_LARGE_PAGE_LEVEL 2
#define MI_PAGES_MAXIMUM_BYTES (0x100000000ull - PAGE_SIZE)
#define MI_PAGES_IRQL_PARAMETER 2 // of the verifier's code for both directions

typedef struct _MI_PAGES_REQUEST {
    MI_PFN_RANGE Window;
    PFN_NUMBER StridePages; // 0: one window
    PFN_NUMBER ChunkPages;  // frames that must be adjacent
    PFN_NUMBER ChunkAlignmentPages;
    PFN_NUMBER PageCount;
    ULONG Flags;
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

// Flags that are unknown or exclude each other. FALSE: *Reason says so.
static BOOLEAN MiAreFlagsLegal(ULONG Flags, ULONG64 SkipBytes, MI_REASON *Reason)
{
    const ULONG64 LargePageBytes = MiPagesPerLeaf(MI_LARGE_PAGE_LEVEL) << PAGE_SHIFT;
    const BOOLEAN IsLarge = (Flags & MM_ALLOCATE_FAST_LARGE_PAGES) != 0;
    const BOOLEAN IsRemoved = (Flags & MM_ALLOCATE_AND_HOT_REMOVE) != 0;
    *Reason = MiReasonFlags;
    if ((Flags & ~(ULONG)MI_PAGES_KNOWN_FLAGS) != 0 ||
        (IsLarge && ((Flags & MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS) == 0 || SkipBytes == 0 ||
                     SkipBytes % LargePageBytes != 0)) ||
        (IsRemoved && (Flags & MM_ALLOCATE_FULLY_REQUIRED) != 0)) {
        return FALSE;
    }
    *Reason = MiReasonIrql;
    return !IsRemoved || KeGetCurrentIrql() == PASSIVE_LEVEL;
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
    Request->Flags = Flags;
    if (!MiAreFlagsLegal(Flags, SkipBytes, Reason)) {
        return FALSE;
    }
    if (!MiDecodeChunks(SkipBytes, TotalBytes, Flags, Request)) {
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
static PFN_NUMBER MiTakeChunk(const MI_PAGES_REQUEST *Request, PFN_NUMBER ChunkPages,
                              MI_PFN_RANGE *Window)
{
    if (ChunkPages == 1 && Window->FirstPfn <= 1 && Window->LastPfn >= MiHighestRamPfn()) {
        return Request->PageCount > MI_FRAME_BATCH ? MiAllocateFrameOfMany(MiPfnMdl)
                                                   : MiAllocateFrame(MiPfnMdl);
    }
    const PFN_NUMBER FirstPfn =
        MiAllocateFrameRun(ChunkPages, Request->ChunkAlignmentPages, *Window, MiPfnMdl);
    Window->FirstPfn = FirstPfn + ChunkPages;
    return FirstPfn;
}

// As they shall be: ready for any mapping, and zeroed if that is asked for. FALSE: no memory for
// tables; the frames are free again.
static BOOLEAN MiMakeChunkReady(const MI_PAGES_REQUEST *Request, PFN_NUMBER FirstPfn,
                                PFN_NUMBER ChunkPages)
{
    if (!NT_SUCCESS(MiPrepareAlias(FirstPfn, ChunkPages))) {
        for (PFN_NUMBER Page = 0; Page < ChunkPages; Page += 1) {
            MiFreeFrame(FirstPfn + Page);
        }
        return FALSE;
    }
    if ((Request->Flags & MM_DONT_ZERO_ALLOCATION) == 0) {
        RtlZeroMemory(MiFrameToVa(FirstPfn), ChunkPages << PAGE_SHIFT);
    } else if (MiIsVerifying()) {
        MiFillRandom(MiFrameToVa(FirstPfn), ChunkPages << PAGE_SHIFT);
    }
    return TRUE;
}

// Fills Pfns from one window with chunks of one size. Returns how many frames there are now.
static PFN_NUMBER MiFillWithChunks(const MI_PAGES_REQUEST *Request, PFN_NUMBER ChunkPages,
                                   MI_PFN_RANGE Window, PPFN_NUMBER Pfns, PFN_NUMBER Filled)
{
    while (Request->PageCount - Filled >= ChunkPages && Window.FirstPfn <= Window.LastPfn) {
        const PFN_NUMBER FirstPfn = MiTakeChunk(Request, ChunkPages, &Window);
        if (FirstPfn == MI_NO_PFN || !MiMakeChunkReady(Request, FirstPfn, ChunkPages)) {
            break;
        }
        for (PFN_NUMBER Page = 0; Page < ChunkPages; Page += 1) {
            Pfns[Filled] = FirstPfn + Page;
            Filled += 1;
        }
    }
    return Filled;
}

static PFN_NUMBER MiFillFromWindow(const MI_PAGES_REQUEST *Request, MI_PFN_RANGE Window,
                                   PPFN_NUMBER Pfns, PFN_NUMBER Filled)
{
    const ULONG Contiguous = MM_ALLOCATE_PREFER_CONTIGUOUS | MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS;
    if ((Request->Flags & Contiguous) == MM_ALLOCATE_PREFER_CONTIGUOUS) {
        for (PFN_NUMBER Pages = Request->PageCount - Filled; Pages > 1; Pages /= 2) {
            Filled = MiFillWithChunks(Request, Pages, Window, Pfns, Filled);
        }
    }
    return MiFillWithChunks(Request, Request->ChunkPages, Window, Pfns, Filled);
}

// What a window leaves unfilled has no free frame any more, so the next one is searched only for what it
// adds.
static PFN_NUMBER MiFillFromWindows(const MI_PAGES_REQUEST *Request, PPFN_NUMBER Pfns,
                                    PFN_NUMBER Filled)
{
    MI_PFN_RANGE Window = Request->Window;
    Filled = MiFillFromWindow(Request, Window, Pfns, Filled);
    while (Filled < Request->PageCount && Request->StridePages != 0 &&
           Request->StridePages <= MiHighestRamPfn() - Window.FirstPfn &&
           Window.LastPfn < MiHighestRamPfn()) {
        const PFN_NUMBER SearchedEndPfn = Window.LastPfn + 1;
        Window.FirstPfn += Request->StridePages;
        Window.LastPfn += Request->StridePages;
        const PFN_NUMBER FirstPfn =
            Window.FirstPfn > SearchedEndPfn ? Window.FirstPfn : SearchedEndPfn;
        Filled = MiFillFromWindow(Request, (MI_PFN_RANGE){FirstPfn, Window.LastPfn}, Pfns, Filled);
    }
    return Filled;
}

static PFN_NUMBER MiFillFrames(const MI_PAGES_REQUEST *Request, PPFN_NUMBER Pfns)
{
    PFN_NUMBER Filled = MiFillFromWindows(Request, Pfns, 0);
    if (Filled < Request->PageCount && (Request->Flags & MM_ALLOCATE_TRIM_IF_NECESSARY) != 0) {
        MmTrim();
        Filled = MiFillFromWindows(Request, Pfns, Filled);
    }
    return Filled;
}

static PMDL MiAllocateMdlOfPages(const MI_PAGES_REQUEST *Request, PVOID Caller)
{
    // The block is the MDL: the driver frees it by ExFreePool.
    PMDL Mdl = MiAllocatePool(sizeof(MDL) + Request->PageCount * sizeof(PFN_NUMBER), 'PldM');
    if (Mdl == NULL) {
        return NULL;
    }
    PPFN_NUMBER Pfns = MmGetMdlPfnArray(Mdl);
    const PFN_NUMBER Filled = MiFillFrames(Request, Pfns);
    const BOOLEAN IsFullyRequired = (Request->Flags & MM_ALLOCATE_FULLY_REQUIRED) != 0;
    if (Filled == 0 || (IsFullyRequired && Filled < Request->PageCount)) {
        MiFreeMdlFrames(Pfns, Filled);
        MiFreePool(Mdl);
        return NULL;
    }
    MmInitializeMdl(Mdl, NULL, Filled << PAGE_SHIFT);
    Mdl->MdlFlags = MDL_PAGES_LOCKED;
    MiSealMdl(Mdl);
    if (MiIsVerifying()) {
        MiTrack(MiTrackPages, Mdl, Filled << PAGE_SHIFT, 0, Caller);
        MiTrack(MiTrackPool, Mdl, MmSizeOfMdl(NULL, Filled << PAGE_SHIFT), 0, Caller);
    }
    return Mdl;
}

static PMDL MiAllocatePages(const CHAR *Routine, PHYSICAL_ADDRESS LowAddress,
                            PHYSICAL_ADDRESS HighAddress, PHYSICAL_ADDRESS SkipBytes,
                            SIZE_T TotalBytes, MEMORY_CACHING_TYPE CacheType, ULONG Flags,
                            PVOID Caller)
{
    if (MiIsVerifying()) {
        MiVerifyIrql(MiIrqlAllocatePagesForMdl, MI_PAGES_IRQL_PARAMETER, 0, Caller);
    }
    MI_PAGES_REQUEST Request;
    MI_REASON Reason;
    PMDL Mdl = NULL;
    if (MiDecodeRequest((ULONG64)LowAddress.QuadPart, (ULONG64)HighAddress.QuadPart,
                        (ULONG64)SkipBytes.QuadPart, TotalBytes, CacheType, Flags, &Request,
                        &Reason)) {
        Mdl = MiAllocateMdlOfPages(&Request, Caller);
    }
    if (Mdl == NULL) {
        MiRefusePlain(Routine, Reason);
    }
    return Mdl;
}

PMDL NTAPI MmAllocatePagesForMdlEx(PHYSICAL_ADDRESS LowAddress, PHYSICAL_ADDRESS HighAddress,
                                   PHYSICAL_ADDRESS SkipBytes, SIZE_T TotalBytes,
                                   MEMORY_CACHING_TYPE CacheType, ULONG Flags)
{
    return MiAllocatePages(__func__, LowAddress, HighAddress, SkipBytes, TotalBytes, CacheType,
                           Flags, __builtin_return_address(0));
}

PMDL NTAPI MmAllocatePagesForMdl(PHYSICAL_ADDRESS LowAddress, PHYSICAL_ADDRESS HighAddress,
                                 PHYSICAL_ADDRESS SkipBytes, SIZE_T TotalBytes)
{
    return MiAllocatePages(__func__, LowAddress, HighAddress, SkipBytes, TotalBytes, MmCached, 0,
                           __builtin_return_address(0));
}

PMDL NTAPI MmAllocateNodePagesForMdlEx(PHYSICAL_ADDRESS LowAddress, PHYSICAL_ADDRESS HighAddress,
                                       PHYSICAL_ADDRESS SkipBytes, SIZE_T TotalBytes,
                                       MEMORY_CACHING_TYPE CacheType, ULONG IdealNode, ULONG Flags)
{
    if (IdealNode != 0) {
        MiRefusePlain(__func__, MiReasonNode);
        return NULL;
    }
    return MiAllocatePages(__func__, LowAddress, HighAddress, SkipBytes, TotalBytes, CacheType,
                           Flags, __builtin_return_address(0));
}

PMDL NTAPI MmAllocatePartitionNodePagesForMdlEx(PHYSICAL_ADDRESS LowAddress,
                                                PHYSICAL_ADDRESS HighAddress,
                                                PHYSICAL_ADDRESS SkipBytes, SIZE_T TotalBytes,
                                                MEMORY_CACHING_TYPE CacheType, ULONG IdealNode,
                                                ULONG Flags, PVOID PartitionObject)
{
    if (IdealNode != 0 || PartitionObject != NULL) {
        MiRefusePlain(__func__, MiReasonNode);
        return NULL;
    }
    return MiAllocatePages(__func__, LowAddress, HighAddress, SkipBytes, TotalBytes, CacheType,
                           Flags, __builtin_return_address(0));
}

//
// Free.
//

// Whether MmAllocatePagesForMdl has given its pages to this MDL, and nobody freed them since. A partial
// MDL and a copy show them only.
static BOOLEAN MiOwnsPages(const MDL *Mdl)
{
    return MiIsMdlSealed(Mdl) && !MiIsMdlLocked(Mdl) && (Mdl->MdlFlags & MDL_PAGES_LOCKED) != 0;
}

// Gives back one frame of an MDL, which must be one that the MDL owns and that nothing maps any
// more.
static VOID MiFreeOwnFrame(PMDL Mdl, PPFN_NUMBER Slot, BOOLEAN IsZeroed)
{
    const PFN_NUMBER Pfn = *Slot;
    if (MiPfnState(Pfn) != MiPfnMdl || !MiOwnsPages(Mdl)) {
        MiBugCheck(MEMORY_MANAGEMENT, 0x1236, (ULONG_PTR)Mdl, (ULONG_PTR)Slot, Pfn,
                   "MmFreePagesFromMdl: 0x%llx in the MDL at 0x%p is no frame that "
                   "MmAllocatePagesForMdl gave to it%s",
                   Pfn, Mdl, Pfn == MI_POISONED_PFN ? "; the MDL's pages were freed already" : "");
    }
    MiCheckFrameUnmapped(Pfn);
    MiForgetRamCacheType(Pfn);
    if (IsZeroed) {
        RtlZeroMemory(MiFrameToVa(Pfn), PAGE_SIZE);
    }
    MiFreeFrame(Pfn);
    *Slot = MI_POISONED_PFN;
}

static VOID MiFreePages(PMDL Mdl, ULONG Flags, PVOID Caller)
{
    if (MiIsVerifying()) {
        MiVerifyIrql(MiIrqlFreePagesFromMdl, MI_PAGES_IRQL_PARAMETER, 0, Caller);
    }
    MiUnmapMdl(Mdl);
    PPFN_NUMBER Pfns = MmGetMdlPfnArray(Mdl);
    const PFN_NUMBER PageCount = MiMdlPageCount(Mdl);
    for (PFN_NUMBER Page = 0; Page < PageCount; Page += 1) {
        MiFreeOwnFrame(Mdl, &Pfns[Page], (Flags & MM_FREE_MDL_PAGES_ZERO) != 0);
    }
    MiUntrack(MiTrackPages, Mdl);
    MiBreakSeal(Mdl);
    Mdl->MdlFlags &= ~(MDL_PAGES_LOCKED | MDL_IO_SPACE);
}

VOID NTAPI MmFreePagesFromMdl(PMDL MemoryDescriptorList)
{
    MiFreePages(MemoryDescriptorList, 0, __builtin_return_address(0));
}

VOID NTAPI MmFreePagesFromMdlEx(PMDL MemoryDescriptorList, ULONG Flags)
{
    MiFreePages(MemoryDescriptorList, Flags, __builtin_return_address(0));
}
