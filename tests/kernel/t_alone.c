// One processor alone (kernel/ke/alone.c): the others stand still, none of them with a spin lock.
// With one processor nobody has to stand; the routine runs all the same.
#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "tests/kernel/tests.h"

#define ROUND_COUNT 200
#define LOOK_US 200
#define LIMIT_MS 20000
#define SHORT_LIMIT_MS 50

// One for each processor: counts at PASSIVE_LEVEL, and at DISPATCH_LEVEL under the lock.
typedef struct _WORKER {
    ULONG Number;
    PKTHREAD Thread;
    volatile ULONG64 Count;
} WORKER;

static WORKER Workers[KE_MAXIMUM_PROCESSORS];
static KSPIN_LOCK WorkersLock;
static volatile BOOLEAN IsOver;
static volatile LONG RunningCount;

static VOID BeginWork(WORKER *Worker)
{
    KeSetSystemAffinityThreadEx((KAFFINITY)1 << Worker->Number);
    KeSetPriorityThread(KeGetCurrentThread(), LOW_PRIORITY + 1);
    __atomic_add_fetch(&RunningCount, 1, __ATOMIC_RELEASE);
}

static VOID NTAPI CountWithAndWithoutLock(PVOID Context)
{
    WORKER *const Worker = Context;
    BeginWork(Worker);
    while (!IsOver) {
        KIRQL OldIrql;
        Worker->Count += 1;
        KeAcquireSpinLock(&WorkersLock, &OldIrql);
        Worker->Count += 1;
        KeReleaseSpinLock(&WorkersLock, OldIrql);
    }
}

static BOOLEAN StartWorkers(PKSTART_ROUTINE Routine)
{
    IsOver = FALSE;
    RunningCount = 0;
    KeInitializeSpinLock(&WorkersLock);
    LONG Started = 0;
    for (ULONG Number = 0; Number < (ULONG)KeNumberProcessors; Number += 1) {
        Workers[Number] = (WORKER){.Number = Number};
        Workers[Number].Thread = KtStartThread(Routine, &Workers[Number], 0);
        Started += Workers[Number].Thread != NULL;
    }
    while (RunningCount < Started) {
        KtSleep(1);
    }
    return KT_EQUAL(Started, (ULONG)KeNumberProcessors);
}

static VOID EndWorkers(VOID)
{
    IsOver = TRUE;
    for (ULONG Number = 0; Number < (ULONG)KeNumberProcessors; Number += 1) {
        KtJoin(Workers[Number].Thread);
    }
}

static ULONG64 SumOfCounts(VOID)
{
    ULONG64 Sum = 0;
    for (ULONG Number = 0; Number < (ULONG)KeNumberProcessors; Number += 1) {
        Sum += Workers[Number].Count;
    }
    return Sum;
}

typedef struct _LOOK {
    ULONG MovedCount;  // rounds in which somebody worked
    ULONG LockedCount; // rounds in which somebody had the lock
    ULONG WrongIrqlCount;
    ULONG RoundCount;
} LOOK;

static VOID LookAtWorkers(PVOID Context)
{
    LOOK *const Look = Context;
    const ULONG64 Before = SumOfCounts();
    Look->LockedCount += !KeTestSpinLock(&WorkersLock);
    Look->WrongIrqlCount += KeGetCurrentIrql() != DISPATCH_LEVEL;
    KeStallExecutionProcessor(LOOK_US);
    Look->MovedCount += SumOfCounts() != Before;
    Look->RoundCount += 1;
}

static VOID NobodyElseWorks(VOID)
{
    LOOK Look = {0};
    ULONG FailedCount = 0;
    if (StartWorkers(CountWithAndWithoutLock)) {
        const ULONG64 Before = SumOfCounts();
        for (ULONG Round = 0; Round < ROUND_COUNT; Round += 1) {
            FailedCount += !KiRunAlone(LookAtWorkers, &Look, LIMIT_MS);
            KeStallExecutionProcessor(LOOK_US / 2);
        }
        KtSleep(1);
        KT_CHECK(SumOfCounts() != Before);
    }
    EndWorkers();
    KT_EQUAL(FailedCount, 0);
    KT_EQUAL(Look.RoundCount, ROUND_COUNT);
    KT_EQUAL(Look.MovedCount, 0);
    KT_EQUAL(Look.LockedCount, 0);
    KT_EQUAL(Look.WrongIrqlCount, 0);
    KT_EQUAL(KeGetCurrentIrql(), PASSIVE_LEVEL);
}

//
// All want to be alone, at PASSIVE_LEVEL and at DISPATCH_LEVEL.
//

static volatile LONG InsideCount;
static volatile LONG TogetherCount;
static volatile LONG TurnCount;

static VOID TakeTurn(PVOID Context)
{
    UNREFERENCED_PARAMETER(Context);
    TogetherCount += __atomic_add_fetch(&InsideCount, 1, __ATOMIC_SEQ_CST) != 1;
    TurnCount += 1;
    __atomic_sub_fetch(&InsideCount, 1, __ATOMIC_SEQ_CST);
}

static VOID NTAPI TakeTurns(PVOID Context)
{
    WORKER *const Worker = Context;
    BeginWork(Worker);
    for (ULONG Round = 0; Round < ROUND_COUNT; Round += 1) {
        const KIRQL OldIrql = KfRaiseIrql(Round % 2 == 0 ? PASSIVE_LEVEL : DISPATCH_LEVEL);
        Worker->Count += KiRunAlone(TakeTurn, NULL, LIMIT_MS);
        KeLowerIrql(OldIrql);
    }
}

static VOID AllTakeTurns(VOID)
{
    InsideCount = TogetherCount = TurnCount = 0;
    StartWorkers(TakeTurns);
    EndWorkers();
    KT_EQUAL(SumOfCounts(), (ULONG64)ROUND_COUNT * (ULONG)KeNumberProcessors);
    KT_EQUAL(TurnCount, ROUND_COUNT * (ULONG)KeNumberProcessors);
    KT_EQUAL(TogetherCount, 0);
}

//
// Within a routine.
//

static volatile LONG AnswerCount;

static VOID CountAnswer(PVOID Context)
{
    UNREFERENCED_PARAMETER(Context);
    __atomic_add_fetch(&AnswerCount, 1, __ATOMIC_RELAXED);
}

static VOID Ask(PVOID Context)
{
    (VOID) KiBroadcast(CountAnswer, Context, KiWakeSleepers);
}

static VOID WhoStandsAnswers(VOID)
{
    AnswerCount = 0;
    for (ULONG Round = 0; Round < ROUND_COUNT; Round += 1) {
        KT_CHECK(KiRunAlone(Ask, NULL, LIMIT_MS));
    }
    KT_EQUAL(AnswerCount, ROUND_COUNT * (ULONG)KeNumberProcessors);
}

static VOID RunWithin(PVOID Context)
{
    KT_CHECK(KiRunAlone(CountAnswer, Context, LIMIT_MS));
    KT_EQUAL(KeGetCurrentIrql(), DISPATCH_LEVEL);
}

static VOID RoutinesNest(VOID)
{
    AnswerCount = 0;
    KT_CHECK(KiRunAlone(RunWithin, NULL, LIMIT_MS));
    KT_CHECK(KiRunAlone(CountAnswer, NULL, LIMIT_MS));
    KT_EQUAL(AnswerCount, 2);
    KT_EQUAL(KeGetCurrentIrql(), PASSIVE_LEVEL);
}

//
// A processor that does not come.
//

static VOID NTAPI StayRaised(PVOID Context)
{
    BeginWork(Context);
    const KIRQL OldIrql = KeRaiseIrqlToDpcLevel();
    while (!IsOver) {
        KeArchPause();
    }
    KeLowerIrql(OldIrql);
}

static VOID TheWaitIsBounded(VOID)
{
    if (KeNumberProcessors == 1) {
        KT_SKIP("one processor");
    }
    const KAFFINITY Before = KeSetSystemAffinityThreadEx(1);
    WORKER *const Worker = &Workers[1];
    *Worker = (WORKER){.Number = 1};
    IsOver = FALSE;
    RunningCount = AnswerCount = 0;
    Worker->Thread = KtStartThread(StayRaised, Worker, 0);
    while (Worker->Thread != NULL && RunningCount == 0) {
        KtSleep(1);
    }
    KT_CHECK(!KiRunAlone(CountAnswer, NULL, SHORT_LIMIT_MS));
    KT_EQUAL(AnswerCount, 0);
    IsOver = TRUE;
    KtJoin(Worker->Thread);
    // The DPC of the round that was given up is no obstacle.
    for (ULONG Round = 0; Round < ROUND_COUNT; Round += 1) {
        KT_CHECK(KiRunAlone(CountAnswer, NULL, LIMIT_MS));
    }
    KT_EQUAL(AnswerCount, ROUND_COUNT);
    KeRevertToUserAffinityThreadEx(Before);
}

//
// MmVerify, while all processors map: at DISPATCH_LEVEL, below which each of them stands still.
//

#define VERIFY_COUNT 20
#define RANGE_BYTES (8 * PAGE_SIZE)
#define REGION_BYTES (1 * KT_MIB)

static ULONG64 Gap;

static VOID MapOnce(ULONG64 Address, PMDL Mdl)
{
    const PVOID Page =
        MmMapIoSpaceEx(KtPhysical(Address), PAGE_SIZE, PAGE_READWRITE | PAGE_NOCACHE);
    const PVOID Range =
        MmMapIoSpaceEx(KtPhysical(Address), RANGE_BYTES, PAGE_READWRITE | PAGE_NOCACHE);
    volatile ULONG *const Words = MmMapLockedPagesSpecifyCache(
        Mdl, KernelMode, MmCached, NULL, FALSE, NormalPagePriority | MdlMappingNoExecute);
    if (Words != NULL) {
        *Words += 1;
        MmUnmapLockedPages((PVOID)(ULONG_PTR)Words, Mdl);
    }
    if (Range != NULL) {
        MmUnmapIoSpace(Range, RANGE_BYTES);
    }
    if (Page != NULL) {
        MmUnmapIoSpace(Page, PAGE_SIZE);
    }
}

static VOID NTAPI MapAtDispatchLevel(PVOID Context)
{
    WORKER *const Worker = Context;
    const PMDL Mdl = KtAllocatePages(1);
    BeginWork(Worker);
    while (!IsOver && Mdl != NULL) {
        KIRQL OldIrql;
        KeRaiseIrql(DISPATCH_LEVEL, &OldIrql);
        MapOnce(Gap + Worker->Number * REGION_BYTES, Mdl);
        KeLowerIrql(OldIrql);
        Worker->Count += 1;
    }
    if (Mdl != NULL) {
        KtFreePages(Mdl);
    }
}

static VOID InvariantsHoldWhileOthersMap(VOID)
{
    Gap = KtFindGap(KE_MAXIMUM_PROCESSORS * REGION_BYTES, REGION_BYTES);
    KT_REQUIRE(Gap != 0);
    StartWorkers(MapAtDispatchLevel);
    for (ULONG Round = 0; Round < VERIFY_COUNT; Round += 1) {
        KtSleep(1);
        KT_EQUAL(MmVerify(), 0);
    }
    EndWorkers();
    KT_CHECK(SumOfCounts() >= VERIFY_COUNT);
}

static const KT_TEST Tests[] = {
    {"while one processor is alone, the others do nothing and hold no spin lock", NobodyElseWorks},
    {"processors that all want to be alone take turns", AllTakeTurns},
    {"a processor that stands still answers broadcasts", WhoStandsAnswers},
    {"a routine that is alone may ask for it again", RoutinesNest},
    {"the wait for a processor that never comes is bounded", TheWaitIsBounded},
    {"the invariants hold while all processors map", InvariantsHoldWhileOthersMap},
};

const KT_SUITE KtAloneSuite = {"alone", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
