// The self-test: the card by itself, with frames that come back from the PHY's loopback. Nobody else is
// needed, and no link.
//
// The adapter's rings are halted and drained meanwhile; the test has small ones of its own, in one
// common buffer, and looks at their "done" bits. So nothing of the test gets into what the adapter
// receives, nor the other way round.
//
//   one block:  receive ring | transmit ring | receive buffers | the frame that is sent
#include "e1000.h"

#define TEST_RING_COUNT 16u
#define TEST_TRANSMIT_OFFSET 2048u // in the first page
#define TEST_BUFFERS_OFFSET PAGE_SIZE
#define TEST_FRAME_OFFSET (TEST_BUFFERS_OFFSET + TEST_RING_COUNT * E1000_BUFFER_BYTES)
#define TEST_FRAME_BYTES 4096u
#define TEST_BLOCK_BYTES (TEST_FRAME_OFFSET + TEST_FRAME_BYTES)

#define TEST_FIRST_MS 3000u // until the loopback is up; QEMU's second after RCTL, too
#define TEST_FRAME_MS 200u
#define TEST_INTERRUPT_MS 200u
#define TEST_DRAIN_MS 1000u

typedef struct _E1000_TEST {
    PE1000_ADAPTER Adapter;
    E1000_DMA_BLOCK Block;
    volatile E1000_RECEIVE_DESCRIPTOR *Receive;
    volatile E1000_TRANSMIT_DESCRIPTOR *Transmit;
    PUCHAR Frame;
    ULONG ReceiveNext;
    ULONG TransmitNext;
    ULONG FramesLooped;
} E1000_TEST, *PE1000_TEST;

// -------------------------------------------------------------------------------------------------
// The test's rings.

static ULONG64 TestAddress(const E1000_TEST *Test, ULONG Offset)
{
    return (ULONG64)Test->Block.Address.QuadPart + Offset;
}

static VOID TestGiveBuffer(const E1000_TEST *Test, ULONG Index)
{
    Test->Receive[Index].BufferAddress =
        TestAddress(Test, TEST_BUFFERS_OFFSET + Index * E1000_BUFFER_BYTES);
    Test->Receive[Index].Result = 0;
}

static VOID TestProgram(PE1000_TEST Test)
{
    const PE1000_ADAPTER Adapter = Test->Adapter;

    for (ULONG Index = 0; Index < TEST_RING_COUNT; Index += 1) {
        TestGiveBuffer(Test, Index);
    }
    E1000ProgramGeneral(Adapter);
    E1000ProgramRings(Adapter, TestAddress(Test, 0), TEST_RING_COUNT,
                      TestAddress(Test, TEST_TRANSMIT_OFFSET), TEST_RING_COUNT);
    E1000ProgramStation(Adapter, 0, Adapter->MacAddress);
    E1000WriteRegister(Adapter, E1000_RDT, TEST_RING_COUNT - 1);
    E1000WriteRegister(Adapter, E1000_CTRL,
                       E1000ReadRegister(Adapter, E1000_CTRL) | E1000_CTRL_VME);
    E1000WriteRegister(Adapter, E1000_RCTL,
                       E1000_RCTL_EN | E1000_RCTL_SECRC | E1000_RCTL_UPE | E1000_RCTL_BAM);
}

static VOID TestPut(PE1000_TEST Test, ULONG64 First, ULONG64 Second)
{
    Test->Transmit[Test->TransmitNext].BufferAddress = First;
    Test->Transmit[Test->TransmitNext].Command = Second;
    Test->TransmitNext = (Test->TransmitNext + 1) % TEST_RING_COUNT;
}

// Sends the frame that is built, as the flags of Frame say.
static BOOLEAN TestSend(PE1000_TEST Test, const NET_FRAME *Frame)
{
    E1000_OFFLOAD Offload;

    if (!NT_SUCCESS(E1000PlanOffload(Frame, NET_STANDARD_FRAME_BYTES, TRUE, &Offload))) {
        return FALSE;
    }
    if (Offload.HasContext) {
        TestPut(Test, Offload.ContextPlaces, Offload.ContextCommand);
    }
    TestPut(Test, TestAddress(Test, TEST_FRAME_OFFSET),
            Offload.DataCommand | E1000_TRANSMIT_EOP | E1000_TRANSMIT_RS | Frame->ByteCount);
    KeMemoryBarrier();
    E1000WriteRegister(Test->Adapter, E1000_TDT, Test->TransmitNext);
    return TRUE;
}

// Waits for a frame. Returns its result; 0: none came. Its bytes stay until TestDrop.
static ULONG64 TestAwait(const E1000_TEST *Test, ULONG Milliseconds, const UCHAR **Bytes)
{
    const E1000_DEADLINE Deadline = E1000StartDeadline(Milliseconds);

    *Bytes = Test->Block.Va + TEST_BUFFERS_OFFSET + Test->ReceiveNext * E1000_BUFFER_BYTES;
    for (BOOLEAN IsOver = FALSE;; IsOver = E1000IsDeadlineOver(Deadline)) {
        const ULONG64 Result = Test->Receive[Test->ReceiveNext].Result;
        if (Result & E1000_RECEIVE_DD) {
            KeMemoryBarrier();
            return Result;
        }
        if (IsOver) {
            return 0;
        }
        E1000Sleep(1);
    }
}

static VOID TestDrop(PE1000_TEST Test)
{
    const ULONG Index = Test->ReceiveNext;

    TestGiveBuffer(Test, Index);
    Test->ReceiveNext = (Index + 1) % TEST_RING_COUNT;
    Test->FramesLooped += 1;
    KeMemoryBarrier();
    E1000WriteRegister(Test->Adapter, E1000_RDT, Index);
}

// -------------------------------------------------------------------------------------------------
// Frames.

static VOID TestStore16(PUCHAR Bytes, ULONG Value)
{
    Bytes[0] = (UCHAR)(Value >> 8);
    Bytes[1] = (UCHAR)Value;
}

static ULONG TestLoad16(const UCHAR *Bytes)
{
    return (ULONG)(Bytes[0] << 8 | Bytes[1]);
}

// The Internet checksum's sum, folded and not complemented.
static ULONG TestSum(const UCHAR *Bytes, ULONG ByteCount, ULONG Sum)
{
    for (ULONG Index = 0; Index < ByteCount; Index += 1) {
        Sum += Index % 2 == 0 ? (ULONG)(Bytes[Index] << 8) : Bytes[Index];
    }
    while (Sum >> 16 != 0) {
        Sum = (Sum & 0xFFFF) + (Sum >> 16);
    }
    return Sum;
}

// To our own address, of a type that nobody uses, with bytes that depend on the length.
static VOID TestBuildPlain(const E1000_TEST *Test, ULONG ByteCount)
{
    RtlCopyMemory(Test->Frame, Test->Adapter->MacAddress, NET_ETHERNET_ADDRESS_BYTES);
    RtlCopyMemory(Test->Frame + 6, Test->Adapter->MacAddress, NET_ETHERNET_ADDRESS_BYTES);
    TestStore16(Test->Frame + 12, 0x88B5); // for local experiments
    for (ULONG Index = NET_ETHERNET_HEADER_BYTES; Index < ByteCount; Index += 1) {
        Test->Frame[Index] = (UCHAR)(Index * 7 + ByteCount);
    }
}

#define TEST_NETWORK 14u
#define TEST_TRANSPORT 34u
#define TEST_TCP_HEADERS 54u
#define TEST_TCP 6u
#define TEST_UDP 17u

// The sum over addresses, protocol and length: what stands in front of TCP and UDP in their checksums.
static ULONG TestPseudoSum(const UCHAR *Frame, ULONG Protocol, ULONG Length)
{
    return TestSum(Frame + TEST_NETWORK + 12, 8, Protocol + Length);
}

// An IPv4 datagram in a frame of ByteCount bytes, all checksums still to be filled in.
static VOID TestBuildIpv4(const E1000_TEST *Test, ULONG ByteCount, ULONG Protocol,
                          ULONG PseudoLength)
{
    static const UCHAR Header[] = {0x45, 0, 0,  0, 0, 0, 0,  0, 64, 0,
                                   0,    0, 10, 9, 8, 7, 10, 9, 8,  6};
    const PUCHAR Network = Test->Frame + TEST_NETWORK;
    const PUCHAR Transport = Test->Frame + TEST_TRANSPORT;

    TestBuildPlain(Test, ByteCount);
    TestStore16(Test->Frame + 12, 0x0800);
    RtlCopyMemory(Network, Header, sizeof(Header));
    Network[9] = (UCHAR)Protocol;
    TestStore16(Network + 2, ByteCount - TEST_NETWORK);
    const ULONG Sum = TestPseudoSum(Test->Frame, Protocol, PseudoLength);
    if (Protocol == TEST_UDP) {
        TestStore16(Transport + 4, ByteCount - TEST_TRANSPORT);
        TestStore16(Transport + 6, Sum);
    } else {
        TestStore16(Transport + 4, 0); // sequence number 0x1000
        TestStore16(Transport + 6, 0x1000);
        TestStore16(Transport + 12, 0x5018); // 20 bytes of header; PSH, ACK
        TestStore16(Transport + 16, Sum);
    }
}

static BOOLEAN TestAreChecksumsGood(const UCHAR *Frame, ULONG ByteCount, ULONG Protocol)
{
    const ULONG Length = ByteCount - TEST_TRANSPORT;
    const ULONG Sum = TestPseudoSum(Frame, Protocol, Length);

    return TestSum(Frame + TEST_NETWORK, 20, 0) == 0xFFFF &&
           TestSum(Frame + TEST_TRANSPORT, Length, Sum) == 0xFFFF;
}

// -------------------------------------------------------------------------------------------------
// The tests.

typedef BOOLEAN E1000_TEST_ROUTINE(PE1000_TEST Test);

// Registers that hold every bit, of the units that are stopped.
static BOOLEAN TestRegisters(PE1000_TEST Test)
{
    static const ULONG Offsets[] = {E1000_RDBAH, E1000_TDBAH, E1000_MTA + 12, E1000_VFTA + 20,
                                    E1000_RAL + 5 * E1000_RA_STRIDE};
    static const ULONG Patterns[] = {0x5A5A5A5A, 0xA5A5A5A5, 0};

    for (ULONG Index = 0; Index < ARRAYSIZE(Offsets) * ARRAYSIZE(Patterns); Index += 1) {
        const ULONG Offset = Offsets[Index / ARRAYSIZE(Patterns)];
        const ULONG Pattern = Patterns[Index % ARRAYSIZE(Patterns)];
        E1000WriteRegister(Test->Adapter, Offset, Pattern);
        if (E1000ReadRegister(Test->Adapter, Offset) != Pattern) {
            DbgPrint("e1000: register 0x%x does not hold 0x%08x.\n", Offset, Pattern);
            return FALSE;
        }
    }
    return TRUE;
}

static BOOLEAN TestEeprom(PE1000_TEST Test)
{
    return NT_SUCCESS(E1000ReadMacAddress(Test->Adapter));
}

static BOOLEAN TestPhy(PE1000_TEST Test)
{
    TestProgram(Test);
    return NT_SUCCESS(E1000SetLoopback(Test->Adapter, TRUE));
}

// The rings are halted, so that what the interrupt brings about does nothing.
static BOOLEAN TestInterrupt(PE1000_TEST Test)
{
    const PE1000_ADAPTER Adapter = Test->Adapter;
    const E1000_DEADLINE Deadline = E1000StartDeadline(TEST_INTERRUPT_MS);
    const ULONG64 Before = Adapter->InterruptCount;

    E1000WriteRegister(Adapter, E1000_IMS, E1000_ICR_RXDMT0);
    E1000WriteRegister(Adapter, E1000_ICS, E1000_ICR_RXDMT0);
    while (Adapter->InterruptCount == Before && !E1000IsDeadlineOver(Deadline)) {
        E1000Sleep(1);
    }
    E1000WriteRegister(Adapter, E1000_IMC, MAXULONG);
    return Adapter->InterruptCount != Before;
}

// Sends a plain frame and compares what comes back.
static BOOLEAN TestLoopPlain(PE1000_TEST Test, ULONG ByteCount, ULONG Milliseconds)
{
    const NET_FRAME Frame = {.ByteCount = ByteCount};
    const UCHAR *Bytes;

    TestBuildPlain(Test, ByteCount);
    const ULONG64 Result = TestSend(Test, &Frame) ? TestAwait(Test, Milliseconds, &Bytes) : 0;
    if (Result == 0) {
        return FALSE;
    }
    const BOOLEAN IsGood = !(Result & E1000_RECEIVE_ERRORS) && (Result & E1000_RECEIVE_EOP) &&
                           E1000_RECEIVE_BYTES(Result) == ByteCount &&
                           RtlEqualMemory(Bytes, Test->Frame, ByteCount);
    TestDrop(Test);
    return IsGood;
}

static BOOLEAN TestFrames(PE1000_TEST Test)
{
    static const ULONG Lengths[] = {60, 61, 64, 512, 1513, 1514};
    const E1000_DEADLINE Deadline = E1000StartDeadline(TEST_FIRST_MS);

    while (!TestLoopPlain(Test, Lengths[0], TEST_FRAME_MS)) {
        if (E1000IsDeadlineOver(Deadline)) {
            return FALSE;
        }
    }
    for (ULONG Index = 0; Index < ARRAYSIZE(Lengths); Index += 1) {
        if (!TestLoopPlain(Test, Lengths[Index], TEST_FRAME_MS)) {
            return FALSE;
        }
    }
    return TRUE;
}

static BOOLEAN TestChecksum(PE1000_TEST Test)
{
    const ULONG ByteCount = 301; // an odd number
    const NET_FRAME Frame = {.ByteCount = ByteCount,
                             .Flags = NET_FRAME_IPV4_CHECKSUM | NET_FRAME_UDP_CHECKSUM,
                             .NetworkOffset = TEST_NETWORK,
                             .TransportOffset = TEST_TRANSPORT};
    const UCHAR *Bytes;

    TestBuildIpv4(Test, ByteCount, TEST_UDP, ByteCount - TEST_TRANSPORT);
    const ULONG64 Result = TestSend(Test, &Frame) ? TestAwait(Test, TEST_FRAME_MS, &Bytes) : 0;
    if (Result == 0) {
        return FALSE;
    }
    const BOOLEAN IsGood = E1000_RECEIVE_BYTES(Result) == ByteCount &&
                           TestAreChecksumsGood(Bytes, ByteCount, TEST_UDP);
    TestDrop(Test);
    return IsGood;
}

// 2,500 bytes in pieces of 1,000: each with its own sequence number, and the end with the flag PSH.
static BOOLEAN TestSegment(PE1000_TEST Test)
{
    const ULONG Payload = 2500;
    const ULONG SegmentBytes = 1000;
    const ULONG ByteCount = TEST_TCP_HEADERS + Payload;
    const NET_FRAME Frame = {.ByteCount = ByteCount,
                             .Flags = NET_FRAME_SEGMENT,
                             .SegmentBytes = SegmentBytes,
                             .HeaderBytes = TEST_TCP_HEADERS,
                             .NetworkOffset = TEST_NETWORK,
                             .TransportOffset = TEST_TRANSPORT};
    BOOLEAN IsGood = TRUE;

    TestBuildIpv4(Test, ByteCount, TEST_TCP, 0);
    if (!TestSend(Test, &Frame)) {
        return FALSE;
    }
    for (ULONG Done = 0; Done < Payload; Done += SegmentBytes) {
        const ULONG Left = Payload - Done;
        const ULONG Bytes = Left < SegmentBytes ? Left : SegmentBytes;
        const UCHAR *Piece;
        const ULONG64 Result = TestAwait(Test, TEST_FRAME_MS, &Piece);
        if (Result == 0) {
            return FALSE;
        }
        const BOOLEAN IsLast = Left <= SegmentBytes;
        IsGood =
            IsGood && E1000_RECEIVE_BYTES(Result) == TEST_TCP_HEADERS + Bytes &&
            TestLoad16(Piece + TEST_NETWORK + 2) == 40 + Bytes &&
            TestLoad16(Piece + TEST_TRANSPORT + 6) == 0x1000 + Done &&
            TestLoad16(Piece + TEST_TRANSPORT + 12) == (IsLast ? 0x5018u : 0x5010u) &&
            TestAreChecksumsGood(Piece, TEST_TCP_HEADERS + Bytes, TEST_TCP) &&
            RtlEqualMemory(Piece + TEST_TCP_HEADERS, Test->Frame + TEST_TCP_HEADERS + Done, Bytes);
        TestDrop(Test);
    }
    return IsGood;
}

static BOOLEAN TestVlan(PE1000_TEST Test)
{
    const USHORT Tag = 0x6123;
    const NET_FRAME Frame = {.ByteCount = 100, .Flags = NET_FRAME_VLAN, .VlanTag = Tag};
    const UCHAR *Bytes;

    TestBuildPlain(Test, Frame.ByteCount);
    const ULONG64 Result = TestSend(Test, &Frame) ? TestAwait(Test, TEST_FRAME_MS, &Bytes) : 0;
    if (Result == 0) {
        return FALSE;
    }
    const BOOLEAN IsGood = (Result & E1000_RECEIVE_VP) != 0 && E1000_RECEIVE_TAG(Result) == Tag &&
                           E1000_RECEIVE_BYTES(Result) == Frame.ByteCount &&
                           RtlEqualMemory(Bytes, Test->Frame, Frame.ByteCount);
    TestDrop(Test);
    return IsGood;
}

// In this order. What needs frames is left out when none come back.
static const struct {
    ULONG Bit;
    E1000_TEST_ROUTINE *Routine;
    ULONG Needs;
} E1000Tests[] = {
    {NET_TEST_REGISTERS, TestRegisters, 0},
    {NET_TEST_EEPROM, TestEeprom, 0},
    {NET_TEST_PHY, TestPhy, 0},
    {NET_TEST_INTERRUPT, TestInterrupt, 0},
    {NET_TEST_FRAMES, TestFrames, NET_TEST_PHY},
    {NET_TEST_CHECKSUM, TestChecksum, NET_TEST_FRAMES},
    {NET_TEST_SEGMENT, TestSegment, NET_TEST_FRAMES},
    {NET_TEST_VLAN, TestVlan, NET_TEST_FRAMES},
};

static VOID TestRunAll(PE1000_TEST Test, PNET_SELF_TEST Result)
{
    for (ULONG Row = 0; Row < ARRAYSIZE(E1000Tests); Row += 1) {
        if ((Result->Passed & E1000Tests[Row].Needs) != E1000Tests[Row].Needs) {
            continue;
        }
        Result->Done |= E1000Tests[Row].Bit;
        Result->Passed |= E1000Tests[Row].Routine(Test) ? E1000Tests[Row].Bit : 0;
    }
    Result->FramesLooped = Test->FramesLooped;
}

NTSTATUS E1000SelfTest(PE1000_ADAPTER Adapter, PNET_SELF_TEST Result)
{
    E1000_TEST Test = {.Adapter = Adapter};

    RtlZeroMemory(Result, sizeof(*Result));
    const NTSTATUS Status = E1000AllocateBlock(Adapter, &Test.Block, TEST_BLOCK_BYTES);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    Test.Receive = (volatile E1000_RECEIVE_DESCRIPTOR *)Test.Block.Va;
    Test.Transmit = (volatile E1000_TRANSMIT_DESCRIPTOR *)(Test.Block.Va + TEST_TRANSMIT_OFFSET);
    Test.Frame = Test.Block.Va + TEST_FRAME_OFFSET;
    E1000HaltTransmit(Adapter, TRUE);
    E1000DrainTransmit(Adapter, TEST_DRAIN_MS);
    E1000HaltReceive(Adapter, TRUE);
    E1000ReadStatistics(Adapter);
    if (NT_SUCCESS(E1000QuiesceDma(Adapter))) {
        E1000EndTransmit(Adapter, STATUS_IO_TIMEOUT);
        TestRunAll(&Test, Result);
        (VOID) E1000SetLoopback(Adapter, FALSE);
    }
    // Quiets the card, or finds that it can't be: only then is the block the card's no more.
    E1000Restart(Adapter, STATUS_IO_TIMEOUT);
    E1000FreeBlock(Adapter, &Test.Block);
    return Adapter->State == E1000Started ? STATUS_SUCCESS : STATUS_DEVICE_DOES_NOT_EXIST;
}
