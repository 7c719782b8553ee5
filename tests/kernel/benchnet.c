// What the network card's driver costs per frame, in lists of 32 of the shortest frames. Two cards: the
// first sends, the second receives.
//
//   net-send-64      IOCTL_NET_SEND of a list, to nobody: no card takes the frames
//   net-receive-64   the second card takes them, IOCTL_NET_RECEIVE hands them out in lists and takes them
//                    back: what the same round costs more than one of net-send-64
//
// Everything that keeps the processor busy from the first call to the last completion routine counts,
// interrupts included; waiting does not. For the rates several lists are under way, and the frames that
// are received come from the host, which sends as many as it can once it reads "# flood".
#include "tests/kernel/bench.h"

#include <ntddnet.h>

#include "kernel/inc/io.h"
#include "kernel/inc/ke.h"

#define BATCH 32u
#define LIST_COUNT 4u      // under way at a time, for a rate
#define FRAME_BYTES 60u    // 64 with the check sequence, which the card appends
#define FIRST_FRAMES 1000u // of a flood, which only tell that it has come
#define SEND_ROW "net-send-64"
#define RECEIVE_ROW "net-receive-64"

typedef struct _REQUEST {
    PDEVICE_OBJECT Device;
    PIRP Irp;
    ULONG AskedCount;
    volatile ULONG DoneCount; // both wrap around; equal: the IRP is ours
} REQUEST;

typedef struct _FRAME_LIST {
    REQUEST Request;
    NET_FRAME Frames[BATCH];
} FRAME_LIST;

typedef struct _NET_BENCH {
    PUCHAR Page; // the frames' bytes: BATCH times FRAME_BYTES, the same in each list
    FRAME_LIST Lists[LIST_COUNT];
    REQUEST Receiver;
    NET_RECEIVE Receive;
    ULONG ReceivedCount; // frames, of all rounds; wraps around
    ULONG FailureCount;
    BOOLEAN HasTimedOut;
    KEVENT SomeAreDone; // set for who measures a rate
    BOOLEAN IsRating;
} NET_BENCH;

C_ASSERT(BATCH *FRAME_BYTES <= PAGE_SIZE);

// It stays, should a driver not give a request back.
static NET_BENCH Bench;

static NTSTATUS NTAPI IsDone(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context)
{
    REQUEST *const Request = Context;
    UNREFERENCED_PARAMETER(DeviceObject);
    if (!NT_SUCCESS(Irp->IoStatus.Status)) {
        Bench.FailureCount += 1;
    }
    Request->DoneCount += 1;
    if (Bench.IsRating) {
        KeSetEvent(&Bench.SomeAreDone, IO_NO_INCREMENT, FALSE);
    }
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static VOID Ask(REQUEST *Request, ULONG IoControlCode, PVOID Input)
{
    Request->AskedCount += 1;
    IoReuseIrp(Request->Irp, STATUS_NOT_SUPPORTED);
    const PIO_STACK_LOCATION Stack = IoGetNextIrpStackLocation(Request->Irp);
    Stack->MajorFunction = IRP_MJ_INTERNAL_DEVICE_CONTROL;
    Stack->Parameters.DeviceIoControl.IoControlCode = IoControlCode;
    Stack->Parameters.DeviceIoControl.Type3InputBuffer = Input;
    IoSetCompletionRoutine(Request->Irp, IsDone, Request, TRUE, TRUE, TRUE);
    (VOID) IoCallDriver(Request->Device, Request->Irp);
}

static ULONG64 Await(const REQUEST *Request)
{
    return KtAwait(&Request->DoneCount, Request->AskedCount, &Bench.HasTimedOut);
}

static VOID SendList(FRAME_LIST *List)
{
    Ask(&List->Request, IOCTL_NET_SEND, &List->Frames[0]);
}

// Gives back what was received, and asks for more.
static VOID AskForFrames(VOID)
{
    Bench.Receive.Returned = Bench.Receive.Received;
    Bench.Receive.Received = NULL;
    Ask(&Bench.Receiver, IOCTL_NET_RECEIVE, &Bench.Receive);
}

//
// Counts.
//

static ULONG64 SendBatch(PVOID Context)
{
    UNREFERENCED_PARAMETER(Context);
    const ULONG64 Start = KeReadCycles();
    SendList(&Bench.Lists[0]);
    const ULONG64 Sending = KeReadCycles() - Start - KtBenchOverhead;
    return Sending + Await(&Bench.Lists[0].Request);
}

// The round of both cards: ends when all frames have come, and are returned.
static ULONG64 SendAndReceiveBatch(PVOID Context)
{
    ULONG64 Busy = SendBatch(Context);
    const ULONG Target = Bench.ReceivedCount + BATCH;
    while (Bench.ReceivedCount != Target && !Bench.HasTimedOut && Bench.FailureCount == 0) {
        Busy += Await(&Bench.Receiver);
        const ULONG64 Start = KeReadCycles();
        Bench.ReceivedCount += Bench.Receive.Count;
        AskForFrames();
        Busy += KeReadCycles() - Start - KtBenchOverhead;
    }
    return Busy;
}

// Both rows; the second one needs the figure of the first.
static VOID CountBoth(ULONG64 Sending)
{
    AskForFrames();
    const ULONG64 Both = KtMeasureRounds(RECEIVE_ROW, SendAndReceiveBatch, NULL, BATCH);
    if (Bench.FailureCount == 0 && !Bench.HasTimedOut) {
        KtPrintBench(SEND_ROW, Sending / BATCH);
        KtPrintBench(RECEIVE_ROW, Both > Sending ? (Both - Sending) / BATCH : 0);
    }
}

//
// Rates.
//

static VOID WaitForSome(VOID)
{
    KeWaitForSingleObject(&Bench.SomeAreDone, Executive, KernelMode, FALSE, NULL);
}

// Sends the lists that are ours; returns how many are not.
static ULONG SendFreeLists(BOOLEAN IsOver)
{
    ULONG BusyCount = 0;
    for (ULONG Index = 0; Index < LIST_COUNT; Index += 1) {
        FRAME_LIST *const List = &Bench.Lists[Index];
        const BOOLEAN IsFree = List->Request.DoneCount == List->Request.AskedCount;
        if (IsFree && !IsOver) {
            SendList(List);
        }
        BusyCount += IsFree && IsOver ? 0 : 1;
    }
    return BusyCount;
}

static ULONG SentListCount(VOID)
{
    ULONG Count = 0;
    for (ULONG Index = 0; Index < LIST_COUNT; Index += 1) {
        Count += Bench.Lists[Index].Request.AskedCount;
    }
    return Count;
}

static VOID PrintRate(PCSTR Name, ULONG Count, ULONG64 Start)
{
    if (Bench.FailureCount == 0) {
        KtPrintRate(Name, Count, KeReadCycles() - Start);
    }
}

static VOID RateSending(VOID)
{
    const ULONG64 Start = KeReadCycles();
    const ULONG FirstCount = SentListCount();
    while (SendFreeLists(KtIsOver(Start)) != 0) {
        WaitForSome();
    }
    PrintRate(SEND_ROW, (SentListCount() - FirstCount) * BATCH, Start);
}

// The next frames of the flood; gives back those before.
static VOID ReceiveSome(VOID)
{
    AskForFrames();
    while (Bench.Receiver.DoneCount != Bench.Receiver.AskedCount) {
        WaitForSome();
    }
    Bench.ReceivedCount += Bench.Receive.Count;
}

static VOID RateReceiving(VOID)
{
    DbgPrint("# flood\n");
    while (Bench.ReceivedCount < FIRST_FRAMES && Bench.FailureCount == 0) {
        ReceiveSome();
    }
    const ULONG FirstCount = Bench.ReceivedCount;
    const ULONG64 Start = KeReadCycles();
    while (!KtIsOver(Start) && Bench.FailureCount == 0) {
        ReceiveSome();
    }
    PrintRate(RECEIVE_ROW, Bench.ReceivedCount - FirstCount, Start);
    AskForFrames(); // gives the last ones back
}

//
// The cards and the frames.
//

// The card's address; FALSE: there is no such card.
static BOOLEAN OpenCard(REQUEST *Request, ULONG Index, PUCHAR Address)
{
    NET_ADAPTER_INFORMATION Information;
    ULONG_PTR ByteCount;
    Request->Device = IoFindDevice(FILE_DEVICE_PHYSICAL_NETCARD, Index);
    if (Request->Device == NULL ||
        !NT_SUCCESS(IoControlSynchronously(Request->Device, IOCTL_NET_QUERY_ADAPTER, NULL, 0,
                                           &Information, sizeof(Information), &ByteCount))) {
        return FALSE;
    }
    RtlCopyMemory(Address, Information.EthernetAddress, NET_ETHERNET_ADDRESS_BYTES);
    Request->Irp = IoAllocateIrp(Request->Device->StackSize, FALSE);
    return Request->Irp != NULL;
}

// Frames of a type that no protocol has.
static VOID FillFrames(const UCHAR *Destination, const UCHAR *Source)
{
    for (ULONG Index = 0; Index < BATCH; Index += 1) {
        const PUCHAR Bytes = Bench.Page + (SIZE_T)Index * FRAME_BYTES;
        RtlCopyMemory(Bytes, Destination, NET_ETHERNET_ADDRESS_BYTES);
        RtlCopyMemory(Bytes + 6, Source, NET_ETHERNET_ADDRESS_BYTES);
        Bytes[12] = 0x88;
        Bytes[13] = 0xB5; // for local experiments
    }
}

static BOOLEAN BuildList(FRAME_LIST *List)
{
    for (ULONG Index = 0; Index < BATCH; Index += 1) {
        NET_FRAME *const Frame = &List->Frames[Index];
        Frame->Next = Index + 1 < BATCH ? Frame + 1 : NULL;
        Frame->ByteCount = FRAME_BYTES;
        Frame->Mdl = IoAllocateMdl(Bench.Page + (SIZE_T)Index * FRAME_BYTES, FRAME_BYTES, FALSE,
                                   FALSE, NULL);
        if (Frame->Mdl == NULL) {
            return FALSE;
        }
        MmBuildMdlForNonPagedPool(Frame->Mdl);
    }
    return TRUE;
}

static VOID FreeList(const FRAME_LIST *List)
{
    for (ULONG Index = 0; Index < BATCH; Index += 1) {
        if (List->Frames[Index].Mdl != NULL) {
            IoFreeMdl(List->Frames[Index].Mdl);
        }
    }
    if (List->Request.Irp != NULL) {
        IoFreeIrp(List->Request.Irp);
    }
}

static BOOLEAN Prepare(PUCHAR Sender, PUCHAR Receiver)
{
    Bench.IsRating = KtIsRating();
    KeInitializeEvent(&Bench.SomeAreDone, SynchronizationEvent, FALSE);
    Bench.Page = ExAllocatePool2(POOL_FLAG_NON_PAGED, PAGE_SIZE, KT_TAG);
    for (ULONG Index = 0; Index < LIST_COUNT; Index += 1) {
        FRAME_LIST *const List = &Bench.Lists[Index];
        if (Bench.Page == NULL || !OpenCard(&List->Request, 0, Sender) || !BuildList(List)) {
            return FALSE;
        }
    }
    return OpenCard(&Bench.Receiver, 1, Receiver);
}

static VOID CleanUp(VOID)
{
    for (ULONG Index = 0; Index < LIST_COUNT; Index += 1) {
        FreeList(&Bench.Lists[Index]);
    }
    if (Bench.Receiver.Irp != NULL) {
        IoFreeIrp(Bench.Receiver.Irp);
    }
    if (Bench.Page != NULL) {
        ExFreePoolWithTag(Bench.Page, KT_TAG);
    }
}

static VOID MeasureCards(const UCHAR *Sender, const UCHAR *Receiver)
{
    static const UCHAR Nobody[NET_ETHERNET_ADDRESS_BYTES] = {0x02, 0, 0, 0, 0, 1};
    FillFrames(Nobody, Sender);
    if (Bench.IsRating) {
        RateSending();
        RateReceiving();
    } else {
        const ULONG64 Sending = KtMeasureRounds(SEND_ROW, SendBatch, NULL, BATCH);
        FillFrames(Receiver, Sender);
        CountBoth(Sending);
    }
    if (Bench.FailureCount != 0 || Bench.HasTimedOut) {
        DbgPrint("net: %u requests failed%s\n", Bench.FailureCount,
                 Bench.HasTimedOut ? ", and not all came back" : "");
    }
    (VOID) IoCancelIrp(Bench.Receiver.Irp); // it waits for more frames
    Await(&Bench.Receiver);
}

VOID KtBenchNet(VOID)
{
    UCHAR Sender[NET_ETHERNET_ADDRESS_BYTES];
    UCHAR Receiver[NET_ETHERNET_ADDRESS_BYTES];
    if ((!KtIsBenchWanted(SEND_ROW) && !KtIsBenchWanted(RECEIVE_ROW)) ||
        IoFindDevice(FILE_DEVICE_PHYSICAL_NETCARD, 1) == NULL) {
        return;
    }
    if (Prepare(Sender, Receiver)) {
        KtPrintImage(Bench.Receiver.Device->DriverObject);
        MeasureCards(Sender, Receiver);
    }
    if (!Bench.HasTimedOut) {
        CleanUp();
    }
}
