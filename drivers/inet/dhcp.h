// A DHCP client (RFC 2131; options of RFC 2132) as a machine of states: messages and time go in,
// messages come out. It waits for nobody.
//
//                    link up
//    Idle ─────────────────────▶ Selecting ── OFFER ──▶ Requesting ── ACK ──▶ Probing (is it free?)
//     ▲                           ▲  ▲  DISCOVER again   REQUEST again          │         │
//     │ link down, no lease       │  └── NAK ──────────────┘          somebody has it    nobody
//     │                           │                                   DECLINE │           ▼
//     │                        Waiting ◀── no answer, refusals ──────◀────────┘         Bound
//     │                                                                         T1 ▼      ▲
//     └──                 lease over, NAK ──▶ Selecting ◀── Rebinding ◀── T2 ── Renewing ─┘ ACK
//
// Messages are sent again with waits that grow. Whatever arrives is checked layer by layer; what is not
// the awaited answer is dropped, and counted by the reason.
#pragma once

#include <wdm.h>
#include <ntdef.h>

#define DHCP_MAC_BYTES 6
#define DHCP_NEVER MAXULONG64

#define DHCP_OPERATION_REQUEST 1
#define DHCP_OPERATION_REPLY 2
#define DHCP_HARDWARE_ETHERNET 1
#define DHCP_COOKIE 0x63825363u
#define DHCP_INFINITE_LEASE MAXULONG // seconds

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

#define DHCP_SENT_BYTES 300 // of every message of ours: relays may drop a shorter one (RFC 1542)

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
    DhcpOptionRenewSeconds = 58,
    DhcpOptionRebindSeconds = 59,
    DhcpOptionEnd = 255,
} DHCP_OPTION;

typedef enum _DHCP_MESSAGE_TYPE {
    DhcpDiscover = 1,
    DhcpOffer = 2,
    DhcpRequest = 3,
    DhcpDecline = 4,
    DhcpAck = 5,
    DhcpNak = 6,
    DhcpReleaseMessage = 7,
} DHCP_MESSAGE_TYPE;

//
// What becomes of a received message.
//

typedef enum _DHCP_VERDICT {
    DhcpAccepted,
    DhcpRefused, // a valid NAK
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
    ULONG RenewSeconds;
    ULONG RebindSeconds;
    ULONG Overload;
} DHCP_REPLY, *PDHCP_REPLY;

typedef enum _DHCP_STATE {
    DhcpIdle,
    DhcpSelecting,
    DhcpRequesting,
    DhcpProbing,
    DhcpBound,
    DhcpRenewing,
    DhcpRebinding,
    DhcpWaiting, // before it begins again
    DhcpStateCount,
} DHCP_STATE;

PCSTR DhcpDescribeState(DHCP_STATE State);

//
// The way out. Context is the link's own.
//

typedef struct _DHCP_ROUTE {
    ULONG Source;          // 0: no address yet
    ULONG Destination;     // a server, or everybody
    const UCHAR *Hardware; // where the server's last message came from; NULL: find out
} DHCP_ROUTE;

typedef struct _DHCP_LINK {
    PVOID Context;
    // Sends a message, which DhcpBuildMessage makes. It may be lost.
    VOID (*Send)(PVOID Context, DHCP_MESSAGE_TYPE Type, const DHCP_ROUTE *Route);
    // Asks whether anybody has this address; DhcpNoticeClaim is called when so.
    VOID (*Probe)(PVOID Context, ULONG Address);
    // STATUS_SUCCESS: Client->Lease is valid, or renewed. STATUS_NO_SUCH_DEVICE: it is over.
    // STATUS_IO_TIMEOUT, STATUS_DEVICE_PROTOCOL_ERROR: nobody answers, servers refuse; the client tries
    // again later.
    VOID (*LeaseChanged)(PVOID Context, NTSTATUS Status);
} DHCP_LINK, *PDHCP_LINK;

typedef struct _DHCP_CLIENT {
    DHCP_LINK Link;
    DHCP_STATE State;
    ULONG64 DeadlineMs; // when DhcpRunTimer has something to do; DHCP_NEVER: nothing
    UCHAR MacAddress[DHCP_MAC_BYTES];
    UCHAR ServerHardware[DHCP_MAC_BYTES]; // where the lease came from
    ULONG Random; // state of a small generator: transaction ids and the jitter of the waits
    ULONG TransactionId;
    ULONG Seconds; // since StartMs, as sent
    ULONG64 StartMs;
    ULONG Attempts; // of the present message
    ULONG Refusals; // in a row
    DHCP_REPLY Offer;
    DHCP_REPLY Lease; // Address 0: none
    ULONG64 RenewMs;
    ULONG64 RebindMs;
    ULONG64 ExpiryMs;
    ULONG SentCount;
    ULONG DeclineCount;
    ULONG VerdictCounts[DhcpVerdictCount];
} DHCP_CLIENT, *PDHCP_CLIENT;

// Prepares a client, which is idle. Seed should differ from boot to boot.
VOID DhcpInitialize(_Out_ PDHCP_CLIENT Client, _In_ const DHCP_LINK *Link,
                    _In_ const UCHAR MacAddress[DHCP_MAC_BYTES], _In_ ULONG Seed);

// Asks for a lease; or, when there is one, whether it still holds.
VOID DhcpLinkUp(_Inout_ PDHCP_CLIENT Client, _In_ ULONG64 NowMs);
VOID DhcpLinkDown(_Inout_ PDHCP_CLIENT Client);
VOID DhcpRunTimer(_Inout_ PDHCP_CLIENT Client, _In_ ULONG64 NowMs);

// A message from a server: the payload of its UDP datagram, which came from Hardware.
VOID DhcpInput(_Inout_ PDHCP_CLIENT Client, _In_ ULONG64 NowMs,
               _In_reads_bytes_(ByteCount) const UCHAR *Bytes, _In_ ULONG ByteCount,
               _In_ const UCHAR *Hardware);

// Somebody has said by ARP that Sender is his; or, from no address, asks for Target. TRUE: it is the
// address that was about to become ours. It is declined.
BOOLEAN DhcpNoticeClaim(_Inout_ PDHCP_CLIENT Client, _In_ ULONG64 NowMs, _In_ ULONG Sender,
                        _In_ ULONG Target);

// Gives the lease back, if there is one; idle afterwards.
VOID DhcpRelease(_Inout_ PDHCP_CLIENT Client);

// Writes a message of DHCP_SENT_BYTES; Bytes are zero.
VOID DhcpBuildMessage(_In_ const DHCP_CLIENT *Client, _In_ DHCP_MESSAGE_TYPE Type,
                      _Out_ PUCHAR Bytes);

// Reads what claims to be a reply to the client's transaction. Only DhcpAccepted fills *Reply. For
// tests.
DHCP_VERDICT DhcpParseMessage(_In_ const DHCP_CLIENT *Client,
                              _In_reads_bytes_(ByteCount) const UCHAR *Bytes, _In_ ULONG ByteCount,
                              _Out_ PDHCP_REPLY Reply);
