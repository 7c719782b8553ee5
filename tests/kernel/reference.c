// See reference.h: the page tables as the manual describes them, read through the self-map.
#include "tests/kernel/reference.h"

#define REF_VA_BITS 48
#define REF_SIGN_EXTENSION 0xFFFF000000000000ull

static const ULONG64 RefBase[] = {0, REF_PTE_BASE, REF_PDE_BASE, REF_PPE_BASE, REF_PXE_BASE};
C_ASSERT(ARRAYSIZE(RefBase) == REF_LEVEL_COUNT + 1);

volatile ULONG64 *RefEntry(const VOID *Va, ULONG Level)
{
    const ULONG64 Offset = (ULONG64)Va & ((1ull << REF_VA_BITS) - 1);
    return (volatile ULONG64 *)(RefBase[Level] + (Offset / RefLeafBytes(Level)) * sizeof(ULONG64));
}

static BOOLEAN RefIsLeaf(ULONG64 Entry, ULONG Level)
{
    return Level == 1 || (Level < REF_LEVEL_COUNT && (Entry & REF_LARGE) != 0);
}

static ULONG RefCacheIndex(ULONG64 Entry, ULONG Level)
{
    const ULONG64 PatBit = Level == 1 ? REF_PAT_4K : REF_PAT_LARGE;
    return ((Entry & PatBit) != 0 ? 4 : 0) + ((Entry & REF_PCD) != 0 ? 2 : 0) +
           ((Entry & REF_PWT) != 0 ? 1 : 0);
}

static VOID RefFinishWalk(REF_WALK *Walk, const VOID *Va, ULONG Level)
{
    const ULONG64 OffsetMask = RefLeafBytes(Level) - 1;
    Walk->Level = Level;
    Walk->PhysicalAddress = ((Walk->Entry & REF_FRAME) & ~OffsetMask) | ((ULONG64)Va & OffsetMask);
    Walk->CacheIndex = RefCacheIndex(Walk->Entry, Level);
}

REF_WALK RefWalk(const VOID *Va)
{
    REF_WALK Walk = {.IsWritable = TRUE, .IsExecutable = TRUE, .IsUser = TRUE};
    for (ULONG Level = REF_LEVEL_COUNT; Level > 0; Level -= 1) {
        Walk.EndLevel = Level;
        Walk.Entry = *RefEntry(Va, Level);
        if ((Walk.Entry & REF_PRESENT) == 0) {
            return Walk;
        }
        Walk.IsWritable = Walk.IsWritable && (Walk.Entry & REF_WRITABLE) != 0;
        Walk.IsExecutable = Walk.IsExecutable && (Walk.Entry & REF_NO_EXECUTE) == 0;
        Walk.IsUser = Walk.IsUser && (Walk.Entry & REF_USER) != 0;
        if (RefIsLeaf(Walk.Entry, Level)) {
            RefFinishWalk(&Walk, Va, Level);
            return Walk;
        }
    }
    return Walk;
}

VOID RefEnumerateLeaves(REF_LEAF_ROUTINE *Routine, PVOID Context)
{
    ULONG64 Offset = 0;
    while (Offset < 1ull << REF_VA_BITS) {
        if (Offset / RefLeafBytes(REF_LEVEL_COUNT) == REF_SELF_MAP_SLOT) {
            Offset += RefLeafBytes(REF_LEVEL_COUNT);
            continue;
        }
        const BOOLEAN IsUpperHalf = Offset >> (REF_VA_BITS - 1) != 0;
        const VOID *Va = (const VOID *)(IsUpperHalf ? Offset | REF_SIGN_EXTENSION : Offset);
        const REF_WALK Walk = RefWalk(Va);
        if (Walk.Level != 0) {
            Routine(Va, &Walk, Context);
        }
        Offset += RefLeafBytes(Walk.EndLevel);
    }
}
