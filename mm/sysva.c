// System addresses: four regions of the kernel's half that are handed out in pieces, each a bitmap
// of units.
//
//   region            unit     holds
//   system PTEs      32 KiB    mappings of less than a large page, MDL mappings, reservations
//   large mappings    2 MiB    mappings of contiguous frames from one large page up
//   pool              4 KiB    pool blocks of several pages
//   driver images     4 KiB    driver images
//
// A piece is its pages and the guards around them, which stay unmapped, so that running over the
// end faults:
//
//   | leading guards | Va: PageCount pages | guard |
//
// Eight entries are a cache line of their table. Pieces of system PTEs are made of such lines, so that two
// processors that map side by side do not write to the same one.
//
// In the region of large mappings the piece begins where the frames' own alignment puts it: a
// mapping whose first frame lies n pages behind a multiple of 2 MiB (1 GiB) begins n pages behind
// one, too.
//
// The search starts at the lowest unit that may be free, so that the addresses in use, and with
// them the page tables, stay few.
//
// Invariants (checked by MmVerify):
//   V1  UsedCount is the number of set bits, and no clear bit lies below Hint.
//   V2  The pages of every mapping are reserved, and so is the guard behind them.
// Lock: MiSystemVaLock.
#include "mm/mi.h"

#define MI_LARGE_UNIT_LEVEL 2

typedef struct _MI_VA_ZONE {
    ULONG UnitPages; // a power of two
    RTL_BITS Units;
    ULONG64 Hint;
    ULONG64 UsedCount;
} MI_VA_ZONE, *PMI_VA_ZONE;

static KI_LOCK MiSystemVaLock = KI_LOCK_INITIALIZER(MI_RANK_SYSTEM_VA, "MiSystemVaLock");

static MI_VA_ZONE MiZones[MiRegionCount] = {
    [MiRegionSystemPtes] = {.UnitPages = 8},
    [MiRegionLargeSystemPtes] = {.UnitPages = MI_PTES_PER_TABLE},
    [MiRegionPool] = {.UnitPages = 1},
    [MiRegionDriverImages] = {.UnitPages = 1},
};

// A piece in units of its zone.
typedef struct _MI_UNITS {
    ULONG64 First;
    ULONG64 Count;
    ULONG64 PagesBefore; // of the first unit before Va: leading guards, or the frames' own offset
} MI_UNITS;

static ULONG64 MiUnitCount(const MI_VA_ZONE *Zone, ULONG64 PagesBefore, PFN_NUMBER PageCount)
{
    return (PagesBefore + PageCount + 1 + Zone->UnitPages - 1) / Zone->UnitPages;
}

static VOID MiInitializeZone(MI_REGION Region)
{
    PMI_VA_ZONE Zone = &MiZones[Region];
    const ULONG64 UnitCount = MiArchLayout[Region].ByteCount / (Zone->UnitPages << PAGE_SHIFT);
    const PFN_NUMBER BitmapPages = BYTES_TO_PAGES(RTL_BITS_WORD_COUNT(UnitCount) * sizeof(ULONG64));
    const PFN_NUMBER BitmapPfn =
        MiAllocateFrameRun(BitmapPages, 1, (MI_PFN_RANGE){0, MiHighestPfn()}, MiPfnKernel);
    if (BitmapPfn == MI_NO_PFN) {
        MiBugCheck(INSTALL_MORE_MEMORY, BitmapPages, 0, 0, 0, "no memory for the bitmap of %s",
                   MiArchLayout[Region].Name);
    }
    RtlInitializeBits(&Zone->Units, MiFrameToVa(BitmapPfn), UnitCount);
    Zone->Hint = 0;
    Zone->UsedCount = 0;
}

VOID MiInitializeSystemVa(VOID)
{
    MiInitializeZone(MiRegionSystemPtes);
    MiInitializeZone(MiRegionLargeSystemPtes);
    MiInitializeZone(MiRegionPool);
    MiInitializeZone(MiRegionDriverImages);
}

ULONG64 MiUsefulAlignment(PFN_NUMBER PageCount)
{
    ULONG Level = MI_LARGE_UNIT_LEVEL;
    while (MiArchIsLeafAllowed(Level + 1) && PageCount >= MiPagesPerLeaf(Level + 1)) {
        Level += 1;
    }
    return MiPagesPerLeaf(Level);
}

// Takes Count clear units that begin Phase units behind a multiple of Alignment. RTL_NO_BIT: there
// are none.
static ULONG64 MiTakeUnits(PMI_VA_ZONE Zone, ULONG64 Count, ULONG64 Alignment, ULONG64 Phase)
{
    const KIRQL OldIrql = KiAcquireLock(&MiSystemVaLock);
    const ULONG64 First = RtlFindClearRun(&Zone->Units, Count, Alignment, Phase, Zone->Hint);
    if (First != RTL_NO_BIT) {
        RtlSetBits(&Zone->Units, First, Count);
        Zone->UsedCount += Count;
        if (First == Zone->Hint) {
            Zone->Hint = First + Count;
        }
    }
    KiReleaseLock(&MiSystemVaLock, OldIrql);
    return First;
}

ULONG_PTR MiReserveSystemVa(MI_REGION Region, PFN_NUMBER PageCount, PFN_NUMBER FirstPfn,
                            PFN_NUMBER LeadingGuardPages)
{
    PMI_VA_ZONE Zone = &MiZones[Region];
    if (MiMustFail(MM_FAIL_ADDRESSES) || PageCount > Zone->Units.BitCount * Zone->UnitPages) {
        return 0;
    }
    ULONG64 Alignment = 1;
    ULONG64 Phase = 0;
    ULONG64 PagesBefore = LeadingGuardPages;
    if (Region == MiRegionLargeSystemPtes) {
        Alignment = MiUsefulAlignment(PageCount) / Zone->UnitPages;
        Phase = (FirstPfn / Zone->UnitPages) % Alignment;
        PagesBefore = FirstPfn % Zone->UnitPages;
    }
    const ULONG64 First =
        MiTakeUnits(Zone, MiUnitCount(Zone, PagesBefore, PageCount), Alignment, Phase);
    if (First == RTL_NO_BIT) {
        return 0;
    }
    return MiArchLayout[Region].BaseVa + ((First * Zone->UnitPages + PagesBefore) << PAGE_SHIFT);
}

ULONG_PTR MiReserveAlignedSystemVa(PFN_NUMBER PageCount, PFN_NUMBER LeadingGuardPages)
{
    PMI_VA_ZONE Zone = &MiZones[MiRegionSystemPtes];
    if (MiMustFail(MM_FAIL_ADDRESSES) || PageCount > Zone->Units.BitCount * Zone->UnitPages) {
        return 0;
    }
    // The guards fill whole units, the last one below a multiple of the size. The region begins at a
    // multiple of any size that fits.
    const ULONG64 PagesBefore =
        (LeadingGuardPages + Zone->UnitPages - 1) & ~(Zone->UnitPages - 1ull);
    const ULONG64 Alignment = PageCount > Zone->UnitPages ? PageCount / Zone->UnitPages : 1;
    const ULONG64 Phase = (0 - PagesBefore / Zone->UnitPages) & (Alignment - 1);
    const ULONG64 First =
        MiTakeUnits(Zone, MiUnitCount(Zone, PagesBefore, PageCount), Alignment, Phase);
    return First != RTL_NO_BIT ? MiArchLayout[MiRegionSystemPtes].BaseVa +
                                     ((First * Zone->UnitPages + PagesBefore) << PAGE_SHIFT)
                               : 0;
}

ULONG_PTR MiReserveSystemVaAt(MI_REGION Region, ULONG_PTR Va, PFN_NUMBER PageCount,
                              PFN_NUMBER LeadingGuardPages)
{
    PMI_VA_ZONE Zone = &MiZones[Region];
    const ULONG64 Page = ((Va - MiArchLayout[Region].BaseVa) >> PAGE_SHIFT) - LeadingGuardPages;
    const ULONG64 Count = LeadingGuardPages + PageCount + 1;
    if (MiMustFail(MM_FAIL_ADDRESSES) || Page >= Zone->Units.BitCount ||
        Count > Zone->Units.BitCount - Page) {
        return 0;
    }
    const KIRQL OldIrql = KiAcquireLock(&MiSystemVaLock);
    const BOOLEAN IsFree = RtlFindClearRun(&Zone->Units, Count, 1, 0, Page) == Page;
    if (IsFree) {
        RtlSetBits(&Zone->Units, Page, Count);
        Zone->UsedCount += Count;
    }
    KiReleaseLock(&MiSystemVaLock, OldIrql);
    return IsFree ? Va : 0;
}

// The units that MiReserveSystemVa took for a piece.
static MI_UNITS MiUnitsOf(MI_REGION Region, ULONG_PTR Va, PFN_NUMBER PageCount,
                          PFN_NUMBER LeadingGuardPages)
{
    const MI_VA_ZONE *Zone = &MiZones[Region];
    const ULONG64 FirstPage =
        ((Va - MiArchLayout[Region].BaseVa) >> PAGE_SHIFT) - LeadingGuardPages;
    const ULONG64 PagesBefore = LeadingGuardPages + FirstPage % Zone->UnitPages;
    return (MI_UNITS){FirstPage / Zone->UnitPages, MiUnitCount(Zone, PagesBefore, PageCount),
                      PagesBefore};
}

VOID MiReleaseSystemVa(MI_REGION Region, ULONG_PTR Va, PFN_NUMBER PageCount,
                       PFN_NUMBER LeadingGuardPages)
{
    PMI_VA_ZONE Zone = &MiZones[Region];
    const MI_UNITS Units = MiUnitsOf(Region, Va, PageCount, LeadingGuardPages);
    const KIRQL OldIrql = KiAcquireLock(&MiSystemVaLock);
    NT_ASSERT_INVARIANT("V2", RtlAreBitsSet(&Zone->Units, Units.First, Units.Count));
    RtlClearBits(&Zone->Units, Units.First, Units.Count);
    Zone->UsedCount -= Units.Count;
    if (Units.First < Zone->Hint) {
        Zone->Hint = Units.First;
    }
    KiReleaseLock(&MiSystemVaLock, OldIrql);
}

BOOLEAN MiIsSystemVaReserved(MI_REGION Region, ULONG_PTR Va, PFN_NUMBER PageCount)
{
    const MI_UNITS Units = MiUnitsOf(Region, Va, PageCount, 0);
    return RtlAreBitsSet(&MiZones[Region].Units, Units.First, Units.Count);
}

BOOLEAN MiIsZoneConsistent(MI_REGION Region)
{
    const MI_VA_ZONE *Zone = &MiZones[Region];
    return RtlCountSetBits(&Zone->Units) == Zone->UsedCount &&
           RtlAreBitsSet(&Zone->Units, 0, Zone->Hint);
}

VOID MiQuerySystemVa(MI_REGION Region, ULONG64 *UsedPageCount, ULONG64 *TotalPageCount)
{
    const MI_VA_ZONE *Zone = &MiZones[Region];
    *UsedPageCount = Zone->UsedCount * Zone->UnitPages;
    *TotalPageCount = Zone->Units.BitCount * Zone->UnitPages;
}
