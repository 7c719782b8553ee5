// The DHCP client: building, judging, and the exchange. See dhcp.h for the picture.
//
// Invariants:
//   D1  A slice never reaches beyond the message that it was cut from. Only DhcpAdvance changes one,
//       and it is called after the length that it relies on was compared.
//   D2  Every state but Idle has a deadline, and what arrives can't move it, unless it is the awaited
//       answer: a flood of foreign messages prolongs nothing.
//   D3  Lease.Address is not zero in Bound, Renewing and Rebinding, and in no other state.
// IRQL: whatever the link wants. No locks; one client is used by one caller at a time.
#include "inet.h"

#define DHCP_ATTEMPTS 4 // per message: waits of about 1, 2, 4 and 8 seconds
#define DHCP_FIRST_WAIT_MS 1000u
#define DHCP_JITTER_MS 128u // two clients that were switched on together drift apart
#define DHCP_REFUSALS 3     // in a row
#define DHCP_PAUSE_MS 10000 // after refusals, silence, and a declined address (RFC 2131 3.1)
#define DHCP_PROBE_MS 200
#define DHCP_LEAST_RENEWAL_MS 1000 // between two requests to renew

// What is left to read of a message.
typedef struct _DHCP_SLICE {
    const UCHAR *Bytes;
    ULONG ByteCount;
} DHCP_SLICE, *PDHCP_SLICE;

PCSTR DhcpDescribeVerdict(DHCP_VERDICT Verdict)
{
    static const PCSTR Words[] = {
        [DhcpAccepted] = "accepted",
        [DhcpRefused] = "refusal by the server",
        [DhcpBadMessage] = "malformed DHCP message",
        [DhcpOtherTransaction] = "another client's transaction",
        [DhcpBadOptions] = "malformed DHCP options",
        [DhcpUnexpectedType] = "DHCP message out of turn",
        [DhcpOtherServer] = "another server's answer",
        [DhcpBadAddress] = "unusable address",
        [DhcpBadLease] = "lease without a duration",
    };
    C_ASSERT(ARRAYSIZE(Words) == DhcpVerdictCount);
    return Verdict < DhcpVerdictCount ? Words[Verdict] : "unknown";
}

PCSTR DhcpDescribeState(DHCP_STATE State)
{
    static const PCSTR Words[] = {
        [DhcpIdle] = "idle",
        [DhcpSelecting] = "looking for servers",
        [DhcpRequesting] = "requesting what was offered",
        [DhcpProbing] = "looking whether the address is free",
        [DhcpBound] = "bound",
        [DhcpRenewing] = "renewing",
        [DhcpRebinding] = "rebinding",
        [DhcpWaiting] = "waiting before it begins again",
    };
    C_ASSERT(ARRAYSIZE(Words) == DhcpStateCount);
    return State < DhcpStateCount ? Words[State] : "unknown";
}

// -------------------------------------------------------------------------------------------------
// Building.

static ULONG DhcpReadBig(const UCHAR *Bytes, ULONG ByteCount)
{
    ULONG Value = 0;
    for (ULONG Index = 0; Index < ByteCount; Index += 1) {
        Value = Value << 8 | Bytes[Index];
    }
    return Value;
}

static PUCHAR DhcpPutOption(PUCHAR Cursor, DHCP_OPTION Code, ULONG Value)
{
    Cursor[0] = (UCHAR)Code;
    Cursor[1] = sizeof(Value);
    InetWrite32(&Cursor[2], Value);
    return Cursor + 2 + sizeof(Value);
}

static PUCHAR DhcpPutMessageType(PUCHAR Cursor, DHCP_MESSAGE_TYPE Type)
{
    Cursor[0] = DhcpOptionMessageType;
    Cursor[1] = 1;
    Cursor[2] = (UCHAR)Type;
    return Cursor + 3;
}

static PUCHAR DhcpPutParameterList(PUCHAR Cursor)
{
    static const UCHAR Wanted[] = {
        DhcpOptionSubnetMask,   DhcpOptionRouter,       DhcpOptionDnsServer,
        DhcpOptionLeaseSeconds, DhcpOptionRenewSeconds, DhcpOptionRebindSeconds,
    };

    Cursor[0] = DhcpOptionParameterList;
    Cursor[1] = sizeof(Wanted);
    RtlCopyMemory(&Cursor[2], Wanted, sizeof(Wanted));
    return Cursor + 2 + sizeof(Wanted);
}

static BOOLEAN DhcpHasLease(const DHCP_CLIENT *Client)
{
    return Client->Lease.Address != 0;
}

// Which fields a message has is the table of RFC 2131 4.4.1. The longest of ours has 240 bytes and 24
// of options.
VOID DhcpBuildMessage(const DHCP_CLIENT *Client, DHCP_MESSAGE_TYPE Type, PUCHAR Bytes)
{
    const PDHCP_MESSAGE Message = (PDHCP_MESSAGE)Bytes;
    PUCHAR Cursor = (PUCHAR)(Message + 1);

    Message->Operation = DHCP_OPERATION_REQUEST;
    Message->HardwareType = DHCP_HARDWARE_ETHERNET;
    Message->HardwareBytes = DHCP_MAC_BYTES;
    InetWrite32(Message->TransactionId, Client->TransactionId);
    InetWrite16(Message->Seconds, Client->Seconds);
    InetWrite32(Message->ClientAddress, Client->Lease.Address);
    RtlCopyMemory(Message->HardwareAddress, Client->MacAddress, DHCP_MAC_BYTES);
    InetWrite32(Message->Cookie, DHCP_COOKIE);
    Cursor = DhcpPutMessageType(Cursor, Type);
    if (Type == DhcpReleaseMessage) {
        Cursor = DhcpPutOption(Cursor, DhcpOptionServerId, Client->Lease.ServerId);
    } else if (Type != DhcpDiscover && !DhcpHasLease(Client)) {
        Cursor = DhcpPutOption(Cursor, DhcpOptionRequestedAddress, Client->Offer.Address);
        Cursor = DhcpPutOption(Cursor, DhcpOptionServerId, Client->Offer.ServerId);
    }
    if (Type == DhcpDiscover || Type == DhcpRequest) {
        Cursor = DhcpPutParameterList(Cursor);
    }
    *Cursor = DhcpOptionEnd;
}

// -------------------------------------------------------------------------------------------------
// Parsing.

static VOID DhcpAdvance(PDHCP_SLICE Slice, ULONG ByteCount)
{
    Slice->Bytes += ByteCount;
    Slice->ByteCount -= ByteCount;
}

// The options that are read: a value of ValueBytes, or a list of such values of which the first
// counts.
typedef struct _DHCP_OPTION_RULE {
    UCHAR Code;
    UCHAR ValueBytes;
    BOOLEAN IsList;
    ULONG FieldOffset; // of a ULONG in DHCP_REPLY
} DHCP_OPTION_RULE;

static const DHCP_OPTION_RULE DhcpOptionRules[] = {
    {DhcpOptionSubnetMask, 4, FALSE, FIELD_OFFSET(DHCP_REPLY, SubnetMask)},
    {DhcpOptionRouter, 4, TRUE, FIELD_OFFSET(DHCP_REPLY, Router)},
    {DhcpOptionDnsServer, 4, TRUE, FIELD_OFFSET(DHCP_REPLY, DnsServer)},
    {DhcpOptionLeaseSeconds, 4, FALSE, FIELD_OFFSET(DHCP_REPLY, LeaseSeconds)},
    {DhcpOptionRenewSeconds, 4, FALSE, FIELD_OFFSET(DHCP_REPLY, RenewSeconds)},
    {DhcpOptionRebindSeconds, 4, FALSE, FIELD_OFFSET(DHCP_REPLY, RebindSeconds)},
    {DhcpOptionOverload, 1, FALSE, FIELD_OFFSET(DHCP_REPLY, Overload)},
    {DhcpOptionMessageType, 1, FALSE, FIELD_OFFSET(DHCP_REPLY, MessageType)},
    {DhcpOptionServerId, 4, FALSE, FIELD_OFFSET(DHCP_REPLY, ServerId)},
};

static const DHCP_OPTION_RULE *DhcpFindOptionRule(UCHAR Code)
{
    for (ULONG Index = 0; Index < ARRAYSIZE(DhcpOptionRules); Index += 1) {
        if (DhcpOptionRules[Index].Code == Code) {
            return &DhcpOptionRules[Index];
        }
    }
    return NULL;
}

// Value has ByteCount bytes, all within the message. An option that nobody reads is good whatever it
// says.
static DHCP_VERDICT DhcpTakeOption(UCHAR Code, const UCHAR *Value, ULONG ByteCount,
                                   PDHCP_REPLY Reply)
{
    const DHCP_OPTION_RULE *const Rule = DhcpFindOptionRule(Code);

    if (Rule == NULL) {
        return DhcpAccepted;
    }
    const BOOLEAN LengthFits = Rule->IsList ? ByteCount > 0 && ByteCount % Rule->ValueBytes == 0
                                            : ByteCount == Rule->ValueBytes;
    if (!LengthFits) {
        return DhcpBadOptions;
    }
    *(PULONG)((PUCHAR)Reply + Rule->FieldOffset) = DhcpReadBig(Value, Rule->ValueBytes);
    return DhcpAccepted;
}

// Reads options until the end mark or the end of the slice.
static DHCP_VERDICT DhcpParseOptions(DHCP_SLICE Slice, PDHCP_REPLY Reply)
{
    DHCP_VERDICT Verdict = DhcpAccepted;

    while (Verdict == DhcpAccepted && Slice.ByteCount > 0 && Slice.Bytes[0] != DhcpOptionEnd) {
        if (Slice.Bytes[0] == DhcpOptionPad) {
            DhcpAdvance(&Slice, 1);
            continue;
        }
        if (Slice.ByteCount < 2 || Slice.Bytes[1] > Slice.ByteCount - 2) {
            return DhcpBadOptions;
        }
        const ULONG ByteCount = Slice.Bytes[1];
        Verdict = DhcpTakeOption(Slice.Bytes[0], &Slice.Bytes[2], ByteCount, Reply);
        DhcpAdvance(&Slice, 2 + ByteCount);
    }
    return Verdict;
}

// A server with much to say may go on in the two fields that a DHCP message inherited from BOOTP.
static DHCP_VERDICT DhcpParseOverload(const DHCP_MESSAGE *Message, PDHCP_REPLY Reply)
{
    const ULONG FileBit = 1;
    const ULONG NameBit = 2;
    const ULONG Overload = Reply->Overload;
    DHCP_VERDICT Verdict = DhcpAccepted;

    if (Overload > (FileBit | NameBit)) {
        return DhcpBadOptions;
    }
    if (Overload & FileBit) {
        Verdict =
            DhcpParseOptions((DHCP_SLICE){Message->BootFile, sizeof(Message->BootFile)}, Reply);
    }
    if (Verdict == DhcpAccepted && (Overload & NameBit)) {
        Verdict =
            DhcpParseOptions((DHCP_SLICE){Message->ServerName, sizeof(Message->ServerName)}, Reply);
    }
    return Verdict;
}

// Message is a sound fixed part; Options is what follows it.
static DHCP_VERDICT DhcpReadReply(const DHCP_MESSAGE *Message, DHCP_SLICE Options,
                                  PDHCP_REPLY Reply)
{
    RtlZeroMemory(Reply, sizeof(*Reply));
    Reply->Address = DhcpReadBig(Message->YourAddress, sizeof(Message->YourAddress));
    const DHCP_VERDICT Verdict = DhcpParseOptions(Options, Reply);
    return Verdict == DhcpAccepted ? DhcpParseOverload(Message, Reply) : Verdict;
}

// The fixed part of a message.
static DHCP_VERDICT DhcpCheckMessage(const DHCP_MESSAGE *Message, ULONG ByteCount,
                                     const DHCP_CLIENT *Client)
{
    if (ByteCount < sizeof(*Message) || Message->Operation != DHCP_OPERATION_REPLY ||
        Message->HardwareType != DHCP_HARDWARE_ETHERNET ||
        Message->HardwareBytes != DHCP_MAC_BYTES || InetRead32(Message->Cookie) != DHCP_COOKIE) {
        return DhcpBadMessage;
    }
    if (InetRead32(Message->TransactionId) != Client->TransactionId ||
        !InetSameHardware(Message->HardwareAddress, Client->MacAddress)) {
        return DhcpOtherTransaction;
    }
    return DhcpAccepted;
}

DHCP_VERDICT DhcpParseMessage(const DHCP_CLIENT *Client, const UCHAR *Bytes, ULONG ByteCount,
                              PDHCP_REPLY Reply)
{
    const DHCP_MESSAGE *const Message = (const DHCP_MESSAGE *)Bytes;
    DHCP_SLICE Options = {Bytes, ByteCount};

    const DHCP_VERDICT Verdict = DhcpCheckMessage(Message, ByteCount, Client);
    if (Verdict != DhcpAccepted) {
        return Verdict;
    }
    DhcpAdvance(&Options, sizeof(*Message));
    return DhcpReadReply(Message, Options, Reply);
}

// -------------------------------------------------------------------------------------------------
// Judging: is a well-formed reply the awaited one?

// Ones from the left, then zeros. Absent (0) is allowed: a server need not tell.
static BOOLEAN DhcpIsSubnetMask(ULONG Mask)
{
    const ULONG HostBits = ~Mask;
    return (HostBits & (HostBits + 1)) == 0;
}

static DHCP_VERDICT DhcpJudgeOffer(const DHCP_CLIENT *Client, const DHCP_REPLY *Reply)
{
    UNREFERENCED_PARAMETER(Client);
    if (Reply->MessageType != DhcpOffer) {
        return DhcpUnexpectedType;
    }
    if (!InetIsHostAddress(Reply->ServerId)) {
        return DhcpOtherServer;
    }
    return InetIsHostAddress(Reply->Address) && DhcpIsSubnetMask(Reply->SubnetMask)
               ? DhcpAccepted
               : DhcpBadAddress;
}

// An answer to a REQUEST for Wanted; ServerId 0: by any server.
static DHCP_VERDICT DhcpJudgeAnswer(const DHCP_REPLY *Reply, ULONG Wanted, ULONG ServerId)
{
    if (Reply->MessageType != DhcpAck && Reply->MessageType != DhcpNak) {
        return DhcpUnexpectedType;
    }
    if (ServerId != 0 ? Reply->ServerId != ServerId : !InetIsHostAddress(Reply->ServerId)) {
        return DhcpOtherServer;
    }
    if (Reply->MessageType == DhcpNak) {
        return DhcpRefused;
    }
    if (Reply->Address != Wanted || !DhcpIsSubnetMask(Reply->SubnetMask)) {
        return DhcpBadAddress;
    }
    return Reply->LeaseSeconds != 0 ? DhcpAccepted : DhcpBadLease;
}

static DHCP_VERDICT DhcpJudgeAcknowledgement(const DHCP_CLIENT *Client, const DHCP_REPLY *Reply)
{
    return DhcpJudgeAnswer(Reply, Client->Offer.Address, Client->Offer.ServerId);
}

static DHCP_VERDICT DhcpJudgeRenewal(const DHCP_CLIENT *Client, const DHCP_REPLY *Reply)
{
    return DhcpJudgeAnswer(Reply, Client->Lease.Address, Client->Lease.ServerId);
}

static DHCP_VERDICT DhcpJudgeRebinding(const DHCP_CLIENT *Client, const DHCP_REPLY *Reply)
{
    return DhcpJudgeAnswer(Reply, Client->Lease.Address, 0);
}

// -------------------------------------------------------------------------------------------------
// The exchange.

// A linear congruential generator: unlike its neighbour's is all that a transaction id has to be.
static ULONG DhcpNextRandom(PDHCP_CLIENT Client)
{
    Client->Random = Client->Random * 1664525u + 1013904223u;
    return Client->Random;
}

VOID DhcpInitialize(PDHCP_CLIENT Client, const DHCP_LINK *Link,
                    const UCHAR MacAddress[DHCP_MAC_BYTES], ULONG Seed)
{
    RtlZeroMemory(Client, sizeof(*Client));
    Client->Link = *Link;
    RtlCopyMemory(Client->MacAddress, MacAddress, DHCP_MAC_BYTES);
    // The last four bytes of the address tell two cards of one maker apart.
    Client->Random = Seed ^ InetRead32(&MacAddress[2]);
    Client->DeadlineMs = DHCP_NEVER;
}

static VOID DhcpSend(PDHCP_CLIENT Client, DHCP_MESSAGE_TYPE Type, ULONG Destination)
{
    const BOOLEAN IsToServer = Destination != IPV4_BROADCAST;
    const DHCP_ROUTE Route = {Client->Lease.Address, Destination,
                              IsToServer ? Client->ServerHardware : NULL};
    Client->SentCount++;
    Client->Link.Send(Client->Link.Context, Type, &Route);
}

// While there is no lease: the message of the state, and a wait that doubles.
static VOID DhcpSendFirst(PDHCP_CLIENT Client, ULONG64 NowMs)
{
    const ULONG WaitMs =
        (DHCP_FIRST_WAIT_MS << Client->Attempts) + (DhcpNextRandom(Client) >> 16) % DHCP_JITTER_MS;

    Client->Attempts++;
    Client->DeadlineMs = NowMs + WaitMs;
    DhcpSend(Client, Client->State == DhcpSelecting ? DhcpDiscover : DhcpRequest, IPV4_BROADCAST);
}

// While there is one: wait half of what is left until EndMs, but never less than a second.
static VOID DhcpSendRenewal(PDHCP_CLIENT Client, ULONG64 NowMs, ULONG64 EndMs, ULONG Destination)
{
    ULONG64 WaitMs = (EndMs - NowMs) / 2;

    WaitMs = WaitMs < DHCP_LEAST_RENEWAL_MS ? DHCP_LEAST_RENEWAL_MS : WaitMs;
    Client->DeadlineMs = NowMs + WaitMs < EndMs ? NowMs + WaitMs : EndMs;
    DhcpSend(Client, DhcpRequest, Destination);
}

static VOID DhcpEnter(PDHCP_CLIENT Client, DHCP_STATE State, ULONG64 DeadlineMs)
{
    Client->State = State;
    Client->Attempts = 0;
    Client->DeadlineMs = DeadlineMs;
}

static VOID DhcpBeginTransaction(PDHCP_CLIENT Client, ULONG64 NowMs)
{
    Client->TransactionId = DhcpNextRandom(Client);
    Client->StartMs = NowMs;
    Client->Seconds = 0;
}

static VOID DhcpBegin(PDHCP_CLIENT Client, ULONG64 NowMs)
{
    DhcpEnter(Client, DhcpSelecting, NowMs);
    DhcpBeginTransaction(Client, NowMs);
    DhcpSendFirst(Client, NowMs);
}

// Gives up for now, and says why.
static VOID DhcpPause(PDHCP_CLIENT Client, ULONG64 NowMs, NTSTATUS Status)
{
    DhcpEnter(Client, DhcpWaiting, NowMs + DHCP_PAUSE_MS);
    Client->Refusals = 0;
    Client->Link.LeaseChanged(Client->Link.Context, Status);
}

static VOID DhcpLoseLease(PDHCP_CLIENT Client, ULONG64 NowMs)
{
    RtlZeroMemory(&Client->Lease, sizeof(Client->Lease));
    Client->Link.LeaseChanged(Client->Link.Context, STATUS_NO_SUCH_DEVICE);
    DhcpBegin(Client, NowMs);
}

static ULONG64 DhcpAfter(ULONG64 StartMs, ULONG Seconds)
{
    return Seconds == DHCP_INFINITE_LEASE ? DHCP_NEVER : StartMs + (ULONG64)Seconds * 1000;
}

// The times count from when the request was sent (RFC 2131 4.4.1); that is when the transaction began,
// or a little later. A server that orders them wrongly gets the usual ones: a half, and seven eighths.
static VOID DhcpTakeLease(PDHCP_CLIENT Client)
{
    DHCP_REPLY *const Lease = &Client->Lease;

    *Lease = Client->Offer;
    if (Lease->RebindSeconds == 0 || Lease->RebindSeconds >= Lease->LeaseSeconds ||
        Lease->RenewSeconds == 0 || Lease->RenewSeconds >= Lease->RebindSeconds) {
        Lease->RenewSeconds = Lease->LeaseSeconds / 2;
        Lease->RebindSeconds = Lease->LeaseSeconds - Lease->LeaseSeconds / 8;
    }
    const BOOLEAN IsInfinite = Lease->LeaseSeconds == DHCP_INFINITE_LEASE;
    Client->ExpiryMs = DhcpAfter(Client->StartMs, Lease->LeaseSeconds);
    Client->RenewMs = IsInfinite ? DHCP_NEVER : DhcpAfter(Client->StartMs, Lease->RenewSeconds);
    Client->RebindMs = IsInfinite ? DHCP_NEVER : DhcpAfter(Client->StartMs, Lease->RebindSeconds);
    Client->Refusals = 0;
    DhcpEnter(Client, DhcpBound, Client->RenewMs);
    Client->Link.LeaseChanged(Client->Link.Context, STATUS_SUCCESS);
}

static VOID DhcpBeginRenewal(PDHCP_CLIENT Client, ULONG64 NowMs)
{
    DhcpEnter(Client, DhcpRenewing, NowMs);
    DhcpBeginTransaction(Client, NowMs);
    DhcpSendRenewal(Client, NowMs, Client->RebindMs, Client->Lease.ServerId);
}

static VOID DhcpBeginRebinding(PDHCP_CLIENT Client, ULONG64 NowMs)
{
    DhcpEnter(Client, DhcpRebinding, NowMs);
    DhcpBeginTransaction(Client, NowMs);
    DhcpSendRenewal(Client, NowMs, Client->ExpiryMs, IPV4_BROADCAST);
}

// -------------------------------------------------------------------------------------------------
// Time.

static VOID DhcpTryAgain(PDHCP_CLIENT Client, ULONG64 NowMs)
{
    if (Client->Attempts < DHCP_ATTEMPTS) {
        Client->Seconds = (ULONG)((NowMs - Client->StartMs) / 1000);
        DhcpSendFirst(Client, NowMs);
    } else {
        DhcpPause(Client, NowMs, STATUS_IO_TIMEOUT);
    }
}

static VOID DhcpLeaseTimer(PDHCP_CLIENT Client, ULONG64 NowMs)
{
    if (NowMs >= Client->ExpiryMs) {
        DhcpLoseLease(Client, NowMs);
    } else if (NowMs >= Client->RebindMs) {
        DhcpBeginRebinding(Client, NowMs);
    } else if (Client->State == DhcpBound) {
        DhcpBeginRenewal(Client, NowMs);
    } else if (Client->State == DhcpRenewing) {
        DhcpSendRenewal(Client, NowMs, Client->RebindMs, Client->Lease.ServerId);
    } else {
        DhcpSendRenewal(Client, NowMs, Client->ExpiryMs, IPV4_BROADCAST);
    }
}

VOID DhcpRunTimer(PDHCP_CLIENT Client, ULONG64 NowMs)
{
    if (NowMs < Client->DeadlineMs) {
        return;
    }
    switch (Client->State) {
    case DhcpSelecting:
    case DhcpRequesting:
        DhcpTryAgain(Client, NowMs);
        break;
    case DhcpProbing: // nobody has said that it is his
        DhcpTakeLease(Client);
        break;
    case DhcpBound:
    case DhcpRenewing:
    case DhcpRebinding:
        DhcpLeaseTimer(Client, NowMs);
        break;
    case DhcpWaiting:
        DhcpBegin(Client, NowMs);
        break;
    case DhcpIdle:
    case DhcpStateCount:
        Client->DeadlineMs = DHCP_NEVER;
        break;
    }
}

VOID DhcpLinkUp(PDHCP_CLIENT Client, ULONG64 NowMs)
{
    if (!DhcpHasLease(Client)) {
        DhcpBegin(Client, NowMs);
    } else if (NowMs >= Client->ExpiryMs) {
        DhcpLoseLease(Client, NowMs);
    } else {
        DhcpBeginRebinding(Client, NowMs); // perhaps behind another server
    }
}

VOID DhcpLinkDown(PDHCP_CLIENT Client)
{
    if (DhcpHasLease(Client)) {
        DhcpEnter(Client, DhcpBound, Client->ExpiryMs);
    } else {
        DhcpEnter(Client, DhcpIdle, DHCP_NEVER);
    }
}

// -------------------------------------------------------------------------------------------------
// Messages.

static VOID DhcpTakeOffer(PDHCP_CLIENT Client, ULONG64 NowMs)
{
    Client->StartMs = NowMs; // from here on the lease counts
    DhcpEnter(Client, DhcpRequesting, NowMs);
    DhcpSendFirst(Client, NowMs);
}

static VOID DhcpTakeAcknowledgement(PDHCP_CLIENT Client, ULONG64 NowMs)
{
    DhcpEnter(Client, DhcpProbing, NowMs + DHCP_PROBE_MS);
    Client->Link.Probe(Client->Link.Context, Client->Offer.Address);
}

static VOID DhcpTakeRenewal(PDHCP_CLIENT Client, ULONG64 NowMs)
{
    UNREFERENCED_PARAMETER(NowMs);
    DhcpTakeLease(Client);
}

static VOID DhcpTakeRefusal(PDHCP_CLIENT Client, ULONG64 NowMs)
{
    Client->Refusals++;
    if (DhcpHasLease(Client)) {
        DhcpLoseLease(Client, NowMs);
    } else if (Client->Refusals >= DHCP_REFUSALS) {
        DhcpPause(Client, NowMs, STATUS_DEVICE_PROTOCOL_ERROR);
    } else {
        DhcpBegin(Client, NowMs);
    }
}

// What each state awaits; in the others a message is out of turn.
static const struct {
    DHCP_VERDICT (*Judge)(const DHCP_CLIENT *Client, const DHCP_REPLY *Reply);
    VOID (*Take)(PDHCP_CLIENT Client, ULONG64 NowMs);
} DhcpExpectations[DhcpStateCount] = {
    [DhcpSelecting] = {DhcpJudgeOffer, DhcpTakeOffer},
    [DhcpRequesting] = {DhcpJudgeAcknowledgement, DhcpTakeAcknowledgement},
    [DhcpRenewing] = {DhcpJudgeRenewal, DhcpTakeRenewal},
    [DhcpRebinding] = {DhcpJudgeRebinding, DhcpTakeRenewal},
};

VOID DhcpInput(PDHCP_CLIENT Client, ULONG64 NowMs, const UCHAR *Bytes, ULONG ByteCount,
               const UCHAR *Hardware)
{
    const DHCP_STATE State = Client->State;
    DHCP_REPLY Reply;

    DHCP_VERDICT Verdict = DhcpParseMessage(Client, Bytes, ByteCount, &Reply);
    if (Verdict == DhcpAccepted) {
        Verdict = DhcpExpectations[State].Judge == NULL
                      ? DhcpUnexpectedType
                      : DhcpExpectations[State].Judge(Client, &Reply);
    }
    Client->VerdictCounts[Verdict]++;
    if (Verdict == DhcpAccepted) {
        RtlCopyMemory(Client->ServerHardware, Hardware, DHCP_MAC_BYTES);
        Client->Offer = Reply;
        DhcpExpectations[State].Take(Client, NowMs);
    } else if (Verdict == DhcpRefused) {
        DhcpTakeRefusal(Client, NowMs);
    }
}

BOOLEAN DhcpNoticeClaim(PDHCP_CLIENT Client, ULONG64 NowMs, ULONG Sender, ULONG Target)
{
    const ULONG Address = Client->Offer.Address;

    if (Client->State != DhcpProbing || (Sender != Address && (Sender != 0 || Target != Address))) {
        return FALSE;
    }
    Client->DeclineCount++;
    DhcpSend(Client, DhcpDecline, IPV4_BROADCAST);
    DhcpPause(Client, NowMs, STATUS_DEVICE_PROTOCOL_ERROR);
    return TRUE;
}

VOID DhcpRelease(PDHCP_CLIENT Client)
{
    if (DhcpHasLease(Client)) {
        Client->TransactionId = DhcpNextRandom(Client);
        DhcpSend(Client, DhcpReleaseMessage, Client->Lease.ServerId);
        RtlZeroMemory(&Client->Lease, sizeof(Client->Lease));
    }
    DhcpEnter(Client, DhcpIdle, DHCP_NEVER);
}
