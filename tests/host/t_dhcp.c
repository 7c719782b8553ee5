// The DHCP client of the e1000 driver: what it sends, what it believes, and how long it waits.
//
// Frames are built here by a writer of its own, byte by byte after the RFCs, so that a mistake in
// the client's idea of the wire can't cancel itself. Each frame that is judged lies in a block of
// exactly its size: the sanitizer sees the first byte that is read too far.
#include "drivers/e1000/dhcp.h"
#include "tests/host/host.h"

#define MUTATION_COUNT 400000
#define LOSSY_RUN_COUNT 2000

static const UCHAR ClientMac[DHCP_MAC_BYTES] = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};
static const UCHAR ServerMac[DHCP_MAC_BYTES] = {0x52, 0x55, 0x0A, 0x00, 0x02, 0x02};

#define SERVER_ADDRESS 0x0A000202u
#define OFFERED_ADDRESS 0x0A00020Fu
#define SUBNET_MASK 0xFFFFFF00u
#define DNS_ADDRESS 0x0A000203u
#define LEASE_SECONDS 86400u

// Offsets in a frame whose IPv4 header has no options.
#define OFFSET_IPV4 14
#define OFFSET_UDP 34
#define OFFSET_MESSAGE 42
#define OFFSET_XID (OFFSET_MESSAGE + 4)
#define OFFSET_OPTIONS (OFFSET_MESSAGE + 240)

// -------------------------------------------------------------------------------------------------
// A writer of frames.

typedef struct _FRAME {
    UCHAR Bytes[DHCP_FRAME_BYTES];
    ULONG ByteCount;
} FRAME;

static void Put(FRAME *Frame, ULONG Count, ULONG Value)
{
    for (ULONG Shift = Count * 8; Shift > 0; Shift -= 8) {
        Frame->Bytes[Frame->ByteCount++] = (UCHAR)(Value >> (Shift - 8));
    }
}

static void PutBytes(FRAME *Frame, const void *Bytes, ULONG Count)
{
    memcpy(&Frame->Bytes[Frame->ByteCount], Bytes, Count);
    Frame->ByteCount += Count;
}

static void PutOption4(FRAME *Frame, UCHAR Code, ULONG Value)
{
    Put(Frame, 1, Code);
    Put(Frame, 1, 4);
    Put(Frame, 4, Value);
}

static void Poke16(FRAME *Frame, ULONG Offset, ULONG Value)
{
    Frame->Bytes[Offset] = (UCHAR)(Value >> 8);
    Frame->Bytes[Offset + 1] = (UCHAR)Value;
}

static ULONG Peek(const FRAME *Frame, ULONG Offset, ULONG Count)
{
    ULONG Value = 0;
    for (ULONG Index = 0; Index < Count; Index += 1) {
        Value = Value << 8 | Frame->Bytes[Offset + Index];
    }
    return Value;
}

// RFC 1071, the plain way.
static ULONG OnesSum(const UCHAR *Bytes, ULONG Count, ULONG Sum)
{
    for (ULONG Index = 0; Index < Count; Index += 2) {
        Sum += Bytes[Index] * 256u + (Index + 1 < Count ? Bytes[Index + 1] : 0u);
        Sum = Sum % 65536 + Sum / 65536;
    }
    return Sum;
}

static ULONG UdpSum(const FRAME *Frame)
{
    const ULONG UdpBytes = Frame->ByteCount - OFFSET_UDP;
    const ULONG Sum = OnesSum(&Frame->Bytes[OFFSET_IPV4 + 12], 8, 17 + UdpBytes);
    return OnesSum(&Frame->Bytes[OFFSET_UDP], UdpBytes, Sum);
}

// Makes every length and checksum fit what the frame holds now.
static void Seal(FRAME *Frame)
{
    Poke16(Frame, OFFSET_IPV4 + 2, Frame->ByteCount - OFFSET_IPV4);
    Poke16(Frame, OFFSET_IPV4 + 10, 0);
    Poke16(Frame, OFFSET_IPV4 + 10, 65535 - OnesSum(&Frame->Bytes[OFFSET_IPV4], 20, 0));
    Poke16(Frame, OFFSET_UDP + 4, Frame->ByteCount - OFFSET_UDP);
    Poke16(Frame, OFFSET_UDP + 6, 0);
    Poke16(Frame, OFFSET_UDP + 6, 65535 - UdpSum(Frame));
}

// A reply up to the cookie; options follow.
static void BeginReply(FRAME *Frame, ULONG TransactionId, ULONG Address)
{
    memset(Frame, 0, sizeof(*Frame));
    PutBytes(Frame, ClientMac, 6);
    PutBytes(Frame, ServerMac, 6);
    Put(Frame, 2, 0x0800);

    Put(Frame, 4, 0x45000000); // version, header length, service, total length
    Put(Frame, 4, 0x00010000); // identification, fragment
    Put(Frame, 4, 0x40110000); // hops, UDP, checksum
    Put(Frame, 4, SERVER_ADDRESS);
    Put(Frame, 4, 0xFFFFFFFF);

    Put(Frame, 4, 67u << 16 | 68u);
    Put(Frame, 4, 0);

    Put(Frame, 4, 0x02010600); // reply, Ethernet, 6, no hops
    Put(Frame, 4, TransactionId);
    Put(Frame, 4, 0);
    Put(Frame, 4, 0);
    Put(Frame, 4, Address);
    Put(Frame, 4, SERVER_ADDRESS);
    Put(Frame, 4, 0);
    PutBytes(Frame, ClientMac, 6);
    Frame->ByteCount += 10 + 64 + 128;
    Put(Frame, 4, 0x63825363);
}

static void PutType(FRAME *Frame, ULONG Type)
{
    Put(Frame, 3, 53u << 16 | 1u << 8 | Type);
}

static void EndReply(FRAME *Frame)
{
    Put(Frame, 1, 255);
    Seal(Frame);
}

// What an honest server says.
static void BuildReply(FRAME *Frame, ULONG Type, ULONG TransactionId, ULONG Address)
{
    BeginReply(Frame, TransactionId, Address);
    PutType(Frame, Type);
    PutOption4(Frame, 54, SERVER_ADDRESS);
    PutOption4(Frame, 1, SUBNET_MASK);
    Put(Frame, 2, 0x0308); // two routers; the first counts
    Put(Frame, 4, SERVER_ADDRESS);
    Put(Frame, 4, SERVER_ADDRESS + 9);
    PutOption4(Frame, 6, DNS_ADDRESS);
    PutOption4(Frame, 51, LEASE_SECONDS);
    EndReply(Frame);
}

// -------------------------------------------------------------------------------------------------
// A network: a server's behaviour, and a clock that only waiting moves.

typedef struct _NETWORK NETWORK;
typedef void SERVER(NETWORK *Network, ULONG MessageType, ULONG TransactionId);

struct _NETWORK {
    SERVER *Server;
    ULONG64 NowMs;
    FRAME Queue[8];
    ULONG Queued;
    ULONG SentCount;
    ULONG64 SentMs[64];
    ULONG SentXid[64];
    FRAME LastSent;
    NTSTATUS SendFailure;
    ULONG FloodCount; // foreign frames still to come, one per millisecond
    ULONG Refusals;   // NAKs still to come
    ULONG LossPercent;
    ULONG Random;
};

static ULONG NextRandom(NETWORK *Network)
{
    Network->Random ^= Network->Random << 13;
    Network->Random ^= Network->Random >> 17;
    Network->Random ^= Network->Random << 5;
    return Network->Random;
}

static void Deliver(NETWORK *Network, const FRAME *Frame)
{
    if (Network->Queued < ARRAYSIZE(Network->Queue)) {
        Network->Queue[Network->Queued++] = *Frame;
    }
}

static NTSTATUS NTAPI NetworkSend(PVOID Context, const UCHAR *Bytes, ULONG ByteCount)
{
    NETWORK *const Network = Context;
    FRAME *const Sent = &Network->LastSent;

    CHECK(ByteCount <= DHCP_FRAME_BYTES && ByteCount >= OFFSET_OPTIONS + 3);
    if (!NT_SUCCESS(Network->SendFailure)) {
        return Network->SendFailure;
    }
    Sent->ByteCount = 0;
    PutBytes(Sent, Bytes, ByteCount);
    CHECK(Network->SentCount < ARRAYSIZE(Network->SentMs));
    Network->SentMs[Network->SentCount] = Network->NowMs;
    Network->SentXid[Network->SentCount++] = Peek(Sent, OFFSET_XID, 4);
    if (Network->Server != NULL) {
        Network->Server(Network, Sent->Bytes[OFFSET_OPTIONS + 2], Peek(Sent, OFFSET_XID, 4));
    }
    return STATUS_SUCCESS;
}

static NTSTATUS NTAPI NetworkReceive(PVOID Context, PUCHAR Bytes, ULONG Capacity, ULONG TimeoutMs,
                                     PULONG ByteCount)
{
    NETWORK *const Network = Context;
    FRAME Frame;

    if (Network->FloodCount > 0) {
        Network->FloodCount--;
        BuildReply(&Frame, DhcpOffer, 0xDEADBEEF, OFFERED_ADDRESS);
    } else if (Network->Queued > 0) {
        Frame = Network->Queue[--Network->Queued];
    } else {
        Network->NowMs += TimeoutMs;
        return STATUS_IO_TIMEOUT;
    }
    Network->NowMs += 1;
    CHECK(Frame.ByteCount <= Capacity);
    memcpy(Bytes, Frame.Bytes, Frame.ByteCount);
    *ByteCount = Frame.ByteCount;
    return STATUS_SUCCESS;
}

static ULONG64 NTAPI NetworkClock(PVOID Context)
{
    return ((NETWORK *)Context)->NowMs;
}

static void InitializeClient(DHCP_CLIENT *Client, NETWORK *Network)
{
    const DHCP_LINK Link = {Network, NetworkSend, NetworkReceive, NetworkClock};
    DhcpInitializeClient(Client, &Link, ClientMac, 12345);
}

static ULONG ReplyTypeFor(ULONG MessageType)
{
    return MessageType == DhcpDiscover ? DhcpOffer : DhcpAck;
}

static void HonestServer(NETWORK *Network, ULONG MessageType, ULONG TransactionId)
{
    FRAME Frame;
    BuildReply(&Frame, ReplyTypeFor(MessageType), TransactionId, OFFERED_ADDRESS);
    Deliver(Network, &Frame);
}

static void CheckLease(const DHCP_CLIENT *Client)
{
    CHECK_EQUAL(Client->Reply.Address, OFFERED_ADDRESS);
    CHECK_EQUAL(Client->Reply.SubnetMask, SUBNET_MASK);
    CHECK_EQUAL(Client->Reply.Router, SERVER_ADDRESS);
    CHECK_EQUAL(Client->Reply.DnsServer, DNS_ADDRESS);
    CHECK_EQUAL(Client->Reply.ServerId, SERVER_ADDRESS);
    CHECK_EQUAL(Client->Reply.LeaseSeconds, LEASE_SECONDS);
}

// -------------------------------------------------------------------------------------------------
// Parsing.

#define TEST_XID 0x12345678u

static DHCP_VERDICT Judge(const FRAME *Frame, DHCP_REPLY *Reply)
{
    static DHCP_CLIENT Client;
    NETWORK Network = {0};

    InitializeClient(&Client, &Network);
    Client.TransactionId = TEST_XID;
    UCHAR *const Exact = malloc(Frame->ByteCount);
    memcpy(Exact, Frame->Bytes, Frame->ByteCount);
    const DHCP_VERDICT Verdict = DhcpParseFrame(&Client, Exact, Frame->ByteCount, Reply);
    free(Exact);
    CHECK(Verdict < DhcpVerdictCount);
    return Verdict;
}

static void CheckVerdict(const FRAME *Frame, DHCP_VERDICT Expected)
{
    DHCP_REPLY Reply;
    const DHCP_VERDICT Verdict = Judge(Frame, &Reply);
    if (Verdict != Expected) {
        FAIL("\"%s\", not \"%s\"", DhcpDescribeVerdict(Verdict), DhcpDescribeVerdict(Expected));
    }
}

static void A_sound_offer_is_read(void)
{
    FRAME Frame;
    DHCP_REPLY Reply;

    BuildReply(&Frame, DhcpOffer, TEST_XID, OFFERED_ADDRESS);
    CHECK_EQUAL(Judge(&Frame, &Reply), DhcpAccepted);
    CHECK_EQUAL(Reply.MessageType, DhcpOffer);
    CHECK_EQUAL(Reply.Address, OFFERED_ADDRESS);
    CHECK_EQUAL(Reply.SubnetMask, SUBNET_MASK);
    CHECK_EQUAL(Reply.Router, SERVER_ADDRESS);
    CHECK_EQUAL(Reply.DnsServer, DNS_ADDRESS);
    CHECK_EQUAL(Reply.LeaseSeconds, LEASE_SECONDS);
    CHECK_EQUAL(Reply.ServerId, SERVER_ADDRESS);
}

static void Padding_behind_the_datagram_is_ignored(void)
{
    FRAME Frame;
    BuildReply(&Frame, DhcpOffer, TEST_XID, OFFERED_ADDRESS);
    PutBytes(&Frame, "trailing rubbish", 16);
    CheckVerdict(&Frame, DhcpAccepted);
}

static void A_datagram_without_UDP_checksum_is_accepted(void)
{
    FRAME Frame;
    BuildReply(&Frame, DhcpOffer, TEST_XID, OFFERED_ADDRESS);
    Poke16(&Frame, OFFSET_UDP + 6, 0);
    CheckVerdict(&Frame, DhcpAccepted);
}

// The header grows by one word of "no operation" options.
static void An_IPv4_header_with_options_is_understood(void)
{
    FRAME Frame;
    FRAME Longer = {.ByteCount = 0};

    BuildReply(&Frame, DhcpOffer, TEST_XID, OFFERED_ADDRESS);
    PutBytes(&Longer, Frame.Bytes, OFFSET_UDP);
    Put(&Longer, 4, 0x01010101);
    PutBytes(&Longer, &Frame.Bytes[OFFSET_UDP], Frame.ByteCount - OFFSET_UDP);
    Longer.Bytes[OFFSET_IPV4] = 0x46;
    Poke16(&Longer, OFFSET_IPV4 + 2, Longer.ByteCount - OFFSET_IPV4);
    Poke16(&Longer, OFFSET_IPV4 + 10, 0);
    Poke16(&Longer, OFFSET_IPV4 + 10, 65535 - OnesSum(&Longer.Bytes[OFFSET_IPV4], 24, 0));
    CheckVerdict(&Longer, DhcpAccepted);
}

// The option list has no end mark, and bytes that look like one more option lie behind the
// shortened datagram.
static void What_lies_behind_a_datagram_is_not_read(void)
{
    FRAME Frame;
    DHCP_REPLY Reply;

    BeginReply(&Frame, TEST_XID, OFFERED_ADDRESS);
    PutType(&Frame, DhcpOffer);
    Seal(&Frame);
    PutOption4(&Frame, 51, LEASE_SECONDS);
    CHECK_EQUAL(Judge(&Frame, &Reply), DhcpAccepted);
    CHECK_EQUAL(Reply.LeaseSeconds, 0);

    // The same within a longer IPv4 datagram.
    const ULONG UdpBytes = Peek(&Frame, OFFSET_UDP + 4, 2);
    Seal(&Frame);
    Poke16(&Frame, OFFSET_UDP + 4, UdpBytes);
    Poke16(&Frame, OFFSET_UDP + 6, 0);
    CHECK_EQUAL(Judge(&Frame, &Reply), DhcpAccepted);
    CHECK_EQUAL(Reply.LeaseSeconds, 0);

    // A UDP datagram that claims the padding behind the IPv4 datagram.
    Seal(&Frame);
    Poke16(&Frame, OFFSET_IPV4 + 2, Frame.ByteCount - OFFSET_IPV4 - 6);
    Poke16(&Frame, OFFSET_IPV4 + 10, 0);
    Poke16(&Frame, OFFSET_IPV4 + 10, 65535 - OnesSum(&Frame.Bytes[OFFSET_IPV4], 20, 0));
    CheckVerdict(&Frame, DhcpBadUdpLength);
}

static void Every_truncated_frame_is_dropped(void)
{
    FRAME Frame;
    DHCP_REPLY Reply;

    BuildReply(&Frame, DhcpOffer, TEST_XID, OFFERED_ADDRESS);
    while (Frame.ByteCount > 0) {
        Frame.ByteCount--;
        CHECK(Judge(&Frame, &Reply) != DhcpAccepted);
    }
}

// As above, but with lengths and checksums that fit the rest: only the missing end betrays it.
static void Every_option_list_cut_in_the_middle_is_dropped(void)
{
    FRAME Whole;
    ULONG AcceptedCount = 0;

    BuildReply(&Whole, DhcpOffer, TEST_XID, OFFERED_ADDRESS);
    for (ULONG ByteCount = OFFSET_UDP; ByteCount < Whole.ByteCount; ByteCount += 1) {
        FRAME Cut = Whole;
        DHCP_REPLY Reply;
        Cut.ByteCount = ByteCount;
        Seal(&Cut);
        AcceptedCount += Judge(&Cut, &Reply) == DhcpAccepted;
    }
    // A cut between two options is a list without an end mark, which is allowed: six options, seven
    // places.
    CHECK_EQUAL(AcceptedCount, 7);
}

// The checksums cover all but the Ethernet header, and of that only the sender's address is not
// looked at.
static void Every_flipped_bit_is_noticed(void)
{
    FRAME Frame;
    DHCP_REPLY Reply;

    BuildReply(&Frame, DhcpOffer, TEST_XID, OFFERED_ADDRESS);
    for (ULONG Bit = 0; Bit < Frame.ByteCount * 8; Bit += 1) {
        const ULONG Offset = Bit / 8;
        const BOOLEAN IsSender = Offset >= 6 && Offset < 12;
        Frame.Bytes[Offset] ^= (UCHAR)(1u << Bit % 8);
        CHECK_EQUAL(Judge(&Frame, &Reply) == DhcpAccepted, IsSender);
        Frame.Bytes[Offset] ^= (UCHAR)(1u << Bit % 8);
    }
}

// One byte of a sound offer changed, and sealed again: which layer notices?
static void Each_layer_refuses_what_it_does_not_expect(void)
{
    static const struct {
        ULONG Offset;
        UCHAR Value;
        DHCP_VERDICT Verdict;
    } Rows[] = {
        {0, 0x50, DhcpNotForUs},
        {12, 0x86, DhcpNotIpv4},
        {OFFSET_IPV4, 0x65, DhcpBadIpv4Header},
        {OFFSET_IPV4, 0x44, DhcpBadIpv4Header},
        {OFFSET_IPV4 + 6, 0x20, DhcpFragment},
        {OFFSET_IPV4 + 7, 0x01, DhcpFragment},
        {OFFSET_IPV4 + 9, 6, DhcpNotUdp},
        {OFFSET_UDP + 1, 66, DhcpNotOurPorts},
        {OFFSET_UDP + 3, 67, DhcpNotOurPorts},
        {OFFSET_MESSAGE, 1, DhcpBadMessage},
        {OFFSET_MESSAGE + 1, 6, DhcpBadMessage},
        {OFFSET_MESSAGE + 2, 16, DhcpBadMessage},
        {OFFSET_XID, 0x13, DhcpOtherTransaction},
        {OFFSET_MESSAGE + 28, 0x53, DhcpOtherTransaction},
        {OFFSET_OPTIONS - 1, 0, DhcpBadMessage},
    };

    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        FRAME Frame;
        BuildReply(&Frame, DhcpOffer, TEST_XID, OFFERED_ADDRESS);
        Frame.Bytes[Rows[Row].Offset] = Rows[Row].Value;
        Seal(&Frame);
        CheckVerdict(&Frame, Rows[Row].Verdict);
    }
}

static void Lengths_that_lie_are_refused(void)
{
    static const struct {
        ULONG Offset;
        ULONG Value;
        DHCP_VERDICT Verdict;
    } Rows[] = {
        {OFFSET_IPV4 + 2, 0, DhcpBadIpv4Header},    {OFFSET_IPV4 + 2, 19, DhcpBadIpv4Header},
        {OFFSET_IPV4 + 2, 1501, DhcpBadIpv4Header}, {OFFSET_IPV4 + 2, 0xFFFF, DhcpBadIpv4Header},
        {OFFSET_UDP + 4, 0, DhcpBadUdpLength},      {OFFSET_UDP + 4, 7, DhcpBadUdpLength},
        {OFFSET_UDP + 4, 1501, DhcpBadUdpLength},   {OFFSET_UDP + 4, 0xFFFF, DhcpBadUdpLength},
    };

    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        FRAME Frame;
        BuildReply(&Frame, DhcpOffer, TEST_XID, OFFERED_ADDRESS);
        Poke16(&Frame, Rows[Row].Offset, Rows[Row].Value);
        Poke16(&Frame, OFFSET_IPV4 + 10, 0);
        Poke16(&Frame, OFFSET_IPV4 + 10, 65535 - OnesSum(&Frame.Bytes[OFFSET_IPV4], 20, 0));
        CheckVerdict(&Frame, Rows[Row].Verdict);
    }
}

static void Malformed_options_are_refused(void)
{
    static const struct {
        UCHAR Bytes[8];
        ULONG ByteCount;
    } Rows[] = {
        {{53}, 1},                // a code without a length
        {{53, 1}, 2},             // a length without a value
        {{53, 2, 2, 2}, 4},       // a message type of two bytes
        {{53, 0}, 2},             // of none
        {{1, 3, 255, 255, 0}, 5}, // a mask of three bytes
        {{3, 0}, 2},              // no router at all
        {{3, 5, 1, 2, 3, 4, 5}, 7},
        {{51, 2, 1, 2}, 4},
        {{52, 1, 4}, 3},     // an overload that does not exist
        {{12, 255, 'n'}, 3}, // an option that nobody reads, longer than the frame
        {{0, 0, 54}, 3},
    };

    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        FRAME Frame;
        BeginReply(&Frame, TEST_XID, OFFERED_ADDRESS);
        PutBytes(&Frame, Rows[Row].Bytes, Rows[Row].ByteCount);
        Seal(&Frame);
        CheckVerdict(&Frame, DhcpBadOptions);
    }
}

static void Options_go_on_in_the_file_and_name_fields(void)
{
    FRAME Frame;
    DHCP_REPLY Reply;
    static const UCHAR InFile[] = {51, 4, 0, 1, 0x51, 0x80, 255};
    static const UCHAR InName[] = {0, 54, 4, 10, 0, 2, 2, 255};

    BeginReply(&Frame, TEST_XID, OFFERED_ADDRESS);
    memcpy(&Frame.Bytes[OFFSET_MESSAGE + 108], InFile, sizeof(InFile));
    memcpy(&Frame.Bytes[OFFSET_MESSAGE + 44], InName, sizeof(InName));
    PutType(&Frame, DhcpAck);
    Put(&Frame, 3, 52u << 16 | 1u << 8 | 3u);
    EndReply(&Frame);
    CHECK_EQUAL(Judge(&Frame, &Reply), DhcpAccepted);
    CHECK_EQUAL(Reply.LeaseSeconds, LEASE_SECONDS);
    CHECK_EQUAL(Reply.ServerId, SERVER_ADDRESS);

    Frame.Bytes[OFFSET_MESSAGE + 44 + 63] = 12; // would reach beyond the field
    memset(&Frame.Bytes[OFFSET_MESSAGE + 44], 0, 63);
    Seal(&Frame);
    CheckVerdict(&Frame, DhcpBadOptions);
}

// Rubbish in every disguise. The sanitizers judge the reading; here it is only said that nothing
// foreign is accepted.
static void Random_frames_do_no_harm(void)
{
    NETWORK Network = {.Random = (ULONG)HostOption("seed", 1) | 1};
    ULONG AcceptedCount = 0;

    for (ULONG Run = 0; Run < MUTATION_COUNT; Run += 1) {
        FRAME Frame;
        DHCP_REPLY Reply;
        BuildReply(&Frame, DhcpOffer, TEST_XID, OFFERED_ADDRESS);
        // Rubbish begins at a random layer, so that each is reached with sound ones around it.
        static const ULONG Starts[] = {0, OFFSET_IPV4, OFFSET_UDP, OFFSET_MESSAGE, OFFSET_OPTIONS};
        const ULONG Start = Starts[NextRandom(&Network) % ARRAYSIZE(Starts)];
        Frame.ByteCount += NextRandom(&Network) % 64;
        for (ULONG Count = NextRandom(&Network) % 16; Count > 0; Count--) {
            Frame.Bytes[Start + NextRandom(&Network) % (Frame.ByteCount - Start)] =
                (UCHAR)NextRandom(&Network);
        }
        Frame.ByteCount -= NextRandom(&Network) % 32;
        if (NextRandom(&Network) % 4 != 0) {
            Seal(&Frame);
        }
        if (Judge(&Frame, &Reply) == DhcpAccepted) {
            AcceptedCount++;
            CHECK_EQUAL(Peek(&Frame, OFFSET_IPV4 + 9, 1), 17);
        }
    }
    CHECK(AcceptedCount > 0 && AcceptedCount < MUTATION_COUNT);
}

// -------------------------------------------------------------------------------------------------
// Building.

static void CheckSentFrame(const FRAME *Frame, ULONG Type)
{
    CHECK_EQUAL(Peek(Frame, 0, 4), 0xFFFFFFFF);
    CHECK_EQUAL(memcmp(&Frame->Bytes[6], ClientMac, 6), 0);
    CHECK_EQUAL(Peek(Frame, 12, 2), 0x0800);
    CHECK_EQUAL(Peek(Frame, OFFSET_IPV4, 1), 0x45);
    CHECK_EQUAL(Peek(Frame, OFFSET_IPV4 + 2, 2), Frame->ByteCount - OFFSET_IPV4);
    CHECK_EQUAL(OnesSum(&Frame->Bytes[OFFSET_IPV4], 20, 0), 65535);
    CHECK_EQUAL(Peek(Frame, OFFSET_IPV4 + 12, 4), 0);
    CHECK_EQUAL(Peek(Frame, OFFSET_IPV4 + 16, 4), 0xFFFFFFFF);
    CHECK_EQUAL(Peek(Frame, OFFSET_UDP, 4), 68u << 16 | 67u);
    CHECK_EQUAL(Peek(Frame, OFFSET_UDP + 4, 2), Frame->ByteCount - OFFSET_UDP);
    CHECK_EQUAL(UdpSum(Frame), 65535);
    CHECK_EQUAL(Peek(Frame, OFFSET_MESSAGE, 4), 0x01010600);
    CHECK_EQUAL(memcmp(&Frame->Bytes[OFFSET_MESSAGE + 28], ClientMac, 6), 0);
    CHECK_EQUAL(Peek(Frame, OFFSET_OPTIONS - 4, 4), 0x63825363);
    CHECK_EQUAL(Peek(Frame, OFFSET_OPTIONS, 3), 53u << 16 | 1u << 8 | Type);
    CHECK(Frame->ByteCount - OFFSET_MESSAGE >= 300);
}

static void A_request_names_the_offer_and_its_server(void)
{
    NETWORK Network = {.Server = HonestServer};
    static DHCP_CLIENT Client;

    InitializeClient(&Client, &Network);
    CHECK_EQUAL(DhcpObtainLease(&Client), STATUS_SUCCESS);
    CheckSentFrame(&Network.LastSent, DhcpRequest);
    CHECK_EQUAL(Peek(&Network.LastSent, OFFSET_OPTIONS + 3, 2), 50u << 8 | 4u);
    CHECK_EQUAL(Peek(&Network.LastSent, OFFSET_OPTIONS + 5, 4), OFFERED_ADDRESS);
    CHECK_EQUAL(Peek(&Network.LastSent, OFFSET_OPTIONS + 9, 2), 54u << 8 | 4u);
    CHECK_EQUAL(Peek(&Network.LastSent, OFFSET_OPTIONS + 11, 4), SERVER_ADDRESS);
}

// A checksum of zero would mean "none"; one transaction id in 65,536 leads to it.
static void A_checksum_that_comes_to_zero_is_sent_as_all_ones(void)
{
    NETWORK Network = {0};
    static DHCP_CLIENT Client;
    FRAME Frame;
    ULONG AllOnesCount = 0;

    InitializeClient(&Client, &Network);
    for (ULONG Id = 0; Id < 65536; Id += 1) {
        Client.TransactionId = Id;
        Frame.ByteCount = 0;
        const ULONG ByteCount = DhcpBuildFrame(&Client, DhcpDiscover);
        PutBytes(&Frame, Client.Frame, ByteCount);
        CHECK(Peek(&Frame, OFFSET_UDP + 6, 2) != 0);
        AllOnesCount += Peek(&Frame, OFFSET_UDP + 6, 2) == 0xFFFF;
    }
    CHECK(AllOnesCount > 0);
}

static void A_discover_is_a_sound_broadcast(void)
{
    NETWORK Network = {0};
    static DHCP_CLIENT Client;

    InitializeClient(&Client, &Network);
    CHECK_EQUAL(DhcpObtainLease(&Client), STATUS_IO_TIMEOUT);
    CheckSentFrame(&Network.LastSent, DhcpDiscover);
}

// -------------------------------------------------------------------------------------------------
// The exchange.

static void An_honest_server_gives_a_lease_in_two_messages(void)
{
    NETWORK Network = {.Server = HonestServer};
    static DHCP_CLIENT Client;

    InitializeClient(&Client, &Network);
    CHECK_EQUAL(DhcpObtainLease(&Client), STATUS_SUCCESS);
    CheckLease(&Client);
    CHECK_EQUAL(Network.SentCount, 2);
    CHECK_EQUAL(Network.SentXid[0], Network.SentXid[1]);
}

static void Silence_ends_in_a_timeout_with_growing_waits(void)
{
    NETWORK Network = {0};
    static DHCP_CLIENT Client;

    InitializeClient(&Client, &Network);
    CHECK_EQUAL(DhcpObtainLease(&Client), STATUS_IO_TIMEOUT);
    CHECK_EQUAL(Network.SentCount, 4);
    for (ULONG Index = 1; Index < Network.SentCount; Index += 1) {
        const ULONG64 WaitMs = Network.SentMs[Index] - Network.SentMs[Index - 1];
        CHECK(WaitMs >= 1000u << (Index - 1) && WaitMs < (1000u << (Index - 1)) + 128);
    }
    CHECK(Network.NowMs < 16000);
}

static void A_flood_of_foreign_frames_prolongs_nothing(void)
{
    NETWORK Network = {.FloodCount = 1000000};
    static DHCP_CLIENT Client;

    InitializeClient(&Client, &Network);
    CHECK_EQUAL(DhcpObtainLease(&Client), STATUS_IO_TIMEOUT);
    CHECK(Network.NowMs < 16000);
    CHECK(Client.VerdictCounts[DhcpOtherTransaction] > 14000);
}

static void RefusingServer(NETWORK *Network, ULONG MessageType, ULONG TransactionId)
{
    FRAME Frame;

    if (MessageType == DhcpRequest && Network->Refusals > 0) {
        Network->Refusals--;
        BuildReply(&Frame, DhcpNak, TransactionId, 0);
        Deliver(Network, &Frame);
    } else {
        HonestServer(Network, MessageType, TransactionId);
    }
}

static void After_a_refusal_the_client_begins_again(void)
{
    NETWORK Network = {.Server = RefusingServer, .Refusals = 1};
    static DHCP_CLIENT Client;

    InitializeClient(&Client, &Network);
    CHECK_EQUAL(DhcpObtainLease(&Client), STATUS_SUCCESS);
    CheckLease(&Client);
    CHECK_EQUAL(Network.SentCount, 4);
    CHECK(Network.SentXid[2] != Network.SentXid[1]);
    CHECK_EQUAL(Client.VerdictCounts[DhcpRefused], 1);
}

static void A_server_that_always_refuses_is_given_up(void)
{
    NETWORK Network = {.Server = RefusingServer, .Refusals = MAXULONG};
    static DHCP_CLIENT Client;

    InitializeClient(&Client, &Network);
    CHECK_EQUAL(DhcpObtainLease(&Client), STATUS_DEVICE_PROTOCOL_ERROR);
    CHECK_EQUAL(Network.SentCount, 6);
}

static void A_failing_link_ends_the_client_at_once(void)
{
    NETWORK Network = {.SendFailure = STATUS_NO_SUCH_DEVICE};
    static DHCP_CLIENT Client;

    InitializeClient(&Client, &Network);
    CHECK_EQUAL(DhcpObtainLease(&Client), STATUS_NO_SUCH_DEVICE);
    CHECK_EQUAL(Network.NowMs, 0);
}

// What the crooked server changes in its answers; each row must be dropped for its reason.
static const struct {
    ULONG AnswersTo;
    ULONG Type;
    ULONG Address;
    ULONG ServerId;
    ULONG Mask;
    ULONG LeaseSeconds;
    DHCP_VERDICT Verdict;
} CrookedRows[] = {
    {DhcpDiscover, DhcpAck, OFFERED_ADDRESS, SERVER_ADDRESS, SUBNET_MASK, 1, DhcpUnexpectedType},
    {DhcpDiscover, 0, OFFERED_ADDRESS, SERVER_ADDRESS, SUBNET_MASK, 1, DhcpUnexpectedType},
    {DhcpDiscover, DhcpOffer, 0, SERVER_ADDRESS, SUBNET_MASK, 1, DhcpBadAddress},
    {DhcpDiscover, DhcpOffer, 0x7F000001, SERVER_ADDRESS, SUBNET_MASK, 1, DhcpBadAddress},
    {DhcpDiscover, DhcpOffer, 0xE0000001, SERVER_ADDRESS, SUBNET_MASK, 1, DhcpBadAddress},
    {DhcpDiscover, DhcpOffer, 0xFFFFFFFF, SERVER_ADDRESS, SUBNET_MASK, 1, DhcpBadAddress},
    {DhcpDiscover, DhcpOffer, OFFERED_ADDRESS, SERVER_ADDRESS, 0xFF00FF00, 1, DhcpBadAddress},
    {DhcpDiscover, DhcpOffer, OFFERED_ADDRESS, 0, SUBNET_MASK, 1, DhcpOtherServer},
    {DhcpRequest, DhcpOffer, OFFERED_ADDRESS, SERVER_ADDRESS, SUBNET_MASK, 1, DhcpUnexpectedType},
    {DhcpRequest, DhcpAck, OFFERED_ADDRESS + 1, SERVER_ADDRESS, SUBNET_MASK, 1, DhcpBadAddress},
    {DhcpRequest, DhcpAck, OFFERED_ADDRESS, SERVER_ADDRESS, 0x00FFFFFF, 1, DhcpBadAddress},
    {DhcpRequest, DhcpAck, OFFERED_ADDRESS, SERVER_ADDRESS + 1, SUBNET_MASK, 1, DhcpOtherServer},
    {DhcpRequest, DhcpNak, 0, SERVER_ADDRESS + 1, SUBNET_MASK, 1, DhcpOtherServer},
    {DhcpRequest, DhcpAck, OFFERED_ADDRESS, SERVER_ADDRESS, SUBNET_MASK, 0, DhcpBadLease},
};
static ULONG CrookedRow;

static void CrookedServer(NETWORK *Network, ULONG MessageType, ULONG TransactionId)
{
    FRAME Frame;

    if (MessageType != CrookedRows[CrookedRow].AnswersTo) {
        HonestServer(Network, MessageType, TransactionId);
        return;
    }
    BeginReply(&Frame, TransactionId, CrookedRows[CrookedRow].Address);
    PutType(&Frame, CrookedRows[CrookedRow].Type);
    PutOption4(&Frame, 54, CrookedRows[CrookedRow].ServerId);
    PutOption4(&Frame, 1, CrookedRows[CrookedRow].Mask);
    PutOption4(&Frame, 51, CrookedRows[CrookedRow].LeaseSeconds);
    EndReply(&Frame);
    Deliver(Network, &Frame);
}

static void Answers_that_make_no_sense_are_dropped_and_counted(void)
{
    for (CrookedRow = 0; CrookedRow < ARRAYSIZE(CrookedRows); CrookedRow += 1) {
        NETWORK Network = {.Server = CrookedServer};
        static DHCP_CLIENT Client;

        InitializeClient(&Client, &Network);
        CHECK_EQUAL(DhcpObtainLease(&Client), STATUS_IO_TIMEOUT);
        CHECK_EQUAL(Client.VerdictCounts[CrookedRows[CrookedRow].Verdict], 4);
    }
}

// Loses, doubles and damages.
static void PoorServer(NETWORK *Network, ULONG MessageType, ULONG TransactionId)
{
    FRAME Frame;

    for (ULONG Copy = 0; Copy < 2; Copy += 1) {
        if (NextRandom(Network) % 100 < Network->LossPercent) {
            continue;
        }
        BuildReply(&Frame, ReplyTypeFor(MessageType), TransactionId, OFFERED_ADDRESS);
        if (NextRandom(Network) % 4 == 0) {
            Frame.Bytes[OFFSET_IPV4 + NextRandom(Network) % (Frame.ByteCount - OFFSET_IPV4)] ^=
                0x10;
        }
        Deliver(Network, &Frame);
    }
}

static void A_poor_network_gives_the_right_lease_or_none(void)
{
    ULONG LeaseCount = 0;

    for (ULONG Run = 0; Run < LOSSY_RUN_COUNT; Run += 1) {
        NETWORK Network = {.Server = PoorServer, .LossPercent = Run % 100, .Random = Run + 1};
        static DHCP_CLIENT Client;

        InitializeClient(&Client, &Network);
        const NTSTATUS Status = DhcpObtainLease(&Client);
        if (NT_SUCCESS(Status)) {
            CheckLease(&Client);
            LeaseCount++;
        } else {
            CHECK_EQUAL(Status, STATUS_IO_TIMEOUT);
        }
        CHECK(Network.NowMs < 32000);
    }
    CHECK(LeaseCount > LOSSY_RUN_COUNT / 2 && LeaseCount < LOSSY_RUN_COUNT);
}

static const HOST_TEST Tests[] = {
    HOST_ROW(A_sound_offer_is_read, "RFC 2131", NULL),
    HOST_ROW(Padding_behind_the_datagram_is_ignored, "RFC 894", NULL),
    HOST_ROW(A_datagram_without_UDP_checksum_is_accepted, "RFC 768", NULL),
    HOST_ROW(An_IPv4_header_with_options_is_understood, "RFC 791", NULL),
    HOST_ROW(What_lies_behind_a_datagram_is_not_read, "D1", NULL),
    HOST_ROW(Every_truncated_frame_is_dropped, "D1", NULL),
    HOST_ROW(Every_option_list_cut_in_the_middle_is_dropped, "D1", NULL),
    HOST_ROW(Every_flipped_bit_is_noticed, "RFC 1071", NULL),
    HOST_ROW(Each_layer_refuses_what_it_does_not_expect, "RFC 791, 768, 2131", NULL),
    HOST_ROW(Lengths_that_lie_are_refused, "D1", NULL),
    HOST_ROW(Malformed_options_are_refused, "D1, RFC 2132", NULL),
    HOST_ROW(Options_go_on_in_the_file_and_name_fields, "RFC 2132 9.3", NULL),
    HOST_ROW(Random_frames_do_no_harm, "D1", NULL),
    HOST_ROW(A_discover_is_a_sound_broadcast, "RFC 2131 4.1", NULL),
    HOST_ROW(A_checksum_that_comes_to_zero_is_sent_as_all_ones, "RFC 768", NULL),
    HOST_ROW(A_request_names_the_offer_and_its_server, "RFC 2131 4.3.2", NULL),
    HOST_ROW(An_honest_server_gives_a_lease_in_two_messages, "RFC 2131 3.1", NULL),
    HOST_ROW(Silence_ends_in_a_timeout_with_growing_waits, "D2, RFC 2131 4.1", NULL),
    HOST_ROW(A_flood_of_foreign_frames_prolongs_nothing, "D2", NULL),
    HOST_ROW(After_a_refusal_the_client_begins_again, "RFC 2131 3.1", NULL),
    HOST_ROW(A_server_that_always_refuses_is_given_up, "D2", NULL),
    HOST_ROW(A_failing_link_ends_the_client_at_once, "D2", NULL),
    HOST_ROW(Answers_that_make_no_sense_are_dropped_and_counted, "RFC 2131 4.4.1", NULL),
    HOST_ROW(A_poor_network_gives_the_right_lease_or_none, "RFC 2131 4.1", NULL),
};
HOST_DEFINE_SUITE(dhcp);
