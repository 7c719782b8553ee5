// Non-cached memory: MmAllocateNonCachedMemory, MmFreeNonCachedMemory.
#include "tests/host/host.h"

static PFN_NUMBER PfnAt(PVOID Va, PFN_NUMBER Page)
{
    return (ULONG64)MmGetPhysicalAddress((PUCHAR)Va + PAGES(Page)).QuadPart >> PAGE_SHIFT;
}

static VOID Pages_are_uncached_and_side_by_side_in_addresses(VOID)
{
    MM_MEMORY_USE Before;
    MmQueryMemoryUse(&Before);
    for (SIZE_T Bytes = 1; Bytes < 100 * PAGE_SIZE; Bytes = Bytes * 4 + 1) {
        const PVOID Va = MmAllocateNonCachedMemory(Bytes);
        CHECK(Va != NULL && BYTE_OFFSET(Va) == 0);
        for (PFN_NUMBER Page = 0; Page < BYTES_TO_PAGES(Bytes); Page += 1) {
            const PFN_NUMBER Pfn = PfnAt(Va, Page);
            CHECK_PAGE((ULONG_PTR)Va + PAGES(Page), Pfn, MiAccessReadWrite, MiCacheUncached);
            CHECK_UNMAPPED(MiFrameToVa(Pfn));
            CHECK_EQUAL(MiPfnState(Pfn), MiPfnDriver);
        }
        memset(Va, 0xA5, Bytes);
        HostAudit();
        MmFreeNonCachedMemory(Va, Bytes);
        HostCheckSameUse(&Before, "non-cached memory");
        HostAudit();
    }
}

// Every other page is taken, so that no two free ones adjoin.
static VOID Frames_need_not_adjoin(VOID)
{
    const PMDL Odd = MmAllocatePagesForMdl(Pa(0x1000), Pa(0x1FFF), Pa(2 * PAGE_SIZE), 0x3000000);
    CHECK(Odd != NULL && MmGetMdlByteCount(Odd) > 0x2000000);
    CHECK(MmAllocateContiguousMemory(2 * PAGE_SIZE, Pa(MAXULONG64)) == NULL);
    const PVOID Va = MmAllocateNonCachedMemory(5 * PAGE_SIZE);
    CHECK(Va != NULL);
    for (PFN_NUMBER Page = 1; Page < 5; Page += 1) {
        const PFN_NUMBER Pfn = PfnAt(Va, Page);
        const PFN_NUMBER Previous = PfnAt(Va, Page - 1);
        CHECK(Pfn != Previous + 1 && Previous != Pfn + 1);
    }
    HostAudit();
    MmFreeNonCachedMemory(Va, 5 * PAGE_SIZE);
    MmFreePagesFromMdl(Odd);
    ExFreePool(Odd);
}

static VOID No_bytes_and_too_many_are_refused(VOID)
{
    MM_MEMORY_USE Before;
    MmQueryMemoryUse(&Before);
    CHECK(MmAllocateNonCachedMemory(0) == NULL);
    HostCheckRefusal("MmAllocateNonCachedMemory refused: zero bytes");
    CHECK(MmAllocateNonCachedMemory(MAXULONG64) == NULL);
    HostCheckRefusal("no pool, frames or system addresses left");
    CHECK(MmAllocateNonCachedMemory(Before.FreePages << PAGE_SHIFT) == NULL);
    HostCheckSameUse(&Before, "a refusal");
    HostAudit();
}

static VOID Another_size_cannot_be_freed(VOID)
{
    const PVOID Va = MmAllocateNonCachedMemory(3 * PAGE_SIZE);
    EXPECT_BUG_CHECK(MmFreeNonCachedMemory(Va, 2 * PAGE_SIZE));
    CHECK_BUG_CHECK(SYSTEM_PTE_MISUSE, 0x305, (ULONG_PTR)Va, 2, 3);
    EXPECT_BUG_CHECK(MmFreeNonCachedMemory(Va, 3 * PAGE_SIZE + 1));
    CHECK_BUG_CHECK(SYSTEM_PTE_MISUSE, 0x305, (ULONG_PTR)Va, 4, 3);
    EXPECT_BUG_CHECK(MmFreeNonCachedMemory(Va, 0));
    CHECK_BUG_CHECK(SYSTEM_PTE_MISUSE, 0x305, (ULONG_PTR)Va, 0, 3);
    MmFreeNonCachedMemory(Va, 2 * PAGE_SIZE + 1);
}

static VOID What_is_none_cannot_be_freed(VOID)
{
    const PUCHAR Va = MmAllocateNonCachedMemory(2 * PAGE_SIZE);
    EXPECT_BUG_CHECK(MmFreeNonCachedMemory(Va + PAGE_SIZE, PAGE_SIZE));
    CHECK_BUG_CHECK(SYSTEM_PTE_MISUSE, 0x304, (ULONG_PTR)Va + PAGE_SIZE, 1, 0);
    MmFreeNonCachedMemory(Va, 2 * PAGE_SIZE);
    EXPECT_BUG_CHECK(MmFreeNonCachedMemory(Va, 2 * PAGE_SIZE));
    CHECK_BUG_CHECK(SYSTEM_PTE_MISUSE, 0x303, (ULONG_PTR)Va, 2, 0);
}

static VOID At_level_1_contents_are_nobodys_and_the_IRQL_is_checked(VOID)
{
    MmVerifierLevel = 1;
    const PUCHAR Va = MmAllocateNonCachedMemory(PAGE_SIZE);
    ULONG Different = 0;
    for (ULONG Index = 1; Index < PAGE_SIZE; Index += 1) {
        Different += Va[Index] != Va[Index - 1];
    }
    CHECK(Different > PAGE_SIZE / 2);
    FakeIrql = DISPATCH_LEVEL;
    EXPECT_BUG_CHECK(MmFreeNonCachedMemory(Va, PAGE_SIZE));
    CHECK_EQUAL(FakeBugCheck.Parameters[0], 0x20019);
    FakeIrql = DISPATCH_LEVEL;
    EXPECT_BUG_CHECK(Ignore(MmAllocateNonCachedMemory(PAGE_SIZE)));
    CHECK_EQUAL(FakeBugCheck.Parameters[0], 0x20019);
    FakeIrql = APC_LEVEL;
    MmFreeNonCachedMemory(Va, PAGE_SIZE);
    FakeIrql = PASSIVE_LEVEL;
}

static const HOST_TEST Tests[] = {
    HOST_ROW(Pages_are_uncached_and_side_by_side_in_addresses, "contract 8.2.1, 12.2.6, A1",
             &FakeMachineMax),
    HOST_ROW(Frames_need_not_adjoin, "contract 8.2.1", &FakeMachineMax),
    HOST_ROW(No_bytes_and_too_many_are_refused, "contract 8.2.2", &FakeMachineMax),
    HOST_ROW(Another_size_cannot_be_freed, "contract 8.2.3, 0xDA/0x305", &FakeMachineMax),
    HOST_ROW(What_is_none_cannot_be_freed, "contract 8.2.3, 0xDA/0x303, 0xDA/0x304",
             &FakeMachineMax),
    HOST_ROW(At_level_1_contents_are_nobodys_and_the_IRQL_is_checked, "contract 14.5, 0xC4/0x20019",
             &FakeMachineMax),
};

HOST_DEFINE_SUITE(noncached);
