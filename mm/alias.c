// Aliases: the direct map's view of a frame of RAM, and the frame's cache type.
//
// The processor must not see one frame with two cache types (SDM, "Programming the PAT"). The
// direct map sees all RAM as write-back. So a frame that is mapped uncached or write-combined loses
// its place in the direct map, from the moment its type is decided until its owner frees it:
//
//   allocated: undecided --first mapping--> write-back                       (alias stays)
//                                       \-> uncached, write-combined: hidden --freed--> shown again
//
// Pages of MmAllocatePagesForMdl are decided by their first mapping; contiguous and non-cached memory
// is born with its type.
//
// Hiding must not fail, because the first mapping may be one into a reservation. It cannot:
// MiPrepareAlias splits the direct map around the frames when they are allocated, and a 4 KiB leaf
// can always be taken away.
//
// Frames of driver images have no alias either (image.c), though they are write-back: read-only code
// would have a writable second name.
//
// Invariant (checked by MmVerify):
//   A1  A frame's alias is missing exactly when its cache type is decided and not write-back, or it is
//       an image's.
// Lock: none. A frame has one owner; the first to map it decides, and owners serialise the use of
// an MDL.
#include "mm/mi.h"

NTSTATUS MiPrepareAlias(PFN_NUMBER FirstPfn, PFN_NUMBER PageCount)
{
    return MiSplitRange((ULONG_PTR)MiFrameToVa(FirstPfn), PageCount);
}

// The same for a chain of frames.
NTSTATUS MiPrepareChainAliases(PFN_NUMBER FirstPfn)
{
    NTSTATUS Status = STATUS_SUCCESS;
    for (PFN_NUMBER Pfn = FirstPfn; NT_SUCCESS(Status) && Pfn != MI_NO_PFN;
         Pfn = MiNextInChain(Pfn)) {
        Status = MiPrepareAlias(Pfn, 1);
    }
    return Status;
}

// A processor may remember the frame by an address that waits: then everything is forgotten.
VOID MiDropAlias(PFN_NUMBER Pfn, PMI_TLB_BATCH Batch)
{
    Batch->FlushAll |= MiIsAnythingRemembered();
    MiClearRange((ULONG_PTR)MiFrameToVa(Pfn), 1, Batch);
}

VOID MiRestoreAlias(PFN_NUMBER Pfn)
{
    MiForgetTypes();
    MiCommitRange(NULL, (ULONG_PTR)MiFrameToVa(Pfn), Pfn, 1,
                  (MI_PROTECTION){MiAccessReadWrite, MiCacheWriteBack});
}

static VOID MiHideAlias(PFN_NUMBER Pfn, PMI_TLB_BATCH Batch)
{
    // Dirty lines must reach memory while there is still an address to name them by.
    MiArchFlushCacheRange(MiFrameToVa(Pfn), PAGE_SIZE);
    MiDropAlias(Pfn, Batch);
}

static VOID MiShowAlias(PFN_NUMBER Pfn)
{
    MiRestoreAlias(Pfn);
    // Lines that were fetched through the old alias, just before it went, are stale by now.
    MiArchFlushCacheRange(MiFrameToVa(Pfn), PAGE_SIZE);
}

MI_CACHE_TYPE MiDecideRamCacheType(PFN_NUMBER Pfn, MI_CACHE_TYPE Requested, PMI_TLB_BATCH Batch)
{
    PMMPFN Element = MiPfnElement(Pfn);
    if (Element->CacheType == MiCacheUndecided) {
        Element->CacheType = (UCHAR)Requested;
        if (Requested != MiCacheWriteBack) {
            MiHideAlias(Pfn, Batch);
        }
    }
    return (MI_CACHE_TYPE)Element->CacheType;
}

VOID MiForgetRamCacheType(PFN_NUMBER Pfn)
{
    PMMPFN Element = MiPfnElement(Pfn);
    if (Element->CacheType != MiCacheUndecided && Element->CacheType != MiCacheWriteBack) {
        MiShowAlias(Pfn);
    }
    Element->CacheType = MiCacheUndecided;
}

BOOLEAN MiIsLockedFrame(PFN_NUMBER Pfn, MI_REASON *Reason)
{
    switch (MiPfnState(Pfn)) {
    case MiPfnPool:
    case MiPfnMdl:
    case MiPfnDriver:
        return TRUE;
    case MiPfnTable:
        *Reason = MiReasonPageTable;
        return FALSE;
    case MiPfnKernel:
    case MiPfnLedger:
    case MiPfnRecord:
    case MiPfnImage:
        *Reason = MiReasonKernel;
        return FALSE;
    case MiPfnNotRam:
    case MiPfnFree:
    case MiPfnCached:
    case MiPfnQuarantine:
    case MiPfnStateCount:
        break;
    }
    *Reason = MiReasonRam;
    return FALSE;
}
