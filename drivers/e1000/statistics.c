// Statistics: what the card counts, added up, and what the driver counts.
//
// The card's registers have 32 bits, or 64 in pairs, stick at their highest value, and are cleared by
// reading; so they are read by one at a time, under a lock, and by the watchdog now and then.
#include "e1000.h"

static const struct {
    ULONG Offset;
    BOOLEAN IsPair;
    ULONG Field; // of NET_STATISTICS
} E1000StatisticRegisters[] = {
    {E1000_GPRC, FALSE, FIELD_OFFSET(NET_STATISTICS, CardFramesReceived)},
    {E1000_GPTC, FALSE, FIELD_OFFSET(NET_STATISTICS, CardFramesSent)},
    {E1000_GORCL, TRUE, FIELD_OFFSET(NET_STATISTICS, CardBytesReceived)},
    {E1000_GOTCL, TRUE, FIELD_OFFSET(NET_STATISTICS, CardBytesSent)},
    {E1000_BPRC, FALSE, FIELD_OFFSET(NET_STATISTICS, CardBroadcastsReceived)},
    {E1000_MPRC, FALSE, FIELD_OFFSET(NET_STATISTICS, CardMulticastsReceived)},
    {E1000_BPTC, FALSE, FIELD_OFFSET(NET_STATISTICS, CardBroadcastsSent)},
    {E1000_MPTC, FALSE, FIELD_OFFSET(NET_STATISTICS, CardMulticastsSent)},
    {E1000_CRCERRS, FALSE, FIELD_OFFSET(NET_STATISTICS, CrcErrors)},
    {E1000_RLEC, FALSE, FIELD_OFFSET(NET_STATISTICS, LengthErrors)},
    {E1000_ALGNERRC, FALSE, FIELD_OFFSET(NET_STATISTICS, OtherReceiveErrors)},
    {E1000_SYMERRS, FALSE, FIELD_OFFSET(NET_STATISTICS, OtherReceiveErrors)},
    {E1000_RXERRC, FALSE, FIELD_OFFSET(NET_STATISTICS, OtherReceiveErrors)},
    {E1000_SEQEC, FALSE, FIELD_OFFSET(NET_STATISTICS, OtherReceiveErrors)},
    {E1000_CEXTERR, FALSE, FIELD_OFFSET(NET_STATISTICS, OtherReceiveErrors)},
    {E1000_RUC, FALSE, FIELD_OFFSET(NET_STATISTICS, UndersizedFrames)},
    {E1000_RFC, FALSE, FIELD_OFFSET(NET_STATISTICS, UndersizedFrames)},
    {E1000_ROC, FALSE, FIELD_OFFSET(NET_STATISTICS, OversizedFrames)},
    {E1000_RJC, FALSE, FIELD_OFFSET(NET_STATISTICS, OversizedFrames)},
    {E1000_MPC, FALSE, FIELD_OFFSET(NET_STATISTICS, MissedFrames)},
    {E1000_RNBC, FALSE, FIELD_OFFSET(NET_STATISTICS, NoBufferFrames)},
    {E1000_COLC, FALSE, FIELD_OFFSET(NET_STATISTICS, Collisions)},
    {E1000_TSCTC, FALSE, FIELD_OFFSET(NET_STATISTICS, SegmentedSent)},
    {E1000_TSCTFC, FALSE, FIELD_OFFSET(NET_STATISTICS, SegmentedFailed)},
};

// A card that is gone would count ones.
static ULONG64 E1000ReadCount(const E1000_ADAPTER *Adapter, ULONG Offset, BOOLEAN IsPair)
{
    const ULONG Low = E1000ReadRegister(Adapter, Offset);
    const ULONG High = IsPair ? E1000ReadRegister(Adapter, Offset + sizeof(ULONG)) : 0;

    return Low == E1000_ABSENT && (!IsPair || High == E1000_ABSENT) ? 0 : Low | (ULONG64)High << 32;
}

VOID E1000ReadStatistics(PE1000_ADAPTER Adapter)
{
    KIRQL OldIrql;

    KeAcquireSpinLock(&Adapter->StatisticsLock, &OldIrql);
    for (ULONG Row = 0; Row < ARRAYSIZE(E1000StatisticRegisters); Row += 1) {
        const PUCHAR Field = (PUCHAR)&Adapter->Statistics + E1000StatisticRegisters[Row].Field;
        *(PULONG64)Field += E1000ReadCount(Adapter, E1000StatisticRegisters[Row].Offset,
                                           E1000StatisticRegisters[Row].IsPair);
    }
    KeReleaseSpinLock(&Adapter->StatisticsLock, OldIrql);
}

// From here on everything is counted anew. The card is quiet, and nothing waits.
VOID E1000ClearStatistics(PE1000_ADAPTER Adapter)
{
    E1000ReadStatistics(Adapter);
    RtlZeroMemory(&Adapter->Statistics, sizeof(Adapter->Statistics));
    RtlZeroMemory(&Adapter->Receive.Counters, sizeof(Adapter->Receive.Counters));
    RtlZeroMemory(&Adapter->Transmit.Counters, sizeof(Adapter->Transmit.Counters));
    RtlZeroMemory(&Adapter->Watch, sizeof(Adapter->Watch));
    Adapter->InterruptCount = 0;
    Adapter->Overruns = 0;
}

static VOID E1000QueryReceive(PE1000_ADAPTER Adapter, PNET_STATISTICS Statistics)
{
    const E1000_RECEIVE_COUNTERS *const Counters = &Adapter->Receive.Counters;
    KIRQL OldIrql;

    KeAcquireSpinLock(&Adapter->Receive.Lock, &OldIrql);
    Statistics->FramesReceived = Counters->Frames;
    Statistics->BytesReceived = Counters->Bytes;
    Statistics->ReceiveErrors = Counters->Errors;
    Statistics->ReceiveOversized = Counters->Oversized;
    Statistics->ReceiveFiltered = Counters->Filtered;
    Statistics->ReceiveStarved = Counters->Starved;
    Statistics->ReceiveDoorbells = Counters->Doorbells;
    Statistics->FramesLent = Adapter->Receive.LentCount;
    KeReleaseSpinLock(&Adapter->Receive.Lock, OldIrql);
}

static VOID E1000QueryTransmit(PE1000_ADAPTER Adapter, PNET_STATISTICS Statistics)
{
    const E1000_TRANSMIT_COUNTERS *const Counters = &Adapter->Transmit.Counters;
    KIRQL OldIrql;

    KeAcquireSpinLock(&Adapter->Transmit.Lock, &OldIrql);
    Statistics->FramesSent = Counters->Frames;
    Statistics->BytesSent = Counters->Bytes;
    Statistics->FramesCopied = Counters->Copied;
    Statistics->FramesRefused = Counters->Refused;
    Statistics->TransmitDoorbells = Counters->Doorbells;
    KeReleaseSpinLock(&Adapter->Transmit.Lock, OldIrql);
}

VOID E1000QueryStatistics(PE1000_ADAPTER Adapter, PNET_STATISTICS Statistics)
{
    KIRQL OldIrql;

    E1000ReadStatistics(Adapter);
    KeAcquireSpinLock(&Adapter->StatisticsLock, &OldIrql);
    *Statistics = Adapter->Statistics;
    KeReleaseSpinLock(&Adapter->StatisticsLock, OldIrql);
    E1000QueryReceive(Adapter, Statistics);
    E1000QueryTransmit(Adapter, Statistics);
    Statistics->ReceiveOverruns = Adapter->Overruns;
    Statistics->Interrupts = Adapter->InterruptCount;
    Statistics->MissedInterrupts = Adapter->Watch.MissedInterrupts;
    Statistics->TransmitTimeouts = Adapter->Watch.Timeouts;
    Statistics->Resets = Adapter->Watch.Resets;
    Statistics->LinkChanges = Adapter->Link.Sequence;
    Statistics->ThrottleChanges = Adapter->Throttle.Changes;
}
