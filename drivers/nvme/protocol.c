// What is NVMe's own in control requests: Identify data, log pages and features as properties of
// storage devices, and whole commands of the caller's.
//
//   IOCTL_STORAGE_QUERY_PROPERTY   StorageAdapterProtocolSpecificProperty and ...Device...
//   IOCTL_STORAGE_SET_PROPERTY     the same: Set Features
//   IOCTL_STORAGE_PROTOCOL_COMMAND an admin or NVM command
//
// Invariants:
//   P1  No command gets through that would take from the driver what is its own: queues, events,
//       doorbell buffers, the number of queues, host memory. What changes namespaces is followed by
//       a scan.
//   P2  The controller moves no more data than the buffer has: how much a command moves is computed
//       from the command, not believed. Only of vendors' commands the caller must know it.
//   P3  Data of admin commands are in admin pages, and are copied; the caller's buffer is never the
//       controller's.
#include "nvme.h"

#define NVME_ADMIN_DATA_PAGES 4 // of one command
#define NVME_ADMIN_DATA_BYTES (NVME_ADMIN_DATA_PAGES * (ULONG)PAGE_SIZE)
#define NVME_DEFAULT_SECONDS 5
#define NVME_MOST_SECONDS 600

// -------------------------------------------------------------------------------------------------
// Admin commands with data.

typedef struct _NVME_ADMIN_DATA {
    ULONG PageCount;
    PNVME_ADMIN_PAGE Pages[NVME_ADMIN_DATA_PAGES];
    PNVME_ADMIN_PAGE List; // of pages but the first; NULL: not needed
} NVME_ADMIN_DATA, *PNVME_ADMIN_DATA;

static VOID NvmeReturnAdminData(PNVME_CONTROLLER Controller, PNVME_ADMIN_DATA Data, NTSTATUS Status)
{
    for (ULONG Index = 0; Index < Data->PageCount; Index += 1) {
        NvmeReturnAdminPage(Controller, Data->Pages[Index], Status);
    }
    if (Data->List != NULL) {
        NvmeReturnAdminPage(Controller, Data->List, Status);
    }
}

static BOOLEAN NvmeTryToTakeAdminData(PNVME_CONTROLLER Controller, PNVME_ADMIN_DATA Data,
                                      ULONG PageCount)
{
    RtlZeroMemory(Data, sizeof(*Data));
    while (Data->PageCount < PageCount) {
        const PNVME_ADMIN_PAGE Page = NvmeTakeAdminPage(Controller);
        if (Page == NULL) {
            break;
        }
        Data->Pages[Data->PageCount] = Page;
        Data->PageCount += 1;
    }
    if (PageCount > 2) {
        Data->List = NvmeTakeAdminPage(Controller);
    }
    if (Data->PageCount == PageCount && (PageCount <= 2 || Data->List != NULL)) {
        return TRUE;
    }
    NvmeReturnAdminData(Controller, Data, STATUS_SUCCESS);
    return FALSE;
}

// Nobody waits with pages in his hands, so that they come back.
static BOOLEAN NvmeTakeAdminData(PNVME_CONTROLLER Controller, PNVME_ADMIN_DATA Data,
                                 ULONG ByteCount)
{
    const ULONG PageCount = (ULONG)BYTES_TO_PAGES(ByteCount);
    const LONG64 Deadline = NvmeDeadline(NVME_DEFAULT_SECONDS * 1000);
    NT_ASSERT(PageCount <= NVME_ADMIN_DATA_PAGES);
    while (!NvmeTryToTakeAdminData(Controller, Data, PageCount)) {
        if (NvmeHasPassed(Deadline)) {
            return FALSE;
        }
        NvmeSleep(1);
    }
    return TRUE;
}

static VOID NvmeDescribeAdminData(const NVME_ADMIN_DATA *Data, PNVME_COMMAND Command)
{
    Command->Prp1 = Data->PageCount > 0 ? Data->Pages[0]->Address : 0;
    Command->Prp2 = Data->PageCount == 2 ? Data->Pages[1]->Address : 0;
    if (Data->List != NULL) {
        const PULONG64 Entries = Data->List->Va;
        Command->Prp2 = Data->List->Address;
        for (ULONG Index = 1; Index < Data->PageCount; Index += 1) {
            Entries[Index - 1] = Data->Pages[Index]->Address;
        }
    }
}

typedef enum _NVME_DIRECTION { NvmeNoData, NvmeToController, NvmeFromController } NVME_DIRECTION;

static VOID NvmeCopyAdminData(const NVME_ADMIN_DATA *Data, PUCHAR Buffer, ULONG ByteCount,
                              NVME_DIRECTION Direction)
{
    for (ULONG Done = 0; Done < ByteCount; Done += PAGE_SIZE) {
        const PVOID Page = Data->Pages[Done / PAGE_SIZE]->Va;
        const ULONG Part = NvmeSmaller(ByteCount - Done, PAGE_SIZE);
        if (Direction == NvmeToController) {
            RtlCopyMemory(Page, Buffer + Done, Part);
        } else {
            RtlCopyMemory(Buffer + Done, Page, Part);
        }
    }
}

// Buffer gets, or has, ByteCount bytes; the command may move MovedBytes, which is not less.
static NTSTATUS NvmeRunAdminWithData(PNVME_CONTROLLER Controller, PNVME_COMMAND Command,
                                     NVME_DIRECTION Direction, PVOID Buffer, ULONG ByteCount,
                                     ULONG MovedBytes, ULONG Milliseconds, PNVME_OUTCOME Outcome)
{
    NVME_ADMIN_DATA Data;
    RtlZeroMemory(Outcome, sizeof(*Outcome));
    NT_ASSERT(ByteCount <= MovedBytes && MovedBytes <= NVME_ADMIN_DATA_BYTES);
    if (!NvmeTakeAdminData(Controller, &Data, MovedBytes)) {
        Outcome->Status = STATUS_INSUFFICIENT_RESOURCES;
        return Outcome->Status;
    }
    NvmeDescribeAdminData(&Data, Command);
    if (Direction == NvmeToController) {
        NvmeCopyAdminData(&Data, Buffer, ByteCount, Direction);
    }
    const NTSTATUS Status = NvmeRunAdminFor(Controller, Command, Milliseconds, Outcome);
    if (NT_SUCCESS(Status) && Direction == NvmeFromController) {
        NvmeCopyAdminData(&Data, Buffer, ByteCount, Direction);
    }
    NvmeReturnAdminData(Controller, &Data, Status);
    return Status;
}

NTSTATUS NvmeReadLogPage(PNVME_CONTROLLER Controller, ULONG NamespaceId, ULONG LogPage,
                         PVOID Buffer, ULONG ByteCount)
{
    NVME_OUTCOME Outcome;
    NVME_COMMAND Command = {.Opcode = NVME_ADMIN_GET_LOG_PAGE,
                            .NamespaceId = NamespaceId,
                            .Cdw10 = NVME_LOG_CDW10(LogPage, ByteCount / sizeof(ULONG)) |
                                     NVME_LOG_RETAIN_EVENT};
    return NvmeRunAdminWithData(Controller, &Command, NvmeFromController, Buffer, ByteCount,
                                ByteCount, NVME_DEFAULT_SECONDS * 1000, &Outcome);
}

NTSTATUS NvmeGetFeature(PNVME_CONTROLLER Controller, ULONG Feature, ULONG Cdw11, PULONG Value)
{
    const NVME_COMMAND Command = {
        .Opcode = NVME_ADMIN_GET_FEATURES, .Cdw10 = Feature, .Cdw11 = Cdw11};
    return NvmeRunAdmin(Controller, &Command, Value);
}

NTSTATUS NvmeSetFeature(PNVME_CONTROLLER Controller, ULONG Feature, ULONG Value)
{
    const NVME_COMMAND Command = {
        .Opcode = NVME_ADMIN_SET_FEATURES, .Cdw10 = Feature, .Cdw11 = Value};
    return NvmeRunAdmin(Controller, &Command, NULL);
}

// P1. Those that are the driver's own.
static BOOLEAN NvmeIsOwnFeature(ULONG Cdw10)
{
    static const UCHAR Own[] = {NVME_FEATURE_QUEUE_COUNT, NVME_FEATURE_ASYNC_EVENTS,
                                NVME_FEATURE_HOST_MEMORY, NVME_FEATURE_KEEP_ALIVE,
                                NVME_FEATURE_INTERRUPT_VECTOR};
    for (ULONG Index = 0; Index < ARRAYSIZE(Own); Index += 1) {
        if (Own[Index] == NVME_FEATURE_ID(Cdw10)) {
            return TRUE;
        }
    }
    return FALSE;
}

// -------------------------------------------------------------------------------------------------
// Properties.

// What of a controller's is asked for through a disk concerns no namespace; the other properties
// do.
static ULONG NvmeNamespaceOfProperty(const NVME_CONTROL *Control, STORAGE_PROPERTY_ID Id,
                                     ULONG OfController)
{
    return Id == StorageDeviceProtocolSpecificProperty && Control->Namespace != NULL
               ? Control->Namespace->Id
               : OfController;
}

static NTSTATUS NvmeQueryIdentify(PNVME_CONTROL Control, STORAGE_PROPERTY_ID Id,
                                  PSTORAGE_PROTOCOL_SPECIFIC_DATA Specific, PVOID Data)
{
    NVME_OUTCOME Outcome;
    UNREFERENCED_PARAMETER(Id);
    NVME_COMMAND Command = {.Opcode = NVME_ADMIN_IDENTIFY,
                            .NamespaceId = Specific->ProtocolDataRequestSubValue,
                            .Cdw10 = Specific->ProtocolDataRequestValue};
    if ((Specific->ProtocolDataRequestValue & ~(ULONG)NVME_IDENTIFY_CNS_MASK) != 0) {
        return STATUS_INVALID_PARAMETER;
    }
    if (Control->Namespace != NULL && Command.Cdw10 == NVME_IDENTIFY_NAMESPACE &&
        Command.NamespaceId == 0) {
        Command.NamespaceId = Control->Namespace->Id;
    }
    Specific->ProtocolDataLength = NvmeSmaller(Specific->ProtocolDataLength, PAGE_SIZE);
    return NvmeRunAdminWithData(Control->Controller, &Command, NvmeFromController, Data,
                                Specific->ProtocolDataLength, PAGE_SIZE,
                                NVME_DEFAULT_SECONDS * 1000, &Outcome);
}

static NTSTATUS NvmeQueryLogPage(PNVME_CONTROL Control, STORAGE_PROPERTY_ID Id,
                                 PSTORAGE_PROTOCOL_SPECIFIC_DATA Specific, PVOID Data)
{
    const STORAGE_PROTOCOL_DATA_SUBVALUE_GET_LOG_PAGE Extra = {
        .AsUlong = Specific->ProtocolDataRequestSubValue4};
    const ULONG DwordCount = Specific->ProtocolDataLength / sizeof(ULONG);
    NVME_OUTCOME Outcome;
    if (DwordCount == 0 || Specific->ProtocolDataLength % sizeof(ULONG) != 0 ||
        Specific->ProtocolDataLength > NVME_ADMIN_DATA_BYTES ||
        Specific->ProtocolDataRequestValue > 0xFF ||
        Specific->ProtocolDataRequestSubValue3 > 0xFFFF) {
        return STATUS_INVALID_PARAMETER;
    }
    NVME_COMMAND Command = {
        .Opcode = NVME_ADMIN_GET_LOG_PAGE,
        .NamespaceId = NVME_ALL_NAMESPACES,
        .Cdw10 = NVME_LOG_CDW10(Specific->ProtocolDataRequestValue, DwordCount) |
                 (Extra.RetainAsynEvent != 0 ? NVME_LOG_RETAIN_EVENT : 0) |
                 (ULONG)Extra.LogSpecificField << 8,
        .Cdw11 = NVME_LOG_CDW11(DwordCount) | Specific->ProtocolDataRequestSubValue3 << 16,
        .Cdw12 = Specific->ProtocolDataRequestSubValue,
        .Cdw13 = Specific->ProtocolDataRequestSubValue2};
    if (Specific->ProtocolDataRequestValue == NVME_LOG_SMART &&
        (Control->Controller->Data->LogAttributes & NVME_LPA_NAMESPACE_SMART) != 0) {
        Command.NamespaceId = NvmeNamespaceOfProperty(Control, Id, NVME_ALL_NAMESPACES);
    }
    const NTSTATUS Status = NvmeRunAdminWithData(
        Control->Controller, &Command, NvmeFromController, Data, Specific->ProtocolDataLength,
        Specific->ProtocolDataLength, NVME_DEFAULT_SECONDS * 1000, &Outcome);
    Specific->FixedProtocolReturnData = Outcome.Result;
    return Status;
}

static NTSTATUS NvmeQueryFeature(PNVME_CONTROL Control, STORAGE_PROPERTY_ID Id,
                                 PSTORAGE_PROTOCOL_SPECIFIC_DATA Specific, PVOID Data)
{
    NVME_OUTCOME Outcome;
    NVME_COMMAND Command = {.Opcode = NVME_ADMIN_GET_FEATURES,
                            .NamespaceId = NvmeNamespaceOfProperty(Control, Id, 0),
                            .Cdw10 = Specific->ProtocolDataRequestValue,
                            .Cdw11 = Specific->ProtocolDataRequestSubValue};
    // Some have data, a page at most.
    Specific->ProtocolDataLength = NvmeSmaller(Specific->ProtocolDataLength, PAGE_SIZE);
    const NTSTATUS Status = NvmeRunAdminWithData(Control->Controller, &Command, NvmeFromController,
                                                 Data, Specific->ProtocolDataLength, PAGE_SIZE,
                                                 NVME_DEFAULT_SECONDS * 1000, &Outcome);
    Specific->FixedProtocolReturnData = Outcome.Result;
    return Status;
}

// How far the query and the answer go. The offset of the data counts from Specific.
static NTSTATUS NvmeCheckSpecific(ULONG Type, ULONG Offset, ULONG Length, ULONG LeastOffset,
                                  ULONG Room)
{
    if (Type != ProtocolTypeNvme) {
        return STATUS_NOT_SUPPORTED;
    }
    if (Length == 0) {
        return STATUS_SUCCESS;
    }
    if (Offset < LeastOffset) {
        return STATUS_INVALID_PARAMETER;
    }
    return Offset > Room || Length > Room - Offset ? STATUS_BUFFER_TOO_SMALL : STATUS_SUCCESS;
}

NTSTATUS NvmeQueryProtocol(PNVME_CONTROL Control)
{
    static NTSTATUS (*const Routines[])(PNVME_CONTROL, STORAGE_PROPERTY_ID,
                                        PSTORAGE_PROTOCOL_SPECIFIC_DATA, PVOID) = {
        [NVMeDataTypeIdentify] = NvmeQueryIdentify,
        [NVMeDataTypeLogPage] = NvmeQueryLogPage,
        [NVMeDataTypeFeature] = NvmeQueryFeature,
    };
    const ULONG QueryOffset = FIELD_OFFSET(STORAGE_PROPERTY_QUERY, AdditionalParameters);
    const ULONG AnswerOffset = FIELD_OFFSET(STORAGE_PROTOCOL_DATA_DESCRIPTOR, ProtocolSpecificData);
    const PSTORAGE_PROTOCOL_DATA_DESCRIPTOR Answer = Control->Buffer;
    STORAGE_PROTOCOL_SPECIFIC_DATA Specific;
    NT_ASSERT(QueryOffset == AnswerOffset);
    if (Control->InputByteCount < QueryOffset + sizeof(Specific)) {
        return STATUS_INVALID_PARAMETER;
    }
    if (Control->OutputByteCount < sizeof(*Answer)) {
        return STATUS_BUFFER_TOO_SMALL;
    }
    RtlCopyMemory(&Specific, (PUCHAR)Control->Buffer + QueryOffset, sizeof(Specific));
    const STORAGE_PROPERTY_ID Id = ((const STORAGE_PROPERTY_QUERY *)Control->Buffer)->PropertyId;
    NTSTATUS Status = NvmeCheckSpecific(Specific.ProtocolType, Specific.ProtocolDataOffset,
                                        Specific.ProtocolDataLength, sizeof(Specific),
                                        Control->OutputByteCount - AnswerOffset);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    if (Specific.DataType >= ARRAYSIZE(Routines) || Routines[Specific.DataType] == NULL) {
        return STATUS_INVALID_PARAMETER;
    }
    Specific.FixedProtocolReturnData = 0;
    PUCHAR Data = (PUCHAR)Control->Buffer + AnswerOffset + Specific.ProtocolDataOffset;
    if (Specific.ProtocolDataLength == 0) {
        Specific.ProtocolDataOffset = 0;
        Data = NULL;
    }
    RtlZeroMemory(Control->Buffer, Control->OutputByteCount);
    Status = Routines[Specific.DataType](Control, Id, &Specific, Data);
    if (NT_SUCCESS(Status)) {
        Answer->Version = sizeof(*Answer);
        Answer->Size = sizeof(*Answer);
        Answer->ProtocolSpecificData = Specific;
        Control->Information =
            Specific.ProtocolDataLength == 0
                ? sizeof(*Answer)
                : AnswerOffset + Specific.ProtocolDataOffset + Specific.ProtocolDataLength;
    }
    return Status;
}

NTSTATUS NvmeSetProperty(PNVME_CONTROL Control)
{
    const ULONG SetOffset = FIELD_OFFSET(STORAGE_PROPERTY_SET, AdditionalParameters);
    const STORAGE_PROPERTY_SET *Set = Control->Buffer;
    STORAGE_PROTOCOL_SPECIFIC_DATA_EXT Specific;
    NVME_OUTCOME Outcome;
    if (Set->PropertyId != StorageAdapterProtocolSpecificProperty &&
        Set->PropertyId != StorageDeviceProtocolSpecificProperty) {
        return STATUS_NOT_SUPPORTED;
    }
    if (Set->SetType == PropertyExistsSet) {
        return STATUS_SUCCESS;
    }
    if (Set->SetType != PropertyStandardSet ||
        Control->InputByteCount < SetOffset + sizeof(Specific)) {
        return STATUS_INVALID_PARAMETER;
    }
    RtlCopyMemory(&Specific, (PUCHAR)Control->Buffer + SetOffset, sizeof(Specific));
    NTSTATUS Status = NvmeCheckSpecific(Specific.ProtocolType, Specific.ProtocolDataOffset,
                                        Specific.ProtocolDataLength, sizeof(Specific),
                                        Control->InputByteCount - SetOffset);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    if (Specific.DataType != NVMeDataTypeFeature || Specific.ProtocolDataLength > PAGE_SIZE) {
        return STATUS_INVALID_PARAMETER;
    }
    if (NvmeIsOwnFeature(Specific.ProtocolDataValue)) {
        return STATUS_ACCESS_DENIED;
    }
    NVME_COMMAND Command = {.Opcode = NVME_ADMIN_SET_FEATURES,
                            .NamespaceId = NvmeNamespaceOfProperty(Control, Set->PropertyId, 0),
                            .Cdw10 = Specific.ProtocolDataValue,
                            .Cdw11 = Specific.ProtocolDataSubValue,
                            .Cdw12 = Specific.ProtocolDataSubValue2,
                            .Cdw13 = Specific.ProtocolDataSubValue3,
                            .Cdw14 = Specific.ProtocolDataSubValue4,
                            .Cdw15 = Specific.ProtocolDataSubValue5};
    Status = NvmeRunAdminWithData(Control->Controller, &Command, NvmeToController,
                                  (PUCHAR)Control->Buffer + SetOffset + Specific.ProtocolDataOffset,
                                  Specific.ProtocolDataLength, PAGE_SIZE,
                                  NVME_DEFAULT_SECONDS * 1000, &Outcome);
    if (NT_SUCCESS(Status) &&
        Control->OutputByteCount >= sizeof(STORAGE_PROTOCOL_DATA_DESCRIPTOR_EXT)) {
        const PSTORAGE_PROTOCOL_DATA_DESCRIPTOR_EXT Answer = Control->Buffer;
        Specific.FixedProtocolReturnData = Outcome.Result;
        Answer->Version = sizeof(*Answer);
        Answer->Size = sizeof(*Answer);
        Answer->ProtocolSpecificData = Specific;
        Control->Information = sizeof(*Answer);
    }
    return Status;
}

// -------------------------------------------------------------------------------------------------
// Commands of the caller's.

// How many bytes a command moves.
typedef enum _NVME_LENGTH_RULE {
    NvmeMovesNothing,
    NvmeMovesPage,       // a page at most, whatever the caller says
    NvmeMovesLogDwords,  // as Get Log Page
    NvmeMovesDwords,     // Cdw10, zero-based
    NvmeMovesBytes,      // Cdw11
    NvmeMovesBlocks,     // Cdw12, as reads
    NvmeMovesRanges,     // Cdw10, zero-based, 16 bytes each
    NvmeMovesCopyRanges, // Cdw12, zero-based, 32 bytes each
    NvmeMovesAsDeclared, // only the vendor knows
} NVME_LENGTH_RULE;

typedef struct _NVME_PASSED_COMMAND {
    UCHAR Opcode;
    UCHAR LengthRule;
    USHORT Needs;           // of OptionalAdminCommands, or OptionalCommands
    BOOLEAN ChangesDevices; // a scan must follow
} NVME_PASSED_COMMAND;

// P1. What is not here is refused; vendors' commands are let through.
static const NVME_PASSED_COMMAND NvmePassedAdmin[] = {
    {NVME_ADMIN_GET_LOG_PAGE, NvmeMovesLogDwords, 0, FALSE},
    {NVME_ADMIN_IDENTIFY, NvmeMovesPage, 0, FALSE},
    {NVME_ADMIN_SET_FEATURES, NvmeMovesPage, 0, FALSE}, // but NvmeIsOwnFeature
    {NVME_ADMIN_GET_FEATURES, NvmeMovesPage, 0, FALSE},
    {NVME_ADMIN_NAMESPACE_MANAGEMENT, NvmeMovesPage, NVME_OACS_NAMESPACES, TRUE},
    {NVME_ADMIN_NAMESPACE_ATTACHMENT, NvmeMovesPage, NVME_OACS_NAMESPACES, TRUE},
    {NVME_ADMIN_FIRMWARE_COMMIT, NvmeMovesNothing, NVME_OACS_FIRMWARE, FALSE},
    {NVME_ADMIN_FIRMWARE_DOWNLOAD, NvmeMovesDwords, NVME_OACS_FIRMWARE, FALSE},
    {NVME_ADMIN_SELF_TEST, NvmeMovesNothing, 0x10, FALSE},
    {NVME_ADMIN_DIRECTIVE_RECEIVE, NvmeMovesDwords, 0x20, FALSE},
    {NVME_ADMIN_SECURITY_SEND, NvmeMovesBytes, NVME_OACS_SECURITY, FALSE},
    {NVME_ADMIN_SECURITY_RECEIVE, NvmeMovesBytes, NVME_OACS_SECURITY, FALSE},
};

static const NVME_PASSED_COMMAND NvmePassedNvm[] = {
    {NVME_NVM_FLUSH, NvmeMovesNothing, 0, FALSE},
    {NVME_NVM_WRITE, NvmeMovesBlocks, 0, FALSE},
    {NVME_NVM_READ, NvmeMovesBlocks, 0, FALSE},
    {NVME_NVM_WRITE_UNCORRECTABLE, NvmeMovesNothing, NVME_ONCS_WRITE_UNCORRECTABLE, FALSE},
    {NVME_NVM_COMPARE, NvmeMovesBlocks, NVME_ONCS_COMPARE, FALSE},
    {NVME_NVM_WRITE_ZEROES, NvmeMovesNothing, NVME_ONCS_WRITE_ZEROES, FALSE},
    {NVME_NVM_DATASET_MANAGEMENT, NvmeMovesRanges, NVME_ONCS_DATASET_MANAGEMENT, FALSE},
    {NVME_NVM_VERIFY, NvmeMovesNothing, NVME_ONCS_VERIFY, FALSE},
    {NVME_NVM_COPY, NvmeMovesCopyRanges, NVME_ONCS_COPY, FALSE},
};

static const NVME_PASSED_COMMAND NvmeVendorCommand = {0, NvmeMovesAsDeclared, 0, FALSE};

static const NVME_PASSED_COMMAND *NvmeLookUpPassed(const NVME_PASSED_COMMAND *Table, ULONG Count,
                                                   UCHAR Opcode, UCHAR FirstVendor)
{
    for (ULONG Index = 0; Index < Count; Index += 1) {
        if (Table[Index].Opcode == Opcode) {
            return &Table[Index];
        }
    }
    return Opcode >= FirstVendor ? &NvmeVendorCommand : NULL;
}

// One command of the caller's, checked and taken apart.
typedef struct _NVME_PASSED {
    PSTORAGE_PROTOCOL_COMMAND Request;
    NVME_COMMAND Command;
    const NVME_PASSED_COMMAND *Kind;
    NVME_DIRECTION Direction;
    PUCHAR Data;
    ULONG ByteCount;
    BOOLEAN IsAdmin;
} NVME_PASSED, *PNVME_PASSED;

static BOOLEAN NvmeLiesBehind(ULONG Offset, ULONG ByteCount, ULONG EndOffset)
{
    const ULONG Least = FIELD_OFFSET(STORAGE_PROTOCOL_COMMAND, Command) + sizeof(NVME_COMMAND);
    return ByteCount == 0 || (Offset >= Least && Offset % sizeof(ULONG64) == 0 &&
                              Offset <= EndOffset && ByteCount <= EndOffset - Offset);
}

static NTSTATUS NvmeCheckPassedLayout(const NVME_CONTROL *Control)
{
    const STORAGE_PROTOCOL_COMMAND *Request = Control->Buffer;
    const ULONG Least = FIELD_OFFSET(STORAGE_PROTOCOL_COMMAND, Command) + sizeof(NVME_COMMAND);
    if (Control->InputByteCount < Least) {
        return STATUS_INVALID_PARAMETER;
    }
    if (Control->OutputByteCount < Least) {
        return STATUS_BUFFER_TOO_SMALL;
    }
    const ULONG To = Request->DataToDeviceTransferLength;
    const ULONG From = Request->DataFromDeviceTransferLength;
    const BOOLEAN IsGood =
        Request->Version == STORAGE_PROTOCOL_STRUCTURE_VERSION &&
        Request->Length == sizeof(*Request) && Request->ProtocolType == ProtocolTypeNvme &&
        Request->CommandLength == STORAGE_PROTOCOL_COMMAND_LENGTH_NVME &&
        (Request->Flags & ~STORAGE_PROTOCOL_COMMAND_FLAG_ADAPTER_REQUEST) == 0 &&
        (To == 0 || From == 0) &&
        NvmeLiesBehind(Request->DataToDeviceBufferOffset, To, Control->InputByteCount) &&
        NvmeLiesBehind(Request->DataFromDeviceBufferOffset, From, Control->OutputByteCount) &&
        NvmeLiesBehind(Request->ErrorInfoOffset, Request->ErrorInfoLength,
                       Control->OutputByteCount);
    return IsGood ? STATUS_SUCCESS : STATUS_INVALID_PARAMETER;
}

// P2. MAXULONG64: as the caller declares.
static ULONG64 NvmeMovedBytes(const NVME_CONTROL *Control, const NVME_PASSED *Passed)
{
    const NVME_COMMAND *Command = &Passed->Command;
    switch ((NVME_LENGTH_RULE)Passed->Kind->LengthRule) {
    case NvmeMovesNothing:
        return 0;
    case NvmeMovesPage:
        return PAGE_SIZE;
    case NvmeMovesLogDwords:
        return ((ULONG64)(Command->Cdw11 & 0xFFFF) << 16 | Command->Cdw10 >> 16) * 4 + 4;
    case NvmeMovesDwords:
        return (ULONG64)Command->Cdw10 * 4 + 4;
    case NvmeMovesBytes:
        return Command->Cdw11;
    case NvmeMovesBlocks:
        return ((ULONG64)(Command->Cdw12 & NVME_BLOCK_COUNT_MASK) + 1) << Control->BlockShift;
    case NvmeMovesRanges:
        return ((ULONG64)(Command->Cdw10 & 0xFF) + 1) * sizeof(NVME_RANGE);
    case NvmeMovesCopyRanges:
        return ((ULONG64)(Command->Cdw12 & 0xFF) + 1) * 2 * sizeof(NVME_RANGE);
    case NvmeMovesAsDeclared:
        break;
    }
    return MAXULONG64;
}

static NVME_DIRECTION NvmeDirectionOf(UCHAR Opcode)
{
    switch (Opcode & (NVME_OPCODE_TO_CONTROLLER | NVME_OPCODE_FROM_CONTROLLER)) {
    case NVME_OPCODE_TO_CONTROLLER:
        return NvmeToController;
    case NVME_OPCODE_FROM_CONTROLLER:
        return NvmeFromController;
    }
    return NvmeNoData;
}

static NTSTATUS NvmeCheckPassedLength(const NVME_CONTROL *Control, const NVME_PASSED *Passed)
{
    const ULONG64 Moved = NvmeMovedBytes(Control, Passed);
    if (Passed->ByteCount != 0 && Passed->Direction != NvmeDirectionOf(Passed->Command.Opcode)) {
        return STATUS_INVALID_PARAMETER;
    }
    if (Moved == PAGE_SIZE && Passed->Kind->LengthRule == NvmeMovesPage) {
        return Passed->ByteCount <= PAGE_SIZE ? STATUS_SUCCESS : STATUS_INVALID_PARAMETER;
    }
    if (Moved != MAXULONG64 && Moved != Passed->ByteCount) {
        return STATUS_INVALID_PARAMETER;
    }
    const ULONG Most =
        Passed->IsAdmin ? NVME_ADMIN_DATA_BYTES : Control->Controller->MaximumTransferBytes;
    return Passed->ByteCount <= Most ? STATUS_SUCCESS : STATUS_INVALID_BUFFER_SIZE;
}

// Through a namespace goes what is for that namespace, unless the caller says otherwise.
static NTSTATUS NvmeCheckPassedNamespace(const NVME_CONTROL *Control, PNVME_PASSED Passed)
{
    const PNVME_COMMAND Command = &Passed->Command;
    const BOOLEAN IsForAdapter =
        (Passed->Request->Flags & STORAGE_PROTOCOL_COMMAND_FLAG_ADAPTER_REQUEST) != 0;
    if (Passed->IsAdmin && (IsForAdapter || Control->Namespace == NULL)) {
        return STATUS_SUCCESS;
    }
    if (Control->Namespace == NULL || IsForAdapter) {
        return STATUS_INVALID_DEVICE_REQUEST;
    }
    if (Command->NamespaceId == 0) {
        Command->NamespaceId = Control->Namespace->Id;
    }
    return Command->NamespaceId == Control->Namespace->Id ? STATUS_SUCCESS
                                                          : STATUS_INVALID_PARAMETER;
}

static NTSTATUS NvmeCheckPassedBlocks(const NVME_CONTROL *Control, const NVME_PASSED *Passed)
{
    const NVME_COMMAND *Command = &Passed->Command;
    const ULONG64 First = (ULONG64)Command->Cdw11 << 32 | Command->Cdw10;
    const ULONG64 Count = (ULONG64)(Command->Cdw12 & NVME_BLOCK_COUNT_MASK) + 1;
    if (Passed->IsAdmin || Passed->Kind->LengthRule != NvmeMovesBlocks) {
        return STATUS_SUCCESS; // what else has blocks, the controller checks
    }
    return First <= Control->Namespace->BlockCount &&
                   Count <= Control->Namespace->BlockCount - First
               ? STATUS_SUCCESS
               : STATUS_NONEXISTENT_SECTOR;
}

static NTSTATUS NvmeFindPassedKind(const NVME_CONTROL *Control, PNVME_PASSED Passed)
{
    const NVME_IDENTIFY_CONTROLLER_DATA *Data = Control->Controller->Data;
    const UCHAR Opcode = Passed->Command.Opcode;
    Passed->Kind = Passed->IsAdmin ? NvmeLookUpPassed(NvmePassedAdmin, ARRAYSIZE(NvmePassedAdmin),
                                                      Opcode, NVME_ADMIN_FIRST_VENDOR)
                                   : NvmeLookUpPassed(NvmePassedNvm, ARRAYSIZE(NvmePassedNvm),
                                                      Opcode, NVME_NVM_FIRST_VENDOR);
    if (Passed->Kind == NULL ||
        (Passed->Command.Flags & (NVME_COMMAND_DATA_MASK | NVME_COMMAND_FUSED_MASK)) != 0) {
        return STATUS_ACCESS_DENIED; // P1
    }
    if (Passed->IsAdmin && Opcode == NVME_ADMIN_SET_FEATURES &&
        NvmeIsOwnFeature(Passed->Command.Cdw10)) {
        return STATUS_ACCESS_DENIED;
    }
    const USHORT Offered = Passed->IsAdmin ? Data->OptionalAdminCommands : Data->OptionalCommands;
    return (Passed->Kind->Needs & ~Offered) == 0 ? STATUS_SUCCESS : STATUS_NOT_SUPPORTED;
}

static NTSTATUS NvmeTakePassedApart(const NVME_CONTROL *Control, PNVME_PASSED Passed)
{
    const PSTORAGE_PROTOCOL_COMMAND Request = Control->Buffer;
    NTSTATUS Status = NvmeCheckPassedLayout(Control);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    RtlZeroMemory(Passed, sizeof(*Passed));
    Passed->Request = Request;
    RtlCopyMemory(&Passed->Command, Request->Command, sizeof(Passed->Command));
    Passed->Command.Metadata = 0;
    Passed->Command.Prp1 = 0;
    Passed->Command.Prp2 = 0;
    Passed->IsAdmin = Request->CommandSpecific == STORAGE_PROTOCOL_SPECIFIC_NVME_ADMIN_COMMAND;
    if (!Passed->IsAdmin &&
        Request->CommandSpecific != STORAGE_PROTOCOL_SPECIFIC_NVME_NVM_COMMAND) {
        return STATUS_INVALID_PARAMETER;
    }
    if (Request->DataToDeviceTransferLength != 0) {
        Passed->Direction = NvmeToController;
        Passed->ByteCount = Request->DataToDeviceTransferLength;
        Passed->Data = (PUCHAR)Request + Request->DataToDeviceBufferOffset;
    } else if (Request->DataFromDeviceTransferLength != 0) {
        Passed->Direction = NvmeFromController;
        Passed->ByteCount = Request->DataFromDeviceTransferLength;
        Passed->Data = (PUCHAR)Request + Request->DataFromDeviceBufferOffset;
    }
    Status = NvmeCheckPassedNamespace(Control, Passed);
    if (NT_SUCCESS(Status)) {
        Status = NvmeFindPassedKind(Control, Passed);
    }
    if (NT_SUCCESS(Status)) {
        Status = NvmeCheckPassedLength(Control, Passed);
    }
    return NT_SUCCESS(Status) ? NvmeCheckPassedBlocks(Control, Passed) : Status;
}

static NTSTATUS NvmeRunPassedAdmin(const NVME_CONTROL *Control, PNVME_PASSED Passed,
                                   ULONG Milliseconds, PNVME_OUTCOME Outcome)
{
    const PNVME_CONTROLLER Controller = Control->Controller;
    ULONG Moved = Passed->ByteCount;
    if (Passed->Kind->LengthRule == NvmeMovesPage) {
        Moved = PAGE_SIZE;
    }
    const NTSTATUS Status =
        NvmeRunAdminWithData(Controller, &Passed->Command, Passed->Direction, Passed->Data,
                             Passed->ByteCount, Moved, Milliseconds, Outcome);
    if (NT_SUCCESS(Status) && Passed->Kind->ChangesDevices) {
        (VOID) KeWaitForSingleObject(&Controller->ConfigurationMutex, Executive, KernelMode, FALSE,
                                     NULL);
        (VOID) NvmeScanNamespaces(Controller);
        (VOID) KeReleaseMutex(&Controller->ConfigurationMutex, FALSE);
    }
    return Status;
}

// The data are in the system buffer: nonpaged pool.
static NTSTATUS NvmeRunPassedNvm(const NVME_CONTROL *Control, PNVME_PASSED Passed,
                                 PNVME_OUTCOME Outcome)
{
    PMDL Mdl = NULL;
    if (Passed->ByteCount != 0) {
        Mdl = IoAllocateMdl(Passed->Data, Passed->ByteCount, FALSE, FALSE, NULL);
        if (Mdl == NULL) {
            return STATUS_INSUFFICIENT_RESOURCES;
        }
        MmBuildMdlForNonPagedPool(Mdl);
    }
    const NVME_DATA Data = {.Mdl = Mdl,
                            .ByteCount = Passed->ByteCount,
                            .BlockShift = Control->BlockShift,
                            .WriteToDevice = Passed->Direction == NvmeToController};
    const NTSTATUS Status = NvmeRunNvm(Control->Namespace, &Passed->Command, &Data, Outcome);
    if (Mdl != NULL) {
        IoFreeMdl(Mdl);
    }
    return Status;
}

// The newest entry of the error log; its event, if there is one, stays.
static VOID NvmeCopyErrorEntry(const NVME_CONTROL *Control, const STORAGE_PROTOCOL_COMMAND *Request)
{
    NVME_ERROR_LOG_ENTRY Entry;
    if (Request->ErrorInfoLength != 0 &&
        NT_SUCCESS(NvmeReadLogPage(Control->Controller, NVME_ALL_NAMESPACES, NVME_LOG_ERROR, &Entry,
                                   sizeof(Entry)))) {
        RtlCopyMemory((PUCHAR)Request + Request->ErrorInfoOffset, &Entry,
                      NvmeSmaller(Request->ErrorInfoLength, sizeof(Entry)));
    }
}

// The request is a success when the controller has answered, whatever that was.
NTSTATUS NvmePassCommand(PNVME_CONTROL Control)
{
    const PSTORAGE_PROTOCOL_COMMAND Request = Control->Buffer;
    NVME_OUTCOME Outcome = {0};
    NVME_PASSED Passed;
    NTSTATUS Status = NvmeTakePassedApart(Control, &Passed);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    if (Control->OutputByteCount > Control->InputByteCount) {
        RtlZeroMemory((PUCHAR)Request + Control->InputByteCount,
                      Control->OutputByteCount - Control->InputByteCount);
    }
    if (Passed.IsAdmin) {
        const ULONG Seconds = Request->TimeOutValue == 0
                                  ? NVME_DEFAULT_SECONDS
                                  : NvmeSmaller(Request->TimeOutValue, NVME_MOST_SECONDS);
        Status = NvmeRunPassedAdmin(Control, &Passed, Seconds * 1000, &Outcome);
    } else {
        Status = NvmeRunPassedNvm(Control, &Passed, &Outcome);
    }
    if (!NT_SUCCESS(Status) && Outcome.StatusField == 0) {
        return Status;
    }
    Request->ReturnStatus =
        NT_SUCCESS(Status) ? STORAGE_PROTOCOL_STATUS_SUCCESS : STORAGE_PROTOCOL_STATUS_ERROR;
    Request->ErrorCode = Outcome.StatusField >> 1;
    Request->FixedProtocolReturnData = Outcome.Result;
    if (!NT_SUCCESS(Status)) {
        NvmeCopyErrorEntry(Control, Request);
    }
    Control->Information = Control->OutputByteCount;
    return STATUS_SUCCESS;
}
