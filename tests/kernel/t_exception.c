// Exceptions: KmTry, KmCatch, ExRaiseStatus.
#include "kernel/inc/kearch.h"
#include "kernel/inc/ps.h"
#include "tests/kernel/tests.h"

#define INNER ((NTSTATUS)0xC0001111)
#define OUTER ((NTSTATUS)0xC0002222)

static DECLSPEC_NORETURN VOID RaiseFromBelow(ULONG Depth, NTSTATUS Status)
{
    if (Depth > 0) {
        RaiseFromBelow(Depth - 1, Status);
    }
    ExRaiseStatus(Status);
}

static VOID CheckNoHandler(VOID)
{
    KT_EQUAL(KeArchGetCurrentThread()->ExceptionList, NULL);
}

static VOID ARaiseGoesOnInTheCatch(VOID)
{
    static const NTSTATUS Statuses[] = {STATUS_SUCCESS, STATUS_ACCESS_VIOLATION, MAXLONG, -1};
    for (ULONG Row = 0; Row < ARRAYSIZE(Statuses); Row += 1) {
        volatile ULONG Reached = 0;
        KmTry {
            Reached += 1;
            RaiseFromBelow(7, Statuses[Row]);
        }
        KmCatch (Status) {
            KT_EQUAL((ULONG)Status, (ULONG)Statuses[Row]);
            Reached += 10;
        }
        KT_EQUAL(Reached, 11);
        CheckNoHandler();
    }
}

static VOID TheNamedRaises(VOID)
{
    volatile ULONG Caught = 0;
    KmTry {
        ExRaiseAccessViolation();
    }
    KmCatch (Status) {
        KT_EQUAL(Status, STATUS_ACCESS_VIOLATION);
        Caught += 1;
    }
    KmTry {
        ExRaiseDatatypeMisalignment();
    }
    KmCatch (Status) {
        KT_EQUAL(Status, STATUS_DATATYPE_MISALIGNMENT);
        Caught += 1;
    }
    KT_EQUAL(Caught, 2);
}

static VOID HandlersNest(VOID)
{
    volatile ULONG Trace = 0;
    KmTry {
        KmTry {
            RaiseFromBelow(1, INNER);
        }
        KmCatch (Status) {
            KT_EQUAL(Status, INNER);
            Trace = Trace * 10 + 1;
        }
        KmTry {
            Trace = Trace * 10 + 2;
        }
        KmCatch (Status) {
            Trace = Trace * 10 + 9;
        }
        KmTry {
            ExRaiseStatus(OUTER);
        }
        KmCatch (Status) {
            Trace = Trace * 10 + 3;
            ExRaiseStatus(Status);
        }
    }
    KmCatch (Status) {
        KT_EQUAL(Status, OUTER);
        Trace = Trace * 10 + 4;
    }
    KT_EQUAL(Trace, 1234);
    CheckNoHandler();
}

static ULONG Leave(ULONG Argument)
{
    KmTry {
        if (Argument == 1) {
            return 100;
        }
        if (Argument == 2) {
            goto Outside;
        }
        if (Argument == 3) {
            ExRaiseStatus(INNER);
        }
        if (Argument == 4) {
            break;
        }
        if (Argument == 5) {
            continue;
        }
    }
    KmCatch (Status) {
        return 300;
    }
    return 400;
Outside:
    return 200;
}

static VOID ATryMayBeLeftInAnyWay(VOID)
{
    static const ULONG Results[] = {400, 100, 200, 300, 400, 400};
    for (ULONG Argument = 0; Argument < ARRAYSIZE(Results); Argument += 1) {
        KT_EQUAL(Leave(Argument), Results[Argument]);
        CheckNoHandler();
    }
}

static VOID TheCatchRunsAtTheIrqlOfTheRaise(VOID)
{
    volatile KIRQL OldIrql = PASSIVE_LEVEL;
    KmTry {
        OldIrql = KeRaiseIrqlToDpcLevel();
        RaiseFromBelow(2, INNER);
    }
    KmCatch (Status) {
        KT_EQUAL(KeGetCurrentIrql(), DISPATCH_LEVEL);
        KeLowerIrql(OldIrql);
    }
    KT_EQUAL(KeGetCurrentIrql(), PASSIVE_LEVEL);
}

// As a driver's callback is called.
static VOID NTAPI RaiseAsCallback(ULONG64 First, ULONG64 Second, ULONG64 Third, ULONG64 Fourth)
{
    RaiseFromBelow((ULONG)First, (NTSTATUS)(Second + Third + Fourth));
}

static VOID RegistersSurvive(VOID)
{
    // More values than there are registers, all in use before and after.
    const ULONG64 Seed = KeArchReadCycles() | 1;
    const ULONG64 A = Seed * 3, B = Seed * 5, C = Seed * 7, D = Seed * 11, E = Seed * 13,
                  F = Seed * 17, G = Seed * 19, H = Seed * 23;
    volatile ULONG64 Sum = 0;
    for (ULONG Round = 0; Round < 1000; Round += 1) {
        KmTry {
            Sum += A + B + C + D;
            RaiseAsCallback(Round % 5, Round, 1, 2);
        }
        KmCatch (Status) {
            Sum += E + F + G + H + (ULONG)Status - Round - 3;
        }
    }
    KT_EQUAL(Sum, 1000 * (A + B + C + D + E + F + G + H));
    CheckNoHandler();
}

static const KT_TEST Tests[] = {
    {"a raise goes on in the innermost catch, which learns the status [1.1.1]",
     ARaiseGoesOnInTheCatch},
    {"ExRaiseAccessViolation and ExRaiseDatatypeMisalignment have their statuses [1.1.1]",
     TheNamedRaises},
    {"handlers nest, and a catch may raise again [1.1.1, 1.1.3]", HandlersNest},
    {"a try may be left by return, goto, break and continue [1.1.3]", ATryMayBeLeftInAnyWay},
    {"the catch runs at the IRQL of the raise [1.1.4, 18.28]", TheCatchRunsAtTheIrqlOfTheRaise},
    {"what the body does not change is as before in the catch [1.1.1]", RegistersSurvive},
};

const KT_SUITE KtExceptionSuite = {"exception", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
