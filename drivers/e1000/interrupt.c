// The card's interrupt: a line, which it may share with others.
//
//   card --> E1000Isr: reads the causes --> E1000Dpc: sets an event --> whoever waits for the card
#include "e1000.h"

#define E1000_SLICE_MS 100
#define E1000_UNITS_PER_MS 10000ll // of 100 ns

static KSERVICE_ROUTINE E1000Isr;
static KDEFERRED_ROUTINE E1000Dpc;

// A card that is gone reads as all ones: it did not interrupt.
static BOOLEAN NTAPI E1000Isr(PKINTERRUPT Interrupt, PVOID ServiceContext)
{
    const PE1000_ADAPTER Adapter = ServiceContext;
    const ULONG Causes = E1000ReadRegister(Adapter, E1000_ICR);

    UNREFERENCED_PARAMETER(Interrupt);
    if (Causes == E1000_ABSENT || (Causes & E1000_INTERRUPT_CAUSES) == 0) {
        return FALSE;
    }
    (VOID) KeInsertQueueDpc(&Adapter->Dpc, NULL, NULL);
    return TRUE;
}

static VOID NTAPI E1000Dpc(PKDPC Dpc, PVOID DeferredContext, PVOID SystemArgument1,
                           PVOID SystemArgument2)
{
    const PE1000_ADAPTER Adapter = DeferredContext;

    UNREFERENCED_PARAMETER(Dpc);
    UNREFERENCED_PARAMETER(SystemArgument1);
    UNREFERENCED_PARAMETER(SystemArgument2);
    KeSetEvent(&Adapter->Interrupted, IO_NETWORK_INCREMENT, FALSE);
}

NTSTATUS E1000ConnectInterrupt(PE1000_ADAPTER Adapter)
{
    IO_CONNECT_INTERRUPT_PARAMETERS Parameters;

    KeInitializeEvent(&Adapter->Interrupted, SynchronizationEvent, FALSE);
    KeInitializeDpc(&Adapter->Dpc, E1000Dpc, Adapter);
    RtlZeroMemory(&Parameters, sizeof(Parameters));
    Parameters.Version = CONNECT_LINE_BASED;
    Parameters.LineBased.PhysicalDeviceObject = Adapter->Pdo;
    Parameters.LineBased.InterruptObject = &Adapter->Interrupt;
    Parameters.LineBased.ServiceRoutine = E1000Isr;
    Parameters.LineBased.ServiceContext = Adapter;
    const NTSTATUS Status = IoConnectInterruptEx(&Parameters);
    if (!NT_SUCCESS(Status)) {
        Adapter->Interrupt = NULL;
        DbgPrint("e1000: the interrupt could not be connected: status 0x%08x.\n", Status);
    }
    return Status;
}

VOID E1000DisconnectInterrupt(PE1000_ADAPTER Adapter)
{
    IO_DISCONNECT_INTERRUPT_PARAMETERS Parameters;

    if (Adapter->Interrupt == NULL) {
        return;
    }
    RtlZeroMemory(&Parameters, sizeof(Parameters));
    Parameters.Version = CONNECT_LINE_BASED;
    Parameters.ConnectionContext.InterruptObject = Adapter->Interrupt;
    IoDisconnectInterruptEx(&Parameters);
    Adapter->Interrupt = NULL;
    KeFlushQueuedDpcs(); // the last one may be under way
}

VOID E1000WaitForInterrupt(PE1000_ADAPTER Adapter, E1000_DEADLINE Deadline)
{
    LARGE_INTEGER Frequency;
    const LONGLONG Left = Deadline.Ticks - KeQueryPerformanceCounter(&Frequency).QuadPart;
    const LONGLONG Slice = Frequency.QuadPart * E1000_SLICE_MS / 1000;
    LARGE_INTEGER Timeout;

    Timeout.QuadPart = -E1000_SLICE_MS * E1000_UNITS_PER_MS;
    if (Left < Slice) {
        // Rounded up, so that the deadline is over afterwards.
        Timeout.QuadPart =
            -(Left <= 0 ? 1 : Left * 1000 / Frequency.QuadPart + 1) * E1000_UNITS_PER_MS;
    }
    (VOID) KeWaitForSingleObject(&Adapter->Interrupted, Executive, KernelMode, FALSE, &Timeout);
}
