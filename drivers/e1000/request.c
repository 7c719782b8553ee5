// What IRPs ask of a started adapter: a frame out, a frame in, what the adapter is, an address by
// DHCP.
//
// Requests are served by the thread that brings them, one at a time, because both rings and the
// DHCP client have one user: a second one that comes meanwhile is refused with STATUS_DEVICE_BUSY.
// IRQL: PASSIVE_LEVEL; requests wait by polling.
#include "e1000.h"

#define E1000_READ_MS 1500 // longer than QEMU holds back frames after a bring-up (E3 in hardware.c)

typedef NTSTATUS E1000_REQUEST_ROUTINE(PE1000_ADAPTER Adapter, PIRP Irp,
                                       const IO_STACK_LOCATION *Stack, PULONG_PTR Information);

// -------------------------------------------------------------------------------------------------
// Frames.

// A frame that is given to a card without link waits in it, or is lost without a word.
static NTSTATUS E1000CheckLink(const E1000_ADAPTER *Adapter)
{
    if (E1000IsGone(Adapter)) {
        return STATUS_NO_SUCH_DEVICE;
    }
    return E1000IsLinkUp(Adapter) ? STATUS_SUCCESS : STATUS_NETWORK_UNREACHABLE;
}

static NTSTATUS E1000CheckFrameLength(const IO_STACK_LOCATION *Stack, PMDL Mdl)
{
    const ULONG ByteCount = Stack->Parameters.Write.Length;

    if (ByteCount > E1000_MAXIMUM_FRAME_BYTES) {
        return STATUS_INVALID_BUFFER_SIZE;
    }
    if (ByteCount < E1000_ETHERNET_HEADER_BYTES || Mdl == NULL ||
        ByteCount > MmGetMdlByteCount(Mdl)) {
        return STATUS_INVALID_PARAMETER;
    }
    return STATUS_SUCCESS;
}

static NTSTATUS E1000WriteFrame(PE1000_ADAPTER Adapter, PIRP Irp, const IO_STACK_LOCATION *Stack,
                                PULONG_PTR Information)
{
    NTSTATUS Status = E1000CheckFrameLength(Stack, Irp->MdlAddress);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    Status = E1000CheckLink(Adapter);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    Status = E1000SendMdl(Adapter, Irp->MdlAddress, Stack->Parameters.Write.Length);
    *Information = NT_SUCCESS(Status) ? Stack->Parameters.Write.Length : 0;
    return Status;
}

// The buffer must hold the longest frame, so that no frame is ever cut or lost for want of room.
static NTSTATUS E1000ReadFrame(PE1000_ADAPTER Adapter, PIRP Irp, const IO_STACK_LOCATION *Stack,
                               PULONG_PTR Information)
{
    const ULONG Capacity = Stack->Parameters.Read.Length;
    ULONG ByteCount;

    if (Irp->MdlAddress == NULL || Capacity < E1000_MAXIMUM_FRAME_BYTES ||
        Capacity > MmGetMdlByteCount(Irp->MdlAddress)) {
        return STATUS_BUFFER_TOO_SMALL;
    }
    const PUCHAR Buffer =
        MmGetSystemAddressForMdlSafe(Irp->MdlAddress, NormalPagePriority | MdlMappingNoExecute);
    if (Buffer == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    const NTSTATUS Status = E1000ReceiveFrame(Adapter, Buffer, Capacity, E1000_READ_MS, &ByteCount);
    *Information = ByteCount;
    return Status;
}

// -------------------------------------------------------------------------------------------------
// DHCP over our rings.

static NTSTATUS NTAPI E1000DhcpSend(PVOID Context, const UCHAR *Frame, ULONG ByteCount)
{
    const PE1000_ADAPTER Adapter = Context;

    RtlCopyMemory(Adapter->OwnFrame.Va, Frame, ByteCount);
    return E1000SendOwnFrame(Adapter, ByteCount);
}

static NTSTATUS NTAPI E1000DhcpReceive(PVOID Context, PUCHAR Frame, ULONG Capacity, ULONG TimeoutMs,
                                       PULONG ByteCount)
{
    return E1000ReceiveFrame(Context, Frame, Capacity, TimeoutMs, ByteCount);
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

static NTSTATUS E1000ObtainLease(PE1000_ADAPTER Adapter)
{
    const DHCP_LINK Link = {Adapter, E1000DhcpSend, E1000DhcpReceive, E1000DhcpClock};
    const ULONG Seed = (ULONG)KeQueryPerformanceCounter(NULL).QuadPart;

    NTSTATUS Status = E1000CheckLink(Adapter);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    DhcpInitializeClient(&Adapter->Dhcp, &Link, Adapter->MacAddress, Seed);
    Status = DhcpObtainLease(&Adapter->Dhcp);
    if (!NT_SUCCESS(Status)) {
        E1000ExplainMissingLease(&Adapter->Dhcp, Status);
    }
    return Status;
}

// -------------------------------------------------------------------------------------------------
// Device control. Output goes to the system buffer, whose length was checked.

static NTSTATUS E1000QueryAdapter(PE1000_ADAPTER Adapter, PVOID Output)
{
    const PNET_ADAPTER_INFORMATION Information = Output;
    const BOOLEAN LinkUp = E1000IsLinkUp(Adapter);

    RtlCopyMemory(Information->EthernetAddress, Adapter->MacAddress,
                  sizeof(Information->EthernetAddress));
    Information->LinkUp = LinkUp;
    Information->FullDuplex = LinkUp && E1000IsFullDuplex(Adapter);
    Information->MegabitsPerSecond = LinkUp ? E1000LinkMegabits(Adapter) : 0;
    return STATUS_SUCCESS;
}

static VOID E1000StoreAddress(UCHAR Bytes[NET_IPV4_ADDRESS_BYTES], ULONG Address)
{
    Bytes[0] = (UCHAR)(Address >> 24);
    Bytes[1] = (UCHAR)(Address >> 16);
    Bytes[2] = (UCHAR)(Address >> 8);
    Bytes[3] = (UCHAR)Address;
}

static NTSTATUS E1000ReportLease(PE1000_ADAPTER Adapter, PVOID Output)
{
    const PNET_LEASE Lease = Output;
    const DHCP_REPLY *const Reply = &Adapter->Dhcp.Reply;

    const NTSTATUS Status = E1000ObtainLease(Adapter);
    if (NT_SUCCESS(Status)) {
        E1000StoreAddress(Lease->Address, Reply->Address);
        E1000StoreAddress(Lease->Mask, Reply->SubnetMask);
        E1000StoreAddress(Lease->Router, Reply->Router);
        E1000StoreAddress(Lease->NameServer, Reply->DnsServer);
        E1000StoreAddress(Lease->Server, Reply->ServerId);
        Lease->LeaseSeconds = Reply->LeaseSeconds;
    }
    return Status;
}

static const struct {
    ULONG ControlCode;
    ULONG OutputByteCount;
    NTSTATUS (*Routine)(PE1000_ADAPTER Adapter, PVOID Output);
} E1000ControlRoutines[] = {
    {IOCTL_NET_QUERY_ADAPTER, sizeof(NET_ADAPTER_INFORMATION), E1000QueryAdapter},
    {IOCTL_NET_OBTAIN_LEASE, sizeof(NET_LEASE), E1000ReportLease},
};

static NTSTATUS E1000Control(PE1000_ADAPTER Adapter, PIRP Irp, const IO_STACK_LOCATION *Stack,
                             PULONG_PTR Information)
{
    for (ULONG Index = 0; Index < ARRAYSIZE(E1000ControlRoutines); Index += 1) {
        const ULONG OutputByteCount = E1000ControlRoutines[Index].OutputByteCount;
        if (E1000ControlRoutines[Index].ControlCode !=
            Stack->Parameters.DeviceIoControl.IoControlCode) {
            continue;
        }
        if (Stack->Parameters.DeviceIoControl.OutputBufferLength < OutputByteCount) {
            return STATUS_BUFFER_TOO_SMALL;
        }
        const NTSTATUS Status =
            E1000ControlRoutines[Index].Routine(Adapter, Irp->AssociatedIrp.SystemBuffer);
        *Information = NT_SUCCESS(Status) ? OutputByteCount : 0;
        return Status;
    }
    return STATUS_INVALID_DEVICE_REQUEST;
}

// -------------------------------------------------------------------------------------------------
// Dispatch.

static E1000_REQUEST_ROUTINE *const E1000RequestRoutines[] = {
    [IRP_MJ_READ] = E1000ReadFrame,
    [IRP_MJ_WRITE] = E1000WriteFrame,
    [IRP_MJ_DEVICE_CONTROL] = E1000Control,
};

static NTSTATUS E1000ServeRequest(PE1000_ADAPTER Adapter, PIRP Irp, PULONG_PTR Information)
{
    static const NTSTATUS Refusals[] = {
        [E1000Stopped] = STATUS_DEVICE_NOT_READY,
        [E1000Started] = STATUS_SUCCESS,
        [E1000Gone] = STATUS_NO_SUCH_DEVICE,
    };
    const IO_STACK_LOCATION *const Stack = IoGetCurrentIrpStackLocation(Irp);

    if (!E1000TryAcquireAdapter(Adapter)) {
        return STATUS_DEVICE_BUSY;
    }
    NTSTATUS Status = Refusals[Adapter->State];
    if (NT_SUCCESS(Status)) {
        Status = E1000RequestRoutines[Stack->MajorFunction](Adapter, Irp, Stack, Information);
    }
    E1000ReleaseAdapter(Adapter);
    return Status;
}

NTSTATUS NTAPI E1000DispatchRequest(PDEVICE_OBJECT Fdo, PIRP Irp)
{
    ULONG_PTR Information = 0;

    const NTSTATUS Status = E1000ServeRequest(Fdo->DeviceExtension, Irp, &Information);
    Irp->IoStatus.Status = Status;
    Irp->IoStatus.Information = Information;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
    return Status;
}
