// Steps of MDLs: of device memory, of fresh pages, and by hand over the frames of another.
#include "tests/host/steps.h"

VOID RecordMdl(MDL_SLOT *Slot, PMDL Mdl, MDL_KIND Kind)
{
    Slot->Mdl = Mdl;
    Slot->Kind = Kind;
    Slot->IsIo = Kind == MdlIoSpace;
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
        const PFN_NUMBER Room =
            Windows[Window].PageCount < CROWDED_PAGES ? Windows[Window].PageCount : CROWDED_PAGES;
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
        ModelOwnFrame(Pfn, MiPfnMdl, MiCacheUndecided);
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
VOID DecideMdl(const MDL_SLOT *Slot, MI_CACHE_TYPE CacheType)
{
    for (PFN_NUMBER Page = 0; Page < Slot->PageCount; Page += 1) {
        (VOID)(Slot->IsIo ? ModelDecideIoFrame(Slot->Pfns[Page], CacheType)
                          : ModelDecideFrame(Slot->Pfns[Page], CacheType));
    }
}

BOOLEAN IsUncounted(PMDL Mdl)
{
    return MiIsMdlSealed(Mdl) && MmVerifierLevel == 0;
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
    if (Slot->IsIo) {
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
                                    .IsOwn = IsUncounted(Slot->Mdl),
                                    .GuardsBefore = (Flags & MdlMappingWithGuardPtes) != 0,
                                    .Access = (Flags & MdlMappingNoWrite) != 0 ? MiAccessRead
                                                                               : MiAccessReadWrite};
    ModelAddMapping(&Slot->Mapping);
    CheckEnds(&Slot->Mapping);
}

// The model's side of an unmap, whichever routine did it.
VOID ForgetMdlMapping(MDL_SLOT *Slot)
{
    if (Slot->Address != NULL) {
        ModelRemoveMapping(&Slot->Mapping);
        if (Slot->IsIo) {
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
    const BOOLEAN IsCounted = IsMapped && !IsUncounted(Slot->Mdl);
    for (PFN_NUMBER Page = 0; Page < Slot->PageCount; Page += 1) {
        if (ModelFrames[Slot->Pfns[Page]].MapCount != IsCounted) {
            return TRUE;
        }
    }
    return FALSE;
}

// At level 1 an MDL that has a mapping of its own is not freed, whatever would become of the mapping.
static VOID ExpectNoFree(const MDL_SLOT *Slot)
{
    if (MmVerifierLevel != 0 && Slot->Address != NULL && Slot->Kind == MdlIoSpace) {
        Note("free mapped MDL", (ULONG_PTR)Slot->Mdl, Slot->Kind, 0);
        EXPECT_BUG_CHECK(IoFreeMdl(Slot->Mdl));
        CHECK_EQUAL(FakeBugCheck.Code, DRIVER_VERIFIER_DETECTED_VIOLATION);
        CHECK_EQUAL(FakeBugCheck.Parameters[0], 0xB8);
    }
}

static VOID FreeMdl(MDL_SLOT *Slot)
{
    const BOOLEAN IsMapped = Slot->Address != NULL || Slot->Reservation != RESERVATION_SLOTS;
    if (Slot->UserCount != 0 || (Slot->Kind == MdlPages && IsUsedByOthers(Slot)) ||
        (IsMapped && MmVerifierLevel != 0)) {
        ExpectNoFree(Slot);
        return;
    }
    Note("free MDL", (ULONG_PTR)Slot->Mdl, Slot->Kind, Slot->PageCount);
    if (Slot->Kind == MdlLocked) {
        MmUnlockPages(Slot->Mdl);
    }
    if (Slot->Kind != MdlPages) {
        IoFreeMdl(Slot->Mdl);
    } else {
        MmFreePagesFromMdl(Slot->Mdl);
        ExFreePool(Slot->Mdl);
    }
    ForgetMdlMapping(Slot);
    if (Slot->Kind == MdlIoSpace) {
        ModelReleaseFrames(Slot->Pfns, Slot->PageCount);
    } else if (Slot->Kind == MdlLocked) {
        Pools[Slot->Source].UserCount -= 1;
    } else if (Slot->Kind != MdlPages) {
        Mdls[Slot->Source].UserCount -= 1;
    }
    for (PFN_NUMBER Page = 0; Slot->Kind == MdlPages && Page < Slot->PageCount; Page += 1) {
        ModelDisownFrame(Slot->Pfns[Page]);
    }
    Slot->Mdl = NULL;
}

VOID StepMdl(VOID)
{
    MDL_SLOT *Slot = &Mdls[CHOOSE(Mdls)];
    if (Slot->Mdl == NULL) {
        switch (Below(5)) {
        case 0:
            AllocateIoMdl(Slot);
            return;
        case 1:
            AllocatePagesMdl(Slot);
            return;
        case 2:
            LockPool(Slot);
            return;
        case 3:
            MakePartialMdl(Slot);
            return;
        default:
            MakeMdlByHand(Slot);
            return;
        }
    }
    if (OneIn(6)) {
        FreeMdl(Slot);
    } else if (OneIn(6)) {
        AdvanceMdl(Slot);
    } else if (Slot->Address != NULL && OneIn(4)) {
        ProtectMdl(Slot);
    } else if (Slot->Address == NULL && Slot->Reservation == RESERVATION_SLOTS && OneIn(6)) {
        CallWithMdl(Slot);
    } else if (Slot->Address != NULL) {
        UnmapMdl(Slot);
    } else if (Slot->Reservation == RESERVATION_SLOTS) {
        MapMdl(Slot);
    }
}

VOID FinishMdls(VOID)
{
    // Those first that use the frames of others.
    for (ULONG Pass = 0; Pass < 2; Pass += 1) {
        for (ULONG Index = 0; Index < MDL_SLOTS; Index += 1) {
            if (Mdls[Index].Mdl != NULL &&
                (Pass == 1 || Mdls[Index].Kind == MdlHandMade || Mdls[Index].Kind == MdlPartial)) {
                if (Mdls[Index].Address != NULL) {
                    UnmapMdl(&Mdls[Index]);
                }
                FreeMdl(&Mdls[Index]);
                CHECK(Mdls[Index].Mdl == NULL);
            }
        }
    }
}
