// What a trap means: a probe that expected it, a stray software interrupt, or the end.
//
// No memory is paged, and nothing runs in user mode, so a fault is somebody's mistake. Most may be
// handled all the same, as exceptions (seh.c). What nobody handles is fatal, and then the work is to
// say precisely what went wrong: trap.c describes the fault in words that mean something on any
// processor (KI_FAULT, KI_EXCEPTION); kernel/ke/fault.c chooses the bug check.

#include "arch/x64/x64.h"

#include "kernel/inc/ke.h"
#include "mm/miarch.h"

static const KTRAP_FRAME *KiFatalFrames[KE_MAXIMUM_PROCESSORS];

const KTRAP_FRAME *KiGetFatalFrame(VOID)
{
    return KiFatalFrames[KeArchGetPcr()->Number];
}

// -------------------------------------------------------------------------------------------------
// Exceptions in words.

// Status belongs to KMODE_EXCEPTION_NOT_HANDLED; the other codes do not use it.
static const KI_EXCEPTION_ROW KiExceptionTable[EXCEPTION_COUNT] = {
    [0] = {"divide error", KMODE_EXCEPTION_NOT_HANDLED, STATUS_INTEGER_DIVIDE_BY_ZERO},
    [1] = {"debug exception", KMODE_EXCEPTION_NOT_HANDLED, STATUS_SINGLE_STEP},
    [2] = {"non-maskable interrupt", NMI_HARDWARE_FAILURE, STATUS_UNSUCCESSFUL},
    [3] = {"breakpoint", KMODE_EXCEPTION_NOT_HANDLED, STATUS_BREAKPOINT},
    [6] = {"invalid opcode", KMODE_EXCEPTION_NOT_HANDLED, STATUS_ILLEGAL_INSTRUCTION},
    [7] = {"no coprocessor", UNEXPECTED_KERNEL_MODE_TRAP, STATUS_UNSUCCESSFUL},
    [8] = {"double fault", UNEXPECTED_KERNEL_MODE_TRAP, STATUS_UNSUCCESSFUL},
    [9] = {"coprocessor overrun", UNEXPECTED_KERNEL_MODE_TRAP, STATUS_UNSUCCESSFUL},
    [10] = {"invalid task state", UNEXPECTED_KERNEL_MODE_TRAP, STATUS_UNSUCCESSFUL},
    [11] = {"segment not present", UNEXPECTED_KERNEL_MODE_TRAP, STATUS_UNSUCCESSFUL},
    [12] = {"stack fault", UNEXPECTED_KERNEL_MODE_TRAP, STATUS_UNSUCCESSFUL},
    [13] = {"general protection fault", KMODE_EXCEPTION_NOT_HANDLED, STATUS_ACCESS_VIOLATION},
    [14] = {"page fault", KMODE_EXCEPTION_NOT_HANDLED, STATUS_ACCESS_VIOLATION},
    [16] = {"x87 error", UNEXPECTED_KERNEL_MODE_TRAP, STATUS_UNSUCCESSFUL},
    [17] = {"alignment check", KMODE_EXCEPTION_NOT_HANDLED, STATUS_DATATYPE_MISALIGNMENT},
    [18] = {"machine check", MACHINE_CHECK_EXCEPTION, STATUS_UNSUCCESSFUL},
    [19] = {"SIMD error", UNEXPECTED_KERNEL_MODE_TRAP, STATUS_UNSUCCESSFUL},
    [21] = {"control protection", UNEXPECTED_KERNEL_MODE_TRAP, STATUS_UNSUCCESSFUL},
};

static const KI_EXCEPTION_ROW KiReservedException = {
    "reserved exception", UNEXPECTED_KERNEL_MODE_TRAP, STATUS_UNSUCCESSFUL};
static const KI_EXCEPTION_ROW KiAssertionException = {
    "failed assertion", KMODE_EXCEPTION_NOT_HANDLED, STATUS_ASSERTION_FAILURE};

const KI_EXCEPTION_ROW *KiFindException(ULONG64 Vector)
{
    if (Vector == VECTOR_ASSERTION) {
        return &KiAssertionException;
    }
    const BOOLEAN Known = Vector < EXCEPTION_COUNT && KiExceptionTable[Vector].Name != NULL;
    return Known ? &KiExceptionTable[Vector] : &KiReservedException;
}

// -------------------------------------------------------------------------------------------------
// Probes (trap.S).

// Labels in trap.S.
extern const UCHAR KiProbeReadAccess[];
extern const UCHAR KiProbeWriteAccess[];
extern const UCHAR KiProbeCopyWords[];
extern const UCHAR KiProbeCopyBytes[];
extern const UCHAR KiProbeLanding[];
extern const UCHAR KiProbeExecuteCall[];
extern const UCHAR KiProbeExecuteReturn[];
extern const UCHAR KiProbeExecuteLanding[];

typedef struct _KI_PROBE_ROW {
    const UCHAR *Faults;
    const UCHAR *Landing;
} KI_PROBE_ROW;

static const KI_PROBE_ROW KiProbeTable[] = {
    {KiProbeReadAccess, KiProbeLanding},         {KiProbeWriteAccess, KiProbeLanding},
    {KiProbeCopyWords, KiProbeLanding},          {KiProbeCopyBytes, KiProbeLanding},
    {KiProbeExecuteCall, KiProbeExecuteLanding}, // the call refuses an address that is not canonical
};

// The call of KeProbeExecute went through, and the fetch at its target faulted: RIP is the address
// under test, and the return address is still on the stack.
static BOOLEAN KiIsProbedFetch(const KTRAP_FRAME *Frame)
{
    return Frame->Rip == Frame->Rdi &&
           *(const ULONG64 *)Frame->Rsp == (ULONG64)KiProbeExecuteReturn;
}

static const UCHAR *KiFindProbeLanding(PKTRAP_FRAME Frame)
{
    for (ULONG Index = 0; Index < sizeof(KiProbeTable) / sizeof(KiProbeTable[0]); Index += 1) {
        if (Frame->Rip == (ULONG64)KiProbeTable[Index].Faults) {
            return KiProbeTable[Index].Landing;
        }
    }
    if (KiIsProbedFetch(Frame)) {
        Frame->Rsp += sizeof(ULONG64);
        return KiProbeExecuteLanding;
    }
    return NULL;
}

// If the trap is that of a probe, makes the probe return the result and returns TRUE.
static BOOLEAN KiFixUpProbe(PKTRAP_FRAME Frame)
{
    if (Frame->Vector != VECTOR_PAGE_FAULT && Frame->Vector != VECTOR_GENERAL_PROTECTION) {
        return FALSE;
    }
    const UCHAR *Landing = KiFindProbeLanding(Frame);
    if (Landing == NULL) {
        return FALSE;
    }
    const KE_PROBE_RESULT Result = {
        .Faulted = TRUE,
        .Vector = (UCHAR)Frame->Vector,
        .ErrorCode = (ULONG)Frame->ErrorCode,
        .FaultAddress = Frame->Vector == VECTOR_PAGE_FAULT ? Frame->Cr2 : 0,
    };
    C_ASSERT(sizeof(Result) == 2 * sizeof(ULONG64));
    const ULONG64 *Halves = (const ULONG64 *)(const VOID *)&Result;
    Frame->Rax = Halves[0];
    Frame->Rdx = Halves[1];
    Frame->Rip = (ULONG64)Landing;
    return TRUE;
}

// -------------------------------------------------------------------------------------------------
// Memory faults.

static KI_FAULT_ACCESS KiAccessOfErrorCode(ULONG64 ErrorCode)
{
    if (ErrorCode & PF_FETCH) {
        return KiFaultExecute;
    }
    return ErrorCode & PF_WRITE ? KiFaultWrite : KiFaultRead;
}

// The processor says only "protection violation"; the tables say which.
static KI_FAULT_CAUSE KiCauseOfPageFault(ULONG64 ErrorCode, const KI_WALK *Walk)
{
    if (!(ErrorCode & PF_PRESENT)) {
        return ErrorCode & PF_RESERVED ? KiFaultOther : KiFaultNotPresent;
    }
    if (ErrorCode & PF_RESERVED) {
        return KiFaultOther;
    }
    if ((ErrorCode & PF_FETCH) && !Walk->Executable) {
        return KiFaultNoExecute;
    }
    if ((ErrorCode & PF_WRITE) && !Walk->Writable) {
        return KiFaultReadOnly;
    }
    return KiFaultOther;
}

static DECLSPEC_NORETURN VOID KiReportPageFault(const KTRAP_FRAME *Frame)
{
    const KI_WALK Walk = KiWalkPageTables(Frame->Cr2);
    const KI_FAULT Fault = {
        .Access = KiAccessOfErrorCode(Frame->ErrorCode),
        .Cause = KiCauseOfPageFault(Frame->ErrorCode, &Walk),
        .LeafTableExists = Walk.Level == 1,
        .Va = Frame->Cr2,
        .Entry = Walk.Entry,
        .Rip = Frame->Rip,
        .Irql = KeArchReadIrql(),
    };
    KiDispatchMemoryFault(&Fault);
}

// [x64] An address that is not canonical never reaches the page tables: the processor raises a
// general protection fault, or a stack fault when RSP or RBP is the base, with error code 0 and
// without the address.
static BOOLEAN KiFindNonCanonicalAccess(const KTRAP_FRAME *Frame, PKI_OPERAND Operand)
{
    if (Frame->ErrorCode != 0) {
        return FALSE;
    }
    if (!MiArchIsCanonical(Frame->Rip)) {
        *Operand = (KI_OPERAND){Frame->Rip, KiFaultExecute};
        return TRUE;
    }
    return KiDecodeMemoryOperand(Frame, Operand) && !MiArchIsCanonical(Operand->Va);
}

static DECLSPEC_NORETURN VOID KiReportNonCanonicalAccess(const KTRAP_FRAME *Frame,
                                                         const KI_OPERAND *Operand)
{
    const KI_FAULT Fault = {
        .Access = Operand->Access,
        .Cause = KiFaultNonCanonical,
        .Va = Operand->Va,
        .Rip = Frame->Rip,
        .Irql = KeArchReadIrql(),
    };
    KiDispatchMemoryFault(&Fault);
}

// A stack that runs into its guard page cannot take the page fault's frame either: the double fault
// that follows leaves the address in CR2, just below RSP.
static PCSTR KiNameOfException(const KTRAP_FRAME *Frame, const KI_EXCEPTION_ROW *Row)
{
    const BOOLEAN NearStack =
        Frame->Rsp - Frame->Cr2 <= PAGE_SIZE || Frame->Cr2 - Frame->Rsp <= PAGE_SIZE;
    return Frame->Vector == VECTOR_DOUBLE_FAULT && NearStack ? "double fault (the stack is used up)"
                                                             : Row->Name;
}

static DECLSPEC_NORETURN VOID KiReportException(const KTRAP_FRAME *Frame)
{
    const KI_EXCEPTION_ROW *Row = KiFindException(Frame->Vector);
    const KI_EXCEPTION Exception = {
        .BugCheckCode = Row->BugCheckCode,
        .Status = Row->Status,
        .Vector = (ULONG)Frame->Vector,
        .Name = KiNameOfException(Frame, Row),
        .ErrorCode = Frame->ErrorCode,
        .Rip = Frame->Rip,
    };
    KiDispatchException(&Exception);
}

static DECLSPEC_NORETURN VOID KiReportTrap(const KTRAP_FRAME *Frame)
{
    if (Frame->Vector == VECTOR_PAGE_FAULT) {
        KiReportPageFault(Frame);
    }
    const BOOLEAN MayBeAddress =
        Frame->Vector == VECTOR_GENERAL_PROTECTION || Frame->Vector == VECTOR_STACK_FAULT;
    KI_OPERAND Operand;
    if (MayBeAddress && KiFindNonCanonicalAccess(Frame, &Operand)) {
        KiReportNonCanonicalAccess(Frame, &Operand);
    }
    KiReportException(Frame);
}

// -------------------------------------------------------------------------------------------------
// Faults that handlers may see.

// How far the processor had gone: a handler is shown the instruction itself.
#define BREAKPOINT_BYTES 1
#define ASSERTION_BYTES 2

typedef struct _KI_FAULT_ROW {
    UCHAR Vector;
    UCHAR InstructionBytes; // to take back
    NTSTATUS Status;
} KI_FAULT_ROW;

static const KI_FAULT_ROW KiHandledFaults[] = {
    {VECTOR_DIVIDE, 0, STATUS_INTEGER_DIVIDE_BY_ZERO},
    {VECTOR_BREAKPOINT, BREAKPOINT_BYTES, STATUS_BREAKPOINT},
    {VECTOR_INVALID_OPCODE, 0, STATUS_ILLEGAL_INSTRUCTION},
    {VECTOR_GENERAL_PROTECTION, 0, STATUS_ACCESS_VIOLATION},
    {VECTOR_ALIGNMENT, 0, STATUS_DATATYPE_MISALIGNMENT},
    {VECTOR_ASSERTION, ASSERTION_BYTES, STATUS_ASSERTION_FAILURE},
};

static VOID KiDescribeViolation(PEXCEPTION_RECORD Record, KI_FAULT_ACCESS Access, ULONG64 Va)
{
    static const UCHAR Words[] = {
        [KiFaultRead] = EXCEPTION_READ_FAULT,
        [KiFaultWrite] = EXCEPTION_WRITE_FAULT,
        [KiFaultExecute] = EXCEPTION_EXECUTE_FAULT,
    };
    Record->ExceptionCode = STATUS_ACCESS_VIOLATION;
    Record->NumberParameters = 2;
    Record->ExceptionInformation[0] = Words[Access];
    Record->ExceptionInformation[1] = Va;
}

// A bad address of the kernel is a mistake that nobody may handle; one that never can be the kernel's
// came from somebody else.
static BOOLEAN KiIsHandledPageFault(const KTRAP_FRAME *Frame, PEXCEPTION_RECORD Record)
{
    const BOOLEAN IsKernelHalf = Frame->Cr2 >> 63 != 0;
    if (IsKernelHalf || KeArchReadIrql() >= DISPATCH_LEVEL) {
        return FALSE;
    }
    KiDescribeViolation(Record, KiAccessOfErrorCode(Frame->ErrorCode), Frame->Cr2);
    return TRUE;
}

static BOOLEAN KiIsHandledFault(const KTRAP_FRAME *Frame, PEXCEPTION_RECORD Record)
{
    KI_OPERAND Operand;
    const BOOLEAN MayBeAddress =
        Frame->Vector == VECTOR_GENERAL_PROTECTION || Frame->Vector == VECTOR_STACK_FAULT;
    if (MayBeAddress && KiFindNonCanonicalAccess(Frame, &Operand)) {
        KiDescribeViolation(Record, Operand.Access, Operand.Va);
        return KeArchReadIrql() < DISPATCH_LEVEL;
    }
    for (ULONG Index = 0; Index < ARRAYSIZE(KiHandledFaults); Index += 1) {
        const KI_FAULT_ROW *Row = &KiHandledFaults[Index];
        if (Frame->Vector == Row->Vector) {
            Record->ExceptionCode = Row->Status;
            Record->ExceptionAddress = (PVOID)(Frame->Rip - Row->InstructionBytes);
            return KeArchReadIrql() <= DISPATCH_LEVEL;
        }
    }
    return FALSE;
}

// Does not return when somebody handles the fault.
static VOID KiOfferFault(const KTRAP_FRAME *Frame)
{
    EXCEPTION_RECORD Record = {.ExceptionAddress = (PVOID)Frame->Rip};
    const BOOLEAN IsHandled = Frame->Vector == VECTOR_PAGE_FAULT
                                  ? KiIsHandledPageFault(Frame, &Record)
                                  : KiIsHandledFault(Frame, &Record);
    if (IsHandled && !KiIsBugCheckActive()) {
        KiDispatchFault(Frame, &Record);
    }
}

VOID KiDispatchTrap(PKTRAP_FRAME Frame)
{
    if (KiFixUpProbe(Frame)) {
        return;
    }
    if (Frame->Vector >= EXCEPTION_COUNT && Frame->Vector != VECTOR_ASSERTION) {
        // An INT instruction; the interrupts of devices have other vectors and entries.
        ++KeArchGetPcr()->SpuriousInterrupts;
        return;
    }
    if (Frame->Vector == VECTOR_NMI && KiIsStoppedByOther()) {
        KiStopHere();
    }
    KiOfferFault(Frame);
    KiFatalFrames[KeArchGetPcr()->Number] = Frame;
    KiReportTrap(Frame);
}
