// The thread of a card: it waits until something has happened, gives it to the stack, and carries out
// what the stack wants.
//
//   completion routines ──IsDone, Wake──▶ InetTakeCompletions ─▶ InetReceive, InetSendDone, ...
//   InetIssueRequests   ──IRPs──▶ the card's driver
//
// Invariants:
//   T1  A request's IRP and list are touched only while it is not out; IsOut is the thread's alone.
//   T2  A completion routine touches the card for the last time under its lock, and the thread takes
//       that lock to see IsDone: so the card outlives the routine.
//   T3  The thread ends when no request is out and the stack has nothing of the card's.
// The thread never waits for the PnP manager, which may wait for it.
#include "card.h"

static ULONG64 InetNow(VOID)
{
    return KeQueryInterruptTime() / 10000;
}

// -------------------------------------------------------------------------------------------------
// Requests to the card's driver.

NTSTATUS InetAskCard(PDEVICE_OBJECT Device, ULONG Code, PVOID Buffer, ULONG InputBytes,
                     ULONG OutputBytes, PULONG_PTR Information)
{
    IO_STATUS_BLOCK Result;
    KEVENT Done;

    KeInitializeEvent(&Done, NotificationEvent, FALSE);
    const PIRP Irp = IoBuildDeviceIoControlRequest(Code, Device, Buffer, InputBytes, Buffer,
                                                   OutputBytes, FALSE, &Done, &Result);
    if (Irp == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    NTSTATUS Status = IoCallDriver(Device, Irp);
    if (Status == STATUS_PENDING) {
        (VOID) KeWaitForSingleObject(&Done, Executive, KernelMode, FALSE, NULL);
        Status = Result.Status;
    }
    if (Information != NULL) {
        *Information = NT_SUCCESS(Status) ? Result.Information : 0;
    }
    return Status;
}

NTSTATUS NTAPI InetRequestDone(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context)
{
    const PINET_REQUEST Request = Context;
    const PINET_CARD Card = Request->Card;
    KIRQL OldIrql;

    UNREFERENCED_PARAMETER(DeviceObject);
    UNREFERENCED_PARAMETER(Irp);
    KeAcquireSpinLock(&Card->Lock, &OldIrql);
    Request->IsDone = TRUE;
    KeSetEvent(&Card->Wake, IO_NO_INCREMENT, FALSE);
    KeReleaseSpinLock(&Card->Lock, OldIrql);
    return STATUS_MORE_PROCESSING_REQUIRED; // the IRP is the thread's
}

// Sends a request with a list of frames, or with the buffer of events.
static VOID InetIssue(PINET_REQUEST Request, PVOID List)
{
    const PINET_CARD Card = Request->Card;
    const PIRP Irp = Request->Irp;

    IoReuseIrp(Irp, STATUS_SUCCESS);
    const PIO_STACK_LOCATION Stack = IoGetNextIrpStackLocation(Irp);
    Stack->MajorFunction = IRP_MJ_INTERNAL_DEVICE_CONTROL;
    Stack->Parameters.DeviceIoControl.IoControlCode = Request->Code;
    if (Request->Code == IOCTL_NET_WAIT_EVENT) {
        Irp->AssociatedIrp.SystemBuffer = List;
        Stack->Parameters.DeviceIoControl.InputBufferLength = sizeof(ULONG);
        Stack->Parameters.DeviceIoControl.OutputBufferLength = sizeof(NET_EVENT);
    } else {
        Stack->Parameters.DeviceIoControl.Type3InputBuffer = List;
    }
    Request->IsOut = TRUE;
    Request->IsDone = FALSE;
    IoSetCompletionRoutine(Irp, InetRequestDone, Request, TRUE, TRUE, TRUE);
    (VOID) IoCallDriver(Card->Device, Irp);
}

// Whether a request has come back since the last look; it is not out any more then.
static BOOLEAN InetHasCome(PINET_REQUEST Request)
{
    const PINET_CARD Card = Request->Card;
    KIRQL OldIrql;

    if (!Request->IsOut) {
        return FALSE;
    }
    KeAcquireSpinLock(&Card->Lock, &OldIrql);
    const BOOLEAN IsDone = Request->IsDone;
    KeReleaseSpinLock(&Card->Lock, OldIrql);
    Request->IsOut = !IsDone;
    return IsDone;
}

// -------------------------------------------------------------------------------------------------
// What has come back.

static VOID InetTakeSends(PINET_CARD Card)
{
    for (ULONG Index = 0; Index < INET_SENDS; Index += 1) {
        if (InetHasCome(&Card->Sends[Index])) {
            InetSendDone(&Card->Interface, Card->Sends[Index].Frames);
        }
    }
}

// A card that is stopped has no link for us, and is asked again later.
static VOID InetNoteFailure(PINET_CARD Card)
{
    Card->RetryMs = Card->Interface.NowMs + INET_RETRY_MS;
    InetLinkChanged(&Card->Interface, FALSE);
}

static VOID InetTakeReceived(PINET_CARD Card)
{
    if (!InetHasCome(&Card->Receive)) {
        return;
    }
    if (NT_SUCCESS(Card->Receive.Irp->IoStatus.Status)) {
        InetReceive(&Card->Interface, Card->ReceiveList.Received);
    } else if (!Card->IsStopping) {
        InetNoteFailure(Card);
    }
}

static VOID InetTakeEvent(PINET_CARD Card)
{
    if (!InetHasCome(&Card->Event)) {
        return;
    }
    if (NT_SUCCESS(Card->Event.Irp->IoStatus.Status)) {
        Card->KnowsLink = TRUE;
        InetLinkChanged(&Card->Interface, Card->EventBuffer.LinkUp);
        if (!Card->EventBuffer.LinkUp) {
            InetEndClients(Card, InetWaitLease, STATUS_NETWORK_UNREACHABLE);
        }
    } else if (!Card->IsStopping) {
        InetNoteFailure(Card);
        Card->EventBuffer.Sequence = 0; // whatever the link is then, it will be told of
    }
}

static VOID InetTakeCompletions(PINET_CARD Card)
{
    (VOID) InetHasCome(&Card->Return);
    InetTakeSends(Card);
    InetTakeEvent(Card);
    InetTakeReceived(Card);
}

// -------------------------------------------------------------------------------------------------
// What is to be done.

static VOID InetIssueSends(PINET_CARD Card)
{
    const PINET_INTERFACE Interface = &Card->Interface;

    for (ULONG Index = 0; Index < INET_SENDS && Interface->Outgoing != NULL; Index += 1) {
        const PINET_REQUEST Request = &Card->Sends[Index];
        if (!Request->IsOut) {
            const PNET_FRAME Frames = Interface->Outgoing;
            Interface->Outgoing = NULL;
            Request->Frames = Frames;
            InetIssue(Request, Frames);
        }
    }
}

static PNET_FRAME InetTakeReturned(PINET_CARD Card)
{
    const PNET_FRAME Returned = Card->Interface.Returned;
    Card->Interface.Returned = NULL;
    return Returned;
}

// Frames go back with the next request for more; by a request of their own, when that one is out.
static VOID InetIssueReceive(PINET_CARD Card)
{
    if (!Card->Receive.IsOut && !Card->HasStopped && Card->Interface.NowMs >= Card->RetryMs) {
        Card->ReceiveList.Returned = InetTakeReturned(Card);
        Card->ReceiveList.Received = NULL;
        Card->ReceiveList.MaximumCount = INET_RECEIVE_COUNT;
        Card->ReceiveList.Count = 0;
        InetIssue(&Card->Receive, &Card->ReceiveList);
    }
    if (Card->Interface.Returned != NULL && !Card->Return.IsOut) {
        InetIssue(&Card->Return, InetTakeReturned(Card));
    }
}

static VOID InetIssueRequests(PINET_CARD Card)
{
    InetIssueSends(Card);
    InetIssueReceive(Card);
    if (!Card->Event.IsOut && !Card->HasStopped && Card->Interface.NowMs >= Card->RetryMs) {
        InetIssue(&Card->Event, &Card->EventBuffer);
    }
}

// -------------------------------------------------------------------------------------------------
// The end.

static VOID InetCancel(PINET_REQUEST Request)
{
    if (Request->IsOut) {
        IoCancelIrp(Request->Irp); // whose memory is ours, whatever becomes of it
    }
}

static VOID InetBeginStop(PINET_CARD Card)
{
    Card->HasStopped = TRUE;
    InetStop(&Card->Interface);
    InetCancel(&Card->Receive);
    InetCancel(&Card->Event);
}

static BOOLEAN InetIsQuiet(const INET_CARD *Card)
{
    BOOLEAN IsOut = Card->Receive.IsOut || Card->Return.IsOut || Card->Event.IsOut ||
                    Card->Interface.Outgoing != NULL || Card->Interface.Returned != NULL;

    for (ULONG Index = 0; Index < INET_SENDS; Index += 1) {
        IsOut = IsOut || Card->Sends[Index].IsOut;
    }
    return !IsOut;
}

// Until something comes, or something is due.
static VOID InetWait(PINET_CARD Card)
{
    const ULONG64 NowMs = InetNow();
    ULONG64 DueMs = InetNextDeadline(&Card->Interface);
    LARGE_INTEGER Timeout;

    if (Card->RetryMs > NowMs && Card->RetryMs < DueMs) {
        DueMs = Card->RetryMs;
    }
    // Relative, in units of 100 ns; at least one.
    Timeout.QuadPart = DueMs > NowMs ? -(LONGLONG)(DueMs - NowMs) * 10000 : -1;
    (VOID) KeWaitForSingleObject(&Card->Wake, Executive, KernelMode, FALSE,
                                 DueMs == INET_NEVER ? NULL : &Timeout);
    Card->Interface.NowMs = InetNow();
}

VOID NTAPI InetRunCard(PVOID Context)
{
    const PINET_CARD Card = Context;

    Card->Interface.NowMs = InetNow();
    InetIssueRequests(Card);
    while (!Card->HasStopped || !InetIsQuiet(Card)) {
        InetWait(Card);
        InetTakeCompletions(Card);
        InetServeClients(Card);
        InetRunTimers(&Card->Interface);
        if (Card->IsStopping && !Card->HasStopped) {
            InetBeginStop(Card);
        }
        InetIssueRequests(Card);
    }
    InetEndClients(Card, InetWaitThread, STATUS_DEVICE_REMOVED);
    InetEndClients(Card, InetWaitLease, STATUS_DEVICE_REMOVED);
    InetEndClients(Card, InetWaitPing, STATUS_DEVICE_REMOVED);
    PsTerminateSystemThread(STATUS_SUCCESS);
}
