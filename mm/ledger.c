// The ledger: the cache type of every I/O frame that is in use, and who was first to ask for it.
//
// The rule: the first mapping of a frame decides its type, which stays until nobody holds the frame.
// Mappings hold their frames, and so do MDLs, which leave the type open until they are mapped.
//
// Two structures, by the size of what is held:
//
//   frame by frame   mappings below a large page, and MDLs: a slot per frame, in a radix tree. One
//                    more holder of a frame costs the same whether it is the first or the thousandth
//
//                      root -> 256 branches { node } -> 256 leaves { slots, slots in use }
//                      -> 256 slots { holders, cache type, since when, who }
//
//   as a range       mappings from one large page up, and permanent attributes: an interval tree per
//                    cache type. A conflict is an overlap with a tree of another type. A range that is
//                    given back stays there, idle, until somebody else asks about frames of it: to
//                    map the same range again takes no search
//
// What is decided in one structure is written down in the other while the frame is in both: a range
// that is taken decides the open slots below it, and a slot that is taken inherits from the range
// above it. So an MDL's frames can be looked up in the slots alone, and deciding one, when the MDL is
// mapped into a reservation, allocates nothing.
//
// Invariants (checked by MmVerify):
//   C1  Nobody holds a frame of RAM that the operating system owns.
//   C2  The ranges of different trees do not overlap, a slot below a range has the range's type, and
//       the direct map reaches no I/O frame. So no frame is ever mapped with two cache types (SDM,
//       "Programming the PAT").
//   C3  The holders of all slots are the pages of small mappings and of MDLs; the ranges are the
//       large mappings and the permanent attributes. A slot without a holder is all zero.
//   C4  A leaf's UsedCount is the number of its slots that have a holder.
//
// Locks: MiLedgerLock, for whoever changes more than one slot, adds or frees nodes, or asks about ranges. The
// short ways do not take it. They hold the lock of a processor's cache meanwhile, which is nobody else's
// business, and change slots by compare and exchange, one after the other. Who takes MiLedgerLock keeps them out: he says so
// in MiIsLedgerChanging, and waits until each cache's lock was free once.
//
//   short way   takes Cache.Lock (exchange) ─▶ reads MiIsLedgerChanging: set? then the general way
//   general     sets MiIsLedgerChanging (exchange) ─▶ reads each Cache.Lock until it is free
//
// Memory order: both write by an exchange before they read what the other writes, so one of them sees the
// other: either the short way turns back, or the general way waits for it. What the short way did is seen
// when its lock is found free (release, acquire); what the general way did, when MiIsLedgerChanging is read
// as clear (release, acquire). So nodes are freed only while nobody walks them. Two short ways meet in a
// slot only, where each sees the whole word that the other has left. One that holds several frames and meets
// another type gives back what it has: a third who is in the way of that meanwhile goes the general way, which
// finds it undone. A slot's Caller is written behind the word, and may be that of a holder who came at the
// same time, or has just gone: it is for reports. UsedCount is changed behind the word, so C4 is true for who
// keeps the short ways out; short ways that meet at the last slots of a leaf may leave it empty and there,
// which MiTrimLedger ends. A model: tests/models/ledger.pml.
// A leaf that became empty is freed, except for one that its processor keeps for its next hold.
#include "mm/miquick.h"

KI_LOCK MiLedgerLock = KI_LOCK_INITIALIZER(MI_RANK_LEDGER, "MiLedgerLock");
PMI_LEDGER_UPPER *MiLedgerRoot;
static PFN_NUMBER MiLedgerRootEntries;
BOOLEAN MiIsLedgerChanging;
RTL_INTERVAL_TREE MiRanges[MiCacheTypeCount];
ULONG MiIdleRangeCount;
ULONG MiOpposingRangeCount[MiCacheTypeCount];

static KIRQL MiLockLedger(VOID) _Acquires_lock_(&MiLedgerLock);
static VOID MiUnlockLedger(KIRQL OldIrql) _Releases_lock_(&MiLedgerLock);

_No_lock_analysis_ static KIRQL MiLockLedger(VOID)
{
    const KIRQL OldIrql = KiAcquireLock(&MiLedgerLock);
    (VOID) __atomic_exchange_n(&MiIsLedgerChanging, TRUE, __ATOMIC_SEQ_CST);
    for (ULONG Number = 0; Number < (ULONG)KeNumberProcessors; Number += 1) {
        KiAwaitFreeLock(&MiCaches[Number].Lock);
    }
    return OldIrql;
}

_No_lock_analysis_ static VOID MiUnlockLedger(KIRQL OldIrql)
{
    __atomic_store_n(&MiIsLedgerChanging, FALSE, __ATOMIC_RELEASE);
    KiReleaseLock(&MiLedgerLock, OldIrql);
}

//
// The radix tree.
//

VOID MiInitializeLedger(VOID)
{
    MiLedgerRootEntries = (MiHighestPfn() >> MI_ROOT_SHIFT) + 1;
    const PFN_NUMBER PageCount = BYTES_TO_PAGES(MiLedgerRootEntries * sizeof(PMI_LEDGER_UPPER));
    const PFN_NUMBER Pfn =
        MiAllocateFrameRun(PageCount, 1, (MI_PFN_RANGE){0, MiHighestPfn()}, MiPfnKernel);
    if (Pfn == MI_NO_PFN) {
        MiBugCheck(INSTALL_MORE_MEMORY, PageCount, 0, 0, 0, "no memory for the root of the ledger");
    }
    MiLedgerRoot = MiFrameToVa(Pfn);
    RtlZeroMemory(MiLedgerRoot, PageCount << PAGE_SHIFT);
}

// A node whose entries are all empty. NULL: no frames left.
static PVOID MiNewNode(VOID)
{
    const PFN_NUMBER Pfn = MiAllocateFrame(MiPfnLedger);
    if (Pfn == MI_NO_PFN) {
        return NULL;
    }
    RtlZeroMemory(MiFrameToVa(Pfn), PAGE_SIZE);
    return MiFrameToVa(Pfn);
}

static VOID MiFreeNode(PVOID Node)
{
    MiFreeFrame(MiVaToFrame(Node));
}

// The leaf of a frame, made if need be. NULL: no frames left; nodes that hold nothing may remain.
static PMI_LEDGER_LEAF MiMakeLeaf(PFN_NUMBER Pfn)
{
    PMI_LEDGER_UPPER *const Upper = MiUpperOf(Pfn);
    if (*Upper == NULL && (*Upper = MiNewNode()) == NULL) {
        return NULL;
    }
    const PMI_LEDGER_BRANCH Branch = MiBranchOf(*Upper, Pfn);
    if (Branch->Lower == NULL && (Branch->Lower = MiNewNode()) == NULL) {
        return NULL;
    }
    const PMI_LEDGER_LEAF Leaf = MiLeafOf(Branch->Lower, Pfn);
    if (Leaf->Slots == NULL) {
        Leaf->Slots = MiNewNode();
    }
    return Leaf->Slots != NULL ? Leaf : NULL;
}

static VOID MiFreeLeafSlots(PMI_LEDGER_LEAF Leaf)
{
    MiFreeNode(Leaf->Slots);
    Leaf->Slots = NULL;
}

static BOOLEAN MiIsSpareLeaf(const MI_LEDGER_LEAF *Leaf)
{
    ULONG Number = 0;
    while (Number < MI_ARCH_PROCESSORS && MiCaches[Number].SpareLeaf != Leaf) {
        Number += 1;
    }
    return Number < MI_ARCH_PROCESSORS;
}

// Keeps a leaf that became empty, and frees the one that this processor kept before, if it still is empty
// and no other keeps it, too.
static VOID MiChangeSpareLeaf(PFN_NUMBER Pfn, PMI_LEDGER_LEAF Leaf)
{
    const PMI_PROCESSOR_CACHE Cache = MiThisCache();
    const PMI_LEDGER_LEAF Old = Cache->SpareLeaf;
    Cache->SpareLeaf = Leaf;
    Cache->SpareNumber = Pfn >> MI_LEAF_BITS;
    if (Old != NULL && Old->Slots != NULL && Old->UsedCount == 0 && !MiIsSpareLeaf(Old)) {
        MiFreeLeafSlots(Old);
    }
}

// Takes a holder away from a slot that has one.
static VOID MiDropHolder(PFN_NUMBER Pfn, PMI_LEDGER_LEAF Leaf)
{
    const PMI_LEDGER_SLOT Slot = MiSlotOf(Leaf, Pfn);
    if (MiHoldersOf(Slot->Word) > 1) {
        Slot->Word -= 1;
        return;
    }
    Slot->Word = 0;
    Leaf->UsedCount -= 1;
    if (Leaf->UsedCount == 0) {
        MiChangeSpareLeaf(Pfn, Leaf);
    }
}

static inline PFN_NUMBER MiEndOfNode(PFN_NUMBER Pfn, ULONG Shift)
{
    return (Pfn | ((1ull << Shift) - 1)) + 1;
}

// The first frame at or behind Pfn, up to LastPfn, whose slot is in use; what holds nothing is
// stepped over node by node. FALSE: there is none.
static BOOLEAN MiNextUsedSlot(PFN_NUMBER *Pfn, PFN_NUMBER LastPfn, PMI_LEDGER_SLOT *Slot)
{
    while (*Pfn <= LastPfn) {
        const PMI_LEDGER_UPPER Upper = *MiUpperOf(*Pfn);
        const PMI_LEDGER_BRANCH Branch = Upper != NULL ? MiBranchOf(Upper, *Pfn) : NULL;
        if (Branch == NULL || Branch->Lower == NULL) {
            *Pfn = MiEndOfNode(*Pfn, Branch == NULL ? MI_ROOT_SHIFT : MI_UPPER_SHIFT);
            continue;
        }
        const PMI_LEDGER_LEAF Leaf = MiLeafOf(Branch->Lower, *Pfn);
        if (Leaf->UsedCount == 0) {
            *Pfn = MiEndOfNode(*Pfn, MI_LOWER_SHIFT);
            continue;
        }
        *Slot = MiSlotOf(Leaf, *Pfn);
        if ((*Slot)->Word != 0) {
            return TRUE;
        }
        *Pfn += 1;
    }
    return FALSE;
}

//
// Ranges.
//

// The range of Tree that contains a frame of Range, or NULL.
static inline PMI_RANGE_HOLD MiFindRange(MI_CACHE_TYPE CacheType, MI_PFN_RANGE Range)
{
    const RTL_INTERVAL_TREE *Tree = &MiRanges[CacheType];
    PRTL_INTERVAL_NODE Node =
        Tree->Root != NULL ? RtlFirstOverlap(Tree, Range.FirstPfn, Range.LastPfn) : NULL;
    return Node != NULL ? CONTAINING_RECORD(Node, MI_RANGE_HOLD, Node) : NULL;
}

// The first range of another type than CacheType, or NULL.
static inline PMI_RANGE_HOLD MiFindOpposingRange(MI_CACHE_TYPE CacheType, MI_PFN_RANGE Range)
{
    for (ULONG Other = 0; Other < MiCacheTypeCount; Other += 1) {
        if (Other != (ULONG)CacheType) {
            const PMI_RANGE_HOLD Hold = MiFindRange((MI_CACHE_TYPE)Other, Range);
            if (Hold != NULL) {
                return Hold;
            }
        }
    }
    return NULL;
}

static PMI_RANGE_HOLD MiFindRangeOfFrame(PFN_NUMBER Pfn, MI_CACHE_TYPE *CacheType)
{
    for (ULONG Type = 0; Type < MiCacheTypeCount; Type += 1) {
        const PMI_RANGE_HOLD Hold = MiFindRange((MI_CACHE_TYPE)Type, (MI_PFN_RANGE){Pfn, Pfn});
        if (Hold != NULL) {
            *CacheType = (MI_CACHE_TYPE)Type;
            return Hold;
        }
    }
    return NULL;
}

// The first slot of Range that is decided for another type than CacheType, or NULL; *IsAnyOpen:
// whether slots before it are not decided.
static PMI_LEDGER_SLOT MiFindOpposingSlot(MI_CACHE_TYPE CacheType, MI_PFN_RANGE Range,
                                          PBOOLEAN IsAnyOpen)
{
    PMI_LEDGER_SLOT Slot;
    PFN_NUMBER Pfn = Range.FirstPfn;
    *IsAnyOpen = FALSE;
    while (MiNextUsedSlot(&Pfn, Range.LastPfn, &Slot)) {
        if (MiTypeOf(Slot->Word) == MiCacheUndecided) {
            *IsAnyOpen = TRUE;
        } else if (MiTypeOf(Slot->Word) != CacheType) {
            return Slot;
        }
        Pfn += 1;
    }
    return NULL;
}

static VOID MiDecideOpenSlots(const MI_RANGE_HOLD *Hold, MI_PFN_RANGE Range)
{
    PMI_LEDGER_SLOT Slot;
    PFN_NUMBER Pfn = Range.FirstPfn;
    while (MiNextUsedSlot(&Pfn, Range.LastPfn, &Slot)) {
        if (MiTypeOf(Slot->Word) == MiCacheUndecided) {
            *Slot = (MI_LEDGER_SLOT){
                MiSlotWord(MiHoldersOf(Slot->Word), Hold->CacheType, Hold->Time), Hold->Caller};
        }
        Pfn += 1;
    }
}

static VOID MiCountOpposing(MI_CACHE_TYPE CacheType, LONG Change)
{
    for (ULONG Other = 0; Other < MiCacheTypeCount; Other += 1) {
        MiOpposingRangeCount[Other] += Other != (ULONG)CacheType ? (ULONG)Change : 0;
    }
}

static VOID MiRemoveRange(PMI_RANGE_HOLD Hold)
{
    RtlRemoveInterval(&MiRanges[Hold->CacheType], &Hold->Node);
    MiCountOpposing(Hold->CacheType, -1);
    MiIdleRangeCount -= Hold->State == MiRangeIdle;
    Hold->State = MiRangeUnknown;
}

static VOID MiEvictFrom(MI_CACHE_TYPE CacheType, MI_PFN_RANGE Range)
{
    PRTL_INTERVAL_NODE Node = RtlFirstOverlap(&MiRanges[CacheType], Range.FirstPfn, Range.LastPfn);
    while (Node != NULL) {
        const PMI_RANGE_HOLD Hold = CONTAINING_RECORD(Node, MI_RANGE_HOLD, Node);
        Node = RtlNextOverlap(Node, Range.FirstPfn, Range.LastPfn);
        if (Hold->State == MiRangeIdle) {
            MiRemoveRange(Hold);
            Node = RtlFirstOverlap(&MiRanges[CacheType], Range.FirstPfn, Range.LastPfn);
        }
    }
}

// Forgets the idle ranges that overlap Range: whoever asks about frames meets holders only.
static inline VOID MiEvictIdleRanges(MI_PFN_RANGE Range)
{
    for (ULONG Type = 0; MiIdleRangeCount != 0 && Type < MiCacheTypeCount; Type += 1) {
        MiEvictFrom((MI_CACHE_TYPE)Type, Range);
    }
}

static NTSTATUS MiInsertRange(PMI_RANGE_HOLD Hold, MI_PFN_RANGE Range)
{
    BOOLEAN IsAnyOpen;
    MiEvictIdleRanges(Range);
    if (MiFindOpposingRange(Hold->CacheType, Range) != NULL ||
        MiFindOpposingSlot(Hold->CacheType, Range, &IsAnyOpen) != NULL) {
        return STATUS_CONFLICTING_ADDRESSES;
    }
    RtlInsertInterval(&MiRanges[Hold->CacheType], &Hold->Node);
    MiCountOpposing(Hold->CacheType, 1);
    if (IsAnyOpen) {
        MiDecideOpenSlots(Hold, Range);
    }
    Hold->State = MiRangeHeld;
    return STATUS_SUCCESS;
}

NTSTATUS MiHoldRange(PMI_RANGE_HOLD Hold, MI_PFN_RANGE Range, MI_CACHE_TYPE CacheType, PVOID Caller)
{
    const KIRQL OldIrql = MiLockLedger();
    if (Hold->State == MiRangeIdle) {
        MiRemoveRange(Hold);
    }
    Hold->Node.First = Range.FirstPfn;
    Hold->Node.Last = Range.LastPfn;
    Hold->CacheType = CacheType;
    Hold->Caller = Caller;
    Hold->Time = KeTickCycles;
    const NTSTATUS Status = MiInsertRange(Hold, Range);
    MiUnlockLedger(OldIrql);
    return Status;
}

VOID MiForgetRange(PMI_RANGE_HOLD Hold)
{
    const KIRQL OldIrql = MiLockLedger();
    if (Hold->State == MiRangeIdle) {
        MiRemoveRange(Hold);
    }
    MiUnlockLedger(OldIrql);
}

//
// Frames.
//

// Adds a holder to a frame that agrees. A frame of a range takes the range's type over.
static inline VOID MiHoldSlot(PFN_NUMBER Pfn, PMI_LEDGER_LEAF Leaf, MI_CACHE_TYPE CacheType,
                              PVOID Caller, ULONG64 Time)
{
    const PMI_LEDGER_SLOT Slot = MiSlotOf(Leaf, Pfn);
    if (Slot->Word == 0) {
        Leaf->UsedCount += 1;
        const PMI_RANGE_HOLD Range =
            CacheType == MiCacheUndecided ? MiFindRangeOfFrame(Pfn, &CacheType) : NULL;
        if (Range != NULL) {
            Caller = Range->Caller;
            Time = Range->Time;
        }
        *Slot = (MI_LEDGER_SLOT){MiSlotWord(1, CacheType, Time), Caller};
    } else if (MiTypeOf(Slot->Word) == MiCacheUndecided && CacheType != MiCacheUndecided) {
        *Slot = (MI_LEDGER_SLOT){MiSlotWord(MiHoldersOf(Slot->Word) + 1, CacheType, Time), Caller};
    } else {
        Slot->Word += 1;
    }
}

// Whether the ranges agree that frames of Range have CacheType.
static inline BOOLEAN MiAreRangesAgreed(MI_PFN_RANGE Range, MI_CACHE_TYPE CacheType)
{
    return CacheType == MiCacheUndecided || MiFindOpposingRange(CacheType, Range) == NULL;
}

// The frames from Pfn on that are in Range and in one leaf.
static inline MI_PFN_RANGE MiPartInLeaf(PFN_NUMBER Pfn, MI_PFN_RANGE Range)
{
    const PFN_NUMBER EndPfn = MiEndOfNode(Pfn, MI_LOWER_SHIFT);
    return (MI_PFN_RANGE){Pfn, EndPfn - 1 < Range.LastPfn ? EndPfn - 1 : Range.LastPfn};
}

static inline BOOLEAN MiIsSlotAgainst(const MI_LEDGER_SLOT *Slot, MI_CACHE_TYPE CacheType)
{
    return Slot->Word != 0 && MiTypeOf(Slot->Word) != CacheType &&
           MiTypeOf(Slot->Word) != MiCacheUndecided && CacheType != MiCacheUndecided;
}

// What MiHoldFrames would answer for frames of one leaf, which it makes.
static NTSTATUS MiPrepareLeaf(MI_PFN_RANGE Part, MI_CACHE_TYPE CacheType)
{
    const PMI_LEDGER_LEAF Leaf = MiMakeLeaf(Part.FirstPfn);
    if (Leaf == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    for (PFN_NUMBER Pfn = Part.FirstPfn; Pfn <= Part.LastPfn; Pfn += 1) {
        if (MiIsSlotAgainst(MiSlotOf(Leaf, Pfn), CacheType)) {
            return STATUS_CONFLICTING_ADDRESSES;
        }
    }
    return STATUS_SUCCESS;
}

static NTSTATUS MiPrepareFrames(MI_PFN_RANGE Range, MI_CACHE_TYPE CacheType)
{
    MiEvictIdleRanges(Range);
    NTSTATUS Status =
        MiAreRangesAgreed(Range, CacheType) ? STATUS_SUCCESS : STATUS_CONFLICTING_ADDRESSES;
    PFN_NUMBER Pfn = Range.FirstPfn;
    while (NT_SUCCESS(Status) && Pfn <= Range.LastPfn) {
        const MI_PFN_RANGE Part = MiPartInLeaf(Pfn, Range);
        Status = MiPrepareLeaf(Part, CacheType);
        Pfn = Part.LastPfn + 1;
    }
    return Status;
}

static VOID MiHoldLeaf(MI_PFN_RANGE Part, MI_CACHE_TYPE CacheType, PVOID Caller, ULONG64 Time)
{
    const PMI_LEDGER_LEAF Leaf = MiFindLeaf(Part.FirstPfn);
    for (PFN_NUMBER Pfn = Part.FirstPfn; Pfn <= Part.LastPfn; Pfn += 1) {
        MiHoldSlot(Pfn, Leaf, CacheType, Caller, Time);
    }
}

// So many that interrupts may be off meanwhile.
#define MI_QUICK_FRAMES 32

static BOOLEAN MiAreFewInOneLeaf(MI_PFN_RANGE Range)
{
    return MiRangePageCount(Range) <= MI_QUICK_FRAMES &&
           Range.FirstPfn >> MI_LEAF_BITS == Range.LastPfn >> MI_LEAF_BITS;
}

static VOID MiDropHoldersQuickly(PMI_LEDGER_LEAF Leaf, PFN_NUMBER FirstPfn, PFN_NUMBER EndPfn)
{
    for (PFN_NUMBER Pfn = FirstPfn; Pfn < EndPfn; Pfn += 1) {
        MiDropHolderQuickly(Leaf, Pfn);
    }
}

// The short way for few frames of one leaf. FALSE: this takes more than a look at their slots; nothing was done.
static BOOLEAN MiHoldFramesQuickly(MI_PFN_RANGE Range, MI_CACHE_TYPE CacheType, PVOID Caller,
                                   ULONG64 Time)
{
    if (!MiAreShortWaysOpen() || CacheType == MiCacheUndecided || !MiAreFewInOneLeaf(Range)) {
        return FALSE;
    }
    const PMI_PROCESSOR_CACHE Cache = MiThisCache();
    const ULONG64 Flags = KiAcquireBriefLock(&Cache->Lock);
    const PMI_LEDGER_LEAF Leaf = MiIsLedgerOpen() ? MiFindLeafQuickly(Cache, Range.FirstPfn) : NULL;
    PFN_NUMBER Pfn = Range.FirstPfn;
    while (Leaf != NULL && Pfn <= Range.LastPfn &&
           MiAddHolderQuickly(Leaf, Pfn, CacheType, Caller, Time)) {
        Pfn += 1;
    }
    const BOOLEAN AreHeld = Pfn > Range.LastPfn;
    if (!AreHeld) {
        MiDropHoldersQuickly(Leaf, Range.FirstPfn, Pfn);
    }
    KiReleaseBriefLock(&Cache->Lock, Flags);
    return AreHeld;
}

NTSTATUS MiHoldFrames(MI_PFN_RANGE Range, MI_CACHE_TYPE CacheType, PVOID Caller)
{
    const ULONG64 Time = KeTickCycles;
    if (MiHoldFramesQuickly(Range, CacheType, Caller, Time)) {
        return STATUS_SUCCESS;
    }
    const KIRQL OldIrql = MiLockLedger();
    const NTSTATUS Status = MiPrepareFrames(Range, CacheType);
    PFN_NUMBER Pfn = Range.FirstPfn;
    while (NT_SUCCESS(Status) && Pfn <= Range.LastPfn) {
        const MI_PFN_RANGE Part = MiPartInLeaf(Pfn, Range);
        MiHoldLeaf(Part, CacheType, Caller, Time);
        Pfn = Part.LastPfn + 1;
    }
    MiUnlockLedger(OldIrql);
    return Status;
}

DECLSPEC_NORETURN static VOID MiStopUnheldFrame(MI_PFN_RANGE Range, PFN_NUMBER Pfn, BOOLEAN HasLeaf)
{
    MiBugCheck(MEMORY_MANAGEMENT, HasLeaf ? 0x6194A : 0x61948, Range.FirstPfn,
               HasLeaf ? Range.LastPfn : MiRangePageCount(Range), Pfn,
               "I/O frames 0x%llx-0x%llx are given back, but nobody holds frame 0x%llx",
               Range.FirstPfn, Range.LastPfn, Pfn);
}

static VOID MiReleaseLeaf(MI_PFN_RANGE Part, MI_PFN_RANGE Range)
{
    const PMI_LEDGER_LEAF Leaf = MiFindLeaf(Part.FirstPfn);
    for (PFN_NUMBER Pfn = Part.FirstPfn; Pfn <= Part.LastPfn; Pfn += 1) {
        const PMI_LEDGER_SLOT Slot = Leaf != NULL ? MiSlotOf(Leaf, Pfn) : NULL;
        if (Slot == NULL || Slot->Word == 0) {
            MiStopUnheldFrame(Range, Pfn, Leaf != NULL);
        }
        MiDropHolder(Pfn, Leaf);
    }
}

static BOOLEAN MiAreHeld(PMI_LEDGER_LEAF Leaf, MI_PFN_RANGE Range)
{
    PFN_NUMBER Pfn = Range.FirstPfn;
    while (Pfn <= Range.LastPfn &&
           __atomic_load_n(&MiSlotOf(Leaf, Pfn)->Word, __ATOMIC_RELAXED) != 0) {
        Pfn += 1;
    }
    return Pfn > Range.LastPfn;
}

// As MiHoldFramesQuickly.
static BOOLEAN MiReleaseFramesQuickly(MI_PFN_RANGE Range)
{
    if (!MiAreShortWaysOpen() || !MiAreFewInOneLeaf(Range)) {
        return FALSE;
    }
    const PMI_PROCESSOR_CACHE Cache = MiThisCache();
    const ULONG64 Flags = KiAcquireBriefLock(&Cache->Lock);
    const PMI_LEDGER_LEAF Leaf = MiIsLedgerOpen() ? MiFindLeafQuickly(Cache, Range.FirstPfn) : NULL;
    const BOOLEAN MayRelease = Leaf != NULL &&
                               MiMayDropQuickly(Cache, Leaf, MiRangePageCount(Range)) &&
                               MiAreHeld(Leaf, Range);
    if (MayRelease) {
        MiDropHoldersQuickly(Leaf, Range.FirstPfn, Range.LastPfn + 1);
    }
    KiReleaseBriefLock(&Cache->Lock, Flags);
    return MayRelease;
}

VOID MiReleaseFrames(MI_PFN_RANGE Range)
{
    if (Range.LastPfn > MiHighestPfn()) {
        MiStopUnheldFrame(Range, Range.LastPfn, FALSE);
    }
    if (MiReleaseFramesQuickly(Range)) {
        return;
    }
    const KIRQL OldIrql = MiLockLedger();
    PFN_NUMBER Pfn = Range.FirstPfn;
    while (Pfn <= Range.LastPfn) {
        const MI_PFN_RANGE Part = MiPartInLeaf(Pfn, Range);
        MiReleaseLeaf(Part, Range);
        Pfn = Part.LastPfn + 1;
    }
    MiUnlockLedger(OldIrql);
}

//
// Ask and decide.
//

// What is known of one frame: its type, and who has it. FALSE: nobody holds it.
static BOOLEAN MiLookUpFrame(PFN_NUMBER Pfn, PMI_CACHE_OWNER Owner)
{
    const PMI_LEDGER_LEAF Leaf = MiFindLeaf(Pfn);
    const PMI_LEDGER_SLOT Slot = Leaf != NULL ? MiSlotOf(Leaf, Pfn) : NULL;
    if (Slot != NULL && Slot->Word != 0) {
        *Owner = (MI_CACHE_OWNER){MiTypeOf(Slot->Word), Slot->Caller, MiTimeOf(Slot->Word)};
        return TRUE;
    }
    MI_CACHE_TYPE CacheType = MiCacheUndecided;
    const PMI_RANGE_HOLD Hold = MiFindRangeOfFrame(Pfn, &CacheType);
    if (Hold != NULL) {
        *Owner = (MI_CACHE_OWNER){CacheType, Hold->Caller, Hold->Time};
    }
    return Hold != NULL;
}

BOOLEAN MiQueryFrame(PFN_NUMBER Pfn, PMI_CACHE_OWNER Owner)
{
    const KIRQL OldIrql = MiLockLedger();
    MiEvictIdleRanges((MI_PFN_RANGE){Pfn, Pfn});
    const BOOLEAN IsHeld = MiLookUpFrame(Pfn, Owner);
    MiUnlockLedger(OldIrql);
    return IsHeld;
}

MI_CACHE_TYPE MiDecideIoCacheType(PFN_NUMBER Pfn, MI_CACHE_TYPE Requested, PVOID Caller)
{
    MI_CACHE_OWNER Owner = {Requested, NULL, 0};
    const KIRQL OldIrql = MiLockLedger();
    MiEvictIdleRanges((MI_PFN_RANGE){Pfn, Pfn});
    (VOID) MiLookUpFrame(Pfn, &Owner);
    if (Owner.CacheType == MiCacheUndecided) {
        const PMI_LEDGER_SLOT Slot = MiSlotOf(MiFindLeaf(Pfn), Pfn);
        *Slot =
            (MI_LEDGER_SLOT){MiSlotWord(MiHoldersOf(Slot->Word), Requested, KeTickCycles), Caller};
        Owner.CacheType = Requested;
    }
    MiUnlockLedger(OldIrql);
    if (Owner.CacheType != MiCacheUncached) {
        MiForgetTypes();
    }
    return Owner.CacheType;
}

BOOLEAN MiFindCacheOwner(MI_PFN_RANGE Range, MI_CACHE_TYPE Except, PMI_CACHE_OWNER Owner)
{
    BOOLEAN IsAnyOpen;
    const KIRQL OldIrql = MiLockLedger();
    MiEvictIdleRanges(Range);
    const PMI_LEDGER_SLOT Slot = MiFindOpposingSlot(Except, Range, &IsAnyOpen);
    const PMI_RANGE_HOLD Hold = Slot == NULL ? MiFindOpposingRange(Except, Range) : NULL;
    if (Slot != NULL) {
        *Owner = (MI_CACHE_OWNER){MiTypeOf(Slot->Word), Slot->Caller, MiTimeOf(Slot->Word)};
    } else if (Hold != NULL) {
        *Owner = (MI_CACHE_OWNER){Hold->CacheType, Hold->Caller, Hold->Time};
    }
    MiUnlockLedger(OldIrql);
    return Slot != NULL || Hold != NULL;
}

//
// Counting, checking, trimming: all nodes, from the root down.
//

// Calls Routine for every leaf that has slots; FirstPfn is the frame of the first one.
typedef VOID MI_LEAF_VISITOR(PMI_LEDGER_LEAF Leaf, PFN_NUMBER FirstPfn, PVOID Context);

static VOID MiVisitLower(PMI_LEDGER_LOWER Lower, PFN_NUMBER FirstPfn, MI_LEAF_VISITOR *Routine,
                         PVOID Context)
{
    for (ULONG Index = 0; Index < MI_LOWER_ENTRIES; Index += 1) {
        if (Lower->Leaves[Index].Slots != NULL) {
            Routine(&Lower->Leaves[Index], FirstPfn + ((PFN_NUMBER)Index << MI_LOWER_SHIFT),
                    Context);
        }
    }
}

static VOID MiVisitLeaves(MI_LEAF_VISITOR *Routine, PVOID Context)
{
    for (PFN_NUMBER Root = 0; Root < MiLedgerRootEntries; Root += 1) {
        const PMI_LEDGER_UPPER Upper = MiLedgerRoot[Root];
        for (ULONG Index = 0; Upper != NULL && Index < MI_UPPER_ENTRIES; Index += 1) {
            if (Upper->Branches[Index].Lower != NULL) {
                MiVisitLower(Upper->Branches[Index].Lower,
                             Root << MI_ROOT_SHIFT | (PFN_NUMBER)Index << MI_UPPER_SHIFT, Routine,
                             Context);
            }
        }
    }
}

static VOID MiFreeLeafIfEmpty(PMI_LEDGER_LEAF Leaf, PFN_NUMBER FirstPfn, PVOID Context)
{
    UNREFERENCED_PARAMETER(FirstPfn);
    UNREFERENCED_PARAMETER(Context);
    if (Leaf->UsedCount == 0) {
        MiFreeLeafSlots(Leaf);
    }
}

// Frees Lower when none of its leaves has slots, and Upper when nothing is below it.
static VOID MiFreeLowerIfEmpty(PMI_LEDGER_LOWER *Lower)
{
    ULONG Index = 0;
    while (Index < MI_LOWER_ENTRIES && (*Lower)->Leaves[Index].Slots == NULL) {
        Index += 1;
    }
    if (Index == MI_LOWER_ENTRIES) {
        MiFreeNode(*Lower);
        *Lower = NULL;
    }
}

static VOID MiTrimUpper(PMI_LEDGER_UPPER *Upper)
{
    ULONG UsedCount = 0;
    for (ULONG Index = 0; Index < MI_UPPER_ENTRIES; Index += 1) {
        if ((*Upper)->Branches[Index].Lower != NULL) {
            MiFreeLowerIfEmpty(&(*Upper)->Branches[Index].Lower);
        }
        UsedCount += (*Upper)->Branches[Index].Lower != NULL;
    }
    if (UsedCount == 0) {
        MiFreeNode(*Upper);
        *Upper = NULL;
    }
}

VOID MiTrimLedger(VOID)
{
    const KIRQL OldIrql = MiLockLedger();
    for (ULONG Number = 0; Number < MI_ARCH_PROCESSORS; Number += 1) {
        MiCaches[Number].SpareLeaf = NULL;
        MiCaches[Number].SpareNumber = MAXULONG64;
    }
    MiVisitLeaves(MiFreeLeafIfEmpty, NULL);
    for (PFN_NUMBER Root = 0; Root < MiLedgerRootEntries; Root += 1) {
        if (MiLedgerRoot[Root] != NULL) {
            MiTrimUpper(&MiLedgerRoot[Root]);
        }
    }
    MiUnlockLedger(OldIrql);
}

static VOID MiCountUsedSlots(PMI_LEDGER_LEAF Leaf, PFN_NUMBER FirstPfn, PVOID Context)
{
    UNREFERENCED_PARAMETER(FirstPfn);
    *(ULONG64 *)Context += Leaf->UsedCount;
}

ULONG64 MiLedgerUsedCount(VOID)
{
    ULONG64 Count = 0;
    MiVisitLeaves(MiCountUsedSlots, &Count);
    for (ULONG Type = 0; Type < MiCacheTypeCount; Type += 1) {
        Count += MiRanges[Type].NodeCount;
    }
    return Count - MiIdleRangeCount;
}

static BOOLEAN MiIsSlotConsistent(PFN_NUMBER Pfn, const MI_LEDGER_SLOT *Slot)
{
    MI_REASON Reason;
    MI_CACHE_TYPE OfRange = MiCacheUndecided;
    if (MiHoldersOf(Slot->Word) == 0) {
        return Slot->Word == 0;
    }
    return MiIsIoSpace((MI_PFN_RANGE){Pfn, Pfn}, &Reason) &&
           (MiFindRangeOfFrame(Pfn, &OfRange) == NULL || MiTypeOf(Slot->Word) == OfRange);
}

typedef struct _MI_LEDGER_FINDINGS {
    ULONG64 HolderCount;
    BOOLEAN IsConsistent;
} MI_LEDGER_FINDINGS;

// C1 to C4 of one leaf.
static VOID MiCheckLeaf(PMI_LEDGER_LEAF Leaf, PFN_NUMBER FirstPfn, PVOID Context)
{
    MI_LEDGER_FINDINGS *Findings = Context;
    ULONG64 UsedCount = 0;
    for (ULONG Index = 0; Index < MI_LEAF_SLOTS; Index += 1) {
        const MI_LEDGER_SLOT *Slot = &Leaf->Slots[Index];
        UsedCount += Slot->Word != 0;
        Findings->HolderCount += MiHoldersOf(Slot->Word);
        if (!MiIsSlotConsistent(FirstPfn + Index, Slot)) {
            Findings->IsConsistent = FALSE;
        }
    }
    if (Leaf->UsedCount != UsedCount) {
        Findings->IsConsistent = FALSE;
    }
}

static BOOLEAN MiAreRangesConsistent(MI_CACHE_TYPE CacheType)
{
    if (!RtlVerifyIntervalTree(&MiRanges[CacheType])) {
        return FALSE;
    }
    for (PRTL_INTERVAL_NODE Node = RtlFirstInterval(&MiRanges[CacheType]); Node != NULL;
         Node = RtlNextInterval(Node)) {
        const MI_PFN_RANGE Range = {Node->First, Node->Last};
        MI_REASON Reason;
        BOOLEAN IsAnyOpen;
        if (!MiIsIoSpace(Range, &Reason) || MiFindOpposingRange(CacheType, Range) != NULL ||
            MiFindOpposingSlot(CacheType, Range, &IsAnyOpen) != NULL || IsAnyOpen) {
            return FALSE;
        }
    }
    return TRUE;
}

BOOLEAN MiIsLedgerConsistent(ULONG64 *FrameHolders, ULONG64 *RangeHolders)
{
    MI_LEDGER_FINDINGS Findings = {0, TRUE};
    MiVisitLeaves(MiCheckLeaf, &Findings);
    *FrameHolders = Findings.HolderCount;
    *RangeHolders = 0;
    for (ULONG Type = 0; Type < MiCacheTypeCount; Type += 1) {
        Findings.IsConsistent = Findings.IsConsistent && MiAreRangesConsistent((MI_CACHE_TYPE)Type);
        *RangeHolders += MiRanges[Type].NodeCount;
    }
    *RangeHolders -= MiIdleRangeCount;
    return Findings.IsConsistent;
}
