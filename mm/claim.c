// Claims: who owns which part of physical I/O space. The physical-range allocator.
//
// The kernel claims what it finds: each BAR of each PCI function, the configuration window, the
// APICs. A claim is exclusive. RAM cannot be claimed because it is not I/O space, and that is all
// the code there is about it: the physical map answers.
//
// Ownership says nothing about mappings: a driver maps its BAR, or a part of it, without asking who
// claimed it, as on NT. The owner's name is told when something is refused.
//
// Invariant (checked by MmVerify):
//   O1  Claims are disjoint, and none contains RAM that the operating system owns.
// Lock: MiClaimLock.
#include "kernel/inc/checked.h"
#include "mm/mi.h"

typedef struct _MI_CLAIM {
    RTL_INTERVAL_NODE Node; // frames; first member
    CHAR Owner[MI_CLAIM_NAME_CHARS];
} MI_CLAIM, *PMI_CLAIM;

static KI_LOCK MiClaimLock = KI_LOCK_INITIALIZER(MI_RANK_CLAIM, "MiClaimLock");
static RTL_INTERVAL_TREE MiClaims = RTL_INTERVAL_TREE_INITIALIZER;

static PMI_CLAIM MiClaimOf(PRTL_INTERVAL_NODE Node)
{
    return CONTAINING_RECORD(Node, MI_CLAIM, Node);
}

// Which kinds of physical memory a claim may lie in, and the words for the others.
static const struct {
    BOOLEAN ForDevice;
    BOOLEAN ForFirmware;
    MI_REASON Reason;
} MiClaimable[] = {
    [MiPhysicalIoSpace] = {TRUE, TRUE, MiReasonCount},
    [MiPhysicalRam] = {FALSE, FALSE, MiReasonRam},
    [MiPhysicalAcpi] = {FALSE, FALSE, MiReasonFirmware},
    [MiPhysicalNvs] = {FALSE, FALSE, MiReasonFirmware},
    [MiPhysicalFirmware] = {FALSE, TRUE, MiReasonFirmware},
    [MiPhysicalBad] = {FALSE, FALSE, MiReasonBadMemory},
};
C_ASSERT(ARRAYSIZE(MiClaimable) == MiPhysicalKindCount);

static BOOLEAN MiIsKindClaimable(MI_PHYSICAL_KIND Kind, MM_CLAIM_KIND ClaimKind)
{
    return ClaimKind == MmClaimFirmware ? MiClaimable[Kind].ForFirmware
                                        : MiClaimable[Kind].ForDevice;
}

// Whether the machine lets Range be claimed. *Obstacle: the last frame of what is in the way.
static BOOLEAN MiIsClaimable(MI_PFN_RANGE Range, MM_CLAIM_KIND ClaimKind, MI_REASON *Reason,
                             PFN_NUMBER *Obstacle)
{
    PFN_NUMBER LastPfn;
    for (PFN_NUMBER Pfn = Range.FirstPfn; Pfn <= Range.LastPfn; Pfn = LastPfn + 1) {
        const MI_PHYSICAL_KIND Kind = MiPhysicalKindOf(Pfn, &LastPfn);
        if (!MiIsKindClaimable(Kind, ClaimKind)) {
            *Reason = MiPfnState(Pfn) == MiPfnTable ? MiReasonPageTable : MiClaimable[Kind].Reason;
            *Obstacle = LastPfn;
            return FALSE;
        }
    }
    return TRUE;
}

static PMI_CLAIM MiNewClaim(const CHAR *Owner)
{
    PMI_CLAIM Claim = MiAllocatePool(sizeof(MI_CLAIM), 'mlCM');
    if (Claim != NULL) {
        RtlCopyString(Claim->Owner, sizeof(Claim->Owner), Owner);
    }
    return Claim;
}

// Inserts Claim unless somebody holds a part of Range, who is returned then.
static PMI_CLAIM MiInsertClaim(PMI_CLAIM Claim, MI_PFN_RANGE Range)
{
    const KIRQL OldIrql = KiAcquireLock(&MiClaimLock);
    PRTL_INTERVAL_NODE Holder = RtlFirstOverlap(&MiClaims, Range.FirstPfn, Range.LastPfn);
    if (Holder == NULL) {
        Claim->Node.First = Range.FirstPfn;
        Claim->Node.Last = Range.LastPfn;
        RtlInsertInterval(&MiClaims, &Claim->Node);
    }
    KiReleaseLock(&MiClaimLock, OldIrql);
    return Holder != NULL ? MiClaimOf(Holder) : NULL;
}

NTSTATUS MmClaimPhysicalRange(PHYSICAL_ADDRESS Base, ULONG64 ByteCount, MM_CLAIM_KIND Kind,
                              const CHAR *Owner, PMM_CLAIM *Claim)
{
    MI_PFN_RANGE Range;
    MI_REASON Reason;
    PFN_NUMBER Obstacle;
    if (!MiRangeFromBytes((ULONG64)Base.QuadPart, ByteCount, &Range, &Reason)) {
        MiRefusePlain(__func__, Reason);
        return STATUS_INVALID_PARAMETER;
    }
    if (!MiIsClaimable(Range, Kind, &Reason, &Obstacle)) {
        MiRefuse(__func__, Reason, Range, NULL);
        return STATUS_CONFLICTING_ADDRESSES;
    }
    PMI_CLAIM New = MiNewClaim(Owner);
    if (New == NULL) {
        MiRefuse(__func__, MiReasonResources, Range, NULL);
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    const PMI_CLAIM Holder = MiInsertClaim(New, Range);
    if (Holder != NULL) {
        MiRefuse(__func__, MiReasonClaimed, Range, Holder->Owner);
        MiFreePool(New);
        return STATUS_CONFLICTING_ADDRESSES;
    }
    *Claim = New;
    return STATUS_SUCCESS;
}

// Moves Candidate up behind what is in its way. FALSE: nothing is.
static BOOLEAN MiSkipObstacle(MI_PFN_RANGE Candidate, PFN_NUMBER *NextPfn)
{
    MI_REASON Reason;
    if (!MiIsClaimable(Candidate, MmClaimDevice, &Reason, NextPfn)) {
        *NextPfn += 1;
        return TRUE;
    }
    const KIRQL OldIrql = KiAcquireLock(&MiClaimLock);
    PRTL_INTERVAL_NODE Holder = RtlFirstOverlap(&MiClaims, Candidate.FirstPfn, Candidate.LastPfn);
    if (Holder != NULL) {
        *NextPfn = Holder->Last + 1;
    }
    KiReleaseLock(&MiClaimLock, OldIrql);
    return Holder != NULL;
}

// The lowest free range of PageCount frames within Window. FALSE: there is none.
static BOOLEAN MiFindFreeRange(PFN_NUMBER PageCount, PFN_NUMBER AlignmentPages, MI_PFN_RANGE Window,
                               MI_PFN_RANGE *Found)
{
    PFN_NUMBER FirstPfn = Window.FirstPfn;
    for (;;) {
        FirstPfn = (FirstPfn + AlignmentPages - 1) & ~(AlignmentPages - 1);
        if (FirstPfn > Window.LastPfn || PageCount - 1 > Window.LastPfn - FirstPfn) {
            return FALSE;
        }
        *Found = (MI_PFN_RANGE){FirstPfn, FirstPfn + PageCount - 1};
        if (!MiSkipObstacle(*Found, &FirstPfn)) {
            return TRUE;
        }
    }
}

static BOOLEAN MiWindowFromBytes(ULONG64 LowestAddress, ULONG64 HighestAddress,
                                 MI_PFN_RANGE *Window)
{
    ULONG64 FirstAddress;
    ULONG64 EndAddress;
    if (!RtlAlignUpChecked64(LowestAddress, PAGE_SIZE, &FirstAddress)) {
        return FALSE;
    }
    const ULONG64 TopAddress = (MiHighestPfn() << PAGE_SHIFT) + (PAGE_SIZE - 1);
    EndAddress = HighestAddress < TopAddress ? HighestAddress + 1 : TopAddress + 1;
    if (FirstAddress >= EndAddress || EndAddress - FirstAddress < PAGE_SIZE) {
        return FALSE;
    }
    *Window = (MI_PFN_RANGE){FirstAddress >> PAGE_SHIFT, (EndAddress >> PAGE_SHIFT) - 1};
    return TRUE;
}

NTSTATUS MmPlacePhysicalRange(ULONG64 ByteCount, ULONG64 Alignment, ULONG64 LowestAddress,
                              ULONG64 HighestAddress, const CHAR *Owner, PPHYSICAL_ADDRESS Base,
                              PMM_CLAIM *Claim)
{
    MI_PFN_RANGE Window;
    MI_PFN_RANGE Range;
    MI_REASON Reason;
    if (!MiRangeFromBytes(0, ByteCount, &Range, &Reason) || Alignment < PAGE_SIZE ||
        !RtlIsPowerOfTwo64(Alignment) ||
        !MiWindowFromBytes(LowestAddress, HighestAddress, &Window)) {
        MiRefusePlain(__func__, ByteCount == 0 ? MiReasonZeroBytes : MiReasonAlignment);
        return STATUS_INVALID_PARAMETER;
    }
    PMI_CLAIM New = MiNewClaim(Owner);
    if (New == NULL) {
        MiRefusePlain(__func__, MiReasonResources);
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    // Somebody may take the range between the search and the insertion; then the search goes on.
    do {
        if (!MiFindFreeRange(MiRangePageCount(Range), Alignment >> PAGE_SHIFT, Window, &Range)) {
            MiRefuse(__func__, MiReasonNoSpace, Window, NULL);
            MiFreePool(New);
            return STATUS_CONFLICTING_ADDRESSES;
        }
    } while (MiInsertClaim(New, Range) != NULL);
    Base->QuadPart = (LONG64)(Range.FirstPfn << PAGE_SHIFT);
    *Claim = New;
    return STATUS_SUCCESS;
}

VOID MmReleasePhysicalRange(PMM_CLAIM Claim)
{
    const KIRQL OldIrql = KiAcquireLock(&MiClaimLock);
    RtlRemoveInterval(&MiClaims, &Claim->Node);
    KiReleaseLock(&MiClaimLock, OldIrql);
    MiFreePool(Claim);
}

BOOLEAN MiDescribeClaim(MI_PFN_RANGE Range, PCHAR Name, SIZE_T ByteCount)
{
    const KIRQL OldIrql = KiAcquireLock(&MiClaimLock);
    PRTL_INTERVAL_NODE Holder = RtlFirstOverlap(&MiClaims, Range.FirstPfn, Range.LastPfn);
    if (Holder != NULL) {
        RtlCopyString(Name, ByteCount, MiClaimOf(Holder)->Owner);
    }
    KiReleaseLock(&MiClaimLock, OldIrql);
    return Holder != NULL;
}

ULONG64 MiClaimCount(VOID)
{
    return MiClaims.NodeCount;
}

BOOLEAN MiAreClaimsConsistent(VOID)
{
    if (!RtlVerifyIntervalTree(&MiClaims)) {
        return FALSE;
    }
    PFN_NUMBER NextPfn = 0;
    for (PRTL_INTERVAL_NODE Node = RtlFirstInterval(&MiClaims); Node != NULL;
         Node = RtlNextInterval(Node)) {
        MI_REASON Reason;
        PFN_NUMBER Obstacle;
        if (Node->First < NextPfn || !MiIsClaimable((MI_PFN_RANGE){Node->First, Node->Last},
                                                    MmClaimFirmware, &Reason, &Obstacle)) {
            return FALSE;
        }
        NextPfn = Node->Last + 1;
    }
    return TRUE;
}
