// Trap entries: one stub per vector, one common path, and the probes, whose faults are
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

// Ss Rsp Rflags Cs Rip ErrorCode Vector; the CFA is above Ss.
#define TRAP_ENTRY_BYTES (7 * 8)

    .macro PUSH_REGISTER Name
    pushq %\Name
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset \Name, 0
    .endm

    .macro POP_REGISTER Name
    popq %\Name
    .cfi_adjust_cfa_offset -8
    .cfi_same_value \Name
    .endm

    .type KiTrapCommon, @function
KiTrapCommon:
    .cfi_startproc simple
    .cfi_signal_frame
    .cfi_def_cfa rsp, TRAP_ENTRY_BYTES
    .cfi_offset rip, -40
    .cfi_offset rsp, -16
    PUSH_REGISTER r15
    PUSH_REGISTER r14
    PUSH_REGISTER r13
    PUSH_REGISTER r12
    PUSH_REGISTER r11
    PUSH_REGISTER r10
    PUSH_REGISTER r9
    PUSH_REGISTER r8
    PUSH_REGISTER rbp
    PUSH_REGISTER rdi
    PUSH_REGISTER rsi
    PUSH_REGISTER rdx
    PUSH_REGISTER rcx
    PUSH_REGISTER rbx
    PUSH_REGISTER rax
    movq %cr2, %rax
    pushq %rax
    .cfi_adjust_cfa_offset 8
    movq %rsp, %rdi
    subq $8, %rsp
    .cfi_adjust_cfa_offset 8
    cld
    call KiDispatchTrap
    addq $16, %rsp // the padding and Cr2
    .cfi_adjust_cfa_offset -16
    POP_REGISTER rax
    POP_REGISTER rbx
    POP_REGISTER rcx
    POP_REGISTER rdx
    POP_REGISTER rsi
    POP_REGISTER rdi
    POP_REGISTER rbp
    POP_REGISTER r8
    POP_REGISTER r9
    POP_REGISTER r10
    POP_REGISTER r11
    POP_REGISTER r12
    POP_REGISTER r13
    POP_REGISTER r14
    POP_REGISTER r15
    addq $16, %rsp // Vector and ErrorCode
    .cfi_adjust_cfa_offset -16
    iretq
    .cfi_endproc
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

    .globl KeProbeCopy
    .type KeProbeCopy, @function
KeProbeCopy: // RDI = target, RSI = Va, RDX = bytes
    movq %rdx, %rcx
    shrq $3, %rcx
    .globl KiProbeCopyWords
KiProbeCopyWords:
    rep movsq
    movl %edx, %ecx
    andl $7, %ecx
    .globl KiProbeCopyBytes
KiProbeCopyBytes:
    rep movsb
    xorl %eax, %eax
    xorl %edx, %edx
    ret
    .size KeProbeCopy, . - KeProbeCopy

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
