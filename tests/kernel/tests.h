// The framework of the tests that run inside the kernel.
//
// A suite is an array of tests, a test is a sentence and a routine. The sentence ends with the
// clause of the contract that it proves, in brackets. An unlisted test is an error of the compiler
// (a static function that nobody uses).
//
//     static VOID ZeroBytesAreRefused(VOID)
//     {
//         KT_EQUAL(MmMapIoSpaceEx(KtPhysical(Gap), 0, PAGE_READWRITE), NULL);
//     }
//
//     static const KT_TEST Tests[] = {
//         {"MmMapIoSpaceEx refuses zero bytes [4.1.3]", ZeroBytesAreRefused},
//     };
//     const KT_SUITE KtIoSpaceSuite = {"iospace", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
//
// A failed check reports itself and the test goes on; KT_REQUIRE ends the test, for checks without
// which the rest would make no sense. After every test the framework verifies all invariants of mm,
// compares what mm holds with what it held before, and looks at the IRQL. Results go to the console
// as KTAP version 1.
#pragma once

#include <wdm.h>

#include "kernel/inc/ob.h"
#include "kernel/inc/tests.h"
#include "mm/mm.h"

typedef VOID KT_ROUTINE(VOID);

typedef struct _KT_TEST {
    PCSTR Name;
    KT_ROUTINE *Routine;
} KT_TEST;

typedef enum _KT_NEEDS {
    KtNeedsNothing,
    KtNeedsDevices, // skipped with the boot option `nodevices`
} KT_NEEDS;

typedef struct _KT_SUITE {
    PCSTR Name;
    KT_NEEDS Needs;
    const KT_TEST *Tests;
    ULONG TestCount;
} KT_SUITE;

extern const KT_SUITE KtCpuSuite;
extern const KT_SUITE KtDispatcherSuite;
extern const KT_SUITE KtThreadsSuite;
extern const KT_SUITE KtAloneSuite;
extern const KT_SUITE KtSyncSuite;
extern const KT_SUITE KtProcessorsSuite;
extern const KT_SUITE KtInterruptSuite;
extern const KT_SUITE KtTablesSuite;
extern const KT_SUITE KtPoolSuite;
extern const KT_SUITE KtVerifierSuite;
extern const KT_SUITE KtPhysicalSuite;
extern const KT_SUITE KtIoSpaceSuite;
extern const KT_SUITE KtCacheTypeSuite;
extern const KT_SUITE KtMdlSuite;
extern const KT_SUITE KtMdlPagesSuite;
extern const KT_SUITE KtMdlPartSuite;
extern const KT_SUITE KtLockSuite;
extern const KT_SUITE KtExceptionSuite;
extern const KT_SUITE KtSehSuite;
extern const KT_SUITE KtContiguousSuite;
extern const KT_SUITE KtCopySuite;
extern const KT_SUITE KtMemoryTypesSuite;
extern const KT_SUITE KtReserveSuite;
extern const KT_SUITE KtStaleSuite;
extern const KT_SUITE KtStalePeersSuite;
extern const KT_SUITE KtShootdownSuite;
extern const KT_SUITE KtFailureSuite;
extern const KT_SUITE KtEduSuite;
extern const KT_SUITE KtE1000Suite;
extern const KT_SUITE KtE1000LoopSuite;
extern const KT_SUITE KtInetSuite;
extern const KT_SUITE KtNvmeSuite;
extern const KT_SUITE KtNvmeQueueSuite;
extern const KT_SUITE KtDiskSuite;
extern const KT_SUITE KtNvmeControlSuite;
extern const KT_SUITE KtIoSuite;
extern const KT_SUITE KtDmaSuite;
extern const KT_SUITE KtIvshmemSuite;
extern const KT_SUITE KtObSuite;
extern const KT_SUITE KtIrpSuite;
extern const KT_SUITE KtPnpSuite;
extern const KT_SUITE KtExSuite;
extern const KT_SUITE KtExLockSuite;
extern const KT_SUITE KtRegistrySuite;
extern const KT_SUITE KtSystemSuite;
extern const KT_SUITE KtImageSuite;
extern const KT_SUITE KtQueueSuite;
extern const KT_SUITE KtStrangerSuite;
extern const KT_SUITE KtExamplesSuite;
extern const KT_SUITE KtRecoverySuite;
extern const KT_SUITE KtScenarioSuite;
extern const KT_SUITE KtIntegritySuite;
extern const KT_SUITE KtStressSuite;
extern const KT_SUITE KtTroubleSuite;
extern const KT_SUITE KtOracleSuite;

//
// Checks (selftest.c). Each returns whether it held.
//

BOOLEAN KtCheck(BOOLEAN Holds, PCSTR Text, PCSTR File, ULONG Line);
BOOLEAN KtCheckEqual(ULONG64 Actual, ULONG64 Expected, PCSTR Text, PCSTR File, ULONG Line);
VOID KtSkip(PCSTR Reason);

// What mm holds now is there to stay, for a test of what cannot be undone; nothing that the test
// allocated may be among it.
VOID KtKeepWhatIsHeld(VOID);

// Reports of checks that follow carry this, for tests that go through a table: "row 3" alone says
// little.
VOID NTAPI KtSetContext(PCSTR Format, ...);

#define KT_CHECK(Expression) KtCheck((Expression) ? TRUE : FALSE, #Expression, __FILE__, __LINE__)
#define KT_EQUAL(Actual, Expected)                                                                 \
    KtCheckEqual((ULONG64)(Actual), (ULONG64)(Expected), #Actual " == " #Expected, __FILE__,       \
                 __LINE__)

#define KT_REQUIRE(Expression)                                                                     \
    do {                                                                                           \
        if (!KT_CHECK(Expression)) {                                                               \
            return;                                                                                \
        }                                                                                          \
    } while (0)

#define KT_SKIP(Reason)                                                                            \
    do {                                                                                           \
        KtSkip(Reason);                                                                            \
        return;                                                                                    \
    } while (0)

//
// A driver object that a test makes up itself: an object of Ob, as any other.
//

typedef struct _KT_DRIVER {
    OB_HEADER Header;
    DRIVER_OBJECT Object;
} KT_DRIVER;

#define KT_DRIVER_INITIALIZER(...)                                                                 \
    {                                                                                              \
        .Header = {.PointerCount = 1, .IsStatic = TRUE}, .Object = { __VA_ARGS__ }                 \
    }

//
// Addresses (support.c).
//

static inline PHYSICAL_ADDRESS KtPhysical(ULONG64 Address)
{
    PHYSICAL_ADDRESS Result;
    Result.QuadPart = (LONG64)Address;
    return Result;
}

static inline PVOID KtAdd(const VOID *Base, ULONG64 ByteCount)
{
    return (PVOID)((ULONG_PTR)Base + ByteCount);
}

static inline ULONG64 KtPhysicalOf(const VOID *Va)
{
    return (ULONG64)MmGetPhysicalAddress((PVOID)(ULONG_PTR)Va).QuadPart;
}

#define KT_TAG 'tseT'
#define KT_KIB 1024ull
#define KT_MIB (1024 * KT_KIB)
#define KT_GIB (1024 * KT_MIB)

// The window far above RAM in which nothing answers: its ranges are mapped and never touched.
#define KT_GAP_LOWEST (64 * KT_GIB)
#define KT_GAP_HIGHEST (512 * KT_GIB - 1)

// Free I/O space that nobody owns, for mappings that are never touched. 0: there is none.
ULONG64 KtFindGap(ULONG64 ByteCount, ULONG64 Alignment);

// Real device memory that can be read, written and executed (a video or a shared-memory BAR) and
// that no driver uses. 0: the machine has none of it.
ULONG64 KtFindDeviceMemory(VOID);

// The registers of the local APIC, which every machine has; 32-bit accesses only. Version is a
// constant register, which reads as all ones where the kernel has put the APIC into x2APIC mode. The
// kernel maps them uncached for good, so no other cache type can be had.
#define KT_APIC_BASE 0xFEE00000ull
#define KT_APIC_VERSION 0x30

// A page of the PCI hole below 4 GiB in which nothing answers and which nobody maps.
#define KT_HOLE 0xFEF00000ull

// Frames of locked RAM, out by MmAllocatePagesForMdl, and their way back.
PMDL KtAllocatePages(ULONG PageCount);
PMDL KtAllocateRun(ULONG PageCount); // adjacent ones
VOID KtFreePages(PMDL Mdl);
ULONG64 KtPageAddress(PMDL Mdl, ULONG Index);

// Frames side by side that are free now, so that a test can ask for just these; 0: there are none.
// Until KtReleaseFreeRun the pool that the test's own requests need is held, lest it come from these very
// frames, and IRQL is DISPATCH_LEVEL, lest another thread take one.
ULONG64 KtFindFreeRun(ULONG PageCount);
VOID KtReleaseFreeRun(VOID);

// The same for who asks for them at once, and at PASSIVE_LEVEL.
ULONG64 KtFindFreeFrames(ULONG PageCount);

// A described, unmapped MDL of free I/O space that nobody touches. NULL: there is none.
PMDL KtAllocateGapMdl(ULONG PageCount);

// Where the direct map shows a physical address of RAM.
PVOID KtDirectMap(ULONG64 PhysicalAddress);

BOOLEAN KtHasOption(PCSTR Name);
ULONG64 KtNumberOption(PCSTR Name, ULONG64 Default); // "name=123"

// Commits the violation of this name, which the verifier must find (violations.c). FALSE: there is
// none.
BOOLEAN KtRunViolation(PCSTR Name);

// The same for a rule of DMA (dmaviolations.c).
BOOLEAN KtRunDmaViolation(PCSTR Name);
BOOLEAN KtRunIoViolation(PCSTR Name);

// Ends a test of what only retail behaviour allows: at level 1 it is a violation, and violations.c
// has it.
#define KT_RETAIL_ONLY()                                                                           \
    do {                                                                                           \
        if (MmVerifierLevel != 0) {                                                                \
            KT_SKIP("a violation at level 1 of the verifier");                                     \
        }                                                                                          \
    } while (0)

//
// Threads (t_dispatcher.c).
//

// What takes longer than this many milliseconds never happens: nothing shorter can be told from a
// machine that is busy with others.
#define KT_LATEST_MS 20000

// Spins until another processor has brought the value so far. FALSE: not in time.
BOOLEAN KtAwaitProcessor(const volatile LONG *Value, LONG AtLeast);

// As a time-out, from now on.
LARGE_INTEGER KtMilliseconds(LONG Milliseconds);
VOID KtSleep(LONG Milliseconds);

// Returns when all other threads have gone as far as they can: they wait.
VOID KtSettle(VOID);

// A system thread, referenced until KtJoin, which waits for its end. Priority 0: the usual one.
PKTHREAD KtStartThread(PKSTART_ROUTINE Routine, PVOID Context, KPRIORITY Priority);

// The same on these processors.
PKTHREAD KtStartThreadOn(KAFFINITY Affinity, PKSTART_ROUTINE Routine, PVOID Context,
                         KPRIORITY Priority);

// From here to its end the test, and every thread that it starts by KtStartThread, is on the first
// processor: for what is true of one processor only, such as who runs before whom.
VOID KtStayOnOneProcessor(VOID);
BOOLEAN KtIsOnOneProcessor(VOID);
VOID KtJoin(PKTHREAD Thread);

//
// The host (askhost.c): `# host: <verb> <arguments>` goes out on the serial port, and an answer comes back.
// tests/qemu/host.py has the verbs. PASSIVE_LEVEL, one thread at a time.
//

// Whether the host did it. It did not: a failed check, with what the host said; and where no host listens,
// the test is skipped. So: if (!KtAskHost("hmp set_link net0 off")) { return; }
BOOLEAN NTAPI KtAskHost(PCSTR Format, ...);

// What the host answered to the last question: the text (until the next question), or the number.
PCSTR KtHostResult(VOID);
ULONG64 KtHostNumber(VOID);

//
// Memory: what is held now, to see whether something grew.
//

// Prints each quantity that grew beyond Before, and returns how many did. Page tables may grow.
ULONG KtCountLeaks(const MM_MEMORY_USE *Before);
BOOLEAN KtHasLeaks(const MM_MEMORY_USE *Before); // says nothing
