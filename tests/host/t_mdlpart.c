// IoBuildPartialMdl, MmPrepareMdlForReuse, MmAdvanceMdl, MmCreateMdl.
#include "tests/host/host.h"

#define TAG 0x74726150u
#define OFFSET 0x123u
#define SOURCE_BYTES (PAGES(3) + 0x10)

static PUCHAR PoolPages(ULONG PageCount)
{
    const PUCHAR Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, PAGES(PageCount), TAG);
    CHECK(Block != NULL);
    return Block;
}

static PMDL MdlOf(PVOID Va, SIZE_T ByteCount)
{
    const PMDL Mdl = IoAllocateMdl(Va, (ULONG)ByteCount, FALSE, FALSE, NULL);
    CHECK(Mdl != NULL);
    return Mdl;
}

static PMDL LockedMdl(PVOID Va, SIZE_T ByteCount)
{
    const PMDL Mdl = MdlOf(Va, ByteCount);
    MmProbeAndLockPages(Mdl, KernelMode, IoWriteAccess);
    return Mdl;
}

static VOID Release(PMDL Mdl)
{
    MmUnlockPages(Mdl);
    IoFreeMdl(Mdl);
}

static PVOID Map(PMDL Mdl)
{
    return MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmCached, NULL, FALSE, NormalPagePriority);
}

//
// IoBuildPartialMdl.
//

static VOID A_part_describes_its_bytes_with_the_source_s_frames(VOID)
{
    static const struct {
        ULONG Offset;
        ULONG Length;
        ULONG FirstPage;
        ULONG PageCount;
    } Rows[] = {
        {0, 1, 0, 1},
        {0, PAGE_SIZE - OFFSET, 0, 1},
        {0, PAGE_SIZE - OFFSET + 1, 0, 2},
        {PAGE_SIZE - OFFSET, PAGE_SIZE, 1, 1},
        {PAGE_SIZE - OFFSET - 1, 2, 0, 2},
        {0, SOURCE_BYTES, 0, 4},
        {SOURCE_BYTES - 1, 1, 3, 1},
    };
    const PUCHAR Block = PoolPages(4);
    const PMDL Source = LockedMdl(Block + OFFSET, SOURCE_BYTES);
    const PMDL Target = MdlOf(Block + OFFSET, SOURCE_BYTES);
    Source->Process = (PVOID)8;
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        const PUCHAR Va = Block + OFFSET + Rows[Row].Offset;
        IoBuildPartialMdl(Source, Target, Va, Rows[Row].Length);
        CHECK_EQUAL(Target->MdlFlags, MDL_PARTIAL);
        CHECK(MmGetMdlVirtualAddress(Target) == Va && Target->StartVa == PAGE_ALIGN(Va));
        CHECK_EQUAL(Target->ByteCount, Rows[Row].Length);
        CHECK(Target->Process == (PVOID)8 && Target->MappedSystemVa == NULL);
        CHECK_EQUAL(MiMdlPageCount(Target), Rows[Row].PageCount);
        for (ULONG Page = 0; Page < Rows[Row].PageCount; Page += 1) {
            CHECK_EQUAL(MmGetMdlPfnArray(Target)[Page],
                        MmGetMdlPfnArray(Source)[Rows[Row].FirstPage + Page]);
        }
    }
    CHECK_EQUAL(MiLockedPageCount(), 4); // the part locks nothing
    Source->Process = NULL;
    IoFreeMdl(Target);
    Release(Source);
    ExFreePool(Block);
}

static VOID Length_0_is_all_that_follows(VOID)
{
    const PUCHAR Block = PoolPages(4);
    const PMDL Source = LockedMdl(Block + OFFSET, SOURCE_BYTES);
    const PMDL Target = MdlOf(Block, PAGES(4));
    IoBuildPartialMdl(Source, Target, Block + OFFSET, 0);
    CHECK_EQUAL(Target->ByteCount, SOURCE_BYTES);
    IoBuildPartialMdl(Source, Target, Block + OFFSET + 0x1000, 0);
    CHECK_EQUAL(Target->ByteCount, SOURCE_BYTES - 0x1000);
    IoFreeMdl(Target);
    Release(Source);
    ExFreePool(Block);
}

static VOID A_part_shares_the_source_s_mapping(VOID)
{
    const PUCHAR Block = PoolPages(4);
    const PMDL Source = LockedMdl(Block + OFFSET, SOURCE_BYTES);
    const PMDL Target = MdlOf(Block, PAGES(4));
    const PUCHAR Va = Map(Source);
    IoBuildPartialMdl(Source, Target, Block + OFFSET + 0x1234, 0x100);
    CHECK_EQUAL(Target->MdlFlags, MDL_PARTIAL | MDL_MAPPED_TO_SYSTEM_VA);
    CHECK(MmGetSystemAddressForMdlSafe(Target, NormalPagePriority) == Va + 0x1234);
    MmPrepareMdlForReuse(Target); // nothing of its own
    CHECK_PAGE(Va + PAGE_SIZE, MmGetMdlPfnArray(Source)[1], MiAccessReadWrite, MiCacheWriteBack);
    IoFreeMdl(Target);
    CHECK(FakeWalk((ULONG_PTR)Va).Level != 0);
    Release(Source);
    ExFreePool(Block);
}

static VOID A_part_of_a_reserved_mapping_has_the_right_address(VOID)
{
    const PUCHAR Block = PoolPages(4);
    const PUCHAR Reservation = MmAllocateMappingAddress(PAGES(4), TAG);
    const PMDL Source = LockedMdl(Block + OFFSET, SOURCE_BYTES);
    const PMDL Target = MdlOf(Block, PAGES(4));
    CHECK(MmMapLockedPagesWithReservedMapping(Reservation, TAG, Source, MmCached) ==
          Reservation + OFFSET);
    IoBuildPartialMdl(Source, Target, Block + OFFSET + 5, 1);
    CHECK(Target->MappedSystemVa == Reservation + OFFSET + 5);
    IoFreeMdl(Target);
    Release(Source);
    MmFreeMappingAddress(Reservation, TAG);
    ExFreePool(Block);
}

static VOID A_part_without_a_mapping_makes_its_own(VOID)
{
    const PUCHAR Block = PoolPages(4);
    const PMDL Source = LockedMdl(Block + OFFSET, SOURCE_BYTES);
    const PMDL Target = MdlOf(Block, PAGES(4));
    IoBuildPartialMdl(Source, Target, Block + PAGE_SIZE + 7, PAGE_SIZE);
    const PUCHAR Va = MmGetSystemAddressForMdlSafe(Target, NormalPagePriority);
    CHECK_EQUAL(BYTE_OFFSET(Va), 7);
    CHECK_PAGE(Va, MmGetMdlPfnArray(Source)[1], MiAccessReadWrite, MiCacheWriteBack);
    CHECK_EQUAL(Target->MdlFlags,
                MDL_PARTIAL | MDL_MAPPED_TO_SYSTEM_VA | MDL_PARTIAL_HAS_BEEN_MAPPED);
    CHECK((Source->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA) == 0);
    MmPrepareMdlForReuse(Target);
    CHECK_UNMAPPED(Va);
    CHECK_EQUAL(Target->MdlFlags, MDL_PARTIAL);
    IoBuildPartialMdl(Source, Target, Block + OFFSET, 1);
    CHECK(Map(Target) != NULL);
    IoFreeMdl(Target); // with its mapping
    Release(Source);
    ExFreePool(Block);
}

static VOID A_target_that_is_still_mapped_is_unmapped_and_reported(VOID)
{
    const PUCHAR Block = PoolPages(4);
    const PMDL Source = LockedMdl(Block + OFFSET, SOURCE_BYTES);
    const PMDL Target = MdlOf(Block, PAGES(4));
    IoBuildPartialMdl(Source, Target, Block + OFFSET, 1);
    const PVOID Va = Map(Target);
    HostForgetPrinted();
    IoBuildPartialMdl(Source, Target, Block + PAGE_SIZE, 1);
    CHECK(strstr(HostPrinted(), "MmPrepareMdlForReuse was not called") != NULL);
    CHECK_UNMAPPED(Va);
    IoFreeMdl(Target);
    Release(Source);
    ExFreePool(Block);
}

static VOID Parts_of_every_kind_of_source_take_over_its_flags(VOID)
{
    const PUCHAR Block = PoolPages(2);
    const PMDL Built = MdlOf(Block, PAGES(2));
    const PMDL Pages = HostPagesMdl(2);
    const PMDL Target = MdlOf(NULL, PAGES(2));
    MM_PHYSICAL_ADDRESS_LIST List = {Pa(FAKE_IO_LOW), PAGES(2)};
    PMDL Io;
    CHECK_EQUAL(MmAllocateMdlForIoSpace(&List, 1, &Io), STATUS_SUCCESS);
    MmBuildMdlForNonPagedPool(Built);
    Target->MdlFlags |= MDL_ALLOCATED_MUST_SUCCEED | MDL_NETWORK_HEADER;
    IoBuildPartialMdl(Built, Target, Block + 9, 1);
    CHECK_EQUAL(Target->MdlFlags,
                MDL_PARTIAL | MDL_SOURCE_IS_NONPAGED_POOL | MDL_ALLOCATED_MUST_SUCCEED);
    CHECK(MmGetSystemAddressForMdlSafe(Target, NormalPagePriority) == Block + 9);
    IoBuildPartialMdl(Pages, Target, (PVOID)PAGE_SIZE, PAGE_SIZE); // an offset: it begins at 0
    CHECK_EQUAL(MmGetMdlPfnArray(Target)[0], MmGetMdlPfnArray(Pages)[1]);
    IoBuildPartialMdl(Io, Target, (PVOID)PAGE_SIZE, 0);
    CHECK_EQUAL(Target->MdlFlags, MDL_PARTIAL | MDL_IO_SPACE | MDL_ALLOCATED_MUST_SUCCEED);
    CHECK_PAGE(Map(Target), PfnOf(FAKE_IO_LOW) + 1, MiAccessReadWrite, MiCacheWriteBack);
    IoFreeMdl(Target);
    IoFreeMdl(Io);
    HostFreePagesMdl(Pages);
    IoFreeMdl(Built);
    ExFreePool(Block);
}

static VOID CheckOutside(PMDL Source, PMDL Target, PVOID Va, ULONG Length)
{
    EXPECT_BUG_CHECK(IoBuildPartialMdl(Source, Target, Va, Length));
    CHECK_BUG_CHECK(INVALID_MDL_RANGE, (ULONG_PTR)Source, (ULONG_PTR)Target, (ULONG_PTR)Va, Length);
}

static VOID Bytes_outside_of_the_source_are_0x12E(VOID)
{
    const PUCHAR Block = PoolPages(4);
    const PMDL Source = LockedMdl(Block + OFFSET, SOURCE_BYTES);
    const PMDL Target = MdlOf(Block, PAGES(4));
    CheckOutside(Source, Target, Block + OFFSET - 1, 1);
    CheckOutside(Source, Target, Block + OFFSET - 1, 0);
    CheckOutside(Source, Target, Block + OFFSET, SOURCE_BYTES + 1);
    CheckOutside(Source, Target, Block + OFFSET + SOURCE_BYTES, 0);
    CheckOutside(Source, Target, Block + OFFSET + 1, MAXULONG);
    CheckOutside(Source, Target, NULL, 1);
    CheckOutside(Source, Target, (PVOID)MAXULONG64, 2);
    IoFreeMdl(Target);
    Release(Source);
    ExFreePool(Block);
}

static VOID A_target_without_room_is_0x40(VOID)
{
    const PUCHAR Block = PoolPages(4);
    const PMDL Source = LockedMdl(Block + OFFSET, SOURCE_BYTES);
    const PMDL Target = MdlOf(Block, PAGES(2));
    struct {
        MDL Mdl;
        PFN_NUMBER Pfns[2];
    } Own;
    IoBuildPartialMdl(Source, Target, Block + OFFSET, 1);
    IoBuildPartialMdl(Source, Target, Block + OFFSET, PAGE_SIZE); // still room for two
    EXPECT_BUG_CHECK(IoBuildPartialMdl(Source, Target, Block + OFFSET, PAGES(2)));
    CHECK_BUG_CHECK(TARGET_MDL_TOO_SMALL, (ULONG_PTR)Target, 3, 2, 0);
    memset(&Own, 0, sizeof(Own));
    MmInitializeMdl(&Own.Mdl, Block, PAGES(2));
    IoBuildPartialMdl(Source, &Own.Mdl, Block + OFFSET, 1);
    IoBuildPartialMdl(Source, &Own.Mdl, Block + OFFSET, PAGE_SIZE);
    EXPECT_BUG_CHECK(IoBuildPartialMdl(Source, &Own.Mdl, Block + OFFSET, PAGES(2)));
    CHECK_BUG_CHECK(TARGET_MDL_TOO_SMALL, (ULONG_PTR)&Own.Mdl, 3, 2, 0);
    MmInitializeMdl(&Own.Mdl, NULL, 0);
    EXPECT_BUG_CHECK(IoBuildPartialMdl(Source, &Own.Mdl, Block + OFFSET, 1));
    CHECK_BUG_CHECK(TARGET_MDL_TOO_SMALL, (ULONG_PTR)&Own.Mdl, 1, 0, 0);
    Own.Mdl.Size = 0;
    EXPECT_BUG_CHECK(IoBuildPartialMdl(Source, &Own.Mdl, Block + OFFSET, 1));
    CHECK_BUG_CHECK(TARGET_MDL_TOO_SMALL, (ULONG_PTR)&Own.Mdl, 1, 0, 0);
    IoFreeMdl(Target);
    Release(Source);
    ExFreePool(Block);
}

static VOID An_MDL_in_the_driver_s_memory_does_all_that_others_do(VOID)
{
    struct {
        MDL Mdl;
        PFN_NUMBER Pfns[3];
    } Own;
    const PUCHAR Block = PoolPages(3);
    memset(&Own, 0, sizeof(Own));
    MmInitializeMdl(&Own.Mdl, Block, PAGES(3));
    MmProbeAndLockPages(&Own.Mdl, KernelMode, IoReadAccess);
    CHECK(Map(&Own.Mdl) != NULL);
    CHECK_EQUAL(MmAdvanceMdl(&Own.Mdl, PAGE_SIZE), STATUS_SUCCESS);
    CHECK_EQUAL(MiLockedPageCount(), 2);
    HostAudit();
    MmUnlockPages(&Own.Mdl);
    CHECK_EQUAL(MiLockedPageCount(), 0);
    ExFreePool(Block);
}

static VOID A_large_part_is_not_measured_by_Size(VOID)
{
    // 0x2010 pages: Size wraps.
    const PMDL Source = MdlOf(NULL, PAGES(0x2010));
    const PMDL Target = MdlOf(NULL, PAGES(0x2010));
    CHECK((USHORT)Target->Size < MmSizeOfMdl(NULL, PAGES(0x2010)));
    MmGetMdlPfnArray(Source)[0x200F] = 77;
    IoBuildPartialMdl(Source, Target, NULL, 0);
    CHECK_EQUAL(MmGetMdlPfnArray(Target)[0x200F], 77);
    IoFreeMdl(Source);
    IoFreeMdl(Target);
}

static VOID A_part_is_built_at_DISPATCH_LEVEL(VOID)
{
    const PUCHAR Block = PoolPages(2);
    const PMDL Source = LockedMdl(Block, PAGES(2));
    const PMDL Target = MdlOf(Block, PAGES(2));
    FakeIrql = DISPATCH_LEVEL;
    IoBuildPartialMdl(Source, Target, Block + PAGE_SIZE, 0);
    CHECK(Map(Target) != NULL);
    MmPrepareMdlForReuse(Target);
    FakeIrql = PASSIVE_LEVEL;
    IoFreeMdl(Target);
    Release(Source);
    ExFreePool(Block);
}

//
// MmCreateMdl.
//

static VOID MmCreateMdl_uses_the_caller_s_memory_or_pool(VOID)
{
    struct {
        MDL Mdl;
        PFN_NUMBER Pfns[2];
    } Own;
    CHECK(MmCreateMdl(&Own.Mdl, (PVOID)0x1234, 0x1000) == &Own.Mdl);
    CHECK(Own.Mdl.StartVa == (PVOID)0x1000 && Own.Mdl.ByteOffset == 0x234 &&
          Own.Mdl.ByteCount == 0x1000 && Own.Mdl.MdlFlags == 0 && Own.Mdl.Next == NULL);
    const PMDL Mdl = MmCreateMdl(NULL, (PVOID)0x1234, 0x1000);
    CHECK(Mdl != NULL && Mdl->Size == sizeof(MDL) + 2 * sizeof(PFN_NUMBER));
    ExFreePool(Mdl);
    CHECK(MmCreateMdl(NULL, NULL, 0) == NULL);
    HostCheckRefusal("MmCreateMdl refused: zero bytes");
    CHECK(MmCreateMdl(NULL, NULL, 1ull << 32) == NULL);
    CHECK(MmCreateMdl(NULL, (PVOID)1, MAXULONG64) == NULL);
    MmStartFailures(MM_FAIL_POOL, 0, 1);
    CHECK(MmCreateMdl(NULL, NULL, 1) == NULL);
    CHECK_EQUAL(MmStopFailures(), 1);
    HostCheckRefusal("no pool");
}

static VOID The_obsolete_macro_maps_too(VOID)
{
    const PMDL Pages = HostPagesMdl(1);
    const PVOID Va = MmGetSystemAddressForMdl(Pages);
    CHECK_PAGE(Va, MmGetMdlPfnArray(Pages)[0], MiAccessReadWrite, MiCacheWriteBack);
    CHECK(MmGetSystemAddressForMdl(Pages) == Va);
    HostFreePagesMdl(Pages);
}

//
// MmAdvanceMdl.
//

static VOID The_buffer_begins_later(VOID)
{
    const PUCHAR Block = PoolPages(4);
    PFN_NUMBER Pfns[4];
    const PMDL Mdl = LockedMdl(Block + OFFSET, SOURCE_BYTES);
    memcpy(Pfns, MmGetMdlPfnArray(Mdl), sizeof(Pfns));
    CHECK_EQUAL(MmAdvanceMdl(Mdl, 0), STATUS_SUCCESS);
    CHECK_EQUAL(MmAdvanceMdl(Mdl, 5), STATUS_SUCCESS); // within the page
    CHECK(MmGetMdlVirtualAddress(Mdl) == Block + OFFSET + 5);
    CHECK_EQUAL(Mdl->ByteCount, SOURCE_BYTES - 5);
    CHECK_EQUAL(MiLockedPageCount(), 4);
    CHECK_EQUAL(MmAdvanceMdl(Mdl, 2 * PAGE_SIZE), STATUS_SUCCESS);
    CHECK(MmGetMdlVirtualAddress(Mdl) == Block + OFFSET + 5 + PAGES(2));
    CHECK(Mdl->StartVa == Block + PAGES(2));
    CHECK(MmGetMdlPfnArray(Mdl)[0] == Pfns[2] && MmGetMdlPfnArray(Mdl)[1] == Pfns[3] &&
          MmGetMdlPfnArray(Mdl)[2] == 0);
    CHECK_EQUAL(MiLockedPageCount(), 2); // those that were passed are unlocked
    CHECK(MiPfnElement(Pfns[0])->LockCount == 0 && MiPfnElement(Pfns[2])->LockCount == 1);
    CHECK((Mdl->MdlFlags & MDL_FREE_EXTRA_PTES) == 0);
    Release(Mdl);
    CHECK_EQUAL(MiLockedPageCount(), 0);
    ExFreePool(Block);
}

static VOID Past_the_end_nothing_changes(VOID)
{
    const PUCHAR Block = PoolPages(2);
    const PMDL Mdl = LockedMdl(Block + OFFSET, PAGE_SIZE);
    const MDL Before = *Mdl;
    CHECK_EQUAL(MmAdvanceMdl(Mdl, PAGE_SIZE + 1), STATUS_INVALID_PARAMETER_2);
    CHECK_EQUAL(MmAdvanceMdl(Mdl, MAXULONG), STATUS_INVALID_PARAMETER_2);
    CHECK(memcmp(&Before, Mdl, sizeof(MDL)) == 0);
    CHECK_EQUAL(MiLockedPageCount(), 2);
    Release(Mdl);
    ExFreePool(Block);
}

static VOID All_bytes_may_be_passed(VOID)
{
    const PUCHAR Block = PoolPages(2);
    const PMDL Whole = LockedMdl(Block, PAGES(2));
    const PVOID Va = Map(Whole);
    CHECK_EQUAL(MmAdvanceMdl(Whole, PAGES(2)), STATUS_SUCCESS);
    CHECK(Whole->ByteCount == 0 && (Whole->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA) == 0);
    CHECK_UNMAPPED(Va);
    CHECK_EQUAL(MiLockedPageCount(), 0);
    Release(Whole);
    const PMDL Part = LockedMdl(Block, PAGE_SIZE + 1); // ends inside a page, which stays
    CHECK_EQUAL(MmAdvanceMdl(Part, PAGE_SIZE + 1), STATUS_SUCCESS);
    CHECK_EQUAL(MiLockedPageCount(), 1);
    Release(Part);
    CHECK_EQUAL(MiLockedPageCount(), 0);
    ExFreePool(Block);
}

static VOID A_mapping_keeps_the_addresses_that_were_passed(VOID)
{
    const PUCHAR Block = PoolPages(5);
    const PMDL Mdl = LockedMdl(Block + OFFSET, PAGES(4));
    MM_MEMORY_USE Before;
    MM_MEMORY_USE Mapped;
    MM_MEMORY_USE Now;
    MmQueryMemoryUse(&Before);
    const PUCHAR Va = Map(Mdl);
    MmQueryMemoryUse(&Mapped);
    for (ULONG Page = 1; Page < 4; Page += 1) {
        const PFN_NUMBER Pfn = MmGetMdlPfnArray(Mdl)[1];
        CHECK_EQUAL(MmAdvanceMdl(Mdl, PAGE_SIZE), STATUS_SUCCESS);
        CHECK(Mdl->MappedSystemVa == Va + PAGES(Page));
        CHECK_PAGE(Va + PAGES(Page), Pfn, MiAccessReadWrite, MiCacheWriteBack);
        CHECK_UNMAPPED(Va + PAGES(Page - 1));
        CHECK((Mdl->MdlFlags & MDL_FREE_EXTRA_PTES) != 0);
        CHECK_EQUAL(MmGetMdlPfnArray(Mdl)[5 - Page], Page); // the slot behind the last frame
        MmQueryMemoryUse(&Now);
        CHECK_EQUAL(Now.SystemPtes, Mapped.SystemPtes);
        HostAudit();
    }
    MmUnmapLockedPages(Mdl->MappedSystemVa, Mdl);
    CHECK((Mdl->MdlFlags & (MDL_FREE_EXTRA_PTES | MDL_MAPPED_TO_SYSTEM_VA)) == 0);
    HostCheckSameUse(&Before, "after the unmap");
    CHECK(Map(Mdl) != NULL); // the remainder can be mapped anew
    Release(Mdl);
    ExFreePool(Block);
}

static VOID An_advance_within_a_page_moves_the_address(VOID)
{
    const PUCHAR Block = PoolPages(1);
    const PUCHAR Reservation = MmAllocateMappingAddress(PAGE_SIZE, TAG);
    const PMDL Mdl = LockedMdl(Block + 1, 100);
    const PUCHAR Va = Map(Mdl);
    CHECK_EQUAL(MmAdvanceMdl(Mdl, 9), STATUS_SUCCESS);
    CHECK(Mdl->MappedSystemVa == Va + 9);
    MmUnmapLockedPages(Va + 9, Mdl);
    CHECK(MmMapLockedPagesWithReservedMapping(Reservation, TAG, Mdl, MmCached) == Reservation + 10);
    CHECK_EQUAL(MmAdvanceMdl(Mdl, 9), STATUS_SUCCESS);
    CHECK(Mdl->MappedSystemVa == Reservation); // which lacks the byte offset
    HostAudit();
    MmUnmapReservedMapping(Reservation, TAG, Mdl);
    MmFreeMappingAddress(Reservation, TAG);
    Release(Mdl);
    ExFreePool(Block);
}

static VOID Other_kinds_of_MDLs_advance_too(VOID)
{
    const PUCHAR Block = PoolPages(3);
    const PMDL Built = MdlOf(Block + OFFSET, PAGES(2));
    MmBuildMdlForNonPagedPool(Built);
    CHECK_EQUAL(MmAdvanceMdl(Built, PAGE_SIZE + 1), STATUS_SUCCESS);
    CHECK(Built->MappedSystemVa == Block + OFFSET + PAGE_SIZE + 1);
    CHECK_EQUAL(PAGES(MmGetMdlPfnArray(Built)[0]),
                MmGetPhysicalAddress(Block + PAGE_SIZE).QuadPart);
    const PMDL Source = LockedMdl(Block, PAGES(3));
    const PMDL Part = MdlOf(Block, PAGES(3));
    IoBuildPartialMdl(Source, Part, Block, 0);
    const PUCHAR Own = Map(Part);
    CHECK_EQUAL(MmAdvanceMdl(Part, PAGES(2)), STATUS_SUCCESS);
    CHECK_EQUAL(MiLockedPageCount(), 3); // the source's
    CHECK_PAGE(Own + PAGES(2), MmGetMdlPfnArray(Source)[2], MiAccessReadWrite, MiCacheWriteBack);
    CHECK_UNMAPPED(Own);
    MmPrepareMdlForReuse(Part);
    const PUCHAR Va = Map(Source);
    IoBuildPartialMdl(Source, Part, Block, 0);
    CHECK_EQUAL(MmAdvanceMdl(Part, PAGES(2) + 3), STATUS_SUCCESS);
    CHECK(Part->MappedSystemVa == Va + PAGES(2) + 3);
    CHECK(FakeWalk((ULONG_PTR)Va).Level != 0); // the source's mapping is left alone
    IoFreeMdl(Part);
    Release(Source);
    IoFreeMdl(Built);
    ExFreePool(Block);
}

static PMDL IoMdl(VOID)
{
    MM_PHYSICAL_ADDRESS_LIST List[] = {{Pa(FAKE_IO_LOW), PAGES(3)}, {Pa(FAKE_IO_HIGH), PAGES(2)}};
    PMDL Mdl;
    CHECK_EQUAL(MmAllocateMdlForIoSpace(List, ARRAYSIZE(List), &Mdl), STATUS_SUCCESS);
    return Mdl;
}

static BOOLEAN IsHeld(PFN_NUMBER Pfn)
{
    MI_CACHE_OWNER Owner;
    return MiQueryFrame(Pfn, &Owner);
}

static VOID Device_memory_that_was_passed_is_let_go(VOID)
{
    for (ULONG Pages = 1; Pages <= 5; Pages += 1) {
        const PMDL Mdl = IoMdl();
        const PVOID Va = MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmWriteCombined, NULL, FALSE,
                                                      NormalPagePriority);
        CHECK(Va != NULL);
        CHECK_EQUAL(MmAdvanceMdl(Mdl, (ULONG)PAGES(Pages)), STATUS_SUCCESS);
        HostAudit();
        CHECK_EQUAL(IsHeld(PfnOf(FAKE_IO_LOW)), FALSE);
        CHECK_EQUAL(IsHeld(PfnOf(FAKE_IO_LOW) + 2), Pages < 3);
        CHECK_EQUAL(IsHeld(PfnOf(FAKE_IO_HIGH) + 1), Pages < 5);
        IoFreeMdl(Mdl);
        CHECK(!IsHeld(PfnOf(FAKE_IO_HIGH) + 1));
    }
}

static VOID Locked_device_memory_that_was_passed_is_let_go(VOID)
{
    const PVOID Va = MmMapIoSpace(Pa(FAKE_IO_LOW), PAGES(3), MmNonCached);
    const PMDL Mdl = LockedMdl(Va, PAGES(3));
    MmUnmapIoSpace(Va, PAGES(3));
    CHECK_EQUAL(MmAdvanceMdl(Mdl, PAGE_SIZE), STATUS_SUCCESS);
    CHECK(!IsHeld(PfnOf(FAKE_IO_LOW)) && IsHeld(PfnOf(FAKE_IO_LOW) + 1));
    Release(Mdl);
    CHECK(!IsHeld(PfnOf(FAKE_IO_LOW) + 1));
}

static VOID Advancing_device_memory_allocates_nothing(VOID)
{
    const PMDL Mdl = IoMdl();
    CHECK(Map(Mdl) != NULL);
    MmStartFailures(MM_FAIL_ALL, 0, MAXULONG);
    CHECK_EQUAL(MmAdvanceMdl(Mdl, PAGE_SIZE), STATUS_SUCCESS);
    CHECK_EQUAL(MmStopFailures(), 0);
    HostAudit();
    IoFreeMdl(Mdl);
}

static VOID Pages_that_must_come_back_together_are_not_passed(VOID)
{
    const PUCHAR Block = PoolPages(2);
    const PMDL Mdl = LockedMdl(Block, PAGES(2));
    const PVOID Reservation = MmAllocateMappingAddress(PAGES(2), TAG);
    CHECK(MmMapLockedPagesWithReservedMapping(Reservation, TAG, Mdl, MmCached) == Reservation);
    const MDL Before = *Mdl;
    CHECK_EQUAL(MmAdvanceMdl(Mdl, PAGE_SIZE), STATUS_NOT_SUPPORTED);
    CHECK(memcmp(&Before, Mdl, sizeof(MDL)) == 0);
    MmUnmapReservedMapping(Reservation, TAG, Mdl);
    MmFreeMappingAddress(Reservation, TAG);
    Release(Mdl);
    ExFreePool(Block);
    const PMDL Pages = HostPagesMdl(2);
    MiSealMdl(Pages); // as MmAllocatePagesForMdl does
    CHECK_EQUAL(MmAdvanceMdl(Pages, PAGE_SIZE), STATUS_NOT_SUPPORTED);
    CHECK_EQUAL(MmAdvanceMdl(Pages, PAGE_SIZE - 1), STATUS_SUCCESS);
    HostFreePagesMdl(Pages);
}

static const HOST_TEST Tests[] = {
    HOST_ROW(A_part_describes_its_bytes_with_the_source_s_frames, "contract 6.3.1, 18.16",
             &FakeMachineMax),
    HOST_ROW(Length_0_is_all_that_follows, "contract 6.3.2, 18.16", &FakeMachineMax),
    HOST_ROW(A_part_shares_the_source_s_mapping, "contract 6.3.5, 6.16.1, 18.16", &FakeMachineMax),
    HOST_ROW(A_part_of_a_reserved_mapping_has_the_right_address, "contract 6.3.5", &FakeMachineMax),
    HOST_ROW(A_part_without_a_mapping_makes_its_own, "contract 6.2.3, 6.3.6, 6.8.12, 6.16.1",
             &FakeMachineMax),
    HOST_ROW(A_target_that_is_still_mapped_is_unmapped_and_reported, "contract 6.3.6",
             &FakeMachineMax),
    HOST_ROW(Parts_of_every_kind_of_source_take_over_its_flags, "contract 6.3.1, 6.3.5, 18.16",
             &FakeMachineMax),
    HOST_ROW(Bytes_outside_of_the_source_are_0x12E, "contract 6.3.3, 18.16, 0x12E",
             &FakeMachineMax),
    HOST_ROW(A_target_without_room_is_0x40, "contract 6.3.4, 18.16, 0x40", &FakeMachineMax),
    HOST_ROW(An_MDL_in_the_driver_s_memory_does_all_that_others_do, "contract 1.4.4, 6.6.1, 6.12.1",
             &FakeMachineMax),
    HOST_ROW(A_large_part_is_not_measured_by_Size, "contract 6.3.4", &FakeMachineMax),
    HOST_ROW(A_part_is_built_at_DISPATCH_LEVEL, "contract 6.3.7, 18.28", &FakeMachineMax),
    HOST_ROW(MmCreateMdl_uses_the_caller_s_memory_or_pool, "contract 6.4.2", &FakeMachineMax),
    HOST_ROW(The_obsolete_macro_maps_too, "contract 6.9.1", &FakeMachineMax),
    HOST_ROW(The_buffer_begins_later, "contract 6.12.1, 6.12.2, 18.22", &FakeMachineMax),
    HOST_ROW(Past_the_end_nothing_changes, "contract 6.12.3, 18.22", &FakeMachineMax),
    HOST_ROW(All_bytes_may_be_passed, "contract 6.12.1, 6.12.2", &FakeMachineMax),
    HOST_ROW(A_mapping_keeps_the_addresses_that_were_passed, "contract 6.12.1, 6.12.4, 18.22",
             &FakeMachineMax),
    HOST_ROW(An_advance_within_a_page_moves_the_address, "contract 6.12.1", &FakeMachineMax),
    HOST_ROW(Other_kinds_of_MDLs_advance_too, "contract 6.12.1", &FakeMachineMax),
    HOST_ROW(Device_memory_that_was_passed_is_let_go, "contract 6.12.2, C3", &FakeMachineMax),
    HOST_ROW(Locked_device_memory_that_was_passed_is_let_go, "contract 6.12.2, C3",
             &FakeMachineMax),
    HOST_ROW(Advancing_device_memory_allocates_nothing, "contract 6.12.2", &FakeMachineMax),
    HOST_ROW(Pages_that_must_come_back_together_are_not_passed, "mmddk.h, MmAdvanceMdl",
             &FakeMachineMax),
};

HOST_DEFINE_SUITE(mdlpart);
