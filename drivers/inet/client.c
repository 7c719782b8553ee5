// \Device\Inet's requests. They wait in a cancel-safe queue, of which the thread takes those that it has
// not seen; those that must wait for the network go back into it, with another InetWait.
#include "card.h"

// -------------------------------------------------------------------------------------------------
// The queue.

static PINET_CARD InetCardOf(PIO_CSQ Csq)
{
    return CONTAINING_RECORD(Csq, INET_CARD, Csq);
}

static VOID NTAPI InetInsertIrp(PIO_CSQ Csq, PIRP Irp)
{
    InsertTailList(&InetCardOf(Csq)->Clients, &Irp->Tail.Overlay.ListEntry);
}

static VOID NTAPI InetRemoveIrp(PIO_CSQ Csq, PIRP Irp)
{
    UNREFERENCED_PARAMETER(Csq);
    RemoveEntryList(&Irp->Tail.Overlay.ListEntry);
}

static PIRP NTAPI InetPeekIrp(PIO_CSQ Csq, PIRP Irp, PVOID PeekContext)
{
    const PLIST_ENTRY Head = &InetCardOf(Csq)->Clients;
    PLIST_ENTRY Link = Irp == NULL ? Head->Flink : Irp->Tail.Overlay.ListEntry.Flink;

    for (; Link != Head; Link = Link->Flink) {
        const PIRP Next = CONTAINING_RECORD(Link, IRP, Tail.Overlay.ListEntry);
        if (Next->Tail.Overlay.DriverContext[0] == PeekContext) {
            return Next;
        }
    }
    return NULL;
}

static VOID NTAPI InetAcquireQueue(PIO_CSQ Csq, PKIRQL Irql)
{
    KeAcquireSpinLock(&InetCardOf(Csq)->Lock, Irql);
}

static VOID NTAPI InetReleaseQueue(PIO_CSQ Csq, KIRQL Irql)
{
    KeReleaseSpinLock(&InetCardOf(Csq)->Lock, Irql);
}

static VOID InetCompleteClient(PIRP Irp, NTSTATUS Status, ULONG_PTR Information)
{
    Irp->IoStatus.Status = Status;
    Irp->IoStatus.Information = NT_SUCCESS(Status) ? Information : 0;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
}

static VOID NTAPI InetCancelClient(PIO_CSQ Csq, PIRP Irp)
{
    UNREFERENCED_PARAMETER(Csq);
    InetCompleteClient(Irp, STATUS_CANCELLED, 0);
}

VOID InetInitializeClients(PINET_CARD Card)
{
    InitializeListHead(&Card->Clients);
    (VOID) IoCsqInitialize(&Card->Csq, InetInsertIrp, InetRemoveIrp, InetPeekIrp, InetAcquireQueue,
                           InetReleaseQueue, InetCancelClient);
}

static PIRP InetNextClient(PINET_CARD Card, INET_WAIT Wait)
{
    return IoCsqRemoveNextIrp(&Card->Csq, (PVOID)(ULONG_PTR)Wait);
}

static VOID InetWaitMore(PINET_CARD Card, PIRP Irp, INET_WAIT Wait, PIO_CSQ_IRP_CONTEXT Context)
{
    Irp->Tail.Overlay.DriverContext[0] = (PVOID)(ULONG_PTR)Wait;
    IoCsqInsertIrp(&Card->Csq, Irp, Context);
}

// -------------------------------------------------------------------------------------------------
// The lease.

static VOID InetFillLease(const INET_INTERFACE *Interface, PNET_LEASE Lease)
{
    RtlZeroMemory(Lease, sizeof(*Lease));
    InetWrite32(Lease->Address, Interface->Address);
    InetWrite32(Lease->Mask, Interface->Mask);
    InetWrite32(Lease->Router, Interface->Router);
    Lease->LeaseSeconds = DHCP_INFINITE_LEASE;
    if (Interface->UsesDhcp) {
        InetWrite32(Lease->NameServer, Interface->Dhcp.Lease.DnsServer);
        InetWrite32(Lease->Server, Interface->Dhcp.Lease.ServerId);
        Lease->LeaseSeconds = Interface->Dhcp.Lease.LeaseSeconds;
    }
}

static VOID InetServeLease(PINET_CARD Card, PIRP Irp)
{
    if (Card->Interface.Address != 0) {
        InetFillLease(&Card->Interface, Irp->AssociatedIrp.SystemBuffer);
        InetCompleteClient(Irp, STATUS_SUCCESS, sizeof(NET_LEASE));
    } else if (Card->KnowsLink && !Card->Interface.LinkUp) {
        InetCompleteClient(Irp, STATUS_NETWORK_UNREACHABLE, 0);
    } else {
        InetWaitMore(Card, Irp, InetWaitLease, NULL);
    }
}

// -------------------------------------------------------------------------------------------------
// Ping.

static PINET_PINGER InetTakePinger(PINET_CARD Card)
{
    for (ULONG Index = 0; Index < INET_PINGS; Index += 1) {
        if (!Card->Pingers[Index].IsUsed) {
            return &Card->Pingers[Index];
        }
    }
    return NULL;
}

static VOID InetServePing(PINET_CARD Card, PIRP Irp)
{
    const INET_PING Ping = *(const INET_PING *)Irp->AssociatedIrp.SystemBuffer;
    const PINET_PINGER Pinger = InetTakePinger(Card);

    if (Pinger == NULL) {
        InetCompleteClient(Irp, STATUS_DEVICE_BUSY, 0);
        return;
    }
    const NTSTATUS Status = InetPing(&Card->Interface, InetRead32(Ping.Address), Ping.PayloadBytes,
                                     Ping.TimeoutMilliseconds, Pinger);
    if (!NT_SUCCESS(Status)) {
        InetCompleteClient(Irp, Status, 0);
        return;
    }
    Pinger->IsUsed = TRUE;
    Pinger->StartTicks = KeQueryPerformanceCounter(NULL).QuadPart;
    InetWaitMore(Card, Irp, InetWaitPing, &Pinger->Csq);
}

VOID InetClientPingDone(PINET_CARD Card, PINET_PINGER Pinger, NTSTATUS Status,
                        const UCHAR *Hardware, UCHAR TimeToLive)
{
    LARGE_INTEGER Frequency;
    const LONGLONG Ticks = KeQueryPerformanceCounter(&Frequency).QuadPart - Pinger->StartTicks;
    const PIRP Irp = IoCsqRemoveIrp(&Card->Csq, &Pinger->Csq);

    Pinger->IsUsed = FALSE;
    if (Irp == NULL) {
        return; // cancelled
    }
    const PINET_PING_RESULT Result = Irp->AssociatedIrp.SystemBuffer;
    RtlZeroMemory(Result, sizeof(*Result));
    if (NT_SUCCESS(Status)) {
        Result->Microseconds = (ULONG)(Ticks * 1000000 / Frequency.QuadPart);
        Result->TimeToLive = TimeToLive;
        RtlCopyMemory(Result->EthernetAddress, Hardware, sizeof(Result->EthernetAddress));
    }
    InetCompleteClient(Irp, Status, sizeof(*Result));
}

// -------------------------------------------------------------------------------------------------
// Queries.

static VOID InetServeQuery(PINET_CARD Card, PIRP Irp)
{
    const INET_INTERFACE *const Interface = &Card->Interface;
    const PINET_INFORMATION Information = Irp->AssociatedIrp.SystemBuffer;

    RtlZeroMemory(Information, sizeof(*Information));
    RtlCopyMemory(Information->EthernetAddress, Interface->Hardware,
                  sizeof(Information->EthernetAddress));
    Information->LinkUp = Interface->LinkUp;
    Information->IsConfigured = Interface->Address != 0;
    InetWrite32(Information->Address, Interface->Address);
    InetWrite32(Information->Mask, Interface->Mask);
    InetWrite32(Information->Router, Interface->Router);
    Information->CardCount = InetCountCards();
    Information->FramesReceived = Interface->Counters[InetFramesReceived];
    Information->FramesSent = Interface->Counters[InetFramesSent];
    Information->FramesDropped = InetCountDrops(Interface);
    Information->FramesHeld = Interface->HeldFrames;
    InetCompleteClient(Irp, STATUS_SUCCESS, sizeof(*Information));
}

static VOID InetServeDescribe(PINET_CARD Card, PIRP Irp)
{
    const ULONG Capacity =
        IoGetCurrentIrpStackLocation(Irp)->Parameters.DeviceIoControl.OutputBufferLength;
    INET_TEXT Text = {Irp->AssociatedIrp.SystemBuffer, Capacity, 0};

    InetDescribe(&Card->Interface, &Text);
    InetCompleteClient(Irp, STATUS_SUCCESS, Text.ByteCount);
}

// -------------------------------------------------------------------------------------------------
// Serving.

static VOID InetServe(PINET_CARD Card, PIRP Irp)
{
    switch (IoGetCurrentIrpStackLocation(Irp)->Parameters.DeviceIoControl.IoControlCode) {
    case IOCTL_NET_OBTAIN_LEASE:
        InetServeLease(Card, Irp);
        break;
    case IOCTL_INET_PING:
        InetServePing(Card, Irp);
        break;
    case IOCTL_INET_QUERY:
        InetServeQuery(Card, Irp);
        break;
    default: // the dispatch routine lets nothing else through
        InetServeDescribe(Card, Irp);
        break;
    }
}

VOID InetServeClients(PINET_CARD Card)
{
    for (PIRP Irp = InetNextClient(Card, InetWaitThread); Irp != NULL;
         Irp = InetNextClient(Card, InetWaitThread)) {
        InetServe(Card, Irp);
    }
}

// Those that wait for the lease are told what there is; all others only fail.
VOID InetEndClients(PINET_CARD Card, INET_WAIT Wait, NTSTATUS Status)
{
    for (PIRP Irp = InetNextClient(Card, Wait); Irp != NULL; Irp = InetNextClient(Card, Wait)) {
        if (NT_SUCCESS(Status)) {
            InetFillLease(&Card->Interface, Irp->AssociatedIrp.SystemBuffer);
        }
        InetCompleteClient(Irp, Status, sizeof(NET_LEASE));
    }
}
