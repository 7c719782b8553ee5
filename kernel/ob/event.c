// Events with handles and names: bodies are KEVENTs.
#include "kernel/ob/obp.h"

static OBJECT_TYPE ObpEventType = {.Name = "Event", .IsWaitable = TRUE};
POBJECT_TYPE ObpEventObjectType = &ObpEventType;
POBJECT_TYPE *ExEventObjectType = &ObpEventObjectType;

NTSTATUS NTAPI ZwCreateEvent(PHANDLE EventHandle, ACCESS_MASK DesiredAccess,
                             POBJECT_ATTRIBUTES ObjectAttributes, EVENT_TYPE EventType,
                             BOOLEAN InitialState)
{
    if (EventType != NotificationEvent && EventType != SynchronizationEvent) {
        return STATUS_INVALID_PARAMETER;
    }
    PKEVENT Event = ObAllocateObject(&ObpEventType, sizeof(*Event));
    if (Event == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    KeInitializeEvent(Event, EventType, InitialState);
    return ObInsertAndOpen(Event, ObjectAttributes, DesiredAccess, EventHandle);
}

NTSTATUS NTAPI ZwOpenEvent(PHANDLE EventHandle, ACCESS_MASK DesiredAccess,
                           POBJECT_ATTRIBUTES ObjectAttributes)
{
    return ObOpenByAttributes(ObjectAttributes, &ObpEventType, DesiredAccess, EventHandle);
}

typedef LONG OBP_EVENT_ROUTINE(PKEVENT Event);

static LONG ObpSetEvent(PKEVENT Event)
{
    return KeSetEvent(Event, EVENT_INCREMENT, FALSE);
}

static LONG ObpResetEvent(PKEVENT Event)
{
    return KeResetEvent(Event);
}

static NTSTATUS ObpChangeEvent(HANDLE Handle, OBP_EVENT_ROUTINE *Routine, PLONG PreviousState)
{
    PVOID Event;
    const NTSTATUS Status = ObReferenceObjectByHandle(Handle, EVENT_MODIFY_STATE, &ObpEventType,
                                                      KernelMode, &Event, NULL);
    if (NT_SUCCESS(Status)) {
        const LONG Previous = Routine(Event);
        if (PreviousState != NULL) {
            *PreviousState = Previous;
        }
        ObDereferenceObject(Event);
    }
    return Status;
}

NTSTATUS NTAPI ZwSetEvent(HANDLE EventHandle, PLONG PreviousState)
{
    return ObpChangeEvent(EventHandle, ObpSetEvent, PreviousState);
}

NTSTATUS NTAPI ZwResetEvent(HANDLE EventHandle, PLONG PreviousState)
{
    return ObpChangeEvent(EventHandle, ObpResetEvent, PreviousState);
}

NTSTATUS NTAPI ZwClearEvent(HANDLE EventHandle)
{
    return ObpChangeEvent(EventHandle, ObpResetEvent, NULL);
}

NTSTATUS NTAPI ZwWaitForSingleObject(HANDLE Handle, BOOLEAN Alertable, PLARGE_INTEGER Timeout)
{
    PVOID Object;
    NTSTATUS Status =
        ObReferenceObjectByHandle(Handle, SYNCHRONIZE, NULL, KernelMode, &Object, NULL);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    const POBJECT_TYPE Type = ObTypeOf(Object);
    Status = Type->IsWaitable ? KeWaitForSingleObject((PUCHAR)Object + Type->WaitOffset,
                                                      UserRequest, KernelMode, Alertable, Timeout)
                              : STATUS_OBJECT_TYPE_MISMATCH;
    ObDereferenceObject(Object);
    return Status;
}

// Opened if there is such an event, else made. The pointer is good as long as the handle is open.
static PKEVENT ObpCreateNamedEvent(PUNICODE_STRING EventName, EVENT_TYPE Type, PHANDLE EventHandle)
{
    OBJECT_ATTRIBUTES Attributes;
    PVOID Event = NULL;
    InitializeObjectAttributes(&Attributes, EventName, OBJ_OPENIF | OBJ_KERNEL_HANDLE, NULL, NULL);
    if (NT_SUCCESS(ZwCreateEvent(EventHandle, EVENT_ALL_ACCESS, &Attributes, Type, TRUE)) &&
        NT_SUCCESS(
            ObReferenceObjectByHandle(*EventHandle, 0, &ObpEventType, KernelMode, &Event, NULL))) {
        ObDereferenceObject(Event);
    }
    return Event;
}

PKEVENT NTAPI IoCreateNotificationEvent(PUNICODE_STRING EventName, PHANDLE EventHandle)
{
    return ObpCreateNamedEvent(EventName, NotificationEvent, EventHandle);
}

PKEVENT NTAPI IoCreateSynchronizationEvent(PUNICODE_STRING EventName, PHANDLE EventHandle)
{
    return ObpCreateNamedEvent(EventName, SynchronizationEvent, EventHandle);
}
