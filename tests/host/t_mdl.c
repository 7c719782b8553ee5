// IoAllocateMdl, IoFreeMdl, MmSizeOfMdl, MmBuildMdlForNonPagedPool, MmAllocateMdlForIoSpace.
#include "tests/host/host.h"

#define FOUR_GIB 0x100000000ull

static VOID An_MDL_describes_its_buffer_and_nothing_else(VOID)
{
    const PMDL Mdl = IoAllocateMdl((PVOID)0x12345, 0x2000, FALSE, FALSE, NULL);
    CHECK(Mdl->Next == NULL && Mdl->StartVa == (PVOID)0x12000 && Mdl->MappedSystemVa == NULL);
    CHECK_EQUAL(Mdl->ByteOffset, 0x345);
    CHECK_EQUAL(Mdl->ByteCount, 0x2000);
    CHECK_EQUAL(Mdl->MdlFlags, 0);
    CHECK_EQUAL(Mdl->Size, sizeof(MDL) + 3 * sizeof(PFN_NUMBER));
    CHECK(MmGetMdlVirtualAddress(Mdl) == (PVOID)0x12345);
    CHECK(MmGetMdlPfnArray(Mdl)[0] == 0 && MmGetMdlPfnArray(Mdl)[2] == 0);
    IoFreeMdl(Mdl);
}

static VOID A_NULL_buffer_is_fine_and_an_empty_one_is_not(VOID)
{
    const PMDL Mdl = IoAllocateMdl(NULL, 1, FALSE, FALSE, NULL);
    CHECK(Mdl != NULL && Mdl->StartVa == NULL);
    IoFreeMdl(Mdl);
    CHECK(IoAllocateMdl((PVOID)1, 0, FALSE, FALSE, NULL) == NULL);
    HostCheckRefusal("IoAllocateMdl refused: zero bytes");
}

static VOID The_longest_buffer_is_4_GiB_less_a_page(VOID)
{
    const PMDL Mdl = IoAllocateMdl(NULL, (ULONG)(FOUR_GIB - PAGE_SIZE), FALSE, FALSE, NULL);
    CHECK(Mdl != NULL);
    CHECK_EQUAL(MiMdlPageCount(Mdl), 0xFFFFF);
    IoFreeMdl(Mdl);
    CHECK(IoAllocateMdl(NULL, (ULONG)(FOUR_GIB - PAGE_SIZE + 1), FALSE, FALSE, NULL) == NULL);
    CHECK(IoAllocateMdl((PVOID)1, (ULONG)(FOUR_GIB - PAGE_SIZE), FALSE, FALSE, NULL) == NULL);
    CHECK(IoAllocateMdl((PVOID)0xFFF, MAXULONG, FALSE, FALSE, NULL) == NULL);
}

static VOID An_IRP_gets_the_MDL_as_its_first_or_its_last(VOID)
{
    IRP Irp = {0};
    const PMDL Head =
        IoAllocateMdl(NULL, 1, TRUE, FALSE, &Irp); // secondary, but there is no chain yet
    CHECK(Irp.MdlAddress == Head);
    const PMDL Tail = IoAllocateMdl(NULL, 1, TRUE, FALSE, &Irp);
    const PMDL Last = IoAllocateMdl(NULL, 1, TRUE, FALSE, &Irp);
    CHECK(Irp.MdlAddress == Head && Head->Next == Tail && Tail->Next == Last && Last->Next == NULL);
    const PMDL New = IoAllocateMdl(NULL, 1, FALSE, FALSE, &Irp);
    CHECK(Irp.MdlAddress == New && New->Next == NULL);
    IoFreeMdl(Head);
    CHECK(Tail->Next == Last); // a chain is not followed
    IoFreeMdl(Tail);
    IoFreeMdl(Last);
    IoFreeMdl(New);
}

static VOID The_size_of_an_MDL_is_its_header_and_a_frame_per_page(VOID)
{
    CHECK_EQUAL(MmSizeOfMdl(NULL, 0), 0x30);
    CHECK_EQUAL(MmSizeOfMdl(NULL, PAGE_SIZE), 0x38);
    CHECK_EQUAL(MmSizeOfMdl((PVOID)1, PAGE_SIZE), 0x40);
}

static VOID A_nonpaged_buffer_is_described_with_its_own_address(VOID)
{
    const PUCHAR Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 3 * PAGE_SIZE, 'tseT');
    const PMDL Mdl = IoAllocateMdl(Block + 0x123, 2 * PAGE_SIZE, FALSE, FALSE, NULL);
    MM_MEMORY_USE Before;
    MmQueryMemoryUse(&Before);
    MmBuildMdlForNonPagedPool(Mdl);
    HostCheckSameUse(&Before, "MmBuildMdlForNonPagedPool");
    CHECK_EQUAL(Mdl->MdlFlags, MDL_SOURCE_IS_NONPAGED_POOL);
    CHECK(Mdl->MappedSystemVa == Block + 0x123);
    CHECK(MmGetSystemAddressForMdlSafe(Mdl, NormalPagePriority) == Block + 0x123);
    for (ULONG Page = 0; Page < 3; Page += 1) {
        CHECK_EQUAL(PAGES(MmGetMdlPfnArray(Mdl)[Page]),
                    MmGetPhysicalAddress(Block + PAGES(Page)).QuadPart);
    }
    IoFreeMdl(Mdl);
    ExFreePool(Block);
}

static VOID A_buffer_in_device_memory_is_marked_so(VOID)
{
    const PUCHAR Va = MmMapIoSpace(Pa(FAKE_IO_LOW), 2 * PAGE_SIZE, MmNonCached);
    const PMDL Mdl = IoAllocateMdl(Va, 2 * PAGE_SIZE, FALSE, FALSE, NULL);
    MmBuildMdlForNonPagedPool(Mdl);
    CHECK_EQUAL(Mdl->MdlFlags, MDL_SOURCE_IS_NONPAGED_POOL | MDL_IO_SPACE);
    CHECK_EQUAL(MmGetMdlPfnArray(Mdl)[1], PfnOf(FAKE_IO_LOW) + 1);
    IoFreeMdl(Mdl);
    MmUnmapIoSpace(Va, 2 * PAGE_SIZE);
}

//
// MmAllocateMdlForIoSpace.
//

static VOID Ranges_that_do_not_adjoin_are_concatenated_in_order(VOID)
{
    MM_PHYSICAL_ADDRESS_LIST List[] = {{Pa(FAKE_IO_HIGH), 2 * PAGE_SIZE},
                                       {Pa(FAKE_IO_LOW), PAGE_SIZE},
                                       {Pa(FAKE_ECAM), PAGE_SIZE}};
    PMDL Mdl;
    CHECK_EQUAL(MmAllocateMdlForIoSpace(List, ARRAYSIZE(List), &Mdl), STATUS_SUCCESS);
    CHECK(Mdl->Next == NULL && Mdl->StartVa == NULL && Mdl->MappedSystemVa == NULL &&
          Mdl->Process == NULL);
    CHECK_EQUAL(Mdl->ByteOffset, 0);
    CHECK_EQUAL(Mdl->ByteCount, 4 * PAGE_SIZE);
    CHECK_EQUAL(Mdl->MdlFlags, MDL_IO_SPACE | MDL_PAGES_LOCKED);
    const PFN_NUMBER *Pfns = MmGetMdlPfnArray(Mdl);
    CHECK(Pfns[0] == PfnOf(FAKE_IO_HIGH) && Pfns[1] == Pfns[0] + 1 &&
          Pfns[2] == PfnOf(FAKE_IO_LOW) && Pfns[3] == PfnOf(FAKE_ECAM));
    CHECK(!MmIsIoSpaceActive(Pa(FAKE_IO_HIGH), PAGE_SIZE)); // not mapped
    IoFreeMdl(Mdl);
}

static VOID CheckRefused(ULONG64 Base, SIZE_T ByteCount, NTSTATUS Status, const CHAR *Words)
{
    MM_PHYSICAL_ADDRESS_LIST List[] = {{Pa(FAKE_IO_HIGH), PAGE_SIZE}, {Pa(Base), ByteCount}};
    PMDL Mdl = (PMDL)1;
    MM_MEMORY_USE Before;
    MmQueryMemoryUse(&Before);
    CHECK_EQUAL(MmAllocateMdlForIoSpace(List, ARRAYSIZE(List), &Mdl), Status);
    CHECK(Mdl == NULL);
    HostCheckRefusal(Words);
    HostCheckSameUse(&Before, Words);
}

static VOID Every_illegal_entry_is_refused_as_documented(VOID)
{
    const NTSTATUS Status = STATUS_INVALID_PARAMETER_1;
    CheckRefused(FAKE_IO_LOW + 1, PAGE_SIZE, Status, "not page aligned");
    CheckRefused(FAKE_IO_LOW, PAGE_SIZE + 1, Status, "not page aligned");
    CheckRefused(FAKE_IO_LOW, 0, Status, "zero bytes");
    CheckRefused(0x100000, PAGE_SIZE, Status, "RAM that the operating system uses");
    CheckRefused(FAKE_ACPI - PAGE_SIZE, 2 * PAGE_SIZE, Status, "partly RAM");
    CheckRefused((ULONG64)-PAGE_SIZE, 2 * PAGE_SIZE, Status, "wraps");
    CheckRefused(1ull << 46, PAGE_SIZE, Status, "leaves the processor's physical addresses");
    CheckRefused(FAKE_IO_HIGH, FOUR_GIB - PAGE_SIZE, Status, "more than this routine can describe");
    CheckRefused(FAKE_IO_HIGH, 1ull << 40, Status, "more than this routine can describe");
}

static VOID No_entries_are_an_error_of_the_second_parameter(VOID)
{
    PMDL Mdl = (PMDL)1;
    CHECK_EQUAL(MmAllocateMdlForIoSpace(NULL, 0, &Mdl), STATUS_INVALID_PARAMETER_2);
    CHECK(Mdl == NULL);
}

static VOID A_total_of_4_GiB_fails_and_a_page_less_succeeds(VOID)
{
    MM_PHYSICAL_ADDRESS_LIST List[] = {{Pa(FAKE_IO_HIGH), FOUR_GIB / 2},
                                       {Pa(FAKE_IO_HIGH), FOUR_GIB / 2}};
    PMDL Mdl;
    CHECK_EQUAL(MmAllocateMdlForIoSpace(List, 2, &Mdl), STATUS_INVALID_PARAMETER_1);
    List[1].NumberOfBytes -= PAGE_SIZE;
    CHECK_EQUAL(MmAllocateMdlForIoSpace(List, 2, &Mdl), STATUS_SUCCESS);
    CHECK_EQUAL(Mdl->ByteCount, MAXULONG - PAGE_SIZE + 1);
    CHECK_EQUAL(MmGetMdlPfnArray(Mdl)[0xFFFFE], PfnOf(FAKE_IO_HIGH + FOUR_GIB / 2) - 2);
    IoFreeMdl(Mdl);
}

static VOID An_MDL_holds_its_frames_until_it_is_freed(VOID)
{
    MM_PHYSICAL_ADDRESS_LIST List = {Pa(FAKE_IO_LOW), 4 * PAGE_SIZE};
    PMDL Mdl;
    CHECK_EQUAL(MmAllocateMdlForIoSpace(&List, 1, &Mdl), STATUS_SUCCESS);
    CHECK_EQUAL(MiLedgerUsedCount(), 4);
    const PVOID Va =
        MmMapIoSpace(Pa(FAKE_IO_LOW), PAGE_SIZE, MmWriteCombined); // undecided: any type goes
    CHECK(Va != NULL);
    MmUnmapIoSpace(Va, PAGE_SIZE);
    IoFreeMdl(Mdl);
    CHECK_EQUAL(MiLedgerUsedCount(), 0);
}

static VOID Freeing_a_mapped_MDL_unmaps_it(VOID)
{
    MM_PHYSICAL_ADDRESS_LIST List = {Pa(FAKE_IO_LOW), 4 * PAGE_SIZE};
    PMDL Mdl;
    MM_MEMORY_USE Before;
    MmQueryMemoryUse(&Before);
    CHECK_EQUAL(MmAllocateMdlForIoSpace(&List, 1, &Mdl), STATUS_SUCCESS);
    const PVOID Va =
        MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmNonCached, NULL, FALSE, NormalPagePriority);
    CHECK(Va != NULL);
    IoFreeMdl(Mdl);
    CHECK_UNMAPPED(Va);
    HostCheckSameUse(&Before, "IoFreeMdl of a mapped MDL");
}

static const HOST_TEST Tests[] = {
    HOST_ROW(An_MDL_describes_its_buffer_and_nothing_else, "contract 1.4.3, 1.4.5, 6.1.1",
             &FakeMachineMax),
    HOST_ROW(A_NULL_buffer_is_fine_and_an_empty_one_is_not, "contract 6.1.1, 6.1.3, 18.15",
             &FakeMachineMax),
    HOST_ROW(The_longest_buffer_is_4_GiB_less_a_page, "contract 6.1.2, 18.15", &FakeMachineMax),
    HOST_ROW(An_IRP_gets_the_MDL_as_its_first_or_its_last, "contract 6.1.4, 18.15",
             &FakeMachineMax),
    HOST_ROW(The_size_of_an_MDL_is_its_header_and_a_frame_per_page, "contract 1.4.1, 1.4.2, 6.4.1",
             &FakeMachineMax),
    HOST_ROW(A_nonpaged_buffer_is_described_with_its_own_address, "contract 6.5.1, 6.5.2, 18.18",
             &FakeMachineMax),
    HOST_ROW(A_buffer_in_device_memory_is_marked_so, "contract 6.5.3", &FakeMachineMax),
    HOST_ROW(Ranges_that_do_not_adjoin_are_concatenated_in_order, "contract 4.4.1, 4.4.8, 18.8",
             &FakeMachineMax),
    HOST_ROW(Every_illegal_entry_is_refused_as_documented,
             "contract 4.4.2, 4.4.3, 4.4.6, 4.4.9, 18.8", &FakeMachineMax),
    HOST_ROW(No_entries_are_an_error_of_the_second_parameter, "contract 4.4.5", &FakeMachineMax),
    HOST_ROW(A_total_of_4_GiB_fails_and_a_page_less_succeeds, "contract 4.4.4, 18.8",
             &FakeMachineMax),
    HOST_ROW(An_MDL_holds_its_frames_until_it_is_freed, "contract 12.2.1, C3", &FakeMachineMax),
    HOST_ROW(Freeing_a_mapped_MDL_unmaps_it, "contract 6.2.2", &FakeMachineMax),
};

HOST_DEFINE_SUITE(mdl);
