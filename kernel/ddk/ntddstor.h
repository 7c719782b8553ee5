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

// Input: STORAGE_PROPERTY_SET. Of the properties, those that are specific to the protocol.
#define IOCTL_STORAGE_SET_PROPERTY                                                                 \
    CTL_CODE(IOCTL_STORAGE_BASE, 0x04FF, METHOD_BUFFERED, FILE_WRITE_ACCESS)

// Input and output: STORAGE_PROTOCOL_COMMAND with the command and its data behind it.
#define IOCTL_STORAGE_PROTOCOL_COMMAND                                                             \
    CTL_CODE(IOCTL_STORAGE_BASE, 0x04F0, METHOD_BUFFERED, FILE_READ_ACCESS | FILE_WRITE_ACCESS)

// Input: DEVICE_MANAGE_DATA_SET_ATTRIBUTES with DEVICE_DATA_SET_RANGEs behind it.
#define IOCTL_STORAGE_MANAGE_DATA_SET_ATTRIBUTES                                                   \
    CTL_CODE(IOCTL_STORAGE_BASE, 0x0501, METHOD_BUFFERED, FILE_WRITE_ACCESS)

// Erases everything on the medium; its block size stays. No buffers.
#define IOCTL_STORAGE_REINITIALIZE_MEDIA                                                           \
    CTL_CODE(IOCTL_STORAGE_BASE, 0x0590, METHOD_BUFFERED, FILE_WRITE_ACCESS)

// Output: STORAGE_HOTPLUG_INFO.
#define IOCTL_STORAGE_GET_HOTPLUG_INFO                                                             \
    CTL_CODE(IOCTL_STORAGE_BASE, 0x0305, METHOD_BUFFERED, FILE_ANY_ACCESS)

// Output: STORAGE_PREDICT_FAILURE.
#define IOCTL_STORAGE_PREDICT_FAILURE                                                              \
    CTL_CODE(IOCTL_STORAGE_BASE, 0x0440, METHOD_BUFFERED, FILE_ANY_ACCESS)

// Input: STORAGE_TEMPERATURE_THRESHOLD.
#define IOCTL_STORAGE_SET_TEMPERATURE_THRESHOLD                                                    \
    CTL_CODE(IOCTL_STORAGE_BASE, 0x0480, METHOD_BUFFERED, FILE_READ_ACCESS | FILE_WRITE_ACCESS)

typedef enum _STORAGE_PROPERTY_ID {
    StorageDeviceProperty = 0,                   // STORAGE_DEVICE_DESCRIPTOR
    StorageAdapterProperty = 1,                  // STORAGE_ADAPTER_DESCRIPTOR
    StorageDeviceWriteCacheProperty = 4,         // STORAGE_WRITE_CACHE_PROPERTY
    StorageAccessAlignmentProperty = 6,          // STORAGE_ACCESS_ALIGNMENT_DESCRIPTOR
    StorageDeviceSeekPenaltyProperty = 7,        // DEVICE_SEEK_PENALTY_DESCRIPTOR
    StorageDeviceTrimProperty = 8,               // DEVICE_TRIM_DESCRIPTOR
    StorageAdapterProtocolSpecificProperty = 49, // STORAGE_PROTOCOL_DATA_DESCRIPTOR; see below
    StorageDeviceProtocolSpecificProperty = 50,
    StorageAdapterTemperatureProperty = 51, // STORAGE_TEMPERATURE_DATA_DESCRIPTOR
    StorageDeviceTemperatureProperty = 52,
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

// Sectors as they are addressed, and as the medium has them.
typedef struct _STORAGE_ACCESS_ALIGNMENT_DESCRIPTOR {
    ULONG Version;
    ULONG Size;
    ULONG BytesPerCacheLine;
    ULONG BytesOffsetForCacheAlignment;
    ULONG BytesPerLogicalSector;
    ULONG BytesPerPhysicalSector;
    ULONG BytesOffsetForSectorAlignment;
} STORAGE_ACCESS_ALIGNMENT_DESCRIPTOR, *PSTORAGE_ACCESS_ALIGNMENT_DESCRIPTOR;

typedef struct _DEVICE_SEEK_PENALTY_DESCRIPTOR {
    ULONG Version;
    ULONG Size;
    BOOLEAN IncursSeekPenalty;
} DEVICE_SEEK_PENALTY_DESCRIPTOR, *PDEVICE_SEEK_PENALTY_DESCRIPTOR;

typedef struct _DEVICE_TRIM_DESCRIPTOR {
    ULONG Version;
    ULONG Size;
    BOOLEAN TrimEnabled;
} DEVICE_TRIM_DESCRIPTOR, *PDEVICE_TRIM_DESCRIPTOR;

typedef enum _WRITE_CACHE_TYPE {
    WriteCacheTypeUnknown,
    WriteCacheTypeNone,
    WriteCacheTypeWriteBack,
    WriteCacheTypeWriteThrough,
} WRITE_CACHE_TYPE;

typedef enum _WRITE_CACHE_ENABLE {
    WriteCacheEnableUnknown,
    WriteCacheDisabled,
    WriteCacheEnabled,
} WRITE_CACHE_ENABLE;

typedef enum _WRITE_CACHE_CHANGE {
    WriteCacheChangeUnknown,
    WriteCacheNotChangeable,
    WriteCacheChangeable,
} WRITE_CACHE_CHANGE;

typedef enum _WRITE_THROUGH {
    WriteThroughUnknown,
    WriteThroughNotSupported,
    WriteThroughSupported,
} WRITE_THROUGH;

typedef struct _STORAGE_WRITE_CACHE_PROPERTY {
    ULONG Version;
    ULONG Size;
    WRITE_CACHE_TYPE WriteCacheType;
    WRITE_CACHE_ENABLE WriteCacheEnabled;
    WRITE_CACHE_CHANGE WriteCacheChangeable;
    WRITE_THROUGH WriteThroughSupported;
    BOOLEAN FlushCacheSupported;
    BOOLEAN UserDefinedPowerProtection;
    BOOLEAN NVCacheEnabled;
} STORAGE_WRITE_CACHE_PROPERTY, *PSTORAGE_WRITE_CACHE_PROPERTY;

typedef struct _STORAGE_HOTPLUG_INFO {
    ULONG Size;
    BOOLEAN MediaRemovable;
    BOOLEAN MediaHotplug;
    BOOLEAN DeviceHotplug;
    BOOLEAN WriteCacheEnableOverride;
} STORAGE_HOTPLUG_INFO, *PSTORAGE_HOTPLUG_INFO;

// VendorSpecific is the protocol's own report: of NVMe, the SMART log page, which is as long.
typedef struct _STORAGE_PREDICT_FAILURE {
    ULONG PredictFailure; // not 0: back up your data
    UCHAR VendorSpecific[512];
} STORAGE_PREDICT_FAILURE, *PSTORAGE_PREDICT_FAILURE;

//
// Blocks that are not needed any more (IOCTL_STORAGE_MANAGE_DATA_SET_ATTRIBUTES).
//

typedef ULONG DEVICE_DATA_MANAGEMENT_SET_ACTION;

#define DeviceDsmAction_None 0
#define DeviceDsmAction_Trim 1

#define DEVICE_DSM_FLAG_ENTIRE_DATA_SET_RANGE 0x00000001 // the whole disk: there are no ranges
#define DEVICE_DSM_FLAG_TRIM_NOT_FS_ALLOCATED 0x80000000 // a file system does not use the blocks

// The offsets count from the beginning of this structure.
typedef struct _DEVICE_MANAGE_DATA_SET_ATTRIBUTES {
    ULONG Size;
    DEVICE_DATA_MANAGEMENT_SET_ACTION Action;
    ULONG Flags;
    ULONG ParameterBlockOffset;
    ULONG ParameterBlockLength;
    ULONG DataSetRangesOffset;
    ULONG DataSetRangesLength;
} DEVICE_MANAGE_DATA_SET_ATTRIBUTES, *PDEVICE_MANAGE_DATA_SET_ATTRIBUTES;

typedef struct _DEVICE_DATA_SET_RANGE {
    LONGLONG StartingOffset;
    ULONGLONG LengthInBytes;
} DEVICE_DATA_SET_RANGE, *PDEVICE_DATA_SET_RANGE;

//
// Temperatures, in degrees Celsius (StorageAdapterTemperatureProperty and
// StorageDeviceTemperatureProperty; IOCTL_STORAGE_SET_TEMPERATURE_THRESHOLD).
//

#define STORAGE_TEMPERATURE_VALUE_NOT_REPORTED 0x8000

typedef struct _STORAGE_TEMPERATURE_INFO {
    USHORT Index; // 0: of the whole device, 1 and more: of one sensor
    SHORT Temperature;
    SHORT OverThreshold;
    SHORT UnderThreshold;
    BOOLEAN OverThresholdChangable;
    BOOLEAN UnderThresholdChangable;
    BOOLEAN EventGenerated;
    UCHAR Reserved0;
    ULONG Reserved1;
} STORAGE_TEMPERATURE_INFO, *PSTORAGE_TEMPERATURE_INFO;

typedef struct _STORAGE_TEMPERATURE_DATA_DESCRIPTOR {
    ULONG Version;
    ULONG Size;
    SHORT CriticalTemperature;
    SHORT WarningTemperature;
    USHORT InfoCount;
    UCHAR Reserved0[2];
    ULONG Reserved1[2];
    STORAGE_TEMPERATURE_INFO TemperatureInfo[1];
} STORAGE_TEMPERATURE_DATA_DESCRIPTOR, *PSTORAGE_TEMPERATURE_DATA_DESCRIPTOR;

#define STORAGE_TEMPERATURE_THRESHOLD_FLAG_ADAPTER_REQUEST 0x0001

typedef struct _STORAGE_TEMPERATURE_THRESHOLD {
    ULONG Version;
    ULONG Size;
    USHORT Flags;
    USHORT Index;
    SHORT Threshold;
    BOOLEAN OverThreshold; // FALSE: it is the lower limit
    UCHAR Reserved;
} STORAGE_TEMPERATURE_THRESHOLD, *PSTORAGE_TEMPERATURE_THRESHOLD;

//
// What is specific to the protocol: Identify data, log pages and features of NVMe.
//

typedef enum _STORAGE_PROTOCOL_TYPE {
    ProtocolTypeUnknown = 0x00,
    ProtocolTypeScsi,
    ProtocolTypeAta,
    ProtocolTypeNvme,
    ProtocolTypeSd,
} STORAGE_PROTOCOL_TYPE;

typedef enum _STORAGE_PROTOCOL_NVME_DATA_TYPE {
    NVMeDataTypeUnknown = 0,
    NVMeDataTypeIdentify, // value: what to identify (CNS); subvalue: namespace id
    NVMeDataTypeLogPage,  // value: page; subvalues 0 and 2: the byte to begin at, low and high;
                          // 3: log specific identifier; 4: the union below
    NVMeDataTypeFeature,  // value: feature; subvalue: dword 11 of the command
} STORAGE_PROTOCOL_NVME_DATA_TYPE;

typedef union _STORAGE_PROTOCOL_DATA_SUBVALUE_GET_LOG_PAGE {
    struct {
        ULONG RetainAsynEvent : 1;
        ULONG LogSpecificField : 4;
        ULONG Reserved : 27;
    };
    ULONG AsUlong;
} STORAGE_PROTOCOL_DATA_SUBVALUE_GET_LOG_PAGE, *PSTORAGE_PROTOCOL_DATA_SUBVALUE_GET_LOG_PAGE;

// AdditionalParameters of a STORAGE_PROPERTY_QUERY. ProtocolDataOffset counts from the beginning of
// this structure, in the query and in the answer, and is at least its size.
typedef struct _STORAGE_PROTOCOL_SPECIFIC_DATA {
    STORAGE_PROTOCOL_TYPE ProtocolType;
    ULONG DataType; // STORAGE_PROTOCOL_NVME_DATA_TYPE
    ULONG ProtocolDataRequestValue;
    ULONG ProtocolDataRequestSubValue;
    ULONG ProtocolDataOffset;
    ULONG ProtocolDataLength;
    ULONG FixedProtocolReturnData; // out: dword 0 of the completion
    ULONG ProtocolDataRequestSubValue2;
    ULONG ProtocolDataRequestSubValue3;
    ULONG ProtocolDataRequestSubValue4;
} STORAGE_PROTOCOL_SPECIFIC_DATA, *PSTORAGE_PROTOCOL_SPECIFIC_DATA;

// The answer.
typedef struct _STORAGE_PROTOCOL_DATA_DESCRIPTOR {
    ULONG Version;
    ULONG Size;
    STORAGE_PROTOCOL_SPECIFIC_DATA ProtocolSpecificData;
} STORAGE_PROTOCOL_DATA_DESCRIPTOR, *PSTORAGE_PROTOCOL_DATA_DESCRIPTOR;

typedef enum _STORAGE_SET_TYPE {
    PropertyStandardSet = 0,
    PropertyExistsSet,
} STORAGE_SET_TYPE;

typedef struct _STORAGE_PROPERTY_SET {
    STORAGE_PROPERTY_ID PropertyId;
    STORAGE_SET_TYPE SetType;
    UCHAR AdditionalParameters[1];
} STORAGE_PROPERTY_SET, *PSTORAGE_PROPERTY_SET;

// AdditionalParameters of a STORAGE_PROPERTY_SET: value: feature; subvalue and subvalues 2 to 5:
// dwords 11 to 15 of the command.
typedef struct _STORAGE_PROTOCOL_SPECIFIC_DATA_EXT {
    STORAGE_PROTOCOL_TYPE ProtocolType;
    ULONG DataType;
    ULONG ProtocolDataValue;
    ULONG ProtocolDataSubValue;
    ULONG ProtocolDataOffset;
    ULONG ProtocolDataLength;
    ULONG FixedProtocolReturnData;
    ULONG ProtocolDataSubValue2;
    ULONG ProtocolDataSubValue3;
    ULONG ProtocolDataSubValue4;
    ULONG ProtocolDataSubValue5;
    ULONG Reserved[5];
} STORAGE_PROTOCOL_SPECIFIC_DATA_EXT, *PSTORAGE_PROTOCOL_SPECIFIC_DATA_EXT;

typedef struct _STORAGE_PROTOCOL_DATA_DESCRIPTOR_EXT {
    ULONG Version;
    ULONG Size;
    STORAGE_PROTOCOL_SPECIFIC_DATA_EXT ProtocolSpecificData;
} STORAGE_PROTOCOL_DATA_DESCRIPTOR_EXT, *PSTORAGE_PROTOCOL_DATA_DESCRIPTOR_EXT;

//
// A command of the protocol (IOCTL_STORAGE_PROTOCOL_COMMAND). Offsets count from the beginning of
// the structure, are multiples of 8, and lie behind the command; 0: there is none of it.
//

#define STORAGE_PROTOCOL_STRUCTURE_VERSION 0x1
#define STORAGE_PROTOCOL_COMMAND_LENGTH_NVME 0x40
#define STORAGE_PROTOCOL_COMMAND_FLAG_ADAPTER_REQUEST 0x80000000 // not for one namespace

// CommandSpecific.
#define STORAGE_PROTOCOL_SPECIFIC_NVME_ADMIN_COMMAND 0x01
#define STORAGE_PROTOCOL_SPECIFIC_NVME_NVM_COMMAND 0x02

// ReturnStatus.
#define STORAGE_PROTOCOL_STATUS_PENDING 0x0
#define STORAGE_PROTOCOL_STATUS_SUCCESS 0x1
#define STORAGE_PROTOCOL_STATUS_ERROR 0x2 // the controller's own words are in ErrorCode
#define STORAGE_PROTOCOL_STATUS_INVALID_REQUEST 0x3
#define STORAGE_PROTOCOL_STATUS_NO_DEVICE 0x4
#define STORAGE_PROTOCOL_STATUS_BUSY 0x5
#define STORAGE_PROTOCOL_STATUS_DATA_OVERRUN 0x6
#define STORAGE_PROTOCOL_STATUS_INSUFFICIENT_RESOURCES 0x7
#define STORAGE_PROTOCOL_STATUS_NOT_SUPPORTED 0xFF

typedef struct _STORAGE_PROTOCOL_COMMAND {
    ULONG Version; // STORAGE_PROTOCOL_STRUCTURE_VERSION
    ULONG Length;  // sizeof(STORAGE_PROTOCOL_COMMAND)
    STORAGE_PROTOCOL_TYPE ProtocolType;
    ULONG Flags;
    ULONG ReturnStatus;  // out
    ULONG ErrorCode;     // out: the status field of the completion, without the phase
    ULONG CommandLength; // STORAGE_PROTOCOL_COMMAND_LENGTH_NVME
    ULONG ErrorInfoLength;
    ULONG DataToDeviceTransferLength; // one of these two at most
    ULONG DataFromDeviceTransferLength;
    ULONG TimeOutValue;    // seconds; 0: the driver's choice
    ULONG ErrorInfoOffset; // out: the newest entry of the error log
    ULONG DataToDeviceBufferOffset;
    ULONG DataFromDeviceBufferOffset;
    ULONG CommandSpecific;
    ULONG Reserved0;
    ULONG FixedProtocolReturnData; // out: dword 0 of the completion
    ULONG Reserved1[3];
    UCHAR Command[1];
} STORAGE_PROTOCOL_COMMAND, *PSTORAGE_PROTOCOL_COMMAND;

C_ASSERT(IOCTL_STORAGE_PROTOCOL_COMMAND == 0x002DD3C0 && IOCTL_STORAGE_SET_PROPERTY == 0x002D93FC);
C_ASSERT(sizeof(STORAGE_WRITE_CACHE_PROPERTY) == 0x1C && sizeof(STORAGE_PREDICT_FAILURE) == 0x204);
C_ASSERT(sizeof(STORAGE_ACCESS_ALIGNMENT_DESCRIPTOR) == 0x1C && sizeof(STORAGE_HOTPLUG_INFO) == 8);
C_ASSERT(sizeof(DEVICE_TRIM_DESCRIPTOR) == 0x0C && sizeof(DEVICE_SEEK_PENALTY_DESCRIPTOR) == 0x0C);
C_ASSERT(sizeof(DEVICE_MANAGE_DATA_SET_ATTRIBUTES) == 0x1C &&
         sizeof(DEVICE_DATA_SET_RANGE) == 0x10);
C_ASSERT(sizeof(STORAGE_TEMPERATURE_INFO) == 0x10 &&
         sizeof(STORAGE_TEMPERATURE_DATA_DESCRIPTOR) == 0x28 &&
         sizeof(STORAGE_TEMPERATURE_THRESHOLD) == 0x10);
C_ASSERT(sizeof(STORAGE_PROTOCOL_SPECIFIC_DATA) == 0x28 &&
         sizeof(STORAGE_PROTOCOL_DATA_DESCRIPTOR) == 0x30);
C_ASSERT(sizeof(STORAGE_PROTOCOL_SPECIFIC_DATA_EXT) == 0x40 &&
         sizeof(STORAGE_PROPERTY_SET) == 0x0C);
C_ASSERT(FIELD_OFFSET(STORAGE_PROTOCOL_COMMAND, Command) == 0x50 &&
         sizeof(STORAGE_PROTOCOL_COMMAND) == 0x54);
C_ASSERT(IOCTL_STORAGE_QUERY_PROPERTY == 0x002D1400);
C_ASSERT(sizeof(STORAGE_PROPERTY_QUERY) == 0x0C && sizeof(STORAGE_DESCRIPTOR_HEADER) == 8);
C_ASSERT(sizeof(STORAGE_DEVICE_DESCRIPTOR) == 0x28 &&
         FIELD_OFFSET(STORAGE_DEVICE_DESCRIPTOR, BusType) == 0x1C);
C_ASSERT(FIELD_OFFSET(STORAGE_DEVICE_DESCRIPTOR, RawDeviceProperties) == 0x24);
C_ASSERT(sizeof(STORAGE_ADAPTER_DESCRIPTOR) == 0x20 &&
         FIELD_OFFSET(STORAGE_ADAPTER_DESCRIPTOR, BusType) == 0x18);
C_ASSERT(FIELD_OFFSET(STORAGE_ADAPTER_DESCRIPTOR, BusMajorVersion) == 0x1A);
