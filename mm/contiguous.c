// Contiguous memory: MmAllocateContiguousMemory and its variants.
//
// Frames side by side, for devices that walk memory by themselves. All variants are one request:
//
//   bytes      NumberOfBytes, rounded up to pages; only these bytes count for the limits
//   limits     every byte lies within [lowest, highest]; no multiple of the boundary lies inside
//   what for   access and cache type
//
// The search is first fit over the PFN database (pfn.c): the lowest frames are taken, for who does not care
// gets the highest; but those below 16 MiB, which some devices need, only for want of others.
#include "kernel/inc/checked.h"
#include "mm/mi.h"

// As far as a search looks that shall be fast, in frames.
#define MI_FAST_SEARCH_PAGES 0x10000u

typedef struct _MI_CONTIGUOUS_REQUEST {
    SIZE_T ByteCount;
    ULONG64 LowestAddress;
    ULONG64 HighestAddress;
    ULONG64 BoundaryBytes; // 0: none
    MI_PROTECTION Protection;
    ULONG Tag;
    ULONG Flags;
} MI_CONTIGUOUS_REQUEST;

//
// Decide.
//

// Where the first frames and the last may lie, so that the bytes keep the limits. FALSE: nowhere.
static BOOLEAN MiWindowOfRequest(const MI_CONTIGUOUS_REQUEST *Request, MI_PFN_RANGE *Window)
{
    ULONG64 FirstAddress;
    const ULONG64 LastByteOffset = BYTE_OFFSET(Request->ByteCount - 1);
    if (Request->LowestAddress > Request->HighestAddress ||
        Request->HighestAddress < LastByteOffset ||
        !RtlAlignUpChecked64(Request->LowestAddress, PAGE_SIZE, &FirstAddress)) {
        return FALSE;
    }
    Window->FirstPfn = FirstAddress >> PAGE_SHIFT;
    Window->LastPfn = (Request->HighestAddress - LastByteOffset) >> PAGE_SHIFT;
    if ((Request->Flags & MM_ALLOCATE_CONTIGUOUS_MEMORY_FAST_ONLY) != 0 &&
        Window->LastPfn > Window->FirstPfn + MI_FAST_SEARCH_PAGES - 1) {
        Window->LastPfn = Window->FirstPfn + MI_FAST_SEARCH_PAGES - 1;
    }
    return Window->FirstPfn <= Window->LastPfn && Window->FirstPfn <= MiHighestRamPfn();
}

// 0, or a power of two of whole pages that the block fits in.
static BOOLEAN MiIsBoundaryLegal(const MI_CONTIGUOUS_REQUEST *Request)
{
    const ULONG64 Boundary = Request->BoundaryBytes;
    return Boundary == 0 ||
           (RtlIsPowerOfTwo64(Boundary) && Boundary >= PAGE_SIZE && Request->ByteCount <= Boundary);
}

static BOOLEAN MiIsRequestLegal(const MI_CONTIGUOUS_REQUEST *Request, MI_PFN_RANGE *Window,
                                MI_REASON *Reason)
{
    if (Request->ByteCount == 0) {
        *Reason = MiReasonZeroBytes;
        return FALSE;
    }
    *Reason = MiReasonWindow;
    return MiIsBoundaryLegal(Request) && MiWindowOfRequest(Request, Window);
}

//
// Do.
//

// Adjacent frames, linked in their order; MI_NO_PFN: there are none.
static PFN_NUMBER MiTakeContiguousFrames(const MI_CONTIGUOUS_REQUEST *Request, MI_PFN_RANGE Window)
{
    const PFN_NUMBER PageCount = BYTES_TO_PAGES(Request->ByteCount);
    const PFN_NUMBER FirstPfn = MiAllocateBoundedFrameRun(
        PageCount, Request->BoundaryBytes >> PAGE_SHIFT, Window, MiPfnDriver);
    for (PFN_NUMBER Page = 0; FirstPfn != MI_NO_PFN && Page < PageCount; Page += 1) {
        const PFN_NUMBER Next = Page + 1 < PageCount ? FirstPfn + Page + 1 : MI_NO_PFN;
        MiPfnElement(FirstPfn + Page)->Flink = (ULONG)Next;
    }
    return FirstPfn;
}

static PVOID MiAllocateWithin(const MI_CONTIGUOUS_REQUEST *Request, MI_PFN_RANGE Window,
                              PVOID Caller)
{
    const PFN_NUMBER FirstPfn = MiTakeContiguousFrames(Request, Window);
    if (FirstPfn == MI_NO_PFN) {
        return NULL;
    }
    const MI_BLOCK Block = {
        .Kind = MiBlockContiguous,
        .ByteCount = Request->ByteCount,
        .Protection = Request->Protection,
        .Tag = Request->Tag,
        .Caller = Caller,
    };
    const PVOID Va = MiCreateBlock(&Block, FirstPfn);
    if (Va == NULL) {
        MiFreeFrameChain(FirstPfn);
    }
    return Va;
}

// What every routine below asks for. The rest of the request is the routine's own.
static MI_CONTIGUOUS_REQUEST MiContiguousRequest(ULONG64 ByteCount, PHYSICAL_ADDRESS Lowest,
                                                 PHYSICAL_ADDRESS Highest,
                                                 PHYSICAL_ADDRESS Boundary)
{
    return (MI_CONTIGUOUS_REQUEST){
        .ByteCount = ByteCount,
        .LowestAddress = (ULONG64)Lowest.QuadPart,
        .HighestAddress = (ULONG64)Highest.QuadPart,
        .BoundaryBytes = (ULONG64)Boundary.QuadPart,
    };
}

// The request of one of the routines below. STATUS_INVALID_PARAMETER: it cannot be met by any
// machine.
static NTSTATUS MiAllocateContiguous(const CHAR *Routine, const MI_CONTIGUOUS_REQUEST *Request,
                                     PVOID Caller, PVOID *Va)
{
    MI_PFN_RANGE Window;
    MI_REASON Reason;
    *Va = NULL;
    if (!MiIsRequestLegal(Request, &Window, &Reason)) {
        MiRefusePlain(Routine, Reason);
        return STATUS_INVALID_PARAMETER;
    }
    *Va = MiAllocateWithin(Request, Window, Caller);
    if (*Va == NULL) {
        MiRefusePlain(Routine, MiReasonResources);
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    return STATUS_SUCCESS;
}

// For the routines without a protection: never executable.
static PVOID MiAllocateOfCacheType(const CHAR *Routine, MI_CONTIGUOUS_REQUEST *Request,
                                   MEMORY_CACHING_TYPE CachingType, PVOID Caller)
{
    PVOID Va;
    PHYSICAL_ADDRESS Highest;
    Highest.QuadPart = (LONG64)Request->HighestAddress;
    if (MiIsVerifying()) {
        MiVerifyAllocateContiguous(Highest, Request->ByteCount, PAGE_READWRITE, Caller);
    }
    Request->Protection.Access = MiAccessReadWrite;
    if (!MiDecodeCachingType(CachingType, &Request->Protection.CacheType)) {
        MiRefusePlain(Routine, MiReasonCacheType);
        return NULL;
    }
    (VOID) !MiAllocateContiguous(Routine, Request, Caller, &Va);
    return Va;
}

PVOID NTAPI MmAllocateContiguousMemory(SIZE_T NumberOfBytes,
                                       PHYSICAL_ADDRESS HighestAcceptableAddress)
{
    MI_CONTIGUOUS_REQUEST Request = {
        .ByteCount = NumberOfBytes,
        .HighestAddress = (ULONG64)HighestAcceptableAddress.QuadPart,
    };
    return MiAllocateOfCacheType(__func__, &Request, MmCached, __builtin_return_address(0));
}

PVOID NTAPI MmAllocateContiguousMemorySpecifyCache(SIZE_T NumberOfBytes,
                                                   PHYSICAL_ADDRESS LowestAcceptableAddress,
                                                   PHYSICAL_ADDRESS HighestAcceptableAddress,
                                                   PHYSICAL_ADDRESS BoundaryAddressMultiple,
                                                   MEMORY_CACHING_TYPE CacheType)
{
    MI_CONTIGUOUS_REQUEST Request = MiContiguousRequest(
        NumberOfBytes, LowestAcceptableAddress, HighestAcceptableAddress, BoundaryAddressMultiple);
    return MiAllocateOfCacheType(__func__, &Request, CacheType, __builtin_return_address(0));
}

PVOID NTAPI MmAllocateContiguousMemorySpecifyCacheNode(SIZE_T NumberOfBytes,
                                                       PHYSICAL_ADDRESS LowestAcceptableAddress,
                                                       PHYSICAL_ADDRESS HighestAcceptableAddress,
                                                       PHYSICAL_ADDRESS BoundaryAddressMultiple,
                                                       MEMORY_CACHING_TYPE CacheType,
                                                       NODE_REQUIREMENT PreferredNode)
{
    MI_CONTIGUOUS_REQUEST Request = MiContiguousRequest(
        NumberOfBytes, LowestAcceptableAddress, HighestAcceptableAddress, BoundaryAddressMultiple);
    if (!MiIsNodeLegal(PreferredNode)) {
        MiRefusePlain(__func__, MiReasonNode);
        return NULL;
    }
    return MiAllocateOfCacheType(__func__, &Request, CacheType, __builtin_return_address(0));
}

// PAGE_READWRITE or PAGE_EXECUTE_READWRITE, with or without a cache modifier.
static BOOLEAN MiDecodeContiguousProtection(ULONG Protect, MI_PROTECTION *Protection)
{
    return MiDecodePageProtection(Protect, Protection) &&
           (Protection->Access == MiAccessReadWrite ||
            Protection->Access == MiAccessExecuteReadWrite);
}

PVOID NTAPI MmAllocateContiguousNodeMemory(SIZE_T NumberOfBytes,
                                           PHYSICAL_ADDRESS LowestAcceptableAddress,
                                           PHYSICAL_ADDRESS HighestAcceptableAddress,
                                           PHYSICAL_ADDRESS BoundaryAddressMultiple, ULONG Protect,
                                           NODE_REQUIREMENT PreferredNode)
{
    if (MiIsVerifying()) {
        MiVerifyAllocateContiguous(HighestAcceptableAddress, NumberOfBytes, Protect,
                                   __builtin_return_address(0));
    }
    MI_CONTIGUOUS_REQUEST Request = MiContiguousRequest(
        NumberOfBytes, LowestAcceptableAddress, HighestAcceptableAddress, BoundaryAddressMultiple);
    PVOID Va;
    if (!MiIsNodeLegal(PreferredNode) ||
        !MiDecodeContiguousProtection(Protect, &Request.Protection)) {
        MiRefusePlain(__func__, MiIsNodeLegal(PreferredNode) ? MiReasonProtection : MiReasonNode);
        return NULL;
    }
    (VOID) !MiAllocateContiguous(__func__, &Request, __builtin_return_address(0), &Va);
    return Va;
}

// Whether the arguments that only MmAllocateContiguousMemoryEx has, and the node, are ones that
// exist.
static NTSTATUS MiCheckExtendedRequest(NODE_REQUIREMENT Node, ULONG Protect, PVOID Partition,
                                       ULONG Flags, MI_PROTECTION *Protection)
{
    const CHAR *const Routine = "MmAllocateContiguousMemoryEx";
    if (!MiIsNodeLegal(Node) || Partition != NULL) {
        MiRefusePlain(Routine, MiReasonNode);
        return STATUS_INVALID_PARAMETER;
    }
    if ((Flags & ~(ULONG)MM_ALLOCATE_CONTIGUOUS_MEMORY_FAST_ONLY) != 0) {
        MiRefusePlain(Routine, MiReasonFlags);
        return STATUS_INVALID_PARAMETER;
    }
    if (!MiDecodeContiguousProtection(Protect, Protection)) {
        MiRefusePlain(Routine, MiReasonProtection);
        return STATUS_INVALID_PAGE_PROTECTION;
    }
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI MmAllocateContiguousMemoryEx(PSIZE_T NumberOfBytes,
                                            PHYSICAL_ADDRESS LowestAcceptableAddress,
                                            PHYSICAL_ADDRESS HighestAcceptableAddress,
                                            PHYSICAL_ADDRESS BoundaryAddressMultiple,
                                            NODE_REQUIREMENT PreferredNode, ULONG Protect,
                                            PVOID PartitionObject, ULONG Tag, ULONG Flags,
                                            PVOID *BaseAddress)
{
    if (MiIsVerifying()) {
        MiVerifyAllocateContiguous(HighestAcceptableAddress, *NumberOfBytes, Protect,
                                   __builtin_return_address(0));
    }
    MI_CONTIGUOUS_REQUEST Request = MiContiguousRequest(
        0, LowestAcceptableAddress, HighestAcceptableAddress, BoundaryAddressMultiple);
    Request.Tag = Tag;
    Request.Flags = Flags;
    *BaseAddress = NULL;
    NTSTATUS Status =
        MiCheckExtendedRequest(PreferredNode, Protect, PartitionObject, Flags, &Request.Protection);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    // The caller may use all of the last page, so all of it must keep the limits.
    if (!RtlAlignUpChecked64(*NumberOfBytes, PAGE_SIZE, &Request.ByteCount)) {
        MiRefusePlain(__func__, MiReasonTooLarge);
        return STATUS_INVALID_PARAMETER;
    }
    Status = MiAllocateContiguous(__func__, &Request, __builtin_return_address(0), BaseAddress);
    if (NT_SUCCESS(Status)) {
        *NumberOfBytes = Request.ByteCount;
    }
    return Status;
}

//
// Free.
//

// The block that begins at BaseAddress. Whatever else that is, is a bug of the caller.
static PMI_BLOCK MiFindContiguous(PVOID BaseAddress)
{
    const PMI_BLOCK Block = MiFindBlock(MiBlockContiguous, BaseAddress);
    if (Block == NULL) {
        const BOOLEAN IsInside = MiFindBlockAround(BaseAddress) != NULL;
        MiBugCheck(BAD_POOL_CALLER, 0x60, (ULONG_PTR)BaseAddress, 0, 0,
                   "MmFreeContiguousMemory: 0x%p %s", BaseAddress,
                   IsInside ? "is not where a block of contiguous memory begins"
                            : "is no contiguous memory (never was, or it was freed already)");
    }
    return Block;
}

VOID NTAPI MmFreeContiguousMemory(PVOID BaseAddress)
{
    if (MiIsVerifying()) {
        MiVerifyIrql(MiIrqlFreeContiguous, 0, 0, __builtin_return_address(0));
    }
    MiDestroyBlock(MiFindContiguous(BaseAddress));
}

VOID NTAPI MmFreeContiguousMemorySpecifyCache(PVOID BaseAddress, SIZE_T NumberOfBytes,
                                              MEMORY_CACHING_TYPE CacheType)
{
    if (MiIsVerifying()) {
        MiVerifyIrql(MiIrqlFreeContiguous, 0, 0, __builtin_return_address(0));
    }
    const PMI_BLOCK Block = MiFindContiguous(BaseAddress);
    if (Block->ByteCount != NumberOfBytes) {
        MiBugCheck(BAD_POOL_CALLER, 0x60, (ULONG_PTR)BaseAddress, NumberOfBytes, Block->ByteCount,
                   "MmFreeContiguousMemorySpecifyCache: 0x%p is freed as %llu bytes, but it was "
                   "allocated as %llu",
                   BaseAddress, NumberOfBytes, Block->ByteCount);
    }
    MI_CACHE_TYPE Given = MiCacheUndecided;
    if (!MiDecodeCachingType(CacheType, &Given) || Given != Block->Protection.CacheType) {
        MiBugCheck(BAD_POOL_CALLER, 0x60, (ULONG_PTR)BaseAddress, (ULONG_PTR)(ULONG)CacheType,
                   Block->Protection.CacheType,
                   "MmFreeContiguousMemorySpecifyCache: 0x%p is freed as %s, but it was allocated "
                   "as %s",
                   BaseAddress, MiCacheTypeName(Given),
                   MiCacheTypeName(Block->Protection.CacheType));
    }
    MiDestroyBlock(Block);
}
