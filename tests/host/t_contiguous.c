// Contiguous memory: MmAllocateContiguousMemory and its variants, MmFreeContiguousMemory(SpecifyCache).
#include "tests/host/host.h"

#define MIB (1ull << 20)
#define ANY Pa(MAXULONG64)
#define TAG 'tseT'

static PFN_NUMBER FirstPfnOf(PVOID Va)
{
    return (ULONG64)MmGetPhysicalAddress(Va).QuadPart >> PAGE_SHIFT;
}

static PVOID Allocate(SIZE_T Bytes, ULONG64 Lowest, ULONG64 Highest, ULONG64 Boundary,
                      MEMORY_CACHING_TYPE Type)
{
    return MmAllocateContiguousMemorySpecifyCache(Bytes, Pa(Lowest), Pa(Highest), Pa(Boundary),
                                                  Type);
}

// Every page of a block, as an independent walker sees it, and the frames' aliases.
static VOID CheckBlock(PVOID Va, SIZE_T Bytes, MI_ACCESS Access, MI_CACHE_TYPE Type)
{
    const PFN_NUMBER FirstPfn = FirstPfnOf(Va);
    CHECK(Va != NULL && BYTE_OFFSET(Va) == 0);
    for (PFN_NUMBER Page = 0; Page < BYTES_TO_PAGES(Bytes); Page += 1) {
        const PFN_NUMBER Pfn = FirstPfn + Page;
        CHECK_PAGE((ULONG_PTR)Va + PAGES(Page), Pfn, Access, Type);
        CHECK_EQUAL(MiPfnState(Pfn), MiPfnDriver);
        CHECK_EQUAL(FakeWalk((ULONG_PTR)MiFrameToVa(Pfn)).Level != 0, Type == MiCacheWriteBack);
    }
    HostAudit();
}

static const struct {
    MEMORY_CACHING_TYPE Type;
    MI_CACHE_TYPE Expected;
} Types[] = {
    {MmNonCached, MiCacheUncached},
    {MmCached, MiCacheWriteBack},
    {MmWriteCombined, MiCacheWriteCombined},
    {MmHardwareCoherentCached, MiCacheWriteBack},
    {MmNonCachedUnordered, MiCacheUncached},
    {MmUSWCCached, MiCacheWriteCombined},
    {(MEMORY_CACHING_TYPE)0x102, MiCacheWriteCombined},
};

static VOID A_block_is_adjacent_aligned_and_of_its_type_only(VOID)
{
    MM_MEMORY_USE Before;
    for (ULONG Row = 0; Row < ARRAYSIZE(Types); Row += 1) {
        for (SIZE_T Bytes = 1; Bytes < 20 * PAGE_SIZE; Bytes = Bytes * 5 + 7) {
            MmQueryMemoryUse(&Before);
            const PVOID Va = Allocate(Bytes, 0, MAXULONG64, 0, Types[Row].Type);
            CheckBlock(Va, Bytes, MiAccessReadWrite, Types[Row].Expected);
            memset(Va, 0x5A, Bytes);
            MmFreeContiguousMemory(Va);
            HostCheckSameUse(&Before, "a block");
            HostAudit();
        }
    }
}

static VOID The_simple_form_is_cached(VOID)
{
    const PVOID Va = MmAllocateContiguousMemory(3 * PAGE_SIZE, Pa(0x2000FFF));
    CheckBlock(Va, 3 * PAGE_SIZE, MiAccessReadWrite, MiCacheWriteBack);
    CHECK(FirstPfnOf(Va) + 2 <= 0x2000);
    MmFreeContiguousMemorySpecifyCache(Va, 3 * PAGE_SIZE, MmCached);
}

static VOID Every_byte_lies_within_the_limits_which_belong_to_it(VOID)
{
    // Just these three pages.
    PVOID Va = Allocate(3 * PAGE_SIZE, 0x2000000, 0x2002FFF, 0, MmCached);
    CHECK_EQUAL(FirstPfnOf(Va), 0x2000);
    CHECK(Allocate(1, 0x2000000, 0x2002FFF, 0, MmCached) == NULL); // taken
    HostCheckRefusal("no pool, frames or system addresses left");
    MmFreeContiguousMemory(Va);
    // One byte less: no room. A request of fewer bytes than pages does not need the rest.
    CHECK(Allocate(3 * PAGE_SIZE, 0x2000000, 0x2002FFE, 0, MmCached) == NULL);
    CHECK(Allocate(3 * PAGE_SIZE, 0x2000001, 0x2002FFF, 0, MmCached) == NULL);
    Va = Allocate(2 * PAGE_SIZE + 5, 0x2000000, 0x2002004, 0, MmCached);
    CHECK_EQUAL(FirstPfnOf(Va), 0x2000);
    MmFreeContiguousMemory(Va);
    CHECK(Allocate(2 * PAGE_SIZE + 5, 0x2000000, 0x2002003, 0, MmCached) == NULL);
    Va = Allocate(PAGE_SIZE, 0x100000000, MAXULONG64, 0, MmCached);
    CHECK(FirstPfnOf(Va) >= 0x100000);
    MmFreeContiguousMemory(Va);
}

static VOID No_block_crosses_the_boundary(VOID)
{
    for (ULONG64 Boundary = 4 * PAGE_SIZE; Boundary <= 64 * PAGE_SIZE; Boundary *= 2) {
        PVOID Blocks[40];
        for (ULONG Index = 0; Index < ARRAYSIZE(Blocks); Index += 1) {
            Blocks[Index] = Allocate(3 * PAGE_SIZE - 1, 0x2000000, MAXULONG64, Boundary,
                                     Index % 2 == 0 ? MmCached : MmNonCached);
            const ULONG64 First = PAGES(FirstPfnOf(Blocks[Index]));
            CHECK(First != 0 && First / Boundary == (First + 3 * PAGE_SIZE - 2) / Boundary);
        }
        HostAudit();
        for (ULONG Index = 0; Index < ARRAYSIZE(Blocks); Index += 1) {
            MmFreeContiguousMemory(Blocks[Index]);
        }
    }
    // As large as the boundary: aligned to it.
    const PVOID Va = Allocate(16 * PAGE_SIZE, 0x2001000, MAXULONG64, 16 * PAGE_SIZE, MmCached);
    CHECK_EQUAL(FirstPfnOf(Va) % 16, 0);
    MmFreeContiguousMemory(Va);
}

static VOID CheckRefused(SIZE_T Bytes, ULONG64 Lowest, ULONG64 Highest, ULONG64 Boundary,
                         MEMORY_CACHING_TYPE Type, const CHAR *Words)
{
    CHECK(Allocate(Bytes, Lowest, Highest, Boundary, Type) == NULL);
    HostCheckRefusal(Words);
    HostCheckRefusal("MmAllocateContiguousMemorySpecifyCache");
}

static VOID What_no_machine_has_is_refused_in_words(VOID)
{
    const CHAR *const Limits = "no address satisfies these limits";
    const CHAR *const Resources = "no pool, frames or system addresses left";
    CheckRefused(0, 0, MAXULONG64, 0, MmCached, "zero bytes");
    CheckRefused(1, 2, 1, 0, MmCached, Limits);
    CheckRefused(1, 0x1001, 0x1FFF, 0, MmCached, Limits);
    CheckRefused(2, 0, 0, 0, MmCached, Limits);
    CheckRefused(1, 0, MAXULONG64, 3 * PAGE_SIZE, MmCached, Limits);
    CheckRefused(1, 0, MAXULONG64, 2048, MmCached, Limits);
    CheckRefused(2 * PAGE_SIZE, 0, MAXULONG64, PAGE_SIZE, MmCached, Limits);
    CheckRefused(1, MAXULONG64, MAXULONG64, 0, MmCached, Limits);
    CheckRefused(1, FAKE_IO_HIGH, MAXULONG64, 0, MmCached, Limits);
    CheckRefused(1, FAKE_IO_LOW, FAKE_IO_LOW + MIB, 0, MmCached, Resources);
    CheckRefused(80 * MIB, 0, MAXULONG64, 0, MmCached, Resources);
    CheckRefused(MAXULONG64, 0, MAXULONG64, 0, MmNonCached, Resources);
    CheckRefused(1, 0, MAXULONG64, 0, MmMaximumCacheType, "no such cache type");
    CheckRefused(1, 0, MAXULONG64, 0, MmNotMapped, "no such cache type");
}

static VOID Nodes_are_one(VOID)
{
    static const struct {
        NODE_REQUIREMENT Node;
        BOOLEAN IsThere;
    } Rows[] = {{0, TRUE},
                {1, FALSE},
                {0x7FFFFFFF, FALSE},
                {MM_ANY_NODE_OK, TRUE},
                {MM_ANY_NODE_OK | 3, TRUE}};
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        const PVOID Va = MmAllocateContiguousMemorySpecifyCacheNode(1, Pa(0), ANY, Pa(0), MmCached,
                                                                    Rows[Row].Node);
        const PVOID Other =
            MmAllocateContiguousNodeMemory(1, Pa(0), ANY, Pa(0), PAGE_READWRITE, Rows[Row].Node);
        CHECK_EQUAL(Va != NULL, Rows[Row].IsThere);
        CHECK_EQUAL(Other != NULL, Rows[Row].IsThere);
        if (Va != NULL) {
            MmFreeContiguousMemory(Va);
            MmFreeContiguousMemory(Other);
        } else {
            HostCheckRefusal("there is one node");
        }
    }
}

static const struct {
    ULONG Protect;
    MI_ACCESS Access; // MiAccessCount: refused
    MI_CACHE_TYPE Type;
} Protections[] = {
    {PAGE_READWRITE, MiAccessReadWrite, MiCacheWriteBack},
    {PAGE_READWRITE | PAGE_NOCACHE, MiAccessReadWrite, MiCacheUncached},
    {PAGE_READWRITE | PAGE_WRITECOMBINE, MiAccessReadWrite, MiCacheWriteCombined},
    {PAGE_EXECUTE_READWRITE, MiAccessExecuteReadWrite, MiCacheWriteBack},
    {PAGE_EXECUTE_READWRITE | PAGE_NOCACHE, MiAccessExecuteReadWrite, MiCacheUncached},
    {PAGE_EXECUTE_READWRITE | PAGE_WRITECOMBINE, MiAccessExecuteReadWrite, MiCacheWriteCombined},
    {PAGE_READWRITE | PAGE_NOCACHE | PAGE_WRITECOMBINE, MiAccessCount, 0},
    {PAGE_READONLY, MiAccessCount, 0},
    {PAGE_EXECUTE, MiAccessCount, 0},
    {PAGE_EXECUTE_READ, MiAccessCount, 0},
    {PAGE_NOACCESS, MiAccessCount, 0},
    {PAGE_READWRITE | PAGE_GUARD, MiAccessCount, 0},
    {0, MiAccessCount, 0},
};

static VOID A_protection_is_what_the_pages_get(VOID)
{
    for (ULONG Row = 0; Row < ARRAYSIZE(Protections); Row += 1) {
        const PVOID Va = MmAllocateContiguousNodeMemory(5 * PAGE_SIZE, Pa(0), ANY, Pa(0),
                                                        Protections[Row].Protect, 0);
        CHECK_EQUAL(Va != NULL, Protections[Row].Access != MiAccessCount);
        if (Va != NULL) {
            CheckBlock(Va, 5 * PAGE_SIZE, Protections[Row].Access, Protections[Row].Type);
            MmFreeContiguousMemory(Va);
        } else {
            HostCheckRefusal("no such protection");
        }
    }
    HostAudit();
}

static NTSTATUS AllocateEx(PSIZE_T Bytes, NODE_REQUIREMENT Node, ULONG Protect, PVOID Partition,
                           ULONG Flags, PVOID *Va)
{
    return MmAllocateContiguousMemoryEx(Bytes, Pa(0), ANY, Pa(0), Node, Protect, Partition, TAG,
                                        Flags, Va);
}

static VOID The_extended_form_tells_size_and_status(VOID)
{
    PVOID Va;
    SIZE_T Bytes = 2 * PAGE_SIZE + 1;
    CHECK_EQUAL(AllocateEx(&Bytes, 0, PAGE_READWRITE | PAGE_WRITECOMBINE, NULL,
                           MM_ALLOCATE_CONTIGUOUS_MEMORY_FAST_ONLY, &Va),
                STATUS_SUCCESS);
    CHECK_EQUAL(Bytes, 3 * PAGE_SIZE);
    CheckBlock(Va, Bytes, MiAccessReadWrite, MiCacheWriteCombined);
    MmFreeContiguousMemorySpecifyCache(Va, 3 * PAGE_SIZE, MmWriteCombined);

    static const struct {
        SIZE_T Bytes;
        NODE_REQUIREMENT Node;
        ULONG Protect;
        PVOID Partition;
        ULONG Flags;
        NTSTATUS Status;
    } Rows[] = {
        {0, 0, PAGE_READWRITE, NULL, 0, STATUS_INVALID_PARAMETER},
        {1, 1, PAGE_READWRITE, NULL, 0, STATUS_INVALID_PARAMETER},
        {1, 0, PAGE_READWRITE, (PVOID)1, 0, STATUS_INVALID_PARAMETER},
        {1, 0, PAGE_READWRITE, NULL, 2, STATUS_INVALID_PARAMETER},
        {1, 0, PAGE_READONLY, NULL, 0, STATUS_INVALID_PAGE_PROTECTION},
        {MAXULONG64, 0, PAGE_READWRITE, NULL, 0, STATUS_INVALID_PARAMETER},
        {1ull << 40, 0, PAGE_READWRITE, NULL, 0, STATUS_INSUFFICIENT_RESOURCES},
    };
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        Bytes = Rows[Row].Bytes;
        Va = &Bytes;
        CHECK_EQUAL(AllocateEx(&Bytes, Rows[Row].Node, Rows[Row].Protect, Rows[Row].Partition,
                               Rows[Row].Flags, &Va),
                    Rows[Row].Status);
        CHECK(Va == NULL && Bytes == Rows[Row].Bytes);
        HostCheckRefusal("MmAllocateContiguousMemoryEx");
    }
}

static VOID A_fast_search_gives_up_where_a_slow_one_goes_on(VOID)
{
    // RAM begins at 4 GiB; the fast search looks at 256 MiB from the lowest address on.
    PVOID Va;
    SIZE_T Bytes = PAGE_SIZE;
    const ULONG64 Lowest = 0x100000000ull - 0x10000000ull;
    CHECK_EQUAL(MmAllocateContiguousMemoryEx(&Bytes, Pa(Lowest), ANY, Pa(0), 0, PAGE_READWRITE,
                                             NULL, TAG, MM_ALLOCATE_CONTIGUOUS_MEMORY_FAST_ONLY,
                                             &Va),
                STATUS_INSUFFICIENT_RESOURCES);
    CHECK_EQUAL(MmAllocateContiguousMemoryEx(&Bytes, Pa(Lowest), ANY, Pa(0), 0, PAGE_READWRITE,
                                             NULL, TAG, 0, &Va),
                STATUS_SUCCESS);
    MmFreeContiguousMemory(Va);
    // A window that is small anyway is looked at as a whole.
    CHECK_EQUAL(MmAllocateContiguousMemoryEx(&Bytes, Pa(0x2000000), Pa(0x2000FFF), Pa(0), 0,
                                             PAGE_READWRITE, NULL, TAG,
                                             MM_ALLOCATE_CONTIGUOUS_MEMORY_FAST_ONLY, &Va),
                STATUS_SUCCESS);
    MmFreeContiguousMemory(Va);
}

static VOID It_may_be_locked_described_and_mapped(VOID)
{
    for (ULONG Row = 0; Row < 3; Row += 1) {
        const PVOID Va = Allocate(3 * PAGE_SIZE, 0, MAXULONG64, 0, Types[Row].Type);
        const PMDL Mdl = IoAllocateMdl((PUCHAR)Va + 0x123, 2 * PAGE_SIZE, FALSE, FALSE, NULL);
        MmProbeAndLockPages(Mdl, KernelMode, IoWriteAccess);
        CHECK_EQUAL(MmGetMdlPfnArray(Mdl)[0], FirstPfnOf(Va));
        const PVOID Mapped = MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmCached, NULL, FALSE,
                                                          NormalPagePriority);
        CHECK_PAGE(Mapped, FirstPfnOf(Va), MiAccessReadWrite, Types[Row].Expected); // its own type
        const PVOID Io = MmMapIoSpace(MmGetPhysicalAddress(Va), PAGE_SIZE, MmCached);
        CHECK_PAGE(Io, FirstPfnOf(Va), MiAccessReadWrite, Types[Row].Expected);
        HostAudit();
        MmUnmapIoSpace(Io, PAGE_SIZE);
        MmUnlockPages(Mdl);
        IoFreeMdl(Mdl);
        MmFreeContiguousMemory(Va);
    }
}

static VOID DISPATCH_LEVEL_is_allowed(VOID)
{
    FakeIrql = DISPATCH_LEVEL;
    const PVOID Va = Allocate(3 * PAGE_SIZE, 0, MAXULONG64, 0, MmNonCached);
    CHECK(Va != NULL);
    MmFreeContiguousMemory(Va);
    FakeIrql = PASSIVE_LEVEL;
}

//
// Misuse.
//

static VOID CheckBadFree(PVOID Va)
{
    EXPECT_BUG_CHECK(MmFreeContiguousMemory(Va));
    CHECK_BUG_CHECK(BAD_POOL_CALLER, 0x60, (ULONG_PTR)Va, 0, 0);
    EXPECT_BUG_CHECK(MmFreeContiguousMemorySpecifyCache(Va, PAGE_SIZE, MmCached));
    CHECK_BUG_CHECK(BAD_POOL_CALLER, 0x60, (ULONG_PTR)Va, 0, 0);
}

static VOID What_is_no_block_cannot_be_freed(VOID)
{
    const PVOID Pool = ExAllocatePool2(POOL_FLAG_NON_PAGED, PAGE_SIZE, TAG);
    const PVOID Va = Allocate(3 * PAGE_SIZE, 0, MAXULONG64, 0, MmNonCached);
    const PVOID NonCached = MmAllocateNonCachedMemory(PAGE_SIZE);
    CheckBadFree(NULL);
    CheckBadFree(Pool);
    CheckBadFree(NonCached);
    CheckBadFree((PUCHAR)Va + 1);
    CheckBadFree((PUCHAR)Va + PAGE_SIZE);
    CHECK(strstr(FakeBugCheck.Sentence, "not where a block") != NULL);
    MmFreeContiguousMemory(Va);
    CheckBadFree(Va);
    CHECK(strstr(FakeBugCheck.Sentence, "freed already") != NULL);
}

static VOID Size_and_type_must_be_those_of_the_allocation(VOID)
{
    const PVOID Va = Allocate(PAGE_SIZE + 1, 0, MAXULONG64, 0, MmNonCached);
    EXPECT_BUG_CHECK(MmFreeContiguousMemorySpecifyCache(Va, PAGE_SIZE, MmNonCached));
    CHECK_BUG_CHECK(BAD_POOL_CALLER, 0x60, (ULONG_PTR)Va, PAGE_SIZE, PAGE_SIZE + 1);
    EXPECT_BUG_CHECK(MmFreeContiguousMemorySpecifyCache(Va, PAGE_SIZE + 1, MmWriteCombined));
    CHECK_BUG_CHECK(BAD_POOL_CALLER, 0x60, (ULONG_PTR)Va, MmWriteCombined, MiCacheUncached);
    EXPECT_BUG_CHECK(MmFreeContiguousMemorySpecifyCache(Va, PAGE_SIZE + 1, MmMaximumCacheType));
    CHECK_BUG_CHECK(BAD_POOL_CALLER, 0x60, (ULONG_PTR)Va, MmMaximumCacheType, MiCacheUncached);
    MmFreeContiguousMemorySpecifyCache(Va, PAGE_SIZE + 1, MmNonCachedUnordered); // uncached, too
}

static VOID What_others_still_use_cannot_be_freed(VOID)
{
    const PVOID Va = Allocate(2 * PAGE_SIZE, 0, MAXULONG64, 0, MmCached);
    const PFN_NUMBER Pfn = FirstPfnOf(Va) + 1;
    const PMDL Mdl = IoAllocateMdl((PUCHAR)Va + PAGE_SIZE, PAGE_SIZE, FALSE, FALSE, NULL);
    MmProbeAndLockPages(Mdl, KernelMode, IoReadAccess);
    EXPECT_BUG_CHECK(MmFreeContiguousMemory(Va));
    CHECK_BUG_CHECK(PFN_LIST_CORRUPT, 0x9A, Pfn, MiPfnDriver, 1);
    MmUnlockPages(Mdl);
    const PVOID Io = MmMapIoSpace(Pa(PAGES(Pfn)), 1, MmCached);
    EXPECT_BUG_CHECK(MmFreeContiguousMemory(Va));
    CHECK_BUG_CHECK(PFN_LIST_CORRUPT, 0x9A, Pfn, MiPfnDriver, 1);
    MmUnmapIoSpace(Io, 1);
    MmFreeContiguousMemory(Va);
    IoFreeMdl(Mdl);
    HostAudit();
}

//
// What is left, and what is in it.
//

static VOID CountBlock(const MI_BLOCK *Block, PVOID Context)
{
    ULONG64 *Bytes = Context;
    CHECK(Block->Caller != NULL);
    *Bytes += Block->ByteCount;
}

static VOID Blocks_are_listed_with_their_callers(VOID)
{
    ULONG64 Bytes = 0;
    const PVOID One = Allocate(100, 0, MAXULONG64, 0, MmCached);
    const PVOID Two = MmAllocateNonCachedMemory(7000);
    MiEnumerateBlocks(CountBlock, &Bytes);
    CHECK_EQUAL(Bytes, 7100);
    CHECK_EQUAL(MiBlockCount(), 2);
    CHECK_EQUAL(MiBlockPageCount(MiFindBlockAround(Two)), 2);
    CHECK(MiFindBlock(MiBlockContiguous, One) != NULL);
    CHECK(MiFindBlock(MiBlockNonCached, One) == NULL);
    MmFreeContiguousMemory(One);
    MmFreeNonCachedMemory(Two, 7000);
    CHECK_EQUAL(MiBlockCount(), 0);
}

static VOID At_level_1_contents_are_nobodys(VOID)
{
    MmVerifierLevel = 1;
    for (ULONG Row = 0; Row < 3; Row += 1) {
        const PUCHAR Va = Allocate(2 * PAGE_SIZE, 0, MAXULONG64, 0, Types[Row].Type);
        ULONG Different = 0;
        for (ULONG Index = 1; Index < 2 * PAGE_SIZE; Index += 1) {
            Different += Va[Index] != Va[Index - 1];
        }
        CHECK(Different > PAGE_SIZE);
        MmFreeContiguousMemory(Va);
    }
    MmVerifierLevel = 0;
}

static VOID CheckAboveDispatch(VOID (*Call)(PVOID Va), PVOID Va)
{
    FakeIrql = DISPATCH_LEVEL + 1;
    EXPECT_BUG_CHECK(Call(Va));
    CHECK_EQUAL(FakeBugCheck.Code, DRIVER_VERIFIER_DETECTED_VIOLATION);
    CHECK_EQUAL(FakeBugCheck.Parameters[0], 0x2001A);
}

static VOID CallSpecifyCache(PVOID Va)
{
    UNREFERENCED_PARAMETER(Va);
    Ignore(Allocate(1, 0, MAXULONG64, 0, MmCached));
}

static VOID CallNodeMemory(PVOID Va)
{
    UNREFERENCED_PARAMETER(Va);
    Ignore(MmAllocateContiguousNodeMemory(1, Pa(0), ANY, Pa(0), PAGE_READWRITE, 0));
}

static VOID CallEx(PVOID Va)
{
    SIZE_T Bytes = 1;
    (VOID) !AllocateEx(&Bytes, 0, PAGE_READWRITE, NULL, 0, &Va);
}

static VOID CallFree(PVOID Va)
{
    MmFreeContiguousMemory(Va);
}

static VOID CallFreeSpecifyCache(PVOID Va)
{
    MmFreeContiguousMemorySpecifyCache(Va, PAGE_SIZE, MmCached);
}

static VOID At_level_1_the_IRQL_of_contiguous_memory_is_checked(VOID)
{
    MmVerifierLevel = 1;
    const PVOID Va = MmAllocateContiguousMemory(PAGE_SIZE, ANY);
    CheckAboveDispatch(CallSpecifyCache, NULL);
    CheckAboveDispatch(CallNodeMemory, NULL);
    CheckAboveDispatch(CallEx, NULL);
    CheckAboveDispatch(CallFree, Va);
    CheckAboveDispatch(CallFreeSpecifyCache, Va);
    FakeIrql = PASSIVE_LEVEL;
    MmFreeContiguousMemory(Va);
}

static const HOST_TEST Tests[] = {
    HOST_ROW(A_block_is_adjacent_aligned_and_of_its_type_only,
             "contract 8.1.1, 8.1.5, 8.1.7, 12.2.6, A1", &FakeMachineMax),
    HOST_ROW(The_simple_form_is_cached, "contract 8.1.2, 8.1.12", &FakeMachineMax),
    HOST_ROW(Every_byte_lies_within_the_limits_which_belong_to_it, "contract 8.1.2, 18.24",
             &FakeMachineMax),
    HOST_ROW(No_block_crosses_the_boundary, "contract 8.1.3, 18.24", &FakeMachineMax),
    HOST_ROW(What_no_machine_has_is_refused_in_words, "contract 8.1.4, 8.1.10", &FakeMachineMax),
    HOST_ROW(Nodes_are_one, "contract 8.1.8", &FakeMachineMax),
    HOST_ROW(A_protection_is_what_the_pages_get, "contract 8.1.6", &FakeMachineMax),
    HOST_ROW(The_extended_form_tells_size_and_status, "contract 8.1.9", &FakeMachineMax),
    HOST_ROW(A_fast_search_gives_up_where_a_slow_one_goes_on, "contract 8.1.9", &FakeMachineMax),
    HOST_ROW(It_may_be_locked_described_and_mapped, "contract 12.2.5, 12.2.10", &FakeMachineMax),
    HOST_ROW(DISPATCH_LEVEL_is_allowed, "contract 8.1.13", &FakeMachineMax),
    HOST_ROW(What_is_no_block_cannot_be_freed, "contract 8.1.11, 0xC2/0x60, 18.24",
             &FakeMachineMax),
    HOST_ROW(Size_and_type_must_be_those_of_the_allocation, "contract 8.1.12", &FakeMachineMax),
    HOST_ROW(What_others_still_use_cannot_be_freed, "contract 0x4E/0x9A", &FakeMachineMax),
    HOST_ROW(Blocks_are_listed_with_their_callers, "mi.h, MiEnumerateBlocks", &FakeMachineMax),
    HOST_ROW(At_level_1_the_IRQL_of_contiguous_memory_is_checked, "contract 0xC4/0x2001A",
             &FakeMachineMax),
    HOST_ROW(At_level_1_contents_are_nobodys, "contract 14.5", &FakeMachineMax),
};

HOST_DEFINE_SUITE(contiguous);
