// Ranked spin locks of a free build: nothing to check, so short enough to stand where they are used.
// A call would cost as much as the lock itself. Included by kernel/inc/ke.h, and by
// kernel/ke/spinlock.c, whose checked locks spin in the same way.
#pragma once

#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"

static inline VOID KiSpin(PKSPIN_LOCK Word)
{
    while (__atomic_exchange_n(Word, 1, __ATOMIC_ACQUIRE) != 0) {
        KeArchWaitWhileTaken(Word);
    }
}

#if !KI_CALLS_LOCKS

_Must_inspect_result_ static inline KIRQL KiAcquireLock(PKI_LOCK Lock) _Acquires_lock_(Lock);
static inline VOID KiReleaseLock(PKI_LOCK Lock, KIRQL OldIrql) _Releases_lock_(Lock);
_Must_inspect_result_ static inline ULONG64 KiAcquireBriefLock(PKI_LOCK Lock) _Acquires_lock_(Lock);
static inline VOID KiReleaseBriefLock(PKI_LOCK Lock, ULONG64 Flags) _Releases_lock_(Lock);

// The analysis follows calls that acquire, not the exchange that does it.
_No_lock_analysis_ static inline KIRQL KiAcquireLock(PKI_LOCK Lock)
{
    const KIRQL OldIrql = KeArchReadIrql();
    KeArchWriteIrql(DISPATCH_LEVEL);
    KiSpin(&Lock->Word);
    return OldIrql;
}

_No_lock_analysis_ static inline VOID KiReleaseLock(PKI_LOCK Lock, KIRQL OldIrql)
{
    __atomic_store_n(&Lock->Word, 0, __ATOMIC_RELEASE);
    KeArchWriteIrql(OldIrql);
}

_No_lock_analysis_ static inline ULONG64 KiAcquireBriefLock(PKI_LOCK Lock)
{
    const ULONG64 Flags = KeArchHoldInterrupts();
    KiSpin(&Lock->Word);
    return Flags;
}

_No_lock_analysis_ static inline VOID KiReleaseBriefLock(PKI_LOCK Lock, ULONG64 Flags)
{
    __atomic_store_n(&Lock->Word, 0, __ATOMIC_RELEASE);
    KeArchReleaseInterrupts(Flags);
}

#endif
