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
#include "oldnvme.h"

#define NVME_SHUTDOWN_TIMEOUT 5000 // milliseconds
#define NVME_STATUS_INTERVAL 1     // milliseconds between two looks at CSTS

#define NVME_MINIMUM_BLOCK_SHIFT 9 // 512 bytes
#define NVME_IO_QUEUE_ID 1

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

static VOID NvmeSleep(ULONG Milliseconds)
{
    LARGE_INTEGER Interval;
    Interval.QuadPart = -10000ll * Milliseconds;
    (VOID) KeDelayExecutionThread(KernelMode, FALSE, &Interval);
}

//
// Controller state.
//

NTSTATUS NvmeCheckHealth(const NVME_DEVICE *Device)
{
    const ULONG Version = READ_REGISTER_ULONG(&Device->Registers->Vs);
    if (Version == 0 || Version == MAXULONG) {
        return STATUS_DEVICE_NOT_CONNECTED;
    }
    const ULONG Csts = READ_REGISTER_ULONG(&Device->Registers->Csts);
    return (Csts & NVME_CSTS_FATAL) != 0 ? STATUS_DEVICE_HARDWARE_ERROR : STATUS_SUCCESS;
}

// Waits until the bits Mask of CSTS are Expected. A fatal error ends the wait, unless the bits are
// to become zero: that is a reset, which is the cure.
static NTSTATUS NvmeWaitForStatus(const NVME_DEVICE *Device, ULONG Mask, ULONG Expected,
                                  ULONG Milliseconds)
{
    const LONG64 Deadline = NvmeDeadline(Milliseconds);
    for (;;) {
        const BOOLEAN IsLate = NvmeHasPassed(Deadline);
        const NTSTATUS Health = NvmeCheckHealth(Device);
        if (Health == STATUS_DEVICE_NOT_CONNECTED || (!NT_SUCCESS(Health) && Expected != 0)) {
            return Health;
        }
        if ((READ_REGISTER_ULONG(&Device->Registers->Csts) & Mask) == Expected) {
            return STATUS_SUCCESS;
        }
        if (IsLate) {
            return STATUS_IO_TIMEOUT;
        }
        NvmeSleep(NVME_STATUS_INTERVAL);
    }
}

static ULONG NvmeReadyTimeout(const NVME_DEVICE *Device)
{
    const ULONG Milliseconds = NVME_CAP_READY_TIMEOUT(Device->Capabilities);
    return Milliseconds != 0 ? Milliseconds : 500;
}

static NTSTATUS NvmeDisableController(const NVME_DEVICE *Device)
{
    const ULONG Configuration = READ_REGISTER_ULONG(&Device->Registers->Cc);
    WRITE_REGISTER_ULONG(&Device->Registers->Cc,
                         Configuration & ~(NVME_CC_ENABLE | NVME_CC_SHUTDOWN_MASK));
    return NvmeWaitForStatus(Device, NVME_CSTS_READY, 0, NvmeReadyTimeout(Device));
}

// Makes sure that the controller no longer touches memory, or notes that it may.
static VOID NvmeHaltController(PNVME_DEVICE Device)
{
    const NTSTATUS Status = NvmeDisableController(Device);
    if (!NT_SUCCESS(Status) && Status != STATUS_DEVICE_NOT_CONNECTED) {
        DbgPrint("NVMe: the controller cannot be stopped: status 0x%08x\n", Status);
        Device->Unstoppable = TRUE;
    }
}

VOID NvmeFailController(PNVME_DEVICE Device, NTSTATUS Reason)
{
    DbgPrint("NVMe: the controller is given up: status 0x%08x, CSTS 0x%x\n", Reason,
             READ_REGISTER_ULONG(&Device->Registers->Csts));
    Device->State = NvmeFailed;
    NvmeHaltController(Device);
}

//
// Bring-up: each routine is one step.
//

// BAR0, and with it the registers, is the first memory resource.
static NTSTATUS NvmeMapRegisters(PNVME_DEVICE Device, const CM_RESOURCE_LIST *Resources)
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
        Device->RegisterByteCount = Resource->u.Memory.Length;
        Device->Registers = MmMapIoSpaceEx(Resource->u.Memory.Start, Device->RegisterByteCount,
                                           PAGE_READWRITE | PAGE_NOCACHE);
        return Device->Registers != NULL ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;
    }
    return STATUS_DEVICE_CONFIGURATION_ERROR;
}

static NTSTATUS NvmeCheckCapabilities(PNVME_DEVICE Device)
{
    const NTSTATUS Health = NvmeCheckHealth(Device);
    if (Health == STATUS_DEVICE_NOT_CONNECTED) {
        return Health;
    }
    const ULONG64 Cap = READ_REGISTER_ULONG64(&Device->Registers->Cap);
    const ULONG Version = READ_REGISTER_ULONG(&Device->Registers->Vs);
    const SIZE_T DoorbellBytes = 2 * (NVME_IO_QUEUE_ID + 1) * (SIZE_T)NVME_CAP_DOORBELL_STRIDE(Cap);
    const struct {
        BOOLEAN IsBroken;
        PCSTR Complaint;
    } Rules[] = {
        {Version < NVME_VERSION(1, 1), "a version before 1.1 cannot list its namespaces"},
        {!NVME_CAP_NVM_COMMANDS(Cap), "it lacks the NVM command set"},
        {NVME_CAP_QUEUE_ENTRIES(Cap) < 2, "a queue of one entry holds nothing"},
        {NVME_CAP_MINIMUM_PAGE_SHIFT(Cap) > PAGE_SHIFT, "its smallest page is larger than ours"},
        {DoorbellBytes > Device->RegisterByteCount - NVME_DOORBELL_OFFSET,
         "its doorbells lie outside of BAR0"},
    };
    for (ULONG Index = 0; Index < ARRAYSIZE(Rules); Index += 1) {
        if (Rules[Index].IsBroken) {
            DbgPrint("NVMe: CAP 0x%llx, VS 0x%x: %s\n", Cap, Version, Rules[Index].Complaint);
            return STATUS_NOT_SUPPORTED;
        }
    }
    Device->Capabilities = Cap;
    return STATUS_SUCCESS;
}

static NTSTATUS NvmeResetController(PNVME_DEVICE Device)
{
    // Firmware may have just enabled it. Until RDY has followed EN, EN must not be cleared.
    if ((READ_REGISTER_ULONG(&Device->Registers->Cc) & NVME_CC_ENABLE) != 0) {
        NvmeWaitForStatus(Device, NVME_CSTS_READY, NVME_CSTS_READY, NvmeReadyTimeout(Device));
    }
    const NTSTATUS Status = NvmeDisableController(Device);
    if (NT_SUCCESS(Status)) {
        Device->Unstoppable = FALSE;
    }
    return Status;
}

static NTSTATUS NvmeEnableController(PNVME_DEVICE Device)
{
    volatile NVME_REGISTERS *Registers = Device->Registers;

    NvmeInitializeQueue(Device, &Device->AdminQueue, 0, NVME_QUEUE_ENTRIES,
                        NvmePageAdminSubmission);
    WRITE_REGISTER_ULONG(&Registers->Aqa, NVME_AQA_ENTRIES(NVME_QUEUE_ENTRIES));
    WRITE_REGISTER_ULONG64(&Registers->Asq, NvmePageAddress(Device, NvmePageAdminSubmission));
    WRITE_REGISTER_ULONG64(&Registers->Acq, NvmePageAddress(Device, NvmePageAdminCompletion));
    WRITE_REGISTER_ULONG(
        &Registers->Cc, NVME_CC_PAGE_SHIFT(PAGE_SHIFT) | NVME_CC_COMMAND_SHIFT(NVME_COMMAND_SHIFT) |
                            NVME_CC_COMPLETION_SHIFT(NVME_COMPLETION_SHIFT) | NVME_CC_ENABLE);
    return NvmeWaitForStatus(Device, NVME_CSTS_READY, NVME_CSTS_READY, NvmeReadyTimeout(Device));
}

static NTSTATUS NvmeRunAdminCommand(PNVME_DEVICE Device, UCHAR Opcode, ULONG NamespaceId,
                                    ULONG64 Prp1, ULONG Cdw10, ULONG Cdw11)
{
    const PNVME_COMMAND Command = NvmeAddCommand(&Device->AdminQueue);
    Command->Opcode = Opcode;
    Command->NamespaceId = NamespaceId;
    Command->Prp1 = Prp1;
    Command->Cdw10 = Cdw10;
    Command->Cdw11 = Cdw11;
    return NvmeRunBatch(Device, &Device->AdminQueue);
}

static NTSTATUS NvmeIdentify(PNVME_DEVICE Device, ULONG What, ULONG NamespaceId, ULONG Page)
{
    return NvmeRunAdminCommand(Device, NVME_ADMIN_IDENTIFY, NamespaceId,
                               NvmePageAddress(Device, Page), What, 0);
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

static NTSTATUS NvmeIdentifyController(PNVME_DEVICE Device)
{
    const NTSTATUS Status = NvmeIdentify(Device, NVME_IDENTIFY_CONTROLLER, 0, NvmePageIdentify);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    const NVME_IDENTIFY_CONTROLLER_DATA *Data = NvmePageVa(Device, NvmePageIdentify);
    NvmeCopyText(Device->SerialNumber, Data->SerialNumber, sizeof(Data->SerialNumber));
    NvmeCopyText(Device->ModelNumber, Data->ModelNumber, sizeof(Data->ModelNumber));
    NvmeCopyText(Device->FirmwareRevision, Data->FirmwareRevision, sizeof(Data->FirmwareRevision));

    // The shift comes from the device: compare before it is used, so that nothing is shifted out.
    const ULONG Shift = Data->MaximumTransferShift;
    const ULONG PagesShift = NVME_CAP_MINIMUM_PAGE_SHIFT(Device->Capabilities);
    Device->MaximumTransferBytes =
        NvmeSmaller(NVME_MAXIMUM_COMMAND_BYTES, (Device->MapRegisterCount - 1) * PAGE_SIZE);
    if (Shift != 0 && (ULONG64)Shift + PagesShift < 32) {
        Device->MaximumTransferBytes =
            NvmeSmaller(Device->MaximumTransferBytes, 1u << (Shift + PagesShift));
    }
    return STATUS_SUCCESS;
}

// Makes the namespace whose Identify data has just been read the disk of this device, if its blocks
// are usable.
static BOOLEAN NvmeAdoptNamespace(PNVME_DEVICE Device, ULONG NamespaceId)
{
    const NVME_IDENTIFY_NAMESPACE_DATA *Data = NvmePageVa(Device, NvmePageIdentify);
    const NVME_BLOCK_FORMAT Format = Data->Formats[Data->CurrentFormat & NVME_CURRENT_FORMAT_MASK];

    if (Data->BlockCount == 0 || Format.MetadataByteCount != 0 ||
        Format.BlockShift < NVME_MINIMUM_BLOCK_SHIFT || Format.BlockShift > PAGE_SHIFT ||
        Data->BlockCount > (ULONG64)MAXLONGLONG >> Format.BlockShift) {
        DbgPrint("NVMe: namespace %u is passed over: %llu blocks of 2^%u bytes, %u bytes of "
                 "metadata each\n",
                 NamespaceId, Data->BlockCount, Format.BlockShift, Format.MetadataByteCount);
        return FALSE;
    }
    Device->NamespaceId = NamespaceId;
    Device->BlockShift = Format.BlockShift;
    Device->BlockCount = Data->BlockCount;
    return TRUE;
}

// Namespace ids may be sparse: the list is the only way to know them. Its first 1024 are looked at.
static NTSTATUS NvmeFindNamespace(PNVME_DEVICE Device)
{
    const ULONG *Ids = NvmePageVa(Device, NvmePageNamespaceList);
    NTSTATUS Status =
        NvmeIdentify(Device, NVME_IDENTIFY_ACTIVE_NAMESPACES, 0, NvmePageNamespaceList);

    for (ULONG Index = 0;
         NT_SUCCESS(Status) && Index < NVME_NAMESPACE_LIST_ENTRIES && Ids[Index] != 0; Index += 1) {
        Status = NvmeIdentify(Device, NVME_IDENTIFY_NAMESPACE, Ids[Index], NvmePageIdentify);
        if (NT_SUCCESS(Status) && NvmeAdoptNamespace(Device, Ids[Index])) {
            return STATUS_SUCCESS;
        }
    }
    return NT_SUCCESS(Status) ? STATUS_NO_MEDIA_IN_DEVICE : Status;
}

static NTSTATUS NvmeCreateIoQueues(PNVME_DEVICE Device)
{
    const USHORT EntryCount =
        (USHORT)NvmeSmaller(NVME_QUEUE_ENTRIES, NVME_CAP_QUEUE_ENTRIES(Device->Capabilities));
    const ULONG Cdw10 = NVME_QUEUE_CDW10(EntryCount, NVME_IO_QUEUE_ID);
    const ULONG64 CompletionAddress = NvmePageAddress(Device, NvmePageIoCompletion);
    const ULONG64 SubmissionAddress = NvmePageAddress(Device, NvmePageIoSubmission);

    NTSTATUS Status =
        NvmeRunAdminCommand(Device, NVME_ADMIN_SET_FEATURES, 0, 0, NVME_FEATURE_QUEUE_COUNT, 0);
    if (NT_SUCCESS(Status)) {
        Status =
            NvmeRunAdminCommand(Device, NVME_ADMIN_CREATE_COMPLETION_QUEUE, 0, CompletionAddress,
                                Cdw10, NVME_QUEUE_CONTIGUOUS | NVME_QUEUE_INTERRUPTS);
    }
    if (NT_SUCCESS(Status)) {
        Status = NvmeRunAdminCommand(
            Device, NVME_ADMIN_CREATE_SUBMISSION_QUEUE, 0, SubmissionAddress, Cdw10,
            NVME_QUEUE_CONTIGUOUS | NVME_QUEUE_COMPLETES_TO(NVME_IO_QUEUE_ID));
    }
    if (NT_SUCCESS(Status)) {
        NvmeInitializeQueue(Device, &Device->IoQueue, NVME_IO_QUEUE_ID, EntryCount,
                            NvmePageIoSubmission);
    }
    return Status;
}

static const struct {
    NTSTATUS (*Routine)(PNVME_DEVICE Device);
    PCSTR Purpose;
} NvmeBringUpSteps[] = {
    {NvmeCheckCapabilities, "accept the controller"},
    {NvmeResetController, "reset the controller"},
    {NvmeAllocatePages, "allocate memory"},
    {NvmeConnectInterrupt, "connect the interrupt"},
    {NvmeEnableController, "enable the controller"},
    {NvmeIdentifyController, "identify the controller"},
    {NvmeFindNamespace, "find a usable namespace"},
    {NvmeCreateIoQueues, "create the I/O queues"},
    {NvmeStartWorker, "start a thread for requests"},
};

static NTSTATUS NvmeBringUp(PNVME_DEVICE Device)
{
    for (ULONG Index = 0; Index < ARRAYSIZE(NvmeBringUpSteps); Index += 1) {
        const NTSTATUS Status = NvmeBringUpSteps[Index].Routine(Device);
        if (!NT_SUCCESS(Status)) {
            DbgPrint("NVMe: cannot %s: status 0x%08x\n", NvmeBringUpSteps[Index].Purpose, Status);
            return Status;
        }
    }
    Device->State = NvmeStarted;
    Device->Self->SectorSize = (USHORT)(1u << Device->BlockShift);
    DbgPrint("NVMe: %s, serial %s, firmware %s: namespace %u, %llu blocks of %u bytes, %u KiB per "
             "command\n",
             Device->ModelNumber, Device->SerialNumber, Device->FirmwareRevision,
             Device->NamespaceId, Device->BlockCount, 1u << Device->BlockShift,
             Device->MaximumTransferBytes / 1024);
    return STATUS_SUCCESS;
}

//
// The way down.
//

static VOID NvmeDeleteIoQueues(PNVME_DEVICE Device)
{
    const NTSTATUS Status =
        NvmeRunAdminCommand(Device, NVME_ADMIN_DELETE_SUBMISSION_QUEUE, 0, 0, NVME_IO_QUEUE_ID, 0);
    if (NT_SUCCESS(Status)) {
        NvmeRunAdminCommand(Device, NVME_ADMIN_DELETE_COMPLETION_QUEUE, 0, 0, NVME_IO_QUEUE_ID, 0);
    }
}

// Brings a controller that knows Pages to rest: politely if it listens, and then for certain.
static VOID NvmeShutDownController(PNVME_DEVICE Device)
{
    if (Device->IoQueue.EntryCount != 0 && Device->State != NvmeFailed &&
        NT_SUCCESS(NvmeCheckHealth(Device))) {
        NvmeDeleteIoQueues(Device);
    }
    if (Device->State != NvmeFailed && NT_SUCCESS(NvmeCheckHealth(Device)) &&
        (READ_REGISTER_ULONG(&Device->Registers->Csts) & NVME_CSTS_READY) != 0) {
        const ULONG Configuration =
            READ_REGISTER_ULONG(&Device->Registers->Cc) & ~NVME_CC_SHUTDOWN_MASK;
        WRITE_REGISTER_ULONG(&Device->Registers->Cc, Configuration | NVME_CC_SHUTDOWN_NORMAL);
        const NTSTATUS Status = NvmeWaitForStatus(
            Device, NVME_CSTS_SHUTDOWN_MASK, NVME_CSTS_SHUTDOWN_COMPLETE, NVME_SHUTDOWN_TIMEOUT);
        if (!NT_SUCCESS(Status)) {
            DbgPrint("NVMe: the controller did not shut down: status 0x%08x\n", Status);
        }
    }
    NvmeHaltController(Device);
}

VOID NvmeStopDevice(PNVME_DEVICE Device)
{
    NvmeStopWorker(Device);
    if (Device->Pages != NULL) {
        NvmeShutDownController(Device);
    }
    NvmeDisconnectInterrupt(Device);
    RtlZeroMemory(&Device->AdminQueue, sizeof(Device->AdminQueue));
    RtlZeroMemory(&Device->IoQueue, sizeof(Device->IoQueue));
    NvmeFreePages(Device);
    if (Device->Registers != NULL) {
        MmUnmapIoSpace((PVOID)Device->Registers, Device->RegisterByteCount);
        Device->Registers = NULL;
    }
    Device->State = NvmeStopped;
}

NTSTATUS NvmeStartDevice(PNVME_DEVICE Device, const CM_RESOURCE_LIST *Resources)
{
    NTSTATUS Status = NvmeMapRegisters(Device, Resources);
    if (!NT_SUCCESS(Status)) {
        DbgPrint("NVMe: cannot map the registers: status 0x%08x\n", Status);
        return Status;
    }
    Status = NvmeBringUp(Device);
    if (!NT_SUCCESS(Status)) {
        NvmeStopDevice(Device);
    }
    return Status;
}
