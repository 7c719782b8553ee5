// See inetlab.h.
#include "tests/host/inetlab.h"
#include "tests/host/host.h"

const UCHAR LabOwnMac[ETHERNET_ADDRESS_BYTES] = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};
const UCHAR LabPeerMac[ETHERNET_ADDRESS_BYTES] = {0x52, 0x55, 0x0A, 0x00, 0x00, 0x02};

// -------------------------------------------------------------------------------------------------
// Memory.

static PMDL MakeMdl(ULONG ByteCount, PUCHAR Bytes)
{
    PMDL Mdl = calloc(1, sizeof(*Mdl));
    Mdl->MdlFlags = MDL_SOURCE_IS_NONPAGED_POOL;
    Mdl->MappedSystemVa = Bytes;
    Mdl->ByteCount = ByteCount;
    return Mdl;
}

static void FreeFrame(PNET_FRAME Frame)
{
    for (PMDL Next, Mdl = Frame->Mdl; Mdl != NULL; Mdl = Next) {
        Next = Mdl->Next;
        free(Mdl->MappedSystemVa);
        free(Mdl);
    }
    free(Frame);
}

static PNET_FRAME MakeFrame(const LAB *Lab, const UCHAR *Bytes, ULONG ByteCount)
{
    PNET_FRAME Frame = calloc(1, sizeof(*Frame));
    PMDL *Link = &Frame->Mdl;

    Frame->ByteCount = ByteCount;
    Frame->Flags = NET_FRAME_LENT;
    for (ULONG Done = 0, Count; Done < ByteCount; Done += Count) {
        const ULONG Left = ByteCount - Done;
        Count = Lab->PieceBytes != 0 && Lab->PieceBytes < Left ? Lab->PieceBytes : Left;
        PUCHAR Piece = malloc(Count);
        memcpy(Piece, Bytes + Done, Count);
        *Link = MakeMdl(Count, Piece);
        Link = &(*Link)->Next;
    }
    return Frame;
}

// -------------------------------------------------------------------------------------------------
// The stack's surroundings.

static ULONG Report(PVOID Context, PCSTR Name, PCHAR Buffer, ULONG Capacity)
{
    const LAB *Lab = Context;
    if (strcmp(Name, "nothing") == 0) {
        return 0;
    }
    CHECK(Lab->ReportBytes <= Capacity);
    for (ULONG Index = 0; Index < Lab->ReportBytes; Index += 1) {
        Buffer[Index] = (CHAR)('a' + Index % 26);
    }
    return Lab->ReportBytes;
}

static VOID PingDone(PVOID Context, PVOID PingContext, NTSTATUS Status, const UCHAR *Hardware,
                     UCHAR TimeToLive)
{
    LAB *Lab = Context;
    CHECK(PingContext != NULL);
    CHECK(!NT_SUCCESS(Status) || (Hardware != NULL && TimeToLive != 0));
    Lab->PingCount++;
    Lab->PingStatus = Status;
}

static VOID LeaseDone(PVOID Context, NTSTATUS Status)
{
    LAB *Lab = Context;
    Lab->LeaseCount++;
    Lab->LeaseStatus = Status;
}

static VOID Tell(PVOID Context, PCSTR Text, ULONG Address, const UCHAR *Hardware)
{
    LAB *Lab = Context;
    CHECK(Text != NULL && Address != 0 && Hardware != NULL);
    Lab->TellCount++;
}

// -------------------------------------------------------------------------------------------------
// The card.

static void KeepSent(LAB *Lab, const NET_FRAME *Frame)
{
    LAB_FRAME *Sent = &Lab->Sent[Lab->SentCount];
    ULONG Skip = Frame->Offset;

    CHECK(Lab->SentCount < LAB_SENT_LIMIT && Frame->ByteCount <= LAB_FRAME_BYTES);
    Lab->SentCount++;
    Sent->ByteCount = 0;
    for (PMDL Mdl = Frame->Mdl; Mdl != NULL && Sent->ByteCount < Frame->ByteCount;
         Mdl = Mdl->Next) {
        const ULONG Here = Mdl->ByteCount > Skip ? Mdl->ByteCount - Skip : 0;
        const ULONG Left = Frame->ByteCount - Sent->ByteCount;
        PutBytes(Sent, (PUCHAR)Mdl->MappedSystemVa + (Here != 0 ? Skip : 0),
                 Here < Left ? Here : Left);
        Skip -= Here != 0 ? Skip : Mdl->ByteCount;
    }
    CHECK_EQUAL(Sent->ByteCount, Frame->ByteCount);
    CHECK((Frame->Flags & ~NET_FRAME_LENT) == 0); // a stack that orders nothing of the card
}

static void TakeReturned(LAB *Lab)
{
    while (Lab->Interface.Returned != NULL) {
        PNET_FRAME Frame = Lab->Interface.Returned;
        Lab->Interface.Returned = Frame->Next;
        CHECK(Frame->Flags & NET_FRAME_LENT);
        CHECK(Lab->LentCount > 0);
        Lab->LentCount--;
        FreeFrame(Frame);
    }
}

void LabRelease(LAB *Lab)
{
    PNET_FRAME Frames = Lab->InCard;
    Lab->InCard = NULL;
    InetSendDone(&Lab->Interface, Frames);
    TakeReturned(Lab);
}

// Whatever the stack wants to send and to give back.
static void Collect(LAB *Lab)
{
    PNET_FRAME Frames = Lab->Interface.Outgoing;
    PNET_FRAME *End = &Lab->InCard;

    Lab->Interface.Outgoing = NULL;
    while (*End != NULL) {
        End = &(*End)->Next;
    }
    *End = Frames;
    for (PNET_FRAME Frame = Frames; Frame != NULL; Frame = Frame->Next) {
        KeepSent(Lab, Frame);
        Frame->Status = STATUS_SUCCESS;
    }
    TakeReturned(Lab);
    if (!Lab->IsHolding) {
        LabRelease(Lab);
        CHECK_EQUAL(Lab->LentCount, Lab->Interface.HeldFrames);
    }
}

void LabReceive(LAB *Lab, const UCHAR *Bytes, ULONG ByteCount)
{
    Lab->LentCount++;
    InetReceive(&Lab->Interface, MakeFrame(Lab, Bytes, ByteCount));
    Collect(Lab);
}

void LabReceiveFrame(LAB *Lab, const LAB_FRAME *Frame)
{
    LabReceive(Lab, Frame->Bytes, Frame->ByteCount);
}

// Timers run when they are due, one after the other.
void LabAdvance(LAB *Lab, ULONG Milliseconds)
{
    const ULONG64 EndMs = Lab->Interface.NowMs + Milliseconds;
    ULONG Rounds = 0;

    for (ULONG64 Due = InetNextDeadline(&Lab->Interface); Due <= EndMs;
         Due = InetNextDeadline(&Lab->Interface)) {
        if (Lab->Interface.NowMs < Due) {
            Lab->Interface.NowMs = Due;
        }
        InetRunTimers(&Lab->Interface);
        Collect(Lab);
        Rounds += 1;
        CHECK(Rounds < 100000); // a timer that is always due
    }
    Collect(Lab);
    Lab->Interface.NowMs = EndMs;
}

void LabForget(LAB *Lab)
{
    Lab->SentCount = 0;
}

// -------------------------------------------------------------------------------------------------
// Life.

void LabStart(LAB *Lab, BOOLEAN IsStatic)
{
    const INET_PORT Port = {Lab, Report, PingDone, LeaseDone, Tell};
    PINET_INTERFACE Interface = &Lab->Interface;

    memset(Lab, 0, sizeof(*Lab));
    Interface->NowMs = 1000000;
    Interface->Packets = calloc(INET_PACKET_COUNT, sizeof(INET_PACKET));
    for (ULONG Index = 0; Index < INET_PACKET_COUNT; Index += 1) {
        Interface->Packets[Index].Memory = malloc(INET_PACKET_BYTES);
        Interface->Packets[Index].Mdl =
            MakeMdl(INET_PACKET_BYTES, Interface->Packets[Index].Memory);
    }
    Interface->Report = malloc(INET_REPORT_BYTES);
    Interface->ReportChunks = calloc(INET_CHUNK_COUNT, sizeof(PMDL));
    for (ULONG Index = 0; Index < INET_CHUNK_COUNT; Index += 1) {
        Interface->ReportChunks[Index] =
            MakeMdl(INET_CHUNK_BYTES, (PUCHAR)Interface->Report + Index * INET_CHUNK_BYTES);
    }
    if (IsStatic) {
        Interface->StaticAddress = LAB_OWN_ADDRESS;
        Interface->StaticMask = LAB_MASK;
        Interface->StaticRouter = LAB_ROUTER;
    }
    InetInitialize(Interface, &Port, LabOwnMac, 12345);
    InetLinkChanged(Interface, TRUE);
    Collect(Lab);
    if (IsStatic) {
        LabAdvance(Lab, 10000);
        LabForget(Lab);
    }
}

void LabEnd(LAB *Lab)
{
    PINET_INTERFACE Interface = &Lab->Interface;

    InetStop(Interface);
    Collect(Lab);
    LabRelease(Lab);
    CHECK_EQUAL(Lab->LentCount, 0);
    CHECK_EQUAL(Interface->HeldFrames, 0);
    CHECK_EQUAL(Interface->FreePacketCount, INET_PACKET_COUNT);
    CHECK_EQUAL(Interface->ChunksInFlight, 0);
    for (ULONG Index = 0; Index < INET_PACKET_COUNT; Index += 1) {
        free(Interface->Packets[Index].Memory);
        free(Interface->Packets[Index].Mdl);
    }
    for (ULONG Index = 0; Index < INET_CHUNK_COUNT; Index += 1) {
        free(Interface->ReportChunks[Index]);
    }
    free(Interface->ReportChunks);
    free(Interface->Report);
    free(Interface->Packets);
}

// -------------------------------------------------------------------------------------------------
// The writer.

void Put(LAB_FRAME *Frame, ULONG Count, ULONG Value)
{
    for (ULONG Shift = Count * 8; Shift > 0; Shift -= 8) {
        Frame->Bytes[Frame->ByteCount++] = (UCHAR)(Value >> (Shift - 8));
    }
}

void PutBytes(LAB_FRAME *Frame, const void *Bytes, ULONG Count)
{
    CHECK(Frame->ByteCount + Count <= LAB_FRAME_BYTES);
    memcpy(&Frame->Bytes[Frame->ByteCount], Bytes, Count);
    Frame->ByteCount += Count;
}

void Poke16(LAB_FRAME *Frame, ULONG Offset, ULONG Value)
{
    Frame->Bytes[Offset] = (UCHAR)(Value >> 8);
    Frame->Bytes[Offset + 1] = (UCHAR)Value;
}

ULONG Peek(const LAB_FRAME *Frame, ULONG Offset, ULONG Count)
{
    ULONG Value = 0;
    for (ULONG Index = 0; Index < Count; Index += 1) {
        Value = Value << 8 | Frame->Bytes[Offset + Index];
    }
    return Value;
}

ULONG OnesSum(const UCHAR *Bytes, ULONG Count, ULONG Sum)
{
    for (ULONG Index = 0; Index < Count; Index += 2) {
        Sum += Bytes[Index] * 256u + (Index + 1 < Count ? Bytes[Index + 1] : 0u);
        Sum = Sum % 65536 + Sum / 65536;
    }
    return Sum;
}

void BeginEthernet(LAB_FRAME *Frame, const UCHAR *To, const UCHAR *From, ULONG Type)
{
    memset(Frame, 0, sizeof(*Frame));
    PutBytes(Frame, To, ETHERNET_ADDRESS_BYTES);
    PutBytes(Frame, From, ETHERNET_ADDRESS_BYTES);
    Put(Frame, 2, Type);
}

void BeginIpv4(LAB_FRAME *Frame, ULONG Protocol)
{
    BeginEthernet(Frame, LabOwnMac, LabPeerMac, 0x0800);
    Put(Frame, 4, 0x45000000);                  // version, header length, service, total length
    Put(Frame, 4, 0x12340000);                  // identification, fragment
    Put(Frame, 4, 0x40000000 | Protocol << 16); // hops, protocol, checksum
    Put(Frame, 4, LAB_PEER_ADDRESS);
    Put(Frame, 4, LAB_OWN_ADDRESS);
}

void SealIpv4(LAB_FRAME *Frame)
{
    const ULONG HeaderBytes = (Frame->Bytes[OFFSET_IPV4] & 15) * 4;
    Poke16(Frame, OFFSET_IPV4 + 2, Frame->ByteCount - OFFSET_IPV4);
    Poke16(Frame, OFFSET_IPV4 + 10, 0);
    Poke16(Frame, OFFSET_IPV4 + 10, 65535 - OnesSum(&Frame->Bytes[OFFSET_IPV4], HeaderBytes, 0));
}

void BuildEcho(LAB_FRAME *Frame, ULONG PayloadBytes, ULONG Sequence)
{
    BeginIpv4(Frame, 1);
    Put(Frame, 4, 0x08000000);
    Put(Frame, 4, 0xABCD0000 | Sequence);
    for (ULONG Index = 0; Index < PayloadBytes; Index += 1) {
        Put(Frame, 1, (Index * 7 + Sequence) & 0xFF);
    }
    Poke16(Frame, OFFSET_PAYLOAD + 2,
           65535 - OnesSum(&Frame->Bytes[OFFSET_PAYLOAD], PayloadBytes + 8, 0));
    SealIpv4(Frame);
}

void SealUdp(LAB_FRAME *Frame)
{
    const ULONG UdpBytes = Frame->ByteCount - OFFSET_PAYLOAD;
    Poke16(Frame, OFFSET_PAYLOAD + 4, UdpBytes);
    Poke16(Frame, OFFSET_PAYLOAD + 6, 0);
    const ULONG Sum = OnesSum(&Frame->Bytes[OFFSET_IPV4 + 12], 8, 17 + UdpBytes);
    const ULONG Checksum = 65535 - OnesSum(&Frame->Bytes[OFFSET_PAYLOAD], UdpBytes, Sum);
    Poke16(Frame, OFFSET_PAYLOAD + 6, Checksum == 0 ? 65535 : Checksum);
    SealIpv4(Frame);
}

void BuildUdp(LAB_FRAME *Frame, ULONG SourcePort, ULONG DestinationPort, const void *Payload,
              ULONG PayloadBytes)
{
    BeginIpv4(Frame, 17);
    Put(Frame, 4, SourcePort << 16 | DestinationPort);
    Put(Frame, 4, 0);
    PutBytes(Frame, Payload, PayloadBytes);
    SealUdp(Frame);
}

void BuildArp(LAB_FRAME *Frame, ULONG Operation, const UCHAR *SenderMac, ULONG Sender, ULONG Target)
{
    static const UCHAR Everybody[] = {255, 255, 255, 255, 255, 255};
    BeginEthernet(Frame, Operation == 1 ? Everybody : LabOwnMac, SenderMac, 0x0806);
    Put(Frame, 4, 0x00010800);
    Put(Frame, 4, 0x06040000 | Operation);
    PutBytes(Frame, SenderMac, ETHERNET_ADDRESS_BYTES);
    Put(Frame, 4, Sender);
    PutBytes(Frame, Operation == 1 ? (const UCHAR[6]){0} : LabOwnMac, ETHERNET_ADDRESS_BYTES);
    Put(Frame, 4, Target);
    Frame->ByteCount = 60; // padding
}
