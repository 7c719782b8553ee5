// Reader-writer spin locks.
//
//   bit 31         a writer holds the lock, or waits for the readers to go
//   bits 0 .. 30   readers that hold it
//
// A writer first takes bit 31, which keeps new readers out, and then waits for the count to fall to 0.
//
// Memory order: readers come and go with acquire and release; a writer takes the bit with acquire, reads the
// last reader's going with acquire, and clears the bit with release: whoever holds the lock sees what was
// done by all who had to go before.

#include <exddk.h>

#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"

#define EX_WRITER ((LONG)0x80000000)

static VOID ExpCheckIrql(PEX_SPIN_LOCK SpinLock, PCSTR Routine)
{
    const KIRQL Irql = KeGetCurrentIrql();
    if (Irql > DISPATCH_LEVEL) {
        KiBugCheckSaying(IRQL_NOT_LESS_OR_EQUAL, (ULONG_PTR)SpinLock, Irql, 0,
                         (ULONG_PTR)__builtin_return_address(0),
                         "%s was called at IRQL %u; the limit is DISPATCH_LEVEL", Routine, Irql);
    }
}

VOID NTAPI ExAcquireSpinLockSharedAtDpcLevel(PEX_SPIN_LOCK SpinLock)
{
    for (;;) {
        LONG Old = __atomic_load_n(SpinLock, __ATOMIC_RELAXED);
        if (Old >= 0 && __atomic_compare_exchange_n(SpinLock, &Old, Old + 1, FALSE,
                                                    __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
            return;
        }
        KeArchPause();
    }
}

VOID NTAPI ExAcquireSpinLockExclusiveAtDpcLevel(PEX_SPIN_LOCK SpinLock)
{
    while ((__atomic_fetch_or(SpinLock, EX_WRITER, __ATOMIC_ACQUIRE) & EX_WRITER) != 0) {
        // Waiting only reads: the cache line stays shared until the owner lets go.
        while ((__atomic_load_n(SpinLock, __ATOMIC_RELAXED) & EX_WRITER) != 0) {
            KeArchPause();
        }
    }
    while (__atomic_load_n(SpinLock, __ATOMIC_ACQUIRE) != EX_WRITER) {
        KeArchPause();
    }
}

VOID NTAPI ExReleaseSpinLockSharedFromDpcLevel(PEX_SPIN_LOCK SpinLock)
{
    __atomic_fetch_sub(SpinLock, 1, __ATOMIC_RELEASE);
}

VOID NTAPI ExReleaseSpinLockExclusiveFromDpcLevel(PEX_SPIN_LOCK SpinLock)
{
    __atomic_store_n(SpinLock, 0, __ATOMIC_RELEASE);
}

KIRQL NTAPI ExAcquireSpinLockShared(PEX_SPIN_LOCK SpinLock)
{
    ExpCheckIrql(SpinLock, __func__);
    const KIRQL OldIrql = KeRaiseIrqlToDpcLevel();
    ExAcquireSpinLockSharedAtDpcLevel(SpinLock);
    return OldIrql;
}

KIRQL NTAPI ExAcquireSpinLockExclusive(PEX_SPIN_LOCK SpinLock)
{
    ExpCheckIrql(SpinLock, __func__);
    const KIRQL OldIrql = KeRaiseIrqlToDpcLevel();
    ExAcquireSpinLockExclusiveAtDpcLevel(SpinLock);
    return OldIrql;
}

VOID NTAPI ExReleaseSpinLockShared(PEX_SPIN_LOCK SpinLock, KIRQL OldIrql)
{
    ExReleaseSpinLockSharedFromDpcLevel(SpinLock);
    KeLowerIrql(OldIrql);
}

VOID NTAPI ExReleaseSpinLockExclusive(PEX_SPIN_LOCK SpinLock, KIRQL OldIrql)
{
    ExReleaseSpinLockExclusiveFromDpcLevel(SpinLock);
    KeLowerIrql(OldIrql);
}

LOGICAL NTAPI ExTryConvertSharedSpinLockExclusive(PEX_SPIN_LOCK SpinLock)
{
    LONG OneReader = 1;
    return __atomic_compare_exchange_n(SpinLock, &OneReader, EX_WRITER, FALSE, __ATOMIC_ACQUIRE,
                                       __ATOMIC_RELAXED);
}
