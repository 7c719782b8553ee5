// The nonpaged pool: alignment, zeroing, tags, and that blocks do not touch each other.
#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "tests/kernel/reference.h"
#include "tests/kernel/tests.h"

#define POOL_ALIGNMENT 16
#define CACHE_ALIGNMENT 64
#define LARGEST_BYTES (64 * KT_KIB)

static BOOLEAN IsFilledWith(const UCHAR *Bytes, SIZE_T ByteCount, UCHAR Value)
{
    for (SIZE_T Index = 0; Index < ByteCount; Index += 1) {
        if (Bytes[Index] != Value) {
            return FALSE;
        }
    }
    return TRUE;
}

// Steps through sizes densely where classes change, then ever faster.
static SIZE_T NextSize(SIZE_T ByteCount)
{
    return ByteCount < 300 ? ByteCount + 1 : ByteCount + ByteCount / 7;
}

static VOID CheckAlignment(PVOID Block, SIZE_T ByteCount)
{
    KtSetContext("%llu bytes at %p", ByteCount, Block);
    KT_EQUAL((ULONG64)Block % (ByteCount >= PAGE_SIZE ? PAGE_SIZE : POOL_ALIGNMENT), 0);
    if (ByteCount < PAGE_SIZE) {
        KT_CHECK(BYTE_OFFSET(Block) + ByteCount <= PAGE_SIZE);
    }
}

static VOID BlocksAreAligned(VOID)
{
    for (SIZE_T ByteCount = 1; ByteCount < LARGEST_BYTES; ByteCount = NextSize(ByteCount)) {
        PVOID Block = ExAllocatePoolWithTag(NonPagedPoolNx, ByteCount, KT_TAG);
        KT_REQUIRE(Block != NULL);
        CheckAlignment(Block, ByteCount);
        ExFreePoolWithTag(Block, KT_TAG);
    }
}

static VOID CacheAlignedBlocksAreAligned(VOID)
{
    for (SIZE_T ByteCount = 1; ByteCount < LARGEST_BYTES; ByteCount = NextSize(ByteCount)) {
        PVOID Old = ExAllocatePoolWithTag(NonPagedPoolNxCacheAligned, ByteCount, KT_TAG);
        PVOID New =
            ExAllocatePool2(POOL_FLAG_NON_PAGED | POOL_FLAG_CACHE_ALIGNED, ByteCount, KT_TAG);
        KT_REQUIRE(Old != NULL && New != NULL);
        KtSetContext("%llu bytes", ByteCount);
        KT_EQUAL((ULONG64)Old % CACHE_ALIGNMENT, 0);
        KT_EQUAL((ULONG64)New % CACHE_ALIGNMENT, 0);
        CheckAlignment(Old, ByteCount);
        CheckAlignment(New, ByteCount);
        ExFreePoolWithTag(Old, KT_TAG);
        ExFreePoolWithTag(New, KT_TAG);
    }
}

static VOID Pool2Zeroes(VOID)
{
    for (SIZE_T ByteCount = 1; ByteCount < LARGEST_BYTES; ByteCount = NextSize(ByteCount)) {
        PUCHAR Dirty =
            ExAllocatePool2(POOL_FLAG_NON_PAGED | POOL_FLAG_UNINITIALIZED, ByteCount, KT_TAG);
        KT_REQUIRE(Dirty != NULL);
        RtlFillMemory(Dirty, ByteCount, 0xEE);
        ExFreePool(Dirty);
        PUCHAR Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, ByteCount, KT_TAG);
        KT_REQUIRE(Block != NULL);
        KtSetContext("%llu bytes", ByteCount);
        KT_CHECK(IsFilledWith(Block, ByteCount, 0));
        ExFreePool(Block);
    }
}

static VOID PoolIsNotExecutable(VOID)
{
    static const SIZE_T Sizes[] = {16, PAGE_SIZE, 5 * PAGE_SIZE};
    for (ULONG Row = 0; Row < ARRAYSIZE(Sizes); Row += 1) {
        PVOID Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, Sizes[Row], KT_TAG);
        KT_REQUIRE(Block != NULL);
        const REF_WALK Walk = RefWalk(Block);
        KT_EQUAL(Walk.IsExecutable && KeFeatures.Nx, FALSE);
        KT_EQUAL(Walk.IsWritable, TRUE);
        KT_EQUAL(Walk.CacheIndex, REF_CACHE_WB);
        ExFreePool(Block);
    }
}

static VOID Pool2RefusesWhatItDoesNotKnow(VOID)
{
    KT_RETAIL_ONLY();
    static const POOL_FLAGS Illegal[] = {
        0,
        POOL_FLAG_UNINITIALIZED,
        POOL_FLAG_NON_PAGED | 0x200,
        POOL_FLAG_NON_PAGED | 0x80000000,
        POOL_FLAG_NON_PAGED | POOL_FLAG_PAGED,
        POOL_FLAG_NON_PAGED | POOL_FLAG_NON_PAGED_EXECUTE,
    };
    for (ULONG Row = 0; Row < ARRAYSIZE(Illegal); Row += 1) {
        KtSetContext("flags 0x%llx", Illegal[Row]);
        KT_EQUAL(ExAllocatePool2(Illegal[Row], 64, KT_TAG), NULL);
    }
    KT_EQUAL(ExAllocatePool2(POOL_FLAG_NON_PAGED, 64, 0), NULL);
    KT_EQUAL(ExAllocatePool2(POOL_FLAG_NON_PAGED, 0, KT_TAG), NULL);
}

static VOID UnknownOptionalFlagsAreIgnored(VOID)
{
    PVOID Block = ExAllocatePool2(POOL_FLAG_NON_PAGED | (1ull << 60), 64, KT_TAG);
    KT_REQUIRE(Block != NULL);
    ExFreePool(Block);
}

static VOID ZeroBytesWithTagGiveABlock(VOID)
{
    KT_RETAIL_ONLY();
    PVOID Block = ExAllocatePoolWithTag(NonPagedPoolNx, 0, KT_TAG);
    KT_REQUIRE(Block != NULL);
    ExFreePoolWithTag(Block, KT_TAG);
}

static VOID HugeRequestsFail(VOID)
{
    static const SIZE_T Sizes[] = {1ull << 40, 1ull << 47, MAXULONG64, MAXULONG64 - 15,
                                   MAXULONG64 - PAGE_SIZE + 2};
    for (ULONG Row = 0; Row < ARRAYSIZE(Sizes); Row += 1) {
        KtSetContext("0x%llx bytes", Sizes[Row]);
        KT_EQUAL(ExAllocatePool2(POOL_FLAG_NON_PAGED, Sizes[Row], KT_TAG), NULL);
        KT_EQUAL(ExAllocatePoolWithTag(NonPagedPoolNx, Sizes[Row], KT_TAG), NULL);
    }
}

static VOID TagZeroFreesAnything(VOID)
{
    PVOID Block = ExAllocatePoolWithTag(NonPagedPoolNx, 40, KT_TAG);
    PVOID Pages = ExAllocatePoolWithTag(NonPagedPoolNx, 3 * PAGE_SIZE, KT_TAG);
    KT_REQUIRE(Block != NULL && Pages != NULL);
    ExFreePoolWithTag(Block, 0);
    ExFreePoolWithTag(Pages, 0);
}

static VOID PoolWorksAtDispatchLevel(VOID)
{
    KIRQL OldIrql;
    KeRaiseIrql(DISPATCH_LEVEL, &OldIrql);
    PVOID Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 3 * PAGE_SIZE, KT_TAG);
    KT_CHECK(Block != NULL);
    if (Block != NULL) {
        ExFreePool(Block);
    }
    KeLowerIrql(OldIrql);
}

//
// Many blocks of many sizes, each filled with a byte of its own.
//

#define BLOCK_COUNT 256
#define ROUND_COUNT 4000

static struct {
    PUCHAR Bytes;
    SIZE_T ByteCount;
} Blocks[BLOCK_COUNT];

static UCHAR FillOf(ULONG Index)
{
    return (UCHAR)(Index ^ 0xA5);
}

static VOID FreeBlock(ULONG Index)
{
    KT_CHECK(IsFilledWith(Blocks[Index].Bytes, Blocks[Index].ByteCount, FillOf(Index)));
    ExFreePoolWithTag(Blocks[Index].Bytes, KT_TAG);
    Blocks[Index].Bytes = NULL;
}

static VOID AllocateBlock(ULONG Index, ULONG Random)
{
    // Mostly small, sometimes several pages.
    const SIZE_T ByteCount = 1 + Random % ((Random & 0x70000000) == 0 ? 3 * PAGE_SIZE : 700);
    Blocks[Index].Bytes = ExAllocatePoolWithTag(NonPagedPoolNx, ByteCount, KT_TAG);
    Blocks[Index].ByteCount = ByteCount;
    if (KT_CHECK(Blocks[Index].Bytes != NULL)) {
        RtlFillMemory(Blocks[Index].Bytes, ByteCount, FillOf(Index));
    }
}

static VOID BlocksDoNotTouchEachOther(VOID)
{
    ULONG64 Random = 88172645463325252; // any seed but 0
    for (ULONG Round = 0; Round < ROUND_COUNT; Round += 1) {
        Random ^= Random << 13;
        Random ^= Random >> 7;
        Random ^= Random << 17;
        const ULONG Index = (ULONG)(Random >> 40) % BLOCK_COUNT;
        if (Blocks[Index].Bytes != NULL) {
            FreeBlock(Index);
        } else {
            AllocateBlock(Index, (ULONG)Random);
        }
    }
    KT_EQUAL(MmVerify(), 0);
    for (ULONG Index = 0; Index < BLOCK_COUNT; Index += 1) {
        if (Blocks[Index].Bytes != NULL) {
            FreeBlock(Index);
        }
    }
}

static VOID ALargeBlockIsOnePieceWithAGuard(VOID)
{
    const SIZE_T ByteCount = 100 * PAGE_SIZE;
    ULONG64 Value;
    PUCHAR Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, ByteCount, KT_TAG);
    KT_REQUIRE(Block != NULL);
    RtlFillMemory(Block, ByteCount, 0x77);
    KT_CHECK(IsFilledWith(Block, ByteCount, 0x77));
    KT_EQUAL(KeProbeRead(Block + ByteCount, &Value).Faulted, TRUE);
    ExFreePool(Block);
    KT_EQUAL(KeProbeRead(Block, &Value).Faulted, TRUE);
}

static const KT_TEST Tests[] = {
    {"blocks are 16-byte aligned and cross no page, from a page up page aligned [8.3.1]",
     BlocksAreAligned},
    {"cache-aligned blocks are 64-byte aligned [8.3.2]", CacheAlignedBlocksAreAligned},
    {"ExAllocatePool2 zeroes [8.3.3]", Pool2Zeroes},
    {"pool is writable, write-back, not executable [8.3.7]", PoolIsNotExecutable},
    {"ExAllocatePool2 refuses unknown required flags, tag 0 and zero bytes [2.8.2, 8.3.4]",
     Pool2RefusesWhatItDoesNotKnow},
    {"ExAllocatePool2 ignores unknown optional flags [2.8.3]", UnknownOptionalFlagsAreIgnored},
    {"ExAllocatePoolWithTag gives a block for zero bytes [8.3.4]", ZeroBytesWithTagGiveABlock},
    {"requests beyond all memory fail [8.3.6]", HugeRequestsFail},
    {"ExFreePoolWithTag with tag 0 frees any block [8.3.9]", TagZeroFreesAnything},
    {"pool works at DISPATCH_LEVEL [8.3.8, 18.28]", PoolWorksAtDispatchLevel},
    {"4,000 random allocations and frees: no block touches another", BlocksDoNotTouchEachOther},
    {"a block of many pages is one piece, with an unmapped page behind it",
     ALargeBlockIsOnePieceWithAGuard},
};

const KT_SUITE KtPoolSuite = {"pool", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
