// Scheduling: priorities, preemption, quanta, DPCs, and what must survive a switch.
#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "kernel/inc/ps.h"
#include "tests/kernel/tests.h"

#define LOWER 7
#define HIGHER 12

static ULONG64 CyclesAfter(ULONG Milliseconds)
{
    return KeReadCycles() + KeGetCyclesPerSecond() / 1000 * Milliseconds;
}

// -------------------------------------------------------------------------------------------------
// Priorities.

typedef struct _ORDER {
    KEVENT Go;
    volatile LONG Next;
    volatile LONG Places[4];
} ORDER;

typedef struct _RUNNER {
    ORDER *Order;
    ULONG Number;
} RUNNER;

static VOID NTAPI RunInOrder(PVOID Context)
{
    const RUNNER *Runner = Context;
    KeWaitForSingleObject(&Runner->Order->Go, Executive, KernelMode, FALSE, NULL);
    Runner->Order->Places[Runner->Number] =
        __atomic_add_fetch(&Runner->Order->Next, 1, __ATOMIC_RELAXED);
}

static VOID The_highest_priority_runs_first(VOID)
{
    KtStayOnOneProcessor();
    static const KPRIORITY Priorities[] = {9, 12, 10, 16};
    static const LONG Expected[] = {4, 2, 3, 1};
    ORDER Order = {.Next = 0};
    RUNNER Runners[ARRAYSIZE(Priorities)];
    PKTHREAD Threads[ARRAYSIZE(Priorities)];
    KIRQL OldIrql;
    KeInitializeEvent(&Order.Go, NotificationEvent, FALSE);
    for (ULONG Index = 0; Index < ARRAYSIZE(Priorities); Index += 1) {
        Runners[Index] = (RUNNER){&Order, Index};
        Threads[Index] = KtStartThread(RunInOrder, &Runners[Index], Priorities[Index]);
    }
    KtSettle();
    KeRaiseIrql(DISPATCH_LEVEL, &OldIrql);
    KeSetEvent(&Order.Go, IO_NO_INCREMENT, FALSE);
    KT_EQUAL(Order.Next, 0);
    KeArchWriteIrql(OldIrql); // as a driver does it, inline
    KT_EQUAL(Order.Next, ARRAYSIZE(Priorities));
    for (ULONG Index = 0; Index < ARRAYSIZE(Priorities); Index += 1) {
        KtSetContext("priority %u", Priorities[Index]);
        KT_EQUAL(Order.Places[Index], Expected[Index]);
        KtJoin(Threads[Index]);
    }
}

static VOID NTAPI WaitTwice(PVOID Context)
{
    ORDER *Order = Context;
    for (ULONG Round = 0; Round < 2; Round += 1) {
        KeWaitForSingleObject(&Order->Go, Executive, KernelMode, FALSE, NULL);
        Order->Next += 1;
    }
}

static VOID A_waiter_of_higher_priority_preempts_the_signaller(VOID)
{
    KtStayOnOneProcessor();
    ORDER Order = {.Next = 0};
    KeInitializeEvent(&Order.Go, SynchronizationEvent, FALSE);
    const PKTHREAD Thread = KtStartThread(WaitTwice, &Order, HIGHER);
    KtSettle();
    KeSetEvent(&Order.Go, IO_NO_INCREMENT, FALSE);
    KT_EQUAL(Order.Next, 1);
    KeSetEvent(&Order.Go, IO_NO_INCREMENT, FALSE);
    KT_EQUAL(Order.Next, 2);
    KtJoin(Thread);
}

static VOID A_waiter_of_lower_priority_does_not(VOID)
{
    KtStayOnOneProcessor();
    ORDER Order = {.Next = 0};
    KeInitializeEvent(&Order.Go, SynchronizationEvent, FALSE);
    const PKTHREAD Thread = KtStartThread(WaitTwice, &Order, LOWER);
    KtSettle();
    KeSetEvent(&Order.Go, IO_NO_INCREMENT, FALSE);
    KT_EQUAL(Order.Next, 0);
    KtSettle();
    KT_EQUAL(Order.Next, 1);
    KeSetEvent(&Order.Go, IO_NO_INCREMENT, FALSE);
    KtJoin(Thread);
}

static VOID A_boost_lifts_a_waiter_over_the_signaller(VOID)
{
    KtStayOnOneProcessor();
    ORDER Order = {.Next = 0};
    KeInitializeEvent(&Order.Go, SynchronizationEvent, FALSE);
    const PKTHREAD Thread = KtStartThread(WaitTwice, &Order, LOWER);
    KtSettle();
    KeSetEvent(&Order.Go, IO_SOUND_INCREMENT, FALSE);
    KT_EQUAL(Order.Next, 1);
    KT_EQUAL(KeQueryPriorityThread(Thread), LOWER + IO_SOUND_INCREMENT);
    KeSetEvent(&Order.Go, IO_NO_INCREMENT, FALSE);
    KtJoin(Thread);
}

static VOID Priorities_can_be_asked_for_and_set(VOID)
{
    const PKTHREAD Thread = KeGetCurrentThread();
    const KPRIORITY Before = KeQueryPriorityThread(Thread);
    KT_EQUAL(KeSetPriorityThread(Thread, 13), Before);
    KT_EQUAL(KeQueryPriorityThread(Thread), 13);
    KT_EQUAL(KeSetBasePriorityThread(Thread, 2), 13 - 8);
    KT_EQUAL(KeQueryPriorityThread(Thread), 10);
    KT_EQUAL(KeSetBasePriorityThread(Thread, 100), 2);
    KT_EQUAL(KeQueryPriorityThread(Thread), 15);
    KeSetPriorityThread(Thread, Before);
}

// -------------------------------------------------------------------------------------------------
// Quanta.

typedef struct _SPINNER {
    ULONG64 EndCycles;
    volatile BOOLEAN IsDone;
} SPINNER;

static VOID NTAPI Spin(PVOID Context)
{
    SPINNER *Spinner = Context;
    while (KeReadCycles() < Spinner->EndCycles) {
        KeArchPause();
    }
    Spinner->IsDone = TRUE;
}

#define SPINNER_COUNT 3

static VOID Equal_threads_share_the_processor(VOID)
{
    KtStayOnOneProcessor();
    SPINNER Spinner = {.EndCycles = CyclesAfter(400)};
    PKTHREAD Threads[SPINNER_COUNT];
    ULONG Ticks[SPINNER_COUNT];
    ULONG Sum = 0;
    for (ULONG Index = 0; Index < SPINNER_COUNT; Index += 1) {
        Threads[Index] = KtStartThread(Spin, &Spinner, LOWER);
        KT_REQUIRE(Threads[Index] != NULL);
    }
    for (ULONG Index = 0; Index < SPINNER_COUNT; Index += 1) {
        ULONG UserTime;
        KeWaitForSingleObject(Threads[Index], Executive, KernelMode, FALSE, NULL);
        Ticks[Index] = KeQueryRuntimeThread(Threads[Index], &UserTime);
        Sum += Ticks[Index];
        ObDereferenceObject(Threads[Index]);
    }
    for (ULONG Index = 0; Index < SPINNER_COUNT; Index += 1) {
        KtSetContext("thread %u: %u of %u ticks", Index, Ticks[Index], Sum);
        KT_CHECK(Ticks[Index] * SPINNER_COUNT * 3 >= Sum);
    }
}

static VOID A_busy_thread_does_not_keep_a_better_one_from_its_time(VOID)
{
    KtStayOnOneProcessor();
    SPINNER Spinner = {.EndCycles = CyclesAfter(1000)};
    const PKTHREAD Thread = KtStartThread(Spin, &Spinner, LOWER);
    KtSleep(20);
    KT_CHECK(!Spinner.IsDone);
    KtJoin(Thread);
    KT_CHECK(Spinner.IsDone);
}

static VOID A_delay_of_zero_gives_way_to_equals(VOID)
{
    KtStayOnOneProcessor();
    LARGE_INTEGER Zero = {.QuadPart = 0};
    SPINNER Spinner = {.EndCycles = 0};
    const PKTHREAD Thread =
        KtStartThread(Spin, &Spinner, KeQueryPriorityThread(KeGetCurrentThread()));
    KeDelayExecutionThread(KernelMode, FALSE, &Zero);
    KT_CHECK(Spinner.IsDone);
    KtJoin(Thread);
}

// -------------------------------------------------------------------------------------------------
// Registers. KtHoldVectors fills xmm0-15, waits until the time has come without a call, and returns how
// many have changed. KtCallHolding does so with xmm6-15 and MXCSR around the call of a routine.

ULONG64 KtHoldVectors(ULONG64 Pattern, ULONG64 EndCycles);
ULONG64 KtCallHolding(ULONG64 Pattern, VOID (*Routine)(VOID));

__asm__(".text\n"
        ".macro FillVector n\n"
        "    leaq \\n(%rdi), %rax\n"
        "    movq %rax, %xmm\\n\n"
        "    punpcklqdq %xmm\\n, %xmm\\n\n"
        ".endm\n"
        ".macro CompareVector n\n"
        "    leaq \\n(%rdi), %rdx\n"
        "    movq %xmm\\n, %rax\n"
        "    cmpq %rdx, %rax\n"
        "    setne %al\n"
        "    movzbl %al, %eax\n"
        "    addq %rax, %rcx\n"
        "    psrldq $8, %xmm\\n\n"
        "    movq %xmm\\n, %rax\n"
        "    cmpq %rdx, %rax\n"
        "    setne %al\n"
        "    movzbl %al, %eax\n"
        "    addq %rax, %rcx\n"
        ".endm\n"
        "KtHoldVectors:\n"
        "    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
        "    FillVector \\n\n"
        "    .endr\n"
        "1:  rdtsc\n"
        "    shlq $32, %rdx\n"
        "    orq %rdx, %rax\n"
        "    cmpq %rsi, %rax\n"
        "    jb 1b\n"
        "    xorl %ecx, %ecx\n"
        "    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
        "    CompareVector \\n\n"
        "    .endr\n"
        "    movq %rcx, %rax\n"
        "    ret\n"
        "KtCallHolding:\n"
        "    pushq %rbx\n"
        "    subq $16, %rsp\n"
        "    movq %rdi, %rbx\n"
        "    movl $0x5F80, (%rsp)\n" // round down
        "    ldmxcsr (%rsp)\n"
        "    .irp n, 6,7,8,9,10,11,12,13,14,15\n"
        "    FillVector \\n\n"
        "    .endr\n"
        "    call *%rsi\n"
        "    movq %rbx, %rdi\n"
        "    xorl %ecx, %ecx\n"
        "    .irp n, 6,7,8,9,10,11,12,13,14,15\n"
        "    CompareVector \\n\n"
        "    .endr\n"
        "    stmxcsr 4(%rsp)\n"
        "    cmpl $0x5F80, 4(%rsp)\n"
        "    setne %al\n"
        "    movzbl %al, %eax\n"
        "    addq %rcx, %rax\n"
        "    movl $0x1F80, (%rsp)\n"
        "    ldmxcsr (%rsp)\n"
        "    addq $16, %rsp\n"
        "    popq %rbx\n"
        "    ret\n");

typedef struct _HOLDER {
    ULONG64 Pattern;
    ULONG64 EndCycles;
    ULONG64 ChangedCount;
} HOLDER;

static VOID NTAPI Hold(PVOID Context)
{
    HOLDER *Holder = Context;
    Holder->ChangedCount = KtHoldVectors(Holder->Pattern, Holder->EndCycles);
}

static VOID NTAPI HoldShortlyAgainAndAgain(PVOID Context)
{
    HOLDER *Holder = Context;
    while (KeReadCycles() < Holder->EndCycles) {
        Holder->ChangedCount += KtHoldVectors(Holder->Pattern, 0);
        KtSleep(1);
    }
}

static VOID Vector_registers_survive_preemption(VOID)
{
    KtStayOnOneProcessor();
    HOLDER Holders[] = {
        {0x1111111100000000, 0, 0}, {0x2222222200000000, 0, 0}, {0x3333333300000000, 0, 0}};
    PKTHREAD Threads[ARRAYSIZE(Holders)];
    const ULONG64 Switches = KeArchGetPcr()->SwitchCount;
    for (ULONG Index = 0; Index < ARRAYSIZE(Holders); Index += 1) {
        Holders[Index].EndCycles = CyclesAfter(150);
        Threads[Index] = KtStartThread(Index == 0 ? HoldShortlyAgainAndAgain : Hold,
                                       &Holders[Index], Index == 0 ? HIGHER : LOWER);
    }
    for (ULONG Index = 0; Index < ARRAYSIZE(Holders); Index += 1) {
        KtJoin(Threads[Index]);
        KtSetContext("thread %u", Index);
        KT_EQUAL(Holders[Index].ChangedCount, 0);
    }
    KT_CHECK(KeArchGetPcr()->SwitchCount - Switches > 10);
}

static VOID SleepShortly(VOID)
{
    KtSleep(2);
}

static VOID Vector_registers_survive_a_wait(VOID)
{
    KtStayOnOneProcessor();
    HOLDER Other = {0x4444444400000000, CyclesAfter(20), 0};
    const PKTHREAD Thread = KtStartThread(HoldShortlyAgainAndAgain, &Other, LOWER);
    for (ULONG Round = 0; Round < 5; Round += 1) {
        KT_EQUAL(KtCallHolding(0x5555555500000000, SleepShortly), 0);
    }
    KtJoin(Thread);
}

// -------------------------------------------------------------------------------------------------
// DPCs.

typedef struct _DPC_LOG {
    volatile LONG Count;
    volatile ULONG64 Order; // a digit for each that ran
    KIRQL Irql;
    PVOID Argument1;
    PVOID Argument2;
} DPC_LOG;

static DPC_LOG DpcLog;

static VOID NTAPI LogDpc(PKDPC Dpc, PVOID Context, PVOID Argument1, PVOID Argument2)
{
    KT_CHECK(Dpc->DpcData == NULL);
    DpcLog.Order = DpcLog.Order * 10 + (ULONG64)(ULONG_PTR)Context;
    DpcLog.Irql = KeGetCurrentIrql();
    DpcLog.Argument1 = Argument1;
    DpcLog.Argument2 = Argument2;
    DpcLog.Count += 1;
}

static VOID A_DPC_runs_by_a_write_to_CR8_alone(VOID)
{
    KtStayOnOneProcessor();
    KDPC Dpc;
    KIRQL OldIrql;
    DpcLog = (DPC_LOG){.Count = 0};
    KeInitializeDpc(&Dpc, LogDpc, NULL);
    KeRaiseIrql(DISPATCH_LEVEL, &OldIrql);
    KT_CHECK(KeInsertQueueDpc(&Dpc, (PVOID)11, (PVOID)22));
    KT_CHECK(!KeInsertQueueDpc(&Dpc, (PVOID)33, (PVOID)44));
    KeStallExecutionProcessor(10);
    KT_EQUAL(DpcLog.Count, 0);
    KeArchWriteIrql(OldIrql);
    KT_EQUAL(DpcLog.Count, 1);
    KT_EQUAL(DpcLog.Irql, DISPATCH_LEVEL);
    KT_EQUAL(DpcLog.Argument1, 11);
    KT_EQUAL(DpcLog.Argument2, 22);
}

static VOID A_DPC_that_is_queued_below_DISPATCH_LEVEL_runs_at_once(VOID)
{
    KtStayOnOneProcessor();
    KDPC Dpc;
    DpcLog = (DPC_LOG){.Count = 0};
    KeInitializeDpc(&Dpc, LogDpc, NULL);
    for (LONG Round = 1; Round <= 3; Round += 1) {
        KT_CHECK(KeInsertQueueDpc(&Dpc, NULL, NULL));
        KT_EQUAL(DpcLog.Count, Round);
    }
}

static VOID DPCs_run_in_order_of_importance(VOID)
{
    KtStayOnOneProcessor();
    KDPC Dpcs[4];
    KIRQL OldIrql;
    DpcLog = (DPC_LOG){.Count = 0};
    for (ULONG Index = 0; Index < ARRAYSIZE(Dpcs); Index += 1) {
        KeInitializeDpc(&Dpcs[Index], LogDpc, (PVOID)(ULONG_PTR)(Index + 1));
    }
    KeSetImportanceDpc(&Dpcs[1], MediumHighImportance);
    KeSetImportanceDpc(&Dpcs[3], HighImportance);
    KeRaiseIrql(HIGH_LEVEL, &OldIrql);
    for (ULONG Index = 0; Index < ARRAYSIZE(Dpcs); Index += 1) {
        KeInsertQueueDpc(&Dpcs[Index], NULL, NULL);
    }
    KT_CHECK(KeRemoveQueueDpc(&Dpcs[2]));
    KT_CHECK(!KeRemoveQueueDpc(&Dpcs[2]));
    KeLowerIrql(OldIrql);
    KT_EQUAL(DpcLog.Order, 412);
}

static VOID A_DPC_of_low_importance_waits_for_the_clock_at_most(VOID)
{
    KtStayOnOneProcessor();
    KDPC Dpc;
    DpcLog = (DPC_LOG){.Count = 0};
    KeInitializeDpc(&Dpc, LogDpc, NULL);
    KeSetImportanceDpc(&Dpc, LowImportance);
    KeInsertQueueDpc(&Dpc, NULL, NULL);
    KtSleep(5);
    KT_EQUAL(DpcLog.Count, 1);
    KeInsertQueueDpc(&Dpc, NULL, NULL);
    KeFlushQueuedDpcs();
    KT_EQUAL(DpcLog.Count, 2);
}

static VOID NTAPI QueueItselfTwiceMore(PKDPC Dpc, PVOID Context, PVOID Argument1, PVOID Argument2)
{
    volatile LONG *Count = Context;
    UNREFERENCED_PARAMETER(Argument1);
    UNREFERENCED_PARAMETER(Argument2);
    *Count += 1;
    if (*Count < 3) {
        KeInsertQueueDpc(Dpc, NULL, NULL);
    }
}

static VOID A_DPC_may_queue_itself_again(VOID)
{
    KtStayOnOneProcessor();
    KDPC Dpc;
    volatile LONG Count = 0;
    KeInitializeThreadedDpc(&Dpc, QueueItselfTwiceMore, (PVOID)&Count);
    KeInsertQueueDpc(&Dpc, NULL, NULL);
    KT_EQUAL(Count, 3);
}

static VOID NTAPI SetTheEvent(PKDPC Dpc, PVOID Context, PVOID Argument1, PVOID Argument2)
{
    UNREFERENCED_PARAMETER(Dpc);
    UNREFERENCED_PARAMETER(Argument1);
    UNREFERENCED_PARAMETER(Argument2);
    KeSetEvent(Context, IO_NO_INCREMENT, FALSE);
}

static VOID A_DPC_lets_a_better_thread_go_at_once(VOID)
{
    KtStayOnOneProcessor();
    ORDER Order = {.Next = 0};
    KDPC Dpc;
    KeInitializeEvent(&Order.Go, SynchronizationEvent, FALSE);
    const PKTHREAD Thread = KtStartThread(WaitTwice, &Order, HIGHER);
    KtSettle();
    KeInitializeDpc(&Dpc, SetTheEvent, &Order.Go);
    KeInsertQueueDpc(&Dpc, NULL, NULL);
    KT_EQUAL(Order.Next, 1);
    KeInsertQueueDpc(&Dpc, NULL, NULL);
    KT_EQUAL(Order.Next, 2);
    KtJoin(Thread);
}

static VOID NTAPI RaiseInDpc(PKDPC Dpc, PVOID Context, PVOID Argument1, PVOID Argument2)
{
    UNREFERENCED_PARAMETER(Dpc);
    UNREFERENCED_PARAMETER(Argument1);
    UNREFERENCED_PARAMETER(Argument2);
    volatile LONG *Caught = Context;
    KmTry {
        ExRaiseStatus(STATUS_NO_MEMORY);
    }
    KmCatch (Status) {
        *Caught = Status;
    }
}

static VOID A_DPC_has_handlers_of_its_own(VOID)
{
    KtStayOnOneProcessor();
    KDPC Dpc;
    volatile LONG Caught = 0;
    volatile LONG Outer = 0;
    KeInitializeDpc(&Dpc, RaiseInDpc, (PVOID)&Caught);
    KmTry {
        KeInsertQueueDpc(&Dpc, NULL, NULL);
    }
    KmCatch (Status) {
        Outer = Status;
    }
    KT_EQUAL(Caught, STATUS_NO_MEMORY);
    KT_EQUAL(Outer, 0);
}

// -------------------------------------------------------------------------------------------------
// Making threads.

static VOID NTAPI DoNothing(PVOID Context)
{
    UNREFERENCED_PARAMETER(Context);
}

static VOID A_thread_that_cannot_be_made_leaves_nothing_behind(VOID)
{
    BOOLEAN HasFailed = TRUE;
    for (ULONG Skip = 0; HasFailed && Skip < 100; Skip += 1) {
        HANDLE Handle = NULL;
        MmStartFailures(MM_FAIL_ALL, Skip, 1);
        const NTSTATUS Status = PsCreateSystemThread(&Handle, 0, NULL, NULL, NULL, DoNothing, NULL);
        HasFailed = MmStopFailures() != 0;
        KtSetContext("failure %u", Skip);
        KT_EQUAL(Status, HasFailed ? STATUS_INSUFFICIENT_RESOURCES : STATUS_SUCCESS);
        if (NT_SUCCESS(Status)) {
            ZwClose(Handle);
        }
    }
    KT_CHECK(!HasFailed);
    KtSleep(2);
}

static VOID A_thread_has_ids_and_belongs_to_the_system(VOID)
{
    HANDLE Handle;
    CLIENT_ID Id;
    PVOID Thread;
    KT_EQUAL(PsCreateSystemThread(&Handle, 0, NULL, (HANDLE)0x1234, &Id, DoNothing, NULL),
             STATUS_INVALID_HANDLE);
    KT_EQUAL(PsCreateSystemThread(&Handle, 0, NULL, NULL, &Id, DoNothing, NULL), STATUS_SUCCESS);
    KT_EQUAL(ObReferenceObjectByHandle(Handle, 0, *PsThreadType, KernelMode, &Thread, NULL),
             STATUS_SUCCESS);
    KT_EQUAL(PsGetThreadId(Thread), Id.UniqueThread);
    KT_EQUAL(PsGetThreadProcessId(Thread), Id.UniqueProcess);
    KT_EQUAL(PsGetCurrentProcessId(), Id.UniqueProcess);
    KT_EQUAL(PsGetProcessId(PsInitialSystemProcess), Id.UniqueProcess);
    KT_CHECK(PsGetCurrentThreadId() != Id.UniqueThread);
    ZwClose(Handle);
    KtJoin(Thread);
}

static VOID NTAPI ProbeBelowTheStack(PVOID Context)
{
    BOOLEAN *Faulted = Context;
    ULONG64 Value;
    const KTHREAD *Thread = KeGetCurrentThread();
    Faulted[0] = KeProbeRead((PVOID)(Thread->StackLimit - sizeof(ULONG64)), &Value).Faulted;
    Faulted[1] = KeProbeRead((PVOID)Thread->StackBase, &Value).Faulted;
    Faulted[2] = KeProbeRead((PVOID)Thread->StackLimit, &Value).Faulted;
}

static VOID A_stack_has_guards_at_both_ends(VOID)
{
    BOOLEAN Faulted[3] = {FALSE, FALSE, TRUE};
    KtJoin(KtStartThread(ProbeBelowTheStack, Faulted, 0));
    KT_CHECK(Faulted[0] && Faulted[1] && !Faulted[2]);
}

typedef struct _STACK_QUESTION {
    KEVENT Asked;
    KEVENT Answered;
    volatile ULONG_PTR Address;
} STACK_QUESTION;

static VOID NTAPI ShowStack(PVOID Context)
{
    STACK_QUESTION *Question = Context;
    Question->Address = (ULONG_PTR)&Question;
    KeSetEvent(&Question->Answered, IO_NO_INCREMENT, FALSE);
    KeWaitForSingleObject(&Question->Asked, Executive, KernelMode, FALSE, NULL);
}

static VOID The_stack_of_another_thread_is_known_while_it_lives(VOID)
{
    STACK_QUESTION Question;
    KeInitializeEvent(&Question.Asked, SynchronizationEvent, FALSE);
    KeInitializeEvent(&Question.Answered, SynchronizationEvent, FALSE);
    const PKTHREAD Thread = KtStartThread(ShowStack, &Question, 0);
    KeWaitForSingleObject(&Question.Answered, Executive, KernelMode, FALSE, NULL);
    KT_CHECK(KiIsStackAddress(Question.Address));
    KeSetEvent(&Question.Asked, IO_NO_INCREMENT, FALSE);
    KtJoin(Thread);
    KT_CHECK(!KiIsStackAddress(Question.Address));
}

static VOID NTAPI HopAboutCritically(PVOID Context)
{
    BOOLEAN *IsRight = Context;
    KeEnterCriticalRegion();
    *IsRight = KeAreApcsDisabled() && !KeAreAllApcsDisabled();
    KeLeaveCriticalRegion();
    KeEnterGuardedRegion();
    *IsRight = *IsRight && KeAreAllApcsDisabled();
    KeLeaveGuardedRegion();
    *IsRight = *IsRight && !KeAreApcsDisabled();
}

static VOID Regions_disable_APCs_of_their_thread(VOID)
{
    BOOLEAN IsRight = FALSE;
    KeEnterCriticalRegion();
    KtJoin(KtStartThread(HopAboutCritically, &IsRight, 0));
    KT_CHECK(IsRight);
    KT_CHECK(KeAreApcsDisabled());
    KeLeaveCriticalRegion();
    KT_CHECK(!KeAreApcsDisabled());
}

static VOID All_processors_are_of_one_group(VOID)
{
    KAFFINITY Active = 0;
    PROCESSOR_NUMBER Number = {9, 9, 9};
    GROUP_AFFINITY Group = {.Mask = 1};
    GROUP_AFFINITY Previous;
    KtStayOnOneProcessor();
    const ULONG Count = KeQueryActiveProcessorCount(&Active);
    KT_EQUAL(Active, ((KAFFINITY)1 << Count) - 1);
    KT_EQUAL(KeQueryActiveProcessorCountEx(ALL_PROCESSOR_GROUPS), Count);
    KT_EQUAL(KeQueryActiveProcessorCountEx(1), 0);
    KT_EQUAL(KeGetCurrentProcessorNumberEx(&Number), 0);
    KT_EQUAL(Number.Group + Number.Number + Number.Reserved, 0);
    KT_EQUAL(KeGetProcessorIndexFromNumber(&Number), 0);
    KT_EQUAL(KeGetProcessorNumberFromIndex(Count, &Number), STATUS_INVALID_PARAMETER);
    Number.Number = (UCHAR)Count;
    KT_EQUAL(KeGetProcessorIndexFromNumber(&Number), INVALID_PROCESSOR_INDEX);
    KeRevertToUserAffinityThread();
    KT_EQUAL(KeSetSystemAffinityThreadEx(1), 0);
    KT_EQUAL(KeSetSystemAffinityThreadEx((KAFFINITY)1 << Count), 1); // names none: nothing changes
    KeSetSystemGroupAffinityThread(&Group, &Previous);
    KT_EQUAL(Previous.Mask, 1);
    KeRevertToUserGroupAffinityThread(&Previous);
    KeRevertToUserAffinityThread();
    KT_EQUAL(KeSetSystemAffinityThreadEx(1), 0);
    KeRevertToUserAffinityThreadEx(0);
}

static ULONG_PTR NTAPI TellIrql(ULONG_PTR Argument)
{
    return Argument + KeGetCurrentIrql();
}

static VOID A_generic_call_runs_at_IPI_LEVEL(VOID)
{
    KT_EQUAL(KeIpiGenericCall(TellIrql, 100), 100 + IPI_LEVEL);
    KT_EQUAL(KeGetCurrentIrql(), PASSIVE_LEVEL);
}

static VOID NTAPI NoteCall(PVOID Parameter)
{
    *(PULONG)Parameter += 1;
}

static VOID NTAPI AskForStack(PVOID Context)
{
    ULONG *Calls = Context;
    Calls[1] = (ULONG)KeExpandKernelStackAndCallout(NoteCall, Calls, 0x2000);
    Calls[2] = (ULONG)KeExpandKernelStackAndCallout(NoteCall, Calls, MM_KERNEL_STACK_BYTES);
}

static VOID A_callout_runs_if_there_is_stack_for_it(VOID)
{
    ULONG Calls[3] = {0};
    KtJoin(KtStartThread(AskForStack, Calls, 0));
    KT_EQUAL(Calls[0], 1);
    KT_EQUAL(Calls[1], STATUS_SUCCESS);
    KT_EQUAL((NTSTATUS)Calls[2], STATUS_NO_MEMORY);
}

static VOID NTAPI DoNothingInBugCheck(PVOID Buffer, ULONG Length)
{
    UNREFERENCED_PARAMETER(Buffer);
    UNREFERENCED_PARAMETER(Length);
}

static VOID A_bug_check_callback_is_registered_once(VOID)
{
    static CHAR Name[] = "tests";
    KBUGCHECK_CALLBACK_RECORD Record;
    KeInitializeCallbackRecord(&Record);
    KT_CHECK(!KeDeregisterBugCheckCallback(&Record));
    KT_CHECK(KeRegisterBugCheckCallback(&Record, DoNothingInBugCheck, NULL, 0, (PUCHAR)Name));
    KT_CHECK(!KeRegisterBugCheckCallback(&Record, DoNothingInBugCheck, NULL, 0, (PUCHAR)Name));
    KT_CHECK(KeDeregisterBugCheckCallback(&Record));
    KT_CHECK(!KeDeregisterBugCheckCallback(&Record));
}

static const KT_TEST Tests[] = {
    {"the highest priority runs first, by a write to CR8 alone [20.4.1, 21.2.1]",
     The_highest_priority_runs_first},
    {"a waiter of higher priority preempts who signals [21.2.1]",
     A_waiter_of_higher_priority_preempts_the_signaller},
    {"a waiter of lower priority does not [21.2.1]", A_waiter_of_lower_priority_does_not},
    {"a boost lifts a waiter over who signals [21.2.3]", A_boost_lifts_a_waiter_over_the_signaller},
    {"priorities can be asked for and set", Priorities_can_be_asked_for_and_set},
    {"equal threads share the processor [21.2.2]", Equal_threads_share_the_processor},
    {"a busy thread does not keep a better one from its time",
     A_busy_thread_does_not_keep_a_better_one_from_its_time},
    {"a delay of zero gives way to equals [21.2.2]", A_delay_of_zero_gives_way_to_equals},
    {"vector registers survive preemption [20.4.4]", Vector_registers_survive_preemption},
    {"xmm6-15 and MXCSR survive a wait [20.4.4]", Vector_registers_survive_a_wait},
    {"a DPC runs by a write to CR8 alone [20.4.1, 21.5.1]", A_DPC_runs_by_a_write_to_CR8_alone},
    {"a DPC that is queued below DISPATCH_LEVEL runs at once [21.5.1]",
     A_DPC_that_is_queued_below_DISPATCH_LEVEL_runs_at_once},
    {"DPCs run in order of importance, unless removed [21.5.1]", DPCs_run_in_order_of_importance},
    {"a DPC of low importance waits for the clock at most",
     A_DPC_of_low_importance_waits_for_the_clock_at_most},
    {"a DPC may queue itself again [21.5.2]", A_DPC_may_queue_itself_again},
    {"a DPC lets a better thread go at once", A_DPC_lets_a_better_thread_go_at_once},
    {"what a DPC raises stays in the DPC [1.1.9]", A_DPC_has_handlers_of_its_own},
    {"a thread that cannot be made leaves nothing behind [21.1.2]",
     A_thread_that_cannot_be_made_leaves_nothing_behind},
    {"a thread has ids and belongs to the system", A_thread_has_ids_and_belongs_to_the_system},
    {"a stack has guards at both ends [21.1.3]", A_stack_has_guards_at_both_ends},
    {"the stack of another thread is known while it lives",
     The_stack_of_another_thread_is_known_while_it_lives},
    {"regions disable the APCs of their thread only [21.1.4]",
     Regions_disable_APCs_of_their_thread},
    {"a generic call runs at IPI_LEVEL", A_generic_call_runs_at_IPI_LEVEL},
    {"a callout runs if there is stack for it", A_callout_runs_if_there_is_stack_for_it},
    {"a bug-check callback is registered once", A_bug_check_callback_is_registered_once},
    {"all processors are of one group", All_processors_are_of_one_group},
};

const KT_SUITE KtThreadsSuite = {"threads", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
