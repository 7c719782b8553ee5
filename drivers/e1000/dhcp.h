// A DHCP client over raw Ethernet frames (RFC 2131; options of RFC 2132), and the little of
// Ethernet, IPv4 and UDP that it needs. It knows no network card: frames and time come through a
// DHCP_LINK, so that the same code runs on the driver's rings and, on the build machine, against a
// server that a test invents.
//
//      client                         server
//        | -- DISCOVER (broadcast) -->  |    each message is sent again when no answer comes,
//        | <-- OFFER (an address) ----  |    and the wait doubles every time
//        | -- REQUEST (broadcast) --->  |
//        | <-- ACK, or NAK -----------  |    NAK: begin again with DISCOVER
//
// Whatever arrives is checked layer by layer. A frame that is not the awaited answer is dropped,
// and counted by the reason of its dropping. IP addresses are ULONGs in host order: 10.0.2.15 is
// 0x0A00020F.
#pragma once

#include <wdm.h>

#define DHCP_MAC_BYTES 6
#define DHCP_FRAME_BYTES 1514 // Ethernet header and 1,500 bytes, without the check sequence

//
// What is on the wire. Fields are arrays of bytes because they are big-endian and unaligned.
//

#define ETHERNET_TYPE_IPV4 0x0800

typedef struct _ETHERNET_HEADER {
    UCHAR Destination[DHCP_MAC_BYTES];
    UCHAR Source[DHCP_MAC_BYTES];
    UCHAR Type[2];
} ETHERNET_HEADER, *PETHERNET_HEADER;
C_ASSERT(sizeof(ETHERNET_HEADER) == 14);

#define IPV4_VERSION 4
#define IPV4_TIME_TO_LIVE 64 // hops
#define IPV4_PROTOCOL_UDP 17
#define IPV4_DONT_FRAGMENT 0x4000
#define IPV4_FRAGMENT_MASK                                                                         \
    0x3FFF // "more fragments" and the offset: zero in a datagram that is whole

typedef struct _IPV4_HEADER {
    UCHAR VersionAndLength; // high half: version; low half: header length in 4-byte words
    UCHAR TypeOfService;
    UCHAR TotalLength[2]; // header and payload, in bytes
    UCHAR Identification[2];
    UCHAR Fragment[2];
    UCHAR TimeToLive;
    UCHAR Protocol;
    UCHAR Checksum[2];
    UCHAR Source[4];
    UCHAR Destination[4];
} IPV4_HEADER, *PIPV4_HEADER;
C_ASSERT(sizeof(IPV4_HEADER) == 20);

typedef struct _UDP_HEADER {
    UCHAR SourcePort[2];
    UCHAR DestinationPort[2];
    UCHAR Length[2];   // header and payload, in bytes
    UCHAR Checksum[2]; // 0: the sender computed none
} UDP_HEADER, *PUDP_HEADER;
C_ASSERT(sizeof(UDP_HEADER) == 8);

#define DHCP_SERVER_PORT 67
#define DHCP_CLIENT_PORT 68
#define DHCP_OPERATION_REQUEST 1
#define DHCP_OPERATION_REPLY 2
#define DHCP_HARDWARE_ETHERNET 1
#define DHCP_COOKIE 0x63825363u

typedef struct _DHCP_MESSAGE {
    UCHAR Operation;
    UCHAR HardwareType;
    UCHAR HardwareBytes;
    UCHAR Hops;
    UCHAR TransactionId[4];
    UCHAR Seconds[2]; // since the client began
    UCHAR Flags[2];
    UCHAR ClientAddress[4];
    UCHAR YourAddress[4];
    UCHAR ServerAddress[4];
    UCHAR RelayAddress[4];
    UCHAR HardwareAddress[16];
    UCHAR ServerName[64]; // may hold options instead, as may the next field: see DhcpOptionOverload
    UCHAR BootFile[128];
    UCHAR Cookie[4];
    // options follow
} DHCP_MESSAGE, *PDHCP_MESSAGE;
C_ASSERT(sizeof(DHCP_MESSAGE) == 240);

#define DHCP_MINIMUM_MESSAGE_BYTES 300 // relays may drop a shorter one (RFC 1542)

typedef enum _DHCP_OPTION {
    DhcpOptionPad = 0,
    DhcpOptionSubnetMask = 1,
    DhcpOptionRouter = 3,
    DhcpOptionDnsServer = 6,
    DhcpOptionRequestedAddress = 50,
    DhcpOptionLeaseSeconds = 51,
    DhcpOptionOverload = 52,
    DhcpOptionMessageType = 53,
    DhcpOptionServerId = 54,
    DhcpOptionParameterList = 55,
    DhcpOptionEnd = 255,
} DHCP_OPTION;

typedef enum _DHCP_MESSAGE_TYPE {
    DhcpDiscover = 1,
    DhcpOffer = 2,
    DhcpRequest = 3,
    DhcpAck = 5,
    DhcpNak = 6,
} DHCP_MESSAGE_TYPE;

//
// What becomes of a received frame.
//

typedef enum _DHCP_VERDICT {
    DhcpAccepted,
    DhcpRefused, // a valid NAK
    DhcpNotForUs,
    DhcpNotIpv4,
    DhcpBadIpv4Header,
    DhcpBadIpv4Checksum,
    DhcpFragment,
    DhcpNotUdp,
    DhcpBadUdpLength,
    DhcpNotOurPorts,
    DhcpBadUdpChecksum,
    DhcpBadMessage,
    DhcpOtherTransaction,
    DhcpBadOptions,
    DhcpUnexpectedType,
    DhcpOtherServer,
    DhcpBadAddress,
    DhcpBadLease,
    DhcpVerdictCount,
} DHCP_VERDICT;

// A few words for each verdict.
PCSTR DhcpDescribeVerdict(DHCP_VERDICT Verdict);

// The fields of a reply that matter to us; what was absent is zero.
typedef struct _DHCP_REPLY {
    ULONG MessageType;
    ULONG Address;
    ULONG SubnetMask;
    ULONG Router;
    ULONG DnsServer;
    ULONG ServerId;
    ULONG LeaseSeconds;
    ULONG Overload;
} DHCP_REPLY, *PDHCP_REPLY;

//
// Where frames and time come from. Context is the link's own.
//

// Sends one frame.
typedef NTSTATUS NTAPI DHCP_SEND(_In_opt_ PVOID Context, _In_ const UCHAR *Frame,
                                 _In_ ULONG ByteCount);

// Waits up to TimeoutMs for a frame. STATUS_IO_TIMEOUT: none came. Another failure ends the client.
typedef NTSTATUS NTAPI DHCP_RECEIVE(_In_opt_ PVOID Context, _Out_ PUCHAR Frame, _In_ ULONG Capacity,
                                    _In_ ULONG TimeoutMs, _Out_ PULONG ByteCount);

// Milliseconds since whenever; never goes back.
typedef ULONG64 NTAPI DHCP_CLOCK(_In_opt_ PVOID Context);

typedef struct _DHCP_LINK {
    PVOID Context;
    DHCP_SEND *Send;
    DHCP_RECEIVE *Receive;
    DHCP_CLOCK *Clock;
} DHCP_LINK, *PDHCP_LINK;

typedef struct _DHCP_CLIENT {
    DHCP_LINK Link;
    UCHAR MacAddress[DHCP_MAC_BYTES];
    ULONG Random; // state of a small generator: transaction ids and the jitter of the waits
    ULONG TransactionId;
    ULONG64 StartMs;
    ULONG Seconds;    // as sent with the last DISCOVER
    DHCP_REPLY Reply; // the offer, then the acknowledgement
    ULONG SentCount;
    ULONG VerdictCounts[DhcpVerdictCount];
    UCHAR Frame[DHCP_FRAME_BYTES]; // the one being sent or judged
} DHCP_CLIENT, *PDHCP_CLIENT;

// Prepares a client. Seed should differ from boot to boot.
VOID DhcpInitializeClient(_Out_ PDHCP_CLIENT Client, _In_ const DHCP_LINK *Link,
                          _In_ const UCHAR MacAddress[DHCP_MAC_BYTES], _In_ ULONG Seed);

// Obtains a lease; on success Client->Reply holds it. Bounded in time: STATUS_IO_TIMEOUT when no
// server answers, STATUS_DEVICE_PROTOCOL_ERROR when servers keep refusing what was offered, or the
// link's own failure.
_Must_inspect_result_ NTSTATUS DhcpObtainLease(_Inout_ PDHCP_CLIENT Client);

//
// The parts, for tests.
//

// Builds a DISCOVER or REQUEST into Client->Frame and returns its length in bytes.
ULONG DhcpBuildFrame(_Inout_ PDHCP_CLIENT Client, _In_ DHCP_MESSAGE_TYPE Type);

// Reads a frame that claims to be a reply to the client's transaction. Only DhcpAccepted fills
// *Reply.
DHCP_VERDICT DhcpParseFrame(_In_ const DHCP_CLIENT *Client, _In_ const UCHAR *Frame,
                            _In_ ULONG ByteCount, _Out_ PDHCP_REPLY Reply);

// The Internet checksum (RFC 1071) over bytes, continued from Sum; begin with 0.
ULONG DhcpSumBytes(_In_ ULONG Sum, _In_ const UCHAR *Bytes, _In_ ULONG ByteCount);
USHORT DhcpFoldSum(_In_ ULONG Sum);

// The sum of the pseudo header that a UDP checksum begins with.
ULONG DhcpSumPseudoHeader(_In_ const IPV4_HEADER *Header, _In_ ULONG UdpByteCount);
