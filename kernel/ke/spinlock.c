// Spin locks: NT's plain ones for drivers, and ranked ones for the kernel itself.
//
// Invariants (checked builds, at acquire and release):
//   L1  A processor acquires ranked locks in strictly ascending rank, so no two processors wait for
//       each other.
//   L2  A spin lock is never acquired above DISPATCH_LEVEL, and the holder runs at DISPATCH_LEVEL.
// HeldRanks in the KPCR has bit r set while this processor holds a lock of rank r; one lock per
// rank at a time.

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

static VOID KiNoteReleased(PKI_LOCK Lock, KIRQL OldIrql)
{
    if (!KiIsLockHeld(Lock)) {
        KiBugCheckSaying(SPIN_LOCK_NOT_OWNED, (ULONG_PTR)Lock, 0, 0, 0,
                         "lock %s released, but this processor does not hold it", Lock->Name);
    }
    NT_ASSERT_INVARIANT("L2", KeArchReadIrql() == DISPATCH_LEVEL && OldIrql <= DISPATCH_LEVEL);
    KeArchGetPcr()->HeldRanks &= ~RANK_BIT(Lock->Rank);
    Lock->OwnerProcessor = -1;
}

// The analysis follows calls that acquire, not the exchange that does it.
_No_lock_analysis_ KIRQL KiAcquireLock(PKI_LOCK Lock)
{
    const KIRQL OldIrql = KeArchReadIrql();
    KiCheckAcquire(Lock, OldIrql);
    KeArchWriteIrql(DISPATCH_LEVEL);
    KiSpin(&Lock->Word);
    KiNoteAcquired(Lock);
    return OldIrql;
}

_No_lock_analysis_ VOID KiReleaseLock(PKI_LOCK Lock, KIRQL OldIrql)
{
    KiNoteReleased(Lock, OldIrql);
    __atomic_store_n(&Lock->Word, 0, __ATOMIC_RELEASE);
    KeArchWriteIrql(OldIrql);
}

#else

BOOLEAN KiIsLockHeld(const KI_LOCK *Lock)
{
    return Lock->Word != 0;
}

#endif

// -------------------------------------------------------------------------------------------------
// NT's spin locks: a word, and whatever IRQL the caller arranged.

VOID NTAPI KeAcquireSpinLockAtDpcLevel(PKSPIN_LOCK SpinLock)
{
    KiSpin(SpinLock);
}

VOID NTAPI KeReleaseSpinLockFromDpcLevel(PKSPIN_LOCK SpinLock)
{
    __atomic_store_n(SpinLock, 0, __ATOMIC_RELEASE);
}

KIRQL NTAPI KeAcquireSpinLockRaiseToDpc(PKSPIN_LOCK SpinLock)
{
    const KIRQL OldIrql = KeRaiseIrqlToDpcLevel();
    KeAcquireSpinLockAtDpcLevel(SpinLock);
    return OldIrql;
}

VOID NTAPI KeReleaseSpinLock(PKSPIN_LOCK SpinLock, KIRQL NewIrql)
{
    KeReleaseSpinLockFromDpcLevel(SpinLock);
    KeLowerIrql(NewIrql);
}
