// Time: the time-stamp counter, once its speed is known.

#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "kernel/inc/ps.h"

#define MICROSECONDS_PER_SECOND 1000000ull
#define CYCLES_PER_KHZ 1000ull

static ULONG64 KiCyclesPerSecond;

// -------------------------------------------------------------------------------------------------
// The interrupt time: units of 100 ns since the start, from the same counter, so that ticks which an
// emulator, or a long section with interrupts off, swallows are not lost.

#define KI_UNITS_PER_SECOND 10000000ull

static ULONG64 KiStartCycles;
static ULONG64 KiUnitsPerCycle; // times 2^32
static volatile ULONG64 KiTime; // at the last tick
static ULONG64 KiSystemTimeOffset;
volatile ULONG64 KeTickCycles;

// MAXULONG64 cycles must not overflow: the product has 128 bits.
static ULONG64 KiUnitsOfCycles(ULONG64 Cycles)
{
    return (ULONG64)((unsigned __int128)Cycles * KiUnitsPerCycle >> 32);
}

static VOID KiStartTime(VOID)
{
    KiStartCycles = KeArchReadCycles();
    KeTickCycles = KiStartCycles;
    KiUnitsPerCycle = (KI_UNITS_PER_SECOND << 32) / KiCyclesPerSecond;
}

// A machine without a clock lives in 1601.
static VOID KiReadTimeOfDay(VOID)
{
    TIME_FIELDS Fields;
    LARGE_INTEGER Time;
    if (KeArchReadDateTime(&Fields) && RtlTimeFieldsToTime(&Fields, &Time)) {
        KiSystemTimeOffset = (ULONG64)Time.QuadPart;
    }
}

VOID KeInitializeClock(VOID)
{
    PCSTR Source;
    KiCyclesPerSecond = KeArchMeasureCyclesPerSecond(&Source);
    KiStartTime();
    KiReadTimeOfDay();
    DbgPrint("clock: time-stamp counter at %llu.%03llu MHz, %s%s\n",
             KiCyclesPerSecond / MICROSECONDS_PER_SECOND, KiCyclesPerSecond / CYCLES_PER_KHZ % 1000,
             Source, KeFeatures.InvariantTsc ? "" : "; its rate may change with the processor's");
}

ULONG64 KeGetCyclesPerSecond(VOID)
{
    return KiCyclesPerSecond;
}

ULONG64 KeReadCycles(VOID)
{
    return KeArchReadCycles();
}

LARGE_INTEGER NTAPI KeQueryPerformanceCounter(PLARGE_INTEGER PerformanceFrequency)
{
    if (PerformanceFrequency != NULL) {
        PerformanceFrequency->QuadPart = (LONG64)KiCyclesPerSecond;
    }
    LARGE_INTEGER Counter;
    Counter.QuadPart = (LONG64)KeArchReadCycles();
    return Counter;
}

VOID NTAPI KeStallExecutionProcessor(ULONG Microseconds)
{
    NT_ASSERT(KiCyclesPerSecond != 0);
    // Split, so that neither product can wrap: a counter at 10 GHz times 2^32 would.
    const ULONG64 PerMicrosecond = KiCyclesPerSecond / MICROSECONDS_PER_SECOND;
    const ULONG64 Remainder = KiCyclesPerSecond % MICROSECONDS_PER_SECOND;
    const ULONG64 Wanted =
        PerMicrosecond * Microseconds + Remainder * Microseconds / MICROSECONDS_PER_SECOND + 1;
    const ULONG64 Start = KeArchReadCycles();
    while (KeArchReadCycles() - Start < Wanted) {
        KeArchPause();
    }
}

ULONG64 KiInterruptTimeNow(VOID)
{
    return KiUnitsOfCycles(KeArchReadCycles() - KiStartCycles);
}

ULONG64 KiInterruptTime(VOID)
{
    return KiTime;
}

ULONG64 KiSystemTimeAtStart(VOID)
{
    return KiSystemTimeOffset;
}

ULONG KiAdvanceTime(VOID)
{
    const ULONG64 OldTick = KiTime / KI_TIME_INCREMENT;
    KeTickCycles = KeArchReadCycles();
    KiTime = KiUnitsOfCycles(KeTickCycles - KiStartCycles);
    KiShowTime(KiTime);
    return (ULONG)(KiTime / KI_TIME_INCREMENT - OldTick);
}

VOID KeStartClock(VOID)
{
    KeArchStartClock(KI_TICKS_PER_SECOND);
}

VOID KeStopClock(VOID)
{
    KeArchStopClock();
}

VOID NTAPI KeQuerySystemTimePrecise(PLARGE_INTEGER CurrentTime)
{
    CurrentTime->QuadPart = (LONG64)(KiSystemTimeOffset + KiInterruptTimeNow());
}

ULONG64 NTAPI KeQueryInterruptTimePrecise(PULONG64 QpcTimeStamp)
{
    const ULONG64 Cycles = KeArchReadCycles();
    *QpcTimeStamp = Cycles;
    return KiUnitsOfCycles(Cycles - KiStartCycles);
}

// The machine never sleeps, so that there is no bias.
ULONGLONG NTAPI KeQueryUnbiasedInterruptTime(VOID)
{
    return KiTime;
}

ULONG NTAPI ExSetTimerResolution(ULONG DesiredTime, BOOLEAN SetResolution)
{
    UNREFERENCED_PARAMETER(DesiredTime);
    UNREFERENCED_PARAMETER(SetResolution);
    return KI_TIME_INCREMENT;
}

ULONG NTAPI KeQueryTimeIncrement(VOID)
{
    return KI_TIME_INCREMENT;
}

// -------------------------------------------------------------------------------------------------
// For images that import what others read inline.

ULONG64 NTAPI KiExportQueryInterruptTime(VOID);
VOID NTAPI KiExportQuerySystemTime(PLARGE_INTEGER CurrentTime);
VOID NTAPI KiExportQueryTickCount(PLARGE_INTEGER CurrentCount);

ULONG64 NTAPI KiExportQueryInterruptTime(VOID)
{
    return KiTime;
}

VOID NTAPI KiExportQuerySystemTime(PLARGE_INTEGER CurrentTime)
{
    CurrentTime->QuadPart = (LONG64)(KiSystemTimeOffset + KiTime);
}

VOID NTAPI KiExportQueryTickCount(PLARGE_INTEGER CurrentCount)
{
    CurrentCount->QuadPart = (LONG64)(KiTime / KI_TIME_INCREMENT);
}
