// Blocks: contiguous and non-cached memory that drivers have, and the stacks of threads. What
// contiguous.c, noncached.c and stack.c share: where a block lies, and how it is found again.
//
//   cached             the direct map shows it already, side by side where the frames are
//   uncached,          addresses of its own in the pool's region; its frames lose their place in
//   write-combined     the direct map (alias.c)
//   executable, stack  addresses of its own, and the direct map shows it, too
//
// The frames come linked through MMPFN.Flink, in order, so that a block need not know whether they
// adjoin. The links are gone once it is made.
//
// Every block has a record, by which a free knows what it frees: the tree is keyed by the pages of
// its addresses.
//
// Invariants (checked by MmVerify):
//   K2  Records do not overlap; each page of a block translates to a frame in state MiPfnDriver,
//       with the block's protection.
//   K3  The frames in state MiPfnDriver are those of all records together.
// Lock: MiBlockLock, for the tree. A record is its driver's.
#include "mm/mi.h"

static KI_LOCK MiBlockLock = KI_LOCK_INITIALIZER(MI_RANK_BLOCK, "MiBlockLock");
static RTL_INTERVAL_TREE MiBlocks = RTL_INTERVAL_TREE_INITIALIZER;

static PMI_BLOCK MiBlockOf(PRTL_INTERVAL_NODE Node)
{
    return Node != NULL ? CONTAINING_RECORD(Node, MI_BLOCK, Node) : NULL;
}

static BOOLEAN MiNeedsAddresses(const MI_BLOCK *Block)
{
    return Block->Kind == MiBlockStack || Block->Protection.CacheType != MiCacheWriteBack ||
           Block->Protection.Access != MiAccessReadWrite;
}

//
// Make.
//

// Addresses that are ready to be mapped, and frames that are ready to be hidden. 0: not enough of
// something.
static ULONG_PTR MiPrepareBlock(PFN_NUMBER FirstPfn, PFN_NUMBER PageCount, MI_CACHE_TYPE CacheType)
{
    const ULONG_PTR Va = MiReserveSystemVa(MiRegionPool, PageCount, 0, 0);
    if (Va == 0) {
        return 0;
    }
    if (!NT_SUCCESS(MiPreparePages(Va, PageCount)) ||
        (CacheType != MiCacheWriteBack && !NT_SUCCESS(MiPrepareChainAliases(FirstPfn)))) {
        MiReleaseSystemVa(MiRegionPool, Va, PageCount, 0);
        return 0;
    }
    return Va;
}

// Gives every frame of a chain its type.
static VOID MiDecideChain(PFN_NUMBER FirstPfn, MI_CACHE_TYPE CacheType)
{
    MI_TLB_BATCH Batch;
    MiInitializeTlbBatch(&Batch);
    for (PFN_NUMBER Pfn = FirstPfn; Pfn != MI_NO_PFN; Pfn = MiNextInChain(Pfn)) {
        (VOID) MiDecideRamCacheType(Pfn, CacheType, &Batch);
    }
    MiFlushTlbBatch(&Batch);
}

// Maps every frame where Va is not its place in the direct map. Cannot fail.
static VOID MiCommitBlock(const MI_BLOCK *Block, ULONG_PTR Va, PFN_NUMBER FirstPfn)
{
    const MI_PROTECTION Protection = Block->Protection;
    const BOOLEAN IsMapped = MiNeedsAddresses(Block);
    PFN_NUMBER Pfn = FirstPfn;
    MiDecideChain(FirstPfn, Protection.CacheType);
    for (ULONG_PTR At = Va; Pfn != MI_NO_PFN; At += PAGE_SIZE) {
        const PFN_NUMBER Next = MiNextInChain(Pfn);
        MiPfnElement(Pfn)->Flink = 0;
        if (IsMapped) {
            MiCommitPages(At, &Pfn, 1, Protection);
        }
        Pfn = Next;
    }
}

static VOID MiInsertBlock(PMI_BLOCK Block)
{
    const KIRQL OldIrql = KiAcquireLock(&MiBlockLock);
    RtlInsertInterval(&MiBlocks, &Block->Node);
    KiReleaseLock(&MiBlockLock, OldIrql);
}

PVOID MiCreateBlock(const MI_BLOCK *Block, PFN_NUMBER FirstPfn)
{
    const PFN_NUMBER PageCount = BYTES_TO_PAGES(Block->ByteCount);
    PMI_BLOCK Record = MiAllocatePool(sizeof(*Record), 'klBM');
    if (Record == NULL) {
        return NULL;
    }
    const ULONG_PTR Va = MiNeedsAddresses(Block)
                             ? MiPrepareBlock(FirstPfn, PageCount, Block->Protection.CacheType)
                             : (ULONG_PTR)MiFrameToVa(FirstPfn);
    if (Va == 0) {
        MiFreePool(Record);
        return NULL;
    }
    *Record = *Block;
    Record->Node.First = Va >> PAGE_SHIFT;
    Record->Node.Last = Record->Node.First + PageCount - 1;
    Record->Time = KeReadCycles();
    MiCommitBlock(Block, Va, FirstPfn);
    MiInsertBlock(Record);
    if (MiIsVerifying()) {
        MiFillRandom((PVOID)Va, PageCount << PAGE_SHIFT);
    }
    return (PVOID)Va;
}

//
// Find.
//

PMI_BLOCK MiFindBlockAround(const VOID *Va)
{
    const ULONG64 Page = (ULONG_PTR)Va >> PAGE_SHIFT;
    const KIRQL OldIrql = KiAcquireLock(&MiBlockLock);
    const PMI_BLOCK Block = MiBlockOf(RtlFirstOverlap(&MiBlocks, Page, Page));
    KiReleaseLock(&MiBlockLock, OldIrql);
    return Block;
}

PMI_BLOCK MiFindBlock(MI_BLOCK_KIND Kind, const VOID *Va)
{
    const PMI_BLOCK Block = MiFindBlockAround(Va);
    return Block != NULL && Block->Kind == Kind && MiBlockVa(Block) == (ULONG_PTR)Va ? Block : NULL;
}

VOID MiEnumerateBlocks(MI_BLOCK_ROUTINE *Routine, PVOID Context)
{
    for (PRTL_INTERVAL_NODE Node = RtlFirstInterval(&MiBlocks); Node != NULL;
         Node = RtlNextInterval(Node)) {
        Routine(MiBlockOf(Node), Context);
    }
}

ULONG64 MiBlockCount(VOID)
{
    return MiBlocks.NodeCount;
}

//
// Destroy.
//

// The frame of a page of a block.
static PFN_NUMBER MiFrameOfPage(ULONG_PTR Va)
{
    PFN_NUMBER Pfn = MI_NO_PFN;
    (VOID) MiTranslate(Va, &Pfn);
    NT_ASSERT_INVARIANT("K2", MiPfnState(Pfn) == MiPfnDriver);
    return Pfn;
}

// Links the frames of a block again, in their order, and returns the first. Each must be the
// block's alone.
static PFN_NUMBER MiCollectFrames(const MI_BLOCK *Block)
{
    PFN_NUMBER Next = MI_NO_PFN;
    for (PFN_NUMBER Page = MiBlockPageCount(Block); Page > 0; Page -= 1) {
        const PFN_NUMBER Pfn = MiFrameOfPage(MiBlockVa(Block) + ((Page - 1) << PAGE_SHIFT));
        MiCheckFrameUnmapped(Pfn);
        MiPfnElement(Pfn)->Flink = (ULONG)Next;
        Next = Pfn;
    }
    return Next;
}

static VOID MiUnmapBlock(const MI_BLOCK *Block)
{
    MI_TLB_BATCH Batch;
    MiInitializeTlbBatch(&Batch);
    MiClearRange(MiBlockVa(Block), MiBlockPageCount(Block), &Batch);
    Batch.FlushAll |= MiIsAnythingRemembered(); // the frames get another type next
    MiFlushTlbBatch(&Batch);
    MiReleaseSystemVa(MiRegionPool, MiBlockVa(Block), MiBlockPageCount(Block), 0);
}

VOID MiDestroyBlock(PMI_BLOCK Block)
{
    const PFN_NUMBER FirstPfn = MiCollectFrames(Block);
    const KIRQL OldIrql = KiAcquireLock(&MiBlockLock);
    RtlRemoveInterval(&MiBlocks, &Block->Node);
    KiReleaseLock(&MiBlockLock, OldIrql);
    if (MiNeedsAddresses(Block)) {
        MiUnmapBlock(Block);
    }
    for (PFN_NUMBER Pfn = FirstPfn; Pfn != MI_NO_PFN; Pfn = MiNextInChain(Pfn)) {
        MiForgetRamCacheType(Pfn);
    }
    MiFreeFrameChain(FirstPfn);
    MiFreePool(Block);
}

//
// For MmVerify.
//

static BOOLEAN MiIsBlockConsistent(const MI_BLOCK *Block)
{
    BOOLEAN IsConsistent = TRUE;
    for (PFN_NUMBER Page = 0; IsConsistent && Page < MiBlockPageCount(Block); Page += 1) {
        PFN_NUMBER Pfn;
        MI_PROTECTION Protection;
        const ULONG_PTR Va = MiBlockVa(Block) + (Page << PAGE_SHIFT);
        IsConsistent = MiTranslateWithProtection(Va, &Pfn, &Protection) &&
                       MiPfnState(Pfn) == MiPfnDriver &&
                       Protection.Access == Block->Protection.Access &&
                       Protection.CacheType == Block->Protection.CacheType;
    }
    return IsConsistent;
}

BOOLEAN MiAreBlocksConsistent(VOID)
{
    PFN_NUMBER PageCount = 0;
    ULONG64 EndPage = 0;
    for (PRTL_INTERVAL_NODE Node = RtlFirstInterval(&MiBlocks); Node != NULL;
         Node = RtlNextInterval(Node)) {
        if (Node->First < EndPage || !MiIsBlockConsistent(MiBlockOf(Node))) {
            return FALSE;
        }
        EndPage = Node->Last + 1;
        PageCount += MiBlockPageCount(MiBlockOf(Node));
    }
    return PageCount == MiPfnStateCountOf(MiPfnDriver) && RtlVerifyIntervalTree(&MiBlocks);
}
