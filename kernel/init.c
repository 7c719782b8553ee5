// The start of the kernel: its phases in order, then what the boot option `mode` asks for. The only
// file that knows everybody.
#include <wdm.h>

#include "kernel/demo.h"
#include "kernel/inc/cm.h"
#include "kernel/inc/ex.h"
#include "kernel/inc/io.h"
#include "kernel/inc/kd.h"
#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "kernel/inc/ldr.h"
#include "kernel/inc/loader.h"
#include "kernel/inc/ps.h"
#include "kernel/inc/ob.h"
#include "kernel/inc/rtl.h"
#include "kernel/inc/tests.h"
#include "mm/mm.h"

#define KI_OPTION_BYTES 64

// What the kernel does once it runs. TRUE: passed.
typedef BOOLEAN KI_MODE_ROUTINE(const LOADER_BLOCK *LoaderBlock);

static BOOLEAN KiRunTestMode(const LOADER_BLOCK *LoaderBlock)
{
    UNREFERENCED_PARAMETER(LoaderBlock);
    return KiRunSelfTests();
}

static BOOLEAN KiRunBenchMode(const LOADER_BLOCK *LoaderBlock)
{
    UNREFERENCED_PARAMETER(LoaderBlock);
    (VOID) IoUnloadDriver("inet"); // the network cards are the measurements' own
    if (!KeGetBootOption("rates", NULL, 0)) {
        KeStopClock(); // so that the counts repeat
    }
    KiRunBenchmarks();
    return TRUE;
}

static BOOLEAN KiRunBugCheckMode(const LOADER_BLOCK *LoaderBlock)
{
    CHAR Name[KI_OPTION_BYTES] = "";
    UNREFERENCED_PARAMETER(LoaderBlock);
    KeGetBootOption("bugcheck", Name, sizeof(Name));
    KiRunBugCheckTest(Name);
    DbgPrint("init: bug-check test \"%s\" came back\n", Name);
    return FALSE;
}

typedef struct _KI_MODE {
    PCSTR Name;
    KI_MODE_ROUTINE *Routine;
} KI_MODE;

// The first one is the default.
static const KI_MODE KiModes[] = {
    {"demo", KiRunDemo},       {"drivers", KiRunDrivers},       {"test", KiRunTestMode},
    {"bench", KiRunBenchMode}, {"bugcheck", KiRunBugCheckMode}, {"net", KiRunNetwork},
};

static BOOLEAN KiRunMode(const LOADER_BLOCK *LoaderBlock)
{
    CHAR Name[KI_OPTION_BYTES];
    if (!KeGetBootOption("mode", Name, sizeof(Name))) {
        return KiModes[0].Routine(LoaderBlock);
    }
    for (ULONG Row = 0; Row < ARRAYSIZE(KiModes); Row += 1) {
        if (RtlStringsEqual(KiModes[Row].Name, Name)) {
            return KiModes[Row].Routine(LoaderBlock);
        }
    }
    DbgPrint("init: there is no mode \"%s\"\n", Name);
    return FALSE;
}

static VOID KiStartProcessor(const LOADER_BLOCK *LoaderBlock)
{
    KeInitializeProcessor(0);
    KdInitializeConsole();
    KeSetBootCommandLine(LoaderBlock->CommandLine);
    DbgPrint("\nIoSpace, x86-64; boot options: \"%s\"\n", LoaderBlock->CommandLine);
    KiInitializeSymbols(LoaderBlock);
    KePrintProcessor();
    KeInitializeClock();
}

static VOID KiStartMemory(const LOADER_BLOCK *LoaderBlock)
{
    if (KeGetBootOption("leaf4k", NULL, 0)) {
        MmLimitLeafSize();
    }
    CHAR Level[KI_OPTION_BYTES];
    if (KeGetBootOption("verifier", Level, sizeof(Level))) {
        MmVerifierLevel = RtlStringsEqual(Level, "0") ? 0 : 1;
    }
    MmInitSystem(LoaderBlock);
}

static VOID KiStartDispatcher(VOID)
{
    const PVOID IdleStack = MmCreateKernelStack(NULL);
    if (IdleStack == NULL) {
        KeBugCheckEx(PHASE0_INITIALIZATION_FAILED, 1, 0, 0, 0);
    }
    KeInitializeDispatcher(IdleStack, MM_KERNEL_STACK_BYTES);
    PsInitSystem();
    MmMapSharedData(KeInitializeSharedData());
    KeStartClock();
}

static VOID KiStartInterrupts(VOID)
{
    KeArchInitializeInterrupts();
    KiStartDispatcher();
}

DECLSPEC_NORETURN VOID KiSystemStartup(PLOADER_BLOCK LoaderBlock)
{
    KiStartProcessor(LoaderBlock);
    KiStartMemory(LoaderBlock);
    KiStartInterrupts();
    ObInitSystem();
    CmInitSystem();
    ExInitSystem();
    LdrInitSystem(LoaderBlock);
    MmReadFailureOptions(); // from here on, whoever gets no memory must do without
    IoInitSystem(LoaderBlock);
    const BOOLEAN HasPassed = KiRunMode(LoaderBlock);
    IoShutdownDrivers();
    KeExitMachine(HasPassed ? KeExitPassed : KeExitFailed);
}
