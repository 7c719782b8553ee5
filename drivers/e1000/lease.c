// DHCP over the card: the client of dhcp.c, with frames that go and come as anybody's do, by IRPs to our
// own device.
#include "e1000.h"

#include "dhcp.h"

#define E1000_SEND_MS 5000u

typedef struct _E1000_LEASE {
    PE1000_ADAPTER Adapter;
    DHCP_CLIENT Client;
} E1000_LEASE, *PE1000_LEASE;

static IO_COMPLETION_ROUTINE E1000WakeUp;

static NTSTATUS NTAPI E1000WakeUp(PDEVICE_OBJECT Device, PIRP Irp, PVOID Context)
{
    UNREFERENCED_PARAMETER(Device);
    UNREFERENCED_PARAMETER(Irp);
    KeSetEvent(Context, IO_NETWORK_INCREMENT, FALSE);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

// Sends an IRP to the card and waits; cancels it when it takes longer.
static NTSTATUS E1000Transfer(PE1000_ADAPTER Adapter, UCHAR MajorFunction, PMDL Mdl,
                              ULONG TimeoutMs, PULONG ByteCount)
{
    LARGE_INTEGER Timeout;
    KEVENT Event;

    const PIRP Irp = IoAllocateIrp(Adapter->Fdo->StackSize, FALSE);
    if (Irp == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    KeInitializeEvent(&Event, NotificationEvent, FALSE);
    const PIO_STACK_LOCATION Stack = IoGetNextIrpStackLocation(Irp);
    Stack->MajorFunction = MajorFunction;
    Stack->Parameters.Write.Length = *ByteCount; // Read.Length is the same field
    Irp->MdlAddress = Mdl;
    IoSetCompletionRoutine(Irp, E1000WakeUp, &Event, TRUE, TRUE, TRUE);
    Timeout.QuadPart = -10000ll * TimeoutMs;
    (VOID) IoCallDriver(Adapter->Fdo, Irp);
    BOOLEAN IsLate = FALSE;
    if (KeWaitForSingleObject(&Event, Executive, KernelMode, FALSE, &Timeout) != STATUS_SUCCESS) {
        IsLate = IoCancelIrp(Irp);
        (VOID) KeWaitForSingleObject(&Event, Executive, KernelMode, FALSE, NULL);
    }
    const NTSTATUS Status = Irp->IoStatus.Status;
    *ByteCount = (ULONG)Irp->IoStatus.Information;
    Irp->MdlAddress = NULL;
    IoFreeIrp(Irp);
    return IsLate && Status == STATUS_CANCELLED ? STATUS_IO_TIMEOUT : Status;
}

static NTSTATUS E1000TransferBuffer(PE1000_ADAPTER Adapter, UCHAR MajorFunction, PVOID Buffer,
                                    ULONG TimeoutMs, PULONG ByteCount)
{
    const PMDL Mdl = IoAllocateMdl(Buffer, *ByteCount, FALSE, FALSE, NULL);

    if (Mdl == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    MmBuildMdlForNonPagedPool(Mdl);
    const NTSTATUS Status = E1000Transfer(Adapter, MajorFunction, Mdl, TimeoutMs, ByteCount);
    IoFreeMdl(Mdl);
    return Status;
}

// The client's buffers are in E1000_LEASE, which is nonpaged pool.
static NTSTATUS NTAPI E1000DhcpSend(PVOID Context, const UCHAR *Frame, ULONG ByteCount)
{
    const PE1000_LEASE Lease = Context;
    ULONG Sent = ByteCount;

    return E1000TransferBuffer(Lease->Adapter, IRP_MJ_WRITE, (PVOID)(ULONG_PTR)Frame, E1000_SEND_MS,
                               &Sent);
}

static NTSTATUS NTAPI E1000DhcpReceive(PVOID Context, PUCHAR Frame, ULONG Capacity, ULONG TimeoutMs,
                                       PULONG ByteCount)
{
    const PE1000_LEASE Lease = Context;

    *ByteCount = Capacity;
    const NTSTATUS Status =
        E1000TransferBuffer(Lease->Adapter, IRP_MJ_READ, Frame, TimeoutMs, ByteCount);
    if (!NT_SUCCESS(Status)) {
        *ByteCount = 0;
    }
    return Status;
}

static ULONG64 NTAPI E1000DhcpClock(PVOID Context)
{
    LARGE_INTEGER Frequency;
    const ULONG64 Ticks = (ULONG64)KeQueryPerformanceCounter(&Frequency).QuadPart;
    const ULONG64 TicksPerSecond = (ULONG64)Frequency.QuadPart;

    UNREFERENCED_PARAMETER(Context);
    return Ticks / TicksPerSecond * 1000 + Ticks % TicksPerSecond * 1000 / TicksPerSecond;
}

static VOID E1000ExplainMissingLease(const DHCP_CLIENT *Client, NTSTATUS Status)
{
    DbgPrint("e1000: no DHCP lease (status 0x%08x) after %u messages.\n", Status,
             Client->SentCount);
    for (ULONG Verdict = 0; Verdict < DhcpVerdictCount; Verdict += 1) {
        if (Client->VerdictCounts[Verdict] != 0) {
            DbgPrint("e1000:   %u frames: %s\n", Client->VerdictCounts[Verdict],
                     DhcpDescribeVerdict((DHCP_VERDICT)Verdict));
        }
    }
}

static VOID E1000StoreAddress(UCHAR Bytes[NET_IPV4_ADDRESS_BYTES], ULONG Address)
{
    Bytes[0] = (UCHAR)(Address >> 24);
    Bytes[1] = (UCHAR)(Address >> 16);
    Bytes[2] = (UCHAR)(Address >> 8);
    Bytes[3] = (UCHAR)Address;
}

static VOID E1000StoreLease(PNET_LEASE Lease, const DHCP_REPLY *Reply)
{
    E1000StoreAddress(Lease->Address, Reply->Address);
    E1000StoreAddress(Lease->Mask, Reply->SubnetMask);
    E1000StoreAddress(Lease->Router, Reply->Router);
    E1000StoreAddress(Lease->NameServer, Reply->DnsServer);
    E1000StoreAddress(Lease->Server, Reply->ServerId);
    Lease->LeaseSeconds = Reply->LeaseSeconds;
}

NTSTATUS E1000ObtainLease(PE1000_ADAPTER Adapter, PNET_LEASE Lease)
{
    const PE1000_LEASE Context = ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(*Context), E1000_TAG);
    const ULONG Seed = (ULONG)KeQueryPerformanceCounter(NULL).QuadPart;

    if (Context == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    const DHCP_LINK Link = {Context, E1000DhcpSend, E1000DhcpReceive, E1000DhcpClock};
    Context->Adapter = Adapter;
    DhcpInitializeClient(&Context->Client, &Link, Adapter->MacAddress, Seed);
    const NTSTATUS Status =
        Adapter->Link.LinkUp ? DhcpObtainLease(&Context->Client) : STATUS_NETWORK_UNREACHABLE;
    if (NT_SUCCESS(Status)) {
        E1000StoreLease(Lease, &Context->Client.Reply);
    } else {
        E1000ExplainMissingLease(&Context->Client, Status);
    }
    ExFreePoolWithTag(Context, E1000_TAG);
    return Status;
}
