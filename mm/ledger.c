// The ledger: the cache type of every I/O frame that is in use, and who was first to ask for it.
//
// An entry is a range of frames, and the number of those who hold exactly this range: live mappings,
// and MDLs that describe device memory. Entries may overlap, as mappings do; then they agree.
//
//   MmAllocateMdlForIoSpace, 8 pages   | -- | -- | -- | -- | -- | -- | -- | -- |   undecided
//   MmMapIoSpaceEx, two pages                   | UC   UC |
//   mapping the MDL, asking for WC     | WC | WC | UC | UC | WC | WC | WC | WC |
//
// The rule: the first mapping of a frame decides its type, which stays until nobody holds the frame.
//
// A mapping of I/O space gives all of its frames one type. An MDL takes over what is decided when it
// is made, and leaves its other frames open, one by one; a decision is written down in every entry
// that leaves the frame open. So mapping an MDL into a reservation has nothing to allocate.
//
// Invariants (checked by MmVerify):
//   C1  No entry contains a frame of RAM that the operating system owns.
//   C2  Entries that have decided a frame give it the same cache type, and the direct map reaches no
//       I/O frame. So no frame is ever mapped with two cache types (SDM, "Programming the PAT").
//   C3  HolderCount is the number of mappings and MDLs that hold exactly this range; zero frees the
//       entry.
// Lock: MiLedgerLock.
#include "mm/mi.h"

typedef struct _MI_LEDGER_ENTRY {
    RTL_INTERVAL_NODE Node; // frames; first member
    ULONG64 HolderCount;
    PVOID Caller;            // who was first to hold it
    MI_CACHE_TYPE CacheType; // of every frame, unless FrameTypes tells them one by one
    PUCHAR FrameTypes;       // MI_CACHE_TYPE, which may be undecided; or NULL
} MI_LEDGER_ENTRY, *PMI_LEDGER_ENTRY;

static KI_LOCK MiLedgerLock = KI_LOCK_INITIALIZER(MI_RANK_LEDGER, "MiLedgerLock");
static RTL_INTERVAL_TREE MiLedger = RTL_INTERVAL_TREE_INITIALIZER;

static PMI_LEDGER_ENTRY MiEntryOf(PRTL_INTERVAL_NODE Node)
{
    return CONTAINING_RECORD(Node, MI_LEDGER_ENTRY, Node);
}

static MI_CACHE_TYPE MiTypeInEntry(const MI_LEDGER_ENTRY *Entry, PFN_NUMBER Pfn)
{
    return Entry->FrameTypes != NULL ? (MI_CACHE_TYPE)Entry->FrameTypes[Pfn - Entry->Node.First]
                                     : Entry->CacheType;
}

// The frames of an entry that overlaps Range which are also in Range.
static MI_PFN_RANGE MiSharedRange(const MI_LEDGER_ENTRY *Entry, MI_PFN_RANGE Range)
{
    return (MI_PFN_RANGE){
        Range.FirstPfn > Entry->Node.First ? Range.FirstPfn : Entry->Node.First,
        Range.LastPfn < Entry->Node.Last ? Range.LastPfn : Entry->Node.Last,
    };
}

// Whether the entry has decided a frame of Range for another type than CacheType.
static BOOLEAN MiIsEntryAgainst(const MI_LEDGER_ENTRY *Entry, MI_PFN_RANGE Range,
                                MI_CACHE_TYPE CacheType)
{
    if (Entry->FrameTypes == NULL) {
        return Entry->CacheType != CacheType;
    }
    const MI_PFN_RANGE Shared = MiSharedRange(Entry, Range);
    for (PFN_NUMBER Pfn = Shared.FirstPfn; Pfn <= Shared.LastPfn; Pfn += 1) {
        const MI_CACHE_TYPE Held = MiTypeInEntry(Entry, Pfn);
        if (Held != MiCacheUndecided && Held != CacheType) {
            return TRUE;
        }
    }
    return FALSE;
}

// The first entry that has decided a frame of Range for another type than CacheType, or NULL.
static PMI_LEDGER_ENTRY MiFindOpponent(MI_PFN_RANGE Range, MI_CACHE_TYPE CacheType)
{
    PRTL_INTERVAL_NODE Node = RtlFirstOverlap(&MiLedger, Range.FirstPfn, Range.LastPfn);
    while (Node != NULL && !MiIsEntryAgainst(MiEntryOf(Node), Range, CacheType)) {
        Node = RtlNextOverlap(Node, Range.FirstPfn, Range.LastPfn);
    }
    return Node != NULL ? MiEntryOf(Node) : NULL;
}

//
// Hold and release.
//

static VOID MiFreeEntry(PMI_LEDGER_ENTRY Entry)
{
    if (Entry->FrameTypes != NULL) {
        MiFreePool(Entry->FrameTypes);
    }
    MiFreePool(Entry);
}

// An entry that nobody holds yet. With MiCacheUndecided its frames are open, one by one.
static PMI_LEDGER_ENTRY MiNewEntry(MI_PFN_RANGE Range, MI_CACHE_TYPE CacheType, PVOID Caller)
{
    PMI_LEDGER_ENTRY Entry = MiAllocatePool(sizeof(MI_LEDGER_ENTRY), 'gdLM');
    if (Entry == NULL) {
        return NULL;
    }
    Entry->Node.First = Range.FirstPfn;
    Entry->Node.Last = Range.LastPfn;
    Entry->CacheType = CacheType;
    Entry->Caller = Caller;
    if (CacheType == MiCacheUndecided) {
        Entry->FrameTypes = MiAllocatePool(MiRangePageCount(Range), 'tdLM');
        if (Entry->FrameTypes == NULL) {
            MiFreePool(Entry);
            return NULL;
        }
        RtlFillMemory(Entry->FrameTypes, MiRangePageCount(Range), MiCacheUndecided);
    }
    return Entry;
}

// Writes what From has decided down in To, an overlapping entry, where To leaves it open.
static VOID MiCopyDecisions(PMI_LEDGER_ENTRY To, const MI_LEDGER_ENTRY *From)
{
    if (To->FrameTypes == NULL) {
        return;
    }
    const MI_PFN_RANGE Shared = MiSharedRange(From, (MI_PFN_RANGE){To->Node.First, To->Node.Last});
    for (PFN_NUMBER Pfn = Shared.FirstPfn; Pfn <= Shared.LastPfn; Pfn += 1) {
        const MI_CACHE_TYPE Decided = MiTypeInEntry(From, Pfn);
        if (Decided != MiCacheUndecided) {
            To->FrameTypes[Pfn - To->Node.First] = (UCHAR)Decided;
        }
    }
}

// Makes New and the entries that it overlaps know each other's decisions.
static VOID MiShareDecisions(PMI_LEDGER_ENTRY New)
{
    PRTL_INTERVAL_NODE Node = RtlFirstOverlap(&MiLedger, New->Node.First, New->Node.Last);
    for (; Node != NULL; Node = RtlNextOverlap(Node, New->Node.First, New->Node.Last)) {
        MiCopyDecisions(New, MiEntryOf(Node));
        MiCopyDecisions(MiEntryOf(Node), New);
    }
}

// Adds a holder to the entry of New's range: to New where there is none yet. Returns the entry.
static PMI_LEDGER_ENTRY MiHoldEntry(PMI_LEDGER_ENTRY New)
{
    PRTL_INTERVAL_NODE Node = RtlFindInterval(&MiLedger, New->Node.First, New->Node.Last);
    PMI_LEDGER_ENTRY Entry = Node != NULL ? MiEntryOf(Node) : New;
    MiShareDecisions(New);
    if (Node == NULL) {
        RtlInsertInterval(&MiLedger, &New->Node);
    }
    Entry->HolderCount += 1;
    return Entry;
}

NTSTATUS MiAcquireCacheRange(MI_PFN_RANGE Range, MI_CACHE_TYPE CacheType, PVOID Caller)
{
    PMI_LEDGER_ENTRY New = MiNewEntry(Range, CacheType, Caller);
    if (New == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    const KIRQL OldIrql = KiAcquireLock(&MiLedgerLock);
    const BOOLEAN Agreed =
        CacheType == MiCacheUndecided || MiFindOpponent(Range, CacheType) == NULL;
    const BOOLEAN IsNewUsed = Agreed && MiHoldEntry(New) == New;
    KiReleaseLock(&MiLedgerLock, OldIrql);
    if (!IsNewUsed) {
        MiFreeEntry(New);
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
        MiFreeEntry(Unused);
    }
}

//
// Ask and decide.
//

BOOLEAN MiIsFrameHeld(PFN_NUMBER Pfn)
{
    const KIRQL OldIrql = KiAcquireLock(&MiLedgerLock);
    const BOOLEAN IsHeld = RtlFirstOverlap(&MiLedger, Pfn, Pfn) != NULL;
    KiReleaseLock(&MiLedgerLock, OldIrql);
    return IsHeld;
}

// The type that some entry has decided for a frame, or MiCacheUndecided.
static MI_CACHE_TYPE MiTypeInLedger(PFN_NUMBER Pfn)
{
    MI_CACHE_TYPE CacheType = MiCacheUndecided;
    PRTL_INTERVAL_NODE Node = RtlFirstOverlap(&MiLedger, Pfn, Pfn);
    for (; Node != NULL && CacheType == MiCacheUndecided; Node = RtlNextOverlap(Node, Pfn, Pfn)) {
        CacheType = MiTypeInEntry(MiEntryOf(Node), Pfn);
    }
    return CacheType;
}

static VOID MiWriteDown(PFN_NUMBER Pfn, MI_CACHE_TYPE CacheType)
{
    PRTL_INTERVAL_NODE Node = RtlFirstOverlap(&MiLedger, Pfn, Pfn);
    for (; Node != NULL; Node = RtlNextOverlap(Node, Pfn, Pfn)) {
        if (MiEntryOf(Node)->FrameTypes != NULL) {
            MiEntryOf(Node)->FrameTypes[Pfn - Node->First] = (UCHAR)CacheType;
        }
    }
}

MI_CACHE_TYPE MiDecideIoCacheType(PFN_NUMBER Pfn, MI_CACHE_TYPE Requested)
{
    const KIRQL OldIrql = KiAcquireLock(&MiLedgerLock);
    const MI_CACHE_TYPE Held = MiTypeInLedger(Pfn);
    const MI_CACHE_TYPE CacheType = Held != MiCacheUndecided ? Held : Requested;
    MiWriteDown(Pfn, CacheType);
    KiReleaseLock(&MiLedgerLock, OldIrql);
    return CacheType;
}

PVOID MiFindCacheOwner(MI_PFN_RANGE Range, MI_CACHE_TYPE Except)
{
    const KIRQL OldIrql = KiAcquireLock(&MiLedgerLock);
    const PMI_LEDGER_ENTRY Opponent = MiFindOpponent(Range, Except);
    PVOID Caller = Opponent != NULL ? Opponent->Caller : NULL;
    KiReleaseLock(&MiLedgerLock, OldIrql);
    return Caller;
}

ULONG64 MiLedgerEntryCount(VOID)
{
    return MiLedger.NodeCount;
}

// Whether every overlapping entry agrees with what this one has decided.
static BOOLEAN MiIsEntryAgreedOn(const MI_LEDGER_ENTRY *Entry)
{
    if (Entry->FrameTypes == NULL) {
        const MI_PFN_RANGE Range = {Entry->Node.First, Entry->Node.Last};
        return MiFindOpponent(Range, Entry->CacheType) == NULL;
    }
    for (PFN_NUMBER Pfn = Entry->Node.First; Pfn <= Entry->Node.Last; Pfn += 1) {
        const MI_CACHE_TYPE Held = MiTypeInEntry(Entry, Pfn);
        if (Held != MiCacheUndecided && MiFindOpponent((MI_PFN_RANGE){Pfn, Pfn}, Held) != NULL) {
            return FALSE;
        }
    }
    return TRUE;
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
        MI_REASON Reason;
        if (Entry->HolderCount == 0 ||
            !MiIsIoSpace((MI_PFN_RANGE){Node->First, Node->Last}, &Reason) ||
            !MiIsEntryAgreedOn(Entry)) {
            return FALSE;
        }
        *HolderCount += Entry->HolderCount;
    }
    return TRUE;
}
