// `mode=net`: the kernel as a station of a network, until the host has had enough of it. What `make ping`
// boots, and the tests with a peer of their own.
//
// The network stack (drivers/inet) does the work; here the machine is only kept alive. It ends when the
// host sends a `q` to the console, or after `seconds=N` (30 by default); then the drivers are removed
// and unloaded, and what they have left behind is told.
#include <ntddinet.h>

#include "kernel/demo.h"
#include "kernel/inc/io.h"
#include "kernel/inc/kd.h"
#include "kernel/inc/ke.h"
#include "kernel/inc/rtl.h"
#include "mm/mm.h"

#define KI_NETWORK_SECONDS 30
#define KI_POLL_MS 20
#define KI_DESCRIPTION_BYTES 4096

static VOID KiPrintIpv4(PCSTR Title, const UCHAR Address[NET_IPV4_ADDRESS_BYTES])
{
    DbgPrint("%s %u.%u.%u.%u", Title, Address[0], Address[1], Address[2], Address[3]);
}

// The network stack's device; NULL: there is none. The caller dereferences *File.
static PDEVICE_OBJECT KiOpenNetwork(PFILE_OBJECT *File)
{
    static UNICODE_STRING Name = RTL_CONSTANT_STRING(u"\\Device\\Inet");
    PDEVICE_OBJECT Device;
    return NT_SUCCESS(IoGetDeviceObjectPointer(&Name, FILE_READ_DATA, File, &Device)) ? Device
                                                                                      : NULL;
}

static VOID KiPrintLease(const NET_LEASE *Lease)
{
    KiPrintIpv4("net: DHCP lease:", Lease->Address);
    KiPrintIpv4(", mask", Lease->Mask);
    KiPrintIpv4(", router", Lease->Router);
    KiPrintIpv4(", name server", Lease->NameServer);
    KiPrintIpv4(", from", Lease->Server);
    DbgPrint(", for %u s\n", Lease->LeaseSeconds);
}

static NTSTATUS KiPing(PDEVICE_OBJECT Device, const UCHAR Address[NET_IPV4_ADDRESS_BYTES])
{
    INET_PING Ping = {.PayloadBytes = 56, .TimeoutMilliseconds = 2000};
    INET_PING_RESULT Result;
    ULONG_PTR Information;
    RtlCopyMemory(Ping.Address, Address, sizeof(Ping.Address));
    const NTSTATUS Status = IoControlSynchronously(Device, IOCTL_INET_PING, &Ping, sizeof(Ping),
                                                   &Result, sizeof(Result), &Information);
    if (NT_SUCCESS(Status)) {
        KiPrintIpv4("net: ping", Address);
        DbgPrint(": a reply after %u microseconds, time to live %u\n", Result.Microseconds,
                 Result.TimeToLive);
    }
    return Status;
}

NTSTATUS KiShowLease(VOID)
{
    PFILE_OBJECT File;
    NET_LEASE Lease;
    ULONG_PTR Information;
    PDEVICE_OBJECT Device = KiOpenNetwork(&File);
    if (Device == NULL) {
        return STATUS_NO_SUCH_DEVICE;
    }
    RtlZeroMemory(&Lease, sizeof(Lease));
    const NTSTATUS Status = IoControlSynchronously(Device, IOCTL_NET_OBTAIN_LEASE, NULL, 0, &Lease,
                                                   sizeof(Lease), &Information);
    if (NT_SUCCESS(Status)) {
        KiPrintLease(&Lease);
        // A router need not answer; that it does not is no failure.
        if (Lease.Router[0] != 0 && !NT_SUCCESS(KiPing(Device, Lease.Router))) {
            KiPrintIpv4("net: ping", Lease.Router);
            DbgPrint(": no reply\n");
        }
    }
    ObDereferenceObject(File);
    return Status;
}

//
// The mode.
//

static VOID KiPrintLines(PCHAR Text, ULONG ByteCount)
{
    for (ULONG Start = 0, End = 0; End < ByteCount; End += 1) {
        if (Text[End] == '\n') {
            Text[End] = 0;
            DbgPrint("inet: %s\n", Text + Start);
            Start = End + 1;
        }
    }
}

// What the stack has counted, at the end.
static VOID KiDescribeNetwork(VOID)
{
    PFILE_OBJECT File;
    ULONG_PTR ByteCount;
    PDEVICE_OBJECT Device = KiOpenNetwork(&File);
    PCHAR Text = ExAllocatePool2(POOL_FLAG_PAGED, KI_DESCRIPTION_BYTES, 'teNK');
    if (Device != NULL && Text != NULL &&
        NT_SUCCESS(IoControlSynchronously(Device, IOCTL_INET_DESCRIBE, NULL, 0, Text,
                                          KI_DESCRIPTION_BYTES, &ByteCount))) {
        KiPrintLines(Text, (ULONG)ByteCount);
    }
    if (Text != NULL) {
        ExFreePoolWithTag(Text, 'teNK');
    }
    if (Device != NULL) {
        ObDereferenceObject(File);
    }
}

static ULONG KiNetworkSeconds(VOID)
{
    CHAR Text[16];
    ULONG Seconds = 0;
    if (!KeGetBootOption("seconds", Text, sizeof(Text))) {
        return KI_NETWORK_SECONDS;
    }
    for (PCSTR Digit = Text; *Digit >= '0' && *Digit <= '9' && Seconds < 1000000; Digit += 1) {
        Seconds = Seconds * 10 + (ULONG)(*Digit - '0');
    }
    return Seconds;
}

static VOID KiWaitForHost(VOID)
{
    LARGE_INTEGER Interval = {.QuadPart = -10000LL * KI_POLL_MS};
    const ULONG Rounds = KiNetworkSeconds() * (1000 / KI_POLL_MS);
    for (ULONG Round = 0; Round < Rounds; Round += 1) {
        LONG Byte = KdPollInput();
        for (; Byte >= 0 && Byte != 'q'; Byte = KdPollInput()) {
        }
        if (Byte == 'q') {
            return;
        }
        (VOID) KeDelayExecutionThread(KernelMode, FALSE, &Interval);
    }
}

BOOLEAN KiRunNetwork(const LOADER_BLOCK *LoaderBlock)
{
    MM_LEAKS Leaks;
    UNREFERENCED_PARAMETER(LoaderBlock);
    const NTSTATUS Status = KiShowLease();
    if (!NT_SUCCESS(Status)) {
        DbgPrint("net: no lease: status 0x%08x\n", Status);
    }
    DbgPrint("net: ready; `q` ends it\n");
    KiWaitForHost();
    KiDescribeNetwork();
    IoUnloadDrivers();
    MmReportLeaks(NULL, &Leaks);
    DbgPrint("left behind: %u things, %llu bytes\n", Leaks.Count, Leaks.ByteCount);
    return Leaks.Count == 0;
}
