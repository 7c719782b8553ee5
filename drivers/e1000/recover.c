// What is done when the card does not do what it should; and resets that somebody asked for.
//
//   watchdog, twice a second
//     reads as a card that is gone              -> E1000Fail: all requests end, at once
//     a batch is done, or a frame has come,
//       and nobody was told                     -> counted as a missed interrupt; served
//     the oldest batch has not moved for 2 s    -> a work item: E1000Restart; its frames end with
//                                                  STATUS_IO_TIMEOUT
//   E1000Restart: halt - quiet - end what the card had - program - go on
//
// Invariants:
//   W1  Frames that the card has are ended only when it has reported them, or can't reach them any more:
//       it was reset, or its bus mastering is off, or it is gone from the bus.
//   W2  While a ring is halted, nobody but the owner of the turn gives the card anything.
//   W3  A card that does not obey, and whose bus mastering can't be turned off, keeps the memory of its
//       rings and receive buffers for ever; the driver forgets it.
#include "e1000.h"

#define E1000_TICK_MS 500
#define E1000_STUCK_TICKS 4u        // two seconds
#define E1000_STATISTICS_TICKS 120u // once a minute: long before a register sticks
#define E1000_DRAIN_TRANSMIT_MS 1000u

static KDEFERRED_ROUTINE E1000WatchDpc;
static IO_WORKITEM_ROUTINE E1000ResetWork;

// -------------------------------------------------------------------------------------------------
// Reset.

BOOLEAN E1000StopCard(PE1000_ADAPTER Adapter, NTSTATUS Status)
{
    E1000HaltTransmit(Adapter, TRUE);
    E1000HaltReceive(Adapter, TRUE);
    const BOOLEAN IsQuiet =
        E1000QuiesceDma(Adapter) != STATUS_IO_TIMEOUT || E1000DisableBusMaster(Adapter);
    // The card only reads what is sent: even if it does not obey, this damages nothing of anybody's.
    E1000EndTransmit(Adapter, Status);
    return IsQuiet;
}

// Goes on with the rings as they are.
static VOID E1000Continue(PE1000_ADAPTER Adapter)
{
    E1000Program(Adapter);
    E1000HaltReceive(Adapter, FALSE);
    E1000HaltTransmit(Adapter, FALSE);
}

VOID E1000Restart(PE1000_ADAPTER Adapter, NTSTATUS Status)
{
    E1000HaltTransmit(Adapter, TRUE);
    E1000HaltReceive(Adapter, TRUE);
    Adapter->Watch.Resets += 1;
    E1000ReadStatistics(Adapter);
    if (!NT_SUCCESS(E1000QuiesceDma(Adapter))) {
        (VOID) E1000DisableBusMaster(Adapter);
        E1000Fail(Adapter);
        return;
    }
    E1000EndTransmit(Adapter, Status);
    E1000Continue(Adapter);
}

// The card may be gone, or be there and deaf. Only in the first case can it be said that it will not
// touch its frames any more; the second comes here by E1000Restart, which has taken the bus away from
// it (W1).
VOID E1000Fail(PE1000_ADAPTER Adapter)
{
    if (Adapter->State == E1000Started) {
        Adapter->State = E1000Gone;
        DbgPrint("e1000: the card no longer answers; its requests end.\n");
    }
    E1000HaltTransmit(Adapter, TRUE);
    E1000HaltReceive(Adapter, TRUE);
    E1000SetTransmitRefusal(Adapter, STATUS_DEVICE_DOES_NOT_EXIST);
    E1000SetReceiveRefusal(Adapter, STATUS_DEVICE_DOES_NOT_EXIST);
    E1000SetLinkRefusal(Adapter, STATUS_DEVICE_DOES_NOT_EXIST);
    E1000EndTransmit(Adapter, STATUS_DEVICE_DOES_NOT_EXIST);
}

static VOID NTAPI E1000ResetWork(PDEVICE_OBJECT Fdo, PVOID Context)
{
    const PE1000_ADAPTER Adapter = Fdo->DeviceExtension;

    UNREFERENCED_PARAMETER(Context);
    E1000AcquireTurn(Adapter);
    (VOID) InterlockedExchange(&Adapter->IsResetQueued, 0);
    if (Adapter->State == E1000Started) {
        DbgPrint("e1000: frames were not sent within %u ms; the card is reset.\n",
                 E1000_STUCK_TICKS * E1000_TICK_MS);
        Adapter->Watch.Timeouts += 1;
        E1000Restart(Adapter, STATUS_IO_TIMEOUT);
    }
    E1000ReleaseTurn(Adapter);
    IoReleaseRemoveLock(&Adapter->RemoveLock, Adapter->ResetItem);
}

static VOID E1000QueueReset(PE1000_ADAPTER Adapter)
{
    if (InterlockedExchange(&Adapter->IsResetQueued, 1) != 0) {
        return;
    }
    if (!NT_SUCCESS(IoAcquireRemoveLock(&Adapter->RemoveLock, Adapter->ResetItem))) {
        return; // it is being removed, which ends everything
    }
    IoQueueWorkItem(Adapter->ResetItem, E1000ResetWork, DelayedWorkQueue, NULL);
}

// -------------------------------------------------------------------------------------------------
// Watchdog.

// Whether the oldest batch is still the one of the last tick; and whether it is done.
static BOOLEAN E1000IsTransmitIdle(PE1000_ADAPTER Adapter, PBOOLEAN IsDone)
{
    const PE1000_TRANSMIT_RING Ring = &Adapter->Transmit;
    E1000_WATCH *const Watch = &Adapter->Watch;
    KIRQL OldIrql;

    KeAcquireSpinLock(&Ring->Lock, &OldIrql);
    const BOOLEAN IsEmpty = Ring->Clean == Ring->Next || Ring->IsHalted;
    const BOOLEAN IsSame =
        !IsEmpty && Watch->Clean == Ring->Clean && Watch->Reaped == Ring->ReapedCount;
    *IsDone = !IsEmpty &&
              (Ring->Descriptors[Ring->Batches[Ring->Clean].Last].Command & E1000_TRANSMIT_DD) != 0;
    Watch->Clean = Ring->Clean;
    Watch->Reaped = Ring->ReapedCount;
    KeReleaseSpinLock(&Ring->Lock, OldIrql);
    return IsSame;
}

static VOID E1000WatchRings(PE1000_ADAPTER Adapter)
{
    E1000_WATCH *const Watch = &Adapter->Watch;
    BOOLEAN IsDone;

    const BOOLEAN IsSame = E1000IsTransmitIdle(Adapter, &IsDone);
    const BOOLEAN HasReceived = E1000HasReceiveWork(Adapter);
    // What has come since the last tick may have an interrupt under way: it has half a second.
    if ((IsDone && IsSame) || (HasReceived && Watch->HasReceived)) {
        Watch->MissedInterrupts += 1;
        E1000ServiceTransmit(Adapter);
        E1000ServiceReceive(Adapter);
    }
    Watch->HasReceived = HasReceived;
    Watch->StuckTicks = IsSame && !IsDone ? Watch->StuckTicks + 1 : 0;
    if (Watch->StuckTicks >= E1000_STUCK_TICKS) {
        Watch->StuckTicks = 0;
        E1000QueueReset(Adapter);
    }
}

static VOID NTAPI E1000WatchDpc(PKDPC Dpc, PVOID DeferredContext, PVOID SystemArgument1,
                                PVOID SystemArgument2)
{
    const PE1000_ADAPTER Adapter = DeferredContext;

    UNREFERENCED_PARAMETER(Dpc);
    UNREFERENCED_PARAMETER(SystemArgument1);
    UNREFERENCED_PARAMETER(SystemArgument2);
    // A reset leaves registers as they should not be, and looks for itself.
    if (Adapter->State != E1000Started || Adapter->Receive.IsHalted) {
        return;
    }
    if (E1000IsGone(Adapter)) {
        E1000Fail(Adapter);
        return;
    }
    E1000UpdateLink(Adapter);
    E1000WatchRings(Adapter);
    Adapter->Watch.Ticks += 1;
    if (Adapter->Watch.Ticks % E1000_STATISTICS_TICKS == 0) {
        E1000ReadStatistics(Adapter);
    }
}

VOID E1000StartWatchdog(PE1000_ADAPTER Adapter)
{
    LARGE_INTEGER DueTime;

    KeInitializeDpc(&Adapter->WatchDpc, E1000WatchDpc, Adapter);
    DueTime.QuadPart = -E1000_TICK_MS * 10000ll;
    (VOID) KeSetTimerEx(&Adapter->WatchTimer, DueTime, E1000_TICK_MS, &Adapter->WatchDpc);
}

VOID E1000StopWatchdog(PE1000_ADAPTER Adapter)
{
    (VOID) KeCancelTimer(&Adapter->WatchTimer);
    KeFlushQueuedDpcs(); // it may be under way
}

// -------------------------------------------------------------------------------------------------
// Options.

static BOOLEAN E1000IsInRange(ULONG Value, ULONG Least, ULONG Most)
{
    return Value >= Least && Value <= Most;
}

static BOOLEAN E1000AreOptionsGood(const NET_OPTIONS *Options)
{
    return E1000IsInRange(Options->ReceiveRingCount, E1000_MINIMUM_RING_COUNT,
                          E1000_MAXIMUM_RING_COUNT) &&
           E1000IsInRange(Options->TransmitRingCount, E1000_MINIMUM_RING_COUNT,
                          E1000_MAXIMUM_RING_COUNT) &&
           Options->ReceiveRingCount % E1000_RING_COUNT_UNIT == 0 &&
           Options->TransmitRingCount % E1000_RING_COUNT_UNIT == 0 &&
           E1000IsInRange(Options->MaximumFrameBytes, NET_STANDARD_FRAME_BYTES,
                          E1000_LARGEST_FRAME_BYTES) &&
           Options->CopyBytes <= E1000_SLOT_BYTES && Options->Throttle <= NET_THROTTLE_ADAPTIVE &&
           (Options->Throttle != NET_THROTTLE_FIXED ||
            E1000IsInRange(Options->InterruptsPerSecond, 100, 100000));
}

// Whether the card must be reset for the new options; the rest is changed while it runs.
static BOOLEAN E1000NeedsReset(const NET_OPTIONS *Old, const NET_OPTIONS *New)
{
    return Old->ReceiveRingCount != New->ReceiveRingCount ||
           Old->TransmitRingCount != New->TransmitRingCount ||
           Old->MaximumFrameBytes != New->MaximumFrameBytes ||
           (Old->Loopback != 0) != (New->Loopback != 0);
}

// The memory of a ring moves; its lock, its requests and its counters stay where they are.
static VOID E1000SwapReceive(PE1000_RECEIVE_RING Ring, PE1000_RECEIVE_RING Other)
{
    const E1000_RECEIVE_RING Old = *Ring;

    Ring->Descriptors = Other->Descriptors;
    Ring->Count = Other->Count;
    Ring->InRing = Other->InRing;
    Ring->Free = Other->Free;
    Ring->Block = Other->Block;
    Ring->Buffers = Other->Buffers;
    Ring->BufferCount = Other->BufferCount;
    Ring->Chunks = Other->Chunks;
    Ring->ChunkCount = Other->ChunkCount;
    // Parts of a frame whose end will not come.
    Ring->First = NULL;
    *Other = Old;
}

static VOID E1000SwapTransmit(PE1000_TRANSMIT_RING Ring, PE1000_TRANSMIT_RING Other)
{
    const E1000_TRANSMIT_RING Old = *Ring;

    Ring->Descriptors = Other->Descriptors;
    Ring->Count = Other->Count;
    Ring->Batches = Other->Batches;
    Ring->Slots = Other->Slots;
    Ring->SlotsAddress = Other->SlotsAddress;
    Ring->SmallAreas = Other->SmallAreas;
    Ring->LargeAreas = Other->LargeAreas;
    Ring->Block = Other->Block;
    Ring->SlotBlock = Other->SlotBlock;
    Ring->ZerosAddress = Other->ZerosAddress;
    Ring->AreaMemory = Other->AreaMemory;
    Ring->Next = Ring->Rung = Ring->Clean = 0;
    *Other = Old;
}

// Both rings are halted, and the card is quiet. STATUS_DEVICE_BUSY: frames are lent, whose buffers would
// go.
static NTSTATUS E1000SwapRings(PE1000_ADAPTER Adapter, PE1000_RECEIVE_RING Receive,
                               PE1000_TRANSMIT_RING Transmit)
{
    NTSTATUS Status = STATUS_SUCCESS;
    KIRQL OldIrql;

    KeAcquireSpinLock(&Adapter->Receive.Lock, &OldIrql);
    if (Receive->Count != 0 && Adapter->Receive.LentCount != 0) {
        Status = STATUS_DEVICE_BUSY;
    } else if (Receive->Count != 0) {
        E1000SwapReceive(&Adapter->Receive, Receive);
    }
    KeReleaseSpinLock(&Adapter->Receive.Lock, OldIrql);
    if (NT_SUCCESS(Status) && Transmit->Count != 0) {
        KeAcquireSpinLock(&Adapter->Transmit.Lock, &OldIrql);
        E1000SwapTransmit(&Adapter->Transmit, Transmit);
        KeReleaseSpinLock(&Adapter->Transmit.Lock, OldIrql);
    }
    return Status;
}

// What is sent already is sent; what waits goes on with the new rings.
static NTSTATUS E1000ResetForOptions(PE1000_ADAPTER Adapter, const NET_OPTIONS *Options,
                                     PE1000_RECEIVE_RING Receive, PE1000_TRANSMIT_RING Transmit)
{
    E1000HaltTransmit(Adapter, TRUE);
    E1000DrainTransmit(Adapter, E1000_DRAIN_TRANSMIT_MS);
    E1000HaltReceive(Adapter, TRUE);
    E1000ReadStatistics(Adapter);
    if (!NT_SUCCESS(E1000QuiesceDma(Adapter))) {
        (VOID) E1000DisableBusMaster(Adapter);
        E1000Fail(Adapter);
        return STATUS_DEVICE_DOES_NOT_EXIST;
    }
    Adapter->Watch.Resets += 1;
    E1000EndTransmit(Adapter, STATUS_IO_TIMEOUT);
    const NTSTATUS Status = E1000SwapRings(Adapter, Receive, Transmit);
    if (NT_SUCCESS(Status)) {
        Adapter->Options = *Options;
    }
    E1000Continue(Adapter);
    return Status;
}

static NTSTATUS E1000ChangeRings(PE1000_ADAPTER Adapter, const NET_OPTIONS *Options,
                                 PE1000_RECEIVE_RING Receive, PE1000_TRANSMIT_RING Transmit)
{
    NTSTATUS Status = STATUS_SUCCESS;

    if (Options->ReceiveRingCount != Adapter->Options.ReceiveRingCount) {
        Status = E1000AllocateReceive(Adapter, Receive, Options->ReceiveRingCount);
    }
    if (NT_SUCCESS(Status) && Options->TransmitRingCount != Adapter->Options.TransmitRingCount) {
        Status = E1000AllocateTransmit(Adapter, Transmit, Options->TransmitRingCount);
    }
    if (NT_SUCCESS(Status)) {
        Status = E1000ResetForOptions(Adapter, Options, Receive, Transmit);
    }
    // The old rings now, or, after a failure, the new ones.
    E1000FreeReceive(Adapter, Receive);
    E1000FreeTransmit(Adapter, Transmit);
    return Status;
}

static NTSTATUS E1000ChangeByReset(PE1000_ADAPTER Adapter, const NET_OPTIONS *Options)
{
    typedef struct _E1000_RINGS {
        E1000_RECEIVE_RING Receive;
        E1000_TRANSMIT_RING Transmit;
    } E1000_RINGS;
    E1000_RINGS *const Rings = ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(*Rings), E1000_TAG);

    if (Rings == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    const NTSTATUS Status = E1000ChangeRings(Adapter, Options, &Rings->Receive, &Rings->Transmit);
    ExFreePoolWithTag(Rings, E1000_TAG);
    return Status;
}

NTSTATUS E1000SetOptions(PE1000_ADAPTER Adapter, const NET_OPTIONS *Options)
{
    KIRQL OldIrql;

    if (!E1000AreOptionsGood(Options)) {
        return STATUS_INVALID_PARAMETER;
    }
    if (E1000NeedsReset(&Adapter->Options, Options)) {
        return E1000ChangeByReset(Adapter, Options);
    }
    Adapter->Options = *Options;
    KeAcquireSpinLock(&Adapter->Transmit.Lock, &OldIrql);
    Adapter->Transmit.CopyBytes = Options->CopyBytes;
    KeReleaseSpinLock(&Adapter->Transmit.Lock, OldIrql);
    E1000ProgramThrottle(Adapter);
    return STATUS_SUCCESS;
}
