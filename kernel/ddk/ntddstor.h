// Requests to storage devices (IRP_MJ_DEVICE_CONTROL, METHOD_BUFFERED), with NT's codes and
// layouts.
#pragma once

#include <ioddk.h>
#include <ntdddisk.h>
#include <ntdef.h>

#define IOCTL_STORAGE_BASE FILE_DEVICE_MASS_STORAGE

// Input: STORAGE_PROPERTY_QUERY. Output: the descriptor of that property. A shorter output buffer
// gets what fits, at least a STORAGE_DESCRIPTOR_HEADER, whose Size is the length of the whole
// descriptor.
#define IOCTL_STORAGE_QUERY_PROPERTY                                                               \
    CTL_CODE(IOCTL_STORAGE_BASE, 0x0500, METHOD_BUFFERED, FILE_ANY_ACCESS)

typedef enum _STORAGE_PROPERTY_ID {
    StorageDeviceProperty = 0,  // STORAGE_DEVICE_DESCRIPTOR
    StorageAdapterProperty = 1, // STORAGE_ADAPTER_DESCRIPTOR
} STORAGE_PROPERTY_ID;

typedef enum _STORAGE_QUERY_TYPE {
    PropertyStandardQuery = 0,
    PropertyExistsQuery = 1,
} STORAGE_QUERY_TYPE;

typedef struct _STORAGE_PROPERTY_QUERY {
    STORAGE_PROPERTY_ID PropertyId;
    STORAGE_QUERY_TYPE QueryType;
    UCHAR AdditionalParameters[1];
} STORAGE_PROPERTY_QUERY, *PSTORAGE_PROPERTY_QUERY;

typedef struct _STORAGE_DESCRIPTOR_HEADER {
    ULONG Version; // sizeof the structure
    ULONG Size;    // with the strings behind it
} STORAGE_DESCRIPTOR_HEADER, *PSTORAGE_DESCRIPTOR_HEADER;

typedef enum _STORAGE_BUS_TYPE {
    BusTypeUnknown = 0x00,
    BusTypeNvme = 0x11,
} STORAGE_BUS_TYPE;

// The offsets count from the beginning of the descriptor to zero-terminated ASCII; 0: there is no
// such string.
typedef struct _STORAGE_DEVICE_DESCRIPTOR {
    ULONG Version;
    ULONG Size;
    UCHAR DeviceType; // SCSI peripheral type: 0 is a disk
    UCHAR DeviceTypeModifier;
    BOOLEAN RemovableMedia;
    BOOLEAN CommandQueueing;
    ULONG VendorIdOffset;
    ULONG ProductIdOffset;
    ULONG ProductRevisionOffset;
    ULONG SerialNumberOffset;
    STORAGE_BUS_TYPE BusType;
    ULONG RawPropertiesLength;
    UCHAR RawDeviceProperties[1];
} STORAGE_DEVICE_DESCRIPTOR, *PSTORAGE_DEVICE_DESCRIPTOR;

typedef struct _STORAGE_ADAPTER_DESCRIPTOR {
    ULONG Version;
    ULONG Size;
    ULONG MaximumTransferLength; // bytes in one request
    ULONG MaximumPhysicalPages;  // pages that one request may touch
    ULONG AlignmentMask;         // of the buffer's address
    BOOLEAN AdapterUsesPio;
    BOOLEAN AdapterScansDown;
    BOOLEAN CommandQueueing;
    BOOLEAN AcceleratedTransfer;
    UCHAR BusType; // STORAGE_BUS_TYPE
    USHORT BusMajorVersion;
    USHORT BusMinorVersion;
    UCHAR SrbType;
    UCHAR AddressType;
} STORAGE_ADAPTER_DESCRIPTOR, *PSTORAGE_ADAPTER_DESCRIPTOR;

C_ASSERT(IOCTL_STORAGE_QUERY_PROPERTY == 0x002D1400);
C_ASSERT(sizeof(STORAGE_PROPERTY_QUERY) == 0x0C && sizeof(STORAGE_DESCRIPTOR_HEADER) == 8);
C_ASSERT(sizeof(STORAGE_DEVICE_DESCRIPTOR) == 0x28 &&
         FIELD_OFFSET(STORAGE_DEVICE_DESCRIPTOR, BusType) == 0x1C);
C_ASSERT(FIELD_OFFSET(STORAGE_DEVICE_DESCRIPTOR, RawDeviceProperties) == 0x24);
C_ASSERT(sizeof(STORAGE_ADAPTER_DESCRIPTOR) == 0x20 &&
         FIELD_OFFSET(STORAGE_ADAPTER_DESCRIPTOR, BusType) == 0x18);
C_ASSERT(FIELD_OFFSET(STORAGE_ADAPTER_DESCRIPTOR, BusMajorVersion) == 0x1A);
