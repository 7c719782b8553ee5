// Network cards: what their drivers understand. This kernel's own, not NT's (which has NDIS), in NT's
// vocabulary. A card is a device of FILE_DEVICE_PHYSICAL_NETCARD with the interface
// GUID_DEVINTERFACE_NET; whoever speaks protocols finds it by that and sends it requests.
//
//   IRP_MJ_INTERNAL_DEVICE_CONTROL  lists of frames, without copying, and all below: for protocol
//                                   drivers
//   IRP_MJ_DEVICE_CONTROL           what the card is, has counted, and shall do (METHOD_BUFFERED)
//   IRP_MJ_WRITE, IRP_MJ_READ       one frame per request, in the request's MDL: for tools
//
// All requests are asynchronous: those that wait are marked pending, can be cancelled, and are
// completed at IRQL <= DISPATCH_LEVEL by a DPC. IRQL of the caller: <= DISPATCH_LEVEL for frames and
// IOCTL_NET_WAIT_EVENT; PASSIVE_LEVEL for everything else, which is done when the call returns.
//
// Any request may end with
//   STATUS_DEVICE_NOT_READY       the card is stopped (before START, after STOP)
//   STATUS_DEVICE_DOES_NOT_EXIST  the card is gone, or has failed for good
//   STATUS_CANCELLED              cancelled before it was done
//
// Addresses are byte arrays in network order. Bits and numbers are the processor's.
//
// One source file of a program that names the GUID defines INITGUID before it includes this header.
#pragma once

#include <wdm.h>
#include <ntdef.h>

// {CAC88484-7515-4C03-82E6-71A87ABAC361}, as in Windows.
DEFINE_GUID(GUID_DEVINTERFACE_NET, 0xCAC88484, 0x7515, 0x4C03, 0x82, 0xE6, 0x71, 0xA8, 0x7A, 0xBA,
            0xC3, 0x61);

#define NET_ETHERNET_ADDRESS_BYTES 6
#define NET_IPV4_ADDRESS_BYTES 4
#define NET_ETHERNET_HEADER_BYTES 14
#define NET_STANDARD_FRAME_BYTES 1514 // header and payload; never with the frame check sequence

#define NET_CONTROL(Function, Method)                                                              \
    CTL_CODE(FILE_DEVICE_PHYSICAL_NETCARD, Function, Method, FILE_ANY_ACCESS)

// -------------------------------------------------------------------------------------------------
// Frames.

// What the card shall do to a frame that is sent; and what it has done to one that was received.
#define NET_FRAME_IPV4_CHECKSUM 0x0001 // fill in the IPv4 header's checksum. Received: it is right
#define NET_FRAME_TCP_CHECKSUM 0x0002  // fill in TCP's checksum. Received: it is right
#define NET_FRAME_UDP_CHECKSUM 0x0004  // fill in UDP's checksum. Received: it is right
#define NET_FRAME_SEGMENT 0x0008       // one long TCP segment, to be sent as many
#define NET_FRAME_IPV6 0x0010          // the network header is IPv6 (read with SEGMENT only)
#define NET_FRAME_VLAN 0x0020          // insert VlanTag. Received: VlanTag was taken out
#define NET_FRAME_LENT 0x8000 // the card's driver owns it: only IOCTL_NET_RECEIVE sets this

// An Ethernet frame, from the destination address to the end of the payload, without the check
// sequence; or a list of them by Next.
//
// Sending. The sender owns the structure (nonpaged) and the MDLs, and leaves both and the bytes alone
// until the request is completed. The MDLs are locked or describe nonpaged pool; they need not be
// mapped: the card reads their pages, but a frame of at most NET_OPTIONS.CopyBytes bytes whose MDLs
// are mapped already is copied, because that is faster. Frames of less than 60 bytes are padded with
// zeros on their way. The list keeps its order, and its Next fields.
//   IPV4_CHECKSUM  NetworkOffset says where the header is; its checksum field is 0
//   TCP_, UDP_     TransportOffset says where the header is; its checksum field holds the sum of the
//                  pseudo header (folded, not complemented), with TCP's or UDP's length
//   SEGMENT        payload behind HeaderBytes is sent in pieces of SegmentBytes, each behind a copy of
//                  the headers with its own length, identification, sequence number, flags and
//                  checksums. The sum of the pseudo header is one without the length; the IPv4
//                  header's checksum is 0. Without NET_FRAME_IPV6 it is IPv4. Implies the checksums.
//
// Receiving. The card's driver owns structure and MDLs, and lends them. The borrower may read and
// write the bytes and the public fields, may send the frame as it is or changed (zero-copy; it must be
// back from IOCTL_NET_SEND before it is returned), and may keep it, but not for long: what is lent is
// missing in the ring. A frame longer than one receive buffer is a chain of MDLs. The MDLs are mapped:
// MmGetSystemAddressForMdlSafe only reads their address.
typedef struct _NET_FRAME {
    struct _NET_FRAME *Next; // NULL: the last one
    PMDL Mdl;                // a chain by MDL.Next
    ULONG Offset;            // of the frame's first byte in what the chain describes
    ULONG ByteCount;         // of the frame; the chain may describe more
    USHORT Flags;            // NET_FRAME_*
    USHORT VlanTag;          // priority 15:13, drop eligible 12, identifier 11:0
    USHORT SegmentBytes;     // payload bytes per segment
    USHORT HeaderBytes;      // with SEGMENT: all headers, TCP's options included
    UCHAR NetworkOffset;     // from the frame's first byte to its IPv4 or IPv6 header
    UCHAR TransportOffset;   // from the frame's first byte to its TCP or UDP header
    USHORT Padding;
    NTSTATUS Status;   // of this frame, when IOCTL_NET_SEND is completed
    PVOID Reserved[3]; // the driver's while it has the frame, and always in a frame that is lent
} NET_FRAME, *PNET_FRAME;

C_ASSERT(sizeof(NET_FRAME) == 0x40 && FIELD_OFFSET(NET_FRAME, Status) == 0x24);

// Sends a list of frames in order. Parameters.DeviceIoControl.Type3InputBuffer: the first NET_FRAME.
// Pends until the card has done with all of them; also lists longer than the ring. Afterwards the card
// holds no reference to any page. Information: how many frames were sent. Status: STATUS_SUCCESS when
// all were; else that of one that was not. Each frame's Status is one of
//   STATUS_SUCCESS                 the card has read and taken it; whether it arrives, nobody knows
//   STATUS_NETWORK_UNREACHABLE     there is no link: not given to the card
//   STATUS_INVALID_PARAMETER       less than a header, offsets outside of the frame, flags that the
//                                  card does not have, SegmentBytes 0, more pieces than the ring
//   STATUS_INVALID_BUFFER_SIZE     longer than MaximumFrameBytes (MaximumSegmentedBytes)
//   STATUS_BUFFER_TOO_SMALL        the MDLs describe less than Offset + ByteCount
//   STATUS_INSUFFICIENT_RESOURCES  its pages could not be mapped for DMA
//   STATUS_IO_TIMEOUT              the card did not send it in time and was reset: perhaps sent
//   STATUS_CANCELLED               the request was cancelled before the card had it
//   STATUS_DEVICE_NOT_READY, STATUS_DEVICE_DOES_NOT_EXIST  as above: perhaps sent
// A frame in the card can't be cancelled; the watchdog bounds its time there to about three seconds.
#define IOCTL_NET_SEND NET_CONTROL(0x0810, METHOD_NEITHER)

// Receives. Type3InputBuffer: a NET_RECEIVE, nonpaged, the requester's, to stay until completion.
// Gives back the list Returned first (in any order; also when the request fails), then takes what has
// come; pends while nothing has. Frames that nobody asks for wait in the ring; when that is full, the
// card drops them and counts (NET_STATISTICS.ReceiveOverruns, MissedFrames).
// Information: Count. Several requests are served in the order in which they came, reads too.
#define IOCTL_NET_RECEIVE NET_CONTROL(0x0811, METHOD_NEITHER)

typedef struct _NET_RECEIVE {
    PNET_FRAME Returned; // in: a list of lent frames; NULL: none. NULL when the call has returned
    PNET_FRAME Received; // out: a list, now lent; NULL on failure
    ULONG MaximumCount;  // in: so many at most; 0: all that are there
    ULONG Count;         // out: of frames in Received
} NET_RECEIVE, *PNET_RECEIVE;

// Gives lent frames back. Type3InputBuffer: the first. Completes at once, with STATUS_SUCCESS, also
// when the card is stopped or gone: STOP and REMOVE wait for lent frames, but for seconds only; then
// their memory is given up for good, and they must not be returned any more. A frame that is not lent
// is passed over: STATUS_INVALID_PARAMETER.
#define IOCTL_NET_RETURN NET_CONTROL(0x0812, METHOD_NEITHER)

// IRP_MJ_WRITE: one frame, in the request's MDL (chain), of Parameters.Write.Length bytes. As
// IOCTL_NET_SEND; the IRP's status is the frame's. Information: bytes.
// IRP_MJ_READ: one frame, copied to the request's MDL (chain). STATUS_BUFFER_TOO_SMALL: Length is less
// than MaximumFrameBytes, or more than the MDL describes; no frame is lost. STATUS_BUFFER_OVERFLOW: the
// rest of a frame that is longer than Length is lost (MaximumFrameBytes was raised meanwhile). Pends
// until there is one.

// -------------------------------------------------------------------------------------------------
// What happens to the link. METHOD_BUFFERED.

// Input: ULONG, the Sequence of the last event seen; 0 at first. Output: NET_EVENT. Pends while
// Sequence is still that number; so that no change is missed between two requests, though several may
// be told as one. The state at START is the first event.
#define IOCTL_NET_WAIT_EVENT NET_CONTROL(0x0818, METHOD_BUFFERED)

typedef struct _NET_EVENT {
    ULONG Sequence; // one more at each change of the link
    BOOLEAN LinkUp;
    BOOLEAN FullDuplex;
    USHORT Padding;
    ULONG MegabitsPerSecond; // 0 without link
} NET_EVENT, *PNET_EVENT;

C_ASSERT(sizeof(NET_EVENT) == 0x0C);

// -------------------------------------------------------------------------------------------------
// Queries and settings. METHOD_BUFFERED. STATUS_BUFFER_TOO_SMALL: less input or output than the
// structure.

// Output: NET_ADAPTER_INFORMATION.
#define IOCTL_NET_QUERY_ADAPTER NET_CONTROL(0x0800, METHOD_BUFFERED)

typedef struct _NET_ADAPTER_INFORMATION {
    UCHAR EthernetAddress[NET_ETHERNET_ADDRESS_BYTES];
    BOOLEAN LinkUp;
    BOOLEAN FullDuplex;
    ULONG MegabitsPerSecond; // 0 without link
} NET_ADAPTER_INFORMATION, *PNET_ADAPTER_INFORMATION;

C_ASSERT(sizeof(NET_ADAPTER_INFORMATION) == 0x0C);

// Output: NET_CAPABILITIES.
#define IOCTL_NET_QUERY_CAPABILITIES NET_CONTROL(0x0820, METHOD_BUFFERED)

typedef struct _NET_CAPABILITIES {
    ULONG TransmitFlags;         // NET_FRAME_* that IOCTL_NET_SEND understands
    ULONG ReceiveFlags;          // NET_FRAME_* that a received frame may have
    ULONG MaximumFrameBytes;     // now: what NET_OPTIONS says
    ULONG LargestFrameBytes;     // what NET_OPTIONS.MaximumFrameBytes may be at most
    ULONG MaximumSegmentedBytes; // of a frame with NET_FRAME_SEGMENT; 0: not supported
    ULONG MinimumRingCount;
    ULONG MaximumRingCount;
    ULONG ExactAddressCount; // group and unicast addresses that are filtered without software
} NET_CAPABILITIES, *PNET_CAPABILITIES;

C_ASSERT(sizeof(NET_CAPABILITIES) == 0x20);

// Output: NET_STATISTICS, since the last START. Counts by the card are those of its registers, which
// it clears when they are read; the driver adds them up.
#define IOCTL_NET_QUERY_STATISTICS NET_CONTROL(0x0821, METHOD_BUFFERED)

typedef struct _NET_STATISTICS {
    // By the card.
    ULONG64 CardFramesReceived; // good ones that passed the filter
    ULONG64 CardFramesSent;
    ULONG64 CardBytesReceived; // of those, check sequences included
    ULONG64 CardBytesSent;
    ULONG64 CardBroadcastsReceived;
    ULONG64 CardMulticastsReceived;
    ULONG64 CardBroadcastsSent;
    ULONG64 CardMulticastsSent;
    ULONG64 CrcErrors;
    ULONG64 LengthErrors;
    ULONG64 OtherReceiveErrors; // alignment, symbol, carrier extension, sequence
    ULONG64 UndersizedFrames;
    ULONG64 OversizedFrames;
    ULONG64 MissedFrames;   // the card's own memory was full
    ULONG64 NoBufferFrames; // the receive ring was empty when one came; it may have waited
    ULONG64 Collisions;
    ULONG64 SegmentedSent; // lists of segments
    ULONG64 SegmentedFailed;
    // By the driver.
    ULONG64 FramesSent; // as NET_FRAMEs: a segmented one counts once
    ULONG64 BytesSent;
    ULONG64 FramesReceived; // handed to whoever asked
    ULONG64 BytesReceived;
    ULONG64 FramesCopied;     // sent by way of the driver's own memory
    ULONG64 FramesRefused;    // ended without being sent
    ULONG64 ReceiveErrors;    // frames dropped that the card marked as damaged
    ULONG64 ReceiveOversized; // frames dropped that are longer than MaximumFrameBytes
    ULONG64 ReceiveFiltered;  // group addresses that only the hash let pass
    ULONG64 ReceiveOverruns;  // interrupts by which the card told of one
    ULONG64 ReceiveStarved;   // passes that ended with no buffer left for the ring
    ULONG64 Interrupts;
    ULONG64 MissedInterrupts; // the watchdog found work that no interrupt had told of
    ULONG64 TransmitTimeouts;
    ULONG64 Resets;
    ULONG64 LinkChanges;
    ULONG64 TransmitDoorbells; // writes of the ring's tail
    ULONG64 ReceiveDoorbells;
    ULONG64 ThrottleChanges;
    ULONG64 FramesLent; // now
} NET_STATISTICS, *PNET_STATISTICS;

C_ASSERT(sizeof(NET_STATISTICS) == 38 * sizeof(ULONG64));

// Which frames come in. Input of SET, output of QUERY: NET_FILTER, with Count addresses. At START:
// NET_FILTER_DIRECTED and NET_FILTER_BROADCAST, no addresses. Kept over resets, not over STOP.
// STATUS_INVALID_PARAMETER: unknown flags, more than NET_FILTER_ADDRESSES; nothing is changed.
// A change of Flags may stop reception for a moment; a change of addresses does not.
#define IOCTL_NET_SET_FILTER NET_CONTROL(0x0822, METHOD_BUFFERED)
#define IOCTL_NET_QUERY_FILTER NET_CONTROL(0x0823, METHOD_BUFFERED)

#define NET_FILTER_DIRECTED 0x0001 // to the card's own address
#define NET_FILTER_BROADCAST 0x0002
#define NET_FILTER_LIST 0x0004          // to the addresses of the list: groups and other stations
#define NET_FILTER_ALL_MULTICAST 0x0008 // to any group
#define NET_FILTER_PROMISCUOUS 0x0010   // to anybody
#define NET_FILTER_ALL 0x001F

#define NET_FILTER_ADDRESSES 64

typedef struct _NET_FILTER {
    ULONG Flags;
    ULONG Count;
    UCHAR Addresses[NET_FILTER_ADDRESSES][NET_ETHERNET_ADDRESS_BYTES];
} NET_FILTER, *PNET_FILTER;

C_ASSERT(sizeof(NET_FILTER) == 0x188);

// VLANs. Input of SET, output of QUERY: NET_VLAN. At START: no flags. Kept over resets, not over STOP.
#define IOCTL_NET_SET_VLAN NET_CONTROL(0x0824, METHOD_BUFFERED)
#define IOCTL_NET_QUERY_VLAN NET_CONTROL(0x0825, METHOD_BUFFERED)

// Tags are taken out of received frames (NET_FRAME_VLAN, VlanTag), and can be put into frames that are
// sent: without it, sending with NET_FRAME_VLAN is STATUS_INVALID_PARAMETER. The card has one switch for
// both.
#define NET_VLAN_STRIP 0x0001
#define NET_VLAN_FILTER 0x0002 // tagged frames come in only when their identifier is a member

#define NET_VLAN_COUNT 4096

typedef struct _NET_VLAN {
    ULONG Flags;
    ULONG Members[NET_VLAN_COUNT / 32]; // bit i % 32 of word i / 32: identifier i
} NET_VLAN, *PNET_VLAN;

C_ASSERT(sizeof(NET_VLAN) == 0x204);

// Options. Input of SET, output of QUERY: NET_OPTIONS. To set, query first and change what is to be
// changed. What needs a new ring resets the card: frames in it are sent first, those that wait are
// sent afterwards. STATUS_INVALID_PARAMETER: a value out of its range; nothing is changed.
// STATUS_DEVICE_BUSY: frames are lent, and ReceiveRingCount was to change; nothing is changed.
// STATUS_INSUFFICIENT_RESOURCES: no memory; nothing is changed. Kept over resets and STOP.
#define IOCTL_NET_SET_OPTIONS NET_CONTROL(0x0826, METHOD_BUFFERED)
#define IOCTL_NET_QUERY_OPTIONS NET_CONTROL(0x0827, METHOD_BUFFERED)

#define NET_THROTTLE_OFF 0      // an interrupt whenever there is a cause
#define NET_THROTTLE_FIXED 1    // InterruptsPerSecond at most
#define NET_THROTTLE_ADAPTIVE 2 // between 4,000 and 70,000 a second, by what the traffic is like

typedef struct _NET_OPTIONS {
    ULONG ReceiveRingCount;    // descriptors: a multiple of 8 from 64 to 4,096
    ULONG TransmitRingCount;   // likewise
    ULONG MaximumFrameBytes;   // 1,514 to NET_CAPABILITIES.LargestFrameBytes
    ULONG CopyBytes;           // mapped frames up to so long are copied when sent: 0 to 256
    ULONG Throttle;            // NET_THROTTLE_*
    ULONG InterruptsPerSecond; // with NET_THROTTLE_FIXED: 100 to 100,000
    ULONG Loopback; // not 0: the PHY's loopback. What is sent comes back, nothing leaves or enters
} NET_OPTIONS, *PNET_OPTIONS;

C_ASSERT(sizeof(NET_OPTIONS) == 0x1C);

// Reads or writes a register of the PHY (IEEE 802.3, clause 22). Input and output: NET_PHY.
// STATUS_IO_DEVICE_ERROR: the PHY did not answer. STATUS_INVALID_PARAMETER: Register is above 31.
#define IOCTL_NET_PHY NET_CONTROL(0x0828, METHOD_BUFFERED)

typedef struct _NET_PHY {
    UCHAR Register;
    BOOLEAN Write; // FALSE: read
    USHORT Value;  // in for a write, out for a read
} NET_PHY, *PNET_PHY;

C_ASSERT(sizeof(NET_PHY) == 4);

// Tests the card without a host: registers, EEPROM, the interrupt, and frames of several lengths and
// offloads through the PHY's loopback. Needs no link; takes a second or two, in which the network is
// cut; waiting requests stay, frames that are in the card are sent first. Output: NET_SELF_TEST.
// STATUS_SUCCESS also when a test fails. STATUS_INSUFFICIENT_RESOURCES: no memory for the test.
#define IOCTL_NET_SELF_TEST NET_CONTROL(0x0829, METHOD_BUFFERED)

#define NET_TEST_REGISTERS 0x0001 // hold what is written
#define NET_TEST_EEPROM 0x0002    // adds up
#define NET_TEST_PHY 0x0004       // answers, and goes into loopback
#define NET_TEST_INTERRUPT 0x0008 // arrives
#define NET_TEST_FRAMES 0x0010    // come back as they were sent
#define NET_TEST_CHECKSUM 0x0020  // of IPv4 and UDP are filled in
#define NET_TEST_SEGMENT 0x0040   // a long TCP segment comes back in pieces
#define NET_TEST_VLAN 0x0080      // a tag is inserted, and taken out
#define NET_TEST_ALL 0x00FF

typedef struct _NET_SELF_TEST {
    ULONG Done;   // NET_TEST_* that were run
    ULONG Passed; // of these
    ULONG FramesLooped;
} NET_SELF_TEST, *PNET_SELF_TEST;

C_ASSERT(sizeof(NET_SELF_TEST) == 0x0C);

// -------------------------------------------------------------------------------------------------
// The lease. IRP_MJ_DEVICE_CONTROL, METHOD_BUFFERED, to the network stack (\Device\Inet, ntddinet.h), not
// to a card.

// Waits until the stack has an address, seconds at most. Output: NET_LEASE.
// STATUS_NETWORK_UNREACHABLE: no link. STATUS_IO_TIMEOUT: no answer. STATUS_DEVICE_PROTOCOL_ERROR:
// the server refused.
#define IOCTL_NET_OBTAIN_LEASE NET_CONTROL(0x0801, METHOD_BUFFERED)

// What the server did not tell is all zero.
typedef struct _NET_LEASE {
    UCHAR Address[NET_IPV4_ADDRESS_BYTES];
    UCHAR Mask[NET_IPV4_ADDRESS_BYTES];
    UCHAR Router[NET_IPV4_ADDRESS_BYTES];
    UCHAR NameServer[NET_IPV4_ADDRESS_BYTES];
    UCHAR Server[NET_IPV4_ADDRESS_BYTES];
    ULONG LeaseSeconds;
} NET_LEASE, *PNET_LEASE;

C_ASSERT(sizeof(NET_LEASE) == 0x18);
