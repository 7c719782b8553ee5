// Timers, and the time-outs of waits, which are timers, too.
//
//   bucket  0   1   2   ...  255     one per tick, round and round: a timer is in the bucket of the
//           │       │                first tick at which its time has come, ascending within it
//           ▼       ▼
//         timer   timer ▶ timer
//
// The clock looks at the buckets of the ticks that have passed: whether the first timer there is due.
// It reads KiFirstDue for that, which needs no lock. The dispatch interrupt then expires what is due.
//
// Invariants:
//   R1  A timer is in a bucket exactly while TimerListEntry.Flink is not NULL.
//   R2  KiFirstDue of a bucket is the due time of its first timer, or KI_NEVER.
//   R3  A timer that the clock, on the first processor, has not seen in the bucket of a tick that is over
//       is noted by who set it: it shows KiFirstDue first and reads the time then, the clock reads the
//       time first. One of them sees the other, for there is a fence in between.
// Lock: KiDispatcherLock.
#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "kernel/inc/ps.h"

#define KI_BUCKETS 256
#define KI_NEVER MAXULONG64
#define KI_TICK KI_TIME_INCREMENT
#define KI_UNITS_PER_MILLISECOND 10000ull

static LIST_ENTRY KiTimerBuckets[KI_BUCKETS];
static volatile ULONG64 KiFirstDue[KI_BUCKETS];
static ULONG64 KiLookedAtTick; // the clock's: the last tick whose bucket it has looked at
static ULONG64 KiExpiredTick;  // the last tick whose bucket was expired
static volatile BOOLEAN
    KiMayBeMissed; // a timer whose bucket the clock may have looked at before it was there

VOID KiInitializeTimers(VOID)
{
    for (ULONG Bucket = 0; Bucket < KI_BUCKETS; Bucket += 1) {
        InitializeListHead(&KiTimerBuckets[Bucket]);
        KiFirstDue[Bucket] = KI_NEVER;
    }
}

static PKTIMER KiTimerOf(PLIST_ENTRY Entry)
{
    return CONTAINING_RECORD(Entry, KTIMER, TimerListEntry);
}

static ULONG KiBucketOf(ULONG64 DueTime)
{
    return (ULONG)((DueTime / KI_TICK + (DueTime % KI_TICK != 0)) % KI_BUCKETS);
}

static VOID KiNoteFirstDue(ULONG Bucket)
{
    const PLIST_ENTRY List = &KiTimerBuckets[Bucket];
    KiFirstDue[Bucket] = IsListEmpty(List) ? KI_NEVER : KiTimerOf(List->Flink)->DueTime.QuadPart;
}

ULONG64 KiDueTimeOf(LONG64 Time)
{
    if (Time < 0) {
        const ULONG64 Now = KiInterruptTimeNow();
        const ULONG64 Due = Now + (0 - (ULONG64)Time);
        return Due < Now ? KI_NEVER - 1 : Due;
    }
    const ULONG64 Start = KiSystemTimeAtStart();
    return (ULONG64)Time > Start ? (ULONG64)Time - Start : 0;
}

BOOLEAN KiSetTimerAt(PKTIMER Timer, ULONG64 DueTime)
{
    if (DueTime <= KiInterruptTimeNow()) {
        return FALSE;
    }
    const ULONG Bucket = KiBucketOf(DueTime);
    const PLIST_ENTRY List = &KiTimerBuckets[Bucket];
    PLIST_ENTRY Before = List->Blink;
    while (Before != List && KiTimerOf(Before)->DueTime.QuadPart > DueTime) {
        Before = Before->Blink;
    }
    Timer->DueTime.QuadPart = DueTime;
    InsertHeadList(Before, &Timer->TimerListEntry);
    KiNoteFirstDue(Bucket);
    // R3
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (DueTime <= KiInterruptTimeNow()) {
        KiMayBeMissed = TRUE;
    }
    return TRUE;
}

VOID KiRemoveTimer(PKTIMER Timer)
{
    RemoveEntryList(&Timer->TimerListEntry);
    Timer->TimerListEntry.Flink = NULL;
    KiNoteFirstDue(KiBucketOf(Timer->DueTime.QuadPart));
}

// A bucket is in the future of ticks that are more than KI_BUCKETS ago, too: once round is all.
static ULONG64 KiFirstTickToLookAt(ULONG64 LastTick, ULONG64 Now)
{
    const ULONG64 Tick = Now / KI_TICK;
    return Tick - LastTick > KI_BUCKETS ? Tick - KI_BUCKETS + 1 : LastTick + 1;
}

BOOLEAN KiIsTimerDue(ULONG64 Now)
{
    const ULONG64 LastTick = Now / KI_TICK;
    BOOLEAN IsDue = FALSE;
    for (ULONG64 Tick = KiFirstTickToLookAt(KiLookedAtTick, Now); Tick <= LastTick; Tick += 1) {
        IsDue = IsDue || KiFirstDue[Tick % KI_BUCKETS] <= Now;
    }
    KiLookedAtTick = LastTick;
    return IsDue || KiMayBeMissed || KeArchGetPcr()->TimersDue;
}

// Signals the timer, queues its DPC, and sets it again if it is periodic.
static VOID KiExpireTimer(PKTIMER Timer)
{
    if (Timer->Header.Type == KiThreadTimerObject) {
        KiEndWait(CONTAINING_RECORD(Timer, KTHREAD, Timer), STATUS_TIMEOUT, 0);
        return;
    }
    const ULARGE_INTEGER DueTime = Timer->DueTime;
    const PKDPC Dpc = Timer->Dpc;
    if (Timer->Period != 0) {
        // From the due time on, so that the period does not drift; what was missed is left out.
        const ULONG64 Period = Timer->Period * KI_UNITS_PER_MILLISECOND;
        ULONG64 Next = DueTime.QuadPart + Period;
        while (!KiSetTimerAt(Timer, Next)) {
            Next = KiInterruptTimeNow() + Period;
        }
    }
    Timer->Header.SignalState = 1;
    KiTestWaiters(&Timer->Header, 0);
    if (Dpc != NULL) {
        KeInsertQueueDpc(Dpc, (PVOID)(ULONG_PTR)DueTime.LowPart,
                         (PVOID)(ULONG_PTR)DueTime.HighPart);
    }
}

static VOID KiExpireBucket(ULONG Bucket, ULONG64 Now)
{
    const PLIST_ENTRY List = &KiTimerBuckets[Bucket];
    while (!IsListEmpty(List) && KiTimerOf(List->Flink)->DueTime.QuadPart <= Now) {
        const PKTIMER Timer = KiTimerOf(List->Flink);
        KiRemoveTimer(Timer);
        KiExpireTimer(Timer);
    }
}

VOID KiExpireTimers(VOID)
{
    const KIRQL OldIrql = KiLockDispatcher();
    const ULONG64 Now = KiInterruptTime();
    KiMayBeMissed = FALSE;
    for (ULONG64 Tick = KiFirstTickToLookAt(KiExpiredTick, Now); Tick <= Now / KI_TICK; Tick += 1) {
        KiExpireBucket((ULONG)(Tick % KI_BUCKETS), Now);
    }
    KiExpiredTick = Now / KI_TICK;
    KiUnlockDispatcher(OldIrql);
}

// -------------------------------------------------------------------------------------------------
// For drivers.

VOID NTAPI KeInitializeTimer(PKTIMER Timer)
{
    KeInitializeTimerEx(Timer, NotificationTimer);
}

VOID NTAPI KeInitializeTimerEx(PKTIMER Timer, TIMER_TYPE Type)
{
    *Timer = (KTIMER){.Header.Size = sizeof(KTIMER) / sizeof(ULONG)};
    Timer->Header.Type = (UCHAR)(Type == NotificationTimer ? KiTimerNotificationObject
                                                           : KiTimerSynchronizationObject);
    InitializeListHead(&Timer->Header.WaitListHead);
}

static BOOLEAN KiCancelTimer(PKTIMER Timer)
{
    if (Timer->TimerListEntry.Flink == NULL) {
        return FALSE;
    }
    KiRemoveTimer(Timer);
    return TRUE;
}

BOOLEAN NTAPI KeSetTimerEx(PKTIMER Timer, LARGE_INTEGER DueTime, LONG Period, PKDPC Dpc)
{
    NT_ASSERT(Period >= 0);
    const KIRQL OldIrql = KiLockDispatcher();
    const BOOLEAN WasSet = KiCancelTimer(Timer);
    Timer->Header.SignalState = 0;
    Timer->Dpc = Dpc;
    Timer->Period = (ULONG)Period;
    const ULONG64 Due = KiDueTimeOf(DueTime.QuadPart);
    if (!KiSetTimerAt(Timer, Due)) {
        Timer->DueTime.QuadPart = Due;
        KiExpireTimer(Timer);
    }
    KiUnlockDispatcher(OldIrql);
    return WasSet;
}

BOOLEAN NTAPI KeSetTimer(PKTIMER Timer, LARGE_INTEGER DueTime, PKDPC Dpc)
{
    return KeSetTimerEx(Timer, DueTime, 0, Dpc);
}

BOOLEAN NTAPI KeSetCoalescableTimer(PKTIMER Timer, LARGE_INTEGER DueTime, ULONG Period,
                                    ULONG TolerableDelay, PKDPC Dpc)
{
    UNREFERENCED_PARAMETER(TolerableDelay);
    return KeSetTimerEx(Timer, DueTime, (LONG)Period, Dpc);
}

BOOLEAN NTAPI KeCancelTimer(PKTIMER Timer)
{
    const KIRQL OldIrql = KiLockDispatcher();
    const BOOLEAN WasSet = KiCancelTimer(Timer);
    KiReleaseLock(&KiDispatcherLock, OldIrql);
    return WasSet;
}

BOOLEAN NTAPI KeReadStateTimer(PKTIMER Timer)
{
    return __atomic_load_n(&Timer->Header.SignalState, __ATOMIC_ACQUIRE) != 0;
}

VOID KiEnumerateTimers(KI_TIMER_ROUTINE *Routine, PVOID Context)
{
    const KIRQL OldIrql = KiLockDispatcher();
    for (ULONG Bucket = 0; Bucket < KI_BUCKETS; Bucket += 1) {
        const PLIST_ENTRY List = &KiTimerBuckets[Bucket];
        for (PLIST_ENTRY Entry = List->Flink; Entry != List; Entry = Entry->Flink) {
            Routine(KiTimerOf(Entry), Context);
        }
    }
    KiReleaseLock(&KiDispatcherLock, OldIrql);
}
