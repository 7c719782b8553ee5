// The ledger: the cache type of every I/O frame that is in use, and who was first to ask for it.
//
// An entry is a range of frames with one type, and the number of those who hold exactly this range:
// live mappings, and MDLs that describe device memory. Entries may overlap, as mappings do; then
// they agree.
//
//   MmAllocateMdlForIoSpace, 1 MiB   |----------- undecided -----------|
//   MmMapIoSpaceEx, registers        |-UC-|
//   mapping the MDL now              |------------- UC ----------------|   the existing type wins
//
// An MDL's entry has no type until something maps it; from then on the type stays until the MDL is
// freed, so that a mapping into a reservation needs no record of its own, and nothing to allocate.
//
// Invariants (checked by MmVerify):
//   C1  No entry contains a frame of RAM that the operating system owns.
//   C2  Entries that share a frame and are decided have the same cache type; the direct map reaches
//       no I/O frame.
//       So no frame is ever mapped with two cache types (SDM, "Programming the PAT").
//   C3  HolderCount is the number of mappings and MDLs that hold exactly this range; zero frees the
//       entry.
// Lock: MiLedgerLock.
#include "mm/mi.h"

typedef struct _MI_LEDGER_ENTRY {
    RTL_INTERVAL_NODE Node; // frames; first member
    MI_CACHE_TYPE CacheType;
    const VOID *Decider; // who decided the type, while nobody else relies on it; or NULL
    ULONG64 HolderCount;
    PVOID Caller; // who was first to hold it
} MI_LEDGER_ENTRY, *PMI_LEDGER_ENTRY;

static KI_LOCK MiLedgerLock = KI_LOCK_INITIALIZER(MI_RANK_LEDGER, "MiLedgerLock");
static RTL_INTERVAL_TREE MiLedger = RTL_INTERVAL_TREE_INITIALIZER;

static PMI_LEDGER_ENTRY MiEntryOf(PRTL_INTERVAL_NODE Node)
{
    return CONTAINING_RECORD(Node, MI_LEDGER_ENTRY, Node);
}

// The type that decided entries give to frames of Range, undecided when none does.
// FALSE: they give two.
static BOOLEAN MiTypeInLedger(MI_PFN_RANGE Range, MI_CACHE_TYPE *CacheType)
{
    *CacheType = MiCacheUndecided;
    PRTL_INTERVAL_NODE Node = RtlFirstOverlap(&MiLedger, Range.FirstPfn, Range.LastPfn);
    for (; Node != NULL; Node = RtlNextOverlap(Node, Range.FirstPfn, Range.LastPfn)) {
        const MI_CACHE_TYPE Held = MiEntryOf(Node)->CacheType;
        if (Held == MiCacheUndecided) {
            continue;
        }
        if (*CacheType != MiCacheUndecided && *CacheType != Held) {
            return FALSE;
        }
        *CacheType = Held;
    }
    return TRUE;
}

// Whether frames of Range may get CacheType.
static BOOLEAN MiIsTypeFree(MI_PFN_RANGE Range, MI_CACHE_TYPE CacheType)
{
    MI_CACHE_TYPE Held;
    return CacheType == MiCacheUndecided ||
           (MiTypeInLedger(Range, &Held) && (Held == MiCacheUndecided || Held == CacheType));
}

// Adds a holder to the entry of exactly this range, using Spare where there is none yet. Returns
// TRUE if Spare was used.
static BOOLEAN MiHoldRange(MI_PFN_RANGE Range, MI_CACHE_TYPE CacheType, const VOID *Decider,
                           PMI_LEDGER_ENTRY Spare)
{
    PRTL_INTERVAL_NODE Node = RtlFindInterval(&MiLedger, Range.FirstPfn, Range.LastPfn);
    PMI_LEDGER_ENTRY Entry = Node != NULL ? MiEntryOf(Node) : Spare;
    if (Node == NULL) {
        Entry->Node.First = Range.FirstPfn;
        Entry->Node.Last = Range.LastPfn;
        Entry->CacheType = MiCacheUndecided;
        RtlInsertInterval(&MiLedger, &Entry->Node);
    }
    if (CacheType != MiCacheUndecided) {
        Entry->Decider = Entry->CacheType == MiCacheUndecided ? Decider : NULL;
        Entry->CacheType = CacheType;
    }
    Entry->HolderCount += 1;
    return Entry == Spare;
}

NTSTATUS MiAcquireCacheRange(MI_PFN_RANGE Range, MI_CACHE_TYPE CacheType, PVOID Caller,
                             const VOID *Decider)
{
    PMI_LEDGER_ENTRY Spare = MiAllocatePool(sizeof(MI_LEDGER_ENTRY), 'gdLM');
    if (Spare == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    Spare->Caller = Caller;
    const KIRQL OldIrql = KiAcquireLock(&MiLedgerLock);
    const BOOLEAN Agreed = MiIsTypeFree(Range, CacheType);
    const BOOLEAN SpareUsed = Agreed && MiHoldRange(Range, CacheType, Decider, Spare);
    KiReleaseLock(&MiLedgerLock, OldIrql);
    if (!SpareUsed) {
        MiFreePool(Spare);
    }
    return Agreed ? STATUS_SUCCESS : STATUS_CONFLICTING_ADDRESSES;
}

VOID MiReleaseCacheRange(MI_PFN_RANGE Range)
{
    PMI_LEDGER_ENTRY Unused = NULL;
    const KIRQL OldIrql = KiAcquireLock(&MiLedgerLock);
    PRTL_INTERVAL_NODE Node = RtlFindInterval(&MiLedger, Range.FirstPfn, Range.LastPfn);
    if (Node == NULL) {
        MiBugCheck(MEMORY_MANAGEMENT, 0x61948, Range.FirstPfn, MiRangePageCount(Range),
                   Range.FirstPfn,
                   "I/O frames 0x%llx-0x%llx are given back, but nobody holds exactly this range",
                   Range.FirstPfn, Range.LastPfn);
    }
    MiEntryOf(Node)->HolderCount -= 1;
    if (MiEntryOf(Node)->HolderCount == 0) {
        RtlRemoveInterval(&MiLedger, Node);
        Unused = MiEntryOf(Node);
    }
    KiReleaseLock(&MiLedgerLock, OldIrql);
    if (Unused != NULL) {
        MiFreePool(Unused);
    }
}

static NTSTATUS MiDecideEntry(PMI_LEDGER_ENTRY Entry, MI_PFN_RANGE Range, MI_CACHE_TYPE Requested,
                              const VOID *Decider)
{
    MI_CACHE_TYPE Held;
    if (Entry->CacheType != MiCacheUndecided) {
        Entry->Decider = Entry->Decider == Decider ? Decider : NULL;
        return STATUS_SUCCESS;
    }
    if (!MiTypeInLedger(Range, &Held)) {
        return STATUS_CONFLICTING_ADDRESSES;
    }
    Entry->CacheType = Held != MiCacheUndecided ? Held : Requested;
    Entry->Decider = Decider;
    return STATUS_SUCCESS;
}

NTSTATUS MiDecideCacheRange(MI_PFN_RANGE Range, MI_CACHE_TYPE Requested, const VOID *Decider,
                            MI_CACHE_TYPE *CacheType)
{
    NTSTATUS Status = STATUS_NOT_FOUND;
    const KIRQL OldIrql = KiAcquireLock(&MiLedgerLock);
    PRTL_INTERVAL_NODE Node = RtlFindInterval(&MiLedger, Range.FirstPfn, Range.LastPfn);
    if (Node != NULL) {
        Status = MiDecideEntry(MiEntryOf(Node), Range, Requested, Decider);
        *CacheType = MiEntryOf(Node)->CacheType;
    }
    KiReleaseLock(&MiLedgerLock, OldIrql);
    return Status;
}

VOID MiRevertCacheRange(MI_PFN_RANGE Range, const VOID *Decider)
{
    const KIRQL OldIrql = KiAcquireLock(&MiLedgerLock);
    PRTL_INTERVAL_NODE Node = RtlFindInterval(&MiLedger, Range.FirstPfn, Range.LastPfn);
    if (Node != NULL && MiEntryOf(Node)->Decider == Decider) {
        MiEntryOf(Node)->CacheType = MiCacheUndecided;
        MiEntryOf(Node)->Decider = NULL;
    }
    KiReleaseLock(&MiLedgerLock, OldIrql);
}

BOOLEAN MiIsCacheRangeDecided(MI_PFN_RANGE Range)
{
    MI_CACHE_TYPE CacheType;
    const KIRQL OldIrql = KiAcquireLock(&MiLedgerLock);
    const BOOLEAN Agreed = MiTypeInLedger(Range, &CacheType);
    KiReleaseLock(&MiLedgerLock, OldIrql);
    return !Agreed || CacheType != MiCacheUndecided;
}

PVOID MiFindCacheOwner(MI_PFN_RANGE Range, MI_CACHE_TYPE Except)
{
    PVOID Caller = NULL;
    const KIRQL OldIrql = KiAcquireLock(&MiLedgerLock);
    PRTL_INTERVAL_NODE Node = RtlFirstOverlap(&MiLedger, Range.FirstPfn, Range.LastPfn);
    for (; Node != NULL && Caller == NULL;
         Node = RtlNextOverlap(Node, Range.FirstPfn, Range.LastPfn)) {
        const MI_CACHE_TYPE Held = MiEntryOf(Node)->CacheType;
        if (Held != MiCacheUndecided && Held != Except) {
            Caller = MiEntryOf(Node)->Caller;
        }
    }
    KiReleaseLock(&MiLedgerLock, OldIrql);
    return Caller;
}

ULONG64 MiLedgerEntryCount(VOID)
{
    return MiLedger.NodeCount;
}

BOOLEAN MiIsLedgerConsistent(ULONG64 *HolderCount)
{
    *HolderCount = 0;
    if (!RtlVerifyIntervalTree(&MiLedger)) {
        return FALSE;
    }
    for (PRTL_INTERVAL_NODE Node = RtlFirstInterval(&MiLedger); Node != NULL;
         Node = RtlNextInterval(Node)) {
        const PMI_LEDGER_ENTRY Entry = MiEntryOf(Node);
        MI_CACHE_TYPE CacheType;
        MI_REASON Reason;
        if (Entry->HolderCount == 0 ||
            !MiTypeInLedger((MI_PFN_RANGE){Node->First, Node->First}, &CacheType) ||
            !MiIsIoSpace((MI_PFN_RANGE){Node->First, Node->Last}, &Reason)) {
            return FALSE;
        }
        *HolderCount += Entry->HolderCount;
    }
    return TRUE;
}
