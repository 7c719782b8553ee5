// Bug checks: the orderly end of a machine that must not go on.
//
//   *** STOP 0x000000DA (0x0000000000000400, 0x..., 0x..., 0x...) SYSTEM_PTE_MISUSE
//   *** one sentence in plain words
//   the dump
//
// It must end, whatever happens on the way: a second bug check, which comes from the dump itself,
// says its line and leaves; a third leaves at once.

#include "kernel/inc/kd.h"
#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"

typedef struct _KI_BUG_CHECK_ROW {
    ULONG Code;
    PCSTR Name;
    PCSTR Meaning;
} KI_BUG_CHECK_ROW;

#define BUG_CHECK(Code, Meaning)                                                                   \
    {                                                                                              \
        Code, #Code, Meaning                                                                       \
    }

static const KI_BUG_CHECK_ROW KiBugCheckTable[] = {
    BUG_CHECK(APC_INDEX_MISMATCH,
              "a thread left a critical or guarded region that it had not entered"),
    BUG_CHECK(IRQL_NOT_GREATER_OR_EQUAL, "an IRQL was to be raised to a lower value"),
    BUG_CHECK(IRQL_NOT_LESS_OR_EQUAL,
              "kernel code faulted, or called something, at an IRQL that is too high for it"),
    BUG_CHECK(MULTIPROCESSOR_CONFIGURATION_NOT_SUPPORTED,
              "a processor lacks something that the first one has"),
    BUG_CHECK(MAXIMUM_WAIT_OBJECTS_EXCEEDED,
              "a thread was to wait for more objects than it can, or without wait blocks for them"),
    BUG_CHECK(SPIN_LOCK_ALREADY_OWNED, "a processor waits for a spin lock that it holds itself"),
    BUG_CHECK(SPIN_LOCK_NOT_OWNED, "a spin lock was released by somebody who does not hold it"),
    BUG_CHECK(REFERENCE_BY_POINTER, "the count of references to an object went wrong"),
    BUG_CHECK(THREAD_NOT_MUTEX_OWNER, "a mutex was released by a thread that does not own it"),
    BUG_CHECK(KERNEL_APC_PENDING_DURING_EXIT,
              "a thread ended at a raised IRQL, or inside a critical region"),
    BUG_CHECK(BAD_POOL_HEADER,
              "the header of a pool block is damaged; its neighbour may have overrun"),
    BUG_CHECK(MEMORY_MANAGEMENT,
              "the memory manager found its own records, or an MDL, in an impossible state"),
    BUG_CHECK(KMODE_EXCEPTION_NOT_HANDLED, "kernel code raised an exception that nobody handles"),
    BUG_CHECK(PHASE0_INITIALIZATION_FAILED, "the kernel could not start: an early phase failed"),
    BUG_CHECK(PHASE1_INITIALIZATION_FAILED, "the kernel could not start: a late phase failed"),
    BUG_CHECK(NO_MORE_IRP_STACK_LOCATIONS,
              "a driver passed a request further down than it has stack locations"),
    BUG_CHECK(NO_MORE_SYSTEM_PTES, "the system address space for mappings is used up"),
    BUG_CHECK(TARGET_MDL_TOO_SMALL,
              "a partial MDL has no room for the pages that it should describe"),
    BUG_CHECK(MULTIPLE_IRP_COMPLETE_REQUESTS, "a request was completed twice"),
    BUG_CHECK(CANCEL_STATE_IN_COMPLETED_IRP, "an IRP was cancelled that had been completed"),
    BUG_CHECK(PFN_LIST_CORRUPT,
              "a frame is in an impossible state, or was released more often than locked"),
    BUG_CHECK(PAGE_FAULT_IN_NONPAGED_AREA,
              "an address was used that is not mapped, or not for this kind of access"),
    BUG_CHECK(UNSUPPORTED_PROCESSOR,
              "the processor lacks a feature that the kernel cannot do without"),
    BUG_CHECK(PROCESS_HAS_LOCKED_PAGES,
              "pages are still locked for I/O that should have been unlocked"),
    BUG_CHECK(INSTALL_MORE_MEMORY, "there is too little RAM to start"),
    BUG_CHECK(UNEXPECTED_KERNEL_MODE_TRAP,
              "the processor raised an exception that the kernel must never cause"),
    BUG_CHECK(NMI_HARDWARE_FAILURE, "the hardware reported a failure by a non-maskable interrupt"),
    BUG_CHECK(INVALID_KERNEL_HANDLE, "a handle was closed that is not open"),
    BUG_CHECK(MACHINE_CHECK_EXCEPTION, "the processor reported a hardware error"),
    BUG_CHECK(ATTEMPTED_SWITCH_FROM_DPC,
              "something would wait at DISPATCH_LEVEL or above, where no other thread can run"),
    BUG_CHECK(ATTEMPTED_WRITE_TO_READONLY_MEMORY, "read-only memory was written to"),
    BUG_CHECK(MUTEX_ALREADY_OWNED,
              "a thread waits for a mutex that it owns itself and that is not recursive"),
    BUG_CHECK(IRQL_UNEXPECTED_VALUE, "a routine returned at another IRQL than it was called at"),
    BUG_CHECK(SPECIAL_POOL_DETECTED_MEMORY_CORRUPTION,
              "somebody wrote to memory beside a pool block"),
    BUG_CHECK(BAD_POOL_CALLER, "pool was allocated or freed in a way that cannot be right"),
    BUG_CHECK(DRIVER_VERIFIER_DETECTED_VIOLATION, "a driver broke a rule that the verifier checks"),
    BUG_CHECK(DRIVER_VERIFIER_IOMANAGER_VIOLATION,
              "a driver broke a rule of the I/O manager that the verifier checks"),
    BUG_CHECK(DRIVER_LEFT_LOCKED_PAGES_IN_PROCESS, "a driver went and left pages locked for I/O"),
    BUG_CHECK(PAGE_FAULT_IN_FREED_SPECIAL_POOL, "a pool block was used after it was freed"),
    BUG_CHECK(PAGE_FAULT_BEYOND_END_OF_ALLOCATION, "memory beyond a pool block was used"),
    BUG_CHECK(DRIVER_UNLOADED_WITHOUT_CANCELLING_PENDING_OPERATIONS,
              "a driver was unloaded, and something still may call it"),
    BUG_CHECK(DRIVER_IRQL_NOT_LESS_OR_EQUAL,
              "driver code faulted at an IRQL where no fault is allowed"),
    BUG_CHECK(DRIVER_PAGE_FAULT_IN_FREED_SPECIAL_POOL,
              "a driver used a pool block after it was freed"),
    BUG_CHECK(DRIVER_PAGE_FAULT_BEYOND_END_OF_ALLOCATION,
              "a driver used memory beyond a pool block"),
    BUG_CHECK(DRIVER_USED_EXCESSIVE_PTES, "one driver has used up the system addresses"),
    BUG_CHECK(LOCKED_PAGES_TRACKER_CORRUPTION, "the records of locked pages contradict each other"),
    BUG_CHECK(SYSTEM_PTE_MISUSE,
              "a mapping was made, used or released in a way that cannot be right"),
    BUG_CHECK(MANUALLY_INITIATED_CRASH, "somebody asked for this"),
    BUG_CHECK(RESOURCE_NOT_OWNED, "a thread released a resource that it does not own"),
    BUG_CHECK(DRIVER_VERIFIER_DMA_VIOLATION,
              "a driver broke a rule of DMA that the verifier checks"),
    BUG_CHECK(WORKER_INVALID, "a work item is in a state that it must not be in"),
    BUG_CHECK(ATTEMPTED_EXECUTE_OF_NOEXECUTE_MEMORY, "memory that holds data was executed"),
    BUG_CHECK(INVALID_MDL_RANGE,
              "a partial MDL was asked for bytes that its source does not describe"),
};

static const KI_BUG_CHECK_ROW *KiFindBugCheck(ULONG Code)
{
    for (ULONG Index = 0; Index < ARRAYSIZE(KiBugCheckTable); Index += 1) {
        if (KiBugCheckTable[Index].Code == Code) {
            return &KiBugCheckTable[Index];
        }
    }
    return NULL;
}

PCSTR KiBugCheckName(ULONG Code)
{
    const KI_BUG_CHECK_ROW *Row = KiFindBugCheck(Code);
    return Row == NULL ? NULL : Row->Name;
}

typedef struct _KI_STOP {
    ULONG Code;
    ULONG_PTR Parameters[4];
} KI_STOP;

static VOID KiPrintStop(const KI_STOP *Stop)
{
    PCSTR Name = KiBugCheckName(Stop->Code);
    DbgPrint("\n*** STOP 0x%08X (0x%016llx, 0x%016llx, 0x%016llx, 0x%016llx) %s\n", Stop->Code,
             Stop->Parameters[0], Stop->Parameters[1], Stop->Parameters[2], Stop->Parameters[3],
             Name != NULL ? Name : "UNKNOWN");
}

static VOID KiPrintSentence(const KI_STOP *Stop, PCSTR Format, __builtin_ms_va_list Arguments)
{
    const KI_BUG_CHECK_ROW *Row = KiFindBugCheck(Stop->Code);
    DbgPrint("*** ");
    if (Format != NULL) {
        KdPrintArguments(Format, Arguments);
    } else {
        DbgPrint("%s", Row != NULL ? Row->Meaning : "no explanation is known for this code");
    }
    DbgPrint("\n");
    // The caller's sentence says what happened; the table says what kind of thing that is.
    if (Format != NULL && Row != NULL) {
        DbgPrint("  %s\n", Row->Meaning);
    }
}

#define STOP_WAIT_DIVISOR 10 // of a second

static volatile ULONG KiBugCheckDepth;
static volatile LONG KiBugCheckOwner; // 0: none, or the number of a processor + 1

BOOLEAN KiIsBugCheckActive(VOID)
{
    return __atomic_load_n(&KiBugCheckDepth, __ATOMIC_RELAXED) != 0;
}

static volatile LONG KiStoppedCount;

BOOLEAN KiIsStoppedByOther(VOID)
{
    const LONG Owner = __atomic_load_n(&KiBugCheckOwner, __ATOMIC_RELAXED);
    return Owner != 0 && Owner != (LONG)KiGetCurrentProcessor() + 1;
}

DECLSPEC_NORETURN VOID KiStopHere(VOID)
{
    __atomic_add_fetch(&KiStoppedCount, 1, __ATOMIC_RELEASE);
    KeArchHalt();
}

// Whoever still runs could change what the report is about. Bounded: a processor may be beyond help.
static VOID KiAwaitStopped(LONG Count)
{
    const ULONG64 Start = KeReadCycles();
    while (__atomic_load_n(&KiStoppedCount, __ATOMIC_ACQUIRE) < Count &&
           KeReadCycles() - Start < KeGetCyclesPerSecond() / STOP_WAIT_DIVISOR) {
        KeArchPause();
    }
}

// The first processor that comes here ends the machine; one that comes after it waits for that.
static VOID KiStopOthers(VOID)
{
    const LONG Self = (LONG)KiGetCurrentProcessor() + 1;
    LONG Owner = 0;
    if (!__atomic_compare_exchange_n(&KiBugCheckOwner, &Owner, Self, FALSE, __ATOMIC_SEQ_CST,
                                     __ATOMIC_SEQ_CST)) {
        if (Owner != Self) {
            KiStopHere();
        }
        return;
    }
    const LONG ProcessorCount = KeNumberProcessors;
    if (Self > ProcessorCount) {
        return; // one that has just started: its interrupt controller is not on, and its starter waits for it
    }
    for (LONG Number = 0; Number < ProcessorCount; Number += 1) {
        if (Number + 1 != Self) {
            KeArchStopProcessor((ULONG)Number);
        }
    }
    KiAwaitStopped(ProcessorCount - 1);
}

// What every bug check does before it says anything. Leaves the machine if this one comes from
// within another.
static VOID KiEnterBugCheck(const KI_STOP *Stop)
{
    KeArchDisableInterrupts();
    KiStopOthers();
    const ULONG Depth = __atomic_add_fetch(&KiBugCheckDepth, 1, __ATOMIC_SEQ_CST);
    if (Depth > 2) {
        KeExitMachine(KeExitBugCheck);
    }
    KdEnterCrash();
    if (Depth == 2) {
        DbgPrint("\n*** and while this was being reported:");
        KiPrintStop(Stop);
        KeExitMachine(KeExitBugCheck);
    }
}

// -------------------------------------------------------------------------------------------------
// What drivers want to do before the end, for example to put their devices to rest.

static LIST_ENTRY KiBugCheckCallbacks = {&KiBugCheckCallbacks, &KiBugCheckCallbacks};
static KSPIN_LOCK KiBugCheckCallbackLock;

static KIRQL KiLockCallbacks(VOID)
{
    const KIRQL OldIrql = KfRaiseIrql(HIGH_LEVEL);
    KeAcquireSpinLockAtDpcLevel(&KiBugCheckCallbackLock);
    return OldIrql;
}

static VOID KiUnlockCallbacks(KIRQL OldIrql)
{
    KeReleaseSpinLockFromDpcLevel(&KiBugCheckCallbackLock);
    KeLowerIrql(OldIrql);
}

BOOLEAN NTAPI KeRegisterBugCheckCallback(PKBUGCHECK_CALLBACK_RECORD CallbackRecord,
                                         PKBUGCHECK_CALLBACK_ROUTINE CallbackRoutine, PVOID Buffer,
                                         ULONG Length, PUCHAR Component)
{
    const KIRQL OldIrql = KiLockCallbacks();
    const BOOLEAN IsNew = CallbackRecord->State == BufferEmpty;
    if (IsNew) {
        CallbackRecord->CallbackRoutine = CallbackRoutine;
        CallbackRecord->Buffer = Buffer;
        CallbackRecord->Length = Length;
        CallbackRecord->Component = Component;
        CallbackRecord->State = BufferInserted;
        InsertTailList(&KiBugCheckCallbacks, &CallbackRecord->Entry);
    }
    KiUnlockCallbacks(OldIrql);
    return IsNew;
}

BOOLEAN NTAPI KeDeregisterBugCheckCallback(PKBUGCHECK_CALLBACK_RECORD CallbackRecord)
{
    const KIRQL OldIrql = KiLockCallbacks();
    const BOOLEAN WasThere = CallbackRecord->State == BufferInserted;
    if (WasThere) {
        RemoveEntryList(&CallbackRecord->Entry);
        CallbackRecord->State = BufferEmpty;
    }
    KiUnlockCallbacks(OldIrql);
    return WasThere;
}

// Each once; what goes wrong in one is a second bug check, and the end.
static VOID KiRunBugCheckCallbacks(VOID)
{
    for (PLIST_ENTRY Link = KiBugCheckCallbacks.Flink; Link != &KiBugCheckCallbacks;
         Link = Link->Flink) {
        const PKBUGCHECK_CALLBACK_RECORD Record =
            CONTAINING_RECORD(Link, KBUGCHECK_CALLBACK_RECORD, Entry);
        Record->State = BufferStarted;
        Record->CallbackRoutine(Record->Buffer, Record->Length);
        Record->State = BufferFinished;
    }
}

static DECLSPEC_NORETURN VOID KiBugCheck(const KI_STOP *Stop, PCSTR Format,
                                         __builtin_ms_va_list Arguments)
{
    KiEnterBugCheck(Stop);
    const KIRQL Irql = KeArchReadIrql();
    KeArchWriteIrql(HIGH_LEVEL);
    KiPrintStop(Stop);
    KiPrintSentence(Stop, Format, Arguments);
    DbgPrint("  processor %u, IRQL %u\n", KiGetCurrentProcessor(), Irql);
    KeArchPrintDump();
    KiRunBugCheckCallbacks();
    KeExitMachine(KeExitBugCheck);
}

DECLSPEC_NORETURN VOID NTAPI KiBugCheckSaying(ULONG Code, ULONG_PTR Parameter1,
                                              ULONG_PTR Parameter2, ULONG_PTR Parameter3,
                                              ULONG_PTR Parameter4, PCSTR Format, ...)
{
    const KI_STOP Stop = {Code, {Parameter1, Parameter2, Parameter3, Parameter4}};
    __builtin_ms_va_list Arguments;
    __builtin_ms_va_start(Arguments, Format);
    KiBugCheck(&Stop, Format, Arguments);
}

// A NULL format stands for the sentence of the table.
DECLSPEC_NORETURN VOID NTAPI KeBugCheckEx(ULONG Code, ULONG_PTR Parameter1, ULONG_PTR Parameter2,
                                          ULONG_PTR Parameter3, ULONG_PTR Parameter4)
{
    KiBugCheckSaying(Code, Parameter1, Parameter2, Parameter3, Parameter4, NULL);
}

DECLSPEC_NORETURN VOID NTAPI KeBugCheck(ULONG BugCheckCode)
{
    KeBugCheckEx(BugCheckCode, 0, 0, 0, 0);
}

DECLSPEC_NORETURN VOID KiAssertionFailed(PCSTR Expression, PCSTR InvariantId, PCSTR File,
                                         ULONG Line)
{
    KiBugCheckSaying(KMODE_EXCEPTION_NOT_HANDLED, (ULONG_PTR)(LONG_PTR)STATUS_ASSERTION_FAILURE,
                     (ULONG_PTR)__builtin_return_address(0), Line, 0,
                     "assertion failed: %s%s%s%s (%s:%u)", InvariantId != NULL ? "[" : "",
                     InvariantId != NULL ? InvariantId : "", InvariantId != NULL ? "] " : "",
                     Expression, File, Line);
}
