// Memory of driver images: mm/image.c.
#include "tests/host/host.h"

static PFN_NUMBER PfnAt(PVOID Va, PFN_NUMBER Page)
{
    return (ULONG64)MmGetPhysicalAddress((PUCHAR)Va + PAGES(Page)).QuadPart >> PAGE_SHIFT;
}

static ULONG64 LowestPageOfRegion(VOID)
{
    return MiArchLayout[MiRegionDriverImages].BaseVa + PAGE_SIZE;
}

static VOID An_image_is_zeroed_writable_and_between_guards(VOID)
{
    MM_MEMORY_USE Before;
    MmQueryMemoryUse(&Before);
    for (SIZE_T Bytes = 1; Bytes < 2000 * PAGE_SIZE; Bytes = Bytes * 5 + 1) {
        const PUCHAR Va = MmAllocateImage(NULL, Bytes);
        const PFN_NUMBER PageCount = BYTES_TO_PAGES(Bytes);
        CHECK(Va != NULL && BYTE_OFFSET(Va) == 0);
        for (PFN_NUMBER Page = 0; Page < PageCount; Page += 1) {
            CHECK_PAGE(Va + PAGES(Page), PfnAt(Va, Page), MiAccessReadWrite, MiCacheWriteBack);
            CHECK(Va[PAGES(Page)] == 0 && Va[PAGES(Page + 1) - 1] == 0);
        }
        CHECK_UNMAPPED(Va - PAGE_SIZE);
        CHECK_UNMAPPED(Va + PAGES(PageCount));
        memset(Va, 0xA5, PAGES(PageCount)); // whoever gets the frames next sees them zeroed
        MM_MEMORY_USE Use;
        MmQueryMemoryUse(&Use);
        CHECK_EQUAL(Use.ImagePages, PageCount);
        CHECK_EQUAL(Use.Images, 1);
        CHECK_EQUAL(Use.SystemPtes, Before.SystemPtes + PageCount + 2);
        HostAudit();
        MmFreeImage(Va);
        HostCheckSameUse(&Before, "an image");
        HostAudit();
    }
}

static VOID The_direct_map_does_not_show_an_image(VOID)
{
    const PUCHAR Va = MmAllocateImage(NULL, 3 * PAGE_SIZE);
    PFN_NUMBER Pfns[3];
    for (PFN_NUMBER Page = 0; Page < 3; Page += 1) {
        Pfns[Page] = PfnAt(Va, Page);
        CHECK_UNMAPPED(MiFrameToVa(Pfns[Page]));
        CHECK(MmGetVirtualForPhysical(Pa((Pfns[Page] << PAGE_SHIFT) + 5)) == Va + PAGES(Page) + 5);
        CHECK(MmMapIoSpaceEx(Pa(Pfns[Page] << PAGE_SHIFT), PAGE_SIZE, PAGE_READWRITE) == NULL);
        HostCheckRefusal("the kernel's own image or data");
    }
    MmFreeImage(Va);
    for (PFN_NUMBER Page = 0; Page < 3; Page += 1) {
        CHECK_PAGE(MiFrameToVa(Pfns[Page]), Pfns[Page], MiAccessReadWrite, MiCacheWriteBack);
    }
}

static VOID Each_page_has_the_protection_that_it_was_given(VOID)
{
    const PUCHAR Va = MmAllocateImage(NULL, 1100 * PAGE_SIZE);
    const PFN_NUMBER First = PfnAt(Va, 0);
    MmProtectImage(Va, PAGE_SIZE, PAGE_READONLY);
    MmProtectImage(Va + PAGE_SIZE, PAGES(1050), PAGE_EXECUTE_READ); // over a table's end
    CHECK_PAGE(Va, First, MiAccessRead, MiCacheWriteBack);
    for (PFN_NUMBER Page = 1; Page < 1051; Page += 1) {
        CHECK_PAGE(Va + PAGES(Page), PfnAt(Va, Page), MiAccessExecuteRead, MiCacheWriteBack);
    }
    CHECK_PAGE(Va + PAGES(1051), PfnAt(Va, 1051), MiAccessReadWrite, MiCacheWriteBack);
    MmProtectImage(Va, PAGE_SIZE, PAGE_READWRITE);
    CHECK_PAGE(Va, First, MiAccessReadWrite, MiCacheWriteBack);
    HostAudit();
    MmFreeImage(Va);
}

static VOID Discarded_pages_are_free_and_the_rest_stays(VOID)
{
    MM_MEMORY_USE Before;
    MM_MEMORY_USE Whole;
    MM_MEMORY_USE Rest;
    MmQueryMemoryUse(&Before);
    const PUCHAR Va = MmAllocateImage(NULL, 8 * PAGE_SIZE);
    MmQueryMemoryUse(&Whole);
    MmDiscardImagePages(Va + PAGES(2), 3 * PAGE_SIZE);
    MmQueryMemoryUse(&Rest);
    CHECK_EQUAL(Rest.FreePages, Whole.FreePages + 3);
    CHECK_EQUAL(Rest.ImagePages, 5);
    CHECK_UNMAPPED(Va + PAGES(2));
    CHECK_UNMAPPED(Va + PAGES(4));
    CHECK(Va[PAGES(1)] == 0 && Va[PAGES(5)] == 0);
    HostAudit();
    MmDiscardImagePages(Va + PAGES(2), 4 * PAGE_SIZE); // some are gone already
    MmFreeImage(Va);
    HostCheckSameUse(&Before, "an image without all of its pages");
}

static VOID A_preferred_address_is_that_or_nothing(VOID)
{
    MM_MEMORY_USE Before;
    MmQueryMemoryUse(&Before);
    const PUCHAR Place = (PUCHAR)LowestPageOfRegion() + PAGES(100);
    const ULONG_PTR End =
        MiArchLayout[MiRegionDriverImages].BaseVa + MiArchLayout[MiRegionDriverImages].ByteCount;
    const PUCHAR First = MmAllocateImage(Place, 10 * PAGE_SIZE);
    CHECK(First == Place);
    HostAudit();
    CHECK(MmAllocateImage(Place + PAGES(9), PAGE_SIZE) == NULL);
    CHECK(MmAllocateImage(Place + PAGES(11), PAGE_SIZE) == NULL); // its guard is the first one's
    CHECK(MmAllocateImage(Place - PAGES(1), PAGE_SIZE) == NULL);
    CHECK(MmAllocateImage((PVOID)0x10000, PAGE_SIZE) == NULL);
    CHECK(MmAllocateImage((PVOID)MiArchLayout[MiRegionDriverImages].BaseVa, PAGE_SIZE) == NULL);
    CHECK(MmAllocateImage((PVOID)(End - PAGE_SIZE), PAGE_SIZE) == NULL);
    const PUCHAR Second = MmAllocateImage(Place + PAGES(12), PAGE_SIZE);
    const PUCHAR Last = MmAllocateImage((PVOID)(End - PAGES(2)), PAGE_SIZE);
    CHECK(Second == Place + PAGES(12) && Last == (PUCHAR)End - PAGES(2));
    HostAudit();
    MmFreeImage(First);
    MmFreeImage(Second);
    MmFreeImage(Last);
    HostCheckSameUse(&Before, "images at preferred addresses");
}

static VOID Allocating_fails_without_a_trace(VOID)
{
    MM_MEMORY_USE Before;
    MmQueryMemoryUse(&Before);
    const PVOID Places[] = {NULL, (PVOID)(LowestPageOfRegion() + PAGES(600))};
    for (ULONG Place = 0; Place < ARRAYSIZE(Places); Place += 1) {
        for (ULONG Skip = 0;; Skip += 1) {
            CHECK(Skip < 100);
            MmStartFailures(MM_FAIL_ALL, Skip, 1);
            const PVOID Va = MmAllocateImage(Places[Place], 20 * PAGE_SIZE);
            if (MmStopFailures() == 0) {
                CHECK(Va != NULL);
                MmFreeImage(Va);
                break;
            }
            CHECK(Va == NULL);
            HostCheckSameUse(&Before, "an image that failed");
            HostAudit();
        }
    }
    // Behind the frames comes a table, to split the direct map around them.
    MmStartFailures(MM_FAIL_FRAMES, 1200, 1);
    CHECK(MmAllocateImage(NULL, 1200 * PAGE_SIZE) == NULL);
    CHECK_EQUAL(MmStopFailures(), 1);
    CHECK(MmAllocateImage(NULL, Before.FreePages << PAGE_SHIFT) == NULL);
    CHECK(MmAllocateImage(NULL, 1ull << 40) == NULL);
    HostCheckSameUse(&Before, "an image that is too large");
}

static VOID Pages_of_an_image_can_be_locked_and_mapped(VOID)
{
    const PUCHAR Va = MmAllocateImage(NULL, 4 * PAGE_SIZE);
    MmProtectImage(Va, PAGE_SIZE, PAGE_EXECUTE_READ);
    const PMDL Mdl = IoAllocateMdl(Va + 0x800, 2 * PAGE_SIZE, FALSE, FALSE, NULL);
    MmProbeAndLockPages(Mdl, KernelMode, IoReadAccess);
    const PMDL Part = IoAllocateMdl(Va + 0x800, PAGE_SIZE, FALSE, FALSE, NULL);
    IoBuildPartialMdl(Mdl, Part, Va + 0x1000, 0x800);
    const PUCHAR Second = MmMapLockedPagesSpecifyCache(Part, KernelMode, MmCached, NULL, FALSE,
                                                       NormalPagePriority | MdlMappingNoWrite);
    const PUCHAR View = MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmCached, NULL, FALSE,
                                                     NormalPagePriority | MdlMappingNoWrite);
    CHECK_PAGE(View, PfnAt(Va, 0), MiAccessRead, MiCacheWriteBack);
    CHECK_PAGE(Second, PfnAt(Va, 1), MiAccessRead, MiCacheWriteBack);
    HostAudit();
    EXPECT_BUG_CHECK(MmFreeImage(Va));
    CHECK_EQUAL(FakeBugCheck.Code, PFN_LIST_CORRUPT);
    CHECK_EQUAL(FakeBugCheck.Parameters[0], 0x9A);
}

static VOID Write_locks_respect_the_protection_of_an_image(VOID)
{
    const PUCHAR Va = MmAllocateImage(NULL, 2 * PAGE_SIZE);
    volatile NTSTATUS Raised = STATUS_SUCCESS;
    MmProtectImage(Va, PAGE_SIZE, PAGE_EXECUTE_READ);
    const PMDL Mdl = IoAllocateMdl(Va, PAGE_SIZE, FALSE, FALSE, NULL);
    KmTry {
        MmProbeAndLockPages(Mdl, KernelMode, IoWriteAccess);
    }
    KmCatch (Status) {
        Raised = Status;
    }
    CHECK_EQUAL((ULONG)Raised, (ULONG)STATUS_ACCESS_VIOLATION);
    IoFreeMdl(Mdl);
    const PMDL Data = IoAllocateMdl(Va + PAGE_SIZE, PAGE_SIZE, FALSE, FALSE, NULL);
    const PMDL Part = IoAllocateMdl(Va + PAGE_SIZE, PAGE_SIZE, FALSE, FALSE, NULL);
    MmBuildMdlForNonPagedPool(Data);
    IoBuildPartialMdl(Data, Part, Va + PAGE_SIZE + 0x10, 0x20);
    const PUCHAR View = MmGetSystemAddressForMdlSafe(Part, NormalPagePriority);
    CHECK(View != NULL);
    IoFreeMdl(Part);
    IoFreeMdl(Data);
    MmFreeImage(Va);
}

static const HOST_TEST Tests[] = {
    HOST_ROW(An_image_is_zeroed_writable_and_between_guards, "I1, I2", &FakeMachineMax),
    HOST_ROW(The_direct_map_does_not_show_an_image, "contract 20.1.2, A1", &FakeMachineMax),
    HOST_ROW(Each_page_has_the_protection_that_it_was_given, "contract 20.1.2, I1",
             &FakeMachineMax),
    HOST_ROW(Discarded_pages_are_free_and_the_rest_stays, "I1, I2", &FakeMachineMax),
    HOST_ROW(A_preferred_address_is_that_or_nothing, "V1", &FakeMachineMax),
    HOST_ROW(Allocating_fails_without_a_trace, "contract 20.3.3", &FakeMachineMax),
    HOST_ROW(Pages_of_an_image_can_be_locked_and_mapped, "contract 6.6.1, 0x4E/0x9A",
             &FakeMachineMax),
    HOST_ROW(Write_locks_respect_the_protection_of_an_image, "contract 6.6.3", &FakeMachineMax),
};

HOST_DEFINE_SUITE(imagememory);
