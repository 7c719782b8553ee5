// When a controller does not do what it should: the watchdog notices, the recovery thread acts.
//
//   timer, every 100 ms (NvmeWatch)                      recovery thread (NvmeRecover), under the mutex
//     a completion that nobody announced --> reap it
//     silence with work to do, or idleness --> look at VS and CSTS
//     a command is late                  --> Look -----> not answered: Abort command
//     a command is late, and was aborted --> Look -----> reset, and the others once more
//     CSTS.CFS                           --> Fatal ----> reset
//     registers read as zeros or ones    --> Gone -----> the bus still knows it: reset of the function
//                                                        or else: every request ends, PnP is told
//
//   reset   hold the queues, reap what is there --> halt (controller.c) --> empty rings, admin queue anew,
//           I/O queues anew --> each command again, by a new id; the late one ends
//
// Invariants:
//   R1  A command that was not answered ends only when the controller cannot touch its memory any more: it
//       is disabled, reset, cut off from the bus, or gone. If none of that can be had, the command never
//       ends, and its memory is the controller's for ever; LostCommands counts it.
//   R2  A completion of before a reset cannot hit a command of after it: the rings are emptied while the
//       controller is disabled, and each command gets a new id (N3).
//   R3  A command is given to the controller NVME_RETRY_LIMIT + 1 times at most.
//   R4  Nothing is allocated between the start and the stop: a reset cannot fail for want of memory.
//   R5  Whoever waits for an admin command has a time limit of his own, and looks at the health of the
//       controller meanwhile (NvmeRunAdmin): so the recovery may use admin commands itself.
//
// A missed interrupt costs 100 to 200 ms. When it happens to a queue NVME_MISS_LIMIT times, the watchdog
// polls the queue, at the resolution of the timer, until an interrupt comes again.
#include "nvme.h"
#include "queueinline.h"

#define NVME_WATCH_PERIOD 100    // milliseconds; the unit of NVME_CONTROLLER.Clock
#define NVME_POLL_PERIOD 2       // milliseconds, while a queue is polled
#define NVME_QUIET_TICKS 5       // so long silent with work to do: time to look at the registers
#define NVME_IDLE_TICKS 10       // so long without work: the same
#define NVME_SCAN_TICKS 2        // how often the age of commands is looked at
#define NVME_MISS_LIMIT 3        // missed interrupts until a queue is polled
#define NVME_RETRY_LIMIT 3       // how often a command may be given to the controller again
#define NVME_ABORTS_AT_A_TIME 8  // late commands that one pass looks at
#define NVME_ABORT_FAILED 1u     // dword 0 of its completion
#define NVME_REENABLE_ATTEMPTS 2 // after each of which the next harder reset comes

//
// Queues, one after the other.
//

VOID NvmeForEachQueue(PNVME_CONTROLLER Controller, VOID (*Routine)(PNVME_QUEUE Queue))
{
    for (ULONG Id = 0; Id < NVME_MAXIMUM_QUEUES; Id += 1) {
        if (Controller->Queues[Id] != NULL) {
            Routine(Controller->Queues[Id]);
        }
    }
}

static VOID NvmeReapQueue(PNVME_QUEUE Queue)
{
    (VOID) NvmeReap(Queue);
}

VOID NvmeReapAll(PNVME_CONTROLLER Controller)
{
    NvmeForEachQueue(Controller, NvmeReapQueue);
}

// The commands of an unstoppable controller stay where they are (R1); only what it never saw ends.
static VOID NvmeAbandonQueue(PNVME_QUEUE Queue, NTSTATUS Status)
{
    NVME_FINISHED Finished;
    KIRQL OldIrql;
    NvmeStartFinished(&Finished);
    KeAcquireSpinLock(&Queue->Lock, &OldIrql);
    Queue->State = NvmeQueueClosed;
    Queue->ClosedStatus = Status;
    // Who waits for an admin command does so for a limited time only.
    Queue->Controller->Recovery.Counters.LostCommands +=
        Queue->Id != 0 ? Queue->OutstandingCount : 0;
    NvmeFailWaiting(Queue, Status, &Finished);
    KeReleaseSpinLockFromDpcLevel(&Queue->Lock);
    NvmeTellFinished(&Finished);
    KeLowerIrql(OldIrql);
}

VOID NvmeEndAll(PNVME_CONTROLLER Controller, NTSTATUS Status)
{
    for (ULONG Id = 0; Id < NVME_MAXIMUM_QUEUES; Id += 1) {
        const PNVME_QUEUE Queue = Controller->Queues[Id];
        if (Queue != NULL && Controller->Unstoppable) {
            NvmeAbandonQueue(Queue, Status);
        } else if (Queue != NULL) {
            NvmeFailQueue(Queue, Status);
        }
    }
}

//
// Late commands.
//

// MAXULONG: for ever, as requests for events.
static ULONG NvmeTimeLimit(const NVME_TRACKER *Tracker)
{
    const ULONG Milliseconds = Tracker->Queue->Controller->Parameters.CommandTimeout;
    return Tracker->TimeLimit != 0 ? Tracker->TimeLimit : Milliseconds / NVME_WATCH_PERIOD + 1;
}

// How many timeouts the command has waited: 0, not late; 1, to be aborted; 2, beyond hope. Admin commands
// are not aborted.
static ULONG NvmeLateness(const NVME_TRACKER *Tracker)
{
    const ULONG Limit = NvmeTimeLimit(Tracker);
    if (Tracker->State != NvmeTrackerSubmitted || Limit == MAXULONG) {
        return 0;
    }
    const ULONG Count = (Tracker->Queue->Controller->Clock - Tracker->StartTime) / Limit;
    return Count >= 2 || (Count == 1 && Tracker->Queue->Id == 0) ? 2 : Count;
}

// The worst of the queue's commands.
static ULONG NvmeQueueLateness(PNVME_QUEUE Queue)
{
    ULONG Worst = 0;
    KIRQL OldIrql;
    KeAcquireSpinLock(&Queue->Lock, &OldIrql);
    for (ULONG Index = 0; Index < Queue->TrackerCount; Index += 1) {
        const NVME_TRACKER *Tracker = &Queue->Trackers[Index];
        const ULONG Lateness = NvmeLateness(Tracker);
        // One that was aborted has its second chance until the next timeout.
        if (Lateness > Worst && !(Lateness == 1 && Tracker->IsAborting)) {
            Worst = Lateness;
        }
    }
    KeReleaseSpinLock(&Queue->Lock, OldIrql);
    return Worst;
}

//
// The watchdog's timer.
//

// What a completion that waits since the last look, with no interrupt and no DPC on its way, means.
static BOOLEAN NvmeIsMissed(const NVME_QUEUE *Queue, BOOLEAN HasCompletion)
{
    return HasCompletion && Queue->Watch.HadCompletion &&
           Queue->Watch.Completions == Queue->Counters.Completions &&
           Queue->ReapDpc.DpcData == NULL;
}

static VOID NvmeNoteMiss(PNVME_QUEUE Queue)
{
    PNVME_WATCH Watch = &Queue->Watch;
    Queue->Counters.MissedInterrupts += 1;
    Watch->Misses += 1;
    Watch->Interrupts = Queue->Counters.Interrupts;
    if (Watch->Misses == NVME_MISS_LIMIT) {
        Watch->IsPolled = TRUE;
        DbgPrint("NVMe: queue %u: its interrupts do not arrive; the watchdog polls it\n",
                 Queue->Id);
    }
}

// An interrupt that comes after all ends the polling.
static VOID NvmeNoteInterrupts(PNVME_QUEUE Queue)
{
    PNVME_WATCH Watch = &Queue->Watch;
    if (Watch->Misses != 0 && Watch->Interrupts != Queue->Counters.Interrupts) {
        if (Watch->IsPolled) {
            DbgPrint("NVMe: queue %u: its interrupts arrive again\n", Queue->Id);
        }
        Watch->IsPolled = FALSE;
        Watch->Misses = 0;
    }
}

static VOID NvmeLookForCompletions(PNVME_QUEUE Queue, BOOLEAN IsTick)
{
    PNVME_WATCH Watch = &Queue->Watch;
    if (Queue->IsPolled) {
        return;
    }
    NvmeNoteInterrupts(Queue);
    const BOOLEAN HasCompletion = NvmeHasCompletion(Queue);
    if (Watch->IsPolled) {
        Queue->Counters.MissedInterrupts += NvmeReap(Queue) != 0;
    } else if (IsTick && NvmeIsMissed(Queue, HasCompletion)) {
        NvmeNoteMiss(Queue);
        (VOID) NvmeReap(Queue);
    }
    if (IsTick) {
        Watch->HadCompletion = HasCompletion;
    }
}

// Whether the queue has been silent for so long, though it had something to do.
static BOOLEAN NvmeIsSilent(PNVME_QUEUE Queue)
{
    PNVME_WATCH Watch = &Queue->Watch;
    const ULONG64 Completions = Queue->Counters.Completions;
    const BOOLEAN HasWork = Queue->OutstandingCount != 0;
    Watch->QuietTicks = HasWork && Completions == Watch->Completions ? Watch->QuietTicks + 1 : 0;
    Watch->Completions = Completions;
    return Watch->QuietTicks != 0 && Watch->QuietTicks % NVME_QUIET_TICKS == 0;
}

static VOID NvmeReportHealth(PNVME_CONTROLLER Controller)
{
    const NTSTATUS Health = NvmeCheckHealth(Controller);
    if (Health == STATUS_DEVICE_NOT_CONNECTED) {
        NvmeRequestRecovery(Controller, NvmeReasonGone);
    } else if (!NT_SUCCESS(Health)) {
        NvmeRequestRecovery(Controller, NvmeReasonFatalStatus);
    }
}

// Nobody would notice that an idle controller was pulled out.
static BOOLEAN NvmeIsIdleForLong(PNVME_CONTROLLER Controller)
{
    ULONG64 Commands = 0;
    for (ULONG Id = 0; Id < NVME_MAXIMUM_QUEUES; Id += 1) {
        Commands += Controller->Queues[Id] != NULL ? Controller->Queues[Id]->Counters.Commands : 0;
    }
    const PNVME_RECOVERY Recovery = &Controller->Recovery;
    Recovery->IdleTicks = Commands == Recovery->Commands ? Recovery->IdleTicks + 1 : 0;
    Recovery->Commands = Commands;
    return Recovery->IdleTicks != 0 && Recovery->IdleTicks % NVME_IDLE_TICKS == 0;
}

static VOID NvmeTick(PNVME_CONTROLLER Controller)
{
    // By the clock on the wall: the timer of a busy machine is late.
    LARGE_INTEGER Frequency;
    const LONG64 Now = KeQueryPerformanceCounter(&Frequency).QuadPart;
    Controller->Clock = (ULONG)((Now - Controller->Recovery.StartTime) *
                                (1000 / NVME_WATCH_PERIOD) / Frequency.QuadPart);
    Controller->Recovery.Ticks += 1;
    BOOLEAN MustLook = NvmeIsIdleForLong(Controller);
    for (ULONG Id = 0; Id < NVME_MAXIMUM_QUEUES; Id += 1) {
        const PNVME_QUEUE Queue = Controller->Queues[Id];
        if (Queue == NULL) {
            continue;
        }
        NvmeLookForCompletions(Queue, TRUE);
        // The requests for events are always under way, and whoever waits for the admin queue looks himself.
        MustLook |= NvmeIsSilent(Queue) && Queue->Id != 0;
        if (Queue->OutstandingCount != 0 && Controller->Recovery.Ticks % NVME_SCAN_TICKS == 0 &&
            NvmeQueueLateness(Queue) != 0) {
            NvmeRequestRecovery(Controller, NvmeReasonLook);
        }
    }
    if (MustLook && Controller->State == NvmeReady) {
        NvmeReportHealth(Controller);
    }
}

static BOOLEAN NvmePollsSomething(const NVME_CONTROLLER *Controller)
{
    for (ULONG Id = 0; Id < NVME_MAXIMUM_QUEUES; Id += 1) {
        if (Controller->Queues[Id] != NULL && Controller->Queues[Id]->Watch.IsPolled) {
            return TRUE;
        }
    }
    return FALSE;
}

static VOID NvmeSetTimer(PNVME_CONTROLLER Controller, ULONG Milliseconds)
{
    LARGE_INTEGER Due;
    Due.QuadPart = -10000ll * Milliseconds;
    Controller->Recovery.Period = Milliseconds;
    (VOID) KeSetTimer(&Controller->Recovery.Timer, Due, &Controller->Recovery.TimerDpc);
}

static KDEFERRED_ROUTINE NvmeWatch;

static VOID NTAPI NvmeWatch(PKDPC Dpc, PVOID DeferredContext, PVOID SystemArgument1,
                            PVOID SystemArgument2)
{
    const PNVME_CONTROLLER Controller = DeferredContext;
    PNVME_RECOVERY Recovery = &Controller->Recovery;
    UNREFERENCED_PARAMETER(Dpc);
    UNREFERENCED_PARAMETER(SystemArgument1);
    UNREFERENCED_PARAMETER(SystemArgument2);
    Recovery->Elapsed += Recovery->Period;
    if (Recovery->Elapsed >= NVME_WATCH_PERIOD) {
        Recovery->Elapsed = 0;
        NvmeTick(Controller);
    } else {
        for (ULONG Id = 0; Id < NVME_MAXIMUM_QUEUES; Id += 1) {
            if (Controller->Queues[Id] != NULL) {
                NvmeLookForCompletions(Controller->Queues[Id], FALSE);
            }
        }
    }
    if (!Recovery->IsEnding) {
        NvmeSetTimer(Controller,
                     NvmePollsSomething(Controller) ? NVME_POLL_PERIOD : NVME_WATCH_PERIOD);
    }
}

//
// Abort.
//

typedef struct _NVME_LATE_COMMAND {
    USHORT QueueId;
    USHORT CommandId;
} NVME_LATE_COMMAND;

// Notes the commands to be aborted, each once.
static ULONG NvmeCollectLate(PNVME_QUEUE Queue, NVME_LATE_COMMAND *Commands, ULONG Room)
{
    ULONG Count = 0;
    KIRQL OldIrql;
    KeAcquireSpinLock(&Queue->Lock, &OldIrql);
    for (ULONG Index = 0; Index < Queue->TrackerCount && Count < Room; Index += 1) {
        const PNVME_TRACKER Tracker = &Queue->Trackers[Index];
        if (NvmeLateness(Tracker) == 0 || Tracker->IsAborting) {
            continue;
        }
        Tracker->IsAborting = TRUE;
        Queue->Counters.Timeouts += 1;
        Commands[Count++] = (NVME_LATE_COMMAND){Queue->Id, Tracker->Command.CommandId};
    }
    KeReleaseSpinLock(&Queue->Lock, OldIrql);
    return Count;
}

// FALSE: even that is not answered.
static BOOLEAN NvmeAbort(PNVME_CONTROLLER Controller, NVME_LATE_COMMAND Late)
{
    NVME_COMMAND Command = {.Opcode = NVME_ADMIN_ABORT,
                            .Cdw10 = (ULONG)Late.CommandId << 16 | Late.QueueId};
    NVME_OUTCOME Outcome;
    Controller->Recovery.Counters.Aborts += 1;
    const NTSTATUS Status =
        NvmeRunAdminFor(Controller, &Command, Controller->Parameters.CommandTimeout, &Outcome);
    const BOOLEAN IsAborted = NT_SUCCESS(Status) && (Outcome.Result & NVME_ABORT_FAILED) == 0;
    Controller->Recovery.Counters.AbortedCommands += IsAborted;
    DbgPrint("NVMe: queue %u: command 0x%04x is late: %s (status 0x%08x)\n", Late.QueueId,
             Late.CommandId, IsAborted ? "aborted" : "the controller did not abort it", Status);
    return Status != STATUS_IO_TIMEOUT;
}

// FALSE: the controller does not even answer to that.
static BOOLEAN NvmeAbortLate(PNVME_CONTROLLER Controller)
{
    for (ULONG Id = 1; Id < NVME_MAXIMUM_QUEUES; Id += 1) {
        NVME_LATE_COMMAND Late[NVME_ABORTS_AT_A_TIME];
        const PNVME_QUEUE Queue = Controller->Queues[Id];
        const ULONG Count = Queue != NULL ? NvmeCollectLate(Queue, Late, ARRAYSIZE(Late)) : 0;
        for (ULONG Index = 0; Index < Count; Index += 1) {
            if (!NvmeAbort(Controller, Late[Index])) {
                return FALSE;
            }
        }
    }
    return TRUE;
}

//
// Reset.
//

// Decides for each command that is under way whether it gets another chance.
static VOID NvmeJudge(PNVME_QUEUE Queue)
{
    KIRQL OldIrql;
    KeAcquireSpinLock(&Queue->Lock, &OldIrql);
    for (ULONG Index = 0; Index < Queue->TrackerCount; Index += 1) {
        const PNVME_TRACKER Tracker = &Queue->Trackers[Index];
        if (Tracker->State != NvmeTrackerSubmitted || Tracker->EndStatus != STATUS_SUCCESS) {
            continue;
        }
        if (NvmeLateness(Tracker) >= 1) {
            Tracker->EndStatus = STATUS_IO_TIMEOUT;
        } else if (Tracker->RetryCount >= NVME_RETRY_LIMIT) { // NvmeResubmit counts
            Tracker->EndStatus = STATUS_IO_DEVICE_ERROR;
        }
    }
    KeReleaseSpinLock(&Queue->Lock, OldIrql);
}

// All commands of a controller that is gone end in the same way.
static VOID NvmePardon(PNVME_QUEUE Queue)
{
    KIRQL OldIrql;
    KeAcquireSpinLock(&Queue->Lock, &OldIrql);
    for (ULONG Index = 0; Index < Queue->TrackerCount; Index += 1) {
        Queue->Trackers[Index].EndStatus = STATUS_SUCCESS;
    }
    KeReleaseSpinLock(&Queue->Lock, OldIrql);
}

// The controller is as if it had just been switched on, and touches nothing.
static VOID NvmeForgetController(PNVME_CONTROLLER Controller)
{
    for (ULONG Id = 1; Id < NVME_MAXIMUM_QUEUES; Id += 1) {
        if (Controller->Queues[Id] != NULL) {
            NvmeSetShadow(Controller->Queues[Id], FALSE);
        }
    }
    NvmeFailQueue(Controller->Queues[0], STATUS_REQUEST_ABORTED);
    NvmeForgetLostPages(Controller);
}

// Returns STATUS_SUCCESS when the controller works again, or what NvmeHaltController said last.
static NTSTATUS NvmeHaltAndReenable(PNVME_CONTROLLER Controller, NVME_RESET_KIND Kind)
{
    NTSTATUS Status = NvmeHaltController(Controller, Kind);
    for (ULONG Attempt = 0; NT_SUCCESS(Status) && Attempt < NVME_REENABLE_ATTEMPTS; Attempt += 1) {
        NvmeReapAll(Controller); // it may have answered while it was told to stop
        NvmeForgetController(Controller);
        Status = NvmeReenableController(Controller);
        if (NT_SUCCESS(Status)) {
            return STATUS_SUCCESS;
        }
        DbgPrint("NVMe: the controller does not come back: status 0x%08x\n", Status);
        Status = NvmeHaltController(Controller, NvmeFunctionReset);
    }
    return NT_SUCCESS(Status) ? STATUS_DEVICE_HARDWARE_ERROR : Status;
}

static VOID NvmeLose(PNVME_CONTROLLER Controller)
{
    DbgPrint("NVMe: %s, serial %s: the controller is gone\n", Controller->ModelNumber,
             Controller->SerialNumber);
    NvmeSetState(Controller, NvmeGone);
    NvmeForEachQueue(Controller, NvmePardon);
    NvmeEndAll(Controller, STATUS_DEVICE_DOES_NOT_EXIST);
    IoInvalidateDeviceState(Controller->Pdo);
}

static VOID NvmeGiveUp(PNVME_CONTROLLER Controller)
{
    DbgPrint("NVMe: %s, serial %s: the controller is given up%s\n", Controller->ModelNumber,
             Controller->SerialNumber,
             Controller->Unstoppable ? "; the memory that it was told of is lost" : "");
    NvmeSetState(Controller, NvmeFailed);
    NvmeEndAll(Controller, STATUS_DEVICE_HARDWARE_ERROR);
}

static VOID NvmeRestart(PNVME_CONTROLLER Controller, NVME_RESET_KIND Kind, PCSTR Why)
{
    DbgPrint("NVMe: the controller is reset: %s\n", Why);
    NvmeSetState(Controller, NvmeRecovering);
    NvmeForEachQueue(Controller, NvmeHoldQueue);
    NvmeReapAll(Controller);
    NvmeForEachQueue(Controller, NvmeMuteQueue);
    NvmeForEachQueue(Controller, NvmeJudge);
    const NTSTATUS Status = NvmeHaltAndReenable(Controller, Kind);
    if (NT_SUCCESS(Status)) {
        Controller->Recovery.Counters.Resets += 1;
        for (ULONG Id = 1; Id < NVME_MAXIMUM_QUEUES; Id += 1) {
            if (Controller->Queues[Id] != NULL) {
                NvmeResubmit(Controller->Queues[Id]);
            }
        }
        NvmeSetState(Controller, NvmeReady);
        (VOID) NvmeEnablePmr(Controller); // a function-level reset has switched it off
        (VOID) NvmeStartEvents(Controller);
        DbgPrint("NVMe: the controller works again\n");
    } else if (Status == STATUS_DEVICE_DOES_NOT_EXIST) {
        NvmeLose(Controller);
    } else {
        NvmeGiveUp(Controller);
    }
}

//
// The thread.
//

static VOID NvmeLookAtLate(PNVME_CONTROLLER Controller)
{
    if (!NT_SUCCESS(NvmeCheckHealth(Controller))) {
        NvmeReportHealth(Controller); // the thread comes back with that reason
        return;
    }
    ULONG Worst = 0;
    for (ULONG Id = 0; Id < NVME_MAXIMUM_QUEUES; Id += 1) {
        const PNVME_QUEUE Queue = Controller->Queues[Id];
        // A polled queue's owner takes its time with completions: what has one is not late.
        if (Queue == NULL || (Queue->IsPolled && NvmeHasCompletion(Queue))) {
            continue;
        }
        if (!Queue->IsPolled && NvmeReap(Queue) != 0) {
            Queue->Counters.MissedInterrupts += 1;
        }
        const ULONG Lateness = NvmeQueueLateness(Queue);
        Worst = Lateness > Worst ? Lateness : Worst;
    }
    if (Worst == 2) {
        NvmeRestart(Controller, NvmeControllerReset, "a command was not answered");
    } else if (Worst == 1 && !NvmeAbortLate(Controller)) {
        NvmeRestart(Controller, NvmeControllerReset, "not even Abort was answered");
    }
}

static VOID NvmeLookAtReason(PNVME_CONTROLLER Controller, NVME_REASON Reason)
{
    switch (Reason) {
    case NvmeReasonNone:
        break;
    case NvmeReasonLook:
        NvmeLookAtLate(Controller);
        break;
    case NvmeReasonProtocol:
        Controller->Recovery.Counters.ProtocolErrors += 1;
        NvmeRestart(Controller, NvmeControllerReset, "it did what it must not");
        break;
    case NvmeReasonFatalStatus:
        Controller->Recovery.Counters.FatalErrors += 1;
        NvmeRestart(Controller, NvmeControllerReset, "it reports a fatal error");
        break;
    case NvmeReasonRequested:
        NvmeRestart(Controller, NvmeControllerReset, "somebody asks for it");
        break;
    case NvmeReasonGone:
        // Its registers may have gone, and not the controller: a reset of the function shows.
        NvmeRestart(Controller, NvmeControllerReset, "its registers are silent");
        break;
    }
}

static KSTART_ROUTINE NvmeRecover;

static VOID NTAPI NvmeRecover(PVOID Context)
{
    const PNVME_CONTROLLER Controller = Context;
    const PNVME_RECOVERY Recovery = &Controller->Recovery;
    for (;;) {
        (VOID) KeWaitForSingleObject(&Recovery->Work, Executive, KernelMode, FALSE, NULL);
        if (Recovery->IsEnding) {
            break;
        }
        NvmeLockController(Controller);
        const NVME_REASON Reason =
            (NVME_REASON)InterlockedExchange(&Recovery->Reason, NvmeReasonNone);
        if (Controller->State == NvmeReady) {
            NvmeLookAtReason(Controller, Reason);
        }
        NvmeUnlockController(Controller);
    }
    (VOID) PsTerminateSystemThread(STATUS_SUCCESS);
}

VOID NvmeRequestRecovery(PNVME_CONTROLLER Controller, NVME_REASON Reason)
{
    const PNVME_RECOVERY Recovery = &Controller->Recovery;
    LONG Old = Recovery->Reason;
    while (Old < (LONG)Reason) {
        const LONG Found = InterlockedCompareExchange(&Recovery->Reason, (LONG)Reason, Old);
        if (Found == Old) {
            break;
        }
        Old = Found;
    }
    if (Recovery->Thread != NULL) {
        (VOID) KeSetEvent(&Recovery->Work, IO_NO_INCREMENT, FALSE);
    }
}

NTSTATUS NvmeResetByRequest(PNVME_CONTROLLER Controller, NVME_RESET_KIND Kind)
{
    NTSTATUS Status = STATUS_DEVICE_NOT_READY;
    NvmeLockController(Controller);
    if (Controller->State == NvmeReady) {
        NvmeRestart(Controller, Kind, "somebody asks for it");
        Status = Controller->State == NvmeReady  ? STATUS_SUCCESS
                 : Controller->State == NvmeGone ? STATUS_DEVICE_DOES_NOT_EXIST
                                                 : STATUS_DEVICE_HARDWARE_ERROR;
    }
    NvmeUnlockController(Controller);
    return Status;
}

VOID NvmeQueryRecovery(PNVME_CONTROLLER Controller, PNVME_RECOVERY_COUNTERS Counters)
{
    *Counters = Controller->Recovery.Counters;
    for (ULONG Index = 0; Index < NVME_ADMIN_PAGES; Index += 1) {
        Counters->LostPages += Controller->AdminPages[Index].IsLost;
    }
}

//
// Beginning and end.
//

NTSTATUS NvmeStartWatchdog(PNVME_CONTROLLER Controller)
{
    const PNVME_RECOVERY Recovery = &Controller->Recovery;
    HANDLE Handle;
    RtlZeroMemory(Recovery, sizeof(*Recovery));
    Recovery->StartTime = KeQueryPerformanceCounter(NULL).QuadPart;
    KeInitializeTimer(&Recovery->Timer);
    KeInitializeDpc(&Recovery->TimerDpc, NvmeWatch, Controller);
    KeInitializeEvent(&Recovery->Work, SynchronizationEvent, FALSE);
    NTSTATUS Status =
        PsCreateSystemThread(&Handle, SYNCHRONIZE, NULL, NULL, NULL, NvmeRecover, Controller);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    // It cannot fail: the thread lives as long as we let it.
    Status =
        ObReferenceObjectByHandle(Handle, SYNCHRONIZE, NULL, KernelMode, &Recovery->Thread, NULL);
    NT_ASSERT(NT_SUCCESS(Status));
    (VOID) ZwClose(Handle);
    NvmeSetTimer(Controller, NVME_WATCH_PERIOD);
    return Status;
}

VOID NvmeStopWatchdog(PNVME_CONTROLLER Controller)
{
    const PNVME_RECOVERY Recovery = &Controller->Recovery;
    if (Recovery->Thread == NULL) {
        return;
    }
    Recovery->IsEnding = TRUE;
    (VOID) KeCancelTimer(&Recovery->Timer);
    KeFlushQueuedDpcs(); // the last one may set the timer again, having seen IsEnding too late
    (VOID) KeCancelTimer(&Recovery->Timer);
    KeFlushQueuedDpcs();
    (VOID) KeSetEvent(&Recovery->Work, IO_NO_INCREMENT, FALSE);
    (VOID) KeWaitForSingleObject(Recovery->Thread, Executive, KernelMode, FALSE, NULL);
    ObDereferenceObject(Recovery->Thread);
    Recovery->Thread = NULL;
}
