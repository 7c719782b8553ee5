// The registers as a CONTEXT (sehddk.h), to and from; and the calls of language handlers, by frames
// that a walk recognises.
//
// Everything here is NTAPI, or called with the first argument in RCX: see the labels.

// Offsets in a CONTEXT; seh.c compares them with the structure.
#define CONTEXT_ContextFlags 0x30
#define CONTEXT_MxCsr 0x34
#define CONTEXT_SegCs 0x38
#define CONTEXT_SegDs 0x3A
#define CONTEXT_SegEs 0x3C
#define CONTEXT_SegFs 0x3E
#define CONTEXT_SegGs 0x40
#define CONTEXT_SegSs 0x42
#define CONTEXT_EFlags 0x44
#define CONTEXT_Rax 0x78
#define CONTEXT_Rcx 0x80
#define CONTEXT_Rdx 0x88
#define CONTEXT_Rbx 0x90
#define CONTEXT_Rsp 0x98
#define CONTEXT_Rbp 0xA0
#define CONTEXT_Rsi 0xA8
#define CONTEXT_Rdi 0xB0
#define CONTEXT_R8 0xB8
#define CONTEXT_R9 0xC0
#define CONTEXT_R10 0xC8
#define CONTEXT_R11 0xD0
#define CONTEXT_R12 0xD8
#define CONTEXT_R13 0xE0
#define CONTEXT_R14 0xE8
#define CONTEXT_R15 0xF0
#define CONTEXT_Rip 0xF8
#define CONTEXT_FltSave 0x100
#define CONTEXT_Xmm0 0x1A0

#define CONTEXT_FULL_AND_SEGMENTS 0x10000F
#define XMM_BYTES 16
#define SELECTOR_KERNEL_CODE 0x08
#define SELECTOR_KERNEL_DATA 0x10

    .text

// VOID NTAPI RtlCaptureContext(PCONTEXT Context): the registers of the caller behind the call.
    .globl RtlCaptureContext
    .type RtlCaptureContext, @function
RtlCaptureContext:
    .cfi_startproc
    pushfq
    .cfi_adjust_cfa_offset 8
    movq %rax, CONTEXT_Rax(%rcx)
    movq %rcx, CONTEXT_Rcx(%rcx)
    movq %rdx, CONTEXT_Rdx(%rcx)
    movq %rbx, CONTEXT_Rbx(%rcx)
    movq %rbp, CONTEXT_Rbp(%rcx)
    movq %rsi, CONTEXT_Rsi(%rcx)
    movq %rdi, CONTEXT_Rdi(%rcx)
    movq %r8, CONTEXT_R8(%rcx)
    movq %r9, CONTEXT_R9(%rcx)
    movq %r10, CONTEXT_R10(%rcx)
    movq %r11, CONTEXT_R11(%rcx)
    movq %r12, CONTEXT_R12(%rcx)
    movq %r13, CONTEXT_R13(%rcx)
    movq %r14, CONTEXT_R14(%rcx)
    movq %r15, CONTEXT_R15(%rcx)
    leaq 16(%rsp), %rax // behind the flags and the return address
    movq %rax, CONTEXT_Rsp(%rcx)
    movq 8(%rsp), %rax
    movq %rax, CONTEXT_Rip(%rcx)
    movl (%rsp), %eax
    movl %eax, CONTEXT_EFlags(%rcx)
    movl $CONTEXT_FULL_AND_SEGMENTS, CONTEXT_ContextFlags(%rcx)
    movw %cs, CONTEXT_SegCs(%rcx)
    movw %ds, CONTEXT_SegDs(%rcx)
    movw %es, CONTEXT_SegEs(%rcx)
    movw %fs, CONTEXT_SegFs(%rcx)
    movw %gs, CONTEXT_SegGs(%rcx)
    movw %ss, CONTEXT_SegSs(%rcx)
    fxsave CONTEXT_FltSave(%rcx) // xmm0 to xmm15 among it
    stmxcsr CONTEXT_MxCsr(%rcx)
    movq CONTEXT_Rax(%rcx), %rax
    addq $8, %rsp
    .cfi_adjust_cfa_offset -8
    ret
    .cfi_endproc
    .size RtlCaptureContext, . - RtlCaptureContext

// VOID KiRestoreContext(const CONTEXT *Context), in RDI: goes on where the registers say. By an
// interrupt return, which needs no register of its own; what it pops is pushed below this frame, so the
// context may lie anywhere above it.
    .globl KiRestoreContext
    .type KiRestoreContext, @function
KiRestoreContext:
    .cfi_startproc
    movq %rdi, %rcx
    ldmxcsr CONTEXT_MxCsr(%rcx)
    movaps CONTEXT_Xmm0 + 0 * XMM_BYTES(%rcx), %xmm0
    movaps CONTEXT_Xmm0 + 1 * XMM_BYTES(%rcx), %xmm1
    movaps CONTEXT_Xmm0 + 2 * XMM_BYTES(%rcx), %xmm2
    movaps CONTEXT_Xmm0 + 3 * XMM_BYTES(%rcx), %xmm3
    movaps CONTEXT_Xmm0 + 4 * XMM_BYTES(%rcx), %xmm4
    movaps CONTEXT_Xmm0 + 5 * XMM_BYTES(%rcx), %xmm5
    movaps CONTEXT_Xmm0 + 6 * XMM_BYTES(%rcx), %xmm6
    movaps CONTEXT_Xmm0 + 7 * XMM_BYTES(%rcx), %xmm7
    movaps CONTEXT_Xmm0 + 8 * XMM_BYTES(%rcx), %xmm8
    movaps CONTEXT_Xmm0 + 9 * XMM_BYTES(%rcx), %xmm9
    movaps CONTEXT_Xmm0 + 10 * XMM_BYTES(%rcx), %xmm10
    movaps CONTEXT_Xmm0 + 11 * XMM_BYTES(%rcx), %xmm11
    movaps CONTEXT_Xmm0 + 12 * XMM_BYTES(%rcx), %xmm12
    movaps CONTEXT_Xmm0 + 13 * XMM_BYTES(%rcx), %xmm13
    movaps CONTEXT_Xmm0 + 14 * XMM_BYTES(%rcx), %xmm14
    movaps CONTEXT_Xmm0 + 15 * XMM_BYTES(%rcx), %xmm15
    pushq $SELECTOR_KERNEL_DATA
    .cfi_adjust_cfa_offset 8
    pushq CONTEXT_Rsp(%rcx)
    .cfi_adjust_cfa_offset 8
    movl CONTEXT_EFlags(%rcx), %eax
    pushq %rax
    .cfi_adjust_cfa_offset 8
    pushq $SELECTOR_KERNEL_CODE
    .cfi_adjust_cfa_offset 8
    pushq CONTEXT_Rip(%rcx)
    .cfi_adjust_cfa_offset 8
    movq CONTEXT_Rax(%rcx), %rax
    movq CONTEXT_Rdx(%rcx), %rdx
    movq CONTEXT_Rbx(%rcx), %rbx
    movq CONTEXT_Rbp(%rcx), %rbp
    movq CONTEXT_Rsi(%rcx), %rsi
    movq CONTEXT_Rdi(%rcx), %rdi
    movq CONTEXT_R8(%rcx), %r8
    movq CONTEXT_R9(%rcx), %r9
    movq CONTEXT_R10(%rcx), %r10
    movq CONTEXT_R11(%rcx), %r11
    movq CONTEXT_R12(%rcx), %r12
    movq CONTEXT_R13(%rcx), %r13
    movq CONTEXT_R14(%rcx), %r14
    movq CONTEXT_R15(%rcx), %r15
    movq CONTEXT_Rcx(%rcx), %rcx
    iretq
    .cfi_endproc
    .size KiRestoreContext, . - KiRestoreContext

// EXCEPTION_DISPOSITION NTAPI KiCallHandler...(PEXCEPTION_RECORD, PVOID EstablisherFrame, PCONTEXT,
// PDISPATCHER_CONTEXT): calls the language handler. Two of them, so that a walk that comes by, because
// of an exception in the handler, can tell what the call was for, and find the dispatcher context
// above the four words that are the callee's.
#define DISPATCHER_LanguageHandler 0x30
#define DISPATCHER_SLOT 0x20
#define HANDLER_FRAME_BYTES 0x28

    .macro DEFINE_HANDLER_CALL Name
    .globl \Name
    .globl \Name\()Return
    .type \Name, @function
\Name:
    .cfi_startproc
    subq $HANDLER_FRAME_BYTES, %rsp
    .cfi_adjust_cfa_offset HANDLER_FRAME_BYTES
    movq %r9, DISPATCHER_SLOT(%rsp)
    callq *DISPATCHER_LanguageHandler(%r9)
\Name\()Return:
    addq $HANDLER_FRAME_BYTES, %rsp
    .cfi_adjust_cfa_offset -HANDLER_FRAME_BYTES
    ret
    .cfi_endproc
    .size \Name, . - \Name
    .endm

    DEFINE_HANDLER_CALL KiCallHandlerForException
    DEFINE_HANDLER_CALL KiCallHandlerForUnwind

    .section .note.GNU-stack, "", @progbits
