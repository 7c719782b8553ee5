// The host tests: all of mm, compiled for the build machine, against an architecture that is not
// one.
//
//   runner.c       forks a child per test, prints KTAP, counts
//   fakearch.c     fulfils mm/miarch.h: a code of entries that differs per level, memory in a file
//   watch.c        looks on at every store of an entry: translations, a model of the TLB, caches
//   fakeke.c       fulfils kernel/inc/ke.h as far as mm asks it
//   fakemachine.c  machines to start mm on
//   border.c       stands before every exported routine: what must hold whenever one returns
//   model.c        a naive model of all that mm promises, for random sequences
//   t_*.c          the tests; a test's name is a sentence, its clause says where that is promised
//
// A test runs in a process of its own, on a machine that its row names, with mm freshly started.
// The first failed check ends it.
#pragma once

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <wdm.h>

#include "kernel/inc/loader.h"
#include "mm/mi.h"

//
// runner.c
//

typedef struct _FAKE_MACHINE FAKE_MACHINE;
typedef VOID HOST_TEST_ROUTINE(VOID);

typedef struct _HOST_TEST {
    const CHAR *Name;
    const CHAR *Clause; // of the contract, or the invariant, that the test proves
    HOST_TEST_ROUTINE *Routine;
    const FAKE_MACHINE *Machine; // NULL: nothing is started
} HOST_TEST;

typedef struct _HOST_SUITE {
    const CHAR *Name;
    const HOST_TEST *Tests;
    ULONG TestCount;
} HOST_SUITE;

#define HOST_ROW(Routine, Clause, Machine)                                                         \
    {                                                                                              \
#Routine, Clause, Routine, Machine                                                         \
    }
#define HOST_DEFINE_SUITE(SuiteName)                                                               \
    const HOST_SUITE HostSuite_##SuiteName = {#SuiteName, Tests, ARRAYSIZE(Tests)}

// Ends the test as failed.
__attribute__((format(printf, 3, 4))) DECLSPEC_NORETURN VOID HostFail(const CHAR *File, int Line,
                                                                      const CHAR *Format, ...);
// Called by HostFail, when set: prints what else is worth knowing.
extern VOID (*HostExplain)(VOID);

#define FAIL(...) HostFail(__FILE__, __LINE__, __VA_ARGS__)

#define CHECK(Expression)                                                                          \
    do {                                                                                           \
        if (!(Expression)) {                                                                       \
            FAIL("not so: %s", #Expression);                                                       \
        }                                                                                          \
    } while (0)

#define CHECK_EQUAL(Actual, Expected)                                                              \
    do {                                                                                           \
        const ULONG64 Actual_ = (ULONG64)(Actual);                                                 \
        const ULONG64 Expected_ = (ULONG64)(Expected);                                             \
        if (Actual_ != Expected_) {                                                                \
            FAIL("%s is 0x%llx, not 0x%llx (%s)", #Actual, (unsigned long long)Actual_,            \
                 (unsigned long long)Expected_, #Expected);                                        \
        }                                                                                          \
    } while (0)

#define CHECK_TEXT(Actual, Expected)                                                               \
    do {                                                                                           \
        const CHAR *const Text_ = (Actual);                                                        \
        if (strcmp(Text_, (Expected)) != 0) {                                                      \
            FAIL("%s is \"%s\", not \"%s\"", #Actual, Text_, (Expected));                          \
        }                                                                                          \
    } while (0)

// An option of the command line, "--name=value", as a number.
ULONG64 HostOption(const CHAR *Name, ULONG64 Default);

// Everything that DbgPrint has printed in this test.
const CHAR *HostPrinted(VOID);
VOID HostForgetPrinted(VOID);

//
// fakeke.c
//

typedef struct _FAKE_BUG_CHECK {
    jmp_buf Return;
    BOOLEAN IsExpected;
    BOOLEAN Happened;
    ULONG Code;
    ULONG_PTR Parameters[4];
    CHAR Sentence[512];
    PKM_TRY_FRAME ExceptionList; // of the test, outside the statement
} FAKE_BUG_CHECK;

extern FAKE_BUG_CHECK FakeBugCheck;

// Runs Statement, which must bug check. Afterwards FakeBugCheck says how.
#define EXPECT_BUG_CHECK(Statement)                                                                \
    do {                                                                                           \
        FakeExpectBugCheck();                                                                      \
        if (setjmp(FakeBugCheck.Return) == 0) {                                                    \
            Statement;                                                                             \
        }                                                                                          \
        FakeEndExpectation(__FILE__, __LINE__, #Statement);                                        \
    } while (0)

#define CHECK_BUG_CHECK(BugCheckCode, P1, P2, P3, P4)                                              \
    do {                                                                                           \
        CHECK_EQUAL(FakeBugCheck.Code, BugCheckCode);                                              \
        CHECK_EQUAL(FakeBugCheck.Parameters[0], P1);                                               \
        CHECK_EQUAL(FakeBugCheck.Parameters[1], P2);                                               \
        CHECK_EQUAL(FakeBugCheck.Parameters[2], P3);                                               \
        CHECK_EQUAL(FakeBugCheck.Parameters[3], P4);                                               \
        CHECK(FakeBugCheck.Sentence[0] != '\0');                                                   \
    } while (0)

VOID FakeExpectBugCheck(VOID);
VOID FakeEndExpectation(const CHAR *File, int Line, const CHAR *Statement);

extern BOOLEAN FakeIsBugCheckActive;
extern KIRQL FakeIrql;
extern ULONG FakeHeldRanks; // a bit per rank
extern ULONG FakeProcessor; // which one runs

// Idle slots of a size class: those of all processors, and the common ones.
ULONG HostIdleCount(ULONG Class);
extern ULONG64 FakeBroadcasts;
extern ULONG FakeSleepers; // of the others; they do what they are asked all the same
extern const VOID
    *FakeCopyFaultVa;            // where the next KeProbeCopy faults, in the middle; NULL: nowhere
extern BOOLEAN FakeIsNeverAlone; // KiRunAlone fails
// Runs before a lock is taken while none is held: what another processor does meanwhile.
extern VOID (*FakeBeforeLock)(const KI_LOCK *Lock);
extern BOOLEAN FakeCallerIsDriver; // whoever calls is a driver's code
extern ULONG_PTR FakeStackBase;    // a page that is to be taken for a stack
extern KI_EXPLAIN_FAULT *FakeFaultExplainer;
#define FAKE_MSR_COUNT 0x300
extern ULONG64 FakeMsrs[FAKE_MSR_COUNT];
VOID FakeSetBootOption(const CHAR *Name, const CHAR *Value);

//
// fakemachine.c
//

#define FAKE_MAXIMUM_DESCRIPTORS 24

struct _FAKE_MACHINE {
    const CHAR *Name;
    ULONG PhysicalBits;
    ULONG LargestLeafLevel; // of the processor
    BOOLEAN Limits4K;       // the boot option `leaf4k`
    BOOLEAN IsStartedByTest;
    ULONG DescriptorCount;
    LOADER_MEMORY_DESCRIPTOR Descriptors[FAKE_MAXIMUM_DESCRIPTORS];
};

extern const FAKE_MACHINE FakeMachineMax; // 96 MiB, a hole below 4 GiB, RAM above; all leaf sizes
extern const FAKE_MACHINE FakeMachineQemu64; // no 1 GiB leaves, 40 bits
extern const FAKE_MACHINE FakeMachineLeaf4K; // as Max, with the boot option `leaf4k`
extern const FAKE_MACHINE FakeMachineLarge;  // 5 GiB
extern const FAKE_MACHINE FakeMachineBare;   // as Max, but the test starts mm itself

// Device memory that is the same on every machine.
#define FAKE_IO_LOW 0xC0000000ull       // 512 MiB of nothing
#define FAKE_IO_REGISTERS 0xFEB00000ull // a small BAR
#define FAKE_IO_HIGH 0xE000000000ull    // where firmware puts 64-bit BARs
#define FAKE_ECAM 0xB0000000ull         // 256 MiB, reserved by firmware
#define FAKE_ECAM_BYTES 0x10000000ull
#define FAKE_ACPI 0x3F00000ull // 64 KiB of ACPI tables, behind the RAM
#define FAKE_KERNEL_PA 0x200000ull
#define FAKE_KERNEL_BYTES 0x100000ull

extern LOADER_BLOCK FakeLoaderBlock;
VOID FakeFillLoaderBlock(const FAKE_MACHINE *Machine);
VOID FakeStartMachine(const FAKE_MACHINE *Machine);

//
// fakearch.c
//

VOID FakeInitializeArch(ULONG PhysicalBits, ULONG LargestLeafLevel);

// A frame of RAM, whatever the page tables say.
PVOID FakeFrame(PFN_NUMBER Pfn);
BOOLEAN FakeIsRam(PFN_NUMBER Pfn);

extern ULONG64 FakePageFlushes;
extern ULONG64 FakeFullFlushes;
extern ULONG64 FakeStores;

// Turns the mirror of the direct map off: what mm hides can be touched all the same, but it costs
// no system call.
extern BOOLEAN FakeMirrorsDirectMap;

// What an independent walker sees. Level 0: nothing.
typedef struct _FAKE_PAGE {
    ULONG Level;
    PFN_NUMBER Pfn; // of the page of Va itself
    MI_PROTECTION Protection;
} FAKE_PAGE;

FAKE_PAGE FakeWalk(ULONG_PTR Va);
MMPTE FakeLoad(PFN_NUMBER TablePfn, ULONG Index);
PFN_NUMBER FakeRootPfn(VOID);

//
// watch.c
//

VOID WatchInitialize(ULONG PhysicalBits);
VOID WatchLoadRoot(PFN_NUMBER RootPfn);
VOID WatchStore(PFN_NUMBER TablePfn, ULONG Index, MMPTE Old, MMPTE New);
VOID WatchTake(PFN_NUMBER TablePfn, ULONG Index, MMPTE Old);

// Which leaves the processor reads as soon as they are there: all, unless a test says otherwise.
typedef enum _WATCH_READS { WatchReadsAll, WatchReadsSome, WatchReadsNone } WATCH_READS;
extern WATCH_READS WatchReads;

VOID WatchFlushPage(ULONG_PTR Va);
VOID WatchFlushAll(VOID);
VOID WatchFlushCache(ULONG_PTR Va, SIZE_T ByteCount);
VOID WatchFreeFrame(PFN_NUMBER Pfn);
VOID WatchFreeAddresses(ULONG_PTR Va, PFN_NUMBER PageCount);

// An exported routine begins, ends.
VOID WatchBeginCall(const CHAR *Routine);
VOID WatchEndCall(VOID);

// All calls end, because an exception leaves them.
VOID WatchEndCalls(VOID);

// Forgets a call that a bug check ended.
VOID WatchAbandonCall(VOID);

// Mappings of a frame, the direct map's included, with one cache type.
ULONG64 WatchMapCount(PFN_NUMBER Pfn, MI_CACHE_TYPE CacheType);

// Recomputes all that the watcher keeps from the page tables, and compares.
VOID WatchAudit(VOID);

//
// border.c
//

// Everything that must hold between two calls, and costs time.
VOID HostAudit(VOID);
VOID HostCheckSameUse(const MM_MEMORY_USE *Before, const CHAR *What);

// An MDL of PageCount pages of RAM, from anywhere; and its end, when nothing maps it any more.
PMDL HostPagesMdl(PFN_NUMBER PageCount);
VOID HostFreePagesMdl(PMDL Mdl);

//
// For tests.
//

#define PAGES(Count) ((SIZE_T)(Count) << PAGE_SHIFT)

static inline PHYSICAL_ADDRESS Pa(ULONG64 Address)
{
    PHYSICAL_ADDRESS Result;
    Result.QuadPart = (LONG64)Address;
    return Result;
}

// For a result that does not matter, of a routine that must not be ignored.
static inline VOID Ignore(const VOID *Result)
{
    UNREFERENCED_PARAMETER(Result);
}

// One page as an independent walker sees it.
#define CHECK_PAGE(Address, ExpectedPfn, ExpectedAccess, ExpectedType)                             \
    do {                                                                                           \
        const FAKE_PAGE Page_ = FakeWalk((ULONG_PTR)(Address));                                    \
        CHECK(Page_.Level != 0);                                                                   \
        CHECK_EQUAL(Page_.Pfn, ExpectedPfn);                                                       \
        CHECK_EQUAL(Page_.Protection.Access, ExpectedAccess);                                      \
        CHECK_EQUAL(Page_.Protection.CacheType, ExpectedType);                                     \
    } while (0)

#define CHECK_UNMAPPED(Address) CHECK_EQUAL(FakeWalk((ULONG_PTR)(Address)).Level, 0)

static inline PFN_NUMBER PfnOf(ULONG64 Address)
{
    return Address >> PAGE_SHIFT;
}

// The reason of the last refusal must contain Words.
VOID HostCheckRefusal(const CHAR *Words);
