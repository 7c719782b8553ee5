// Exceptions: the chain of tries, and raises by status.
//
//   KTHREAD.ExceptionList ──▶ innermost frame ──Previous──▶ next outer one ──▶ ... ──▶ NULL
//
// The frames lie in the stack, in the routines that handle. A raise walks the stack outward
// (arch/x64/seh.c), and where it finds a try's frame before any other handler, it takes that out of the
// chain and continues there; whatever lay between is gone with its part of the stack. The catch runs
// outside of its own try, so that what it raises goes to the next outer handler.
//
// Invariants:
//   X1  A frame is left before the ones around it.
//   X2  A raise happens with no more of the kernel's locks held than its handler's try began with:
//       nobody would release them.
// Lock: none; a thread walks its own chain, and an interrupt begins one of its own.
#include <except.h>

#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "kernel/inc/ps.h"

// Below DISPATCH_LEVEL none is held, and the thread may move: what this processor's region says then may be
// another thread's.
static ULONG KiHeldRanks(VOID)
{
    return KeArchReadIrql() < DISPATCH_LEVEL ? 0 : KeArchGetPcr()->HeldRanks;
}

VOID NTAPI KmEnterTry(PKM_TRY_FRAME Frame)
{
    const PKTHREAD Thread = KeArchGetCurrentThread();
    Frame->Previous = Thread->ExceptionList;
    Frame->HeldRanks = KiHeldRanks();
    Frame->State = KmTryInside;
    Thread->ExceptionList = Frame;
}

// Called once or more on every way out.
VOID NTAPI KmLeaveTry(PKM_TRY_FRAME Frame)
{
    if (Frame->State == KmTryInside) {
        const PKTHREAD Thread = KeArchGetCurrentThread();
        NT_ASSERT_INVARIANT("X1", Thread->ExceptionList == Frame);
        Thread->ExceptionList = Frame->Previous;
    }
    Frame->State = KmTryDone;
}

PKM_TRY_FRAME KiGetInnermostTry(VOID)
{
    return KeArchGetCurrentThread()->ExceptionList;
}

VOID KiEndTriesBelow(const VOID *StackAddress)
{
    const PKTHREAD Thread = KeArchGetCurrentThread();
    while (Thread->ExceptionList != NULL &&
           (ULONG_PTR)Thread->ExceptionList < (ULONG_PTR)StackAddress) {
        Thread->ExceptionList = Thread->ExceptionList->Previous;
    }
}

VOID KiEnterCatch(PKM_TRY_FRAME Frame, NTSTATUS Status)
{
    NT_ASSERT_INVARIANT("X2", Frame->HeldRanks == KiHeldRanks());
    KeArchGetCurrentThread()->ExceptionList = Frame->Previous;
    Frame->Status = Status;
    Frame->State = KmTryRaised;
}

DECLSPEC_NORETURN VOID KiStopUnhandled(PCSTR Routine, const EXCEPTION_RECORD *Record)
{
    // A call that never returns may be the last of its function: what follows is another one.
    KI_CODE_NAME Name;
    const ULONG_PTR Caller = (ULONG_PTR)Record->ExceptionAddress;
    KiBugCheckSaying(KMODE_EXCEPTION_NOT_HANDLED, (ULONG_PTR)(LONG_PTR)Record->ExceptionCode,
                     Caller, Record->ExceptionInformation[0], Record->ExceptionInformation[1],
                     "%s, called by %s, raised status 0x%08x, and no handler encloses that call",
                     Routine, KiNameCode(Caller - 1, &Name), (ULONG)Record->ExceptionCode);
}

DECLSPEC_NORETURN VOID KiRaiseStatus(PCSTR Routine, NTSTATUS Status, const VOID *Caller)
{
    NT_ASSERT(KeGetCurrentIrql() <= DISPATCH_LEVEL);
    EXCEPTION_RECORD Record = {
        .ExceptionCode = Status,
        .ExceptionFlags = EXCEPTION_NONCONTINUABLE,
        .ExceptionAddress = (PVOID)(ULONG_PTR)Caller,
    };
    KeArchRaise(&Record);
    KiStopUnhandled(Routine, &Record);
}

DECLSPEC_NORETURN VOID NTAPI ExRaiseStatus(NTSTATUS Status)
{
    KiRaiseStatus(__func__, Status, __builtin_return_address(0));
}

DECLSPEC_NORETURN VOID NTAPI ExRaiseAccessViolation(VOID)
{
    KiRaiseStatus(__func__, STATUS_ACCESS_VIOLATION, __builtin_return_address(0));
}

DECLSPEC_NORETURN VOID NTAPI ExRaiseDatatypeMisalignment(VOID)
{
    KiRaiseStatus(__func__, STATUS_DATATYPE_MISALIGNMENT, __builtin_return_address(0));
}
