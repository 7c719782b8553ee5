// The slow half of a spin lock, called from the middle of code that the compiler believes makes no call
// (KeArchWaitWhileTaken): every register is as before when it returns, whatever the stack's alignment was.

    .text

    .globl KiSaveAllAndWait
    .type KiSaveAllAndWait, @function
KiSaveAllAndWait: // RDI = the lock's word
    .cfi_startproc
    pushq %rbp
    .cfi_def_cfa_offset 16
    .cfi_offset %rbp, -16
    movq %rsp, %rbp
    .cfi_def_cfa_register %rbp
    pushq %rax
    pushq %rcx
    pushq %rdx
    pushq %rsi
    pushq %rdi
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    andq $-16, %rsp
    call KiWaitWhileTaken
    leaq -72(%rbp), %rsp
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rdi
    popq %rsi
    popq %rdx
    popq %rcx
    popq %rax
    popq %rbp
    .cfi_def_cfa %rsp, 8
    ret
    .cfi_endproc
    .size KiSaveAllAndWait, . - KiSaveAllAndWait

    .section .note.GNU-stack, "", @progbits
