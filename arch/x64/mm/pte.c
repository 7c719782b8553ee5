// The format of page-table entries: the codec between MMPTE and {level, frame, protection}.
//
//   63  62..59  58..52   51 ............ 12   11..9   8   7    6  5  4    3    2  1  0
//   NX  key     ignored  frame                ignored G   PS   D  A  PCD  PWT  U  W  P
//                        (PAT at bit 12 of a          (PAT at
//                         large leaf)                  level 1)
//
// Invariants:
//   E1  PteProtection(MakeLeaf(Level, Pfn, P), Level) == P and PtePfn(...) == Pfn, for every level
//       that allows leaves.
//   E2  No leaf is writable and executable, except where MiAccessExecuteReadWrite was asked for by
//       name.
//   E3  Entries of this kernel never have U set: user mode cannot reach them, and SMEP and SMAP do
//       not apply.
//
// Leaves are born without A, so that who takes one away learns whether the processor has used it; and
// writable ones with D, which nobody asks for: setting A is all that the processor ever writes into an
// entry. Tables are born with A: the processor may remember them from the first walk on.
//
// [x64] There is no execute-only bit. MiAccessExecute is encoded as readable with protection key 1,
// which supervisor protection keys (PKS) deny to data accesses and let through to fetches. Without
// PKS the processor ignores the key.

#include "arch/x64/mm/mmx64.h"

#include "kernel/inc/ke.h"

#define KEY_EXECUTE_ONLY ((ULONG64)PKEY_EXECUTE_ONLY << PTE_KEY_SHIFT)

static const ULONG64 KiAccessTable[MiAccessCount] = {
    [MiAccessRead] = PTE_NO_EXECUTE,        [MiAccessReadWrite] = PTE_NO_EXECUTE | PTE_WRITE,
    [MiAccessExecute] = KEY_EXECUTE_ONLY,   [MiAccessExecuteRead] = 0,
    [MiAccessExecuteReadWrite] = PTE_WRITE,
};

// The way back: indexed by the three bits that tell the rows above apart.
#define ACCESS_INDEX(Entry)                                                                        \
    (((Entry)&PTE_WRITE ? 1u : 0) | ((Entry)&PTE_NO_EXECUTE ? 2u : 0) |                            \
     ((Entry)&KEY_EXECUTE_ONLY ? 4u : 0))

static const UCHAR KiAccessOfIndex[] = {
    [ACCESS_INDEX(PTE_NO_EXECUTE)] = MiAccessRead,
    [ACCESS_INDEX(PTE_NO_EXECUTE | PTE_WRITE)] = MiAccessReadWrite,
    [ACCESS_INDEX(KEY_EXECUTE_ONLY)] = MiAccessExecute,
    [ACCESS_INDEX(0)] = MiAccessExecuteRead,
    [ACCESS_INDEX(PTE_WRITE)] = MiAccessExecuteReadWrite,
};

ULONG MiArchTopLevel(VOID)
{
    return TOP_LEVEL;
}

BOOLEAN MiArchIsLeafAllowed(ULONG Level)
{
    return Level >= 1 && (Level <= 2 || (Level == LARGEST_LEAF_LEVEL && KeFeatures.Page1G));
}

ULONG MiArchPhysicalBits(VOID)
{
    return KeFeatures.PhysicalBits;
}

BOOLEAN MiArchIsCanonical(ULONG_PTR Va)
{
    const ULONG UnusedBits = 64 - (PAGE_SHIFT + MI_PTE_INDEX_BITS * TOP_LEVEL);
    return (ULONG_PTR)((LONG64)(Va << UnusedBits) >> UnusedBits) == Va;
}

ULONG64 KiLeafTemplates[MiAccessCount][MiCacheTypeCount];

static ULONG64 KiMakeTemplate(MI_ACCESS Access, MI_CACHE_TYPE CacheType)
{
    ULONG64 Value = PTE_PRESENT | KiAccessTable[Access] | KiCacheBits(CacheType);
    if (Value & PTE_WRITE) {
        Value |= PTE_DIRTY;
    }
    if (KeFeatures.GlobalPages) {
        Value |= PTE_GLOBAL;
    }
    return Value;
}

VOID KiInitializeLeafTemplates(VOID)
{
    for (ULONG Access = 0; Access < MiAccessCount; Access += 1) {
        for (ULONG Type = 0; Type < MiCacheTypeCount; Type += 1) {
            KiLeafTemplates[Access][Type] = KiMakeTemplate((MI_ACCESS)Access, (MI_CACHE_TYPE)Type);
        }
    }
}

MMPTE MiArchMakeTable(PFN_NUMBER Pfn)
{
    return (MMPTE){Pfn << PAGE_SHIFT | PTE_PRESENT | PTE_WRITE | PTE_ACCESSED};
}

MMPTE MiArchMakeSelfMap(PFN_NUMBER RootPfn)
{
    return (MMPTE){RootPfn << PAGE_SHIFT | PTE_PRESENT | PTE_ACCESSED | PTE_NO_EXECUTE};
}

MI_PROTECTION MiArchPteProtection(MMPTE Pte, ULONG Level)
{
    NT_ASSERT(MiArchPteKind(Pte, Level) == MiPteLeaf);
    const ULONG Index = ACCESS_INDEX(Pte.Value);
    NT_ASSERT_INVARIANT("E1", Index < ARRAYSIZE(KiAccessOfIndex));
    return (MI_PROTECTION){(MI_ACCESS)KiAccessOfIndex[Index], KiCacheTypeOfEntry(Pte.Value)};
}

// [x64] Of an entry that is not present the processor looks at no other bit.
MMPTE MiArchMakeInaccessible(MMPTE Leaf)
{
    NT_ASSERT(MiArchPteKind(Leaf, 1) == MiPteLeaf);
    return (MMPTE){(Leaf.Value & ~PTE_PRESENT) | PTE_INACCESSIBLE};
}

MMPTE MiArchMakeAccessible(MMPTE Pte)
{
    NT_ASSERT(MiArchIsInaccessible(Pte));
    return (MMPTE){(Pte.Value & ~PTE_INACCESSIBLE) | PTE_PRESENT};
}

BOOLEAN MiArchIsInaccessible(MMPTE Pte)
{
    return (Pte.Value & (PTE_PRESENT | PTE_INACCESSIBLE)) == PTE_INACCESSIBLE;
}
