// Questions and reports: MmGetPhysicalAddress, MmIsAddressValid, MmGetPhysicalMemoryRanges,
// MmQueryPage, what people see.
#include "tests/host/host.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)

static VOID The_physical_address_includes_the_offset_in_leaves_of_every_size(VOID)
{
    const PUCHAR Va = MmMapIoSpaceEx(Pa(FAKE_IO_HIGH), GIB + 2 * MIB + PAGE_SIZE, PAGE_READWRITE);
    static const ULONG64 Offsets[] = {
        0, 1, GIB - 1, GIB, GIB + 0x12345, GIB + 2 * MIB, GIB + 2 * MIB + 0xFFF};
    for (ULONG Row = 0; Row < ARRAYSIZE(Offsets); Row += 1) {
        CHECK_EQUAL(MmGetPhysicalAddress(Va + Offsets[Row]).QuadPart, FAKE_IO_HIGH + Offsets[Row]);
        CHECK(MmIsAddressValid(Va + Offsets[Row]));
    }
    CHECK_EQUAL(MmGetPhysicalAddress(Va + GIB + 2 * MIB + PAGE_SIZE).QuadPart, 0);
    MmUnmapIoSpace(Va, GIB + 2 * MIB + PAGE_SIZE);
    CHECK_EQUAL(MmGetPhysicalAddress(Va).QuadPart, 0);
    CHECK(!MmIsAddressValid(Va));
}

static VOID What_is_not_an_address_is_not_valid(VOID)
{
    const PVOID NonCanonical = (PVOID)0x1234567812345678ull;
    CHECK_EQUAL(MmGetPhysicalAddress(NonCanonical).QuadPart, 0);
    CHECK(!MmIsAddressValid(NonCanonical));
    CHECK(!MmIsAddressValid(NULL) && !MmIsAddressValid((PVOID)MAXULONG64));
    CHECK(MmIsAddressValid((PVOID)0x600000200000)); // the kernel image
    CHECK_EQUAL(MmGetPhysicalAddress((PVOID)0x600000200123).QuadPart, FAKE_KERNEL_PA + 0x123);
}

static VOID Questions_may_be_asked_at_any_IRQL(VOID)
{
    FakeIrql = HIGH_LEVEL;
    MM_PAGE_INFORMATION Page;
    CHECK(MmGetPhysicalAddress((PVOID)0x600000200000).QuadPart != 0);
    MmQueryPage((PVOID)0x600000200000, &Page);
    CHECK_EQUAL(Page.Level, 1);
    FakeIrql = PASSIVE_LEVEL;
}

// The address through which the self-map shows the entry of Va.
static PVOID EntryAddress(ULONG_PTR Va)
{
    return (PVOID)(MiArchLayout[MiRegionSelfMap].BaseVa + (Va >> PAGE_SHIFT) * sizeof(MMPTE));
}

static VOID The_self_map_is_valid_where_there_are_tables(VOID)
{
    const PVOID Va = MmMapIoSpace(Pa(FAKE_IO_LOW), PAGE_SIZE, MmNonCached);
    CHECK(MmIsAddressValid(EntryAddress((ULONG_PTR)Va)));
    CHECK(!MmIsAddressValid(EntryAddress(0x100000000000))); // an address of nobody
    MmUnmapIoSpace(Va, PAGE_SIZE);
}

static VOID The_ranges_of_RAM_end_with_zeros_and_are_the_callers(VOID)
{
    const PPHYSICAL_MEMORY_RANGE Ranges = MmGetPhysicalMemoryRanges();
    static const ULONG64 Expected[][2] = {
        {0x1000, 0x9E000}, {0x100000, FAKE_ACPI - 0x100000}, {0x100000000ull, 32 * MIB}, {0, 0}};
    for (ULONG Row = 0; Row < ARRAYSIZE(Expected); Row += 1) {
        CHECK_EQUAL(Ranges[Row].BaseAddress.QuadPart, Expected[Row][0]);
        CHECK_EQUAL(Ranges[Row].NumberOfBytes.QuadPart, Expected[Row][1]);
    }
    ExFreePool(Ranges);
    MmStartFailures(MM_FAIL_POOL, 0, 1);
    CHECK(MmGetPhysicalMemoryRanges() == NULL);
    MmStopFailures();
}

static VOID A_page_is_described_by_leaf_frame_and_rights(VOID)
{
    const PUCHAR Va = MmMapIoSpaceEx(Pa(FAKE_IO_HIGH), 2 * MIB, PAGE_READONLY | PAGE_WRITECOMBINE);
    MM_PAGE_INFORMATION Page;
    MmQueryPage(Va + 0x12345, &Page);
    CHECK_EQUAL(Page.Level, 2);
    CHECK_EQUAL(Page.PhysicalAddress.QuadPart, FAKE_IO_HIGH + 0x12345);
    CHECK_TEXT(Page.Access, "r--");
    CHECK_TEXT(Page.CacheType, "WC");
    MmUnmapIoSpace(Va, 2 * MIB);
    MmQueryPage(Va, &Page);
    CHECK_EQUAL(Page.Level, 0);
    MmQueryPage((PVOID)0x1234567812345678ull, &Page);
    CHECK_EQUAL(Page.Level, 0);
}

typedef struct _LEAVES {
    ULONG_PTR LastVa;
    ULONG64 Count;
    ULONG64 Limit;
    BOOLEAN SawWritableCode;
} LEAVES;

static BOOLEAN NoteLeaf(ULONG_PTR Va, const MM_PAGE_INFORMATION *Leaf, PVOID Context)
{
    LEAVES *Leaves = Context;
    CHECK(Leaves->Count == 0 || Va > Leaves->LastVa);
    CHECK_EQUAL(FakeWalk(Va).Pfn << PAGE_SHIFT, Leaf->PhysicalAddress.QuadPart);
    Leaves->LastVa = Va;
    Leaves->Count += 1;
    Leaves->SawWritableCode |= strcmp(Leaf->Access, "rwx") == 0;
    return Leaves->Count < Leaves->Limit;
}

static VOID All_leaves_are_told_in_order_and_none_is_writable_code(VOID)
{
    LEAVES Leaves = {.Limit = MAXULONG64};
    MmEnumerateLeaves(NoteLeaf, &Leaves);
    CHECK(Leaves.Count > 10 && !Leaves.SawWritableCode);
    LEAVES Few = {.Limit = 3};
    MmEnumerateLeaves(NoteLeaf, &Few);
    CHECK_EQUAL(Few.Count, 3);
}

static VOID CountMapping(const MM_MAPPING_INFORMATION *Information, PVOID Context)
{
    ULONG *Count = Context;
    CHECK(Information->Caller != NULL);
    *Count += 1;
}

static VOID A_mapping_is_described_in_one_line(VOID)
{
    ULONG Count = 0;
    const PVOID Va =
        MmMapIoSpaceEx(Pa(FAKE_IO_HIGH), GIB + 2 * MIB + PAGE_SIZE, PAGE_READWRITE | PAGE_NOCACHE);
    CHAR Expected[128];
    snprintf(Expected, sizeof(Expected), "0x%016llx rw- UC 1 x 1G + 1 x 2M + 1 x 4K",
             (ULONG64)(ULONG_PTR)Va);
    MmEnumerateIoMappings(CountMapping, &Count);
    CHECK_EQUAL(Count, 1);
    HostForgetPrinted();
    MmPrintIoMappings();
    CHECK(strstr(HostPrinted(), Expected) != NULL);
    CHECK(strstr(HostPrinted(), "by HostCaller+0x0") != NULL);
    MmUnmapIoSpace(Va, GIB + 2 * MIB + PAGE_SIZE);
}

static VOID Memory_use_and_layout_print(VOID)
{
    HostForgetPrinted();
    MmPrintMemoryUse();
    MmPrintVirtualLayout();
    CHECK(strstr(HostPrinted(), "Memory: ") != NULL && strstr(HostPrinted(), "direct map") != NULL);
}

static VOID The_last_refusal_is_told_and_before_it_nothing(VOID)
{
    CHAR Text[128] = "x";
    MmDescribeLastRefusal(Text, sizeof(Text));
    CHECK_TEXT(Text, "");
    CHECK_EQUAL(MmRefusalCount(), 0);
    for (ULONG Round = 0; Round < 100; Round += 1) { // more than the ring holds
        CHECK(MmMapIoSpace(Pa(FAKE_IO_LOW), 0, MmCached) == NULL);
    }
    CHECK(MmMapIoSpaceEx(Pa(PAGES(FakeRootPfn())), 1, PAGE_READONLY) == NULL);
    HostCheckRefusal("a live page table");
    CHECK_EQUAL(MmRefusalCount(), 101);
    MmDescribeLastRefusal(Text, 10); // cut, terminated
    CHECK_TEXT(Text, "MmMapIoSp");
}

static VOID Every_frame_that_somebody_uses_has_a_kernel_address(VOID)
{
    const PVOID Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 100, 'tseT');
    const PHYSICAL_ADDRESS Address = MmGetPhysicalAddress(Block);
    CHECK(MmGetVirtualForPhysical(Address) == Block);
    ExFreePool(Block);
    // The image lies outside of the direct map.
    CHECK(MmGetVirtualForPhysical(Pa(FAKE_KERNEL_PA + 0x123)) ==
          (PVOID)(MiArchLayout[MiRegionKernelImage].BaseVa + FAKE_KERNEL_PA + 0x123));
    CHECK(MmGetVirtualForPhysical(Pa(FAKE_IO_LOW)) == NULL);
    CHECK(MmGetVirtualForPhysical(Pa(MAXULONG64)) == NULL);
    CHECK(MmGetVirtualForPhysical(Pa(0)) == NULL);
    CHECK(MmGetVirtualForPhysical(Pa(PAGES(FakeRootPfn()))) == NULL);
    CHECK(MmGetVirtualForPhysical(Pa(PAGES(MiFirstFreePfn()))) == NULL);
}

static VOID A_hidden_frame_has_no_kernel_address(VOID)
{
    const PVOID Va = MmAllocateNonCachedMemory(PAGE_SIZE);
    const PHYSICAL_ADDRESS Address = MmGetPhysicalAddress(Va);
    CHECK(MmGetVirtualForPhysical(Address) == NULL);
    MmFreeNonCachedMemory(Va, PAGE_SIZE);
    const PVOID Cached = MmAllocateContiguousMemory(PAGE_SIZE, Pa(MAXULONG64));
    CHECK(MmGetVirtualForPhysical(MmGetPhysicalAddress(Cached)) == Cached);
    MmFreeContiguousMemory(Cached);
}

static VOID CheckSameList(PPHYSICAL_MEMORY_RANGE Ranges)
{
    const PPHYSICAL_MEMORY_RANGE Expected = MmGetPhysicalMemoryRanges();
    ULONG Row = 0;
    do {
        CHECK_EQUAL(Ranges[Row].BaseAddress.QuadPart, Expected[Row].BaseAddress.QuadPart);
        CHECK_EQUAL(Ranges[Row].NumberOfBytes.QuadPart, Expected[Row].NumberOfBytes.QuadPart);
        Row += 1;
    } while (Expected[Row - 1].NumberOfBytes.QuadPart != 0);
    ExFreePool(Expected);
    ExFreePool(Ranges);
}

static VOID The_one_partition_has_all_RAM(VOID)
{
    CheckSameList(MmGetPhysicalMemoryRangesEx(NULL));
    CheckSameList(MmGetPhysicalMemoryRangesEx2(NULL, 0));
    CheckSameList(MmGetPhysicalMemoryRangesEx2(NULL, MAXULONG));
    CHECK(MmGetPhysicalMemoryRangesEx(&Ignore) == NULL);
    HostCheckRefusal(
        "MmGetPhysicalMemoryRangesEx refused: there is one node, 0, and one partition");
    CHECK(MmGetPhysicalMemoryRangesEx2(&Ignore, 0) == NULL);
    MmStartFailures(MM_FAIL_POOL, 0, 1);
    CHECK(MmGetPhysicalMemoryRangesEx(NULL) == NULL);
    MmStopFailures();
    HostCheckRefusal("no pool, frames or system addresses left");
    MmVerifierLevel = 1;
    FakeIrql = APC_LEVEL;
    EXPECT_BUG_CHECK(Ignore(MmGetPhysicalMemoryRangesEx(NULL)));
    CHECK_EQUAL(FakeBugCheck.Parameters[0], 0x20019);
    FakeIrql = DISPATCH_LEVEL + 1;
    EXPECT_BUG_CHECK((VOID)MmIsAddressValid(NULL));
    CHECK_EQUAL(FakeBugCheck.Parameters[0], 0x2001A);
    FakeIrql = PASSIVE_LEVEL;
}

// As if another processor had mapped the frame uncached in the middle of it.
static VOID A_copy_goes_on_when_the_frame_loses_its_address(VOID)
{
    const PUCHAR Page = ExAllocatePool2(POOL_FLAG_NON_PAGED, PAGE_SIZE, 0x79706f43);
    UCHAR Copy[64];
    SIZE_T Copied;
    for (ULONG Index = 0; Index < sizeof(Copy); Index += 1) {
        Page[100 + Index] = (UCHAR)(Index ^ 0x5A);
    }
    const MM_COPY_ADDRESS Source = {.VirtualAddress = Page + 100};
    const VOID *FaultVas[] = {Page + 120, Copy + 20}; // the source's, and the target's
    for (ULONG Index = 0; Index < ARRAYSIZE(FaultVas); Index += 1) {
        memset(Copy, 0, sizeof(Copy));
        FakeCopyFaultVa = FaultVas[Index];
        CHECK_EQUAL(MmCopyMemory(Copy, Source, sizeof(Copy), MM_COPY_MEMORY_VIRTUAL, &Copied),
                    STATUS_SUCCESS);
        CHECK(FakeCopyFaultVa == NULL && Copied == sizeof(Copy));
        CHECK(memcmp(Copy, Page + 100, Copied) == 0);
    }
    // A frame that is another's by now, whose type is open.
    const PMDL Mdl = MmAllocatePagesForMdl(Pa(0), Pa(MAXULONG64), Pa(0), PAGE_SIZE);
    const MM_COPY_ADDRESS Open = {.PhysicalAddress = Pa(PAGES(MmGetMdlPfnArray(Mdl)[0]))};
    FakeCopyFaultVa = MiFrameToVa(MmGetMdlPfnArray(Mdl)[0]);
    CHECK_EQUAL(MmCopyMemory(Copy, Open, sizeof(Copy), MM_COPY_MEMORY_PHYSICAL, &Copied),
                STATUS_SUCCESS);
    CHECK(Copied == sizeof(Copy) && Copy[0] == 0 && Copy[63] == 0);
    MmFreePagesFromMdl(Mdl);
    ExFreePool(Mdl);
    ExFreePool(Page);
    HostAudit();
}

static const HOST_TEST Tests[] = {
    HOST_ROW(The_physical_address_includes_the_offset_in_leaves_of_every_size, "contract 4.5.1",
             &FakeMachineMax),
    HOST_ROW(What_is_not_an_address_is_not_valid, "contract 4.5.2, 4.7.1", &FakeMachineMax),
    HOST_ROW(Questions_may_be_asked_at_any_IRQL, "contract 4.5.3", &FakeMachineMax),
    HOST_ROW(The_self_map_is_valid_where_there_are_tables, "design 1.7", &FakeMachineMax),
    HOST_ROW(The_ranges_of_RAM_end_with_zeros_and_are_the_callers, "contract 4.6.1, 4.6.3",
             &FakeMachineMax),
    HOST_ROW(Every_frame_that_somebody_uses_has_a_kernel_address, "contract 4.8.1, 4.8.2",
             &FakeMachineMax),
    HOST_ROW(A_hidden_frame_has_no_kernel_address, "contract 4.8.2", &FakeMachineMax),
    HOST_ROW(The_one_partition_has_all_RAM, "contract 4.6.3, 4.6.4, 4.6.5", &FakeMachineMax),
    HOST_ROW(A_page_is_described_by_leaf_frame_and_rights, "mm.h, MmQueryPage", &FakeMachineMax),
    HOST_ROW(All_leaves_are_told_in_order_and_none_is_writable_code, "mm.h, MmEnumerateLeaves",
             &FakeMachineMax),
    HOST_ROW(A_mapping_is_described_in_one_line, "mm.h, reports", &FakeMachineMax),
    HOST_ROW(Memory_use_and_layout_print, "mm.h, reports", &FakeMachineMax),
    HOST_ROW(The_last_refusal_is_told_and_before_it_nothing, "mm.h, MmDescribeLastRefusal",
             &FakeMachineMax),
    HOST_ROW(A_copy_goes_on_when_the_frame_loses_its_address, "contract 4.13.5", &FakeMachineMax),
};

HOST_DEFINE_SUITE(query);
