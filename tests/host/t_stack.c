// Stacks of threads, and the page of shared data: mm/stack.c, mm/shared.c.
#include "tests/host/host.h"

static PFN_NUMBER PfnAt(ULONG_PTR Va)
{
    PFN_NUMBER Pfn = MI_NO_PFN;
    CHECK(MiTranslate(Va, &Pfn));
    return Pfn;
}

static VOID A_stack_is_writable_never_executable_and_guarded(VOID)
{
    MM_MEMORY_USE Before;
    MM_MEMORY_USE With;
    MmQueryMemoryUse(&Before);
    const PVOID First = MmCreateKernelStack(NULL);
    const PVOID Second = MmCreateKernelStack(NULL);
    CHECK(First != NULL && Second != NULL && First != Second);
    MmQueryMemoryUse(&With);
    CHECK_EQUAL(With.DriverBlocks, Before.DriverBlocks + 2);
    CHECK_EQUAL(With.DriverPages, Before.DriverPages + 2 * BYTES_TO_PAGES(MM_KERNEL_STACK_BYTES));
    for (ULONG Stack = 0; Stack < 2; Stack += 1) {
        const ULONG_PTR End = (ULONG_PTR)(Stack == 0 ? First : Second);
        const ULONG_PTR Limit = End - MM_KERNEL_STACK_BYTES;
        CHECK_UNMAPPED(Limit - 1);
        CHECK_UNMAPPED(End);
        for (ULONG_PTR Va = Limit; Va < End; Va += PAGE_SIZE) {
            CHECK_PAGE(Va, PfnAt(Va), MiAccessReadWrite, MiCacheWriteBack);
            CHECK_EQUAL(MiPfnState(PfnAt(Va)), MiPfnDriver);
        }
        memset((PVOID)Limit, 0xA5, MM_KERNEL_STACK_BYTES);
    }
    HostAudit();
    MmDeleteKernelStack(First);
    HostAudit();
    MmDeleteKernelStack(Second);
    HostCheckSameUse(&Before, "two stacks");
    HostAudit();
}

static VOID What_is_no_stack_cannot_be_deleted(VOID)
{
    const PUCHAR Stack = MmCreateKernelStack(NULL);
    const PUCHAR Other = MmAllocateNonCachedMemory(MM_KERNEL_STACK_BYTES);
    CHECK(Stack != NULL && Other != NULL);
    EXPECT_BUG_CHECK(MmDeleteKernelStack(Stack - PAGE_SIZE));
    CHECK_BUG_CHECK(MEMORY_MANAGEMENT, 0, (ULONG_PTR)Stack - PAGE_SIZE, 0, 0);
    EXPECT_BUG_CHECK(MmDeleteKernelStack(Other + MM_KERNEL_STACK_BYTES));
    CHECK_BUG_CHECK(MEMORY_MANAGEMENT, 0, (ULONG_PTR)Other + MM_KERNEL_STACK_BYTES, 0, 0);
    MmDeleteKernelStack(Stack);
    EXPECT_BUG_CHECK(MmDeleteKernelStack(Stack));
    MmFreeNonCachedMemory(Other, MM_KERNEL_STACK_BYTES);
}

static VOID A_stack_that_is_left_is_a_leak_of_who_wanted_it(VOID)
{
    MM_LEAKS Leaks;
    const PVOID Stack =
        MmCreateKernelStack((PVOID)(ULONG_PTR)&A_stack_is_writable_never_executable_and_guarded);
    FakeCallerIsDriver = TRUE;
    HostForgetPrinted();
    MmReportLeaks("driver host", &Leaks);
    FakeCallerIsDriver = FALSE;
    CHECK_EQUAL(Leaks.Count, 1);
    CHECK_EQUAL(Leaks.ByteCount, MM_KERNEL_STACK_BYTES);
    CHECK(strstr(HostPrinted(), "leak: the stack of a thread") != NULL);
    MmDeleteKernelStack(Stack);
}

static VOID A_stack_can_be_locked_for_IO(VOID)
{
    const PUCHAR Stack = MmCreateKernelStack(NULL);
    const PMDL Mdl = IoAllocateMdl(Stack - 3 * PAGE_SIZE, 2 * PAGE_SIZE, FALSE, FALSE, NULL);
    CHECK(Stack != NULL && Mdl != NULL);
    MmProbeAndLockPages(Mdl, KernelMode, IoWriteAccess);
    CHECK_EQUAL(MmGetMdlPfnArray(Mdl)[0], PfnAt((ULONG_PTR)Stack - 3 * PAGE_SIZE));
    HostAudit();
    MmUnlockPages(Mdl);
    IoFreeMdl(Mdl);
    MmDeleteKernelStack(Stack);
}

//
// Shared data.
//

static const VOID *KernelData(VOID)
{
    return (const VOID *)(MiArchLayout[MiRegionKernelImage].BaseVa + FAKE_KERNEL_PA + 0xC0000);
}

static VOID Shared_data_is_a_page_of_the_kernel_to_be_read(VOID)
{
    const ULONG_PTR Va = MiArchLayout[MiRegionSharedData].BaseVa;
    MmMapSharedData(KernelData());
    CHECK_PAGE(Va, PfnAt((ULONG_PTR)KernelData()), MiAccessRead, MiCacheWriteBack);
    HostAudit();
}

static VOID Shared_data_without_memory_for_its_tables_stops_the_machine(VOID)
{
    MmStartFailures(MM_FAIL_FRAMES, 0, MAXULONG);
    EXPECT_BUG_CHECK(MmMapSharedData(KernelData()));
    CHECK_BUG_CHECK(INSTALL_MORE_MEMORY, 1, 0, 0, 0);
    MmStopFailures();
}

static const HOST_TEST Tests[] = {
    HOST_ROW(A_stack_is_writable_never_executable_and_guarded, "K2", &FakeMachineMax),
    HOST_ROW(What_is_no_stack_cannot_be_deleted, "0x1A", &FakeMachineMax),
    HOST_ROW(A_stack_that_is_left_is_a_leak_of_who_wanted_it, "mm.h", &FakeMachineMax),
    HOST_ROW(A_stack_can_be_locked_for_IO, "L1", &FakeMachineMax),
    HOST_ROW(Shared_data_is_a_page_of_the_kernel_to_be_read, "T4", &FakeMachineMax),
    HOST_ROW(Shared_data_without_memory_for_its_tables_stops_the_machine, "0x7D", &FakeMachineMax),
};

HOST_DEFINE_SUITE(stack);
