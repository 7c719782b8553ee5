// The network card's driver with frames that come back: the PHY's loopback needs no host, no link and
// nobody else's frames. What is sent is built here, what comes back is compared byte by byte.
//
// QEMU drops what is looped back for a second after each write of RCTL; so after each change of options
// or modes a probe is sent until it returns. All of them take a minute: they run where the boot option
// `loopback` asks for them, in the rows of the network card.
#include <ntddnet.h>

#include "kernel/inc/io.h"
#include "tests/kernel/tests.h"

#define LOOP_BLOCK_BYTES (128 * KT_KIB) // what frames are built in, nonpaged pool
#define LOOP_FRAMES 512u
#define LOOP_UP_MS 4000u
#define LOOP_FRAME_MS 300u // a frame that should come
#define LOOP_NONE_MS 60u   // a frame that should not
#define LOOP_SEND_MS 8000u // more than the watchdog's patience
#define LOOP_TYPE 0x88B5u  // for local experiments
#define LOOP_PROBE_TYPE 0x88B6u

typedef struct _LOOP_IRP {
    PIRP Irp;
    KEVENT Done;
} LOOP_IRP;

static struct {
    PDEVICE_OBJECT Device;
    UCHAR Address[NET_ETHERNET_ADDRESS_BYTES];
    NET_OPTIONS Saved;
    PUCHAR Block;
    NET_FRAME *Frames;
    ULONG MdlCount;
    PMDL Mdls[LOOP_FRAMES + 64];
} Loop;

// -------------------------------------------------------------------------------------------------
// Requests.

static NTSTATUS LoopControl(ULONG Code, PVOID Input, ULONG InputBytes, PVOID Output,
                            ULONG OutputBytes)
{
    ULONG_PTR Information;
    return IoControlSynchronously(Loop.Device, Code, Input, InputBytes, Output, OutputBytes,
                                  &Information);
}

#define LOOP_QUERY(Code, Output) LoopControl(Code, NULL, 0, Output, sizeof(*(Output)))
#define LOOP_SET(Code, Input) LoopControl(Code, Input, sizeof(*(Input)), NULL, 0)

static NTSTATUS NTAPI LoopIsDone(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    UNREFERENCED_PARAMETER(Irp);
    KeSetEvent(Context, IO_NO_INCREMENT, FALSE);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

// Begins a request for frames. FALSE: no IRP.
static BOOLEAN LoopAsk(LOOP_IRP *Request, ULONG Code, PVOID Input)
{
    KeInitializeEvent(&Request->Done, NotificationEvent, FALSE);
    Request->Irp = IoAllocateIrp(Loop.Device->StackSize, FALSE);
    if (!KT_CHECK(Request->Irp != NULL)) {
        return FALSE;
    }
    const PIO_STACK_LOCATION Stack = IoGetNextIrpStackLocation(Request->Irp);
    Stack->MajorFunction = IRP_MJ_INTERNAL_DEVICE_CONTROL;
    Stack->Parameters.DeviceIoControl.IoControlCode = Code;
    Stack->Parameters.DeviceIoControl.Type3InputBuffer = Input;
    IoSetCompletionRoutine(Request->Irp, LoopIsDone, &Request->Done, TRUE, TRUE, TRUE);
    (VOID) IoCallDriver(Loop.Device, Request->Irp);
    return TRUE;
}

// Ends it; cancels it when it takes longer.
static NTSTATUS LoopEndRequest(LOOP_IRP *Request, ULONG Milliseconds, PULONG_PTR Information)
{
    LARGE_INTEGER Timeout = {.QuadPart = -10000ll * Milliseconds};
    if (KeWaitForSingleObject(&Request->Done, Executive, KernelMode, FALSE, &Timeout) !=
        STATUS_SUCCESS) {
        IoCancelIrp(Request->Irp);
        KeWaitForSingleObject(&Request->Done, Executive, KernelMode, FALSE, NULL);
    }
    const NTSTATUS Status = Request->Irp->IoStatus.Status;
    *Information = Request->Irp->IoStatus.Information;
    IoFreeIrp(Request->Irp);
    return Status;
}

static NTSTATUS LoopSend(NET_FRAME *First, PULONG_PTR SentCount)
{
    LOOP_IRP Request;
    *SentCount = 0;
    return LoopAsk(&Request, IOCTL_NET_SEND, First)
               ? LoopEndRequest(&Request, LOOP_SEND_MS, SentCount)
               : STATUS_INSUFFICIENT_RESOURCES;
}

static VOID LoopReturn(NET_FRAME *First)
{
    LOOP_IRP Request;
    ULONG_PTR Information;
    if (First != NULL && LoopAsk(&Request, IOCTL_NET_RETURN, First)) {
        KT_EQUAL(LoopEndRequest(&Request, 1000, &Information), STATUS_SUCCESS);
    }
}

// At most so many frames, to be returned; NULL: none within the time.
static NET_FRAME *LoopReceive(ULONG MaximumCount, ULONG Milliseconds)
{
    NET_RECEIVE Receive = {.MaximumCount = MaximumCount};
    LOOP_IRP Request;
    ULONG_PTR Count;
    if (!LoopAsk(&Request, IOCTL_NET_RECEIVE, &Receive)) {
        return NULL;
    }
    const NTSTATUS Status = LoopEndRequest(&Request, Milliseconds, &Count);
    return NT_SUCCESS(Status) ? Receive.Received : NULL;
}

// -------------------------------------------------------------------------------------------------
// Frames. Frame i of a test has MDLs of its own on a piece of the block.

static VOID LoopFreeMdls(VOID)
{
    for (; Loop.MdlCount > 0; Loop.MdlCount -= 1) {
        IoFreeMdl(Loop.Mdls[Loop.MdlCount - 1]);
    }
}

static PMDL LoopMakeMdl(ULONG Offset, ULONG ByteCount)
{
    const PMDL Mdl = IoAllocateMdl(Loop.Block + Offset, ByteCount, FALSE, FALSE, NULL);
    if (KT_CHECK(Mdl != NULL)) {
        MmBuildMdlForNonPagedPool(Mdl);
        Loop.Mdls[Loop.MdlCount] = Mdl;
        Loop.MdlCount += 1;
    }
    return Mdl;
}

static VOID LoopStore16(PUCHAR Bytes, ULONG Value)
{
    Bytes[0] = (UCHAR)(Value >> 8);
    Bytes[1] = (UCHAR)Value;
}

static ULONG LoopLoad16(const UCHAR *Bytes)
{
    return (ULONG)(Bytes[0] << 8 | Bytes[1]);
}

// A frame to Destination at an offset in the block, with bytes that depend on Seed.
static NET_FRAME *LoopBuild(ULONG Index, ULONG Offset, ULONG ByteCount, const UCHAR *Destination,
                            ULONG Seed)
{
    NET_FRAME *const Frame = &Loop.Frames[Index];
    const PUCHAR Bytes = Loop.Block + Offset;
    RtlZeroMemory(Frame, sizeof(*Frame));
    RtlCopyMemory(Bytes, Destination, NET_ETHERNET_ADDRESS_BYTES);
    RtlCopyMemory(Bytes + 6, Loop.Address, NET_ETHERNET_ADDRESS_BYTES);
    LoopStore16(Bytes + 12, LOOP_TYPE);
    for (ULONG Byte = NET_ETHERNET_HEADER_BYTES; Byte < ByteCount; Byte += 1) {
        Bytes[Byte] = (UCHAR)(Seed * 13 + Byte * 7);
    }
    Frame->Mdl = LoopMakeMdl(Offset, ByteCount);
    Frame->ByteCount = ByteCount;
    Frame->Status = STATUS_PENDING;
    return Frame;
}

// Copies a received frame out of its chain.
static VOID LoopGather(const NET_FRAME *Frame, PUCHAR Bytes)
{
    ULONG Done = 0;
    for (PMDL Mdl = Frame->Mdl; Mdl != NULL && Done < Frame->ByteCount; Mdl = Mdl->Next) {
        const ULONG Left = Frame->ByteCount - Done;
        const ULONG Part = Left < MmGetMdlByteCount(Mdl) ? Left : MmGetMdlByteCount(Mdl);
        RtlCopyMemory(Bytes + Done, MmGetSystemAddressForMdlSafe(Mdl, NormalPagePriority), Part);
        Done += Part;
    }
    KT_EQUAL(Done, Frame->ByteCount);
}

static const UCHAR *LoopBytes(const NET_FRAME *Frame)
{
    return MmGetSystemAddressForMdlSafe(Frame->Mdl, NormalPagePriority);
}

// Whether a received frame is what was built, padded where it was shorter than 60 bytes.
static BOOLEAN LoopIsSame(const NET_FRAME *Received, ULONG Offset, ULONG ByteCount)
{
    const ULONG OnTheWire = ByteCount < 60 ? 60 : ByteCount;
    const PUCHAR Copy = Loop.Block + LOOP_BLOCK_BYTES - 16 * KT_KIB;
    if (!KT_EQUAL(Received->ByteCount, OnTheWire)) {
        return FALSE;
    }
    LoopGather(Received, Copy);
    BOOLEAN IsPadded = TRUE;
    for (ULONG Byte = ByteCount; Byte < OnTheWire; Byte += 1) {
        IsPadded = IsPadded && Copy[Byte] == 0;
    }
    return KT_CHECK(IsPadded) & KT_CHECK(RtlEqualMemory(Copy, Loop.Block + Offset, ByteCount));
}

// Sends one frame and compares what comes back.
static BOOLEAN LoopExchange(NET_FRAME *Frame, ULONG Offset)
{
    ULONG_PTR Count;
    BOOLEAN IsSame = FALSE;
    if (!KT_EQUAL(LoopSend(Frame, &Count), STATUS_SUCCESS) || !KT_EQUAL(Count, 1) ||
        !KT_EQUAL(Frame->Status, STATUS_SUCCESS)) {
        return FALSE;
    }
    NET_FRAME *const Received = LoopReceive(1, LOOP_FRAME_MS);
    if (KT_CHECK(Received != NULL)) {
        IsSame = LoopIsSame(Received, Offset, Frame->ByteCount);
    }
    LoopReturn(Received);
    return IsSame;
}

// Whether a frame to that address comes back.
static BOOLEAN LoopPasses(const UCHAR *Destination)
{
    ULONG_PTR Count;
    KT_EQUAL(LoopSend(LoopBuild(0, 0, 64, Destination, 1), &Count), STATUS_SUCCESS);
    LoopFreeMdls();
    NET_FRAME *const Received = LoopReceive(1, LOOP_NONE_MS);
    LoopReturn(Received);
    return Received != NULL;
}

// Sends probes until one comes back.
static BOOLEAN LoopAwaitTraffic(VOID)
{
    for (ULONG Waited = 0; Waited < LOOP_UP_MS; Waited += LOOP_NONE_MS) {
        ULONG_PTR Count;
        NET_FRAME *const Probe = LoopBuild(0, 0, 64, Loop.Address, 0);
        LoopStore16(Loop.Block + 12, LOOP_PROBE_TYPE);
        (VOID) LoopSend(Probe, &Count);
        LoopFreeMdls();
        NET_FRAME *const Received = LoopReceive(0, LOOP_NONE_MS);
        LoopReturn(Received);
        if (Received != NULL) {
            return TRUE;
        }
    }
    return KT_CHECK(FALSE);
}

// The card's registers, by a mapping of the test's own.
static const IO_PCI_BAR *LoopBar(VOID)
{
    const IO_PCI_FUNCTION *Function = IoNextPciFunction(NULL);
    while (Function->VendorId != 0x8086 || Function->DeviceId != 0x100E) {
        Function = IoNextPciFunction(Function);
    }
    return &Function->Bars[0];
}

static PUCHAR LoopMapRegisters(VOID)
{
    const IO_PCI_BAR *const Bar = LoopBar();
    return MmMapIoSpaceEx(KtPhysical(Bar->Base), Bar->ByteCount, PAGE_READWRITE | PAGE_NOCACHE);
}

static VOID LoopUnmapRegisters(PUCHAR Registers)
{
    MmUnmapIoSpace(Registers, LoopBar()->ByteCount);
}

// -------------------------------------------------------------------------------------------------
// The loop, for one test.

static BOOLEAN LoopSetOptions(const NET_OPTIONS *Options)
{
    NET_OPTIONS Copy = *Options;
    return KT_EQUAL(LOOP_SET(IOCTL_NET_SET_OPTIONS, &Copy), STATUS_SUCCESS) && LoopAwaitTraffic();
}

static NET_OPTIONS LoopOptions(VOID)
{
    NET_OPTIONS Options = Loop.Saved;
    Options.Loopback = 1;
    return Options;
}

static BOOLEAN LoopAllocate(VOID)
{
    Loop.Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, LOOP_BLOCK_BYTES, KT_TAG);
    Loop.Frames = ExAllocatePool2(POOL_FLAG_NON_PAGED, LOOP_FRAMES * sizeof(NET_FRAME), KT_TAG);
    Loop.MdlCount = 0;
    return KT_CHECK(Loop.Block != NULL && Loop.Frames != NULL);
}

static BOOLEAN LoopBegin(VOID)
{
    NET_ADAPTER_INFORMATION Information;
    Loop.Device = IoFindDevice(FILE_DEVICE_PHYSICAL_NETCARD, 0);
    if (!LoopAllocate() ||
        !KT_EQUAL(LOOP_QUERY(IOCTL_NET_QUERY_ADAPTER, &Information), STATUS_SUCCESS) ||
        !KT_EQUAL(LOOP_QUERY(IOCTL_NET_QUERY_OPTIONS, &Loop.Saved), STATUS_SUCCESS)) {
        return FALSE;
    }
    RtlCopyMemory(Loop.Address, Information.EthernetAddress, sizeof(Loop.Address));
    const NET_OPTIONS Options = LoopOptions();
    return LoopSetOptions(&Options);
}

// Waits for the link that the PHY negotiates anew: half a second in QEMU.
static VOID LoopAwaitLink(VOID)
{
    NET_EVENT Event = {0};
    ULONG Seen = 0;
    for (ULONG Round = 0; Round < 8 && !Event.LinkUp; Round += 1) {
        ULONG_PTR Information;
        const NTSTATUS Status =
            IoControlSynchronously(Loop.Device, IOCTL_NET_WAIT_EVENT, &Seen, sizeof(Seen), &Event,
                                   sizeof(Event), &Information);
        if (!KT_EQUAL(Status, STATUS_SUCCESS)) {
            return;
        }
        Seen = Event.Sequence;
    }
    KT_EQUAL(Event.LinkUp, TRUE);
}

static VOID LoopEnd(VOID)
{
    LoopFreeMdls();
    if (Loop.Frames != NULL) {
        KT_EQUAL(LOOP_SET(IOCTL_NET_SET_OPTIONS, &Loop.Saved), STATUS_SUCCESS);
        LoopAwaitLink();
        ExFreePoolWithTag(Loop.Frames, KT_TAG);
        Loop.Frames = NULL;
    }
    if (Loop.Block != NULL) {
        ExFreePoolWithTag(Loop.Block, KT_TAG);
        Loop.Block = NULL;
    }
    // Rings of another size have been there: blocks lie in other pages now.
    KtKeepWhatIsHeld();
}

// Runs a test's body in the loop.
static VOID LoopRun(VOID (*Body)(VOID))
{
    if (IoFindDevice(FILE_DEVICE_PHYSICAL_NETCARD, 0) == NULL) {
        KT_SKIP("no network card");
    }
    if (!KtHasOption("loopback")) {
        KT_SKIP("takes a minute; boot option loopback");
    }
    if (LoopBegin()) {
        Body();
    }
    LoopEnd();
}

#define LOOP_TEST(Name)                                                                            \
    static VOID Name##Body(VOID);                                                                  \
    static VOID Name(VOID)                                                                         \
    {                                                                                              \
        LoopRun(Name##Body);                                                                       \
    }                                                                                              \
    static VOID Name##Body(VOID)

// -------------------------------------------------------------------------------------------------
// Plain frames.

// By copies, and from the pages themselves: at an odd place, across the border of two pages.
LOOP_TEST(FramesOfAllLengthsComeBack)
{
    static const ULONG CopyLimits[] = {0, 256};
    static const ULONG Lengths[] = {14, 15,  16,  42,  59,  60,   61,   63,
                                    64, 127, 255, 256, 257, 1000, 1513, 1514};
    for (ULONG Limit = 0; Limit < ARRAYSIZE(CopyLimits); Limit += 1) {
        NET_OPTIONS Options = LoopOptions();
        Options.CopyBytes = CopyLimits[Limit];
        KT_REQUIRE(KT_EQUAL(LOOP_SET(IOCTL_NET_SET_OPTIONS, &Options), STATUS_SUCCESS));
        for (ULONG Row = 0; Row < ARRAYSIZE(Lengths); Row += 1) {
            const ULONG Offset = PAGE_SIZE - 13;
            KtSetContext("%u bytes, copied up to %u", Lengths[Row], CopyLimits[Limit]);
            KT_REQUIRE(LoopExchange(LoopBuild(0, Offset, Lengths[Row], Loop.Address, Row), Offset));
            LoopFreeMdls();
        }
    }
}

LOOP_TEST(ListsComeBackInOrder)
{
    const ULONG Count = 100;
    ULONG_PTR Sent;
    for (ULONG Index = 0; Index < Count; Index += 1) {
        NET_FRAME *const Frame = LoopBuild(Index, Index * 512, 60 + Index * 4, Loop.Address, Index);
        Frame->Next = Index + 1 < Count ? Frame + 1 : NULL;
    }
    KT_EQUAL(LoopSend(&Loop.Frames[0], &Sent), STATUS_SUCCESS);
    KT_EQUAL(Sent, Count);
    ULONG Seen = 0;
    while (Seen < Count) {
        NET_FRAME *const First = LoopReceive(0, LOOP_FRAME_MS);
        KT_REQUIRE(First != NULL);
        for (NET_FRAME *Frame = First; Frame != NULL; Frame = Frame->Next, Seen += 1) {
            KtSetContext("frame %u", Seen);
            LoopIsSame(Frame, Seen * 512, 60 + Seen * 4);
        }
        LoopReturn(First);
    }
    KT_EQUAL(Seen, Count);
}

// One byte, an odd number, none of the frame, a page's end.
LOOP_TEST(ChainOfMdlsIsOneFrame)
{
    static const ULONG Parts[] = {1, 13, 46, 640, 7, 793};
    ULONG Offset = 5000;
    NET_FRAME *const Frame = LoopBuild(0, Offset, 1500, Loop.Address, 3);
    PMDL Last = NULL;
    for (ULONG Part = 0; Part < ARRAYSIZE(Parts); Part += 1) {
        const PMDL Mdl = LoopMakeMdl(Offset, Parts[Part]);
        KT_REQUIRE(Mdl != NULL);
        if (Last == NULL) {
            Frame->Mdl = Mdl;
        } else {
            Last->Next = Mdl;
        }
        Last = Mdl;
        Offset += Parts[Part];
    }
    LoopExchange(Frame, 5000);
    // The same without its first MDL: Offset leads into the second. A frame to somebody else.
    Frame->Offset = 1;
    Frame->ByteCount = 1499;
    ULONG_PTR Count;
    KT_EQUAL(LoopSend(Frame, &Count), STATUS_SUCCESS);
    Frame->ByteCount = 1500;
    KT_EQUAL(LoopSend(Frame, &Count), STATUS_BUFFER_TOO_SMALL);
    KT_EQUAL(Count, 0);
}

LOOP_TEST(LentFramesAreSentAsTheyAre)
{
    NET_STATISTICS Before;
    NET_STATISTICS After;
    ULONG_PTR Count;
    KT_REQUIRE(KT_EQUAL(LoopSend(LoopBuild(0, 0, 1000, Loop.Address, 9), &Count), STATUS_SUCCESS));
    NET_FRAME *const Lent = LoopReceive(1, LOOP_FRAME_MS);
    KT_REQUIRE(Lent != NULL);
    KT_EQUAL(Lent->Flags & NET_FRAME_LENT, NET_FRAME_LENT);
    KT_EQUAL(LOOP_QUERY(IOCTL_NET_QUERY_STATISTICS, &Before), STATUS_SUCCESS);
    KT_EQUAL(Before.FramesLent, 1);
    Loop.Block[500] ^= 0xFF;
    ((PUCHAR)(ULONG_PTR)LoopBytes(Lent))[500] ^= 0xFF;
    KT_EQUAL(LoopSend(Lent, &Count), STATUS_SUCCESS);
    NET_FRAME *const Again = LoopReceive(1, LOOP_FRAME_MS);
    if (KT_CHECK(Again != NULL)) {
        LoopIsSame(Again, 0, 1000);
    }
    LoopReturn(Again);
    LoopReturn(Lent);
    KT_EQUAL(LOOP_QUERY(IOCTL_NET_QUERY_STATISTICS, &After), STATUS_SUCCESS);
    KT_EQUAL(After.FramesLent, 0);
    KT_EQUAL(After.FramesSent, Before.FramesSent + 1);
    KT_EQUAL(After.FramesCopied, Before.FramesCopied);
}

LOOP_TEST(WhatIsNotLentIsNotTakenBack)
{
    LOOP_IRP Request;
    ULONG_PTR Information;
    RtlZeroMemory(&Loop.Frames[0], sizeof(Loop.Frames[0]));
    if (LoopAsk(&Request, IOCTL_NET_RETURN, &Loop.Frames[0])) {
        KT_EQUAL(LoopEndRequest(&Request, 1000, &Information), STATUS_INVALID_PARAMETER);
    }
    // Nor is it sent as something that is.
    NET_FRAME *const Frame = LoopBuild(0, 0, 1000, Loop.Address, 1);
    Frame->Flags = NET_FRAME_LENT;
    KT_EQUAL(LoopSend(Frame, &Information), STATUS_INVALID_PARAMETER);
}

// -------------------------------------------------------------------------------------------------
// Jumbo frames.

LOOP_TEST(JumboFramesAreChainsOfBuffers)
{
    static const ULONG Lengths[] = {1515, 2047, 2048, 2049, 4096, 4097, 9014};
    NET_OPTIONS Options = LoopOptions();
    Options.MaximumFrameBytes = 9014;
    KT_REQUIRE(LoopSetOptions(&Options));
    for (ULONG Row = 0; Row < ARRAYSIZE(Lengths); Row += 1) {
        KtSetContext("%u bytes", Lengths[Row]);
        KT_REQUIRE(LoopExchange(LoopBuild(0, 77, Lengths[Row], Loop.Address, Row), 77));
        LoopFreeMdls();
    }
    ULONG_PTR Count;
    KT_EQUAL(LoopSend(LoopBuild(0, 0, 9015, Loop.Address, 0), &Count), STATUS_INVALID_BUFFER_SIZE);
}

// -------------------------------------------------------------------------------------------------
// Offloads.

static ULONG LoopSum(const UCHAR *Bytes, ULONG ByteCount, ULONG Sum)
{
    for (ULONG Index = 0; Index < ByteCount; Index += 1) {
        Sum += Index % 2 == 0 ? (ULONG)(Bytes[Index] << 8) : Bytes[Index];
    }
    while (Sum >> 16 != 0) {
        Sum = (Sum & 0xFFFF) + (Sum >> 16);
    }
    return Sum;
}

static ULONG LoopPseudoSum(const UCHAR *Bytes, ULONG Protocol, ULONG Length)
{
    return LoopSum(Bytes + 14 + 12, 8, Protocol + Length);
}

// An IPv4 header and TCP's or UDP's over a frame that is built, checksums still to be filled in.
static VOID LoopMakeIpv4(NET_FRAME *Frame, ULONG Offset, ULONG Protocol, ULONG PseudoLength)
{
    static const UCHAR Header[] = {0x45, 0, 0,  0, 0, 7, 0,  0, 64, 0,
                                   0,    0, 10, 1, 2, 3, 10, 4, 5,  6};
    const PUCHAR Bytes = Loop.Block + Offset;
    LoopStore16(Bytes + 12, 0x0800);
    RtlCopyMemory(Bytes + 14, Header, sizeof(Header));
    Bytes[23] = (UCHAR)Protocol;
    LoopStore16(Bytes + 16, Frame->ByteCount - 14);
    if (Protocol == 17) {
        LoopStore16(Bytes + 38, Frame->ByteCount - 34);
        LoopStore16(Bytes + 40, LoopPseudoSum(Bytes, Protocol, PseudoLength));
    } else {
        LoopStore16(Bytes + 38, 0x0001); // the sequence number: 0x0001F000
        LoopStore16(Bytes + 40, 0xF000);
        LoopStore16(Bytes + 46, 0x5019); // 20 bytes of header; FIN, PSH, ACK
        LoopStore16(Bytes + 50, LoopPseudoSum(Bytes, Protocol, PseudoLength));
    }
    Frame->NetworkOffset = 14;
    Frame->TransportOffset = 34;
}

static VOID LoopCheckIpv4(const UCHAR *Bytes, ULONG ByteCount, ULONG Protocol)
{
    KT_EQUAL(LoopSum(Bytes + 14, 20, 0), 0xFFFF);
    KT_EQUAL(LoopSum(Bytes + 34, ByteCount - 34, LoopPseudoSum(Bytes, Protocol, ByteCount - 34)),
             0xFFFF);
}

// Short ones are copied, long ones mapped; two of a kind in a row share a context descriptor.
LOOP_TEST(ChecksumsAreFilledIn)
{
    static const struct {
        ULONG ByteCount;
        ULONG Protocol;
        USHORT Flags;
    } Rows[] = {
        {64, 17, NET_FRAME_IPV4_CHECKSUM | NET_FRAME_UDP_CHECKSUM},
        {201, 17, NET_FRAME_IPV4_CHECKSUM | NET_FRAME_UDP_CHECKSUM},
        {1499, 17, NET_FRAME_IPV4_CHECKSUM | NET_FRAME_UDP_CHECKSUM},
        {1500, 6, NET_FRAME_IPV4_CHECKSUM | NET_FRAME_TCP_CHECKSUM},
        {99, 6, NET_FRAME_IPV4_CHECKSUM | NET_FRAME_TCP_CHECKSUM},
        {98, 17, NET_FRAME_IPV4_CHECKSUM | NET_FRAME_UDP_CHECKSUM},
    };
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        const ULONG ByteCount = Rows[Row].ByteCount;
        ULONG_PTR Count;
        KtSetContext("row %u", Row);
        NET_FRAME *const Frame = LoopBuild(0, 3, ByteCount, Loop.Address, Row);
        LoopMakeIpv4(Frame, 3, Rows[Row].Protocol, ByteCount - 34);
        Frame->Flags = Rows[Row].Flags;
        KT_EQUAL(LoopSend(Frame, &Count), STATUS_SUCCESS);
        NET_FRAME *const Received = LoopReceive(1, LOOP_FRAME_MS);
        if (KT_CHECK(Received != NULL) && KT_EQUAL(Received->ByteCount, ByteCount)) {
            LoopCheckIpv4(LoopBytes(Received), ByteCount, Rows[Row].Protocol);
        }
        LoopReturn(Received);
        LoopFreeMdls();
    }
}

// Checks segment after segment; what QEMU sends behind the last one, when the payload is a multiple, is
// empty.
static VOID LoopCheckSegments(ULONG Offset, ULONG Payload, ULONG SegmentBytes)
{
    ULONG Done = 0;
    while (Done < Payload) {
        const ULONG Left = Payload - Done;
        const ULONG Part = Left < SegmentBytes ? Left : SegmentBytes;
        KtSetContext("at %u of %u", Done, Payload);
        NET_FRAME *const Received = LoopReceive(1, LOOP_FRAME_MS);
        KT_REQUIRE(Received != NULL);
        const UCHAR *const Bytes = LoopBytes(Received);
        KT_EQUAL(Received->ByteCount, 54 + Part < 60 ? 60 : 54 + Part); // QEMU pads what comes in
        KT_EQUAL(LoopLoad16(Bytes + 16), 40 + Part);
        KT_EQUAL((LoopLoad16(Bytes + 38) << 16) + LoopLoad16(Bytes + 40), 0x0001F000 + Done);
        KT_EQUAL(LoopLoad16(Bytes + 18), 7 + Done / SegmentBytes); // identification
        KT_EQUAL(LoopLoad16(Bytes + 46), Left <= SegmentBytes ? 0x5019 : 0x5010);
        LoopCheckIpv4(Bytes, 54 + Part, 6);
        KT_CHECK(RtlEqualMemory(Bytes + 54, Loop.Block + Offset + 54 + Done, Part));
        LoopReturn(Received);
        Done += Part;
    }
}

LOOP_TEST(LongSegmentIsSentAsMany)
{
    static const struct {
        ULONG Payload;
        USHORT SegmentBytes;
    } Rows[] = {{3000, 1460}, {1460, 1460}, {1, 536}, {60000, 1448}};
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        ULONG_PTR Count;
        NET_FRAME *const Frame = LoopBuild(0, 99, 54 + Rows[Row].Payload, Loop.Address, Row);
        LoopMakeIpv4(Frame, 99, 6, 0);
        Frame->Flags = NET_FRAME_SEGMENT;
        Frame->SegmentBytes = Rows[Row].SegmentBytes;
        Frame->HeaderBytes = 54;
        KT_EQUAL(LoopSend(Frame, &Count), STATUS_SUCCESS);
        LoopCheckSegments(99, Rows[Row].Payload, Rows[Row].SegmentBytes);
        LoopReturn(LoopReceive(1, LOOP_NONE_MS)); // the empty one
        LoopFreeMdls();
    }
}

LOOP_TEST(WrongOffloadsAreRefused)
{
    static const struct {
        USHORT Flags;
        USHORT SegmentBytes;
        USHORT HeaderBytes;
        UCHAR NetworkOffset;
        UCHAR TransportOffset;
    } Rows[] = {
        {0x4000, 0, 0, 14, 34},                  // no such flag
        {NET_FRAME_VLAN, 0, 0, 0, 0},            // tags are not the card's business now
        {NET_FRAME_IPV4_CHECKSUM, 0, 0, 0, 0},   // no header there
        {NET_FRAME_IPV4_CHECKSUM, 0, 0, 181, 0}, // ends behind the frame
        {NET_FRAME_UDP_CHECKSUM, 0, 0, 14, 193}, // likewise
        {NET_FRAME_TCP_CHECKSUM, 0, 0, 14, 181}, // likewise
        {NET_FRAME_TCP_CHECKSUM, 0, 0, 14, 20},  // in the middle of the IPv4 header
        {NET_FRAME_SEGMENT, 0, 54, 14, 34},      // in pieces of nothing
        {NET_FRAME_SEGMENT, 100, 53, 14, 34},    // cuts TCP's header
        {NET_FRAME_SEGMENT, 100, 200, 14, 34},   // nothing left to send
        {NET_FRAME_SEGMENT, 1461, 54, 14, 34},   // longer than a frame may be
    };
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        ULONG_PTR Count;
        NET_FRAME *const Frame = LoopBuild(0, 0, 200, Loop.Address, Row);
        Frame->Flags = Rows[Row].Flags;
        Frame->SegmentBytes = Rows[Row].SegmentBytes;
        Frame->HeaderBytes = Rows[Row].HeaderBytes;
        Frame->NetworkOffset = Rows[Row].NetworkOffset;
        Frame->TransportOffset = Rows[Row].TransportOffset;
        KtSetContext("row %u", Row);
        KT_EQUAL(LoopSend(Frame, &Count), STATUS_INVALID_PARAMETER);
        KT_EQUAL(Frame->Status, STATUS_INVALID_PARAMETER);
        LoopFreeMdls();
    }
    KT_CHECK(LoopPasses(Loop.Address));
}

// A bad frame in a list ends alone.
LOOP_TEST(BadFrameInAListEndsAlone)
{
    ULONG_PTR Count;
    for (ULONG Index = 0; Index < 3; Index += 1) {
        LoopBuild(Index, Index * 512, Index == 1 ? 13 : 100, Loop.Address, Index);
    }
    Loop.Frames[0].Next = &Loop.Frames[1];
    Loop.Frames[1].Next = &Loop.Frames[2];
    KT_EQUAL(LoopSend(&Loop.Frames[0], &Count), STATUS_INVALID_PARAMETER);
    KT_EQUAL(Count, 2);
    KT_EQUAL(Loop.Frames[0].Status, STATUS_SUCCESS);
    KT_EQUAL(Loop.Frames[1].Status, STATUS_INVALID_PARAMETER);
    KT_EQUAL(Loop.Frames[2].Status, STATUS_SUCCESS);
    for (ULONG Index = 0; Index < 2; Index += 1) {
        NET_FRAME *const Received = LoopReceive(1, LOOP_FRAME_MS);
        KT_REQUIRE(Received != NULL);
        LoopIsSame(Received, Index * 2 * 512, 100);
        LoopReturn(Received);
    }
}

// -------------------------------------------------------------------------------------------------
// VLANs.

static VOID LoopCheckTag(USHORT Tag, BOOLEAN ShouldPass)
{
    ULONG_PTR Count;
    NET_FRAME *const Frame = LoopBuild(0, 0, 300, Loop.Address, Tag);
    Frame->Flags = NET_FRAME_VLAN;
    Frame->VlanTag = Tag;
    KtSetContext("tag 0x%x", Tag);
    KT_EQUAL(LoopSend(Frame, &Count), STATUS_SUCCESS);
    NET_FRAME *const Received = LoopReceive(1, ShouldPass ? LOOP_FRAME_MS : LOOP_NONE_MS);
    KT_EQUAL(Received != NULL, ShouldPass);
    if (Received != NULL) {
        KT_EQUAL(Received->Flags & NET_FRAME_VLAN, NET_FRAME_VLAN);
        KT_EQUAL(Received->VlanTag, Tag);
        LoopIsSame(Received, 0, 300);
    }
    LoopReturn(Received);
    LoopFreeMdls();
}

LOOP_TEST(VlanTagsAreInsertedStrippedAndFiltered)
{
    NET_VLAN Vlan = {.Flags = NET_VLAN_STRIP};
    NET_VLAN Read;
    KT_EQUAL(LOOP_SET(IOCTL_NET_SET_VLAN, &Vlan), STATUS_SUCCESS);
    LoopCheckTag(0x6123, TRUE);
    LoopCheckTag(0xEFFF, TRUE);
    Vlan.Flags |= NET_VLAN_FILTER;
    Vlan.Members[0x123 / 32] |= 1u << 0x123 % 32;
    KT_EQUAL(LOOP_SET(IOCTL_NET_SET_VLAN, &Vlan), STATUS_SUCCESS);
    KT_REQUIRE(LoopAwaitTraffic()); // what has no tag passes
    LoopCheckTag(0x6123, TRUE);
    LoopCheckTag(0x0123, TRUE);
    LoopCheckTag(0x0124, FALSE);
    LoopCheckTag(0x0FFF, FALSE);
    KT_EQUAL(LOOP_QUERY(IOCTL_NET_QUERY_VLAN, &Read), STATUS_SUCCESS);
    KT_CHECK(RtlEqualMemory(&Read, &Vlan, sizeof(Vlan)));
    RtlZeroMemory(&Vlan, sizeof(Vlan));
    KT_EQUAL(LOOP_SET(IOCTL_NET_SET_VLAN, &Vlan), STATUS_SUCCESS);
}

// -------------------------------------------------------------------------------------------------
// Filters.

static VOID LoopGroup(UCHAR *Address, ULONG Index)
{
    static const UCHAR Base[] = {0x01, 0x00, 0x5E, 0x10, 0x00, 0x00};
    RtlCopyMemory(Address, Base, sizeof(Base));
    Address[4] = (UCHAR)(Index * 16); // another hash each
    Address[5] = (UCHAR)Index;
}

static VOID LoopRestoreFilter(VOID)
{
    NET_FILTER Filter = {.Flags = NET_FILTER_DIRECTED | NET_FILTER_BROADCAST};
    KT_EQUAL(LOOP_SET(IOCTL_NET_SET_FILTER, &Filter), STATUS_SUCCESS);
    LoopAwaitTraffic();
}

// Each row's modes let some of the addresses pass.
LOOP_TEST(ModesLetPassWhatTheyShould)
{
    static const UCHAR Others[][NET_ETHERNET_ADDRESS_BYTES] = {
        {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}, // everybody
        {0x01, 0x00, 0x5E, 0x01, 0x02, 0x03}, // a group
        {0x02, 0x11, 0x22, 0x33, 0x44, 0x55}, // another station
    };
    static const struct {
        ULONG Flags;
        ULONG Passing; // bit i: Others[i]
    } Rows[] = {
        {NET_FILTER_DIRECTED | NET_FILTER_BROADCAST, 1},
        {NET_FILTER_DIRECTED, 0},
        {NET_FILTER_DIRECTED | NET_FILTER_ALL_MULTICAST, 3}, // everybody is a group, too
        {NET_FILTER_DIRECTED | NET_FILTER_PROMISCUOUS, 7},
    };
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        NET_FILTER Filter = {.Flags = Rows[Row].Flags};
        KT_EQUAL(LOOP_SET(IOCTL_NET_SET_FILTER, &Filter), STATUS_SUCCESS);
        KT_REQUIRE(LoopAwaitTraffic());
        for (ULONG Other = 0; Other < ARRAYSIZE(Others); Other += 1) {
            KtSetContext("row %u, address %u", Row, Other);
            KT_EQUAL(LoopPasses(Others[Other]), (Rows[Row].Passing >> Other & 1) != 0);
        }
    }
    LoopRestoreFilter();
}

// More groups than the card has entries for: the last ones go by their hash, and what only has the same
// hash is dropped by the driver. A change of the list alone does not stop reception.
LOOP_TEST(ListIsExactBeyondTheCardsEntries)
{
    NET_FILTER Filter = {.Flags = NET_FILTER_DIRECTED | NET_FILTER_BROADCAST | NET_FILTER_LIST,
                         .Count = 40};
    NET_FILTER Read;
    NET_STATISTICS Statistics;
    UCHAR Address[NET_ETHERNET_ADDRESS_BYTES];
    for (ULONG Index = 0; Index < Filter.Count; Index += 1) {
        LoopGroup(Filter.Addresses[Index], Index);
    }
    KT_EQUAL(LOOP_SET(IOCTL_NET_SET_FILTER, &Filter), STATUS_SUCCESS);
    for (ULONG Index = 0; Index < Filter.Count + 2; Index += 1) {
        LoopGroup(Address, Index);
        KtSetContext("group %u", Index);
        KT_EQUAL(LoopPasses(Address), Index < Filter.Count);
    }
    LoopGroup(Address, Filter.Count - 1);
    Address[3] ^= 1; // not part of the hash
    KT_EQUAL(LoopPasses(Address), FALSE);
    KT_EQUAL(LOOP_QUERY(IOCTL_NET_QUERY_STATISTICS, &Statistics), STATUS_SUCCESS);
    KT_CHECK(Statistics.ReceiveFiltered >= 1);
    KT_EQUAL(LOOP_QUERY(IOCTL_NET_QUERY_FILTER, &Read), STATUS_SUCCESS);
    KT_CHECK(RtlEqualMemory(&Read, &Filter, sizeof(Filter)));
    Filter.Count = NET_FILTER_ADDRESSES + 1;
    KT_EQUAL(LOOP_SET(IOCTL_NET_SET_FILTER, &Filter), STATUS_INVALID_PARAMETER);
    LoopRestoreFilter();
}

// A station that is not this one: by an entry, without promiscuous mode.
LOOP_TEST(ListTakesOtherStations)
{
    static const UCHAR Other[] = {0x02, 0x11, 0x22, 0x33, 0x44, 0x55};
    NET_FILTER Filter = {.Flags = NET_FILTER_BROADCAST | NET_FILTER_LIST, .Count = 1};
    RtlCopyMemory(Filter.Addresses[0], Other, sizeof(Other));
    KT_EQUAL(LOOP_SET(IOCTL_NET_SET_FILTER, &Filter), STATUS_SUCCESS);
    KT_EQUAL(LoopPasses(Other), TRUE);
    KT_EQUAL(LoopPasses(Loop.Address), FALSE); // DIRECTED is not asked for
    LoopRestoreFilter();
}

// -------------------------------------------------------------------------------------------------
// Rings.

LOOP_TEST(RingsOfAllSizesCarryTraffic)
{
    static const ULONG Counts[] = {64, 72, 1000, 4096};
    for (ULONG Row = 0; Row < ARRAYSIZE(Counts); Row += 1) {
        NET_OPTIONS Options = LoopOptions();
        Options.ReceiveRingCount = Counts[Row];
        Options.TransmitRingCount = Counts[ARRAYSIZE(Counts) - 1 - Row];
        KtSetContext("%u descriptors", Counts[Row]);
        KT_REQUIRE(LoopSetOptions(&Options));
        for (ULONG Round = 0; Round < 150; Round += 1) {
            const ULONG Bytes = 60 + Round * 8;
            KT_REQUIRE(LoopExchange(LoopBuild(0, 0, Bytes, Loop.Address, Round), 0));
            LoopFreeMdls();
        }
    }
}

LOOP_TEST(WrongOptionsAreRefused)
{
    static const struct {
        ULONG Field;
        ULONG Value;
    } Rows[] = {
        {FIELD_OFFSET(NET_OPTIONS, ReceiveRingCount), 56},
        {FIELD_OFFSET(NET_OPTIONS, ReceiveRingCount), 4104},
        {FIELD_OFFSET(NET_OPTIONS, TransmitRingCount), 65},
        {FIELD_OFFSET(NET_OPTIONS, MaximumFrameBytes), 1513},
        {FIELD_OFFSET(NET_OPTIONS, MaximumFrameBytes), 16111},
        {FIELD_OFFSET(NET_OPTIONS, CopyBytes), 257},
        {FIELD_OFFSET(NET_OPTIONS, Throttle), 3},
    };
    NET_OPTIONS Read;
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        NET_OPTIONS Options = LoopOptions();
        *(PULONG)((PUCHAR)&Options + Rows[Row].Field) = Rows[Row].Value;
        KtSetContext("row %u", Row);
        KT_EQUAL(LOOP_SET(IOCTL_NET_SET_OPTIONS, &Options), STATUS_INVALID_PARAMETER);
    }
    const NET_OPTIONS Expected = LoopOptions();
    KT_EQUAL(LOOP_QUERY(IOCTL_NET_QUERY_OPTIONS, &Read), STATUS_SUCCESS);
    KT_CHECK(RtlEqualMemory(&Read, &Expected, sizeof(Read)));
}

// More than fits, at once: frames wait in the list until there is room.
LOOP_TEST(ListsLongerThanTheRingAreSent)
{
    NET_OPTIONS Options = LoopOptions();
    NET_STATISTICS Before;
    NET_STATISTICS After;
    ULONG_PTR Sent;
    Options.TransmitRingCount = 64;
    Options.CopyBytes = 0;
    KT_REQUIRE(LoopSetOptions(&Options));
    KT_EQUAL(LOOP_QUERY(IOCTL_NET_QUERY_STATISTICS, &Before), STATUS_SUCCESS);
    for (ULONG Index = 0; Index < LOOP_FRAMES; Index += 1) {
        static const UCHAR Nobody[] = {2, 0, 0, 0, 0, 9};
        NET_FRAME *const Frame = LoopBuild(Index, Index * 128, 100, Nobody, Index);
        Frame->Next = Index + 1 < LOOP_FRAMES ? Frame + 1 : NULL;
    }
    KT_EQUAL(LoopSend(&Loop.Frames[0], &Sent), STATUS_SUCCESS);
    KT_EQUAL(Sent, LOOP_FRAMES);
    KT_EQUAL(LOOP_QUERY(IOCTL_NET_QUERY_STATISTICS, &After), STATUS_SUCCESS);
    KT_EQUAL(After.FramesSent, Before.FramesSent + LOOP_FRAMES);
    KT_EQUAL(After.CardFramesSent, Before.CardFramesSent + LOOP_FRAMES);
    KT_EQUAL(After.CardBytesSent, Before.CardBytesSent + LOOP_FRAMES * 104);
    KT_EQUAL(After.FramesCopied, Before.FramesCopied);
    KT_CHECK(After.TransmitDoorbells - Before.TransmitDoorbells < LOOP_FRAMES / 8);
}

// Frames that find too few descriptors are lost, and said to be; those behind them come in. (QEMU says
// so only of a frame that needs more than are left; when none is left, it drops without a word.)
LOOP_TEST(ReceptionGoesOnAfterAnOverrun)
{
    const ULONG SentCount = 20;
    const ULONG Parts = 4; // descriptors for each
    NET_OPTIONS Options = LoopOptions();
    NET_STATISTICS Statistics;
    ULONG_PTR Sent;
    ULONG Count = 0;
    Options.ReceiveRingCount = 64;
    Options.MaximumFrameBytes = 9014;
    Options.Throttle = NET_THROTTLE_OFF;
    KT_REQUIRE(LoopSetOptions(&Options));
    for (ULONG Index = 0; Index < SentCount; Index += 1) {
        NET_FRAME *const Frame = LoopBuild(Index, 0, 7000, Loop.Address, 5);
        Frame->Next = Index + 1 < SentCount ? Frame + 1 : NULL;
    }
    KT_EQUAL(LoopSend(&Loop.Frames[0], &Sent), STATUS_SUCCESS);
    KT_EQUAL(Sent, SentCount);
    LoopFreeMdls();
    for (NET_FRAME *First = LoopReceive(0, LOOP_FRAME_MS); First != NULL;
         First = LoopReceive(0, LOOP_NONE_MS)) {
        for (NET_FRAME *Frame = First; Frame != NULL; Frame = Frame->Next, Count += 1) {
            LoopIsSame(Frame, 0, 7000);
        }
        LoopReturn(First);
    }
    KT_EQUAL(Count, 63 / Parts); // all descriptors but one
    KT_EQUAL(LOOP_QUERY(IOCTL_NET_QUERY_STATISTICS, &Statistics), STATUS_SUCCESS);
    KT_CHECK(Statistics.ReceiveOverruns >= 1);
    KT_CHECK(Statistics.MissedFrames + Statistics.NoBufferFrames >= SentCount - Count);
    KT_CHECK(LoopPasses(Loop.Address));
}

// Keeping all buffers starves the ring; returning them feeds it again. Meanwhile no other ring can come.
LOOP_TEST(LentBuffersStarveTheRingUntilTheyReturn)
{
    NET_OPTIONS Options = LoopOptions();
    NET_STATISTICS Statistics;
    NET_FRAME *Kept = NULL;
    ULONG KeptCount = 0;
    Options.ReceiveRingCount = 64;
    KT_REQUIRE(LoopSetOptions(&Options));
    for (ULONG Round = 0; Round < 200; Round += 1) {
        ULONG_PTR Count;
        KT_EQUAL(LoopSend(LoopBuild(0, 0, 64, Loop.Address, Round), &Count), STATUS_SUCCESS);
        LoopFreeMdls();
        NET_FRAME *const Received = LoopReceive(1, 5);
        if (Received == NULL) {
            break;
        }
        Received->Next = Kept;
        Kept = Received;
        KeptCount += 1;
    }
    KT_EQUAL(KeptCount, 128); // two for each descriptor
    KT_EQUAL(LOOP_QUERY(IOCTL_NET_QUERY_STATISTICS, &Statistics), STATUS_SUCCESS);
    KT_EQUAL(Statistics.FramesLent, KeptCount);
    KT_CHECK(Statistics.ReceiveStarved >= 1);
    Options.ReceiveRingCount = 128;
    KT_EQUAL(LOOP_SET(IOCTL_NET_SET_OPTIONS, &Options), STATUS_DEVICE_BUSY);
    LoopReturn(Kept);
    KT_CHECK(LoopAwaitTraffic());
}

// -------------------------------------------------------------------------------------------------
// Requests that wait.

LOOP_TEST(WaitingReceivesAreServedInOrderOrCancelled)
{
    NET_RECEIVE Receives[3] = {{.MaximumCount = 1}, {.MaximumCount = 1}, {.MaximumCount = 1}};
    LOOP_IRP Requests[3];
    ULONG_PTR Information;
    for (ULONG Index = 0; Index < 3; Index += 1) {
        KT_REQUIRE(LoopAsk(&Requests[Index], IOCTL_NET_RECEIVE, &Receives[Index]));
    }
    KT_EQUAL(LoopEndRequest(&Requests[1], 1, &Information), STATUS_CANCELLED);
    KT_EQUAL(Receives[1].Received, NULL);
    for (ULONG Index = 0; Index < 3; Index += 2) {
        ULONG_PTR Count;
        KT_EQUAL(LoopSend(LoopBuild(0, 0, 100 + Index, Loop.Address, Index), &Count),
                 STATUS_SUCCESS);
        KT_EQUAL(LoopEndRequest(&Requests[Index], LOOP_FRAME_MS, &Information), STATUS_SUCCESS);
        if (KT_CHECK(Receives[Index].Received != NULL)) {
            LoopIsSame(Receives[Index].Received, 0, 100 + Index);
        }
        LoopReturn(Receives[Index].Received);
        LoopFreeMdls();
    }
}

// The transmit unit is turned off behind the driver's back. What is in the ring waits for the watchdog;
// what is not in it can be cancelled.
LOOP_TEST(CancelledSendEndsWhatTheCardHasNotGot)
{
    NET_OPTIONS Options = LoopOptions();
    NET_STATISTICS Statistics;
    LOOP_IRP Request;
    ULONG_PTR Sent;
    ULONG Cancelled = 0;
    Options.TransmitRingCount = 64;
    KT_REQUIRE(LoopSetOptions(&Options));
    const PUCHAR Registers = LoopMapRegisters();
    KT_REQUIRE(Registers != NULL);
    WRITE_REGISTER_ULONG((volatile ULONG *)(Registers + 0x400), 0); // TCTL
    for (ULONG Index = 0; Index < 200; Index += 1) {
        NET_FRAME *const Frame = LoopBuild(Index, Index * 128, 100, Loop.Address, Index);
        Frame->Next = Index + 1 < 200 ? Frame + 1 : NULL;
    }
    if (LoopAsk(&Request, IOCTL_NET_SEND, &Loop.Frames[0])) {
        KT_EQUAL(LoopEndRequest(&Request, 10, &Sent), STATUS_CANCELLED);
        KT_EQUAL(Sent, 0);
    }
    for (ULONG Index = 0; Index < 200; Index += 1) {
        const NTSTATUS Status = Loop.Frames[Index].Status;
        KT_CHECK(Status == STATUS_CANCELLED || Status == STATUS_IO_TIMEOUT);
        Cancelled += Status == STATUS_CANCELLED ? 1 : 0;
    }
    KT_EQUAL(Cancelled, 200 - 63);
    LoopUnmapRegisters(Registers);
    KT_EQUAL(LOOP_QUERY(IOCTL_NET_QUERY_STATISTICS, &Statistics), STATUS_SUCCESS);
    KT_CHECK(Statistics.TransmitTimeouts >= 1);
    LoopFreeMdls();
    KT_CHECK(LoopAwaitTraffic()); // the reset has made the card whole again
}

// -------------------------------------------------------------------------------------------------
// The card itself.

LOOP_TEST(ThrottleIsChangedAtRunTime)
{
    static const struct {
        ULONG Throttle;
        ULONG InterruptsPerSecond;
        ULONG Interval; // in units of 256 ns
    } Rows[] = {
        {NET_THROTTLE_FIXED, 1000, 3906},
        {NET_THROTTLE_FIXED, 8000, 488},
        {NET_THROTTLE_OFF, 0, 0},
    };
    const PUCHAR Registers = LoopMapRegisters();
    KT_REQUIRE(Registers != NULL);
    volatile ULONG *const Itr = (volatile ULONG *)(Registers + 0xC4);
    WRITE_REGISTER_ULONG(Itr, 1);
    const BOOLEAN HasThrottle = READ_REGISTER_ULONG(Itr) == 1; // not with mitigation=off
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        NET_OPTIONS Options = LoopOptions();
        Options.Throttle = Rows[Row].Throttle;
        Options.InterruptsPerSecond = Rows[Row].InterruptsPerSecond;
        KT_EQUAL(LOOP_SET(IOCTL_NET_SET_OPTIONS, &Options), STATUS_SUCCESS);
        KT_EQUAL(READ_REGISTER_ULONG(Itr), HasThrottle ? Rows[Row].Interval : 0);
        KT_CHECK(LoopPasses(Loop.Address));
    }
    LoopUnmapRegisters(Registers);
}

LOOP_TEST(PhyIsReadAndWritten)
{
    NET_PHY Phy = {.Register = 0};
    KT_EQUAL(LoopControl(IOCTL_NET_PHY, &Phy, sizeof(Phy), &Phy, sizeof(Phy)), STATUS_SUCCESS);
    KT_EQUAL(Phy.Value & 0x4000, 0x4000); // in loopback
    Phy = (NET_PHY){.Register = 2};
    KT_EQUAL(LoopControl(IOCTL_NET_PHY, &Phy, sizeof(Phy), &Phy, sizeof(Phy)), STATUS_SUCCESS);
    KT_EQUAL(Phy.Value, 0x0141); // Marvell
    Phy = (NET_PHY){.Register = 4, .Write = TRUE, .Value = 0x01E1};
    KT_EQUAL(LoopControl(IOCTL_NET_PHY, &Phy, sizeof(Phy), &Phy, sizeof(Phy)), STATUS_SUCCESS);
    Phy = (NET_PHY){.Register = 32};
    KT_EQUAL(LoopControl(IOCTL_NET_PHY, &Phy, sizeof(Phy), &Phy, sizeof(Phy)),
             STATUS_INVALID_PARAMETER);
}

// F21. A receive that waits does not see the test's frames.
LOOP_TEST(SelfTestPassesWithoutAHost)
{
    NET_RECEIVE Receive = {.MaximumCount = 0};
    NET_SELF_TEST Result = {0};
    LOOP_IRP Request;
    ULONG_PTR Information;
    KT_REQUIRE(LoopAsk(&Request, IOCTL_NET_RECEIVE, &Receive));
    KT_EQUAL(LOOP_QUERY(IOCTL_NET_SELF_TEST, &Result), STATUS_SUCCESS);
    KT_EQUAL(Result.Done, NET_TEST_ALL);
    KT_EQUAL(Result.Passed, NET_TEST_ALL);
    KT_CHECK(Result.FramesLooped >= 11);
    KT_EQUAL(LoopEndRequest(&Request, 1, &Information), STATUS_CANCELLED);
    KT_CHECK(LoopAwaitTraffic());
}

static const KT_TEST Tests[] = {
    {"frames of all lengths come back, padded, by copies and from their pages",
     FramesOfAllLengthsComeBack},
    {"the frames of a list come back in order", ListsComeBackInOrder},
    {"a chain of MDLs is one frame", ChainOfMdlsIsOneFrame},
    {"frames that are lent are sent as they are", LentFramesAreSentAsTheyAre},
    {"what is not lent is neither taken back nor sent as if it were", WhatIsNotLentIsNotTakenBack},
    {"jumbo frames are chains of receive buffers", JumboFramesAreChainsOfBuffers},
    {"checksums of IPv4, TCP and UDP are filled in", ChecksumsAreFilledIn},
    {"a long TCP segment is sent as many", LongSegmentIsSentAsMany},
    {"offloads that make no sense are refused", WrongOffloadsAreRefused},
    {"a bad frame in a list ends alone", BadFrameInAListEndsAlone},
    {"VLAN tags are inserted, stripped and filtered", VlanTagsAreInsertedStrippedAndFiltered},
    {"each mode lets pass what it should", ModesLetPassWhatTheyShould},
    {"the list of groups is exact beyond the card's own entries", ListIsExactBeyondTheCardsEntries},
    {"the list takes other stations without promiscuous mode", ListTakesOtherStations},
    {"rings of 64 to 4,096 descriptors carry traffic", RingsOfAllSizesCarryTraffic},
    {"options out of range are refused, and nothing is changed", WrongOptionsAreRefused},
    {"lists longer than the ring are sent, with few doorbells", ListsLongerThanTheRingAreSent},
    {"reception goes on after an overrun, which is counted", ReceptionGoesOnAfterAnOverrun},
    {"lent buffers starve the ring until they return", LentBuffersStarveTheRingUntilTheyReturn},
    {"waiting receives are served in order, or cancelled",
     WaitingReceivesAreServedInOrderOrCancelled},
    {"a cancelled send ends what the card has not got", CancelledSendEndsWhatTheCardHasNotGot},
    {"interrupt throttling is changed at run time", ThrottleIsChangedAtRunTime},
    {"the PHY is read and written", PhyIsReadAndWritten},
    {"the self-test passes without a host [F21]", SelfTestPassesWithoutAHost},
};
const KT_SUITE KtE1000LoopSuite = {"e1000 loopback", KtNeedsDevices, Tests, ARRAYSIZE(Tests)};
