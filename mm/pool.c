// The nonpaged pool.
//
//   up to 2,032 bytes  a block of a size class, in a page of the direct map that holds only such:
//
//                        page  | header | caller's bytes | header | caller's bytes | ...
//
//   more               whole pages, so that the block begins at a page: one from the direct map, or
//                      several that are mapped side by side in the pool's region
//
// A header stands right before the caller's bytes. It is kept after a free, so that a second free
// is recognised for as long as the block was not given out again. Pages with free blocks are linked
// per class through their entries in the PFN database. A page whose last block was freed returns to
// the frame allocator, except where its class has no other page with a free block: then it stays as
// the spare one, so that a driver which allocates and frees one block in a loop does not make and
// unmake a page each time.
//
// Invariants (checked by MmVerify):
//   B1  UsedBlockCount of a page plus the length of its list of free blocks is the number of blocks
//       in the page.
//   B2  A page is in its class's list exactly when it has a free block.
//   B3  A class has at most one page without a used block: the spare one.
// Lock: MiPoolLock, for lists, counts and headers' states. Growing and shrinking happen outside of
// it.
#include "mm/mi.h"

typedef struct _MI_POOL_HEADER {
    ULONG Tag;
    ULONG ByteCount;    // as the caller asked
    USHORT BlockOffset; // of this header in its block; not 0 for cache-aligned callers
    USHORT State;
    ULONG Check;
} MI_POOL_HEADER, *PMI_POOL_HEADER;

C_ASSERT(sizeof(MI_POOL_HEADER) == 16);

#define MI_BLOCK_USED 0x5553
#define MI_BLOCK_FREE 0x4652
#define MI_HEADER_SEED 0x9E3779B9u
#define MI_CACHE_LINE_BYTES 64
#define MI_ALIGNMENT_SLACK (MI_CACHE_LINE_BYTES - sizeof(MI_POOL_HEADER))

// Bytes of a block, header included. Multiples of 16 that divide a page with little left over.
static const USHORT MiClassBytes[] = {32,  48,  64,  96,   128,  192, 256,
                                      384, 512, 800, 1024, 1360, 2048};

static KI_LOCK MiPoolLock = KI_LOCK_INITIALIZER(MI_RANK_POOL, "MiPoolLock");
static PFN_NUMBER MiFirstPartial[ARRAYSIZE(MiClassBytes)]; // per class: pages with a free block
static ULONG64 MiPoolBlocks;

static ULONG MiBlocksPerPage(ULONG Class)
{
    return PAGE_SIZE / MiClassBytes[Class];
}

static ULONG MiHeaderCheck(const MI_POOL_HEADER *Header)
{
    return (ULONG)((ULONG_PTR)Header >> 4) ^ Header->Tag ^ Header->ByteCount ^ MI_HEADER_SEED;
}

// The class for a block of ByteCount, header included, or MI_POOL_CLASS_PAGES.
static ULONG MiClassFor(SIZE_T ByteCount)
{
    for (ULONG Class = 0; Class < ARRAYSIZE(MiClassBytes); Class += 1) {
        if (ByteCount <= MiClassBytes[Class]) {
            return Class;
        }
    }
    return MI_POOL_CLASS_PAGES;
}

//
// Pages of small blocks.
//

// The link from a free block to the next one stands in the caller's bytes.
static PUSHORT MiNextFreeBlock(PFN_NUMBER Pfn, USHORT Offset)
{
    return (PUSHORT)((PUCHAR)MiFrameToVa(Pfn) + Offset + sizeof(MI_POOL_HEADER));
}

static VOID MiLinkPartial(PFN_NUMBER Pfn)
{
    PMMPFN Page = MiPfnElement(Pfn);
    PFN_NUMBER *First = &MiFirstPartial[Page->PoolClass];
    Page->NextPartial = (ULONG)*First;
    Page->PreviousPartial = 0;
    if (*First != MI_NO_PFN) {
        MiPfnElement(*First)->PreviousPartial = (ULONG)Pfn;
    }
    *First = Pfn;
}

static VOID MiUnlinkPartial(PFN_NUMBER Pfn)
{
    const PMMPFN Page = MiPfnElement(Pfn);
    if (Page->PreviousPartial != MI_NO_PFN) {
        MiPfnElement(Page->PreviousPartial)->NextPartial = Page->NextPartial;
    } else {
        MiFirstPartial[Page->PoolClass] = Page->NextPartial;
    }
    if (Page->NextPartial != MI_NO_PFN) {
        MiPfnElement(Page->NextPartial)->PreviousPartial = Page->PreviousPartial;
    }
}

// A frame cut into free blocks, not yet linked anywhere. MI_NO_PFN: no frame.
static PFN_NUMBER MiMakePoolPage(ULONG Class)
{
    const PFN_NUMBER Pfn = MiAllocateFrame(MiPfnPool);
    if (Pfn == MI_NO_PFN) {
        return MI_NO_PFN;
    }
    const USHORT BlockBytes = MiClassBytes[Class];
    const ULONG BlockCount = MiBlocksPerPage(Class);
    RtlZeroMemory(MiFrameToVa(Pfn), PAGE_SIZE);
    for (ULONG Block = 0; Block < BlockCount; Block += 1) {
        const USHORT Next =
            Block + 1 < BlockCount ? (USHORT)((Block + 1) * BlockBytes) : MI_NO_BLOCK;
        *MiNextFreeBlock(Pfn, (USHORT)(Block * BlockBytes)) = Next;
    }
    PMMPFN Page = MiPfnElement(Pfn);
    Page->PoolClass = (UCHAR)Class;
    Page->FirstFreeBlock = 0;
    Page->UsedBlockCount = 0;
    return Pfn;
}

// Takes a block of the first page that has one. The lock is held, and there is such a page.
static PUCHAR MiTakeBlock(ULONG Class)
{
    const PFN_NUMBER Pfn = MiFirstPartial[Class];
    PMMPFN Page = MiPfnElement(Pfn);
    const USHORT Offset = Page->FirstFreeBlock;
    Page->FirstFreeBlock = *MiNextFreeBlock(Pfn, Offset);
    Page->UsedBlockCount += 1;
    if (Page->FirstFreeBlock == MI_NO_BLOCK) {
        MiUnlinkPartial(Pfn);
    }
    MiPoolBlocks += 1;
    return (PUCHAR)MiFrameToVa(Pfn) + Offset;
}

static PUCHAR MiAllocateBlock(ULONG Class)
{
    PFN_NUMBER NewPfn = MI_NO_PFN;
    if (MiFirstPartial[Class] == MI_NO_PFN) {
        NewPfn = MiMakePoolPage(Class);
        if (NewPfn == MI_NO_PFN) {
            return NULL;
        }
    }
    const KIRQL OldIrql = KiAcquireLock(&MiPoolLock);
    if (NewPfn != MI_NO_PFN) {
        MiLinkPartial(NewPfn);
    }
    PUCHAR Block = MiFirstPartial[Class] != MI_NO_PFN ? MiTakeBlock(Class) : NULL;
    KiReleaseLock(&MiPoolLock, OldIrql);
    // Another processor may have emptied the list between the look and the lock.
    return Block != NULL ? Block : MiAllocateBlock(Class);
}

static PVOID MiAllocateSmall(ULONG Class, SIZE_T ByteCount, ULONG Tag, BOOLEAN IsCacheAligned)
{
    const PUCHAR Block = MiAllocateBlock(Class);
    if (Block == NULL) {
        return NULL;
    }
    PUCHAR Bytes = Block + sizeof(MI_POOL_HEADER);
    if (IsCacheAligned) {
        Bytes = (PUCHAR)(((ULONG_PTR)Bytes + MI_CACHE_LINE_BYTES - 1) &
                         ~(ULONG_PTR)(MI_CACHE_LINE_BYTES - 1));
    }
    PMI_POOL_HEADER Header = (PMI_POOL_HEADER)Bytes - 1;
    *Header = (MI_POOL_HEADER){.Tag = Tag, .ByteCount = (ULONG)ByteCount, .State = MI_BLOCK_USED};
    Header->BlockOffset = (USHORT)((PUCHAR)Header - Block);
    Header->Check = MiHeaderCheck(Header);
    return Bytes;
}

static BOOLEAN MiHasOtherPartial(PFN_NUMBER Pfn)
{
    const PMMPFN Page = MiPfnElement(Pfn);
    return Page->NextPartial != MI_NO_PFN || Page->PreviousPartial != MI_NO_PFN;
}

static VOID MiFreeSmall(PFN_NUMBER Pfn, PMI_POOL_HEADER Header)
{
    const USHORT Offset = (USHORT)(BYTE_OFFSET(Header) - Header->BlockOffset);
    const KIRQL OldIrql = KiAcquireLock(&MiPoolLock);
    PMMPFN Page = MiPfnElement(Pfn);
    Header->State = MI_BLOCK_FREE;
    if (Page->FirstFreeBlock == MI_NO_BLOCK) {
        MiLinkPartial(Pfn);
    }
    *MiNextFreeBlock(Pfn, Offset) = Page->FirstFreeBlock;
    Page->FirstFreeBlock = Offset;
    Page->UsedBlockCount -= 1;
    MiPoolBlocks -= 1;
    const BOOLEAN IsSurplus = Page->UsedBlockCount == 0 && MiHasOtherPartial(Pfn);
    if (IsSurplus) {
        MiUnlinkPartial(Pfn);
    }
    KiReleaseLock(&MiPoolLock, OldIrql);
    if (IsSurplus) {
        MiFreeFrame(Pfn);
    }
}

//
// Blocks of whole pages.
//

// Frames on their way in or out, linked through Flink.
static VOID MiFreeFrameChain(PFN_NUMBER Pfn)
{
    while (Pfn != MI_NO_PFN) {
        const PFN_NUMBER Next = MiPfnElement(Pfn)->Flink;
        MiFreeFrame(Pfn);
        Pfn = Next;
    }
}

static VOID MiUnmapPoolPages(ULONG_PTR Va, PFN_NUMBER PageCount)
{
    MI_TLB_BATCH Batch;
    PFN_NUMBER Chain = MI_NO_PFN;
    for (PFN_NUMBER Page = 0; Page < PageCount; Page += 1) {
        PFN_NUMBER Pfn = MI_NO_PFN;
        (VOID) MiTranslate(Va + (Page << PAGE_SHIFT), &Pfn);
        MiPfnElement(Pfn)->Flink = (ULONG)Chain;
        Chain = Pfn;
    }
    MiInitializeTlbBatch(&Batch);
    MiClearRange(Va, PageCount, &Batch);
    MiFlushTlbBatch(&Batch);
    MiFreeFrameChain(Chain);
    MiReleaseSystemVa(MiRegionPool, Va, PageCount, 0);
}

// PageCount frames, linked through Flink. MI_NO_PFN: there are not as many.
static PFN_NUMBER MiAllocateFrameChain(PFN_NUMBER PageCount)
{
    PFN_NUMBER FirstPfn = MI_NO_PFN;
    for (PFN_NUMBER Count = 0; Count < PageCount; Count += 1) {
        const PFN_NUMBER Pfn = MiAllocateFrame(MiPfnPool);
        if (Pfn == MI_NO_PFN) {
            MiFreeFrameChain(FirstPfn);
            return MI_NO_PFN;
        }
        MiPfnElement(Pfn)->PoolClass = MI_POOL_CLASS_PAGES;
        MiPfnElement(Pfn)->Flink = (ULONG)FirstPfn;
        FirstPfn = Pfn;
    }
    return FirstPfn;
}

static VOID MiCommitFrameChain(ULONG_PTR Va, PFN_NUMBER Pfn)
{
    while (Pfn != MI_NO_PFN) {
        const PFN_NUMBER Next = MiPfnElement(Pfn)->Flink;
        MiPfnElement(Pfn)->Flink = 0; // the same field says how many pages a block has
        MiCommitPages(NULL, Va, &Pfn, 1, (MI_PROTECTION){MiAccessReadWrite, MiCacheWriteBack});
        Va += PAGE_SIZE;
        Pfn = Next;
    }
}

// PageCount pages side by side. 0: no memory.
static ULONG_PTR MiMapPoolPages(PFN_NUMBER PageCount)
{
    const ULONG_PTR Va = MiReserveSystemVa(MiRegionPool, PageCount, 0, 0);
    if (Va == 0) {
        return 0;
    }
    PFN_NUMBER FirstPfn = MI_NO_PFN;
    if (NT_SUCCESS(MiPreparePages(Va, PageCount))) {
        FirstPfn = MiAllocateFrameChain(PageCount);
    }
    if (FirstPfn == MI_NO_PFN) {
        MiReleaseSystemVa(MiRegionPool, Va, PageCount, 0);
        return 0;
    }
    MiCommitFrameChain(Va, FirstPfn);
    return Va;
}

static ULONG_PTR MiTakeOnePage(VOID)
{
    const PFN_NUMBER Pfn = MiAllocateFrame(MiPfnPool);
    if (Pfn == MI_NO_PFN) {
        return 0;
    }
    MiPfnElement(Pfn)->PoolClass = MI_POOL_CLASS_PAGES;
    return (ULONG_PTR)MiFrameToVa(Pfn);
}

static VOID MiCountBlocks(LONG64 Change)
{
    const KIRQL OldIrql = KiAcquireLock(&MiPoolLock);
    MiPoolBlocks += (ULONG64)Change;
    KiReleaseLock(&MiPoolLock, OldIrql);
}

static PVOID MiAllocateWholePages(SIZE_T ByteCount, ULONG Tag)
{
    const PFN_NUMBER PageCount = BYTES_TO_PAGES(ByteCount);
    const ULONG_PTR Va = PageCount == 1 ? MiTakeOnePage() : MiMapPoolPages(PageCount);
    PFN_NUMBER FirstPfn;
    if (Va == 0 || !MiTranslate(Va, &FirstPfn)) {
        return NULL;
    }
    MiPfnElement(FirstPfn)->PageCount = (ULONG)PageCount;
    MiPfnElement(FirstPfn)->Tag = Tag;
    MiCountBlocks(1);
    return (PVOID)Va;
}

static VOID MiFreeWholePages(PVOID Block, PFN_NUMBER FirstPfn)
{
    const PFN_NUMBER PageCount = MiPfnElement(FirstPfn)->PageCount;
    MiCheckFrameUnmapped(FirstPfn);
    MiCountBlocks(-1);
    if (PageCount == 1) {
        MiFreeFrame(FirstPfn);
    } else {
        MiUnmapPoolPages((ULONG_PTR)Block, PageCount);
    }
}

//
// Any block.
//

static PVOID MiAllocateAligned(SIZE_T ByteCount, ULONG Tag, BOOLEAN IsCacheAligned)
{
    // More bytes than a block's page count can hold; it also keeps the sums below from wrapping.
    if (ByteCount > (SIZE_T)MAXULONG << PAGE_SHIFT || MiMustFail(MM_FAIL_POOL)) {
        return NULL;
    }
    const SIZE_T Slack = IsCacheAligned ? MI_ALIGNMENT_SLACK : 0;
    const ULONG Class = MiClassFor(sizeof(MI_POOL_HEADER) + ByteCount + Slack);
    return Class == MI_POOL_CLASS_PAGES ? MiAllocateWholePages(ByteCount, Tag)
                                        : MiAllocateSmall(Class, ByteCount, Tag, IsCacheAligned);
}

PVOID MiAllocatePool(SIZE_T ByteCount, ULONG Tag)
{
    PVOID Block = MiAllocateAligned(ByteCount, Tag, FALSE);
    if (Block != NULL) {
        RtlZeroMemory(Block, ByteCount);
    }
    return Block;
}

static BOOLEAN MiIsInRegion(MI_REGION Region, ULONG_PTR Va)
{
    return Va >= MiArchLayout[Region].BaseVa &&
           Va - MiArchLayout[Region].BaseVa < MiArchLayout[Region].ByteCount;
}

// The pool's frame that holds Block. Bug checks when Block cannot be a block of the pool.
static PFN_NUMBER MiFrameOfBlock(PVOID Block)
{
    const ULONG_PTR Va = (ULONG_PTR)Block;
    PFN_NUMBER Pfn = MI_NO_PFN;
    if (Va < MiArchLayout[MiRegionDirectMap].BaseVa) {
        MiBugCheck(BAD_POOL_CALLER, 0x40, Va, MiArchLayout[MiRegionDirectMap].BaseVa, 0,
                   "0x%p is freed to the pool, but it is no system address", Block);
    }
    if ((!MiIsInRegion(MiRegionDirectMap, Va) && !MiIsInRegion(MiRegionPool, Va)) ||
        !MiTranslate(Va, &Pfn) || MiPfnState(Pfn) != MiPfnPool) {
        MiBugCheck(BAD_POOL_CALLER, 0x99, Va, 0, 0,
                   "0x%p is freed to the pool, but it does not belong to the pool", Block);
    }
    return Pfn;
}

// The header of a small block. Bug checks when it was freed already, or is damaged.
static PMI_POOL_HEADER MiHeaderOfBlock(PVOID Block)
{
    PMI_POOL_HEADER Header = (PMI_POOL_HEADER)Block - 1;
    if (((ULONG_PTR)Block & (sizeof(MI_POOL_HEADER) - 1)) != 0) {
        MiBugCheck(BAD_POOL_CALLER, 0x99, (ULONG_PTR)Block, 0, 0,
                   "0x%p is freed to the pool, but no block begins there", Block);
    }
    const BOOLEAN IsIntact = Header->Check == MiHeaderCheck(Header);
    if (IsIntact && Header->State == MI_BLOCK_FREE) {
        MiBugCheck(BAD_POOL_CALLER, 0x07, 0, Header->Tag, (ULONG_PTR)Block,
                   "the pool block at 0x%p (%u bytes, tag 0x%08x) is freed a second time", Block,
                   Header->ByteCount, Header->Tag);
    }
    if (!IsIntact || Header->State != MI_BLOCK_USED) {
        MiBugCheck(BAD_POOL_HEADER, 0x20, (ULONG_PTR)Header, (ULONG_PTR)Block, 0,
                   "the header before the pool block at 0x%p was overwritten", Block);
    }
    return Header;
}

static BOOLEAN MiIsWholePages(PVOID Block, PFN_NUMBER Pfn)
{
    return BYTE_OFFSET(Block) == 0 && MiPfnElement(Pfn)->PoolClass == MI_POOL_CLASS_PAGES &&
           MiPfnElement(Pfn)->PageCount != 0;
}

static VOID MiFreeTagged(PVOID Block, BOOLEAN IsTagChecked, ULONG Tag)
{
    const PFN_NUMBER Pfn = MiFrameOfBlock(Block);
    const BOOLEAN IsWhole = MiIsWholePages(Block, Pfn);
    if (!IsWhole && MiPfnElement(Pfn)->PoolClass == MI_POOL_CLASS_PAGES) {
        MiBugCheck(BAD_POOL_CALLER, 0x99, (ULONG_PTR)Block, 0, 0,
                   "0x%p is freed to the pool, but it lies inside a block", Block);
    }
    const PMI_POOL_HEADER Header = IsWhole ? NULL : MiHeaderOfBlock(Block);
    const ULONG OwnTag = IsWhole ? MiPfnElement(Pfn)->Tag : Header->Tag;
    if (IsTagChecked && OwnTag != Tag) {
        MiBugCheck(BAD_POOL_CALLER, 0x0A, (ULONG_PTR)Block, OwnTag, Tag,
                   "the pool block at 0x%p has tag 0x%08x, but it is freed with tag 0x%08x", Block,
                   OwnTag, Tag);
    }
    if (IsWhole) {
        MiFreeWholePages(Block, Pfn);
    } else {
        MiFreeSmall(Pfn, Header);
    }
}

VOID MiFreePool(PVOID Block)
{
    MiFreeTagged(Block, FALSE, 0);
}

ULONG64 MiPoolBlockCount(VOID)
{
    return MiPoolBlocks;
}

//
// The drivers' interface.
//

static VOID MiCheckPoolIrql(ULONG_PTR Subcode, ULONG_PTR Type, ULONG_PTR Argument)
{
    const KIRQL Irql = KeGetCurrentIrql();
    if (Irql > DISPATCH_LEVEL) {
        MiBugCheck(BAD_POOL_CALLER, Subcode, Irql, Type, Argument,
                   "the pool is used at IRQL %u; it may be used up to DISPATCH_LEVEL", Irql);
    }
}

// An allocation that must raise when it fails. There is no handler to catch it yet, so this is
// where it ends.
static PVOID MiRaiseIfFailed(PVOID Block, BOOLEAN MustRaise, PVOID Caller)
{
    if (Block == NULL && MustRaise) {
        MiBugCheck(KMODE_EXCEPTION_NOT_HANDLED, (ULONG_PTR)(LONG64)STATUS_INSUFFICIENT_RESOURCES,
                   (ULONG_PTR)Caller, 0, 0,
                   "a pool allocation that was to raise an exception on failure has failed");
    }
    return Block;
}

#define MI_POOL_KIND_FLAGS (POOL_FLAG_NON_PAGED | POOL_FLAG_NON_PAGED_EXECUTE | POOL_FLAG_PAGED)
#define MI_POOL_KNOWN_FLAGS                                                                        \
    (MI_POOL_KIND_FLAGS | POOL_FLAG_USE_QUOTA | POOL_FLAG_UNINITIALIZED | POOL_FLAG_SESSION |      \
     POOL_FLAG_CACHE_ALIGNED | POOL_FLAG_RAISE_ON_FAILURE)
#define MI_POOL_REQUIRED_FLAGS 0xFFFFFFFFull // the others are wishes, ignored when unknown

static BOOLEAN MiArePoolFlagsLegal(POOL_FLAGS Flags)
{
    const POOL_FLAGS Kind = Flags & MI_POOL_KIND_FLAGS;
    return (Flags & MI_POOL_REQUIRED_FLAGS & ~(POOL_FLAGS)MI_POOL_KNOWN_FLAGS) == 0 && Kind != 0 &&
           (Kind & (Kind - 1)) == 0;
}

PVOID NTAPI ExAllocatePool2(POOL_FLAGS Flags, SIZE_T NumberOfBytes, ULONG Tag)
{
    MiCheckPoolIrql(0x08, (ULONG_PTR)Flags, NumberOfBytes);
    PVOID Block = NULL;
    if (!MiArePoolFlagsLegal(Flags) || NumberOfBytes == 0 || Tag == 0) {
        MiRefusePlain(__func__, Tag == 0             ? MiReasonTag
                                : NumberOfBytes == 0 ? MiReasonZeroBytes
                                                     : MiReasonFlags);
    } else {
        Block = MiAllocateAligned(NumberOfBytes, Tag, (Flags & POOL_FLAG_CACHE_ALIGNED) != 0);
    }
    if (Block != NULL && (Flags & POOL_FLAG_UNINITIALIZED) == 0) {
        RtlZeroMemory(Block, NumberOfBytes);
    }
    return MiRaiseIfFailed(Block, (Flags & POOL_FLAG_RAISE_ON_FAILURE) != 0,
                           __builtin_return_address(0));
}

#define MI_BIG_TAG ' GIB' // "BIG " in memory: the pool's own

static BOOLEAN MiIsTagPrintable(ULONG Tag)
{
    for (ULONG Shift = 0; Shift < 32; Shift += 8) {
        const ULONG Character = (Tag >> Shift) & 0xFF;
        if (Character < ' ' || Character > '~') {
            return FALSE;
        }
    }
    return TRUE;
}

static VOID MiCheckTag(POOL_TYPE PoolType, SIZE_T NumberOfBytes, ULONG Tag, PVOID Caller)
{
    const ULONG_PTR Subcode = Tag == 0                 ? 0x9B
                              : Tag == MI_BIG_TAG      ? 0x9C
                              : !MiIsTagPrintable(Tag) ? 0x9D
                                                       : 0;
    if (Subcode != 0) {
        MiBugCheck(BAD_POOL_CALLER, Subcode, (ULONG_PTR)PoolType, NumberOfBytes, (ULONG_PTR)Caller,
                   "pool is asked for with tag 0x%08x; a tag is four printable characters, and not "
                   "\"BIG \"",
                   Tag);
    }
}

#define MI_POOL_TYPE_MASK 0x7
#define MI_MUST_SUCCEED_TYPE 2 // in every family of types the same bits

PVOID NTAPI ExAllocatePoolWithTag(POOL_TYPE PoolType, SIZE_T NumberOfBytes, ULONG Tag)
{
    MiCheckPoolIrql(0x08, (ULONG_PTR)PoolType, NumberOfBytes);
    MiCheckTag(PoolType, NumberOfBytes, Tag, __builtin_return_address(0));
    if (((ULONG)PoolType & 0x3) == MI_MUST_SUCCEED_TYPE) {
        MiBugCheck(BAD_POOL_CALLER, 0x9A, (ULONG_PTR)PoolType, NumberOfBytes, Tag,
                   "must-succeed pool is asked for; there is none");
    }
    const SIZE_T ByteCount = NumberOfBytes != 0 ? NumberOfBytes : 1;
    const BOOLEAN IsCacheAligned =
        ((ULONG)PoolType & MI_POOL_TYPE_MASK & NonPagedPoolCacheAligned) != 0;
    PVOID Block = MiAllocateAligned(ByteCount, Tag, IsCacheAligned);
    if (Block != NULL && ((ULONG)PoolType & POOL_ZERO_ALLOCATION) != 0) {
        RtlZeroMemory(Block, ByteCount);
    }
    return MiRaiseIfFailed(Block, ((ULONG)PoolType & POOL_RAISE_IF_ALLOCATION_FAILURE) != 0,
                           __builtin_return_address(0));
}

VOID NTAPI ExFreePoolWithTag(PVOID P, ULONG Tag)
{
    MiCheckPoolIrql(0x09, NonPagedPool, (ULONG_PTR)P);
    MiFreeTagged(P, Tag != 0, Tag);
}

VOID NTAPI ExFreePool(PVOID P)
{
    MiCheckPoolIrql(0x09, NonPagedPool, (ULONG_PTR)P);
    MiFreePool(P);
}

static ULONG MiSparePagesOf(ULONG Class)
{
    ULONG Count = 0;
    for (PFN_NUMBER Pfn = MiFirstPartial[Class]; Pfn != MI_NO_PFN;
         Pfn = MiPfnElement(Pfn)->NextPartial) {
        Count += MiPfnElement(Pfn)->UsedBlockCount == 0;
    }
    return Count;
}

ULONG64 MiSparePoolPageCount(VOID)
{
    ULONG64 Count = 0;
    for (ULONG Class = 0; Class < ARRAYSIZE(MiClassBytes); Class += 1) {
        Count += MiSparePagesOf(Class);
    }
    return Count;
}

//
// For MmVerify.
//

static BOOLEAN MiIsPoolPageConsistent(PFN_NUMBER Pfn)
{
    const PMMPFN Page = MiPfnElement(Pfn);
    ULONG FreeBlockCount = 0;
    for (USHORT Offset = Page->FirstFreeBlock; Offset != MI_NO_BLOCK;
         Offset = *MiNextFreeBlock(Pfn, Offset)) {
        FreeBlockCount += 1;
        if (Offset % MiClassBytes[Page->PoolClass] != 0 ||
            FreeBlockCount > MiBlocksPerPage(Page->PoolClass)) {
            return FALSE;
        }
    }
    return Page->UsedBlockCount + FreeBlockCount == MiBlocksPerPage(Page->PoolClass);
}

BOOLEAN MiIsPoolConsistent(VOID)
{
    for (ULONG Class = 0; Class < ARRAYSIZE(MiClassBytes); Class += 1) {
        PFN_NUMBER PreviousPfn = MI_NO_PFN;
        if (MiSparePagesOf(Class) > 1) {
            return FALSE;
        }
        for (PFN_NUMBER Pfn = MiFirstPartial[Class]; Pfn != MI_NO_PFN;
             Pfn = MiPfnElement(Pfn)->NextPartial) {
            const PMMPFN Page = MiPfnElement(Pfn);
            if (Page->State != MiPfnPool || Page->PoolClass != Class ||
                Page->FirstFreeBlock == MI_NO_BLOCK || Page->PreviousPartial != PreviousPfn ||
                !MiIsPoolPageConsistent(Pfn)) {
                return FALSE;
            }
            PreviousPfn = Pfn;
        }
    }
    return TRUE;
}
