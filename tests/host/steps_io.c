// Steps of I/O mappings: device memory, and RAM that somebody has locked.
#include "tests/host/steps.h"

static const struct {
    ULONG Protect;
    MI_ACCESS Access;
} Protections[] = {
    {PAGE_READONLY, MiAccessRead},
    {PAGE_READWRITE, MiAccessReadWrite},
    {PAGE_EXECUTE, MiAccessExecute},
    {PAGE_EXECUTE_READ, MiAccessExecuteRead},
    {PAGE_EXECUTE_READWRITE, MiAccessExecuteReadWrite},
};

//
// I/O mappings.
//

static PVOID CallMapIoSpace(ULONG64 Base, SIZE_T ByteCount, MI_CACHE_TYPE CacheType,
                            MI_ACCESS *Access)
{
    const ULONG Row = (ULONG)Below(ARRAYSIZE(Protections));
    if (OneIn(2)) {
        *Access = Protections[Row].Access;
        return MmMapIoSpaceEx(Pa(Base), ByteCount,
                              Protections[Row].Protect | ProtectModifierOf(CacheType));
    }
    *Access = MiAccessReadWrite;
    return OneIn(4) ? MmMapVideoDisplay(Pa(Base), ByteCount, CachingOf(CacheType))
                    : MmMapIoSpace(Pa(Base), ByteCount, CachingOf(CacheType));
}

static VOID RecordIo(IO_SLOT *Io, PVOID Address, ULONG64 Base, SIZE_T ByteCount, MI_ACCESS Access)
{
    const MI_PFN_RANGE Range = RangeOf(Base, ByteCount);
    CHECK_EQUAL(BYTE_OFFSET(Address), BYTE_OFFSET(Base));
    Io->Address = Address;
    Io->ByteCount = ByteCount;
    Io->Range = Range;
    Io->PoolSlot = POOL_SLOTS;
    Io->Mapping = (MODEL_MAPPING){.Va = (ULONG_PTR)PAGE_ALIGN(Address),
                                  .PageCount = MiRangePageCount(Range),
                                  .MappedCount = MiRangePageCount(Range),
                                  .FirstPfn = Range.FirstPfn,
                                  .Access = Access};
    ModelAddMapping(&Io->Mapping);
    CheckEnds(&Io->Mapping);
}

static VOID MapIoBytes(IO_SLOT *Io, ULONG64 Base, SIZE_T ByteCount, MI_CACHE_TYPE CacheType)
{
    MI_ACCESS Access;
    Note("map I/O", Base, ByteCount, CacheType);
    MaybeStartFailures();
    const PVOID Address = CallMapIoSpace(Base, ByteCount, CacheType, &Access);
    const BOOLEAN MayFail = StopFailures(Address == NULL);
    if (Address == NULL && MayFail) {
        return;
    }
    const BOOLEAN IsHeld = ModelHold(RangeOf(Base, ByteCount), CacheType);
    CHECK_EQUAL(Address != NULL, IsHeld);
    if (Address != NULL) {
        Io->IsRam = FALSE;
        RecordIo(Io, Address, Base, ByteCount, Access);
    }
}

static VOID MapIo(IO_SLOT *Io)
{
    ULONG64 Base;
    SIZE_T ByteCount;
    ChooseIoBytes(&Base, &ByteCount);
    MapIoBytes(Io, Base, ByteCount, ChooseCacheType(Base >> PAGE_SHIFT));
}

// Pages of an MDL or of a block, or a page of pool: RAM that does not move.
static VOID MapRam(IO_SLOT *Io, PFN_NUMBER FirstPfn, PFN_NUMBER PageCount, ULONG PoolSlot)
{
    MI_ACCESS Access;
    const MI_CACHE_TYPE CacheType = (MI_CACHE_TYPE)Below(MiCacheTypeCount);
    Note("map RAM", FirstPfn, PageCount, CacheType);
    MaybeStartFailures();
    const PVOID Address = CallMapIoSpace(PAGES(FirstPfn), PAGES(PageCount), CacheType, &Access);
    const BOOLEAN MayFail = StopFailures(Address == NULL);
    CHECK(Address != NULL || MayFail);
    if (Address == NULL) {
        return;
    }
    for (PFN_NUMBER Page = 0; Page < PageCount; Page += 1) {
        (VOID) ModelDecideFrame(FirstPfn + Page, CacheType);
    }
    Io->IsRam = TRUE;
    RecordIo(Io, Address, PAGES(FirstPfn), PAGES(PageCount), Access);
    Io->PoolSlot = PoolSlot;
}

static VOID MapMdlFramesAsIo(IO_SLOT *Io)
{
    const MDL_SLOT *Slot = &Mdls[CHOOSE(Mdls)];
    if (Slot->Mdl == NULL || Slot->Kind != MdlPages) {
        return;
    }
    const PFN_NUMBER First = Below(Slot->PageCount);
    PFN_NUMBER Count = 1;
    while (First + Count < Slot->PageCount &&
           Slot->Pfns[First + Count] == Slot->Pfns[First] + Count && !OneIn(4)) {
        Count += 1;
    }
    MapRam(Io, Slot->Pfns[First], Count, POOL_SLOTS);
}

static VOID MapPoolAsIo(IO_SLOT *Io)
{
    const ULONG Index = CHOOSE(Pools);
    if (Pools[Index].Block != NULL) {
        MapRam(Io, (ULONG64)MmGetPhysicalAddress(Pools[Index].Block).QuadPart >> PAGE_SHIFT, 1,
               Index);
        Pools[Index].UserCount += Io->Address != NULL;
    }
}

static VOID MapBlockAsIo(IO_SLOT *Io)
{
    PFN_NUMBER FirstPfn;
    PFN_NUMBER PageCount;
    if (ChooseBlockPages(&FirstPfn, &PageCount)) {
        MapRam(Io, FirstPfn, PageCount, POOL_SLOTS);
    }
}

static VOID UnmapIo(IO_SLOT *Io)
{
    Note("unmap I/O", (ULONG_PTR)Io->Address, Io->ByteCount, 0);
    if (OneIn(8)) {
        MmUnmapVideoDisplay(Io->Address, Io->ByteCount);
    } else {
        MmUnmapIoSpace(Io->Address, Io->ByteCount);
    }
    ModelRemoveMapping(&Io->Mapping);
    if (!Io->IsRam) {
        ModelRelease(Io->Range);
    }
    if (Io->PoolSlot != POOL_SLOTS) {
        Pools[Io->PoolSlot].UserCount -= 1;
    }
    CheckGone(&Io->Mapping);
    Io->Address = NULL;
}

VOID StepIo(VOID)
{
    IO_SLOT *Io = &Ios[CHOOSE(Ios)];
    if (Io->Address != NULL) {
        UnmapIo(Io);
    } else if (OneIn(4)) {
        MapMdlFramesAsIo(Io);
    } else if (OneIn(6)) {
        MapPoolAsIo(Io);
    } else if (OneIn(8)) {
        MapBlockAsIo(Io);
    } else {
        MapIo(Io);
    }
}

//
// Ranges that are mapped again and again, of all sizes of leaves, one in the other, beside MDLs and small
// mappings of the same frames: what was given back lies about until somebody else asks.
//

static const IO_WINDOW Ranges[] = {
    {0, 512},       {0, 1024},    {512, 512},  {100, 700},       {1024, 1536},
    {2048, 513},    {0, 4096},    {3000, 600}, {3072, 512},      {3, 1},
    {600, 2},       {2560, 200},  {1100, 300}, {262144, 262144}, {262144, 512},
    {262000, 1200}, {0x80000, 1}, {511, 2},    {262143, 262146},
};

static MI_CACHE_TYPE ChooseRangeType(MI_CACHE_TYPE Last)
{
    return OneIn(3) ? (MI_CACHE_TYPE)Below(MiCacheTypeCount) : Last;
}

VOID StepRange(VOID)
{
    IO_SLOT *Io = &Ios[CHOOSE(Ios)];
    const IO_WINDOW *Range = &Ranges[CHOOSE(Ranges)];
    MI_CACHE_TYPE CacheType = ChooseRangeType(MiCacheUncached);
    for (ULONG64 Times = 1 + Below(4); Times > 0 && Io->Address == NULL; Times -= 1) {
        if (Range->PageCount > CROWDED_PAGES && !OneIn(64)) {
            Range = &Ranges[0]; // 1 GiB takes the model its time
        }
        MapIoBytes(Io, FAKE_IO_HIGH + PAGES(Range->Base), PAGES(Range->PageCount), CacheType);
        if (Io->Address != NULL && (Times > 1 || OneIn(2))) {
            UnmapIo(Io);
        }
        Range = OneIn(3) ? &Ranges[CHOOSE(Ranges)] : Range;
        CacheType = ChooseRangeType(CacheType);
    }
}

VOID FinishIo(VOID)
{
    for (ULONG Index = 0; Index < IO_SLOTS; Index += 1) {
        if (Ios[Index].Address != NULL) {
            UnmapIo(&Ios[Index]);
        }
    }
}
