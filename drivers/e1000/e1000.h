// The e1000 driver's own state. See e1000.c for the life of an adapter and ring.c for the rings.
#pragma once

#include <wdm.h>
#include <ntddnet.h>

#include "dhcp.h"
#include "e1000spec.h"

#define E1000_RING_COUNT 64 // descriptors in each ring
#define E1000_BUFFER_BYTES 2048
#define E1000_ETHERNET_HEADER_BYTES 14
#define E1000_MAXIMUM_FRAME_BYTES 1514 // without the check sequence

// RDLEN and TDLEN count in units of 128 bytes, and both rings share one page.
C_ASSERT(E1000_RING_COUNT * sizeof(E1000_RECEIVE_DESCRIPTOR) % 128 == 0);
C_ASSERT(E1000_RING_COUNT *(sizeof(E1000_RECEIVE_DESCRIPTOR) + sizeof(E1000_TRANSMIT_DESCRIPTOR)) <=
         PAGE_SIZE);
C_ASSERT(DHCP_FRAME_BYTES == E1000_MAXIMUM_FRAME_BYTES);

// A common buffer: memory that the card reads or writes, by its logical address.
typedef struct _E1000_DMA_BLOCK {
    PUCHAR Va; // NULL: not allocated
    ULONG ByteCount;
    PHYSICAL_ADDRESS Address;
} E1000_DMA_BLOCK, *PE1000_DMA_BLOCK;

// What the driver enables. Each of them wakes whoever waits for the card.
#define E1000_INTERRUPT_CAUSES (E1000_ICR_TXDW | E1000_ICR_RXDMT0 | E1000_ICR_RXO | E1000_ICR_RXT0)

typedef enum _E1000_STATE {
    E1000Stopped, // no resources held; the card does no DMA
    E1000Started,
    E1000Gone, // the card no longer answers; only STOP or REMOVE is left
} E1000_STATE;

typedef struct _E1000_COUNTERS {
    ULONG64 FramesSent;
    ULONG64 FramesReceived;
    ULONG64 BytesSent;
    ULONG64 BytesReceived;
    ULONG64 TransmitTimeouts;
    ULONG64 ReceiveErrors;    // the card says that a frame is damaged
    ULONG64 ReceiveOversized; // more than one buffer, or longer than a frame may be
} E1000_COUNTERS, *PE1000_COUNTERS;

// The device extension.
typedef struct _E1000_ADAPTER {
    PDEVICE_OBJECT Fdo;
    PDEVICE_OBJECT LowerDevice;
    PDEVICE_OBJECT Pdo;
    KEVENT Turn; // signalled: free; everything below belongs to whoever acquired the adapter
    E1000_STATE State;

    PUCHAR Registers; // NULL: not mapped
    ULONG RegisterByteCount;

    PKINTERRUPT Interrupt; // NULL: not connected
    KDPC Dpc;              // queued by the interrupt routine
    KEVENT Interrupted;    // set by the DPC; whoever waits for the card looks at the rings then

    PDMA_ADAPTER Dma; // NULL: none
    DECLSPEC_ALIGN(16) UCHAR TransferContext[DMA_TRANSFER_CONTEXT_SIZE_V1];
    E1000_DMA_BLOCK Rings;          // one page: receive ring, transmit ring
    E1000_DMA_BLOCK ReceiveBuffers; // E1000_RING_COUNT * E1000_BUFFER_BYTES
    E1000_DMA_BLOCK OwnFrame;       // a page for the frames that the driver itself sends
    ULONG ReceiveNext;              // the descriptor that the card fills next
    ULONG TransmitNext;             // the descriptor that we fill next
    BOOLEAN SkippingFrame;          // in the middle of a frame that began in an earlier buffer

    UCHAR MacAddress[DHCP_MAC_BYTES];
    E1000_COUNTERS Counters;
    DHCP_CLIENT Dhcp;
} E1000_ADAPTER, *PE1000_ADAPTER;

// A point in real time.
typedef struct _E1000_DEADLINE {
    LONGLONG Ticks; // of KeQueryPerformanceCounter
} E1000_DEADLINE;

//
// e1000.c: the driver and its life.
//

DRIVER_INITIALIZE DriverEntry;

// The adapter has one user at a time: a request or a PnP routine. Try returns FALSE at once when
// there is another one; Acquire waits for it, which ends, because every request is bounded in time.
_Must_inspect_result_ BOOLEAN E1000TryAcquireAdapter(_Inout_ PE1000_ADAPTER Adapter);
VOID E1000AcquireAdapter(_Inout_ PE1000_ADAPTER Adapter);
VOID E1000ReleaseAdapter(_Inout_ PE1000_ADAPTER Adapter);

//
// hardware.c: registers, and the bring-up that the manual prescribes.
//

ULONG E1000ReadRegister(_In_ const E1000_ADAPTER *Adapter, _In_ ULONG Offset);
VOID E1000WriteRegister(_In_ const E1000_ADAPTER *Adapter, _In_ ULONG Offset, _In_ ULONG Value);

E1000_DEADLINE E1000StartDeadline(_In_ ULONG Milliseconds);
BOOLEAN E1000IsDeadlineOver(_In_ E1000_DEADLINE Deadline);

// Waits until the card has interrupted since the last wait, until the deadline, or for a tenth of a
// second: then it is time to look whether the card is still there.
VOID E1000WaitForInterrupt(_Inout_ PE1000_ADAPTER Adapter, _In_ E1000_DEADLINE Deadline);

// Connects the interrupt routine. The card must have no cause enabled: E1000BringUp enables them.
_Must_inspect_result_ NTSTATUS E1000ConnectInterrupt(_Inout_ PE1000_ADAPTER Adapter);
VOID E1000DisconnectInterrupt(_Inout_ PE1000_ADAPTER Adapter);

// Ends all DMA and resets the card. Afterwards memory that the card knew may be given away, except
// after STATUS_IO_TIMEOUT: then the card is there but does not obey.
_Must_inspect_result_ NTSTATUS E1000QuiesceDma(_In_ const E1000_ADAPTER *Adapter);

// Quiesces the card and programs everything, rings included, until it sends and receives.
_Must_inspect_result_ NTSTATUS E1000BringUp(_Inout_ PE1000_ADAPTER Adapter);

BOOLEAN E1000IsLinkUp(_In_ const E1000_ADAPTER *Adapter);
BOOLEAN E1000IsFullDuplex(_In_ const E1000_ADAPTER *Adapter);
ULONG E1000LinkMegabits(_In_ const E1000_ADAPTER *Adapter);

// Whether the card has vanished from the bus: its registers read all ones, or lost the address that
// was programmed.
BOOLEAN E1000IsGone(_In_ const E1000_ADAPTER *Adapter);

//
// ring.c: the two rings, and memory.c: what the card reaches.
//

// The DMA adapter, both rings and the buffers of the driver's own. On failure there is none of them.
_Must_inspect_result_ NTSTATUS E1000AllocateRings(_Inout_ PE1000_ADAPTER Adapter);
VOID E1000FreeRings(_Inout_ PE1000_ADAPTER Adapter);

// Program the rings' registers and begin at descriptor 0. The card must be quiet.
VOID E1000StartReceive(_Inout_ PE1000_ADAPTER Adapter);
VOID E1000StartTransmit(_Inout_ PE1000_ADAPTER Adapter);

// Sends the first ByteCount bytes that a locked MDL describes, straight from its pages, and waits
// until the card has read them. On return the card holds no reference to the pages, whatever the
// result.
_Must_inspect_result_ NTSTATUS E1000SendMdl(_Inout_ PE1000_ADAPTER Adapter, _In_ PMDL Mdl,
                                            _In_ ULONG ByteCount);

// The same with the first ByteCount bytes of OwnFrame.
_Must_inspect_result_ NTSTATUS E1000SendOwnFrame(_Inout_ PE1000_ADAPTER Adapter,
                                                 _In_ ULONG ByteCount);

// Waits up to TimeoutMs for a frame and copies it. STATUS_IO_TIMEOUT: none came;
// STATUS_NO_SUCH_DEVICE: gone.
_Must_inspect_result_ NTSTATUS E1000ReceiveFrame(_Inout_ PE1000_ADAPTER Adapter,
                                                 _Out_ PUCHAR Buffer, _In_ ULONG Capacity,
                                                 _In_ ULONG TimeoutMs, _Out_ PULONG ByteCount);

//
// request.c: what IRPs ask for.
//

// Serves IRP_MJ_READ, IRP_MJ_WRITE and IRP_MJ_DEVICE_CONTROL.
DRIVER_DISPATCH E1000DispatchRequest;
