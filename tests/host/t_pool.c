// The pool.
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
    CheckFree(MiFrameToVa(MiRootPfn), 0, BAD_POOL_CALLER, 0x41, (ULONG_PTR)MiFrameToVa(MiRootPfn),
              MiRootPfn, MiHighestRamPfn());
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

static NTSTATUS StatusRaisedBy(POOL_TYPE Type, BOOLEAN HasTag)
{
    KmTry {
        Ignore(HasTag ? ExAllocatePoolWithQuotaTag(Type, 100, TAG)
                      : ExAllocatePoolWithQuota(Type, 100));
    }
    KmCatch (Status) {
        return Status;
    }
    return STATUS_SUCCESS;
}

static VOID Quota_variants_raise_unless_told_otherwise(VOID)
{
    const POOL_TYPE Quiet = (POOL_TYPE)(NonPagedPoolNx | POOL_QUOTA_FAIL_INSTEAD_OF_RAISE);
    const PVOID Block = ExAllocatePoolWithQuotaTag(NonPagedPoolNx, 100, TAG);
    const PVOID Untagged = ExAllocatePoolWithQuota(Quiet, 100);
    CHECK(Block != NULL && Untagged != NULL);
    ExFreePoolWithTag(Block, TAG);
    ExFreePoolWithTag(Untagged, 'enoN');
    MmStartFailures(MM_FAIL_POOL, 0, MAXULONG);
    for (ULONG HasTag = 0; HasTag < 2; HasTag += 1) {
        CHECK_EQUAL(StatusRaisedBy(NonPagedPoolNx, HasTag), STATUS_INSUFFICIENT_RESOURCES);
        CHECK_EQUAL(StatusRaisedBy(Quiet, HasTag), STATUS_SUCCESS);
    }
    CHECK(ExAllocatePoolWithQuotaTag(Quiet, 100, TAG) == NULL);
    CHECK(ExAllocatePoolWithQuota(Quiet, 100) == NULL);
    MmStopFailures();
}

static NTSTATUS StatusOfFlags(POOL_FLAGS Flags, SIZE_T ByteCount, ULONG Tag)
{
    KmTry {
        Ignore(ExAllocatePool2(Flags | POOL_FLAG_RAISE_ON_FAILURE, ByteCount, Tag));
    }
    KmCatch (Status) {
        return Status;
    }
    return STATUS_SUCCESS;
}

static VOID A_failure_that_must_raise_can_be_handled(VOID)
{
    CHECK_EQUAL(StatusOfFlags(NON_PAGED, 100, 0), STATUS_INVALID_PARAMETER);
    CHECK_EQUAL(StatusOfFlags(NON_PAGED, 0, TAG), STATUS_INVALID_PARAMETER);
    CHECK_EQUAL(StatusOfFlags(0, 100, TAG), STATUS_INVALID_PARAMETER);
    CHECK_EQUAL(StatusOfFlags(NON_PAGED, 1ull << 45, TAG), STATUS_INSUFFICIENT_RESOURCES);
}

static VOID Every_old_form_gives_a_block(VOID)
{
    PVOID Blocks[] = {
        ExAllocatePool(NonPagedPool, 100),
        ExAllocatePoolWithTagPriority(NonPagedPoolNx, 100, TAG, LowPoolPriority),
        ExAllocatePoolZero(NonPagedPoolNx, 100, TAG),
        ExAllocatePoolUninitialized(PagedPool, 100, TAG),
        ExAllocatePoolQuotaZero(NonPagedPoolNx, 100, TAG),
        ExAllocatePoolQuotaUninitialized(PagedPoolCacheAligned, 100, TAG),
        ExAllocatePoolPriorityZero(NonPagedPoolNx, 100, TAG, HighPoolPriority),
        ExAllocatePoolPriorityUninitialized(NonPagedPoolNx, 100, TAG, NormalPoolPriority),
    };
    for (ULONG Row = 0; Row < ARRAYSIZE(Blocks); Row += 1) {
        CHECK(Blocks[Row] != NULL);
        CHECK_PAGE(Blocks[Row], FakeWalk((ULONG_PTR)Blocks[Row]).Pfn, MiAccessReadWrite,
                   MiCacheWriteBack);
        ExFreePool(Blocks[Row]);
    }
}

static VOID Extended_parameters_are_honoured_or_refused(VOID)
{
    POOL_EXTENDED_PARAMETER Parameters[] = {
        {{.Type = PoolExtendedParameterPriority}, {.Priority = LowPoolPriority}},
        {{.Type = PoolExtendedParameterNumaNode}, {.PreferredNode = 0}},
        {{.Type = PoolExtendedParameterSecurePool, .Optional = 1}, {.Reserved2 = 0}},
    };
    const PVOID Block = ExAllocatePool3(NON_PAGED, 100, TAG, Parameters, ARRAYSIZE(Parameters));
    CHECK(Block != NULL);
    ExFreePool2(Block, TAG, NULL, 0);
    Parameters[2].Optional = 0;
    CHECK(ExAllocatePool3(NON_PAGED, 100, TAG, Parameters, ARRAYSIZE(Parameters)) == NULL);
    HostCheckRefusal("flags");
    const PVOID Plain = ExAllocatePool3(NON_PAGED, 100, TAG, NULL, 0);
    CHECK(Plain != NULL);
    EXPECT_BUG_CHECK(ExFreePool2(Plain, 'rehO', NULL, 0));
    CHECK_BUG_CHECK(BAD_POOL_CALLER, 0x0A, (ULONG_PTR)Plain, TAG, 'rehO');
    ExFreePool2(Plain, 0, NULL, 0);
}

static VOID Only_the_flag_that_says_so_gives_executable_pool(VOID)
{
    MM_MEMORY_USE Before;
    MmQueryMemoryUse(&Before);
    static const SIZE_T Sizes[] = {1, 100, PAGE_SIZE, 3 * PAGE_SIZE + 1};
    for (ULONG Row = 0; Row < ARRAYSIZE(Sizes); Row += 1) {
        const PUCHAR Code = ExAllocatePool2(POOL_FLAG_NON_PAGED_EXECUTE, Sizes[Row], TAG);
        const PUCHAR Data = ExAllocatePoolWithTag(NonPagedPoolExecute, Sizes[Row], TAG);
        CHECK(Code != NULL && Data != NULL);
        CHECK_PAGE(Code + Sizes[Row] - 1, FakeWalk((ULONG_PTR)Code + Sizes[Row] - 1).Pfn,
                   MiAccessExecuteReadWrite, MiCacheWriteBack);
        CHECK_EQUAL(FakeWalk((ULONG_PTR)Data).Protection.Access, MiAccessReadWrite);
        CheckFree(MiFrameToVa(FakeWalk((ULONG_PTR)Code).Pfn), TAG, BAD_POOL_CALLER, 0x99,
                  (ULONG_PTR)MiFrameToVa(FakeWalk((ULONG_PTR)Code).Pfn), 0, 0);
        ExFreePoolWithTag(Code, TAG);
        ExFreePoolWithTag(Data, TAG);
    }
    HostCheckSameUse(&Before, "executable pool");
}

static VOID Paged_pool_is_for_APC_LEVEL_and_below(VOID)
{
    const PVOID Small = ExAllocatePool2(POOL_FLAG_PAGED, 100, TAG);
    const PVOID Pages = ExAllocatePoolWithTag(PagedPool, 2 * PAGE_SIZE, TAG);
    FakeIrql = DISPATCH_LEVEL;
    EXPECT_BUG_CHECK(Ignore(ExAllocatePoolWithTag(PagedPool, 100, TAG)));
    CHECK_BUG_CHECK(BAD_POOL_CALLER, 0x08, DISPATCH_LEVEL, PagedPool, 100);
    FakeIrql = DISPATCH_LEVEL;
    EXPECT_BUG_CHECK(Ignore(ExAllocatePool2(POOL_FLAG_PAGED, 100, TAG)));
    CHECK_BUG_CHECK(BAD_POOL_CALLER, 0x08, DISPATCH_LEVEL, POOL_FLAG_PAGED, 100);
    FakeIrql = DISPATCH_LEVEL;
    EXPECT_BUG_CHECK(ExFreePool(Small));
    CHECK_BUG_CHECK(BAD_POOL_CALLER, 0x09, DISPATCH_LEVEL, PagedPool, (ULONG_PTR)Small);
    FakeIrql = DISPATCH_LEVEL;
    EXPECT_BUG_CHECK(ExFreePoolWithTag(Pages, TAG));
    CHECK_BUG_CHECK(BAD_POOL_CALLER, 0x09, DISPATCH_LEVEL, PagedPool, (ULONG_PTR)Pages);
    FakeIrql = APC_LEVEL;
    ExFreePool(Small);
    ExFreePool(Pages);
    FakeIrql = PASSIVE_LEVEL;
}

static VOID The_beginning_of_a_page_of_small_blocks_is_no_block(VOID)
{
    for (SIZE_T ByteCount = 1; ByteCount < 2000; ByteCount += 97) {
        const PUCHAR Block = ExAllocatePool2(NON_PAGED, ByteCount, TAG);
        const PVOID Page = PAGE_ALIGN(Block);
        CheckFree(Page, TAG, BAD_POOL_CALLER, 0x99, (ULONG_PTR)Page, 0, 0);
        ExFreePool(Block);
    }
}

static VOID A_second_free_of_a_cache_aligned_block_is_recognised(VOID)
{
    PUCHAR Blocks[48];
    for (SIZE_T ByteCount = 1; ByteCount < 1900; ByteCount += 61) {
        for (ULONG Index = 0; Index < ARRAYSIZE(Blocks); Index += 1) {
            Blocks[Index] = ExAllocatePool2(NON_PAGED | POOL_FLAG_CACHE_ALIGNED, ByteCount, TAG);
            memset(Blocks[Index], 0xA5, ByteCount);
        }
        // The last one stays, and so does its page: others may go back whole.
        for (ULONG Index = ARRAYSIZE(Blocks) - 1; Index > 0; Index -= 1) {
            const BOOLEAN IsOfPage = PAGE_ALIGN(Blocks[Index - 1]) == PAGE_ALIGN(Blocks[47]);
            ExFreePool(Blocks[Index - 1]);
            if (IsOfPage) {
                CheckFree(Blocks[Index - 1], TAG, BAD_POOL_CALLER, 0x07, 0, TAG,
                          (ULONG_PTR)Blocks[Index - 1]);
            }
        }
        ExFreePool(Blocks[47]);
    }
}

static VOID A_changed_header_is_recognised_whichever_byte_of_it(VOID)
{
    const PUCHAR Block = ExAllocatePool2(NON_PAGED | POOL_FLAG_CACHE_ALIGNED, 100, TAG);
    for (LONG Byte = 1; Byte <= 16; Byte += 1) {
        Block[-Byte] ^= 0x20;
        EXPECT_BUG_CHECK(ExFreePool(Block));
        CHECK_BUG_CHECK(BAD_POOL_HEADER, 0x20, (ULONG_PTR)Block - 16, (ULONG_PTR)Block, 0);
        Block[-Byte] ^= 0x20;
    }
    ExFreePool(Block);
}

static VOID A_request_that_cannot_be_met_makes_no_tables(VOID)
{
    static const SIZE_T Sizes[] = {200ull << 20, 1ull << 33};
    for (ULONG Row = 0; Row < ARRAYSIZE(Sizes); Row += 1) {
        const ULONG64 Tables = MiPfnStateCountOf(MiPfnTable);
        CHECK(ExAllocatePool2(NON_PAGED, Sizes[Row], TAG) == NULL);
        HostCheckRefusal("no pool, frames");
        CHECK_EQUAL(MiPfnStateCountOf(MiPfnTable), Tables);
    }
    const SIZE_T Free = MiFreePageCount() << PAGE_SHIFT;
    const ULONG64 Tables = MiPfnStateCountOf(MiPfnTable);
    CHECK(ExAllocatePool2(NON_PAGED, Free, TAG) == NULL); // nothing is left for the tables
    CHECK_EQUAL(MiPfnStateCountOf(MiPfnTable), Tables);
    CHECK_EQUAL(MiFreePageCount() << PAGE_SHIFT, Free);
}

static VOID Flags_without_a_kind_are_refused_at_level_1_too(VOID)
{
    MmVerifierLevel = 1;
    FakeCallerIsDriver = TRUE;
    CHECK(ExAllocatePool2(0, 16, TAG) == NULL);
    HostCheckRefusal("flags");
    CHECK(ExAllocatePool2(POOL_FLAG_UNINITIALIZED, 16, TAG) == NULL);
    HostCheckRefusal("flags");
    EXPECT_BUG_CHECK(Ignore(ExAllocatePool2(POOL_FLAG_NON_PAGED_EXECUTE, 16, TAG)));
    CHECK_EQUAL(FakeBugCheck.Code, DRIVER_VERIFIER_DETECTED_VIOLATION);
    CHECK_EQUAL(FakeBugCheck.Parameters[0], 0x2000);
}

static VOID Blocks_that_mm_makes_for_a_driver_are_named_when_left(VOID)
{
    MM_LEAKS Leaks;
    UCHAR Own[sizeof(MDL) + sizeof(PFN_NUMBER)] __attribute__((aligned(8)));
    MmVerifierLevel = 1;
    FakeCallerIsDriver = TRUE;
    PVOID Blocks[] = {
        MmCreateMdl(NULL, (PVOID)0x123, 2 * PAGE_SIZE),
        MmCreateMdl(NULL, NULL, 4096 * PAGE_SIZE), // its block has whole pages
        MmGetPhysicalMemoryRanges(),
        MmGetPhysicalMemoryRangesEx(NULL),
        MmGetPhysicalMemoryRangesEx2(NULL, 0),
    };
    CHECK(MmCreateMdl((PMDL)Own, NULL, 1) == (PMDL)Own); // the driver's own memory
    for (ULONG Row = 0; Row < ARRAYSIZE(Blocks); Row += 1) {
        CHECK(Blocks[Row] != NULL);
        HostForgetPrinted();
        MmReportLeaks("driver host", &Leaks);
        CHECK_EQUAL(Leaks.Count, ARRAYSIZE(Blocks) - Row);
        CHECK(strstr(HostPrinted(), "a pool block") != NULL);
        ExFreePool(Blocks[Row]);
    }
    MmReportLeaks(NULL, &Leaks);
    CHECK_EQUAL(Leaks.Count, 0);
}

static const HOST_TEST Tests[] = {
    HOST_ROW(Every_size_is_aligned_zeroed_and_usable_to_its_last_byte, "contract 8.3.1, 8.3.3",
             &FakeMachineMax),
    HOST_ROW(Cache_aligned_blocks_begin_on_a_cache_line, "contract 8.3.2", &FakeMachineMax),
    HOST_ROW(Live_blocks_never_overlap, "pool.c, B1-B3", &FakeMachineMax),
    HOST_ROW(Flags_that_are_unknown_or_exclude_each_other_return_NULL,
             "contract 2.8.2, 2.8.3, 8.3.4", &FakeMachineMax),
    HOST_ROW(The_old_routine_allocates_no_bytes_and_zeroes_on_request, "contract 8.3.3, 8.3.4",
             &FakeMachineMax),
    HOST_ROW(More_than_there_is_returns_NULL, "contract 8.3.6", &FakeMachineMax),
    HOST_ROW(The_pool_can_take_nearly_all_of_RAM_and_give_it_back, "contract 8.3.6",
             &FakeMachineQemu64),
    HOST_ROW(Misuse_stops_with_the_documented_codes,
             "contract 8.3.9, 8.3.10, 0xC2/0x07, 0xC2/0x0A, 0xC2/0x40, 0xC2/0x41, 0xC2/0x99, "
             "0x19/0x20",
             &FakeMachineMax),
    HOST_ROW(The_beginning_of_a_page_of_small_blocks_is_no_block, "contract 8.3.10, 0xC2/0x99",
             &FakeMachineMax),
    HOST_ROW(A_second_free_of_a_cache_aligned_block_is_recognised, "contract 8.3.10, 0xC2/0x07",
             &FakeMachineMax),
    HOST_ROW(A_changed_header_is_recognised_whichever_byte_of_it, "contract 8.3.10, 0x19/0x20",
             &FakeMachineMax),
    HOST_ROW(A_request_that_cannot_be_met_makes_no_tables, "contract 8.3.6", &FakeMachineMax),
    HOST_ROW(Flags_without_a_kind_are_refused_at_level_1_too, "contract 8.3.4", &FakeMachineMax),
    HOST_ROW(Blocks_that_mm_makes_for_a_driver_are_named_when_left,
             "contract 4.6.3, 6.4.2, 14.6, K1", &FakeMachineMax),
    HOST_ROW(Bad_tags_and_types_stop_with_the_documented_codes,
             "contract 8.3.5, 8.3.12, 0xC2/0x9A, 0xC2/0x9B, 0xC2/0x9C, 0xC2/0x9D", &FakeMachineMax),
    HOST_ROW(The_pool_is_for_DISPATCH_LEVEL_and_below,
             "contract 8.3.8, 0xC2/0x08, 0xC2/0x09, 18.28", &FakeMachineMax),
    HOST_ROW(Quota_variants_raise_unless_told_otherwise, "contract 8.3.13", &FakeMachineMax),
    HOST_ROW(A_failure_that_must_raise_can_be_handled, "contract 8.3.11", &FakeMachineMax),
    HOST_ROW(Every_old_form_gives_a_block, "contract 8.3.3", &FakeMachineMax),
    HOST_ROW(Extended_parameters_are_honoured_or_refused, "contract 8.3.14", &FakeMachineMax),
    HOST_ROW(Only_the_flag_that_says_so_gives_executable_pool, "contract 8.3.7", &FakeMachineMax),
    HOST_ROW(Paged_pool_is_for_APC_LEVEL_and_below, "contract 8.3.8, 0xC2/0x08, 0xC2/0x09",
             &FakeMachineMax),
    HOST_ROW(Raising_on_failure_stops_the_machine, "contract 0x1E", &FakeMachineMax),
};

HOST_DEFINE_SUITE(pool);
