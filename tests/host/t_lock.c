// MmProbeAndLockPages, MmProbeAndLockProcessPages, MmProbeAndLockSelectedPages, MmUnlockPages.
#include "tests/host/host.h"

#define TAG 0x6B636F4Cu
#define PAGE_COUNT 3u
#define OFFSET 0x123u
#define IMAGE_TEXT ((PVOID)0x600000200000)
#define IMAGE_RODATA ((PVOID)0x600000280000)
#define IMAGE_DATA ((PVOID)0x6000002C0000)

static PUCHAR PoolPages(ULONG PageCount)
{
    const PUCHAR Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, PAGES(PageCount), TAG);
    CHECK(Block != NULL);
    return Block;
}

static PMDL MdlOf(PVOID Va, ULONG ByteCount)
{
    const PMDL Mdl = IoAllocateMdl(Va, ByteCount, FALSE, FALSE, NULL);
    CHECK(Mdl != NULL);
    return Mdl;
}

static PVOID Map(PMDL Mdl)
{
    return MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmCached, NULL, FALSE, NormalPagePriority);
}

// The status that locking raised, or STATUS_SUCCESS.
static NTSTATUS TryLock(PMDL Mdl, KPROCESSOR_MODE Mode, LOCK_OPERATION Operation)
{
    volatile NTSTATUS Result = STATUS_SUCCESS;
    KmTry {
        MmProbeAndLockPages(Mdl, Mode, Operation);
    }
    KmCatch (Status) {
        Result = Status;
    }
    return Result;
}

// The raise must leave nothing: the header as it was, no frames, no locks.
static VOID CheckRaises(PVOID Va, ULONG ByteCount, KPROCESSOR_MODE Mode, LOCK_OPERATION Operation,
                        NTSTATUS Status)
{
    const PMDL Mdl = MdlOf(Va, ByteCount);
    const MDL Header = *Mdl;
    const ULONG64 Locks = MiLockedPageCount();
    MM_MEMORY_USE Before;
    MmQueryMemoryUse(&Before);
    CHECK_EQUAL((ULONG)TryLock(Mdl, Mode, Operation), (ULONG)Status);
    HostCheckSameUse(&Before, "after a raise");
    CHECK(memcmp(&Header, Mdl, sizeof(MDL)) == 0);
    for (PFN_NUMBER Page = 0; Page < MiMdlPageCount(Mdl); Page += 1) {
        CHECK_EQUAL(MmGetMdlPfnArray(Mdl)[Page], 0);
    }
    CHECK_EQUAL(MiLockedPageCount(), Locks);
    IoFreeMdl(Mdl);
}

static VOID CheckViolation(PVOID Va, ULONG ByteCount, LOCK_OPERATION Operation)
{
    CheckRaises(Va, ByteCount, KernelMode, Operation, STATUS_ACCESS_VIOLATION);
    HostCheckRefusal("nothing is mapped, or not for this access");
}

static VOID LockAndUnlock(PVOID Va, ULONG ByteCount, LOCK_OPERATION Operation, ULONG MoreFlags)
{
    const PMDL Mdl = MdlOf(Va, ByteCount);
    const ULONG Write = Operation == IoReadAccess ? 0 : MDL_WRITE_OPERATION;
    MmProbeAndLockPages(Mdl, KernelMode, Operation);
    CHECK_EQUAL(Mdl->MdlFlags, MDL_PAGES_LOCKED | Write | MoreFlags);
    for (PFN_NUMBER Page = 0; Page < MiMdlPageCount(Mdl); Page += 1) {
        CHECK_EQUAL(MmGetMdlPfnArray(Mdl)[Page],
                    FakeWalk((ULONG_PTR)Mdl->StartVa + PAGES(Page)).Pfn);
    }
    MmUnlockPages(Mdl);
    CHECK_EQUAL(Mdl->MdlFlags & (MDL_PAGES_LOCKED | MDL_IO_SPACE), 0);
    IoFreeMdl(Mdl);
    CHECK_EQUAL(MiLockedPageCount(), 0);
}

//
// Lock.
//

static VOID Locking_fills_in_the_frames_and_counts_each_once(VOID)
{
    const PUCHAR Block = PoolPages(PAGE_COUNT);
    const PMDL Mdl = MdlOf(Block + OFFSET, PAGES(2));
    Mdl->Process = (PVOID)1;
    MmProbeAndLockPages(Mdl, KernelMode, IoReadAccess);
    CHECK_EQUAL(Mdl->MdlFlags, MDL_PAGES_LOCKED);
    CHECK(Mdl->Process == NULL && MiIsMdlSealed(Mdl) && MiIsMdlLocked(Mdl));
    for (ULONG Page = 0; Page < PAGE_COUNT; Page += 1) {
        const PFN_NUMBER Pfn = MmGetMdlPfnArray(Mdl)[Page];
        CHECK_EQUAL(PAGES(Pfn), MmGetPhysicalAddress(Block + PAGES(Page)).QuadPart);
        CHECK_EQUAL(MiPfnElement(Pfn)->LockCount, 1);
    }
    CHECK_EQUAL(MiLockedPageCount(), PAGE_COUNT);
    CHECK(MiAreLocksConsistent(PAGE_COUNT) && !MiAreLocksConsistent(0));
    const PFN_NUMBER Pfn = MmGetMdlPfnArray(Mdl)[0];
    MmUnlockPages(Mdl);
    CHECK_EQUAL(Mdl->MdlFlags, 0);
    CHECK(!MiIsMdlSealed(Mdl) && MiPfnElement(Pfn)->LockCount == 0);
    CHECK_EQUAL(MiLockedPageCount(), 0);
    IoFreeMdl(Mdl);
    ExFreePool(Block);
}

static VOID A_write_is_marked_and_a_read_is_not(VOID)
{
    const PUCHAR Block = PoolPages(1);
    LockAndUnlock(Block, PAGE_SIZE, IoReadAccess, 0);
    LockAndUnlock(Block, PAGE_SIZE, IoWriteAccess, 0);
    LockAndUnlock(Block, PAGE_SIZE, IoModifyAccess, 0);
    ExFreePool(Block);
}

static VOID Every_kind_of_kernel_address_can_be_locked(VOID)
{
    const PMDL Pages = MmAllocatePagesForMdl(Pa(0), Pa(MAXULONG64), Pa(0), PAGES(2));
    const PUCHAR Mapped = Map(Pages);
    LockAndUnlock(Mapped, PAGES(2), IoWriteAccess, 0);
    LockAndUnlock(MiFrameToVa(MmGetMdlPfnArray(Pages)[1]), PAGE_SIZE, IoWriteAccess, 0);
    LockAndUnlock(IMAGE_TEXT, PAGES(2), IoReadAccess, 0);
    LockAndUnlock(IMAGE_DATA, PAGES(2), IoWriteAccess, 0);
    const PVOID Large = MmMapIoSpace(Pa(FAKE_IO_HIGH), 4u << 20, MmNonCached); // large leaves
    LockAndUnlock((PUCHAR)Large + PAGES(511) + 7, PAGES(3), IoWriteAccess, MDL_IO_SPACE);
    MmUnmapIoSpace(Large, 4u << 20);
    const PVOID Code = MmMapIoSpaceEx(Pa(FAKE_IO_LOW), PAGE_SIZE, PAGE_EXECUTE_READWRITE);
    LockAndUnlock(Code, PAGE_SIZE, IoWriteAccess, MDL_IO_SPACE);
    MmUnmapIoSpace(Code, PAGE_SIZE);
    MmFreePagesFromMdl(Pages);
    ExFreePool(Pages);
}

static VOID The_page_tables_say_what_may_be_done(VOID)
{
    const PMDL Pages = MmAllocatePagesForMdl(Pa(0), Pa(MAXULONG64), Pa(0), PAGES(2));
    const PVOID ReadOnly = MmMapLockedPagesSpecifyCache(Pages, KernelMode, MmCached, NULL, FALSE,
                                                        NormalPagePriority | MdlMappingNoWrite);
    LockAndUnlock(ReadOnly, PAGES(2), IoReadAccess, 0);
    CheckViolation(ReadOnly, PAGES(2), IoWriteAccess);
    CheckViolation(ReadOnly, PAGES(2), IoModifyAccess);
    CheckViolation(IMAGE_TEXT, 1, IoWriteAccess);
    LockAndUnlock(IMAGE_RODATA, PAGE_SIZE, IoReadAccess, 0);
    CheckViolation(IMAGE_RODATA, 1, IoWriteAccess);
    CheckViolation((PUCHAR)IMAGE_DATA - 1, 2, IoWriteAccess); // from read-only to writable
    const PVOID Code = MmMapIoSpaceEx(Pa(FAKE_IO_LOW), PAGE_SIZE, PAGE_EXECUTE);
    CheckViolation(Code, 1, IoReadAccess);
    CheckViolation(Code, 1, IoWriteAccess);
    MmUnmapIoSpace(Code, PAGE_SIZE);
    MmFreePagesFromMdl(Pages);
    ExFreePool(Pages);
}

static VOID What_is_not_there_raises_an_access_violation(VOID)
{
    const PUCHAR Block = PoolPages(2);
    const PUCHAR Reservation = MmAllocateMappingAddress(PAGES(2), TAG);
    CheckViolation(NULL, 1, IoReadAccess);
    CheckViolation((PVOID)0x10000, PAGES(4), IoReadAccess);
    CheckViolation((PVOID)0x7FFFFFFF0000, PAGES(16), IoReadAccess);
    CheckViolation((PVOID)0x1000000000000000, 1, IoReadAccess);
    CheckViolation((PVOID)0xFFFFFFFFFFFFF000, PAGES(1), IoReadAccess);
    CheckViolation((PVOID)0xFFFFFFFFFFFFF001, PAGES(2), IoReadAccess); // wraps
    CheckViolation(Reservation, 1, IoReadAccess);
    CheckViolation(Reservation + 1, PAGES(2), IoWriteAccess);
    CheckViolation(Block, (ULONG)(PAGES(2) + 1), IoReadAccess); // the guard behind the block
    ExFreePool(Block);
    CheckViolation(Block, 1, IoReadAccess);
    MmFreeMappingAddress(Reservation, TAG);
}

static VOID The_direct_map_gives_away_no_free_frame_and_no_page_table(VOID)
{
    PFN_NUMBER Free = MiHighestRamPfn(); // the last that anybody would get
    while (!MiIsFree(MiPfnState(Free))) {
        Free -= 1;
    }
    CheckViolation(MiFrameToVa(Free), 1, IoReadAccess);
    CheckViolation(MiFrameToVa(FakeRootPfn()), 1, IoReadAccess);
    CheckViolation((PVOID)MiPteAddress((ULONG_PTR)IMAGE_DATA), 1, IoReadAccess);
}

static VOID A_frame_with_all_the_locks_that_can_be_counted_gets_no_more(VOID)
{
    const PUCHAR Block = PoolPages(1);
    const PMMPFN Element = MiPfnElement(FakeWalk((ULONG_PTR)Block).Pfn);
    Element->LockCount = MAXULONG;
    CheckViolation(Block, 1, IoReadAccess);
    Element->LockCount = 0;
    ExFreePool(Block);
}

static VOID User_mode_has_no_addresses(VOID)
{
    const PUCHAR Block = PoolPages(1);
    CheckRaises(Block, 1, UserMode, IoReadAccess, STATUS_ACCESS_VIOLATION);
    HostCheckRefusal("there is no user mode");
    CheckRaises((PVOID)0x10000, 1, UserMode, IoReadAccess, STATUS_ACCESS_VIOLATION);
    CheckRaises((PVOID)0xFFFFFFFFFFFFF001, PAGES(2), UserMode, IoReadAccess,
                STATUS_ACCESS_VIOLATION);
    ExFreePool(Block);
}

static VOID An_MDL_that_describes_something_is_not_locked_again(VOID)
{
    static const CSHORT Flags[] = {MDL_PAGES_LOCKED, MDL_MAPPED_TO_SYSTEM_VA,
                                   MDL_SOURCE_IS_NONPAGED_POOL, MDL_PARTIAL, MDL_IO_SPACE};
    const PUCHAR Block = PoolPages(1);
    const PMDL Mdl = MdlOf(Block, PAGE_SIZE);
    for (ULONG Row = 0; Row < ARRAYSIZE(Flags); Row += 1) {
        Mdl->MdlFlags = Flags[Row];
        CHECK_EQUAL(TryLock(Mdl, KernelMode, IoReadAccess), STATUS_INVALID_PARAMETER);
        HostCheckRefusal("the MDL describes pages already");
        CHECK_EQUAL(Mdl->MdlFlags, Flags[Row]);
    }
    MmInitializeMdl(Mdl, Block, 0);
    CHECK_EQUAL(TryLock(Mdl, KernelMode, IoReadAccess), STATUS_INVALID_PARAMETER);
    HostCheckRefusal("zero bytes");
    CHECK_EQUAL(MiLockedPageCount(), 0);
    IoFreeMdl(Mdl);
    ExFreePool(Block);
}

static VOID Locks_nest_and_the_last_one_lets_the_frame_go(VOID)
{
    const PUCHAR Block = PoolPages(1);
    const PMDL First = MdlOf(Block, PAGE_SIZE);
    const PMDL Second = MdlOf(Block + 1, 7);
    MmProbeAndLockPages(First, KernelMode, IoReadAccess);
    MmProbeAndLockPages(Second, KernelMode, IoWriteAccess);
    const PFN_NUMBER Pfn = MmGetMdlPfnArray(First)[0];
    CHECK_EQUAL(MiPfnElement(Pfn)->LockCount, 2);
    MmUnlockPages(First);
    CHECK_EQUAL(MiPfnElement(Pfn)->LockCount, 1);
    EXPECT_BUG_CHECK(ExFreePool(Block));
    CHECK_BUG_CHECK(PFN_LIST_CORRUPT, 0x9A, Pfn, MiPfnPool, 1);
    MmUnlockPages(Second);
    CHECK_EQUAL(MiPfnElement(Pfn)->LockCount, 0);
    ExFreePool(Block);
    IoFreeMdl(First);
    IoFreeMdl(Second);
}

static VOID Pages_of_an_MDL_that_another_one_locks_are_not_freed(VOID)
{
    const PMDL Pages = MmAllocatePagesForMdl(Pa(0), Pa(MAXULONG64), Pa(0), PAGE_SIZE);
    const PFN_NUMBER Pfn = MmGetMdlPfnArray(Pages)[0];
    const PMDL Mdl = MdlOf(MiFrameToVa(Pfn), PAGE_SIZE);
    MmProbeAndLockPages(Mdl, KernelMode, IoWriteAccess);
    EXPECT_BUG_CHECK(MmFreePagesFromMdl(Pages));
    CHECK_BUG_CHECK(PFN_LIST_CORRUPT, 0x9A, Pfn, MiPfnMdl, 1);
    MmUnlockPages(Mdl);
    IoFreeMdl(Mdl);
    MmFreePagesFromMdl(Pages);
    ExFreePool(Pages);
}

static VOID Device_memory_keeps_its_cache_type_while_it_is_locked(VOID)
{
    const PVOID Va = MmMapIoSpace(Pa(FAKE_IO_LOW), PAGES(2), MmWriteCombined);
    const PMDL Mdl = MdlOf(Va, PAGES(2));
    MmProbeAndLockPages(Mdl, KernelMode, IoWriteAccess);
    CHECK_EQUAL(Mdl->MdlFlags, MDL_PAGES_LOCKED | MDL_WRITE_OPERATION | MDL_IO_SPACE);
    MmUnmapIoSpace(Va, PAGES(2));
    CHECK(MmMapIoSpace(Pa(FAKE_IO_LOW), PAGE_SIZE, MmNonCached) == NULL);
    const PVOID Again = Map(Mdl);
    CHECK_PAGE(Again, PfnOf(FAKE_IO_LOW), MiAccessReadWrite, MiCacheWriteCombined);
    MmUnlockPages(Mdl);
    CHECK_UNMAPPED(Again);
    const PVOID Other = MmMapIoSpace(Pa(FAKE_IO_LOW), PAGE_SIZE, MmNonCached);
    CHECK(Other != NULL);
    MmUnmapIoSpace(Other, PAGE_SIZE);
    IoFreeMdl(Mdl);
}

static VOID Locking_device_memory_leaves_nothing_when_an_allocation_fails(VOID)
{
    const PVOID Va = MmMapIoSpace(Pa(FAKE_IO_LOW), PAGES(4), MmNonCached);
    const PMDL Mdl = MdlOf(Va, PAGES(4));
    ULONG Failures = 0;
    for (;;) {
        MM_MEMORY_USE Before;
        MmQueryMemoryUse(&Before);
        MmStartFailures(MM_FAIL_ALL, Failures, 1);
        const NTSTATUS Status = TryLock(Mdl, KernelMode, IoReadAccess);
        (VOID) MmStopFailures();
        if (NT_SUCCESS(Status)) {
            break;
        }
        CHECK_EQUAL(Status, STATUS_INSUFFICIENT_RESOURCES);
        HostCheckSameUse(&Before, "after a raise");
        HostCheckRefusal("no pool, frames or system addresses left");
        CHECK(Mdl->MdlFlags == 0 && Mdl->Reserved == 0 && MmGetMdlPfnArray(Mdl)[3] == 0);
        HostAudit();
        Failures += 1;
    }
    CHECK(Failures > 0);
    MmUnlockPages(Mdl);
    IoFreeMdl(Mdl);
    MmUnmapIoSpace(Va, PAGES(4));
}

static VOID Selected_pages_are_gathered_in_their_order(VOID)
{
    const PUCHAR Block = PoolPages(3);
    FILE_SEGMENT_ELEMENT Elements[4] = {
        {Block + PAGES(2)}, {IMAGE_DATA}, {Block}, {Block + PAGES(2)}};
    const PMDL Mdl = MdlOf(NULL, PAGES(4));
    MmProbeAndLockSelectedPages(Mdl, Elements, KernelMode, IoWriteAccess);
    CHECK_EQUAL(Mdl->MdlFlags, MDL_PAGES_LOCKED | MDL_WRITE_OPERATION);
    for (ULONG Page = 0; Page < 4; Page += 1) {
        CHECK_EQUAL(MmGetMdlPfnArray(Mdl)[Page], FakeWalk((ULONG_PTR)Elements[Page].Buffer).Pfn);
    }
    CHECK_EQUAL(MiPfnElement(MmGetMdlPfnArray(Mdl)[0])->LockCount, 2); // listed twice
    const PUCHAR Va = Map(Mdl);
    CHECK_PAGE(Va + PAGES(1), MmGetMdlPfnArray(Mdl)[1], MiAccessReadWrite, MiCacheWriteBack);
    MmUnlockPages(Mdl);
    CHECK_EQUAL(MiLockedPageCount(), 0);
    IoFreeMdl(Mdl);
    ExFreePool(Block);
}

static VOID Selected_pages_that_are_not_there_lock_nothing(VOID)
{
    static const struct {
        ULONG_PTR Va;
        NTSTATUS Status;
    } Rows[] = {{0, STATUS_ACCESS_VIOLATION},
                {0x10000, STATUS_ACCESS_VIOLATION},
                {0x6000002C0008, STATUS_DATATYPE_MISALIGNMENT}};
    const PUCHAR Block = PoolPages(1);
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        FILE_SEGMENT_ELEMENT Elements[2] = {{Block}, {(PVOID)Rows[Row].Va}};
        const PMDL Mdl = MdlOf(NULL, PAGES(2));
        volatile NTSTATUS Result = STATUS_SUCCESS;
        KmTry {
            MmProbeAndLockSelectedPages(Mdl, Elements, KernelMode, IoReadAccess);
        }
        KmCatch (Status) {
            Result = Status;
        }
        CHECK_EQUAL(Result, Rows[Row].Status);
        CHECK(MiLockedPageCount() == 0 && MmGetMdlPfnArray(Mdl)[0] == 0 && Mdl->MdlFlags == 0);
        IoFreeMdl(Mdl);
    }
    ExFreePool(Block);
}

static VOID The_process_does_not_matter(VOID)
{
    const PUCHAR Block = PoolPages(1);
    const PMDL Mdl = MdlOf(Block, PAGE_SIZE);
    MmProbeAndLockProcessPages(Mdl, NULL, KernelMode, IoWriteAccess);
    CHECK_EQUAL(Mdl->MdlFlags, MDL_PAGES_LOCKED | MDL_WRITE_OPERATION);
    MmUnlockPages(Mdl);
    MmProbeAndLockProcessPages(Mdl, (PEPROCESS)Block, KernelMode, IoReadAccess);
    CHECK(Mdl->Process == NULL);
    MmUnlockPages(Mdl);
    IoFreeMdl(Mdl);
    ExFreePool(Block);
}

static VOID An_unhandled_raise_names_the_routine(VOID)
{
    const PMDL Mdl = MdlOf(NULL, 1);
    EXPECT_BUG_CHECK(MmProbeAndLockPages(Mdl, KernelMode, IoReadAccess));
    CHECK_EQUAL(FakeBugCheck.Code, KMODE_EXCEPTION_NOT_HANDLED);
    CHECK_EQUAL(FakeBugCheck.Parameters[0], 0xFFFFFFFFC0000005);
    CHECK(strstr(FakeBugCheck.Sentence, "MmProbeAndLockPages, called by HostCaller") != NULL);
    IoFreeMdl(Mdl);
}

static VOID Locking_works_at_DISPATCH_LEVEL(VOID)
{
    const PUCHAR Block = PoolPages(1);
    FakeIrql = DISPATCH_LEVEL;
    LockAndUnlock(Block, PAGE_SIZE, IoWriteAccess, 0);
    CheckViolation(NULL, 1, IoReadAccess);
    FakeIrql = PASSIVE_LEVEL;
    ExFreePool(Block);
}

//
// Unlock.
//

static VOID Unlocking_unmaps_first(VOID)
{
    const PUCHAR Block = PoolPages(PAGE_COUNT);
    const PMDL Mdl = MdlOf(Block + OFFSET, PAGES(2));
    MM_MEMORY_USE Before;
    MmQueryMemoryUse(&Before);
    MmProbeAndLockPages(Mdl, KernelMode, IoWriteAccess);
    const PUCHAR Va = Map(Mdl);
    CHECK_EQUAL(BYTE_OFFSET(Va), OFFSET);
    CHECK_PAGE(Va, MmGetMdlPfnArray(Mdl)[0], MiAccessReadWrite, MiCacheWriteBack);
    MmUnlockPages(Mdl);
    CHECK_UNMAPPED(Va);
    CHECK_EQUAL(Mdl->MdlFlags & (MDL_MAPPED_TO_SYSTEM_VA | MDL_PAGES_LOCKED), 0);
    IoFreeMdl(Mdl);
    const PMDL Other = MdlOf(Block, PAGE_SIZE);
    const PVOID Reservation = MmAllocateMappingAddress(PAGE_SIZE, TAG);
    MmProbeAndLockPages(Other, KernelMode, IoWriteAccess);
    CHECK(MmMapLockedPagesWithReservedMapping(Reservation, TAG, Other, MmCached) != NULL);
    MmUnlockPages(Other);
    CHECK_UNMAPPED(Reservation);
    MmFreeMappingAddress(Reservation, TAG);
    IoFreeMdl(Other);
    MM_MEMORY_USE Now;
    MmQueryMemoryUse(&Now);
    CHECK_EQUAL(Now.Mappings, Before.Mappings);
    ExFreePool(Block);
}

static VOID An_MDL_can_be_locked_again_after_the_unlock(VOID)
{
    const PUCHAR Block = PoolPages(1);
    const PMDL Mdl = MdlOf(Block, PAGE_SIZE);
    for (ULONG Round = 0; Round < 3; Round += 1) {
        MmProbeAndLockPages(Mdl, KernelMode, IoReadAccess);
        MmUnlockPages(Mdl);
    }
    IoFreeMdl(Mdl);
    ExFreePool(Block);
}

static VOID CheckNotUnlockable(PMDL Mdl)
{
    EXPECT_BUG_CHECK(MmUnlockPages(Mdl));
    CHECK_BUG_CHECK(PROCESS_HAS_LOCKED_PAGES, 1, (ULONG_PTR)Mdl, MiLockedPageCount(), 0);
}

static VOID Unlocking_what_was_not_locked_is_0x76_1(VOID)
{
    const PUCHAR Block = PoolPages(1);
    const PMDL Mdl = MdlOf(Block, PAGE_SIZE);
    const PMDL Copy = MdlOf(Block, PAGE_SIZE);
    const PMDL Pages = MmAllocatePagesForMdl(Pa(0), Pa(MAXULONG64), Pa(0), PAGE_SIZE);
    MM_PHYSICAL_ADDRESS_LIST List = {Pa(FAKE_IO_LOW), PAGE_SIZE};
    PMDL Io;
    CHECK_EQUAL(MmAllocateMdlForIoSpace(&List, 1, &Io), STATUS_SUCCESS);
    CheckNotUnlockable(Mdl);
    CheckNotUnlockable(Pages);
    CheckNotUnlockable(Io);
    MmProbeAndLockPages(Mdl, KernelMode, IoReadAccess);
    memcpy(Copy, Mdl, sizeof(MDL) + sizeof(PFN_NUMBER));
    CheckNotUnlockable(Copy);
    IoBuildPartialMdl(Mdl, Copy, Block, 0);
    CheckNotUnlockable(Copy);
    Mdl->MdlFlags &= ~MDL_PAGES_LOCKED; // nobody but MmUnlockPages may
    CheckNotUnlockable(Mdl);
    Mdl->MdlFlags |= MDL_PAGES_LOCKED;
    MmUnlockPages(Mdl);
    CheckNotUnlockable(Mdl);
    MmBuildMdlForNonPagedPool(Mdl);
    CheckNotUnlockable(Mdl);
    IoFreeMdl(Mdl);
    IoFreeMdl(Copy);
    IoFreeMdl(Io);
    MmFreePagesFromMdl(Pages);
    ExFreePool(Pages);
    ExFreePool(Block);
}

static VOID A_frame_that_nobody_locked_is_0x4E_0x07(VOID)
{
    const PUCHAR Block = PoolPages(2);
    const PMDL Mdl = MdlOf(Block, PAGE_SIZE);
    MmProbeAndLockPages(Mdl, KernelMode, IoReadAccess);
    const PFN_NUMBER Pfn = MmGetMdlPfnArray(Mdl)[0];
    const PFN_NUMBER Other = FakeWalk((ULONG_PTR)Block + PAGE_SIZE).Pfn;
    MmGetMdlPfnArray(Mdl)[0] = Other;
    EXPECT_BUG_CHECK(MmUnlockPages(Mdl));
    CHECK_BUG_CHECK(PFN_LIST_CORRUPT, 0x07, Other, 0, 0);
    MmGetMdlPfnArray(Mdl)[0] = Pfn;
    MmUnlockPages(Mdl);
    IoFreeMdl(Mdl);
    ExFreePool(Block);
}

//
// What a lock means to others.
//

static VOID The_kernel_s_own_frames_may_be_mapped_while_they_are_locked(VOID)
{
    const PMDL Locked = MdlOf(IMAGE_DATA, PAGE_SIZE);
    const PMDL Handmade = MdlOf(IMAGE_DATA, PAGE_SIZE);
    MmProbeAndLockPages(Locked, KernelMode, IoWriteAccess);
    const PFN_NUMBER Pfn = MmGetMdlPfnArray(Locked)[0];
    CHECK_EQUAL(MiPfnState(Pfn), MiPfnKernel);
    CHECK_PAGE(Map(Locked), Pfn, MiAccessReadWrite, MiCacheWriteBack);
    MmUnlockPages(Locked);
    MmGetMdlPfnArray(Handmade)[0] = Pfn;
    Handmade->MdlFlags |= MDL_PAGES_LOCKED;
    EXPECT_BUG_CHECK(Ignore(Map(Handmade)));
    CHECK_BUG_CHECK(MEMORY_MANAGEMENT, 0x1236, (ULONG_PTR)Handmade,
                    (ULONG_PTR)MmGetMdlPfnArray(Handmade), Pfn);
    IoFreeMdl(Locked);
    IoFreeMdl(Handmade);
}

static VOID Freeing_a_locked_MDL_leaves_its_pages_locked_and_says_so(VOID)
{
    const PUCHAR Block = PoolPages(1);
    const PMDL Mdl = MdlOf(Block, PAGE_SIZE);
    MmProbeAndLockPages(Mdl, KernelMode, IoReadAccess);
    HostForgetPrinted();
    IoFreeMdl(Mdl);
    CHECK(strstr(HostPrinted(), "still locks 1 pages") != NULL);
    CHECK_EQUAL(MiLockedPageCount(), 1);
    EXPECT_BUG_CHECK(ExFreePool(Block));
    CHECK_EQUAL(FakeBugCheck.Code, PFN_LIST_CORRUPT);
}

static VOID A_chain_of_MDLs_is_unlocked_and_freed(VOID)
{
    const PUCHAR Block = PoolPages(2);
    MM_MEMORY_USE Before;
    MmQueryMemoryUse(&Before);
    IRP Irp = {0};
    const PMDL Locked = IoAllocateMdl(Block, PAGES(2), FALSE, FALSE, &Irp);
    const PMDL Partial = IoAllocateMdl(Block, PAGE_SIZE, TRUE, FALSE, &Irp);
    const PMDL Built = IoAllocateMdl(Block, PAGE_SIZE, TRUE, FALSE, &Irp);
    const PMDL Unused = IoAllocateMdl(Block, PAGE_SIZE, TRUE, FALSE, &Irp);
    MmProbeAndLockPages(Locked, KernelMode, IoReadAccess);
    IoBuildPartialMdl(Locked, Partial, Block, PAGE_SIZE);
    CHECK(Map(Partial) != NULL);
    MmBuildMdlForNonPagedPool(Built);
    CHECK(Unused->Next == NULL);
    // The source is unlocked before its part is freed: the part's mapping must not matter.
    MmReleaseMdlChain(Irp.MdlAddress);
    CHECK_EQUAL(MiLockedPageCount(), 0);
    HostCheckSameUse(&Before, "after the chain");
    MmReleaseMdlChain(NULL);
    ExFreePool(Block);
}

static const HOST_TEST Tests[] = {
    HOST_ROW(Locking_fills_in_the_frames_and_counts_each_once, "contract 6.6.1, 6.7.1, L1",
             &FakeMachineMax),
    HOST_ROW(A_write_is_marked_and_a_read_is_not, "contract 6.6.2", &FakeMachineMax),
    HOST_ROW(Every_kind_of_kernel_address_can_be_locked, "contract 6.6.1, 6.6.7", &FakeMachineMax),
    HOST_ROW(The_page_tables_say_what_may_be_done, "contract 6.6.3, 6.6.4", &FakeMachineMax),
    HOST_ROW(What_is_not_there_raises_an_access_violation, "contract 6.6.3, 6.6.4, 6.6.5, 18.17",
             &FakeMachineMax),
    HOST_ROW(The_direct_map_gives_away_no_free_frame_and_no_page_table, "contract 6.6.3",
             &FakeMachineMax),
    HOST_ROW(A_frame_with_all_the_locks_that_can_be_counted_gets_no_more, "contract 6.6.4",
             &FakeMachineMax),
    HOST_ROW(User_mode_has_no_addresses, "contract 6.6.5, 18.17", &FakeMachineMax),
    HOST_ROW(An_MDL_that_describes_something_is_not_locked_again, "contract 6.6.4, 6.6.11",
             &FakeMachineMax),
    HOST_ROW(Locks_nest_and_the_last_one_lets_the_frame_go, "contract 6.6.6, 6.7.4, 0x4E/0x9A",
             &FakeMachineMax),
    HOST_ROW(Pages_of_an_MDL_that_another_one_locks_are_not_freed, "contract 6.7.4, 0x4E/0x9A",
             &FakeMachineMax),
    HOST_ROW(Device_memory_keeps_its_cache_type_while_it_is_locked, "contract 6.6.7, C3",
             &FakeMachineMax),
    HOST_ROW(Locking_device_memory_leaves_nothing_when_an_allocation_fails, "contract 6.6.4",
             &FakeMachineMax),
    HOST_ROW(Selected_pages_are_gathered_in_their_order, "contract 6.6.8", &FakeMachineMax),
    HOST_ROW(Selected_pages_that_are_not_there_lock_nothing, "contract 6.6.4, 6.6.8",
             &FakeMachineMax),
    HOST_ROW(The_process_does_not_matter, "contract 6.6.9", &FakeMachineMax),
    HOST_ROW(An_unhandled_raise_names_the_routine, "contract 1.1.2, 0x1E", &FakeMachineMax),
    HOST_ROW(Locking_works_at_DISPATCH_LEVEL, "contract 6.6.10, 6.7.6, 18.28", &FakeMachineMax),
    HOST_ROW(Unlocking_unmaps_first, "contract 6.7.2, 18.17", &FakeMachineMax),
    HOST_ROW(An_MDL_can_be_locked_again_after_the_unlock, "contract 6.7.1", &FakeMachineMax),
    HOST_ROW(Unlocking_what_was_not_locked_is_0x76_1, "contract 6.7.3, 18.17, 0x76/0x01",
             &FakeMachineMax),
    HOST_ROW(A_frame_that_nobody_locked_is_0x4E_0x07, "contract 6.7.3, 18.17, 0x4E/0x07",
             &FakeMachineMax),
    HOST_ROW(The_kernel_s_own_frames_may_be_mapped_while_they_are_locked, "contract 6.8.9",
             &FakeMachineMax),
    HOST_ROW(Freeing_a_locked_MDL_leaves_its_pages_locked_and_says_so, "contract 6.7.4",
             &FakeMachineMax),
    HOST_ROW(A_chain_of_MDLs_is_unlocked_and_freed, "contract 6.17.1", &FakeMachineMax),
};

HOST_DEFINE_SUITE(lock);
