// Datagrams in fragments. The received frames themselves are kept, in order, until all are here: no
// payload is copied, and the reply to an echo goes out in the same frames.
//
// Invariants:
//   F1  At most INET_REASSEMBLIES datagrams and INET_HELD_LIMIT frames are kept, each datagram for
//       INET_REASSEMBLY_MS at most. Whoever needs room takes the oldest datagram's.
//   F2  Fragments that are kept do not overlap. One that overlaps ends its datagram, with all its
//       fragments: no honest sender does that (RFC 5722's rule, for IPv4). A fragment that is here
//       already, from the same byte to the same byte, is dropped, and nothing else happens.
//   F3  A datagram is delivered when its last fragment is known and not a byte is missing.
#include "inet.h"

typedef struct _INET_FRAGMENT {
    ULONG First; // byte of the datagram's payload
    ULONG End;   // behind the last one
    BOOLEAN IsLast;
} INET_FRAGMENT, *PINET_FRAGMENT;

static const IPV4_HEADER *InetHeaderOf(const NET_FRAME *Frame)
{
    return (const IPV4_HEADER *)InetHeaderAt(Frame, Frame->NetworkOffset, sizeof(IPV4_HEADER));
}

static INET_FRAGMENT InetReadFragment(const NET_FRAME *Frame)
{
    const ULONG Field = InetRead16(InetHeaderOf(Frame)->Fragment);
    const ULONG First = (Field & IPV4_FRAGMENT_OFFSET) * IPV4_FRAGMENT_UNIT;

    return (INET_FRAGMENT){First, First + Frame->ByteCount - Frame->TransportOffset,
                           (Field & IPV4_MORE_FRAGMENTS) == 0};
}

static BOOLEAN InetIsSoundFragment(const INET_FRAGMENT *Fragment)
{
    const ULONG Limit = IPV4_LARGEST_DATAGRAM - sizeof(IPV4_HEADER);
    const ULONG ByteCount = Fragment->End - Fragment->First;

    return ByteCount != 0 && Fragment->End <= Limit &&
           (Fragment->IsLast || ByteCount % IPV4_FRAGMENT_UNIT == 0);
}

// Gives up a datagram; each of its frames counts.
static VOID InetDropReassembly(PINET_INTERFACE Interface, PINET_REASSEMBLY Reassembly,
                               INET_COUNTER Reason)
{
    for (PNET_FRAME Next, Frame = Reassembly->First; Frame != NULL; Frame = Next) {
        Next = Frame->Next;
        Interface->Counters[Reason]++;
        InetReturn(Interface, Frame);
    }
    Interface->HeldFrames -= Reassembly->FrameCount;
    RtlZeroMemory(Reassembly, sizeof(*Reassembly));
}

static PINET_REASSEMBLY InetOldestReassembly(PINET_INTERFACE Interface, const INET_REASSEMBLY *But)
{
    PINET_REASSEMBLY Oldest = NULL;

    for (ULONG Index = 0; Index < INET_REASSEMBLIES; Index += 1) {
        const PINET_REASSEMBLY Reassembly = &Interface->Reassemblies[Index];
        if (Reassembly->First != NULL && Reassembly != But &&
            (Oldest == NULL || Reassembly->DeadlineMs < Oldest->DeadlineMs)) {
            Oldest = Reassembly;
        }
    }
    return Oldest;
}

static PINET_REASSEMBLY InetFindReassembly(PINET_INTERFACE Interface, const IPV4_HEADER *Header)
{
    for (ULONG Index = 0; Index < INET_REASSEMBLIES; Index += 1) {
        const PINET_REASSEMBLY Reassembly = &Interface->Reassemblies[Index];
        if (Reassembly->First != NULL && Reassembly->Source == InetRead32(Header->Source) &&
            Reassembly->Destination == InetRead32(Header->Destination) &&
            Reassembly->Identification == InetRead16(Header->Identification) &&
            Reassembly->Protocol == Header->Protocol) {
            return Reassembly;
        }
    }
    return NULL;
}

// One that is not in use; the oldest one, if need be.
static PINET_REASSEMBLY InetBeginReassembly(PINET_INTERFACE Interface, const IPV4_HEADER *Header)
{
    PINET_REASSEMBLY Reassembly = NULL;

    for (ULONG Index = 0; Index < INET_REASSEMBLIES && Reassembly == NULL; Index += 1) {
        if (Interface->Reassemblies[Index].First == NULL) {
            Reassembly = &Interface->Reassemblies[Index];
        }
    }
    if (Reassembly == NULL) {
        Reassembly = InetOldestReassembly(Interface, NULL);
        InetDropReassembly(Interface, Reassembly, InetDropFragmentNoRoom);
    }
    Reassembly->Source = InetRead32(Header->Source);
    Reassembly->Destination = InetRead32(Header->Destination);
    Reassembly->Identification = (USHORT)InetRead16(Header->Identification);
    Reassembly->Protocol = Header->Protocol;
    Reassembly->DeadlineMs = Interface->NowMs + INET_REASSEMBLY_MS;
    return Reassembly;
}

// Puts the frame where it belongs. InetTaken: it is in the list. InetDropFragmentDuplicate: it was
// already. InetDropFragmentOverlap: the datagram makes no sense.
static ULONG InetInsertFragment(PINET_REASSEMBLY Reassembly, PNET_FRAME Frame,
                                const INET_FRAGMENT *New)
{
    PNET_FRAME *Link = &Reassembly->First;
    ULONG PreviousEnd = 0;

    if (Reassembly->TotalBytes != 0 && New->End > Reassembly->TotalBytes) {
        return InetDropFragmentOverlap;
    }
    for (; *Link != NULL; Link = &(*Link)->Next) {
        const INET_FRAGMENT Old = InetReadFragment(*Link);
        if (Old.First == New->First && Old.End == New->End && Old.IsLast == New->IsLast) {
            return InetDropFragmentDuplicate;
        }
        if (Old.First >= New->First) {
            break;
        }
        PreviousEnd = Old.End;
    }
    const BOOLEAN ReachesNext = *Link != NULL && InetReadFragment(*Link).First < New->End;
    if (PreviousEnd > New->First || ReachesNext || (New->IsLast && *Link != NULL)) {
        return InetDropFragmentOverlap;
    }
    Frame->Next = *Link;
    *Link = Frame;
    Reassembly->FrameCount++;
    Reassembly->ByteCount += New->End - New->First;
    if (New->IsLast) {
        Reassembly->TotalBytes = New->End;
    }
    return InetTaken;
}

// Not a byte is missing: up it goes. Whatever becomes of it becomes of all of its frames.
static VOID InetFinishReassembly(PINET_INTERFACE Interface, PINET_REASSEMBLY Reassembly)
{
    const INET_REASSEMBLY Whole = *Reassembly;
    INET_DATAGRAM Datagram;

    Interface->HeldFrames -= Whole.FrameCount;
    RtlZeroMemory(Reassembly, sizeof(*Reassembly));
    Interface->Counters[InetReassembled]++;
    InetOpenDatagram(Interface, Whole.First, &Datagram);
    const ULONG Verdict = InetDeliver(Interface, &Datagram);
    if (Verdict == InetTaken) {
        return;
    }
    for (PNET_FRAME Next, Frame = Whole.First; Frame != NULL; Frame = Next) {
        Next = Frame->Next;
        if (Verdict < InetCounterCount) {
            Interface->Counters[Verdict]++;
        }
        InetReturn(Interface, Frame);
    }
}

ULONG InetFragmentInput(PINET_INTERFACE Interface, PNET_FRAME Frame)
{
    const IPV4_HEADER *const Header = InetHeaderOf(Frame);
    const INET_FRAGMENT New = InetReadFragment(Frame);

    if (!InetIsSoundFragment(&New)) {
        return InetDropFragmentMalformed;
    }
    PINET_REASSEMBLY Reassembly = InetFindReassembly(Interface, Header);
    if (Interface->HeldFrames == INET_HELD_LIMIT) {
        const PINET_REASSEMBLY Oldest = InetOldestReassembly(Interface, Reassembly);
        if (Oldest == NULL) {
            InetDropReassembly(Interface, Reassembly, InetDropFragmentNoRoom);
            return InetDropFragmentNoRoom;
        }
        InetDropReassembly(Interface, Oldest, InetDropFragmentNoRoom);
    }
    if (Reassembly == NULL) {
        Reassembly = InetBeginReassembly(Interface, Header);
    }
    const ULONG Verdict = InetInsertFragment(Reassembly, Frame, &New);
    if (Verdict == InetDropFragmentOverlap) {
        InetDropReassembly(Interface, Reassembly, InetDropFragmentOverlap);
    }
    if (Verdict != InetTaken) {
        return Verdict;
    }
    Interface->HeldFrames++;
    Interface->Counters[InetFragmentsKept]++;
    if (Reassembly->TotalBytes != 0 && Reassembly->ByteCount == Reassembly->TotalBytes) {
        InetFinishReassembly(Interface, Reassembly);
    }
    return InetTaken;
}

VOID InetFragmentTimers(PINET_INTERFACE Interface)
{
    for (ULONG Index = 0; Index < INET_REASSEMBLIES; Index += 1) {
        const PINET_REASSEMBLY Reassembly = &Interface->Reassemblies[Index];
        if (Reassembly->First != NULL && Interface->NowMs >= Reassembly->DeadlineMs) {
            InetDropReassembly(Interface, Reassembly, InetDropFragmentLate);
        }
    }
}

ULONG64 InetFragmentDeadline(const INET_INTERFACE *Interface)
{
    ULONG64 First = INET_NEVER;

    for (ULONG Index = 0; Index < INET_REASSEMBLIES; Index += 1) {
        const INET_REASSEMBLY *const Reassembly = &Interface->Reassemblies[Index];
        if (Reassembly->First != NULL && Reassembly->DeadlineMs < First) {
            First = Reassembly->DeadlineMs;
        }
    }
    return First;
}

VOID InetFragmentFlush(PINET_INTERFACE Interface)
{
    for (ULONG Index = 0; Index < INET_REASSEMBLIES; Index += 1) {
        if (Interface->Reassemblies[Index].First != NULL) {
            InetDropReassembly(Interface, &Interface->Reassemblies[Index], InetDropFragmentLate);
        }
    }
}
