// What the state service can tell: the stack's own state, the card's counters, and whatever the kernel
// knows of itself (\Device\KernelState).
#include "card.h"

#include <ntddstate.h>

// -------------------------------------------------------------------------------------------------
// The card.

#define INET_CARD_ROW(Field, Words)                                                                \
    {                                                                                              \
        FIELD_OFFSET(NET_STATISTICS, Field), Words                                                 \
    }

static const struct {
    ULONG Offset; // of a ULONG64 in NET_STATISTICS
    PCSTR Words;
} InetCardRows[] = {
    INET_CARD_ROW(CardFramesReceived, "frames received, says the card"),
    INET_CARD_ROW(CardFramesSent, "frames sent, says the card"),
    INET_CARD_ROW(CardBytesReceived, "bytes received, says the card"),
    INET_CARD_ROW(CardBytesSent, "bytes sent, says the card"),
    INET_CARD_ROW(CardBroadcastsReceived, "broadcasts received"),
    INET_CARD_ROW(CardMulticastsReceived, "multicasts received"),
    INET_CARD_ROW(CrcErrors, "CRC errors"),
    INET_CARD_ROW(LengthErrors, "length errors"),
    INET_CARD_ROW(OtherReceiveErrors, "other receive errors"),
    INET_CARD_ROW(UndersizedFrames, "undersized frames"),
    INET_CARD_ROW(OversizedFrames, "oversized frames"),
    INET_CARD_ROW(MissedFrames, "missed frames"),
    INET_CARD_ROW(NoBufferFrames, "frames for which the ring was empty"),
    INET_CARD_ROW(FramesSent, "frames sent, says the driver"),
    INET_CARD_ROW(BytesSent, "bytes sent, says the driver"),
    INET_CARD_ROW(FramesReceived, "frames received, says the driver"),
    INET_CARD_ROW(BytesReceived, "bytes received, says the driver"),
    INET_CARD_ROW(FramesCopied, "short frames copied when sent"),
    INET_CARD_ROW(FramesRefused, "frames not sent"),
    INET_CARD_ROW(ReceiveErrors, "damaged frames dropped"),
    INET_CARD_ROW(ReceiveOversized, "too long frames dropped"),
    INET_CARD_ROW(ReceiveFiltered, "group frames dropped"),
    INET_CARD_ROW(ReceiveOverruns, "overruns"),
    INET_CARD_ROW(ReceiveStarved, "passes without a buffer left"),
    INET_CARD_ROW(Interrupts, "interrupts"),
    INET_CARD_ROW(MissedInterrupts, "missed interrupts"),
    INET_CARD_ROW(TransmitTimeouts, "transmit timeouts"),
    INET_CARD_ROW(Resets, "resets"),
    INET_CARD_ROW(LinkChanges, "changes of the link"),
    INET_CARD_ROW(TransmitDoorbells, "transmit doorbells"),
    INET_CARD_ROW(ReceiveDoorbells, "receive doorbells"),
    INET_CARD_ROW(FramesLent, "frames lent now"),
};

static VOID InetReportCard(PINET_CARD Card, PINET_TEXT Text)
{
    NET_STATISTICS Statistics;

    if (!NT_SUCCESS(InetAskCard(Card->Device, IOCTL_NET_QUERY_STATISTICS, &Statistics, 0,
                                sizeof(Statistics), NULL))) {
        InetPutText(Text, "the card does not answer\n");
        return;
    }
    for (ULONG Row = 0; Row < ARRAYSIZE(InetCardRows); Row += 1) {
        const ULONG64 Count = *(const ULONG64 *)((PUCHAR)&Statistics + InetCardRows[Row].Offset);
        InetPutText(Text, "  ");
        InetPutNumber(Text, Count);
        InetPutText(Text, " ");
        InetPutText(Text, InetCardRows[Row].Words);
        InetPutText(Text, "\n");
    }
}

static VOID InetReportStack(PINET_CARD Card, PINET_TEXT Text)
{
    InetDescribe(&Card->Interface, Text);
}

// -------------------------------------------------------------------------------------------------
// The kernel.

// The name goes in and the text comes out of the same buffer.
static VOID InetAskKernel(PCSTR Name, PINET_TEXT Text)
{
    UNICODE_STRING DeviceName = RTL_CONSTANT_STRING(L"\\Device\\KernelState");
    PFILE_OBJECT File;
    PDEVICE_OBJECT Device;
    ULONG_PTR ByteCount = 0;
    const PCHAR Buffer = Text->Buffer + Text->ByteCount;
    INET_TEXT Request = {Buffer, Text->Capacity - Text->ByteCount, 0};

    if (!NT_SUCCESS(IoGetDeviceObjectPointer(&DeviceName, FILE_READ_DATA, &File, &Device))) {
        return;
    }
    InetPutText(&Request, Name);
    if (NT_SUCCESS(InetAskCard(Device, IOCTL_STATE_REPORT, Buffer, Request.ByteCount,
                               Request.Capacity, &ByteCount))) {
        Text->ByteCount += (ULONG)ByteCount;
    }
    ObDereferenceObject(File);
}

static VOID InetReportHelp(PINET_CARD Card, PINET_TEXT Text)
{
    UNREFERENCED_PARAMETER(Card);
    InetAskKernel("help", Text);
    InetPutText(Text, "inet          the network stack: addresses, ARP, what was dropped and why\n"
                      "e1000         the network card's counters\n");
}

static const struct {
    PCSTR Name;
    VOID (*Routine)(PINET_CARD Card, PINET_TEXT Text);
} InetReports[] = {
    {"help", InetReportHelp},
    {"inet", InetReportStack},
    {"e1000", InetReportCard},
};

static BOOLEAN InetSameText(PCSTR One, PCSTR Other)
{
    while (*One != 0 && *One == *Other) {
        One += 1;
        Other += 1;
    }
    return *One == *Other;
}

ULONG InetMakeReport(PVOID Context, PCSTR Name, PCHAR Buffer, ULONG Capacity)
{
    INET_TEXT Text = {Buffer, Capacity, 0};

    for (ULONG Index = 0; Index < ARRAYSIZE(InetReports); Index += 1) {
        if (InetSameText(InetReports[Index].Name, Name)) {
            InetReports[Index].Routine(Context, &Text);
            return Text.ByteCount;
        }
    }
    InetAskKernel(Name, &Text);
    return Text.ByteCount;
}
