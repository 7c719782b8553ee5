// Timers that the kernel allocates: a KTIMER, at the beginning, so that it can be waited for; the DPC
// that calls back; and what is to happen when the timer is deleted.
//
// Invariant:
//   Y1  A timer is freed once: by ExDeleteTimer, or, while its DPC is queued or running, by the DPC.
// Lock: the timer's own, for its state; it is not held during a callback.
#include "kernel/inc/ke.h"
#include "kernel/inc/ps.h"

#define KI_EX_TIMER_TAG 'miTE'
#define KI_UNITS_PER_MILLISECOND 10000

struct _EX_TIMER {
    KTIMER Timer;
    KDPC Dpc;
    KSPIN_LOCK Lock;
    PEXT_CALLBACK Callback;
    PVOID Context;
    BOOLEAN IsInCallback;
    BOOLEAN IsDeleted; // whoever is the last frees it
    EXT_DELETE_PARAMETERS Deletion;
};

C_ASSERT(FIELD_OFFSET(struct _EX_TIMER, Timer) == 0);

static VOID KiFreeExTimer(PEX_TIMER Timer)
{
    const EXT_DELETE_PARAMETERS Deletion = Timer->Deletion;
    ExFreePoolWithTag(Timer, KI_EX_TIMER_TAG);
    if (Deletion.DeleteCallback != NULL) {
        Deletion.DeleteCallback(Deletion.DeleteContext);
    }
}

static VOID NTAPI KiExTimerDpc(PKDPC Dpc, PVOID Context, PVOID Argument1, PVOID Argument2)
{
    UNREFERENCED_PARAMETER(Dpc);
    UNREFERENCED_PARAMETER(Argument1);
    UNREFERENCED_PARAMETER(Argument2);
    const PEX_TIMER Timer = Context;
    Timer->IsInCallback = TRUE;
    if (Timer->Callback != NULL) {
        Timer->Callback(Timer, Timer->Context);
    }
    KeAcquireSpinLockAtDpcLevel(&Timer->Lock);
    Timer->IsInCallback = FALSE;
    const BOOLEAN IsLast = Timer->IsDeleted;
    KeReleaseSpinLockFromDpcLevel(&Timer->Lock);
    if (IsLast) {
        KiFreeExTimer(Timer);
    }
}

PEX_TIMER NTAPI ExAllocateTimer(PEXT_CALLBACK Callback, PVOID CallbackContext, ULONG Attributes)
{
    const ULONG Known = EX_TIMER_HIGH_RESOLUTION | EX_TIMER_NO_WAKE | EX_TIMER_NOTIFICATION;
    const ULONG Exclusive = EX_TIMER_HIGH_RESOLUTION | EX_TIMER_NO_WAKE;
    if ((Attributes & ~Known) != 0 || (Attributes & Exclusive) == Exclusive) {
        return NULL;
    }
    const PEX_TIMER Timer =
        ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(struct _EX_TIMER), KI_EX_TIMER_TAG);
    if (Timer == NULL) {
        return NULL;
    }
    KeInitializeTimerEx(&Timer->Timer, (Attributes & EX_TIMER_NOTIFICATION) != 0
                                           ? NotificationTimer
                                           : SynchronizationTimer);
    KeInitializeDpc(&Timer->Dpc, KiExTimerDpc, Timer);
    KeInitializeSpinLock(&Timer->Lock);
    Timer->Callback = Callback;
    Timer->Context = CallbackContext;
    return Timer;
}

BOOLEAN NTAPI ExSetTimer(PEX_TIMER Timer, LONGLONG DueTime, LONGLONG Period,
                         PEXT_SET_PARAMETERS Parameters)
{
    UNREFERENCED_PARAMETER(Parameters);
    const LARGE_INTEGER Due = {.QuadPart = DueTime};
    return KeSetTimerEx(&Timer->Timer, Due,
                        (LONG)((Period + KI_UNITS_PER_MILLISECOND - 1) / KI_UNITS_PER_MILLISECOND),
                        &Timer->Dpc);
}

BOOLEAN NTAPI ExCancelTimer(PEX_TIMER Timer, PEXT_CANCEL_PARAMETERS Parameters)
{
    UNREFERENCED_PARAMETER(Parameters);
    return KeCancelTimer(&Timer->Timer);
}

BOOLEAN NTAPI ExDeleteTimer(PEX_TIMER Timer, BOOLEAN Cancel, BOOLEAN Wait,
                            PEXT_DELETE_PARAMETERS Parameters)
{
    NT_ASSERT(!Wait || Cancel);
    if (Parameters != NULL) {
        Timer->Deletion = *Parameters;
    }
    const KIRQL OldIrql = KeAcquireSpinLockRaiseToDpc(&Timer->Lock);
    // A periodic timer would never be the last.
    const BOOLEAN MustCancel = Cancel || Timer->Timer.Period != 0;
    const BOOLEAN WasSet = MustCancel && KeCancelTimer(&Timer->Timer);
    const BOOLEAN IsPending = Timer->Timer.TimerListEntry.Flink != NULL;
    (VOID)(MustCancel && KeRemoveQueueDpc(&Timer->Dpc));
    const BOOLEAN IsLast = !IsPending && !Timer->IsInCallback && Timer->Dpc.DpcData == NULL;
    Timer->IsDeleted = TRUE;
    KeReleaseSpinLock(&Timer->Lock, OldIrql);
    if (IsLast) {
        KiFreeExTimer(Timer);
    } else if (Wait) {
        KeFlushQueuedDpcs();
    }
    return WasSet;
}
