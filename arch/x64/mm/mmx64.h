// The bits of an x64 page-table entry, and what the files of arch/x64/mm share. The bits that the
// inline part of the contract needs are in <miarchinline.h>; no other file tests one.
#pragma once

#include "arch/x64/x64.h"

#include "mm/miarch.h"

#define PTE_WRITE (1ull << 1)
#define PTE_USER (1ull << 2)
#define PTE_PWT (1ull << 3)
#define PTE_PCD (1ull << 4)
#define PTE_DIRTY (1ull << 6)
#define PTE_GLOBAL (1ull << 8)
#define PTE_INACCESSIBLE (1ull << 9) // ignored by the processor: a leaf that every access faults on
#define PTE_KEY_SHIFT 59
#define PTE_KEY (0xFull << PTE_KEY_SHIFT) // ignored by the processor without protection keys
#define PTE_NO_EXECUTE (1ull << 63)

#define TOP_LEVEL 4u

// memtype.c: the bits that stand for a cache type in an entry of any level, and back.
ULONG64 KiCacheBits(MI_CACHE_TYPE CacheType);
MI_CACHE_TYPE KiCacheTypeOfEntry(ULONG64 Entry);
PCSTR KiCacheNameOfEntry(ULONG64 Entry);

// pte.c: what MiArchMakeLeaf starts from. Needs KeFeatures.
VOID KiInitializeLeafTemplates(VOID);

// The index of Va's entry in a table of this level.
static inline ULONG KiPteIndex(ULONG64 Va, ULONG Level)
{
    return (ULONG)(Va >> (PAGE_SHIFT + MI_PTE_INDEX_BITS * (Level - 1))) & (MI_PTES_PER_TABLE - 1);
}

// mtrr.c: reads what the processor is told about ranges of physical addresses.
VOID KiReadMemoryTypes(VOID);

// Gives this processor what was read. With caches off, as for the PAT.
VOID KiWriteMemoryTypes(VOID);
