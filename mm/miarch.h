// What mm asks of the processor's architecture. The header belongs to mm; the code belongs to the
// architecture (arch/x64/mm) or, on the build machine, to the fake one of the host tests. mm itself
// never tests or sets a bit of an entry, so that a table format can be replaced by writing this
// contract again.
//
//   level 4        level 3        level 2        level 1
//   +-------+      +-------+      +-------+      +-------+
//   | table | ---> | table | ---> | table | ---> | leaf  | ---> a frame of 4 KiB
//   +-------+      | leaf  |      | leaf  |      +-------+
//                  +-------+      +-------+
//                   1 GiB          2 MiB
//
// Law of the codec, tested exhaustively on the host and in the guest: for every Level that allows
// leaves, with Leaf = MiArchMakeLeaf(Level, Pfn, P),
//   MiArchPteProtection(Leaf, Level) == P   and   MiArchPtePfn(Leaf, Level) == Pfn.
// A large leaf is therefore split by decoding it at its level and encoding it one level below.
//
// Law of remembering: no processor remembers a translation from a leaf before it has marked the leaf as
// used, and MiArchMakeLeaf makes leaves that are not. So a leaf that MiArchTakePte takes away, and that
// MiArchWasUsed denies, is in no processor's TLB, and never will be. (A leaf that is overwritten by a
// store may have been marked just before: whoever does that flushes in any case.)
#pragma once

#include <wdm.h>

// As many processors as there can be.
#define MI_ARCH_PROCESSORS 16

// Geometry: every table is one frame of MI_PTES_PER_TABLE entries.
#define MI_PTE_INDEX_BITS 9
#define MI_MAXIMUM_LEVEL 5u // of any format that this contract could serve
#define MI_PTES_PER_TABLE (1u << MI_PTE_INDEX_BITS)

// An entry of a page table, at whatever level. Opaque to mm.
typedef struct _MMPTE {
    ULONG64 Value;
} MMPTE, *PMMPTE;

typedef enum _MI_PTE_KIND {
    MiPteEmpty, // nothing is mapped here; the processor faults
    MiPteTable, // the frame of the table one level below
    MiPteLeaf,  // a page
} MI_PTE_KIND;

// What the processor may do with a page.
typedef enum _MI_ACCESS {
    MiAccessRead,
    MiAccessReadWrite,
    MiAccessExecute, // execute only where the processor can enforce it, else execute and read
    MiAccessExecuteRead,
    MiAccessExecuteReadWrite,
    MiAccessCount,
} MI_ACCESS;

// How the processor may cache a page. Undecided is never encoded in an entry: it is the state of a
// frame that nobody has mapped yet.
typedef enum _MI_CACHE_TYPE {
    MiCacheWriteBack,
    MiCacheWriteCombined,
    MiCacheUncached,
    MiCacheTypeCount,
    MiCacheUndecided = MiCacheTypeCount,
} MI_CACHE_TYPE;

// How a frame is cached in effect: what an entry says, together with what the processor is told
// about ranges of physical addresses.
typedef enum _MI_MEMORY_TYPE {
    MiMemoryUncached,
    MiMemoryWriteCombined,
    MiMemoryWriteThrough,
    MiMemoryWriteProtected,
    MiMemoryWriteBack,
    MiMemoryTypeCount,
} MI_MEMORY_TYPE;

typedef struct _MI_PROTECTION {
    MI_ACCESS Access;
    MI_CACHE_TYPE CacheType;
} MI_PROTECTION, *PMI_PROTECTION;

// The kernel's half of the address space: one row per region, in ascending order of MI_REGION.
typedef enum _MI_REGION {
    MiRegionDirectMap,       // all RAM that the operating system owns, read-write, never executable
    MiRegionSelfMap,         // the page tables themselves, read-only
    MiRegionSystemPtes,      // mappings smaller than a large page
    MiRegionLargeSystemPtes, // mappings of at least one large page
    MiRegionPool,            // nonpaged pool
    MiRegionDriverImages,    // drivers as the loader has them
    MiRegionSharedData,      // one page that everybody may read: KUSER_SHARED_DATA
    MiRegionKernelImage,
    MiRegionCount,
} MI_REGION;

typedef struct _MI_VIRTUAL_REGION {
    ULONG_PTR BaseVa;
    ULONG64 ByteCount;
    const CHAR *Name;
} MI_VIRTUAL_REGION;

extern const MI_VIRTUAL_REGION MiArchLayout[MiRegionCount];

// A part of the kernel image that needs a protection of its own, in ascending order of address.
typedef struct _MI_IMAGE_SECTION {
    ULONG_PTR BaseVa;
    ULONG_PTR EndVa;
    ULONG64 BasePa;
    MI_ACCESS Access;
    const CHAR *Name;
} MI_IMAGE_SECTION;

// The sections of the running kernel image. Returns their count; *Sections stays valid for ever.
ULONG MiArchImageSections(_Out_ const MI_IMAGE_SECTION **Sections);

//
// The format of an entry. These functions are pure: no memory, no registers, any IRQL.
//

// The level of the root table: 4.
ULONG MiArchTopLevel(VOID);

// Whether an entry of this level may be a leaf on this processor. Level 1 always may.
BOOLEAN MiArchIsLeafAllowed(_In_ ULONG Level);

// Width of a physical address in bits (MAXPHYADDR).
ULONG MiArchPhysicalBits(VOID);

BOOLEAN MiArchIsCanonical(_In_ ULONG_PTR Va);

// An entry that points to a table and restricts nothing.
MMPTE MiArchMakeTable(_In_ PFN_NUMBER Pfn);

// An entry of the root that points to the root, through which the tables can be read but never
// written.
MMPTE MiArchMakeSelfMap(_In_ PFN_NUMBER RootPfn);

// The slot of the root that holds the self-map. Walkers skip it: below it every table would be met
// twice.
ULONG MiArchSelfMapSlot(VOID);

// The protection of a leaf, exactly as it was given to MiArchMakeLeaf.
MI_PROTECTION MiArchPteProtection(_In_ MMPTE Pte, _In_ ULONG Level);

// A leaf of level 1 that every access faults on, and back. An inaccessible entry is of kind
// MiPteEmpty; MiArchPtePfn still tells its frame, which an empty entry has not.
MMPTE MiArchMakeInaccessible(_In_ MMPTE Leaf);
MMPTE MiArchMakeAccessible(_In_ MMPTE Pte);
BOOLEAN MiArchIsInaccessible(_In_ MMPTE Pte);

//
// Memory and processor state.
//

// Forgets all of this processor's translations, global ones included, and what it remembers of
// tables.
VOID MiArchFlushAll(VOID);

// Makes RootPfn the root of this processor's address space and forgets every translation.
VOID MiArchLoadRoot(_In_ PFN_NUMBER RootPfn);

// The root that this processor uses now.
PFN_NUMBER MiArchReadRoot(VOID);

// Programs the table of cache types that the entries refer to (the PAT), on this processor.
VOID MiArchInitializeCacheTypes(VOID);

// How a page of this frame is cached in effect when its entry says CacheType. Any IRQL.
MI_MEMORY_TYPE MiArchEffectiveCacheType(_In_ PFN_NUMBER Pfn, _In_ MI_CACHE_TYPE CacheType);

// Writes back and invalidates every cache line of a mapped range.
VOID MiArchFlushCacheRange(_In_ const VOID *Va, _In_ SIZE_T ByteCount);

//
// What every mapping does, therefore inline: as calls these cost a good part of it. The architecture
// defines them in a header of this name, which the build finds in its folder:
//
//   MMPTE MiArchLoadPte(const MMPTE *Pte)                   one 64-bit load
//   VOID MiArchStorePte(PMMPTE Pte, MMPTE Value)            one 64-bit store: the page walker of
//                                                           another processor sees the old or the
//                                                           new entry, never a mixture
//   MI_PTE_KIND MiArchPteKind(MMPTE Pte, ULONG Level)
//   PFN_NUMBER MiArchPtePfn(MMPTE Pte, ULONG Level)         the frame of a leaf or of a table;
//                                                           undefined for an empty entry
//   MMPTE MiArchMakeLeaf(ULONG Level, PFN_NUMBER Pfn,       a leaf for a kernel page; Pfn is aligned
//                        MI_PROTECTION Protection)          to the size of a leaf of this level
//   MMPTE MiArchPlaceFrame(MMPTE Template, PFN_NUMBER Pfn)  Template, made for frame 0 at level 1,
//                                                           for another frame
//   VOID MiArchStoreLeaves(PMMPTE Pte, ULONG Level,         Count times MiArchStorePte, in adjacent
//                          PFN_NUMBER FirstPfn, ULONG       entries: leaves of adjacent frames;
//                          Count, MI_PROTECTION Protection) and empty entries
//   VOID MiArchClearPages(PMMPTE Pte, ULONG Count)
//   MMPTE MiArchTakePte(PMMPTE Pte)                         takes a leaf away, in one step, and
//                                                           returns what it was at its end; all
//                                                           stores and loads behind it come later
//   BOOLEAN MiArchTakePages(PMMPTE Pte, ULONG Count)        Count times that; whether any of them
//                                                           was used
//   BOOLEAN MiArchWasUsed(MMPTE Pte)                        whether a processor may have remembered
//                                                           a leaf that was taken away
//   VOID MiArchFlushPage(ULONG_PTR Va)                      this processor forgets its translation of
//                                                           the page that holds Va, and what it
//                                                           remembers of the tables above
//   ULONG MiArchProcessor(VOID)                             the number of this processor, below
//                                                           MI_ARCH_PROCESSORS; a thread may be on
//                                                           another one as soon as it knows
//   ULONG64 MiArchPin(VOID)                                 keeps it on this one, for a few stores
//   VOID MiArchUnpin(ULONG64 Pin)                           until then; gets what MiArchPin returned
//
#include <miarchinline.h>
