// What mm's files tell each other. Prototypes stand in the order of the steps in mm/README.md: a
// file uses what is above its own group, never what is below.
//
// Locks, in the order in which they may be taken; each is a spin lock at DISPATCH_LEVEL, and no two
// of them are held for longer than a few stores or one search:
//   MiClaimLock 1 < MiLedgerLock 2 < MiMappingLock 3 < MiSystemVaLock 4 < MiPageTableLock 5 <
//   MiPfnLock 6 < MiPoolLock 7
// Allocate first, lock second: the only allocator that is called under a lock is that of frames
// (rank 6).
#pragma once

#include <wdm.h>

#include "kernel/inc/ke.h"
#include "kernel/inc/rtl.h"
#include "mm/miarch.h"
#include "mm/mm.h"

#define MI_RANK_CLAIM 1
#define MI_RANK_LEDGER 2
#define MI_RANK_MAPPING 3
#define MI_RANK_SYSTEM_VA 4
#define MI_RANK_PAGE_TABLE 5
#define MI_RANK_PFN 6
#define MI_RANK_POOL 7

// Frames, both ends included, so that the last frame of the address space can be named. FirstPfn <=
// LastPfn.
typedef struct _MI_PFN_RANGE {
    PFN_NUMBER FirstPfn;
    PFN_NUMBER LastPfn;
} MI_PFN_RANGE;

static inline PFN_NUMBER MiRangePageCount(MI_PFN_RANGE Range)
{
    return Range.LastPfn - Range.FirstPfn + 1;
}

//
// refusal.c: why the last request was refused.
//

typedef enum _MI_REASON {
    MiReasonProtection,      // no such protection, or a combination that is not offered
    MiReasonCacheType,       // no such cache type
    MiReasonZeroBytes,       //
    MiReasonBeyondPhysical,  // wraps, or leaves the processor's physical addresses
    MiReasonAlignment,       // not page aligned, or not whole pages
    MiReasonTooLarge,        // more than the routine can describe
    MiReasonRam,             // RAM that the operating system uses
    MiReasonPageTable,       // a live page table
    MiReasonKernel,          // the kernel's image or data
    MiReasonBadMemory,       // RAM that firmware calls defective
    MiReasonFirmware,        // reserved by firmware for itself
    MiReasonMixed,           // partly RAM, partly device memory
    MiReasonCacheConflict,   // already mapped with another cache type
    MiReasonClaimed,         // somebody else owns it
    MiReasonNoSpace,         // no free I/O space in the window
    MiReasonUnclaimedFrame,  // an MDL names device memory that no MDL or mapping has claimed
    MiReasonMdlState,        // the MDL is not locked, or is mapped already
    MiReasonReservationSize, // the MDL spans more pages than the reservation
    MiReasonUserMode,        // there is no user mode
    MiReasonFlags,           // flags that are unknown or exclude each other
    MiReasonTag,             // pool tag 0
    MiReasonResources,       // no pool, frames or system addresses left
    MiReasonCount,
} MI_REASON;

// Records a refusal: Routine is __func__ of the exported routine, Range the frames in question (0,
// 0 when none), Owner who holds what was asked for, or NULL. Any IRQL.
VOID MiRefuse(_In_ const CHAR *Routine, _In_ MI_REASON Reason, _In_ MI_PFN_RANGE Range,
              _In_opt_ const CHAR *Owner);
VOID MiRefusePlain(_In_ const CHAR *Routine, _In_ MI_REASON Reason);

//
// failure.c: allocations that fail on purpose.
//

// TRUE when this allocation must fail. Kind is one of MM_FAIL_*.
BOOLEAN MiMustFail(_In_ ULONG Kind);

//
// protect.c: what a caller writes, as what mm works with.
//

// FALSE: Protect is not one base protection with at most one cache modifier.
_Must_inspect_result_ BOOLEAN MiDecodePageProtection(_In_ ULONG Protect,
                                                     _Out_ MI_PROTECTION *Protection);

// FALSE: no such type. Only the low byte counts, as ever since callers passed BOOLEANs.
_Must_inspect_result_ BOOLEAN MiDecodeCachingType(_In_ MEMORY_CACHING_TYPE CachingType,
                                                  _Out_ MI_CACHE_TYPE *CacheType);

const CHAR *MiAccessName(_In_ MI_ACCESS Access);           // "rw-"
const CHAR *MiCacheTypeName(_In_ MI_CACHE_TYPE CacheType); // "UC"

//
// physmap.c: what the machine is. Sealed by MiInitializePhysicalMap; read without a lock at any
// IRQL.
//

typedef enum _MI_PHYSICAL_KIND {
    MiPhysicalIoSpace,  // nothing that firmware told of: devices
    MiPhysicalRam,      // the operating system's
    MiPhysicalAcpi,     // ACPI tables in RAM
    MiPhysicalNvs,      // RAM that firmware keeps using
    MiPhysicalFirmware, // reserved: firmware's memory, ECAM, APICs
    MiPhysicalBad,      // defective RAM
    MiPhysicalKindCount,
} MI_PHYSICAL_KIND;

typedef struct _MI_PHYSICAL_REGION {
    MI_PFN_RANGE Range;
    MI_PHYSICAL_KIND Kind; // never MiPhysicalIoSpace: a gap is I/O space
} MI_PHYSICAL_REGION;

VOID MiInitializePhysicalMap(_In_ const LOADER_BLOCK *LoaderBlock);
const CHAR *MiPhysicalKindName(_In_ MI_PHYSICAL_KIND Kind);

// All regions, ascending.
const MI_PHYSICAL_REGION *MiPhysicalRegions(_Out_ PULONG RegionCount);

// The kind of a frame, and in *LastPfn the last frame up to which the kind stays the same.
MI_PHYSICAL_KIND MiPhysicalKindOf(_In_ PFN_NUMBER Pfn, _Out_ PFN_NUMBER *LastPfn);

// The highest frame that the processor can address.
PFN_NUMBER MiHighestPfn(VOID);

// Bytes to frames, once, at the border. FALSE: no bytes, wrap, or beyond MiHighestPfn; *Reason says
// which.
_Must_inspect_result_ BOOLEAN MiRangeFromBytes(_In_ ULONG64 BaseAddress, _In_ ULONG64 ByteCount,
                                               _Out_ MI_PFN_RANGE *Range, _Out_ MI_REASON *Reason);

// Whether drivers may map all of Range as device memory. FALSE: *Reason says why not.
_Must_inspect_result_ BOOLEAN MiIsIoSpace(_In_ MI_PFN_RANGE Range, _Out_ MI_REASON *Reason);

//
// pfn.c: the frames of RAM.
//

typedef enum _MI_PFN_STATE {
    MiPfnNotRam, // a hole of the database
    MiPfnFree,
    MiPfnKernel, // image, loader's modules, this database
    MiPfnTable,  // a page table
    MiPfnPool,
    MiPfnMdl, // out by MmAllocatePagesForMdl
    MiPfnStateCount,
} MI_PFN_STATE;

typedef struct _MMPFN {
    union {
        struct { // free: neighbours in the list; table waiting for its flush: Flink is the next one
            ULONG Flink;
            ULONG Blink;
        };
        struct { // first frame of a pool block of whole pages
            ULONG PageCount;
            ULONG Tag;
        };
        struct { // pool page of small blocks: neighbours among the pages of its class that have
                 // room
            ULONG NextPartial;
            ULONG PreviousPartial;
        };
    };
    ULONG MapCount;        // mappings by those who have not locked it, beside the direct map and the
                           // pool's own
    ULONG LockCount;       // locked MDLs that list it
    USHORT FirstFreeBlock; // pool page of small blocks: byte offset, or MI_NO_BLOCK when full
    USHORT UsedBlockCount; // and how many blocks are out
    UCHAR State;           // MI_PFN_STATE
    UCHAR CacheType;       // MI_CACHE_TYPE
    UCHAR PoolClass;       // pool page: class of its blocks, or MI_POOL_CLASS_PAGES
    UCHAR Reserved;
} MMPFN, *PMMPFN;

C_ASSERT(sizeof(MMPFN) == 24);

#define MI_NO_PFN ((PFN_NUMBER)0) // frame 0 is never handed out

// Indexed by frame; read through MiPfnElement and MiPfnState.
extern PMMPFN MiPfnDatabase;
extern PFN_NUMBER MiPfnDatabaseEnd;

VOID MiInitializePfnDatabase(_In_ const LOADER_BLOCK *LoaderBlock);

// The database's entry of a frame of RAM, or NULL for any other frame.
static inline PMMPFN MiPfnElement(PFN_NUMBER Pfn)
{
    return Pfn < MiPfnDatabaseEnd && MiPfnDatabase[Pfn].State != MiPfnNotRam ? &MiPfnDatabase[Pfn]
                                                                             : NULL;
}

static inline MI_PFN_STATE MiPfnState(PFN_NUMBER Pfn)
{
    return Pfn < MiPfnDatabaseEnd ? (MI_PFN_STATE)MiPfnDatabase[Pfn].State : MiPfnNotRam;
}

ULONG64 MiPfnStateCountOf(_In_ MI_PFN_STATE State);
PFN_NUMBER MiHighestRamPfn(VOID);

// The frame in the direct map. Its owner may use it unless its alias is hidden.
static inline PVOID MiFrameToVa(PFN_NUMBER Pfn)
{
    return (PVOID)(MiArchLayout[MiRegionDirectMap].BaseVa + (Pfn << PAGE_SHIFT));
}

// A free frame, which becomes State; contents undefined. MI_NO_PFN: none left. IRQL <=
// DISPATCH_LEVEL.
_Must_inspect_result_ PFN_NUMBER MiAllocateFrame(_In_ MI_PFN_STATE State);

// The lowest run of PageCount adjacent free frames within Window whose first frame is a multiple of
// AlignmentPages. Returns the first, or MI_NO_PFN. A caller that wants many moves Window behind
// each.
_Must_inspect_result_ PFN_NUMBER MiAllocateFrameRun(_In_ PFN_NUMBER PageCount,
                                                    _In_ PFN_NUMBER AlignmentPages,
                                                    _In_ MI_PFN_RANGE Window,
                                                    _In_ MI_PFN_STATE State);

// Frees a frame. Bug checks 0x4E/0x9A when something still maps it; the second routine only checks.
VOID MiFreeFrame(_In_ PFN_NUMBER Pfn);
VOID MiCheckFrameUnmapped(_In_ PFN_NUMBER Pfn);

// The first frame of the free list, or MI_NO_PFN; its entry's Flink is the next. For MmVerify.
PFN_NUMBER MiFirstFreePfn(VOID);

//
// tlb.c: translations that must be forgotten, and tables that may be freed only then.
//

#define MI_TLB_BATCH_PAGES 32

typedef struct _MI_TLB_BATCH {
    ULONG PageCount;
    BOOLEAN FlushAll;      // more pages than fit, or tables among them
    PFN_NUMBER FirstTable; // linked through MMPFN.Flink
    ULONG_PTR Page[MI_TLB_BATCH_PAGES];
} MI_TLB_BATCH, *PMI_TLB_BATCH;

static inline VOID MiInitializeTlbBatch(PMI_TLB_BATCH Batch)
{
    Batch->PageCount = 0;
    Batch->FlushAll = FALSE;
    Batch->FirstTable = MI_NO_PFN;
}

// Adjacent pages of 4 KiB.
VOID MiAddPagesToBatch(_Inout_ PMI_TLB_BATCH Batch, _In_ ULONG_PTR Va, _In_ PFN_NUMBER PageCount);
VOID MiAddPageToBatch(_Inout_ PMI_TLB_BATCH Batch, _In_ ULONG_PTR Va);
VOID MiAddTableToBatch(_Inout_ PMI_TLB_BATCH Batch, _In_ PFN_NUMBER TablePfn);
VOID MiFlushTlbBatch(_Inout_ PMI_TLB_BATCH Batch);

//
// ptmgr.c: the page-table manager.
//

extern PFN_NUMBER MiRootPfn;

// Makes every table that maps [Va, Va + PageCount) exist, so that the matching MiCommit... cannot
// fail. The leaves will be the largest that the alignment of Va and FirstPfn allows. On failure
// every address translates as before; spare tables may remain and are reused.
_Must_inspect_result_ NTSTATUS MiPrepareRange(_In_ ULONG_PTR Va, _In_ PFN_NUMBER FirstPfn,
                                              _In_ PFN_NUMBER PageCount);

// The same for leaves of 4 KiB.
_Must_inspect_result_ NTSTATUS MiPreparePages(_In_ ULONG_PTR Va, _In_ PFN_NUMBER PageCount);

// Maps what MiPrepareRange prepared with the same arguments. Cannot fail.
VOID MiCommitRange(_In_ ULONG_PTR Va, _In_ PFN_NUMBER FirstPfn, _In_ PFN_NUMBER PageCount,
                   _In_ MI_PROTECTION Protection);

// Maps the frames of Pfns side by side, all with one protection, where MiPreparePages prepared.
// Cannot fail. KnownPte as for MiFindPages.
VOID MiCommitPages(_In_opt_ PMMPTE KnownPte, _In_ ULONG_PTR Va,
                   _In_reads_(PageCount) const PFN_NUMBER *Pfns, _In_ PFN_NUMBER PageCount,
                   _In_ MI_PROTECTION Protection);

// Unmaps whole leaves. The caller flushes Batch before the frames or the addresses are used again.
VOID MiClearRange(_In_ ULONG_PTR Va, _In_ PFN_NUMBER PageCount, _Inout_ PMI_TLB_BATCH Batch);

// The entries of the 4 KiB leaves from Va on, as many of PageCount as lie in one table. The tables
// exist. KnownPte is the entry of Va where the caller has it, which saves the walk; else NULL.
PMMPTE MiFindPages(_In_opt_ PMMPTE KnownPte, _In_ ULONG_PTR Va, _In_ PFN_NUMBER PageCount,
                   _Out_ PULONG EntryCount);

// Splits leaves until [Va, Va + PageCount) consists of 4 KiB leaves. Every address translates as
// before, also on failure.
_Must_inspect_result_ NTSTATUS MiSplitRange(_In_ ULONG_PTR Va, _In_ PFN_NUMBER PageCount);

// The entry that decides about Va: a leaf, or the empty one that ends the walk; and its level. Any
// IRQL.
PMMPTE MiFindPte(_In_ ULONG_PTR Va, _Out_ PULONG Level);

// The frame that Va translates to. FALSE: none. Any IRQL.
BOOLEAN MiTranslate(_In_ ULONG_PTR Va, _Out_ PFN_NUMBER *Pfn);

ULONG64 MiPagesPerLeaf(_In_ ULONG Level);

// Where the self-map shows the entry of the 4 KiB page of Va.
ULONG_PTR MiPteAddress(_In_ ULONG_PTR Va);

// Calls Routine for every leaf of the address space, ascending, until it returns FALSE.
typedef BOOLEAN MI_LEAF_ROUTINE(_In_ ULONG_PTR Va, _In_ ULONG Level, _In_ MMPTE Leaf,
                                _In_opt_ PVOID Context);
VOID MiWalkLeaves(_In_ MI_LEAF_ROUTINE *Routine, _In_opt_ PVOID Context);

// Builds the kernel's address space and moves this processor into it.
VOID MiInitializeAddressSpace(VOID);

//
// sysva.c: system addresses.
//

VOID MiInitializeSystemVa(VOID);

// Finds room in Region for PageCount pages and guards around them: one page behind, and
// LeadingGuardPages in front. In the region of large mappings the address is aligned as FirstPfn
// is, so that the largest leaves fit. 0: no room. Nothing is mapped there.
_Must_inspect_result_ ULONG_PTR MiReserveSystemVa(_In_ MI_REGION Region, _In_ PFN_NUMBER PageCount,
                                                  _In_ PFN_NUMBER FirstPfn,
                                                  _In_ PFN_NUMBER LeadingGuardPages);

// The reverse, after the range was unmapped and flushed.
VOID MiReleaseSystemVa(_In_ MI_REGION Region, _In_ ULONG_PTR Va, _In_ PFN_NUMBER PageCount,
                       _In_ PFN_NUMBER LeadingGuardPages);

// Pages of a region's addresses in use, guards included, and in all.
VOID MiQuerySystemVa(_In_ MI_REGION Region, _Out_ ULONG64 *UsedPageCount,
                     _Out_ ULONG64 *TotalPageCount);

// Whether all addresses of [Va, Va + PageCount) are taken.
BOOLEAN MiIsSystemVaReserved(_In_ MI_REGION Region, _In_ ULONG_PTR Va, _In_ PFN_NUMBER PageCount);

//
// mapping.c: who uses which system addresses.
//

typedef enum _MI_MAPPING_KIND {
    MiMappingIo,       // MmMapIoSpace(Ex)
    MiMappingMdl,      // MmMapLockedPagesSpecifyCache
    MiMappingReserved, // MmAllocateMappingAddress
} MI_MAPPING_KIND;

// One use of system addresses.
typedef struct _MI_MAPPING {
    struct _MI_MAPPING *NextInBucket;
    ULONG_PTR Va; // page aligned; guards lie outside
    PFN_NUMBER PageCount;
    MI_MAPPING_KIND Kind;
    MI_REGION Region;
    PFN_NUMBER LeadingGuardPages;
    PVOID Caller; // who called the exported routine
    MI_PROTECTION Protection;
    union {
        struct {
            PFN_NUMBER FirstPfn;
            BOOLEAN IsRam; // locked RAM, page by page; else I/O space with a hold in the ledger
        } Io;
        struct {
            PMDL Mdl;
            PVOID StartVa; // as they were when it was mapped
            PFN_NUMBER FirstPfn;
        } Locked;
        struct {
            ULONG Tag;
            PMDL Mdl; // NULL: nothing is mapped into the reservation
            PFN_NUMBER MappedPageCount;
            PMMPTE FirstPte; // of the first page: its table lives as long as the reservation
        } Reserved;
    };
} MI_MAPPING, *PMI_MAPPING;

// A record for a mapping; NULL: no pool. The caller owns it until MiInsertMapping.
_Must_inspect_result_ PMI_MAPPING MiAllocateMapping(_In_ MI_MAPPING_KIND Kind, _In_ PVOID Caller);
VOID MiFreeMapping(_In_ PMI_MAPPING Mapping);

VOID MiInsertMapping(_In_ PMI_MAPPING Mapping);
VOID MiRemoveMapping(_In_ PMI_MAPPING Mapping);

// The mapping that begins at the page of Va, or NULL.
PMI_MAPPING MiFindMapping(_In_ const VOID *Va);

// The mapping that covers Va, wherever it begins, or NULL. Searches all: for the diagnosis of
// misuse.
PMI_MAPPING MiFindMappingAround(_In_ const VOID *Va);

typedef VOID MI_MAPPING_ROUTINE(_In_ PMI_MAPPING Mapping, _In_opt_ PVOID Context);
VOID MiEnumerateMappings(_In_ MI_MAPPING_ROUTINE *Routine, _In_opt_ PVOID Context);
ULONG64 MiMappingCount(VOID);

// Whether a live mapping shows an I/O frame of Range.
BOOLEAN MiIsIoRangeMapped(_In_ MI_PFN_RANGE Range);

//
// verifier.c: what is checked at level 1 only.
//

static inline BOOLEAN MiIsVerifying(VOID)
{
    return MmVerifierLevel != 0;
}

//
// alias.c: the direct map's view of a frame, which must go while the frame is mapped with another
// cache type.
//

// Splits the direct map around the frames, so that MiHideAlias cannot fail.
_Must_inspect_result_ NTSTATUS MiPrepareAlias(_In_ PFN_NUMBER FirstPfn, _In_ PFN_NUMBER PageCount);
VOID MiHideAlias(_In_ PFN_NUMBER Pfn);
VOID MiShowAlias(_In_ PFN_NUMBER Pfn);

// The cache type of a locked frame of RAM, which only a frame of an MDL may lack.
static inline MI_CACHE_TYPE MiRamCacheType(const MMPFN *Element)
{
    return Element->State == MiPfnMdl ? (MI_CACHE_TYPE)Element->CacheType : MiCacheWriteBack;
}

// The same; a frame that lacks one gets Requested. Cannot fail, and allocates nothing.
MI_CACHE_TYPE MiDecideRamCacheType(_In_ PFN_NUMBER Pfn, _In_ MI_CACHE_TYPE Requested);
VOID MiForgetRamCacheType(_In_ PFN_NUMBER Pfn);

// Whether the frame's contents stay where they are until its owner frees it, so that drivers may
// map it.
BOOLEAN MiIsLockedFrame(_In_ PFN_NUMBER Pfn, _Out_ MI_REASON *Reason);

//
// pool.c: the nonpaged pool.
//

#define MI_POOL_CLASS_PAGES 0xFF
#define MI_NO_BLOCK 0xFFFF

// As ExAllocatePool2 with POOL_FLAG_NON_PAGED: zeroed. NULL: none left.
_Must_inspect_result_ PVOID MiAllocatePool(_In_ SIZE_T ByteCount, _In_ ULONG Tag);
VOID MiFreePool(_In_ PVOID Block);
ULONG64 MiPoolBlockCount(VOID);

// Pages that hold no block and are kept for the next one.
ULONG64 MiSparePoolPageCount(VOID);

//
// ledger.c: the cache type of I/O frames.
//

// Holds Range. With a cache type, that is the type of all its frames: STATUS_CONFLICTING_ADDRESSES
// when one of them has another. With MiCacheUndecided each frame keeps the type that it has, and is
// open when it has none. Caller is remembered as the owner.
_Must_inspect_result_ NTSTATUS MiAcquireCacheRange(_In_ MI_PFN_RANGE Range,
                                                   _In_ MI_CACHE_TYPE CacheType, _In_ PVOID Caller);
VOID MiReleaseCacheRange(_In_ MI_PFN_RANGE Range);

// Whether somebody holds a range with this I/O frame.
BOOLEAN MiIsFrameHeld(_In_ PFN_NUMBER Pfn);

// The cache type of a held I/O frame: the one it has, or, decided now, Requested. Cannot fail, and
// allocates nothing.
MI_CACHE_TYPE MiDecideIoCacheType(_In_ PFN_NUMBER Pfn, _In_ MI_CACHE_TYPE Requested);

// The code that first held frames of Range with a type other than Except, or NULL.
PVOID MiFindCacheOwner(_In_ MI_PFN_RANGE Range, _In_ MI_CACHE_TYPE Except);
ULONG64 MiLedgerEntryCount(VOID);

//
// claim.c: see mm.h.
//

// The name of who claimed frames of Range, copied to Name, or FALSE.
BOOLEAN MiDescribeClaim(_In_ MI_PFN_RANGE Range, _Out_ PCHAR Name, _In_ SIZE_T ByteCount);
ULONG64 MiClaimCount(VOID);

//
// mdl.c: MDLs and the frames that they describe.
//

// Pages that the MDL spans.
static inline PFN_NUMBER MiMdlPageCount(const MDL *Mdl)
{
    return ((ULONG64)Mdl->ByteOffset + Mdl->ByteCount + PAGE_SIZE - 1) >> PAGE_SHIFT;
}

// Every frame of the MDL must be locked RAM or device memory. Bug checks 0x1A/0x1236 otherwise.
// Returns TRUE when all of them are RAM.
BOOLEAN MiCheckMdlFrames(_In_ PMDL Mdl);

// The pages that the leading run of adjacent I/O frames, or of adjacent frames of RAM, takes up.
PFN_NUMBER MiFrameRun(_In_reads_(PageCount) const PFN_NUMBER *Pfns, _In_ PFN_NUMBER PageCount,
                      _Out_ PBOOLEAN IsRam);

#define MI_UNMAPPABLE_FLAGS                                                                        \
    (MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL | MDL_PARTIAL_HAS_BEEN_MAPPED)

// Whether the MDL's state allows a mapping: locked (or part of a locked one), not empty, not mapped.
static inline BOOLEAN MiIsMdlMappable(const MDL *Mdl)
{
    return (Mdl->MdlFlags & (MDL_PAGES_LOCKED | MDL_PARTIAL)) != 0 &&
           (Mdl->MdlFlags & MI_UNMAPPABLE_FLAGS) == 0 && Mdl->ByteCount != 0;
}

// The seal of an MDL says that its frames are locked on its own account: by MmProbeAndLockPages or
// MmAllocatePagesForMdl(Ex), until they are unlocked or freed, which unmaps the MDL first. So its
// mappings need not be counted in the frames. It is tied to the address, so that a copy of an MDL
// has none. An MDL without it (a partial one, or one that a driver filled by hand) borrows: each
// mapping of it counts in MMPFN.MapCount, and a frame with borrowers may not be freed.
#define MI_MDL_SEAL 0x5EA1ED00u

static inline ULONG MiSealOf(const MDL *Mdl)
{
    return MI_MDL_SEAL ^ (ULONG)((ULONG_PTR)Mdl >> 3);
}

static inline VOID MiSealMdl(PMDL Mdl)
{
    Mdl->Reserved = MiSealOf(Mdl);
}

static inline VOID MiBreakSeal(PMDL Mdl)
{
    Mdl->Reserved = 0;
}

static inline BOOLEAN MiIsMdlSealed(const MDL *Mdl)
{
    return Mdl->Reserved == MiSealOf(Mdl);
}

// What a mapping leaves in the MDL, and what an unmap takes away again.
VOID MiSetMdlMapped(_Inout_ PMDL Mdl, _In_ ULONG_PTR SystemVa);
static inline VOID MiSetMdlUnmapped(PMDL Mdl)
{
    Mdl->MdlFlags &= ~(MDL_MAPPED_TO_SYSTEM_VA | MDL_PARTIAL_HAS_BEEN_MAPPED);
}

// Takes a hold without a type in the ledger for every run of adjacent I/O frames; RAM needs none.
// All or nothing. STATUS_INSUFFICIENT_RESOURCES: no pool.
_Must_inspect_result_ NTSTATUS MiHoldIoFrames(_In_reads_(PageCount) const PFN_NUMBER *Pfns,
                                              _In_ PFN_NUMBER PageCount, _In_ PVOID Caller);
VOID MiReleaseIoFrames(_In_reads_(PageCount) const PFN_NUMBER *Pfns, _In_ PFN_NUMBER PageCount);
ULONG64 MiIoRunsHeldByMdls(VOID);

//
// mdlmap.c: MDLs in system addresses.
//

// Maps frames at prepared addresses, and counts the mapping in them. Each gets the cache type that it
// has; one that has none, Requested's. I/O frames must be held. Cannot fail, and allocates nothing.
VOID MiCommitFrames(_In_opt_ PMMPTE KnownPte, _In_ ULONG_PTR Va,
                    _In_reads_(PageCount) const PFN_NUMBER *Pfns, _In_ PFN_NUMBER PageCount,
                    _In_ MI_PROTECTION Requested);

// The reverse: clears, flushes, and counts the frames back as the page tables name them.
VOID MiUncommitFrames(_In_opt_ PMMPTE KnownPte, _In_ ULONG_PTR Va, _In_ PFN_NUMBER PageCount);

// Whether the MDL itself has a mapping, not one inherited from another MDL.
BOOLEAN MiHasOwnMapping(_In_ PMDL Mdl);

// Unmaps what the MDL itself has mapped, whichever routine mapped it; nothing when that is nothing.
VOID MiUnmapMdl(_In_ PMDL Mdl);

//
// reserve.c
//

// Takes the MDL out of a reservation, without any check.
VOID MiUnmapReservation(_In_ PMI_MAPPING Mapping);

//
// For verify.c: what each file can say of its own invariants.
//

BOOLEAN MiIsZoneConsistent(_In_ MI_REGION Region);
BOOLEAN MiIsLedgerConsistent(_Out_ ULONG64 *HolderCount);
BOOLEAN MiAreClaimsConsistent(VOID);
BOOLEAN MiIsPoolConsistent(VOID);

// Stops the machine with a documented code and a sentence.
#define MiBugCheck KiBugCheckSaying
