// Stacks of threads: pages of the pool's region, with an unmapped one at either end.
//
//   | guard | StackBase - MM_KERNEL_STACK_BYTES ...... | guard |
//                                                      ^ StackBase: the first push goes below
//
// The guard below is the one behind the piece before, or nobody's addresses.
#include "mm/mi.h"

C_ASSERT(MM_KERNEL_STACK_BYTES % PAGE_SIZE == 0);

static PVOID MiCreateStack(PVOID Caller)
{
    const MI_BLOCK Block = {
        .Kind = MiBlockStack,
        .ByteCount = MM_KERNEL_STACK_BYTES,
        .Protection = {MiAccessReadWrite, MiCacheWriteBack},
        .Caller = Caller,
    };
    const PFN_NUMBER FirstPfn =
        MiAllocateFrameChain(MiPfnDriver, BYTES_TO_PAGES(MM_KERNEL_STACK_BYTES));
    if (FirstPfn == MI_NO_PFN) {
        return NULL;
    }
    const PVOID Va = MiCreateBlock(&Block, FirstPfn);
    if (Va == NULL) {
        MiFreeFrameChain(FirstPfn);
    }
    return Va;
}

PVOID MmCreateKernelStack(PVOID Caller)
{
    const PVOID Va = MiCreateStack(Caller);
    if (Va == NULL) {
        MiRefusePlain(__func__, MiReasonResources);
        return NULL;
    }
    return (PUCHAR)Va + MM_KERNEL_STACK_BYTES;
}

VOID MmDeleteKernelStack(PVOID StackBase)
{
    const PVOID Va = (PUCHAR)StackBase - MM_KERNEL_STACK_BYTES;
    const PMI_BLOCK Block = MiFindBlock(MiBlockStack, Va);
    if (Block == NULL) {
        MiBugCheck(MEMORY_MANAGEMENT, 0, (ULONG_PTR)StackBase, 0, 0,
                   "MmDeleteKernelStack: 0x%p is not the end of a stack", StackBase);
    }
    MiDestroyBlock(Block);
}
