// Exceptions as the processor and the compiler see them: the registers at one point of a program
// (CONTEXT), an exception in words (EXCEPTION_RECORD), and the published tables by which a frame is
// left (RUNTIME_FUNCTION). What a driver compiled with __try and __except, or one that walks a stack,
// needs beside <except.h>.
//
// Names, values and layouts are those of NT on x64. This header may also stand behind the DDK headers
// of a compiler for Windows, which lack most of it.
#pragma once

#include <ntdef.h>

// mingw-w64 has some of this in headers for programs, some in <wdm.h>.
#if !defined(_WINNT_) && !defined(__MINGW_WINNT_H)

#ifndef __MINGW32__
typedef struct DECLSPEC_ALIGN(16) _M128A {
    ULONGLONG Low;
    LONGLONG High;
} M128A, *PM128A;

typedef struct DECLSPEC_ALIGN(16) _XSAVE_FORMAT {
    USHORT ControlWord;
    USHORT StatusWord;
    UCHAR TagWord;
    UCHAR Reserved1;
    USHORT ErrorOpcode;
    ULONG ErrorOffset;
    USHORT ErrorSelector;
    USHORT Reserved2;
    ULONG DataOffset;
    USHORT DataSelector;
    USHORT Reserved3;
    ULONG MxCsr;
    ULONG MxCsr_Mask;
    M128A FloatRegisters[8];
    M128A XmmRegisters[16];
    UCHAR Reserved4[96];
} XSAVE_FORMAT, *PXSAVE_FORMAT, XMM_SAVE_AREA32, *PXMM_SAVE_AREA32;

#define EXCEPTION_NONCONTINUABLE 0x1 // nobody may continue behind it
#define EXCEPTION_MAXIMUM_PARAMETERS 15

typedef struct _EXCEPTION_RECORD {
    NTSTATUS ExceptionCode;
    ULONG ExceptionFlags;                      // EXCEPTION_*
    struct _EXCEPTION_RECORD *ExceptionRecord; // the one that this one came from
    PVOID ExceptionAddress;
    ULONG NumberParameters;
    ULONG_PTR ExceptionInformation[EXCEPTION_MAXIMUM_PARAMETERS];
} EXCEPTION_RECORD, *PEXCEPTION_RECORD;

typedef struct _EXCEPTION_POINTERS {
    PEXCEPTION_RECORD ExceptionRecord;
    struct _CONTEXT *ContextRecord;
} EXCEPTION_POINTERS, *PEXCEPTION_POINTERS;
#endif

#ifndef EXCEPTION_UNWIND
#define EXCEPTION_UNWINDING 0x2
#define EXCEPTION_EXIT_UNWIND 0x4
#define EXCEPTION_STACK_INVALID 0x8
#define EXCEPTION_NESTED_CALL 0x10
#define EXCEPTION_TARGET_UNWIND 0x20
#define EXCEPTION_COLLIDED_UNWIND 0x40
#define EXCEPTION_UNWIND 0x66

#define IS_UNWINDING(Flags) (((Flags)&EXCEPTION_UNWIND) != 0)
#define IS_DISPATCHING(Flags) (((Flags)&EXCEPTION_UNWIND) == 0)
#define IS_TARGET_UNWIND(Flags) (((Flags)&EXCEPTION_TARGET_UNWIND) != 0)
#endif

// ExceptionInformation[0] of an access violation; [1] is the address.
#define EXCEPTION_READ_FAULT 0
#define EXCEPTION_WRITE_FAULT 1
#define EXCEPTION_EXECUTE_FAULT 8

// What a filter returns.
#ifndef EXCEPTION_EXECUTE_HANDLER
#define EXCEPTION_EXECUTE_HANDLER 1
#define EXCEPTION_CONTINUE_SEARCH 0
#define EXCEPTION_CONTINUE_EXECUTION (-1)
#endif

// What a language handler returns (EXCEPTION_DISPOSITION).
#ifndef ExceptionContinueExecution
#define ExceptionContinueExecution 0
#define ExceptionContinueSearch 1
#define ExceptionNestedException 2
#define ExceptionCollidedUnwind 3
#endif

#define CONTEXT_AMD64 0x100000
#define CONTEXT_CONTROL (CONTEXT_AMD64 | 0x1L)        // SegSs, Rsp, SegCs, Rip, EFlags
#define CONTEXT_INTEGER (CONTEXT_AMD64 | 0x2L)        // the other general registers
#define CONTEXT_SEGMENTS (CONTEXT_AMD64 | 0x4L)       // SegDs, SegEs, SegFs, SegGs
#define CONTEXT_FLOATING_POINT (CONTEXT_AMD64 | 0x8L) // MxCsr, Xmm0 to Xmm15
#define CONTEXT_DEBUG_REGISTERS (CONTEXT_AMD64 | 0x10L)
#define CONTEXT_FULL (CONTEXT_CONTROL | CONTEXT_INTEGER | CONTEXT_FLOATING_POINT)

#define INITIAL_MXCSR 0x1f80

typedef struct DECLSPEC_ALIGN(16) _CONTEXT {
    ULONG64 P1Home, P2Home, P3Home, P4Home, P5Home, P6Home;
    ULONG ContextFlags; // CONTEXT_*: which of the rest are filled in
    ULONG MxCsr;
    USHORT SegCs, SegDs, SegEs, SegFs, SegGs, SegSs;
    ULONG EFlags;
    ULONG64 Dr0, Dr1, Dr2, Dr3, Dr6, Dr7;
    ULONG64 Rax, Rcx, Rdx, Rbx, Rsp, Rbp, Rsi, Rdi; // in the order of the instructions' numbers
    ULONG64 R8, R9, R10, R11, R12, R13, R14, R15;
    ULONG64 Rip;
    union {
        XMM_SAVE_AREA32 FltSave;
        struct {
            M128A Header[2];
            M128A Legacy[8];
            M128A Xmm0, Xmm1, Xmm2, Xmm3, Xmm4, Xmm5, Xmm6, Xmm7;
            M128A Xmm8, Xmm9, Xmm10, Xmm11, Xmm12, Xmm13, Xmm14, Xmm15;
        };
    };
    M128A VectorRegister[26];
    ULONG64 VectorControl;
    ULONG64 DebugControl;
    ULONG64 LastBranchToRip, LastBranchFromRip;
    ULONG64 LastExceptionToRip, LastExceptionFromRip;
} CONTEXT, *PCONTEXT;

C_ASSERT(sizeof(CONTEXT) == 0x4D0);
C_ASSERT(FIELD_OFFSET(CONTEXT, Rax) == 0x78);
C_ASSERT(FIELD_OFFSET(CONTEXT, Rip) == 0xF8);
C_ASSERT(FIELD_OFFSET(CONTEXT, Xmm0) == 0x1A0);

// A row of an image's .pdata; all three are offsets from the base of the image.
#define RUNTIME_FUNCTION_INDIRECT 0x1 // in UnwindData: it is the place of another row

typedef struct _RUNTIME_FUNCTION {
    ULONG BeginAddress;
    ULONG EndAddress;
    union {
        ULONG UnwindInfoAddress;
        ULONG UnwindData; // the same
    };
} RUNTIME_FUNCTION, *PRUNTIME_FUNCTION;

C_ASSERT(sizeof(RUNTIME_FUNCTION) == 12);

#define UNW_FLAG_NHANDLER 0x0
#define UNW_FLAG_EHANDLER 0x1
#define UNW_FLAG_UHANDLER 0x2
#define UNW_FLAG_CHAININFO 0x4

#define UNWIND_HISTORY_TABLE_SIZE 12

typedef struct _UNWIND_HISTORY_TABLE_ENTRY {
    ULONG64 ImageBase;
    PRUNTIME_FUNCTION FunctionEntry;
} UNWIND_HISTORY_TABLE_ENTRY, *PUNWIND_HISTORY_TABLE_ENTRY;

typedef struct _UNWIND_HISTORY_TABLE {
    ULONG Count;
    UCHAR LocalHint;
    UCHAR GlobalHint;
    UCHAR Search;
    UCHAR Once;
    ULONG64 LowAddress;
    ULONG64 HighAddress;
    UNWIND_HISTORY_TABLE_ENTRY Entry[UNWIND_HISTORY_TABLE_SIZE];
} UNWIND_HISTORY_TABLE, *PUNWIND_HISTORY_TABLE;

// Where a nonvolatile register was found in the stack; NULL: nowhere yet.
typedef struct _KNONVOLATILE_CONTEXT_POINTERS {
    PM128A FloatingContext[16];
    PULONG64 IntegerContext[16];
} KNONVOLATILE_CONTEXT_POINTERS, *PKNONVOLATILE_CONTEXT_POINTERS;

#ifndef __PEXCEPTION_ROUTINE_DEFINED
#define __PEXCEPTION_ROUTINE_DEFINED
#ifndef EXCEPTION_DISPOSITION
#define EXCEPTION_DISPOSITION int
#endif
typedef EXCEPTION_DISPOSITION(NTAPI *PEXCEPTION_ROUTINE)(struct _EXCEPTION_RECORD *ExceptionRecord,
                                                         PVOID EstablisherFrame,
                                                         struct _CONTEXT *ContextRecord,
                                                         PVOID DispatcherContext);
#endif

// What a language handler learns of its frame.
typedef struct _DISPATCHER_CONTEXT {
    ULONG64 ControlPc;
    ULONG64 ImageBase;
    PRUNTIME_FUNCTION FunctionEntry;
    ULONG64 EstablisherFrame;
    ULONG64 TargetIp; // while unwinding: where that will end
    PCONTEXT ContextRecord;
    PEXCEPTION_ROUTINE LanguageHandler;
    PVOID HandlerData;
    PUNWIND_HISTORY_TABLE HistoryTable;
    ULONG ScopeIndex; // where the handler shall begin
    ULONG Fill0;
} DISPATCHER_CONTEXT, *PDISPATCHER_CONTEXT;

C_ASSERT(sizeof(DISPATCHER_CONTEXT) == 0x50);

// The handler data of __C_specific_handler.
typedef struct _SCOPE_TABLE_AMD64 {
    ULONG Count;
    struct {
        ULONG BeginAddress; // of the __try
        ULONG EndAddress;
        ULONG HandlerAddress; // the filter, 1 for "handles all", or the __finally
        ULONG JumpTarget;     // the __except block; 0: a __finally
    } ScopeRecord[1];
} SCOPE_TABLE_AMD64, *PSCOPE_TABLE_AMD64;

#endif

// Fills in the registers of the caller as they are behind the call: CONTEXT_FULL and the segments.
// Any IRQL.
VOID NTAPI RtlCaptureContext(_Out_ PCONTEXT ContextRecord);

// Goes on where the registers say. ExceptionRecord may be NULL and is not looked at: the forms for
// longjmp and for C++ are not supported. IRQL <= DISPATCH_LEVEL.
DECLSPEC_NORETURN
VOID NTAPI RtlRestoreContext(_In_ PCONTEXT ContextRecord,
                             _In_opt_ PEXCEPTION_RECORD ExceptionRecord);

// The row of the function that contains ControlPc, and the base of its image; NULL for a leaf
// function and for an address that is no code. All of the kernel's code is one row, which
// RtlVirtualUnwind understands. HistoryTable is not used. Any IRQL.
PRUNTIME_FUNCTION NTAPI RtlLookupFunctionEntry(_In_ ULONG64 ControlPc, _Out_ PULONG64 ImageBase,
                                               _Inout_opt_ PUNWIND_HISTORY_TABLE HistoryTable);

// Leaves one frame: ContextRecord becomes the registers of the caller. Returns the function's language
// handler when it has one of HandlerType (UNW_FLAG_*) and ControlPc lies in its body, with its data.
// ContextPointers (optional) learns where registers were found. Damaged tables, or a stack that
// can't be read: Rip becomes 0, and the rest is undefined; nothing faults. Any IRQL.
PEXCEPTION_ROUTINE NTAPI
RtlVirtualUnwind(_In_ ULONG HandlerType, _In_ ULONG64 ImageBase, _In_ ULONG64 ControlPc,
                 _In_ PRUNTIME_FUNCTION FunctionEntry, _Inout_ PCONTEXT ContextRecord,
                 _Out_ PVOID *HandlerData, _Out_ PULONG64 EstablisherFrame,
                 _Inout_opt_ PKNONVOLATILE_CONTEXT_POINTERS ContextPointers);

// Leaves all frames up to TargetFrame, runs their termination handlers, and goes on at TargetIp with
// ReturnValue in RAX. ExceptionRecord: optional. ContextRecord: room to work, undefined afterwards.
// A frame that is not there stops the machine with KMODE_EXCEPTION_NOT_HANDLED and
// STATUS_INVALID_UNWIND_TARGET. IRQL <= DISPATCH_LEVEL.
DECLSPEC_NORETURN
VOID NTAPI RtlUnwindEx(_In_opt_ PVOID TargetFrame, _In_opt_ PVOID TargetIp,
                       _In_opt_ PEXCEPTION_RECORD ExceptionRecord, _In_ PVOID ReturnValue,
                       _In_ PCONTEXT ContextRecord, _In_opt_ PUNWIND_HISTORY_TABLE HistoryTable);
DECLSPEC_NORETURN
VOID NTAPI RtlUnwind(_In_opt_ PVOID TargetFrame, _In_opt_ PVOID TargetIp,
                     _In_opt_ PEXCEPTION_RECORD ExceptionRecord, _In_ PVOID ReturnValue);

// The base of the image that contains PcValue, also stored at *BaseOfImage; NULL when there is none.
// Any IRQL.
PVOID NTAPI RtlPcToFileHeader(_In_ PVOID PcValue, _Out_ PVOID *BaseOfImage);

// Raises the exception that the record describes; its address becomes the one behind the call.
// Returns when a filter says "continue", unless the record is EXCEPTION_NONCONTINUABLE. Nobody
// handles it: stops the machine with KMODE_EXCEPTION_NOT_HANDLED. IRQL <= DISPATCH_LEVEL.
VOID NTAPI RtlRaiseException(_In_ PEXCEPTION_RECORD ExceptionRecord);

#ifndef __MINGW32__
// The language handler of C: scope tables.
EXCEPTION_DISPOSITION NTAPI __C_specific_handler(PEXCEPTION_RECORD ExceptionRecord,
                                                 PVOID EstablisherFrame,
                                                 struct _CONTEXT *ContextRecord,
                                                 struct _DISPATCHER_CONTEXT *DispatcherContext);
#endif

// Stores the return addresses of the calls that led here, innermost first, FramesToSkip of them left
// out (0: the first is the one in the caller). Returns how many. *BackTraceHash (optional): their sum.
// Any IRQL.
USHORT NTAPI RtlCaptureStackBackTrace(_In_ ULONG FramesToSkip, _In_ ULONG FramesToCapture,
                                      _Out_ PVOID *BackTrace, _Out_opt_ PULONG BackTraceHash);

// The same without skipping: the first is the address of the caller itself. Flags: 0; others (user
// stacks) give none. Any IRQL.
ULONG NTAPI RtlWalkFrameChain(_Out_ PVOID *Callers, _In_ ULONG Count, _In_ ULONG Flags);
