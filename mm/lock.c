// Locked pages: MmProbeAndLockPages and its variants, MmUnlockPages.
//
// Nothing is paged here, so a page of the kernel stays where it is in any case. What a lock adds: its
// frame can't be freed. A driver that frees a buffer while a device still writes to it stops the
// machine (PFN_LIST_CORRUPT 0x9A), instead of corrupting whoever gets the frame next.
//
//   probe   each page is there, and for this access      fails without a trace
//   hold    I/O frames, in the ledger                    fails without a trace
//   count   LockCount of each frame of RAM               can't fail
//   mark    flags, and the seal that says who counted
//
// Every failure is a raise. There is no user mode, so every address outside of the kernel's regions
// is one that is not there.
//
// Invariant (checked by MmVerify):
//   L1  MiLockedPages is the sum of all LockCounts.
// Lock: none. Counts change by atomic instructions, because several MDLs may lock one frame at a time;
// the MDL is its caller's.
#include "mm/mi.h"

static ULONG64 MiLockedPages;

ULONG64 MiLockedPageCount(VOID)
{
    return __atomic_load_n(&MiLockedPages, __ATOMIC_RELAXED);
}

BOOLEAN MiAreLocksConsistent(ULONG64 CountedLocks)
{
    return CountedLocks == MiLockedPageCount();
}

//
// Probe.
//

// Where the pages are: side by side, or each where its element says.
typedef struct _MI_LOCK_SOURCE {
    ULONG_PTR FirstVa;
    const FILE_SEGMENT_ELEMENT *Elements; // NULL: side by side
} MI_LOCK_SOURCE;

static ULONG_PTR MiPageOfSource(const MI_LOCK_SOURCE *Source, PFN_NUMBER Page)
{
    return Source->Elements != NULL ? (ULONG_PTR)Source->Elements[Page].Buffer
                                    : Source->FirstVa + (Page << PAGE_SHIFT);
}

static const struct {
    BOOLEAN Read;
    BOOLEAN Write;
} MiAllowed[MiAccessCount] = {
    [MiAccessRead] = {TRUE, FALSE},
    [MiAccessReadWrite] = {TRUE, TRUE},
    [MiAccessExecute] = {FALSE, FALSE},
    [MiAccessExecuteRead] = {TRUE, FALSE},
    [MiAccessExecuteReadWrite] = {TRUE, TRUE},
};

static BOOLEAN MiIsKernelAddress(ULONG_PTR Va)
{
    return Va >= MiArchLayout[MiRegionDirectMap].BaseVa && MiArchIsCanonical(Va);
}

// The direct map also shows what belongs to nobody, or to the page tables.
static BOOLEAN MiIsLockableFrame(PFN_NUMBER Pfn)
{
    const MI_PFN_STATE State = MiPfnState(Pfn);
    return !MiIsFree(State) && State != MiPfnTable &&
           (State == MiPfnNotRam || MiPfnElement(Pfn)->LockCount != MAXULONG);
}

// Whether the page may be locked for the operation. Its frame goes to *Pfn.
static BOOLEAN MiProbePage(ULONG_PTR Va, LOCK_OPERATION Operation, PPFN_NUMBER Pfn)
{
    MI_PROTECTION Protection;
    if (!MiIsKernelAddress(Va) || !MiTranslateWithProtection(Va, Pfn, &Protection)) {
        return FALSE;
    }
    return MiIsLockableFrame(*Pfn) &&
           (Operation == IoReadAccess ? MiAllowed[Protection.Access].Read
                                      : MiAllowed[Protection.Access].Write);
}

// Fills Pfns. On failure they are all zero.
static NTSTATUS MiProbePages(const MI_LOCK_SOURCE *Source, LOCK_OPERATION Operation,
                             PPFN_NUMBER Pfns, PFN_NUMBER PageCount)
{
    for (PFN_NUMBER Page = 0; Page < PageCount; Page += 1) {
        const ULONG_PTR Va = MiPageOfSource(Source, Page);
        const BOOLEAN IsAligned = BYTE_OFFSET(Va) == 0;
        if (!IsAligned || !MiProbePage(Va, Operation, &Pfns[Page])) {
            RtlZeroMemory(Pfns, PageCount * sizeof(PFN_NUMBER));
            return IsAligned ? STATUS_ACCESS_VIOLATION : STATUS_DATATYPE_MISALIGNMENT;
        }
    }
    return STATUS_SUCCESS;
}

//
// Lock.
//

// Counts one lock more in each frame of RAM. FALSE: some are I/O frames.
static BOOLEAN MiLockFrames(const PFN_NUMBER *Pfns, PFN_NUMBER PageCount)
{
    PFN_NUMBER RamCount = 0;
    for (PFN_NUMBER Page = 0; Page < PageCount; Page += 1) {
        const PMMPFN Element = MiPfnElement(Pfns[Page]);
        if (Element != NULL) {
            __atomic_fetch_add(&Element->LockCount, 1, __ATOMIC_RELAXED);
            RamCount += 1;
        }
    }
    __atomic_fetch_add(&MiLockedPages, RamCount, __ATOMIC_RELAXED);
    return RamCount == PageCount;
}

VOID MiUnlockFrames(const PFN_NUMBER *Pfns, PFN_NUMBER PageCount)
{
    PFN_NUMBER RamCount = 0;
    for (PFN_NUMBER Page = 0; Page < PageCount; Page += 1) {
        const PMMPFN Element = MiPfnElement(Pfns[Page]);
        if (Element == NULL) {
            continue;
        }
        if (__atomic_load_n(&Element->LockCount, __ATOMIC_RELAXED) == 0) {
            MiBugCheck(PFN_LIST_CORRUPT, 0x07, Pfns[Page], 0, 0,
                       "frame 0x%llx is unlocked more often than it was locked", Pfns[Page]);
        }
        __atomic_fetch_sub(&Element->LockCount, 1, __ATOMIC_RELAXED);
        RamCount += 1;
    }
    __atomic_fetch_sub(&MiLockedPages, RamCount, __ATOMIC_RELAXED);
}

// An MDL with one of these describes pages already.
// Whether the MDL and the mode allow a lock, before anything is looked at.
static NTSTATUS MiCheckLockRequest(const CHAR *Routine, const MDL *Mdl, KPROCESSOR_MODE AccessMode)
{
    if ((Mdl->MdlFlags & MI_UNLOCKABLE_FLAGS) != 0 || Mdl->ByteCount == 0) {
        MiRefusePlain(Routine, Mdl->ByteCount == 0 ? MiReasonZeroBytes : MiReasonMdlInUse);
        return STATUS_INVALID_PARAMETER;
    }
    if (AccessMode != KernelMode) {
        MiRefusePlain(Routine, MiReasonUserMode);
        return STATUS_ACCESS_VIOLATION;
    }
    return STATUS_SUCCESS;
}

// All or nothing.
static NTSTATUS MiLockMdl(const CHAR *Routine, PMDL Mdl, const MI_LOCK_SOURCE *Source,
                          LOCK_OPERATION Operation, PVOID Caller)
{
    const PPFN_NUMBER Pfns = MmGetMdlPfnArray(Mdl);
    const PFN_NUMBER PageCount = MiMdlPageCount(Mdl);
    NTSTATUS Status = MiProbePages(Source, Operation, Pfns, PageCount);
    if (!NT_SUCCESS(Status)) {
        MiRefusePlain(Routine, MiReasonAccess);
        return Status;
    }
    if (MiIsVerifying()) {
        MiVerifyLockedFrames(Mdl, Caller);
    }
    Status = MiHoldIoFrames(Pfns, PageCount, Caller);
    if (!NT_SUCCESS(Status)) {
        MiRefusePlain(Routine, MiReasonResources);
        RtlZeroMemory(Pfns, PageCount * sizeof(PFN_NUMBER));
        return Status;
    }
    Mdl->MdlFlags &= ~MDL_WRITE_OPERATION; // of the lock before
    Mdl->MdlFlags |= MDL_PAGES_LOCKED | (Operation != IoReadAccess ? MDL_WRITE_OPERATION : 0) |
                     (MiLockFrames(Pfns, PageCount) ? 0 : MDL_IO_SPACE);
    Mdl->Process = NULL;
    MiSealLockedMdl(Mdl);
    if (MiIsVerifying()) {
        MiTrack(MiTrackLockedPages, Mdl, PageCount << PAGE_SHIFT, 0, Caller);
    }
    return STATUS_SUCCESS;
}

static VOID MiLockOrRaise(const CHAR *Routine, PMDL Mdl, const FILE_SEGMENT_ELEMENT *Elements,
                          KPROCESSOR_MODE AccessMode, LOCK_OPERATION Operation, PVOID Caller)
{
    const MI_LOCK_SOURCE Source = {(ULONG_PTR)Mdl->StartVa, Elements};
    NTSTATUS Status = MiCheckLockRequest(Routine, Mdl, AccessMode);
    if (NT_SUCCESS(Status) && MiMustFail(MM_FAIL_LOCKS)) {
        MiRefusePlain(Routine, MiReasonResources);
        Status = STATUS_INSUFFICIENT_RESOURCES;
    }
    if (NT_SUCCESS(Status)) {
        Status = MiLockMdl(Routine, Mdl, &Source, Operation, Caller);
    }
    if (!NT_SUCCESS(Status)) {
        KiRaiseStatus(Routine, Status, Caller);
    }
}

VOID NTAPI MmProbeAndLockPages(PMDL MemoryDescriptorList, KPROCESSOR_MODE AccessMode,
                               LOCK_OPERATION Operation)
{
    if (MiIsVerifying()) {
        MiVerifyProbeAndLock(MiIrqlProbeAndLockPages, MemoryDescriptorList, (ULONG_PTR)AccessMode,
                             __builtin_return_address(0));
    }
    MiLockOrRaise(__func__, MemoryDescriptorList, NULL, AccessMode, Operation,
                  __builtin_return_address(0));
}

VOID NTAPI MmProbeAndLockProcessPages(PMDL MemoryDescriptorList, PEPROCESS Process,
                                      KPROCESSOR_MODE AccessMode, LOCK_OPERATION Operation)
{
    if (MiIsVerifying()) {
        MiVerifyProbeAndLock(MiIrqlProbeAndLockProcessPages, MemoryDescriptorList,
                             (ULONG_PTR)Process, __builtin_return_address(0));
    }
    UNREFERENCED_PARAMETER(Process);
    MiLockOrRaise(__func__, MemoryDescriptorList, NULL, AccessMode, Operation,
                  __builtin_return_address(0));
}

VOID NTAPI MmProbeAndLockSelectedPages(PMDL MemoryDescriptorList,
                                       PFILE_SEGMENT_ELEMENT SegmentArray,
                                       KPROCESSOR_MODE AccessMode, LOCK_OPERATION Operation)
{
    if (MiIsVerifying()) {
        MiVerifyProbeAndLock(MiIrqlProbeAndLockSelectedPages, MemoryDescriptorList, 0,
                             __builtin_return_address(0));
    }
    MiLockOrRaise(__func__, MemoryDescriptorList, SegmentArray, AccessMode, Operation,
                  __builtin_return_address(0));
}

//
// Unlock.
//

// The MDL must be one that this file has locked.
static VOID MiCheckUnlockRequest(const MDL *Mdl)
{
    if (!MiIsMdlLocked(Mdl) || (Mdl->MdlFlags & MDL_PAGES_LOCKED) == 0) {
        MiBugCheck(
            PROCESS_HAS_LOCKED_PAGES, 1, (ULONG_PTR)Mdl, MiLockedPageCount(), 0,
            "MmUnlockPages: the MDL at 0x%p was unlocked before, or MmProbeAndLockPages never "
            "locked it (flags 0x%x)",
            Mdl, (USHORT)Mdl->MdlFlags);
    }
}

VOID NTAPI MmUnlockPages(PMDL MemoryDescriptorList)
{
    if (MiIsVerifying()) {
        MiVerifyUnlockPages(MemoryDescriptorList, __builtin_return_address(0));
    }
    const PMDL Mdl = MemoryDescriptorList;
    const PPFN_NUMBER Pfns = MmGetMdlPfnArray(Mdl);
    const PFN_NUMBER PageCount = MiMdlPageCount(Mdl);
    MiCheckUnlockRequest(Mdl);
    MiUnmapMdl(Mdl);
    MiUnlockFrames(Pfns, PageCount);
    MiReleaseIoFrames(Pfns, PageCount);
    MiUntrack(MiTrackLockedPages, Mdl);
    if (MiIsVerifying()) {
        MiPoisonFrames(Pfns, PageCount);
    }
    MiBreakSeal(Mdl);
    Mdl->MdlFlags &= ~(MDL_PAGES_LOCKED | MDL_IO_SPACE);
}

VOID MmReleaseMdlChain(PMDL First)
{
    PMDL Mdl = First;
    while (Mdl != NULL) {
        const PMDL Next = Mdl->Next;
        if (MiIsMdlLocked(Mdl)) {
            MmUnlockPages(Mdl);
        }
        IoFreeMdl(Mdl);
        Mdl = Next;
    }
}
