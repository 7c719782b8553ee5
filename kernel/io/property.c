// What the bus says of a device, as IoGetDeviceProperty gives it.
#include "kernel/io/pnp.h"

// An answer: bytes that the caller of the routine below copies, and frees when they are a block.
typedef struct _IOP_PROPERTY {
    const VOID *Bytes;
    SIZE_T ByteCount;
    PVOID Block;
    ULONG Number;
} IOP_PROPERTY, *PIOP_PROPERTY;

static SIZE_T IopTextBytes(PCWSTR Text)
{
    SIZE_T Count = 0;
    while (Text[Count] != 0) {
        Count += 1;
    }
    return (Count + 1) * sizeof(WCHAR);
}

static SIZE_T IopListBytes(PCWSTR List)
{
    SIZE_T ByteCount = 0;
    while (List[ByteCount / sizeof(WCHAR)] != 0) {
        ByteCount += IopTextBytes(List + ByteCount / sizeof(WCHAR));
    }
    return ByteCount + sizeof(WCHAR);
}

static VOID IopGiveText(PWSTR Text, SIZE_T ByteCount, PIOP_PROPERTY Answer)
{
    *Answer = (IOP_PROPERTY){.Bytes = Text, .ByteCount = ByteCount, .Block = Text};
}

static VOID IopGiveNumber(ULONG Number, PIOP_PROPERTY Answer)
{
    Answer->Number = Number;
    Answer->Bytes = &Answer->Number;
    Answer->ByteCount = sizeof(Answer->Number);
}

static VOID IopAskText(PDEVICE_OBJECT Pdo, DEVICE_TEXT_TYPE Type, PIOP_PROPERTY Answer)
{
    IO_STACK_LOCATION Stack = {.MinorFunction = IRP_MN_QUERY_DEVICE_TEXT};
    ULONG_PTR Text = 0;
    Stack.Parameters.QueryDeviceText.DeviceTextType = Type;
    if (NT_SUCCESS(IopSendPnp(Pdo, &Stack, &Text)) && Text != 0) {
        IopGiveText((PWSTR)Text, IopTextBytes((PWSTR)Text), Answer);
    }
}

static VOID IopAskIds(PDEVICE_OBJECT Pdo, BUS_QUERY_ID_TYPE Type, PIOP_PROPERTY Answer)
{
    PWSTR Ids = IopQueryId(Pdo, Type);
    if (Ids != NULL) {
        IopGiveText(Ids, IopListBytes(Ids), Answer);
    }
}

// "PCI" of "PCI\...".
static VOID IopAskEnumerator(PDEVICE_OBJECT Pdo, PIOP_PROPERTY Answer)
{
    PWSTR Id = IopQueryId(Pdo, BusQueryDeviceID);
    if (Id != NULL) {
        ULONG Index = 0;
        while (Id[Index] != 0 && Id[Index] != '\\') {
            Index += 1;
        }
        Id[Index] = 0;
        IopGiveText(Id, IopTextBytes(Id), Answer);
    }
}

static VOID IopAskName(PDEVICE_OBJECT Pdo, PIOP_PROPERTY Answer)
{
    ULONG ByteCount;
    ObQueryNameString(Pdo, NULL, 0, &ByteCount);
    POBJECT_NAME_INFORMATION Name = ExAllocatePool2(POOL_FLAG_PAGED, ByteCount, IOP_TAG);
    if (Name != NULL && NT_SUCCESS(ObQueryNameString(Pdo, Name, ByteCount, &ByteCount)) &&
        Name->Name.Length != 0) {
        *Answer = (IOP_PROPERTY){.Bytes = Name->Name.Buffer,
                                 .ByteCount = Name->Name.Length + sizeof(WCHAR),
                                 .Block = Name};
    } else if (Name != NULL) {
        ExFreePoolWithTag(Name, IOP_TAG);
    }
}

static VOID IopAskPlace(const IOP_NODE *Node, DEVICE_REGISTRY_PROPERTY Property,
                        PIOP_PROPERTY Answer)
{
    const IO_PCI_FUNCTION *Function = Node->Function;
    if (Function == NULL) {
        return;
    }
    if (Property == DevicePropertyBusNumber) {
        IopGiveNumber(Function->Bus, Answer);
    } else if (Property == DevicePropertyAddress) {
        IopGiveNumber(((ULONG)Function->Device << 16) | Function->Function, Answer);
    } else {
        IopGiveNumber(PCIBus, Answer);
    }
}

static VOID IopAskResources(const IOP_NODE *Node, IOP_RESOURCE_VIEW View, PIOP_PROPERTY Answer)
{
    PCM_RESOURCE_LIST List = NULL;
    if (Node->Function != NULL && NT_SUCCESS(IopBuildResourceList(Node->Function, View, &List)) &&
        List != NULL) {
        const SIZE_T ByteCount =
            (SIZE_T)FIELD_OFFSET(CM_RESOURCE_LIST, List[0].PartialResourceList.PartialDescriptors) +
            List->List[0].PartialResourceList.Count * sizeof(CM_PARTIAL_RESOURCE_DESCRIPTOR);
        *Answer = (IOP_PROPERTY){.Bytes = List, .ByteCount = ByteCount, .Block = List};
    }
}

// Bytes NULL afterwards: nobody knows.
static VOID IopAskProperty(const IOP_NODE *Node, DEVICE_REGISTRY_PROPERTY Property,
                           PIOP_PROPERTY Answer)
{
    *Answer = (IOP_PROPERTY){.Bytes = NULL};
    switch ((ULONG)Property) {
    case DevicePropertyDeviceDescription:
    case DevicePropertyFriendlyName:
        IopAskText(Node->Pdo, DeviceTextDescription, Answer);
        break;
    case DevicePropertyLocationInformation:
        IopAskText(Node->Pdo, DeviceTextLocationInformation, Answer);
        break;
    case DevicePropertyHardwareID:
        IopAskIds(Node->Pdo, BusQueryHardwareIDs, Answer);
        break;
    case DevicePropertyCompatibleIDs:
        IopAskIds(Node->Pdo, BusQueryCompatibleIDs, Answer);
        break;
    case DevicePropertyEnumeratorName:
        IopAskEnumerator(Node->Pdo, Answer);
        break;
    case DevicePropertyPhysicalDeviceObjectName:
        IopAskName(Node->Pdo, Answer);
        break;
    case DevicePropertyLegacyBusType:
    case DevicePropertyBusNumber:
    case DevicePropertyAddress:
        IopAskPlace(Node, Property, Answer);
        break;
    case DevicePropertyBootConfiguration:
    case DevicePropertyAllocatedResources:
        IopAskResources(Node, IopResourcesRaw, Answer);
        break;
    case DevicePropertyBootConfigurationTranslated:
        IopAskResources(Node, IopResourcesTranslated, Answer);
        break;
    case DevicePropertyInstallState:
        IopGiveNumber(0, Answer); // InstallStateInstalled
        break;
    }
}

NTSTATUS NTAPI IoGetDeviceProperty(PDEVICE_OBJECT DeviceObject,
                                   DEVICE_REGISTRY_PROPERTY DeviceProperty, ULONG BufferLength,
                                   PVOID PropertyBuffer, PULONG ResultLength)
{
    IOP_PROPERTY Answer;
    NTSTATUS Status = STATUS_INVALID_DEVICE_REQUEST;
    *ResultLength = 0;
    IopAcquirePnp();
    const PIOP_NODE Node = IopNodeOf(DeviceObject);
    if (Node != NULL) {
        IopAskProperty(Node, DeviceProperty, &Answer);
        *ResultLength = (ULONG)Answer.ByteCount;
        if (Answer.Bytes == NULL) {
            Status = STATUS_OBJECT_NAME_NOT_FOUND;
        } else if (BufferLength < Answer.ByteCount) {
            Status = STATUS_BUFFER_TOO_SMALL;
        } else {
            RtlCopyMemory(PropertyBuffer, Answer.Bytes, Answer.ByteCount);
            Status = STATUS_SUCCESS;
        }
        if (Answer.Block != NULL) {
            ExFreePool(Answer.Block);
        }
    }
    IopReleasePnp();
    return Status;
}
