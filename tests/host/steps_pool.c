// Steps of the pool and of claims.
#include "tests/host/steps.h"

//
// Pool.
//

// Zeroed memory of any kind, from any routine that has it.
static PVOID CallAllocatePool(SIZE_T ByteCount, ULONG Tag, BOOLEAN IsAligned)
{
    static const POOL_FLAGS Kinds[] = {POOL_FLAG_NON_PAGED, POOL_FLAG_PAGED,
                                       POOL_FLAG_NON_PAGED_EXECUTE};
    static const POOL_TYPE Types[] = {NonPagedPoolNx, PagedPool, NonPagedPool};
    const POOL_EXTENDED_PARAMETER Wish = {.Type = PoolExtendedParameterPriority,
                                          .Priority = NormalPoolPriority};
    const ULONG Kind = OneIn(3) ? (ULONG)Below(ARRAYSIZE(Kinds)) : 0;
    const POOL_FLAGS Flags = Kinds[Kind] | (IsAligned ? POOL_FLAG_CACHE_ALIGNED : 0);
    if (OneIn(4)) {
        return ExAllocatePool3(Flags, ByteCount, Tag, &Wish, 1);
    }
    if (!IsAligned && OneIn(4)) {
        return ExAllocatePoolWithTag((POOL_TYPE)((ULONG)Types[Kind] | POOL_ZERO_ALLOCATION),
                                     ByteCount, Tag);
    }
    return ExAllocatePool2(Flags, ByteCount, Tag);
}

static VOID AllocatePool(POOL_SLOT *Slot)
{
    const SIZE_T ByteCount = 1 + Below(OneIn(16) ? PAGES(5) : OneIn(4) ? PAGE_SIZE : 200);
    const ULONG Tag = OneIn(2) ? TAG_A : TAG_B;
    const BOOLEAN IsAligned = OneIn(6);
    Note("allocate pool", ByteCount, Tag, IsAligned);
    MaybeStartFailures();
    const PVOID Block = CallAllocatePool(ByteCount, Tag, IsAligned);
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

VOID StepPool(VOID)
{
    POOL_SLOT *Slot = &Pools[CHOOSE(Pools)];
    if (Slot->Block != NULL) {
        FreePool(Slot);
    } else {
        AllocatePool(Slot);
    }
}

//

VOID FinishPool(VOID)
{
    for (ULONG Index = 0; Index < POOL_SLOTS; Index += 1) {
        if (Pools[Index].Block != NULL) {
            FreePool(&Pools[Index]);
        }
    }
}

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

VOID StepClaim(VOID)
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

VOID FinishClaims(VOID)
{
    for (ULONG Index = 0; Index < CLAIM_SLOTS; Index += 1) {
        if (Claims[Index].Claim != NULL) {
            MmReleasePhysicalRange(Claims[Index].Claim);
            Claims[Index].Claim = NULL;
        }
    }
}
