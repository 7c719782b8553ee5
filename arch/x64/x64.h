// The x64 processor: registers, their bits, model-specific registers, the trap frame. Private to
// arch/x64.
#pragma once

#include <ntdef.h>
#include <wdm.h>

#include "kernel/inc/kearch.h"

// Control registers. Only bits that CPUID announces may be set in CR4: a reserved one faults (under
// QEMU it hangs).
#define CR0_WP (1ull << 16)
#define CR0_NW (1ull << 29)
#define CR0_CD (1ull << 30)
#define CR0_MP (1ull << 1)
#define CR0_EM (1ull << 2)
#define CR0_TS (1ull << 3)
#define CR0_NE (1ull << 5)
#define CR4_MCE (1ull << 6)
#define CR4_PGE (1ull << 7)
#define CR4_OSFXSR (1ull << 9)
#define CR4_OSXMMEXCPT (1ull << 10)
#define CR4_UMIP (1ull << 11)
#define CR4_SMEP (1ull << 20)
#define CR4_SMAP (1ull << 21)
#define CR4_PKS (1ull << 24)

#define MXCSR_ALL_MASKED 0x1F80 // no SSE exception is raised; round to nearest

#define RFLAGS_IF (1ull << 9)

// Model-specific registers.
#define MSR_APIC_BASE 0x0000001B
#define MSR_TSC_DEADLINE 0x000006E0
#define MSR_X2APIC_FIRST 0x00000800
#define MSR_PAT 0x00000277
#define MSR_EFER 0xC0000080
#define MSR_GS_BASE 0xC0000101
#define MSR_PKRS 0x000006E1
#define EFER_NXE (1ull << 11)

// CPUID leaves and the bits that the kernel looks at.
#define CPUID_FEATURES 0x00000001
#define CPUID_1_EDX_MCE (1u << 7)
#define CPUID_1_ECX_SSE3 (1u << 0)
#define CPUID_1_ECX_CX16 (1u << 13)
#define CPUID_1_ECX_X2APIC (1u << 21)
#define CPUID_1_ECX_TSC_DEADLINE (1u << 24)
#define CPUID_1_EDX_APIC (1u << 9)
#define CPUID_1_EDX_MTRR (1u << 12)
#define CPUID_1_EDX_PGE (1u << 13)
#define CPUID_1_EDX_PAT (1u << 16)
#define CPUID_1_EDX_CLFSH (1u << 19)
#define CPUID_EXTENDED_FEATURES 0x00000007
#define CPUID_7_EBX_SMEP (1u << 7)
#define CPUID_7_EBX_INVPCID (1u << 10)
#define CPUID_7_EBX_SMAP (1u << 20)
#define CPUID_7_ECX_UMIP (1u << 2)
#define CPUID_7_ECX_PKS (1u << 31)
#define CPUID_TSC_CRYSTAL 0x00000015
#define CPUID_MAXIMUM_EXTENDED 0x80000000
#define CPUID_EXT_FEATURES 0x80000001
#define CPUID_EXT1_EDX_NX (1u << 20)
#define CPUID_EXT1_EDX_PAGE1G (1u << 26)
#define CPUID_BRAND 0x80000002
#define CPUID_POWER 0x80000007
#define CPUID_EXT7_EDX_INVARIANT_TSC (1u << 8)
#define CPUID_ADDRESS_SIZES 0x80000008

// Segment selectors; the order of the table in gdt.c.
#define SELECTOR_KERNEL_CODE 0x08
#define SELECTOR_KERNEL_DATA 0x10
#define SELECTOR_TSS 0x18

// Exceptions of the processor have vectors 0-31.
#define EXCEPTION_COUNT 32
#define VECTOR_COUNT 256
#define VECTOR_DIVIDE 0
#define VECTOR_DEBUG 1
#define VECTOR_NMI 2
#define VECTOR_BREAKPOINT 3
#define VECTOR_INVALID_OPCODE 6
#define VECTOR_DOUBLE_FAULT 8
#define VECTOR_STACK_FAULT 12
#define VECTOR_GENERAL_PROTECTION 13
#define VECTOR_PAGE_FAULT 14
#define VECTOR_ALIGNMENT 17
#define VECTOR_MACHINE_CHECK 18
#define VECTOR_ASSERTION 0x2C // the software interrupt of NT_ASSERT in drivers

// Interrupts: from here on. The upper four bits of a vector are its IRQL.
#define VECTOR_DISPATCH 0x2F
#define VECTOR_CLOCK 0xD1
#define VECTOR_IPI 0xE1
#define VECTOR_PIC_BASE 0xF0 // the 8259 pair: masked, so that only its spurious interrupts can come
#define VECTOR_SPURIOUS 0xFF // of the local APIC

// Stacks of the interrupt stack table, 1-based; 0 means "stay on the current stack".
typedef enum _KI_IST {
    KiIstNone,
    KiIstDoubleFault,
    KiIstNmi,
    KiIstMachineCheck,
    KiIstDebug,
    KiIstCount,
} KI_IST;

#define KI_IST_STACK_BYTES 0x4000

// The protection key of execute-only pages: with PKS, data accesses through it fault. See mm/pte.c.
#define PKEY_EXECUTE_ONLY 1

// Page-fault error code.
#define PF_PRESENT (1ull << 0)
#define PF_WRITE (1ull << 1)
#define PF_USER (1ull << 2)
#define PF_RESERVED (1ull << 3)
#define PF_FETCH (1ull << 4)
#define PF_PROTECTION_KEY (1ull << 5)

// What trap.S leaves on the stack, lowest address first.
typedef struct _KTRAP_FRAME {
    ULONG64 Cr2;
    ULONG64 Rax, Rbx, Rcx, Rdx, Rsi, Rdi, Rbp;
    ULONG64 R8, R9, R10, R11, R12, R13, R14, R15;
    ULONG64 Vector;
    ULONG64 ErrorCode;
    ULONG64 Rip, Cs, Rflags, Rsp, Ss;
} KTRAP_FRAME, *PKTRAP_FRAME;

C_ASSERT(sizeof(KTRAP_FRAME) == 23 * 8);
C_ASSERT(sizeof(KTRAP_FRAME) % 16 == 8); // trap.S relies on this to align the stack

static inline ULONG64 X64ReadCr0(VOID)
{
    ULONG64 Value;
    __asm__ volatile("mov %%cr0, %0" : "=r"(Value));
    return Value;
}

static inline VOID X64WriteCr0(ULONG64 Value)
{
    __asm__ volatile("mov %0, %%cr0" : : "r"(Value) : "memory");
}

static inline ULONG64 X64ReadCr2(VOID)
{
    ULONG64 Value;
    __asm__ volatile("mov %%cr2, %0" : "=r"(Value));
    return Value;
}

static inline ULONG64 X64ReadCr3(VOID)
{
    ULONG64 Value;
    __asm__ volatile("mov %%cr3, %0" : "=r"(Value));
    return Value;
}

static inline VOID X64WriteCr3(ULONG64 Value)
{
    __asm__ volatile("mov %0, %%cr3" : : "r"(Value) : "memory");
}

static inline ULONG64 X64ReadCr4(VOID)
{
    ULONG64 Value;
    __asm__ volatile("mov %%cr4, %0" : "=r"(Value));
    return Value;
}

static inline VOID X64WriteCr4(ULONG64 Value)
{
    __asm__ volatile("mov %0, %%cr4" : : "r"(Value) : "memory");
}

static inline ULONG64 X64ReadFlags(VOID)
{
    ULONG64 Value;
    __asm__ volatile("pushfq; pop %0" : "=r"(Value) : : "memory");
    return Value;
}

typedef struct _X64_CPUID {
    ULONG Eax, Ebx, Ecx, Edx;
} X64_CPUID;

static inline X64_CPUID X64Cpuid(ULONG Leaf, ULONG Subleaf)
{
    X64_CPUID Result;
    __asm__ volatile("cpuid"
                     : "=a"(Result.Eax), "=b"(Result.Ebx), "=c"(Result.Ecx), "=d"(Result.Edx)
                     : "a"(Leaf), "c"(Subleaf));
    return Result;
}

// gdt.c: this processor's descriptor tables. The interrupt table is shared.
VOID KiInitializeDescriptorTables(ULONG Number);
VOID KiInitializeInterruptTable(VOID);

// trap.S: one stub per vector, KI_TRAP_STUB_BYTES apart.
#define KI_TRAP_STUB_BYTES 16
extern const UCHAR KiTrapStubs[];
VOID KiLoadSegments(VOID);

// interrupt.S: the same for interrupts; the first one is VECTOR_DISPATCH's.
#define KI_INTERRUPT_STUB_BYTES 16
extern const UCHAR KiInterruptStubs[];

// What was interrupted, as interrupt.S leaves it on the stack.
typedef struct _KINTERRUPT_FRAME {
    ULONG64 Rbp;
    ULONG64 Rip, Cs, Rflags, Rsp, Ss;
} KINTERRUPT_FRAME;

// interrupt.c
VOID KiRunInterrupt(ULONG Vector, const KINTERRUPT_FRAME *Frame);

// apic.c
ULONG KiGetApicId(VOID); // of the first processor
VOID KiSetApicId(ULONG Number, ULONG ApicId);
VOID KiSendInit(ULONG ApicId);
VOID KiSendStartup(ULONG ApicId, ULONG Page); // the number of a frame below 1 MiB
BOOLEAN KiIsInService(ULONG Vector); // delivered by the local APIC, and not yet acknowledged
VOID KiAcknowledgeInterrupt(VOID);
VOID KiRearmClock(VOID);

// seh.c: searches for a handler of a fault. Returns when nobody handles it.
VOID KiDispatchFault(const KTRAP_FRAME *Frame, struct _EXCEPTION_RECORD *Record);

// trap.c
VOID KiDispatchTrap(PKTRAP_FRAME Frame);

typedef struct _KI_EXCEPTION_ROW {
    PCSTR Name;
    ULONG BugCheckCode;
    NTSTATUS Status;
} KI_EXCEPTION_ROW;

const KI_EXCEPTION_ROW *KiFindException(ULONG64 Vector);

// The frame of the trap that ends the machine, or NULL.
const KTRAP_FRAME *KiGetFatalFrame(VOID);

// operand.c: what the instruction at Frame->Rip accesses. FALSE when that cannot be told.
typedef struct _KI_OPERAND {
    ULONG64 Va;
    KI_FAULT_ACCESS Access;
} KI_OPERAND, *PKI_OPERAND;

BOOLEAN KiDecodeMemoryOperand(const KTRAP_FRAME *Frame, PKI_OPERAND Operand);

// mm/walk.c: prints every level of the translation of Va, raw and in words. Survives damaged
// tables.
VOID KiPrintPageTableWalk(ULONG64 Va);

// Where a walk ended, and what all levels together allow.
typedef struct _KI_WALK {
    ULONG Level;        // of the entry that ended the walk: 4 .. 1
    ULONG64 Entry;      // that entry, raw
    BOOLEAN Present;    // it is a leaf
    BOOLEAN Writable;   // every level allows it
    BOOLEAN Executable; // every level allows it
} KI_WALK, *PKI_WALK;

KI_WALK KiWalkPageTables(ULONG64 Va);
