// Parts of MDLs, and mapped MDLs with another protection: IoBuildPartialMdl, MmAdvanceMdl,
// MmProtectMdlSystemAddress, MmMapMdl.
#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "tests/kernel/reference.h"
#include "tests/kernel/tests.h"

#define OFFSET 0x123
#define PAGE_COUNT 4
#define STAMP 0x5AA55AA5u

static PUCHAR Block;
static PMDL Mdl;

// A block of four pages, each with its number, and a locked MDL of it that begins at OFFSET.
static BOOLEAN SetUp(VOID)
{
    Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, PAGE_COUNT * PAGE_SIZE, KT_TAG);
    Mdl = Block != NULL
              ? IoAllocateMdl(Block + OFFSET, PAGE_COUNT * PAGE_SIZE - OFFSET, FALSE, FALSE, NULL)
              : NULL;
    if (Mdl == NULL) {
        return FALSE;
    }
    for (ULONG Page = 0; Page < PAGE_COUNT; Page += 1) {
        *(volatile ULONG *)(Block + Page * PAGE_SIZE + 0x800) = STAMP + Page;
    }
    MmProbeAndLockPages(Mdl, KernelMode, IoWriteAccess);
    return TRUE;
}

static VOID TearDown(VOID)
{
    MmUnlockPages(Mdl);
    IoFreeMdl(Mdl);
    ExFreePool(Block);
}

static ULONG NumberAt(const VOID *Va)
{
    return *(const volatile ULONG *)((ULONG_PTR)PAGE_ALIGN(Va) + 0x800) - STAMP;
}

static PMDL AllocatePart(VOID)
{
    return IoAllocateMdl(Block, PAGE_COUNT * PAGE_SIZE, FALSE, FALSE, NULL);
}

//
// IoBuildPartialMdl.
//

static VOID APartHasTheSourcesFrames(VOID)
{
    KT_REQUIRE(SetUp());
    PMDL Part = AllocatePart();
    KT_REQUIRE(Part != NULL);
    IoBuildPartialMdl(Mdl, Part, Block + PAGE_SIZE + 7, PAGE_SIZE);
    KT_EQUAL(Part->MdlFlags, MDL_PARTIAL);
    KT_EQUAL(MmGetMdlVirtualAddress(Part), Block + PAGE_SIZE + 7);
    KT_EQUAL(MmGetMdlByteCount(Part), PAGE_SIZE);
    KT_EQUAL(KtPageAddress(Part, 0), KtPageAddress(Mdl, 1));
    KT_EQUAL(KtPageAddress(Part, 1), KtPageAddress(Mdl, 2));
    IoBuildPartialMdl(Mdl, Part, Block + 2 * PAGE_SIZE, 0);
    KT_EQUAL(MmGetMdlByteCount(Part), 2 * PAGE_SIZE); // all that follows
    IoFreeMdl(Part);
    TearDown();
}

static VOID APartSharesTheSourcesMapping(VOID)
{
    KT_REQUIRE(SetUp());
    PMDL Part = AllocatePart();
    PUCHAR Va = MmGetSystemAddressForMdlSafe(Mdl, NormalPagePriority);
    KT_REQUIRE(Part != NULL && Va != NULL);
    IoBuildPartialMdl(Mdl, Part, Block + 2 * PAGE_SIZE, PAGE_SIZE);
    KT_EQUAL(Part->MdlFlags, MDL_PARTIAL | MDL_MAPPED_TO_SYSTEM_VA);
    PUCHAR PartVa = MmGetSystemAddressForMdlSafe(Part, NormalPagePriority);
    KT_EQUAL(PartVa, Va - OFFSET + 2 * PAGE_SIZE);
    KT_EQUAL(NumberAt(PartVa), 2);
    MmPrepareMdlForReuse(Part);
    IoFreeMdl(Part);
    KT_CHECK(MmIsAddressValid(Va));
    TearDown();
}

static VOID APartMakesItsOwnMapping(VOID)
{
    KT_REQUIRE(SetUp());
    PMDL Part = AllocatePart();
    KT_REQUIRE(Part != NULL);
    for (ULONG Page = 1; Page < PAGE_COUNT; Page += 1) {
        IoBuildPartialMdl(Mdl, Part, Block + Page * PAGE_SIZE, PAGE_SIZE);
        PUCHAR Va = MmGetSystemAddressForMdlSafe(Part, NormalPagePriority);
        KT_REQUIRE(Va != NULL);
        KT_EQUAL(NumberAt(Va), Page);
        KT_EQUAL(Part->MdlFlags,
                 MDL_PARTIAL | MDL_MAPPED_TO_SYSTEM_VA | MDL_PARTIAL_HAS_BEEN_MAPPED);
        MmPrepareMdlForReuse(Part);
        KT_CHECK(!MmIsAddressValid(Va));
    }
    IoBuildPartialMdl(Mdl, Part, Block + PAGE_SIZE, PAGE_SIZE);
    KT_CHECK(MmGetSystemAddressForMdlSafe(Part, NormalPagePriority) != NULL);
    IoFreeMdl(Part); // with its mapping
    TearDown();
}

static VOID CreateMdl(VOID)
{
    struct {
        MDL Mdl;
        PFN_NUMBER Pfns[2];
    } Own;
    KT_EQUAL(MmCreateMdl(&Own.Mdl, (PVOID)0x1234, PAGE_SIZE), &Own.Mdl);
    KT_EQUAL(MmGetMdlVirtualAddress(&Own.Mdl), 0x1234);
    PMDL Pool = MmCreateMdl(NULL, (PVOID)0x1234, PAGE_SIZE);
    KT_REQUIRE(Pool != NULL);
    ExFreePool(Pool);
    KT_EQUAL(MmCreateMdl(NULL, NULL, 0), NULL);
    KT_EQUAL(MmCreateMdl(NULL, NULL, 4 * KT_GIB), NULL);
}

//
// MmAdvanceMdl.
//

static VOID AdvancingUnlocksWhatIsPassed(VOID)
{
    KT_REQUIRE(SetUp());
    KT_EQUAL(MmAdvanceMdl(Mdl, PAGE_COUNT * PAGE_SIZE), STATUS_INVALID_PARAMETER_2);
    const ULONG64 Second = KtPageAddress(Mdl, 1);
    PUCHAR Va = MmGetSystemAddressForMdlSafe(Mdl, NormalPagePriority);
    KT_REQUIRE(Va != NULL);
    KT_EQUAL(MmAdvanceMdl(Mdl, PAGE_SIZE + 1), STATUS_SUCCESS);
    KT_EQUAL(MmGetMdlVirtualAddress(Mdl), Block + PAGE_SIZE + OFFSET + 1);
    KT_EQUAL(MmGetMdlByteCount(Mdl), (PAGE_COUNT - 1) * PAGE_SIZE - OFFSET - 1);
    KT_EQUAL(KtPageAddress(Mdl, 0), Second);
    KT_EQUAL(Mdl->MappedSystemVa, Va + PAGE_SIZE + 1);
    KT_EQUAL(NumberAt(Mdl->MappedSystemVa), 1);
    KT_CHECK((Mdl->MdlFlags & MDL_FREE_EXTRA_PTES) != 0);
    KT_CHECK(!MmIsAddressValid(Va));
    KT_EQUAL(MmAdvanceMdl(Mdl, 2 * PAGE_SIZE), STATUS_SUCCESS);
    KT_EQUAL(NumberAt(Mdl->MappedSystemVa), 3);
    MmUnmapLockedPages(Mdl->MappedSystemVa, Mdl);
    KT_CHECK(!MmIsAddressValid(Va + 3 * PAGE_SIZE));
    TearDown();
}

//
// MmProtectMdlSystemAddress.
//

static VOID CheckAccess(PUCHAR Va, BOOLEAN IsReadable, BOOLEAN IsWritable)
{
    ULONG64 Value;
    for (ULONG Page = 0; Page < PAGE_COUNT; Page += 1) {
        KT_EQUAL(KeProbeRead(Va + Page * PAGE_SIZE, &Value).Faulted, !IsReadable);
        KT_EQUAL(KeProbeWrite(Va + Page * PAGE_SIZE, 0).Faulted, !IsWritable);
        if (IsReadable) {
            KT_EQUAL(NumberAt(Va + Page * PAGE_SIZE), Page);
        }
    }
}

static VOID ProtectionChangesAtOnce(VOID)
{
    static const struct {
        ULONG Protect;
        BOOLEAN IsReadable;
        BOOLEAN IsWritable;
    } Rows[] = {
        {PAGE_READONLY, TRUE, FALSE},     {PAGE_NOACCESS, FALSE, FALSE},
        {PAGE_READWRITE, TRUE, TRUE},     {PAGE_NOACCESS, FALSE, FALSE},
        {PAGE_EXECUTE_READ, TRUE, FALSE}, {PAGE_EXECUTE_READWRITE, TRUE, TRUE},
        {PAGE_READONLY, TRUE, FALSE},     {PAGE_READWRITE, TRUE, TRUE},
    };
    KT_REQUIRE(SetUp());
    PUCHAR Va = MmGetSystemAddressForMdlSafe(Mdl, NormalPagePriority);
    KT_REQUIRE(Va != NULL);
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        KtSetContext("row %u", Row);
        CheckAccess(PAGE_ALIGN(Va), Row == 0 || Rows[Row - 1].IsReadable,
                    Row == 0 || Rows[Row - 1].IsWritable); // the TLB knows it now
        KT_EQUAL(MmProtectMdlSystemAddress(Mdl, Rows[Row].Protect), STATUS_SUCCESS);
        CheckAccess(PAGE_ALIGN(Va), Rows[Row].IsReadable, Rows[Row].IsWritable);
    }
    TearDown();
}

static VOID AnInaccessibleEntryKeepsItsFrame(VOID)
{
    KT_REQUIRE(SetUp());
    PUCHAR Va = MmGetSystemAddressForMdlSafe(Mdl, NormalPagePriority);
    KT_REQUIRE(Va != NULL);
    KT_EQUAL(MmProtectMdlSystemAddress(Mdl, PAGE_NOACCESS), STATUS_SUCCESS);
    const ULONG64 Entry = *RefEntry(Va, 1);
    KT_EQUAL(Entry & REF_PRESENT, 0);
    KT_EQUAL(Entry & REF_FRAME, KtPageAddress(Mdl, 0));
    KT_EQUAL(KtPhysicalOf(Va), 0);
    MmUnmapLockedPages(Va, Mdl); // whatever the protection
    KT_EQUAL(*RefEntry(Va, 1), 0);
    TearDown();
}

static VOID IllegalProtectionsAreRefused(VOID)
{
    static const ULONG Rows[] = {0,
                                 PAGE_WRITECOPY,
                                 PAGE_READWRITE | PAGE_NOCACHE,
                                 PAGE_READWRITE | PAGE_GUARD,
                                 PAGE_NOACCESS | PAGE_READONLY,
                                 MAXULONG};
    KT_REQUIRE(SetUp());
    KT_EQUAL((ULONG)MmProtectMdlSystemAddress(Mdl, PAGE_READONLY), (ULONG)STATUS_NOT_MAPPED_VIEW);
    KT_CHECK(MmGetSystemAddressForMdlSafe(Mdl, NormalPagePriority) != NULL);
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        KT_EQUAL((ULONG)MmProtectMdlSystemAddress(Mdl, Rows[Row]),
                 (ULONG)STATUS_INVALID_PAGE_PROTECTION);
    }
    TearDown();
    PVOID Own = ExAllocatePool2(POOL_FLAG_NON_PAGED, PAGE_SIZE, KT_TAG);
    PMDL Built = IoAllocateMdl(Own, PAGE_SIZE, FALSE, FALSE, NULL);
    KT_REQUIRE(Own != NULL && Built != NULL);
    MmBuildMdlForNonPagedPool(Built);
    KT_EQUAL((ULONG)MmProtectMdlSystemAddress(Built, PAGE_READONLY), (ULONG)STATUS_NOT_MAPPED_VIEW);
    IoFreeMdl(Built);
    ExFreePool(Own);
}

//
// MmMapMdl.
//

typedef struct _SEEN {
    ULONG CallCount;
    PUCHAR Va;
    ULONG Number;
    BOOLEAN IsWritable;
    BOOLEAN Raises;
} SEEN;

static VOID NTAPI Look(PVOID Context, PVOID MappedVa)
{
    SEEN *Seen = Context;
    Seen->CallCount += 1;
    Seen->Va = MappedVa;
    Seen->Number = NumberAt(MappedVa);
    Seen->IsWritable = !KeProbeWrite(MappedVa, 0).Faulted;
    if (Seen->Raises) {
        ExRaiseStatus(STATUS_IN_PAGE_ERROR);
    }
}

static VOID MapMdlShowsTheDataForOneCall(VOID)
{
    SEEN Seen = {0};
    KT_REQUIRE(SetUp());
    KT_EQUAL(MmMapMdl(Mdl, PAGE_READWRITE, Look, &Seen), STATUS_SUCCESS);
    KT_CHECK(Seen.IsWritable && Seen.CallCount == 1 && Seen.Number == 0);
    KT_EQUAL((ULONG_PTR)Seen.Va & (PAGE_SIZE - 1), OFFSET);
    KT_CHECK(!MmIsAddressValid(Seen.Va));
    KT_EQUAL(MmMapMdl(Mdl, PAGE_READONLY, Look, &Seen), STATUS_SUCCESS);
    KT_CHECK(!Seen.IsWritable && Seen.CallCount == 2);
    KT_EQUAL((ULONG)MmMapMdl(Mdl, PAGE_NOACCESS, Look, &Seen),
             (ULONG)STATUS_INVALID_PAGE_PROTECTION);
    PUCHAR Va = MmGetSystemAddressForMdlSafe(Mdl, NormalPagePriority);
    KT_EQUAL(MmMapMdl(Mdl, PAGE_READONLY, Look, &Seen), STATUS_SUCCESS);
    KT_CHECK(Seen.Va == Va && MmIsAddressValid(Va) && Seen.CallCount == 3);
    TearDown();
}

static VOID ARaiseOfTheRoutineUnmaps(VOID)
{
    SEEN Seen = {.Raises = TRUE};
    volatile NTSTATUS Caught = STATUS_SUCCESS;
    KT_REQUIRE(SetUp());
    KmTry {
        (VOID) !MmMapMdl(Mdl, PAGE_READWRITE, Look, &Seen);
    }
    KmCatch (Status) {
        Caught = Status;
    }
    KT_EQUAL((ULONG)Caught, (ULONG)STATUS_IN_PAGE_ERROR);
    KT_CHECK(!MmIsAddressValid(Seen.Va));
    TearDown();
}

static VOID MapMdlFailsWithoutACall(VOID)
{
    SEEN Seen = {0};
    KT_REQUIRE(SetUp());
    NTSTATUS Status = STATUS_UNSUCCESSFUL;
    ULONG FailedCount = 0;
    while (!NT_SUCCESS(Status)) {
        KT_EQUAL(Seen.CallCount, 0);
        MmStartFailures(MM_FAIL_ALL, FailedCount, 1);
        Status = MmMapMdl(Mdl, PAGE_READWRITE, Look, &Seen);
        FailedCount += MmStopFailures();
    }
    KT_CHECK(FailedCount > 0);
    KT_EQUAL(Seen.CallCount, 1);
    TearDown();
}

static VOID NoDumpOutsideOfABugCheck(VOID)
{
    KT_REQUIRE(SetUp());
    PVOID Reservation = MmAllocateMappingAddress(PAGE_COUNT * PAGE_SIZE, KT_TAG);
    KT_REQUIRE(Reservation != NULL);
    MmMapMemoryDumpMdl(Mdl);
    KT_EQUAL(Mdl->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA, 0);
    KT_EQUAL((ULONG)MmMapMemoryDumpMdlEx(Reservation, PAGE_COUNT, Mdl, MM_DUMP_MAP_CACHED),
             (ULONG)STATUS_NOT_SUPPORTED);
    MmFreeMappingAddress(Reservation, KT_TAG);
    TearDown();
}

static VOID AllWorksAtDispatchLevel(VOID)
{
    SEEN Seen = {0};
    const KIRQL OldIrql = KeRaiseIrqlToDpcLevel();
    if (KT_CHECK(SetUp())) {
        PMDL Part = AllocatePart();
        IoBuildPartialMdl(Mdl, Part, Block + PAGE_SIZE, 0);
        KT_EQUAL(MmMapMdl(Part, PAGE_READWRITE, Look, &Seen), STATUS_SUCCESS);
        KT_CHECK(MmGetSystemAddressForMdlSafe(Part, NormalPagePriority) != NULL);
        KT_EQUAL(MmProtectMdlSystemAddress(Part, PAGE_NOACCESS), STATUS_SUCCESS);
        MmPrepareMdlForReuse(Part);
        IoFreeMdl(Part);
        KT_EQUAL(MmAdvanceMdl(Mdl, PAGE_SIZE), STATUS_SUCCESS);
        TearDown();
    }
    KeLowerIrql(OldIrql);
}

static const KT_TEST Tests[] = {
    {"a partial MDL has the source's frames; length 0 means all that follows [6.3.1, 6.3.2, 18.16]",
     APartHasTheSourcesFrames},
    {"a partial MDL shares the source's mapping, and leaves it alone [6.3.5, 6.16.1, 18.16]",
     APartSharesTheSourcesMapping},
    {"a partial MDL makes its own mapping, and reuse or free drops it [6.2.3, 6.3.6, 6.8.12, "
     "6.16.1]",
     APartMakesItsOwnMapping},
    {"MmCreateMdl makes an MDL in the caller's memory, or in pool [6.4.2]", CreateMdl},
    {"MmAdvanceMdl lets go of what it passes, and moves the addresses [6.12.1, 6.12.2, 6.12.3, "
     "6.12.4, 18.22]",
     AdvancingUnlocksWhatIsPassed},
    {"a new protection is in force at once, on the same frames [6.13.1, 6.13.2, 18.22]",
     ProtectionChangesAtOnce},
    {"an inaccessible page keeps its frame, and is unmapped as any other [6.13.2, 6.13.5]",
     AnInaccessibleEntryKeepsItsFrame},
    {"protections that do not exist, and MDLs without a view, are refused [6.13.3, 6.13.4, 18.22]",
     IllegalProtectionsAreRefused},
    {"MmMapMdl shows the data for the time of one call [6.14.1, 6.14.2, 6.14.3, 6.14.4, 18.23]",
     MapMdlShowsTheDataForOneCall},
    {"a routine of MmMapMdl may raise [6.14.1, 1.1.3]", ARaiseOfTheRoutineUnmaps},
    {"when MmMapMdl fails, the routine is not called [6.14.2, 18.23]", MapMdlFailsWithoutACall},
    {"no dump is mapped outside of a bug check [6.15.1, 6.15.2]", NoDumpOutsideOfABugCheck},
    {"parts, protections and calls with a mapping work at DISPATCH_LEVEL [6.3.7, 6.12.1, 6.13.1, "
     "18.28]",
     AllWorksAtDispatchLevel},
};

const KT_SUITE KtMdlPartSuite = {"mdlpart", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
