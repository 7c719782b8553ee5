// The first instructions of every processor but the first: from real mode to C in the higher half.
//
// A processor that gets a STARTUP interrupt begins in real mode at the start of a page below 1 MiB. This
// code is copied there, with what it needs to know behind it (KI_STARTUP_DATA in startup.c). The page
// tables that it begins with show the low 2 MiB at their own address and the kernel at its; the
// kernel's own tables are loaded in C.
//
// EBX holds the physical address of the page from the first to the last instruction.

#define CR0_PE (1 << 0)
#define CR0_WP (1 << 16)
#define CR0_PG (1 << 31)
#define CR4_PAE (1 << 5)
#define CR4_OSFXSR (1 << 9) // whatever stops shows its registers, and so saves them all
#define MSR_EFER 0xC0000080
#define EFER_LME (1 << 8)
#define EFER_NXE (1 << 11)

#define STARTUP_DATA_SELECTOR 0x18 // in KI_STARTUP_DATA.Gdt

// KI_STARTUP_DATA, at the end of the code; asserted there.
#define DATA_GDT_POINTER 0x00
#define DATA_ENTER_32 0x08
#define DATA_ENTER_64 0x10
#define DATA_ROOT 0x18
#define DATA_NUMBER 0x1C
#define DATA_STACK 0x20
#define DATA_ENTRY 0x28

#define IN_PAGE(Symbol) (Symbol - KiStartupCode)
#define DATA(Offset) (KiStartupCodeEnd - KiStartupCode + Offset)

    .section .rodata
    .globl KiStartupCode, KiStartupCode32, KiStartupCode64, KiStartupCodeEnd
    .balign 16
KiStartupCode:
    .code16
    cli
    cld
    movw %cs, %ax
    movw %ax, %ds
    movzwl %ax, %ebx
    shll $4, %ebx
    lgdtl DATA(DATA_GDT_POINTER)
    movl %cr0, %eax
    orl $CR0_PE, %eax
    movl %eax, %cr0
    ljmpl *DATA(DATA_ENTER_32)

    .code32
KiStartupCode32:
    movw $STARTUP_DATA_SELECTOR, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl %cr4, %eax
    orl $(CR4_PAE | CR4_OSFXSR), %eax
    movl %eax, %cr4
    movl DATA(DATA_ROOT)(%ebx), %eax
    movl %eax, %cr3
    movl $MSR_EFER, %ecx
    rdmsr
    orl $(EFER_LME | EFER_NXE), %eax
    wrmsr
    movl %cr0, %eax
    orl $(CR0_PG | CR0_WP), %eax
    movl %eax, %cr0
    ljmpl *DATA(DATA_ENTER_64)(%ebx)

    .code64
KiStartupCode64:
    movl %ebx, %ebx // the upper half is undefined so far
    movq DATA(DATA_STACK)(%rbx), %rsp
    movl DATA(DATA_NUMBER)(%rbx), %edi
    movq DATA(DATA_ENTRY)(%rbx), %rax
    xorl %ebp, %ebp
    pushq %rbp // nobody called
    jmp *%rax
    .balign 16
KiStartupCodeEnd:

    .section .note.GNU-stack, "", @progbits
