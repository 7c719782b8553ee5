// Stale translations: after an unmap the processor must have forgotten the page. Each test first
// reads through the mapping, so that the translation is in the TLB, and then looks whether it is
// still there.
//
// Proven with the boot option `leaf4k` only: as soon as one large leaf is in use, QEMU's INVLPG
// forgets everything, so that a missing one goes unnoticed.
#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "tests/kernel/reference.h"
#include "tests/kernel/tests.h"

#define NOT_PRECISE "INVLPG forgets everything while large leaves exist; needs leaf4k"
#define PATTERN_A 0xAAAAAAAAAAAAAAAA
#define PATTERN_B 0xBBBBBBBBBBBBBBBB

// From few pages, which are flushed one by one, to more than any batch holds.
static const ULONG PageCounts[] = {1, 2, 8, 15, 16, 17, 33, 600};

static BOOLEAN IsPrecise(VOID)
{
    return KtHasOption("leaf4k");
}

// Brings the translation of every page into the TLB, for reading and for writing.
static VOID TouchPages(PVOID Va, ULONG PageCount, ULONG64 Pattern)
{
    for (ULONG Page = 0; Page < PageCount; Page += 1) {
        *(volatile ULONG64 *)KtAdd(Va, (ULONG64)Page * PAGE_SIZE) = Pattern;
        (VOID) * (volatile ULONG64 *)KtAdd(Va, (ULONG64)Page * PAGE_SIZE);
    }
}

static VOID CheckForgotten(PVOID Va, ULONG PageCount)
{
    ULONG64 Value;
    ULONG StaleCount = 0;
    for (ULONG Page = 0; Page < PageCount; Page += 1) {
        const PVOID PageVa = KtAdd(Va, (ULONG64)Page * PAGE_SIZE);
        StaleCount += !KeProbeRead(PageVa, &Value).Faulted;
        StaleCount += !KeProbeWrite(PageVa, 0).Faulted;
    }
    KT_EQUAL(StaleCount, 0);
}

static PMDL AllocateContiguous(ULONG PageCount)
{
    return KtAllocateRun(PageCount);
}

static VOID UnmapIoSpaceForgets(VOID)
{
    if (!IsPrecise()) {
        KT_SKIP(NOT_PRECISE);
    }
    for (ULONG Row = 0; Row < ARRAYSIZE(PageCounts); Row += 1) {
        const ULONG PageCount = PageCounts[Row];
        KtSetContext("%u pages", PageCount);
        PMDL Mdl = AllocateContiguous(PageCount);
        KT_REQUIRE(Mdl != NULL);
        PVOID Va = MmMapIoSpaceEx(KtPhysical(KtPageAddress(Mdl, 0)), (SIZE_T)PageCount * PAGE_SIZE,
                                  PAGE_READWRITE);
        KT_REQUIRE(Va != NULL);
        TouchPages(Va, PageCount, PATTERN_A);
        MmUnmapIoSpace(Va, (SIZE_T)PageCount * PAGE_SIZE);
        CheckForgotten(Va, PageCount);
        KtFreePages(Mdl);
    }
}

static VOID UnmapDeviceMemoryForgets(VOID)
{
    static const ULONG DevicePageCounts[] = {1, 2, 15, 33, 512, 600};
    const ULONG64 Address = KtFindDeviceMemory();
    if (!IsPrecise() || Address == 0) {
        KT_SKIP(Address == 0 ? "no device with memory" : NOT_PRECISE);
    }
    for (ULONG Row = 0; Row < ARRAYSIZE(DevicePageCounts); Row += 1) {
        const ULONG PageCount = DevicePageCounts[Row];
        const SIZE_T ByteCount = (SIZE_T)PageCount * PAGE_SIZE;
        // The second round takes what the first has left behind.
        for (ULONG Round = 0; Round < 2; Round += 1) {
            KtSetContext("%u pages, round %u", PageCount, Round);
            const PVOID Va = MmMapIoSpace(KtPhysical(Address), ByteCount, MmNonCached);
            KT_REQUIRE(Va != NULL);
            TouchPages(Va, PageCount, PATTERN_A);
            MmUnmapIoSpace(Va, ByteCount);
            CheckForgotten(Va, PageCount);
        }
    }
}

static VOID UnmapLockedPagesForgets(VOID)
{
    if (!IsPrecise()) {
        KT_SKIP(NOT_PRECISE);
    }
    for (ULONG Row = 0; Row < ARRAYSIZE(PageCounts); Row += 1) {
        KtSetContext("%u pages", PageCounts[Row]);
        PMDL Mdl = KtAllocatePages(PageCounts[Row]);
        KT_REQUIRE(Mdl != NULL);
        PVOID Va = MmGetSystemAddressForMdlSafe(Mdl, NormalPagePriority);
        KT_REQUIRE(Va != NULL);
        TouchPages(Va, PageCounts[Row], PATTERN_A);
        MmUnmapLockedPages(Va, Mdl);
        CheckForgotten(Va, PageCounts[Row]);
        KtFreePages(Mdl);
    }
}

static VOID UnmapReservedMappingForgets(VOID)
{
    if (!IsPrecise()) {
        KT_SKIP(NOT_PRECISE);
    }
    for (ULONG Row = 0; Row < ARRAYSIZE(PageCounts); Row += 1) {
        KtSetContext("%u pages", PageCounts[Row]);
        PMDL Mdl = KtAllocatePages(PageCounts[Row]);
        PVOID Base = MmAllocateMappingAddress((SIZE_T)PageCounts[Row] * PAGE_SIZE, KT_TAG);
        KT_REQUIRE(Mdl != NULL && Base != NULL);
        KT_EQUAL(MmMapLockedPagesWithReservedMapping(Base, KT_TAG, Mdl, MmCached), Base);
        TouchPages(Base, PageCounts[Row], PATTERN_A);
        MmUnmapReservedMapping(Base, KT_TAG, Mdl);
        CheckForgotten(Base, PageCounts[Row]);
        MmFreeMappingAddress(Base, KT_TAG);
        KtFreePages(Mdl);
    }
}

static VOID ARemappedReservationShowsTheNewFrame(VOID)
{
    if (!IsPrecise()) {
        KT_SKIP(NOT_PRECISE);
    }
    PMDL Mdls[] = {KtAllocatePages(4), KtAllocatePages(4)};
    static const ULONG64 Patterns[] = {PATTERN_A, PATTERN_B};
    PULONG64 Base = MmAllocateMappingAddress(4 * PAGE_SIZE, KT_TAG);
    KT_REQUIRE(Mdls[0] != NULL && Mdls[1] != NULL && Base != NULL);
    for (ULONG Round = 0; Round < 6; Round += 1) {
        const ULONG Which = Round % 2;
        KT_EQUAL(MmMapLockedPagesWithReservedMapping(Base, KT_TAG, Mdls[Which], MmCached), Base);
        if (Round >= 2) {
            KT_EQUAL(*(volatile ULONG64 *)Base, Patterns[Which]);
        }
        TouchPages(Base, 4, Patterns[Which]);
        MmUnmapReservedMapping(Base, KT_TAG, Mdls[Which]);
        KT_EQUAL(*(PULONG64)KtDirectMap(KtPageAddress(Mdls[Which], 0)), Patterns[Which]);
    }
    MmFreeMappingAddress(Base, KT_TAG);
    KtFreePages(Mdls[0]);
    KtFreePages(Mdls[1]);
}

static VOID ReusedAddressesShowTheNewFrame(VOID)
{
    if (!IsPrecise()) {
        KT_SKIP(NOT_PRECISE);
    }
    PMDL Mdls[] = {KtAllocatePages(1), KtAllocatePages(1)};
    KT_REQUIRE(Mdls[0] != NULL && Mdls[1] != NULL);
    *(PULONG64)KtDirectMap(KtPageAddress(Mdls[0], 0)) = PATTERN_A;
    *(PULONG64)KtDirectMap(KtPageAddress(Mdls[1], 0)) = PATTERN_B;
    for (ULONG Round = 0; Round < 200; Round += 1) {
        const PHYSICAL_ADDRESS Address = KtPhysical(KtPageAddress(Mdls[Round % 2], 0));
        volatile ULONG64 *Va = MmMapIoSpaceEx(Address, PAGE_SIZE, PAGE_READWRITE);
        KT_REQUIRE(Va != NULL);
        KT_EQUAL(*Va, Round % 2 == 0 ? PATTERN_A : PATTERN_B);
        MmUnmapIoSpace((PVOID)(ULONG_PTR)Va, PAGE_SIZE);
    }
    KtFreePages(Mdls[0]);
    KtFreePages(Mdls[1]);
}

static VOID AReadOnlyRemapForgetsTheRightToWrite(VOID)
{
    if (!IsPrecise()) {
        KT_SKIP(NOT_PRECISE);
    }
    PMDL Mdl = KtAllocatePages(1);
    KT_REQUIRE(Mdl != NULL);
    const PHYSICAL_ADDRESS Address = KtPhysical(KtPageAddress(Mdl, 0));
    for (ULONG Round = 0; Round < 20; Round += 1) {
        PVOID Va = MmMapIoSpaceEx(Address, PAGE_SIZE, PAGE_READWRITE);
        KT_REQUIRE(Va != NULL);
        TouchPages(Va, 1, PATTERN_A);
        MmUnmapIoSpace(Va, PAGE_SIZE);
        Va = MmMapIoSpaceEx(Address, PAGE_SIZE, PAGE_READONLY);
        KT_REQUIRE(Va != NULL);
        KT_EQUAL(KeProbeWrite(Va, 0).Faulted, TRUE);
        MmUnmapIoSpace(Va, PAGE_SIZE);
    }
    KtFreePages(Mdl);
}

static VOID AHiddenAliasIsForgotten(VOID)
{
    if (!IsPrecise()) {
        KT_SKIP(NOT_PRECISE);
    }
    PMDL Mdl = KtAllocatePages(4);
    KT_REQUIRE(Mdl != NULL);
    for (ULONG Page = 0; Page < 4; Page += 1) {
        TouchPages(KtDirectMap(KtPageAddress(Mdl, Page)), 1, PATTERN_A);
    }
    PVOID Va =
        MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmNonCached, NULL, FALSE, NormalPagePriority);
    KT_REQUIRE(Va != NULL);
    for (ULONG Page = 0; Page < 4; Page += 1) {
        CheckForgotten(KtDirectMap(KtPageAddress(Mdl, Page)), 1);
    }
    KtFreePages(Mdl);
}

static VOID FreedPoolPagesAreForgotten(VOID)
{
    if (!IsPrecise()) {
        KT_SKIP(NOT_PRECISE);
    }
    PVOID Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 40 * PAGE_SIZE, KT_TAG);
    KT_REQUIRE(Block != NULL);
    TouchPages(Block, 40, PATTERN_A);
    ExFreePool(Block);
    CheckForgotten(Block, 40);
}

static const KT_TEST Tests[] = {
    {"MmUnmapIoSpace leaves no stale translation [4.3.2, 12.3.1]", UnmapIoSpaceForgets},
    {"MmUnmapIoSpace of device memory leaves no stale translation [4.3.2, 12.3.1]",
     UnmapDeviceMemoryForgets},
    {"MmUnmapLockedPages leaves no stale translation [6.10.2, 12.3.1]", UnmapLockedPagesForgets},
    {"MmUnmapReservedMapping leaves no stale translation [5.3.2, 12.3.1]",
     UnmapReservedMappingForgets},
    {"a reservation that is mapped again shows the new frame [12.3.2]",
     ARemappedReservationShowsTheNewFrame},
    {"addresses that are used again show the new frame [12.3.2]", ReusedAddressesShowTheNewFrame},
    {"a read-only mapping at used addresses cannot be written [12.3.2]",
     AReadOnlyRemapForgetsTheRightToWrite},
    {"a hidden alias of the direct map is forgotten [12.2.6, 12.3.1]", AHiddenAliasIsForgotten},
    {"freed pool pages are forgotten [12.3.1]", FreedPoolPagesAreForgotten},
};

const KT_SUITE KtStaleSuite = {"stale", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
