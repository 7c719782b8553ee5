// The network stack (drivers/inet) without a driver around it: what it answers, what it drops and why,
// and that every frame comes back. Received frames lie in blocks of exactly their size: the sanitizer
// sees the first byte that is read too far.
#include "tests/host/host.h"
#include "tests/host/inetlab.h"

#define RANDOM_FRAMES 200000

static LAB Lab;

static ULONG64 Counted(INET_COUNTER Counter)
{
    return Lab.Interface.Counters[Counter];
}

// The frame must be dropped for this reason, and nothing be sent.
static void CheckDropped(const LAB_FRAME *Frame, INET_COUNTER Reason)
{
    const ULONG64 Before = Counted(Reason);
    const ULONG64 AllBefore = InetCountDrops(&Lab.Interface);
    const ULONG SentBefore = Lab.SentCount;

    LabReceiveFrame(&Lab, Frame);
    if (Counted(Reason) != Before + 1) {
        for (ULONG Counter = 0; Counter < InetCounterCount; Counter += 1) {
            printf("# %s: %llu\n", InetDescribeCounter(Counter),
                   (unsigned long long)Lab.Interface.Counters[Counter]);
        }
        FAIL("not dropped as \"%s\"", InetDescribeCounter(Reason));
    }
    CHECK_EQUAL(InetCountDrops(&Lab.Interface), AllBefore + 1);
    CHECK_EQUAL(Lab.SentCount, SentBefore);
}

// A frame that the stack has sent: to the peer, with sound lengths and sums.
static void CheckSentIpv4(const LAB_FRAME *Frame, ULONG Protocol)
{
    CHECK_EQUAL(memcmp(Frame->Bytes, LabPeerMac, 6), 0);
    CHECK_EQUAL(memcmp(&Frame->Bytes[6], LabOwnMac, 6), 0);
    CHECK_EQUAL(Peek(Frame, 12, 2), 0x0800);
    const ULONG HeaderBytes = (Frame->Bytes[OFFSET_IPV4] & 15) * 4;
    CHECK_EQUAL(Peek(Frame, OFFSET_IPV4 + 2, 2), Frame->ByteCount - OFFSET_IPV4);
    CHECK_EQUAL(OnesSum(&Frame->Bytes[OFFSET_IPV4], HeaderBytes, 0), 65535);
    CHECK_EQUAL(Frame->Bytes[OFFSET_IPV4 + 8], 64);
    CHECK_EQUAL(Frame->Bytes[OFFSET_IPV4 + 9], Protocol);
    CHECK_EQUAL(Peek(Frame, OFFSET_IPV4 + 12, 4), LAB_OWN_ADDRESS);
    CHECK_EQUAL(Peek(Frame, OFFSET_IPV4 + 16, 4), LAB_PEER_ADDRESS);
}

static void CheckSentUdp(const LAB_FRAME *Frame)
{
    CheckSentIpv4(Frame, 17);
    const ULONG Bytes = Frame->ByteCount - OFFSET_PAYLOAD;
    CHECK_EQUAL(Peek(Frame, OFFSET_PAYLOAD + 4, 2), Bytes);
    CHECK(Peek(Frame, OFFSET_PAYLOAD + 6, 2) != 0);
    const ULONG Sum = OnesSum(&Frame->Bytes[OFFSET_IPV4 + 12], 8, 17 + Bytes);
    CHECK_EQUAL(OnesSum(&Frame->Bytes[OFFSET_PAYLOAD], Bytes, Sum), 65535);
}

// -------------------------------------------------------------------------------------------------
// Sums.

static void A_sum_does_not_depend_on_how_the_bytes_are_cut(void)
{
    UCHAR Bytes[64];
    for (ULONG Index = 0; Index < sizeof(Bytes); Index += 1) {
        Bytes[Index] = (UCHAR)(Index * 37 + 201);
    }
    for (ULONG Count = 0; Count <= sizeof(Bytes); Count += 1) {
        for (ULONG Cut = 0; Cut <= Count; Cut += 1) {
            for (ULONG Second = Cut; Second <= Count; Second += 1) {
                INET_SUM Sum = {0, FALSE};
                InetAdd(&Sum, Bytes, Cut);
                InetAdd(&Sum, Bytes + Cut, Second - Cut);
                InetAdd(&Sum, Bytes + Second, Count - Second);
                CHECK_EQUAL(InetFinish(&Sum), 65535 - OnesSum(Bytes, Count, 0));
            }
        }
    }
}

static void Sums_of_all_ones_and_zeros_are_right(void)
{
    UCHAR Bytes[1500];
    memset(Bytes, 0xFF, sizeof(Bytes));
    CHECK_EQUAL(InetChecksum(Bytes, sizeof(Bytes)), 0);
    memset(Bytes, 0, sizeof(Bytes));
    CHECK_EQUAL(InetChecksum(Bytes, sizeof(Bytes)), 0xFFFF);
}

// -------------------------------------------------------------------------------------------------
// Ethernet.

static void Frames_for_others_are_dropped_by_their_reason(void)
{
    static const UCHAR Group[] = {0x01, 0x00, 0x5E, 0, 0, 1};
    static const UCHAR Other[] = {0x52, 0x54, 0, 0, 0, 9};
    LAB_FRAME Frame;

    LabStart(&Lab, TRUE);
    BuildEcho(&Frame, 10, 1);
    memcpy(Frame.Bytes, Other, 6);
    CheckDropped(&Frame, InetDropOtherStation);
    memcpy(Frame.Bytes, Group, 6);
    CheckDropped(&Frame, InetDropMulticast);
    BuildEcho(&Frame, 10, 1);
    memcpy(&Frame.Bytes[6], Group, 6);
    CheckDropped(&Frame, InetDropOwnSource);
    memcpy(&Frame.Bytes[6], LabOwnMac, 6);
    CheckDropped(&Frame, InetDropOwnSource);
    BuildEcho(&Frame, 10, 1);
    Poke16(&Frame, 12, 0x86DD);
    CheckDropped(&Frame, InetDropUnknownType);
    Poke16(&Frame, 12, 46); // a length, as of IEEE 802.3
    CheckDropped(&Frame, InetDropUnknownType);
    LabEnd(&Lab);
}

static void Frames_too_short_or_too_long_are_dropped(void)
{
    LAB_FRAME Frame;

    LabStart(&Lab, TRUE);
    BuildEcho(&Frame, 10, 1);
    for (Frame.ByteCount = 0; Frame.ByteCount < 14; Frame.ByteCount += 1) {
        CheckDropped(&Frame, InetDropRunt);
    }
    BuildEcho(&Frame, 1472, 1);
    CHECK_EQUAL(Frame.ByteCount, 1514);
    Frame.ByteCount = 1515;
    CheckDropped(&Frame, InetDropOversized);
    LabEnd(&Lab);
}

// Priority tags name no VLAN (IEEE 802.1Q): they are passed over.
static void Tagged_frames_are_dropped_unless_the_tag_names_no_vlan(void)
{
    LAB_FRAME Frame;
    LAB_FRAME Tagged;

    LabStart(&Lab, TRUE);
    BuildEcho(&Frame, 10, 1);
    BeginEthernet(&Tagged, LabOwnMac, LabPeerMac, 0x8100);
    Put(&Tagged, 2, 0x0005);
    PutBytes(&Tagged, &Frame.Bytes[12], Frame.ByteCount - 12);
    CheckDropped(&Tagged, InetDropVlan);
    Poke16(&Tagged, 14, 0xE000);
    LabReceiveFrame(&Lab, &Tagged);
    CHECK_EQUAL(Lab.SentCount, 1);
    CHECK_EQUAL(Counted(InetEchoRequests), 1);
    Tagged.ByteCount = 16;
    CheckDropped(&Tagged, InetDropRunt);
    LabEnd(&Lab);
}

// -------------------------------------------------------------------------------------------------
// ARP.

static void A_request_for_our_address_is_answered_in_place(void)
{
    LAB_FRAME Frame;

    LabStart(&Lab, TRUE);
    BuildArp(&Frame, 1, LabPeerMac, LAB_PEER_ADDRESS, LAB_OWN_ADDRESS);
    LabReceiveFrame(&Lab, &Frame);
    CHECK_EQUAL(Lab.SentCount, 1);
    const LAB_FRAME *Reply = &Lab.Sent[0];
    CHECK_EQUAL(memcmp(Reply->Bytes, LabPeerMac, 6), 0);
    CHECK_EQUAL(memcmp(&Reply->Bytes[6], LabOwnMac, 6), 0);
    CHECK_EQUAL(Peek(Reply, 12, 4), 0x08060001);
    CHECK_EQUAL(Peek(Reply, 16, 4), 0x08000604);
    CHECK_EQUAL(Peek(Reply, 20, 2), 2);
    CHECK_EQUAL(memcmp(&Reply->Bytes[22], LabOwnMac, 6), 0);
    CHECK_EQUAL(Peek(Reply, 28, 4), LAB_OWN_ADDRESS);
    CHECK_EQUAL(memcmp(&Reply->Bytes[32], LabPeerMac, 6), 0);
    CHECK_EQUAL(Peek(Reply, 38, 4), LAB_PEER_ADDRESS);
    CHECK_EQUAL(Counted(InetSentInPlace), 1);
    LabEnd(&Lab);
}

static void A_probe_for_our_address_is_answered_and_makes_no_entry(void)
{
    LAB_FRAME Frame;

    LabStart(&Lab, TRUE);
    BuildArp(&Frame, 1, LabPeerMac, 0, LAB_OWN_ADDRESS);
    LabReceiveFrame(&Lab, &Frame);
    CHECK_EQUAL(Lab.SentCount, 1);
    for (ULONG Index = 0; Index < INET_ARP_ENTRIES; Index += 1) {
        CHECK_EQUAL(Lab.Interface.Arp[Index].State, InetArpFree);
    }
    LabEnd(&Lab);
}

static void Malformed_arp_is_dropped(void)
{
    static const struct {
        ULONG Offset;
        UCHAR Value;
    } Rows[] = {{15, 2}, {16, 9}, {18, 5}, {19, 16}, {21, 0}, {21, 3}, {22, 0x53}, {28, 224}};
    LAB_FRAME Frame;

    LabStart(&Lab, TRUE);
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        BuildArp(&Frame, 1, LabPeerMac, LAB_PEER_ADDRESS, LAB_OWN_ADDRESS);
        Frame.Bytes[Rows[Row].Offset] = Rows[Row].Value;
        CheckDropped(&Frame, InetDropArpMalformed);
    }
    BuildArp(&Frame, 1, LabPeerMac, LAB_PEER_ADDRESS, LAB_OWN_ADDRESS);
    for (Frame.ByteCount = 14; Frame.ByteCount < 42; Frame.ByteCount += 1) {
        CheckDropped(&Frame, InetDropArpMalformed);
    }
    LabEnd(&Lab);
}

static void What_others_say_of_each_other_makes_no_entry(void)
{
    LAB_FRAME Frame;

    LabStart(&Lab, TRUE);
    BuildArp(&Frame, 1, LabPeerMac, LAB_PEER_ADDRESS, LAB_PEER_ADDRESS + 1);
    CheckDropped(&Frame, InetDropArpOther);
    // An answer that nobody asked for.
    BuildArp(&Frame, 2, LabPeerMac, LAB_PEER_ADDRESS, LAB_OWN_ADDRESS);
    CheckDropped(&Frame, InetDropArpOther);
    LabEnd(&Lab);
}

static void Addresses_are_asked_for_three_times_and_then_given_up(void)
{
    LabStart(&Lab, TRUE);
    CHECK_EQUAL(InetPing(&Lab.Interface, LAB_PEER_ADDRESS, 56, 60000, &Lab), STATUS_SUCCESS);
    LabAdvance(&Lab, 30000);
    CHECK_EQUAL(Lab.SentCount, 3);
    for (ULONG Index = 0; Index < 3; Index += 1) {
        CHECK_EQUAL(Peek(&Lab.Sent[Index], 20, 2), 1);
        CHECK_EQUAL(Peek(&Lab.Sent[Index], 38, 4), LAB_PEER_ADDRESS);
        CHECK_EQUAL(Lab.Sent[Index].ByteCount, 60);
    }
    CHECK_EQUAL(Counted(InetArpUnanswered), 1);
    CHECK_EQUAL(Counted(InetNoRoute), 1);
    CHECK_EQUAL(Lab.Interface.FreePacketCount, INET_PACKET_COUNT);
    LabAdvance(&Lab, 31000);
    CHECK_EQUAL(Lab.PingCount, 1);
    CHECK_EQUAL(Lab.PingStatus, STATUS_IO_TIMEOUT);
    LabEnd(&Lab);
}

// Asks, is answered, sends at once; asks again when the answer has become old.
static void An_answer_is_kept_until_it_is_old(void)
{
    LAB_FRAME Frame;

    LabStart(&Lab, TRUE);
    CHECK_EQUAL(InetPing(&Lab.Interface, LAB_PEER_ADDRESS, 56, 1000, &Lab), STATUS_SUCCESS);
    LabAdvance(&Lab, 1);
    BuildArp(&Frame, 2, LabPeerMac, LAB_PEER_ADDRESS, LAB_OWN_ADDRESS);
    LabReceiveFrame(&Lab, &Frame);
    CHECK_EQUAL(Lab.SentCount, 2);
    CheckSentIpv4(&Lab.Sent[1], 1);
    CHECK_EQUAL(Counted(InetArpReplies), 1);
    LabForget(&Lab);
    LabAdvance(&Lab, INET_ARP_FRESH_MS - 5000);
    CHECK_EQUAL(InetPing(&Lab.Interface, LAB_PEER_ADDRESS, 56, 1000, &Lab), STATUS_SUCCESS);
    LabAdvance(&Lab, 1);
    CHECK_EQUAL(Lab.SentCount, 1);
    CheckSentIpv4(&Lab.Sent[0], 1);
    LabForget(&Lab);
    LabAdvance(&Lab, 6000);
    CHECK_EQUAL(InetPing(&Lab.Interface, LAB_PEER_ADDRESS, 56, 1000, &Lab), STATUS_SUCCESS);
    LabAdvance(&Lab, 1);
    CHECK_EQUAL(Lab.SentCount, 1);
    CHECK_EQUAL(Peek(&Lab.Sent[0], 12, 2), 0x0806);
    LabEnd(&Lab);
}

static void More_stations_than_entries_make_the_oldest_go(void)
{
    LAB_FRAME Frame;

    LabStart(&Lab, TRUE);
    for (ULONG Index = 0; Index < 3 * INET_ARP_ENTRIES; Index += 1) {
        LabAdvance(&Lab, 1);
        BuildArp(&Frame, 1, LabPeerMac, LAB_PEER_ADDRESS + 60 + Index, LAB_OWN_ADDRESS);
        LabReceiveFrame(&Lab, &Frame);
    }
    CHECK_EQUAL(Counted(InetArpEvicted), 2 * INET_ARP_ENTRIES);
    CHECK_EQUAL(Counted(InetArpRequests), 3 * INET_ARP_ENTRIES);
    LabEnd(&Lab);
}

static void A_claim_of_our_address_is_told_of_and_defended_against_once(void)
{
    LAB_FRAME Frame;

    LabStart(&Lab, TRUE);
    BuildArp(&Frame, 1, LabPeerMac, LAB_OWN_ADDRESS, LAB_OWN_ADDRESS);
    for (ULONG Count = 0; Count < 5; Count += 1) {
        LabReceiveFrame(&Lab, &Frame);
    }
    CHECK_EQUAL(Counted(InetArpConflicts), 5);
    CHECK_EQUAL(Lab.TellCount, 1);
    CHECK_EQUAL(Lab.SentCount, 1);
    CHECK_EQUAL(Peek(&Lab.Sent[0], 28, 4), LAB_OWN_ADDRESS);
    CHECK_EQUAL(Peek(&Lab.Sent[0], 38, 4), LAB_OWN_ADDRESS);
    LabAdvance(&Lab, INET_DEFEND_MS);
    LabReceiveFrame(&Lab, &Frame);
    CHECK_EQUAL(Lab.TellCount, 2);
    LabEnd(&Lab);
}

static void A_new_address_is_announced_twice(void)
{
    LabStart(&Lab, TRUE);
    CHECK_EQUAL(Counted(InetArpAnnouncements), 2);
    InetLinkChanged(&Lab.Interface, FALSE);
    InetLinkChanged(&Lab.Interface, TRUE);
    LabAdvance(&Lab, 10000);
    CHECK_EQUAL(Counted(InetArpAnnouncements), 4);
    LabEnd(&Lab);
}

// -------------------------------------------------------------------------------------------------
// IPv4.

static void Malformed_ipv4_is_dropped_by_its_reason(void)
{
    static const struct {
        ULONG Offset;
        UCHAR Value;
        BOOLEAN Seal; // make the header's sum right again
        INET_COUNTER Reason;
    } Rows[] = {
        {14, 0x65, TRUE, InetDropIpv4Malformed},  {14, 0x44, TRUE, InetDropIpv4Malformed},
        {14, 0x4F, FALSE, InetDropIpv4Malformed}, {16, 0xFF, FALSE, InetDropIpv4Truncated},
        {17, 19, FALSE, InetDropIpv4Malformed},   {24, 1, FALSE, InetDropIpv4Checksum},
        {26, 0, TRUE, InetDropIpv4Source},        {26, 127, TRUE, InetDropIpv4Source},
        {26, 224, TRUE, InetDropIpv4Source},      {26, 255, TRUE, InetDropIpv4Source},
        {29, 50, TRUE, InetDropIpv4Source},       {29, 255, TRUE, InetDropIpv4Source},
        {33, 51, TRUE, InetDropIpv4Destination},  {30, 224, TRUE, InetDropIpv4Destination},
    };
    LAB_FRAME Frame;

    LabStart(&Lab, TRUE);
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        BuildEcho(&Frame, 0, 1);
        if (Rows[Row].Offset == 17) {
            Frame.Bytes[16] = 0;
        }
        Frame.Bytes[Rows[Row].Offset] = Rows[Row].Value;
        if (Rows[Row].Seal) {
            SealIpv4(&Frame);
        }
        CheckDropped(&Frame, Rows[Row].Reason);
    }
    LabEnd(&Lab);
}

static void Every_truncation_and_every_flipped_bit_is_noticed(void)
{
    LAB_FRAME Whole;

    LabStart(&Lab, TRUE);
    BuildEcho(&Whole, 40, 1);
    for (ULONG ByteCount = 0; ByteCount < Whole.ByteCount; ByteCount += 1) {
        LAB_FRAME Frame = Whole;
        Frame.ByteCount = ByteCount;
        LabReceiveFrame(&Lab, &Frame);
        CHECK_EQUAL(Lab.SentCount, 0);
    }
    for (ULONG Bit = 8 * 12; Bit < Whole.ByteCount * 8; Bit += 1) {
        LAB_FRAME Frame = Whole;
        Frame.Bytes[Bit / 8] ^= (UCHAR)(1u << Bit % 8);
        LabReceiveFrame(&Lab, &Frame);
        CHECK_EQUAL(Lab.SentCount, 0);
    }
    CHECK_EQUAL(Counted(InetFramesReceived), InetCountDrops(&Lab.Interface));
    LabEnd(&Lab);
}

static void Options_are_passed_over_and_not_sent_back(void)
{
    LAB_FRAME Plain;
    LAB_FRAME Frame = {.ByteCount = 0};

    LabStart(&Lab, TRUE);
    BuildEcho(&Plain, 20, 7);
    PutBytes(&Frame, Plain.Bytes, OFFSET_PAYLOAD);
    Put(&Frame, 4, 0x83070401); // a loose source route
    Put(&Frame, 4, 0x02030400);
    PutBytes(&Frame, &Plain.Bytes[OFFSET_PAYLOAD], Plain.ByteCount - OFFSET_PAYLOAD);
    Frame.Bytes[OFFSET_IPV4] = 0x47;
    SealIpv4(&Frame);
    LabReceiveFrame(&Lab, &Frame);
    CHECK_EQUAL(Lab.SentCount, 1);
    CheckSentIpv4(&Lab.Sent[0], 1);
    CHECK_EQUAL(Peek(&Lab.Sent[0], OFFSET_PAYLOAD, 4), 0x01010101);
    CHECK_EQUAL(Peek(&Lab.Sent[0], OFFSET_PAYLOAD + 4, 4), 0x01010101);
    CHECK_EQUAL(Peek(&Lab.Sent[0], OFFSET_PAYLOAD + 8, 1), 0);
    LabEnd(&Lab);
}

static void Unknown_protocols_are_refused_with_an_error(void)
{
    LAB_FRAME Frame;

    LabStart(&Lab, TRUE);
    BuildEcho(&Frame, 20, 7);
    Frame.Bytes[OFFSET_IPV4 + 9] = 6;
    SealIpv4(&Frame);
    LabReceiveFrame(&Lab, &Frame);
    CHECK_EQUAL(Counted(InetDropIpv4Protocol), 1);
    CHECK_EQUAL(Lab.SentCount, 1);
    CheckSentIpv4(&Lab.Sent[0], 1);
    CHECK_EQUAL(Peek(&Lab.Sent[0], OFFSET_PAYLOAD, 2), 0x0302);
    LabEnd(&Lab);
}

// A datagram to one station, in a frame to everybody (RFC 1122 3.3.6).
static void Ours_in_a_frame_to_everybody_is_dropped(void)
{
    LAB_FRAME Frame;

    LabStart(&Lab, TRUE);
    BuildEcho(&Frame, 20, 7);
    memset(Frame.Bytes, 0xFF, 6);
    CheckDropped(&Frame, InetDropIpv4Destination);
    LabEnd(&Lab);
}

// -------------------------------------------------------------------------------------------------
// ICMP.

static void Echo_requests_of_every_size_are_answered_in_place(void)
{
    LAB_FRAME Frame;

    LabStart(&Lab, TRUE);
    for (ULONG Bytes = 0; Bytes <= 1472; Bytes += 1) {
        BuildEcho(&Frame, Bytes, Bytes & 0xFFFF);
        LabReceiveFrame(&Lab, &Frame);
        CHECK_EQUAL(Lab.SentCount, 1);
        const LAB_FRAME *Reply = &Lab.Sent[0];
        CheckSentIpv4(Reply, 1);
        CHECK_EQUAL(Reply->ByteCount, Frame.ByteCount);
        CHECK_EQUAL(Peek(Reply, OFFSET_PAYLOAD, 2), 0);
        CHECK_EQUAL(OnesSum(&Reply->Bytes[OFFSET_PAYLOAD], Bytes + 8, 0), 65535);
        CHECK_EQUAL(
            memcmp(&Reply->Bytes[OFFSET_PAYLOAD + 4], &Frame.Bytes[OFFSET_PAYLOAD + 4], Bytes + 4),
            0);
        LabForget(&Lab);
    }
    CHECK_EQUAL(Counted(InetSentInPlace), 1473);
    LabEnd(&Lab);
}

// A sum that becomes 0xFFFF or 0x0000 in the reply is the hard case of RFC 1624.
static void The_sum_of_a_reply_is_right_for_every_sum_of_a_request(void)
{
    LAB_FRAME Frame;

    LabStart(&Lab, TRUE);
    for (ULONG Sequence = 0; Sequence < 65536; Sequence += 1) {
        BuildEcho(&Frame, 2, Sequence);
        LabReceiveFrame(&Lab, &Frame);
        CHECK_EQUAL(Lab.SentCount, 1);
        CHECK_EQUAL(OnesSum(&Lab.Sent[0].Bytes[OFFSET_PAYLOAD], 10, 0), 65535);
        LabForget(&Lab);
    }
    LabEnd(&Lab);
}

static void Padding_is_not_sent_back(void)
{
    LAB_FRAME Frame;

    LabStart(&Lab, TRUE);
    BuildEcho(&Frame, 2, 1);
    PutBytes(&Frame, "padding of a short frame", 16);
    LabReceiveFrame(&Lab, &Frame);
    CHECK_EQUAL(Lab.SentCount, 1);
    CHECK_EQUAL(Lab.Sent[0].ByteCount, OFFSET_PAYLOAD + 10);
    LabEnd(&Lab);
}

static void Frames_in_pieces_of_memory_are_answered(void)
{
    LAB_FRAME Frame;

    for (ULONG Piece = 60; Piece < 1514; Piece += 13) {
        LabStart(&Lab, TRUE);
        Lab.PieceBytes = Piece;
        BuildEcho(&Frame, 1472, 9);
        LabReceiveFrame(&Lab, &Frame);
        CHECK_EQUAL(Lab.SentCount, 1);
        CheckSentIpv4(&Lab.Sent[0], 1);
        LabEnd(&Lab);
    }
    // A header that is not in one piece is not read.
    for (ULONG Piece = 1; Piece < 42; Piece += 1) {
        LabStart(&Lab, TRUE);
        Lab.PieceBytes = Piece;
        BuildEcho(&Frame, 100, 9);
        LabReceiveFrame(&Lab, &Frame);
        CHECK(Lab.SentCount == 0 || (Piece == 34));
        LabEnd(&Lab);
    }
}

static void Echo_requests_to_everybody_are_not_answered(void)
{
    LAB_FRAME Frame;

    LabStart(&Lab, TRUE);
    BuildEcho(&Frame, 20, 7);
    Poke16(&Frame, OFFSET_IPV4 + 18, 0x00FF);
    SealIpv4(&Frame);
    CheckDropped(&Frame, InetDropBroadcastEcho);
    Poke16(&Frame, OFFSET_IPV4 + 16, 0xFFFF);
    Poke16(&Frame, OFFSET_IPV4 + 18, 0xFFFF);
    SealIpv4(&Frame);
    CheckDropped(&Frame, InetDropBroadcastEcho);
    LabEnd(&Lab);
}

static void Malformed_icmp_is_dropped(void)
{
    LAB_FRAME Frame;

    LabStart(&Lab, TRUE);
    BeginIpv4(&Frame, 1);
    Put(&Frame, 4, 0x08000000);
    SealIpv4(&Frame);
    CheckDropped(&Frame, InetDropIcmpMalformed);
    BuildEcho(&Frame, 20, 7);
    Frame.Bytes[OFFSET_PAYLOAD + 12] ^= 1;
    CheckDropped(&Frame, InetDropIcmpChecksum);
    BuildEcho(&Frame, 20, 7);
    Frame.Bytes[OFFSET_PAYLOAD] = 13; // a timestamp
    Poke16(&Frame, OFFSET_PAYLOAD + 2, 0);
    Poke16(&Frame, OFFSET_PAYLOAD + 2, 65535 - OnesSum(&Frame.Bytes[OFFSET_PAYLOAD], 28, 0));
    CheckDropped(&Frame, InetDropIcmpOther);
    LabEnd(&Lab);
}

static void Errors_are_sent_ten_at_once_and_ten_a_second(void)
{
    LAB_FRAME Frame;

    LabStart(&Lab, TRUE);
    BuildUdp(&Frame, 4000, 4001, "hello", 5);
    for (ULONG Count = 0; Count < 100; Count += 1) {
        LabReceiveFrame(&Lab, &Frame);
    }
    CHECK_EQUAL(Counted(InetDropUdpNoListener), 100);
    CHECK_EQUAL(Counted(InetIcmpErrorsSent), 10);
    CHECK_EQUAL(Counted(InetIcmpErrorsHeld), 90);
    const LAB_FRAME *Sent = &Lab.Sent[0];
    CheckSentIpv4(Sent, 1);
    CHECK_EQUAL(Peek(Sent, OFFSET_PAYLOAD, 2), 0x0303);
    CHECK_EQUAL(Sent->ByteCount, OFFSET_PAYLOAD + 8 + 28);
    CHECK_EQUAL(OnesSum(&Sent->Bytes[OFFSET_PAYLOAD], 36, 0), 65535);
    CHECK_EQUAL(memcmp(&Sent->Bytes[OFFSET_PAYLOAD + 8], &Frame.Bytes[OFFSET_IPV4], 28), 0);
    for (ULONG Round = 0; Round < 100; Round += 1) {
        LabAdvance(&Lab, 50);
        LabForget(&Lab);
        LabReceiveFrame(&Lab, &Frame);
    }
    CHECK_EQUAL(Counted(InetIcmpErrorsSent), 60);
    LabEnd(&Lab);
}

static void A_ping_of_ours_takes_its_own_reply_and_no_other(void)
{
    LAB_FRAME Frame;

    LabStart(&Lab, TRUE);
    BuildArp(&Frame, 1, LabPeerMac, LAB_PEER_ADDRESS, LAB_OWN_ADDRESS);
    LabReceiveFrame(&Lab, &Frame);
    LabForget(&Lab);
    CHECK_EQUAL(InetPing(&Lab.Interface, LAB_PEER_ADDRESS, INET_PING_LIMIT, 1000, &Lab),
                STATUS_SUCCESS);
    LabAdvance(&Lab, 1);
    CHECK_EQUAL(Lab.SentCount, 1);
    CheckSentIpv4(&Lab.Sent[0], 1);
    const LAB_FRAME Sent = Lab.Sent[0];
    CHECK_EQUAL(OnesSum(&Sent.Bytes[OFFSET_PAYLOAD], 8 + INET_PING_LIMIT, 0), 65535);
    BeginIpv4(&Frame, 1);
    PutBytes(&Frame, &Sent.Bytes[OFFSET_PAYLOAD], Sent.ByteCount - OFFSET_PAYLOAD);
    Frame.Bytes[OFFSET_PAYLOAD] = 0;
    for (ULONG Sequence = 2; Sequence <= 2; Sequence -= 1) {
        Poke16(&Frame, OFFSET_PAYLOAD + 6, Peek(&Sent, OFFSET_PAYLOAD + 6, 2) + Sequence);
        Poke16(&Frame, OFFSET_PAYLOAD + 2, 0);
        Poke16(&Frame, OFFSET_PAYLOAD + 2,
               65535 - OnesSum(&Frame.Bytes[OFFSET_PAYLOAD], 8 + INET_PING_LIMIT, 0));
        SealIpv4(&Frame);
        LabReceiveFrame(&Lab, &Frame);
        CHECK_EQUAL(Lab.PingCount, Sequence == 0 ? 1 : 0);
    }
    CHECK_EQUAL(Lab.PingStatus, STATUS_SUCCESS);
    CHECK_EQUAL(Counted(InetDropIcmpOther), 2);
    LabEnd(&Lab);
}

static void Pings_that_make_no_sense_are_refused(void)
{
    LabStart(&Lab, TRUE);
    CHECK_EQUAL(InetPing(&Lab.Interface, LAB_PEER_ADDRESS, INET_PING_LIMIT + 1, 1, &Lab),
                STATUS_INVALID_PARAMETER);
    CHECK_EQUAL(InetPing(&Lab.Interface, 0xE0000001, 0, 1, &Lab), STATUS_INVALID_PARAMETER);
    for (ULONG Index = 0; Index < INET_PINGS; Index += 1) {
        CHECK_EQUAL(InetPing(&Lab.Interface, LAB_PEER_ADDRESS, 0, 1000, &Lab), STATUS_SUCCESS);
    }
    CHECK_EQUAL(InetPing(&Lab.Interface, LAB_PEER_ADDRESS, 0, 1000, &Lab), STATUS_DEVICE_BUSY);
    InetCancelPing(&Lab.Interface, &Lab);
    CHECK_EQUAL(InetPing(&Lab.Interface, LAB_PEER_ADDRESS, 0, 1000, &Lab), STATUS_SUCCESS);
    LabEnd(&Lab);
    LabStart(&Lab, FALSE);
    CHECK_EQUAL(InetPing(&Lab.Interface, LAB_PEER_ADDRESS, 0, 1000, &Lab),
                STATUS_NETWORK_UNREACHABLE);
    LabEnd(&Lab);
}

// -------------------------------------------------------------------------------------------------
// Fragments.

// Bytes First to End - 1 of a datagram's payload, as a fragment.
static void Cut(LAB_FRAME *Fragment, const UCHAR *Payload, ULONG First, ULONG End, BOOLEAN IsLast,
                ULONG Identification)
{
    BeginIpv4(Fragment, 1);
    Poke16(Fragment, OFFSET_IPV4 + 4, Identification);
    Poke16(Fragment, OFFSET_IPV4 + 6, (IsLast ? 0 : 0x2000) | First / 8);
    PutBytes(Fragment, Payload + First, End - First);
    SealIpv4(Fragment);
}

static void BuildEchoMessage(UCHAR *Message, ULONG ByteCount)
{
    memset(Message, 0, ByteCount);
    Message[0] = 8;
    for (ULONG Index = 4; Index < ByteCount; Index += 1) {
        Message[Index] = (UCHAR)(Index * 31);
    }
    const ULONG Sum = 65535 - OnesSum(Message, ByteCount, 0);
    Message[2] = (UCHAR)(Sum >> 8);
    Message[3] = (UCHAR)Sum;
}

#define PIECE 1480

static void SendFragments(const UCHAR *Message, ULONG ByteCount, ULONG Identification,
                          ULONG (*Order)(ULONG Index, ULONG Count))
{
    const ULONG Count = (ByteCount + PIECE - 1) / PIECE;
    for (ULONG Index = 0; Index < Count; Index += 1) {
        const ULONG Number = Order(Index, Count);
        const ULONG First = Number * PIECE;
        const ULONG End = First + PIECE < ByteCount ? First + PIECE : ByteCount;
        LAB_FRAME Fragment;
        Cut(&Fragment, Message, First, End, End == ByteCount, Identification);
        LabReceiveFrame(&Lab, &Fragment);
    }
}

static ULONG Forwards(ULONG Index, ULONG Count)
{
    UNREFERENCED_PARAMETER(Count);
    return Index;
}

static ULONG Backwards(ULONG Index, ULONG Count)
{
    return Count - 1 - Index;
}

// Puts together what the stack has sent, in order.
static void CheckReplyInFragments(const UCHAR *Message, ULONG ByteCount)
{
    static UCHAR Reply[65536];
    ULONG End = 0;

    for (ULONG Index = 0; Index < Lab.SentCount; Index += 1) {
        const LAB_FRAME *Frame = &Lab.Sent[Index];
        CheckSentIpv4(Frame, 1);
        CHECK_EQUAL(Peek(Frame, OFFSET_IPV4 + 4, 2), Peek(&Lab.Sent[0], OFFSET_IPV4 + 4, 2));
        const ULONG Field = Peek(Frame, OFFSET_IPV4 + 6, 2);
        CHECK_EQUAL((Field & 0x1FFF) * 8, End);
        CHECK_EQUAL((Field & 0x2000) != 0, Index + 1 < Lab.SentCount);
        memcpy(Reply + End, &Frame->Bytes[OFFSET_PAYLOAD], Frame->ByteCount - OFFSET_PAYLOAD);
        End += Frame->ByteCount - OFFSET_PAYLOAD;
    }
    CHECK_EQUAL(End, ByteCount);
    CHECK_EQUAL(Reply[0], 0);
    CHECK_EQUAL(OnesSum(Reply, ByteCount, 0), 65535);
    CHECK_EQUAL(memcmp(Reply + 4, Message + 4, ByteCount - 4), 0);
}

static void Datagrams_in_fragments_are_answered_in_the_same_fragments(void)
{
    static const ULONG Sizes[] = {1481, 1488, 2960, 3008, 8000, 20001, 65515};
    static UCHAR Message[65536];

    LabStart(&Lab, TRUE);
    for (ULONG Row = 0; Row < ARRAYSIZE(Sizes); Row += 1) {
        BuildEchoMessage(Message, Sizes[Row]);
        SendFragments(Message, Sizes[Row], 100 + Row, Forwards);
        CheckReplyInFragments(Message, Sizes[Row]);
        LabForget(&Lab);
        SendFragments(Message, Sizes[Row], 200 + Row, Backwards);
        CheckReplyInFragments(Message, Sizes[Row]);
        LabForget(&Lab);
    }
    CHECK_EQUAL(Counted(InetReassembled), 2 * ARRAYSIZE(Sizes));
    CHECK_EQUAL(InetCountDrops(&Lab.Interface), 0);
    LabEnd(&Lab);
}

static void Duplicates_are_dropped_and_the_datagram_lives(void)
{
    static UCHAR Message[3008];
    LAB_FRAME Fragment;

    LabStart(&Lab, TRUE);
    BuildEchoMessage(Message, sizeof(Message));
    Cut(&Fragment, Message, PIECE, 2 * PIECE, FALSE, 5);
    LabReceiveFrame(&Lab, &Fragment);
    CheckDropped(&Fragment, InetDropFragmentDuplicate);
    Cut(&Fragment, Message, 2 * PIECE, 3008, TRUE, 5);
    LabReceiveFrame(&Lab, &Fragment);
    CheckDropped(&Fragment, InetDropFragmentDuplicate);
    Cut(&Fragment, Message, 0, PIECE, FALSE, 5);
    LabReceiveFrame(&Lab, &Fragment);
    CheckReplyInFragments(Message, sizeof(Message));
    LabEnd(&Lab);
}

static void Overlaps_end_the_datagram_with_all_its_fragments(void)
{
    static const struct {
        ULONG First, End;
        BOOLEAN IsLast;
    } Rows[] = {
        {400, 1200, FALSE}, {200, 600, FALSE}, {600, 1000, FALSE}, {400, 808, FALSE},
        {392, 800, FALSE},  {0, 1200, FALSE},  {400, 800, TRUE},   {200, 400, TRUE},
        {8, 400, TRUE},     {400, 408, FALSE},
    };
    static UCHAR Message[2048];
    LAB_FRAME Fragment;

    BuildEchoMessage(Message, sizeof(Message));
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        LabStart(&Lab, TRUE);
        Cut(&Fragment, Message, 400, 800, FALSE, 5);
        LabReceiveFrame(&Lab, &Fragment);
        Cut(&Fragment, Message, Rows[Row].First, Rows[Row].End, Rows[Row].IsLast, 5);
        LabReceiveFrame(&Lab, &Fragment);
        CHECK_EQUAL(Counted(InetDropFragmentOverlap), 2);
        CHECK_EQUAL(Lab.Interface.HeldFrames, 0);
        LabEnd(&Lab);
    }
    // Beyond the end that the last fragment has named.
    LabStart(&Lab, TRUE);
    Cut(&Fragment, Message, 400, 804, TRUE, 5);
    LabReceiveFrame(&Lab, &Fragment);
    Cut(&Fragment, Message, 808, 816, FALSE, 5);
    LabReceiveFrame(&Lab, &Fragment);
    CHECK_EQUAL(Counted(InetDropFragmentOverlap), 2);
    LabEnd(&Lab);
}

static void Malformed_fragments_are_dropped(void)
{
    static UCHAR Message[2048];
    LAB_FRAME Fragment;

    LabStart(&Lab, TRUE);
    Cut(&Fragment, Message, 8, 8, FALSE, 5);
    CheckDropped(&Fragment, InetDropFragmentMalformed);
    Cut(&Fragment, Message, 8, 15, FALSE, 5); // not the last, and not a multiple of 8
    CheckDropped(&Fragment, InetDropFragmentMalformed);
    Cut(&Fragment, Message, 8, 24, TRUE, 5);
    Poke16(&Fragment, OFFSET_IPV4 + 6, 65512 / 8); // the "ping of death"
    SealIpv4(&Fragment);
    CheckDropped(&Fragment, InetDropFragmentMalformed);
    LabEnd(&Lab);
}

static void Fragments_wait_for_a_bounded_time(void)
{
    static UCHAR Message[2048];
    LAB_FRAME Fragment;

    LabStart(&Lab, TRUE);
    for (ULONG Index = 0; Index < 3; Index += 1) {
        Cut(&Fragment, Message, Index * 8, Index * 8 + 8, FALSE, 5);
        LabReceiveFrame(&Lab, &Fragment);
        LabAdvance(&Lab, 1000);
    }
    CHECK_EQUAL(Lab.LentCount, 3);
    LabAdvance(&Lab, INET_REASSEMBLY_MS);
    CHECK_EQUAL(Lab.LentCount, 0);
    CHECK_EQUAL(Counted(InetDropFragmentLate), 3);
    LabEnd(&Lab);
}

static void Fragments_take_bounded_memory(void)
{
    static UCHAR Message[2048];
    LAB_FRAME Fragment;
    ULONG Random = 1;

    LabStart(&Lab, TRUE);
    // One datagram of very many small fragments.
    for (ULONG Index = 1; Index < 200; Index += 1) {
        Cut(&Fragment, Message, Index * 8, Index * 8 + 8, FALSE, 5);
        LabReceiveFrame(&Lab, &Fragment);
        CHECK(Lab.LentCount <= INET_HELD_LIMIT);
    }
    CHECK(Counted(InetDropFragmentNoRoom) > 0);
    // Very many datagrams.
    for (ULONG Index = 0; Index < 20000; Index += 1) {
        Random = Random * 1664525 + 1013904223;
        Cut(&Fragment, Message, 8 + (Random >> 8) % 200 * 8, 8 + (Random >> 8) % 200 * 8 + 8, FALSE,
            Random >> 20);
        LabReceiveFrame(&Lab, &Fragment);
        CHECK(Lab.LentCount <= INET_HELD_LIMIT);
    }
    // An honest one still gets through.
    BuildEchoMessage(Message, 2000);
    SendFragments(Message, 2000, 0xBEEF, Backwards);
    CheckReplyInFragments(Message, 2000);
    LabEnd(&Lab);
}

// -------------------------------------------------------------------------------------------------
// UDP.

static void Datagrams_are_echoed_with_and_without_sum(void)
{
    static UCHAR Payload[1472];
    LAB_FRAME Frame;

    LabStart(&Lab, TRUE);
    for (ULONG Bytes = 0; Bytes <= sizeof(Payload); Bytes += 1) {
        memset(Payload, (int)Bytes, sizeof(Payload));
        BuildUdp(&Frame, 4000, 7, Payload, Bytes);
        LabReceiveFrame(&Lab, &Frame);
        CHECK_EQUAL(Lab.SentCount, 1);
        CheckSentUdp(&Lab.Sent[0]);
        CHECK_EQUAL(Peek(&Lab.Sent[0], OFFSET_PAYLOAD, 4), 7u << 16 | 4000);
        CHECK_EQUAL(memcmp(&Lab.Sent[0].Bytes[OFFSET_PAYLOAD + 8], Payload, Bytes), 0);
        LabForget(&Lab);
    }
    BuildUdp(&Frame, 4000, 7, "hello", 5);
    Poke16(&Frame, OFFSET_PAYLOAD + 6, 0);
    LabReceiveFrame(&Lab, &Frame);
    CHECK_EQUAL(Lab.SentCount, 1);
    CHECK_EQUAL(Peek(&Lab.Sent[0], OFFSET_PAYLOAD + 6, 2), 0);
    LabEnd(&Lab);
}

static void Wrong_udp_lengths_and_sums_are_dropped(void)
{
    static const struct {
        ULONG Length;
        INET_COUNTER Reason;
    } Rows[] = {{0, InetDropUdpMalformed},
                {7, InetDropUdpMalformed},
                {14, InetDropUdpMalformed},
                {0xFFFF, InetDropUdpMalformed}};
    LAB_FRAME Frame;

    LabStart(&Lab, TRUE);
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        BuildUdp(&Frame, 4000, 7, "hello", 5);
        Poke16(&Frame, OFFSET_PAYLOAD + 4, Rows[Row].Length);
        CheckDropped(&Frame, Rows[Row].Reason);
    }
    BuildUdp(&Frame, 4000, 7, "hello", 5);
    Frame.Bytes[OFFSET_PAYLOAD + 9] ^= 0x40;
    CheckDropped(&Frame, InetDropUdpChecksum);
    BeginIpv4(&Frame, 17);
    Put(&Frame, 4, 0x0FA00007);
    SealIpv4(&Frame);
    CheckDropped(&Frame, InetDropUdpMalformed);
    LabEnd(&Lab);
}

static void Two_services_never_talk_to_each_other(void)
{
    static const ULONG Ports[] = {7, 68, INET_STATE_PORT};
    LAB_FRAME Frame;

    LabStart(&Lab, TRUE);
    for (ULONG Index = 0; Index < ARRAYSIZE(Ports); Index += 1) {
        BuildUdp(&Frame, Ports[Index], 7, "help", 4);
        CheckDropped(&Frame, InetDropUdpLoop);
        BuildUdp(&Frame, Ports[Index], INET_STATE_PORT, "help", 4);
        CheckDropped(&Frame, InetDropUdpLoop);
    }
    LabEnd(&Lab);
}

static void Datagrams_to_everybody_are_not_answered(void)
{
    LAB_FRAME Frame;

    LabStart(&Lab, TRUE);
    BuildUdp(&Frame, 4000, 7, "hello", 5);
    Poke16(&Frame, OFFSET_IPV4 + 18, 0x00FF);
    SealUdp(&Frame);
    CheckDropped(&Frame, InetDropBroadcastEcho);
    Poke16(&Frame, OFFSET_PAYLOAD + 2, INET_STATE_PORT);
    SealUdp(&Frame);
    CheckDropped(&Frame, InetDropStateOutsider);
    Poke16(&Frame, OFFSET_PAYLOAD + 2, 999);
    SealUdp(&Frame);
    CheckDropped(&Frame, InetDropUdpNoListener); // and no error
    LabEnd(&Lab);
}

static void A_datagram_in_fragments_is_echoed(void)
{
    static UCHAR Payload[4008];
    LAB_FRAME Fragment;

    LabStart(&Lab, TRUE);
    memset(Payload, 0x5A, sizeof(Payload));
    Payload[0] = 4000 >> 8;
    Payload[1] = (UCHAR)4000;
    Payload[2] = 0;
    Payload[3] = 7;
    Payload[4] = sizeof(Payload) >> 8;
    Payload[5] = (UCHAR)sizeof(Payload);
    Payload[6] = Payload[7] = 0;
    ULONG Sum = 17 + sizeof(Payload) + (LAB_PEER_ADDRESS >> 16) + (LAB_PEER_ADDRESS & 0xFFFF) +
                (LAB_OWN_ADDRESS >> 16) + (LAB_OWN_ADDRESS & 0xFFFF);
    Sum = 65535 - OnesSum(Payload, sizeof(Payload), Sum);
    Payload[6] = (UCHAR)(Sum >> 8);
    Payload[7] = (UCHAR)Sum;
    for (ULONG First = 0; First < sizeof(Payload); First += PIECE) {
        const BOOLEAN IsLast = First + PIECE >= sizeof(Payload);
        Cut(&Fragment, Payload, First, IsLast ? (ULONG)sizeof(Payload) : First + PIECE, IsLast, 77);
        Fragment.Bytes[OFFSET_IPV4 + 9] = 17;
        SealIpv4(&Fragment);
        LabReceiveFrame(&Lab, &Fragment);
    }
    CHECK_EQUAL(Lab.SentCount, 3);
    CHECK_EQUAL(Counted(InetUdpEchoes), 1);
    LabEnd(&Lab);
}

// -------------------------------------------------------------------------------------------------
// The state service.

static void Ask(const CHAR *Request)
{
    LAB_FRAME Frame;
    BuildUdp(&Frame, 4000, INET_STATE_PORT, Request, (ULONG)strlen(Request));
    LabReceiveFrame(&Lab, &Frame);
}

// The head of the Index-th datagram that was sent, as text; what follows has *Bytes.
static const CHAR *HeadOf(ULONG Index, ULONG *Bytes)
{
    static CHAR Head[200];
    const CHAR *Text = (const CHAR *)&Lab.Sent[Index].Bytes[OFFSET_PAYLOAD + 8];
    const ULONG Length = (ULONG)(strchr(Text, '\n') - Text);

    CHECK(Length < sizeof(Head));
    memcpy(Head, Text, Length);
    Head[Length] = 0;
    *Bytes = Lab.Sent[Index].ByteCount - OFFSET_PAYLOAD - 8 - Length - 1;
    return Head;
}

static void A_short_report_comes_in_one_datagram(void)
{
    ULONG Bytes;

    LabStart(&Lab, TRUE);
    Lab.ReportBytes = 100;
    Ask("memory\n");
    CHECK_EQUAL(Lab.SentCount, 1);
    CheckSentUdp(&Lab.Sent[0]);
    CHECK_EQUAL(Peek(&Lab.Sent[0], OFFSET_PAYLOAD, 4), (ULONG)INET_STATE_PORT << 16 | 4000);
    CHECK_TEXT(HeadOf(0, &Bytes), "IoSpace - 1/1 memory");
    CHECK_EQUAL(Bytes, 100);
    LabEnd(&Lab);
}

static void A_long_report_comes_in_numbered_datagrams(void)
{
    ULONG Bytes;
    ULONG Sum = 0;

    LabStart(&Lab, TRUE);
    Lab.ReportBytes = INET_REPORT_BYTES;
    Ask("mappings x17");
    CHECK_EQUAL(Lab.SentCount, INET_CHUNK_COUNT);
    for (ULONG Index = 0; Index < Lab.SentCount; Index += 1) {
        CHAR Expected[64];
        CheckSentUdp(&Lab.Sent[Index]);
        CHECK(Lab.Sent[Index].ByteCount <= 1514);
        snprintf(Expected, sizeof(Expected), "IoSpace x17 %u/%u mappings", Index + 1,
                 INET_CHUNK_COUNT);
        CHECK_TEXT(HeadOf(Index, &Bytes), Expected);
        Sum += Bytes;
    }
    CHECK_EQUAL(Sum, INET_REPORT_BYTES);
    LabEnd(&Lab);
}

static void A_report_is_not_overwritten_before_the_card_has_read_it(void)
{
    LabStart(&Lab, TRUE);
    Lab.ReportBytes = 3000;
    Lab.IsHolding = TRUE;
    Ask("memory 1");
    CHECK_EQUAL(Lab.SentCount, 3);
    Ask("memory 2");
    CHECK_EQUAL(Lab.SentCount, 3);
    CHECK_EQUAL(Counted(InetDropStateBusy), 1);
    LabRelease(&Lab);
    Lab.IsHolding = FALSE;
    Ask("memory 3");
    CHECK_EQUAL(Lab.SentCount, 6);
    LabEnd(&Lab);
}

static void Requests_that_make_no_sense_are_dropped(void)
{
    static const CHAR *const Rows[] = {
        "",
        " ",
        "\n",
        "a b c",
        "\001",
        "a\001",
        "a12345678901234567890123456789012345678901234567890123456789"
        "0123456789"};
    LAB_FRAME Frame;

    LabStart(&Lab, TRUE);
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        BuildUdp(&Frame, 4000, INET_STATE_PORT, Rows[Row], (ULONG)strlen(Rows[Row]));
        CheckDropped(&Frame, InetDropStateMalformed);
    }
    Ask("nothing");
    CHECK_EQUAL(Lab.SentCount, 1);
    CHECK(strstr((const CHAR *)&Lab.Sent[0].Bytes[OFFSET_PAYLOAD + 8], "no such report") != NULL);
    LabEnd(&Lab);
}

static void Strangers_get_no_report(void)
{
    LAB_FRAME Frame;

    LabStart(&Lab, TRUE);
    BuildUdp(&Frame, 4000, INET_STATE_PORT, "help", 4);
    Frame.Bytes[OFFSET_IPV4 + 14] = 9; // 10.0.9.2
    SealUdp(&Frame);
    CheckDropped(&Frame, InetDropStateOutsider);
    LabEnd(&Lab);
}

// -------------------------------------------------------------------------------------------------
// Scarcity, and rubbish.

static void Without_packets_replies_in_place_still_go_out(void)
{
    LAB_FRAME Frame;

    LabStart(&Lab, TRUE);
    Lab.IsHolding = TRUE;
    Lab.ReportBytes = INET_REPORT_BYTES;
    Ask("memory");
    for (ULONG Index = 0; Index < INET_PACKET_COUNT; Index += 1) {
        InetArpAnnounce(&Lab.Interface);
    }
    CHECK(Counted(InetNoPacket) > 0);
    BuildEcho(&Frame, 20, 1);
    LabReceiveFrame(&Lab, &Frame);
    CHECK_EQUAL(Counted(InetEchoRequests), 1);
    BuildUdp(&Frame, 4000, 4001, "hello", 5);
    LabReceiveFrame(&Lab, &Frame);
    CHECK_EQUAL(Counted(InetIcmpErrorsSent), 0);
    LabRelease(&Lab);
    LabEnd(&Lab);
}

static void Frames_that_the_card_did_not_send_come_back(void)
{
    LAB_FRAME Frame;

    LabStart(&Lab, TRUE);
    Lab.IsHolding = TRUE;
    BuildEcho(&Frame, 20, 1);
    LabReceiveFrame(&Lab, &Frame);
    Lab.InCard->Status = STATUS_NETWORK_UNREACHABLE;
    LabRelease(&Lab);
    CHECK_EQUAL(Counted(InetSendFailures), 1);
    CHECK_EQUAL(Lab.LentCount, 0);
    LabEnd(&Lab);
}

static ULONG NextRandom(ULONG *State)
{
    *State ^= *State << 13;
    *State ^= *State >> 17;
    *State ^= *State << 5;
    return *State;
}

static void BuildSomething(LAB_FRAME *Frame, ULONG *Random)
{
    static UCHAR Message[2048];
    switch (NextRandom(Random) % 6) {
    case 0:
        BuildEcho(Frame, NextRandom(Random) % 1473, 1);
        break;
    case 1:
        BuildUdp(Frame, 4000, 7, Message, NextRandom(Random) % 1472);
        break;
    case 2:
        BuildUdp(Frame, 4000, INET_STATE_PORT, "memory 12", 9);
        break;
    case 3:
        BuildArp(Frame, 1 + NextRandom(Random) % 2, LabPeerMac, LAB_PEER_ADDRESS, LAB_OWN_ADDRESS);
        break;
    case 4: {
        const ULONG First = NextRandom(Random) % 100 * 8;
        Cut(Frame, Message, First, First + 8 + NextRandom(Random) % 100 * 8,
            NextRandom(Random) % 4 == 0, NextRandom(Random) % 6);
        break;
    }
    default:
        BuildUdp(Frame, 67, 68, Message, 300);
        break;
    }
}

// Sound frames, damaged here and there, at any layer; the sums are right again most of the time.
static void Random_frames_do_no_harm_and_all_come_back(void)
{
    ULONG Random = (ULONG)HostOption("seed", 1) * 2 + 1;

    LabStart(&Lab, TRUE);
    Lab.ReportBytes = 3000;
    for (ULONG Run = 0; Run < RANDOM_FRAMES; Run += 1) {
        LAB_FRAME Frame;
        BuildSomething(&Frame, &Random);
        for (ULONG Count = NextRandom(&Random) % 6; Count > 0; Count--) {
            const ULONG Start = (NextRandom(&Random) % 3) * 14;
            Frame.Bytes[Start + NextRandom(&Random) % (Frame.ByteCount - Start)] =
                (UCHAR)NextRandom(&Random);
        }
        if (NextRandom(&Random) % 4 != 0 && Peek(&Frame, 12, 2) == 0x0800) {
            Frame.Bytes[14] = 0x45;
            SealIpv4(&Frame);
        }
        Frame.ByteCount -= NextRandom(&Random) % 8 == 0 ? NextRandom(&Random) % Frame.ByteCount : 0;
        Lab.PieceBytes = NextRandom(&Random) % 3 == 0 ? 64 + NextRandom(&Random) % 200 : 0;
        LabReceiveFrame(&Lab, &Frame);
        LabForget(&Lab);
        if (Run % 16 == 0) {
            LabAdvance(&Lab, NextRandom(&Random) % 200);
            LabForget(&Lab);
        }
    }
    CHECK(Counted(InetEchoRequests) > 1000 && Counted(InetUdpEchoes) > 1000);
    static const INET_COUNTER Reached[] = {
        InetDropOtherStation,      InetDropUnknownType,     InetDropArpMalformed,
        InetDropIpv4Truncated,     InetDropIpv4Checksum,    InetDropIpv4Source,
        InetDropFragmentDuplicate, InetDropFragmentOverlap, InetDropFragmentNoRoom,
        InetDropIcmpChecksum,      InetDropUdpChecksum,     InetDropStateMalformed,
    };
    for (ULONG Row = 0; Row < ARRAYSIZE(Reached); Row += 1) {
        if (Counted(Reached[Row]) == 0) {
            FAIL("never dropped: %s", InetDescribeCounter(Reached[Row]));
        }
    }
    LabEnd(&Lab);
}

static const CHAR *Described(void)
{
    static CHAR Buffer[8192];
    INET_TEXT Text = {Buffer, sizeof(Buffer) - 1, 0};
    InetDescribe(&Lab.Interface, &Text);
    Buffer[Text.ByteCount] = 0;
    return Buffer;
}

static void The_report_says_what_was_counted(void)
{
    LAB_FRAME Frame;

    LabStart(&Lab, TRUE);
    BuildArp(&Frame, 1, LabPeerMac, LAB_PEER_ADDRESS, LAB_OWN_ADDRESS);
    LabReceiveFrame(&Lab, &Frame);
    BuildEcho(&Frame, 20, 1);
    LabReceiveFrame(&Lab, &Frame);
    Frame.Bytes[OFFSET_PAYLOAD + 12] ^= 1;
    LabReceiveFrame(&Lab, &Frame);
    const CHAR *Text = Described();
    CHECK(strstr(Text, "station 52:54:00:12:34:56, link up, address 10.0.0.50, mask 255.255.255.0, "
                       "router 10.0.0.1\n") == Text);
    CHECK(strstr(Text, "ARP: 10.0.0.2 is at 52:55:0a:00:00:02, for 0 s\n") != NULL);
    CHECK(strstr(Text, "  1 echo requests answered\n") != NULL);
    CHECK(strstr(Text, "dropped: 1\n  1 wrong ICMP checksum\n") != NULL);
    LabEnd(&Lab);
}

static const HOST_TEST Tests[] = {
    HOST_ROW(A_sum_does_not_depend_on_how_the_bytes_are_cut, "RFC 1071", NULL),
    HOST_ROW(Sums_of_all_ones_and_zeros_are_right, "RFC 1071", NULL),
    HOST_ROW(Frames_for_others_are_dropped_by_their_reason, "N4", NULL),
    HOST_ROW(Frames_too_short_or_too_long_are_dropped, "N4, N5", NULL),
    HOST_ROW(Tagged_frames_are_dropped_unless_the_tag_names_no_vlan, "IEEE 802.1Q", NULL),
    HOST_ROW(A_request_for_our_address_is_answered_in_place, "RFC 826, N2", NULL),
    HOST_ROW(A_probe_for_our_address_is_answered_and_makes_no_entry, "RFC 5227 1.1", NULL),
    HOST_ROW(Malformed_arp_is_dropped, "RFC 826, N5", NULL),
    HOST_ROW(What_others_say_of_each_other_makes_no_entry, "A1", NULL),
    HOST_ROW(Addresses_are_asked_for_three_times_and_then_given_up, "A2, A3", NULL),
    HOST_ROW(An_answer_is_kept_until_it_is_old, "RFC 1122 2.3.2.1", NULL),
    HOST_ROW(More_stations_than_entries_make_the_oldest_go, "N3", NULL),
    HOST_ROW(A_claim_of_our_address_is_told_of_and_defended_against_once, "RFC 5227 2.4", NULL),
    HOST_ROW(A_new_address_is_announced_twice, "RFC 5227 2.3", NULL),
    HOST_ROW(Malformed_ipv4_is_dropped_by_its_reason, "RFC 791, 1122 3.2.1, N5", NULL),
    HOST_ROW(Every_truncation_and_every_flipped_bit_is_noticed, "N4, N5", NULL),
    HOST_ROW(Options_are_passed_over_and_not_sent_back, "RFC 1122 3.2.1.8", NULL),
    HOST_ROW(Unknown_protocols_are_refused_with_an_error, "RFC 1122 3.2.2.1", NULL),
    HOST_ROW(Ours_in_a_frame_to_everybody_is_dropped, "RFC 1122 3.3.6", NULL),
    HOST_ROW(Echo_requests_of_every_size_are_answered_in_place, "RFC 792, N2", NULL),
    HOST_ROW(The_sum_of_a_reply_is_right_for_every_sum_of_a_request, "RFC 1624", NULL),
    HOST_ROW(Padding_is_not_sent_back, "RFC 894", NULL),
    HOST_ROW(Frames_in_pieces_of_memory_are_answered, "N2, N5", NULL),
    HOST_ROW(Echo_requests_to_everybody_are_not_answered, "RFC 1122 3.2.2.6", NULL),
    HOST_ROW(Malformed_icmp_is_dropped, "RFC 792, N5", NULL),
    HOST_ROW(Errors_are_sent_ten_at_once_and_ten_a_second, "RFC 1812 4.3.2.8", NULL),
    HOST_ROW(A_ping_of_ours_takes_its_own_reply_and_no_other, "RFC 792", NULL),
    HOST_ROW(Pings_that_make_no_sense_are_refused, "RFC 792", NULL),
    HOST_ROW(Datagrams_in_fragments_are_answered_in_the_same_fragments, "F3, N2", NULL),
    HOST_ROW(Duplicates_are_dropped_and_the_datagram_lives, "F2", NULL),
    HOST_ROW(Overlaps_end_the_datagram_with_all_its_fragments, "F2, RFC 5722", NULL),
    HOST_ROW(Malformed_fragments_are_dropped, "RFC 791 3.2", NULL),
    HOST_ROW(Fragments_wait_for_a_bounded_time, "F1", NULL),
    HOST_ROW(Fragments_take_bounded_memory, "F1", NULL),
    HOST_ROW(Datagrams_are_echoed_with_and_without_sum, "RFC 862, 768", NULL),
    HOST_ROW(Wrong_udp_lengths_and_sums_are_dropped, "RFC 768, N5", NULL),
    HOST_ROW(Two_services_never_talk_to_each_other, "RFC 862", NULL),
    HOST_ROW(Datagrams_to_everybody_are_not_answered, "RFC 1122 3.2.2", NULL),
    HOST_ROW(A_datagram_in_fragments_is_echoed, "F3", NULL),
    HOST_ROW(A_short_report_comes_in_one_datagram, "S1", NULL),
    HOST_ROW(A_long_report_comes_in_numbered_datagrams, "S1", NULL),
    HOST_ROW(A_report_is_not_overwritten_before_the_card_has_read_it, "S1", NULL),
    HOST_ROW(Requests_that_make_no_sense_are_dropped, "N5", NULL),
    HOST_ROW(Strangers_get_no_report, "S1", NULL),
    HOST_ROW(Without_packets_replies_in_place_still_go_out, "N3", NULL),
    HOST_ROW(Frames_that_the_card_did_not_send_come_back, "N1", NULL),
    HOST_ROW(Random_frames_do_no_harm_and_all_come_back, "N1, N4, N5", NULL),
    HOST_ROW(The_report_says_what_was_counted, "N4", NULL),
};
HOST_DEFINE_SUITE(inet);
