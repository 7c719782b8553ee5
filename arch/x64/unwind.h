// Leaving frames of the stack one by one: what the parts of it know of each other.
//
//   unwind.c   frames of drivers, by the tables of their images (.pdata, .xdata)
//   cfi.c      frames of the kernel, by the tables of its compiler (.eh_frame)
//   frames.c   a walk over both; stack traces
//   seh.c      exceptions: from the raise to a handler
#pragma once

#include <sehddk.h>

#include "kernel/inc/ldr.h"

struct _KTRAP_FRAME;

// Reads memory that may not be there: FALSE then. Never faults. Any IRQL.
BOOLEAN KiUnwindRead(ULONG64 Va, PVOID Buffer, SIZE_T ByteCount);

// The general registers by the numbers that instructions have for them.
#define KI_REGISTER_COUNT 16
#define KI_REGISTER_RSP 4

static inline PULONG64 KiRegistersOf(PCONTEXT Context)
{
    C_ASSERT(FIELD_OFFSET(CONTEXT, R15) ==
             FIELD_OFFSET(CONTEXT, Rax) + (KI_REGISTER_COUNT - 1) * (LONG)sizeof(ULONG64));
    return (PULONG64)((PUCHAR)Context + FIELD_OFFSET(CONTEXT, Rax));
}

static inline M128A *KiXmmOf(PCONTEXT Context)
{
    return (M128A *)((PUCHAR)Context + FIELD_OFFSET(CONTEXT, Xmm0));
}

// -------------------------------------------------------------------------------------------------
// unwind.c

// The language handler of a frame, if it has one that is in force at this point.
typedef struct _KI_FRAME_HANDLER {
    PEXCEPTION_ROUTINE Routine;
    PVOID Data;
} KI_FRAME_HANDLER, *PKI_FRAME_HANDLER;

PRUNTIME_FUNCTION KiFindFunction(const LDR_IMAGE *Image, ULONG64 ControlPc);

// Leaves a frame of a driver. Entry NULL: a leaf function. FALSE: the tables or the stack are damaged.
BOOLEAN KiUnwindImageFrame(const LDR_IMAGE *Image, ULONG64 ControlPc, const RUNTIME_FUNCTION *Entry,
                           ULONG HandlerType, PCONTEXT Context, PKI_FRAME_HANDLER Handler,
                           PULONG64 EstablisherFrame, PKNONVOLATILE_CONTEXT_POINTERS Pointers);

// -------------------------------------------------------------------------------------------------
// cfi.c

// The two sections, as the linker lays them out.
typedef struct _KI_CFI_TABLES {
    const UCHAR *Header; // .eh_frame_hdr: sorted addresses of functions
    const UCHAR *HeaderEnd;
    const UCHAR *Frames; // .eh_frame
    const UCHAR *FramesEnd;
} KI_CFI_TABLES;

// Leaves the frame whose instruction pointer is Context->Rip; for one that waits in a call, Lookup is
// an address within the call. FALSE: the tables don't know it, or it is the outermost one, and then Rip
// is 0.
// *IsInterrupted: the caller was interrupted, not called: its Rip is exact.
BOOLEAN KiUnwindByCfi(const KI_CFI_TABLES *Tables, ULONG64 Lookup, PCONTEXT Context,
                      PBOOLEAN IsInterrupted);

// -------------------------------------------------------------------------------------------------
// frames.c

// A walk: Context holds the registers in the current frame. What wrote the context decides whether Rip
// is exact (an interrupted instruction) or behind a call.
typedef struct _KI_FRAME_WALK {
    CONTEXT Context;
    BOOLEAN IsRipExact;
} KI_FRAME_WALK, *PKI_FRAME_WALK;

// What is known of a frame that was left.
typedef struct _KI_FRAME {
    ULONG64 ControlPc;
    const LDR_IMAGE *Image;          // NULL: the kernel's
    PRUNTIME_FUNCTION FunctionEntry; // of a driver's
    ULONG64 EstablisherFrame;
    KI_FRAME_HANDLER Handler; // of a driver's
} KI_FRAME, *PKI_FRAME;

// Leaves the current frame, and describes it. FALSE: the walk ends with it, and the context is
// undefined: what called it is unknown, or an interrupt, whose frames belong to somebody else.
// HandlerType: UNW_FLAG_*.
BOOLEAN KiLeaveFrame(PKI_FRAME_WALK Walk, ULONG HandlerType, PKI_FRAME Frame);

// The same; goes on with the code that was interrupted. For traces.
BOOLEAN KiLeaveFrameOrInterrupt(PKI_FRAME_WALK Walk, PKI_FRAME Frame);

// TRUE for an address in the kernel's code, or in a driver's.
BOOLEAN KiIsCode(ULONG64 Address);

// seh.c: the registers of a trap. The SSE registers must not have changed since.
VOID KiCaptureTrap(PCONTEXT Context, const struct _KTRAP_FRAME *Frame);

// context.S: goes on where the registers say.
DECLSPEC_NORETURN VOID KiRestoreContext(const CONTEXT *Context);
