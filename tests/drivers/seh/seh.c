// A driver with __try, __except and __finally, as a compiler for Windows translates them (clang; gcc has
// not got them). tests/kernel/t_seh.c calls what is exported here.
#include "seh.h"

DRIVER_INITIALIZE DriverEntry;

NTSTATUS DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath)
{
    UNREFERENCED_PARAMETER(DriverObject);
    UNREFERENCED_PARAMETER(RegistryPath);
    return STATUS_SUCCESS;
}

#define EXPORT __declspec(dllexport)
#define NOINLINE __attribute__((noinline))
#define NEED(Expression)                                                                           \
    do {                                                                                           \
        if (!(Expression)) {                                                                       \
            return __LINE__;                                                                       \
        }                                                                                          \
    } while (0)

EXPORT SEH_LINKS SehLinks;

static volatile ULONG *const UserAddress = (volatile ULONG *)0x12340;
static volatile ULONG *const NonCanonicalAddress = (volatile ULONG *)0x0000900000000000;
static volatile ULONG Zero;

static volatile ULONG Trace; // one hexadecimal digit a step

static void Step(ULONG Digit)
{
    Trace = Trace << 4 | Digit;
}

static NOINLINE VOID Raise(NTSTATUS Status)
{
    ExRaiseStatus(Status);
}

static NOINLINE VOID RaiseDeeper(NTSTATUS Status, ULONG Depth)
{
    volatile UCHAR Room[100];
    Room[Depth] = 1;
    if (Depth == 0) {
        Raise(Status);
    } else {
        RaiseDeeper(Status, Depth - 1);
    }
    Room[Depth] = 2;
}

static ULONG NTAPI RaiseRoutine(PVOID Context)
{
    Raise((NTSTATUS)(ULONG_PTR)Context);
    return 0;
}

//
// __except.
//

EXPORT ULONG SehRaiseOfACalledFunction(VOID);
ULONG SehRaiseOfACalledFunction(VOID)
{
    volatile NTSTATUS Code = 0;
    __try {
        RaiseDeeper(SEH_STATUS, 5);
        Code = 1;
    } __except (EXCEPTION_EXECUTE_HANDLER) {
        Code = GetExceptionCode();
    }
    NEED(Code == SEH_STATUS);
    return 0;
}

EXPORT ULONG SehRaiseOfTheKernel(VOID);
ULONG SehRaiseOfTheKernel(VOID)
{
    volatile NTSTATUS Code = 0;
    PMDL Mdl = IoAllocateMdl((PVOID)UserAddress, 100, FALSE, FALSE, NULL);
    NEED(Mdl != NULL);
    __try {
        MmProbeAndLockPages(Mdl, UserMode, IoReadAccess);
        Code = 1;
    } __except (EXCEPTION_EXECUTE_HANDLER) {
        Code = GetExceptionCode();
    }
    IoFreeMdl(Mdl);
    NEED(Code == STATUS_ACCESS_VIOLATION);
    return 0;
}

// What a filter saw.
static EXCEPTION_RECORD SeenRecord;
static ULONG64 SeenRip;

static LONG See(PEXCEPTION_POINTERS Pointers, LONG Answer)
{
    SeenRecord = *Pointers->ExceptionRecord;
    SeenRip = Pointers->ContextRecord->Rip;
    return Answer;
}

static ULONG CheckSeen(NTSTATUS Code, ULONG ParameterCount)
{
    PVOID Base = NULL;
    NEED((NTSTATUS)SeenRecord.ExceptionCode == Code);
    NEED(SeenRecord.NumberParameters == ParameterCount);
    NEED(SeenRip == (ULONG64)SeenRecord.ExceptionAddress);
    NEED(RtlPcToFileHeader(SeenRecord.ExceptionAddress, &Base) == Base && Base != NULL);
    NEED(RtlPcToFileHeader((PVOID)(ULONG_PTR)SehRaiseOfTheKernel, &Base) == Base);
    return 0;
}

EXPORT ULONG SehLoad(VOID);
ULONG SehLoad(VOID)
{
    volatile ULONG Value = 7;
    __try {
        Value = *UserAddress;
    } __except (See(GetExceptionInformation(), EXCEPTION_EXECUTE_HANDLER)) {
        Value += 1;
    }
    NEED(Value == 8);
    const ULONG Line = CheckSeen(STATUS_ACCESS_VIOLATION, 2);
    NEED(SeenRecord.ExceptionInformation[0] == 0);
    NEED(SeenRecord.ExceptionInformation[1] == (ULONG_PTR)UserAddress);
    return Line;
}

EXPORT ULONG SehStore(VOID);
ULONG SehStore(VOID)
{
    volatile ULONG Value = 7;
    __try {
        *UserAddress = 1;
    } __except (See(GetExceptionInformation(), EXCEPTION_EXECUTE_HANDLER)) {
        Value += 1;
    }
    NEED(Value == 8);
    const ULONG Line = CheckSeen(STATUS_ACCESS_VIOLATION, 2);
    NEED(SeenRecord.ExceptionInformation[0] == 1);
    NEED(SeenRecord.ExceptionInformation[1] == (ULONG_PTR)UserAddress);
    return Line;
}

EXPORT ULONG SehNonCanonical(VOID);
ULONG SehNonCanonical(VOID)
{
    volatile ULONG Value = 7;
    __try {
        Value = *NonCanonicalAddress;
    } __except (See(GetExceptionInformation(), EXCEPTION_EXECUTE_HANDLER)) {
        Value += 1;
    }
    NEED(Value == 8);
    return CheckSeen(STATUS_ACCESS_VIOLATION, 2);
}

EXPORT ULONG SehDivide(VOID);
ULONG SehDivide(VOID)
{
    volatile ULONG Value = 7;
    __try {
        Value = Value / Zero;
    } __except (See(GetExceptionInformation(), EXCEPTION_EXECUTE_HANDLER)) {
        Value += 1;
    }
    NEED(Value == 8);
    return CheckSeen(STATUS_INTEGER_DIVIDE_BY_ZERO, 0);
}

static NOINLINE VOID CallNull(VOID)
{
    VOID (*volatile Routine)(VOID) = NULL;
    Routine();
}

EXPORT ULONG SehCallOfNull(VOID);
ULONG SehCallOfNull(VOID)
{
    volatile ULONG Value = 7;
    __try {
        CallNull();
    } __except (See(GetExceptionInformation(), EXCEPTION_EXECUTE_HANDLER)) {
        Value += 1;
    }
    NEED(Value == 8);
    NEED((NTSTATUS)SeenRecord.ExceptionCode == STATUS_ACCESS_VIOLATION);
    NEED(SeenRecord.ExceptionInformation[0] == 8 && SeenRecord.ExceptionInformation[1] == 0);
    return 0;
}

static NOINLINE VOID ExecuteBreakpoint(VOID)
{
    __asm__ volatile("int3; nop");
}

static NOINLINE VOID ExecuteNothing(VOID)
{
    __asm__ volatile("ud2; nop");
}

static NOINLINE VOID ExecuteAssertion(VOID)
{
    __asm__ volatile("int $0x2c; nop");
}

static ULONG CodeOf(VOID (*Routine)(VOID))
{
    volatile ULONG Code = 0;
    __try {
        Routine();
    } __except (See(GetExceptionInformation(), EXCEPTION_EXECUTE_HANDLER)) {
        Code = (ULONG)GetExceptionCode();
    }
    return Code;
}

EXPORT ULONG SehOtherFaults(VOID);
ULONG SehOtherFaults(VOID)
{
    NEED(CodeOf(ExecuteBreakpoint) == (ULONG)STATUS_BREAKPOINT);
    NEED(*(const UCHAR *)SeenRecord.ExceptionAddress == 0xCC);
    NEED(CodeOf(ExecuteNothing) == (ULONG)STATUS_ILLEGAL_INSTRUCTION);
    NEED(*(const USHORT *)SeenRecord.ExceptionAddress == 0x0B0F);
    NEED(CodeOf(ExecuteAssertion) == (ULONG)STATUS_ASSERTION_FAILURE);
    NEED(*(const USHORT *)SeenRecord.ExceptionAddress == 0x2CCD);
    return 0;
}

static LONG StepFilter(ULONG Digit, LONG Answer)
{
    Step(Digit);
    return Answer;
}

EXPORT ULONG SehNested(VOID);
ULONG SehNested(VOID)
{
    Trace = 0;
    __try {
        __try {
            __try {
                Raise(SEH_STATUS);
                Step(0xF);
            } __except (StepFilter(1, EXCEPTION_CONTINUE_SEARCH)) {
                Step(0xF);
            }
        } __except (GetExceptionCode() == SEH_STATUS ? StepFilter(2, EXCEPTION_EXECUTE_HANDLER)
                                                     : EXCEPTION_CONTINUE_SEARCH) {
            Step(3);
        }
        Step(4);
        Raise(SEH_OTHER);
        Step(0xF);
    } __except (EXCEPTION_EXECUTE_HANDLER) {
        Step(GetExceptionCode() == SEH_OTHER ? 5 : 0xE);
    }
    NEED(Trace == 0x12345);
    return 0;
}

EXPORT ULONG SehRaiseInExcept(VOID);
ULONG SehRaiseInExcept(VOID)
{
    Trace = 0;
    __try {
        __try {
            Raise(SEH_STATUS);
        } __except (EXCEPTION_EXECUTE_HANDLER) {
            Step(1);
            Raise(SEH_OTHER);
            Step(0xF);
        }
    } __except (GetExceptionCode() == SEH_OTHER) {
        Step(2);
    }
    NEED(Trace == 0x12);
    return 0;
}

//
// Filters.
//

// Reads at RCX; the filter lets it read elsewhere.
ULONG SehReadAtRcx(const volatile ULONG *Place);
__asm__(".text\n"
        ".globl SehReadAtRcx\n"
        "SehReadAtRcx:\n"
        "    movl (%rcx), %eax\n"
        "    addl $1, %eax\n"
        "    ret\n");

static ULONG Elsewhere = 41;

static LONG Redirect(PEXCEPTION_POINTERS Pointers)
{
    Step(1);
    Pointers->ContextRecord->Rcx = (ULONG64)&Elsewhere;
    return EXCEPTION_CONTINUE_EXECUTION;
}

EXPORT ULONG SehContinue(VOID);
ULONG SehContinue(VOID)
{
    volatile ULONG Value = 0;
    Trace = 0;
    __try {
        Value = SehReadAtRcx(UserAddress);
        Step(2);
    } __except (Redirect(GetExceptionInformation())) {
        Step(0xF);
    }
    NEED(Trace == 0x12 && Value == 42);
    return 0;
}

static NOINLINE ULONG RaiseThatMayContinue(ULONG Flags)
{
    EXCEPTION_RECORD Record = {0};
    Record.ExceptionCode = SEH_STATUS;
    Record.ExceptionFlags = Flags;
    Record.NumberParameters = 1;
    Record.ExceptionInformation[0] = 77;
    RtlRaiseException(&Record);
    return 5;
}

EXPORT ULONG SehRaiseAndContinue(VOID);
ULONG SehRaiseAndContinue(VOID)
{
    volatile ULONG Value = 0;
    __try {
        Value = RaiseThatMayContinue(0);
    } __except (See(GetExceptionInformation(), EXCEPTION_CONTINUE_EXECUTION)) {
        Value = 1;
    }
    NEED(Value == 5);
    NEED(SeenRecord.ExceptionInformation[0] == 77);
    return CheckSeen(SEH_STATUS, 1);
}

static LONG ContinueOnce(PEXCEPTION_POINTERS Pointers)
{
    const NTSTATUS Code = (NTSTATUS)Pointers->ExceptionRecord->ExceptionCode;
    Step(Code == SEH_STATUS ? 1 : 2);
    if (Code == SEH_STATUS) {
        return EXCEPTION_CONTINUE_EXECUTION;
    }
    SeenRecord = *Pointers->ExceptionRecord;
    return EXCEPTION_EXECUTE_HANDLER;
}

EXPORT ULONG SehContinueNoncontinuable(VOID);
ULONG SehContinueNoncontinuable(VOID)
{
    Trace = 0;
    __try {
        (VOID) RaiseThatMayContinue(EXCEPTION_NONCONTINUABLE);
        Step(0xF);
    } __except (ContinueOnce(GetExceptionInformation())) {
        Step(3);
    }
    NEED(Trace == 0x123);
    NEED((NTSTATUS)SeenRecord.ExceptionCode == STATUS_NONCONTINUABLE_EXCEPTION);
    return 0;
}

static LONG FaultyFilter(NTSTATUS Code)
{
    Step(1);
    if (Code == SEH_STATUS) {
        Raise(SEH_OTHER); // a nested exception: this filter is asked again, and then the outer one
    }
    return EXCEPTION_CONTINUE_SEARCH;
}

static LONG SeeNested(PEXCEPTION_POINTERS Pointers)
{
    SeenRecord = *Pointers->ExceptionRecord;
    return EXCEPTION_EXECUTE_HANDLER;
}

EXPORT ULONG SehRaiseInFilter(VOID);
ULONG SehRaiseInFilter(VOID)
{
    Trace = 0;
    __try {
        __try {
            Raise(SEH_STATUS);
        } __except (FaultyFilter(GetExceptionCode())) {
            Step(0xF);
        }
    } __except (SeeNested(GetExceptionInformation())) {
        Step(2);
    }
    NEED(Trace == 0x112);
    NEED((NTSTATUS)SeenRecord.ExceptionCode == SEH_OTHER);
    NEED(SeenRecord.ExceptionFlags & EXCEPTION_NONCONTINUABLE);
    return 0;
}

static LONG HandlingFilter(VOID)
{
    __try {
        Raise(SEH_OTHER);
    } __except (EXCEPTION_EXECUTE_HANDLER) {
        Step(1);
    }
    return EXCEPTION_EXECUTE_HANDLER;
}

EXPORT ULONG SehFilterThatHandlesItsOwn(VOID);
ULONG SehFilterThatHandlesItsOwn(VOID)
{
    Trace = 0;
    __try {
        Raise(SEH_STATUS);
    } __except (HandlingFilter()) {
        Step(GetExceptionCode() == SEH_STATUS ? 2 : 0xF);
    }
    NEED(Trace == 0x12);
    return 0;
}

//
// __finally.
//

static NOINLINE VOID FinallyAround(SEH_ROUTINE *Routine, PVOID Context, ULONG Digit)
{
    __try {
        (VOID) Routine(Context);
    } __finally {
        Step(AbnormalTermination() ? Digit : 0xE);
    }
}

static ULONG NTAPI RaiseInFinallies(PVOID Context)
{
    FinallyAround(RaiseRoutine, Context, 2);
    return 0;
}

EXPORT ULONG SehFinally(VOID);
ULONG SehFinally(VOID)
{
    Trace = 0;
    __try {
        __try {
            FinallyAround(RaiseInFinallies, (PVOID)(ULONG_PTR)(ULONG)SEH_STATUS, 3);
        } __finally {
            Step(4);
        }
    } __except (StepFilter(1, EXCEPTION_EXECUTE_HANDLER)) {
        Step(5);
    }
    NEED(Trace == 0x12345);
    Trace = 0;
    __try {
        Step(1);
    } __finally {
        Step(AbnormalTermination() ? 0xF : 2);
    }
    NEED(Trace == 0x12);
    return 0;
}

static NOINLINE ULONG ReturnFromTry(ULONG Way)
{
    __try {
        if (Way == 1) {
            return 10;
        }
        if (Way == 2) {
            goto Out;
        }
        Step(1);
    } __finally {
        Step(2);
    }
    return 20;
Out:
    return 30;
}

EXPORT ULONG SehReturn(VOID);
ULONG SehReturn(VOID)
{
    Trace = 0;
    NEED(ReturnFromTry(0) == 20 && Trace == 0x12);
    NEED(ReturnFromTry(1) == 10 && Trace == 0x122);
    NEED(ReturnFromTry(2) == 30 && Trace == 0x1222);
    return 0;
}

static NOINLINE VOID RaisingFinally(VOID)
{
    __try {
        Raise(SEH_STATUS);
    } __finally {
        Step(2);
        Raise(SEH_OTHER); // collides with the unwind that runs this
    }
}

static NOINLINE VOID FinallyAroundRaisingFinally(VOID)
{
    __try {
        RaisingFinally();
    } __finally {
        Step(5);
    }
}

static LONG TwoFilter(NTSTATUS Code)
{
    Step(Code == SEH_STATUS ? 1 : 3);
    return EXCEPTION_EXECUTE_HANDLER;
}

EXPORT ULONG SehRaiseInFinally(VOID);
ULONG SehRaiseInFinally(VOID)
{
    Trace = 0;
    __try {
        FinallyAroundRaisingFinally();
    } __except (TwoFilter(GetExceptionCode())) {
        Step(GetExceptionCode() == SEH_OTHER ? 6 : 0xF);
    }
    // Each __finally once: what the first unwind has left is not left again.
    NEED(Trace == 0x12356);
    return 0;
}

static NOINLINE VOID FinallyThatHandlesItsOwn(VOID)
{
    __try {
        Raise(SEH_STATUS);
    } __finally {
        __try {
            Raise(SEH_OTHER);
        } __except (EXCEPTION_EXECUTE_HANDLER) {
            Step(1);
        }
    }
}

EXPORT ULONG SehFinallyThatHandlesItsOwn(VOID);
ULONG SehFinallyThatHandlesItsOwn(VOID)
{
    Trace = 0;
    __try {
        FinallyThatHandlesItsOwn();
    } __except (EXCEPTION_EXECUTE_HANDLER) {
        Step(GetExceptionCode() == SEH_STATUS ? 2 : 0xF);
    }
    NEED(Trace == 0x12);
    return 0;
}

static NOINLINE VOID FaultInFinally(VOID)
{
    __try {
        *UserAddress = 1;
    } __finally {
        Step(1);
        *NonCanonicalAddress = 1;
    }
}

EXPORT ULONG SehFaultInFinally(VOID);
ULONG SehFaultInFinally(VOID)
{
    Trace = 0;
    __try {
        FaultInFinally();
    } __except (See(GetExceptionInformation(), EXCEPTION_EXECUTE_HANDLER)) {
        Step(2);
    }
    NEED(Trace == 0x12);
    NEED(SeenRecord.ExceptionInformation[0] == 1);
    return 0;
}

//
// Through frames of others.
//

static ULONG CodeThrough(SEH_BRIDGE *Bridge, SEH_ROUTINE *Routine, NTSTATUS Status)
{
    volatile ULONG Code = 0;
    __try {
        (VOID) Bridge(Routine, (PVOID)(ULONG_PTR)(ULONG)Status);
        Code = 1;
    } __except (EXCEPTION_EXECUTE_HANDLER) {
        Code = (ULONG)GetExceptionCode();
    }
    return Code;
}

static ULONG NTAPI FaultRoutine(PVOID Context)
{
    UNREFERENCED_PARAMETER(Context);
    return *UserAddress;
}

EXPORT ULONG SehThroughOthers(VOID);
ULONG SehThroughOthers(VOID)
{
    Trace = 0;
    NEED(CodeThrough(SehLinks.ThroughKernel, RaiseInFinallies, SEH_STATUS) == (ULONG)SEH_STATUS);
    NEED(CodeThrough(SehLinks.ThroughGcc, RaiseInFinallies, SEH_STATUS) == (ULONG)SEH_STATUS);
    NEED(Trace == 0x22);
    NEED(CodeThrough(SehLinks.ThroughKernel, FaultRoutine, 0) == (ULONG)STATUS_ACCESS_VIOLATION);
    NEED(CodeThrough(SehLinks.ThroughGcc, FaultRoutine, 0) == (ULONG)STATUS_ACCESS_VIOLATION);
    return 0;
}

static ULONG TraceTry(SEH_BRIDGE *Bridge)
{
    volatile ULONG Result = 0;
    Trace = 0;
    __try {
        Result = Bridge(RaiseInFinallies, (PVOID)(ULONG_PTR)(ULONG)SEH_STATUS);
    } __except (EXCEPTION_EXECUTE_HANDLER) {
        Step(0xF);
    }
    return Result == (ULONG)SEH_STATUS ? Trace : 0xFF;
}

EXPORT ULONG SehTryIsInner(VOID);
ULONG SehTryIsInner(VOID)
{
    NEED(TraceTry(SehLinks.ThroughTry) == 2);
    NEED(TraceTry(SehLinks.ThroughGccTry) == 2);
    return 0;
}

static ULONG NTAPI HandleRoutine(PVOID Context)
{
    __try {
        Raise((NTSTATUS)(ULONG_PTR)Context);
    } __except (EXCEPTION_EXECUTE_HANDLER) {
        Step(1);
        return 33;
    }
    return 0;
}

EXPORT ULONG SehTryIsOuter(VOID);
ULONG SehTryIsOuter(VOID)
{
    PVOID const Context = (PVOID)(ULONG_PTR)(ULONG)SEH_STATUS;
    Trace = 0;
    NEED(SehLinks.ThroughTry(HandleRoutine, Context) == 33);
    NEED(SehLinks.ThroughGccTry(HandleRoutine, Context) == 33);
    // The tries that were passed are still in force.
    NEED(SehLinks.ThroughTry(RaiseRoutine, Context) == (ULONG)SEH_STATUS);
    NEED(SehLinks.ThroughGccTry(RaiseRoutine, Context) == (ULONG)SEH_STATUS);
    NEED(Trace == 0x11);
    return 0;
}

//
// The state at the landing.
//

// Calls Routine(Context) with known values in all nonvolatile registers. The number of the first one
// that has changed afterwards: 1.. rbx rbp rsi rdi r12-r15, 16.. xmm6-xmm15; 0: none.
ULONG SehCallWithRegisters(SEH_ROUTINE *Routine, PVOID Context);
// Spoils all nonvolatile registers and calls Routine(Context).
ULONG NTAPI SehSpoilRegisters(SEH_ROUTINE *Routine, PVOID Context);

#define FRAME_SAVES                                                                                \
    "    pushq %rbx\n .seh_pushreg %rbx\n"                                                         \
    "    pushq %rbp\n .seh_pushreg %rbp\n"                                                         \
    "    pushq %rsi\n .seh_pushreg %rsi\n"                                                         \
    "    pushq %rdi\n .seh_pushreg %rdi\n"                                                         \
    "    pushq %r12\n .seh_pushreg %r12\n"                                                         \
    "    pushq %r13\n .seh_pushreg %r13\n"                                                         \
    "    pushq %r14\n .seh_pushreg %r14\n"                                                         \
    "    pushq %r15\n .seh_pushreg %r15\n"                                                         \
    "    subq $200, %rsp\n .seh_stackalloc 200\n"                                                  \
    "    movaps %xmm6, 32(%rsp)\n .seh_savexmm %xmm6, 32\n"                                        \
    "    movaps %xmm7, 48(%rsp)\n .seh_savexmm %xmm7, 48\n"                                        \
    "    movaps %xmm8, 64(%rsp)\n .seh_savexmm %xmm8, 64\n"                                        \
    "    movaps %xmm9, 80(%rsp)\n .seh_savexmm %xmm9, 80\n"                                        \
    "    movaps %xmm10, 96(%rsp)\n .seh_savexmm %xmm10, 96\n"                                      \
    "    movaps %xmm11, 112(%rsp)\n .seh_savexmm %xmm11, 112\n"                                    \
    "    movaps %xmm12, 128(%rsp)\n .seh_savexmm %xmm12, 128\n"                                    \
    "    movaps %xmm13, 144(%rsp)\n .seh_savexmm %xmm13, 144\n"                                    \
    "    movaps %xmm14, 160(%rsp)\n .seh_savexmm %xmm14, 160\n"                                    \
    "    movaps %xmm15, 176(%rsp)\n .seh_savexmm %xmm15, 176\n"                                    \
    ".seh_endprologue\n"

#define FRAME_RESTORES                                                                             \
    "    movaps 32(%rsp), %xmm6\n"                                                                 \
    "    movaps 48(%rsp), %xmm7\n"                                                                 \
    "    movaps 64(%rsp), %xmm8\n"                                                                 \
    "    movaps 80(%rsp), %xmm9\n"                                                                 \
    "    movaps 96(%rsp), %xmm10\n"                                                                \
    "    movaps 112(%rsp), %xmm11\n"                                                               \
    "    movaps 128(%rsp), %xmm12\n"                                                               \
    "    movaps 144(%rsp), %xmm13\n"                                                               \
    "    movaps 160(%rsp), %xmm14\n"                                                               \
    "    movaps 176(%rsp), %xmm15\n"                                                               \
    "    addq $200, %rsp\n"                                                                        \
    "    popq %r15\n popq %r14\n popq %r13\n popq %r12\n"                                          \
    "    popq %rdi\n popq %rsi\n popq %rbp\n popq %rbx\n"                                          \
    "    ret\n"

#define SET_GENERAL(Register, Number) "    movq $0x1111 * " #Number ", %" #Register "\n"
#define CHECK_GENERAL(Register, Number)                                                            \
    "    movl $" #Number ", %eax\n    cmpq $0x1111 * " #Number ", %" #Register "\n    jne 9f\n"
#define SET_XMM(Register, Number)                                                                  \
    "    movq $0x2222 * " #Number ", %rax\n    movq %rax, %" #Register "\n"
#define CHECK_XMM(Register, Number)                                                                \
    "    movq %" #Register ", %rcx\n    movl $" #Number ", %eax\n"                                 \
    "    cmpq $0x2222 * " #Number ", %rcx\n    jne 9f\n"

#define ALL_GENERAL(Apply)                                                                         \
    Apply(rbx, 1) Apply(rbp, 2) Apply(rsi, 3) Apply(rdi, 4) Apply(r12, 5) Apply(r13, 6)            \
        Apply(r14, 7) Apply(r15, 8)
#define ALL_XMM(Apply)                                                                             \
    Apply(xmm6, 16) Apply(xmm7, 17) Apply(xmm8, 18) Apply(xmm9, 19) Apply(xmm10, 20)               \
        Apply(xmm11, 21) Apply(xmm12, 22) Apply(xmm13, 23) Apply(xmm14, 24) Apply(xmm15, 25)
#define SPOIL(Register, Number) "    notq %" #Register "\n"
#define SPOIL_XMM(Register, Number) "    pxor %" #Register ", %" #Register "\n"

__asm__(".text\n"
        ".globl SehCallWithRegisters\n"
        ".seh_proc SehCallWithRegisters\n"
        "SehCallWithRegisters:\n" FRAME_SAVES
        "    movq %rcx, %r10\n    movq %rdx, %rcx\n" ALL_GENERAL(SET_GENERAL)
            ALL_XMM(SET_XMM) "    callq *%r10\n" ALL_GENERAL(CHECK_GENERAL) ALL_XMM(
                CHECK_XMM) "    xorl %eax, %eax\n"
                           "9:\n" FRAME_RESTORES ".seh_endproc\n"
                           ".globl SehSpoilRegisters\n"
                           ".seh_proc SehSpoilRegisters\n"
                           "SehSpoilRegisters:\n" FRAME_SAVES
                           "    movq %rcx, %rax\n    movq %rdx, %rcx\n" ALL_GENERAL(SPOIL)
                               ALL_XMM(SPOIL_XMM) "    callq *%rax\n    nop\n" FRAME_RESTORES
                                                  ".seh_endproc\n");

typedef struct _SPOILED {
    SEH_BRIDGE *Bridge;
    SEH_ROUTINE *Routine;
} SPOILED;

static ULONG NTAPI SpoiledRoutine(PVOID Context)
{
    const SPOILED *Spoiled = Context;
    return SehSpoilRegisters(Spoiled->Routine, (PVOID)(ULONG_PTR)(ULONG)SEH_STATUS);
}

static ULONG NTAPI HandleSpoiled(PVOID Context)
{
    const SPOILED *Spoiled = Context;
    __try {
        return Spoiled->Bridge(SpoiledRoutine, Context);
    } __except (EXCEPTION_EXECUTE_HANDLER) {
        Step(1);
    }
    return 0;
}

static ULONG NTAPI Direct(SEH_ROUTINE *Routine, PVOID Context)
{
    return Routine(Context);
}

EXPORT ULONG SehRegisters(VOID);
ULONG SehRegisters(VOID)
{
    SEH_BRIDGE *const Bridges[] = {Direct, SehLinks.ThroughKernel, SehLinks.ThroughTry,
                                   SehLinks.ThroughGcc, SehLinks.ThroughGccTry};
    Trace = 0;
    for (ULONG Index = 0; Index < sizeof(Bridges) / sizeof(Bridges[0]); Index += 1) {
        SPOILED Raised = {Bridges[Index], RaiseRoutine};
        ULONG Changed = SehCallWithRegisters(HandleSpoiled, &Raised);
        if (Changed != 0) {
            return 10000 + Index * 100 + Changed;
        }
        SPOILED Faulted = {Bridges[Index], FaultRoutine};
        Changed = SehCallWithRegisters(HandleSpoiled, &Faulted);
        if (Changed != 0) {
            return 20000 + Index * 100 + Changed;
        }
    }
    NEED(Trace == 0x111111);
    return 0;
}

EXPORT ULONG SehAtDispatch(VOID);
ULONG SehAtDispatch(VOID)
{
    volatile ULONG Code = 0;
    volatile KIRQL Inside = 0;
    KIRQL OldIrql;
    KeRaiseIrql(DISPATCH_LEVEL, &OldIrql);
    __try {
        Raise(SEH_STATUS);
    } __except (EXCEPTION_EXECUTE_HANDLER) {
        Code = (ULONG)GetExceptionCode();
        Inside = KeGetCurrentIrql();
    }
    KeLowerIrql(OldIrql);
    NEED(Code == (ULONG)SEH_STATUS && Inside == DISPATCH_LEVEL);
    return 0;
}

EXPORT ULONG SehManyTimes(VOID);
ULONG SehManyTimes(VOID)
{
    volatile ULONG Count = 0;
    for (ULONG Round = 0; Round < 2000; Round += 1) {
        __try {
            (VOID) SehLinks.ThroughKernel(Round % 2 == 0 ? RaiseInFinallies : FaultRoutine,
                                          (PVOID)(ULONG_PTR)(ULONG)SEH_STATUS);
        } __except (EXCEPTION_EXECUTE_HANDLER) {
            Count += 1;
        }
    }
    NEED(Count == 2000);
    return 0;
}

//
// Walks.
//

#define TRACE_DEPTH 16

static ULONG NTAPI CaptureRoutine(PVOID Context)
{
    PVOID *Callers = Context;
    const ULONG Count = RtlCaptureStackBackTrace(0, TRACE_DEPTH, Callers, NULL);
    return Count;
}

static BOOLEAN IsOwn(PVOID Address)
{
    PVOID Base;
    PVOID Own;
    return RtlPcToFileHeader(Address, &Base) ==
           RtlPcToFileHeader((PVOID)(ULONG_PTR)CaptureRoutine, &Own);
}

EXPORT ULONG SehTrace(VOID);
ULONG SehTrace(VOID)
{
    PVOID Callers[TRACE_DEPTH];
    ULONG Hash = 0;
    const ULONG Count = SehLinks.ThroughKernel(CaptureRoutine, Callers);
    NEED(Count >= 5 && Count <= TRACE_DEPTH);
    NEED(IsOwn(Callers[0]));  // in CaptureRoutine
    NEED(!IsOwn(Callers[1])); // the bridge
    NEED(!IsOwn(Callers[2]));
    ULONG Index = 3;
    while (Index < Count && !IsOwn(Callers[Index])) {
        Index += 1;
    }
    NEED(Index < Count); // this routine
    NEED(RtlCaptureStackBackTrace(1, 1, Callers, &Hash) == 1 && !IsOwn(Callers[0]));
    NEED(Hash == (ULONG)(ULONG_PTR)Callers[0]);
    return 0;
}

// The walk that a driver does itself.
static ULONG NTAPI WalkRoutine(PVOID Context)
{
    PVOID *Callers = Context;
    CONTEXT Registers;
    ULONG Count = 0;
    RtlCaptureContext(&Registers);
    while (Count < TRACE_DEPTH) {
        ULONG64 Base;
        ULONG64 Establisher;
        PVOID Data;
        PRUNTIME_FUNCTION Function = RtlLookupFunctionEntry(Registers.Rip, &Base, NULL);
        if (Function == NULL) {
            break;
        }
        (VOID) RtlVirtualUnwind(UNW_FLAG_NHANDLER, Base, Registers.Rip, Function, &Registers, &Data,
                                &Establisher, NULL);
        if (Registers.Rip == 0) {
            break;
        }
        Callers[Count++] = (PVOID)Registers.Rip;
    }
    return Count;
}

EXPORT ULONG SehWalk(VOID);
ULONG SehWalk(VOID)
{
    PVOID Walked[TRACE_DEPTH] = {0};
    PVOID Captured[TRACE_DEPTH] = {0};
    const ULONG WalkedCount = SehLinks.ThroughKernel(WalkRoutine, Walked);
    const ULONG CapturedCount = SehLinks.ThroughKernel(CaptureRoutine, Captured);
    NEED(WalkedCount >= 4);
    // The same but for the innermost frame.
    NEED(WalkedCount + 1 == CapturedCount || WalkedCount == TRACE_DEPTH);
    NEED(Walked[0] == Captured[1] && Walked[1] == Captured[2]);
    return 0;
}
