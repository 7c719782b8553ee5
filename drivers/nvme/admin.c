// Admin commands: one at a time for each caller, who waits; and what the controller says of itself.
#include "nvme.h"

#define NVME_ADMIN_TIMEOUT 10000 // milliseconds
#define NVME_ADMIN_SLICE 100     // between two looks for a missed interrupt, or a dead controller
#define NVME_UNITS_PER_MILLISECOND 10000ll

typedef struct _NVME_WAITER {
    KEVENT Answered;
    NVME_OUTCOME Outcome;
} NVME_WAITER, *PNVME_WAITER;

// NVME_TRACKER_DONE. Nobody waits any more when Context is NULL.
static VOID NvmeEndAdmin(PNVME_TRACKER Tracker, NTSTATUS Status, ULONG Result,
                         PNVME_FINISHED Finished)
{
    const PNVME_WAITER Waiter = Tracker->Context;
    UNREFERENCED_PARAMETER(Finished);
    if (Waiter != NULL) {
        Waiter->Outcome = (NVME_OUTCOME){Status, Tracker->StatusField, Result};
        KeSetEvent(&Waiter->Answered, IO_NO_INCREMENT, FALSE);
    }
}

static NTSTATUS NvmeSubmitAdmin(PNVME_QUEUE Queue, const NVME_COMMAND *Command, ULONG Milliseconds,
                                PNVME_WAITER Waiter, PNVME_TRACKER *Result)
{
    KIRQL OldIrql;
    KeAcquireSpinLock(&Queue->Lock, &OldIrql);
    NTSTATUS Status = Queue->ClosedStatus;
    const PNVME_TRACKER Tracker = NT_SUCCESS(Status) ? NvmeGetTracker(Queue) : NULL;
    if (Tracker != NULL) {
        Tracker->Command = *Command;
        Tracker->Done = NvmeEndAdmin;
        Tracker->Context = Waiter;
        Tracker->TimeLimit = Milliseconds / 100 + 1;
        NvmeSubmit(Tracker);
        NvmeRing(Queue);
        *Result = Tracker;
    } else if (NT_SUCCESS(Status)) {
        Status = STATUS_DEVICE_BUSY;
    }
    KeReleaseSpinLock(&Queue->Lock, OldIrql);
    return Status;
}

// FALSE: it was answered after all.
static BOOLEAN NvmeAbandonAdmin(PNVME_QUEUE Queue, PNVME_TRACKER Tracker, PNVME_WAITER Waiter)
{
    KIRQL OldIrql;
    KeAcquireSpinLock(&Queue->Lock, &OldIrql);
    const BOOLEAN IsOurs = Tracker->State == NvmeTrackerSubmitted && Tracker->Context == Waiter &&
                           KeReadStateEvent(&Waiter->Answered) == 0;
    if (IsOurs) {
        Tracker->Context = NULL;
    }
    KeReleaseSpinLock(&Queue->Lock, OldIrql);
    return IsOurs;
}

static BOOLEAN NvmeWaitForAnswer(PNVME_WAITER Waiter, ULONG Milliseconds)
{
    LARGE_INTEGER Timeout;
    Timeout.QuadPart = -NVME_UNITS_PER_MILLISECOND * Milliseconds;
    return KeWaitForSingleObject(&Waiter->Answered, Executive, KernelMode, FALSE, &Timeout) ==
           STATUS_SUCCESS;
}

NTSTATUS NvmeRunAdminFor(PNVME_CONTROLLER Controller, const NVME_COMMAND *Command,
                         ULONG Milliseconds, PNVME_OUTCOME Outcome)
{
    const PNVME_QUEUE Queue = Controller->Queues[0];
    const LONG64 Deadline = NvmeDeadline(Milliseconds);
    PNVME_TRACKER Tracker = NULL;
    NVME_WAITER Waiter;
    RtlZeroMemory(Outcome, sizeof(*Outcome));
    RtlZeroMemory(&Waiter, sizeof(Waiter));
    KeInitializeEvent(&Waiter.Answered, NotificationEvent, FALSE);
    NTSTATUS Status = Queue != NULL
                          ? NvmeSubmitAdmin(Queue, Command, Milliseconds, &Waiter, &Tracker)
                          : STATUS_DEVICE_NOT_READY;
    if (!NT_SUCCESS(Status)) {
        Outcome->Status = Status;
        return Status;
    }
    while (!NvmeWaitForAnswer(&Waiter, NVME_ADMIN_SLICE)) {
        const BOOLEAN IsLate = NvmeHasPassed(Deadline);
        (VOID) NvmeReap(Queue);
        const NTSTATUS Health = NvmeCheckHealth(Controller);
        if ((IsLate || !NT_SUCCESS(Health)) && NvmeAbandonAdmin(Queue, Tracker, &Waiter)) {
            NvmeRequestRecovery(Controller, NvmeReasonLook);
            Outcome->Status = STATUS_IO_TIMEOUT;
            return STATUS_IO_TIMEOUT;
        }
    }
    *Outcome = Waiter.Outcome;
    return Outcome->Status;
}

NTSTATUS NvmeRunAdmin(PNVME_CONTROLLER Controller, const NVME_COMMAND *Command, PULONG Result)
{
    NVME_OUTCOME Outcome;
    const NTSTATUS Status = NvmeRunAdminFor(Controller, Command, NVME_ADMIN_TIMEOUT, &Outcome);
    if (Result != NULL) {
        *Result = Outcome.Result;
    }
    return Status;
}

// -------------------------------------------------------------------------------------------------
// Pages.

PNVME_ADMIN_PAGE NvmeTakeAdminPage(PNVME_CONTROLLER Controller)
{
    PNVME_ADMIN_PAGE Page = NULL;
    KIRQL OldIrql;
    KeAcquireSpinLock(&Controller->AdminPageLock, &OldIrql);
    for (ULONG Index = 0; Index < NVME_ADMIN_PAGES && Page == NULL; Index += 1) {
        if (!Controller->AdminPages[Index].IsTaken && Controller->AdminPages[Index].Va != NULL) {
            Page = &Controller->AdminPages[Index];
            Page->IsTaken = TRUE;
        }
    }
    KeReleaseSpinLock(&Controller->AdminPageLock, OldIrql);
    if (Page != NULL) {
        RtlZeroMemory(Page->Va, PAGE_SIZE);
    }
    return Page;
}

VOID NvmeReturnAdminPage(PNVME_CONTROLLER Controller, PNVME_ADMIN_PAGE Page, NTSTATUS Status)
{
    KIRQL OldIrql;
    KeAcquireSpinLock(&Controller->AdminPageLock, &OldIrql);
    Page->IsLost = Status == STATUS_IO_TIMEOUT;
    Page->IsTaken = Page->IsLost;
    KeReleaseSpinLock(&Controller->AdminPageLock, OldIrql);
}

VOID NvmeForgetLostPages(PNVME_CONTROLLER Controller)
{
    KIRQL OldIrql;
    KeAcquireSpinLock(&Controller->AdminPageLock, &OldIrql);
    for (ULONG Index = 0; Index < NVME_ADMIN_PAGES; Index += 1) {
        if (Controller->AdminPages[Index].IsLost) {
            Controller->AdminPages[Index].IsLost = FALSE;
            Controller->AdminPages[Index].IsTaken = FALSE;
        }
    }
    KeReleaseSpinLock(&Controller->AdminPageLock, OldIrql);
}

// -------------------------------------------------------------------------------------------------
// Identify.

NTSTATUS NvmeIdentify(PNVME_CONTROLLER Controller, ULONG What, ULONG NamespaceId,
                      PNVME_ADMIN_PAGE Page)
{
    const NVME_COMMAND Command = {.Opcode = NVME_ADMIN_IDENTIFY,
                                  .NamespaceId = NamespaceId,
                                  .Prp1 = Page->Address,
                                  .Cdw10 = What};
    return NvmeRunAdmin(Controller, &Command, NULL);
}

// Copies a text that the device pads with blanks. Text has room for ByteCount characters and the
// terminator.
static VOID NvmeCopyText(PCHAR Text, const CHAR *Padded, ULONG ByteCount)
{
    while (ByteCount != 0 && (Padded[ByteCount - 1] == ' ' || Padded[ByteCount - 1] == '\0')) {
        ByteCount--;
    }
    RtlCopyMemory(Text, Padded, ByteCount);
    Text[ByteCount] = '\0';
}

// The shift comes from the device: compare before it is used, so that nothing is shifted out.
static ULONG NvmeLongestTransfer(const NVME_CONTROLLER *Controller)
{
    const ULONG Shift = Controller->Data->MaximumTransferShift;
    const ULONG PagesShift = NVME_CAP_MINIMUM_PAGE_SHIFT(Controller->Capabilities);
    ULONG ByteCount =
        NvmeSmaller(NVME_MAXIMUM_COMMAND_BYTES, (Controller->MapRegisterCount - 1) * PAGE_SIZE);
    if (Shift != 0 && (ULONG64)Shift + PagesShift < 32) {
        ByteCount = NvmeSmaller(ByteCount, 1u << (Shift + PagesShift));
    }
    return ByteCount;
}

NTSTATUS NvmeIdentifyController(PNVME_CONTROLLER Controller)
{
    const PNVME_ADMIN_PAGE Page = NvmeTakeAdminPage(Controller);
    if (Page == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    NTSTATUS Status = NvmeIdentify(Controller, NVME_IDENTIFY_CONTROLLER, 0, Page);
    if (NT_SUCCESS(Status) && Controller->Data == NULL) {
        Controller->Data =
            ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(*Controller->Data), NVME_TAG);
        Status = Controller->Data != NULL ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;
    }
    if (NT_SUCCESS(Status)) {
        RtlCopyMemory(Controller->Data, Page->Va, sizeof(*Controller->Data));
        const NVME_IDENTIFY_CONTROLLER_DATA *Data = Controller->Data;
        NvmeCopyText(Controller->SerialNumber, Data->SerialNumber, sizeof(Data->SerialNumber));
        NvmeCopyText(Controller->ModelNumber, Data->ModelNumber, sizeof(Data->ModelNumber));
        NvmeCopyText(Controller->FirmwareRevision, Data->FirmwareRevision,
                     sizeof(Data->FirmwareRevision));
        Controller->MaximumTransferBytes = NvmeLongestTransfer(Controller);
    }
    NvmeReturnAdminPage(Controller, Page, Status);
    return Status;
}

// -------------------------------------------------------------------------------------------------
// Queues.

NTSTATUS NvmeSetQueueCount(PNVME_CONTROLLER Controller, ULONG Count, PULONG Granted)
{
    const NVME_COMMAND Command = {.Opcode = NVME_ADMIN_SET_FEATURES,
                                  .Cdw10 = NVME_FEATURE_QUEUE_COUNT,
                                  .Cdw11 = (Count - 1) << 16 | (Count - 1)};
    ULONG Result;
    const NTSTATUS Status = NvmeRunAdmin(Controller, &Command, &Result);
    *Granted = NvmeSmaller(Result & 0xFFFF, Result >> 16) + 1;
    return Status;
}

NTSTATUS NvmeCreateQueuePair(PNVME_QUEUE Queue)
{
    const NVME_COMMAND Completion = {.Opcode = NVME_ADMIN_CREATE_COMPLETION_QUEUE,
                                     .Prp1 = Queue->CompletionAddress,
                                     .Cdw10 = NVME_QUEUE_CDW10(Queue->EntryCount, Queue->Id),
                                     .Cdw11 = NVME_QUEUE_CONTIGUOUS |
                                              NVME_QUEUE_MESSAGE(Queue->Message) |
                                              (Queue->IsPolled ? 0 : NVME_QUEUE_INTERRUPTS)};
    const NVME_COMMAND Submission = {.Opcode = NVME_ADMIN_CREATE_SUBMISSION_QUEUE,
                                     .Prp1 = Queue->SubmissionAddress,
                                     .Cdw10 = NVME_QUEUE_CDW10(Queue->EntryCount, Queue->Id),
                                     .Cdw11 = NVME_QUEUE_CONTIGUOUS |
                                              NVME_QUEUE_COMPLETES_TO(Queue->Id)};
    NTSTATUS Status = NvmeRunAdmin(Queue->Controller, &Completion, NULL);
    if (NT_SUCCESS(Status)) {
        Status = NvmeRunAdmin(Queue->Controller, &Submission, NULL);
    }
    return Status;
}

NTSTATUS NvmeDeleteQueuePair(PNVME_QUEUE Queue)
{
    const NVME_COMMAND Submission = {.Opcode = NVME_ADMIN_DELETE_SUBMISSION_QUEUE,
                                     .Cdw10 = Queue->Id};
    const NVME_COMMAND Completion = {.Opcode = NVME_ADMIN_DELETE_COMPLETION_QUEUE,
                                     .Cdw10 = Queue->Id};
    NTSTATUS Status = NvmeRunAdmin(Queue->Controller, &Submission, NULL);
    if (NT_SUCCESS(Status)) {
        Status = NvmeRunAdmin(Queue->Controller, &Completion, NULL);
    }
    return Status;
}

VOID NvmeEnableShadow(PNVME_CONTROLLER Controller)
{
    const NVME_COMMAND Command = {.Opcode = NVME_ADMIN_DOORBELL_BUFFER,
                                  .Prp1 = (ULONG64)Controller->ShadowAddress.QuadPart,
                                  .Prp2 = (ULONG64)Controller->ShadowAddress.QuadPart + PAGE_SIZE};
    if (!Controller->Parameters.UseShadow ||
        (Controller->Data->OptionalAdminCommands & NVME_OACS_DOORBELL_BUFFER) == 0 ||
        !NT_SUCCESS(NvmeRunAdmin(Controller, &Command, NULL))) {
        return;
    }
    for (ULONG Id = 1; Id < NVME_MAXIMUM_QUEUES; Id += 1) {
        if (Controller->Queues[Id] != NULL) {
            NvmeSetShadow(Controller->Queues[Id], TRUE);
        }
    }
}
