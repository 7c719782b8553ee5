// Runs the suites and reports them as KTAP version 1:
//
//   KTAP version 1
//   1..2
//       KTAP version 1
//       # Subtest: cpu
//       1..3
//       ok 1 a sentence that names its clause
//       # tests/kernel/t_cpu.c:40: failed: IsOn == 1 (0x0, 0x1)
//       not ok 2 another sentence
//       ok 3 a third # SKIP why
//   not ok 1 cpu
//   ok 2 tables
//   # total: 14 tests, 13 passed, 1 failed, 0 skipped, 321 checks
//
// Boot options: `filter=<substr>` runs only the tests whose name, or whose suite's name, contains
// it; `skip=<names>` leaves out the suites with these names; `nodevices` skips what needs a device;
// `oracle` lets the last suite show its mappings to the host.
#include "kernel/inc/io.h"
#include "kernel/inc/ke.h"
#include "kernel/inc/rtl.h"
#include "tests/kernel/tests.h"

#define KT_TEXT_BYTES 96
#define KT_SUITE_INDENT "    "

// One a line, so that a new one changes one line.
// clang-format off
static const KT_SUITE *const KtSuites[] = {
    &KtCpuSuite,
    &KtDispatcherSuite,
    &KtThreadsSuite,
    &KtSyncSuite,
    &KtProcessorsSuite,
    &KtAloneSuite,
    &KtInterruptSuite,
    &KtTablesSuite,
    &KtPoolSuite,
    &KtVerifierSuite,
    &KtFailureSuite,
    &KtPhysicalSuite,
    &KtIoSpaceSuite,
    &KtCacheTypeSuite,
    &KtMdlSuite,
    &KtReserveSuite,
    &KtMdlPagesSuite,
    &KtContiguousSuite,
    &KtCopySuite,
    &KtMemoryTypesSuite,
    &KtMdlPartSuite,
    &KtLockSuite,
    &KtExceptionSuite,
    &KtStaleSuite,
    &KtStalePeersSuite,
    &KtShootdownSuite,
    &KtEduSuite,
    &KtE1000Suite,
    &KtE1000LoopSuite,
    &KtInetSuite,
    &KtNvmeSuite,
    &KtDiskSuite,
    &KtNvmeControlSuite,
    &KtNvmeQueueSuite,
    &KtIoSuite,
    &KtDmaSuite,
    &KtIvshmemSuite,
    &KtObSuite,
    &KtIrpSuite,
    &KtPnpSuite,
    &KtExSuite,
    &KtSystemSuite,
    &KtRegistrySuite,
    &KtExLockSuite,
    &KtImageSuite,
    &KtSehSuite,
    &KtStrangerSuite,
    &KtExamplesSuite,
    &KtQueueSuite,
    &KtRecoverySuite,
    &KtScenarioSuite,
    &KtIntegritySuite,
    &KtStressSuite,
    &KtTroubleSuite,
    &KtOracleSuite,
};
// clang-format on

// Of the test that runs now.
static struct {
    ULONG FailedCheckCount;
    PCSTR SkipReason;
    CHAR Context[KT_TEXT_BYTES];
    BOOLEAN IsOnOneProcessor;
    MM_MEMORY_USE Before; // what mm may hold when the test is over
} KtCurrent;

static struct {
    ULONG CheckCount;
    ULONG TestCount;
    ULONG FailedCount;
    ULONG SkippedCount;
} KtTotal;

static CHAR KtFilter[KT_TEXT_BYTES];
static CHAR KtSkipped[KT_TEXT_BYTES];

VOID NTAPI KtSetContext(PCSTR Format, ...)
{
    __builtin_ms_va_list Arguments;
    __builtin_ms_va_start(Arguments, Format);
    RtlFormatBufferArguments(KtCurrent.Context, sizeof(KtCurrent.Context), Format, Arguments);
    __builtin_ms_va_end(Arguments);
}

static VOID KtReportFailure(PCSTR File, ULONG Line)
{
    KtCurrent.FailedCheckCount += 1;
    DbgPrint(KT_SUITE_INDENT "# %s:%u: failed: ", File, Line);
    if (KtCurrent.Context[0] != '\0') {
        DbgPrint("[%s] ", KtCurrent.Context);
    }
}

BOOLEAN KtCheck(BOOLEAN Holds, PCSTR Text, PCSTR File, ULONG Line)
{
    KtTotal.CheckCount += 1;
    if (!Holds) {
        KtReportFailure(File, Line);
        DbgPrint("%s\n", Text);
    }
    return Holds;
}

BOOLEAN KtCheckEqual(ULONG64 Actual, ULONG64 Expected, PCSTR Text, PCSTR File, ULONG Line)
{
    KtTotal.CheckCount += 1;
    if (Actual != Expected) {
        KtReportFailure(File, Line);
        DbgPrint("%s (0x%llx, 0x%llx)\n", Text, Actual, Expected);
    }
    return Actual == Expected;
}

VOID KtSkip(PCSTR Reason)
{
    KtCurrent.SkipReason = Reason;
}

VOID KtKeepWhatIsHeld(VOID)
{
    MmQueryMemoryUse(&KtCurrent.Before);
}

VOID KtStayOnOneProcessor(VOID)
{
    KeSetSystemAffinityThread(1);
    KtCurrent.IsOnOneProcessor = TRUE;
}

BOOLEAN KtIsOnOneProcessor(VOID)
{
    return KtCurrent.IsOnOneProcessor;
}

// Threads on other processors may be about to end, or to finish what the test has asked for.
#define KT_SETTLE_MILLISECONDS 500

static VOID KtAwaitOthers(VOID)
{
    for (ULONG Waited = 0;
         KeNumberProcessors > 1 && Waited < KT_SETTLE_MILLISECONDS && KtHasLeaks(&KtCurrent.Before);
         Waited += 1) {
        KtSleep(1);
    }
}

// MmVerify looks at every frame of RAM: where there are very many, it does so at the end of each suite.
#define KT_MANY_PAGES (1ull << (31 - PAGE_SHIFT))

// What must hold after every test, whatever it tested.
static VOID KtCheckAftermath(BOOLEAN IsLast)
{
    KtSetContext("after the test");
    if (!KT_EQUAL(KeGetCurrentIrql(), PASSIVE_LEVEL)) {
        KeLowerIrql(PASSIVE_LEVEL);
    }
    KeRevertToUserAffinityThread();
    KtAwaitOthers();
    if (IsLast || KtCurrent.Before.FreePages < KT_MANY_PAGES) {
        KT_EQUAL(MmVerify(), 0);
    }
    KT_EQUAL(IoVerifyDma(), 0);
    KT_EQUAL(KtCountLeaks(&KtCurrent.Before), 0);
}

static VOID KtReportTest(ULONG Number, PCSTR Name)
{
    KtTotal.TestCount += 1;
    if (KtCurrent.FailedCheckCount > 0) {
        KtTotal.FailedCount += 1;
        DbgPrint(KT_SUITE_INDENT "not ok %u %s\n", Number, Name);
    } else if (KtCurrent.SkipReason != NULL) {
        KtTotal.SkippedCount += 1;
        DbgPrint(KT_SUITE_INDENT "ok %u %s # SKIP %s\n", Number, Name, KtCurrent.SkipReason);
    } else {
        DbgPrint(KT_SUITE_INDENT "ok %u %s\n", Number, Name);
    }
}

static VOID KtRunTest(ULONG Number, const KT_TEST *Test, BOOLEAN IsLast)
{
    RtlZeroMemory(&KtCurrent, sizeof(KtCurrent));
    KtKeepWhatIsHeld();
    Test->Routine();
    KtCheckAftermath(IsLast);
    KtReportTest(Number, Test->Name);
}

// Whether the boot option `skip` names the suite: names are whole, with commas between them.
static BOOLEAN KtIsSkipped(const KT_SUITE *Suite)
{
    PCSTR Name = KtSkipped;
    while (*Name != '\0') {
        PCSTR Letter = Suite->Name;
        for (; *Letter != '\0' && *Letter == *Name; Letter += 1) {
            Name += 1;
        }
        if (*Letter == '\0' && (*Name == ',' || *Name == '\0')) {
            return TRUE;
        }
        while (*Name != '\0' && *Name++ != ',') {
        }
    }
    return FALSE;
}

static BOOLEAN KtIsWanted(const KT_SUITE *Suite, const KT_TEST *Test)
{
    if (KtIsSkipped(Suite)) {
        return FALSE;
    }
    return RtlFindSubstring(Suite->Name, KtFilter) != NULL ||
           RtlFindSubstring(Test->Name, KtFilter) != NULL;
}

static ULONG KtCountWanted(const KT_SUITE *Suite)
{
    ULONG WantedCount = 0;
    for (ULONG Index = 0; Index < Suite->TestCount; Index += 1) {
        WantedCount += KtIsWanted(Suite, &Suite->Tests[Index]) ? 1 : 0;
    }
    return WantedCount;
}

static VOID KtRunSuite(ULONG Number, const KT_SUITE *Suite)
{
    if (Suite->Needs == KtNeedsDevices && KtHasOption("nodevices")) {
        DbgPrint("ok %u %s # SKIP the boot option nodevices\n", Number, Suite->Name);
        return;
    }
    DbgPrint(KT_SUITE_INDENT "KTAP version 1\n");
    DbgPrint(KT_SUITE_INDENT "# Subtest: %s\n", Suite->Name);
    const ULONG WantedCount = KtCountWanted(Suite);
    DbgPrint(KT_SUITE_INDENT "1..%u\n", WantedCount);
    const ULONG FailedBefore = KtTotal.FailedCount;
    ULONG TestNumber = 0;
    for (ULONG Index = 0; Index < Suite->TestCount; Index += 1) {
        if (KtIsWanted(Suite, &Suite->Tests[Index])) {
            TestNumber += 1;
            KtRunTest(TestNumber, &Suite->Tests[Index], TestNumber == WantedCount);
        }
    }
    DbgPrint("%s %u %s\n", KtTotal.FailedCount == FailedBefore ? "ok" : "not ok", Number,
             Suite->Name);
}

// Named by linker.ld.
extern const UCHAR KiTestTextStart[], KiTestTextEnd[];

// What the tests, or a driver on its way out, have left behind, is a failure, too.
static VOID KtReportLeaks(VOID)
{
    MM_LEAKS Leaks;
    MmSimulateLowResources(0, 0, FALSE); // a removal cannot be refused, so it must not run short
    IoUnloadDrivers();
    MmReportLeaks(NULL, &Leaks);
    DbgPrint("# leaks, with the drivers unloaded: %u, %llu bytes\n", Leaks.Count, Leaks.ByteCount);
    KtTotal.FailedCount += Leaks.Count != 0 || IoReportDmaLeaks(NULL) != 0;
}

static VOID KtPrintTotal(VOID)
{
    DbgPrint("# total: %u tests, %u passed, %u failed, %u skipped, %u checks\n", KtTotal.TestCount,
             KtTotal.TestCount - KtTotal.FailedCount - KtTotal.SkippedCount, KtTotal.FailedCount,
             KtTotal.SkippedCount, KtTotal.CheckCount);
}

BOOLEAN KiRunSelfTests(VOID)
{
    if (!KeGetBootOption("filter", KtFilter, sizeof(KtFilter))) {
        KtFilter[0] = '\0';
    }
    if (!KeGetBootOption("skip", KtSkipped, sizeof(KtSkipped))) {
        KtSkipped[0] = '\0';
    }
    KiRegisterCode("self-tests", (ULONG_PTR)KiTestTextStart,
                   (SIZE_T)(KiTestTextEnd - KiTestTextStart), FALSE);
    IoSetIrpCacheDepth(0);
    // What goes on by itself would count as a leak, and the network cards are their own tests'. The suite
    // inet loads it again.
    (VOID) IoUnloadDriver("inet");
    // From here on the tests themselves decide what fails.
    DbgPrint("# allocations that failed on purpose so far: %llu\n", MmSimulatedFailureCount());
    ULONG SuiteCount = 0;
    for (ULONG Index = 0; Index < ARRAYSIZE(KtSuites); Index += 1) {
        SuiteCount += KtCountWanted(KtSuites[Index]) > 0 ? 1 : 0;
    }
    DbgPrint("KTAP version 1\n1..%u\n", SuiteCount);
    ULONG SuiteNumber = 0;
    for (ULONG Index = 0; Index < ARRAYSIZE(KtSuites); Index += 1) {
        if (KtCountWanted(KtSuites[Index]) > 0) {
            SuiteNumber += 1;
            KtRunSuite(SuiteNumber, KtSuites[Index]);
        }
    }
    KtReportLeaks();
    KtPrintTotal();
    return KtTotal.TestCount > 0 && KtTotal.FailedCount == 0;
}
