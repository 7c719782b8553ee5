// What kernel/ke, kd and io need of a processor. Fulfilled by arch/x64; the memory half of the
// contract is "mm/miarch.h". Calls upward, from trap handlers into kernel/ke, are declared at the
// end.
#pragma once

#include <ntdef.h>
#include <wdm.h>

// -------------------------------------------------------------------------------------------------
// What the processor can do, filled by KeArchInitializeProcessor and constant from then on. A
// BOOLEAN is TRUE when the feature exists and, where it is a protection, is switched on.

typedef struct _KE_FEATURES {
    BOOLEAN Nx;
    BOOLEAN WriteProtect;
    BOOLEAN Smep;
    BOOLEAN Smap;
    BOOLEAN Umip;
    BOOLEAN Pks; // supervisor protection keys: an execute-only page can be had
    BOOLEAN Page1G;
    BOOLEAN GlobalPages;
    BOOLEAN Invpcid; // forgets global translations, too, in one instruction
    BOOLEAN Pat;
    BOOLEAN Mtrr; // memory types of physical ranges
    BOOLEAN MachineCheck;
    BOOLEAN ClFlush;
    BOOLEAN InvariantTsc;
    BOOLEAN Sse3;
    BOOLEAN CompareExchange16;
    UCHAR PhysicalBits;
    UCHAR VirtualBits;
    USHORT CacheLineBytes;
    CHAR Vendor[13];
    CHAR Brand[49];
} KE_FEATURES, *PKE_FEATURES;

extern KE_FEATURES KeFeatures;

// -------------------------------------------------------------------------------------------------
// The processor control region, one per processor, at gs:0. The places of Self, Number and
// CurrentThread are ABI: driver images read them inline.

#define KE_MAXIMUM_PROCESSORS 16

#define KI_PRIORITY_COUNT 32

// Whether a processor halts, with nothing to do (kernel/ke/multi.c).
typedef enum _KI_SLEEP {
    KiAwake,
    KiAsleep,
    KiAsleepAndMissed, // a broadcast: on waking it forgets its translations before it does anything else
} KI_SLEEP;

typedef struct _KPCR {
    UCHAR Reserved0[0x18];
    struct _KPCR *Self;         // 0x18
    PVOID CurrentPrcb;          // 0x20: what NT calls the PRCB begins at MxCsr
    ULONG HeldRanks;            // bit r: this processor holds a lock of rank r
    volatile ULONG Sleep;       // KI_SLEEP
    ULONG64 SpuriousInterrupts; // vectors that nothing was given
    ULONG64 InterruptCount;     // all others
    UCHAR Reserved2[0x180 - 0x40];
    ULONG MxCsr;   // 0x180: what a thread begins with
    USHORT Number; // 0x184
    USHORT Reserved3;
    struct _KTHREAD *CurrentThread; // 0x188

    // The dispatcher's. KiDispatcherLock is for the ready lists, DpcLock for the DPCs.
    struct _KTHREAD *IdleThread;
    LIST_ENTRY ReadyLists[KI_PRIORITY_COUNT];
    ULONG ReadySummary;   // bit p: the ready list of priority p is not empty
    BOOLEAN QuantumEnded; // of the current thread
    BOOLEAN DpcRequested; // the dispatch interrupt is on its way
    BOOLEAN DpcRunning;   // KiRetireDpcs is at work
    BOOLEAN TimersDue;
    LIST_ENTRY DpcList;
    KSPIN_LOCK DpcLock;
    ULONG64 SwitchCount;
    ULONG64 DpcCount;
} KPCR, *PKPCR;

C_ASSERT(FIELD_OFFSET(KPCR, Self) == 0x18);
C_ASSERT(FIELD_OFFSET(KPCR, CurrentPrcb) == 0x20);
C_ASSERT(FIELD_OFFSET(KPCR, MxCsr) == 0x180);
C_ASSERT(FIELD_OFFSET(KPCR, Number) == 0x184);
C_ASSERT(FIELD_OFFSET(KPCR, CurrentThread) == 0x188);

// -------------------------------------------------------------------------------------------------
// One processor.

// Descriptor tables, KPCR, control registers, cache types. Interrupts stay off.
VOID KeArchInitializeProcessor(ULONG Number);

BOOLEAN KeArchDisableInterrupts(VOID); // returns whether they were on
VOID KeArchRestoreInterrupts(BOOLEAN WereOn);
DECLSPEC_NORETURN VOID KeArchHalt(VOID);

ULONG64 KeArchReadMsr(ULONG Msr);
VOID KeArchWriteMsr(ULONG Msr, ULONG64 Value);

// -------------------------------------------------------------------------------------------------
// The other processors. Those with a number have been started.

// The control region of a processor that was started, or is being started.
PKPCR KeArchGetPcrOf(ULONG Number);

// Of this processor's interrupt controller; and whether another one can be sent interrupts at all.
ULONG KeArchGetApicId(VOID);
BOOLEAN KeArchCanReachApic(ULONG ApicId);

// Makes what a new processor needs; FALSE: there is no memory for it. KeArchEndStartup gives it back.
BOOLEAN KeArchBeginStartup(VOID);
VOID KeArchEndStartup(VOID);

// Starts the processor with this APIC id, which gets the number, and runs KiRunNewProcessor on the
// stack. FALSE: it has not answered within a second; it may still come, so that its stack must be kept, and
// no other can be started.
_Must_inspect_result_ BOOLEAN KeArchStartProcessor(ULONG Number, ULONG ApicId, ULONG_PTR StackBase);

// Upward: a new processor is initialised, as by KeArchInitializeProcessor, with interrupts off.
DECLSPEC_NORETURN VOID KiRunNewProcessor(VOID);

// Makes KiDispatchInterrupt, or KiIpiInterrupt, run on another processor. Any IRQL.
VOID KeArchRequestDispatchInterruptOn(ULONG Number);
VOID KeArchRequestIpiOn(ULONG Number);

// Upward: another processor asked for it; at IPI_LEVEL.
VOID KiIpiInterrupt(VOID);

// Upward, by KeArchWaitWhileTaken: returns when the word was 0 at some moment since the call. Meanwhile this
// processor does what others ask of it (KiBroadcast), without waiting for their interrupt, if that could
// come here.
VOID KiWaitWhileTaken(const KSPIN_LOCK *Word);

// Halts another processor for good, whatever it does.
VOID KeArchStopProcessor(ULONG Number);

// -------------------------------------------------------------------------------------------------
// Threads.

// Saves what must survive a call in the stack of From, and goes on in To, whose KTHREAD.StackPointer
// was left by this routine or made by KeArchPrepareStack.
VOID KeArchSwitchStack(struct _KTHREAD *From, struct _KTHREAD *To);

// A stack that ends below StackBase, from which KeArchSwitchStack goes to KiStartThread(). Returns its
// StackPointer.
ULONG64 KeArchPrepareStack(ULONG_PTR StackBase);

// Upward: the beginning of a thread, at DISPATCH_LEVEL, with the dispatcher's lock held.
DECLSPEC_NORETURN VOID KiStartThread(VOID);

// Turns interrupts on, and waits for one; none comes between the two.
VOID KeArchIdle(VOID);

// This processor forgets all translations.
VOID KeArchForgetTranslations(VOID);

// Upward: an interrupt has come, interrupts are off, and KPCR.Sleep is not KiAwake.
VOID KiWakeUp(VOID);

// -------------------------------------------------------------------------------------------------
// Ports.

UCHAR KeArchReadPort8(USHORT Port);
USHORT KeArchReadPort16(USHORT Port);
ULONG KeArchReadPort32(USHORT Port);
VOID KeArchWritePort8(USHORT Port, UCHAR Value);
VOID KeArchWritePort16(USHORT Port, USHORT Value);
VOID KeArchWritePort32(USHORT Port, ULONG Value);

// -------------------------------------------------------------------------------------------------
// Interrupts. IRQL is the upper half of a vector.

#define KE_MINIMUM_DEVICE_IRQL 3
#define KE_MAXIMUM_DEVICE_IRQL 11
#define KE_VECTORS_PER_IRQL 16
#define KE_FIRST_DEVICE_VECTOR (KE_MINIMUM_DEVICE_IRQL * KE_VECTORS_PER_IRQL)
#define KE_LAST_DEVICE_VECTOR ((KE_MAXIMUM_DEVICE_IRQL + 1) * KE_VECTORS_PER_IRQL - 1)

// The processor's own interrupt controller: on, with every source but the clock and the processor
// itself masked. Maps its registers, so mm must be there; the caller turns interrupts on.
VOID KeArchInitializeInterrupts(VOID);

// Makes KiDispatchInterrupt run on this processor as soon as its IRQL is below DISPATCH_LEVEL; at
// once, if it is and interrupts are on. Requests that come before that run count as one. Any IRQL.
VOID KeArchRequestDispatchInterrupt(VOID);

// Makes this processor interrupt itself with a device's vector, as an edge. Any IRQL.
VOID KeArchRequestInterrupt(ULONG Vector);

// Calls KiClockInterrupt Hz times a second on this processor. A clock that runs is set anew.
VOID KeArchStartClock(ULONG Hz);

// One more call may come, if the interrupt was on its way.
VOID KeArchStopClock(VOID);

// Lines: the inputs of I/O APICs, numbered through ("global system interrupts"). Adds the controller
// whose registers are at RegisterAddress and whose first input is FirstLine; masks all of its lines.
// Returns their number; 0: the registers cannot be mapped, or there are too many controllers.
ULONG KeArchAddLineController(ULONG64 RegisterAddress, ULONG FirstLine);
BOOLEAN KeArchHasLine(ULONG Line);

typedef struct _KE_LINE_SETTING {
    UCHAR Vector;
    BOOLEAN IsLevel;
    BOOLEAN IsActiveLow;
    BOOLEAN IsMasked;
} KE_LINE_SETTING;

// The line must exist; its interrupts go to the first processor. Any IRQL.
VOID KeArchSetLine(ULONG Line, const KE_LINE_SETTING *Setting);

// What a device writes, and where, to interrupt a processor with a vector.
typedef struct _KE_MESSAGE {
    ULONG64 Address;
    ULONG Data;
} KE_MESSAGE;

KE_MESSAGE KeArchMakeMessage(ULONG Vector, ULONG Processor);

// Whether a device can do so: its message names eight bits of the processor.
BOOLEAN KeArchCanReceiveMessages(ULONG Processor);

// -------------------------------------------------------------------------------------------------
// Time.

ULONG64 KeArchReadCycles(VOID);

// Cycles per second by the best source there is, whose name goes to *Source. Never 0, never waits
// for ever.
ULONG64 KeArchMeasureCyclesPerSecond(PCSTR *Source);

// The date and the time of day that the machine's battery-backed clock shows, taken for UTC. FALSE: it
// shows nonsense.
BOOLEAN KeArchReadDateTime(PTIME_FIELDS Time);

// -------------------------------------------------------------------------------------------------
// The dump of a bug check: registers, the faulting address's walk, the stack. Prints with DbgPrint.
// Uses the registers of the trap that is being handled, if there is one, and else those of the
// caller.

VOID KeArchPrintDump(VOID);

// -------------------------------------------------------------------------------------------------
// Upward: trap handlers call these; kernel/ke implements them.

typedef enum _KI_FAULT_ACCESS { KiFaultRead, KiFaultWrite, KiFaultExecute } KI_FAULT_ACCESS;

typedef enum _KI_FAULT_CAUSE {
    KiFaultNotPresent,   // a table or a leaf is missing
    KiFaultReadOnly,     // write to a present page without the right
    KiFaultNoExecute,    // fetch from a present page without the right
    KiFaultNonCanonical, // no such address; the hardware raises a general protection fault
    KiFaultOther, // present and allowed by the entry: SMEP, SMAP, protection key, reserved bits
} KI_FAULT_CAUSE;

typedef struct _KI_FAULT {
    KI_FAULT_ACCESS Access;
    KI_FAULT_CAUSE Cause;
    BOOLEAN LeafTableExists; // not present: FALSE when a table above is missing
    ULONG64 Va;
    ULONG64 Entry; // the raw entry that decided
    ULONG64 Rip;
    KIRQL Irql; // at the faulting instruction
} KI_FAULT, *PKI_FAULT;

// A memory access that nothing handles: chooses the bug-check code.
DECLSPEC_NORETURN VOID KiDispatchMemoryFault(const KI_FAULT *Fault);

// Any other exception.
typedef struct _KI_EXCEPTION {
    ULONG BugCheckCode; // what it stops the machine with
    NTSTATUS Status;    // the same as a status, for KMODE_EXCEPTION_NOT_HANDLED
    ULONG Vector;
    PCSTR Name;
    ULONG64 ErrorCode;
    ULONG64 Rip;
} KI_EXCEPTION, *PKI_EXCEPTION;

DECLSPEC_NORETURN VOID KiDispatchException(const KI_EXCEPTION *Exception);

// -------------------------------------------------------------------------------------------------
// Raises.

// Goes on in the innermost handler around the caller. Returns when there is none.
VOID KeArchRaise(struct _EXCEPTION_RECORD *Record);

// Interrupts, with interrupts on. Each routine returns at the IRQL at which it was called.
VOID KiDispatchInterrupt(VOID); // at DISPATCH_LEVEL; may switch threads, and return much later
VOID KiClockInterrupt(VOID);    // at CLOCK_LEVEL

// At the vector's IRQL. IsStuck: what was interrupted has not executed one instruction since the last
// interrupt of a device, nor has a DPC run.
VOID KiDeviceInterrupt(ULONG Vector, BOOLEAN IsStuck);

// -------------------------------------------------------------------------------------------------
// On the way of every spin lock, therefore inline. The architecture defines them in a header of this
// name, which the build finds in its folder:
//
//   KIRQL KeArchReadIrql(VOID)         IRQL is the task-priority register and nothing else
//   VOID KeArchWriteIrql(KIRQL Irql)
//   PKPCR KeArchGetPcr(VOID)
//   PKTHREAD KeArchGetCurrentThread(VOID)   one load: the thread may move to another processor
//   VOID KeArchPause(VOID)             in every loop that waits
//   VOID KeArchWaitWhileTaken(const KSPIN_LOCK *Word)   calls KiWaitWhileTaken, and keeps every register
//   ULONG64 KeArchHoldInterrupts(VOID) off, for a few instructions; returns what KeArchReleaseInterrupts gets
//   VOID KeArchReleaseInterrupts(ULONG64 Flags)
//   BOOLEAN KeArchAreInterruptsOn(VOID)
//
#include <kearchinline.h>
