// Admin commands, and NVM commands that a thread waits for.
//
//   RunAdmin   tracker of the admin queue --> ring --> wait --> outcome
//                                                       |
//                                                 time is up: the tracker forgets the waiter, who
//                                                 leaves
//
// Invariants:
//   A1  What a waiter has on its stack is known to its tracker alone, and only until the waiter
//       leaves: both look at Tracker->Context under the queue lock. A late completion finds NULL
//       there.
//   A2  A page whose command was not answered in time is not given out again until the controller
//       was reset: until then the controller may write to it.
#include "nvme.h"

#define NVME_ADMIN_TIMEOUT 5000 // milliseconds
#define NVME_WAIT_SLICE 50      // milliseconds; then it looks itself whether there are completions
#define NVME_CLOCK_UNIT 100     // milliseconds, of NVME_CONTROLLER.Clock

// -------------------------------------------------------------------------------------------------
// Commands that somebody waits for.

typedef struct _NVME_WAIT {
    KEVENT Ended;
    NVME_OUTCOME Outcome;
} NVME_WAIT, *PNVME_WAIT;

static VOID NvmeEndWait(PNVME_TRACKER Tracker, NTSTATUS Status, ULONG Result,
                        PNVME_FINISHED Finished)
{
    const PNVME_WAIT Wait = Tracker->Context;
    UNREFERENCED_PARAMETER(Finished);
    NvmeUnmapTransfer(Tracker);
    Tracker->TimeLimit = 0;
    if (Wait == NULL) {
        return; // A1
    }
    Wait->Outcome.Status = Status;
    Wait->Outcome.StatusField = Tracker->StatusField;
    Wait->Outcome.Result = Result;
    KeSetEvent(&Wait->Ended, IO_NO_INCREMENT, FALSE);
}

static BOOLEAN NvmeWaitSlice(PNVME_WAIT Wait)
{
    const LARGE_INTEGER Slice = {.QuadPart = NVME_WAIT_SLICE * -10000ll};
    return KeWaitForSingleObject(&Wait->Ended, Executive, KernelMode, FALSE,
                                 (PLARGE_INTEGER)&Slice) == STATUS_SUCCESS;
}

static VOID NvmeCountMissedInterrupt(PNVME_QUEUE Queue)
{
    KIRQL OldIrql;
    KeAcquireSpinLock(&Queue->Lock, &OldIrql);
    Queue->Counters.MissedInterrupts += 1;
    KeReleaseSpinLock(&Queue->Lock, OldIrql);
}

// While the controller recovers, its registers tell nothing of the command, which is given to it
// again.
static BOOLEAN NvmeIsHopeless(PNVME_CONTROLLER Controller)
{
    return Controller->State != NvmeRecovering && !NT_SUCCESS(NvmeCheckHealth(Controller));
}

// TRUE: the command has ended. A completion that nobody announced is found here, too, as is a
// controller that is gone: while it is started, there is no watchdog yet.
static BOOLEAN NvmeAwait(PNVME_QUEUE Queue, PNVME_WAIT Wait, ULONG Milliseconds)
{
    const LONG64 Deadline = NvmeDeadline(Milliseconds);
    while (!NvmeWaitSlice(Wait)) {
        if (NvmeReap(Queue) != 0) {
            NvmeCountMissedInterrupt(Queue);
        } else if (NvmeHasPassed(Deadline) || NvmeIsHopeless(Queue->Controller)) {
            return FALSE;
        }
    }
    return TRUE;
}

// A1. FALSE: it has ended at the last moment.
static BOOLEAN NvmeLeave(PNVME_TRACKER Tracker, PNVME_WAIT Wait)
{
    const PNVME_QUEUE Queue = Tracker->Queue;
    KIRQL OldIrql;
    KeAcquireSpinLock(&Queue->Lock, &OldIrql);
    const BOOLEAN HasEnded = KeReadStateEvent(&Wait->Ended) != 0;
    if (!HasEnded) {
        Tracker->Context = NULL;
    }
    KeReleaseSpinLock(&Queue->Lock, OldIrql);
    return !HasEnded;
}

// With the queue lock. STATUS_INSUFFICIENT_RESOURCES: no tracker now.
static NTSTATUS NvmeStartWait(PNVME_QUEUE Queue, const NVME_COMMAND *Command, PNVME_WAIT Wait,
                              PNVME_TRACKER *Tracker)
{
    const NTSTATUS Status = Queue->ClosedStatus;
    *Tracker = NT_SUCCESS(Status) ? NvmeGetTracker(Queue) : NULL;
    if (*Tracker == NULL) {
        return NT_SUCCESS(Status) ? STATUS_INSUFFICIENT_RESOURCES : Status;
    }
    (*Tracker)->Command = *Command;
    (*Tracker)->Done = NvmeEndWait;
    (*Tracker)->Context = Wait;
    (*Tracker)->List = NULL;
    return STATUS_SUCCESS;
}

static NTSTATUS NvmeSubmitAdmin(PNVME_QUEUE Queue, const NVME_COMMAND *Command, ULONG Milliseconds,
                                PNVME_WAIT Wait, PNVME_TRACKER *Tracker)
{
    KIRQL OldIrql;
    KeAcquireSpinLock(&Queue->Lock, &OldIrql);
    const NTSTATUS Status = NvmeStartWait(Queue, Command, Wait, Tracker);
    if (NT_SUCCESS(Status)) {
        // The watchdog is the second to lose patience.
        (*Tracker)->TimeLimit = (Milliseconds + Milliseconds / 2) / NVME_CLOCK_UNIT + 1;
        NvmeSubmit(*Tracker);
        NvmeRing(Queue);
    }
    KeReleaseSpinLock(&Queue->Lock, OldIrql);
    return Status;
}

NTSTATUS NvmeRunAdminFor(PNVME_CONTROLLER Controller, const NVME_COMMAND *Command,
                         ULONG Milliseconds, PNVME_OUTCOME Outcome)
{
    const PNVME_QUEUE Queue = Controller->Queues[0];
    const LONG64 Deadline = NvmeDeadline(Milliseconds);
    PNVME_TRACKER Tracker;
    NVME_WAIT Wait;
    NT_ASSERT(KeGetCurrentIrql() == PASSIVE_LEVEL);
    RtlZeroMemory(Outcome, sizeof(*Outcome));
    RtlZeroMemory(&Wait, sizeof(Wait));
    KeInitializeEvent(&Wait.Ended, NotificationEvent, FALSE);

    Outcome->Status = STATUS_DEVICE_NOT_READY;
    if (Queue == NULL) {
        return Outcome->Status;
    }
    while ((Outcome->Status = NvmeSubmitAdmin(Queue, Command, Milliseconds, &Wait, &Tracker)) ==
               STATUS_INSUFFICIENT_RESOURCES &&
           !NvmeHasPassed(Deadline)) {
        NvmeSleep(1); // all trackers are taken by others
    }
    if (!NT_SUCCESS(Outcome->Status)) {
        return Outcome->Status;
    }
    if (!NvmeAwait(Queue, &Wait, Milliseconds) && NvmeLeave(Tracker, &Wait)) {
        DbgPrint("NVMe: admin command 0x%02x is not answered\n", Command->Opcode);
        NvmeRequestRecovery(Controller, NvmeReasonLook);
        Outcome->Status = STATUS_IO_TIMEOUT;
        return STATUS_IO_TIMEOUT;
    }
    *Outcome = Wait.Outcome;
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

// With the queue lock. The tracker is given back when the transfer can't be mapped.
static NTSTATUS NvmeStartNvm(PNVME_QUEUE Queue, const NVME_COMMAND *Command, const NVME_DATA *Data,
                             PNVME_WAIT Wait)
{
    PNVME_TRACKER Tracker;
    NTSTATUS Status = NvmeStartWait(Queue, Command, Wait, &Tracker);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    if (Data->Mdl != NULL) {
        Status =
            NvmeMapTransfer(Tracker, Data->Mdl, Data->Offset, Data->ByteCount, Data->WriteToDevice);
    }
    if (!NT_SUCCESS(Status)) {
        NvmePutTracker(Tracker);
        return Status;
    }
    NvmeSubmit(Tracker);
    NvmeRing(Queue);
    return STATUS_SUCCESS;
}

// At DISPATCH_LEVEL: whoever closes the namespace waits until no processor is there.
static NTSTATUS NvmeCheckNamespace(const NVME_NAMESPACE *Namespace, const NVME_DATA *Data)
{
    if (!NT_SUCCESS(Namespace->ClosedStatus)) {
        return Namespace->ClosedStatus;
    }
    return Namespace->BlockShift == Data->BlockShift ? STATUS_SUCCESS : STATUS_DEVICE_BUSY;
}

static NTSTATUS NvmeSubmitNvm(PNVME_NAMESPACE Namespace, const NVME_COMMAND *Command,
                              const NVME_DATA *Data, PNVME_WAIT Wait)
{
    NTSTATUS Status = STATUS_DEVICE_NOT_READY;
    KIRQL OldIrql;
    KeRaiseIrql(DISPATCH_LEVEL, &OldIrql);
    const PNVME_QUEUE Queue = NvmeCurrentQueue(Namespace->Device.Controller);
    if (Queue != NULL) {
        KeAcquireSpinLockAtDpcLevel(&Queue->Lock);
        Status = NvmeCheckNamespace(Namespace, Data);
        if (NT_SUCCESS(Status)) {
            Status = NvmeStartNvm(Queue, Command, Data, Wait);
        }
        KeReleaseSpinLockFromDpcLevel(&Queue->Lock);
    }
    KeLowerIrql(OldIrql);
    return Status;
}

NTSTATUS NvmeRunNvm(PNVME_NAMESPACE Namespace, const NVME_COMMAND *Command, const NVME_DATA *Data,
                    PNVME_OUTCOME Outcome)
{
    const LONG64 Deadline = NvmeDeadline(NVME_ADMIN_TIMEOUT);
    NVME_WAIT Wait;
    NT_ASSERT(KeGetCurrentIrql() == PASSIVE_LEVEL);
    RtlZeroMemory(Outcome, sizeof(*Outcome));
    RtlZeroMemory(&Wait, sizeof(Wait));
    KeInitializeEvent(&Wait.Ended, NotificationEvent, FALSE);
    while ((Outcome->Status = NvmeSubmitNvm(Namespace, Command, Data, &Wait)) ==
               STATUS_INSUFFICIENT_RESOURCES &&
           !NvmeHasPassed(Deadline)) {
        NvmeSleep(1); // no tracker, or no map register
    }
    if (!NT_SUCCESS(Outcome->Status)) {
        return Outcome->Status;
    }
    // The data are the caller's: there is no leaving before the end (N2).
    (VOID) KeWaitForSingleObject(&Wait.Ended, Executive, KernelMode, FALSE, NULL);
    *Outcome = Wait.Outcome;
    return Outcome->Status;
}

BOOLEAN NvmeQueueHasCommandOf(PNVME_QUEUE Queue, ULONG NamespaceId)
{
    BOOLEAN IsFound = FALSE;
    KIRQL OldIrql;
    KeAcquireSpinLock(&Queue->Lock, &OldIrql);
    for (ULONG Index = 0; Index < Queue->TrackerCount && !IsFound; Index += 1) {
        const NVME_TRACKER *Tracker = &Queue->Trackers[Index];
        IsFound = Tracker->State == NvmeTrackerSubmitted && Tracker->Done == NvmeEndWait &&
                  Tracker->Command.NamespaceId == NamespaceId;
    }
    KeReleaseSpinLock(&Queue->Lock, OldIrql);
    return IsFound;
}

// -------------------------------------------------------------------------------------------------
// Pages.

PNVME_ADMIN_PAGE NvmeTakeAdminPage(PNVME_CONTROLLER Controller)
{
    PNVME_ADMIN_PAGE Found = NULL;
    KIRQL OldIrql;
    KeAcquireSpinLock(&Controller->AdminPageLock, &OldIrql);
    for (ULONG Index = 0; Found == NULL && Index < NVME_ADMIN_PAGES; Index += 1) {
        const PNVME_ADMIN_PAGE Page = &Controller->AdminPages[Index];
        if (Page->Va != NULL && !Page->IsTaken && !Page->IsLost) {
            Page->IsTaken = TRUE;
            Found = Page;
        }
    }
    KeReleaseSpinLock(&Controller->AdminPageLock, OldIrql);
    if (Found != NULL) {
        RtlZeroMemory(Found->Va, PAGE_SIZE);
    }
    return Found;
}

PNVME_ADMIN_PAGE NvmeWaitForAdminPage(PNVME_CONTROLLER Controller)
{
    const LONG64 Deadline = NvmeDeadline(NVME_ADMIN_TIMEOUT);
    PNVME_ADMIN_PAGE Page = NvmeTakeAdminPage(Controller);
    while (Page == NULL && !NvmeHasPassed(Deadline)) {
        NvmeSleep(1);
        Page = NvmeTakeAdminPage(Controller);
    }
    return Page;
}

VOID NvmeReturnAdminPage(PNVME_CONTROLLER Controller, PNVME_ADMIN_PAGE Page, NTSTATUS Status)
{
    KIRQL OldIrql;
    KeAcquireSpinLock(&Controller->AdminPageLock, &OldIrql);
    Page->IsTaken = FALSE;
    Page->IsLost = Status == STATUS_IO_TIMEOUT; // A2
    KeReleaseSpinLock(&Controller->AdminPageLock, OldIrql);
}

VOID NvmeForgetLostPages(PNVME_CONTROLLER Controller)
{
    KIRQL OldIrql;
    KeAcquireSpinLock(&Controller->AdminPageLock, &OldIrql);
    for (ULONG Index = 0; Index < NVME_ADMIN_PAGES; Index += 1) {
        Controller->AdminPages[Index].IsLost = FALSE;
    }
    KeReleaseSpinLock(&Controller->AdminPageLock, OldIrql);
}

// -------------------------------------------------------------------------------------------------
// What the driver itself asks.

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
// terminator. What is no printable ASCII becomes a question mark: it is printed.
static VOID NvmeCopyText(PCHAR Text, const CHAR *Padded, ULONG ByteCount)
{
    while (ByteCount != 0 && (Padded[ByteCount - 1] == ' ' || Padded[ByteCount - 1] == '\0')) {
        ByteCount--;
    }
    for (ULONG Index = 0; Index < ByteCount; Index += 1) {
        Text[Index] = Padded[Index] >= ' ' && Padded[Index] <= '~' ? Padded[Index] : '?';
    }
    Text[ByteCount] = '\0';
}

static VOID NvmeLearnController(PNVME_CONTROLLER Controller)
{
    const NVME_IDENTIFY_CONTROLLER_DATA *Data = Controller->Data;
    NvmeCopyText(Controller->SerialNumber, Data->SerialNumber, sizeof(Data->SerialNumber));
    NvmeCopyText(Controller->ModelNumber, Data->ModelNumber, sizeof(Data->ModelNumber));
    NvmeCopyText(Controller->FirmwareRevision, Data->FirmwareRevision,
                 sizeof(Data->FirmwareRevision));

    // The shift comes from the device: compare before it is used, so that nothing is shifted out.
    const ULONG Shift = Data->MaximumTransferShift;
    const ULONG PageShift = NVME_CAP_MINIMUM_PAGE_SHIFT(Controller->Capabilities);
    ULONG Bytes = NVME_MAXIMUM_COMMAND_BYTES;
    if (Controller->MapRegisterCount <= Bytes / PAGE_SIZE) {
        Bytes = (Controller->MapRegisterCount - 1) * PAGE_SIZE;
    }
    if (Shift != 0 && Shift + PageShift < 32) {
        Bytes = NvmeSmaller(Bytes, 1u << (Shift + PageShift));
    }
    Controller->MaximumTransferBytes = Bytes;
}

NTSTATUS NvmeIdentifyController(PNVME_CONTROLLER Controller)
{
    const PNVME_ADMIN_PAGE Page = NvmeWaitForAdminPage(Controller);
    if (Page == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    const NTSTATUS Status = NvmeIdentify(Controller, NVME_IDENTIFY_CONTROLLER, 0, Page);
    if (NT_SUCCESS(Status) && Controller->Data == NULL) {
        Controller->Data =
            ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(*Controller->Data), NVME_TAG);
    }
    if (NT_SUCCESS(Status) && Controller->Data != NULL) {
        RtlCopyMemory(Controller->Data, Page->Va, sizeof(*Controller->Data));
        NvmeLearnController(Controller);
    }
    NvmeReturnAdminPage(Controller, Page, Status);
    return NT_SUCCESS(Status) && Controller->Data == NULL ? STATUS_INSUFFICIENT_RESOURCES : Status;
}

// QEMU grants what it has, whatever it is asked for; the spec lets a controller grant more, too.
NTSTATUS NvmeSetQueueCount(PNVME_CONTROLLER Controller, ULONG Count, PULONG Granted)
{
    const NVME_COMMAND Command = {.Opcode = NVME_ADMIN_SET_FEATURES,
                                  .Cdw10 = NVME_FEATURE_QUEUE_COUNT,
                                  .Cdw11 = (Count - 1) << 16 | (Count - 1)};
    ULONG Result;
    NT_ASSERT(Count != 0 && Count <= 0xFFFF);
    const NTSTATUS Status = NvmeRunAdmin(Controller, &Command, &Result);
    const ULONG Offered = NvmeSmaller(Result & 0xFFFF, Result >> 16) + 1;
    *Granted = NT_SUCCESS(Status) ? NvmeSmaller(Count, Offered) : 0;
    return Status;
}

static NTSTATUS NvmeDeleteQueue(PNVME_QUEUE Queue, UCHAR Opcode)
{
    const NVME_COMMAND Command = {.Opcode = Opcode, .Cdw10 = Queue->Id};
    return NvmeRunAdmin(Queue->Controller, &Command, NULL);
}

NTSTATUS NvmeCreateQueuePair(PNVME_QUEUE Queue)
{
    const ULONG Interrupts =
        Queue->IsPolled ? 0 : NVME_QUEUE_INTERRUPTS | NVME_QUEUE_MESSAGE(Queue->Message);
    const NVME_COMMAND Completion = {.Opcode = NVME_ADMIN_CREATE_COMPLETION_QUEUE,
                                     .Prp1 = Queue->CompletionAddress,
                                     .Cdw10 = NVME_QUEUE_CDW10(Queue->EntryCount, Queue->Id),
                                     .Cdw11 = NVME_QUEUE_CONTIGUOUS | Interrupts};
    const NVME_COMMAND Submission = {.Opcode = NVME_ADMIN_CREATE_SUBMISSION_QUEUE,
                                     .Prp1 = Queue->SubmissionAddress,
                                     .Cdw10 = NVME_QUEUE_CDW10(Queue->EntryCount, Queue->Id),
                                     .Cdw11 = NVME_QUEUE_CONTIGUOUS |
                                              NVME_QUEUE_COMPLETES_TO(Queue->Id)};
    NTSTATUS Status = NvmeRunAdmin(Queue->Controller, &Completion, NULL);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    Status = NvmeRunAdmin(Queue->Controller, &Submission, NULL);
    if (!NT_SUCCESS(Status)) {
        (VOID) NvmeDeleteQueue(Queue, NVME_ADMIN_DELETE_COMPLETION_QUEUE);
    }
    return Status;
}

NTSTATUS NvmeDeleteQueuePair(PNVME_QUEUE Queue)
{
    const NTSTATUS Status = NvmeDeleteQueue(Queue, NVME_ADMIN_DELETE_SUBMISSION_QUEUE);
    return NT_SUCCESS(Status) ? NvmeDeleteQueue(Queue, NVME_ADMIN_DELETE_COMPLETION_QUEUE) : Status;
}

VOID NvmeEnableShadow(PNVME_CONTROLLER Controller)
{
    const BOOLEAN IsOffered =
        (Controller->Data->OptionalAdminCommands & NVME_OACS_DOORBELL_BUFFER) != 0;
    if (!IsOffered || Controller->Parameters.UseShadow == 0 || Controller->Shadow == NULL) {
        return;
    }
    const NVME_COMMAND Command = {.Opcode = NVME_ADMIN_DOORBELL_BUFFER,
                                  .Prp1 = (ULONG64)Controller->ShadowAddress.QuadPart,
                                  .Prp2 = (ULONG64)Controller->ShadowAddress.QuadPart + PAGE_SIZE};
    const NTSTATUS Status = NvmeRunAdmin(Controller, &Command, NULL);
    if (!NT_SUCCESS(Status)) {
        DbgPrint("NVMe: no shadow doorbells: status 0x%08x\n", Status);
    }
    for (ULONG Id = 1; Id < NVME_MAXIMUM_QUEUES; Id += 1) {
        if (Controller->Queues[Id] != NULL) {
            NvmeSetShadow(Controller->Queues[Id], NT_SUCCESS(Status));
        }
    }
}
