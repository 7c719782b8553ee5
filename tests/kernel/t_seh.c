// Structured exceptions across the border: two drivers with handlers, seh.sys by __try (clang) and
// sehgcc.sys by KmTry (gcc), and the kernel's frames between them. Most checks are the drivers' own.
#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "kernel/inc/ldr.h"
#include "kernel/inc/ps.h"
#include "kernel/inc/rtl.h"
#include "tests/drivers/seh/seh.h"
#include "tests/kernel/tests.h"

typedef ULONG NTAPI KT_DRIVER_CHECK(VOID);

static PLDR_IMAGE Clang;
static PLDR_IMAGE Gcc;

static PLDR_IMAGE Load(PCSTR Name)
{
    PLDR_IMAGE Image = NULL;
    SIZE_T ByteCount = 0;
    const VOID *File = LdrFindModule(Name, &ByteCount);
    if (File != NULL) {
        KT_EQUAL(LdrLoadImage(File, ByteCount, Name, &Image), STATUS_SUCCESS);
    }
    return Image;
}

static VOID UnloadBoth(VOID)
{
    if (Clang != NULL) {
        LdrUnloadImage(Clang);
    }
    if (Gcc != NULL) {
        LdrUnloadImage(Gcc);
    }
    Clang = Gcc = NULL;
}

//
// Frames of the kernel between frames of drivers.
//

static DECLSPEC_NOINLINE ULONG CallDeeper(SEH_ROUTINE *Routine, PVOID Context, ULONG Depth)
{
    volatile ULONG Result = Depth == 0 ? Routine(Context) : CallDeeper(Routine, Context, Depth - 1);
    return Result;
}

static ULONG NTAPI CallThroughKernel(SEH_ROUTINE *Routine, PVOID Context)
{
    return CallDeeper(Routine, Context, 3);
}

static ULONG NTAPI CallThroughTry(SEH_ROUTINE *Routine, PVOID Context)
{
    volatile ULONG Result = 0;
    KmTry {
        Result = CallDeeper(Routine, Context, 3);
    }
    KmCatch (Status) {
        return (ULONG)Status;
    }
    return Result;
}

static BOOLEAN LoadBoth(VOID)
{
    Clang = Load("seh.sys");
    Gcc = Load("sehgcc.sys");
    SEH_LINKS *const Links = Clang != NULL ? LdrFindImageExport(Clang, "SehLinks") : NULL;
    if (Links != NULL && Gcc != NULL) {
        Links->ThroughKernel = CallThroughKernel;
        Links->ThroughTry = CallThroughTry;
        Links->ThroughGcc = LdrFindImageExport(Gcc, "SehGccBridge");
        Links->ThroughGccTry = LdrFindImageExport(Gcc, "SehGccTryBridge");
    }
    return Links != NULL && Gcc != NULL;
}

// A check of one of the drivers.
static VOID Run(const LDR_IMAGE *Image, PCSTR Name)
{
    KT_DRIVER_CHECK *const Check = LdrFindImageExport(Image, Name);
    if (KT_CHECK(Check != NULL)) {
        KT_EQUAL(Check(), 0); // the line of the check that failed
        KT_EQUAL(KeArchGetCurrentThread()->ExceptionList, NULL);
        KT_EQUAL(KeGetCurrentIrql(), PASSIVE_LEVEL);
    }
}

#define RUN_CLANG(Name)                                                                            \
    static VOID Name(VOID)                                                                         \
    {                                                                                              \
        if (LdrFindModule("seh.sys", &(SIZE_T){0}) == NULL) {                                      \
            KT_SKIP("no compiler with __try made seh.sys");                                        \
        }                                                                                          \
        if (KT_CHECK(LoadBoth())) {                                                                \
            Run(Clang, #Name);                                                                     \
        }                                                                                          \
        UnloadBoth();                                                                              \
    }

#define RUN_GCC(Name)                                                                              \
    static VOID Name(VOID)                                                                         \
    {                                                                                              \
        Gcc = Load("sehgcc.sys");                                                                  \
        if (KT_CHECK(Gcc != NULL)) {                                                               \
            Run(Gcc, #Name);                                                                       \
        }                                                                                          \
        UnloadBoth();                                                                              \
    }

RUN_CLANG(SehRaiseOfACalledFunction)
RUN_CLANG(SehRaiseOfTheKernel)
RUN_CLANG(SehLoad)
RUN_CLANG(SehStore)
RUN_CLANG(SehNonCanonical)
RUN_CLANG(SehDivide)
RUN_CLANG(SehCallOfNull)
RUN_CLANG(SehOtherFaults)
RUN_CLANG(SehNested)
RUN_CLANG(SehRaiseInExcept)
RUN_CLANG(SehContinue)
RUN_CLANG(SehRaiseAndContinue)
RUN_CLANG(SehContinueNoncontinuable)
RUN_CLANG(SehRaiseInFilter)
RUN_CLANG(SehFilterThatHandlesItsOwn)
RUN_CLANG(SehFinally)
RUN_CLANG(SehReturn)
RUN_CLANG(SehRaiseInFinally)
RUN_CLANG(SehFinallyThatHandlesItsOwn)
RUN_CLANG(SehFaultInFinally)
RUN_CLANG(SehThroughOthers)
RUN_CLANG(SehTryIsInner)
RUN_CLANG(SehTryIsOuter)
RUN_CLANG(SehRegisters)
RUN_CLANG(SehAtDispatch)
RUN_CLANG(SehManyTimes)
RUN_CLANG(SehTrace)
RUN_CLANG(SehWalk)
RUN_GCC(SehGccRaises)
RUN_GCC(SehGccFaults)
RUN_GCC(SehGccRaiseOfTheKernel)

//
// The kernel alone.
//

static const volatile ULONG *volatile UserAddress = (const volatile ULONG *)0x10000;

static VOID ATryOfTheKernelCatchesFaults(VOID)
{
    volatile NTSTATUS Caught = 0;
    KmTry {
        Caught = (NTSTATUS)*UserAddress;
    }
    KmCatch (Status) {
        Caught = Status;
    }
    KT_EQUAL(Caught, STATUS_ACCESS_VIOLATION);
}

#define DEPTH 6

static DECLSPEC_NOINLINE ULONG CaptureDeeper(PVOID *Callers, ULONG Depth)
{
    volatile ULONG Count = Depth == 0 ? RtlCaptureStackBackTrace(0, DEPTH + 2, Callers, NULL)
                                      : CaptureDeeper(Callers, Depth - 1);
    return Count;
}

static VOID ATraceFollowsTheCalls(VOID)
{
    PVOID Callers[DEPTH + 2];
    KT_EQUAL(CaptureDeeper(Callers, DEPTH), DEPTH + 2);
    ULONG_PTR Offset;
    for (ULONG Index = 0; Index <= DEPTH; Index += 1) {
        KT_CHECK(
            RtlStringsEqual(KiFindSymbol((ULONG_PTR)Callers[Index], &Offset), "CaptureDeeper"));
    }
    KT_CHECK(RtlStringsEqual(KiFindSymbol((ULONG_PTR)Callers[DEPTH + 1], &Offset), __func__));
    KT_EQUAL(RtlCaptureStackBackTrace(1000, 1, Callers, NULL), 0);
    KT_EQUAL(RtlWalkFrameChain(Callers, 1, 0), 1);
    KT_CHECK(RtlStringsEqual(KiFindSymbol((ULONG_PTR)Callers[0], &Offset), __func__));
    KT_EQUAL(RtlWalkFrameChain(Callers, 1, 1), 0);
}

static const KT_TEST Tests[] = {
    {"A KmTry of the kernel catches a fault [1.1.5]", ATryOfTheKernelCatchesFaults},
    {"A stack trace has every caller, innermost first", ATraceFollowsTheCalls},
    {"gcc: a KmTry in a driver catches raises [1.1.1, 1.1.3]", SehGccRaises},
    {"gcc: and faults of the processor [1.1.5]", SehGccFaults},
    {"gcc: and what the kernel raises [1.1.1]", SehGccRaiseOfTheKernel},
    {"__except gets the raise of a called function [1.1.6]", SehRaiseOfACalledFunction},
    {"__except gets what MmProbeAndLockPages raises [1.1.6]", SehRaiseOfTheKernel},
    {"__except gets a load from a bad user address, with its address [1.1.5]", SehLoad},
    {"__except gets a store to a bad user address, with its address [1.1.5]", SehStore},
    {"__except gets an access to an address that is not canonical [1.1.5]", SehNonCanonical},
    {"__except gets a division by zero [1.1.5]", SehDivide},
    {"__except gets a call of a null pointer [1.1.5]", SehCallOfNull},
    {"__except gets breakpoints, illegal instructions and assertions [1.1.5]", SehOtherFaults},
    {"Filters are asked from the inside out [1.1.3, 1.1.6]", SehNested},
    {"A raise in an __except goes to the next outer one [1.1.3]", SehRaiseInExcept},
    {"A filter may change the registers and continue [1.1.6]", SehContinue},
    {"RtlRaiseException returns when a filter continues [1.1.6]", SehRaiseAndContinue},
    {"Whoever continues what is not continuable raises that [1.1.6]", SehContinueNoncontinuable},
    {"A raise in a filter is a nested exception [1.1.6]", SehRaiseInFilter},
    {"A filter may handle exceptions of its own [1.1.3]", SehFilterThatHandlesItsOwn},
    {"__finally blocks run behind the filters, from the inside out [1.1.7]", SehFinally},
    {"A __finally runs on every way out of its __try [1.1.7]", SehReturn},
    {"A raise in a __finally collides, and nothing runs twice [1.1.7]", SehRaiseInFinally},
    {"A __finally may handle exceptions of its own [1.1.3, 1.1.7]", SehFinallyThatHandlesItsOwn},
    {"A fault in a __finally collides, too [1.1.7]", SehFaultInFinally},
    {"An exception passes the kernel's frames, and another driver's [1.1.6]", SehThroughOthers},
    {"A KmTry inside of a __try wins, and the __finally blocks run [1.1.7]", SehTryIsInner},
    {"A KmTry outside of a __try is passed over, and stays in force [1.1.3]", SehTryIsOuter},
    {"All nonvolatile registers survive, xmm6 to xmm15 among them [1.1.8]", SehRegisters},
    {"A raise at DISPATCH_LEVEL is handled there [1.1.4]", SehAtDispatch},
    {"Thousands of exceptions leave nothing behind [1.1.6, 1.1.7]", SehManyTimes},
    {"A driver's stack trace goes through the kernel", SehTrace},
    {"A driver may walk the stack itself, through the kernel", SehWalk},
};

const KT_SUITE KtSehSuite = {"seh", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
