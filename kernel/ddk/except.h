// Exceptions for C code: raising a status, and handling it.
//
//     KmTry {
//         MmProbeAndLockPages(Mdl, KernelMode, IoWriteAccess);
//     } KmCatch(Status) {
//         IoFreeMdl(Mdl);
//         return Status;
//     }
//
// A compiler for NT has __try and __except for that, which work here as there (sehddk.h has what
// belongs to them); gcc has not. An exception, which is a raise or a fault of the processor, ends the
// routines between it and the innermost handler that encloses it, in the same thread, and goes on in
// the catch. Tries and __try blocks may lie inside of each other, in different routines, drivers and the
// kernel: what is left is left properly, with its __finally blocks and its saved registers.
//
// Faults that are exceptions: access to an address of the user's half or to one that is not canonical
// (STATUS_ACCESS_VIOLATION), division by zero, a breakpoint, an illegal instruction, a failed NT_ASSERT,
// a misaligned access; the first below DISPATCH_LEVEL only. A bad address of the kernel's half stops
// the machine, as on NT.
//
// Rules:
//   A try always has its catch. Both bodies may be left by return and goto; break and continue leave
//   the try only.
//   A local variable that the body changes and the catch reads must be volatile.
//   What the ended routines held they still hold: locks, memory, a raised IRQL. The catch runs at the
//   IRQL of the raise; who raised the IRQL inside the body lowers it inside the body.
//   The catch may raise again: the next outer handler gets that.
//   An interrupt routine and a DPC have handlers of their own only: what they raise never reaches
//   what they interrupted.
//   A routine uses KmTry or __try, not both.
#pragma once

#include <ntdef.h>
#include <ntstatus.h>

#include <keddk.h>
#include <sehddk.h>

typedef enum _KM_TRY_STATE {
    KmTryOutside, // not entered yet
    KmTryInside,  // in the chain of handlers
    KmTryRaised,  // out of the chain; the catch runs
    KmTryDone,
} KM_TRY_STATE;

// A handler, in the stack frame of the routine that handles. Opaque.
typedef struct _KM_TRY_FRAME {
    struct _KM_TRY_FRAME *Previous; // the next outer handler
    PVOID Context[5];               // where to go on: the compiler's
    ULONG HeldRanks;                // the kernel's locks at the entry
    NTSTATUS Status;
    KM_TRY_STATE State;
} KM_TRY_FRAME, *PKM_TRY_FRAME;

// For the macros only: makes the frame the innermost handler, and ends that.
VOID NTAPI KmEnterTry(_Inout_ PKM_TRY_FRAME Frame);
VOID NTAPI KmLeaveTry(_Inout_ PKM_TRY_FRAME Frame);

// An inner try hides the frame of the outer one, as it should.
#define KM_BEGIN_HIDING                                                                            \
    _Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wshadow\"")
#define KM_END_HIDING _Pragma("GCC diagnostic pop")

// One round of a loop: that gives the frame a scope, and its end leaves the try on every way out.
// The compiler's own setjmp must be called by the routine itself, and spares volatile for variables
// that the body does not change.
#define KmTry                                                                                      \
    KM_BEGIN_HIDING                                                                                \
    for (KM_TRY_FRAME KmTryFrame __attribute__((cleanup(KmLeaveTry))) = {.State = KmTryOutside};   \
         KmTryFrame.State == KmTryOutside; KmLeaveTry(&KmTryFrame))                                \
        KM_END_HIDING                                                                              \
    if (__builtin_setjmp(KmTryFrame.Context) == 0 && (KmEnterTry(&KmTryFrame), TRUE))

// Declares Status, the status that was raised, for the body that follows.
#define KmCatch(Name)                                                                              \
    else for (const NTSTATUS Name __attribute__((unused)) = KmTryFrame.Status;                     \
              KmTryFrame.State == KmTryRaised; KmTryFrame.State = KmTryDone)

// Raises Status. Stops the machine with KMODE_EXCEPTION_NOT_HANDLED (Status, the address behind the
// call, 0, 0) when no handler encloses it.
DECLSPEC_NORETURN _IRQL_requires_max_(DISPATCH_LEVEL)
VOID NTAPI ExRaiseStatus(_In_ NTSTATUS Status);

// The same with STATUS_ACCESS_VIOLATION and STATUS_DATATYPE_MISALIGNMENT.
DECLSPEC_NORETURN _IRQL_requires_max_(DISPATCH_LEVEL)
VOID NTAPI ExRaiseAccessViolation(VOID);
DECLSPEC_NORETURN _IRQL_requires_max_(DISPATCH_LEVEL)
VOID NTAPI ExRaiseDatatypeMisalignment(VOID);
