// Threads, events and waits: who runs, who waits, and what ends a wait.
#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "kernel/inc/ps.h"
#include "tests/kernel/tests.h"

#define UNITS_PER_MS 10000ll

LARGE_INTEGER KtMilliseconds(LONG Milliseconds)
{
    LARGE_INTEGER Interval;
    Interval.QuadPart = -Milliseconds * UNITS_PER_MS;
    return Interval;
}

VOID KtSleep(LONG Milliseconds)
{
    LARGE_INTEGER Interval = KtMilliseconds(Milliseconds);
    KeDelayExecutionThread(KernelMode, FALSE, &Interval);
}

// At the lowest priority this thread goes on only when nobody else can.
VOID KtSettle(VOID)
{
    const PKTHREAD Thread = KeGetCurrentThread();
    const KPRIORITY Before = KeSetPriorityThread(Thread, LOW_PRIORITY + 1);
    KtSleep(1);
    KeSetPriorityThread(Thread, Before);
}

// What a new thread does first: it goes to its processor, and waits there until KtStartThreadOn lets it go.
// The block is the new thread's from then on: the starter may be gone before it waits.
typedef struct _KT_START {
    PKSTART_ROUTINE Routine;
    PVOID Context;
    KAFFINITY Affinity; // 0: any
    KEVENT IsThere;
    KEVENT Go;
} KT_START;

static VOID NTAPI BeginThere(PVOID Context)
{
    KT_START *Start = Context;
    const PKSTART_ROUTINE Routine = Start->Routine;
    const PVOID RoutineContext = Start->Context;
    KeSetSystemAffinityThreadEx(Start->Affinity);
    KeSetEvent(&Start->IsThere, IO_NO_INCREMENT, TRUE);
    KeWaitForSingleObject(&Start->Go, Executive, KernelMode, FALSE, NULL);
    ExFreePoolWithTag(Start, KT_TAG);
    Routine(RoutineContext);
}

static PKTHREAD CreateThread(PKSTART_ROUTINE Routine, PVOID Context)
{
    HANDLE Handle;
    PVOID Thread = NULL;
    if (!NT_SUCCESS(PsCreateSystemThread(&Handle, 0, NULL, NULL, NULL, Routine, Context))) {
        return NULL;
    }
    ObReferenceObjectByHandle(Handle, 0, *PsThreadType, KernelMode, &Thread, NULL);
    ZwClose(Handle);
    return Thread;
}

PKTHREAD KtStartThreadOn(KAFFINITY Affinity, PKSTART_ROUTINE Routine, PVOID Context,
                         KPRIORITY Priority)
{
    KT_START *Start = ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(*Start), KT_TAG);
    if (Start == NULL) {
        return NULL;
    }
    *Start = (KT_START){.Routine = Routine, .Context = Context, .Affinity = Affinity};
    KeInitializeEvent(&Start->IsThere, SynchronizationEvent, FALSE);
    KeInitializeEvent(&Start->Go, SynchronizationEvent, FALSE);
    const PKTHREAD Thread = CreateThread(BeginThere, Start);
    if (Thread == NULL) {
        ExFreePoolWithTag(Start, KT_TAG);
        return NULL;
    }
    // With one processor the thread is in its wait when this one goes on; with several, as good as.
    KeWaitForSingleObject(&Start->IsThere, Executive, KernelMode, FALSE, NULL);
    if (Priority != 0) {
        KeSetPriorityThread(Thread, Priority);
    }
    KeSetEvent(&Start->Go, IO_NO_INCREMENT, FALSE);
    return Thread;
}

PKTHREAD KtStartThread(PKSTART_ROUTINE Routine, PVOID Context, KPRIORITY Priority)
{
    if (KtIsOnOneProcessor()) {
        return KtStartThreadOn(1, Routine, Context, Priority);
    }
    const PKTHREAD Thread = CreateThread(Routine, Context);
    if (Thread != NULL && Priority != 0) {
        KeSetPriorityThread(Thread, Priority);
    }
    return Thread;
}

VOID KtJoin(PKTHREAD Thread)
{
    if (Thread != NULL) {
        KeWaitForSingleObject(Thread, Executive, KernelMode, FALSE, NULL);
        ObDereferenceObject(Thread);
    }
}

static NTSTATUS Wait(PVOID Object)
{
    return KeWaitForSingleObject(Object, Executive, KernelMode, FALSE, NULL);
}

static NTSTATUS WaitMilliseconds(PVOID Object, LONG Milliseconds)
{
    LARGE_INTEGER Timeout = KtMilliseconds(Milliseconds);
    return KeWaitForSingleObject(Object, Executive, KernelMode, FALSE, &Timeout);
}

static NTSTATUS Poll(PVOID Object)
{
    return WaitMilliseconds(Object, 0);
}

//
// Threads.
//

static VOID NTAPI CountUp(PVOID Context)
{
    __atomic_add_fetch((volatile LONG *)Context, 1, __ATOMIC_RELAXED);
}

static VOID A_thread_runs_and_can_be_waited_for(VOID)
{
    volatile LONG Count = 0;
    const PKTHREAD Thread = KtStartThread(CountUp, (PVOID)&Count, 0);
    KT_REQUIRE(Thread != NULL);
    KT_EQUAL(Wait(Thread), STATUS_SUCCESS);
    KT_EQUAL(Count, 1);
    KT_EQUAL(Poll(Thread), STATUS_SUCCESS);
    ObDereferenceObject(Thread);
}

static VOID NTAPI EndWithStatus(PVOID Context)
{
    CountUp(Context);
    PsTerminateSystemThread(STATUS_NO_MEMORY);
    CountUp(Context);
}

static VOID A_thread_ends_itself_with_a_status(VOID)
{
    volatile LONG Count = 0;
    const PKTHREAD Thread = KtStartThread(EndWithStatus, (PVOID)&Count, 0);
    KT_REQUIRE(Thread != NULL);
    Wait(Thread);
    KT_EQUAL(Count, 1);
    KT_EQUAL(Thread->ExitStatus, STATUS_NO_MEMORY);
    ObDereferenceObject(Thread);
}

static VOID Only_system_threads_can_end_themselves(VOID)
{
    KT_EQUAL(PsTerminateSystemThread(STATUS_SUCCESS), STATUS_INVALID_PARAMETER);
}

static VOID A_hundred_threads_leave_nothing_behind(VOID)
{
    volatile LONG Count = 0;
    PKTHREAD Threads[100];
    for (ULONG Index = 0; Index < ARRAYSIZE(Threads); Index += 1) {
        Threads[Index] = KtStartThread(CountUp, (PVOID)&Count, 0);
        KT_CHECK(Threads[Index] != NULL);
    }
    for (ULONG Index = 0; Index < ARRAYSIZE(Threads); Index += 1) {
        KtJoin(Threads[Index]);
    }
    KT_EQUAL(Count, ARRAYSIZE(Threads));
}

static VOID NTAPI CheckItself(PVOID Context)
{
    BOOLEAN *IsRight = Context;
    const PKTHREAD Thread = KeGetCurrentThread();
    ULONG_PTR Limit;
    ULONG_PTR Base;
    KiGetStackLimits(&Limit, &Base);
    *IsRight = KeGetCurrentIrql() == PASSIVE_LEVEL && PsGetCurrentThread() == (PVOID)Thread &&
               PsGetCurrentThreadId() == PsGetThreadId((PVOID)Thread) &&
               PsGetCurrentProcess() == PsInitialSystemProcess && (ULONG_PTR)&Limit >= Limit &&
               (ULONG_PTR)&Limit < Base && KiIsStackAddress((ULONG_PTR)&Limit);
}

static VOID A_thread_knows_itself_and_its_stack(VOID)
{
    BOOLEAN IsRight = FALSE;
    KtJoin(KtStartThread(CheckItself, &IsRight, 0));
    KT_CHECK(IsRight);
    CheckItself(&IsRight);
    KT_CHECK(IsRight);
}

//
// Events.
//

static VOID A_wait_with_a_zero_timeout_polls(VOID)
{
    KEVENT Event;
    KeInitializeEvent(&Event, NotificationEvent, FALSE);
    KT_EQUAL(Poll(&Event), STATUS_TIMEOUT);
    KT_EQUAL(KeSetEvent(&Event, IO_NO_INCREMENT, FALSE), 0);
    KT_EQUAL(Poll(&Event), STATUS_SUCCESS);
    KIRQL OldIrql;
    KeRaiseIrql(DISPATCH_LEVEL, &OldIrql);
    KT_EQUAL(Poll(&Event), STATUS_SUCCESS);
    KeClearEvent(&Event);
    KT_EQUAL(Poll(&Event), STATUS_TIMEOUT);
    KeLowerIrql(OldIrql);
}

static VOID A_notification_event_stays_signalled(VOID)
{
    KEVENT Event;
    KeInitializeEvent(&Event, NotificationEvent, TRUE);
    KT_EQUAL(Wait(&Event), STATUS_SUCCESS);
    KT_EQUAL(Wait(&Event), STATUS_SUCCESS);
    KT_CHECK(KeReadStateEvent(&Event) != 0);
    KT_CHECK(KeResetEvent(&Event) != 0);
    KT_EQUAL(KeResetEvent(&Event), 0);
    KT_EQUAL(KeReadStateEvent(&Event), 0);
}

static VOID A_synchronization_event_lets_one_go(VOID)
{
    KEVENT Event;
    KeInitializeEvent(&Event, SynchronizationEvent, TRUE);
    KT_EQUAL(Wait(&Event), STATUS_SUCCESS);
    KT_EQUAL(KeReadStateEvent(&Event), 0);
    KT_EQUAL(Poll(&Event), STATUS_TIMEOUT);
}

typedef struct _WAITER {
    PVOID Object;
    volatile LONG *Count;
} WAITER;

static VOID NTAPI WaitAndCount(PVOID Context)
{
    const WAITER *Waiter = Context;
    Wait(Waiter->Object);
    CountUp((PVOID)Waiter->Count);
}

#define WAITER_COUNT 4

static LONG WaitersOf(const KEVENT *Event)
{
    LONG Count = 0;
    for (const LIST_ENTRY *Entry = Event->Header.WaitListHead.Flink;
         Entry != &Event->Header.WaitListHead && Count < WAITER_COUNT; Entry = Entry->Flink) {
        Count += 1;
    }
    return Count;
}

// With many processors a thread may come late.
static VOID StartWaiters(WAITER *Waiter, PKTHREAD *Threads)
{
    for (ULONG Index = 0; Index < WAITER_COUNT; Index += 1) {
        Threads[Index] = KtStartThread(WaitAndCount, Waiter, 0);
    }
    for (ULONG Slept = 0; WaitersOf(Waiter->Object) < WAITER_COUNT && Slept < KT_LATEST_MS;
         Slept += 1) {
        KtSleep(1);
    }
}

static VOID AwaitCount(const volatile LONG *Count, LONG AtLeast)
{
    for (ULONG Slept = 0; *Count < AtLeast && Slept < KT_LATEST_MS; Slept += 1) {
        KtSleep(1);
    }
    KtSettle();
}

static VOID Setting_an_event_lets_go_one_or_all(VOID)
{
    static const EVENT_TYPE Types[] = {NotificationEvent, SynchronizationEvent};
    for (ULONG Row = 0; Row < ARRAYSIZE(Types); Row += 1) {
        KEVENT Event;
        volatile LONG Count = 0;
        WAITER Waiter = {&Event, &Count};
        PKTHREAD Threads[WAITER_COUNT];
        KtSetContext("type %u", Types[Row]);
        KeInitializeEvent(&Event, Types[Row], FALSE);
        StartWaiters(&Waiter, Threads);
        KT_EQUAL(Count, 0);
        const LONG Expected = Types[Row] == NotificationEvent ? WAITER_COUNT : 1;
        KeSetEvent(&Event, IO_NO_INCREMENT, FALSE);
        AwaitCount(&Count, Expected);
        KT_EQUAL(Count, Expected);
        for (ULONG Index = 0; Index < WAITER_COUNT; Index += 1) {
            KeSetEvent(&Event, IO_NO_INCREMENT, FALSE);
            KtSettle();
        }
        for (ULONG Index = 0; Index < WAITER_COUNT; Index += 1) {
            KtJoin(Threads[Index]);
        }
        KT_EQUAL(Count, WAITER_COUNT);
    }
}

static VOID A_pulse_lets_go_who_waits_now(VOID)
{
    KEVENT Event;
    volatile LONG Count = 0;
    WAITER Waiter = {&Event, &Count};
    PKTHREAD Threads[WAITER_COUNT];
    KeInitializeEvent(&Event, NotificationEvent, FALSE);
    StartWaiters(&Waiter, Threads);
    KT_EQUAL(KePulseEvent(&Event, IO_NO_INCREMENT, FALSE), 0);
    KT_EQUAL(KeReadStateEvent(&Event), 0);
    for (ULONG Index = 0; Index < WAITER_COUNT; Index += 1) {
        KtJoin(Threads[Index]);
    }
    KT_EQUAL(Count, WAITER_COUNT);
    KT_EQUAL(Poll(&Event), STATUS_TIMEOUT);
}

//
// Time-outs.
//

static ULONG64 Now(VOID)
{
    return KiInterruptTimeNow();
}

static VOID A_timeout_ends_a_wait_and_not_before(VOID)
{
    static const LONG Milliseconds[] = {1, 5, 30};
    KEVENT Event;
    KeInitializeEvent(&Event, NotificationEvent, FALSE);
    for (ULONG Row = 0; Row < ARRAYSIZE(Milliseconds); Row += 1) {
        KtSetContext("%u ms", Milliseconds[Row]);
        const ULONG64 Start = Now();
        KT_EQUAL(WaitMilliseconds(&Event, Milliseconds[Row]), STATUS_TIMEOUT);
        const ULONG64 Elapsed = Now() - Start;
        KT_CHECK(Elapsed >= (ULONG64)(Milliseconds[Row] * UNITS_PER_MS));
        KT_CHECK(Elapsed < (ULONG64)((Milliseconds[Row] + KT_LATEST_MS) * UNITS_PER_MS));
    }
}

static VOID A_delay_lasts_at_least_as_long_as_asked(VOID)
{
    const ULONG64 Start = Now();
    KtSleep(10);
    KT_CHECK(Now() - Start >= 10 * UNITS_PER_MS);
}

static VOID An_absolute_timeout_of_the_past_is_over(VOID)
{
    KEVENT Event;
    LARGE_INTEGER Past;
    KeInitializeEvent(&Event, NotificationEvent, FALSE);
    Past.QuadPart = 1;
    KT_EQUAL(KeWaitForSingleObject(&Event, Executive, KernelMode, FALSE, &Past), STATUS_TIMEOUT);
}

//
// Several objects.
//

static NTSTATUS WaitForSeveral(ULONG Count, PVOID *Objects, WAIT_TYPE Type, LONG Milliseconds)
{
    LARGE_INTEGER Timeout = KtMilliseconds(Milliseconds);
    return KeWaitForMultipleObjects(Count, Objects, Type, Executive, KernelMode, FALSE, &Timeout,
                                    NULL);
}

static VOID A_wait_for_any_tells_which(VOID)
{
    KEVENT Events[3];
    PVOID Objects[] = {&Events[0], &Events[1], &Events[2]};
    for (ULONG Index = 0; Index < ARRAYSIZE(Events); Index += 1) {
        KeInitializeEvent(&Events[Index], SynchronizationEvent, FALSE);
    }
    KT_EQUAL(WaitForSeveral(3, Objects, WaitAny, 2), STATUS_TIMEOUT);
    for (ULONG Index = 0; Index < ARRAYSIZE(Events); Index += 1) {
        KeSetEvent(&Events[Index], IO_NO_INCREMENT, FALSE);
        KT_EQUAL(WaitForSeveral(3, Objects, WaitAny, 2), STATUS_WAIT_0 + Index);
        KT_EQUAL(KeReadStateEvent(&Events[Index]), 0);
    }
}

static VOID A_wait_for_all_takes_all_or_nothing(VOID)
{
    KEVENT Events[2];
    PVOID Objects[] = {&Events[0], &Events[1]};
    KeInitializeEvent(&Events[0], SynchronizationEvent, TRUE);
    KeInitializeEvent(&Events[1], SynchronizationEvent, FALSE);
    KT_EQUAL(WaitForSeveral(2, Objects, WaitAll, 2), STATUS_TIMEOUT);
    KT_CHECK(KeReadStateEvent(&Events[0]) != 0);
    KeSetEvent(&Events[1], IO_NO_INCREMENT, FALSE);
    KT_EQUAL(WaitForSeveral(2, Objects, WaitAll, 2), STATUS_SUCCESS);
    KT_EQUAL(KeReadStateEvent(&Events[0]) + KeReadStateEvent(&Events[1]), 0);
}

static const KT_TEST Tests[] = {
    {"a thread runs and can be waited for [21.1.1]", A_thread_runs_and_can_be_waited_for},
    {"a thread ends itself with a status [21.1.1]", A_thread_ends_itself_with_a_status},
    {"only system threads can end themselves", Only_system_threads_can_end_themselves},
    {"a hundred threads leave nothing behind [21.1.2]", A_hundred_threads_leave_nothing_behind},
    {"a thread knows itself and its stack", A_thread_knows_itself_and_its_stack},
    {"a wait with a zero time-out polls, at DISPATCH_LEVEL, too [21.3.1]",
     A_wait_with_a_zero_timeout_polls},
    {"a notification event stays signalled [21.4.1]", A_notification_event_stays_signalled},
    {"a synchronization event lets one wait go [21.4.1]", A_synchronization_event_lets_one_go},
    {"setting an event lets go one waiter or all [21.4.1]", Setting_an_event_lets_go_one_or_all},
    {"a pulse lets go who waits now [21.4.1]", A_pulse_lets_go_who_waits_now},
    {"a time-out ends a wait, and not before its time [21.3.2]",
     A_timeout_ends_a_wait_and_not_before},
    {"a delay lasts at least as long as asked", A_delay_lasts_at_least_as_long_as_asked},
    {"an absolute time-out of the past is over [21.3.2]", An_absolute_timeout_of_the_past_is_over},
    {"a wait for any of several objects tells which [21.3.3]", A_wait_for_any_tells_which},
    {"a wait for all of several objects takes all or nothing [21.3.3]",
     A_wait_for_all_takes_all_or_nothing},
};

const KT_SUITE KtDispatcherSuite = {"dispatcher", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
