// Protections: what callers write (PAGE_* and MEMORY_CACHING_TYPE) against what mm works with
// (MI_PROTECTION). Both decoders are searches in a table that lists everything that is legal; what
// is not listed is refused.
#include "mm/mi.h"

static const struct {
    ULONG Base;
    MI_ACCESS Access;
} MiBaseProtections[] = {
    {PAGE_READONLY, MiAccessRead},
    {PAGE_READWRITE, MiAccessReadWrite},
    {PAGE_EXECUTE, MiAccessExecute},
    {PAGE_EXECUTE_READ, MiAccessExecuteRead},
    {PAGE_EXECUTE_READWRITE, MiAccessExecuteReadWrite},
};
C_ASSERT(ARRAYSIZE(MiBaseProtections) == MiAccessCount);

static const struct {
    ULONG Modifier;
    MI_CACHE_TYPE CacheType;
} MiCacheModifiers[] = {
    {0, MiCacheWriteBack},
    {PAGE_NOCACHE, MiCacheUncached},
    {PAGE_WRITECOMBINE, MiCacheWriteCombined},
};

// Indexed by MEMORY_CACHING_TYPE. The last three are for system use; they mean the nearest of the
// first three.
static const MI_CACHE_TYPE MiCachingTypes[] = {
    [MmNonCached] = MiCacheUncached,          [MmCached] = MiCacheWriteBack,
    [MmWriteCombined] = MiCacheWriteCombined, [MmHardwareCoherentCached] = MiCacheWriteBack,
    [MmNonCachedUnordered] = MiCacheUncached, [MmUSWCCached] = MiCacheWriteCombined,
};
C_ASSERT(ARRAYSIZE(MiCachingTypes) == MmMaximumCacheType);

#define MI_CACHE_MODIFIERS (PAGE_NOCACHE | PAGE_WRITECOMBINE)
#define MI_CACHING_TYPE_MASK 0xFF

static BOOLEAN MiDecodeAccess(ULONG Base, MI_ACCESS *Access)
{
    for (ULONG Row = 0; Row < ARRAYSIZE(MiBaseProtections); Row += 1) {
        if (MiBaseProtections[Row].Base == Base) {
            *Access = MiBaseProtections[Row].Access;
            return TRUE;
        }
    }
    return FALSE;
}

static BOOLEAN MiDecodeCacheModifier(ULONG Modifier, MI_CACHE_TYPE *CacheType)
{
    for (ULONG Row = 0; Row < ARRAYSIZE(MiCacheModifiers); Row += 1) {
        if (MiCacheModifiers[Row].Modifier == Modifier) {
            *CacheType = MiCacheModifiers[Row].CacheType;
            return TRUE;
        }
    }
    return FALSE;
}

BOOLEAN MiDecodePageProtection(ULONG Protect, MI_PROTECTION *Protection)
{
    return MiDecodeAccess(Protect & ~MI_CACHE_MODIFIERS, &Protection->Access) &&
           MiDecodeCacheModifier(Protect & MI_CACHE_MODIFIERS, &Protection->CacheType);
}

BOOLEAN MiDecodeCachingType(MEMORY_CACHING_TYPE CachingType, MI_CACHE_TYPE *CacheType)
{
    const ULONG Index = (ULONG)CachingType & MI_CACHING_TYPE_MASK;
    if (Index >= ARRAYSIZE(MiCachingTypes)) {
        return FALSE;
    }
    *CacheType = MiCachingTypes[Index];
    return TRUE;
}

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
