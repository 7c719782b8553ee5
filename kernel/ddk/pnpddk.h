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
