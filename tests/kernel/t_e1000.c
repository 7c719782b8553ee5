// The network card and its driver, through IRPs alone, against QEMU's user network: a gateway at
// 10.0.2.2 that answers ARP and gives 10.0.2.15 by DHCP. What the driver did to the card is looked
// up in the card's registers, through a mapping of the test's own.
#include <ntddnet.h>

#include "kernel/inc/io.h"
#include "tests/kernel/tests.h"

#define NET_VENDOR 0x8086
#define NET_DEVICE 0x100E

// Registers of the card, by the manual.
#define NET_IMS 0x00D0 // reads as the interrupt causes that are enabled
#define NET_RCTL 0x0100
#define NET_TCTL 0x0400
#define NET_RAL 0x5400
#define NET_RAH 0x5404
#define NET_ENABLE 0x2u // in RCTL and TCTL

#define NET_FRAME_LIMIT 1514
#define NET_ARP_BYTES 60
#define NET_READ_MS 1500  // longer than QEMU holds frames back after RCTL was written
#define NET_FRAMES_READ 8 // how many others may come before the awaited one
#define NET_ROUNDS 150    // more than twice the descriptors of a ring

static const UCHAR NetOwnAddress[NET_IPV4_ADDRESS_BYTES] = {10, 0, 2, 15};
static const UCHAR NetGateway[NET_IPV4_ADDRESS_BYTES] = {10, 0, 2, 2};

// -------------------------------------------------------------------------------------------------
// The device.

static PDEVICE_OBJECT NetDevice(VOID)
{
    return IoFindDevice(FILE_DEVICE_PHYSICAL_NETCARD, 0);
}

#define NET_REQUIRE_DEVICE()                                                                       \
    do {                                                                                           \
        if (NetDevice() == NULL) {                                                                 \
            KT_SKIP("no network card");                                                            \
        }                                                                                          \
    } while (0)

static const IO_PCI_FUNCTION *NetFunction(VOID)
{
    const IO_PCI_FUNCTION *Function = IoNextPciFunction(NULL);
    while (Function != NULL &&
           (Function->VendorId != NET_VENDOR || Function->DeviceId != NET_DEVICE)) {
        Function = IoNextPciFunction(Function);
    }
    return Function;
}

static const volatile UCHAR *NetMapRegisters(VOID)
{
    const IO_PCI_BAR *const Bar = &NetFunction()->Bars[0];
    return MmMapIoSpaceEx(KtPhysical(Bar->Base), Bar->ByteCount, PAGE_READONLY | PAGE_NOCACHE);
}

static VOID NetUnmapRegisters(const volatile UCHAR *Registers)
{
    MmUnmapIoSpace((PVOID)(ULONG_PTR)Registers, NetFunction()->Bars[0].ByteCount);
}

static ULONG NetRegister(const volatile UCHAR *Registers, ULONG Offset)
{
    return READ_REGISTER_ULONG((const volatile ULONG *)(Registers + Offset));
}

static BOOLEAN NetQuery(NET_ADAPTER_INFORMATION *Information)
{
    ULONG_PTR ByteCount;

    const NTSTATUS Status = IoControlSynchronously(NetDevice(), IOCTL_NET_QUERY_ADAPTER, NULL, 0,
                                                   Information, sizeof(*Information), &ByteCount);
    return KT_EQUAL(Status, STATUS_SUCCESS) && KT_EQUAL(ByteCount, sizeof(*Information));
}

// -------------------------------------------------------------------------------------------------
// Frames, in a page of their own.

typedef struct _NET_PAGE {
    PMDL Mdl;
    PUCHAR Va;
} NET_PAGE;

static BOOLEAN NetAllocatePage(NET_PAGE *Page)
{
    Page->Va = NULL;
    Page->Mdl = KtAllocatePages(1);
    if (Page->Mdl != NULL) {
        Page->Va =
            MmGetSystemAddressForMdlSafe(Page->Mdl, NormalPagePriority | MdlMappingNoExecute);
    }
    return KT_CHECK(Page->Va != NULL);
}

static VOID NetFreePage(const NET_PAGE *Page)
{
    if (Page->Mdl != NULL) {
        KtFreePages(Page->Mdl);
    }
}

static NTSTATUS NetTransfer(UCHAR MajorFunction, PMDL Mdl, ULONG ByteCount, PULONG_PTR Information)
{
    return IoTransferSynchronously(NetDevice(), MajorFunction, Mdl, 0, ByteCount, Information);
}

// Reads a frame into a page, or gives up after so many milliseconds: STATUS_CANCELLED.
static NTSTATUS NTAPI NetWake(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    UNREFERENCED_PARAMETER(Irp);
    KeSetEvent(Context, IO_NO_INCREMENT, FALSE);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static NTSTATUS NetRead(PMDL Mdl, ULONG ByteCount, ULONG Milliseconds, PULONG_PTR Information)
{
    LARGE_INTEGER Timeout = {.QuadPart = -10000ll * Milliseconds};
    KEVENT Event;

    *Information = 0;
    const PIRP Irp = IoAllocateIrp(NetDevice()->StackSize, FALSE);
    if (!KT_CHECK(Irp != NULL)) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    KeInitializeEvent(&Event, NotificationEvent, FALSE);
    IoGetNextIrpStackLocation(Irp)->MajorFunction = IRP_MJ_READ;
    IoGetNextIrpStackLocation(Irp)->Parameters.Read.Length = ByteCount;
    Irp->MdlAddress = Mdl;
    IoSetCompletionRoutine(Irp, NetWake, &Event, TRUE, TRUE, TRUE);
    (VOID) IoCallDriver(NetDevice(), Irp);
    if (KeWaitForSingleObject(&Event, Executive, KernelMode, FALSE, &Timeout) != STATUS_SUCCESS) {
        IoCancelIrp(Irp);
        KeWaitForSingleObject(&Event, Executive, KernelMode, FALSE, NULL);
    }
    const NTSTATUS Status = Irp->IoStatus.Status;
    *Information = Irp->IoStatus.Information;
    IoFreeIrp(Irp);
    return Status;
}

// "Who has 10.0.2.2? Tell 10.0.2.15."
static VOID NetBuildArpRequest(PUCHAR Frame, const UCHAR *OwnMac)
{
    static const UCHAR Head[] = {
        0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0, 0x08, 0x06, // Ethernet: to all, ARP
        0,    1,    0x08, 0,    6,    4,    0, 1, // Ethernet and IPv4 addresses, request
    };

    RtlZeroMemory(Frame, NET_ARP_BYTES);
    RtlCopyMemory(Frame, Head, sizeof(Head));
    RtlCopyMemory(Frame + 6, OwnMac, NET_ETHERNET_ADDRESS_BYTES);
    RtlCopyMemory(Frame + 22, OwnMac, NET_ETHERNET_ADDRESS_BYTES);
    RtlCopyMemory(Frame + 28, NetOwnAddress, sizeof(NetOwnAddress));
    RtlCopyMemory(Frame + 38, NetGateway, sizeof(NetGateway));
}

static BOOLEAN NetIsArpReply(const UCHAR *Frame, ULONG_PTR ByteCount, const UCHAR *OwnMac)
{
    static const UCHAR Reply[] = {0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 2};

    return ByteCount >= 42 && RtlEqualMemory(Frame, OwnMac, NET_ETHERNET_ADDRESS_BYTES) &&
           RtlEqualMemory(Frame + 12, Reply, sizeof(Reply)) &&
           RtlEqualMemory(Frame + 28, NetGateway, sizeof(NetGateway)) &&
           RtlEqualMemory(Frame + 32, OwnMac, NET_ETHERNET_ADDRESS_BYTES);
}

// Reads until the reply comes.
static BOOLEAN NetAwaitArpReply(const NET_PAGE *Page, const UCHAR *OwnMac)
{
    ULONG_PTR ByteCount;

    for (ULONG Attempt = 0; Attempt < NET_FRAMES_READ; Attempt += 1) {
        const NTSTATUS Status = NetRead(Page->Mdl, PAGE_SIZE, NET_READ_MS, &ByteCount);
        if (!KT_EQUAL(Status, STATUS_SUCCESS)) {
            return FALSE;
        }
        if (NetIsArpReply(Page->Va, ByteCount, OwnMac)) {
            return TRUE;
        }
    }
    return FALSE;
}

// Sends the request that Mdl describes, and awaits its reply in a page.
static BOOLEAN NetExchangeArp(PMDL Request, const UCHAR *OwnMac)
{
    NET_PAGE Page;
    ULONG_PTR ByteCount;
    BOOLEAN IsAnswered = FALSE;

    if (NetAllocatePage(&Page)) {
        const NTSTATUS Status = NetTransfer(IRP_MJ_WRITE, Request, NET_ARP_BYTES, &ByteCount);
        IsAnswered = KT_EQUAL(Status, STATUS_SUCCESS) && KT_EQUAL(ByteCount, NET_ARP_BYTES) &&
                     KT_CHECK(NetAwaitArpReply(&Page, OwnMac));
    }
    NetFreePage(&Page);
    return IsAnswered;
}

static BOOLEAN NetCheckTraffic(VOID)
{
    NET_ADAPTER_INFORMATION Adapter;
    NET_PAGE Page;
    BOOLEAN IsAnswered = FALSE;

    if (!NetQuery(&Adapter)) {
        return FALSE;
    }
    if (NetAllocatePage(&Page)) {
        NetBuildArpRequest(Page.Va, Adapter.EthernetAddress);
        IsAnswered = NetExchangeArp(Page.Mdl, Adapter.EthernetAddress);
    }
    NetFreePage(&Page);
    return IsAnswered;
}

// -------------------------------------------------------------------------------------------------
// Working.

static VOID AddressIsTheOneInTheRegisters(VOID)
{
    NET_ADAPTER_INFORMATION Adapter;

    NET_REQUIRE_DEVICE();
    KT_REQUIRE(NetQuery(&Adapter));
    const volatile UCHAR *const Registers = NetMapRegisters();
    KT_REQUIRE(Registers != NULL);
    const ULONG64 Value =
        (ULONG64)NetRegister(Registers, NET_RAH) << 32 | NetRegister(Registers, NET_RAL);
    for (ULONG Index = 0; Index < NET_ETHERNET_ADDRESS_BYTES; Index += 1) {
        KT_EQUAL(Adapter.EthernetAddress[Index], (UCHAR)(Value >> (Index * 8)));
    }
    KT_EQUAL(Value >> 63, 1);
    KT_CHECK((Adapter.EthernetAddress[0] & 1) == 0);
    NetUnmapRegisters(Registers);
}

static VOID LinkIsReported(VOID)
{
    NET_ADAPTER_INFORMATION Adapter;

    NET_REQUIRE_DEVICE();
    KT_REQUIRE(NetQuery(&Adapter));
    KT_EQUAL(Adapter.LinkUp, TRUE);
    KT_EQUAL(Adapter.FullDuplex, TRUE);
    KT_EQUAL(Adapter.MegabitsPerSecond, 1000);
}

static VOID ArpRequestGetsItsReply(VOID)
{
    NET_REQUIRE_DEVICE();
    NetCheckTraffic();
}

static VOID RingsWrap(VOID)
{
    NET_REQUIRE_DEVICE();
    for (ULONG Round = 0; Round < NET_ROUNDS; Round += 1) {
        KtSetContext("round %u", Round);
        if (!NetCheckTraffic()) {
            return;
        }
    }
}

// The frame lies across the border of two pages, 20 bytes in the first.
static VOID FrameInTwoPagesIsSent(VOID)
{
    const ULONG Offset = PAGE_SIZE - 20;
    NET_ADAPTER_INFORMATION Adapter;

    NET_REQUIRE_DEVICE();
    KT_REQUIRE(NetQuery(&Adapter));
    const PUCHAR Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 2 * PAGE_SIZE, KT_TAG);
    KT_REQUIRE(Block != NULL);
    const PMDL Mdl = IoAllocateMdl(Block + Offset, NET_ARP_BYTES, FALSE, FALSE, NULL);
    if (KT_CHECK(Mdl != NULL)) {
        MmBuildMdlForNonPagedPool(Mdl);
        NetBuildArpRequest(Block + Offset, Adapter.EthernetAddress);
        NetExchangeArp(Mdl, Adapter.EthernetAddress);
        IoFreeMdl(Mdl);
    }
    ExFreePoolWithTag(Block, KT_TAG);
}

static VOID SilenceLastsUntilTheReadIsCancelled(VOID)
{
    NET_PAGE Page;
    ULONG_PTR ByteCount = 0;
    NTSTATUS Status = STATUS_SUCCESS;

    NET_REQUIRE_DEVICE();
    if (NetAllocatePage(&Page)) {
        for (ULONG Attempt = 0; Attempt < NET_FRAMES_READ && NT_SUCCESS(Status); Attempt += 1) {
            Status = NetRead(Page.Mdl, PAGE_SIZE, NET_READ_MS, &ByteCount);
        }
        KT_EQUAL(Status, STATUS_CANCELLED);
        KT_EQUAL(ByteCount, 0);
    }
    NetFreePage(&Page);
}

// Receive timer, overrun, few descriptors left, link, and descriptors written back: no other cause.
static VOID HandledInterruptsAreEnabled(VOID)
{
    NET_REQUIRE_DEVICE();
    const volatile UCHAR *const Registers = NetMapRegisters();
    KT_REQUIRE(Registers != NULL);
    KT_EQUAL(NetRegister(Registers, NET_IMS), 0xD5);
    NetUnmapRegisters(Registers);
}

// The transmit unit is turned off behind the driver's back, through a mapping of our own.
static VOID StuckFrameIsTakenBack(VOID)
{
    NET_PAGE Page;
    ULONG_PTR ByteCount;

    NET_REQUIRE_DEVICE();
    const IO_PCI_BAR *const Bar = &NetFunction()->Bars[0];
    const PUCHAR Registers =
        MmMapIoSpaceEx(KtPhysical(Bar->Base), Bar->ByteCount, PAGE_READWRITE | PAGE_NOCACHE);
    KT_REQUIRE(Registers != NULL);
    if (NetAllocatePage(&Page)) {
        RtlZeroMemory(Page.Va, PAGE_SIZE);
        WRITE_REGISTER_ULONG((volatile ULONG *)(Registers + NET_TCTL), 0);
        KT_EQUAL(NetTransfer(IRP_MJ_WRITE, Page.Mdl, NET_ARP_BYTES, &ByteCount), STATUS_IO_TIMEOUT);
        KT_EQUAL(ByteCount, 0);
        // The reset has made the card whole again.
        KT_CHECK((NetRegister(Registers, NET_TCTL) & NET_ENABLE) != 0);
        KT_EQUAL(NetTransfer(IRP_MJ_WRITE, Page.Mdl, NET_ARP_BYTES, &ByteCount), STATUS_SUCCESS);
    }
    NetFreePage(&Page);
    NetUnmapRegisters(Registers);
}

// -------------------------------------------------------------------------------------------------
// Refusing.

static VOID WrongLengthsAreRefused(VOID)
{
    static const struct {
        UCHAR MajorFunction;
        ULONG ByteCount;
        NTSTATUS Status;
    } Rows[] = {
        {IRP_MJ_WRITE, 0, STATUS_INVALID_PARAMETER},
        {IRP_MJ_WRITE, 13, STATUS_INVALID_PARAMETER}, // less than an Ethernet header
        {IRP_MJ_WRITE, NET_FRAME_LIMIT + 1, STATUS_INVALID_BUFFER_SIZE},
        {IRP_MJ_WRITE, PAGE_SIZE + 1, STATUS_INVALID_BUFFER_SIZE},
        {IRP_MJ_WRITE, MAXULONG, STATUS_INVALID_BUFFER_SIZE},
        {IRP_MJ_READ, 0, STATUS_BUFFER_TOO_SMALL},
        {IRP_MJ_READ, NET_FRAME_LIMIT - 1, STATUS_BUFFER_TOO_SMALL},
        {IRP_MJ_READ, PAGE_SIZE + 1, STATUS_BUFFER_TOO_SMALL}, // more than the MDL describes
    };
    NET_PAGE Page;
    ULONG_PTR ByteCount;

    NET_REQUIRE_DEVICE();
    if (NetAllocatePage(&Page)) {
        for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
            KtSetContext("row %u", Row);
            KT_EQUAL(
                NetTransfer(Rows[Row].MajorFunction, Page.Mdl, Rows[Row].ByteCount, &ByteCount),
                Rows[Row].Status);
            KT_EQUAL(ByteCount, 0);
        }
    }
    NetFreePage(&Page);
}

static VOID TransfersWithoutMdlAreRefused(VOID)
{
    ULONG_PTR ByteCount;

    NET_REQUIRE_DEVICE();
    KT_EQUAL(NetTransfer(IRP_MJ_WRITE, NULL, NET_ARP_BYTES, &ByteCount), STATUS_INVALID_PARAMETER);
    KT_EQUAL(NetTransfer(IRP_MJ_READ, NULL, PAGE_SIZE, &ByteCount), STATUS_BUFFER_TOO_SMALL);
}

static VOID LongestFrameIsSent(VOID)
{
    NET_PAGE Page;
    ULONG_PTR ByteCount;

    NET_REQUIRE_DEVICE();
    if (NetAllocatePage(&Page)) {
        RtlZeroMemory(Page.Va, PAGE_SIZE);
        KT_EQUAL(NetTransfer(IRP_MJ_WRITE, Page.Mdl, NET_FRAME_LIMIT, &ByteCount), STATUS_SUCCESS);
        KT_EQUAL(ByteCount, NET_FRAME_LIMIT);
    }
    NetFreePage(&Page);
}

static VOID WrongControlsAreRefused(VOID)
{
    const ULONG Unknown =
        CTL_CODE(FILE_DEVICE_PHYSICAL_NETCARD, 0x0FFF, METHOD_BUFFERED, FILE_ANY_ACCESS);
    UCHAR Output[sizeof(NET_ADAPTER_INFORMATION)];
    ULONG_PTR ByteCount;

    NET_REQUIRE_DEVICE();
    KT_EQUAL(
        IoControlSynchronously(NetDevice(), Unknown, NULL, 0, Output, sizeof(Output), &ByteCount),
        STATUS_INVALID_DEVICE_REQUEST);
    KT_EQUAL(IoControlSynchronously(NetDevice(), IOCTL_NET_QUERY_ADAPTER, NULL, 0, Output,
                                    sizeof(NET_ADAPTER_INFORMATION) - 1, &ByteCount),
             STATUS_BUFFER_TOO_SMALL);
    KT_EQUAL(IoControlSynchronously(NetDevice(), IOCTL_NET_QUERY_CAPABILITIES, NULL, 0, NULL, 0,
                                    &ByteCount),
             STATUS_BUFFER_TOO_SMALL);
    KT_EQUAL(ByteCount, 0);
}

// -------------------------------------------------------------------------------------------------
// Stopping, starting and removing. The PnP manager's part is played here. QEMU holds received frames
// back for a second after each START, so that only the last of these tests waits for traffic.

typedef struct _NET_RESOURCES {
    CM_RESOURCE_LIST List; // Count 1, one descriptor: BAR 0
} NET_RESOURCES;

static VOID NetFillResources(NET_RESOURCES *Resources)
{
    const IO_PCI_BAR *const Bar = &NetFunction()->Bars[0];
    const PCM_PARTIAL_RESOURCE_LIST Partial = &Resources->List.List[0].PartialResourceList;

    RtlZeroMemory(Resources, sizeof(*Resources));
    Resources->List.Count = 1;
    Resources->List.List[0].InterfaceType = PCIBus;
    Partial->Version = 1;
    Partial->Revision = 1;
    Partial->Count = 1;
    Partial->PartialDescriptors[0].Type = CmResourceTypeMemory;
    Partial->PartialDescriptors[0].u.Memory.Start = KtPhysical(Bar->Base);
    Partial->PartialDescriptors[0].u.Memory.Length = (ULONG)Bar->ByteCount;
}

static NTSTATUS NTAPI NetPnpCompletion(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    UNREFERENCED_PARAMETER(Irp);
    *(volatile BOOLEAN *)Context = TRUE;
    return STATUS_MORE_PROCESSING_REQUIRED;
}

// Fails FailCount allocations after SkipCount good ones while the driver handles the request.
typedef struct _NET_SCARCITY {
    ULONG SkipCount;
    ULONG FailCount;
    ULONG FailedCount; // out
} NET_SCARCITY;

static NTSTATUS NetSendPnp(PDEVICE_OBJECT Device, UCHAR MinorFunction, PCM_RESOURCE_LIST List,
                           NET_SCARCITY *Scarcity)
{
    volatile BOOLEAN Completed = FALSE;

    const PIRP Irp = IoAllocateIrp(Device->StackSize, FALSE);
    if (!KT_CHECK(Irp != NULL)) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    const PIO_STACK_LOCATION Stack = IoGetNextIrpStackLocation(Irp);
    Irp->IoStatus.Status = STATUS_NOT_SUPPORTED;
    Stack->MajorFunction = IRP_MJ_PNP;
    Stack->MinorFunction = MinorFunction;
    Stack->Parameters.StartDevice.AllocatedResources = List;
    Stack->Parameters.StartDevice.AllocatedResourcesTranslated = List;
    IoSetCompletionRoutine(Irp, NetPnpCompletion, (PVOID)&Completed, TRUE, TRUE, TRUE);
    MmStartFailures(MM_FAIL_ALL, Scarcity->SkipCount, Scarcity->FailCount);
    (VOID) IoCallDriver(Device, Irp);
    Scarcity->FailedCount = MmStopFailures();
    KT_CHECK(Completed);
    const NTSTATUS Status = Irp->IoStatus.Status;
    IoFreeIrp(Irp);
    return Status;
}

static NTSTATUS NetStop(PDEVICE_OBJECT Device)
{
    NET_SCARCITY Plenty = {0, 0, 0};
    return NetSendPnp(Device, IRP_MN_STOP_DEVICE, NULL, &Plenty);
}

static NTSTATUS NetStart(PDEVICE_OBJECT Device)
{
    NET_RESOURCES Resources;
    NET_SCARCITY Plenty = {0, 0, 0};

    NetFillResources(&Resources);
    return NetSendPnp(Device, IRP_MN_START_DEVICE, &Resources.List, &Plenty);
}

static VOID StopEndsDmaAndReleasesEverything(VOID)
{
    MM_MEMORY_USE Started;
    MM_MEMORY_USE Stopped;
    NET_ADAPTER_INFORMATION Adapter;
    ULONG_PTR ByteCount;

    NET_REQUIRE_DEVICE();
    const PDEVICE_OBJECT Device = NetDevice();
    // Blocks may come to lie in other pages of the pool than at the first start, which counts as a
    // page more; but only once.
    KT_EQUAL(NetStop(Device), STATUS_SUCCESS);
    KT_EQUAL(NetStart(Device), STATUS_SUCCESS);
    KtKeepWhatIsHeld();
    const volatile UCHAR *const Registers = NetMapRegisters();
    KT_REQUIRE(Registers != NULL);
    KT_CHECK((NetRegister(Registers, NET_RCTL) & NET_ENABLE) != 0);
    KT_CHECK((NetRegister(Registers, NET_TCTL) & NET_ENABLE) != 0);

    MmQueryMemoryUse(&Started);
    KT_EQUAL(NetStop(Device), STATUS_SUCCESS);
    MmQueryMemoryUse(&Stopped);
    KT_CHECK(Stopped.DriverPages < Started.DriverPages);
    KT_CHECK(Stopped.Mappings < Started.Mappings);
    KT_CHECK((NetRegister(Registers, NET_RCTL) & NET_ENABLE) == 0);
    KT_CHECK((NetRegister(Registers, NET_TCTL) & NET_ENABLE) == 0);
    KT_EQUAL(IoControlSynchronously(Device, IOCTL_NET_QUERY_ADAPTER, NULL, 0, &Adapter,
                                    sizeof(Adapter), &ByteCount),
             STATUS_DEVICE_NOT_READY);
    KT_EQUAL(NetStop(Device), STATUS_SUCCESS);

    KT_EQUAL(NetStart(Device), STATUS_SUCCESS);
    KT_CHECK((NetRegister(Registers, NET_RCTL) & NET_ENABLE) != 0);
    KT_CHECK((NetRegister(Registers, NET_TCTL) & NET_ENABLE) != 0);
    NetUnmapRegisters(Registers);
    NetQuery(&Adapter);
}

// A START without a STOP before it lets the old resources go.
static VOID StartingTwiceLeaksNothing(VOID)
{
    NET_REQUIRE_DEVICE();
    const PDEVICE_OBJECT Device = NetDevice();
    for (ULONG Round = 0; Round < 3; Round += 1) {
        KT_EQUAL(NetStart(Device), STATUS_SUCCESS);
    }
}

// Every allocation of START fails once; after each failure the device is stopped and holds nothing.
static VOID StartSurvivesEveryFailedAllocation(VOID)
{
    const ULONG SkipLimit = 600;
    NET_RESOURCES Resources;
    MM_MEMORY_USE Stopped;
    NET_SCARCITY Scarcity = {0, 1, 1};
    NTSTATUS Status = STATUS_UNSUCCESSFUL;

    NET_REQUIRE_DEVICE();
    const PDEVICE_OBJECT Device = NetDevice();
    NetFillResources(&Resources);
    KT_EQUAL(NetStop(Device), STATUS_SUCCESS);
    MmQueryMemoryUse(&Stopped);
    for (; Scarcity.FailedCount > 0 && Scarcity.SkipCount < SkipLimit; Scarcity.SkipCount++) {
        KtSetContext("allocation %u", Scarcity.SkipCount);
        Status = NetSendPnp(Device, IRP_MN_START_DEVICE, &Resources.List, &Scarcity);
        if (!NT_SUCCESS(Status)) {
            KT_EQUAL(Status, STATUS_INSUFFICIENT_RESOURCES);
            KT_EQUAL(KtCountLeaks(&Stopped), 0);
        }
    }
    KT_EQUAL(Status, STATUS_SUCCESS);
}

static VOID StartWithoutRegistersIsRefused(VOID)
{
    NET_RESOURCES Resources;
    NET_SCARCITY Plenty = {0, 0, 0};

    NET_REQUIRE_DEVICE();
    const PDEVICE_OBJECT Device = NetDevice();
    KT_EQUAL(NetSendPnp(Device, IRP_MN_START_DEVICE, NULL, &Plenty),
             STATUS_DEVICE_CONFIGURATION_ERROR);
    NetFillResources(&Resources);
    Resources.List.List[0].PartialResourceList.PartialDescriptors[0].u.Memory.Length = PAGE_SIZE;
    KT_EQUAL(NetSendPnp(Device, IRP_MN_START_DEVICE, &Resources.List, &Plenty),
             STATUS_DEVICE_CONFIGURATION_ERROR);
    KT_EQUAL(NetStart(Device), STATUS_SUCCESS);
}

// -------------------------------------------------------------------------------------------------
// Requests that wait while something happens to the card.

typedef struct _NET_PENDING {
    PIRP Irp;
    KEVENT Done;
    ULONG64 Buffer[4]; // the system buffer of IOCTL_NET_WAIT_EVENT
} NET_PENDING;

static BOOLEAN NetBegin(NET_PENDING *Pending, UCHAR MajorFunction, ULONG Code, PVOID Input)
{
    KeInitializeEvent(&Pending->Done, NotificationEvent, FALSE);
    Pending->Irp = IoAllocateIrp(NetDevice()->StackSize, FALSE);
    if (!KT_CHECK(Pending->Irp != NULL)) {
        return FALSE;
    }
    const PIO_STACK_LOCATION Stack = IoGetNextIrpStackLocation(Pending->Irp);
    Stack->MajorFunction = MajorFunction;
    if (MajorFunction == IRP_MJ_READ) {
        Pending->Irp->MdlAddress = Input;
        Stack->Parameters.Read.Length = PAGE_SIZE;
    } else {
        Pending->Irp->AssociatedIrp.SystemBuffer = Pending->Buffer;
        Stack->Parameters.DeviceIoControl.IoControlCode = Code;
        Stack->Parameters.DeviceIoControl.Type3InputBuffer = Input;
        Stack->Parameters.DeviceIoControl.InputBufferLength = sizeof(ULONG);
        Stack->Parameters.DeviceIoControl.OutputBufferLength = sizeof(NET_EVENT);
    }
    IoSetCompletionRoutine(Pending->Irp, NetWake, &Pending->Done, TRUE, TRUE, TRUE);
    (VOID) IoCallDriver(NetDevice(), Pending->Irp);
    return TRUE;
}

static NTSTATUS NetFinish(NET_PENDING *Pending, ULONG Milliseconds)
{
    LARGE_INTEGER Timeout = {.QuadPart = -10000ll * Milliseconds};
    if (KeWaitForSingleObject(&Pending->Done, Executive, KernelMode, FALSE, &Timeout) !=
        STATUS_SUCCESS) {
        IoCancelIrp(Pending->Irp);
        KeWaitForSingleObject(&Pending->Done, Executive, KernelMode, FALSE, NULL);
    }
    const NTSTATUS Status = Pending->Irp->IoStatus.Status;
    IoFreeIrp(Pending->Irp);
    return Status;
}

// Waits for the first change after *Seen.
static BOOLEAN NetBeginEvent(NET_PENDING *Pending, ULONG Seen)
{
    Pending->Buffer[0] = Seen;
    return NetBegin(Pending, IRP_MJ_DEVICE_CONTROL, IOCTL_NET_WAIT_EVENT, NULL);
}

// What has vanished reads as zeros; the test takes away the one register that the driver looks at.
static VOID NetVanish(VOID)
{
    const IO_PCI_BAR *const Bar = &NetFunction()->Bars[0];
    const PUCHAR Registers =
        MmMapIoSpaceEx(KtPhysical(Bar->Base), Bar->ByteCount, PAGE_READWRITE | PAGE_NOCACHE);
    KT_REQUIRE(Registers != NULL);
    WRITE_REGISTER_ULONG((volatile ULONG *)(Registers + 0x2808), 0); // RDLEN
    NetUnmapRegisters(Registers);
}

static VOID NetSurpriseRemove(VOID)
{
    NET_SCARCITY Plenty = {0, 0, 0};
    KT_EQUAL(NetSendPnp(NetDevice(), IRP_MN_SURPRISE_REMOVAL, NULL, &Plenty), STATUS_SUCCESS);
}

static VOID NetCheckEndOfRequests(PMDL Mdl, VOID (*End)(VOID))
{
    static NET_RECEIVE Receive;
    NET_PENDING Pending[3];
    NET_EVENT Event;
    ULONG_PTR ByteCount;
    ULONG Seen = 0;
    RtlZeroMemory(&Receive, sizeof(Receive));
    KT_EQUAL(IoControlSynchronously(NetDevice(), IOCTL_NET_WAIT_EVENT, &Seen, sizeof(Seen), &Event,
                                    sizeof(Event), &ByteCount),
             STATUS_SUCCESS);
    KT_REQUIRE(NetBegin(&Pending[0], IRP_MJ_READ, 0, Mdl));
    KT_REQUIRE(NetBegin(&Pending[1], IRP_MJ_INTERNAL_DEVICE_CONTROL, IOCTL_NET_RECEIVE, &Receive));
    KT_REQUIRE(NetBeginEvent(&Pending[2], Event.Sequence));
    End();
    for (ULONG Index = 0; Index < ARRAYSIZE(Pending); Index += 1) {
        KtSetContext("request %u", Index);
        KT_EQUAL(NetFinish(&Pending[Index], 3000), STATUS_DEVICE_DOES_NOT_EXIST);
    }
    KT_EQUAL(NetTransfer(IRP_MJ_WRITE, Mdl, NET_ARP_BYTES, &ByteCount),
             STATUS_DEVICE_DOES_NOT_EXIST);
    KT_EQUAL(IoControlSynchronously(NetDevice(), IOCTL_NET_WAIT_EVENT, &Seen, sizeof(Seen), &Event,
                                    sizeof(Event), &ByteCount),
             STATUS_DEVICE_DOES_NOT_EXIST);
}

static VOID VanishedCardEndsAllRequests(VOID)
{
    static VOID (*const Ends[])(VOID) = {NetVanish, NetSurpriseRemove};
    NET_PAGE Page;

    NET_REQUIRE_DEVICE();
    for (ULONG Index = 0; Index < ARRAYSIZE(Ends); Index += 1) {
        if (NetAllocatePage(&Page)) {
            NetCheckEndOfRequests(Page.Mdl, Ends[Index]);
        }
        NetFreePage(&Page);
        KT_EQUAL(NetStop(NetDevice()), STATUS_SUCCESS);
        KT_EQUAL(NetStart(NetDevice()), STATUS_SUCCESS);
    }
    NetCheckTraffic();
}

static VOID StopEndsRequestsThatWait(VOID)
{
    NET_PENDING Pending;
    NET_PAGE Page;

    NET_REQUIRE_DEVICE();
    if (NetAllocatePage(&Page) && NetBegin(&Pending, IRP_MJ_READ, 0, Page.Mdl)) {
        KT_EQUAL(NetStop(NetDevice()), STATUS_SUCCESS);
        KT_EQUAL(NetFinish(&Pending, 1000), STATUS_DEVICE_NOT_READY);
        KT_EQUAL(NetStart(NetDevice()), STATUS_SUCCESS);
    }
    NetFreePage(&Page);
}

// F20. Waits for the event that the host's hand at the cable brings about.
static VOID NetAwaitLink(PCSTR Request, NET_EVENT *Last, BOOLEAN LinkUp)
{
    NET_PENDING Pending;
    KT_REQUIRE(NetBeginEvent(&Pending, Last->Sequence));
    if (!KtAskHost(Request)) {
        (VOID) NetFinish(&Pending, 1);
        return;
    }
    if (KT_EQUAL(NetFinish(&Pending, 5000), STATUS_SUCCESS)) {
        RtlCopyMemory(Last, Pending.Buffer, sizeof(*Last));
        KT_EQUAL(Last->LinkUp, LinkUp);
        KT_EQUAL(Last->MegabitsPerSecond, LinkUp ? 1000 : 0);
    }
}

static VOID PulledCableIsNoticed(VOID)
{
    NET_EVENT Last;
    NET_PAGE Page;
    ULONG_PTR ByteCount;
    ULONG Seen = 0;

    NET_REQUIRE_DEVICE();
    if (!KtAskHost("mark")) {
        return;
    }
    KT_EQUAL(IoControlSynchronously(NetDevice(), IOCTL_NET_WAIT_EVENT, &Seen, sizeof(Seen), &Last,
                                    sizeof(Last), &ByteCount),
             STATUS_SUCCESS);
    for (ULONG Round = 0; Round < 3; Round += 1) {
        KtSetContext("round %u", Round);
        NetAwaitLink("hmp set_link nic off", &Last, FALSE);
        if (NetAllocatePage(&Page)) {
            RtlZeroMemory(Page.Va, PAGE_SIZE);
            KT_EQUAL(NetTransfer(IRP_MJ_WRITE, Page.Mdl, NET_ARP_BYTES, &ByteCount),
                     STATUS_NETWORK_UNREACHABLE);
        }
        NetFreePage(&Page);
        NetAwaitLink("hmp set_link nic on", &Last, TRUE);
        NetCheckTraffic();
    }
}

// The device object goes; the driver makes a new one, as after a change of the driver stack.
static VOID RemoveLeavesNothingBehind(VOID)
{
    NET_SCARCITY Plenty = {0, 0, 0};
    MM_MEMORY_USE Removed;

    NET_REQUIRE_DEVICE();
    const PDEVICE_OBJECT Pdo = NetFunction()->Pdo;
    const PDRIVER_OBJECT Driver = NetDevice()->DriverObject;
    KT_EQUAL(NetSendPnp(NetDevice(), IRP_MN_REMOVE_DEVICE, NULL, &Plenty), STATUS_SUCCESS);
    KT_EQUAL(NetDevice(), NULL);

    MmQueryMemoryUse(&Removed);
    MmStartFailures(MM_FAIL_ALL, 0, MAXULONG);
    const NTSTATUS Status = Driver->DriverExtension->AddDevice(Driver, Pdo);
    MmStopFailures();
    KT_EQUAL(Status, STATUS_INSUFFICIENT_RESOURCES);
    KT_EQUAL(KtCountLeaks(&Removed), 0);

    KT_EQUAL(Driver->DriverExtension->AddDevice(Driver, Pdo), STATUS_SUCCESS);
    KT_REQUIRE(NetDevice() != NULL);
    KT_EQUAL(NetStart(NetDevice()), STATUS_SUCCESS);
    NetCheckTraffic();
}

static const KT_TEST Tests[] = {
    {"the adapter's address is the one in its registers [4.1.11, 11.1.2]",
     AddressIsTheOneInTheRegisters},
    {"the link is reported", LinkIsReported},
    {"an ARP request gets its reply", ArpRequestGetsItsReply},
    {"both rings wrap", RingsWrap},
    {"a frame that lies in two pages is sent [3.1.2]", FrameInTwoPagesIsSent},
    {"the longest frame is sent", LongestFrameIsSent},
    {"a read waits while nothing comes, and can be cancelled", SilenceLastsUntilTheReadIsCancelled},
    {"the interrupts that the driver handles are enabled, and no other",
     HandledInterruptsAreEnabled},
    {"a frame that the card does not send is taken back by a reset", StuckFrameIsTakenBack},
    {"frames and buffers of wrong length are refused", WrongLengthsAreRefused},
    {"transfers without an MDL are refused", TransfersWithoutMdlAreRefused},
    {"controls that are unknown or have too little room are refused", WrongControlsAreRefused},
    {"STOP ends DMA and releases everything; START brings it back [11.1.2]",
     StopEndsDmaAndReleasesEverything},
    {"START without STOP leaks nothing [11.1.2]", StartingTwiceLeaksNothing},
    {"START survives the failure of each of its allocations", StartSurvivesEveryFailedAllocation},
    {"START without registers is refused [11.1.2, 18.26]", StartWithoutRegistersIsRefused},
    {"requests that wait end when the card is stopped", StopEndsRequestsThatWait},
    {"requests end when the card has vanished, or is removed by surprise; START brings it back",
     VanishedCardEndsAllRequests},
    {"F20: a pulled cable is noticed, and traffic resumes", PulledCableIsNoticed},
    {"REMOVE leaves nothing behind, and the device can be added again [11.1.2]",
     RemoveLeavesNothingBehind},
};
const KT_SUITE KtE1000Suite = {"e1000", KtNeedsDevices, Tests, ARRAYSIZE(Tests)};
