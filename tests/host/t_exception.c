// KmTry, KmCatch, ExRaiseStatus: kernel/ke/exception.c itself, compiled for this machine.
#include "kernel/inc/kearch.h"
#include "kernel/inc/ps.h"
#include "tests/host/host.h"

#define INNER ((NTSTATUS)0xC0001111)
#define OUTER ((NTSTATUS)0xC0002222)

static VOID CheckNoHandler(VOID)
{
    CHECK(FakePcr.CurrentThread->ExceptionList == NULL);
}

// Deep enough that the raise crosses several frames.
static DECLSPEC_NORETURN VOID RaiseFromBelow(ULONG Depth, NTSTATUS Status)
{
    if (Depth > 0) {
        RaiseFromBelow(Depth - 1, Status);
    }
    ExRaiseStatus(Status);
}

static VOID A_raise_goes_on_in_the_catch_with_its_status(VOID)
{
    static const NTSTATUS Statuses[] = {STATUS_SUCCESS, STATUS_ACCESS_VIOLATION, MAXLONG, -1};
    for (ULONG Row = 0; Row < ARRAYSIZE(Statuses); Row += 1) {
        volatile ULONG Reached = 0;
        KmTry {
            Reached += 1;
            RaiseFromBelow(3, Statuses[Row]);
        }
        KmCatch (Status) {
            CHECK_EQUAL((ULONG)Status, (ULONG)Statuses[Row]);
            Reached += 10;
        }
        CHECK_EQUAL(Reached, 11);
        CheckNoHandler();
    }
}

static VOID Without_a_raise_the_catch_does_not_run(VOID)
{
    volatile ULONG Reached = 0;
    KmTry {
        Reached += 1;
    }
    KmCatch (Status) {
        FAIL("caught 0x%x", (ULONG)Status);
    }
    CHECK_EQUAL(Reached, 1);
    CheckNoHandler();
}

static VOID The_named_raises_have_their_statuses(VOID)
{
    volatile ULONG Caught = 0;
    KmTry {
        ExRaiseAccessViolation();
    }
    KmCatch (Status) {
        CHECK_EQUAL(Status, STATUS_ACCESS_VIOLATION);
        Caught += 1;
    }
    KmTry {
        ExRaiseDatatypeMisalignment();
    }
    KmCatch (Status) {
        CHECK_EQUAL(Status, STATUS_DATATYPE_MISALIGNMENT);
        Caught += 1;
    }
    CHECK_EQUAL(Caught, 2);
}

static VOID An_inner_handler_gets_the_inner_raise_and_the_outer_one_the_rest(VOID)
{
    volatile ULONG Trace = 0;
    KmTry {
        KmTry {
            RaiseFromBelow(1, INNER);
        }
        KmCatch (Status) {
            CHECK_EQUAL(Status, INNER);
            Trace = Trace * 10 + 1;
        }
        KmTry {
            Trace = Trace * 10 + 2;
        }
        KmCatch (Status) {
            FAIL("caught 0x%x", (ULONG)Status);
        }
        RaiseFromBelow(1, OUTER);
    }
    KmCatch (Status) {
        CHECK_EQUAL(Status, OUTER);
        Trace = Trace * 10 + 3;
    }
    CHECK_EQUAL(Trace, 123);
    CheckNoHandler();
}

static VOID A_catch_may_raise_again(VOID)
{
    volatile ULONG Trace = 0;
    KmTry {
        KmTry {
            ExRaiseStatus(INNER);
        }
        KmCatch (Status) {
            Trace += 1;
            ExRaiseStatus(Status);
        }
    }
    KmCatch (Status) {
        CHECK_EQUAL(Status, INNER);
        Trace += 10;
    }
    CHECK_EQUAL(Trace, 11);
    CheckNoHandler();
}

static ULONG LeaveByReturn(ULONG Argument)
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

static VOID A_try_may_be_left_in_any_way(VOID)
{
    static const ULONG Results[] = {400, 100, 200, 300, 400, 400};
    for (ULONG Argument = 0; Argument < ARRAYSIZE(Results); Argument += 1) {
        CHECK_EQUAL(LeaveByReturn(Argument), Results[Argument]);
        CheckNoHandler();
    }
}

static VOID The_catch_runs_at_the_IRQL_of_the_raise(VOID)
{
    KmTry {
        FakeIrql = DISPATCH_LEVEL;
        RaiseFromBelow(1, INNER);
    }
    KmCatch (Status) {
        CHECK_EQUAL(KeGetCurrentIrql(), DISPATCH_LEVEL);
    }
    FakeIrql = PASSIVE_LEVEL;
}

static VOID Nobody_handles_it_and_the_machine_stops_with_0x1E(VOID)
{
    EXPECT_BUG_CHECK(RaiseFromBelow(0, STATUS_ACCESS_VIOLATION));
    CHECK_EQUAL(FakeBugCheck.Code, KMODE_EXCEPTION_NOT_HANDLED);
    CHECK_EQUAL(FakeBugCheck.Parameters[0], 0xFFFFFFFFC0000005);
    CHECK(FakeBugCheck.Parameters[1] != 0);
    CHECK_EQUAL(FakeBugCheck.Parameters[2], 0);
    CHECK_EQUAL(FakeBugCheck.Parameters[3], 0);
    CHECK_TEXT(FakeBugCheck.Sentence, "ExRaiseStatus, called by HostCaller, raised status "
                                      "0xc0000005, and no handler encloses that call");
}

static VOID Variables_that_the_body_leaves_alone_need_not_be_volatile(VOID)
{
    const ULONG64 First = HostOption("first", 11);
    const ULONG64 Second = HostOption("second", 22);
    volatile ULONG64 Changed = 1;
    for (ULONG Round = 0; Round < 100; Round += 1) {
        KmTry {
            Changed += First;
            RaiseFromBelow(Round % 5, (NTSTATUS)Round);
        }
        KmCatch (Status) {
            CHECK_EQUAL(Status, Round);
            Changed += Second;
        }
    }
    CHECK_EQUAL(Changed, 1 + 100 * (First + Second));
}

static const HOST_TEST Tests[] = {
    HOST_ROW(A_raise_goes_on_in_the_catch_with_its_status, "contract 1.1.1", NULL),
    HOST_ROW(Without_a_raise_the_catch_does_not_run, "contract 1.1.1, 1.1.3", NULL),
    HOST_ROW(The_named_raises_have_their_statuses, "contract 1.1.1", NULL),
    HOST_ROW(An_inner_handler_gets_the_inner_raise_and_the_outer_one_the_rest, "contract 1.1.3",
             NULL),
    HOST_ROW(A_catch_may_raise_again, "contract 1.1.1, 1.1.3", NULL),
    HOST_ROW(A_try_may_be_left_in_any_way, "contract 1.1.3", NULL),
    HOST_ROW(The_catch_runs_at_the_IRQL_of_the_raise, "contract 1.1.4", NULL),
    HOST_ROW(Nobody_handles_it_and_the_machine_stops_with_0x1E, "contract 1.1.2, 0x1E", NULL),
    HOST_ROW(Variables_that_the_body_leaves_alone_need_not_be_volatile, "except.h, the rules",
             NULL),
};

HOST_DEFINE_SUITE(exception);
