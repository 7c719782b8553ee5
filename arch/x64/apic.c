// The local APIC: the processor's own interrupt controller and timer.
//
//   devices (I/O APIC, MSI) ──▶ ┌───────────┐
//   this processor (ICR)    ──▶ │ local APIC │──▶ the vector, when it is above the task priority
//   its timer               ──▶ └───────────┘
//
// Its registers lie in memory (xAPIC), or in model-specific registers where the processor offers
// that (x2APIC), which need no mapping and are faster. The register numbers are the same: offset in
// memory / 16.
//
// The clock is the APIC's timer: in TSC-deadline mode where there is one, which keeps exact time
// because each deadline follows from the one before; else periodic, at a rate that is measured
// against the time-stamp counter.

#include "arch/x64/x64.h"

#include "kernel/inc/ke.h"

// Registers, as offsets in memory.
#define APIC_ID 0x020
#define APIC_VERSION 0x030
#define APIC_EOI 0x0B0
#define APIC_SPURIOUS 0x0F0
#define APIC_IN_SERVICE 0x100 // 256 bits, 32 in each register, 16 bytes apart
#define APIC_COMMAND 0x300
#define APIC_COMMAND_TARGET 0x310 // xAPIC only
#define APIC_ALL 0xFF             // as the target of a command or a message
#define APIC_LVT_TIMER 0x320
#define APIC_LVT_THERMAL 0x330
#define APIC_LVT_PERFORMANCE 0x340
#define APIC_LVT_LINT0 0x350
#define APIC_LVT_LINT1 0x360
#define APIC_LVT_ERROR 0x370
#define APIC_TIMER_INITIAL 0x380
#define APIC_TIMER_CURRENT 0x390
#define APIC_TIMER_DIVIDE 0x3E0
#define X2APIC_SELF_IPI 0x3F0 // x2APIC only

#define APIC_REGISTER_BYTES 0x1000

#define APIC_BASE_ENABLE (1ull << 11)
#define APIC_BASE_X2APIC (1ull << 10)
#define APIC_BASE_ADDRESS 0x000FFFFFFFFFF000ull

#define SPURIOUS_APIC_ENABLE (1u << 8)
#define COMMAND_TO_SELF (1u << 18)
#define COMMAND_ASSERT (1u << 14)
#define COMMAND_PENDING (1u << 12)
#define COMMAND_NMI (4u << 8)
#define COMMAND_INIT (5u << 8)
#define COMMAND_STARTUP (6u << 8)
#define LVT_MASKED (1u << 16)
#define LVT_NMI (4u << 8)
#define LVT_TIMER_PERIODIC (1u << 17)
#define LVT_TIMER_TSC_DEADLINE (2u << 17)
#define TIMER_DIVIDE_BY_1 0x0B

// [x64] A message is a write to this range: the address says who, the data says which vector.
// Everything else is 0: to one processor, as an edge.
#define MESSAGE_ADDRESS 0xFEE00000ull
#define MESSAGE_DESTINATION_SHIFT 12

#define CALIBRATION_DIVISOR 500 // of a second

static volatile ULONG *KiApicRegisters; // NULL in x2APIC mode
static ULONG KiApicIds[KE_MAXIMUM_PROCESSORS];
static BOOLEAN KiHasDeadlineTimer;
static ULONG64 KiTimerTicksPerSecond; // of the periodic timer

// Of each processor's clock, in deadline mode.
static struct {
    ULONG64 IntervalCycles;
    ULONG64 Deadline;
} KiClocks[KE_MAXIMUM_PROCESSORS];

static ULONG KiReadApic(ULONG Register)
{
    return KiApicRegisters != NULL ? KiApicRegisters[Register / sizeof(ULONG)]
                                   : (ULONG)KeArchReadMsr(MSR_X2APIC_FIRST + Register / 16);
}

static VOID KiWriteApic(ULONG Register, ULONG Value)
{
    if (KiApicRegisters != NULL) {
        KiApicRegisters[Register / sizeof(ULONG)] = Value;
    } else {
        KeArchWriteMsr(MSR_X2APIC_FIRST + Register / 16, Value);
    }
}

// -------------------------------------------------------------------------------------------------
// Start.

static VOID KiMapApic(ULONG64 ApicBase)
{
    PHYSICAL_ADDRESS Physical;
    Physical.QuadPart = (LONGLONG)(ApicBase & APIC_BASE_ADDRESS);
    KiApicRegisters = MmMapIoSpaceEx(Physical, APIC_REGISTER_BYTES, PAGE_READWRITE | PAGE_NOCACHE);
    if (KiApicRegisters == NULL) {
        KiBugCheckSaying(PHASE0_INITIALIZATION_FAILED, 0, 0, 0, 0,
                         "the registers of the local APIC at 0x%llx cannot be mapped",
                         Physical.QuadPart);
    }
}

// Firmware may have left the APIC off, or have chosen x2APIC itself, which cannot be undone here.
static VOID KiEnableApic(VOID)
{
    const X64_CPUID Features = X64Cpuid(CPUID_FEATURES, 0);
    if (!(Features.Edx & CPUID_1_EDX_APIC)) {
        KiBugCheckSaying(UNSUPPORTED_PROCESSOR, 0, 0, 0, 0, "processor \"%s\" has no local APIC",
                         KeFeatures.Vendor);
    }
    ULONG64 ApicBase = KeArchReadMsr(MSR_APIC_BASE) | APIC_BASE_ENABLE;
    KeArchWriteMsr(MSR_APIC_BASE, ApicBase); // from "off" to x2APIC there is no direct way
    if (Features.Ecx & CPUID_1_ECX_X2APIC) {
        KeArchWriteMsr(MSR_APIC_BASE, ApicBase | APIC_BASE_X2APIC);
    } else if (KiApicRegisters == NULL) {
        KiMapApic(ApicBase);
    }
    KiHasDeadlineTimer = (Features.Ecx & CPUID_1_ECX_TSC_DEADLINE) != 0;
}

typedef struct _KI_LVT_ROW {
    ULONG Register;
    ULONG Entry; // number in the local vector table; old APICs have fewer
    ULONG Value;
} KI_LVT_ROW;

// [x64] LINT0 is where the 8259 pair would come in; LINT1 is the machine's NMI button.
static const KI_LVT_ROW KiLvtTable[] = {
    {APIC_LVT_TIMER, 0, LVT_MASKED},       {APIC_LVT_LINT0, 1, LVT_MASKED},
    {APIC_LVT_LINT1, 2, LVT_NMI},          {APIC_LVT_ERROR, 3, LVT_MASKED},
    {APIC_LVT_PERFORMANCE, 4, LVT_MASKED}, {APIC_LVT_THERMAL, 5, LVT_MASKED},
};

static VOID KiSetLocalVectors(VOID)
{
    const ULONG LastEntry = KiReadApic(APIC_VERSION) >> 16 & 0xFF;
    for (ULONG Row = 0; Row < ARRAYSIZE(KiLvtTable); Row += 1) {
        if (KiLvtTable[Row].Entry <= LastEntry) {
            KiWriteApic(KiLvtTable[Row].Register, KiLvtTable[Row].Value);
        }
    }
}

// How far the timer counts while a known number of cycles passes.
static VOID KiCalibrateTimer(VOID)
{
    const ULONG64 WantedCycles = KeGetCyclesPerSecond() / CALIBRATION_DIVISOR;
    KiWriteApic(APIC_TIMER_DIVIDE, TIMER_DIVIDE_BY_1);
    KiWriteApic(APIC_TIMER_INITIAL, MAXULONG);
    const ULONG64 Start = KeArchReadCycles();
    while (KeArchReadCycles() - Start < WantedCycles) {
        KeArchPause();
    }
    const ULONG64 Ticks = MAXULONG - KiReadApic(APIC_TIMER_CURRENT);
    KiWriteApic(APIC_TIMER_INITIAL, 0);
    KiTimerTicksPerSecond = Ticks * CALIBRATION_DIVISOR;
}

VOID KeArchInitializeInterrupts(VOID)
{
    KiEnableApic();
    KiWriteApic(APIC_SPURIOUS, SPURIOUS_APIC_ENABLE | VECTOR_SPURIOUS);
    KiSetLocalVectors();
    KiApicIds[KeArchGetPcr()->Number] =
        KiApicRegisters != NULL ? KiReadApic(APIC_ID) >> 24 : KiReadApic(APIC_ID);
    if (KeArchGetPcr()->Number != 0) {
        KiWriteApic(APIC_TIMER_DIVIDE, TIMER_DIVIDE_BY_1);
        return;
    }
    if (!KiHasDeadlineTimer) {
        KiCalibrateTimer();
    }
    DbgPrint("interrupts: local APIC, registers in %s; its timer is %s\n",
             KiApicRegisters != NULL ? "memory" : "MSRs",
             KiHasDeadlineTimer ? "a TSC deadline" : "periodic");
}

// -------------------------------------------------------------------------------------------------
// Interrupts.

ULONG KiGetApicId(VOID)
{
    return KiApicIds[0];
}

ULONG KeArchGetApicId(VOID)
{
    return KiApicIds[KeArchGetPcr()->Number];
}

// [x64] In memory the target has eight bits, and 0xFF means all. In x2APIC mode it has 32.
BOOLEAN KeArchCanReachApic(ULONG ApicId)
{
    return KiApicRegisters == NULL || ApicId < APIC_ALL;
}

VOID KiSetApicId(ULONG Number, ULONG ApicId)
{
    KiApicIds[Number] = ApicId;
}

BOOLEAN KeArchCanReceiveMessages(ULONG Processor)
{
    return KiApicIds[Processor] < APIC_ALL;
}

KE_MESSAGE KeArchMakeMessage(ULONG Vector, ULONG Processor)
{
    return (KE_MESSAGE){
        MESSAGE_ADDRESS | (ULONG64)KiApicIds[Processor] << MESSAGE_DESTINATION_SHIFT, Vector};
}

BOOLEAN KiIsInService(ULONG Vector)
{
    return (KiReadApic(APIC_IN_SERVICE + Vector / 32 * 16) >> Vector % 32 & 1) != 0;
}

VOID KiAcknowledgeInterrupt(VOID)
{
    KiWriteApic(APIC_EOI, 0);
}

VOID KeArchRequestInterrupt(ULONG Vector)
{
    if (KiApicRegisters != NULL) {
        KiWriteApic(APIC_COMMAND, COMMAND_TO_SELF | COMMAND_ASSERT | Vector);
    } else {
        KiWriteApic(X2APIC_SELF_IPI, Vector);
    }
}

VOID KeArchRequestDispatchInterrupt(VOID)
{
    KeArchRequestInterrupt(VECTOR_DISPATCH);
}

// [x64] In memory the command has two registers, and the write of the lower one sends it; while it is
// on its way no other may be written. The upper register must be this processor's until then, so no
// interrupt may come in between.
static VOID KiSendCommand(ULONG ApicId, ULONG Command)
{
    const BOOLEAN WereOn = KeArchDisableInterrupts();
    if (KiApicRegisters != NULL) {
        KiWriteApic(APIC_COMMAND_TARGET, ApicId << 24);
        KiWriteApic(APIC_COMMAND, Command);
        while (KiReadApic(APIC_COMMAND) & COMMAND_PENDING) {
            KeArchPause();
        }
    } else {
        // A write of an APIC's MSR is no barrier: what the target is to see must be seen before.
        __asm__ volatile("mfence; lfence" : : : "memory");
        KeArchWriteMsr(MSR_X2APIC_FIRST + APIC_COMMAND / 16, (ULONG64)ApicId << 32 | Command);
    }
    KeArchRestoreInterrupts(WereOn);
}

VOID KiSendInit(ULONG ApicId)
{
    KiSendCommand(ApicId, COMMAND_INIT | COMMAND_ASSERT);
}

VOID KiSendStartup(ULONG ApicId, ULONG Page)
{
    KiSendCommand(ApicId, COMMAND_STARTUP | COMMAND_ASSERT | Page);
}

VOID KeArchRequestDispatchInterruptOn(ULONG Number)
{
    KiSendCommand(KiApicIds[Number], COMMAND_ASSERT | VECTOR_DISPATCH);
}

VOID KeArchRequestIpiOn(ULONG Number)
{
    KiSendCommand(KiApicIds[Number], COMMAND_ASSERT | VECTOR_IPI);
}

VOID KeArchStopProcessor(ULONG Number)
{
    KiSendCommand(KiApicIds[Number], COMMAND_NMI | COMMAND_ASSERT);
}

// -------------------------------------------------------------------------------------------------
// The clock.

static VOID KiStartDeadlineClock(ULONG Hz)
{
    const ULONG Number = KeArchGetPcr()->Number;
    KiClocks[Number].IntervalCycles = KeGetCyclesPerSecond() / Hz;
    KiClocks[Number].Deadline = KeArchReadCycles();
    KiWriteApic(APIC_LVT_TIMER, LVT_TIMER_TSC_DEADLINE | VECTOR_CLOCK);
    // [x64] A write to a register in memory may still be under way when WRMSR takes effect.
    __asm__ volatile("mfence; lfence" : : : "memory");
    KiRearmClock();
}

VOID KiRearmClock(VOID)
{
    if (!KiHasDeadlineTimer) {
        return;
    }
    const ULONG Number = KeArchGetPcr()->Number;
    const ULONG64 Interval = KiClocks[Number].IntervalCycles;
    if (Interval == 0) {
        return; // stopped meanwhile
    }
    const ULONG64 Now = KeArchReadCycles();
    ULONG64 Next = KiClocks[Number].Deadline + Interval;
    if (Next <= Now) {
        Next = Now + Interval; // ticks were missed: they are not made up for
    }
    KiClocks[Number].Deadline = Next;
    KeArchWriteMsr(MSR_TSC_DEADLINE, Next);
}

VOID KeArchStartClock(ULONG Hz)
{
    NT_ASSERT(Hz != 0);
    const BOOLEAN WereOn = KeArchDisableInterrupts();
    if (KiHasDeadlineTimer) {
        KiStartDeadlineClock(Hz);
    } else {
        const ULONG64 Count = KiTimerTicksPerSecond / Hz;
        KiWriteApic(APIC_LVT_TIMER, LVT_TIMER_PERIODIC | VECTOR_CLOCK);
        KiWriteApic(APIC_TIMER_INITIAL, Count == 0 ? 1 : (ULONG)Count);
    }
    KeArchRestoreInterrupts(WereOn);
}

VOID KeArchStopClock(VOID)
{
    const BOOLEAN WereOn = KeArchDisableInterrupts();
    KiWriteApic(APIC_LVT_TIMER, LVT_MASKED);
    if (KiHasDeadlineTimer) {
        KiClocks[KeArchGetPcr()->Number].IntervalCycles = 0;
        KeArchWriteMsr(MSR_TSC_DEADLINE, 0);
    } else {
        KiWriteApic(APIC_TIMER_INITIAL, 0);
    }
    KeArchRestoreInterrupts(WereOn);
}
