// Processors: each has what is its own and is set up like the first; threads, DPCs and calls run where they
// are told; locks keep other processors out.
#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "kernel/inc/ps.h"
#include "tests/kernel/reference.h"
#include "tests/kernel/tests.h"

#define ONE_PROCESSOR "the machine has one processor"
#define MOST KE_MAXIMUM_PROCESSORS
#define AFFINITY_OF(Processor) ((KAFFINITY)1 << (Processor))

static ULONG ProcessorCount(VOID)
{
    return KeQueryActiveProcessorCount(NULL);
}

static ULONG CurrentProcessor(VOID)
{
    return KeGetCurrentProcessorNumber();
}

// -------------------------------------------------------------------------------------------------
// What a processor has.

typedef struct _SELF_PORTRAIT {
    ULONG Number;
    ULONG ApicId;
    ULONG CallCount;
    KIRQL Irql;
    const VOID *Pcr;
    const VOID *IdleThread;
    ULONG64 Gdt;
    ULONG64 Idt;
    ULONG64 Cr0, Cr3, Cr4;
    ULONG64 Efer, Pat, Pkrs, DefaultType;
} SELF_PORTRAIT;

static SELF_PORTRAIT Portraits[MOST];

typedef struct __attribute__((packed)) _TABLE_POINTER {
    USHORT Limit;
    ULONG64 Base;
} TABLE_POINTER;

#define MSR_EFER 0xC0000080
#define MSR_PKRS 0x6E1
#define MSR_DEFAULT_TYPE 0x2FF

static ULONG_PTR NTAPI DrawPortrait(ULONG_PTR Argument)
{
    const PKPCR Pcr = KeArchGetPcr();
    SELF_PORTRAIT *Portrait = &Portraits[Pcr->Number];
    TABLE_POINTER Table;
    Portrait->Number = CurrentProcessor();
    Portrait->ApicId = KeArchGetApicId();
    Portrait->CallCount += 1;
    Portrait->Irql = KeGetCurrentIrql();
    Portrait->Pcr = Pcr;
    Portrait->IdleThread = Pcr->IdleThread;
    __asm__ volatile("sgdt %0" : "=m"(Table));
    Portrait->Gdt = Table.Base;
    __asm__ volatile("sidt %0" : "=m"(Table));
    Portrait->Idt = Table.Base;
    __asm__ volatile("movq %%cr0, %0" : "=r"(Portrait->Cr0));
    __asm__ volatile("movq %%cr3, %0" : "=r"(Portrait->Cr3));
    __asm__ volatile("movq %%cr4, %0" : "=r"(Portrait->Cr4));
    Portrait->Efer = KeArchReadMsr(MSR_EFER);
    Portrait->Pat = KeArchReadMsr(REF_MSR_PAT);
    Portrait->Pkrs = KeFeatures.Pks ? KeArchReadMsr(MSR_PKRS) : 0;
    Portrait->DefaultType = KeFeatures.Mtrr ? KeArchReadMsr(MSR_DEFAULT_TYPE) : 0;
    return Argument + Pcr->Number;
}

static VOID A_generic_call_runs_once_on_each(VOID)
{
    KtStayOnOneProcessor();
    RtlZeroMemory(Portraits, sizeof(Portraits));
    KT_EQUAL(KeIpiGenericCall(DrawPortrait, 100), 100);
    for (ULONG Processor = 0; Processor < MOST; Processor += 1) {
        KtSetContext("processor %u", Processor);
        KT_EQUAL(Portraits[Processor].CallCount, Processor < ProcessorCount() ? 1 : 0);
        KT_EQUAL(Portraits[Processor].Irql, Processor < ProcessorCount() ? IPI_LEVEL : 0);
        KT_EQUAL(Portraits[Processor].Number, Processor < ProcessorCount() ? Processor : 0);
    }
}

static VOID Each_has_its_own(VOID)
{
    KeIpiGenericCall(DrawPortrait, 0);
    for (ULONG Processor = 1; Processor < ProcessorCount(); Processor += 1) {
        for (ULONG Other = 0; Other < Processor; Other += 1) {
            KtSetContext("processors %u and %u", Other, Processor);
            KT_CHECK(Portraits[Processor].ApicId != Portraits[Other].ApicId);
            KT_CHECK(Portraits[Processor].Pcr != Portraits[Other].Pcr);
            KT_CHECK(Portraits[Processor].Gdt != Portraits[Other].Gdt);
            KT_CHECK(Portraits[Processor].IdleThread != Portraits[Other].IdleThread);
        }
    }
}

static VOID Each_is_set_up_like_the_first(VOID)
{
    KeIpiGenericCall(DrawPortrait, 0);
    for (ULONG Processor = 1; Processor < ProcessorCount(); Processor += 1) {
        const SELF_PORTRAIT *Portrait = &Portraits[Processor];
        KtSetContext("processor %u", Processor);
        KT_EQUAL(Portrait->Idt, Portraits[0].Idt);
        KT_EQUAL(Portrait->Cr0, Portraits[0].Cr0);
        KT_EQUAL(Portrait->Cr3, Portraits[0].Cr3);
        KT_EQUAL(Portrait->Cr4, Portraits[0].Cr4);
        KT_EQUAL(Portrait->Efer, Portraits[0].Efer);
        KT_EQUAL(Portrait->Pat, Portraits[0].Pat);
        KT_EQUAL(Portrait->Pkrs, Portraits[0].Pkrs);
        KT_EQUAL(Portrait->DefaultType, Portraits[0].DefaultType);
    }
}

// -------------------------------------------------------------------------------------------------
// At the same time.

#define TURNS 200

typedef struct _GAME {
    volatile LONG Turn;
    volatile LONG MissedCount;
    volatile LONG BackwardCount; // times that the counter was less than the other had seen
    volatile ULONG64 Cycles;
    ULONG PlayerCount;
} GAME;

typedef struct _PLAYER {
    GAME *Game;
    ULONG Number;
    ULONG Processor;
} PLAYER;

// Who plays never waits, nor can anybody else run where he does: the turn only goes on if all run at once.
static VOID NTAPI Play(PVOID Context)
{
    PLAYER *Player = Context;
    GAME *Game = Player->Game;
    KIRQL OldIrql;
    KeRaiseIrql(DISPATCH_LEVEL, &OldIrql);
    Player->Processor = CurrentProcessor();
    for (LONG Turn = (LONG)Player->Number; Turn < TURNS; Turn += (LONG)Game->PlayerCount) {
        if (!KtAwaitProcessor(&Game->Turn, Turn)) {
            __atomic_add_fetch(&Game->MissedCount, 1, __ATOMIC_RELAXED);
            break;
        }
        const ULONG64 Now = KeReadCycles();
        if (Now < Game->Cycles) {
            __atomic_add_fetch(&Game->BackwardCount, 1, __ATOMIC_RELAXED);
        }
        Game->Cycles = Now;
        __atomic_store_n(&Game->Turn, Turn + 1, __ATOMIC_RELEASE);
    }
    KeLowerIrql(OldIrql);
}

static VOID PlayOnTwo(GAME *Game, PLAYER *Players)
{
    PKTHREAD Threads[2];
    *Game = (GAME){.PlayerCount = 2};
    for (ULONG Index = 0; Index < 2; Index += 1) {
        Players[Index] = (PLAYER){.Game = Game, .Number = Index};
        Threads[Index] = KtStartThreadOn(AFFINITY_OF(Index), Play, &Players[Index], 0);
    }
    for (ULONG Index = 0; Index < 2; Index += 1) {
        KtJoin(Threads[Index]);
    }
}

static VOID Two_threads_run_at_once(VOID)
{
    GAME Game;
    PLAYER Players[2];
    if (ProcessorCount() < 2) {
        KT_SKIP(ONE_PROCESSOR);
    }
    PlayOnTwo(&Game, Players);
    KT_EQUAL(Game.MissedCount, 0);
    KT_EQUAL(Game.Turn, TURNS);
    KT_EQUAL(Players[0].Processor, 0);
    KT_EQUAL(Players[1].Processor, 1);
}

static VOID Time_never_goes_back_from_one_to_another(VOID)
{
    GAME Game;
    PLAYER Players[2];
    if (ProcessorCount() < 2) {
        KT_SKIP(ONE_PROCESSOR);
    }
    PlayOnTwo(&Game, Players);
    KT_EQUAL(Game.Turn, TURNS);
    KT_EQUAL(Game.BackwardCount, 0);
}

// -------------------------------------------------------------------------------------------------
// Threads.

static VOID A_thread_runs_where_its_affinity_says(VOID)
{
    for (ULONG Round = 0; Round < 3; Round += 1) {
        for (ULONG Processor = 0; Processor < ProcessorCount(); Processor += 1) {
            KtSetContext("processor %u", Processor);
            KeSetSystemAffinityThread(AFFINITY_OF(Processor));
            KT_EQUAL(CurrentProcessor(), Processor);
        }
    }
}

static VOID At_DISPATCH_LEVEL_a_thread_moves_later(VOID)
{
    KIRQL OldIrql;
    if (ProcessorCount() < 2) {
        KT_SKIP(ONE_PROCESSOR);
    }
    KeSetSystemAffinityThread(1);
    KeRaiseIrql(DISPATCH_LEVEL, &OldIrql);
    KeSetSystemAffinityThread(2);
    KT_EQUAL(CurrentProcessor(), 0);
    KeLowerIrql(OldIrql);
    KT_EQUAL(CurrentProcessor(), 1);
}

typedef struct _NOTE {
    volatile LONG Count;
    volatile ULONG Processor;
    volatile KIRQL Irql;
} NOTE;

static VOID NTAPI NoteProcessor(PVOID Context)
{
    NOTE *Note = Context;
    Note->Processor = CurrentProcessor();
    __atomic_add_fetch(&Note->Count, 1, __ATOMIC_RELEASE);
}

static VOID A_ready_thread_does_not_wait_while_a_processor_idles(VOID)
{
    NOTE Note = {.Count = 0};
    KIRQL OldIrql;
    if (ProcessorCount() < 2) {
        KT_SKIP(ONE_PROCESSOR);
    }
    const PKTHREAD Thread = KtStartThread(NoteProcessor, &Note, LOW_PRIORITY + 2);
    KeRaiseIrql(DISPATCH_LEVEL, &OldIrql); // here nobody else can run
    KT_CHECK(KtAwaitProcessor(&Note.Count, 1));
    KeLowerIrql(OldIrql);
    KtJoin(Thread);
}

typedef struct _SPINNERS {
    volatile LONG IsOver;
    KEVENT Go;
} SPINNERS;

static VOID NTAPI SpinUntilOver(PVOID Context)
{
    SPINNERS *Spinners = Context;
    KeWaitForSingleObject(&Spinners->Go, Executive, KernelMode, FALSE, NULL);
    while (!Spinners->IsOver) {
        KeArchPause();
    }
}

#define SPINNER_COUNT 3
#define SPINNER_TICKS 60 // together, at least

// TRUE when each has had a third of what is its due.
static BOOLEAN IsShared(const PKTHREAD *Threads, ULONG *Ticks)
{
    ULONG UserTime;
    ULONG Sum = 0;
    for (ULONG Index = 0; Index < SPINNER_COUNT; Index += 1) {
        Ticks[Index] = KeQueryRuntimeThread(Threads[Index], &UserTime);
        Sum += Ticks[Index];
    }
    for (ULONG Index = 0; Index < SPINNER_COUNT; Index += 1) {
        if (Ticks[Index] * SPINNER_COUNT * 3 < Sum) {
            return FALSE;
        }
    }
    return Sum >= SPINNER_TICKS;
}

// The host may take a processor away for a while: what counts is that nobody is left behind in the end.
static VOID Equal_threads_share_the_processors(VOID)
{
    SPINNERS Spinners = {.IsOver = 0};
    PKTHREAD Threads[SPINNER_COUNT];
    ULONG Ticks[SPINNER_COUNT];
    if (ProcessorCount() < 2) {
        KT_SKIP(ONE_PROCESSOR);
    }
    KeInitializeEvent(&Spinners.Go, NotificationEvent, FALSE);
    for (ULONG Index = 0; Index < SPINNER_COUNT; Index += 1) {
        Threads[Index] = KtStartThreadOn(3, SpinUntilOver, &Spinners, 7);
    }
    KeSetEvent(&Spinners.Go, IO_NO_INCREMENT, FALSE);
    const ULONG64 End = KeReadCycles() + KeGetCyclesPerSecond() / 1000 * KT_LATEST_MS;
    BOOLEAN Shared = FALSE;
    while (!Shared && KeReadCycles() < End) {
        KtSleep(100);
        Shared = IsShared(Threads, Ticks);
    }
    Spinners.IsOver = 1;
    KtSetContext("ticks: %u, %u and %u", Ticks[0], Ticks[1], Ticks[2]);
    KT_CHECK(Shared);
    for (ULONG Index = 0; Index < SPINNER_COUNT; Index += 1) {
        KtJoin(Threads[Index]);
    }
}

// -------------------------------------------------------------------------------------------------
// DPCs.

static VOID NTAPI NoteDpc(PKDPC Dpc, PVOID Context, PVOID Argument1, PVOID Argument2)
{
    NOTE *Note = Context;
    UNREFERENCED_PARAMETER(Dpc);
    UNREFERENCED_PARAMETER(Argument1);
    UNREFERENCED_PARAMETER(Argument2);
    Note->Processor = CurrentProcessor();
    Note->Irql = KeGetCurrentIrql();
    __atomic_add_fetch(&Note->Count, 1, __ATOMIC_RELEASE);
}

static VOID A_targeted_DPC_runs_there(VOID)
{
    static const KIRQL Irqls[] = {PASSIVE_LEVEL, DISPATCH_LEVEL, HIGH_LEVEL};
    for (ULONG Row = 0; Row < ARRAYSIZE(Irqls) * ProcessorCount(); Row += 1) {
        const ULONG Target = Row / ARRAYSIZE(Irqls);
        NOTE Note = {.Count = 0};
        PROCESSOR_NUMBER Number;
        KDPC Dpc;
        KIRQL OldIrql;
        KtSetContext("processor %u, from IRQL %u", Target, Irqls[Row % ARRAYSIZE(Irqls)]);
        KeInitializeDpc(&Dpc, NoteDpc, &Note);
        KT_EQUAL(KeGetProcessorNumberFromIndex(Target, &Number), STATUS_SUCCESS);
        KT_EQUAL(KeSetTargetProcessorDpcEx(&Dpc, &Number), STATUS_SUCCESS);
        KeRaiseIrql(Irqls[Row % ARRAYSIZE(Irqls)], &OldIrql);
        KT_CHECK(KeInsertQueueDpc(&Dpc, NULL, NULL));
        KeLowerIrql(OldIrql);
        KT_CHECK(KtAwaitProcessor(&Note.Count, 1));
        KT_EQUAL(Note.Processor, Target);
        KT_EQUAL(Note.Irql, DISPATCH_LEVEL);
        KeFlushQueuedDpcs(); // the DPC's record is on this stack
    }
}

static VOID Any_other_DPC_runs_where_it_was_queued(VOID)
{
    for (ULONG Processor = 0; Processor < ProcessorCount(); Processor += 1) {
        NOTE Note = {.Count = 0};
        KDPC Dpc;
        KtSetContext("processor %u", Processor);
        KeSetSystemAffinityThread(AFFINITY_OF(Processor));
        KeInitializeDpc(&Dpc, NoteDpc, &Note);
        KT_CHECK(KeInsertQueueDpc(&Dpc, NULL, NULL));
        KT_EQUAL(Note.Count, 1);
        KT_EQUAL(Note.Processor, Processor);
    }
}

// Slow where others than the flushing thread run, so that it has to wait for them.
static VOID NTAPI NoteSlowly(PKDPC Dpc, PVOID Context, PVOID Argument1, PVOID Argument2)
{
    if (CurrentProcessor() != 0) {
        KeStallExecutionProcessor(20000);
    }
    NoteDpc(Dpc, Context, Argument1, Argument2);
}

static VOID Flushing_waits_for_the_DPCs_of_all(VOID)
{
    static KDPC Dpcs[2 * MOST];
    NOTE Note = {.Count = 0};
    KeSetSystemAffinityThread(1);
    for (ULONG Index = 0; Index < 2 * ProcessorCount(); Index += 1) {
        KeInitializeDpc(&Dpcs[Index], NoteSlowly, &Note);
        KeSetTargetProcessorDpc(&Dpcs[Index], (CCHAR)(Index % ProcessorCount()));
        if (Index >= ProcessorCount()) {
            KeSetImportanceDpc(&Dpcs[Index], LowImportance);
        }
        KT_CHECK(KeInsertQueueDpc(&Dpcs[Index], NULL, NULL));
    }
    KeFlushQueuedDpcs();
    KT_EQUAL(Note.Count, 2 * ProcessorCount());
}

// A DPC of another processor cannot run while that is above: until then it can be taken back.
static VOID NTAPI HoldProcessor(PVOID Context)
{
    volatile LONG *Step = Context;
    KIRQL OldIrql;
    KeRaiseIrql(DISPATCH_LEVEL, &OldIrql);
    __atomic_store_n(Step, 1, __ATOMIC_RELEASE);
    KtAwaitProcessor(Step, 2);
    KeLowerIrql(OldIrql);
}

static VOID A_DPC_of_another_processor_can_be_removed(VOID)
{
    volatile LONG Step = 0;
    NOTE Note = {.Count = 0};
    KDPC Dpc;
    if (ProcessorCount() < 2) {
        KT_SKIP(ONE_PROCESSOR);
    }
    KeSetSystemAffinityThread(1);
    const PKTHREAD Thread = KtStartThreadOn(2, HoldProcessor, (PVOID)&Step, 0);
    KT_CHECK(KtAwaitProcessor(&Step, 1));
    KeInitializeDpc(&Dpc, NoteDpc, &Note);
    KeSetTargetProcessorDpc(&Dpc, 1);
    KT_CHECK(KeInsertQueueDpc(&Dpc, NULL, NULL));
    KT_CHECK(!KeInsertQueueDpc(&Dpc, NULL, NULL));
    KT_CHECK(KeRemoveQueueDpc(&Dpc));
    KT_CHECK(!KeRemoveQueueDpc(&Dpc));
    __atomic_store_n(&Step, 2, __ATOMIC_RELEASE);
    KtJoin(Thread);
    KeFlushQueuedDpcs();
    KT_EQUAL(Note.Count, 0);
}

// -------------------------------------------------------------------------------------------------
// Generic calls.

static volatile LONG CallCount;

static ULONG_PTR NTAPI CountCall(ULONG_PTR Argument)
{
    __atomic_add_fetch(&CallCount, 1, __ATOMIC_RELAXED);
    return Argument;
}

#define CALLS 50

static VOID NTAPI CallAgainAndAgain(PVOID Context)
{
    volatile LONG *WrongCount = Context;
    for (ULONG_PTR Call = 0; Call < CALLS; Call += 1) {
        if (KeIpiGenericCall(CountCall, Call) != Call) {
            __atomic_add_fetch(WrongCount, 1, __ATOMIC_RELAXED);
        }
    }
}

static VOID Generic_calls_of_several_processors_all_come(VOID)
{
    PKTHREAD Threads[MOST];
    volatile LONG WrongCount = 0;
    const ULONG CallerCount = ProcessorCount() < 4 ? ProcessorCount() : 4;
    CallCount = 0;
    for (ULONG Index = 0; Index < CallerCount; Index += 1) {
        Threads[Index] =
            KtStartThreadOn(AFFINITY_OF(Index), CallAgainAndAgain, (PVOID)&WrongCount, 0);
    }
    for (ULONG Index = 0; Index < CallerCount; Index += 1) {
        KtJoin(Threads[Index]);
    }
    KT_EQUAL(WrongCount, 0);
    KT_EQUAL(CallCount, CALLS * CallerCount * ProcessorCount());
}

// -------------------------------------------------------------------------------------------------
// Locks: each kind keeps all but one out. What is counted is read and written apart, so that a second one
// inside would lose counts.

typedef struct _LOCKED {
    KSPIN_LOCK SpinLock;
    KSPIN_LOCK Queued;
    EX_SPIN_LOCK ExSpinLock;
    FAST_MUTEX FastMutex;
    KGUARDED_MUTEX GuardedMutex;
    KMUTEX Mutex;
    KSEMAPHORE Semaphore;
    KEVENT Event;
    ERESOURCE Resource;
    volatile ULONG64 Count;
} LOCKED;

typedef VOID LOCKED_WORK(LOCKED *Locked);

static VOID CountOne(LOCKED *Locked)
{
    const ULONG64 Count = Locked->Count;
    KeArchPause();
    Locked->Count = Count + 1;
}

static VOID CountWithSpinLock(LOCKED *Locked)
{
    KIRQL OldIrql;
    KeAcquireSpinLock(&Locked->SpinLock, &OldIrql);
    CountOne(Locked);
    KeReleaseSpinLock(&Locked->SpinLock, OldIrql);
}

static VOID CountWithQueuedLock(LOCKED *Locked)
{
    KLOCK_QUEUE_HANDLE Handle;
    KeAcquireInStackQueuedSpinLock(&Locked->Queued, &Handle);
    CountOne(Locked);
    KeReleaseInStackQueuedSpinLock(&Handle);
}

static VOID CountWithExSpinLock(LOCKED *Locked)
{
    const KIRQL OldIrql = ExAcquireSpinLockExclusive(&Locked->ExSpinLock);
    CountOne(Locked);
    ExReleaseSpinLockExclusive(&Locked->ExSpinLock, OldIrql);
}

static VOID CountWithFastMutex(LOCKED *Locked)
{
    ExAcquireFastMutex(&Locked->FastMutex);
    CountOne(Locked);
    ExReleaseFastMutex(&Locked->FastMutex);
}

static VOID CountWithGuardedMutex(LOCKED *Locked)
{
    KeAcquireGuardedMutex(&Locked->GuardedMutex);
    CountOne(Locked);
    KeReleaseGuardedMutex(&Locked->GuardedMutex);
}

static VOID CountWithMutex(LOCKED *Locked)
{
    KeWaitForSingleObject(&Locked->Mutex, Executive, KernelMode, FALSE, NULL);
    CountOne(Locked);
    KeReleaseMutex(&Locked->Mutex, FALSE);
}

static VOID CountWithSemaphore(LOCKED *Locked)
{
    KeWaitForSingleObject(&Locked->Semaphore, Executive, KernelMode, FALSE, NULL);
    CountOne(Locked);
    KeReleaseSemaphore(&Locked->Semaphore, IO_NO_INCREMENT, 1, FALSE);
}

static VOID CountWithEvent(LOCKED *Locked)
{
    KeWaitForSingleObject(&Locked->Event, Executive, KernelMode, FALSE, NULL);
    CountOne(Locked);
    KeSetEvent(&Locked->Event, IO_NO_INCREMENT, FALSE);
}

static VOID CountWithResource(LOCKED *Locked)
{
    KeEnterCriticalRegion();
    ExAcquireResourceSharedLite(&Locked->Resource, TRUE);
    ExReleaseResourceLite(&Locked->Resource);
    ExAcquireResourceExclusiveLite(&Locked->Resource, TRUE);
    CountOne(Locked);
    ExReleaseResourceLite(&Locked->Resource);
    KeLeaveCriticalRegion();
}

static const struct {
    PCSTR Name;
    LOCKED_WORK *Work;
    ULONG Rounds;
} LockKinds[] = {
    {"spin lock", CountWithSpinLock, 3000},        {"queued spin lock", CountWithQueuedLock, 3000},
    {"EX_SPIN_LOCK", CountWithExSpinLock, 3000},   {"fast mutex", CountWithFastMutex, 500},
    {"guarded mutex", CountWithGuardedMutex, 500}, {"mutex", CountWithMutex, 500},
    {"semaphore", CountWithSemaphore, 500},        {"event", CountWithEvent, 500},
    {"resource", CountWithResource, 300},
};

typedef struct _COUNTER {
    LOCKED *Locked;
    ULONG Kind;
    ULONG64 End;  // in cycles
    ULONG Rounds; // how often it had the lock
} COUNTER;

#define COUNTER_COUNT 4
#define COUNTING_MS 250 // for each kind

// A lock that is handed over to a processor which the host does not run just now waits for the host: on a busy
// host the rounds end by time.
static VOID NTAPI CountManyTimes(PVOID Context)
{
    COUNTER *Counter = Context;
    do {
        LockKinds[Counter->Kind].Work(Counter->Locked);
        Counter->Rounds += 1;
    } while (Counter->Rounds < LockKinds[Counter->Kind].Rounds && KeReadCycles() < Counter->End);
}

// Returns how often they had the lock, all together.
static ULONG64 LetAllCount(LOCKED *Locked, ULONG Kind)
{
    COUNTER Counters[COUNTER_COUNT];
    PKTHREAD Threads[COUNTER_COUNT];
    ULONG64 Rounds = 0;
    const ULONG64 End = KeReadCycles() + KeGetCyclesPerSecond() / 1000 * COUNTING_MS;
    for (ULONG Index = 0; Index < COUNTER_COUNT; Index += 1) {
        Counters[Index] = (COUNTER){.Locked = Locked, .Kind = Kind, .End = End};
        Threads[Index] = KtStartThreadOn(AFFINITY_OF(Index % ProcessorCount()), CountManyTimes,
                                         &Counters[Index], 0);
    }
    for (ULONG Index = 0; Index < COUNTER_COUNT; Index += 1) {
        KtJoin(Threads[Index]);
        Rounds += Counters[Index].Rounds;
    }
    return Rounds;
}

static VOID A_lock_keeps_the_others_out(VOID)
{
    static LOCKED Locked;
    RtlZeroMemory(&Locked, sizeof(Locked));
    ExInitializeFastMutex(&Locked.FastMutex);
    KeInitializeGuardedMutex(&Locked.GuardedMutex);
    KeInitializeMutex(&Locked.Mutex, 0);
    KeInitializeSemaphore(&Locked.Semaphore, 1, 1);
    KeInitializeEvent(&Locked.Event, SynchronizationEvent, TRUE);
    KT_EQUAL(ExInitializeResourceLite(&Locked.Resource), STATUS_SUCCESS);
    for (ULONG Kind = 0; Kind < ARRAYSIZE(LockKinds); Kind += 1) {
        Locked.Count = 0;
        const ULONG64 Rounds = LetAllCount(&Locked, Kind);
        KtSetContext("%s", LockKinds[Kind].Name);
        KT_EQUAL(Locked.Count, Rounds);
    }
    KT_EQUAL(ExDeleteResourceLite(&Locked.Resource), STATUS_SUCCESS);
}

#define QUEUE_LENGTH 3

typedef struct _QUEUE_GAME {
    KSPIN_LOCK Lock;
    volatile LONG NextPlace;
    volatile LONG Places[QUEUE_LENGTH];
} QUEUE_GAME;

typedef struct _QUEUER {
    QUEUE_GAME *Game;
    ULONG Number;
} QUEUER;

static VOID NTAPI StandInLine(PVOID Context)
{
    const QUEUER *Queuer = Context;
    QUEUE_GAME *Game = Queuer->Game;
    KLOCK_QUEUE_HANDLE Handle;
    KeAcquireInStackQueuedSpinLock(&Game->Lock, &Handle);
    Game->NextPlace += 1;
    Game->Places[Queuer->Number] = Game->NextPlace;
    KeReleaseInStackQueuedSpinLock(&Handle);
}

// Who stands in line changes the lock's word: the last one's place is in it.
static BOOLEAN AwaitChange(const KSPIN_LOCK *Lock, KSPIN_LOCK Before)
{
    const ULONG64 End = KeReadCycles() + KeGetCyclesPerSecond() / 1000 * KT_LATEST_MS;
    while (__atomic_load_n(Lock, __ATOMIC_ACQUIRE) == Before) {
        if (KeReadCycles() > End) {
            return FALSE;
        }
        KeArchPause();
    }
    return TRUE;
}

static VOID A_queued_lock_is_given_in_the_order_of_arrival(VOID)
{
    static QUEUE_GAME Game;
    QUEUER Queuers[QUEUE_LENGTH];
    PKTHREAD Threads[QUEUE_LENGTH];
    KLOCK_QUEUE_HANDLE Handle;
    if (ProcessorCount() <= QUEUE_LENGTH) {
        KT_SKIP("the machine has fewer than four processors");
    }
    KtStayOnOneProcessor();
    for (ULONG Round = 0; Round < QUEUE_LENGTH; Round += 1) {
        Game = (QUEUE_GAME){.NextPlace = 0};
        KSPIN_LOCK Word = 0;
        for (ULONG Index = 0; Index < QUEUE_LENGTH; Index += 1) {
            const ULONG Number = (Index + Round) % QUEUE_LENGTH;
            Queuers[Number] = (QUEUER){&Game, Number};
            if (Index == 0) {
                KeAcquireInStackQueuedSpinLock(&Game.Lock, &Handle);
                KeLowerIrql(PASSIVE_LEVEL); // threads are started meanwhile
            }
            Word = Game.Lock;
            Threads[Number] =
                KtStartThreadOn(AFFINITY_OF(Number + 1), StandInLine, &Queuers[Number], 0);
            KT_CHECK(AwaitChange(&Game.Lock, Word));
        }
        KfRaiseIrql(DISPATCH_LEVEL);
        KeReleaseInStackQueuedSpinLock(&Handle);
        for (ULONG Index = 0; Index < QUEUE_LENGTH; Index += 1) {
            KtJoin(Threads[Index]);
            KtSetContext("round %u, %u", Round, Index);
            KT_EQUAL(Game.Places[Index], (Index + QUEUE_LENGTH - Round) % QUEUE_LENGTH + 1);
        }
        KT_EQUAL(Game.Lock, 0);
    }
}

static const KT_TEST Tests[] = {
    {"a generic call runs once on each processor, at IPI_LEVEL [25.3.1]",
     A_generic_call_runs_once_on_each},
    {"each processor has a control region, tables and an idle thread of its own [25.1.2]",
     Each_has_its_own},
    {"each processor is set up like the first [25.1.3]", Each_is_set_up_like_the_first},
    {"threads on two processors run at the same time [25.2.1]", Two_threads_run_at_once},
    {"time never goes back from one processor to another [25.1.4]",
     Time_never_goes_back_from_one_to_another},
    {"a thread runs where its affinity says, at once [25.2.2]",
     A_thread_runs_where_its_affinity_says},
    {"at DISPATCH_LEVEL a thread moves as soon as it goes below [25.2.2]",
     At_DISPATCH_LEVEL_a_thread_moves_later},
    {"a ready thread does not wait while a processor idles [25.2.1]",
     A_ready_thread_does_not_wait_while_a_processor_idles},
    {"equal threads share the processors [25.2.3]", Equal_threads_share_the_processors},
    {"a DPC that is targeted at a processor runs there [25.2.4]", A_targeted_DPC_runs_there},
    {"any other DPC runs where it was queued [25.2.4]", Any_other_DPC_runs_where_it_was_queued},
    {"KeFlushQueuedDpcs waits for the DPCs of all processors [25.2.5]",
     Flushing_waits_for_the_DPCs_of_all},
    {"a DPC of another processor can be removed [25.2.4]",
     A_DPC_of_another_processor_can_be_removed},
    {"generic calls of several processors at once all come [25.3.1]",
     Generic_calls_of_several_processors_all_come},
    {"a lock keeps the others out, whatever its kind [25.3.2]", A_lock_keeps_the_others_out},
    {"a queued spin lock is given in the order of arrival [25.3.3]",
     A_queued_lock_is_given_in_the_order_of_arrival},
};

const KT_SUITE KtProcessorsSuite = {"processors", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
