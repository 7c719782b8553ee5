// What IRPs ask of the adapter, and who does it. Each request holds the remove lock until it is
// completed, so that REMOVE waits for all of them.
//
// A routine that returns STATUS_PENDING has taken the IRP; any other status is its result, and
// IoStatus.Information is what the routine has left there.
#include "e1000.h"

typedef NTSTATUS E1000_REQUEST_ROUTINE(PE1000_ADAPTER Adapter, PIRP Irp);

static NTSTATUS E1000Serve(PDEVICE_OBJECT Fdo, PIRP Irp, E1000_REQUEST_ROUTINE *Routine)
{
    const PE1000_ADAPTER Adapter = Fdo->DeviceExtension;

    NTSTATUS Status = IoAcquireRemoveLock(&Adapter->RemoveLock, Irp);
    if (!NT_SUCCESS(Status)) {
        Irp->IoStatus.Status = STATUS_DEVICE_DOES_NOT_EXIST;
        Irp->IoStatus.Information = 0;
        IoCompleteRequest(Irp, IO_NO_INCREMENT);
        return STATUS_DEVICE_DOES_NOT_EXIST;
    }
    Status = Routine(Adapter, Irp);
    if (Status != STATUS_PENDING) {
        E1000CompleteIrp(Adapter, Irp, Status, Irp->IoStatus.Information);
    }
    return Status;
}

NTSTATUS NTAPI E1000DispatchRead(PDEVICE_OBJECT Fdo, PIRP Irp)
{
    return E1000Serve(Fdo, Irp, E1000ReadFrame);
}

NTSTATUS NTAPI E1000DispatchWrite(PDEVICE_OBJECT Fdo, PIRP Irp)
{
    return E1000Serve(Fdo, Irp, E1000WriteFrame);
}

// -------------------------------------------------------------------------------------------------
// Queries and settings, at PASSIVE_LEVEL. Input and output share the system buffer, which has room for
// both; their lengths were checked. Those that change or access the card have the turn.

typedef NTSTATUS E1000_CONTROL_ROUTINE(PE1000_ADAPTER Adapter, PVOID Buffer);

static NTSTATUS E1000QueryAdapter(PE1000_ADAPTER Adapter, PVOID Buffer)
{
    const PNET_ADAPTER_INFORMATION Information = Buffer;

    E1000UpdateLink(Adapter);
    RtlCopyMemory(Information->EthernetAddress, Adapter->MacAddress,
                  sizeof(Information->EthernetAddress));
    Information->LinkUp = Adapter->Link.LinkUp;
    Information->FullDuplex = Adapter->Link.FullDuplex;
    Information->MegabitsPerSecond = Adapter->Link.MegabitsPerSecond;
    return STATUS_SUCCESS;
}

static NTSTATUS E1000QueryCapabilities(PE1000_ADAPTER Adapter, PVOID Buffer)
{
    static const ULONG Checksums =
        NET_FRAME_IPV4_CHECKSUM | NET_FRAME_TCP_CHECKSUM | NET_FRAME_UDP_CHECKSUM;
    const PNET_CAPABILITIES Capabilities = Buffer;

    Capabilities->TransmitFlags =
        Checksums | NET_FRAME_SEGMENT | NET_FRAME_IPV6 | NET_FRAME_VLAN | NET_FRAME_LENT;
    Capabilities->ReceiveFlags = Checksums | NET_FRAME_VLAN | NET_FRAME_LENT;
    Capabilities->MaximumFrameBytes = Adapter->Options.MaximumFrameBytes;
    Capabilities->LargestFrameBytes = E1000_LARGEST_FRAME_BYTES;
    Capabilities->MaximumSegmentedBytes = E1000_SEGMENTED_BYTES;
    Capabilities->MinimumRingCount = E1000_MINIMUM_RING_COUNT;
    Capabilities->MaximumRingCount = E1000_MAXIMUM_RING_COUNT;
    Capabilities->ExactAddressCount = E1000_RA_COUNT - 1;
    return STATUS_SUCCESS;
}

static NTSTATUS E1000QueryStatisticsRequest(PE1000_ADAPTER Adapter, PVOID Buffer)
{
    E1000QueryStatistics(Adapter, Buffer);
    return STATUS_SUCCESS;
}

static NTSTATUS E1000QueryFilter(PE1000_ADAPTER Adapter, PVOID Buffer)
{
    *(PNET_FILTER)Buffer = Adapter->Filter;
    return STATUS_SUCCESS;
}

static NTSTATUS E1000SetFilterRequest(PE1000_ADAPTER Adapter, PVOID Buffer)
{
    return E1000SetFilter(Adapter, Buffer);
}

static NTSTATUS E1000QueryVlan(PE1000_ADAPTER Adapter, PVOID Buffer)
{
    *(PNET_VLAN)Buffer = Adapter->Vlan;
    return STATUS_SUCCESS;
}

static NTSTATUS E1000SetVlanRequest(PE1000_ADAPTER Adapter, PVOID Buffer)
{
    return E1000SetVlan(Adapter, Buffer);
}

static NTSTATUS E1000QueryOptions(PE1000_ADAPTER Adapter, PVOID Buffer)
{
    *(PNET_OPTIONS)Buffer = Adapter->Options;
    return STATUS_SUCCESS;
}

static NTSTATUS E1000SetOptionsRequest(PE1000_ADAPTER Adapter, PVOID Buffer)
{
    return E1000SetOptions(Adapter, Buffer);
}

static NTSTATUS E1000AccessPhyRequest(PE1000_ADAPTER Adapter, PVOID Buffer)
{
    const PNET_PHY Phy = Buffer;

    if (Phy->Register >= E1000_PHY_REGISTER_COUNT) {
        return STATUS_INVALID_PARAMETER;
    }
    return Phy->Write ? E1000WritePhy(Adapter, Phy->Register, Phy->Value)
                      : E1000ReadPhy(Adapter, Phy->Register, &Phy->Value);
}

static NTSTATUS E1000SelfTestRequest(PE1000_ADAPTER Adapter, PVOID Buffer)
{
    return E1000SelfTest(Adapter, Buffer);
}

static const struct {
    ULONG ControlCode;
    ULONG InputByteCount;
    ULONG OutputByteCount;
    BOOLEAN NeedsTurn;
    E1000_CONTROL_ROUTINE *Routine;
} E1000ControlRoutines[] = {
    {IOCTL_NET_QUERY_ADAPTER, 0, sizeof(NET_ADAPTER_INFORMATION), TRUE, E1000QueryAdapter},
    {IOCTL_NET_QUERY_CAPABILITIES, 0, sizeof(NET_CAPABILITIES), TRUE, E1000QueryCapabilities},
    {IOCTL_NET_QUERY_STATISTICS, 0, sizeof(NET_STATISTICS), TRUE, E1000QueryStatisticsRequest},
    {IOCTL_NET_QUERY_FILTER, 0, sizeof(NET_FILTER), TRUE, E1000QueryFilter},
    {IOCTL_NET_SET_FILTER, sizeof(NET_FILTER), 0, TRUE, E1000SetFilterRequest},
    {IOCTL_NET_QUERY_VLAN, 0, sizeof(NET_VLAN), TRUE, E1000QueryVlan},
    {IOCTL_NET_SET_VLAN, sizeof(NET_VLAN), 0, TRUE, E1000SetVlanRequest},
    {IOCTL_NET_QUERY_OPTIONS, 0, sizeof(NET_OPTIONS), TRUE, E1000QueryOptions},
    {IOCTL_NET_SET_OPTIONS, sizeof(NET_OPTIONS), 0, TRUE, E1000SetOptionsRequest},
    {IOCTL_NET_PHY, sizeof(NET_PHY), sizeof(NET_PHY), TRUE, E1000AccessPhyRequest},
    {IOCTL_NET_SELF_TEST, 0, sizeof(NET_SELF_TEST), TRUE, E1000SelfTestRequest},
};

// Stopped and gone cards are refused here; what a routine finds out itself is its result.
static NTSTATUS E1000RunControl(PE1000_ADAPTER Adapter, ULONG Row, PVOID Buffer)
{
    static const NTSTATUS Refusals[] = {
        [E1000Stopped] = STATUS_DEVICE_NOT_READY,
        [E1000Started] = STATUS_SUCCESS,
        [E1000Gone] = STATUS_DEVICE_DOES_NOT_EXIST,
    };
    const BOOLEAN NeedsTurn = E1000ControlRoutines[Row].NeedsTurn;

    if (NeedsTurn) {
        E1000AcquireTurn(Adapter);
    }
    NTSTATUS Status = Refusals[Adapter->State];
    if (NT_SUCCESS(Status)) {
        Status = E1000ControlRoutines[Row].Routine(Adapter, Buffer);
    }
    if (NeedsTurn) {
        E1000ReleaseTurn(Adapter);
    }
    return Status;
}

static NTSTATUS E1000Control(PE1000_ADAPTER Adapter, PIRP Irp)
{
    const IO_STACK_LOCATION *const Stack = IoGetCurrentIrpStackLocation(Irp);

    if (Stack->Parameters.DeviceIoControl.IoControlCode == IOCTL_NET_WAIT_EVENT) {
        return E1000WaitEvent(Adapter, Irp);
    }
    Irp->IoStatus.Information = 0;
    for (ULONG Row = 0; Row < ARRAYSIZE(E1000ControlRoutines); Row += 1) {
        if (E1000ControlRoutines[Row].ControlCode !=
            Stack->Parameters.DeviceIoControl.IoControlCode) {
            continue;
        }
        const ULONG OutputByteCount = E1000ControlRoutines[Row].OutputByteCount;
        if (Stack->Parameters.DeviceIoControl.OutputBufferLength < OutputByteCount ||
            Stack->Parameters.DeviceIoControl.InputBufferLength <
                E1000ControlRoutines[Row].InputByteCount) {
            return STATUS_BUFFER_TOO_SMALL;
        }
        const NTSTATUS Status = E1000RunControl(Adapter, Row, Irp->AssociatedIrp.SystemBuffer);
        Irp->IoStatus.Information = NT_SUCCESS(Status) ? OutputByteCount : 0;
        return Status;
    }
    return STATUS_INVALID_DEVICE_REQUEST;
}

NTSTATUS NTAPI E1000DispatchControl(PDEVICE_OBJECT Fdo, PIRP Irp)
{
    return E1000Serve(Fdo, Irp, E1000Control);
}

NTSTATUS NTAPI E1000DispatchInternalControl(PDEVICE_OBJECT Fdo, PIRP Irp)
{
    static const struct {
        ULONG ControlCode;
        E1000_REQUEST_ROUTINE *Routine;
    } Rows[] = {
        {IOCTL_NET_SEND, E1000SendFrames},
        {IOCTL_NET_RECEIVE, E1000ReceiveFrames},
        {IOCTL_NET_RETURN, E1000ReturnFrames},
    };
    const ULONG ControlCode =
        IoGetCurrentIrpStackLocation(Irp)->Parameters.DeviceIoControl.IoControlCode;

    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        if (Rows[Row].ControlCode == ControlCode) {
            return E1000Serve(Fdo, Irp, Rows[Row].Routine);
        }
    }
    return E1000Serve(Fdo, Irp, E1000Control);
}
