// The way of a controller from reset to ready and back, in the order of the specification
// ("Controller Initialization", "Controller Shutdown").
//
//   up    map BAR0, check CAP and VS --> CC.EN=0, RDY=0 --> memory, interrupt, CMB, admin queue
//         --> AQA, ASQ, ACQ --> CC.EN=1, RDY=1 --> watchdog --> Identify --> Set Features --> I/O queues:
//         completion queue, then submission queue --> events --> namespaces
//   down  nothing new, what is under way ends --> watchdog --> events --> delete the I/O queues, in
//         reverse --> CC.SHN=1, SHST=2 --> halt --> fail the rest --> interrupt, memory, BAR0
//   halt  CC.EN=0, RDY=0; else a function-level reset; else no bus mastering: one of them works, or the
//         controller is Unstoppable
//
//              NvmeStartController                        fatal status, silence, a request
//   Stopped -------------------------> Starting --> Ready <---------------------------------> Recovering
//      ^                                  |           |                                          |
//      |                                  |           +--- it is no longer there ---> Gone <-----+
//      |                                  |                                            |         |
//      +-------- NvmeStopController ------+--------------------------------------------+- Failed-+
//                                                                                        it cannot be
// All changes of the state happen under ConfigurationMutex.                              brought back
//
// Traps of controllers, real and emulated, that the code below minds:
//   - Some look at their messages only when CC.EN is set, so the interrupt is connected before.
//   - A removed controller reads as all ones on hardware, but as zero in QEMU. The version register
//     is neither.
//   - CC.EN=0 clears the mask of the interrupt line (NvmeUnmaskLine).
//   - Completions that are not consumed at CC.EN=0 keep QEMU's interrupt line asserted for ever: whoever
//     disables a controller reaps before.
//   - Time is real time: CAP.TO, or a constant below, measured with the performance counter.
#define INITGUID
#include "nvme.h"

#include <wdmguid.h>

#define NVME_BUS_INTERFACE_VERSION 1 // PCI_BUS_INTERFACE_STANDARD_VERSION, which is not in <wdm.h>
#define NVME_SHUTDOWN_TIMEOUT 5000   // milliseconds
#define NVME_STATUS_INTERVAL 1       // milliseconds between two looks at CSTS
#define NVME_DRAIN_INTERVAL 1        // ... and at queues that run empty

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

#define NVME_STATE_BIT(State) (1u << (State))

// Where each state may lead.
static const ULONG NvmeNextStates[] = {
    [NvmeStopped] = NVME_STATE_BIT(NvmeStarting),
    [NvmeStarting] = NVME_STATE_BIT(NvmeReady) | NVME_STATE_BIT(NvmeStopped),
    [NvmeReady] =
        NVME_STATE_BIT(NvmeRecovering) | NVME_STATE_BIT(NvmeGone) | NVME_STATE_BIT(NvmeStopped),
    [NvmeRecovering] =
        NVME_STATE_BIT(NvmeReady) | NVME_STATE_BIT(NvmeFailed) | NVME_STATE_BIT(NvmeGone),
    [NvmeFailed] = NVME_STATE_BIT(NvmeGone) | NVME_STATE_BIT(NvmeStopped),
    [NvmeGone] = NVME_STATE_BIT(NvmeStopped),
};

VOID NvmeSetState(PNVME_CONTROLLER Controller, NVME_STATE State)
{
    const ULONG NextStates = NvmeNextStates[Controller->State];
    NT_ASSERT((NextStates & NVME_STATE_BIT(State)) != 0);
    (VOID) NextStates; // of a free build
    (VOID) InterlockedExchange(&Controller->State, State);
}

static ULONG NvmeReadRegister(PNVME_CONTROLLER Controller, volatile ULONG *Register)
{
    Controller->RegisterReads += 1;
    return READ_REGISTER_ULONG(Register);
}

NTSTATUS NvmeCheckHealth(PNVME_CONTROLLER Controller)
{
    const ULONG Version = NvmeReadRegister(Controller, &Controller->Registers->Vs);
    const ULONG Csts = NvmeReadRegister(Controller, &Controller->Registers->Csts);
    if (Version == 0 || Version == MAXULONG || Csts == MAXULONG) {
        return STATUS_DEVICE_NOT_CONNECTED;
    }
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
        if ((NvmeReadRegister(Controller, &Controller->Registers->Csts) & Mask) == Expected) {
            return STATUS_SUCCESS;
        }
        if (IsLate) {
            return STATUS_IO_TIMEOUT;
        }
        NvmeSleep(NVME_STATUS_INTERVAL);
    }
}

static ULONG NvmeReadyTimeout(const NVME_CONTROLLER *Controller)
{
    const ULONG Milliseconds = NVME_CAP_READY_TIMEOUT(Controller->Capabilities);
    return Milliseconds != 0 ? Milliseconds : 500;
}

//
// The bus: what the PDO's driver offers.
//

static NTSTATUS NvmeAskBus(PNVME_CONTROLLER Controller, const GUID *Type, USHORT ByteCount,
                           USHORT Version, PVOID Interface)
{
    KEVENT Done;
    IO_STATUS_BLOCK StatusBlock;
    KeInitializeEvent(&Done, NotificationEvent, FALSE);
    const PIRP Irp = IoBuildSynchronousFsdRequest(IRP_MJ_PNP, Controller->Lower, NULL, 0, NULL,
                                                  &Done, &StatusBlock);
    if (Irp == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    const PIO_STACK_LOCATION Stack = IoGetNextIrpStackLocation(Irp);
    Stack->MinorFunction = IRP_MN_QUERY_INTERFACE;
    Stack->Parameters.QueryInterface.InterfaceType = Type;
    Stack->Parameters.QueryInterface.Size = ByteCount;
    Stack->Parameters.QueryInterface.Version = Version;
    Stack->Parameters.QueryInterface.Interface = Interface;
    Irp->IoStatus.Status = STATUS_NOT_SUPPORTED;
    const NTSTATUS Status = IoCallDriver(Controller->Lower, Irp);
    if (Status != STATUS_PENDING) {
        return Status;
    }
    (VOID) KeWaitForSingleObject(&Done, Executive, KernelMode, FALSE, NULL);
    return StatusBlock.Status;
}

static NTSTATUS NvmeOpenBusInterface(PNVME_CONTROLLER Controller, const GUID *Type,
                                     USHORT ByteCount, USHORT Version, PVOID Interface)
{
    const NTSTATUS Status = NvmeAskBus(Controller, Type, ByteCount, Version, Interface);
    if (!NT_SUCCESS(Status)) {
        RtlZeroMemory(Interface, ByteCount);
    }
    return Status == STATUS_INSUFFICIENT_RESOURCES ? Status : STATUS_SUCCESS;
}

// Asked for at the start, because a controller that is to be stopped must not wait for memory. On a bus
// that has neither it works, too.
static NTSTATUS NvmeOpenBus(PNVME_CONTROLLER Controller)
{
    const NTSTATUS Status =
        NvmeOpenBusInterface(Controller, &GUID_BUS_INTERFACE_STANDARD, sizeof(Controller->Bus),
                             NVME_BUS_INTERFACE_VERSION, &Controller->Bus);
    return NT_SUCCESS(Status)
               ? NvmeOpenBusInterface(Controller, &GUID_DEVICE_RESET_INTERFACE_STANDARD,
                                      sizeof(Controller->BusReset),
                                      DEVICE_RESET_INTERFACE_VERSION_1, &Controller->BusReset)
               : Status;
}

static VOID NvmeCloseBus(PNVME_CONTROLLER Controller)
{
    if (Controller->Bus.Context != NULL) {
        Controller->Bus.InterfaceDereference(Controller->Bus.Context);
    }
    if (Controller->BusReset.Context != NULL) {
        Controller->BusReset.InterfaceDereference(Controller->BusReset.Context);
    }
    RtlZeroMemory(&Controller->Bus, sizeof(Controller->Bus));
    RtlZeroMemory(&Controller->BusReset, sizeof(Controller->BusReset));
}

BOOLEAN NvmeIsOnBus(const NVME_CONTROLLER *Controller)
{
    USHORT VendorId = PCI_INVALID_VENDORID;
    return Controller->Bus.Context != NULL &&
           Controller->Bus.GetBusData(Controller->Bus.Context, PCI_WHICHSPACE_CONFIG, &VendorId,
                                      FIELD_OFFSET(PCI_COMMON_HEADER, VendorID),
                                      sizeof(VendorId)) == sizeof(VendorId) &&
           VendorId != PCI_INVALID_VENDORID;
}

// Reading the register back makes sure that what the controller wrote before has arrived: a read's answer
// never overtakes a write on the bus.
static BOOLEAN NvmeCutOff(PNVME_CONTROLLER Controller)
{
    const ULONG Offset = FIELD_OFFSET(PCI_COMMON_HEADER, Command);
    USHORT Command = 0;
    const BUS_INTERFACE_STANDARD *Bus = &Controller->Bus;
    if (Bus->Context == NULL || Bus->GetBusData(Bus->Context, PCI_WHICHSPACE_CONFIG, &Command,
                                                Offset, sizeof(Command)) != sizeof(Command)) {
        return FALSE;
    }
    Command &= (USHORT)~PCI_ENABLE_BUS_MASTER;
    (VOID) Bus->SetBusData(Bus->Context, PCI_WHICHSPACE_CONFIG, &Command, Offset, sizeof(Command));
    (VOID) Bus->GetBusData(Bus->Context, PCI_WHICHSPACE_CONFIG, &Command, Offset, sizeof(Command));
    return (Command & PCI_ENABLE_BUS_MASTER) == 0;
}

//
// Stopping.
//

NTSTATUS NvmeDisableController(PNVME_CONTROLLER Controller)
{
    const NTSTATUS Health = NvmeCheckHealth(Controller);
    if (Health == STATUS_DEVICE_NOT_CONNECTED) {
        return Health;
    }
    const ULONG Configuration = NvmeReadRegister(Controller, &Controller->Registers->Cc);
    WRITE_REGISTER_ULONG(&Controller->Registers->Cc,
                         Configuration & ~(NVME_CC_ENABLE | NVME_CC_SHUTDOWN_MASK));
    return NvmeWaitForStatus(Controller, NVME_CSTS_READY, 0, NvmeReadyTimeout(Controller));
}

static NTSTATUS NvmeResetFunction(PNVME_CONTROLLER Controller)
{
    const DEVICE_RESET_INTERFACE_STANDARD *Reset = &Controller->BusReset;
    if (Reset->Context == NULL ||
        (Reset->SupportedResetTypes & 1u << FunctionLevelDeviceReset) == 0) {
        return STATUS_NOT_SUPPORTED;
    }
    Controller->Recovery.Counters.FunctionResets += 1;
    const NTSTATUS Status = Reset->DeviceReset(Reset->Context, FunctionLevelDeviceReset, 0, NULL);
    return NT_SUCCESS(Status) ? NvmeDisableController(Controller) : Status;
}

NTSTATUS NvmeHaltController(PNVME_CONTROLLER Controller, NVME_RESET_KIND Least)
{
    NTSTATUS Status = STATUS_NOT_SUPPORTED;
    if (Least == NvmeControllerReset) {
        Status = NvmeDisableController(Controller);
    }
    // A controller that the bus still knows, but whose registers are silent, has forgotten where they
    // are: that, too, a reset of the function repairs.
    if (!NT_SUCCESS(Status) && NvmeIsOnBus(Controller)) {
        Status = NvmeResetFunction(Controller);
    }
    if (NT_SUCCESS(Status)) {
        Controller->Unstoppable = FALSE;
        return STATUS_SUCCESS;
    }
    if (NvmeCheckHealth(Controller) == STATUS_DEVICE_NOT_CONNECTED && !NvmeIsOnBus(Controller)) {
        return STATUS_DEVICE_DOES_NOT_EXIST;
    }
    if (NvmeCutOff(Controller)) {
        DbgPrint("NVMe: the controller cannot be stopped (status 0x%08x); it is cut off from the "
                 "bus\n",
                 Status);
        return STATUS_DEVICE_HARDWARE_ERROR;
    }
    DbgPrint("NVMe: the controller cannot be stopped: status 0x%08x\n", Status);
    Controller->Unstoppable = TRUE;
    return STATUS_IO_TIMEOUT;
}

//
// Bring-up: each routine is one step.
//

static NTSTATUS NvmeKeepResources(PNVME_CONTROLLER Controller, const CM_RESOURCE_LIST *Resources)
{
    if (Resources == NULL || Resources->Count == 0) {
        return STATUS_DEVICE_CONFIGURATION_ERROR;
    }
    const ULONG Count = Resources->List[0].PartialResourceList.Count;
    const SIZE_T ByteCount =
        FIELD_OFFSET(CM_RESOURCE_LIST, List[0].PartialResourceList.PartialDescriptors) +
        Count * sizeof(CM_PARTIAL_RESOURCE_DESCRIPTOR);
    const PCM_RESOURCE_LIST Copy = ExAllocatePool2(POOL_FLAG_NON_PAGED, ByteCount, NVME_TAG);
    if (Copy == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    RtlCopyMemory(Copy, Resources, ByteCount);
    Copy->Count = 1;
    Controller->Resources = Copy;
    return STATUS_SUCCESS;
}

// BAR0, and with it the registers, is the first memory resource.
static NTSTATUS NvmeMapRegisters(PNVME_CONTROLLER Controller)
{
    const CM_PARTIAL_RESOURCE_LIST *List = &Controller->Resources->List[0].PartialResourceList;
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

// The I/O queues, by id from 1 on, whose doorbells lie in BAR0.
static ULONG NvmeDoorbellLimit(const NVME_CONTROLLER *Controller, ULONG64 Cap)
{
    const SIZE_T PairCount = (Controller->RegisterByteCount - NVME_DOORBELL_OFFSET) /
                             (2 * (SIZE_T)NVME_CAP_DOORBELL_STRIDE(Cap));
    return PairCount == 0 ? 0 : (ULONG)(PairCount - 1);
}

static NTSTATUS NvmeCheckCapabilities(PNVME_CONTROLLER Controller)
{
    const NTSTATUS Health = NvmeCheckHealth(Controller);
    if (Health == STATUS_DEVICE_NOT_CONNECTED) {
        return Health;
    }
    const ULONG64 Cap = READ_REGISTER_ULONG64(&Controller->Registers->Cap);
    const ULONG Version = NvmeReadRegister(Controller, &Controller->Registers->Vs);
    const struct {
        BOOLEAN IsBroken;
        PCSTR Complaint;
    } Rules[] = {
        {Version < NVME_VERSION(1, 1), "a version before 1.1 cannot list its namespaces"},
        {!NVME_CAP_NVM_COMMANDS(Cap), "it lacks the NVM command set"},
        {NVME_CAP_QUEUE_ENTRIES(Cap) < 2, "a queue of one entry holds nothing"},
        {NVME_CAP_MINIMUM_PAGE_SHIFT(Cap) > PAGE_SHIFT, "its smallest page is larger than ours"},
        {NvmeDoorbellLimit(Controller, Cap) == 0, "its doorbells lie outside of BAR0"},
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

static NTSTATUS NvmeResetAtStart(PNVME_CONTROLLER Controller)
{
    // Firmware may have just enabled it. Until RDY has followed EN, EN must not be cleared.
    if ((NvmeReadRegister(Controller, &Controller->Registers->Cc) & NVME_CC_ENABLE) != 0) {
        (VOID) NvmeWaitForStatus(Controller, NVME_CSTS_READY, NVME_CSTS_READY,
                                 NvmeReadyTimeout(Controller));
    }
    return NvmeHaltController(Controller, NvmeControllerReset);
}

static NTSTATUS NvmeAllocateAdminQueue(PNVME_CONTROLLER Controller)
{
    PNVME_QUEUE Queue;
    return NvmeAllocateQueue(Controller, 0, NVME_ADMIN_QUEUE_ENTRIES, 0, &Queue);
}

// From disabled to ready, with an admin queue that works. The controller is told of its memory buffer and
// of the admin queue while it is disabled.
static NTSTATUS NvmeEnableController(PNVME_CONTROLLER Controller)
{
    const PNVME_QUEUE Queue = Controller->Queues[0];
    volatile NVME_REGISTERS *Registers = Controller->Registers;
    NTSTATUS Status = NvmeEnableCmb(Controller);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    NvmeResetQueue(Queue);
    WRITE_REGISTER_ULONG(&Registers->Aqa, NVME_AQA_ENTRIES(Queue->EntryCount));
    WRITE_REGISTER_ULONG64(&Registers->Asq, Queue->SubmissionAddress);
    WRITE_REGISTER_ULONG64(&Registers->Acq, Queue->CompletionAddress);
    WRITE_REGISTER_ULONG(
        &Registers->Cc, NVME_CC_PAGE_SHIFT(PAGE_SHIFT) | NVME_CC_COMMAND_SHIFT(NVME_COMMAND_SHIFT) |
                            NVME_CC_COMPLETION_SHIFT(NVME_COMPLETION_SHIFT) | NVME_CC_ENABLE);
    Status = NvmeWaitForStatus(Controller, NVME_CSTS_READY, NVME_CSTS_READY,
                               NvmeReadyTimeout(Controller));
    if (NT_SUCCESS(Status)) {
        NvmeUnmaskLine(Controller);
        NvmeOpenQueue(Queue);
    }
    return Status;
}

static NTSTATUS NvmeChooseQueueCount(PNVME_CONTROLLER Controller, PULONG Count)
{
    const ULONG Wanted = Controller->Parameters.QueueCount != 0
                             ? Controller->Parameters.QueueCount
                             : KeQueryActiveProcessorCountEx(ALL_PROCESSOR_GROUPS);
    // As many as there are doorbells: other drivers may want the rest.
    const ULONG Most = NvmeSmaller(NvmeDoorbellLimit(Controller, Controller->Capabilities),
                                   NVME_MAXIMUM_QUEUES - 1);
    ULONG Granted = 0;
    const NTSTATUS Status = NvmeSetQueueCount(Controller, Most, &Granted);
    Controller->MaximumQueueId = NvmeSmaller(Granted, Most);
    *Count = NvmeSmaller(NvmeSmaller(Wanted, NVME_MAXIMUM_PROCESSORS), Controller->MaximumQueueId);
    return NT_SUCCESS(Status) && *Count == 0 ? STATUS_NOT_SUPPORTED : Status;
}

static VOID NvmeAssignProcessors(PNVME_CONTROLLER Controller)
{
    for (ULONG Processor = 0; Processor < NVME_MAXIMUM_PROCESSORS; Processor += 1) {
        const ULONG Id = 1 + Processor % Controller->IoQueueCount;
        Controller->QueueOfProcessor[Processor] = Controller->Queues[Id];
    }
    for (ULONG Id = 1; Id <= Controller->IoQueueCount; Id += 1) {
        const PNVME_QUEUE Queue = Controller->Queues[Id];
        Queue->Processor = Id - 1;
        KeSetTargetProcessorDpc(&Queue->ReapDpc, (CCHAR)Queue->Processor);
    }
}

// One pair will do; of the others there are as many as there is memory for.
static NTSTATUS NvmeAllocateIoQueues(PNVME_CONTROLLER Controller)
{
    const USHORT EntryCount = (USHORT)NvmeSmaller(
        NvmeSmaller(Controller->Parameters.QueueEntries, NVME_MAXIMUM_QUEUE_ENTRIES),
        NVME_CAP_QUEUE_ENTRIES(Controller->Capabilities));
    ULONG Count;
    NTSTATUS Status = NvmeChooseQueueCount(Controller, &Count);
    for (ULONG Id = 1; NT_SUCCESS(Status) && Id <= Count; Id += 1) {
        PNVME_QUEUE Queue;
        Status = NvmeAllocateQueue(Controller, (USHORT)Id, EntryCount,
                                   Controller->MaximumTransferBytes, &Queue);
        if (NT_SUCCESS(Status)) {
            Queue->UsesLists = Controller->Parameters.UseLists != 0 && NvmeCanUseLists(Controller);
            Controller->IoQueueCount = Id;
        }
    }
    if (Controller->IoQueueCount == 0) {
        return Status;
    }
    NvmeAssignProcessors(Controller);
    return STATUS_SUCCESS;
}

// What the controller must be told of all I/O queues that there are, after each reset. A queue that is held
// stays so: the recovery resubmits.
static NTSTATUS NvmeCreateIoQueues(PNVME_CONTROLLER Controller)
{
    NTSTATUS Status = STATUS_SUCCESS;
    for (ULONG Id = 1; Id < NVME_MAXIMUM_QUEUES && NT_SUCCESS(Status); Id += 1) {
        const PNVME_QUEUE Queue = Controller->Queues[Id];
        if (Queue == NULL) {
            continue;
        }
        NvmeResetQueue(Queue);
        Status = NvmeCreateQueuePair(Queue);
        if (NT_SUCCESS(Status) && Queue->State == NvmeQueueClosed) {
            NvmeOpenQueue(Queue);
        }
    }
    if (NT_SUCCESS(Status)) {
        NvmeEnableShadow(Controller);
    }
    return Status;
}

static const struct {
    NTSTATUS (*Routine)(PNVME_CONTROLLER Controller);
    PCSTR Purpose;
} NvmeBringUpSteps[] = {
    {NvmeMapRegisters, "map the registers"},
    {NvmeCheckCapabilities, "accept the controller"},
    {NvmeOpenBus, "reach its bus"},
    {NvmeResetAtStart, "reset the controller"},
    {NvmeAllocateControllerMemory, "allocate memory"},
    {NvmeConnectInterrupt, "connect the interrupt"},
    {NvmeAllocateAdminQueue, "allocate the admin queue"},
    {NvmeEnableController, "enable the controller"},
    {NvmeStartWatchdog, "start the watchdog"},
    {NvmeIdentifyController, "identify the controller"},
    {NvmeAllocateIoQueues, "allocate the I/O queues"},
    {NvmeCreateIoQueues, "create the I/O queues"},
    {NvmeEnablePmr, "use its persistent memory"},
    {NvmeStartEvents, "ask for its events"},
    {NvmeScanNamespaces, "find its namespaces"},
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
    DbgPrint("NVMe: %s, serial %s, firmware %s: %u queue pairs of %u entries, %u KiB per command\n",
             Controller->ModelNumber, Controller->SerialNumber, Controller->FirmwareRevision,
             Controller->IoQueueCount, Controller->Queues[1]->EntryCount,
             Controller->MaximumTransferBytes / 1024);
    return STATUS_SUCCESS;
}

VOID NvmeLockController(PNVME_CONTROLLER Controller)
{
    (VOID)
        KeWaitForSingleObject(&Controller->ConfigurationMutex, Executive, KernelMode, FALSE, NULL);
}

VOID NvmeUnlockController(PNVME_CONTROLLER Controller)
{
    (VOID) KeReleaseMutex(&Controller->ConfigurationMutex, FALSE);
}

NTSTATUS NvmeStartController(PNVME_CONTROLLER Controller, const CM_RESOURCE_LIST *Resources)
{
    NvmeLockController(Controller);
    NvmeSetState(Controller, NvmeStarting);
    NTSTATUS Status = NvmeKeepResources(Controller, Resources);
    if (NT_SUCCESS(Status)) {
        Status = NvmeBringUp(Controller);
    }
    if (NT_SUCCESS(Status)) {
        NvmeSetState(Controller, NvmeReady);
    }
    NvmeUnlockController(Controller);
    if (!NT_SUCCESS(Status)) {
        NvmeStopController(Controller, STATUS_DEVICE_NOT_READY);
    }
    return Status;
}

NTSTATUS NvmeReenableController(PNVME_CONTROLLER Controller)
{
    ULONG Granted;
    NTSTATUS Status = NvmeEnableController(Controller);
    if (NT_SUCCESS(Status)) {
        Status = NvmeSetQueueCount(Controller, Controller->MaximumQueueId, &Granted);
    }
    if (NT_SUCCESS(Status)) {
        Status = NvmeCreateIoQueues(Controller);
    }
    return Status;
}

//
// The way down.
//

// New requests are refused; those that are under way, or wait, have their end, as long as the controller is
// alive. The watchdog sees to it that they do.
static VOID NvmeDrain(PNVME_CONTROLLER Controller, NTSTATUS Reason)
{
    for (ULONG Id = 1; Id < NVME_MAXIMUM_QUEUES; Id += 1) {
        const PNVME_QUEUE Queue = Controller->Queues[Id];
        if (Queue == NULL) {
            continue;
        }
        NvmeCloseQueue(Queue, Reason);
        while (Queue->State != NvmeQueueClosed && !NvmeIsQueueIdle(Queue) &&
               NvmeCheckHealth(Controller) != STATUS_DEVICE_NOT_CONNECTED) {
            NvmeSleep(NVME_DRAIN_INTERVAL);
            (VOID) NvmeReap(Queue); // nobody polls a queue whose owner has gone to sleep
        }
    }
}

// FALSE: the controller does not answer, or refuses. CC.EN deletes them, too.
static BOOLEAN NvmeDeleteIoQueues(PNVME_CONTROLLER Controller)
{
    for (ULONG Id = NVME_MAXIMUM_QUEUES - 1; Id >= 1; Id -= 1) {
        const PNVME_QUEUE Queue = Controller->Queues[Id];
        if (Queue != NULL && Queue->State == NvmeQueueOpen &&
            !NT_SUCCESS(NvmeDeleteQueuePair(Queue))) {
            return FALSE;
        }
    }
    return TRUE;
}

static VOID NvmeShutDown(PNVME_CONTROLLER Controller)
{
    const ULONG Configuration =
        NvmeReadRegister(Controller, &Controller->Registers->Cc) & ~NVME_CC_SHUTDOWN_MASK;
    WRITE_REGISTER_ULONG(&Controller->Registers->Cc, Configuration | NVME_CC_SHUTDOWN_NORMAL);
    const NTSTATUS Status = NvmeWaitForStatus(Controller, NVME_CSTS_SHUTDOWN_MASK,
                                              NVME_CSTS_SHUTDOWN_COMPLETE, NVME_SHUTDOWN_TIMEOUT);
    if (!NT_SUCCESS(Status)) {
        DbgPrint("NVMe: the controller did not shut down: status 0x%08x\n", Status);
    }
}

// Brings a controller to rest: politely if it listens, and then for certain.
static VOID NvmeBringDown(PNVME_CONTROLLER Controller)
{
    const BOOLEAN Listens = (Controller->State == NvmeReady || Controller->State == NvmeStarting) &&
                            Controller->Queues[0] != NULL &&
                            Controller->Queues[0]->State == NvmeQueueOpen &&
                            NT_SUCCESS(NvmeCheckHealth(Controller));
    if (Listens && NvmeDeleteIoQueues(Controller) && NT_SUCCESS(NvmeCheckHealth(Controller))) {
        NvmeShutDown(Controller);
    }
    NvmeReapAll(Controller);
    NvmeForEachQueue(Controller, NvmeMuteQueue);
    (VOID) NvmeHaltController(Controller, NvmeControllerReset);
}

static VOID NvmeFreeQueues(PNVME_CONTROLLER Controller)
{
    for (ULONG Id = 0; Id < NVME_MAXIMUM_QUEUES; Id += 1) {
        const PNVME_QUEUE Queue = Controller->Queues[Id];
        if (Queue != NULL && NvmeIsQueueOwned(Queue)) {
            NvmeForgetQueue(Queue); // its owner closes it some day
        } else {
            NvmeFreeQueue(Queue);
        }
    }
    Controller->IoQueueCount = 0;
}

static VOID NvmeFreePool(PVOID *Block)
{
    if (*Block != NULL) {
        ExFreePoolWithTag(*Block, NVME_TAG);
        *Block = NULL;
    }
}

static VOID NvmeFreeEverything(PNVME_CONTROLLER Controller)
{
    NvmeFreeQueues(Controller);
    NvmeUnmapPmr(Controller);
    NvmeUnmapCmb(Controller);
    NvmeFreeControllerMemory(Controller);
    NvmeCloseBus(Controller);
    if (Controller->Registers != NULL) {
        MmUnmapIoSpace((PVOID)Controller->Registers, Controller->RegisterByteCount);
        Controller->Registers = NULL;
    }
    NvmeFreePool((PVOID *)&Controller->Data);
    NvmeFreePool((PVOID *)&Controller->Resources);
}

VOID NvmeStopController(PNVME_CONTROLLER Controller, NTSTATUS Reason)
{
    if (Controller->State == NvmeReady) {
        NvmeDrain(Controller, Reason);
    }
    NvmeStopWatchdog(Controller);
    NvmeLockController(Controller);
    if (Controller->State != NvmeStopped) {
        if (Controller->Queues[0] != NULL) {
            NvmeStopEvents(Controller);
            NvmeBringDown(Controller);
        }
        NvmeEndAll(Controller, Reason);
        NvmeDisconnectInterrupt(Controller);
        NvmeFreeEverything(Controller);
        NvmeSetState(Controller, NvmeStopped);
    }
    NvmeUnlockController(Controller);
}
