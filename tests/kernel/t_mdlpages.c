// MmAllocatePagesForMdl, MmAllocatePagesForMdlEx, MmFreePagesFromMdl: windows, flags, zeroing, and
// the direct map's alias of a page that is mapped other than write-back.
#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "tests/kernel/reference.h"
#include "tests/kernel/tests.h"

#define MAXIMUM_BYTES (4 * KT_GIB - PAGE_SIZE)

static PMDL AllocateWithin(ULONG64 Low, ULONG64 High, ULONG64 SkipBytes, SIZE_T TotalBytes,
                           ULONG Flags)
{
    return MmAllocatePagesForMdlEx(KtPhysical(Low), KtPhysical(High), KtPhysical(SkipBytes),
                                   TotalBytes, MmCached, Flags);
}

static PMDL Allocate(SIZE_T TotalBytes, ULONG Flags)
{
    return AllocateWithin(0, MAXULONG64, 0, TotalBytes, Flags);
}

static ULONG PageCountOf(PMDL Mdl)
{
    return MmGetMdlByteCount(Mdl) / PAGE_SIZE;
}

static BOOLEAN IsZero(const ULONG64 *Words, SIZE_T ByteCount)
{
    for (SIZE_T Index = 0; Index < ByteCount / sizeof(ULONG64); Index += 1) {
        if (Words[Index] != 0) {
            return FALSE;
        }
    }
    return TRUE;
}

static VOID PagesAreZeroed(VOID)
{
    enum { Pages = 64 };
    for (ULONG Round = 0; Round < 3; Round += 1) {
        PMDL Mdl = MmAllocatePagesForMdl(KtPhysical(0), KtPhysical(MAXULONG64), KtPhysical(0),
                                         Pages * PAGE_SIZE);
        KT_REQUIRE(Mdl != NULL);
        PVOID Va = MmGetSystemAddressForMdlSafe(Mdl, NormalPagePriority);
        KT_REQUIRE(Va != NULL);
        KT_CHECK(IsZero(Va, Pages * PAGE_SIZE));
        RtlFillMemory(Va, Pages * PAGE_SIZE, 0xDD);
        KtFreePages(Mdl);
    }
}

static VOID TheMdlIsLockedAndUnmapped(VOID)
{
    PMDL Mdl = Allocate(3 * PAGE_SIZE, 0);
    KT_REQUIRE(Mdl != NULL);
    KT_EQUAL(MmGetMdlVirtualAddress(Mdl), NULL);
    KT_EQUAL(MmGetMdlByteCount(Mdl), 3 * PAGE_SIZE);
    KT_EQUAL((USHORT)Mdl->MdlFlags, MDL_PAGES_LOCKED);
    KT_EQUAL(Mdl->Next, NULL);
    for (ULONG Page = 0; Page < PageCountOf(Mdl); Page += 1) {
        KT_CHECK(MmGetMdlPfnArray(Mdl)[Page] != 0);
        for (ULONG Other = 0; Other < Page; Other += 1) {
            KT_CHECK(MmGetMdlPfnArray(Mdl)[Page] != MmGetMdlPfnArray(Mdl)[Other]);
        }
    }
    KtFreePages(Mdl);
}

static VOID BytesAreRoundedUpToPages(VOID)
{
    static const ULONG Bytes[] = {1, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1};
    for (ULONG Row = 0; Row < ARRAYSIZE(Bytes); Row += 1) {
        PMDL Mdl = Allocate(Bytes[Row], MM_DONT_ZERO_ALLOCATION);
        KT_REQUIRE(Mdl != NULL);
        KT_EQUAL(MmGetMdlByteCount(Mdl), ROUND_TO_PAGES(Bytes[Row]));
        KtFreePages(Mdl);
    }
}

static VOID IllegalRequestsAreRefused(VOID)
{
    const struct {
        ULONG64 Low;
        ULONG64 High;
        ULONG64 SkipBytes;
        SIZE_T TotalBytes;
        ULONG CacheType;
        ULONG Flags;
    } Rows[] = {
        {0, MAXULONG64, 0, 0, MmCached, 0},
        {0, MAXULONG64, 0, MAXIMUM_BYTES + 1, MmCached, 0},
        {0, MAXULONG64, 0, MAXULONG64, MmCached, 0},
        {0, MAXULONG64, 0, PAGE_SIZE, MmMaximumCacheType, 0},
        {0, MAXULONG64, 0, PAGE_SIZE, 0xFF, 0},
        {0, MAXULONG64, 0, PAGE_SIZE, MmCached, 0x200},
        {0, MAXULONG64, 0, PAGE_SIZE, MmCached, 0x80000000},
        {0, MAXULONG64, 1, PAGE_SIZE, MmCached, 0},
        {0, MAXULONG64, PAGE_SIZE + 1, PAGE_SIZE, MmCached, 0},
        {16 * KT_MIB, 8 * KT_MIB, 0, PAGE_SIZE, MmCached, 0},
        {0, 0, 0, PAGE_SIZE, MmCached, 0},                          // no whole page
        {0, PAGE_SIZE - 1, 0, PAGE_SIZE, MmCached, 0},              // page 0 is nobody's
        {KT_GAP_LOWEST, KT_GAP_HIGHEST, 0, PAGE_SIZE, MmCached, 0}, // no RAM there
        {0, MAXULONG64, 3 * PAGE_SIZE, 6 * PAGE_SIZE, MmCached,
         MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS},
        {0, MAXULONG64, 2 * PAGE_SIZE, 3 * PAGE_SIZE, MmCached,
         MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS},
        {0, MAXULONG64, PAGE_SIZE / 2, PAGE_SIZE, MmCached, MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS},
        {0, MAXULONG64, 0, PAGE_SIZE, MmCached, MM_ALLOCATE_FAST_LARGE_PAGES},
        {0, MAXULONG64, 0, 4 * KT_MIB, MmCached,
         MM_ALLOCATE_FAST_LARGE_PAGES | MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS},
        {0, MAXULONG64, KT_MIB, 4 * KT_MIB, MmCached,
         MM_ALLOCATE_FAST_LARGE_PAGES | MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS},
        {0, MAXULONG64, 0, PAGE_SIZE, MmCached,
         MM_ALLOCATE_AND_HOT_REMOVE | MM_ALLOCATE_FULLY_REQUIRED},
    };
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        KtSetContext("row %u", Row);
        PMDL Mdl = MmAllocatePagesForMdlEx(
            KtPhysical(Rows[Row].Low), KtPhysical(Rows[Row].High), KtPhysical(Rows[Row].SkipBytes),
            Rows[Row].TotalBytes, (MEMORY_CACHING_TYPE)Rows[Row].CacheType, Rows[Row].Flags);
        KT_EQUAL(Mdl, NULL);
        if (Mdl != NULL) {
            KtFreePages(Mdl);
        }
    }
}

static VOID CommonFlagsAreAccepted(VOID)
{
    static const ULONG Flags[] = {
        MM_DONT_ZERO_ALLOCATION,
        MM_ALLOCATE_FROM_LOCAL_NODE_ONLY,
        MM_ALLOCATE_FULLY_REQUIRED,
        MM_ALLOCATE_NO_WAIT,
        MM_ALLOCATE_PREFER_CONTIGUOUS,
        MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS,
        MM_ALLOCATE_TRIM_IF_NECESSARY,
        MM_ALLOCATE_AND_HOT_REMOVE,
        MM_DONT_ZERO_ALLOCATION | MM_ALLOCATE_FULLY_REQUIRED | MM_ALLOCATE_NO_WAIT |
            MM_ALLOCATE_PREFER_CONTIGUOUS,
    };
    for (ULONG Row = 0; Row < ARRAYSIZE(Flags); Row += 1) {
        KtSetContext("flags 0x%x", Flags[Row]);
        PMDL Mdl = Allocate(4 * PAGE_SIZE, Flags[Row]);
        KT_REQUIRE(Mdl != NULL);
        KT_EQUAL(PageCountOf(Mdl), 4);
        KtFreePages(Mdl);
    }
}

static VOID PagesLieInsideTheWindow(VOID)
{
    // Both ends count, and neither needs to be page aligned.
    const ULONG64 Base = KtFindFreeRun(64);
    KT_REQUIRE(Base != 0);
    const ULONG64 Low = Base + 1;
    const ULONG64 High = Base + 60 * PAGE_SIZE + 5;
    PMDL Mdl = AllocateWithin(Low, High, 0, 64 * PAGE_SIZE, MM_DONT_ZERO_ALLOCATION);
    KT_REQUIRE(Mdl != NULL);
    KT_EQUAL(PageCountOf(Mdl), 59);
    for (ULONG Page = 0; Page < PageCountOf(Mdl); Page += 1) {
        KT_CHECK(KtPageAddress(Mdl, Page) >= Low);
        KT_CHECK(KtPageAddress(Mdl, Page) + PAGE_SIZE - 1 <= High);
    }
    KtFreePages(Mdl);
    KtReleaseFreeRun();
}

static VOID AWindowThatIsTooSmallGivesLess(VOID)
{
    const ULONG64 Base = KtFindFreeRun(4);
    KT_REQUIRE(Base != 0);
    PMDL Mdl = AllocateWithin(Base, Base + 4 * PAGE_SIZE - 1, 0, 16 * PAGE_SIZE, 0);
    KT_REQUIRE(Mdl != NULL);
    KT_EQUAL(PageCountOf(Mdl), 4);
    KT_EQUAL(AllocateWithin(Base, Base + 4 * PAGE_SIZE - 1, 0, PAGE_SIZE, 0), NULL);
    KtFreePages(Mdl);
    KT_EQUAL(AllocateWithin(Base, Base + 4 * PAGE_SIZE - 1, 0, 16 * PAGE_SIZE,
                            MM_ALLOCATE_FULLY_REQUIRED),
             NULL);
    KtReleaseFreeRun();
}

static VOID SkipBytesMovesTheWindow(VOID)
{
    const ULONG64 Base = KtFindFreeRun(16);
    KT_REQUIRE(Base != 0);
    // One page of every four.
    PMDL Mdl = AllocateWithin(Base, Base + PAGE_SIZE - 1, 4 * PAGE_SIZE, 3 * PAGE_SIZE,
                              MM_ALLOCATE_FULLY_REQUIRED);
    KT_REQUIRE(Mdl != NULL);
    for (ULONG Page = 0; Page < PageCountOf(Mdl); Page += 1) {
        KT_EQUAL(KtPageAddress(Mdl, Page), Base + Page * 4 * PAGE_SIZE);
    }
    KtFreePages(Mdl);
    KtReleaseFreeRun();
}

static VOID OneContiguousChunk(VOID)
{
    PMDL Mdl = Allocate(33 * PAGE_SIZE, MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS);
    KT_REQUIRE(Mdl != NULL);
    KT_EQUAL(PageCountOf(Mdl), 33);
    for (ULONG Page = 0; Page < PageCountOf(Mdl); Page += 1) {
        KT_EQUAL(KtPageAddress(Mdl, Page), KtPageAddress(Mdl, 0) + (ULONG64)Page * PAGE_SIZE);
    }
    KtFreePages(Mdl);
}

static VOID ChunksAreAlignedAndContiguous(VOID)
{
    enum { ChunkPages = 8, ChunkCount = 5 };
    PMDL Mdl =
        AllocateWithin(0, MAXULONG64, ChunkPages * PAGE_SIZE, ChunkPages * ChunkCount * PAGE_SIZE,
                       MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS);
    KT_REQUIRE(Mdl != NULL);
    KT_EQUAL(PageCountOf(Mdl), ChunkPages * ChunkCount);
    for (ULONG Page = 0; Page < PageCountOf(Mdl); Page += 1) {
        const ULONG64 ChunkAddress = KtPageAddress(Mdl, Page / ChunkPages * ChunkPages);
        KT_EQUAL(ChunkAddress % (ChunkPages * PAGE_SIZE), 0);
        KT_EQUAL(KtPageAddress(Mdl, Page), ChunkAddress + (ULONG64)(Page % ChunkPages) * PAGE_SIZE);
    }
    KtFreePages(Mdl);
}

static VOID ChunksMayComeShort(VOID)
{
    const ULONG64 Base = KtFindFreeRun(8);
    KT_REQUIRE(Base != 0);
    const ULONG64 Aligned = (Base + 4 * PAGE_SIZE - 1) / (4 * PAGE_SIZE) * (4 * PAGE_SIZE);
    // One chunk of four pages fits; a second one does not.
    PMDL Mdl = AllocateWithin(Aligned, Aligned + 5 * PAGE_SIZE - 1, 4 * PAGE_SIZE, 8 * PAGE_SIZE,
                              MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS);
    KT_REQUIRE(Mdl != NULL);
    KT_EQUAL(PageCountOf(Mdl), 4);
    KtFreePages(Mdl);
    KtReleaseFreeRun();
}

static VOID FreeingUnmapsAndKeepsTheHeader(VOID)
{
    PMDL Mdl = Allocate(2 * PAGE_SIZE, 0);
    KT_REQUIRE(Mdl != NULL);
    PVOID Va = MmGetSystemAddressForMdlSafe(Mdl, NormalPagePriority);
    KT_REQUIRE(Va != NULL);
    MmFreePagesFromMdl(Mdl);
    KT_EQUAL(RefWalk(Va).Level, 0);
    KT_EQUAL(Mdl->MdlFlags & (MDL_PAGES_LOCKED | MDL_MAPPED_TO_SYSTEM_VA), 0);
    KT_EQUAL(MmGetMdlByteCount(Mdl), 2 * PAGE_SIZE);
    ExFreePoolWithTag(Mdl, 0);
}

static VOID PagesAreAllocatedAtDispatchLevel(VOID)
{
    KIRQL OldIrql;
    KeRaiseIrql(DISPATCH_LEVEL, &OldIrql);
    PMDL Mdl = Allocate(4 * PAGE_SIZE, MM_ALLOCATE_NO_WAIT);
    KT_CHECK(Mdl != NULL);
    if (Mdl != NULL) {
        KtFreePages(Mdl);
    }
    KeLowerIrql(OldIrql);
}

#define MUCH_PAGES (32 * KT_MIB / PAGE_SIZE)

static VOID MuchMemoryIsAllocatedAndGivenBack(VOID)
{
    MM_MEMORY_USE Before;
    MmQueryMemoryUse(&Before);
    PMDL Mdl = Allocate(MUCH_PAGES * PAGE_SIZE, MM_DONT_ZERO_ALLOCATION);
    KT_REQUIRE(Mdl != NULL);
    KT_EQUAL(PageCountOf(Mdl), MUCH_PAGES);
    MM_MEMORY_USE During;
    MmQueryMemoryUse(&During);
    KT_EQUAL(During.MdlPages, Before.MdlPages + MUCH_PAGES);
    KT_CHECK(During.FreePages <= Before.FreePages - MUCH_PAGES);
    KtFreePages(Mdl);
}

static VOID LargePagesComeInLargePages(VOID)
{
    PMDL Mdl = MmAllocatePagesForMdlEx(
        KtPhysical(0), KtPhysical(MAXULONG64), KtPhysical(2 * KT_MIB), 4 * KT_MIB, MmCached,
        MM_ALLOCATE_FAST_LARGE_PAGES | MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS);
    KT_REQUIRE(Mdl != NULL);
    KT_EQUAL(PageCountOf(Mdl), 1024);
    KT_EQUAL(KtPageAddress(Mdl, 0) % (2 * KT_MIB), 0);
    KT_EQUAL(KtPageAddress(Mdl, 511), KtPageAddress(Mdl, 0) + 511 * PAGE_SIZE);
    KtFreePages(Mdl);
}

static VOID HotRemoveIsForPassiveLevel(VOID)
{
    const KIRQL OldIrql = KeRaiseIrqlToDpcLevel();
    PMDL Mdl = Allocate(PAGE_SIZE, MM_ALLOCATE_AND_HOT_REMOVE);
    KeLowerIrql(OldIrql);
    KT_EQUAL(Mdl, NULL);
}

static VOID ContiguousPagesArePreferred(VOID)
{
    // Every other page of 64 is taken; behind them there is plenty.
    const ULONG64 Address = KtFindFreeRun(64);
    KT_REQUIRE(Address != 0);
    PMDL Comb = AllocateWithin(Address, Address + PAGE_SIZE - 1, 2 * PAGE_SIZE, 32 * PAGE_SIZE, 0);
    PMDL Mdl =
        AllocateWithin(Address, MAXULONG64, 0, 48 * PAGE_SIZE, MM_ALLOCATE_PREFER_CONTIGUOUS);
    KtReleaseFreeRun();
    KT_REQUIRE(Comb != NULL && Mdl != NULL);
    KT_EQUAL(PageCountOf(Mdl), 48);
    for (ULONG Page = 1; Page < 48; Page += 1) {
        KT_EQUAL(KtPageAddress(Mdl, Page), KtPageAddress(Mdl, 0) + Page * PAGE_SIZE);
    }
    KtFreePages(Mdl);
    KtFreePages(Comb);
}

static VOID TheOneNodeAndPartitionHaveThePages(VOID)
{
    const PHYSICAL_ADDRESS High = KtPhysical(MAXULONG64);
    const PHYSICAL_ADDRESS Zero = KtPhysical(0);
    PMDL Mdl = MmAllocateNodePagesForMdlEx(Zero, High, Zero, PAGE_SIZE, MmCached, 0, 0);
    KT_REQUIRE(Mdl != NULL);
    KtFreePages(Mdl);
    Mdl = MmAllocatePartitionNodePagesForMdlEx(Zero, High, Zero, PAGE_SIZE, MmCached, 0, 0, NULL);
    KT_REQUIRE(Mdl != NULL);
    KtFreePages(Mdl);
    KT_EQUAL(MmAllocateNodePagesForMdlEx(Zero, High, Zero, PAGE_SIZE, MmCached, 1, 0), NULL);
    KT_EQUAL(
        MmAllocatePartitionNodePagesForMdlEx(Zero, High, Zero, PAGE_SIZE, MmCached, 0, 0, &Mdl),
        NULL);
}

static VOID PagesAreZeroedWhenTheyAreFreed(VOID)
{
    PMDL Mdl = Allocate(PAGE_SIZE, 0);
    KT_REQUIRE(Mdl != NULL);
    const ULONG64 Address = KtPageAddress(Mdl, 0);
    ULONG64 *Va =
        MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmNonCached, NULL, FALSE, NormalPagePriority);
    KT_REQUIRE(Va != NULL);
    Va[1] = 0x1122334455667788;
    MmFreePagesFromMdlEx(Mdl, MM_FREE_MDL_PAGES_ZERO);
    KT_EQUAL(((const volatile ULONG64 *)KtDirectMap(Address))[1], 0);
    ExFreePool(Mdl);
}

//
// The alias in the direct map.
//

#define PATTERN 0xC0FFEE0123456789

static const struct {
    MEMORY_CACHING_TYPE CacheType;
    BOOLEAN KeepsAlias;
} AliasRows[] = {
    {MmCached, TRUE},
    {MmNonCached, FALSE},
    {MmWriteCombined, FALSE},
};

static VOID CheckAlias(ULONG64 Address, BOOLEAN IsThere)
{
    ULONG64 Value;
    const PVOID Alias = KtDirectMap(Address);
    KT_EQUAL(RefWalk(Alias).Level != 0, IsThere);
    KT_EQUAL(KeProbeRead(Alias, &Value).Faulted, !IsThere);
    KT_EQUAL(MmIsAddressValid(Alias), IsThere);
}

static VOID TheAliasGoesAndComesBack(VOID)
{
    for (ULONG Row = 0; Row < ARRAYSIZE(AliasRows); Row += 1) {
        KtSetContext("type %d", AliasRows[Row].CacheType);
        PMDL Mdl = Allocate(2 * PAGE_SIZE, 0);
        KT_REQUIRE(Mdl != NULL);
        const ULONG64 Address = KtPageAddress(Mdl, 0);
        const ULONG64 Second = KtPageAddress(Mdl, 1);
        CheckAlias(Address, TRUE);
        ULONG64 *Va = MmMapLockedPagesSpecifyCache(Mdl, KernelMode, AliasRows[Row].CacheType, NULL,
                                                   FALSE, NormalPagePriority);
        KT_REQUIRE(Va != NULL);
        Va[0] = PATTERN;
        CheckAlias(Address, AliasRows[Row].KeepsAlias);
        CheckAlias(Second, AliasRows[Row].KeepsAlias);
        // Its neighbours keep theirs: a large leaf of the direct map was split, not lost.
        CheckAlias(KtPhysicalOf(Mdl), TRUE);
        MmUnmapLockedPages(Va, Mdl);
        KtFreePages(Mdl);
        CheckAlias(Address, TRUE);
        CheckAlias(Second, TRUE);
        KT_EQUAL(*(ULONG64 *)KtDirectMap(Address), PATTERN);
        KT_EQUAL(RefWalk(KtDirectMap(Address)).CacheIndex, REF_CACHE_WB);
    }
}

static VOID ContentsSurviveEveryCacheType(VOID)
{
    for (ULONG Row = 0; Row < ARRAYSIZE(AliasRows); Row += 1) {
        PMDL Mdl = Allocate(PAGE_SIZE, 0);
        KT_REQUIRE(Mdl != NULL);
        *(volatile ULONG64 *)KtDirectMap(KtPageAddress(Mdl, 0)) = PATTERN;
        ULONG64 *Va = MmMapLockedPagesSpecifyCache(Mdl, KernelMode, AliasRows[Row].CacheType, NULL,
                                                   FALSE, NormalPagePriority);
        KT_REQUIRE(Va != NULL);
        KT_EQUAL(Va[0], PATTERN);
        KtFreePages(Mdl);
    }
}

static VOID TheFirstMappingDecides(VOID)
{
    PMDL Mdl = Allocate(PAGE_SIZE, 0);
    KT_REQUIRE(Mdl != NULL);
    PVOID First = MmMapIoSpace(KtPhysical(KtPageAddress(Mdl, 0)), PAGE_SIZE, MmWriteCombined);
    KT_REQUIRE(First != NULL);
    PVOID Second =
        MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmCached, NULL, FALSE, NormalPagePriority);
    KT_REQUIRE(Second != NULL);
    KT_EQUAL(RefWalk(First).CacheIndex, REF_CACHE_WC);
    KT_EQUAL(RefWalk(Second).CacheIndex, REF_CACHE_WC);
    MmUnmapLockedPages(Second, Mdl);
    MmUnmapIoSpace(First, PAGE_SIZE);
    KtFreePages(Mdl);
}

static VOID FreedPagesHaveNoTypeAnyMore(VOID)
{
    const ULONG64 Address = KtFindFreeRun(1);
    for (ULONG Row = 0; Row < ARRAYSIZE(AliasRows); Row += 1) {
        PMDL Mdl = AllocateWithin(Address, Address + PAGE_SIZE - 1, 0, PAGE_SIZE, 0);
        KT_REQUIRE(Mdl != NULL);
        PVOID Va = MmMapLockedPagesSpecifyCache(Mdl, KernelMode, AliasRows[Row].CacheType, NULL,
                                                FALSE, NormalPagePriority);
        KT_REQUIRE(Va != NULL);
        KT_EQUAL(RefWalk(Va).CacheIndex == REF_CACHE_WB, AliasRows[Row].KeepsAlias);
        KtFreePages(Mdl);
    }
    KtReleaseFreeRun();
}

static const KT_TEST Tests[] = {
    {"pages are zeroed, also when they were dirty before [7.1.1, 18.20]", PagesAreZeroed},
    {"the MDL is locked, unmapped, at address 0, of distinct pages [7.1.5, 18.20]",
     TheMdlIsLockedAndUnmapped},
    {"bytes of an MDL of pages are rounded up to whole pages [7.1.6]", BytesAreRoundedUpToPages},
    {"illegal sizes, cache types, flags, strides and windows give NULL [2.5.2, 7.1.7, 7.2.3]",
     IllegalRequestsAreRefused},
    {"the common flags are accepted [2.5.1, 7.2.6]", CommonFlagsAreAccepted},
    {"pages lie inside [Low, High] [7.1.2, 18.20]", PagesLieInsideTheWindow},
    {"a window that is too small gives fewer pages, or NULL when all are required [7.1.4, 7.2.1, "
     "18.21]",
     AWindowThatIsTooSmallGivesLess},
    {"large pages need chunks of large pages, and come in them [7.2.4]",
     LargePagesComeInLargePages},
    {"MM_ALLOCATE_AND_HOT_REMOVE is for PASSIVE_LEVEL [7.2.5]", HotRemoveIsForPassiveLevel},
    {"MM_ALLOCATE_PREFER_CONTIGUOUS prefers adjacent pages [7.2.7]", ContiguousPagesArePreferred},
    {"the node and partition forms know one of each [7.1.11]", TheOneNodeAndPartitionHaveThePages},
    {"MmFreePagesFromMdlEx zeroes when asked, uncached pages, too [7.3.5]",
     PagesAreZeroedWhenTheyAreFreed},
    {"SkipBytes moves the window [7.1.3]", SkipBytesMovesTheWindow},
    {"contiguous chunks with SkipBytes 0 give one block [7.2.2, 18.21]", OneContiguousChunk},
    {"contiguous chunks are SkipBytes long and aligned [7.2.3, 18.21]",
     ChunksAreAlignedAndContiguous},
    {"contiguous chunks may come short, in whole chunks [7.2.3]", ChunksMayComeShort},
    {"MmFreePagesFromMdl unmaps, and leaves the header to ExFreePool with tag 0 [7.3.1, 7.3.2, "
     "8.3.9, 18.20]",
     FreeingUnmapsAndKeepsTheHeader},
    {"pages are allocated and freed at DISPATCH_LEVEL [7.1.9, 7.3.6, 18.28]",
     PagesAreAllocatedAtDispatchLevel},
    {"32 MiB are allocated and given back [7.3.1]", MuchMemoryIsAllocatedAndGivenBack},
    {"a page that is mapped uncached or write-combined loses its alias, until it is freed [12.2.6]",
     TheAliasGoesAndComesBack},
    {"contents survive every cache type [12.2.7]", ContentsSurviveEveryCacheType},
    {"the first mapping decides the cache type of a page [7.1.8, 12.2.4]", TheFirstMappingDecides},
    {"a freed page has no cache type any more [12.2.9]", FreedPagesHaveNoTypeAnyMore},
};

const KT_SUITE KtMdlPagesSuite = {"mdlpages", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
