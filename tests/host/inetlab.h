// A network for the stack on the build machine: frames that lie in memory of exactly their size, in one
// piece or several, a clock that a test moves, and everything that the stack has sent.
#pragma once

#include "drivers/inet/inet.h"

#define LAB_FRAME_BYTES 2048
#define LAB_SENT_LIMIT 512

typedef struct _LAB_FRAME {
    UCHAR Bytes[LAB_FRAME_BYTES];
    ULONG ByteCount;
} LAB_FRAME;

typedef struct _LAB {
    INET_INTERFACE Interface;
    LAB_FRAME Sent[LAB_SENT_LIMIT]; // since LabForget
    ULONG SentCount;
    ULONG LentCount;   // frames that the stack has, in whatever list
    BOOLEAN IsHolding; // what is sent stays with the card, until LabRelease
    ULONG PieceBytes;  // received frames lie in pieces of so many bytes; 0: in one
    PNET_FRAME InCard;
    ULONG PingCount; // that have ended
    NTSTATUS PingStatus;
    ULONG LeaseCount;
    NTSTATUS LeaseStatus;
    ULONG TellCount;
    ULONG ReportBytes; // what the next report has
} LAB;

extern const UCHAR LabOwnMac[ETHERNET_ADDRESS_BYTES];
extern const UCHAR LabPeerMac[ETHERNET_ADDRESS_BYTES];
#define LAB_OWN_ADDRESS 0x0A000032u  // 10.0.0.50
#define LAB_PEER_ADDRESS 0x0A000002u // 10.0.0.2
#define LAB_ROUTER 0x0A000001u
#define LAB_MASK 0xFFFFFF00u

// A new lab. Static: the interface has LAB_OWN_ADDRESS, its announcements are over. Else: its link is up,
// and DHCP has begun.
void LabStart(LAB *Lab, BOOLEAN IsStatic);
// Stops the stack; it must have given everything back.
void LabEnd(LAB *Lab);

// The stack receives these bytes; what it sends is in Sent afterwards.
void LabReceive(LAB *Lab, const UCHAR *Bytes, ULONG ByteCount);
void LabReceiveFrame(LAB *Lab, const LAB_FRAME *Frame);
void LabAdvance(LAB *Lab, ULONG Milliseconds);
void LabForget(LAB *Lab);
// The card has sent what it held.
void LabRelease(LAB *Lab);

// -------------------------------------------------------------------------------------------------
// A writer of frames of its own, after the RFCs, so that a mistake in the stack's idea of the wire
// can't cancel itself.

#define OFFSET_IPV4 14
#define OFFSET_PAYLOAD 34

void Put(LAB_FRAME *Frame, ULONG Count, ULONG Value);
void PutBytes(LAB_FRAME *Frame, const void *Bytes, ULONG Count);
void Poke16(LAB_FRAME *Frame, ULONG Offset, ULONG Value);
ULONG Peek(const LAB_FRAME *Frame, ULONG Offset, ULONG Count);
// The one's complement sum, the plain way.
ULONG OnesSum(const UCHAR *Bytes, ULONG Count, ULONG Sum);
void BeginEthernet(LAB_FRAME *Frame, const UCHAR *To, const UCHAR *From, ULONG Type);
// Ethernet and IPv4 headers from the peer to the stack; lengths and sums come with SealIpv4.
void BeginIpv4(LAB_FRAME *Frame, ULONG Protocol);
void SealIpv4(LAB_FRAME *Frame);
// An echo request with so many bytes of payload.
void BuildEcho(LAB_FRAME *Frame, ULONG PayloadBytes, ULONG Sequence);
void BuildUdp(LAB_FRAME *Frame, ULONG SourcePort, ULONG DestinationPort, const void *Payload,
              ULONG PayloadBytes);
void SealUdp(LAB_FRAME *Frame);
void BuildArp(LAB_FRAME *Frame, ULONG Operation, const UCHAR *SenderMac, ULONG Sender,
              ULONG Target);
