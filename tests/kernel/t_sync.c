// What threads share: semaphores, mutexes, fast mutexes, timers, queued locks, and time itself.
#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "kernel/inc/ps.h"
#include "tests/kernel/tests.h"

#define UNITS_PER_MS 10000ll

static NTSTATUS Wait(PVOID Object)
{
    return KeWaitForSingleObject(Object, Executive, KernelMode, FALSE, NULL);
}

static NTSTATUS WaitMilliseconds(PVOID Object, LONG Milliseconds)
{
    LARGE_INTEGER Timeout = KtMilliseconds(Milliseconds);
    return KeWaitForSingleObject(Object, Executive, KernelMode, FALSE, &Timeout);
}

// -------------------------------------------------------------------------------------------------
// Semaphores.

static VOID A_semaphore_lets_go_as_many_as_it_counts(VOID)
{
    KSEMAPHORE Semaphore;
    KeInitializeSemaphore(&Semaphore, 1, 4);
    KT_EQUAL(KeReadStateSemaphore(&Semaphore), 1);
    KT_EQUAL(KeReleaseSemaphore(&Semaphore, IO_NO_INCREMENT, 2, FALSE), 1);
    for (ULONG Count = 0; Count < 3; Count += 1) {
        KT_EQUAL(WaitMilliseconds(&Semaphore, 0), STATUS_SUCCESS);
    }
    KT_EQUAL(WaitMilliseconds(&Semaphore, 0), STATUS_TIMEOUT);
}

static VOID A_semaphore_never_exceeds_its_limit(VOID)
{
    static const LONG Adjustments[] = {3, 0, -1, MAXLONG};
    KSEMAPHORE Semaphore;
    KeInitializeSemaphore(&Semaphore, 2, 4);
    for (ULONG Row = 0; Row < ARRAYSIZE(Adjustments); Row += 1) {
        volatile LONG Raised = 0;
        KmTry {
            KeReleaseSemaphore(&Semaphore, IO_NO_INCREMENT, Adjustments[Row], FALSE);
        }
        KmCatch (Status) {
            Raised = Status;
        }
        KtSetContext("by %d", Adjustments[Row]);
        KT_EQUAL(Raised, STATUS_SEMAPHORE_LIMIT_EXCEEDED);
        KT_EQUAL(KeReadStateSemaphore(&Semaphore), 2);
        KT_EQUAL(KeGetCurrentIrql(), PASSIVE_LEVEL);
    }
}

typedef struct _TAKER {
    PVOID Object;
    volatile LONG *Count;
    NTSTATUS Status;
} TAKER;

static VOID NTAPI TakeOne(PVOID Context)
{
    TAKER *Taker = Context;
    Taker->Status = Wait(Taker->Object);
    __atomic_add_fetch(Taker->Count, 1, __ATOMIC_RELAXED);
}

#define TAKER_COUNT 5

static VOID A_release_lets_several_waiters_go(VOID)
{
    KSEMAPHORE Semaphore;
    volatile LONG Count = 0;
    TAKER Taker = {&Semaphore, &Count, 0};
    PKTHREAD Threads[TAKER_COUNT];
    KeInitializeSemaphore(&Semaphore, 0, MAXLONG);
    for (ULONG Index = 0; Index < TAKER_COUNT; Index += 1) {
        Threads[Index] = KtStartThread(TakeOne, &Taker, 0);
    }
    KtSettle();
    KeReleaseSemaphore(&Semaphore, IO_NO_INCREMENT, TAKER_COUNT - 2, FALSE);
    KtSettle();
    KT_EQUAL(Count, TAKER_COUNT - 2);
    KT_EQUAL(KeReadStateSemaphore(&Semaphore), 0);
    KeReleaseSemaphore(&Semaphore, IO_NO_INCREMENT, 2, FALSE);
    for (ULONG Index = 0; Index < TAKER_COUNT; Index += 1) {
        KtJoin(Threads[Index]);
    }
}

// -------------------------------------------------------------------------------------------------
// Mutexes.

static VOID A_mutex_is_recursive_and_counts(VOID)
{
    KMUTEX Mutex;
    KeInitializeMutex(&Mutex, 0);
    KT_EQUAL(KeReadStateMutex(&Mutex), 1);
    KT_EQUAL(Wait(&Mutex), STATUS_SUCCESS);
    KT_EQUAL(Wait(&Mutex), STATUS_SUCCESS);
    KT_CHECK(KeAreApcsDisabled());
    KT_CHECK(KeReleaseMutex(&Mutex, FALSE) != 0);
    KT_CHECK(KeAreApcsDisabled());
    KT_EQUAL(KeReleaseMutex(&Mutex, FALSE), 0);
    KT_EQUAL(KeReadStateMutex(&Mutex), 1);
    KT_CHECK(!KeAreApcsDisabled());
}

static NTSTATUS StatusOfRelease(PKMUTEX Mutex)
{
    volatile NTSTATUS Raised = STATUS_SUCCESS;
    KmTry {
        KeReleaseMutex(Mutex, FALSE);
    }
    KmCatch (Status) {
        Raised = Status;
    }
    return Raised;
}

static VOID NTAPI TryToRelease(PVOID Context)
{
    TAKER *Taker = Context;
    Taker->Status = StatusOfRelease(Taker->Object);
}

static VOID Only_the_owner_may_release_a_mutex(VOID)
{
    KMUTEX Mutex;
    TAKER Taker = {&Mutex, NULL, 0};
    KeInitializeMutex(&Mutex, 0);
    KT_EQUAL(StatusOfRelease(&Mutex), STATUS_MUTANT_NOT_OWNED);
    Wait(&Mutex);
    KtJoin(KtStartThread(TryToRelease, &Taker, 0));
    KT_EQUAL(Taker.Status, STATUS_MUTANT_NOT_OWNED);
    KT_EQUAL(StatusOfRelease(&Mutex), STATUS_SUCCESS);
}

typedef struct _GUARDED_COUNT {
    KMUTEX Mutex;
    FAST_MUTEX Fast;
    KGUARDED_MUTEX Guarded;
    ULONG Kind;
    volatile ULONG Count;
} GUARDED_COUNT;

static VOID Enter(GUARDED_COUNT *Guarded)
{
    switch (Guarded->Kind) {
    case 0:
        Wait(&Guarded->Mutex);
        break;
    case 1:
        ExAcquireFastMutex(&Guarded->Fast);
        break;
    default:
        KeAcquireGuardedMutex(&Guarded->Guarded);
        break;
    }
}

static VOID Leave(GUARDED_COUNT *Guarded)
{
    switch (Guarded->Kind) {
    case 0:
        KeReleaseMutex(&Guarded->Mutex, FALSE);
        break;
    case 1:
        ExReleaseFastMutex(&Guarded->Fast);
        break;
    default:
        KeReleaseGuardedMutex(&Guarded->Guarded);
        break;
    }
}

#define GUARDED_ROUNDS 20

// Reads, gives others the chance to do the same, and writes: without a lock counts are lost.
static VOID NTAPI CountGuarded(PVOID Context)
{
    GUARDED_COUNT *Guarded = Context;
    LARGE_INTEGER Zero = {.QuadPart = 0};
    for (ULONG Round = 0; Round < GUARDED_ROUNDS; Round += 1) {
        Enter(Guarded);
        const ULONG Count = Guarded->Count;
        KeDelayExecutionThread(KernelMode, FALSE, &Zero);
        Guarded->Count = Count + 1;
        Leave(Guarded);
    }
}

static VOID Mutexes_of_all_kinds_exclude(VOID)
{
    GUARDED_COUNT Guarded;
    PKTHREAD Threads[TAKER_COUNT];
    KeInitializeMutex(&Guarded.Mutex, 0);
    ExInitializeFastMutex(&Guarded.Fast);
    KeInitializeGuardedMutex(&Guarded.Guarded);
    for (Guarded.Kind = 0; Guarded.Kind < 3; Guarded.Kind += 1) {
        Guarded.Count = 0;
        for (ULONG Index = 0; Index < TAKER_COUNT; Index += 1) {
            Threads[Index] = KtStartThread(CountGuarded, &Guarded, 0);
        }
        for (ULONG Index = 0; Index < TAKER_COUNT; Index += 1) {
            KtJoin(Threads[Index]);
        }
        KtSetContext("kind %u", Guarded.Kind);
        KT_EQUAL(Guarded.Count, TAKER_COUNT * GUARDED_ROUNDS);
    }
    KT_EQUAL(Guarded.Fast.Count, FM_LOCK_BIT);
    KT_EQUAL(Guarded.Guarded.Count, GM_LOCK_BIT);
}

static VOID NTAPI TakeAndEnd(PVOID Context)
{
    Wait(Context);
}

static VOID A_mutex_whose_owner_ends_is_abandoned(VOID)
{
    KMUTEX Mutex;
    KeInitializeMutex(&Mutex, 0);
    KtJoin(KtStartThread(TakeAndEnd, &Mutex, 0));
    KT_EQUAL(StatusOfRelease(&Mutex), STATUS_ABANDONED);
    KT_EQUAL(Wait(&Mutex), STATUS_ABANDONED);
    KT_EQUAL(KeReleaseMutex(&Mutex, FALSE), 0);
    KT_EQUAL(Wait(&Mutex), STATUS_SUCCESS);
    KeReleaseMutex(&Mutex, FALSE);
}

static VOID A_fast_mutex_raises_to_APC_LEVEL(VOID)
{
    FAST_MUTEX Mutex;
    ExInitializeFastMutex(&Mutex);
    ExAcquireFastMutex(&Mutex);
    KT_EQUAL(KeGetCurrentIrql(), APC_LEVEL);
    KT_CHECK(!ExTryToAcquireFastMutex(&Mutex));
    KT_EQUAL(KeGetCurrentIrql(), APC_LEVEL);
    ExReleaseFastMutex(&Mutex);
    KT_EQUAL(KeGetCurrentIrql(), PASSIVE_LEVEL);
    KT_CHECK(ExTryToAcquireFastMutex(&Mutex));
    KT_EQUAL(KeGetCurrentIrql(), APC_LEVEL);
    ExReleaseFastMutex(&Mutex);
    KeEnterCriticalRegion();
    ExAcquireFastMutexUnsafe(&Mutex);
    KT_EQUAL(KeGetCurrentIrql(), PASSIVE_LEVEL);
    ExReleaseFastMutexUnsafe(&Mutex);
    KeLeaveCriticalRegion();
}

static VOID A_guarded_mutex_disables_all_APCs(VOID)
{
    KGUARDED_MUTEX Mutex;
    KeInitializeGuardedMutex(&Mutex);
    KT_CHECK(KeTryToAcquireGuardedMutex(&Mutex));
    KT_CHECK(KeAreAllApcsDisabled());
    KT_CHECK(!KeTryToAcquireGuardedMutex(&Mutex));
    KeReleaseGuardedMutex(&Mutex);
    KT_CHECK(!KeAreAllApcsDisabled());
    KeEnterGuardedRegion();
    KeAcquireGuardedMutexUnsafe(&Mutex);
    KeReleaseGuardedMutexUnsafe(&Mutex);
    KeLeaveGuardedRegion();
}

// -------------------------------------------------------------------------------------------------
// Several objects of several kinds.

#define MANY 20

static VOID Many_objects_need_wait_blocks(VOID)
{
    static KWAIT_BLOCK Blocks[MANY];
    KEVENT Events[MANY];
    PVOID Objects[MANY];
    LARGE_INTEGER Timeout = KtMilliseconds(2);
    for (ULONG Index = 0; Index < MANY; Index += 1) {
        KeInitializeEvent(&Events[Index], NotificationEvent, FALSE);
        Objects[Index] = &Events[Index];
    }
    KT_EQUAL(KeWaitForMultipleObjects(MANY, Objects, WaitAny, Executive, KernelMode, FALSE,
                                      &Timeout, Blocks),
             STATUS_TIMEOUT);
    for (ULONG Index = 0; Index < MANY; Index += 1) {
        KeSetEvent(&Events[Index], IO_NO_INCREMENT, FALSE);
    }
    KeClearEvent(&Events[0]);
    KT_EQUAL(KeWaitForMultipleObjects(MANY, Objects, WaitAny, Executive, KernelMode, FALSE,
                                      &Timeout, Blocks),
             STATUS_WAIT_1);
    KT_EQUAL(KeWaitForMultipleObjects(MANY, Objects, WaitAll, Executive, KernelMode, FALSE,
                                      &Timeout, Blocks),
             STATUS_TIMEOUT);
    KeSetEvent(&Events[0], IO_NO_INCREMENT, FALSE);
    KT_EQUAL(KeWaitForMultipleObjects(MANY, Objects, WaitAll, Executive, KernelMode, FALSE,
                                      &Timeout, Blocks),
             STATUS_SUCCESS);
}

typedef struct _MIXED {
    KEVENT Event;
    KSEMAPHORE Semaphore;
    KMUTEX Mutex;
    volatile NTSTATUS Status;
} MIXED;

static VOID NTAPI WaitForAllOfThem(PVOID Context)
{
    MIXED *Mixed = Context;
    PVOID Objects[] = {&Mixed->Event, &Mixed->Semaphore, &Mixed->Mutex};
    Mixed->Status = KeWaitForMultipleObjects(ARRAYSIZE(Objects), Objects, WaitAll, Executive,
                                             KernelMode, FALSE, NULL, NULL);
    KeReleaseMutex(&Mixed->Mutex, FALSE);
}

static VOID A_wait_for_all_ends_with_the_last_signal(VOID)
{
    MIXED Mixed = {.Status = STATUS_PENDING};
    KeInitializeEvent(&Mixed.Event, SynchronizationEvent, FALSE);
    KeInitializeSemaphore(&Mixed.Semaphore, 0, 1);
    KeInitializeMutex(&Mixed.Mutex, 0);
    Wait(&Mixed.Mutex);
    const PKTHREAD Thread = KtStartThread(WaitForAllOfThem, &Mixed, 0);
    KtSettle();
    KeSetEvent(&Mixed.Event, IO_NO_INCREMENT, FALSE);
    KeReleaseSemaphore(&Mixed.Semaphore, IO_NO_INCREMENT, 1, FALSE);
    KtSettle();
    KT_EQUAL(Mixed.Status, STATUS_PENDING);
    KT_EQUAL(KeReadStateEvent(&Mixed.Event), 1);
    KeReleaseMutex(&Mixed.Mutex, FALSE);
    KtJoin(Thread);
    KT_EQUAL(Mixed.Status, STATUS_SUCCESS);
    KT_EQUAL(KeReadStateEvent(&Mixed.Event), 0);
    KT_EQUAL(KeReadStateSemaphore(&Mixed.Semaphore), 0);
    KT_EQUAL(KeReadStateMutex(&Mixed.Mutex), 1);
}

typedef struct _PING_PONG {
    KEVENT Ping;
    KEVENT Pong;
} PING_PONG;

static VOID NTAPI AnswerOnce(PVOID Context)
{
    PING_PONG *Game = Context;
    Wait(&Game->Ping);
    KeSetEvent(&Game->Pong, IO_NO_INCREMENT, FALSE);
}

static VOID A_signal_may_be_followed_by_a_wait_at_once(VOID)
{
    PING_PONG Game;
    KeInitializeEvent(&Game.Ping, SynchronizationEvent, FALSE);
    KeInitializeEvent(&Game.Pong, SynchronizationEvent, FALSE);
    const PKTHREAD Thread = KtStartThread(AnswerOnce, &Game, 12);
    KtSettle();
    KeSetEvent(&Game.Ping, IO_NO_INCREMENT, TRUE);
    KT_EQUAL(KeReadStateEvent(&Game.Pong), 0);
    KT_EQUAL(Wait(&Game.Pong), STATUS_SUCCESS);
    KT_EQUAL(KeGetCurrentIrql(), PASSIVE_LEVEL);
    KtJoin(Thread);
}

// -------------------------------------------------------------------------------------------------
// Timers.

static VOID A_timer_is_signalled_when_its_time_has_come(VOID)
{
    KTIMER Timer;
    KeInitializeTimer(&Timer);
    const ULONG64 Start = KiInterruptTimeNow();
    KT_CHECK(!KeSetTimer(&Timer, KtMilliseconds(10), NULL));
    // This machine may have been away for longer than that.
    const BOOLEAN WasSignalled = KeReadStateTimer(&Timer);
    KT_CHECK(!WasSignalled || KiInterruptTimeNow() - Start >= 10 * UNITS_PER_MS);
    KT_EQUAL(Wait(&Timer), STATUS_SUCCESS);
    KT_CHECK(KiInterruptTimeNow() - Start >= 10 * UNITS_PER_MS);
    KT_CHECK(KiInterruptTimeNow() - Start < KT_LATEST_MS * UNITS_PER_MS);
    KT_CHECK(KeReadStateTimer(&Timer));
    KT_EQUAL(Wait(&Timer), STATUS_SUCCESS);
    KT_CHECK(!KeCancelTimer(&Timer));
}

static VOID A_synchronization_timer_lets_one_go(VOID)
{
    KTIMER Timer;
    KeInitializeTimerEx(&Timer, SynchronizationTimer);
    KeSetTimer(&Timer, KtMilliseconds(2), NULL);
    KT_EQUAL(Wait(&Timer), STATUS_SUCCESS);
    KT_EQUAL(WaitMilliseconds(&Timer, 0), STATUS_TIMEOUT);
}

static VOID A_timer_that_is_cancelled_or_set_again_forgets(VOID)
{
    KTIMER Timer;
    KeInitializeTimer(&Timer);
    KeSetTimer(&Timer, KtMilliseconds(KT_LATEST_MS), NULL);
    KT_CHECK(KeCancelTimer(&Timer));
    KT_CHECK(!KeCancelTimer(&Timer));
    KT_EQUAL(WaitMilliseconds(&Timer, 20), STATUS_TIMEOUT);
    KeSetTimer(&Timer, KtMilliseconds(100000), NULL);
    KT_CHECK(KeSetTimer(&Timer, KtMilliseconds(5), NULL));
    KT_EQUAL(WaitMilliseconds(&Timer, KT_LATEST_MS), STATUS_SUCCESS);
}

static VOID An_absolute_timer_goes_by_the_time_of_day(VOID)
{
    KTIMER Timer;
    LARGE_INTEGER Due;
    KeInitializeTimer(&Timer);
    KeQuerySystemTimePrecise(&Due);
    Due.QuadPart += 10 * UNITS_PER_MS;
    KeSetTimer(&Timer, Due, NULL);
    KT_EQUAL(WaitMilliseconds(&Timer, KT_LATEST_MS), STATUS_SUCCESS);
    LARGE_INTEGER Now;
    KeQuerySystemTimePrecise(&Now);
    KT_CHECK(Now.QuadPart >= Due.QuadPart);
    Due.QuadPart = 1;
    KeSetTimer(&Timer, Due, NULL);
    KT_CHECK(KeReadStateTimer(&Timer));
}

static volatile LONG TickCount;

static VOID NTAPI CountTick(PKDPC Dpc, PVOID Context, PVOID Argument1, PVOID Argument2)
{
    UNREFERENCED_PARAMETER(Dpc);
    UNREFERENCED_PARAMETER(Context);
    UNREFERENCED_PARAMETER(Argument1);
    UNREFERENCED_PARAMETER(Argument2);
    TickCount += 1;
}

static VOID A_periodic_timer_queues_its_DPC_until_it_is_cancelled(VOID)
{
    KtStayOnOneProcessor();
    KTIMER Timer;
    KDPC Dpc;
    KeInitializeTimerEx(&Timer, SynchronizationTimer);
    KeInitializeDpc(&Dpc, CountTick, NULL);
    TickCount = 0;
    KeSetTimerEx(&Timer, KtMilliseconds(2), 2, &Dpc);
    for (LONG Round = 1; Round <= 5; Round += 1) {
        KT_EQUAL(WaitMilliseconds(&Timer, KT_LATEST_MS), STATUS_SUCCESS);
        KT_CHECK(TickCount >= Round);
    }
    KT_CHECK(KeCancelTimer(&Timer));
    KeFlushQueuedDpcs();
    const LONG Ticks = TickCount;
    KtSleep(20);
    KT_EQUAL(TickCount, Ticks);
}

#define TIMER_COUNT 300

static VOID Many_timers_come_in_their_order(VOID)
{
    static KTIMER Timers[TIMER_COUNT];
    ULONG Unordered = 0;
    ULONG Early = 0;
    for (ULONG Index = 0; Index < TIMER_COUNT; Index += 1) {
        KeInitializeTimer(&Timers[Index]);
        // Some lie more than a round of the wheel away.
        KeSetTimer(&Timers[Index], KtMilliseconds((LONG)(Index * 7919 % TIMER_COUNT) + 5), NULL);
    }
    for (ULONG Index = 0; Index < TIMER_COUNT; Index += 1) {
        Wait(&Timers[Index]);
        Early += KiInterruptTimeNow() < Timers[Index].DueTime.QuadPart;
    }
    for (ULONG Index = 0; Index < TIMER_COUNT; Index += 1) {
        Unordered += !KeReadStateTimer(&Timers[Index]);
    }
    KT_EQUAL(Early + Unordered, 0);
}

typedef struct _EX_TICKS {
    volatile LONG Count;
    volatile LONG Deleted;
    BOOLEAN DeletesItself;
    KIRQL Irql;
} EX_TICKS;

static VOID NTAPI NoteDeletion(PVOID Context)
{
    ((EX_TICKS *)Context)->Deleted += 1;
}

static VOID NTAPI CountExTick(PEX_TIMER Timer, PVOID Context)
{
    EX_TICKS *Ticks = Context;
    Ticks->Irql = KeGetCurrentIrql();
    Ticks->Count += 1;
    if (Ticks->DeletesItself) {
        EXT_DELETE_PARAMETERS Parameters;
        ExInitializeDeleteTimerParameters(&Parameters);
        Parameters.DeleteCallback = NoteDeletion;
        Parameters.DeleteContext = Ticks;
        ExDeleteTimer(Timer, TRUE, FALSE, &Parameters);
        KT_EQUAL(Ticks->Deleted, 0);
    }
}

static VOID An_allocated_timer_calls_back_and_can_be_waited_for(VOID)
{
    EX_TICKS Ticks = {.Count = 0};
    KT_EQUAL(ExAllocateTimer(NULL, NULL, EX_TIMER_HIGH_RESOLUTION | EX_TIMER_NO_WAKE), NULL);
    KT_EQUAL(ExAllocateTimer(NULL, NULL, 0x100), NULL);
    const PEX_TIMER Timer = ExAllocateTimer(CountExTick, &Ticks, EX_TIMER_HIGH_RESOLUTION);
    KT_REQUIRE(Timer != NULL);
    KT_CHECK(!ExSetTimer(Timer, -2 * UNITS_PER_MS, 2 * UNITS_PER_MS, NULL));
    for (LONG Round = 1; Round <= 3; Round += 1) {
        KT_EQUAL(WaitMilliseconds(Timer, KT_LATEST_MS), STATUS_SUCCESS);
        KT_CHECK(Ticks.Count >= Round);
    }
    KT_EQUAL(Ticks.Irql, DISPATCH_LEVEL);
    KT_CHECK(ExCancelTimer(Timer, NULL));
    KT_CHECK(!ExDeleteTimer(Timer, TRUE, TRUE, NULL));
}

static VOID An_allocated_timer_goes_when_nobody_needs_it_any_more(VOID)
{
    EX_TICKS Ticks = {.DeletesItself = TRUE};
    EXT_DELETE_PARAMETERS Parameters;
    PEX_TIMER Timer = ExAllocateTimer(CountExTick, &Ticks, 0);
    KT_REQUIRE(Timer != NULL);
    ExSetTimer(Timer, -2 * UNITS_PER_MS, 0, NULL);
    KtSleep(20);
    KT_EQUAL(Ticks.Count, 1);
    KT_EQUAL(Ticks.Deleted, 1);
    // Without Cancel it expires once more.
    Ticks = (EX_TICKS){.Count = 0};
    ExInitializeDeleteTimerParameters(&Parameters);
    Parameters.DeleteCallback = NoteDeletion;
    Parameters.DeleteContext = &Ticks;
    Timer = ExAllocateTimer(CountExTick, &Ticks, EX_TIMER_NOTIFICATION);
    KT_REQUIRE(Timer != NULL);
    ExSetTimer(Timer, -5 * UNITS_PER_MS, 0, NULL);
    KT_CHECK(!ExDeleteTimer(Timer, FALSE, FALSE, &Parameters));
    KT_EQUAL(Ticks.Deleted, 0);
    KtSleep(20);
    KT_EQUAL(Ticks.Count, 1);
    KT_EQUAL(Ticks.Deleted, 1);
    // With it at once.
    Timer = ExAllocateTimer(CountExTick, &Ticks, 0);
    KT_REQUIRE(Timer != NULL);
    ExSetTimer(Timer, -100000 * UNITS_PER_MS, 0, NULL);
    KT_CHECK(ExDeleteTimer(Timer, TRUE, FALSE, &Parameters));
    KT_EQUAL(Ticks.Deleted, 2);
}

// -------------------------------------------------------------------------------------------------
// Locks.

static VOID A_spin_lock_can_be_tried_and_tested(VOID)
{
    KSPIN_LOCK Lock;
    KeInitializeSpinLock(&Lock);
    const KIRQL OldIrql = KeRaiseIrqlToDpcLevel();
    KT_CHECK(KeTestSpinLock(&Lock));
    KT_CHECK(KeTryToAcquireSpinLockAtDpcLevel(&Lock));
    KT_CHECK(!KeTestSpinLock(&Lock));
    KT_CHECK(!KeTryToAcquireSpinLockAtDpcLevel(&Lock));
    KeReleaseSpinLockFromDpcLevel(&Lock);
    const KIRQL Irql = KeAcquireSpinLockForDpc(&Lock);
    KT_CHECK(!KeTestSpinLock(&Lock));
    KeReleaseSpinLockForDpc(&Lock, Irql);
    KeLowerIrql(OldIrql);
}

static VOID A_queued_spin_lock_raises_and_restores(VOID)
{
    KSPIN_LOCK Lock;
    KLOCK_QUEUE_HANDLE Handle;
    KeInitializeSpinLock(&Lock);
    KeAcquireInStackQueuedSpinLock(&Lock, &Handle);
    KT_EQUAL(KeGetCurrentIrql(), DISPATCH_LEVEL);
    KT_CHECK(!KeTestSpinLock(&Lock));
    KeReleaseInStackQueuedSpinLock(&Handle);
    KT_EQUAL(KeGetCurrentIrql(), PASSIVE_LEVEL);
    KT_CHECK(KeTestSpinLock(&Lock));
    const KIRQL OldIrql = KeRaiseIrqlToDpcLevel();
    KeAcquireInStackQueuedSpinLockAtDpcLevel(&Lock, &Handle);
    KeReleaseInStackQueuedSpinLockFromDpcLevel(&Handle);
    KeAcquireInStackQueuedSpinLockForDpc(&Lock, &Handle);
    KeReleaseInStackQueuedSpinLockForDpc(&Handle);
    KT_CHECK(KeTestSpinLock(&Lock));
    KeLowerIrql(OldIrql);
}

// -------------------------------------------------------------------------------------------------
// Time that everybody may read.

#define YEAR_2020 132223104000000000ull

static VOID Shared_data_shows_times_that_advance(VOID)
{
    LARGE_INTEGER System[2];
    LARGE_INTEGER Ticks[2];
    const ULONG64 Interrupt = KeQueryInterruptTime();
    KeQuerySystemTime(&System[0]);
    KeQueryTickCount(&Ticks[0]);
    KtSleep(10);
    const ULONG64 Passed = KeQueryInterruptTime() - Interrupt;
    KeQuerySystemTime(&System[1]);
    KeQueryTickCount(&Ticks[1]);
    KT_CHECK(Passed >= 9 * UNITS_PER_MS && Passed < KT_LATEST_MS * UNITS_PER_MS);
    const LONG64 OfDay = System[1].QuadPart - System[0].QuadPart;
    KT_CHECK(OfDay >= 9 * UNITS_PER_MS && OfDay < KT_LATEST_MS * UNITS_PER_MS);
    const LONG64 Counted = (Ticks[1].QuadPart - Ticks[0].QuadPart) * KeQueryTimeIncrement();
    KT_CHECK(Counted >= 9 * UNITS_PER_MS && Counted < KT_LATEST_MS * UNITS_PER_MS);
    KT_CHECK((ULONG64)System[0].QuadPart > YEAR_2020);
    KT_CHECK(KeQueryUnbiasedInterruptTime() >= Interrupt);
    ULONG64 Cycles;
    KT_CHECK(KeQueryInterruptTimePrecise(&Cycles) >= Interrupt && Cycles != 0);
}

static VOID Shared_data_shows_version_and_features_and_cannot_be_written(VOID)
{
    const KUSER_SHARED_DATA *Data = (const KUSER_SHARED_DATA *)KI_USER_SHARED_DATA;
    KT_EQUAL(Data->NtMajorVersion, 10);
    KT_EQUAL(Data->NtMinorVersion, 0);
    KT_CHECK(*(const ULONG *)(KI_USER_SHARED_DATA + 0x260) >= 19041);
    KT_EQUAL(Data->TickCountMultiplier, 1u << 24);
    KT_CHECK(Data->ProcessorFeatures[PF_XMMI64_INSTRUCTIONS_AVAILABLE]);
    KT_EQUAL(Data->ProcessorFeatures[PF_NX_ENABLED], KeFeatures.Nx);
    KT_CHECK(KeProbeWrite((PVOID)(ULONG_PTR)KI_USER_SHARED_DATA, 0).Faulted);
    KT_EQUAL(ExSetTimerResolution(5000, TRUE), 10000);
}

static const KT_TEST Tests[] = {
    {"a semaphore lets go as many as it counts [21.4.2]", A_semaphore_lets_go_as_many_as_it_counts},
    {"a semaphore never exceeds its limit [21.4.2]", A_semaphore_never_exceeds_its_limit},
    {"a release lets several waiters go", A_release_lets_several_waiters_go},
    {"a mutex is recursive and counts [21.4.3]", A_mutex_is_recursive_and_counts},
    {"only the owner may release a mutex [21.4.3]", Only_the_owner_may_release_a_mutex},
    {"mutexes of all kinds exclude [21.4.4]", Mutexes_of_all_kinds_exclude},
    {"a mutex whose owner ends is abandoned [21.4.3]", A_mutex_whose_owner_ends_is_abandoned},
    {"a fast mutex raises to APC_LEVEL [21.4.4]", A_fast_mutex_raises_to_APC_LEVEL},
    {"a guarded mutex disables all APCs", A_guarded_mutex_disables_all_APCs},
    {"many objects need wait blocks [21.3.4]", Many_objects_need_wait_blocks},
    {"a wait for all ends with the last signal", A_wait_for_all_ends_with_the_last_signal},
    {"a signal may be followed by a wait at once", A_signal_may_be_followed_by_a_wait_at_once},
    {"a timer is signalled when its time has come [21.4.5]",
     A_timer_is_signalled_when_its_time_has_come},
    {"a synchronization timer lets one wait go", A_synchronization_timer_lets_one_go},
    {"a timer that is cancelled or set again forgets [21.4.5]",
     A_timer_that_is_cancelled_or_set_again_forgets},
    {"an absolute timer goes by the time of day", An_absolute_timer_goes_by_the_time_of_day},
    {"a periodic timer queues its DPC until it is cancelled [21.4.5]",
     A_periodic_timer_queues_its_DPC_until_it_is_cancelled},
    {"many timers come in their order", Many_timers_come_in_their_order},
    {"an allocated timer calls back and can be waited for",
     An_allocated_timer_calls_back_and_can_be_waited_for},
    {"an allocated timer goes when nobody needs it any more",
     An_allocated_timer_goes_when_nobody_needs_it_any_more},
    {"a spin lock can be tried and tested [21.4.6]", A_spin_lock_can_be_tried_and_tested},
    {"a queued spin lock raises and restores IRQL [21.4.6]",
     A_queued_spin_lock_raises_and_restores},
    {"shared data shows times that advance [20.4.2]", Shared_data_shows_times_that_advance},
    {"shared data shows version and features, and cannot be written [20.4.2]",
     Shared_data_shows_version_and_features_and_cannot_be_written},
};

const KT_SUITE KtSyncSuite = {"sync", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
