// Steps of MDLs that lock pool, describe a part of another MDL, are advanced, protected, or mapped for
// the time of one call.
#include "tests/host/steps.h"

// FALSE: it raised, which nothing but a failure on purpose makes it do.
static BOOLEAN TryLock(PMDL Mdl, LOCK_OPERATION Operation)
{
    volatile BOOLEAN IsLocked = TRUE;
    KmTry {
        MmProbeAndLockPages(Mdl, KernelMode, Operation);
    }
    KmCatch (Status) {
        CHECK_EQUAL((ULONG)Status, (ULONG)STATUS_INSUFFICIENT_RESOURCES);
        IsLocked = FALSE;
    }
    return IsLocked;
}

VOID LockPool(MDL_SLOT *Slot)
{
    const ULONG Source = CHOOSE(Pools);
    if (Pools[Source].Block == NULL) {
        return;
    }
    const ULONG Offset = (ULONG)Below(Pools[Source].ByteCount);
    const ULONG ByteCount = 1 + (ULONG)Below(Pools[Source].ByteCount - Offset);
    const PUCHAR Va = Pools[Source].Block + Offset;
    const PMDL Mdl = IoAllocateMdl(Va, ByteCount, FALSE, FALSE, NULL);
    CHECK(Mdl != NULL);
    Note("lock pool", (ULONG_PTR)Va, ByteCount, 0);
    MaybeStartFailures();
    const BOOLEAN IsLocked = TryLock(Mdl, (LOCK_OPERATION)Below(3));
    CHECK(StopFailures(!IsLocked) || IsLocked);
    if (!IsLocked) {
        IoFreeMdl(Mdl);
        return;
    }
    RecordMdl(Slot, Mdl, MdlLocked);
    Slot->Source = Source;
    Pools[Source].UserCount += 1;
    for (PFN_NUMBER Page = 0; Page < Slot->PageCount; Page += 1) {
        const PUCHAR PageVa = (PUCHAR)PAGE_ALIGN(Va) + PAGES(Page);
        CHECK_EQUAL(Slot->Pfns[Page], PfnOf((ULONG64)MmGetPhysicalAddress(PageVa).QuadPart));
        CHECK(MiPfnElement(Slot->Pfns[Page])->LockCount != 0);
    }
}

// A part of one that is not mapped, so that it inherits no mapping.
VOID MakePartialMdl(MDL_SLOT *Slot)
{
    const ULONG Index = CHOOSE(Mdls);
    MDL_SLOT *Source = &Mdls[Index];
    if (Source->Mdl == NULL || Source->Kind == MdlHandMade || Source->Kind == MdlPartial ||
        Source->Address != NULL || Source->Reservation != RESERVATION_SLOTS) {
        return;
    }
    const ULONG Offset = (ULONG)Below(Source->Mdl->ByteCount);
    const ULONG ByteCount = 1 + (ULONG)Below(Source->Mdl->ByteCount - Offset);
    const PVOID Va = (PVOID)((ULONG_PTR)MmGetMdlVirtualAddress(Source->Mdl) + Offset);
    const PMDL Mdl = IoAllocateMdl(Va, ByteCount, FALSE, FALSE, NULL);
    CHECK(Mdl != NULL);
    Note("partial MDL", Index, Offset, ByteCount);
    IoBuildPartialMdl(Source->Mdl, Mdl, Va, ByteCount);
    RecordMdl(Slot, Mdl, MdlPartial);
    Slot->IsIo = Source->IsIo;
    Slot->Source = Index;
    Source->UserCount += 1;
    const PFN_NUMBER First = (Source->Mdl->ByteOffset + Offset) >> PAGE_SHIFT;
    CHECK(memcmp(Slot->Pfns, &Source->Pfns[First], Slot->PageCount * sizeof(PFN_NUMBER)) == 0);
}

// The model's side of MmAdvanceMdl past whole pages.
static VOID PassPages(MDL_SLOT *Slot, PFN_NUMBER Passed)
{
    const BOOLEAN IsMapped = Slot->Address != NULL;
    if (IsMapped) {
        ModelRemoveMapping(&Slot->Mapping);
    }
    for (int Holder = 0; Holder < (Slot->Kind == MdlIoSpace) + (Slot->IsIo && IsMapped);
         Holder += 1) {
        ModelReleaseFrames(Slot->Pfns, Passed);
    }
    Slot->PageCount -= Passed;
    memmove(Slot->Pfns, &Slot->Pfns[Passed], Slot->PageCount * sizeof(PFN_NUMBER));
    if (IsMapped) {
        ModelCheckUnmapped(Slot->Mapping.Va);
        ModelCheckUnmapped(Slot->Mapping.Va + PAGES(Passed - 1));
        Slot->Mapping.Va += PAGES(Passed);
        Slot->Mapping.PageCount -= Passed;
        Slot->Mapping.MappedCount -= Passed;
        Slot->Mapping.GuardsBefore += Passed;
        ModelAddMapping(&Slot->Mapping);
    }
}

VOID AdvanceMdl(MDL_SLOT *Slot)
{
    const ULONG ByteCount = (ULONG)Below(Slot->Mdl->ByteCount);
    const PFN_NUMBER Passed = ((ULONG64)Slot->Mdl->ByteOffset + ByteCount) >> PAGE_SHIFT;
    const PUCHAR Va = MmGetMdlVirtualAddress(Slot->Mdl);
    if (Slot->Kind == MdlPages || Slot->UserCount != 0) {
        return;
    }
    const BOOLEAN IsExpected = Passed == 0 || Slot->Reservation == RESERVATION_SLOTS;
    Note("advance MDL", (ULONG_PTR)Slot->Mdl, ByteCount, Passed);
    MaybeStartFailures();
    const NTSTATUS Status = MmAdvanceMdl(Slot->Mdl, ByteCount);
    const BOOLEAN MayFail = StopFailures(!NT_SUCCESS(Status));
    CHECK(NT_SUCCESS(Status) ? IsExpected : !IsExpected || MayFail);
    CHECK_EQUAL(MmAdvanceMdl(Slot->Mdl, Slot->Mdl->ByteCount + 1), STATUS_INVALID_PARAMETER_2);
    if (!NT_SUCCESS(Status)) {
        return;
    }
    CHECK_EQUAL((ULONG_PTR)MmGetMdlVirtualAddress(Slot->Mdl), (ULONG_PTR)Va + ByteCount);
    if (Passed != 0) {
        PassPages(Slot, Passed);
    }
    CHECK_EQUAL(MiMdlPageCount(Slot->Mdl), Slot->PageCount);
    CHECK(memcmp(Slot->Pfns, MmGetMdlPfnArray(Slot->Mdl), Slot->PageCount * sizeof(PFN_NUMBER)) ==
          0);
    if (Slot->Address != NULL) {
        Slot->Address = (PUCHAR)Slot->Address + ByteCount;
        CHECK_EQUAL(Slot->Mdl->MappedSystemVa, Slot->Address);
        CheckEnds(&Slot->Mapping);
    }
}

static const struct {
    ULONG Protect;
    MI_ACCESS Access;
} Protections[] = {
    {PAGE_READONLY, MiAccessRead},
    {PAGE_READWRITE, MiAccessReadWrite},
    {PAGE_EXECUTE_READ, MiAccessExecuteRead},
    {PAGE_EXECUTE_READWRITE, MiAccessExecuteReadWrite},
};

VOID ProtectMdl(MDL_SLOT *Slot)
{
    const ULONG Row = (ULONG)Below(ARRAYSIZE(Protections));
    Note("protect MDL", (ULONG_PTR)Slot->Mdl, Protections[Row].Protect, 0);
    CHECK_EQUAL(MmProtectMdlSystemAddress(Slot->Mdl, PAGE_READWRITE | PAGE_GUARD),
                STATUS_INVALID_PAGE_PROTECTION);
    if (OneIn(3)) {
        CHECK_EQUAL(MmProtectMdlSystemAddress(Slot->Mdl, PAGE_NOACCESS), STATUS_SUCCESS);
        CheckGone(&Slot->Mapping);
    }
    CHECK_EQUAL(MmProtectMdlSystemAddress(Slot->Mdl, Protections[Row].Protect), STATUS_SUCCESS);
    Slot->Mapping.Access = Protections[Row].Access;
    CheckEnds(&Slot->Mapping);
}

static VOID NTAPI LookAtMapping(PVOID Context, PVOID Va)
{
    const MDL_SLOT *Slot = Context;
    CHECK_EQUAL(BYTE_OFFSET(Va), Slot->Mdl->ByteOffset);
    for (PFN_NUMBER Page = 0; Page < Slot->PageCount; Page += 1) {
        CHECK_EQUAL(FakeWalk((ULONG_PTR)Va + PAGES(Page)).Pfn, Slot->Pfns[Page]);
    }
}

VOID CallWithMdl(MDL_SLOT *Slot)
{
    const MI_CACHE_TYPE CacheType = ChooseCacheType(Slot->Pfns[0]);
    Note("call with MDL", (ULONG_PTR)Slot->Mdl, Slot->PageCount, CacheType);
    MaybeStartFailures();
    const NTSTATUS Status =
        MmMapMdl(Slot->Mdl, PAGE_READWRITE | ProtectModifierOf(CacheType), LookAtMapping, Slot);
    CHECK(StopFailures(!NT_SUCCESS(Status)) || NT_SUCCESS(Status));
    CHECK((Slot->Mdl->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA) == 0);
    if (NT_SUCCESS(Status)) {
        DecideMdl(Slot, CacheType);
    }
}
