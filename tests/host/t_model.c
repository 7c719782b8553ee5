// Random sequences of everything that mm offers, right and wrong calls, against the model.
//
//   host-fast --operations=10000000 --seed=1 model
//
// A step chooses an operation, works out from the model what must happen, does it, and compares:
// the result, the pages at both ends and somewhere between. Every few thousand steps everything is
// compared: all pages, all frames, all counts, and MmVerify. A failure prints the seed, the step
// and the last operations; the same seed gives the same steps.
#include "tests/host/model.h"
#include "tests/host/random.h"

#define IO_SLOTS 40u
#define MDL_SLOTS 40u
#define RESERVATION_SLOTS 20u
#define POOL_SLOTS 64u
#define CLAIM_SLOTS 16u
#define MAXIMUM_MDL_PAGES 48u
#define STEPS_BETWEEN_CHECKS 4096
#define LOG_LINES 24u

#define TAG_A 0x41424344u
#define TAG_B 0x61626364u

typedef struct _IO_SLOT {
    PVOID Address; // NULL: free
    SIZE_T ByteCount;
    MI_PFN_RANGE Range;
    BOOLEAN IsRam;
    ULONG PoolSlot; // whose memory is mapped, or POOL_SLOTS
    MODEL_MAPPING Mapping;
} IO_SLOT;

typedef enum _MDL_KIND { MdlIoSpace, MdlPages, MdlHandMade } MDL_KIND;

typedef struct _MDL_SLOT {
    PMDL Mdl; // NULL: free
    MDL_KIND Kind;
    PFN_NUMBER PageCount;
    PFN_NUMBER Pfns[MAXIMUM_MDL_PAGES];
    PVOID Address;     // of its own mapping, or NULL
    ULONG Reservation; // it is mapped into, or RESERVATION_SLOTS
    ULONG Source;      // hand-made: whose frames it describes
    ULONG UserCount;   // hand-made MDLs and I/O mappings that use its frames
    MODEL_MAPPING Mapping;
} MDL_SLOT;

typedef struct _RESERVATION_SLOT {
    PVOID Va; // NULL: free
    ULONG Tag;
    ULONG Mdl; // slot, or MDL_SLOTS
    MODEL_MAPPING Mapping;
} RESERVATION_SLOT;

typedef struct _POOL_SLOT {
    PUCHAR Block; // NULL: free
    SIZE_T ByteCount;
    ULONG Tag;
    UCHAR Fill;
    ULONG UserCount;
} POOL_SLOT;

typedef struct _CLAIM_SLOT {
    PMM_CLAIM Claim; // NULL: free
    MI_PFN_RANGE Range;
} CLAIM_SLOT;

static IO_SLOT Ios[IO_SLOTS];
static MDL_SLOT Mdls[MDL_SLOTS];
static RESERVATION_SLOT Reservations[RESERVATION_SLOTS];
static POOL_SLOT Pools[POOL_SLOTS];
static CLAIM_SLOT Claims[CLAIM_SLOTS];
static MM_MEMORY_USE UseAtStart;

static RANDOM Random;
static ULONG64 Step;
static BOOLEAN IsNoted; // this step called mm: some find nothing to do
static ULONG64 Seed;
static struct {
    ULONG64 Step;
    const CHAR *Operation;
    ULONG64 A;
    ULONG64 B;
    ULONG64 C;
} Log[LOG_LINES];

static VOID Note(const CHAR *Operation, ULONG64 A, ULONG64 B, ULONG64 C)
{
    Log[Step % LOG_LINES].Step = Step;
    Log[Step % LOG_LINES].Operation = Operation;
    Log[Step % LOG_LINES].A = A;
    Log[Step % LOG_LINES].B = B;
    Log[Step % LOG_LINES].C = C;
    IsNoted = TRUE;
}

static VOID Explain(VOID)
{
    printf("    # seed %llu, step %llu; the last operations:\n", Seed, Step);
    for (ULONG64 Line = Step > LOG_LINES ? Step - LOG_LINES + 1 : 0; Line <= Step; Line += 1) {
        const ULONG Index = Line % LOG_LINES;
        if (Log[Index].Step == Line && Log[Index].Operation != NULL) {
            printf("    #   %llu %s 0x%llx 0x%llx 0x%llx\n", Line, Log[Index].Operation,
                   Log[Index].A, Log[Index].B, Log[Index].C);
        }
    }
}

static ULONG64 Below(ULONG64 Limit)
{
    return RandomBelow(&Random, Limit);
}

static BOOLEAN OneIn(ULONG64 Count)
{
    return RandomOneIn(&Random, Count);
}

//
// Failures on purpose.
//

static MM_MEMORY_USE UseBefore;
static BOOLEAN AreFailuresOn;

static VOID MaybeStartFailures(VOID)
{
    AreFailuresOn = OneIn(12);
    if (AreFailuresOn) {
        MmQueryMemoryUse(&UseBefore);
        MmStartFailures(1 + (ULONG)Below(MM_FAIL_ALL), (ULONG)Below(4), OneIn(4) ? MAXULONG : 1);
    }
}

// TRUE: an allocation of the last call was made to fail. Then the call, when it refused, must have
// changed nothing.
static BOOLEAN StopFailures(BOOLEAN IsRefused)
{
    const BOOLEAN HasFailed = AreFailuresOn && MmStopFailures() != 0;
    if (HasFailed && IsRefused) {
        HostCheckSameUse(&UseBefore, "a call that failed for want of memory");
    }
    return HasFailed;
}

//
// What the operations choose from.
//

static const struct {
    ULONG64 Base;
    PFN_NUMBER PageCount;
} Windows[] = {
    {FAKE_IO_REGISTERS, 16}, {FAKE_IO_LOW, 96},        {FAKE_ECAM, 24},
    {FAKE_ACPI, 16},         {FAKE_IO_HIGH, 1u << 20},
};

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

static const struct {
    ULONG Modifier;
    MEMORY_CACHING_TYPE Caching;
    MEMORY_CACHING_TYPE OtherCaching;
} CacheTypes[] = {
    [MiCacheWriteBack] = {0, MmCached, MmHardwareCoherentCached},
    [MiCacheWriteCombined] = {PAGE_WRITECOMBINE, MmWriteCombined, MmUSWCCached},
    [MiCacheUncached] = {PAGE_NOCACHE, MmNonCached, MmNonCachedUnordered},
};

// Mostly the type that this part of I/O space usually has, so that conflicts are there, but not the
// rule.
static MI_CACHE_TYPE ChooseCacheType(PFN_NUMBER Pfn)
{
    return (MI_CACHE_TYPE)(OneIn(5) ? Below(MiCacheTypeCount) : (Pfn >> 4) % MiCacheTypeCount);
}

static MEMORY_CACHING_TYPE CachingOf(MI_CACHE_TYPE CacheType)
{
    return OneIn(2) ? CacheTypes[CacheType].Caching : CacheTypes[CacheType].OtherCaching;
}

// A range of I/O space: a few pages, now and then large leaves.
static VOID ChooseIoBytes(ULONG64 *Base, SIZE_T *ByteCount)
{
    const ULONG Window = (ULONG)Below(ARRAYSIZE(Windows));
    if (Window == ARRAYSIZE(Windows) - 1 && OneIn(2)) {
        *Base = Windows[Window].Base +
                PAGES(Below(Windows[Window].PageCount / 512) * 512 + (OneIn(3) ? Below(512) : 0));
        *ByteCount = PAGES(OneIn(40) ? 262144 : 512 + Below(1200));
    } else {
        *Base = Windows[Window].Base + PAGES(Below(Windows[Window].PageCount));
        *ByteCount = 1 + Below(OneIn(3) ? PAGE_SIZE : PAGES(12));
    }
    *Base += OneIn(2) ? Below(PAGE_SIZE) : 0;
    // Behind the ACPI tables and the ECAM lies other memory.
    const ULONG64 Room = Windows[Window].Base + PAGES(Windows[Window].PageCount) - *Base;
    *ByteCount = *ByteCount < Room ? *ByteCount : Room;
}

static MI_PFN_RANGE RangeOf(ULONG64 Base, SIZE_T ByteCount)
{
    return (MI_PFN_RANGE){Base >> PAGE_SHIFT, (Base + ByteCount - 1) >> PAGE_SHIFT};
}

// A random slot of an array whose first member says whether it is used.
#define CHOOSE(Slots) ((ULONG)Below(ARRAYSIZE(Slots)))

static VOID CheckEnds(const MODEL_MAPPING *Mapping)
{
    ModelCheckPage(Mapping, 0);
    ModelCheckPage(Mapping, Mapping->MappedCount - 1);
    ModelCheckPage(Mapping, Below(Mapping->MappedCount));
}

static VOID CheckGone(const MODEL_MAPPING *Mapping)
{
    ModelCheckUnmapped(Mapping->Va);
    ModelCheckUnmapped(Mapping->Va + PAGES(Mapping->PageCount - 1));
    ModelCheckUnmapped(Mapping->Va + PAGES(Below(Mapping->PageCount)));
}

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
                              Protections[Row].Protect | CacheTypes[CacheType].Modifier);
    }
    *Access = MiAccessReadWrite;
    return MmMapIoSpace(Pa(Base), ByteCount, CachingOf(CacheType));
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

static VOID MapIo(IO_SLOT *Io)
{
    ULONG64 Base;
    SIZE_T ByteCount;
    MI_ACCESS Access;
    ChooseIoBytes(&Base, &ByteCount);
    const MI_CACHE_TYPE CacheType = ChooseCacheType(Base >> PAGE_SHIFT);
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

// Pages of an MDL, or a page of pool: RAM that does not move.
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

static VOID UnmapIo(IO_SLOT *Io)
{
    Note("unmap I/O", (ULONG_PTR)Io->Address, Io->ByteCount, 0);
    MmUnmapIoSpace(Io->Address, Io->ByteCount);
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

static VOID DoIo(VOID)
{
    IO_SLOT *Io = &Ios[CHOOSE(Ios)];
    if (Io->Address != NULL) {
        UnmapIo(Io);
    } else if (OneIn(4)) {
        MapMdlFramesAsIo(Io);
    } else if (OneIn(6)) {
        MapPoolAsIo(Io);
    } else {
        MapIo(Io);
    }
}

//
// MDLs.
//

static VOID RecordMdl(MDL_SLOT *Slot, PMDL Mdl, MDL_KIND Kind)
{
    Slot->Mdl = Mdl;
    Slot->Kind = Kind;
    Slot->PageCount = MiMdlPageCount(Mdl);
    Slot->Address = NULL;
    Slot->Reservation = RESERVATION_SLOTS;
    Slot->UserCount = 0;
    CHECK(Slot->PageCount > 0 && Slot->PageCount <= MAXIMUM_MDL_PAGES);
    memcpy(Slot->Pfns, MmGetMdlPfnArray(Mdl), Slot->PageCount * sizeof(PFN_NUMBER));
}

static VOID AllocateIoMdl(MDL_SLOT *Slot)
{
    MM_PHYSICAL_ADDRESS_LIST List[4];
    const ULONG EntryCount = 1 + (ULONG)Below(ARRAYSIZE(List));
    PFN_NUMBER Expected[MAXIMUM_MDL_PAGES];
    PFN_NUMBER PageCount = 0;
    for (ULONG Entry = 0; Entry < EntryCount; Entry += 1) {
        const ULONG Window = (ULONG)Below(ARRAYSIZE(Windows));
        const PFN_NUMBER Room = Windows[Window].PageCount < 4096 ? Windows[Window].PageCount : 4096;
        const PFN_NUMBER First = Below(Room - 12);
        const PFN_NUMBER Count = 1 + Below(12);
        List[Entry] =
            (MM_PHYSICAL_ADDRESS_LIST){Pa(Windows[Window].Base + PAGES(First)), PAGES(Count)};
        for (PFN_NUMBER Page = 0; Page < Count; Page += 1) {
            Expected[PageCount++] = (Windows[Window].Base >> PAGE_SHIFT) + First + Page;
        }
    }
    Note("MDL of I/O", List[0].PhysicalAddress.QuadPart, EntryCount, PageCount);
    PMDL Mdl;
    MaybeStartFailures();
    const NTSTATUS Status = MmAllocateMdlForIoSpace(List, EntryCount, &Mdl);
    const BOOLEAN MayFail = StopFailures(!NT_SUCCESS(Status));
    CHECK_EQUAL(NT_SUCCESS(Status), Mdl != NULL);
    if (!NT_SUCCESS(Status)) {
        CHECK(MayFail && Status == STATUS_INSUFFICIENT_RESOURCES);
        return;
    }
    RecordMdl(Slot, Mdl, MdlIoSpace);
    CHECK_EQUAL(Slot->PageCount, PageCount);
    CHECK(memcmp(Slot->Pfns, Expected, PageCount * sizeof(PFN_NUMBER)) == 0);
    ModelHoldFrames(Slot->Pfns, PageCount);
}

static VOID CheckPagesMdl(const MDL_SLOT *Slot, ULONG64 Low, ULONG64 High, BOOLEAN IsZeroed)
{
    CHECK(MmGetMdlVirtualAddress(Slot->Mdl) == NULL && BYTE_OFFSET(Slot->Mdl->ByteCount) == 0);
    for (PFN_NUMBER Page = 0; Page < Slot->PageCount; Page += 1) {
        const PFN_NUMBER Pfn = Slot->Pfns[Page];
        CHECK(PAGES(Pfn) >= Low && PAGES(Pfn) + PAGE_SIZE - 1 <= High);
        ModelOwnFrame(Pfn);
        PUCHAR Bytes = FakeFrame(Pfn);
        if (IsZeroed) {
            CHECK(Bytes[0] == 0 && Bytes[Step % PAGE_SIZE] == 0 && Bytes[PAGE_SIZE - 1] == 0);
        }
        Bytes[Step % PAGE_SIZE] = 0xEE;
    }
}

static VOID AllocatePagesMdl(MDL_SLOT *Slot)
{
    const PFN_NUMBER PageCount = 1 + Below(OneIn(6) ? MAXIMUM_MDL_PAGES : 6);
    const BOOLEAN IsContiguous = OneIn(4);
    const ULONG64 Low = OneIn(3) ? Below(0x3000000) : 0;
    const ULONG64 High = OneIn(3) ? Low + PAGES(PageCount) + Below(0x1000000) : MAXULONG64;
    const ULONG Flags = (IsContiguous ? MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS : 0) |
                        (OneIn(4) ? MM_DONT_ZERO_ALLOCATION : 0) |
                        (OneIn(4) ? MM_ALLOCATE_FULLY_REQUIRED : 0);
    Note("MDL of pages", Low, High, PageCount);
    MaybeStartFailures();
    const PMDL Mdl =
        MmAllocatePagesForMdlEx(Pa(Low), Pa(High), Pa(0), PAGES(PageCount), MmCached, Flags);
    const BOOLEAN MayFail = StopFailures(Mdl == NULL);
    if (Mdl == NULL) {
        CHECK(MayFail || High != MAXULONG64);
        return;
    }
    RecordMdl(Slot, Mdl, MdlPages);
    CHECK(Slot->PageCount == PageCount ||
          (Slot->PageCount < PageCount && (Flags & MM_ALLOCATE_FULLY_REQUIRED) == 0 &&
           !IsContiguous && (MayFail || High != MAXULONG64)));
    CheckPagesMdl(Slot, Low, High, (Flags & MM_DONT_ZERO_ALLOCATION) == 0);
    for (PFN_NUMBER Page = 1; IsContiguous && Page < PageCount; Page += 1) {
        CHECK_EQUAL(Slot->Pfns[Page], Slot->Pfns[0] + Page);
    }
}

// As drivers do: an MDL with a byte offset, filled by hand with frames that somebody else has
// locked.
static VOID MakeMdlByHand(MDL_SLOT *Slot)
{
    const ULONG Source = CHOOSE(Mdls);
    if (Mdls[Source].Mdl == NULL || Mdls[Source].Kind != MdlPages) {
        return;
    }
    const ULONG Offset = (ULONG)Below(PAGE_SIZE);
    const ULONG Room = (ULONG)PAGES(Mdls[Source].PageCount) - Offset;
    const ULONG ByteCount = 1 + (ULONG)Below(Room);
    Note("MDL by hand", Source, Offset, ByteCount);
    MaybeStartFailures();
    const PMDL Mdl = IoAllocateMdl((PVOID)(0x5000ull + Offset), ByteCount, FALSE, FALSE, NULL);
    CHECK(StopFailures(Mdl == NULL) || Mdl != NULL);
    if (Mdl == NULL) {
        return;
    }
    memcpy(MmGetMdlPfnArray(Mdl), Mdls[Source].Pfns, MiMdlPageCount(Mdl) * sizeof(PFN_NUMBER));
    Mdl->MdlFlags |= MDL_PAGES_LOCKED;
    RecordMdl(Slot, Mdl, MdlHandMade);
    Slot->Source = Source;
    Mdls[Source].UserCount += 1;
}

// What mapping an MDL decides.
static VOID DecideMdl(const MDL_SLOT *Slot, MI_CACHE_TYPE CacheType)
{
    for (PFN_NUMBER Page = 0; Page < Slot->PageCount; Page += 1) {
        (VOID)(Slot->Kind == MdlIoSpace ? ModelDecideIoFrame(Slot->Pfns[Page], CacheType)
                                        : ModelDecideFrame(Slot->Pfns[Page], CacheType));
    }
}

static VOID MapMdl(MDL_SLOT *Slot)
{
    const MI_CACHE_TYPE CacheType = ChooseCacheType(Slot->Pfns[0]);
    const ULONG Flags = (OneIn(4) ? MdlMappingNoWrite : 0) |
                        (OneIn(4) ? MdlMappingWithGuardPtes : 0) |
                        (OneIn(4) ? MdlMappingNoExecute : 0);
    Note("map MDL", (ULONG_PTR)Slot->Mdl, Slot->PageCount, CacheType);
    MaybeStartFailures();
    const PVOID Address = MmMapLockedPagesSpecifyCache(Slot->Mdl, KernelMode, CachingOf(CacheType),
                                                       NULL, FALSE, NormalPagePriority | Flags);
    const BOOLEAN MayFail = StopFailures(Address == NULL);
    CHECK(Address != NULL || MayFail);
    if (Address == NULL) {
        return;
    }
    DecideMdl(Slot, CacheType);
    if (Slot->Kind == MdlIoSpace) {
        ModelHoldFrames(Slot->Pfns, Slot->PageCount); // the mapping's own holds
    }
    CHECK_EQUAL(BYTE_OFFSET(Address), Slot->Mdl->ByteOffset);
    CHECK(Slot->Mdl->MappedSystemVa == Address &&
          (Slot->Mdl->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA) != 0);
    Slot->Address = Address;
    Slot->Mapping = (MODEL_MAPPING){.Va = (ULONG_PTR)PAGE_ALIGN(Address),
                                    .PageCount = Slot->PageCount,
                                    .MappedCount = Slot->PageCount,
                                    .Pfns = Slot->Pfns,
                                    .GuardsBefore = (Flags & MdlMappingWithGuardPtes) != 0,
                                    .Access = (Flags & MdlMappingNoWrite) != 0 ? MiAccessRead
                                                                               : MiAccessReadWrite};
    ModelAddMapping(&Slot->Mapping);
    CheckEnds(&Slot->Mapping);
}

// The model's side of an unmap, whichever routine did it.
static VOID ForgetMdlMapping(MDL_SLOT *Slot)
{
    if (Slot->Address != NULL) {
        ModelRemoveMapping(&Slot->Mapping);
        if (Slot->Kind == MdlIoSpace) {
            ModelReleaseFrames(Slot->Pfns, Slot->PageCount);
        }
        CheckGone(&Slot->Mapping);
        Slot->Address = NULL;
    }
    if (Slot->Reservation != RESERVATION_SLOTS) {
        RESERVATION_SLOT *Reservation = &Reservations[Slot->Reservation];
        ModelRemoveMapping(&Reservation->Mapping);
        Reservation->Mapping.MappedCount = 0;
        ModelAddMapping(&Reservation->Mapping);
        CheckGone(&Reservation->Mapping);
        Reservation->Mdl = MDL_SLOTS;
        Slot->Reservation = RESERVATION_SLOTS;
    }
}

static VOID UnmapMdl(MDL_SLOT *Slot)
{
    Note("unmap MDL", (ULONG_PTR)Slot->Mdl, (ULONG_PTR)Slot->Address, 0);
    MmUnmapLockedPages(OneIn(4) ? PAGE_ALIGN(Slot->Address) : Slot->Address, Slot->Mdl);
    CHECK((Slot->Mdl->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA) == 0);
    ForgetMdlMapping(Slot);
}

// Whether others still map the frames of an MDL of pages.
static BOOLEAN IsUsedByOthers(const MDL_SLOT *Slot)
{
    const BOOLEAN IsMapped = Slot->Address != NULL || Slot->Reservation != RESERVATION_SLOTS;
    for (PFN_NUMBER Page = 0; Page < Slot->PageCount; Page += 1) {
        if (ModelFrames[Slot->Pfns[Page]].MapCount != IsMapped) {
            return TRUE;
        }
    }
    return Slot->UserCount != 0;
}

static VOID FreeMdl(MDL_SLOT *Slot)
{
    if (Slot->Kind == MdlPages && IsUsedByOthers(Slot)) {
        return;
    }
    Note("free MDL", (ULONG_PTR)Slot->Mdl, Slot->Kind, Slot->PageCount);
    if (Slot->Kind != MdlPages) {
        IoFreeMdl(Slot->Mdl);
    } else {
        MmFreePagesFromMdl(Slot->Mdl);
        ExFreePool(Slot->Mdl);
    }
    ForgetMdlMapping(Slot);
    if (Slot->Kind == MdlIoSpace) {
        ModelReleaseFrames(Slot->Pfns, Slot->PageCount);
    } else if (Slot->Kind == MdlHandMade) {
        Mdls[Slot->Source].UserCount -= 1;
    }
    for (PFN_NUMBER Page = 0; Slot->Kind == MdlPages && Page < Slot->PageCount; Page += 1) {
        ModelDisownFrame(Slot->Pfns[Page]);
    }
    Slot->Mdl = NULL;
}

static VOID DoMdl(VOID)
{
    MDL_SLOT *Slot = &Mdls[CHOOSE(Mdls)];
    if (Slot->Mdl == NULL) {
        switch (Below(3)) {
        case 0:
            AllocateIoMdl(Slot);
            return;
        case 1:
            AllocatePagesMdl(Slot);
            return;
        default:
            MakeMdlByHand(Slot);
            return;
        }
    }
    if (OneIn(6)) {
        FreeMdl(Slot);
    } else if (Slot->Address != NULL) {
        UnmapMdl(Slot);
    } else if (Slot->Reservation == RESERVATION_SLOTS) {
        MapMdl(Slot);
    }
}

//
// Reservations.
//

static VOID Reserve(RESERVATION_SLOT *Slot)
{
    const SIZE_T ByteCount = 1 + Below(PAGES(OneIn(8) ? 600 : MAXIMUM_MDL_PAGES));
    const ULONG Tag = OneIn(2) ? TAG_A : 1;
    Note("reserve", ByteCount, Tag, 0);
    MaybeStartFailures();
    const PVOID Va = MmAllocateMappingAddress(ByteCount, Tag);
    CHECK(StopFailures(Va == NULL) || Va != NULL);
    if (Va == NULL) {
        return;
    }
    CHECK_EQUAL(BYTE_OFFSET(Va), 0);
    Slot->Va = Va;
    Slot->Tag = Tag;
    Slot->Mdl = MDL_SLOTS;
    Slot->Mapping = (MODEL_MAPPING){.Va = (ULONG_PTR)Va,
                                    .PageCount = BYTES_TO_PAGES(ByteCount),
                                    .GuardsBefore = 2,
                                    .Access = MiAccessReadWrite};
    ModelAddMapping(&Slot->Mapping);
    CheckGone(&Slot->Mapping);
}

static VOID MapReserved(RESERVATION_SLOT *Slot)
{
    const ULONG Index = CHOOSE(Mdls);
    MDL_SLOT *Source = &Mdls[Index];
    if (Source->Mdl == NULL) {
        return;
    }
    const MI_CACHE_TYPE CacheType = ChooseCacheType(Source->Pfns[0]);
    const BOOLEAN IsMapped = Source->Address != NULL || Source->Reservation != RESERVATION_SLOTS;
    const BOOLEAN IsLegal = !IsMapped && Source->PageCount <= Slot->Mapping.PageCount;
    const PVOID MappingAddress = (PUCHAR)Slot->Va + (OneIn(4) ? 4 : 0);
    Note("map reserved", (ULONG_PTR)Slot->Va, (ULONG_PTR)Source->Mdl, CacheType);
    // Forward progress: with every allocation failing it works all the same.
    MmStartFailures(MM_FAIL_ALL, 0, MAXULONG);
    const PVOID Address = MmMapLockedPagesWithReservedMapping(MappingAddress, Slot->Tag,
                                                              Source->Mdl, CachingOf(CacheType));
    CHECK_EQUAL(MmStopFailures(), 0);
    CHECK_EQUAL(Address != NULL, IsLegal);
    if (Address == NULL) {
        return;
    }
    DecideMdl(Source, CacheType);
    CHECK((PUCHAR)Address == (PUCHAR)Slot->Va + Source->Mdl->ByteOffset &&
          Source->Mdl->MappedSystemVa == Slot->Va);
    ModelRemoveMapping(&Slot->Mapping);
    Slot->Mapping.Pfns = Source->Pfns;
    Slot->Mapping.MappedCount = Source->PageCount;
    ModelAddMapping(&Slot->Mapping);
    Slot->Mdl = Index;
    Source->Reservation = (ULONG)(Slot - Reservations);
    CheckEnds(&Slot->Mapping);
}

static VOID UnmapReserved(RESERVATION_SLOT *Slot)
{
    MDL_SLOT *Source = &Mdls[Slot->Mdl];
    Note("unmap reserved", (ULONG_PTR)Slot->Va, (ULONG_PTR)Source->Mdl, 0);
    MmUnmapReservedMapping((PUCHAR)Slot->Va + (OneIn(2) ? Source->Mdl->ByteOffset : 0), Slot->Tag,
                           Source->Mdl);
    ForgetMdlMapping(Source);
}

static VOID FreeReservation(RESERVATION_SLOT *Slot)
{
    Note("free reservation", (ULONG_PTR)Slot->Va, Slot->Tag, 0);
    MmFreeMappingAddress(Slot->Va, Slot->Tag);
    ModelRemoveMapping(&Slot->Mapping);
    Slot->Va = NULL;
}

static VOID DoReservation(VOID)
{
    RESERVATION_SLOT *Slot = &Reservations[CHOOSE(Reservations)];
    if (Slot->Va == NULL) {
        Reserve(Slot);
    } else if (Slot->Mdl != MDL_SLOTS) {
        UnmapReserved(Slot);
    } else if (OneIn(12)) {
        FreeReservation(Slot);
    } else {
        MapReserved(Slot);
    }
}

//
// Pool.
//

static VOID AllocatePool(POOL_SLOT *Slot)
{
    const SIZE_T ByteCount = 1 + Below(OneIn(16) ? PAGES(5) : OneIn(4) ? PAGE_SIZE : 200);
    const ULONG Tag = OneIn(2) ? TAG_A : TAG_B;
    const BOOLEAN IsAligned = OneIn(6);
    Note("allocate pool", ByteCount, Tag, IsAligned);
    MaybeStartFailures();
    const PVOID Block = ExAllocatePool2(
        POOL_FLAG_NON_PAGED | (IsAligned ? POOL_FLAG_CACHE_ALIGNED : 0), ByteCount, Tag);
    CHECK(StopFailures(Block == NULL) || Block != NULL);
    if (Block == NULL) {
        return;
    }
    const ULONG Alignment = ByteCount >= PAGE_SIZE ? PAGE_SIZE : IsAligned ? 64 : 16;
    CHECK((ULONG_PTR)Block % Alignment == 0);
    CHECK(ByteCount >= PAGE_SIZE || BYTE_OFFSET(Block) + ByteCount <= PAGE_SIZE);
    *Slot = (POOL_SLOT){Block, ByteCount, Tag, (UCHAR)(Step | 1), 0};
    CHECK(Slot->Block[0] == 0 && Slot->Block[ByteCount - 1] == 0 &&
          Slot->Block[Below(ByteCount)] == 0);
    memset(Slot->Block, Slot->Fill, ByteCount);
}

static VOID FreePool(POOL_SLOT *Slot)
{
    if (Slot->UserCount != 0) {
        return;
    }
    // A page of small blocks that an I/O mapping shows may hold this one, too.
    for (ULONG Index = 0; Index < IO_SLOTS; Index += 1) {
        if (Ios[Index].Address != NULL && Ios[Index].PoolSlot != POOL_SLOTS) {
            return;
        }
    }
    Note("free pool", (ULONG_PTR)Slot->Block, Slot->ByteCount, Slot->Tag);
    const SIZE_T Middle = Below(Slot->ByteCount);
    CHECK(Slot->Block[0] == Slot->Fill && Slot->Block[Slot->ByteCount - 1] == Slot->Fill &&
          Slot->Block[Middle] == Slot->Fill);
    if (OneIn(2)) {
        ExFreePoolWithTag(Slot->Block, OneIn(2) ? Slot->Tag : 0);
    } else {
        ExFreePool(Slot->Block);
    }
    Slot->Block = NULL;
}

static VOID DoPool(VOID)
{
    POOL_SLOT *Slot = &Pools[CHOOSE(Pools)];
    if (Slot->Block != NULL) {
        FreePool(Slot);
    } else {
        AllocatePool(Slot);
    }
}

//
// Claims.
//

static BOOLEAN IsClaimed(MI_PFN_RANGE Range)
{
    for (ULONG Index = 0; Index < CLAIM_SLOTS; Index += 1) {
        if (Claims[Index].Claim != NULL && Claims[Index].Range.FirstPfn <= Range.LastPfn &&
            Claims[Index].Range.LastPfn >= Range.FirstPfn) {
            return TRUE;
        }
    }
    return FALSE;
}

static VOID Claim(CLAIM_SLOT *Slot)
{
    const ULONG64 Base = FAKE_IO_LOW + Below(PAGES(64));
    const SIZE_T ByteCount = 1 + Below(PAGES(6));
    Note("claim", Base, ByteCount, 0);
    const BOOLEAN IsFree = !IsClaimed(RangeOf(Base, ByteCount));
    MaybeStartFailures();
    const NTSTATUS Status =
        MmClaimPhysicalRange(Pa(Base), ByteCount, MmClaimDevice, "somebody", &Slot->Claim);
    const BOOLEAN MayFail = StopFailures(!NT_SUCCESS(Status));
    if (NT_SUCCESS(Status)) {
        CHECK(IsFree);
        Slot->Range = RangeOf(Base, ByteCount);
    } else {
        CHECK(!IsFree || MayFail);
        Slot->Claim = NULL;
    }
}

// The lowest place where PageCount frames are free. MAXULONG64: none.
static PFN_NUMBER LowestFree(PFN_NUMBER PageCount, PFN_NUMBER Alignment, MI_PFN_RANGE Window)
{
    for (PFN_NUMBER First = Window.FirstPfn; First + PageCount - 1 <= Window.LastPfn; First += 1) {
        if (First % Alignment == 0 && !IsClaimed((MI_PFN_RANGE){First, First + PageCount - 1})) {
            return First;
        }
    }
    return MAXULONG64;
}

static VOID Place(CLAIM_SLOT *Slot)
{
    const PFN_NUMBER PageCount = 1 + Below(20);
    const PFN_NUMBER Alignment = 1ull << Below(4);
    const MI_PFN_RANGE Window = RangeOf(FAKE_IO_LOW, PAGES(1 + Below(70)));
    const PFN_NUMBER Expected = LowestFree(PageCount, Alignment, Window);
    PHYSICAL_ADDRESS Base = Pa(0);
    Note("place", PageCount, Alignment, Window.LastPfn);
    const NTSTATUS Status =
        MmPlacePhysicalRange(PAGES(PageCount), PAGES(Alignment), PAGES(Window.FirstPfn),
                             PAGES(Window.LastPfn) + PAGE_SIZE - 1, "placed", &Base, &Slot->Claim);
    if (Expected == MAXULONG64) {
        CHECK_EQUAL(Status, STATUS_CONFLICTING_ADDRESSES);
        Slot->Claim = NULL;
        return;
    }
    CHECK_EQUAL(Status, STATUS_SUCCESS);
    CHECK_EQUAL(Base.QuadPart, PAGES(Expected));
    Slot->Range = (MI_PFN_RANGE){Expected, Expected + PageCount - 1};
}

static VOID DoClaim(VOID)
{
    CLAIM_SLOT *Slot = &Claims[CHOOSE(Claims)];
    if (Slot->Claim != NULL) {
        Note("release claim", Slot->Range.FirstPfn, Slot->Range.LastPfn, 0);
        MmReleasePhysicalRange(Slot->Claim);
        Slot->Claim = NULL;
    } else if (OneIn(2)) {
        Claim(Slot);
    } else {
        Place(Slot);
    }
}

//
// Questions.
//

static VOID DoQuery(VOID)
{
    Note("query", 0, 0, 0);
    if (ModelMappingCount > 0) {
        const MODEL_MAPPING *Mapping = ModelMappings[Below(ModelMappingCount)];
        const PFN_NUMBER Page = Below(Mapping->PageCount);
        const ULONG Offset = (ULONG)Below(PAGE_SIZE);
        const PVOID Va = (PVOID)(Mapping->Va + PAGES(Page) + Offset);
        const BOOLEAN IsMapped = Page < Mapping->MappedCount;
        const ULONG64 Expected = IsMapped ? PAGES(ModelFrameOf(Mapping, Page)) + Offset : 0;
        CHECK_EQUAL(MmGetPhysicalAddress(Va).QuadPart, Expected);
        CHECK_EQUAL(MmIsAddressValid(Va), IsMapped);
    }
    ULONG64 Base;
    SIZE_T ByteCount;
    ChooseIoBytes(&Base, &ByteCount);
    CHECK_EQUAL(MmIsIoSpaceActive(Pa(Base), ByteCount) != 0,
                ModelIsMapped(RangeOf(Base, ByteCount)));
}

//
// Wrong calls: they refuse, or stop the machine; either way nothing has changed.
//

static PFN_NUMBER ChooseFrameOfKernel(VOID)
{
    switch (Below(4)) {
    case 0:
        return FakeRootPfn();
    case 1:
        return (FAKE_KERNEL_PA >> PAGE_SHIFT) + Below(FAKE_KERNEL_BYTES >> PAGE_SHIFT);
    default: {
        // RAM that nobody has locked.
        const PFN_NUMBER Pfn = 0x400 + Below(0x3A00);
        const MI_PFN_STATE State = MiPfnState(Pfn);
        return State == MiPfnMdl || State == MiPfnPool ? FakeRootPfn() : Pfn;
    }
    }
}

static VOID DoRefusedMap(VOID)
{
    static const ULONG BadProtections[] = {0,
                                           PAGE_NOACCESS,
                                           PAGE_WRITECOPY,
                                           PAGE_EXECUTE_WRITECOPY,
                                           PAGE_READWRITE | PAGE_GUARD,
                                           PAGE_READWRITE | PAGE_READONLY,
                                           PAGE_NOCACHE,
                                           PAGE_READWRITE | PAGE_NOCACHE | PAGE_WRITECOMBINE,
                                           MAXULONG};
    const ULONG64 Register = FAKE_IO_REGISTERS;
    const ULONG64 Kernel = PAGES(ChooseFrameOfKernel());
    Note("refused map", Kernel, 0, 0);
    switch (Below(7)) {
    case 0:
        CHECK(MmMapIoSpaceEx(Pa(Register), PAGE_SIZE,
                             BadProtections[Below(ARRAYSIZE(BadProtections))]) == NULL);
        break;
    case 1:
        CHECK(MmMapIoSpace(Pa(Register + Below(PAGE_SIZE)), 0, MmNonCached) == NULL);
        break;
    case 2:
        CHECK(MmMapIoSpace(Pa(Register), PAGE_SIZE, (MEMORY_CACHING_TYPE)(6 + Below(250))) == NULL);
        break;
    case 3:
        CHECK(MmMapIoSpaceEx(Pa(Register), MAXULONG64 - Below(Register - 1), PAGE_READWRITE) ==
              NULL);
        break;
    case 4:
        CHECK(MmMapIoSpaceEx(Pa(PAGES(MiHighestPfn()) + PAGE_SIZE - 1), 2, PAGE_READONLY) == NULL);
        break;
    case 5:
        CHECK(MmMapIoSpaceEx(Pa(Kernel + Below(PAGE_SIZE)), 1, PAGE_READWRITE | PAGE_NOCACHE) ==
              NULL);
        break;
    default:
        // From RAM into the ACPI tables behind it.
        CHECK(MmMapIoSpaceEx(Pa(FAKE_ACPI - PAGE_SIZE), 2 * PAGE_SIZE,
                             PAGE_READWRITE | PAGE_NOCACHE) == NULL);
        break;
    }
}

static VOID DoRefusedMdl(VOID)
{
    MM_PHYSICAL_ADDRESS_LIST List[2] = {{Pa(FAKE_IO_LOW), PAGE_SIZE},
                                        {Pa(FAKE_IO_REGISTERS), PAGE_SIZE}};
    MM_PHYSICAL_ADDRESS_LIST *Bad = &List[Below(2)];
    PMDL Mdl = (PMDL)1;
    Note("refused MDL", 0, 0, 0);
    switch (Below(5)) {
    case 0:
        Bad->PhysicalAddress.QuadPart += 1 + (LONG64)Below(PAGE_SIZE - 1);
        break;
    case 1:
        Bad->NumberOfBytes += 1 + Below(PAGE_SIZE - 1);
        break;
    case 2:
        Bad->NumberOfBytes = 0;
        break;
    case 3:
        Bad->NumberOfBytes = 0x100000000ull - PAGE_SIZE;
        break;
    default:
        Bad->PhysicalAddress.QuadPart = (LONG64)PAGES(0x100 + Below(0x3DFF));
        break;
    }
    CHECK_EQUAL(MmAllocateMdlForIoSpace(List, 2, &Mdl), STATUS_INVALID_PARAMETER_1);
    CHECK(Mdl == NULL);
}

static VOID MisuseIo(const IO_SLOT *Io)
{
    if (Io->Address == NULL) {
        return;
    }
    const PFN_NUMBER PageCount = Io->Mapping.PageCount;
    Note("misuse I/O", (ULONG_PTR)Io->Address, PageCount, 0);
    if (OneIn(2)) {
        EXPECT_BUG_CHECK(MmUnmapIoSpace(Io->Address, Io->ByteCount + PAGE_SIZE));
        CHECK_BUG_CHECK(SYSTEM_PTE_MISUSE, 0x305, (ULONG_PTR)Io->Address, PageCount + 1, PageCount);
    } else {
        const PVOID Guard = (PVOID)(Io->Mapping.Va + PAGES(PageCount));
        EXPECT_BUG_CHECK(MmUnmapIoSpace(Guard, PAGE_SIZE));
        CHECK_BUG_CHECK(SYSTEM_PTE_MISUSE, 0x400, (ULONG_PTR)Guard, 1, 0);
    }
}

static VOID MisuseReservation(const RESERVATION_SLOT *Slot)
{
    if (Slot->Va == NULL) {
        return;
    }
    const ULONG_PTR Va = (ULONG_PTR)Slot->Va;
    const MDL_SLOT *Source = &Mdls[CHOOSE(Mdls)];
    Note("misuse reservation", Va, Slot->Tag, 0);
    EXPECT_BUG_CHECK(MmFreeMappingAddress(Slot->Va, Slot->Tag + 1));
    CHECK_BUG_CHECK(SYSTEM_PTE_MISUSE, 0x101, Va, Slot->Tag + 1, Slot->Tag);
    if (Slot->Mdl != MDL_SLOTS) {
        EXPECT_BUG_CHECK(MmFreeMappingAddress(Slot->Va, Slot->Tag));
        CHECK_BUG_CHECK(SYSTEM_PTE_MISUSE, 0x103, Va, Slot->Tag, Slot->Mapping.PageCount);
        EXPECT_BUG_CHECK(Ignore(MmMapLockedPagesWithReservedMapping(
            Slot->Va, Slot->Tag, Mdls[Slot->Mdl].Mdl, MmCached)));
        CHECK_BUG_CHECK(SYSTEM_PTE_MISUSE, 0x107, Va, Va, Va + PAGES(Slot->Mapping.PageCount - 1));
    } else if (Source->Mdl != NULL && Source->PageCount <= Slot->Mapping.PageCount) {
        EXPECT_BUG_CHECK(MmUnmapReservedMapping(Slot->Va, Slot->Tag, Source->Mdl));
        CHECK_EQUAL(FakeBugCheck.Code, SYSTEM_PTE_MISUSE);
        CHECK(FakeBugCheck.Parameters[0] == 0x109 || FakeBugCheck.Parameters[0] == 0x10B);
    }
}

static VOID DoMisuse(VOID)
{
    if (OneIn(2)) {
        MisuseIo(&Ios[CHOOSE(Ios)]);
    } else {
        MisuseReservation(&Reservations[CHOOSE(Reservations)]);
    }
}

//
// The run.
//

// How often each operation is chosen, in a hundred.
static const struct {
    ULONG Weight;
    VOID (*Routine)(VOID);
} Operations[] = {
    {24, DoIo},   {26, DoMdl},       {20, DoReservation}, {14, DoPool},  {5, DoClaim},
    {5, DoQuery}, {2, DoRefusedMap}, {2, DoRefusedMdl},   {2, DoMisuse},
};

static VOID DoStep(VOID)
{
    ULONG64 Choice = Below(100);
    for (ULONG Index = 0; Index < ARRAYSIZE(Operations); Index += 1) {
        if (Choice < Operations[Index].Weight) {
            Operations[Index].Routine();
            return;
        }
        Choice -= Operations[Index].Weight;
    }
}

static VOID CheckCounts(VOID)
{
    MM_MEMORY_USE Use;
    ULONG64 ClaimCount = 0;
    MmQueryMemoryUse(&Use);
    for (ULONG Index = 0; Index < CLAIM_SLOTS; Index += 1) {
        ClaimCount += Claims[Index].Claim != NULL;
    }
    CHECK_EQUAL(Use.Mappings, ModelMappingCount);
    CHECK_EQUAL(Use.Claims, ClaimCount);
    CHECK_EQUAL(Use.FreePages + Use.TablePages + Use.PoolPages + Use.MdlPages,
                UseAtStart.FreePages + UseAtStart.TablePages + UseAtStart.PoolPages +
                    UseAtStart.MdlPages);
}

static VOID CheckEverything(VOID)
{
    ModelCheckEverything();
    CheckCounts();
    HostAudit();
}

// Gives everything back, so that what remains is a leak.
static VOID Finish(VOID)
{
    for (ULONG Index = 0; Index < IO_SLOTS; Index += 1) {
        if (Ios[Index].Address != NULL) {
            UnmapIo(&Ios[Index]);
        }
    }
    for (ULONG Index = 0; Index < RESERVATION_SLOTS; Index += 1) {
        if (Reservations[Index].Va != NULL && Reservations[Index].Mdl != MDL_SLOTS) {
            UnmapReserved(&Reservations[Index]);
        }
        if (Reservations[Index].Va != NULL) {
            FreeReservation(&Reservations[Index]);
        }
    }
    // Those made by hand first: they use the frames of others.
    for (ULONG Pass = 0; Pass < 2; Pass += 1) {
        for (ULONG Index = 0; Index < MDL_SLOTS; Index += 1) {
            if (Mdls[Index].Mdl != NULL && (Pass == 1 || Mdls[Index].Kind == MdlHandMade)) {
                FreeMdl(&Mdls[Index]);
                CHECK(Mdls[Index].Mdl == NULL);
            }
        }
    }
    for (ULONG Index = 0; Index < POOL_SLOTS; Index += 1) {
        if (Pools[Index].Block != NULL) {
            FreePool(&Pools[Index]);
        }
    }
    for (ULONG Index = 0; Index < CLAIM_SLOTS; Index += 1) {
        if (Claims[Index].Claim != NULL) {
            MmReleasePhysicalRange(Claims[Index].Claim);
            Claims[Index].Claim = NULL;
        }
    }
    CheckEverything();
    HostCheckSameUse(&UseAtStart, "after everything was given back");
}

static VOID Run(ULONG64 Share)
{
    const ULONG64 StepCount = HostOption("operations", 300000) * Share / 100;
    Seed = HostOption("seed", 1);
    Random = RandomStart(Seed * 100 + Share);
    HostExplain = Explain;
    ModelInitialize();
    MmQueryMemoryUse(&UseAtStart);
    for (Step = 0; Step < StepCount; Step += IsNoted) {
        IsNoted = FALSE;
        DoStep();
        if (IsNoted && Step % STEPS_BETWEEN_CHECKS == 0) {
            CheckEverything();
        }
    }
    Finish();
    printf("    # %llu operations, seed %llu\n", StepCount, Seed);
}

static VOID Random_operations_agree_with_the_model(VOID)
{
    Run(50);
}

static VOID Random_operations_agree_with_the_model_without_1_GiB_leaves(VOID)
{
    Run(26);
}

static VOID Random_operations_agree_with_the_model_with_4_KiB_leaves_only(VOID)
{
    Run(24);
}

static const HOST_TEST Tests[] = {
    HOST_ROW(Random_operations_agree_with_the_model, "contract 4-7, all invariants",
             &FakeMachineMax),
    HOST_ROW(Random_operations_agree_with_the_model_without_1_GiB_leaves,
             "contract 4-7, all invariants", &FakeMachineQemu64),
    HOST_ROW(Random_operations_agree_with_the_model_with_4_KiB_leaves_only,
             "contract 4-7, all invariants", &FakeMachineLeaf4K),
};

HOST_DEFINE_SUITE(model);
