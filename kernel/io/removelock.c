// Remove locks.
//
// IoCount begins with 1, for the device itself, which the removal takes away: who brings it to 0
// sets the event that the removal waits for. In the larger form each acquisition has a block, in
// the lock's list, with its tag and where it was made.
//
// Memory order: who acquires counts himself before he looks at Removed, and the removal sets Removed before it
// takes its own count away, all of them locked: so either he turns back, or the removal waits for him.
//
// What is rare is a function of drivers' convention, and called last: so that acquiring and releasing save
// no registers.

#include <csqddk.h>
#include <exddk.h>

#include "kernel/inc/ke.h"

// The larger form, whatever this kernel was compiled with.
typedef struct _IOP_TRACKED_LOCK {
    IO_REMOVE_LOCK_COMMON_BLOCK Common;
    IO_REMOVE_LOCK_DBG_BLOCK Dbg;
} IOP_TRACKED_LOCK, *PIOP_TRACKED_LOCK;

typedef struct _IO_REMOVE_LOCK_TRACKING_BLOCK {
    PIO_REMOVE_LOCK_TRACKING_BLOCK Next;
    PVOID Tag;
    PCSTR File;
    ULONG Line;
} IO_REMOVE_LOCK_TRACKING_BLOCK;

#define REMOVE_LOCK_SIGNATURE 0x4B434F4C // "LOCK"

static inline BOOLEAN IopIsTracked(ULONG ByteCount)
{
    return ByteCount == sizeof(IOP_TRACKED_LOCK);
}

static DECLSPEC_NORETURN VOID IopStopForLock(const VOID *Lock, PVOID Tag, PCSTR Sentence)
{
    KiBugCheckSaying(KMODE_EXCEPTION_NOT_HANDLED, (ULONG_PTR)(LONG_PTR)STATUS_ASSERTION_FAILURE,
                     (ULONG_PTR)Lock, (ULONG_PTR)Tag, 0, "remove lock at 0x%p: %s (tag 0x%p)", Lock,
                     Sentence, Tag);
}

VOID NTAPI IoInitializeRemoveLockEx(PIO_REMOVE_LOCK Lock, ULONG AllocateTag, ULONG MaxLockedMinutes,
                                    ULONG HighWatermark, ULONG RemlockSize)
{
    UNREFERENCED_PARAMETER(MaxLockedMinutes);
    RtlZeroMemory(Lock, RemlockSize);
    Lock->Common.IoCount = 1;
    KeInitializeEvent(&Lock->Common.RemoveEvent, SynchronizationEvent, FALSE);
    PIOP_TRACKED_LOCK Tracked = (PIOP_TRACKED_LOCK)Lock;
    if (IopIsTracked(RemlockSize)) {
        Tracked->Dbg.Signature = REMOVE_LOCK_SIGNATURE;
        Tracked->Dbg.HighWatermark = (LONG)HighWatermark;
        Tracked->Dbg.AllocateTag = (LONG)AllocateTag;
        InitializeListHead(&Tracked->Dbg.LockList);
    }
}

static VOID IopTrack(PIOP_TRACKED_LOCK Lock, PVOID Tag, PCSTR File, ULONG Line)
{
    PIO_REMOVE_LOCK_TRACKING_BLOCK Block =
        ExAllocatePoolWithTag(NonPagedPoolNx, sizeof(*Block),
                              Lock->Dbg.AllocateTag != 0 ? Lock->Dbg.AllocateTag : 'kcoL');
    KIRQL OldIrql;
    KeAcquireSpinLock(&Lock->Dbg.Spin, &OldIrql);
    if (Block == NULL) {
        Lock->Dbg.LowMemoryCount += 1;
    } else {
        *Block = (IO_REMOVE_LOCK_TRACKING_BLOCK){Lock->Dbg.Blocks, Tag, File, Line};
        Lock->Dbg.Blocks = Block;
    }
    KeReleaseSpinLock(&Lock->Dbg.Spin, OldIrql);
}

// Takes out one acquisition with this tag. FALSE: there is none.
static BOOLEAN IopUntrack(PIOP_TRACKED_LOCK Lock, PVOID Tag)
{
    KIRQL OldIrql;
    KeAcquireSpinLock(&Lock->Dbg.Spin, &OldIrql);
    PIO_REMOVE_LOCK_TRACKING_BLOCK *Link = &Lock->Dbg.Blocks;
    while (*Link != NULL && (*Link)->Tag != Tag) {
        Link = &(*Link)->Next;
    }
    PIO_REMOVE_LOCK_TRACKING_BLOCK Block = *Link;
    const BOOLEAN IsKnown = Block != NULL || Lock->Dbg.LowMemoryCount > 0;
    if (Block != NULL) {
        *Link = Block->Next;
    } else if (IsKnown) {
        Lock->Dbg.LowMemoryCount -= 1;
    }
    KeReleaseSpinLock(&Lock->Dbg.Spin, OldIrql);
    if (Block != NULL) {
        ExFreePool(Block);
    }
    return IsKnown;
}

// The device goes: what was counted in vain is taken back.
static DECLSPEC_NOINLINE NTSTATUS NTAPI IopRefuseLock(PIO_REMOVE_LOCK Lock)
{
    if (__atomic_sub_fetch(&Lock->Common.IoCount, 1, __ATOMIC_SEQ_CST) == 0) {
        KeSetEvent(&Lock->Common.RemoveEvent, 0, FALSE);
    }
    return STATUS_DELETE_PENDING;
}

static DECLSPEC_NOINLINE NTSTATUS NTAPI IopAcquireTracked(PIO_REMOVE_LOCK Lock, PVOID Tag,
                                                          PCSTR File, ULONG Line)
{
    PIOP_TRACKED_LOCK Tracked = (PIOP_TRACKED_LOCK)Lock;
    const LONG Limit = Tracked->Dbg.HighWatermark;
    if (Limit > 0 && Lock->Common.IoCount - 1 > Limit) {
        IopStopForLock(Lock, Tag, "acquired more often than its high watermark allows");
    }
    IopTrack(Tracked, Tag, File, Line);
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI IoAcquireRemoveLockEx(PIO_REMOVE_LOCK RemoveLock, PVOID Tag, PCSTR File, ULONG Line,
                                     ULONG RemlockSize)
{
    (VOID) __atomic_add_fetch(&RemoveLock->Common.IoCount, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&RemoveLock->Common.Removed, __ATOMIC_SEQ_CST)) {
        return IopRefuseLock(RemoveLock);
    }
    return IopIsTracked(RemlockSize) ? IopAcquireTracked(RemoveLock, Tag, File, Line)
                                     : STATUS_SUCCESS;
}

// The count has become 0, or less.
static DECLSPEC_NOINLINE VOID NTAPI IopReleaseLast(PIO_REMOVE_LOCK Lock, PVOID Tag, LONG Count)
{
    if (Count < 0 || !Lock->Common.Removed) {
        IopStopForLock(Lock, Tag, "released more often than it was acquired");
    }
    KeSetEvent(&Lock->Common.RemoveEvent, 0, FALSE);
}

static DECLSPEC_NOINLINE VOID NTAPI IopReleaseTracked(PIO_REMOVE_LOCK Lock, PVOID Tag)
{
    if (!IopUntrack((PIOP_TRACKED_LOCK)Lock, Tag)) {
        IopStopForLock(Lock, Tag, "released with a tag that it was not acquired with");
    }
    IoReleaseRemoveLockEx(Lock, Tag, sizeof(IO_REMOVE_LOCK_COMMON_BLOCK));
}

VOID NTAPI IoReleaseRemoveLockEx(PIO_REMOVE_LOCK RemoveLock, PVOID Tag, ULONG RemlockSize)
{
    if (IopIsTracked(RemlockSize)) {
        IopReleaseTracked(RemoveLock, Tag);
        return;
    }
    const LONG Count = __atomic_sub_fetch(&RemoveLock->Common.IoCount, 1, __ATOMIC_SEQ_CST);
    if (Count <= 0) {
        IopReleaseLast(RemoveLock, Tag, Count);
    }
}

VOID NTAPI IoReleaseRemoveLockAndWaitEx(PIO_REMOVE_LOCK RemoveLock, PVOID Tag, ULONG RemlockSize)
{
    NT_ASSERT(KeGetCurrentIrql() == PASSIVE_LEVEL);
    __atomic_store_n(&RemoveLock->Common.Removed, TRUE, __ATOMIC_SEQ_CST);
    IoReleaseRemoveLockEx(RemoveLock, Tag, RemlockSize);
    if (__atomic_sub_fetch(&RemoveLock->Common.IoCount, 1, __ATOMIC_SEQ_CST) > 0) {
        KeWaitForSingleObject(&RemoveLock->Common.RemoveEvent, Executive, KernelMode, FALSE, NULL);
    }
}
