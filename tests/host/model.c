// The model's lists, see model.h.
#define _GNU_SOURCE
#include <sys/mman.h>

#include "tests/host/model.h"

MODEL_FRAME ModelFrames[MODEL_FRAMES];
MODEL_MAPPING *ModelMappings[MODEL_MAXIMUM_MAPPINGS];
ULONG ModelMappingCount;

typedef struct _MODEL_IO_FRAME {
    USHORT HoldCount;
    UCHAR CacheType; // once it is held
} MODEL_IO_FRAME;

// Indexed by frame; the build machine gives memory to what is used of it.

static MODEL_IO_FRAME *IoFrames;

//
// RAM.
//

MI_CACHE_TYPE ModelDecideFrame(PFN_NUMBER Pfn, MI_CACHE_TYPE Requested)
{
    MODEL_FRAME *Frame = &ModelFrames[Pfn];
    if (Frame->State == 0) {
        return MiCacheWriteBack; // pool
    }
    if (Frame->CacheType == MiCacheUndecided) {
        Frame->CacheType = (UCHAR)Requested;
    }
    return (MI_CACHE_TYPE)Frame->CacheType;
}

VOID ModelOwnFrame(PFN_NUMBER Pfn, MI_PFN_STATE State, MI_CACHE_TYPE CacheType)
{
    CHECK(Pfn < MODEL_FRAMES && FakeIsRam(Pfn) && ModelFrames[Pfn].State == 0);
    CHECK_EQUAL(MiPfnState(Pfn), State);
    ModelFrames[Pfn] = (MODEL_FRAME){(UCHAR)State, (UCHAR)CacheType, 0, 0};
}

VOID ModelDisownFrame(PFN_NUMBER Pfn)
{
    CHECK(ModelFrames[Pfn].State != 0 && ModelFrames[Pfn].MapCount == 0);
    CHECK(MiIsFree(MiPfnState(Pfn)));
    ModelFrames[Pfn] = (MODEL_FRAME){0, MiCacheUndecided, 0, 0};
}

//
// I/O space.
//

VOID ModelInitialize(VOID)
{
    IoFrames = mmap(NULL, MODEL_IO_FRAMES * sizeof(MODEL_IO_FRAME), PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(IoFrames != MAP_FAILED);
}

static VOID HoldFrame(PFN_NUMBER Pfn)
{
    MODEL_IO_FRAME *Frame = &IoFrames[Pfn];
    CHECK(Pfn < MODEL_IO_FRAMES);
    if (Frame->HoldCount == 0) {
        Frame->CacheType = MiCacheUndecided;
    }
    Frame->HoldCount += 1;
}

static VOID ReleaseFrame(PFN_NUMBER Pfn)
{
    CHECK(IoFrames[Pfn].HoldCount > 0);
    IoFrames[Pfn].HoldCount -= 1;
}

static BOOLEAN HasOtherType(PFN_NUMBER Pfn, MI_CACHE_TYPE CacheType)
{
    const MODEL_IO_FRAME *Frame = &IoFrames[Pfn];
    return Frame->HoldCount != 0 && Frame->CacheType != MiCacheUndecided &&
           Frame->CacheType != CacheType;
}

MI_CACHE_TYPE ModelDecideIoFrame(PFN_NUMBER Pfn, MI_CACHE_TYPE Requested)
{
    MODEL_IO_FRAME *Frame = &IoFrames[Pfn];
    CHECK(Frame->HoldCount > 0);
    if (Frame->CacheType == MiCacheUndecided) {
        Frame->CacheType = (UCHAR)Requested;
    }
    return (MI_CACHE_TYPE)Frame->CacheType;
}

MI_CACHE_TYPE ModelIoCacheType(PFN_NUMBER Pfn)
{
    const MODEL_IO_FRAME *Frame = &IoFrames[Pfn];
    return Frame->HoldCount != 0 ? (MI_CACHE_TYPE)Frame->CacheType : MiCacheUndecided;
}

BOOLEAN ModelHold(MI_PFN_RANGE Range, MI_CACHE_TYPE CacheType)
{
    for (PFN_NUMBER Pfn = Range.FirstPfn; Pfn <= Range.LastPfn; Pfn += 1) {
        if (HasOtherType(Pfn, CacheType)) {
            return FALSE;
        }
    }
    for (PFN_NUMBER Pfn = Range.FirstPfn; Pfn <= Range.LastPfn; Pfn += 1) {
        HoldFrame(Pfn);
        (VOID) ModelDecideIoFrame(Pfn, CacheType);
    }
    return TRUE;
}

VOID ModelRelease(MI_PFN_RANGE Range)
{
    for (PFN_NUMBER Pfn = Range.FirstPfn; Pfn <= Range.LastPfn; Pfn += 1) {
        ReleaseFrame(Pfn);
    }
}

VOID ModelHoldFrames(const PFN_NUMBER *Pfns, PFN_NUMBER PageCount)
{
    for (PFN_NUMBER Page = 0; Page < PageCount; Page += 1) {
        HoldFrame(Pfns[Page]);
    }
}

VOID ModelReleaseFrames(const PFN_NUMBER *Pfns, PFN_NUMBER PageCount)
{
    for (PFN_NUMBER Page = 0; Page < PageCount; Page += 1) {
        ReleaseFrame(Pfns[Page]);
    }
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
        if (Pfn >= MODEL_FRAMES || ModelFrames[Pfn].State == 0) {
            if (Mapping->Pfns == NULL) {
                return; // adjacent I/O frames, or pool: none of them is counted
            }
            continue;
        }
        *(Mapping->IsOwn ? &ModelFrames[Pfn].OwnMapCount : &ModelFrames[Pfn].MapCount) +=
            (USHORT)Step;
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
    return FakeIsRam(Pfn) ? ModelDecideFrame(Pfn, MiCacheUndecided)
                          : ModelDecideIoFrame(Pfn, MiCacheUndecided);
}

VOID ModelCheckPage(const MODEL_MAPPING *Mapping, PFN_NUMBER Page)
{
    const ULONG_PTR Va = Mapping->Va + PAGES(Page);
    const FAKE_PAGE Seen = FakeWalk(Va);
    const PFN_NUMBER Pfn = ModelFrameOf(Mapping, Page);
    const MI_CACHE_TYPE CacheType = TypeOfFrame(Pfn);
    if (Seen.Level == 0 || Seen.Pfn != Pfn || Seen.Protection.Access != Mapping->Access ||
        Seen.Protection.CacheType != CacheType) {
        FAIL("0x%llx has frame 0x%llx %s %s at level %u; the model says frame 0x%llx %s %s", Va,
             Seen.Pfn, MiAccessName(Seen.Protection.Access),
             MiCacheTypeName(Seen.Protection.CacheType), Seen.Level, Pfn,
             MiAccessName(Mapping->Access), MiCacheTypeName(CacheType));
    }
}

VOID ModelCheckUnmapped(ULONG_PTR Va)
{
    if (FakeWalk(Va).Level != 0) {
        FAIL("0x%llx is mapped to frame 0x%llx; the model says nothing is", Va, FakeWalk(Va).Pfn);
    }
}

BOOLEAN ModelIsMapped(MI_PFN_RANGE Range)
{
    for (ULONG Index = 0; Index < ModelMappingCount; Index += 1) {
        const MODEL_MAPPING *Mapping = ModelMappings[Index];
        const PFN_NUMBER LastPfn = Mapping->FirstPfn + Mapping->MappedCount - 1;
        if (Mapping->Pfns == NULL && Mapping->MappedCount != 0 &&
            Mapping->FirstPfn <= Range.LastPfn && LastPfn >= Range.FirstPfn) {
            return TRUE;
        }
        for (PFN_NUMBER Page = 0; Mapping->Pfns != NULL && Page < Mapping->MappedCount; Page += 1) {
            if (Mapping->Pfns[Page] >= Range.FirstPfn && Mapping->Pfns[Page] <= Range.LastPfn) {
                return TRUE;
            }
        }
    }
    return FALSE;
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
    ULONG64 Owned[MiPfnStateCount] = {0};
    for (PFN_NUMBER Pfn = 0; Pfn < MODEL_FRAMES && Pfn < MiPfnDatabaseEnd; Pfn += 1) {
        const MODEL_FRAME *Frame = &ModelFrames[Pfn];
        if (Frame->State == 0) {
            continue;
        }
        const MMPFN *Element = MiPfnElement(Pfn);
        const BOOLEAN HasAlias = FakeWalk((ULONG_PTR)MiFrameToVa(Pfn)).Level != 0;
        const BOOLEAN MayHaveAlias =
            Frame->CacheType == MiCacheUndecided || Frame->CacheType == MiCacheWriteBack;
        Owned[Frame->State] += 1;
        CHECK_EQUAL(Element->State, Frame->State);
        CHECK_EQUAL(Element->CacheType, Frame->CacheType);
        CHECK_EQUAL(Element->MapCount, Frame->MapCount);
        CHECK_EQUAL(HasAlias, MayHaveAlias);
    }
    CHECK_EQUAL(MiPfnStateCountOf(MiPfnMdl), Owned[MiPfnMdl]);
    CHECK_EQUAL(MiPfnStateCountOf(MiPfnDriver), Owned[MiPfnDriver]);
}

VOID ModelCheckEverything(VOID)
{
    CheckMappings();
    CheckFrames();
}
