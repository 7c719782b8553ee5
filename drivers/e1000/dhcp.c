// The DHCP client: building, judging, and the exchange. See dhcp.h for the picture.
//
// Invariants of parsing:
//   D1  A slice never reaches beyond the frame that it was cut from. Only DhcpAdvance and DhcpTrim
//       change one, and both are called after the length that they rely on was compared.
//   D2  Every wait ends: each Receive gets what is left of a deadline, and the attempts and rounds
//       are counted. A flood of foreign frames can't prolong it.
// IRQL: whatever the link wants. No locks; one client is used by one caller at a time.
#include "dhcp.h"

#define DHCP_ATTEMPTS 4 // per message: waits of about 1, 2, 4 and 8 seconds
#define DHCP_FIRST_WAIT_MS 1000u
#define DHCP_JITTER_MS 128u // two clients that were switched on together drift apart
#define DHCP_ROUNDS 3       // DISCOVER again after a NAK

#define BROADCAST_ADDRESS 0xFFFFFFFFu
#define LOOPBACK_NETWORK 127u
#define FIRST_MULTICAST_NETWORK 224u

static const UCHAR EthernetBroadcast[DHCP_MAC_BYTES] = {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF};

// What is left to read of a frame.
typedef struct _DHCP_SLICE {
    const UCHAR *Bytes;
    ULONG ByteCount;
} DHCP_SLICE, *PDHCP_SLICE;

PCSTR DhcpDescribeVerdict(DHCP_VERDICT Verdict)
{
    static const PCSTR Words[] = {
        [DhcpAccepted] = "accepted",
        [DhcpRefused] = "refusal by the server",
        [DhcpNotForUs] = "addressed to another station",
        [DhcpNotIpv4] = "not IPv4",
        [DhcpBadIpv4Header] = "malformed IPv4 header",
        [DhcpBadIpv4Checksum] = "wrong IPv4 checksum",
        [DhcpFragment] = "IPv4 fragment",
        [DhcpNotUdp] = "not UDP",
        [DhcpBadUdpLength] = "wrong UDP length",
        [DhcpNotOurPorts] = "other UDP ports",
        [DhcpBadUdpChecksum] = "wrong UDP checksum",
        [DhcpBadMessage] = "malformed DHCP message",
        [DhcpOtherTransaction] = "another client's transaction",
        [DhcpBadOptions] = "malformed DHCP options",
        [DhcpUnexpectedType] = "DHCP message out of turn",
        [DhcpOtherServer] = "another server's answer",
        [DhcpBadAddress] = "unusable address",
        [DhcpBadLease] = "lease without a duration",
    };
    C_ASSERT(ARRAYSIZE(Words) == DhcpVerdictCount);
    return Verdict < DhcpVerdictCount ? Words[Verdict] : "unknown";
}

// -------------------------------------------------------------------------------------------------
// Big-endian numbers and checksums.

static ULONG DhcpReadBig(const UCHAR *Bytes, ULONG ByteCount)
{
    ULONG Value = 0;
    for (ULONG Index = 0; Index < ByteCount; Index += 1) {
        Value = Value << 8 | Bytes[Index];
    }
    return Value;
}

static VOID DhcpWriteBig(PUCHAR Bytes, ULONG ByteCount, ULONG Value)
{
    for (ULONG Index = ByteCount; Index > 0; Index--) {
        Bytes[Index - 1] = (UCHAR)Value;
        Value >>= 8;
    }
}

// A frame has at most 1,514 bytes, so the 32-bit sum of its 16-bit words can't overflow.
ULONG DhcpSumBytes(ULONG Sum, const UCHAR *Bytes, ULONG ByteCount)
{
    for (ULONG Index = 0; Index < ByteCount; Index += 1) {
        Sum += (Index & 1) ? Bytes[Index] : (ULONG)Bytes[Index] << 8;
    }
    return Sum;
}

USHORT DhcpFoldSum(ULONG Sum)
{
    while (Sum > MAXUSHORT) {
        Sum = (Sum & MAXUSHORT) + (Sum >> 16);
    }
    return (USHORT)~Sum;
}

ULONG DhcpSumPseudoHeader(const IPV4_HEADER *Header, ULONG UdpByteCount)
{
    ULONG Sum = IPV4_PROTOCOL_UDP + UdpByteCount;
    Sum = DhcpSumBytes(Sum, Header->Source, sizeof(Header->Source));
    return DhcpSumBytes(Sum, Header->Destination, sizeof(Header->Destination));
}

// -------------------------------------------------------------------------------------------------
// Building.

static PUCHAR DhcpPutOption(PUCHAR Cursor, DHCP_OPTION Code, ULONG ByteCount, ULONG Value)
{
    Cursor[0] = (UCHAR)Code;
    Cursor[1] = (UCHAR)ByteCount;
    DhcpWriteBig(&Cursor[2], ByteCount, Value);
    return Cursor + 2 + ByteCount;
}

static PUCHAR DhcpPutParameterList(PUCHAR Cursor)
{
    static const UCHAR Wanted[] = {DhcpOptionSubnetMask, DhcpOptionRouter, DhcpOptionDnsServer,
                                   DhcpOptionLeaseSeconds};

    Cursor[0] = DhcpOptionParameterList;
    Cursor[1] = sizeof(Wanted);
    RtlCopyMemory(&Cursor[2], Wanted, sizeof(Wanted));
    return Cursor + 2 + sizeof(Wanted);
}

// The options of a message, written after its fixed part. Returns the end.
static PUCHAR DhcpPutOptions(const DHCP_CLIENT *Client, DHCP_MESSAGE_TYPE Type, PUCHAR Cursor)
{
    Cursor = DhcpPutOption(Cursor, DhcpOptionMessageType, 1, Type);
    if (Type == DhcpRequest) {
        Cursor = DhcpPutOption(Cursor, DhcpOptionRequestedAddress, 4, Client->Reply.Address);
        Cursor = DhcpPutOption(Cursor, DhcpOptionServerId, 4, Client->Reply.ServerId);
    }
    Cursor = DhcpPutParameterList(Cursor);
    *Cursor++ = DhcpOptionEnd;
    return Cursor;
}

// Returns the length of the message. The frame was zeroed, so what is left out here is zero.
static ULONG DhcpBuildMessage(const DHCP_CLIENT *Client, DHCP_MESSAGE_TYPE Type,
                              PDHCP_MESSAGE Message)
{
    Message->Operation = DHCP_OPERATION_REQUEST;
    Message->HardwareType = DHCP_HARDWARE_ETHERNET;
    Message->HardwareBytes = DHCP_MAC_BYTES;
    DhcpWriteBig(Message->TransactionId, sizeof(Message->TransactionId), Client->TransactionId);
    DhcpWriteBig(Message->Seconds, sizeof(Message->Seconds), Client->Seconds);
    RtlCopyMemory(Message->HardwareAddress, Client->MacAddress, DHCP_MAC_BYTES);
    DhcpWriteBig(Message->Cookie, sizeof(Message->Cookie), DHCP_COOKIE);

    const PUCHAR End = DhcpPutOptions(Client, Type, (PUCHAR)(Message + 1));
    const ULONG ByteCount = (ULONG)(End - (PUCHAR)Message);
    return ByteCount < DHCP_MINIMUM_MESSAGE_BYTES ? DHCP_MINIMUM_MESSAGE_BYTES : ByteCount;
}

static VOID DhcpBuildUdp(PUDP_HEADER Udp, const IPV4_HEADER *Ipv4, ULONG PayloadByteCount)
{
    const ULONG ByteCount = sizeof(*Udp) + PayloadByteCount;

    DhcpWriteBig(Udp->SourcePort, sizeof(Udp->SourcePort), DHCP_CLIENT_PORT);
    DhcpWriteBig(Udp->DestinationPort, sizeof(Udp->DestinationPort), DHCP_SERVER_PORT);
    DhcpWriteBig(Udp->Length, sizeof(Udp->Length), ByteCount);
    const ULONG Sum =
        DhcpSumBytes(DhcpSumPseudoHeader(Ipv4, ByteCount), (const UCHAR *)Udp, ByteCount);
    const USHORT Checksum = DhcpFoldSum(Sum);
    // Zero on the wire means "no checksum"; all ones is the same number in one's complement.
    DhcpWriteBig(Udp->Checksum, sizeof(Udp->Checksum), Checksum == 0 ? MAXUSHORT : Checksum);
}

// From 0.0.0.0, which is the only address that the client may use yet, to everybody.
static VOID DhcpBuildIpv4(PIPV4_HEADER Ipv4, ULONG PayloadByteCount)
{
    Ipv4->VersionAndLength = (UCHAR)(IPV4_VERSION << 4 | sizeof(*Ipv4) / sizeof(ULONG));
    DhcpWriteBig(Ipv4->TotalLength, sizeof(Ipv4->TotalLength), sizeof(*Ipv4) + PayloadByteCount);
    DhcpWriteBig(Ipv4->Fragment, sizeof(Ipv4->Fragment), IPV4_DONT_FRAGMENT);
    Ipv4->TimeToLive = IPV4_TIME_TO_LIVE;
    Ipv4->Protocol = IPV4_PROTOCOL_UDP;
    DhcpWriteBig(Ipv4->Destination, sizeof(Ipv4->Destination), BROADCAST_ADDRESS);
    const USHORT Checksum = DhcpFoldSum(DhcpSumBytes(0, (const UCHAR *)Ipv4, sizeof(*Ipv4)));
    DhcpWriteBig(Ipv4->Checksum, sizeof(Ipv4->Checksum), Checksum);
}

static VOID DhcpBuildEthernet(PETHERNET_HEADER Ethernet, const UCHAR *Source)
{
    RtlCopyMemory(Ethernet->Destination, EthernetBroadcast, DHCP_MAC_BYTES);
    RtlCopyMemory(Ethernet->Source, Source, DHCP_MAC_BYTES);
    DhcpWriteBig(Ethernet->Type, sizeof(Ethernet->Type), ETHERNET_TYPE_IPV4);
}

// From the inside out: an outer layer's length and checksum need the inner one.
ULONG DhcpBuildFrame(PDHCP_CLIENT Client, DHCP_MESSAGE_TYPE Type)
{
    const PETHERNET_HEADER Ethernet = (PETHERNET_HEADER)Client->Frame;
    const PIPV4_HEADER Ipv4 = (PIPV4_HEADER)(Ethernet + 1);
    const PUDP_HEADER Udp = (PUDP_HEADER)(Ipv4 + 1);

    RtlZeroMemory(Client->Frame, sizeof(Client->Frame));
    const ULONG MessageByteCount = DhcpBuildMessage(Client, Type, (PDHCP_MESSAGE)(Udp + 1));
    DhcpBuildIpv4(Ipv4, sizeof(*Udp) + MessageByteCount);
    DhcpBuildUdp(Udp, Ipv4, MessageByteCount);
    DhcpBuildEthernet(Ethernet, Client->MacAddress);
    return sizeof(*Ethernet) + sizeof(*Ipv4) + sizeof(*Udp) + MessageByteCount;
}

// -------------------------------------------------------------------------------------------------
// Parsing. Each Open function checks one header and moves the slice behind it.

static VOID DhcpAdvance(PDHCP_SLICE Slice, ULONG ByteCount)
{
    Slice->Bytes += ByteCount;
    Slice->ByteCount -= ByteCount;
}

// Cuts off what follows ByteCount bytes: the padding of a short frame.
static VOID DhcpTrim(PDHCP_SLICE Slice, ULONG ByteCount)
{
    Slice->ByteCount = ByteCount;
}

static BOOLEAN DhcpIsSameMac(const UCHAR *One, const UCHAR *Other)
{
    return RtlEqualMemory(One, Other, DHCP_MAC_BYTES);
}

static DHCP_VERDICT DhcpOpenEthernet(PDHCP_SLICE Slice, const UCHAR *MacAddress)
{
    const ETHERNET_HEADER *const Header = (const ETHERNET_HEADER *)Slice->Bytes;

    if (Slice->ByteCount < sizeof(*Header)) {
        return DhcpNotIpv4;
    }
    if (!DhcpIsSameMac(Header->Destination, MacAddress) &&
        !DhcpIsSameMac(Header->Destination, EthernetBroadcast)) {
        return DhcpNotForUs;
    }
    if (DhcpReadBig(Header->Type, sizeof(Header->Type)) != ETHERNET_TYPE_IPV4) {
        return DhcpNotIpv4;
    }
    DhcpAdvance(Slice, sizeof(*Header));
    return DhcpAccepted;
}

// Compares the lengths in an IPv4 header with the slice; trims the slice to the datagram.
static DHCP_VERDICT DhcpMeasureIpv4(PDHCP_SLICE Slice, PULONG HeaderByteCount)
{
    const IPV4_HEADER *const Header = (const IPV4_HEADER *)Slice->Bytes;

    if (Slice->ByteCount < sizeof(*Header) || Header->VersionAndLength >> 4 != IPV4_VERSION) {
        return DhcpBadIpv4Header;
    }
    const ULONG Words = Header->VersionAndLength & 0xF;
    const ULONG TotalByteCount = DhcpReadBig(Header->TotalLength, sizeof(Header->TotalLength));
    *HeaderByteCount = Words * (ULONG)sizeof(ULONG);
    if (*HeaderByteCount < sizeof(*Header) || TotalByteCount < *HeaderByteCount ||
        TotalByteCount > Slice->ByteCount) {
        return DhcpBadIpv4Header;
    }
    DhcpTrim(Slice, TotalByteCount);
    return DhcpAccepted;
}

static DHCP_VERDICT DhcpOpenIpv4(PDHCP_SLICE Slice)
{
    const IPV4_HEADER *const Header = (const IPV4_HEADER *)Slice->Bytes;
    ULONG HeaderByteCount;

    const DHCP_VERDICT Verdict = DhcpMeasureIpv4(Slice, &HeaderByteCount);
    if (Verdict != DhcpAccepted) {
        return Verdict;
    }
    // Summed together with its own checksum, a sound header gives zero.
    if (DhcpFoldSum(DhcpSumBytes(0, Slice->Bytes, HeaderByteCount)) != 0) {
        return DhcpBadIpv4Checksum;
    }
    if (DhcpReadBig(Header->Fragment, sizeof(Header->Fragment)) & IPV4_FRAGMENT_MASK) {
        return DhcpFragment;
    }
    if (Header->Protocol != IPV4_PROTOCOL_UDP) {
        return DhcpNotUdp;
    }
    DhcpAdvance(Slice, HeaderByteCount);
    return DhcpAccepted;
}

static BOOLEAN DhcpIsUdpChecksumGood(const IPV4_HEADER *Ipv4, const UCHAR *Udp, ULONG ByteCount)
{
    return DhcpFoldSum(DhcpSumBytes(DhcpSumPseudoHeader(Ipv4, ByteCount), Udp, ByteCount)) == 0;
}

static DHCP_VERDICT DhcpOpenUdp(PDHCP_SLICE Slice, const IPV4_HEADER *Ipv4)
{
    const UDP_HEADER *const Header = (const UDP_HEADER *)Slice->Bytes;

    if (Slice->ByteCount < sizeof(*Header)) {
        return DhcpBadUdpLength;
    }
    const ULONG ByteCount = DhcpReadBig(Header->Length, sizeof(Header->Length));
    if (ByteCount < sizeof(*Header) || ByteCount > Slice->ByteCount) {
        return DhcpBadUdpLength;
    }
    if (DhcpReadBig(Header->SourcePort, sizeof(Header->SourcePort)) != DHCP_SERVER_PORT ||
        DhcpReadBig(Header->DestinationPort, sizeof(Header->DestinationPort)) != DHCP_CLIENT_PORT) {
        return DhcpNotOurPorts;
    }
    if (DhcpReadBig(Header->Checksum, sizeof(Header->Checksum)) != 0 &&
        !DhcpIsUdpChecksumGood(Ipv4, Slice->Bytes, ByteCount)) {
        return DhcpBadUdpChecksum;
    }
    DhcpTrim(Slice, ByteCount);
    DhcpAdvance(Slice, sizeof(*Header));
    return DhcpAccepted;
}

static DHCP_VERDICT DhcpOpenMessage(PDHCP_SLICE Slice, const DHCP_CLIENT *Client)
{
    const DHCP_MESSAGE *const Message = (const DHCP_MESSAGE *)Slice->Bytes;

    if (Slice->ByteCount < sizeof(*Message) || Message->Operation != DHCP_OPERATION_REPLY ||
        Message->HardwareType != DHCP_HARDWARE_ETHERNET ||
        Message->HardwareBytes != DHCP_MAC_BYTES ||
        DhcpReadBig(Message->Cookie, sizeof(Message->Cookie)) != DHCP_COOKIE) {
        return DhcpBadMessage;
    }
    if (DhcpReadBig(Message->TransactionId, sizeof(Message->TransactionId)) !=
            Client->TransactionId ||
        !DhcpIsSameMac(Message->HardwareAddress, Client->MacAddress)) {
        return DhcpOtherTransaction;
    }
    DhcpAdvance(Slice, sizeof(*Message));
    return DhcpAccepted;
}

// The options that are read: a value of ValueBytes, or a list of such values of which the first
// counts.
typedef struct _DHCP_OPTION_RULE {
    UCHAR Code;
    UCHAR ValueBytes;
    BOOLEAN IsList;
    ULONG FieldOffset; // of a ULONG in DHCP_REPLY
} DHCP_OPTION_RULE;

static const DHCP_OPTION_RULE DhcpOptionRules[] = {
    {DhcpOptionSubnetMask, 4, FALSE, FIELD_OFFSET(DHCP_REPLY, SubnetMask)},
    {DhcpOptionRouter, 4, TRUE, FIELD_OFFSET(DHCP_REPLY, Router)},
    {DhcpOptionDnsServer, 4, TRUE, FIELD_OFFSET(DHCP_REPLY, DnsServer)},
    {DhcpOptionLeaseSeconds, 4, FALSE, FIELD_OFFSET(DHCP_REPLY, LeaseSeconds)},
    {DhcpOptionOverload, 1, FALSE, FIELD_OFFSET(DHCP_REPLY, Overload)},
    {DhcpOptionMessageType, 1, FALSE, FIELD_OFFSET(DHCP_REPLY, MessageType)},
    {DhcpOptionServerId, 4, FALSE, FIELD_OFFSET(DHCP_REPLY, ServerId)},
};

static const DHCP_OPTION_RULE *DhcpFindOptionRule(UCHAR Code)
{
    for (ULONG Index = 0; Index < ARRAYSIZE(DhcpOptionRules); Index += 1) {
        if (DhcpOptionRules[Index].Code == Code) {
            return &DhcpOptionRules[Index];
        }
    }
    return NULL;
}

// Value has ByteCount bytes, all within the frame. An option that nobody reads is good whatever it
// says.
static DHCP_VERDICT DhcpTakeOption(UCHAR Code, const UCHAR *Value, ULONG ByteCount,
                                   PDHCP_REPLY Reply)
{
    const DHCP_OPTION_RULE *const Rule = DhcpFindOptionRule(Code);

    if (Rule == NULL) {
        return DhcpAccepted;
    }
    const BOOLEAN LengthFits = Rule->IsList ? ByteCount > 0 && ByteCount % Rule->ValueBytes == 0
                                            : ByteCount == Rule->ValueBytes;
    if (!LengthFits) {
        return DhcpBadOptions;
    }
    *(PULONG)((PUCHAR)Reply + Rule->FieldOffset) = DhcpReadBig(Value, Rule->ValueBytes);
    return DhcpAccepted;
}

// Reads options until the end mark or the end of the slice.
static DHCP_VERDICT DhcpParseOptions(DHCP_SLICE Slice, PDHCP_REPLY Reply)
{
    DHCP_VERDICT Verdict = DhcpAccepted;

    while (Verdict == DhcpAccepted && Slice.ByteCount > 0 && Slice.Bytes[0] != DhcpOptionEnd) {
        if (Slice.Bytes[0] == DhcpOptionPad) {
            DhcpAdvance(&Slice, 1);
            continue;
        }
        if (Slice.ByteCount < 2 || Slice.Bytes[1] > Slice.ByteCount - 2) {
            return DhcpBadOptions;
        }
        const ULONG ByteCount = Slice.Bytes[1];
        Verdict = DhcpTakeOption(Slice.Bytes[0], &Slice.Bytes[2], ByteCount, Reply);
        DhcpAdvance(&Slice, 2 + ByteCount);
    }
    return Verdict;
}

// A server with much to say may go on in the two fields that a DHCP message inherited from BOOTP.
static DHCP_VERDICT DhcpParseOverload(const DHCP_MESSAGE *Message, PDHCP_REPLY Reply)
{
    const ULONG FileBit = 1;
    const ULONG NameBit = 2;
    const ULONG Overload = Reply->Overload;
    DHCP_VERDICT Verdict = DhcpAccepted;

    if (Overload > (FileBit | NameBit)) {
        return DhcpBadOptions;
    }
    if (Overload & FileBit) {
        Verdict =
            DhcpParseOptions((DHCP_SLICE){Message->BootFile, sizeof(Message->BootFile)}, Reply);
    }
    if (Verdict == DhcpAccepted && (Overload & NameBit)) {
        Verdict =
            DhcpParseOptions((DHCP_SLICE){Message->ServerName, sizeof(Message->ServerName)}, Reply);
    }
    return Verdict;
}

// Message is a sound fixed part; Options is what follows it.
static DHCP_VERDICT DhcpReadReply(const DHCP_MESSAGE *Message, DHCP_SLICE Options,
                                  PDHCP_REPLY Reply)
{
    RtlZeroMemory(Reply, sizeof(*Reply));
    Reply->Address = DhcpReadBig(Message->YourAddress, sizeof(Message->YourAddress));
    const DHCP_VERDICT Verdict = DhcpParseOptions(Options, Reply);
    return Verdict == DhcpAccepted ? DhcpParseOverload(Message, Reply) : Verdict;
}

DHCP_VERDICT DhcpParseFrame(const DHCP_CLIENT *Client, const UCHAR *Frame, ULONG ByteCount,
                            PDHCP_REPLY Reply)
{
    DHCP_SLICE Slice = {Frame, ByteCount};
    DHCP_VERDICT Verdict = DhcpOpenEthernet(&Slice, Client->MacAddress);
    const IPV4_HEADER *const Ipv4 = (const IPV4_HEADER *)Slice.Bytes;

    if (Verdict == DhcpAccepted) {
        Verdict = DhcpOpenIpv4(&Slice);
    }
    if (Verdict == DhcpAccepted) {
        Verdict = DhcpOpenUdp(&Slice, Ipv4);
    }
    const DHCP_MESSAGE *const Message = (const DHCP_MESSAGE *)Slice.Bytes;
    if (Verdict == DhcpAccepted) {
        Verdict = DhcpOpenMessage(&Slice, Client);
    }
    return Verdict == DhcpAccepted ? DhcpReadReply(Message, Slice, Reply) : Verdict;
}

// -------------------------------------------------------------------------------------------------
// Judging: is a well-formed reply the awaited one?

// An address that a station can have.
static BOOLEAN DhcpIsHostAddress(ULONG Address)
{
    const ULONG Network = Address >> 24;
    return Network != 0 && Network != LOOPBACK_NETWORK && Network < FIRST_MULTICAST_NETWORK;
}

// Ones from the left, then zeros. Absent (0) is allowed: a server need not tell.
static BOOLEAN DhcpIsSubnetMask(ULONG Mask)
{
    const ULONG HostBits = ~Mask;
    return (HostBits & (HostBits + 1)) == 0;
}

static DHCP_VERDICT DhcpJudgeOffer(const DHCP_REPLY *Reply)
{
    if (Reply->MessageType != DhcpOffer) {
        return DhcpUnexpectedType;
    }
    if (!DhcpIsHostAddress(Reply->ServerId)) {
        return DhcpOtherServer;
    }
    return DhcpIsHostAddress(Reply->Address) && DhcpIsSubnetMask(Reply->SubnetMask)
               ? DhcpAccepted
               : DhcpBadAddress;
}

static DHCP_VERDICT DhcpJudgeAcknowledgement(const DHCP_REPLY *Offer, const DHCP_REPLY *Reply)
{
    if (Reply->MessageType != DhcpAck && Reply->MessageType != DhcpNak) {
        return DhcpUnexpectedType;
    }
    if (Reply->ServerId != Offer->ServerId) {
        return DhcpOtherServer;
    }
    if (Reply->MessageType == DhcpNak) {
        return DhcpRefused;
    }
    if (Reply->Address != Offer->Address || !DhcpIsSubnetMask(Reply->SubnetMask)) {
        return DhcpBadAddress;
    }
    return Reply->LeaseSeconds != 0 ? DhcpAccepted : DhcpBadLease;
}

// Judges the frame in Client->Frame as an answer to a message of type Sent; an accepted one becomes
// Client->Reply.
static DHCP_VERDICT DhcpJudgeFrame(PDHCP_CLIENT Client, DHCP_MESSAGE_TYPE Sent, ULONG ByteCount)
{
    DHCP_REPLY Reply;
    DHCP_VERDICT Verdict = DhcpParseFrame(Client, Client->Frame, ByteCount, &Reply);

    if (Verdict == DhcpAccepted) {
        Verdict = Sent == DhcpDiscover ? DhcpJudgeOffer(&Reply)
                                       : DhcpJudgeAcknowledgement(&Client->Reply, &Reply);
    }
    if (Verdict == DhcpAccepted) {
        Client->Reply = Reply;
    }
    Client->VerdictCounts[Verdict]++;
    return Verdict;
}

// -------------------------------------------------------------------------------------------------
// The exchange.

// A linear congruential generator: unlike its neighbour's is all that a transaction id has to be.
static ULONG DhcpNextRandom(PDHCP_CLIENT Client)
{
    Client->Random = Client->Random * 1664525u + 1013904223u;
    return Client->Random;
}

static ULONG64 DhcpNow(const DHCP_CLIENT *Client)
{
    return Client->Link.Clock(Client->Link.Context);
}

VOID DhcpInitializeClient(PDHCP_CLIENT Client, const DHCP_LINK *Link,
                          const UCHAR MacAddress[DHCP_MAC_BYTES], ULONG Seed)
{
    RtlZeroMemory(Client, sizeof(*Client));
    Client->Link = *Link;
    RtlCopyMemory(Client->MacAddress, MacAddress, DHCP_MAC_BYTES);
    // The last four bytes of the address tell two cards of one maker apart.
    Client->Random = Seed ^ DhcpReadBig(&MacAddress[2], 4);
    Client->StartMs = DhcpNow(Client);
}

static NTSTATUS DhcpSend(PDHCP_CLIENT Client, DHCP_MESSAGE_TYPE Type)
{
    const ULONG ByteCount = DhcpBuildFrame(Client, Type);

    Client->SentCount++;
    return Client->Link.Send(Client->Link.Context, Client->Frame, ByteCount);
}

// STATUS_SUCCESS: the awaited answer is in Client->Reply. STATUS_DEVICE_PROTOCOL_ERROR: the server
// refused.
static NTSTATUS DhcpAwaitReply(PDHCP_CLIENT Client, DHCP_MESSAGE_TYPE Sent, ULONG TimeoutMs)
{
    const DHCP_LINK *const Link = &Client->Link;
    const ULONG64 EndMs = DhcpNow(Client) + TimeoutMs;

    for (ULONG64 NowMs = DhcpNow(Client); NowMs < EndMs; NowMs = DhcpNow(Client)) {
        ULONG ByteCount = 0;
        const NTSTATUS Status = Link->Receive(Link->Context, Client->Frame, sizeof(Client->Frame),
                                              (ULONG)(EndMs - NowMs), &ByteCount);
        if (!NT_SUCCESS(Status)) {
            return Status;
        }
        const DHCP_VERDICT Verdict = DhcpJudgeFrame(Client, Sent, ByteCount);
        if (Verdict == DhcpAccepted) {
            return STATUS_SUCCESS;
        }
        if (Verdict == DhcpRefused) {
            return STATUS_DEVICE_PROTOCOL_ERROR;
        }
    }
    return STATUS_IO_TIMEOUT;
}

// Sends a message until it is answered; the wait doubles from one attempt to the next.
static NTSTATUS DhcpExchange(PDHCP_CLIENT Client, DHCP_MESSAGE_TYPE Type)
{
    for (ULONG Attempt = 0; Attempt < DHCP_ATTEMPTS; Attempt += 1) {
        const ULONG WaitMs =
            (DHCP_FIRST_WAIT_MS << Attempt) + (DhcpNextRandom(Client) >> 16) % DHCP_JITTER_MS;
        NTSTATUS Status = DhcpSend(Client, Type);
        if (NT_SUCCESS(Status)) {
            Status = DhcpAwaitReply(Client, Type, WaitMs);
        }
        if (Status != STATUS_IO_TIMEOUT) {
            return Status;
        }
    }
    return STATUS_IO_TIMEOUT;
}

// One round, from DISCOVER to ACK, under a transaction id of its own.
static NTSTATUS DhcpRunRound(PDHCP_CLIENT Client)
{
    Client->TransactionId = DhcpNextRandom(Client);
    Client->Seconds = (ULONG)((DhcpNow(Client) - Client->StartMs) / 1000);
    const NTSTATUS Status = DhcpExchange(Client, DhcpDiscover);
    return NT_SUCCESS(Status) ? DhcpExchange(Client, DhcpRequest) : Status;
}

NTSTATUS DhcpObtainLease(PDHCP_CLIENT Client)
{
    NTSTATUS Status = STATUS_DEVICE_PROTOCOL_ERROR;

    for (ULONG Round = 0; Round < DHCP_ROUNDS && Status == STATUS_DEVICE_PROTOCOL_ERROR;
         Round += 1) {
        Status = DhcpRunRound(Client);
    }
    return Status;
}
