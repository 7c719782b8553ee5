// Trap entries: one stub per vector, one common path, and the three probes whose faults are
// expected.
//
// A stub makes the stack look the same for all vectors (a zero where the processor pushes no error
// code), then KiTrapCommon completes a KTRAP_FRAME (x64.h) and calls KiDispatchTrap(Frame):
//
//    high   Ss Rsp Rflags Cs Rip    pushed by the processor, after it aligned the stack to 16
//           ErrorCode Vector        pushed by the processor or the stub, and by the stub
//           R15 .. Rax              pushed here
//    low    Cr2                     <- Frame. 23 words, so 8 more bytes align the stack for the
//    call.
//
// The kernel uses no swapgs: there is no user mode, and gs always holds the processor's KPCR.

#define EXCEPTIONS_WITH_ERROR_CODE 0x60227D00 // vectors 8, 10-14, 17, 21, 29, 30
#define KI_TRAP_STUB_BYTES 16
#define TRAP_COUNT 0x2F // interrupts follow: interrupt.S

    .text

    .balign KI_TRAP_STUB_BYTES
    .globl KiTrapStubs
KiTrapStubs:
    .set Vector, 0
    .rept TRAP_COUNT
    .balign KI_TRAP_STUB_BYTES
    .if Vector >= 32 || ((EXCEPTIONS_WITH_ERROR_CODE >> (Vector & 31)) & 1) == 0
    pushq $0
    .endif
    pushq $Vector
    jmp KiTrapCommon
    .set Vector, Vector + 1
    .endr

    .type KiTrapCommon, @function
KiTrapCommon:
    pushq %r15
    pushq %r14
    pushq %r13
    pushq %r12
    pushq %r11
    pushq %r10
    pushq %r9
    pushq %r8
    pushq %rbp
    pushq %rdi
    pushq %rsi
    pushq %rdx
    pushq %rcx
    pushq %rbx
    pushq %rax
    movq %cr2, %rax
    pushq %rax
    movq %rsp, %rdi
    subq $8, %rsp
    cld
    call KiDispatchTrap
    addq $16, %rsp // the padding and Cr2
    popq %rax
    popq %rbx
    popq %rcx
    popq %rdx
    popq %rsi
    popq %rdi
    popq %rbp
    popq %r8
    popq %r9
    popq %r10
    popq %r11
    popq %r12
    popq %r13
    popq %r14
    popq %r15
    addq $16, %rsp // Vector and ErrorCode
    iretq
    .size KiTrapCommon, . - KiTrapCommon

// Loads the selectors of the new descriptor table. CS can only be changed by a far return.
#define SELECTOR_KERNEL_CODE 0x08
#define SELECTOR_KERNEL_DATA 0x10
    .globl KiLoadSegments
    .type KiLoadSegments, @function
KiLoadSegments:
    movl $SELECTOR_KERNEL_DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    popq %rax
    pushq $SELECTOR_KERNEL_CODE
    pushq %rax
    lretq
    .size KiLoadSegments, . - KiLoadSegments

// -------------------------------------------------------------------------------------------------
// Probes. KE_PROBE_RESULT has 16 bytes, so it comes back in RAX and RDX: all zero means "no fault".
// After a fault KiFixUpProbe (trap.c) fills the two registers and goes on at the landing.

    .globl KeProbeRead
    .type KeProbeRead, @function
KeProbeRead: // RDI = Va, RSI = where the value goes
    .globl KiProbeReadAccess
KiProbeReadAccess:
    movq (%rdi), %rcx
    movq %rcx, (%rsi)
    xorl %eax, %eax
    xorl %edx, %edx
    ret
    .size KeProbeRead, . - KeProbeRead

    .globl KeProbeWrite
    .type KeProbeWrite, @function
KeProbeWrite: // RDI = Va, SIL = value
    .globl KiProbeWriteAccess
KiProbeWriteAccess:
    movb %sil, (%rdi)
    xorl %eax, %eax
    xorl %edx, %edx
    .globl KiProbeLanding
KiProbeLanding:
    ret
    .size KeProbeWrite, . - KeProbeWrite

    .globl KeProbeExecute
    .type KeProbeExecute, @function
KeProbeExecute: // RDI = Va
    subq $8, %rsp
    .globl KiProbeExecuteCall
KiProbeExecuteCall:
    call *%rdi
    .globl KiProbeExecuteReturn
KiProbeExecuteReturn:
    xorl %eax, %eax
    xorl %edx, %edx
    .globl KiProbeExecuteLanding
KiProbeExecuteLanding:
    addq $8, %rsp
    ret
    .size KeProbeExecute, . - KeProbeExecute

    .section .note.GNU-stack, "", @progbits
