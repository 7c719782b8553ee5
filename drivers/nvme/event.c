// Asynchronous events: what the controller has to say unasked. Commands that it answers only when
// something happens are outstanding all the time, as many as it takes.
//
//   NvmeEndEvent (queue lock) --> Pending --> work item: say it, read the log page, ask again
//
// Reading the log page of an event is what allows the next one of its kind; so it is read always.
//
// Invariants:
//   E1  OutstandingCount is the number of trackers that know of NVME_EVENTS. Under the admin
//       queue's lock, as everything else that the work item shares with NvmeEndEvent.
//   E2  The work item is queued or runs exactly while IsWorking. NvmeStopEvents returns when it
//       does not, and never will; whoever waits for that may hold ConfigurationMutex, so the work
//       item takes that only as long as nobody stops it.
//       A reset takes no event commands away: they are given to the controller again, or end, and
//       NvmeStartEvents then asks for those that lack.
//   E3  NvmeStopEvents makes the trackers forget: their commands go on until the admin queue ends,
//       or the controller is reset, and are not submitted again.
#include "nvme.h"

#define NVME_EVENT_COMMANDS 4  // at most; the controller may take fewer
#define NVME_PENDING_EVENTS 16 // that were told of and not looked at
#define NVME_PRINTED_EVENTS 64 // the counters tell of the rest
#define NVME_NO_TIME_LIMIT MAXULONG
#define NVME_MUTEX_SLICE 20 // milliseconds
#define NVME_ZERO_CELSIUS 273

typedef struct _NVME_EVENTS {
    PNVME_CONTROLLER Controller;
    PIO_WORKITEM WorkItem;
    KEVENT Idle; // signaled: not IsWorking
    BOOLEAN IsWorking;
    volatile BOOLEAN IsStopping;
    ULONG Limit;            // commands at a time
    ULONG OutstandingCount; // E1
    ULONG PendingCount;
    ULONG Pending[NVME_PENDING_EVENTS]; // results of commands, oldest first
} NVME_EVENTS, *PNVME_EVENTS;

// -------------------------------------------------------------------------------------------------
// What an event means.

static VOID NvmeHandleError(PNVME_CONTROLLER Controller, const VOID *Page);
static VOID NvmeHandleSmart(PNVME_CONTROLLER Controller, const VOID *Page);
static VOID NvmeHandleNamespaces(PNVME_CONTROLLER Controller, const VOID *Page);

typedef struct _NVME_EVENT_MEANING {
    UCHAR Type;
    UCHAR Information;
    PCSTR Text;
    ULONG CounterOffset; // in NVME_EVENT_COUNTERS
    VOID (*Handler)(PNVME_CONTROLLER Controller, const VOID *Page);
} NVME_EVENT_MEANING;

#define NVME_COUNTER(Name) FIELD_OFFSET(NVME_EVENT_COUNTERS, Name)

static const NVME_EVENT_MEANING NvmeEventMeanings[] = {
    {NvmeEventError, NVME_EVENT_ERROR_DOORBELL_REGISTER,
     "somebody wrote to the doorbell of a queue that does not exist", NVME_COUNTER(Errors),
     NvmeHandleError},
    {NvmeEventError, NVME_EVENT_ERROR_DOORBELL_VALUE,
     "somebody wrote a value to a doorbell that its queue does not have", NVME_COUNTER(Errors),
     NvmeHandleError},
    {NvmeEventError, NVME_EVENT_ERROR_DIAGNOSTIC, "the controller's diagnosis failed",
     NVME_COUNTER(Errors), NvmeHandleError},
    {NvmeEventError, NVME_EVENT_ERROR_PERSISTENT,
     "the controller has an error that does not go away", NVME_COUNTER(Errors), NvmeHandleError},
    {NvmeEventError, NVME_EVENT_ERROR_TRANSIENT, "the controller had an error that went away",
     NVME_COUNTER(Errors), NvmeHandleError},
    {NvmeEventError, NVME_EVENT_ERROR_FIRMWARE_LOAD, "the controller cannot load its firmware",
     NVME_COUNTER(Errors), NvmeHandleError},
    {NvmeEventSmart, NVME_EVENT_SMART_RELIABILITY, "the medium is no longer reliable",
     NVME_COUNTER(HealthWarnings), NvmeHandleSmart},
    {NvmeEventSmart, NVME_EVENT_SMART_TEMPERATURE, "the temperature passed its threshold",
     NVME_COUNTER(TemperatureWarnings), NvmeHandleSmart},
    {NvmeEventSmart, NVME_EVENT_SMART_SPARE, "few spare blocks are left",
     NVME_COUNTER(HealthWarnings), NvmeHandleSmart},
    {NvmeEventNotice, NVME_EVENT_NOTICE_NAMESPACE, "namespaces have changed",
     NVME_COUNTER(NamespaceChanges), NvmeHandleNamespaces},
    {NvmeEventNotice, NVME_EVENT_NOTICE_FIRMWARE, "new firmware starts", NVME_COUNTER(OtherEvents),
     NULL},
};

static const NVME_EVENT_MEANING NvmeUnknownEvent = {0, 0, "it says what this driver does not know",
                                                    NVME_COUNTER(OtherEvents), NULL};

static const NVME_EVENT_MEANING *NvmeMeaningOfEvent(ULONG Result)
{
    for (ULONG Index = 0; Index < ARRAYSIZE(NvmeEventMeanings); Index += 1) {
        if (NvmeEventMeanings[Index].Type == NVME_EVENT_TYPE(Result) &&
            NvmeEventMeanings[Index].Information == NVME_EVENT_INFORMATION(Result)) {
            return &NvmeEventMeanings[Index];
        }
    }
    return &NvmeUnknownEvent;
}

static VOID NvmeHandleError(PNVME_CONTROLLER Controller, const VOID *Page)
{
    const NVME_ERROR_LOG_ENTRY *Entry = Page;
    if (Entry->ErrorCount == 0) {
        return; // the log has nothing about it
    }
    DbgPrint("NVMe: %s: error %llu: queue %u, command 0x%x, status field 0x%x, namespace %u, block "
             "%llu\n",
             Controller->SerialNumber, Entry->ErrorCount, Entry->SubmissionQueueId,
             Entry->CommandId, Entry->Status, Entry->NamespaceId, Entry->Block);
}

static VOID NvmeHandleSmart(PNVME_CONTROLLER Controller, const VOID *Page)
{
    static const struct {
        UCHAR Bit;
        PCSTR Text;
    } Warnings[] = {
        {NVME_SMART_SPARE, "spare blocks run out"},
        {NVME_SMART_TEMPERATURE, "its temperature is beyond a threshold"},
        {NVME_SMART_RELIABILITY, "it is no longer reliable"},
        {NVME_SMART_READ_ONLY, "it can only be read any more"},
        {NVME_SMART_BACKUP, "its volatile memory is no longer backed up"},
        {NVME_SMART_PERSISTENT_MEMORY, "its persistent memory cannot be written any more"},
    };
    const NVME_SMART_LOG *Log = Page;
    const ULONG Kelvin = Log->Temperature[0] | (ULONG)Log->Temperature[1] << 8;
    for (ULONG Index = 0; Index < ARRAYSIZE(Warnings); Index += 1) {
        if ((Log->CriticalWarning & Warnings[Index].Bit) != 0) {
            DbgPrint("NVMe: %s warns: %s\n", Controller->SerialNumber, Warnings[Index].Text);
        }
    }
    DbgPrint("NVMe: %s: %d degrees Celsius, %u %% spare, %u %% used up, %llu media errors\n",
             Controller->SerialNumber, (int)Kelvin - NVME_ZERO_CELSIUS, Log->AvailableSpare,
             Log->PercentageUsed, Log->MediaErrors[0]);
}

// E2. FALSE: somebody stops us.
static BOOLEAN NvmeTakeConfigurationMutex(PNVME_EVENTS Events)
{
    const LARGE_INTEGER Slice = {.QuadPart = NVME_MUTEX_SLICE * -10000ll};
    while (!Events->IsStopping) {
        if (KeWaitForSingleObject(&Events->Controller->ConfigurationMutex, Executive, KernelMode,
                                  FALSE, (PLARGE_INTEGER)&Slice) == STATUS_SUCCESS) {
            return TRUE;
        }
    }
    return FALSE;
}

// The whole list is looked at: which ones have changed is no news then.
static VOID NvmeHandleNamespaces(PNVME_CONTROLLER Controller, const VOID *Page)
{
    UNREFERENCED_PARAMETER(Page);
    if (!NvmeTakeConfigurationMutex(Controller->Events)) {
        return;
    }
    if (Controller->State == NvmeReady) {
        (VOID) NvmeScanNamespaces(Controller);
    }
    (VOID) KeReleaseMutex(&Controller->ConfigurationMutex, FALSE);
}

static VOID NvmePrintEvent(PNVME_EVENTS Events, const NVME_EVENT_MEANING *Meaning, ULONG Result)
{
    const PNVME_CONTROLLER Controller = Events->Controller;
    if (Controller->EventCounters.Events <= NVME_PRINTED_EVENTS) {
        DbgPrint("NVMe: %s reports an event: %s (0x%06x)\n", Controller->SerialNumber,
                 Meaning->Text, Result);
    }
}

// Bytes of a log page: of the error log, its newest entry.
static ULONG NvmeLogPageBytes(ULONG LogPage)
{
    switch (LogPage) {
    case NVME_LOG_ERROR:
        return sizeof(NVME_ERROR_LOG_ENTRY);
    case NVME_LOG_CHANGED_NAMESPACES:
        return sizeof(NVME_CHANGED_NAMESPACES_LOG);
    }
    return sizeof(NVME_SMART_LOG); // and of all others that events name, their first 512 bytes
}

static VOID NvmeHandleEvent(PNVME_EVENTS Events, ULONG Result)
{
    const PNVME_CONTROLLER Controller = Events->Controller;
    const NVME_EVENT_MEANING *Meaning = NvmeMeaningOfEvent(Result);
    const ULONG LogPage = NVME_EVENT_LOG_PAGE(Result);
    Controller->EventCounters.Events += 1;
    Controller->EventCounters.LastResult = Result;
    *(PULONG64)((PUCHAR)&Controller->EventCounters + Meaning->CounterOffset) += 1;
    NvmePrintEvent(Events, Meaning, Result);

    const PNVME_ADMIN_PAGE Page = NvmeWaitForAdminPage(Controller);
    if (Page == NULL) {
        return; // the next event of this kind comes after somebody else has read the log page
    }
    const NVME_COMMAND Command = {
        .Opcode = NVME_ADMIN_GET_LOG_PAGE,
        .NamespaceId = NVME_ALL_NAMESPACES,
        .Prp1 = Page->Address,
        .Cdw10 = NVME_LOG_CDW10(LogPage, NvmeLogPageBytes(LogPage) / sizeof(ULONG))};
    const NTSTATUS Status = NvmeRunAdmin(Controller, &Command, NULL);
    if (NT_SUCCESS(Status) && Meaning->Handler != NULL) {
        Meaning->Handler(Controller, Page->Va);
    }
    if (Meaning->Type == NvmeEventError && Meaning->Information == NVME_EVENT_ERROR_PERSISTENT) {
        NvmeRequestRecovery(Controller, NvmeReasonLook);
    }
    NvmeReturnAdminPage(Controller, Page, Status);
}

// -------------------------------------------------------------------------------------------------
// Commands.

static VOID NTAPI NvmeWorkOnEvents(PDEVICE_OBJECT DeviceObject, PVOID Context);

static VOID NvmeEndEvent(PNVME_TRACKER Tracker, NTSTATUS Status, ULONG Result,
                         PNVME_FINISHED Finished)
{
    const PNVME_EVENTS Events = Tracker->Context;
    UNREFERENCED_PARAMETER(Finished);
    Tracker->TimeLimit = 0;
    if (Events == NULL) {
        return; // E3
    }
    Events->OutstandingCount -= 1;
    if (!NT_SUCCESS(Status) || Events->IsStopping) {
        return;
    }
    if (Events->PendingCount == NVME_PENDING_EVENTS) {
        Events->Controller->EventCounters.LostEvents += 1;
        return;
    }
    Events->Pending[Events->PendingCount] = Result;
    Events->PendingCount += 1;
    if (!Events->IsWorking) {
        Events->IsWorking = TRUE;
        KeClearEvent(&Events->Idle);
        IoQueueWorkItem(Events->WorkItem, NvmeWorkOnEvents, DelayedWorkQueue, Events);
    }
}

// As many as there may be. With the queue lock.
static VOID NvmeAskForEvents(PNVME_EVENTS Events)
{
    const PNVME_QUEUE Queue = Events->Controller->Queues[0];
    while (!Events->IsStopping && Queue->State != NvmeQueueClosed &&
           Events->OutstandingCount < Events->Limit) {
        const PNVME_TRACKER Tracker = NvmeGetTracker(Queue);
        if (Tracker == NULL) {
            break;
        }
        Tracker->Command = (NVME_COMMAND){.Opcode = NVME_ADMIN_ASYNC_EVENT};
        Tracker->Done = NvmeEndEvent;
        Tracker->Context = Events;
        Tracker->List = NULL;
        Tracker->TimeLimit = NVME_NO_TIME_LIMIT;
        Events->OutstandingCount += 1;
        NvmeSubmit(Tracker);
    }
    NvmeRing(Queue);
}

// The oldest event. FALSE: there is none, and the work is at its end.
static BOOLEAN NvmeTakeEvent(PNVME_EVENTS Events, PULONG Result)
{
    const PNVME_QUEUE Queue = Events->Controller->Queues[0];
    KIRQL OldIrql;
    KeAcquireSpinLock(&Queue->Lock, &OldIrql);
    const BOOLEAN IsThere = Events->PendingCount != 0 && !Events->IsStopping;
    if (IsThere) {
        *Result = Events->Pending[0];
        Events->PendingCount -= 1;
        RtlMoveMemory(Events->Pending, Events->Pending + 1,
                      Events->PendingCount * sizeof(Events->Pending[0]));
    } else {
        NvmeAskForEvents(Events);
        Events->IsWorking = FALSE;
        KeSetEvent(&Events->Idle, IO_NO_INCREMENT, FALSE);
    }
    KeReleaseSpinLock(&Queue->Lock, OldIrql);
    return IsThere;
}

static VOID NTAPI NvmeWorkOnEvents(PDEVICE_OBJECT DeviceObject, PVOID Context)
{
    const PNVME_EVENTS Events = Context;
    ULONG Result;
    UNREFERENCED_PARAMETER(DeviceObject);
    while (NvmeTakeEvent(Events, &Result)) {
        NvmeHandleEvent(Events, Result);
    }
}

// -------------------------------------------------------------------------------------------------
// Start and end.

static NTSTATUS NvmeConfigureEvents(PNVME_CONTROLLER Controller)
{
    const ULONG Notices = NVME_EVENTS_NAMESPACE_ATTRIBUTES | NVME_EVENTS_FIRMWARE_ACTIVATION;
    const NVME_COMMAND Command = {.Opcode = NVME_ADMIN_SET_FEATURES,
                                  .Cdw10 = NVME_FEATURE_ASYNC_EVENTS,
                                  .Cdw11 = NVME_EVENTS_CRITICAL_WARNINGS |
                                           (Controller->Data->OptionalEvents & Notices)};
    return NvmeRunAdmin(Controller, &Command, NULL);
}

static PNVME_EVENTS NvmeAllocateEvents(PNVME_CONTROLLER Controller)
{
    const PNVME_EVENTS Events = ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(*Events), NVME_TAG);
    if (Events == NULL) {
        return NULL;
    }
    Events->WorkItem = IoAllocateWorkItem(Controller->Device.Self);
    if (Events->WorkItem == NULL) {
        ExFreePoolWithTag(Events, NVME_TAG);
        return NULL;
    }
    Events->Controller = Controller;
    Events->Limit = NvmeSmaller(NVME_EVENT_COMMANDS, Controller->Data->EventLimit + 1u);
    KeInitializeEvent(&Events->Idle, NotificationEvent, TRUE);
    return Events;
}

// E3. With the queue lock.
static VOID NvmeForgetEvents(PNVME_QUEUE Queue, PNVME_EVENTS Events)
{
    for (ULONG Index = 0; Index < Queue->TrackerCount; Index += 1) {
        const PNVME_TRACKER Tracker = &Queue->Trackers[Index];
        if (Tracker->State == NvmeTrackerSubmitted && Tracker->Done == NvmeEndEvent &&
            Tracker->Context == Events) {
            Tracker->Context = NULL;
            Tracker->EndStatus = STATUS_CANCELLED;
        }
    }
}

VOID NvmeStopEvents(PNVME_CONTROLLER Controller)
{
    const PNVME_EVENTS Events = Controller->Events;
    const PNVME_QUEUE Queue = Controller->Queues[0];
    KIRQL OldIrql;
    if (Events == NULL) {
        return;
    }
    KeAcquireSpinLock(&Queue->Lock, &OldIrql);
    Events->IsStopping = TRUE;
    Events->PendingCount = 0;
    NvmeForgetEvents(Queue, Events);
    KeReleaseSpinLock(&Queue->Lock, OldIrql);
    (VOID) KeWaitForSingleObject(&Events->Idle, Executive, KernelMode, FALSE, NULL);
    // The work item has set Idle under the lock: now it has left that, too.
    KeAcquireSpinLock(&Queue->Lock, &OldIrql);
    KeReleaseSpinLock(&Queue->Lock, OldIrql);
    Controller->Events = NULL;
    IoFreeWorkItem(Events->WorkItem);
    ExFreePoolWithTag(Events, NVME_TAG);
}

NTSTATUS NvmeStartEvents(PNVME_CONTROLLER Controller)
{
    const PNVME_QUEUE Queue = Controller->Queues[0];
    KIRQL OldIrql;
    const NTSTATUS Status = NvmeConfigureEvents(Controller);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    // After a reset there is everything, and no command of before is under way any more.
    if (Controller->Events == NULL) {
        Controller->Events = NvmeAllocateEvents(Controller);
    }
    if (Controller->Events == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    KeAcquireSpinLock(&Queue->Lock, &OldIrql);
    NvmeAskForEvents(Controller->Events);
    KeReleaseSpinLock(&Queue->Lock, OldIrql);
    return STATUS_SUCCESS;
}
