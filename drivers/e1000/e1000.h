// The e1000 driver's own state. See e1000.c for the life of an adapter, transmit.c and receive.c for the
// rings, recover.c for what happens when the card does not do what it should.
#pragma once

#include <wdm.h>
#include <ntddnet.h>

#include "e1000spec.h"

#define E1000_TAG '01eE'

#define E1000_MINIMUM_RING_COUNT 64u // descriptors
#define E1000_MAXIMUM_RING_COUNT 4096u
#define E1000_RING_COUNT_UNIT 8u // RDLEN and TDLEN count in units of 128 bytes
#define E1000_DEFAULT_RING_COUNT 256u

#define E1000_BUFFER_BYTES 2048u // RCTL says so
#define E1000_SLOT_BYTES 256u    // of driver's memory for each transmit descriptor

// A common buffer: memory that the card reads or writes, by its logical address.
typedef struct _E1000_DMA_BLOCK {
    PUCHAR Va; // NULL: not allocated
    ULONG ByteCount;
    PHYSICAL_ADDRESS Address;
} E1000_DMA_BLOCK, *PE1000_DMA_BLOCK;

// What the driver enables.
#define E1000_INTERRUPT_CAUSES                                                                     \
    (E1000_ICR_TXDW | E1000_ICR_LSC | E1000_ICR_RXDMT0 | E1000_ICR_RXO | E1000_ICR_RXT0)

typedef enum _E1000_STATE {
    E1000Stopped, // no resources held; the card does no DMA
    E1000Started,
    E1000Gone, // the card no longer answers, or not as it should; only STOP or REMOVE is left
} E1000_STATE;

//
// Receiving.
//

typedef enum _E1000_BUFFER_STATE {
    E1000BufferFree,   // on the ring's stack
    E1000BufferInRing, // the card's
    E1000BufferTaken,  // part of a frame that is not lent, or not the first part of one that is
    E1000BufferLent,   // the first part of a frame that is lent
} E1000_BUFFER_STATE;

typedef struct _E1000_BUFFER {
    NET_FRAME Frame;            // that begins in this buffer. First: a lent frame is its buffer
    struct _E1000_BUFFER *Next; // on the stack, or the next part of the frame
    ULONG64 Address;            // logical
    PUCHAR Va;
    E1000_BUFFER_STATE State;
    MDL Mdl; // of the whole buffer
    PFN_NUMBER Pfn;
} E1000_BUFFER, *PE1000_BUFFER;

C_ASSERT(FIELD_OFFSET(E1000_BUFFER, Pfn) == FIELD_OFFSET(E1000_BUFFER, Mdl) + sizeof(MDL));

typedef struct _E1000_RECEIVE_COUNTERS {
    ULONG64 Frames;
    ULONG64 Bytes;
    ULONG64 Errors;
    ULONG64 Oversized;
    ULONG64 Filtered;
    ULONG64 Starved;
    ULONG64 Doorbells;
} E1000_RECEIVE_COUNTERS;

typedef struct _E1000_RECEIVE_RING {
    KSPIN_LOCK Lock; // guards everything below, and the buffers
    volatile E1000_RECEIVE_DESCRIPTOR *Descriptors;
    ULONG Count;
    ULONG Next;            // the descriptor that the card finishes next
    ULONG Refill;          // the first descriptor without a buffer: the card's tail
    ULONG EmptyCount;      // of descriptors without a buffer, one at least
    PE1000_BUFFER *InRing; // by descriptor
    PE1000_BUFFER Free;    // stack by Next
    PE1000_BUFFER First;   // of the frame whose end has not come yet; NULL: none
    PE1000_BUFFER Last;
    ULONG PartialBytes;
    BOOLEAN IsDropping;  // that frame is not wanted
    BOOLEAN IsHalted;    // the card is being reset: nothing is taken
    BOOLEAN IsImprecise; // the card lets addresses pass that the filter has not
    ULONG MaximumBytes;  // of a frame
    ULONG LentCount;
    NTSTATUS Refusal;   // what new requests end with, unless STATUS_SUCCESS
    LIST_ENTRY Waiting; // IRPs: reads, and IOCTL_NET_RECEIVE
    E1000_RECEIVE_COUNTERS Counters;

    E1000_DMA_BLOCK Block; // of the descriptors
    PE1000_BUFFER Buffers;
    ULONG BufferCount;
    PE1000_DMA_BLOCK Chunks; // of the buffers' memory
    ULONG ChunkCount;
} E1000_RECEIVE_RING, *PE1000_RECEIVE_RING;

//
// Transmitting.
//

// Room for the scatter-gather list of one frame in the ring.
typedef struct _E1000_LIST_AREA {
    struct _E1000_LIST_AREA *Next; // on its stack
    PSCATTER_GATHER_LIST List;
    BOOLEAN IsLarge;
    DECLSPEC_ALIGN(16) UCHAR TransferContext[DMA_TRANSFER_CONTEXT_SIZE_V1];
    DECLSPEC_ALIGN(16) UCHAR Memory[];
} E1000_LIST_AREA, *PE1000_LIST_AREA;

// Bytes of list areas: a frame of 1,514 bytes has two or three pieces; a large area is for frames that
// are to be segmented.
#define E1000_SMALL_AREA_BYTES 512u
#define E1000_LARGE_AREA_BYTES 4096u
#define E1000_LARGE_AREA_COUNT 16u

// Frames of one request that went to the card together. Only the last of their descriptors reports.
typedef struct _E1000_BATCH {
    PIRP Irp;
    PNET_FRAME First;
    ULONG FrameCount;
    ULONG Last;          // descriptor
    BOOLEAN HasMappings; // some of the frames have a list area: in Reserved[0]
} E1000_BATCH, *PE1000_BATCH;

typedef struct _E1000_TRANSMIT_COUNTERS {
    ULONG64 Frames;
    ULONG64 Bytes;
    ULONG64 Copied;
    ULONG64 Refused;
    ULONG64 Doorbells;
} E1000_TRANSMIT_COUNTERS;

typedef struct _E1000_TRANSMIT_RING {
    KSPIN_LOCK Lock; // guards everything below
    volatile E1000_TRANSMIT_DESCRIPTOR *Descriptors;
    ULONG Count;
    ULONG Next;           // the descriptor that we fill next
    ULONG Rung;           // what the card was told of Next
    ULONG Clean;          // the oldest descriptor of the oldest batch; Next: none
    ULONG FreeCount;      // of descriptors; one is never used, so that full is not empty
    PE1000_BATCH Batches; // by the first descriptor of each
    PUCHAR Slots;         // E1000_SLOT_BYTES for each descriptor
    ULONG64 SlotsAddress;
    ULONG CopyBytes;       // frames of so many bytes at most are copied
    ULONG MaximumBytes;    // of a frame
    ULONG64 ContextPlaces; // of the context descriptor that the card has; 0: none
    ULONG64 ContextCommand;
    PE1000_LIST_AREA SmallAreas; // stacks
    PE1000_LIST_AREA LargeAreas;
    ULONG MappedCount;   // of areas in use
    ULONG64 ReapedCount; // of batches
    BOOLEAN IsHalted;    // nothing new goes to the card
    BOOLEAN IsLinkUp;
    BOOLEAN InsertsTags; // CTRL.VME
    NTSTATUS Refusal;    // what new requests end with, unless STATUS_SUCCESS
    LIST_ENTRY Waiting;  // IRPs with frames that the card has not got yet
    E1000_TRANSMIT_COUNTERS Counters;

    E1000_DMA_BLOCK Block;     // of the descriptors
    E1000_DMA_BLOCK SlotBlock; // of the slots, and a page of zeros behind them
    ULONG64 ZerosAddress;
    PUCHAR AreaMemory;
} E1000_TRANSMIT_RING, *PE1000_TRANSMIT_RING;

//
// The adapter.
//

typedef struct _E1000_THROTTLE {
    ULONG Level;          // row of the table in interrupt.c
    ULONG WantedLevel;    // by the last interrupts
    ULONG WantedInARow;   // of interrupts that wanted it
    ULONG64 FramesBefore; // both directions, at the last interrupt
    ULONG64 Changes;
} E1000_THROTTLE;

typedef struct _E1000_WATCH {
    ULONG Clean;         // of the transmit ring at the last tick
    ULONG64 Reaped;      // batches until then
    BOOLEAN HasReceived; // a frame had come that somebody waited for
    ULONG StuckTicks;    // the oldest batch has not moved for so many
    ULONG Ticks;
    ULONG64 MissedInterrupts;
    ULONG64 Timeouts;
    ULONG64 Resets;
} E1000_WATCH;

// The device extension.
typedef struct _E1000_ADAPTER {
    PDEVICE_OBJECT Fdo;
    PDEVICE_OBJECT LowerDevice;
    PDEVICE_OBJECT Pdo;
    UNICODE_STRING InterfaceName; // Buffer NULL: not registered
    IO_REMOVE_LOCK RemoveLock;    // each request holds it
    // Signalled: free. PnP, settings and resets take turns, at PASSIVE_LEVEL: what they change below
    // without a lock of its own belongs to whoever has the turn.
    KEVENT Turn;
    volatile E1000_STATE State;
    PIO_WORKITEM ResetItem;
    volatile LONG IsResetQueued;

    PUCHAR Registers; // NULL: not mapped
    ULONG RegisterByteCount;
    PKINTERRUPT Interrupt; // NULL: not connected
    KDPC Dpc;              // queued by the interrupt routine
    volatile LONG Causes;  // that it has seen and the DPC has not
    volatile ULONG64 InterruptCount;
    ULONG64 Overruns;        // interrupts that told of one; the DPC's
    E1000_THROTTLE Throttle; // the DPC's

    KTIMER WatchTimer;
    KDPC WatchDpc;
    E1000_WATCH Watch; // the watchdog's

    PDMA_ADAPTER Dma; // NULL: none
    E1000_RECEIVE_RING Receive;
    E1000_TRANSMIT_RING Transmit;

    KSPIN_LOCK LinkLock; // guards Link and LinkWaiting
    NET_EVENT Link;
    LIST_ENTRY LinkWaiting; // IRPs: IOCTL_NET_WAIT_EVENT
    NTSTATUS LinkRefusal;

    KSPIN_LOCK StatisticsLock; // guards Statistics: the card's counts, added up
    NET_STATISTICS Statistics;

    UCHAR MacAddress[NET_ETHERNET_ADDRESS_BYTES];
    NET_OPTIONS Options;
    NET_FILTER Filter;
    NET_VLAN Vlan;
} E1000_ADAPTER, *PE1000_ADAPTER;

// A point in real time.
typedef struct _E1000_DEADLINE {
    LONGLONG Ticks; // of KeQueryPerformanceCounter
} E1000_DEADLINE;

//
// e1000.c: the driver and its life.
//

DRIVER_INITIALIZE DriverEntry;

// PnP, settings and resets take turns. PASSIVE_LEVEL. A turn ends: all that is done in one is bounded.
VOID E1000AcquireTurn(_Inout_ PE1000_ADAPTER Adapter);
VOID E1000ReleaseTurn(_Inout_ PE1000_ADAPTER Adapter);

//
// hardware.c: registers, EEPROM, and the bring-up that the manual prescribes.
//

ULONG E1000ReadRegister(_In_ const E1000_ADAPTER *Adapter, _In_ ULONG Offset);
VOID E1000WriteRegister(_In_ const E1000_ADAPTER *Adapter, _In_ ULONG Offset, _In_ ULONG Value);

E1000_DEADLINE E1000StartDeadline(_In_ ULONG Milliseconds);
BOOLEAN E1000IsDeadlineOver(_In_ E1000_DEADLINE Deadline);
VOID E1000Sleep(_In_ ULONG Milliseconds);

// Waits until the bits of Mask read as Value. STATUS_IO_TIMEOUT; STATUS_DEVICE_DOES_NOT_EXIST: gone.
// PASSIVE_LEVEL.
_Must_inspect_result_ NTSTATUS E1000WaitForBits(_In_ const E1000_ADAPTER *Adapter,
                                                _In_ ULONG Offset, _In_ ULONG Mask,
                                                _In_ ULONG Value, _In_ ULONG Milliseconds);

// Whether the card has vanished from the bus: its registers read all ones, or have lost what was
// programmed. Two register reads. IRQL <= DISPATCH_LEVEL.
BOOLEAN E1000IsGone(_In_ const E1000_ADAPTER *Adapter);

// Ends all DMA and resets the card. Afterwards memory that the card knew may be given away, except
// after STATUS_IO_TIMEOUT: then the card is there but does not obey. PASSIVE_LEVEL.
_Must_inspect_result_ NTSTATUS E1000QuiesceDma(_In_ const E1000_ADAPTER *Adapter);

// The last resort: the function may no longer master its bus. FALSE: nobody can say so. PASSIVE_LEVEL.
BOOLEAN E1000DisableBusMaster(_In_ const E1000_ADAPTER *Adapter);

// Whether the words that the checksum covers add up, and the station address in them.
_Must_inspect_result_ NTSTATUS E1000ReadMacAddress(_Inout_ PE1000_ADAPTER Adapter);

// Programs a quiet card until it sends and receives with the rings as they are.
VOID E1000Program(_Inout_ PE1000_ADAPTER Adapter);

// The parts of that which the self-test needs with rings of its own.
VOID E1000ProgramGeneral(_In_ const E1000_ADAPTER *Adapter);
VOID E1000ProgramRings(_In_ const E1000_ADAPTER *Adapter, _In_ ULONG64 ReceiveAddress,
                       _In_ ULONG ReceiveCount, _In_ ULONG64 TransmitAddress,
                       _In_ ULONG TransmitCount);

//
// phy.c: the PHY and the link.
//

// PASSIVE_LEVEL. STATUS_IO_DEVICE_ERROR: it did not answer.
_Must_inspect_result_ NTSTATUS E1000ReadPhy(_In_ const E1000_ADAPTER *Adapter, _In_ ULONG Register,
                                            _Out_ PUSHORT Value);
_Must_inspect_result_ NTSTATUS E1000WritePhy(_In_ const E1000_ADAPTER *Adapter, _In_ ULONG Register,
                                             _In_ USHORT Value);

// Puts the PHY into loopback at 1000 Mbit/s, or has it negotiate anew. PASSIVE_LEVEL.
_Must_inspect_result_ NTSTATUS E1000SetLoopback(_In_ const E1000_ADAPTER *Adapter,
                                                _In_ BOOLEAN IsOn);

// Looks at the link; tells who waits when it has changed. IRQL <= DISPATCH_LEVEL.
VOID E1000UpdateLink(_Inout_ PE1000_ADAPTER Adapter);

// IOCTL_NET_WAIT_EVENT, and the end of those that wait. IRQL <= DISPATCH_LEVEL.
NTSTATUS E1000WaitEvent(_Inout_ PE1000_ADAPTER Adapter, _Inout_ PIRP Irp);
VOID E1000SetLinkRefusal(_Inout_ PE1000_ADAPTER Adapter, _In_ NTSTATUS Refusal);

//
// memory.c: what the card reaches.
//

_Must_inspect_result_ NTSTATUS E1000GetDmaAdapter(_Inout_ PE1000_ADAPTER Adapter);
VOID E1000PutDmaAdapter(_Inout_ PE1000_ADAPTER Adapter);
_Must_inspect_result_ NTSTATUS E1000AllocateBlock(_In_ const E1000_ADAPTER *Adapter,
                                                  _Out_ PE1000_DMA_BLOCK Block,
                                                  _In_ ULONG ByteCount);
VOID E1000FreeBlock(_In_ const E1000_ADAPTER *Adapter, _Inout_ PE1000_DMA_BLOCK Block);

// A ring of Count descriptors with all that belongs to it, in a structure that is zero. On failure
// nothing is held. The others give back what is there. PASSIVE_LEVEL.
_Must_inspect_result_ NTSTATUS E1000AllocateReceive(_In_ const E1000_ADAPTER *Adapter,
                                                    _Out_ PE1000_RECEIVE_RING Ring,
                                                    _In_ ULONG Count);
VOID E1000FreeReceive(_In_ const E1000_ADAPTER *Adapter, _Inout_ PE1000_RECEIVE_RING Ring);
_Must_inspect_result_ NTSTATUS E1000AllocateTransmit(_In_ const E1000_ADAPTER *Adapter,
                                                     _Out_ PE1000_TRANSMIT_RING Ring,
                                                     _In_ ULONG Count);
VOID E1000FreeTransmit(_In_ const E1000_ADAPTER *Adapter, _Inout_ PE1000_TRANSMIT_RING Ring);

//
// queue.c: IRPs that wait, and can be cancelled. A queue is guarded by a lock of its owner's.
//

// Both with the lock held. Insert: FALSE: the IRP was cancelled already; it is still the caller's.
// Remove: the first that is not being cancelled, now the caller's; NULL: none. What Insert takes,
// E1000CancelWaiting may end, with the lock taken anew.
_Must_inspect_result_ BOOLEAN E1000InsertWaiting(_Inout_ PLIST_ENTRY Queue, _Inout_ PIRP Irp,
                                                 _In_ PDRIVER_CANCEL CancelRoutine);
PIRP E1000RemoveWaiting(_Inout_ PLIST_ENTRY Queue);
// Likewise for one of them.
BOOLEAN E1000TakeWaiting(_Inout_ PIRP Irp);

// Completes what is in a list of IRPs (by Tail.Overlay.ListEntry) as their status blocks say. No lock
// held. IRQL <= DISPATCH_LEVEL.
VOID E1000CompleteList(_Inout_ PE1000_ADAPTER Adapter, _Inout_ PLIST_ENTRY List);
VOID E1000CompleteIrp(_Inout_ PE1000_ADAPTER Adapter, _Inout_ PIRP Irp, _In_ NTSTATUS Status,
                      _In_ ULONG_PTR Information);

//
// receive.c
//

// Puts every buffer that is not lent into the ring, which begins at descriptor 0. The card is quiet.
VOID E1000ResetReceive(_Inout_ PE1000_ADAPTER Adapter);

// Serves those that wait with what has come. IRQL <= DISPATCH_LEVEL.
VOID E1000ServiceReceive(_Inout_ PE1000_ADAPTER Adapter);

// Whether a frame has come that somebody waits for: work that an interrupt should have told of.
BOOLEAN E1000HasReceiveWork(_Inout_ PE1000_ADAPTER Adapter);

// IOCTL_NET_RECEIVE, IOCTL_NET_RETURN and IRP_MJ_READ. IRQL <= DISPATCH_LEVEL.
NTSTATUS E1000ReceiveFrames(_Inout_ PE1000_ADAPTER Adapter, _Inout_ PIRP Irp);
NTSTATUS E1000ReturnFrames(_Inout_ PE1000_ADAPTER Adapter, _Inout_ PIRP Irp);
NTSTATUS E1000ReadFrame(_Inout_ PE1000_ADAPTER Adapter, _Inout_ PIRP Irp);

// From here on requests end with Refusal; with STATUS_SUCCESS they are served. Those that wait end with
// it, too.
VOID E1000SetReceiveRefusal(_Inout_ PE1000_ADAPTER Adapter, _In_ NTSTATUS Refusal);
VOID E1000HaltReceive(_Inout_ PE1000_ADAPTER Adapter, _In_ BOOLEAN IsHalted);

// The logical address of the part of a lent frame that Mdl describes; NULL: it is none of ours.
const E1000_BUFFER *E1000FindLentBuffer(_In_ const E1000_RECEIVE_RING *Ring, _In_ const MDL *Mdl);

//
// transmit.c
//

// An empty ring, from descriptor 0 on. The card is quiet, and no batch is left.
VOID E1000ResetTransmit(_Inout_ PE1000_ADAPTER Adapter);

// Takes back what the card has done, and gives it what waits. IRQL <= DISPATCH_LEVEL.
VOID E1000ServiceTransmit(_Inout_ PE1000_ADAPTER Adapter);

// IOCTL_NET_SEND and IRP_MJ_WRITE. IRQL <= DISPATCH_LEVEL.
NTSTATUS E1000SendFrames(_Inout_ PE1000_ADAPTER Adapter, _Inout_ PIRP Irp);
NTSTATUS E1000WriteFrame(_Inout_ PE1000_ADAPTER Adapter, _Inout_ PIRP Irp);

// As for receiving; frames that the card has are not touched.
VOID E1000SetTransmitRefusal(_Inout_ PE1000_ADAPTER Adapter, _In_ NTSTATUS Refusal);
VOID E1000HaltTransmit(_Inout_ PE1000_ADAPTER Adapter, _In_ BOOLEAN IsHalted);

// Ends what the card has: sent, where it says so, and the rest with Status. It must be quiet or gone.
VOID E1000EndTransmit(_Inout_ PE1000_ADAPTER Adapter, _In_ NTSTATUS Status);

// Waits until the card has nothing left, Milliseconds at most. PASSIVE_LEVEL.
VOID E1000DrainTransmit(_Inout_ PE1000_ADAPTER Adapter, _In_ ULONG Milliseconds);

//
// offload.c: what the card computes while it sends.
//

typedef struct _E1000_OFFLOAD {
    ULONG64 ContextPlaces; // of the context descriptor
    ULONG64 ContextCommand;
    ULONG64 DataCommand; // of each piece, without length and end
    BOOLEAN HasContext;
} E1000_OFFLOAD, *PE1000_OFFLOAD;

// What a frame's flags mean for its descriptors. MaximumBytes: of what is sent. InsertsTags: CTRL.VME is
// set. STATUS_INVALID_PARAMETER: nothing that can be done.
_Must_inspect_result_ NTSTATUS E1000PlanOffload(_In_ const NET_FRAME *Frame,
                                                _In_ ULONG MaximumBytes, _In_ BOOLEAN InsertsTags,
                                                _Out_ PE1000_OFFLOAD Offload);

//
// filter.c: which frames come in.
//

// All with the turn held. Program writes everything that depends on filter, VLANs and options.
VOID E1000ProgramFilter(_Inout_ PE1000_ADAPTER Adapter);
_Must_inspect_result_ NTSTATUS E1000SetFilter(_Inout_ PE1000_ADAPTER Adapter,
                                              _In_ const NET_FILTER *Filter);
_Must_inspect_result_ NTSTATUS E1000SetVlan(_Inout_ PE1000_ADAPTER Adapter,
                                            _In_ const NET_VLAN *Vlan);

// Makes entry Entry of the receive addresses valid.
VOID E1000ProgramStation(_In_ const E1000_ADAPTER *Adapter, _In_ ULONG Entry,
                         _In_ const UCHAR *Address);

// Whether the filter lets an address pass. The receive ring's lock is held.
BOOLEAN E1000IsListed(_In_ const E1000_ADAPTER *Adapter, _In_ const UCHAR *Address);

//
// interrupt.c
//

// Connects the interrupt routine. The card must have no cause enabled: E1000Program enables them.
_Must_inspect_result_ NTSTATUS E1000ConnectInterrupt(_Inout_ PE1000_ADAPTER Adapter);
VOID E1000DisconnectInterrupt(_Inout_ PE1000_ADAPTER Adapter);
VOID E1000ProgramThrottle(_Inout_ PE1000_ADAPTER Adapter);

//
// recover.c: watchdog, reset, failure.
//

VOID E1000StartWatchdog(_Inout_ PE1000_ADAPTER Adapter);
VOID E1000StopWatchdog(_Inout_ PE1000_ADAPTER Adapter);

// Resets a started card and goes on: frames in it end with Status, what waits stays. With the turn
// held. On failure the card is Gone.
VOID E1000Restart(_Inout_ PE1000_ADAPTER Adapter, _In_ NTSTATUS Status);

// The card is gone: all requests end with STATUS_DEVICE_DOES_NOT_EXIST. IRQL <= DISPATCH_LEVEL.
VOID E1000Fail(_Inout_ PE1000_ADAPTER Adapter);

// Stops the card for good or for a while: DMA has ended, and nothing of ours is in the rings. FALSE: it
// does not obey; the rings' memory must not be given away. With the turn held.
BOOLEAN E1000StopCard(_Inout_ PE1000_ADAPTER Adapter, _In_ NTSTATUS Status);

// New options, with a reset where they need one. With the turn held.
_Must_inspect_result_ NTSTATUS E1000SetOptions(_Inout_ PE1000_ADAPTER Adapter,
                                               _In_ const NET_OPTIONS *Options);

//
// statistics.c
//

// Adds what the card has counted. IRQL <= DISPATCH_LEVEL.
VOID E1000ReadStatistics(_Inout_ PE1000_ADAPTER Adapter);
VOID E1000ClearStatistics(_Inout_ PE1000_ADAPTER Adapter);
VOID E1000QueryStatistics(_Inout_ PE1000_ADAPTER Adapter, _Out_ PNET_STATISTICS Statistics);

//
// selftest.c
//

// With the turn held, on a started card. STATUS_INSUFFICIENT_RESOURCES.
_Must_inspect_result_ NTSTATUS E1000SelfTest(_Inout_ PE1000_ADAPTER Adapter,
                                             _Out_ PNET_SELF_TEST Result);

//
// request.c: what IRPs ask for.
//

DRIVER_DISPATCH E1000DispatchRead;
DRIVER_DISPATCH E1000DispatchWrite;
DRIVER_DISPATCH E1000DispatchControl;
DRIVER_DISPATCH E1000DispatchInternalControl;
