// The interface by which a bus driver resets one of its devices (IRP_MN_QUERY_INTERFACE,
// GUID_DEVICE_RESET_INTERFACE_STANDARD), as Windows 10 has it. It comes referenced: call
// InterfaceDereference when done. A header of its own, because mingw-w64 knows nothing of it; the
// GUID is for whoever includes <initguid.h> or <wdmguid.h> before, once per program.
#pragma once

#include <wdm.h>

DEFINE_GUID(GUID_DEVICE_RESET_INTERFACE_STANDARD, 0x649FDF26, 0x3BC0, 0x4813, 0xAD, 0x24, 0x7E,
            0x0C, 0x1E, 0xDA, 0x3F, 0xA3);

typedef enum _DEVICE_RESET_TYPE {
    FunctionLevelDeviceReset,
    PlatformLevelDeviceReset,
} DEVICE_RESET_TYPE;

// PASSIVE_LEVEL. FunctionLevelDeviceReset: on success the device has forgotten everything and moves
// no data; its registers lie where they lay, it may master the bus, and its messages are as they were.
// Flags: 0. ResetParameters: NULL.
// STATUS_NOT_SUPPORTED         a reset of another type, or the device cannot
// STATUS_DEVICE_NOT_CONNECTED  there is no device any more, or it does not come back within a second
typedef NTSTATUS(NTAPI DEVICE_RESET_HANDLER)(_In_ PVOID InterfaceContext,
                                             _In_ DEVICE_RESET_TYPE ResetType, _In_ ULONG Flags,
                                             _In_opt_ PVOID ResetParameters);
typedef DEVICE_RESET_HANDLER *PDEVICE_RESET_HANDLER;

typedef struct _DEVICE_RESET_INTERFACE_STANDARD {
    USHORT Size;
    USHORT Version;
    PVOID Context;
    PINTERFACE_REFERENCE InterfaceReference;
    PINTERFACE_DEREFERENCE InterfaceDereference;
    PDEVICE_RESET_HANDLER DeviceReset;
    ULONG SupportedResetTypes; // bit n: DEVICE_RESET_TYPE n
    PVOID Reserved;
} DEVICE_RESET_INTERFACE_STANDARD, *PDEVICE_RESET_INTERFACE_STANDARD;

C_ASSERT(FIELD_OFFSET(DEVICE_RESET_INTERFACE_STANDARD, DeviceReset) == 0x20);
C_ASSERT(sizeof(DEVICE_RESET_INTERFACE_STANDARD) == 0x38);

#define DEVICE_RESET_INTERFACE_VERSION_1 1
