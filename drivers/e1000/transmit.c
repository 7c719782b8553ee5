// The transmit ring.
//
//      clean                next (what was rung: TDT)
//        v                   v
//   +----+----+----+----+----+----+----+----+
//   |  b   b    b |  b    b  |    |    |    |     b: descriptors of a batch, the card's
//   +----+----+----+----+----+----+----+----+
//
// A request's frames go into the ring in batches: as many at a time as fit, E1000_BATCH_FRAMES at most.
// Only the last descriptor of a batch reports, so that looking at one "done" bit takes back all of it.
// A frame becomes descriptors in one of three ways:
//   copied  to the slot of its descriptor, when it is short, and mapped already: cheaper than mapping
//   lent    a receive buffer of ours that comes back: its logical address is known
//   mapped  straight from its pages, by a scatter-gather list
//
// Invariants:
//   T1  The card owns [head, tail); the driver writes no descriptor in [Clean, Rung).
//   T2  A request is in Waiting while frames of it are left, unless its cancel routine has been taken
//       away. Whoever is to put or end these frames has one hold on the request, each batch another;
//       it is completed when the last hold goes.
//   T3  Frame.Status of a frame in a batch is STATUS_SUCCESS, or why it was not put into the ring.
//   T4  The card gets logical addresses only, and a frame's pages stay mapped until the card has
//       reported the batch, or can't reach them any more.
// QEMU sends while TDT is written, and reports at once; so the oldest batch is looked at right after.
// It sends short frames as they are: they are padded here. With the link down it drops frames, and says
// that they are done.
// Lock: the ring's. IRPs are completed after it is released.
#include "e1000.h"

#define E1000_BATCH_FRAMES 64u
#define E1000_SMALL_AREA_PAGES 8u
#define E1000_LARGE_AREA_PAGES 128u

#define E1000_FRAME_COMMAND (E1000_TRANSMIT_EOP | E1000_TRANSMIT_IFCS)

// -------------------------------------------------------------------------------------------------
// A request's state, in Tail.Overlay.DriverContext (T2). Its status block adds up the result.

static PNET_FRAME E1000NextFrame(const IRP *Irp)
{
    return Irp->Tail.Overlay.DriverContext[0];
}

static VOID E1000SetNextFrame(PIRP Irp, PNET_FRAME Frame)
{
    Irp->Tail.Overlay.DriverContext[0] = Frame;
}

// Counts holds; the count is not a pointer, whatever the field's type says.
static ULONG_PTR E1000AddHolds(PIRP Irp, LONG Count)
{
    const ULONG_PTR Holds =
        (ULONG_PTR)Irp->Tail.Overlay.DriverContext[1] + (ULONG_PTR)(LONG_PTR)Count;

    Irp->Tail.Overlay.DriverContext[1] = (PVOID)Holds;
    return Holds;
}

// What a write made for its frame goes, and its result is that of the frame.
static VOID E1000FinishWrite(PIRP Irp)
{
    const PNET_FRAME Frame = Irp->Tail.Overlay.DriverContext[2];

    Irp->IoStatus.Status = Frame->Status;
    Irp->IoStatus.Information = NT_SUCCESS(Frame->Status) ? Frame->ByteCount : 0;
    ExFreePoolWithTag(Frame, E1000_TAG);
}

// The last hold moves the request to Done.
static VOID E1000ReleaseSend(PIRP Irp, PLIST_ENTRY Done)
{
    if (E1000AddHolds(Irp, -1) != 0) {
        return;
    }
    if (Irp->Tail.Overlay.DriverContext[2] != NULL) {
        E1000FinishWrite(Irp);
    }
    InsertTailList(Done, &Irp->Tail.Overlay.ListEntry);
}

static VOID E1000NoteRefusal(PE1000_TRANSMIT_RING Ring, PIRP Irp, PNET_FRAME Frame, NTSTATUS Status)
{
    Frame->Status = Status;
    Ring->Counters.Refused += 1;
    if (NT_SUCCESS(Irp->IoStatus.Status)) {
        Irp->IoStatus.Status = Status;
    }
}

// Ends all frames of a request that the card has not got.
static VOID E1000RefuseFrames(PE1000_TRANSMIT_RING Ring, PIRP Irp, NTSTATUS Status)
{
    for (PNET_FRAME Frame = E1000NextFrame(Irp); Frame != NULL; Frame = Frame->Next) {
        E1000NoteRefusal(Ring, Irp, Frame, Status);
    }
    E1000SetNextFrame(Irp, NULL);
}

// -------------------------------------------------------------------------------------------------
// Descriptors.

static VOID E1000PutDescriptor(PE1000_TRANSMIT_RING Ring, ULONG64 First, ULONG64 Second)
{
    volatile E1000_TRANSMIT_DESCRIPTOR *const Descriptor = &Ring->Descriptors[Ring->Next];

    Descriptor->BufferAddress = First;
    Descriptor->Command = Second;
    Ring->Next = Ring->Next + 1 == Ring->Count ? 0 : Ring->Next + 1;
    Ring->FreeCount -= 1;
}

static ULONG E1000LastPut(const E1000_TRANSMIT_RING *Ring)
{
    return (Ring->Next == 0 ? Ring->Count : Ring->Next) - 1;
}

static VOID E1000PutPiece(PE1000_TRANSMIT_RING Ring, ULONG64 Address, ULONG ByteCount,
                          ULONG64 Command)
{
    for (ULONG Offset = 0; Offset < ByteCount;) {
        const ULONG Left = ByteCount - Offset;
        const ULONG Bytes = Left < E1000_PIECE_BYTES ? Left : E1000_PIECE_BYTES;
        E1000PutDescriptor(Ring, Address + Offset, Command | Bytes);
        Offset += Bytes;
    }
}

// Tells the card of everything that was put, by one register write.
static VOID E1000RingDoorbell(const E1000_ADAPTER *Adapter, PE1000_TRANSMIT_RING Ring)
{
    if (Ring->Rung != Ring->Next) {
        Ring->Rung = Ring->Next;
        Ring->Counters.Doorbells += 1;
        KeMemoryBarrierWithoutFence(); // [x64] a store to UC memory waits for all before it
        E1000WriteRegister(Adapter, E1000_TDT, Ring->Next);
    }
}

// -------------------------------------------------------------------------------------------------
// Copied frames.

// The bytes of a frame that may be copied; NULL: it is too long, or lies in several MDLs, or nowhere.
static const UCHAR *E1000CopySource(const E1000_TRANSMIT_RING *Ring, const NET_FRAME *Frame)
{
    const MDL *const Mdl = Frame->Mdl;

    if (Frame->ByteCount > Ring->CopyBytes || Frame->ByteCount < NET_ETHERNET_HEADER_BYTES ||
        Mdl == NULL ||
        (Mdl->MdlFlags & (MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL)) == 0 ||
        Mdl->ByteCount < (ULONG64)Frame->Offset + Frame->ByteCount) {
        return NULL;
    }
    return (const UCHAR *)Mdl->MappedSystemVa + Frame->Offset;
}

// Copies 16 bytes at a time; the last 16 may overlap those before.
static VOID E1000CopyBytes(PUCHAR Target, const UCHAR *Source, ULONG ByteCount)
{
    const ULONG Step = 16;

    if (ByteCount < Step) {
        RtlCopyMemory(Target, Source, ByteCount);
        return;
    }
    for (ULONG Offset = 0; Offset < ByteCount - Step; Offset += Step) {
        __builtin_memcpy(Target + Offset, Source + Offset, 16);
    }
    __builtin_memcpy(Target + ByteCount - Step, Source + ByteCount - Step, 16);
}

// Returns how many bytes are to be sent: with zeros at the end, if the frame is too short.
static ULONG E1000CopyToSlot(PUCHAR Slot, const UCHAR *Source, ULONG ByteCount)
{
    E1000CopyBytes(Slot, Source, ByteCount);
    if (ByteCount >= E1000_LEAST_FRAME_BYTES) {
        return ByteCount;
    }
    RtlZeroMemory(Slot + ByteCount, E1000_LEAST_FRAME_BYTES - ByteCount);
    return E1000_LEAST_FRAME_BYTES;
}

C_ASSERT(E1000_SLOT_BYTES >= E1000_LEAST_FRAME_BYTES);

// Room for a descriptor was checked.
static VOID E1000PutCopy(PE1000_TRANSMIT_RING Ring, PNET_FRAME Frame, const UCHAR *Source,
                         ULONG64 Command)
{
    const ULONG Offset = Ring->Next * E1000_SLOT_BYTES;
    const ULONG Bytes = E1000CopyToSlot(Ring->Slots + Offset, Source, Frame->ByteCount);

    E1000PutDescriptor(Ring, Ring->SlotsAddress + Offset, Command | Bytes);
    Ring->Counters.Copied += 1;
    Frame->Reserved[0] = NULL;
}

// -------------------------------------------------------------------------------------------------
// Frames that are not copied.

// How many descriptors a frame's bytes can need, at most: one for each page that they lie in. 0: the
// MDLs describe less.
static ULONG E1000CountPages(const NET_FRAME *Frame)
{
    ULONG Offset = Frame->Offset;
    ULONG Left = Frame->ByteCount;
    ULONG PageCount = 0;

    for (const MDL *Mdl = Frame->Mdl; Mdl != NULL && Left > 0; Mdl = Mdl->Next) {
        if (Offset >= Mdl->ByteCount) {
            Offset -= Mdl->ByteCount;
            continue;
        }
        const ULONG Room = Mdl->ByteCount - Offset;
        const ULONG Bytes = Left < Room ? Left : Room;
        PageCount += ADDRESS_AND_SIZE_TO_SPAN_PAGES(
            (PVOID)(ULONG_PTR)BYTE_OFFSET(Mdl->ByteOffset + Offset), Bytes);
        Left -= Bytes;
        Offset = 0;
    }
    return Left == 0 ? PageCount : 0;
}

// The parts of a frame that is lent: each MDL is that of a buffer of ours.
static NTSTATUS E1000PutLent(const E1000_ADAPTER *Adapter, PE1000_TRANSMIT_RING Ring,
                             const NET_FRAME *Frame, ULONG64 Command)
{
    ULONG Offset = Frame->Offset;
    ULONG Left = Frame->ByteCount;

    for (const MDL *Mdl = Frame->Mdl; Mdl != NULL; Mdl = Mdl->Next) {
        if (E1000FindLentBuffer(&Adapter->Receive, Mdl) == NULL) {
            return STATUS_INVALID_PARAMETER;
        }
    }
    for (const MDL *Mdl = Frame->Mdl; Left > 0; Mdl = Mdl->Next) {
        if (Offset >= Mdl->ByteCount) {
            Offset -= Mdl->ByteCount;
            continue;
        }
        const ULONG Room = Mdl->ByteCount - Offset;
        const ULONG Bytes = Left < Room ? Left : Room;
        const E1000_BUFFER *const Buffer = E1000FindLentBuffer(&Adapter->Receive, Mdl);
        E1000PutPiece(Ring, Buffer->Address + Offset, Bytes, Command);
        Left -= Bytes;
        Offset = 0;
    }
    return STATUS_SUCCESS;
}

static PE1000_LIST_AREA E1000TakeArea(PE1000_TRANSMIT_RING Ring, ULONG PageCount)
{
    PE1000_LIST_AREA *const Stack =
        PageCount <= E1000_SMALL_AREA_PAGES ? &Ring->SmallAreas : &Ring->LargeAreas;
    const PE1000_LIST_AREA Area = *Stack;

    if (Area != NULL) {
        *Stack = Area->Next;
        Ring->MappedCount += 1;
    }
    return Area;
}

static VOID E1000PutBackArea(PE1000_TRANSMIT_RING Ring, PE1000_LIST_AREA Area)
{
    PE1000_LIST_AREA *const Stack = Area->IsLarge ? &Ring->LargeAreas : &Ring->SmallAreas;

    Area->Next = *Stack;
    *Stack = Area;
    Ring->MappedCount -= 1;
}

static NTSTATUS E1000MapFrame(const E1000_ADAPTER *Adapter, const NET_FRAME *Frame,
                              PE1000_LIST_AREA Area)
{
    const PDMA_OPERATIONS Operations = Adapter->Dma->DmaOperations;
    const ULONG AreaBytes = Area->IsLarge ? E1000_LARGE_AREA_BYTES : E1000_SMALL_AREA_BYTES;

    const NTSTATUS Status =
        Operations->InitializeDmaTransferContext(Adapter->Dma, Area->TransferContext);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    return Operations->BuildScatterGatherListEx(
        Adapter->Dma, Adapter->Fdo, Area->TransferContext, Frame->Mdl, Frame->Offset,
        Frame->ByteCount, DMA_SYNCHRONOUS_CALLBACK, NULL, NULL, TRUE, Area->Memory,
        AreaBytes - FIELD_OFFSET(E1000_LIST_AREA, Memory), NULL, NULL, &Area->List);
}

// STATUS_DEVICE_BUSY: not now, but when others are done.
static NTSTATUS E1000PutMapped(const E1000_ADAPTER *Adapter, PE1000_TRANSMIT_RING Ring,
                               PNET_FRAME Frame, ULONG PageCount, ULONG64 Command)
{
    if (PageCount > E1000_LARGE_AREA_PAGES) {
        return STATUS_INVALID_PARAMETER;
    }
    const PE1000_LIST_AREA Area = E1000TakeArea(Ring, PageCount);
    if (Area == NULL) {
        return STATUS_DEVICE_BUSY;
    }
    const NTSTATUS Status = E1000MapFrame(Adapter, Frame, Area);
    if (!NT_SUCCESS(Status)) {
        E1000PutBackArea(Ring, Area);
        return Ring->MappedCount > 0 ? STATUS_DEVICE_BUSY : Status;
    }
    for (ULONG Index = 0; Index < Area->List->NumberOfElements; Index += 1) {
        const SCATTER_GATHER_ELEMENT *const Element = &Area->List->Elements[Index];
        E1000PutPiece(Ring, (ULONG64)Element->Address.QuadPart, Element->Length, Command);
    }
    Frame->Reserved[0] = Area;
    return STATUS_SUCCESS;
}

static VOID E1000UnmapFrame(const E1000_ADAPTER *Adapter, PE1000_TRANSMIT_RING Ring,
                            PNET_FRAME Frame)
{
    const PE1000_LIST_AREA Area = Frame->Reserved[0];

    if (!(Frame->Flags & NET_FRAME_LENT) && Area != NULL) {
        Adapter->Dma->DmaOperations->PutScatterGatherList(Adapter->Dma, Area->List, TRUE);
        E1000PutBackArea(Ring, Area);
        Frame->Reserved[0] = NULL;
    }
}

// A context descriptor, unless the card still has the same.
static VOID E1000PutContext(PE1000_TRANSMIT_RING Ring, const E1000_OFFLOAD *Offload)
{
    const BOOLEAN IsSegmented = (Offload->ContextCommand & E1000_TRANSMIT_TSE) != 0;

    if (!IsSegmented && Offload->ContextPlaces == Ring->ContextPlaces &&
        Offload->ContextCommand == Ring->ContextCommand) {
        return;
    }
    E1000PutDescriptor(Ring, Offload->ContextPlaces, Offload->ContextCommand);
    Ring->ContextPlaces = IsSegmented ? 0 : Offload->ContextPlaces;
    Ring->ContextCommand = IsSegmented ? 0 : Offload->ContextCommand;
}

// What can be said of a frame before anything is done.
static NTSTATUS E1000CheckFrame(const E1000_TRANSMIT_RING *Ring, const NET_FRAME *Frame)
{
    const ULONG Limit =
        Frame->Flags & NET_FRAME_SEGMENT ? E1000_SEGMENTED_BYTES : Ring->MaximumBytes;

    if (Frame->ByteCount > Limit) {
        return STATUS_INVALID_BUFFER_SIZE;
    }
    return Frame->ByteCount < NET_ETHERNET_HEADER_BYTES || Frame->Mdl == NULL
               ? STATUS_INVALID_PARAMETER
               : STATUS_SUCCESS;
}

// Puts a frame of any kind into the ring. STATUS_DEVICE_BUSY: there is no room now. Any other failure is
// the frame's; the ring is as it was.
static NTSTATUS E1000PutFrame(const E1000_ADAPTER *Adapter, PE1000_TRANSMIT_RING Ring,
                              PNET_FRAME Frame)
{
    E1000_OFFLOAD Offload;

    NTSTATUS Status = E1000CheckFrame(Ring, Frame);
    if (NT_SUCCESS(Status)) {
        Status = E1000PlanOffload(Frame, Ring->MaximumBytes, Ring->InsertsTags, &Offload);
    }
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    const ULONG PageCount = E1000CountPages(Frame);
    const ULONG Need = PageCount + 2; // context, padding
    if (PageCount == 0 || Need >= Ring->Count) {
        return PageCount == 0 ? STATUS_BUFFER_TOO_SMALL : STATUS_INVALID_PARAMETER;
    }
    if (Ring->FreeCount < Need) {
        return STATUS_DEVICE_BUSY;
    }
    const ULONG Next = Ring->Next;
    const ULONG FreeCount = Ring->FreeCount;
    const ULONG64 Places = Ring->ContextPlaces;
    const ULONG64 Command = Ring->ContextCommand;
    if (Offload.HasContext) {
        E1000PutContext(Ring, &Offload);
    }
    // Padding would become payload of a segment.
    const BOOLEAN IsSegmented = (Frame->Flags & NET_FRAME_SEGMENT) != 0;
    const UCHAR *const Source = IsSegmented ? NULL : E1000CopySource(Ring, Frame);
    if (Source != NULL) {
        E1000PutCopy(Ring, Frame, Source, Offload.DataCommand);
    } else if (Frame->Flags & NET_FRAME_LENT) {
        Status = E1000PutLent(Adapter, Ring, Frame, Offload.DataCommand);
    } else {
        Status = E1000PutMapped(Adapter, Ring, Frame, PageCount, Offload.DataCommand);
    }
    if (!NT_SUCCESS(Status)) {
        Ring->Next = Next;
        Ring->FreeCount = FreeCount;
        Ring->ContextPlaces = Places;
        Ring->ContextCommand = Command;
        return Status;
    }
    if (Source == NULL && !IsSegmented && Frame->ByteCount < E1000_LEAST_FRAME_BYTES) {
        E1000PutPiece(Ring, Ring->ZerosAddress, E1000_LEAST_FRAME_BYTES - Frame->ByteCount,
                      Offload.DataCommand);
    }
    Ring->Descriptors[E1000LastPut(Ring)].Command |= E1000_TRANSMIT_EOP;
    return STATUS_SUCCESS;
}

// -------------------------------------------------------------------------------------------------
// Batches.

// Puts frames into the ring until one of them has no room, or there are enough for a batch. FALSE: no
// room. Batch->HasMappings, First and FrameCount are filled in.
static BOOLEAN E1000FillBatch(const E1000_ADAPTER *Adapter, PE1000_TRANSMIT_RING Ring, PIRP Irp,
                              PE1000_BATCH Batch)
{
    PNET_FRAME Frame = E1000NextFrame(Irp);
    ULONG Seen = 0;
    ULONG Sent = 0;
    ULONG64 Bytes = 0;
    BOOLEAN HasRoom = TRUE;

    Batch->First = Frame;
    Batch->HasMappings = FALSE;
    for (; Frame != NULL && Seen < E1000_BATCH_FRAMES; Frame = Frame->Next) {
        const UCHAR *const Source =
            (Frame->Flags & ~(ULONG)NET_FRAME_LENT) == 0 ? E1000CopySource(Ring, Frame) : NULL;
        if (Source != NULL && Ring->FreeCount != 0) {
            E1000PutCopy(Ring, Frame, Source, E1000_FRAME_COMMAND);
        } else {
            const NTSTATUS Status = E1000PutFrame(Adapter, Ring, Frame);
            if (Status == STATUS_DEVICE_BUSY) {
                HasRoom = FALSE;
                break;
            }
            Batch->HasMappings = TRUE;
            if (!NT_SUCCESS(Status)) {
                Frame->Reserved[0] = NULL;
                E1000NoteRefusal(Ring, Irp, Frame, Status);
                Seen += 1;
                continue;
            }
        }
        Frame->Status = STATUS_SUCCESS;
        Bytes += Frame->ByteCount;
        Sent += 1;
        Seen += 1;
    }
    Batch->FrameCount = Seen;
    Irp->IoStatus.Information += Sent;
    Ring->Counters.Frames += Sent;
    Ring->Counters.Bytes += Bytes;
    E1000SetNextFrame(Irp, Frame);
    return HasRoom;
}

// Gives the card as many of a request's frames as fit. The doorbell is the caller's.
static VOID E1000PutFrames(const E1000_ADAPTER *Adapter, PE1000_TRANSMIT_RING Ring, PIRP Irp)
{
    BOOLEAN HasRoom = TRUE;

    if (!Ring->IsLinkUp) {
        E1000RefuseFrames(Ring, Irp, STATUS_NETWORK_UNREACHABLE);
    }
    while (HasRoom && E1000NextFrame(Irp) != NULL) {
        const ULONG First = Ring->Next;
        const PE1000_BATCH Batch = &Ring->Batches[First];
        HasRoom = E1000FillBatch(Adapter, Ring, Irp, Batch);
        if (Ring->Next != First) {
            Batch->Irp = Irp;
            Batch->Last = E1000LastPut(Ring);
            Ring->Descriptors[Batch->Last].Command |= E1000_TRANSMIT_RS;
            (VOID) E1000AddHolds(Irp, 1);
        }
    }
}

// Takes the oldest batch out of the ring: its frames end with Status.
static VOID E1000EndBatch(const E1000_ADAPTER *Adapter, PE1000_TRANSMIT_RING Ring, NTSTATUS Status,
                          PLIST_ENTRY Done)
{
    const PE1000_BATCH Batch = &Ring->Batches[Ring->Clean];
    const ULONG End = Batch->Last + 1 == Ring->Count ? 0 : Batch->Last + 1;

    if (Batch->HasMappings || !NT_SUCCESS(Status)) {
        PNET_FRAME Frame = Batch->First;
        for (ULONG Index = 0; Index < Batch->FrameCount; Index += 1) {
            E1000UnmapFrame(Adapter, Ring, Frame);
            if (!NT_SUCCESS(Status) && NT_SUCCESS(Frame->Status)) {
                E1000NoteRefusal(Ring, Batch->Irp, Frame, Status);
                Batch->Irp->IoStatus.Information -= 1;
                Ring->Counters.Frames -= 1;
                Ring->Counters.Bytes -= Frame->ByteCount;
            }
            Frame = Frame->Next;
        }
    }
    Ring->FreeCount += End > Ring->Clean ? End - Ring->Clean : End + Ring->Count - Ring->Clean;
    Ring->Clean = End;
    Ring->ReapedCount += 1;
    E1000ReleaseSend(Batch->Irp, Done);
}

static VOID E1000Reap(const E1000_ADAPTER *Adapter, PE1000_TRANSMIT_RING Ring, PLIST_ENTRY Done)
{
    while (Ring->Clean != Ring->Next &&
           (Ring->Descriptors[Ring->Batches[Ring->Clean].Last].Command & E1000_TRANSMIT_DD) != 0) {
        KeMemoryBarrierWithoutFence();
        E1000EndBatch(Adapter, Ring, STATUS_SUCCESS, Done);
    }
}

// -------------------------------------------------------------------------------------------------
// Requests that wait.

static DRIVER_CANCEL E1000CancelSend;

static VOID NTAPI E1000CancelSend(PDEVICE_OBJECT Fdo, PIRP Irp)
{
    const PE1000_ADAPTER Adapter = Fdo->DeviceExtension;
    LIST_ENTRY Done;
    KIRQL OldIrql;

    IoReleaseCancelSpinLock(Irp->CancelIrql);
    InitializeListHead(&Done);
    KeAcquireSpinLock(&Adapter->Transmit.Lock, &OldIrql);
    RemoveEntryList(&Irp->Tail.Overlay.ListEntry);
    E1000RefuseFrames(&Adapter->Transmit, Irp, STATUS_CANCELLED);
    E1000ReleaseSend(Irp, &Done);
    KeReleaseSpinLock(&Adapter->Transmit.Lock, OldIrql);
    E1000CompleteList(Adapter, &Done);
}

// The caller's hold goes to the queue, or, when no frame is left, away.
static VOID E1000WaitOrRelease(PE1000_TRANSMIT_RING Ring, PIRP Irp, BOOLEAN IsFirst,
                               PLIST_ENTRY Done)
{
    if (E1000NextFrame(Irp) != NULL) {
        if (E1000InsertWaiting(&Ring->Waiting, Irp, E1000CancelSend)) {
            if (IsFirst) {
                RemoveEntryList(&Irp->Tail.Overlay.ListEntry);
                InsertHeadList(&Ring->Waiting, &Irp->Tail.Overlay.ListEntry);
            }
            return;
        }
        E1000RefuseFrames(Ring, Irp, STATUS_CANCELLED);
    }
    E1000ReleaseSend(Irp, Done);
}

// Goes on with those that wait, while there is room.
static VOID E1000PutWaiting(const E1000_ADAPTER *Adapter, PE1000_TRANSMIT_RING Ring,
                            PLIST_ENTRY Done)
{
    while (!Ring->IsHalted && !IsListEmpty(&Ring->Waiting)) {
        const PIRP Irp = E1000RemoveWaiting(&Ring->Waiting);
        if (Irp == NULL) {
            return;
        }
        E1000PutFrames(Adapter, Ring, Irp);
        const BOOLEAN IsFull = E1000NextFrame(Irp) != NULL;
        E1000WaitOrRelease(Ring, Irp, TRUE, Done);
        if (IsFull) {
            return;
        }
    }
}

// Everything that is to be done with the lock held: takes back, puts what waits, tells the card, and
// looks whether it is done already, until nothing moves.
static VOID E1000Advance(const E1000_ADAPTER *Adapter, PE1000_TRANSMIT_RING Ring, PLIST_ENTRY Done)
{
    do {
        E1000Reap(Adapter, Ring, Done);
        E1000PutWaiting(Adapter, Ring, Done);
        E1000RingDoorbell(Adapter, Ring);
    } while (Ring->Clean != Ring->Next && !IsListEmpty(&Ring->Waiting) && !Ring->IsHalted &&
             (Ring->Descriptors[Ring->Batches[Ring->Clean].Last].Command & E1000_TRANSMIT_DD) != 0);
}

static NTSTATUS E1000Submit(PE1000_ADAPTER Adapter, PIRP Irp, PNET_FRAME First)
{
    const PE1000_TRANSMIT_RING Ring = &Adapter->Transmit;
    LIST_ENTRY Done;
    KIRQL OldIrql;

    InitializeListHead(&Done);
    IoMarkIrpPending(Irp);
    Irp->IoStatus.Status = STATUS_SUCCESS;
    Irp->IoStatus.Information = 0;
    E1000SetNextFrame(Irp, First);
    Irp->Tail.Overlay.DriverContext[1] = NULL;
    (VOID) E1000AddHolds(Irp, 1); // the submitter's (T2)
    KeAcquireSpinLock(&Ring->Lock, &OldIrql);
    if (!NT_SUCCESS(Ring->Refusal)) {
        E1000RefuseFrames(Ring, Irp, Ring->Refusal);
    } else if (!Ring->IsHalted && IsListEmpty(&Ring->Waiting)) {
        E1000PutFrames(Adapter, Ring, Irp);
        E1000RingDoorbell(Adapter, Ring);
    }
    E1000WaitOrRelease(Ring, Irp, FALSE, &Done);
    if (NT_SUCCESS(Ring->Refusal)) {
        E1000Advance(Adapter, Ring, &Done);
    }
    KeReleaseSpinLock(&Ring->Lock, OldIrql);
    E1000CompleteList(Adapter, &Done);
    return STATUS_PENDING;
}

NTSTATUS E1000SendFrames(PE1000_ADAPTER Adapter, PIRP Irp)
{
    const PNET_FRAME First =
        IoGetCurrentIrpStackLocation(Irp)->Parameters.DeviceIoControl.Type3InputBuffer;

    if (First == NULL) {
        Irp->IoStatus.Information = 0;
        return STATUS_INVALID_PARAMETER;
    }
    Irp->Tail.Overlay.DriverContext[2] = NULL;
    return E1000Submit(Adapter, Irp, First);
}

NTSTATUS E1000WriteFrame(PE1000_ADAPTER Adapter, PIRP Irp)
{
    const PNET_FRAME Frame = ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(NET_FRAME), E1000_TAG);

    Irp->IoStatus.Information = 0;
    if (Frame == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    Frame->Mdl = Irp->MdlAddress;
    Frame->ByteCount = IoGetCurrentIrpStackLocation(Irp)->Parameters.Write.Length;
    Irp->Tail.Overlay.DriverContext[2] = Frame;
    return E1000Submit(Adapter, Irp, Frame);
}

// -------------------------------------------------------------------------------------------------
// What the interrupt, the watchdog and PnP ask for.

VOID E1000ServiceTransmit(PE1000_ADAPTER Adapter)
{
    LIST_ENTRY Done;
    KIRQL OldIrql;

    InitializeListHead(&Done);
    KeAcquireSpinLock(&Adapter->Transmit.Lock, &OldIrql);
    if (NT_SUCCESS(Adapter->Transmit.Refusal)) {
        E1000Advance(Adapter, &Adapter->Transmit, &Done);
    }
    KeReleaseSpinLock(&Adapter->Transmit.Lock, OldIrql);
    E1000CompleteList(Adapter, &Done);
}

VOID E1000ResetTransmit(PE1000_ADAPTER Adapter)
{
    const PE1000_TRANSMIT_RING Ring = &Adapter->Transmit;
    KIRQL OldIrql;

    KeAcquireSpinLock(&Ring->Lock, &OldIrql);
    Ring->Next = Ring->Rung = Ring->Clean = 0;
    Ring->FreeCount = Ring->Count - 1;
    Ring->ContextPlaces = Ring->ContextCommand = 0;
    Ring->CopyBytes = Adapter->Options.CopyBytes;
    Ring->MaximumBytes = Adapter->Options.MaximumFrameBytes;
    Ring->InsertsTags = (Adapter->Vlan.Flags & NET_VLAN_STRIP) != 0;
    KeReleaseSpinLock(&Ring->Lock, OldIrql);
}

VOID E1000SetTransmitRefusal(PE1000_ADAPTER Adapter, NTSTATUS Refusal)
{
    const PE1000_TRANSMIT_RING Ring = &Adapter->Transmit;
    LIST_ENTRY Done;
    KIRQL OldIrql;

    InitializeListHead(&Done);
    KeAcquireSpinLock(&Ring->Lock, &OldIrql);
    Ring->Refusal = Refusal;
    for (PIRP Irp = NT_SUCCESS(Refusal) ? NULL : E1000RemoveWaiting(&Ring->Waiting); Irp != NULL;
         Irp = E1000RemoveWaiting(&Ring->Waiting)) {
        E1000RefuseFrames(Ring, Irp, Refusal);
        E1000ReleaseSend(Irp, &Done);
    }
    KeReleaseSpinLock(&Ring->Lock, OldIrql);
    E1000CompleteList(Adapter, &Done);
}

VOID E1000HaltTransmit(PE1000_ADAPTER Adapter, BOOLEAN IsHalted)
{
    KIRQL OldIrql;

    KeAcquireSpinLock(&Adapter->Transmit.Lock, &OldIrql);
    Adapter->Transmit.IsHalted = IsHalted;
    KeReleaseSpinLock(&Adapter->Transmit.Lock, OldIrql);
    if (!IsHalted) {
        E1000ServiceTransmit(Adapter);
    }
}

VOID E1000EndTransmit(PE1000_ADAPTER Adapter, NTSTATUS Status)
{
    const PE1000_TRANSMIT_RING Ring = &Adapter->Transmit;
    LIST_ENTRY Done;
    KIRQL OldIrql;

    InitializeListHead(&Done);
    KeAcquireSpinLock(&Ring->Lock, &OldIrql);
    E1000Reap(Adapter, Ring, &Done);
    while (Ring->Clean != Ring->Next) {
        E1000EndBatch(Adapter, Ring, Status, &Done);
    }
    KeReleaseSpinLock(&Ring->Lock, OldIrql);
    E1000CompleteList(Adapter, &Done);
}

VOID E1000DrainTransmit(PE1000_ADAPTER Adapter, ULONG Milliseconds)
{
    const E1000_DEADLINE Deadline = E1000StartDeadline(Milliseconds);

    while (*(volatile ULONG *)&Adapter->Transmit.Clean != Adapter->Transmit.Next &&
           !E1000IsDeadlineOver(Deadline)) {
        E1000ServiceTransmit(Adapter);
        E1000Sleep(1);
    }
}
