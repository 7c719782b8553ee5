// Cache types, asked for and fixed: MmGetCacheAttribute(Ex), MmSetPermanentCacheAttribute.
//
// A permanent attribute is a hold in the ledger that nobody gives back: it outlives every mapping, so
// that a mapping with another type is refused from then on.
#include "mm/mi.h"

static ULONG64 MiPermanentRanges;

ULONG64 MiPermanentRangeCount(VOID)
{
    return MiPermanentRanges;
}

// RAM that the kernel itself uses is cached through the direct map, whoever may map it besides.
static MI_CACHE_TYPE MiCacheTypeOfFrame(PFN_NUMBER Pfn)
{
    const MMPFN *Element = MiPfnElement(Pfn);
    MI_CACHE_OWNER Owner = {MiCacheUndecided, NULL, 0};
    if (Element != NULL) {
        const BOOLEAN IsKernels =
            !MiIsFree((MI_PFN_STATE)Element->State) && Element->CacheType == MI_CACHE_NONE;
        return IsKernels ? MiCacheWriteBack : (MI_CACHE_TYPE)Element->CacheType;
    }
    (VOID) MiQueryFrame(Pfn, &Owner);
    return Owner.CacheType;
}

static NTSTATUS MiGetCacheAttribute(const CHAR *Routine, PHYSICAL_ADDRESS PhysicalAddress,
                                    ULONG Flags, MEMORY_CACHING_TYPE *CacheType)
{
    MI_PFN_RANGE Range;
    MI_REASON Reason;
    *CacheType = MmNotMapped;
    if (!MiRangeFromBytes((ULONG64)PhysicalAddress.QuadPart, 1, &Range, &Reason)) {
        MiRefusePlain(Routine, Reason);
        return STATUS_INVALID_PARAMETER_1;
    }
    if (Flags != 0) {
        MiRefusePlain(Routine, MiReasonFlags);
        return STATUS_INVALID_PARAMETER_2;
    }
    *CacheType = MiCachingTypeOf[MiCacheTypeOfFrame(Range.FirstPfn)];
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI MmGetCacheAttributeEx(PHYSICAL_ADDRESS PhysicalAddress, ULONG Flags,
                                     MEMORY_CACHING_TYPE *CacheType)
{
    return MiGetCacheAttribute(__func__, PhysicalAddress, Flags, CacheType);
}

NTSTATUS NTAPI MmGetCacheAttribute(PHYSICAL_ADDRESS PhysicalAddress, MEMORY_CACHING_TYPE *CacheType)
{
    return MiGetCacheAttribute(__func__, PhysicalAddress, 0, CacheType);
}

NTSTATUS NTAPI MmSetPermanentCacheAttribute(PHYSICAL_ADDRESS PhysicalAddress,
                                            LARGE_INTEGER NumberOfBytes,
                                            MEMORY_CACHING_TYPE CacheType, ULONG Flags)
{
    MI_PFN_RANGE Range;
    MI_CACHE_TYPE Type;
    MI_REASON Reason;
    if (!MiRangeFromBytes((ULONG64)PhysicalAddress.QuadPart, (ULONG64)NumberOfBytes.QuadPart,
                          &Range, &Reason)) {
        MiRefusePlain(__func__, Reason);
        return STATUS_INVALID_PARAMETER_1;
    }
    if (!MiDecodeCachingType(CacheType, &Type)) {
        MiRefusePlain(__func__, MiReasonCacheType);
        return STATUS_INVALID_PARAMETER_3;
    }
    if (Flags != MM_PERMANENT_ADDRESS_IS_IO_SPACE || !MiIsIoSpace(Range, &Reason)) {
        MiRefuse(__func__, Flags != MM_PERMANENT_ADDRESS_IS_IO_SPACE ? MiReasonFlags : Reason,
                 Range, NULL);
        return STATUS_INVALID_PARAMETER_4;
    }
    const PMI_RANGE_HOLD Hold = MiAllocatePool(sizeof(MI_RANGE_HOLD), 'pCmM');
    if (Hold == NULL) {
        MiRefuse(__func__, MiReasonResources, Range, NULL);
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    const NTSTATUS Status = MiHoldRange(Hold, Range, Type, __builtin_return_address(0));
    if (!NT_SUCCESS(Status)) {
        MiRefuseCacheConflict(__func__, Range, Type);
        MiFreePool(Hold);
        return Status;
    }
    __atomic_fetch_add(&MiPermanentRanges, 1, __ATOMIC_RELAXED);
    return STATUS_SUCCESS;
}
