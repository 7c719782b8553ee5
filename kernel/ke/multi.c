// More than one processor: their start, and what they ask of each other.
//
//   KeStartProcessor ──▶ arch: INIT, STARTUP ──▶ KiRunNewProcessor: counted, clock on, idle
//
// A broadcast is a routine that each processor is to run, the others at IPI_LEVEL, while the sender waits:
//
//   sender    KiBroadcast: Word taken at CLOCK_LEVEL ─▶ runs it ─▶ IPIs ─▶ waits until Remaining is 0 ─▶ Word let go
//   others                                     KiIpiInterrupt, KiAnswerIfAsked: runs it, takes its bit out of Remaining
//
// A processor with nothing to do sleeps: it halts, and what it is asked to forget meanwhile it forgets on waking.
//
//   sleeper   KiSleep: KiAsleep ─▶ halts ─────────────────────────────────▶ KiWakeUp: forgets, KiAwake
//   sender               KiLetSleepersMiss: KiAsleepAndMissed, no IPI
//
// Invariants:
//   MP1 Processors have the numbers 0 to KeNumberProcessors - 1; a number once counted stays.
//   MP2 There is one broadcast at a time. Who waits for another to end, or for his own, does so below
//       IPI_LEVEL with interrupts on, so that he answers meanwhile: whatever a processor holds or spins
//       for at IRQL < IPI_LEVEL, a broadcast ends.
//   MP3 A processor whose time-stamp counter differs from its starter's never gets a number.
//   MP4 Whoever holds a lock that is taken at HIGH_LEVEL (the DPC queues') never broadcasts.
//   MP5 A processor that is not KiAwake has its interrupts off, or halts. It uses no translation but those of
//       the kernel's image, of its own stack and of its own tables until it is KiAwake again: these never
//       change. So it may miss what others ask it to forget (KiLetSleepersMiss), and forget everything
//       when it wakes up.
//   MP6 The routine runs once on each processor that it is for, wherever that comes to it: in KiIpiInterrupt,
//       or where it spins for a lock, both at IPI_LEVEL; or where it is the sender.
// Memory order: Routine and Context are written before Remaining, with release; a processor reads Remaining
// with acquire before them. It takes its bit out with release, and the sender reads with acquire: what
// the routine did is seen by the sender. Sleep changes by locked instructions only, so it is ordered with what
// stands around it: a sender has taken the entries away before he looks whether a processor sleeps, and that
// has gone to sleep after it last used them, or wakes up behind that look and forgets them.
#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "kernel/inc/kelockinline.h"
#include "kernel/inc/ps.h"

static struct {
    KSPIN_LOCK Word;
    KI_BROADCAST_ROUTINE *Routine;
    PVOID Context;
    volatile KAFFINITY Remaining;
} KiBroadcastSlot;

// -------------------------------------------------------------------------------------------------
// Start.

// Time is one for all: a counter that is behind another processor's by more than it takes to look would let
// it run backwards for a thread that moves. Both read theirs in turns, each under the lock, and keep the
// last one; a reading below that is a warp.
#define KI_CLOCK_CHECK_DIVISOR 500 // of a second: 2 ms
#define KI_CLOCK_CHECK_ROUNDS 100  // at least

static struct {
    KSPIN_LOCK Word;
    ULONG64 Last;
    ULONG64 Warp; // the greatest
    volatile LONG ArrivedCount;
    volatile LONG DoneCount;
} KiClockCheck;

static VOID KiCompareClocksOnce(VOID)
{
    KiSpin(&KiClockCheck.Word);
    const ULONG64 Now = KeArchReadCycles();
    const ULONG64 Last = KiClockCheck.Last;
    if (Now < Last && Last - Now > KiClockCheck.Warp) {
        KiClockCheck.Warp = Last - Now;
    }
    KiClockCheck.Last = Now;
    __atomic_store_n(&KiClockCheck.Word, 0, __ATOMIC_RELEASE);
}

static VOID KiAwaitBoth(volatile LONG *Count)
{
    __atomic_add_fetch(Count, 1, __ATOMIC_ACQ_REL);
    while (__atomic_load_n(Count, __ATOMIC_ACQUIRE) < 2) {
        KeArchPause();
    }
}

// On the starter and the new processor at the same time. FALSE: their counters differ.
static BOOLEAN KiCompareClocks(VOID)
{
    KiAwaitBoth(&KiClockCheck.ArrivedCount);
    const ULONG64 Start = KeArchReadCycles();
    const ULONG64 Wanted = KeGetCyclesPerSecond() / KI_CLOCK_CHECK_DIVISOR;
    for (ULONG Round = 0; Round < KI_CLOCK_CHECK_ROUNDS || KeArchReadCycles() - Start < Wanted;
         Round += 1) {
        KiCompareClocksOnce();
    }
    KiAwaitBoth(&KiClockCheck.DoneCount);
    return KiClockCheck.Warp == 0;
}

BOOLEAN KeStartProcessor(ULONG ApicId, PVOID StackBase, SIZE_T StackByteCount)
{
    const ULONG Number = (ULONG)KeNumberProcessors;
    NT_ASSERT(Number < KE_MAXIMUM_PROCESSORS);
    RtlZeroMemory(&KiClockCheck, sizeof(KiClockCheck));
    KiPrepareIdleThread(Number, StackBase, StackByteCount);
    if (!KeArchStartProcessor(Number, ApicId, (ULONG_PTR)StackBase)) {
        DbgPrint("processors: the one with APIC id %u does not answer\n", ApicId);
        return FALSE;
    }
    if (!KiCompareClocks()) {
        DbgPrint(
            "processors: the time-stamp counter of the one with APIC id %u is %llu cycles away\n",
            ApicId, KiClockCheck.Warp);
        return FALSE;
    }
    while (__atomic_load_n(&KeNumberProcessors, __ATOMIC_ACQUIRE) == (CCHAR)Number) {
        KeArchPause();
    }
    return TRUE;
}

DECLSPEC_NORETURN VOID KiRunNewProcessor(VOID)
{
    if (!KiCompareClocks()) {
        KeArchHalt();
    }
    KeArchInitializeInterrupts();
    KiInitializeReadyLists();
    __atomic_store_n(&KeNumberProcessors, (CCHAR)(KeArchGetPcr()->Number + 1), __ATOMIC_SEQ_CST);
    KeArchForgetTranslations(); // nobody has told it anything until now
    KeArchRestoreInterrupts(TRUE);
    KeStartClock();
    KiIdle(NULL);
}

// -------------------------------------------------------------------------------------------------
// Broadcasts.

// At IPI_LEVEL.
static VOID KiAnswer(VOID)
{
    const KAFFINITY Self = (KAFFINITY)1 << KeArchGetPcr()->Number;
    if ((__atomic_load_n(&KiBroadcastSlot.Remaining, __ATOMIC_ACQUIRE) & Self) != 0) {
        KiBroadcastSlot.Routine(KiBroadcastSlot.Context);
        __atomic_fetch_and(&KiBroadcastSlot.Remaining, ~Self, __ATOMIC_RELEASE);
    }
}

VOID KiIpiInterrupt(VOID)
{
    KiAnswer();
}

// As if the interrupt had come here: with the handlers of the interrupted code out of sight.
static VOID KiAnswerHere(VOID)
{
    const KIRQL OldIrql = KeArchReadIrql();
    struct _KM_TRY_FRAME *const Handlers = KeArchGetCurrentThread()->ExceptionList;
    KeArchWriteIrql(IPI_LEVEL);
    KeArchGetCurrentThread()->ExceptionList = NULL;
    KiAnswer();
    KeArchGetCurrentThread()->ExceptionList = Handlers;
    KeArchWriteIrql(OldIrql);
}

// Whoever spins is about to be interrupted, perhaps: he looks for himself, where that could happen.
static VOID KiAnswerIfAsked(VOID)
{
    const KAFFINITY Self = (KAFFINITY)1 << KeArchGetPcr()->Number;
    if ((__atomic_load_n(&KiBroadcastSlot.Remaining, __ATOMIC_RELAXED) & Self) != 0 &&
        KeArchReadIrql() < IPI_LEVEL && KeArchAreInterruptsOn()) {
        KiAnswerHere();
    }
}

// To look costs nothing, as long as nobody writes; to pause costs a little on silicon, and a lot in an emulator.
#define KI_LOOKS_BETWEEN_PAUSES 64

static VOID KiLookThenPause(ULONG *Looks)
{
    *Looks += 1;
    if (*Looks % KI_LOOKS_BETWEEN_PAUSES == 0) {
        KeArchPause();
    }
}

// Waiting only reads: the cache line stays shared until the owner lets go.
VOID KiWaitWhileTaken(const KSPIN_LOCK *Word)
{
    ULONG Looks = 0;
    while (__atomic_load_n(Word, __ATOMIC_RELAXED) != 0) {
        KiLookThenPause(&Looks);
        KiAnswerIfAsked();
    }
}

// A processor that is interrupted loses a microsecond or more. So long the sender waits for those that
// come to it by themselves: at worst that doubles what it costs.
#define KI_PATIENCE 1000 // looks

static VOID KiWaitPatiently(VOID)
{
    ULONG Looks = 0;
    while (Looks < KI_PATIENCE &&
           __atomic_load_n(&KiBroadcastSlot.Remaining, __ATOMIC_ACQUIRE) != 0) {
        KiLookThenPause(&Looks);
    }
}

// Whether the processor sleeps, and knows that it missed something.
static BOOLEAN KiMayMiss(PKPCR Pcr)
{
    ULONG Sleep = KiAsleep;
    return __atomic_compare_exchange_n(&Pcr->Sleep, &Sleep, KiAsleepAndMissed, FALSE,
                                       __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST) ||
           Sleep == KiAsleepAndMissed;
}

static KAFFINITY KiLeaveOutAsleep(KAFFINITY Processors)
{
    KAFFINITY Awake = 0;
    for (KAFFINITY Rest = Processors; Rest != 0; Rest &= Rest - 1) {
        if (!KiMayMiss(KeArchGetPcrOf((ULONG)__builtin_ctzll(Rest)))) {
            Awake |= Rest & (0 - Rest);
        }
    }
    return Awake;
}

// Waits until nobody else broadcasts. Returns the IRQL to go back to.
static KIRQL KiBeginBroadcast(VOID)
{
    const KIRQL OldIrql = KeArchReadIrql();
    NT_ASSERT(OldIrql < IPI_LEVEL);
    KeArchWriteIrql(CLOCK_LEVEL); // MP2: nobody may broadcast inside of this on the same processor
    KiSpin(&KiBroadcastSlot.Word);
    return OldIrql;
}

static KAFFINITY KiOtherProcessors(VOID)
{
    return KeQueryActiveProcessors() & ~((KAFFINITY)1 << KeArchGetPcr()->Number);
}

static VOID KiAskProcessors(KAFFINITY Processors, KI_BROADCAST_ROUTINE *Routine, PVOID Context)
{
    KiBroadcastSlot.Routine = Routine;
    KiBroadcastSlot.Context = Context;
    __atomic_store_n(&KiBroadcastSlot.Remaining, Processors, __ATOMIC_RELEASE);
}

static VOID KiInterruptRemaining(VOID)
{
    KAFFINITY Remaining = __atomic_load_n(&KiBroadcastSlot.Remaining, __ATOMIC_ACQUIRE);
    for (; Remaining != 0; Remaining &= Remaining - 1) {
        KeArchRequestIpiOn((ULONG)__builtin_ctzll(Remaining));
    }
}

static VOID KiEndBroadcast(KIRQL OldIrql)
{
    while (__atomic_load_n(&KiBroadcastSlot.Remaining, __ATOMIC_ACQUIRE) != 0) {
        KeArchPause();
    }
    __atomic_store_n(&KiBroadcastSlot.Word, 0, __ATOMIC_RELEASE);
    KeArchWriteIrql(OldIrql);
}

ULONG KiBroadcast(KI_BROADCAST_ROUTINE *Routine, PVOID Context, KI_SLEEPERS Sleepers)
{
    const KIRQL OldIrql = KiBeginBroadcast();
    KAFFINITY Others = KiOtherProcessors();
    if (Sleepers == KiLetSleepersMiss) {
        Others = KiLeaveOutAsleep(Others);
    }
    KiAskProcessors(Others, Routine, Context);
    Routine(Context); // while those that spin do the same
    KiWaitPatiently();
    KiInterruptRemaining();
    KiEndBroadcast(OldIrql);
    return (ULONG)__builtin_popcountll(Others);
}

// All processors are inside of the routine at the same time: each waits until the last has come.
typedef struct _KI_GENERIC_CALL {
    PKIPI_BROADCAST_WORKER Worker;
    ULONG_PTR Context;
    volatile LONG Missing; // processors that have not come yet
} KI_GENERIC_CALL;

static ULONG_PTR KiMeetAndCall(KI_GENERIC_CALL *Call)
{
    __atomic_fetch_sub(&Call->Missing, 1, __ATOMIC_ACQ_REL);
    while (__atomic_load_n(&Call->Missing, __ATOMIC_ACQUIRE) != 0) {
        KeArchPause();
    }
    return Call->Worker(Call->Context);
}

static VOID KiCallThere(PVOID Context)
{
    (VOID) KiMeetAndCall(Context);
}

ULONG_PTR NTAPI KeIpiGenericCall(PKIPI_BROADCAST_WORKER BroadcastFunction, ULONG_PTR Context)
{
    const KIRQL OldIrql = KiBeginBroadcast();
    const KAFFINITY Others = KiOtherProcessors();
    KI_GENERIC_CALL Call = {BroadcastFunction, Context, 1 + __builtin_popcountll(Others)};
    KiAskProcessors(Others, KiCallThere, &Call);
    KiInterruptRemaining();
    KeArchWriteIrql(IPI_LEVEL);
    const ULONG_PTR Result = KiMeetAndCall(&Call);
    KeArchWriteIrql(CLOCK_LEVEL);
    KiEndBroadcast(OldIrql);
    return Result;
}

// -------------------------------------------------------------------------------------------------
// Sleep.

VOID KiWakeUp(VOID)
{
    if (__atomic_exchange_n(&KeArchGetPcr()->Sleep, KiAwake, __ATOMIC_SEQ_CST) ==
        KiAsleepAndMissed) {
        KeArchForgetTranslations();
    }
}

VOID KiSleep(VOID)
{
    (VOID) KeArchDisableInterrupts();
    __atomic_exchange_n(&KeArchGetPcr()->Sleep, KiAsleep, __ATOMIC_SEQ_CST);
    KeArchIdle();
    (VOID) KeArchDisableInterrupts();
    KiWakeUp(); // whatever else than an interrupt has ended it
    KeArchRestoreInterrupts(TRUE);
}
