// The nonpaged pool.
#include "tests/host/host.h"
#include "tests/host/random.h"

#define TAG 'tseT'
#define NON_PAGED POOL_FLAG_NON_PAGED

static VOID Every_size_is_aligned_zeroed_and_usable_to_its_last_byte(VOID)
{
    for (SIZE_T ByteCount = 1; ByteCount < 20000; ByteCount += ByteCount < 5000 ? 1 : 997) {
        const PUCHAR Block = ExAllocatePool2(NON_PAGED, ByteCount, TAG);
        const ULONG Alignment = ByteCount >= PAGE_SIZE ? PAGE_SIZE : 16;
        CHECK(Block != NULL && (ULONG_PTR)Block % Alignment == 0);
        CHECK(ByteCount >= PAGE_SIZE || BYTE_OFFSET(Block) + ByteCount <= PAGE_SIZE);
        CHECK(Block[0] == 0 && Block[ByteCount / 2] == 0 && Block[ByteCount - 1] == 0);
        memset(Block, 0xA5, ByteCount);
        ExFreePoolWithTag(Block, TAG);
    }
}

static VOID Cache_aligned_blocks_begin_on_a_cache_line(VOID)
{
    PVOID Blocks[200];
    for (ULONG Index = 0; Index < ARRAYSIZE(Blocks); Index += 1) {
        Blocks[Index] = ExAllocatePool2(NON_PAGED | POOL_FLAG_CACHE_ALIGNED, 1 + Index * 23, TAG);
        CHECK(Blocks[Index] != NULL && (ULONG_PTR)Blocks[Index] % 64 == 0);
    }
    for (ULONG Index = 0; Index < ARRAYSIZE(Blocks); Index += 1) {
        ExFreePool(Blocks[Index]);
    }
    const PVOID Old = ExAllocatePoolWithTag(NonPagedPoolNxCacheAligned, 100, TAG);
    CHECK((ULONG_PTR)Old % 64 == 0);
    ExFreePool(Old);
}

static VOID Live_blocks_never_overlap(VOID)
{
    static struct {
        PUCHAR Block;
        SIZE_T ByteCount;
        UCHAR Fill;
    } Blocks[300];
    RANDOM Random = RandomStart(5);
    for (ULONG Step = 0; Step < 60000; Step += 1) {
        const ULONG Index = (ULONG)RandomBelow(&Random, ARRAYSIZE(Blocks));
        if (Blocks[Index].Block != NULL) {
            for (SIZE_T Byte = 0; Byte < Blocks[Index].ByteCount; Byte += 7) {
                CHECK_EQUAL(Blocks[Index].Block[Byte], Blocks[Index].Fill);
            }
            ExFreePool(Blocks[Index].Block);
            Blocks[Index].Block = NULL;
            continue;
        }
        Blocks[Index].ByteCount = 1 + RandomBelow(&Random, RandomOneIn(&Random, 20) ? 9000 : 600);
        Blocks[Index].Fill = (UCHAR)Step;
        Blocks[Index].Block = ExAllocatePool2(NON_PAGED, Blocks[Index].ByteCount, TAG);
        CHECK(Blocks[Index].Block != NULL);
        memset(Blocks[Index].Block, (UCHAR)Step, Blocks[Index].ByteCount);
    }
    for (ULONG Index = 0; Index < ARRAYSIZE(Blocks); Index += 1) {
        if (Blocks[Index].Block != NULL) {
            ExFreePool(Blocks[Index].Block);
        }
    }
}

static VOID Flags_that_are_unknown_or_exclude_each_other_return_NULL(VOID)
{
    static const POOL_FLAGS Illegal[] = {0,
                                         POOL_FLAG_UNINITIALIZED,
                                         NON_PAGED | POOL_FLAG_NON_PAGED_EXECUTE,
                                         NON_PAGED | POOL_FLAG_PAGED,
                                         NON_PAGED | POOL_FLAG_RESERVED1,
                                         NON_PAGED | 0x800,
                                         NON_PAGED | 0x80000000};
    for (ULONG Row = 0; Row < ARRAYSIZE(Illegal); Row += 1) {
        CHECK(ExAllocatePool2(Illegal[Row], 16, TAG) == NULL);
        HostCheckRefusal("flags");
    }
    CHECK(ExAllocatePool2(NON_PAGED, 0, TAG) == NULL);
    HostCheckRefusal("zero bytes");
    CHECK(ExAllocatePool2(NON_PAGED, 16, 0) == NULL);
    HostCheckRefusal("pool tag 0");
    const PVOID Block =
        ExAllocatePool2(NON_PAGED | POOL_FLAG_SPECIAL_POOL | 1ull << 50, 16, TAG); // wishes
    CHECK(Block != NULL);
    ExFreePool(Block);
}

static VOID The_old_routine_allocates_no_bytes_and_zeroes_on_request(VOID)
{
    const PUCHAR Empty = ExAllocatePoolWithTag(NonPagedPoolNx, 0, TAG);
    CHECK(Empty != NULL);
    ExFreePoolWithTag(Empty, TAG);
    for (ULONG Round = 0; Round < 50; Round += 1) {
        const PUCHAR Block =
            ExAllocatePoolWithTag((POOL_TYPE)(NonPagedPoolNx | POOL_ZERO_ALLOCATION), 100, TAG);
        CHECK(Block[0] == 0 && Block[99] == 0);
        memset(Block, 0xFF, 100);
        ExFreePool(Block);
    }
}

static VOID More_than_there_is_returns_NULL(VOID)
{
    MM_MEMORY_USE Before;
    MmQueryMemoryUse(&Before);
    CHECK(ExAllocatePool2(NON_PAGED, MAXULONG64, TAG) == NULL);
    CHECK(ExAllocatePool2(NON_PAGED, 1ull << 45, TAG) == NULL);
    CHECK(ExAllocatePool2(NON_PAGED, 200ull << 20, TAG) == NULL);
    HostCheckSameUse(&Before, "impossible sizes");
}

static VOID The_pool_can_take_nearly_all_of_RAM_and_give_it_back(VOID)
{
    MM_MEMORY_USE Before;
    MmQueryMemoryUse(&Before);
    PVOID *Newest = NULL;
    ULONG Count = 0;
    for (;;) {
        PVOID *Block = ExAllocatePool2(NON_PAGED | POOL_FLAG_UNINITIALIZED,
                                       Count % 2 == 0 ? 100 : 3 * PAGE_SIZE, TAG);
        if (Block == NULL) {
            break;
        }
        *Block = (PVOID)Newest;
        Newest = Block;
        Count += 1;
    }
    CHECK(Count > 1000);
    while (Newest != NULL) {
        PVOID *Next = *Newest;
        ExFreePool(Newest);
        Newest = Next;
    }
    HostCheckSameUse(&Before, "all of RAM as pool");
}

static VOID CheckFree(PVOID Block, ULONG Tag, ULONG Code, ULONG_PTR P1, ULONG_PTR P2, ULONG_PTR P3,
                      ULONG_PTR P4)
{
    EXPECT_BUG_CHECK(ExFreePoolWithTag(Block, Tag));
    CHECK_BUG_CHECK(Code, P1, P2, P3, P4);
}

static VOID Misuse_stops_with_the_documented_codes(VOID)
{
    const PUCHAR Block = ExAllocatePool2(NON_PAGED, 100, TAG);
    const PUCHAR Keeper = ExAllocatePool2(NON_PAGED, 100, TAG); // keeps the page in the pool
    const PUCHAR Page = ExAllocatePool2(NON_PAGED, PAGE_SIZE, TAG);
    const PUCHAR Pages = ExAllocatePool2(NON_PAGED, 3 * PAGE_SIZE, TAG);
    const ULONG_PTR At = (ULONG_PTR)Block;
    const ULONG_PTR SystemStart = MiArchLayout[MiRegionDirectMap].BaseVa;
    CheckFree(Block, 'rehO', BAD_POOL_CALLER, 0x0A, At, TAG, 'rehO');
    CheckFree(Page, 'rehO', BAD_POOL_CALLER, 0x0A, (ULONG_PTR)Page, TAG, 'rehO');
    CheckFree(Block + 8, 0, BAD_POOL_CALLER, 0x99, At + 8, 0, 0);
    CheckFree(Page + 16, 0, BAD_POOL_CALLER, 0x99, (ULONG_PTR)Page + 16, 0, 0);
    CheckFree(Pages + PAGE_SIZE, 0, BAD_POOL_CALLER, 0x99, (ULONG_PTR)Pages + PAGE_SIZE, 0, 0);
    CheckFree((PVOID)0x1000, 0, BAD_POOL_CALLER, 0x40, 0x1000, SystemStart, 0);
    CheckFree((PVOID)0x600000200000, 0, BAD_POOL_CALLER, 0x99, 0x600000200000, 0, 0);
    CheckFree(MiFrameToVa(MiRootPfn), 0, BAD_POOL_CALLER, 0x99, (ULONG_PTR)MiFrameToVa(MiRootPfn),
              0, 0);
    ExFreePool(Block);
    CheckFree(Block, TAG, BAD_POOL_CALLER, 0x07, 0, TAG, At);
    ExFreePool(Page);
    EXPECT_BUG_CHECK(ExFreePool(Page));
    CHECK_EQUAL(FakeBugCheck.Code, BAD_POOL_CALLER);
    ExFreePool(Pages);
    Keeper[-4] ^= 1; // the header before the block
    EXPECT_BUG_CHECK(ExFreePool(Keeper));
    CHECK_EQUAL(FakeBugCheck.Code, BAD_POOL_HEADER);
    CHECK_EQUAL(FakeBugCheck.Parameters[0], 0x20);
    CHECK_EQUAL(FakeBugCheck.Parameters[2], (ULONG_PTR)Keeper);
    Keeper[-4] ^= 1;
    ExFreePool(Keeper);
}

static VOID Bad_tags_and_types_stop_with_the_documented_codes(VOID)
{
    EXPECT_BUG_CHECK(Ignore(ExAllocatePoolWithTag(NonPagedPoolNx, 100, 0)));
    CHECK_EQUAL(FakeBugCheck.Code, BAD_POOL_CALLER);
    CHECK(FakeBugCheck.Parameters[0] == 0x9B && FakeBugCheck.Parameters[1] == NonPagedPoolNx &&
          FakeBugCheck.Parameters[2] == 100 && FakeBugCheck.Parameters[3] != 0);
    EXPECT_BUG_CHECK(Ignore(ExAllocatePoolWithTag(NonPagedPoolNx, 100, ' GIB')));
    CHECK_EQUAL(FakeBugCheck.Parameters[0], 0x9C);
    EXPECT_BUG_CHECK(Ignore(ExAllocatePoolWithTag(NonPagedPoolNx, 100, 0x41424301)));
    CHECK_EQUAL(FakeBugCheck.Parameters[0], 0x9D);
    EXPECT_BUG_CHECK(Ignore(ExAllocatePoolWithTag(NonPagedPoolMustSucceed, 100, TAG)));
    CHECK_BUG_CHECK(BAD_POOL_CALLER, 0x9A, NonPagedPoolMustSucceed, 100, TAG);
}

static VOID The_pool_is_for_DISPATCH_LEVEL_and_below(VOID)
{
    const PVOID Block = ExAllocatePool2(NON_PAGED, 100, TAG);
    FakeIrql = DISPATCH_LEVEL + 1;
    EXPECT_BUG_CHECK(Ignore(ExAllocatePool2(NON_PAGED, 100, TAG)));
    CHECK_BUG_CHECK(BAD_POOL_CALLER, 0x08, DISPATCH_LEVEL + 1, NON_PAGED, 100);
    FakeIrql = HIGH_LEVEL;
    EXPECT_BUG_CHECK(ExFreePool(Block));
    CHECK_BUG_CHECK(BAD_POOL_CALLER, 0x09, HIGH_LEVEL, NonPagedPool, (ULONG_PTR)Block);
    FakeIrql = DISPATCH_LEVEL;
    ExFreePoolWithTag(Block, 0);
    FakeIrql = PASSIVE_LEVEL;
}

static VOID Raising_on_failure_stops_the_machine(VOID)
{
    MmStartFailures(MM_FAIL_POOL, 0, MAXULONG);
    EXPECT_BUG_CHECK(Ignore(ExAllocatePool2(NON_PAGED | POOL_FLAG_RAISE_ON_FAILURE, 100, TAG)));
    CHECK_EQUAL(FakeBugCheck.Code, KMODE_EXCEPTION_NOT_HANDLED);
    CHECK_EQUAL((NTSTATUS)FakeBugCheck.Parameters[0], STATUS_INSUFFICIENT_RESOURCES);
    EXPECT_BUG_CHECK(Ignore(ExAllocatePoolWithTag(
        (POOL_TYPE)(NonPagedPoolNx | POOL_RAISE_IF_ALLOCATION_FAILURE), 100, TAG)));
    CHECK_EQUAL(FakeBugCheck.Code, KMODE_EXCEPTION_NOT_HANDLED);
    CHECK(ExAllocatePool2(NON_PAGED, 100, TAG) == NULL);
    MmStopFailures();
}

static const HOST_TEST Tests[] = {
    HOST_ROW(Every_size_is_aligned_zeroed_and_usable_to_its_last_byte,
             "contract 8.3, alignment, zeroing", &FakeMachineMax),
    HOST_ROW(Cache_aligned_blocks_begin_on_a_cache_line, "contract 8.3, alignment",
             &FakeMachineMax),
    HOST_ROW(Live_blocks_never_overlap, "pool.c, B1-B3", &FakeMachineMax),
    HOST_ROW(Flags_that_are_unknown_or_exclude_each_other_return_NULL, "contract 2.8, 8.3",
             &FakeMachineMax),
    HOST_ROW(The_old_routine_allocates_no_bytes_and_zeroes_on_request, "contract 8.3, n = 0",
             &FakeMachineMax),
    HOST_ROW(More_than_there_is_returns_NULL, "contract 8.3", &FakeMachineMax),
    HOST_ROW(The_pool_can_take_nearly_all_of_RAM_and_give_it_back, "contract 8.3",
             &FakeMachineQemu64),
    HOST_ROW(Misuse_stops_with_the_documented_codes, "contract 13.5", &FakeMachineMax),
    HOST_ROW(Bad_tags_and_types_stop_with_the_documented_codes, "contract 8.3, 13.5",
             &FakeMachineMax),
    HOST_ROW(The_pool_is_for_DISPATCH_LEVEL_and_below, "contract 8.3, IRQL", &FakeMachineMax),
    HOST_ROW(Raising_on_failure_stops_the_machine, "contract 8.3, raise", &FakeMachineMax),
};

HOST_DEFINE_SUITE(pool);
