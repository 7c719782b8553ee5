// The scheduler: which thread runs.
//
//   KPCR.ReadyLists[31] ──▶ thread ──▶ thread          The first thread of the highest list that is not
//   KPCR.ReadyLists[30]                                empty runs as soon as its priority exceeds that
//    ...                                               of the current one; or, when the current one's
//   KPCR.ReadyLists[ 1] ──▶ thread                     quantum has ended, if it is not lower. Nobody
//   IdleThread                                         ready: the idle thread, which is in no list.
//
// A thread that waits, yields or ends switches away itself. One that is to make way for another is switched away
// from in two places: whoever changes what is ready (KiUnlockDispatcher) does so at once when its IRQL allows,
// else asks for the dispatch interrupt; that is the other place (KiDispatchInterrupt), where DPCs run, too.
//
// A thread whose turn ends before its time goes to the head of its list, one whose quantum is over to
// the tail. Boosts of priorities 1-15 go back by one with each quantum.
//
// Invariants:
//   S1  Bit p of ReadySummary is set exactly when ReadyLists[p] is not empty.
//   S2  The current thread of a processor is in state Running and in no ready list.
//   S3  A switch happens at DISPATCH_LEVEL, with KiDispatcherLock held and no other ranked lock.
// Lock: KiDispatcherLock. It is held across the switch: who is switched to releases it.
#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "kernel/inc/ob.h"
#include "kernel/inc/ps.h"

#define KI_FIRST_FIXED_PRIORITY LOW_REALTIME_PRIORITY
#define KI_DEFAULT_PRIORITY 8

KI_LOCK KiDispatcherLock = KI_LOCK_INITIALIZER(KI_RANK_DISPATCHER, "KiDispatcherLock");

// Named by linker.ld: the boot stack is the first data.
extern const UCHAR KiDataStart[], KiStackEnd[];

// The threads that exist before there is memory.
typedef struct _KI_STATIC_THREAD {
    OB_HEADER Object;
    KTHREAD Thread;
} KI_STATIC_THREAD;

static KI_STATIC_THREAD KiInitialThread;
static KI_STATIC_THREAD KiIdleThreads[KE_MAXIMUM_PROCESSORS];
static LIST_ENTRY KiThreads = {&KiThreads, &KiThreads};
static LIST_ENTRY KiEndedThreads = {&KiEndedThreads, &KiEndedThreads};
static KEVENT KiReaperEvent;

// -------------------------------------------------------------------------------------------------
// Ready lists. Locked.

FORCEINLINE VOID KiInsertReady(PKPCR Pcr, PKTHREAD Thread, BOOLEAN AtHead)
{
    const PLIST_ENTRY List = &Pcr->ReadyLists[(ULONG)Thread->Priority];
    if (AtHead) {
        InsertHeadList(List, &Thread->ReadyLink);
    } else {
        InsertTailList(List, &Thread->ReadyLink);
    }
    Pcr->ReadySummary |= 1u << Thread->Priority;
    Thread->State = KiThreadReady;
}

FORCEINLINE VOID KiRemoveReadyOf(PKPCR Pcr, PKTHREAD Thread)
{
    if (RemoveEntryList(&Thread->ReadyLink)) {
        Pcr->ReadySummary &= ~(1u << Thread->Priority);
    }
}

static VOID KiRemoveReady(PKTHREAD Thread)
{
    KiRemoveReadyOf(KeArchGetPcrOf(Thread->Processor), Thread);
}

// -1: none is ready.
FORCEINLINE LONG KiBestReadyPriority(const KPCR *Pcr)
{
    return Pcr->ReadySummary != 0 ? 31 - __builtin_clz(Pcr->ReadySummary) : -1;
}

// Whatever is for others is out of the way of a machine that has one processor.
FORCEINLINE BOOLEAN KiHasOthers(VOID)
{
    return __builtin_expect(KeNumberProcessors > 1, 0) != 0;
}

FORCEINLINE BOOLEAN KiMayRunOn(const KTHREAD *Thread, ULONG Processor)
{
    return Thread->Affinity == KI_NO_AFFINITY || (Thread->Affinity >> Processor & 1) != 0;
}

// The best of a processor's ready threads that may run on another one, if it is better than Least; or
// NULL.
static PKTHREAD KiFindReadyFor(const KPCR *Owner, ULONG Processor, LONG Least)
{
    for (ULONG Summary = Owner->ReadySummary; Summary != 0;) {
        const LONG Priority = 31 - __builtin_clz(Summary);
        const LIST_ENTRY *List = &Owner->ReadyLists[Priority];
        if (Priority <= Least) {
            return NULL;
        }
        for (PLIST_ENTRY Entry = List->Flink; Entry != List; Entry = Entry->Flink) {
            const PKTHREAD Thread = CONTAINING_RECORD(Entry, KTHREAD, ReadyLink);
            if (KiMayRunOn(Thread, Processor)) {
                return Thread;
            }
        }
        Summary &= ~(1u << Priority);
    }
    return NULL;
}

// The same of all other processors.
DECLSPEC_NOINLINE static PKTHREAD KiFindOthersReady(const KPCR *Pcr, LONG Least)
{
    PKTHREAD Best = NULL;
    for (ULONG Number = 0; Number < (ULONG)KeNumberProcessors; Number += 1) {
        const PKTHREAD Thread = Number != Pcr->Number
                                    ? KiFindReadyFor(KeArchGetPcrOf(Number), Pcr->Number, Least)
                                    : NULL;
        if (Thread != NULL) {
            Best = Thread;
            Least = Thread->Priority;
        }
    }
    return Best;
}

FORCEINLINE PKTHREAD KiTakeBestReady(PKPCR Pcr)
{
    const LONG Priority = KiBestReadyPriority(Pcr);
    const PKTHREAD Other = KiHasOthers() ? KiFindOthersReady(Pcr, Priority) : NULL;
    if (Other != NULL) {
        KiRemoveReady(Other);
        Other->Processor = Pcr->Number;
        return Other;
    }
    if (Priority < 0) {
        return Pcr->IdleThread;
    }
    const PKTHREAD Own = CONTAINING_RECORD(Pcr->ReadyLists[Priority].Flink, KTHREAD, ReadyLink);
    KiRemoveReadyOf(Pcr, Own);
    return Own;
}

// What a thread must exceed to run there soon.
static LONG KiBusyPriority(const KPCR *Pcr)
{
    const LONG Ready = KiBestReadyPriority(Pcr);
    const LONG Current =
        Pcr->CurrentThread == Pcr->IdleThread ? -1 : (LONG)Pcr->CurrentThread->Priority;
    return Ready > Current ? Ready : Current;
}

// Where a thread that has become ready shall run: where the least is going on, and where it ran last if
// there is no less elsewhere.
static PKPCR KiChooseProcessor(const KTHREAD *Thread)
{
    PKPCR Chosen = KiMayRunOn(Thread, Thread->Processor) ? KeArchGetPcrOf(Thread->Processor) : NULL;
    for (ULONG Number = 0; Number < (ULONG)KeNumberProcessors; Number += 1) {
        const PKPCR Other = KeArchGetPcrOf(Number);
        if (KiMayRunOn(Thread, Number) &&
            (Chosen == NULL || KiBusyPriority(Other) < KiBusyPriority(Chosen))) {
            Chosen = Other;
        }
    }
    return Chosen;
}

static VOID KiAskToReschedule(const KPCR *Pcr)
{
    if (Pcr != KeArchGetPcr()) {
        KeArchRequestDispatchInterruptOn(Pcr->Number);
    }
}

DECLSPEC_NOINLINE static VOID KiMakeReadySomewhere(PKTHREAD Thread, BOOLEAN AtHead)
{
    const PKPCR Pcr = KiChooseProcessor(Thread);
    Thread->Processor = Pcr->Number;
    KiInsertReady(Pcr, Thread, AtHead);
    if (Thread->Priority > Pcr->CurrentThread->Priority) {
        KiAskToReschedule(Pcr);
    }
}

VOID KiMakeReady(PKTHREAD Thread, BOOLEAN AtHead)
{
    const PKPCR Pcr = KeArchGetPcr();
    if (Thread == Pcr->IdleThread) {
        Thread->State = KiThreadReady;
    } else if (KiHasOthers()) {
        KiMakeReadySomewhere(Thread, AtHead);
    } else {
        KiInsertReady(Pcr, Thread, AtHead);
    }
}

// -------------------------------------------------------------------------------------------------
// The switch.

FORCEINLINE VOID KiSwitchTo(PKPCR Pcr, PKTHREAD New)
{
    const PKTHREAD Old = Pcr->CurrentThread;
#if DBG
    NT_ASSERT_INVARIANT("S3", KeArchReadIrql() == DISPATCH_LEVEL &&
                                  Pcr->HeldRanks == 1u << KI_RANK_DISPATCHER);
#endif
    New->State = KiThreadRunning;
    Pcr->QuantumEnded = FALSE;
    if (New == Old) {
        return;
    }
    Pcr->CurrentThread = New;
    Pcr->SwitchCount += 1;
    KeArchSwitchStack(Old, New);
}

VOID KiSwitchAway(VOID)
{
    const PKPCR Pcr = KeArchGetPcr();
    KiSwitchTo(Pcr, KiTakeBestReady(Pcr));
}

// Equals that wait for another processor shall have their share of this one.
DECLSPEC_NOINLINE static VOID KiGiveWayToOthers(PKPCR Pcr, PKTHREAD Thread)
{
    const PKTHREAD Other = KiFindOthersReady(Pcr, (LONG)Thread->Priority - 1);
    if (Other != NULL) {
        KiRemoveReady(Other);
        Other->Processor = Pcr->Number;
        KiMakeReady(Thread, FALSE);
        KiSwitchTo(Pcr, Other);
    }
}

VOID KiGiveWay(VOID)
{
    const PKPCR Pcr = KeArchGetPcr();
    const PKTHREAD Thread = Pcr->CurrentThread;
    if (KiBestReadyPriority(Pcr) >= Thread->Priority) {
        KiMakeReady(Thread, FALSE);
        KiSwitchTo(Pcr, KiTakeBestReady(Pcr));
    } else if (KiHasOthers()) {
        KiGiveWayToOthers(Pcr, Thread);
    }
}

// Whether a ready thread is to run before the current one, or this may not run here any more.
static BOOLEAN KiMustSwitch(const KPCR *Pcr)
{
    return KiBestReadyPriority(Pcr) > Pcr->CurrentThread->Priority ||
           !KiMayRunOn(Pcr->CurrentThread, Pcr->Number);
}

VOID KiUnlockDispatcher(KIRQL OldIrql)
{
    const PKPCR Pcr = KeArchGetPcr();
    if (KiMustSwitch(Pcr)) {
        if (OldIrql < DISPATCH_LEVEL) {
            KiMakeReady(Pcr->CurrentThread, TRUE);
            KiSwitchAway();
        } else {
            KeArchRequestDispatchInterrupt();
        }
    }
    KiReleaseLock(&KiDispatcherLock, OldIrql);
}

VOID KiUnlockAfterSignal(KIRQL OldIrql, BOOLEAN Wait)
{
    if (!Wait) {
        KiUnlockDispatcher(OldIrql);
        return;
    }
    const PKTHREAD Thread = KeArchGetCurrentThread();
    Thread->WaitNext = TRUE;
    Thread->WaitIrql = OldIrql;
    KiReleaseLock(&KiDispatcherLock, DISPATCH_LEVEL);
}

static VOID KiEndQuantum(PKPCR Pcr)
{
    const PKTHREAD Thread = Pcr->CurrentThread;
    Thread->Quantum = KI_QUANTUM_TICKS;
    if (Thread->Priority < KI_FIRST_FIXED_PRIORITY && Thread->Priority > Thread->BasePriority) {
        Thread->Priority -= 1;
    }
    KiGiveWay();
    KeArchGetPcr()->QuantumEnded = FALSE;
}

// The dispatch interrupt: at DISPATCH_LEVEL, with interrupts on; what was interrupted ran below. The
// interrupted thread may come back much later.
VOID KiDispatchInterrupt(VOID)
{
    KiRetireDpcs();
    const KIRQL OldIrql = KiLockDispatcher();
    const PKPCR Pcr = KeArchGetPcr();
    if (Pcr->QuantumEnded) {
        KiEndQuantum(Pcr);
    }
    if (KiMustSwitch(KeArchGetPcr())) {
        KiMakeReady(KeArchGetCurrentThread(), TRUE);
        KiSwitchAway();
    }
    KiReleaseLock(&KiDispatcherLock, OldIrql);
}

// The clock has ticked: at CLOCK_LEVEL. What there is to do is done at DISPATCH_LEVEL.
VOID KiClockInterrupt(VOID)
{
    const PKPCR Pcr = KeArchGetPcr();
    const PKTHREAD Thread = Pcr->CurrentThread;
    const ULONG Ticks = Pcr->Number == 0 ? KiAdvanceTime() : 1;
    Thread->RunTime += Ticks;
    if (Thread != Pcr->IdleThread && Ticks != 0) {
        Thread->Quantum = Thread->Quantum > (LONG)Ticks ? (CHAR)(Thread->Quantum - (LONG)Ticks) : 0;
        Pcr->QuantumEnded = Pcr->QuantumEnded || Thread->Quantum == 0;
    }
    // Time, and its timers, are the first processor's.
    Pcr->TimersDue = Pcr->Number == 0 && KiIsTimerDue(KiInterruptTime());
    if (Pcr->TimersDue || Pcr->QuantumEnded || !IsListEmpty(&Pcr->DpcList)) {
        KeArchRequestDispatchInterrupt();
    }
}

// -------------------------------------------------------------------------------------------------
// Threads.

static VOID KiFillThread(PKTHREAD Thread, ULONG_PTR StackBase, SIZE_T StackByteCount)
{
    RtlZeroMemory(Thread, sizeof(*Thread));
    Thread->Header.Type = KiThreadObject;
    Thread->Header.Size = (UCHAR)(sizeof(KTHREAD) / sizeof(ULONG));
    InitializeListHead(&Thread->Header.WaitListHead);
    InitializeListHead(&Thread->MutantListHead);
    InitializeListHead(&Thread->Timer.Header.WaitListHead);
    Thread->Timer.Header.Type = KiThreadTimerObject;
    Thread->StackBase = StackBase;
    Thread->StackLimit = StackBase - StackByteCount;
    Thread->Priority = KI_DEFAULT_PRIORITY;
    Thread->BasePriority = KI_DEFAULT_PRIORITY;
    Thread->Quantum = KI_QUANTUM_TICKS;
}

// Of the others it is the idle thread.
PKTHREAD KiGetInitialThread(ULONG Number)
{
    if (Number != 0) {
        return &KiIdleThreads[Number].Thread;
    }
    const PKTHREAD Thread = &KiInitialThread.Thread;
    if (Thread->StackBase == 0) {
        KiFillThread(Thread, (ULONG_PTR)KiStackEnd, (SIZE_T)(KiStackEnd - KiDataStart));
        Thread->State = KiThreadRunning;
        InsertTailList(&KiThreads, &Thread->ThreadLink);
    }
    return Thread;
}

DECLSPEC_NORETURN VOID NTAPI KiIdle(PVOID Context)
{
    UNREFERENCED_PARAMETER(Context);
    for (;;) {
        KiSleep();
    }
}

static PKTHREAD KiInitializeIdleThread(ULONG Number, PVOID StackBase, SIZE_T StackByteCount)
{
    const PKTHREAD Idle = &KiIdleThreads[Number].Thread;
    KeInitializeThread(Idle, StackBase, StackByteCount, KiIdle, NULL);
    Idle->Priority = LOW_PRIORITY;
    Idle->BasePriority = LOW_PRIORITY;
    Idle->Processor = (USHORT)Number;
    Idle->State = KiThreadReady;
    return Idle;
}

VOID KiInitializeReadyLists(VOID)
{
    const PKPCR Pcr = KeArchGetPcr();
    for (ULONG Priority = 0; Priority < KI_PRIORITY_COUNT; Priority += 1) {
        InitializeListHead(&Pcr->ReadyLists[Priority]);
    }
    InitializeListHead(&Pcr->DpcList);
    KeInitializeSpinLock(&Pcr->DpcLock);
    Pcr->IdleThread = &KiIdleThreads[Pcr->Number].Thread;
}

VOID KeInitializeDispatcher(PVOID IdleStackBase, SIZE_T IdleStackByteCount)
{
    KiInitializeReadyLists();
    KiInitializeTimers();
    KeInitializeEvent(&KiReaperEvent, SynchronizationEvent, FALSE);
    (VOID) KiInitializeIdleThread(0, IdleStackBase, IdleStackByteCount);
    KeArchRestoreInterrupts(TRUE);
}

VOID KiPrepareIdleThread(ULONG Number, PVOID StackBase, SIZE_T StackByteCount)
{
    KiInitializeIdleThread(Number, StackBase, StackByteCount)->State = KiThreadRunning;
}

VOID KeInitializeThread(PKTHREAD Thread, PVOID StackBase, SIZE_T StackByteCount,
                        PKSTART_ROUTINE StartRoutine, PVOID StartContext)
{
    KiFillThread(Thread, (ULONG_PTR)StackBase, StackByteCount);
    Thread->StartRoutine = StartRoutine;
    Thread->StartContext = StartContext;
    Thread->StackPointer = KeArchPrepareStack((ULONG_PTR)StackBase);
    const KIRQL OldIrql = KiLockDispatcher();
    InsertTailList(&KiThreads, &Thread->ThreadLink);
    KiReleaseLock(&KiDispatcherLock, OldIrql);
}

VOID KeReadyThread(PKTHREAD Thread)
{
    const KIRQL OldIrql = KiLockDispatcher();
    KiMakeReady(Thread, FALSE);
    KiUnlockDispatcher(OldIrql);
}

VOID KeForgetThread(PKTHREAD Thread)
{
    const KIRQL OldIrql = KiLockDispatcher();
    RemoveEntryList(&Thread->ThreadLink);
    KiReleaseLock(&KiDispatcherLock, OldIrql);
}

VOID KeMakeStaticThreadsObjects(struct _OBJECT_TYPE *Type)
{
    ObInitializeStaticObject(&KiInitialThread.Object, Type);
    for (ULONG Number = 0; Number < KE_MAXIMUM_PROCESSORS; Number += 1) {
        ObInitializeStaticObject(&KiIdleThreads[Number].Object, Type);
    }
}

// Here a thread's life begins, as if it came back from KiSwitchAway: with the lock, which whoever
// switched to it has taken.
_No_lock_analysis_ DECLSPEC_NORETURN VOID KiStartThread(VOID)
{
    const PKTHREAD Thread = KeArchGetCurrentThread();
    KiReleaseLock(&KiDispatcherLock, PASSIVE_LEVEL);
    Thread->StartRoutine(Thread->StartContext);
    KeTerminateThread(STATUS_SUCCESS);
}

// What a thread must have given back before it ends.
static VOID KiRequireMayEnd(const KTHREAD *Thread)
{
    const KIRQL Irql = KeArchReadIrql();
    if (Irql != PASSIVE_LEVEL || Thread->KernelApcDisable != 0 || Thread->SpecialApcDisable != 0) {
        KiBugCheckSaying(
            KERNEL_APC_PENDING_DURING_EXIT, 0, (ULONG_PTR)(LONG_PTR)Thread->KernelApcDisable, Irql,
            0, "thread %llu, whose routine is 0x%p, ends at IRQL %u, %s",
            (ULONG64)(ULONG_PTR)Thread->ThreadId, Thread->StartRoutine, Irql,
            Irql != PASSIVE_LEVEL ? "not at PASSIVE_LEVEL"
                                  : "inside a critical region, or with a mutex of its own");
    }
}

static VOID (*KiThreadEndRoutine)(VOID);

VOID KeSetThreadEndRoutine(VOID (*Routine)(VOID))
{
    KiThreadEndRoutine = Routine;
}

DECLSPEC_NORETURN VOID KeTerminateThread(NTSTATUS ExitStatus)
{
    const PKTHREAD Thread = KeArchGetCurrentThread();
    KiAbandonMutexes(Thread);
    KiRequireMayEnd(Thread);
    if (KiThreadEndRoutine != NULL) {
        KiThreadEndRoutine();
    }
    (VOID) KiLockDispatcher();
    Thread->ExitStatus = ExitStatus;
    Thread->State = KiThreadTerminated;
    RemoveEntryList(&Thread->ThreadLink);
    InsertTailList(&KiEndedThreads, &Thread->ReadyLink);
    KiReaperEvent.Header.SignalState = 1;
    KiTestWaiters(&KiReaperEvent.Header, 0);
    KiSwitchAway();
    KiBugCheckSaying(KMODE_EXCEPTION_NOT_HANDLED, 0, 0, 0, 0, "a thread that has ended runs again");
}

VOID KeWaitForReaperWork(VOID)
{
    KeWaitForSingleObject(&KiReaperEvent, Executive, KernelMode, FALSE, NULL);
}

VOID KeRequestReaper(VOID)
{
    KeSetEvent(&KiReaperEvent, 0, FALSE);
}

PKTHREAD KeTakeEndedThread(VOID)
{
    const KIRQL OldIrql = KiLockDispatcher();
    const PKTHREAD Thread =
        IsListEmpty(&KiEndedThreads)
            ? NULL
            : CONTAINING_RECORD(RemoveHeadList(&KiEndedThreads), KTHREAD, ReadyLink);
    KiReleaseLock(&KiDispatcherLock, OldIrql);
    return Thread;
}

// The waiters' references may be the last ones as soon as they run: not before the lock is released.
BOOLEAN KeFinishThread(PKTHREAD Thread)
{
    const KIRQL OldIrql = KiLockDispatcher();
    Thread->Header.SignalState = 1;
    KiTestWaiters(&Thread->Header, 0);
    const BOOLEAN IsLast = ObReleaseReference(Thread);
    KiUnlockDispatcher(OldIrql);
    return IsLast;
}

VOID KeEnumerateThreads(KI_THREAD_ROUTINE *Routine, PVOID Context)
{
    const KIRQL OldIrql = KiLockDispatcher();
    for (PLIST_ENTRY Entry = KiThreads.Flink; Entry != &KiThreads; Entry = Entry->Flink) {
        Routine(CONTAINING_RECORD(Entry, KTHREAD, ThreadLink), Context);
    }
    KiReleaseLock(&KiDispatcherLock, OldIrql);
}

// -------------------------------------------------------------------------------------------------
// Stacks.

static BOOLEAN KiIsInStackOf(const KTHREAD *Thread, ULONG_PTR Address)
{
    return Address >= Thread->StackLimit && Address < Thread->StackBase;
}

static BOOLEAN KiIsInSomeStack(ULONG_PTR Address)
{
    for (PLIST_ENTRY Entry = KiThreads.Flink; Entry != &KiThreads; Entry = Entry->Flink) {
        if (KiIsInStackOf(CONTAINING_RECORD(Entry, KTHREAD, ThreadLink), Address)) {
            return TRUE;
        }
    }
    return FALSE;
}

// In a crash nobody else runs, and the lock may be held for ever. Above DISPATCH_LEVEL the list may be
// in the middle of a change, so that only the current stack is known.
BOOLEAN KiIsStackAddress(ULONG_PTR Address)
{
    if (KiIsInStackOf(KeArchGetCurrentThread(), Address)) {
        return TRUE;
    }
    if (KiIsBugCheckActive()) {
        return KiIsInSomeStack(Address);
    }
    if (KeArchReadIrql() > DISPATCH_LEVEL) {
        return FALSE;
    }
    const KIRQL OldIrql = KiLockDispatcher();
    const BOOLEAN IsFound = KiIsInSomeStack(Address);
    KiReleaseLock(&KiDispatcherLock, OldIrql);
    return IsFound;
}

VOID KiGetStackLimits(PULONG_PTR StackLimit, PULONG_PTR StackBase)
{
    const KTHREAD *Thread = KeArchGetCurrentThread();
    *StackLimit = Thread->StackLimit;
    *StackBase = Thread->StackBase;
}

// What a routine may need besides what it asks for: an interrupt may come.
#define KI_STACK_RESERVE 0x1000

NTSTATUS NTAPI KeExpandKernelStackAndCalloutEx(PEXPAND_STACK_CALLOUT Callout, PVOID Parameter,
                                               SIZE_T Size, BOOLEAN Wait, PVOID Context)
{
    UNREFERENCED_PARAMETER(Wait);
    UNREFERENCED_PARAMETER(Context); // reserved
    const ULONG_PTR Here = (ULONG_PTR)__builtin_frame_address(0);
    const ULONG_PTR Left = Here - KeArchGetCurrentThread()->StackLimit;
    if (Left < KI_STACK_RESERVE || Size > Left - KI_STACK_RESERVE) {
        return STATUS_NO_MEMORY;
    }
    Callout(Parameter);
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI KeExpandKernelStackAndCallout(PEXPAND_STACK_CALLOUT Callout, PVOID Parameter,
                                             SIZE_T Size)
{
    return KeExpandKernelStackAndCalloutEx(Callout, Parameter, Size, TRUE, NULL);
}

// -------------------------------------------------------------------------------------------------
// Priorities.

KPRIORITY NTAPI KeQueryPriorityThread(PRKTHREAD Thread)
{
    return Thread->Priority;
}

// Locked. A ready thread changes lists; the current one may have become the worse choice, which
// KiUnlockDispatcher sees.
static VOID KiChangePriority(PKTHREAD Thread, KPRIORITY Priority)
{
    Thread->Quantum = KI_QUANTUM_TICKS;
    if (Thread->State == KiThreadReady && Thread != KeArchGetPcrOf(Thread->Processor)->IdleThread) {
        KiRemoveReady(Thread);
        Thread->Priority = (CHAR)Priority;
        KiMakeReady(Thread, FALSE);
        return;
    }
    Thread->Priority = (CHAR)Priority;
    if (Thread->State == KiThreadRunning) {
        KiAskToReschedule(KeArchGetPcrOf(Thread->Processor));
    }
}

VOID KiSetCurrentAffinity(KAFFINITY Affinity)
{
    const KIRQL OldIrql = KiLockDispatcher();
    const PKTHREAD Thread = KeArchGetCurrentThread();
    Thread->Affinity = Affinity;
    KiUnlockDispatcher(OldIrql);
}

KPRIORITY NTAPI KeSetPriorityThread(PKTHREAD Thread, KPRIORITY Priority)
{
    NT_ASSERT(Priority > LOW_PRIORITY && Priority < MAXIMUM_PRIORITY);
    const KIRQL OldIrql = KiLockDispatcher();
    const KPRIORITY OldPriority = Thread->Priority;
    Thread->BasePriority = (CHAR)Priority;
    KiChangePriority(Thread, Priority);
    KiUnlockDispatcher(OldIrql);
    return OldPriority;
}

static KPRIORITY KiClampPriority(LONG Priority, KPRIORITY Lowest, KPRIORITY Highest)
{
    return Priority < Lowest ? Lowest : Priority > Highest ? Highest : Priority;
}

LONG NTAPI KeSetBasePriorityThread(PRKTHREAD Thread, LONG Increment)
{
    const KIRQL OldIrql = KiLockDispatcher();
    const LONG OldIncrement = Thread->BasePriority - KI_DEFAULT_PRIORITY;
    // The increment moves a thread within its half of the priorities.
    const KPRIORITY Priority =
        Thread->BasePriority < KI_FIRST_FIXED_PRIORITY
            ? KiClampPriority(KI_DEFAULT_PRIORITY + Increment, 1, KI_FIRST_FIXED_PRIORITY - 1)
            : KiClampPriority(KI_DEFAULT_PRIORITY + Increment, KI_FIRST_FIXED_PRIORITY,
                              HIGH_PRIORITY);
    Thread->BasePriority = (CHAR)Priority;
    KiChangePriority(Thread, Priority);
    KiUnlockDispatcher(OldIrql);
    return OldIncrement;
}

ULONG NTAPI KeQueryRuntimeThread(PKTHREAD Thread, PULONG UserTime)
{
    *UserTime = 0;
    return Thread->RunTime;
}

PKTHREAD NTAPI KeGetCurrentThread(VOID)
{
    return KeArchGetCurrentThread();
}
