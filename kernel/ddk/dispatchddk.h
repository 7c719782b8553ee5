// Ke and Ps for drivers: dispatcher objects, waits, threads, timers, DPCs, queued spin locks, mutexes.
//
// Times are in units of 100 ns: an absolute one counts from 1 January 1601, a negative one from now.
// Statuses of a wait: STATUS_SUCCESS (STATUS_WAIT_0 plus the index of the object, for WaitAny),
// STATUS_TIMEOUT, or STATUS_ABANDONED_WAIT_0 plus the index when a mutex's owner has ended. No thread is
// ever alerted, and there are no user APCs (ours), so no wait ends for that.
#pragma once

#include <ntdef.h>
#include <ntstatus.h>

#include <keddk.h>

typedef struct _KTHREAD *PKTHREAD, *PRKTHREAD; // opaque
typedef struct _ETHREAD *PETHREAD;             // opaque; the same address as its PKTHREAD
typedef struct _EPROCESS *PEPROCESS;           // opaque; there is one: the system's

typedef LONG KPRIORITY;

#define LOW_PRIORITY 0
#define LOW_REALTIME_PRIORITY 16
#define HIGH_PRIORITY 31
#define MAXIMUM_PRIORITY 32

// Boosts: what a thread gets that was waiting for such a thing.
#define EVENT_INCREMENT 1
#define IO_NO_INCREMENT 0
#define IO_CD_ROM_INCREMENT 1
#define IO_DISK_INCREMENT 1
#define IO_KEYBOARD_INCREMENT 6
#define IO_MAILSLOT_INCREMENT 2
#define IO_MOUSE_INCREMENT 6
#define IO_NAMED_PIPE_INCREMENT 2
#define IO_NETWORK_INCREMENT 2
#define IO_PARALLEL_INCREMENT 1
#define IO_SERIAL_INCREMENT 2
#define IO_SOUND_INCREMENT 8
#define IO_VIDEO_INCREMENT 1
#define SEMAPHORE_INCREMENT 1

// -------------------------------------------------------------------------------------------------
// Layouts. All are opaque but for their sizes: drivers keep these objects in nonpaged memory of theirs.

typedef struct _DISPATCHER_HEADER {
    UCHAR Type;
    BOOLEAN Signalling;
    UCHAR Size; // in 32-bit words
    BOOLEAN DpcActive;
    LONG SignalState;
    LIST_ENTRY WaitListHead;
} DISPATCHER_HEADER, *PDISPATCHER_HEADER;

typedef struct _KEVENT {
    DISPATCHER_HEADER Header;
} KEVENT, *PKEVENT, *PRKEVENT;

typedef struct _KSEMAPHORE {
    DISPATCHER_HEADER Header;
    LONG Limit;
} KSEMAPHORE, *PKSEMAPHORE, *PRKSEMAPHORE;

typedef struct _KGATE {
    DISPATCHER_HEADER Header;
} KGATE, *PKGATE, *PRKGATE;

typedef struct _KMUTANT {
    DISPATCHER_HEADER Header;
    LIST_ENTRY MutantListEntry;
    struct _KTHREAD *OwnerThread;
    BOOLEAN Abandoned;
    UCHAR ApcDisable;
} KMUTANT, *PKMUTANT, *PRKMUTANT, KMUTEX, *PKMUTEX, *PRKMUTEX;

typedef struct _FAST_MUTEX {
    volatile LONG Count; // 1: free; 0: owned; less: so many wait
    PKTHREAD Owner;
    ULONG Contention;
    KEVENT Event;
    ULONG OldIrql;
} FAST_MUTEX, *PFAST_MUTEX;

typedef struct _KGUARDED_MUTEX {
    volatile LONG Count;
    PKTHREAD Owner;
    ULONG Contention;
    KGATE Gate;
    union {
        struct {
            SHORT KernelApcDisable;
            SHORT SpecialApcDisable;
        };
        ULONG CombinedApcDisable;
    };
} KGUARDED_MUTEX, *PKGUARDED_MUTEX;

#define FM_LOCK_BIT 0x1
#define GM_LOCK_BIT 0x1

struct _KDPC;
typedef VOID(NTAPI KDEFERRED_ROUTINE)(_In_ struct _KDPC *Dpc, _In_opt_ PVOID DeferredContext,
                                      _In_opt_ PVOID SystemArgument1,
                                      _In_opt_ PVOID SystemArgument2);
typedef KDEFERRED_ROUTINE *PKDEFERRED_ROUTINE;

typedef enum _KDPC_IMPORTANCE {
    LowImportance,
    MediumImportance,
    HighImportance,
    MediumHighImportance,
} KDPC_IMPORTANCE;

typedef struct _KDPC {
    UCHAR Type;
    UCHAR Importance;
    volatile USHORT Number;
    LIST_ENTRY DpcListEntry;
    PKDEFERRED_ROUTINE DeferredRoutine;
    PVOID DeferredContext;
    PVOID SystemArgument1;
    PVOID SystemArgument2;
    volatile PVOID DpcData; // not NULL while it is queued
} KDPC, *PKDPC, *PRKDPC;

typedef struct _KTIMER {
    DISPATCHER_HEADER Header;
    ULARGE_INTEGER DueTime;    // of the interrupt time
    LIST_ENTRY TimerListEntry; // Flink is NULL while the timer is not set
    struct _KDPC *Dpc;
    ULONG Processor;
    ULONG Period; // milliseconds
} KTIMER, *PKTIMER, *PRKTIMER;

typedef struct _KWAIT_BLOCK {
    LIST_ENTRY WaitListEntry;
    struct _KTHREAD *Thread;
    PVOID Object;
    struct _KWAIT_BLOCK *NextWaitBlock;
    USHORT WaitKey;
    UCHAR WaitType;
    volatile UCHAR BlockState;
    LONG SpareLong;
} KWAIT_BLOCK, *PKWAIT_BLOCK, *PRKWAIT_BLOCK;

typedef struct _KDEVICE_QUEUE {
    CSHORT Type;
    CSHORT Size;
    LIST_ENTRY DeviceListHead;
    KSPIN_LOCK Lock;
    ULONG64 Busy;
} KDEVICE_QUEUE, *PKDEVICE_QUEUE, *PRKDEVICE_QUEUE;

typedef struct _KDEVICE_QUEUE_ENTRY {
    LIST_ENTRY DeviceListEntry;
    ULONG SortKey;
    BOOLEAN Inserted;
} KDEVICE_QUEUE_ENTRY, *PKDEVICE_QUEUE_ENTRY, *PRKDEVICE_QUEUE_ENTRY;

typedef struct _KAPC {
    UCHAR Type;
    UCHAR SpareByte0;
    UCHAR Size;
    UCHAR SpareByte1;
    ULONG SpareLong0;
    struct _KTHREAD *Thread;
    LIST_ENTRY ApcListEntry;
    PVOID Reserved[3];
    PVOID NormalContext;
    PVOID SystemArgument1;
    PVOID SystemArgument2;
    CCHAR ApcStateIndex;
    KPROCESSOR_MODE ApcMode;
    BOOLEAN Inserted;
} KAPC, *PKAPC;

typedef struct _KSPIN_LOCK_QUEUE {
    struct _KSPIN_LOCK_QUEUE *volatile Next;
    PKSPIN_LOCK volatile Lock;
} KSPIN_LOCK_QUEUE, *PKSPIN_LOCK_QUEUE;

typedef struct _KLOCK_QUEUE_HANDLE {
    KSPIN_LOCK_QUEUE LockQueue;
    KIRQL OldIrql;
} KLOCK_QUEUE_HANDLE, *PKLOCK_QUEUE_HANDLE;

C_ASSERT(sizeof(DISPATCHER_HEADER) == 0x18 && sizeof(KEVENT) == 0x18);
C_ASSERT(FIELD_OFFSET(DISPATCHER_HEADER, SignalState) == 4);
C_ASSERT(FIELD_OFFSET(DISPATCHER_HEADER, WaitListHead) == 8);
C_ASSERT(sizeof(KSEMAPHORE) == 0x20 && sizeof(KMUTEX) == 0x38 && sizeof(FAST_MUTEX) == 0x38);
C_ASSERT(sizeof(KGUARDED_MUTEX) == 0x38 && sizeof(KTIMER) == 0x40 && sizeof(KWAIT_BLOCK) == 0x30);
C_ASSERT(sizeof(KDPC) == 0x40);
C_ASSERT(FIELD_OFFSET(KDPC, DpcListEntry) == 8 && FIELD_OFFSET(KDPC, DeferredRoutine) == 0x18);
C_ASSERT(FIELD_OFFSET(KDPC, DpcData) == 0x38);
C_ASSERT(sizeof(KDEVICE_QUEUE) == 0x28 && sizeof(KDEVICE_QUEUE_ENTRY) == 0x18 &&
         sizeof(KAPC) == 0x58);
C_ASSERT(sizeof(KLOCK_QUEUE_HANDLE) == 0x18);

// -------------------------------------------------------------------------------------------------
// Waits. With a time-out that is not zero: IRQL <= APC_LEVEL, in no arbitrary thread's context that
// must not stop; ATTEMPTED_SWITCH_FROM_DPC stops who waits at DISPATCH_LEVEL or above. With a time-out
// of zero nothing waits: IRQL <= DISPATCH_LEVEL.

typedef enum _KWAIT_REASON {
    Executive,
    FreePage,
    PageIn,
    PoolAllocation,
    DelayExecution,
    Suspended,
    UserRequest,
    WrExecutive,
    WrFreePage,
    WrPageIn,
    WrPoolAllocation,
    WrDelayExecution,
    WrSuspended,
    WrUserRequest,
} KWAIT_REASON;

typedef enum _WAIT_TYPE { WaitAll, WaitAny } WAIT_TYPE;

#define THREAD_WAIT_OBJECTS 3
#define MAXIMUM_WAIT_OBJECTS 64

// Waits for an event, a semaphore, a mutex, a timer or a thread. No time-out: for ever. A mutex that the
// thread has acquired too often raises STATUS_MUTANT_LIMIT_EXCEEDED.
NTSTATUS NTAPI KeWaitForSingleObject(_In_ PVOID Object, _In_ KWAIT_REASON WaitReason,
                                     _In_ KPROCESSOR_MODE WaitMode, _In_ BOOLEAN Alertable,
                                     _In_opt_ PLARGE_INTEGER Timeout);
#define KeWaitForMutexObject KeWaitForSingleObject

// For one of, or for all of, Count objects at once. Up to THREAD_WAIT_OBJECTS need no WaitBlockArray;
// more need one of as many blocks, in nonpaged memory. MAXIMUM_WAIT_OBJECTS_EXCEEDED stops who asks for
// more than MAXIMUM_WAIT_OBJECTS, or gives no array where one is needed.
NTSTATUS NTAPI KeWaitForMultipleObjects(_In_ ULONG Count, _In_reads_(Count) PVOID Object[],
                                        _In_ WAIT_TYPE WaitType, _In_ KWAIT_REASON WaitReason,
                                        _In_ KPROCESSOR_MODE WaitMode, _In_ BOOLEAN Alertable,
                                        _In_opt_ PLARGE_INTEGER Timeout,
                                        _Out_opt_ PKWAIT_BLOCK WaitBlockArray);

// The thread stands still until the time has come, and at least as long. STATUS_SUCCESS. IRQL <=
// APC_LEVEL. An interval of zero gives other threads of the same priority their turn.
NTSTATUS NTAPI KeDelayExecutionThread(_In_ KPROCESSOR_MODE WaitMode, _In_ BOOLEAN Alertable,
                                      _In_ PLARGE_INTEGER Interval);

// -------------------------------------------------------------------------------------------------
// Events. IRQL <= DISPATCH_LEVEL. Wait: TRUE when a wait follows at once (then IRQL <= APC_LEVEL): the
// routine returns at DISPATCH_LEVEL, and the wait goes back to the IRQL before.

typedef enum _EVENT_TYPE { NotificationEvent, SynchronizationEvent } EVENT_TYPE;

// A notification event stays signalled until it is reset; a synchronization event lets one waiter go.
VOID NTAPI KeInitializeEvent(_Out_ PRKEVENT Event, _In_ EVENT_TYPE Type, _In_ BOOLEAN State);

// These return the state before: not 0 when it was signalled.
LONG NTAPI KeSetEvent(_Inout_ PRKEVENT Event, _In_ KPRIORITY Increment, _In_ BOOLEAN Wait);
LONG NTAPI KeResetEvent(_Inout_ PRKEVENT Event);
LONG NTAPI KePulseEvent(_Inout_ PRKEVENT Event, _In_ KPRIORITY Increment, _In_ BOOLEAN Wait);
LONG NTAPI KeReadStateEvent(_In_ PRKEVENT Event);
VOID NTAPI KeClearEvent(_Inout_ PRKEVENT Event);

// -------------------------------------------------------------------------------------------------
// Semaphores. IRQL <= DISPATCH_LEVEL.

VOID NTAPI KeInitializeSemaphore(_Out_ PRKSEMAPHORE Semaphore, _In_ LONG Count, _In_ LONG Limit);

// Adds Adjustment, and returns the count before. Raises STATUS_SEMAPHORE_LIMIT_EXCEEDED when that would
// exceed the limit, or Adjustment is not positive; the count is then as it was.
LONG NTAPI KeReleaseSemaphore(_Inout_ PRKSEMAPHORE Semaphore, _In_ KPRIORITY Increment,
                              _In_ LONG Adjustment, _In_ BOOLEAN Wait);
LONG NTAPI KeReadStateSemaphore(_In_ PRKSEMAPHORE Semaphore);

// -------------------------------------------------------------------------------------------------
// Mutexes: recursive, and acquired by a wait. While a thread owns one, kernel APCs are disabled for it.

VOID NTAPI KeInitializeMutex(_Out_ PRKMUTEX Mutex, _In_ ULONG Level);

// Returns the state before: 0 when the mutex is free now. Raises STATUS_MUTANT_NOT_OWNED when the thread
// does not own it, and STATUS_ABANDONED when an earlier owner ended without releasing it and nobody has
// been told yet. IRQL <= DISPATCH_LEVEL.
LONG NTAPI KeReleaseMutex(_Inout_ PRKMUTEX Mutex, _In_ BOOLEAN Wait);
LONG NTAPI KeReadStateMutex(_In_ PRKMUTEX Mutex); // 1: free

// -------------------------------------------------------------------------------------------------
// Critical and guarded regions: kernel APCs, and all of them, are disabled for this thread. There are no
// APCs here (ours); the counts are kept and checked. IRQL <= APC_LEVEL.

VOID NTAPI KeEnterCriticalRegion(VOID);
VOID NTAPI KeLeaveCriticalRegion(VOID);
VOID NTAPI KeEnterGuardedRegion(VOID);
VOID NTAPI KeLeaveGuardedRegion(VOID);
BOOLEAN NTAPI KeAreApcsDisabled(VOID);
BOOLEAN NTAPI KeAreAllApcsDisabled(VOID);

// -------------------------------------------------------------------------------------------------
// Fast mutexes: not recursive. The owner runs at APC_LEVEL (...Unsafe: in a critical region of its own
// making). IRQL <= APC_LEVEL. MUTEX_ALREADY_OWNED stops who acquires twice, THREAD_NOT_MUTEX_OWNER who
// releases what it has not.

VOID FASTCALL ExAcquireFastMutex(_Inout_ PFAST_MUTEX FastMutex);
VOID FASTCALL ExReleaseFastMutex(_Inout_ PFAST_MUTEX FastMutex);
VOID FASTCALL ExAcquireFastMutexUnsafe(_Inout_ PFAST_MUTEX FastMutex);
VOID FASTCALL ExReleaseFastMutexUnsafe(_Inout_ PFAST_MUTEX FastMutex);
BOOLEAN FASTCALL ExTryToAcquireFastMutex(_Inout_ PFAST_MUTEX FastMutex);

FORCEINLINE VOID ExInitializeFastMutex(_Out_ PFAST_MUTEX FastMutex)
{
    FastMutex->Count = FM_LOCK_BIT;
    FastMutex->Owner = NULL;
    FastMutex->Contention = 0;
    KeInitializeEvent(&FastMutex->Event, SynchronizationEvent, FALSE);
}

// The same with a guarded region instead of APC_LEVEL.
VOID FASTCALL KeInitializeGuardedMutex(_Out_ PKGUARDED_MUTEX GuardedMutex);
VOID FASTCALL KeAcquireGuardedMutex(_Inout_ PKGUARDED_MUTEX GuardedMutex);
VOID FASTCALL KeReleaseGuardedMutex(_Inout_ PKGUARDED_MUTEX GuardedMutex);
VOID FASTCALL KeAcquireGuardedMutexUnsafe(_Inout_ PKGUARDED_MUTEX GuardedMutex);
VOID FASTCALL KeReleaseGuardedMutexUnsafe(_Inout_ PKGUARDED_MUTEX GuardedMutex);
BOOLEAN FASTCALL KeTryToAcquireGuardedMutex(_Inout_ PKGUARDED_MUTEX GuardedMutex);

// -------------------------------------------------------------------------------------------------
// DPCs: routines that run at DISPATCH_LEVEL as soon as the processor gets below it. Any IRQL, but for
// KeFlushQueuedDpcs.

VOID NTAPI KeInitializeDpc(_Out_ PRKDPC Dpc, _In_ PKDEFERRED_ROUTINE DeferredRoutine,
                           _In_opt_ PVOID DeferredContext);

// The same here (ours): a threaded DPC, too, runs at DISPATCH_LEVEL, as it may on NT.
VOID NTAPI KeInitializeThreadedDpc(_Out_ PRKDPC Dpc, _In_ PKDEFERRED_ROUTINE DeferredRoutine,
                                   _In_opt_ PVOID DeferredContext);

// FALSE: it is queued already, and its arguments stay as they are.
BOOLEAN NTAPI KeInsertQueueDpc(_Inout_ PRKDPC Dpc, _In_opt_ PVOID SystemArgument1,
                               _In_opt_ PVOID SystemArgument2);

// FALSE: it was not queued.
BOOLEAN NTAPI KeRemoveQueueDpc(_Inout_ PRKDPC Dpc);

// High: before the others. Low: need not run before the next tick of the clock.
VOID NTAPI KeSetImportanceDpc(_Inout_ PRKDPC Dpc, _In_ KDPC_IMPORTANCE Importance);
VOID NTAPI KeSetTargetProcessorDpc(_Inout_ PRKDPC Dpc, _In_ CCHAR Number);

// Returns when every DPC that was queued has run. PASSIVE_LEVEL.
VOID NTAPI KeFlushQueuedDpcs(VOID);

// -------------------------------------------------------------------------------------------------
// Timers. IRQL <= DISPATCH_LEVEL.

typedef enum _TIMER_TYPE { NotificationTimer, SynchronizationTimer } TIMER_TYPE;

VOID NTAPI KeInitializeTimer(_Out_ PKTIMER Timer);
VOID NTAPI KeInitializeTimerEx(_Out_ PKTIMER Timer, _In_ TIMER_TYPE Type);

// Not signalled from now on, signalled when the time has come, and then every Period milliseconds
// (0: once). Dpc is queued each time. TRUE: the timer was set already; that is forgotten.
BOOLEAN NTAPI KeSetTimer(_Inout_ PKTIMER Timer, _In_ LARGE_INTEGER DueTime, _In_opt_ PKDPC Dpc);
BOOLEAN NTAPI KeSetTimerEx(_Inout_ PKTIMER Timer, _In_ LARGE_INTEGER DueTime, _In_ LONG Period,
                           _In_opt_ PKDPC Dpc);

// The same; the tolerable delay is not made use of (ours).
BOOLEAN NTAPI KeSetCoalescableTimer(_Inout_ PKTIMER Timer, _In_ LARGE_INTEGER DueTime,
                                    _In_ ULONG Period, _In_ ULONG TolerableDelay,
                                    _In_opt_ PKDPC Dpc);

// TRUE: it was set. Its DPC may be queued or running all the same: see KeFlushQueuedDpcs.
BOOLEAN NTAPI KeCancelTimer(_Inout_ PKTIMER Timer);
BOOLEAN NTAPI KeReadStateTimer(_In_ PKTIMER Timer);

// Timers in memory of the kernel's. With EX_TIMER_NOTIFICATION all waiters go when it expires, else one;
// the Timer itself can be waited for. The other attributes make no difference (ours: the clock has one
// resolution and never sleeps). IRQL <= DISPATCH_LEVEL.

typedef struct _EX_TIMER *PEX_TIMER; // opaque

typedef VOID(NTAPI EXT_CALLBACK)(_In_ PEX_TIMER Timer, _In_opt_ PVOID Context);
typedef EXT_CALLBACK *PEXT_CALLBACK;
typedef VOID(NTAPI EXT_DELETE_CALLBACK)(_In_opt_ PVOID Context);
typedef EXT_DELETE_CALLBACK *PEXT_DELETE_CALLBACK;
typedef PVOID PEXT_CANCEL_PARAMETERS; // reserved

#define EX_TIMER_HIGH_RESOLUTION 4
#define EX_TIMER_NO_WAKE 8
#define EX_TIMER_UNLIMITED_TOLERANCE ((LONGLONG)-1)
#define EX_TIMER_NOTIFICATION (1u << 31)

typedef struct _EXT_SET_PARAMETERS_V0 {
    ULONG Version;
    ULONG Reserved;
    LONGLONG NoWakeTolerance;
} EXT_SET_PARAMETERS, *PEXT_SET_PARAMETERS;

typedef struct _EXT_DELETE_PARAMETERS {
    ULONG Version;
    ULONG Reserved;
    PEXT_DELETE_CALLBACK DeleteCallback;
    PVOID DeleteContext;
} EXT_DELETE_PARAMETERS, *PEXT_DELETE_PARAMETERS;

FORCEINLINE VOID ExInitializeSetTimerParameters(_Out_ PEXT_SET_PARAMETERS Parameters)
{
    RtlZeroMemory(Parameters, sizeof(*Parameters));
}

FORCEINLINE VOID ExInitializeDeleteTimerParameters(_Out_ PEXT_DELETE_PARAMETERS Parameters)
{
    RtlZeroMemory(Parameters, sizeof(*Parameters));
}

// NULL: no pool, or attributes that exclude each other. Callback runs at DISPATCH_LEVEL at each expiry.
_Must_inspect_result_ PEX_TIMER NTAPI ExAllocateTimer(_In_opt_ PEXT_CALLBACK Callback,
                                                      _In_opt_ PVOID CallbackContext,
                                                      _In_ ULONG Attributes);

// Times and periods are in 100 ns; a period is rounded up to whole milliseconds. TRUE: it was set.
BOOLEAN NTAPI ExSetTimer(_In_ PEX_TIMER Timer, _In_ LONGLONG DueTime, _In_ LONGLONG Period,
                         _In_opt_ PEXT_SET_PARAMETERS Parameters);
BOOLEAN NTAPI ExCancelTimer(_Inout_ PEX_TIMER Timer, _In_opt_ PEXT_CANCEL_PARAMETERS Parameters);

// Frees the timer: at once; behind its callback, if that is running; or, without Cancel, when it has
// expired. Then the callback of Parameters runs. Wait: returns when all that is over (with Cancel only;
// IRQL <= APC_LEVEL). TRUE: it was set and is cancelled.
BOOLEAN NTAPI ExDeleteTimer(_In_ PEX_TIMER Timer, _In_ BOOLEAN Cancel, _In_ BOOLEAN Wait,
                            _In_opt_ PEXT_DELETE_PARAMETERS Parameters);

// -------------------------------------------------------------------------------------------------
// Time. Any IRQL. The Precise ones do not wait for the clock's next tick.

typedef struct _KSYSTEM_TIME {
    ULONG LowPart;
    LONG High1Time;
    LONG High2Time;
} KSYSTEM_TIME, *PKSYSTEM_TIME;

#define KI_USER_SHARED_DATA 0xFFFFF78000000000ULL
#define SharedInterruptTime (KI_USER_SHARED_DATA + 0x8)
#define SharedSystemTime (KI_USER_SHARED_DATA + 0x14)
#define SharedTickCount (KI_USER_SHARED_DATA + 0x320)

// Time since the start, time of day in UTC, and the clock's ticks since the start.
#define KeQueryInterruptTime() (*(volatile ULONG64 *)SharedInterruptTime)
#define KeQuerySystemTime(CurrentCount)                                                            \
    *(ULONG64 *)(CurrentCount) = *(volatile ULONG64 *)SharedSystemTime
#define KeQueryTickCount(CurrentCount)                                                             \
    *(ULONG64 *)(CurrentCount) = *(volatile ULONG64 *)SharedTickCount

// KUSER_SHARED_DATA: what the kernel shows to all code at KI_USER_SHARED_DATA, to be read only. The
// members that this kernel fills; all others are 0.
#define PROCESSOR_FEATURE_MAX 64
#define PF_COMPARE_EXCHANGE_DOUBLE 2
#define PF_MMX_INSTRUCTIONS_AVAILABLE 3
#define PF_XMMI_INSTRUCTIONS_AVAILABLE 6
#define PF_RDTSC_INSTRUCTION_AVAILABLE 8
#define PF_PAE_ENABLED 9
#define PF_XMMI64_INSTRUCTIONS_AVAILABLE 10
#define PF_NX_ENABLED 12
#define PF_SSE3_INSTRUCTIONS_AVAILABLE 13
#define PF_COMPARE_EXCHANGE128 14

typedef struct _KUSER_SHARED_DATA {
    ULONG TickCountLowDeprecated;
    ULONG TickCountMultiplier; // of a tick, in milliseconds times 2^24
    volatile KSYSTEM_TIME InterruptTime;
    volatile KSYSTEM_TIME SystemTime;
    volatile KSYSTEM_TIME TimeZoneBias;
    USHORT ImageNumberLow; // 0x8664
    USHORT ImageNumberHigh;
    WCHAR NtSystemRoot[260];
    ULONG MaxStackTraceDepth;
    ULONG CryptoExponent;
    ULONG TimeZoneId;
    ULONG LargePageMinimum;
    ULONG Reserved2[7]; // the last one is the build number
    ULONG NtProductType;
    BOOLEAN ProductTypeIsValid;
    ULONG NtMajorVersion;
    ULONG NtMinorVersion;
    BOOLEAN ProcessorFeatures[PROCESSOR_FEATURE_MAX];
    ULONG Reserved1;
    ULONG Reserved3;
    volatile ULONG TimeSlip;
    ULONG AlternativeArchitecture;
    ULONG AltArchitecturePad[1];
    LARGE_INTEGER SystemExpirationDate;
    ULONG SuiteMask;
    BOOLEAN KdDebuggerEnabled;
    UCHAR NXSupportPolicy;
    volatile ULONG ActiveConsoleId;
    volatile ULONG DismountCount;
    ULONG ComPlusPackage;
    ULONG LastSystemRITEventTickCount;
    ULONG NumberOfPhysicalPages;
    BOOLEAN SafeBootMode;
    UCHAR TscQpcData;
    UCHAR TscQpcPad[2];
    ULONG SharedDataFlags;
    ULONG DataFlagsPad[1];
    ULONGLONG TestRetInstruction;
    ULONG SystemCall;
    ULONG SystemCallReturn;
    ULONGLONG SystemCallPad[3];
    union {
        volatile KSYSTEM_TIME TickCount;
        volatile ULONG64 TickCountQuad;
    };
    ULONG Cookie;
    ULONG CookiePad[1];
} KUSER_SHARED_DATA, *PKUSER_SHARED_DATA;

C_ASSERT(FIELD_OFFSET(KUSER_SHARED_DATA, InterruptTime) == 0x8);
C_ASSERT(FIELD_OFFSET(KUSER_SHARED_DATA, SystemTime) == 0x14);
C_ASSERT(FIELD_OFFSET(KUSER_SHARED_DATA, NtMajorVersion) == 0x26C);
C_ASSERT(FIELD_OFFSET(KUSER_SHARED_DATA, TickCount) == 0x320);

ULONG NTAPI KeQueryTimeIncrement(VOID); // of the interrupt time per tick
VOID NTAPI KeQuerySystemTimePrecise(_Out_ PLARGE_INTEGER CurrentTime);
ULONG64 NTAPI KeQueryInterruptTimePrecise(_Out_ PULONG64 QpcTimeStamp);
ULONGLONG NTAPI KeQueryUnbiasedInterruptTime(VOID);

// The clock always ticks once per millisecond (ours): returns that, in 100 ns. IRQL <= APC_LEVEL.
ULONG NTAPI ExSetTimerResolution(_In_ ULONG DesiredTime, _In_ BOOLEAN SetResolution);

// -------------------------------------------------------------------------------------------------
// Threads.

typedef VOID(NTAPI KSTART_ROUTINE)(_In_ PVOID StartContext);
typedef KSTART_ROUTINE *PKSTART_ROUTINE;

typedef struct _CLIENT_ID {
    HANDLE UniqueProcess;
    HANDLE UniqueThread;
} CLIENT_ID, *PCLIENT_ID;

struct _OBJECT_ATTRIBUTES;

// Starts a thread at PASSIVE_LEVEL. The caller closes *ThreadHandle with ZwClose; the thread ends when
// its routine returns, or by PsTerminateSystemThread. It can be waited for once
// ObReferenceObjectByHandle has given its object. PASSIVE_LEVEL.
// STATUS_INSUFFICIENT_RESOURCES: no memory. STATUS_INVALID_HANDLE: ProcessHandle is neither NULL nor
// NtCurrentProcess().
NTSTATUS NTAPI PsCreateSystemThread(_Out_ PHANDLE ThreadHandle, _In_ ULONG DesiredAccess,
                                    _In_opt_ struct _OBJECT_ATTRIBUTES *ObjectAttributes,
                                    _In_opt_ HANDLE ProcessHandle, _Out_opt_ PCLIENT_ID ClientId,
                                    _In_ PKSTART_ROUTINE StartRoutine, _In_opt_ PVOID StartContext);

// Ends the thread that calls it. PASSIVE_LEVEL; KERNEL_APC_PENDING_DURING_EXIT stops who calls it at
// another IRQL, or inside a critical region. Returns STATUS_INVALID_PARAMETER in a thread that
// PsCreateSystemThread has not made.
NTSTATUS NTAPI PsTerminateSystemThread(_In_ NTSTATUS ExitStatus);

// Any IRQL.
PKTHREAD NTAPI KeGetCurrentThread(VOID);
PETHREAD NTAPI PsGetCurrentThread(VOID);
HANDLE NTAPI PsGetCurrentThreadId(VOID);
HANDLE NTAPI PsGetThreadId(_In_ PETHREAD Thread);
HANDLE NTAPI PsGetThreadProcessId(_In_ PETHREAD Thread);
PEPROCESS NTAPI IoGetCurrentProcess(VOID);
#define PsGetCurrentProcess IoGetCurrentProcess
HANDLE NTAPI PsGetCurrentProcessId(VOID);
HANDLE NTAPI PsGetProcessId(_In_ PEPROCESS Process);
LONGLONG NTAPI PsGetProcessCreateTimeQuadPart(_In_ PEPROCESS Process);
extern PEPROCESS PsInitialSystemProcess;
extern struct _OBJECT_TYPE **PsThreadType; // *PsThreadType is the type
extern struct _OBJECT_TYPE **PsProcessType;

// Calls Callout if Size bytes of this thread's stack are left: STATUS_SUCCESS. Else STATUS_NO_MEMORY: a
// stack does not grow here (ours). IRQL <= DISPATCH_LEVEL; with Wait, <= APC_LEVEL.
typedef VOID(NTAPI EXPAND_STACK_CALLOUT)(_In_opt_ PVOID Parameter);
typedef EXPAND_STACK_CALLOUT *PEXPAND_STACK_CALLOUT;
NTSTATUS NTAPI KeExpandKernelStackAndCallout(_In_ PEXPAND_STACK_CALLOUT Callout,
                                             _In_opt_ PVOID Parameter, _In_ SIZE_T Size);
NTSTATUS NTAPI KeExpandKernelStackAndCalloutEx(_In_ PEXPAND_STACK_CALLOUT Callout,
                                               _In_opt_ PVOID Parameter, _In_ SIZE_T Size,
                                               _In_ BOOLEAN Wait, _In_opt_ PVOID Context);

// Priorities: 0 is the idle thread's; 1-15 vary with boosts, 16-31 do not. IRQL <= DISPATCH_LEVEL; to
// set one, PASSIVE_LEVEL.
KPRIORITY NTAPI KeQueryPriorityThread(_In_ PRKTHREAD Thread);
KPRIORITY NTAPI KeSetPriorityThread(_Inout_ PKTHREAD Thread,
                                    _In_ KPRIORITY Priority); // the old one
LONG NTAPI KeSetBasePriorityThread(_Inout_ PRKTHREAD Thread,
                                   _In_ LONG Increment); // above the process's
ULONG NTAPI KeQueryRuntimeThread(_In_ PKTHREAD Thread, _Out_ PULONG UserTime); // in ticks

// -------------------------------------------------------------------------------------------------
// Processors. There is one group (ours), 0.

typedef struct _PROCESSOR_NUMBER {
    USHORT Group;
    UCHAR Number;
    UCHAR Reserved;
} PROCESSOR_NUMBER, *PPROCESSOR_NUMBER;

typedef struct _GROUP_AFFINITY {
    KAFFINITY Mask;
    USHORT Group;
    USHORT Reserved[3];
} GROUP_AFFINITY, *PGROUP_AFFINITY;

#define ALL_PROCESSOR_GROUPS 0xFFFF
#define INVALID_PROCESSOR_INDEX 0xFFFFFFFF

extern CCHAR KeNumberProcessors;

ULONG NTAPI KeGetCurrentProcessorNumber(VOID);
ULONG NTAPI KeGetCurrentProcessorNumberEx(_Out_opt_ PPROCESSOR_NUMBER ProcNumber);
ULONG NTAPI KeQueryActiveProcessorCount(_Out_opt_ PKAFFINITY ActiveProcessors);
ULONG NTAPI KeQueryActiveProcessorCountEx(_In_ USHORT GroupNumber);
ULONG NTAPI KeQueryMaximumProcessorCount(VOID);
ULONG NTAPI KeQueryMaximumProcessorCountEx(_In_ USHORT GroupNumber);
USHORT NTAPI KeQueryActiveGroupCount(VOID);
USHORT NTAPI KeQueryMaximumGroupCount(VOID);
USHORT NTAPI KeQueryHighestNodeNumber(VOID);
USHORT NTAPI KeGetCurrentNodeNumber(VOID);
KAFFINITY NTAPI KeQueryActiveProcessors(VOID);
KAFFINITY NTAPI KeQueryGroupAffinity(_In_ USHORT GroupNumber);
NTSTATUS NTAPI KeGetProcessorNumberFromIndex(_In_ ULONG ProcIndex,
                                             _Out_ PPROCESSOR_NUMBER ProcNumber);
ULONG NTAPI KeGetProcessorIndexFromNumber(_In_ PPROCESSOR_NUMBER ProcNumber);
NTSTATUS NTAPI KeSetTargetProcessorDpcEx(_Inout_ PKDPC Dpc, _In_ PPROCESSOR_NUMBER ProcNumber);

// Calls the routine on every processor at once, at IPI_LEVEL, and returns what it returned on this one.
// IRQL < IPI_LEVEL.
typedef ULONG_PTR(NTAPI KIPI_BROADCAST_WORKER)(_In_ ULONG_PTR Argument);
typedef KIPI_BROADCAST_WORKER *PKIPI_BROADCAST_WORKER;
ULONG_PTR NTAPI KeIpiGenericCall(_In_ PKIPI_BROADCAST_WORKER BroadcastFunction,
                                 _In_ ULONG_PTR Context);

// Where the thread may run from now on. A set without an active processor changes nothing. IRQL <=
// APC_LEVEL.
VOID NTAPI KeSetSystemAffinityThread(_In_ KAFFINITY Affinity);
VOID NTAPI KeRevertToUserAffinityThread(VOID);
KAFFINITY NTAPI KeSetSystemAffinityThreadEx(_In_ KAFFINITY Affinity); // 0: there was none before
VOID NTAPI KeRevertToUserAffinityThreadEx(_In_ KAFFINITY Affinity);
VOID NTAPI KeSetSystemGroupAffinityThread(_In_ PGROUP_AFFINITY Affinity,
                                          _Out_opt_ PGROUP_AFFINITY PreviousAffinity);
VOID NTAPI KeRevertToUserGroupAffinityThread(_In_ PGROUP_AFFINITY PreviousAffinity);

// -------------------------------------------------------------------------------------------------
// More spin locks. ForDpc: for DPC routines, which run at DISPATCH_LEVEL already (a threaded one may
// not).

KIRQL FASTCALL KeAcquireSpinLockForDpc(_Inout_ PKSPIN_LOCK SpinLock);
VOID FASTCALL KeReleaseSpinLockForDpc(_Inout_ PKSPIN_LOCK SpinLock, _In_ KIRQL OldIrql);
BOOLEAN FASTCALL KeTryToAcquireSpinLockAtDpcLevel(_Inout_ PKSPIN_LOCK SpinLock);
BOOLEAN FASTCALL KeTestSpinLock(_In_ PKSPIN_LOCK SpinLock); // TRUE: it is free

// Queued: who came first gets the lock first, and each waits at a place of its own. The handle lies in
// the caller's stack until the release. Such a lock must not be taken by the plain routines as well.
VOID FASTCALL KeAcquireInStackQueuedSpinLock(_Inout_ PKSPIN_LOCK SpinLock,
                                             _Out_ PKLOCK_QUEUE_HANDLE LockHandle);
VOID FASTCALL KeReleaseInStackQueuedSpinLock(_In_ PKLOCK_QUEUE_HANDLE LockHandle);
VOID FASTCALL KeAcquireInStackQueuedSpinLockAtDpcLevel(_Inout_ PKSPIN_LOCK SpinLock,
                                                       _Out_ PKLOCK_QUEUE_HANDLE LockHandle);
VOID FASTCALL KeReleaseInStackQueuedSpinLockFromDpcLevel(_In_ PKLOCK_QUEUE_HANDLE LockHandle);
VOID FASTCALL KeAcquireInStackQueuedSpinLockForDpc(_Inout_ PKSPIN_LOCK SpinLock,
                                                   _Out_ PKLOCK_QUEUE_HANDLE LockHandle);
VOID FASTCALL KeReleaseInStackQueuedSpinLockForDpc(_In_ PKLOCK_QUEUE_HANDLE LockHandle);

// -------------------------------------------------------------------------------------------------
// Device queues: of a device that works on one request at a time. Busy: it has one. IRQL <=
// DISPATCH_LEVEL to insert and to ask, DISPATCH_LEVEL to remove.

VOID NTAPI KeInitializeDeviceQueue(_Out_ PKDEVICE_QUEUE DeviceQueue);

// FALSE: the device was not busy, and is now; the entry is not queued.
BOOLEAN NTAPI KeInsertDeviceQueue(_Inout_ PKDEVICE_QUEUE DeviceQueue,
                                  _Inout_ PKDEVICE_QUEUE_ENTRY DeviceQueueEntry);
BOOLEAN NTAPI KeInsertByKeyDeviceQueue(_Inout_ PKDEVICE_QUEUE DeviceQueue,
                                       _Inout_ PKDEVICE_QUEUE_ENTRY DeviceQueueEntry,
                                       _In_ ULONG SortKey);

// The next one; NULL: the queue is empty, and the device no longer busy. ByKey: the first whose key is
// not below SortKey, else the first of all. IfBusy: NULL, too, when the device is not busy.
PKDEVICE_QUEUE_ENTRY NTAPI KeRemoveDeviceQueue(_Inout_ PKDEVICE_QUEUE DeviceQueue);
PKDEVICE_QUEUE_ENTRY NTAPI KeRemoveByKeyDeviceQueue(_Inout_ PKDEVICE_QUEUE DeviceQueue,
                                                    _In_ ULONG SortKey);
PKDEVICE_QUEUE_ENTRY NTAPI KeRemoveByKeyDeviceQueueIfBusy(_Inout_ PKDEVICE_QUEUE DeviceQueue,
                                                          _In_ ULONG SortKey);

// FALSE: it was not in the queue.
BOOLEAN NTAPI KeRemoveEntryDeviceQueue(_Inout_ PKDEVICE_QUEUE DeviceQueue,
                                       _Inout_ PKDEVICE_QUEUE_ENTRY DeviceQueueEntry);

// -------------------------------------------------------------------------------------------------
// Bug checks.

// KeBugCheckEx without parameters.
DECLSPEC_NORETURN VOID NTAPI KeBugCheck(_In_ ULONG BugCheckCode);

typedef enum _KBUGCHECK_BUFFER_DUMP_STATE {
    BufferEmpty,
    BufferInserted,
    BufferStarted,
    BufferFinished,
    BufferIncomplete,
} KBUGCHECK_BUFFER_DUMP_STATE;

typedef VOID(NTAPI KBUGCHECK_CALLBACK_ROUTINE)(_In_ PVOID Buffer, _In_ ULONG Length);
typedef KBUGCHECK_CALLBACK_ROUTINE *PKBUGCHECK_CALLBACK_ROUTINE;

typedef struct _KBUGCHECK_CALLBACK_RECORD {
    LIST_ENTRY Entry;
    PKBUGCHECK_CALLBACK_ROUTINE CallbackRoutine;
    PVOID Buffer;
    ULONG Length;
    PUCHAR Component;
    ULONG_PTR Checksum;
    UCHAR State;
} KBUGCHECK_CALLBACK_RECORD, *PKBUGCHECK_CALLBACK_RECORD;

// A macro: documented for records of more than one kind.
#define KeInitializeCallbackRecord(CallbackRecord) ((CallbackRecord)->State = BufferEmpty)

// In a bug check, behind the dump, the routine is called at HIGH_LEVEL. FALSE: it is registered already
// (not registered). Any IRQL.
BOOLEAN NTAPI KeRegisterBugCheckCallback(_Out_ PKBUGCHECK_CALLBACK_RECORD CallbackRecord,
                                         _In_ PKBUGCHECK_CALLBACK_ROUTINE CallbackRoutine,
                                         _In_opt_ PVOID Buffer, _In_ ULONG Length,
                                         _In_ PUCHAR Component);
BOOLEAN NTAPI KeDeregisterBugCheckCallback(_Inout_ PKBUGCHECK_CALLBACK_RECORD CallbackRecord);
