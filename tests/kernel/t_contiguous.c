// Contiguous and non-cached memory: where it lies, what the page tables say of it, and that the direct
// map loses and gets back what is uncached.
#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "kernel/inc/rtl.h"
#include "tests/kernel/reference.h"
#include "tests/kernel/tests.h"

#define ANY KtPhysical(MAXULONG64)
#define NONE KtPhysical(0)
#define PATTERN 0xC0FFEE0123456789

static PVOID Allocate(SIZE_T ByteCount, ULONG64 Lowest, ULONG64 Highest, ULONG64 Boundary,
                      MEMORY_CACHING_TYPE CacheType)
{
    return MmAllocateContiguousMemorySpecifyCache(
        ByteCount, KtPhysical(Lowest), KtPhysical(Highest), KtPhysical(Boundary), CacheType);
}

static const struct {
    MEMORY_CACHING_TYPE CacheType;
    ULONG CacheIndex;
} Rows[] = {
    {MmCached, REF_CACHE_WB},
    {MmNonCached, REF_CACHE_UC},
    {MmWriteCombined, REF_CACHE_WC},
};

// A page as the tables have it: its entry, and its alias.
static VOID CheckPage(const VOID *Va, ULONG64 Address, ULONG CacheIndex, BOOLEAN IsExecutable)
{
    const REF_WALK Walk = RefWalk(Va);
    KT_CHECK(Walk.Level != 0 && Walk.IsWritable && !Walk.IsUser);
    KT_EQUAL(Walk.PhysicalAddress, Address);
    KT_EQUAL(Walk.CacheIndex, CacheIndex);
    KT_EQUAL(Walk.IsExecutable, IsExecutable);
    KT_EQUAL(RefWalk(KtDirectMap(Address)).Level != 0, CacheIndex == REF_CACHE_WB);
    KT_EQUAL(MmIsAddressValid(KtDirectMap(Address)), CacheIndex == REF_CACHE_WB);
}

static VOID BlocksAreAdjacentAndOfTheirType(VOID)
{
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        KtSetContext("type %d", Rows[Row].CacheType);
        ULONG64 *Va = Allocate(5 * PAGE_SIZE - 7, 0, MAXULONG64, 0, Rows[Row].CacheType);
        KT_REQUIRE(Va != NULL);
        const ULONG64 Base = KtPhysicalOf(Va);
        KT_EQUAL(BYTE_OFFSET(Va), 0);
        for (ULONG Page = 0; Page < 5; Page += 1) {
            CheckPage(KtAdd(Va, Page * PAGE_SIZE), Base + Page * PAGE_SIZE, Rows[Row].CacheIndex,
                      FALSE);
        }
        Va[0] = PATTERN;
        Va[4 * PAGE_SIZE / sizeof(*Va)] = ~PATTERN;
        KT_EQUAL(MmVerify(), 0);
        MmFreeContiguousMemory(Va);
        // The alias is back, and shows what was written.
        KT_EQUAL(RefWalk(KtDirectMap(Base)).CacheIndex, REF_CACHE_WB);
        KT_EQUAL(RefWalk(KtDirectMap(Base + 4 * PAGE_SIZE)).PhysicalAddress, Base + 4 * PAGE_SIZE);
        KT_EQUAL(*(volatile ULONG64 *)KtDirectMap(Base), PATTERN);
        KT_EQUAL(*(volatile ULONG64 *)KtDirectMap(Base + 4 * PAGE_SIZE), ~PATTERN);
    }
}

static VOID LimitsAreKept(VOID)
{
    const ULONG64 Address = KtFindFreeRun(4);
    KT_REQUIRE(Address != 0);
    PVOID Va = Allocate(4 * PAGE_SIZE, Address, Address + 4 * PAGE_SIZE - 1, 0, MmCached);
    KT_CHECK(Va != NULL && KtPhysicalOf(Va) == Address);
    KT_EQUAL(Allocate(1, Address, Address + 4 * PAGE_SIZE - 1, 0, MmCached), NULL);
    if (Va != NULL) {
        MmFreeContiguousMemory(Va);
    }
    KT_EQUAL(Allocate(4 * PAGE_SIZE, Address, Address + 4 * PAGE_SIZE - 2, 0, MmCached), NULL);
    KT_EQUAL(Allocate(4 * PAGE_SIZE, Address + 1, Address + 4 * PAGE_SIZE - 1, 0, MmCached), NULL);
    Va = MmAllocateContiguousMemory(PAGE_SIZE, KtPhysical(16 * KT_MIB - 1));
    KT_CHECK(Va == NULL || KtPhysicalOf(Va) < 16 * KT_MIB);
    if (Va != NULL) {
        MmFreeContiguousMemory(Va);
    }
    KtReleaseFreeRun();
}

static VOID BoundariesAreNotCrossed(VOID)
{
    PVOID Blocks[16];
    const ULONG64 Boundary = 4 * PAGE_SIZE;
    for (ULONG Index = 0; Index < ARRAYSIZE(Blocks); Index += 1) {
        Blocks[Index] = Allocate(3 * PAGE_SIZE, 0, MAXULONG64, Boundary, Rows[Index % 3].CacheType);
        KT_REQUIRE(Blocks[Index] != NULL);
        const ULONG64 Base = KtPhysicalOf(Blocks[Index]);
        KT_EQUAL(Base / Boundary, (Base + 3 * PAGE_SIZE - 1) / Boundary);
    }
    for (ULONG Index = 0; Index < ARRAYSIZE(Blocks); Index += 1) {
        MmFreeContiguousMemory(Blocks[Index]);
    }
}

static VOID IllegalRequestsAreRefused(VOID)
{
    KT_EQUAL(Allocate(0, 0, MAXULONG64, 0, MmCached), NULL);
    KT_EQUAL(Allocate(1, PAGE_SIZE, 0, 0, MmCached), NULL);
    KT_EQUAL(Allocate(1, 0, MAXULONG64, PAGE_SIZE / 2, MmCached), NULL);
    KT_EQUAL(Allocate(1, 0, MAXULONG64, 3 * PAGE_SIZE, MmCached), NULL);
    KT_EQUAL(Allocate(2 * PAGE_SIZE, 0, MAXULONG64, PAGE_SIZE, MmCached), NULL);
    KT_EQUAL(Allocate(1, 0, MAXULONG64, 0, MmMaximumCacheType), NULL);
    KT_EQUAL(Allocate(MAXULONG64, 0, MAXULONG64, 0, MmNonCached), NULL);
    KT_EQUAL(Allocate(PAGE_SIZE, KT_GAP_LOWEST, KT_GAP_HIGHEST, 0, MmCached), NULL);
}

static VOID ThereIsOneNode(VOID)
{
    PVOID Va = MmAllocateContiguousMemorySpecifyCacheNode(1, NONE, ANY, NONE, MmCached,
                                                          MM_ANY_NODE_OK | 7);
    KT_REQUIRE(Va != NULL);
    MmFreeContiguousMemory(Va);
    KT_EQUAL(MmAllocateContiguousMemorySpecifyCacheNode(1, NONE, ANY, NONE, MmCached, 1), NULL);
    KT_EQUAL(MmAllocateContiguousNodeMemory(1, NONE, ANY, NONE, PAGE_READWRITE, 1), NULL);
}

static VOID ProtectionsAreWhatPagesGet(VOID)
{
    static const ULONG Modifiers[] = {0, PAGE_NOCACHE, PAGE_WRITECOMBINE};
    for (ULONG Row = 0; Row < 2 * ARRAYSIZE(Modifiers); Row += 1) {
        const BOOLEAN IsExecutable = Row >= ARRAYSIZE(Modifiers);
        const ULONG Protect = (IsExecutable ? PAGE_EXECUTE_READWRITE : PAGE_READWRITE) |
                              Modifiers[Row % ARRAYSIZE(Modifiers)];
        KtSetContext("protection 0x%x", Protect);
        PVOID Va = MmAllocateContiguousNodeMemory(PAGE_SIZE, NONE, ANY, NONE, Protect, 0);
        KT_REQUIRE(Va != NULL);
        CheckPage(Va, KtPhysicalOf(Va), Rows[Row % ARRAYSIZE(Modifiers)].CacheIndex, IsExecutable);
        if (IsExecutable) {
            *(volatile UCHAR *)Va = 0xC3; // ret
            KT_CHECK(!KeProbeExecute(Va).Faulted);
        }
        MmFreeContiguousMemory(Va);
    }
    KT_EQUAL(MmAllocateContiguousNodeMemory(1, NONE, ANY, NONE, PAGE_READONLY, 0), NULL);
    KT_EQUAL(MmAllocateContiguousNodeMemory(1, NONE, ANY, NONE, PAGE_EXECUTE_READ, 0), NULL);
}

static VOID TheExtendedFormTellsSizeAndStatus(VOID)
{
    PVOID Va;
    SIZE_T ByteCount = 100;
    KT_EQUAL(MmAllocateContiguousMemoryEx(&ByteCount, NONE, ANY, NONE, 0,
                                          PAGE_READWRITE | PAGE_NOCACHE, NULL, KT_TAG,
                                          MM_ALLOCATE_CONTIGUOUS_MEMORY_FAST_ONLY, &Va),
             STATUS_SUCCESS);
    KT_EQUAL(ByteCount, PAGE_SIZE);
    CheckPage(Va, KtPhysicalOf(Va), REF_CACHE_UC, FALSE);
    MmFreeContiguousMemorySpecifyCache(Va, PAGE_SIZE, MmNonCached);
    KT_EQUAL(MmAllocateContiguousMemoryEx(&ByteCount, NONE, ANY, NONE, 0, PAGE_READWRITE, NULL,
                                          KT_TAG, 0x80, &Va),
             STATUS_INVALID_PARAMETER);
    KT_EQUAL(Va, NULL);
    KT_EQUAL(MmAllocateContiguousMemoryEx(&ByteCount, NONE, ANY, NONE, 0, PAGE_READONLY, NULL,
                                          KT_TAG, 0, &Va),
             STATUS_INVALID_PAGE_PROTECTION);
    ByteCount = 1ull << 40;
    KT_EQUAL(MmAllocateContiguousMemoryEx(&ByteCount, NONE, ANY, NONE, 0, PAGE_READWRITE, NULL,
                                          KT_TAG, 0, &Va),
             STATUS_INSUFFICIENT_RESOURCES);
    KT_EQUAL(ByteCount, 1ull << 40);
}

static VOID DispatchLevelIsAllowed(VOID)
{
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        const KIRQL OldIrql = KeRaiseIrqlToDpcLevel();
        PVOID Va = Allocate(3 * PAGE_SIZE, 0, MAXULONG64, 0, Rows[Row].CacheType);
        if (Va != NULL) {
            MmFreeContiguousMemory(Va);
        }
        KeLowerIrql(OldIrql);
        KT_CHECK(Va != NULL);
    }
}

static VOID OtherMappingsTakeTheBlocksType(VOID)
{
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        KtSetContext("type %d", Rows[Row].CacheType);
        PVOID Va = Allocate(2 * PAGE_SIZE, 0, MAXULONG64, 0, Rows[Row].CacheType);
        KT_REQUIRE(Va != NULL);
        PVOID Io = MmMapIoSpace(MmGetPhysicalAddress(Va), PAGE_SIZE, MmCached);
        KT_REQUIRE(Io != NULL);
        KT_EQUAL(RefWalk(Io).CacheIndex, Rows[Row].CacheIndex);
        MmUnmapIoSpace(Io, PAGE_SIZE);
        MmFreeContiguousMemory(Va);
    }
}

static VOID MuchContiguousMemoryComesAndGoes(VOID)
{
    PVOID Va = Allocate(32 * KT_MIB, 0, MAXULONG64, 0, MmWriteCombined);
    KT_REQUIRE(Va != NULL);
    KT_EQUAL(KtPhysicalOf(KtAdd(Va, 32 * KT_MIB - 1)), KtPhysicalOf(Va) + 32 * KT_MIB - 1);
    MmFreeContiguousMemory(Va);
}

static VOID NonCachedMemoryIsUncached(VOID)
{
    ULONG64 *Va = MmAllocateNonCachedMemory(3 * PAGE_SIZE - 1);
    KT_REQUIRE(Va != NULL);
    KT_EQUAL(BYTE_OFFSET(Va), 0);
    ULONG64 Addresses[3];
    for (ULONG Page = 0; Page < 3; Page += 1) {
        Addresses[Page] = KtPhysicalOf(KtAdd(Va, Page * PAGE_SIZE));
        CheckPage(KtAdd(Va, Page * PAGE_SIZE), Addresses[Page], REF_CACHE_UC, FALSE);
    }
    Va[0] = PATTERN;
    KT_EQUAL(MmVerify(), 0);
    MmFreeNonCachedMemory(Va, 3 * PAGE_SIZE - 1);
    KT_EQUAL(RefWalk(Va).Level, 0);
    for (ULONG Page = 0; Page < 3; Page += 1) {
        KT_EQUAL(RefWalk(KtDirectMap(Addresses[Page])).CacheIndex, REF_CACHE_WB);
    }
    KT_EQUAL(*(volatile ULONG64 *)KtDirectMap(Addresses[0]), PATTERN);
    KT_EQUAL(MmAllocateNonCachedMemory(0), NULL);
    KT_EQUAL(MmAllocateNonCachedMemory(MAXULONG64), NULL);
}

static const KT_TEST Tests[] = {
    {"contiguous memory is adjacent, has its type and no other, and its alias comes back [8.1.1, "
     "8.1.5, 8.1.7, 12.2.6, 12.2.7]",
     BlocksAreAdjacentAndOfTheirType},
    {"every byte of contiguous memory lies within the limits [8.1.2, 18.24]", LimitsAreKept},
    {"contiguous memory crosses no boundary [8.1.3, 18.24]", BoundariesAreNotCrossed},
    {"illegal requests for contiguous memory give NULL [8.1.4, 8.1.10, 18.24]",
     IllegalRequestsAreRefused},
    {"contiguous memory comes from the one node, or from any [8.1.8]", ThereIsOneNode},
    {"MmAllocateContiguousNodeMemory gives the protection, executable, too [8.1.6]",
     ProtectionsAreWhatPagesGet},
    {"MmAllocateContiguousMemoryEx tells size and status [8.1.9]",
     TheExtendedFormTellsSizeAndStatus},
    {"contiguous memory comes and goes at DISPATCH_LEVEL [8.1.13, 18.28]", DispatchLevelIsAllowed},
    {"other mappings of contiguous memory take its cache type [12.2.5, 12.2.10]",
     OtherMappingsTakeTheBlocksType},
    {"32 MiB of write-combined memory come and go [8.1.1]", MuchContiguousMemoryComesAndGoes},
    {"non-cached memory is uncached, in whole pages, and its aliases come back [8.2.1, 8.2.2, "
     "12.2.6]",
     NonCachedMemoryIsUncached},
};

const KT_SUITE KtContiguousSuite = {"contiguous", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
