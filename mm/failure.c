// Failures on purpose: makes chosen allocations fail, so that the paths which real memory almost
// never takes are walked by tests. Every allocator of mm asks MiMustFail once, at its beginning;
// nothing else fails for lack of memory.
//
// Two sources: a test that wants just these allocations to fail (MmStartFailures), and the simulation
// of low resources that the boot options ask for. While a test's failures are on, the simulation
// rests.
#include "mm/mi.h"

static struct {
    ULONG Kinds; // 0: off
    ULONG SkipCount;
    ULONG FailCount;
    ULONG FailedCount;
} MiFailure;

static struct {
    ULONG Kinds; // 0: off
    ULONG Interval;
    BOOLEAN IsOnce;
    ULONG SinceLast;
    ULONG64 FailedCount;
} MiSimulation;

ULONG MiKindsThatMayFail;

static VOID MiNoteKinds(VOID)
{
    MiKindsThatMayFail = MiFailure.Kinds | MiSimulation.Kinds;
}

// Every Interval-th.
static BOOLEAN MiMustFailSimulated(VOID)
{
    MiSimulation.SinceLast += 1;
    if (MiSimulation.SinceLast < MiSimulation.Interval) {
        return FALSE;
    }
    MiSimulation.SinceLast = 0;
    MiSimulation.FailedCount += 1;
    if (MiSimulation.IsOnce) {
        MiSimulation.Kinds = 0;
        MiNoteKinds();
    }
    return TRUE;
}

static BOOLEAN MiMustFailForTest(VOID)
{
    if (MiFailure.SkipCount > 0) {
        MiFailure.SkipCount -= 1;
        return FALSE;
    }
    if (MiFailure.FailCount == 0) {
        return FALSE;
    }
    if (MiFailure.FailCount != MAXULONG) {
        MiFailure.FailCount -= 1;
    }
    MiFailure.FailedCount += 1;
    return TRUE;
}

BOOLEAN MiDecideFailure(ULONG Kind)
{
    if (MiFailure.Kinds != 0) {
        return (MiFailure.Kinds & Kind) != 0 && MiMustFailForTest();
    }
    return MiMustFailSimulated();
}

VOID MmStartFailures(ULONG Kinds, ULONG SkipCount, ULONG FailCount)
{
    MmTrim(); // what is kept for the next use would be handed out instead of failing
    MiFailure.SkipCount = SkipCount;
    MiFailure.FailCount = FailCount;
    MiFailure.FailedCount = 0;
    MiFailure.Kinds = Kinds;
    MiNoteKinds();
}

ULONG MmStopFailures(VOID)
{
    MiFailure.Kinds = 0;
    MiNoteKinds();
    return MiFailure.FailedCount;
}

//
// The simulation.
//

VOID MmSimulateLowResources(ULONG Kinds, ULONG Interval, BOOLEAN Once)
{
    MmTrim();
    MiSimulation.Interval = Interval;
    MiSimulation.IsOnce = Once;
    MiSimulation.SinceLast = 0;
    MiSimulation.FailedCount = 0;
    MiSimulation.Kinds = Interval != 0 ? Kinds : 0;
    MiNoteKinds();
}

ULONG64 MmSimulatedFailureCount(VOID)
{
    return MiSimulation.FailedCount;
}

#define MI_OPTION_BYTES 64

static ULONG MiParseKinds(PCSTR Text)
{
    static const struct {
        PCSTR Name;
        ULONG Kinds;
    } Rows[] = {
        {"frames", MM_FAIL_FRAMES}, {"pool", MM_FAIL_POOL}, {"addresses", MM_FAIL_ADDRESSES},
        {"locks", MM_FAIL_LOCKS},   {"all", MM_FAIL_ALL},
    };
    ULONG Kinds = 0;
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        Kinds |= RtlFindSubstring(Text, Rows[Row].Name) != NULL ? Rows[Row].Kinds : 0;
    }
    return Kinds;
}

// The decimal number that an option has as its value. FALSE: no such option, or no number.
static BOOLEAN MiReadNumber(PCSTR Name, PULONG Number)
{
    CHAR Text[MI_OPTION_BYTES] = "";
    *Number = 0;
    if (!KeGetBootOption(Name, Text, sizeof(Text)) || Text[0] == '\0') {
        return FALSE;
    }
    for (ULONG Index = 0; Text[Index] != '\0'; Index += 1) {
        if (Text[Index] < '0' || Text[Index] > '9' || *Number > (MAXULONG - 9) / 10) {
            return FALSE;
        }
        *Number = *Number * 10 + (ULONG)(Text[Index] - '0');
    }
    return TRUE;
}

VOID MmReadFailureOptions(VOID)
{
    CHAR Text[MI_OPTION_BYTES] = "";
    ULONG Interval;
    if (!KeGetBootOption("fail", Text, sizeof(Text))) {
        return;
    }
    const ULONG Kinds = MiParseKinds(Text);
    const BOOLEAN IsOnce = MiReadNumber("at", &Interval);
    if (Kinds == 0 || (!IsOnce && !MiReadNumber("every", &Interval)) || Interval == 0) {
        DbgPrint(
            "mm: the option fail needs kinds (frames, pool, addresses, locks, all), and every=K "
            "or at=N; it is ignored\n");
        return;
    }
    DbgPrint("mm: of the allocations of %s, %s %u fails on purpose\n", Text,
             IsOnce ? "number" : "one in", Interval);
    MmSimulateLowResources(Kinds, Interval, IsOnce);
}
