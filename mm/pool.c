// The pool: nonpaged, paged (which is never paged out, and differs in its IRQL rules only), and
// executable.
//
//   up to 2,032 bytes  a block of a size class, in a page of the direct map that holds only such:
//
//                        page  | header | caller's bytes | header | caller's bytes | ...
//
//   more               whole pages, so that the block begins at a page: one from the direct map, or
//                      several that are mapped side by side in the pool's region. Executable blocks
//                      are always mapped there: the direct map is never executable
//
// A header stands right before the caller's bytes. It is kept after a free, so that a second free
// is recognised for as long as the block was not given out again. Pages with free blocks are linked
// per kind and class through their entries in the PFN database. A page whose last block was freed returns to
// the frame allocator, except where its class has no other page with a free block: then it stays as
// the spare one, so that a driver which allocates and frees one block in a loop does not make and
// unmake a page each time.
//
// Invariants (checked by MmVerify):
//   B1  UsedBlockCount of a page plus the length of its list of free blocks is the number of blocks
//       in the page.
//   B2  A page is in its class's list exactly when it has a free block.
//   B3  A class has at most one page without a used block: the spare one.
// Lock: MiPoolLock, a brief one, for lists, counts and headers' states. Growing and shrinking happen outside
// of it.
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
#define MI_ALIGNMENT_SLACK (MI_CACHE_LINE_BYTES - sizeof(MI_POOL_HEADER))

// Bytes of a block, header included. Multiples of 16 that divide a page with little left over.
static const USHORT MiClassBytes[] = {32,  48,  64,  96,   128,  192, 256,
                                      384, 512, 800, 1024, 1360, 2048};

static KI_LOCK MiPoolLock = KI_LOCK_INITIALIZER(MI_RANK_POOL, "MiPoolLock");
static ULONG64 MiPoolBlocks;

// Per kind and class: the first page with a free block. Executable blocks have whole pages.
static PFN_NUMBER MiFirstPartial[MiPoolExecutable][ARRAYSIZE(MiClassBytes)];

static ULONG MiBlocksPerPage(ULONG Class)
{
    return PAGE_SIZE / MiClassBytes[Class];
}

static ULONG MiHeaderCheck(const MI_POOL_HEADER *Header)
{
    return (ULONG)((ULONG_PTR)Header >> 4) ^ Header->Tag ^ Header->ByteCount ^
           ((ULONG)Header->BlockOffset << 16) ^ MI_HEADER_SEED;
}

// The smallest class of which a block holds n times 16 bytes.
static const UCHAR MiClassOf16Bytes[] = {
    [0 ... 2] = 0,    [3] = 1,          [4] = 2,          [5 ... 6] = 3,   [7 ... 8] = 4,
    [9 ... 12] = 5,   [13 ... 16] = 6,  [17 ... 24] = 7,  [25 ... 32] = 8, [33 ... 50] = 9,
    [51 ... 64] = 10, [65 ... 85] = 11, [86 ... 128] = 12};

// The class for a block of ByteCount, header included, or MI_POOL_CLASS_PAGES.
static ULONG MiClassFor(SIZE_T ByteCount)
{
    const SIZE_T Row = (ByteCount + 15) / 16;
    return Row < ARRAYSIZE(MiClassOf16Bytes) ? MiClassOf16Bytes[Row] : MI_POOL_CLASS_PAGES;
}

//
// Pages of small blocks.
//

// The link from a free block to the next one is the block's last two bytes: no header reaches them,
// wherever in the block it lies, so that a second free still finds its header.
static PUSHORT MiNextFreeBlock(PFN_NUMBER Pfn, USHORT Offset)
{
    const ULONG BlockBytes = MiClassBytes[MiPfnElement(Pfn)->PoolClass];
    return (PUSHORT)((PUCHAR)MiFrameToVa(Pfn) + Offset + BlockBytes - sizeof(USHORT));
}

static VOID MiLinkPartial(PFN_NUMBER Pfn)
{
    PMMPFN Page = MiPfnElement(Pfn);
    PFN_NUMBER *First = &MiFirstPartial[Page->PoolKind][Page->PoolClass];
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
        MiFirstPartial[Page->PoolKind][Page->PoolClass] = Page->NextPartial;
    }
    if (Page->NextPartial != MI_NO_PFN) {
        MiPfnElement(Page->NextPartial)->PreviousPartial = Page->PreviousPartial;
    }
}

// A frame cut into free blocks, not yet linked anywhere. MI_NO_PFN: no frame.
static PFN_NUMBER MiMakePoolPage(MI_POOL_KIND Kind, ULONG Class)
{
    const PFN_NUMBER Pfn = MiAllocateFrame(MiPfnPool);
    if (Pfn == MI_NO_PFN) {
        return MI_NO_PFN;
    }
    const USHORT BlockBytes = MiClassBytes[Class];
    const ULONG BlockCount = MiBlocksPerPage(Class);
    PMMPFN Page = MiPfnElement(Pfn);
    Page->PoolClass = (UCHAR)Class;
    Page->PoolKind = (UCHAR)Kind;
    Page->FirstFreeBlock = 0;
    Page->UsedBlockCount = 0;
    RtlZeroMemory(MiFrameToVa(Pfn), PAGE_SIZE);
    for (ULONG Block = 0; Block < BlockCount; Block += 1) {
        const USHORT Next =
            Block + 1 < BlockCount ? (USHORT)((Block + 1) * BlockBytes) : MI_NO_BLOCK;
        *MiNextFreeBlock(Pfn, (USHORT)(Block * BlockBytes)) = Next;
    }
    return Pfn;
}

// Takes a block of page Pfn, which has one. The lock is held.
static PUCHAR MiTakeBlock(PFN_NUMBER Pfn)
{
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

static PUCHAR MiAllocateBlock(MI_POOL_KIND Kind, ULONG Class)
{
    const PFN_NUMBER *First = &MiFirstPartial[Kind][Class];
    PFN_NUMBER NewPfn = MI_NO_PFN;
    if (*First == MI_NO_PFN) {
        NewPfn = MiMakePoolPage(Kind, Class);
        if (NewPfn == MI_NO_PFN) {
            return NULL;
        }
    }
    const ULONG64 Flags = KiAcquireBriefLock(&MiPoolLock);
    if (NewPfn != MI_NO_PFN) {
        MiLinkPartial(NewPfn);
    }
    PUCHAR Block = *First != MI_NO_PFN ? MiTakeBlock(*First) : NULL;
    KiReleaseBriefLock(&MiPoolLock, Flags);
    // Another processor may have emptied the list between the look and the lock.
    return Block != NULL ? Block : MiAllocateBlock(Kind, Class);
}

static PVOID MiAllocateSmall(MI_POOL_KIND Kind, ULONG Class, SIZE_T ByteCount, ULONG Tag,
                             BOOLEAN IsCacheAligned)
{
    const PUCHAR Block = MiAllocateBlock(Kind, Class);
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
    const ULONG64 Flags = KiAcquireBriefLock(&MiPoolLock);
    PMMPFN Page = MiPfnElement(Pfn);
    Header->State = MI_BLOCK_FREE;
    if (MiIsQuarantined(Page)) { // the block stays out, and so does its page
        MiPoolBlocks -= 1;
        KiReleaseBriefLock(&MiPoolLock, Flags);
        return;
    }
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
    KiReleaseBriefLock(&MiPoolLock, Flags);
    if (IsSurplus) {
        MiFreeFrame(Pfn);
    }
}

//
// Blocks of whole pages.
//

VOID MiUnmapPoolPages(ULONG_PTR Va, PFN_NUMBER PageCount)
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
}

static VOID MiCommitPoolFrames(ULONG_PTR Va, PFN_NUMBER Pfn, MI_POOL_KIND Kind, UCHAR PoolClass)
{
    const MI_ACCESS Access =
        Kind == MiPoolExecutable ? MiAccessExecuteReadWrite : MiAccessReadWrite;
    while (Pfn != MI_NO_PFN) {
        const PFN_NUMBER Next = MiNextInChain(Pfn);
        MiPfnElement(Pfn)->Flink = 0; // the same field says how many pages a block has
        MiPfnElement(Pfn)->PoolClass = PoolClass;
        MiPfnElement(Pfn)->PoolKind = (UCHAR)Kind;
        MiCommitPages(Va, &Pfn, 1, (MI_PROTECTION){Access, MiCacheWriteBack});
        Va += PAGE_SIZE;
        Pfn = Next;
    }
}

// Addresses of the pool's region that are ready to be mapped. 0: not enough of something.
static ULONG_PTR MiPreparePoolVa(PFN_NUMBER PageCount)
{
    const ULONG_PTR Va = MiReserveSystemVa(MiRegionPool, PageCount, 0, 0);
    if (Va != 0 && !NT_SUCCESS(MiPreparePages(Va, PageCount))) {
        MiReleaseSystemVa(MiRegionPool, Va, PageCount, 0);
        return 0;
    }
    return Va;
}

// Tables stay once they are made, so they come last: a request that cannot be met makes none.
ULONG_PTR MiMapPoolPages(MI_POOL_KIND Kind, UCHAR PoolClass, PFN_NUMBER PageCount)
{
    const PFN_NUMBER FirstPfn = MiAllocateFrameChain(MiPfnPool, PageCount);
    const ULONG_PTR Va = FirstPfn != MI_NO_PFN ? MiPreparePoolVa(PageCount) : 0;
    if (Va == 0) {
        MiFreeFrameChain(FirstPfn);
        return 0;
    }
    MiCommitPoolFrames(Va, FirstPfn, Kind, PoolClass);
    return Va;
}

static ULONG_PTR MiTakeOnePage(MI_POOL_KIND Kind)
{
    const PFN_NUMBER Pfn = MiAllocateFrame(MiPfnPool);
    if (Pfn == MI_NO_PFN) {
        return 0;
    }
    MiPfnElement(Pfn)->PoolClass = MI_POOL_CLASS_PAGES;
    MiPfnElement(Pfn)->PoolKind = (UCHAR)Kind;
    return (ULONG_PTR)MiFrameToVa(Pfn);
}

VOID MiCountPoolBlocks(LONG64 Change)
{
    const ULONG64 Flags = KiAcquireBriefLock(&MiPoolLock);
    MiPoolBlocks += (ULONG64)Change;
    KiReleaseBriefLock(&MiPoolLock, Flags);
}

static PVOID MiAllocateWholePages(MI_POOL_KIND Kind, SIZE_T ByteCount, ULONG Tag)
{
    const PFN_NUMBER PageCount = BYTES_TO_PAGES(ByteCount);
    const ULONG_PTR Va = PageCount == 1 && Kind != MiPoolExecutable
                             ? MiTakeOnePage(Kind)
                             : MiMapPoolPages(Kind, MI_POOL_CLASS_PAGES, PageCount);
    PFN_NUMBER FirstPfn;
    if (Va == 0 || !MiTranslate(Va, &FirstPfn)) {
        return NULL;
    }
    MiPfnElement(FirstPfn)->PageCount = (ULONG)PageCount;
    MiPfnElement(FirstPfn)->Tag = Tag;
    MiCountPoolBlocks(1);
    return (PVOID)Va;
}

static BOOLEAN MiIsInRegion(MI_REGION Region, ULONG_PTR Va)
{
    return Va - MiArchLayout[Region].BaseVa < MiArchLayout[Region].ByteCount;
}

static VOID MiFreeWholePages(PVOID Block, PFN_NUMBER FirstPfn)
{
    const PFN_NUMBER PageCount = MiPfnElement(FirstPfn)->PageCount;
    MiCheckFrameUnmapped(FirstPfn);
    MiCountPoolBlocks(-1);
    if (MiIsInRegion(MiRegionPool, (ULONG_PTR)Block)) {
        MiUnmapPoolPages((ULONG_PTR)Block, PageCount);
        MiReleaseSystemVa(MiRegionPool, (ULONG_PTR)Block, PageCount, 0);
    } else {
        MiFreeFrame(FirstPfn);
    }
}

//
// Any block.
//

PVOID MiAllocatePoolOf(MI_POOL_KIND Kind, SIZE_T ByteCount, ULONG Tag, BOOLEAN IsCacheAligned)
{
    // More bytes than a block's page count can hold; it also keeps the sums below from wrapping.
    if (ByteCount > (SIZE_T)MAXULONG << PAGE_SHIFT || MiMustFail(MM_FAIL_POOL)) {
        return NULL;
    }
    const SIZE_T Slack = IsCacheAligned ? MI_ALIGNMENT_SLACK : 0;
    const ULONG Class = MiClassFor(sizeof(MI_POOL_HEADER) + ByteCount + Slack);
    return Class == MI_POOL_CLASS_PAGES || Kind == MiPoolExecutable
               ? MiAllocateWholePages(Kind, ByteCount, Tag)
               : MiAllocateSmall(Kind, Class, ByteCount, Tag, IsCacheAligned);
}

PVOID MiAllocatePool(SIZE_T ByteCount, ULONG Tag)
{
    PVOID Block = MiAllocatePoolOf(MiPoolNonPaged, ByteCount, Tag, FALSE);
    if (Block != NULL) {
        RtlZeroMemory(Block, ByteCount);
    }
    return Block;
}

BOOLEAN MiIsPagedPoolFrame(PFN_NUMBER Pfn)
{
    return MiPfnState(Pfn) == MiPfnPool && MiPfnElement(Pfn)->PoolKind == MiPoolPaged;
}

static DECLSPEC_NORETURN VOID MiStopForeignBlock(PVOID Block)
{
    const ULONG_PTR Va = (ULONG_PTR)Block;
    if (Va < MiArchLayout[MiRegionDirectMap].BaseVa) {
        MiBugCheck(BAD_POOL_CALLER, 0x40, Va, MiArchLayout[MiRegionDirectMap].BaseVa, 0,
                   "0x%p is freed to the pool, but it is no system address", Block);
    }
    MiCheckSpecialFreed(Block);
    const PFN_NUMBER Pfn = (Va - MiArchLayout[MiRegionDirectMap].BaseVa) >> PAGE_SHIFT;
    if (MiPfnElement(Pfn) != NULL) {
        MiBugCheck(
            BAD_POOL_CALLER, 0x41, Va, Pfn, MiHighestRamPfn(),
            "0x%p is freed to the pool, but its page does not belong to the pool (never did, "
            "or its last block was freed already)",
            Block);
    }
    MiBugCheck(BAD_POOL_CALLER, 0x99, Va, 0, 0,
               "0x%p is freed to the pool, but it does not belong to the pool", Block);
}

// The pool's frame that holds Block. Bug checks when Block cannot be a block of the pool.
static PFN_NUMBER MiFrameOfBlock(PVOID Block)
{
    const ULONG_PTR Va = (ULONG_PTR)Block;
    // The pool's frames are never missing from the direct map.
    PFN_NUMBER Pfn = (Va - MiArchLayout[MiRegionDirectMap].BaseVa) >> PAGE_SHIFT;
    if (MiPfnState(Pfn) == MiPfnPool ||
        (MiIsInRegion(MiRegionPool, Va) && MiTranslate(Va, &Pfn) && MiPfnState(Pfn) == MiPfnPool)) {
        return Pfn;
    }
    MiStopForeignBlock(Block);
}

// The header of a small block. Bug checks when it was freed already, or is damaged.
static PMI_POOL_HEADER MiHeaderOfBlock(PVOID Block)
{
    PMI_POOL_HEADER Header = (PMI_POOL_HEADER)Block - 1;
    // At the beginning of the page the header would lie in the page before, which may not be there.
    if (BYTE_OFFSET(Block) < sizeof(*Header) || BYTE_OFFSET(Block) % sizeof(*Header) != 0) {
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

VOID MiCheckPoolTag(PVOID Block, ULONG OwnTag, ULONG Tag)
{
    if (Tag != 0 && OwnTag != Tag) {
        MiBugCheck(BAD_POOL_CALLER, 0x0A, (ULONG_PTR)Block, OwnTag, Tag,
                   "the pool block at 0x%p has tag 0x%08x, but it is freed with tag 0x%08x", Block,
                   OwnTag, Tag);
    }
}

// Stops the machine: a block is freed at too high an IRQL.
static VOID MiCheckPoolFreeIrql(PVOID Block, MI_POOL_KIND Kind)
{
    const KIRQL Irql = KeGetCurrentIrql();
    const KIRQL MaximumIrql = Kind == MiPoolPaged ? APC_LEVEL : DISPATCH_LEVEL;
    if (Irql > MaximumIrql) {
        MiBugCheck(BAD_POOL_CALLER, 0x09, Irql, Kind == MiPoolPaged ? PagedPool : NonPagedPool,
                   (ULONG_PTR)Block, "%s pool is freed at IRQL %u; it may be freed up to IRQL %u",
                   Kind == MiPoolPaged ? "paged" : "nonpaged", Irql, MaximumIrql);
    }
}

// A block of whole pages begins at a page, where its pages are mapped side by side, or is the one page
// that the direct map shows.
static BOOLEAN MiIsWholeBlock(PVOID Block, const MMPFN *Page)
{
    const BOOLEAN IsMapped = MiIsInRegion(MiRegionPool, (ULONG_PTR)Block);
    return BYTE_OFFSET(Block) == 0 && Page->PageCount != 0 &&
           (IsMapped || (Page->PageCount == 1 && Page->PoolKind != MiPoolExecutable));
}

static VOID MiFreePages(PVOID Block, PFN_NUMBER Pfn, ULONG Tag)
{
    const PMMPFN Page = MiPfnElement(Pfn);
    if (!MiIsWholeBlock(Block, Page)) {
        MiBugCheck(BAD_POOL_CALLER, 0x99, (ULONG_PTR)Block, 0, 0,
                   "0x%p is freed to the pool, but it lies inside a block", Block);
    }
    MiCheckPoolTag(Block, Page->Tag, Tag);
    MiUntrack(MiTrackPool, Block);
    MiFreeWholePages(Block, Pfn);
}

VOID MiFreePoolFor(PVOID Block, ULONG Tag, PVOID Caller)
{
    const PFN_NUMBER Pfn = MiFrameOfBlock(Block);
    const PMMPFN Page = MiPfnElement(Pfn);
    if (Caller != NULL) {
        MiCheckPoolFreeIrql(Block, (MI_POOL_KIND)Page->PoolKind);
    }
    if (Page->PoolClass == MI_POOL_CLASS_SPECIAL) {
        MiFreeSpecial(Block, Pfn, Tag, Caller);
    } else if (Page->PoolClass == MI_POOL_CLASS_PAGES) {
        MiFreePages(Block, Pfn, Tag);
    } else {
        const PMI_POOL_HEADER Header = MiHeaderOfBlock(Block);
        MiCheckPoolTag(Block, Header->Tag, Tag);
        MiUntrack(MiTrackPool, Block);
        MiFreeSmall(Pfn, Header);
    }
}

VOID MiFreePool(PVOID Block)
{
    MiFreePoolFor(Block, 0, NULL);
}

BOOLEAN MiMarkQuarantined(PMMPFN Element)
{
    const ULONG64 Flags = KiAcquireBriefLock(&MiPoolLock);
    const BOOLEAN IsNew = !MiIsQuarantined(Element);
    Element->UsedBlockCount |= MI_QUARANTINED;
    KiReleaseBriefLock(&MiPoolLock, Flags);
    return IsNew;
}

ULONG64 MiPoolBlockCount(VOID)
{
    return MiPoolBlocks;
}

//
// For MmVerify, and for the use of memory.
//

static ULONG MiSparePagesOf(PFN_NUMBER FirstPfn)
{
    ULONG Count = 0;
    for (PFN_NUMBER Pfn = FirstPfn; Pfn != MI_NO_PFN; Pfn = MiPfnElement(Pfn)->NextPartial) {
        Count += MiPfnElement(Pfn)->UsedBlockCount == 0;
    }
    return Count;
}

// The lists of all kinds and classes, as one row.
#define MI_PARTIAL_LISTS (MiPoolExecutable * ARRAYSIZE(MiClassBytes))

ULONG64 MiSparePoolPageCount(VOID)
{
    ULONG64 Count = 0;
    for (ULONG List = 0; List < MI_PARTIAL_LISTS; List += 1) {
        Count += MiSparePagesOf((&MiFirstPartial[0][0])[List]);
    }
    return Count;
}

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
    const ULONG UsedBlockCount = Page->UsedBlockCount & ~(ULONG)MI_QUARANTINED;
    return UsedBlockCount + FreeBlockCount == MiBlocksPerPage(Page->PoolClass);
}

static BOOLEAN MiIsPartialListConsistent(MI_POOL_KIND Kind, ULONG Class)
{
    const PFN_NUMBER FirstPfn = MiFirstPartial[Kind][Class];
    PFN_NUMBER PreviousPfn = MI_NO_PFN;
    for (PFN_NUMBER Pfn = FirstPfn; Pfn != MI_NO_PFN; Pfn = MiPfnElement(Pfn)->NextPartial) {
        const PMMPFN Page = MiPfnElement(Pfn);
        if (Page->State != MiPfnPool || Page->PoolClass != Class || Page->PoolKind != Kind ||
            Page->FirstFreeBlock == MI_NO_BLOCK || Page->PreviousPartial != PreviousPfn ||
            !MiIsPoolPageConsistent(Pfn)) {
            return FALSE;
        }
        PreviousPfn = Pfn;
    }
    return MiSparePagesOf(FirstPfn) <= 1;
}

BOOLEAN MiIsPoolConsistent(VOID)
{
    for (ULONG List = 0; List < MI_PARTIAL_LISTS; List += 1) {
        if (!MiIsPartialListConsistent((MI_POOL_KIND)(List / ARRAYSIZE(MiClassBytes)),
                                       List % ARRAYSIZE(MiClassBytes))) {
            return FALSE;
        }
    }
    return TRUE;
}
