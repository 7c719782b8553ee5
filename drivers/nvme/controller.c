// The way of a controller from reset to ready and back, in the order of the specification
// ("Controller Initialization", "Controller Shutdown").
//
//   up    map BAR0, check CAP and VS --> CC.EN=0, RDY=0 --> allocate pages, connect the interrupt
//         --> AQA, ASQ, ACQ --> CC.EN=1, RDY=1 --> Identify --> create completion queue 1, then
//         submission queue 1 --> start the worker
//   down  the worker ends --> delete both queues, in reverse --> CC.SHN=1, SHST=2 --> CC.EN=0, RDY=0
//         --> disconnect, free pages, unmap
//
// Traps of controllers, real and emulated, that the code below minds:
//   - Some look at their messages only when CC.EN is set, so the interrupt is connected before.
//   - A removed controller reads as all ones on hardware, but as zero in QEMU. The version register
//     is neither.
//   - Time is real time: CAP.TO, or a constant below, measured with the performance counter.
#include "nvme.h"

#define NVME_SHUTDOWN_TIMEOUT 5000 // milliseconds
#define NVME_STATUS_INTERVAL 1     // milliseconds between two looks at CSTS

//
// Time.
//

LONG64 NvmeDeadline(ULONG Milliseconds)
{
    LARGE_INTEGER Frequency;
    const LARGE_INTEGER Now = KeQueryPerformanceCounter(&Frequency);
    return Now.QuadPart + Frequency.QuadPart * Milliseconds / 1000;
}

BOOLEAN NvmeHasPassed(LONG64 Deadline)
{
    return KeQueryPerformanceCounter(NULL).QuadPart > Deadline;
}

VOID NvmeSleep(ULONG Milliseconds)
{
    LARGE_INTEGER Interval;
    Interval.QuadPart = -10000ll * Milliseconds;
    (VOID) KeDelayExecutionThread(KernelMode, FALSE, &Interval);
}

//
// Controller state.
//

NTSTATUS NvmeCheckHealth(PNVME_CONTROLLER Controller)
{
    Controller->RegisterReads += 2;
    const ULONG Version = READ_REGISTER_ULONG(&Controller->Registers->Vs);
    if (Version == 0 || Version == MAXULONG) {
        return STATUS_DEVICE_NOT_CONNECTED;
    }
    const ULONG Csts = READ_REGISTER_ULONG(&Controller->Registers->Csts);
    return (Csts & NVME_CSTS_FATAL) != 0 ? STATUS_DEVICE_HARDWARE_ERROR : STATUS_SUCCESS;
}

// Waits until the bits Mask of CSTS are Expected. A fatal error ends the wait, unless the bits are
// to become zero: that is a reset, which is the cure.
static NTSTATUS NvmeWaitForStatus(PNVME_CONTROLLER Controller, ULONG Mask, ULONG Expected,
                                  ULONG Milliseconds)
{
    const LONG64 Deadline = NvmeDeadline(Milliseconds);
    for (;;) {
        const BOOLEAN IsLate = NvmeHasPassed(Deadline);
        const NTSTATUS Health = NvmeCheckHealth(Controller);
        if (Health == STATUS_DEVICE_NOT_CONNECTED || (!NT_SUCCESS(Health) && Expected != 0)) {
            return Health;
        }
        if ((READ_REGISTER_ULONG(&Controller->Registers->Csts) & Mask) == Expected) {
            return STATUS_SUCCESS;
        }
        if (IsLate) {
            return STATUS_IO_TIMEOUT;
        }
        NvmeSleep(NVME_STATUS_INTERVAL);
    }
}

static ULONG NvmeReadyTimeout(PNVME_CONTROLLER Controller)
{
    const ULONG Milliseconds = NVME_CAP_READY_TIMEOUT(Controller->Capabilities);
    return Milliseconds != 0 ? Milliseconds : 500;
}

NTSTATUS NvmeDisableController(PNVME_CONTROLLER Controller)
{
    const ULONG Configuration = READ_REGISTER_ULONG(&Controller->Registers->Cc);
    WRITE_REGISTER_ULONG(&Controller->Registers->Cc,
                         Configuration & ~(NVME_CC_ENABLE | NVME_CC_SHUTDOWN_MASK));
    return NvmeWaitForStatus(Controller, NVME_CSTS_READY, 0, NvmeReadyTimeout(Controller));
}

// Makes sure that the controller no longer touches memory, or notes that it may.
static VOID NvmeHaltOrLose(PNVME_CONTROLLER Controller)
{
    const NTSTATUS Status = NvmeDisableController(Controller);
    if (!NT_SUCCESS(Status) && Status != STATUS_DEVICE_NOT_CONNECTED) {
        DbgPrint("NVMe: the controller cannot be stopped: status 0x%08x\n", Status);
        Controller->Unstoppable = TRUE;
    }
}

//
// Bring-up: each routine is one step.
//

// BAR0, and with it the registers, is the first memory resource.
static NTSTATUS NvmeMapRegisters(PNVME_CONTROLLER Controller, const CM_RESOURCE_LIST *Resources)
{
    if (Resources == NULL || Resources->Count == 0) {
        return STATUS_DEVICE_CONFIGURATION_ERROR;
    }
    const CM_PARTIAL_RESOURCE_LIST *List = &Resources->List[0].PartialResourceList;
    for (ULONG Index = 0; Index < List->Count; Index += 1) {
        const CM_PARTIAL_RESOURCE_DESCRIPTOR *Resource = &List->PartialDescriptors[Index];
        if (Resource->Type != CmResourceTypeMemory) {
            continue;
        }
        if (Resource->u.Memory.Length <= NVME_DOORBELL_OFFSET) {
            return STATUS_DEVICE_CONFIGURATION_ERROR;
        }
        Controller->RegisterByteCount = Resource->u.Memory.Length;
        Controller->Registers = MmMapIoSpaceEx(
            Resource->u.Memory.Start, Controller->RegisterByteCount, PAGE_READWRITE | PAGE_NOCACHE);
        return Controller->Registers != NULL ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;
    }
    return STATUS_DEVICE_CONFIGURATION_ERROR;
}

static NTSTATUS NvmeCheckCapabilities(PNVME_CONTROLLER Controller)
{
    const NTSTATUS Health = NvmeCheckHealth(Controller);
    if (Health == STATUS_DEVICE_NOT_CONNECTED) {
        return Health;
    }
    const ULONG64 Cap = READ_REGISTER_ULONG64(&Controller->Registers->Cap);
    const ULONG Version = READ_REGISTER_ULONG(&Controller->Registers->Vs);
    const SIZE_T DoorbellBytes = 4 * (SIZE_T)NVME_CAP_DOORBELL_STRIDE(Cap); // of two queue pairs
    const struct {
        BOOLEAN IsBroken;
        PCSTR Complaint;
    } Rules[] = {
        {Version < NVME_VERSION(1, 1), "a version before 1.1 cannot list its namespaces"},
        {!NVME_CAP_NVM_COMMANDS(Cap), "it lacks the NVM command set"},
        {NVME_CAP_QUEUE_ENTRIES(Cap) < 2, "a queue of one entry holds nothing"},
        {NVME_CAP_MINIMUM_PAGE_SHIFT(Cap) > PAGE_SHIFT, "its smallest page is larger than ours"},
        {DoorbellBytes > Controller->RegisterByteCount - NVME_DOORBELL_OFFSET,
         "its doorbells lie outside of BAR0"},
    };
    for (ULONG Index = 0; Index < ARRAYSIZE(Rules); Index += 1) {
        if (Rules[Index].IsBroken) {
            DbgPrint("NVMe: CAP 0x%llx, VS 0x%x: %s\n", Cap, Version, Rules[Index].Complaint);
            return STATUS_NOT_SUPPORTED;
        }
    }
    Controller->Capabilities = Cap;
    Controller->Version = Version;
    return STATUS_SUCCESS;
}

static NTSTATUS NvmeResetController(PNVME_CONTROLLER Controller)
{
    // Firmware may have just enabled it. Until RDY has followed EN, EN must not be cleared.
    if ((READ_REGISTER_ULONG(&Controller->Registers->Cc) & NVME_CC_ENABLE) != 0) {
        NvmeWaitForStatus(Controller, NVME_CSTS_READY, NVME_CSTS_READY,
                          NvmeReadyTimeout(Controller));
    }
    const NTSTATUS Status = NvmeDisableController(Controller);
    if (NT_SUCCESS(Status)) {
        Controller->Unstoppable = FALSE;
    }
    return Status;
}

// The doorbells of a queue must lie in BAR0.
static ULONG NvmeReachableQueues(PNVME_CONTROLLER Controller)
{
    const SIZE_T DoorbellBytes = Controller->RegisterByteCount - NVME_DOORBELL_OFFSET;
    const ULONG Stride = NVME_CAP_DOORBELL_STRIDE(Controller->Capabilities);
    return NvmeSmaller((ULONG)(DoorbellBytes / (2 * Stride)), NVME_MAXIMUM_QUEUES);
}

static NTSTATUS NvmeAllocateAdminQueue(PNVME_CONTROLLER Controller)
{
    PNVME_QUEUE Queue;
    return NvmeAllocateQueue(Controller, 0, NVME_ADMIN_QUEUE_ENTRIES, 0, &Queue);
}

static NTSTATUS NvmeEnableController(PNVME_CONTROLLER Controller)
{
    volatile NVME_REGISTERS *Registers = Controller->Registers;
    const PNVME_QUEUE Queue = Controller->Queues[0];
    NvmeResetQueue(Queue);
    NvmeUnmaskLine(Controller);
    WRITE_REGISTER_ULONG(&Registers->Aqa, NVME_AQA_ENTRIES(NVME_ADMIN_QUEUE_ENTRIES));
    WRITE_REGISTER_ULONG64(&Registers->Asq, Queue->SubmissionAddress);
    WRITE_REGISTER_ULONG64(&Registers->Acq, Queue->CompletionAddress);
    WRITE_REGISTER_ULONG(
        &Registers->Cc, NVME_CC_PAGE_SHIFT(PAGE_SHIFT) | NVME_CC_COMMAND_SHIFT(NVME_COMMAND_SHIFT) |
                            NVME_CC_COMPLETION_SHIFT(NVME_COMPLETION_SHIFT) | NVME_CC_ENABLE);
    const NTSTATUS Status = NvmeWaitForStatus(Controller, NVME_CSTS_READY, NVME_CSTS_READY,
                                              NvmeReadyTimeout(Controller));
    if (NT_SUCCESS(Status)) {
        NvmeOpenQueue(Queue);
    }
    return Status;
}

static ULONG NvmeWantedQueues(const NVME_CONTROLLER *Controller)
{
    const ULONG Processors = KeQueryActiveProcessorCountEx(ALL_PROCESSOR_GROUPS);
    const ULONG Wanted =
        Controller->Parameters.QueueCount != 0 ? Controller->Parameters.QueueCount : Processors;
    return NvmeSmaller(Wanted, NVME_MAXIMUM_PROCESSORS);
}

// Queue n is that of processor n - 1; with fewer queues than processors some share one.
static VOID NvmeAssignProcessors(PNVME_CONTROLLER Controller)
{
    for (ULONG Processor = 0; Processor < NVME_MAXIMUM_PROCESSORS; Processor += 1) {
        const PNVME_QUEUE Queue = Controller->Queues[1 + Processor % Controller->IoQueueCount];
        if (Processor < Controller->IoQueueCount) {
            Queue->Processor = Processor;
            KeSetTargetProcessorDpc(&Queue->ReapDpc, (CCHAR)Processor);
        }
        Controller->QueueOfProcessor[Processor] = Queue;
    }
}

static NTSTATUS NvmeCreateIoQueue(PNVME_CONTROLLER Controller, USHORT Id)
{
    const USHORT EntryCount = (USHORT)NvmeSmaller(Controller->Parameters.QueueEntries,
                                                  NVME_CAP_QUEUE_ENTRIES(Controller->Capabilities));
    PNVME_QUEUE Queue;
    NTSTATUS Status =
        NvmeAllocateQueue(Controller, Id, EntryCount, Controller->MaximumTransferBytes, &Queue);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    Queue->UsesLists =
        Controller->Parameters.UseLists != 0 && (Controller->Data->SglSupport & 0x3) != 0;
    Controller->IoQueueCount = Id;
    Status = NvmeCreateQueuePair(Queue);
    if (NT_SUCCESS(Status)) {
        NvmeOpenQueue(Queue);
    }
    return Status;
}

static NTSTATUS NvmeCreateIoQueues(PNVME_CONTROLLER Controller)
{
    const ULONG Reachable = NvmeReachableQueues(Controller) - 1;
    ULONG Granted = 0;
    // As many as there can be: other drivers may want their own.
    NTSTATUS Status = NvmeSetQueueCount(Controller, Reachable, &Granted);
    Controller->MaximumQueueId = NvmeSmaller(Granted, Reachable);
    const ULONG Count = NvmeSmaller(NvmeWantedQueues(Controller), Controller->MaximumQueueId);
    for (ULONG Id = 1; Id <= Count && NT_SUCCESS(Status); Id += 1) {
        Status = NvmeCreateIoQueue(Controller, (USHORT)Id);
    }
    if (NT_SUCCESS(Status)) {
        NvmeEnableShadow(Controller);
        NvmeAssignProcessors(Controller);
    }
    return Status;
}

static const struct {
    NTSTATUS (*Routine)(PNVME_CONTROLLER Controller);
    PCSTR Purpose;
} NvmeBringUpSteps[] = {
    {NvmeCheckCapabilities, "accept the controller"},
    {NvmeResetController, "reset the controller"},
    {NvmeAllocateControllerMemory, "allocate memory"},
    {NvmeConnectInterrupt, "connect the interrupt"},
    {NvmeAllocateAdminQueue, "allocate the admin queue"},
    {NvmeEnableCmb, "use the controller's memory"},
    {NvmeEnableController, "enable the controller"},
    {NvmeIdentifyController, "identify the controller"},
    {NvmeCreateIoQueues, "create the I/O queues"},
    {NvmeStartEvents, "ask for events"},
    {NvmeEnablePmr, "use the controller's persistent memory"},
    {NvmeScanNamespaces, "find the namespaces"},
    {NvmeStartWatchdog, "start the watchdog"},
};

static NTSTATUS NvmeBringUp(PNVME_CONTROLLER Controller)
{
    for (ULONG Index = 0; Index < ARRAYSIZE(NvmeBringUpSteps); Index += 1) {
        const NTSTATUS Status = NvmeBringUpSteps[Index].Routine(Controller);
        if (!NT_SUCCESS(Status)) {
            DbgPrint("NVMe: cannot %s: status 0x%08x\n", NvmeBringUpSteps[Index].Purpose, Status);
            return Status;
        }
    }
    Controller->State = NvmeReady;
    return STATUS_SUCCESS;
}

// All queues and shadow doorbells anew, for a controller that was disabled.
NTSTATUS NvmeReenableController(PNVME_CONTROLLER Controller)
{
    ULONG Granted;
    NTSTATUS Status = NvmeEnableController(Controller);
    if (NT_SUCCESS(Status)) {
        Status = NvmeSetQueueCount(Controller, NvmeReachableQueues(Controller) - 1, &Granted);
    }
    for (ULONG Id = 1; Id < NVME_MAXIMUM_QUEUES && NT_SUCCESS(Status); Id += 1) {
        if (Controller->Queues[Id] != NULL) {
            NvmeResetQueue(Controller->Queues[Id]);
            Status = NvmeCreateQueuePair(Controller->Queues[Id]);
        }
    }
    return Status;
}

//
// The way down.
//

static VOID NvmeShutDownController(PNVME_CONTROLLER Controller)
{
    const BOOLEAN IsWell =
        Controller->State != NvmeFailed && Controller->Queues[0] != NULL &&
        NT_SUCCESS(NvmeCheckHealth(Controller)) &&
        (READ_REGISTER_ULONG(&Controller->Registers->Csts) & NVME_CSTS_READY) != 0;
    for (ULONG Id = NVME_MAXIMUM_QUEUES - 1; Id > 0 && IsWell; Id -= 1) {
        if (Controller->Queues[Id] != NULL && Controller->Queues[Id]->State == NvmeQueueOpen) {
            (VOID) NvmeDeleteQueuePair(Controller->Queues[Id]);
        }
    }
    if (IsWell) {
        const ULONG Configuration =
            READ_REGISTER_ULONG(&Controller->Registers->Cc) & ~NVME_CC_SHUTDOWN_MASK;
        WRITE_REGISTER_ULONG(&Controller->Registers->Cc, Configuration | NVME_CC_SHUTDOWN_NORMAL);
        const NTSTATUS Status =
            NvmeWaitForStatus(Controller, NVME_CSTS_SHUTDOWN_MASK, NVME_CSTS_SHUTDOWN_COMPLETE,
                              NVME_SHUTDOWN_TIMEOUT);
        if (!NT_SUCCESS(Status)) {
            DbgPrint("NVMe: the controller did not shut down: status 0x%08x\n", Status);
        }
    }
    NvmeHaltOrLose(Controller);
}

// Refuses new requests, and waits for those that are under way.
static VOID NvmeDrainQueues(PNVME_CONTROLLER Controller, NTSTATUS Reason)
{
    for (ULONG Id = 1; Id < NVME_MAXIMUM_QUEUES; Id += 1) {
        const PNVME_QUEUE Queue = Controller->Queues[Id];
        if (Queue != NULL) {
            NvmeCloseQueue(Queue, Reason);
            while (Queue->State != NvmeQueueClosed && !NvmeIsQueueIdle(Queue)) {
                NvmeSleep(NVME_STATUS_INTERVAL);
            }
        }
    }
}

static VOID NvmeFreeQueues(PNVME_CONTROLLER Controller, NTSTATUS Reason)
{
    for (ULONG Id = NVME_MAXIMUM_QUEUES; Id-- > 0;) {
        const PNVME_QUEUE Queue = Controller->Queues[Id];
        if (Queue == NULL) {
            continue;
        }
        if (!Controller->Unstoppable) {
            NvmeFailQueue(Queue, Reason);
        }
        if (NvmeIsQueueOwned(Queue)) {
            NvmeForgetQueue(Queue);
        } else {
            NvmeFreeQueue(Queue);
        }
    }
    Controller->IoQueueCount = 0;
}

VOID NvmeStopController(PNVME_CONTROLLER Controller, NTSTATUS Reason)
{
    if (Controller->Registers == NULL) {
        return;
    }
    NvmeDrainQueues(Controller, Reason);
    NvmeStopWatchdog(Controller);
    (VOID)
        KeWaitForSingleObject(&Controller->ConfigurationMutex, Executive, KernelMode, FALSE, NULL);
    NvmeStopEvents(Controller);
    NvmeShutDownController(Controller);
    NvmeDisconnectInterrupt(Controller);
    NvmeFreeQueues(Controller, Reason);
    NvmeUnmapCmb(Controller);
    NvmeUnmapPmr(Controller);
    NvmeFreeControllerMemory(Controller);
    if (Controller->Data != NULL) {
        ExFreePoolWithTag(Controller->Data, NVME_TAG);
        Controller->Data = NULL;
    }
    if (Controller->Resources != NULL) {
        ExFreePoolWithTag((PVOID)Controller->Resources, NVME_TAG);
        Controller->Resources = NULL;
    }
    MmUnmapIoSpace((PVOID)Controller->Registers, Controller->RegisterByteCount);
    Controller->Registers = NULL;
    Controller->State = NvmeStopped;
    KeReleaseMutex(&Controller->ConfigurationMutex, FALSE);
}

static NTSTATUS NvmeCopyResources(PNVME_CONTROLLER Controller, const CM_RESOURCE_LIST *Resources)
{
    const SIZE_T ByteCount =
        FIELD_OFFSET(CM_RESOURCE_LIST, List[0].PartialResourceList.PartialDescriptors) +
        Resources->List[0].PartialResourceList.Count * sizeof(CM_PARTIAL_RESOURCE_DESCRIPTOR);
    const PVOID Copy = ExAllocatePool2(POOL_FLAG_NON_PAGED, ByteCount, NVME_TAG);
    if (Copy == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    RtlCopyMemory(Copy, Resources, ByteCount);
    Controller->Resources = Copy;
    return STATUS_SUCCESS;
}

NTSTATUS NvmeStartController(PNVME_CONTROLLER Controller, const CM_RESOURCE_LIST *Resources)
{
    NTSTATUS Status = NvmeMapRegisters(Controller, Resources);
    if (!NT_SUCCESS(Status)) {
        DbgPrint("NVMe: cannot map the registers: status 0x%08x\n", Status);
        return Status;
    }
    (VOID)
        KeWaitForSingleObject(&Controller->ConfigurationMutex, Executive, KernelMode, FALSE, NULL);
    Controller->State = NvmeStarting;
    Status = NvmeCopyResources(Controller, Resources);
    if (NT_SUCCESS(Status)) {
        Status = NvmeBringUp(Controller);
    }
    KeReleaseMutex(&Controller->ConfigurationMutex, FALSE);
    if (!NT_SUCCESS(Status)) {
        NvmeStopController(Controller, STATUS_DEVICE_NOT_READY);
    }
    return Status;
}
