// Interrupt entries: one stub per vector from VECTOR_DISPATCH on, and one common path. Shorter than
// the traps' (trap.S), because nobody looks at what was interrupted: only what a called routine may
// change is saved. The rest, xmm6-15 among it, is every routine's duty to preserve, and a thread
// switch's.
//
//    high   Ss Rsp Rflags Cs Rip    pushed by the processor, after it aligned the stack to 16
//           Rbp Vector              pushed by the stub; Rbp points at Rbp, so that a walk of the frames
//                                   goes on with the interrupted code
//           Rax Rcx Rdx Rsi Rdi R8 - R11
//           xmm0 - xmm5             drivers use SSE, also in their interrupt routines
//    low    Mxcsr                   <- the stack is a multiple of 16 here
//
// The routine may switch to another thread and return much later, on another processor: nothing but
// the stack carries state across the call.

#define VECTOR_DISPATCH 0x2F // as in x64.h
#define VECTOR_COUNT 256
#define KI_INTERRUPT_STUB_BYTES 16

#define XMM_BYTES 16
#define MXCSR_OFFSET 0
#define XMM_OFFSET 16
#define SSE_BYTES (XMM_OFFSET + 6 * XMM_BYTES)

    .text

    .balign KI_INTERRUPT_STUB_BYTES
    .globl KiInterruptStubs
KiInterruptStubs:
    .set Vector, VECTOR_DISPATCH
    .rept VECTOR_COUNT - VECTOR_DISPATCH
    .balign KI_INTERRUPT_STUB_BYTES
    pushq %rbp
    movq %rsp, %rbp
    pushq $Vector
    jmp KiInterruptCommon
    .set Vector, Vector + 1
    .endr

    .type KiInterruptCommon, @function
    .globl KiInterruptCommon
    .globl KiInterruptCommonEnd
KiInterruptCommon:
    // For traces only: an exception does not leave an interrupt (frames.c).
    .cfi_startproc simple
    .cfi_signal_frame
    .cfi_def_cfa rbp, 6 * 8
    .cfi_offset rip, -5 * 8
    .cfi_offset rsp, -2 * 8
    .cfi_offset rbp, -6 * 8
    pushq %rax
    pushq %rcx
    pushq %rdx
    pushq %rsi
    pushq %rdi
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    movl 9 * 8(%rsp), %edi // Vector
    movq %rbp, %rsi        // KINTERRUPT_FRAME
    subq $SSE_BYTES, %rsp
    movaps %xmm0, XMM_OFFSET + 0 * XMM_BYTES(%rsp)
    movaps %xmm1, XMM_OFFSET + 1 * XMM_BYTES(%rsp)
    movaps %xmm2, XMM_OFFSET + 2 * XMM_BYTES(%rsp)
    movaps %xmm3, XMM_OFFSET + 3 * XMM_BYTES(%rsp)
    movaps %xmm4, XMM_OFFSET + 4 * XMM_BYTES(%rsp)
    movaps %xmm5, XMM_OFFSET + 5 * XMM_BYTES(%rsp)
    stmxcsr MXCSR_OFFSET(%rsp)
    ldmxcsr KiInitialMxcsr(%rip) // not with the rounding, or the exceptions, of whoever ran
    cld
    call KiRunInterrupt
    ldmxcsr MXCSR_OFFSET(%rsp)
    movaps XMM_OFFSET + 0 * XMM_BYTES(%rsp), %xmm0
    movaps XMM_OFFSET + 1 * XMM_BYTES(%rsp), %xmm1
    movaps XMM_OFFSET + 2 * XMM_BYTES(%rsp), %xmm2
    movaps XMM_OFFSET + 3 * XMM_BYTES(%rsp), %xmm3
    movaps XMM_OFFSET + 4 * XMM_BYTES(%rsp), %xmm4
    movaps XMM_OFFSET + 5 * XMM_BYTES(%rsp), %xmm5
    addq $SSE_BYTES, %rsp
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rdi
    popq %rsi
    popq %rdx
    popq %rcx
    popq %rax
    addq $8, %rsp // Vector
    popq %rbp
    .cfi_def_cfa rsp, 5 * 8
    .cfi_same_value rbp
    iretq
    .cfi_endproc
KiInterruptCommonEnd:
    .size KiInterruptCommon, . - KiInterruptCommon

    .section .rodata
    .balign 4
KiInitialMxcsr:
    .long 0x1F80 // all exceptions masked, round to nearest

    .section .note.GNU-stack, "", @progbits
