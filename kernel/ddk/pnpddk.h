// PnP for drivers: what bus drivers answer, device interfaces, notifications, drivers by name.
#pragma once

#include <ntdef.h>
#include <ntstatus.h>

#include <busddk.h>
#include <ioddk.h>
#include <poddk.h>

// -------------------------------------------------------------------------------------------------
// Answers to PnP requests. Lists are in paged pool; who asked frees them.

// IRP_MN_QUERY_DEVICE_RELATIONS. Each object is referenced by who answers.
typedef struct _DEVICE_RELATIONS {
    ULONG Count;
    PDEVICE_OBJECT Objects[1];
} DEVICE_RELATIONS, *PDEVICE_RELATIONS;

C_ASSERT(sizeof(DEVICE_RELATIONS) == 0x10 && FIELD_OFFSET(DEVICE_RELATIONS, Objects) == 8);

// IRP_MN_QUERY_CAPABILITIES. Who asks sets Size and Version 1, and Address and UINumber to all ones.
typedef struct _DEVICE_CAPABILITIES {
    USHORT Size;
    USHORT Version;
    ULONG DeviceD1 : 1;
    ULONG DeviceD2 : 1;
    ULONG LockSupported : 1;
    ULONG EjectSupported : 1;
    ULONG Removable : 1;
    ULONG DockDevice : 1;
    ULONG UniqueID : 1;
    ULONG SilentInstall : 1;
    ULONG RawDeviceOK : 1;
    ULONG SurpriseRemovalOK : 1;
    ULONG WakeFromD0 : 1;
    ULONG WakeFromD1 : 1;
    ULONG WakeFromD2 : 1;
    ULONG WakeFromD3 : 1;
    ULONG HardwareDisabled : 1;
    ULONG NonDynamic : 1;
    ULONG WarmEjectSupported : 1;
    ULONG NoDisplayInUI : 1;
    ULONG Reserved : 14;
    ULONG Address;
    ULONG UINumber;
    DEVICE_POWER_STATE DeviceState[PowerSystemMaximum];
    SYSTEM_POWER_STATE SystemWake;
    DEVICE_POWER_STATE DeviceWake;
    ULONG D1Latency;
    ULONG D2Latency;
    ULONG D3Latency;
} DEVICE_CAPABILITIES, *PDEVICE_CAPABILITIES;

C_ASSERT(sizeof(DEVICE_CAPABILITIES) == 0x40);
C_ASSERT(FIELD_OFFSET(DEVICE_CAPABILITIES, DeviceState) == 0x10);

// IRP_MN_QUERY_BUS_INFORMATION.
typedef struct _PNP_BUS_INFORMATION {
    GUID BusTypeGuid;
    INTERFACE_TYPE LegacyBusType;
    ULONG BusNumber;
} PNP_BUS_INFORMATION, *PPNP_BUS_INFORMATION;

C_ASSERT(sizeof(PNP_BUS_INFORMATION) == 0x18);

// IRP_MN_QUERY_PNP_DEVICE_STATE, in IoStatus.Information.
typedef ULONG PNP_DEVICE_STATE, *PPNP_DEVICE_STATE;
#define PNP_DEVICE_DISABLED 0x00000001
#define PNP_DEVICE_DONT_DISPLAY_IN_UI 0x00000002
#define PNP_DEVICE_FAILED 0x00000004
#define PNP_DEVICE_REMOVED 0x00000008
#define PNP_DEVICE_RESOURCE_REQUIREMENTS_CHANGED 0x00000010
#define PNP_DEVICE_NOT_DISABLEABLE 0x00000020

// IRP_MN_QUERY_RESOURCE_REQUIREMENTS, IRP_MN_FILTER_RESOURCE_REQUIREMENTS.
typedef struct _IO_RESOURCE_DESCRIPTOR {
    UCHAR Option;
    UCHAR Type; // CmResourceType...
    UCHAR ShareDisposition;
    UCHAR Spare1;
    USHORT Flags;
    USHORT Spare2;
    union {
        struct {
            ULONG Length;
            ULONG Alignment;
            PHYSICAL_ADDRESS MinimumAddress;
            PHYSICAL_ADDRESS MaximumAddress;
        } Port, Memory, Generic;
        struct {
            ULONG MinimumVector;
            ULONG MaximumVector;
        } Interrupt;
        struct {
            ULONG MinimumChannel;
            ULONG MaximumChannel;
        } Dma;
        struct {
            ULONG Data[3];
        } DevicePrivate;
        struct {
            ULONG Length;
            ULONG MinBusNumber;
            ULONG MaxBusNumber;
            ULONG Reserved;
        } BusNumber;
        struct {
            ULONG Priority;
            ULONG Reserved1;
            ULONG Reserved2;
        } ConfigData;
    } u;
} IO_RESOURCE_DESCRIPTOR, *PIO_RESOURCE_DESCRIPTOR;

typedef struct _IO_RESOURCE_LIST {
    USHORT Version;
    USHORT Revision;
    ULONG Count;
    IO_RESOURCE_DESCRIPTOR Descriptors[1];
} IO_RESOURCE_LIST, *PIO_RESOURCE_LIST;

typedef struct _IO_RESOURCE_REQUIREMENTS_LIST {
    ULONG ListSize; // in bytes
    INTERFACE_TYPE InterfaceType;
    ULONG BusNumber;
    ULONG SlotNumber;
    ULONG Reserved[3];
    ULONG AlternativeLists;
    IO_RESOURCE_LIST List[1];
} IO_RESOURCE_REQUIREMENTS_LIST, *PIO_RESOURCE_REQUIREMENTS_LIST;

C_ASSERT(sizeof(IO_RESOURCE_DESCRIPTOR) == 0x20 && sizeof(IO_RESOURCE_LIST) == 0x28);
C_ASSERT(sizeof(IO_RESOURCE_REQUIREMENTS_LIST) == 0x48);
C_ASSERT(FIELD_OFFSET(IO_RESOURCE_REQUIREMENTS_LIST, List) == 0x20);

// -------------------------------------------------------------------------------------------------
// Drivers by the name of their registry key. IRQL = PASSIVE_LEVEL.

// Loads a boot module of that name and starts its devices; removes them and unloads it.
// STATUS_OBJECT_NAME_NOT_FOUND, STATUS_IMAGE_ALREADY_LOADED, STATUS_INVALID_DEVICE_REQUEST (it cannot
// be unloaded), STATUS_DEVICE_BUSY (files are open), or what the driver answered.
NTSTATUS NTAPI ZwLoadDriver(_In_ PUNICODE_STRING DriverServiceName);
NTSTATUS NTAPI ZwUnloadDriver(_In_ PUNICODE_STRING DriverServiceName);

// Memory that goes with the driver object, found again by ClientIdentificationAddress.
// STATUS_OBJECT_NAME_COLLISION, STATUS_INSUFFICIENT_RESOURCES. NULL: there is none of that address.
NTSTATUS NTAPI IoAllocateDriverObjectExtension(_In_ PDRIVER_OBJECT DriverObject,
                                               _In_ PVOID ClientIdentificationAddress,
                                               _In_ ULONG DriverObjectExtensionSize,
                                               _Out_ PVOID *DriverObjectExtension);
PVOID NTAPI IoGetDriverObjectExtension(_In_ PDRIVER_OBJECT DriverObject,
                                       _In_ PVOID ClientIdentificationAddress);

// The routine is called once all drivers have started, with how often it was called; it may register
// itself again. Only from DriverEntry, or from the routine.
typedef VOID(NTAPI DRIVER_REINITIALIZE)(_In_ struct _DRIVER_OBJECT *DriverObject,
                                        _In_opt_ PVOID Context, _In_ ULONG Count);
typedef DRIVER_REINITIALIZE *PDRIVER_REINITIALIZE;
VOID NTAPI IoRegisterDriverReinitialization(_In_ PDRIVER_OBJECT DriverObject,
                                            _In_ PDRIVER_REINITIALIZE DriverReinitializationRoutine,
                                            _In_opt_ PVOID Context);
VOID NTAPI
IoRegisterBootDriverReinitialization(_In_ PDRIVER_OBJECT DriverObject,
                                     _In_ PDRIVER_REINITIALIZE DriverReinitializationRoutine,
                                     _In_opt_ PVOID Context);

// -------------------------------------------------------------------------------------------------
// Device interfaces: names by which others find a device of a class. IRQL = PASSIVE_LEVEL.

#define DEVICE_INTERFACE_INCLUDE_NONACTIVE 0x00000001

// A name "\\??\\PCI#...#{class}" for the device of a PDO; the caller frees SymbolicLinkName->Buffer.
// Disabled at first. STATUS_INVALID_DEVICE_REQUEST: it is no PDO, or has no id yet.
// STATUS_INSUFFICIENT_RESOURCES.
NTSTATUS NTAPI IoRegisterDeviceInterface(_In_ PDEVICE_OBJECT PhysicalDeviceObject,
                                         _In_ const GUID *InterfaceClassGuid,
                                         _In_opt_ PUNICODE_STRING ReferenceString,
                                         _Out_ PUNICODE_STRING SymbolicLinkName);

// Makes the name a link to the device, or takes it away, and tells who asked for that
// (EventCategoryDeviceInterfaceChange), from a system thread. STATUS_OBJECT_NAME_NOT_FOUND: not
// registered, or disabled already. STATUS_OBJECT_NAME_EXISTS: enabled already.
NTSTATUS NTAPI IoSetDeviceInterfaceState(_In_ PUNICODE_STRING SymbolicLinkName,
                                         _In_ BOOLEAN Enable);

// The names of all (enabled) interfaces of a class, one after the other, with an empty one at the end;
// the caller frees the list. PDO: of this device only. STATUS_INSUFFICIENT_RESOURCES.
NTSTATUS NTAPI IoGetDeviceInterfaces(_In_ const GUID *InterfaceClassGuid,
                                     _In_opt_ PDEVICE_OBJECT PhysicalDeviceObject, _In_ ULONG Flags,
                                     _Out_ PWSTR *SymbolicLinkList);

// -------------------------------------------------------------------------------------------------
// Notifications. The routine is called at PASSIVE_LEVEL.

typedef enum _IO_NOTIFICATION_EVENT_CATEGORY {
    EventCategoryReserved,
    EventCategoryHardwareProfileChange,
    EventCategoryDeviceInterfaceChange,
    EventCategoryTargetDeviceChange,
    EventCategoryKernelSoftRestart,
} IO_NOTIFICATION_EVENT_CATEGORY;

#define PNPNOTIFY_DEVICE_INTERFACE_INCLUDE_EXISTING_INTERFACES 0x00000001

typedef struct _DEVICE_INTERFACE_CHANGE_NOTIFICATION {
    USHORT Version;
    USHORT Size;
    GUID Event; // GUID_DEVICE_INTERFACE_ARRIVAL, GUID_DEVICE_INTERFACE_REMOVAL
    GUID InterfaceClassGuid;
    PUNICODE_STRING SymbolicLinkName;
} DEVICE_INTERFACE_CHANGE_NOTIFICATION, *PDEVICE_INTERFACE_CHANGE_NOTIFICATION;

C_ASSERT(sizeof(DEVICE_INTERFACE_CHANGE_NOTIFICATION) == 0x30);

typedef struct _TARGET_DEVICE_REMOVAL_NOTIFICATION {
    USHORT Version;
    USHORT Size;
    GUID Event; // GUID_TARGET_DEVICE_QUERY_REMOVE, ..._REMOVE_CANCELLED, ..._REMOVE_COMPLETE
    struct _FILE_OBJECT *FileObject;
} TARGET_DEVICE_REMOVAL_NOTIFICATION, *PTARGET_DEVICE_REMOVAL_NOTIFICATION;

C_ASSERT(sizeof(TARGET_DEVICE_REMOVAL_NOTIFICATION) == 0x20);

typedef NTSTATUS(NTAPI DRIVER_NOTIFICATION_CALLBACK_ROUTINE)(_In_ PVOID NotificationStructure,
                                                             _Inout_opt_ PVOID Context);
typedef DRIVER_NOTIFICATION_CALLBACK_ROUTINE *PDRIVER_NOTIFICATION_CALLBACK_ROUTINE;

typedef VOID(NTAPI DEVICE_CHANGE_COMPLETE_CALLBACK)(_Inout_opt_ PVOID Context);
typedef DEVICE_CHANGE_COMPLETE_CALLBACK *PDEVICE_CHANGE_COMPLETE_CALLBACK;

// EventCategoryData: the class's GUID, or the file object. Hardware profiles never change here.
// STATUS_INVALID_PARAMETER, STATUS_INSUFFICIENT_RESOURCES. IRQL = PASSIVE_LEVEL.
NTSTATUS NTAPI
IoRegisterPlugPlayNotification(_In_ IO_NOTIFICATION_EVENT_CATEGORY EventCategory,
                               _In_ ULONG EventCategoryFlags, _In_opt_ PVOID EventCategoryData,
                               _In_ PDRIVER_OBJECT DriverObject,
                               _In_ PDRIVER_NOTIFICATION_CALLBACK_ROUTINE CallbackRoutine,
                               _Inout_opt_ PVOID Context, _Out_ PVOID *NotificationEntry);
NTSTATUS NTAPI IoUnregisterPlugPlayNotification(_In_ PVOID NotificationEntry);
NTSTATUS NTAPI IoUnregisterPlugPlayNotificationEx(_In_ PVOID NotificationEntry);

// Tells who registered for the device, before it returns, or from a system thread.
// NotificationStructure begins as TARGET_DEVICE_REMOVAL_NOTIFICATION. STATUS_INVALID_DEVICE_REQUEST:
// no PDO.
NTSTATUS NTAPI IoReportTargetDeviceChange(_In_ PDEVICE_OBJECT PhysicalDeviceObject,
                                          _In_ PVOID NotificationStructure);
NTSTATUS NTAPI IoReportTargetDeviceChangeAsynchronous(
    _In_ PDEVICE_OBJECT PhysicalDeviceObject, _In_ PVOID NotificationStructure,
    _In_opt_ PDEVICE_CHANGE_COMPLETE_CALLBACK Callback, _In_opt_ PVOID Context);

// -------------------------------------------------------------------------------------------------
// Changes that a driver reports. They are looked at from a system thread. IRQL <= DISPATCH_LEVEL.

// BusRelations: the device's children are asked for again.
VOID NTAPI IoInvalidateDeviceRelations(_In_ PDEVICE_OBJECT DeviceObject,
                                       _In_ DEVICE_RELATION_TYPE Type);
// IRP_MN_QUERY_PNP_DEVICE_STATE is asked again; a device that says PNP_DEVICE_FAILED or
// PNP_DEVICE_REMOVED is removed.
VOID NTAPI IoInvalidateDeviceState(_In_ PDEVICE_OBJECT PhysicalDeviceObject);

typedef enum {
    DevicePropertyDeviceDescription = 0x0,
    DevicePropertyHardwareID = 0x1,
    DevicePropertyCompatibleIDs = 0x2,
    DevicePropertyBootConfiguration = 0x3,
    DevicePropertyBootConfigurationTranslated = 0x4,
    DevicePropertyClassName = 0x5,
    DevicePropertyClassGuid = 0x6,
    DevicePropertyDriverKeyName = 0x7,
    DevicePropertyManufacturer = 0x8,
    DevicePropertyFriendlyName = 0x9,
    DevicePropertyLocationInformation = 0xA,
    DevicePropertyPhysicalDeviceObjectName = 0xB,
    DevicePropertyBusTypeGuid = 0xC,
    DevicePropertyLegacyBusType = 0xD,
    DevicePropertyBusNumber = 0xE,
    DevicePropertyEnumeratorName = 0xF,
    DevicePropertyAddress = 0x10,
    DevicePropertyUINumber = 0x11,
    DevicePropertyInstallState = 0x12,
    DevicePropertyRemovalPolicy = 0x13,
    DevicePropertyResourceRequirements = 0x14,
    DevicePropertyAllocatedResources = 0x15,
    DevicePropertyContainerID = 0x16,
} DEVICE_REGISTRY_PROPERTY;

// What the bus says of a device. STATUS_BUFFER_TOO_SMALL: *ResultLength says how many bytes it takes.
// STATUS_OBJECT_NAME_NOT_FOUND: nobody knows. STATUS_INVALID_DEVICE_REQUEST: no PDO. IRQL =
// PASSIVE_LEVEL.
NTSTATUS NTAPI IoGetDeviceProperty(_In_ PDEVICE_OBJECT DeviceObject,
                                   _In_ DEVICE_REGISTRY_PROPERTY DeviceProperty,
                                   _In_ ULONG BufferLength,
                                   _Out_writes_bytes_opt_(BufferLength) PVOID PropertyBuffer,
                                   _Out_ PULONG ResultLength);

// -------------------------------------------------------------------------------------------------
// Shutdown. The device gets IRP_MJ_SHUTDOWN when the machine is left in order; the last chance comes
// after all others. STATUS_INSUFFICIENT_RESOURCES. IRQL = PASSIVE_LEVEL.

NTSTATUS NTAPI IoRegisterShutdownNotification(_In_ PDEVICE_OBJECT DeviceObject);
NTSTATUS NTAPI IoRegisterLastChanceShutdownNotification(_In_ PDEVICE_OBJECT DeviceObject);
VOID NTAPI IoUnregisterShutdownNotification(_In_ PDEVICE_OBJECT DeviceObject);

// -------------------------------------------------------------------------------------------------
// Error logs: an entry that is written is printed, and freed. IRQL <= DISPATCH_LEVEL.

typedef struct _IO_ERROR_LOG_PACKET {
    UCHAR MajorFunctionCode;
    UCHAR RetryCount;
    USHORT DumpDataSize; // in bytes
    USHORT NumberOfStrings;
    USHORT StringOffset;
    USHORT EventCategory;
    NTSTATUS ErrorCode;
    ULONG UniqueErrorValue;
    NTSTATUS FinalStatus;
    ULONG SequenceNumber;
    ULONG IoControlCode;
    LARGE_INTEGER DeviceOffset;
    ULONG DumpData[1];
} IO_ERROR_LOG_PACKET, *PIO_ERROR_LOG_PACKET;

C_ASSERT(sizeof(IO_ERROR_LOG_PACKET) == 0x30);

#define ERROR_LOG_MAXIMUM_SIZE 240 // bytes of an entry, with what follows it

// IoObject: the device, or the driver. NULL: no pool, or EntrySize too large or too small.
_Must_inspect_result_ _Ret_maybenull_ PVOID NTAPI IoAllocateErrorLogEntry(_In_ PVOID IoObject,
                                                                          _In_ UCHAR EntrySize);
VOID NTAPI IoWriteErrorLogEntry(_In_ PVOID ElEntry);
VOID NTAPI IoFreeErrorLogEntry(_In_ PVOID ElEntry);

// -------------------------------------------------------------------------------------------------
// Odds and ends. Any IRQL where nothing is said.

typedef struct _CONFIGURATION_INFORMATION {
    ULONG DiskCount;
    ULONG FloppyCount;
    ULONG CdRomCount;
    ULONG TapeCount;
    ULONG ScsiPortCount;
    ULONG SerialCount;
    ULONG ParallelCount;
    BOOLEAN AtDiskPrimaryAddressClaimed;
    BOOLEAN AtDiskSecondaryAddressClaimed;
    ULONG Version;
    ULONG MediumChangerCount;
} CONFIGURATION_INFORMATION, *PCONFIGURATION_INFORMATION;

C_ASSERT(sizeof(CONFIGURATION_INFORMATION) == 0x28);

// Counts that the drivers keep.
PCONFIGURATION_INFORMATION NTAPI IoGetConfigurationInformation(VOID);

// What a file system's driver has set for the thread: the IRP by which the thread came to it, or a small
// number that tells who called. NULL: nothing. The I/O manager never looks at it.
struct _IRP *NTAPI IoGetTopLevelIrp(VOID);
VOID NTAPI IoSetTopLevelIrp(_In_opt_ struct _IRP *Irp);

// The stack that the caller runs on.
VOID NTAPI IoGetStackLimits(_Out_ PULONG_PTR LowLimit, _Out_ PULONG_PTR HighLimit);
PVOID NTAPI IoGetInitialStack(VOID);
// 1: the range lies in it; 0: it does not.
ULONG NTAPI IoWithinStackLimits(_In_ ULONG_PTR RegionStart, _In_ SIZE_T RegionSize);

BOOLEAN NTAPI IoIsWdmVersionAvailable(_In_ UCHAR MajorVersion, _In_ UCHAR MinorVersion);

// Nobody but the kernel makes requests here (ours).
BOOLEAN NTAPI IoIs32bitProcess(_In_opt_ PIRP Irp);
PEPROCESS NTAPI IoGetRequestorProcess(_In_ PIRP Irp);

typedef enum _IO_PRIORITY_HINT {
    IoPriorityVeryLow,
    IoPriorityLow,
    IoPriorityNormal,
    IoPriorityHigh,
    IoPriorityCritical,
    MaxIoPriorityTypes,
} IO_PRIORITY_HINT;

IO_PRIORITY_HINT NTAPI IoGetIoPriorityHint(_In_ PIRP Irp);
NTSTATUS NTAPI IoSetIoPriorityHint(_In_ PIRP Irp, _In_ IO_PRIORITY_HINT PriorityHint);

// Whether the file was opened for the access that a control code asks for (FILE_READ_ACCESS, ...).
// STATUS_ACCESS_DENIED. IRQL = PASSIVE_LEVEL.
NTSTATUS NTAPI IoValidateDeviceIoControlAccess(_In_ PIRP Irp, _In_ ULONG RequiredAccess);

// Who shares an open device with whom; the caller serialises. STATUS_SHARING_VIOLATION.
typedef struct _SHARE_ACCESS {
    ULONG OpenCount;
    ULONG Readers;
    ULONG Writers;
    ULONG Deleters;
    ULONG SharedRead;
    ULONG SharedWrite;
    ULONG SharedDelete;
} SHARE_ACCESS, *PSHARE_ACCESS;

C_ASSERT(sizeof(SHARE_ACCESS) == 0x1C);

NTSTATUS NTAPI IoCheckShareAccess(_In_ ACCESS_MASK DesiredAccess, _In_ ULONG DesiredShareAccess,
                                  _Inout_ PFILE_OBJECT FileObject,
                                  _Inout_ PSHARE_ACCESS ShareAccess, _In_ BOOLEAN Update);
VOID NTAPI IoSetShareAccess(_In_ ACCESS_MASK DesiredAccess, _In_ ULONG DesiredShareAccess,
                            _Inout_ PFILE_OBJECT FileObject, _Out_ PSHARE_ACCESS ShareAccess);
VOID NTAPI IoRemoveShareAccess(_In_ PFILE_OBJECT FileObject, _Inout_ PSHARE_ACCESS ShareAccess);
VOID NTAPI IoUpdateShareAccess(_In_ PFILE_OBJECT FileObject, _Inout_ PSHARE_ACCESS ShareAccess);
