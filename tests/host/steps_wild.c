// Wild steps: arguments that nobody chose with care. What is right all the same is done, compared
// and undone at once; what is wrong must be refused, or stop the machine with a code that is
// documented for the routine, and must change nothing.
#include "tests/host/steps.h"

// More frames than this are mapped, but not followed by the model.
#define FOLLOWED_PAGES (1ull << 18)
#define MOST_PAGES (1ull << 22)

static ULONG64 WildNumber(VOID)
{
    static const ULONG64 Corners[] = {0,
                                      1,
                                      PAGE_SIZE - 1,
                                      PAGE_SIZE,
                                      2 * PAGE_SIZE,
                                      MAXULONG,
                                      0x100000000,
                                      0x40000000,
                                      FAKE_IO_LOW,
                                      FAKE_IO_HIGH,
                                      FAKE_ACPI,
                                      FAKE_KERNEL_PA,
                                      0x8000000000000000,
                                      MAXULONG64};
    switch (Below(4)) {
    case 0:
        return Corners[Below(ARRAYSIZE(Corners))] - Below(3) + 1;
    case 1:
        return Below(PAGES(16));
    case 2:
        return AnyNumber() >> Below(64);
    default:
        return (FAKE_IO_LOW + Below(PAGES(64))) & ~Below(PAGE_SIZE);
    }
}

// An address beside something that lives, or anywhere.
static PVOID WildVa(VOID)
{
    const ULONG64 Distance = OneIn(2) ? PAGES(Below(4)) : Below(64);
    const ULONG Pool = CHOOSE(Pools);
    switch (Below(5)) {
    case 0:
        return ModelMappingCount != 0
                   ? (PVOID)(ModelMappings[Below(ModelMappingCount)]->Va - PAGE_SIZE + Distance)
                   : NULL;
    case 1:
        return Pools[Pool].Block != NULL ? Pools[Pool].Block + Distance : NULL;
    case 2:
        return (PVOID)(MiArchLayout[Below(MiRegionCount)].BaseVa + PAGES(Below(0x4000)) + Distance);
    case 3:
        return (PVOID)(ULONG_PTR)WildNumber();
    default:
        return (PVOID)(ULONG_PTR)(PAGES(Below(0x4000)) + MiArchLayout[MiRegionDirectMap].BaseVa);
    }
}

//
// What should happen.
//

static BOOLEAN IsRange(ULONG64 Base, ULONG64 ByteCount)
{
    return ByteCount != 0 && Base + (ByteCount - 1) >= Base &&
           (Base + (ByteCount - 1)) >> PAGE_SHIFT <= MiHighestPfn();
}

static BOOLEAN IsLockedRam(MI_PFN_RANGE Range)
{
    for (PFN_NUMBER Pfn = Range.FirstPfn; Pfn <= Range.LastPfn; Pfn += 1) {
        const MI_PFN_STATE State = MiPfnState(Pfn);
        if (State != MiPfnMdl && State != MiPfnPool && State != MiPfnDriver) {
            return FALSE;
        }
    }
    return TRUE;
}

static BOOLEAN DecodeProtect(ULONG Protect, MI_CACHE_TYPE *CacheType)
{
    const ULONG Base = Protect & 0xFF;
    const ULONG Modifier = Protect & ~0xFFu;
    *CacheType = Modifier == PAGE_NOCACHE        ? MiCacheUncached
                 : Modifier == PAGE_WRITECOMBINE ? MiCacheWriteCombined
                                                 : MiCacheWriteBack;
    return (Base == PAGE_READONLY || Base == PAGE_READWRITE || Base == PAGE_EXECUTE ||
            Base == PAGE_EXECUTE_READ || Base == PAGE_EXECUTE_READWRITE) &&
           (Modifier == 0 || Modifier == PAGE_NOCACHE || Modifier == PAGE_WRITECOMBINE);
}

static BOOLEAN DecodeCaching(ULONG Caching, MI_CACHE_TYPE *CacheType)
{
    static const MI_CACHE_TYPE Types[] = {MiCacheUncached,  MiCacheWriteBack, MiCacheWriteCombined,
                                          MiCacheWriteBack, MiCacheUncached,  MiCacheWriteCombined};
    const ULONG Known = Caching & 0xFF;
    *CacheType = Known < ARRAYSIZE(Types) ? Types[Known] : MiCacheUncached;
    return Known < ARRAYSIZE(Types);
}

//
// Requests.
//

// What a mapping of this range does to the model. FALSE: it must be refused.
static BOOLEAN FollowMapping(MI_PFN_RANGE Range, MI_CACHE_TYPE CacheType)
{
    MI_REASON Reason;
    if (MiIsIoSpace(Range, &Reason)) {
        if (!ModelHold(Range, CacheType)) {
            return FALSE;
        }
        ModelRelease(Range); // it lasts for this step only
        return TRUE;
    }
    if (!IsLockedRam(Range)) {
        return FALSE;
    }
    for (PFN_NUMBER Pfn = Range.FirstPfn; Pfn <= Range.LastPfn; Pfn += 1) {
        (VOID) ModelDecideFrame(Pfn, CacheType);
    }
    return TRUE;
}

static VOID WildMap(VOID)
{
    const ULONG64 Base = WildNumber();
    const ULONG64 ByteCount = WildNumber();
    const ULONG How = (ULONG)AnyNumber() & (OneIn(2) ? MAXULONG : 0x677);
    const BOOLEAN IsEx = OneIn(2);
    MI_CACHE_TYPE CacheType;
    const BOOLEAN IsTypeKnown =
        IsEx ? DecodeProtect(How, &CacheType) : DecodeCaching(How, &CacheType);
    BOOLEAN IsExpected = IsTypeKnown && IsRange(Base, ByteCount);
    const MI_PFN_RANGE Range = IsExpected ? RangeOf(Base, ByteCount) : (MI_PFN_RANGE){0, 0};
    if (MiRangePageCount(Range) > MOST_PAGES) {
        return;
    }
    Note("wild map", Base, ByteCount, How);
    const BOOLEAN IsFollowed =
        Range.LastPfn < MODEL_IO_FRAMES && MiRangePageCount(Range) <= FOLLOWED_PAGES;
    IsExpected = IsExpected && (!IsFollowed || FollowMapping(Range, CacheType));
    const PVOID Va = IsEx ? MmMapIoSpaceEx(Pa(Base), ByteCount, How)
                          : MmMapIoSpace(Pa(Base), ByteCount, (MEMORY_CACHING_TYPE)How);
    CHECK(Va == NULL || IsExpected);
    CHECK(Va != NULL || !IsExpected || !IsFollowed);
    if (Va != NULL) {
        CHECK_EQUAL(MmGetPhysicalAddress(Va).QuadPart, Base);
        CHECK_EQUAL(FakeWalk((ULONG_PTR)Va + ByteCount - 1).Pfn, Range.LastPfn);
        MmUnmapIoSpace(Va, ByteCount);
        ModelCheckUnmapped((ULONG_PTR)Va);
        ModelCheckUnmapped((ULONG_PTR)Va + ByteCount - 1);
    }
}

static VOID WildIoMdl(VOID)
{
    MM_PHYSICAL_ADDRESS_LIST List[3];
    const SIZE_T Count = Below(ARRAYSIZE(List) + 1);
    BOOLEAN IsExpected = Count != 0;
    PFN_NUMBER PageCount = 0;
    MI_REASON Reason;
    for (ULONG Index = 0; Index < Count; Index += 1) {
        const ULONG64 Mask = OneIn(4) ? MAXULONG64 : ~(ULONG64)(PAGE_SIZE - 1);
        const ULONG64 Base = WildNumber() & Mask;
        const ULONG64 Bytes = WildNumber() & Mask;
        List[Index] = (MM_PHYSICAL_ADDRESS_LIST){Pa(Base), Bytes};
        IsExpected = IsExpected && IsRange(Base, Bytes) && BYTE_OFFSET(Base | Bytes) == 0 &&
                     MiIsIoSpace(RangeOf(Base, Bytes), &Reason);
        PageCount += IsExpected ? Bytes >> PAGE_SHIFT : 0;
    }
    PMDL Mdl = NULL;
    Note("wild MDL of I/O", Count, PageCount, 0);
    IsExpected = IsExpected && PageCount <= 0xFFFFF;
    const NTSTATUS Status = MmAllocateMdlForIoSpace(List, Count, &Mdl);
    // A large one may be refused for want of pool.
    CHECK(!NT_SUCCESS(Status) || IsExpected);
    CHECK(NT_SUCCESS(Status) || !IsExpected || PageCount > 4096);
    CHECK_EQUAL(Mdl != NULL, NT_SUCCESS(Status));
    if (Mdl != NULL) {
        CHECK_EQUAL(MiMdlPageCount(Mdl), PageCount);
        CHECK_EQUAL(MmGetMdlPfnArray(Mdl)[0], PfnOf((ULONG64)List[0].PhysicalAddress.QuadPart));
        IoFreeMdl(Mdl);
    }
}

static VOID WildPagesMdl(VOID)
{
    const ULONG64 Low = WildNumber();
    const ULONG64 High = OneIn(2) ? MAXULONG64 : WildNumber();
    const ULONG64 Skip = OneIn(2) ? 0 : WildNumber();
    const SIZE_T ByteCount = OneIn(2) ? WildNumber() : Below(PAGES(16));
    const ULONG Caching = OneIn(2) ? (ULONG)WildNumber() : MmCached;
    const ULONG Flags = OneIn(4) ? (ULONG)WildNumber() : (ULONG)Below(0x40);
    Note("wild MDL of pages", ByteCount, Caching, Flags);
    const PMDL Mdl = MmAllocatePagesForMdlEx(Pa(Low), Pa(High), Pa(Skip), ByteCount,
                                             (MEMORY_CACHING_TYPE)Caching, Flags);
    if (Mdl == NULL) {
        return;
    }
    CHECK(ByteCount != 0 && (Caching & 0xFF) < MmMaximumCacheType && Flags < 0x200);
    CHECK(Mdl->ByteCount != 0 && Mdl->ByteCount <= ROUND_TO_PAGES(ByteCount));
    for (PFN_NUMBER Page = 0; Page < MiMdlPageCount(Mdl); Page += 1) {
        const PFN_NUMBER Pfn = MmGetMdlPfnArray(Mdl)[Page];
        CHECK(FakeIsRam(Pfn) && ModelFrames[Pfn].State == 0 && MiPfnState(Pfn) == MiPfnMdl);
        CHECK(Skip != 0 || (PAGES(Pfn) >= Low && PAGES(Pfn) + PAGE_SIZE - 1 <= High));
    }
    MmFreePagesFromMdl(Mdl);
    ExFreePool(Mdl);
}

static VOID WildReservation(VOID)
{
    const SIZE_T ByteCount = WildNumber();
    const ULONG Tag = OneIn(4) ? 0 : TAG_A;
    Note("wild reservation", ByteCount, Tag, 0);
    if (ByteCount == 0) {
        EXPECT_BUG_CHECK(Ignore(MmAllocateMappingAddress(0, Tag)));
        CHECK_EQUAL(FakeBugCheck.Parameters[0], 0x100);
        return;
    }
    const PVOID Va = MmAllocateMappingAddress(ByteCount, Tag);
    if (Va == NULL) {
        CHECK(Tag == 0 || ByteCount > PAGES(4096));
        return;
    }
    CHECK(Tag != 0 && ByteCount <= PAGES((ULONG64)MAXULONG));
    ModelCheckUnmapped((ULONG_PTR)Va);
    ModelCheckUnmapped((ULONG_PTR)Va + ByteCount - 1);
    MmFreeMappingAddress(Va, Tag);
}

static VOID WildMdl(VOID)
{
    const PVOID Va = (PVOID)(ULONG_PTR)WildNumber();
    const ULONG ByteCount = (ULONG)WildNumber();
    Note("wild MDL", (ULONG_PTR)Va, ByteCount, 0);
    const PMDL Mdl = IoAllocateMdl(Va, ByteCount, FALSE, FALSE, NULL);
    CHECK(Mdl == NULL || ByteCount != 0);
    CHECK(Mdl != NULL || ByteCount == 0 || ByteCount > PAGES(4096));
    if (Mdl != NULL) {
        CHECK(MmGetMdlVirtualAddress(Mdl) == Va && MmGetMdlByteCount(Mdl) == ByteCount &&
              Mdl->MdlFlags == 0);
        IoFreeMdl(Mdl);
    }
}

static VOID WildMapMdl(VOID)
{
    MDL_SLOT *Slot = &Mdls[CHOOSE(Mdls)];
    if (Slot->Mdl == NULL || Slot->Address != NULL || Slot->Reservation != RESERVATION_SLOTS) {
        return;
    }
    const ULONG Caching = OneIn(2) ? (ULONG)WildNumber() : (ULONG)Below(6);
    const ULONG Priority = (ULONG)WildNumber() << Below(32);
    MI_CACHE_TYPE CacheType;
    const BOOLEAN IsExpected = DecodeCaching(Caching, &CacheType);
    Note("wild map of an MDL", (ULONG_PTR)Slot->Mdl, Caching, Priority);
    const PVOID Va = MmMapLockedPagesSpecifyCache(
        Slot->Mdl, KernelMode, (MEMORY_CACHING_TYPE)Caching, NULL, FALSE, Priority);
    CHECK_EQUAL(Va != NULL, IsExpected);
    if (Va == NULL) {
        return;
    }
    DecideMdl(Slot, CacheType);
    CHECK_PAGE(Va, Slot->Pfns[0],
               (Priority & MdlMappingNoWrite) != 0 ? MiAccessRead : MiAccessReadWrite,
               Slot->IsIo ? ModelDecideIoFrame(Slot->Pfns[0], CacheType)
                          : ModelDecideFrame(Slot->Pfns[0], CacheType));
    MmUnmapLockedPages(Va, Slot->Mdl);
    ModelCheckUnmapped((ULONG_PTR)Va);
}

static VOID WildPool(VOID)
{
    const POOL_FLAGS Flags =
        OneIn(2) ? POOL_FLAG_NON_PAGED : WildNumber() & ~POOL_FLAG_RAISE_ON_FAILURE;
    const SIZE_T ByteCount = WildNumber();
    const ULONG Tag = OneIn(4) ? 0 : TAG_A;
    Note("wild pool", Flags, ByteCount, Tag);
    const PUCHAR Block = ExAllocatePool2(Flags, ByteCount, Tag);
    if (Block != NULL) {
        CHECK(Tag != 0 && ByteCount != 0);
        CHECK((Flags & POOL_FLAG_UNINITIALIZED) != 0 ||
              (Block[0] == 0 && Block[ByteCount - 1] == 0));
        ExFreePoolWithTag(Block, Tag);
    } else {
        CHECK(Flags != POOL_FLAG_NON_PAGED || Tag == 0 || ByteCount == 0 || ByteCount > PAGES(256));
    }
}

static VOID WildClaim(VOID)
{
    const ULONG64 Base = WildNumber();
    const ULONG64 ByteCount = WildNumber();
    PHYSICAL_ADDRESS Placed = Pa(0);
    PMM_CLAIM Claim = NULL;
    NTSTATUS Status;
    Note("wild claim", Base, ByteCount, 0);
    if (OneIn(2)) {
        Status = MmClaimPhysicalRange(
            Pa(Base), ByteCount, OneIn(2) ? MmClaimDevice : MmClaimFirmware, "a wild one", &Claim);
        CHECK(!NT_SUCCESS(Status) || IsRange(Base, ByteCount));
    } else {
        const ULONG64 Alignment = 1ull << Below(64);
        Status = MmPlacePhysicalRange(ByteCount, Alignment < PAGE_SIZE ? PAGE_SIZE : Alignment,
                                      Base, WildNumber(), "a wild one", &Placed, &Claim);
        CHECK(!NT_SUCCESS(Status) || ((ULONG64)Placed.QuadPart & (Alignment - 1)) == 0);
    }
    if (NT_SUCCESS(Status)) {
        MmReleasePhysicalRange(Claim);
    }
}

static VOID WildQuery(VOID)
{
    const PVOID Va = WildVa();
    const ULONG64 Base = WildNumber();
    const ULONG64 ByteCount = WildNumber();
    Note("wild query", (ULONG_PTR)Va, Base, ByteCount);
    const FAKE_PAGE Page = FakeWalk((ULONG_PTR)Va);
    const BOOLEAN IsMapped = MiArchIsCanonical((ULONG_PTR)Va) && Page.Level != 0;
    CHECK_EQUAL(MmIsAddressValid(Va), IsMapped);
    CHECK_EQUAL(MmGetPhysicalAddress(Va).QuadPart,
                IsMapped ? PAGES(Page.Pfn) + BYTE_OFFSET(Va) : 0);
    MI_REASON Reason;
    if (!IsRange(Base, ByteCount)) {
        CHECK_EQUAL(MmIsIoSpaceActive(Pa(Base), ByteCount), 0);
    } else if (MiIsIoSpace(RangeOf(Base, ByteCount), &Reason)) {
        // Of a range with RAM in it only device memory counts.
        CHECK_EQUAL(MmIsIoSpaceActive(Pa(Base), ByteCount) != 0,
                    ModelIsMapped(RangeOf(Base, ByteCount)));
    }
}

VOID StepWildRequest(VOID)
{
    static VOID (*const Requests[])(VOID) = {
        WildMap, WildMap,    WildIoMdl, WildPagesMdl, WildReservation,
        WildMdl, WildMapMdl, WildPool,  WildClaim,    WildQuery,
    };
    Requests[Below(ARRAYSIZE(Requests))]();
}

//
// Releases of what is not there to be released.
//

static const ULONG_PTR UnmapIoCodes[] = {0x300, 0x301, 0x304, 0x305, 0x400, 0};
static const ULONG_PTR FreeMappingCodes[] = {0x101, 0x102, 0x103, 0x105, 0};
static const ULONG_PTR UnmapReservedCodes[] = {0x06, 0x108, 0x109, 0x10A, 0x10B, 0x10C, 0x110, 0};
static const ULONG_PTR UnmapMdlCodes[] = {0x02, 0x03, 0x04, 0x05, 0x06, 0x301, 0};
static const ULONG_PTR FreePoolCodes[] = {0x40, 0x41, 0x46, 0x99, 0};

static VOID CheckStop(ULONG Code, const ULONG_PTR *Parameters)
{
    CHECK_EQUAL(FakeBugCheck.Code, Code);
    CHECK(FakeBugCheck.Sentence[0] != '\0');
    while (*Parameters != FakeBugCheck.Parameters[0]) {
        Parameters += 1;
        if (*Parameters == 0) {
            FAIL("bug check 0x%x has parameter 0x%llx, which is not documented for this routine",
                 Code, FakeBugCheck.Parameters[0]);
        }
    }
}

static VOID WildUnmapIo(VOID)
{
    const PVOID Va = WildVa();
    const SIZE_T ByteCount = WildNumber();
    const PFN_NUMBER PageCount =
        (BYTE_OFFSET(Va) + (ByteCount & (PAGE_SIZE - 1)) + PAGE_SIZE - 1) / PAGE_SIZE +
        (ByteCount >> PAGE_SHIFT);
    for (ULONG Index = 0; Index < IO_SLOTS; Index += 1) {
        if (Ios[Index].Address != NULL && PAGE_ALIGN(Va) == PAGE_ALIGN(Ios[Index].Address) &&
            ByteCount != 0 && PageCount == Ios[Index].Mapping.PageCount) {
            return; // that one would be right
        }
    }
    Note("wild unmap I/O", (ULONG_PTR)Va, ByteCount, 0);
    EXPECT_BUG_CHECK(MmUnmapIoSpace(Va, ByteCount));
    CheckStop(SYSTEM_PTE_MISUSE, UnmapIoCodes);
}

static VOID WildFreeReservation(VOID)
{
    const PVOID Va = OneIn(2) ? WildVa() : Reservations[CHOOSE(Reservations)].Va;
    const ULONG Tag = OneIn(2) ? TAG_A : (ULONG)WildNumber();
    for (ULONG Index = 0; Index < RESERVATION_SLOTS; Index += 1) {
        const RESERVATION_SLOT *Slot = &Reservations[Index];
        if (Slot->Va != NULL && Slot->Va == PAGE_ALIGN(Va) && Slot->Tag == Tag &&
            Slot->Mdl == MDL_SLOTS) {
            return;
        }
    }
    Note("wild free reservation", (ULONG_PTR)Va, Tag, 0);
    EXPECT_BUG_CHECK(MmFreeMappingAddress(Va, Tag));
    CheckStop(SYSTEM_PTE_MISUSE, FreeMappingCodes);
}

static VOID WildUnmapReserved(VOID)
{
    const MDL_SLOT *Source = &Mdls[CHOOSE(Mdls)];
    const ULONG Index = CHOOSE(Reservations);
    const RESERVATION_SLOT *Slot = &Reservations[Index];
    const PVOID Va = OneIn(2) ? WildVa() : Slot->Va;
    const ULONG Tag = OneIn(2) ? Slot->Tag : (ULONG)WildNumber();
    if (Source->Mdl == NULL) {
        return;
    }
    for (ULONG Other = 0; Other < RESERVATION_SLOTS; Other += 1) {
        if (Reservations[Other].Va != NULL && Reservations[Other].Va == PAGE_ALIGN(Va) &&
            Source->Reservation == Other) {
            return;
        }
    }
    Note("wild unmap reserved", (ULONG_PTR)Va, Tag, (ULONG_PTR)Source->Mdl);
    EXPECT_BUG_CHECK(MmUnmapReservedMapping(Va, Tag, Source->Mdl));
    CheckStop(SYSTEM_PTE_MISUSE, UnmapReservedCodes);
}

static VOID WildUnmapMdl(VOID)
{
    const MDL_SLOT *Slot = &Mdls[CHOOSE(Mdls)];
    const MDL_SLOT *Other = &Mdls[CHOOSE(Mdls)];
    const PVOID Va = OneIn(2) ? WildVa() : Other->Mdl != NULL ? Other->Address : NULL;
    if (Slot->Mdl == NULL ||
        (Slot->Address != NULL && PAGE_ALIGN(Va) == PAGE_ALIGN(Slot->Address))) {
        return;
    }
    Note("wild unmap MDL", (ULONG_PTR)Va, (ULONG_PTR)Slot->Mdl, 0);
    EXPECT_BUG_CHECK(MmUnmapLockedPages(Va, Slot->Mdl));
    CheckStop(SYSTEM_PTE_MISUSE, UnmapMdlCodes);
}

// An address within the pool may happen to be a block of mm's own, except an odd one.
static VOID WildFreePool(VOID)
{
    const PUCHAR Va = WildVa();
    const FAKE_PAGE Page = FakeWalk((ULONG_PTR)Va);
    const BOOLEAN IsPool = Page.Level != 0 && MiPfnState(Page.Pfn) == MiPfnPool;
    const PVOID Block = IsPool ? (PVOID)((ULONG_PTR)Va | 1) : Va;
    Note("wild free pool", (ULONG_PTR)Block, 0, 0);
    EXPECT_BUG_CHECK(ExFreePoolWithTag(Block, OneIn(2) ? TAG_A : 0));
    CheckStop(BAD_POOL_CALLER, FreePoolCodes);
}

VOID StepWildRelease(VOID)
{
    static VOID (*const Releases[])(VOID) = {
        WildUnmapIo, WildFreeReservation, WildUnmapReserved, WildUnmapMdl, WildFreePool,
    };
    MM_MEMORY_USE Before;
    MmQueryMemoryUse(&Before);
    Releases[Below(ARRAYSIZE(Releases))]();
    HostCheckSameUse(&Before, "a misuse");
}
