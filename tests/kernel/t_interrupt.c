// Interrupts: the local APIC, the way in and out, and what must survive it.
#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "kernel/inc/ps.h"
#include "tests/kernel/tests.h"

#define STALL_MICROSECONDS 20000u

static ULONG64 CountInterrupts(VOID)
{
    return KeArchGetPcr()->InterruptCount;
}

static VOID ADispatchInterruptWaitsForTheIrql(VOID)
{
    KeStopClock();
    const KIRQL OldIrql = KeRaiseIrqlToDpcLevel();
    const ULONG64 Before = CountInterrupts();
    KeArchRequestDispatchInterrupt();
    KeArchRequestDispatchInterrupt();
    KeStallExecutionProcessor(10);
    KT_EQUAL(CountInterrupts(), Before);
    KeArchWriteIrql(OldIrql); // as a driver does it, inline
    KT_CHECK(CountInterrupts() > Before);
    KeStartClock();
}

static VOID TheClockTicksUntilItIsStopped(VOID)
{
    const ULONG64 Before = CountInterrupts();
    KeArchStartClock(1000);
    // How long five take depends on the emulator's host, which may have other things to do.
    for (ULONG Wait = 0; Wait < 100 && CountInterrupts() - Before < 5; Wait += 1) {
        KeStallExecutionProcessor(STALL_MICROSECONDS);
    }
    KeArchStopClock();
    const ULONG64 Ticks = CountInterrupts() - Before;
    KT_CHECK(Ticks >= 5);
    KeStallExecutionProcessor(STALL_MICROSECONDS);
    KT_CHECK(CountInterrupts() - Before <= Ticks + 1);
    KeStartClock();
}

static const KT_TEST Tests[] = {
    {"a dispatch interrupt waits until the IRQL is lowered", ADispatchInterruptWaitsForTheIrql},
    {"the clock ticks until it is stopped", TheClockTicksUntilItIsStopped},
};

const KT_SUITE KtInterruptSuite = {"interrupt", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
