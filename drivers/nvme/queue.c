// A queue pair: two rings in memory, a doorbell each.
//
//   submission   [ . . C C C . . . ]   driver writes at Tail, controller reads behind it
//   completion   [ 1 1 1 0 0 0 0 0 ]   controller writes, flipping the phase each time round;
//                                      driver reads at Head
//
// The phase bit makes a new completion recognisable without asking the controller, so nothing is
// read from the device while commands are answered. The doorbells are written once for a batch of
// commands and once for all completions found in one pass. Whoever waits for a batch sleeps between
// interrupts.
#include "oldnvme.h"

// Long enough for a disk that is busy with itself, or for an emulated one on a crowded machine.
#define NVME_COMMAND_TIMEOUT 10000 // milliseconds

// After so long without an interrupt it is time to look whether the controller is still there.
#define NVME_HEALTH_INTERVAL 100 // milliseconds

// What the status of a completion means. Type and code as in "Status Code", the sentence for the
// log.
typedef struct _NVME_STATUS_MEANING {
    UCHAR Type;
    UCHAR Code;
    NTSTATUS Status;
    PCSTR Text;
} NVME_STATUS_MEANING;

static const NVME_STATUS_MEANING NvmeStatusMeanings[] = {
    {NvmeStatusGeneric, 0x01, STATUS_INVALID_DEVICE_REQUEST, "invalid command opcode"},
    {NvmeStatusGeneric, 0x02, STATUS_INVALID_PARAMETER, "invalid field in command"},
    {NvmeStatusGeneric, 0x04, STATUS_IO_DEVICE_ERROR, "data transfer error"},
    {NvmeStatusGeneric, 0x06, STATUS_DEVICE_HARDWARE_ERROR, "internal error"},
    {NvmeStatusGeneric, 0x0B, STATUS_NO_SUCH_DEVICE, "invalid namespace or format"},
    {NvmeStatusGeneric, 0x13, STATUS_DATATYPE_MISALIGNMENT, "invalid PRP offset"},
    {NvmeStatusGeneric, 0x20, STATUS_MEDIA_WRITE_PROTECTED, "namespace is write protected"},
    {NvmeStatusGeneric, 0x80, STATUS_NONEXISTENT_SECTOR, "block out of range"},
    {NvmeStatusGeneric, 0x82, STATUS_DEVICE_NOT_READY, "namespace not ready"},
    {NvmeStatusCommandSpecific, 0x82, STATUS_MEDIA_WRITE_PROTECTED, "write to a read-only range"},
    {NvmeStatusMedia, 0x80, STATUS_DEVICE_DATA_ERROR, "write fault"},
    {NvmeStatusMedia, 0x81, STATUS_DEVICE_DATA_ERROR, "unrecovered read error"},
    {NvmeStatusMedia, 0x82, STATUS_CRC_ERROR, "end-to-end guard check error"},
    {NvmeStatusMedia, 0x83, STATUS_CRC_ERROR, "end-to-end application tag check error"},
    {NvmeStatusMedia, 0x84, STATUS_CRC_ERROR, "end-to-end reference tag check error"},
};

static const NVME_STATUS_MEANING NvmeUnknownStatus = {0, 0, STATUS_IO_DEVICE_ERROR, "device error"};

VOID NvmeInitializeQueue(const NVME_DEVICE *Device, PNVME_QUEUE Queue, USHORT Id, USHORT EntryCount,
                         ULONG SubmissionPage)
{
    const ULONG Stride = NVME_CAP_DOORBELL_STRIDE(Device->Capabilities);
    volatile UCHAR *Doorbells = (volatile UCHAR *)Device->Registers + NVME_DOORBELL_OFFSET;

    RtlZeroMemory(Queue, sizeof(*Queue));
    Queue->Submission = NvmePageVa(Device, SubmissionPage);
    Queue->Completion = NvmePageVa(Device, SubmissionPage + 1);
    Queue->TailDoorbell = (volatile ULONG *)(Doorbells + 2 * Id * Stride);
    Queue->HeadDoorbell = (volatile ULONG *)(Doorbells + (2 * Id + 1) * Stride);
    Queue->Id = Id;
    Queue->EntryCount = EntryCount;
    Queue->Phase = NVME_STATUS_PHASE;
}

static USHORT NvmeNextEntry(const NVME_QUEUE *Queue, USHORT Entry)
{
    return Entry + 1 == Queue->EntryCount ? 0 : Entry + 1;
}

// One entry always stays free: a ring with Tail == Head is empty, not full.
BOOLEAN NvmeIsBatchFull(const NVME_QUEUE *Queue)
{
    return Queue->BatchCount == NVME_BATCH_COMMANDS || Queue->BatchCount == Queue->EntryCount - 1;
}

PNVME_COMMAND NvmeAddCommand(PNVME_QUEUE Queue)
{
    const PNVME_COMMAND Command = &Queue->Submission[Queue->Tail];
    RtlZeroMemory(Command, sizeof(*Command));
    Command->CommandId = Queue->BatchCount;
    Queue->UnansweredIds |= 1u << Queue->BatchCount;
    Queue->BatchCount++;
    Queue->Tail = NvmeNextEntry(Queue, Queue->Tail);
    return Command;
}

static const NVME_STATUS_MEANING *NvmeFindStatusMeaning(USHORT Status)
{
    for (ULONG Index = 0; Index < ARRAYSIZE(NvmeStatusMeanings); Index += 1) {
        const NVME_STATUS_MEANING *Meaning = &NvmeStatusMeanings[Index];
        if (Meaning->Type == NVME_STATUS_TYPE(Status) &&
            Meaning->Code == NVME_STATUS_CODE(Status)) {
            return Meaning;
        }
    }
    return &NvmeUnknownStatus;
}

BOOLEAN NvmeHasCompletion(const NVME_QUEUE *Queue)
{
    const volatile NVME_COMPLETION *Ring = Queue->Completion;
    return Ring != NULL && (Ring[Queue->Head].Status & NVME_STATUS_PHASE) == Queue->Phase;
}

static VOID NvmeRecordFailure(PNVME_QUEUE Queue, NTSTATUS Status)
{
    if (NT_SUCCESS(Queue->BatchStatus)) {
        Queue->BatchStatus = Status;
    }
}

// Takes note of one completion. CommandId comes from the device: it is looked at before it is
// believed.
static VOID NvmeCompleteCommand(PNVME_QUEUE Queue, USHORT CommandId, USHORT Status)
{
    if (CommandId >= Queue->BatchCount || (Queue->UnansweredIds & (1u << CommandId)) == 0) {
        DbgPrint("NVMe: queue %u: the controller completed command %u, which was not under way\n",
                 Queue->Id, CommandId);
        NvmeRecordFailure(Queue, STATUS_DEVICE_PROTOCOL_ERROR);
        return;
    }
    Queue->UnansweredIds &= ~(1u << CommandId);
    if (NVME_STATUS_TYPE(Status) == NvmeStatusGeneric && NVME_STATUS_CODE(Status) == 0) {
        return;
    }
    const NVME_COMMAND *Command =
        &Queue->Submission[(Queue->BatchStart + CommandId) % Queue->EntryCount];
    const NVME_STATUS_MEANING *Meaning = NvmeFindStatusMeaning(Status);
    DbgPrint("NVMe: queue %u: command 0x%02x (0x%x, 0x%x, 0x%x) failed: %s (SCT %u, SC 0x%02x), "
             "status 0x%08x\n",
             Queue->Id, Command->Opcode, Command->Cdw10, Command->Cdw11, Command->Cdw12,
             Meaning->Text, NVME_STATUS_TYPE(Status), NVME_STATUS_CODE(Status), Meaning->Status);
    NvmeRecordFailure(Queue, Meaning->Status);
}

// Consumes every completion that has arrived, but no more than the ring holds, so that nothing that
// a controller writes can keep it here; then tells the controller once.
static VOID NvmeConsumeCompletions(PNVME_QUEUE Queue)
{
    ULONG ConsumedCount = 0;
    for (; ConsumedCount < Queue->EntryCount; ConsumedCount += 1) {
        const volatile NVME_COMPLETION *Completion = &Queue->Completion[Queue->Head];
        const USHORT Status = Completion->Status;
        if ((Status & NVME_STATUS_PHASE) != Queue->Phase) {
            break;
        }
        // The controller writes the phase last, so the rest is read after it: the accesses are
        // volatile, and this processor keeps loads in order.
        NvmeCompleteCommand(Queue, Completion->CommandId, Status);
        Queue->Head = NvmeNextEntry(Queue, Queue->Head);
        if (Queue->Head == 0) {
            Queue->Phase ^= NVME_STATUS_PHASE;
        }
    }
    if (ConsumedCount != 0) {
        WRITE_REGISTER_ULONG(Queue->HeadDoorbell, Queue->Head);
    }
}

// Returns when every command of the batch is answered, the controller is in no state to answer, or
// time is over.
static NTSTATUS NvmeWaitForBatch(PNVME_DEVICE Device, PNVME_QUEUE Queue)
{
    const LONG64 Deadline = NvmeDeadline(NVME_COMMAND_TIMEOUT);
    for (;;) {
        // Asked before the last look: a processor that was away for long still finds what arrived
        // meanwhile.
        const BOOLEAN IsLate = NvmeHasPassed(Deadline);
        NvmeConsumeCompletions(Queue);
        if (Queue->UnansweredIds == 0) {
            return Queue->BatchStatus;
        }
        if (IsLate) {
            return STATUS_IO_TIMEOUT;
        }
        if (!NvmeWaitForInterrupt(Device, NVME_HEALTH_INTERVAL)) {
            const NTSTATUS Health = NvmeCheckHealth(Device);
            if (!NT_SUCCESS(Health)) {
                return Health;
            }
        }
    }
}

NTSTATUS NvmeRunBatch(PNVME_DEVICE Device, PNVME_QUEUE Queue)
{
    // The commands must be in memory before the controller hears of them.
    KeMemoryBarrier();
    WRITE_REGISTER_ULONG(Queue->TailDoorbell, Queue->Tail);

    const NTSTATUS Status = NvmeWaitForBatch(Device, Queue);
    if (Queue->UnansweredIds != 0) {
        DbgPrint("NVMe: queue %u: %u commands were rung, ids 0x%x stay unanswered\n", Queue->Id,
                 Queue->BatchCount, Queue->UnansweredIds);
        NvmeFailController(Device, Status);
    }
    Queue->BatchStart = Queue->Tail;
    Queue->BatchCount = 0;
    Queue->UnansweredIds = 0;
    Queue->BatchStatus = STATUS_SUCCESS;
    return Status;
}
