// Non-cached memory: MmAllocateNonCachedMemory, MmFreeNonCachedMemory. Uncached pages at adjacent
// addresses; their frames lie anywhere, so it is not for devices that walk memory by themselves.
#include "mm/mi.h"

static PVOID MiAllocateNonCached(SIZE_T ByteCount, PVOID Caller)
{
    const PFN_NUMBER FirstPfn = MiAllocateFrameChain(MiPfnDriver, BYTES_TO_PAGES(ByteCount));
    if (FirstPfn == MI_NO_PFN) {
        return NULL;
    }
    const MI_BLOCK Block = {
        .Kind = MiBlockNonCached,
        .ByteCount = ByteCount,
        .Protection = {MiAccessReadWrite, MiCacheUncached},
        .Caller = Caller,
    };
    const PVOID Va = MiCreateBlock(&Block, FirstPfn);
    if (Va == NULL) {
        MiFreeFrameChain(FirstPfn);
    }
    return Va;
}

PVOID NTAPI MmAllocateNonCachedMemory(SIZE_T NumberOfBytes)
{
    if (MiIsVerifying()) {
        MiVerifyIrql(MiIrqlAllocateNonCached, 0, 0, __builtin_return_address(0));
    }
    if (NumberOfBytes == 0) {
        MiRefusePlain(__func__, MiReasonZeroBytes);
        return NULL;
    }
    const PVOID Va = MiAllocateNonCached(NumberOfBytes, __builtin_return_address(0));
    if (Va == NULL) {
        MiRefusePlain(__func__, MiReasonResources);
    }
    return Va;
}

// The block that BaseAddress and NumberOfBytes name. Whatever else they name is a bug of the
// caller.
static PMI_BLOCK MiFindNonCached(PVOID BaseAddress, SIZE_T NumberOfBytes)
{
    const PFN_NUMBER PageCount = BYTES_TO_PAGES(NumberOfBytes);
    const PMI_BLOCK Block = MiFindBlock(MiBlockNonCached, BaseAddress);
    if (Block == NULL) {
        const BOOLEAN IsInside = MiFindBlockAround(BaseAddress) != NULL;
        MiBugCheck(SYSTEM_PTE_MISUSE, IsInside ? 0x304 : 0x303, (ULONG_PTR)BaseAddress, PageCount,
                   0, "MmFreeNonCachedMemory: 0x%p %s", BaseAddress,
                   IsInside ? "is not where non-cached memory begins"
                            : "is no non-cached memory (never was, or it was freed already)");
    }
    if (PageCount != MiBlockPageCount(Block)) {
        MiBugCheck(SYSTEM_PTE_MISUSE, 0x305, (ULONG_PTR)BaseAddress, PageCount,
                   MiBlockPageCount(Block),
                   "MmFreeNonCachedMemory: %llu pages are freed at 0x%p, but %llu were allocated",
                   PageCount, BaseAddress, MiBlockPageCount(Block));
    }
    return Block;
}

VOID NTAPI MmFreeNonCachedMemory(PVOID BaseAddress, SIZE_T NumberOfBytes)
{
    if (MiIsVerifying()) {
        MiVerifyIrql(MiIrqlFreeNonCached, 0, 0, __builtin_return_address(0));
    }
    MiDestroyBlock(MiFindNonCached(BaseAddress, NumberOfBytes));
}
