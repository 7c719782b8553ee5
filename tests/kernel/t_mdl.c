// MDLs: IoAllocateMdl, IoFreeMdl, MmBuildMdlForNonPagedPool, MmAllocateMdlForIoSpace, and their
// mappings.
#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "tests/kernel/reference.h"
#include "tests/kernel/tests.h"

#define MDL_HEADER_BYTES 0x30
#define IO_MDL_FLAGS (MDL_PAGES_LOCKED | MDL_IO_SPACE)
#define LARGEST_MDL_BYTES (4 * KT_GIB - PAGE_SIZE)

static PVOID MapMdl(PMDL Mdl, MEMORY_CACHING_TYPE CacheType)
{
    return MmMapLockedPagesSpecifyCache(Mdl, KernelMode, CacheType, NULL, FALSE,
                                        NormalPagePriority);
}

static ULONG FlagsOf(PMDL Mdl)
{
    return (USHORT)Mdl->MdlFlags & ~(ULONG)MDL_ALLOCATED_FIXED_SIZE;
}

//
// IoAllocateMdl.
//

static VOID AllocateMdlDescribesTheBuffer(VOID)
{
    static const struct {
        ULONG64 Va;
        ULONG Length;
        ULONG PageCount;
    } Rows[] = {
        {0, 1, 1},
        {0, PAGE_SIZE, 1},
        {1, PAGE_SIZE, 2},
        {0xFFF, 1, 1},
        {0xFFF, 2, 2},
        {0xFFFF800012345678, 0x2345, 3},
        {0xFFFFFFFFFFFFF000, PAGE_SIZE, 1},
    };
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        KtSetContext("row %u", Row);
        const PVOID Va = (PVOID)Rows[Row].Va;
        PMDL Mdl = IoAllocateMdl(Va, Rows[Row].Length, FALSE, FALSE, NULL);
        KT_REQUIRE(Mdl != NULL);
        KT_EQUAL(MmGetMdlVirtualAddress(Mdl), Va);
        KT_EQUAL(MmGetMdlByteCount(Mdl), Rows[Row].Length);
        KT_EQUAL(MmGetMdlByteOffset(Mdl), Rows[Row].Va % PAGE_SIZE);
        KT_EQUAL(MmGetMdlBaseVa(Mdl), PAGE_ALIGN(Va));
        KT_EQUAL(Mdl->Next, NULL);
        KT_EQUAL(FlagsOf(Mdl), 0);
        KT_EQUAL(Mdl->Size, MDL_HEADER_BYTES + Rows[Row].PageCount * sizeof(PFN_NUMBER));
        KT_EQUAL(MmSizeOfMdl(Va, Rows[Row].Length),
                 MDL_HEADER_BYTES + Rows[Row].PageCount * sizeof(PFN_NUMBER));
        IoFreeMdl(Mdl);
    }
}

static VOID AllocateMdlRefusesZeroAndTooMuch(VOID)
{
    KT_EQUAL(IoAllocateMdl(NULL, 0, FALSE, FALSE, NULL), NULL);
    KT_EQUAL(IoAllocateMdl((PVOID)1, 0, FALSE, FALSE, NULL), NULL);
    KT_EQUAL(IoAllocateMdl(NULL, MAXULONG, FALSE, FALSE, NULL), NULL);
    KT_EQUAL(IoAllocateMdl((PVOID)1, (ULONG)LARGEST_MDL_BYTES, FALSE, FALSE, NULL), NULL);
}

static VOID AllocateMdlAcceptsTheLargest(VOID)
{
    PMDL Mdl = IoAllocateMdl(NULL, (ULONG)LARGEST_MDL_BYTES, FALSE, FALSE, NULL);
    KT_REQUIRE(Mdl != NULL);
    KT_EQUAL(MmGetMdlByteCount(Mdl), LARGEST_MDL_BYTES);
    IoFreeMdl(Mdl);
}

static VOID AllocateMdlChainsToTheIrp(VOID)
{
    IRP Irp;
    RtlZeroMemory(&Irp, sizeof(Irp));
    PMDL First = IoAllocateMdl(NULL, 1, FALSE, FALSE, &Irp);
    PMDL Second = IoAllocateMdl(NULL, 2, TRUE, FALSE, &Irp);
    PMDL Third = IoAllocateMdl(NULL, 3, TRUE, FALSE, &Irp);
    KT_REQUIRE(First != NULL && Second != NULL && Third != NULL);
    KT_EQUAL(Irp.MdlAddress, First);
    KT_EQUAL(First->Next, Second);
    KT_EQUAL(Second->Next, Third);
    KT_EQUAL(Third->Next, NULL);
    // Without SecondaryBuffer the chain is replaced, not freed.
    PMDL Fourth = IoAllocateMdl(NULL, 4, FALSE, FALSE, &Irp);
    KT_REQUIRE(Fourth != NULL);
    KT_EQUAL(Irp.MdlAddress, Fourth);
    KT_EQUAL(Fourth->Next, NULL);
    IoFreeMdl(First);
    IoFreeMdl(Second);
    IoFreeMdl(Third);
    IoFreeMdl(Fourth);
}

static VOID ASecondaryBufferMayComeFirst(VOID)
{
    IRP Irp;
    RtlZeroMemory(&Irp, sizeof(Irp));
    PMDL Mdl = IoAllocateMdl(NULL, 1, TRUE, FALSE, &Irp);
    KT_REQUIRE(Mdl != NULL);
    KT_EQUAL(Irp.MdlAddress, Mdl);
    IoFreeMdl(Mdl);
}

static VOID FreeMdlLeavesTheChainAlone(VOID)
{
    IRP Irp;
    RtlZeroMemory(&Irp, sizeof(Irp));
    PMDL First = IoAllocateMdl(NULL, 1, FALSE, FALSE, &Irp);
    PMDL Second = IoAllocateMdl(NULL, 2, TRUE, FALSE, &Irp);
    KT_REQUIRE(First != NULL && Second != NULL);
    IoFreeMdl(First);
    KT_EQUAL(MmGetMdlByteCount(Second), 2);
    IoFreeMdl(Second);
}

//
// MmBuildMdlForNonPagedPool.
//

static VOID NonPagedPoolMdlHasItsOwnAddress(VOID)
{
    KT_RETAIL_ONLY();
    static const ULONG Offsets[] = {0, 0x123};
    PUCHAR Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 3 * PAGE_SIZE, KT_TAG);
    KT_REQUIRE(Block != NULL);
    for (ULONG Row = 0; Row < ARRAYSIZE(Offsets); Row += 1) {
        PVOID Va = Block + Offsets[Row];
        PMDL Mdl = IoAllocateMdl(Va, 2 * PAGE_SIZE, FALSE, FALSE, NULL);
        KT_REQUIRE(Mdl != NULL);
        MM_MEMORY_USE Before;
        MmQueryMemoryUse(&Before);
        MmBuildMdlForNonPagedPool(Mdl);
        KT_EQUAL(FlagsOf(Mdl), MDL_SOURCE_IS_NONPAGED_POOL);
        KT_EQUAL(Mdl->MappedSystemVa, Va);
        KT_EQUAL(Mdl->Process, NULL);
        KT_EQUAL(MmGetSystemAddressForMdlSafe(Mdl, NormalPagePriority), Va);
        for (ULONG Page = 0; Page < ADDRESS_AND_SIZE_TO_SPAN_PAGES(Va, 2 * PAGE_SIZE); Page += 1) {
            KT_EQUAL(KtPageAddress(Mdl, Page), KtPhysicalOf(Block + Page * PAGE_SIZE));
        }
        KT_EQUAL(KtCountLeaks(&Before), 0);
        // It has an address; another one is not offered.
        KT_EQUAL(MapMdl(Mdl, MmCached), NULL);
        IoFreeMdl(Mdl);
    }
    ExFreePool(Block);
}

static VOID NonPagedMdlOfDeviceMemoryIsMarked(VOID)
{
    PVOID Va = MmMapIoSpaceEx(KtPhysical(KtFindGap(PAGE_SIZE, PAGE_SIZE)), PAGE_SIZE,
                              PAGE_READWRITE | PAGE_NOCACHE);
    KT_REQUIRE(Va != NULL);
    PMDL Mdl = IoAllocateMdl(Va, PAGE_SIZE, FALSE, FALSE, NULL);
    KT_REQUIRE(Mdl != NULL);
    MmBuildMdlForNonPagedPool(Mdl);
    KT_EQUAL(FlagsOf(Mdl), MDL_SOURCE_IS_NONPAGED_POOL | MDL_IO_SPACE);
    KT_EQUAL(KtPageAddress(Mdl, 0), KtPhysicalOf(Va));
    IoFreeMdl(Mdl);
    MmUnmapIoSpace(Va, PAGE_SIZE);
}

//
// MmAllocateMdlForIoSpace.
//

static PMDL const Garbage = (PMDL)0x5A5A5A5A;

static VOID CheckListRefused(PMM_PHYSICAL_ADDRESS_LIST List, SIZE_T EntryCount,
                             NTSTATUS ExpectedStatus)
{
    PMDL Mdl = Garbage;
    KT_EQUAL(MmAllocateMdlForIoSpace(List, EntryCount, &Mdl), ExpectedStatus);
    KT_EQUAL(Mdl, NULL);
}

static VOID IllegalEntriesAreRefused(VOID)
{
    const ULONG64 Gap = KtFindGap(16 * PAGE_SIZE, PAGE_SIZE);
    const ULONG64 End = 1ull << KeFeatures.PhysicalBits;
    const struct {
        ULONG64 Address;
        SIZE_T ByteCount;
    } Rows[] = {
        {Gap + 1, PAGE_SIZE},
        {Gap + PAGE_SIZE - 1, PAGE_SIZE},
        {Gap, 1},
        {Gap, PAGE_SIZE - 1},
        {Gap, PAGE_SIZE + 1},
        {Gap, 0},
        {End, PAGE_SIZE},
        {End - PAGE_SIZE, 2 * PAGE_SIZE},
        {0ull - PAGE_SIZE, PAGE_SIZE},
        {0ull - PAGE_SIZE, 2 * PAGE_SIZE},
        {Gap, 0ull - PAGE_SIZE},
        {Gap, 4 * KT_GIB},
        {Gap, 4 * KT_GIB + PAGE_SIZE},
    };
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        KtSetContext("row %u", Row);
        // Alone, as the first entry, as the last.
        const MM_PHYSICAL_ADDRESS_LIST Bad = {KtPhysical(Rows[Row].Address), Rows[Row].ByteCount};
        const MM_PHYSICAL_ADDRESS_LIST Good = {KtPhysical(Gap + 8 * PAGE_SIZE), PAGE_SIZE};
        MM_PHYSICAL_ADDRESS_LIST List[] = {Good, Bad, Good};
        CheckListRefused(&List[1], 1, STATUS_INVALID_PARAMETER_1);
        CheckListRefused(&List[1], 2, STATUS_INVALID_PARAMETER_1);
        CheckListRefused(&List[0], 2, STATUS_INVALID_PARAMETER_1);
    }
}

static VOID AnEmptyListIsRefused(VOID)
{
    MM_PHYSICAL_ADDRESS_LIST List = {KtPhysical(KtFindGap(PAGE_SIZE, PAGE_SIZE)), PAGE_SIZE};
    CheckListRefused(&List, 0, STATUS_INVALID_PARAMETER_2);
}

static VOID RamIsRefused(VOID)
{
    PPHYSICAL_MEMORY_RANGE Ranges = MmGetPhysicalMemoryRanges();
    KT_REQUIRE(Ranges != NULL);
    for (PPHYSICAL_MEMORY_RANGE Range = Ranges; Range->NumberOfBytes.QuadPart != 0; Range += 1) {
        const ULONG64 Base = (ULONG64)Range->BaseAddress.QuadPart;
        const ULONG64 End = Base + (ULONG64)Range->NumberOfBytes.QuadPart;
        MM_PHYSICAL_ADDRESS_LIST Rows[] = {
            {KtPhysical(Base), PAGE_SIZE},
            {KtPhysical(End - PAGE_SIZE), PAGE_SIZE},
            {KtPhysical(End - PAGE_SIZE), 2 * PAGE_SIZE},
            {KtPhysical(Base - PAGE_SIZE), 2 * PAGE_SIZE},
        };
        for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
            KtSetContext("0x%llx", Rows[Row].PhysicalAddress.QuadPart);
            CheckListRefused(&Rows[Row], 1, STATUS_INVALID_PARAMETER_1);
        }
    }
    ExFreePool(Ranges);
}

static VOID LockedRamIsRefused(VOID)
{
    PMDL Pages = KtAllocatePages(1);
    KT_REQUIRE(Pages != NULL);
    MM_PHYSICAL_ADDRESS_LIST List = {KtPhysical(KtPageAddress(Pages, 0)), PAGE_SIZE};
    CheckListRefused(&List, 1, STATUS_INVALID_PARAMETER_1);
    KtFreePages(Pages);
}

static VOID RangesAreConcatenatedInOrder(VOID)
{
    static const struct {
        ULONG FirstPage;
        ULONG PageCount;
    } Rows[] = {
        {8, 2}, {0, 1}, {3, 3}, {6, 2}, {0, 1}}; // not sorted, adjacent ones, one of them twice
    const ULONG64 Gap = KtFindGap(16 * PAGE_SIZE, PAGE_SIZE);
    MM_PHYSICAL_ADDRESS_LIST List[ARRAYSIZE(Rows)];
    ULONG PageCount = 0;
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        List[Row].PhysicalAddress = KtPhysical(Gap + Rows[Row].FirstPage * PAGE_SIZE);
        List[Row].NumberOfBytes = Rows[Row].PageCount * PAGE_SIZE;
        PageCount += Rows[Row].PageCount;
    }
    PMDL Mdl = Garbage;
    KT_REQUIRE(MmAllocateMdlForIoSpace(List, ARRAYSIZE(List), &Mdl) == STATUS_SUCCESS);
    KT_EQUAL(MmGetMdlByteCount(Mdl), PageCount * PAGE_SIZE);
    ULONG Page = 0;
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        for (ULONG Index = 0; Index < Rows[Row].PageCount; Index += 1) {
            KT_EQUAL(KtPageAddress(Mdl, Page), Gap + (Rows[Row].FirstPage + Index) * PAGE_SIZE);
            Page += 1;
        }
    }
    IoFreeMdl(Mdl);
}

static VOID TheNewMdlIsLockedAndUnmapped(VOID)
{
    PMDL Mdl = KtAllocateGapMdl(3);
    KT_REQUIRE(Mdl != NULL);
    KT_EQUAL(FlagsOf(Mdl), IO_MDL_FLAGS);
    KT_EQUAL(Mdl->Next, NULL);
    KT_EQUAL(Mdl->StartVa, NULL);
    KT_EQUAL(Mdl->ByteOffset, 0);
    KT_EQUAL(Mdl->Process, NULL);
    KT_EQUAL(Mdl->MappedSystemVa, NULL);
    KT_EQUAL(MmIsIoSpaceActive(KtPhysical(KtPageAddress(Mdl, 0)), PAGE_SIZE), FALSE);
    IoFreeMdl(Mdl);
}

static VOID TheLargestTotalSucceeds(VOID)
{
    const ULONG64 Gap = KtFindGap(8 * KT_GIB, PAGE_SIZE);
    KT_REQUIRE(Gap != 0);
    MM_PHYSICAL_ADDRESS_LIST List[] = {
        {KtPhysical(Gap), 2 * KT_GIB},
        {KtPhysical(Gap + 3 * KT_GIB), LARGEST_MDL_BYTES - 2 * KT_GIB},
        {KtPhysical(Gap + 6 * KT_GIB), PAGE_SIZE},
    };
    PMDL Mdl;
    KT_REQUIRE(MmAllocateMdlForIoSpace(List, 2, &Mdl) == STATUS_SUCCESS);
    KT_EQUAL(MmGetMdlByteCount(Mdl), LARGEST_MDL_BYTES);
    IoFreeMdl(Mdl);
    CheckListRefused(List, ARRAYSIZE(List), STATUS_INVALID_PARAMETER_1);
}

//
// Mapping an MDL.
//

static VOID CheckMapped(PMDL Mdl, PVOID Va, ULONG CacheIndex)
{
    KT_EQUAL(BYTE_OFFSET(Va), MmGetMdlByteOffset(Mdl));
    KT_EQUAL(Mdl->MappedSystemVa, Va);
    KT_CHECK((Mdl->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA) != 0);
    for (ULONG Page = 0; Page < ADDRESS_AND_SIZE_TO_SPAN_PAGES(Va, MmGetMdlByteCount(Mdl));
         Page += 1) {
        const REF_WALK Walk = RefWalk(KtAdd(PAGE_ALIGN(Va), (ULONG64)Page * PAGE_SIZE));
        KT_EQUAL(Walk.Level, 1);
        KT_EQUAL(Walk.PhysicalAddress, KtPageAddress(Mdl, Page));
        KT_EQUAL(Walk.CacheIndex, CacheIndex);
        KT_EQUAL(Walk.IsWritable, TRUE);
        KT_EQUAL(Walk.IsExecutable && KeFeatures.Nx, FALSE);
    }
}

static const struct {
    MEMORY_CACHING_TYPE CacheType;
    ULONG CacheIndex;
} CacheTypes[] = {
    {MmNonCached, REF_CACHE_UC},
    {MmCached, REF_CACHE_WB},
    {MmWriteCombined, REF_CACHE_WC},
};

static VOID EveryCacheTypeIsMapped(VOID)
{
    for (ULONG Row = 0; Row < ARRAYSIZE(CacheTypes); Row += 1) {
        KtSetContext("type %d", CacheTypes[Row].CacheType);
        PMDL Io = KtAllocateGapMdl(5);
        PMDL Ram = KtAllocatePages(5);
        KT_REQUIRE(Io != NULL && Ram != NULL);
        PVOID IoVa = MapMdl(Io, CacheTypes[Row].CacheType);
        PVOID RamVa = MapMdl(Ram, CacheTypes[Row].CacheType);
        KT_REQUIRE(IoVa != NULL && RamVa != NULL);
        CheckMapped(Io, IoVa, CacheTypes[Row].CacheIndex);
        CheckMapped(Ram, RamVa, CacheTypes[Row].CacheIndex);
        MmUnmapLockedPages(IoVa, Io);
        MmUnmapLockedPages(RamVa, Ram);
        KT_EQUAL(RefWalk(IoVa).Level, 0);
        KT_EQUAL(RefWalk(RamVa).Level, 0);
        KT_EQUAL(Io->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA, 0);
        KT_EQUAL(Ram->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA, 0);
        IoFreeMdl(Io);
        KtFreePages(Ram);
    }
}

static VOID TheTypeThatAFrameHasWins(VOID)
{
    PMDL Mdl = KtAllocateGapMdl(2);
    KT_REQUIRE(Mdl != NULL);
    PVOID Io = MmMapIoSpace(KtPhysical(KtPageAddress(Mdl, 0)), PAGE_SIZE, MmNonCached);
    KT_REQUIRE(Io != NULL);
    PVOID Va = MapMdl(Mdl, MmCached);
    KT_REQUIRE(Va != NULL);
    KT_EQUAL(RefWalk(Va).CacheIndex, REF_CACHE_UC);
    // The other frame has no type yet and gets the caller's.
    KT_EQUAL(RefWalk(KtAdd(Va, PAGE_SIZE)).CacheIndex, REF_CACHE_WB);
    MmUnmapLockedPages(Va, Mdl);
    MmUnmapIoSpace(Io, PAGE_SIZE);
    IoFreeMdl(Mdl);
}

static VOID AMappedMdlDecidesForOthers(VOID)
{
    PMDL Mdl = KtAllocateGapMdl(2);
    KT_REQUIRE(Mdl != NULL);
    const PHYSICAL_ADDRESS Address = KtPhysical(KtPageAddress(Mdl, 0));
    PVOID Va = MapMdl(Mdl, MmWriteCombined);
    KT_REQUIRE(Va != NULL);
    KT_CHECK(MmIsIoSpaceActive(Address, 1));
    KT_EQUAL(MmMapIoSpace(Address, PAGE_SIZE, MmNonCached), NULL);
    MmUnmapLockedPages(Va, Mdl);
    // Mapped no more, but the MDL still holds the frame, and its type with it.
    KT_CHECK(!MmIsIoSpaceActive(Address, 1));
    KT_EQUAL(MmMapIoSpace(Address, PAGE_SIZE, MmNonCached), NULL);
    IoFreeMdl(Mdl);
    PVOID Io = MmMapIoSpace(Address, PAGE_SIZE, MmNonCached);
    KT_REQUIRE(Io != NULL);
    MmUnmapIoSpace(Io, PAGE_SIZE);
}

static VOID AFailedMappingDecidesNothing(VOID)
{
    PMDL Mdl = KtAllocateGapMdl(2);
    KT_REQUIRE(Mdl != NULL);
    MmStartFailures(MM_FAIL_ADDRESSES, 0, 1);
    PVOID Failed = MapMdl(Mdl, MmNonCached);
    KT_EQUAL(MmStopFailures(), 1);
    KT_EQUAL(Failed, NULL);
    KT_CHECK(!MmIsIoSpaceActive(KtPhysical(KtPageAddress(Mdl, 0)), 1));
    PVOID Va = MapMdl(Mdl, MmWriteCombined);
    KT_REQUIRE(Va != NULL);
    KT_EQUAL(RefWalk(Va).CacheIndex, REF_CACHE_WC);
    MmUnmapLockedPages(Va, Mdl);
    IoFreeMdl(Mdl);
}

static VOID ReadingThroughMdlAndMappingAgrees(VOID)
{
    MM_PHYSICAL_ADDRESS_LIST List = {KtPhysical(KT_APIC_BASE), PAGE_SIZE};
    PMDL Mdl;
    KT_REQUIRE(MmAllocateMdlForIoSpace(&List, 1, &Mdl) == STATUS_SUCCESS);
    PUCHAR Va = MapMdl(Mdl, MmNonCached);
    PUCHAR Io = MmMapIoSpace(KtPhysical(KT_APIC_BASE), PAGE_SIZE, MmNonCached);
    KT_REQUIRE(Va != NULL && Io != NULL);
    KT_CHECK(Va != Io);
    KT_EQUAL(READ_REGISTER_ULONG((volatile ULONG *)(Va + KT_APIC_VERSION)),
             READ_REGISTER_ULONG((volatile ULONG *)(Io + KT_APIC_VERSION)));
    MmUnmapIoSpace(Io, PAGE_SIZE);
    MmUnmapLockedPages(Va, Mdl);
    IoFreeMdl(Mdl);
}

// An MDL over pages of another one, filled in by hand as some drivers do: with an offset in its
// first page.
static PMDL MakeHandmadeMdl(PMDL Pages, ULONG Offset, ULONG Length)
{
    PMDL Mdl = IoAllocateMdl((PVOID)(ULONG_PTR)Offset, Length, FALSE, FALSE, NULL);
    if (Mdl != NULL) {
        RtlCopyMemory(MmGetMdlPfnArray(Mdl), MmGetMdlPfnArray(Pages),
                      ADDRESS_AND_SIZE_TO_SPAN_PAGES((PVOID)(ULONG_PTR)Offset, Length) *
                          sizeof(PFN_NUMBER));
        Mdl->MdlFlags |= MDL_PAGES_LOCKED;
    }
    return Mdl;
}

static VOID MappedSystemVaIncludesTheOffset(VOID)
{
    PMDL Pages = KtAllocatePages(2);
    KT_REQUIRE(Pages != NULL);
    PMDL Mdl = MakeHandmadeMdl(Pages, 0x123, PAGE_SIZE);
    KT_REQUIRE(Mdl != NULL);
    PVOID Va = MapMdl(Mdl, MmCached);
    KT_REQUIRE(Va != NULL);
    KT_EQUAL(BYTE_OFFSET(Va), 0x123);
    CheckMapped(Mdl, Va, REF_CACHE_WB);
    KT_EQUAL(MmGetSystemAddressForMdlSafe(Mdl, NormalPagePriority), Va);
    MmUnmapLockedPages(Va, Mdl);
    // The base address may also lack the offset.
    Va = MapMdl(Mdl, MmCached);
    KT_REQUIRE(Va != NULL);
    MmUnmapLockedPages(PAGE_ALIGN(Va), Mdl);
    KT_EQUAL(RefWalk(Va).Level, 0);
    IoFreeMdl(Mdl);
    KtFreePages(Pages);
}

static VOID AnMdlHasOneMappingAtATime(VOID)
{
    KT_RETAIL_ONLY();
    PMDL Mdl = KtAllocatePages(1);
    KT_REQUIRE(Mdl != NULL);
    PVOID Va = MapMdl(Mdl, MmCached);
    KT_REQUIRE(Va != NULL);
    KT_EQUAL(MapMdl(Mdl, MmCached), NULL);
    KT_EQUAL(Mdl->MappedSystemVa, Va);
    KT_EQUAL(MmGetSystemAddressForMdlSafe(Mdl, NormalPagePriority), Va);
    MmUnmapLockedPages(Va, Mdl);
    KtFreePages(Mdl);
}

static VOID UnlockedMdlsAreNotMapped(VOID)
{
    KT_RETAIL_ONLY();
    PMDL Mdl = IoAllocateMdl(NULL, PAGE_SIZE, FALSE, FALSE, NULL);
    KT_REQUIRE(Mdl != NULL);
    KT_EQUAL(MapMdl(Mdl, MmCached), NULL);
    IoFreeMdl(Mdl);
}

// What a mapping for user mode raises. There are no user addresses.
static NTSTATUS RaisedByUserMap(PMDL Mdl)
{
    KmTry {
        (VOID) !MmMapLockedPagesSpecifyCache(Mdl, UserMode, MmCached, NULL, FALSE,
                                             NormalPagePriority);
    }
    KmCatch (Status) {
        return Status;
    }
    return STATUS_SUCCESS;
}

static VOID IllegalArgumentsOfMapAreRefused(VOID)
{
    PMDL Mdl = KtAllocatePages(1);
    KT_REQUIRE(Mdl != NULL);
    KT_EQUAL(MapMdl(Mdl, MmMaximumCacheType), NULL);
    KT_EQUAL(MapMdl(Mdl, MmNotMapped), NULL);
    KT_EQUAL(RaisedByUserMap(Mdl), STATUS_NO_MEMORY);
    const ULONG ByteCount = Mdl->ByteCount;
    Mdl->ByteCount = 0;
    KT_EQUAL(MapMdl(Mdl, MmCached), NULL);
    Mdl->ByteCount = ByteCount;
    KT_EQUAL(Mdl->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA, 0);
    KtFreePages(Mdl);
}

static VOID TheRequestedAddressIsIgnored(VOID)
{
    PMDL Mdl = KtAllocatePages(1);
    KT_REQUIRE(Mdl != NULL);
    PVOID Va = MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmCached, (PVOID)0x10000, FALSE,
                                            LowPagePriority);
    KT_REQUIRE(Va != NULL);
    KT_CHECK(Va != (PVOID)0x10000);
    MmUnmapLockedPages(Va, Mdl);
    KtFreePages(Mdl);
}

static VOID PriorityFlagsRestrictTheMapping(VOID)
{
    PMDL Mdl = KtAllocatePages(1);
    KT_REQUIRE(Mdl != NULL);
    PVOID Va =
        MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmCached, NULL, FALSE,
                                     HighPagePriority | MdlMappingNoWrite | MdlMappingNoExecute);
    KT_REQUIRE(Va != NULL);
    KT_EQUAL(RefWalk(Va).IsWritable, FALSE);
    KT_EQUAL(KeProbeWrite(Va, 1).Faulted, TRUE);
    KT_EQUAL(KeProbeExecute(Va).Faulted, KeFeatures.Nx);
    MmUnmapLockedPages(Va, Mdl);
    KtFreePages(Mdl);
}

static VOID GuardPtesSurroundTheMapping(VOID)
{
    PMDL Mdl = KtAllocatePages(2);
    ULONG64 Value;
    KT_REQUIRE(Mdl != NULL);
    PUCHAR Va = MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmCached, NULL, FALSE,
                                             NormalPagePriority | MdlMappingWithGuardPtes);
    KT_REQUIRE(Va != NULL);
    KT_EQUAL(KeProbeRead(Va - PAGE_SIZE, &Value).Faulted, TRUE);
    KT_EQUAL(KeProbeRead(Va, &Value).Faulted, FALSE);
    KT_EQUAL(KeProbeRead(Va + 2 * PAGE_SIZE, &Value).Faulted, TRUE);
    MmUnmapLockedPages(Va, Mdl);
    KtFreePages(Mdl);
}

static VOID FailureReturnsNullWhenAskedOrAllowed(VOID)
{
    PMDL Mdl = KtAllocatePages(1);
    KT_REQUIRE(Mdl != NULL);
    MmStartFailures(MM_FAIL_ALL, 0, MAXULONG);
    PVOID Asked = MapMdl(Mdl, MmCached);
    Mdl->MdlFlags |= MDL_MAPPING_CAN_FAIL;
    PVOID Allowed =
        MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmCached, NULL, TRUE, NormalPagePriority);
    PVOID Safe = MmGetSystemAddressForMdlSafe(Mdl, NormalPagePriority);
    KT_CHECK(MmStopFailures() >= 3);
    KT_EQUAL(Asked, NULL);
    KT_EQUAL(Allowed, NULL);
    KT_EQUAL(Safe, NULL);
    KtFreePages(Mdl);
}

static VOID TheObsoleteRoutineMapsCached(VOID)
{
    PMDL Mdl = KtAllocatePages(1);
    KT_REQUIRE(Mdl != NULL);
    PVOID Va = MmMapLockedPages(Mdl, KernelMode);
    KT_REQUIRE(Va != NULL);
    KT_EQUAL(RefWalk(Va).CacheIndex, REF_CACHE_WB);
    MmUnmapLockedPages(Va, Mdl);
    KtFreePages(Mdl);
}

static VOID FreeingAMappedMdlUnmapsIt(VOID)
{
    KT_RETAIL_ONLY();
    PMDL Mdl = KtAllocateGapMdl(2);
    KT_REQUIRE(Mdl != NULL);
    PVOID Va = MapMdl(Mdl, MmNonCached);
    KT_REQUIRE(Va != NULL);
    IoFreeMdl(Mdl);
    KT_EQUAL(RefWalk(Va).Level, 0);
}

static VOID ManyPagesAreMappedInOrder(VOID)
{
    // More than one page table's worth.
    PMDL Mdl = KtAllocatePages(1100);
    KT_REQUIRE(Mdl != NULL);
    PVOID Va = MapMdl(Mdl, MmCached);
    KT_REQUIRE(Va != NULL);
    CheckMapped(Mdl, Va, REF_CACHE_WB);
    MmUnmapLockedPages(Va, Mdl);
    KtFreePages(Mdl);
}

// All that the documents allow up to DISPATCH_LEVEL, in the order of an MDL's life.
static VOID MdlsWorkAtDispatchLevel(VOID)
{
    static UCHAR Buffer[16];
    MM_PHYSICAL_ADDRESS_LIST List = {KtPhysical(KtFindGap(2 * PAGE_SIZE, PAGE_SIZE)),
                                     2 * PAGE_SIZE};
    PMDL Io = NULL;
    KIRQL OldIrql;
    KeRaiseIrql(DISPATCH_LEVEL, &OldIrql);
    KT_EQUAL(MmAllocateMdlForIoSpace(&List, 1, &Io), STATUS_SUCCESS);
    PMDL Described = IoAllocateMdl(Buffer, sizeof(Buffer), FALSE, FALSE, NULL);
    KT_CHECK(Io != NULL && Described != NULL);
    if (Io != NULL && Described != NULL) {
        MmBuildMdlForNonPagedPool(Described);
        KT_EQUAL(MmGetSystemAddressForMdlSafe(Described, NormalPagePriority), Buffer);
        PVOID Va = MmMapLockedPagesSpecifyCache(Io, KernelMode, MmNonCached, NULL, FALSE,
                                                NormalPagePriority);
        KT_CHECK(Va != NULL);
        if (Va != NULL) {
            MmUnmapLockedPages(Va, Io);
        }
        IoFreeMdl(Described);
        IoFreeMdl(Io);
    }
    KT_EQUAL(KeGetCurrentIrql(), DISPATCH_LEVEL);
    KeLowerIrql(OldIrql);
}

static const KT_TEST Tests[] = {
    {"IoAllocateMdl describes any buffer, without looking at it [6.1.1]",
     AllocateMdlDescribesTheBuffer},
    {"IoAllocateMdl refuses zero bytes and more than 4 GiB - 4 KiB [6.1.2, 6.1.3]",
     AllocateMdlRefusesZeroAndTooMuch},
    {"IoAllocateMdl accepts 4 GiB - 4 KiB [6.1.2, 18.15]", AllocateMdlAcceptsTheLargest},
    {"IoAllocateMdl replaces or extends the chain of the IRP [6.1.4, 18.15]",
     AllocateMdlChainsToTheIrp},
    {"IoAllocateMdl makes a secondary buffer the head of an empty chain [6.1.4]",
     ASecondaryBufferMayComeFirst},
    {"IoFreeMdl frees one MDL, not its chain [6.2.1]", FreeMdlLeavesTheChainAlone},
    {"MmBuildMdlForNonPagedPool: flag 0x4 only, the buffer's own address, its frames, no PTE "
     "[6.5.1, 6.5.2, 18.18]",
     NonPagedPoolMdlHasItsOwnAddress},
    {"MmBuildMdlForNonPagedPool marks device memory [6.5.3]", NonPagedMdlOfDeviceMemoryIsMarked},
    {"MmAllocateMdlForIoSpace refuses every illegal entry, wherever it stands [4.4.2, 4.4.6, "
     "4.4.9, 18.8]",
     IllegalEntriesAreRefused},
    {"MmAllocateMdlForIoSpace refuses an empty list [4.4.5]", AnEmptyListIsRefused},
    {"MmAllocateMdlForIoSpace refuses ranges that touch RAM [4.4.3, 18.8]", RamIsRefused},
    {"MmAllocateMdlForIoSpace refuses locked RAM, too [4.4.3]", LockedRamIsRefused},
    {"MmAllocateMdlForIoSpace concatenates ranges in order, also adjacent and equal ones [4.4.1, "
     "18.8]",
     RangesAreConcatenatedInOrder},
    {"MmAllocateMdlForIoSpace returns a locked, unmapped MDL [4.4.8]",
     TheNewMdlIsLockedAndUnmapped},
    {"MmAllocateMdlForIoSpace: 4 GiB - 4 KiB in all succeed, one page more does not [4.4.4, 18.8]",
     TheLargestTotalSucceeds},
    {"MDLs of RAM and of device memory are mapped with every cache type, never executable [6.8.1, "
     "6.8.10, 2.3.3]",
     EveryCacheTypeIsMapped},
    {"the cache type that a device frame has wins over the caller's [6.8.2, 12.2.4]",
     TheTypeThatAFrameHasWins},
    {"a mapped MDL decides the cache type for MmMapIoSpace until it is freed [12.2.1]",
     AMappedMdlDecidesForOthers},
    {"a mapping that failed decides no cache type [12.2.8]", AFailedMappingDecidesNothing},
    {"an uncached MDL reads what MmMapIoSpace reads [18.9]", ReadingThroughMdlAndMappingAgrees},
    {"MappedSystemVa includes the byte offset; unmap takes either address [6.8.1, 6.10.1, 18.19]",
     MappedSystemVaIncludesTheOffset},
    {"an MDL has one mapping at a time [6.8.3]", AnMdlHasOneMappingAtATime},
    {"an MDL that is not locked is not mapped [6.8.4]", UnlockedMdlsAreNotMapped},
    {"illegal cache types, user mode and zero bytes are refused [2.1.2, 6.8.4, 6.8.13]",
     IllegalArgumentsOfMapAreRefused},
    {"RequestedAddress is ignored in kernel mode [6.8.8]", TheRequestedAddressIsIgnored},
    {"MdlMappingNoWrite and MdlMappingNoExecute restrict the mapping [2.3.2, 2.3.3]",
     PriorityFlagsRestrictTheMapping},
    {"MdlMappingWithGuardPtes leaves unmapped pages on both sides [2.3.4]",
     GuardPtesSurroundTheMapping},
    {"a mapping that fails returns NULL, also with MDL_MAPPING_CAN_FAIL [6.8.5, 6.8.7, 6.11.2, "
     "18.19]",
     FailureReturnsNullWhenAskedOrAllowed},
    {"MmMapLockedPages maps cached [6.9.1]", TheObsoleteRoutineMapsCached},
    {"IoFreeMdl unmaps an MDL that is still mapped [6.2.2]", FreeingAMappedMdlUnmapsIt},
    {"1,100 pages are mapped in order", ManyPagesAreMappedInOrder},
    {"an MDL is made, mapped, unmapped and freed at DISPATCH_LEVEL [4.4.10, 6.1.6, 6.5.5, 6.8.11, "
     "6.10.5, 18.28]",
     MdlsWorkAtDispatchLevel},
};

const KT_SUITE KtMdlSuite = {"mdl", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
