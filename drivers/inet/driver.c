// The network stack's driver: its entry, its control device \Device\Inet, and the cards that come and
// go. Written against <wdm.h> and the headers of the devices that it talks to.
//
//   DriverEntry   makes \Device\Inet, asks to be told of every card (GUID_DEVINTERFACE_NET)
//   arrival       card.c opens the card and starts a thread for it, which is the only user of its
//                 INET_INTERFACE: no locks in the stack
//   IRPs          wait in the queue of the first card, until its thread has served them (client.c)
//   removal       the thread gives back every frame and ends; then the card is closed
//
// Its key may say, under Parameters: Address = "10.0.0.50/24" and Router = "10.0.0.1", to do without
// DHCP.
#define INITGUID
#include "card.h"

#include <wdmguid.h>

DRIVER_INITIALIZE DriverEntry;

PDRIVER_OBJECT InetDriver;
INET_SETTINGS InetSettings;

static PDEVICE_OBJECT InetControlDevice;
static PVOID InetNotification;

// -------------------------------------------------------------------------------------------------
// Settings.

// "10.0.0.50", and behind a slash perhaps the length of the mask. FALSE: something else.
static BOOLEAN InetParseAddress(PCWSTR Text, PULONG Address, PULONG MaskBits)
{
    ULONG Numbers[5] = {0, 0, 0, 0, 32};
    ULONG Index = 0;
    BOOLEAN HasDigit = FALSE;

    for (; *Text != 0; Text += 1) {
        if (*Text >= '0' && *Text <= '9') {
            Numbers[Index] = (HasDigit ? Numbers[Index] * 10 : 0) + (ULONG)(*Text - '0');
            HasDigit = TRUE;
        } else if (HasDigit && Index < 4 && *Text == (Index < 3 ? '.' : '/')) {
            Index += 1;
            HasDigit = FALSE;
        } else {
            return FALSE;
        }
        if (Numbers[Index] > (Index < 4 ? 255u : 32u)) {
            return FALSE;
        }
    }
    *Address = Numbers[0] << 24 | Numbers[1] << 16 | Numbers[2] << 8 | Numbers[3];
    *MaskBits = Numbers[4];
    return HasDigit && Index >= 3;
}

static BOOLEAN InetReadSetting(PCUNICODE_STRING RegistryPath, PCWSTR Name, PULONG Address,
                               PULONG MaskBits)
{
    WCHAR Path[256];
    WCHAR Text[32] = {0};
    UNICODE_STRING Key = {0, sizeof(Path) - sizeof(WCHAR), Path};
    UNICODE_STRING Value = {0, sizeof(Text) - sizeof(WCHAR), Text};
    RTL_QUERY_REGISTRY_TABLE Table[2];

    RtlZeroMemory(Path, sizeof(Path));
    RtlZeroMemory(Table, sizeof(Table));
    RtlCopyUnicodeString(&Key, RegistryPath);
    if (!NT_SUCCESS(RtlAppendUnicodeToString(&Key, L"\\Parameters"))) {
        return FALSE;
    }
    Table[0].Flags = RTL_QUERY_REGISTRY_DIRECT | RTL_QUERY_REGISTRY_REQUIRED;
    Table[0].Name = (PWSTR)(ULONG_PTR)Name;
    Table[0].EntryContext = &Value;
    return NT_SUCCESS(RtlQueryRegistryValues(RTL_REGISTRY_ABSOLUTE, Path, Table, NULL, NULL)) &&
           InetParseAddress(Text, Address, MaskBits);
}

static VOID InetReadSettings(PCUNICODE_STRING RegistryPath)
{
    ULONG MaskBits;
    ULONG Unused;

    RtlZeroMemory(&InetSettings, sizeof(InetSettings));
    if (InetReadSetting(RegistryPath, L"Address", &InetSettings.Address, &MaskBits)) {
        InetSettings.Mask = MaskBits == 0 ? 0 : 0xFFFFFFFFu << (32 - MaskBits);
        (VOID) InetReadSetting(RegistryPath, L"Router", &InetSettings.Router, &Unused);
    }
}

// -------------------------------------------------------------------------------------------------
// Requests to \Device\Inet.

static NTSTATUS InetComplete(PIRP Irp, NTSTATUS Status)
{
    Irp->IoStatus.Status = Status;
    Irp->IoStatus.Information = 0;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
    return Status;
}

static NTSTATUS NTAPI InetDispatchCreateClose(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    return InetComplete(Irp, STATUS_SUCCESS);
}

static const struct {
    ULONG Code;
    ULONG InputBytes;
    ULONG OutputBytes;
} InetControls[] = {
    {IOCTL_NET_OBTAIN_LEASE, 0, sizeof(NET_LEASE)},
    {IOCTL_INET_PING, sizeof(INET_PING), sizeof(INET_PING_RESULT)},
    {IOCTL_INET_QUERY, 0, sizeof(INET_INFORMATION)},
    {IOCTL_INET_DESCRIBE, 0, 1},
};

static NTSTATUS NTAPI InetDispatchControl(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    const PIO_STACK_LOCATION Stack = IoGetCurrentIrpStackLocation(Irp);

    UNREFERENCED_PARAMETER(DeviceObject);
    for (ULONG Index = 0; Index < ARRAYSIZE(InetControls); Index += 1) {
        if (InetControls[Index].Code != Stack->Parameters.DeviceIoControl.IoControlCode) {
            continue;
        }
        if (Stack->Parameters.DeviceIoControl.InputBufferLength < InetControls[Index].InputBytes ||
            Stack->Parameters.DeviceIoControl.OutputBufferLength <
                InetControls[Index].OutputBytes) {
            return InetComplete(Irp, STATUS_BUFFER_TOO_SMALL);
        }
        const NTSTATUS Status = InetQueueClient(Irp);
        return Status == STATUS_PENDING ? Status : InetComplete(Irp, Status);
    }
    return InetComplete(Irp, STATUS_INVALID_DEVICE_REQUEST);
}

// -------------------------------------------------------------------------------------------------
// Cards.

static NTSTATUS NTAPI InetInterfaceChanged(PVOID Structure, PVOID Context)
{
    const DEVICE_INTERFACE_CHANGE_NOTIFICATION *const Change = Structure;

    UNREFERENCED_PARAMETER(Context);
    if (RtlEqualMemory(&Change->Event, &GUID_DEVICE_INTERFACE_ARRIVAL, sizeof(GUID))) {
        const NTSTATUS Status = InetBindCard(Change->SymbolicLinkName);
        if (!NT_SUCCESS(Status)) {
            DbgPrint("inet: %wZ could not be bound: status 0x%08x\n", Change->SymbolicLinkName,
                     Status);
        }
    } else {
        InetUnbindCard(Change->SymbolicLinkName);
    }
    return STATUS_SUCCESS;
}

// -------------------------------------------------------------------------------------------------
// The driver.

static VOID NTAPI InetUnload(PDRIVER_OBJECT DriverObject)
{
    UNREFERENCED_PARAMETER(DriverObject);
    IoUnregisterPlugPlayNotification(InetNotification);
    InetUnbindAll();
    IoDeleteDevice(InetControlDevice);
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath)
{
    UNICODE_STRING Name = RTL_CONSTANT_STRING(L"\\Device\\Inet");

    InetDriver = DriverObject;
    InetInitializeCards();
    InetReadSettings(RegistryPath);
    DriverObject->DriverUnload = InetUnload;
    DriverObject->MajorFunction[IRP_MJ_CREATE] = InetDispatchCreateClose;
    DriverObject->MajorFunction[IRP_MJ_CLOSE] = InetDispatchCreateClose;
    DriverObject->MajorFunction[IRP_MJ_CLEANUP] = InetDispatchCreateClose;
    DriverObject->MajorFunction[IRP_MJ_DEVICE_CONTROL] = InetDispatchControl;
    NTSTATUS Status = IoCreateDevice(DriverObject, 0, &Name, FILE_DEVICE_NETWORK,
                                     FILE_DEVICE_SECURE_OPEN, FALSE, &InetControlDevice);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    InetControlDevice->Flags &= ~(ULONG)DO_DEVICE_INITIALIZING;
    // Cards that are there already are told of before this returns.
    Status = IoRegisterPlugPlayNotification(EventCategoryDeviceInterfaceChange,
                                            PNPNOTIFY_DEVICE_INTERFACE_INCLUDE_EXISTING_INTERFACES,
                                            (PVOID)(ULONG_PTR)&GUID_DEVINTERFACE_NET, DriverObject,
                                            InetInterfaceChanged, NULL, &InetNotification);
    if (!NT_SUCCESS(Status)) {
        InetUnbindAll();
        IoDeleteDevice(InetControlDevice);
    }
    return Status;
}
