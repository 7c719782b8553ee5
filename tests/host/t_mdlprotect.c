// MmProtectMdlSystemAddress, MmMapMdl, MmMapMemoryDumpMdl(Ex).
#include "tests/host/host.h"

#define TAG 0x746F7250u
#define PAGE_COUNT 3u

static PVOID Map(PMDL Mdl, MEMORY_CACHING_TYPE Type)
{
    return MmMapLockedPagesSpecifyCache(Mdl, KernelMode, Type, NULL, FALSE, NormalPagePriority);
}

//
// The entry.
//

static VOID An_inaccessible_leaf_keeps_its_frame_and_comes_back(VOID)
{
    for (ULONG Access = 0; Access < MiAccessCount; Access += 1) {
        for (ULONG Type = 0; Type < MiCacheTypeCount; Type += 1) {
            const MI_PROTECTION Protection = {(MI_ACCESS)Access, (MI_CACHE_TYPE)Type};
            const MMPTE Leaf = MiArchMakeLeaf(1, 0x12345, Protection);
            const MMPTE Hidden = MiArchMakeInaccessible(Leaf);
            CHECK(MiArchIsInaccessible(Hidden) && !MiArchIsInaccessible(Leaf));
            CHECK_EQUAL(MiArchPteKind(Hidden, 1), MiPteEmpty);
            CHECK_EQUAL(MiArchPtePfn(Hidden, 1), 0x12345);
            CHECK_EQUAL(MiArchMakeAccessible(Hidden).Value, Leaf.Value);
        }
    }
    CHECK(!MiArchIsInaccessible((MMPTE){0}) && !MiArchIsInaccessible(MiArchMakeTable(7)));
}

//
// MmProtectMdlSystemAddress.
//

static const struct {
    ULONG Protect;
    MI_ACCESS Access;
} Protections[] = {
    {PAGE_READONLY, MiAccessRead},   {PAGE_READWRITE, MiAccessReadWrite},
    {PAGE_EXECUTE, MiAccessExecute}, {PAGE_EXECUTE_READ, MiAccessExecuteRead},
    {PAGE_NOACCESS, MiAccessCount},  {PAGE_EXECUTE_READWRITE, MiAccessExecuteReadWrite},
};

static VOID CheckShown(PUCHAR Va, PMDL Mdl, MI_ACCESS Access, MI_CACHE_TYPE Type)
{
    for (ULONG Page = 0; Page < MiMdlPageCount(Mdl); Page += 1) {
        PFN_NUMBER Pfn;
        if (Access == MiAccessCount) {
            CHECK_UNMAPPED(Va + PAGES(Page));
        } else {
            CHECK_PAGE(Va + PAGES(Page), MmGetMdlPfnArray(Mdl)[Page], Access, Type);
        }
        CHECK(MiFindMappedFrame((ULONG_PTR)Va + PAGES(Page), &Pfn));
        CHECK_EQUAL(Pfn, MmGetMdlPfnArray(Mdl)[Page]);
    }
}

static VOID Every_protection_follows_every_other_and_the_frames_stay(VOID)
{
    static const MEMORY_CACHING_TYPE Types[] = {MmCached, MmWriteCombined, MmNonCached};
    for (ULONG Type = 0; Type < ARRAYSIZE(Types); Type += 1) {
        const PMDL Mdl = HostPagesMdl(PAGE_COUNT);
        const PUCHAR Va = Map(Mdl, Types[Type]);
        for (ULONG From = 0; From < ARRAYSIZE(Protections); From += 1) {
            for (ULONG To = 0; To < ARRAYSIZE(Protections); To += 1) {
                CHECK_EQUAL(MmProtectMdlSystemAddress(Mdl, Protections[From].Protect), 0);
                CHECK_EQUAL(MmProtectMdlSystemAddress(Mdl, Protections[To].Protect), 0);
                CheckShown(Va, Mdl, Protections[To].Access, (MI_CACHE_TYPE)Type);
            }
        }
        CHECK_EQUAL(MmProtectMdlSystemAddress(Mdl, PAGE_READWRITE), STATUS_SUCCESS);
        HostAudit();
        MmUnmapLockedPages(Va, Mdl);
        HostFreePagesMdl(Mdl);
    }
}

static VOID Unmapping_works_whatever_the_protection(VOID)
{
    const PVOID Reservation = MmAllocateMappingAddress(PAGES(PAGE_COUNT), TAG);
    const PMDL Mdl = HostPagesMdl(PAGE_COUNT);
    MM_MEMORY_USE Before;
    MmQueryMemoryUse(&Before);
    for (ULONG Row = 0; Row < ARRAYSIZE(Protections); Row += 1) {
        const PVOID Va = Map(Mdl, MmNonCached);
        CHECK_EQUAL(MmProtectMdlSystemAddress(Mdl, Protections[Row].Protect), STATUS_SUCCESS);
        MmUnmapLockedPages(Va, Mdl);
        CHECK_UNMAPPED(Va);
        HostAudit();
        CHECK(MmMapLockedPagesWithReservedMapping(Reservation, TAG, Mdl, MmNonCached) != NULL);
        CHECK_EQUAL(MmProtectMdlSystemAddress(Mdl, Protections[Row].Protect), STATUS_SUCCESS);
        MmUnmapReservedMapping(Reservation, TAG, Mdl);
        CHECK_UNMAPPED(Reservation);
        HostCheckSameUse(&Before, "after the unmap");
    }
    HostFreePagesMdl(Mdl);
    MmFreeMappingAddress(Reservation, TAG);
    HostAudit();
}

static VOID A_part_protects_its_pages_of_the_source_s_mapping(VOID)
{
    const PMDL Source = HostPagesMdl(PAGE_COUNT);
    const PMDL Part = IoAllocateMdl(NULL, PAGES(1), FALSE, FALSE, NULL);
    const PUCHAR Va = Map(Source, MmCached);
    IoBuildPartialMdl(Source, Part, (PVOID)PAGE_SIZE, PAGE_SIZE);
    CHECK_EQUAL(MmProtectMdlSystemAddress(Part, PAGE_NOACCESS), STATUS_SUCCESS);
    CHECK_UNMAPPED(Va + PAGES(1));
    CHECK(FakeWalk((ULONG_PTR)Va).Level != 0 && FakeWalk((ULONG_PTR)Va + PAGES(2)).Level != 0);
    CHECK_EQUAL(MmProtectMdlSystemAddress(Source, PAGE_READONLY), STATUS_SUCCESS);
    CheckShown(Va, Source, MiAccessRead, MiCacheWriteBack);
    IoFreeMdl(Part);
    HostFreePagesMdl(Source);
}

static VOID Advancing_over_inaccessible_pages_forgets_them(VOID)
{
    const PUCHAR Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, PAGES(2), TAG);
    const PMDL Mdl = IoAllocateMdl(Block, PAGES(2), FALSE, FALSE, NULL);
    MmProbeAndLockPages(Mdl, KernelMode, IoReadAccess);
    const PVOID Va = Map(Mdl, MmCached);
    CHECK_EQUAL(MmProtectMdlSystemAddress(Mdl, PAGE_NOACCESS), STATUS_SUCCESS);
    CHECK_EQUAL(MiFindMapping(Va)->InaccessiblePages, 2);
    CHECK_EQUAL(MmAdvanceMdl(Mdl, PAGE_SIZE), STATUS_SUCCESS);
    CHECK_EQUAL(MiFindOwnMapping(Mdl)->InaccessiblePages, 1);
    MmUnlockPages(Mdl);
    IoFreeMdl(Mdl);
    ExFreePool(Block);
}

static VOID Illegal_protections_are_refused(VOID)
{
    static const ULONG Rows[] = {0,
                                 PAGE_WRITECOPY,
                                 PAGE_EXECUTE_WRITECOPY,
                                 PAGE_GUARD | PAGE_READWRITE,
                                 PAGE_READWRITE | PAGE_NOCACHE,
                                 PAGE_READWRITE | PAGE_WRITECOMBINE,
                                 PAGE_NOACCESS | PAGE_READONLY,
                                 PAGE_READONLY | PAGE_READWRITE,
                                 0x800,
                                 MAXULONG};
    const PMDL Mdl = HostPagesMdl(PAGE_COUNT);
    const PVOID Va = Map(Mdl, MmCached);
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        CHECK_EQUAL(MmProtectMdlSystemAddress(Mdl, Rows[Row]), STATUS_INVALID_PAGE_PROTECTION);
        HostCheckRefusal("MmProtectMdlSystemAddress refused: no such protection");
        CheckShown(Va, Mdl, MiAccessReadWrite, MiCacheWriteBack);
    }
    HostFreePagesMdl(Mdl);
}

static VOID An_MDL_without_a_view_is_refused(VOID)
{
    const PMDL Mdl = HostPagesMdl(1);
    CHECK_EQUAL(MmProtectMdlSystemAddress(Mdl, PAGE_READONLY), STATUS_NOT_MAPPED_VIEW);
    const PVOID Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, PAGE_SIZE, TAG);
    const PMDL Built = IoAllocateMdl(Block, PAGE_SIZE, FALSE, FALSE, NULL);
    MmBuildMdlForNonPagedPool(Built);
    CHECK_EQUAL(MmProtectMdlSystemAddress(Built, PAGE_READONLY), STATUS_NOT_MAPPED_VIEW);
    IoFreeMdl(Built);
    ExFreePool(Block);
    HostFreePagesMdl(Mdl);
}

static VOID Another_frame_than_the_MDL_s_is_0x1A_0x1235(VOID)
{
    const PMDL Mdl = HostPagesMdl(2);
    const PUCHAR Va = Map(Mdl, MmCached);
    const PPFN_NUMBER Pfns = MmGetMdlPfnArray(Mdl);
    Pfns[1] += 1;
    EXPECT_BUG_CHECK((VOID)!MmProtectMdlSystemAddress(Mdl, PAGE_READONLY));
    CHECK_BUG_CHECK(MEMORY_MANAGEMENT, 0x1235, (ULONG_PTR)Mdl, (ULONG_PTR)Va + PAGE_SIZE,
                    Pfns[1] - 1);
    Pfns[1] -= 1;
    MmUnmapLockedPages(Va, Mdl);
    Mdl->MdlFlags |= MDL_MAPPED_TO_SYSTEM_VA; // a lie
    Mdl->MappedSystemVa = Va;
    EXPECT_BUG_CHECK((VOID)!MmProtectMdlSystemAddress(Mdl, PAGE_READONLY));
    CHECK_BUG_CHECK(MEMORY_MANAGEMENT, 0x1235, (ULONG_PTR)Mdl, (ULONG_PTR)Va, 0);
    const PUCHAR Reservation = MmAllocateMappingAddress(PAGE_SIZE, TAG);
    Mdl->MappedSystemVa = Reservation; // where nothing is mapped
    EXPECT_BUG_CHECK((VOID)!MmProtectMdlSystemAddress(Mdl, PAGE_READONLY));
    CHECK_BUG_CHECK(MEMORY_MANAGEMENT, 0x1235, (ULONG_PTR)Mdl, (ULONG_PTR)Reservation, 0);
    MmFreeMappingAddress(Reservation, TAG);
    Mdl->MdlFlags &= ~MDL_MAPPED_TO_SYSTEM_VA;
    const PMDL Longer = IoAllocateMdl(NULL, PAGES(3), FALSE, FALSE, NULL);
    const PUCHAR Shown = Map(Mdl, MmCached);
    IoBuildPartialMdl(Mdl, Longer, NULL, 0);
    Longer->ByteCount += PAGE_SIZE; // beyond the mapping
    EXPECT_BUG_CHECK((VOID)!MmProtectMdlSystemAddress(Longer, PAGE_READONLY));
    CHECK_BUG_CHECK(MEMORY_MANAGEMENT, 0x1235, (ULONG_PTR)Longer, (ULONG_PTR)Shown + PAGES(2), 0);
    IoFreeMdl(Longer);
    HostFreePagesMdl(Mdl);
}

static VOID A_mapped_frame_is_found_under_any_leaf(VOID)
{
    PFN_NUMBER Pfn;
    const PUCHAR Large = MmMapIoSpace(Pa(FAKE_IO_HIGH), 2u << 20, MmNonCached);
    CHECK(MiFindMappedFrame((ULONG_PTR)Large + PAGES(5), &Pfn));
    CHECK_EQUAL(Pfn, PfnOf(FAKE_IO_HIGH) + 5);
    MmUnmapIoSpace(Large, 2u << 20);
    CHECK(!MiFindMappedFrame((ULONG_PTR)Large, &Pfn));
}

static VOID Protecting_works_at_DISPATCH_LEVEL(VOID)
{
    const PMDL Mdl = HostPagesMdl(1);
    CHECK(Map(Mdl, MmCached) != NULL);
    FakeIrql = DISPATCH_LEVEL;
    CHECK_EQUAL(MmProtectMdlSystemAddress(Mdl, PAGE_READONLY), STATUS_SUCCESS);
    FakeIrql = PASSIVE_LEVEL;
    HostFreePagesMdl(Mdl);
}

//
// MmMapMdl.
//

typedef struct _SEEN {
    ULONG CallCount;
    PVOID Va;
    FAKE_PAGE Page;
    BOOLEAN Raises;
} SEEN;

static VOID NTAPI Look(PVOID Context, PVOID MappedVa)
{
    SEEN *Seen = Context;
    Seen->CallCount += 1;
    Seen->Va = MappedVa;
    Seen->Page = FakeWalk((ULONG_PTR)MappedVa);
    if (Seen->Raises) {
        ExRaiseStatus(STATUS_IN_PAGE_ERROR);
    }
}

static VOID The_routine_sees_the_page_as_it_was_asked_for(VOID)
{
    static const ULONG Modifiers[] = {0, PAGE_WRITECOMBINE, PAGE_NOCACHE};
    for (ULONG Type = 0; Type < ARRAYSIZE(Modifiers); Type += 1) {
        for (ULONG Row = 0; Row < ARRAYSIZE(Protections); Row += 1) {
            SEEN Seen = {0};
            const PMDL Mdl = HostPagesMdl(1);
            MM_MEMORY_USE Before;
            MmQueryMemoryUse(&Before);
            const ULONG Protect = Protections[Row].Protect | Modifiers[Type];
            const NTSTATUS Status = MmMapMdl(Mdl, Protect, Look, &Seen);
            HostCheckSameUse(&Before, "after MmMapMdl");
            if (Protections[Row].Access == MiAccessCount) {
                CHECK_EQUAL(Status, STATUS_INVALID_PAGE_PROTECTION);
                CHECK_EQUAL(Seen.CallCount, 0);
            } else {
                CHECK_EQUAL(Status, STATUS_SUCCESS);
                CHECK_EQUAL(Seen.CallCount, 1);
                CHECK_EQUAL(Seen.Page.Pfn, MmGetMdlPfnArray(Mdl)[0]);
                CHECK_EQUAL(Seen.Page.Protection.Access, Protections[Row].Access);
                CHECK_EQUAL(Seen.Page.Protection.CacheType, Type);
                CHECK_UNMAPPED(Seen.Va);
            }
            CHECK_EQUAL(Mdl->MdlFlags, MDL_PAGES_LOCKED);
            HostFreePagesMdl(Mdl);
        }
    }
}

static VOID The_address_includes_the_byte_offset(VOID)
{
    const PUCHAR Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, PAGE_SIZE, TAG);
    const PMDL Mdl = IoAllocateMdl(Block + 0x123, 8, FALSE, FALSE, NULL);
    SEEN Seen = {0};
    MmProbeAndLockPages(Mdl, KernelMode, IoReadAccess);
    CHECK_EQUAL(MmMapMdl(Mdl, PAGE_READWRITE, Look, &Seen), STATUS_SUCCESS);
    CHECK_EQUAL(BYTE_OFFSET(Seen.Va), 0x123);
    MmUnlockPages(Mdl);
    IoFreeMdl(Mdl);
    ExFreePool(Block);
}

static VOID What_is_mapped_already_is_shown_there_and_stays(VOID)
{
    const PUCHAR Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, PAGE_SIZE, TAG);
    const PVOID Reservation = MmAllocateMappingAddress(PAGE_SIZE, TAG);
    const PMDL Mdl = IoAllocateMdl(Block + 0x123, 8, FALSE, FALSE, NULL);
    const PMDL Part = IoAllocateMdl(Block + 0x123, 8, FALSE, FALSE, NULL);
    SEEN Seen = {0};
    MmProbeAndLockPages(Mdl, KernelMode, IoReadAccess);
    const PUCHAR Va = Map(Mdl, MmCached);
    IoBuildPartialMdl(Mdl, Part, Block + 0x124, 1);
    CHECK_EQUAL(MmMapMdl(Mdl, PAGE_READONLY, Look, &Seen), STATUS_SUCCESS);
    CHECK(Seen.Va == Va && FakeWalk((ULONG_PTR)Va).Level != 0);
    CHECK_EQUAL(MmMapMdl(Part, PAGE_READONLY, Look, &Seen), STATUS_SUCCESS);
    CHECK(Seen.Va == Va + 1);
    MmUnmapLockedPages(Va, Mdl);
    IoBuildPartialMdl(Mdl, Part, Block + 0x124, 1);
    CHECK_EQUAL(MmMapMdl(Part, PAGE_READONLY, Look, &Seen), STATUS_SUCCESS); // for the call only
    CHECK_EQUAL(Part->MdlFlags, MDL_PARTIAL);
    CHECK(MmMapLockedPagesWithReservedMapping(Reservation, TAG, Mdl, MmCached) != NULL);
    CHECK_EQUAL(MmMapMdl(Mdl, PAGE_READONLY, Look, &Seen), STATUS_SUCCESS);
    CHECK(Seen.Va == (PUCHAR)Reservation + 0x123);
    MmUnlockPages(Mdl);
    MmBuildMdlForNonPagedPool(Mdl);
    CHECK_EQUAL(MmMapMdl(Mdl, PAGE_READONLY, Look, &Seen), STATUS_SUCCESS);
    CHECK(Seen.Va == Block + 0x123);
    CHECK_EQUAL(Seen.CallCount, 5);
    IoFreeMdl(Mdl);
    IoFreeMdl(Part);
    MmFreeMappingAddress(Reservation, TAG);
    ExFreePool(Block);
}

static VOID A_raise_of_the_routine_goes_on_after_the_unmap(VOID)
{
    const PMDL Mdl = HostPagesMdl(1);
    SEEN Seen = {.Raises = TRUE};
    volatile NTSTATUS Caught = STATUS_SUCCESS;
    KmTry {
        (VOID) !MmMapMdl(Mdl, PAGE_READWRITE, Look, &Seen);
    }
    KmCatch (Status) {
        Caught = Status;
    }
    CHECK_EQUAL(Caught, STATUS_IN_PAGE_ERROR);
    CHECK_UNMAPPED(Seen.Va);
    CHECK_EQUAL(Mdl->MdlFlags, MDL_PAGES_LOCKED);
    HostFreePagesMdl(Mdl);
}

static VOID When_mapping_fails_the_routine_is_not_called(VOID)
{
    SEEN Seen = {0};
    const PMDL Mdl = HostPagesMdl(1);
    const PMDL Unlocked = IoAllocateMdl(NULL, 1, FALSE, FALSE, NULL);
    CHECK_EQUAL(MmMapMdl(Unlocked, PAGE_READWRITE, Look, &Seen), STATUS_INVALID_PARAMETER);
    CHECK_EQUAL(MmMapMdl(Mdl, PAGE_GUARD, Look, &Seen), STATUS_INVALID_PAGE_PROTECTION);
    for (ULONG Skip = 0;; Skip += 1) {
        MM_MEMORY_USE Before;
        MmQueryMemoryUse(&Before);
        MmStartFailures(MM_FAIL_ALL, Skip, 1);
        const NTSTATUS Status = MmMapMdl(Mdl, PAGE_EXECUTE_READ, Look, &Seen);
        (VOID) MmStopFailures();
        HostCheckSameUse(&Before, "after MmMapMdl");
        if (NT_SUCCESS(Status)) {
            CHECK(Skip > 0);
            break;
        }
        CHECK_EQUAL(Status, STATUS_INSUFFICIENT_RESOURCES);
        HostCheckRefusal("MmMapMdl refused: no pool, frames or system addresses left");
        CHECK_EQUAL(Seen.CallCount, 0);
    }
    CHECK_EQUAL(Seen.CallCount, 1);
    IoFreeMdl(Unlocked);
    HostFreePagesMdl(Mdl);
}

//
// Crash dumps.
//

static VOID Outside_of_a_bug_check_no_dump_is_mapped(VOID)
{
    const PVOID Reservation = MmAllocateMappingAddress(PAGE_SIZE, TAG);
    const PMDL Mdl = HostPagesMdl(1);
    MmMapMemoryDumpMdl(Mdl);
    HostCheckRefusal("MmMapMemoryDumpMdl refused: only within a bug check");
    CHECK(Mdl->MappedSystemVa == NULL && Mdl->MdlFlags == MDL_PAGES_LOCKED);
    CHECK_EQUAL(MmMapMemoryDumpMdlEx(Reservation, 1, Mdl, 0), STATUS_NOT_SUPPORTED);
    CHECK_UNMAPPED(Reservation);
    HostFreePagesMdl(Mdl);
    MmFreeMappingAddress(Reservation, TAG);
}

// The machine would not live on. Here it does: what the dump has mapped is taken away by hand.
static VOID ForgetDump(PVOID Va, ULONG PageCount)
{
    MI_TLB_BATCH Batch;
    MiInitializeTlbBatch(&Batch);
    MiClearRange((ULONG_PTR)PAGE_ALIGN(Va), PageCount, &Batch);
    MiFlushTlbBatch(&Batch);
}

static VOID In_a_bug_check_one_dump_is_mapped_at_a_time(VOID)
{
    struct {
        MDL Mdl;
        PFN_NUMBER Pfns[17];
    } Own;
    const PMDL Pages = HostPagesMdl(2);
    memset(&Own, 0, sizeof(Own));
    MmInitializeMdl(&Own.Mdl, (PVOID)0x123, PAGE_SIZE); // two pages
    Own.Pfns[0] = MmGetMdlPfnArray(Pages)[1];
    Own.Pfns[1] = PfnOf(FAKE_IO_LOW);
    FakeIsBugCheckActive = TRUE;
    FakeIrql = HIGH_LEVEL;
    MmMapMemoryDumpMdl(&Own.Mdl);
    const PUCHAR Va = Own.Mdl.MappedSystemVa;
    CHECK_EQUAL(BYTE_OFFSET(Va), 0x123);
    CHECK_PAGE(Va, Own.Pfns[0], MiAccessReadWrite, MiCacheWriteBack);
    CHECK_PAGE(Va + PAGE_SIZE, Own.Pfns[1], MiAccessReadWrite, MiCacheUncached);
    MmInitializeMdl(&Own.Mdl, NULL, PAGES(17)); // more than there is room for
    Own.Mdl.MappedSystemVa = NULL;
    MmMapMemoryDumpMdl(&Own.Mdl);
    CHECK(Own.Mdl.MappedSystemVa == NULL);
    MmInitializeMdl(&Own.Mdl, NULL, PAGE_SIZE);
    MmMapMemoryDumpMdl(&Own.Mdl);
    CHECK(Own.Mdl.MappedSystemVa == PAGE_ALIGN(Va));
    CHECK_UNMAPPED(Va + PAGE_SIZE);
    FakeIrql = PASSIVE_LEVEL;
    FakeIsBugCheckActive = FALSE;
    ForgetDump(Va, 1);
    HostFreePagesMdl(Pages);
}

static VOID In_a_bug_check_a_dump_is_mapped_into_a_reservation(VOID)
{
    const PMDL Mdl = HostPagesMdl(2);
    const PUCHAR Reservation = MmAllocateMappingAddress(PAGES(2), TAG);
    const PUCHAR Other = Map(Mdl, MmWriteCombined);
    const ULONG64 Flushes = FakeFullFlushes;
    const ULONG Both = MM_DUMP_MAP_CACHED | MM_DUMP_MAP_INVALIDATE;
    FakeIsBugCheckActive = TRUE;
    CHECK_EQUAL(MmMapMemoryDumpMdlEx(NULL, 2, Mdl, 0), STATUS_INVALID_PARAMETER);
    CHECK_EQUAL(MmMapMemoryDumpMdlEx(Other, 2, Mdl, 0), STATUS_INVALID_PARAMETER);
    CHECK_EQUAL(MmMapMemoryDumpMdlEx(Reservation, 3, Mdl, 0), STATUS_INVALID_PARAMETER);
    CHECK_EQUAL(MmMapMemoryDumpMdlEx(Reservation, 1, Mdl, 0), STATUS_INVALID_PARAMETER);
    CHECK_EQUAL(MmMapMemoryDumpMdlEx(Reservation, 2, Mdl, 4), STATUS_INVALID_PARAMETER);
    CHECK_EQUAL(MmMapMemoryDumpMdlEx(Reservation, 2, Mdl, 0), STATUS_SUCCESS);
    CHECK(Mdl->MappedSystemVa == Reservation && FakeFullFlushes == Flushes);
    CheckShown(Reservation, Mdl, MiAccessReadWrite, MiCacheWriteCombined); // the frames' own
    CHECK_EQUAL(MmMapMemoryDumpMdlEx(Reservation, 2, Mdl, Both), STATUS_SUCCESS);
    CHECK_EQUAL(FakeFullFlushes, Flushes + 1);
    FakeIsBugCheckActive = FALSE;
    ForgetDump(Reservation, 2);
    Mdl->MappedSystemVa = Other;
    MmUnmapLockedPages(Other, Mdl);
    HostFreePagesMdl(Mdl);
    MmFreeMappingAddress(Reservation, TAG);
}

static const HOST_TEST Tests[] = {
    HOST_ROW(An_inaccessible_leaf_keeps_its_frame_and_comes_back, "miarch.h, format",
             &FakeMachineMax),
    HOST_ROW(Every_protection_follows_every_other_and_the_frames_stay,
             "contract 6.13.1, 6.13.2, 18.22", &FakeMachineMax),
    HOST_ROW(Unmapping_works_whatever_the_protection, "contract 6.13.5", &FakeMachineMax),
    HOST_ROW(A_part_protects_its_pages_of_the_source_s_mapping, "contract 6.13.1", &FakeMachineMax),
    HOST_ROW(Advancing_over_inaccessible_pages_forgets_them, "contract 6.12.4, 6.13.2",
             &FakeMachineMax),
    HOST_ROW(Illegal_protections_are_refused, "contract 6.13.4, 18.22", &FakeMachineMax),
    HOST_ROW(An_MDL_without_a_view_is_refused, "contract 6.13.3, 18.22", &FakeMachineMax),
    HOST_ROW(Another_frame_than_the_MDL_s_is_0x1A_0x1235, "contract 0x1A/0x1235", &FakeMachineMax),
    HOST_ROW(A_mapped_frame_is_found_under_any_leaf, "mi.h, MiFindMappedFrame", &FakeMachineMax),
    HOST_ROW(Protecting_works_at_DISPATCH_LEVEL, "contract 6.13.1, 18.28", &FakeMachineMax),
    HOST_ROW(The_routine_sees_the_page_as_it_was_asked_for,
             "contract 6.14.1, 6.14.2, 6.14.4, 18.23", &FakeMachineMax),
    HOST_ROW(The_address_includes_the_byte_offset, "contract 6.14.1", &FakeMachineMax),
    HOST_ROW(What_is_mapped_already_is_shown_there_and_stays, "contract 6.14.3", &FakeMachineMax),
    HOST_ROW(A_raise_of_the_routine_goes_on_after_the_unmap, "contract 6.14.1, 1.1.1",
             &FakeMachineMax),
    HOST_ROW(When_mapping_fails_the_routine_is_not_called, "contract 6.14.2, 6.14.4, 18.23",
             &FakeMachineMax),
    HOST_ROW(Outside_of_a_bug_check_no_dump_is_mapped, "contract 6.15.1, 6.15.2", &FakeMachineMax),
    HOST_ROW(In_a_bug_check_one_dump_is_mapped_at_a_time, "mmddk.h, MmMapMemoryDumpMdl",
             &FakeMachineMax),
    HOST_ROW(In_a_bug_check_a_dump_is_mapped_into_a_reservation, "mmddk.h, MmMapMemoryDumpMdlEx",
             &FakeMachineMax),
};

HOST_DEFINE_SUITE(mdlprotect);
