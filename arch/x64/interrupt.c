// What every interrupt does: it raises IRQL to its vector's, runs the routine of its class with
// interrupts on, acknowledges, and lowers IRQL again.
//
// A vector's upper four bits are its IRQL, and the task-priority register holds back all vectors of
// that class and below, so IRQL is a fact of the hardware:
//
//   0x20 - 0x2F   DISPATCH_LEVEL: 0x2F is the processor's interrupt to itself that runs DPCs
//   0x30 - 0xBF   devices, IRQL 3 - 11
//   0xD0 - 0xDF   CLOCK_LEVEL
//   0xE0 - 0xEF   IPI_LEVEL
//   0xF0 - 0xFF   never asked for: spurious interrupts of the local APIC and the 8259 pair
//
// Invariants:
//   IN1 A routine runs at exactly its vector's IRQL with interrupts on, and returns at that IRQL.
//   IN2 An exception that is raised inside an interrupt does not reach the interrupted code: its
//       handlers are out of sight meanwhile.
//   IN3 A spurious interrupt is counted and not acknowledged: it has no bit in the APIC's in-service
//       register, so that an acknowledgement would end somebody else's interrupt.
// The dispatch interrupt is acknowledged before its routine runs, because that may switch threads;
// the others after it, so that they cannot come again before the routine has ended.

#include "arch/x64/x64.h"

#include "kernel/inc/ke.h"
#include "kernel/inc/ps.h"

#define IRQL_OF_VECTOR(Vector) ((KIRQL)((Vector) >> 4))

// Where each processor's last interrupt of a device found it: nowhere, when DPCs or another thread
// have run since.
static struct {
    ULONG64 Rip;
    ULONG64 Rsp;
} KiLastInterrupted[KE_MAXIMUM_PROCESSORS];

static VOID KiRunDispatchInterrupt(ULONG Vector, const KINTERRUPT_FRAME *Frame)
{
    UNREFERENCED_PARAMETER(Vector);
    UNREFERENCED_PARAMETER(Frame);
    KiLastInterrupted[KeArchGetPcr()->Number].Rip = 0;
    KiDispatchInterrupt();
}

static VOID KiRunClockInterrupt(ULONG Vector, const KINTERRUPT_FRAME *Frame)
{
    UNREFERENCED_PARAMETER(Vector);
    UNREFERENCED_PARAMETER(Frame);
    KiRearmClock();
    KiClockInterrupt();
}

static VOID KiRunIpi(ULONG Vector, const KINTERRUPT_FRAME *Frame)
{
    UNREFERENCED_PARAMETER(Vector);
    UNREFERENCED_PARAMETER(Frame);
    KiIpiInterrupt();
}

static VOID KiRunDeviceInterrupt(ULONG Vector, const KINTERRUPT_FRAME *Frame)
{
    const ULONG Number = KeArchGetPcr()->Number;
    const BOOLEAN IsStuck =
        KiLastInterrupted[Number].Rip == Frame->Rip && KiLastInterrupted[Number].Rsp == Frame->Rsp;
    KiLastInterrupted[Number].Rip = Frame->Rip;
    KiLastInterrupted[Number].Rsp = Frame->Rsp;
    KiDeviceInterrupt(Vector, IsStuck);
}

typedef struct _KI_INTERRUPT_CLASS {
    // NULL: nothing has such a vector
    VOID (*Routine)(ULONG Vector, const KINTERRUPT_FRAME *Frame);
    BOOLEAN IsAcknowledgedFirst;
} KI_INTERRUPT_CLASS;

// By IRQL.
static const KI_INTERRUPT_CLASS KiInterruptClasses[HIGH_LEVEL + 1] = {
    [DISPATCH_LEVEL] = {KiRunDispatchInterrupt, TRUE},
    [DISPATCH_LEVEL + 1 ... KE_MAXIMUM_DEVICE_IRQL] = {KiRunDeviceInterrupt, FALSE},
    [CLOCK_LEVEL] = {KiRunClockInterrupt, FALSE},
    [IPI_LEVEL] = {KiRunIpi, FALSE},
};

// A vector that nothing was given. If the APIC really delivers it, it must be ended (IN3).
static VOID KiIgnoreInterrupt(ULONG Vector)
{
    KeArchGetPcr()->SpuriousInterrupts += 1;
    if (KiIsInService(Vector)) {
        KiAcknowledgeInterrupt();
    }
}

static VOID KiRunClass(const KI_INTERRUPT_CLASS *Class, ULONG Vector, const KINTERRUPT_FRAME *Frame)
{
    const KIRQL Irql = IRQL_OF_VECTOR(Vector);
    const KIRQL OldIrql = KeArchReadIrql();
    struct _KM_TRY_FRAME *const Handlers = KeArchGetCurrentThread()->ExceptionList;
    KeArchGetCurrentThread()->ExceptionList = NULL;
    KeArchGetPcr()->InterruptCount += 1;
    KeArchWriteIrql(Irql);
    if (Class->IsAcknowledgedFirst) {
        KiAcknowledgeInterrupt();
    }
    __asm__ volatile("sti" : : : "memory");
    Class->Routine(Vector, Frame);
    __asm__ volatile("cli" : : : "memory");
    NT_ASSERT_INVARIANT("IN1", KeArchReadIrql() == Irql);
    if (!Class->IsAcknowledgedFirst) {
        KiAcknowledgeInterrupt();
    }
    KeArchGetCurrentThread()->ExceptionList = Handlers;
    KeArchWriteIrql(OldIrql);
}

// Called by interrupt.S with interrupts off.
VOID KiRunInterrupt(ULONG Vector, const KINTERRUPT_FRAME *Frame)
{
    const KI_INTERRUPT_CLASS *Class = &KiInterruptClasses[IRQL_OF_VECTOR(Vector)];
    if (KeArchGetPcr()->Sleep != KiAwake) {
        KiWakeUp();
    }
    if (Class->Routine == NULL) {
        KiIgnoreInterrupt(Vector);
    } else {
        KiRunClass(Class, Vector, Frame);
    }
}
