// Spin locks: NT's plain ones for drivers, and ranked ones for the kernel itself.
//
// Invariants (checked builds, at acquire and release):
//   L1  A processor acquires ranked locks in strictly ascending rank, so no two processors wait for
//       each other.
//   L2  A spin lock is never acquired above DISPATCH_LEVEL, and the holder runs at DISPATCH_LEVEL, or, of a
//       brief lock, with interrupts off.
// HeldRanks in the KPCR has bit r set while this processor holds a lock of rank r; one lock per
// rank at a time.
// Memory order: a lock is taken by an exchange with acquire and let go by a store with release. Of a queue, a
// handle is whole before the exchange that makes it the last (release), and its forerunner finds it through
// Next (release, acquire); the mark in a handle is cleared with release by the holder, and read with acquire by
// the next one, which is how the lock goes from hand to hand.

#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "kernel/inc/kelockinline.h"

// -------------------------------------------------------------------------------------------------
// Ranked locks.

#if DBG

#define RANK_BIT(Rank) (1u << (Rank))

BOOLEAN KiIsLockHeld(const KI_LOCK *Lock)
{
    return Lock->Word != 0 && Lock->OwnerProcessor == KeArchGetPcr()->Number;
}

static VOID KiCheckAcquire(const KI_LOCK *Lock, KIRQL Irql)
{
    const KPCR *Pcr = KeArchGetPcr();
    if (Irql > DISPATCH_LEVEL) {
        KiBugCheckSaying(IRQL_NOT_LESS_OR_EQUAL, (ULONG_PTR)Lock, Irql, 0, 0,
                         "lock %s acquired at IRQL %u; the limit is DISPATCH_LEVEL", Lock->Name,
                         Irql);
    }
    if (KiIsLockHeld(Lock)) {
        KiBugCheckSaying(SPIN_LOCK_ALREADY_OWNED, (ULONG_PTR)Lock, 0, 0, 0,
                         "lock %s acquired twice by processor %u", Lock->Name, Pcr->Number);
    }
    NT_ASSERT(Lock->Rank > 0 && Lock->Rank <= KI_LOCK_MAXIMUM_RANK);
    if (Pcr->HeldRanks >= RANK_BIT(Lock->Rank)) {
        DbgPrint("lock %s of rank %u, but locks of ranks 0x%x are held\n", Lock->Name, Lock->Rank,
                 Pcr->HeldRanks);
    }
    NT_ASSERT_INVARIANT("L1", Pcr->HeldRanks < RANK_BIT(Lock->Rank));
}

static VOID KiNoteAcquired(PKI_LOCK Lock)
{
    PKPCR Pcr = KeArchGetPcr();
    Pcr->HeldRanks |= RANK_BIT(Lock->Rank);
    Lock->OwnerProcessor = Pcr->Number;
}

static VOID KiNoteReleased(PKI_LOCK Lock)
{
    if (!KiIsLockHeld(Lock)) {
        KiBugCheckSaying(SPIN_LOCK_NOT_OWNED, (ULONG_PTR)Lock, 0, 0, 0,
                         "lock %s released, but this processor does not hold it", Lock->Name);
    }
    KeArchGetPcr()->HeldRanks &= ~RANK_BIT(Lock->Rank);
    Lock->OwnerProcessor = -1;
}

// The analysis follows calls that acquire, not the exchange that does it.
_No_lock_analysis_ KIRQL KiAcquireLock(PKI_LOCK Lock)
{
    const KIRQL OldIrql = KeArchReadIrql();
    if (OldIrql < DISPATCH_LEVEL) {
        KeArchWriteIrql(DISPATCH_LEVEL); // from here on the thread stays on this processor
    }
    KiCheckAcquire(Lock, OldIrql);
    KiSpin(&Lock->Word);
    KiNoteAcquired(Lock);
    return OldIrql;
}

_No_lock_analysis_ VOID KiReleaseLock(PKI_LOCK Lock, KIRQL OldIrql)
{
    KiNoteReleased(Lock);
    NT_ASSERT_INVARIANT("L2", KeArchReadIrql() == DISPATCH_LEVEL && OldIrql <= DISPATCH_LEVEL);
    __atomic_store_n(&Lock->Word, 0, __ATOMIC_RELEASE);
    KeArchWriteIrql(OldIrql);
}

_No_lock_analysis_ ULONG64 KiAcquireBriefLock(PKI_LOCK Lock)
{
    const ULONG64 Flags = KeArchHoldInterrupts();
    KiCheckAcquire(Lock, KeArchReadIrql());
    KiSpin(&Lock->Word);
    KiNoteAcquired(Lock);
    return Flags;
}

_No_lock_analysis_ VOID KiReleaseBriefLock(PKI_LOCK Lock, ULONG64 Flags)
{
    KiNoteReleased(Lock);
    NT_ASSERT_INVARIANT("L2", !KeArchAreInterruptsOn());
    __atomic_store_n(&Lock->Word, 0, __ATOMIC_RELEASE);
    KeArchReleaseInterrupts(Flags);
}

#else

BOOLEAN KiIsLockHeld(const KI_LOCK *Lock)
{
    return Lock->Word != 0;
}

#endif

VOID KiAwaitFreeLock(const KI_LOCK *Lock)
{
    while (__atomic_load_n(&Lock->Word, __ATOMIC_ACQUIRE) != 0) {
        KeArchPause();
    }
}

// -------------------------------------------------------------------------------------------------
// NT's spin locks: a word, and whatever IRQL the caller arranged.

static VOID KiCheckSpinLockIrql(PCSTR Routine, const KSPIN_LOCK *SpinLock, const VOID *Caller)
{
#if DBG
    if (KeArchReadIrql() < DISPATCH_LEVEL) {
        KiBugCheckSaying(IRQL_NOT_GREATER_OR_EQUAL, (ULONG_PTR)SpinLock, KeArchReadIrql(),
                         DISPATCH_LEVEL, (ULONG_PTR)Caller,
                         "%s is called at IRQL %u, below DISPATCH_LEVEL: whoever interrupts the "
                         "owner may wait for the lock for ever",
                         Routine, KeArchReadIrql());
    }
#else
    UNREFERENCED_PARAMETER(Routine);
    UNREFERENCED_PARAMETER(SpinLock);
    UNREFERENCED_PARAMETER(Caller);
#endif
}

// The lock is taken. With one processor at work nobody will ever release it: it is this processor that
// has it. Of drivers' convention, and called last: so that who finds the lock free saves no registers.
static DECLSPEC_NOINLINE VOID NTAPI KiWaitForSpinLock(PKSPIN_LOCK SpinLock, const VOID *Caller)
{
    if (KeQueryActiveProcessorCount(NULL) == 1) {
        KiBugCheckSaying(SPIN_LOCK_ALREADY_OWNED, (ULONG_PTR)SpinLock, 0, 0, (ULONG_PTR)Caller,
                         "the spin lock at 0x%p is waited for by the processor that holds it",
                         SpinLock);
    }
    KiSpin(SpinLock);
}

FORCEINLINE VOID KiAcquirePlain(PKSPIN_LOCK SpinLock, const VOID *Caller)
{
    if (__atomic_exchange_n(SpinLock, 1, __ATOMIC_ACQUIRE) != 0) {
        KiWaitForSpinLock(SpinLock, Caller);
    }
}

FORCEINLINE VOID KiReleasePlain(PKSPIN_LOCK SpinLock, const VOID *Caller)
{
#if DBG
    if (*SpinLock == 0) {
        KiBugCheckSaying(SPIN_LOCK_NOT_OWNED, (ULONG_PTR)SpinLock, 0, 0, (ULONG_PTR)Caller,
                         "the spin lock at 0x%p is released, but nobody holds it", SpinLock);
    }
#else
    UNREFERENCED_PARAMETER(Caller);
#endif
    __atomic_store_n(SpinLock, 0, __ATOMIC_RELEASE);
}

VOID NTAPI KeAcquireSpinLockAtDpcLevel(PKSPIN_LOCK SpinLock)
{
    KiCheckSpinLockIrql(__func__, SpinLock, __builtin_return_address(0));
    KiAcquirePlain(SpinLock, __builtin_return_address(0));
}

VOID NTAPI KeReleaseSpinLockFromDpcLevel(PKSPIN_LOCK SpinLock)
{
    KiReleasePlain(SpinLock, __builtin_return_address(0));
}

BOOLEAN FASTCALL KeTryToAcquireSpinLockAtDpcLevel(PKSPIN_LOCK SpinLock)
{
    KiCheckSpinLockIrql(__func__, SpinLock, __builtin_return_address(0));
    return *(volatile KSPIN_LOCK *)SpinLock == 0 &&
           __atomic_exchange_n(SpinLock, 1, __ATOMIC_ACQUIRE) == 0;
}

BOOLEAN FASTCALL KeTestSpinLock(PKSPIN_LOCK SpinLock)
{
    return __atomic_load_n(SpinLock, __ATOMIC_RELAXED) == 0;
}

KIRQL NTAPI KeAcquireSpinLockRaiseToDpc(PKSPIN_LOCK SpinLock)
{
    const KIRQL OldIrql = KeRaiseIrqlToDpcLevel();
    KiAcquirePlain(SpinLock, __builtin_return_address(0));
    return OldIrql;
}

VOID NTAPI KeReleaseSpinLock(PKSPIN_LOCK SpinLock, KIRQL NewIrql)
{
    KiReleasePlain(SpinLock, __builtin_return_address(0));
    KeLowerIrql(NewIrql);
}

// A DPC runs at DISPATCH_LEVEL always, a threaded one, too.
KIRQL FASTCALL KeAcquireSpinLockForDpc(PKSPIN_LOCK SpinLock)
{
    KiCheckSpinLockIrql(__func__, SpinLock, __builtin_return_address(0));
    KiAcquirePlain(SpinLock, __builtin_return_address(0));
    return DISPATCH_LEVEL;
}

VOID FASTCALL KeReleaseSpinLockForDpc(PKSPIN_LOCK SpinLock, KIRQL OldIrql)
{
    UNREFERENCED_PARAMETER(OldIrql);
    KiReleasePlain(SpinLock, __builtin_return_address(0));
}

// -------------------------------------------------------------------------------------------------
// Queued spin locks. The lock's word points to the last one in the queue; each waits for the one before
// to clear the mark in its own handle.
//
//   word ───────────────────────────┐
//                                   ▼
//   owner ──Next──▶ waiter ──Next──▶ last       a waiter's Lock is marked until it is the owner

#define KI_QUEUE_WAITS 1ull

static VOID KiAcquireQueued(PKSPIN_LOCK SpinLock, PKLOCK_QUEUE_HANDLE Handle, const VOID *Caller)
{
    const PKSPIN_LOCK_QUEUE Self = &Handle->LockQueue;
    Self->Next = NULL;
    Self->Lock = (PKSPIN_LOCK)((ULONG_PTR)SpinLock | KI_QUEUE_WAITS);
    const PKSPIN_LOCK_QUEUE Last =
        (PKSPIN_LOCK_QUEUE)__atomic_exchange_n(SpinLock, (KSPIN_LOCK)Self, __ATOMIC_ACQ_REL);
    if (Last == NULL) {
        Self->Lock = SpinLock;
        return;
    }
    if (KeQueryActiveProcessorCount(NULL) == 1) {
        KiBugCheckSaying(
            SPIN_LOCK_ALREADY_OWNED, (ULONG_PTR)SpinLock, 0, 0, (ULONG_PTR)Caller,
            "the queued spin lock at 0x%p is waited for by the processor that holds it", SpinLock);
    }
    __atomic_store_n(&Last->Next, Self, __ATOMIC_RELEASE);
    while ((ULONG_PTR)__atomic_load_n(&Self->Lock, __ATOMIC_ACQUIRE) & KI_QUEUE_WAITS) {
        KeArchPause();
    }
}

static VOID KiReleaseQueued(PKLOCK_QUEUE_HANDLE Handle, const VOID *Caller)
{
    const PKSPIN_LOCK_QUEUE Self = &Handle->LockQueue;
    const PKSPIN_LOCK SpinLock = Self->Lock;
    KSPIN_LOCK Expected = (KSPIN_LOCK)Self;
    if (Self->Next == NULL && __atomic_compare_exchange_n(SpinLock, &Expected, 0, FALSE,
                                                          __ATOMIC_RELEASE, __ATOMIC_RELAXED)) {
        return;
    }
    if (Expected == 0) {
        KiBugCheckSaying(SPIN_LOCK_NOT_OWNED, (ULONG_PTR)SpinLock, 0, 0, (ULONG_PTR)Caller,
                         "the queued spin lock at 0x%p is released, but nobody holds it", SpinLock);
    }
    // Somebody is in the queue already, or about to tell who it is.
    while (__atomic_load_n(&Self->Next, __ATOMIC_ACQUIRE) == NULL) {
        KeArchPause();
    }
    __atomic_store_n(&Self->Next->Lock, SpinLock, __ATOMIC_RELEASE);
}

VOID FASTCALL KeAcquireInStackQueuedSpinLock(PKSPIN_LOCK SpinLock, PKLOCK_QUEUE_HANDLE LockHandle)
{
    LockHandle->OldIrql = KeRaiseIrqlToDpcLevel();
    KiAcquireQueued(SpinLock, LockHandle, __builtin_return_address(0));
}

VOID FASTCALL KeReleaseInStackQueuedSpinLock(PKLOCK_QUEUE_HANDLE LockHandle)
{
    KiReleaseQueued(LockHandle, __builtin_return_address(0));
    KeLowerIrql(LockHandle->OldIrql);
}

VOID FASTCALL KeAcquireInStackQueuedSpinLockAtDpcLevel(PKSPIN_LOCK SpinLock,
                                                       PKLOCK_QUEUE_HANDLE LockHandle)
{
    KiCheckSpinLockIrql(__func__, SpinLock, __builtin_return_address(0));
    KiAcquireQueued(SpinLock, LockHandle, __builtin_return_address(0));
}

VOID FASTCALL KeReleaseInStackQueuedSpinLockFromDpcLevel(PKLOCK_QUEUE_HANDLE LockHandle)
{
    KiReleaseQueued(LockHandle, __builtin_return_address(0));
}

VOID FASTCALL KeAcquireInStackQueuedSpinLockForDpc(PKSPIN_LOCK SpinLock,
                                                   PKLOCK_QUEUE_HANDLE LockHandle)
{
    LockHandle->OldIrql = DISPATCH_LEVEL;
    KiCheckSpinLockIrql(__func__, SpinLock, __builtin_return_address(0));
    KiAcquireQueued(SpinLock, LockHandle, __builtin_return_address(0));
}

VOID FASTCALL KeReleaseInStackQueuedSpinLockForDpc(PKLOCK_QUEUE_HANDLE LockHandle)
{
    KiReleaseQueued(LockHandle, __builtin_return_address(0));
}

// For images that import what others have inline.
VOID NTAPI KiExportInitializeSpinLock(PKSPIN_LOCK SpinLock);

VOID NTAPI KiExportInitializeSpinLock(PKSPIN_LOCK SpinLock)
{
    KeInitializeSpinLock(SpinLock);
}
