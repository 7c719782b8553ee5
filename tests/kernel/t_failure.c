// Every allocation of every routine fails once: the first, the second, and so on, until the routine
// succeeds without meeting the failure. After each attempt the routine has either refused, or done
// its work all the same; the invariants hold and nothing has leaked.
#include "tests/kernel/tests.h"

#define MAXIMUM_ALLOCATIONS 200

// What a scenario reports of one attempt, after undoing whatever succeeded.
typedef enum _OUTCOME {
    OutcomeDone,
    OutcomeRefused,
} OUTCOME;

typedef OUTCOME SCENARIO(VOID);

static ULONG64 Gap; // 1 GiB of free I/O space for all scenarios

static OUTCOME MapIo(SIZE_T ByteCount)
{
    PVOID Va = MmMapIoSpaceEx(KtPhysical(Gap), ByteCount, PAGE_READWRITE | PAGE_NOCACHE);
    if (Va == NULL) {
        return OutcomeRefused;
    }
    MmUnmapIoSpace(Va, ByteCount);
    return OutcomeDone;
}

static OUTCOME MapIoPage(VOID)
{
    return MapIo(PAGE_SIZE);
}

static OUTCOME MapIoManyTables(VOID)
{
    return MapIo(4 * KT_MIB - PAGE_SIZE);
}

static OUTCOME MapIoLarge(VOID)
{
    return MapIo(64 * KT_MIB + PAGE_SIZE);
}

static OUTCOME MapIoRam(VOID)
{
    PMDL Mdl = KtAllocatePages(1);
    if (Mdl == NULL) {
        return OutcomeRefused;
    }
    PVOID Va = MmMapIoSpace(KtPhysical(KtPageAddress(Mdl, 0)), PAGE_SIZE, MmNonCached);
    if (Va != NULL) {
        MmUnmapIoSpace(Va, PAGE_SIZE);
    }
    KtFreePages(Mdl);
    return Va != NULL ? OutcomeDone : OutcomeRefused;
}

static OUTCOME MapIoTwice(VOID)
{
    PVOID First = MmMapIoSpace(KtPhysical(Gap), PAGE_SIZE, MmNonCached);
    if (First == NULL) {
        return OutcomeRefused;
    }
    PVOID Second = MmMapIoSpace(KtPhysical(Gap), PAGE_SIZE, MmNonCached);
    if (Second != NULL) {
        MmUnmapIoSpace(Second, PAGE_SIZE);
    }
    MmUnmapIoSpace(First, PAGE_SIZE);
    return Second != NULL ? OutcomeDone : OutcomeRefused;
}

static OUTCOME AllocateIoMdl(VOID)
{
    MM_PHYSICAL_ADDRESS_LIST List[] = {
        {KtPhysical(Gap), 2 * PAGE_SIZE},
        {KtPhysical(Gap + 8 * PAGE_SIZE), PAGE_SIZE},
        {KtPhysical(Gap + 4 * PAGE_SIZE), PAGE_SIZE},
    };
    PMDL Mdl;
    const NTSTATUS Status = MmAllocateMdlForIoSpace(List, ARRAYSIZE(List), &Mdl);
    KT_EQUAL(NT_SUCCESS(Status), Mdl != NULL);
    if (!NT_SUCCESS(Status)) {
        KT_EQUAL(Status, STATUS_INSUFFICIENT_RESOURCES);
        return OutcomeRefused;
    }
    IoFreeMdl(Mdl);
    return OutcomeDone;
}

static OUTCOME MapAndFreeIoMdl(PMDL Mdl)
{
    PVOID Va = MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmWriteCombined, NULL, FALSE,
                                            NormalPagePriority);
    if (Va != NULL) {
        MmUnmapLockedPages(Va, Mdl);
    }
    KT_EQUAL(Mdl->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA, 0);
    IoFreeMdl(Mdl);
    return Va != NULL ? OutcomeDone : OutcomeRefused;
}

static OUTCOME MapIoMdl(VOID)
{
    MM_PHYSICAL_ADDRESS_LIST List[] = {
        {KtPhysical(Gap), 600 * PAGE_SIZE},
        {KtPhysical(Gap + KT_MIB * 16), 3 * PAGE_SIZE},
    };
    PMDL Mdl;
    if (!NT_SUCCESS(MmAllocateMdlForIoSpace(List, ARRAYSIZE(List), &Mdl))) {
        return OutcomeRefused;
    }
    return MapAndFreeIoMdl(Mdl);
}

static OUTCOME AllocateMdl(VOID)
{
    PMDL Mdl = IoAllocateMdl((PVOID)0x123, 100000, FALSE, FALSE, NULL);
    if (Mdl == NULL) {
        return OutcomeRefused;
    }
    IoFreeMdl(Mdl);
    return OutcomeDone;
}

static OUTCOME AllocatePages(VOID)
{
    PMDL Mdl = MmAllocatePagesForMdlEx(KtPhysical(0), KtPhysical(MAXULONG64), KtPhysical(0),
                                       8 * PAGE_SIZE, MmCached, MM_ALLOCATE_FULLY_REQUIRED);
    if (Mdl == NULL) {
        return OutcomeRefused;
    }
    KtFreePages(Mdl);
    return OutcomeDone;
}

static OUTCOME AllocateFewerPages(VOID)
{
    PMDL Mdl =
        MmAllocatePagesForMdl(KtPhysical(0), KtPhysical(MAXULONG64), KtPhysical(0), 8 * PAGE_SIZE);
    if (Mdl == NULL) {
        return OutcomeRefused;
    }
    KT_CHECK(MmGetMdlByteCount(Mdl) != 0 && MmGetMdlByteCount(Mdl) <= 8 * PAGE_SIZE);
    const OUTCOME Outcome = MmGetMdlByteCount(Mdl) == 8 * PAGE_SIZE ? OutcomeDone : OutcomeRefused;
    KtFreePages(Mdl);
    return Outcome;
}

static OUTCOME AllocateChunks(VOID)
{
    PMDL Mdl = MmAllocatePagesForMdlEx(
        KtPhysical(0), KtPhysical(MAXULONG64), KtPhysical(4 * PAGE_SIZE), 8 * PAGE_SIZE, MmCached,
        MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS | MM_ALLOCATE_FULLY_REQUIRED);
    if (Mdl == NULL) {
        return OutcomeRefused;
    }
    KtFreePages(Mdl);
    return OutcomeDone;
}

static OUTCOME MapPages(VOID)
{
    PMDL Mdl = KtAllocatePages(20);
    if (Mdl == NULL) {
        return OutcomeRefused;
    }
    PVOID Va = MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmNonCached, NULL, FALSE,
                                            HighPagePriority | MdlMappingWithGuardPtes);
    KtFreePages(Mdl);
    return Va != NULL ? OutcomeDone : OutcomeRefused;
}

static OUTCOME Reserve(VOID)
{
    PVOID Base = MmAllocateMappingAddress(3 * KT_MIB, KT_TAG);
    if (Base == NULL) {
        return OutcomeRefused;
    }
    MmFreeMappingAddress(Base, KT_TAG);
    return OutcomeDone;
}

static OUTCOME AllocatePool(SIZE_T ByteCount)
{
    PVOID Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, ByteCount, KT_TAG);
    if (Block == NULL) {
        return OutcomeRefused;
    }
    ExFreePool(Block);
    return OutcomeDone;
}

static OUTCOME AllocateSmallPool(VOID)
{
    return AllocatePool(1333);
}

static OUTCOME AllocateOnePoolPage(VOID)
{
    return AllocatePool(PAGE_SIZE);
}

static OUTCOME AllocateManyPoolPages(VOID)
{
    return AllocatePool(20 * PAGE_SIZE);
}

static OUTCOME ClaimRange(VOID)
{
    PMM_CLAIM Claim;
    if (!NT_SUCCESS(
            MmClaimPhysicalRange(KtPhysical(Gap), PAGE_SIZE, MmClaimDevice, "tests", &Claim))) {
        return OutcomeRefused;
    }
    MmReleasePhysicalRange(Claim);
    return OutcomeDone;
}

static OUTCOME PlaceRange(VOID)
{
    PHYSICAL_ADDRESS Base;
    PMM_CLAIM Claim;
    if (!NT_SUCCESS(MmPlacePhysicalRange(PAGE_SIZE, PAGE_SIZE, KT_GAP_LOWEST, KT_GAP_HIGHEST,
                                         "tests", &Base, &Claim))) {
        return OutcomeRefused;
    }
    MmReleasePhysicalRange(Claim);
    return OutcomeDone;
}

static OUTCOME ListRam(VOID)
{
    PPHYSICAL_MEMORY_RANGE Ranges = MmGetPhysicalMemoryRanges();
    if (Ranges == NULL) {
        return OutcomeRefused;
    }
    ExFreePool(Ranges);
    return OutcomeDone;
}

// One attempt, with the allocation behind SkipCount others failing. FALSE: there was none to fail.
static BOOLEAN Attempt(SCENARIO *Scenario, ULONG SkipCount)
{
    MM_MEMORY_USE Before;
    MmQueryMemoryUse(&Before);
    MmStartFailures(MM_FAIL_ALL, SkipCount, 1);
    const OUTCOME Outcome = Scenario();
    const ULONG FailedCount = MmStopFailures();
    KtSetContext("allocation %u", SkipCount);
    if (FailedCount == 0) {
        KT_EQUAL(Outcome, OutcomeDone);
    }
    KT_EQUAL(MmVerify(), 0);
    KT_EQUAL(KtCountLeaks(&Before), 0);
    return FailedCount != 0;
}

static VOID RunScenario(SCENARIO *Scenario)
{
    Gap = KtFindGap(KT_GIB, KT_GIB);
    KT_REQUIRE(Gap != 0);
    ULONG AllocationCount = 0;
    while (AllocationCount < MAXIMUM_ALLOCATIONS && Attempt(Scenario, AllocationCount)) {
        AllocationCount += 1;
    }
    // A scenario that never meets a failure tests nothing; one that always does never succeeds.
    KT_CHECK(AllocationCount > 0);
    KT_CHECK(AllocationCount < MAXIMUM_ALLOCATIONS);
}

#define SCENARIO_TEST(Scenario)                                                                    \
    static VOID Fail##Scenario(VOID)                                                               \
    {                                                                                              \
        RunScenario(Scenario);                                                                     \
    }

SCENARIO_TEST(MapIoPage)
SCENARIO_TEST(MapIoManyTables)
SCENARIO_TEST(MapIoLarge)
SCENARIO_TEST(MapIoRam)
SCENARIO_TEST(MapIoTwice)
SCENARIO_TEST(AllocateIoMdl)
SCENARIO_TEST(MapIoMdl)
SCENARIO_TEST(AllocateMdl)
SCENARIO_TEST(AllocatePages)
SCENARIO_TEST(AllocateFewerPages)
SCENARIO_TEST(AllocateChunks)
SCENARIO_TEST(MapPages)
SCENARIO_TEST(Reserve)
SCENARIO_TEST(AllocateSmallPool)
SCENARIO_TEST(AllocateOnePoolPage)
SCENARIO_TEST(AllocateManyPoolPages)
SCENARIO_TEST(ClaimRange)
SCENARIO_TEST(PlaceRange)
SCENARIO_TEST(ListRam)

static const KT_TEST Tests[] = {
    {"MmMapIoSpaceEx of a page survives every failed allocation [4.1]", FailMapIoPage},
    {"MmMapIoSpaceEx over several tables survives every failed allocation [4.1]",
     FailMapIoManyTables},
    {"MmMapIoSpaceEx with large leaves survives every failed allocation [4.1]", FailMapIoLarge},
    {"MmMapIoSpace of locked RAM survives every failed allocation [4.1]", FailMapIoRam},
    {"MmMapIoSpace of a mapped page survives every failed allocation [4.1]", FailMapIoTwice},
    {"MmAllocateMdlForIoSpace survives every failed allocation, and says so [4.4]",
     FailAllocateIoMdl},
    {"mapping an MDL of device memory survives every failed allocation [6.8]", FailMapIoMdl},
    {"IoAllocateMdl survives every failed allocation [6.1]", FailAllocateMdl},
    {"MmAllocatePagesForMdlEx, all required, survives every failed allocation [7]",
     FailAllocatePages},
    {"MmAllocatePagesForMdl gives fewer pages when allocations fail [7]", FailAllocateFewerPages},
    {"MmAllocatePagesForMdlEx of chunks survives every failed allocation [7]", FailAllocateChunks},
    {"mapping an MDL of uncached RAM survives every failed allocation [6.8]", FailMapPages},
    {"MmAllocateMappingAddress survives every failed allocation [5.1]", FailReserve},
    {"pool of a small block survives every failed allocation [8.3]", FailAllocateSmallPool},
    {"pool of one page survives every failed allocation [8.3]", FailAllocateOnePoolPage},
    {"pool of many pages survives every failed allocation [8.3]", FailAllocateManyPoolPages},
    {"MmClaimPhysicalRange survives every failed allocation", FailClaimRange},
    {"MmPlacePhysicalRange survives every failed allocation", FailPlaceRange},
    {"MmGetPhysicalMemoryRanges survives every failed allocation [4.6]", FailListRam},
};

const KT_SUITE KtFailureSuite = {"failure", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
