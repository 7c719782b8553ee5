// What the card computes while it sends: checksums, segments, VLAN tags ("TCP/IP Context Transmit
// Descriptor Format" and "TCP/IP Data Descriptor Format").
//
// A context descriptor says where headers begin and checksums go; the data descriptors behind it are
// treated accordingly, until there is another. The driver does not look at the frame itself: all is in
// NET_FRAME.
//
// QEMU sends an empty segment at the end when the payload is a multiple of SegmentBytes.
#include "e1000.h"

#define E1000_CHECKSUMS                                                                            \
    (NET_FRAME_IPV4_CHECKSUM | NET_FRAME_TCP_CHECKSUM | NET_FRAME_UDP_CHECKSUM | NET_FRAME_SEGMENT)

#define E1000_IPV4_CHECKSUM_OFFSET 10u
#define E1000_IPV4_HEADER_BYTES 20u
#define E1000_TCP_CHECKSUM_OFFSET 16u
#define E1000_TCP_HEADER_BYTES 20u
#define E1000_UDP_CHECKSUM_OFFSET 6u
#define E1000_UDP_HEADER_BYTES 8u

static BOOLEAN E1000IsTcp(const NET_FRAME *Frame)
{
    return (Frame->Flags & (NET_FRAME_TCP_CHECKSUM | NET_FRAME_SEGMENT)) != 0;
}

static BOOLEAN E1000HasTransport(const NET_FRAME *Frame)
{
    return E1000IsTcp(Frame) || (Frame->Flags & NET_FRAME_UDP_CHECKSUM) != 0;
}

// Whether the card would find every header that it is told of inside of the frame.
static BOOLEAN E1000AreHeadersInside(const NET_FRAME *Frame)
{
    const ULONG TransportBytes =
        E1000IsTcp(Frame) ? E1000_TCP_HEADER_BYTES : E1000_UDP_HEADER_BYTES;
    const BOOLEAN NeedsNetwork =
        (Frame->Flags & (NET_FRAME_IPV4_CHECKSUM | NET_FRAME_SEGMENT)) != 0;

    if (NeedsNetwork &&
        (Frame->NetworkOffset < NET_ETHERNET_HEADER_BYTES ||
         (ULONG)Frame->NetworkOffset + E1000_IPV4_HEADER_BYTES > Frame->ByteCount)) {
        return FALSE;
    }
    if (!E1000HasTransport(Frame)) {
        return TRUE;
    }
    return Frame->TransportOffset >= NET_ETHERNET_HEADER_BYTES + E1000_IPV4_HEADER_BYTES &&
           Frame->TransportOffset + TransportBytes <= Frame->ByteCount &&
           (!NeedsNetwork ||
            Frame->TransportOffset >= Frame->NetworkOffset + E1000_IPV4_HEADER_BYTES);
}

static BOOLEAN E1000AreSegmentsGood(const NET_FRAME *Frame, ULONG MaximumBytes)
{
    const ULONG MaximumHeaders = 255; // eight bits

    return Frame->SegmentBytes != 0 && Frame->HeaderBytes <= MaximumHeaders &&
           Frame->HeaderBytes >= Frame->TransportOffset + E1000_TCP_HEADER_BYTES &&
           Frame->HeaderBytes < Frame->ByteCount &&
           (ULONG)Frame->HeaderBytes + Frame->SegmentBytes <= MaximumBytes;
}

// Where the IPv4 header begins, has its checksum and ends; then TCP or UDP, to the end of the frame.
static ULONG64 E1000ContextPlaces(const NET_FRAME *Frame)
{
    const ULONG64 Network = Frame->NetworkOffset;
    const ULONG64 Transport = Frame->TransportOffset;
    const ULONG64 Offset =
        E1000IsTcp(Frame) ? E1000_TCP_CHECKSUM_OFFSET : E1000_UDP_CHECKSUM_OFFSET;
    const ULONG64 HeaderEnd =
        E1000HasTransport(Frame) ? Transport - 1 : Network + E1000_IPV4_HEADER_BYTES - 1;

    return Network | (Network + E1000_IPV4_CHECKSUM_OFFSET) << 8 | HeaderEnd << 16 |
           Transport << 32 | ((Transport + Offset) & 0xFF) << 40;
}

NTSTATUS E1000PlanOffload(const NET_FRAME *Frame, ULONG MaximumBytes, BOOLEAN InsertsTags,
                          PE1000_OFFLOAD Offload)
{
    const ULONG Known = E1000_CHECKSUMS | NET_FRAME_IPV6 | NET_FRAME_VLAN | NET_FRAME_LENT;

    RtlZeroMemory(Offload, sizeof(*Offload));
    Offload->DataCommand = E1000_TRANSMIT_IFCS;
    if ((Frame->Flags & ~Known) != 0) {
        return STATUS_INVALID_PARAMETER;
    }
    if (Frame->Flags & NET_FRAME_VLAN) {
        if (!InsertsTags) {
            return STATUS_INVALID_PARAMETER;
        }
        Offload->DataCommand |= E1000_TRANSMIT_VLE | (ULONG64)Frame->VlanTag
                                                         << E1000_TRANSMIT_TAG_SHIFT;
    }
    if (!(Frame->Flags & E1000_CHECKSUMS)) {
        return STATUS_SUCCESS;
    }
    const BOOLEAN IsSegmented = (Frame->Flags & NET_FRAME_SEGMENT) != 0;
    const BOOLEAN IsIpv4 = !(Frame->Flags & NET_FRAME_IPV6);
    if (!E1000AreHeadersInside(Frame) ||
        (IsSegmented && !E1000AreSegmentsGood(Frame, MaximumBytes))) {
        return STATUS_INVALID_PARAMETER;
    }
    Offload->HasContext = TRUE;
    Offload->ContextPlaces = E1000ContextPlaces(Frame);
    Offload->ContextCommand = E1000_TRANSMIT_DEXT | (IsIpv4 ? E1000_CONTEXT_IPV4 : 0) |
                              (E1000IsTcp(Frame) ? E1000_CONTEXT_TCP : 0);
    Offload->DataCommand |= E1000_TRANSMIT_DEXT | E1000_TRANSMIT_DTYP_DATA;
    if ((Frame->Flags & NET_FRAME_IPV4_CHECKSUM) || (IsSegmented && IsIpv4)) {
        Offload->DataCommand |= E1000_TRANSMIT_IXSM;
    }
    if (E1000HasTransport(Frame)) {
        Offload->DataCommand |= E1000_TRANSMIT_TXSM;
    }
    if (IsSegmented) {
        Offload->DataCommand |= E1000_TRANSMIT_TSE;
        Offload->ContextCommand |= E1000_TRANSMIT_TSE |
                                   (ULONG64)(Frame->ByteCount - Frame->HeaderBytes) |
                                   (ULONG64)Frame->HeaderBytes << E1000_CONTEXT_HEADER_SHIFT |
                                   (ULONG64)Frame->SegmentBytes << E1000_CONTEXT_SEGMENT_SHIFT;
    }
    return STATUS_SUCCESS;
}
