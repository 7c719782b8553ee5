// The speed of the time-stamp counter.
//
// It is measured against the one clock that every PC has, channel 2 of the 8254 timer. What the
// processor (CPUID leaf 0x15) or a hypervisor states is more exact, but only believed when it
// agrees: an emulator may state the speed of the processor that it poses as. All waits are bounded:
// a machine without the timer gets what was stated, or an assumption that says so, instead of a
// hang.

#include "arch/x64/x64.h"

#define PIT_FREQUENCY 1193182ull
#define PIT_CHANNEL2 0x42
#define PIT_COMMAND 0x43
#define PIT_CHANNEL2_ONE_SHOT 0xB0 // channel 2, low byte then high byte, mode 0, binary
#define PIT_GATE_PORT 0x61
#define PIT_GATE_ENABLE 0x01
#define PIT_SPEAKER 0x02
#define PIT_OUTPUT 0x20 // goes high when the count is reached

#define PIT_RUN_COUNT 3
#define PIT_RUN_TICKS 11932ull // 10 ms
#define PIT_MAX_POLLS 20000000u

#define CPUID_HYPERVISOR_PRESENT (1u << 31) // leaf 1, ECX
#define CPUID_HYPERVISOR 0x40000000
#define CPUID_HYPERVISOR_TIMING 0x40000010 // EAX: kilohertz of the counter

#define AGREEMENT_DIVISOR 20 // within 5 %
#define ASSUMED_CYCLES_PER_SECOND 1000000000ull

ULONG64 KeArchReadCycles(VOID)
{
    ULONG Low;
    ULONG High;
    __asm__ volatile("rdtsc" : "=a"(Low), "=d"(High));
    return (ULONG64)High << 32 | Low;
}

// counter frequency = crystal frequency * EBX / EAX
static ULONG64 KiCyclesByProcessor(VOID)
{
    if (X64Cpuid(0, 0).Eax < CPUID_TSC_CRYSTAL) {
        return 0;
    }
    const X64_CPUID Ratio = X64Cpuid(CPUID_TSC_CRYSTAL, 0);
    return Ratio.Eax == 0 ? 0 : (ULONG64)Ratio.Ecx * Ratio.Ebx / Ratio.Eax;
}

static ULONG64 KiCyclesByHypervisor(VOID)
{
    if (!(X64Cpuid(CPUID_FEATURES, 0).Ecx & CPUID_HYPERVISOR_PRESENT) ||
        X64Cpuid(CPUID_HYPERVISOR, 0).Eax < CPUID_HYPERVISOR_TIMING) {
        return 0;
    }
    return X64Cpuid(CPUID_HYPERVISOR_TIMING, 0).Eax * 1000ull;
}

// Cycles that pass while channel 2 counts PIT_RUN_TICKS, or 0 when it never ends.
static ULONG64 KiMeasureOneRun(VOID)
{
    const UCHAR Gate = (UCHAR)((KeArchReadPort8(PIT_GATE_PORT) & ~PIT_SPEAKER) | PIT_GATE_ENABLE);
    KeArchWritePort8(PIT_GATE_PORT, Gate);
    KeArchWritePort8(PIT_COMMAND, PIT_CHANNEL2_ONE_SHOT);
    KeArchWritePort8(PIT_CHANNEL2, (UCHAR)PIT_RUN_TICKS);
    KeArchWritePort8(PIT_CHANNEL2, (UCHAR)(PIT_RUN_TICKS >> 8)); // the count starts here
    const ULONG64 Start = KeArchReadCycles();
    for (ULONG Poll = 0; Poll < PIT_MAX_POLLS; Poll += 1) {
        if (KeArchReadPort8(PIT_GATE_PORT) & PIT_OUTPUT) {
            return KeArchReadCycles() - Start;
        }
    }
    return 0;
}

// The shortest of a few runs: whatever disturbs a run makes it longer.
static ULONG64 KiCyclesByTimer(VOID)
{
    ULONG64 Shortest = 0;
    const BOOLEAN WereOn = KeArchDisableInterrupts();
    for (ULONG Run = 0; Run < PIT_RUN_COUNT; Run += 1) {
        const ULONG64 Cycles = KiMeasureOneRun();
        if (Cycles == 0) {
            break;
        }
        Shortest = Shortest == 0 || Cycles < Shortest ? Cycles : Shortest;
    }
    KeArchRestoreInterrupts(WereOn);
    return Shortest * PIT_FREQUENCY / PIT_RUN_TICKS;
}

static BOOLEAN KiAgree(ULONG64 Stated, ULONG64 Measured)
{
    const ULONG64 Difference = Stated > Measured ? Stated - Measured : Measured - Stated;
    return Difference <= Measured / AGREEMENT_DIVISOR;
}

ULONG64 KeArchMeasureCyclesPerSecond(PCSTR *Source)
{
    const ULONG64 ByProcessor = KiCyclesByProcessor();
    const ULONG64 Stated = ByProcessor != 0 ? ByProcessor : KiCyclesByHypervisor();
    const ULONG64 Measured = KiCyclesByTimer();
    if (Stated != 0 && (Measured == 0 || KiAgree(Stated, Measured))) {
        *Source = ByProcessor != 0 ? "as the processor says" : "as the hypervisor says";
        return Stated;
    }
    if (Measured != 0) {
        *Source = "measured against the 8254 timer";
        return Measured;
    }
    *Source = "assumed, for want of a working timer";
    return ASSUMED_CYCLES_PER_SECOND;
}

// -------------------------------------------------------------------------------------------------
// The time of day, from the battery-backed clock. Its registers change once a second: two equal
// readings with no change under way between them are one time.

#define RTC_INDEX 0x70
#define RTC_DATA 0x71
#define RTC_STATUS_A 0x0A
#define RTC_STATUS_B 0x0B
#define RTC_UPDATING 0x80
#define RTC_24_HOURS 0x02
#define RTC_BINARY 0x04
#define RTC_PM 0x80
#define RTC_MAX_POLLS 100000u
#define RTC_READINGS 5
#define RTC_CENTURY 2000

typedef struct _KI_RTC_TIME {
    UCHAR Second, Minute, Hour, Day, Month, Year;
} KI_RTC_TIME;

static const UCHAR KiRtcRegisters[] = {0x00, 0x02, 0x04, 0x07, 0x08, 0x09};
C_ASSERT(sizeof(KiRtcRegisters) == sizeof(KI_RTC_TIME));

static UCHAR KiReadRtc(UCHAR Register)
{
    KeArchWritePort8(RTC_INDEX, Register);
    return KeArchReadPort8(RTC_DATA);
}

static KI_RTC_TIME KiReadRtcOnce(VOID)
{
    KI_RTC_TIME Time;
    for (ULONG Poll = 0; Poll < RTC_MAX_POLLS && (KiReadRtc(RTC_STATUS_A) & RTC_UPDATING);
         Poll += 1) {
    }
    for (ULONG Index = 0; Index < sizeof(Time); Index += 1) {
        ((PUCHAR)&Time)[Index] = KiReadRtc(KiRtcRegisters[Index]);
    }
    return Time;
}

static UCHAR KiDecimal(UCHAR Value, BOOLEAN IsBinary)
{
    return (UCHAR)(IsBinary ? Value : (Value >> 4) * 10 + (Value & 0xF));
}

BOOLEAN KeArchReadDateTime(PTIME_FIELDS Time)
{
    KI_RTC_TIME Raw = KiReadRtcOnce();
    for (ULONG Reading = 0; Reading < RTC_READINGS; Reading += 1) {
        const KI_RTC_TIME Again = KiReadRtcOnce();
        if (RtlEqualMemory(&Raw, &Again, sizeof(Raw))) {
            break;
        }
        Raw = Again;
    }
    const UCHAR StatusB = KiReadRtc(RTC_STATUS_B);
    const BOOLEAN IsBinary = (StatusB & RTC_BINARY) != 0;
    const BOOLEAN IsAfternoon = !(StatusB & RTC_24_HOURS) && (Raw.Hour & RTC_PM);
    ULONG Hour = KiDecimal(Raw.Hour & (UCHAR)~RTC_PM, IsBinary);
    if (!(StatusB & RTC_24_HOURS)) {
        Hour = Hour % 12 + (IsAfternoon ? 12 : 0);
    }
    *Time = (TIME_FIELDS){
        .Year = (CSHORT)(RTC_CENTURY + KiDecimal(Raw.Year, IsBinary)),
        .Month = KiDecimal(Raw.Month, IsBinary),
        .Day = KiDecimal(Raw.Day, IsBinary),
        .Hour = (CSHORT)Hour,
        .Minute = KiDecimal(Raw.Minute, IsBinary),
        .Second = KiDecimal(Raw.Second, IsBinary),
    };
    return Time->Month != 0 && Time->Day != 0;
}
