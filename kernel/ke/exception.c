// Exceptions: from the raise to the innermost handler.
//
//   KTHREAD.ExceptionList ──▶ innermost frame ──Previous──▶ next outer one ──▶ ... ──▶ NULL
//
// The frames lie in the stack, in the routines that handle. A raise takes the innermost one out of
// the chain and continues there; whatever lay between is gone with its part of the stack. The catch
// runs outside of its own try, so that what it raises goes to the next outer handler.
//
// The chain is the thread's. An interrupt begins an empty one (arch/x64/interrupt.c).
//
// Invariants:
//   X1  A frame is left before the ones around it.
//   X2  A raise happens with no more of the kernel's locks held than its handler's try began with:
//       nobody would release them.
// Lock: none; a thread walks its own chain.
#include <except.h>

#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "kernel/inc/ps.h"

VOID NTAPI KmEnterTry(PKM_TRY_FRAME Frame)
{
    const PKTHREAD Thread = KeArchGetCurrentThread();
    Frame->Previous = Thread->ExceptionList;
    Frame->HeldRanks = KeArchGetPcr()->HeldRanks;
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

static DECLSPEC_NORETURN VOID KiStopUnhandled(PCSTR Routine, NTSTATUS Status, const VOID *Caller)
{
    // A call that never returns may be the last of its function: what follows is another one.
    ULONG_PTR Offset;
    PCSTR Name = KiFindSymbol((ULONG_PTR)Caller - 1, &Offset);
    KiBugCheckSaying(KMODE_EXCEPTION_NOT_HANDLED, (ULONG_PTR)(LONG_PTR)Status, (ULONG_PTR)Caller, 0,
                     0, "%s, called by %s, raised status 0x%08x, and no KmTry encloses that call",
                     Routine, Name != NULL ? Name : "unknown code", (ULONG)Status);
}

DECLSPEC_NORETURN VOID KiRaiseStatus(PCSTR Routine, NTSTATUS Status, const VOID *Caller)
{
    NT_ASSERT(KeGetCurrentIrql() <= DISPATCH_LEVEL);
    const PKTHREAD Thread = KeArchGetCurrentThread();
    const PKM_TRY_FRAME Frame = Thread->ExceptionList;
    if (Frame == NULL) {
        KiStopUnhandled(Routine, Status, Caller);
    }
    NT_ASSERT_INVARIANT("X2", Frame->HeldRanks == KeArchGetPcr()->HeldRanks);
    Thread->ExceptionList = Frame->Previous;
    Frame->Status = Status;
    Frame->State = KmTryRaised;
    __builtin_longjmp(Frame->Context, 1);
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
