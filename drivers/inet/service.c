// The services: UDP echo (RFC 862), and the kernel's state as text.
//
// A state request is a datagram of text: the name of a report, and perhaps, behind a blank, a word of
// the asker's own. The answer comes in datagrams of at most INET_CHUNK_BYTES of the report, each behind
// a line of its own:
//
//   IoSpace WORD NUMBER/COUNT NAME\n       NUMBER from 1 on; WORD is "-" when the request had none
//
// Whoever misses one asks again. One report at a time: its text must stay as it is until the card has
// read all of it (S1). Only stations of our own subnet are answered, because an answer is longer than
// its request, and senders' addresses can be forged.
#include "inet.h"

ULONG InetEchoService(PINET_INTERFACE Interface, const INET_DATAGRAM *Datagram)
{
    const PUDP_HEADER Udp = (PUDP_HEADER)Datagram->Payload;
    UCHAR Port[sizeof(Udp->SourcePort)];

    if (Datagram->IsBroadcast) {
        return InetDropBroadcastEcho;
    }
    // Ports change places, and so do the addresses: the sum stays as it is.
    RtlCopyMemory(Port, Udp->SourcePort, sizeof(Port));
    RtlCopyMemory(Udp->SourcePort, Udp->DestinationPort, sizeof(Port));
    RtlCopyMemory(Udp->DestinationPort, Port, sizeof(Port));
    Interface->Counters[InetUdpEchoes]++;
    InetReflect(Interface, Datagram);
    return InetTaken;
}

// -------------------------------------------------------------------------------------------------
// State.

typedef struct _INET_QUERY {
    CHAR Name[INET_QUERY_BYTES];
    CHAR Word[INET_QUERY_BYTES];
} INET_QUERY, *PINET_QUERY;

static BOOLEAN InetIsVisible(UCHAR Byte)
{
    return Byte > ' ' && Byte < 0x7F;
}

// Reads one word of visible characters; returns what is left behind it.
static const UCHAR *InetReadWord(const UCHAR *Cursor, const UCHAR *End, PCHAR Word)
{
    while (Cursor < End && *Cursor == ' ') {
        Cursor += 1;
    }
    while (Cursor < End && InetIsVisible(*Cursor)) {
        *Word++ = (CHAR)*Cursor++;
    }
    *Word = 0;
    return Cursor;
}

// At most INET_QUERY_BYTES - 1 bytes: two words, and perhaps the end of a line.
static BOOLEAN InetParseQuery(const UCHAR *Bytes, ULONG ByteCount, PINET_QUERY Query)
{
    const UCHAR *const End = Bytes + ByteCount;

    if (ByteCount >= INET_QUERY_BYTES) {
        return FALSE;
    }
    Bytes = InetReadWord(Bytes, End, Query->Name);
    Bytes = InetReadWord(Bytes, End, Query->Word);
    while (Bytes < End && (*Bytes == '\n' || *Bytes == '\r' || *Bytes == ' ')) {
        Bytes += 1;
    }
    return Bytes == End && Query->Name[0] != 0;
}

static VOID InetPutHead(PINET_TEXT Text, const INET_QUERY *Query, ULONG Number, ULONG Count)
{
    InetPutText(Text, "IoSpace ");
    InetPutText(Text, Query->Word[0] != 0 ? Query->Word : "-");
    InetPutText(Text, " ");
    InetPutNumber(Text, Number);
    InetPutText(Text, "/");
    InetPutNumber(Text, Count);
    InetPutText(Text, " ");
    InetPutText(Text, Query->Name);
    InetPutText(Text, "\n");
}

// Sends a chunk behind its head; FALSE: there was no packet.
static BOOLEAN InetSendChunk(PINET_INTERFACE Interface, const INET_DATAGRAM *Datagram,
                             const INET_TEXT *Head, PMDL Chunk, ULONG ChunkBytes)
{
    const UDP_HEADER *const Udp = (const UDP_HEADER *)Datagram->Payload;
    PUCHAR Payload;

    const PINET_PACKET Packet = InetBeginUdp(Interface, Head->ByteCount, &Payload);
    if (Packet == NULL) {
        return FALSE;
    }
    RtlCopyMemory(Payload, Head->Buffer, Head->ByteCount);
    Packet->IsChunk = TRUE;
    Interface->ChunksInFlight++;
    Interface->Counters[InetStateDatagrams]++;
    InetSendUdp(Interface, Packet, Interface->Address, INET_STATE_PORT, Datagram->Source,
                InetRead16(Udp->SourcePort), Interface->SenderHardware, Chunk, ChunkBytes);
    return TRUE;
}

static VOID InetSendReport(PINET_INTERFACE Interface, const INET_DATAGRAM *Datagram,
                           const INET_QUERY *Query, ULONG ByteCount)
{
    const ULONG Count = (ByteCount + INET_CHUNK_BYTES - 1) / INET_CHUNK_BYTES;
    CHAR Buffer[2 * INET_QUERY_BYTES + 32];
    BOOLEAN IsSent = TRUE;

    for (ULONG Index = 0; Index < Count && IsSent; Index += 1) {
        const ULONG Left = ByteCount - Index * INET_CHUNK_BYTES;
        INET_TEXT Head = {Buffer, sizeof(Buffer), 0};
        InetPutHead(&Head, Query, Index + 1, Count);
        IsSent = InetSendChunk(Interface, Datagram, &Head, Interface->ReportChunks[Index],
                               Left < INET_CHUNK_BYTES ? Left : INET_CHUNK_BYTES);
    }
}

ULONG InetStateService(PINET_INTERFACE Interface, const INET_DATAGRAM *Datagram)
{
    const UDP_HEADER *const Udp = (const UDP_HEADER *)Datagram->Payload;
    const ULONG ByteCount = InetRead16(Udp->Length);
    INET_QUERY Query;

    if (Datagram->IsBroadcast || ((Datagram->Source ^ Interface->Address) & Interface->Mask) != 0) {
        return InetDropStateOutsider;
    }
    if (ByteCount > Datagram->NearBytes ||
        !InetParseQuery((const UCHAR *)(Udp + 1), ByteCount - (ULONG)sizeof(*Udp), &Query)) {
        return InetDropStateMalformed;
    }
    if (Interface->ChunksInFlight != 0) {
        return InetDropStateBusy;
    }
    INET_TEXT Text = {Interface->Report, INET_REPORT_BYTES, 0};
    Text.ByteCount = Interface->Port.Report(Interface->Port.Context, Query.Name, Interface->Report,
                                            INET_REPORT_BYTES);
    if (Text.ByteCount == 0) {
        InetPutText(&Text, "There is no such report. Ask for \"help\".\n");
    }
    Interface->Counters[InetStateRequests]++;
    InetSendReport(Interface, Datagram, &Query, Text.ByteCount);
    return InetUsed;
}
