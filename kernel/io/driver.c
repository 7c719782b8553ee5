// The start of all drivers, their end, and drivers by name.
//
//   DriverEntry (once) ──▶ AddDevice(PDO) ──▶ IRP_MN_START_DEVICE with its resources
//
// A driver or a device that fails is told of in words, taken down by IRP_MN_REMOVE_DEVICE, and the
// kernel goes on without it.
#include "kernel/io/pnp.h"

//
// The start.
//

static VOID IopAddPciNodes(VOID)
{
    for (PIO_PCI_FUNCTION Function = IopNextPciFunction(NULL); Function != NULL;
         Function = IopNextPciFunction(Function)) {
        ObReferenceObject(Function->Pdo);
        if (IopAddNode(NULL, Function->Pdo, Function) == NULL) {
            DbgPrint("io: no memory for another device\n");
            ObDereferenceObject(Function->Pdo);
        }
    }
}

// Drives a device of the root's, whose id it need not name.
static NTSTATUS IopStartOnRoot(PIOP_SERVICE Service)
{
    PIOP_NODE Node = IopMakeRootNode(Service);
    if (Node == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    Node->OwnService = Service;
    const NTSTATUS Status = IopStartNode(Node);
    if (!NT_SUCCESS(Status)) {
        IopDeleteRootNode(Node);
    }
    return Status;
}

// A driver for no hardware: loaded for its own sake.
static NTSTATUS IopStartService(PIOP_SERVICE Service)
{
    const NTSTATUS Status = IopLoadService(Service);
    if (!NT_SUCCESS(Status) || Service->HasIds ||
        Service->Driver->DriverExtension->AddDevice == NULL) {
        return Status;
    }
    return IopStartOnRoot(Service);
}

VOID IopStartDevices(const LOADER_BLOCK *LoaderBlock)
{
    KeInitializeMutex(&IopPnpMutex, 0);
    IopAcquirePnp();
    if (!IopMakeRootDriver()) {
        DbgPrint("io: no memory for the driver of devices without hardware\n");
    }
    IopFindServices(LoaderBlock);
    IopAddPciNodes();
    IopStartNodes();
    for (PIOP_SERVICE Service = IopNextService(NULL); Service != NULL;
         Service = IopNextService(Service)) {
        if (!Service->HasIds && !Service->IsDemand && Service->Driver == NULL &&
            !Service->IsBroken) {
            IopStartService(Service);
        }
    }
    IopReinitializeDrivers();
    IopReleasePnp();
}

PDEVICE_OBJECT IoFindDevice(DEVICE_TYPE DeviceType, ULONG Index)
{
    PDEVICE_OBJECT Found = NULL;
    IopAcquirePnp();
    for (PIOP_NODE Node = IopNextNode(NULL); Node != NULL && Found == NULL;
         Node = IopNextNode(Node)) {
        PDEVICE_OBJECT Top = IopTopOfStack(Node->Pdo);
        if (Node->State == IopNodeStarted && Top->DeviceType == DeviceType && Index-- == 0) {
            Found = Top;
        }
    }
    IopReleasePnp();
    return Found;
}

//
// Drivers by name.
//

NTSTATUS IoLoadDriver(PCSTR Name)
{
    IopAcquirePnp();
    const PIOP_SERVICE Service = IopFindService(Name);
    NTSTATUS Status = STATUS_OBJECT_NAME_NOT_FOUND;
    if (Service != NULL && Service->Driver != NULL) {
        Status = STATUS_IMAGE_ALREADY_LOADED;
    } else if (Service != NULL) {
        Status = IopStartService(Service);
        if (NT_SUCCESS(Status) && Service->HasIds) {
            IopStartNodes();
        }
    }
    IopReleasePnp();
    return Status;
}

static BOOLEAN IopIsInStack(const IOP_NODE *Node, const DRIVER_OBJECT *Driver)
{
    for (PDEVICE_OBJECT Device = Node->Pdo->AttachedDevice; Device != NULL;
         Device = Device->AttachedDevice) {
        if (Device->DriverObject == Driver) {
            return TRUE;
        }
    }
    return FALSE;
}

static PIOP_NODE IopFindNodeOfDriver(const DRIVER_OBJECT *Driver)
{
    for (PIOP_NODE Node = IopNextNode(NULL); Node != NULL; Node = IopNextNode(Node)) {
        if (Node->State != IopNodeFound && IopIsInStack(Node, Driver)) {
            return Node;
        }
    }
    return NULL;
}

static NTSTATUS IopRemoveDevicesOf(PIOP_SERVICE Service)
{
    for (PIOP_NODE Node = IopFindNodeOfDriver(Service->Driver); Node != NULL;
         Node = IopFindNodeOfDriver(Service->Driver)) {
        const NTSTATUS Status = IopRemoveNode(Node);
        if (!NT_SUCCESS(Status)) {
            return Status;
        }
        if (IopFindNodeOfDriver(Service->Driver) == Node) {
            return STATUS_INVALID_DEVICE_STATE; // its driver did not detach
        }
    }
    return STATUS_SUCCESS;
}

// The devices that were made for it go with it.
static VOID IopDeleteRootNodesOf(const IOP_SERVICE *Service)
{
    for (PIOP_NODE Node = IopNextNode(NULL), Next; Node != NULL; Node = Next) {
        Next = IopNextNode(Node);
        if (Node->OwnService == Service && Node->State == IopNodeFound) {
            IopDeleteRootNode(Node);
        }
    }
}

NTSTATUS IoUnloadDriver(PCSTR Name)
{
    IopAcquirePnp();
    const PIOP_SERVICE Service = IopFindService(Name);
    NTSTATUS Status = STATUS_OBJECT_NAME_NOT_FOUND;
    if (Service != NULL && Service->Driver != NULL) {
        Status = IopRemoveDevicesOf(Service);
        if (NT_SUCCESS(Status)) {
            IopDeleteRootNodesOf(Service);
            Status = IopUnloadService(Service);
        }
    }
    IopReleasePnp();
    return Status;
}

PDRIVER_OBJECT IoFindDriver(PCSTR Name)
{
    const PIOP_SERVICE Service = IopFindService(Name);
    return Service != NULL ? Service->Driver : NULL;
}

// The last component of a registry path, in ASCII.
static BOOLEAN IopServiceNameOf(PCUNICODE_STRING Path, PCHAR Name, SIZE_T ByteCount)
{
    const ULONG Count = Path->Length / sizeof(WCHAR);
    ULONG Begin = Count;
    while (Begin > 0 && Path->Buffer[Begin - 1] != '\\') {
        Begin -= 1;
    }
    if (Begin == Count || Count - Begin >= ByteCount) {
        return FALSE;
    }
    for (ULONG Index = Begin; Index < Count; Index += 1) {
        Name[Index - Begin] = Path->Buffer[Index] < 0x7F ? (CHAR)Path->Buffer[Index] : '?';
    }
    Name[Count - Begin] = 0;
    return TRUE;
}

NTSTATUS NTAPI ZwLoadDriver(PUNICODE_STRING DriverServiceName)
{
    CHAR Name[IOP_SERVICE_NAME_BYTES];
    return IopServiceNameOf(DriverServiceName, Name, sizeof(Name)) ? IoLoadDriver(Name)
                                                                   : STATUS_OBJECT_NAME_INVALID;
}

NTSTATUS NTAPI ZwUnloadDriver(PUNICODE_STRING DriverServiceName)
{
    CHAR Name[IOP_SERVICE_NAME_BYTES];
    return IopServiceNameOf(DriverServiceName, Name, sizeof(Name)) ? IoUnloadDriver(Name)
                                                                   : STATUS_OBJECT_NAME_INVALID;
}

//
// The device of a PDO, for tests and the shell.
//

typedef NTSTATUS IOP_NODE_ROUTINE(PIOP_NODE Node);

static NTSTATUS IopWithNode(PDEVICE_OBJECT Pdo, IOP_NODE_ROUTINE *Routine)
{
    IopAcquirePnp();
    const PIOP_NODE Node = IopNodeOf(Pdo);
    const NTSTATUS Status = Node != NULL ? Routine(Node) : STATUS_NO_SUCH_DEVICE;
    IopReleasePnp();
    return Status;
}

static NTSTATUS IopSurprise(PIOP_NODE Node)
{
    IopSurpriseRemoveNode(Node);
    return STATUS_SUCCESS;
}

NTSTATUS IoStartPdo(PDEVICE_OBJECT Pdo)
{
    return IopWithNode(Pdo, IopStartNode);
}

NTSTATUS IoStopPdo(PDEVICE_OBJECT Pdo)
{
    return IopWithNode(Pdo, IopStopNode);
}

NTSTATUS IoRestartPdo(PDEVICE_OBJECT Pdo)
{
    return IopWithNode(Pdo, IopRestartNode);
}

static NTSTATUS IopMove(PIOP_NODE Node)
{
    if (Node->State != IopNodeStopped) {
        return STATUS_INVALID_DEVICE_STATE;
    }
    return Node->Function != NULL ? IopMoveBars(Node->Function) : STATUS_NOT_SUPPORTED;
}

NTSTATUS IoMovePdo(PDEVICE_OBJECT Pdo)
{
    return IopWithNode(Pdo, IopMove);
}

NTSTATUS IoRemovePdo(PDEVICE_OBJECT Pdo)
{
    return IopWithNode(Pdo, IopRemoveNode);
}

NTSTATUS IoSurpriseRemove(PDEVICE_OBJECT Pdo)
{
    return IopWithNode(Pdo, IopSurprise);
}

VOID IopNoteClosedFile(PDEVICE_OBJECT Pdo)
{
    if (IopNodeOf(Pdo) == NULL) {
        return;
    }
    IopAcquirePnp();
    const PIOP_NODE Node = IopNodeOf(Pdo);
    if (Node != NULL) {
        IopFinishSurpriseRemoval(Node);
    }
    IopReleasePnp();
}

//
// The end of it all.
//

static VOID IopRemoveAllNodes(VOID)
{
    for (PIOP_NODE Node = IopNextNode(NULL), Next; Node != NULL; Node = Next) {
        NTSTATUS Status = STATUS_SUCCESS;
        if (Node->Parent == NULL && Node->State != IopNodeFound) {
            Status = IopRemoveNode(Node);
        }
        if (!NT_SUCCESS(Status)) {
            DbgPrint("io: a device of driver %s could not be removed: status 0x%08x\n",
                     Node->Service->Name, Status);
        }
        Next = IopNextNode(Node); // now that what stood below has gone
        if (NT_SUCCESS(Status) && IopIsRootNode(Node)) {
            IopDeleteRootNode(Node);
        }
    }
}

VOID IoUnloadDrivers(VOID)
{
    IopAcquirePnp();
    IopRemoveAllNodes();
    for (PIOP_SERVICE Service = IopNextService(NULL); Service != NULL;
         Service = IopNextService(Service)) {
        if (Service->Driver != NULL) {
            IopUnloadService(Service);
        }
    }
    IopReleasePnp();
}
