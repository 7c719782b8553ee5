// The interface as a whole: packets, lists, what happens when; and Ethernet. See inet.h.
#include "inet.h"

PCSTR InetDescribeCounter(ULONG Counter)
{
    static const PCSTR Words[] = {
#define INET_COUNTER_WORDS(Name, Words) Words,
        INET_COUNTERS(INET_COUNTER_WORDS)
#undef INET_COUNTER_WORDS
    };
    C_ASSERT(ARRAYSIZE(Words) == InetCounterCount);
    return Counter < InetCounterCount ? Words[Counter] : "?";
}

ULONG64 InetCountDrops(const INET_INTERFACE *Interface)
{
    ULONG64 Sum = 0;
    for (ULONG Counter = INET_FIRST_DROP; Counter < InetCounterCount; Counter += 1) {
        Sum += Interface->Counters[Counter];
    }
    return Sum;
}

// -------------------------------------------------------------------------------------------------
// Packets and lists.

PINET_PACKET InetTakePacket(PINET_INTERFACE Interface, ULONG ByteCount, PUCHAR *Bytes)
{
    const PINET_PACKET Packet = Interface->FreePackets;

    if (Packet == NULL) {
        Interface->Counters[InetNoPacket]++;
        return NULL;
    }
    Interface->FreePackets = Packet->NextFree;
    Interface->FreePacketCount--;
    Packet->NextFree = NULL;
    Packet->IsChunk = FALSE;
    Packet->Mdl->Next = NULL;
    RtlZeroMemory(&Packet->Frame, sizeof(Packet->Frame));
    Packet->Frame.Mdl = Packet->Mdl;
    Packet->Frame.Offset = INET_PACKET_BYTES - ByteCount;
    Packet->Frame.ByteCount = ByteCount;
    *Bytes = Packet->Memory + Packet->Frame.Offset;
    RtlZeroMemory(*Bytes, ByteCount);
    return Packet;
}

VOID InetGivePacket(PINET_INTERFACE Interface, PINET_PACKET Packet)
{
    if (Packet->IsChunk) {
        Packet->Mdl->Next = NULL;
        Interface->ChunksInFlight--;
    }
    Packet->NextFree = Interface->FreePackets;
    Interface->FreePackets = Packet;
    Interface->FreePacketCount++;
}

VOID InetQueue(PINET_INTERFACE Interface, PNET_FRAME Frame)
{
    Frame->Next = NULL;
    if (Interface->Outgoing == NULL) {
        Interface->Outgoing = Frame;
    } else {
        Interface->OutgoingTail->Next = Frame;
    }
    Interface->OutgoingTail = Frame;
}

VOID InetReturn(PINET_INTERFACE Interface, PNET_FRAME Frame)
{
    Frame->Next = Interface->Returned;
    Interface->Returned = Frame;
}

VOID InetSendDone(PINET_INTERFACE Interface, PNET_FRAME Frames)
{
    for (PNET_FRAME Next, Frame = Frames; Frame != NULL; Frame = Next) {
        Next = Frame->Next;
        if (NT_SUCCESS(Frame->Status)) {
            Interface->Counters[InetFramesSent]++;
            Interface->Counters[InetBytesSent] += Frame->ByteCount;
        } else {
            Interface->Counters[InetSendFailures]++;
        }
        if (Frame->Flags & NET_FRAME_LENT) {
            InetReturn(Interface, Frame);
        } else {
            InetGivePacket(Interface, CONTAINING_RECORD(Frame, INET_PACKET, Frame));
        }
    }
}

// -------------------------------------------------------------------------------------------------
// Ethernet.

VOID InetBuildEthernet(const INET_INTERFACE *Interface, PUCHAR Bytes, const UCHAR *Destination,
                       ULONG Type)
{
    const PETHERNET_HEADER Header = (PETHERNET_HEADER)Bytes;

    RtlCopyMemory(Header->Destination, Destination, ETHERNET_ADDRESS_BYTES);
    RtlCopyMemory(Header->Source, Interface->Hardware, ETHERNET_ADDRESS_BYTES);
    InetWrite16(Header->Type, Type);
}

static BOOLEAN InetIsGroup(const UCHAR *Hardware)
{
    return (Hardware[0] & 1) != 0;
}

// Whether the frame is for this station, and from another one.
static ULONG InetCheckStations(const INET_INTERFACE *Interface, const ETHERNET_HEADER *Header)
{
    static const UCHAR Everybody[ETHERNET_ADDRESS_BYTES] = {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF};

    if (InetIsGroup(Header->Source) || InetSameHardware(Header->Source, Interface->Hardware)) {
        return InetDropOwnSource;
    }
    if (InetSameHardware(Header->Destination, Interface->Hardware) ||
        InetSameHardware(Header->Destination, Everybody)) {
        return InetUsed;
    }
    return InetIsGroup(Header->Destination) ? InetDropMulticast : InetDropOtherStation;
}

// The type of a frame, and where what it carries begins; a tag that names no VLAN is passed over.
static ULONG InetOpenEthernet(const NET_FRAME *Frame, const ETHERNET_HEADER *Header, PULONG Type,
                              PULONG Offset)
{
    *Offset = sizeof(*Header);
    *Type = InetRead16(Header->Type);
    if ((Frame->Flags & NET_FRAME_VLAN) && (Frame->VlanTag & VLAN_IDENTIFIER_MASK) != 0) {
        return InetDropVlan;
    }
    if (*Type == ETHERNET_TYPE_VLAN) {
        const UCHAR *const Tag = InetHeaderAt(Frame, *Offset, VLAN_TAG_BYTES);
        if (Tag == NULL) {
            return InetDropRunt;
        }
        if ((InetRead16(Tag) & VLAN_IDENTIFIER_MASK) != 0) {
            return InetDropVlan;
        }
        *Type = InetRead16(Tag + 2);
        *Offset += VLAN_TAG_BYTES;
    }
    return InetUsed;
}

ULONG InetEthernetInput(PINET_INTERFACE Interface, PNET_FRAME Frame)
{
    ULONG Type;
    ULONG Offset;

    if (Frame->ByteCount < sizeof(ETHERNET_HEADER)) {
        return InetDropRunt;
    }
    const ETHERNET_HEADER *const Header =
        (const ETHERNET_HEADER *)InetHeaderAt(Frame, 0, sizeof(*Header));
    if (Header == NULL) {
        return InetDropUnmapped;
    }
    ULONG Verdict = InetCheckStations(Interface, Header);
    if (Verdict == InetUsed) {
        Verdict = InetOpenEthernet(Frame, Header, &Type, &Offset);
    }
    if (Verdict != InetUsed) {
        return Verdict;
    }
    if (Frame->ByteCount - Offset > INET_MTU) {
        return InetDropOversized;
    }
    RtlCopyMemory(Interface->SenderHardware, Header->Source, ETHERNET_ADDRESS_BYTES);
    // What the card has found out of the frame would be read as orders when it is sent back.
    Frame->Flags = NET_FRAME_LENT;
    Frame->Status = STATUS_SUCCESS;
    switch (Type) {
    case ETHERNET_TYPE_ARP:
        return InetArpInput(Interface, Frame, Offset);
    case ETHERNET_TYPE_IPV4:
        return InetIpv4Input(Interface, Frame, Offset);
    default:
        return InetDropUnknownType;
    }
}

VOID InetReceive(PINET_INTERFACE Interface, PNET_FRAME Frames)
{
    for (PNET_FRAME Next, Frame = Frames; Frame != NULL; Frame = Next) {
        Next = Frame->Next;
        Frame->Next = NULL;
        Interface->Counters[InetFramesReceived]++;
        Interface->Counters[InetBytesReceived] += Frame->ByteCount;
        const ULONG Verdict =
            Interface->IsStopping ? InetDropStopping : InetEthernetInput(Interface, Frame);
        if (Verdict < InetCounterCount) {
            Interface->Counters[Verdict]++;
        }
        if (Verdict != InetTaken) {
            InetReturn(Interface, Frame);
        }
    }
}

// -------------------------------------------------------------------------------------------------
// The DHCP client's way out, and what it brings.

static VOID InetSendDhcp(PVOID Context, DHCP_MESSAGE_TYPE Type, const DHCP_ROUTE *Route)
{
    static const UCHAR Everybody[ETHERNET_ADDRESS_BYTES] = {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF};
    const PINET_INTERFACE Interface = Context;
    PUCHAR Payload;

    const PINET_PACKET Packet = InetBeginUdp(Interface, DHCP_SENT_BYTES, &Payload);
    if (Packet == NULL) {
        return; // it will be sent again
    }
    DhcpBuildMessage(&Interface->Dhcp, Type, Payload);
    const UCHAR *Hardware = Route->Hardware;
    if (Route->Destination == IPV4_BROADCAST) {
        Hardware = Everybody;
    }
    InetSendUdp(Interface, Packet, Route->Source, UDP_PORT_DHCP_CLIENT, Route->Destination,
                UDP_PORT_DHCP_SERVER, Hardware, NULL, 0);
}

static VOID InetProbeForDhcp(PVOID Context, ULONG Address)
{
    InetArpProbe(Context, Address);
}

static VOID InetLeaseChanged(PVOID Context, NTSTATUS Status)
{
    const PINET_INTERFACE Interface = Context;
    const DHCP_REPLY *const Lease = &Interface->Dhcp.Lease;

    if (NT_SUCCESS(Status)) {
        InetConfigure(Interface, Lease->Address, Lease->SubnetMask, Lease->Router);
    } else if (Status == STATUS_NO_SUCH_DEVICE) {
        InetConfigure(Interface, 0, 0, 0);
        return; // the lease is over; the client is already asking for another
    }
    Interface->Port.LeaseDone(Interface->Port.Context, Status);
}

// -------------------------------------------------------------------------------------------------
// Life.

VOID InetInitialize(PINET_INTERFACE Interface, const INET_PORT *Port,
                    const UCHAR Hardware[ETHERNET_ADDRESS_BYTES], ULONG Seed)
{
    const DHCP_LINK Link = {Interface, InetSendDhcp, InetProbeForDhcp, InetLeaseChanged};

    Interface->Port = *Port;
    RtlCopyMemory(Interface->Hardware, Hardware, ETHERNET_ADDRESS_BYTES);
    Interface->UsesDhcp = Interface->StaticAddress == 0;
    Interface->NextIdentification = (USHORT)Seed;
    Interface->ErrorTokens = INET_ERROR_BURST;
    for (ULONG Index = 0; Index < INET_PACKET_COUNT; Index += 1) {
        InetGivePacket(Interface, &Interface->Packets[Index]);
    }
    DhcpInitialize(&Interface->Dhcp, &Link, Hardware, Seed);
}

VOID InetConfigure(PINET_INTERFACE Interface, ULONG Address, ULONG Mask, ULONG Router)
{
    const BOOLEAN IsNew = Interface->Address != Address;

    Interface->Address = Address;
    Interface->Mask = Mask;
    Interface->Router = Router;
    if (Address == 0) {
        Interface->AnnouncementsLeft = 0;
        InetArpFlush(Interface);
        InetFragmentFlush(Interface);
    } else if (IsNew) {
        Interface->AnnouncementsLeft = INET_ANNOUNCEMENTS;
        Interface->AnnounceMs = Interface->NowMs;
        InetArpTimers(Interface);
    }
}

VOID InetLinkChanged(PINET_INTERFACE Interface, BOOLEAN IsUp)
{
    if (Interface->LinkUp == IsUp || Interface->IsStopping) {
        return;
    }
    Interface->LinkUp = IsUp;
    // Behind another cable there may be other stations.
    InetArpFlush(Interface);
    InetFragmentFlush(Interface);
    if (!IsUp) {
        DhcpLinkDown(&Interface->Dhcp);
        return;
    }
    if (Interface->UsesDhcp) {
        DhcpLinkUp(&Interface->Dhcp, Interface->NowMs);
    } else {
        Interface->Address = 0; // so that it is announced again
        InetConfigure(Interface, Interface->StaticAddress, Interface->StaticMask,
                      Interface->StaticRouter);
    }
}

VOID InetRunTimers(PINET_INTERFACE Interface)
{
    DhcpRunTimer(&Interface->Dhcp, Interface->NowMs);
    InetArpTimers(Interface);
    InetFragmentTimers(Interface);
    InetIcmpTimers(Interface);
}

ULONG64 InetNextDeadline(const INET_INTERFACE *Interface)
{
    const ULONG64 Deadlines[] = {
        Interface->Dhcp.DeadlineMs,
        InetArpDeadline(Interface),
        InetFragmentDeadline(Interface),
        InetIcmpDeadline(Interface),
    };
    ULONG64 First = INET_NEVER;
    for (ULONG Index = 0; Index < ARRAYSIZE(Deadlines); Index += 1) {
        First = Deadlines[Index] < First ? Deadlines[Index] : First;
    }
    return First;
}

VOID InetStop(PINET_INTERFACE Interface)
{
    if (Interface->LinkUp && Interface->UsesDhcp) {
        DhcpRelease(&Interface->Dhcp);
    }
    Interface->IsStopping = TRUE;
    Interface->Dhcp.DeadlineMs = INET_NEVER;
    InetArpFlush(Interface);
    InetFragmentFlush(Interface);
    Interface->Address = 0;
    Interface->AnnouncementsLeft = 0;
}
