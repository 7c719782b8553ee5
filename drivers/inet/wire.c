// Numbers on the wire, Internet checksums, and frames that lie in several pieces of memory.
#include "inet.h"

ULONG InetRead16(const UCHAR *Bytes)
{
    return (ULONG)Bytes[0] << 8 | Bytes[1];
}

ULONG InetRead32(const UCHAR *Bytes)
{
    return InetRead16(Bytes) << 16 | InetRead16(Bytes + 2);
}

VOID InetWrite16(PUCHAR Bytes, ULONG Value)
{
    Bytes[0] = (UCHAR)(Value >> 8);
    Bytes[1] = (UCHAR)Value;
}

VOID InetWrite32(PUCHAR Bytes, ULONG Value)
{
    InetWrite16(Bytes, Value >> 16);
    InetWrite16(Bytes + 2, Value);
}

BOOLEAN InetSameHardware(const UCHAR *One, const UCHAR *Other)
{
    return RtlEqualMemory(One, Other, ETHERNET_ADDRESS_BYTES);
}

BOOLEAN InetIsHostAddress(ULONG Address)
{
    const ULONG Loopback = 127;
    const ULONG FirstMulticast = 224;
    const ULONG Network = Address >> 24;
    return Network != 0 && Network != Loopback && Network < FirstMulticast;
}

// -------------------------------------------------------------------------------------------------
// Checksums. The sum of 16-bit words with end-around carry does not depend on the order of the bytes
// in the words, as long as it is the same for all (RFC 1071, 2 (B)): so words are added as the
// processor reads them, four bytes at a time, and the result is turned around at the end.

static ULONG64 InetFold(ULONG64 Sum)
{
    while (Sum > MAXUSHORT) {
        Sum = (Sum & MAXUSHORT) + (Sum >> 16);
    }
    return Sum;
}

static ULONG64 InetSwapBytes(ULONG64 Word)
{
    return (Word >> 8 | Word << 8) & MAXUSHORT;
}

VOID InetAdd(PINET_SUM Sum, const VOID *Bytes, ULONG ByteCount)
{
    const UCHAR *Cursor = Bytes;
    const BOOLEAN EndsOdd = Sum->IsOdd != (ByteCount & 1);
    ULONG64 Words = 0;
    ULONG Word;

    for (; ByteCount >= sizeof(Word); ByteCount -= sizeof(Word)) {
        RtlCopyMemory(&Word, Cursor, sizeof(Word));
        Words += Word;
        Cursor += sizeof(Word);
    }
    Word = 0;
    RtlCopyMemory(&Word, Cursor, ByteCount);
    Words = InetFold(Words + Word);
    // Behind an odd number of bytes, the halves of all words are the wrong way round.
    Sum->Words += Sum->IsOdd ? InetSwapBytes(Words) : Words;
    Sum->IsOdd = EndsOdd;
}

USHORT InetFinish(const INET_SUM *Sum)
{
    return (USHORT)~InetSwapBytes(InetFold(Sum->Words));
}

USHORT InetChecksum(const VOID *Bytes, ULONG ByteCount)
{
    INET_SUM Sum = {0, FALSE};
    InetAdd(&Sum, Bytes, ByteCount);
    return InetFinish(&Sum);
}

VOID InetAddPseudoHeader(PINET_SUM Sum, const IPV4_HEADER *Header, ULONG ByteCount)
{
    UCHAR Rest[4] = {0, Header->Protocol, 0, 0};

    InetWrite16(&Rest[2], ByteCount);
    InetAdd(Sum, Header->Source, sizeof(Header->Source) + sizeof(Header->Destination));
    InetAdd(Sum, Rest, sizeof(Rest));
}

// -------------------------------------------------------------------------------------------------
// Frames in pieces.

// The MDL in which the Offset-th byte of a frame lies; *Offset becomes that within the MDL.
static PMDL InetFindPiece(const NET_FRAME *Frame, PULONG Offset)
{
    PMDL Mdl = Frame->Mdl;

    *Offset += Frame->Offset;
    while (Mdl != NULL && *Offset >= MmGetMdlByteCount(Mdl)) {
        *Offset -= MmGetMdlByteCount(Mdl);
        Mdl = Mdl->Next;
    }
    return Mdl;
}

static PUCHAR InetAddressOfPiece(PMDL Mdl)
{
    return MmGetSystemAddressForMdlSafe(Mdl, NormalPagePriority | MdlMappingNoExecute);
}

ULONG InetNearBytes(const NET_FRAME *Frame, ULONG Offset)
{
    ULONG Within = Offset;
    const PMDL Mdl = InetFindPiece(Frame, &Within);

    if (Mdl == NULL || Offset >= Frame->ByteCount) {
        return 0;
    }
    const ULONG Left = Frame->ByteCount - Offset;
    const ULONG InPiece = MmGetMdlByteCount(Mdl) - Within;
    return InPiece < Left ? InPiece : Left;
}

PUCHAR InetHeaderAt(const NET_FRAME *Frame, ULONG Offset, ULONG ByteCount)
{
    ULONG Within = Offset;

    if (InetNearBytes(Frame, Offset) < ByteCount) {
        return NULL;
    }
    const PMDL Mdl = InetFindPiece(Frame, &Within);
    const PUCHAR Bytes = Mdl == NULL ? NULL : InetAddressOfPiece(Mdl);
    return Bytes == NULL ? NULL : Bytes + Within;
}

BOOLEAN InetAddFrame(PINET_SUM Sum, const NET_FRAME *Frame, ULONG Offset, ULONG ByteCount)
{
    while (ByteCount > 0) {
        const ULONG Near = InetNearBytes(Frame, Offset);
        const ULONG Count = Near < ByteCount ? Near : ByteCount;
        const PUCHAR Bytes = InetHeaderAt(Frame, Offset, Count);
        if (Count == 0 || Bytes == NULL) {
            return FALSE;
        }
        InetAdd(Sum, Bytes, Count);
        Offset += Count;
        ByteCount -= Count;
    }
    return TRUE;
}

// In a frame that IPv4 has looked at, TransportOffset is where the payload begins and ByteCount where it
// ends.
BOOLEAN InetAddPayload(PINET_SUM Sum, const INET_DATAGRAM *Datagram, ULONG ByteCount)
{
    for (const NET_FRAME *Frame = Datagram->Frames; ByteCount > 0; Frame = Frame->Next) {
        if (Frame == NULL) {
            return FALSE;
        }
        const ULONG Here = Frame->ByteCount - Frame->TransportOffset;
        const ULONG Count = Here < ByteCount ? Here : ByteCount;
        if (!InetAddFrame(Sum, Frame, Frame->TransportOffset, Count)) {
            return FALSE;
        }
        ByteCount -= Count;
    }
    return TRUE;
}
