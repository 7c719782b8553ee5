// The processor as its manual describes it, for tests: an opinion of its own about page-table
// entries and control registers, independent of arch/x64, whose mistakes it is there to find.
//
// The tables are read through the self-map, at the addresses where every kernel debugger looks for
// them:
//
//   entry of level n for Va = base of level n + (Va, 48 bits) >> (12 + 9 (n - 1)) * 8
//   level 1 (PTE) 0xFFFFF68000000000   level 2 (PDE) 0xFFFFF6FB40000000
//   level 3 (PPE) 0xFFFFF6FB7DA00000   level 4 (PXE) 0xFFFFF6FB7DBED000
#pragma once

#include <wdm.h>

#define REF_LEVEL_COUNT 4
#define REF_PTE_BASE 0xFFFFF68000000000ull
#define REF_PDE_BASE 0xFFFFF6FB40000000ull
#define REF_PPE_BASE 0xFFFFF6FB7DA00000ull
#define REF_PXE_BASE 0xFFFFF6FB7DBED000ull
#define REF_SELF_MAP_SLOT 0x1EDull
#define REF_ENTRIES_PER_TABLE 512

// Entry bits.
#define REF_PRESENT (1ull << 0)
#define REF_WRITABLE (1ull << 1)
#define REF_USER (1ull << 2)
#define REF_PWT (1ull << 3)
#define REF_PCD (1ull << 4)
#define REF_LARGE (1ull << 7) // levels 2 and 3
#define REF_PAT_4K (1ull << 7)
#define REF_PAT_LARGE (1ull << 12)
#define REF_FRAME 0x000FFFFFFFFFF000ull
#define REF_NO_EXECUTE (1ull << 63)
#define REF_KEY(Entry) (((Entry) >> 59) & 0xF)

// Page-fault error code.
#define REF_FAULT_PRESENT 0x01
#define REF_FAULT_WRITE 0x02
#define REF_FAULT_FETCH 0x10
#define REF_FAULT_KEY 0x20

#define REF_VECTOR_GENERAL_PROTECTION 13
#define REF_VECTOR_PAGE_FAULT 14

#define REF_CR0_WP (1ull << 16)
#define REF_CR4_PGE (1ull << 7)
#define REF_CR4_UMIP (1ull << 11)
#define REF_CR4_SMEP (1ull << 20)
#define REF_CR4_SMAP (1ull << 21)
#define REF_CR4_PKS (1ull << 24)
#define REF_MSR_PAT 0x277
#define REF_MSR_EFER 0xC0000080
#define REF_EFER_NXE (1ull << 11)

// What the entries of all levels together say about one address.
typedef struct _REF_WALK {
    ULONG Level;    // 1, 2 or 3: a leaf; 0: nothing is mapped
    ULONG EndLevel; // of the last entry that was read
    ULONG64 Entry;  // that entry, raw
    ULONG64 PhysicalAddress;
    BOOLEAN IsWritable;
    BOOLEAN IsExecutable;
    BOOLEAN IsUser;
    ULONG CacheIndex; // of the PAT: bit 2 PAT, bit 1 PCD, bit 0 PWT
} REF_WALK;

// With the PAT programmed as designed: index 0 write-back, 1 write-combined, 3 uncached.
#define REF_CACHE_WB 0u
#define REF_CACHE_WC 1u
#define REF_CACHE_UC 3u

volatile ULONG64 *RefEntry(const VOID *Va, ULONG Level);
REF_WALK RefWalk(const VOID *Va);
static inline ULONG64 RefLeafBytes(ULONG Level)
{
    return 1ull << (PAGE_SHIFT + 9 * (Level - 1));
}

// Calls Routine for every leaf of the address space but those below the self-map, in ascending
// order.
typedef VOID REF_LEAF_ROUTINE(const VOID *Va, const REF_WALK *Leaf, PVOID Context);
VOID RefEnumerateLeaves(REF_LEAF_ROUTINE *Routine, PVOID Context);

typedef struct _REF_CPUID {
    ULONG Eax, Ebx, Ecx, Edx;
} REF_CPUID;

static inline REF_CPUID RefCpuid(ULONG Leaf)
{
    REF_CPUID Result;
    __asm__ volatile("cpuid"
                     : "=a"(Result.Eax), "=b"(Result.Ebx), "=c"(Result.Ecx), "=d"(Result.Edx)
                     : "a"(Leaf), "c"(0));
    return Result;
}

static inline ULONG64 RefReadCr0(VOID)
{
    ULONG64 Value;
    __asm__ volatile("mov %%cr0, %0" : "=r"(Value));
    return Value;
}

static inline ULONG64 RefReadCr3(VOID)
{
    ULONG64 Value;
    __asm__ volatile("mov %%cr3, %0" : "=r"(Value));
    return Value;
}

static inline ULONG64 RefReadCr4(VOID)
{
    ULONG64 Value;
    __asm__ volatile("mov %%cr4, %0" : "=r"(Value));
    return Value;
}

static inline ULONG64 RefReadCr8(VOID)
{
    ULONG64 Value;
    __asm__ volatile("mov %%cr8, %0" : "=r"(Value));
    return Value;
}

static inline ULONG64 RefReadFlags(VOID)
{
    ULONG64 Value;
    __asm__ volatile("pushfq; pop %0" : "=r"(Value));
    return Value;
}
