// The ledger of cache types: who may hold a frame beside whom, what is
// inherited, who is named, and what is kept for the next hold.
#include "mm/miquick.h"
#include "tests/host/host.h"
#include "tests/host/random.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)
#define FIRST_PFN (FAKE_IO_HIGH >> PAGE_SHIFT)
#define LEAF_FRAMES ((PFN_NUMBER)MI_LEAF_SLOTS)
#define SOMEBODY ((PVOID)0x1000)
#define ANOTHER ((PVOID)0x2000)
#define A_THIRD ((PVOID)0x3000)

static MI_PFN_RANGE Frames(PFN_NUMBER FirstPfn, PFN_NUMBER Count)
{
    return (MI_PFN_RANGE){FirstPfn, FirstPfn + Count - 1};
}

// Time goes by, more than the ledger's slots can tell apart.
static VOID Wait(VOID)
{
    KeTickCycles += 4ull << MI_LEDGER_TIME_SHIFT;
}

static MEMORY_CACHING_TYPE TypeAt(ULONG64 Address)
{
    MEMORY_CACHING_TYPE Type;
    CHECK_EQUAL(MmGetCacheAttribute(Pa(Address), &Type), STATUS_SUCCESS);
    return Type;
}

//
// Three ways to hold frames, each of which includes the sixth page from a base
// on.
//

typedef enum _WAY { WaySlot, WayRange, WayPermanent, WayCount } WAY;

static const struct {
    ULONG64 Offset;
    SIZE_T ByteCount;
} Ways[] = {
    [WaySlot] = {5 * PAGE_SIZE, PAGE_SIZE},
    [WayRange] = {0, 2 * MIB},
    [WayPermanent] = {3 * PAGE_SIZE, 8 * PAGE_SIZE},
};

#define SHARED_OFFSET (5 * PAGE_SIZE)

typedef struct _HOLD {
    WAY Way;
    BOOLEAN IsHeld;
    PVOID Va; // NULL: permanent
} HOLD;

static HOLD Hold(WAY Way, ULONG64 Base, MEMORY_CACHING_TYPE Type)
{
    HOLD Result = {Way, FALSE, NULL};
    const PHYSICAL_ADDRESS Address = Pa(Base + Ways[Way].Offset);
    if (Way == WayPermanent) {
        const LARGE_INTEGER Bytes = {.QuadPart = (LONG64)Ways[Way].ByteCount};
        const NTSTATUS Status =
            MmSetPermanentCacheAttribute(Address, Bytes, Type, MM_PERMANENT_ADDRESS_IS_IO_SPACE);
        CHECK(Status == STATUS_SUCCESS || Status == STATUS_CONFLICTING_ADDRESSES);
        Result.IsHeld = NT_SUCCESS(Status);
    } else {
        Result.Va = MmMapIoSpace(Address, Ways[Way].ByteCount, Type);
        Result.IsHeld = Result.Va != NULL;
    }
    return Result;
}

static VOID Release(HOLD Held)
{
    if (Held.Va != NULL) {
        MmUnmapIoSpace(Held.Va, Ways[Held.Way].ByteCount);
    }
}

static VOID TryPair(WAY First, WAY Second, ULONG64 Base, MEMORY_CACHING_TYPE SecondType)
{
    const BOOLEAN IsAgreed = SecondType == MmNonCached;
    MM_MEMORY_USE Before;
    const HOLD Held = Hold(First, Base, MmNonCached);
    MmQueryMemoryUse(&Before);
    const HOLD Other = Hold(Second, Base, SecondType);
    CHECK(Held.IsHeld);
    CHECK_EQUAL(Other.IsHeld, IsAgreed);
    if (!IsAgreed) {
        HostCheckRefusal("already in use with another cache type");
        HostCheckSameUse(&Before, "a refused hold");
    }
    CHECK_EQUAL(TypeAt(Base + SHARED_OFFSET), MmNonCached);
    Release(Held);
    Release(Other);
    const BOOLEAN IsPermanent = First == WayPermanent || (IsAgreed && Second == WayPermanent);
    CHECK_EQUAL(TypeAt(Base + SHARED_OFFSET), IsPermanent ? MmNonCached : MmNotMapped);
    const HOLD Later = Hold(WaySlot, Base, MmWriteCombined);
    CHECK_EQUAL(Later.IsHeld, !IsPermanent);
    Release(Later);
}

static VOID Two_holders_agree_or_the_second_is_refused_however_they_hold(VOID)
{
    static const MEMORY_CACHING_TYPE Types[] = {MmNonCached, MmWriteCombined, MmCached};
    ULONG64 Base = FAKE_IO_HIGH;
    for (ULONG First = 0; First < WayCount; First += 1) {
        for (ULONG Second = 0; Second < WayCount; Second += 1) {
            for (ULONG Type = 0; Type < ARRAYSIZE(Types); Type += 1) {
                TryPair((WAY)First, (WAY)Second, Base, Types[Type]);
                Base += 4 * MIB;
            }
        }
    }
}

static VOID The_type_goes_with_the_last_holder_not_with_the_first(VOID)
{
    for (ULONG First = WaySlot; First <= WayRange; First += 1) {
        for (ULONG Second = WaySlot; Second <= WayRange; Second += 1) {
            const HOLD Held = Hold((WAY)First, FAKE_IO_HIGH, MmNonCached);
            const HOLD Other = Hold((WAY)Second, FAKE_IO_HIGH, MmNonCached);
            Release(Held);
            CHECK(!Hold(WaySlot, FAKE_IO_HIGH, MmCached).IsHeld);
            CHECK(!Hold(WayRange, FAKE_IO_HIGH, MmCached).IsHeld);
            Release(Other);
            const HOLD Later = Hold(WayRange, FAKE_IO_HIGH, MmCached);
            CHECK(Later.IsHeld);
            Release(Later);
        }
    }
}

//
// MDLs, which leave the type open.
//

static PMDL MdlOf(ULONG64 Base, SIZE_T ByteCount)
{
    MM_PHYSICAL_ADDRESS_LIST List = {Pa(Base), ByteCount};
    PMDL Mdl;
    CHECK_EQUAL(MmAllocateMdlForIoSpace(&List, 1, &Mdl), STATUS_SUCCESS);
    return Mdl;
}

// Maps the MDL cached, if that can be had, and looks at one of its pages.
static VOID CheckTypeThroughMdl(PMDL Mdl, PFN_NUMBER Page, MI_CACHE_TYPE Expected)
{
    const PUCHAR Va =
        MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmCached, NULL, FALSE, NormalPagePriority);
    CHECK(Va != NULL);
    CHECK_PAGE(Va + PAGES(Page), MmGetMdlPfnArray(Mdl)[Page], MiAccessReadWrite, Expected);
    MmUnmapLockedPages(Va, Mdl);
}

static VOID An_MDL_takes_the_type_of_the_mapping_above_it_and_keeps_it(VOID)
{
    for (ULONG Way = WaySlot; Way <= WayRange; Way += 1) {
        const HOLD Held = Hold((WAY)Way, FAKE_IO_HIGH, MmWriteCombined);
        const PMDL Mdl = MdlOf(FAKE_IO_HIGH + SHARED_OFFSET, PAGE_SIZE);
        CheckTypeThroughMdl(Mdl, 0, MiCacheWriteCombined);
        Release(Held);
        CheckTypeThroughMdl(Mdl, 0, MiCacheWriteCombined);
        CHECK(!Hold(WayRange, FAKE_IO_HIGH, MmCached).IsHeld);
        IoFreeMdl(Mdl);
        CHECK_EQUAL(TypeAt(FAKE_IO_HIGH + SHARED_OFFSET), MmNotMapped);
    }
}

static VOID A_mapping_decides_the_open_frames_of_the_MDLs_below_it(VOID)
{
    for (ULONG Way = WaySlot; Way < WayCount; Way += 1) {
        const ULONG64 Base = FAKE_IO_HIGH + Way * 4 * MIB;
        const PMDL Mdl = MdlOf(Base + SHARED_OFFSET - PAGE_SIZE, 2 * PAGE_SIZE);
        CHECK_EQUAL(TypeAt(Base + SHARED_OFFSET), MmNotMapped);
        const HOLD Held = Hold((WAY)Way, Base, MmNonCached);
        CHECK(Held.IsHeld);
        Release(Held);
        CHECK_EQUAL(TypeAt(Base + SHARED_OFFSET), MmNonCached);
        CHECK(!Hold(WayRange, Base, MmWriteCombined).IsHeld);
        CheckTypeThroughMdl(Mdl, 1, MiCacheUncached);
        IoFreeMdl(Mdl);
    }
}

static VOID Of_two_MDLs_with_a_frame_the_one_that_is_mapped_first_decides(VOID)
{
    const PMDL First = MdlOf(FAKE_IO_LOW, 3 * PAGE_SIZE);
    const PMDL Second = MdlOf(FAKE_IO_LOW + 2 * PAGE_SIZE, 3 * PAGE_SIZE);
    CheckTypeThroughMdl(Second, 0, MiCacheWriteBack);
    IoFreeMdl(Second);
    CHECK_EQUAL(TypeAt(FAKE_IO_LOW + 2 * PAGE_SIZE), MmCached);
    CHECK_EQUAL(TypeAt(FAKE_IO_LOW + 1 * PAGE_SIZE), MmNotMapped);
    CHECK_EQUAL(TypeAt(FAKE_IO_LOW + 3 * PAGE_SIZE), MmNotMapped);
    CHECK(MmMapIoSpace(Pa(FAKE_IO_LOW), 3 * PAGE_SIZE, MmNonCached) == NULL);
    IoFreeMdl(First);
}

//
// Idle ranges.
//

static VOID MapAndUnmap(ULONG64 Base, MEMORY_CACHING_TYPE Type)
{
    const HOLD Held = Hold(WayRange, Base, Type);
    CHECK(Held.IsHeld);
    Release(Held);
    CHECK_EQUAL(MiIdleRangeCount, 1);
}

static VOID AskByWay(WAY Way)
{
    const HOLD Held = Hold(Way, FAKE_IO_HIGH, MmNonCached);
    CHECK(Held.IsHeld);
    Release(Held);
}

static VOID AskBySlot(VOID)
{
    AskByWay(WaySlot);
}

// Not at the same place, so that it takes another slot of addresses.
static VOID AskByRange(VOID)
{
    const PVOID Va = MmMapIoSpace(Pa(FAKE_IO_HIGH + PAGE_SIZE), 2 * MIB, MmNonCached);
    CHECK(Va != NULL);
    MmUnmapIoSpace(Va, 2 * MIB);
}

static VOID AskByMdl(VOID)
{
    const PMDL Mdl = MdlOf(FAKE_IO_HIGH + 2 * MIB - PAGE_SIZE, 2 * PAGE_SIZE);
    const PVOID Va =
        MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmNonCached, NULL, FALSE, NormalPagePriority);
    CHECK_PAGE(Va, MmGetMdlPfnArray(Mdl)[0], MiAccessReadWrite, MiCacheUncached);
    MmUnmapLockedPages(Va, Mdl);
    IoFreeMdl(Mdl);
}

static VOID AskForType(VOID)
{
    CHECK_EQUAL(TypeAt(FAKE_IO_HIGH + 2 * MIB - 1), MmNotMapped);
}

static VOID AskByPermanent(VOID)
{
    AskByWay(WayPermanent);
}

static VOID A_range_that_was_given_back_is_in_nobodys_way(VOID)
{
    static VOID (*const Asks[])(VOID) = {AskBySlot, AskByRange, AskByMdl, AskForType,
                                         AskByPermanent};
    for (ULONG Row = 0; Row < ARRAYSIZE(Asks); Row += 1) {
        MapAndUnmap(FAKE_IO_HIGH, MmWriteCombined);
        Asks[Row]();
        MmTrim();
        CHECK_EQUAL(MiIdleRangeCount, 0);
    }
}

static VOID What_is_asked_beside_an_idle_range_leaves_it(VOID)
{
    MapAndUnmap(FAKE_IO_HIGH, MmWriteCombined);
    CHECK_EQUAL(TypeAt(FAKE_IO_HIGH + 2 * MIB), MmNotMapped);
    CHECK_EQUAL(TypeAt(FAKE_IO_HIGH - 1), MmNotMapped);
    CHECK_EQUAL(MiIdleRangeCount, 1);
    CHECK_EQUAL(TypeAt(FAKE_IO_HIGH), MmNotMapped);
    CHECK_EQUAL(MiIdleRangeCount, 0);
}

static VOID An_idle_range_is_mapped_again_with_the_same_addresses(VOID)
{
    const HOLD First = Hold(WayRange, FAKE_IO_HIGH, MmNonCached);
    Release(First);
    for (ULONG Round = 0; Round < 3; Round += 1) {
        const HOLD Again = Hold(WayRange, FAKE_IO_HIGH, MmNonCached);
        CHECK(Again.Va == First.Va);
        CHECK_EQUAL(MiIdleRangeCount, 0);
        CHECK(!Hold(WaySlot, FAKE_IO_HIGH, MmCached).IsHeld);
        Release(Again);
    }
    const HOLD Other = Hold(WayRange, FAKE_IO_HIGH, MmWriteCombined);
    CHECK_PAGE(Other.Va, FIRST_PFN, MiAccessReadWrite, MiCacheWriteCombined);
    Release(Other);
}

static VOID A_range_that_was_forgotten_asks_anew(VOID)
{
    MapAndUnmap(FAKE_IO_HIGH, MmNonCached);
    const HOLD Small = Hold(WaySlot, FAKE_IO_HIGH, MmCached);
    CHECK(!Hold(WayRange, FAKE_IO_HIGH, MmNonCached).IsHeld);
    HostCheckRefusal("already in use with another cache type");
    Release(Small);
    const HOLD Large = Hold(WayRange, FAKE_IO_HIGH, MmNonCached);
    CHECK_PAGE(Large.Va, FIRST_PFN, MiAccessReadWrite, MiCacheUncached);
    Release(Large);
}

static VOID An_idle_range_goes_with_its_addresses(VOID)
{
    MapAndUnmap(FAKE_IO_HIGH, MmNonCached);
    MmTrim();
    CHECK_EQUAL(MiIdleRangeCount, 0);
    for (ULONG Type = 0; Type < MiCacheTypeCount; Type += 1) {
        CHECK_EQUAL(MiRanges[Type].NodeCount, 0);
        CHECK_EQUAL(MiOpposingRangeCount[Type], 0);
    }
}

//
// Nodes.
//

static VOID HoldFrame(PFN_NUMBER Pfn, MI_CACHE_TYPE Type)
{
    CHECK_EQUAL(MiHoldFrames(Frames(Pfn, 1), Type, SOMEBODY), STATUS_SUCCESS);
}

static VOID ReleaseFrame(PFN_NUMBER Pfn)
{
    MiReleaseFrames(Frames(Pfn, 1));
}

static ULONG64 NodeCount(VOID)
{
    return MiPfnStateCountOf(MiPfnLedger);
}

static VOID One_empty_leaf_is_kept_for_the_next_hold(VOID)
{
    const PFN_NUMBER Here = FIRST_PFN;
    const PFN_NUMBER There = FIRST_PFN + LEAF_FRAMES;
    HoldFrame(Here, MiCacheUncached);
    CHECK_EQUAL(NodeCount(), 3); // one of each level
    ReleaseFrame(Here);
    CHECK_EQUAL(NodeCount(), 3);
    HoldFrame(Here, MiCacheUncached);
    CHECK_EQUAL(NodeCount(), 3);
    ReleaseFrame(Here);
    HoldFrame(There, MiCacheUncached);
    CHECK_EQUAL(NodeCount(), 4);
    ReleaseFrame(There); // is kept instead
    CHECK_EQUAL(NodeCount(), 3);
    HoldFrame(There,
              MiCacheUncached); // in use again, though it is the one that was kept
    HoldFrame(Here, MiCacheUncached);
    ReleaseFrame(Here);
    CHECK_EQUAL(NodeCount(), 4);
    ReleaseFrame(There);
    CHECK_EQUAL(NodeCount(), 3);
}

static VOID Trimming_frees_what_holds_nothing_and_nothing_else(VOID)
{
    HoldFrame(FIRST_PFN, MiCacheUncached);
    HoldFrame(FIRST_PFN + LEAF_FRAMES, MiCacheUncached);
    HoldFrame(MiHighestPfn(), MiCacheWriteCombined);
    ReleaseFrame(FIRST_PFN);
    MmTrim();
    CHECK_EQUAL(NodeCount(), 6);
    MI_CACHE_OWNER Owner;
    CHECK(MiQueryFrame(FIRST_PFN + LEAF_FRAMES, &Owner) && Owner.CacheType == MiCacheUncached);
    CHECK(MiQueryFrame(MiHighestPfn(), &Owner) && Owner.CacheType == MiCacheWriteCombined);
    ReleaseFrame(FIRST_PFN + LEAF_FRAMES);
    ReleaseFrame(MiHighestPfn());
    MmTrim();
    CHECK_EQUAL(NodeCount(), 0);
    HoldFrame(FIRST_PFN, MiCacheUncached);
    ReleaseFrame(FIRST_PFN);
}

static VOID Many_pages_are_held_all_or_not_at_all(VOID)
{
    const MI_PFN_RANGE Many = Frames(FIRST_PFN - 3, 64 * LEAF_FRAMES);
    CHECK_EQUAL(MiHoldFrames(Many, MiCacheUncached, SOMEBODY), STATUS_SUCCESS);
    CHECK_EQUAL(MiLedgerUsedCount(), 64 * LEAF_FRAMES);
    CHECK_EQUAL(NodeCount(), 65 + 2 + 2); // 65 leaves on both sides of a border of every level
    MiReleaseFrames(Many);
    CHECK_EQUAL(MiLedgerUsedCount(), 0);
    HoldFrame(Many.LastPfn, MiCacheWriteCombined);
    CHECK_EQUAL(MiHoldFrames(Many, MiCacheUncached, SOMEBODY), STATUS_CONFLICTING_ADDRESSES);
    CHECK_EQUAL(MiLedgerUsedCount(), 1);
    const MI_PFN_RANGE InOneLeaf = Frames(Many.LastPfn - 5, 6); // by the short way
    CHECK_EQUAL(MiHoldFrames(InOneLeaf, MiCacheUncached, SOMEBODY), STATUS_CONFLICTING_ADDRESSES);
    CHECK_EQUAL(MiLedgerUsedCount(), 1);
    ReleaseFrame(Many.LastPfn);
    CHECK_EQUAL(MiHoldFrames(InOneLeaf, MiCacheUncached, SOMEBODY), STATUS_SUCCESS);
    CHECK_EQUAL(MiLedgerUsedCount(), 6);
    MiReleaseFrames(InOneLeaf);
    MmTrim();
    CHECK_EQUAL(NodeCount(), 0);
}

static VOID Without_memory_for_a_node_nothing_is_held(VOID)
{
    const MI_PFN_RANGE Many = Frames(FIRST_PFN, 8 * LEAF_FRAMES);
    for (ULONG Skip = 0; Skip < 10; Skip += 1) {
        MmStartFailures(MM_FAIL_FRAMES, Skip, 1);
        const NTSTATUS Status = MiHoldFrames(Many, MiCacheUncached, SOMEBODY);
        CHECK_EQUAL(MmStopFailures(), 1);
        CHECK_EQUAL(Status, STATUS_INSUFFICIENT_RESOURCES);
        CHECK_EQUAL(MiLedgerUsedCount(), 0);
        MmTrim();
        CHECK_EQUAL(NodeCount(), 0);
    }
}

static VOID A_single_holder_is_found_in_the_widest_range(VOID)
{
    static const ULONG Distances[] = {0,
                                      MI_LEAF_SLOTS - 1,
                                      MI_LEAF_SLOTS,
                                      1u << MI_UPPER_SHIFT,
                                      (1u << MI_ROOT_SHIFT) - 1,
                                      1u << MI_ROOT_SHIFT,
                                      100000007};
    const MI_PFN_RANGE Wide = {FIRST_PFN, MiHighestPfn()};
    for (ULONG Row = 0; Row < ARRAYSIZE(Distances); Row += 1) {
        MI_RANGE_HOLD Range = {.State = MiRangeUnknown};
        MI_CACHE_OWNER Owner;
        CHECK(!MiFindCacheOwner(Wide, MiCacheUncached, &Owner));
        HoldFrame(FIRST_PFN + Distances[Row], MiCacheWriteCombined);
        CHECK(MiFindCacheOwner(Wide, MiCacheUncached, &Owner));
        CHECK_EQUAL(Owner.CacheType, MiCacheWriteCombined);
        CHECK(!MiFindCacheOwner(Wide, MiCacheWriteCombined, &Owner));
        CHECK_EQUAL(MiHoldRange(&Range, Wide, MiCacheUncached, ANOTHER),
                    STATUS_CONFLICTING_ADDRESSES);
        ReleaseFrame(FIRST_PFN + Distances[Row]);
    }
}

//
// Who decided.
//

static MI_CACHE_OWNER OwnerOf(PFN_NUMBER Pfn)
{
    MI_CACHE_OWNER Owner = {MiCacheUndecided, NULL, 0};
    CHECK(MiFindCacheOwner(Frames(Pfn, 1), MiCacheWriteBack, &Owner));
    return Owner;
}

static VOID The_first_who_decides_is_remembered_with_the_time(VOID)
{
    MI_CACHE_OWNER Owner;
    HoldFrame(FIRST_PFN, MiCacheUndecided);
    CHECK(!MiFindCacheOwner(Frames(FIRST_PFN, 1), MiCacheWriteBack, &Owner));
    CHECK(MiQueryFrame(FIRST_PFN, &Owner) && Owner.Caller == SOMEBODY);
    Wait();
    const ULONG64 Earlier = KeTickCycles;
    Wait();
    CHECK_EQUAL(MiDecideIoCacheType(FIRST_PFN, MiCacheUncached, ANOTHER), MiCacheUncached);
    Wait();
    CHECK_EQUAL(MiDecideIoCacheType(FIRST_PFN, MiCacheWriteCombined, A_THIRD), MiCacheUncached);
    CHECK_EQUAL(MiHoldFrames(Frames(FIRST_PFN, 1), MiCacheUncached, A_THIRD), STATUS_SUCCESS);
    Owner = OwnerOf(FIRST_PFN);
    CHECK(Owner.Caller == ANOTHER && Owner.CacheType == MiCacheUncached);
    CHECK(Owner.Time > Earlier && Owner.Time < KeTickCycles);
    ReleaseFrame(FIRST_PFN);
    CHECK(OwnerOf(FIRST_PFN).Caller == ANOTHER);
    ReleaseFrame(FIRST_PFN);
    CHECK(!MiQueryFrame(FIRST_PFN, &Owner));
}

static VOID A_range_is_named_where_it_decided(VOID)
{
    MI_RANGE_HOLD Range = {.State = MiRangeUnknown};
    HoldFrame(FIRST_PFN + 7, MiCacheUndecided);
    Wait();
    CHECK_EQUAL(MiHoldRange(&Range, Frames(FIRST_PFN, 512), MiCacheUncached, ANOTHER),
                STATUS_SUCCESS);
    CHECK(OwnerOf(FIRST_PFN).Caller == ANOTHER && OwnerOf(FIRST_PFN).Time == Range.Time);
    Wait();
    HoldFrame(FIRST_PFN + 9, MiCacheUndecided); // inherits from whom as well
    MiReleaseRange(&Range);
    MiForgetRange(&Range);
    for (PFN_NUMBER Pfn = FIRST_PFN + 7; Pfn <= FIRST_PFN + 9; Pfn += 2) {
        CHECK(OwnerOf(Pfn).Caller == ANOTHER);
        CHECK_EQUAL(OwnerOf(Pfn).Time >> MI_LEDGER_TIME_SHIFT, Range.Time >> MI_LEDGER_TIME_SHIFT);
        ReleaseFrame(Pfn);
    }
}

static VOID CheckRefusalOf(WAY Way, const CHAR *Words)
{
    Wait();
    CHECK(!Hold(Way, FAKE_IO_HIGH, MmCached).IsHeld);
    HostCheckRefusal(Words);
    HostCheckRefusal(" ms ago, as UC");
    HostCheckRefusal("MmMapIoSpace refused frames 0xe0000");
}

static VOID A_refusal_names_call_site_driver_time_type_and_claim(VOID)
{
    PMM_CLAIM Claim;
    FakeCallerIsDriver = TRUE;
    Wait();
    for (ULONG First = WaySlot; First < WayCount; First += 1) {
        const HOLD Held = Hold((WAY)First, FAKE_IO_HIGH, MmNonCached);
        CheckRefusalOf(WaySlot, "another cache type, held by HostCaller+0x0 (driver host), ");
        CheckRefusalOf(WayRange, "another cache type, held by HostCaller+0x0 (driver host), ");
        Release(Held);
    }
    CHECK_EQUAL(
        MmClaimPhysicalRange(Pa(FAKE_IO_HIGH), 2 * MIB, MmClaimDevice, "the video card", &Claim),
        STATUS_SUCCESS);
    CheckRefusalOf(WayRange, "held by the video card for HostCaller+0x0 (driver host), ");
    MmReleasePhysicalRange(Claim);
}

//
// A naive model, and random holds.
//

#define MODEL_FRAMES 1200
#define MODEL_HOLDS 24
#define MODEL_OPERATIONS 60000
#define MODEL_FIRST_PFN (FIRST_PFN + 0x10000 - 600) // both sides of a border between branches

static struct {
    ULONG HolderCount;
    MI_CACHE_TYPE Type;
} Model[MODEL_FRAMES];

static struct {
    BOOLEAN IsHeld;
    BOOLEAN IsRange;
    PFN_NUMBER First;
    PFN_NUMBER Count;
    MI_RANGE_HOLD Range;
} Holds[MODEL_HOLDS];

static BOOLEAN IsAgreed(PFN_NUMBER First, PFN_NUMBER Count, MI_CACHE_TYPE Type)
{
    for (PFN_NUMBER Frame = First; Frame < First + Count; Frame += 1) {
        if (Model[Frame].HolderCount != 0 && Model[Frame].Type != MiCacheUndecided &&
            Type != MiCacheUndecided && Model[Frame].Type != Type) {
            return FALSE;
        }
    }
    return TRUE;
}

static VOID ModelHold(PFN_NUMBER First, PFN_NUMBER Count, MI_CACHE_TYPE Type)
{
    for (PFN_NUMBER Frame = First; Frame < First + Count; Frame += 1) {
        if (Model[Frame].HolderCount == 0 || Model[Frame].Type == MiCacheUndecided) {
            Model[Frame].Type = Type;
        }
        Model[Frame].HolderCount += 1;
    }
}

static VOID TakeHold(RANDOM *Random, ULONG Index)
{
    const BOOLEAN IsRange = RandomBelow(Random, 3) == 0;
    const PFN_NUMBER Count = 1 + RandomBelow(Random, IsRange ? 600 : 40);
    const PFN_NUMBER First = RandomBelow(Random, MODEL_FRAMES - Count);
    const MI_CACHE_TYPE Type =
        (MI_CACHE_TYPE)RandomBelow(Random, IsRange ? MiCacheTypeCount : MiCacheUndecided + 1);
    const MI_PFN_RANGE Range = Frames(MODEL_FIRST_PFN + First, Count);
    const BOOLEAN Expected = IsAgreed(First, Count, Type);
    const NTSTATUS Status = IsRange ? MiHoldRange(&Holds[Index].Range, Range, Type, SOMEBODY)
                                    : MiHoldFrames(Range, Type, SOMEBODY);
    CHECK_EQUAL(Status, Expected ? STATUS_SUCCESS : STATUS_CONFLICTING_ADDRESSES);
    if (Expected) {
        ModelHold(First, Count, Type);
        Holds[Index].IsHeld = TRUE;
        Holds[Index].IsRange = IsRange;
        Holds[Index].First = First;
        Holds[Index].Count = Count;
    }
}

static VOID GiveHold(ULONG Index)
{
    if (Holds[Index].IsRange) {
        MiReleaseRange(&Holds[Index].Range);
    } else {
        MiReleaseFrames(Frames(MODEL_FIRST_PFN + Holds[Index].First, Holds[Index].Count));
    }
    for (PFN_NUMBER Page = 0; Page < Holds[Index].Count; Page += 1) {
        Model[Holds[Index].First + Page].HolderCount -= 1;
    }
    Holds[Index].IsHeld = FALSE;
}

static VOID CompareFrame(PFN_NUMBER Frame)
{
    MI_CACHE_OWNER Owner = {MiCacheUndecided, NULL, 0};
    CHECK_EQUAL(MiQueryFrame(MODEL_FIRST_PFN + Frame, &Owner), Model[Frame].HolderCount != 0);
    if (Model[Frame].HolderCount != 0) {
        CHECK_EQUAL(Owner.CacheType, Model[Frame].Type);
    }
}

static VOID DecideFrame(PFN_NUMBER Frame, MI_CACHE_TYPE Type)
{
    if (Model[Frame].HolderCount != 0) {
        Model[Frame].Type = Model[Frame].Type == MiCacheUndecided ? Type : Model[Frame].Type;
        CHECK_EQUAL(MiDecideIoCacheType(MODEL_FIRST_PFN + Frame, Type, ANOTHER), Model[Frame].Type);
    }
}

static VOID Step(RANDOM *Random)
{
    const ULONG Index = (ULONG)RandomBelow(Random, MODEL_HOLDS);
    const PFN_NUMBER Frame = RandomBelow(Random, MODEL_FRAMES);
    ULONG64 FrameHolders;
    ULONG64 RangeHolders;
    switch (RandomBelow(Random, 16)) {
    case 0:
        CompareFrame(Frame);
        break;
    case 1:
        DecideFrame(Frame, (MI_CACHE_TYPE)RandomBelow(Random, MiCacheTypeCount));
        break;
    case 2:
        MiForgetRange(&Holds[Index].Range);
        break;
    case 3:
        MmTrim();
        break;
    case 4:
        CHECK(MiIsLedgerConsistent(&FrameHolders, &RangeHolders));
        break;
    default:
        if (Holds[Index].IsHeld) {
            GiveHold(Index);
        } else {
            TakeHold(Random, Index);
        }
        break;
    }
}

static VOID Random_holds_are_those_of_a_naive_model(VOID)
{
    RANDOM Random = RandomStart(HostOption("seed", 1));
    for (ULONG Operation = 0; Operation < MODEL_OPERATIONS; Operation += 1) {
        Step(&Random);
        if (Operation % 1000 == 0) {
            for (PFN_NUMBER Frame = 0; Frame < MODEL_FRAMES; Frame += 1) {
                CompareFrame(Frame);
            }
        }
    }
    for (ULONG Index = 0; Index < MODEL_HOLDS; Index += 1) {
        if (Holds[Index].IsHeld) {
            GiveHold(Index);
        }
        MiForgetRange(&Holds[Index].Range);
    }
    CHECK_EQUAL(MiLedgerUsedCount(), 0);
}

static const HOST_TEST Tests[] = {
    HOST_ROW(Two_holders_agree_or_the_second_is_refused_however_they_hold,
             "contract 12.2.1, 12.2.2, 12.2.8, 4.12.1, 4.12.2, C2", &FakeMachineMax),
    HOST_ROW(The_type_goes_with_the_last_holder_not_with_the_first, "contract 12.2.1, C2, C3",
             &FakeMachineMax),
    HOST_ROW(An_MDL_takes_the_type_of_the_mapping_above_it_and_keeps_it,
             "contract 12.2.1, 12.2.4, C2", &FakeMachineMax),
    HOST_ROW(A_mapping_decides_the_open_frames_of_the_MDLs_below_it, "contract 12.2.1, 12.2.4, C2",
             &FakeMachineMax),
    HOST_ROW(Of_two_MDLs_with_a_frame_the_one_that_is_mapped_first_decides,
             "contract 12.2.1, 12.2.4", &FakeMachineMax),
    HOST_ROW(A_range_that_was_given_back_is_in_nobodys_way, "contract 12.2.1, C2, C3",
             &FakeMachineMax),
    HOST_ROW(What_is_asked_beside_an_idle_range_leaves_it, "C3", &FakeMachineMax),
    HOST_ROW(An_idle_range_is_mapped_again_with_the_same_addresses, "contract 12.2.1, 12.2.2",
             &FakeMachineMax),
    HOST_ROW(A_range_that_was_forgotten_asks_anew, "contract 12.2.1, 12.2.2", &FakeMachineMax),
    HOST_ROW(An_idle_range_goes_with_its_addresses, "C3", &FakeMachineMax),
    HOST_ROW(One_empty_leaf_is_kept_for_the_next_hold, "C4", &FakeMachineMax),
    HOST_ROW(Trimming_frees_what_holds_nothing_and_nothing_else, "C4", &FakeMachineMax),
    HOST_ROW(Many_pages_are_held_all_or_not_at_all, "contract 12.2.8, C3, C4", &FakeMachineMax),
    HOST_ROW(Without_memory_for_a_node_nothing_is_held, "contract 12.2.8, C3", &FakeMachineMax),
    HOST_ROW(A_single_holder_is_found_in_the_widest_range, "contract 12.2.2, C2", &FakeMachineMax),
    HOST_ROW(The_first_who_decides_is_remembered_with_the_time, "contract 12.2.3", &FakeMachineMax),
    HOST_ROW(A_range_is_named_where_it_decided, "contract 12.2.3", &FakeMachineMax),
    HOST_ROW(A_refusal_names_call_site_driver_time_type_and_claim, "contract 12.2.3",
             &FakeMachineMax),
    HOST_ROW(Random_holds_are_those_of_a_naive_model, "contract 12.2.1, 12.2.2, C1, C2, C3, C4",
             &FakeMachineMax),
};
HOST_DEFINE_SUITE(ledger);
