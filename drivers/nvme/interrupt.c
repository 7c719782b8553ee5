// The controller's interrupts: messages, or a line where there are none.
//
//   message  NvmeMessageIsr: for each queue of that message           --> ReapDpc --> NvmeReap
//   line     NvmeLineIsr: a queue has completions? masks the pin      --> LineDpc --> NvmeReap of all;
//                                                                          unmasks the pin
//
// Queue n uses message n modulo the number of messages: one each, if there are enough. The mask registers
// are for the pin only: with MSI-X nobody may touch them.
//
// Traps of controllers, real and emulated:
//   - CC.EN = 0 clears the mask of the pin.
//   - With completions left in a queue at CC.EN = 0, QEMU's pin stays asserted for ever. So they are
//     consumed before (NvmeReap), wherever the controller still answers.
//   - There is no register that says whether the controller has interrupted: it holds the line as long as
//     a queue with interrupts has completions.
#include "nvme.h"

#define NVME_PIN 0x1u // in IntMs and IntMc

static KMESSAGE_SERVICE_ROUTINE NvmeMessageIsr;
static KSERVICE_ROUTINE NvmeLineIsr;
static KDEFERRED_ROUTINE NvmeLineDpc;
static KDEFERRED_ROUTINE NvmeReapDpc;
static KDEFERRED_ROUTINE NvmeRingDpc;

static BOOLEAN NTAPI NvmeMessageIsr(PKINTERRUPT Interrupt, PVOID ServiceContext, ULONG MessageId)
{
    const PNVME_CONTROLLER Controller = ServiceContext;
    UNREFERENCED_PARAMETER(Interrupt);
    for (ULONG Id = MessageId; Id < NVME_MAXIMUM_QUEUES; Id += Controller->MessageCount) {
        const PNVME_QUEUE Queue = Controller->Queues[Id];
        if (Queue != NULL && !Queue->IsPolled) {
            Queue->Counters.Interrupts += 1;
            (VOID) KeInsertQueueDpc(&Queue->ReapDpc, NULL, NULL);
        }
    }
    return TRUE;
}

static BOOLEAN NTAPI NvmeLineIsr(PKINTERRUPT Interrupt, PVOID ServiceContext)
{
    const PNVME_CONTROLLER Controller = ServiceContext;
    BOOLEAN IsOurs = FALSE;
    UNREFERENCED_PARAMETER(Interrupt);
    for (ULONG Id = 0; Id < NVME_MAXIMUM_QUEUES; Id += 1) {
        const PNVME_QUEUE Queue = Controller->Queues[Id];
        if (Queue != NULL && !Queue->IsPolled && NvmeHasCompletion(Queue)) {
            Queue->Counters.Interrupts += 1;
            IsOurs = TRUE;
        }
    }
    if (IsOurs) {
        Controller->LineInterrupts += 1;
        WRITE_REGISTER_ULONG(&Controller->Registers->IntMs, NVME_PIN);
        (VOID) KeInsertQueueDpc(&Controller->LineDpc, NULL, NULL);
    }
    return IsOurs;
}

static VOID NTAPI NvmeLineDpc(PKDPC Dpc, PVOID DeferredContext, PVOID SystemArgument1,
                              PVOID SystemArgument2)
{
    const PNVME_CONTROLLER Controller = DeferredContext;
    UNREFERENCED_PARAMETER(Dpc);
    UNREFERENCED_PARAMETER(SystemArgument1);
    UNREFERENCED_PARAMETER(SystemArgument2);
    for (ULONG Id = 0; Id < NVME_MAXIMUM_QUEUES; Id += 1) {
        const PNVME_QUEUE Queue = Controller->Queues[Id];
        if (Queue != NULL && !Queue->IsPolled) {
            (VOID) NvmeReap(Queue);
        }
    }
    NvmeUnmaskLine(Controller);
}

static VOID NTAPI NvmeReapDpc(PKDPC Dpc, PVOID DeferredContext, PVOID SystemArgument1,
                              PVOID SystemArgument2)
{
    UNREFERENCED_PARAMETER(Dpc);
    UNREFERENCED_PARAMETER(SystemArgument1);
    UNREFERENCED_PARAMETER(SystemArgument2);
    (VOID) NvmeReap(DeferredContext);
}

static VOID NTAPI NvmeRingDpc(PKDPC Dpc, PVOID DeferredContext, PVOID SystemArgument1,
                              PVOID SystemArgument2)
{
    const PNVME_QUEUE Queue = DeferredContext;
    UNREFERENCED_PARAMETER(Dpc);
    UNREFERENCED_PARAMETER(SystemArgument1);
    UNREFERENCED_PARAMETER(SystemArgument2);
    KeAcquireSpinLockAtDpcLevel(&Queue->Lock);
    Queue->IsRingDeferred = FALSE;
    NvmeRing(Queue);
    KeReleaseSpinLockFromDpcLevel(&Queue->Lock);
}

VOID NvmeInitializeDpcs(PNVME_QUEUE Queue)
{
    KeInitializeDpc(&Queue->ReapDpc, NvmeReapDpc, Queue);
    KeInitializeDpc(&Queue->RingDpc, NvmeRingDpc, Queue);
}

ULONG NvmeMessageOfQueue(const NVME_CONTROLLER *Controller, USHORT Id)
{
    return Controller->MessageCount != 0 ? Id % Controller->MessageCount : 0;
}

VOID NvmeUnmaskLine(PNVME_CONTROLLER Controller)
{
    if (Controller->MessageCount == 0 && Controller->InterruptContext != NULL) {
        WRITE_REGISTER_ULONG(&Controller->Registers->IntMc, NVME_PIN);
    }
}

NTSTATUS NvmeConnectInterrupt(PNVME_CONTROLLER Controller)
{
    IO_CONNECT_INTERRUPT_PARAMETERS Parameters;
    KeInitializeDpc(&Controller->LineDpc, NvmeLineDpc, Controller);
    RtlZeroMemory(&Parameters, sizeof(Parameters));
    Parameters.Version = CONNECT_MESSAGE_BASED;
    Parameters.MessageBased.PhysicalDeviceObject = Controller->Pdo;
    Parameters.MessageBased.ConnectionContext.Generic = &Controller->InterruptContext;
    Parameters.MessageBased.MessageServiceRoutine = NvmeMessageIsr;
    Parameters.MessageBased.ServiceContext = Controller;
    Parameters.MessageBased.FallBackServiceRoutine = NvmeLineIsr;
    // No queue is there yet: whichever routine is called before the count is known finds none.
    Controller->MessageCount = 1;
    const NTSTATUS Status = IoConnectInterruptEx(&Parameters);
    if (!NT_SUCCESS(Status)) {
        Controller->InterruptContext = NULL;
        return Status;
    }
    Controller->InterruptVersion = Parameters.Version;
    if (Parameters.Version == CONNECT_MESSAGE_BASED) {
        const IO_INTERRUPT_MESSAGE_INFO *Table = Controller->InterruptContext;
        Controller->MessageCount = Table->MessageCount;
    } else {
        Controller->MessageCount = 0;
    }
    return STATUS_SUCCESS;
}

VOID NvmeDisconnectInterrupt(PNVME_CONTROLLER Controller)
{
    IO_DISCONNECT_INTERRUPT_PARAMETERS Parameters;
    if (Controller->InterruptContext == NULL) {
        return;
    }
    RtlZeroMemory(&Parameters, sizeof(Parameters));
    Parameters.Version = Controller->InterruptVersion;
    Parameters.ConnectionContext.Generic = Controller->InterruptContext;
    IoDisconnectInterruptEx(&Parameters);
    Controller->InterruptContext = NULL;
    KeFlushQueuedDpcs(); // the last one may be under way
}
