// Events and semaphores.
//
// Lock: KiDispatcherLock.
#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "kernel/inc/ps.h"

static VOID KiInitializeHeader(PDISPATCHER_HEADER Header, KI_OBJECT Type, SIZE_T ByteCount,
                               LONG SignalState)
{
    *Header = (DISPATCHER_HEADER){.Type = (UCHAR)Type,
                                  .Size = (UCHAR)(ByteCount / sizeof(ULONG)),
                                  .SignalState = SignalState};
    InitializeListHead(&Header->WaitListHead);
}

VOID NTAPI KeInitializeEvent(PRKEVENT Event, EVENT_TYPE Type, BOOLEAN State)
{
    const KI_OBJECT Object =
        Type == NotificationEvent ? KiEventNotificationObject : KiEventSynchronizationObject;
    KiInitializeHeader(&Event->Header, Object, sizeof(*Event), State ? 1 : 0);
}

LONG NTAPI KeSetEvent(PRKEVENT Event, KPRIORITY Increment, BOOLEAN Wait)
{
    const KIRQL OldIrql = KiLockDispatcher();
    const LONG OldState = Event->Header.SignalState;
    Event->Header.SignalState = 1;
    if (OldState == 0) {
        KiTestWaiters(&Event->Header, Increment);
    }
    KiUnlockAfterSignal(OldIrql, Wait);
    return OldState;
}

// Who waits now goes on; who comes later waits.
LONG NTAPI KePulseEvent(PRKEVENT Event, KPRIORITY Increment, BOOLEAN Wait)
{
    const KIRQL OldIrql = KiLockDispatcher();
    const LONG OldState = Event->Header.SignalState;
    Event->Header.SignalState = 1;
    if (OldState == 0) {
        KiTestWaiters(&Event->Header, Increment);
    }
    Event->Header.SignalState = 0;
    KiUnlockAfterSignal(OldIrql, Wait);
    return OldState;
}

LONG NTAPI KeResetEvent(PRKEVENT Event)
{
    const KIRQL OldIrql = KiLockDispatcher();
    const LONG OldState = Event->Header.SignalState;
    Event->Header.SignalState = 0;
    KiReleaseLock(&KiDispatcherLock, OldIrql);
    return OldState;
}

LONG NTAPI KeReadStateEvent(PRKEVENT Event)
{
    return __atomic_load_n(&Event->Header.SignalState, __ATOMIC_ACQUIRE);
}

// With the lock, so that who is setting the event finds it set until he has released those that wait.
VOID NTAPI KeClearEvent(PRKEVENT Event)
{
    (VOID) KeResetEvent(Event);
}

// -------------------------------------------------------------------------------------------------
// Semaphores.

VOID NTAPI KeInitializeSemaphore(PRKSEMAPHORE Semaphore, LONG Count, LONG Limit)
{
    NT_ASSERT(Count >= 0 && Limit > 0 && Count <= Limit);
    KiInitializeHeader(&Semaphore->Header, KiSemaphoreObject, sizeof(*Semaphore), Count);
    Semaphore->Limit = Limit;
}

LONG NTAPI KeReleaseSemaphore(PRKSEMAPHORE Semaphore, KPRIORITY Increment, LONG Adjustment,
                              BOOLEAN Wait)
{
    const KIRQL OldIrql = KiLockDispatcher();
    const LONG OldCount = Semaphore->Header.SignalState;
    if (Adjustment <= 0 || Adjustment > Semaphore->Limit - OldCount) {
        KiReleaseLock(&KiDispatcherLock, OldIrql);
        KiRaiseStatus(__func__, STATUS_SEMAPHORE_LIMIT_EXCEEDED, __builtin_return_address(0));
    }
    Semaphore->Header.SignalState = OldCount + Adjustment;
    if (OldCount == 0) {
        KiTestWaiters(&Semaphore->Header, Increment);
    }
    KiUnlockAfterSignal(OldIrql, Wait);
    return OldCount;
}

LONG NTAPI KeReadStateSemaphore(PRKSEMAPHORE Semaphore)
{
    return __atomic_load_n(&Semaphore->Header.SignalState, __ATOMIC_ACQUIRE);
}
