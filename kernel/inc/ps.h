// Threads, and what the dispatcher keeps of them.
//
// The public routines (KeSetEvent, KeWaitForSingleObject, PsCreateSystemThread, ...) are declared in
// <dispatchddk.h>. Here are the thread object, the start of the dispatcher, and what the dispatcher's
// own files share. kernel/ke makes a thread run; kernel/ps gives it a stack and a handle, and takes
// them back.
#pragma once

#include <ntdef.h>
#include <wdm.h>

#include "kernel/inc/ke.h"

// -------------------------------------------------------------------------------------------------
// Dispatcher objects, by DISPATCHER_HEADER.Type.

typedef enum _KI_OBJECT {
    KiEventNotificationObject = 0,
    KiEventSynchronizationObject = 1,
    KiMutantObject = 2,
    KiProcessObject = 3,
    KiSemaphoreObject = 5,
    KiThreadObject = 6,
    KiGateObject = 7,
    KiTimerNotificationObject = 8,
    KiTimerSynchronizationObject = 9,
    KiWaitableObjectEnd = 10,
    KiThreadTimerObject = 10, // the time-out of a wait; nobody can wait for it
    KiDpcObject = 19,
    KiDeviceQueueObject = 20,
    KiThreadedDpcObject = 24,
} KI_OBJECT;

// -------------------------------------------------------------------------------------------------
// The thread.

typedef enum _KI_THREAD_STATE {
    KiThreadInitialized,
    KiThreadReady, // in the ready list of its priority
    KiThreadRunning,
    KiThreadWaiting,
    KiThreadTerminated,
} KI_THREAD_STATE;

#define KI_QUANTUM_TICKS 20
#define KI_NO_AFFINITY 0

typedef struct _KTHREAD {
    DISPATCHER_HEADER Header;            // signalled when the thread has ended
    ULONG64 StackPointer;                // of a thread that does not run (arch/x64/switch.S)
    ULONG_PTR StackBase;                 // the address behind its highest byte
    ULONG_PTR StackLimit;                // its lowest byte
    struct _KM_TRY_FRAME *ExceptionList; // the innermost handler (kernel/ke/exception.c)

    UCHAR State; // KI_THREAD_STATE
    CHAR Priority;
    CHAR BasePriority;
    CHAR Quantum; // ticks that are left of it
    SHORT KernelApcDisable;
    SHORT SpecialApcDisable; // negative: so many regions deep
    LIST_ENTRY ReadyLink;    // in a ready list; of a thread that has ended, in the reaper's list

    LONG_PTR WaitStatus;
    PKWAIT_BLOCK WaitBlockList; // while it waits: circular, through NextWaitBlock
    BOOLEAN WaitNext;           // KeSetEvent and its like have left the IRQL raised for a wait
    KIRQL WaitIrql;             // and this is the IRQL to go back to
    UCHAR WaitReason;
    UCHAR WaitType;
    KTIMER Timer; // for the time-out
    KWAIT_BLOCK WaitBlocks[THREAD_WAIT_OBJECTS];

    LIST_ENTRY MutantListHead; // mutexes that it owns
    KAFFINITY Affinity;        // KI_NO_AFFINITY: wherever there is a processor
    USHORT Processor;          // where it runs, is ready, or ran last
    ULONG RunTime;             // ticks
    NTSTATUS ExitStatus;
    HANDLE ThreadId;
    PKSTART_ROUTINE StartRoutine;
    PVOID StartContext;
    LIST_ENTRY ThreadLink;    // of all threads
    struct _IRP *TopLevelIrp; // a file system's: what its entry was called with
} KTHREAD;

C_ASSERT(FIELD_OFFSET(KTHREAD, StackPointer) == 0x18);

// There is one process, and nothing but its address and its id is of use.
typedef struct _EPROCESS {
    DISPATCHER_HEADER Header;
    HANDLE ProcessId;
    LARGE_INTEGER CreateTime;
} EPROCESS;

// -------------------------------------------------------------------------------------------------
// The start of it all.

// The thread in which the processor starts: it has the boot stack. Valid before anything runs.
PKTHREAD KiGetInitialThread(ULONG Number);

// Makes the scheduler ready, and switches interrupts on. From here on threads can wait. StackBase:
// the end of a stack for the idle thread, which has it for ever. The others begin in KiRunNewProcessor.
VOID KeInitializeDispatcher(PVOID IdleStackBase, SIZE_T IdleStackByteCount);

// Starts the processor with this APIC id as the next one, between KeArchBeginStartup and KeArchEndStartup.
// The stack is its idle thread's for ever. FALSE, and why is said: it does not answer, or its time is
// another; the stack must be kept.
_Must_inspect_result_ BOOLEAN KeStartProcessor(ULONG ApicId, PVOID StackBase,
                                               SIZE_T StackByteCount);

// Fills KUSER_SHARED_DATA, and returns its page, for mm to show it. From here on the clock updates it.
#define KI_BUILD_NUMBER 19041
const VOID *KeInitializeSharedData(VOID);

// From here on the clock ticks: time-outs, timers, quanta. And back: for measurements whose counts
// must repeat. Each processor has a clock; without the first one's, time stands still for everybody.
VOID KeStartClock(VOID);
VOID KeStopClock(VOID);

// -------------------------------------------------------------------------------------------------
// Threads, for kernel/ps. IRQL <= DISPATCH_LEVEL.

// Fills *Thread; nobody runs it before KeReadyThread. The stack is the caller's to give and to take
// back.
VOID KeInitializeThread(PKTHREAD Thread, PVOID StackBase, SIZE_T StackByteCount,
                        PKSTART_ROUTINE StartRoutine, PVOID StartContext);
VOID KeReadyThread(PKTHREAD Thread);

// Of a thread that was never made ready, and will not be.
VOID KeForgetThread(PKTHREAD Thread);

// The initial and the idle threads become objects of this type.
VOID KeMakeStaticThreadsObjects(struct _OBJECT_TYPE *Type);

// Ends the thread that runs, which must hold nothing any more: signals it, and hands it to the reaper.
DECLSPEC_NORETURN VOID KeTerminateThread(NTSTATUS ExitStatus);

// Each thread calls Routine before it ends, at PASSIVE_LEVEL: where it gives back what others keep for it.
VOID KeSetThreadEndRoutine(VOID (*Routine)(VOID));

// For the reaper: waits until a thread has ended, or somebody asks for it; and the next thread that has
// ended, whose stack and record can go, or NULL.
VOID KeWaitForReaperWork(VOID);
VOID KeRequestReaper(VOID);
PKTHREAD KeTakeEndedThread(VOID);

// The thread's stack is gone: lets its waiters go, and releases its own reference to its object. TRUE: that
// was the last one, and the caller has to delete the object.
_Must_inspect_result_ BOOLEAN KeFinishThread(PKTHREAD Thread);

// Calls Routine for each thread, the idle ones included. The dispatcher's lock is held.
typedef VOID KI_THREAD_ROUTINE(const KTHREAD *Thread, PVOID Context);
VOID KeEnumerateThreads(KI_THREAD_ROUTINE *Routine, PVOID Context);

// The same for each timer that is set, time-outs of waits among them. Under the dispatcher's lock.
typedef VOID KI_TIMER_ROUTINE(PKTIMER Timer, PVOID Context);
VOID KiEnumerateTimers(KI_TIMER_ROUTINE *Routine, PVOID Context);

// The same for each DPC that is queued. At HIGH_LEVEL, under the queue's lock.
typedef VOID KI_DPC_ROUTINE(PKDPC Dpc, PVOID Context);
VOID KiEnumerateDpcs(KI_DPC_ROUTINE *Routine, PVOID Context);

// The limits of the stack that the processor is on: [*StackLimit, *StackBase).
VOID KiGetStackLimits(PULONG_PTR StackLimit, PULONG_PTR StackBase);

// kernel/ps: the system process, and the reaper. Behind KeInitializeDispatcher.
VOID PsInitSystem(VOID);

// -------------------------------------------------------------------------------------------------
// Shared by the files of the dispatcher (kernel/ke). "Locked": KiDispatcherLock is held.
//
// The lock is the innermost of all (rank 31). It stays held across a switch of threads: who is
// switched to releases it.

#define KI_RANK_DISPATCHER KI_LOCK_MAXIMUM_RANK

extern KI_LOCK KiDispatcherLock;

static inline KIRQL KiLockDispatcher(VOID) _Acquires_lock_(&KiDispatcherLock);
static inline KIRQL KiLockDispatcher(VOID)
{
    return KiAcquireLock(&KiDispatcherLock);
}

// Releases the lock and goes back to OldIrql; first lets a thread of higher priority run that has
// become ready.
VOID KiUnlockDispatcher(KIRQL OldIrql) _Releases_lock_(&KiDispatcherLock);

// The same for the callers of KeSetEvent and its like. Wait: stays at DISPATCH_LEVEL, for the wait that
// follows.
VOID KiUnlockAfterSignal(KIRQL OldIrql, BOOLEAN Wait) _Releases_lock_(&KiDispatcherLock);

// Locked. Puts Thread, whose state nobody else cares about, into its ready list; at the head: it was
// interrupted before its time.
VOID KiMakeReady(PKTHREAD Thread, BOOLEAN AtHead);

// Where the current thread may run from now on. If it must, it moves at once, or as soon as the IRQL is
// below DISPATCH_LEVEL.
VOID KiSetCurrentAffinity(KAFFINITY Affinity);

// A new processor's idle thread, which runs on it from its first instruction; and its lists.
VOID KiPrepareIdleThread(ULONG Number, PVOID StackBase, SIZE_T StackByteCount);
VOID KiInitializeReadyLists(VOID); // of this processor
DECLSPEC_NORETURN VOID NTAPI KiIdle(PVOID Context);

// Of the idle thread: halts until something comes, and may miss broadcasts meanwhile.
VOID KiSleep(VOID);

// Locked, at DISPATCH_LEVEL. Runs the best ready thread in the place of the current one, which must
// have its new state, and be in some list, already. Comes back when the current one runs again.
VOID KiSwitchAway(VOID);

// Locked, at DISPATCH_LEVEL. The current thread's turn is over: another one that is not worse runs, if
// there is any.
VOID KiGiveWay(VOID);

// Locked. Ends the wait of Thread with Status, and boosts its priority.
VOID KiEndWait(PKTHREAD Thread, LONG_PTR Status, KPRIORITY Increment);

// Locked. Header has just been signalled: lets go whom it lets go.
VOID KiTestWaiters(PDISPATCHER_HEADER Header, KPRIORITY Increment);

// Locked. Takes all blocks of Thread's wait out of their objects' lists.
VOID KiUnlinkWait(PKTHREAD Thread);

// Stops who waits, or would be made to wait, where nobody may.
VOID KiRequireMayWait(PCSTR Routine, const VOID *Caller);

// Locked (timer.c). Sets Timer for this interrupt time; FALSE: it has come already.
BOOLEAN KiSetTimerAt(PKTIMER Timer, ULONG64 DueTime);
VOID KiRemoveTimer(PKTIMER Timer);
VOID KiInitializeTimers(VOID);

// The interrupt time at which a time-out ends: relative to now when negative, else of the time of day.
ULONG64 KiDueTimeOf(LONG64 Time);

// At CLOCK_LEVEL: whether a timer is due. At DISPATCH_LEVEL: expires those that are.
BOOLEAN KiIsTimerDue(ULONG64 Now);
VOID KiExpireTimers(VOID);

// dpc.c: at DISPATCH_LEVEL, runs what is queued.
VOID KiRetireDpcs(VOID);

// Locked (mutex.c): the thread ends; its mutexes are abandoned.
VOID KiAbandonMutexes(PKTHREAD Thread);

// time.c, in units of 100 ns. The interrupt time, since the start: as of the clock's last tick, and now.
#define KI_TIME_INCREMENT 10000u // per tick
#define KI_TICKS_PER_SECOND 1000u
ULONG KiAdvanceTime(VOID); // at CLOCK_LEVEL: the clock has ticked; how many ticks have passed
ULONG64 KiInterruptTime(VOID);
ULONG64 KiInterruptTimeNow(VOID);
ULONG64 KiSystemTimeAtStart(VOID); // since 1 January 1601

// shared.c: the same, for all to see.
VOID KiShowTime(ULONG64 InterruptTime);
