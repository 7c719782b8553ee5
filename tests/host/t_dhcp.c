// The DHCP client of the network stack: what it sends, what it believes, and how long it waits. It runs
// in the stack, against servers that are invented here; their messages are built byte by byte after the
// RFCs.
#include "tests/host/host.h"
#include "tests/host/inetlab.h"

#define MUTATION_COUNT 100000
#define LOSSY_RUN_COUNT 1000

#define SERVER_ADDRESS 0x0A000002u
#define OFFERED_ADDRESS 0x0A00000Fu
#define DNS_ADDRESS 0x0A000003u
#define LEASE_SECONDS 86400u

#define OFFSET_MESSAGE 42
#define OFFSET_XID (OFFSET_MESSAGE + 4)
#define OFFSET_CIADDR (OFFSET_MESSAGE + 12)
#define OFFSET_OPTIONS (OFFSET_MESSAGE + 240)

static LAB Lab;

// -------------------------------------------------------------------------------------------------
// A writer of replies.

static void PutOption4(LAB_FRAME *Frame, UCHAR Code, ULONG Value)
{
    Put(Frame, 1, Code);
    Put(Frame, 1, 4);
    Put(Frame, 4, Value);
}

static void PutType(LAB_FRAME *Frame, ULONG Type)
{
    Put(Frame, 3, 53u << 16 | 1u << 8 | Type);
}

// A reply up to the cookie; options follow.
static void BeginReply(LAB_FRAME *Frame, ULONG TransactionId, ULONG Address)
{
    BeginIpv4(Frame, 17);
    Frame->ByteCount -= 8;
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
    PutBytes(Frame, LabOwnMac, 6);
    Frame->ByteCount += 10 + 64 + 128;
    Put(Frame, 4, 0x63825363);
}

static void EndReply(LAB_FRAME *Frame)
{
    Put(Frame, 1, 255);
    SealUdp(Frame);
}

static ULONG ReplyLease = LEASE_SECONDS;

// What an honest server says.
static void BuildReply(LAB_FRAME *Frame, ULONG Type, ULONG TransactionId, ULONG Address)
{
    BeginReply(Frame, TransactionId, Address);
    PutType(Frame, Type);
    PutOption4(Frame, 54, SERVER_ADDRESS);
    PutOption4(Frame, 1, LAB_MASK);
    Put(Frame, 2, 0x0308); // two routers; the first counts
    Put(Frame, 4, LAB_ROUTER);
    Put(Frame, 4, LAB_ROUTER + 9);
    PutOption4(Frame, 6, DNS_ADDRESS);
    PutOption4(Frame, 51, ReplyLease);
    EndReply(Frame);
}

// -------------------------------------------------------------------------------------------------
// What the client has sent.

static const LAB_FRAME *LastDhcp(void)
{
    for (ULONG Index = Lab.SentCount; Index > 0; Index--) {
        const LAB_FRAME *Frame = &Lab.Sent[Index - 1];
        if (Frame->ByteCount > OFFSET_OPTIONS && Peek(Frame, 12, 2) == 0x0800 &&
            Peek(Frame, 34, 4) == (68u << 16 | 67u)) {
            return Frame;
        }
    }
    return NULL;
}

static ULONG LastType(void)
{
    const LAB_FRAME *Frame = LastDhcp();
    return Frame == NULL ? 0 : Peek(Frame, OFFSET_OPTIONS + 2, 1);
}

static ULONG LastXid(void)
{
    CHECK(LastDhcp() != NULL);
    return Peek(LastDhcp(), OFFSET_XID, 4);
}

static ULONG CountDhcp(void)
{
    return Lab.Interface.Dhcp.SentCount;
}

static ULONG VerdictCount(DHCP_VERDICT Verdict)
{
    return Lab.Interface.Dhcp.VerdictCounts[Verdict];
}

static void Answer(ULONG Type)
{
    LAB_FRAME Frame;
    BuildReply(&Frame, Type, LastXid(), Type == DhcpNak ? 0 : OFFERED_ADDRESS);
    LabReceiveFrame(&Lab, &Frame);
}

static DHCP_STATE State(void)
{
    return Lab.Interface.Dhcp.State;
}

static void CheckLease(void)
{
    const DHCP_REPLY *Lease = &Lab.Interface.Dhcp.Lease;
    CHECK_EQUAL(Lease->Address, OFFERED_ADDRESS);
    CHECK_EQUAL(Lease->SubnetMask, LAB_MASK);
    CHECK_EQUAL(Lease->Router, LAB_ROUTER);
    CHECK_EQUAL(Lease->DnsServer, DNS_ADDRESS);
    CHECK_EQUAL(Lease->ServerId, SERVER_ADDRESS);
    CHECK_EQUAL(Lab.Interface.Address, OFFERED_ADDRESS);
    CHECK_EQUAL(Lab.Interface.Router, LAB_ROUTER);
}

// Up to a lease that is in use and announced.
static void GetLease(ULONG Seconds)
{
    ReplyLease = Seconds;
    LabStart(&Lab, FALSE);
    CHECK_EQUAL(LastType(), DhcpDiscover);
    Answer(DhcpOffer);
    CHECK_EQUAL(LastType(), DhcpRequest);
    Answer(DhcpAck);
    LabAdvance(&Lab, 201);
    CHECK_EQUAL(State(), DhcpBound);
}

// -------------------------------------------------------------------------------------------------
// Parsing.

static DHCP_VERDICT Judge(const LAB_FRAME *Frame, DHCP_REPLY *Reply)
{
    DHCP_CLIENT *Client = &Lab.Interface.Dhcp;
    const ULONG ByteCount = Frame->ByteCount - OFFSET_MESSAGE;
    UCHAR *const Exact = malloc(ByteCount);

    memcpy(Exact, &Frame->Bytes[OFFSET_MESSAGE], ByteCount);
    Client->TransactionId = 0x12345678;
    const DHCP_VERDICT Verdict = DhcpParseMessage(Client, Exact, ByteCount, Reply);
    free(Exact);
    CHECK(Verdict < DhcpVerdictCount);
    return Verdict;
}

static void A_sound_offer_is_read(void)
{
    LAB_FRAME Frame;
    DHCP_REPLY Reply;

    LabStart(&Lab, FALSE);
    BeginReply(&Frame, 0x12345678, OFFERED_ADDRESS);
    PutType(&Frame, DhcpOffer);
    PutOption4(&Frame, 58, 100);
    PutOption4(&Frame, 59, 200);
    PutOption4(&Frame, 54, SERVER_ADDRESS);
    EndReply(&Frame);
    CHECK_EQUAL(Judge(&Frame, &Reply), DhcpAccepted);
    CHECK_EQUAL(Reply.MessageType, DhcpOffer);
    CHECK_EQUAL(Reply.Address, OFFERED_ADDRESS);
    CHECK_EQUAL(Reply.RenewSeconds, 100);
    CHECK_EQUAL(Reply.RebindSeconds, 200);
    CHECK_EQUAL(Reply.ServerId, SERVER_ADDRESS);
    LabEnd(&Lab);
}

// Only the missing end betrays a cut.
static void Every_option_list_cut_in_the_middle_is_dropped(void)
{
    LAB_FRAME Whole;
    ULONG AcceptedCount = 0;

    LabStart(&Lab, FALSE);
    BuildReply(&Whole, DhcpOffer, 0x12345678, OFFERED_ADDRESS);
    for (ULONG ByteCount = OFFSET_MESSAGE; ByteCount < Whole.ByteCount; ByteCount += 1) {
        LAB_FRAME Cut = Whole;
        DHCP_REPLY Reply;
        Cut.ByteCount = ByteCount;
        AcceptedCount += Judge(&Cut, &Reply) == DhcpAccepted;
    }
    // A cut between two options is a list without an end mark, which is allowed: six options, seven
    // places.
    CHECK_EQUAL(AcceptedCount, 7);
    LabEnd(&Lab);
}

static void Each_field_of_the_fixed_part_is_looked_at(void)
{
    static const struct {
        ULONG Offset;
        UCHAR Value;
        DHCP_VERDICT Verdict;
    } Rows[] = {
        {OFFSET_MESSAGE, 1, DhcpBadMessage},
        {OFFSET_MESSAGE + 1, 6, DhcpBadMessage},
        {OFFSET_MESSAGE + 2, 16, DhcpBadMessage},
        {OFFSET_XID, 0x13, DhcpOtherTransaction},
        {OFFSET_MESSAGE + 28, 0x53, DhcpOtherTransaction},
        {OFFSET_OPTIONS - 1, 0, DhcpBadMessage},
    };

    LabStart(&Lab, FALSE);
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        LAB_FRAME Frame;
        DHCP_REPLY Reply;
        BuildReply(&Frame, DhcpOffer, 0x12345678, OFFERED_ADDRESS);
        Frame.Bytes[Rows[Row].Offset] = Rows[Row].Value;
        CHECK_EQUAL(Judge(&Frame, &Reply), Rows[Row].Verdict);
    }
    LabEnd(&Lab);
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
        {{58, 2, 1, 2}, 4},
        {{52, 1, 4}, 3},     // an overload that does not exist
        {{12, 255, 'n'}, 3}, // an option that nobody reads, longer than the frame
        {{0, 0, 54}, 3},
    };

    LabStart(&Lab, FALSE);
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        LAB_FRAME Frame;
        DHCP_REPLY Reply;
        BeginReply(&Frame, 0x12345678, OFFERED_ADDRESS);
        PutBytes(&Frame, Rows[Row].Bytes, Rows[Row].ByteCount);
        CHECK_EQUAL(Judge(&Frame, &Reply), DhcpBadOptions);
    }
    LabEnd(&Lab);
}

static void Options_go_on_in_the_file_and_name_fields(void)
{
    LAB_FRAME Frame;
    DHCP_REPLY Reply;
    static const UCHAR InFile[] = {51, 4, 0, 1, 0x51, 0x80, 255};
    static const UCHAR InName[] = {0, 54, 4, 10, 0, 0, 2, 255};

    LabStart(&Lab, FALSE);
    BeginReply(&Frame, 0x12345678, OFFERED_ADDRESS);
    memcpy(&Frame.Bytes[OFFSET_MESSAGE + 108], InFile, sizeof(InFile));
    memcpy(&Frame.Bytes[OFFSET_MESSAGE + 44], InName, sizeof(InName));
    PutType(&Frame, DhcpAck);
    Put(&Frame, 3, 52u << 16 | 1u << 8 | 3u);
    EndReply(&Frame);
    CHECK_EQUAL(Judge(&Frame, &Reply), DhcpAccepted);
    CHECK_EQUAL(Reply.LeaseSeconds, LEASE_SECONDS);
    CHECK_EQUAL(Reply.ServerId, SERVER_ADDRESS);

    memset(&Frame.Bytes[OFFSET_MESSAGE + 44], 0, 63);
    Frame.Bytes[OFFSET_MESSAGE + 44 + 63] = 12; // would reach beyond the field
    CHECK_EQUAL(Judge(&Frame, &Reply), DhcpBadOptions);
    LabEnd(&Lab);
}

static ULONG NextRandom(ULONG *Random)
{
    *Random ^= *Random << 13;
    *Random ^= *Random >> 17;
    *Random ^= *Random << 5;
    return *Random;
}

static void Random_messages_do_no_harm(void)
{
    ULONG Random = (ULONG)HostOption("seed", 1) * 2 + 1;
    ULONG AcceptedCount = 0;

    LabStart(&Lab, FALSE);
    for (ULONG Run = 0; Run < MUTATION_COUNT; Run += 1) {
        LAB_FRAME Frame;
        DHCP_REPLY Reply;
        BuildReply(&Frame, DhcpOffer, 0x12345678, OFFERED_ADDRESS);
        const ULONG Start = NextRandom(&Random) % 2 != 0 ? OFFSET_OPTIONS : OFFSET_MESSAGE;
        for (ULONG Count = NextRandom(&Random) % 16; Count > 0; Count--) {
            Frame.Bytes[Start + NextRandom(&Random) % (Frame.ByteCount - Start)] =
                (UCHAR)NextRandom(&Random);
        }
        Frame.ByteCount -= NextRandom(&Random) % 32;
        AcceptedCount += Judge(&Frame, &Reply) == DhcpAccepted;
    }
    CHECK(AcceptedCount > 0 && AcceptedCount < MUTATION_COUNT);
    LabEnd(&Lab);
}

// -------------------------------------------------------------------------------------------------
// Building.

static void CheckSent(const LAB_FRAME *Frame, ULONG Type, ULONG Source, ULONG Destination)
{
    CHECK(Frame != NULL);
    CHECK_EQUAL(memcmp(&Frame->Bytes[6], LabOwnMac, 6), 0);
    CHECK_EQUAL(Peek(Frame, OFFSET_IPV4 + 12, 4), Source);
    CHECK_EQUAL(Peek(Frame, OFFSET_IPV4 + 16, 4), Destination);
    CHECK_EQUAL(OnesSum(&Frame->Bytes[OFFSET_IPV4], 20, 0), 65535);
    const ULONG Bytes = Frame->ByteCount - OFFSET_PAYLOAD;
    const ULONG Sum = OnesSum(&Frame->Bytes[OFFSET_IPV4 + 12], 8, 17 + Bytes);
    CHECK_EQUAL(OnesSum(&Frame->Bytes[OFFSET_PAYLOAD], Bytes, Sum), 65535);
    CHECK_EQUAL(Bytes, 308);
    CHECK_EQUAL(Peek(Frame, OFFSET_MESSAGE, 4), 0x01010600);
    CHECK_EQUAL(memcmp(&Frame->Bytes[OFFSET_MESSAGE + 28], LabOwnMac, 6), 0);
    CHECK_EQUAL(Peek(Frame, OFFSET_OPTIONS - 4, 4), 0x63825363);
    CHECK_EQUAL(Peek(Frame, OFFSET_OPTIONS, 3), 53u << 16 | 1u << 8 | Type);
}

static void A_discover_is_a_sound_broadcast(void)
{
    LabStart(&Lab, FALSE);
    CheckSent(LastDhcp(), DhcpDiscover, 0, 0xFFFFFFFF);
    CHECK_EQUAL(Peek(LastDhcp(), 0, 4), 0xFFFFFFFF);
    LabEnd(&Lab);
}

static void A_request_names_the_offer_and_its_server(void)
{
    LabStart(&Lab, FALSE);
    const ULONG Xid = LastXid();
    Answer(DhcpOffer);
    const LAB_FRAME *Frame = LastDhcp();
    CheckSent(Frame, DhcpRequest, 0, 0xFFFFFFFF);
    CHECK_EQUAL(LastXid(), Xid);
    CHECK_EQUAL(Peek(Frame, OFFSET_CIADDR, 4), 0);
    CHECK_EQUAL(Peek(Frame, OFFSET_OPTIONS + 3, 2), 50u << 8 | 4u);
    CHECK_EQUAL(Peek(Frame, OFFSET_OPTIONS + 5, 4), OFFERED_ADDRESS);
    CHECK_EQUAL(Peek(Frame, OFFSET_OPTIONS + 9, 2), 54u << 8 | 4u);
    CHECK_EQUAL(Peek(Frame, OFFSET_OPTIONS + 11, 4), SERVER_ADDRESS);
    LabEnd(&Lab);
}

// A checksum of zero would mean "none"; one transaction id in 65,536 leads to it.
static void A_checksum_that_comes_to_zero_is_sent_as_all_ones(void)
{
    const DHCP_ROUTE Route = {0, 0xFFFFFFFF, NULL};
    ULONG AllOnesCount = 0;

    LabStart(&Lab, FALSE);
    LabAdvance(&Lab, 100);
    for (ULONG Id = 0; Id < 65536; Id += 1) {
        LabForget(&Lab);
        Lab.Interface.Dhcp.TransactionId = Id;
        Lab.Interface.Dhcp.Link.Send(Lab.Interface.Dhcp.Link.Context, DhcpDiscover, &Route);
        LabAdvance(&Lab, 0);
        CHECK(Peek(LastDhcp(), OFFSET_PAYLOAD + 6, 2) != 0);
        AllOnesCount += Peek(LastDhcp(), OFFSET_PAYLOAD + 6, 2) == 0xFFFF;
    }
    CHECK(AllOnesCount > 0);
    LabEnd(&Lab);
}

// -------------------------------------------------------------------------------------------------
// The exchange.

static void An_honest_server_gives_a_lease_in_two_messages(void)
{
    GetLease(LEASE_SECONDS);
    CheckLease();
    CHECK_EQUAL(CountDhcp(), 2);
    CHECK_EQUAL(Lab.LeaseCount, 1);
    CHECK_EQUAL(Lab.LeaseStatus, STATUS_SUCCESS);
    LabEnd(&Lab);
}

static void Silence_ends_with_growing_waits_and_begins_again(void)
{
    LabStart(&Lab, FALSE);
    const ULONG First = LastXid();
    LabAdvance(&Lab, 14900);
    CHECK_EQUAL(CountDhcp(), 4);
    CHECK_EQUAL(Lab.LeaseCount, 0);
    LabAdvance(&Lab, 1000);
    CHECK_EQUAL(Lab.LeaseCount, 1);
    CHECK_EQUAL(Lab.LeaseStatus, STATUS_IO_TIMEOUT);
    CHECK_EQUAL(State(), DhcpWaiting);
    LabAdvance(&Lab, 10000);
    CHECK_EQUAL(CountDhcp(), 5);
    CHECK(LastXid() != First);
    Answer(DhcpOffer);
    Answer(DhcpAck);
    LabAdvance(&Lab, 201);
    CheckLease();
    LabEnd(&Lab);
}

static void A_flood_of_foreign_messages_prolongs_nothing(void)
{
    LAB_FRAME Frame;

    LabStart(&Lab, FALSE);
    BuildReply(&Frame, DhcpOffer, LastXid() ^ 0x10000000, OFFERED_ADDRESS);
    for (ULONG Round = 0; Round < 16000; Round += 1) {
        LabReceiveFrame(&Lab, &Frame);
        LabAdvance(&Lab, 1);
    }
    CHECK_EQUAL(Lab.LeaseCount, 1);
    CHECK(VerdictCount(DhcpOtherTransaction) == 16000);
    LabEnd(&Lab);
}

static void After_a_refusal_the_client_begins_again(void)
{
    LabStart(&Lab, FALSE);
    const ULONG First = LastXid();
    Answer(DhcpOffer);
    Answer(DhcpNak);
    CHECK_EQUAL(LastType(), DhcpDiscover);
    CHECK(LastXid() != First);
    Answer(DhcpOffer);
    Answer(DhcpAck);
    LabAdvance(&Lab, 201);
    CheckLease();
    CHECK_EQUAL(VerdictCount(DhcpRefused), 1);
    LabEnd(&Lab);
}

static void A_server_that_always_refuses_is_given_up_for_a_while(void)
{
    LabStart(&Lab, FALSE);
    for (ULONG Round = 0; Round < 3; Round += 1) {
        CHECK_EQUAL(Lab.LeaseCount, 0);
        Answer(DhcpOffer);
        Answer(DhcpNak);
    }
    CHECK_EQUAL(Lab.LeaseCount, 1);
    CHECK_EQUAL(Lab.LeaseStatus, STATUS_DEVICE_PROTOCOL_ERROR);
    CHECK_EQUAL(State(), DhcpWaiting);
    LabEnd(&Lab);
}

static void Lost_messages_are_sent_again(void)
{
    LabStart(&Lab, FALSE);
    LabAdvance(&Lab, 3500);
    CHECK_EQUAL(CountDhcp(), 3);
    Answer(DhcpOffer);
    LabAdvance(&Lab, 3500);
    CHECK_EQUAL(CountDhcp(), 6);
    CHECK_EQUAL(LastType(), DhcpRequest);
    Answer(DhcpAck);
    LabAdvance(&Lab, 201);
    CheckLease();
    LabEnd(&Lab);
}

static void Answers_that_make_no_sense_are_dropped_and_counted(void)
{
    LAB_FRAME Frame;

    LabStart(&Lab, FALSE);
    Answer(DhcpAck); // not an offer
    CHECK_EQUAL(VerdictCount(DhcpUnexpectedType), 1);
    BuildReply(&Frame, DhcpOffer, LastXid(), 0xE0000001);
    LabReceiveFrame(&Lab, &Frame);
    BuildReply(&Frame, DhcpOffer, LastXid(), 0);
    LabReceiveFrame(&Lab, &Frame);
    CHECK_EQUAL(VerdictCount(DhcpBadAddress), 2);
    BeginReply(&Frame, LastXid(), OFFERED_ADDRESS);
    PutType(&Frame, DhcpOffer);
    EndReply(&Frame); // no server
    LabReceiveFrame(&Lab, &Frame);
    CHECK_EQUAL(VerdictCount(DhcpOtherServer), 1);
    Answer(DhcpOffer);
    BuildReply(&Frame, DhcpAck, LastXid(), OFFERED_ADDRESS + 1);
    LabReceiveFrame(&Lab, &Frame);
    CHECK_EQUAL(VerdictCount(DhcpBadAddress), 3);
    ReplyLease = 0;
    Answer(DhcpAck);
    ReplyLease = LEASE_SECONDS;
    CHECK_EQUAL(VerdictCount(DhcpBadLease), 1);
    CHECK_EQUAL(State(), DhcpRequesting);
    Answer(DhcpAck);
    LabAdvance(&Lab, 201);
    CheckLease();
    Answer(DhcpAck); // out of turn
    CHECK_EQUAL(VerdictCount(DhcpUnexpectedType), 2);
    LabEnd(&Lab);
}

// -------------------------------------------------------------------------------------------------
// Conflicts.

static void An_address_that_somebody_has_is_declined(void)
{
    LAB_FRAME Frame;

    for (ULONG Round = 0; Round < 2; Round += 1) {
        LabStart(&Lab, FALSE);
        Answer(DhcpOffer);
        Answer(DhcpAck);
        CHECK_EQUAL(State(), DhcpProbing);
        const LAB_FRAME *Probe = &Lab.Sent[Lab.SentCount - 1];
        CHECK_EQUAL(Peek(Probe, 12, 2), 0x0806);
        CHECK_EQUAL(Peek(Probe, 28, 4), 0); // from nobody
        CHECK_EQUAL(Peek(Probe, 38, 4), OFFERED_ADDRESS);
        // He answers; or he is just about to take it himself.
        BuildArp(&Frame, Round == 0 ? 2 : 1, LabPeerMac, Round == 0 ? OFFERED_ADDRESS : 0,
                 OFFERED_ADDRESS);
        LabReceiveFrame(&Lab, &Frame);
        CHECK_EQUAL(LastType(), DhcpDecline);
        CheckSent(LastDhcp(), DhcpDecline, 0, 0xFFFFFFFF);
        CHECK_EQUAL(Peek(LastDhcp(), OFFSET_OPTIONS + 5, 4), OFFERED_ADDRESS);
        CHECK_EQUAL(State(), DhcpWaiting);
        CHECK_EQUAL(Lab.Interface.Address, 0);
        LabAdvance(&Lab, 10001);
        CHECK_EQUAL(LastType(), DhcpDiscover);
        LabEnd(&Lab);
    }
}

// -------------------------------------------------------------------------------------------------
// Renewing.

static void A_lease_is_renewed_at_half_its_time(void)
{
    GetLease(1000);
    LabForget(&Lab);
    LabAdvance(&Lab, 499000);
    CHECK_EQUAL(CountDhcp(), 2);
    LabAdvance(&Lab, 2000);
    CHECK_EQUAL(CountDhcp(), 3);
    CHECK_EQUAL(State(), DhcpRenewing);
    CheckSent(LastDhcp(), DhcpRequest, OFFERED_ADDRESS, SERVER_ADDRESS);
    CHECK_EQUAL(memcmp(LastDhcp()->Bytes, LabPeerMac, 6), 0); // straight to the server
    CHECK_EQUAL(Peek(LastDhcp(), OFFSET_CIADDR, 4), OFFERED_ADDRESS);
    CHECK_EQUAL(Peek(LastDhcp(), OFFSET_OPTIONS + 3, 1), 55); // names neither address nor server
    Answer(DhcpAck);
    CHECK_EQUAL(State(), DhcpBound);
    CheckLease();
    LabAdvance(&Lab, 498000);
    CHECK_EQUAL(CountDhcp(), 3);
    LabAdvance(&Lab, 2000);
    CHECK_EQUAL(CountDhcp(), 4);
    LabEnd(&Lab);
}

static void A_silent_server_is_followed_by_any_server(void)
{
    GetLease(1000);
    LabForget(&Lab);
    LabAdvance(&Lab, 880000);
    CHECK_EQUAL(State(), DhcpRebinding);
    CheckSent(LastDhcp(), DhcpRequest, OFFERED_ADDRESS, 0xFFFFFFFF);
    Answer(DhcpAck);
    CHECK_EQUAL(State(), DhcpBound);
    CheckLease();
    LabEnd(&Lab);
}

static void A_lease_that_is_over_is_not_used(void)
{
    GetLease(1000);
    CHECK_EQUAL(Lab.Interface.Address, OFFERED_ADDRESS);
    LabForget(&Lab);
    LabAdvance(&Lab, 1000000);
    CHECK_EQUAL(Lab.Interface.Address, 0);
    CHECK_EQUAL(LastType(), DhcpDiscover);
    CHECK_EQUAL(Peek(LastDhcp(), OFFSET_CIADDR, 4), 0);
    CHECK(CountDhcp() < 40); // not a storm, even at the end
    LabEnd(&Lab);
}

static void A_refused_renewal_ends_the_lease_at_once(void)
{
    GetLease(1000);
    LabAdvance(&Lab, 501000);
    Answer(DhcpNak);
    CHECK_EQUAL(Lab.Interface.Address, 0);
    CHECK_EQUAL(LastType(), DhcpDiscover);
    LabEnd(&Lab);
}

static void An_infinite_lease_is_never_renewed(void)
{
    GetLease(0xFFFFFFFF);
    LabAdvance(&Lab, 0x7FFFFFFF);
    CHECK_EQUAL(CountDhcp(), 2);
    CheckLease();
    LabEnd(&Lab);
}

static void A_server_may_say_when_to_renew(void)
{
    LAB_FRAME Frame;
    static const ULONG Rows[][3] = {{100, 200, 100}, {300, 200, 500}, {100, 2000, 500}};

    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        ReplyLease = 1000;
        LabStart(&Lab, FALSE);
        Answer(DhcpOffer);
        BuildReply(&Frame, DhcpAck, LastXid(), OFFERED_ADDRESS);
        Frame.ByteCount -= 1;
        PutOption4(&Frame, 58, Rows[Row][0]);
        PutOption4(&Frame, 59, Rows[Row][1]);
        EndReply(&Frame);
        LabReceiveFrame(&Lab, &Frame);
        LabAdvance(&Lab, 300);
        CHECK_EQUAL(State(), DhcpBound);
        LabAdvance(&Lab, Rows[Row][2] * 1000 - 1000);
        CHECK_EQUAL(State(), DhcpBound);
        LabAdvance(&Lab, 1000);
        CHECK_EQUAL(State(), DhcpRenewing);
        LabEnd(&Lab);
    }
    ReplyLease = LEASE_SECONDS;
}

static void A_cable_that_comes_back_is_asked_whether_the_lease_holds(void)
{
    GetLease(1000);
    InetLinkChanged(&Lab.Interface, FALSE);
    LabAdvance(&Lab, 5000);
    LabForget(&Lab);
    InetLinkChanged(&Lab.Interface, TRUE);
    LabAdvance(&Lab, 0);
    CHECK_EQUAL(State(), DhcpRebinding);
    CHECK_EQUAL(Lab.Interface.Address, OFFERED_ADDRESS);
    Answer(DhcpAck);
    CHECK_EQUAL(State(), DhcpBound);
    // Away for longer than the lease lasts.
    InetLinkChanged(&Lab.Interface, FALSE);
    LabAdvance(&Lab, 1001000);
    InetLinkChanged(&Lab.Interface, TRUE);
    LabAdvance(&Lab, 0);
    CHECK_EQUAL(LastType(), DhcpDiscover);
    CHECK_EQUAL(Lab.Interface.Address, 0);
    LabEnd(&Lab);
}

static void The_lease_is_given_back_in_the_end(void)
{
    GetLease(1000);
    LabForget(&Lab);
    LabEnd(&Lab);
    CHECK_EQUAL(LastType(), DhcpReleaseMessage);
    CheckSent(LastDhcp(), DhcpReleaseMessage, OFFERED_ADDRESS, SERVER_ADDRESS);
    CHECK_EQUAL(Peek(LastDhcp(), OFFSET_CIADDR, 4), OFFERED_ADDRESS);
    CHECK_EQUAL(Peek(LastDhcp(), OFFSET_OPTIONS + 3, 2), 54u << 8 | 4u);
}

static void Without_an_address_nothing_else_is_answered(void)
{
    LAB_FRAME Frame;

    LabStart(&Lab, FALSE);
    LabForget(&Lab);
    BuildEcho(&Frame, 20, 1);
    LabReceiveFrame(&Lab, &Frame);
    BuildUdp(&Frame, 4000, 7, "hello", 5);
    LabReceiveFrame(&Lab, &Frame);
    BuildArp(&Frame, 1, LabPeerMac, LAB_PEER_ADDRESS, LAB_OWN_ADDRESS);
    LabReceiveFrame(&Lab, &Frame);
    CHECK_EQUAL(Lab.SentCount, 0);
    LabEnd(&Lab);
}

// Loses what is sent, and answers; or sends it twice; or damages it.
static void A_poor_network_gives_the_right_lease_or_none(void)
{
    ULONG LeaseCount = 0;

    for (ULONG Run = 0; Run < LOSSY_RUN_COUNT; Run += 1) {
        ULONG Random = Run + 1;
        ULONG Seen = 0;
        LabStart(&Lab, FALSE);
        for (ULONG Ms = 0; Ms < 20000 && State() != DhcpBound; Ms += 50) {
            if (CountDhcp() != Seen && NextRandom(&Random) % 100 >= Run % 90) {
                LAB_FRAME Frame;
                BuildReply(&Frame, LastType() == DhcpDiscover ? DhcpOffer : DhcpAck, LastXid(),
                           OFFERED_ADDRESS);
                if (NextRandom(&Random) % 4 == 0) {
                    Frame.Bytes[OFFSET_IPV4 +
                                NextRandom(&Random) % (Frame.ByteCount - OFFSET_IPV4)] ^= 0x10;
                }
                LabReceiveFrame(&Lab, &Frame);
                if (NextRandom(&Random) % 4 == 0) {
                    LabReceiveFrame(&Lab, &Frame);
                }
            }
            Seen = CountDhcp() - (NextRandom(&Random) % 50 == 0);
            LabAdvance(&Lab, 50);
        }
        if (State() == DhcpBound) {
            CheckLease();
            LeaseCount++;
        }
        LabEnd(&Lab);
    }
    CHECK(LeaseCount > LOSSY_RUN_COUNT / 2 && LeaseCount < LOSSY_RUN_COUNT);
}

static const HOST_TEST Tests[] = {
    HOST_ROW(A_sound_offer_is_read, "RFC 2131", NULL),
    HOST_ROW(Every_option_list_cut_in_the_middle_is_dropped, "D1", NULL),
    HOST_ROW(Each_field_of_the_fixed_part_is_looked_at, "RFC 2131", NULL),
    HOST_ROW(Malformed_options_are_refused, "D1, RFC 2132", NULL),
    HOST_ROW(Options_go_on_in_the_file_and_name_fields, "RFC 2132 9.3", NULL),
    HOST_ROW(Random_messages_do_no_harm, "D1", NULL),
    HOST_ROW(A_discover_is_a_sound_broadcast, "RFC 2131 4.1", NULL),
    HOST_ROW(A_request_names_the_offer_and_its_server, "RFC 2131 4.3.2", NULL),
    HOST_ROW(A_checksum_that_comes_to_zero_is_sent_as_all_ones, "RFC 768", NULL),
    HOST_ROW(An_honest_server_gives_a_lease_in_two_messages, "RFC 2131 3.1", NULL),
    HOST_ROW(Silence_ends_with_growing_waits_and_begins_again, "D2, RFC 2131 4.1", NULL),
    HOST_ROW(A_flood_of_foreign_messages_prolongs_nothing, "D2", NULL),
    HOST_ROW(After_a_refusal_the_client_begins_again, "RFC 2131 3.1", NULL),
    HOST_ROW(A_server_that_always_refuses_is_given_up_for_a_while, "D2", NULL),
    HOST_ROW(Lost_messages_are_sent_again, "RFC 2131 4.1", NULL),
    HOST_ROW(Answers_that_make_no_sense_are_dropped_and_counted, "RFC 2131 4.4.1", NULL),
    HOST_ROW(An_address_that_somebody_has_is_declined, "RFC 2131 3.1 (5), 5227 2.1", NULL),
    HOST_ROW(A_lease_is_renewed_at_half_its_time, "D3, RFC 2131 4.4.5", NULL),
    HOST_ROW(A_silent_server_is_followed_by_any_server, "RFC 2131 4.4.5", NULL),
    HOST_ROW(A_lease_that_is_over_is_not_used, "D3, RFC 2131 4.4.5", NULL),
    HOST_ROW(A_refused_renewal_ends_the_lease_at_once, "RFC 2131 4.4.5", NULL),
    HOST_ROW(An_infinite_lease_is_never_renewed, "RFC 2131 3.3", NULL),
    HOST_ROW(A_server_may_say_when_to_renew, "RFC 2132 9.11", NULL),
    HOST_ROW(A_cable_that_comes_back_is_asked_whether_the_lease_holds, "RFC 2131 3.7", NULL),
    HOST_ROW(The_lease_is_given_back_in_the_end, "RFC 2131 4.4.6", NULL),
    HOST_ROW(Without_an_address_nothing_else_is_answered, "RFC 1122 3.3.1.1", NULL),
    HOST_ROW(A_poor_network_gives_the_right_lease_or_none, "RFC 2131 4.1", NULL),
};
HOST_DEFINE_SUITE(dhcp);
