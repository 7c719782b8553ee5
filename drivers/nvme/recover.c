// The watchdog: every 100 milliseconds a thread looks for commands that are late. A controller that has
// one is given up: disabled, and every request ends.
#include "nvme.h"

#define NVME_WATCHDOG_INTERVAL 100 // milliseconds, one unit of Clock
#define NVME_UNITS_PER_MILLISECOND 10000ll

static BOOLEAN NvmeIsLate(const NVME_TRACKER *Tracker)
{
    const NVME_CONTROLLER *Controller = Tracker->Queue->Controller;
    const ULONG Limit = Tracker->TimeLimit != 0
                            ? Tracker->TimeLimit
                            : Controller->Parameters.CommandTimeout / NVME_WATCHDOG_INTERVAL;
    return Tracker->State == NvmeTrackerSubmitted && Limit != MAXULONG &&
           Controller->Clock - Tracker->StartTime > Limit;
}

static BOOLEAN NvmeHasLateCommand(PNVME_QUEUE Queue)
{
    KIRQL OldIrql;
    BOOLEAN IsFound = FALSE;
    (VOID) NvmeReap(Queue);
    KeAcquireSpinLock(&Queue->Lock, &OldIrql);
    for (ULONG Index = 0; Index < Queue->TrackerCount; Index += 1) {
        if (NvmeIsLate(&Queue->Trackers[Index])) {
            Queue->Counters.Timeouts += 1;
            IsFound = TRUE;
        }
    }
    KeReleaseSpinLock(&Queue->Lock, OldIrql);
    return IsFound;
}

static VOID NvmeGiveUp(PNVME_CONTROLLER Controller, NTSTATUS Reason)
{
    DbgPrint("NVMe: the controller is given up: status 0x%08x, CSTS 0x%x\n", Reason,
             READ_REGISTER_ULONG(&Controller->Registers->Csts));
    Controller->State = NvmeFailed;
    const NTSTATUS Status = NvmeDisableController(Controller);
    if (!NT_SUCCESS(Status) && Status != STATUS_DEVICE_NOT_CONNECTED) {
        Controller->Unstoppable = TRUE;
        return;
    }
    for (ULONG Id = 0; Id < NVME_MAXIMUM_QUEUES; Id += 1) {
        if (Controller->Queues[Id] != NULL) {
            NvmeFailQueue(Controller->Queues[Id], Reason);
        }
    }
}

static VOID NTAPI NvmeWatch(PVOID StartContext)
{
    const PNVME_CONTROLLER Controller = StartContext;
    LARGE_INTEGER Interval;
    Interval.QuadPart = -NVME_UNITS_PER_MILLISECOND * NVME_WATCHDOG_INTERVAL;
    while (KeWaitForSingleObject(&Controller->Recovery.Work, Executive, KernelMode, FALSE,
                                 &Interval) == STATUS_TIMEOUT) {
        Controller->Clock += 1;
        for (ULONG Id = 0; Id < NVME_MAXIMUM_QUEUES && Controller->State == NvmeReady; Id += 1) {
            if (Controller->Queues[Id] != NULL && NvmeHasLateCommand(Controller->Queues[Id])) {
                NvmeGiveUp(Controller, STATUS_IO_TIMEOUT);
            }
        }
    }
    (VOID) PsTerminateSystemThread(STATUS_SUCCESS);
}

NTSTATUS NvmeStartWatchdog(PNVME_CONTROLLER Controller)
{
    HANDLE Handle;
    KeInitializeEvent(&Controller->Recovery.Work, NotificationEvent, FALSE);
    NTSTATUS Status =
        PsCreateSystemThread(&Handle, SYNCHRONIZE, NULL, NULL, NULL, NvmeWatch, Controller);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    // The handle is good, so that there is nothing to fail.
    Status = ObReferenceObjectByHandle(Handle, SYNCHRONIZE, NULL, KernelMode,
                                       &Controller->Recovery.Thread, NULL);
    NT_ASSERT(NT_SUCCESS(Status));
    (VOID) ZwClose(Handle);
    return Status;
}

VOID NvmeStopWatchdog(PNVME_CONTROLLER Controller)
{
    if (Controller->Recovery.Thread == NULL) {
        return;
    }
    KeSetEvent(&Controller->Recovery.Work, IO_NO_INCREMENT, FALSE);
    (VOID) KeWaitForSingleObject(Controller->Recovery.Thread, Executive, KernelMode, FALSE, NULL);
    ObDereferenceObject(Controller->Recovery.Thread);
    Controller->Recovery.Thread = NULL;
}

VOID NvmeRequestRecovery(PNVME_CONTROLLER Controller, NVME_REASON Reason)
{
    UNREFERENCED_PARAMETER(Controller);
    UNREFERENCED_PARAMETER(Reason);
}
