// UDP (RFC 768): to whom a datagram is, and what we send. Who listens is in the table at the end.
#include "inet.h"

// -------------------------------------------------------------------------------------------------
// Sending.

PINET_PACKET InetBeginUdp(PINET_INTERFACE Interface, ULONG PayloadBytes, PUCHAR *Payload)
{
    PUCHAR Bytes;
    const PINET_PACKET Packet =
        InetTakePacket(Interface, (ULONG)INET_UDP_PAYLOAD_OFFSET + PayloadBytes, &Bytes);

    *Payload = Packet == NULL ? NULL : Bytes + INET_UDP_PAYLOAD_OFFSET;
    return Packet;
}

// UDP's checksum over the packet's own bytes and the chunk's. Source and destination stand in the IPv4
// header already.
static USHORT InetChecksumUdp(const INET_PACKET *Packet, const IPV4_HEADER *Header, ULONG OwnBytes,
                              ULONG ChunkBytes)
{
    INET_SUM Sum = {0, FALSE};

    InetAddPseudoHeader(&Sum, Header, OwnBytes + ChunkBytes);
    // The chain of the frame holds both; it cannot be too short, because we have made it.
    if (!InetAddFrame(&Sum, &Packet->Frame, INET_TRANSPORT_OFFSET, OwnBytes + ChunkBytes)) {
        return 0;
    }
    const USHORT Checksum = InetFinish(&Sum);
    // Zero on the wire means "no checksum"; all ones is the same number in one's complement.
    return Checksum == 0 ? MAXUSHORT : Checksum;
}

VOID InetSendUdp(PINET_INTERFACE Interface, PINET_PACKET Packet, ULONG Source, ULONG SourcePort,
                 ULONG Destination, ULONG DestinationPort, const UCHAR *Hardware, PMDL Chunk,
                 ULONG ChunkBytes)
{
    const PUCHAR Bytes = Packet->Memory + Packet->Frame.Offset;
    const PIPV4_HEADER Header = (PIPV4_HEADER)(Bytes + INET_NETWORK_OFFSET);
    const PUDP_HEADER Udp = (PUDP_HEADER)(Bytes + INET_TRANSPORT_OFFSET);
    const ULONG OwnBytes = Packet->Frame.ByteCount - (ULONG)INET_TRANSPORT_OFFSET;

    if (Chunk != NULL) {
        Packet->Mdl->Next = Chunk;
        Packet->Frame.ByteCount += ChunkBytes;
    }
    InetWrite16(Udp->SourcePort, SourcePort);
    InetWrite16(Udp->DestinationPort, DestinationPort);
    InetWrite16(Udp->Length, OwnBytes + ChunkBytes);
    Header->Protocol = IPV4_PROTOCOL_UDP;
    InetWrite32(Header->Source, Source);
    InetWrite32(Header->Destination, Destination);
    InetWrite16(Udp->Checksum, InetChecksumUdp(Packet, Header, OwnBytes, ChunkBytes));
    InetSendIpv4(Interface, Packet, Source, Destination, IPV4_PROTOCOL_UDP, Hardware);
}

// -------------------------------------------------------------------------------------------------
// Receiving.

// Messages of a server for the client; whether they are good ones, dhcp.c finds out and counts.
static ULONG InetDhcpService(PINET_INTERFACE Interface, const INET_DATAGRAM *Datagram)
{
    const UDP_HEADER *const Udp = (const UDP_HEADER *)Datagram->Payload;
    const ULONG ByteCount = InetRead16(Udp->Length);

    if (ByteCount > Datagram->NearBytes) {
        return InetDropUdpMalformed;
    }
    if (InetRead16(Udp->SourcePort) != UDP_PORT_DHCP_SERVER) {
        return InetDropUdpNoListener;
    }
    Interface->Counters[InetDhcpMessages]++;
    DhcpInput(&Interface->Dhcp, Interface->NowMs, (const UCHAR *)(Udp + 1),
              ByteCount - (ULONG)sizeof(*Udp), Interface->SenderHardware);
    return InetUsed;
}

typedef struct _INET_UDP_PORT {
    ULONG Port;
    INET_UDP_SERVICE *Service;
} INET_UDP_PORT;

static const INET_UDP_PORT InetUdpPorts[] = {
    {UDP_PORT_ECHO, InetEchoService},
    {UDP_PORT_DHCP_CLIENT, InetDhcpService},
    {INET_STATE_PORT, InetStateService},
};

static const INET_UDP_PORT *InetFindUdpPort(ULONG Port)
{
    for (ULONG Index = 0; Index < ARRAYSIZE(InetUdpPorts); Index += 1) {
        if (InetUdpPorts[Index].Port == Port) {
            return &InetUdpPorts[Index];
        }
    }
    return NULL;
}

static ULONG InetCheckUdp(const INET_DATAGRAM *Datagram)
{
    const UDP_HEADER *const Udp = (const UDP_HEADER *)Datagram->Payload;
    INET_SUM Sum = {0, FALSE};

    if (Datagram->NearBytes < sizeof(*Udp)) {
        return InetDropUdpMalformed;
    }
    const ULONG ByteCount = InetRead16(Udp->Length);
    if (ByteCount < sizeof(*Udp) || ByteCount > Datagram->ByteCount) {
        return InetDropUdpMalformed;
    }
    if (InetRead16(Udp->Checksum) == 0) {
        return InetUsed;
    }
    InetAddPseudoHeader(&Sum, Datagram->Header, ByteCount);
    return InetAddPayload(&Sum, Datagram, ByteCount) && InetFinish(&Sum) == 0 ? InetUsed
                                                                              : InetDropUdpChecksum;
}

ULONG InetUdpInput(PINET_INTERFACE Interface, const INET_DATAGRAM *Datagram)
{
    const UDP_HEADER *const Udp = (const UDP_HEADER *)Datagram->Payload;

    const ULONG Verdict = InetCheckUdp(Datagram);
    if (Verdict != InetUsed) {
        return Verdict;
    }
    const ULONG Port = InetRead16(Udp->DestinationPort);
    const INET_UDP_PORT *const Listener = InetFindUdpPort(Port);
    if (Interface->Address == 0 && Port != UDP_PORT_DHCP_CLIENT) {
        return InetDropIpv4Destination;
    }
    if (Listener == NULL) {
        InetSendUnreachable(Interface, Datagram, ICMP_PORT_UNREACHABLE);
        return InetDropUdpNoListener;
    }
    // Two services that answer each other would never end.
    if (InetFindUdpPort(InetRead16(Udp->SourcePort)) != NULL) {
        return InetDropUdpLoop;
    }
    return Listener->Service(Interface, Datagram);
}
