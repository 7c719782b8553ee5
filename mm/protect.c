// Protections: what callers write (PAGE_* and MEMORY_CACHING_TYPE) against what mm works with
// (MI_PROTECTION). The decoders, inline in mi.h, look it up in tables of everything that is legal.
#include "mm/mi.h"

// Indexed by the number of the bit. MiAccessCount: not offered.
const UCHAR MiAccessOfBit[MI_BASE_PROTECTION_BITS] = {
    [0] = MiAccessCount,            // PAGE_NOACCESS
    [1] = MiAccessRead,             // PAGE_READONLY
    [2] = MiAccessReadWrite,        // PAGE_READWRITE
    [3] = MiAccessCount,            // PAGE_WRITECOPY
    [4] = MiAccessExecute,          // PAGE_EXECUTE
    [5] = MiAccessExecuteRead,      // PAGE_EXECUTE_READ
    [6] = MiAccessExecuteReadWrite, // PAGE_EXECUTE_READWRITE
    [7] = MiAccessCount,            // PAGE_EXECUTE_WRITECOPY
    [8] = MiAccessCount,            // PAGE_GUARD
};
C_ASSERT(PAGE_READONLY == 1 << 1 && PAGE_READWRITE == 1 << 2 && PAGE_EXECUTE == 1 << 4 &&
         PAGE_EXECUTE_READ == 1 << 5 && PAGE_EXECUTE_READWRITE == 1 << 6 && PAGE_GUARD == 1 << 8);

// Indexed by the two modifiers, PAGE_NOCACHE and PAGE_WRITECOMBINE. MiCacheTypeCount: not both.
const UCHAR MiCacheTypeOfModifiers[] = {
    [0] = MiCacheWriteBack,
    [PAGE_NOCACHE >> MI_CACHE_MODIFIER_SHIFT] = MiCacheUncached,
    [PAGE_WRITECOMBINE >> MI_CACHE_MODIFIER_SHIFT] = MiCacheWriteCombined,
    [MI_CACHE_MODIFIERS >> MI_CACHE_MODIFIER_SHIFT] = MiCacheTypeCount,
};

// Indexed by MEMORY_CACHING_TYPE. The last three are for system use; they mean the nearest of the
// first three.
const UCHAR MiCachingTypes[MmMaximumCacheType] = {
    [MmNonCached] = MiCacheUncached,          [MmCached] = MiCacheWriteBack,
    [MmWriteCombined] = MiCacheWriteCombined, [MmHardwareCoherentCached] = MiCacheWriteBack,
    [MmNonCachedUnordered] = MiCacheUncached, [MmUSWCCached] = MiCacheWriteCombined,
};

// The way back, indexed by MI_CACHE_TYPE, and by what a frame has that is not mapped.
const MEMORY_CACHING_TYPE MiCachingTypeOf[] = {
    [MiCacheWriteBack] = MmCached,   [MiCacheWriteCombined] = MmWriteCombined,
    [MiCacheUncached] = MmNonCached, [MiCacheUndecided] = MmNotMapped,
    [MI_CACHE_NONE] = MmNotMapped,
};

const CHAR *MiAccessName(MI_ACCESS Access)
{
    static const CHAR *const Names[] = {
        [MiAccessRead] = "r--",
        [MiAccessReadWrite] = "rw-",
        [MiAccessExecute] = "--x",
        [MiAccessExecuteRead] = "r-x",
        [MiAccessExecuteReadWrite] = "rwx",
    };
    C_ASSERT(ARRAYSIZE(Names) == MiAccessCount);
    return Names[Access];
}

const CHAR *MiCacheTypeName(MI_CACHE_TYPE CacheType)
{
    static const CHAR *const Names[] = {
        [MiCacheWriteBack] = "WB",
        [MiCacheWriteCombined] = "WC",
        [MiCacheUncached] = "UC",
        [MiCacheUndecided] = "--",
    };
    C_ASSERT(ARRAYSIZE(Names) == MiCacheTypeCount + 1);
    return Names[CacheType];
}
