// Locked pages: MmProbeAndLockPages and its variants, MmUnlockPages, and IRPs that take MDLs with
// them.
#include "tests/kernel/reference.h"
#include "tests/kernel/tests.h"

#define OFFSET 0x123
#define STAMP 0x5AA55AA5u

static PUCHAR AllocatePool(ULONG PageCount)
{
    return ExAllocatePool2(POOL_FLAG_NON_PAGED, (SIZE_T)PageCount * PAGE_SIZE, KT_TAG);
}

static PMDL MdlOf(PVOID Va, ULONG ByteCount)
{
    return IoAllocateMdl(Va, ByteCount, FALSE, FALSE, NULL);
}

// The status that locking raised, or STATUS_SUCCESS.
static NTSTATUS Lock(PMDL Mdl, KPROCESSOR_MODE Mode, LOCK_OPERATION Operation)
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

// A raise leaves the MDL as it was. That no lock is left shows when the test frees its memory.
static VOID CheckViolation(PVOID Va, ULONG ByteCount, KPROCESSOR_MODE Mode,
                           LOCK_OPERATION Operation)
{
    PMDL Mdl = MdlOf(Va, ByteCount);
    KT_REQUIRE(Mdl != NULL);
    const MDL Before = *Mdl;
    KT_EQUAL((ULONG)Lock(Mdl, Mode, Operation), (ULONG)STATUS_ACCESS_VIOLATION);
    KT_CHECK(RtlEqualMemory(&Before, Mdl, sizeof(MDL)));
    KT_EQUAL(MmGetMdlPfnArray(Mdl)[0], 0);
    IoFreeMdl(Mdl);
}

static VOID LockAndUnlock(PVOID Va, ULONG ByteCount, LOCK_OPERATION Operation, ULONG ExpectedFlags)
{
    PMDL Mdl = MdlOf(Va, ByteCount);
    KT_REQUIRE(Mdl != NULL);
    KT_EQUAL(Lock(Mdl, KernelMode, Operation), STATUS_SUCCESS);
    KT_EQUAL(Mdl->MdlFlags, ExpectedFlags);
    for (ULONG Page = 0; Page < ADDRESS_AND_SIZE_TO_SPAN_PAGES(Va, ByteCount); Page += 1) {
        KT_EQUAL(KtPageAddress(Mdl, Page), KtPhysicalOf(KtAdd(PAGE_ALIGN(Va), Page * PAGE_SIZE)));
    }
    MmUnlockPages(Mdl);
    KT_EQUAL(Mdl->MdlFlags & (MDL_PAGES_LOCKED | MDL_IO_SPACE), 0);
    IoFreeMdl(Mdl);
}

static UCHAR KernelData[2 * PAGE_SIZE];

static VOID EveryKernelAddressCanBeLocked(VOID)
{
    UCHAR OnStack[64];
    const ULONG Write = MDL_PAGES_LOCKED | MDL_WRITE_OPERATION;
    PUCHAR Block = AllocatePool(3);
    PMDL Pages = KtAllocatePages(2);
    KT_REQUIRE(Block != NULL && Pages != NULL);
    LockAndUnlock(Block + OFFSET, 2 * PAGE_SIZE, IoReadAccess, MDL_PAGES_LOCKED);
    LockAndUnlock(Block + OFFSET, 2 * PAGE_SIZE, IoWriteAccess, Write);
    LockAndUnlock(Block + OFFSET, 2 * PAGE_SIZE, IoModifyAccess, Write);
    LockAndUnlock(KernelData, sizeof(KernelData), IoWriteAccess, Write);
    LockAndUnlock(OnStack, sizeof(OnStack), IoWriteAccess, Write);
    LockAndUnlock((PVOID)(ULONG_PTR)LockAndUnlock, 16, IoReadAccess, MDL_PAGES_LOCKED);
    LockAndUnlock(KtDirectMap(KtPageAddress(Pages, 1)), PAGE_SIZE, IoWriteAccess, Write);
    PVOID Va = MmGetSystemAddressForMdlSafe(Pages, NormalPagePriority);
    KT_REQUIRE(Va != NULL);
    LockAndUnlock(Va, 2 * PAGE_SIZE, IoWriteAccess, Write);
    KtFreePages(Pages);
    ExFreePool(Block);
}

static VOID DeviceMemoryCanBeLocked(VOID)
{
    KT_RETAIL_ONLY();
    const ULONG64 Gap = KtFindGap(4 * KT_MIB, 2 * KT_MIB);
    PVOID Va = MmMapIoSpace(KtPhysical(Gap), 4 * KT_MIB, MmWriteCombined);
    KT_REQUIRE(Va != NULL);
    LockAndUnlock(KtAdd(Va, 511 * PAGE_SIZE), 3 * PAGE_SIZE, IoWriteAccess,
                  MDL_PAGES_LOCKED | MDL_WRITE_OPERATION | MDL_IO_SPACE);
    PMDL Mdl = MdlOf(Va, PAGE_SIZE);
    KT_EQUAL(Lock(Mdl, KernelMode, IoReadAccess), STATUS_SUCCESS);
    MmUnmapIoSpace(Va, 4 * KT_MIB);
    // The locked page keeps its cache type.
    KT_EQUAL(MmMapIoSpace(KtPhysical(Gap), PAGE_SIZE, MmNonCached), NULL);
    MmUnlockPages(Mdl);
    Va = MmMapIoSpace(KtPhysical(Gap), PAGE_SIZE, MmNonCached);
    KT_CHECK(Va != NULL);
    MmUnmapIoSpace(Va, PAGE_SIZE);
    IoFreeMdl(Mdl);
}

static VOID WhatMayNotBeAccessedRaises(VOID)
{
    PMDL Pages = KtAllocatePages(2);
    KT_REQUIRE(Pages != NULL);
    PVOID ReadOnly = MmMapLockedPagesSpecifyCache(Pages, KernelMode, MmCached, NULL, FALSE,
                                                  NormalPagePriority | MdlMappingNoWrite);
    KT_REQUIRE(ReadOnly != NULL);
    LockAndUnlock(ReadOnly, 2 * PAGE_SIZE, IoReadAccess, MDL_PAGES_LOCKED);
    CheckViolation(ReadOnly, 2 * PAGE_SIZE, KernelMode, IoWriteAccess);
    CheckViolation((PVOID)(ULONG_PTR)LockAndUnlock, 16, KernelMode, IoModifyAccess);
    PVOID Code =
        MmMapIoSpaceEx(KtPhysical(KtFindGap(PAGE_SIZE, PAGE_SIZE)), PAGE_SIZE, PAGE_EXECUTE);
    KT_REQUIRE(Code != NULL);
    CheckViolation(Code, 1, KernelMode, IoReadAccess);
    MmUnmapIoSpace(Code, PAGE_SIZE);
    KtFreePages(Pages);
}

static VOID WhatIsNotThereRaises(VOID)
{
    static const ULONG64 Nowhere[] = {0,
                                      0x10000,
                                      0x7FFFFFFEF000,
                                      0x7FFFFFFFF000,
                                      0x800000000000,
                                      0xFFFF7FFFFFFFF000,
                                      0xFFFFFFFFFFFFF000};
    PUCHAR Reservation = MmAllocateMappingAddress(2 * PAGE_SIZE, KT_TAG);
    PUCHAR Block = AllocatePool(2);
    KT_REQUIRE(Reservation != NULL && Block != NULL);
    for (ULONG Row = 0; Row < ARRAYSIZE(Nowhere); Row += 1) {
        KtSetContext("0x%llx", Nowhere[Row]);
        CheckViolation((PVOID)Nowhere[Row], 4 * PAGE_SIZE, KernelMode, IoReadAccess);
        CheckViolation((PVOID)Nowhere[Row], 4 * PAGE_SIZE, UserMode, IoReadAccess);
    }
    KtSetContext("");
    CheckViolation(Reservation + PAGE_SIZE, 1, KernelMode, IoReadAccess);
    CheckViolation(Block, 2 * PAGE_SIZE + 1, KernelMode, IoReadAccess); // the guard behind it
    CheckViolation(Block, PAGE_SIZE, UserMode, IoReadAccess);
    CheckViolation((PVOID)(ULONG_PTR)RefEntry(Block, 1), 8, KernelMode, IoReadAccess);
    CheckViolation(KtDirectMap(RefReadCr3() & REF_FRAME), 8, KernelMode, IoReadAccess);
    ExFreePool(Block);
    MmFreeMappingAddress(Reservation, KT_TAG);
}

static VOID AnMdlInUseRaises(VOID)
{
    KT_RETAIL_ONLY();
    PUCHAR Block = AllocatePool(1);
    PMDL Mdl = MdlOf(Block, PAGE_SIZE);
    KT_REQUIRE(Block != NULL && Mdl != NULL);
    KT_EQUAL(Lock(Mdl, KernelMode, IoReadAccess), STATUS_SUCCESS);
    KT_EQUAL((ULONG)Lock(Mdl, KernelMode, IoReadAccess), (ULONG)STATUS_INVALID_PARAMETER);
    MmUnlockPages(Mdl);
    MmBuildMdlForNonPagedPool(Mdl);
    KT_EQUAL((ULONG)Lock(Mdl, KernelMode, IoReadAccess), (ULONG)STATUS_INVALID_PARAMETER);
    IoFreeMdl(Mdl);
    ExFreePool(Block);
}

static VOID LocksNest(VOID)
{
    PUCHAR Block = AllocatePool(1);
    PMDL First = MdlOf(Block, PAGE_SIZE);
    PMDL Second = MdlOf(Block + 8, 8);
    KT_REQUIRE(Block != NULL && First != NULL && Second != NULL);
    KT_EQUAL(Lock(First, KernelMode, IoReadAccess), STATUS_SUCCESS);
    KT_EQUAL(Lock(Second, KernelMode, IoWriteAccess), STATUS_SUCCESS);
    KT_EQUAL(KtPageAddress(First, 0), KtPageAddress(Second, 0));
    MmUnlockPages(First);
    MmUnlockPages(Second);
    for (ULONG Round = 0; Round < 3; Round += 1) {
        KT_EQUAL(Lock(First, KernelMode, IoReadAccess), STATUS_SUCCESS);
        MmUnlockPages(First);
    }
    IoFreeMdl(First);
    IoFreeMdl(Second);
    ExFreePool(Block); // which the last lock would not have allowed
}

static VOID UnlockUnmaps(VOID)
{
    PUCHAR Block = AllocatePool(2);
    PMDL Mdl = MdlOf(Block + OFFSET, PAGE_SIZE);
    PVOID Reservation = MmAllocateMappingAddress(2 * PAGE_SIZE, KT_TAG);
    KT_REQUIRE(Block != NULL && Mdl != NULL && Reservation != NULL);
    KT_EQUAL(Lock(Mdl, KernelMode, IoWriteAccess), STATUS_SUCCESS);
    volatile ULONG *Va = MmGetSystemAddressForMdlSafe(Mdl, NormalPagePriority);
    KT_REQUIRE(Va != NULL);
    *Va = STAMP; // one memory at two addresses
    KT_EQUAL(*(volatile ULONG *)(Block + OFFSET), STAMP);
    MmUnlockPages(Mdl);
    KT_EQUAL(Mdl->MdlFlags & (MDL_PAGES_LOCKED | MDL_MAPPED_TO_SYSTEM_VA), 0);
    KT_CHECK(!MmIsAddressValid((PVOID)Va));
    KT_EQUAL(Lock(Mdl, KernelMode, IoWriteAccess), STATUS_SUCCESS);
    KT_CHECK(MmMapLockedPagesWithReservedMapping(Reservation, KT_TAG, Mdl, MmCached) != NULL);
    MmUnlockPages(Mdl);
    KT_CHECK(!MmIsAddressValid(Reservation));
    MmFreeMappingAddress(Reservation, KT_TAG);
    IoFreeMdl(Mdl);
    ExFreePool(Block);
}

static VOID SelectedPagesAreGathered(VOID)
{
    PUCHAR Block = AllocatePool(3);
    PMDL Mdl = MdlOf(NULL, 3 * PAGE_SIZE);
    KT_REQUIRE(Block != NULL && Mdl != NULL);
    FILE_SEGMENT_ELEMENT Elements[] = {
        {Block + 2 * PAGE_SIZE}, {PAGE_ALIGN(KernelData + PAGE_SIZE)}, {Block}};
    for (ULONG Page = 0; Page < 3; Page += 1) {
        *(volatile ULONG *)Elements[Page].Buffer = STAMP + Page;
    }
    MmProbeAndLockSelectedPages(Mdl, Elements, KernelMode, IoWriteAccess);
    const UCHAR *Va = MmGetSystemAddressForMdlSafe(Mdl, NormalPagePriority);
    KT_REQUIRE(Va != NULL);
    for (ULONG Page = 0; Page < 3; Page += 1) {
        KT_EQUAL(*(const volatile ULONG *)(Va + Page * PAGE_SIZE), STAMP + Page);
    }
    MmUnlockPages(Mdl);
    Elements[1].Buffer = Block + 1;
    volatile NTSTATUS Raised = STATUS_SUCCESS;
    KmTry {
        MmProbeAndLockSelectedPages(Mdl, Elements, KernelMode, IoWriteAccess);
    }
    KmCatch (Status) {
        Raised = Status;
    }
    KT_EQUAL((ULONG)Raised, (ULONG)STATUS_DATATYPE_MISALIGNMENT);
    IoFreeMdl(Mdl);
    ExFreePool(Block);
}

static VOID TheProcessDoesNotMatter(VOID)
{
    PUCHAR Block = AllocatePool(1);
    PMDL Mdl = MdlOf(Block, PAGE_SIZE);
    KT_REQUIRE(Block != NULL && Mdl != NULL);
    MmProbeAndLockProcessPages(Mdl, NULL, KernelMode, IoWriteAccess);
    KT_EQUAL(Mdl->MdlFlags, MDL_PAGES_LOCKED | MDL_WRITE_OPERATION);
    KT_EQUAL(Mdl->Process, NULL);
    MmUnlockPages(Mdl);
    IoFreeMdl(Mdl);
    ExFreePool(Block);
}

static VOID LockingWorksAtDispatchLevel(VOID)
{
    PUCHAR Block = AllocatePool(1);
    KT_REQUIRE(Block != NULL);
    const KIRQL OldIrql = KeRaiseIrqlToDpcLevel();
    LockAndUnlock(Block, PAGE_SIZE, IoReadAccess, MDL_PAGES_LOCKED);
    CheckViolation(NULL, 1, KernelMode, IoReadAccess);
    KeLowerIrql(OldIrql);
    ExFreePool(Block);
}

//
// A driver that completes what it gets.
//

static NTSTATUS NTAPI Complete(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    Irp->IoStatus.Status = STATUS_SUCCESS;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
    return STATUS_SUCCESS;
}

static VOID CompletionTakesTheMdls(VOID)
{
    static KT_DRIVER Driver = KT_DRIVER_INITIALIZER(.MajorFunction[IRP_MJ_READ] = Complete);
    static DEVICE_OBJECT Device = {.DriverObject = &Driver.Object, .StackSize = 1};
    PUCHAR Block = AllocatePool(2);
    KT_REQUIRE(Block != NULL);
    MM_MEMORY_USE Before;
    MmQueryMemoryUse(&Before);
    PIRP Irp = IoAllocateIrp(Device.StackSize, FALSE);
    KT_REQUIRE(Irp != NULL);
    PMDL Locked = IoAllocateMdl(Block, 2 * PAGE_SIZE, FALSE, FALSE, Irp);
    PMDL Part = IoAllocateMdl(Block, PAGE_SIZE, TRUE, FALSE, Irp);
    PMDL Built = IoAllocateMdl(Block, PAGE_SIZE, TRUE, FALSE, Irp);
    KT_REQUIRE(Locked != NULL && Part != NULL && Built != NULL);
    KT_EQUAL(Lock(Locked, KernelMode, IoWriteAccess), STATUS_SUCCESS);
    IoBuildPartialMdl(Locked, Part, Block + PAGE_SIZE, PAGE_SIZE);
    KT_CHECK(MmGetSystemAddressForMdlSafe(Part, NormalPagePriority) != NULL);
    MmBuildMdlForNonPagedPool(Built);
    IoGetNextIrpStackLocation(Irp)->MajorFunction = IRP_MJ_READ;
    KT_EQUAL(IoCallDriver(&Device, Irp), STATUS_SUCCESS);
    KT_EQUAL(KtCountLeaks(&Before), 0);
    ExFreePool(Block); // nothing is locked any more
}

static const KT_TEST Tests[] = {
    {"every kind of kernel address can be locked, and unlocked [6.6.1, 6.6.2, 6.7.1]",
     EveryKernelAddressCanBeLocked},
    {"locked device memory is marked, and keeps its cache type [6.6.7]", DeviceMemoryCanBeLocked},
    {"what the page tables forbid raises STATUS_ACCESS_VIOLATION [6.6.3, 6.6.4]",
     WhatMayNotBeAccessedRaises},
    {"what is not there raises STATUS_ACCESS_VIOLATION, and leaves nothing [6.6.3, 6.6.4, 6.6.5, "
     "18.17]",
     WhatIsNotThereRaises},
    {"an MDL that describes pages already is not locked again [6.6.4]", AnMdlInUseRaises},
    {"locks of one frame nest [6.6.6]", LocksNest},
    {"MmUnlockPages unmaps first [6.7.2, 18.17]", UnlockUnmaps},
    {"MmProbeAndLockSelectedPages gathers pages in their order [6.6.8]", SelectedPagesAreGathered},
    {"MmProbeAndLockProcessPages locks in the one address space there is [6.6.9]",
     TheProcessDoesNotMatter},
    {"pages are locked and unlocked at DISPATCH_LEVEL [6.6.10, 6.7.6, 18.28]",
     LockingWorksAtDispatchLevel},
    {"an IRP's completion unlocks and frees its MDLs [6.17.1]", CompletionTakesTheMdls},
};

const KT_SUITE KtLockSuite = {"lock", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
