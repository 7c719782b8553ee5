// The model's lists, see model.h.
#include "tests/host/model.h"

MODEL_FRAME ModelFrames[MODEL_FRAMES];
MODEL_MAPPING *ModelMappings[MODEL_MAXIMUM_MAPPINGS];
ULONG ModelMappingCount;

typedef struct _MODEL_HOLD {
    MI_PFN_RANGE Range;
    MI_CACHE_TYPE CacheType;
    ULONG HolderCount;
} MODEL_HOLD;

static MODEL_HOLD Holds[MODEL_MAXIMUM_HOLDS];
static ULONG HoldCount;

//
// RAM.
//

MI_CACHE_TYPE ModelDecideFrame(PFN_NUMBER Pfn, MI_CACHE_TYPE Requested)
{
    MODEL_FRAME *Frame = &ModelFrames[Pfn];
    if (!Frame->IsOwned) {
        return MiCacheWriteBack; // pool
    }
    if (Frame->CacheType == MiCacheUndecided) {
        Frame->CacheType = (UCHAR)Requested;
    }
    return (MI_CACHE_TYPE)Frame->CacheType;
}

VOID ModelOwnFrame(PFN_NUMBER Pfn)
{
    CHECK(Pfn < MODEL_FRAMES && FakeIsRam(Pfn) && !ModelFrames[Pfn].IsOwned);
    CHECK_EQUAL(MiPfnState(Pfn), MiPfnMdl);
    ModelFrames[Pfn] = (MODEL_FRAME){TRUE, MiCacheUndecided, 0};
}

VOID ModelDisownFrame(PFN_NUMBER Pfn)
{
    CHECK(ModelFrames[Pfn].IsOwned && ModelFrames[Pfn].MapCount == 0);
    CHECK_EQUAL(MiPfnState(Pfn), MiPfnFree);
    ModelFrames[Pfn] = (MODEL_FRAME){FALSE, MiCacheUndecided, 0};
}

//
// I/O space.
//

static BOOLEAN Overlap(MI_PFN_RANGE A, MI_PFN_RANGE B)
{
    return A.FirstPfn <= B.LastPfn && B.FirstPfn <= A.LastPfn;
}

// The one type that held frames of Range have; undecided: none. FALSE: two.
static BOOLEAN TypeIn(MI_PFN_RANGE Range, MI_CACHE_TYPE *CacheType)
{
    *CacheType = MiCacheUndecided;
    for (ULONG Index = 0; Index < HoldCount; Index += 1) {
        const MODEL_HOLD *Hold = &Holds[Index];
        if (Hold->CacheType == MiCacheUndecided || !Overlap(Hold->Range, Range)) {
            continue;
        }
        if (*CacheType != MiCacheUndecided && *CacheType != Hold->CacheType) {
            return FALSE;
        }
        *CacheType = Hold->CacheType;
    }
    return TRUE;
}

static MODEL_HOLD *FindHold(MI_PFN_RANGE Range)
{
    for (ULONG Index = 0; Index < HoldCount; Index += 1) {
        if (Holds[Index].Range.FirstPfn == Range.FirstPfn && Holds[Index].Range.LastPfn == Range.LastPfn) {
            return &Holds[Index];
        }
    }
    return NULL;
}

BOOLEAN ModelHold(MI_PFN_RANGE Range, MI_CACHE_TYPE CacheType)
{
    MI_CACHE_TYPE Held;
    if (CacheType != MiCacheUndecided &&
        (!TypeIn(Range, &Held) || (Held != MiCacheUndecided && Held != CacheType))) {
        return FALSE;
    }
    MODEL_HOLD *Hold = FindHold(Range);
    if (Hold == NULL) {
        CHECK(HoldCount < MODEL_MAXIMUM_HOLDS);
        Hold = &Holds[HoldCount++];
        *Hold = (MODEL_HOLD){Range, MiCacheUndecided, 0};
    }
    Hold->HolderCount += 1;
    if (Hold->CacheType == MiCacheUndecided) {
        Hold->CacheType = CacheType;
    }
    return TRUE;
}

VOID ModelRelease(MI_PFN_RANGE Range)
{
    MODEL_HOLD *Hold = FindHold(Range);
    CHECK(Hold != NULL);
    Hold->HolderCount -= 1;
    if (Hold->HolderCount == 0) {
        *Hold = Holds[--HoldCount];
    }
}

static MI_PFN_RANGE RunAt(const PFN_NUMBER *Pfns, PFN_NUMBER PageCount, PFN_NUMBER Page)
{
    MI_PFN_RANGE Run = {Pfns[Page], Pfns[Page]};
    for (PFN_NUMBER Next = Page + 1; Next < PageCount && Pfns[Next] == Run.LastPfn + 1; Next += 1) {
        Run.LastPfn += 1;
    }
    return Run;
}

VOID ModelHoldRuns(const PFN_NUMBER *Pfns, PFN_NUMBER PageCount)
{
    for (PFN_NUMBER Page = 0; Page < PageCount; Page += MiRangePageCount(RunAt(Pfns, PageCount, Page))) {
        CHECK(ModelHold(RunAt(Pfns, PageCount, Page), MiCacheUndecided));
    }
}

VOID ModelReleaseRuns(const PFN_NUMBER *Pfns, PFN_NUMBER PageCount)
{
    for (PFN_NUMBER Page = 0; Page < PageCount; Page += MiRangePageCount(RunAt(Pfns, PageCount, Page))) {
        ModelRelease(RunAt(Pfns, PageCount, Page));
    }
}

BOOLEAN ModelDecideRuns(const PFN_NUMBER *Pfns, PFN_NUMBER PageCount, MI_CACHE_TYPE Requested)
{
    static MODEL_HOLD Before[MODEL_MAXIMUM_HOLDS];
    memcpy(Before, Holds, HoldCount * sizeof(MODEL_HOLD));
    for (PFN_NUMBER Page = 0; Page < PageCount; Page += MiRangePageCount(RunAt(Pfns, PageCount, Page))) {
        const MI_PFN_RANGE Run = RunAt(Pfns, PageCount, Page);
        MODEL_HOLD *Hold = FindHold(Run);
        MI_CACHE_TYPE Held;
        CHECK(Hold != NULL);
        if (!TypeIn(Run, &Held)) {
            memcpy(Holds, Before, HoldCount * sizeof(MODEL_HOLD));
            return FALSE;
        }
        Hold->CacheType = Held != MiCacheUndecided ? Held : Requested;
    }
    return TRUE;
}

MI_CACHE_TYPE ModelIoType(PFN_NUMBER Pfn)
{
    MI_CACHE_TYPE CacheType;
    CHECK(TypeIn((MI_PFN_RANGE){Pfn, Pfn}, &CacheType));
    return CacheType;
}

BOOLEAN ModelIsDecided(MI_PFN_RANGE Range)
{
    MI_CACHE_TYPE CacheType;
    return !TypeIn(Range, &CacheType) || CacheType != MiCacheUndecided;
}

ULONG64 ModelHoldCount(VOID)
{
    return HoldCount;
}

//
// Addresses.
//

static ULONG_PTR EndOf(const MODEL_MAPPING *Mapping)
{
    return Mapping->Va + PAGES(Mapping->PageCount);
}

static VOID CountMapping(const MODEL_MAPPING *Mapping, int Step)
{
    for (PFN_NUMBER Page = 0; Page < Mapping->MappedCount; Page += 1) {
        const PFN_NUMBER Pfn = ModelFrameOf(Mapping, Page);
        if (Pfn >= MODEL_FRAMES || !ModelFrames[Pfn].IsOwned) {
            if (Mapping->Pfns == NULL) {
                return; // adjacent I/O frames, or pool: none of them is counted
            }
            continue;
        }
        ModelFrames[Pfn].MapCount += (USHORT)Step;
    }
}

VOID ModelAddMapping(MODEL_MAPPING *Mapping)
{
    CHECK(ModelMappingCount < MODEL_MAXIMUM_MAPPINGS);
    const ULONG_PTR First = Mapping->Va - PAGES(Mapping->GuardsBefore);
    const ULONG_PTR End = EndOf(Mapping) + PAGE_SIZE;
    for (ULONG Index = 0; Index < ModelMappingCount; Index += 1) {
        const MODEL_MAPPING *Other = ModelMappings[Index];
        if (First < EndOf(Other) + PAGE_SIZE && Other->Va - PAGES(Other->GuardsBefore) < End) {
            FAIL("addresses 0x%llx-0x%llx are given out twice", First, End);
        }
    }
    ModelMappings[ModelMappingCount++] = Mapping;
    CountMapping(Mapping, +1);
}

VOID ModelRemoveMapping(const MODEL_MAPPING *Mapping)
{
    ULONG Index = 0;
    while (ModelMappings[Index] != Mapping) {
        Index += 1;
        CHECK(Index < ModelMappingCount);
    }
    ModelMappings[Index] = ModelMappings[--ModelMappingCount];
    CountMapping(Mapping, -1);
}

PFN_NUMBER ModelFrameOf(const MODEL_MAPPING *Mapping, PFN_NUMBER Page)
{
    return Mapping->Pfns != NULL ? Mapping->Pfns[Page] : Mapping->FirstPfn + Page;
}

static MI_CACHE_TYPE TypeOfFrame(PFN_NUMBER Pfn)
{
    return FakeIsRam(Pfn) ? ModelDecideFrame(Pfn, MiCacheUndecided) : ModelIoType(Pfn);
}

VOID ModelCheckPage(const MODEL_MAPPING *Mapping, PFN_NUMBER Page)
{
    const ULONG_PTR Va = Mapping->Va + PAGES(Page);
    const FAKE_PAGE Seen = FakeWalk(Va);
    const PFN_NUMBER Pfn = ModelFrameOf(Mapping, Page);
    const MI_CACHE_TYPE CacheType = TypeOfFrame(Pfn);
    if (Seen.Level == 0 || Seen.Pfn != Pfn || Seen.Protection.Access != Mapping->Access ||
        Seen.Protection.CacheType != CacheType) {
        FAIL("0x%llx has frame 0x%llx %s %s at level %u; the model says frame 0x%llx %s %s", Va, Seen.Pfn,
             MiAccessName(Seen.Protection.Access), MiCacheTypeName(Seen.Protection.CacheType), Seen.Level, Pfn,
             MiAccessName(Mapping->Access), MiCacheTypeName(CacheType));
    }
}

VOID ModelCheckUnmapped(ULONG_PTR Va)
{
    if (FakeWalk(Va).Level != 0) {
        FAIL("0x%llx is mapped to frame 0x%llx; the model says nothing is", Va, FakeWalk(Va).Pfn);
    }
}

static BOOLEAN CountSystemLeaf(ULONG_PTR Va, ULONG Level, MMPTE Leaf, PVOID Context)
{
    ULONG64 *PageCount = Context;
    const MI_VIRTUAL_REGION *Small = &MiArchLayout[MiRegionSystemPtes];
    const MI_VIRTUAL_REGION *Large = &MiArchLayout[MiRegionLargeSystemPtes];
    UNREFERENCED_PARAMETER(Leaf);
    if (Va - Small->BaseVa < Small->ByteCount || Va - Large->BaseVa < Large->ByteCount) {
        *PageCount += MiPagesPerLeaf(Level);
    }
    return TRUE;
}

static VOID CheckMappings(VOID)
{
    ULONG64 Expected = 0;
    ULONG64 Found = 0;
    for (ULONG Index = 0; Index < ModelMappingCount; Index += 1) {
        const MODEL_MAPPING *Mapping = ModelMappings[Index];
        // Of a very large mapping, a page per large leaf.
        const PFN_NUMBER Step = Mapping->MappedCount > 4096 ? 511 : 1;
        for (PFN_NUMBER Page = 0; Page < Mapping->MappedCount; Page += Step) {
            ModelCheckPage(Mapping, Page);
        }
        Expected += Mapping->MappedCount;
    }
    MiWalkLeaves(CountSystemLeaf, &Found);
    CHECK_EQUAL(Found, Expected);
}

static VOID CheckFrames(VOID)
{
    ULONG64 Owned = 0;
    for (PFN_NUMBER Pfn = 0; Pfn < MODEL_FRAMES; Pfn += 1) {
        const MODEL_FRAME *Frame = &ModelFrames[Pfn];
        if (!Frame->IsOwned) {
            continue;
        }
        const MMPFN *Element = MiPfnElement(Pfn);
        const BOOLEAN HasAlias = FakeWalk((ULONG_PTR)MiFrameToVa(Pfn)).Level != 0;
        const BOOLEAN MayHaveAlias = Frame->CacheType == MiCacheUndecided || Frame->CacheType == MiCacheWriteBack;
        Owned += 1;
        CHECK_EQUAL(Element->State, MiPfnMdl);
        CHECK_EQUAL(Element->CacheType, Frame->CacheType);
        CHECK_EQUAL(Element->MapCount, Frame->MapCount);
        CHECK_EQUAL(HasAlias, MayHaveAlias);
    }
    CHECK_EQUAL(MiPfnStateCountOf(MiPfnMdl), Owned);
}

VOID ModelCheckEverything(VOID)
{
    CheckMappings();
    CheckFrames();
    CHECK_EQUAL(MiLedgerEntryCount(), HoldCount);
}
