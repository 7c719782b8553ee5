// Common buffers: contiguous memory that processor and device use at the same time.
//
// At level 1 of the verifier a buffer has a guard page before and behind, and the bytes of its last page
// that the driver did not ask for have IOP_DMA_PADDING; freeing it checks both. Its contents are not
// zeros, lest a driver rely on it.
#include "kernel/io/dma.h"
#include "kernel/inc/checked.h"

typedef struct _IOP_BUFFER_REQUEST {
    ULONG64 LowestAddress;
    ULONG64 HighestAddress;
    ULONG ByteCount;
    MEMORY_CACHING_TYPE CacheType;
    NODE_REQUIREMENT Node;
    BOOLEAN IsCacheKnown;
    PVOID Caller;
} IOP_BUFFER_REQUEST;

static ULONG64 IopLowerOf(ULONG64 A, ULONG64 B)
{
    return A < B ? A : B;
}

static PHYSICAL_ADDRESS IopAddress(ULONG64 Address)
{
    PHYSICAL_ADDRESS Result;
    Result.QuadPart = (LONG64)Address;
    return Result;
}

static ULONG IopGuardPages(VOID)
{
    return IopIsVerifyingDma() ? 1 : 0;
}

// The memory, guards included. FALSE: there is none.
static BOOLEAN IopAllocateBufferPages(PIOP_DMA_BUFFER Buffer, const IOP_BUFFER_REQUEST *Request)
{
    const ULONG GuardPages = IopGuardPages();
    Buffer->PageCount = (ULONG)BYTES_TO_PAGES(Request->ByteCount) + 2 * GuardPages;
    const SIZE_T BlockBytes = (SIZE_T)Buffer->PageCount << PAGE_SHIFT;
    Buffer->Block = MmAllocateContiguousMemorySpecifyCacheNode(
        BlockBytes, IopAddress(Request->LowestAddress), IopAddress(Request->HighestAddress),
        IopAddress(0), Request->CacheType, Request->Node);
    if (Buffer->Block == NULL) {
        return FALSE;
    }
    Buffer->Va = (PUCHAR)Buffer->Block + ((SIZE_T)GuardPages << PAGE_SHIFT);
    Buffer->LogicalAddress = MmGetPhysicalAddress(Buffer->Va);
    if (GuardPages != 0) {
        IopSetPadding(Buffer->Va, BlockBytes - 2 * PAGE_SIZE);
        IopSetGuardPages(Buffer->Block, (PUCHAR)Buffer->Block + BlockBytes - PAGE_SIZE);
    }
    return TRUE;
}

static PVOID IopAllocateBuffer(PIOP_DMA_ADAPTER Adapter, const IOP_BUFFER_REQUEST *Request,
                               PPHYSICAL_ADDRESS LogicalAddress)
{
    LogicalAddress->QuadPart = 0;
    const PIOP_DMA_BUFFER Buffer =
        Request->ByteCount == 0
            ? NULL
            : ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(*Buffer), IOP_DMA_TAG);
    if (Buffer == NULL) {
        return NULL;
    }
    if (!IopAllocateBufferPages(Buffer, Request)) {
        ExFreePoolWithTag(Buffer, IOP_DMA_TAG);
        return NULL;
    }
    Buffer->ByteCount = Request->ByteCount;
    Buffer->IsCacheKnown = Request->IsCacheKnown;
    Buffer->CacheEnabled = Request->CacheType == MmCached;
    Buffer->Caller = Request->Caller;
    Buffer->Time = KeReadCycles();
    const KIRQL OldIrql = KiAcquireLock(&Adapter->Lock);
    InsertTailList(&Adapter->Buffers, &Buffer->Link);
    Adapter->BufferCount += 1;
    Adapter->BufferPages += Buffer->PageCount;
    KiReleaseLock(&Adapter->Lock, OldIrql);
    *LogicalAddress = Buffer->LogicalAddress;
    return Buffer->Va;
}

PVOID NTAPI IopAllocateCommonBuffer(PDMA_ADAPTER DmaAdapter, ULONG Length,
                                    PPHYSICAL_ADDRESS LogicalAddress, BOOLEAN CacheEnabled)
{
    PVOID const Caller = __builtin_return_address(0);
    const PIOP_DMA_ADAPTER Adapter = IopEnterDma(DmaAdapter, IopDmaAllocateBuffer, Caller);
    const IOP_BUFFER_REQUEST Request = {
        .HighestAddress = Adapter->HighestAddress,
        .ByteCount = Length,
        .CacheType = MmCached,
        .Node = MM_ANY_NODE_OK,
        .Caller = Caller,
    };
    UNREFERENCED_PARAMETER(CacheEnabled);
    return IopAllocateBuffer(Adapter, &Request, LogicalAddress);
}

// The device's limit, and the driver's if there is one.
static ULONG64 IopHighestOf(const IOP_DMA_ADAPTER *Adapter, const PHYSICAL_ADDRESS *Maximum)
{
    return Maximum == NULL ? Adapter->HighestAddress
                           : IopLowerOf(Adapter->HighestAddress, (ULONG64)Maximum->QuadPart);
}

PVOID NTAPI IopAllocateCommonBufferEx(PDMA_ADAPTER DmaAdapter, PPHYSICAL_ADDRESS MaximumAddress,
                                      ULONG Length, PPHYSICAL_ADDRESS LogicalAddress,
                                      BOOLEAN CacheEnabled, NODE_REQUIREMENT PreferredNode)
{
    PVOID const Caller = __builtin_return_address(0);
    const PIOP_DMA_ADAPTER Adapter = IopEnterDma(DmaAdapter, IopDmaAllocateBufferEx, Caller);
    const IOP_BUFFER_REQUEST Request = {
        .HighestAddress = IopHighestOf(Adapter, MaximumAddress),
        .ByteCount = Length,
        .CacheType = CacheEnabled ? MmCached : MmNonCached,
        .Node = PreferredNode,
        .IsCacheKnown = TRUE,
        .Caller = Caller,
    };
    return IopAllocateBuffer(Adapter, &Request, LogicalAddress);
}

PVOID NTAPI IopAllocateCommonBufferWithBounds(PDMA_ADAPTER DmaAdapter,
                                              PPHYSICAL_ADDRESS MinimumAddress,
                                              PPHYSICAL_ADDRESS MaximumAddress, ULONG Length,
                                              ULONG Flags, MEMORY_CACHING_TYPE *CacheType,
                                              NODE_REQUIREMENT PreferredNode,
                                              PPHYSICAL_ADDRESS LogicalAddress)
{
    PVOID const Caller = __builtin_return_address(0);
    const PIOP_DMA_ADAPTER Adapter =
        IopEnterDma(DmaAdapter, IopDmaAllocateBufferWithBounds, Caller);
    const IOP_BUFFER_REQUEST Request = {
        .LowestAddress = MinimumAddress != NULL ? (ULONG64)MinimumAddress->QuadPart : 0,
        .HighestAddress = IopHighestOf(Adapter, MaximumAddress),
        .ByteCount = Flags == 0 ? Length : 0,
        .CacheType = CacheType != NULL ? *CacheType : MmCached,
        .Node = PreferredNode,
        .IsCacheKnown = TRUE,
        .Caller = Caller,
    };
    return IopAllocateBuffer(Adapter, &Request, LogicalAddress);
}

//
// Free.
//

PIOP_DMA_BUFFER IopRemoveBuffer(PIOP_DMA_ADAPTER Adapter, const VOID *Va)
{
    PIOP_DMA_BUFFER Found = NULL;
    const KIRQL OldIrql = KiAcquireLock(&Adapter->Lock);
    for (PLIST_ENTRY Link = Adapter->Buffers.Flink; Link != &Adapter->Buffers && Found == NULL;
         Link = Link->Flink) {
        const PIOP_DMA_BUFFER Buffer = CONTAINING_RECORD(Link, IOP_DMA_BUFFER, Link);
        Found = Buffer->Va == Va ? Buffer : NULL;
    }
    if (Found != NULL) {
        RemoveEntryList(&Found->Link);
        Adapter->BufferCount -= 1;
        Adapter->BufferPages -= Found->PageCount;
    }
    KiReleaseLock(&Adapter->Lock, OldIrql);
    return Found;
}

// At level 1: freed as it was allocated, and nobody wrote beyond it.
static VOID IopVerifyBuffer(const IOP_DMA_BUFFER *Buffer, ULONG Length,
                            PHYSICAL_ADDRESS LogicalAddress, BOOLEAN CacheEnabled, PVOID Caller)
{
    const BOOLEAN IsOtherType =
        Buffer->IsCacheKnown && (CacheEnabled != FALSE) != (Buffer->CacheEnabled != FALSE);
    if (Buffer->ByteCount != Length || IsOtherType ||
        Buffer->LogicalAddress.QuadPart != LogicalAddress.QuadPart) {
        IopStopDma(0x03, 1, Buffer->ByteCount, Length, Caller,
                   "FreeCommonBuffer: the buffer at 0x%p is freed as %u bytes at logical address "
                   "0x%llx, %s; it was allocated as %u bytes at 0x%llx, %s",
                   Buffer->Va, Length, LogicalAddress.QuadPart,
                   CacheEnabled ? "cached" : "not cached", Buffer->ByteCount,
                   Buffer->LogicalAddress.QuadPart, Buffer->CacheEnabled ? "cached" : "not cached");
    }
    const PUCHAR Block = Buffer->Block;
    const SIZE_T BlockBytes = (SIZE_T)Buffer->PageCount << PAGE_SHIFT;
    const PUCHAR EndOfData = (PUCHAR)Buffer->Va + Buffer->ByteCount;
    IopCheckPadding(EndOfData, (SIZE_T)(Block + BlockBytes - PAGE_SIZE - EndOfData),
                    IopDmaPaddingAfter, Caller);
    IopCheckGuardPages(Block, Block + BlockBytes - PAGE_SIZE, Caller);
}

VOID NTAPI IopFreeCommonBuffer(PDMA_ADAPTER DmaAdapter, ULONG Length,
                               PHYSICAL_ADDRESS LogicalAddress, PVOID VirtualAddress,
                               BOOLEAN CacheEnabled)
{
    PVOID const Caller = __builtin_return_address(0);
    const PIOP_DMA_ADAPTER Adapter = IopEnterDma(DmaAdapter, IopDmaFreeBuffer, Caller);
    const PIOP_DMA_BUFFER Buffer = IopRemoveBuffer(Adapter, VirtualAddress);
    if (Buffer == NULL) {
        IopStopDma(
            0x03, 1, (ULONG_PTR)VirtualAddress, (ULONG_PTR)Adapter, Caller,
            "FreeCommonBuffer: 0x%p is no common buffer of the adapter at 0x%p (never was, or "
            "it was freed already)",
            VirtualAddress, Adapter);
    }
    if (IopIsVerifyingDma()) {
        IopVerifyBuffer(Buffer, Length, LogicalAddress, CacheEnabled, Caller);
    }
    MmFreeContiguousMemory(Buffer->Block);
    ExFreePoolWithTag(Buffer, IOP_DMA_TAG);
}
