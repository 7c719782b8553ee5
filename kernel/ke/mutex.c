// Mutexes, fast mutexes, and the regions in which a thread takes no APCs.
//
// A mutex is a dispatcher object; a wait acquires it (wait.c). A fast mutex is a counter, and an event
// for those who find it owned:
//
//   Count  1 free    0 owned    -n owned, and n wait
//
// A release that leaves waiters sets the event, and the one that it lets go owns the mutex: nobody else
// can take it meanwhile, since Count never became 1. A guarded mutex is the same, in a guarded region
// instead of at APC_LEVEL.
//
// Invariants:
//   Q1  A mutex has an owner exactly when its SignalState is below 1; it is in its owner's list then.
//   Q2  KernelApcDisable and SpecialApcDisable are not positive.
// Lock: KiDispatcherLock for mutexes; fast mutexes are changed by interlocked operations.
#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "kernel/inc/ps.h"

VOID NTAPI KeInitializeMutex(PRKMUTEX Mutex, ULONG Level)
{
    UNREFERENCED_PARAMETER(Level); // reserved
    *Mutex = (KMUTEX){.Header = {.Type = KiMutantObject,
                                 .Size = sizeof(KMUTEX) / sizeof(ULONG),
                                 .SignalState = 1},
                      .ApcDisable = 1};
    InitializeListHead(&Mutex->Header.WaitListHead);
}

// Locked. The mutex is free, and its first waiter gets it.
static VOID KiFreeMutex(PKMUTANT Mutex, KPRIORITY Increment)
{
    RemoveEntryList(&Mutex->MutantListEntry);
    Mutex->OwnerThread->KernelApcDisable += Mutex->ApcDisable;
    Mutex->OwnerThread = NULL;
    Mutex->Header.SignalState = 1;
    KiTestWaiters(&Mutex->Header, Increment);
}

LONG NTAPI KeReleaseMutex(PRKMUTEX Mutex, BOOLEAN Wait)
{
    const KIRQL OldIrql = KiLockDispatcher();
    const LONG OldState = Mutex->Header.SignalState;
    if (Mutex->OwnerThread != KeArchGetCurrentThread()) {
        const NTSTATUS Status = Mutex->Abandoned ? STATUS_ABANDONED : STATUS_MUTANT_NOT_OWNED;
        KiReleaseLock(&KiDispatcherLock, OldIrql);
        KiRaiseStatus(__func__, Status, __builtin_return_address(0));
    }
    if (OldState + 1 < 1) {
        Mutex->Header.SignalState = OldState + 1;
    } else {
        KiFreeMutex(Mutex, EVENT_INCREMENT);
    }
    KiUnlockAfterSignal(OldIrql, Wait);
    return OldState;
}

LONG NTAPI KeReadStateMutex(PRKMUTEX Mutex)
{
    return __atomic_load_n(&Mutex->Header.SignalState, __ATOMIC_ACQUIRE);
}

VOID KiAbandonMutexes(PKTHREAD Thread)
{
    const KIRQL OldIrql = KiLockDispatcher();
    while (!IsListEmpty(&Thread->MutantListHead)) {
        const PKMUTANT Mutex =
            CONTAINING_RECORD(Thread->MutantListHead.Flink, KMUTANT, MutantListEntry);
        Mutex->Abandoned = TRUE;
        KiFreeMutex(Mutex, EVENT_INCREMENT);
    }
    KiUnlockDispatcher(OldIrql);
}

// -------------------------------------------------------------------------------------------------
// Regions.

static VOID KiRequireRegionIrql(PCSTR Routine)
{
    if (KeArchReadIrql() > APC_LEVEL) {
        KiBugCheckSaying(IRQL_NOT_LESS_OR_EQUAL, 0, KeArchReadIrql(), 0, 0,
                         "%s is called at IRQL %u; the limit is APC_LEVEL", Routine,
                         KeArchReadIrql());
    }
}

static DECLSPEC_NORETURN VOID KiStopUnbalanced(PCSTR Routine, const KTHREAD *Thread)
{
    KiBugCheckSaying(APC_INDEX_MISMATCH, 0, 0, (ULONG_PTR)(LONG_PTR)Thread->KernelApcDisable,
                     (ULONG_PTR)(LONG_PTR)Thread->SpecialApcDisable,
                     "%s is called by a thread that is in no such region", Routine);
}

VOID NTAPI KeEnterCriticalRegion(VOID)
{
    KiRequireRegionIrql(__func__);
    KeArchGetCurrentThread()->KernelApcDisable -= 1;
}

VOID NTAPI KeLeaveCriticalRegion(VOID)
{
    KiRequireRegionIrql(__func__);
    const PKTHREAD Thread = KeArchGetCurrentThread();
    if (Thread->KernelApcDisable == 0) {
        KiStopUnbalanced(__func__, Thread);
    }
    Thread->KernelApcDisable += 1;
}

VOID NTAPI KeEnterGuardedRegion(VOID)
{
    KiRequireRegionIrql(__func__);
    KeArchGetCurrentThread()->SpecialApcDisable -= 1;
}

VOID NTAPI KeLeaveGuardedRegion(VOID)
{
    KiRequireRegionIrql(__func__);
    const PKTHREAD Thread = KeArchGetCurrentThread();
    if (Thread->SpecialApcDisable == 0) {
        KiStopUnbalanced(__func__, Thread);
    }
    Thread->SpecialApcDisable += 1;
}

BOOLEAN NTAPI KeAreAllApcsDisabled(VOID)
{
    return KeArchReadIrql() >= APC_LEVEL || KeArchGetCurrentThread()->SpecialApcDisable != 0;
}

BOOLEAN NTAPI KeAreApcsDisabled(VOID)
{
    return KeAreAllApcsDisabled() || KeArchGetCurrentThread()->KernelApcDisable != 0;
}

// -------------------------------------------------------------------------------------------------
// Fast mutexes. What a fast and a guarded mutex have in common.

typedef struct _KI_FAST_MUTEX {
    volatile LONG *Count;
    PKTHREAD *Owner;
    PULONG Contention;
    PKEVENT Event;
} KI_FAST_MUTEX;

C_ASSERT(sizeof(KGATE) == sizeof(KEVENT));

static KI_FAST_MUTEX KiOfFast(PFAST_MUTEX Mutex)
{
    return (KI_FAST_MUTEX){&Mutex->Count, &Mutex->Owner, &Mutex->Contention, &Mutex->Event};
}

static KI_FAST_MUTEX KiOfGuarded(PKGUARDED_MUTEX Mutex)
{
    return (KI_FAST_MUTEX){&Mutex->Count, &Mutex->Owner, &Mutex->Contention,
                           (PKEVENT)(PVOID)&Mutex->Gate};
}

static VOID KiAcquireFast(KI_FAST_MUTEX Mutex, PCSTR Routine)
{
    const PKTHREAD Thread = KeArchGetCurrentThread();
    if (*Mutex.Owner == Thread) {
        KiBugCheckSaying(MUTEX_ALREADY_OWNED, (ULONG_PTR)Mutex.Count, (ULONG_PTR)Thread, 0, 0,
                         "%s: the thread owns the mutex at 0x%p already", Routine, Mutex.Count);
    }
    if (__atomic_sub_fetch(Mutex.Count, 1, __ATOMIC_ACQUIRE) != 0) {
        *Mutex.Contention += 1;
        KeWaitForSingleObject(Mutex.Event, WrExecutive, KernelMode, FALSE, NULL);
    }
    *Mutex.Owner = Thread;
}

static BOOLEAN KiTryToAcquireFast(KI_FAST_MUTEX Mutex)
{
    LONG Free = FM_LOCK_BIT;
    if (!__atomic_compare_exchange_n(Mutex.Count, &Free, 0, FALSE, __ATOMIC_ACQUIRE,
                                     __ATOMIC_RELAXED)) {
        return FALSE;
    }
    *Mutex.Owner = KeArchGetCurrentThread();
    return TRUE;
}

static VOID KiRequireOwner(KI_FAST_MUTEX Mutex, PCSTR Routine)
{
    const PKTHREAD Thread = KeArchGetCurrentThread();
    if (*Mutex.Owner != Thread) {
        KiBugCheckSaying(THREAD_NOT_MUTEX_OWNER, (ULONG_PTR)Thread, (ULONG_PTR)*Mutex.Owner,
                         (ULONG_PTR)Mutex.Count, 0,
                         "%s: the thread does not own the mutex at 0x%p; %s", Routine, Mutex.Count,
                         *Mutex.Owner != NULL ? "another one does" : "nobody does");
    }
}

static VOID KiReleaseFast(KI_FAST_MUTEX Mutex)
{
    *Mutex.Owner = NULL;
    if (__atomic_add_fetch(Mutex.Count, 1, __ATOMIC_RELEASE) <= 0) {
        KeSetEvent(Mutex.Event, IO_NO_INCREMENT, FALSE);
    }
}

VOID FASTCALL ExAcquireFastMutex(PFAST_MUTEX FastMutex)
{
    KiRequireRegionIrql(__func__);
    const KIRQL OldIrql = KfRaiseIrql(APC_LEVEL);
    KiAcquireFast(KiOfFast(FastMutex), __func__);
    FastMutex->OldIrql = OldIrql;
}

VOID FASTCALL ExReleaseFastMutex(PFAST_MUTEX FastMutex)
{
    KiRequireOwner(KiOfFast(FastMutex), __func__);
    const KIRQL OldIrql = (KIRQL)FastMutex->OldIrql;
    KiReleaseFast(KiOfFast(FastMutex));
    KeLowerIrql(OldIrql);
}

BOOLEAN FASTCALL ExTryToAcquireFastMutex(PFAST_MUTEX FastMutex)
{
    KiRequireRegionIrql(__func__);
    const KIRQL OldIrql = KfRaiseIrql(APC_LEVEL);
    if (!KiTryToAcquireFast(KiOfFast(FastMutex))) {
        KeLowerIrql(OldIrql);
        return FALSE;
    }
    FastMutex->OldIrql = OldIrql;
    return TRUE;
}

VOID FASTCALL ExAcquireFastMutexUnsafe(PFAST_MUTEX FastMutex)
{
    KiRequireRegionIrql(__func__);
    KiAcquireFast(KiOfFast(FastMutex), __func__);
}

VOID FASTCALL ExReleaseFastMutexUnsafe(PFAST_MUTEX FastMutex)
{
    KiRequireOwner(KiOfFast(FastMutex), __func__);
    KiReleaseFast(KiOfFast(FastMutex));
}

VOID FASTCALL KeInitializeGuardedMutex(PKGUARDED_MUTEX GuardedMutex)
{
    *GuardedMutex = (KGUARDED_MUTEX){.Count = GM_LOCK_BIT};
    KeInitializeEvent((PKEVENT)(PVOID)&GuardedMutex->Gate, SynchronizationEvent, FALSE);
}

VOID FASTCALL KeAcquireGuardedMutexUnsafe(PKGUARDED_MUTEX GuardedMutex)
{
    KiRequireRegionIrql(__func__);
    KiAcquireFast(KiOfGuarded(GuardedMutex), __func__);
}

VOID FASTCALL KeReleaseGuardedMutexUnsafe(PKGUARDED_MUTEX GuardedMutex)
{
    KiRequireOwner(KiOfGuarded(GuardedMutex), __func__);
    KiReleaseFast(KiOfGuarded(GuardedMutex));
}

VOID FASTCALL KeAcquireGuardedMutex(PKGUARDED_MUTEX GuardedMutex)
{
    KeEnterGuardedRegion();
    KiAcquireFast(KiOfGuarded(GuardedMutex), __func__);
}

VOID FASTCALL KeReleaseGuardedMutex(PKGUARDED_MUTEX GuardedMutex)
{
    KiRequireOwner(KiOfGuarded(GuardedMutex), __func__);
    KiReleaseFast(KiOfGuarded(GuardedMutex));
    KeLeaveGuardedRegion();
}

BOOLEAN FASTCALL KeTryToAcquireGuardedMutex(PKGUARDED_MUTEX GuardedMutex)
{
    KeEnterGuardedRegion();
    if (!KiTryToAcquireFast(KiOfGuarded(GuardedMutex))) {
        KeLeaveGuardedRegion();
        return FALSE;
    }
    return TRUE;
}
