// MmVerify: each invariant is damaged by hand, and MmVerify must name it; repaired, it must be
// content again.
#include "tests/host/damage.h"

static PMDL MappedPages(MEMORY_CACHING_TYPE CacheType)
{
    const PMDL Mdl = MmAllocatePagesForMdl(Pa(0), Pa(MAXULONG64), Pa(0), 3 * PAGE_SIZE);
    CHECK(MmMapLockedPagesSpecifyCache(Mdl, KernelMode, CacheType, NULL, FALSE,
                                       NormalPagePriority) != NULL);
    return Mdl;
}

static VOID Free(PMDL Mdl)
{
    MmFreePagesFromMdl(Mdl);
    ExFreePool(Mdl);
}

static VOID Damage_to_the_frames_is_seen(VOID)
{
    const PMDL Mdl = MappedPages(MmNonCached);
    const PMMPFN Used = MiPfnElement(MmGetMdlPfnArray(Mdl)[0]);
    const PMMPFN Unused = MiPfnElement(MiFirstFreePfn());
    CHECK_DAMAGE(Unused->MapCount, 1, "F3");
    CHECK_DAMAGE(Unused->CacheType, MiCacheUncached, "F3");
    CHECK_DAMAGE(Unused->State, MiPfnPool, "F2");
    CHECK_DAMAGE(Unused->Flink, 0, "F2");
    CHECK_DAMAGE(Used->State, MiPfnNotRam, "F1");
    CHECK_DAMAGE(Used->CacheType, MiCacheWriteBack, "A1");
    Free(Mdl);
    const PMDL Cached = MappedPages(MmCached);
    CHECK_DAMAGE(MiPfnElement(MmGetMdlPfnArray(Cached)[0])->CacheType, MiCacheUncached, "A1");
    Free(Cached);
}

static VOID Damage_to_a_mapping_is_seen(VOID)
{
    const PVOID Va = MmMapIoSpace(Pa(FAKE_IO_LOW), 2 * PAGE_SIZE, MmNonCached);
    const PMI_MAPPING Mapping = MiFindMapping(Va);
    CHECK_DAMAGE(Mapping->Io.FirstPfn, Mapping->Io.FirstPfn + 1, "M2");
    CHECK_DAMAGE(Mapping->PageCount, 1, "M2");
    CHECK_DAMAGE(Mapping->PageCount, 3, "M2");
    CHECK_DAMAGE(Mapping->Va, Mapping->Va + PAGE_SIZE, "M1");
    MmUnmapIoSpace(Va, 2 * PAGE_SIZE);
}

static VOID Damage_to_an_MDL_is_seen(VOID)
{
    const PMDL Mdl = MappedPages(MmCached);
    CHECK_DAMAGE(Mdl->MappedSystemVa, NULL, "D1");
    CHECK_DAMAGE(Mdl->MdlFlags, MDL_PAGES_LOCKED, "D1");
    CHECK_DAMAGE(MmGetMdlPfnArray(Mdl)[1], MmGetMdlPfnArray(Mdl)[0], "M2");
    Free(Mdl);
}

static VOID A_leaf_in_a_guard_is_seen(VOID)
{
    const PVOID Reservation = MmAllocateMappingAddress(3 * PAGE_SIZE, 'tseT');
    const ULONG_PTR Guard = (ULONG_PTR)Reservation - PAGE_SIZE;
    const PFN_NUMBER Pfn = PfnOf(FAKE_IO_LOW);
    MI_TLB_BATCH Batch;
    CHECK_EQUAL(MiPrepareRange(Guard, Pfn, 1), STATUS_SUCCESS);
    MiCommitRange(NULL, Guard, Pfn, 1, (MI_PROTECTION){MiAccessReadWrite, MiCacheUncached});
    CheckSeen("V2");
    MiInitializeTlbBatch(&Batch);
    MiClearRange(Guard, 1, &Batch);
    MiFlushTlbBatch(&Batch);
    MmFreeMappingAddress(Reservation, 'tseT');
}

static VOID A_leaf_that_belongs_to_nobody_is_seen(VOID)
{
    const ULONG_PTR Va = MiReserveSystemVa(MiRegionSystemPtes, 1, 0, 0);
    const PFN_NUMBER Pfn = PfnOf(FAKE_IO_LOW);
    MI_TLB_BATCH Batch;
    CHECK_EQUAL(MiPrepareRange(Va, Pfn, 1), STATUS_SUCCESS);
    MiCommitRange(NULL, Va, Pfn, 1, (MI_PROTECTION){MiAccessReadWrite, MiCacheUncached});
    CheckSeen("T4");
    MiInitializeTlbBatch(&Batch);
    MiClearRange(Va, 1, &Batch);
    MiFlushTlbBatch(&Batch);
    MiCommitRange(NULL, Va, Pfn, 1, (MI_PROTECTION){MiAccessExecuteReadWrite, MiCacheUncached});
    HostForgetPrinted();
    CHECK_EQUAL(MmVerify(), 2); // it is writable and executable, too
    MiClearRange(Va, 1, &Batch);
    MiFlushTlbBatch(&Batch);
    MiReleaseSystemVa(MiRegionSystemPtes, Va, 1, 0);
}

static VOID Damage_to_the_pool_is_seen(VOID)
{
    const PUCHAR Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 100, 'tseT');
    PFN_NUMBER Pfn;
    CHECK(MiTranslate((ULONG_PTR)Block, &Pfn));
    CHECK_DAMAGE(MiPfnElement(Pfn)->UsedBlockCount, 7, "B1");
    CHECK_DAMAGE(MiPfnElement(Pfn)->FirstFreeBlock, 8, "B1");
    ExFreePool(Block);
}

static VOID A_table_that_is_in_no_tree_is_seen(VOID)
{
    const PFN_NUMBER Pfn = MiAllocateFrame(MiPfnTable);
    CheckSeen("T2");
    MiFreeFrame(Pfn);
}

static VOID A_ledger_without_a_mappings_hold_is_seen(VOID)
{
    static const MI_PFN_RANGE Range = {FAKE_IO_LOW >> PAGE_SHIFT, FAKE_IO_LOW >> PAGE_SHIFT};
    const PVOID Va = MmMapIoSpace(Pa(FAKE_IO_LOW), PAGE_SIZE, MmNonCached);
    MiReleaseFrames(Range);
    CheckSeen("C3");
    CHECK_EQUAL(MiHoldFrames(Range, MiCacheUncached, NULL), STATUS_SUCCESS);
    MmUnmapIoSpace(Va, PAGE_SIZE);
    // And one that names RAM.
    CHECK_EQUAL(MiHoldFrames((MI_PFN_RANGE){0x400, 0x400}, MiCacheUncached, NULL), STATUS_SUCCESS);
    CheckSeen("C2");
    MiReleaseFrames((MI_PFN_RANGE){0x400, 0x400});
}

static VOID A_claim_of_RAM_is_seen(VOID)
{
    PMM_CLAIM Claim;
    CHECK_EQUAL(MmClaimPhysicalRange(Pa(FAKE_IO_LOW), PAGE_SIZE, MmClaimDevice, "x", &Claim),
                STATUS_SUCCESS);
    PRTL_INTERVAL_NODE Node = (PRTL_INTERVAL_NODE)Claim; // its first member
    const ULONG64 Frame = Node->First;
    Node->First = Node->Last = Node->MaxLast = 0x400;
    CheckSeen("O1");
    Node->First = Node->Last = Node->MaxLast = Frame;
    CHECK_EQUAL(MmVerify(), 0);
    MmReleasePhysicalRange(Claim);
}

static VOID Damage_to_a_block_is_seen(VOID)
{
    const PVOID Va = MmAllocateNonCachedMemory(2 * PAGE_SIZE);
    const PMI_BLOCK Block = MiFindBlockAround(Va);
    CHECK_DAMAGE(Block->Protection.CacheType, MiCacheWriteBack, "K2");
    CHECK_DAMAGE(Block->Protection.Access, MiAccessRead, "K2");
    CHECK_DAMAGE(Block->Node.First, Block->Node.First - 1, "K2");
    CHECK_DAMAGE(Block->Node.Last, Block->Node.Last + 1, "K2");
    CHECK_DAMAGE(Block->Node.Last, Block->Node.Last - 1, "K2");
    CHECK_DAMAGE(Block->Node.MaxLast, Block->Node.MaxLast + 1, "K2");
    CHECK_DAMAGE(Block->Node.Height, 9, "K2");
    const PMMPFN Frame = MiPfnElement((ULONG64)MmGetPhysicalAddress(Va).QuadPart >> PAGE_SHIFT);
    CHECK_DAMAGE(Frame->State, MiPfnPool, "K2");
    const PVOID Other = MmAllocateNonCachedMemory(PAGE_SIZE);
    const PMI_BLOCK Second = MiFindBlockAround(Other);
    CHECK(Second->Node.First > Block->Node.Last);
    CHECK_DAMAGE(Second->Node.First, Block->Node.Last, "K2");
    MmFreeNonCachedMemory(Other, PAGE_SIZE);
    MmFreeNonCachedMemory(Va, 2 * PAGE_SIZE);
}

static VOID Damage_to_an_image_is_seen(VOID)
{
    const PUCHAR Va = MmAllocateImage(NULL, 2 * PAGE_SIZE);
    const PUCHAR Second = MmAllocateImage(NULL, 2 * PAGE_SIZE);
    const PRTL_INTERVAL_NODE Image = MiFindImage(Va);
    PFN_NUMBER Pfn = MI_NO_PFN;
    CHECK(MiTranslate((ULONG_PTR)Va, &Pfn));
    const PMMPFN Frame = MiPfnElement(Pfn);
    CHECK_EQUAL(MmVerify(), 0);
    CHECK_DAMAGE(Frame->Flink, Frame->Flink + 1, "I1");
    CHECK_DAMAGE(Frame->State, MiPfnPool, "I1");
    CHECK_DAMAGE(Image->First, Image->First + 1, "I1");
    CHECK_DAMAGE(Image->Last, Image->Last - 1, "I1");
    CHECK_DAMAGE(Image->Height, 9, "I1");
    CHECK_DAMAGE(MiFindImage(Second)->First, Image->Last, "I1");
    const MMPTE Leaf = MiArchLoadPte(MiFindFirstPage((ULONG_PTR)Va));
    const MI_PROTECTION Both = {MiAccessExecuteReadWrite, MiCacheWriteBack};
    MiArchStorePte(MiFindFirstPage((ULONG_PTR)Va), MiArchMakeLeaf(1, Pfn, Both));
    CheckSeen("I1");
    MiArchStorePte(MiFindFirstPage((ULONG_PTR)Va), (MMPTE){0});
    CheckSeen("I2");
    MiArchFlushAll();
    MiArchStorePte(MiFindFirstPage((ULONG_PTR)Va), Leaf);
    CHECK_EQUAL(MmVerify(), 0);
    MmFreeImage(Second);
    MmFreeImage(Va);
}

static VOID What_was_not_looked_at_is_no_success(VOID)
{
    FakeIsNeverAlone = TRUE;
    CheckSeen("AL3");
    FakeIsNeverAlone = FALSE;
}

static const HOST_TEST Tests[] = {
    HOST_ROW(Damage_to_the_frames_is_seen, "F1-F3, A1", &FakeMachineMax),
    HOST_ROW(Damage_to_a_mapping_is_seen, "M1, M2, V2", &FakeMachineMax),
    HOST_ROW(Damage_to_an_MDL_is_seen, "D1, M2", &FakeMachineMax),
    HOST_ROW(A_leaf_in_a_guard_is_seen, "V2", &FakeMachineMax),
    HOST_ROW(A_leaf_that_belongs_to_nobody_is_seen, "T4", &FakeMachineMax),
    HOST_ROW(Damage_to_the_pool_is_seen, "B1", &FakeMachineMax),
    HOST_ROW(A_table_that_is_in_no_tree_is_seen, "T2", &FakeMachineMax),
    HOST_ROW(A_ledger_without_a_mappings_hold_is_seen, "C2, C3", &FakeMachineMax),
    HOST_ROW(A_claim_of_RAM_is_seen, "O1", &FakeMachineMax),
    HOST_ROW(Damage_to_an_image_is_seen, "I1, I2", &FakeMachineMax),
    HOST_ROW(Damage_to_a_block_is_seen, "K2, K3", &FakeMachineMax),
    HOST_ROW(What_was_not_looked_at_is_no_success, "AL3", &FakeMachineMax),
};

HOST_DEFINE_SUITE(verify);
