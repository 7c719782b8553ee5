// The PCI bus driver: the lowest device of each PCI function's stack (its PDO).
//
// It makes the function decode and master the bus when it is started, gives access to its
// configuration space, and otherwise completes whatever reaches the bottom of the stack.
#define INITGUID
#include "kernel/io/iop.h"

#include <wdmguid.h>

static PIO_PCI_FUNCTION IopFunctionOf(PDEVICE_OBJECT Pdo)
{
    return Pdo->DeviceExtension;
}

//
// Start and remove.
//

// Which decodes the function's usable registers need.
static USHORT IopNeededDecodes(const IO_PCI_FUNCTION *Function)
{
    USHORT Needed = 0;
    for (ULONG Index = 0; Index < ARRAYSIZE(Function->Bars); Index += 1) {
        const IO_PCI_BAR *Bar = &Function->Bars[Index];
        if (Bar->State == IoBarAssigned || Bar->State == IoBarPlaced) {
            Needed |= Bar->IsPort ? PCI_ENABLE_IO_SPACE : PCI_ENABLE_MEMORY_SPACE;
        }
    }
    return Needed;
}

static VOID IopChangeCommand(const IO_PCI_FUNCTION *Function, USHORT Clear, USHORT Set)
{
    IopChangePciUshort(Function, (ULONG)FIELD_OFFSET(PCI_COMMON_HEADER, Command), Clear, Set);
}

// A register without a place must not decode: whatever its address is, it is somebody else's.
static BOOLEAN IopHasHomelessMemory(const IO_PCI_FUNCTION *Function)
{
    for (ULONG Index = 0; Index < ARRAYSIZE(Function->Bars); Index += 1) {
        if (Function->Bars[Index].State == IoBarUnusable && !Function->Bars[Index].IsPort) {
            return TRUE;
        }
    }
    return FALSE;
}

static NTSTATUS IopStartFunction(PIO_PCI_FUNCTION Function)
{
    if (IopHasHomelessMemory(Function)) {
        return STATUS_DEVICE_CONFIGURATION_ERROR;
    }
    for (const IO_PCI_FUNCTION *Bridge = Function->Bridge; Bridge != NULL;
         Bridge = Bridge->Bridge) {
        IopChangeCommand(Bridge, 0, IopNeededDecodes(Function) | PCI_ENABLE_BUS_MASTER);
    }
    IopChangeCommand(Function, 0, IopNeededDecodes(Function) | PCI_ENABLE_BUS_MASTER);
    return IopEnableInterrupts(Function);
}

// The device can no longer touch memory or interrupt, whatever its driver left behind.
static NTSTATUS IopStopFunction(PIO_PCI_FUNCTION Function)
{
    IopDisableInterrupts(Function);
    IopChangeCommand(Function, PCI_ENABLE_BUS_MASTER, 0);
    return STATUS_SUCCESS;
}

//
// The bus interface.
//

// It counts nothing: the bus driver and its devices stay for ever.
static VOID NTAPI IopReferenceBusInterface(PVOID Context)
{
    UNREFERENCED_PARAMETER(Context);
}

static BOOLEAN NTAPI IopTranslateBusAddress(PVOID Context, PHYSICAL_ADDRESS BusAddress,
                                            ULONG Length, PULONG AddressSpace,
                                            PPHYSICAL_ADDRESS TranslatedAddress)
{
    UNREFERENCED_PARAMETER(Context);
    UNREFERENCED_PARAMETER(Length);
    UNREFERENCED_PARAMETER(AddressSpace);
    *TranslatedAddress = BusAddress;
    return TRUE;
}

static PDMA_ADAPTER NTAPI IopGetFunctionAdapter(PVOID Context, PDEVICE_DESCRIPTION Descriptor,
                                                PULONG NumberOfMapRegisters)
{
    const IO_PCI_FUNCTION *Function = Context;
    return IopGetDmaAdapter(Function->Pdo, Descriptor, NumberOfMapRegisters,
                            __builtin_return_address(0));
}

static ULONG NTAPI IopGetFunctionData(PVOID Context, ULONG DataType, PVOID Buffer, ULONG Offset,
                                      ULONG Length)
{
    return DataType == PCI_WHICHSPACE_CONFIG
               ? IopReadPciConfig(IopPciAddress(Context), Offset, Buffer, Length)
               : 0;
}

static ULONG NTAPI IopSetFunctionData(PVOID Context, ULONG DataType, PVOID Buffer, ULONG Offset,
                                      ULONG Length)
{
    return DataType == PCI_WHICHSPACE_CONFIG
               ? IopWritePciConfig(IopPciAddress(Context), Offset, Buffer, Length)
               : 0;
}

static NTSTATUS IopQueryInterface(PIO_PCI_FUNCTION Function, const IO_STACK_LOCATION *Stack,
                                  NTSTATUS Unhandled)
{
    if (!RtlEqualMemory(Stack->Parameters.QueryInterface.InterfaceType,
                        &GUID_BUS_INTERFACE_STANDARD, sizeof(GUID)) ||
        Stack->Parameters.QueryInterface.Version != PCI_BUS_INTERFACE_STANDARD_VERSION) {
        return Unhandled;
    }
    if (Stack->Parameters.QueryInterface.Size < sizeof(BUS_INTERFACE_STANDARD)) {
        return STATUS_INVALID_PARAMETER;
    }
    PBUS_INTERFACE_STANDARD Interface =
        (PBUS_INTERFACE_STANDARD)Stack->Parameters.QueryInterface.Interface;
    *Interface = (BUS_INTERFACE_STANDARD){
        .Size = sizeof(*Interface),
        .Version = PCI_BUS_INTERFACE_STANDARD_VERSION,
        .Context = Function,
        .InterfaceReference = IopReferenceBusInterface,
        .InterfaceDereference = IopReferenceBusInterface,
        .TranslateBusAddress = IopTranslateBusAddress,
        .GetDmaAdapter = IopGetFunctionAdapter,
        .SetBusData = IopSetFunctionData,
        .GetBusData = IopGetFunctionData,
    };
    return STATUS_SUCCESS;
}

//
// Dispatch.
//

static NTSTATUS IopTransferIrpConfig(PIO_PCI_FUNCTION Function, PIRP Irp,
                                     GET_SET_DEVICE_DATA *Transfer)
{
    const IO_STACK_LOCATION *Stack = IoGetCurrentIrpStackLocation(Irp);
    const ULONG Length = Stack->Parameters.ReadWriteConfig.Length;
    const ULONG Done = Transfer(Function, Stack->Parameters.ReadWriteConfig.WhichSpace,
                                Stack->Parameters.ReadWriteConfig.Buffer,
                                Stack->Parameters.ReadWriteConfig.Offset, Length);
    return IopCompleteIrp(Irp, Done == Length ? STATUS_SUCCESS : STATUS_INVALID_PARAMETER, Done);
}

static NTSTATUS NTAPI IopDispatchPciPnp(PDEVICE_OBJECT Pdo, PIRP Irp)
{
    const PIO_PCI_FUNCTION Function = IopFunctionOf(Pdo);
    const IO_STACK_LOCATION *Stack = IoGetCurrentIrpStackLocation(Irp);
    NTSTATUS Status = Irp->IoStatus.Status;
    switch (Stack->MinorFunction) {
    case IRP_MN_START_DEVICE:
        Status = IopStartFunction(Function);
        break;
    case IRP_MN_STOP_DEVICE:
    case IRP_MN_REMOVE_DEVICE:
    case IRP_MN_SURPRISE_REMOVAL:
        Status = IopStopFunction(Function);
        break;
    case IRP_MN_QUERY_STOP_DEVICE:
    case IRP_MN_CANCEL_STOP_DEVICE:
    case IRP_MN_QUERY_REMOVE_DEVICE:
    case IRP_MN_CANCEL_REMOVE_DEVICE:
        Status = STATUS_SUCCESS;
        break;
    case IRP_MN_QUERY_INTERFACE:
        Status = IopQueryInterface(Function, Stack, Status);
        break;
    case IRP_MN_READ_CONFIG:
        return IopTransferIrpConfig(Function, Irp, IopGetFunctionData);
    case IRP_MN_WRITE_CONFIG:
        return IopTransferIrpConfig(Function, Irp, IopSetFunctionData);
    }
    // As documented: a request that the bus driver does not know keeps the status it came with.
    return IopCompleteIrp(Irp, Status, Irp->IoStatus.Information);
}

static NTSTATUS NTAPI IopDispatchPciOther(PDEVICE_OBJECT Pdo, PIRP Irp)
{
    UNREFERENCED_PARAMETER(Pdo);
    return IopCompleteIrp(Irp, Irp->IoStatus.Status, Irp->IoStatus.Information);
}

PDRIVER_OBJECT IopCreatePciDriver(VOID)
{
    static const UNICODE_STRING Name = RTL_CONSTANT_STRING(u"\\Driver\\PCI");
    PDRIVER_OBJECT Driver = IopCreateDriver(&Name);
    if (Driver != NULL) {
        Driver->MajorFunction[IRP_MJ_PNP] = IopDispatchPciPnp;
        Driver->MajorFunction[IRP_MJ_POWER] = IopDispatchPciOther;
        Driver->MajorFunction[IRP_MJ_SYSTEM_CONTROL] = IopDispatchPciOther;
    }
    return Driver;
}
