// What the network card's driver costs per frame, in lists of 32 of the shortest frames. Two cards on one
// cable: the first sends, the second receives.
//
//   net-send-64      IOCTL_NET_SEND of a list, to nobody: the second card does not take the frames
//   net-receive-64   the second card takes them, IOCTL_NET_RECEIVE hands them out in lists and takes them
//                    back: what the same round costs more than one of net-send-64
//
// Everything that keeps the processor busy from the first call to the last completion routine counts,
// interrupts included; waiting does not.
#include "tests/kernel/bench.h"

#include <ntddnet.h>

#include "kernel/inc/io.h"
#include "kernel/inc/ke.h"

#define BATCH 32u
#define FRAME_BYTES 60u // 64 with the check sequence, which the card appends
#define SEND_ROW "net-send-64"
#define RECEIVE_ROW "net-receive-64"

typedef struct _CARD {
    PDEVICE_OBJECT Device;
    UCHAR Address[NET_ETHERNET_ADDRESS_BYTES];
    PIRP Irp;                 // what is asked of it
    volatile ULONG DoneCount; // completions of it; wraps around
} CARD;

typedef struct _NET_BENCH {
    CARD Sender;
    CARD Receiver;
    PUCHAR Page; // the frames' bytes: BATCH times FRAME_BYTES
    NET_FRAME Frames[BATCH];
    NET_RECEIVE Receive;
    ULONG AsksCount;     // of the receiver, by now
    ULONG ReceivedCount; // frames, of all rounds; wraps around
    ULONG FailureCount;
    BOOLEAN HasTimedOut;
} NET_BENCH;

C_ASSERT(BATCH *FRAME_BYTES <= PAGE_SIZE);

// It stays, should a driver not give a request back.
static NET_BENCH Bench;

static NTSTATUS NTAPI IsDone(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context)
{
    CARD *const Card = Context;
    UNREFERENCED_PARAMETER(DeviceObject);
    if (!NT_SUCCESS(Irp->IoStatus.Status)) {
        Bench.FailureCount += 1;
    }
    Card->DoneCount += 1;
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static VOID Ask(CARD *Card, ULONG IoControlCode, PVOID Input)
{
    IoReuseIrp(Card->Irp, STATUS_NOT_SUPPORTED);
    const PIO_STACK_LOCATION Stack = IoGetNextIrpStackLocation(Card->Irp);
    Stack->MajorFunction = IRP_MJ_INTERNAL_DEVICE_CONTROL;
    Stack->Parameters.DeviceIoControl.IoControlCode = IoControlCode;
    Stack->Parameters.DeviceIoControl.Type3InputBuffer = Input;
    IoSetCompletionRoutine(Card->Irp, IsDone, Card, TRUE, TRUE, TRUE);
    (VOID) IoCallDriver(Card->Device, Card->Irp);
}

// Gives back what was received, and asks for more.
static VOID AskForFrames(VOID)
{
    Bench.Receive.Returned = Bench.Receive.Received;
    Bench.Receive.Received = NULL;
    Bench.AsksCount += 1;
    Ask(&Bench.Receiver, IOCTL_NET_RECEIVE, &Bench.Receive);
}

static ULONG64 SendBatch(PVOID Context)
{
    UNREFERENCED_PARAMETER(Context);
    const ULONG Target = Bench.Sender.DoneCount + 1;
    const ULONG64 Start = KeReadCycles();
    Ask(&Bench.Sender, IOCTL_NET_SEND, &Bench.Frames[0]);
    const ULONG64 Sending = KeReadCycles() - Start - KtBenchOverhead;
    return Sending + KtAwait(&Bench.Sender.DoneCount, Target, &Bench.HasTimedOut);
}

// The round of both cards: ends when all frames have come, and are returned.
static ULONG64 SendAndReceiveBatch(PVOID Context)
{
    ULONG64 Busy = SendBatch(Context);
    const ULONG Target = Bench.ReceivedCount + BATCH;
    while (Bench.ReceivedCount != Target && !Bench.HasTimedOut && Bench.FailureCount == 0) {
        Busy += KtAwait(&Bench.Receiver.DoneCount, Bench.AsksCount, &Bench.HasTimedOut);
        const ULONG64 Start = KeReadCycles();
        Bench.ReceivedCount += Bench.Receive.Count;
        AskForFrames();
        Busy += KeReadCycles() - Start - KtBenchOverhead;
    }
    return Busy;
}

// Frames from the sender to Address, of a type that no protocol has.
static VOID FillFrames(const UCHAR *Address)
{
    for (ULONG Index = 0; Index < BATCH; Index += 1) {
        const PUCHAR Bytes = Bench.Page + (SIZE_T)Index * FRAME_BYTES;
        RtlCopyMemory(Bytes, Address, NET_ETHERNET_ADDRESS_BYTES);
        RtlCopyMemory(Bytes + 6, Bench.Sender.Address, NET_ETHERNET_ADDRESS_BYTES);
        Bytes[12] = 0x88;
        Bytes[13] = 0xB5; // for local experiments
    }
}

static BOOLEAN AllocateFrames(VOID)
{
    Bench.Page = ExAllocatePool2(POOL_FLAG_NON_PAGED, PAGE_SIZE, KT_TAG);
    for (ULONG Index = 0; Bench.Page != NULL && Index < BATCH; Index += 1) {
        const PUCHAR Bytes = Bench.Page + (SIZE_T)Index * FRAME_BYTES;
        NET_FRAME *const Frame = &Bench.Frames[Index];
        Frame->Next = Index + 1 < BATCH ? Frame + 1 : NULL;
        Frame->ByteCount = FRAME_BYTES;
        Frame->Mdl = IoAllocateMdl(Bytes, FRAME_BYTES, FALSE, FALSE, NULL);
        if (Frame->Mdl == NULL) {
            return FALSE;
        }
        MmBuildMdlForNonPagedPool(Frame->Mdl);
    }
    return Bench.Page != NULL;
}

static VOID FreeFrames(VOID)
{
    for (ULONG Index = 0; Index < BATCH; Index += 1) {
        if (Bench.Frames[Index].Mdl != NULL) {
            IoFreeMdl(Bench.Frames[Index].Mdl);
        }
    }
    if (Bench.Page != NULL) {
        ExFreePoolWithTag(Bench.Page, KT_TAG);
    }
}

static BOOLEAN OpenCard(CARD *Card, ULONG Index)
{
    NET_ADAPTER_INFORMATION Information;
    ULONG_PTR ByteCount;
    Card->Device = IoFindDevice(FILE_DEVICE_PHYSICAL_NETCARD, Index);
    if (Card->Device == NULL ||
        !NT_SUCCESS(IoControlSynchronously(Card->Device, IOCTL_NET_QUERY_ADAPTER, NULL, 0,
                                           &Information, sizeof(Information), &ByteCount))) {
        return FALSE;
    }
    RtlCopyMemory(Card->Address, Information.EthernetAddress, sizeof(Card->Address));
    Card->Irp = IoAllocateIrp(Card->Device->StackSize, FALSE);
    return Card->Irp != NULL;
}

static VOID CloseCard(const CARD *Card)
{
    if (Card->Irp != NULL) {
        IoFreeIrp(Card->Irp);
    }
}

// The median of BATCH frames' rounds, for one frame.
static ULONG64 MeasureRounds(PCSTR Name, KT_ROUND *Round)
{
    return KtMeasureRounds(Name, Round, NULL, BATCH) / BATCH;
}

// Both rows; the second one needs the figure of the first.
static VOID BenchCards(VOID)
{
    static const UCHAR Nobody[NET_ETHERNET_ADDRESS_BYTES] = {0x02, 0, 0, 0, 0, 1};
    FillFrames(Nobody);
    const ULONG64 Sending = MeasureRounds(SEND_ROW, SendBatch);
    FillFrames(Bench.Receiver.Address);
    AskForFrames();
    const ULONG64 Both = MeasureRounds(RECEIVE_ROW, SendAndReceiveBatch);
    if (Bench.FailureCount != 0 || Bench.HasTimedOut) {
        DbgPrint("net: %u requests failed%s\n", Bench.FailureCount,
                 Bench.HasTimedOut ? ", and not all came back" : "");
        return;
    }
    KtPrintBench(SEND_ROW, Sending);
    KtPrintBench(RECEIVE_ROW, Both > Sending ? Both - Sending : 0);
}

// The request that still waits for frames.
static VOID StopReceiving(VOID)
{
    (VOID) IoCancelIrp(Bench.Receiver.Irp);
    KtAwait(&Bench.Receiver.DoneCount, Bench.AsksCount, &Bench.HasTimedOut);
}

VOID KtBenchNet(VOID)
{
    if ((!KtIsBenchWanted(SEND_ROW) && !KtIsBenchWanted(RECEIVE_ROW)) ||
        IoFindDevice(FILE_DEVICE_PHYSICAL_NETCARD, 1) == NULL) {
        return;
    }
    if (OpenCard(&Bench.Sender, 0) && OpenCard(&Bench.Receiver, 1) && AllocateFrames()) {
        KtPrintImage(Bench.Sender.Device->DriverObject);
        BenchCards();
        StopReceiving();
    }
    if (!Bench.HasTimedOut) {
        CloseCard(&Bench.Sender);
        CloseCard(&Bench.Receiver);
        FreeFrames();
    }
}
