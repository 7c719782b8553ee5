// Mappings: who uses which system addresses. Every successful map leaves a record here, so that
// unmap need not believe its caller: the address must be one that was handed out, and the size and
// the MDL must be the same.
//
// Records hang in a hash table by their first page. A correct unmap finds its record there at once,
// however many are live; only the diagnosis of a wrong one searches.
//
// Invariants (checked by MmVerify):
//   M1  Records do not overlap; their pages are reserved in their region.
//   M2  Inside a record, exactly the pages that it calls mapped have a leaf, with its frames.
// Lock: MiMappingLock, for the table and the count. What a record says belongs to whoever mapped
// it.
#include "mm/mi.h"

#define MI_MAPPING_BUCKETS 4096

static KI_LOCK MiMappingLock = KI_LOCK_INITIALIZER(MI_RANK_MAPPING, "MiMappingLock");
static PMI_MAPPING MiBuckets[MI_MAPPING_BUCKETS];
static ULONG64 MiCountOfMappings;

static PMI_MAPPING *MiBucketOf(ULONG_PTR Va)
{
    return &MiBuckets[(Va >> PAGE_SHIFT) % MI_MAPPING_BUCKETS];
}

PMI_MAPPING MiAllocateMapping(MI_MAPPING_KIND Kind, PVOID Caller)
{
    PMI_MAPPING Mapping = MiAllocatePool(sizeof(MI_MAPPING), 'paMM');
    if (Mapping != NULL) {
        Mapping->Kind = Kind;
        Mapping->Caller = Caller;
    }
    return Mapping;
}

VOID MiFreeMapping(PMI_MAPPING Mapping)
{
    MiFreePool(Mapping);
}

VOID MiInsertMapping(PMI_MAPPING Mapping)
{
    PMI_MAPPING *Bucket = MiBucketOf(Mapping->Va);
    const KIRQL OldIrql = KiAcquireLock(&MiMappingLock);
    Mapping->NextInBucket = *Bucket;
    *Bucket = Mapping;
    MiCountOfMappings += 1;
    KiReleaseLock(&MiMappingLock, OldIrql);
}

VOID MiRemoveMapping(PMI_MAPPING Mapping)
{
    PMI_MAPPING *Link = MiBucketOf(Mapping->Va);
    const KIRQL OldIrql = KiAcquireLock(&MiMappingLock);
    while (*Link != Mapping) {
        Link = &(*Link)->NextInBucket;
    }
    *Link = Mapping->NextInBucket;
    MiCountOfMappings -= 1;
    KiReleaseLock(&MiMappingLock, OldIrql);
}

PMI_MAPPING MiFindMapping(const VOID *Va)
{
    const ULONG_PTR PageVa = (ULONG_PTR)PAGE_ALIGN(Va);
    const KIRQL OldIrql = KiAcquireLock(&MiMappingLock);
    PMI_MAPPING Mapping = *MiBucketOf(PageVa);
    while (Mapping != NULL && Mapping->Va != PageVa) {
        Mapping = Mapping->NextInBucket;
    }
    KiReleaseLock(&MiMappingLock, OldIrql);
    return Mapping;
}

VOID MiEnumerateMappings(MI_MAPPING_ROUTINE *Routine, PVOID Context)
{
    for (ULONG Index = 0; Index < MI_MAPPING_BUCKETS; Index += 1) {
        for (PMI_MAPPING Mapping = MiBuckets[Index]; Mapping != NULL;
             Mapping = Mapping->NextInBucket) {
            Routine(Mapping, Context);
        }
    }
}

typedef struct _MI_AROUND {
    ULONG_PTR Va;
    PMI_MAPPING Found;
} MI_AROUND;

static VOID MiNoteIfAround(PMI_MAPPING Mapping, PVOID Context)
{
    MI_AROUND *Around = Context;
    if (Around->Va >= Mapping->Va && Around->Va - Mapping->Va < Mapping->PageCount << PAGE_SHIFT) {
        Around->Found = Mapping;
    }
}

PMI_MAPPING MiFindMappingAround(const VOID *Va)
{
    MI_AROUND Around = {(ULONG_PTR)Va, NULL};
    MiEnumerateMappings(MiNoteIfAround, &Around);
    return Around.Found;
}

static BOOLEAN MiIsIoFrameIn(MI_PFN_RANGE Range, PFN_NUMBER Pfn)
{
    return Pfn >= Range.FirstPfn && Pfn <= Range.LastPfn && MiPfnElement(Pfn) == NULL;
}

static BOOLEAN MiDoesMdlShow(MI_PFN_RANGE Range, PMDL Mdl)
{
    const PFN_NUMBER *Pfns = MmGetMdlPfnArray(Mdl);
    const PFN_NUMBER PageCount = MiMdlPageCount(Mdl);
    PFN_NUMBER Page = 0;
    while (Page < PageCount && !MiIsIoFrameIn(Range, Pfns[Page])) {
        Page += 1;
    }
    return Page < PageCount;
}

static BOOLEAN MiDoesMappingShow(MI_PFN_RANGE Range, const MI_MAPPING *Mapping)
{
    switch (Mapping->Kind) {
    case MiMappingIo:
        return !Mapping->Io.IsRam && Mapping->Io.FirstPfn <= Range.LastPfn &&
               Range.FirstPfn <= Mapping->Io.FirstPfn + Mapping->PageCount - 1;
    case MiMappingMdl:
        return MiDoesMdlShow(Range, Mapping->Locked.Mdl);
    case MiMappingReserved:
        return Mapping->Reserved.Mdl != NULL && MiDoesMdlShow(Range, Mapping->Reserved.Mdl);
    }
    return FALSE;
}

BOOLEAN MiIsIoRangeMapped(MI_PFN_RANGE Range)
{
    BOOLEAN IsMapped = FALSE;
    const KIRQL OldIrql = KiAcquireLock(&MiMappingLock);
    for (ULONG Index = 0; Index < MI_MAPPING_BUCKETS && !IsMapped; Index += 1) {
        const MI_MAPPING *Mapping = MiBuckets[Index];
        while (Mapping != NULL && !MiDoesMappingShow(Range, Mapping)) {
            Mapping = Mapping->NextInBucket;
        }
        IsMapped = Mapping != NULL;
    }
    KiReleaseLock(&MiMappingLock, OldIrql);
    return IsMapped;
}

ULONG64 MiMappingCount(VOID)
{
    return MiCountOfMappings;
}
