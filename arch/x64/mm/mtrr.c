// Memory types of physical ranges (MTRRs), and the type that is in force when an entry's type and
// the range's come together.
//
//   below 1 MiB   88 fixed ranges, a byte each:  0x00000 8 x 64 KiB | 0x80000 16 x 16 KiB |
//                                                0xC0000 64 x 4 KiB
//   anywhere      pairs of base and mask: an address belongs to a pair when (address & mask) ==
//                 (base & mask). Pairs may overlap
//   else          the default type
//
// Firmware programs them: RAM write-back, the PCI hole uncached. The kernel reads those of the first
// processor, and does not need to change any: every type that an entry of ours can hold gives, on what
// firmware calls write-back or uncached, either just that type or a stricter one. The others get what
// the first one has (SDM, "MTRR Considerations in MP Systems"): some firmware does not tell them.
//
// [x64] The ranges of system-management mode (SMRRs) hold for code in that mode only, and are
// ignored.
//
// Lock: none. Read once, before the first mapping.

#include "arch/x64/mm/mmx64.h"

#include "kernel/inc/ke.h"

#define MSR_MTRR_CAPABILITIES 0x0FE
#define MTRRCAP_VARIABLE_COUNT 0xFFu
#define MTRRCAP_FIXED (1u << 8)

#define MSR_MTRR_DEFAULT_TYPE 0x2FF
#define MTRR_TYPE 0xFFu
#define MTRR_FIXED_ENABLE (1u << 10)
#define MTRR_ENABLE (1u << 11)

#define MSR_MTRR_PHYSICAL_BASE(Pair) (0x200u + 2 * (Pair))
#define MSR_MTRR_PHYSICAL_MASK(Pair) (0x201u + 2 * (Pair))
#define MTRR_MASK_VALID (1ull << 11)
#define MTRR_ADDRESS 0x000FFFFFFFFFF000ull

// As registers encode a type. 2, 3 and everything else are reserved.
#define MTRR_UNCACHED 0
#define MTRR_WRITE_COMBINED 1
#define MTRR_WRITE_THROUGH 4
#define MTRR_WRITE_PROTECTED 5
#define MTRR_WRITE_BACK 6

#define FIXED_LIMIT 0x100000u
#define BYTES_PER_REGISTER 8
#define MAXIMUM_PAIRS 32 // far more than any processor has

// The fixed registers, in order of address.
static const struct {
    ULONG BaseAddress;
    ULONG RangeBytes; // per byte of the register
    ULONG FirstMsr;
} KiFixedRanges[] = {
    {0x00000, 0x10000, 0x250},
    {0x80000, 0x4000, 0x258},
    {0xC0000, 0x1000, 0x268},
};

#define FIXED_REGISTERS 11
static const ULONG KiFixedMsrs[] = {0x250, 0x258, 0x259, 0x268, 0x269, 0x26A,
                                    0x26B, 0x26C, 0x26D, 0x26E, 0x26F};
C_ASSERT(ARRAYSIZE(KiFixedMsrs) == FIXED_REGISTERS);

static struct {
    BOOLEAN IsPresent;
    BOOLEAN HasFixed;
    ULONG64 Default;
    ULONG PairCount;
    ULONG64 Fixed[FIXED_REGISTERS];
    struct {
        ULONG64 Base;
        ULONG64 Mask;
    } Pairs[MAXIMUM_PAIRS];
} KiMtrrs;

VOID KiReadMemoryTypes(VOID)
{
    KiMtrrs.IsPresent = KeFeatures.Mtrr;
    if (!KiMtrrs.IsPresent) {
        return;
    }
    const ULONG64 Capabilities = KeArchReadMsr(MSR_MTRR_CAPABILITIES);
    const ULONG PairCount = (ULONG)Capabilities & MTRRCAP_VARIABLE_COUNT;
    KiMtrrs.Default = KeArchReadMsr(MSR_MTRR_DEFAULT_TYPE);
    KiMtrrs.HasFixed =
        (Capabilities & MTRRCAP_FIXED) != 0 && (KiMtrrs.Default & MTRR_FIXED_ENABLE) != 0;
    KiMtrrs.PairCount = PairCount < MAXIMUM_PAIRS ? PairCount : MAXIMUM_PAIRS;
    for (ULONG Index = 0; KiMtrrs.HasFixed && Index < FIXED_REGISTERS; Index += 1) {
        KiMtrrs.Fixed[Index] = KeArchReadMsr(KiFixedMsrs[Index]);
    }
    for (ULONG Pair = 0; Pair < KiMtrrs.PairCount; Pair += 1) {
        KiMtrrs.Pairs[Pair].Base = KeArchReadMsr(MSR_MTRR_PHYSICAL_BASE(Pair));
        KiMtrrs.Pairs[Pair].Mask = KeArchReadMsr(MSR_MTRR_PHYSICAL_MASK(Pair));
    }
}

static VOID KiWriteIfDifferent(ULONG Msr, ULONG64 Value)
{
    if (KeArchReadMsr(Msr) != Value) {
        KeArchWriteMsr(Msr, Value);
    }
}

// The ranges are off meanwhile: no half of a pair may be believed.
VOID KiWriteMemoryTypes(VOID)
{
    if (!KiMtrrs.IsPresent) {
        return;
    }
    KeArchWriteMsr(MSR_MTRR_DEFAULT_TYPE, KiMtrrs.Default & ~(ULONG64)MTRR_ENABLE);
    for (ULONG Index = 0; KiMtrrs.HasFixed && Index < FIXED_REGISTERS; Index += 1) {
        KiWriteIfDifferent(KiFixedMsrs[Index], KiMtrrs.Fixed[Index]);
    }
    for (ULONG Pair = 0; Pair < KiMtrrs.PairCount; Pair += 1) {
        KiWriteIfDifferent(MSR_MTRR_PHYSICAL_BASE(Pair), KiMtrrs.Pairs[Pair].Base);
        KiWriteIfDifferent(MSR_MTRR_PHYSICAL_MASK(Pair), KiMtrrs.Pairs[Pair].Mask);
    }
    KeArchWriteMsr(MSR_MTRR_DEFAULT_TYPE, KiMtrrs.Default);
}

// A reserved encoding is firmware's error; uncached is never wrong.
static MI_MEMORY_TYPE KiDecodeType(ULONG64 Encoding)
{
    static const UCHAR Types[] = {
        [MTRR_UNCACHED] = MiMemoryUncached,
        [MTRR_WRITE_COMBINED] = MiMemoryWriteCombined,
        [MTRR_WRITE_THROUGH] = MiMemoryWriteThrough,
        [MTRR_WRITE_PROTECTED] = MiMemoryWriteProtected,
        [MTRR_WRITE_BACK] = MiMemoryWriteBack,
    };
    const ULONG Type = (ULONG)Encoding & MTRR_TYPE;
    return Type < ARRAYSIZE(Types) ? (MI_MEMORY_TYPE)Types[Type] : MiMemoryUncached;
}

static MI_MEMORY_TYPE KiTypeOfFixed(ULONG Address)
{
    ULONG Row = ARRAYSIZE(KiFixedRanges) - 1;
    while (Address < KiFixedRanges[Row].BaseAddress) {
        Row -= 1;
    }
    const ULONG Range = (Address - KiFixedRanges[Row].BaseAddress) / KiFixedRanges[Row].RangeBytes;
    ULONG Register = 0;
    while (KiFixedMsrs[Register] != KiFixedRanges[Row].FirstMsr + Range / BYTES_PER_REGISTER) {
        Register += 1;
    }
    return KiDecodeType(KiMtrrs.Fixed[Register] >> (8 * (Range % BYTES_PER_REGISTER)));
}

// Where pairs overlap: uncached wins; of write-through and write-back, write-through; whatever else
// meets is undefined, for which uncached is never wrong (SDM, "MTRR Precedences").
static MI_MEMORY_TYPE KiCombineOverlap(MI_MEMORY_TYPE One, MI_MEMORY_TYPE Other)
{
    const BOOLEAN IsThroughAndBack = (One == MiMemoryWriteThrough && Other == MiMemoryWriteBack) ||
                                     (One == MiMemoryWriteBack && Other == MiMemoryWriteThrough);
    return One == Other ? One : IsThroughAndBack ? MiMemoryWriteThrough : MiMemoryUncached;
}

static BOOLEAN KiIsInPair(ULONG Pair, ULONG64 Address)
{
    const ULONG64 Mask = KiMtrrs.Pairs[Pair].Mask & MTRR_ADDRESS;
    return (KiMtrrs.Pairs[Pair].Mask & MTRR_MASK_VALID) != 0 &&
           (Address & Mask) == (KiMtrrs.Pairs[Pair].Base & Mask);
}

static MI_MEMORY_TYPE KiTypeOfVariable(ULONG64 Address)
{
    MI_MEMORY_TYPE Type = MiMemoryTypeCount;
    for (ULONG Pair = 0; Pair < KiMtrrs.PairCount; Pair += 1) {
        if (KiIsInPair(Pair, Address)) {
            const MI_MEMORY_TYPE Next = KiDecodeType(KiMtrrs.Pairs[Pair].Base);
            Type = Type == MiMemoryTypeCount ? Next : KiCombineOverlap(Type, Next);
        }
    }
    return Type != MiMemoryTypeCount ? Type : KiDecodeType(KiMtrrs.Default);
}

static MI_MEMORY_TYPE KiTypeOfAddress(ULONG64 Address)
{
    if (!KiMtrrs.IsPresent) {
        return MiMemoryWriteBack; // nothing but the entry decides
    }
    if ((KiMtrrs.Default & MTRR_ENABLE) == 0) {
        return MiMemoryUncached;
    }
    return KiMtrrs.HasFixed && Address < FIXED_LIMIT ? KiTypeOfFixed((ULONG)Address)
                                                     : KiTypeOfVariable(Address);
}

// SDM, "Effective Page-Level Memory Types", the rows of the three types that entries of this kernel
// have: uncached and write-combined overrule the range, write-back leaves it as it is.
MI_MEMORY_TYPE MiArchEffectiveCacheType(PFN_NUMBER Pfn, MI_CACHE_TYPE CacheType)
{
    switch (CacheType) {
    case MiCacheUncached:
        return MiMemoryUncached;
    case MiCacheWriteCombined:
        return MiMemoryWriteCombined;
    case MiCacheWriteBack:
    case MiCacheUndecided:
        break;
    }
    return KiTypeOfAddress(Pfn << PAGE_SHIFT);
}
