// Cache types: one table from which both the PAT register and the bits of an entry are computed.
//
// [x64] An entry does not hold a cache type but an index into the page attribute table, a register
// of eight slots: index = PAT * 4 + PCD * 2 + PWT. The four slots in use need no PAT bit, so an
// entry of any size is encoded alike (the PAT bit is bit 7 in a 4 KiB entry and bit 12 in a large
// one). The upper four slots repeat the lower ones: an entry whose PAT bit were set by accident
// would still mean the same.
//
// Invariant, asserted at compile time: the register is 0x0007010600070106, the value that Windows
// is known to use.

#include "arch/x64/mm/mmx64.h"

#include "kernel/inc/ke.h"

// What the register calls them.
#define PAT_UNCACHED 0x00
#define PAT_WRITE_COMBINED 0x01
#define PAT_WRITE_BACK 0x06
#define PAT_UNCACHED_MINUS 0x07 // uncached, but an MTRR may say write-combined

#define PAT_SLOT_WRITE_BACK 0u
#define PAT_SLOT_WRITE_COMBINED 1u
#define PAT_SLOT_UNCACHED_MINUS 2u
#define PAT_SLOT_UNCACHED 3u

#define PAT_HALF                                                                                   \
    ((ULONG64)PAT_WRITE_BACK << (8 * PAT_SLOT_WRITE_BACK) |                                        \
     (ULONG64)PAT_WRITE_COMBINED << (8 * PAT_SLOT_WRITE_COMBINED) |                                \
     (ULONG64)PAT_UNCACHED_MINUS << (8 * PAT_SLOT_UNCACHED_MINUS) |                                \
     (ULONG64)PAT_UNCACHED << (8 * PAT_SLOT_UNCACHED))
#define PAT_VALUE (PAT_HALF << 32 | PAT_HALF)

C_ASSERT(PAT_VALUE == 0x0007010600070106ull);

// The entry bits of a slot below 4.
#define SLOT_BITS(Slot) (((Slot)&1 ? PTE_PWT : 0) | ((Slot)&2 ? PTE_PCD : 0))

static const KI_CACHE_ROW KiCacheTable[MiCacheTypeCount] = {
    [MiCacheWriteBack] = {SLOT_BITS(PAT_SLOT_WRITE_BACK), "WB"},
    [MiCacheWriteCombined] = {SLOT_BITS(PAT_SLOT_WRITE_COMBINED), "WC"},
    [MiCacheUncached] = {SLOT_BITS(PAT_SLOT_UNCACHED), "UC"},
};

const KI_CACHE_ROW *KiCacheRow(MI_CACHE_TYPE CacheType)
{
    NT_ASSERT((ULONG)CacheType < MiCacheTypeCount);
    return &KiCacheTable[CacheType];
}

MI_CACHE_TYPE KiCacheTypeOfEntry(ULONG64 Entry)
{
    for (ULONG Type = 0; Type < MiCacheTypeCount; ++Type) {
        if (KiCacheTable[Type].Bits == (Entry & PTE_CACHE_BITS)) {
            return (MI_CACHE_TYPE)Type;
        }
    }
    // The slot of "UC-", which no entry of this kernel uses; firmware's entries may.
    return MiCacheUncached;
}

static VOID KiWriteBackCaches(VOID)
{
    __asm__ volatile("wbinvd" : : : "memory");
}

// The sequence of the SDM, "Programming the PAT", which refers to that for MTRRs: no cache line may
// be filled with the old types after the change, and no translation with the old types may survive
// it.
VOID MiArchInitializeCacheTypes(VOID)
{
    if (!KeFeatures.Pat) {
        KiBugCheckSaying(UNSUPPORTED_PROCESSOR, 1, 0, 0, 0,
                         "processor \"%s\" has no page attribute table (PAT)", KeFeatures.Vendor);
    }
    const BOOLEAN WereOn = KeArchDisableInterrupts();
    const ULONG64 Cr0 = X64ReadCr0();
    X64WriteCr0((Cr0 | CR0_CD) & ~CR0_NW);
    KiWriteBackCaches();
    MiArchFlushAll();
    KeArchWriteMsr(MSR_PAT, PAT_VALUE);
    KiWriteBackCaches();
    MiArchFlushAll();
    X64WriteCr0(Cr0 & ~(CR0_CD | CR0_NW));
    KeArchRestoreInterrupts(WereOn);
}
