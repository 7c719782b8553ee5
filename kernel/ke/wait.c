// Waits: what a thread waits for, and who ends that.
//
//   thread ──WaitBlockList──▶ block ──▶ block ──▶ (round)
//                               │         │
//                     object A ◀┘         └▶ object B
//
// A wait first looks whether what it wants is there, and takes it. Else each object gets a wait block
// of the thread into its list, and the thread gives up the processor. Whoever signals an object lets
// its waiters go, in the order in which they came, for as long as there is something to take
// (KiTestWaiters): so what a waiter gets it has already when it runs again.
//
// Invariants:
//   W1  A thread in state Waiting has a block in the list of each object that it waits for; any other
//       thread has none.
//   W2  No thread waits for something that it could have: neither for one signalled object (WaitAny),
//       nor for objects that are all signalled (WaitAll).
// Lock: KiDispatcherLock.
#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "kernel/inc/ps.h"

#define KI_HIGHEST_BOOSTED_PRIORITY (LOW_REALTIME_PRIORITY - 1)

typedef struct _KI_WAIT {
    ULONG Count;
    PVOID *Objects;
    WAIT_TYPE Type;
    KWAIT_REASON Reason;
    const LARGE_INTEGER *Timeout;
    PKWAIT_BLOCK Blocks;
} KI_WAIT;

// -------------------------------------------------------------------------------------------------
// One object. Locked.

static BOOLEAN KiIsSignalledFor(const DISPATCHER_HEADER *Header, const KTHREAD *Thread)
{
    if (Header->Type == KiMutantObject) {
        const KMUTANT *Mutant = CONTAINING_RECORD(Header, KMUTANT, Header);
        return Header->SignalState > 0 || Mutant->OwnerThread == Thread;
    }
    return Header->SignalState > 0;
}

// Returns STATUS_ABANDONED when the mutex's last owner has ended, else 0.
static NTSTATUS KiTakeMutant(PKMUTANT Mutant, PKTHREAD Thread)
{
    Mutant->Header.SignalState -= 1;
    if (Mutant->Header.SignalState != 0) {
        return STATUS_SUCCESS; // once more
    }
    Thread->KernelApcDisable -= Mutant->ApcDisable;
    Mutant->OwnerThread = Thread;
    InsertHeadList(&Thread->MutantListHead, &Mutant->MutantListEntry);
    const BOOLEAN WasAbandoned = Mutant->Abandoned;
    Mutant->Abandoned = FALSE;
    return WasAbandoned ? STATUS_ABANDONED : STATUS_SUCCESS;
}

// Gives Thread what it waited for: the object is signalled.
static NTSTATUS KiTakeObject(PDISPATCHER_HEADER Header, PKTHREAD Thread)
{
    switch ((KI_OBJECT)Header->Type) {
    case KiEventSynchronizationObject:
    case KiTimerSynchronizationObject:
    case KiGateObject:
        Header->SignalState = 0;
        return STATUS_SUCCESS;
    case KiSemaphoreObject:
        Header->SignalState -= 1;
        return STATUS_SUCCESS;
    case KiMutantObject:
        return KiTakeMutant(CONTAINING_RECORD(Header, KMUTANT, Header), Thread);
    case KiEventNotificationObject:
    case KiTimerNotificationObject:
    case KiProcessObject:
    case KiThreadObject:
    case KiThreadTimerObject:
    case KiDpcObject:
    case KiDeviceQueueObject:
    case KiThreadedDpcObject:
        break;
    }
    return STATUS_SUCCESS;
}

// -------------------------------------------------------------------------------------------------
// The waiters' side.

static BOOLEAN KiAreAllSignalled(const KI_WAIT *Wait, const KTHREAD *Thread)
{
    for (ULONG Index = 0; Index < Wait->Count; Index += 1) {
        if (!KiIsSignalledFor(Wait->Objects[Index], Thread)) {
            return FALSE;
        }
    }
    return TRUE;
}

static BOOLEAN KiHasTooManyTakes(const KI_WAIT *Wait, ULONG Index)
{
    const DISPATCHER_HEADER *Header = Wait->Objects[Index];
    return Header->Type == KiMutantObject && Header->SignalState == (LONG)MINLONG;
}

// FALSE: not now. Else *Status is what the wait returns; STATUS_MUTANT_LIMIT_EXCEEDED is to be raised.
static BOOLEAN KiTakeAny(const KI_WAIT *Wait, PKTHREAD Thread, NTSTATUS *Status)
{
    for (ULONG Index = 0; Index < Wait->Count; Index += 1) {
        if (KiIsSignalledFor(Wait->Objects[Index], Thread)) {
            *Status = KiHasTooManyTakes(Wait, Index)
                          ? STATUS_MUTANT_LIMIT_EXCEEDED
                          : (NTSTATUS)Index | KiTakeObject(Wait->Objects[Index], Thread);
            return TRUE;
        }
    }
    return FALSE;
}

static BOOLEAN KiTakeAll(const KI_WAIT *Wait, PKTHREAD Thread, NTSTATUS *Status)
{
    if (!KiAreAllSignalled(Wait, Thread)) {
        return FALSE;
    }
    *Status = STATUS_SUCCESS;
    for (ULONG Index = 0; Index < Wait->Count; Index += 1) {
        if (KiHasTooManyTakes(Wait, Index)) {
            *Status = STATUS_MUTANT_LIMIT_EXCEEDED;
            return TRUE;
        }
    }
    for (ULONG Index = 0; Index < Wait->Count; Index += 1) {
        *Status |= KiTakeObject(Wait->Objects[Index], Thread);
    }
    return TRUE;
}

static VOID KiInsertWaitBlocks(const KI_WAIT *Wait, PKTHREAD Thread)
{
    for (ULONG Index = 0; Index < Wait->Count; Index += 1) {
        const PDISPATCHER_HEADER Header = Wait->Objects[Index];
        const PKWAIT_BLOCK Block = &Wait->Blocks[Index];
        Block->Thread = Thread;
        Block->Object = Header;
        Block->WaitKey = (USHORT)Index;
        Block->WaitType = (UCHAR)Wait->Type;
        Block->NextWaitBlock = &Wait->Blocks[Index + 1 < Wait->Count ? Index + 1 : 0];
        InsertTailList(&Header->WaitListHead, &Block->WaitListEntry);
    }
    Thread->WaitBlockList = Wait->Count != 0 ? Wait->Blocks : NULL;
    Thread->WaitType = (UCHAR)Wait->Type;
    Thread->WaitReason = (UCHAR)Wait->Reason;
}

VOID KiUnlinkWait(PKTHREAD Thread)
{
    const PKWAIT_BLOCK First = Thread->WaitBlockList;
    PKWAIT_BLOCK Block = First;
    if (Block != NULL) {
        do {
            RemoveEntryList(&Block->WaitListEntry);
            Block = Block->NextWaitBlock;
        } while (Block != First);
    }
    Thread->WaitBlockList = NULL;
    if (Thread->Timer.TimerListEntry.Flink != NULL) {
        KiRemoveTimer(&Thread->Timer);
    }
}

static KIRQL KiIrqlOfWait(const KTHREAD *Thread)
{
    return Thread->WaitNext ? Thread->WaitIrql : KeArchReadIrql();
}

VOID KiRequireMayWait(PCSTR Routine, const VOID *Caller)
{
    const PKTHREAD Thread = KeArchGetCurrentThread();
    const KIRQL Irql = KiIrqlOfWait(Thread);
    if (Irql > APC_LEVEL) {
        ULONG_PTR Offset;
        PCSTR Name = KiFindSymbol((ULONG_PTR)Caller - 1, &Offset);
        KiBugCheckSaying(ATTEMPTED_SWITCH_FROM_DPC, (ULONG_PTR)Thread, 0, Thread->StackBase,
                         (ULONG_PTR)Caller, "%s would wait at IRQL %u%s, called by %s", Routine,
                         Irql, KeArchGetPcr()->DpcRunning ? ", in a DPC" : "",
                         Name != NULL ? Name : "unknown code");
    }
}

// The lock, and the IRQL to go back to: KeSetEvent may have raised it for this wait.
static KIRQL KiBeginWait(PKTHREAD Thread) _Acquires_lock_(&KiDispatcherLock);
static KIRQL KiBeginWait(PKTHREAD Thread)
{
    const KIRQL Irql = KiLockDispatcher();
    if (!Thread->WaitNext) {
        return Irql;
    }
    Thread->WaitNext = FALSE;
    return Thread->WaitIrql;
}

// Whether the thread has to stop: FALSE with a time-out that is over.
static BOOLEAN KiSetTimeout(const KI_WAIT *Wait, PKTHREAD Thread)
{
    if (Wait->Timeout == NULL) {
        return TRUE;
    }
    return Wait->Timeout->QuadPart != 0 &&
           KiSetTimerAt(&Thread->Timer, KiDueTimeOf(Wait->Timeout->QuadPart));
}

// Locked; and still, or again, at the return.
static NTSTATUS KiWaitLocked(const KI_WAIT *Wait, PKTHREAD Thread)
{
    NTSTATUS Status;
    const BOOLEAN IsTaken =
        Wait->Type == WaitAny ? KiTakeAny(Wait, Thread, &Status) : KiTakeAll(Wait, Thread, &Status);
    if (IsTaken) {
        return Status;
    }
    if (!KiSetTimeout(Wait, Thread)) {
        return STATUS_TIMEOUT;
    }
    KiInsertWaitBlocks(Wait, Thread);
    Thread->State = KiThreadWaiting;
    KiSwitchAway();
    return (NTSTATUS)Thread->WaitStatus;
}

static BOOLEAN KiMayStop(const LARGE_INTEGER *Timeout)
{
    return Timeout == NULL || Timeout->QuadPart != 0;
}

static NTSTATUS KiWait(const KI_WAIT *Wait, PCSTR Routine, const VOID *Caller)
{
    const PKTHREAD Thread = KeArchGetCurrentThread();
    if (KiMayStop(Wait->Timeout)) {
        KiRequireMayWait(Routine, Caller);
    }
    const KIRQL OldIrql = KiBeginWait(Thread);
    const NTSTATUS Status = KiWaitLocked(Wait, Thread);
    KiUnlockDispatcher(OldIrql);
    if (Status == STATUS_MUTANT_LIMIT_EXCEEDED) {
        KiRaiseStatus(Routine, Status, Caller);
    }
    return Status;
}

// Whatever lies where an object should be: a driver's mistake, which would damage somebody's memory.
static VOID KiRequireWaitable(const DISPATCHER_HEADER *Header)
{
    NT_ASSERT_INVARIANT("W1",
                        Header->Type < KiWaitableObjectEnd && Header->WaitListHead.Flink != NULL);
#if !DBG
    UNREFERENCED_PARAMETER(Header);
#endif
}

NTSTATUS NTAPI KeWaitForSingleObject(PVOID Object, KWAIT_REASON WaitReason,
                                     KPROCESSOR_MODE WaitMode, BOOLEAN Alertable,
                                     PLARGE_INTEGER Timeout)
{
    UNREFERENCED_PARAMETER(WaitMode);
    UNREFERENCED_PARAMETER(Alertable);
    KiRequireWaitable(Object);
    const KI_WAIT Wait = {1,          &Object, WaitAny,
                          WaitReason, Timeout, KeArchGetCurrentThread()->WaitBlocks};
    return KiWait(&Wait, __func__, __builtin_return_address(0));
}

NTSTATUS NTAPI KeWaitForMultipleObjects(ULONG Count, PVOID Object[], WAIT_TYPE WaitType,
                                        KWAIT_REASON WaitReason, KPROCESSOR_MODE WaitMode,
                                        BOOLEAN Alertable, PLARGE_INTEGER Timeout,
                                        PKWAIT_BLOCK WaitBlockArray)
{
    UNREFERENCED_PARAMETER(WaitMode);
    UNREFERENCED_PARAMETER(Alertable);
    const ULONG Limit = WaitBlockArray != NULL ? MAXIMUM_WAIT_OBJECTS : THREAD_WAIT_OBJECTS;
    if (Count > Limit) {
        KiBugCheckSaying(MAXIMUM_WAIT_OBJECTS_EXCEEDED, Count, (ULONG_PTR)WaitBlockArray, 0, 0,
                         "KeWaitForMultipleObjects cannot wait for %u objects %s: %u at most",
                         Count, WaitBlockArray != NULL ? "" : "without wait blocks", Limit);
    }
    for (ULONG Index = 0; Index < Count; Index += 1) {
        KiRequireWaitable(Object[Index]);
    }
    const KI_WAIT Wait = {
        Count,    Object,
        WaitType, WaitReason,
        Timeout,  WaitBlockArray != NULL ? WaitBlockArray : KeArchGetCurrentThread()->WaitBlocks,
    };
    return KiWait(&Wait, __func__, __builtin_return_address(0));
}

static VOID KiYield(VOID)
{
    const KIRQL OldIrql = KiLockDispatcher();
    KiGiveWay();
    KiReleaseLock(&KiDispatcherLock, OldIrql);
}

// A wait for nothing, which only its time-out ends.
NTSTATUS NTAPI KeDelayExecutionThread(KPROCESSOR_MODE WaitMode, BOOLEAN Alertable,
                                      PLARGE_INTEGER Interval)
{
    UNREFERENCED_PARAMETER(WaitMode);
    UNREFERENCED_PARAMETER(Alertable);
    KiRequireMayWait(__func__, __builtin_return_address(0));
    if (Interval->QuadPart == 0) {
        KiYield();
        return STATUS_SUCCESS;
    }
    const KI_WAIT Wait = {0, NULL, WaitAny, DelayExecution, Interval, NULL};
    (VOID) KiWait(&Wait, __func__, __builtin_return_address(0));
    return STATUS_SUCCESS;
}

// -------------------------------------------------------------------------------------------------
// The signallers' side. Locked.

VOID KiEndWait(PKTHREAD Thread, LONG_PTR Status, KPRIORITY Increment)
{
    KiUnlinkWait(Thread);
    Thread->WaitStatus = Status;
    const KPRIORITY Boosted = Thread->BasePriority + Increment;
    if (Thread->Priority < LOW_REALTIME_PRIORITY && Boosted > Thread->Priority) {
        Thread->Priority =
            (CHAR)(Boosted < KI_HIGHEST_BOOSTED_PRIORITY ? Boosted : KI_HIGHEST_BOOSTED_PRIORITY);
    }
    Thread->Quantum = KI_QUANTUM_TICKS;
    KiMakeReady(Thread, FALSE);
}

// A wait for all objects ends when the last of them is signalled. FALSE: it goes on.
static BOOLEAN KiTakeAllOfBlocks(PKTHREAD Thread, NTSTATUS *Status)
{
    const PKWAIT_BLOCK First = Thread->WaitBlockList;
    PKWAIT_BLOCK Block = First;
    do {
        if (!KiIsSignalledFor(Block->Object, Thread)) {
            return FALSE;
        }
        Block = Block->NextWaitBlock;
    } while (Block != First);
    *Status = STATUS_SUCCESS;
    do {
        *Status |= KiTakeObject(Block->Object, Thread);
        Block = Block->NextWaitBlock;
    } while (Block != First);
    return TRUE;
}

VOID KiTestWaiters(PDISPATCHER_HEADER Header, KPRIORITY Increment)
{
    PLIST_ENTRY Entry = Header->WaitListHead.Flink;
    while (Header->SignalState > 0 && Entry != &Header->WaitListHead) {
        const PKWAIT_BLOCK Block = CONTAINING_RECORD(Entry, KWAIT_BLOCK, WaitListEntry);
        const PKTHREAD Thread = Block->Thread;
        NTSTATUS Status;
        if (Block->WaitType == WaitAny) {
            Status = (NTSTATUS)Block->WaitKey | KiTakeObject(Header, Thread);
        } else if (!KiTakeAllOfBlocks(Thread, &Status)) {
            Entry = Entry->Flink;
            continue;
        }
        KiEndWait(Thread, Status, Increment);
        Entry = Header->WaitListHead.Flink; // the next block may have been the same thread's
    }
}
