// The inline part of "mm/miarch.h" for x64, and the bits of an entry that it needs. Included by that
// header only; the rest of the format is in "arch/x64/mm/mmx64.h".
#pragma once

#include "mm/miarch.h"

#define PTE_PRESENT (1ull << 0)
#define PTE_LARGE (1ull << 7) // at levels 2 and 3; at level 1 the same bit is the PAT bit
#define PTE_PAT_LARGE (1ull << 12)
#define PTE_FRAME 0x000FFFFFFFFFF000ull

#define LARGEST_LEAF_LEVEL 3u

// Relaxed is enough: x64 keeps loads in order, and one aligned 64-bit access cannot be torn.
static inline MMPTE MiArchLoadPte(const MMPTE *Pte)
{
    return (MMPTE){__atomic_load_n(&Pte->Value, __ATOMIC_RELAXED)};
}

static inline MI_PTE_KIND MiArchPteKind(MMPTE Pte, ULONG Level)
{
    if (!(Pte.Value & PTE_PRESENT)) {
        return MiPteEmpty;
    }
    return Level == 1 || (Level <= LARGEST_LEAF_LEVEL && (Pte.Value & PTE_LARGE)) ? MiPteLeaf
                                                                                  : MiPteTable;
}

static inline PFN_NUMBER MiArchPtePfn(MMPTE Pte, ULONG Level)
{
    ULONG64 Frame = Pte.Value & PTE_FRAME;
    if (Level > 1 && MiArchPteKind(Pte, Level) == MiPteLeaf) {
        Frame &= ~PTE_PAT_LARGE;
    }
    return Frame >> PAGE_SHIFT;
}
