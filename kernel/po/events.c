// Etw and Wmi: those who write events find a system in which nobody listens.

#include <exddk.h>
#include <poddk.h>

#include "kernel/inc/ke.h"

NTSTATUS NTAPI IoWMIRegistrationControl(PDEVICE_OBJECT DeviceObject, ULONG Action)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    const ULONG Known = Action & 0xFFFF; // flags may come above
    return Known >= WMIREG_ACTION_REGISTER && Known <= WMIREG_ACTION_BLOCK_IRPS
               ? STATUS_SUCCESS
               : STATUS_INVALID_PARAMETER;
}

NTSTATUS NTAPI IoWMIWriteEvent(PVOID WnodeEventItem)
{
    ExFreePool(WnodeEventItem);
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI IoWMIAllocateInstanceIds(GUID *Guid, ULONG InstanceCount, ULONG *FirstInstanceId)
{
    static ULONG NextId;
    UNREFERENCED_PARAMETER(Guid);
    *FirstInstanceId = __atomic_fetch_add(&NextId, InstanceCount, __ATOMIC_RELAXED);
    return STATUS_SUCCESS;
}

// Handles count up from 1.
static ULONG64 EtwpLastHandle;

NTSTATUS NTAPI EtwRegister(const GUID *ProviderId, PETWENABLECALLBACK EnableCallback,
                           PVOID CallbackContext, PREGHANDLE RegHandle)
{
    UNREFERENCED_PARAMETER(EnableCallback);
    UNREFERENCED_PARAMETER(CallbackContext);
    if (ProviderId == NULL || RegHandle == NULL) {
        return STATUS_INVALID_PARAMETER;
    }
    *RegHandle = __atomic_add_fetch(&EtwpLastHandle, 1, __ATOMIC_RELAXED);
    return STATUS_SUCCESS;
}

static BOOLEAN EtwpIsHandle(REGHANDLE RegHandle)
{
    return RegHandle != 0 && RegHandle <= __atomic_load_n(&EtwpLastHandle, __ATOMIC_RELAXED);
}

NTSTATUS NTAPI EtwUnregister(REGHANDLE RegHandle)
{
    return EtwpIsHandle(RegHandle) ? STATUS_SUCCESS : STATUS_INVALID_HANDLE;
}

BOOLEAN NTAPI EtwEventEnabled(REGHANDLE RegHandle, const struct _EVENT_DESCRIPTOR *EventDescriptor)
{
    UNREFERENCED_PARAMETER(RegHandle);
    UNREFERENCED_PARAMETER(EventDescriptor);
    return FALSE;
}

BOOLEAN NTAPI EtwProviderEnabled(REGHANDLE RegHandle, UCHAR Level, ULONGLONG Keyword)
{
    UNREFERENCED_PARAMETER(RegHandle);
    UNREFERENCED_PARAMETER(Level);
    UNREFERENCED_PARAMETER(Keyword);
    return FALSE;
}

#define EVENT_ACTIVITY_CTRL_GET_ID 1
#define EVENT_ACTIVITY_CTRL_SET_ID 2
#define EVENT_ACTIVITY_CTRL_CREATE_ID 3

NTSTATUS NTAPI EtwActivityIdControl(ULONG ControlCode, GUID *ActivityId)
{
    switch (ControlCode) {
    case EVENT_ACTIVITY_CTRL_GET_ID:
        RtlZeroMemory(ActivityId, sizeof(*ActivityId));
        return STATUS_SUCCESS;
    case EVENT_ACTIVITY_CTRL_SET_ID:
        return STATUS_SUCCESS;
    case EVENT_ACTIVITY_CTRL_CREATE_ID:
        return ExUuidCreate(ActivityId);
    default:
        return STATUS_INVALID_PARAMETER;
    }
}

static NTSTATUS EtwpDropEvent(REGHANDLE RegHandle)
{
    return EtwpIsHandle(RegHandle) ? STATUS_SUCCESS : STATUS_INVALID_HANDLE;
}

NTSTATUS NTAPI EtwWrite(REGHANDLE RegHandle, const struct _EVENT_DESCRIPTOR *EventDescriptor,
                        const GUID *ActivityId, ULONG UserDataCount,
                        struct _EVENT_DATA_DESCRIPTOR *UserData)
{
    return EtwWriteTransfer(RegHandle, EventDescriptor, ActivityId, NULL, UserDataCount, UserData);
}

NTSTATUS NTAPI EtwWriteTransfer(REGHANDLE RegHandle,
                                const struct _EVENT_DESCRIPTOR *EventDescriptor,
                                const GUID *ActivityId, const GUID *RelatedActivityId,
                                ULONG UserDataCount, struct _EVENT_DATA_DESCRIPTOR *UserData)
{
    return EtwWriteEx(RegHandle, EventDescriptor, 0, 0, ActivityId, RelatedActivityId,
                      UserDataCount, UserData);
}

NTSTATUS NTAPI EtwWriteEx(REGHANDLE RegHandle, const struct _EVENT_DESCRIPTOR *EventDescriptor,
                          ULONG64 Filter, ULONG Flags, const GUID *ActivityId,
                          const GUID *RelatedActivityId, ULONG UserDataCount,
                          struct _EVENT_DATA_DESCRIPTOR *UserData)
{
    UNREFERENCED_PARAMETER(EventDescriptor);
    UNREFERENCED_PARAMETER(Filter);
    UNREFERENCED_PARAMETER(Flags);
    UNREFERENCED_PARAMETER(ActivityId);
    UNREFERENCED_PARAMETER(RelatedActivityId);
    UNREFERENCED_PARAMETER(UserDataCount);
    UNREFERENCED_PARAMETER(UserData);
    return EtwpDropEvent(RegHandle);
}

NTSTATUS NTAPI EtwWriteString(REGHANDLE RegHandle, UCHAR Level, ULONGLONG Keyword,
                              const GUID *ActivityId, PCWSTR String)
{
    UNREFERENCED_PARAMETER(Level);
    UNREFERENCED_PARAMETER(Keyword);
    UNREFERENCED_PARAMETER(ActivityId);
    UNREFERENCED_PARAMETER(String);
    return EtwpDropEvent(RegHandle);
}

NTSTATUS NTAPI WmiTraceMessage(ULONG64 LoggerHandle, ULONG MessageFlags, const GUID *MessageGuid,
                               USHORT MessageNumber, ...)
{
    UNREFERENCED_PARAMETER(LoggerHandle);
    UNREFERENCED_PARAMETER(MessageFlags);
    UNREFERENCED_PARAMETER(MessageGuid);
    UNREFERENCED_PARAMETER(MessageNumber);
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI WmiTraceMessageVa(ULONG64 LoggerHandle, ULONG MessageFlags, const GUID *MessageGuid,
                                 USHORT MessageNumber, __builtin_ms_va_list MessageArgList)
{
    UNREFERENCED_PARAMETER(MessageArgList);
    return WmiTraceMessage(LoggerHandle, MessageFlags, MessageGuid, MessageNumber);
}
