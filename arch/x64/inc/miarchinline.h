// The inline part of "mm/miarch.h" for x64, and the bits of an entry that it needs. Included by that
// header only; the rest of the format is in "arch/x64/mm/mmx64.h".
#pragma once

#include "kernel/inc/kearch.h"
#include "mm/miarch.h"

#define PTE_PRESENT (1ull << 0)
#define PTE_ACCESSED (1ull << 5)
#define PTE_LARGE (1ull << 7) // at levels 2 and 3; at level 1 the same bit is the PAT bit
#define PTE_PAT_LARGE (1ull << 12)
#define PTE_FRAME 0x000FFFFFFFFFF000ull

#define LARGEST_LEAF_LEVEL 3u

// Everything of a leaf but its frame and PTE_LARGE, by protection. Computed once, in pte.c.
extern ULONG64 KiLeafTemplates[MiAccessCount][MiCacheTypeCount];

// Relaxed is enough: x64 keeps loads in order, and one aligned 64-bit access cannot be torn.
static inline MMPTE MiArchLoadPte(const MMPTE *Pte)
{
    return (MMPTE){__atomic_load_n(&Pte->Value, __ATOMIC_RELAXED)};
}

// x64 keeps stores in order, too.
static inline VOID MiArchStorePte(PMMPTE Pte, MMPTE Value)
{
    __atomic_store_n(&Pte->Value, Value.Value, __ATOMIC_RELEASE);
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

static inline MMPTE MiArchPlaceFrame(MMPTE Template, PFN_NUMBER Pfn)
{
    return (MMPTE){Template.Value | Pfn << PAGE_SHIFT};
}

static inline MMPTE MiArchMakeLeaf(ULONG Level, PFN_NUMBER Pfn, MI_PROTECTION Protection)
{
    const ULONG64 Large = Level > 1 ? PTE_LARGE : 0;
    return (MMPTE){KiLeafTemplates[Protection.Access][Protection.CacheType] | Large |
                   Pfn << PAGE_SHIFT};
}

static inline VOID MiArchStoreLeaves(PMMPTE Pte, ULONG Level, PFN_NUMBER FirstPfn, ULONG Count,
                                     MI_PROTECTION Protection)
{
    const ULONG64 Step = 1ull << (PAGE_SHIFT + MI_PTE_INDEX_BITS * (Level - 1));
    ULONG64 Value = MiArchMakeLeaf(Level, FirstPfn, Protection).Value;
    const PMMPTE End = Pte + Count;
    do {
        MiArchStorePte(Pte, (MMPTE){Value});
        Value += Step;
        Pte += 1;
    } while (Pte != End);
}

// [x64] The processor sets the accessed bit by a locked read-modify-write of an entry that it finds
// present, before it remembers the translation: who takes the entry away by an exchange learns whether
// that happened, and after it nothing can happen any more. A store could not tell.
static inline MMPTE MiArchTakePte(PMMPTE Pte)
{
    return (MMPTE){__atomic_exchange_n(&Pte->Value, 0, __ATOMIC_ACQ_REL)};
}

static inline BOOLEAN MiArchWasUsed(MMPTE Pte)
{
    return (Pte.Value & PTE_ACCESSED) != 0;
}

// The same, into what was seen of others: in two registers, where the compiler would take ten.
static inline VOID MiArchTakeInto(PMMPTE Pte, PULONG64 Seen)
{
    ULONG64 Old;
    __asm__ volatile("xorl %k0, %k0\n\t"
                     "xchgq %0, %1\n\t"
                     "orq %0, %2"
                     : "=&r"(Old), "+m"(Pte->Value), "+r"(*Seen)
                     :
                     : "memory");
}

// Eight at a time: counting would cost as much as taking.
static inline BOOLEAN MiArchTakePages(PMMPTE Pte, ULONG Count)
{
    ULONG64 Seen = 0;
    for (const PMMPTE End = Pte + (Count & ~7u); Pte != End; Pte += 8) {
        MiArchTakeInto(&Pte[0], &Seen);
        MiArchTakeInto(&Pte[1], &Seen);
        MiArchTakeInto(&Pte[2], &Seen);
        MiArchTakeInto(&Pte[3], &Seen);
        MiArchTakeInto(&Pte[4], &Seen);
        MiArchTakeInto(&Pte[5], &Seen);
        MiArchTakeInto(&Pte[6], &Seen);
        MiArchTakeInto(&Pte[7], &Seen);
    }
    for (const PMMPTE End = Pte + (Count & 7); Pte != End; Pte += 1) {
        MiArchTakeInto(Pte, &Seen);
    }
    return MiArchWasUsed((MMPTE){Seen});
}

static inline VOID MiArchClearPages(PMMPTE Pte, ULONG Count)
{
    const MMPTE Empty = {0};
    for (; Count >= 8; Count -= 8, Pte += 8) {
        MiArchStorePte(&Pte[0], Empty);
        MiArchStorePte(&Pte[1], Empty);
        MiArchStorePte(&Pte[2], Empty);
        MiArchStorePte(&Pte[3], Empty);
        MiArchStorePte(&Pte[4], Empty);
        MiArchStorePte(&Pte[5], Empty);
        MiArchStorePte(&Pte[6], Empty);
        MiArchStorePte(&Pte[7], Empty);
    }
    for (; Count > 0; Count -= 1, Pte += 1) {
        MiArchStorePte(Pte, Empty);
    }
}

static inline VOID MiArchFlushPage(ULONG_PTR Va)
{
    __asm__ volatile("invlpg %0" : : "m"(*(const CHAR *)Va) : "memory");
}

static inline ULONG64 MiArchPin(VOID)
{
    return KeArchHoldInterrupts();
}

static inline VOID MiArchUnpin(ULONG64 Pin)
{
    KeArchReleaseInterrupts(Pin);
}

static inline ULONG MiArchProcessor(VOID)
{
    USHORT Number;
    __asm__ volatile("movw %%gs:0x184, %0" : "=r"(Number)); // KPCR.Number
    return Number;
}
