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

static OUTCOME AllocateContiguous(VOID)
{
    PVOID Va = MmAllocateContiguousMemorySpecifyCache(
        20 * PAGE_SIZE, KtPhysical(0), KtPhysical(MAXULONG64), KtPhysical(0), MmWriteCombined);
    if (Va == NULL) {
        return OutcomeRefused;
    }
    MmFreeContiguousMemory(Va);
    return OutcomeDone;
}

static OUTCOME AllocateNonCached(VOID)
{
    PVOID Va = MmAllocateNonCachedMemory(20 * PAGE_SIZE);
    if (Va == NULL) {
        return OutcomeRefused;
    }
    MmFreeNonCachedMemory(Va, 20 * PAGE_SIZE);
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

static NTSTATUS Lock(PMDL Mdl)
{
    KmTry {
        MmProbeAndLockPages(Mdl, KernelMode, IoWriteAccess);
    }
    KmCatch (Status) {
        return Status;
    }
    return STATUS_SUCCESS;
}

static OUTCOME LockPages(VOID)
{
    PVOID Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 3 * PAGE_SIZE, KT_TAG);
    PMDL Mdl = Block != NULL ? IoAllocateMdl(Block, 3 * PAGE_SIZE, FALSE, FALSE, NULL) : NULL;
    OUTCOME Outcome = OutcomeRefused;
    if (Mdl != NULL && NT_SUCCESS(Lock(Mdl))) {
        PVOID Va = MmGetSystemAddressForMdlSafe(Mdl, HighPagePriority | MdlMappingNoExecute);
        Outcome = Va != NULL ? OutcomeDone : OutcomeRefused;
        MmUnlockPages(Mdl);
    }
    if (Mdl != NULL) {
        KT_EQUAL(Mdl->MdlFlags & (MDL_PAGES_LOCKED | MDL_MAPPED_TO_SYSTEM_VA), 0);
        IoFreeMdl(Mdl);
    }
    if (Block != NULL) {
        ExFreePool(Block);
    }
    return Outcome;
}

static VOID NTAPI DoNothing(PVOID Context, PVOID Va)
{
    UNREFERENCED_PARAMETER(Context);
    UNREFERENCED_PARAMETER(Va);
}

static OUTCOME MapMdlForARoutine(VOID)
{
    PMDL Mdl = KtAllocatePages(2);
    if (Mdl == NULL) {
        return OutcomeRefused;
    }
    const NTSTATUS Status = MmMapMdl(Mdl, PAGE_READONLY, DoNothing, NULL);
    KtFreePages(Mdl);
    return NT_SUCCESS(Status) ? OutcomeDone : OutcomeRefused;
}

static OUTCOME AllocateExecutablePool(VOID)
{
    PVOID Block = ExAllocatePool2(POOL_FLAG_NON_PAGED_EXECUTE, 100, KT_TAG);
    if (Block == NULL) {
        return OutcomeRefused;
    }
    ExFreePool(Block);
    return OutcomeDone;
}

static OUTCOME AllocateQuotaPool(VOID)
{
    KmTry {
        PVOID Block = ExAllocatePoolWithQuotaTag(PagedPool, 2 * PAGE_SIZE, KT_TAG);
        ExFreePool(Block);
    }
    KmCatch (Status) {
        KT_EQUAL(Status, STATUS_INSUFFICIENT_RESOURCES);
        return OutcomeRefused;
    }
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

// Each of them once: a test of its own, and a member of the list.
#define SCENARIOS(Each)                                                                            \
    Each(MapIoPage) Each(MapIoManyTables) Each(MapIoLarge) Each(MapIoRam) Each(MapIoTwice)         \
        Each(AllocateIoMdl) Each(MapIoMdl) Each(AllocateMdl) Each(AllocatePages)                   \
            Each(AllocateFewerPages) Each(AllocateChunks) Each(AllocateContiguous)                 \
                Each(AllocateNonCached) Each(MapPages) Each(Reserve) Each(AllocateSmallPool)       \
                    Each(AllocateOnePoolPage) Each(AllocateManyPoolPages) Each(ClaimRange)         \
                        Each(PlaceRange) Each(ListRam) Each(LockPages) Each(MapMdlForARoutine)     \
                            Each(AllocateExecutablePool) Each(AllocateQuotaPool)

#define SCENARIO_TEST(Scenario)                                                                    \
    static VOID Fail##Scenario(VOID)                                                               \
    {                                                                                              \
        RunScenario(Scenario);                                                                     \
    }

SCENARIOS(SCENARIO_TEST)

//
// All of them, with every k-th allocation failing.
//

#define LARGEST_INTERVAL 24
#define ROUNDS 5

#define SCENARIO_MEMBER(Scenario) Scenario,

static SCENARIO *const Scenarios[] = {SCENARIOS(SCENARIO_MEMBER)};

static VOID RunAll(ULONG Interval)
{
    MM_MEMORY_USE Before;
    MmQueryMemoryUse(&Before);
    MmSimulateLowResources(MM_FAIL_ALL, Interval, FALSE);
    for (ULONG Index = 0; Index < ROUNDS * ARRAYSIZE(Scenarios); Index += 1) {
        (VOID) Scenarios[Index % ARRAYSIZE(Scenarios)]();
    }
    KtSetContext("every %u-th allocation fails", Interval);
    KT_CHECK(MmSimulatedFailureCount() >= ROUNDS);
    MmSimulateLowResources(0, 0, FALSE);
    KT_EQUAL(MmVerify(), 0);
    KT_EQUAL(KtCountLeaks(&Before), 0);
}

static VOID EveryScenarioUnderEveryInterval(VOID)
{
    Gap = KtFindGap(KT_GIB, KT_GIB);
    KT_REQUIRE(Gap != 0);
    for (ULONG Interval = 1; Interval <= LARGEST_INTERVAL; Interval += 1) {
        RunAll(Interval);
    }
}

static const KT_TEST Tests[] = {
    {"MmMapIoSpaceEx of a page survives every failed allocation [4.2.4]", FailMapIoPage},
    {"MmMapIoSpaceEx over several tables survives every failed allocation [4.2.4]",
     FailMapIoManyTables},
    {"MmMapIoSpaceEx with large leaves survives every failed allocation [4.2.4]", FailMapIoLarge},
    {"MmMapIoSpace of locked RAM survives every failed allocation [4.1.5]", FailMapIoRam},
    {"MmMapIoSpace of a mapped page survives every failed allocation [4.1.5, 4.1.12]",
     FailMapIoTwice},
    {"MmAllocateMdlForIoSpace survives every failed allocation, and says so [4.4.7]",
     FailAllocateIoMdl},
    {"mapping an MDL of device memory survives every failed allocation [6.8.5]", FailMapIoMdl},
    {"IoAllocateMdl survives every failed allocation [6.1.5]", FailAllocateMdl},
    {"MmAllocatePagesForMdlEx, all required, survives every failed allocation [7.1.10, 7.2.1]",
     FailAllocatePages},
    {"MmAllocatePagesForMdl gives fewer pages when allocations fail [7.1.4]",
     FailAllocateFewerPages},
    {"write-combined contiguous memory survives every failed allocation [8.1.10]",
     FailAllocateContiguous},
    {"MmAllocateNonCachedMemory survives every failed allocation [8.2.2]", FailAllocateNonCached},
    {"MmAllocatePagesForMdlEx of chunks survives every failed allocation [7.1.10]",
     FailAllocateChunks},
    {"mapping an MDL of uncached RAM survives every failed allocation [6.8.5]", FailMapPages},
    {"MmAllocateMappingAddress survives every failed allocation [5.1.5]", FailReserve},
    {"pool of a small block survives every failed allocation [8.3.6]", FailAllocateSmallPool},
    {"pool of one page survives every failed allocation [8.3.6]", FailAllocateOnePoolPage},
    {"pool of many pages survives every failed allocation [8.3.6]", FailAllocateManyPoolPages},
    {"MmProbeAndLockPages, and mapping the MDL, survive every failed allocation [6.6.3, 6.8.5]",
     FailLockPages},
    {"MmMapMdl survives every failed allocation [6.14.2]", FailMapMdlForARoutine},
    {"executable pool survives every failed allocation [8.3.6]", FailAllocateExecutablePool},
    {"pool with quota raises when an allocation fails [8.3.11, 8.3.13]", FailAllocateQuotaPool},
    {"every routine survives when every k-th allocation fails, for k from 1 to 24 [14.8]",
     EveryScenarioUnderEveryInterval},
    {"MmClaimPhysicalRange survives every failed allocation", FailClaimRange},
    {"MmPlacePhysicalRange survives every failed allocation", FailPlaceRange},
    {"MmGetPhysicalMemoryRanges survives every failed allocation [4.6.3]", FailListRam},
};

const KT_SUITE KtFailureSuite = {"failure", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
