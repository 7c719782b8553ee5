// Io: IRPs on stacks of devices that this file makes up, resources, and what the enumeration of PCI
// says of this machine.
#include "kernel/inc/io.h"
#include "kernel/inc/rtl.h"
#include "tests/kernel/tests.h"

#include <wdmguid.h>

// ------------------------------------------------------------------------------------------------
// A stack of three devices. What each of them does is a table; what happened is a log.

#define STACK_DEPTH 3
#define LOG_ENTRIES 16

typedef enum _DEVICE_ACT {
    ActComplete,    // completes the IRP
    ActPend,        // marks it pending and completes it
    ActSkip,        // passes its own location down
    ActCopy,        // passes a copy down, without completion routine
    ActWatch,       // passes a copy down, with a routine that logs and goes on
    ActWatchErrors, // the same for errors only
    ActTakeBack,    // its routine stops the completion; the dispatch routine completes it again
    ActForward,     // IoForwardIrpSynchronously, then completes it
} DEVICE_ACT;

typedef struct _LOG_ENTRY {
    LONG Level; // of the device whose completion routine ran; STACK_DEPTH: the sender
    PDEVICE_OBJECT DeviceObject;
    BOOLEAN PendingReturned;
} LOG_ENTRY;

static struct {
    PDEVICE_OBJECT Devices[STACK_DEPTH]; // from the bottom
    DEVICE_ACT Acts[STACK_DEPTH];
    NTSTATUS FinalStatus;
    ULONG LogCount;
    LOG_ENTRY Log[LOG_ENTRIES];
} Stage;

typedef struct _STAGE_EXTENSION {
    LONG Level;
    PDEVICE_OBJECT Lower;
} STAGE_EXTENSION;

static STAGE_EXTENSION *StageExtension(PDEVICE_OBJECT Device)
{
    return Device->DeviceExtension;
}

static NTSTATUS NTAPI LogCompletion(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context)
{
    if (Stage.LogCount < LOG_ENTRIES) {
        Stage.Log[Stage.LogCount++] =
            (LOG_ENTRY){(LONG)(LONG_PTR)Context, DeviceObject, Irp->PendingReturned};
    }
    if (Irp->PendingReturned && DeviceObject != NULL) {
        IoMarkIrpPending(Irp);
    }
    return STATUS_SUCCESS;
}

static NTSTATUS NTAPI LogAndKeep(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context)
{
    LogCompletion(NULL, Irp, Context);
    UNREFERENCED_PARAMETER(DeviceObject);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static NTSTATUS StageComplete(PIRP Irp, NTSTATUS Status)
{
    Irp->IoStatus.Status = Status;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
    return Status;
}

static NTSTATUS PassDown(STAGE_EXTENSION *Extension, PIRP Irp, PIO_COMPLETION_ROUTINE Routine,
                         BOOLEAN OnSuccess)
{
    IoCopyCurrentIrpStackLocationToNext(Irp);
    if (Routine != NULL) {
        IoSetCompletionRoutine(Irp, Routine, (PVOID)(LONG_PTR)Extension->Level, OnSuccess, TRUE,
                               FALSE);
    }
    return IoCallDriver(Extension->Lower, Irp);
}

static NTSTATUS NTAPI StageDispatch(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    STAGE_EXTENSION *Extension = StageExtension(DeviceObject);
    switch (Stage.Acts[Extension->Level]) {
    case ActComplete:
        return StageComplete(Irp, Stage.FinalStatus);
    case ActPend:
        IoMarkIrpPending(Irp);
        StageComplete(Irp, Stage.FinalStatus);
        return STATUS_PENDING;
    case ActSkip:
        IoSkipCurrentIrpStackLocation(Irp);
        return IoCallDriver(Extension->Lower, Irp);
    case ActCopy:
        return PassDown(Extension, Irp, NULL, TRUE);
    case ActWatch:
        return PassDown(Extension, Irp, LogCompletion, TRUE);
    case ActWatchErrors:
        return PassDown(Extension, Irp, LogCompletion, FALSE);
    case ActTakeBack:
        PassDown(Extension, Irp, LogAndKeep, TRUE);
        return StageComplete(Irp, Irp->IoStatus.Status);
    case ActForward:
        KT_CHECK(IoForwardIrpSynchronously(Extension->Lower, Irp));
        KT_EQUAL(IoGetCurrentIrpStackLocation(Irp)->DeviceObject, DeviceObject);
        return StageComplete(Irp, Irp->IoStatus.Status);
    }
    return STATUS_INVALID_DEVICE_REQUEST;
}

static KT_DRIVER StageDriver = KT_DRIVER_INITIALIZER(.MajorFunction[IRP_MJ_READ] = StageDispatch);

static BOOLEAN SetStage(DEVICE_ACT Top, DEVICE_ACT Middle, DEVICE_ACT Bottom, NTSTATUS FinalStatus)
{
    RtlZeroMemory(&Stage, sizeof(Stage));
    Stage.Acts[0] = Bottom;
    Stage.Acts[1] = Middle;
    Stage.Acts[2] = Top;
    Stage.FinalStatus = FinalStatus;
    for (LONG Level = 0; Level < STACK_DEPTH; Level += 1) {
        PDEVICE_OBJECT Device;
        if (!NT_SUCCESS(IoCreateDevice(&StageDriver.Object, sizeof(STAGE_EXTENSION), NULL,
                                       FILE_DEVICE_UNKNOWN, 0, FALSE, &Device))) {
            return FALSE;
        }
        Stage.Devices[Level] = Device;
        StageExtension(Device)->Level = Level;
        if (Level > 0) {
            StageExtension(Device)->Lower = IoAttachDeviceToDeviceStack(Device, Stage.Devices[0]);
        }
        Device->Flags &= ~(ULONG)DO_DEVICE_INITIALIZING;
    }
    return TRUE;
}

static VOID ClearStage(VOID)
{
    for (LONG Level = STACK_DEPTH - 1; Level >= 0; Level--) {
        if (Level > 0) {
            IoDetachDevice(StageExtension(Stage.Devices[Level])->Lower);
        }
        IoDeleteDevice(Stage.Devices[Level]);
    }
}

// Sends a read to the top of the stack and takes the IRP back; the caller frees it.
static PIRP PlayStage(CCHAR StackSize)
{
    PIRP Irp = IoAllocateIrp(StackSize, FALSE);
    if (!KT_CHECK(Irp != NULL)) {
        return NULL;
    }
    IoGetNextIrpStackLocation(Irp)->MajorFunction = IRP_MJ_READ;
    IoSetCompletionRoutine(Irp, LogAndKeep, (PVOID)(LONG_PTR)STACK_DEPTH, TRUE, TRUE, TRUE);
    (VOID) IoCallDriver(Stage.Devices[STACK_DEPTH - 1], Irp);
    KT_EQUAL(Irp->CurrentLocation, StackSize + 1);
    KT_EQUAL(Irp->IoStatus.Status, Stage.FinalStatus);
    return Irp;
}

// Plays one case and checks whose completion routines ran, in order. Levels ends with STACK_DEPTH.
static VOID CheckOrder(DEVICE_ACT Top, DEVICE_ACT Middle, DEVICE_ACT Bottom, NTSTATUS FinalStatus,
                       const LONG *Levels)
{
    KT_REQUIRE(SetStage(Top, Middle, Bottom, FinalStatus));
    PIRP Irp = PlayStage(STACK_DEPTH);
    ULONG Count = 0;
    do {
        KT_REQUIRE(Count < Stage.LogCount);
        KT_EQUAL(Stage.Log[Count].Level, Levels[Count]);
    } while (Levels[Count++] != STACK_DEPTH);
    KT_EQUAL(Stage.LogCount, Count);
    if (Irp != NULL) {
        IoFreeIrp(Irp);
    }
    ClearStage();
}

static VOID CompletionGoesUp(VOID)
{
    CheckOrder(ActWatch, ActWatch, ActComplete, STATUS_SUCCESS, (const LONG[]){1, 2, STACK_DEPTH});
    CheckOrder(ActWatch, ActCopy, ActComplete, STATUS_SUCCESS, (const LONG[]){2, STACK_DEPTH});
    CheckOrder(ActCopy, ActCopy, ActComplete, STATUS_SUCCESS, (const LONG[]){STACK_DEPTH});
}

static VOID RoutinesSeeTheirDevice(VOID)
{
    KT_REQUIRE(SetStage(ActWatch, ActWatch, ActComplete, STATUS_SUCCESS));
    PIRP Irp = PlayStage(STACK_DEPTH);
    KT_EQUAL(Stage.Log[0].DeviceObject, Stage.Devices[1]);
    KT_EQUAL(Stage.Log[1].DeviceObject, Stage.Devices[2]);
    KT_EQUAL(Stage.Log[2].DeviceObject, NULL);
    IoFreeIrp(Irp);
    ClearStage();
}

static VOID ErrorsChooseRoutines(VOID)
{
    CheckOrder(ActWatchErrors, ActWatch, ActComplete, STATUS_SUCCESS,
               (const LONG[]){1, STACK_DEPTH});
    CheckOrder(ActWatchErrors, ActWatch, ActComplete, STATUS_IO_DEVICE_ERROR,
               (const LONG[]){1, 2, STACK_DEPTH});
}

static VOID SkippedLocationIsShared(VOID)
{
    KT_REQUIRE(SetStage(ActWatch, ActSkip, ActComplete, STATUS_SUCCESS));
    // Three devices, and a location for two of them: one gives its own away.
    PIRP Irp = PlayStage(STACK_DEPTH - 1);
    KT_EQUAL(Stage.LogCount, 2);
    KT_EQUAL(Stage.Log[0].Level, 2);
    IoFreeIrp(Irp);
    ClearStage();
}

static VOID PendingGoesUp(VOID)
{
    KT_REQUIRE(SetStage(ActCopy, ActWatch, ActPend, STATUS_SUCCESS));
    PIRP Irp = PlayStage(STACK_DEPTH);
    KT_EQUAL(Stage.LogCount, 2);
    KT_CHECK(Stage.Log[0].PendingReturned);
    // The top device set no routine: the I/O manager passes the mark on for it.
    KT_CHECK(Stage.Log[1].PendingReturned);
    IoFreeIrp(Irp);
    ClearStage();
}

static VOID CompletionStopsAndGoesOn(VOID)
{
    CheckOrder(ActWatch, ActTakeBack, ActComplete, STATUS_SUCCESS,
               (const LONG[]){1, 2, STACK_DEPTH});
    CheckOrder(ActTakeBack, ActTakeBack, ActPend, STATUS_SUCCESS,
               (const LONG[]){1, 2, STACK_DEPTH});
}

static VOID ForwardingWaits(VOID)
{
    CheckOrder(ActForward, ActForward, ActPend, STATUS_SUCCESS, (const LONG[]){STACK_DEPTH});
    CheckOrder(ActForward, ActWatch, ActComplete, STATUS_IO_DEVICE_ERROR,
               (const LONG[]){1, STACK_DEPTH});
}

static VOID ForwardingNeedsALocation(VOID)
{
    KT_REQUIRE(SetStage(ActCopy, ActCopy, ActComplete, STATUS_SUCCESS));
    PIRP Irp = IoAllocateIrp(1, FALSE);
    KT_REQUIRE(Irp != NULL);
    // As if the only location were in use.
    Irp->CurrentLocation--;
    Irp->Tail.Overlay.CurrentStackLocation--;
    KT_CHECK(!IoForwardIrpSynchronously(Stage.Devices[0], Irp));
    IoFreeIrp(Irp);
    ClearStage();
}

static VOID SynchronousHelpers(VOID)
{
    ULONG_PTR Information;
    ULONG Output;
    KT_REQUIRE(SetStage(ActWatch, ActCopy, ActPend, STATUS_DEVICE_DATA_ERROR));
    PDEVICE_OBJECT Top = Stage.Devices[STACK_DEPTH - 1];
    KT_EQUAL(IoTransferSynchronously(Top, IRP_MJ_READ, NULL, 0, 0, &Information),
             STATUS_DEVICE_DATA_ERROR);
    KT_EQUAL(IoControlSynchronously(Top, CTL_CODE(FILE_DEVICE_DISK, 0, METHOD_NEITHER, 0), NULL, 0,
                                    &Output, sizeof(Output), &Information),
             STATUS_INVALID_PARAMETER);
    // Request, then wait block, then (for a control code) its buffer.
    for (ULONG Skip = 0; Skip < 2; Skip += 1) {
        MmStartFailures(MM_FAIL_POOL, Skip, 1);
        KT_EQUAL(IoTransferSynchronously(Top, IRP_MJ_READ, NULL, 0, 0, &Information),
                 STATUS_INSUFFICIENT_RESOURCES);
        KT_EQUAL(MmStopFailures(), 1);
    }
    for (ULONG Skip = 0; Skip < 3; Skip += 1) {
        MmStartFailures(MM_FAIL_POOL, Skip, 1);
        KT_EQUAL(IoControlSynchronously(Top, CTL_CODE(FILE_DEVICE_DISK, 0, METHOD_BUFFERED, 0),
                                        NULL, 0, &Output, sizeof(Output), &Information),
                 STATUS_INSUFFICIENT_RESOURCES);
        KT_EQUAL(MmStopFailures(), 1);
    }
    ClearStage();
}

// ------------------------------------------------------------------------------------------------
// Objects.

static VOID IrpSizes(VOID)
{
    KT_EQUAL(IoAllocateIrp(0, FALSE), NULL);
    KT_EQUAL(IoAllocateIrp(-1, FALSE), NULL);
    KT_EQUAL(IoAllocateIrp(127, FALSE), NULL);
    PIRP Irp = IoAllocateIrp(126, FALSE);
    KT_REQUIRE(Irp != NULL);
    KT_EQUAL(Irp->CurrentLocation, 127);
    KT_EQUAL(Irp->Size, sizeof(IRP) + 126 * sizeof(IO_STACK_LOCATION));
    KT_EQUAL(Irp->Tail.Overlay.CurrentStackLocation, (PIO_STACK_LOCATION)(Irp + 1) + 126);
    IoFreeIrp(Irp);
}

static VOID DevicesBeginEmpty(VOID)
{
    PDEVICE_OBJECT Device = NULL;
    MmStartFailures(MM_FAIL_POOL, 0, 1);
    KT_EQUAL(IoCreateDevice(&StageDriver.Object, 8, NULL, FILE_DEVICE_DISK, 0, FALSE, &Device),
             STATUS_INSUFFICIENT_RESOURCES);
    MmStopFailures();
    KT_EQUAL(Device, NULL);
    KT_EQUAL(StageDriver.Object.DeviceObject, NULL);
    KT_EQUAL(IoCreateDevice(&StageDriver.Object, 8, NULL, FILE_DEVICE_DISK, 0, TRUE, &Device),
             STATUS_SUCCESS);
    KT_REQUIRE(Device != NULL);
    KT_EQUAL(Device->Flags, DO_DEVICE_INITIALIZING | DO_EXCLUSIVE);
    KT_EQUAL(Device->StackSize, 1);
    KT_EQUAL(*(PULONG64)Device->DeviceExtension, 0);
    KT_EQUAL(StageDriver.Object.DeviceObject, Device);
    IoDeleteDevice(Device);
    KT_EQUAL(StageDriver.Object.DeviceObject, NULL);
}

static VOID AttachingWaitsForTheTop(VOID)
{
    PDEVICE_OBJECT Devices[2];
    for (ULONG Index = 0; Index < ARRAYSIZE(Devices); Index += 1) {
        KT_EQUAL(IoCreateDevice(&StageDriver.Object, 0, NULL, FILE_DEVICE_DISK, 0, FALSE,
                                &Devices[Index]),
                 STATUS_SUCCESS);
    }
    KT_EQUAL(IoAttachDeviceToDeviceStack(Devices[1], Devices[0]), NULL);
    Devices[0]->Flags &= ~(ULONG)DO_DEVICE_INITIALIZING;
    Devices[0]->AlignmentRequirement = FILE_LONG_ALIGNMENT;
    KT_EQUAL(IoAttachDeviceToDeviceStack(Devices[1], Devices[0]), Devices[0]);
    KT_EQUAL(Devices[1]->StackSize, 2);
    KT_EQUAL(Devices[1]->AlignmentRequirement, FILE_LONG_ALIGNMENT);
    IoDetachDevice(Devices[0]);
    IoDeleteDevice(Devices[1]);
    IoDeleteDevice(Devices[0]);
}

// ------------------------------------------------------------------------------------------------
// Resources.

static const struct {
    UCHAR Type;
    ULONGLONG Length;
    NTSTATUS Status;
    UCHAR StoredType;
    USHORT StoredFlag;
    ULONG StoredLength;
} Encodings[] = {
    {CmResourceTypeMemory, 0x1000, STATUS_SUCCESS, CmResourceTypeMemory, 0, 0x1000},
    {CmResourceTypeMemory, 0xFFFFFFFF, STATUS_SUCCESS, CmResourceTypeMemory, 0, 0xFFFFFFFF},
    {CmResourceTypePort, 0x40, STATUS_SUCCESS, CmResourceTypePort, 0, 0x40},
    {CmResourceTypeMemory, 0x100000000, STATUS_SUCCESS, CmResourceTypeMemoryLarge,
     CM_RESOURCE_MEMORY_LARGE_40, 0x1000000},
    {CmResourceTypeMemoryLarge, 0x10000000000, STATUS_SUCCESS, CmResourceTypeMemoryLarge,
     CM_RESOURCE_MEMORY_LARGE_48, 0x1000000},
    {CmResourceTypeMemory, 0x1000000000000, STATUS_SUCCESS, CmResourceTypeMemoryLarge,
     CM_RESOURCE_MEMORY_LARGE_64, 0x10000},
    {CmResourceTypeMemory, 0x100000001, STATUS_UNSUCCESSFUL, 0, 0, 0},
    {CmResourceTypeMemory, 0x10000000100, STATUS_UNSUCCESSFUL, 0, 0, 0},
    {CmResourceTypePort, 0x100000000, STATUS_INVALID_PARAMETER, 0, 0, 0},
    {CmResourceTypeInterrupt, 1, STATUS_INVALID_PARAMETER, 0, 0, 0},
};

static VOID LengthsAreEncoded(VOID)
{
    const ULONGLONG Start = 0x1234000;
    for (ULONG Row = 0; Row < ARRAYSIZE(Encodings); Row += 1) {
        CM_PARTIAL_RESOURCE_DESCRIPTOR Descriptor = {.Flags = CM_RESOURCE_MEMORY_BAR};
        ULONGLONG DecodedStart = 0;
        KtSetContext("row %u", Row);
        KT_EQUAL(RtlCmEncodeMemIoResource(&Descriptor, Encodings[Row].Type, Encodings[Row].Length,
                                          Start),
                 Encodings[Row].Status);
        if (!NT_SUCCESS(Encodings[Row].Status)) {
            continue;
        }
        KT_EQUAL(Descriptor.Type, Encodings[Row].StoredType);
        KT_EQUAL(Descriptor.Flags, CM_RESOURCE_MEMORY_BAR | Encodings[Row].StoredFlag);
        KT_EQUAL(Descriptor.u.Memory.Length, Encodings[Row].StoredLength);
        KT_EQUAL(RtlCmDecodeMemIoResource(&Descriptor, &DecodedStart), Encodings[Row].Length);
        KT_EQUAL(DecodedStart, Start);
    }
}

static VOID OtherDescriptorsHaveNoLength(VOID)
{
    CM_PARTIAL_RESOURCE_DESCRIPTOR Descriptor = {.Type = CmResourceTypeInterrupt,
                                                 .u.Generic.Length = 7};
    KT_EQUAL(RtlCmDecodeMemIoResource(&Descriptor, NULL), 0);
}

// ------------------------------------------------------------------------------------------------
// PCI.

static ULONG SlotOf(const IO_PCI_FUNCTION *Function)
{
    const PCI_SLOT_NUMBER Slot = {
        .u.bits = {.DeviceNumber = Function->Device, .FunctionNumber = Function->Function}};
    return Slot.u.AsULONG;
}

static const IO_PCI_FUNCTION *FirstFunction(VOID)
{
    return IoNextPciFunction(NULL);
}

static VOID ConfigurationSpaceByBytes(VOID)
{
    const IO_PCI_FUNCTION *Function = FirstFunction();
    if (Function == NULL) {
        KT_SKIP("the machine has no PCI");
    }
    UCHAR Whole[PCI_COMMON_HDR_LENGTH];
    KT_EQUAL(HalGetBusDataByOffset(PCIConfiguration, Function->Bus, SlotOf(Function), Whole, 0,
                                   sizeof(Whole)),
             sizeof(Whole));
    for (ULONG Offset = 0; Offset < 12; Offset += 1) {
        for (ULONG Length = 1; Length <= 5; Length += 1) {
            UCHAR Part[8] = {0};
            KtSetContext("offset %u, length %u", Offset, Length);
            KT_EQUAL(HalGetBusDataByOffset(PCIConfiguration, Function->Bus, SlotOf(Function), Part,
                                           Offset, Length),
                     Length);
            KT_CHECK(RtlEqualMemory(Part, Whole + Offset, Length));
            KT_EQUAL(Part[Length], 0);
        }
    }
}

static VOID ConfigurationSpaceRefusals(VOID)
{
    const IO_PCI_FUNCTION *Function = FirstFunction();
    if (Function == NULL) {
        KT_SKIP("the machine has no PCI");
    }
    ULONG Value = 0;
    KT_EQUAL(HalGetBusDataByOffset(Cmos, 0, 0, &Value, 0, sizeof(Value)), 0);
    KT_EQUAL(HalGetBusDataByOffset(PCIConfiguration, 0xFF00, 0, &Value, 0, sizeof(Value)), 0);
    // Device 30 of bus 0 is empty on every machine of the table.
    KT_EQUAL(HalGetBusData(PCIConfiguration, 0, 30, &Value, sizeof(Value)), 2);
    KT_EQUAL(Value, PCI_INVALID_VENDORID);
    KT_EQUAL(HalSetBusData(PCIConfiguration, 0, 30, &Value, sizeof(Value)), 0);
    // The ids cannot be written: what is written is taken, and nothing changes.
    Value = 0;
    KT_EQUAL(
        HalSetBusData(PCIConfiguration, Function->Bus, SlotOf(Function), &Value, sizeof(Value)),
        sizeof(Value));
    KT_EQUAL(
        HalGetBusData(PCIConfiguration, Function->Bus, SlotOf(Function), &Value, sizeof(Value)),
        sizeof(Value));
    KT_CHECK(Value != 0);
    KT_EQUAL(HalGetBusDataByOffset(PCIConfiguration, Function->Bus, SlotOf(Function), &Value, 4096,
                                   sizeof(Value)),
             0);
}

static NTSTATUS QueryBusInterface(const IO_PCI_FUNCTION *Function, USHORT Version,
                                  BUS_INTERFACE_STANDARD *Interface)
{
    PIRP Irp = IoAllocateIrp(1, FALSE);
    if (Irp == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    PIO_STACK_LOCATION Stack = IoGetNextIrpStackLocation(Irp);
    Stack->MajorFunction = IRP_MJ_PNP;
    Stack->MinorFunction = IRP_MN_QUERY_INTERFACE;
    Stack->Parameters.QueryInterface.InterfaceType = &GUID_BUS_INTERFACE_STANDARD;
    Stack->Parameters.QueryInterface.Size = sizeof(*Interface);
    Stack->Parameters.QueryInterface.Version = Version;
    Stack->Parameters.QueryInterface.Interface = (PINTERFACE)Interface;
    Irp->IoStatus.Status = STATUS_NOT_SUPPORTED;
    IoSetCompletionRoutine(Irp, LogAndKeep, NULL, TRUE, TRUE, TRUE);
    const NTSTATUS Status = IoCallDriver(Function->Pdo, Irp);
    IoFreeIrp(Irp);
    return Status;
}

static VOID BusInterface(VOID)
{
    const IO_PCI_FUNCTION *Function = FirstFunction();
    if (Function == NULL) {
        KT_SKIP("the machine has no PCI");
    }
    BUS_INTERFACE_STANDARD Interface = {0};
    KT_EQUAL(QueryBusInterface(Function, PCI_BUS_INTERFACE_STANDARD_VERSION + 1, &Interface),
             STATUS_NOT_SUPPORTED);
    KT_EQUAL(QueryBusInterface(Function, PCI_BUS_INTERFACE_STANDARD_VERSION, &Interface),
             STATUS_SUCCESS);
    KT_REQUIRE(Interface.GetBusData != NULL);
    USHORT VendorId = 0;
    KT_EQUAL(Interface.GetBusData(Interface.Context, PCI_WHICHSPACE_CONFIG, &VendorId, 0, 2), 2);
    KT_EQUAL(VendorId, Function->VendorId);
    KT_EQUAL(Interface.GetBusData(Interface.Context, PCI_WHICHSPACE_ROM, &VendorId, 0, 2), 0);
    Interface.InterfaceDereference(Interface.Context);
}

static VOID UnknownRequestsAreRefused(VOID)
{
    ULONG_PTR Information;
    const IO_PCI_FUNCTION *Function = FirstFunction();
    if (Function == NULL) {
        KT_SKIP("the machine has no PCI");
    }
    KT_EQUAL(IoTransferSynchronously(Function->Pdo, IRP_MJ_WRITE, NULL, 0, 0, &Information),
             STATUS_INVALID_DEVICE_REQUEST);
}

static BOOLEAN HasPlace(const IO_PCI_BAR *Bar)
{
    return !Bar->IsPort && (Bar->State == IoBarAssigned || Bar->State == IoBarPlaced);
}

// The register itself says where the function appears, whoever put it there.
static ULONG64 ReadBar(const IO_PCI_FUNCTION *Function, ULONG Index)
{
    ULONG Registers[2] = {0, 0};
    HalGetBusDataByOffset(PCIConfiguration, ((ULONG)Function->Segment << 8) | Function->Bus,
                          SlotOf(Function), Registers,
                          (ULONG)FIELD_OFFSET(PCI_COMMON_HEADER, u.type0.BaseAddresses) +
                              Index * sizeof(ULONG),
                          Function->Bars[Index].Is64Bit ? 8 : 4);
    return ((ULONG64)Registers[1] << 32) | (Registers[0] & PCI_ADDRESS_MEMORY_ADDRESS_MASK);
}

static VOID BarsAreOwned(VOID)
{
    ULONG Count = 0;
    for (const IO_PCI_FUNCTION *Function = FirstFunction(); Function != NULL;
         Function = IoNextPciFunction(Function)) {
        for (ULONG Index = 0; Index < ARRAYSIZE(Function->Bars); Index += 1) {
            const IO_PCI_BAR *Bar = &Function->Bars[Index];
            CHAR Name[IO_PCI_NAME_BYTES];
            CHAR Refusal[160];
            PMM_CLAIM Claim;
            if (!HasPlace(Bar)) {
                continue;
            }
            IoFormatPciName(Function, Name, sizeof(Name));
            KtSetContext("%s BAR%u", Name, Index);
            KT_EQUAL(ReadBar(Function, Index), Bar->Base);
            KT_EQUAL(Bar->Base % Bar->ByteCount, 0);
            KT_EQUAL(MmClaimPhysicalRange(KtPhysical(Bar->Base), Bar->ByteCount, MmClaimFirmware,
                                          "test", &Claim),
                     STATUS_CONFLICTING_ADDRESSES);
            MmDescribeLastRefusal(Refusal, sizeof(Refusal));
            KT_CHECK(RtlFindSubstring(Refusal, "PCI ") != NULL);
            if (KtHasOption("placebars")) {
                KT_EQUAL(Bar->State, IoBarPlaced);
            }
            Count++;
        }
    }
    if (Count == 0) {
        KT_SKIP("the machine has no memory registers");
    }
}

static const KT_TEST Tests[] = {
    {"completion routines run from the lowest device up, each once [3.4.2]", CompletionGoesUp},
    {"a completion routine sees the device that set it, the sender none [3.4.2]",
     RoutinesSeeTheirDevice},
    {"a completion routine runs for the results that it asked for [3.4.2]", ErrorsChooseRoutines},
    {"a skipped stack location is shared with the device below [3.4.3]", SkippedLocationIsShared},
    {"the pending mark reaches the sender [3.4.3]", PendingGoesUp},
    {"STATUS_MORE_PROCESSING_REQUIRED stops a completion, which can go on later [3.4.3]",
     CompletionStopsAndGoesOn},
    {"IoForwardIrpSynchronously gives the IRP back to its caller [3.4.3]", ForwardingWaits},
    {"IoForwardIrpSynchronously refuses an IRP without a location left [3.4.4]",
     ForwardingNeedsALocation},
    {"a request and its wait leak nothing, whichever allocation fails", SynchronousHelpers},
    {"IoAllocateIrp takes 1 to 126 stack locations [3.4.4]", IrpSizes},
    {"IoCreateDevice gives an empty device or nothing [3.4.4]", DevicesBeginEmpty},
    {"IoAttachDeviceToDeviceStack waits until the top is initialised [3.4.4]",
     AttachingWaitsForTheTop},
    {"RtlCmEncodeMemIoResource and RtlCmDecodeMemIoResource agree [11.1.3, 11.3.1, 18.26]",
     LengthsAreEncoded},
    {"descriptors without memory or ports have no length [11.1.3, 18.26]",
     OtherDescriptorsHaveNoLength},
    {"HalGetBusDataByOffset reads exactly the bytes that were asked for [11.2.1]",
     ConfigurationSpaceByBytes},
    {"HalGetBusDataByOffset tells what is not there [11.2.1]", ConfigurationSpaceRefusals},
    {"BUS_INTERFACE_STANDARD reads configuration space [11.2.1]", BusInterface},
    {"a request that a driver does not know is refused [3.4.4]", UnknownRequestsAreRefused},
    {"every base address register is where Io says, and owned [11.1.1]", BarsAreOwned},
};
const KT_SUITE KtIoSuite = {"io", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
