// The PCI bus driver: the lowest device of each PCI function's stack (its PDO).
//
// It makes the function decode and master the bus when it is started, gives access to its
// configuration space, and otherwise completes whatever reaches the bottom of the stack.
#include "kernel/io/pnp.h"

#include <resetddk.h>
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
    if (!IopIsFunctionPresent(Function)) {
        return STATUS_NO_SUCH_DEVICE;
    }
    if (IopHasHomelessMemory(Function)) {
        return STATUS_DEVICE_CONFIGURATION_ERROR;
    }
    // One that was put in the slot of another of its kind knows no addresses yet.
    IopRestoreBars(Function);
    for (const IO_PCI_FUNCTION *Bridge = Function->Bridge; Bridge != NULL;
         Bridge = Bridge->Bridge) {
        IopChangeCommand(Bridge, 0, IopNeededDecodes(Function) | PCI_ENABLE_BUS_MASTER);
    }
    Function->Command = IopNeededDecodes(Function) | PCI_ENABLE_BUS_MASTER;
    IopChangeCommand(Function, 0, Function->Command);
    return IopEnableInterrupts(Function);
}

// The device can no longer touch memory or interrupt, whatever its driver left behind.
static NTSTATUS IopStopFunction(PIO_PCI_FUNCTION Function)
{
    IopDisableInterrupts(Function);
    IopChangeCommand(Function, PCI_ENABLE_BUS_MASTER, 0);
    Function->Command = 0;
    return STATUS_SUCCESS;
}

//
// The interfaces: access to the device's configuration, and its reset.
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

static VOID IopGiveBusInterface(PIO_PCI_FUNCTION Function, PINTERFACE Place)
{
    PBUS_INTERFACE_STANDARD Interface = (PBUS_INTERFACE_STANDARD)Place;
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
}

static NTSTATUS NTAPI IopResetDevice(PVOID Context, DEVICE_RESET_TYPE Type, ULONG Flags,
                                     PVOID Parameters)
{
    UNREFERENCED_PARAMETER(Flags);
    UNREFERENCED_PARAMETER(Parameters);
    return Type == FunctionLevelDeviceReset ? IopResetFunction(Context) : STATUS_NOT_SUPPORTED;
}

static VOID IopGiveResetInterface(PIO_PCI_FUNCTION Function, PINTERFACE Place)
{
    PDEVICE_RESET_INTERFACE_STANDARD Interface = (PDEVICE_RESET_INTERFACE_STANDARD)Place;
    *Interface = (DEVICE_RESET_INTERFACE_STANDARD){
        .Size = sizeof(*Interface),
        .Version = DEVICE_RESET_INTERFACE_VERSION_1,
        .Context = Function,
        .InterfaceReference = IopReferenceBusInterface,
        .InterfaceDereference = IopReferenceBusInterface,
        .DeviceReset = IopResetDevice,
        .SupportedResetTypes = IopCanResetFunction(Function) ? 1u << FunctionLevelDeviceReset : 0,
    };
}

static const struct {
    const GUID *Type;
    USHORT Version;
    USHORT ByteCount;
    VOID (*Give)(PIO_PCI_FUNCTION Function, PINTERFACE Place);
} IopBusInterfaces[] = {
    {&GUID_BUS_INTERFACE_STANDARD, PCI_BUS_INTERFACE_STANDARD_VERSION,
     sizeof(BUS_INTERFACE_STANDARD), IopGiveBusInterface},
    {&GUID_DEVICE_RESET_INTERFACE_STANDARD, DEVICE_RESET_INTERFACE_VERSION_1,
     sizeof(DEVICE_RESET_INTERFACE_STANDARD), IopGiveResetInterface},
};

static NTSTATUS IopQueryInterface(PIO_PCI_FUNCTION Function, const IO_STACK_LOCATION *Stack,
                                  NTSTATUS Unhandled)
{
    for (ULONG Row = 0; Row < ARRAYSIZE(IopBusInterfaces); Row += 1) {
        if (!RtlEqualMemory(Stack->Parameters.QueryInterface.InterfaceType,
                            IopBusInterfaces[Row].Type, sizeof(GUID)) ||
            Stack->Parameters.QueryInterface.Version != IopBusInterfaces[Row].Version) {
            continue;
        }
        if (Stack->Parameters.QueryInterface.Size < IopBusInterfaces[Row].ByteCount) {
            return STATUS_INVALID_PARAMETER;
        }
        IopBusInterfaces[Row].Give(Function, Stack->Parameters.QueryInterface.Interface);
        return STATUS_SUCCESS;
    }
    return Unhandled;
}

//
// Who the device is.
//

#define IOP_ID_CHARACTERS 512

// A list of texts under construction, in UTF-16, each with its zero.
typedef struct _IOP_ID_LIST {
    PWSTR Buffer;
    ULONG Length;
} IOP_ID_LIST, *PIOP_ID_LIST;

static VOID NTAPI IopAppendId(PIOP_ID_LIST List, PCSTR Format, ...)
{
    CHAR Text[80];
    __builtin_ms_va_list Arguments;
    __builtin_ms_va_start(Arguments, Format);
    const SIZE_T Length = RtlFormatBufferArguments(Text, sizeof(Text), Format, Arguments);
    __builtin_ms_va_end(Arguments);
    NT_ASSERT(Length < sizeof(Text) && List->Length + Length + 2 <= IOP_ID_CHARACTERS);
    for (SIZE_T Index = 0; Index <= Length; Index += 1) {
        List->Buffer[List->Length++] = (UCHAR)Text[Index];
    }
}

static ULONG IopSubsystemOf(const IO_PCI_FUNCTION *Function)
{
    return Function->HeaderType == PCI_DEVICE_TYPE
               ? IopReadPciUlong(Function,
                                 (ULONG)FIELD_OFFSET(PCI_COMMON_HEADER, u.type0.SubVendorID))
               : 0;
}

static UCHAR IopRevisionOf(const IO_PCI_FUNCTION *Function)
{
    UCHAR Revision = 0;
    IopReadPciConfig(IopPciAddress(Function), (ULONG)FIELD_OFFSET(PCI_COMMON_HEADER, RevisionID),
                     &Revision, sizeof(Revision));
    return Revision;
}

static VOID IopAppendHardwareIds(const IO_PCI_FUNCTION *F, PIOP_ID_LIST List)
{
    const ULONG Subsystem = IopSubsystemOf(F);
    IopAppendId(List, "PCI\\VEN_%04X&DEV_%04X&SUBSYS_%08X&REV_%02X", F->VendorId, F->DeviceId,
                Subsystem, IopRevisionOf(F));
    IopAppendId(List, "PCI\\VEN_%04X&DEV_%04X&SUBSYS_%08X", F->VendorId, F->DeviceId, Subsystem);
    IopAppendId(List, "PCI\\VEN_%04X&DEV_%04X&CC_%02X%02X%02X", F->VendorId, F->DeviceId,
                F->BaseClass, F->SubClass, F->ProgIf);
    IopAppendId(List, "PCI\\VEN_%04X&DEV_%04X&CC_%02X%02X", F->VendorId, F->DeviceId, F->BaseClass,
                F->SubClass);
}

static VOID IopAppendCompatibleIds(const IO_PCI_FUNCTION *F, PIOP_ID_LIST List)
{
    IopAppendId(List, "PCI\\VEN_%04X&DEV_%04X&REV_%02X", F->VendorId, F->DeviceId,
                IopRevisionOf(F));
    IopAppendId(List, "PCI\\VEN_%04X&DEV_%04X", F->VendorId, F->DeviceId);
    IopAppendId(List, "PCI\\VEN_%04X&CC_%02X%02X%02X", F->VendorId, F->BaseClass, F->SubClass,
                F->ProgIf);
    IopAppendId(List, "PCI\\VEN_%04X&CC_%02X%02X", F->VendorId, F->BaseClass, F->SubClass);
    IopAppendId(List, "PCI\\VEN_%04X", F->VendorId);
    IopAppendId(List, "PCI\\CC_%02X%02X%02X", F->BaseClass, F->SubClass, F->ProgIf);
    IopAppendId(List, "PCI\\CC_%02X%02X", F->BaseClass, F->SubClass);
}

// The answer is the asker's to free.
static NTSTATUS IopAnswerId(const IO_PCI_FUNCTION *Function, BUS_QUERY_ID_TYPE Type, PIRP Irp)
{
    IOP_ID_LIST List = {
        ExAllocatePool2(POOL_FLAG_PAGED, IOP_ID_CHARACTERS * sizeof(WCHAR), IOP_TAG), 0};
    if (List.Buffer == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    switch ((ULONG)Type) {
    case BusQueryDeviceID:
        IopAppendId(&List, "PCI\\VEN_%04X&DEV_%04X&SUBSYS_%08X&REV_%02X", Function->VendorId,
                    Function->DeviceId, IopSubsystemOf(Function), IopRevisionOf(Function));
        break;
    case BusQueryHardwareIDs:
        IopAppendHardwareIds(Function, &List);
        break;
    case BusQueryCompatibleIDs:
        IopAppendCompatibleIds(Function, &List);
        break;
    case BusQueryInstanceID:
        IopAppendId(&List, "%04x%02x%02x", Function->Segment, Function->Bus,
                    (Function->Device << 3) | Function->Function);
        break;
    default:
        ExFreePoolWithTag(List.Buffer, IOP_TAG);
        return Irp->IoStatus.Status;
    }
    Irp->IoStatus.Information = (ULONG_PTR)List.Buffer;
    return STATUS_SUCCESS;
}

static NTSTATUS IopAnswerText(const IO_PCI_FUNCTION *Function, DEVICE_TEXT_TYPE Type, PIRP Irp)
{
    if (Type != DeviceTextDescription && Type != DeviceTextLocationInformation) {
        return Irp->IoStatus.Status;
    }
    IOP_ID_LIST List = {
        ExAllocatePool2(POOL_FLAG_PAGED, IOP_ID_CHARACTERS * sizeof(WCHAR), IOP_TAG), 0};
    if (List.Buffer == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    if (Type == DeviceTextDescription) {
        IopAppendId(&List, "%s", IoPciClassName(Function));
    } else {
        IopAppendId(&List, "PCI bus %u, device %u, function %u", Function->Bus, Function->Device,
                    Function->Function);
    }
    Irp->IoStatus.Information = (ULONG_PTR)List.Buffer;
    return STATUS_SUCCESS;
}

static NTSTATUS IopAnswerCapabilities(const IO_PCI_FUNCTION *Function,
                                      PDEVICE_CAPABILITIES Capabilities)
{
    if (Capabilities->Version != 1 || Capabilities->Size < sizeof(*Capabilities)) {
        return STATUS_UNSUCCESSFUL;
    }
    Capabilities->Address = ((ULONG)Function->Device << 16) | Function->Function;
    Capabilities->UINumber = MAXULONG;
    Capabilities->UniqueID = 0;
    Capabilities->SurpriseRemovalOK = 0;
    Capabilities->DeviceState[PowerSystemWorking] = PowerDeviceD0;
    for (ULONG State = PowerSystemSleeping1; State < PowerSystemMaximum; State += 1) {
        Capabilities->DeviceState[State] = PowerDeviceD3;
    }
    return STATUS_SUCCESS;
}

static NTSTATUS IopAnswerBusInformation(const IO_PCI_FUNCTION *Function, PIRP Irp)
{
    PPNP_BUS_INFORMATION Information =
        ExAllocatePool2(POOL_FLAG_PAGED, sizeof(*Information), IOP_TAG);
    if (Information == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    Information->BusTypeGuid = GUID_BUS_TYPE_PCI;
    Information->LegacyBusType = PCIBus;
    Information->BusNumber = Function->Bus;
    Irp->IoStatus.Information = (ULONG_PTR)Information;
    return STATUS_SUCCESS;
}

NTSTATUS IopAnswerTargetRelation(PDEVICE_OBJECT Pdo, PIRP Irp)
{
    if (IoGetCurrentIrpStackLocation(Irp)->Parameters.QueryDeviceRelations.Type !=
        TargetDeviceRelation) {
        return Irp->IoStatus.Status;
    }
    PDEVICE_RELATIONS Relations = ExAllocatePool2(POOL_FLAG_PAGED, sizeof(*Relations), IOP_TAG);
    if (Relations == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    ObReferenceObject(Pdo);
    Relations->Count = 1;
    Relations->Objects[0] = Pdo;
    Irp->IoStatus.Information = (ULONG_PTR)Relations;
    return STATUS_SUCCESS;
}

//
// Its resources, as the asker may have them.
//

// What the device has now, raw.
static NTSTATUS IopAnswerResources(const IO_PCI_FUNCTION *Function, PIRP Irp)
{
    PCM_RESOURCE_LIST List;
    const NTSTATUS Status = IopBuildResourceList(Function, IopResourcesRaw, &List);
    if (NT_SUCCESS(Status)) {
        Irp->IoStatus.Information = (ULONG_PTR)List;
    }
    return Status;
}

static VOID IopRequire(const CM_PARTIAL_RESOURCE_DESCRIPTOR *Raw, PIO_RESOURCE_DESCRIPTOR Wanted)
{
    Wanted->Type = Raw->Type;
    Wanted->ShareDisposition = Raw->ShareDisposition;
    Wanted->Flags = Raw->Flags;
    if (Raw->Type == CmResourceTypeInterrupt) {
        Wanted->u.Interrupt.MinimumVector = Raw->u.Interrupt.Vector;
        Wanted->u.Interrupt.MaximumVector = Raw->u.Interrupt.Vector;
        return;
    }
    // A base address register: aligned to its length, and where it is now.
    Wanted->u.Generic.Length = Raw->u.Generic.Length;
    Wanted->u.Generic.Alignment = Raw->u.Generic.Length;
    Wanted->u.Generic.MinimumAddress = Raw->u.Generic.Start;
    Wanted->u.Generic.MaximumAddress.QuadPart =
        Raw->u.Generic.Start.QuadPart + Raw->u.Generic.Length - 1;
}

static NTSTATUS IopAnswerRequirements(const IO_PCI_FUNCTION *Function, PIRP Irp)
{
    PCM_RESOURCE_LIST Raw;
    const NTSTATUS Status = IopBuildResourceList(Function, IopResourcesRaw, &Raw);
    if (!NT_SUCCESS(Status) || Raw == NULL) {
        return Status;
    }
    const CM_PARTIAL_RESOURCE_LIST *Partial = &Raw->List[0].PartialResourceList;
    const SIZE_T ByteCount =
        (SIZE_T)FIELD_OFFSET(IO_RESOURCE_REQUIREMENTS_LIST, List[0].Descriptors) +
        Partial->Count * sizeof(IO_RESOURCE_DESCRIPTOR);
    PIO_RESOURCE_REQUIREMENTS_LIST List = ExAllocatePool2(POOL_FLAG_PAGED, ByteCount, IOP_TAG);
    if (List != NULL) {
        List->ListSize = (ULONG)ByteCount;
        List->InterfaceType = PCIBus;
        List->BusNumber = Function->Bus;
        List->SlotNumber = Function->Device | ((ULONG)Function->Function << 5);
        List->AlternativeLists = 1;
        List->List[0].Version = 1;
        List->List[0].Revision = 1;
        List->List[0].Count = Partial->Count;
        for (ULONG Index = 0; Index < Partial->Count; Index += 1) {
            IopRequire(&Partial->PartialDescriptors[Index], &List->List[0].Descriptors[Index]);
        }
        Irp->IoStatus.Information = (ULONG_PTR)List;
    }
    ExFreePool(Raw);
    return List != NULL ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;
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
    case IRP_MN_QUERY_PNP_DEVICE_STATE:
        Irp->IoStatus.Information |= IopIsFunctionPresent(Function) ? 0 : PNP_DEVICE_REMOVED;
        Status = STATUS_SUCCESS;
        break;
    case IRP_MN_QUERY_INTERFACE:
        Status = IopQueryInterface(Function, Stack, Status);
        break;
    case IRP_MN_QUERY_ID:
        Status = IopAnswerId(Function, Stack->Parameters.QueryId.IdType, Irp);
        break;
    case IRP_MN_QUERY_DEVICE_TEXT:
        Status = IopAnswerText(Function, Stack->Parameters.QueryDeviceText.DeviceTextType, Irp);
        break;
    case IRP_MN_QUERY_CAPABILITIES:
        Status = IopAnswerCapabilities(Function, Stack->Parameters.DeviceCapabilities.Capabilities);
        break;
    case IRP_MN_QUERY_BUS_INFORMATION:
        Status = IopAnswerBusInformation(Function, Irp);
        break;
    case IRP_MN_QUERY_DEVICE_RELATIONS:
        Status = IopAnswerTargetRelation(Pdo, Irp);
        break;
    case IRP_MN_QUERY_RESOURCES:
        Status = IopAnswerResources(Function, Irp);
        break;
    case IRP_MN_QUERY_RESOURCE_REQUIREMENTS:
        Status = IopAnswerRequirements(Function, Irp);
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
