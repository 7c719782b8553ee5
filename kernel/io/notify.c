// Notifications: of interfaces of a class, and of what happens to a device.
//
// Lock: the PnP mutex for the list. It is recursive, so that a routine may register, open the device,
// or unregister (but itself). Changes of interfaces are told from a system thread: the device that
// enables its interface is often just being started.
#define INITGUID
#include "kernel/io/pnp.h"

#include <resetddk.h>
#include <wdmguid.h>

typedef struct _IOP_NOTIFICATION {
    LIST_ENTRY Link;
    IO_NOTIFICATION_EVENT_CATEGORY Category;
    GUID Class;            // EventCategoryDeviceInterfaceChange
    PFILE_OBJECT File;     // EventCategoryTargetDeviceChange; its owner may close it when asked to
    PDEVICE_OBJECT Pdo;    // of File; referenced
    PDRIVER_OBJECT Driver; // referenced
    PDRIVER_NOTIFICATION_CALLBACK_ROUTINE Routine;
    PVOID Context;
    BOOLEAN IsGone; // unregistered while the list was walked
} IOP_NOTIFICATION, *PIOP_NOTIFICATION;

static LIST_ENTRY IopNotifications = {&IopNotifications, &IopNotifications};
static ULONG IopWalkDepth; // the list is walked: what is gone stays in it

//
// Registering.
//

static VOID IopCallForExisting(PCUNICODE_STRING Name, PVOID Context)
{
    const PIOP_NOTIFICATION Entry = Context;
    UNICODE_STRING Copy = *Name;
    DEVICE_INTERFACE_CHANGE_NOTIFICATION Change = {1, sizeof(Change), GUID_DEVICE_INTERFACE_ARRIVAL,
                                                   Entry->Class, &Copy};
    Entry->Routine(&Change, Entry->Context);
}

NTSTATUS NTAPI IoRegisterPlugPlayNotification(IO_NOTIFICATION_EVENT_CATEGORY EventCategory,
                                              ULONG EventCategoryFlags, PVOID EventCategoryData,
                                              PDRIVER_OBJECT DriverObject,
                                              PDRIVER_NOTIFICATION_CALLBACK_ROUTINE CallbackRoutine,
                                              PVOID Context, PVOID *NotificationEntry)
{
    *NotificationEntry = NULL;
    const BOOLEAN NeedsData = EventCategory != EventCategoryHardwareProfileChange;
    if (EventCategory < EventCategoryHardwareProfileChange ||
        EventCategory > EventCategoryTargetDeviceChange ||
        (NeedsData && EventCategoryData == NULL)) {
        return STATUS_INVALID_PARAMETER;
    }
    PIOP_NOTIFICATION Entry = ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(*Entry), IOP_TAG);
    if (Entry == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    *Entry = (IOP_NOTIFICATION){.Category = EventCategory,
                                .Driver = DriverObject,
                                .Routine = CallbackRoutine,
                                .Context = Context};
    ObReferenceObject(DriverObject);
    IopAcquirePnp();
    InsertTailList(&IopNotifications, &Entry->Link);
    *NotificationEntry = Entry;
    if (EventCategory == EventCategoryTargetDeviceChange) {
        Entry->File = EventCategoryData;
        Entry->Pdo = IopBaseOfStack(Entry->File->DeviceObject);
        ObReferenceObject(Entry->Pdo);
    } else if (EventCategory == EventCategoryDeviceInterfaceChange) {
        Entry->Class = *(const GUID *)EventCategoryData;
        if ((EventCategoryFlags & PNPNOTIFY_DEVICE_INTERFACE_INCLUDE_EXISTING_INTERFACES) != 0) {
            IopReportExistingInterfaces(&Entry->Class, IopCallForExisting, Entry);
        }
    }
    IopReleasePnp();
    return STATUS_SUCCESS;
}

static VOID IopFreeNotification(PIOP_NOTIFICATION Entry)
{
    RemoveEntryList(&Entry->Link);
    if (Entry->Pdo != NULL) {
        ObDereferenceObject(Entry->Pdo);
    }
    ObDereferenceObject(Entry->Driver);
    ExFreePoolWithTag(Entry, IOP_TAG);
}

NTSTATUS NTAPI IoUnregisterPlugPlayNotification(PVOID NotificationEntry)
{
    const PIOP_NOTIFICATION Entry = NotificationEntry;
    IopAcquirePnp();
    if (IopWalkDepth != 0) {
        Entry->IsGone = TRUE;
    } else {
        IopFreeNotification(Entry);
    }
    IopReleasePnp();
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI IoUnregisterPlugPlayNotificationEx(PVOID NotificationEntry)
{
    return IoUnregisterPlugPlayNotification(NotificationEntry);
}

//
// Telling. The PnP mutex is held.
//

static VOID IopSweepNotifications(VOID)
{
    for (PLIST_ENTRY Link = IopNotifications.Flink, Next; Link != &IopNotifications; Link = Next) {
        const PIOP_NOTIFICATION Entry = CONTAINING_RECORD(Link, IOP_NOTIFICATION, Link);
        Next = Link->Flink;
        if (Entry->IsGone) {
            IopFreeNotification(Entry);
        }
    }
}

// Class, or Pdo: whom it concerns. Returns the first refusal.
static NTSTATUS IopTellEach(IO_NOTIFICATION_EVENT_CATEGORY Category, const GUID *Class,
                            const DEVICE_OBJECT *Pdo, PVOID Structure)
{
    NTSTATUS Status = STATUS_SUCCESS;
    IopWalkDepth += 1;
    for (PLIST_ENTRY Link = IopNotifications.Flink; Link != &IopNotifications; Link = Link->Flink) {
        const PIOP_NOTIFICATION Entry = CONTAINING_RECORD(Link, IOP_NOTIFICATION, Link);
        if (Entry->IsGone || Entry->Category != Category ||
            (Class != NULL && !RtlEqualMemory(&Entry->Class, Class, sizeof(GUID))) ||
            (Pdo != NULL && Entry->Pdo != Pdo)) {
            continue;
        }
        if (Pdo != NULL) {
            ((PTARGET_DEVICE_REMOVAL_NOTIFICATION)Structure)->FileObject = Entry->File;
        }
        const NTSTATUS Answer = Entry->Routine(Structure, Entry->Context);
        if (NT_SUCCESS(Status)) {
            Status = Answer;
        }
    }
    IopWalkDepth -= 1;
    if (IopWalkDepth == 0) {
        IopSweepNotifications();
    }
    return Status;
}

NTSTATUS IopNotifyTarget(const DEVICE_OBJECT *Pdo, const GUID *Event)
{
    TARGET_DEVICE_REMOVAL_NOTIFICATION Removal = {1, sizeof(Removal), *Event, NULL};
    return IopTellEach(EventCategoryTargetDeviceChange, NULL, Pdo, &Removal);
}

//
// From a system thread.
//

typedef struct _IOP_LATER {
    WORK_QUEUE_ITEM Item;
    GUID Event;
    GUID Class;
    PDEVICE_OBJECT Pdo; // of a device's change; referenced
    PVOID Structure;
    PDEVICE_CHANGE_COMPLETE_CALLBACK Callback;
    PVOID Context;
    UNICODE_STRING Name;
    WCHAR Buffer[];
} IOP_LATER, *PIOP_LATER;

static VOID NTAPI IopNotifyLater(PVOID Parameter)
{
    const PIOP_LATER Later = Parameter;
    IopAcquirePnp();
    if (Later->Pdo != NULL) {
        IopTellEach(EventCategoryTargetDeviceChange, NULL, Later->Pdo, Later->Structure);
    } else {
        DEVICE_INTERFACE_CHANGE_NOTIFICATION Change = {1, sizeof(Change), Later->Event,
                                                       Later->Class, &Later->Name};
        IopTellEach(EventCategoryDeviceInterfaceChange, &Later->Class, NULL, &Change);
    }
    IopReleasePnp();
    if (Later->Pdo != NULL) {
        ObDereferenceObject(Later->Pdo);
    }
    if (Later->Callback != NULL) {
        Later->Callback(Later->Context);
    }
    ExFreePoolWithTag(Later, IOP_TAG);
}

static PIOP_LATER IopMakeLater(PCUNICODE_STRING Name)
{
    const USHORT ByteCount = Name != NULL ? Name->Length : 0;
    PIOP_LATER Later =
        ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(*Later) + ByteCount + sizeof(WCHAR), IOP_TAG);
    if (Later != NULL) {
        ExInitializeWorkItem(&Later->Item, IopNotifyLater, Later);
        if (Name != NULL) {
            RtlCopyMemory(Later->Buffer, Name->Buffer, ByteCount);
            Later->Name =
                (UNICODE_STRING){ByteCount, (USHORT)(ByteCount + sizeof(WCHAR)), Later->Buffer};
        }
    }
    return Later;
}

VOID IopNotifyInterface(const GUID *Event, const GUID *Class, PCUNICODE_STRING Name)
{
    BOOLEAN IsWanted = FALSE;
    for (PLIST_ENTRY Link = IopNotifications.Flink; Link != &IopNotifications; Link = Link->Flink) {
        const PIOP_NOTIFICATION Entry = CONTAINING_RECORD(Link, IOP_NOTIFICATION, Link);
        IsWanted |= Entry->Category == EventCategoryDeviceInterfaceChange;
    }
    PIOP_LATER Later = IsWanted ? IopMakeLater(Name) : NULL;
    if (Later != NULL) {
        Later->Event = *Event;
        Later->Class = *Class;
        ExQueueWorkItem(&Later->Item, DelayedWorkQueue);
    }
}

NTSTATUS NTAPI IoReportTargetDeviceChange(PDEVICE_OBJECT PhysicalDeviceObject,
                                          PVOID NotificationStructure)
{
    if (IopNodeOf(PhysicalDeviceObject) == NULL) {
        return STATUS_INVALID_DEVICE_REQUEST;
    }
    IopAcquirePnp();
    IopTellEach(EventCategoryTargetDeviceChange, NULL, PhysicalDeviceObject, NotificationStructure);
    IopReleasePnp();
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI IoReportTargetDeviceChangeAsynchronous(PDEVICE_OBJECT PhysicalDeviceObject,
                                                      PVOID NotificationStructure,
                                                      PDEVICE_CHANGE_COMPLETE_CALLBACK Callback,
                                                      PVOID Context)
{
    if (IopNodeOf(PhysicalDeviceObject) == NULL) {
        return STATUS_INVALID_DEVICE_REQUEST;
    }
    // The structure is copied as if it were a name.
    const USHORT ByteCount = ((PTARGET_DEVICE_REMOVAL_NOTIFICATION)NotificationStructure)->Size;
    const UNICODE_STRING Bytes = {ByteCount, ByteCount, NotificationStructure};
    PIOP_LATER Later = IopMakeLater(&Bytes);
    if (Later == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    ObReferenceObject(PhysicalDeviceObject);
    Later->Pdo = PhysicalDeviceObject;
    Later->Structure = Later->Buffer;
    Later->Callback = Callback;
    Later->Context = Context;
    ExQueueWorkItem(&Later->Item, DelayedWorkQueue);
    return STATUS_PENDING;
}

//
// What drivers report of their devices.
//

typedef struct _IOP_CHANGE {
    WORK_QUEUE_ITEM Item;
    PDEVICE_OBJECT Pdo; // referenced
    BOOLEAN IsState;    // of the device itself; else of its children
} IOP_CHANGE, *PIOP_CHANGE;

static VOID IopLookAtState(PIOP_NODE Node)
{
    const ULONG_PTR State = Node->State == IopNodeStarted ? IopQueryState(Node) : 0;
    if ((State & (PNP_DEVICE_FAILED | PNP_DEVICE_REMOVED)) != 0) {
        IopSurpriseRemoveNode(Node);
    } else if ((State & PNP_DEVICE_RESOURCE_REQUIREMENTS_CHANGED) != 0 &&
               NT_SUCCESS(IopStopNode(Node))) {
        IopRestartNode(Node);
    }
}

static VOID NTAPI IopLookAtChange(PVOID Parameter)
{
    const PIOP_CHANGE Change = Parameter;
    IopAcquirePnp();
    const PIOP_NODE Node = IopNodeOf(Change->Pdo);
    if (Node != NULL && Change->IsState) {
        IopLookAtState(Node);
    } else if (Node != NULL) {
        IopEnumerateNode(Node);
    }
    IopReleasePnp();
    ObDereferenceObject(Change->Pdo);
    ExFreePoolWithTag(Change, IOP_TAG);
}

static VOID IopQueueChange(PDEVICE_OBJECT Pdo, BOOLEAN IsState)
{
    PIOP_CHANGE Change = ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(*Change), IOP_TAG);
    if (Change == NULL) {
        DbgPrint("io: no memory to look at a device that has changed\n");
        return;
    }
    ObReferenceObject(Pdo);
    Change->Pdo = Pdo;
    Change->IsState = IsState;
    ExInitializeWorkItem(&Change->Item, IopLookAtChange, Change);
    ExQueueWorkItem(&Change->Item, DelayedWorkQueue);
}

VOID NTAPI IoInvalidateDeviceRelations(PDEVICE_OBJECT DeviceObject, DEVICE_RELATION_TYPE Type)
{
    if (Type == BusRelations || Type == SingleBusRelations) {
        IopQueueChange(DeviceObject, FALSE);
    }
}

VOID NTAPI IoInvalidateDeviceState(PDEVICE_OBJECT PhysicalDeviceObject)
{
    IopQueueChange(PhysicalDeviceObject, TRUE);
}
