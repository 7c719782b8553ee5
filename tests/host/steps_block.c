// Steps of the memory that drivers have in one piece, contiguous or non-cached; and of copies of any
// RAM that somebody has.
#include "tests/host/steps.h"

#define MAXIMUM_BLOCK_PAGES 12u

typedef struct _BLOCK_SLOT {
    PUCHAR Va; // NULL: free
    SIZE_T ByteCount;
    BOOLEAN IsContiguous;
    MI_PROTECTION Protection;
    UCHAR Fill;
    PFN_NUMBER PageCount;
    PFN_NUMBER Pfns[MAXIMUM_BLOCK_PAGES];
} BLOCK_SLOT;

#define BLOCK_SLOTS 16u
static BLOCK_SLOT Blocks[BLOCK_SLOTS];

// What a request for contiguous memory may ask for.
typedef struct _BLOCK_LIMITS {
    ULONG64 Low;
    ULONG64 High;
    ULONG64 Boundary;
} BLOCK_LIMITS;

static ULONG ProtectOf(MI_PROTECTION Protection)
{
    return (Protection.Access == MiAccessReadWrite ? PAGE_READWRITE : PAGE_EXECUTE_READWRITE) |
           ProtectModifierOf(Protection.CacheType);
}

static PVOID CallContiguous(SIZE_T *ByteCount, BLOCK_LIMITS Limits, MI_PROTECTION Protection)
{
    const PHYSICAL_ADDRESS Low = Pa(Limits.Low);
    const PHYSICAL_ADDRESS High = Pa(Limits.High);
    const PHYSICAL_ADDRESS Boundary = Pa(Limits.Boundary);
    PVOID Va = NULL;
    if (Protection.Access == MiAccessReadWrite && OneIn(2)) {
        return MmAllocateContiguousMemorySpecifyCache(*ByteCount, Low, High, Boundary,
                                                      CachingOf(Protection.CacheType));
    }
    if (OneIn(2)) {
        return MmAllocateContiguousNodeMemory(*ByteCount, Low, High, Boundary,
                                              ProtectOf(Protection), MM_ANY_NODE_OK);
    }
    const NTSTATUS Status = MmAllocateContiguousMemoryEx(
        ByteCount, Low, High, Boundary, MM_ANY_NODE_OK, ProtectOf(Protection), NULL, TAG_A, 0, &Va);
    CHECK_EQUAL(NT_SUCCESS(Status), Va != NULL);
    return Va;
}

// Every page has a frame of RAM with the block's protection, and a cached one only is in the direct
// map besides.
static VOID RecordBlock(BLOCK_SLOT *Slot, PUCHAR Va)
{
    Slot->Va = Va;
    Slot->PageCount = BYTES_TO_PAGES(Slot->ByteCount);
    Slot->Fill = (UCHAR)(Step | 1);
    CHECK_EQUAL(BYTE_OFFSET(Va), 0);
    for (PFN_NUMBER Page = 0; Page < Slot->PageCount; Page += 1) {
        const FAKE_PAGE Seen = FakeWalk((ULONG_PTR)Va + PAGES(Page));
        Slot->Pfns[Page] = Seen.Pfn;
        CHECK_PAGE(Va + PAGES(Page), Seen.Pfn, Slot->Protection.Access, Slot->Protection.CacheType);
        CHECK(!Slot->IsContiguous || Seen.Pfn == Slot->Pfns[0] + Page);
        ModelOwnFrame(Seen.Pfn, MiPfnDriver, Slot->Protection.CacheType);
    }
    memset(Va, Slot->Fill, Slot->ByteCount);
}

static VOID AllocateContiguous(BLOCK_SLOT *Slot)
{
    SIZE_T ByteCount = 1 + Below(PAGES(OneIn(3) ? MAXIMUM_BLOCK_PAGES : 2));
    const ULONG64 Low = OneIn(3) ? Below(0x3000000) : 0;
    const BLOCK_LIMITS Limits = {
        .Low = Low,
        .High = OneIn(3) ? Low + ByteCount + Below(0x1000000) : MAXULONG64,
        .Boundary = OneIn(3) ? PAGES(16ull << Below(4)) : 0,
    };
    Slot->IsContiguous = TRUE;
    Slot->Protection.Access = OneIn(4) ? MiAccessExecuteReadWrite : MiAccessReadWrite;
    Slot->Protection.CacheType = (MI_CACHE_TYPE)Below(MiCacheTypeCount);
    Note("contiguous", ByteCount, Limits.Low, Limits.High);
    MaybeStartFailures();
    const PUCHAR Va = CallContiguous(&ByteCount, Limits, Slot->Protection);
    const BOOLEAN MayFail = StopFailures(Va == NULL);
    if (Va == NULL) {
        CHECK(MayFail || Limits.High != MAXULONG64);
        return;
    }
    Slot->ByteCount = ByteCount;
    RecordBlock(Slot, Va);
    const ULONG64 Base = PAGES(Slot->Pfns[0]);
    CHECK(Base >= Limits.Low && Base + ByteCount - 1 <= Limits.High);
    CHECK(Limits.Boundary == 0 ||
          Base / Limits.Boundary == (Base + ByteCount - 1) / Limits.Boundary);
}

static VOID AllocateNonCached(BLOCK_SLOT *Slot)
{
    Slot->ByteCount = 1 + Below(PAGES(OneIn(3) ? MAXIMUM_BLOCK_PAGES : 2));
    Slot->IsContiguous = FALSE;
    Slot->Protection = (MI_PROTECTION){MiAccessReadWrite, MiCacheUncached};
    Note("non-cached", Slot->ByteCount, 0, 0);
    MaybeStartFailures();
    const PUCHAR Va = MmAllocateNonCachedMemory(Slot->ByteCount);
    CHECK(StopFailures(Va == NULL) || Va != NULL);
    if (Va != NULL) {
        RecordBlock(Slot, Va);
    }
}

static BOOLEAN IsBlockMapped(const BLOCK_SLOT *Slot)
{
    PFN_NUMBER Page = 0;
    while (Page < Slot->PageCount && ModelFrames[Slot->Pfns[Page]].MapCount == 0) {
        Page += 1;
    }
    return Page < Slot->PageCount;
}

static VOID FreeBlock(BLOCK_SLOT *Slot)
{
    if (IsBlockMapped(Slot)) {
        return;
    }
    Note("free block", (ULONG_PTR)Slot->Va, Slot->ByteCount, Slot->IsContiguous);
    CHECK(Slot->Va[0] == Slot->Fill && Slot->Va[Slot->ByteCount - 1] == Slot->Fill &&
          Slot->Va[Below(Slot->ByteCount)] == Slot->Fill);
    if (!Slot->IsContiguous) {
        MmFreeNonCachedMemory(Slot->Va, Slot->ByteCount);
    } else if (OneIn(2)) {
        MmFreeContiguousMemory(Slot->Va);
    } else {
        MmFreeContiguousMemorySpecifyCache(Slot->Va, Slot->ByteCount,
                                           CachingOf(Slot->Protection.CacheType));
    }
    for (PFN_NUMBER Page = 0; Page < Slot->PageCount; Page += 1) {
        ModelDisownFrame(Slot->Pfns[Page]);
    }
    Slot->Va = NULL;
}

VOID StepBlock(VOID)
{
    BLOCK_SLOT *Slot = &Blocks[CHOOSE(Blocks)];
    if (Slot->Va != NULL) {
        FreeBlock(Slot);
    } else if (OneIn(3)) {
        AllocateNonCached(Slot);
    } else {
        AllocateContiguous(Slot);
    }
}

BOOLEAN ChooseBlockPages(PFN_NUMBER *FirstPfn, PFN_NUMBER *PageCount)
{
    const BLOCK_SLOT *Slot = &Blocks[CHOOSE(Blocks)];
    if (Slot->Va == NULL) {
        return FALSE;
    }
    const PFN_NUMBER First = Below(Slot->PageCount);
    *FirstPfn = Slot->Pfns[First];
    *PageCount = Slot->IsContiguous ? 1 + Below(Slot->PageCount - First) : 1;
    return TRUE;
}

VOID FinishBlocks(VOID)
{
    for (ULONG Index = 0; Index < BLOCK_SLOTS; Index += 1) {
        if (Blocks[Index].Va != NULL) {
            FreeBlock(&Blocks[Index]);
        }
    }
}

//
// Copies.
//

static VOID CheckCopy(MM_COPY_ADDRESS Source, const UCHAR *Expected, SIZE_T ByteCount, ULONG Flags)
{
    UCHAR Copy[PAGE_SIZE];
    SIZE_T Copied;
    MaybeStartFailures();
    const NTSTATUS Status = MmCopyMemory(Copy, Source, ByteCount, Flags, &Copied);
    const BOOLEAN MayFail = StopFailures(!NT_SUCCESS(Status));
    CHECK(NT_SUCCESS(Status) || (MayFail && Status == STATUS_INSUFFICIENT_RESOURCES));
    CHECK_EQUAL(Copied, NT_SUCCESS(Status) ? ByteCount : 0);
    CHECK(!NT_SUCCESS(Status) || memcmp(Copy, Expected, ByteCount) == 0);
}

// A frame that the model knows: of an MDL or of a block, often without an alias.
static BOOLEAN ChooseOwnedFrame(PFN_NUMBER *Pfn)
{
    const MDL_SLOT *Mdl = &Mdls[CHOOSE(Mdls)];
    const BLOCK_SLOT *Block = &Blocks[CHOOSE(Blocks)];
    if (Block->Va != NULL) {
        *Pfn = Block->Pfns[Below(Block->PageCount)];
        return TRUE;
    }
    if (Mdl->Mdl != NULL && Mdl->Kind == MdlPages) {
        *Pfn = Mdl->Pfns[Below(Mdl->PageCount)];
        return TRUE;
    }
    return FALSE;
}

VOID StepCopy(VOID)
{
    const POOL_SLOT *Pool = &Pools[CHOOSE(Pools)];
    const ULONG Offset = (ULONG)Below(PAGE_SIZE);
    const SIZE_T ByteCount = Below(PAGE_SIZE - Offset + 1);
    MM_COPY_ADDRESS Source;
    PFN_NUMBER Pfn;
    UCHAR Byte;
    SIZE_T Copied;
    Note("copy", Offset, ByteCount, 0);
    if (OneIn(4)) {
        Source.PhysicalAddress = Pa(FAKE_IO_LOW + Offset);
        CHECK_EQUAL(MmCopyMemory(&Byte, Source, 1, MM_COPY_MEMORY_PHYSICAL, &Copied),
                    STATUS_INVALID_ADDRESS);
        CHECK_EQUAL(Copied, 0);
    } else if (OneIn(3) && Pool->Block != NULL && Pool->ByteCount <= PAGE_SIZE) {
        Source.VirtualAddress = Pool->Block;
        CheckCopy(Source, Pool->Block, Pool->ByteCount, MM_COPY_MEMORY_VIRTUAL);
    } else if (ChooseOwnedFrame(&Pfn)) {
        Source.PhysicalAddress = Pa(PAGES(Pfn) + Offset);
        CheckCopy(Source, (PUCHAR)FakeFrame(Pfn) + Offset, ByteCount, MM_COPY_MEMORY_PHYSICAL);
    }
}
