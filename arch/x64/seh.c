// Structured exceptions: from a raise or a fault to its handler.
//
//   raise ─▶ frame ─▶ frame ─▶ ... ─▶ frame            1. search: each handler is asked, inside out
//     ▲                                 │
//     └───────── __finally blocks ◀─────┘              2. unwind: the frames up to the one that said yes
//
// Two kinds of handlers compete, and the inner one wins: a driver's language handler, which its frame's
// tables name (for C that is __C_specific_handler, below), and a KM_TRY_FRAME, which lies in the frame
// of the routine that handles. The stack's order decides, so a walk over all frames, the kernel's and
// drivers', meets them in the right one.
//
// A handler that raises itself:
//   - in a filter, during the search: a nested exception. The walk passes the frames of the dispatcher
//     and goes on with those of the first exception.
//   - in a __finally, during the unwind: a collided unwind. The frames between that and the first
//     raise have been left already, so the walk jumps to where the first unwind was, and the handler
//     there goes on behind the __finally that raised.
// Both are recognised by the return addresses of the calls of handlers (context.S).
//
// Invariants:
//   S1  A handler is called only for a frame that lies in the stack, above the one before it.
//   S2  Whoever lands in a driver's handler holds none of the kernel's locks: a driver runs without.
//   S3  The walk does not leave an interrupt (frames.c), and the chain of tries is that of the
//       interrupt while it runs: what is interrupted never sees its exceptions.
// Lock: none; a thread walks its own stack.
#include <except.h>

#include "arch/x64/unwind.h"
#include "arch/x64/x64.h"

#include "kernel/inc/ke.h"

C_ASSERT(FIELD_OFFSET(CONTEXT, MxCsr) == 0x34 && FIELD_OFFSET(CONTEXT, EFlags) == 0x44);
C_ASSERT(FIELD_OFFSET(CONTEXT, FltSave) == 0x100 && FIELD_OFFSET(CONTEXT, R15) == 0xF0);
C_ASSERT(FIELD_OFFSET(DISPATCHER_CONTEXT, LanguageHandler) == 0x30);

// context.S: the calls, and the return addresses in them.
EXCEPTION_DISPOSITION NTAPI KiCallHandlerForException(PEXCEPTION_RECORD Record,
                                                      PVOID EstablisherFrame, PCONTEXT Context,
                                                      PDISPATCHER_CONTEXT Dispatcher);
EXCEPTION_DISPOSITION NTAPI KiCallHandlerForUnwind(PEXCEPTION_RECORD Record, PVOID EstablisherFrame,
                                                   PCONTEXT Context,
                                                   PDISPATCHER_CONTEXT Dispatcher);
extern const UCHAR KiCallHandlerForExceptionReturn[], KiCallHandlerForUnwindReturn[];

// Exported as _local_unwind.
DECLSPEC_NORETURN VOID NTAPI KiLocalUnwind(PVOID EstablisherFrame, PVOID TargetIp);

#define DISPATCHER_SLOT 0x20 // above RSP in the call

// The dispatcher context of the call of a handler that this frame is; NULL: it is none.
static const DISPATCHER_CONTEXT *KiFindHandlerCall(const CONTEXT *Context, const UCHAR *Return)
{
    return Context->Rip == (ULONG64)Return
               ? *(const DISPATCHER_CONTEXT **)(Context->Rsp + DISPATCHER_SLOT)
               : NULL;
}

static VOID KiFillDispatcher(PDISPATCHER_CONTEXT Dispatcher, const KI_FRAME *Frame,
                             PCONTEXT Context, ULONG ScopeIndex)
{
    *Dispatcher = (DISPATCHER_CONTEXT){
        .ControlPc = Frame->ControlPc,
        .ImageBase = Frame->Image->Base,
        .FunctionEntry = Frame->FunctionEntry,
        .EstablisherFrame = Frame->EstablisherFrame,
        .ContextRecord = Context,
        .LanguageHandler = Frame->Handler.Routine,
        .HandlerData = Frame->Handler.Data,
        .ScopeIndex = ScopeIndex,
    };
}

// S1
static BOOLEAN KiIsFrameUsable(const KI_FRAME *Frame, ULONG64 InnerRsp)
{
    return Frame->EstablisherFrame % sizeof(ULONG64) == 0 && Frame->EstablisherFrame >= InnerRsp &&
           KiIsStackAddress(Frame->EstablisherFrame);
}

static DECLSPEC_NORETURN VOID KiRaiseAbout(PEXCEPTION_RECORD Record, NTSTATUS Status)
{
    EXCEPTION_RECORD About = {
        .ExceptionCode = Status,
        .ExceptionFlags = EXCEPTION_NONCONTINUABLE,
        .ExceptionRecord = Record,
    };
    for (;;) {
        RtlRaiseException(&About);
    }
}

// -------------------------------------------------------------------------------------------------
// The unwind.

// Where it ends: in a driver's frame, or in the catch of a try.
typedef struct _KI_UNWIND_GOAL {
    ULONG64 Frame;
    ULONG64 Ip;
    ULONG64 ReturnValue;
    PKM_TRY_FRAME Try;
} KI_UNWIND_GOAL;

// Try->Context is what the compiler's setjmp stored: frame pointer, landing, stack pointer. The other
// registers are the frame's: it may not save what only its callees have changed (xmm6-15).
static DECLSPEC_NORETURN VOID KiLandInCatch(PKM_TRY_FRAME Try, NTSTATUS Status, PCONTEXT Context)
{
    KiEnterCatch(Try, Status);
    Context->Rbp = (ULONG64)Try->Context[0];
    Context->Rip = (ULONG64)Try->Context[1];
    Context->Rsp = (ULONG64)Try->Context[2];
    KiRestoreContext(Context);
}

static DECLSPEC_NORETURN VOID KiLandInHandler(const KI_UNWIND_GOAL *Goal, PCONTEXT Context)
{
    NT_ASSERT_INVARIANT("S2", KeArchGetPcr()->HeldRanks == 0);
    KiEndTriesBelow((const VOID *)Context->Rsp);
    Context->Rip = Goal->Ip;
    Context->Rax = Goal->ReturnValue;
    KiRestoreContext(Context);
}

static DECLSPEC_NORETURN VOID KiStopLostUnwind(const KI_UNWIND_GOAL *Goal)
{
    KiBugCheckSaying(KMODE_EXCEPTION_NOT_HANDLED, (ULONG_PTR)(LONG_PTR)STATUS_INVALID_UNWIND_TARGET,
                     Goal->Ip, Goal->Frame, 0,
                     "an unwind did not find the frame 0x%016llx that it was to end in",
                     Goal->Frame);
}

static VOID KiCallUnwindHandler(const KI_UNWIND_GOAL *Goal, PEXCEPTION_RECORD Record,
                                const KI_FRAME *Frame, PCONTEXT Context, ULONG ScopeIndex)
{
    DISPATCHER_CONTEXT Dispatcher;
    KiFillDispatcher(&Dispatcher, Frame, Context, ScopeIndex);
    Dispatcher.TargetIp = Goal->Ip;
    const EXCEPTION_DISPOSITION Disposition =
        KiCallHandlerForUnwind(Record, (PVOID)Frame->EstablisherFrame, Context, &Dispatcher);
    if (Disposition != ExceptionContinueSearch) {
        KiRaiseAbout(Record, STATUS_INVALID_DISPOSITION);
    }
}

// Leaves all frames from its own one on.
static DECLSPEC_NORETURN DECLSPEC_NOINLINE VOID KiUnwind(const KI_UNWIND_GOAL *Goal,
                                                         PEXCEPTION_RECORD Record)
{
    KI_FRAME_WALK Current;
    KI_FRAME_WALK Next;
    KI_FRAME Frame;
    RtlCaptureContext(&Current.Context);
    Current.IsRipExact = FALSE;
    Record->ExceptionFlags |= EXCEPTION_UNWINDING;
    for (;;) {
        ULONG ScopeIndex = 0;
        const DISPATCHER_CONTEXT *Former =
            KiFindHandlerCall(&Current.Context, KiCallHandlerForUnwindReturn);
        if (Former != NULL) {
            Record->ExceptionFlags |= EXCEPTION_COLLIDED_UNWIND;
            ScopeIndex = Former->ScopeIndex;
            RtlCopyMemory(&Current.Context, Former->ContextRecord, sizeof(CONTEXT));
            Current.IsRipExact = FALSE;
        }
        RtlCopyMemory(&Next, &Current, sizeof(Next));
        if (!KiLeaveFrame(&Next, UNW_FLAG_UHANDLER, &Frame)) {
            KiStopLostUnwind(Goal);
        }
        if (Goal->Try != NULL && (ULONG64)Goal->Try < Next.Context.Rsp) {
            KiLandInCatch(Goal->Try, Record->ExceptionCode, &Current.Context);
        }
        const BOOLEAN IsTarget =
            Goal->Try == NULL && Frame.Image != NULL && Frame.EstablisherFrame == Goal->Frame;
        if (IsTarget) {
            Record->ExceptionFlags |= EXCEPTION_TARGET_UNWIND;
        } else if (Goal->Try == NULL && Current.Context.Rsp > Goal->Frame) {
            KiStopLostUnwind(Goal);
        }
        if (Frame.Handler.Routine != NULL) {
            KiCallUnwindHandler(Goal, Record, &Frame, &Current.Context, ScopeIndex);
        }
        Record->ExceptionFlags &= ~(ULONG)(EXCEPTION_COLLIDED_UNWIND | EXCEPTION_TARGET_UNWIND);
        if (IsTarget) {
            KiLandInHandler(Goal, &Current.Context);
        }
        KiEndTriesBelow((const VOID *)Next.Context.Rsp);
        RtlCopyMemory(&Current, &Next, sizeof(Current));
    }
}

DECLSPEC_NORETURN VOID NTAPI RtlUnwindEx(PVOID TargetFrame, PVOID TargetIp,
                                         PEXCEPTION_RECORD ExceptionRecord, PVOID ReturnValue,
                                         PCONTEXT ContextRecord, PUNWIND_HISTORY_TABLE HistoryTable)
{
    UNREFERENCED_PARAMETER(ContextRecord);
    UNREFERENCED_PARAMETER(HistoryTable);
    const KI_UNWIND_GOAL Goal = {
        .Frame = (ULONG64)TargetFrame,
        .Ip = (ULONG64)TargetIp,
        .ReturnValue = (ULONG64)ReturnValue,
    };
    EXCEPTION_RECORD Own = {
        .ExceptionCode = STATUS_UNWIND,
        .ExceptionAddress = __builtin_return_address(0),
    };
    KiUnwind(&Goal, ExceptionRecord != NULL ? ExceptionRecord : &Own);
}

DECLSPEC_NORETURN VOID NTAPI RtlUnwind(PVOID TargetFrame, PVOID TargetIp,
                                       PEXCEPTION_RECORD ExceptionRecord, PVOID ReturnValue)
{
    RtlUnwindEx(TargetFrame, TargetIp, ExceptionRecord, ReturnValue, NULL, NULL);
}

// What compilers call where a goto or a return leaves a __try.
DECLSPEC_NORETURN VOID NTAPI KiLocalUnwind(PVOID EstablisherFrame, PVOID TargetIp)
{
    RtlUnwindEx(EstablisherFrame, TargetIp, NULL, NULL, NULL, NULL);
}

VOID NTAPI RtlRestoreContext(PCONTEXT ContextRecord, PEXCEPTION_RECORD ExceptionRecord)
{
    UNREFERENCED_PARAMETER(ExceptionRecord);
    KiRestoreContext(ContextRecord);
}

// -------------------------------------------------------------------------------------------------
// The search.

// TRUE: go on where Context, which the handler may have changed, says.
static BOOLEAN KiAskHandler(PEXCEPTION_RECORD Record, PCONTEXT Context, const KI_FRAME *Frame,
                            PCONTEXT Scratch, ULONG ScopeIndex)
{
    DISPATCHER_CONTEXT Dispatcher;
    KiFillDispatcher(&Dispatcher, Frame, Scratch, ScopeIndex);
    switch (
        KiCallHandlerForException(Record, (PVOID)Frame->EstablisherFrame, Context, &Dispatcher)) {
    case ExceptionContinueSearch:
        return FALSE;
    case ExceptionContinueExecution:
        if (Record->ExceptionFlags & EXCEPTION_NONCONTINUABLE) {
            KiRaiseAbout(Record, STATUS_NONCONTINUABLE_EXCEPTION);
        }
        return TRUE;
    }
    KiRaiseAbout(Record, STATUS_INVALID_DISPOSITION);
}

// Does not return when a handler takes the exception. TRUE: a filter wants to go on with Context.
// FALSE: nobody handles it.
static BOOLEAN KiDispatch(PEXCEPTION_RECORD Record, PCONTEXT Context, BOOLEAN IsRipExact)
{
    KI_FRAME_WALK Walk;
    KI_FRAME Frame;
    ULONG64 NestedFrame = 0; // of the outermost filter that the exception comes from
    RtlCopyMemory(&Walk.Context, Context, sizeof(CONTEXT));
    Walk.IsRipExact = IsRipExact;
    for (;;) {
        ULONG ScopeIndex = 0;
        const DISPATCHER_CONTEXT *Unwinding =
            KiFindHandlerCall(&Walk.Context, KiCallHandlerForUnwindReturn);
        if (Unwinding != NULL) {
            ScopeIndex = Unwinding->ScopeIndex;
            RtlCopyMemory(&Walk.Context, Unwinding->ContextRecord, sizeof(CONTEXT));
            Walk.IsRipExact = FALSE;
        }
        const DISPATCHER_CONTEXT *Outer =
            KiFindHandlerCall(&Walk.Context, KiCallHandlerForExceptionReturn);
        if (Outer != NULL && Outer->EstablisherFrame > NestedFrame) {
            NestedFrame = Outer->EstablisherFrame;
            Record->ExceptionFlags |= EXCEPTION_NESTED_CALL;
        }
        const ULONG64 Rsp = Walk.Context.Rsp;
        if (!KiLeaveFrame(&Walk, UNW_FLAG_EHANDLER, &Frame)) {
            break;
        }
        if (Frame.Handler.Routine != NULL) {
            if (!KiIsFrameUsable(&Frame, Rsp)) {
                Record->ExceptionFlags |= EXCEPTION_STACK_INVALID;
                break;
            }
            if (KiAskHandler(Record, Context, &Frame, &Walk.Context, ScopeIndex)) {
                return TRUE;
            }
        }
        if (Frame.EstablisherFrame >= NestedFrame) {
            Record->ExceptionFlags &= ~(ULONG)EXCEPTION_NESTED_CALL;
        }
        const PKM_TRY_FRAME Try = KiGetInnermostTry();
        if (Try != NULL && (ULONG64)Try < Walk.Context.Rsp) {
            KiUnwind(&(KI_UNWIND_GOAL){.Try = Try}, Record);
        }
    }
    // Code without tables (assembly) hides the frames beyond it, but not a try in one of them.
    const PKM_TRY_FRAME Try = KiGetInnermostTry();
    if (Try != NULL) {
        KiLandInCatch(Try, Record->ExceptionCode, Context);
    }
    return FALSE;
}

// The registers of whoever called the routine that this stands in, as they are behind that call.
#define CAPTURE_CALLER(Walk)                                                                       \
    do {                                                                                           \
        KI_FRAME Own;                                                                              \
        RtlCaptureContext(&(Walk)->Context);                                                       \
        (Walk)->IsRipExact = FALSE;                                                                \
        (VOID) KiLeaveFrame(Walk, UNW_FLAG_NHANDLER, &Own);                                        \
    } while (FALSE)

VOID NTAPI RtlRaiseException(PEXCEPTION_RECORD ExceptionRecord)
{
    NT_ASSERT(KeGetCurrentIrql() <= DISPATCH_LEVEL);
    KI_FRAME_WALK Caller;
    CAPTURE_CALLER(&Caller);
    ExceptionRecord->ExceptionAddress = (PVOID)Caller.Context.Rip;
    if (KiDispatch(ExceptionRecord, &Caller.Context, FALSE)) {
        KiRestoreContext(&Caller.Context);
    }
    KiStopUnhandled(__func__, ExceptionRecord);
}

VOID KeArchRaise(PEXCEPTION_RECORD Record)
{
    KI_FRAME_WALK Caller;
    CAPTURE_CALLER(&Caller);
    if (KiDispatch(Record, &Caller.Context, FALSE)) {
        KiRestoreContext(&Caller.Context);
    }
}

// -------------------------------------------------------------------------------------------------
// Faults.

VOID KiCaptureTrap(PCONTEXT Context, const KTRAP_FRAME *Frame)
{
    RtlCaptureContext(Context);
    Context->Rax = Frame->Rax;
    Context->Rcx = Frame->Rcx;
    Context->Rdx = Frame->Rdx;
    Context->Rbx = Frame->Rbx;
    Context->Rsp = Frame->Rsp;
    Context->Rbp = Frame->Rbp;
    Context->Rsi = Frame->Rsi;
    Context->Rdi = Frame->Rdi;
    Context->R8 = Frame->R8;
    Context->R9 = Frame->R9;
    Context->R10 = Frame->R10;
    Context->R11 = Frame->R11;
    Context->R12 = Frame->R12;
    Context->R13 = Frame->R13;
    Context->R14 = Frame->R14;
    Context->R15 = Frame->R15;
    Context->Rip = Frame->Rip;
    Context->EFlags = (ULONG)Frame->Rflags;
}

VOID KiDispatchFault(const KTRAP_FRAME *Frame, PEXCEPTION_RECORD Record)
{
    CONTEXT Context;
    KiCaptureTrap(&Context, Frame);
    Context.Rip =
        (ULONG64)Record->ExceptionAddress; // a breakpoint's lies before the next instruction
    KeArchRestoreInterrupts((Frame->Rflags & RFLAGS_IF) != 0);
    if (KiDispatch(Record, &Context, TRUE)) {
        KiRestoreContext(&Context);
    }
    (VOID) KeArchDisableInterrupts();
}

// -------------------------------------------------------------------------------------------------
// C.

#define SCOPE_HANDLES_ALL 1 // in place of a filter

typedef LONG NTAPI KI_FILTER(PEXCEPTION_POINTERS Pointers, PVOID EstablisherFrame);
typedef VOID NTAPI KI_TERMINATION(BOOLEAN IsAbnormal, PVOID EstablisherFrame);

static EXCEPTION_DISPOSITION KiAskScopes(PEXCEPTION_RECORD Record, PVOID EstablisherFrame,
                                         PCONTEXT Context, PDISPATCHER_CONTEXT Dispatcher)
{
    const SCOPE_TABLE_AMD64 *Scopes = Dispatcher->HandlerData;
    const ULONG64 Base = Dispatcher->ImageBase;
    const ULONG64 Pc = Dispatcher->ControlPc - Base;
    EXCEPTION_POINTERS Pointers = {Record, Context};
    for (ULONG Index = Dispatcher->ScopeIndex; Index < Scopes->Count; Index += 1) {
        const ULONG Begin = Scopes->ScopeRecord[Index].BeginAddress;
        const ULONG End = Scopes->ScopeRecord[Index].EndAddress;
        const ULONG Handler = Scopes->ScopeRecord[Index].HandlerAddress;
        const ULONG Target = Scopes->ScopeRecord[Index].JumpTarget;
        if (Pc < Begin || Pc >= End || Target == 0) {
            continue;
        }
        const LONG Answer = Handler == SCOPE_HANDLES_ALL
                                ? EXCEPTION_EXECUTE_HANDLER
                                : ((KI_FILTER *)(Base + Handler))(&Pointers, EstablisherFrame);
        if (Answer < 0) {
            return ExceptionContinueExecution;
        }
        if (Answer > 0) {
            RtlUnwindEx(EstablisherFrame, (PVOID)(Base + Target), Record,
                        (PVOID)(ULONG_PTR)(ULONG)Record->ExceptionCode, Dispatcher->ContextRecord,
                        Dispatcher->HistoryTable);
        }
    }
    return ExceptionContinueSearch;
}

// Runs the __finally blocks that are left on the way to the target, which may lie in this frame.
static EXCEPTION_DISPOSITION KiEndScopes(const EXCEPTION_RECORD *Record, PVOID EstablisherFrame,
                                         PDISPATCHER_CONTEXT Dispatcher)
{
    const SCOPE_TABLE_AMD64 *Scopes = Dispatcher->HandlerData;
    const ULONG64 Base = Dispatcher->ImageBase;
    const ULONG64 Pc = Dispatcher->ControlPc - Base;
    const ULONG64 TargetPc = Dispatcher->TargetIp - Base;
    const BOOLEAN IsTarget = IS_TARGET_UNWIND(Record->ExceptionFlags);
    for (ULONG Index = Dispatcher->ScopeIndex; Index < Scopes->Count; Index += 1) {
        const ULONG Begin = Scopes->ScopeRecord[Index].BeginAddress;
        const ULONG End = Scopes->ScopeRecord[Index].EndAddress;
        const ULONG Handler = Scopes->ScopeRecord[Index].HandlerAddress;
        const ULONG Target = Scopes->ScopeRecord[Index].JumpTarget;
        if (Pc < Begin || Pc >= End) {
            continue;
        }
        // A scope that has the target in it is not left, and neither are those around it. The target
        // may be the scope's own handler, too.
        if (IsTarget &&
            ((TargetPc >= Begin && TargetPc < End) || (Target != 0 && TargetPc == Target))) {
            break;
        }
        if (Target == 0) {
            Dispatcher->ScopeIndex = Index + 1; // should the block raise: not again
            ((KI_TERMINATION *)(Base + Handler))(TRUE, EstablisherFrame);
        }
    }
    return ExceptionContinueSearch;
}

EXCEPTION_DISPOSITION NTAPI __C_specific_handler(PEXCEPTION_RECORD ExceptionRecord,
                                                 PVOID EstablisherFrame, PCONTEXT ContextRecord,
                                                 PDISPATCHER_CONTEXT DispatcherContext)
{
    return IS_UNWINDING(ExceptionRecord->ExceptionFlags)
               ? KiEndScopes(ExceptionRecord, EstablisherFrame, DispatcherContext)
               : KiAskScopes(ExceptionRecord, EstablisherFrame, ContextRecord, DispatcherContext);
}
