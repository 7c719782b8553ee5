// ARP (RFC 826): who has which Ethernet address; and whether anybody else has ours (RFC 5227).
//
// Invariants:
//   A1  An entry is made only for whom we ask, and for whom asks us: others' talk among themselves
//       refreshes entries, but makes none.
//   A2  At most one packet waits for an answer per entry; a second one takes its place.
//   A3  Each request is repeated INET_ARP_TRIES times at most, and then the packet is given up.
#include "inet.h"

static const UCHAR InetEverybody[ETHERNET_ADDRESS_BYTES] = {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF};

static PINET_ARP_ENTRY InetArpFind(PINET_INTERFACE Interface, ULONG Address)
{
    for (ULONG Index = 0; Index < INET_ARP_ENTRIES; Index += 1) {
        const PINET_ARP_ENTRY Entry = &Interface->Arp[Index];
        if (Entry->State != InetArpFree && Entry->Address == Address) {
            return Entry;
        }
    }
    return NULL;
}

static VOID InetArpForget(PINET_INTERFACE Interface, PINET_ARP_ENTRY Entry)
{
    if (Entry->Waiting != NULL) {
        Interface->Counters[InetNoRoute]++;
        InetGivePacket(Interface, Entry->Waiting);
        Entry->Waiting = NULL;
    }
    Entry->State = InetArpFree;
}

// A free entry, or the oldest one, which makes room.
static PINET_ARP_ENTRY InetArpAllocate(PINET_INTERFACE Interface, ULONG Address)
{
    PINET_ARP_ENTRY Chosen = &Interface->Arp[0];

    for (ULONG Index = 0; Index < INET_ARP_ENTRIES && Chosen->State != InetArpFree; Index += 1) {
        const PINET_ARP_ENTRY Entry = &Interface->Arp[Index];
        if (Entry->State == InetArpFree || Entry->TimeMs < Chosen->TimeMs) {
            Chosen = Entry;
        }
    }
    if (Chosen->State != InetArpFree) {
        Interface->Counters[InetArpEvicted]++;
        InetArpForget(Interface, Chosen);
    }
    RtlZeroMemory(Chosen, sizeof(*Chosen));
    Chosen->Address = Address;
    return Chosen;
}

// -------------------------------------------------------------------------------------------------
// Sending.

// A request, to everybody: "who has Target? tell Sender".
static VOID InetArpRequest(PINET_INTERFACE Interface, ULONG Sender, ULONG Target)
{
    PUCHAR Bytes;

    const PINET_PACKET Packet = InetTakePacket(Interface, ETHERNET_MINIMUM_BYTES, &Bytes);
    if (Packet == NULL) {
        return;
    }
    const PARP_MESSAGE Message = (PARP_MESSAGE)(Bytes + sizeof(ETHERNET_HEADER));
    InetBuildEthernet(Interface, Bytes, InetEverybody, ETHERNET_TYPE_ARP);
    InetWrite16(Message->HardwareType, ARP_HARDWARE_ETHERNET);
    InetWrite16(Message->ProtocolType, ETHERNET_TYPE_IPV4);
    Message->HardwareBytes = ETHERNET_ADDRESS_BYTES;
    Message->ProtocolBytes = sizeof(Message->SenderAddress);
    InetWrite16(Message->Operation, ARP_REQUEST);
    RtlCopyMemory(Message->SenderHardware, Interface->Hardware, ETHERNET_ADDRESS_BYTES);
    InetWrite32(Message->SenderAddress, Sender);
    InetWrite32(Message->TargetAddress, Target);
    InetQueue(Interface, &Packet->Frame);
}

VOID InetArpProbe(PINET_INTERFACE Interface, ULONG Address)
{
    Interface->Counters[InetArpAsked]++;
    InetArpRequest(Interface, 0, Address);
}

VOID InetArpAnnounce(PINET_INTERFACE Interface)
{
    Interface->Counters[InetArpAnnouncements]++;
    InetArpRequest(Interface, Interface->Address, Interface->Address);
}

static VOID InetArpAsk(PINET_INTERFACE Interface, PINET_ARP_ENTRY Entry)
{
    Entry->State = InetArpAsking;
    Entry->Tries++;
    Entry->TimeMs = Interface->NowMs + INET_ARP_RETRY_MS;
    Interface->Counters[InetArpAsked]++;
    InetArpRequest(Interface, Interface->Address, Entry->Address);
}

static VOID InetArpSendTo(PINET_INTERFACE Interface, PINET_PACKET Packet, const UCHAR *Hardware)
{
    RtlCopyMemory(Packet->Memory + Packet->Frame.Offset, Hardware, ETHERNET_ADDRESS_BYTES);
    InetQueue(Interface, &Packet->Frame);
}

VOID InetArpSend(PINET_INTERFACE Interface, PINET_PACKET Packet, ULONG Address)
{
    PINET_ARP_ENTRY Entry = InetArpFind(Interface, Address);

    if (Entry != NULL && Entry->State == InetArpKnown &&
        Interface->NowMs - Entry->TimeMs < INET_ARP_FRESH_MS) {
        InetArpSendTo(Interface, Packet, Entry->Hardware);
        return;
    }
    if (Entry == NULL) {
        Entry = InetArpAllocate(Interface, Address);
    }
    if (Entry->Waiting != NULL) {
        Interface->Counters[InetNoRoute]++;
        InetGivePacket(Interface, Entry->Waiting);
    }
    Entry->Waiting = Packet;
    if (Entry->State != InetArpAsking) {
        Entry->Tries = 0;
        InetArpAsk(Interface, Entry);
    }
}

// -------------------------------------------------------------------------------------------------
// Receiving.

// Address is at Hardware. FALSE: nobody wants to know, and the message is not for us (MayAdd).
static BOOLEAN InetArpLearn(PINET_INTERFACE Interface, ULONG Address, const UCHAR *Hardware,
                            BOOLEAN MayAdd)
{
    PINET_ARP_ENTRY Entry = InetArpFind(Interface, Address);

    if (Entry == NULL && !MayAdd) {
        return FALSE;
    }
    if (Entry == NULL) {
        Entry = InetArpAllocate(Interface, Address);
    }
    const PINET_PACKET Waiting = Entry->Waiting;
    Entry->Waiting = NULL;
    Entry->State = InetArpKnown;
    Entry->TimeMs = Interface->NowMs;
    RtlCopyMemory(Entry->Hardware, Hardware, ETHERNET_ADDRESS_BYTES);
    if (Waiting != NULL) {
        InetArpSendTo(Interface, Waiting, Hardware);
    }
    return TRUE;
}

// Somebody else says that our address is his: we say that it is ours, but not for ever (RFC 5227 2.4 b).
static ULONG InetArpConflict(PINET_INTERFACE Interface, const UCHAR *Hardware)
{
    Interface->Counters[InetArpConflicts]++;
    if (Interface->NowMs >= Interface->DefendMs) {
        Interface->DefendMs = Interface->NowMs + INET_DEFEND_MS;
        Interface->Port.Tell(Interface->Port.Context, "our address is also used by",
                             Interface->Address, Hardware);
        InetArpAnnounce(Interface);
    }
    return InetUsed;
}

// The request becomes the reply, where it lies.
static ULONG InetArpAnswer(PINET_INTERFACE Interface, PNET_FRAME Frame, PARP_MESSAGE Message,
                           ULONG Offset)
{
    const PUCHAR Ethernet = InetHeaderAt(Frame, 0, sizeof(ETHERNET_HEADER));

    RtlMoveMemory(Message->TargetHardware, Message->SenderHardware,
                  sizeof(Message->SenderHardware) + sizeof(Message->SenderAddress));
    RtlCopyMemory(Message->SenderHardware, Interface->Hardware, ETHERNET_ADDRESS_BYTES);
    InetWrite32(Message->SenderAddress, Interface->Address);
    InetWrite16(Message->Operation, ARP_REPLY);
    RtlCopyMemory(Ethernet, Ethernet + ETHERNET_ADDRESS_BYTES, ETHERNET_ADDRESS_BYTES);
    RtlCopyMemory(Ethernet + ETHERNET_ADDRESS_BYTES, Interface->Hardware, ETHERNET_ADDRESS_BYTES);
    Frame->ByteCount =
        Offset + sizeof(*Message); // padding was the sender's; the card makes its own
    Interface->Counters[InetArpRequests]++;
    Interface->Counters[InetSentInPlace]++;
    InetQueue(Interface, Frame);
    return InetTaken;
}

static BOOLEAN InetArpIsSound(const ARP_MESSAGE *Message)
{
    const ULONG Operation = InetRead16(Message->Operation);

    return InetRead16(Message->HardwareType) == ARP_HARDWARE_ETHERNET &&
           InetRead16(Message->ProtocolType) == ETHERNET_TYPE_IPV4 &&
           Message->HardwareBytes == ETHERNET_ADDRESS_BYTES &&
           Message->ProtocolBytes == sizeof(Message->SenderAddress) &&
           (Operation == ARP_REQUEST || Operation == ARP_REPLY) &&
           (Message->SenderHardware[0] & 1) == 0;
}

ULONG InetArpInput(PINET_INTERFACE Interface, PNET_FRAME Frame, ULONG Offset)
{
    const PARP_MESSAGE Message = (PARP_MESSAGE)InetHeaderAt(Frame, Offset, sizeof(*Message));

    if (Message == NULL || !InetArpIsSound(Message)) {
        return InetDropArpMalformed;
    }
    const ULONG Sender = InetRead32(Message->SenderAddress);
    const ULONG Target = InetRead32(Message->TargetAddress);
    const BOOLEAN IsRequest = InetRead16(Message->Operation) == ARP_REQUEST;
    const BOOLEAN IsOurs = Interface->Address != 0 && Target == Interface->Address;
    if (DhcpNoticeClaim(&Interface->Dhcp, Interface->NowMs, Sender, IsRequest ? Target : 0)) {
        Interface->Counters[InetArpConflicts]++;
        return InetUsed;
    }
    if (Interface->Address != 0 && Sender == Interface->Address) {
        return InetArpConflict(Interface, Message->SenderHardware);
    }
    if (Sender != 0 && !InetIsHostAddress(Sender)) {
        return InetDropArpMalformed;
    }
    // A probe comes from nobody, and makes no entry.
    const BOOLEAN IsKnown = Sender != 0 && InetArpLearn(Interface, Sender, Message->SenderHardware,
                                                        IsRequest && IsOurs);
    if (IsRequest && IsOurs) {
        return InetArpAnswer(Interface, Frame, Message, Offset);
    }
    if (!IsKnown) {
        return InetDropArpOther;
    }
    Interface->Counters[!IsRequest && IsOurs ? InetArpReplies : InetArpRefreshed]++;
    return InetUsed;
}

// -------------------------------------------------------------------------------------------------
// Time.

static VOID InetArpExpire(PINET_INTERFACE Interface, PINET_ARP_ENTRY Entry)
{
    if (Entry->State != InetArpAsking || Interface->NowMs < Entry->TimeMs) {
        return;
    }
    if (Entry->Tries < INET_ARP_TRIES) {
        InetArpAsk(Interface, Entry);
    } else {
        Interface->Counters[InetArpUnanswered]++;
        InetArpForget(Interface, Entry);
    }
}

VOID InetArpTimers(PINET_INTERFACE Interface)
{
    for (ULONG Index = 0; Index < INET_ARP_ENTRIES; Index += 1) {
        InetArpExpire(Interface, &Interface->Arp[Index]);
    }
    if (Interface->AnnouncementsLeft != 0 && Interface->NowMs >= Interface->AnnounceMs) {
        Interface->AnnouncementsLeft--;
        Interface->AnnounceMs = Interface->NowMs + INET_ANNOUNCEMENT_MS;
        InetArpAnnounce(Interface);
    }
}

ULONG64 InetArpDeadline(const INET_INTERFACE *Interface)
{
    ULONG64 First = Interface->AnnouncementsLeft != 0 ? Interface->AnnounceMs : INET_NEVER;

    for (ULONG Index = 0; Index < INET_ARP_ENTRIES; Index += 1) {
        const INET_ARP_ENTRY *const Entry = &Interface->Arp[Index];
        if (Entry->State == InetArpAsking && Entry->TimeMs < First) {
            First = Entry->TimeMs;
        }
    }
    return First;
}

VOID InetArpFlush(PINET_INTERFACE Interface)
{
    for (ULONG Index = 0; Index < INET_ARP_ENTRIES; Index += 1) {
        if (Interface->Arp[Index].State != InetArpFree) {
            InetArpForget(Interface, &Interface->Arp[Index]);
        }
    }
}
