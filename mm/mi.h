// What mm's files tell each other. Prototypes stand in the order of the steps in mm/README.md: a
// file uses what is above its own group, never what is below.
//
// Locks, in the order in which they may be taken; each is a spin lock at DISPATCH_LEVEL, held for a few
// stores or one search, but for MiShootdownLock, which is held until all processors have forgotten, and what
// is held around it:
//   MiClaimLock 1 < MiLedgerLock 2 < MiMappingLock 3 < MiSystemVaLock 4 < MiPageTableLock 5 <
//   MiPfnLock 6 < MiFrameCacheLock 7 < MiPoolLock 8 < MiTrackLock 9 < MiBlockLock 10 < MiImageLock 11 <
//   MiShootdownLock 12
// MiCacheLock, which each processor's cache of slots has, is of rank 3, too: no two of these are held at a
// time. MiCacheLock, MiFrameCacheLock and MiPoolLock are brief locks (kernel/inc/ke.h): with interrupts off,
// and no other lock behind them.
// Allocate first, lock second: the only allocator that is called under a lock is that of frames
// (ranks 6 and 7).
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
#define MI_RANK_FRAME_CACHE 7
#define MI_RANK_POOL 8
#define MI_RANK_TRACK 9
#define MI_RANK_BLOCK 10
#define MI_RANK_IMAGE 11
#define MI_RANK_SHOOTDOWN 12

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

// Pages that the bytes lie in. Not ADDRESS_AND_SIZE_TO_SPAN_PAGES, which cuts the count to 32 bits: a
// wrong size might pass for a right one.
static inline PFN_NUMBER MiPagesSpanned(ULONG_PTR Base, SIZE_T NumberOfBytes)
{
    return (NumberOfBytes >> PAGE_SHIFT) +
           ((BYTE_OFFSET(Base) + BYTE_OFFSET(NumberOfBytes) + PAGE_SIZE - 1) >> PAGE_SHIFT);
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
    MiReasonWindow,          // no address can satisfy the limits
    MiReasonNode,            // another node or partition than the one there is
    MiReasonIrql,            // not at this IRQL
    MiReasonAccess,          // an address that is not mapped, or not for this access
    MiReasonMdlInUse,        // the MDL describes something already
    MiReasonNoCrash,         // only while the machine is in a bug check
    MiReasonResources,       // no pool, frames or system addresses left
    MiReasonCount,
} MI_REASON;

#define MI_OWNER_CHARS 160

// Records a refusal: Routine is __func__ of the exported routine, Range the frames in question (0,
// 0 when none), Owner who holds what was asked for, or NULL. Any IRQL.
VOID MiRefuse(_In_ const CHAR *Routine, _In_ MI_REASON Reason, _In_ MI_PFN_RANGE Range,
              _In_opt_ const CHAR *Owner);
VOID MiRefusePlain(_In_ const CHAR *Routine, _In_ MI_REASON Reason);

//
// failure.c: allocations that fail on purpose.
//

// MM_FAIL_*: one variable to look at on the way of every allocation.
extern ULONG MiKindsThatMayFail;

// Whether any allocation may be made to fail now, so that a way out must not be taken.
static inline BOOLEAN MiIsFailingOnPurpose(VOID)
{
    return MiKindsThatMayFail != 0;
}

// TRUE when this allocation must fail. Kind is one of MM_FAIL_*.
BOOLEAN MiDecideFailure(_In_ ULONG Kind);
static inline BOOLEAN MiMustFail(ULONG Kind)
{
    return (MiKindsThatMayFail & Kind) != 0 && MiDecideFailure(Kind);
}

//
// protect.c: what a caller writes, as what mm works with.
//

#define MI_BASE_PROTECTION_BITS 9
#define MI_CACHE_MODIFIER_SHIFT 9
#define MI_CACHE_MODIFIERS (PAGE_NOCACHE | PAGE_WRITECOMBINE)
#define MI_CACHING_TYPE_MASK 0xFF

extern const UCHAR MiAccessOfBit[];
extern const UCHAR MiCacheTypeOfModifiers[];
extern const UCHAR MiCachingTypes[];
extern const MEMORY_CACHING_TYPE MiCachingTypeOf[];

// FALSE: Protect is not one base protection with at most one cache modifier.
_Must_inspect_result_ static inline BOOLEAN MiDecodePageProtection(ULONG Protect,
                                                                   MI_PROTECTION *Protection)
{
    const ULONG Base = Protect & ~MI_CACHE_MODIFIERS;
    if (Base == 0 || (Base & (Base - 1)) != 0 || Base >= 1u << MI_BASE_PROTECTION_BITS) {
        return FALSE;
    }
    Protection->Access = (MI_ACCESS)MiAccessOfBit[__builtin_ctz(Base)];
    Protection->CacheType = (MI_CACHE_TYPE)
        MiCacheTypeOfModifiers[(Protect & MI_CACHE_MODIFIERS) >> MI_CACHE_MODIFIER_SHIFT];
    return Protection->Access != MiAccessCount && Protection->CacheType != MiCacheTypeCount;
}

// FALSE: no such type. Only the low byte counts, as ever since callers passed BOOLEANs.
_Must_inspect_result_ static inline BOOLEAN MiDecodeCachingType(MEMORY_CACHING_TYPE CachingType,
                                                                MI_CACHE_TYPE *CacheType)
{
    const ULONG Index = (ULONG)CachingType & MI_CACHING_TYPE_MASK;
    if (Index >= MmMaximumCacheType) {
        return FALSE;
    }
    *CacheType = (MI_CACHE_TYPE)MiCachingTypes[Index];
    return TRUE;
}

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

// Whether drivers may map all of Range as device memory. FALSE: *Reason says why not. Most requests
// lie in the same range as the one before, so that is looked at first.
extern MI_PFN_RANGE MiMappableRanges[];
extern ULONG MiLastMappableRange;
BOOLEAN MiFindMappableRange(_In_ MI_PFN_RANGE Range, _Out_ MI_REASON *Reason);

static inline BOOLEAN MiIsInLastMappableRange(MI_PFN_RANGE Range)
{
    const MI_PFN_RANGE *Last = &MiMappableRanges[MiLastMappableRange];
    return Range.FirstPfn >= Last->FirstPfn && Range.LastPfn <= Last->LastPfn;
}

_Must_inspect_result_ static inline BOOLEAN MiIsIoSpace(MI_PFN_RANGE Range, MI_REASON *Reason)
{
    return MiIsInLastMappableRange(Range) || MiFindMappableRange(Range, Reason);
}

//
// pfn.c: the frames of RAM.
//

// The numbers are parameter 3 of bug check 0x4E/0x9A: new ones come last.
typedef enum _MI_PFN_STATE {
    MiPfnNotRam, // a hole of the database
    MiPfnFree,
    MiPfnKernel, // image, loader's modules, this database
    MiPfnTable,  // a page table
    MiPfnPool,
    MiPfnMdl,        // out by MmAllocatePagesForMdl
    MiPfnLedger,     // a node of the ledger
    MiPfnRecord,     // records of mappings
    MiPfnDriver,     // out as contiguous or non-cached memory
    MiPfnImage,      // of a driver's image
    MiPfnQuarantine, // nobody's, for ever: a device may still write to it (quarantine.c)
    MiPfnCached,     // free, in a processor's cache: see MiIsFree
    MiPfnStateCount,
} MI_PFN_STATE;

typedef enum _MI_POOL_KIND {
    MiPoolNonPaged,
    MiPoolPaged, // never paged out, but with the IRQL rules of paged pool
    MiPoolExecutable,
    MiPoolKindCount,
} MI_POOL_KIND;

typedef struct _MMPFN {
    union {
        struct { // free: neighbours in the list; of a chain: Flink is the next one; of an image:
                 // Flink is the page
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
    ULONG MapCount;  // mappings by those who have not locked it, beside the direct map and the
                     // pool's own
    ULONG LockCount; // locked MDLs that list it
    USHORT FirstFreeBlock; // pool page of small blocks: byte offset, or MI_NO_BLOCK when full
    USHORT
    UsedBlockCount;  // and how many blocks are out; MI_QUARANTINED on any frame that is in use
    UCHAR State;     // MI_PFN_STATE
    UCHAR CacheType; // MI_CACHE_TYPE, or MI_CACHE_NONE
    UCHAR PoolClass; // pool page: class of its blocks, or MI_POOL_CLASS_PAGES or _SPECIAL
    UCHAR PoolKind;  // pool page: MI_POOL_KIND
} MMPFN, *PMMPFN;

C_ASSERT(sizeof(MMPFN) == 24);

#define MI_CACHE_NONE (MiCacheUndecided + 1) // a frame that nobody may map

#define MI_QUARANTINED 0x8000 // not to be used again, once it is freed (quarantine.c)

#define MI_NO_PFN ((PFN_NUMBER)0)  // frame 0 is never handed out
#define MI_POISONED_PFN MAXULONG64 // what stands in an MDL whose frames were given up

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

static inline BOOLEAN MiIsQuarantined(const MMPFN *Element)
{
    return (Element->UsedBlockCount & MI_QUARANTINED) != 0;
}

static inline MI_PFN_STATE MiPfnState(PFN_NUMBER Pfn)
{
    return Pfn < MiPfnDatabaseEnd ? (MI_PFN_STATE)MiPfnDatabase[Pfn].State : MiPfnNotRam;
}

static inline BOOLEAN MiIsFree(MI_PFN_STATE State)
{
    return State == MiPfnFree || State == MiPfnCached;
}

// How many frames are in a state, and how many are free. They are added processor by processor: while
// others allocate and free, a few may be missing, or counted twice.
ULONG64 MiPfnStateCountOf(_In_ MI_PFN_STATE State);
ULONG64 MiFreePageCount(VOID);
PFN_NUMBER MiHighestRamPfn(VOID);

// The frame in the direct map. Its owner may use it unless its alias is hidden.
static inline PVOID MiFrameToVa(PFN_NUMBER Pfn)
{
    return (PVOID)(MiArchLayout[MiRegionDirectMap].BaseVa + (Pfn << PAGE_SHIFT));
}

// The frame of a direct-map address.
static inline PFN_NUMBER MiVaToFrame(const VOID *Va)
{
    return ((ULONG_PTR)Va - MiArchLayout[MiRegionDirectMap].BaseVa) >> PAGE_SHIFT;
}

#define MI_CACHED_FRAMES 32 // in a processor's cache: then it is full
#define MI_FRAME_BATCH 16   // that go between a cache and the list at a time

// A free frame, which becomes State; contents undefined. MI_NO_PFN: none left. IRQL <=
// DISPATCH_LEVEL.
_Must_inspect_result_ PFN_NUMBER MiAllocateFrame(_In_ MI_PFN_STATE State);

// The same for one of more than a few: from the list, where neighbours stand side by side.
_Must_inspect_result_ PFN_NUMBER MiAllocateFrameOfMany(_In_ MI_PFN_STATE State);

// The lowest run of PageCount adjacent free frames within Window whose first frame is a multiple of
// AlignmentPages. Returns the first, or MI_NO_PFN. A caller that wants many moves Window behind
// each.
_Must_inspect_result_ PFN_NUMBER MiAllocateFrameRun(_In_ PFN_NUMBER PageCount,
                                                    _In_ PFN_NUMBER AlignmentPages,
                                                    _In_ MI_PFN_RANGE Window,
                                                    _In_ MI_PFN_STATE State);

// The same for a run that crosses no multiple of BoundaryPages, a power of two not below PageCount; 0:
// it may. Below 16 MiB only when there is none above.
_Must_inspect_result_ PFN_NUMBER MiAllocateBoundedFrameRun(_In_ PFN_NUMBER PageCount,
                                                           _In_ PFN_NUMBER BoundaryPages,
                                                           _In_ MI_PFN_RANGE Window,
                                                           _In_ MI_PFN_STATE State);

// Frees a frame. Bug checks 0x4E/0x9A when something still maps it; the second routine only checks.
VOID MiFreeFrame(_In_ PFN_NUMBER Pfn);
VOID MiCheckFrameUnmapped(_In_ PFN_NUMBER Pfn);

// PageCount free frames, adjacent or not, linked through Flink; each becomes State. MI_NO_PFN: there are
// not as many, and none was taken.
_Must_inspect_result_ PFN_NUMBER MiAllocateFrameChain(_In_ MI_PFN_STATE State,
                                                      _In_ PFN_NUMBER PageCount);

// Frees a chain; MI_NO_PFN is an empty one.
VOID MiFreeFrameChain(_In_ PFN_NUMBER FirstPfn);

static inline PFN_NUMBER MiNextInChain(PFN_NUMBER Pfn)
{
    return MiPfnElement(Pfn)->Flink;
}

// The first frame of the free list, or of a processor's cache, or MI_NO_PFN; its entry's Flink is the next.
// For MmVerify.
PFN_NUMBER MiFirstFreePfn(VOID);
PFN_NUMBER MiFirstCachedPfn(_In_ ULONG Processor);

// Puts what the processors keep of free frames back into the list.
VOID MiTrimFrames(VOID);

// From now on RAM above 4 GiB is handed out first: the kernel's own tables are loaded.
VOID MiReleaseHighMemory(VOID);

//
// tlb.c: translations that must be forgotten, and tables that may be freed only then.
//

// More than these are not forgotten one by one, but with everything else. An INVLPG takes some hundred
// cycles; forgetting everything takes a few of them, and then the translations in use are walked for
// again, about thirty cycles each while the tables are cached. Where the border lies in QEMU: docs/performance.md.
#define MI_TLB_BATCH_PAGES 15

typedef struct _MI_TLB_BATCH {
    ULONG PageCount;
    BOOLEAN FlushAll;      // more pages than fit, or tables among them, or whatever waits
    PFN_NUMBER FirstTable; // linked through MMPFN.Flink
    ULONG_PTR Page[MI_TLB_BATCH_PAGES];
} MI_TLB_BATCH, *PMI_TLB_BATCH;

static inline VOID MiInitializeTlbBatch(PMI_TLB_BATCH Batch)
{
    Batch->PageCount = 0;
    Batch->FlushAll = FALSE;
    Batch->FirstTable = MI_NO_PFN;
}

VOID MiAddPageToBatch(_Inout_ PMI_TLB_BATCH Batch, _In_ ULONG_PTR Va);
VOID MiAddLeavesToBatch(_Inout_ PMI_TLB_BATCH Batch, _In_ ULONG_PTR Va, _In_ PFN_NUMBER LeafCount,
                        _In_ PFN_NUMBER LeafPages);
VOID MiAddTableToBatch(_Inout_ PMI_TLB_BATCH Batch, _In_ PFN_NUMBER TablePfn);
VOID MiFlushTlbBatch(_Inout_ PMI_TLB_BATCH Batch);

// Whether leaves that were taken away must be forgotten: one that no processor has used is remembered
// by none. At level 1 nobody relies on that.
static inline BOOLEAN MiMustForget(BOOLEAN WasUsed)
{
    return WasUsed || MmVerifierLevel != 0;
}

// Of more pages than these nobody asks whether they were used. To ask takes an exchange, some twenty
// cycles more than a store; so 256 cost as much as it costs to interrupt another processor.
#define MI_ASKED_PAGES 256

// Takes adjacent leaves away, all in one table. Returns whether they must be forgotten.
static inline BOOLEAN MiTakeLeaves(PMMPTE Pte, ULONG Count)
{
    if (Count > MI_ASKED_PAGES) {
        MiArchClearPages(Pte, Count);
        return TRUE;
    }
    return MiMustForget(MiArchTakePages(Pte, Count));
}

// Forgets adjacent translations without a batch: of 4 KiB, or of LeafPages pages each.
VOID MiFlushPages(_In_ ULONG_PTR Va, _In_ PFN_NUMBER PageCount);
VOID MiFlushLeaves(_In_ ULONG_PTR Va, _In_ PFN_NUMBER LeafCount, _In_ PFN_NUMBER LeafPages);

// This processor forgets pages at once, the others later. Returns a stamp: the addresses may be used
// again when MiIsForgotten of it. 0: they may be at once.
ULONG64 MiFlushPagesLater(_In_ ULONG_PTR Va, _In_ PFN_NUMBER PageCount);

extern ULONG64 MiTlbEpoch;   // grows before everything is forgotten everywhere
extern ULONG64 MiCleanEpoch; // what has a smaller stamp is forgotten everywhere
extern ULONG64 MiWokenEpoch; // the same, and no processor sleeps that has not forgotten it
extern ULONG64 MiLastStamp;  // the largest stamp so far

static inline BOOLEAN MiIsForgotten(ULONG64 Stamp)
{
    return Stamp < __atomic_load_n(&MiCleanEpoch, __ATOMIC_ACQUIRE);
}

// Whether any processor, be it asleep, may remember what is not in the tables any more.
static inline BOOLEAN MiIsAnythingRemembered(VOID)
{
    return __atomic_load_n(&MiLastStamp, __ATOMIC_ACQUIRE) >=
           __atomic_load_n(&MiWokenEpoch, __ATOMIC_ACQUIRE);
}

// All processors forget everything, those that sleep included.
VOID MiForgetEverything(_In_ MM_SHOOTDOWN_REASON Reason);

// The same, if what has this stamp is not forgotten yet; who sleeps does so when he wakes up.
VOID MiForgetStamped(_In_ ULONG64 Stamp, _In_ MM_SHOOTDOWN_REASON Reason);

// All processors forget these pages of a reservation, if what has this stamp is not forgotten yet.
VOID MiForgetFewPages(_In_ ULONG_PTR Va, _In_ PFN_NUMBER PageCount, _In_ ULONG64 Stamp);

// For who gives a frame another cache type than it may be remembered with.
static inline VOID MiForgetTypes(VOID)
{
    if (MiIsAnythingRemembered()) {
        MiForgetEverything(MmShootdownCacheType);
    }
}

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

// Maps what MiPrepareRange prepared with the same arguments. Cannot fail. KnownPte is the entry of the
// first leaf where the caller has it, which saves a walk; else NULL.
VOID MiCommitRange(_In_opt_ PMMPTE KnownPte, _In_ ULONG_PTR Va, _In_ PFN_NUMBER FirstPfn,
                   _In_ PFN_NUMBER PageCount, _In_ MI_PROTECTION Protection);

// Unmaps it again, given the same range, and forgets its translations.
VOID MiUncommitRange(_In_opt_ PMMPTE KnownPte, _In_ ULONG_PTR Va, _In_ PFN_NUMBER FirstPfn,
                     _In_ PFN_NUMBER PageCount);

// Maps the frames of Pfns side by side, all with one protection, where MiPreparePages prepared.
// Cannot fail.
VOID MiCommitPages(_In_ ULONG_PTR Va, _In_reads_(PageCount) const PFN_NUMBER *Pfns,
                   _In_ PFN_NUMBER PageCount, _In_ MI_PROTECTION Protection);

// Takes away pages of 4 KiB, the first entry of which is given. TRUE: they must be forgotten.
_Must_inspect_result_ BOOLEAN MiTakePages(_In_ PMMPTE FirstPte, _In_ ULONG_PTR Va,
                                          _In_ PFN_NUMBER PageCount);

// Takes them away, and forgets them everywhere.
VOID MiClearPages(_In_ PMMPTE FirstPte, _In_ ULONG_PTR Va, _In_ PFN_NUMBER PageCount);

// Unmaps whole leaves. The caller flushes Batch before the frames or the addresses are used again.
VOID MiClearRange(_In_ ULONG_PTR Va, _In_ PFN_NUMBER PageCount, _Inout_ PMI_TLB_BATCH Batch);

// How the range is mapped when all of its leaves are alike and in one table. FALSE: they are not.
BOOLEAN MiIsOneRun(_In_ ULONG_PTR Va, _In_ PFN_NUMBER FirstPfn, _In_ PFN_NUMBER PageCount,
                   _Out_ PULONG Level, _Out_ PULONG LeafCount);

// The same for leaves of 4 KiB only, where MiPreparePages prepared.
VOID MiCommitSmallRange(_In_opt_ PMMPTE KnownPte, _In_ ULONG_PTR Va, _In_ PFN_NUMBER FirstPfn,
                        _In_ PFN_NUMBER PageCount, _In_ MI_PROTECTION Protection);

// The entry of the 4 KiB leaf of Va, whose table exists.
PMMPTE MiFindFirstPage(_In_ ULONG_PTR Va);

// The entries of the 4 KiB leaves from Va on, as many of PageCount as lie in one table. The tables
// exist. KnownPte is the entry of Va where the caller has it, which saves the walk; else NULL.
static inline PMMPTE MiFindPages(PMMPTE KnownPte, ULONG_PTR Va, PFN_NUMBER PageCount,
                                 PULONG EntryCount)
{
    const ULONG Room = MI_PTES_PER_TABLE - ((ULONG)(Va >> PAGE_SHIFT) & (MI_PTES_PER_TABLE - 1));
    *EntryCount = PageCount < Room ? (ULONG)PageCount : Room;
    return KnownPte != NULL ? KnownPte : MiFindFirstPage(Va);
}

// Splits leaves until [Va, Va + PageCount) consists of 4 KiB leaves. Every address translates as
// before, also on failure.
_Must_inspect_result_ NTSTATUS MiSplitRange(_In_ ULONG_PTR Va, _In_ PFN_NUMBER PageCount);

// The entry that decides about Va: a leaf, or the empty one that ends the walk; and its level. Any
// IRQL.
PMMPTE MiFindPte(_In_ ULONG_PTR Va, _Out_ PULONG Level);

// The frame of a page that is mapped, also where MmProtectMdlSystemAddress has made it inaccessible.
// FALSE: none.
BOOLEAN MiFindMappedFrame(_In_ ULONG_PTR Va, _Out_ PFN_NUMBER *Pfn);

// The frame that Va translates to; and with which protection. FALSE: none. Any IRQL.
BOOLEAN MiTranslate(_In_ ULONG_PTR Va, _Out_ PFN_NUMBER *Pfn);
BOOLEAN MiTranslateWithProtection(_In_ ULONG_PTR Va, _Out_ PFN_NUMBER *Pfn,
                                  _Out_ PMI_PROTECTION Protection);

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

// The same in the region of small mappings, at a multiple of PageCount, a power of two.
_Must_inspect_result_ ULONG_PTR MiReserveAlignedSystemVa(_In_ PFN_NUMBER PageCount,
                                                         _In_ PFN_NUMBER LeadingGuardPages);

// The same at just this address, in a region whose unit is a page. 0: it is taken, or not in the region.
_Must_inspect_result_ ULONG_PTR MiReserveSystemVaAt(_In_ MI_REGION Region, _In_ ULONG_PTR Va,
                                                    _In_ PFN_NUMBER PageCount,
                                                    _In_ PFN_NUMBER LeadingGuardPages);

// The coarsest alignment, in pages, that a leaf of a contiguous mapping can use.
ULONG64 MiUsefulAlignment(_In_ PFN_NUMBER PageCount);

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
    MiMappingIdle,     // a slot that nobody uses
    MiMappingIo,       // MmMapIoSpace(Ex)
    MiMappingMdl,      // MmMapLockedPagesSpecifyCache
    MiMappingReserved, // MmAllocateMappingAddress
} MI_MAPPING_KIND;

typedef enum _MI_RANGE_STATE {
    MiRangeUnknown, // not in the ledger
    MiRangeHeld,
    MiRangeIdle, // given back, but still written down, until somebody else asks for frames of it
} MI_RANGE_STATE;

// A hold of a whole range in the ledger. All zero: unknown. Time: KeTickCycles.
typedef struct _MI_RANGE_HOLD {
    RTL_INTERVAL_NODE Node; // frames; first member
    MI_RANGE_STATE State;
    MI_CACHE_TYPE CacheType;
    PVOID Caller;
    ULONG64 Time;
} MI_RANGE_HOLD, *PMI_RANGE_HOLD;

// What a mapping of MmMapIoSpace(Ex) holds in the ledger.
typedef enum _MI_IO_HOLD {
    MiHoldNothing, // it shows locked RAM, which counts its mappings
    MiHoldFrameByFrame,
    MiHoldAsRange,
} MI_IO_HOLD;

// One use of system addresses.
// Aligned, so that no two processors write to one cache line.
typedef struct __attribute__((aligned(64))) _MI_MAPPING {
    struct _MI_MAPPING *NextInBucket;
    struct _MI_MAPPING *NextIdle;
    ULONG_PTR Va; // page aligned; guards lie outside
    PFN_NUMBER PageCount;
    PMMPTE FirstPte;      // the entry of the first leaf; its table lives as long as the slot
    PFN_NUMBER FirstRun;  // small: how many entries follow in that table, this one included
    PFN_NUMBER SlotPages; // that may be mapped here: PageCount or more
    ULONG64
    PhaseMask;       // large: the bits of Va's page number that must be those of the first frame's
    ULONG LeafLevel; // large: of the leaves, when all of them lie in one table ...
    ULONG LeafCount; // ... and how many; 0 when they do not
    MI_REGION Region;
    MI_MAPPING_KIND Kind;
    MI_PROTECTION Protection;
    PVOID Caller;                 // who called the exported routine
    ULONG64 Time;                 // and when: KeTickCycles
    PFN_NUMBER SkippedPages;      // in front, unmapped by MmAdvanceMdl; still of PageCount
    PFN_NUMBER InaccessiblePages; // by MmProtectMdlSystemAddress; both are 0 in most mappings
    ULONG64 Stamp; // of what was mapped here last, and is forgotten here but not everywhere; or 0
    union {
        struct {
            PFN_NUMBER FirstPfn;
            MI_IO_HOLD Hold;
            MI_RANGE_HOLD Range; // of MiHoldAsRange
        } Io;
        struct {
            PMDL Mdl;
            PVOID StartVa; // as they were when it was mapped
            PFN_NUMBER FirstPfn;
            BOOLEAN IsBorrowed;  // each page counts in its frame
            BOOLEAN HoldsFrames; // of I/O space, in the ledger
        } Locked;
        struct {
            ULONG Tag;
            BOOLEAN IsBorrowed;
            BOOLEAN HoldsFrames;
            PMDL Mdl; // NULL: nothing is mapped into the reservation
            PFN_NUMBER MappedPageCount;
        } Reserved;
    };
} MI_MAPPING, *PMI_MAPPING;

// A record and PageCount pages of system addresses with guards around them, their tables made. In
// the region of large mappings the addresses are aligned as FirstPfn is. NULL: not enough of
// something. The caller owns it until MiReleaseMapping, fills in the rest, publishes it, and leaves no
// page mapped in the end.
_Must_inspect_result_ PMI_MAPPING MiAcquireMapping(_In_ MI_REGION Region, _In_ PFN_NUMBER PageCount,
                                                   _In_ PFN_NUMBER FirstPfn, _In_ PVOID Caller);

// The same for pages of 4 KiB at a multiple of their size, which is a power of two.
_Must_inspect_result_ PMI_MAPPING MiAcquireAlignedMapping(_In_ PFN_NUMBER PageCount,
                                                          _In_ PVOID Caller);

// The last step: the record is whole, and others may read it.
static inline VOID MiPublishMapping(PMI_MAPPING Mapping, MI_MAPPING_KIND Kind)
{
    __atomic_store_n(&Mapping->Kind, Kind, __ATOMIC_RELEASE);
}

// Has the pages of a mapping forgotten, whose leaves were taken away: everywhere at once; or, when they
// MayWait, here at once and there before their addresses are used again.
VOID NTAPI MiForgetPages(_Inout_ PMI_MAPPING Mapping, _In_ PFN_NUMBER PageCount,
                         _In_ BOOLEAN MayWait);

// Before something is mapped where a mapping's pages may not be forgotten everywhere.
VOID MiSettleMapping(_Inout_ PMI_MAPPING Mapping);

// After its pages were unmapped and flushed.
VOID MiReleaseMapping(_In_ PMI_MAPPING Mapping);

// Gives back what is kept for the next mapping. FALSE: nothing was.
BOOLEAN MiTrimMappings(VOID);

// The slot that begins at this page, idle or not, or NULL.
PMI_MAPPING MiFindSlotAt(_In_ ULONG_PTR PageVa);

// The mapping that begins at the page of Va, or NULL.
static inline PMI_MAPPING MiFindMapping(const VOID *Va)
{
    const PMI_MAPPING Mapping = MiFindSlotAt((ULONG_PTR)PAGE_ALIGN(Va));
    return Mapping != NULL && Mapping->Kind != MiMappingIdle ? Mapping : NULL;
}

// The mapping that covers Va, wherever it begins, or NULL. Searches all: for the diagnosis of
// misuse.
PMI_MAPPING MiFindMappingAround(_In_ const VOID *Va);

// Where the pages begin that are still mapped, and how many they are.
static inline ULONG_PTR MiShownVa(const MI_MAPPING *Mapping)
{
    return Mapping->Va + (Mapping->SkippedPages << PAGE_SHIFT);
}

static inline PFN_NUMBER MiShownPageCount(const MI_MAPPING *Mapping)
{
    return Mapping->PageCount - Mapping->SkippedPages;
}

// Slots in all lists of all processors.
ULONG64 MiListedSlotCount(VOID);

typedef VOID MI_MAPPING_ROUTINE(_In_ PMI_MAPPING Mapping, _In_opt_ PVOID Context);
VOID MiEnumerateMappings(_In_ MI_MAPPING_ROUTINE *Routine, _In_opt_ PVOID Context);
VOID MiEnumerateSlots(_In_ MI_MAPPING_ROUTINE *Routine, _In_opt_ PVOID Context);
ULONG64 MiMappingCount(VOID);

// Whether a live mapping shows an I/O frame of Range.
BOOLEAN MiIsIoRangeMapped(_In_ MI_PFN_RANGE Range);

//
// leak.c: at level 1, who asked for what, and when; and what is left of it.
//

typedef enum _MI_TRACK_KIND {
    MiTrackPool,        // Address: the block
    MiTrackMdl,         // the MDL
    MiTrackLockedPages, // the MDL that locks them
    MiTrackPages,       // the MDL of MmAllocatePagesForMdl(Ex)
    MiTrackKindCount,
} MI_TRACK_KIND;

typedef struct _MI_TRACK {
    struct _MI_TRACK *NextInBucket;
    MI_TRACK_KIND Kind;
    ULONG Tag; // of pool
    const VOID *Address;
    SIZE_T ByteCount;
    PVOID Caller;
    ULONG64 Time; // KeReadCycles
} MI_TRACK, *PMI_TRACK;

extern ULONG64 MiTrackCount;

// Remembers one thing. FALSE: there was no memory for the record, and it stays unknown. For level 1
// only.
BOOLEAN MiTrack(_In_ MI_TRACK_KIND Kind, _In_ const VOID *Address, _In_ SIZE_T ByteCount,
                _In_ ULONG Tag, _In_ PVOID Caller);

// Forgets it; nothing when it is unknown. To be called at any level: the level may have been lowered
// since.
VOID MiForgetTrack(_In_ MI_TRACK_KIND Kind, _In_ const VOID *Address);
static inline VOID MiUntrack(MI_TRACK_KIND Kind, const VOID *Address)
{
    if (MiTrackCount != 0) {
        MiForgetTrack(Kind, Address);
    }
}

// A copy of the record of Address, or of what covers it. FALSE: none.
BOOLEAN MiFindTrack(_In_ MI_TRACK_KIND Kind, _In_ const VOID *Address, _Out_ PMI_TRACK Track);
BOOLEAN MiFindTrackAround(_In_ MI_TRACK_KIND Kind, _In_ const VOID *Address, _Out_ PMI_TRACK Track);

#define MI_WHO_BYTES 96

// "NvmeStart+0x12 (driver nvme), 130 ms ago"; without the time when Time is 0.
VOID MiDescribeWho(_In_opt_ PVOID Caller, _In_ ULONG64 Time, _Out_ PCHAR Buffer,
                   _In_ SIZE_T ByteCount);

//
// special.c: at level 1, drivers' pool in pages of its own.
//

// A block that ends where a page ends, behind it an unmapped page. NULL: no memory for it.
_Must_inspect_result_ PVOID MiAllocateSpecial(_In_ MI_POOL_KIND Kind, _In_ SIZE_T ByteCount,
                                              _In_ ULONG Tag, _In_ BOOLEAN IsCacheAligned,
                                              _In_ PVOID Caller);
VOID MiFreeSpecial(_In_ PVOID Block, _In_ PFN_NUMBER Pfn, _In_ ULONG Tag, _In_ PVOID Caller);

// Stops the machine when Block lies in a freed special block; else returns.
VOID MiCheckSpecialFreed(_In_ PVOID Block);

// Bytes that nobody wrote, for results that are documented as uninitialised.
VOID MiFillRandom(_Out_ PVOID Va, _In_ SIZE_T ByteCount);

//
// verifier.c: what is checked at level 1 only. Each routine stops the machine with the documented
// code when its caller breaks a rule, and else returns. An exported routine calls its own first:
//
//     if (MiIsVerifying()) {
//         MiVerifyUnlockPages(Mdl, __builtin_return_address(0));
//     }
//

static inline BOOLEAN MiIsVerifying(VOID)
{
    return MmVerifierLevel != 0;
}

// The rows of the table of IRQL rules.
typedef enum _MI_IRQL_RULE {
    MiIrqlMapIoSpace,
    MiIrqlUnmapIoSpace,
    MiIrqlProbeAndLockPages,
    MiIrqlProbeAndLockProcessPages,
    MiIrqlProbeAndLockSelectedPages,
    MiIrqlMapLockedPages,
    MiIrqlMapLockedPagesUser,
    MiIrqlMapLockedPagesSpecifyCache,
    MiIrqlMapLockedPagesSpecifyCacheUser,
    MiIrqlUnlockPages,
    MiIrqlUnmapLockedPages,
    MiIrqlUnmapLockedPagesUser,
    MiIrqlAllocatePagesForMdl,
    MiIrqlFreePagesFromMdl,
    MiIrqlAllocateMdlForIoSpace,
    MiIrqlIoAllocateMdl,
    MiIrqlIoFreeMdl,
    MiIrqlIoBuildPartialMdl,
    MiIrqlBuildMdlForNonPagedPool,
    MiIrqlAdvanceMdl,
    MiIrqlProtectMdlSystemAddress,
    MiIrqlMapMdl,
    MiIrqlMapReserved,
    MiIrqlUnmapReserved,
    MiIrqlAllocateMappingAddress,
    MiIrqlFreeMappingAddress,
    MiIrqlAllocateContiguous,
    MiIrqlFreeContiguous,
    MiIrqlAllocateNonCached,
    MiIrqlFreeNonCached,
    MiIrqlCopyMemory,
    MiIrqlMapVideoDisplay,
    MiIrqlUnmapVideoDisplay,
    MiIrqlGetPhysicalMemoryRanges,
    MiIrqlIsAddressValid,
    MiIrqlAllocatePool,
    MiIrqlAllocatePagedPool,
    MiIrqlRuleCount,
} MI_IRQL_RULE;

// For routines that have no other rule. Third and Fourth are the parameters of the codes that have
// them: address and size, or address and MDL.
VOID MiVerifyIrql(_In_ MI_IRQL_RULE Rule, _In_ ULONG_PTR Third, _In_ ULONG_PTR Fourth,
                  _In_ PVOID Caller);

VOID MiVerifyMapIoSpace(_In_ PHYSICAL_ADDRESS PhysicalAddress, _In_ SIZE_T ByteCount,
                        _In_ ULONG Protect, _In_ PVOID Caller);
VOID MiVerifyUnmapIoSpace(_In_ PVOID BaseAddress, _In_ SIZE_T ByteCount, _In_ PVOID Caller);

// Rule is one of MiIrqlProbeAndLock...; Whose the access mode, or the process.
VOID MiVerifyProbeAndLock(_In_ MI_IRQL_RULE Rule, _In_ PMDL Mdl, _In_ ULONG_PTR Whose,
                          _In_ PVOID Caller);

// Once the frames are known, before they are locked.
VOID MiVerifyLockedFrames(_In_ PMDL Mdl, _In_ PVOID Caller);
VOID MiVerifyUnlockPages(_In_ PMDL Mdl, _In_ PVOID Caller);
VOID MiVerifyMapLockedPages(_In_ PMDL Mdl, _In_ KPROCESSOR_MODE AccessMode, _In_ PVOID Caller);
VOID MiVerifyMapLockedPagesSpecifyCache(_In_ PMDL Mdl, _In_ KPROCESSOR_MODE AccessMode,
                                        _In_ ULONG BugCheckOnFailure, _In_ ULONG Priority,
                                        _In_ PVOID Caller);

// For a mapping that must not fail, and has: DRIVER_USED_EXCESSIVE_PTES when a driver has asked, or
// another owner of code (KiRegisterCode); else it returns.
VOID MiVerifyPtesLeft(_In_ ULONG64 FreePages, _In_ ULONG64 TotalPages, _In_ PVOID Caller);
VOID MiVerifyUnmapLockedPages(_In_ PVOID BaseAddress, _In_ PMDL Mdl, _In_ PVOID Caller);
VOID MiVerifyIoFreeMdl(_In_ PMDL Mdl, _In_ PVOID Caller);
VOID MiVerifyBuildMdlForNonPagedPool(_In_ PMDL Mdl, _In_ PVOID Caller);
VOID MiVerifyMapReserved(_In_ PVOID MappingAddress, _In_ PMDL Mdl, _In_ PVOID Caller);

// Highest: the highest address that was asked for. Protect: PAGE_READWRITE where the caller has no
// say.
VOID MiVerifyAllocateContiguous(_In_ PHYSICAL_ADDRESS Highest, _In_ SIZE_T ByteCount,
                                _In_ ULONG Protect, _In_ PVOID Caller);

// MmProtectMdlSystemAddress, MmMapMdl.
VOID MiVerifyProtection(_In_ MI_IRQL_RULE Rule, _In_ ULONG Protect, _In_ PVOID Caller);

// Pool type or flags as the caller gave them.
VOID MiVerifyAllocatePool(_In_ MI_POOL_KIND Kind, _In_ ULONG64 Type, _In_ SIZE_T ByteCount,
                          _In_ ULONG Tag, _In_ PVOID Caller);

// What nobody may believe any more: the frames of an MDL that has been unlocked or freed.
VOID MiPoisonFrames(_Out_writes_(PageCount) PPFN_NUMBER Pfns, _In_ PFN_NUMBER PageCount);

//
// alias.c: the direct map's view of a frame, which must go while the frame is mapped with another
// cache type.
//

// Splits the direct map around the frames, so that their aliases can go without fail.
_Must_inspect_result_ NTSTATUS MiPrepareAlias(_In_ PFN_NUMBER FirstPfn, _In_ PFN_NUMBER PageCount);
_Must_inspect_result_ NTSTATUS MiPrepareChainAliases(_In_ PFN_NUMBER FirstPfn);

// Takes a frame that stays write-back out of the direct map, and back in.
VOID MiDropAlias(_In_ PFN_NUMBER Pfn, _Inout_ PMI_TLB_BATCH Batch);
VOID MiRestoreAlias(_In_ PFN_NUMBER Pfn);

// The states of frames whose cache type can be another than write-back.
static inline BOOLEAN MiHasChosenCacheType(MI_PFN_STATE State)
{
    return State == MiPfnMdl || State == MiPfnDriver;
}

// The cache type of a locked frame of RAM, which may be undecided.
static inline MI_CACHE_TYPE MiRamCacheType(const MMPFN *Element)
{
    return MiHasChosenCacheType((MI_PFN_STATE)Element->State) ? (MI_CACHE_TYPE)Element->CacheType
                                                              : MiCacheWriteBack;
}

// The cache type of a locked frame of RAM; one that has none gets Requested. Cannot fail, and allocates
// nothing.
// The frame may lose its alias: nobody maps it with its type before Batch is flushed.
MI_CACHE_TYPE MiDecideRamCacheType(_In_ PFN_NUMBER Pfn, _In_ MI_CACHE_TYPE Requested,
                                   _Inout_ PMI_TLB_BATCH Batch);
VOID MiForgetRamCacheType(_In_ PFN_NUMBER Pfn);

// Whether the frame's contents stay where they are until its owner frees it, so that drivers may
// map it.
BOOLEAN MiIsLockedFrame(_In_ PFN_NUMBER Pfn, _Out_ MI_REASON *Reason);

//
// pool.c: the pool.
//

#define MI_CACHE_LINE_BYTES 64

#define MI_POOL_CLASS_PAGES 0xFF
#define MI_POOL_CLASS_SPECIAL 0xFE
#define MI_NO_BLOCK 0xFFFF

// A block whose contents are undefined. NULL: none left.
_Must_inspect_result_ PVOID MiAllocatePoolOf(_In_ MI_POOL_KIND Kind, _In_ SIZE_T ByteCount,
                                             _In_ ULONG Tag, _In_ BOOLEAN IsCacheAligned);

// As ExFreePoolWithTag, on behalf of Caller; NULL: mm itself.
VOID MiFreePoolFor(_In_ PVOID Block, _In_ ULONG Tag, _In_ PVOID Caller);

// Whether a frame of the pool belongs to paged pool.
BOOLEAN MiIsPagedPoolFrame(_In_ PFN_NUMBER Pfn);

// PageCount frames of the pool, mapped side by side, an unmapped page behind them. 0: no memory. The
// reverse leaves the addresses reserved.
_Must_inspect_result_ ULONG_PTR MiMapPoolPages(_In_ MI_POOL_KIND Kind, _In_ UCHAR PoolClass,
                                               _In_ PFN_NUMBER PageCount);
VOID MiUnmapPoolPages(_In_ ULONG_PTR Va, _In_ PFN_NUMBER PageCount);

// Counts blocks that are out.
VOID MiCountPoolBlocks(_In_ LONG64 Change);

// Stops the machine: a block is freed with another tag than its own.
VOID MiCheckPoolTag(_In_ PVOID Block, _In_ ULONG OwnTag, _In_ ULONG Tag);

// As ExAllocatePool2 with POOL_FLAG_NON_PAGED: zeroed. NULL: none left.
_Must_inspect_result_ PVOID MiAllocatePool(_In_ SIZE_T ByteCount, _In_ ULONG Tag);
VOID MiFreePool(_In_ PVOID Block);
ULONG64 MiPoolBlockCount(VOID);

// Marks a frame that is in use, of the pool or not. FALSE: it was marked before.
BOOLEAN MiMarkQuarantined(_In_ PMMPFN Element);

// Pages that hold no block and are kept for the next one.
ULONG64 MiSparePoolPageCount(VOID);

//
// block.c: contiguous and non-cached memory that is out.
//

typedef enum _MI_BLOCK_KIND {
    MiBlockContiguous,
    MiBlockNonCached,
    MiBlockStack,
    MiBlockKindCount,
} MI_BLOCK_KIND;

typedef struct _MI_BLOCK {
    RTL_INTERVAL_NODE Node; // pages of its addresses; first member
    MI_BLOCK_KIND Kind;
    SIZE_T ByteCount; // as its driver asked
    MI_PROTECTION Protection;
    ULONG Tag;    // of MmAllocateContiguousMemoryEx, else 0
    PVOID Caller; // who called the exported routine
    ULONG64 Time; // KeReadCycles
} MI_BLOCK, *PMI_BLOCK;

// Frames of state MiPfnDriver, linked through Flink, become the caller's memory, in their order.
// Block says the kind, the bytes, the protection, the tag and the caller. NULL: no pool, addresses
// or tables left; the frames stay the caller's.
_Must_inspect_result_ PVOID MiCreateBlock(_In_ const MI_BLOCK *Block, _In_ PFN_NUMBER FirstPfn);

// The block that begins at Va, or NULL; and the one that Va lies in.
PMI_BLOCK MiFindBlock(_In_ MI_BLOCK_KIND Kind, _In_ const VOID *Va);
PMI_BLOCK MiFindBlockAround(_In_ const VOID *Va);

// The reverse of MiCreateBlock; the frames are freed, too. Bug checks 0x4E/0x9A when something else
// maps or locks one of them.
VOID MiDestroyBlock(_In_ PMI_BLOCK Block);

static inline PFN_NUMBER MiBlockPageCount(const MI_BLOCK *Block)
{
    return Block->Node.Last - Block->Node.First + 1;
}

static inline ULONG_PTR MiBlockVa(const MI_BLOCK *Block)
{
    return Block->Node.First << PAGE_SHIFT;
}

typedef VOID MI_BLOCK_ROUTINE(_In_ const MI_BLOCK *Block, _In_opt_ PVOID Context);
VOID MiEnumerateBlocks(_In_ MI_BLOCK_ROUTINE *Routine, _In_opt_ PVOID Context);
ULONG64 MiBlockCount(VOID);

//
// image.c: driver images.
//

// Where a frame in state MiPfnImage is mapped.
ULONG_PTR MiVaOfImageFrame(_In_ PFN_NUMBER Pfn);
ULONG64 MiImageCount(VOID);

// The pages of the image that covers Va, or NULL.
struct _RTL_INTERVAL_NODE *MiFindImage(_In_ const VOID *Va);

// One node, number 0, and one partition, NULL.
static inline BOOLEAN MiIsNodeLegal(ULONG Node)
{
    return Node == 0 || (Node & MM_ANY_NODE_OK) != 0;
}

//
// ledger.c: the cache type of I/O frames.
//

#define MI_LEDGER_TIME_SHIFT 24

// Who decided a frame's cache type, or, where it is undecided, was first to hold it. Time:
// KeTickCycles, in steps of 2^MI_LEDGER_TIME_SHIFT.
typedef struct _MI_CACHE_OWNER {
    MI_CACHE_TYPE CacheType;
    PVOID Caller;
    ULONG64 Time;
} MI_CACHE_OWNER, *PMI_CACHE_OWNER;

VOID MiInitializeLedger(VOID);

// Holds each frame of Range. With a cache type, that is the type of all of them:
// STATUS_CONFLICTING_ADDRESSES when one has another. With MiCacheUndecided each keeps the type that
// it has, and is open when it has none. STATUS_INSUFFICIENT_RESOURCES: no frames left.
_Must_inspect_result_ NTSTATUS MiHoldFrames(_In_ MI_PFN_RANGE Range, _In_ MI_CACHE_TYPE CacheType,
                                            _In_ PVOID Caller);
VOID MiReleaseFrames(_In_ MI_PFN_RANGE Range);

// The same for a range as a whole, with a type, in the caller's *Hold. Allocates nothing.
// STATUS_CONFLICTING_ADDRESSES: a frame has another type. *Hold is unknown or idle before.
_Must_inspect_result_ NTSTATUS MiHoldRange(_Inout_ PMI_RANGE_HOLD Hold, _In_ MI_PFN_RANGE Range,
                                           _In_ MI_CACHE_TYPE CacheType, _In_ PVOID Caller);

// Before *Hold goes away: the ledger forgets it, if it is idle.
VOID MiForgetRange(_Inout_ PMI_RANGE_HOLD Hold);

// What is known of an I/O frame. FALSE: nobody holds it.
BOOLEAN MiQueryFrame(_In_ PFN_NUMBER Pfn, _Out_ PMI_CACHE_OWNER Owner);

// The cache type of a held I/O frame: the one it has, or, decided now, Requested. Cannot fail, and
// allocates nothing.
MI_CACHE_TYPE MiDecideIoCacheType(_In_ PFN_NUMBER Pfn, _In_ MI_CACHE_TYPE Requested,
                                  _In_ PVOID Caller);

// Who decided frames of Range for another type than Except. FALSE: nobody did.
BOOLEAN MiFindCacheOwner(_In_ MI_PFN_RANGE Range, _In_ MI_CACHE_TYPE Except,
                         _Out_ PMI_CACHE_OWNER Owner);

// Frames held one by one, and ranges.
ULONG64 MiLedgerUsedCount(VOID);
VOID MiTrimLedger(VOID);

//
// iospace.c
//

// Records that Range is refused because frames of it have another type: names who decided that, and
// when.
VOID MiRefuseCacheConflict(_In_ const CHAR *Routine, _In_ MI_PFN_RANGE Range,
                           _In_ MI_CACHE_TYPE CacheType);

//
// cachetype.c
//

// Attributes that MmSetPermanentCacheAttribute fixed; each is a range in the ledger for ever.
ULONG64 MiPermanentRangeCount(VOID);

//
// claim.c: see mm.h.
//

#define MI_CLAIM_NAME_CHARS 32

// The name of who claimed frames of Range, copied to Name, or FALSE.
BOOLEAN MiDescribeClaim(_In_ MI_PFN_RANGE Range, _Out_ PCHAR Name, _In_ SIZE_T ByteCount);
ULONG64 MiClaimCount(VOID);

//
// mdl.c: MDLs and the frames that they describe.
//

// Pages that the MDL spans: MiPagesSpanned in fewer steps, as 32-bit fields allow.
static inline PFN_NUMBER MiMdlPageCount(const MDL *Mdl)
{
    return ((ULONG64)Mdl->ByteOffset + Mdl->ByteCount + PAGE_SIZE - 1) >> PAGE_SHIFT;
}

// Bug checks 0x1A/0x1236: the frame at *Slot, in the MDL's array, is neither locked nor device memory.
DECLSPEC_NORETURN VOID MiStopUnlockedFrame(_In_ PMDL Mdl, _In_ const PFN_NUMBER *Slot);

// Every frame of the MDL must be locked RAM or device memory. Bug checks 0x1A/0x1236 otherwise.
// Returns TRUE when all of them are RAM.
BOOLEAN MiCheckMdlFrames(_In_ PMDL Mdl);

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
// mapping of it counts in MMPFN.MapCount, and a frame with borrowers may not be freed. Of two seals
// the second says that the locks are counted in MMPFN.LockCount: MmUnlockPages is for those only.
#define MI_MDL_SEAL 0x5EA1ED00u
#define MI_MDL_LOCK_SEAL_BIT 0x80000000u

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
    return ((Mdl->Reserved ^ MiSealOf(Mdl)) & ~MI_MDL_LOCK_SEAL_BIT) == 0;
}

static inline VOID MiSealLockedMdl(PMDL Mdl)
{
    Mdl->Reserved = MiSealOf(Mdl) ^ MI_MDL_LOCK_SEAL_BIT;
}

// Whether MmProbeAndLockPages has locked it, and nobody unlocked it since.
static inline BOOLEAN MiIsMdlLocked(const MDL *Mdl)
{
    return Mdl->Reserved == (MiSealOf(Mdl) ^ MI_MDL_LOCK_SEAL_BIT);
}

// What a mapping leaves in the MDL, and what an unmap takes away again.
VOID MiSetMdlMapped(_Inout_ PMDL Mdl, _In_ ULONG_PTR SystemVa);
static inline VOID MiSetMdlUnmapped(PMDL Mdl)
{
    Mdl->MdlFlags &= ~(MDL_MAPPED_TO_SYSTEM_VA | MDL_PARTIAL_HAS_BEEN_MAPPED | MDL_FREE_EXTRA_PTES);
    if (MiIsVerifying()) {
        Mdl->MappedSystemVa = NULL;
    }
}

// Frames that fit the MDL's array.
PFN_NUMBER MiMdlCapacity(_In_ PMDL Mdl);

// The leading pages whose I/O frames an MDL of MmAllocateMdlForIoSpace holds; 0 for any other. The
// second routine makes them fewer, once their holds were released.
PFN_NUMBER MiPagesHeldByMdl(_In_ PMDL Mdl);
VOID MiForgetHeldPages(_In_ PMDL Mdl, _In_ PFN_NUMBER PageCount);

// Takes a hold without a type in the ledger for every I/O frame; RAM needs none.
// All or nothing. STATUS_INSUFFICIENT_RESOURCES: no pool.
_Must_inspect_result_ NTSTATUS MiHoldIoFrames(_In_reads_(PageCount) const PFN_NUMBER *Pfns,
                                              _In_ PFN_NUMBER PageCount, _In_ PVOID Caller);
VOID MiReleaseIoFrames(_In_reads_(PageCount) const PFN_NUMBER *Pfns, _In_ PFN_NUMBER PageCount);
ULONG64 MiIoFramesHeldByMdls(VOID);

//
// mdlmap.c: MDLs in system addresses.
//

// Maps the frames of an MDL in a mapping's slot. Each gets the cache type that it has; one that has
// none, Requested's. I/O frames must be held. Counts the frames of an MDL that has not locked them,
// and returns whether it did. Cannot fail, and allocates nothing. A frame that may not be mapped
// stops with MEMORY_MANAGEMENT 0x1236.
BOOLEAN MiCommitMdl(_In_ PMI_MAPPING Mapping, _In_ PMDL Mdl, _In_ PFN_NUMBER PageCount,
                    _In_ MI_PROTECTION Requested);

// The same from a page of the MDL on, without counting.
VOID MiCommitMdlFrom(_In_ PMI_MAPPING Mapping, _In_ PMDL Mdl, _In_ PFN_NUMBER Page,
                     _In_ PFN_NUMBER PageCount, _In_ MI_PROTECTION Requested);

// The same for a simple MDL (below).
VOID MiCommitSimplePages(_In_ PMI_MAPPING Mapping, _In_ PMDL Mdl, _In_ PFN_NUMBER PageCount,
                         _In_ MI_PROTECTION Requested);

// The reverse: clears, flushes, and counts borrowed frames back as the page tables name them. Pages of I/O
// space do not wait.
VOID MiUncommitMdl(_In_ PMI_MAPPING Mapping, _In_ PFN_NUMBER PageCount, _In_ BOOLEAN IsBorrowed,
                   _In_ BOOLEAN HoldsFrames);

// The first page whose frame in the page tables is not the one in Pfns, or PageCount.
PFN_NUMBER MiFindChangedPage(_In_ ULONG_PTR Va, _In_reads_(PageCount) const PFN_NUMBER *Pfns,
                             _In_ PFN_NUMBER PageCount);

// Ends the mapping of the first pages that are still mapped, for MmAdvanceMdl.
VOID MiUncommitLeadingPages(_In_ PMI_MAPPING Mapping, _In_ PFN_NUMBER PageCount);

// The MDL is made of RAM that it has locked itself, and of nothing else: no frame needs a look
// before the mapping, and none needs to be counted.
static inline BOOLEAN MiIsMdlSimple(const MDL *Mdl)
{
    return MiIsMdlSealed(Mdl) && (Mdl->MdlFlags & MDL_IO_SPACE) == 0;
}

// The record of the MDL's own mapping, not one inherited from another MDL, of whichever kind; or NULL.
PMI_MAPPING MiFindOwnMapping(_In_ PMDL Mdl);

// Whether there is one.
BOOLEAN MiHasOwnMapping(_In_ PMDL Mdl);

// Unmaps what the MDL itself has mapped, whichever routine mapped it; nothing when that is nothing.
VOID MiUnmapMdl(_In_ PMDL Mdl);

//
// lock.c: pages that stay where they are.
//

// An MDL with one of these describes locked or nonpaged memory already.
#define MI_UNLOCKABLE_FLAGS                                                                        \
    (MDL_PAGES_LOCKED | MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL | MDL_PARTIAL |      \
     MDL_IO_SPACE)

// Counts one lock less in each frame of RAM; I/O frames have none. Bug checks 0x4E/0x07 when a frame
// has no lock left.
VOID MiUnlockFrames(_In_reads_(PageCount) const PFN_NUMBER *Pfns, _In_ PFN_NUMBER PageCount);

// Locks in all frames together; and whether that is what MmVerify has counted frame by frame.
ULONG64 MiLockedPageCount(VOID);
BOOLEAN MiAreLocksConsistent(_In_ ULONG64 CountedLocks);

//
// mdlprotect.c: mapped MDLs with another protection.
//

// How many of the pages are inaccessible.
PFN_NUMBER MiCountInaccessible(_In_ ULONG_PTR Va, _In_ PFN_NUMBER PageCount);

// Makes the tables for MmMapMemoryDumpMdl, while that may fail.
VOID MiInitializeDumpMapping(VOID);

//
// reserve.c
//

// Takes the MDL out of a reservation, without any check.
VOID MiUnmapReservation(_In_ PMI_MAPPING Mapping);

//
// query.c
//

// A frame of RAM in the direct map, or in the kernel's image, which the direct map leaves out. NULL: in
// neither, because its alias is hidden. Any IRQL.
PVOID MiKernelVaOfFrame(_In_ PFN_NUMBER Pfn);

//
// For verify.c: what each file can say of its own invariants.
//

BOOLEAN MiIsZoneConsistent(_In_ MI_REGION Region);
BOOLEAN MiIsLedgerConsistent(_Out_ ULONG64 *FrameHolders, _Out_ ULONG64 *RangeHolders);
BOOLEAN MiAreClaimsConsistent(VOID);
BOOLEAN MiIsPoolConsistent(VOID);
BOOLEAN MiAreBlocksConsistent(VOID);
BOOLEAN MiAreImagesConsistent(VOID);
BOOLEAN MiIsImageLeafConsistent(_In_ ULONG_PTR Va, _In_ PFN_NUMBER Pfn,
                                _In_ MI_PROTECTION Protection);

// Stops the machine with a documented code and a sentence.
#define MiBugCheck KiBugCheckSaying
