// Control requests to NVMe disks in the real kernel: what is NVMe's own, and what changes a disk.
// They run on the first disk that may be written to, and leave what they wrote. What the host must
// do meanwhile, the scenarios have it do (tests/qemu/scenarios/control.py).
#include "drivers/nvme/nvmespec.h"
#include "kernel/inc/io.h"
#include "kernel/inc/rtl.h"
#include "tests/kernel/disks.h"
#include "tests/kernel/tests.h"

#include <ntddnvme.h>
#include <ntddstor.h>

#define PATTERN_BYTES (64 * 1024u)
#define WAIT_MILLISECONDS 10000
#define WAIT_INTERVAL 10

static NTSTATUS Control(const KT_DISK *Disk, ULONG Code, const VOID *Input, ULONG InputBytes,
                        PVOID Output, ULONG OutputBytes)
{
    ULONG_PTR Information;
    const NTSTATUS Status = IoControlSynchronously(Disk->Device, Code, Input, InputBytes, Output,
                                                   OutputBytes, &Information);
    KT_CHECK(!NT_SUCCESS(Status) || Information <= OutputBytes);
    return Status;
}

// The disk of a test, and a buffer of two halves of PATTERN_BYTES.
typedef struct _WORKPLACE {
    KT_DISK Disk;
    KT_BUFFER Buffer;
    PUCHAR Second;
} WORKPLACE;

// FALSE: the test is skipped, or failed.
static BOOLEAN OpenWorkplace(WORKPLACE *Place)
{
    if (!KtOpenScratchDisk(&Place->Disk)) {
        KtSkip("no disk that may be written to");
        return FALSE;
    }
    if (!KT_CHECK(KtAllocateBuffer(&Place->Buffer, 2 * PATTERN_BYTES))) {
        return FALSE;
    }
    Place->Second = Place->Buffer.Va + PATTERN_BYTES;
    return TRUE;
}

static VOID CloseWorkplace(WORKPLACE *Place)
{
    KtFreeBuffer(&Place->Buffer);
}

static BOOLEAN IsFilled(const UCHAR *Bytes, ULONG ByteCount, UCHAR Fill)
{
    for (ULONG Index = 0; Index < ByteCount; Index += 1) {
        if (Bytes[Index] != Fill) {
            return FALSE;
        }
    }
    return TRUE;
}

static VOID WritePattern(WORKPLACE *Place, ULONG64 Offset, UCHAR Fill)
{
    RtlFillMemory(Place->Buffer.Va, PATTERN_BYTES, Fill);
    KT_EQUAL(KtTransferDisk(&Place->Disk, IRP_MJ_WRITE, Place->Buffer.Va, Offset, PATTERN_BYTES),
             STATUS_SUCCESS);
}

static VOID ReadSecond(WORKPLACE *Place, ULONG64 Offset)
{
    RtlFillMemory(Place->Second, PATTERN_BYTES, 0xEE);
    KT_EQUAL(KtTransferDisk(&Place->Disk, IRP_MJ_READ, Place->Second, Offset, PATTERN_BYTES),
             STATUS_SUCCESS);
}

// ------------------------------------------------------------------------------------------------
// Properties.

typedef struct _PROTOCOL_QUERY {
    STORAGE_PROPERTY_ID PropertyId;
    STORAGE_QUERY_TYPE QueryType;
    STORAGE_PROTOCOL_SPECIFIC_DATA Specific;
    UCHAR Data[PAGE_SIZE];
} PROTOCOL_QUERY;

static PROTOCOL_QUERY Query;

// Data of Query get ByteCount bytes.
static NTSTATUS QueryProtocol(const KT_DISK *Disk, ULONG DataType, ULONG Value, ULONG SubValue,
                              ULONG ByteCount)
{
    RtlZeroMemory(&Query, sizeof(Query));
    Query.PropertyId = StorageAdapterProtocolSpecificProperty;
    Query.Specific = (STORAGE_PROTOCOL_SPECIFIC_DATA){
        .ProtocolType = ProtocolTypeNvme,
        .DataType = DataType,
        .ProtocolDataRequestValue = Value,
        .ProtocolDataRequestSubValue = SubValue,
        .ProtocolDataOffset = ByteCount != 0 ? sizeof(STORAGE_PROTOCOL_SPECIFIC_DATA) : 0,
        .ProtocolDataLength = ByteCount};
    return Control(Disk, IOCTL_STORAGE_QUERY_PROPERTY, &Query, sizeof(Query), &Query,
                   sizeof(Query));
}

static const NVME_IDENTIFY_CONTROLLER_DATA *Identify(const KT_DISK *Disk)
{
    KT_EQUAL(QueryProtocol(Disk, NVMeDataTypeIdentify, NVME_IDENTIFY_CONTROLLER, 0, PAGE_SIZE),
             STATUS_SUCCESS);
    return (const NVME_IDENTIFY_CONTROLLER_DATA *)Query.Data;
}

static VOID IdentifyDataAreProperties(VOID)
{
    WORKPLACE Place;
    if (!OpenWorkplace(&Place)) {
        return;
    }
    const NVME_IDENTIFY_CONTROLLER_DATA *Data = Identify(&Place.Disk);
    KT_EQUAL(Data->VendorId, 0x1B36);
    KT_CHECK(RtlEqualMemory(Data->SerialNumber, "SCRATCH", 7));
    KT_EQUAL(Query.Specific.ProtocolDataLength, PAGE_SIZE);

    KT_EQUAL(QueryProtocol(&Place.Disk, NVMeDataTypeIdentify, NVME_IDENTIFY_NAMESPACE, 0,
                           sizeof(NVME_IDENTIFY_NAMESPACE_DATA)),
             STATUS_SUCCESS);
    const NVME_IDENTIFY_NAMESPACE_DATA *Namespace = (const PVOID)Query.Data;
    const NVME_BLOCK_FORMAT Format =
        Namespace->Formats[Namespace->CurrentFormat & NVME_CURRENT_FORMAT_MASK];
    KT_EQUAL(1u << Format.BlockShift, Place.Disk.BlockBytes);
    KT_EQUAL(Namespace->BlockCount << Format.BlockShift, Place.Disk.ByteCount);
    CloseWorkplace(&Place);
}

static VOID LogPagesAreProperties(VOID)
{
    STORAGE_PREDICT_FAILURE Failure;
    WORKPLACE Place;
    if (!OpenWorkplace(&Place)) {
        return;
    }
    ReadSecond(&Place, 0);
    KT_EQUAL(
        QueryProtocol(&Place.Disk, NVMeDataTypeLogPage, NVME_LOG_SMART, 0, sizeof(NVME_SMART_LOG)),
        STATUS_SUCCESS);
    const NVME_SMART_LOG *Smart = (const PVOID)Query.Data;
    const ULONG Kelvin = Smart->Temperature[0] | (ULONG)Smart->Temperature[1] << 8;
    KT_CHECK(Kelvin > 273 && Kelvin < 373);
    KT_CHECK(Smart->ReadCommands[0] != 0);

    KT_EQUAL(
        Control(&Place.Disk, IOCTL_STORAGE_PREDICT_FAILURE, NULL, 0, &Failure, sizeof(Failure)),
        STATUS_SUCCESS);
    KT_EQUAL(Failure.PredictFailure, 0);
    Smart = (const PVOID)Failure.VendorSpecific;
    KT_EQUAL(Smart->Temperature[0] | (ULONG)Smart->Temperature[1] << 8, Kelvin);

    KT_EQUAL(QueryProtocol(&Place.Disk, NVMeDataTypeLogPage, NVME_LOG_COMMAND_EFFECTS, 0,
                           sizeof(NVME_COMMAND_EFFECTS_LOG)),
             STATUS_SUCCESS);
    const NVME_COMMAND_EFFECTS_LOG *Effects = (const PVOID)Query.Data;
    KT_CHECK((Effects->Nvm[NVME_NVM_READ] & NVME_EFFECT_SUPPORTED) != 0);
    KT_CHECK((Effects->Admin[NVME_ADMIN_IDENTIFY] & NVME_EFFECT_SUPPORTED) != 0);
    CloseWorkplace(&Place);
}

// With DataBytes of data.
static NTSTATUS SetFeature(const KT_DISK *Disk, ULONG Feature, ULONG Value, ULONG64 Data,
                           ULONG DataBytes)
{
    struct {
        STORAGE_PROPERTY_ID PropertyId;
        STORAGE_SET_TYPE SetType;
        STORAGE_PROTOCOL_SPECIFIC_DATA_EXT Specific;
        ULONG64 Data;
    } Set = {.PropertyId = StorageAdapterProtocolSpecificProperty,
             .SetType = PropertyStandardSet,
             .Specific = {.ProtocolType = ProtocolTypeNvme,
                          .DataType = NVMeDataTypeFeature,
                          .ProtocolDataValue = Feature,
                          .ProtocolDataSubValue = Value,
                          .ProtocolDataOffset = sizeof(Set.Specific),
                          .ProtocolDataLength = DataBytes},
             .Data = Data};
    return Control(Disk, IOCTL_STORAGE_SET_PROPERTY, &Set, sizeof(Set), NULL, 0);
}

static ULONG GetFeature(const KT_DISK *Disk, ULONG Feature, ULONG SubValue)
{
    KT_EQUAL(QueryProtocol(Disk, NVMeDataTypeFeature, Feature, SubValue, 0), STATUS_SUCCESS);
    return Query.Specific.FixedProtocolReturnData;
}

#define TIMESTAMP 0x123456789Aull // milliseconds
#define TIMESTAMP_MASK 0xFFFFFFFFFFFFull

static VOID FeaturesAreProperties(VOID)
{
    static const ULONG Own[] = {NVME_FEATURE_QUEUE_COUNT, NVME_FEATURE_ASYNC_EVENTS,
                                NVME_FEATURE_INTERRUPT_VECTOR, NVME_FEATURE_HOST_MEMORY};
    const ULONG Threshold = NVME_THRESHOLD(0, 0, FALSE);
    WORKPLACE Place;
    if (!OpenWorkplace(&Place)) {
        return;
    }
    const KT_DISK *Disk = &Place.Disk;
    const ULONG Before = GetFeature(Disk, NVME_FEATURE_TEMPERATURE_THRESHOLD, Threshold);
    KT_EQUAL(SetFeature(Disk, NVME_FEATURE_TEMPERATURE_THRESHOLD, 400, 0, 0), STATUS_SUCCESS);
    KT_EQUAL(GetFeature(Disk, NVME_FEATURE_TEMPERATURE_THRESHOLD, Threshold), 400);
    KT_EQUAL(SetFeature(Disk, NVME_FEATURE_TEMPERATURE_THRESHOLD, Before, 0, 0), STATUS_SUCCESS);
    // One that has data.
    KT_EQUAL(SetFeature(Disk, NVME_FEATURE_TIMESTAMP, 0, TIMESTAMP, 8), STATUS_SUCCESS);
    KT_EQUAL(QueryProtocol(Disk, NVMeDataTypeFeature, NVME_FEATURE_TIMESTAMP, 0, 8),
             STATUS_SUCCESS);
    KT_CHECK(((*(const ULONG64 *)Query.Data & TIMESTAMP_MASK) - TIMESTAMP) < 60 * 1000);
    // What the controller refuses.
    KT_EQUAL(SetFeature(Disk, 0x55, 0, 0, 0), STATUS_INVALID_PARAMETER);
    for (ULONG Index = 0; Index < ARRAYSIZE(Own); Index += 1) {
        KtSetContext("feature 0x%02x", Own[Index]);
        KT_EQUAL(SetFeature(Disk, Own[Index], 0, 0, 0), STATUS_ACCESS_DENIED);
    }
    CloseWorkplace(&Place);
}

// What is wrong with a query, and what comes of it.
static VOID ProtocolQueriesAreChecked(VOID)
{
    WORKPLACE Place;
    if (!OpenWorkplace(&Place)) {
        return;
    }
    const KT_DISK *Disk = &Place.Disk;
    KT_EQUAL(QueryProtocol(Disk, 9, 0, 0, 16), STATUS_INVALID_PARAMETER);
    KT_EQUAL(QueryProtocol(Disk, NVMeDataTypeLogPage, NVME_LOG_SMART, 0, 6),
             STATUS_INVALID_PARAMETER);
    KT_EQUAL(QueryProtocol(Disk, NVMeDataTypeLogPage, NVME_LOG_SMART, 0, PAGE_SIZE + 4),
             STATUS_BUFFER_TOO_SMALL);
    KT_EQUAL(QueryProtocol(Disk, NVMeDataTypeIdentify, 0x100, 0, 16), STATUS_INVALID_PARAMETER);
    Query.Specific.ProtocolType = ProtocolTypeScsi;
    KT_EQUAL(
        Control(Disk, IOCTL_STORAGE_QUERY_PROPERTY, &Query, sizeof(Query), &Query, sizeof(Query)),
        STATUS_NOT_SUPPORTED);
    Query.Specific.ProtocolType = ProtocolTypeNvme;
    Query.Specific.ProtocolDataOffset = 4; // inside of the query itself
    KT_EQUAL(
        Control(Disk, IOCTL_STORAGE_QUERY_PROPERTY, &Query, sizeof(Query), &Query, sizeof(Query)),
        STATUS_INVALID_PARAMETER);
    KT_EQUAL(Control(Disk, IOCTL_STORAGE_QUERY_PROPERTY, &Query, 12, &Query, sizeof(Query)),
             STATUS_INVALID_PARAMETER);
    CloseWorkplace(&Place);
}

static VOID DisksTellWhatTheyAreGoodFor(VOID)
{
    static const STORAGE_PROPERTY_ID Ids[] = {
        StorageDeviceWriteCacheProperty, StorageAccessAlignmentProperty,
        StorageDeviceSeekPenaltyProperty, StorageDeviceTrimProperty,
        StorageDeviceTemperatureProperty};
    union {
        STORAGE_DESCRIPTOR_HEADER Header;
        STORAGE_WRITE_CACHE_PROPERTY Cache;
        STORAGE_ACCESS_ALIGNMENT_DESCRIPTOR Alignment;
        DEVICE_SEEK_PENALTY_DESCRIPTOR SeekPenalty;
        DEVICE_TRIM_DESCRIPTOR Trim;
        STORAGE_TEMPERATURE_DATA_DESCRIPTOR Temperature;
    } Answers[ARRAYSIZE(Ids)];
    STORAGE_HOTPLUG_INFO Hotplug;
    WORKPLACE Place;
    if (!OpenWorkplace(&Place)) {
        return;
    }
    RtlZeroMemory(Answers, sizeof(Answers));
    for (ULONG Index = 0; Index < ARRAYSIZE(Ids); Index += 1) {
        const STORAGE_PROPERTY_QUERY Standard = {.PropertyId = Ids[Index]};
        KtSetContext("property %u", Ids[Index]);
        KT_EQUAL(Control(&Place.Disk, IOCTL_STORAGE_QUERY_PROPERTY, &Standard, sizeof(Standard),
                         &Answers[Index], sizeof(Answers[Index])),
                 STATUS_SUCCESS);
        KT_EQUAL(Answers[Index].Header.Version, Answers[Index].Header.Size);
    }
    KtSetContext("");
    KT_EQUAL(Answers[0].Cache.FlushCacheSupported, TRUE);
    KT_EQUAL(Answers[1].Alignment.BytesPerLogicalSector, Place.Disk.BlockBytes);
    KT_CHECK(Answers[1].Alignment.BytesPerPhysicalSector >= Place.Disk.BlockBytes);
    KT_EQUAL(Answers[2].SeekPenalty.IncursSeekPenalty, FALSE);
    KT_EQUAL(Answers[3].Trim.TrimEnabled, TRUE);
    KT_EQUAL(Answers[4].Temperature.InfoCount, 1);
    KT_CHECK(Answers[4].Temperature.TemperatureInfo[0].Temperature > 0);
    KT_EQUAL(
        Control(&Place.Disk, IOCTL_STORAGE_GET_HOTPLUG_INFO, NULL, 0, &Hotplug, sizeof(Hotplug)),
        STATUS_SUCCESS);
    KT_EQUAL(Hotplug.Size, sizeof(Hotplug));
    CloseWorkplace(&Place);
}

// ------------------------------------------------------------------------------------------------
// Commands of the caller's.

typedef struct _PASSED {
    union {
        STORAGE_PROTOCOL_COMMAND Request;
        UCHAR Head[FIELD_OFFSET(STORAGE_PROTOCOL_COMMAND, Command) + sizeof(NVME_COMMAND)];
    };
    NVME_ERROR_LOG_ENTRY Error;
    UCHAR Data[2 * PAGE_SIZE];
} PASSED;

static PASSED Passed;

static PNVME_COMMAND PassedCommand(VOID)
{
    return (PNVME_COMMAND)Passed.Request.Command;
}

// A request without data.
static VOID PreparePassed(ULONG Kind, UCHAR Opcode)
{
    RtlZeroMemory(&Passed.Request, sizeof(Passed.Head) + sizeof(Passed.Error));
    Passed.Request.Version = STORAGE_PROTOCOL_STRUCTURE_VERSION;
    Passed.Request.Length = sizeof(STORAGE_PROTOCOL_COMMAND);
    Passed.Request.ProtocolType = ProtocolTypeNvme;
    Passed.Request.CommandLength = STORAGE_PROTOCOL_COMMAND_LENGTH_NVME;
    Passed.Request.CommandSpecific = Kind;
    Passed.Request.ErrorInfoLength = sizeof(Passed.Error);
    Passed.Request.ErrorInfoOffset = FIELD_OFFSET(PASSED, Error);
    if (Kind == STORAGE_PROTOCOL_SPECIFIC_NVME_ADMIN_COMMAND) {
        Passed.Request.Flags = STORAGE_PROTOCOL_COMMAND_FLAG_ADAPTER_REQUEST;
    }
    PassedCommand()->Opcode = Opcode;
}

static VOID PassFrom(ULONG ByteCount)
{
    Passed.Request.DataFromDeviceTransferLength = ByteCount;
    Passed.Request.DataFromDeviceBufferOffset = FIELD_OFFSET(PASSED, Data);
}

static VOID PassTo(ULONG ByteCount)
{
    Passed.Request.DataToDeviceTransferLength = ByteCount;
    Passed.Request.DataToDeviceBufferOffset = FIELD_OFFSET(PASSED, Data);
}

static NTSTATUS Pass(const KT_DISK *Disk)
{
    return Control(Disk, IOCTL_STORAGE_PROTOCOL_COMMAND, &Passed, sizeof(Passed), &Passed,
                   sizeof(Passed));
}

#define ADMIN STORAGE_PROTOCOL_SPECIFIC_NVME_ADMIN_COMMAND
#define NVM STORAGE_PROTOCOL_SPECIFIC_NVME_NVM_COMMAND

static VOID AdminCommandsPass(VOID)
{
    WORKPLACE Place;
    if (!OpenWorkplace(&Place)) {
        return;
    }
    PreparePassed(ADMIN, NVME_ADMIN_IDENTIFY);
    PassedCommand()->Cdw10 = NVME_IDENTIFY_CONTROLLER;
    PassFrom(PAGE_SIZE);
    KT_EQUAL(Pass(&Place.Disk), STATUS_SUCCESS);
    KT_EQUAL(Passed.Request.ReturnStatus, STORAGE_PROTOCOL_STATUS_SUCCESS);
    KT_CHECK(RtlEqualMemory(Passed.Data + 4, "SCRATCH", 7));

    PreparePassed(ADMIN, NVME_ADMIN_GET_FEATURES);
    PassedCommand()->Cdw10 = NVME_FEATURE_QUEUE_COUNT;
    KT_EQUAL(Pass(&Place.Disk), STATUS_SUCCESS);
    KT_CHECK(Passed.Request.FixedProtocolReturnData != 0);

    // Two pages, and the end of the first one.
    PreparePassed(ADMIN, NVME_ADMIN_GET_LOG_PAGE);
    PassedCommand()->NamespaceId = NVME_ALL_NAMESPACES;
    PassedCommand()->Cdw10 = NVME_LOG_CDW10(NVME_LOG_COMMAND_EFFECTS, PAGE_SIZE / 4);
    PassFrom(PAGE_SIZE);
    KT_EQUAL(Pass(&Place.Disk), STATUS_SUCCESS);
    KT_EQUAL(Passed.Request.ReturnStatus, STORAGE_PROTOCOL_STATUS_SUCCESS);
    CloseWorkplace(&Place);
}

static VOID RefusedCommandsAreReported(VOID)
{
    WORKPLACE Place;
    if (!OpenWorkplace(&Place)) {
        return;
    }
    PreparePassed(ADMIN, NVME_ADMIN_GET_LOG_PAGE);
    PassedCommand()->NamespaceId = NVME_ALL_NAMESPACES;
    PassedCommand()->Cdw10 = NVME_LOG_CDW10(0xBF, 16); // no such page
    PassFrom(64);
    KT_EQUAL(Pass(&Place.Disk), STATUS_SUCCESS);
    KT_EQUAL(Passed.Request.ReturnStatus, STORAGE_PROTOCOL_STATUS_ERROR);
    // Invalid log page, or invalid field: QEMU says the latter. Do not retry.
    KT_CHECK((Passed.Request.ErrorCode & 0x7FF) == 0x109 ||
             (Passed.Request.ErrorCode & 0x7FF) == 0x002);
    KT_CHECK((Passed.Request.ErrorCode & NVME_STATUS_DO_NOT_RETRY >> 1) != 0);
    CloseWorkplace(&Place);
}

static VOID NvmCommandsPass(VOID)
{
    WORKPLACE Place;
    if (!OpenWorkplace(&Place)) {
        return;
    }
    const ULONG BlockBytes = Place.Disk.BlockBytes;
    const ULONG BlockCount = PAGE_SIZE / BlockBytes;
    for (ULONG Index = 0; Index < PAGE_SIZE; Index += 1) {
        Passed.Data[Index] = (UCHAR)(Index * 7 + 3);
    }
    PreparePassed(NVM, NVME_NVM_WRITE);
    PassedCommand()->Cdw10 = 16;
    PassedCommand()->Cdw12 = BlockCount - 1;
    PassTo(PAGE_SIZE);
    KT_EQUAL(Pass(&Place.Disk), STATUS_SUCCESS);
    KT_EQUAL(Passed.Request.ReturnStatus, STORAGE_PROTOCOL_STATUS_SUCCESS);
    ReadSecond(&Place, 16 * BlockBytes);
    KT_CHECK(RtlEqualMemory(Place.Second, Passed.Data, PAGE_SIZE));

    PreparePassed(NVM, NVME_NVM_COMPARE);
    PassedCommand()->Cdw10 = 16;
    PassedCommand()->Cdw12 = BlockCount - 1;
    PassTo(PAGE_SIZE);
    KT_EQUAL(Pass(&Place.Disk), STATUS_SUCCESS);
    KT_EQUAL(Passed.Request.ReturnStatus, STORAGE_PROTOCOL_STATUS_SUCCESS);
    Passed.Data[5] += 1;
    KT_EQUAL(Pass(&Place.Disk), STATUS_SUCCESS);
    KT_EQUAL(Passed.Request.ReturnStatus, STORAGE_PROTOCOL_STATUS_ERROR);
    KT_EQUAL(Passed.Request.ErrorCode & 0x7FF, 0x285); // compare failure
    Passed.Data[5] -= 1;

    RtlCopyMemory(Place.Buffer.Va, Passed.Data, PAGE_SIZE);
    PreparePassed(NVM, NVME_NVM_READ);
    PassedCommand()->Cdw10 = 16;
    PassedCommand()->Cdw12 = BlockCount - 1;
    PassFrom(PAGE_SIZE);
    RtlZeroMemory(Passed.Data, sizeof(Passed.Data));
    KT_EQUAL(Pass(&Place.Disk), STATUS_SUCCESS);
    KT_CHECK(RtlEqualMemory(Passed.Data, Place.Buffer.Va, PAGE_SIZE));
    KT_CHECK(IsFilled(Passed.Data + PAGE_SIZE, PAGE_SIZE, 0));
    CloseWorkplace(&Place);
}

static VOID HarmfulCommandsAreRefused(VOID)
{
    static const UCHAR Opcodes[] = {NVME_ADMIN_DELETE_SUBMISSION_QUEUE,
                                    NVME_ADMIN_CREATE_SUBMISSION_QUEUE,
                                    NVME_ADMIN_DELETE_COMPLETION_QUEUE,
                                    NVME_ADMIN_CREATE_COMPLETION_QUEUE,
                                    NVME_ADMIN_ABORT,
                                    NVME_ADMIN_ASYNC_EVENT,
                                    NVME_ADMIN_DOORBELL_BUFFER,
                                    NVME_ADMIN_FORMAT,
                                    NVME_ADMIN_SANITIZE,
                                    NVME_ADMIN_KEEP_ALIVE,
                                    NVME_ADMIN_VIRTUALIZATION,
                                    0x7F};
    WORKPLACE Place;
    if (!OpenWorkplace(&Place)) {
        return;
    }
    for (ULONG Index = 0; Index < ARRAYSIZE(Opcodes); Index += 1) {
        KtSetContext("opcode 0x%02x", Opcodes[Index]);
        PreparePassed(ADMIN, Opcodes[Index]);
        KT_EQUAL(Pass(&Place.Disk), STATUS_ACCESS_DENIED);
    }
    KtSetContext("");
    PreparePassed(ADMIN, NVME_ADMIN_SET_FEATURES);
    PassedCommand()->Cdw10 = NVME_FEATURE_QUEUE_COUNT;
    KT_EQUAL(Pass(&Place.Disk), STATUS_ACCESS_DENIED);
    PreparePassed(ADMIN, NVME_ADMIN_IDENTIFY);
    PassedCommand()->Flags = NVME_COMMAND_USES_SGL;
    KT_EQUAL(Pass(&Place.Disk), STATUS_ACCESS_DENIED);
    // Not offered: the controller is not asked.
    PreparePassed(NVM, NVME_NVM_VERIFY);
    KT_EQUAL(Pass(&Place.Disk), STATUS_NOT_SUPPORTED);
    PreparePassed(ADMIN, NVME_ADMIN_SECURITY_SEND);
    KT_EQUAL(Pass(&Place.Disk), STATUS_NOT_SUPPORTED);
    CloseWorkplace(&Place);
}

// One field of a good request is made wrong at a time.
static VOID PassedCommandsAreChecked(VOID)
{
    static const struct {
        ULONG Offset;
        ULONG Value;
        NTSTATUS Status;
    } Rows[] = {
        {FIELD_OFFSET(STORAGE_PROTOCOL_COMMAND, Version), 2, STATUS_INVALID_PARAMETER},
        {FIELD_OFFSET(STORAGE_PROTOCOL_COMMAND, Length), 8, STATUS_INVALID_PARAMETER},
        {FIELD_OFFSET(STORAGE_PROTOCOL_COMMAND, ProtocolType), 2, STATUS_INVALID_PARAMETER},
        {FIELD_OFFSET(STORAGE_PROTOCOL_COMMAND, CommandLength), 16, STATUS_INVALID_PARAMETER},
        {FIELD_OFFSET(STORAGE_PROTOCOL_COMMAND, CommandSpecific), 3, STATUS_INVALID_PARAMETER},
        {FIELD_OFFSET(STORAGE_PROTOCOL_COMMAND, DataFromDeviceBufferOffset), 8,
         STATUS_INVALID_PARAMETER},
        {FIELD_OFFSET(STORAGE_PROTOCOL_COMMAND, DataFromDeviceBufferOffset), 0xFFFFFFF8,
         STATUS_INVALID_PARAMETER},
        {FIELD_OFFSET(STORAGE_PROTOCOL_COMMAND, DataFromDeviceBufferOffset),
         FIELD_OFFSET(PASSED, Data) + 4, STATUS_INVALID_PARAMETER},
        {FIELD_OFFSET(STORAGE_PROTOCOL_COMMAND, DataFromDeviceTransferLength), 0xFFFFFFFF,
         STATUS_INVALID_PARAMETER},
        // More or less than the command moves.
        {FIELD_OFFSET(STORAGE_PROTOCOL_COMMAND, DataFromDeviceTransferLength), 512,
         STATUS_INVALID_PARAMETER},
        {FIELD_OFFSET(STORAGE_PROTOCOL_COMMAND, DataFromDeviceTransferLength), 2 * PAGE_SIZE,
         STATUS_INVALID_PARAMETER},
        {FIELD_OFFSET(STORAGE_PROTOCOL_COMMAND, DataToDeviceTransferLength), 8,
         STATUS_INVALID_PARAMETER},
        {FIELD_OFFSET(STORAGE_PROTOCOL_COMMAND, ErrorInfoOffset), 4, STATUS_INVALID_PARAMETER},
        {FIELD_OFFSET(STORAGE_PROTOCOL_COMMAND, Command) + FIELD_OFFSET(NVME_COMMAND, NamespaceId),
         0x1234, STATUS_INVALID_PARAMETER},
        // Beyond the end of the disk.
        {FIELD_OFFSET(STORAGE_PROTOCOL_COMMAND, Command) + FIELD_OFFSET(NVME_COMMAND, Cdw11),
         0x1000, STATUS_NONEXISTENT_SECTOR},
    };
    WORKPLACE Place;
    if (!OpenWorkplace(&Place)) {
        return;
    }
    for (ULONG Index = 0; Index < ARRAYSIZE(Rows); Index += 1) {
        KtSetContext("row %u", Index);
        PreparePassed(NVM, NVME_NVM_READ);
        PassedCommand()->Cdw12 = PAGE_SIZE / Place.Disk.BlockBytes - 1;
        PassFrom(PAGE_SIZE);
        *(PULONG)((PUCHAR)&Passed + Rows[Index].Offset) = Rows[Index].Value;
        KT_EQUAL(Pass(&Place.Disk), Rows[Index].Status);
    }
    KtSetContext("");
    PreparePassed(NVM, NVME_NVM_READ);
    KT_EQUAL(
        Control(&Place.Disk, IOCTL_STORAGE_PROTOCOL_COMMAND, &Passed, 64, &Passed, sizeof(Passed)),
        STATUS_INVALID_PARAMETER);
    CloseWorkplace(&Place);
}

// ------------------------------------------------------------------------------------------------
// Blocks.

static VOID ZeroesAreWritten(VOID)
{
    static const ULONG Flags[] = {0, NVME_ZEROES_FORCE_UNIT_ACCESS, NVME_ZEROES_DEALLOCATE};
    WORKPLACE Place;
    if (!OpenWorkplace(&Place)) {
        return;
    }
    for (ULONG Index = 0; Index < ARRAYSIZE(Flags); Index += 1) {
        const ULONG64 Middle = Place.Disk.BlockBytes;
        const NVME_WRITE_ZEROES Request = {
            .ByteOffset = Middle, .ByteCount = PATTERN_BYTES - 2 * Middle, .Flags = Flags[Index]};
        KtSetContext("flags 0x%x", Flags[Index]);
        WritePattern(&Place, 0, 0x5A);
        KT_EQUAL(Control(&Place.Disk, IOCTL_NVME_WRITE_ZEROES, &Request, sizeof(Request), NULL, 0),
                 STATUS_SUCCESS);
        ReadSecond(&Place, 0);
        KT_CHECK(IsFilled(Place.Second, (ULONG)Middle, 0x5A));
        KT_CHECK(IsFilled(Place.Second + Middle, PATTERN_BYTES - 2 * (ULONG)Middle, 0));
        KT_CHECK(IsFilled(Place.Second + PATTERN_BYTES - Middle, (ULONG)Middle, 0x5A));
    }
    // More blocks than one command has.
    const NVME_WRITE_ZEROES Whole = {.ByteCount = Place.Disk.ByteCount};
    KT_EQUAL(Control(&Place.Disk, IOCTL_NVME_WRITE_ZEROES, &Whole, sizeof(Whole), NULL, 0),
             STATUS_SUCCESS);
    ReadSecond(&Place, Place.Disk.ByteCount - PATTERN_BYTES);
    KT_CHECK(IsFilled(Place.Second, PATTERN_BYTES, 0));
    CloseWorkplace(&Place);
}

static NTSTATUS Compare(const KT_DISK *Disk, PVOID Va, ULONG64 Offset, ULONG ByteCount)
{
    NVME_COMPARE Request = {.ByteOffset = Offset};
    IO_STATUS_BLOCK Result;
    KEVENT Done;
    KeInitializeEvent(&Done, NotificationEvent, FALSE);
    const PIRP Irp =
        IoBuildDeviceIoControlRequest(IOCTL_NVME_COMPARE, Disk->Device, &Request, sizeof(Request),
                                      Va, ByteCount, FALSE, &Done, &Result);
    if (!KT_CHECK(Irp != NULL)) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    if (IoCallDriver(Disk->Device, Irp) == STATUS_PENDING) {
        KeWaitForSingleObject(&Done, Executive, KernelMode, FALSE, NULL);
    }
    return Result.Status;
}

static VOID TheControllerCompares(VOID)
{
    WORKPLACE Place;
    if (!OpenWorkplace(&Place)) {
        return;
    }
    const ULONG BlockBytes = Place.Disk.BlockBytes;
    WritePattern(&Place, BlockBytes, 0xA5);
    KT_EQUAL(Compare(&Place.Disk, Place.Buffer.Va, BlockBytes, PATTERN_BYTES), STATUS_SUCCESS);
    Place.Buffer.Va[PATTERN_BYTES - 1] += 1;
    KT_EQUAL(Compare(&Place.Disk, Place.Buffer.Va, BlockBytes, PATTERN_BYTES), STATUS_DATA_ERROR);
    KT_EQUAL(Compare(&Place.Disk, Place.Buffer.Va, BlockBytes, PATTERN_BYTES - BlockBytes),
             STATUS_SUCCESS);
    KT_EQUAL(Compare(&Place.Disk, Place.Buffer.Va, BlockBytes, BlockBytes - 4),
             STATUS_INVALID_PARAMETER);
    KT_EQUAL(Compare(&Place.Disk, Place.Buffer.Va, Place.Disk.ByteCount, BlockBytes),
             STATUS_NONEXISTENT_SECTOR);
    CloseWorkplace(&Place);
}

typedef struct _TRIM_REQUEST {
    DEVICE_MANAGE_DATA_SET_ATTRIBUTES Set;
    ULONG Padding;
    DEVICE_DATA_SET_RANGE Ranges[600]; // more than two commands have
} TRIM_REQUEST;

static TRIM_REQUEST Trim;

static NTSTATUS SendTrim(const KT_DISK *Disk, ULONG Flags, ULONG RangeCount)
{
    Trim.Set = (DEVICE_MANAGE_DATA_SET_ATTRIBUTES){
        .Size = sizeof(Trim.Set),
        .Action = DeviceDsmAction_Trim,
        .Flags = Flags,
        .DataSetRangesOffset = RangeCount != 0 ? FIELD_OFFSET(TRIM_REQUEST, Ranges) : 0,
        .DataSetRangesLength = RangeCount * (ULONG)sizeof(Trim.Ranges[0])};
    return Control(Disk, IOCTL_STORAGE_MANAGE_DATA_SET_ATTRIBUTES, &Trim, sizeof(Trim), NULL, 0);
}

// The disk's file gives deallocated blocks back, and they read as zero.
static VOID TrimmedBlocksAreGivenBack(VOID)
{
    WORKPLACE Place;
    if (!OpenWorkplace(&Place)) {
        return;
    }
    const ULONG64 BlockBytes = Place.Disk.BlockBytes;
    const BOOLEAN ReadsZero = KtHasOption("unmap");
    WritePattern(&Place, 0, 0x77);
    // Every second page but the first.
    for (ULONG Index = 0; Index < 7; Index += 1) {
        Trim.Ranges[Index] = (DEVICE_DATA_SET_RANGE){
            .StartingOffset = (LONGLONG)(2 * Index + 1) * PAGE_SIZE, .LengthInBytes = PAGE_SIZE};
    }
    KT_EQUAL(SendTrim(&Place.Disk, 0, 7), STATUS_SUCCESS);
    ReadSecond(&Place, 0);
    for (ULONG Index = 0; Index < 7; Index += 1) {
        KT_CHECK(IsFilled(Place.Second + 2 * Index * PAGE_SIZE, PAGE_SIZE, 0x77));
        KT_CHECK(!ReadsZero || IsFilled(Place.Second + (2 * Index + 1) * PAGE_SIZE, PAGE_SIZE, 0));
    }
    for (ULONG Index = 0; Index < ARRAYSIZE(Trim.Ranges); Index += 1) {
        Trim.Ranges[Index] = (DEVICE_DATA_SET_RANGE){
            .StartingOffset = (LONGLONG)(Index * 2 * BlockBytes), .LengthInBytes = BlockBytes};
    }
    KT_EQUAL(SendTrim(&Place.Disk, 0, ARRAYSIZE(Trim.Ranges)), STATUS_SUCCESS);
    KT_EQUAL(SendTrim(&Place.Disk, DEVICE_DSM_FLAG_ENTIRE_DATA_SET_RANGE, 0), STATUS_SUCCESS);
    ReadSecond(&Place, 0);
    KT_CHECK(!ReadsZero || IsFilled(Place.Second, PATTERN_BYTES, 0));
    CloseWorkplace(&Place);
}

static VOID WrongRangesAreRefused(VOID)
{
    WORKPLACE Place;
    if (!OpenWorkplace(&Place)) {
        return;
    }
    const KT_DISK *Disk = &Place.Disk;
    const ULONG64 BlockBytes = Disk->BlockBytes;
    const struct {
        ULONG64 Offset;
        ULONG64 ByteCount;
        NTSTATUS Status;
    } Rows[] = {
        {0, 0, STATUS_INVALID_PARAMETER},
        {1, BlockBytes, STATUS_INVALID_PARAMETER},
        {0, BlockBytes + 1, STATUS_INVALID_PARAMETER},
        {Disk->ByteCount, BlockBytes, STATUS_NONEXISTENT_SECTOR},
        {BlockBytes, Disk->ByteCount, STATUS_NONEXISTENT_SECTOR},
        {0 - BlockBytes, 2 * BlockBytes, STATUS_NONEXISTENT_SECTOR},
    };
    for (ULONG Index = 0; Index < ARRAYSIZE(Rows); Index += 1) {
        const NVME_WRITE_ZEROES Zeroes = {Rows[Index].Offset, Rows[Index].ByteCount, 0, 0};
        KtSetContext("row %u", Index);
        KT_EQUAL(Control(Disk, IOCTL_NVME_WRITE_ZEROES, &Zeroes, sizeof(Zeroes), NULL, 0),
                 Rows[Index].Status);
        // The first range is good, and must not be given away.
        WritePattern(&Place, 0, 0x33);
        Trim.Ranges[0] = (DEVICE_DATA_SET_RANGE){0, PAGE_SIZE};
        Trim.Ranges[1] =
            (DEVICE_DATA_SET_RANGE){(LONGLONG)Rows[Index].Offset, Rows[Index].ByteCount};
        KT_EQUAL(SendTrim(Disk, 0, 2), Rows[Index].Status);
        ReadSecond(&Place, 0);
        KT_CHECK(IsFilled(Place.Second, PAGE_SIZE, 0x33));
    }
    KtSetContext("");
    const NVME_WRITE_ZEROES Strange = {0, BlockBytes, 0x80, 0};
    KT_EQUAL(Control(Disk, IOCTL_NVME_WRITE_ZEROES, &Strange, sizeof(Strange), NULL, 0),
             STATUS_INVALID_PARAMETER);
    Trim.Set.Action = DeviceDsmAction_None;
    KT_EQUAL(Control(Disk, IOCTL_STORAGE_MANAGE_DATA_SET_ATTRIBUTES, &Trim, sizeof(Trim), NULL, 0),
             STATUS_NOT_SUPPORTED);
    Trim.Set.Action = DeviceDsmAction_Trim;
    Trim.Set.DataSetRangesOffset = sizeof(Trim);
    KT_EQUAL(Control(Disk, IOCTL_STORAGE_MANAGE_DATA_SET_ATTRIBUTES, &Trim, sizeof(Trim), NULL, 0),
             STATUS_INVALID_PARAMETER);
    // QEMU's controller can, but does not say so.
    const VERIFY_INFORMATION Verify = {.Length = (ULONG)BlockBytes};
    KT_EQUAL(Control(Disk, IOCTL_DISK_VERIFY, &Verify, sizeof(Verify), NULL, 0),
             STATUS_NOT_SUPPORTED);
    CloseWorkplace(&Place);
}

static VOID CheckWriteCache(const KT_DISK *Disk, BOOLEAN IsOn)
{
    const STORAGE_PROPERTY_QUERY Standard = {.PropertyId = StorageDeviceWriteCacheProperty};
    DISK_CACHE_INFORMATION Cache = {.WriteCacheEnabled = IsOn};
    STORAGE_WRITE_CACHE_PROPERTY Property = {0};
    KtSetContext("write cache %u", IsOn);
    KT_EQUAL(Control(Disk, IOCTL_DISK_SET_CACHE_INFORMATION, &Cache, sizeof(Cache), NULL, 0),
             STATUS_SUCCESS);
    RtlZeroMemory(&Cache, sizeof(Cache));
    KT_EQUAL(Control(Disk, IOCTL_DISK_GET_CACHE_INFORMATION, NULL, 0, &Cache, sizeof(Cache)),
             STATUS_SUCCESS);
    KT_EQUAL(Cache.WriteCacheEnabled, IsOn);
    KT_EQUAL(Control(Disk, IOCTL_STORAGE_QUERY_PROPERTY, &Standard, sizeof(Standard), &Property,
                     sizeof(Property)),
             STATUS_SUCCESS);
    KT_EQUAL(Property.WriteCacheEnabled, IsOn ? WriteCacheEnabled : WriteCacheDisabled);
    KT_EQUAL(Property.WriteCacheType, WriteCacheTypeWriteBack);
    KT_EQUAL(GetFeature(Disk, NVME_FEATURE_WRITE_CACHE, 0) & 1, IsOn);
}

static VOID TheWriteCacheCanBeSwitched(VOID)
{
    WORKPLACE Place;
    if (!OpenWorkplace(&Place)) {
        return;
    }
    CheckWriteCache(&Place.Disk, FALSE);
    WritePattern(&Place, 0, 0x11);
    KT_EQUAL(KtFlushDisk(&Place.Disk), STATUS_SUCCESS);
    CheckWriteCache(&Place.Disk, TRUE);
    CloseWorkplace(&Place);
}

// ------------------------------------------------------------------------------------------------
// Formats.

static NTSTATUS Format(const KT_DISK *Disk, ULONG BlockBytes)
{
    const NVME_FORMAT Request = {.BlockBytes = BlockBytes, .Erase = NvmeEraseNothing};
    return Control(Disk, IOCTL_NVME_FORMAT, &Request, sizeof(Request), NULL, 0);
}

// The disk as it says that it is now.
static ULONG ReopenDisk(WORKPLACE *Place)
{
    KT_CHECK(KtOpenScratchDisk(&Place->Disk));
    return Place->Disk.BlockBytes;
}

// Reads while the disk is formatted: each read succeeds or is refused, and none hangs.
typedef struct _READER {
    KT_DISK Disk;
    PUCHAR Va;
    volatile BOOLEAN IsEnding;
    ULONG RefusedCount;
    ULONG OtherCount;
} READER;

static VOID NTAPI ReadUntilTheEnd(PVOID Context)
{
    READER *Reader = Context;
    while (!Reader->IsEnding) {
        const NTSTATUS Status =
            KtTransferDisk(&Reader->Disk, IRP_MJ_READ, Reader->Va, 0, PAGE_SIZE);
        if (Status == STATUS_DEVICE_BUSY) {
            Reader->RefusedCount += 1;
        } else if (Status != STATUS_SUCCESS) {
            Reader->OtherCount += 1;
        }
    }
}

static VOID AFormatChangesTheBlocks(VOID)
{
    static READER Reader;
    WORKPLACE Place;
    if (!KtAskHost("mark") || !OpenWorkplace(&Place)) {
        return;
    }
    const ULONG64 ByteCount = Place.Disk.ByteCount;
    const ULONG Before = Place.Disk.BlockBytes;
    const ULONG Other = Before == 512 ? 4096 : 512;
    Reader = (READER){.Disk = Place.Disk, .Va = Place.Second};
    const PKTHREAD Thread = KtStartThread(ReadUntilTheEnd, &Reader, 0);
    KtSleep(20);
    KT_EQUAL(Format(&Place.Disk, 777), STATUS_NOT_SUPPORTED);
    KT_EQUAL(Format(&Place.Disk, Other), STATUS_SUCCESS);
    KT_EQUAL(ReopenDisk(&Place), Other);
    KT_CHECK(Place.Disk.ByteCount <= ByteCount && Place.Disk.ByteCount + 4096 > ByteCount);
    Reader.IsEnding = TRUE;
    KtJoin(Thread);
    KT_EQUAL(Reader.OtherCount, 0);

    WritePattern(&Place, 4096, 0x99);
    ReadSecond(&Place, 4096);
    KT_CHECK(IsFilled(Place.Second, PATTERN_BYTES, 0x99));
    KT_EQUAL(KtTransferDisk(&Place.Disk, IRP_MJ_READ, Place.Second, 512, 512),
             Other == 512 ? STATUS_SUCCESS : STATUS_INVALID_PARAMETER);
    KT_EQUAL(Format(&Place.Disk, Before), STATUS_SUCCESS);
    KT_EQUAL(ReopenDisk(&Place), Before);
    KT_EQUAL(Place.Disk.ByteCount, ByteCount);
    CloseWorkplace(&Place);
}

static VOID AMediumIsMadeAnew(VOID)
{
    WORKPLACE Place;
    if (!OpenWorkplace(&Place)) {
        return;
    }
    const ULONG Before = Place.Disk.BlockBytes;
    WritePattern(&Place, 0, 0x42);
    KT_EQUAL(Control(&Place.Disk, IOCTL_STORAGE_REINITIALIZE_MEDIA, NULL, 0, NULL, 0),
             STATUS_SUCCESS);
    KT_EQUAL(ReopenDisk(&Place), Before);
    ReadSecond(&Place, 0);
    KT_CHECK(IsFilled(Place.Second, PATTERN_BYTES, 0));
    CloseWorkplace(&Place);
}

// ------------------------------------------------------------------------------------------------
// Counters.

static union {
    NVME_COUNTERS Counters;
    UCHAR Bytes[sizeof(NVME_COUNTERS) + 64 * sizeof(NVME_QUEUE_REPORT)];
} Counted;

static const NVME_COUNTERS *Count(const KT_DISK *Disk)
{
    KT_EQUAL(Control(Disk, IOCTL_NVME_QUERY_COUNTERS, NULL, 0, &Counted, sizeof(Counted)),
             STATUS_SUCCESS);
    KT_EQUAL(Counted.Counters.Version, NVME_COUNTERS_VERSION);
    KT_EQUAL(Counted.Counters.ReturnedQueueCount, Counted.Counters.QueueCount);
    return &Counted.Counters;
}

// Of all queues but the admin queue.
static ULONG64 CountIoCommands(const KT_DISK *Disk)
{
    const NVME_COUNTERS *Counters = Count(Disk);
    ULONG64 Sum = 0;
    for (ULONG Index = 0; Index < Counters->ReturnedQueueCount; Index += 1) {
        Sum += Counters->Queues[Index].Id != 0 ? Counters->Queues[Index].Counters.Commands : 0;
        KT_EQUAL(Counters->Queues[Index].Counters.UnknownCompletions, 0);
    }
    return Sum;
}

#define COUNTED_READS 50

static VOID CountersCount(VOID)
{
    NVME_COUNTERS Head;
    WORKPLACE Place;
    if (!OpenWorkplace(&Place)) {
        return;
    }
    const ULONG64 Before = CountIoCommands(&Place.Disk);
    for (ULONG Index = 0; Index < COUNTED_READS; Index += 1) {
        ReadSecond(&Place, 0);
    }
    KT_EQUAL(CountIoCommands(&Place.Disk) - Before, COUNTED_READS);
    KT_EQUAL(Counted.Counters.Queues[0].Id, 0);
    KT_CHECK(Counted.Counters.QueueCount >= 2);
    // As much as fits.
    KT_EQUAL(Control(&Place.Disk, IOCTL_NVME_QUERY_COUNTERS, NULL, 0, &Head, sizeof(Head)),
             STATUS_SUCCESS);
    KT_EQUAL(Head.ReturnedQueueCount, 1);
    KT_EQUAL(Control(&Place.Disk, IOCTL_NVME_QUERY_COUNTERS, NULL, 0, &Head, 16),
             STATUS_BUFFER_TOO_SMALL);
    KT_EQUAL(Control(&Place.Disk, IOCTL_NVME_PRINT_COUNTERS, NULL, 0, NULL, 0), STATUS_SUCCESS);
    CloseWorkplace(&Place);
}

// Where the controller has memory, submission queues are in it.
static VOID QueuesLieInTheController(VOID)
{
    WORKPLACE Place;
    if (!OpenWorkplace(&Place)) {
        return;
    }
    const NVME_COUNTERS *Counters = Count(&Place.Disk);
    if (Counters->CmbByteCount == 0) {
        CloseWorkplace(&Place);
        KT_SKIP("the controller has no memory");
    }
    KT_CHECK(Counters->CmbUsedByteCount != 0);
    for (ULONG Index = 0; Index < Counters->ReturnedQueueCount; Index += 1) {
        KT_EQUAL(Counters->Queues[Index].IsInController, Counters->Queues[Index].Id != 0);
    }
    WritePattern(&Place, 0, 0xC3);
    ReadSecond(&Place, 0);
    KT_CHECK(IsFilled(Place.Second, PATTERN_BYTES, 0xC3));
    CloseWorkplace(&Place);
}

// The driver, loaded anew, with that value of its parameter UseCmb.
static NTSTATUS ReloadDriver(ULONG UseCmb)
{
    NTSTATUS Status = RtlWriteRegistryValue(RTL_REGISTRY_SERVICES, u"nvme\\Parameters", u"UseCmb",
                                            REG_DWORD, &UseCmb, sizeof(UseCmb));
    if (NT_SUCCESS(Status)) {
        Status = IoUnloadDriver("nvme");
    }
    return NT_SUCCESS(Status) ? IoLoadDriver("nvme") : Status;
}

static VOID MemoryOfTheControllerIsNotUsedIfNotWanted(VOID)
{
    WORKPLACE Place;
    if (!OpenWorkplace(&Place)) {
        return;
    }
    if (Count(&Place.Disk)->CmbByteCount == 0) {
        CloseWorkplace(&Place);
        KT_SKIP("the controller has no memory");
    }
    KT_EQUAL(ReloadDriver(0), STATUS_SUCCESS);
    if (KT_CHECK(KtOpenScratchDisk(&Place.Disk))) {
        const NVME_COUNTERS *Counters = Count(&Place.Disk);
        KT_EQUAL(Counters->CmbByteCount, 0);
        for (ULONG Index = 0; Index < Counters->ReturnedQueueCount; Index += 1) {
            KT_EQUAL(Counters->Queues[Index].IsInController, FALSE);
        }
        WritePattern(&Place, 0, 0x3C);
        ReadSecond(&Place, 0);
        KT_CHECK(IsFilled(Place.Second, PATTERN_BYTES, 0x3C));
    }
    KT_EQUAL(ReloadDriver(1), STATUS_SUCCESS);
    KT_CHECK(KtOpenScratchDisk(&Place.Disk) && Count(&Place.Disk)->CmbByteCount != 0);
    CloseWorkplace(&Place);
    KtKeepWhatIsHeld(); // the registry's new value
}

// ------------------------------------------------------------------------------------------------
// Many at a time, and little memory.

#define ASKING_THREADS 24 // more than the driver has pages for
#define ASKED_TIMES 20

typedef struct _ASKER {
    KT_DISK Disk;
    ULONG FailedCount;
    PROTOCOL_QUERY Query;
} ASKER;

static VOID NTAPI AskAgainAndAgain(PVOID Context)
{
    ASKER *Asker = Context;
    for (ULONG Index = 0; Index < ASKED_TIMES; Index += 1) {
        ULONG_PTR Information;
        RtlZeroMemory(&Asker->Query, sizeof(Asker->Query));
        Asker->Query.PropertyId = StorageAdapterProtocolSpecificProperty;
        Asker->Query.Specific = (STORAGE_PROTOCOL_SPECIFIC_DATA){
            .ProtocolType = ProtocolTypeNvme,
            .DataType = NVMeDataTypeIdentify,
            .ProtocolDataRequestValue = NVME_IDENTIFY_CONTROLLER,
            .ProtocolDataOffset = sizeof(STORAGE_PROTOCOL_SPECIFIC_DATA),
            .ProtocolDataLength = PAGE_SIZE};
        const NTSTATUS Status = IoControlSynchronously(
            Asker->Disk.Device, IOCTL_STORAGE_QUERY_PROPERTY, &Asker->Query, sizeof(Asker->Query),
            &Asker->Query, sizeof(Asker->Query), &Information);
        if (Status != STATUS_SUCCESS || !RtlEqualMemory(Asker->Query.Data + 4, "SCRATCH", 7)) {
            Asker->FailedCount += 1;
        }
    }
}

static VOID ManyAskAtATime(VOID)
{
    PKTHREAD Threads[ASKING_THREADS];
    WORKPLACE Place;
    if (!OpenWorkplace(&Place)) {
        return;
    }
    ASKER *const Askers =
        ExAllocatePool2(POOL_FLAG_NON_PAGED, ASKING_THREADS * sizeof(ASKER), KT_TAG);
    if (KT_CHECK(Askers != NULL)) {
        for (ULONG Index = 0; Index < ASKING_THREADS; Index += 1) {
            Askers[Index].Disk = Place.Disk;
            Threads[Index] = KtStartThread(AskAgainAndAgain, &Askers[Index], 0);
        }
        for (ULONG Index = 0; Index < ASKING_THREADS; Index += 1) {
            KtSetContext("thread %u", Index);
            KtJoin(Threads[Index]);
            KT_EQUAL(Askers[Index].FailedCount, 0);
        }
        ExFreePoolWithTag(Askers, KT_TAG);
    }
    KT_EQUAL(Count(&Place.Disk)->LostAdminPages, 0);
    CloseWorkplace(&Place);
}

static NTSTATUS TrimAPage(const KT_DISK *Disk)
{
    Trim.Ranges[0] = (DEVICE_DATA_SET_RANGE){0, PAGE_SIZE};
    return SendTrim(Disk, 0, 1);
}

static NTSTATUS ReadByPassing(const KT_DISK *Disk)
{
    PreparePassed(NVM, NVME_NVM_READ);
    PassedCommand()->Cdw12 = PAGE_SIZE / Disk->BlockBytes - 1;
    PassFrom(PAGE_SIZE);
    return Pass(Disk);
}

static NTSTATUS PrintCounters(const KT_DISK *Disk)
{
    return Control(Disk, IOCTL_NVME_PRINT_COUNTERS, NULL, 0, NULL, 0);
}

// Each allocation of each request fails once; nothing is left behind, and it works after that.
static VOID LittleMemoryIsNoHarm(VOID)
{
    static NTSTATUS (*const Requests[])(const KT_DISK *Disk) = {TrimAPage, ReadByPassing,
                                                                PrintCounters};
    WORKPLACE Place;
    if (!OpenWorkplace(&Place)) {
        return;
    }
    for (ULONG Row = 0; Row < ARRAYSIZE(Requests); Row += 1) {
        BOOLEAN HasFailed = TRUE;
        NTSTATUS Status = STATUS_UNSUCCESSFUL;
        ULONG Skip = 0;
        for (; HasFailed && Skip < 50; Skip += 1) {
            KtSetContext("request %u, allocation %u", Row, Skip);
            MmStartFailures(MM_FAIL_ALL, Skip, 1);
            Status = Requests[Row](&Place.Disk);
            HasFailed = MmStopFailures() != 0;
            KT_CHECK(Status == STATUS_SUCCESS || Status == STATUS_INSUFFICIENT_RESOURCES);
        }
        KT_EQUAL(Status, STATUS_SUCCESS);
        KT_CHECK(Skip > 1);
    }
    CloseWorkplace(&Place);
}

// ------------------------------------------------------------------------------------------------
// Persistent memory.

#define PMR_BYTES 0x400000 // as tests/qemu/scenarios/control.py has it
#define PMR_WORD(Way, Offset) ((ULONG64)(Way) << 56 | (Offset))
#define PMR_CHUNK 12360 // of a request; no whole pages

static NTSTATUS TransferPmr(PDEVICE_OBJECT Device, UCHAR MajorFunction, PVOID Va, ULONG64 Offset,
                            ULONG ByteCount)
{
    const KT_DISK AsDisk = {.Device = Device};
    return KtTransferDisk(&AsDisk, MajorFunction, Va, Offset, ByteCount);
}

// The first half by requests.
static VOID WriteHalfByRequests(PDEVICE_OBJECT Device, PUCHAR Va)
{
    for (ULONG64 Offset = 0; Offset < PMR_BYTES / 2; Offset += PMR_CHUNK) {
        const ULONG64 Left = PMR_BYTES / 2 - Offset;
        const ULONG ByteCount = Left < PMR_CHUNK ? (ULONG)Left : PMR_CHUNK;
        for (ULONG Place = 0; Place < ByteCount; Place += sizeof(ULONG64)) {
            *(PULONG64)(Va + Place) = PMR_WORD(1, Offset + Place);
        }
        KT_EQUAL(TransferPmr(Device, IRP_MJ_WRITE, Va, Offset, ByteCount), STATUS_SUCCESS);
    }
}

// The second half through pages that the driver describes.
static VOID WriteHalfByMapping(PDEVICE_OBJECT Device)
{
    const KT_DISK AsDisk = {.Device = Device};
    const NVME_PMR_RANGE Range = {.ByteOffset = PMR_BYTES / 2, .ByteCount = PMR_BYTES / 2};
    NVME_PMR_PAGES Pages = {0};
    KT_EQUAL(
        Control(&AsDisk, IOCTL_NVME_DESCRIBE_PMR, &Range, sizeof(Range), &Pages, sizeof(Pages)),
        STATUS_SUCCESS);
    KT_REQUIRE(Pages.Mdl != NULL);
    volatile ULONG64 *const Words =
        MmMapLockedPagesSpecifyCache(Pages.Mdl, KernelMode, MmWriteCombined, NULL, FALSE,
                                     (MM_PAGE_PRIORITY)(NormalPagePriority | MdlMappingNoExecute));
    if (KT_CHECK(Words != NULL)) {
        for (ULONG64 Place = 0; Place < PMR_BYTES / 2; Place += sizeof(ULONG64)) {
            Words[Place / sizeof(ULONG64)] = PMR_WORD(2, PMR_BYTES / 2 + Place);
        }
        MmUnmapLockedPages((PVOID)Words, Pages.Mdl);
    }
    IoFreeMdl(Pages.Mdl);
}

static VOID CheckPmr(PDEVICE_OBJECT Device, PUCHAR Va)
{
    ULONG WrongCount = 0;
    for (ULONG64 Offset = 0; Offset < PMR_BYTES; Offset += PATTERN_BYTES) {
        KT_EQUAL(TransferPmr(Device, IRP_MJ_READ, Va, Offset, PATTERN_BYTES), STATUS_SUCCESS);
        for (ULONG Place = 0; Place < PATTERN_BYTES; Place += sizeof(ULONG64)) {
            const ULONG Way = Offset < PMR_BYTES / 2 ? 1 : 2;
            WrongCount += *(PULONG64)(Va + Place) != PMR_WORD(Way, Offset + Place) ? 1 : 0;
        }
    }
    KT_EQUAL(WrongCount, 0);
}

static VOID PersistentMemoryIsWritten(VOID)
{
    const PDEVICE_OBJECT Device = IoFindDevice(FILE_DEVICE_NVME_PMR, 0);
    const KT_DISK AsDisk = {.Device = Device};
    NVME_PMR_INFORMATION Information = {0};
    KT_BUFFER Buffer;
    if (Device == NULL) {
        KT_SKIP("no persistent memory");
    }
    KT_REQUIRE(KtAllocateBuffer(&Buffer, PATTERN_BYTES));
    KT_EQUAL(Control(&AsDisk, IOCTL_NVME_QUERY_PMR, NULL, 0, &Information, sizeof(Information)),
             STATUS_SUCCESS);
    KT_EQUAL(Information.ByteCount, PMR_BYTES);
    KT_EQUAL(Information.State, NvmePmrStateNormal);
    KT_EQUAL(Information.Error, 0);
    KT_EQUAL(Information.IsReady, TRUE);
    WriteHalfByRequests(Device, Buffer.Va);
    WriteHalfByMapping(Device);
    KT_EQUAL(KtFlushDisk(&AsDisk), STATUS_SUCCESS);
    CheckPmr(Device, Buffer.Va);
    // The edges.
    KT_EQUAL(TransferPmr(Device, IRP_MJ_READ, Buffer.Va, PMR_BYTES - 1, 1), STATUS_SUCCESS);
    KT_EQUAL(TransferPmr(Device, IRP_MJ_READ, Buffer.Va, PMR_BYTES - 1, 2),
             STATUS_NONEXISTENT_SECTOR);
    KT_EQUAL(TransferPmr(Device, IRP_MJ_WRITE, Buffer.Va, 0ull - 8, 16), STATUS_NONEXISTENT_SECTOR);
    const NVME_PMR_RANGE Odd = {.ByteOffset = 8, .ByteCount = PAGE_SIZE};
    NVME_PMR_PAGES Pages;
    KT_EQUAL(Control(&AsDisk, IOCTL_NVME_DESCRIBE_PMR, &Odd, sizeof(Odd), &Pages, sizeof(Pages)),
             STATUS_INVALID_PARAMETER);
    KtFreeBuffer(&Buffer);
}

static VOID TheHostFindsPersistentMemory(VOID)
{
    (VOID) KtAskHost("mark"); // what was written is in the file, which it reads at the end
}

// ------------------------------------------------------------------------------------------------
// Events: what the controller has to say unasked. They come by and by.

// Whether the counter at this offset of NVME_EVENT_COUNTERS becomes more than Before.
static BOOLEAN WaitForEvent(const KT_DISK *Disk, ULONG Offset, ULONG64 Before)
{
    for (ULONG Waited = 0; Waited < WAIT_MILLISECONDS; Waited += WAIT_INTERVAL) {
        const NVME_EVENT_COUNTERS *Events = &Count(Disk)->Events;
        if (*(const ULONG64 *)((const UCHAR *)Events + Offset) > Before) {
            return TRUE;
        }
        KtSleep(WAIT_INTERVAL);
    }
    return FALSE;
}

#define EVENT(Name) FIELD_OFFSET(NVME_EVENT_COUNTERS, Name)

static VOID WarningsAreHeard(VOID)
{
    STORAGE_PREDICT_FAILURE Failure;
    WORKPLACE Place;
    if (!KtAskHost("mark") || !OpenWorkplace(&Place)) {
        return;
    }
    for (ULONG Round = 0; Round < 3; Round += 1) {
        const ULONG64 Before = Count(&Place.Disk)->Events.HealthWarnings;
        // The same again would be no news.
        KT_CHECK(KtAskHost("hmp qom-set /machine/peripheral/nv0 smart_critical_warning 0"));
        KT_CHECK(KtAskHost("hmp qom-set /machine/peripheral/nv0 smart_critical_warning 4"));
        KT_CHECK(WaitForEvent(&Place.Disk, EVENT(HealthWarnings), Before));
        KT_EQUAL(Count(&Place.Disk)->Events.LastResult, 0x020001);
        KT_EQUAL(
            Control(&Place.Disk, IOCTL_STORAGE_PREDICT_FAILURE, NULL, 0, &Failure, sizeof(Failure)),
            STATUS_SUCCESS);
        KT_EQUAL(Failure.PredictFailure, NVME_SMART_RELIABILITY);
    }
    KT_EQUAL(Count(&Place.Disk)->Events.LostEvents, 0);
    CloseWorkplace(&Place);
}

static VOID SetThreshold(const KT_DISK *Disk, SHORT Celsius)
{
    const STORAGE_TEMPERATURE_THRESHOLD Threshold = {.Version = sizeof(Threshold),
                                                     .Size = sizeof(Threshold),
                                                     .Threshold = Celsius,
                                                     .OverThreshold = TRUE};
    KT_EQUAL(Control(Disk, IOCTL_STORAGE_SET_TEMPERATURE_THRESHOLD, &Threshold, sizeof(Threshold),
                     NULL, 0),
             STATUS_SUCCESS);
}

static VOID TemperatureIsWatched(VOID)
{
    const STORAGE_PROPERTY_QUERY Standard = {.PropertyId = StorageAdapterTemperatureProperty};
    STORAGE_TEMPERATURE_DATA_DESCRIPTOR Before = {0};
    STORAGE_TEMPERATURE_DATA_DESCRIPTOR After = {0};
    WORKPLACE Place;
    if (!KtAskHost("mark") || !OpenWorkplace(&Place)) {
        return;
    }
    KT_EQUAL(Control(&Place.Disk, IOCTL_STORAGE_QUERY_PROPERTY, &Standard, sizeof(Standard),
                     &Before, sizeof(Before)),
             STATUS_SUCCESS);
    const SHORT Now = Before.TemperatureInfo[0].Temperature;
    for (ULONG Round = 0; Round < 3; Round += 1) {
        const ULONG64 Events = Count(&Place.Disk)->Events.TemperatureWarnings;
        SetThreshold(&Place.Disk, Now + 10);
        SetThreshold(&Place.Disk, Now - 10);
        KT_CHECK(WaitForEvent(&Place.Disk, EVENT(TemperatureWarnings), Events));
        KT_EQUAL(Count(&Place.Disk)->Events.LastResult, 0x020101);
    }
    KT_EQUAL(Control(&Place.Disk, IOCTL_STORAGE_QUERY_PROPERTY, &Standard, sizeof(Standard), &After,
                     sizeof(After)),
             STATUS_SUCCESS);
    KT_EQUAL(After.TemperatureInfo[0].OverThreshold, Now - 10);
    SetThreshold(&Place.Disk, Before.TemperatureInfo[0].OverThreshold);
    CloseWorkplace(&Place);
}

// What the controller was told before, it is told again.
static VOID AResetLosesNothing(VOID)
{
    static const NVME_RESET Resets[] = {{NvmeControllerReset}, {NvmeFunctionReset}};
    const PDEVICE_OBJECT Pmr = IoFindDevice(FILE_DEVICE_NVME_PMR, 0);
    WORKPLACE Place;
    if (!OpenWorkplace(&Place)) {
        return;
    }
    const BOOLEAN HasCmb = Count(&Place.Disk)->CmbByteCount != 0;
    for (ULONG Row = 0; Row < ARRAYSIZE(Resets); Row += 1) {
        KtSetContext("reset %u", Resets[Row].Kind);
        RtlFillMemory(Place.Buffer.Va, PAGE_SIZE, (UCHAR)(Row + 1));
        KT_CHECK(Pmr == NULL ||
                 TransferPmr(Pmr, IRP_MJ_WRITE, Place.Buffer.Va, 0, PAGE_SIZE) == STATUS_SUCCESS);
        KT_EQUAL(Control(&Place.Disk, IOCTL_NVME_RESET, &Resets[Row], sizeof(Resets[Row]), NULL, 0),
                 STATUS_SUCCESS);
        const NVME_COUNTERS *Counters = Count(&Place.Disk);
        for (ULONG Index = 0; HasCmb && Index < Counters->ReturnedQueueCount; Index += 1) {
            KT_EQUAL(Counters->Queues[Index].IsInController, Counters->Queues[Index].Id != 0);
        }
        if (Pmr != NULL) {
            KT_EQUAL(TransferPmr(Pmr, IRP_MJ_READ, Place.Second, 0, PAGE_SIZE), STATUS_SUCCESS);
            KT_CHECK(RtlEqualMemory(Place.Buffer.Va, Place.Second, PAGE_SIZE));
        }
        const ULONG64 Events = Counters->Events.TemperatureWarnings;
        SetThreshold(&Place.Disk, 10);
        KT_CHECK(WaitForEvent(&Place.Disk, EVENT(TemperatureWarnings), Events));
        SetThreshold(&Place.Disk, 70);
        WritePattern(&Place, 0, (UCHAR)(0xD0 + Row));
        ReadSecond(&Place, 0);
        KT_CHECK(IsFilled(Place.Second, PATTERN_BYTES, (UCHAR)(0xD0 + Row)));
    }
    CloseWorkplace(&Place);
}

// Of an NVMe controller; the registers are mapped anew, beside the driver's mapping.
static VOID RingAbsentDoorbell(VOID)
{
    const IO_PCI_FUNCTION *Function = IoNextPciFunction(NULL);
    while (Function != NULL && (Function->BaseClass != 1 || Function->SubClass != 8)) {
        Function = IoNextPciFunction(Function);
    }
    KT_REQUIRE(Function != NULL);
    const PUCHAR Doorbells =
        MmMapIoSpaceEx(KtPhysical(Function->Bars[0].Base + NVME_DOORBELL_OFFSET), PAGE_SIZE,
                       PAGE_READWRITE | PAGE_NOCACHE);
    KT_REQUIRE(Doorbells != NULL);
    WRITE_REGISTER_ULONG((PULONG)(Doorbells + 60 * 2 * sizeof(ULONG)), 1);
    MmUnmapIoSpace(Doorbells, PAGE_SIZE);
}

static VOID WrongDoorbellsAreReported(VOID)
{
    WORKPLACE Place;
    if (!KtAskHost("mark") || !OpenWorkplace(&Place)) {
        return;
    }
    for (ULONG Round = 0; Round < 3; Round += 1) {
        const ULONG64 Before = Count(&Place.Disk)->Events.Errors;
        RingAbsentDoorbell();
        KT_CHECK(WaitForEvent(&Place.Disk, EVENT(Errors), Before));
        KT_EQUAL(Count(&Place.Disk)->Events.LastResult, 0x010000);
    }
    // It goes on.
    WritePattern(&Place, 0, 0x21);
    CloseWorkplace(&Place);
}

// ------------------------------------------------------------------------------------------------
// Namespaces that come and go.

static ULONG CountDisks(VOID)
{
    ULONG DiskCount = 0;
    while (IoFindDevice(FILE_DEVICE_DISK, DiskCount) != NULL) {
        DiskCount += 1;
    }
    return DiskCount;
}

static BOOLEAN WaitForDisks(ULONG Expected)
{
    for (ULONG Waited = 0; Waited < WAIT_MILLISECONDS && CountDisks() != Expected;
         Waited += WAIT_INTERVAL) {
        KtSleep(WAIT_INTERVAL);
    }
    return CountDisks() == Expected;
}

#define ATTACHED_NAMESPACE 3 // as tests/qemu/scenarios/control.py has it

// To this controller, or from it.
static VOID AttachNamespace(const KT_DISK *Disk, BOOLEAN IsAttached)
{
    const USHORT ControllerId = Identify(Disk)->ControllerId;
    PreparePassed(ADMIN, NVME_ADMIN_NAMESPACE_ATTACHMENT);
    PassedCommand()->NamespaceId = ATTACHED_NAMESPACE;
    PassedCommand()->Cdw10 = IsAttached ? 0 : 1;
    PassTo(PAGE_SIZE);
    RtlZeroMemory(Passed.Data, PAGE_SIZE);
    ((PUSHORT)Passed.Data)[0] = 1; // as many ids follow
    ((PUSHORT)Passed.Data)[1] = ControllerId;
    KT_EQUAL(Pass(Disk), STATUS_SUCCESS);
    KT_EQUAL(Passed.Request.ReturnStatus, STORAGE_PROTOCOL_STATUS_SUCCESS);
}

static VOID NamespacesComeAndGo(VOID)
{
    KT_DISK New;
    WORKPLACE Place;
    if (!KtHasOption("attach")) {
        KT_SKIP("no namespace to attach; needs the boot option attach");
    }
    if (!KtAskHost("mark") || !OpenWorkplace(&Place)) {
        return;
    }
    const ULONG Before = CountDisks();
    for (ULONG Round = 0; Round < 2; Round += 1) {
        const ULONG64 Events = Count(&Place.Disk)->Events.NamespaceChanges;
        AttachNamespace(&Place.Disk, TRUE);
        KT_CHECK(WaitForDisks(Before + 1));
        KT_CHECK(WaitForEvent(&Place.Disk, EVENT(NamespaceChanges), Events));
        if (KT_CHECK(KtOpenDisk(Before, &New))) {
            KT_EQUAL(New.BlockBytes, 4096);
            KT_EQUAL(KtTransferDisk(&New, IRP_MJ_READ, Place.Second, 0, PAGE_SIZE), STATUS_SUCCESS);
        }
        AttachNamespace(&Place.Disk, FALSE);
        KT_CHECK(WaitForDisks(Before));
    }
    WritePattern(&Place, 0, 0x22);
    CloseWorkplace(&Place);
}

static const KT_TEST Tests[] = {
    {"Identify data of controller and namespace are properties", IdentifyDataAreProperties},
    {"log pages are properties, and predict failures", LogPagesAreProperties},
    {"features can be read and set, but not those that are the driver's own",
     FeaturesAreProperties},
    {"a protocol query that makes no sense is refused", ProtocolQueriesAreChecked},
    {"a disk tells its cache, alignment, seek penalty, trim and temperature",
     DisksTellWhatTheyAreGoodFor},
    {"an admin command of the caller's is passed on", AdminCommandsPass},
    {"a passed command that the controller refuses says why", RefusedCommandsAreReported},
    {"NVM commands of the caller's write, compare and read", NvmCommandsPass},
    {"commands that take what is the driver's own are refused", HarmfulCommandsAreRefused},
    {"a passed command that makes no sense is refused before it is sent", PassedCommandsAreChecked},
    {"zeroes are written without sending them", ZeroesAreWritten},
    {"the controller compares blocks with a buffer", TheControllerCompares},
    {"trimmed blocks read as zero", TrimmedBlocksAreGivenBack},
    {"wrong ranges are refused, and nothing is done", WrongRangesAreRefused},
    {"the write cache can be switched off and on", TheWriteCacheCanBeSwitched},
    {"F15: a format gives the disk another block size while it is read", AFormatChangesTheBlocks},
    {"a medium can be made anew", AMediumIsMadeAnew},
    {"counters count commands, and are printed", CountersCount},
    {"submission queues lie in the controller's memory", QueuesLieInTheController},
    {"the controller's memory is not used when the parameter UseCmb is 0",
     MemoryOfTheControllerIsNotUsedIfNotWanted},
    {"many threads ask the controller at a time", ManyAskAtATime},
    {"control requests survive the failure of each of their allocations", LittleMemoryIsNoHarm},
    {"after a reset events come, and the controller's memory is what it was", AResetLosesNothing},
    {"persistent memory is written by requests and through a mapping", PersistentMemoryIsWritten},
    {"F7: a SMART warning is an event that is heard, counted and explained", WarningsAreHeard},
    {"F8: a temperature beyond its threshold is an event", TemperatureIsWatched},
    {"F9: the doorbell of a queue that does not exist is an event", WrongDoorbellsAreReported},
    {"a namespace that is attached becomes a disk, and goes when it is detached",
     NamespacesComeAndGo},
    {"the host finds in its file what was written to persistent memory",
     TheHostFindsPersistentMemory},
};

const KT_SUITE KtNvmeControlSuite = {"nvmecontrol", KtNeedsDevices, Tests, ARRAYSIZE(Tests)};
