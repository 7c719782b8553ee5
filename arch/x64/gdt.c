// Descriptor tables: segments, task state with its emergency stacks, interrupt gates.
//
// Long mode needs little of segmentation: one code and one data descriptor, and per processor a
// task state segment, whose only use is to name the stacks that the processor switches to for
// exceptions that must not trust the current one. The interrupt table is the same for all
// processors.

#include "arch/x64/x64.h"

// Flat segments: base and limit are ignored in long mode, the access byte and the L bit are not.
#define DESCRIPTOR_CODE64 0x00AF9B000000FFFFull // present, ring 0, code, readable, accessed; L = 1
#define DESCRIPTOR_DATA 0x00CF93000000FFFFull   // present, ring 0, data, writable, accessed

#define ACCESS_PRESENT 0x80
#define ACCESS_TSS64_AVAILABLE 0x09
#define GATE_INTERRUPT 0x8E // present, ring 0, 64-bit interrupt gate: enters with interrupts off

typedef struct _KI_TSS {
    ULONG Reserved0;
    ULONG64 Rsp[3];
    ULONG64 Reserved1;
    ULONG64 Ist[7];
    ULONG64 Reserved2;
    USHORT Reserved3;
    USHORT IoMapOffset;
} __attribute__((packed)) KI_TSS;

C_ASSERT(sizeof(KI_TSS) == 104);

typedef struct _KI_GDT {
    ULONG64 Null;
    ULONG64 KernelCode;
    ULONG64 KernelData;
    ULONG64 TssLow;
    ULONG64 TssHigh;
} KI_GDT;

C_ASSERT(FIELD_OFFSET(KI_GDT, KernelCode) == SELECTOR_KERNEL_CODE);
C_ASSERT(FIELD_OFFSET(KI_GDT, KernelData) == SELECTOR_KERNEL_DATA);
C_ASSERT(FIELD_OFFSET(KI_GDT, TssLow) == SELECTOR_TSS);

typedef struct _KI_GATE {
    USHORT OffsetLow;
    USHORT Selector;
    UCHAR Ist;
    UCHAR Type;
    USHORT OffsetMiddle;
    ULONG OffsetHigh;
    ULONG Reserved;
} KI_GATE;

C_ASSERT(sizeof(KI_GATE) == 16);

typedef struct _KI_TABLE_POINTER {
    USHORT Limit;
    ULONG64 Base;
} __attribute__((packed)) KI_TABLE_POINTER;

typedef struct _KI_PROCESSOR_TABLES {
    KI_GDT Gdt;
    KI_TSS Tss;
    UCHAR IstStacks[KiIstCount - 1][KI_IST_STACK_BYTES] __attribute__((aligned(16)));
} KI_PROCESSOR_TABLES;

static KI_PROCESSOR_TABLES KiProcessorTables[KE_MAXIMUM_PROCESSORS] __attribute__((aligned(64)));
static KI_GATE KiInterruptTable[VECTOR_COUNT] __attribute__((aligned(16)));

typedef struct _KI_IST_ROW {
    UCHAR Vector;
    KI_IST Ist;
} KI_IST_ROW;

// Exceptions that may come when the current stack is bad, or in the middle of another handler's
// first instructions.
static const KI_IST_ROW KiIstTable[] = {
    {VECTOR_DOUBLE_FAULT, KiIstDoubleFault},
    {VECTOR_NMI, KiIstNmi},
    {VECTOR_MACHINE_CHECK, KiIstMachineCheck},
    {VECTOR_DEBUG, KiIstDebug},
};

C_ASSERT(sizeof(KiIstTable) / sizeof(KiIstTable[0]) == KiIstCount - 1);

static KI_IST KiIstOfVector(ULONG Vector)
{
    for (ULONG Index = 0; Index < sizeof(KiIstTable) / sizeof(KiIstTable[0]); Index += 1) {
        if (KiIstTable[Index].Vector == Vector) {
            return KiIstTable[Index].Ist;
        }
    }
    return KiIstNone;
}

// Exceptions and software interrupts below VECTOR_DISPATCH, interrupts from there on.
static const UCHAR *KiStubOfVector(ULONG Vector)
{
    return Vector < VECTOR_DISPATCH
               ? &KiTrapStubs[(SIZE_T)Vector * KI_TRAP_STUB_BYTES]
               : &KiInterruptStubs[(SIZE_T)(Vector - VECTOR_DISPATCH) * KI_INTERRUPT_STUB_BYTES];
}

VOID KiInitializeInterruptTable(VOID)
{
    for (ULONG Vector = 0; Vector < VECTOR_COUNT; Vector += 1) {
        const ULONG64 Stub = (ULONG64)KiStubOfVector(Vector);
        KiInterruptTable[Vector] = (KI_GATE){
            .OffsetLow = (USHORT)Stub,
            .Selector = SELECTOR_KERNEL_CODE,
            .Ist = (UCHAR)KiIstOfVector(Vector),
            .Type = GATE_INTERRUPT,
            .OffsetMiddle = (USHORT)(Stub >> 16),
            .OffsetHigh = (ULONG)(Stub >> 32),
        };
    }
}

static VOID KiFillTss(KI_PROCESSOR_TABLES *Tables)
{
    Tables->Tss.IoMapOffset = sizeof(KI_TSS); // beyond the limit: no map
    for (ULONG Index = 0; Index < KiIstCount - 1; Index += 1) {
        Tables->Tss.Ist[Index] = (ULONG64)&Tables->IstStacks[Index][KI_IST_STACK_BYTES];
    }
}

static VOID KiFillGdt(KI_PROCESSOR_TABLES *Tables)
{
    const ULONG64 Base = (ULONG64)&Tables->Tss;
    const ULONG64 Limit = sizeof(KI_TSS) - 1;
    const ULONG64 Access = ACCESS_PRESENT | ACCESS_TSS64_AVAILABLE;
    Tables->Gdt.KernelCode = DESCRIPTOR_CODE64;
    Tables->Gdt.KernelData = DESCRIPTOR_DATA;
    Tables->Gdt.TssLow = Limit | (Base & 0xFFFFFF) << 16 | Access << 40 | (Base >> 24 & 0xFF) << 56;
    Tables->Gdt.TssHigh = Base >> 32;
}

VOID KiInitializeDescriptorTables(ULONG Number)
{
    KI_PROCESSOR_TABLES *Tables = &KiProcessorTables[Number];
    KiFillTss(Tables);
    KiFillGdt(Tables);

    const KI_TABLE_POINTER Gdt = {sizeof(KI_GDT) - 1, (ULONG64)&Tables->Gdt};
    const KI_TABLE_POINTER Idt = {sizeof(KiInterruptTable) - 1, (ULONG64)KiInterruptTable};
    __asm__ volatile("lgdt %0" : : "m"(Gdt));
    KiLoadSegments();
    __asm__ volatile("ltr %w0" : : "r"(SELECTOR_TSS));
    __asm__ volatile("lidt %0" : : "m"(Idt));
}
