// Nodes: from a device that a bus reports to a started stack, and back. The picture is in pnp.h.
//
// Invariants:
//   P1  A node keeps a reference to its PDO. IOP_DEVICE.Node of the PDO leads to it, as long as the
//       node is in the list.
//   P2  A stack above a PDO exists in all states but IopNodeFound.
#include "kernel/io/pnp.h"

#include <wdmguid.h>

static LIST_ENTRY IopNodes = {&IopNodes, &IopNodes};
KMUTEX IopPnpMutex;

VOID IopAcquirePnp(VOID)
{
    KeWaitForSingleObject(&IopPnpMutex, Executive, KernelMode, FALSE, NULL);
}

VOID IopReleasePnp(VOID)
{
    KeReleaseMutex(&IopPnpMutex, FALSE);
}

PIOP_NODE IopNextNode(const IOP_NODE *Previous)
{
    PLIST_ENTRY Next = Previous == NULL ? IopNodes.Flink : Previous->Link.Flink;
    return Next == &IopNodes ? NULL : CONTAINING_RECORD(Next, IOP_NODE, Link);
}

PIOP_NODE IopAddNode(PIOP_NODE Parent, PDEVICE_OBJECT Pdo, PIO_PCI_FUNCTION Function)
{
    PIOP_NODE Node = ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(*Node), IOP_TAG);
    if (Node == NULL) {
        return NULL;
    }
    Node->Parent = Parent;
    Node->Pdo = Pdo;
    Node->Function = Function;
    Node->StartStatus = STATUS_NO_SUCH_DEVICE;
    Node->IsReported = TRUE;
    IopDeviceOf(Pdo)->Node = Node;
    InsertTailList(&IopNodes, &Node->Link);
    return Node;
}

VOID IopDeleteNode(PIOP_NODE Node)
{
    const PDEVICE_OBJECT Pdo = Node->Pdo;
    RemoveEntryList(&Node->Link);
    IopDeviceOf(Pdo)->Node = NULL;
    if (Node->InstancePath != NULL) {
        ExFreePool(Node->InstancePath);
    }
    ExFreePoolWithTag(Node, IOP_TAG);
    ObDereferenceObject(Pdo);
}

//
// Requests.
//

NTSTATUS IopSendPnp(PDEVICE_OBJECT Pdo, const IO_STACK_LOCATION *Stack, PULONG_PTR Information)
{
    PDEVICE_OBJECT Top = IoGetAttachedDeviceReference(Pdo);
    NTSTATUS Status = STATUS_INSUFFICIENT_RESOURCES;
    PIRP Irp = IoAllocateIrp(Top->StackSize, FALSE);
    if (Irp != NULL) {
        Irp->IoStatus.Status = STATUS_NOT_SUPPORTED;
        Irp->IoStatus.Information = *Information;
        PIO_STACK_LOCATION Next = IoGetNextIrpStackLocation(Irp);
        *Next = *Stack;
        Next->MajorFunction = IRP_MJ_PNP;
        Status = IopSendAndWait(Top, Irp);
        if (Status != STATUS_PENDING) {
            *Information = Irp->IoStatus.Information;
            IoFreeIrp(Irp);
        }
    }
    ObDereferenceObject(Top);
    return Status;
}

// A request without parameters, or answer.
static NTSTATUS IopTellStack(PIOP_NODE Node, UCHAR MinorFunction)
{
    const IO_STACK_LOCATION Stack = {.MinorFunction = MinorFunction};
    ULONG_PTR Information = 0;
    return IopSendPnp(Node->Pdo, &Stack, &Information);
}

PWSTR IopQueryId(PDEVICE_OBJECT Pdo, BUS_QUERY_ID_TYPE Type)
{
    IO_STACK_LOCATION Stack = {.MinorFunction = IRP_MN_QUERY_ID};
    ULONG_PTR Information = 0;
    Stack.Parameters.QueryId.IdType = Type;
    const NTSTATUS Status = IopSendPnp(Pdo, &Stack, &Information);
    return NT_SUCCESS(Status) && Status != STATUS_PENDING ? (PWSTR)Information : NULL;
}

static SIZE_T IopTextLength(PCWSTR Text)
{
    SIZE_T Length = 0;
    while (Text[Length] != 0) {
        Length += 1;
    }
    return Length;
}

// "device id\instance id", or NULL.
static PWSTR IopMakeInstancePath(PDEVICE_OBJECT Pdo)
{
    PWSTR Device = IopQueryId(Pdo, BusQueryDeviceID);
    PWSTR Instance = IopQueryId(Pdo, BusQueryInstanceID);
    PWSTR Path = NULL;
    if (Device != NULL) {
        static const WCHAR None[] = u"0";
        PCWSTR Last = Instance != NULL ? Instance : None;
        const SIZE_T DeviceLength = IopTextLength(Device);
        const SIZE_T LastLength = IopTextLength(Last);
        Path = ExAllocatePool2(POOL_FLAG_PAGED, (DeviceLength + LastLength + 2) * sizeof(WCHAR),
                               IOP_TAG);
        if (Path != NULL) {
            RtlCopyMemory(Path, Device, DeviceLength * sizeof(WCHAR));
            Path[DeviceLength] = '\\';
            RtlCopyMemory(Path + DeviceLength + 1, Last, LastLength * sizeof(WCHAR));
        }
        ExFreePool(Device);
    }
    if (Instance != NULL) {
        ExFreePool(Instance);
    }
    return Path;
}

//
// Which driver: the ids in their order, the most specific first; for each id the services in theirs.
//

static PIOP_SERVICE IopFindServiceForId(PCWSTR Id)
{
    for (PIOP_SERVICE Service = IopNextService(NULL); Service != NULL;
         Service = IopNextService(Service)) {
        const BOOLEAN IsUsable = Service->Driver != NULL || !Service->IsDemand;
        if (Service->Role == IopFunctionDriver && IsUsable && !Service->IsBroken &&
            IopServiceMatches(Service, Id)) {
            return Service;
        }
    }
    return NULL;
}

static PIOP_SERVICE IopFindServiceInList(PCWSTR Ids)
{
    PIOP_SERVICE Service = NULL;
    for (PCWSTR Id = Ids; Id != NULL && *Id != 0 && Service == NULL; Id += IopTextLength(Id) + 1) {
        Service = IopFindServiceForId(Id);
    }
    return Service;
}

static BOOLEAN IopIdsMatch(const IOP_SERVICE *Service, PCWSTR Ids)
{
    for (PCWSTR Id = Ids; Id != NULL && *Id != 0; Id += IopTextLength(Id) + 1) {
        if (IopServiceMatches(Service, Id)) {
            return TRUE;
        }
    }
    return FALSE;
}

static VOID IopFreeId(PWSTR Id)
{
    if (Id != NULL) {
        ExFreePool(Id);
    }
}

//
// Building the stack.
//

static NTSTATUS IopCallAddDevice(PIOP_SERVICE Service, PIOP_NODE Node)
{
    const NTSTATUS Status = IopLoadService(Service);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    const PDRIVER_ADD_DEVICE AddDevice = Service->Driver->DriverExtension->AddDevice;
    if (AddDevice == NULL) {
        return STATUS_INVALID_DEVICE_REQUEST;
    }
    Service->Driver->DriverExtension->Count += 1;
    return AddDevice(Service->Driver, Node->Pdo);
}

// Filters of one place. One that fails is left out, as on NT for what is not essential; it has told so.
static VOID IopAddFilters(PIOP_NODE Node, IOP_ROLE Role, PCWSTR HardwareIds, PCWSTR CompatibleIds)
{
    for (PIOP_SERVICE Service = IopNextService(NULL); Service != NULL;
         Service = IopNextService(Service)) {
        const BOOLEAN IsUsable = Service->Driver != NULL || !Service->IsDemand;
        if (Service->Role == Role && IsUsable && !Service->IsBroken &&
            (IopIdsMatch(Service, HardwareIds) || IopIdsMatch(Service, CompatibleIds))) {
            const NTSTATUS Status = IopCallAddDevice(Service, Node);
            if (!NT_SUCCESS(Status)) {
                DbgPrint("io: filter %s does not attach: status 0x%08x\n", Service->Name, Status);
            }
        }
    }
}

static NTSTATUS IopAddDrivers(PIOP_NODE Node)
{
    PWSTR HardwareIds = IopQueryId(Node->Pdo, BusQueryHardwareIDs);
    PWSTR CompatibleIds = IopQueryId(Node->Pdo, BusQueryCompatibleIDs);
    NTSTATUS Status = STATUS_NO_SUCH_DEVICE;
    if (Node->InstancePath == NULL) {
        Node->InstancePath = IopMakeInstancePath(Node->Pdo);
    }
    Node->Service = Node->OwnService != NULL ? Node->OwnService : IopFindServiceInList(HardwareIds);
    if (Node->Service == NULL) {
        Node->Service = IopFindServiceInList(CompatibleIds);
    }
    if (Node->Service != NULL) {
        Status = IopLoadService(Node->Service);
        if (NT_SUCCESS(Status)) {
            IopAddFilters(Node, IopLowerFilter, HardwareIds, CompatibleIds);
            Status = IopCallAddDevice(Node->Service, Node);
            if (NT_SUCCESS(Status)) {
                IopAddFilters(Node, IopUpperFilter, HardwareIds, CompatibleIds);
            }
            // Even one filter's device makes a stack, which must be removed again.
            Node->State = IopNodeAdded;
        }
    }
    IopFreeId(HardwareIds);
    IopFreeId(CompatibleIds);
    return Status;
}

//
// Starting.
//

static VOID IopFreeResources(PCM_RESOURCE_LIST List)
{
    if (List != NULL) {
        ExFreePool(List);
    }
}

static SIZE_T IopResourceListBytes(const CM_RESOURCE_LIST *List)
{
    return (SIZE_T)FIELD_OFFSET(CM_RESOURCE_LIST, List[0].PartialResourceList.PartialDescriptors) +
           List->List[0].PartialResourceList.Count * sizeof(CM_PARTIAL_RESOURCE_DESCRIPTOR);
}

// What a bus other than PCI has given its device: both lists are the same.
static NTSTATUS IopQueryResources(PIOP_NODE Node, PCM_RESOURCE_LIST *Raw,
                                  PCM_RESOURCE_LIST *Translated)
{
    const IO_STACK_LOCATION Stack = {.MinorFunction = IRP_MN_QUERY_RESOURCES};
    ULONG_PTR Information = 0;
    if (!NT_SUCCESS(IopSendPnp(Node->Pdo, &Stack, &Information)) || Information == 0) {
        return STATUS_SUCCESS;
    }
    *Raw = (PCM_RESOURCE_LIST)Information;
    if ((*Raw)->Count != 1) {
        return (*Raw)->Count == 0 ? STATUS_SUCCESS : STATUS_NOT_SUPPORTED;
    }
    const SIZE_T ByteCount = IopResourceListBytes(*Raw);
    *Translated = ExAllocatePool2(POOL_FLAG_NON_PAGED, ByteCount, IOP_TAG);
    if (*Translated == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    RtlCopyMemory(*Translated, *Raw, ByteCount);
    return STATUS_SUCCESS;
}

static NTSTATUS IopAssignResources(PIOP_NODE Node, PCM_RESOURCE_LIST *Raw,
                                   PCM_RESOURCE_LIST *Translated)
{
    *Raw = NULL;
    *Translated = NULL;
    if (Node->Function == NULL) {
        return IopQueryResources(Node, Raw, Translated);
    }
    IopAssignInterrupts(Node->Function, Node->Service != NULL ? Node->Service->MessageLimit : 0);
    const NTSTATUS Status = IopBuildResourceList(Node->Function, IopResourcesRaw, Raw);
    return NT_SUCCESS(Status)
               ? IopBuildResourceList(Node->Function, IopResourcesTranslated, Translated)
               : Status;
}

static NTSTATUS IopSendStart(PIOP_NODE Node)
{
    IO_STACK_LOCATION Stack = {.MinorFunction = IRP_MN_START_DEVICE};
    PCM_RESOURCE_LIST Raw;
    PCM_RESOURCE_LIST Translated;
    ULONG_PTR Information = 0;
    NTSTATUS Status = IopAssignResources(Node, &Raw, &Translated);
    if (NT_SUCCESS(Status)) {
        Stack.Parameters.StartDevice.AllocatedResources = Raw;
        Stack.Parameters.StartDevice.AllocatedResourcesTranslated = Translated;
        Status = IopSendPnp(Node->Pdo, &Stack, &Information);
    }
    if (Status == STATUS_PENDING) {
        return STATUS_IO_TIMEOUT; // the lists stay the driver's
    }
    IopFreeResources(Raw);
    IopFreeResources(Translated);
    return Status;
}

static VOID IopPrintName(PIOP_NODE Node, PCHAR Text, SIZE_T ByteCount)
{
    if (Node->Function != NULL) {
        CHAR Name[IO_PCI_NAME_BYTES];
        IoFormatPciName(Node->Function, Name, sizeof(Name));
        RtlFormatBuffer(Text, ByteCount, "%s, %s", Name, IoPciClassName(Node->Function));
        return;
    }
    SIZE_T Index = 0;
    for (; Node->InstancePath != NULL && Node->InstancePath[Index] != 0 && Index + 1 < ByteCount;
         Index += 1) {
        Text[Index] = (CHAR)Node->InstancePath[Index];
    }
    Text[Index] = 0;
}

// REMOVE to whatever stack there is. The PDO of a device that is still there stays.
static VOID IopSendRemove(PIOP_NODE Node)
{
    const NTSTATUS Status = IopTellStack(Node, IRP_MN_REMOVE_DEVICE);
    if (!NT_SUCCESS(Status) || Status == STATUS_PENDING) {
        DbgPrint("io: a device of driver %s could not be removed: status 0x%08x\n",
                 Node->Service != NULL ? Node->Service->Name : "of nobody", Status);
    }
    IopForgetInterfaces(Node->Pdo);
    IopDeviceOf(Node->Pdo)->IsLeaving = FALSE;
    Node->State = IopNodeFound;
    Node->StartStatus = STATUS_NO_SUCH_DEVICE;
    Node->Service = NULL;
    if (Node->Function != NULL) {
        Node->Function->StartStatus = STATUS_NO_SUCH_DEVICE;
    }
}

// Why a driver that got no memory got none: mm knows, the driver's status does not say.
static VOID IopPrintRefusal(PIOP_NODE Node)
{
    CHAR Refusal[256];
    MmDescribeLastRefusal(Refusal, sizeof(Refusal));
    DbgPrint("io: the last refusal that driver %s met: %s\n", Node->Service->Name, Refusal);
}

static VOID IopNoteStart(PIOP_NODE Node, NTSTATUS Status)
{
    Node->StartStatus = Status;
    if (Node->Function != NULL) {
        Node->Function->StartStatus = Status;
        Node->Function->DriverName = Node->Service->Name;
    }
    if (!NT_SUCCESS(Status)) {
        CHAR Name[80];
        IopPrintName(Node, Name, sizeof(Name));
        DbgPrint("io: %s: driver %s could not start it: status 0x%08x; going on without it\n", Name,
                 Node->Service->Name, Status);
    }
}

// What a device can do. The record is filled as documented before it is sent.
static NTSTATUS IopQueryCapabilities(PIOP_NODE Node, PDEVICE_CAPABILITIES Capabilities)
{
    IO_STACK_LOCATION Stack = {.MinorFunction = IRP_MN_QUERY_CAPABILITIES};
    ULONG_PTR Information = 0;
    *Capabilities = (DEVICE_CAPABILITIES){
        .Size = sizeof(*Capabilities), .Version = 1, .Address = MAXULONG, .UINumber = MAXULONG};
    Stack.Parameters.DeviceCapabilities.Capabilities = Capabilities;
    const NTSTATUS Status = IopSendPnp(Node->Pdo, &Stack, &Information);
    return Status != STATUS_PENDING ? Status : STATUS_IO_TIMEOUT;
}

// A device that nobody drives may be started without a function driver, if its bus says so.
static NTSTATUS IopStartRaw(PIOP_NODE Node)
{
    DEVICE_CAPABILITIES Capabilities;
    if (!NT_SUCCESS(IopQueryCapabilities(Node, &Capabilities)) || !Capabilities.RawDeviceOK) {
        return STATUS_NO_SUCH_DEVICE;
    }
    const NTSTATUS Status = IopSendStart(Node);
    Node->StartStatus = Status;
    if (NT_SUCCESS(Status)) {
        Node->State = IopNodeStarted;
    }
    return Status;
}

ULONG_PTR IopQueryState(PIOP_NODE Node)
{
    const IO_STACK_LOCATION Stack = {.MinorFunction = IRP_MN_QUERY_PNP_DEVICE_STATE};
    ULONG_PTR State = 0;
    return NT_SUCCESS(IopSendPnp(Node->Pdo, &Stack, &State)) ? State : 0;
}

// As documented, a device that has started is asked again for what it can do, and how it is. One that
// says that it does not work is removed as if it had been torn out.
static NTSTATUS IopAskStarted(PIOP_NODE Node)
{
    DEVICE_CAPABILITIES Capabilities;
    (VOID) IopQueryCapabilities(Node, &Capabilities);
    if ((IopQueryState(Node) & (PNP_DEVICE_FAILED | PNP_DEVICE_REMOVED)) == 0) {
        return STATUS_SUCCESS;
    }
    DbgPrint("io: driver %s has started a device, and says that it does not work\n",
             Node->Service->Name);
    IopSurpriseRemoveNode(Node);
    return STATUS_DEVICE_REMOVED;
}

NTSTATUS IopStartNode(PIOP_NODE Node)
{
    if (Node->State != IopNodeFound) {
        return Node->StartStatus;
    }
    const ULONG RefusalCount = MmRefusalCount();
    NTSTATUS Status = IopAddDrivers(Node);
    if (Node->Service == NULL) {
        return IopStartRaw(Node);
    }
    if (NT_SUCCESS(Status)) {
        Status = IopSendStart(Node);
    }
    const PIOP_SERVICE Service = Node->Service;
    IopNoteStart(Node, Status);
    if (!NT_SUCCESS(Status) && MmRefusalCount() != RefusalCount) {
        IopPrintRefusal(Node);
    }
    if (!NT_SUCCESS(Status)) {
        if (Node->State == IopNodeAdded) {
            IopSendRemove(Node);
            Node->Service = Service;
            Node->StartStatus = Status;
            if (Node->Function != NULL) {
                Node->Function->StartStatus = Status;
            }
        }
        return Status;
    }
    Node->State = IopNodeStarted;
    Status = IopAskStarted(Node);
    if (NT_SUCCESS(Status)) {
        IopEnumerateNode(Node);
    }
    return Status;
}

VOID IopStartNodes(VOID)
{
    // Nodes that appear meanwhile stand behind, and get their turn.
    for (PIOP_NODE Node = IopNextNode(NULL); Node != NULL; Node = IopNextNode(Node)) {
        IopStartNode(Node);
    }
}

//
// Children.
//

static VOID IopTakeChild(PIOP_NODE Parent, PDEVICE_OBJECT Pdo)
{
    PIOP_NODE Child = IopNodeOf(Pdo);
    if (Child != NULL) {
        Child->IsReported = TRUE;
        ObDereferenceObject(Pdo); // the node has one already
        return;
    }
    Pdo->Flags |= DO_BUS_ENUMERATED_DEVICE;
    if (IopAddNode(Parent, Pdo, NULL) == NULL) {
        DbgPrint("io: no memory for another device\n");
        ObDereferenceObject(Pdo);
    }
}

static VOID IopTakeChildren(PIOP_NODE Node, PDEVICE_RELATIONS Relations)
{
    for (PIOP_NODE Child = IopNextNode(NULL); Child != NULL; Child = IopNextNode(Child)) {
        if (Child->Parent == Node) {
            Child->IsReported = FALSE;
        }
    }
    for (ULONG Index = 0; Index < Relations->Count; Index += 1) {
        IopTakeChild(Node, Relations->Objects[Index]);
    }
    ExFreePool(Relations);
}

// The first child that the bus reports no more, and that has not been told, or NULL.
static PIOP_NODE IopFindLostChild(const IOP_NODE *Parent)
{
    for (PIOP_NODE Child = IopNextNode(NULL); Child != NULL; Child = IopNextNode(Child)) {
        if (Child->Parent == Parent && !Child->IsReported &&
            Child->State != IopNodeSurpriseRemoved) {
            return Child;
        }
    }
    return NULL;
}

static PIOP_NODE IopFindNewChild(const IOP_NODE *Parent)
{
    for (PIOP_NODE Child = IopNextNode(NULL); Child != NULL; Child = IopNextNode(Child)) {
        if (Child->Parent == Parent && Child->State == IopNodeFound &&
            Child->StartStatus == STATUS_NO_SUCH_DEVICE && !Child->IsEnumerating) {
            return Child;
        }
    }
    return NULL;
}

VOID IopEnumerateNode(PIOP_NODE Node)
{
    IO_STACK_LOCATION Stack = {.MinorFunction = IRP_MN_QUERY_DEVICE_RELATIONS};
    ULONG_PTR Information = 0;
    Stack.Parameters.QueryDeviceRelations.Type = BusRelations;
    if (Node->State != IopNodeStarted || !NT_SUCCESS(IopSendPnp(Node->Pdo, &Stack, &Information)) ||
        Information == 0) {
        return;
    }
    IopTakeChildren(Node, (PDEVICE_RELATIONS)Information);
    for (PIOP_NODE Child = IopFindLostChild(Node); Child != NULL; Child = IopFindLostChild(Node)) {
        IopSurpriseRemoveNode(Child);
    }
    for (PIOP_NODE Child = IopFindNewChild(Node); Child != NULL; Child = IopFindNewChild(Node)) {
        Child->IsEnumerating = TRUE; // tried once, whatever comes of it
        IopStartNode(Child);
    }
    for (PIOP_NODE Child = IopNextNode(NULL); Child != NULL; Child = IopNextNode(Child)) {
        if (Child->Parent == Node) {
            Child->IsEnumerating = FALSE;
        }
    }
}

//
// Stopping.
//

NTSTATUS IopStopNode(PIOP_NODE Node)
{
    if (Node->State != IopNodeStarted) {
        return STATUS_INVALID_DEVICE_STATE;
    }
    const NTSTATUS Status = IopTellStack(Node, IRP_MN_QUERY_STOP_DEVICE);
    if (!NT_SUCCESS(Status) || Status == STATUS_PENDING) {
        IopTellStack(Node, IRP_MN_CANCEL_STOP_DEVICE);
        return Status;
    }
    IopTellStack(Node, IRP_MN_STOP_DEVICE);
    Node->State = IopNodeStopped;
    return STATUS_SUCCESS;
}

NTSTATUS IopRestartNode(PIOP_NODE Node)
{
    if (Node->State != IopNodeStopped) {
        return STATUS_INVALID_DEVICE_STATE;
    }
    const NTSTATUS Status = IopSendStart(Node);
    IopNoteStart(Node, Status);
    if (NT_SUCCESS(Status)) {
        Node->State = IopNodeStarted;
        IopEnumerateNode(Node);
    } else {
        // As documented: a restart that fails is a surprise removal.
        IopSurpriseRemoveNode(Node);
    }
    return Status;
}

//
// Removing.
//

static BOOLEAN IopHasOpenFiles(PIOP_NODE Node)
{
    for (PDEVICE_OBJECT Device = Node->Pdo; Device != NULL; Device = Device->AttachedDevice) {
        if (Device->ReferenceCount != 0) {
            return TRUE;
        }
    }
    return FALSE;
}

static BOOLEAN IopIsBelow(const IOP_NODE *Node, const IOP_NODE *Root)
{
    for (; Node != NULL; Node = Node->Parent) {
        if (Node == Root) {
            return TRUE;
        }
    }
    return FALSE;
}

// Children stand behind their parents: from the end of the list, the leaves come first.
static PIOP_NODE IopPreviousBelow(const IOP_NODE *From, const IOP_NODE *Root)
{
    PLIST_ENTRY Link = From == NULL ? IopNodes.Blink : From->Link.Blink;
    for (; Link != &IopNodes; Link = Link->Blink) {
        const PIOP_NODE Node = CONTAINING_RECORD(Link, IOP_NODE, Link);
        if (IopIsBelow(Node, Root)) {
            return Node;
        }
    }
    return NULL;
}

// Nothing is left of the stack: a device that its bus reports no more goes.
static VOID IopRemoveStack(PIOP_NODE Node)
{
    if (Node->State != IopNodeFound) {
        if (Node->State != IopNodeSurpriseRemoved) {
            IopNotifyTarget(Node->Pdo, &GUID_TARGET_DEVICE_REMOVE_COMPLETE);
        }
        IopSendRemove(Node);
    } else if (!Node->IsReported) {
        IopTellStack(Node, IRP_MN_REMOVE_DEVICE); // the bus driver deletes its PDO
    }
    if (!Node->IsReported) {
        IopDeleteNode(Node);
    }
}

static NTSTATUS IopQueryRemove(PIOP_NODE Node)
{
    if (Node->State != IopNodeStarted && Node->State != IopNodeStopped) {
        return STATUS_SUCCESS;
    }
    NTSTATUS Status = IopNotifyTarget(Node->Pdo, &GUID_TARGET_DEVICE_QUERY_REMOVE);
    Node->StateBefore = Node->State;
    Node->State = IopNodeRemovePending;
    IopDeviceOf(Node->Pdo)->IsLeaving = TRUE;
    if (NT_SUCCESS(Status)) {
        Status = IopTellStack(Node, IRP_MN_QUERY_REMOVE_DEVICE);
    }
    if (!NT_SUCCESS(Status) || Status == STATUS_PENDING) {
        return Status == STATUS_PENDING ? STATUS_IO_TIMEOUT : Status;
    }
    return IopHasOpenFiles(Node) ? STATUS_DEVICE_BUSY : STATUS_SUCCESS;
}

static VOID IopCancelRemove(PIOP_NODE Root)
{
    for (PIOP_NODE Node = IopNextNode(NULL); Node != NULL; Node = IopNextNode(Node)) {
        if (Node->State == IopNodeRemovePending && IopIsBelow(Node, Root)) {
            IopTellStack(Node, IRP_MN_CANCEL_REMOVE_DEVICE);
            IopNotifyTarget(Node->Pdo, &GUID_TARGET_DEVICE_REMOVE_CANCELLED);
            Node->State = Node->StateBefore;
            IopDeviceOf(Node->Pdo)->IsLeaving = FALSE;
        }
    }
}

NTSTATUS IopRemoveNode(PIOP_NODE Node)
{
    for (PIOP_NODE Below = IopPreviousBelow(NULL, Node); Below != NULL;
         Below = IopPreviousBelow(Below, Node)) {
        const NTSTATUS Status = IopQueryRemove(Below);
        if (!NT_SUCCESS(Status)) {
            IopCancelRemove(Node);
            return Status;
        }
    }
    for (PIOP_NODE Below = IopPreviousBelow(NULL, Node); Below != Node;
         Below = IopPreviousBelow(NULL, Node)) {
        // A child goes with the stack that had reported it.
        Below->IsReported = FALSE;
        IopRemoveStack(Below);
    }
    IopRemoveStack(Node);
    return STATUS_SUCCESS;
}

static VOID IopTellSurprise(PIOP_NODE Node)
{
    if (Node->State == IopNodeStarted || Node->State == IopNodeStopped ||
        Node->State == IopNodeRemovePending) {
        IopDeviceOf(Node->Pdo)->IsLeaving = TRUE;
        IopTellStack(Node, IRP_MN_SURPRISE_REMOVAL);
        IopNotifyTarget(Node->Pdo, &GUID_TARGET_DEVICE_REMOVE_COMPLETE);
        Node->State = IopNodeSurpriseRemoved;
    }
}

VOID IopFinishSurpriseRemoval(PIOP_NODE Node)
{
    if (Node->State == IopNodeSurpriseRemoved && !IopHasOpenFiles(Node)) {
        IopRemoveStack(Node);
    }
}

VOID IopSurpriseRemoveNode(PIOP_NODE Node)
{
    for (PIOP_NODE Below = IopPreviousBelow(NULL, Node); Below != NULL;
         Below = IopPreviousBelow(Below, Node)) {
        IopTellSurprise(Below);
        Below->IsReported = Below->IsReported && Below == Node;
    }
    PIOP_NODE Next;
    for (PIOP_NODE Below = IopPreviousBelow(NULL, Node); Below != NULL; Below = Next) {
        Next = IopPreviousBelow(Below, Node);
        if (Below->State == IopNodeSurpriseRemoved) {
            IopFinishSurpriseRemoval(Below);
        } else {
            IopRemoveStack(Below);
        }
    }
}
