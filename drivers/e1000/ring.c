// The receive and the transmit ring. Whoever waits for the card sleeps until it has interrupted, and
// then looks at the "done" bits.
//
//            tail next           head
//             v    v              v
//   +----+----+----+----+----+----+----+----+
//   |  c |  c |    |done|done|done|  c |  c |     a receive ring; c: the card's, to fill
//   +----+----+----+----+----+----+----+----+
//
// Invariants:
//   R1  The card owns [head, tail); of the receive ring always all but one descriptor, of the
//       transmit ring none except during E1000SendMdl.
//   R2  A descriptor is complete in memory before the tail passes it, and its fields are read after
//       its "done" bit: a barrier stands between.
//   R3  What the card wrote is not believed: a length is compared with the buffer before anything
//       is copied.
//   R4  The card gets logical addresses only: of common buffers, and of the pieces of a frame that the
//       DMA adapter has mapped.
#include "e1000.h"

#define E1000_TRANSMIT_MS 1000
#define E1000_TRANSMIT_RING_OFFSET                                                                 \
    (E1000_RING_COUNT * sizeof(E1000_RECEIVE_DESCRIPTOR)) // in the rings' page

static volatile E1000_RECEIVE_DESCRIPTOR *E1000ReceiveDescriptor(const E1000_ADAPTER *Adapter,
                                                                 ULONG Index)
{
    return (volatile E1000_RECEIVE_DESCRIPTOR *)Adapter->Rings.Va + Index;
}

static volatile E1000_TRANSMIT_DESCRIPTOR *E1000TransmitDescriptor(const E1000_ADAPTER *Adapter,
                                                                   ULONG Index)
{
    return (volatile E1000_TRANSMIT_DESCRIPTOR *)(Adapter->Rings.Va + E1000_TRANSMIT_RING_OFFSET) +
           Index;
}

static ULONG E1000NextIndex(ULONG Index)
{
    return (Index + 1) % E1000_RING_COUNT;
}

// -------------------------------------------------------------------------------------------------
// Receiving.

// Makes a descriptor ready to be given to the card.
static VOID E1000PrepareReceiveDescriptor(const E1000_ADAPTER *Adapter, ULONG Index)
{
    volatile E1000_RECEIVE_DESCRIPTOR *const Descriptor = E1000ReceiveDescriptor(Adapter, Index);

    Descriptor->Status = 0;
    Descriptor->ByteCount = 0;
    Descriptor->Errors = 0;
    Descriptor->BufferAddress =
        (ULONG64)Adapter->ReceiveBuffers.Address.QuadPart + Index * E1000_BUFFER_BYTES;
}

VOID E1000StartReceive(PE1000_ADAPTER Adapter)
{
    const ULONG64 RingAddress = (ULONG64)Adapter->Rings.Address.QuadPart;

    for (ULONG Index = 0; Index < E1000_RING_COUNT; Index += 1) {
        E1000PrepareReceiveDescriptor(Adapter, Index);
    }
    Adapter->ReceiveNext = 0;
    Adapter->SkippingFrame = FALSE;
    KeMemoryBarrier();
    E1000WriteRegister(Adapter, E1000_RDBAL, (ULONG)RingAddress);
    E1000WriteRegister(Adapter, E1000_RDBAH, (ULONG)(RingAddress >> 32));
    E1000WriteRegister(Adapter, E1000_RDLEN, E1000_RING_COUNT * sizeof(E1000_RECEIVE_DESCRIPTOR));
    E1000WriteRegister(Adapter, E1000_RDH, 0);
    E1000WriteRegister(Adapter, E1000_RDT, E1000_RING_COUNT - 1);
    E1000WriteRegister(Adapter, E1000_RCTL, E1000_RCTL_EN | E1000_RCTL_BAM | E1000_RCTL_SECRC);
}

// Gives the oldest descriptor that we own back to the card.
static VOID E1000RecycleReceiveDescriptor(PE1000_ADAPTER Adapter)
{
    const ULONG Index = Adapter->ReceiveNext;

    E1000PrepareReceiveDescriptor(Adapter, Index);
    Adapter->ReceiveNext = E1000NextIndex(Index);
    // Everything before the next is the card's again, so the tail is the one that was just
    // prepared.
    KeMemoryBarrier();
    E1000WriteRegister(Adapter, E1000_RDT, Index);
}

// Whether a finished descriptor holds a whole frame of good length; counts it when not. Keeps track
// of frames that run on over several buffers, which this driver never asks for.
static BOOLEAN E1000IsWholeFrame(PE1000_ADAPTER Adapter,
                                 const volatile E1000_RECEIVE_DESCRIPTOR *Descriptor,
                                 ULONG Capacity)
{
    const BOOLEAN IsLast = (Descriptor->Status & E1000_RECEIVE_EOP) != 0;
    const BOOLEAN IsContinued = Adapter->SkippingFrame;

    Adapter->SkippingFrame = !IsLast;
    if (Descriptor->Errors & E1000_RECEIVE_ERRORS) {
        Adapter->Counters.ReceiveErrors++;
        return FALSE;
    }
    if (!IsLast || IsContinued || Descriptor->ByteCount > Capacity ||
        Descriptor->ByteCount > E1000_MAXIMUM_FRAME_BYTES) {
        Adapter->Counters.ReceiveOversized++;
        return FALSE;
    }
    return TRUE;
}

// Takes the next finished descriptor, if there is one. Returns TRUE when it gave a frame.
static BOOLEAN E1000TakeFrame(PE1000_ADAPTER Adapter, PUCHAR Buffer, ULONG Capacity,
                              PULONG ByteCount)
{
    const ULONG Index = Adapter->ReceiveNext;
    const volatile E1000_RECEIVE_DESCRIPTOR *const Descriptor =
        E1000ReceiveDescriptor(Adapter, Index);

    if (!(Descriptor->Status & E1000_RECEIVE_DD)) {
        return FALSE;
    }
    KeMemoryBarrier();
    const BOOLEAN IsGood = E1000IsWholeFrame(Adapter, Descriptor, Capacity);
    if (IsGood) {
        *ByteCount = Descriptor->ByteCount;
        RtlCopyMemory(Buffer, Adapter->ReceiveBuffers.Va + Index * E1000_BUFFER_BYTES, *ByteCount);
        Adapter->Counters.FramesReceived++;
        Adapter->Counters.BytesReceived += *ByteCount;
    }
    E1000RecycleReceiveDescriptor(Adapter);
    return IsGood;
}

NTSTATUS E1000ReceiveFrame(PE1000_ADAPTER Adapter, PUCHAR Buffer, ULONG Capacity, ULONG TimeoutMs,
                           PULONG ByteCount)
{
    const E1000_DEADLINE Deadline = E1000StartDeadline(TimeoutMs);

    *ByteCount = 0;
    while (!E1000TakeFrame(Adapter, Buffer, Capacity, ByteCount)) {
        if (E1000IsDeadlineOver(Deadline)) {
            return E1000IsGone(Adapter) ? STATUS_NO_SUCH_DEVICE : STATUS_IO_TIMEOUT;
        }
        E1000WaitForInterrupt(Adapter, Deadline);
    }
    return STATUS_SUCCESS;
}

// -------------------------------------------------------------------------------------------------
// Sending.

VOID E1000StartTransmit(PE1000_ADAPTER Adapter)
{
    const ULONG64 RingAddress =
        (ULONG64)Adapter->Rings.Address.QuadPart + E1000_TRANSMIT_RING_OFFSET;

    Adapter->TransmitNext = 0;
    E1000WriteRegister(Adapter, E1000_TDBAL, (ULONG)RingAddress);
    E1000WriteRegister(Adapter, E1000_TDBAH, (ULONG)(RingAddress >> 32));
    E1000WriteRegister(Adapter, E1000_TDLEN, E1000_RING_COUNT * sizeof(E1000_TRANSMIT_DESCRIPTOR));
    E1000WriteRegister(Adapter, E1000_TDH, 0);
    E1000WriteRegister(Adapter, E1000_TDT, 0);
    E1000WriteRegister(Adapter, E1000_TIPG,
                       E1000_TIPG_IPGT | E1000_TIPG_IPGR1 << E1000_TIPG_IPGR1_SHIFT |
                           E1000_TIPG_IPGR2 << E1000_TIPG_IPGR2_SHIFT);
    E1000WriteRegister(Adapter, E1000_TCTL,
                       E1000_TCTL_EN | E1000_TCTL_PSP |
                           E1000_TCTL_CT_STANDARD << E1000_TCTL_CT_SHIFT |
                           E1000_TCTL_COLD_FULL_DUPLEX << E1000_TCTL_COLD_SHIFT);
}

// Gives the card one piece of a frame.
static VOID E1000PutPiece(PE1000_ADAPTER Adapter, const SCATTER_GATHER_ELEMENT *Piece,
                          BOOLEAN IsLast)
{
    volatile E1000_TRANSMIT_DESCRIPTOR *const Descriptor =
        E1000TransmitDescriptor(Adapter, Adapter->TransmitNext);

    Descriptor->BufferAddress = (ULONG64)Piece->Address.QuadPart;
    Descriptor->ByteCount = (USHORT)Piece->Length;
    Descriptor->ChecksumOffset = 0;
    Descriptor->ChecksumStart = 0;
    Descriptor->Special = 0;
    Descriptor->Status = 0;
    Descriptor->Command =
        E1000_TRANSMIT_IFCS | E1000_TRANSMIT_RS | (IsLast ? E1000_TRANSMIT_EOP : 0);
    Adapter->TransmitNext = E1000NextIndex(Adapter->TransmitNext);
}

static BOOLEAN E1000WaitForTransmit(PE1000_ADAPTER Adapter,
                                    const volatile E1000_TRANSMIT_DESCRIPTOR *Descriptor)
{
    const E1000_DEADLINE Deadline = E1000StartDeadline(E1000_TRANSMIT_MS);

    while (!(Descriptor->Status & E1000_TRANSMIT_DD)) {
        if (E1000IsDeadlineOver(Deadline)) {
            return FALSE;
        }
        E1000WaitForInterrupt(Adapter, Deadline);
    }
    return TRUE;
}

// The card did not report the frame as sent and may still read the caller's pages. Only a reset
// takes them back.
static NTSTATUS E1000RecoverTransmit(PE1000_ADAPTER Adapter)
{
    Adapter->Counters.TransmitTimeouts++;
    DbgPrint("e1000: a frame was not sent within %u ms; the card is reset.\n", E1000_TRANSMIT_MS);
    if (!NT_SUCCESS(E1000BringUp(Adapter))) {
        Adapter->State = E1000Gone;
        return STATUS_NO_SUCH_DEVICE;
    }
    return STATUS_IO_TIMEOUT;
}

static NTSTATUS E1000SendPieces(PE1000_ADAPTER Adapter, const SCATTER_GATHER_ELEMENT *Pieces,
                                ULONG PieceCount)
{
    ULONG Last = Adapter->TransmitNext;
    ULONG ByteCount = 0;

    for (ULONG Index = 0; Index < PieceCount; Index += 1) {
        Last = Adapter->TransmitNext;
        ByteCount += Pieces[Index].Length;
        E1000PutPiece(Adapter, &Pieces[Index], Index + 1 == PieceCount);
    }
    KeMemoryBarrier();
    E1000WriteRegister(Adapter, E1000_TDT, Adapter->TransmitNext);
    if (!E1000WaitForTransmit(Adapter, E1000TransmitDescriptor(Adapter, Last))) {
        return E1000RecoverTransmit(Adapter);
    }
    Adapter->Counters.FramesSent++;
    Adapter->Counters.BytesSent += ByteCount;
    return STATUS_SUCCESS;
}

NTSTATUS E1000SendOwnFrame(PE1000_ADAPTER Adapter, ULONG ByteCount)
{
    SCATTER_GATHER_ELEMENT Piece;

    RtlZeroMemory(&Piece, sizeof(Piece));
    Piece.Address = Adapter->OwnFrame.Address;
    Piece.Length = ByteCount;
    return E1000SendPieces(Adapter, &Piece, 1);
}

NTSTATUS E1000SendMdl(PE1000_ADAPTER Adapter, PMDL Mdl, ULONG ByteCount)
{
    const PDMA_OPERATIONS Operations = Adapter->Dma->DmaOperations;
    PSCATTER_GATHER_LIST List;
    KIRQL OldIrql;

    NTSTATUS Status =
        Operations->InitializeDmaTransferContext(Adapter->Dma, Adapter->TransferContext);
    if (NT_SUCCESS(Status)) {
        Status = Operations->GetScatterGatherListEx(
            Adapter->Dma, Adapter->Fdo, Adapter->TransferContext, Mdl, 0, ByteCount,
            DMA_SYNCHRONOUS_CALLBACK, NULL, NULL, TRUE, NULL, NULL, &List);
    }
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    // A frame of 1514 bytes lies in two pages at most; a chain of MDLs may have more pieces.
    Status = List->NumberOfElements < E1000_RING_COUNT
                 ? E1000SendPieces(Adapter, List->Elements, List->NumberOfElements)
                 : STATUS_INVALID_PARAMETER;
    KeRaiseIrql(DISPATCH_LEVEL, &OldIrql);
    Operations->PutScatterGatherList(Adapter->Dma, List, TRUE);
    KeLowerIrql(OldIrql);
    return Status;
}
