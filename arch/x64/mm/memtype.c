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

// The table: slot, what it holds, which cache type of mm that is, its name. No entry of this kernel
// uses slot 2, whose type an MTRR may change; those of firmware may.
#define PAT_SLOTS(Row)                                                                             \
    Row(0, PAT_WRITE_BACK, MiCacheWriteBack, "WB")                                                 \
        Row(1, PAT_WRITE_COMBINED, MiCacheWriteCombined, "WC")                                     \
            Row(2, PAT_UNCACHED_MINUS, MiCacheUndecided, "UC-")                                    \
                Row(3, PAT_UNCACHED, MiCacheUncached, "UC")
#define PAT_SLOT_COUNT 4

#define SLOT_REGISTER_BITS(Slot, Encoding, Type, Name) | (ULONG64)(Encoding) << (8 * (Slot))
#define PAT_HALF (0 PAT_SLOTS(SLOT_REGISTER_BITS))
#define PAT_VALUE (PAT_HALF << 32 | PAT_HALF)

C_ASSERT(PAT_VALUE == 0x0007010600070106ull);

#define SLOT_ENTRY_BITS(Slot, Encoding, Type, Name)                                                \
    [Type] = ((Slot)&1 ? PTE_PWT : 0) | ((Slot)&2 ? PTE_PCD : 0),
#define SLOT_TYPE(Slot, Encoding, Type, Name) [Slot] = Type,
#define SLOT_NAME(Slot, Encoding, Type, Name) [Slot] = Name,

static const ULONG64 KiBitsOfType[MiCacheTypeCount + 1] = {PAT_SLOTS(SLOT_ENTRY_BITS)};
static const MI_CACHE_TYPE KiTypeOfSlot[PAT_SLOT_COUNT] = {PAT_SLOTS(SLOT_TYPE)};
static const PCSTR KiNameOfSlot[PAT_SLOT_COUNT] = {PAT_SLOTS(SLOT_NAME)};

ULONG64 KiCacheBits(MI_CACHE_TYPE CacheType)
{
    NT_ASSERT((ULONG)CacheType < MiCacheTypeCount);
    return KiBitsOfType[CacheType];
}

static ULONG KiSlotOfEntry(ULONG64 Entry)
{
    return (Entry & PTE_PWT ? 1 : 0) | (Entry & PTE_PCD ? 2 : 0);
}

MI_CACHE_TYPE KiCacheTypeOfEntry(ULONG64 Entry)
{
    return KiTypeOfSlot[KiSlotOfEntry(Entry)];
}

PCSTR KiCacheNameOfEntry(ULONG64 Entry)
{
    return KiNameOfSlot[KiSlotOfEntry(Entry)];
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
    const BOOLEAN IsFirst = KeArchGetPcr()->Number == 0;
    if (IsFirst) {
        KiInitializeLeafTemplates();
        KiReadMemoryTypes();
    }
    const BOOLEAN WereOn = KeArchDisableInterrupts();
    const ULONG64 Cr0 = X64ReadCr0();
    X64WriteCr0((Cr0 | CR0_CD) & ~CR0_NW);
    KiWriteBackCaches();
    MiArchFlushAll();
    KeArchWriteMsr(MSR_PAT, PAT_VALUE);
    if (!IsFirst) {
        KiWriteMemoryTypes();
    }
    KiWriteBackCaches();
    MiArchFlushAll();
    X64WriteCr0(Cr0 & ~(CR0_CD | CR0_NW));
    KeArchRestoreInterrupts(WereOn);
}
