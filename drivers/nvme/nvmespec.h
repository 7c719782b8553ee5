// What the NVM Express Base Specification, revision 1.4, fixes: registers, commands, completions,
// Identify data. Only what this driver uses has a name. Everything is little-endian. "Zero-based"
// means that 0 stands for 1.
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
} NVME_REGISTERS, *PNVME_REGISTERS;

C_ASSERT(FIELD_OFFSET(NVME_REGISTERS, Vs) == 0x08);
C_ASSERT(FIELD_OFFSET(NVME_REGISTERS, IntMs) == 0x0C);
C_ASSERT(FIELD_OFFSET(NVME_REGISTERS, Cc) == 0x14);
C_ASSERT(FIELD_OFFSET(NVME_REGISTERS, Csts) == 0x1C);
C_ASSERT(FIELD_OFFSET(NVME_REGISTERS, Aqa) == 0x24);
C_ASSERT(FIELD_OFFSET(NVME_REGISTERS, Asq) == 0x28);
C_ASSERT(FIELD_OFFSET(NVME_REGISTERS, Acq) == 0x30);

// Doorbells: for queue pair n, the tail of the submission queue and then the head of the completion
// queue, NVME_CAP_DOORBELL_STRIDE bytes from one to the next.
#define NVME_DOORBELL_OFFSET 0x1000

#define NVME_CAP_QUEUE_ENTRIES(Cap) ((ULONG)((Cap)&0xFFFF) + 1)           // per I/O queue, at most
#define NVME_CAP_READY_TIMEOUT(Cap) (((ULONG)((Cap) >> 24) & 0xFF) * 500) // milliseconds
#define NVME_CAP_DOORBELL_STRIDE(Cap) (4u << (((Cap) >> 32) & 0xF))       // bytes
#define NVME_CAP_NVM_COMMANDS(Cap) ((BOOLEAN)(((Cap) >> 37) & 1)) // the NVM command set exists
#define NVME_CAP_MINIMUM_PAGE_SHIFT(Cap) (12 + ((ULONG)((Cap) >> 48) & 0xF)) // log2 of bytes

#define NVME_VERSION(Major, Minor) ((ULONG)(Major) << 16 | (ULONG)(Minor) << 8)

#define NVME_CC_ENABLE 0x1
#define NVME_CC_PAGE_SHIFT(Shift) (((ULONG)(Shift)-12) << 7)
#define NVME_CC_SHUTDOWN_MASK (3u << 14)
#define NVME_CC_SHUTDOWN_NORMAL (1u << 14)
#define NVME_CC_COMMAND_SHIFT(Shift) ((ULONG)(Shift) << 16)    // log2 of the bytes of a command
#define NVME_CC_COMPLETION_SHIFT(Shift) ((ULONG)(Shift) << 20) // log2 of the bytes of a completion

#define NVME_CSTS_READY 0x1
#define NVME_CSTS_FATAL 0x2
#define NVME_CSTS_SHUTDOWN_MASK 0xC
#define NVME_CSTS_SHUTDOWN_COMPLETE 0x8

#define NVME_AQA_ENTRIES(Count)                                                                    \
    (((ULONG)(Count)-1) << 16 | ((ULONG)(Count)-1)) // both queues, zero-based

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

typedef enum _NVME_STATUS_TYPE_VALUE {
    NvmeStatusGeneric = 0,
    NvmeStatusCommandSpecific = 1,
    NvmeStatusMedia = 2,
} NVME_STATUS_TYPE_VALUE;

// Admin commands.
#define NVME_ADMIN_DELETE_SUBMISSION_QUEUE 0x00
#define NVME_ADMIN_CREATE_SUBMISSION_QUEUE 0x01
#define NVME_ADMIN_DELETE_COMPLETION_QUEUE 0x04
#define NVME_ADMIN_CREATE_COMPLETION_QUEUE 0x05
#define NVME_ADMIN_IDENTIFY 0x06
#define NVME_ADMIN_SET_FEATURES 0x09

// Create a queue: Cdw10 = entries (zero-based) << 16 | queue; Cdw11 as below. Bits 31:16 of Cdw11 are
// the message of a completion queue: 0.
#define NVME_QUEUE_CDW10(EntryCount, Id) (((ULONG)(EntryCount)-1) << 16 | (Id))
#define NVME_QUEUE_CONTIGUOUS 0x1
#define NVME_QUEUE_INTERRUPTS 0x2
#define NVME_QUEUE_COMPLETES_TO(Id) ((ULONG)(Id) << 16)

#define NVME_FEATURE_QUEUE_COUNT                                                                   \
    0x07 // Cdw11 = completion queues << 16 | submission queues, both zero-based

// Identify: what Cdw10 asks for.
#define NVME_IDENTIFY_NAMESPACE 0x00
#define NVME_IDENTIFY_CONTROLLER 0x01
#define NVME_IDENTIFY_ACTIVE_NAMESPACES 0x02 // ids above NamespaceId, ascending, 0 after the last

// NVM commands. Read and write: Cdw10 and Cdw11 = first block, Cdw12 = blocks, zero-based.
#define NVME_NVM_FLUSH 0x00
#define NVME_NVM_WRITE 0x01
#define NVME_NVM_READ 0x02

//
// Identify data ("Identify Controller data structure", "Identify Namespace data structure").
//

typedef struct _NVME_IDENTIFY_CONTROLLER_DATA {
    USHORT VendorId;
    USHORT SubsystemVendorId;
    CHAR SerialNumber[20]; // ASCII, padded with blanks, not terminated, as the next two
    CHAR ModelNumber[40];
    CHAR FirmwareRevision[8];
    UCHAR Reserved72[5];
    UCHAR
    MaximumTransferShift; // MDTS: log2 of the largest transfer in smallest pages; 0 = unlimited
    UCHAR Reserved78[4018];
} NVME_IDENTIFY_CONTROLLER_DATA, *PNVME_IDENTIFY_CONTROLLER_DATA;

C_ASSERT(sizeof(NVME_IDENTIFY_CONTROLLER_DATA) == 4096);
C_ASSERT(FIELD_OFFSET(NVME_IDENTIFY_CONTROLLER_DATA, MaximumTransferShift) == 77);

typedef struct _NVME_BLOCK_FORMAT {
    USHORT MetadataByteCount;
    UCHAR BlockShift; // log2 of bytes; 0 = format not offered
    UCHAR RelativePerformance;
} NVME_BLOCK_FORMAT, *PNVME_BLOCK_FORMAT;

typedef struct _NVME_IDENTIFY_NAMESPACE_DATA {
    ULONG64 BlockCount; // NSZE; 0 = inactive
    ULONG64 Capacity;
    ULONG64 Utilization;
    UCHAR Features;
    UCHAR FormatCount;   // zero-based
    UCHAR CurrentFormat; // bits 3:0
    UCHAR Reserved27[101];
    NVME_BLOCK_FORMAT Formats[16];
    UCHAR Reserved192[3904];
} NVME_IDENTIFY_NAMESPACE_DATA, *PNVME_IDENTIFY_NAMESPACE_DATA;

#define NVME_CURRENT_FORMAT_MASK 0xF
C_ASSERT(sizeof(NVME_BLOCK_FORMAT) == 4);
C_ASSERT(sizeof(NVME_IDENTIFY_NAMESPACE_DATA) == 4096);
C_ASSERT(FIELD_OFFSET(NVME_IDENTIFY_NAMESPACE_DATA, Formats) == 128);

#define NVME_NAMESPACE_LIST_ENTRIES 1024
