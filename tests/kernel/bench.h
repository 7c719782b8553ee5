// What the benchmarks share: measuring, waiting, and saying what it cost.
//
// Under -icount one cycle is one instruction, and figures are exact. What is measured is what the
// processor is busy with: a round's own calls, and whatever interrupts it while it waits; never the
// waiting.
#pragma once

#include <wdm.h>

#include "tests/kernel/tests.h"

#define KT_WARM_UP_ROUNDS 8
#define KT_ROUND_COUNT 65 // odd: the median is one of them

typedef VOID KT_WORK(PVOID Context);

// Boot option `filter`: only the rows whose name contains it. Boot option `row`: only this one.
BOOLEAN KtIsBenchWanted(PCSTR Name);

// The median cycles of one call of Work, the call itself included.
ULONG64 KtMeasureMedian(KT_WORK *Work, PVOID Context);

// What KtMeasureMedian finds for work that does nothing.
extern ULONG64 KtBenchOverhead;

// Prints a row: # bench NAME VALUE.
VOID KtPrintBench(PCSTR Name, ULONG64 Value);

// KtMeasureMedian less its overhead, printed, if the row is wanted. With KtIsRating: the rate.
VOID KtBench(PCSTR Name, KT_WORK *Work, PVOID Context);

// Sorts the values. Count is odd.
ULONG64 KtTakeMedian(PULONG64 Values, ULONG Count);

// One round of work with a device. Returns the cycles that it kept the processor busy, which it sums up
// from its own calls and from KtAwait.
typedef ULONG64 KT_ROUND(PVOID Context);

// The median round's cycles. UnitCount: operations in a round.
ULONG64 KtMeasureRounds(PCSTR Name, KT_ROUND *Round, PVOID Context, ULONG UnitCount);

// The same printed, for each operation, if the row is wanted.
VOID KtBenchRounds(PCSTR Name, KT_ROUND *Round, PVOID Context, ULONG UnitCount);

// Waits, busy, until *Counter is at least Target. Returns the cycles that others took from the waiting
// thread meanwhile: interrupts, DPCs, threads of higher priority. Gives up after seconds; *HasFailed is
// set then, and never cleared.
ULONG64 KtAwait(const volatile ULONG *Counter, ULONG Target, PBOOLEAN HasFailed);

// Gives devices time to work, busy; costs nothing.
VOID KtGiveTime(VOID);

// Boot option `rates`: not what an operation costs, but how many go in a second, waiting included:
//   # rate NAME OPERATIONS CYCLES
// The clock ticks then.
BOOLEAN KtIsRating(VOID);
VOID KtPrintRate(PCSTR Name, ULONG64 Count, ULONG64 Cycles);

// Whether a second has passed since Start (KeReadCycles).
BOOLEAN KtIsOver(ULONG64 Start);

// Tells where the image of a driver is, for a profile (tests/qemu/profile.py).
VOID KtPrintImage(const DRIVER_OBJECT *Driver);

// The subjects. Gap: free I/O space of a GiB.
VOID KtBenchMany(ULONG64 Gap);
VOID KtBenchDma(VOID);
VOID KtBenchNvme(VOID);
VOID KtBenchNet(VOID);
