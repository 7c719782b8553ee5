// MmVerify against the tables of mapping.c, ledger.c, lock.c, physmap.c, pool.c and claim.c: each member is
// damaged by hand, in each of the ways that would make the table lie. MmVerify must name the invariant;
// repaired, it must be content again. (t_verify.c does the same for what ties the files together.)
#include "mm/miquick.h"
#include "tests/host/damage.h"

#define TAG 0x21676154u
#define LARGE_PAGES 512

//
// The ledger.
//

static VOID Damage_to_a_slot_of_the_ledger_is_seen(VOID)
{
    const PFN_NUMBER Pfn = PfnOf(FAKE_IO_LOW) + 3;
    const PVOID Va = MmMapIoSpace(Pa(PAGES(Pfn)), PAGE_SIZE, MmNonCached);
    const PMI_LEDGER_LEAF Leaf = MiFindLeaf(Pfn);
    const PMI_LEDGER_SLOT Used = MiSlotOf(Leaf, Pfn);
    const PMI_LEDGER_SLOT Unused = MiSlotOf(Leaf, Pfn + 1);
    CHECK_DAMAGE(Used->Word, Used->Word + 1, "C3");
    CHECK_DAMAGE(Used->Word, 0, "C2");
    CHECK_DAMAGE(Unused->Word, 1, "C2");
    CHECK_DAMAGE(Unused->Word, MiSlotWord(0, MiCacheUncached, 0), "C2");
    CHECK_DAMAGE(Leaf->UsedCount, 2, "C2");
    MmUnmapIoSpace(Va, PAGE_SIZE);
}

static VOID Damage_to_a_range_is_seen(VOID)
{
    const PVOID Va = MmMapIoSpace(Pa(FAKE_IO_HIGH), PAGES(LARGE_PAGES), MmNonCached);
    const PVOID Other =
        MmMapIoSpace(Pa(FAKE_IO_HIGH + PAGES(LARGE_PAGES)), PAGES(LARGE_PAGES), MmWriteCombined);
    const PRTL_INTERVAL_NODE Node = &MiFindMapping(Va)->Io.Range.Node;
    const RTL_INTERVAL_NODE Whole = *Node;
    CHECK_DAMAGE(Node->Height, 7, "C2");
    Node->Last = Node->MaxLast = Whole.Last + 1; // into the other one, of another type
    CheckSeen("C2");
    *Node = Whole;
    Node->First = 0x400; // RAM
    Node->Last = Node->MaxLast = 0x500;
    CheckSeen("C2");
    *Node = Whole;
    CHECK_DAMAGE(MiIdleRangeCount, MiIdleRangeCount + 1, "C3");
    MmUnmapIoSpace(Va, PAGES(LARGE_PAGES));
    MmUnmapIoSpace(Other, PAGES(LARGE_PAGES));
}

static VOID A_slot_below_a_range_must_have_its_type(VOID)
{
    const PVOID Range = MmMapIoSpace(Pa(FAKE_IO_HIGH), PAGES(LARGE_PAGES), MmNonCached);
    const PVOID Va = MmMapIoSpace(Pa(FAKE_IO_HIGH + PAGES(9)), PAGE_SIZE, MmNonCached);
    const PFN_NUMBER Pfn = PfnOf(FAKE_IO_HIGH) + 9;
    const PMI_LEDGER_SLOT Slot = MiSlotOf(MiFindLeaf(Pfn), Pfn);
    const MI_LEDGER_SLOT Whole = *Slot;
    Slot->Word = MiSlotWord(1, MiCacheWriteBack, 0);
    CheckSeen("C2");
    Slot->Word = MiSlotWord(1, MiCacheUndecided, 0);
    CheckSeen("C2");
    *Slot = Whole;
    CHECK_EQUAL(MmVerify(), 0);
    MmUnmapIoSpace(Va, PAGE_SIZE);
    MmUnmapIoSpace(Range, PAGES(LARGE_PAGES));
}

static VOID A_release_of_what_nobody_holds_stops_the_machine(VOID)
{
    const PFN_NUMBER Pfn = PfnOf(FAKE_IO_LOW);
    const PVOID Va = MmMapIoSpace(Pa(FAKE_IO_LOW), PAGE_SIZE, MmNonCached);
    EXPECT_BUG_CHECK(MiReleaseFrames((MI_PFN_RANGE){Pfn + 1, Pfn + 2}));
    CHECK_BUG_CHECK(MEMORY_MANAGEMENT, 0x6194A, Pfn + 1, Pfn + 2, Pfn + 1);
    MiLedgerLock.Word = 0; // a machine that has stopped gives no lock back
    MiIsLedgerChanging = FALSE;
    EXPECT_BUG_CHECK(MiReleaseFrames((MI_PFN_RANGE){Pfn + 0x10000, Pfn + 0x10000}));
    CHECK_BUG_CHECK(MEMORY_MANAGEMENT, 0x61948, Pfn + 0x10000, 1, Pfn + 0x10000);
    MiLedgerLock.Word = 0;
    MiIsLedgerChanging = FALSE;
    // Where the leaf has others that are held, so that the short way looks at each.
    const PVOID Others = MmMapIoSpace(Pa(FAKE_IO_LOW + PAGES(8)), PAGES(8), MmNonCached);
    EXPECT_BUG_CHECK(MiReleaseFrames((MI_PFN_RANGE){Pfn, Pfn + 1}));
    CHECK_BUG_CHECK(MEMORY_MANAGEMENT, 0x6194A, Pfn, Pfn + 1, Pfn + 1);
    MiLedgerLock.Word = 0;
    MiIsLedgerChanging = FALSE;
    CHECK_EQUAL(MiHoldFrames((MI_PFN_RANGE){Pfn, Pfn}, MiCacheUncached, NULL), STATUS_SUCCESS);
    MmUnmapIoSpace(Others, PAGES(8));
    MmUnmapIoSpace(Va, PAGE_SIZE);
}

//
// Mappings.
//

static VOID Damage_to_an_idle_slot_is_seen(VOID)
{
    const PVOID Va = MmMapIoSpace(Pa(FAKE_IO_LOW), 3 * PAGE_SIZE, MmNonCached);
    const PMI_MAPPING Slot = MiFindMapping(Va);
    CHECK_DAMAGE(Slot->Kind, MiMappingIdle, "M2");
    CHECK_DAMAGE(Slot->PageCount, 5, "M1");
    CHECK_DAMAGE(Slot->SlotPages, 2, "M1");
    CHECK_DAMAGE(Slot->SlotPages, 64, "M1"); // beyond what is reserved for it
    MmUnmapIoSpace(Va, 3 * PAGE_SIZE);
    CHECK_EQUAL(Slot->Kind, MiMappingIdle);
    CHECK_DAMAGE(Slot->Kind, MiMappingIo, "M2");
    CHECK_DAMAGE(Slot->Va, Slot->Va + PAGE_SIZE, "M1");
}

static VOID Damage_to_a_mapped_reservation_is_seen(VOID)
{
    const PMDL Mdl = MmAllocatePagesForMdl(Pa(0), Pa(MAXULONG64), Pa(0), 2 * PAGE_SIZE);
    const PVOID Va = MmAllocateMappingAddress(4 * PAGE_SIZE, TAG);
    CHECK(MmMapLockedPagesWithReservedMapping(Va, TAG, Mdl, MmCached) != NULL);
    const PMI_MAPPING Mapping = MiFindMapping(Va);
    CHECK_DAMAGE(Mapping->Reserved.MappedPageCount, 1, "M2");
    CHECK_DAMAGE(Mapping->InaccessiblePages, 1, "T4");
    CHECK_DAMAGE(Mdl->MappedSystemVa, (PUCHAR)Va + 1, "D1");
    MmUnmapReservedMapping(Va, TAG, Mdl);
    MmFreeMappingAddress(Va, TAG);
    MmFreePagesFromMdl(Mdl);
    ExFreePool(Mdl);
}

static VOID A_mapping_that_did_not_ask_for_execution_is_seen(VOID)
{
    const PVOID Va = MmMapIoSpaceEx(Pa(FAKE_IO_LOW), PAGE_SIZE, PAGE_EXECUTE_READWRITE);
    CHECK_DAMAGE(MiFindMapping(Va)->Protection.Access, MiAccessReadWrite, "T4");
    MmUnmapIoSpace(Va, PAGE_SIZE);
}

//
// Page tables.
//

// The entry that is loaded as Value, and stored without a word to the watcher.
static MMPTE EntryFor(const MMPTE *Pte, MMPTE Value)
{
    return (MMPTE){Pte->Value ^ MiArchLoadPte(Pte).Value ^ Value.Value};
}

static VOID Damage_to_the_direct_map_is_seen(VOID)
{
    static const MI_PROTECTION Right = {MiAccessReadWrite, MiCacheWriteBack};
    static const MI_PROTECTION ReadOnly = {MiAccessRead, MiCacheWriteBack};
    static const MI_PROTECTION Uncached = {MiAccessReadWrite, MiCacheUncached};
    ULONG Level;
    const PMMPTE Pte = MiFindPte((ULONG_PTR)MiFrameToVa(MiFirstFreePfn()), &Level);
    const PFN_NUMBER Pfn = MiArchPtePfn(MiArchLoadPte(Pte), Level);
    const PFN_NUMBER Next = Pfn + (1ull << (9 * (Level - 1)));
    CHECK_DAMAGE(*Pte, EntryFor(Pte, MiArchMakeLeaf(Level, Next, Right)), "C2");
    CHECK_DAMAGE(*Pte, EntryFor(Pte, MiArchMakeLeaf(Level, Pfn, ReadOnly)), "C2");
    CHECK_DAMAGE(*Pte, EntryFor(Pte, MiArchMakeLeaf(Level, Pfn, Uncached)), "C2");
}

static VOID Damage_to_the_kernel_image_is_seen(VOID)
{
    static const MI_PROTECTION Wrong = {MiAccessExecuteReadWrite, MiCacheWriteBack};
    ULONG Level;
    const PMMPTE Pte = MiFindPte(MiArchLayout[MiRegionKernelImage].BaseVa + FAKE_KERNEL_PA, &Level);
    const PFN_NUMBER Pfn = MiArchPtePfn(MiArchLoadPte(Pte), Level);
    CHECK_DAMAGE(*Pte, EntryFor(Pte, MiArchMakeLeaf(Level, Pfn, Wrong)), "T4");
}

static VOID Damage_to_the_shared_page_is_seen(VOID)
{
    static const MI_PROTECTION Wrong = {MiAccessReadWrite, MiCacheWriteBack};
    static const MI_PROTECTION Right = {MiAccessRead, MiCacheWriteBack};
    ULONG Level;
    MmMapSharedData((PVOID)(MiArchLayout[MiRegionKernelImage].BaseVa + FAKE_KERNEL_PA));
    const PMMPTE Pte = MiFindPte(MiArchLayout[MiRegionSharedData].BaseVa, &Level);
    const PFN_NUMBER Pfn = MiArchPtePfn(MiArchLoadPte(Pte), Level);
    CHECK_DAMAGE(*Pte, EntryFor(Pte, MiArchMakeLeaf(Level, Pfn, Wrong)), "T4");
    CHECK_DAMAGE(*Pte, EntryFor(Pte, MiArchMakeLeaf(Level, MiFirstFreePfn(), Right)), "T4");
}

static VOID A_pool_address_that_leads_elsewhere_is_seen(VOID)
{
    const PVOID Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 3 * PAGE_SIZE, TAG);
    PFN_NUMBER Pfn;
    CHECK(MiTranslate((ULONG_PTR)Block, &Pfn));
    const PMMPFN Element = MiPfnElement(Pfn);
    CHECK_DAMAGE(Element->State, MiPfnMdl, "T4");
    const UCHAR State = Element->State;
    Element->State = MiPfnMdl;
    EXPECT_BUG_CHECK(ExFreePool(Block));
    Element->State = State;
    ExFreePool(Block);
}

//
// Frames, regions, pool, blocks.
//

static VOID Damage_to_the_list_of_free_frames_is_seen(VOID)
{
    MiFreeFrame(MiAllocateFrame(MiPfnMdl)); // so that some are cached
    const PFN_NUMBER Pfns[] = {MiFirstFreePfn(), MiFirstCachedPfn(0)};
    for (ULONG Index = 0; Index < ARRAYSIZE(Pfns); Index += 1) {
        const PMMPFN Element = MiPfnElement(Pfns[Index]);
        CHECK_DAMAGE(Element->Flink, Pfns[Index], "F2"); // a circle
        CHECK_DAMAGE(Element->Flink, MiPfnDatabaseEnd, "F2");
        CHECK_DAMAGE(Element->Flink, 0, "F2"); // and the rest is lost
        CHECK_DAMAGE(Element->MapCount, 1, "F3");
    }
}

static VOID A_lock_that_no_MDL_has_taken_is_seen(VOID)
{
    const PMDL Mdl = MmAllocatePagesForMdl(Pa(0), Pa(MAXULONG64), Pa(0), PAGE_SIZE);
    const PMMPFN Element = MiPfnElement(MmGetMdlPfnArray(Mdl)[0]);
    CHECK_DAMAGE(Element->LockCount, Element->LockCount + 1, "L1");
    MmFreePagesFromMdl(Mdl);
    ExFreePool(Mdl);
}

static VOID Damage_to_the_physical_map_is_seen(VOID)
{
    ULONG Count;
    // Firmware's regions at the end: no frame of theirs is looked at.
    MI_PHYSICAL_REGION *Last = (MI_PHYSICAL_REGION *)MiPhysicalRegions(&Count);
    for (ULONG Index = 0; Index + 1 < Count; Index += 1) {
        Last += 1;
    }
    CHECK_EQUAL(Last->Kind, MiPhysicalRam); // above 4 GiB
    MI_PHYSICAL_REGION *Before = Last - 1;
    CHECK_DAMAGE(Before->Range.LastPfn, Before->Range.FirstPfn - 1, "P2");
    CHECK_DAMAGE(Before->Range.LastPfn, MiHighestPfn() + 1, "P2");
    CHECK_DAMAGE(Before->Kind, MiPhysicalIoSpace, "P2");
    CHECK_DAMAGE(Before->Range.FirstPfn, Before[-1].Range.LastPfn, "P1");
    // Neighbours of one kind should be one region.
    const MI_PHYSICAL_REGION Whole = *Before;
    Before->Range.FirstPfn = Before[-1].Range.LastPfn + 1;
    Before->Kind = Before[-1].Kind;
    CheckSeen("P1");
    *Before = Whole;
    CHECK_EQUAL(MmVerify(), 0);
}

static VOID Damage_to_a_list_of_pool_pages_is_seen(VOID)
{
    // More than half a page each: of the page that is left there is one block out.
    const PVOID Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 600, TAG);
    PFN_NUMBER Pfn;
    CHECK(MiTranslate((ULONG_PTR)Block, &Pfn));
    const PMMPFN Page = MiPfnElement(Pfn);
    CHECK(Page->FirstFreeBlock != MI_NO_BLOCK);
    CHECK_DAMAGE(Page->PoolKind, MiPoolExecutable, "B1");
    CHECK_DAMAGE(Page->PoolClass, Page->PoolClass + 1, "B1");
    CHECK_DAMAGE(Page->PreviousPartial, 77, "B1");
    CHECK_DAMAGE(Page->FirstFreeBlock, MI_NO_BLOCK, "B1");
    CHECK_DAMAGE(Page->State, MiPfnMdl, "B1");
    ExFreePool(Block);
}

//
// The claims, and the report.
//

static VOID Damage_to_the_claims_is_seen(VOID)
{
    PMM_CLAIM Claims[2];
    for (ULONG Index = 0; Index < 2; Index += 1) {
        CHECK_EQUAL(MmClaimPhysicalRange(Pa(FAKE_IO_LOW + PAGES(4 * Index)), 2 * PAGE_SIZE,
                                         MmClaimDevice, "x", &Claims[Index]),
                    STATUS_SUCCESS);
    }
    PRTL_INTERVAL_NODE Node = (PRTL_INTERVAL_NODE)Claims[1]; // its first member
    Node->Height += 1;
    CHECK(!MiAreClaimsConsistent());
    Node->Height -= 1;
    Node->First -= 3; // into the other one
    CHECK(!MiAreClaimsConsistent());
    Node->First += 3;
    CHECK(MiAreClaimsConsistent());
    MmReleasePhysicalRange(Claims[0]);
    MmReleasePhysicalRange(Claims[1]);
}

static VOID Of_many_violations_only_the_first_are_printed(VOID)
{
    PFN_NUMBER Pfn = MiFirstFreePfn();
    ULONG Count = 0;
    for (PFN_NUMBER Free = Pfn; Count < 50; Free = MiPfnElement(Free)->Flink) {
        MiPfnElement(Free)->MapCount = 1;
        Count += 1;
    }
    HostForgetPrinted();
    CHECK(MmVerify() >= Count);
    CHECK(strstr(HostPrinted(), "more invariants are violated") != NULL);
    for (; Count > 0; Count -= 1) {
        MiPfnElement(Pfn)->MapCount = 0;
        Pfn = MiPfnElement(Pfn)->Flink;
    }
    CHECK_EQUAL(MmVerify(), 0);
}

static const HOST_TEST Tests[] = {
    HOST_ROW(Damage_to_a_slot_of_the_ledger_is_seen, "C2-C4", &FakeMachineMax),
    HOST_ROW(Damage_to_a_range_is_seen, "C1-C3", &FakeMachineMax),
    HOST_ROW(A_slot_below_a_range_must_have_its_type, "C2", &FakeMachineMax),
    HOST_ROW(A_release_of_what_nobody_holds_stops_the_machine, "C3", &FakeMachineMax),
    HOST_ROW(Damage_to_an_idle_slot_is_seen, "M1, M2", &FakeMachineMax),
    HOST_ROW(Damage_to_a_mapped_reservation_is_seen, "M2, T4, D1", &FakeMachineMax),
    HOST_ROW(A_mapping_that_did_not_ask_for_execution_is_seen, "T4", &FakeMachineMax),
    HOST_ROW(Damage_to_the_direct_map_is_seen, "C2", &FakeMachineMax),
    HOST_ROW(Damage_to_the_kernel_image_is_seen, "T4", &FakeMachineMax),
    HOST_ROW(Damage_to_the_shared_page_is_seen, "T4", &FakeMachineMax),
    HOST_ROW(A_pool_address_that_leads_elsewhere_is_seen, "T4", &FakeMachineMax),
    HOST_ROW(Damage_to_the_list_of_free_frames_is_seen, "F2", &FakeMachineMax),
    HOST_ROW(A_lock_that_no_MDL_has_taken_is_seen, "L1", &FakeMachineMax),
    HOST_ROW(Damage_to_the_physical_map_is_seen, "P1, P2", &FakeMachineMax),
    HOST_ROW(Damage_to_a_list_of_pool_pages_is_seen, "B1", &FakeMachineMax),
    HOST_ROW(Damage_to_the_claims_is_seen, "O1", &FakeMachineMax),
    HOST_ROW(Of_many_violations_only_the_first_are_printed, "F3", &FakeMachineMax),
};

HOST_DEFINE_SUITE(damage);
