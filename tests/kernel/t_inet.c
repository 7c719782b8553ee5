// The network stack as a driver: loaded, asked, unloaded, against QEMU's user network: a gateway at
// 10.0.2.2 that answers ARP and echo requests, and gives 10.0.2.15 by DHCP. What it does with frames that
// no gateway sends, tests/host/t_inet.c and tests/qemu/netpeer.py try.
#include <ntddinet.h>
#include <ntddstate.h>

#include "kernel/inc/io.h"
#include "kernel/inc/rtl.h"
#include "tests/kernel/tests.h"

#define INET_TEXT_BYTES 8192
#define INET_ROUNDS 5

static const UCHAR InetOwnAddress[NET_IPV4_ADDRESS_BYTES] = {10, 0, 2, 15};
static const UCHAR InetGateway[NET_IPV4_ADDRESS_BYTES] = {10, 0, 2, 2};

// -------------------------------------------------------------------------------------------------
// The stack, for one test.

static PFILE_OBJECT InetFile;
static PDEVICE_OBJECT InetDevice;

static PDEVICE_OBJECT InetOpen(PCWSTR Path, PFILE_OBJECT *File)
{
    UNICODE_STRING Name;
    PDEVICE_OBJECT Device;
    RtlInitUnicodeString(&Name, Path);
    return NT_SUCCESS(IoGetDeviceObjectPointer(&Name, FILE_READ_DATA, File, &Device)) ? Device
                                                                                      : NULL;
}

static BOOLEAN InetLoad(VOID)
{
    InetDevice = NULL;
    if (KT_EQUAL(IoLoadDriver("inet"), STATUS_SUCCESS)) {
        InetDevice = InetOpen(u"\\Device\\Inet", &InetFile);
    }
    return KT_CHECK(InetDevice != NULL);
}

static VOID InetUnload(VOID)
{
    if (InetDevice != NULL) {
        ObDereferenceObject(InetFile);
        InetDevice = NULL;
    }
    KT_EQUAL(IoUnloadDriver("inet"), STATUS_SUCCESS);
    // Frames of the pool lie in other pages afterwards, and the workers have had work.
    KtKeepWhatIsHeld();
}

#define INET_REQUIRE()                                                                             \
    do {                                                                                           \
        if (IoFindDevice(FILE_DEVICE_PHYSICAL_NETCARD, 0) == NULL) {                               \
            KT_SKIP("no network card");                                                            \
        }                                                                                          \
        if (!InetLoad()) {                                                                         \
            return;                                                                                \
        }                                                                                          \
    } while (0)

static NTSTATUS InetControl(ULONG Code, const VOID *Input, ULONG InputBytes, PVOID Output,
                            ULONG OutputBytes)
{
    ULONG_PTR Information;
    return IoControlSynchronously(InetDevice, Code, Input, InputBytes, Output, OutputBytes,
                                  &Information);
}

static NTSTATUS InetLease(NET_LEASE *Lease)
{
    return InetControl(IOCTL_NET_OBTAIN_LEASE, NULL, 0, Lease, sizeof(*Lease));
}

static NTSTATUS InetPing(const UCHAR *Address, ULONG PayloadBytes, INET_PING_RESULT *Result)
{
    INET_PING Ping = {.PayloadBytes = PayloadBytes, .TimeoutMilliseconds = 3000};
    RtlCopyMemory(Ping.Address, Address, sizeof(Ping.Address));
    return InetControl(IOCTL_INET_PING, &Ping, sizeof(Ping), Result, sizeof(*Result));
}

// -------------------------------------------------------------------------------------------------
// Tests.

static VOID LeaseIsObtained(VOID)
{
    NET_LEASE Lease;

    INET_REQUIRE();
    if (KT_EQUAL(InetLease(&Lease), STATUS_SUCCESS)) {
        KT_CHECK(RtlEqualMemory(Lease.Address, InetOwnAddress, sizeof(Lease.Address)));
        KT_CHECK(RtlEqualMemory(Lease.Router, InetGateway, sizeof(Lease.Router)));
        KT_CHECK(RtlEqualMemory(Lease.Server, InetGateway, sizeof(Lease.Server)));
        KT_EQUAL(Lease.Mask[2], 255);
        KT_CHECK(Lease.LeaseSeconds > 0);
    }
    InetUnload();
}

static VOID GatewayAnswersPings(VOID)
{
    static const ULONG Sizes[] = {0, 1, 56, INET_PING_LIMIT};
    NET_LEASE Lease;
    INET_PING_RESULT Result;
    INET_INFORMATION Before;
    INET_INFORMATION After;

    INET_REQUIRE();
    KT_EQUAL(InetLease(&Lease), STATUS_SUCCESS);
    KT_EQUAL(InetControl(IOCTL_INET_QUERY, NULL, 0, &Before, sizeof(Before)), STATUS_SUCCESS);
    for (ULONG Row = 0; Row < ARRAYSIZE(Sizes); Row += 1) {
        KT_EQUAL(InetPing(InetGateway, Sizes[Row], &Result), STATUS_SUCCESS);
        KT_CHECK(Result.Microseconds > 0 && Result.TimeToLive > 0);
    }
    KT_EQUAL(InetControl(IOCTL_INET_QUERY, NULL, 0, &After, sizeof(After)), STATUS_SUCCESS);
    KT_CHECK(After.FramesReceived >= Before.FramesReceived + ARRAYSIZE(Sizes));
    KT_CHECK(After.FramesSent >= Before.FramesSent + ARRAYSIZE(Sizes));
    KT_EQUAL(After.FramesHeld, 0);
    KT_EQUAL(After.CardCount, 1);
    KT_CHECK(After.IsConfigured && After.LinkUp);
    InetUnload();
}

static VOID WrongRequestsAreRefused(VOID)
{
    static const UCHAR Group[] = {224, 0, 0, 1};
    INET_PING_RESULT Result;
    NET_LEASE Lease;

    INET_REQUIRE();
    KT_EQUAL(InetLease(&Lease), STATUS_SUCCESS);
    KT_EQUAL(InetPing(InetGateway, INET_PING_LIMIT + 1, &Result), STATUS_INVALID_PARAMETER);
    KT_EQUAL(InetPing(Group, 0, &Result), STATUS_INVALID_PARAMETER);
    KT_EQUAL(InetControl(IOCTL_NET_OBTAIN_LEASE, NULL, 0, &Lease, sizeof(Lease) - 1),
             STATUS_BUFFER_TOO_SMALL);
    KT_EQUAL(InetControl(IOCTL_INET_PING, &Lease, 4, &Result, sizeof(Result)),
             STATUS_BUFFER_TOO_SMALL);
    KT_EQUAL(InetControl(IOCTL_NET_SEND, NULL, 0, &Lease, sizeof(Lease)),
             STATUS_INVALID_PARAMETER); // METHOD_NEITHER is nothing for IoControlSynchronously
    KT_EQUAL(InetControl(IOCTL_NET_QUERY_ADAPTER, NULL, 0, &Lease, sizeof(Lease)),
             STATUS_INVALID_DEVICE_REQUEST);
    InetUnload();
}

static NTSTATUS NTAPI InetWake(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    UNREFERENCED_PARAMETER(Irp);
    KeSetEvent(Context, IO_NO_INCREMENT, FALSE);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

// A ping that nobody answers: its request is cancelled, and then the driver is unloaded under another.
static VOID RequestsThatWaitCanBeCancelled(VOID)
{
    UCHAR Buffer[sizeof(INET_PING)];
    const INET_PING Ping = {{10, 0, 2, 77}, 56, 60000};
    NET_LEASE Lease;
    KEVENT Event;

    INET_REQUIRE();
    KT_EQUAL(InetLease(&Lease), STATUS_SUCCESS);
    for (ULONG Round = 0; Round < 2; Round += 1) {
        const PIRP Irp = IoAllocateIrp(InetDevice->StackSize, FALSE);
        if (!KT_CHECK(Irp != NULL)) {
            break;
        }
        RtlCopyMemory(Buffer, &Ping, sizeof(Ping));
        KeInitializeEvent(&Event, NotificationEvent, FALSE);
        const PIO_STACK_LOCATION Stack = IoGetNextIrpStackLocation(Irp);
        Stack->MajorFunction = IRP_MJ_DEVICE_CONTROL;
        Stack->Parameters.DeviceIoControl.IoControlCode = IOCTL_INET_PING;
        Stack->Parameters.DeviceIoControl.InputBufferLength = sizeof(Buffer);
        Stack->Parameters.DeviceIoControl.OutputBufferLength = sizeof(Buffer);
        Irp->AssociatedIrp.SystemBuffer = Buffer;
        IoSetCompletionRoutine(Irp, InetWake, &Event, TRUE, TRUE, TRUE);
        KT_EQUAL(IoCallDriver(InetDevice, Irp), STATUS_PENDING);
        if (Round == 0) {
            KT_EQUAL(IoCancelIrp(Irp), TRUE);
        } else {
            InetUnload();
        }
        KeWaitForSingleObject(&Event, Executive, KernelMode, FALSE, NULL);
        KT_EQUAL(Irp->IoStatus.Status, Round == 0 ? STATUS_CANCELLED : STATUS_DEVICE_REMOVED);
        IoFreeIrp(Irp);
    }
    KtKeepWhatIsHeld(); // this was there when the driver was unloaded
}

// The card is removed under the stack, which lets it go, and finds it again.
static VOID CardComesAndGoes(VOID)
{
    LARGE_INTEGER Tick = {.QuadPart = -100000};
    INET_PING_RESULT Result;
    NET_LEASE Lease;
    NTSTATUS Status = STATUS_NO_SUCH_DEVICE;

    INET_REQUIRE();
    KT_EQUAL(InetLease(&Lease), STATUS_SUCCESS);
    const IO_PCI_FUNCTION *Function = IoNextPciFunction(NULL);
    while (Function != NULL && Function->BaseClass != 2) {
        Function = IoNextPciFunction(Function);
    }
    if (KT_CHECK(Function != NULL)) {
        KT_EQUAL(IoRemovePdo(Function->Pdo), STATUS_SUCCESS);
        KT_EQUAL(InetLease(&Lease), STATUS_NO_SUCH_DEVICE);
        KT_EQUAL(IoStartPdo(Function->Pdo), STATUS_SUCCESS);
        for (ULONG Round = 0; Round < 300 && Status == STATUS_NO_SUCH_DEVICE; Round += 1) {
            KeDelayExecutionThread(KernelMode, FALSE, &Tick);
            Status = InetLease(&Lease);
        }
        KT_EQUAL(Status, STATUS_SUCCESS);
        KT_EQUAL(InetPing(InetGateway, 56, &Result), STATUS_SUCCESS);
    }
    InetUnload();
}

static VOID LoadingAndUnloadingLeavesNothing(VOID)
{
    MM_MEMORY_USE Before;

    INET_REQUIRE();
    InetUnload();
    MmQueryMemoryUse(&Before);
    for (ULONG Round = 0; Round < INET_ROUNDS; Round += 1) {
        KtSetContext("round %u", Round);
        if (!InetLoad()) {
            return;
        }
        ObDereferenceObject(InetFile);
        InetDevice = NULL;
        KT_EQUAL(IoUnloadDriver("inet"), STATUS_SUCCESS);
    }
    KT_EQUAL(KtCountLeaks(&Before), 0);
}

static VOID ReportIsText(VOID)
{
    static const CHAR Beginning[] = "station 52:54:00:";
    ULONG_PTR ByteCount;
    PCHAR Text;

    INET_REQUIRE();
    Text = ExAllocatePool2(POOL_FLAG_PAGED, INET_TEXT_BYTES, KT_TAG);
    if (KT_CHECK(Text != NULL)) {
        KT_EQUAL(IoControlSynchronously(InetDevice, IOCTL_INET_DESCRIBE, NULL, 0, Text,
                                        INET_TEXT_BYTES, &ByteCount),
                 STATUS_SUCCESS);
        KT_CHECK(ByteCount > sizeof(Beginning) && Text[ByteCount - 1] == '\n');
        KT_CHECK(RtlEqualMemory(Text, Beginning, sizeof(Beginning) - 1));
        ExFreePoolWithTag(Text, KT_TAG);
    }
    InetUnload();
}

// -------------------------------------------------------------------------------------------------
// The kernel's state, which the stack passes on.

static VOID KernelTellsItsState(VOID)
{
    static const PCSTR Names[] = {"help",     "memory",     "physical", "layout",
                                  "mappings", "shootdowns", "dma",      "drivers",
                                  "devices",  "interrupts", "threads"};
    PFILE_OBJECT File;
    ULONG_PTR ByteCount;

    const PDEVICE_OBJECT Device = InetOpen(u"\\Device\\KernelState", &File);
    KT_REQUIRE(Device != NULL);
    const PCHAR Text = ExAllocatePool2(POOL_FLAG_PAGED, INET_TEXT_BYTES, KT_TAG);
    for (ULONG Row = 0; Row < ARRAYSIZE(Names) && KT_CHECK(Text != NULL); Row += 1) {
        KtSetContext("%s", Names[Row]);
        KT_EQUAL(IoControlSynchronously(Device, IOCTL_STATE_REPORT, Names[Row],
                                        (ULONG)RtlStringLength(Names[Row]), Text, INET_TEXT_BYTES,
                                        &ByteCount),
                 STATUS_SUCCESS);
        KT_CHECK(ByteCount > 10 && ByteCount <= INET_TEXT_BYTES);
    }
    if (Text != NULL) {
        // No more than there is room for.
        KT_EQUAL(
            IoControlSynchronously(Device, IOCTL_STATE_REPORT, "memory", 6, Text, 7, &ByteCount),
            STATUS_SUCCESS);
        KT_EQUAL(ByteCount, 7);
        KT_EQUAL(
            IoControlSynchronously(Device, IOCTL_STATE_REPORT, "memor", 5, Text, 100, &ByteCount),
            STATUS_OBJECT_NAME_NOT_FOUND);
        KT_EQUAL(IoControlSynchronously(Device, IOCTL_STATE_REPORT, NULL, 0, Text, 100, &ByteCount),
                 STATUS_INVALID_PARAMETER);
        ExFreePoolWithTag(Text, KT_TAG);
    }
    ObDereferenceObject(File);
}

static const KT_TEST Tests[] = {
    {"DHCP gives the address of the user network", LeaseIsObtained},
    {"the gateway answers pings of every size", GatewayAnswersPings},
    {"requests that make no sense are refused", WrongRequestsAreRefused},
    {"requests that wait can be cancelled, and end when the driver goes",
     RequestsThatWaitCanBeCancelled},
    {"a card that is removed is let go, and bound again when it comes back", CardComesAndGoes},
    {"loading and unloading leaves nothing behind", LoadingAndUnloadingLeavesNothing},
    {"the stack describes itself", ReportIsText},
    {"the kernel tells its state as text", KernelTellsItsState},
};
const KT_SUITE KtInetSuite = {"inet", KtNeedsDevices, Tests, ARRAYSIZE(Tests)};
