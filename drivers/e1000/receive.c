// The receive ring, and the buffers that are lent.
//
//      refill          next
//        v              v
//   +----+----+----+----+----+----+----+----+
//   |    |    |    |    |done|done|  c |  c |     c: the card's, to fill; empty: without a buffer
//   +----+----+----+----+----+----+----+----+
//
//   buffer:  free stack --> ring (the card's) --> a frame's part --> lent --> free stack
//
// The ring is the queue of frames that nobody has asked for yet. When somebody asks, finished
// descriptors are taken one by one; their buffers go out as they are, as frames, and others from the
// stack take their places. The card is told of these once per pass.
//
// Invariants:
//   R1  The card owns [head, tail), and tail is Refill. EmptyCount descriptors from Refill on have no
//       buffer, one at least: tail == head says to the card that it has none.
//   R2  A descriptor is complete in memory before the tail passes it, and is read as a whole, once,
//       after which its "done" bit is looked at. [x64] Neither loads nor stores overtake their like.
//   R3  What the card wrote is not believed: a length is compared with the buffer's.
//   R4  A buffer is in one place: on the stack, in the ring, in the frame that is being put together,
//       or lent. LentCount counts lent frames, not their parts.
// Lock: the ring's. IRPs are completed after it is released.
#include "e1000.h"

static ULONG E1000NextReceive(const E1000_RECEIVE_RING *Ring, ULONG Index)
{
    return Index + 1 == Ring->Count ? 0 : Index + 1;
}

static VOID E1000PushBuffer(PE1000_RECEIVE_RING Ring, PE1000_BUFFER Buffer)
{
    Buffer->State = E1000BufferFree;
    Buffer->Next = Ring->Free;
    Ring->Free = Buffer;
}

// All parts of a frame.
static VOID E1000PushBuffers(PE1000_RECEIVE_RING Ring, PE1000_BUFFER First)
{
    for (PE1000_BUFFER Buffer = First; Buffer != NULL;) {
        const PE1000_BUFFER Next = Buffer->Next;
        E1000PushBuffer(Ring, Buffer);
        Buffer = Next;
    }
}

// Gives buffers to descriptors that have none, and tells the card.
static VOID E1000Refill(PE1000_ADAPTER Adapter, PE1000_RECEIVE_RING Ring)
{
    ULONG Index = Ring->Refill;

    while (Ring->EmptyCount > 1 && Ring->Free != NULL) {
        const PE1000_BUFFER Buffer = Ring->Free;
        Ring->Free = Buffer->Next;
        Buffer->State = E1000BufferInRing;
        Ring->InRing[Index] = Buffer;
        Ring->Descriptors[Index].BufferAddress = Buffer->Address;
        Ring->Descriptors[Index].Result = 0;
        Ring->EmptyCount -= 1;
        Index = E1000NextReceive(Ring, Index);
    }
    if (Index != Ring->Refill) {
        Ring->Refill = Index;
        Ring->Counters.Doorbells += 1;
        KeMemoryBarrierWithoutFence();
        E1000WriteRegister(Adapter, E1000_RDT, Index);
    }
    if (Ring->EmptyCount > 1) {
        Ring->Counters.Starved += 1;
    }
}

VOID E1000ResetReceive(PE1000_ADAPTER Adapter)
{
    const PE1000_RECEIVE_RING Ring = &Adapter->Receive;
    KIRQL OldIrql;

    KeAcquireSpinLock(&Ring->Lock, &OldIrql);
    Ring->Free = NULL;
    for (ULONG Index = 0; Index < Ring->BufferCount; Index += 1) {
        const E1000_BUFFER_STATE State = Ring->Buffers[Index].State;
        // The parts of a lent frame are behind its first.
        if (State == E1000BufferFree || State == E1000BufferInRing) {
            E1000PushBuffer(Ring, &Ring->Buffers[Index]);
        }
    }
    E1000PushBuffers(Ring, Ring->First);
    Ring->First = NULL;
    Ring->IsDropping = FALSE;
    Ring->Next = 0;
    Ring->Refill = 0;
    Ring->EmptyCount = Ring->Count;
    Ring->MaximumBytes = Adapter->Options.MaximumFrameBytes;
    E1000Refill(Adapter, Ring);
    KeReleaseSpinLock(&Ring->Lock, OldIrql);
}

// -------------------------------------------------------------------------------------------------
// Taking frames out of the ring.

static USHORT E1000ReceiveFlags(ULONG64 Result)
{
    USHORT Flags = NET_FRAME_LENT;

    if (Result & E1000_RECEIVE_VP) {
        Flags |= NET_FRAME_VLAN;
    }
    // QEMU verifies nothing and always says so.
    if (!(Result & E1000_RECEIVE_IXSM)) {
        if ((Result & (E1000_RECEIVE_IPCS | E1000_RECEIVE_IPE)) == E1000_RECEIVE_IPCS) {
            Flags |= NET_FRAME_IPV4_CHECKSUM;
        }
        // The card does not say which of the two it was.
        if ((Result & (E1000_RECEIVE_TCPCS | E1000_RECEIVE_TCPE)) == E1000_RECEIVE_TCPCS) {
            Flags |= NET_FRAME_TCP_CHECKSUM | NET_FRAME_UDP_CHECKSUM;
        }
    }
    return Flags;
}

// Makes a frame of a buffer and those behind it.
static VOID E1000MakeFrame(PE1000_BUFFER First, ULONG ByteCount, ULONG64 Result)
{
    const PNET_FRAME Frame = &First->Frame;

    Frame->Next = NULL;
    Frame->Mdl = &First->Mdl;
    Frame->Offset = 0;
    Frame->ByteCount = ByteCount;
    Frame->Flags = E1000ReceiveFlags(Result);
    Frame->VlanTag = E1000_RECEIVE_TAG(Result);
    Frame->SegmentBytes = 0;
    Frame->HeaderBytes = 0;
    Frame->NetworkOffset = 0;
    Frame->TransportOffset = 0;
    Frame->Status = STATUS_SUCCESS;
}

// Whether a frame is wanted; it is counted when not.
static BOOLEAN E1000IsWanted(const E1000_ADAPTER *Adapter, PE1000_RECEIVE_RING Ring,
                             const E1000_BUFFER *First, ULONG ByteCount)
{
    if (ByteCount > Ring->MaximumBytes + 4 || // a tag that was not taken out
        ByteCount < NET_ETHERNET_HEADER_BYTES) {
        Ring->Counters.Oversized += 1;
        return FALSE;
    }
    if (Ring->IsImprecise && !E1000IsListed(Adapter, First->Va)) {
        Ring->Counters.Filtered += 1;
        return FALSE;
    }
    return TRUE;
}

// Adds a part to the frame that is being put together. FALSE: it is too long, and dropped.
static BOOLEAN E1000AddPart(PE1000_RECEIVE_RING Ring, PE1000_BUFFER Buffer, ULONG ByteCount,
                            BOOLEAN IsEnd)
{
    Buffer->Next = NULL;
    Buffer->Mdl.Next = NULL;
    Buffer->State = E1000BufferTaken;
    if (Ring->First == NULL) {
        Ring->First = Buffer;
        Ring->PartialBytes = 0;
    } else {
        Ring->Last->Next = Buffer;
        Ring->Last->Mdl.Next = &Buffer->Mdl;
    }
    Ring->Last = Buffer;
    Ring->PartialBytes += ByteCount;
    // Only the last part may leave room: an MDL chain has no gaps.
    return ByteCount <= E1000_BUFFER_BYTES && (IsEnd || ByteCount == E1000_BUFFER_BYTES) &&
           Ring->PartialBytes <= E1000_LARGEST_FRAME_BYTES + 4;
}

// Takes one finished descriptor, and returns the frame that ends in it; NULL: none that is good.
static PE1000_BUFFER E1000TakeDescriptor(const E1000_ADAPTER *Adapter, PE1000_RECEIVE_RING Ring,
                                         ULONG64 Result)
{
    const PE1000_BUFFER Buffer = Ring->InRing[Ring->Next];
    const BOOLEAN IsEnd = (Result & E1000_RECEIVE_EOP) != 0;

    Ring->Next = E1000NextReceive(Ring, Ring->Next);
    Ring->EmptyCount += 1;
    if (Result & E1000_RECEIVE_ERRORS) {
        Ring->Counters.Errors += IsEnd ? 1 : 0;
        Ring->IsDropping = TRUE;
    }
    if (!E1000AddPart(Ring, Buffer, E1000_RECEIVE_BYTES(Result), IsEnd) && !Ring->IsDropping) {
        Ring->Counters.Oversized += 1;
        Ring->IsDropping = TRUE;
    }
    const PE1000_BUFFER First = Ring->First;
    if (!IsEnd && !Ring->IsDropping) {
        return NULL;
    }
    Ring->First = NULL;
    if (Ring->IsDropping || !E1000IsWanted(Adapter, Ring, First, Ring->PartialBytes)) {
        E1000PushBuffers(Ring, First);
        Ring->IsDropping = !IsEnd;
        return NULL;
    }
    E1000MakeFrame(First, Ring->PartialBytes, Result);
    return First;
}

// The next good frame, not lent yet; NULL: none has come.
static PE1000_BUFFER E1000TakeFrame(const E1000_ADAPTER *Adapter, PE1000_RECEIVE_RING Ring)
{
    if (Ring->IsHalted) {
        return NULL;
    }
    for (;;) {
        // EmptyCount is Count only before the first refill, and when no buffer was left for it.
        const ULONG64 Result =
            Ring->EmptyCount == Ring->Count ? 0 : Ring->Descriptors[Ring->Next].Result;
        if (!(Result & E1000_RECEIVE_DD)) {
            return NULL;
        }
        KeMemoryBarrierWithoutFence();
        const PE1000_BUFFER First = E1000TakeDescriptor(Adapter, Ring, Result);
        if (First != NULL) {
            Ring->Counters.Frames += 1;
            Ring->Counters.Bytes += First->Frame.ByteCount;
            return First;
        }
    }
}

// -------------------------------------------------------------------------------------------------
// Requests.

// Lends what has come to a request. FALSE: nothing has come.
static BOOLEAN E1000FillReceive(const E1000_ADAPTER *Adapter, PE1000_RECEIVE_RING Ring, PIRP Irp)
{
    const PNET_RECEIVE Receive =
        IoGetCurrentIrpStackLocation(Irp)->Parameters.DeviceIoControl.Type3InputBuffer;
    const ULONG MaximumCount = Receive->MaximumCount == 0 ? MAXULONG : Receive->MaximumCount;
    PNET_FRAME *Link = &Receive->Received;
    ULONG Count = 0;

    while (Count < MaximumCount) {
        const PE1000_BUFFER Buffer = E1000TakeFrame(Adapter, Ring);
        if (Buffer == NULL) {
            break;
        }
        Buffer->State = E1000BufferLent;
        *Link = &Buffer->Frame;
        Link = &Buffer->Frame.Next;
        Count += 1;
    }
    Ring->LentCount += Count;
    Receive->Count = Count;
    Irp->IoStatus.Status = STATUS_SUCCESS;
    Irp->IoStatus.Information = Count;
    return Count != 0;
}

// Copies a frame to a read's MDL chain, which was mapped before.
static VOID E1000CopyFrame(const E1000_BUFFER *First, ULONG ByteCount, PMDL Target)
{
    const E1000_BUFFER *Source = First;
    ULONG SourceOffset = 0;
    ULONG TargetOffset = 0;

    for (ULONG Left = ByteCount; Left > 0;) {
        if (TargetOffset == MmGetMdlByteCount(Target)) {
            Target = Target->Next;
            TargetOffset = 0;
            continue;
        }
        if (SourceOffset == E1000_BUFFER_BYTES) {
            Source = Source->Next;
            SourceOffset = 0;
        }
        const ULONG TargetRoom = MmGetMdlByteCount(Target) - TargetOffset;
        const ULONG SourceRoom = E1000_BUFFER_BYTES - SourceOffset;
        ULONG Bytes = Left < TargetRoom ? Left : TargetRoom;
        Bytes = Bytes < SourceRoom ? Bytes : SourceRoom;
        const PUCHAR TargetVa = MmGetSystemAddressForMdlSafe(Target, NormalPagePriority);
        RtlCopyMemory(TargetVa + TargetOffset, Source->Va + SourceOffset, Bytes);
        TargetOffset += Bytes;
        SourceOffset += Bytes;
        Left -= Bytes;
    }
}

static BOOLEAN E1000FillRead(const E1000_ADAPTER *Adapter, PE1000_RECEIVE_RING Ring, PIRP Irp)
{
    const ULONG Length = IoGetCurrentIrpStackLocation(Irp)->Parameters.Read.Length;
    const PE1000_BUFFER Buffer = E1000TakeFrame(Adapter, Ring);

    if (Buffer == NULL) {
        return FALSE;
    }
    const ULONG ByteCount = Buffer->Frame.ByteCount;
    Irp->IoStatus.Status = ByteCount <= Length ? STATUS_SUCCESS : STATUS_BUFFER_OVERFLOW;
    Irp->IoStatus.Information = ByteCount <= Length ? ByteCount : Length;
    E1000CopyFrame(Buffer, (ULONG)Irp->IoStatus.Information, Irp->MdlAddress);
    E1000PushBuffers(Ring, Buffer);
    return TRUE;
}

static BOOLEAN E1000FillRequest(const E1000_ADAPTER *Adapter, PE1000_RECEIVE_RING Ring, PIRP Irp)
{
    return IoGetCurrentIrpStackLocation(Irp)->MajorFunction == IRP_MJ_READ
               ? E1000FillRead(Adapter, Ring, Irp)
               : E1000FillReceive(Adapter, Ring, Irp);
}

static DRIVER_CANCEL E1000CancelReceive;

static VOID NTAPI E1000CancelReceive(PDEVICE_OBJECT Fdo, PIRP Irp)
{
    const PE1000_ADAPTER Adapter = Fdo->DeviceExtension;
    KIRQL OldIrql;

    IoReleaseCancelSpinLock(Irp->CancelIrql);
    KeAcquireSpinLock(&Adapter->Receive.Lock, &OldIrql);
    RemoveEntryList(&Irp->Tail.Overlay.ListEntry);
    KeReleaseSpinLock(&Adapter->Receive.Lock, OldIrql);
    E1000CompleteIrp(Adapter, Irp, STATUS_CANCELLED, 0);
}

// Serves a request with what has come, or lets it wait. The lock is held; frames that were given back
// are in their place already. STATUS_PENDING: the IRP is no longer the caller's.
static NTSTATUS E1000ServeOrWait(PE1000_ADAPTER Adapter, PE1000_RECEIVE_RING Ring, PIRP Irp,
                                 PLIST_ENTRY Done)
{
    if (!NT_SUCCESS(Ring->Refusal)) {
        return Ring->Refusal;
    }
    if (IsListEmpty(&Ring->Waiting) && E1000FillRequest(Adapter, Ring, Irp)) {
        return Irp->IoStatus.Status;
    }
    IoMarkIrpPending(Irp);
    if (!E1000InsertWaiting(&Ring->Waiting, Irp, E1000CancelReceive)) {
        Irp->IoStatus.Status = STATUS_CANCELLED;
        InsertTailList(Done, &Irp->Tail.Overlay.ListEntry);
    }
    return STATUS_PENDING;
}

// Takes lent frames back. FALSE: one of them is not lent.
static BOOLEAN E1000TakeBack(PE1000_RECEIVE_RING Ring, PNET_FRAME First)
{
    const ULONG_PTR Base = (ULONG_PTR)Ring->Buffers;
    BOOLEAN IsGood = TRUE;

    for (PNET_FRAME Frame = First; Frame != NULL;) {
        const PNET_FRAME Next = Frame->Next;
        const PE1000_BUFFER Buffer = CONTAINING_RECORD(Frame, E1000_BUFFER, Frame);
        if ((ULONG_PTR)Frame - Base >= Ring->BufferCount * sizeof(E1000_BUFFER) ||
            Buffer->State != E1000BufferLent) {
            IsGood = FALSE;
            break; // what it points to may be anything
        }
        E1000PushBuffers(Ring, Buffer);
        Ring->LentCount -= 1;
        Frame = Next;
    }
    return IsGood;
}

NTSTATUS E1000ReceiveFrames(PE1000_ADAPTER Adapter, PIRP Irp)
{
    const PE1000_RECEIVE_RING Ring = &Adapter->Receive;
    const PNET_RECEIVE Receive =
        IoGetCurrentIrpStackLocation(Irp)->Parameters.DeviceIoControl.Type3InputBuffer;
    LIST_ENTRY Done;
    KIRQL OldIrql;

    if (Receive == NULL) {
        return STATUS_INVALID_PARAMETER;
    }
    InitializeListHead(&Done);
    const PNET_FRAME Returned = Receive->Returned;
    Receive->Returned = NULL;
    Receive->Received = NULL;
    Receive->Count = 0;
    Irp->IoStatus.Information = 0;
    KeAcquireSpinLock(&Ring->Lock, &OldIrql);
    NTSTATUS Status = E1000TakeBack(Ring, Returned) ? STATUS_SUCCESS : STATUS_INVALID_PARAMETER;
    if (NT_SUCCESS(Status)) {
        Status = E1000ServeOrWait(Adapter, Ring, Irp, &Done);
    }
    if (!Ring->IsHalted && NT_SUCCESS(Ring->Refusal)) {
        E1000Refill(Adapter, Ring);
    }
    KeReleaseSpinLock(&Ring->Lock, OldIrql);
    E1000CompleteList(Adapter, &Done);
    return Status;
}

NTSTATUS E1000ReturnFrames(PE1000_ADAPTER Adapter, PIRP Irp)
{
    const PE1000_RECEIVE_RING Ring = &Adapter->Receive;
    const PNET_FRAME First =
        IoGetCurrentIrpStackLocation(Irp)->Parameters.DeviceIoControl.Type3InputBuffer;
    KIRQL OldIrql;

    Irp->IoStatus.Information = 0;
    KeAcquireSpinLock(&Ring->Lock, &OldIrql);
    const BOOLEAN IsGood = E1000TakeBack(Ring, First);
    if (!Ring->IsHalted && NT_SUCCESS(Ring->Refusal)) {
        E1000Refill(Adapter, Ring);
    }
    KeReleaseSpinLock(&Ring->Lock, OldIrql);
    return IsGood ? STATUS_SUCCESS : STATUS_INVALID_PARAMETER;
}

// Maps every MDL of a chain, for as long as their owner keeps them. STATUS_BUFFER_TOO_SMALL: they
// describe less.
static NTSTATUS E1000MapChain(PMDL Chain, ULONG ByteCount)
{
    ULONG Described = 0;

    for (PMDL Mdl = Chain; Mdl != NULL && Described < ByteCount; Mdl = Mdl->Next) {
        if (MmGetSystemAddressForMdlSafe(Mdl, NormalPagePriority | MdlMappingNoExecute) == NULL) {
            return STATUS_INSUFFICIENT_RESOURCES;
        }
        Described += MmGetMdlByteCount(Mdl);
    }
    return Described < ByteCount ? STATUS_BUFFER_TOO_SMALL : STATUS_SUCCESS;
}

// The buffer must hold the longest frame, so that no frame is lost for want of room; but for those that
// a later change of the options lets in.
NTSTATUS E1000ReadFrame(PE1000_ADAPTER Adapter, PIRP Irp)
{
    const PE1000_RECEIVE_RING Ring = &Adapter->Receive;
    const ULONG Length = IoGetCurrentIrpStackLocation(Irp)->Parameters.Read.Length;
    LIST_ENTRY Done;
    KIRQL OldIrql;

    Irp->IoStatus.Information = 0;
    if (Length < Adapter->Options.MaximumFrameBytes) {
        return STATUS_BUFFER_TOO_SMALL;
    }
    NTSTATUS Status = E1000MapChain(Irp->MdlAddress, Length);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    InitializeListHead(&Done);
    KeAcquireSpinLock(&Ring->Lock, &OldIrql);
    Status = E1000ServeOrWait(Adapter, Ring, Irp, &Done);
    if (!Ring->IsHalted && NT_SUCCESS(Ring->Refusal)) {
        E1000Refill(Adapter, Ring);
    }
    KeReleaseSpinLock(&Ring->Lock, OldIrql);
    E1000CompleteList(Adapter, &Done);
    return Status;
}

// -------------------------------------------------------------------------------------------------
// What the interrupt, the watchdog and PnP ask for.

// Serves the first in line, which may be being cancelled: then it is forgotten. FALSE: nothing more to
// do.
static BOOLEAN E1000ServeFirst(PE1000_ADAPTER Adapter, PE1000_RECEIVE_RING Ring, PLIST_ENTRY Done)
{
    if (Ring->IsHalted || IsListEmpty(&Ring->Waiting) || Ring->EmptyCount == Ring->Count ||
        !(Ring->Descriptors[Ring->Next].Result & E1000_RECEIVE_DD)) {
        return FALSE;
    }
    const PIRP Irp = CONTAINING_RECORD(Ring->Waiting.Flink, IRP, Tail.Overlay.ListEntry);
    if (IoSetCancelRoutine(Irp, NULL) == NULL) {
        RemoveEntryList(&Irp->Tail.Overlay.ListEntry);
        InitializeListHead(&Irp->Tail.Overlay.ListEntry);
        return TRUE;
    }
    RemoveEntryList(&Irp->Tail.Overlay.ListEntry);
    if (E1000FillRequest(Adapter, Ring, Irp)) {
        InsertTailList(Done, &Irp->Tail.Overlay.ListEntry);
        return TRUE;
    }
    // All that had come was dropped. Its turn stays the first.
    if (!E1000InsertWaiting(&Ring->Waiting, Irp, E1000CancelReceive)) {
        Irp->IoStatus.Status = STATUS_CANCELLED;
        InsertTailList(Done, &Irp->Tail.Overlay.ListEntry);
        return TRUE;
    }
    RemoveEntryList(&Irp->Tail.Overlay.ListEntry);
    InsertHeadList(&Ring->Waiting, &Irp->Tail.Overlay.ListEntry);
    return TRUE;
}

VOID E1000ServiceReceive(PE1000_ADAPTER Adapter)
{
    const PE1000_RECEIVE_RING Ring = &Adapter->Receive;
    LIST_ENTRY Done;
    KIRQL OldIrql;

    InitializeListHead(&Done);
    KeAcquireSpinLock(&Ring->Lock, &OldIrql);
    BOOLEAN HasServed = FALSE;
    while (E1000ServeFirst(Adapter, Ring, &Done)) {
        HasServed = TRUE;
    }
    if (HasServed) {
        E1000Refill(Adapter, Ring);
    }
    KeReleaseSpinLock(&Ring->Lock, OldIrql);
    E1000CompleteList(Adapter, &Done);
}

BOOLEAN E1000HasReceiveWork(PE1000_ADAPTER Adapter)
{
    const PE1000_RECEIVE_RING Ring = &Adapter->Receive;
    KIRQL OldIrql;

    KeAcquireSpinLock(&Ring->Lock, &OldIrql);
    const BOOLEAN HasWork = !Ring->IsHalted && !IsListEmpty(&Ring->Waiting) &&
                            Ring->EmptyCount < Ring->Count &&
                            (Ring->Descriptors[Ring->Next].Result & E1000_RECEIVE_DD) != 0;
    KeReleaseSpinLock(&Ring->Lock, OldIrql);
    return HasWork;
}

VOID E1000SetReceiveRefusal(PE1000_ADAPTER Adapter, NTSTATUS Refusal)
{
    const PE1000_RECEIVE_RING Ring = &Adapter->Receive;
    LIST_ENTRY Done;
    KIRQL OldIrql;

    InitializeListHead(&Done);
    KeAcquireSpinLock(&Ring->Lock, &OldIrql);
    Ring->Refusal = Refusal;
    for (PIRP Irp = NT_SUCCESS(Refusal) ? NULL : E1000RemoveWaiting(&Ring->Waiting); Irp != NULL;
         Irp = E1000RemoveWaiting(&Ring->Waiting)) {
        Irp->IoStatus.Status = Refusal;
        Irp->IoStatus.Information = 0;
        InsertTailList(&Done, &Irp->Tail.Overlay.ListEntry);
    }
    KeReleaseSpinLock(&Ring->Lock, OldIrql);
    E1000CompleteList(Adapter, &Done);
}

VOID E1000HaltReceive(PE1000_ADAPTER Adapter, BOOLEAN IsHalted)
{
    KIRQL OldIrql;

    KeAcquireSpinLock(&Adapter->Receive.Lock, &OldIrql);
    Adapter->Receive.IsHalted = IsHalted;
    KeReleaseSpinLock(&Adapter->Receive.Lock, OldIrql);
}

const E1000_BUFFER *E1000FindLentBuffer(const E1000_RECEIVE_RING *Ring, const MDL *Mdl)
{
    const E1000_BUFFER *const Buffer = CONTAINING_RECORD(Mdl, E1000_BUFFER, Mdl);
    const ULONG_PTR Offset = (ULONG_PTR)Buffer - (ULONG_PTR)Ring->Buffers;

    return Offset < Ring->BufferCount * sizeof(E1000_BUFFER) && Offset % sizeof(E1000_BUFFER) == 0
               ? Buffer
               : NULL;
}
