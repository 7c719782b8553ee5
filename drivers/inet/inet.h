// The network stack without the driver around it: protocols that take frames, and time, and give
// frames. The files that include only this header know no IRP, no thread and no lock, so that the same
// code runs on the build machine against a test's network.
//
//   card ──frames──▶ InetReceive ─▶ ethernet.c ─▶ arp.c
//                                           └───▶ ipv4.c ─▶ fragment.c ─▶ icmp.c
//                                                                   └───▶ udp.c ─▶ dhcp.c, service.c
//   card ◀─frames─── Outgoing    ◀── replies in the memory of the request, or packets of the stack's
//   card ◀─frames─── Returned    ◀── what was received and is done with
//
// Invariants:
//   N1  A received frame is at one place only: in the hands of the routine that looks at it, in one
//       list of fragments, in Outgoing (and then the card's), or in Returned. Every frame comes to
//       Returned or Outgoing in the end: InetStop leaves none behind.
//   N2  A reply to an echo is sent from the memory in which the request came; no payload is copied.
//   N3  Nothing is allocated for a packet: packets, cache entries, and lists have fixed sizes, and
//       what does not fit is dropped.
//   N4  Every frame that is not used is counted once, by the reason of its dropping (INET_COUNTERS).
//   N5  A header is read only where the first MDL of its frame reaches (InetHeaderAt); lengths in it
//       are compared with the frame before they are believed.
// An interface has one user at a time (the thread of its card): no locks. IRQL = PASSIVE_LEVEL, or
// whatever that user likes.
#pragma once

#include <wdm.h>
#include <ntddinet.h>

#include "dhcp.h"
#include "inetspec.h"

#define INET_MTU 1500         // bytes behind Ethernet's header
#define INET_NEVER MAXULONG64 // a deadline that does not come

#define INET_PACKET_COUNT 64
#define INET_PACKET_BYTES 512 // headers, and what is short: ARP, DHCP, ICMP errors, echo requests

#define INET_ARP_ENTRIES 32
#define INET_ARP_FRESH_MS 60000 // older than that, an address is asked for again
#define INET_ARP_TRIES 3
#define INET_ARP_RETRY_MS 1000

#define INET_ANNOUNCEMENTS 2 // RFC 5227
#define INET_ANNOUNCEMENT_MS 2000
#define INET_DEFEND_MS 10000 // between two defences of our address

// Datagrams in pieces: the received frames themselves are kept. 45 frames make the longest datagram.
#define INET_REASSEMBLIES 4
#define INET_HELD_LIMIT 48 // frames, of all datagrams
#define INET_REASSEMBLY_MS 5000

// ICMP errors that we send: a bucket that holds so many, and is filled at that rate.
#define INET_ERROR_BURST 10
#define INET_ERROR_MS 100

#define INET_PINGS 4 // echo requests of ours at a time

// The state service. A report is cut into chunks, each with an MDL of its own.
#define INET_STATE_PORT 4747
#define INET_CHUNK_BYTES 1400
#define INET_CHUNK_COUNT 40
#define INET_REPORT_BYTES (INET_CHUNK_BYTES * INET_CHUNK_COUNT)
#define INET_QUERY_BYTES 64 // the longest request

// -------------------------------------------------------------------------------------------------
// Counters. Those from FIRST_DROP on are the reasons for which a received frame was not used.

#define INET_COUNTERS(Apply)                                                                       \
    Apply(FramesReceived, "frames received") Apply(BytesReceived, "bytes received") Apply(         \
        FramesSent, "frames sent") Apply(BytesSent, "bytes sent")                                  \
        Apply(SendFailures, "frames that the card did not send") Apply(                            \
            SentInPlace, "of those sent, in the memory of the request")                            \
            Apply(NoPacket, "not sent, because no packet was free") Apply(                         \
                NoRoute, "not sent, because no way leads there")                                   \
                Apply(ArpRequests, "ARP requests for our address") Apply(                          \
                    ArpReplies, "ARP replies that were wanted")                                    \
                    Apply(ArpRefreshed, "ARP messages that confirmed an entry") Apply(             \
                        ArpAsked, "ARP requests sent") Apply(ArpUnanswered,                        \
                                                             "addresses that nobody answers for")  \
                        Apply(ArpAnnouncements, "announcements of our address")                    \
                            Apply(ArpConflicts, "claims of our address by others") Apply(          \
                                ArpEvicted, "ARP entries that made room")                          \
                                Apply(EchoRequests, "echo requests answered") Apply(               \
                                    EchoReplies, "echo replies to us") Apply(IcmpErrorsSent,       \
                                                                             "ICMP errors sent")   \
                                    Apply(IcmpErrorsHeld, "ICMP errors not sent: too many") Apply( \
                                        UdpEchoes, "datagrams echoed")                             \
                                        Apply(StateRequests, "state requests answered") Apply(     \
                                            StateDatagrams, "datagrams of state sent")             \
                                            Apply(DhcpMessages, "DHCP messages for the client")    \
                                                Apply(FragmentsKept,                               \
                                                      "fragments kept until the rest comes")       \
                                                    Apply(Reassembled,                             \
                                                          "datagrams put together") /* Drops. */   \
        Apply(DropRunt, "shorter than an Ethernet header") Apply(DropUnmapped,                     \
                                                                 "without an address in memory")   \
            Apply(DropOversized, "longer than the MTU") Apply(DropVlan, "of a VLAN") Apply(        \
                DropOtherStation, "to another station") Apply(DropMulticast, "to a group")         \
                Apply(DropOwnSource, "from our own Ethernet address, or from a group's") Apply(    \
                    DropUnknownType,                                                               \
                    "neither ARP nor IPv4") Apply(DropArpMalformed,                                \
                                                  "malformed ARP") Apply(DropArpOther,             \
                                                                         "ARP about others")       \
                    Apply(DropIpv4Malformed, "malformed IPv4 header") Apply(                       \
                        DropIpv4Truncated,                                                         \
                        "IPv4 shorter than its header says") Apply(DropIpv4Checksum,               \
                                                                   "wrong IPv4 checksum")          \
                        Apply(DropIpv4Source, "from an address that no station has") Apply(        \
                            DropIpv4Destination, "to another IPv4 address")                        \
                            Apply(DropIpv4Protocol, "of a protocol that nobody speaks") Apply(     \
                                DropFragmentMalformed,                                             \
                                "malformed fragment") Apply(DropFragmentDuplicate,                 \
                                                            "fragment that was here already")      \
                                Apply(DropFragmentOverlap, "fragments that overlap") Apply(        \
                                    DropFragmentNoRoom, "fragments for which there was no room")   \
                                    Apply(DropFragmentLate,                                        \
                                          "fragments whose rest did not come "                     \
                                          "in time") Apply(DropIcmpMalformed, "malformed ICMP")    \
                                        Apply(DropIcmpChecksum, "wrong ICMP checksum") Apply(      \
                                            DropIcmpOther,                                         \
                                            "ICMP that needs no answer") Apply(DropBroadcastEcho,  \
                                                                               "echo request to "  \
                                                                               "everybody")        \
                                            Apply(DropUdpMalformed, "wrong UDP length") Apply(     \
                                                DropUdpChecksum, "wrong UDP checksum")             \
                                                Apply(DropUdpNoListener,                           \
                                                      "UDP to a port that nobody listens on")      \
                                                    Apply(DropUdpLoop, "UDP from a port that "     \
                                                                       "would answer the answer")  \
                                                        Apply(DropStateOutsider,                   \
                                                              "state request from outside the "    \
                                                              "subnet, or to everybody")           \
                                                            Apply(DropStateMalformed,              \
                                                                  "malformed state request")       \
                                                                Apply(                             \
                                                                    DropStateBusy,                 \
                                                                    "state request while another " \
                                                                    "was being answered")          \
                                                                    Apply(DropStopping,            \
                                                                          "come when the stack "   \
                                                                          "was stopping")

typedef enum _INET_COUNTER {
#define INET_COUNTER_NAME(Name, Words) Inet##Name,
    INET_COUNTERS(INET_COUNTER_NAME)
#undef INET_COUNTER_NAME
        InetCounterCount,
} INET_COUNTER;

#define INET_FIRST_DROP InetDropRunt

// What becomes of a received frame: a reason to drop it, or one of these two.
typedef enum _INET_VERDICT {
    InetUsed = InetCounterCount, // done with: it goes back to the card
    InetTaken,                   // it is somewhere else now
} INET_VERDICT;

// A few words for each counter.
PCSTR InetDescribeCounter(_In_ ULONG Counter);

// -------------------------------------------------------------------------------------------------
// What is sent, and not received memory.

typedef struct _INET_PACKET {
    NET_FRAME Frame; // first: found again from what the card gives back
    struct _INET_PACKET *NextFree;
    PUCHAR Memory;   // INET_PACKET_BYTES; what is sent of it ends at its end
    PMDL Mdl;        // describes it
    BOOLEAN IsChunk; // a chunk of the report follows it in the chain
} INET_PACKET, *PINET_PACKET;

typedef enum _INET_ARP_STATE {
    InetArpFree,
    InetArpAsking, // requests were sent, no answer yet
    InetArpKnown,
} INET_ARP_STATE;

typedef struct _INET_ARP_ENTRY {
    INET_ARP_STATE State;
    ULONG Address;
    UCHAR Hardware[ETHERNET_ADDRESS_BYTES];
    ULONG Tries;
    ULONG64 TimeMs;       // Asking: when to ask again. Known: when it was confirmed
    PINET_PACKET Waiting; // Asking: one packet for it; NULL: none
} INET_ARP_ENTRY, *PINET_ARP_ENTRY;

// A datagram of which fragments have come. Frames are in order of their offsets.
typedef struct _INET_REASSEMBLY {
    PNET_FRAME First; // NULL: not in use
    ULONG FrameCount;
    ULONG ByteCount;  // of payload, of all frames
    ULONG TotalBytes; // 0: the last fragment has not come
    ULONG Source;
    ULONG Destination;
    USHORT Identification;
    UCHAR Protocol;
    ULONG64 DeadlineMs;
} INET_REASSEMBLY, *PINET_REASSEMBLY;

// A datagram that has come: one frame, or its fragments in order.
typedef struct _INET_DATAGRAM {
    PNET_FRAME Frames;
    PIPV4_HEADER Header; // of the first frame
    PUCHAR Payload;      // in the first frame
    ULONG NearBytes;     // of payload, at Payload in one piece
    ULONG ByteCount;     // of payload, in all frames
    ULONG Source;
    ULONG Destination;
    BOOLEAN IsBroadcast; // to more stations than this one
} INET_DATAGRAM, *PINET_DATAGRAM;

typedef struct _INET_PING_STATE {
    PVOID Context; // NULL: not in use
    ULONG Address;
    USHORT Sequence;
    ULONG64 DeadlineMs;
} INET_PING_STATE, *PINET_PING_STATE;

// What the stack needs of its surroundings. Context is theirs.
typedef struct _INET_PORT {
    PVOID Context;
    // Writes the report of that name to Buffer, and returns its bytes; 0: there is none.
    ULONG (*Report)(PVOID Context, PCSTR Name, PCHAR Buffer, ULONG Capacity);
    // A ping has ended; on success Frame is the reply.
    VOID(*PingDone)
    (PVOID Context, PVOID PingContext, NTSTATUS Status, const UCHAR *Hardware, UCHAR TimeToLive);
    // The DHCP client has a lease, or has given up for now.
    VOID (*LeaseDone)(PVOID Context, NTSTATUS Status);
    // Something that a person should read, once in a while.
    VOID (*Tell)(PVOID Context, PCSTR Text, ULONG Address, const UCHAR *Hardware);
} INET_PORT, *PINET_PORT;

typedef struct _INET_INTERFACE {
    INET_PORT Port;
    ULONG64 NowMs; // set by the user before each call; never goes back
    UCHAR Hardware[ETHERNET_ADDRESS_BYTES];
    BOOLEAN LinkUp;
    BOOLEAN IsStopping;
    BOOLEAN UsesDhcp;

    ULONG Address; // 0: none yet
    ULONG Mask;
    ULONG Router;        // 0: none
    ULONG StaticAddress; // 0: DHCP
    ULONG StaticMask;
    ULONG StaticRouter;

    // Lists for the user to take.
    PNET_FRAME Outgoing; // in order
    PNET_FRAME OutgoingTail;
    PNET_FRAME Returned;

    PINET_PACKET FreePackets;
    ULONG FreePacketCount;
    USHORT NextIdentification;
    USHORT NextSequence;

    INET_ARP_ENTRY Arp[INET_ARP_ENTRIES];
    ULONG AnnouncementsLeft;
    ULONG64 AnnounceMs; // when to send the next one
    ULONG64 DefendMs;   // no defence before that

    INET_REASSEMBLY Reassemblies[INET_REASSEMBLIES];
    ULONG HeldFrames; // in Reassemblies

    ULONG ErrorTokens;
    ULONG64 ErrorMs; // when the bucket was filled last

    INET_PING_STATE Pings[INET_PINGS];

    DHCP_CLIENT Dhcp;
    UCHAR SenderHardware[ETHERNET_ADDRESS_BYTES]; // of the frame that is being looked at

    PCHAR Report;       // INET_REPORT_BYTES
    PMDL *ReportChunks; // INET_CHUNK_COUNT, each of INET_CHUNK_BYTES
    ULONG ChunksInFlight;

    PINET_PACKET Packets; // INET_PACKET_COUNT
    ULONG64 Counters[InetCounterCount];
} INET_INTERFACE, *PINET_INTERFACE;

// -------------------------------------------------------------------------------------------------
// stack.c: the interface as a whole.

// Prepares an interface whose Packets, Report and ReportChunks the caller has made (all else is zero);
// the address to use without DHCP is in StaticAddress, StaticMask, StaticRouter. Seed should differ
// from boot to boot.
VOID InetInitialize(_Inout_ PINET_INTERFACE Interface, _In_ const INET_PORT *Port,
                    _In_ const UCHAR Hardware[ETHERNET_ADDRESS_BYTES], _In_ ULONG Seed);

// The link has come up or gone down.
VOID InetLinkChanged(_Inout_ PINET_INTERFACE Interface, _In_ BOOLEAN IsUp);

// Takes received frames, a list. What becomes of them, N1 says.
VOID InetReceive(_Inout_ PINET_INTERFACE Interface, _In_opt_ PNET_FRAME Frames);

// Does what is due at NowMs; tells when something will be due next (INET_NEVER: nothing).
VOID InetRunTimers(_Inout_ PINET_INTERFACE Interface);
ULONG64 InetNextDeadline(_In_ const INET_INTERFACE *Interface);

// Frames of Outgoing come back from the card, each with its Status.
VOID InetSendDone(_Inout_ PINET_INTERFACE Interface, _In_opt_ PNET_FRAME Frames);

// Gives the lease back, and everything that is kept; what is in Outgoing then is the last to be sent.
VOID InetStop(_Inout_ PINET_INTERFACE Interface);

// The addresses are in use from now on, and announced; Address 0: none any more.
VOID InetConfigure(_Inout_ PINET_INTERFACE Interface, _In_ ULONG Address, _In_ ULONG Mask,
                   _In_ ULONG Router);

// The sum of all drops.
ULONG64 InetCountDrops(_In_ const INET_INTERFACE *Interface);

// A packet of ByteCount bytes, zeroed, and where they lie; NULL: none is free, which is counted.
// Whoever takes one queues it (InetQueue) or gives it back.
PINET_PACKET InetTakePacket(_Inout_ PINET_INTERFACE Interface, _In_ ULONG ByteCount,
                            _Outptr_ PUCHAR *Bytes);
VOID InetGivePacket(_Inout_ PINET_INTERFACE Interface, _In_ PINET_PACKET Packet);

// Puts a frame at the end of Outgoing; or a received one on Returned.
VOID InetQueue(_Inout_ PINET_INTERFACE Interface, _In_ PNET_FRAME Frame);
VOID InetReturn(_Inout_ PINET_INTERFACE Interface, _In_ PNET_FRAME Frame);

// -------------------------------------------------------------------------------------------------
// wire.c: numbers, sums, and frames in pieces.

ULONG InetRead16(_In_ const UCHAR *Bytes);
ULONG InetRead32(_In_ const UCHAR *Bytes);
VOID InetWrite16(_Out_ PUCHAR Bytes, _In_ ULONG Value);
VOID InetWrite32(_Out_ PUCHAR Bytes, _In_ ULONG Value);
BOOLEAN InetSameHardware(_In_ const UCHAR *One, _In_ const UCHAR *Other);

// An Internet checksum that is being added up (RFC 1071).
typedef struct _INET_SUM {
    ULONG64 Words; // in memory order
    BOOLEAN IsOdd; // an odd number of bytes so far
} INET_SUM, *PINET_SUM;

VOID InetAdd(_Inout_ PINET_SUM Sum, _In_reads_bytes_(ByteCount) const VOID *Bytes,
             _In_ ULONG ByteCount);
// The checksum: folded, complemented, in host order. 0 when a right one was added, too.
USHORT InetFinish(_In_ const INET_SUM *Sum);
// The checksum of bytes that are in one piece.
USHORT InetChecksum(_In_ const VOID *Bytes, _In_ ULONG ByteCount);
// Adds ByteCount bytes from Offset of a frame, through its chain. FALSE: the chain is shorter, or has
// no address.
_Must_inspect_result_ BOOLEAN InetAddFrame(_Inout_ PINET_SUM Sum, _In_ const NET_FRAME *Frame,
                                           _In_ ULONG Offset, _In_ ULONG ByteCount);
VOID InetAddPseudoHeader(_Inout_ PINET_SUM Sum, _In_ const IPV4_HEADER *Header,
                         _In_ ULONG ByteCount);

// ByteCount bytes at Offset of the frame, if they are in one piece of memory; else NULL. *NearBytes:
// how many more than zero are.
PUCHAR InetHeaderAt(_In_ const NET_FRAME *Frame, _In_ ULONG Offset, _In_ ULONG ByteCount);
ULONG InetNearBytes(_In_ const NET_FRAME *Frame, _In_ ULONG Offset);

// Adds ByteCount bytes of a datagram's payload, over all of its frames.
_Must_inspect_result_ BOOLEAN InetAddPayload(_Inout_ PINET_SUM Sum,
                                             _In_ const INET_DATAGRAM *Datagram,
                                             _In_ ULONG ByteCount);

// An address that one station can have.
BOOLEAN InetIsHostAddress(_In_ ULONG Address);

// -------------------------------------------------------------------------------------------------
// The layers. Input routines return what becomes of the frame (or of all frames of a datagram): an
// INET_COUNTER from INET_FIRST_DROP on, or an INET_VERDICT.

ULONG InetEthernetInput(_Inout_ PINET_INTERFACE Interface, _In_ PNET_FRAME Frame);
// Fills in the header of a packet of ours.
VOID InetBuildEthernet(_In_ const INET_INTERFACE *Interface, _Out_ PUCHAR Bytes,
                       _In_ const UCHAR *Destination, _In_ ULONG Type);

ULONG InetArpInput(_Inout_ PINET_INTERFACE Interface, _In_ PNET_FRAME Frame, _In_ ULONG Offset);
VOID InetArpTimers(_Inout_ PINET_INTERFACE Interface);
ULONG64 InetArpDeadline(_In_ const INET_INTERFACE *Interface);
VOID InetArpFlush(_Inout_ PINET_INTERFACE Interface);
// Sends a packet to a station of our subnet, now or when its address is known; takes the packet.
VOID InetArpSend(_Inout_ PINET_INTERFACE Interface, _In_ PINET_PACKET Packet, _In_ ULONG Address);
// "Who has Address?", from nobody: is it free? And: it is ours.
VOID InetArpProbe(_Inout_ PINET_INTERFACE Interface, _In_ ULONG Address);
VOID InetArpAnnounce(_Inout_ PINET_INTERFACE Interface);

ULONG InetIpv4Input(_Inout_ PINET_INTERFACE Interface, _In_ PNET_FRAME Frame, _In_ ULONG Offset);
// The datagram is whole. Also from fragment.c.
ULONG InetDeliver(_Inout_ PINET_INTERFACE Interface, _Inout_ PINET_DATAGRAM Datagram);
VOID InetOpenDatagram(_In_ const INET_INTERFACE *Interface, _In_ PNET_FRAME Frames,
                      _Out_ PINET_DATAGRAM Datagram);
// Turns source and destination around, in place, and sends it back where it came from.
VOID InetReflect(_Inout_ PINET_INTERFACE Interface, _In_ const INET_DATAGRAM *Datagram);
// Fills in Ethernet and IPv4 headers of a packet of ours, and sends it: to Hardware, or, when that is
// NULL, to wherever the way to Destination begins. Takes the packet.
VOID InetSendIpv4(_Inout_ PINET_INTERFACE Interface, _In_ PINET_PACKET Packet, _In_ ULONG Source,
                  _In_ ULONG Destination, _In_ UCHAR Protocol, _In_opt_ const UCHAR *Hardware);

// A fragment; when it is the last one missing, the datagram is delivered.
ULONG InetFragmentInput(_Inout_ PINET_INTERFACE Interface, _In_ PNET_FRAME Frame);
VOID InetFragmentTimers(_Inout_ PINET_INTERFACE Interface);
ULONG64 InetFragmentDeadline(_In_ const INET_INTERFACE *Interface);
VOID InetFragmentFlush(_Inout_ PINET_INTERFACE Interface);

ULONG InetIcmpInput(_Inout_ PINET_INTERFACE Interface, _In_ const INET_DATAGRAM *Datagram);
// "There is nobody", unless there were too many of these. Code: ICMP_..._UNREACHABLE.
VOID InetSendUnreachable(_Inout_ PINET_INTERFACE Interface, _In_ const INET_DATAGRAM *Datagram,
                         _In_ UCHAR Code);
// Begins a ping; its end is told by Port.PingDone, when this returns STATUS_SUCCESS.
_Must_inspect_result_ NTSTATUS InetPing(_Inout_ PINET_INTERFACE Interface, _In_ ULONG Address,
                                        _In_ ULONG PayloadBytes, _In_ ULONG TimeoutMs,
                                        _In_ PVOID PingContext);
// Forgets a ping; its end is not told.
VOID InetCancelPing(_Inout_ PINET_INTERFACE Interface, _In_ PVOID PingContext);
VOID InetIcmpTimers(_Inout_ PINET_INTERFACE Interface);
ULONG64 InetIcmpDeadline(_In_ const INET_INTERFACE *Interface);

ULONG InetUdpInput(_Inout_ PINET_INTERFACE Interface, _In_ const INET_DATAGRAM *Datagram);
// A packet for PayloadBytes of payload, at *Payload; NULL: none free.
PINET_PACKET InetBeginUdp(_Inout_ PINET_INTERFACE Interface, _In_ ULONG PayloadBytes,
                          _Outptr_ PUCHAR *Payload);
// Fills in UDP's header, the checksum over Chunk (ChunkBytes, behind the packet's own bytes), and the
// rest; sends it. Hardware as for InetSendIpv4.
VOID InetSendUdp(_Inout_ PINET_INTERFACE Interface, _In_ PINET_PACKET Packet, _In_ ULONG Source,
                 _In_ ULONG SourcePort, _In_ ULONG Destination, _In_ ULONG DestinationPort,
                 _In_opt_ const UCHAR *Hardware, _In_opt_ PMDL Chunk, _In_ ULONG ChunkBytes);

// service.c: who listens on a port.
typedef ULONG INET_UDP_SERVICE(PINET_INTERFACE Interface, const INET_DATAGRAM *Datagram);
INET_UDP_SERVICE InetEchoService;
INET_UDP_SERVICE InetStateService;

// report.c: text.
typedef struct _INET_TEXT {
    PCHAR Buffer;
    ULONG Capacity;
    ULONG ByteCount;
} INET_TEXT, *PINET_TEXT;

VOID InetPutText(_Inout_ PINET_TEXT Text, _In_ PCSTR String);
VOID InetPutNumber(_Inout_ PINET_TEXT Text, _In_ ULONG64 Number);
VOID InetPutAddress(_Inout_ PINET_TEXT Text, _In_ ULONG Address);
VOID InetPutHardware(_Inout_ PINET_TEXT Text, _In_ const UCHAR *Hardware);
// Everything about an interface.
VOID InetDescribe(_In_ const INET_INTERFACE *Interface, _Inout_ PINET_TEXT Text);
