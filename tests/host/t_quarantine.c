// Quarantine: frames that nobody gets again.
#include "tests/host/host.h"

static BOOLEAN IsFrameGivenOut(PFN_NUMBER Wanted)
{
    const PMDL Mdl = MmAllocatePagesForMdl(Pa(0), Pa(MAXLONGLONG), Pa(0), 0xF0000000);
    BOOLEAN IsFound = FALSE;
    CHECK(Mdl != NULL);
    for (PFN_NUMBER Page = 0; Page < MmGetMdlByteCount(Mdl) >> PAGE_SHIFT; Page += 1) {
        IsFound |= MmGetMdlPfnArray(Mdl)[Page] == Wanted;
    }
    MmFreePagesFromMdl(Mdl);
    ExFreePool(Mdl);
    return IsFound;
}

static VOID A_frame_in_quarantine_is_never_given_out_again(VOID)
{
    const PMDL Mdl = MmAllocatePagesForMdl(Pa(0), Pa(MAXLONGLONG), Pa(0), PAGES(3));
    CHECK(Mdl != NULL);
    const PFN_NUMBER Pfn = MmGetMdlPfnArray(Mdl)[1];
    MM_MEMORY_USE Use;
    CHECK_EQUAL(MmQuarantineFrames(&Pfn, 1), 1);
    CHECK_EQUAL(MmQuarantineFrames(&Pfn, 1), 0);
    CHECK_EQUAL(MiPfnState(Pfn), MiPfnMdl); // until it is freed
    MmFreePagesFromMdl(Mdl);
    ExFreePool(Mdl);
    CHECK_EQUAL(MiPfnState(Pfn), MiPfnQuarantine);
    CHECK_EQUAL(MmQuarantineFrames(&Pfn, 1), 0);
    MmQueryMemoryUse(&Use);
    CHECK_EQUAL(Use.QuarantinedPages, 1);
    CHECK(!IsFrameGivenOut(Pfn));
    HostAudit();
}

static VOID What_is_free_or_no_RAM_is_left_alone(VOID)
{
    MiTrimFrames();
    const PFN_NUMBER Pfns[] = {MiFirstFreePfn(), PfnOf(FAKE_ECAM), 0};
    CHECK_EQUAL(MmQuarantineFrames(Pfns, ARRAYSIZE(Pfns)), 0);
    CHECK_EQUAL(MiPfnState(Pfns[0]), MiPfnFree);
    CHECK_EQUAL(MiAllocateFrame(MiPfnMdl), Pfns[0]);
    MiFreeFrame(Pfns[0]);
    CHECK(MiIsFree(MiPfnState(Pfns[0])));
}

static VOID A_small_pool_block_in_quarantine_stays_out_with_its_page(VOID)
{
    const PVOID Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 500, 'tseT');
    const PVOID Neighbour = ExAllocatePool2(POOL_FLAG_NON_PAGED, 500, 'tseT');
    CHECK(Block != NULL && Neighbour != NULL && PAGE_ALIGN(Block) == PAGE_ALIGN(Neighbour));
    const PFN_NUMBER Pfn = PfnOf((ULONG64)MmGetPhysicalAddress(Block).QuadPart);
    CHECK_EQUAL(MmQuarantineFrames(&Pfn, 1), 1);
    CHECK(MiIsPoolConsistent());
    ExFreePool(Block);
    CHECK(MiIsPoolConsistent());
    for (ULONG Index = 0; Index < 64; Index += 1) {
        CHECK(ExAllocatePool2(POOL_FLAG_NON_PAGED, 500, 'tseT') != Block);
    }
    ExFreePool(Neighbour);
    CHECK_EQUAL(MiPfnState(Pfn), MiPfnPool);
    HostAudit();
}

static VOID A_block_of_whole_pages_goes_page_by_page(VOID)
{
    const PVOID Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, PAGES(3), 'tseT');
    CHECK(Block != NULL);
    const PFN_NUMBER Pfn = PfnOf((ULONG64)MmGetPhysicalAddress((PUCHAR)Block + PAGE_SIZE).QuadPart);
    CHECK_EQUAL(MmQuarantineFrames(&Pfn, 1), 1);
    ExFreePool(Block);
    CHECK_EQUAL(MiPfnState(Pfn), MiPfnQuarantine);
    CHECK_EQUAL(MiPfnStateCountOf(MiPfnQuarantine), 1);
    CHECK(!IsFrameGivenOut(Pfn));
    HostAudit();
}

static const HOST_TEST Tests[] = {
    HOST_ROW(A_frame_in_quarantine_is_never_given_out_again, "contract 9.7.4", &FakeMachineMax),
    HOST_ROW(What_is_free_or_no_RAM_is_left_alone, "contract 9.7.4", &FakeMachineMax),
    HOST_ROW(A_small_pool_block_in_quarantine_stays_out_with_its_page, "contract 9.7.4",
             &FakeMachineMax),
    HOST_ROW(A_block_of_whole_pages_goes_page_by_page, "contract 9.7.4", &FakeMachineMax),
};

HOST_DEFINE_SUITE(quarantine);
