// Po, Etw and Wmi for drivers: power IRPs, and those who listen to drivers. The system is always at
// work: it never sleeps, nobody asks for idle devices, and no event is listened to (ours).
#pragma once

#include <ntdef.h>
#include <ntstatus.h>

#include <ioddk.h>

typedef enum _SYSTEM_POWER_STATE {
    PowerSystemUnspecified = 0,
    PowerSystemWorking,
    PowerSystemSleeping1,
    PowerSystemSleeping2,
    PowerSystemSleeping3,
    PowerSystemHibernate,
    PowerSystemShutdown,
    PowerSystemMaximum,
} SYSTEM_POWER_STATE,
    *PSYSTEM_POWER_STATE;

typedef enum _DEVICE_POWER_STATE {
    PowerDeviceUnspecified = 0,
    PowerDeviceD0,
    PowerDeviceD1,
    PowerDeviceD2,
    PowerDeviceD3,
    PowerDeviceMaximum,
} DEVICE_POWER_STATE,
    *PDEVICE_POWER_STATE;

typedef union _POWER_STATE {
    SYSTEM_POWER_STATE SystemState;
    DEVICE_POWER_STATE DeviceState;
} POWER_STATE, *PPOWER_STATE;

typedef enum _POWER_STATE_TYPE {
    SystemPowerState = 0,
    DevicePowerState,
} POWER_STATE_TYPE,
    *PPOWER_STATE_TYPE;

typedef ULONG EXECUTION_STATE, *PEXECUTION_STATE;

#define IRP_MN_WAIT_WAKE 0x00
#define IRP_MN_POWER_SEQUENCE 0x01
#define IRP_MN_SET_POWER 0x02
#define IRP_MN_QUERY_POWER 0x03

typedef VOID(NTAPI REQUEST_POWER_COMPLETE)(_In_ struct _DEVICE_OBJECT *DeviceObject,
                                           _In_ UCHAR MinorFunction, _In_ POWER_STATE PowerState,
                                           _In_opt_ PVOID Context,
                                           _In_ struct _IO_STATUS_BLOCK *IoStatus);
typedef REQUEST_POWER_COMPLETE *PREQUEST_POWER_COMPLETE;

// IoCallDriver, as since Windows Vista.
NTSTATUS NTAPI PoCallDriver(_In_ struct _DEVICE_OBJECT *DeviceObject, _Inout_ struct _IRP *Irp);

// Nothing, as since Windows Vista.
VOID NTAPI PoStartNextPowerIrp(_Inout_ struct _IRP *Irp);

// Sends a power IRP for a device state to the top of DeviceObject's stack and returns STATUS_PENDING;
// CompletionFunction is called when it has been completed, perhaps before this returns. *Irp is set
// for IRP_MN_WAIT_WAKE only, so that it can be cancelled.
// STATUS_INVALID_PARAMETER_2: no minor function of those. STATUS_INSUFFICIENT_RESOURCES.
NTSTATUS NTAPI PoRequestPowerIrp(_In_ struct _DEVICE_OBJECT *DeviceObject, _In_ UCHAR MinorFunction,
                                 _In_ POWER_STATE PowerState,
                                 _In_opt_ PREQUEST_POWER_COMPLETE CompletionFunction,
                                 _In_opt_ PVOID Context, _Out_opt_ struct _IRP **Irp);

// Takes note of the new state of a device and returns the one before: PowerSystemWorking and
// PowerDeviceUnspecified at first.
POWER_STATE NTAPI PoSetPowerState(_In_ struct _DEVICE_OBJECT *DeviceObject,
                                  _In_ POWER_STATE_TYPE Type, _In_ POWER_STATE State);

// NULL: idle detection is off.
PULONG NTAPI PoRegisterDeviceForIdleDetection(_In_ struct _DEVICE_OBJECT *DeviceObject,
                                              _In_ ULONG ConservationIdleTime,
                                              _In_ ULONG PerformanceIdleTime,
                                              _In_ DEVICE_POWER_STATE State);
VOID NTAPI PoSetDeviceBusyEx(_Inout_ PULONG IdlePointer);
VOID NTAPI PoStartDeviceBusy(_Inout_ PULONG IdlePointer);
VOID NTAPI PoEndDeviceBusy(_Inout_ PULONG IdlePointer);

// The system is busy: it is, anyway. The handle is not NULL.
VOID NTAPI PoSetSystemState(_In_ EXECUTION_STATE Flags);
PVOID NTAPI PoRegisterSystemState(_Inout_opt_ PVOID StateHandle, _In_ EXECUTION_STATE Flags);
VOID NTAPI PoUnregisterSystemState(_Inout_ PVOID StateHandle);
VOID NTAPI PoSetSystemWake(_Inout_ struct _IRP *Irp);
BOOLEAN NTAPI PoGetSystemWake(_In_ struct _IRP *Irp);

// The callback is never called: no setting ever changes. STATUS_INSUFFICIENT_RESOURCES.
typedef NTSTATUS(NTAPI POWER_SETTING_CALLBACK)(_In_ const GUID *SettingGuid, _In_ PVOID Value,
                                               _In_ ULONG ValueLength, _Inout_opt_ PVOID Context);
typedef POWER_SETTING_CALLBACK *PPOWER_SETTING_CALLBACK;
NTSTATUS NTAPI PoRegisterPowerSettingCallback(_In_opt_ PDEVICE_OBJECT DeviceObject,
                                              _In_ const GUID *SettingGuid,
                                              _In_ PPOWER_SETTING_CALLBACK Callback,
                                              _In_opt_ PVOID Context, _Out_opt_ PVOID *Handle);
NTSTATUS NTAPI PoUnregisterPowerSettingCallback(_Inout_ PVOID Handle);

// FALSE: no watchdog runs.
BOOLEAN NTAPI PoQueryWatchdogTime(_In_ PDEVICE_OBJECT Pdo, _Out_ PULONG SecondsRemaining);

// -------------------------------------------------------------------------------------------------
// WMI: nobody asks. The registration itself is checked.

#define WMIREG_ACTION_REGISTER 1
#define WMIREG_ACTION_DEREGISTER 2
#define WMIREG_ACTION_REREGISTER 3
#define WMIREG_ACTION_UPDATE_GUIDS 4
#define WMIREG_ACTION_BLOCK_IRPS 5

// STATUS_SUCCESS; STATUS_INVALID_PARAMETER: no such action. IRQL = PASSIVE_LEVEL.
NTSTATUS NTAPI IoWMIRegistrationControl(_In_ PDEVICE_OBJECT DeviceObject, _In_ ULONG Action);
// Consumes the event, which lies in pool. STATUS_SUCCESS.
NTSTATUS NTAPI IoWMIWriteEvent(_Inout_ PVOID WnodeEventItem);
// InstanceCount numbers in a row that nobody had before. STATUS_SUCCESS.
NTSTATUS NTAPI IoWMIAllocateInstanceIds(_In_ GUID *Guid, _In_ ULONG InstanceCount,
                                        _Out_ ULONG *FirstInstanceId);

// -------------------------------------------------------------------------------------------------
// Etw: providers may register, and write events that nobody sees. Any IRQL but for the registration
// (PASSIVE_LEVEL).

struct _EVENT_DESCRIPTOR;
struct _EVENT_DATA_DESCRIPTOR;
struct _EVENT_FILTER_DESCRIPTOR;

typedef ULONGLONG REGHANDLE, *PREGHANDLE;
typedef VOID(NTAPI *PETWENABLECALLBACK)(_In_ const GUID *SourceId, _In_ ULONG ControlCode,
                                        _In_ UCHAR Level, _In_ ULONGLONG MatchAnyKeyword,
                                        _In_ ULONGLONG MatchAllKeyword,
                                        _In_opt_ struct _EVENT_FILTER_DESCRIPTOR *FilterData,
                                        _Inout_opt_ PVOID CallbackContext);

// The callback is never called: nobody enables the provider. STATUS_INVALID_PARAMETER: no GUID.
NTSTATUS NTAPI EtwRegister(_In_ const GUID *ProviderId, _In_opt_ PETWENABLECALLBACK EnableCallback,
                           _In_opt_ PVOID CallbackContext, _Out_ PREGHANDLE RegHandle);
// STATUS_INVALID_HANDLE: EtwRegister never gave such a one.
NTSTATUS NTAPI EtwUnregister(_In_ REGHANDLE RegHandle);
BOOLEAN NTAPI EtwEventEnabled(_In_ REGHANDLE RegHandle,
                              _In_ const struct _EVENT_DESCRIPTOR *EventDescriptor);
BOOLEAN NTAPI EtwProviderEnabled(_In_ REGHANDLE RegHandle, _In_ UCHAR Level,
                                 _In_ ULONGLONG Keyword);
NTSTATUS NTAPI EtwActivityIdControl(_In_ ULONG ControlCode, _Inout_ GUID *ActivityId);
NTSTATUS NTAPI EtwWrite(_In_ REGHANDLE RegHandle,
                        _In_ const struct _EVENT_DESCRIPTOR *EventDescriptor,
                        _In_opt_ const GUID *ActivityId, _In_ ULONG UserDataCount,
                        _In_opt_ struct _EVENT_DATA_DESCRIPTOR *UserData);
NTSTATUS NTAPI EtwWriteTransfer(_In_ REGHANDLE RegHandle,
                                _In_ const struct _EVENT_DESCRIPTOR *EventDescriptor,
                                _In_opt_ const GUID *ActivityId,
                                _In_opt_ const GUID *RelatedActivityId, _In_ ULONG UserDataCount,
                                _In_opt_ struct _EVENT_DATA_DESCRIPTOR *UserData);
NTSTATUS NTAPI EtwWriteString(_In_ REGHANDLE RegHandle, _In_ UCHAR Level, _In_ ULONGLONG Keyword,
                              _In_opt_ const GUID *ActivityId, _In_z_ PCWSTR String);
NTSTATUS NTAPI EtwWriteEx(_In_ REGHANDLE RegHandle,
                          _In_ const struct _EVENT_DESCRIPTOR *EventDescriptor, _In_ ULONG64 Filter,
                          _In_ ULONG Flags, _In_opt_ const GUID *ActivityId,
                          _In_opt_ const GUID *RelatedActivityId, _In_ ULONG UserDataCount,
                          _In_opt_ struct _EVENT_DATA_DESCRIPTOR *UserData);

// What WPP's macros call. STATUS_SUCCESS.
NTSTATUS NTAPI WmiTraceMessage(_In_ ULONG64 LoggerHandle, _In_ ULONG MessageFlags,
                               _In_ const GUID *MessageGuid, _In_ USHORT MessageNumber, ...);
NTSTATUS NTAPI WmiTraceMessageVa(_In_ ULONG64 LoggerHandle, _In_ ULONG MessageFlags,
                                 _In_ const GUID *MessageGuid, _In_ USHORT MessageNumber,
                                 _In_ __builtin_ms_va_list MessageArgList);
