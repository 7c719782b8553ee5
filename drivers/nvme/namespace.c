// Namespaces: the children of a controller, each a disk.
//
//   NvmeScanNamespaces --> list --> BusRelations --> PnP manager: QUERY_ID, START (raw), REMOVE
//
// Ids may be sparse: the controller's list is the only way to know them. A namespace is usable if it has
// plain blocks of 512 to 4096 bytes; others are passed over, with a sentence that says why. A device
// object, once made, keeps its namespace for as long as the controller lists it, over stops and resets.
// When it is listed no longer, it is reported no longer, refuses requests, and goes with REMOVE.
//
// NamespaceLock guards the list; only the holder of ConfigurationMutex changes it.
#include "nvme.h"

#define NVME_MINIMUM_BLOCK_SHIFT 9 // 512 bytes
#define NVME_QUIESCE_INTERVAL 1    // milliseconds

static const WCHAR NvmeNamespaceId[] = L"NVME\\NAMESPACE\0"; // and the end of a list of ids

// -------------------------------------------------------------------------------------------------
// The list.

static PNVME_NAMESPACE NvmeLookUpNamespace(PNVME_CONTROLLER Controller, ULONG Id)
{
    for (PLIST_ENTRY Entry = Controller->Namespaces.Flink; Entry != &Controller->Namespaces;
         Entry = Entry->Flink) {
        const PNVME_NAMESPACE Namespace = CONTAINING_RECORD(Entry, NVME_NAMESPACE, Link);
        if (Namespace->Id == Id && Namespace->IsPresent) {
            return Namespace;
        }
    }
    return NULL;
}

PNVME_NAMESPACE NvmeFindNamespace(PNVME_CONTROLLER Controller, ULONG Id, PVOID Tag)
{
    KIRQL OldIrql;
    KeAcquireSpinLock(&Controller->NamespaceLock, &OldIrql);
    PNVME_NAMESPACE Namespace = NvmeLookUpNamespace(Controller, Id);
    if (Namespace != NULL && !NT_SUCCESS(IoAcquireRemoveLock(&Namespace->RemoveLock, Tag))) {
        Namespace = NULL;
    }
    KeReleaseSpinLock(&Controller->NamespaceLock, OldIrql);
    return Namespace;
}

BOOLEAN NvmeLookUpForIo(PNVME_CONTROLLER Controller, ULONG Id, PNVME_IO_NAMESPACE Information)
{
    KIRQL OldIrql;
    KeAcquireSpinLock(&Controller->NamespaceLock, &OldIrql);
    const NVME_NAMESPACE *Namespace = NvmeLookUpNamespace(Controller, Id);
    if (Namespace != NULL) {
        *Information = (NVME_IO_NAMESPACE){Id, Namespace->BlockShift, Namespace->BlockCount};
    }
    KeReleaseSpinLock(&Controller->NamespaceLock, OldIrql);
    return Namespace != NULL;
}

// Ascending ids.
static VOID NvmeInsertNamespace(PNVME_CONTROLLER Controller, PNVME_NAMESPACE Namespace)
{
    KIRQL OldIrql;
    KeAcquireSpinLock(&Controller->NamespaceLock, &OldIrql);
    PLIST_ENTRY Next = Controller->Namespaces.Flink;
    while (Next != &Controller->Namespaces &&
           CONTAINING_RECORD(Next, NVME_NAMESPACE, Link)->Id < Namespace->Id) {
        Next = Next->Flink;
    }
    InsertTailList(Next, &Namespace->Link);
    KeReleaseSpinLock(&Controller->NamespaceLock, OldIrql);
}

static VOID NvmeDeleteNamespace(PNVME_NAMESPACE Namespace)
{
    const PNVME_CONTROLLER Controller = Namespace->Device.Controller;
    KIRQL OldIrql;
    KeAcquireSpinLock(&Controller->NamespaceLock, &OldIrql);
    RemoveEntryList(&Namespace->Link);
    KeReleaseSpinLock(&Controller->NamespaceLock, OldIrql);
    IoDeleteDevice(Namespace->Device.Self);
}

VOID NvmeDeleteNamespaces(PNVME_CONTROLLER Controller)
{
    while (!IsListEmpty(&Controller->Namespaces)) {
        NvmeDeleteNamespace(CONTAINING_RECORD(Controller->Namespaces.Flink, NVME_NAMESPACE, Link));
    }
}

static BOOLEAN NvmeIsNamespaceBusy(const NVME_NAMESPACE *Namespace)
{
    const PNVME_CONTROLLER Controller = Namespace->Device.Controller;
    // What such a controller has not answered never ends: nobody may wait for it.
    for (ULONG Id = 1; Id <= Controller->IoQueueCount && !Controller->Unstoppable; Id += 1) {
        if (Controller->Queues[Id] != NULL &&
            NvmeQueueHasRequestOf(Controller->Queues[Id], Namespace->Device.Self)) {
            return TRUE;
        }
    }
    return FALSE;
}

BOOLEAN NvmeQuiesceNamespace(PNVME_NAMESPACE Namespace, NTSTATUS Status, ULONG Milliseconds)
{
    const LONG64 Deadline = NvmeDeadline(Milliseconds);
    Namespace->ClosedStatus = Status;
    KeFlushQueuedDpcs(); // whoever saw the old value has left DISPATCH_LEVEL
    while (NvmeIsNamespaceBusy(Namespace)) {
        if (NvmeHasPassed(Deadline)) {
            return FALSE;
        }
        NvmeSleep(NVME_QUIESCE_INTERVAL);
    }
    return TRUE;
}

// -------------------------------------------------------------------------------------------------
// The scan.

static NVME_BLOCK_FORMAT NvmeCurrentFormat(const NVME_IDENTIFY_NAMESPACE_DATA *Data)
{
    return Data->Formats[Data->CurrentFormat & NVME_CURRENT_FORMAT_MASK];
}

static BOOLEAN NvmeIsUsable(const NVME_CONTROLLER *Controller, ULONG Id,
                            const NVME_IDENTIFY_NAMESPACE_DATA *Data)
{
    const NVME_BLOCK_FORMAT Format = NvmeCurrentFormat(Data);
    const struct {
        BOOLEAN IsBad;
        PCSTR Complaint;
    } Rules[] = {
        {Data->BlockCount == 0, "it is not active"},
        {Format.MetadataByteCount != 0, "its blocks carry metadata"},
        {Format.BlockShift < NVME_MINIMUM_BLOCK_SHIFT || Format.BlockShift > PAGE_SHIFT,
         "its blocks are smaller than 512 bytes or larger than 4096"},
        {Format.BlockShift <= PAGE_SHIFT &&
             Data->BlockCount > (ULONG64)MAXLONGLONG >> Format.BlockShift,
         "it is too large"},
    };
    for (ULONG Index = 0; Index < ARRAYSIZE(Rules); Index += 1) {
        if (Rules[Index].IsBad) {
            DbgPrint("NVMe: %s: namespace %u is passed over: %s (%llu blocks of 2^%u bytes, %u "
                     "bytes of metadata each)\n",
                     Controller->SerialNumber, Id, Rules[Index].Complaint, Data->BlockCount,
                     Format.BlockShift, Format.MetadataByteCount);
            return FALSE;
        }
    }
    return TRUE;
}

// Owned queues remember a namespace each: not this one any more.
static VOID NvmeForgetInQueues(PNVME_CONTROLLER Controller)
{
    for (ULONG Id = 1; Id < NVME_MAXIMUM_QUEUES; Id += 1) {
        const PNVME_QUEUE Queue = Controller->Queues[Id];
        KIRQL OldIrql;
        if (Queue != NULL) {
            KeAcquireSpinLock(&Queue->Lock, &OldIrql);
            Queue->LastNamespace.Id = 0;
            KeReleaseSpinLock(&Queue->Lock, OldIrql);
        }
    }
}

static VOID NvmeSetGeometry(PNVME_NAMESPACE Namespace, const NVME_IDENTIFY_NAMESPACE_DATA *Data)
{
    const PNVME_CONTROLLER Controller = Namespace->Device.Controller;
    Namespace->BlockShift = NvmeCurrentFormat(Data).BlockShift;
    Namespace->BlockCount = Data->BlockCount;
    Namespace->ByteCount = Data->BlockCount << Namespace->BlockShift;
    Namespace->Data = *Data;
    Namespace->IsReadOnly = (Data->Attributes & 1) != 0;
    Namespace->Device.Self->SectorSize = (USHORT)(1u << Namespace->BlockShift);
    DbgPrint("NVMe: %s, serial %s, firmware %s: namespace %u, %llu blocks of %u bytes, %u KiB per "
             "command\n",
             Controller->ModelNumber, Controller->SerialNumber, Controller->FirmwareRevision,
             Namespace->Id, Namespace->BlockCount, 1u << Namespace->BlockShift,
             Controller->MaximumTransferBytes / 1024);
}

static NTSTATUS NvmeCreateNamespace(PNVME_CONTROLLER Controller, ULONG Id,
                                    const NVME_IDENTIFY_NAMESPACE_DATA *Data)
{
    PDEVICE_OBJECT Pdo;
    const NTSTATUS Status = IoCreateDevice(
        Controller->Device.Self->DriverObject, sizeof(NVME_NAMESPACE), NULL, FILE_DEVICE_DISK,
        FILE_AUTOGENERATED_DEVICE_NAME | FILE_DEVICE_SECURE_OPEN, FALSE, &Pdo);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    const PNVME_NAMESPACE Namespace = Pdo->DeviceExtension;
    Namespace->Device = (NVME_DEVICE){NvmeDeviceNamespace, Pdo, Controller};
    Namespace->Id = Id;
    Namespace->IsPresent = TRUE;
    Namespace->ClosedStatus = STATUS_DEVICE_NOT_READY;
    IoInitializeRemoveLock(&Namespace->RemoveLock, NVME_TAG, 0, 0);
    NvmeSetGeometry(Namespace, Data);
    NvmeInsertNamespace(Controller, Namespace);
    Pdo->AlignmentRequirement |= FILE_LONG_ALIGNMENT;
    Pdo->Flags |= DO_DIRECT_IO;
    Pdo->Flags &= ~DO_DEVICE_INITIALIZING;
    return STATUS_SUCCESS;
}

static BOOLEAN NvmeHasChanged(const NVME_NAMESPACE *Namespace,
                              const NVME_IDENTIFY_NAMESPACE_DATA *Data)
{
    return Namespace->BlockCount != Data->BlockCount ||
           Namespace->BlockShift != NvmeCurrentFormat(Data).BlockShift;
}

// A new size: no request may be under way that was checked against the old one.
static VOID NvmeChangeNamespace(PNVME_NAMESPACE Namespace, const NVME_IDENTIFY_NAMESPACE_DATA *Data)
{
    const NTSTATUS ClosedStatus = Namespace->ClosedStatus;
    const ULONG Timeout = 2 * Namespace->Device.Controller->Parameters.CommandTimeout;
    if (!NvmeQuiesceNamespace(Namespace, STATUS_DEVICE_NOT_READY, Timeout)) {
        DbgPrint("NVMe: namespace %u changes its size under requests that are not answered\n",
                 Namespace->Id);
    }
    NvmeSetGeometry(Namespace, Data);
    NvmeForgetInQueues(Namespace->Device.Controller);
    Namespace->ClosedStatus = ClosedStatus;
}

// What the controller says of one of its namespaces. *IsListed: it is usable.
static NTSTATUS NvmeTakeNamespace(PNVME_CONTROLLER Controller, ULONG Id, PNVME_ADMIN_PAGE Page,
                                  PBOOLEAN IsListed, PBOOLEAN HasNews)
{
    const PNVME_NAMESPACE Known = NvmeLookUpNamespace(Controller, Id);
    const NVME_IDENTIFY_NAMESPACE_DATA *Data = Page->Va;
    NTSTATUS Status = NvmeIdentify(Controller, NVME_IDENTIFY_NAMESPACE, Id, Page);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    *IsListed = NvmeIsUsable(Controller, Id, Data);
    if (*IsListed && Known == NULL) {
        Status = NvmeCreateNamespace(Controller, Id, Data);
        *HasNews = TRUE;
    } else if (*IsListed && NvmeHasChanged(Known, Data)) {
        NvmeChangeNamespace(Known, Data);
    } else if (*IsListed) {
        Known->Data = *Data;
        Known->IsReadOnly = (Data->Attributes & 1) != 0;
    }
    return Status;
}

// Every namespace with an id from First to Last is no longer there.
static VOID NvmeLoseNamespaces(PNVME_CONTROLLER Controller, ULONG First, ULONG Last,
                               PBOOLEAN HasNews)
{
    for (PLIST_ENTRY Entry = Controller->Namespaces.Flink; Entry != &Controller->Namespaces;
         Entry = Entry->Flink) {
        const PNVME_NAMESPACE Namespace = CONTAINING_RECORD(Entry, NVME_NAMESPACE, Link);
        if (Namespace->IsPresent && Namespace->Id >= First && Namespace->Id <= Last) {
            DbgPrint("NVMe: %s: namespace %u is gone\n", Controller->SerialNumber, Namespace->Id);
            Namespace->IsPresent = FALSE;
            Namespace->ClosedStatus = STATUS_DEVICE_DOES_NOT_EXIST;
            NvmeForgetInQueues(Controller);
            *HasNews = TRUE;
        }
    }
}

// One list of ids after the other, each of the ids above the last one.
static NTSTATUS NvmeScanLists(PNVME_CONTROLLER Controller, PNVME_ADMIN_PAGE List,
                              PNVME_ADMIN_PAGE Page, PBOOLEAN HasNews)
{
    const ULONG *Ids = List->Va;
    ULONG Next = 1; // ids below are done with
    ULONG Index;
    do {
        NTSTATUS Status = NvmeIdentify(Controller, NVME_IDENTIFY_ACTIVE_NAMESPACES, Next - 1, List);
        for (Index = 0; NT_SUCCESS(Status) && Index < NVME_NAMESPACE_LIST_ENTRIES &&
                        Ids[Index] >= Next && Ids[Index] != NVME_ALL_NAMESPACES;
             Index += 1) {
            const ULONG Id = Ids[Index];
            BOOLEAN IsListed = FALSE;
            Status = NvmeTakeNamespace(Controller, Id, Page, &IsListed, HasNews);
            if (NT_SUCCESS(Status)) {
                NvmeLoseNamespaces(Controller, Next, IsListed ? Id - 1 : Id, HasNews);
                Next = Id + 1;
            }
        }
        if (!NT_SUCCESS(Status)) {
            return Status;
        }
    } while (Index == NVME_NAMESPACE_LIST_ENTRIES);
    NvmeLoseNamespaces(Controller, Next, MAXULONG, HasNews);
    return STATUS_SUCCESS;
}

NTSTATUS NvmeScanNamespaces(PNVME_CONTROLLER Controller)
{
    const PNVME_ADMIN_PAGE List = NvmeTakeAdminPage(Controller);
    const PNVME_ADMIN_PAGE Page = NvmeTakeAdminPage(Controller);
    BOOLEAN HasNews = FALSE;
    NTSTATUS Status = STATUS_INSUFFICIENT_RESOURCES;
    if (List != NULL && Page != NULL) {
        Status = NvmeScanLists(Controller, List, Page, &HasNews);
    }
    if (List != NULL) {
        NvmeReturnAdminPage(Controller, List, Status);
    }
    if (Page != NULL) {
        NvmeReturnAdminPage(Controller, Page, Status);
    }
    // After a start, the PnP manager asks without being told to.
    if (HasNews && Controller->State != NvmeStarting) {
        IoInvalidateDeviceRelations(Controller->Pdo, BusRelations);
    }
    return Status;
}

// -------------------------------------------------------------------------------------------------
// PnP.

static ULONG NvmeCountChildren(PNVME_CONTROLLER Controller)
{
    ULONG Count = 1; // the PMR
    for (PLIST_ENTRY Entry = Controller->Namespaces.Flink; Entry != &Controller->Namespaces;
         Entry = Entry->Flink) {
        Count += 1;
    }
    return Count;
}

static VOID NvmeAddRelation(PDEVICE_RELATIONS Relations, PDEVICE_OBJECT DeviceObject)
{
    ObReferenceObject(DeviceObject);
    Relations->Objects[Relations->Count] = DeviceObject;
    Relations->Count += 1;
}

// What others above us have answered stays in the answer.
NTSTATUS NvmeQueryBusRelations(PNVME_CONTROLLER Controller, PIRP Irp)
{
    const PDEVICE_RELATIONS Others = (PDEVICE_RELATIONS)Irp->IoStatus.Information;
    const ULONG OtherCount = Others != NULL ? Others->Count : 0;
    (VOID)
        KeWaitForSingleObject(&Controller->ConfigurationMutex, Executive, KernelMode, FALSE, NULL);
    const SIZE_T ByteCount = FIELD_OFFSET(DEVICE_RELATIONS, Objects) +
                             (OtherCount + NvmeCountChildren(Controller)) * sizeof(PDEVICE_OBJECT);
    const PDEVICE_RELATIONS Relations = ExAllocatePool2(POOL_FLAG_PAGED, ByteCount, NVME_TAG);
    if (Relations != NULL) {
        for (ULONG Index = 0; Index < OtherCount; Index += 1) {
            Relations->Objects[Index] = Others->Objects[Index];
        }
        Relations->Count = OtherCount;
        for (PLIST_ENTRY Entry = Controller->Namespaces.Flink; Entry != &Controller->Namespaces;
             Entry = Entry->Flink) {
            const PNVME_NAMESPACE Namespace = CONTAINING_RECORD(Entry, NVME_NAMESPACE, Link);
            if (Namespace->IsPresent) {
                NvmeAddRelation(Relations, Namespace->Device.Self);
            }
        }
        if (NvmePmrDevice(Controller) != NULL) {
            NvmeAddRelation(Relations, NvmePmrDevice(Controller));
        }
    }
    KeReleaseMutex(&Controller->ConfigurationMutex, FALSE);
    if (Relations == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    if (Others != NULL) {
        ExFreePool(Others);
    }
    Irp->IoStatus.Information = (ULONG_PTR)Relations;
    return STATUS_SUCCESS;
}

PWSTR NvmeCopyWide(const WCHAR *Text, SIZE_T ByteCount)
{
    const PWSTR Copy = ExAllocatePool2(POOL_FLAG_PAGED, ByteCount, NVME_TAG);
    if (Copy != NULL) {
        RtlCopyMemory(Copy, Text, ByteCount);
    }
    return Copy;
}

#define NVME_INSTANCE_CHARACTERS 11 // of a ULONG in decimal, and the end

static PWSTR NvmeInstanceId(ULONG Id)
{
    WCHAR Digits[NVME_INSTANCE_CHARACTERS] = {0};
    ULONG First = NVME_INSTANCE_CHARACTERS - 1;
    do {
        First -= 1;
        Digits[First] = (WCHAR)('0' + Id % 10);
        Id /= 10;
    } while (Id != 0);
    return NvmeCopyWide(&Digits[First], (NVME_INSTANCE_CHARACTERS - First) * sizeof(WCHAR));
}

static NTSTATUS NvmeQueryNamespaceId(const NVME_NAMESPACE *Namespace, PIRP Irp)
{
    PWSTR Answer;
    switch (IoGetCurrentIrpStackLocation(Irp)->Parameters.QueryId.IdType) {
    case BusQueryDeviceID:
    case BusQueryHardwareIDs:
        Answer = NvmeCopyWide(NvmeNamespaceId, sizeof(NvmeNamespaceId));
        break;
    case BusQueryInstanceID:
        Answer = NvmeInstanceId(Namespace->Id);
        break;
    default:
        return Irp->IoStatus.Status;
    }
    Irp->IoStatus.Information = (ULONG_PTR)Answer;
    return Answer != NULL ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;
}

NTSTATUS NvmeQueryTargetRelation(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    if (IoGetCurrentIrpStackLocation(Irp)->Parameters.QueryDeviceRelations.Type !=
        TargetDeviceRelation) {
        return Irp->IoStatus.Status;
    }
    const PDEVICE_RELATIONS Relations =
        ExAllocatePool2(POOL_FLAG_PAGED, sizeof(*Relations), NVME_TAG);
    if (Relations == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    NvmeAddRelation(Relations, DeviceObject);
    Irp->IoStatus.Information = (ULONG_PTR)Relations;
    return STATUS_SUCCESS;
}

static NTSTATUS NvmeStartNamespace(PNVME_NAMESPACE Namespace)
{
    if (!Namespace->IsPresent) {
        return STATUS_DEVICE_DOES_NOT_EXIST;
    }
    if (Namespace->WasRemoved) {
        IoInitializeRemoveLock(&Namespace->RemoveLock, NVME_TAG, 0, 0);
        Namespace->WasRemoved = FALSE;
    }
    Namespace->ClosedStatus = STATUS_SUCCESS;
    return STATUS_SUCCESS;
}

static VOID NvmeStopNamespace(PNVME_NAMESPACE Namespace)
{
    (VOID) NvmeQuiesceNamespace(Namespace, STATUS_DEVICE_NOT_READY, MAXLONG);
}

// Completes the IRP itself: the device may be gone afterwards.
static NTSTATUS NvmeRemoveNamespace(PNVME_NAMESPACE Namespace, PIRP Irp)
{
    NvmeStopNamespace(Namespace);
    if (!Namespace->WasRemoved) {
        (VOID) IoAcquireRemoveLock(&Namespace->RemoveLock, Irp);
        IoReleaseRemoveLockAndWait(&Namespace->RemoveLock, Irp);
        Namespace->WasRemoved = TRUE;
    }
    const BOOLEAN IsPresent = Namespace->IsPresent;
    (VOID) NvmeFinishIrp(Irp, STATUS_SUCCESS, 0);
    if (!IsPresent) {
        NvmeDeleteNamespace(Namespace);
    }
    return STATUS_SUCCESS;
}

NTSTATUS NvmeNamespacePnp(PNVME_NAMESPACE Namespace, PIRP Irp)
{
    const IO_STACK_LOCATION *Stack = IoGetCurrentIrpStackLocation(Irp);
    NTSTATUS Status = Irp->IoStatus.Status;
    switch (Stack->MinorFunction) {
    case IRP_MN_QUERY_ID:
        Status = NvmeQueryNamespaceId(Namespace, Irp);
        break;
    case IRP_MN_QUERY_DEVICE_RELATIONS:
        Status = NvmeQueryTargetRelation(Namespace->Device.Self, Irp);
        break;
    case IRP_MN_QUERY_CAPABILITIES:
        Stack->Parameters.DeviceCapabilities.Capabilities->RawDeviceOK = TRUE;
        Stack->Parameters.DeviceCapabilities.Capabilities->SilentInstall = TRUE;
        Stack->Parameters.DeviceCapabilities.Capabilities->Address = Namespace->Id;
        Status = STATUS_SUCCESS;
        break;
    case IRP_MN_START_DEVICE:
        Status = NvmeStartNamespace(Namespace);
        break;
    case IRP_MN_STOP_DEVICE:
        NvmeStopNamespace(Namespace);
        Status = STATUS_SUCCESS;
        break;
    case IRP_MN_SURPRISE_REMOVAL:
        Namespace->ClosedStatus = STATUS_DEVICE_DOES_NOT_EXIST;
        Status = STATUS_SUCCESS;
        break;
    case IRP_MN_QUERY_STOP_DEVICE:
    case IRP_MN_CANCEL_STOP_DEVICE:
    case IRP_MN_QUERY_REMOVE_DEVICE:
    case IRP_MN_CANCEL_REMOVE_DEVICE:
        Status = STATUS_SUCCESS;
        break;
    case IRP_MN_REMOVE_DEVICE:
        return NvmeRemoveNamespace(Namespace, Irp);
    }
    const ULONG_PTR Information = Irp->IoStatus.Information;
    return NvmeFinishIrp(Irp, Status, Information);
}
