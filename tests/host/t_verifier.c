// The verifier's rules, each broken once: the code, the parameters, and that who called is named.
#include "tests/host/host.h"

#define CALLER ((PVOID)0x1234)
#define TAG 'tseT'
#define VIOLATION DRIVER_VERIFIER_DETECTED_VIOLATION

#define CHECK_VIOLATION(Statement, P1, P2, P3, P4)                                                 \
    do {                                                                                           \
        EXPECT_BUG_CHECK(Statement);                                                               \
        CHECK_BUG_CHECK(VIOLATION, P1, P2, P3, P4);                                                \
        CHECK(strstr(FakeBugCheck.Sentence, "called by HostCaller") != NULL);                      \
    } while (0)

static PMDL NewMdl(ULONG Flags)
{
    const PMDL Mdl = IoAllocateMdl((PVOID)0x123, 2 * PAGE_SIZE, FALSE, FALSE, NULL);
    CHECK(Mdl != NULL);
    Mdl->MdlFlags = (CSHORT)Flags;
    return Mdl;
}

static PMDL NewPages(VOID)
{
    const PMDL Mdl = MmAllocatePagesForMdl(Pa(0), Pa(MAXULONG64), Pa(0), 3 * PAGE_SIZE);
    CHECK(Mdl != NULL);
    return Mdl;
}

//
// IRQL.
//

typedef struct _IRQL_ROW {
    MI_IRQL_RULE Rule;
    KIRQL Maximum;
    ULONG Code;
    PCSTR Text; // of a rule of the DDI
} IRQL_ROW;

static const IRQL_ROW IrqlRows[] = {
    {MiIrqlMapIoSpace, 2, 0x73, NULL},
    {MiIrqlUnmapIoSpace, 2, 0x7B, NULL},
    {MiIrqlProbeAndLockPages, 2, 0x70, NULL},
    {MiIrqlProbeAndLockProcessPages, 2, 0x71, NULL},
    {MiIrqlProbeAndLockSelectedPages, 2, 0x72, NULL},
    {MiIrqlMapLockedPages, 2, 0x74, NULL},
    {MiIrqlMapLockedPagesUser, 1, 0x75, NULL},
    {MiIrqlMapLockedPagesSpecifyCache, 2, 0x76, NULL},
    {MiIrqlMapLockedPagesSpecifyCacheUser, 1, 0x77, NULL},
    {MiIrqlUnlockPages, 2, 0x78, NULL},
    {MiIrqlUnmapLockedPages, 2, 0x79, NULL},
    {MiIrqlUnmapLockedPagesUser, 1, 0x7A, NULL},
    {MiIrqlAllocateMdlForIoSpace, 2, 0x2001A, "IrqlMmDispatch"},
    {MiIrqlIoAllocateMdl, 2, 0x2001A, "IrqlMmDispatch"},
    {MiIrqlIoFreeMdl, 2, 0x2001A, "IrqlMmDispatch"},
    {MiIrqlIoBuildPartialMdl, 2, 0x2001A, "IrqlMmDispatch"},
    {MiIrqlBuildMdlForNonPagedPool, 2, 0x2001A, "IrqlMmDispatch"},
    {MiIrqlAdvanceMdl, 2, 0x2001A, "IrqlMmDispatch"},
    {MiIrqlProtectMdlSystemAddress, 2, 0x2001A, "IrqlMmDispatch"},
    {MiIrqlMapMdl, 2, 0x2001A, "IrqlMmDispatch"},
    {MiIrqlMapReserved, 2, 0x2001A, "IrqlMmDispatch"},
    {MiIrqlUnmapReserved, 2, 0x2001A, "IrqlMmDispatch"},
    {MiIrqlAllocateMappingAddress, 1, 0x20019, "IrqlMmApcLte"},
    {MiIrqlFreeMappingAddress, 1, 0x20019, "IrqlMmApcLte"},
    {MiIrqlAllocateContiguous, 2, 0x2001A, "IrqlMmDispatch"},
    {MiIrqlFreeContiguous, 2, 0x2001A, "IrqlMmDispatch"},
    {MiIrqlAllocateNonCached, 1, 0x20019, "IrqlMmApcLte"},
    {MiIrqlFreeNonCached, 1, 0x20019, "IrqlMmApcLte"},
    {MiIrqlCopyMemory, 1, 0x20019, "IrqlMmApcLte"},
    {MiIrqlMapVideoDisplay, 0, 0x20019, "IrqlMmApcLte"},
    {MiIrqlUnmapVideoDisplay, 0, 0x20019, "IrqlMmApcLte"},
    {MiIrqlGetPhysicalMemoryRanges, 0, 0x20019, "IrqlMmApcLte"},
    {MiIrqlIsAddressValid, 2, 0x2001A, "IrqlMmDispatch"},
    {MiIrqlAllocatePool, 2, 0x20004, "IrqlExAllocatePool"},
    {MiIrqlAllocatePagedPool, 1, 0x20004, "IrqlExAllocatePool"},
};

static VOID CheckIrqlRule(const IRQL_ROW *Row)
{
    FakeIrql = Row->Maximum;
    MiVerifyIrql(Row->Rule, 3, 4, CALLER);
    FakeIrql = Row->Maximum + 1;
    EXPECT_BUG_CHECK(MiVerifyIrql(Row->Rule, 3, 4, CALLER));
    CHECK_EQUAL(FakeBugCheck.Code, VIOLATION);
    CHECK_EQUAL(FakeBugCheck.Parameters[0], Row->Code);
    if (Row->Text != NULL) {
        CHECK_TEXT((PCSTR)FakeBugCheck.Parameters[1], Row->Text);
        CHECK_EQUAL(FakeBugCheck.Parameters[2], Row->Maximum + 1);
    } else {
        CHECK_EQUAL(FakeBugCheck.Parameters[1], Row->Maximum + 1);
        CHECK_EQUAL(FakeBugCheck.Parameters[2], 3);
        CHECK_EQUAL(FakeBugCheck.Parameters[3], 4);
    }
    CHECK(strstr(FakeBugCheck.Sentence, "called by HostCaller") != NULL);
}

static VOID Every_routine_has_its_highest_IRQL(VOID)
{
    for (ULONG Row = 0; Row < ARRAYSIZE(IrqlRows); Row += 1) {
        CheckIrqlRule(&IrqlRows[Row]);
    }
    CHECK_EQUAL(ARRAYSIZE(IrqlRows) + 2, MiIrqlRuleCount); // the two of 0x7E follow
}

static VOID Pages_by_MDL_are_for_DISPATCH_LEVEL(VOID)
{
    FakeIrql = 3;
    CHECK_VIOLATION(MiVerifyIrql(MiIrqlAllocatePagesForMdl, 2, 0, CALLER), 0x7E, 3, 2, 0);
    FakeIrql = 3;
    CHECK_VIOLATION(MiVerifyIrql(MiIrqlFreePagesFromMdl, 2, 0, CALLER), 0x7E, 3, 2, 0);
}

static VOID Unmapping_IO_space_at_DISPATCH_LEVEL_only_warns(VOID)
{
    HostForgetPrinted();
    FakeIrql = DISPATCH_LEVEL;
    MiVerifyUnmapIoSpace((PVOID)0x1000, 1, CALLER);
    FakeIrql = PASSIVE_LEVEL;
    CHECK(strstr(HostPrinted(), "MmUnmapIoSpace is called at DISPATCH_LEVEL by HostCaller") !=
          NULL);
    HostForgetPrinted();
    MiVerifyUnmapIoSpace((PVOID)0x1000, 1, CALLER);
    CHECK_TEXT(HostPrinted(), "");
}

//
// MDLs.
//

static VOID Locking_an_MDL_in_the_wrong_state(VOID)
{
    static const USHORT Bad[] = {MDL_PAGES_LOCKED, MDL_MAPPED_TO_SYSTEM_VA,
                                 MDL_SOURCE_IS_NONPAGED_POOL, MDL_PARTIAL, MDL_IO_SPACE};
    const PMDL Mdl = NewMdl(0);
    const ULONG_PTR At = (ULONG_PTR)Mdl;
    MiVerifyProbeAndLock(MiIrqlProbeAndLockPages, Mdl, KernelMode, CALLER);
    for (ULONG Row = 0; Row < ARRAYSIZE(Bad); Row += 1) {
        Mdl->MdlFlags = (CSHORT)(Bad[Row] | MDL_MAPPING_CAN_FAIL);
        CHECK_VIOLATION(MiVerifyProbeAndLock(MiIrqlProbeAndLockPages, Mdl, KernelMode, CALLER),
                        0xB0, At, Bad[Row] | MDL_MAPPING_CAN_FAIL, Bad[Row]);
        CHECK_VIOLATION(MiVerifyProbeAndLock(MiIrqlProbeAndLockProcessPages, Mdl, 0, CALLER), 0xB1,
                        At, Bad[Row] | MDL_MAPPING_CAN_FAIL, Bad[Row]);
    }
    Mdl->MdlFlags = 0;
    MmGetMdlPfnArray(Mdl)[0] = MiHighestRamPfn();
    MmGetMdlPfnArray(Mdl)[1] = MiHighestRamPfn();
    MmGetMdlPfnArray(Mdl)[2] = MiHighestRamPfn();
    MiVerifyLockedFrames(Mdl, CALLER);
    MmGetMdlPfnArray(Mdl)[2] = PfnOf(FAKE_IO_LOW);
    CHECK_VIOLATION(MiVerifyLockedFrames(Mdl, CALLER), 0x6F, At, PfnOf(FAKE_IO_LOW),
                    MiHighestRamPfn());
}

static VOID Unlocking_an_MDL_in_the_wrong_state(VOID)
{
    const PMDL Mdl = NewMdl(MDL_PAGES_LOCKED);
    const ULONG_PTR At = (ULONG_PTR)Mdl;
    MiVerifyUnlockPages(Mdl, CALLER);
    Mdl->MdlFlags = MDL_PAGES_LOCKED | MDL_PARTIAL;
    CHECK_VIOLATION(MiVerifyUnlockPages(Mdl, CALLER), 0xB4, At, 0x12, MDL_PARTIAL);
    Mdl->MdlFlags = MDL_SOURCE_IS_NONPAGED_POOL;
    CHECK_VIOLATION(MiVerifyUnlockPages(Mdl, CALLER), 0x7D, At, 4, 0);
    Mdl->MdlFlags = MDL_MAPPING_CAN_FAIL;
    CHECK_VIOLATION(MiVerifyUnlockPages(Mdl, CALLER), 0x7C, At, MDL_MAPPING_CAN_FAIL, 0);
}

static VOID CheckMap(PMDL Mdl, ULONG_PTR P1, ULONG_PTR P2, ULONG_PTR P3, ULONG_PTR P4)
{
    CHECK_VIOLATION(MiVerifyMapLockedPages(Mdl, KernelMode, CALLER), P1, P2, P3, P4);
    CHECK_VIOLATION(MiVerifyMapLockedPagesSpecifyCache(Mdl, KernelMode, FALSE, 16, CALLER), P1, P2,
                    P3, P4);
    CHECK_VIOLATION(MiVerifyMapReserved((PVOID)0x1000, Mdl, CALLER), P1, P2, P3, P4);
}

static VOID Mapping_an_MDL_in_the_wrong_state(VOID)
{
    const PMDL Mdl = NewPages();
    const ULONG_PTR At = (ULONG_PTR)Mdl;
    const PPFN_NUMBER Pfns = MmGetMdlPfnArray(Mdl);
    const PFN_NUMBER Own = Pfns[1];
    MiVerifyMapLockedPagesSpecifyCache(Mdl, KernelMode, FALSE, 16, CALLER);
    Mdl->MdlFlags = MDL_PAGES_LOCKED | MDL_MAPPED_TO_SYSTEM_VA;
    CheckMap(Mdl, 0xB2, At, 3, MDL_MAPPED_TO_SYSTEM_VA);
    Mdl->MdlFlags = MDL_SOURCE_IS_NONPAGED_POOL;
    CheckMap(Mdl, 0xB2, At, 4, 4);
    Mdl->MdlFlags = 0;
    CheckMap(Mdl, 0xB3, At, 0, MDL_PAGES_LOCKED | MDL_PARTIAL);
    Mdl->MdlFlags = MDL_PAGES_LOCKED;
    Pfns[1] = MiFirstFreePfn();
    CheckMap(Mdl, 0x85, At, 3, Pfns[1]);
    Pfns[1] = PfnOf(FAKE_IO_LOW);
    CheckMap(Mdl, 0x89, At, (ULONG_PTR)&Pfns[1], Pfns[1]);
    Mdl->MdlFlags |= MDL_IO_SPACE;
    MiVerifyMapLockedPages(Mdl, KernelMode, CALLER);
    Mdl->MdlFlags = MDL_PAGES_LOCKED;
    Pfns[1] = Own;
    MiVerifyMapReserved((PVOID)0x1000, Mdl, CALLER);
    CHECK_VIOLATION(MiVerifyMapReserved((PVOID)0x1004, Mdl, CALLER), 0x10000002, 0x1004, At, 0);
    CHECK_VIOLATION(MiVerifyMapLockedPagesSpecifyCache(Mdl, KernelMode, FALSE, 1u << 20, CALLER),
                    0x10000003, At, 1u << 20, 0);
    MiVerifyMapLockedPagesSpecifyCache(Mdl, UserMode, FALSE, 16, CALLER);
    MiVerifyMapLockedPages(Mdl, UserMode, CALLER);
}

static VOID Unmapping_an_MDL_in_the_wrong_state(VOID)
{
    const PMDL Mdl = NewMdl(MDL_PAGES_LOCKED | MDL_MAPPED_TO_SYSTEM_VA);
    const ULONG_PTR At = (ULONG_PTR)Mdl;
    const PVOID Va = (PVOID)MiArchLayout[MiRegionSystemPtes].BaseVa;
    MiVerifyUnmapLockedPages(Va, Mdl, CALLER);
    CHECK_VIOLATION(MiVerifyUnmapLockedPages((PVOID)0x5000, Mdl, CALLER), 0xB9, 0x5000, At, 0);
    Mdl->MdlFlags = MDL_PARTIAL | MDL_MAPPED_TO_SYSTEM_VA;
    CHECK_VIOLATION(MiVerifyUnmapLockedPages(Va, Mdl, CALLER), 0xB5, At, 0x11, MDL_PARTIAL);
    Mdl->MdlFlags |= MDL_PARTIAL_HAS_BEEN_MAPPED; // then MmPrepareMdlForReuse calls
    MiVerifyUnmapLockedPages(Va, Mdl, CALLER);
    Mdl->MdlFlags = MDL_PAGES_LOCKED;
    CHECK_VIOLATION(MiVerifyUnmapLockedPages(Va, Mdl, CALLER), 0xB6, At, 2,
                    MDL_MAPPED_TO_SYSTEM_VA);
}

static VOID Freeing_an_MDL_that_is_in_use(VOID)
{
    const PMDL Mdl = NewMdl(MDL_PAGES_LOCKED | MDL_MAPPED_TO_SYSTEM_VA);
    const ULONG_PTR At = (ULONG_PTR)Mdl;
    CHECK_VIOLATION(MiVerifyIoFreeMdl(Mdl, CALLER), 0xB8, At, 3, 0);
    Mdl->MdlFlags = MDL_PARTIAL | MDL_MAPPED_TO_SYSTEM_VA;
    MiVerifyIoFreeMdl(Mdl, CALLER);
    Mdl->MdlFlags = MDL_PAGES_LOCKED;
    MiVerifyIoFreeMdl(Mdl, CALLER); // by hand
    MiSealLockedMdl(Mdl);
    CHECK_VIOLATION(MiVerifyIoFreeMdl(Mdl, CALLER), 0x10000001, At, 2, 0);
    MiSealMdl(Mdl);
    CHECK_VIOLATION(MiVerifyIoFreeMdl(Mdl, CALLER), 0x10000001, At, 2, 0);
}

static VOID The_history_of_an_MDL_is_told(VOID)
{
    const PMDL Mdl = NewMdl(MDL_PARTIAL);
    CHECK(MiTrack(MiTrackMdl, Mdl, 64, 0, CALLER));
    EXPECT_BUG_CHECK(MiVerifyUnlockPages(Mdl, CALLER));
    CHECK(strstr(FakeBugCheck.Sentence, "which was allocated by HostCaller") != NULL);
    CHECK(strstr(FakeBugCheck.Sentence, " ms ago") != NULL);
    CHECK(MiTrack(MiTrackLockedPages, Mdl, PAGE_SIZE, 0, CALLER));
    EXPECT_BUG_CHECK(MiVerifyUnlockPages(Mdl, CALLER));
    CHECK(strstr(FakeBugCheck.Sentence, "which was locked by HostCaller") != NULL);
}

static VOID CheckBuild(PVOID Va, ULONG_PTR Rule, BOOLEAN TellsVa)
{
    const PMDL Mdl = IoAllocateMdl(Va, 100, FALSE, FALSE, NULL);
    CHECK_VIOLATION(MiVerifyBuildMdlForNonPagedPool(Mdl, CALLER), Rule, PASSIVE_LEVEL,
                    (ULONG_PTR)Mdl, TellsVa ? (ULONG_PTR)PAGE_ALIGN(Va) : 0);
    IoFreeMdl(Mdl);
}

static VOID An_MDL_is_built_from_memory_that_stays(VOID)
{
    const PVOID Good = ExAllocatePool2(POOL_FLAG_NON_PAGED, 100, TAG);
    const PMDL Mdl = IoAllocateMdl(Good, 100, FALSE, FALSE, NULL);
    MiVerifyBuildMdlForNonPagedPool(Mdl, CALLER);
    FakeStackBase = (ULONG_PTR)PAGE_ALIGN(Good);
    CheckBuild(Good, 0x140, TRUE);
    FakeStackBase = 0;
    CheckBuild(ExAllocatePool2(POOL_FLAG_PAGED, 100, TAG), 0x7F, FALSE);
    CheckBuild(MiFrameToVa(MiRootPfn), 0x140, TRUE);
    CheckBuild(MiFrameToVa(MiFirstFreePfn()), 0x140, TRUE);
    // What is not there has a code at every level.
    MiVerifyBuildMdlForNonPagedPool(NewMdl(0), CALLER);
}

//
// I/O space, pool, advice.
//

static VOID RAM_that_nobody_has_locked_is_not_mapped(VOID)
{
    const PFN_NUMBER Pfn = MiFirstFreePfn();
    const PHYSICAL_ADDRESS Free = Pa(Pfn << PAGE_SHIFT);
    CHECK_VIOLATION(MiVerifyMapIoSpace(Free, 100, PAGE_READWRITE, CALLER), 0x83, Pfn << PAGE_SHIFT,
                    100, Pfn);
    MiVerifyMapIoSpace(Pa(FAKE_IO_LOW), 100, PAGE_READWRITE, CALLER);
    MiVerifyMapIoSpace(Pa(0), 0, PAGE_READWRITE, CALLER);
    const PMDL Mdl = NewPages();
    MiVerifyMapIoSpace(Pa(MmGetMdlPfnArray(Mdl)[0] << PAGE_SHIFT), 100, PAGE_READWRITE, CALLER);
}

static VOID The_old_pool_routines_are_checked_too(VOID)
{
    MmVerifierLevel = 1;
    ExFreePool(ExAllocatePoolWithTag(NonPagedPool, 100, TAG));
    ExFreePool(ExAllocatePoolWithTag(PagedPool, 100, TAG));
    FakeCallerIsDriver = TRUE;
    ExFreePool(ExAllocatePoolWithTag(NonPagedPoolNx, 100, TAG));
    EXPECT_BUG_CHECK(Ignore(ExAllocatePoolWithTag(NonPagedPool, 100, TAG)));
    CHECK_EQUAL(FakeBugCheck.Code, VIOLATION);
    CHECK_EQUAL(FakeBugCheck.Parameters[0], 0x2000);
    CHECK(FakeBugCheck.Parameters[1] != 0); // in this function
    CHECK_EQUAL(FakeBugCheck.Parameters[2], NonPagedPool);
    CHECK_EQUAL(FakeBugCheck.Parameters[3], TAG);
    FakeIrql = DISPATCH_LEVEL;
    EXPECT_BUG_CHECK(Ignore(ExAllocatePoolWithTag(PagedPool, 100, TAG)));
    CHECK_EQUAL(FakeBugCheck.Parameters[0], 0x20004);
}

static VOID Cached_device_memory_is_only_warned_of(VOID)
{
    FakeCallerIsDriver = TRUE;
    HostForgetPrinted();
    MiVerifyMapIoSpace(Pa(FAKE_IO_LOW), 100, PAGE_READWRITE | PAGE_NOCACHE, CALLER);
    CHECK_TEXT(HostPrinted(), "");
    MiVerifyMapIoSpace(Pa(FAKE_IO_LOW), 100, PAGE_READWRITE, CALLER);
    CHECK(strstr(HostPrinted(), "is mapped cached by HostCaller") != NULL);
}

static VOID Pool_of_no_bytes(VOID)
{
    MmVerifierLevel = 1;
    EXPECT_BUG_CHECK(Ignore(ExAllocatePoolWithTag(NonPagedPoolNx, 0, TAG)));
    CHECK_BUG_CHECK(BAD_POOL_CALLER, 0x00, 0, NonPagedPoolNx, TAG);
    CHECK_VIOLATION(Ignore(ExAllocatePool2(POOL_FLAG_NON_PAGED, 0, TAG)), 0x00, PASSIVE_LEVEL,
                    POOL_FLAG_NON_PAGED, 0);
}

// As somebody else, and then as a driver, for whom it is a violation.
#define CHECK_ADVICE(Statement, P1, P2, P3, P4)                                                    \
    do {                                                                                           \
        FakeCallerIsDriver = FALSE;                                                                \
        Statement;                                                                                 \
        FakeCallerIsDriver = TRUE;                                                                 \
        CHECK_VIOLATION(Statement, P1, P2, P3, P4);                                                \
    } while (0)

static VOID Drivers_are_advised_and_nobody_else_is(VOID)
{
    const PMDL Mdl = NewPages();
    const ULONG_PTR At = (ULONG_PTR)Mdl;
    const ULONG_PTR Who = (ULONG_PTR)CALLER;
    CHECK_ADVICE(MiVerifyMapLockedPages(Mdl, KernelMode, CALLER), 0x81, At, MDL_PAGES_LOCKED, 0);
    CHECK_ADVICE(
        MiVerifyMapLockedPagesSpecifyCache(Mdl, KernelMode, TRUE, MdlMappingNoExecute, CALLER),
        0x82, At, MDL_PAGES_LOCKED, 0);
    CHECK_ADVICE(MiVerifyMapLockedPagesSpecifyCache(Mdl, KernelMode, FALSE, 16, CALLER), 0x2002,
                 Who, 16, 0);
    CHECK_ADVICE(MiVerifyMapIoSpace(Pa(FAKE_IO_LOW), 1, PAGE_EXECUTE_READ, CALLER), 0x2001, Who,
                 PAGE_EXECUTE_READ, 0);
    CHECK_ADVICE(MiVerifyProtection(MiIrqlMapMdl, PAGE_EXECUTE, CALLER), 0x2001, Who, PAGE_EXECUTE,
                 0);
    CHECK_ADVICE(MiVerifyAllocatePool(MiPoolExecutable, 0, 100, TAG, CALLER), 0x2000, Who, 0, TAG);
    CHECK_ADVICE(MiVerifyAllocateContiguous(Pa(MAXULONG), 100, PAGE_READWRITE, CALLER), 0x141,
                 MAXULONG, 100, 0);
    MiVerifyAllocateContiguous(Pa(1ull << 32), 100, PAGE_READWRITE, CALLER);
    MiVerifyMapLockedPagesSpecifyCache(Mdl, KernelMode, FALSE, MdlMappingNoExecute, CALLER);
}

static VOID Who_uses_up_the_addresses_is_named(VOID)
{
    const PVOID Io = MmMapIoSpace(Pa(FAKE_IO_LOW), 5 * PAGE_SIZE, MmNonCached);
    CHECK(Io != NULL);
    MiVerifyPtesLeft(10, 100, CALLER); // nobody's code
    FakeCallerIsDriver = TRUE;
    EXPECT_BUG_CHECK(MiVerifyPtesLeft(10, 100, CALLER));
    CHECK_BUG_CHECK(DRIVER_USED_EXCESSIVE_PTES, FakeBugCheck.Parameters[0], 5, 10, 100);
    CHECK_TEXT((PCSTR)FakeBugCheck.Parameters[0], "driver host");
}

static VOID Without_the_verifier_nothing_is_checked(VOID)
{
    CHECK_EQUAL(MmVerifierLevel, 0);
    const PVOID Executable = ExAllocatePoolWithTag(NonPagedPool, 0, TAG);
    CHECK(Executable != NULL && MiTrackCount == 0);
    ExFreePool(Executable);
    const PMDL Mdl = NewPages();
    const PVOID Va = MmMapLockedPages(Mdl, KernelMode);
    MmUnmapLockedPages(Va, Mdl);
    CHECK(Mdl->MappedSystemVa == Va);
    MmFreePagesFromMdl(Mdl);
    ExFreePool(Mdl);
}

static VOID Addresses_of_an_undone_mapping_rest(VOID)
{
    MmVerifierLevel = 1;
    const PVOID First = MmMapIoSpace(Pa(FAKE_IO_LOW), 1, MmNonCached);
    MmUnmapIoSpace(First, 1);
    for (ULONG Round = 0; Round < 200; Round += 1) {
        const PVOID Va = MmMapIoSpace(Pa(FAKE_IO_LOW), 1, MmNonCached);
        CHECK(Va != NULL && Va != First);
        MmUnmapIoSpace(Va, 1);
    }
}

static VOID Frames_are_overwritten(VOID)
{
    PFN_NUMBER Frames[] = {1, 2, 3};
    MiPoisonFrames(Frames, 2);
    CHECK(Frames[0] == MAXULONG64 && Frames[1] == MAXULONG64 && Frames[2] == 3);
}

static const HOST_TEST Tests[] = {
    HOST_ROW(Every_routine_has_its_highest_IRQL,
             "contract 18.28, 0xC4/0x70, 0xC4/0x71, 0xC4/0x72, 0xC4/0x73, 0xC4/0x74, 0xC4/0x76, "
             "0xC4/0x78, 0xC4/0x79, 0xC4/0x7B, 0xC4/0x20004, 0xC4/0x20019, 0xC4/0x2001A",
             &FakeMachineMax),
    HOST_ROW(Pages_by_MDL_are_for_DISPATCH_LEVEL, "contract 0xC4/0x7E", &FakeMachineMax),
    HOST_ROW(Unmapping_IO_space_at_DISPATCH_LEVEL_only_warns, "contract 0xC4/0x7B",
             &FakeMachineMax),
    HOST_ROW(Locking_an_MDL_in_the_wrong_state, "contract 0xC4/0xB0, 0xC4/0xB1, 0xC4/0x6F",
             &FakeMachineMax),
    HOST_ROW(Unlocking_an_MDL_in_the_wrong_state, "contract 6.7.5, 0xC4/0xB4, 0xC4/0x7C, 0xC4/0x7D",
             &FakeMachineMax),
    HOST_ROW(Mapping_an_MDL_in_the_wrong_state,
             "contract 0xC4/0xB2, 0xC4/0xB3, 0xC4/0x85, 0xC4/0x89", &FakeMachineMax),
    HOST_ROW(Unmapping_an_MDL_in_the_wrong_state, "contract 0xC4/0xB5, 0xC4/0xB6", &FakeMachineMax),
    HOST_ROW(Freeing_an_MDL_that_is_in_use, "contract 0xC4/0xB8", &FakeMachineMax),
    HOST_ROW(The_history_of_an_MDL_is_told, "contract 14.1", &FakeMachineMax),
    HOST_ROW(An_MDL_is_built_from_memory_that_stays, "contract 0xC4/0x7F, 0xC4/0x140",
             &FakeMachineMax),
    HOST_ROW(RAM_that_nobody_has_locked_is_not_mapped, "contract 0xC4/0x83", &FakeMachineMax),
    HOST_ROW(The_old_pool_routines_are_checked_too, "contract 0xC4/0x2000, 0xC4/0x20004",
             &FakeMachineMax),
    HOST_ROW(Cached_device_memory_is_only_warned_of, "contract 4.2.5", &FakeMachineMax),
    HOST_ROW(Pool_of_no_bytes, "contract 0xC4/0x00, 0xC2/0x00", &FakeMachineMax),
    HOST_ROW(Drivers_are_advised_and_nobody_else_is,
             "contract 0xC4/0x81, 0xC4/0x82, 0xC4/0x141, 0xC4/0x2000, 0xC4/0x2001, 0xC4/0x2002",
             &FakeMachineMax),
    HOST_ROW(Who_uses_up_the_addresses_is_named, "contract 0xD8", &FakeMachineMax),
    HOST_ROW(Without_the_verifier_nothing_is_checked, "contract 14.9", &FakeMachineMax),
    HOST_ROW(Addresses_of_an_undone_mapping_rest, "contract 14.3", &FakeMachineMax),
    HOST_ROW(Frames_are_overwritten, "contract 14.4", &FakeMachineMax),
};

HOST_DEFINE_SUITE(verifier);
