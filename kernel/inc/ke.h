// Ke: processors, IRQL, ranked spin locks, time, bug checks, symbols, boot options, leaving the
// machine.
//
// The public NT routines (KeRaiseIrql, KeAcquireSpinLockRaiseToDpc, KeQueryPerformanceCounter,
// KeBugCheckEx, ...) are declared in <wdm.h> and implemented in kernel/ke; here is what the rest of
// the kernel needs besides. This header holds nothing of the processor, so that mm and rtl also
// compile on the build machine.
#pragma once

#include <ntdef.h>
#include <wdm.h>

#include "kernel/inc/bugcodes.h"

#ifndef DBG
#define DBG 1
#endif

struct _LOADER_BLOCK;

// -------------------------------------------------------------------------------------------------
// Assertions. A failed one prints itself and stops with KMODE_EXCEPTION_NOT_HANDLED: P1 =
// STATUS_ASSERTION_FAILURE, P2 = the address of the assertion, P3 = its line. That is what an
// assertion without a debugger ends as on NT.

DECLSPEC_NORETURN VOID KiAssertionFailed(PCSTR Expression, PCSTR InvariantId, PCSTR File,
                                         ULONG Line);

#undef NT_ASSERT
#if DBG
#define NT_ASSERT(Expression)                                                                      \
    ((Expression) ? (VOID)0 : KiAssertionFailed(#Expression, NULL, __FILE__, __LINE__))
// Quotes the short id of a numbered invariant, as listed in a file's head comment.
#define NT_ASSERT_INVARIANT(Id, Expression)                                                        \
    ((Expression) ? (VOID)0 : KiAssertionFailed(#Expression, Id, __FILE__, __LINE__))
#else
#define NT_ASSERT(Expression) ((VOID)sizeof((Expression) ? 1 : 0))
#define NT_ASSERT_INVARIANT(Id, Expression) ((VOID)sizeof((Expression) ? 1 : 0))
#endif

// -------------------------------------------------------------------------------------------------
// Ranked spin locks (kernel/ke/spinlock.c), for locks inside the kernel. Acquire raises to
// DISPATCH_LEVEL. Checked builds assert: IRQL <= DISPATCH_LEVEL, and the rank is greater than every
// rank that this processor holds.

#define KI_LOCK_MAXIMUM_RANK 31

struct _Lock_type_("spin lock") _KI_LOCK;

typedef struct _KI_LOCK {
    KSPIN_LOCK Word;              // 0 free, 1 taken
    volatile LONG OwnerProcessor; // checked builds only; -1 when free
    ULONG Rank;                   // 1 .. KI_LOCK_MAXIMUM_RANK
    PCSTR Name;
} KI_LOCK, *PKI_LOCK;

#define KI_LOCK_INITIALIZER(Rank, Name)                                                            \
    {                                                                                              \
        0, -1, (Rank), (Name)                                                                      \
    }

// The host tests, which look on at every lock, keep the calls in builds without asserts, too.
#ifndef KI_CALLS_LOCKS
#define KI_CALLS_LOCKS DBG
#endif

// KiAcquireLock raises to DISPATCH_LEVEL. KiAcquireBriefLock turns interrupts off instead, so that nothing comes
// between, not even a broadcast: for a few stores, while no other lock is taken, nor anything waited for.
// Returns what KiReleaseBriefLock gets. Whoever takes a lock so, does always.
#if KI_CALLS_LOCKS
_Must_inspect_result_ _IRQL_requires_max_(DISPATCH_LEVEL)
KIRQL KiAcquireLock(PKI_LOCK Lock) _Acquires_lock_(Lock);
VOID KiReleaseLock(PKI_LOCK Lock, KIRQL OldIrql) _Releases_lock_(Lock);
_Must_inspect_result_ _IRQL_requires_max_(DISPATCH_LEVEL)
ULONG64 KiAcquireBriefLock(PKI_LOCK Lock) _Acquires_lock_(Lock);
VOID KiReleaseBriefLock(PKI_LOCK Lock, ULONG64 Flags) _Releases_lock_(Lock);
#else
#include "kernel/inc/kelockinline.h"
#endif

// Returns when the lock was free at some moment since the call, with what its last holder wrote.
VOID KiAwaitFreeLock(const KI_LOCK *Lock);

// TRUE when the processor that asks holds the lock. For assertions: a free build, which has none, only
// knows whether anybody holds it.
BOOLEAN KiIsLockHeld(const KI_LOCK *Lock);

// -------------------------------------------------------------------------------------------------
// Processors and time.

// Must run first on every processor: descriptor tables, control registers, cache types, KPCR.
VOID KeInitializeProcessor(ULONG Number);
ULONG KiGetCurrentProcessor(VOID);

// Prints the processor's name and which protections are on, and what follows for drivers.
VOID KePrintProcessor(VOID);

// Calibrates the time-stamp counter and prints the result. Needs the console.
VOID KeInitializeClock(VOID);
ULONG64 KeReadCycles(VOID);

// KeReadCycles at the last tick: when something was, to a millisecond, for the price of a load.
extern volatile ULONG64 KeTickCycles;
ULONG64 KeGetCyclesPerSecond(VOID);

// -------------------------------------------------------------------------------------------------
// Bug checks (kernel/ke/bugcheck.c).

// As KeBugCheckEx, with a sentence in plain words: which rule was broken, and who owned the thing.
DECLSPEC_NORETURN VOID NTAPI KiBugCheckSaying(ULONG Code, ULONG_PTR Parameter1,
                                              ULONG_PTR Parameter2, ULONG_PTR Parameter3,
                                              ULONG_PTR Parameter4, PCSTR Format, ...);

// Whether the machine is in a bug check: nothing may be allocated or locked any more.
BOOLEAN KiIsBugCheckActive(VOID);

// Whether another processor ends the machine: this one has nothing more to do but KiStopHere.
BOOLEAN KiIsStoppedByOther(VOID);
DECLSPEC_NORETURN VOID KiStopHere(VOID);

// The name of a bug-check code ("SYSTEM_PTE_MISUSE"), or NULL.
PCSTR KiBugCheckName(ULONG Code);

// -------------------------------------------------------------------------------------------------
// Exceptions (kernel/ke/exception.c): <except.h> has what drivers use.

// Raises Status on behalf of the exported routine Routine, which Caller has called: the address
// behind the call, which the bug check of an unhandled exception names.
DECLSPEC_NORETURN VOID KiRaiseStatus(PCSTR Routine, NTSTATUS Status, const VOID *Caller);

// The bug check of an exception that nobody handles, and that Routine has raised.
DECLSPEC_NORETURN VOID KiStopUnhandled(PCSTR Routine, const struct _EXCEPTION_RECORD *Record);

// The chain of tries, for the walk over the stack: the innermost one or NULL; forgets those at lower
// addresses, whose routines are gone; makes this one the handler of Status, so that its catch can begin.
struct _KM_TRY_FRAME *KiGetInnermostTry(VOID);
VOID KiEndTriesBelow(const VOID *StackAddress);
VOID KiEnterCatch(struct _KM_TRY_FRAME *Frame, NTSTATUS Status);

// -------------------------------------------------------------------------------------------------
// Symbols of the kernel image (kernel/ke/symbols.c). Safe to ask during a crash: takes no lock,
// allocates nothing.

VOID KiInitializeSymbols(const struct _LOADER_BLOCK *LoaderBlock);

// The name of the function or object that contains Address, and the distance from its start; in a
// loaded image, its name and the distance from its base. NULL when unknown.
PCSTR KiFindSymbol(ULONG_PTR Address, PULONG_PTR Offset);

// Names the code at Address, for sentences: "KeBugCheckEx" in the kernel, "nvme.sys+0x1234" in a driver,
// "unknown code" elsewhere. Returns Name->Text or a constant.
#define KI_CODE_NAME_BYTES 80

typedef struct _KI_CODE_NAME {
    CHAR Text[KI_CODE_NAME_BYTES];
} KI_CODE_NAME, *PKI_CODE_NAME;

PCSTR KiNameCode(ULONG_PTR Address, PKI_CODE_NAME Name);

// TRUE for an address in the code of a driver.
BOOLEAN KiIsDriverCode(ULONG_PTR Address);

// Gives the code in [Base, Base + ByteCount) a name: of a driver that was loaded, or of the tests.
// Name must live for ever. A name that is registered again gets the new range.
VOID KiRegisterCode(PCSTR Name, ULONG_PTR Base, SIZE_T ByteCount, BOOLEAN IsDriver);

// Takes the name away again: of a driver that was unloaded.
VOID KiForgetCode(PCSTR Name);

// Whose code Address is; NULL: nobody's but the kernel's.
PCSTR KiFindCodeOwner(ULONG_PTR Address);

// TRUE for an address in the stack of a thread. Above DISPATCH_LEVEL only the current thread's is known.
BOOLEAN KiIsStackAddress(ULONG_PTR Address);

// -------------------------------------------------------------------------------------------------
// Faults (kernel/ke/fault.c).

// What somebody knows of an address that faulted: the bug check that says so, and why.
typedef struct _KI_FAULT_EXPLANATION {
    ULONG Code;
    ULONG DriverCode; // instead of Code, when a driver's code has faulted
    CHAR Sentence[256];
} KI_FAULT_EXPLANATION, *PKI_FAULT_EXPLANATION;

typedef BOOLEAN KI_EXPLAIN_FAULT(ULONG64 Va, PKI_FAULT_EXPLANATION Explanation);

// Routine is asked about each fault from then on, before anything else: it may neither lock nor
// allocate. FALSE from it: it knows nothing.
VOID KiSetFaultExplainer(KI_EXPLAIN_FAULT *Routine);

// -------------------------------------------------------------------------------------------------
// What processors ask of each other (kernel/ke/multi.c).

// What a broadcast does about processors that halt.
typedef enum _KI_SLEEPERS {
    KiWakeSleepers,
    KiLetSleepersMiss, // they forget all translations instead, when they wake up
} KI_SLEEPERS;

// Runs the routine on every processor, on the others at IPI_LEVEL, and returns when all have done it: on how
// many others. The routine takes no lock, and waits for nothing. IRQL < IPI_LEVEL, interrupts on.
typedef VOID KI_BROADCAST_ROUTINE(PVOID Context);
ULONG KiBroadcast(_In_ KI_BROADCAST_ROUTINE *Routine, _In_opt_ PVOID Context, KI_SLEEPERS Sleepers);

// Runs the routine at DISPATCH_LEVEL while every other processor stands still below it, without any spin
// lock (kernel/ke/alone.c). FALSE: one of them did not come in time, and the routine did not run. IRQL <=
// DISPATCH_LEVEL; the caller holds no spin lock.
typedef VOID KI_ALONE_ROUTINE(PVOID Context);
_Must_inspect_result_ _IRQL_requires_max_(DISPATCH_LEVEL)
BOOLEAN KiRunAlone(_In_ KI_ALONE_ROUTINE *Routine, _In_opt_ PVOID Context, ULONG Milliseconds);

// -------------------------------------------------------------------------------------------------
// Boot options: the words of the command line, "name" or "name=value".

VOID KeSetBootCommandLine(PCSTR CommandLine);

// TRUE when the word exists. Its value ("" for a plain word) is copied, cut to fit. Value may be
// NULL.
BOOLEAN KeGetBootOption(PCSTR Name, PCHAR Value, SIZE_T ValueByteCount);

// The next word behind Previous (NULL: the first) that begins with Prefix, or NULL. It ends at a blank
// or at the end of the line.
PCSTR KeNextBootOption(PCSTR Previous, PCSTR Prefix);

// -------------------------------------------------------------------------------------------------
// Leaving the machine.

typedef enum _KE_EXIT_CODE {
    KeExitPassed = 0x10,   // QEMU ends with status 33
    KeExitFailed = 0x11,   // 35
    KeExitBugCheck = 0x12, // 37
} KE_EXIT_CODE;

DECLSPEC_NORETURN VOID KeExitMachine(KE_EXIT_CODE Code);

// -------------------------------------------------------------------------------------------------
// Probes: one access that may fault, for tests and for the dump. A fault is reported, not raised.

typedef struct _KE_PROBE_RESULT {
    BOOLEAN Faulted;
    UCHAR Vector;
    ULONG ErrorCode;      // as the processor pushed it
    ULONG64 FaultAddress; // CR2; 0 for other vectors than the page fault
} KE_PROBE_RESULT, *PKE_PROBE_RESULT;

// Reads eight bytes.
KE_PROBE_RESULT KeProbeRead(const VOID *Va, PULONG64 Value);
// Writes one byte.
KE_PROBE_RESULT KeProbeWrite(PVOID Va, UCHAR Value);
// Reads bytes, in ascending order.
KE_PROBE_RESULT KeProbeCopy(PVOID Target, const VOID *Va, SIZE_T ByteCount);
// Calls Va. The bytes there must be a return instruction.
KE_PROBE_RESULT KeProbeExecute(const VOID *Va);
