// The card's interrupt: a line, which it may share with others.
//
//   card --> E1000Isr: reads the causes --> E1000Dpc: both rings, the link, the throttle
//
// Reading ICR is the only register read on the way of a frame: it clears the causes and lets go of the
// line. The DPC does not read it again: what comes meanwhile interrupts anew.
//
// The throttle (ITR) is the least time between two interrupts. The adaptive policy chooses it by how many
// frames an interrupt finds: few frames want to be heard of at once, a stream of them can wait for
// company. A level is changed only when several interrupts in a row want the same, because each change
// is a register write. QEMU does not go below 128 us, and has mitigation=off to have none.
#include "e1000.h"

static KSERVICE_ROUTINE E1000Isr;
static KDEFERRED_ROUTINE E1000Dpc;

#define E1000_LEVEL_PATIENCE 8u // interrupts in a row

static const struct {
    ULONG64 LeastFrames; // that an interrupt finds
    ULONG InterruptsPerSecond;
} E1000Levels[] = {
    {0, 70000},
    {4, 20000},
    {24, 8000},
    {128, 4000},
};

static ULONG E1000ThrottleInterval(ULONG InterruptsPerSecond)
{
    return 1000000000u / E1000_ITR_NANOSECONDS / InterruptsPerSecond;
}

VOID E1000ProgramThrottle(PE1000_ADAPTER Adapter)
{
    const NET_OPTIONS *const Options = &Adapter->Options;
    const ULONG Rate = Options->Throttle == NET_THROTTLE_FIXED
                           ? Options->InterruptsPerSecond
                           : E1000Levels[Adapter->Throttle.Level].InterruptsPerSecond;

    E1000WriteRegister(Adapter, E1000_ITR,
                       Options->Throttle == NET_THROTTLE_OFF ? 0 : E1000ThrottleInterval(Rate));
}

static ULONG E1000LevelFor(ULONG64 Frames)
{
    ULONG Level = 0;

    while (Level + 1 < ARRAYSIZE(E1000Levels) && Frames >= E1000Levels[Level + 1].LeastFrames) {
        Level += 1;
    }
    return Level;
}

static VOID E1000AdaptThrottle(PE1000_ADAPTER Adapter)
{
    E1000_THROTTLE *const Throttle = &Adapter->Throttle;
    // Read without the rings' locks: a count that is a little old does no harm.
    const ULONG64 Frames = Adapter->Receive.Counters.Frames + Adapter->Transmit.Counters.Frames;
    const ULONG Wanted = E1000LevelFor(Frames - Throttle->FramesBefore);

    Throttle->FramesBefore = Frames;
    Throttle->WantedInARow = Wanted == Throttle->WantedLevel ? Throttle->WantedInARow + 1 : 1;
    Throttle->WantedLevel = Wanted;
    if (Wanted != Throttle->Level && Throttle->WantedInARow >= E1000_LEVEL_PATIENCE) {
        Throttle->Level = Wanted;
        Throttle->Changes += 1;
        E1000ProgramThrottle(Adapter);
    }
}

// A card that is gone reads as all ones: it did not interrupt.
static BOOLEAN NTAPI E1000Isr(PKINTERRUPT Interrupt, PVOID ServiceContext)
{
    const PE1000_ADAPTER Adapter = ServiceContext;
    const ULONG Causes = E1000ReadRegister(Adapter, E1000_ICR);

    UNREFERENCED_PARAMETER(Interrupt);
    if (Causes == E1000_ABSENT || (Causes & E1000_INTERRUPT_CAUSES) == 0) {
        return FALSE;
    }
    Adapter->InterruptCount += 1;
    (VOID) InterlockedOr(&Adapter->Causes, (LONG)Causes);
    (VOID) KeInsertQueueDpc(&Adapter->Dpc, NULL, NULL);
    return TRUE;
}

static VOID NTAPI E1000Dpc(PKDPC Dpc, PVOID DeferredContext, PVOID SystemArgument1,
                           PVOID SystemArgument2)
{
    const PE1000_ADAPTER Adapter = DeferredContext;
    const ULONG Causes = (ULONG)InterlockedExchange(&Adapter->Causes, 0);

    UNREFERENCED_PARAMETER(Dpc);
    UNREFERENCED_PARAMETER(SystemArgument1);
    UNREFERENCED_PARAMETER(SystemArgument2);
    if (Causes & E1000_ICR_RXO) {
        Adapter->Overruns += 1;
    }
    if (Causes & E1000_ICR_LSC) {
        E1000UpdateLink(Adapter);
    }
    E1000ServiceTransmit(Adapter);
    E1000ServiceReceive(Adapter);
    if (Adapter->Options.Throttle == NET_THROTTLE_ADAPTIVE) {
        E1000AdaptThrottle(Adapter);
    }
}

NTSTATUS E1000ConnectInterrupt(PE1000_ADAPTER Adapter)
{
    IO_CONNECT_INTERRUPT_PARAMETERS Parameters;

    RtlZeroMemory(&Adapter->Throttle, sizeof(Adapter->Throttle));
    Adapter->Causes = 0;
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
