// The switch from one thread to another.
//
// KeArchSwitchStack is called like any routine, so only what a call preserves must be saved: of the
// kernel's convention rbx, rbp and r12-r15; of the drivers' besides xmm6-xmm15 and MXCSR, which the
// kernel never touches and which are therefore still the driver's. (rdi and rsi are saved by the
// routines that stand between the two conventions.) What an interrupt must save beyond that is in the
// interrupt's frame.
//
//    high   return address
//           rbp rbx r12 r13 r14 r15
//           8 bytes of padding, MXCSR in the lower half
//    low    xmm6 .. xmm15           <- KTHREAD.StackPointer, a multiple of 16

#define THREAD_STACK_POINTER 0x18 // KTHREAD.StackPointer, asserted in ps.h
#define XMM_BYTES (10 * 16)

    .text

    .globl KeArchSwitchStack
    .type KeArchSwitchStack, @function
KeArchSwitchStack: // RDI = from, RSI = to
    .cfi_startproc
    pushq %rbp
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbp, 0
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbx, 0
    pushq %r12
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r12, 0
    pushq %r13
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r13, 0
    pushq %r14
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r14, 0
    pushq %r15
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r15, 0
    subq $(XMM_BYTES + 8), %rsp
    .cfi_adjust_cfa_offset XMM_BYTES + 8
    movaps %xmm6, 0x00(%rsp)
    movaps %xmm7, 0x10(%rsp)
    movaps %xmm8, 0x20(%rsp)
    movaps %xmm9, 0x30(%rsp)
    movaps %xmm10, 0x40(%rsp)
    movaps %xmm11, 0x50(%rsp)
    movaps %xmm12, 0x60(%rsp)
    movaps %xmm13, 0x70(%rsp)
    movaps %xmm14, 0x80(%rsp)
    movaps %xmm15, 0x90(%rsp)
    stmxcsr XMM_BYTES(%rsp)

    movq %rsp, THREAD_STACK_POINTER(%rdi)
    movq THREAD_STACK_POINTER(%rsi), %rsp

    ldmxcsr XMM_BYTES(%rsp)
    movaps 0x00(%rsp), %xmm6
    movaps 0x10(%rsp), %xmm7
    movaps 0x20(%rsp), %xmm8
    movaps 0x30(%rsp), %xmm9
    movaps 0x40(%rsp), %xmm10
    movaps 0x50(%rsp), %xmm11
    movaps 0x60(%rsp), %xmm12
    movaps 0x70(%rsp), %xmm13
    movaps 0x80(%rsp), %xmm14
    movaps 0x90(%rsp), %xmm15
    addq $(XMM_BYTES + 8), %rsp
    .cfi_adjust_cfa_offset -(XMM_BYTES + 8)
    popq %r15
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r15
    popq %r14
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r14
    popq %r13
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r13
    popq %r12
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r12
    popq %rbx
    .cfi_adjust_cfa_offset -8
    .cfi_restore %rbx
    popq %rbp
    .cfi_adjust_cfa_offset -8
    .cfi_restore %rbp
    ret
    .cfi_endproc
    .size KeArchSwitchStack, . - KeArchSwitchStack

// Where a new thread begins: rbp is 0 and nobody called, so that every walk of the stack ends here.
    .globl KiThreadBottom
    .type KiThreadBottom, @function
KiThreadBottom:
    .cfi_startproc
    .cfi_undefined %rip
    xorl %ebp, %ebp
    call KiStartThread
    ud2
    .cfi_endproc
    .size KiThreadBottom, . - KiThreadBottom

    .section .note.GNU-stack, "", @progbits
