// What the NVM Express Base Specification, revision 1.4, fixes: registers, commands, completions,
// Identify data, log pages, features. Everything is little-endian. "Zero-based" means that 0 stands
// for 1.
#pragma once

#include <wdm.h>

//
// Controller registers, at the start of BAR0 ("Controller Registers"). Accesses are 4 or 8 bytes,
// aligned.
//

typedef struct _NVME_REGISTERS {
    ULONG64 Cap;    // 0x00 controller capabilities
    ULONG Vs;       // 0x08 version: major << 16 | minor << 8 | tertiary; never 0
    ULONG IntMs;    // 0x0C interrupt mask set
    ULONG IntMc;    // 0x10 interrupt mask clear
    ULONG Cc;       // 0x14 controller configuration
    ULONG Reserved; // 0x18
    ULONG Csts;     // 0x1C controller status
    ULONG Nssr;     // 0x20 subsystem reset
    ULONG Aqa;      // 0x24 admin queue attributes
    ULONG64 Asq;    // 0x28 physical address of the admin submission queue
    ULONG64 Acq;    // 0x30 physical address of the admin completion queue
    ULONG CmbLoc;   // 0x38 where the controller memory buffer is
    ULONG CmbSz;    // 0x3C how large, and what it may be used for
    ULONG Reserved40[4];
    ULONG64 CmbMsc; // 0x50 the address by which the controller knows its buffer; and what is on
    ULONG CmbSts;   // 0x58
    ULONG Reserved5C[0x369];
    ULONG PmrCap;  // 0xE00 persistent memory region: capabilities
    ULONG PmrCtl;  // 0xE04
    ULONG PmrSts;  // 0xE08
    ULONG PmrEbs;  // 0xE0C elasticity buffer
    ULONG PmrSwtp; // 0xE10 sustained write throughput
    ULONG PmrMscl; // 0xE14 the address by which the controller knows it, low and high half
    ULONG PmrMscu; // 0xE18
} NVME_REGISTERS, *PNVME_REGISTERS;

C_ASSERT(FIELD_OFFSET(NVME_REGISTERS, Vs) == 0x08);
C_ASSERT(FIELD_OFFSET(NVME_REGISTERS, IntMs) == 0x0C);
C_ASSERT(FIELD_OFFSET(NVME_REGISTERS, Cc) == 0x14);
C_ASSERT(FIELD_OFFSET(NVME_REGISTERS, Csts) == 0x1C);
C_ASSERT(FIELD_OFFSET(NVME_REGISTERS, Aqa) == 0x24);
C_ASSERT(FIELD_OFFSET(NVME_REGISTERS, Asq) == 0x28);
C_ASSERT(FIELD_OFFSET(NVME_REGISTERS, Acq) == 0x30);
C_ASSERT(FIELD_OFFSET(NVME_REGISTERS, CmbLoc) == 0x38);
C_ASSERT(FIELD_OFFSET(NVME_REGISTERS, CmbMsc) == 0x50);
C_ASSERT(FIELD_OFFSET(NVME_REGISTERS, CmbSts) == 0x58);
C_ASSERT(FIELD_OFFSET(NVME_REGISTERS, PmrCap) == 0xE00);
C_ASSERT(FIELD_OFFSET(NVME_REGISTERS, PmrMscu) == 0xE18);

// Doorbells: for queue pair n, the tail of the submission queue and then the head of the completion
// queue, NVME_CAP_DOORBELL_STRIDE bytes from one to the next.
#define NVME_DOORBELL_OFFSET 0x1000

#define NVME_CAP_QUEUE_ENTRIES(Cap) ((ULONG)((Cap)&0xFFFF) + 1)           // per I/O queue, at most
#define NVME_CAP_CONTIGUOUS_QUEUES(Cap) ((BOOLEAN)(((Cap) >> 16) & 1))    // none other
#define NVME_CAP_READY_TIMEOUT(Cap) (((ULONG)((Cap) >> 24) & 0xFF) * 500) // milliseconds
#define NVME_CAP_DOORBELL_STRIDE(Cap) (4u << (((Cap) >> 32) & 0xF))       // bytes
#define NVME_CAP_SUBSYSTEM_RESET(Cap) ((BOOLEAN)(((Cap) >> 36) & 1))
#define NVME_CAP_NVM_COMMANDS(Cap) ((BOOLEAN)(((Cap) >> 37) & 1)) // the NVM command set exists
#define NVME_CAP_MINIMUM_PAGE_SHIFT(Cap) (12 + ((ULONG)((Cap) >> 48) & 0xF)) // log2 of bytes
#define NVME_CAP_MAXIMUM_PAGE_SHIFT(Cap) (12 + ((ULONG)((Cap) >> 52) & 0xF))
#define NVME_CAP_PERSISTENT_MEMORY(Cap) ((BOOLEAN)(((Cap) >> 56) & 1))
#define NVME_CAP_MEMORY_BUFFER(Cap) ((BOOLEAN)(((Cap) >> 57) & 1))

#define NVME_VERSION(Major, Minor) ((ULONG)(Major) << 16 | (ULONG)(Minor) << 8)

#define NVME_CC_ENABLE 0x1
#define NVME_CC_PAGE_SHIFT(Shift) (((ULONG)(Shift)-12) << 7)
#define NVME_CC_SHUTDOWN_MASK (3u << 14)
#define NVME_CC_SHUTDOWN_NORMAL (1u << 14)
#define NVME_CC_SHUTDOWN_ABRUPT (2u << 14)
#define NVME_CC_COMMAND_SHIFT(Shift) ((ULONG)(Shift) << 16)    // log2 of the bytes of a command
#define NVME_CC_COMPLETION_SHIFT(Shift) ((ULONG)(Shift) << 20) // log2 of the bytes of a completion

#define NVME_CSTS_READY 0x1
#define NVME_CSTS_FATAL 0x2
#define NVME_CSTS_SHUTDOWN_MASK 0xC
#define NVME_CSTS_SHUTDOWN_COMPLETE 0x8

#define NVME_AQA_ENTRIES(Count)                                                                    \
    (((ULONG)(Count)-1) << 16 | ((ULONG)(Count)-1)) // both queues, zero-based

// Controller memory buffer: units of 4 KiB << 4 * SZU. CmbLoc says nothing, and CmbSz is 0, before
// CRE is set.
#define NVME_CMBLOC_BAR(Loc) ((Loc)&0x7) // 2 to 5: the register of the configuration space
#define NVME_CMBLOC_OFFSET(Loc) ((ULONG64)((Loc) >> 12)) // units
#define NVME_CMBSZ_SUBMISSION_QUEUES 0x1
#define NVME_CMBSZ_COMPLETION_QUEUES 0x2
#define NVME_CMBSZ_LISTS 0x4
#define NVME_CMBSZ_READ_DATA 0x8
#define NVME_CMBSZ_WRITE_DATA 0x10
#define NVME_CMBSZ_UNIT_SHIFT(Size) (12 + 4 * (((Size) >> 8) & 0xF))
#define NVME_CMBSZ_UNITS(Size) ((ULONG64)((Size) >> 12))

#define NVME_CMBMSC_CAPABILITIES 0x1 // CRE: CmbLoc and CmbSz tell
#define NVME_CMBMSC_ENABLE 0x2       // CMSE: addresses from CBA on mean the buffer
#define NVME_CMBMSC_ADDRESS_MASK 0xFFFFFFFFFFFFF000ull
#define NVME_CMBSTS_ADDRESS_INVALID 0x1

#define NVME_PMRCAP_READ_DATA 0x8
#define NVME_PMRCAP_WRITE_DATA 0x10
#define NVME_PMRCAP_BAR(Cap) (((Cap) >> 5) & 0x7)
#define NVME_PMRCAP_TIME_UNIT(Cap) ((((Cap) >> 8) & 0x3) == 0 ? 500u : 60000u) // milliseconds
#define NVME_PMRCAP_BARRIER_BY_READ 0x400   // a read of the memory makes earlier writes durable
#define NVME_PMRCAP_BARRIER_BY_STATUS 0x800 // a read of PmrSts does
#define NVME_PMRCAP_TIMEOUT(Cap) (((Cap) >> 16) & 0xFF) // time units until NotReady is clear
#define NVME_PMRCAP_MEMORY_SPACE 0x1000000
#define NVME_PMRCTL_ENABLE 0x1
#define NVME_PMRSTS_ERROR_MASK 0xFF
#define NVME_PMRSTS_NOT_READY 0x100
#define NVME_PMRSTS_HEALTH(Status) (((Status) >> 9) & 0x7)

typedef enum _NVME_PMR_HEALTH {
    NvmePmrNormal = 0,
    NvmePmrRestoreFailed = 1,
    NvmePmrReadOnly = 2,
    NvmePmrUnreliable = 3,
} NVME_PMR_HEALTH;

//
// Commands and completions ("Submission Queue Entry", "Completion Queue Entry").
//

typedef struct _NVME_COMMAND {
    UCHAR Opcode;
    UCHAR Flags; // 0: not fused, data described by PRPs
    USHORT CommandId;
    ULONG NamespaceId;
    ULONG64 Reserved;
    ULONG64 Metadata;
    ULONG64 Prp1; // first page of the data; may start inside the page, at a multiple of 4
    ULONG64 Prp2; // the second page, or a list of all pages but the first
    ULONG Cdw10;  // command dwords 10 to 15: their meaning depends on the opcode
    ULONG Cdw11;
    ULONG Cdw12;
    ULONG Cdw13;
    ULONG Cdw14;
    ULONG Cdw15;
} NVME_COMMAND, *PNVME_COMMAND;

#define NVME_COMMAND_SHIFT 6
C_ASSERT(sizeof(NVME_COMMAND) == 1 << NVME_COMMAND_SHIFT);
C_ASSERT(FIELD_OFFSET(NVME_COMMAND, Prp1) == 24);
C_ASSERT(FIELD_OFFSET(NVME_COMMAND, Cdw10) == 40);

#define NVME_COMMAND_USES_SGL 0x40  // Flags: Prp1 and Prp2 are one NVME_SGL_DESCRIPTOR
#define NVME_COMMAND_DATA_MASK 0xC0 // Flags: how the data are described
#define NVME_COMMAND_FUSED_MASK 0x3 // Flags
#define NVME_ALL_NAMESPACES 0xFFFFFFFFu

typedef struct _NVME_SGL_DESCRIPTOR {
    ULONG64 Address;
    ULONG ByteCount;
    UCHAR Reserved[3];
    UCHAR Identifier; // type << 4 | subtype
} NVME_SGL_DESCRIPTOR, *PNVME_SGL_DESCRIPTOR;

#define NVME_SGL_DATA_BLOCK 0x00
#define NVME_SGL_SEGMENT 0x20
#define NVME_SGL_LAST_SEGMENT 0x30
C_ASSERT(sizeof(NVME_SGL_DESCRIPTOR) == 16);

typedef struct _NVME_COMPLETION {
    ULONG Result;
    ULONG Reserved;
    USHORT SubmissionHead;
    USHORT SubmissionQueueId;
    USHORT CommandId;
    USHORT Status; // phase and status fields, below
} NVME_COMPLETION, *PNVME_COMPLETION;

#define NVME_COMPLETION_SHIFT 4
C_ASSERT(sizeof(NVME_COMPLETION) == 1 << NVME_COMPLETION_SHIFT);
C_ASSERT(FIELD_OFFSET(NVME_COMPLETION, CommandId) == 12);

#define NVME_STATUS_PHASE 0x1 // flips each time the controller wraps round the queue
#define NVME_STATUS_CODE(Status) (((Status) >> 1) & 0xFF)
#define NVME_STATUS_TYPE(Status) (((Status) >> 9) & 0x7)
#define NVME_STATUS_MORE 0x4000         // the error log has an entry about it
#define NVME_STATUS_DO_NOT_RETRY 0x8000 // the same command will fail again

typedef enum _NVME_STATUS_TYPE_VALUE {
    NvmeStatusGeneric = 0,
    NvmeStatusCommandSpecific = 1,
    NvmeStatusMedia = 2,
    NvmeStatusPath = 3,
} NVME_STATUS_TYPE_VALUE;

// Admin commands.
#define NVME_ADMIN_DELETE_SUBMISSION_QUEUE 0x00
#define NVME_ADMIN_CREATE_SUBMISSION_QUEUE 0x01
#define NVME_ADMIN_GET_LOG_PAGE 0x02
#define NVME_ADMIN_DELETE_COMPLETION_QUEUE 0x04
#define NVME_ADMIN_CREATE_COMPLETION_QUEUE 0x05
#define NVME_ADMIN_IDENTIFY 0x06
#define NVME_ADMIN_ABORT                                                                           \
    0x08 // Cdw10 = command id << 16 | submission queue; Result bit 0: not aborted
#define NVME_ADMIN_SET_FEATURES 0x09
#define NVME_ADMIN_GET_FEATURES 0x0A
#define NVME_ADMIN_ASYNC_EVENT 0x0C
#define NVME_ADMIN_NAMESPACE_MANAGEMENT 0x0D
#define NVME_ADMIN_FIRMWARE_COMMIT 0x10
#define NVME_ADMIN_FIRMWARE_DOWNLOAD 0x11
#define NVME_ADMIN_SELF_TEST 0x14
#define NVME_ADMIN_NAMESPACE_ATTACHMENT 0x15
#define NVME_ADMIN_KEEP_ALIVE 0x18
#define NVME_ADMIN_DIRECTIVE_SEND 0x19
#define NVME_ADMIN_DIRECTIVE_RECEIVE 0x1A
#define NVME_ADMIN_VIRTUALIZATION 0x1C
#define NVME_ADMIN_DOORBELL_BUFFER 0x7C // Prp1 = page of shadow doorbells, Prp2 = of event indexes
#define NVME_ADMIN_FORMAT 0x80
#define NVME_ADMIN_SECURITY_SEND 0x81
#define NVME_ADMIN_SECURITY_RECEIVE 0x82
#define NVME_ADMIN_SANITIZE 0x84
#define NVME_ADMIN_FIRST_VENDOR 0xC0

// Bits 1:0 of every opcode: whether there are data, and which way they go ("Opcodes for Admin
// Commands"). The few opcodes that do not keep to it have no data here.
#define NVME_OPCODE_TO_CONTROLLER 0x1
#define NVME_OPCODE_FROM_CONTROLLER 0x2

// Create a queue: Cdw10 = entries (zero-based) << 16 | queue; Cdw11 as below.
#define NVME_QUEUE_CDW10(EntryCount, Id) (((ULONG)(EntryCount)-1) << 16 | (Id))
#define NVME_QUEUE_CONTIGUOUS 0x1
#define NVME_QUEUE_INTERRUPTS 0x2
#define NVME_QUEUE_MESSAGE(Message) ((ULONG)(Message) << 16) // of a completion queue
#define NVME_QUEUE_COMPLETES_TO(Id) ((ULONG)(Id) << 16)      // of a submission queue

// Features: Cdw10 of Get and Set Features; the value is in Cdw11, and in the completion's Result.
#define NVME_FEATURE_ARBITRATION 0x01
#define NVME_FEATURE_POWER 0x02
#define NVME_FEATURE_TEMPERATURE_THRESHOLD 0x04
#define NVME_FEATURE_ERROR_RECOVERY 0x05
#define NVME_FEATURE_WRITE_CACHE 0x06 // bit 0: on
#define NVME_FEATURE_QUEUE_COUNT                                                                   \
    0x07 // Cdw11 = completion queues << 16 | submission queues, both zero-based
#define NVME_FEATURE_INTERRUPT_COALESCING 0x08
#define NVME_FEATURE_INTERRUPT_VECTOR 0x09
#define NVME_FEATURE_WRITE_ATOMICITY 0x0A
#define NVME_FEATURE_ASYNC_EVENTS 0x0B
#define NVME_FEATURE_AUTONOMOUS_POWER 0x0C
#define NVME_FEATURE_HOST_MEMORY 0x0D
#define NVME_FEATURE_TIMESTAMP 0x0E
#define NVME_FEATURE_KEEP_ALIVE 0x0F
#define NVME_FEATURE_SAVE 0x80000000u               // Cdw10 of Set Features: keep it over resets
#define NVME_FEATURE_SELECT(Select) ((Select) << 8) // Cdw10 of Get Features
#define NVME_FEATURE_ID(Cdw10) ((Cdw10)&0xFF)

// Temperature threshold: Cdw11. Sensor 0 is the composite temperature. Kelvin.
#define NVME_THRESHOLD(Kelvin, Sensor, IsUnder)                                                    \
    ((ULONG)(Kelvin) | (ULONG)(Sensor) << 16 | ((IsUnder) ? 1u << 20 : 0))
#define NVME_THRESHOLD_KELVIN_MASK 0xFFFF

// Asynchronous event configuration: bits 7:0 are the critical warnings of the SMART log.
#define NVME_EVENTS_CRITICAL_WARNINGS 0x1F
#define NVME_EVENTS_NAMESPACE_ATTRIBUTES 0x100
#define NVME_EVENTS_FIRMWARE_ACTIVATION 0x200

// Asynchronous event: Result of its command.
#define NVME_EVENT_TYPE(Result) ((Result)&0x7)
#define NVME_EVENT_INFORMATION(Result) (((Result) >> 8) & 0xFF)
#define NVME_EVENT_LOG_PAGE(Result) (((Result) >> 16) & 0xFF) // reading it allows the next event

typedef enum _NVME_EVENT_TYPE_VALUE {
    NvmeEventError = 0,
    NvmeEventSmart = 1,
    NvmeEventNotice = 2,
    NvmeEventCommandSet = 6,
    NvmeEventVendor = 7,
} NVME_EVENT_TYPE_VALUE;

// ... and its information, by type.
#define NVME_EVENT_ERROR_DOORBELL_REGISTER 0x00
#define NVME_EVENT_ERROR_DOORBELL_VALUE 0x01
#define NVME_EVENT_ERROR_DIAGNOSTIC 0x02
#define NVME_EVENT_ERROR_PERSISTENT 0x03
#define NVME_EVENT_ERROR_TRANSIENT 0x04
#define NVME_EVENT_ERROR_FIRMWARE_LOAD 0x05
#define NVME_EVENT_SMART_RELIABILITY 0x00
#define NVME_EVENT_SMART_TEMPERATURE 0x01
#define NVME_EVENT_SMART_SPARE 0x02
#define NVME_EVENT_NOTICE_NAMESPACE 0x00
#define NVME_EVENT_NOTICE_FIRMWARE 0x01
#define NVME_EVENT_NOTICE_TELEMETRY 0x02

// Get Log Page: Cdw10 = dwords (zero-based) << 16 | page, and the upper half of dwords in Cdw11.
// Cdw12 and Cdw13 are the byte to begin at.
#define NVME_LOG_CDW10(Page, DwordCount) ((((ULONG)(DwordCount)-1) & 0xFFFF) << 16 | (ULONG)(Page))
#define NVME_LOG_CDW11(DwordCount) (((ULONG)(DwordCount)-1) >> 16)
#define NVME_LOG_RETAIN_EVENT 0x8000 // Cdw10: reading does not allow the next event
#define NVME_LOG_ERROR 0x01
#define NVME_LOG_SMART 0x02
#define NVME_LOG_FIRMWARE 0x03
#define NVME_LOG_CHANGED_NAMESPACES 0x04
#define NVME_LOG_COMMAND_EFFECTS 0x05

// Format: Cdw10.
#define NVME_FORMAT_INDEX(Cdw10) ((Cdw10)&0xF)
#define NVME_FORMAT_EXTENDED_METADATA 0x10
#define NVME_FORMAT_PROTECTION_MASK 0xE0
#define NVME_FORMAT_ERASE(Setting) ((ULONG)(Setting) << 9) // 1: user data, 2: by their key

// Identify: what Cdw10 asks for.
#define NVME_IDENTIFY_NAMESPACE 0x00
#define NVME_IDENTIFY_CONTROLLER 0x01
#define NVME_IDENTIFY_ACTIVE_NAMESPACES 0x02 // ids above NamespaceId, ascending, 0 after the last
#define NVME_IDENTIFY_DESCRIPTORS 0x03       // NVME_NAMESPACE_DESCRIPTORs of NamespaceId
#define NVME_IDENTIFY_CNS_MASK 0xFF

// NVM commands. Read, write, compare, write zeroes, verify: Cdw10 and Cdw11 = first block,
// bits 15:0 of Cdw12 = blocks, zero-based.
#define NVME_NVM_FLUSH 0x00
#define NVME_NVM_WRITE 0x01
#define NVME_NVM_READ 0x02
#define NVME_NVM_WRITE_UNCORRECTABLE 0x04
#define NVME_NVM_COMPARE 0x05
#define NVME_NVM_WRITE_ZEROES 0x08
#define NVME_NVM_DATASET_MANAGEMENT 0x09
#define NVME_NVM_VERIFY 0x0C
#define NVME_NVM_COPY 0x19
#define NVME_NVM_FIRST_VENDOR 0x80

#define NVME_BLOCK_COUNT_MASK 0xFFFF      // Cdw12
#define NVME_MAXIMUM_BLOCKS 0x10000       // of one command
#define NVME_FORCE_UNIT_ACCESS 0x40000000 // Cdw12 of read, write, compare, write zeroes
#define NVME_DEALLOCATE 0x2000000         // Cdw12 of write zeroes: the blocks may be given back

// Dataset management: Cdw10 = ranges, zero-based; the data are the ranges.
typedef struct _NVME_RANGE {
    ULONG Attributes;
    ULONG BlockCount;
    ULONG64 FirstBlock;
} NVME_RANGE, *PNVME_RANGE;

#define NVME_DSM_DEALLOCATE 0x4 // Cdw11
#define NVME_DSM_RANGES 256     // of one command
C_ASSERT(sizeof(NVME_RANGE) == 16 && NVME_DSM_RANGES * sizeof(NVME_RANGE) == 4096);

//
// Identify data ("Identify Controller data structure", "Identify Namespace data structure").
//

typedef struct _NVME_POWER_STATE {
    USHORT MaximumPower; // centiwatts, or units of 0.1 mW: Flags bit 0
    UCHAR Reserved2;
    UCHAR Flags;
    ULONG EntryLatency; // microseconds
    ULONG ExitLatency;
    UCHAR ReadThroughput; // all relative, lower is better
    UCHAR ReadLatency;
    UCHAR WriteThroughput;
    UCHAR WriteLatency;
    USHORT IdlePower;
    UCHAR IdlePowerScale;
    UCHAR Reserved19;
    USHORT ActivePower;
    UCHAR ActivePowerScale;
    UCHAR Reserved23[9];
} NVME_POWER_STATE, *PNVME_POWER_STATE;

C_ASSERT(sizeof(NVME_POWER_STATE) == 32);

typedef struct _NVME_IDENTIFY_CONTROLLER_DATA {
    USHORT VendorId;
    USHORT SubsystemVendorId;
    CHAR SerialNumber[20]; // ASCII, padded with blanks, not terminated, as the next two
    CHAR ModelNumber[40];
    CHAR FirmwareRevision[8];
    UCHAR ArbitrationBurst;
    UCHAR Ieee[3];
    UCHAR MultipathCapabilities; // CMIC
    UCHAR MaximumTransferShift;  // MDTS: log2 of the longest transfer, in smallest pages; 0: any
    USHORT ControllerId;
    ULONG Version;
    ULONG ResumeLatency;  // RTD3R, microseconds
    ULONG EntryLatency;   // RTD3E, microseconds: what a shutdown takes
    ULONG OptionalEvents; // OAES: as the asynchronous event configuration
    ULONG Attributes;     // CTRATT
    USHORT ReadRecoveryLevels;
    UCHAR Reserved102[9];
    UCHAR ControllerType;
    UCHAR FruGuid[16];
    USHORT RetryDelays[3]; // CRDT, 100 milliseconds each
    UCHAR Reserved134[122];
    USHORT OptionalAdminCommands; // OACS
    UCHAR AbortLimit;             // ACL: aborts at a time, zero-based
    UCHAR EventLimit;             // AERL: asynchronous event commands at a time, zero-based
    UCHAR FirmwareUpdates;
    UCHAR LogAttributes;   // LPA
    UCHAR ErrorLogEntries; // ELPE: zero-based
    UCHAR PowerStates;     // NPSS: zero-based
    UCHAR VendorCommands;
    UCHAR AutonomousPower;
    USHORT WarningTemperature; // WCTEMP, kelvin; 0: not told
    USHORT CriticalTemperature;
    USHORT FirmwareActivationTime; // MTFA, 100 milliseconds
    ULONG HostMemoryPreferred;
    ULONG HostMemoryMinimum;
    ULONG64 TotalCapacity[2];
    ULONG64 UnallocatedCapacity[2];
    ULONG ReplayProtectedBlocks;
    USHORT SelfTestTime; // minutes
    UCHAR SelfTestOptions;
    UCHAR FirmwareGranularity;
    USHORT KeepAliveSupport;
    USHORT ThermalManagement; // HCTMA
    USHORT MinimumThermal;
    USHORT MaximumThermal;
    ULONG SanitizeCapabilities;
    ULONG HostMemoryMinimumEntry;
    USHORT HostMemoryMaximumEntries;
    USHORT MaximumSetId;
    USHORT MaximumEnduranceGroupId;
    UCHAR AnaTransitionTime;
    UCHAR AnaCapabilities;
    ULONG MaximumAnaGroupId;
    ULONG AnaGroupCount;
    ULONG PersistentEventLogSize;
    UCHAR Reserved356[156];
    UCHAR CommandSizes;      // SQES: log2 of bytes, least in bits 3:0, most in bits 7:4
    UCHAR CompletionSizes;   // CQES
    USHORT MaximumCommands;  // MAXCMD: of a queue; 0: not told
    ULONG NamespaceLimit;    // NN: the highest namespace id
    USHORT OptionalCommands; // ONCS
    USHORT FusedOperations;
    UCHAR FormatAttributes;      // FNA
    UCHAR WriteCache;            // VWC
    USHORT AtomicWriteUnit;      // AWUN, blocks, zero-based, as the next
    USHORT AtomicWritePowerFail; // AWUPF
    UCHAR NvmVendorCommands;
    UCHAR WriteProtection;
    USHORT AtomicCompareWrite; // ACWU
    USHORT Reserved534;
    ULONG SglSupport; // SGLS: bits 1:0 not 0: SGLs may be used; 2: only on 4 byte boundaries
    ULONG MaximumNamespaces;
    UCHAR Reserved544[224];
    CHAR SubsystemName[256]; // SUBNQN: UTF-8, terminated
    UCHAR Reserved1024[1024];
    NVME_POWER_STATE PowerStateData[32];
    UCHAR Vendor[1024];
} NVME_IDENTIFY_CONTROLLER_DATA, *PNVME_IDENTIFY_CONTROLLER_DATA;

C_ASSERT(sizeof(NVME_IDENTIFY_CONTROLLER_DATA) == 4096);
C_ASSERT(FIELD_OFFSET(NVME_IDENTIFY_CONTROLLER_DATA, MaximumTransferShift) == 77);
C_ASSERT(FIELD_OFFSET(NVME_IDENTIFY_CONTROLLER_DATA, OptionalEvents) == 92);
C_ASSERT(FIELD_OFFSET(NVME_IDENTIFY_CONTROLLER_DATA, FruGuid) == 112);
C_ASSERT(FIELD_OFFSET(NVME_IDENTIFY_CONTROLLER_DATA, OptionalAdminCommands) == 256);
C_ASSERT(FIELD_OFFSET(NVME_IDENTIFY_CONTROLLER_DATA, WarningTemperature) == 266);
C_ASSERT(FIELD_OFFSET(NVME_IDENTIFY_CONTROLLER_DATA, TotalCapacity) == 280);
C_ASSERT(FIELD_OFFSET(NVME_IDENTIFY_CONTROLLER_DATA, KeepAliveSupport) == 320);
C_ASSERT(FIELD_OFFSET(NVME_IDENTIFY_CONTROLLER_DATA, SanitizeCapabilities) == 328);
C_ASSERT(FIELD_OFFSET(NVME_IDENTIFY_CONTROLLER_DATA, MaximumAnaGroupId) == 344);
C_ASSERT(FIELD_OFFSET(NVME_IDENTIFY_CONTROLLER_DATA, CommandSizes) == 512);
C_ASSERT(FIELD_OFFSET(NVME_IDENTIFY_CONTROLLER_DATA, OptionalCommands) == 520);
C_ASSERT(FIELD_OFFSET(NVME_IDENTIFY_CONTROLLER_DATA, WriteCache) == 525);
C_ASSERT(FIELD_OFFSET(NVME_IDENTIFY_CONTROLLER_DATA, SglSupport) == 536);
C_ASSERT(FIELD_OFFSET(NVME_IDENTIFY_CONTROLLER_DATA, SubsystemName) == 768);
C_ASSERT(FIELD_OFFSET(NVME_IDENTIFY_CONTROLLER_DATA, PowerStateData) == 2048);

// OptionalAdminCommands.
#define NVME_OACS_SECURITY 0x1
#define NVME_OACS_FORMAT 0x2
#define NVME_OACS_FIRMWARE 0x4
#define NVME_OACS_NAMESPACES 0x8
#define NVME_OACS_DOORBELL_BUFFER 0x100

// OptionalCommands.
#define NVME_ONCS_COMPARE 0x1
#define NVME_ONCS_WRITE_UNCORRECTABLE 0x2
#define NVME_ONCS_DATASET_MANAGEMENT 0x4
#define NVME_ONCS_WRITE_ZEROES 0x8
#define NVME_ONCS_SAVED_FEATURES 0x10
#define NVME_ONCS_RESERVATIONS 0x20
#define NVME_ONCS_TIMESTAMP 0x40
#define NVME_ONCS_VERIFY 0x80
#define NVME_ONCS_COPY 0x100

#define NVME_VWC_PRESENT 0x1         // WriteCache: there is one, and it is volatile
#define NVME_VWC_FLUSH_ALL_MASK 0x6  // WriteCache: whether flush takes NVME_ALL_NAMESPACES
#define NVME_VWC_FLUSH_ALL 0x6       // ... it does
#define NVME_LPA_NAMESPACE_SMART 0x1 // LogAttributes: the SMART log exists per namespace
#define NVME_FNA_ALL_NAMESPACES 0x1  // FormatAttributes: a format concerns all namespaces

typedef struct _NVME_BLOCK_FORMAT {
    USHORT MetadataByteCount;
    UCHAR BlockShift; // log2 of bytes; 0 = format not offered
    UCHAR RelativePerformance;
} NVME_BLOCK_FORMAT, *PNVME_BLOCK_FORMAT;

typedef struct _NVME_IDENTIFY_NAMESPACE_DATA {
    ULONG64 BlockCount; // NSZE; 0 = inactive
    ULONG64 Capacity;
    ULONG64 Utilization;
    UCHAR Features;             // NSFEAT
    UCHAR FormatCount;          // zero-based
    UCHAR CurrentFormat;        // bits 3:0
    UCHAR MetadataCapabilities; // MC
    UCHAR ProtectionCapabilities;
    UCHAR Protection; // DPS: bits 2:0 not 0: blocks carry protection information
    UCHAR Sharing;    // NMIC
    UCHAR Reservations;
    UCHAR FormatProgress;
    UCHAR Deallocation; // DLFEAT: bits 2:0 = 1: blocks that were given back read as zero
    USHORT AtomicWriteUnit;
    USHORT AtomicWritePowerFail;
    USHORT AtomicCompareWrite;
    USHORT AtomicBoundarySize;
    USHORT AtomicBoundaryOffset;
    USHORT AtomicBoundaryPowerFail;
    USHORT OptimalBoundary; // NOIOB, blocks
    ULONG64 NvmCapacity[2];
    USHORT PreferredWriteGranularity; // NPWG: all of these with Features bit 4; blocks, zero-based
    USHORT PreferredWriteAlignment;
    USHORT PreferredDeallocateGranularity;
    USHORT PreferredDeallocateAlignment;
    USHORT OptimalWriteSize;
    UCHAR Reserved74[18];
    ULONG AnaGroupId;
    UCHAR Reserved96[3];
    UCHAR Attributes; // NSATTR: bit 0: write-protected now
    USHORT SetId;
    USHORT EnduranceGroupId;
    UCHAR GloballyUniqueId[16]; // NGUID; zero: none
    UCHAR Eui64[8];             // zero: none
    NVME_BLOCK_FORMAT Formats[16];
    UCHAR Reserved192[3904];
} NVME_IDENTIFY_NAMESPACE_DATA, *PNVME_IDENTIFY_NAMESPACE_DATA;

#define NVME_CURRENT_FORMAT_MASK 0xF
#define NVME_NSFEAT_PREFERRED_SIZES 0x10
#define NVME_DLFEAT_MASK 0x7
#define NVME_DLFEAT_ZEROES 0x1
#define NVME_PROTECTION_MASK 0x7
C_ASSERT(sizeof(NVME_BLOCK_FORMAT) == 4);
C_ASSERT(sizeof(NVME_IDENTIFY_NAMESPACE_DATA) == 4096);
C_ASSERT(FIELD_OFFSET(NVME_IDENTIFY_NAMESPACE_DATA, Deallocation) == 33);
C_ASSERT(FIELD_OFFSET(NVME_IDENTIFY_NAMESPACE_DATA, NvmCapacity) == 48);
C_ASSERT(FIELD_OFFSET(NVME_IDENTIFY_NAMESPACE_DATA, PreferredWriteGranularity) == 64);
C_ASSERT(FIELD_OFFSET(NVME_IDENTIFY_NAMESPACE_DATA, AnaGroupId) == 92);
C_ASSERT(FIELD_OFFSET(NVME_IDENTIFY_NAMESPACE_DATA, Attributes) == 99);
C_ASSERT(FIELD_OFFSET(NVME_IDENTIFY_NAMESPACE_DATA, GloballyUniqueId) == 104);
C_ASSERT(FIELD_OFFSET(NVME_IDENTIFY_NAMESPACE_DATA, Formats) == 128);

#define NVME_NAMESPACE_LIST_ENTRIES 1024

// NVME_IDENTIFY_DESCRIPTORS: one after the other; ByteCount 0 ends them.
typedef struct _NVME_NAMESPACE_DESCRIPTOR {
    UCHAR Type; // 1: EUI-64, 2: NGUID, 3: UUID
    UCHAR ByteCount;
    USHORT Reserved;
    UCHAR Id[];
} NVME_NAMESPACE_DESCRIPTOR, *PNVME_NAMESPACE_DESCRIPTOR;

#define NVME_DESCRIPTOR_EUI64 1
#define NVME_DESCRIPTOR_NGUID 2
#define NVME_DESCRIPTOR_UUID 3
C_ASSERT(sizeof(NVME_NAMESPACE_DESCRIPTOR) == 4);

//
// Log pages ("Get Log Page command").
//

typedef struct _NVME_ERROR_LOG_ENTRY {
    ULONG64 ErrorCount; // a number for this error, never used again; 0: no entry
    USHORT SubmissionQueueId;
    USHORT CommandId;
    USHORT Status; // as NVME_COMPLETION.Status
    USHORT ParameterLocation;
    ULONG64 Block;
    ULONG NamespaceId;
    UCHAR VendorLogPage;
    UCHAR Transport;
    UCHAR Reserved30[2];
    ULONG64 CommandSpecific;
    USHORT TransportSpecific;
    UCHAR Reserved42[22];
} NVME_ERROR_LOG_ENTRY, *PNVME_ERROR_LOG_ENTRY;

C_ASSERT(sizeof(NVME_ERROR_LOG_ENTRY) == 64);
C_ASSERT(FIELD_OFFSET(NVME_ERROR_LOG_ENTRY, Block) == 16);
C_ASSERT(FIELD_OFFSET(NVME_ERROR_LOG_ENTRY, CommandSpecific) == 32);

typedef struct _NVME_SMART_LOG {
    UCHAR CriticalWarning;
    UCHAR Temperature[2]; // kelvin, low byte first
    UCHAR AvailableSpare; // percent, as the next two
    UCHAR SpareThreshold;
    UCHAR PercentageUsed;
    UCHAR EnduranceGroupWarning;
    UCHAR Reserved7[25];
    ULONG64 DataUnitsRead[2]; // units of 1000 * 512 bytes; 128 bits, as the next
    ULONG64 DataUnitsWritten[2];
    ULONG64 ReadCommands[2];
    ULONG64 WriteCommands[2];
    ULONG64 BusyMinutes[2];
    ULONG64 PowerCycles[2];
    ULONG64 PowerOnHours[2];
    ULONG64 UnsafeShutdowns[2];
    ULONG64 MediaErrors[2];
    ULONG64 ErrorLogEntries[2];
    ULONG WarningTemperatureMinutes;
    ULONG CriticalTemperatureMinutes;
    USHORT Sensors[8]; // kelvin; 0: no such sensor
    ULONG ThermalTransitions[2];
    ULONG ThermalSeconds[2];
    UCHAR Reserved232[280];
} NVME_SMART_LOG, *PNVME_SMART_LOG;

C_ASSERT(sizeof(NVME_SMART_LOG) == 512);
C_ASSERT(FIELD_OFFSET(NVME_SMART_LOG, DataUnitsRead) == 32);
C_ASSERT(FIELD_OFFSET(NVME_SMART_LOG, ErrorLogEntries) == 176);
C_ASSERT(FIELD_OFFSET(NVME_SMART_LOG, Sensors) == 200);

// CriticalWarning.
#define NVME_SMART_SPARE 0x01
#define NVME_SMART_TEMPERATURE 0x02
#define NVME_SMART_RELIABILITY 0x04
#define NVME_SMART_READ_ONLY 0x08
#define NVME_SMART_BACKUP 0x10
#define NVME_SMART_PERSISTENT_MEMORY 0x20

typedef struct _NVME_FIRMWARE_LOG {
    UCHAR ActiveSlot; // bits 2:0; bits 6:4 = the slot after the next reset
    UCHAR Reserved1[7];
    CHAR Revisions[7][8];
    UCHAR Reserved64[448];
} NVME_FIRMWARE_LOG, *PNVME_FIRMWARE_LOG;

C_ASSERT(sizeof(NVME_FIRMWARE_LOG) == 512 && FIELD_OFFSET(NVME_FIRMWARE_LOG, Revisions) == 8);

// Ids, ascending, 0 after the last. The first id NVME_ALL_NAMESPACES: more changed than fit.
typedef struct _NVME_CHANGED_NAMESPACES_LOG {
    ULONG NamespaceIds[NVME_NAMESPACE_LIST_ENTRIES];
} NVME_CHANGED_NAMESPACES_LOG, *PNVME_CHANGED_NAMESPACES_LOG;

C_ASSERT(sizeof(NVME_CHANGED_NAMESPACES_LOG) == 4096);

typedef struct _NVME_COMMAND_EFFECTS_LOG {
    ULONG Admin[256]; // by opcode
    ULONG Nvm[256];
    UCHAR Reserved2048[2048];
} NVME_COMMAND_EFFECTS_LOG, *PNVME_COMMAND_EFFECTS_LOG;

#define NVME_EFFECT_SUPPORTED 0x1
#define NVME_EFFECT_CHANGES_CONTENT 0x2
#define NVME_EFFECT_CHANGES_CAPABILITY 0x4
#define NVME_EFFECT_CHANGES_NAMESPACE 0x8
C_ASSERT(sizeof(NVME_COMMAND_EFFECTS_LOG) == 4096);
