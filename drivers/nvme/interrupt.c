// The controller's interrupts: messages, or a line where there are none. All completion queues use
// message 0.
//
//   message  NvmeMessageIsr                                          --> NvmeDpc --> Answered
//   line     NvmeLineIsr: a queue has completions? masks the pin     --> NvmeDpc --> Answered
//            NvmeWaitForInterrupt: unmasks it, once they are consumed
//
// The mask registers are for the pin only: with MSI-X nobody may touch them.
#include "oldnvme.h"

#define NVME_PIN 0x1u // in IntMs and IntMc
#define NVME_UNITS_PER_MILLISECOND 10000ll

static KMESSAGE_SERVICE_ROUTINE NvmeMessageIsr;
static KSERVICE_ROUTINE NvmeLineIsr;
static KDEFERRED_ROUTINE NvmeDpc;

static BOOLEAN NTAPI NvmeMessageIsr(PKINTERRUPT Interrupt, PVOID ServiceContext, ULONG MessageId)
{
    const PNVME_DEVICE Device = ServiceContext;
    UNREFERENCED_PARAMETER(Interrupt);
    UNREFERENCED_PARAMETER(MessageId);
    (VOID) KeInsertQueueDpc(&Device->Dpc, NULL, NULL);
    return TRUE;
}

// There is no register that says whether the controller has interrupted: it holds the line as long as
// a queue has completions.
static BOOLEAN NTAPI NvmeLineIsr(PKINTERRUPT Interrupt, PVOID ServiceContext)
{
    const PNVME_DEVICE Device = ServiceContext;
    UNREFERENCED_PARAMETER(Interrupt);
    if (!NvmeHasCompletion(&Device->AdminQueue) && !NvmeHasCompletion(&Device->IoQueue)) {
        return FALSE;
    }
    WRITE_REGISTER_ULONG(&Device->Registers->IntMs, NVME_PIN);
    (VOID) KeInsertQueueDpc(&Device->Dpc, NULL, NULL);
    return TRUE;
}

static VOID NTAPI NvmeDpc(PKDPC Dpc, PVOID DeferredContext, PVOID SystemArgument1,
                          PVOID SystemArgument2)
{
    const PNVME_DEVICE Device = DeferredContext;
    UNREFERENCED_PARAMETER(Dpc);
    UNREFERENCED_PARAMETER(SystemArgument1);
    UNREFERENCED_PARAMETER(SystemArgument2);
    KeSetEvent(&Device->Answered, IO_DISK_INCREMENT, FALSE);
}

NTSTATUS NvmeConnectInterrupt(PNVME_DEVICE Device)
{
    IO_CONNECT_INTERRUPT_PARAMETERS Parameters;
    KeInitializeEvent(&Device->Answered, SynchronizationEvent, FALSE);
    KeInitializeDpc(&Device->Dpc, NvmeDpc, Device);
    RtlZeroMemory(&Parameters, sizeof(Parameters));
    Parameters.Version = CONNECT_MESSAGE_BASED;
    Parameters.MessageBased.PhysicalDeviceObject = Device->Pdo;
    Parameters.MessageBased.ConnectionContext.Generic = &Device->InterruptContext;
    Parameters.MessageBased.MessageServiceRoutine = NvmeMessageIsr;
    Parameters.MessageBased.ServiceContext = Device;
    Parameters.MessageBased.FallBackServiceRoutine = NvmeLineIsr;
    const NTSTATUS Status = IoConnectInterruptEx(&Parameters);
    if (!NT_SUCCESS(Status)) {
        Device->InterruptContext = NULL;
        return Status;
    }
    Device->InterruptVersion = Parameters.Version;
    return STATUS_SUCCESS;
}

VOID NvmeDisconnectInterrupt(PNVME_DEVICE Device)
{
    IO_DISCONNECT_INTERRUPT_PARAMETERS Parameters;
    if (Device->InterruptContext == NULL) {
        return;
    }
    RtlZeroMemory(&Parameters, sizeof(Parameters));
    Parameters.Version = Device->InterruptVersion;
    Parameters.ConnectionContext.Generic = Device->InterruptContext;
    IoDisconnectInterruptEx(&Parameters);
    Device->InterruptContext = NULL;
    KeFlushQueuedDpcs(); // the last one may be under way
}

BOOLEAN NvmeWaitForInterrupt(PNVME_DEVICE Device, ULONG Milliseconds)
{
    LARGE_INTEGER Timeout;
    if (Device->InterruptVersion == CONNECT_LINE_BASED) {
        WRITE_REGISTER_ULONG(&Device->Registers->IntMc, NVME_PIN);
    }
    Timeout.QuadPart = -NVME_UNITS_PER_MILLISECOND * Milliseconds;
    return KeWaitForSingleObject(&Device->Answered, Executive, KernelMode, FALSE, &Timeout) ==
           STATUS_SUCCESS;
}
