// What mm asks of the rest of the kernel, for the build machine: a processor that is never
// interrupted, and others that do only what it asks of them.
//
// A lock is a bit in FakeHeldRanks, so that a wrong order is a failed check instead of a hang some
// day. A bug check notes its code, its parameters and its sentence; a test that expects it goes on,
// any other has failed.
#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "kernel/inc/ps.h"
#include "kernel/inc/rtl.h"
#include "mm/miquick.h"
#include "tests/host/host.h"

KIRQL FakeIrql;
ULONG FakeHeldRanks;
FAKE_BUG_CHECK FakeBugCheck;
static KTHREAD FakeThread;
KPCR FakePcr = {.CurrentThread = &FakeThread};
BOOLEAN FakeIsBugCheckActive;
KE_FEATURES KeFeatures; // for arch/x64/mm/mtrr.c
ULONG64 FakeMsrs[FAKE_MSR_COUNT];

ULONG64 KeArchReadMsr(ULONG Msr)
{
    CHECK(Msr < FAKE_MSR_COUNT);
    return FakeMsrs[Msr];
}

VOID KeArchWriteMsr(ULONG Msr, ULONG64 Value)
{
    CHECK(Msr < FAKE_MSR_COUNT);
    FakeMsrs[Msr] = Value;
}

//
// Processors: one runs, the first unless a test says otherwise, and the others do what it asks of them.
//

CCHAR KeNumberProcessors = 1;
ULONG FakeProcessor;
ULONG64 FakeBroadcasts;

ULONG FakeSleepers;

ULONG KiBroadcast(KI_BROADCAST_ROUTINE *Routine, PVOID Context, KI_SLEEPERS Sleepers)
{
    static BOOLEAN IsBroadcasting;
    const ULONG Sender = FakeProcessor;
    CHECK(KeNumberProcessors > 1 && !IsBroadcasting && FakeIrql < IPI_LEVEL);
    FakeBroadcasts += 1;
    IsBroadcasting = TRUE;
    for (FakeProcessor = 0; FakeProcessor < (ULONG)KeNumberProcessors; FakeProcessor += 1) {
        Routine(Context);
    }
    IsBroadcasting = FALSE;
    FakeProcessor = Sender;
    return (ULONG)KeNumberProcessors - 1 - (Sleepers == KiLetSleepersMiss ? FakeSleepers : 0);
}

const VOID *FakeCopyFaultVa;

KE_PROBE_RESULT KeProbeCopy(PVOID Target, const VOID *Va, SIZE_T ByteCount)
{
    const BOOLEAN Faulted = FakeCopyFaultVa != NULL;
    const KE_PROBE_RESULT Result = {.Faulted = Faulted, .FaultAddress = (ULONG64)FakeCopyFaultVa};
    FakeCopyFaultVa = NULL;
    RtlCopyMemory(Target, Va, Faulted ? ByteCount / 2 : ByteCount);
    return Result;
}

BOOLEAN FakeIsNeverAlone;

BOOLEAN KiRunAlone(KI_ALONE_ROUTINE *Routine, PVOID Context, ULONG Milliseconds)
{
    const KIRQL OldIrql = FakeIrql;
    CHECK(FakeIrql <= DISPATCH_LEVEL && FakeHeldRanks == 0 && Milliseconds != 0);
    if (FakeIsNeverAlone) {
        return FALSE;
    }
    FakeIrql = DISPATCH_LEVEL;
    Routine(Context);
    FakeIrql = OldIrql;
    return TRUE;
}

ULONG HostIdleCount(ULONG Class)
{
    ULONG Count = MiIdle[Class].Count;
    for (ULONG Number = 0; Number < MI_ARCH_PROCESSORS; Number += 1) {
        Count += MiCaches[Number].Idle[Class].Count;
    }
    return Count;
}

//
// Locks and IRQL.
//

VOID (*FakeBeforeLock)(const KI_LOCK *Lock);

KIRQL KiAcquireLock(PKI_LOCK Lock)
{
    if (FakeBeforeLock != NULL && FakeHeldRanks == 0) {
        FakeBeforeLock(Lock);
    }
    const KIRQL OldIrql = FakeIrql;
    if (FakeIrql > DISPATCH_LEVEL) {
        FAIL("%s is acquired at IRQL %u", Lock->Name, FakeIrql);
    }
    if (Lock->Word != 0 || FakeHeldRanks >> Lock->Rank != 0) {
        FAIL("%s of rank %u is acquired while ranks 0x%x are held", Lock->Name, Lock->Rank,
             FakeHeldRanks);
    }
    Lock->Word = 1;
    FakeHeldRanks |= 1u << Lock->Rank;
    FakeIrql = DISPATCH_LEVEL;
    return OldIrql;
}

VOID KiReleaseLock(PKI_LOCK Lock, KIRQL OldIrql)
{
    if (Lock->Word != 1 || FakeIrql != DISPATCH_LEVEL) {
        FAIL("%s is released, but it is not held", Lock->Name);
    }
    Lock->Word = 0;
    FakeHeldRanks &= ~(1u << Lock->Rank);
    FakeIrql = OldIrql;
}

ULONG64 KiAcquireBriefLock(PKI_LOCK Lock)
{
    const KIRQL OldIrql = KiAcquireLock(Lock);
    FakeIrql = HIGH_LEVEL; // no other lock may be taken
    return OldIrql;
}

VOID KiReleaseBriefLock(PKI_LOCK Lock, ULONG64 Flags)
{
    CHECK_EQUAL(FakeIrql, HIGH_LEVEL);
    FakeIrql = DISPATCH_LEVEL;
    KiReleaseLock(Lock, (KIRQL)Flags);
}

VOID KiAwaitFreeLock(const KI_LOCK *Lock)
{
    CHECK(Lock->Word == 0); // there is nobody else to let it go
}

BOOLEAN KiIsLockHeld(const KI_LOCK *Lock)
{
    return Lock->Word != 0;
}

KIRQL NTAPI KeGetCurrentIrql(VOID)
{
    return FakeIrql;
}

//
// Bug checks.
//

static DECLSPEC_NORETURN VOID StopMachine(VOID)
{
    if (!FakeBugCheck.IsExpected) {
        FAIL("bug check 0x%x (0x%llx, 0x%llx, 0x%llx, 0x%llx): %s", FakeBugCheck.Code,
             FakeBugCheck.Parameters[0], FakeBugCheck.Parameters[1], FakeBugCheck.Parameters[2],
             FakeBugCheck.Parameters[3], FakeBugCheck.Sentence);
    }
    FakeBugCheck.Happened = TRUE;
    longjmp(FakeBugCheck.Return, 1);
}

DECLSPEC_NORETURN VOID NTAPI KiBugCheckSaying(ULONG Code, ULONG_PTR Parameter1,
                                              ULONG_PTR Parameter2, ULONG_PTR Parameter3,
                                              ULONG_PTR Parameter4, PCSTR Format, ...)
{
    __builtin_ms_va_list Arguments;
    FakeBugCheck.Code = Code;
    FakeBugCheck.Parameters[0] = Parameter1;
    FakeBugCheck.Parameters[1] = Parameter2;
    FakeBugCheck.Parameters[2] = Parameter3;
    FakeBugCheck.Parameters[3] = Parameter4;
    __builtin_ms_va_start(Arguments, Format);
    RtlFormatBufferArguments(FakeBugCheck.Sentence, sizeof(FakeBugCheck.Sentence), Format,
                             Arguments);
    __builtin_ms_va_end(Arguments);
    StopMachine();
}

DECLSPEC_NORETURN VOID NTAPI KeBugCheckEx(ULONG Code, ULONG_PTR Parameter1, ULONG_PTR Parameter2,
                                          ULONG_PTR Parameter3, ULONG_PTR Parameter4)
{
    KiBugCheckSaying(Code, Parameter1, Parameter2, Parameter3, Parameter4, "%s", "");
}

DECLSPEC_NORETURN VOID KiAssertionFailed(PCSTR Expression, PCSTR InvariantId, PCSTR File,
                                         ULONG Line)
{
    HostFail(File, (int)Line, "assertion %s failed: %s", InvariantId != NULL ? InvariantId : "",
             Expression);
}

BOOLEAN KiIsBugCheckActive(VOID)
{
    return FakeIsBugCheckActive;
}

VOID FakeExpectBugCheck(VOID)
{
    FakeBugCheck.ExceptionList = FakePcr.CurrentThread->ExceptionList;
    FakeBugCheck.IsExpected = TRUE;
    FakeBugCheck.Happened = FALSE;
}

VOID FakeEndExpectation(const CHAR *File, int Line, const CHAR *Statement)
{
    if (!FakeBugCheck.Happened) {
        HostFail(File, Line, "no bug check: %s", Statement);
    }
    FakeBugCheck.IsExpected = FALSE;
    FakeHeldRanks = 0;
    FakeIrql = PASSIVE_LEVEL;
    FakePcr.CurrentThread->ExceptionList =
        FakeBugCheck.ExceptionList; // handlers inside the statement are gone
    WatchAbandonCall();
}

//
// Symbols, boot options, printing.
//

PCSTR KiFindSymbol(ULONG_PTR Address, PULONG_PTR Offset)
{
    *Offset = 0;
    return Address != 0 ? "HostCaller" : NULL;
}

PCSTR KiNameCode(ULONG_PTR Address, PKI_CODE_NAME Name)
{
    UNREFERENCED_PARAMETER(Name);
    return Address != 0 ? "HostCaller" : "unknown code";
}

// No tables of frames here, and none but tries to find.
VOID KeArchRaise(PEXCEPTION_RECORD Record)
{
    const PKM_TRY_FRAME Frame = KiGetInnermostTry();
    if (Frame != NULL) {
        KiEnterCatch(Frame, Record->ExceptionCode);
        __builtin_longjmp(Frame->Context, 1);
    }
}

// A clock that ticks whenever somebody looks.
volatile ULONG64 KeTickCycles = 1000;

ULONG64 KeReadCycles(VOID)
{
    KeTickCycles += 1000;
    return KeTickCycles;
}

ULONG64 KeGetCyclesPerSecond(VOID)
{
    return 1000000;
}

BOOLEAN FakeCallerIsDriver;

BOOLEAN KiIsDriverCode(ULONG_PTR Address)
{
    return FakeCallerIsDriver && Address != 0;
}

PCSTR KiFindCodeOwner(ULONG_PTR Address)
{
    return FakeCallerIsDriver && Address != 0 ? "driver host" : NULL;
}

ULONG_PTR FakeStackBase;

BOOLEAN KiIsStackAddress(ULONG_PTR Address)
{
    return FakeStackBase != 0 && Address - FakeStackBase < PAGE_SIZE;
}

KI_EXPLAIN_FAULT *FakeFaultExplainer;

VOID KiSetFaultExplainer(KI_EXPLAIN_FAULT *Routine)
{
    FakeFaultExplainer = Routine;
}

#define MAXIMUM_OPTIONS 8

static struct {
    const CHAR *Name;
    const CHAR *Value;
} Options[MAXIMUM_OPTIONS];
static ULONG OptionCount;

VOID FakeSetBootOption(const CHAR *Name, const CHAR *Value)
{
    CHECK(OptionCount < MAXIMUM_OPTIONS);
    Options[OptionCount].Name = Name;
    Options[OptionCount].Value = Value;
    OptionCount += 1;
}

BOOLEAN KeGetBootOption(PCSTR Name, PCHAR Value, SIZE_T ValueByteCount)
{
    for (ULONG Index = 0; Index < OptionCount; Index += 1) {
        if (RtlStringsEqual(Options[Index].Name, Name)) {
            if (Value != NULL) {
                RtlCopyString(Value, ValueByteCount, Options[Index].Value);
            }
            return TRUE;
        }
    }
    return FALSE;
}

static CHAR Printed[256 * 1024];
static SIZE_T PrintedBytes;

static VOID PrintSink(PVOID Context, const CHAR *Text, SIZE_T ByteCount)
{
    UNREFERENCED_PARAMETER(Context);
    const SIZE_T Room = sizeof(Printed) - 1 - PrintedBytes;
    const SIZE_T Bytes = ByteCount < Room ? ByteCount : Room;
    memcpy(&Printed[PrintedBytes], Text, Bytes);
    PrintedBytes += Bytes;
    Printed[PrintedBytes] = '\0';
}

ULONG NTAPI DbgPrint(PCSTR Format, ...)
{
    __builtin_ms_va_list Arguments;
    __builtin_ms_va_start(Arguments, Format);
    RtlFormat(PrintSink, NULL, Format, Arguments);
    __builtin_ms_va_end(Arguments);
    return STATUS_SUCCESS;
}

const CHAR *HostPrinted(VOID)
{
    return Printed;
}

VOID HostForgetPrinted(VOID)
{
    PrintedBytes = 0;
    Printed[0] = '\0';
}
