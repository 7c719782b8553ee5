// Reserved mappings: everything that can fail fails when the addresses are reserved; mapping into
// them never does.
#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "tests/kernel/reference.h"
#include "tests/kernel/tests.h"

#define TAG 'vseR'

static PVOID Reserve(ULONG PageCount)
{
    return MmAllocateMappingAddress((SIZE_T)PageCount * PAGE_SIZE, TAG);
}

static VOID CheckEmpty(const VOID *Base, ULONG FirstPage, ULONG PageCount)
{
    for (ULONG Page = FirstPage; Page < PageCount; Page += 1) {
        KT_EQUAL(RefWalk(KtAdd(Base, (ULONG64)Page * PAGE_SIZE)).Level, 0);
    }
}

static VOID CheckMapped(const VOID *Base, PMDL Mdl, ULONG CacheIndex)
{
    const ULONG PageCount =
        ADDRESS_AND_SIZE_TO_SPAN_PAGES(MmGetMdlVirtualAddress(Mdl), MmGetMdlByteCount(Mdl));
    for (ULONG Page = 0; Page < PageCount; Page += 1) {
        const REF_WALK Walk = RefWalk(KtAdd(Base, (ULONG64)Page * PAGE_SIZE));
        KT_EQUAL(Walk.Level, 1);
        KT_EQUAL(Walk.PhysicalAddress, KtPageAddress(Mdl, Page));
        KT_EQUAL(Walk.CacheIndex, CacheIndex);
        KT_EQUAL(Walk.IsWritable, TRUE);
        KT_EQUAL(Walk.IsExecutable && KeFeatures.Nx, FALSE);
    }
}

//
// Reserve.
//

static VOID AReservationIsEmptyAndGuarded(VOID)
{
    ULONG64 Value;
    PUCHAR Base = Reserve(10);
    KT_REQUIRE(Base != NULL);
    KT_EQUAL(BYTE_OFFSET(Base), 0);
    CheckEmpty(Base, 0, 10);
    // Tables exist, though: that is what makes mapping safe from failing.
    KT_EQUAL(RefWalk(Base).EndLevel, 1);
    KT_EQUAL(RefWalk(Base + 9 * PAGE_SIZE).EndLevel, 1);
    for (LONG Page = -2; Page <= 10; Page += 1) {
        KtSetContext("page %d", Page);
        KT_EQUAL(KeProbeRead(Base + (LONG64)Page * PAGE_SIZE, &Value).Faulted, TRUE);
        KT_EQUAL(KeProbeWrite(Base + (LONG64)Page * PAGE_SIZE, 0).Faulted, TRUE);
    }
    MmFreeMappingAddress(Base, TAG);
}

static VOID TagZeroIsRefusedTagOneIsNot(VOID)
{
    KT_EQUAL(MmAllocateMappingAddress(PAGE_SIZE, 0), NULL);
    PVOID Base = MmAllocateMappingAddress(PAGE_SIZE, 1);
    KT_REQUIRE(Base != NULL);
    MmFreeMappingAddress(Base, 1);
}

static VOID HugeReservationsAreRefused(VOID)
{
    static const SIZE_T Bytes[] = {1ull << 44, (1ull << 44) + PAGE_SIZE,   1ull << 63,
                                   MAXULONG64, MAXULONG64 - PAGE_SIZE + 1, 1ull << 40};
    for (ULONG Row = 0; Row < ARRAYSIZE(Bytes); Row += 1) {
        KtSetContext("0x%llx bytes", Bytes[Row]);
        PVOID Base = MmAllocateMappingAddress(Bytes[Row], TAG);
        KT_EQUAL(Base, NULL);
    }
}

static VOID BytesAreRoundedUp(VOID)
{
    PMDL Mdl = KtAllocatePages(2);
    KT_REQUIRE(Mdl != NULL);
    PVOID Small = MmAllocateMappingAddress(1, TAG);
    PVOID Large = MmAllocateMappingAddress(PAGE_SIZE + 1, TAG);
    KT_REQUIRE(Small != NULL && Large != NULL);
    KT_EQUAL(MmMapLockedPagesWithReservedMapping(Small, TAG, Mdl, MmCached), NULL);
    KT_EQUAL(MmMapLockedPagesWithReservedMapping(Large, TAG, Mdl, MmCached), Large);
    MmUnmapReservedMapping(Large, TAG, Mdl);
    MmFreeMappingAddress(Small, TAG);
    MmFreeMappingAddress(Large, TAG);
    KtFreePages(Mdl);
}

static VOID ReservationsDoNotOverlap(VOID)
{
    PUCHAR Bases[16];
    for (ULONG Index = 0; Index < ARRAYSIZE(Bases); Index += 1) {
        Bases[Index] = Reserve(Index + 1);
        KT_REQUIRE(Bases[Index] != NULL);
        for (ULONG Other = 0; Other < Index; Other += 1) {
            // Two guard pages in front, one behind.
            KT_CHECK(Bases[Index] + (Index + 2) * PAGE_SIZE <= Bases[Other] - 2 * PAGE_SIZE ||
                     Bases[Other] + (Other + 2) * PAGE_SIZE <= Bases[Index] - 2 * PAGE_SIZE);
        }
    }
    for (ULONG Index = 0; Index < ARRAYSIZE(Bases); Index += 1) {
        MmFreeMappingAddress(Bases[Index], TAG);
    }
}

static VOID FreeTakesAnyAddressInTheFirstPage(VOID)
{
    PUCHAR Base = Reserve(2);
    KT_REQUIRE(Base != NULL);
    MmFreeMappingAddress(Base + 0x7FF, TAG);
}

//
// Map.
//

static VOID SmallerMdlsFitLargerOnesDoNot(VOID)
{
    static const ULONG PageCounts[] = {1, 2, 9, 10, 11, 12, 100};
    PVOID Base = Reserve(10);
    KT_REQUIRE(Base != NULL);
    for (ULONG Row = 0; Row < ARRAYSIZE(PageCounts); Row += 1) {
        const ULONG PageCount = PageCounts[Row];
        KtSetContext("%u pages", PageCount);
        PMDL Mdl = KtAllocatePages(PageCount);
        KT_REQUIRE(Mdl != NULL);
        PVOID Va = MmMapLockedPagesWithReservedMapping(Base, TAG, Mdl, MmCached);
        KT_EQUAL(Va, PageCount <= 10 ? Base : NULL);
        if (Va != NULL) {
            CheckMapped(Base, Mdl, REF_CACHE_WB);
            CheckEmpty(Base, PageCount, 10);
            MmUnmapReservedMapping(Base, TAG, Mdl);
        }
        KT_EQUAL(Mdl->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA, 0);
        CheckEmpty(Base, 0, 10);
        KtFreePages(Mdl);
    }
    MmFreeMappingAddress(Base, TAG);
}

// An MDL over pages of another one that begins inside a page.
static PMDL MakeOffsetMdl(PMDL Pages, ULONG Offset, ULONG Length)
{
    PMDL Mdl = IoAllocateMdl((PVOID)(ULONG_PTR)Offset, Length, FALSE, FALSE, NULL);
    if (Mdl != NULL) {
        RtlCopyMemory(MmGetMdlPfnArray(Mdl), MmGetMdlPfnArray(Pages),
                      MmGetMdlByteCount(Pages) / PAGE_SIZE * 8);
        Mdl->MdlFlags |= MDL_PAGES_LOCKED;
    }
    return Mdl;
}

static VOID TheOffsetIsInTheResultOnly(VOID)
{
    PMDL Pages = KtAllocatePages(2);
    PVOID Base = Reserve(2);
    KT_REQUIRE(Pages != NULL && Base != NULL);
    PMDL Mdl = MakeOffsetMdl(Pages, 0x123, PAGE_SIZE);
    KT_REQUIRE(Mdl != NULL);
    for (ULONG Round = 0; Round < 2; Round += 1) {
        PVOID Va = MmMapLockedPagesWithReservedMapping(Base, TAG, Mdl, MmCached);
        KT_EQUAL(Va, KtAdd(Base, 0x123));
        KT_EQUAL(Mdl->MappedSystemVa, Base);
        KT_CHECK((Mdl->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA) != 0);
        KT_EQUAL(MmGetSystemAddressForMdlSafe(Mdl, NormalPagePriority), Base);
        // Either address undoes it.
        MmUnmapReservedMapping(Round == 0 ? Va : Base, TAG, Mdl);
        KT_EQUAL(Mdl->MdlFlags & (MDL_MAPPED_TO_SYSTEM_VA | MDL_PARTIAL_HAS_BEEN_MAPPED), 0);
    }
    IoFreeMdl(Mdl);
    MmFreeMappingAddress(Base, TAG);
    KtFreePages(Pages);
}

static VOID TheOffsetCanTipThePageCount(VOID)
{
    PMDL Pages = KtAllocatePages(2);
    PVOID Base = Reserve(1);
    KT_REQUIRE(Pages != NULL && Base != NULL);
    PMDL Fits = MakeOffsetMdl(Pages, 1, PAGE_SIZE - 1);
    PMDL Spills = MakeOffsetMdl(Pages, 1, PAGE_SIZE);
    KT_REQUIRE(Fits != NULL && Spills != NULL);
    KT_EQUAL(MmMapLockedPagesWithReservedMapping(Base, TAG, Spills, MmCached), NULL);
    KT_EQUAL(MmMapLockedPagesWithReservedMapping(Base, TAG, Fits, MmCached), KtAdd(Base, 1));
    MmUnmapReservedMapping(Base, TAG, Fits);
    IoFreeMdl(Fits);
    IoFreeMdl(Spills);
    MmFreeMappingAddress(Base, TAG);
    KtFreePages(Pages);
}

static VOID AnUnalignedAddressMeansItsPage(VOID)
{
    KT_RETAIL_ONLY();
    PMDL Mdl = KtAllocatePages(1);
    PVOID Base = Reserve(1);
    KT_REQUIRE(Mdl != NULL && Base != NULL);
    KT_EQUAL(MmMapLockedPagesWithReservedMapping(KtAdd(Base, 4), TAG, Mdl, MmCached), Base);
    CheckMapped(Base, Mdl, REF_CACHE_WB);
    MmUnmapReservedMapping(KtAdd(Base, 4), TAG, Mdl);
    MmFreeMappingAddress(Base, TAG);
    KtFreePages(Mdl);
}

static const struct {
    MEMORY_CACHING_TYPE CacheType;
    ULONG CacheIndex;
} CacheTypes[] = {
    {MmNonCached, REF_CACHE_UC},
    {MmCached, REF_CACHE_WB},
    {MmWriteCombined, REF_CACHE_WC},
};

static VOID FreshPagesGetTheCallersType(VOID)
{
    PVOID Base = Reserve(4);
    KT_REQUIRE(Base != NULL);
    for (ULONG Row = 0; Row < ARRAYSIZE(CacheTypes); Row += 1) {
        PMDL Mdls[] = {KtAllocatePages(4), KtAllocateGapMdl(4)};
        for (ULONG Kind = 0; Kind < ARRAYSIZE(Mdls); Kind += 1) {
            KtSetContext("type %d, %s", CacheTypes[Row].CacheType,
                         Kind == 0 ? "RAM" : "device memory");
            KT_REQUIRE(Mdls[Kind] != NULL);
            KT_EQUAL(MmMapLockedPagesWithReservedMapping(Base, TAG, Mdls[Kind],
                                                         CacheTypes[Row].CacheType),
                     Base);
            CheckMapped(Base, Mdls[Kind], CacheTypes[Row].CacheIndex);
            MmUnmapReservedMapping(Base, TAG, Mdls[Kind]);
        }
        KtFreePages(Mdls[0]);
        IoFreeMdl(Mdls[1]);
    }
    MmFreeMappingAddress(Base, TAG);
}

static VOID PagesWithATypeKeepIt(VOID)
{
    PVOID Base = Reserve(1);
    PMDL Ram = KtAllocatePages(1);
    PMDL Io = KtAllocateGapMdl(1);
    KT_REQUIRE(Base != NULL && Ram != NULL && Io != NULL);
    PVOID RamVa = MmMapIoSpace(KtPhysical(KtPageAddress(Ram, 0)), PAGE_SIZE, MmWriteCombined);
    PVOID IoVa = MmMapIoSpace(KtPhysical(KtPageAddress(Io, 0)), PAGE_SIZE, MmNonCached);
    KT_REQUIRE(RamVa != NULL && IoVa != NULL);
    KT_EQUAL(MmMapLockedPagesWithReservedMapping(Base, TAG, Ram, MmCached), Base);
    CheckMapped(Base, Ram, REF_CACHE_WC);
    MmUnmapReservedMapping(Base, TAG, Ram);
    KT_EQUAL(MmMapLockedPagesWithReservedMapping(Base, TAG, Io, MmCached), Base);
    CheckMapped(Base, Io, REF_CACHE_UC);
    MmUnmapReservedMapping(Base, TAG, Io);
    MmUnmapIoSpace(RamVa, PAGE_SIZE);
    MmUnmapIoSpace(IoVa, PAGE_SIZE);
    KtFreePages(Ram);
    IoFreeMdl(Io);
    MmFreeMappingAddress(Base, TAG);
}

static VOID WrongParametersGiveNull(VOID)
{
    KT_RETAIL_ONLY();
    PVOID Base = Reserve(1);
    PMDL Mapped = KtAllocatePages(1);
    PMDL Unlocked = IoAllocateMdl(NULL, PAGE_SIZE, FALSE, FALSE, NULL);
    PMDL Good = KtAllocatePages(1);
    KT_REQUIRE(Base != NULL && Mapped != NULL && Unlocked != NULL && Good != NULL);
    PVOID Va = MmGetSystemAddressForMdlSafe(Mapped, NormalPagePriority);
    KT_REQUIRE(Va != NULL);
    KT_EQUAL(MmMapLockedPagesWithReservedMapping(Base, TAG, Mapped, MmCached), NULL);
    KT_EQUAL(Mapped->MappedSystemVa, Va);
    KT_EQUAL(MmMapLockedPagesWithReservedMapping(Base, TAG, Unlocked, MmCached), NULL);
    KT_EQUAL(MmMapLockedPagesWithReservedMapping(Base, TAG, Good, MmMaximumCacheType), NULL);
    KT_EQUAL(RefWalk(Base).Level, 0);
    IoFreeMdl(Unlocked);
    KtFreePages(Mapped);
    KtFreePages(Good);
    MmFreeMappingAddress(Base, TAG);
}

static VOID DataGoesThroughTheMapping(VOID)
{
    PMDL Mdl = KtAllocatePages(3);
    PVOID Base = Reserve(3);
    KT_REQUIRE(Mdl != NULL && Base != NULL);
    PULONG64 Va = MmMapLockedPagesWithReservedMapping(Base, TAG, Mdl, MmCached);
    KT_REQUIRE(Va != NULL);
    for (ULONG Page = 0; Page < 3; Page += 1) {
        Va[Page * PAGE_SIZE / sizeof(ULONG64)] = 0x1111 * (Page + 1);
    }
    MmUnmapReservedMapping(Base, TAG, Mdl);
    for (ULONG Page = 0; Page < 3; Page += 1) {
        KT_EQUAL(*(PULONG64)KtDirectMap(KtPageAddress(Mdl, Page)), 0x1111 * (Page + 1));
    }
    ULONG64 Value;
    KT_EQUAL(KeProbeRead(Base, &Value).Faulted, TRUE);
    MmFreeMappingAddress(Base, TAG);
    KtFreePages(Mdl);
}

static VOID FreeingTheMdlUnmapsTheReservation(VOID)
{
    KT_RETAIL_ONLY();
    PMDL Mdl = KtAllocateGapMdl(2);
    PVOID Base = Reserve(2);
    KT_REQUIRE(Mdl != NULL && Base != NULL);
    KT_EQUAL(MmMapLockedPagesWithReservedMapping(Base, TAG, Mdl, MmNonCached), Base);
    IoFreeMdl(Mdl);
    CheckEmpty(Base, 0, 2);
    MmFreeMappingAddress(Base, TAG);
}

//
// Forward progress.
//

static VOID MapAndUnmapStarved(PVOID Base, PMDL Mdl, ULONG CacheRow)
{
    MmStartFailures(MM_FAIL_ALL, 0, MAXULONG);
    PVOID Va = MmMapLockedPagesWithReservedMapping(Base, TAG, Mdl, CacheTypes[CacheRow].CacheType);
    const ULONG64 Probe = RefWalk(Base).PhysicalAddress;
    if (Va != NULL) {
        MmUnmapReservedMapping(Base, TAG, Mdl);
    }
    const ULONG FailedCount = MmStopFailures();
    KT_EQUAL(Va, Base);
    KT_EQUAL(Probe, KtPageAddress(Mdl, 0));
    // Nothing was even asked for.
    KT_EQUAL(FailedCount, 0);
}

static VOID MappingNeedsNothing(VOID)
{
    enum { Pages = 600 }; // more than one page table's worth
    for (ULONG Row = 0; Row < ARRAYSIZE(CacheTypes); Row += 1) {
        KtSetContext("type %d", CacheTypes[Row].CacheType);
        PVOID Base = Reserve(Pages);
        PMDL Ram = KtAllocatePages(Pages);
        PMDL Io = KtAllocateGapMdl(Pages);
        KT_REQUIRE(Base != NULL && Ram != NULL && Io != NULL);
        MapAndUnmapStarved(Base, Ram, Row);
        MapAndUnmapStarved(Base, Io, Row);
        KtFreePages(Ram);
        IoFreeMdl(Io);
        MmFreeMappingAddress(Base, TAG);
    }
}

static VOID AThousandRoundsLeakNothing(VOID)
{
    PVOID Base = Reserve(10);
    PMDL Mdl = KtAllocatePages(10);
    KT_REQUIRE(Base != NULL && Mdl != NULL);
    MM_MEMORY_USE Before;
    MM_MEMORY_USE After;
    MmQueryMemoryUse(&Before);
    BOOLEAN Mapped = TRUE;
    for (ULONG Round = 0; Round < 1000; Round += 1) {
        Mapped = Mapped && MmMapLockedPagesWithReservedMapping(Base, TAG, Mdl, MmCached) == Base;
        MmUnmapReservedMapping(Base, TAG, Mdl);
    }
    MmQueryMemoryUse(&After);
    KT_CHECK(Mapped);
    // Nothing at all changed, not even page tables.
    KT_CHECK(RtlEqualMemory(&Before, &After, sizeof(Before)));
    MmFreeMappingAddress(Base, TAG);
    KtFreePages(Mdl);
}

static VOID MappingWorksAtDispatchLevel(VOID)
{
    PVOID Base = Reserve(1);
    PMDL Mdl = KtAllocatePages(1);
    KT_REQUIRE(Base != NULL && Mdl != NULL);
    KIRQL OldIrql;
    KeRaiseIrql(DISPATCH_LEVEL, &OldIrql);
    PVOID Va = MmMapLockedPagesWithReservedMapping(Base, TAG, Mdl, MmCached);
    if (Va != NULL) {
        MmUnmapReservedMapping(Base, TAG, Mdl);
    }
    KeLowerIrql(OldIrql);
    KT_EQUAL(Va, Base);
    KeRaiseIrql(APC_LEVEL, &OldIrql);
    MmFreeMappingAddress(Base, TAG);
    KeLowerIrql(OldIrql);
    KtFreePages(Mdl);
}

static const KT_TEST Tests[] = {
    {"a reservation is page aligned, empty, with unmapped pages on both sides [5.1.1, 5.1.6, "
     "18.10]",
     AReservationIsEmptyAndGuarded},
    {"tag 0 is refused, tag 1 is not [5.1.4, 18.11]", TagZeroIsRefusedTagOneIsNot},
    {"reservations of 2^32 pages, or of more than there is, are refused [5.1.5]",
     HugeReservationsAreRefused},
    {"bytes are rounded up to whole pages [5.1.1]", BytesAreRoundedUp},
    {"reservations and their guards do not overlap [5.1.6]", ReservationsDoNotOverlap},
    {"MmFreeMappingAddress takes any address in the first page [5.4.1]",
     FreeTakesAnyAddressInTheFirstPage},
    {"MDLs up to the reservation's size fit, larger ones give NULL [5.2.4, 18.10]",
     SmallerMdlsFitLargerOnesDoNot},
    {"the result includes the byte offset, MappedSystemVa does not; either undoes it [5.2.1, "
     "5.2.2, 5.3.1, 18.12]",
     TheOffsetIsInTheResultOnly},
    {"the byte offset counts for the size [5.2.4]", TheOffsetCanTipThePageCount},
    {"an unaligned mapping address means its page [5.2.11]", AnUnalignedAddressMeansItsPage},
    {"pages without a cache type get the caller's [5.2.6]", FreshPagesGetTheCallersType},
    {"pages with a cache type keep it, silently [5.2.6]", PagesWithATypeKeepIt},
    {"an MDL that is mapped or not locked, and an illegal cache type, give NULL [5.2.5]",
     WrongParametersGiveNull},
    {"data goes through the mapping [5.2.1]", DataGoesThroughTheMapping},
    {"IoFreeMdl empties the reservation that its MDL is mapped into [6.2.2]",
     FreeingTheMdlUnmapsTheReservation},
    {"mapping succeeds while every allocation fails, and asks for none [5.2.3]",
     MappingNeedsNothing},
    {"1,000 rounds of map and unmap change nothing [5.3.1, 18.10]", AThousandRoundsLeakNothing},
    {"map and unmap work at DISPATCH_LEVEL, free at APC_LEVEL [5.2.10, 18.28]",
     MappingWorksAtDispatchLevel},
};

const KT_SUITE KtReserveSuite = {"reserve", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
