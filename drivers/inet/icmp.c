// ICMP (RFC 792): echo both ways, and "there is nobody" for what nobody wants, a few times a second.
#include "inet.h"

#define INET_PING_IDENTIFIER 0x494F // "IO"

// -------------------------------------------------------------------------------------------------
// Echo.

// Type and code become zero, the rest of the message stays: so does the sum, but for those two bytes
// (RFC 1624, equation 3).
static ULONG InetAnswerEcho(PINET_INTERFACE Interface, const INET_DATAGRAM *Datagram)
{
    const PICMP_HEADER Header = (PICMP_HEADER)Datagram->Payload;
    const ULONG Change = (ULONG)Header->Type << 8 | Header->Code;
    ULONG Sum = (~InetRead16(Header->Checksum) & MAXUSHORT) + (~Change & MAXUSHORT);

    Sum = (Sum & MAXUSHORT) + (Sum >> 16);
    Header->Type = ICMP_ECHO_REPLY;
    Header->Code = 0;
    InetWrite16(Header->Checksum, ~Sum & MAXUSHORT);
    Interface->Counters[InetEchoRequests]++;
    InetReflect(Interface, Datagram);
    return InetTaken;
}

static ULONG InetTakeEchoReply(PINET_INTERFACE Interface, const INET_DATAGRAM *Datagram)
{
    const ICMP_HEADER *const Header = (const ICMP_HEADER *)Datagram->Payload;

    if (InetRead16(Header->Identifier) != INET_PING_IDENTIFIER) {
        return InetDropIcmpOther;
    }
    for (ULONG Index = 0; Index < INET_PINGS; Index += 1) {
        const PINET_PING_STATE Ping = &Interface->Pings[Index];
        if (Ping->Context != NULL && Ping->Address == Datagram->Source &&
            Ping->Sequence == InetRead16(Header->Sequence)) {
            const PVOID PingContext = Ping->Context;
            Ping->Context = NULL;
            Interface->Counters[InetEchoReplies]++;
            Interface->Port.PingDone(Interface->Port.Context, PingContext, STATUS_SUCCESS,
                                     Interface->SenderHardware, Datagram->Header->TimeToLive);
            return InetUsed;
        }
    }
    return InetDropIcmpOther;
}

ULONG InetIcmpInput(PINET_INTERFACE Interface, const INET_DATAGRAM *Datagram)
{
    const ICMP_HEADER *const Header = (const ICMP_HEADER *)Datagram->Payload;
    INET_SUM Sum = {0, FALSE};

    if (Datagram->NearBytes < sizeof(*Header)) {
        return InetDropIcmpMalformed;
    }
    if (!InetAddPayload(&Sum, Datagram, Datagram->ByteCount) || InetFinish(&Sum) != 0) {
        return InetDropIcmpChecksum;
    }
    switch (Header->Type) {
    case ICMP_ECHO_REQUEST:
        return Datagram->IsBroadcast ? (ULONG)InetDropBroadcastEcho
                                     : InetAnswerEcho(Interface, Datagram);
    case ICMP_ECHO_REPLY:
        return InetTakeEchoReply(Interface, Datagram);
    default:
        return InetDropIcmpOther;
    }
}

// -------------------------------------------------------------------------------------------------
// Errors.

static BOOLEAN InetTakeErrorToken(PINET_INTERFACE Interface)
{
    const ULONG64 Earned = (Interface->NowMs - Interface->ErrorMs) / INET_ERROR_MS;

    if (Earned > 0) {
        Interface->ErrorMs = Interface->NowMs;
        Interface->ErrorTokens = Earned >= INET_ERROR_BURST - Interface->ErrorTokens
                                     ? INET_ERROR_BURST
                                     : Interface->ErrorTokens + (ULONG)Earned;
    }
    if (Interface->ErrorTokens == 0) {
        Interface->Counters[InetIcmpErrorsHeld]++;
        return FALSE;
    }
    Interface->ErrorTokens--;
    return TRUE;
}

VOID InetSendUnreachable(PINET_INTERFACE Interface, const INET_DATAGRAM *Datagram, UCHAR Code)
{
    const NET_FRAME *const Frame = Datagram->Frames;
    const ULONG HeaderBytes = (ULONG)Frame->TransportOffset - Frame->NetworkOffset;
    const ULONG Payload =
        Datagram->NearBytes < ICMP_QUOTED_BYTES ? Datagram->NearBytes : ICMP_QUOTED_BYTES;
    const ULONG Quoted = HeaderBytes + Payload;
    PUCHAR Bytes;

    if (Datagram->IsBroadcast || Interface->Address == 0 || !InetTakeErrorToken(Interface)) {
        return;
    }
    const PINET_PACKET Packet = InetTakePacket(
        Interface, (ULONG)(INET_TRANSPORT_OFFSET + sizeof(ICMP_HEADER)) + Quoted, &Bytes);
    if (Packet == NULL) {
        return;
    }
    const PICMP_HEADER Header = (PICMP_HEADER)(Bytes + INET_TRANSPORT_OFFSET);
    Header->Type = ICMP_UNREACHABLE;
    Header->Code = Code;
    RtlCopyMemory(Header + 1, Datagram->Header, HeaderBytes);
    RtlCopyMemory((PUCHAR)(Header + 1) + HeaderBytes, Datagram->Payload, Payload);
    InetWrite16(Header->Checksum, InetChecksum(Header, (ULONG)sizeof(*Header) + Quoted));
    Interface->Counters[InetIcmpErrorsSent]++;
    InetSendIpv4(Interface, Packet, Interface->Address, Datagram->Source, IPV4_PROTOCOL_ICMP,
                 Interface->SenderHardware);
}

// -------------------------------------------------------------------------------------------------
// Our own echo requests.

static PINET_PING_STATE InetFindPing(PINET_INTERFACE Interface, PVOID PingContext)
{
    for (ULONG Index = 0; Index < INET_PINGS; Index += 1) {
        if (Interface->Pings[Index].Context == PingContext) {
            return &Interface->Pings[Index];
        }
    }
    return NULL;
}

static VOID InetSendEcho(PINET_INTERFACE Interface, PINET_PACKET Packet, PUCHAR Bytes,
                         const INET_PING_STATE *Ping, ULONG PayloadBytes)
{
    const PICMP_HEADER Header = (PICMP_HEADER)(Bytes + INET_TRANSPORT_OFFSET);
    const PUCHAR Payload = (PUCHAR)(Header + 1);

    Header->Type = ICMP_ECHO_REQUEST;
    InetWrite16(Header->Identifier, INET_PING_IDENTIFIER);
    InetWrite16(Header->Sequence, Ping->Sequence);
    for (ULONG Index = 0; Index < PayloadBytes; Index += 1) {
        Payload[Index] = (UCHAR)Index;
    }
    InetWrite16(Header->Checksum, InetChecksum(Header, (ULONG)sizeof(*Header) + PayloadBytes));
    InetSendIpv4(Interface, Packet, Interface->Address, Ping->Address, IPV4_PROTOCOL_ICMP, NULL);
}

NTSTATUS InetPing(PINET_INTERFACE Interface, ULONG Address, ULONG PayloadBytes, ULONG TimeoutMs,
                  PVOID PingContext)
{
    PUCHAR Bytes;

    if (PayloadBytes > INET_PING_LIMIT || !InetIsHostAddress(Address)) {
        return STATUS_INVALID_PARAMETER;
    }
    if (Interface->Address == 0 || !Interface->LinkUp || Interface->IsStopping) {
        return STATUS_NETWORK_UNREACHABLE;
    }
    const PINET_PING_STATE Ping = InetFindPing(Interface, NULL);
    if (Ping == NULL) {
        return STATUS_DEVICE_BUSY;
    }
    const PINET_PACKET Packet = InetTakePacket(
        Interface, (ULONG)(INET_TRANSPORT_OFFSET + sizeof(ICMP_HEADER)) + PayloadBytes, &Bytes);
    if (Packet == NULL) {
        return STATUS_DEVICE_BUSY;
    }
    *Ping = (INET_PING_STATE){PingContext, Address, Interface->NextSequence++,
                              Interface->NowMs + TimeoutMs};
    InetSendEcho(Interface, Packet, Bytes, Ping, PayloadBytes);
    return STATUS_SUCCESS;
}

VOID InetCancelPing(PINET_INTERFACE Interface, PVOID PingContext)
{
    const PINET_PING_STATE Ping = InetFindPing(Interface, PingContext);
    if (Ping != NULL) {
        Ping->Context = NULL;
    }
}

VOID InetIcmpTimers(PINET_INTERFACE Interface)
{
    for (ULONG Index = 0; Index < INET_PINGS; Index += 1) {
        const PINET_PING_STATE Ping = &Interface->Pings[Index];
        const PVOID PingContext = Ping->Context;
        if (PingContext != NULL && Interface->NowMs >= Ping->DeadlineMs) {
            Ping->Context = NULL;
            Interface->Port.PingDone(Interface->Port.Context, PingContext, STATUS_IO_TIMEOUT, NULL,
                                     0);
        }
    }
}

ULONG64 InetIcmpDeadline(const INET_INTERFACE *Interface)
{
    ULONG64 First = INET_NEVER;

    for (ULONG Index = 0; Index < INET_PINGS; Index += 1) {
        if (Interface->Pings[Index].Context != NULL && Interface->Pings[Index].DeadlineMs < First) {
            First = Interface->Pings[Index].DeadlineMs;
        }
    }
    return First;
}
