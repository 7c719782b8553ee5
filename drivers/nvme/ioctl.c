// Control requests to controllers and their namespaces: what they are, what their state is, and
// what is more than reads and writes. What is NVMe's own is in protocol.c.
//
// Everything runs to its end in the caller's thread. One table says what each request needs.
// Answers that are descriptors are built whole, and copied as far as the caller's buffer goes.
//
// Invariants:
//   I1  A request holds the remove lock of its device until it is completed.
//   I2  What the controller does not offer (ONCS, OACS, VWC) is refused before anything is sent:
//       STATUS_NOT_SUPPORTED.
//   I3  While a namespace is formatted it takes no request, and none is under way.
#include "nvme.h"

#define NVME_ZERO_CELSIUS 273
#define NVME_FORMAT_TIMEOUT 600000     // milliseconds
#define NVME_FORMAT_DRAIN_TIMEOUT 5000 // milliseconds until requests that are under way have ended
#define NVME_FORMAT_DRAIN_INTERVAL 1

// One deallocated range. Controllers have limits, which 1.4 does not let them tell; QEMU's is 2
// GiB.
#define NVME_TRIM_BYTES 0x40000000ull

// -------------------------------------------------------------------------------------------------
// Descriptors.

typedef struct _NVME_PRODUCT {
    STORAGE_DEVICE_DESCRIPTOR Descriptor;
    CHAR Model[RTL_FIELD_SIZE(NVME_CONTROLLER, ModelNumber)];
    CHAR Firmware[RTL_FIELD_SIZE(NVME_CONTROLLER, FirmwareRevision)];
    CHAR Serial[RTL_FIELD_SIZE(NVME_CONTROLLER, SerialNumber)];
} NVME_PRODUCT;

typedef union _NVME_ANSWER {
    GET_LENGTH_INFORMATION Length;
    DISK_GEOMETRY Geometry;
    DISK_CACHE_INFORMATION Cache;
    STORAGE_ADAPTER_DESCRIPTOR Adapter;
    STORAGE_WRITE_CACHE_PROPERTY WriteCache;
    STORAGE_ACCESS_ALIGNMENT_DESCRIPTOR Alignment;
    DEVICE_SEEK_PENALTY_DESCRIPTOR SeekPenalty;
    DEVICE_TRIM_DESCRIPTOR Trim;
    STORAGE_TEMPERATURE_DATA_DESCRIPTOR Temperature;
    STORAGE_HOTPLUG_INFO Hotplug;
    STORAGE_PREDICT_FAILURE Failure;
    NVME_PRODUCT Product;
} NVME_ANSWER, *PNVME_ANSWER;

// Fills the answer, which is all zero, and tells its length.
typedef NTSTATUS NVME_ANSWER_ROUTINE(PNVME_CONTROL Control, PNVME_ANSWER Answer, PULONG ByteCount);

static NTSTATUS NvmeAnswerLength(PNVME_CONTROL Control, PNVME_ANSWER Answer, PULONG ByteCount)
{
    Answer->Length.Length.QuadPart = (LONGLONG)Control->Namespace->ByteCount;
    *ByteCount = sizeof(Answer->Length);
    return STATUS_SUCCESS;
}

// A disk without heads: one track of one block, as many cylinders as there are blocks.
static NTSTATUS NvmeAnswerGeometry(PNVME_CONTROL Control, PNVME_ANSWER Answer, PULONG ByteCount)
{
    Answer->Geometry.MediaType = FixedMedia;
    Answer->Geometry.Cylinders.QuadPart = (LONGLONG)Control->Namespace->BlockCount;
    Answer->Geometry.TracksPerCylinder = 1;
    Answer->Geometry.SectorsPerTrack = 1;
    Answer->Geometry.BytesPerSector = 1u << Control->Namespace->BlockShift;
    *ByteCount = sizeof(Answer->Geometry);
    return STATUS_SUCCESS;
}

static NTSTATUS NvmeAnswerProduct(PNVME_CONTROL Control, PNVME_ANSWER Answer, PULONG ByteCount)
{
    const PNVME_CONTROLLER Controller = Control->Controller;
    NVME_PRODUCT *Product = &Answer->Product;
    Product->Descriptor.Version = sizeof(Product->Descriptor);
    Product->Descriptor.Size = sizeof(*Product);
    Product->Descriptor.CommandQueueing = TRUE;
    Product->Descriptor.BusType = BusTypeNvme;
    Product->Descriptor.ProductIdOffset = FIELD_OFFSET(NVME_PRODUCT, Model);
    Product->Descriptor.ProductRevisionOffset = FIELD_OFFSET(NVME_PRODUCT, Firmware);
    Product->Descriptor.SerialNumberOffset = FIELD_OFFSET(NVME_PRODUCT, Serial);
    RtlCopyMemory(Product->Model, Controller->ModelNumber, sizeof(Product->Model));
    RtlCopyMemory(Product->Firmware, Controller->FirmwareRevision, sizeof(Product->Firmware));
    RtlCopyMemory(Product->Serial, Controller->SerialNumber, sizeof(Product->Serial));
    *ByteCount = sizeof(*Product);
    return STATUS_SUCCESS;
}

static NTSTATUS NvmeAnswerAdapter(PNVME_CONTROL Control, PNVME_ANSWER Answer, PULONG ByteCount)
{
    const PNVME_CONTROLLER Controller = Control->Controller;
    Answer->Adapter.Version = sizeof(Answer->Adapter);
    Answer->Adapter.Size = sizeof(Answer->Adapter);
    Answer->Adapter.MaximumTransferLength = Controller->MaximumTransferBytes;
    Answer->Adapter.MaximumPhysicalPages = Controller->MaximumTransferBytes / PAGE_SIZE + 1;
    Answer->Adapter.AlignmentMask = Control->Device->Self->AlignmentRequirement;
    Answer->Adapter.CommandQueueing = TRUE;
    Answer->Adapter.BusType = BusTypeNvme;
    *ByteCount = sizeof(Answer->Adapter);
    return STATUS_SUCCESS;
}

static BOOLEAN NvmeHasWriteCache(const NVME_CONTROLLER *Controller)
{
    return (Controller->Data->WriteCache & NVME_VWC_PRESENT) != 0;
}

static NTSTATUS NvmeIsWriteCacheOn(PNVME_CONTROLLER Controller, PBOOLEAN IsOn)
{
    ULONG Value = 0;
    const NTSTATUS Status = NvmeHasWriteCache(Controller)
                                ? NvmeGetFeature(Controller, NVME_FEATURE_WRITE_CACHE, 0, &Value)
                                : STATUS_SUCCESS;
    *IsOn = NT_SUCCESS(Status) && (Value & 1) != 0;
    return Status;
}

static NTSTATUS NvmeAnswerWriteCache(PNVME_CONTROL Control, PNVME_ANSWER Answer, PULONG ByteCount)
{
    const BOOLEAN HasCache = NvmeHasWriteCache(Control->Controller);
    const PSTORAGE_WRITE_CACHE_PROPERTY Property = &Answer->WriteCache;
    BOOLEAN IsOn;
    const NTSTATUS Status = NvmeIsWriteCacheOn(Control->Controller, &IsOn);
    Property->Version = sizeof(*Property);
    Property->Size = sizeof(*Property);
    Property->WriteCacheType = HasCache ? WriteCacheTypeWriteBack : WriteCacheTypeNone;
    Property->WriteCacheEnabled = IsOn ? WriteCacheEnabled : WriteCacheDisabled;
    Property->WriteCacheChangeable = HasCache ? WriteCacheChangeable : WriteCacheNotChangeable;
    Property->WriteThroughSupported = WriteThroughSupported; // force unit access
    Property->FlushCacheSupported = TRUE;
    *ByteCount = sizeof(*Property);
    return Status;
}

static NTSTATUS NvmeAnswerCache(PNVME_CONTROL Control, PNVME_ANSWER Answer, PULONG ByteCount)
{
    Answer->Cache.ParametersSavable =
        (Control->Controller->Data->OptionalCommands & NVME_ONCS_SAVED_FEATURES) != 0;
    *ByteCount = sizeof(Answer->Cache);
    return NvmeIsWriteCacheOn(Control->Controller, &Answer->Cache.WriteCacheEnabled);
}

static NTSTATUS NvmeAnswerAlignment(PNVME_CONTROL Control, PNVME_ANSWER Answer, PULONG ByteCount)
{
    const NVME_IDENTIFY_NAMESPACE_DATA *Data = &Control->Namespace->Data;
    const ULONG BlockBytes = 1u << Control->Namespace->BlockShift;
    Answer->Alignment.Version = sizeof(Answer->Alignment);
    Answer->Alignment.Size = sizeof(Answer->Alignment);
    Answer->Alignment.BytesPerLogicalSector = BlockBytes;
    Answer->Alignment.BytesPerPhysicalSector =
        (Data->Features & NVME_NSFEAT_PREFERRED_SIZES) != 0
            ? BlockBytes * (Data->PreferredWriteGranularity + 1u)
            : BlockBytes;
    *ByteCount = sizeof(Answer->Alignment);
    return STATUS_SUCCESS;
}

static NTSTATUS NvmeAnswerSeekPenalty(PNVME_CONTROL Control, PNVME_ANSWER Answer, PULONG ByteCount)
{
    UNREFERENCED_PARAMETER(Control);
    Answer->SeekPenalty.Version = sizeof(Answer->SeekPenalty);
    Answer->SeekPenalty.Size = sizeof(Answer->SeekPenalty);
    *ByteCount = sizeof(Answer->SeekPenalty);
    return STATUS_SUCCESS;
}

static NTSTATUS NvmeAnswerTrim(PNVME_CONTROL Control, PNVME_ANSWER Answer, PULONG ByteCount)
{
    Answer->Trim.Version = sizeof(Answer->Trim);
    Answer->Trim.Size = sizeof(Answer->Trim);
    Answer->Trim.TrimEnabled =
        (Control->Controller->Data->OptionalCommands & NVME_ONCS_DATASET_MANAGEMENT) != 0;
    *ByteCount = sizeof(Answer->Trim);
    return STATUS_SUCCESS;
}

static NTSTATUS NvmeAnswerHotplug(PNVME_CONTROL Control, PNVME_ANSWER Answer, PULONG ByteCount)
{
    UNREFERENCED_PARAMETER(Control);
    Answer->Hotplug.Size = sizeof(Answer->Hotplug);
    *ByteCount = sizeof(Answer->Hotplug);
    return STATUS_SUCCESS;
}

static NTSTATUS NvmeReadSmart(PNVME_CONTROL Control, PNVME_SMART_LOG Log)
{
    return NvmeReadLogPage(Control->Controller, NVME_ALL_NAMESPACES, NVME_LOG_SMART, Log,
                           sizeof(*Log));
}

static NTSTATUS NvmeAnswerFailure(PNVME_CONTROL Control, PNVME_ANSWER Answer, PULONG ByteCount)
{
    NVME_SMART_LOG Log;
    C_ASSERT(sizeof(Log) == sizeof(Answer->Failure.VendorSpecific));
    const NTSTATUS Status = NvmeReadSmart(Control, &Log);
    if (NT_SUCCESS(Status)) {
        Answer->Failure.PredictFailure = Log.CriticalWarning;
        RtlCopyMemory(Answer->Failure.VendorSpecific, &Log, sizeof(Log));
    }
    *ByteCount = sizeof(Answer->Failure);
    return Status;
}

static SHORT NvmeCelsius(ULONG Kelvin)
{
    return Kelvin != 0 ? (SHORT)((LONG)Kelvin - NVME_ZERO_CELSIUS)
                       : (SHORT)STORAGE_TEMPERATURE_VALUE_NOT_REPORTED;
}

static NTSTATUS NvmeAnswerTemperature(PNVME_CONTROL Control, PNVME_ANSWER Answer, PULONG ByteCount)
{
    const PNVME_CONTROLLER Controller = Control->Controller;
    const PSTORAGE_TEMPERATURE_INFO Info = &Answer->Temperature.TemperatureInfo[0];
    NVME_SMART_LOG Log;
    ULONG Over = 0;
    ULONG Under = 0;
    const ULONG Feature = NVME_FEATURE_TEMPERATURE_THRESHOLD;
    NTSTATUS Status = NvmeReadSmart(Control, &Log);
    if (NT_SUCCESS(Status)) {
        Status = NvmeGetFeature(Controller, Feature, NVME_THRESHOLD(0, 0, FALSE), &Over);
    }
    if (NT_SUCCESS(Status)) {
        Status = NvmeGetFeature(Controller, Feature, NVME_THRESHOLD(0, 0, TRUE), &Under);
    }
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    Answer->Temperature.Version = sizeof(Answer->Temperature);
    Answer->Temperature.Size = sizeof(Answer->Temperature);
    Answer->Temperature.CriticalTemperature = NvmeCelsius(Controller->Data->CriticalTemperature);
    Answer->Temperature.WarningTemperature = NvmeCelsius(Controller->Data->WarningTemperature);
    Answer->Temperature.InfoCount = 1;
    Info->Temperature = NvmeCelsius(Log.Temperature[0] | (ULONG)Log.Temperature[1] << 8);
    Info->OverThreshold = NvmeCelsius(Over & NVME_THRESHOLD_KELVIN_MASK);
    Info->UnderThreshold = NvmeCelsius(Under & NVME_THRESHOLD_KELVIN_MASK);
    Info->OverThresholdChangable = TRUE;
    Info->UnderThresholdChangable = TRUE;
    Info->EventGenerated = TRUE;
    *ByteCount = sizeof(Answer->Temperature);
    return STATUS_SUCCESS;
}

static NTSTATUS NvmeGiveAnswer(PNVME_CONTROL Control, NVME_ANSWER_ROUTINE *Routine)
{
    NVME_ANSWER Answer;
    ULONG ByteCount = 0;
    RtlZeroMemory(&Answer, sizeof(Answer));
    const NTSTATUS Status = Routine(Control, &Answer, &ByteCount);
    if (NT_SUCCESS(Status)) {
        Control->Information = NvmeSmaller(ByteCount, Control->OutputByteCount);
        RtlCopyMemory(Control->Buffer, &Answer, Control->Information);
    }
    return Status;
}

#define NVME_ANSWERED_BY(Name)                                                                     \
    static NTSTATUS NvmeControl##Name(PNVME_CONTROL Control)                                       \
    {                                                                                              \
        return NvmeGiveAnswer(Control, NvmeAnswer##Name);                                          \
    }

NVME_ANSWERED_BY(Length)
NVME_ANSWERED_BY(Geometry)
NVME_ANSWERED_BY(Cache)
NVME_ANSWERED_BY(Hotplug)
NVME_ANSWERED_BY(Failure)

// What each property is answered by; NULL: as it is NVMe's own.
static const struct {
    STORAGE_PROPERTY_ID Id;
    BOOLEAN NeedsNamespace;
    NVME_ANSWER_ROUTINE *Routine;
} NvmeProperties[] = {
    {StorageDeviceProperty, FALSE, NvmeAnswerProduct},
    {StorageAdapterProperty, FALSE, NvmeAnswerAdapter},
    {StorageDeviceWriteCacheProperty, TRUE, NvmeAnswerWriteCache},
    {StorageAccessAlignmentProperty, TRUE, NvmeAnswerAlignment},
    {StorageDeviceSeekPenaltyProperty, TRUE, NvmeAnswerSeekPenalty},
    {StorageDeviceTrimProperty, TRUE, NvmeAnswerTrim},
    {StorageAdapterProtocolSpecificProperty, FALSE, NULL},
    {StorageDeviceProtocolSpecificProperty, TRUE, NULL},
    {StorageAdapterTemperatureProperty, FALSE, NvmeAnswerTemperature},
    {StorageDeviceTemperatureProperty, TRUE, NvmeAnswerTemperature},
};

static NTSTATUS NvmeControlQueryProperty(PNVME_CONTROL Control)
{
    STORAGE_PROPERTY_QUERY Query;
    RtlCopyMemory(&Query, Control->Buffer, sizeof(Query));
    for (ULONG Index = 0; Index < ARRAYSIZE(NvmeProperties); Index += 1) {
        if (NvmeProperties[Index].Id != Query.PropertyId) {
            continue;
        }
        if (NvmeProperties[Index].NeedsNamespace && Control->Namespace == NULL) {
            return STATUS_INVALID_DEVICE_REQUEST;
        }
        if (Query.QueryType == PropertyExistsQuery) {
            return STATUS_SUCCESS;
        }
        if (Query.QueryType != PropertyStandardQuery) {
            return STATUS_INVALID_PARAMETER;
        }
        if (Control->OutputByteCount < sizeof(STORAGE_DESCRIPTOR_HEADER)) {
            return STATUS_BUFFER_TOO_SMALL;
        }
        return NvmeProperties[Index].Routine != NULL
                   ? NvmeGiveAnswer(Control, NvmeProperties[Index].Routine)
                   : NvmeQueryProtocol(Control);
    }
    return STATUS_INVALID_DEVICE_REQUEST;
}

// -------------------------------------------------------------------------------------------------
// Settings.

static NTSTATUS NvmeControlSetCache(PNVME_CONTROL Control)
{
    const DISK_CACHE_INFORMATION *Cache = Control->Buffer;
    if (!NvmeHasWriteCache(Control->Controller)) {
        return STATUS_NOT_SUPPORTED;
    }
    return NvmeSetFeature(Control->Controller, NVME_FEATURE_WRITE_CACHE,
                          Cache->WriteCacheEnabled ? 1 : 0);
}

static NTSTATUS NvmeControlSetThreshold(PNVME_CONTROL Control)
{
    const STORAGE_TEMPERATURE_THRESHOLD *Threshold = Control->Buffer;
    const LONG Kelvin = Threshold->Threshold + NVME_ZERO_CELSIUS;
    if (Threshold->Version != sizeof(*Threshold) || Threshold->Size != sizeof(*Threshold) ||
        Threshold->Index > 8 || Kelvin < 0) {
        return STATUS_INVALID_PARAMETER;
    }
    return NvmeSetFeature(Control->Controller, NVME_FEATURE_TEMPERATURE_THRESHOLD,
                          NVME_THRESHOLD(Kelvin, Threshold->Index, !Threshold->OverThreshold));
}

// -------------------------------------------------------------------------------------------------
// Ranges of blocks.

// Whole blocks of the namespace, at least one.
static NTSTATUS NvmeCheckRange(const NVME_CONTROL *Control, ULONG64 FirstByte, ULONG64 ByteCount)
{
    const ULONG64 BlockMask = (1ull << Control->BlockShift) - 1;
    const ULONG64 Room = Control->Namespace->ByteCount;
    if (((FirstByte | ByteCount) & BlockMask) != 0 || ByteCount == 0) {
        return STATUS_INVALID_PARAMETER;
    }
    return FirstByte <= Room && ByteCount <= Room - FirstByte ? STATUS_SUCCESS
                                                              : STATUS_NONEXISTENT_SECTOR;
}

// One command after the other for all of the range, MostBytes at a time.
static NTSTATUS NvmeRunOverRange(const NVME_CONTROL *Control, const NVME_COMMAND *Model, PMDL Mdl,
                                 ULONG64 FirstByte, ULONG64 ByteCount, ULONG64 MostBytes)
{
    NTSTATUS Status = NvmeCheckRange(Control, FirstByte, ByteCount);
    for (ULONG64 Done = 0; NT_SUCCESS(Status) && Done < ByteCount;) {
        const ULONG64 Bytes = ByteCount - Done < MostBytes ? ByteCount - Done : MostBytes;
        const ULONG64 FirstBlock = (FirstByte + Done) >> Control->BlockShift;
        const NVME_DATA Data = {.Mdl = Mdl,
                                .Offset = Mdl != NULL ? (ULONG)Done : 0,
                                .ByteCount = Mdl != NULL ? (ULONG)Bytes : 0,
                                .BlockShift = Control->BlockShift,
                                .WriteToDevice = TRUE};
        NVME_OUTCOME Outcome;
        NVME_COMMAND Command = *Model;
        Command.NamespaceId = Control->Namespace->Id;
        Command.Cdw10 = (ULONG)FirstBlock;
        Command.Cdw11 = (ULONG)(FirstBlock >> 32);
        Command.Cdw12 |= (ULONG)(Bytes >> Control->BlockShift) - 1;
        Status = NvmeRunNvm(Control->Namespace, &Command, &Data, &Outcome);
        Done += Bytes;
    }
    return Status;
}

static NTSTATUS NvmeRunBlocks(PNVME_CONTROL Control, const NVME_COMMAND *Model, USHORT Needs,
                              ULONG64 FirstByte, ULONG64 ByteCount)
{
    if ((Control->Controller->Data->OptionalCommands & Needs) == 0) {
        return STATUS_NOT_SUPPORTED; // I2
    }
    return NvmeRunOverRange(Control, Model, NULL, FirstByte, ByteCount,
                            (ULONG64)NVME_MAXIMUM_BLOCKS << Control->BlockShift);
}

static NTSTATUS NvmeControlWriteZeroes(PNVME_CONTROL Control)
{
    const NVME_WRITE_ZEROES *Request = Control->Buffer;
    NVME_COMMAND Command = {.Opcode = NVME_NVM_WRITE_ZEROES};
    if ((Request->Flags & ~(NVME_ZEROES_DEALLOCATE | NVME_ZEROES_FORCE_UNIT_ACCESS)) != 0) {
        return STATUS_INVALID_PARAMETER;
    }
    Command.Cdw12 =
        ((Request->Flags & NVME_ZEROES_DEALLOCATE) != 0 ? NVME_DEALLOCATE : 0) |
        ((Request->Flags & NVME_ZEROES_FORCE_UNIT_ACCESS) != 0 ? NVME_FORCE_UNIT_ACCESS : 0);
    return NvmeRunBlocks(Control, &Command, NVME_ONCS_WRITE_ZEROES, Request->ByteOffset,
                         Request->ByteCount);
}

static NTSTATUS NvmeControlVerify(PNVME_CONTROL Control)
{
    const VERIFY_INFORMATION *Request = Control->Buffer;
    const NVME_COMMAND Command = {.Opcode = NVME_NVM_VERIFY};
    return NvmeRunBlocks(Control, &Command, NVME_ONCS_VERIFY,
                         (ULONG64)Request->StartingOffset.QuadPart, Request->Length);
}

static NTSTATUS NvmeControlCompare(PNVME_CONTROL Control)
{
    const NVME_COMPARE *Request = Control->Buffer;
    const NVME_COMMAND Command = {.Opcode = NVME_NVM_COMPARE};
    const PMDL Mdl = Control->Irp->MdlAddress;
    if ((Control->Controller->Data->OptionalCommands & NVME_ONCS_COMPARE) == 0) {
        return STATUS_NOT_SUPPORTED;
    }
    if (Mdl == NULL || MmGetMdlByteOffset(Mdl) % sizeof(ULONG) != 0) {
        return STATUS_INVALID_PARAMETER;
    }
    return NvmeRunOverRange(Control, &Command, Mdl, Request->ByteOffset, MmGetMdlByteCount(Mdl),
                            Control->Controller->MaximumTransferBytes);
}

// -------------------------------------------------------------------------------------------------
// Blocks that are not needed any more.

// Up to NVME_DSM_RANGES ranges, in a page of their own.
typedef struct _NVME_TRIM {
    const NVME_CONTROL *Control;
    NVME_RANGE *Ranges;
    PMDL Mdl;
    ULONG Count;
} NVME_TRIM, *PNVME_TRIM;

static NTSTATUS NvmeSendTrim(PNVME_TRIM Trim)
{
    NVME_OUTCOME Outcome;
    if (Trim->Count == 0) {
        return STATUS_SUCCESS;
    }
    const NVME_COMMAND Command = {.Opcode = NVME_NVM_DATASET_MANAGEMENT,
                                  .NamespaceId = Trim->Control->Namespace->Id,
                                  .Cdw10 = Trim->Count - 1,
                                  .Cdw11 = NVME_DSM_DEALLOCATE};
    const NVME_DATA Data = {.Mdl = Trim->Mdl,
                            .ByteCount = Trim->Count * (ULONG)sizeof(NVME_RANGE),
                            .BlockShift = Trim->Control->BlockShift,
                            .WriteToDevice = TRUE};
    Trim->Count = 0;
    return NvmeRunNvm(Trim->Control->Namespace, &Command, &Data, &Outcome);
}

static NTSTATUS NvmeAddToTrim(PNVME_TRIM Trim, ULONG64 FirstByte, ULONG64 ByteCount)
{
    const ULONG Shift = Trim->Control->BlockShift;
    NTSTATUS Status = STATUS_SUCCESS;
    while (NT_SUCCESS(Status) && ByteCount != 0) {
        const ULONG64 Bytes = ByteCount < NVME_TRIM_BYTES ? ByteCount : NVME_TRIM_BYTES;
        Trim->Ranges[Trim->Count] =
            (NVME_RANGE){.BlockCount = (ULONG)(Bytes >> Shift), .FirstBlock = FirstByte >> Shift};
        Trim->Count += 1;
        FirstByte += Bytes;
        ByteCount -= Bytes;
        if (Trim->Count == NVME_DSM_RANGES) {
            Status = NvmeSendTrim(Trim);
        }
    }
    return Status;
}

static NTSTATUS NvmeTrimRanges(PNVME_TRIM Trim, const DEVICE_DATA_SET_RANGE *Ranges, ULONG Count)
{
    NTSTATUS Status = STATUS_SUCCESS;
    for (ULONG Index = 0; NT_SUCCESS(Status) && Index < Count; Index += 1) {
        Status =
            NvmeAddToTrim(Trim, (ULONG64)Ranges[Index].StartingOffset, Ranges[Index].LengthInBytes);
    }
    return NT_SUCCESS(Status) ? NvmeSendTrim(Trim) : Status;
}

static NTSTATUS NvmeTrim(const NVME_CONTROL *Control, const DEVICE_DATA_SET_RANGE *Ranges,
                         ULONG Count)
{
    NVME_TRIM Trim = {.Control = Control};
    NTSTATUS Status = STATUS_INSUFFICIENT_RESOURCES;
    Trim.Ranges = ExAllocatePool2(POOL_FLAG_NON_PAGED, PAGE_SIZE, NVME_TAG);
    if (Trim.Ranges == NULL) {
        return Status;
    }
    Trim.Mdl = IoAllocateMdl(Trim.Ranges, PAGE_SIZE, FALSE, FALSE, NULL);
    if (Trim.Mdl != NULL) {
        MmBuildMdlForNonPagedPool(Trim.Mdl);
        Status = NvmeTrimRanges(&Trim, Ranges, Count);
        IoFreeMdl(Trim.Mdl);
    }
    ExFreePoolWithTag(Trim.Ranges, NVME_TAG);
    return Status;
}

static NTSTATUS NvmeCheckTrim(const NVME_CONTROL *Control)
{
    const DEVICE_MANAGE_DATA_SET_ATTRIBUTES *Set = Control->Buffer;
    const ULONG Offset = Set->DataSetRangesOffset;
    const ULONG Length = Set->DataSetRangesLength;
    if (Set->Size != sizeof(*Set) || Set->ParameterBlockLength != 0) {
        return STATUS_INVALID_PARAMETER;
    }
    if (Set->Action != DeviceDsmAction_Trim) {
        return STATUS_NOT_SUPPORTED;
    }
    if ((Set->Flags & DEVICE_DSM_FLAG_ENTIRE_DATA_SET_RANGE) != 0) {
        return Length == 0 ? STATUS_SUCCESS : STATUS_INVALID_PARAMETER;
    }
    if (Offset < sizeof(*Set) || Offset % sizeof(ULONG64) != 0 || Length == 0 ||
        Length % sizeof(DEVICE_DATA_SET_RANGE) != 0 || Offset > Control->InputByteCount ||
        Length > Control->InputByteCount - Offset) {
        return STATUS_INVALID_PARAMETER;
    }
    return STATUS_SUCCESS;
}

// Every range is looked at before the first one is given away.
static NTSTATUS NvmeControlDataSet(PNVME_CONTROL Control)
{
    const DEVICE_MANAGE_DATA_SET_ATTRIBUTES *Set = Control->Buffer;
    const DEVICE_DATA_SET_RANGE Whole = {.LengthInBytes = Control->Namespace->ByteCount};
    const DEVICE_DATA_SET_RANGE *Ranges = &Whole;
    ULONG Count = 1;
    if ((Control->Controller->Data->OptionalCommands & NVME_ONCS_DATASET_MANAGEMENT) == 0) {
        return STATUS_NOT_SUPPORTED;
    }
    NTSTATUS Status = NvmeCheckTrim(Control);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    if ((Set->Flags & DEVICE_DSM_FLAG_ENTIRE_DATA_SET_RANGE) == 0) {
        Ranges = (const DEVICE_DATA_SET_RANGE *)((const UCHAR *)Set + Set->DataSetRangesOffset);
        Count = Set->DataSetRangesLength / sizeof(*Ranges);
    }
    for (ULONG Index = 0; NT_SUCCESS(Status) && Index < Count; Index += 1) {
        Status = NvmeCheckRange(Control, (ULONG64)Ranges[Index].StartingOffset,
                                Ranges[Index].LengthInBytes);
    }
    return NT_SUCCESS(Status) ? NvmeTrim(Control, Ranges, Count) : Status;
}

// -------------------------------------------------------------------------------------------------
// Format (I3).

static BOOLEAN NvmeIsBusyWithCommands(const NVME_NAMESPACE *Namespace)
{
    for (ULONG Id = 1; Id < NVME_MAXIMUM_QUEUES; Id += 1) {
        const PNVME_QUEUE Queue = Namespace->Device.Controller->Queues[Id];
        if (Queue != NULL && NvmeQueueHasCommandOf(Queue, Namespace->Id)) {
            return TRUE;
        }
    }
    return FALSE;
}

// FALSE: requests are still under way after all that time.
static BOOLEAN NvmeCloseForFormat(PNVME_NAMESPACE Namespace)
{
    const LONG64 Deadline = NvmeDeadline(NVME_FORMAT_DRAIN_TIMEOUT);
    if (!NvmeQuiesceNamespace(Namespace, STATUS_DEVICE_BUSY, NVME_FORMAT_DRAIN_TIMEOUT)) {
        return FALSE;
    }
    while (NvmeIsBusyWithCommands(Namespace)) {
        if (NvmeHasPassed(Deadline)) {
            return FALSE;
        }
        NvmeSleep(NVME_FORMAT_DRAIN_INTERVAL);
    }
    return TRUE;
}

// Under ConfigurationMutex. Only one that was open is opened again.
static NTSTATUS NvmeFormatClosed(PNVME_NAMESPACE Namespace, ULONG Cdw10)
{
    const PNVME_CONTROLLER Controller = Namespace->Device.Controller;
    const NVME_COMMAND Command = {
        .Opcode = NVME_ADMIN_FORMAT, .NamespaceId = Namespace->Id, .Cdw10 = Cdw10};
    NVME_OUTCOME Outcome;
    DbgPrint("NVMe: %s: namespace %u is being formatted\n", Controller->SerialNumber,
             Namespace->Id);
    NTSTATUS Status = NvmeRunAdminFor(Controller, &Command, NVME_FORMAT_TIMEOUT, &Outcome);
    // Whatever came of it: its size may be another one now.
    const NTSTATUS ScanStatus = NvmeScanNamespaces(Controller);
    return NT_SUCCESS(Status) ? ScanStatus : Status;
}

static NTSTATUS NvmeFormat(PNVME_NAMESPACE Namespace, ULONG Cdw10)
{
    const PNVME_CONTROLLER Controller = Namespace->Device.Controller;
    NTSTATUS Status = STATUS_DEVICE_BUSY;
    if ((Controller->Data->OptionalAdminCommands & NVME_OACS_FORMAT) == 0) {
        return STATUS_NOT_SUPPORTED;
    }
    if ((Controller->Data->FormatAttributes & NVME_FNA_ALL_NAMESPACES) != 0 &&
        Controller->Namespaces.Flink != Controller->Namespaces.Blink) {
        return STATUS_NOT_SUPPORTED; // it would take the other disks' data, too
    }
    (VOID)
        KeWaitForSingleObject(&Controller->ConfigurationMutex, Executive, KernelMode, FALSE, NULL);
    if (Controller->State != NvmeReady || Namespace->ClosedStatus != STATUS_SUCCESS) {
        Status = STATUS_DEVICE_NOT_READY;
    } else {
        if (NvmeCloseForFormat(Namespace)) {
            Status = NvmeFormatClosed(Namespace, Cdw10);
        }
        if (Namespace->ClosedStatus == STATUS_DEVICE_BUSY) {
            Namespace->ClosedStatus = STATUS_SUCCESS;
        }
    }
    (VOID) KeReleaseMutex(&Controller->ConfigurationMutex, FALSE);
    return Status;
}

// The quickest format without metadata whose blocks have that size. MAXULONG: none.
static ULONG NvmeFindFormat(const NVME_NAMESPACE *Namespace, ULONG BlockBytes)
{
    const NVME_IDENTIFY_NAMESPACE_DATA *Data = &Namespace->Data;
    ULONG Found = MAXULONG;
    for (ULONG Index = 0; Index < ARRAYSIZE(Data->Formats) && Index <= Data->FormatCount;
         Index += 1) {
        const NVME_BLOCK_FORMAT Format = Data->Formats[Index];
        if (Format.MetadataByteCount != 0 || Format.BlockShift == 0 || Format.BlockShift > 31 ||
            1u << Format.BlockShift != BlockBytes) {
            continue;
        }
        if (Found == MAXULONG ||
            Format.RelativePerformance < Data->Formats[Found].RelativePerformance) {
            Found = Index;
        }
    }
    return Found;
}

static NTSTATUS NvmeControlFormat(PNVME_CONTROL Control)
{
    const NVME_FORMAT *Request = Control->Buffer;
    const ULONG Format = NvmeFindFormat(Control->Namespace, Request->BlockBytes);
    if (Request->Erase > NvmeEraseByKey) {
        return STATUS_INVALID_PARAMETER;
    }
    return Format != MAXULONG
               ? NvmeFormat(Control->Namespace, Format | NVME_FORMAT_ERASE(Request->Erase))
               : STATUS_NOT_SUPPORTED;
}

static NTSTATUS NvmeControlReinitialize(PNVME_CONTROL Control)
{
    const ULONG Format = Control->Namespace->Data.CurrentFormat & NVME_CURRENT_FORMAT_MASK;
    return NvmeFormat(Control->Namespace, Format | NVME_FORMAT_ERASE(NvmeEraseData));
}

// -------------------------------------------------------------------------------------------------
// Counters.

static VOID NvmeCountQueue(PNVME_QUEUE Queue, PNVME_QUEUE_REPORT Report)
{
    KIRQL OldIrql;
    KeAcquireSpinLock(&Queue->Lock, &OldIrql);
    Report->Id = Queue->Id;
    Report->EntryCount = Queue->EntryCount;
    Report->OutstandingCount = Queue->OutstandingCount;
    Report->Processor = Queue->Processor;
    Report->IsPolled = Queue->IsPolled;
    Report->HasShadow = Queue->ShadowTail != NULL;
    Report->IsInController = Queue->SubmissionIsInCmb;
    Report->UsesLists = Queue->UsesLists;
    Report->Counters = Queue->Counters;
    KeReleaseSpinLock(&Queue->Lock, OldIrql);
}

static ULONG NvmeCountLostPages(PNVME_CONTROLLER Controller)
{
    ULONG Count = 0;
    KIRQL OldIrql;
    KeAcquireSpinLock(&Controller->AdminPageLock, &OldIrql);
    for (ULONG Index = 0; Index < NVME_ADMIN_PAGES; Index += 1) {
        Count += Controller->AdminPages[Index].IsLost ? 1 : 0;
    }
    KeReleaseSpinLock(&Controller->AdminPageLock, OldIrql);
    return Count;
}

// As many queues as fit. Queues come and go under ConfigurationMutex.
static VOID NvmeCount(PNVME_CONTROLLER Controller, PNVME_COUNTERS Counters, ULONG MostQueues)
{
    RtlZeroMemory(Counters, FIELD_OFFSET(NVME_COUNTERS, Queues));
    Counters->Version = NVME_COUNTERS_VERSION;
    Counters->RegisterReads = Controller->RegisterReads;
    Counters->LineInterrupts = Controller->LineInterrupts;
    Counters->LostAdminPages = NvmeCountLostPages(Controller);
    Counters->CmbByteCount = Controller->CmbByteCount;
    Counters->CmbUsedByteCount = Controller->CmbUsedByteCount;
    Counters->Events = Controller->EventCounters;
    (VOID)
        KeWaitForSingleObject(&Controller->ConfigurationMutex, Executive, KernelMode, FALSE, NULL);
    for (ULONG Id = 0; Id < NVME_MAXIMUM_QUEUES; Id += 1) {
        if (Controller->Queues[Id] == NULL) {
            continue;
        }
        if (Counters->ReturnedQueueCount < MostQueues) {
            NvmeCountQueue(Controller->Queues[Id], &Counters->Queues[Counters->ReturnedQueueCount]);
            Counters->ReturnedQueueCount += 1;
        }
        Counters->QueueCount += 1;
    }
    (VOID) KeReleaseMutex(&Controller->ConfigurationMutex, FALSE);
}

static NTSTATUS NvmeControlCounters(PNVME_CONTROL Control)
{
    const ULONG HeadBytes = FIELD_OFFSET(NVME_COUNTERS, Queues);
    const PNVME_COUNTERS Counters = Control->Buffer;
    NvmeCount(Control->Controller, Counters,
              (Control->OutputByteCount - HeadBytes) / sizeof(NVME_QUEUE_REPORT));
    Control->Information =
        HeadBytes + Counters->ReturnedQueueCount * (ULONG)sizeof(NVME_QUEUE_REPORT);
    return STATUS_SUCCESS;
}

static VOID NvmePrintQueue(const NVME_QUEUE_REPORT *Queue)
{
    const NVME_QUEUE_COUNTERS *Counters = &Queue->Counters;
    DbgPrint("NVMe: queue %u (%u entries%s%s%s%s): %llu commands, %llu completions in %llu passes, "
             "%llu interrupts; MMIO writes: %llu submission doorbells, %llu completion doorbells, "
             "%llu saved\n",
             Queue->Id, Queue->EntryCount, Queue->IsPolled ? ", polled" : "",
             Queue->HasShadow ? ", shadow doorbells" : "",
             Queue->IsInController ? ", in the controller's memory" : "",
             Queue->UsesLists ? ", SGLs" : "", Counters->Commands, Counters->Completions,
             Counters->Reaps, Counters->Interrupts, Counters->TailDoorbells,
             Counters->HeadDoorbells, Counters->SavedDoorbells);
    if (Counters->Errors + Counters->Retries + Counters->Timeouts + Counters->MissedInterrupts +
            Counters->UnknownCompletions + Counters->Waits !=
        0) {
        DbgPrint("NVMe: queue %u: %llu errors, %llu retries, %llu timeouts, %llu missed "
                 "interrupts, %llu completions of nothing, %llu waits\n",
                 Queue->Id, Counters->Errors, Counters->Retries, Counters->Timeouts,
                 Counters->MissedInterrupts, Counters->UnknownCompletions, Counters->Waits);
    }
}

static NTSTATUS NvmeControlPrintCounters(PNVME_CONTROL Control)
{
    const PNVME_CONTROLLER Controller = Control->Controller;
    const ULONG ByteCount =
        FIELD_OFFSET(NVME_COUNTERS, Queues) + NVME_MAXIMUM_QUEUES * sizeof(NVME_QUEUE_REPORT);
    const PNVME_COUNTERS Counters = ExAllocatePool2(POOL_FLAG_PAGED, ByteCount, NVME_TAG);
    if (Counters == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    NvmeCount(Controller, Counters, NVME_MAXIMUM_QUEUES);
    DbgPrint("NVMe: %s: %u queues, %llu MMIO reads, %llu events (%llu errors, %llu health, %llu "
             "temperature, %llu namespaces), %u lost pages\n",
             Controller->SerialNumber, Counters->QueueCount, Counters->RegisterReads,
             Counters->Events.Events, Counters->Events.Errors, Counters->Events.HealthWarnings,
             Counters->Events.TemperatureWarnings, Counters->Events.NamespaceChanges,
             Counters->LostAdminPages);
    for (ULONG Index = 0; Index < Counters->ReturnedQueueCount; Index += 1) {
        NvmePrintQueue(&Counters->Queues[Index]);
    }
    ExFreePoolWithTag(Counters, NVME_TAG);
    return STATUS_SUCCESS;
}

// -------------------------------------------------------------------------------------------------
// Recovery: recover.c does it.

static NTSTATUS NvmeControlSetTimeout(PNVME_CONTROL Control)
{
    const NVME_TIMEOUT *Request = Control->Buffer;
    if (Request->Milliseconds < 100 || Request->Milliseconds > 600000) {
        return STATUS_INVALID_PARAMETER;
    }
    Control->Controller->Parameters.CommandTimeout = Request->Milliseconds;
    return STATUS_SUCCESS;
}

static NTSTATUS NvmeControlReset(PNVME_CONTROL Control)
{
    const ULONG Kind = ((const NVME_RESET *)Control->Buffer)->Kind;
    return Kind == NvmeControllerReset || Kind == NvmeFunctionReset
               ? NvmeResetByRequest(Control->Controller, (NVME_RESET_KIND)Kind)
               : STATUS_INVALID_PARAMETER;
}

static NTSTATUS NvmeControlRecovery(PNVME_CONTROL Control)
{
    NvmeQueryRecovery(Control->Controller, Control->Buffer);
    Control->Information = sizeof(NVME_RECOVERY_COUNTERS);
    return STATUS_SUCCESS;
}

// -------------------------------------------------------------------------------------------------
// Dispatch.

typedef enum _NVME_CONTROL_NEEDS {
    NvmeNeedsNamespace = 1, // not for controllers
    NvmeNeedsThread = 2,    // PASSIVE_LEVEL: it waits
    NvmeNeedsNothing = 4,   // not even a controller that works
} NVME_CONTROL_NEEDS;

static const struct {
    ULONG Code;
    ULONG LeastInput; // bytes
    ULONG LeastOutput;
    ULONG Needs;
    NTSTATUS (*Routine)(PNVME_CONTROL Control);
} NvmeControls[] = {
    {IOCTL_DISK_GET_LENGTH_INFO, 0, sizeof(GET_LENGTH_INFORMATION), NvmeNeedsNamespace,
     NvmeControlLength},
    {IOCTL_DISK_GET_DRIVE_GEOMETRY, 0, sizeof(DISK_GEOMETRY), NvmeNeedsNamespace,
     NvmeControlGeometry},
    {IOCTL_DISK_GET_CACHE_INFORMATION, 0, sizeof(DISK_CACHE_INFORMATION),
     NvmeNeedsNamespace | NvmeNeedsThread, NvmeControlCache},
    {IOCTL_DISK_SET_CACHE_INFORMATION, sizeof(DISK_CACHE_INFORMATION), 0,
     NvmeNeedsNamespace | NvmeNeedsThread, NvmeControlSetCache},
    {IOCTL_DISK_VERIFY, sizeof(VERIFY_INFORMATION), 0, NvmeNeedsNamespace | NvmeNeedsThread,
     NvmeControlVerify},
    {IOCTL_STORAGE_QUERY_PROPERTY, sizeof(STORAGE_PROPERTY_QUERY), 0, NvmeNeedsThread,
     NvmeControlQueryProperty},
    {IOCTL_STORAGE_SET_PROPERTY, sizeof(STORAGE_PROPERTY_SET), 0, NvmeNeedsThread, NvmeSetProperty},
    {IOCTL_STORAGE_PROTOCOL_COMMAND, 0, 0, NvmeNeedsThread, NvmePassCommand},
    {IOCTL_STORAGE_MANAGE_DATA_SET_ATTRIBUTES, sizeof(DEVICE_MANAGE_DATA_SET_ATTRIBUTES), 0,
     NvmeNeedsNamespace | NvmeNeedsThread, NvmeControlDataSet},
    {IOCTL_STORAGE_REINITIALIZE_MEDIA, 0, 0, NvmeNeedsNamespace | NvmeNeedsThread,
     NvmeControlReinitialize},
    {IOCTL_STORAGE_GET_HOTPLUG_INFO, 0, sizeof(STORAGE_HOTPLUG_INFO), NvmeNeedsNamespace,
     NvmeControlHotplug},
    {IOCTL_STORAGE_PREDICT_FAILURE, 0, sizeof(STORAGE_PREDICT_FAILURE), NvmeNeedsThread,
     NvmeControlFailure},
    {IOCTL_STORAGE_SET_TEMPERATURE_THRESHOLD, sizeof(STORAGE_TEMPERATURE_THRESHOLD), 0,
     NvmeNeedsThread, NvmeControlSetThreshold},
    {IOCTL_NVME_WRITE_ZEROES, sizeof(NVME_WRITE_ZEROES), 0, NvmeNeedsNamespace | NvmeNeedsThread,
     NvmeControlWriteZeroes},
    {IOCTL_NVME_COMPARE, sizeof(NVME_COMPARE), 0, NvmeNeedsNamespace | NvmeNeedsThread,
     NvmeControlCompare},
    {IOCTL_NVME_FORMAT, sizeof(NVME_FORMAT), 0, NvmeNeedsNamespace | NvmeNeedsThread,
     NvmeControlFormat},
    {IOCTL_NVME_QUERY_COUNTERS, 0, FIELD_OFFSET(NVME_COUNTERS, Queues), NvmeNeedsThread,
     NvmeControlCounters},
    {IOCTL_NVME_PRINT_COUNTERS, 0, 0, NvmeNeedsThread, NvmeControlPrintCounters},
    {IOCTL_NVME_RESET, sizeof(NVME_RESET), 0, NvmeNeedsThread, NvmeControlReset},
    {IOCTL_NVME_SET_TIMEOUT, sizeof(NVME_TIMEOUT), 0, 0, NvmeControlSetTimeout},
    {IOCTL_NVME_QUERY_RECOVERY, 0, sizeof(NVME_RECOVERY_COUNTERS), NvmeNeedsNothing,
     NvmeControlRecovery},
};

// While the controller recovers, admin commands wait, and so does the caller.
static NTSTATUS NvmeCheckState(const NVME_CONTROL *Control)
{
    switch ((NVME_STATE)Control->Controller->State) {
    case NvmeReady:
    case NvmeRecovering:
        return Control->Namespace != NULL ? Control->Namespace->ClosedStatus : STATUS_SUCCESS;
    case NvmeGone:
        return STATUS_DEVICE_DOES_NOT_EXIST;
    case NvmeStopped:
    case NvmeStarting:
    case NvmeFailed:
        break;
    }
    return STATUS_DEVICE_NOT_READY;
}

static NTSTATUS NvmeRunControl(PNVME_CONTROL Control, ULONG Code)
{
    for (ULONG Index = 0; Index < ARRAYSIZE(NvmeControls); Index += 1) {
        if (NvmeControls[Index].Code != Code) {
            continue;
        }
        const ULONG Needs = NvmeControls[Index].Needs;
        if (((Needs & NvmeNeedsNamespace) != 0 && Control->Namespace == NULL) ||
            ((Needs & NvmeNeedsThread) != 0 && KeGetCurrentIrql() != PASSIVE_LEVEL)) {
            return STATUS_INVALID_DEVICE_REQUEST;
        }
        if (Control->InputByteCount < NvmeControls[Index].LeastInput) {
            return STATUS_INVALID_PARAMETER;
        }
        if (Control->OutputByteCount < NvmeControls[Index].LeastOutput) {
            return STATUS_BUFFER_TOO_SMALL;
        }
        const NTSTATUS Status =
            (Needs & NvmeNeedsNothing) != 0 ? STATUS_SUCCESS : NvmeCheckState(Control);
        return NT_SUCCESS(Status) ? NvmeControls[Index].Routine(Control) : Status;
    }
    return STATUS_INVALID_DEVICE_REQUEST;
}

NTSTATUS NTAPI NvmeDispatchDeviceControl(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    const PNVME_DEVICE Device = NvmeDeviceOf(DeviceObject);
    const IO_STACK_LOCATION *Stack = IoGetCurrentIrpStackLocation(Irp);
    if (Device->Kind == NvmeDevicePmr) {
        return NvmePmrControl(Device, Irp);
    }
    NVME_CONTROL Control = {
        .Device = Device,
        .Controller = Device->Controller,
        .Namespace = Device->Kind == NvmeDeviceNamespace ? (PNVME_NAMESPACE)Device : NULL,
        .Irp = Irp,
        .Buffer = Irp->AssociatedIrp.SystemBuffer,
        .InputByteCount = Stack->Parameters.DeviceIoControl.InputBufferLength,
        .OutputByteCount = Stack->Parameters.DeviceIoControl.OutputBufferLength};
    const PIO_REMOVE_LOCK RemoveLock = Control.Namespace != NULL ? &Control.Namespace->RemoveLock
                                                                 : &Control.Controller->RemoveLock;
    NTSTATUS Status = IoAcquireRemoveLock(RemoveLock, Irp);
    if (!NT_SUCCESS(Status)) {
        return NvmeFinishIrp(Irp, Status, 0);
    }
    if (Control.Namespace != NULL) {
        Control.BlockShift = Control.Namespace->BlockShift;
    }
    Status = NvmeRunControl(&Control, Stack->Parameters.DeviceIoControl.IoControlCode);
    // I1. Before the request: whoever waits for that finds the lock free, and REMOVE waits for this
    // thread to leave the driver.
    IoReleaseRemoveLock(RemoveLock, Irp);
    return NvmeFinishIrp(Irp, Status, Control.Information);
}
