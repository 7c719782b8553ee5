// Rundown protection.
//
//   Count   bit 0 clear: twice the number of users
//           bit 0 set:   EXP_RUNDOWN_WAIT of who waits for the users to go; or nothing: run down
//
// Memory order: who acquires sees what was done before the object was made or made again (acquire), and who waits sees
// what users did before they released (release; the last one's event, or the exchange that found nobody). The
// wait's count is written before Count points to it, and read behind that (acquire). It lies on the waiter's
// stack: the waiter leaves only when the event is set, which the last user alone does, as his last step.

#include <exlockddk.h>

#include "kernel/inc/ke.h"

#define RUNDOWN_ACTIVE 1ull
#define RUNDOWN_USER 2ull

typedef struct _EXP_RUNDOWN_WAIT {
    volatile ULONG64 UserCount; // that are still to go
    KEVENT Event;
} EXP_RUNDOWN_WAIT, *PEXP_RUNDOWN_WAIT;

C_ASSERT(_Alignof(EXP_RUNDOWN_WAIT) >= 2);

VOID FASTCALL ExInitializeRundownProtection(PEX_RUNDOWN_REF RunRef)
{
    RunRef->Count = 0;
}

VOID FASTCALL ExReInitializeRundownProtection(PEX_RUNDOWN_REF RunRef)
{
    NT_ASSERT((RunRef->Count & RUNDOWN_ACTIVE) != 0);
    __atomic_store_n(&RunRef->Count, 0, __ATOMIC_RELEASE);
}

VOID FASTCALL ExRundownCompleted(PEX_RUNDOWN_REF RunRef)
{
    __atomic_store_n(&RunRef->Count, RUNDOWN_ACTIVE, __ATOMIC_RELEASE);
}

BOOLEAN FASTCALL ExAcquireRundownProtectionEx(PEX_RUNDOWN_REF RunRef, ULONG Count)
{
    ULONG_PTR Old = __atomic_load_n(&RunRef->Count, __ATOMIC_RELAXED);
    do {
        if ((Old & RUNDOWN_ACTIVE) != 0) {
            return FALSE;
        }
    } while (!__atomic_compare_exchange_n(&RunRef->Count, &Old, Old + Count * RUNDOWN_USER, FALSE,
                                          __ATOMIC_ACQUIRE, __ATOMIC_RELAXED));
    return TRUE;
}

BOOLEAN FASTCALL ExAcquireRundownProtection(PEX_RUNDOWN_REF RunRef)
{
    return ExAcquireRundownProtectionEx(RunRef, 1);
}

VOID FASTCALL ExReleaseRundownProtectionEx(PEX_RUNDOWN_REF RunRef, ULONG Count)
{
    ULONG_PTR Old = __atomic_load_n(&RunRef->Count, __ATOMIC_ACQUIRE);
    do {
        if ((Old & RUNDOWN_ACTIVE) != 0) {
            PEXP_RUNDOWN_WAIT Wait = (PEXP_RUNDOWN_WAIT)(Old & ~RUNDOWN_ACTIVE);
            NT_ASSERT(Wait != NULL && Wait->UserCount >= Count);
            if (__atomic_sub_fetch(&Wait->UserCount, Count, __ATOMIC_SEQ_CST) == 0) {
                KeSetEvent(&Wait->Event, 0, FALSE);
            }
            return;
        }
        NT_ASSERT(Old >= Count * RUNDOWN_USER);
    } while (!__atomic_compare_exchange_n(&RunRef->Count, &Old, Old - Count * RUNDOWN_USER, FALSE,
                                          __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE));
}

VOID FASTCALL ExReleaseRundownProtection(PEX_RUNDOWN_REF RunRef)
{
    ExReleaseRundownProtectionEx(RunRef, 1);
}

VOID FASTCALL ExWaitForRundownProtectionRelease(PEX_RUNDOWN_REF RunRef)
{
    EXP_RUNDOWN_WAIT Wait;
    KeInitializeEvent(&Wait.Event, SynchronizationEvent, FALSE);
    ULONG_PTR Old = __atomic_load_n(&RunRef->Count, __ATOMIC_RELAXED);
    for (;;) {
        if ((Old & RUNDOWN_ACTIVE) != 0) {
            return; // run down already
        }
        Wait.UserCount = Old / RUNDOWN_USER;
        const ULONG_PTR New = Old == 0 ? RUNDOWN_ACTIVE : (ULONG_PTR)&Wait | RUNDOWN_ACTIVE;
        if (__atomic_compare_exchange_n(&RunRef->Count, &Old, New, FALSE, __ATOMIC_SEQ_CST,
                                        __ATOMIC_RELAXED)) {
            break;
        }
    }
    if (Wait.UserCount > 0) {
        KeWaitForSingleObject(&Wait.Event, Executive, KernelMode, FALSE, NULL);
        // The waiter's stack frame goes: what remains is that the object has run down.
        ExRundownCompleted(RunRef);
    }
}
