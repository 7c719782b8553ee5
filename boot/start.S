// The first instructions: from GRUB's 32-bit protected mode to C in the higher half.
//
// GRUB (multiboot2) enters LoaderEntry on BIOS and on EFI machines alike: 32-bit protected mode,
// paging off, interrupts off, EAX = magic, EBX = physical address of its information. Everything
// else is undefined; EFI, for one, leaves some bits of CR4 set, so control registers are changed
// bit by bit and never assigned whole.
//
// The boot page tables map the low 4 GiB three times, with pages of 2 MiB, writable and executable:
//
//   virtual               physical
//   0x0                   0 .. 4 GiB    what runs while paging is switched on
//   0xFFFF800000000000    0 .. 4 GiB    the direct map, where mm expects it
//   0xFFFFFFFF80000000    0 .. 2 GiB    the kernel image
//
// MmInitSystem replaces them. The boot stack stays the stack of the first processor.

#define MULTIBOOT2_HEADER_MAGIC 0xE85250D6
#define MULTIBOOT2_ARCHITECTURE_I386 0

#define HEADER_TAG_END 0
#define HEADER_TAG_INFORMATION_REQUEST 1
#define HEADER_TAG_MODULE_ALIGNMENT 6
#define HEADER_TAG_OPTIONAL 1

#define INFORMATION_COMMAND_LINE 1
#define INFORMATION_MODULE 3
#define INFORMATION_MEMORY_MAP 6
#define INFORMATION_FRAMEBUFFER 8
#define INFORMATION_ELF_SECTIONS 9
#define INFORMATION_ACPI_OLD 14
#define INFORMATION_ACPI_NEW 15

#define KERNEL_VIRTUAL_BASE 0xFFFFFFFF80000000
#define PHYSICAL(Symbol) ((Symbol) - KERNEL_VIRTUAL_BASE)

#define PAGE_BYTES 0x1000
#define LARGE_PAGE_BYTES 0x200000
#define PTE_BYTES 8
#define PTES_PER_TABLE 512
#define PTE_PRESENT_WRITABLE 0x3
#define PTE_LARGE 0x80

#define MAPPED_GIB 4
#define DIRECT_MAP_PML4_SLOT 256
#define KERNEL_PML4_SLOT 511
#define KERNEL_PDPT_SLOT 510

#define CR0_PG (1 << 31)
#define CR4_PAE (1 << 5)
#define CR4_OSFXSR (1 << 9) // whatever stops shows its registers, and so saves them all
#define MSR_EFER 0xC0000080
#define EFER_LME (1 << 8)
#define EFER_NXE (1 << 11)
#define EFLAGS_ID (1 << 21)

#define CPUID_HIGHEST_EXTENDED 0x80000000
#define CPUID_EXTENDED_FEATURES 0x80000001
#define FEATURE_NX_BIT 20
#define FEATURE_LONG_MODE_BIT 29

#define BOOT_CODE32 0x08
#define BOOT_CODE64 0x10
#define BOOT_DATA 0x18
#define BOOT_STACK_BYTES 0x10000

#define COM1 0x3F8
#define COM1_LINE_STATUS (COM1 + 5)
#define LINE_STATUS_SENT 0x60 // transmitter holding and shift register empty
#define EXIT_PORT 0xF4
#define EXIT_CODE_FAILED 0x11 // KeExitFailed

// -------------------------------------------------------------------------------------------------
// Multiboot2 header: within the first 32 KiB of the file, 8-byte aligned, as is every tag.

    .section .boot.header, "a"
    .balign 8
Header:
    .long MULTIBOOT2_HEADER_MAGIC, MULTIBOOT2_ARCHITECTURE_I386, HeaderEnd - Header
    .long -(MULTIBOOT2_HEADER_MAGIC + MULTIBOOT2_ARCHITECTURE_I386 + (HeaderEnd - Header))
RequiredTag:
    .short HEADER_TAG_INFORMATION_REQUEST, 0
    .long RequiredTagEnd - RequiredTag
    .long INFORMATION_MEMORY_MAP
RequiredTagEnd:
    .balign 8
OptionalTag:
    .short HEADER_TAG_INFORMATION_REQUEST, HEADER_TAG_OPTIONAL
    .long OptionalTagEnd - OptionalTag
    .long INFORMATION_COMMAND_LINE, INFORMATION_MODULE, INFORMATION_FRAMEBUFFER
    .long INFORMATION_ELF_SECTIONS, INFORMATION_ACPI_OLD, INFORMATION_ACPI_NEW
OptionalTagEnd:
    .balign 8
    .short HEADER_TAG_MODULE_ALIGNMENT, 0
    .long 8
    .short HEADER_TAG_END, 0
    .long 8
HeaderEnd:

// -------------------------------------------------------------------------------------------------
// 32-bit code. EBP holds the magic and EBX the information from the first to the last instruction.

    .section .boot, "ax"
    .code32
    .globl LoaderEntry
LoaderEntry:
    cli
    cld
    movl %eax, %ebp
    movl $PHYSICAL(BootStackTop), %esp
    call InitializeSerialPort
    call RequireLongMode
    call BuildPageTables
    call EnableLongMode
    lgdt PHYSICAL(BootGdtPointer)
    ljmpl $BOOT_CODE64, $PHYSICAL(EnterHigherHalf)

// 115200 baud, 8 bits, no parity, no interrupts: for the messages of boot code, until
// KdInitializeConsole.
InitializeSerialPort:
    movl $PHYSICAL(SerialPortSettings), %esi
NextSetting:
    movw (%esi), %dx
    movb 2(%esi), %al
    outb %al, %dx
    addl $4, %esi
    cmpl $PHYSICAL(SerialPortSettingsEnd), %esi
    jb NextSetting
    ret

// Returns only on a processor with long mode. A processor without CPUID cannot change EFLAGS.ID.
RequireLongMode:
    pushfl
    popl %eax
    movl %eax, %ecx
    xorl $EFLAGS_ID, %eax
    pushl %eax
    popfl
    pushfl
    popl %eax
    cmpl %ecx, %eax
    je NoLongMode
    pushl %ebx
    movl $CPUID_HIGHEST_EXTENDED, %eax
    cpuid
    xorl %edx, %edx
    cmpl $CPUID_EXTENDED_FEATURES, %eax
    jb FeaturesKnown
    movl $CPUID_EXTENDED_FEATURES, %eax
    cpuid
FeaturesKnown:
    popl %ebx
    btl $FEATURE_LONG_MODE_BIT, %edx
    jnc NoLongMode
    movl %edx, PHYSICAL(ExtendedFeatures)
    ret

NoLongMode:
    movl $PHYSICAL(NoLongModeText), %esi
NextCharacter:
    movw $COM1_LINE_STATUS, %dx
    movl $0x100000, %ecx // polls; without a serial port the loop still ends
WaitSent:
    inb %dx, %al
    andb $LINE_STATUS_SENT, %al
    cmpb $LINE_STATUS_SENT, %al
    loopne WaitSent
    lodsb
    testb %al, %al
    jz LeaveMachine
    movw $COM1, %dx
    outb %al, %dx
    jmp NextCharacter
LeaveMachine:
    movb $EXIT_CODE_FAILED, %al
    outb %al, $EXIT_PORT
Halt:
    hlt
    jmp Halt

// Four page directories with 4 GiB in a row, one table above them shared by the identity and the
// direct map, and one that shows the first two directories at the kernel's place. The tables are
// zero so far, as all of .bss.
BuildPageTables:
    movl $PHYSICAL(BootDirectories), %edi
    movl $(PTE_LARGE | PTE_PRESENT_WRITABLE), %eax
    movl $(MAPPED_GIB * PTES_PER_TABLE), %ecx
NextLargePage:
    movl %eax, (%edi)
    addl $LARGE_PAGE_BYTES, %eax
    addl $PTE_BYTES, %edi
    loop NextLargePage

    movl $PHYSICAL(BootLowPdpt), %edi
    movl $(PHYSICAL(BootDirectories) + PTE_PRESENT_WRITABLE), %eax
    movl $MAPPED_GIB, %ecx
NextDirectory:
    movl %eax, (%edi)
    addl $PAGE_BYTES, %eax
    addl $PTE_BYTES, %edi
    loop NextDirectory

    movl $PHYSICAL(BootHighPdpt) + KERNEL_PDPT_SLOT * PTE_BYTES, %edi
    movl $(PHYSICAL(BootDirectories) + PTE_PRESENT_WRITABLE), (%edi)
    movl $(PHYSICAL(BootDirectories) + PAGE_BYTES + PTE_PRESENT_WRITABLE), PTE_BYTES(%edi)

    movl $PHYSICAL(BootPml4), %edi
    movl $(PHYSICAL(BootLowPdpt) + PTE_PRESENT_WRITABLE), (%edi)
    movl $(PHYSICAL(BootLowPdpt) + PTE_PRESENT_WRITABLE), DIRECT_MAP_PML4_SLOT * PTE_BYTES(%edi)
    movl $(PHYSICAL(BootHighPdpt) + PTE_PRESENT_WRITABLE), KERNEL_PML4_SLOT * PTE_BYTES(%edi)
    ret

// Paging goes on; the processor runs in compatibility mode until the far jump.
EnableLongMode:
    movl %cr4, %eax
    orl $(CR4_PAE | CR4_OSFXSR), %eax
    movl %eax, %cr4
    movl $PHYSICAL(BootPml4), %eax
    movl %eax, %cr3
    movl $MSR_EFER, %ecx
    rdmsr
    orl $EFER_LME, %eax
    btl $FEATURE_NX_BIT, PHYSICAL(ExtendedFeatures)
    jnc WriteEfer
    orl $EFER_NXE, %eax
WriteEfer:
    wrmsr
    movl %cr0, %eax
    orl $CR0_PG, %eax
    movl %eax, %cr0
    ret

    .code64
EnterHigherHalf:
    movabsq $RunHigh, %rax
    jmp *%rax
RunHigh:
    movl $BOOT_DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    movq $BootStackTop, %rsp
    movl %ebp, %edi // first argument: the magic
    movl %ebx, %esi // second: the information
    xorl %ebp, %ebp // a stack trace ends here
    call LoaderHandoff
    ud2

// -------------------------------------------------------------------------------------------------
// Data of the boot code. It lies in its writable-by-physical-address section, so that 32-bit code
// reaches it.

    .balign 8
BootGdt:
    .quad 0
    .quad 0x00CF9A000000FFFF // BOOT_CODE32
    .quad 0x00AF9A000000FFFF // BOOT_CODE64
    .quad 0x00CF92000000FFFF // BOOT_DATA
BootGdtEnd:
BootGdtPointer:
    .short BootGdtEnd - BootGdt - 1
    .long PHYSICAL(BootGdt)

    .balign 4
ExtendedFeatures:
    .long 0

// Rows of {port, value}: divisor latch on, divisor 1, latch off and 8N1, FIFOs on, DTR|RTS.
SerialPortSettings:
    .short COM1 + 1, 0x00
    .short COM1 + 3, 0x80
    .short COM1 + 0, 0x01
    .short COM1 + 1, 0x00
    .short COM1 + 3, 0x03
    .short COM1 + 2, 0xC7
    .short COM1 + 4, 0x03
SerialPortSettingsEnd:

NoLongModeText:
    .asciz "IoSpace cannot start: this processor has no 64-bit mode.\r\n"

    .section .stack, "aw", @nobits
    .balign PAGE_BYTES
    .skip BOOT_STACK_BYTES
BootStackTop:

    .bss
    .balign PAGE_BYTES
BootPml4:
    .skip PAGE_BYTES
BootLowPdpt:
    .skip PAGE_BYTES
BootHighPdpt:
    .skip PAGE_BYTES
BootDirectories:
    .skip PAGE_BYTES * MAPPED_GIB

    .section .note.GNU-stack, "", @progbits
