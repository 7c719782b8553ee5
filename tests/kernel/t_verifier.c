// The verifier: what it adds that is no bug check, and that it lets through what is allowed. Each test
// raises the level to 1 for itself. (What it stops is in violations.c.)
#include "kernel/inc/ke.h"
#include "kernel/inc/rtl.h"
#include "tests/kernel/tests.h"

static ULONG OldLevel;

static VOID BeginVerifying(VOID)
{
    OldLevel = MmVerifierLevel;
    MmVerifierLevel = 1;
}

static VOID EndVerifying(VOID)
{
    MmVerifierLevel = OldLevel;
}

static BOOLEAN CanRead(const VOID *Va)
{
    ULONG64 Value;
    return !KeProbeRead(Va, &Value).Faulted;
}

static PUCHAR Allocate(POOL_FLAGS Flags, SIZE_T ByteCount)
{
    BeginVerifying();
    const PUCHAR Block = ExAllocatePool2(Flags, ByteCount, KT_TAG);
    EndVerifying();
    return Block;
}

static VOID SpecialBlocksHaveGuards(VOID)
{
    static const SIZE_T Sizes[] = {16, 400, 4080, PAGE_SIZE, 3 * PAGE_SIZE};
    for (ULONG Row = 0; Row < ARRAYSIZE(Sizes); Row += 1) {
        const PUCHAR Block = Allocate(POOL_FLAG_NON_PAGED, Sizes[Row]);
        KtSetContext("%llu bytes", Sizes[Row]);
        KT_REQUIRE(Block != NULL);
        KT_CHECK(CanRead(Block + Sizes[Row] - sizeof(ULONG64)));
        KT_CHECK(!CanRead(Block + Sizes[Row]));
        KT_CHECK(!CanRead((PUCHAR)PAGE_ALIGN(Block) - sizeof(ULONG64)));
        ExFreePoolWithTag(Block, KT_TAG);
        KT_CHECK(!CanRead(Block));
    }
}

static VOID FreedBlocksRest(VOID)
{
    const PUCHAR First = Allocate(POOL_FLAG_NON_PAGED, 100);
    KT_REQUIRE(First != NULL);
    ExFreePool(First);
    for (ULONG Round = 0; Round < 100; Round += 1) {
        const PUCHAR Block = Allocate(POOL_FLAG_NON_PAGED, 100);
        KT_REQUIRE(Block != NULL);
        KT_CHECK(PAGE_ALIGN(Block) != PAGE_ALIGN(First));
        ExFreePool(Block);
    }
    KT_CHECK(!CanRead(First));
}

static VOID UninitialisedBlocksAreFilled(VOID)
{
    const PUCHAR Block = Allocate(POOL_FLAG_NON_PAGED | POOL_FLAG_UNINITIALIZED, 1000);
    KT_REQUIRE(Block != NULL);
    ULONG ZeroCount = 0;
    for (ULONG Index = 0; Index < 1000; Index += 1) {
        ZeroCount += Block[Index] == 0;
    }
    KT_CHECK(ZeroCount < 100);
    ExFreePool(Block);
}

static VOID UnlockingOverwritesTheFrames(VOID)
{
    const PUCHAR Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 2 * PAGE_SIZE, KT_TAG);
    const PMDL Mdl = IoAllocateMdl(Block, 2 * PAGE_SIZE, FALSE, FALSE, NULL);
    KT_REQUIRE(Block != NULL && Mdl != NULL);
    BeginVerifying();
    MmProbeAndLockPages(Mdl, KernelMode, IoWriteAccess);
    const PFN_NUMBER Locked = MmGetMdlPfnArray(Mdl)[1];
    MmUnlockPages(Mdl);
    EndVerifying();
    KT_CHECK(Locked != MAXULONG64);
    KT_EQUAL(MmGetMdlPfnArray(Mdl)[0], MAXULONG64);
    KT_EQUAL(MmGetMdlPfnArray(Mdl)[1], MAXULONG64);
    IoFreeMdl(Mdl);
    ExFreePool(Block);
}

static VOID UnmappingForgetsTheAddress(VOID)
{
    const PMDL Mdl = KtAllocatePages(1);
    KT_REQUIRE(Mdl != NULL);
    BeginVerifying();
    const PVOID Va = MmGetSystemAddressForMdlSafe(Mdl, NormalPagePriority | MdlMappingNoExecute);
    KT_CHECK(Va != NULL && Mdl->MappedSystemVa == Va);
    MmUnmapLockedPages(Va, Mdl);
    EndVerifying();
    KT_EQUAL(Mdl->MappedSystemVa, NULL);
    KtFreePages(Mdl);
}

//
// Each routine at its highest IRQL.
//

static VOID UseMdlAtDispatch(VOID)
{
    const PUCHAR Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 2 * PAGE_SIZE, KT_TAG);
    const PMDL Mdl = IoAllocateMdl(Block, 2 * PAGE_SIZE, FALSE, FALSE, NULL);
    const PMDL Partial = IoAllocateMdl(Block, PAGE_SIZE, FALSE, FALSE, NULL);
    KT_REQUIRE(Block != NULL && Mdl != NULL && Partial != NULL);
    MmProbeAndLockPages(Mdl, KernelMode, IoModifyAccess);
    IoBuildPartialMdl(Mdl, Partial, Block, PAGE_SIZE);
    const PVOID Va =
        MmGetSystemAddressForMdlSafe(Partial, NormalPagePriority | MdlMappingNoExecute);
    KT_CHECK(Va != NULL && MmIsAddressValid(Va));
    KT_EQUAL(MmProtectMdlSystemAddress(Partial, PAGE_READONLY), STATUS_SUCCESS);
    MmPrepareMdlForReuse(Partial);
    IoFreeMdl(Partial);
    KT_EQUAL(MmAdvanceMdl(Mdl, 100), STATUS_SUCCESS);
    MmUnlockPages(Mdl);
    IoFreeMdl(Mdl);
    ExFreePool(Block);
}

static VOID MapAtDispatch(PVOID Reservation)
{
    const PVOID Io = MmMapIoSpace(KtPhysical(KT_APIC_BASE), PAGE_SIZE, MmNonCached);
    const PMDL Pages = KtAllocatePages(1);
    const PMDL Gap = KtAllocateGapMdl(1);
    KT_REQUIRE(Io != NULL && Pages != NULL && Gap != NULL);
    KT_CHECK(MmMapLockedPagesWithReservedMapping(Reservation, KT_TAG, Pages, MmCached) != NULL);
    MmUnmapReservedMapping(Reservation, KT_TAG, Pages);
    KtFreePages(Pages);
    IoFreeMdl(Gap);
    MmUnmapIoSpace(Io, PAGE_SIZE);
}

static VOID HighestIrqlIsAllowed(VOID)
{
    KIRQL OldIrql;
    BeginVerifying();
    KeRaiseIrql(APC_LEVEL, &OldIrql);
    const PVOID Reservation = MmAllocateMappingAddress(PAGE_SIZE, KT_TAG);
    const PVOID Paged = ExAllocatePool2(POOL_FLAG_PAGED, 100, KT_TAG);
    KT_CHECK(Reservation != NULL && Paged != NULL);
    ExFreePool(Paged);
    KeRaiseIrql(DISPATCH_LEVEL, &OldIrql);
    UseMdlAtDispatch();
    MapAtDispatch(Reservation);
    KeLowerIrql(APC_LEVEL);
    MmFreeMappingAddress(Reservation, KT_TAG);
    KeLowerIrql(PASSIVE_LEVEL);
    EndVerifying();
}

//
// Leaks.
//

static ULONG CountOwnLeaks(VOID)
{
    MM_LEAKS Leaks;
    MmReportLeaks("self-tests", &Leaks);
    return Leaks.Count;
}

static VOID LeaksAreFound(VOID)
{
    const ULONG Before = CountOwnLeaks();
    const PUCHAR Block = Allocate(POOL_FLAG_NON_PAGED, 100);
    BeginVerifying();
    const PMDL Mdl = IoAllocateMdl(Block, 100, FALSE, FALSE, NULL);
    EndVerifying();
    const PVOID Reservation = MmAllocateMappingAddress(PAGE_SIZE, KT_TAG);
    KT_REQUIRE(Block != NULL && Mdl != NULL && Reservation != NULL);
    KT_EQUAL(CountOwnLeaks(), Before + 3);
    BeginVerifying();
    MmProbeAndLockPages(Mdl, KernelMode, IoReadAccess);
    KT_EQUAL(CountOwnLeaks(), Before + 4);
    MmUnlockPages(Mdl);
    EndVerifying();
    IoFreeMdl(Mdl);
    ExFreePool(Block);
    MmFreeMappingAddress(Reservation, KT_TAG);
    KT_EQUAL(CountOwnLeaks(), Before);
}

//
// Low resources.
//

// Allocates and frees; returns how many attempts of RoundCount failed.
static ULONG CountFailures(ULONG RoundCount)
{
    ULONG FailedCount = 0;
    for (ULONG Round = 0; Round < RoundCount; Round += 1) {
        const PVOID Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 100, KT_TAG);
        if (Block != NULL) {
            ExFreePool(Block);
        } else {
            FailedCount += 1;
        }
    }
    return FailedCount;
}

static VOID EveryKthAllocationFails(VOID)
{
    OldLevel = MmVerifierLevel;
    MmVerifierLevel = 0; // one allocation for each request
    MmSimulateLowResources(MM_FAIL_POOL, 5, FALSE);
    KT_EQUAL(CountFailures(50), 10);
    KT_EQUAL(MmSimulatedFailureCount(), 10);
    MmSimulateLowResources(MM_FAIL_POOL, 7, TRUE);
    KT_EQUAL(CountFailures(50), 1);
    MmSimulateLowResources(MM_FAIL_ADDRESSES, 1, FALSE);
    KT_EQUAL(CountFailures(50), 0);
    KT_EQUAL(MmAllocateMappingAddress(PAGE_SIZE, KT_TAG), NULL);
    MmReadFailureOptions(); // what the boot options ask for goes on
    if (!KtHasOption("fail")) {
        MmSimulateLowResources(0, 0, FALSE);
    }
    EndVerifying();
}

static const KT_TEST Tests[] = {
    {"a special block ends before an unmapped page, and is unmapped when it is freed [14.2]",
     SpecialBlocksHaveGuards},
    {"the addresses of a freed special block are not used again at once [14.2]", FreedBlocksRest},
    {"uninitialised blocks hold no zeros at level 1 [14.5]", UninitialisedBlocksAreFilled},
    {"MmUnlockPages overwrites the frames at level 1 [14.4]", UnlockingOverwritesTheFrames},
    {"an unmapped MDL has no address at level 1 [14.4]", UnmappingForgetsTheAddress},
    {"level 1 allows each routine its highest IRQL [18.28]", HighestIrqlIsAllowed},
    {"the report names a leaked block, MDL, lock and reservation [14.6, 14.7]", LeaksAreFound},
    {"low-resource simulation fails the n-th, or every k-th, allocation of a kind [14.8]",
     EveryKthAllocationFails},
};

const KT_SUITE KtVerifierSuite = {"verifier", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
