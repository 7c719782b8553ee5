// Runs the host tests: a child per test, KTAP version 1 on the standard output.
//
//   host-asan [--filter=text] [--verbose] [--summary=file] [--name=number ...] [suite ...]
//
// --filter runs the tests whose "suite.name" contains the text. --summary appends "passed failed"
// to a file. Whatever else has the form --name=number is an option that tests read by HostOption.
#include <stdarg.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/host/host.h"

#define TEST_TIMEOUT_SECONDS 300

#define SUITES(Apply)                                                                              \
    Apply(bitmap) Apply(intervaltree) Apply(print) Apply(checked) Apply(codec) Apply(protect)      \
        Apply(physmap) Apply(memorymap) Apply(ptmgr) Apply(claim) Apply(ledger) Apply(mapping)     \
            Apply(cachetype) Apply(pool) Apply(special) Apply(verifier) Apply(iospace) Apply(mdl)  \
                Apply(mdlmap) Apply(mdlpages) Apply(reserve) Apply(query) Apply(misuse)            \
                    Apply(failure) Apply(verify) Apply(watch) Apply(dhcp) Apply(inet) Apply(nvme)  \
                        Apply(handoff) Apply(exception) Apply(unwind) Apply(lock) Apply(mdlpart)   \
                            Apply(mdlprotect) Apply(contiguous) Apply(noncached) Apply(stack)      \
                                Apply(quarantine) Apply(copy) Apply(mtrr) Apply(branches)          \
                                    Apply(damage) Apply(paths) Apply(owners) Apply(imagememory)    \
                                        Apply(image) Apply(crt) Apply(rtlstring) Apply(table)      \
                                            Apply(corpus) Apply(processors) Apply(model)

#define DECLARE_SUITE(Name) extern const HOST_SUITE HostSuite_##Name;
SUITES(DECLARE_SUITE)

#define LIST_SUITE(Name) &HostSuite_##Name,
static const HOST_SUITE *const Suites[] = {SUITES(LIST_SUITE)};

// A child's memory goes with the child.
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}

static int ArgumentCount;
static char **Arguments;

// The value of --Name=..., or NULL.
static const CHAR *FindOption(const CHAR *Name)
{
    const SIZE_T Length = strlen(Name);
    for (int Index = 1; Index < ArgumentCount; Index += 1) {
        const CHAR *Argument = Arguments[Index];
        if (strncmp(Argument, "--", 2) == 0 && strncmp(Argument + 2, Name, Length) == 0 &&
            (Argument[2 + Length] == '=' || Argument[2 + Length] == '\0')) {
            return Argument[2 + Length] == '=' ? Argument + 3 + Length : "";
        }
    }
    return NULL;
}

ULONG64 HostOption(const CHAR *Name, ULONG64 Default)
{
    const CHAR *Value = FindOption(Name);
    return Value != NULL ? strtoull(Value, NULL, 0) : Default;
}

static VOID PrintDiagnostic(const CHAR *Text)
{
    fputs("    # ", stdout);
    for (; *Text != '\0'; Text += 1) {
        putchar(*Text);
        if (*Text == '\n' && Text[1] != '\0') {
            fputs("    # ", stdout);
        }
    }
    putchar('\n');
}

VOID (*HostExplain)(VOID);

VOID HostFail(const CHAR *File, int Line, const CHAR *Format, ...)
{
    CHAR Text[4096];
    va_list Rest;
    va_start(Rest, Format);
    const int Head = snprintf(Text, sizeof(Text), "%s:%d: ", File, Line);
    vsnprintf(Text + Head, sizeof(Text) - (SIZE_T)Head, Format, Rest);
    va_end(Rest);
    PrintDiagnostic(Text);
    if (HostExplain != NULL) {
        HostExplain();
    }
    if (FindOption("verbose") != NULL) {
        PrintDiagnostic(HostPrinted());
    }
    exit(EXIT_FAILURE);
}

static DECLSPEC_NORETURN VOID RunInChild(const HOST_TEST *Test)
{
    alarm((unsigned)HostOption("timeout", TEST_TIMEOUT_SECONDS));
    if (Test->Machine != NULL) {
        FakeStartMachine(Test->Machine);
    }
    Test->Routine();
    if (Test->Machine != NULL && FakeRootPfn() != 0) {
        HostAudit();
    }
    exit(EXIT_SUCCESS);
}

static BOOLEAN RunTest(const HOST_TEST *Test)
{
    fflush(stdout);
    const pid_t Child = fork();
    if (Child == 0) {
        RunInChild(Test);
    }
    int Status = 0;
    if (Child < 0 || waitpid(Child, &Status, 0) != Child) {
        return FALSE;
    }
    if (WIFSIGNALED(Status)) {
        printf("    # ended by signal %d\n", WTERMSIG(Status));
    }
    return WIFEXITED(Status) && WEXITSTATUS(Status) == EXIT_SUCCESS;
}

static BOOLEAN IsWanted(const HOST_SUITE *Suite, const HOST_TEST *Test)
{
    const CHAR *Filter = FindOption("filter");
    CHAR FullName[256];
    BOOLEAN NamesSuites = FALSE;
    BOOLEAN NamesThisSuite = FALSE;
    for (int Index = 1; Index < ArgumentCount; Index += 1) {
        if (strncmp(Arguments[Index], "--", 2) != 0) {
            NamesSuites = TRUE;
            NamesThisSuite = NamesThisSuite || strcmp(Arguments[Index], Suite->Name) == 0;
        }
    }
    snprintf(FullName, sizeof(FullName), "%s.%s", Suite->Name, Test->Name);
    return (!NamesSuites || NamesThisSuite) && (Filter == NULL || strstr(FullName, Filter) != NULL);
}

static ULONG CountWanted(const HOST_SUITE *Suite)
{
    ULONG Count = 0;
    for (ULONG Index = 0; Index < Suite->TestCount; Index += 1) {
        Count += IsWanted(Suite, &Suite->Tests[Index]);
    }
    return Count;
}

static ULONG Passed;
static ULONG Failed;

// Returns TRUE when all tests of the suite passed.
static BOOLEAN RunSuite(const HOST_SUITE *Suite)
{
    const ULONG FailedBefore = Failed;
    ULONG Number = 0;
    printf("    KTAP version 1\n    # Subtest: %s\n    1..%u\n", Suite->Name, CountWanted(Suite));
    for (ULONG Index = 0; Index < Suite->TestCount; Index += 1) {
        const HOST_TEST *Test = &Suite->Tests[Index];
        if (!IsWanted(Suite, Test)) {
            continue;
        }
        Number += 1;
        const BOOLEAN IsOk = RunTest(Test);
        *(IsOk ? &Passed : &Failed) += 1;
        printf("    %s %u %s # %s\n", IsOk ? "ok" : "not ok", Number, Test->Name, Test->Clause);
    }
    return Failed == FailedBefore;
}

static VOID WriteSummary(VOID)
{
    const CHAR *Path = FindOption("summary");
    FILE *File = Path != NULL ? fopen(Path, "a") : NULL;
    if (File != NULL) {
        fprintf(File, "%u %u\n", Passed, Failed);
        fclose(File);
    }
}

int main(int Count, char **Values)
{
    ArgumentCount = Count;
    Arguments = Values;
    ULONG SuiteCount = 0;
    for (ULONG Index = 0; Index < ARRAYSIZE(Suites); Index += 1) {
        SuiteCount += CountWanted(Suites[Index]) != 0;
    }
    printf("KTAP version 1\n1..%u\n", SuiteCount);
    ULONG Number = 0;
    for (ULONG Index = 0; Index < ARRAYSIZE(Suites); Index += 1) {
        if (CountWanted(Suites[Index]) != 0) {
            Number += 1;
            const BOOLEAN IsOk = RunSuite(Suites[Index]);
            printf("%s %u %s\n", IsOk ? "ok" : "not ok", Number, Suites[Index]->Name);
        }
    }
    printf("# passed %u, failed %u\n", Passed, Failed);
    WriteSummary();
    return Passed == 0 || Failed != 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
