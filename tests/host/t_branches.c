// Ways through the code that are rarely taken: another processor is faster, the boot loader says odd
// things, the machine has too little memory to start.
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/inc/ke.h"
#include "tests/host/host.h"

#define TAG 0x21676154u

//
// Another processor is faster: between a look and the lock that makes it certain.
//

static ULONG LockCount;

static PMM_CLAIM FasterClaim;

// The second time is when the range that was found is to be taken.
static VOID ClaimFirst(const KI_LOCK *Lock)
{
    if (strcmp(Lock->Name, "MiClaimLock") == 0 && ++LockCount == 2) {
        FakeBeforeLock = NULL;
        CHECK_EQUAL(MmClaimPhysicalRange(Pa(FAKE_IO_LOW), PAGE_SIZE, MmClaimDevice,
                                         "the faster one", &FasterClaim),
                    STATUS_SUCCESS);
    }
}

static VOID A_place_that_another_processor_takes_first_is_searched_again(VOID)
{
    PHYSICAL_ADDRESS Base;
    PMM_CLAIM Claim;
    FakeBeforeLock = ClaimFirst;
    CHECK_EQUAL(MmPlacePhysicalRange(PAGE_SIZE, PAGE_SIZE, FAKE_IO_LOW,
                                     FAKE_IO_LOW + 4 * PAGE_SIZE - 1, "the slower one", &Base,
                                     &Claim),
                STATUS_SUCCESS);
    CHECK_EQUAL(FakeBeforeLock, NULL);
    CHECK_EQUAL(Base.QuadPart, FAKE_IO_LOW + PAGE_SIZE);
    MmReleasePhysicalRange(FasterClaim);
    MmReleasePhysicalRange(Claim);
}

static PVOID FasterBlock;

static VOID AllocateFirst(const KI_LOCK *Lock)
{
    if (strcmp(Lock->Name, "MiPoolLock") == 0) {
        FakeBeforeLock = NULL;
        FasterBlock = ExAllocatePool2(POOL_FLAG_NON_PAGED, 2000, TAG);
        CHECK(FasterBlock != NULL);
    }
}

static VOID The_last_block_of_a_page_may_go_to_another_processor(VOID)
{
    // Of this size there are two in a page: one is left.
    const PVOID First = ExAllocatePool2(POOL_FLAG_NON_PAGED, 2000, TAG);
    FakeBeforeLock = AllocateFirst;
    const PVOID Slower = ExAllocatePool2(POOL_FLAG_NON_PAGED, 2000, TAG);
    CHECK_EQUAL(FakeBeforeLock, NULL);
    CHECK(Slower != NULL && Slower != FasterBlock);
    CHECK_EQUAL(PAGE_ALIGN(First), PAGE_ALIGN(FasterBlock));
    ExFreePool(First);
    ExFreePool(FasterBlock);
    ExFreePool(Slower);
}

//
// The start.
//

static VOID A_loaded_range_of_no_bytes_is_nothing(VOID)
{
    FakeFillLoaderBlock(&FakeMachineBare);
    FakeLoaderBlock.LoadedRanges[1] = (LOADER_RANGE){0x2000000, 0, LoaderRangeModule};
    MmInitSystem(&FakeLoaderBlock);
    CHECK_EQUAL(MiPfnState(PfnOf(0x2000000)), MiPfnFree);
}

static VOID A_frame_that_two_loaded_ranges_share_is_kept_once(VOID)
{
    FakeFillLoaderBlock(&FakeMachineBare);
    FakeLoaderBlock.LoadedRangeCount = 3;
    FakeLoaderBlock.LoadedRanges[2] = (LOADER_RANGE){FAKE_KERNEL_PA + FAKE_KERNEL_BYTES - PAGE_SIZE,
                                                     3 * PAGE_SIZE, LoaderRangeModule};
    MmInitSystem(&FakeLoaderBlock);
    CHECK_EQUAL(MiPfnState(PfnOf(FAKE_KERNEL_PA + FAKE_KERNEL_BYTES - PAGE_SIZE)), MiPfnKernel);
    CHECK_EQUAL(MiPfnState(PfnOf(FAKE_KERNEL_PA + FAKE_KERNEL_BYTES + PAGE_SIZE)), MiPfnKernel);
}

typedef enum _START_RESULT { StartStops, StartGoesOn, StartLacksNothing, StartFails } START_RESULT;

// In a process of its own: mm starts, and one allocation fails. It stops the machine, or mm goes on
// without what it should have become.
static START_RESULT StartWithFailure(ULONG Skip)
{
    int Status = 0;
    fflush(stdout);
    const pid_t Child = fork();
    if (Child == 0) {
        FakeFillLoaderBlock(&FakeMachineBare);
        MmStartFailures(MM_FAIL_FRAMES, Skip, 1);
        FakeExpectBugCheck();
        if (setjmp(FakeBugCheck.Return) == 0) {
            MmInitSystem(&FakeLoaderBlock);
            const ULONG FailedCount = MmStopFailures();
            HostAudit();
            exit(FailedCount == 0 ? StartLacksNothing : StartGoesOn);
        }
        exit(FakeBugCheck.Code == INSTALL_MORE_MEMORY ? StartStops : StartFails);
    }
    CHECK(Child > 0 && waitpid(Child, &Status, 0) == Child && WIFEXITED(Status));
    return (START_RESULT)WEXITSTATUS(Status);
}

static VOID A_frame_that_the_start_does_not_get_stops_the_machine_or_is_not_needed(VOID)
{
    START_RESULT Result = StartStops;
    for (ULONG Skip = 0; Result != StartLacksNothing; Skip += 1) {
        Result = StartWithFailure(Skip);
        CHECK(Result != StartFails && (Skip != 0 || Result == StartStops));
    }
}

//
// Memory.
//

// Frames high up, where the direct map has large leaves: each attempt must split another one.
static VOID An_MDL_of_pages_without_tables_for_their_aliases_gives_them_back(VOID)
{
    MM_MEMORY_USE Before;
    MmQueryMemoryUse(&Before);
    ULONG FailedCount = 0;
    for (ULONG Attempt = 0; Attempt < 8; Attempt += 1) {
        const ULONG64 Low = 0x100000000 + Attempt * 0x200000ull;
        MmStartFailures(MM_FAIL_FRAMES, Attempt % 4, 1);
        const PMDL Mdl = MmAllocatePagesForMdl(Pa(Low), Pa(Low + 0x1FFFFF), Pa(0), PAGE_SIZE);
        FailedCount += MmStopFailures();
        if (Mdl != NULL) {
            MmFreePagesFromMdl(Mdl);
            ExFreePool(Mdl);
        }
        HostCheckSameUse(&Before, "an MDL of pages");
    }
    CHECK(FailedCount > 0);
}

static VOID A_frame_that_the_MDL_does_not_own_is_named(VOID)
{
    const PMDL Mdl = MmAllocatePagesForMdl(Pa(0), Pa(MAXULONG64), Pa(0), PAGE_SIZE);
    const PFN_NUMBER Own = MmGetMdlPfnArray(Mdl)[0];
    MmGetMdlPfnArray(Mdl)[0] = PfnOf(FAKE_KERNEL_PA);
    EXPECT_BUG_CHECK(MmFreePagesFromMdl(Mdl));
    CHECK_BUG_CHECK(MEMORY_MANAGEMENT, 0x1236, (ULONG_PTR)Mdl, (ULONG_PTR)MmGetMdlPfnArray(Mdl),
                    PfnOf(FAKE_KERNEL_PA));
    MmGetMdlPfnArray(Mdl)[0] = Own;
    MmFreePagesFromMdl(Mdl);
    ExFreePool(Mdl);
}

static VOID No_allocation_fails_when_none_is_to_fail(VOID)
{
    MmStartFailures(MM_FAIL_ALL, 0, 0);
    const PVOID Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 100, TAG);
    CHECK_EQUAL(MmStopFailures(), 0);
    CHECK(Block != NULL);
    ExFreePool(Block);
}

static const HOST_TEST Tests[] = {
    HOST_ROW(A_place_that_another_processor_takes_first_is_searched_again, "mm.h, claims",
             &FakeMachineMax),
    HOST_ROW(The_last_block_of_a_page_may_go_to_another_processor, "pool.c", &FakeMachineMax),
    HOST_ROW(A_loaded_range_of_no_bytes_is_nothing, "pfn.c", &FakeMachineBare),
    HOST_ROW(A_frame_that_two_loaded_ranges_share_is_kept_once, "pfn.c", &FakeMachineBare),
    HOST_ROW(A_frame_that_the_start_does_not_get_stops_the_machine_or_is_not_needed,
             "mm.h, MmInitSystem", &FakeMachineBare),
    HOST_ROW(An_MDL_of_pages_without_tables_for_their_aliases_gives_them_back, "mdlpages.c",
             &FakeMachineMax),
    HOST_ROW(A_frame_that_the_MDL_does_not_own_is_named, "mdlpages.c", &FakeMachineMax),
    HOST_ROW(No_allocation_fails_when_none_is_to_fail, "mm.h, MmStartFailures", &FakeMachineMax),
};

HOST_DEFINE_SUITE(branches);
