// Special pool: at level 1 of the verifier, each block that a driver allocates has pages of its own,
// so that the processor itself finds who uses memory that is not his.
//
//     | pattern | caller's bytes | pattern |   unmapped page
//     ^ page                     ^ less than the alignment
//
//   behind the block      faults at once: the block ends where its page ends, but for its alignment
//   before it, and in     changes the pattern, which is looked at when the block is freed
//     the gap behind it
//   after it was freed    faults: the pages are unmapped, and their addresses rest in quarantine
//                         until MI_QUARANTINE_BLOCKS more blocks were freed
//
// A block of a page or more begins at its first page, as every such block does; there the gap is
// behind it. What the caller asked for, and who he is, stands in the block's record (leak.c).
//
// Lock: MiTrackLock for the records; MiSpecialLock (rank 8, never held with another of that rank) for
// the ring. MiExplainFault runs during a crash, and takes none.
#include "mm/mi.h"

#define MI_QUARANTINE_BLOCKS 256
#define MI_SPECIAL_PATTERN 0xB5
#define MI_BLOCK_ALIGNMENT 16

// SPECIAL_POOL_DETECTED_MEMORY_CORRUPTION, P4.
#define MI_CORRUPT_FREE 0x21   // no block begins there
#define MI_CORRUPT_BEFORE 0x23 // bytes of the same page, before the block
#define MI_CORRUPT_AFTER 0x24

typedef struct _MI_RESTING {
    ULONG_PTR Va; // 0: empty
    PFN_NUMBER PageCount;
    MI_TRACK Block; // Caller and Time: who allocated it, and when it was freed
    PVOID FreedBy;
} MI_RESTING;

static KI_LOCK MiSpecialLock = KI_LOCK_INITIALIZER(MI_RANK_TRACK, "MiSpecialLock");
static MI_RESTING MiRestingBlocks[MI_QUARANTINE_BLOCKS];
static ULONG64 MiRestingNext;

//
// Contents.
//

VOID MiFillRandom(PVOID Va, SIZE_T ByteCount)
{
    static ULONG64 Seed = 0x2545F4914F6CDD1D;
    PUCHAR Bytes = Va;
    ULONG64 Random = Seed;
    for (SIZE_T Index = 0; Index < ByteCount; Index += 1) {
        if (Index % sizeof(Random) == 0) {
            Random ^= Random << 13;
            Random ^= Random >> 7;
            Random ^= Random << 17;
        }
        Bytes[Index] = (UCHAR)(Random >> (Index % sizeof(Random) * 8));
    }
    Seed = Random;
}

// The first byte of [FirstVa, EndVa) that is not the pattern, or EndVa.
static ULONG_PTR MiFindChangedByte(ULONG_PTR FirstVa, ULONG_PTR EndVa)
{
    ULONG_PTR Va = FirstVa;
    while (Va < EndVa && *(const UCHAR *)Va == MI_SPECIAL_PATTERN) {
        Va += 1;
    }
    return Va;
}

//
// Allocate.
//

static ULONG_PTR MiOffsetOfBlock(SIZE_T ByteCount, BOOLEAN IsCacheAligned)
{
    const ULONG_PTR Alignment = IsCacheAligned ? MI_CACHE_LINE_BYTES : MI_BLOCK_ALIGNMENT;
    return ByteCount < PAGE_SIZE ? (PAGE_SIZE - ByteCount) & ~(Alignment - 1) : 0;
}

static BOOLEAN MiExplainFault(ULONG64 Va, PKI_FAULT_EXPLANATION Explanation);

PVOID MiAllocateSpecial(MI_POOL_KIND Kind, SIZE_T ByteCount, ULONG Tag, BOOLEAN IsCacheAligned,
                        PVOID Caller)
{
    const PFN_NUMBER PageCount = BYTES_TO_PAGES(ByteCount);
    const ULONG_PTR Va =
        PageCount > MAXULONG ? 0 : MiMapPoolPages(Kind, MI_POOL_CLASS_SPECIAL, PageCount);
    if (Va == 0) {
        return NULL;
    }
    const PVOID Block = (PVOID)(Va + MiOffsetOfBlock(ByteCount, IsCacheAligned));
    if (!MiTrack(MiTrackPool, Block, ByteCount, Tag, Caller)) {
        MiUnmapPoolPages(Va, PageCount);
        MiReleaseSystemVa(MiRegionPool, Va, PageCount, 0);
        return NULL;
    }
    RtlFillMemory((PVOID)Va, PageCount << PAGE_SHIFT, MI_SPECIAL_PATTERN);
    KiSetFaultExplainer(MiExplainFault);
    MiCountPoolBlocks(1);
    return Block;
}

//
// Free.
//

static VOID MiCheckPattern(const MI_TRACK *Block)
{
    const ULONG_PTR Va = (ULONG_PTR)Block->Address;
    const ULONG_PTR PageVa = (ULONG_PTR)PAGE_ALIGN(Va);
    const ULONG_PTR EndVa = (ULONG_PTR)PAGE_ALIGN(Va + Block->ByteCount + PAGE_SIZE - 1);
    CHAR Who[MI_WHO_BYTES];
    MiDescribeWho(Block->Caller, Block->Time, Who, sizeof(Who));
    ULONG_PTR Changed = MiFindChangedByte(PageVa, Va);
    if (Changed != Va) {
        MiBugCheck(
            SPECIAL_POOL_DETECTED_MEMORY_CORRUPTION, Va, Changed, 0, MI_CORRUPT_BEFORE,
            "the byte %llu before the pool block at 0x%p was changed; the block of %llu bytes "
            "was allocated by %s",
            Va - Changed, Block->Address, Block->ByteCount, Who);
    }
    Changed = MiFindChangedByte(Va + Block->ByteCount, EndVa);
    if (Changed != EndVa) {
        MiBugCheck(
            SPECIAL_POOL_DETECTED_MEMORY_CORRUPTION, Va, Changed, 0, MI_CORRUPT_AFTER,
            "the byte %llu behind the end of the pool block at 0x%p was changed; the block of "
            "%llu bytes was allocated by %s",
            Changed - Va - Block->ByteCount, Block->Address, Block->ByteCount, Who);
    }
}

static VOID MiRest(const MI_RESTING *Resting)
{
    const KIRQL OldIrql = KiAcquireLock(&MiSpecialLock);
    MI_RESTING *Slot = &MiRestingBlocks[MiRestingNext % MI_QUARANTINE_BLOCKS];
    const MI_RESTING Old = *Slot;
    *Slot = *Resting;
    MiRestingNext += 1;
    KiReleaseLock(&MiSpecialLock, OldIrql);
    if (Old.Va != 0) {
        MiReleaseSystemVa(MiRegionPool, Old.Va, Old.PageCount, 0);
    }
}

VOID MiFreeSpecial(PVOID Block, PFN_NUMBER Pfn, ULONG Tag, PVOID Caller)
{
    MI_TRACK Track;
    if (!MiFindTrack(MiTrackPool, Block, &Track)) {
        MiBugCheck(SPECIAL_POOL_DETECTED_MEMORY_CORRUPTION, (ULONG_PTR)Block, 0, 0, MI_CORRUPT_FREE,
                   "0x%p is freed to the pool, but no block begins there", Block);
    }
    MiCheckPoolTag(Block, Track.Tag, Tag);
    MiCheckPattern(&Track);
    MiCheckFrameUnmapped(Pfn);
    MI_RESTING Resting = {(ULONG_PTR)PAGE_ALIGN(Block), BYTES_TO_PAGES(Track.ByteCount), Track,
                          Caller};
    Resting.Block.Time = KeReadCycles();
    MiUntrack(MiTrackPool, Block);
    MiUnmapPoolPages(Resting.Va, Resting.PageCount);
    MiRest(&Resting);
    MiCountPoolBlocks(-1);
}

//
// Explain.
//

// The resting block that covers Va, or NULL.
static const MI_RESTING *MiFindResting(ULONG_PTR Va)
{
    for (ULONG Index = 0; Index < MI_QUARANTINE_BLOCKS; Index += 1) {
        const MI_RESTING *Resting = &MiRestingBlocks[Index];
        if (Resting->Va != 0 && Va - Resting->Va < Resting->PageCount << PAGE_SHIFT) {
            return Resting;
        }
    }
    return NULL;
}

VOID MiCheckSpecialFreed(PVOID Block)
{
    const MI_RESTING *Resting = MiFindResting((ULONG_PTR)Block);
    if (Resting != NULL) {
        CHAR Who[MI_WHO_BYTES];
        MiDescribeWho(Resting->FreedBy, Resting->Block.Time, Who, sizeof(Who));
        MiBugCheck(
            BAD_POOL_CALLER, 0x07, 0, Resting->Block.Tag, (ULONG_PTR)Block,
            "the pool block at 0x%p (%llu bytes, tag 0x%08x) is freed a second time; first by "
            "%s",
            Block, Resting->Block.ByteCount, Resting->Block.Tag, Who);
    }
}

static VOID MiExplainFreed(const MI_RESTING *Resting, PKI_FAULT_EXPLANATION Explanation)
{
    CHAR Who[MI_WHO_BYTES];
    MiDescribeWho(Resting->FreedBy, Resting->Block.Time, Who, sizeof(Who));
    Explanation->Code = PAGE_FAULT_IN_FREED_SPECIAL_POOL;
    Explanation->DriverCode = DRIVER_PAGE_FAULT_IN_FREED_SPECIAL_POOL;
    RtlFormatBuffer(Explanation->Sentence, sizeof(Explanation->Sentence),
                    "the pool block at 0x%p (%llu bytes, tag 0x%08x) was freed by %s",
                    Resting->Block.Address, Resting->Block.ByteCount, Resting->Block.Tag, Who);
}

static BOOLEAN MiExplainFault(ULONG64 Va, PKI_FAULT_EXPLANATION Explanation)
{
    const MI_RESTING *Resting = MiFindResting(Va);
    if (Resting != NULL) {
        MiExplainFreed(Resting, Explanation);
        return TRUE;
    }
    // A guard page follows the pages of a live block.
    MI_TRACK Block;
    CHAR Who[MI_WHO_BYTES];
    const ULONG64 Offset = Va - MiArchLayout[MiRegionPool].BaseVa;
    if (Offset >= MiArchLayout[MiRegionPool].ByteCount ||
        !MiFindTrackAround(MiTrackPool, (PVOID)((ULONG_PTR)PAGE_ALIGN(Va) - PAGE_SIZE), &Block)) {
        return FALSE;
    }
    MiDescribeWho(Block.Caller, Block.Time, Who, sizeof(Who));
    Explanation->Code = PAGE_FAULT_BEYOND_END_OF_ALLOCATION;
    Explanation->DriverCode = DRIVER_PAGE_FAULT_BEYOND_END_OF_ALLOCATION;
    RtlFormatBuffer(
        Explanation->Sentence, sizeof(Explanation->Sentence),
        "that is beyond the pool block at 0x%p of %llu bytes, which was allocated by %s",
        Block.Address, Block.ByteCount, Who);
    return TRUE;
}
