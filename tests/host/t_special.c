// Special pool, the records of who allocated what, and the report of leaks: level 1 of the verifier.
#include "tests/host/host.h"

#define TAG 'tseT'
#define NON_PAGED POOL_FLAG_NON_PAGED
#define QUARANTINE 256

static PUCHAR Allocate(SIZE_T ByteCount)
{
    MmVerifierLevel = 1;
    const PUCHAR Block = ExAllocatePool2(NON_PAGED, ByteCount, TAG);
    CHECK(Block != NULL);
    return Block;
}

static VOID A_block_ends_where_its_page_ends(VOID)
{
    for (SIZE_T ByteCount = 1; ByteCount <= 3 * PAGE_SIZE; ByteCount += 61) {
        const PUCHAR Block = Allocate(ByteCount);
        const ULONG_PTR EndVa = (ULONG_PTR)PAGE_ALIGN(Block + ByteCount + PAGE_SIZE - 1);
        CHECK_EQUAL((ULONG_PTR)Block % (ByteCount >= PAGE_SIZE ? PAGE_SIZE : 16), 0);
        CHECK(ByteCount >= PAGE_SIZE || EndVa - (ULONG_PTR)Block - ByteCount < 16);
        CHECK(Block[0] == 0 && Block[ByteCount - 1] == 0);
        CHECK_UNMAPPED(EndVa);
        CHECK_UNMAPPED((ULONG_PTR)PAGE_ALIGN(Block) - PAGE_SIZE);
        memset(Block, 0x11, ByteCount);
        ExFreePoolWithTag(Block, TAG);
        CHECK_UNMAPPED(Block);
    }
    const PVOID Aligned = ExAllocatePool2(NON_PAGED | POOL_FLAG_CACHE_ALIGNED, 100, TAG);
    CHECK_EQUAL((ULONG_PTR)Aligned % 64, 0);
    ExFreePool(Aligned);
}

static VOID Uninitialised_blocks_hold_no_zeros(VOID)
{
    MmVerifierLevel = 1;
    ULONG ZeroCount = 0;
    const PUCHAR Block = ExAllocatePool2(NON_PAGED | POOL_FLAG_UNINITIALIZED, 1000, TAG);
    for (ULONG Index = 0; Index < 1000; Index += 1) {
        ZeroCount += Block[Index] == 0;
    }
    CHECK(ZeroCount < 50);
    ExFreePool(Block);
}

static VOID A_byte_beside_the_block_is_found_at_its_free(VOID)
{
    const PUCHAR Block = Allocate(101);
    Block[-1] ^= 1;
    EXPECT_BUG_CHECK(ExFreePool(Block));
    CHECK_BUG_CHECK(SPECIAL_POOL_DETECTED_MEMORY_CORRUPTION, (ULONG_PTR)Block, (ULONG_PTR)Block - 1,
                    0, 0x23);
    CHECK(strstr(FakeBugCheck.Sentence, "allocated by HostCaller") != NULL);
    Block[-1] ^= 1;
    Block[101] ^= 1;
    EXPECT_BUG_CHECK(ExFreePool(Block));
    CHECK_BUG_CHECK(SPECIAL_POOL_DETECTED_MEMORY_CORRUPTION, (ULONG_PTR)Block,
                    (ULONG_PTR)Block + 101, 0, 0x24);
    Block[101] ^= 1;
    EXPECT_BUG_CHECK(ExFreePool(Block + 16));
    CHECK_BUG_CHECK(SPECIAL_POOL_DETECTED_MEMORY_CORRUPTION, (ULONG_PTR)Block + 16, 0, 0, 0x21);
    EXPECT_BUG_CHECK(ExFreePoolWithTag(Block, 'rehO'));
    CHECK_BUG_CHECK(BAD_POOL_CALLER, 0x0A, (ULONG_PTR)Block, TAG, 'rehO');
    ExFreePool(Block);
}

static VOID A_second_free_names_the_first(VOID)
{
    const PUCHAR Block = Allocate(100);
    ExFreePool(Block);
    EXPECT_BUG_CHECK(ExFreePool(Block));
    CHECK_BUG_CHECK(BAD_POOL_CALLER, 0x07, 0, TAG, (ULONG_PTR)Block);
    CHECK(strstr(FakeBugCheck.Sentence, "first by HostCaller") != NULL);
}

static VOID CheckExplanation(PVOID Va, ULONG Code, ULONG DriverCode, const CHAR *Words)
{
    KI_FAULT_EXPLANATION Explanation;
    CHECK(FakeFaultExplainer((ULONG_PTR)Va, &Explanation));
    CHECK_EQUAL(Explanation.Code, Code);
    CHECK_EQUAL(Explanation.DriverCode, DriverCode);
    CHECK(strstr(Explanation.Sentence, Words) != NULL);
}

static VOID Faults_near_a_block_are_explained(VOID)
{
    KI_FAULT_EXPLANATION Explanation;
    const PUCHAR Block = Allocate(100);
    const PUCHAR Pages = Allocate(2 * PAGE_SIZE + 1);
    CheckExplanation(Block + 112, 0xCD, 0xD6, "beyond the pool block");
    CheckExplanation(Pages + 3 * PAGE_SIZE, 0xCD, 0xD6, "beyond the pool block");
    ExFreePool(Block);
    ExFreePool(Pages);
    CheckExplanation(Block + 3, 0xCC, 0xD5, "was freed by HostCaller");
    CheckExplanation(Pages + 2 * PAGE_SIZE, 0xCC, 0xD5, "was freed by HostCaller");
    CHECK(!FakeFaultExplainer(0, &Explanation));
    CHECK(!FakeFaultExplainer(MiArchLayout[MiRegionPool].BaseVa + PAGES(100000), &Explanation));
    CHECK(!FakeFaultExplainer(MiArchLayout[MiRegionSystemPtes].BaseVa, &Explanation));
}

static VOID Freed_addresses_rest_before_they_are_used_again(VOID)
{
    const PVOID First = Allocate(100);
    ExFreePool(First);
    for (ULONG Count = 1; Count < QUARANTINE; Count += 1) {
        const PVOID Block = Allocate(100);
        CHECK(PAGE_ALIGN(Block) != PAGE_ALIGN(First));
        ExFreePool(Block);
    }
    ExFreePool(Allocate(100)); // the one that pushes the first out
    const PVOID Again = Allocate(100);
    CHECK(PAGE_ALIGN(Again) == PAGE_ALIGN(First));
    ExFreePool(Again);
}

static VOID A_block_can_be_freed_after_the_level_was_lowered(VOID)
{
    MM_MEMORY_USE Before;
    MmQueryMemoryUse(&Before);
    const PVOID Block = Allocate(100);
    MmVerifierLevel = 0;
    ExFreePoolWithTag(Block, TAG);
    CHECK_EQUAL(MiTrackCount, 0);
    HostCheckSameUse(&Before, "a special block");
}

static VOID Without_memory_the_ordinary_pool_serves(VOID)
{
    MM_MEMORY_USE Before;
    MmQueryMemoryUse(&Before);
    MmVerifierLevel = 1;
    for (PFN_NUMBER Pages = 1ull << 36; Pages > 0; Pages /= 2) {
        while (MiReserveSystemVa(MiRegionPool, Pages, 0, 0) != 0) {
        }
    }
    const PVOID Block = ExAllocatePool2(NON_PAGED | POOL_FLAG_UNINITIALIZED, 100, TAG);
    CHECK(Block != NULL && MiTrackCount == 1);
    ExFreePool(Block);
    HostCheckSameUse(&Before, "a special block without addresses");
}

static VOID What_is_to_fail_leaves_nothing(VOID)
{
    MM_MEMORY_USE Before;
    MmQueryMemoryUse(&Before);
    MmVerifierLevel = 1;
    ULONG Skip = 0;
    ULONG FailedCount = 1;
    for (; FailedCount != 0; Skip += 1) {
        MmStartFailures(MM_FAIL_ALL, Skip, MAXULONG);
        const PVOID Next = ExAllocatePool2(NON_PAGED, 3 * PAGE_SIZE, TAG);
        FailedCount = MmStopFailures();
        if (Next != NULL) {
            ExFreePool(Next);
        }
        HostCheckSameUse(&Before, "a special block that fails");
    }
    CHECK(Skip > 1);
}

static VOID A_thousand_blocks_leave_nothing(VOID)
{
    static PVOID Blocks[1000];
    MM_MEMORY_USE Before;
    MmQueryMemoryUse(&Before);
    for (ULONG Index = 0; Index < ARRAYSIZE(Blocks); Index += 1) {
        Blocks[Index] = Allocate(1 + Index * 7);
    }
    CHECK_EQUAL(MiTrackCount, ARRAYSIZE(Blocks));
    CHECK_EQUAL(MmVerify(), 0);
    for (ULONG Index = 0; Index < ARRAYSIZE(Blocks); Index += 1) {
        ExFreePool(Blocks[(Index * 7) % ARRAYSIZE(Blocks)]);
    }
    HostCheckSameUse(&Before, "a thousand special blocks");
}

//
// Leaks.
//

static MM_LEAKS LeaksOf(const CHAR *Owner)
{
    MM_LEAKS Leaks;
    HostForgetPrinted();
    MmReportLeaks(Owner, &Leaks);
    return Leaks;
}

static VOID The_report_names_each_leak_and_its_owner(VOID)
{
    const PVOID Block = Allocate(100);
    const PVOID Io = MmMapIoSpace(Pa(FAKE_IO_LOW), 2 * PAGE_SIZE, MmNonCached);
    const PVOID Reservation = MmAllocateMappingAddress(PAGE_SIZE, TAG);
    const PVOID Contiguous = MmAllocateContiguousMemory(5000, Pa(MAXULONG64));
    CHECK_EQUAL(LeaksOf(NULL).Count, 0); // the kernel's own
    FakeCallerIsDriver = TRUE;
    MM_LEAKS Leaks = LeaksOf("driver host");
    CHECK_EQUAL(Leaks.Count, 4);
    CHECK_EQUAL(Leaks.ByteCount, 100 + 3 * PAGE_SIZE + 5000);
    CHECK(strstr(HostPrinted(), "contiguous memory") != NULL);
    CHECK(strstr(HostPrinted(), "a pool block") != NULL);
    CHECK(strstr(HostPrinted(), "a mapping of I/O space") != NULL);
    CHECK(strstr(HostPrinted(), "a reservation of addresses") != NULL);
    CHECK(strstr(HostPrinted(), "by HostCaller+0x0 (driver host)") != NULL);
    CHECK_EQUAL(LeaksOf("another").Count, 0);
    CHECK_EQUAL(LeaksOf(NULL).Count, 4);
    MmFreeContiguousMemory(Contiguous);
    ExFreePool(Block);
    MmUnmapIoSpace(Io, 2 * PAGE_SIZE);
    MmFreeMappingAddress(Reservation, TAG);
    CHECK_EQUAL(LeaksOf(NULL).Count, 0);
}

static VOID Unloading_with_leaks_stops_the_machine(VOID)
{
    static const CHAR Owner[] = "driver host";
    MmVerifierLevel = 1;
    FakeCallerIsDriver = TRUE;
    MmCheckUnload(Owner);
    const PVOID First = ExAllocatePool2(NON_PAGED, 100, TAG);
    const PVOID Second = ExAllocatePool2(NON_PAGED, 28, TAG);
    EXPECT_BUG_CHECK(MmCheckUnload(Owner));
    CHECK_BUG_CHECK(DRIVER_VERIFIER_DETECTED_VIOLATION, 0x62, (ULONG_PTR)Owner, 128, 2);
    CHECK(MiTrack(MiTrackLockedPages, First, 3 * PAGE_SIZE, 0, (PVOID)1));
    EXPECT_BUG_CHECK(MmCheckUnload(Owner));
    CHECK_BUG_CHECK(DRIVER_LEFT_LOCKED_PAGES_IN_PROCESS, 1, 0, (ULONG_PTR)First, 3);
    MiUntrack(MiTrackLockedPages, First);
    MmVerifierLevel = 0; // then it is only told
    MmCheckUnload(Owner);
    ExFreePool(First);
    ExFreePool(Second);
}

static VOID Records_of_one_address_differ_by_kind(VOID)
{
    static const UCHAR Thing[1];
    MI_TRACK Track;
    CHECK(MiTrack(MiTrackMdl, Thing, 48, 0, (PVOID)1));
    CHECK(MiTrack(MiTrackLockedPages, Thing, PAGE_SIZE, 0, (PVOID)2));
    CHECK(MiFindTrack(MiTrackMdl, Thing, &Track) && Track.ByteCount == 48);
    CHECK(MiFindTrack(MiTrackLockedPages, Thing, &Track) && Track.Caller == (PVOID)2);
    MiUntrack(MiTrackMdl, Thing);
    MiUntrack(MiTrackMdl, Thing); // unknown: nothing
    CHECK(!MiFindTrack(MiTrackMdl, Thing, &Track) &&
          MiFindTrack(MiTrackLockedPages, Thing, &Track));
    MiUntrack(MiTrackLockedPages, Thing);
    MmStartFailures(MM_FAIL_POOL, 0, MAXULONG);
    CHECK(!MiTrack(MiTrackMdl, Thing, 48, 0, NULL));
    MmStopFailures();
}

static const HOST_TEST Tests[] = {
    HOST_ROW(A_block_ends_where_its_page_ends, "contract 14.2", &FakeMachineMax),
    HOST_ROW(Uninitialised_blocks_hold_no_zeros, "contract 14.5", &FakeMachineMax),
    HOST_ROW(A_byte_beside_the_block_is_found_at_its_free, "contract 0xC1", &FakeMachineMax),
    HOST_ROW(A_second_free_names_the_first, "contract 0xC2/0x07, 14.1", &FakeMachineMax),
    HOST_ROW(Faults_near_a_block_are_explained, "contract 0xCC, 0xCD, 14.1", &FakeMachineMax),
    HOST_ROW(Freed_addresses_rest_before_they_are_used_again, "contract 14.2", &FakeMachineMax),
    HOST_ROW(A_block_can_be_freed_after_the_level_was_lowered, "leak.c, K1", &FakeMachineMax),
    HOST_ROW(Without_memory_the_ordinary_pool_serves, "contract 8.3.6, 14.2", &FakeMachineMax),
    HOST_ROW(What_is_to_fail_leaves_nothing, "contract 8.3.6", &FakeMachineMax),
    HOST_ROW(A_thousand_blocks_leave_nothing, "leak.c, K1", &FakeMachineMax),
    HOST_ROW(The_report_names_each_leak_and_its_owner, "contract 14.6, 14.7", &FakeMachineMax),
    HOST_ROW(Unloading_with_leaks_stops_the_machine, "contract 14.6, 0xC4/0x62, 0xCB",
             &FakeMachineMax),
    HOST_ROW(Records_of_one_address_differ_by_kind, "leak.c, K1", &FakeMachineMax),
};

HOST_DEFINE_SUITE(special);
