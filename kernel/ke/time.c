// Time: the time-stamp counter, once its speed is known.

#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"

#define MICROSECONDS_PER_SECOND 1000000ull
#define CYCLES_PER_KHZ 1000ull

static ULONG64 KiCyclesPerSecond;

VOID KeInitializeClock(VOID)
{
    PCSTR Source;
    KiCyclesPerSecond = KeArchMeasureCyclesPerSecond(&Source);
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
