// Steps of reserved mappings.
#include "tests/host/steps.h"

static VOID Reserve(RESERVATION_SLOT *Slot)
{
    const BOOLEAN IsAligned = OneIn(4);
    const SIZE_T ByteCount =
        IsAligned ? PAGES(1ull << Below(11)) : 1 + Below(PAGES(OneIn(8) ? 600 : MAXIMUM_MDL_PAGES));
    const ULONG Tag = OneIn(2) ? TAG_A : 1;
    Note("reserve", ByteCount, Tag, IsAligned);
    MaybeStartFailures();
    const PVOID Va = IsAligned || OneIn(4)
                         ? MmAllocateMappingAddressEx(ByteCount, Tag,
                                                      IsAligned ? MM_MAPPING_ADDRESS_DIVISIBLE : 0)
                         : MmAllocateMappingAddress(ByteCount, Tag);
    CHECK(StopFailures(Va == NULL) || Va != NULL);
    if (Va == NULL) {
        return;
    }
    CHECK_EQUAL((ULONG_PTR)Va % (IsAligned ? ByteCount : PAGE_SIZE), 0);
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
    const BOOLEAN IsVerified = MmVerifierLevel != 0;
    if (Source->Mdl == NULL) {
        return;
    }
    const MI_CACHE_TYPE CacheType = ChooseCacheType(Source->Pfns[0]);
    const BOOLEAN IsMapped = Source->Address != NULL || Source->Reservation != RESERVATION_SLOTS;
    const BOOLEAN IsLegal = !IsMapped && Source->PageCount <= Slot->Mapping.PageCount;
    if (IsMapped && IsVerified) {
        Note("map reserved twice", (ULONG_PTR)Slot->Va, (ULONG_PTR)Source->Mdl, CacheType);
        EXPECT_BUG_CHECK(Ignore(MmMapLockedPagesWithReservedMapping(
            Slot->Va, Slot->Tag, Source->Mdl, CachingOf(CacheType))));
        CHECK_EQUAL(FakeBugCheck.Code, DRIVER_VERIFIER_DETECTED_VIOLATION);
        CHECK_EQUAL(FakeBugCheck.Parameters[0], 0xB2);
        return;
    }
    const PVOID MappingAddress = (PUCHAR)Slot->Va + (!IsVerified && OneIn(4) ? 4 : 0);
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
    Slot->Mapping.IsOwn = IsUncounted(Source->Mdl);
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

VOID StepReservation(VOID)
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

VOID FinishReservations(VOID)
{
    for (ULONG Index = 0; Index < RESERVATION_SLOTS; Index += 1) {
        RESERVATION_SLOT *Slot = &Reservations[Index];
        if (Slot->Va != NULL && Slot->Mdl != MDL_SLOTS) {
            UnmapReserved(Slot);
        }
        if (Slot->Va != NULL) {
            FreeReservation(Slot);
        }
    }
}
