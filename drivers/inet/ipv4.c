// IPv4 (RFC 791, 1122): what is ours and sound goes up, and what we send finds its way.
//
// Options of received headers are passed over; in a reply that is sent in the request's memory they
// become "no operation", so that nobody's source route is followed. Time to live is not looked at: this
// is a host, which forwards nothing (RFC 1122 3.2.1.7).
#include "inet.h"

static BOOLEAN InetIsSubnetBroadcast(const INET_INTERFACE *Interface, ULONG Address)
{
    const ULONG HostBits = ~Interface->Mask;
    return Interface->Address != 0 && HostBits > 1 && Address == (Interface->Address | HostBits);
}

// Compares the lengths in the header with the frame; afterwards the frame ends where the datagram does,
// and its two offsets are set.
static ULONG InetMeasureIpv4(PNET_FRAME Frame, ULONG Offset)
{
    const IPV4_HEADER *const Header =
        (const IPV4_HEADER *)InetHeaderAt(Frame, Offset, sizeof(*Header));

    if (Header == NULL) {
        return InetDropIpv4Truncated;
    }
    const ULONG HeaderBytes = (Header->VersionAndLength & 0xF) * (ULONG)sizeof(ULONG);
    const ULONG TotalBytes = InetRead16(Header->TotalLength);
    if (Header->VersionAndLength >> 4 != IPV4_VERSION || HeaderBytes < sizeof(*Header) ||
        TotalBytes < HeaderBytes) {
        return InetDropIpv4Malformed;
    }
    if (TotalBytes > Frame->ByteCount - Offset ||
        InetHeaderAt(Frame, Offset, HeaderBytes) == NULL) {
        return InetDropIpv4Truncated;
    }
    // Summed together with its own checksum, a sound header gives zero.
    if (InetChecksum(Header, HeaderBytes) != 0) {
        return InetDropIpv4Checksum;
    }
    Frame->NetworkOffset = (UCHAR)Offset;
    Frame->TransportOffset = (UCHAR)(Offset + HeaderBytes);
    Frame->ByteCount = Offset + TotalBytes; // behind it is padding
    return InetUsed;
}

// Before there is an address of ours, only DHCP's answers are for us, wherever they are sent to: so
// says udp.c.
static ULONG InetCheckAddresses(const INET_INTERFACE *Interface, const IPV4_HEADER *Header,
                                BOOLEAN IsToGroup)
{
    const ULONG Source = InetRead32(Header->Source);
    const ULONG Destination = InetRead32(Header->Destination);
    const BOOLEAN IsToAll =
        Destination == IPV4_BROADCAST || InetIsSubnetBroadcast(Interface, Destination);

    if (!InetIsHostAddress(Source) || InetIsSubnetBroadcast(Interface, Source) ||
        (Interface->Address != 0 && Source == Interface->Address)) {
        return InetDropIpv4Source;
    }
    if (Interface->Address == 0) {
        return Header->Protocol == IPV4_PROTOCOL_UDP ? InetUsed : InetDropIpv4Destination;
    }
    // To everybody on the wire, but to one station above it: somebody wants an echo from us all.
    if (!IsToAll && (Destination != Interface->Address || IsToGroup)) {
        return InetDropIpv4Destination;
    }
    return InetUsed;
}

ULONG InetIpv4Input(PINET_INTERFACE Interface, PNET_FRAME Frame, ULONG Offset)
{
    ULONG Verdict = InetMeasureIpv4(Frame, Offset);
    if (Verdict != InetUsed) {
        return Verdict;
    }
    const IPV4_HEADER *const Header =
        (const IPV4_HEADER *)InetHeaderAt(Frame, Offset, sizeof(*Header));
    const BOOLEAN IsToGroup = (*InetHeaderAt(Frame, 0, 1) & 1) != 0;
    Verdict = InetCheckAddresses(Interface, Header, IsToGroup);
    if (Verdict != InetUsed) {
        return Verdict;
    }
    if (InetRead16(Header->Fragment) & (IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET)) {
        return InetFragmentInput(Interface, Frame);
    }
    INET_DATAGRAM Datagram;
    InetOpenDatagram(Interface, Frame, &Datagram);
    return InetDeliver(Interface, &Datagram);
}

VOID InetOpenDatagram(const INET_INTERFACE *Interface, PNET_FRAME Frames, PINET_DATAGRAM Datagram)
{
    RtlZeroMemory(Datagram, sizeof(*Datagram));
    Datagram->Frames = Frames;
    Datagram->Header =
        (PIPV4_HEADER)InetHeaderAt(Frames, Frames->NetworkOffset, sizeof(IPV4_HEADER));
    Datagram->NearBytes = InetNearBytes(Frames, Frames->TransportOffset);
    Datagram->Payload = InetHeaderAt(Frames, Frames->TransportOffset, Datagram->NearBytes);
    for (const NET_FRAME *Frame = Frames; Frame != NULL; Frame = Frame->Next) {
        Datagram->ByteCount += Frame->ByteCount - Frame->TransportOffset;
    }
    Datagram->Source = InetRead32(Datagram->Header->Source);
    Datagram->Destination = InetRead32(Datagram->Header->Destination);
    Datagram->IsBroadcast = Datagram->Destination == IPV4_BROADCAST ||
                            InetIsSubnetBroadcast(Interface, Datagram->Destination);
}

ULONG InetDeliver(PINET_INTERFACE Interface, PINET_DATAGRAM Datagram)
{
    switch (Datagram->Header->Protocol) {
    case IPV4_PROTOCOL_ICMP:
        return InetIcmpInput(Interface, Datagram);
    case IPV4_PROTOCOL_UDP:
        return InetUdpInput(Interface, Datagram);
    default:
        InetSendUnreachable(Interface, Datagram, ICMP_PROTOCOL_UNREACHABLE);
        return InetDropIpv4Protocol;
    }
}

// -------------------------------------------------------------------------------------------------
// Sending.

static VOID InetSealIpv4(PIPV4_HEADER Header, ULONG HeaderBytes)
{
    InetWrite16(Header->Checksum, 0);
    InetWrite16(Header->Checksum, InetChecksum(Header, HeaderBytes));
}

static VOID InetReflectFrame(PINET_INTERFACE Interface, PNET_FRAME Frame)
{
    const ULONG HeaderBytes = (ULONG)Frame->TransportOffset - Frame->NetworkOffset;
    const PETHERNET_HEADER Ethernet =
        (PETHERNET_HEADER)InetHeaderAt(Frame, 0, sizeof(ETHERNET_HEADER));
    const PIPV4_HEADER Header =
        (PIPV4_HEADER)InetHeaderAt(Frame, Frame->NetworkOffset, HeaderBytes);

    RtlCopyMemory(Ethernet->Destination, Ethernet->Source, ETHERNET_ADDRESS_BYTES);
    RtlCopyMemory(Ethernet->Source, Interface->Hardware, ETHERNET_ADDRESS_BYTES);
    RtlFillMemory(Header + 1, HeaderBytes - sizeof(*Header), IPV4_OPTION_NOP);
    RtlCopyMemory(Header->Destination, Header->Source, sizeof(Header->Destination));
    InetWrite32(Header->Source, Interface->Address);
    Header->TimeToLive = IPV4_TIME_TO_LIVE;
    InetWrite16(Header->Identification, Interface->NextIdentification);
    InetSealIpv4(Header, HeaderBytes);
    Interface->Counters[InetSentInPlace]++;
    InetQueue(Interface, Frame);
}

VOID InetReflect(PINET_INTERFACE Interface, const INET_DATAGRAM *Datagram)
{
    for (PNET_FRAME Next, Frame = Datagram->Frames; Frame != NULL; Frame = Next) {
        Next = Frame->Next;
        InetReflectFrame(Interface, Frame);
    }
    Interface->NextIdentification++;
}

// Where the way to Destination begins: there, or at the router. 0: there is no way.
static ULONG InetFindRoute(const INET_INTERFACE *Interface, ULONG Destination)
{
    if (Interface->Address == 0 || !InetIsHostAddress(Destination)) {
        return 0;
    }
    return ((Destination ^ Interface->Address) & Interface->Mask) == 0 ? Destination
                                                                       : Interface->Router;
}

VOID InetSendIpv4(PINET_INTERFACE Interface, PINET_PACKET Packet, ULONG Source, ULONG Destination,
                  UCHAR Protocol, const UCHAR *Hardware)
{
    static const UCHAR Unknown[ETHERNET_ADDRESS_BYTES] = {0};
    const PUCHAR Bytes = Packet->Memory + Packet->Frame.Offset;
    const PIPV4_HEADER Header = (PIPV4_HEADER)(Bytes + INET_NETWORK_OFFSET);
    const ULONG Station = Hardware == NULL ? InetFindRoute(Interface, Destination) : Destination;

    InetBuildEthernet(Interface, Bytes, Hardware == NULL ? Unknown : Hardware, ETHERNET_TYPE_IPV4);
    Header->VersionAndLength = (UCHAR)(IPV4_VERSION << 4 | sizeof(*Header) / sizeof(ULONG));
    InetWrite16(Header->TotalLength, Packet->Frame.ByteCount - (ULONG)INET_NETWORK_OFFSET);
    InetWrite16(Header->Identification, Interface->NextIdentification++);
    InetWrite16(Header->Fragment, IPV4_DONT_FRAGMENT);
    Header->TimeToLive = IPV4_TIME_TO_LIVE;
    Header->Protocol = Protocol;
    InetWrite32(Header->Source, Source);
    InetWrite32(Header->Destination, Destination);
    InetSealIpv4(Header, sizeof(*Header));
    if (Station == 0) {
        Interface->Counters[InetNoRoute]++;
        InetGivePacket(Interface, Packet);
    } else if (Hardware != NULL) {
        InetQueue(Interface, &Packet->Frame);
    } else {
        InetArpSend(Interface, Packet, Station);
    }
}
