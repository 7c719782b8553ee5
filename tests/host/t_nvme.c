// The NVMe driver against a controller that exists only here. The driver's own files are compiled into this
// one, with the kernel below them replaced (nvmekernel.inc), and the hardware (nvmecontroller.inc).
//
// Tests are of bring-up and its refusals, of data, of errors, and of recovery: what a controller does
// wrong, and what becomes of the requests. Every test that ends checks that nothing is held.
#define INITGUID
#include "tests/host/host.h"

#include <ntddstor.h>

static LARGE_INTEGER NTAPI FakeCounter(PLARGE_INTEGER Frequency);
static NTSTATUS NTAPI FakeDelay(KPROCESSOR_MODE Mode, BOOLEAN Alertable, PLARGE_INTEGER Interval);
static NTSTATUS NTAPI FakeWait(PVOID Object, KWAIT_REASON Reason, KPROCESSOR_MODE Mode,
                               BOOLEAN Alertable, PLARGE_INTEGER Timeout);
static VOID NTAPI FakeInitializeEvent(PRKEVENT Event, EVENT_TYPE Type, BOOLEAN State);
static LONG NTAPI FakeSetEvent(PRKEVENT Event, KPRIORITY Increment, BOOLEAN Wait);
static VOID NTAPI FakeInitializeMutex(PRKMUTEX Mutex, ULONG Level);
static LONG NTAPI FakeReleaseMutex(PRKMUTEX Mutex, BOOLEAN Wait);
static BOOLEAN NTAPI FakeSetTimer(PKTIMER Timer, LARGE_INTEGER DueTime, PKDPC Dpc);
static BOOLEAN NTAPI FakeCancelTimer(PKTIMER Timer);
static BOOLEAN NTAPI FakeInsertDpc(PRKDPC Dpc, PVOID Argument1, PVOID Argument2);
static VOID NTAPI FakeFlushDpcs(VOID);
static NTSTATUS NTAPI FakeConnect(PIO_CONNECT_INTERRUPT_PARAMETERS Parameters);
static VOID NTAPI FakeDisconnect(PIO_DISCONNECT_INTERRUPT_PARAMETERS Parameters);
static NTSTATUS NTAPI FakeCreateThread(PHANDLE Handle, ULONG Access, POBJECT_ATTRIBUTES Attributes,
                                       HANDLE Process, PCLIENT_ID ClientId, PKSTART_ROUTINE Routine,
                                       PVOID Context);
static NTSTATUS NTAPI FakeEndThread(NTSTATUS Status);
static NTSTATUS NTAPI FakeReference(HANDLE Handle, ACCESS_MASK Access, POBJECT_TYPE Type,
                                    KPROCESSOR_MODE Mode, PVOID *Object,
                                    POBJECT_HANDLE_INFORMATION Information);
static KIRQL NTAPI FakeRaise(KIRQL NewIrql);
static VOID NTAPI FakeLower(KIRQL NewIrql);
static KIRQL NTAPI FakeAcquire(PKSPIN_LOCK Lock);
static VOID NTAPI FakeRelease(PKSPIN_LOCK Lock, KIRQL NewIrql);
static VOID NTAPI FakeAcquireAtDpc(PKSPIN_LOCK Lock);
static VOID NTAPI FakeReleaseFromDpc(PKSPIN_LOCK Lock);
static VOID NTAPI FakeReleaseCancel(KIRQL NewIrql);
static PVOID NTAPI FakeAllocatePool(POOL_FLAGS Flags, SIZE_T ByteCount, ULONG Tag);
static VOID NTAPI FakeFreePool(PVOID Block, ULONG Tag);
static PDMA_ADAPTER NTAPI FakeGetAdapter(PDEVICE_OBJECT Pdo, PDEVICE_DESCRIPTION Description,
                                         PULONG RegisterCount);
static PVOID NTAPI FakeMapRegisters(PHYSICAL_ADDRESS Pa, SIZE_T ByteCount, ULONG Protect);
static VOID NTAPI FakeUnmapRegisters(PVOID Va, SIZE_T ByteCount);
static ULONG NTAPI FakeReadUlong(const volatile ULONG *Register);
static ULONG64 NTAPI FakeReadUlong64(const volatile ULONG64 *Register);
static VOID NTAPI FakeWriteUlong(volatile ULONG *Register, ULONG Value);
static VOID NTAPI FakeWriteUlong64(volatile ULONG64 *Register, ULONG64 Value);
static NTSTATUS NTAPI FakeCreateDevice(PDRIVER_OBJECT Driver, ULONG ByteCount, PUNICODE_STRING Name,
                                       DEVICE_TYPE Type, ULONG Characteristics, BOOLEAN Exclusive,
                                       PDEVICE_OBJECT *Device);
static VOID NTAPI FakeDeleteDevice(PDEVICE_OBJECT Device);
static PDEVICE_OBJECT NTAPI FakeAttach(PDEVICE_OBJECT Source, PDEVICE_OBJECT Target);
static VOID NTAPI FakeDetach(PDEVICE_OBJECT Target);
static NTSTATUS NTAPI FakeCall(PDEVICE_OBJECT Device, PIRP Irp);
static VOID NTAPI FakeComplete(PIRP Irp, CCHAR Boost);
static BOOLEAN NTAPI FakeForward(PDEVICE_OBJECT Device, PIRP Irp);
static PIRP NTAPI FakeBuildRequest(ULONG MajorFunction, PDEVICE_OBJECT Device, PVOID Buffer,
                                   ULONG Length, PLARGE_INTEGER Offset, PKEVENT Event,
                                   PIO_STATUS_BLOCK StatusBlock);
static VOID NTAPI FakeInvalidateState(PDEVICE_OBJECT Pdo);
static VOID NTAPI FakeInvalidateRelations(PDEVICE_OBJECT Pdo, DEVICE_RELATION_TYPE Type);
static PIO_WORKITEM NTAPI FakeAllocateWork(PDEVICE_OBJECT Owner);
static VOID NTAPI FakeFreeWork(PIO_WORKITEM Item);
static VOID NTAPI FakeQueueWork(PIO_WORKITEM Item, PIO_WORKITEM_ROUTINE Routine,
                                WORK_QUEUE_TYPE Type, PVOID Context);
static ULONGLONG NTAPI FakeDecode(PCM_PARTIAL_RESOURCE_DESCRIPTOR Descriptor, PULONGLONG Start);
static VOID NTAPI FakeInitializeRemove(PIO_REMOVE_LOCK Lock, ULONG Tag, ULONG Minutes, ULONG Mark,
                                       ULONG ByteCount);
static NTSTATUS NTAPI FakeAcquireRemove(PIO_REMOVE_LOCK Lock, PVOID Tag, PCSTR File, ULONG Line,
                                        ULONG ByteCount);
static VOID NTAPI FakeReleaseRemove(PIO_REMOVE_LOCK Lock, PVOID Tag, ULONG ByteCount);
static VOID NTAPI FakeReleaseRemoveAndWait(PIO_REMOVE_LOCK Lock, PVOID Tag, ULONG ByteCount);

#define KeQueryPerformanceCounter FakeCounter
#define KeDelayExecutionThread FakeDelay
#define KeWaitForSingleObject FakeWait
#define KeInitializeEvent FakeInitializeEvent
#define KeSetEvent FakeSetEvent
#define KeReadStateEvent(Event) ((Event)->Header.SignalState)
#define KeClearEvent(Event) ((VOID)((Event)->Header.SignalState = 0))
#define KeInitializeMutex FakeInitializeMutex
#define KeReleaseMutex FakeReleaseMutex
#define KeInitializeTimer(Timer) ((VOID)(Timer))
#define KeSetTimer FakeSetTimer
#define KeCancelTimer FakeCancelTimer
#define KeInitializeDpc(Dpc, Routine, Context)                                                     \
    ((VOID)(memset(Dpc, 0, sizeof(*(Dpc))), (Dpc)->DeferredRoutine = (Routine),                    \
            (Dpc)->DeferredContext = (Context)))
#define KeSetTargetProcessorDpc(Dpc, Number) ((VOID)(Dpc))
#define KeInsertQueueDpc FakeInsertDpc
#define KeFlushQueuedDpcs FakeFlushDpcs
#define KfRaiseIrql FakeRaise
#define KeLowerIrql FakeLower
#define KeQueryActiveProcessorCountEx(Group) (Group == ALL_PROCESSOR_GROUPS ? 2u : 0u)
#define KeGetCurrentProcessorNumber() CurrentProcessor
#define IoConnectInterruptEx FakeConnect
#define IoDisconnectInterruptEx FakeDisconnect
#define PsCreateSystemThread FakeCreateThread
#define PsTerminateSystemThread FakeEndThread
#define ObReferenceObjectByHandle FakeReference
#define ObfReferenceObject(Object) ((VOID)(Object))
#define ObfDereferenceObject(Object) ((VOID)(LiveThings -= (Object) == (PVOID)&Thread))
#define ZwClose(Handle) STATUS_SUCCESS
#define KeInitializeSpinLock(Lock) ((VOID)(*(Lock) = 0))
#define KeAcquireSpinLockRaiseToDpc FakeAcquire
#define KeReleaseSpinLock FakeRelease
#define KeAcquireSpinLockAtDpcLevel FakeAcquireAtDpc
#define KeReleaseSpinLockFromDpcLevel FakeReleaseFromDpc
#define IoReleaseCancelSpinLock FakeReleaseCancel
#define ExAllocatePool2 FakeAllocatePool
#define ExFreePoolWithTag FakeFreePool
#define ExFreePool(Block) FakeFreePool(Block, 0)
#define IoGetDmaAdapter FakeGetAdapter
#define MmMapIoSpaceEx FakeMapRegisters
#define MmUnmapIoSpace FakeUnmapRegisters
#define READ_REGISTER_ULONG FakeReadUlong
#define READ_REGISTER_ULONG64 FakeReadUlong64
#define WRITE_REGISTER_ULONG FakeWriteUlong
#define WRITE_REGISTER_ULONG64 FakeWriteUlong64
#define IoCreateDevice FakeCreateDevice
#define IoDeleteDevice FakeDeleteDevice
#define IoAttachDeviceToDeviceStack FakeAttach
#define IoDetachDevice FakeDetach
#define IofCallDriver FakeCall
#define IofCompleteRequest FakeComplete
#define IoForwardIrpSynchronously FakeForward
#define IoBuildSynchronousFsdRequest FakeBuildRequest
#define IoInvalidateDeviceState FakeInvalidateState
#define IoInvalidateDeviceRelations FakeInvalidateRelations
#define IoInitializeRemoveLockEx FakeInitializeRemove
#define IoAcquireRemoveLockEx FakeAcquireRemove
#define IoReleaseRemoveLockEx FakeReleaseRemove
#define IoReleaseRemoveLockAndWaitEx FakeReleaseRemoveAndWait
#define IoAllocateWorkItem FakeAllocateWork
#define IoFreeWorkItem FakeFreeWork
#define IoQueueWorkItem FakeQueueWork
#define RtlCmDecodeMemIoResource FakeDecode
#define ExInitializeRundownProtection(Rundown) ((VOID)((Rundown)->Count = 0))
#define ExReInitializeRundownProtection(Rundown) ((VOID)((Rundown)->Count = 0))
#define ExAcquireRundownProtection(Rundown) ((Rundown)->Count += 2, TRUE)
#define ExReleaseRundownProtection(Rundown) ((VOID)((Rundown)->Count -= 2))
#define ExWaitForRundownProtectionRelease(Rundown) ((VOID)((Rundown)->Count = 1))
#define ExRundownCompleted(Rundown) ((VOID)(Rundown))
#define IoRegisterDeviceInterface(Pdo, Class, Reference, Name) ((VOID)(Name), STATUS_NOT_SUPPORTED)
#define IoSetDeviceInterfaceState(Name, IsOn) ((VOID)(Name), STATUS_SUCCESS)
#define RtlQueryRegistryValues(Place, Path, Table, Context, Environment)                           \
    ((VOID)(Table), (VOID)(Path), STATUS_OBJECT_NAME_NOT_FOUND)
#define InterlockedIncrement(Target) __atomic_add_fetch(Target, 1, __ATOMIC_SEQ_CST)
#define InterlockedDecrement(Target) __atomic_sub_fetch(Target, 1, __ATOMIC_SEQ_CST)
#define InterlockedExchange(Target, Value) __atomic_exchange_n(Target, Value, __ATOMIC_SEQ_CST)
#define InterlockedCompareExchange(Target, New, Old) __sync_val_compare_and_swap(Target, Old, New)
#define DriverEntry NvmeDriverEntry

// What the headers of mingw-w64 have beside.
#ifndef STATUS_DATA_ERROR
#define STATUS_DATA_ERROR ((NTSTATUS)0xC000003E)
#endif
#ifndef STATUS_DISK_FULL
#define STATUS_DISK_FULL ((NTSTATUS)0xC000007F)
#endif
#ifndef STATUS_REQUEST_ABORTED
#define STATUS_REQUEST_ABORTED ((NTSTATUS)0xC0000240)
#endif

static ULONG CurrentProcessor;
static ULONG
    LiveThings; // what the driver holds: devices, mappings, adapters, buffers, pool, threads
static struct {
    PKSTART_ROUTINE Routine; // NULL: there is no thread
    PVOID Context;
    BOOLEAN HasWork; // it was left at a wait, and something was signalled since
    jmp_buf Left;
} Thread; // the driver's

#include "drivers/nvme/admin.c"
#include "drivers/nvme/cmb.c"
#include "drivers/nvme/controller.c"
#include "drivers/nvme/event.c"
#include "drivers/nvme/interface.c"
#include "drivers/nvme/interrupt.c"
#include "drivers/nvme/ioctl.c"
#include "drivers/nvme/memory.c"
#include "drivers/nvme/namespace.c"
#include "drivers/nvme/nvme.c"
#include "drivers/nvme/pmr.c"
#include "drivers/nvme/protocol.c"
#include "drivers/nvme/queue.c"
#include "drivers/nvme/recover.c"
#include "drivers/nvme/request.c"
#include "drivers/nvme/transfer.c"

#include "tests/host/nvmekernel.inc"

#include "tests/host/nvmecontroller.inc"

// ------------------------------------------------------------------------------------------------
// Devices and IRPs.

static DRIVER_EXTENSION Extension;
static DRIVER_OBJECT Driver = {.DriverExtension = &Extension};
static DEVICE_OBJECT Bus = {.StackSize = 1};
static PDEVICE_OBJECT Top;         // the controller's
static PDEVICE_OBJECT Children[4]; // as reported last; NULL: no more
static NTSTATUS BusStatus;
static ULONG StateChanges; // reported

#define REQUEST_MAGIC 0x51455249u

// Every IRP is the beginning of one.
typedef struct _REQUEST {
    IRP Irp;
    IO_STACK_LOCATION Locations[2];
    ULONG Magic;
    ULONG DoneCount;
    PIO_STATUS_BLOCK StatusBlock; // of one that the driver has built
} REQUEST, *PREQUEST;

static PREQUEST RequestOf(PIRP Irp)
{
    const PREQUEST Request = CONTAINING_RECORD(Irp, REQUEST, Irp);
    CHECK_EQUAL(Request->Magic, REQUEST_MAGIC);
    return Request;
}

static VOID Prepare(PREQUEST Request)
{
    memset(Request, 0, sizeof(*Request));
    Request->Magic = REQUEST_MAGIC;
    Request->Irp.StackCount = 2;
    Request->Irp.CurrentLocation = 3;
    Request->Irp.Tail.Overlay.CurrentStackLocation = &Request->Locations[2];
    Request->Irp.IoStatus.Status = STATUS_NOT_SUPPORTED;
}

static NTSTATUS NTAPI FakeCreateDevice(PDRIVER_OBJECT Owner, ULONG ByteCount, PUNICODE_STRING Name,
                                       DEVICE_TYPE Type, ULONG Characteristics, BOOLEAN Exclusive,
                                       PDEVICE_OBJECT *NewDevice)
{
    CHECK(Owner == &Driver && Name == NULL && !Exclusive);
    CHECK(Type == FILE_DEVICE_CONTROLLER || Type == FILE_DEVICE_DISK);
    CHECK((Characteristics & FILE_DEVICE_SECURE_OPEN) != 0);
    if (AllocationFails()) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    LiveThings += 1;
    const PDEVICE_OBJECT New =
        aligned_alloc(64, ROUND_TO_PAGES(sizeof(DEVICE_OBJECT) + 64 + ByteCount));
    memset(New, 0, sizeof(DEVICE_OBJECT) + 64 + ByteCount);
    New->Flags = DO_DEVICE_INITIALIZING;
    New->DriverObject = Owner;
    New->DeviceType = Type;
    New->StackSize = 1;
    New->DeviceExtension = (PVOID)(((ULONG_PTR)(New + 1) + 63) & ~63ull);
    *NewDevice = New;
    return STATUS_SUCCESS;
}

static VOID NTAPI FakeDeleteDevice(PDEVICE_OBJECT Old)
{
    LiveThings -= 1;
    free(Old);
}

static PDEVICE_OBJECT NTAPI FakeAttach(PDEVICE_OBJECT Source, PDEVICE_OBJECT Target)
{
    CHECK(Target == &Bus);
    if (AllocationFails()) {
        return NULL;
    }
    Top = Source;
    Source->StackSize = 2;
    return &Bus;
}

static VOID NTAPI FakeDetach(PDEVICE_OBJECT Target)
{
    CHECK(Target == &Bus);
    Top = NULL;
}

static NTSTATUS CallBus(PIRP Irp)
{
    const PREQUEST Request = RequestOf(Irp);
    const IO_STACK_LOCATION *Stack = IoGetCurrentIrpStackLocation(Irp);
    NTSTATUS Status = Irp->IoStatus.Status;
    if (Stack->MinorFunction == IRP_MN_QUERY_INTERFACE) {
        Status = GiveInterface(Stack);
    }
    if (Request->StatusBlock != NULL) {
        Request->StatusBlock->Status = Status;
        free(Request);
        return Status;
    }
    Irp->IoStatus.Status = Status;
    Request->DoneCount += 1;
    return Status;
}

static NTSTATUS NTAPI FakeCall(PDEVICE_OBJECT Target, PIRP Irp)
{
    Irp->CurrentLocation -= 1;
    Irp->Tail.Overlay.CurrentStackLocation -= 1;
    Irp->Tail.Overlay.CurrentStackLocation->DeviceObject = Target;
    if (Target == &Bus) {
        return CallBus(Irp);
    }
    return Driver.MajorFunction[IoGetCurrentIrpStackLocation(Irp)->MajorFunction](Target, Irp);
}

static VOID NTAPI FakeComplete(PIRP Irp, CCHAR Boost)
{
    CHECK(Irp->IoStatus.Status != STATUS_PENDING && Boost >= 0);
    CHECK(FakeIrql <= DISPATCH_LEVEL);
    RequestOf(Irp)->DoneCount += 1;
    CHECK_EQUAL(RequestOf(Irp)->DoneCount, 1);
}

static BOOLEAN NTAPI FakeForward(PDEVICE_OBJECT Target, PIRP Irp)
{
    CHECK(Target == &Bus);
    Irp->IoStatus.Status = BusStatus;
    return TRUE;
}

static PIRP NTAPI FakeBuildRequest(ULONG MajorFunction, PDEVICE_OBJECT Target, PVOID Buffer,
                                   ULONG Length, PLARGE_INTEGER Offset, PKEVENT Event,
                                   PIO_STATUS_BLOCK StatusBlock)
{
    CHECK(Target == &Bus && Buffer == NULL && Length == 0 && Offset == NULL && Event != NULL);
    if (AllocationFails()) {
        return NULL;
    }
    const PREQUEST Request = malloc(sizeof(*Request));
    Prepare(Request);
    Request->StatusBlock = StatusBlock;
    Request->Locations[1].MajorFunction = (UCHAR)MajorFunction;
    return &Request->Irp;
}

static VOID NTAPI FakeInvalidateState(PDEVICE_OBJECT Pdo)
{
    CHECK(Pdo == &Bus);
    StateChanges += 1;
}

static VOID NTAPI FakeInvalidateRelations(PDEVICE_OBJECT Pdo, DEVICE_RELATION_TYPE Type)
{
    CHECK(Pdo == &Bus && Type == BusRelations);
}

// Sends it and returns at once.
static NTSTATUS Begin(PREQUEST Request, PDEVICE_OBJECT Target, UCHAR Major, UCHAR Minor,
                      const IO_STACK_LOCATION *Location, PMDL Mdl, PVOID Buffer)
{
    Prepare(Request);
    Request->Locations[1] = *Location;
    Request->Locations[1].MajorFunction = Major;
    Request->Locations[1].MinorFunction = Minor;
    Request->Irp.MdlAddress = Mdl;
    Request->Irp.AssociatedIrp.SystemBuffer = Buffer;
    const NTSTATUS Status = FakeCall(Target, &Request->Irp);
    CHECK(Status == STATUS_PENDING || Request->DoneCount == 1);
    CHECK((Request->Locations[1].Control & SL_PENDING_RETURNED) != 0 || Status != STATUS_PENDING);
    return Status;
}

// Lets time pass until it has ended. STATUS_PENDING: it does not, within Milliseconds.
static NTSTATUS End(PREQUEST Request, ULONG Milliseconds)
{
    for (const LONG64 Last = Now + Milliseconds * 1000ll; Request->DoneCount == 0 && Now < Last;) {
        Pass(WAIT_STEP);
        RunThread();
    }
    return Request->DoneCount == 0 ? STATUS_PENDING : Request->Irp.IoStatus.Status;
}

#define PATIENCE 120000 // milliseconds

static NTSTATUS Send(PDEVICE_OBJECT Target, UCHAR Major, UCHAR Minor,
                     const IO_STACK_LOCATION *Location, PMDL Mdl, PVOID Buffer,
                     ULONG_PTR *Information)
{
    REQUEST Request;
    (VOID) Begin(&Request, Target, Major, Minor, Location, Mdl, Buffer);
    const NTSTATUS Status = End(&Request, PATIENCE);
    CHECK(Status != STATUS_PENDING);
    if (Information != NULL) {
        *Information = Request.Irp.IoStatus.Information;
    }
    return Status;
}

static NTSTATUS SendPnpTo(PDEVICE_OBJECT Target, UCHAR Minor, ULONG_PTR *Information)
{
    CM_RESOURCE_LIST Resources = {.Count = 1};
    CM_PARTIAL_RESOURCE_DESCRIPTOR *Memory =
        &Resources.List[0].PartialResourceList.PartialDescriptors[0];
    Resources.List[0].PartialResourceList.Count = 1;
    Memory->Type = CmResourceTypeMemory;
    Memory->u.Memory.Start.QuadPart = BAR_ADDRESS;
    Memory->u.Memory.Length = BAR_BYTES;
    IO_STACK_LOCATION Location = {0};
    if (Minor == IRP_MN_START_DEVICE) {
        Location.Parameters.StartDevice.AllocatedResourcesTranslated = &Resources;
    } else if (Minor == IRP_MN_QUERY_DEVICE_RELATIONS) {
        Location.Parameters.QueryDeviceRelations.Type = BusRelations;
    }
    return Send(Target, IRP_MJ_PNP, Minor, &Location, NULL, NULL, Information);
}

static NTSTATUS SendPnp(UCHAR Minor)
{
    return SendPnpTo(Top, Minor, NULL);
}

// As the PnP manager does after a start.
static VOID StartChildren(VOID)
{
    ULONG_PTR Information = 0;
    memset(Children, 0, sizeof(Children));
    CHECK_EQUAL(SendPnpTo(Top, IRP_MN_QUERY_DEVICE_RELATIONS, &Information), STATUS_SUCCESS);
    const PDEVICE_RELATIONS Relations = (PDEVICE_RELATIONS)Information;
    CHECK(Relations->Count < ARRAYSIZE(Children));
    for (ULONG Index = 0; Index < Relations->Count; Index += 1) {
        Children[Index] = Relations->Objects[Index];
        CHECK_EQUAL(SendPnpTo(Children[Index], IRP_MN_START_DEVICE, NULL), STATUS_SUCCESS);
    }
    FakeFreePool(Relations, 0);
}

static IO_STACK_LOCATION ReadOrWrite(LONG64 Offset, ULONG ByteCount)
{
    IO_STACK_LOCATION Location = {0};
    Location.Parameters.Read.Length = ByteCount;
    Location.Parameters.Read.ByteOffset.QuadPart = Offset;
    return Location;
}

static NTSTATUS SendTransfer(UCHAR Major, PMDL Mdl, LONG64 Offset, ULONG ByteCount)
{
    const IO_STACK_LOCATION Location = ReadOrWrite(Offset, ByteCount);
    ULONG_PTR Information;
    const NTSTATUS Status = Send(Children[0], Major, 0, &Location, Mdl, NULL, &Information);
    CHECK_EQUAL(Information, NT_SUCCESS(Status) ? ByteCount : 0);
    return Status;
}

// A page at the offset, now; NULL: the page that SendPage has.
static NTSTATUS ReadPage(LONG64 Offset)
{
    const PMDL Mdl = AllocateBuffer(0, PAGE_SIZE, 0);
    const NTSTATUS Status = SendTransfer(IRP_MJ_READ, Mdl, Offset, PAGE_SIZE);
    if (NT_SUCCESS(Status)) {
        CHECK(memcmp(BufferFrame(Mdl, 0), Disk + Offset, PAGE_SIZE) == 0);
    }
    FreeBuffer(Mdl);
    return Status;
}

static NTSTATUS SendIoctl(PDEVICE_OBJECT Target, ULONG Code, PVOID Buffer, ULONG InputBytes,
                          ULONG OutputBytes, ULONG_PTR *Information)
{
    IO_STACK_LOCATION Location = {0};
    Location.Parameters.DeviceIoControl.IoControlCode = Code;
    Location.Parameters.DeviceIoControl.InputBufferLength = InputBytes;
    Location.Parameters.DeviceIoControl.OutputBufferLength = OutputBytes;
    return Send(Target, IRP_MJ_DEVICE_CONTROL, 0, &Location, NULL, Buffer, Information);
}

static VOID AddDevice(VOID)
{
    UNICODE_STRING Path = RTL_CONSTANT_STRING(u"\\Registry\\Machine\\nvme");
    CHECK_EQUAL(NvmeDriverEntry(&Driver, &Path), STATUS_SUCCESS);
    CHECK_EQUAL(Extension.AddDevice(&Driver, &Bus), STATUS_SUCCESS);
}

static NTSTATUS AddAndStart(VOID)
{
    AddDevice();
    const NTSTATUS Status = SendPnp(IRP_MN_START_DEVICE);
    if (NT_SUCCESS(Status)) {
        StartChildren();
    }
    return Status;
}

// ... and expects success.
static VOID Start(VOID)
{
    CHECK_EQUAL(AddAndStart(), STATUS_SUCCESS);
}

static PNVME_CONTROLLER Driven(VOID)
{
    return Top->DeviceExtension;
}

static VOID RemoveChildren(VOID)
{
    for (ULONG Index = 0; Index < ARRAYSIZE(Children) && Children[Index] != NULL; Index += 1) {
        CHECK_EQUAL(SendPnpTo(Children[Index], IRP_MN_REMOVE_DEVICE, NULL), STATUS_SUCCESS);
    }
    memset(Children, 0, sizeof(Children));
}

static VOID Remove(VOID)
{
    RemoveChildren();
    CHECK_EQUAL(SendPnp(IRP_MN_REMOVE_DEVICE), STATUS_SUCCESS);
}

static VOID RemoveAndCheckNothingIsHeld(VOID)
{
    Remove();
    CHECK_EQUAL(LiveThings, 0);
    CHECK_EQUAL(ListCount, 0);
    CHECK_EQUAL(RegistersUsed, 0);
    CHECK(Alarm.Timer == NULL && Thread.Routine == NULL && DpcCount == 0);
}

// ------------------------------------------------------------------------------------------------
// Bring-up and its refusals.

static VOID A_disk_is_brought_up_and_down_in_the_order_of_the_specification(VOID)
{
    Reset();
    Start();
    CHECK_TEXT(Device.Story, "ECSCS");
    CHECK_EQUAL(Driven()->State, NvmeReady);
    CHECK_EQUAL(Children[0]->SectorSize, 512);
    CHECK_EQUAL(Children[0]->Flags, DO_DIRECT_IO);
    RemoveAndCheckNothingIsHeld();
    CHECK_TEXT(Device.Story, "ECSCSscscHe");
    CHECK_EQUAL(Device.Cc & (NVME_CC_ENABLE | NVME_CC_SHUTDOWN_MASK), 0);
}

static VOID A_controller_that_firmware_left_enabled_is_reset_first(VOID)
{
    Reset();
    Device.Cc = NVME_CC_ENABLE;
    Device.Csts = NVME_CSTS_READY;
    Start();
    CHECK_TEXT(Device.Story, "eECSCS");
    RemoveAndCheckNothingIsHeld();
}

static const struct {
    ULONG64 CapSet;
    ULONG64 CapClear;
    ULONG Version;
    FAULT Fault;
    NTSTATUS Expected;
    ULONG LeastMilliseconds; // the wait must not be given up before
    ULONG MostMilliseconds;
} BadControllers[] = {
    {0, 0, 0x10000, FaultNone, STATUS_NOT_SUPPORTED, 0, 0},
    {0, 0, 0, FaultNone, STATUS_DEVICE_NOT_CONNECTED, 0, 0},
    {0, 0, MAXULONG, FaultNone, STATUS_DEVICE_NOT_CONNECTED, 0, 0},
    {0, 1ull << 37, 0x10400, FaultNone, STATUS_NOT_SUPPORTED, 0, 0},  // no NVM commands
    {0, 0xFFFF, 0x10400, FaultNone, STATUS_NOT_SUPPORTED, 0, 0},      // one entry per queue
    {1ull << 48, 0, 0x10400, FaultNone, STATUS_NOT_SUPPORTED, 0, 0},  // pages of 8 KiB
    {15ull << 32, 0, 0x10400, FaultNone, STATUS_NOT_SUPPORTED, 0, 0}, // doorbells far away
    {0, 0, 0x10400, FaultNeverReady, STATUS_IO_TIMEOUT, 500, 503},
    {7ull << 24, 0, 0x10400, FaultNeverReady, STATUS_IO_TIMEOUT, 3500, 3503},
    {0, 0xFFull << 24, 0x10400, FaultNeverReady, STATUS_IO_TIMEOUT, 500, 503}, // CAP.TO of 0
    {0, 0, 0x10400, FaultFatalWhenEnabled, STATUS_DEVICE_HARDWARE_ERROR, 0, 2},
};

static VOID A_controller_that_cannot_be_used_is_refused_in_bounded_time(VOID)
{
    for (ULONG Row = 0; Row < ARRAYSIZE(BadControllers); Row += 1) {
        Reset();
        Setup.Cap = (Setup.Cap & ~BadControllers[Row].CapClear) | BadControllers[Row].CapSet;
        Setup.Version = BadControllers[Row].Version;
        Setup.Fault = BadControllers[Row].Fault;
        const LONG64 Before = Now;
        CHECK_EQUAL(AddAndStart(), BadControllers[Row].Expected);
        CHECK((Now - Before) / 1000 >= BadControllers[Row].LeastMilliseconds);
        CHECK((Now - Before) / 1000 <= BadControllers[Row].MostMilliseconds);
        RemoveAndCheckNothingIsHeld();
    }
}

static const struct {
    OBEDIENCE Obedience;
    BOOLEAN HasBus;
    NTSTATUS Expected;
    const CHAR *Story;
} Stubborn[] = {
    {ObeysEnable, TRUE, STATUS_SUCCESS, "eECSCS"},
    {ObeysFunctionReset, TRUE, STATUS_SUCCESS, "FECSCS"},
    {ObeysBusMaster, TRUE, STATUS_DEVICE_HARDWARE_ERROR, "Fm"},
    {ObeysNothing, TRUE, STATUS_IO_TIMEOUT, "F"},
    {ObeysFunctionReset, FALSE, STATUS_IO_TIMEOUT, ""},
};

// Whatever firmware has left it doing.
static VOID A_controller_that_does_not_stop_is_stopped_by_harder_means_or_refused(VOID)
{
    for (ULONG Row = 0; Row < ARRAYSIZE(Stubborn); Row += 1) {
        Reset();
        Device.Cc = NVME_CC_ENABLE;
        Device.Csts = NVME_CSTS_READY;
        Setup.Obedience = Stubborn[Row].Obedience;
        Setup.HasBus = Stubborn[Row].HasBus;
        CHECK_EQUAL(AddAndStart(), Stubborn[Row].Expected);
        CHECK_TEXT(Device.Story, Stubborn[Row].Story);
        Setup.Obedience = ObeysEnable;
        RemoveAndCheckNothingIsHeld();
    }
}

// Commands that a start takes.
static ULONG CountStartCommands(VOID)
{
    Reset();
    Start();
    const ULONG Count = Device.CommandNumber;
    RemoveAndCheckNothingIsHeld();
    return Count;
}

static VOID Any_silence_during_the_start_ends_it_and_frees_everything(VOID)
{
    static const FAULT Faults[] = {FaultSilent, FaultSilentFatal, FaultRemovedOnes,
                                   FaultRemovedZeros};
    const ULONG StartCommands = CountStartCommands();
    for (ULONG Row = 0; Row < ARRAYSIZE(Faults); Row += 1) {
        for (ULONG At = 1; At <= StartCommands; At += 1) {
            Reset();
            Setup.Fault = Faults[Row];
            Setup.FaultAt = At;
            const LONG64 Before = Now;
            const NTSTATUS Status = AddAndStart();
            // The last ones may be requests for events, which nobody waits for.
            CHECK(!NT_SUCCESS(Status) || At > StartCommands - 4);
            CHECK(Now - Before < 30000000);
            Remove();
            CHECK_EQUAL(LiveThings, 0);
        }
    }
}

static VOID Any_failed_admin_command_ends_the_start_and_frees_everything(VOID)
{
    const ULONG StartCommands = CountStartCommands();
    ULONG Failures = 0;
    for (ULONG At = 1; At <= StartCommands; At += 1) {
        Reset();
        Setup.Fault = FaultStatus;
        Setup.FaultAt = At;
        Setup.FaultStatusField = 0x06; // internal error
        const NTSTATUS Status = AddAndStart();
        CHECK(NT_SUCCESS(Status) || Status == STATUS_DEVICE_HARDWARE_ERROR);
        Failures += !NT_SUCCESS(Status);
        RemoveAndCheckNothingIsHeld();
    }
    CHECK(Failures >= 9); // identify 2, set features, create 4, namespaces 2
}

static VOID Any_failed_allocation_ends_the_start_and_frees_everything(VOID)
{
    NTSTATUS Status = STATUS_UNSUCCESSFUL;
    ULONG Nth = 1;
    for (; AllocationsLeft == 0 || Nth == 1; Nth += 1) {
        UNICODE_STRING Path = RTL_CONSTANT_STRING(u"\\Registry\\Machine\\nvme");
        Reset();
        AllocationsLeft = Nth;
        CHECK_EQUAL(NvmeDriverEntry(&Driver, &Path), STATUS_SUCCESS);
        Status = Extension.AddDevice(&Driver, &Bus);
        if (NT_SUCCESS(Status)) {
            Status = SendPnp(IRP_MN_START_DEVICE);
            // One queue pair will do.
            CHECK(NT_SUCCESS(Status) == (Driven()->State == NvmeReady));
            CHECK(Status == STATUS_SUCCESS || Status == STATUS_INSUFFICIENT_RESOURCES);
            CHECK_EQUAL(SendPnp(IRP_MN_REMOVE_DEVICE), STATUS_SUCCESS);
        }
        CHECK_EQUAL(LiveThings, 0);
    }
    CHECK_EQUAL(Status, STATUS_SUCCESS);
    CHECK(Nth > 15);
}

static VOID A_start_that_the_bus_refuses_touches_nothing(VOID)
{
    Reset();
    BusStatus = STATUS_DEVICE_NOT_READY;
    CHECK_EQUAL(AddAndStart(), STATUS_DEVICE_NOT_READY);
    CHECK_TEXT(Device.Story, "");
    RemoveAndCheckNothingIsHeld();
}

static VOID A_namespace_with_metadata_is_passed_over(VOID)
{
    Reset();
    Setup.MetadataBytes = 8;
    Start();
    CHECK(strstr(HostPrinted(), "namespace 3 is passed over") != NULL);
    CHECK(strstr(HostPrinted(), "namespace 7, 8192 blocks") != NULL);
    CHECK(Children[0] != NULL && Children[1] == NULL);
    RemoveAndCheckNothingIsHeld();
}

static VOID A_namespace_whose_blocks_are_of_no_use_is_no_disk(VOID)
{
    static const struct {
        ULONG First;
        UCHAR BlockShift;
    } Rows[] = {{0, 9}, {12, 9}, {3, 8}, {3, 13}, {3, 0}, {3, 200}};
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        Reset();
        Setup.NamespaceIds[0] = Rows[Row].First;
        Setup.NamespaceIds[1] = 0;
        Setup.BlockShift = Rows[Row].BlockShift % 32;
        Start();
        CHECK(Children[0] == NULL);
        RemoveAndCheckNothingIsHeld();
    }
}

static VOID A_stopped_device_refuses_requests_and_can_be_started_again(VOID)
{
    Reset();
    Start();
    CHECK_EQUAL(SendPnp(IRP_MN_STOP_DEVICE), STATUS_SUCCESS);
    CHECK_EQUAL(LiveThings, 3); // the device objects
    CHECK_EQUAL(ReadPage(0), STATUS_DEVICE_NOT_READY);
    for (ULONG Round = 0; Round < 3; Round += 1) {
        CHECK_EQUAL(SendPnp(IRP_MN_START_DEVICE), STATUS_SUCCESS); // over a started one, too
        CHECK_EQUAL(ReadPage(0), STATUS_SUCCESS);
    }
    RemoveAndCheckNothingIsHeld();
}

static VOID A_controller_that_does_not_shut_down_is_stopped_all_the_same(VOID)
{
    Reset();
    Setup.Fault = FaultNeverShutDown;
    Start();
    RemoveAndCheckNothingIsHeld();
    CHECK_TEXT(Device.Story, "ECSCSscsce");
}

// ------------------------------------------------------------------------------------------------
// Data.

// What is on the disk, by the test's own account.
static UCHAR Model[DISK_BYTES];

static VOID CheckBuffer(PMDL Mdl, ULONG64 DiskOffset, ULONG ByteCount, UCHAR Fill)
{
    for (ULONG Index = 0; Index < ByteCount; Index += 1) {
        if (*BufferByte(Mdl, Index) != Model[DiskOffset + Index]) {
            FAIL("byte %u of %u is wrong", Index, ByteCount);
        }
    }
    for (LONG64 Before = -(LONG64)Mdl->ByteOffset; Before < 0; Before += 1) {
        CHECK(*BufferByte(Mdl, Before) == Fill);
    }
    for (ULONG64 After = ByteCount; (Mdl->ByteOffset + After) / PAGE_SIZE < BufferFrames(Mdl);
         After += 1) {
        CHECK(*BufferByte(Mdl, (LONG64)After) == Fill);
    }
}

static VOID FillBuffer(PMDL Mdl, ULONG64 DiskOffset, ULONG ByteCount)
{
    for (ULONG Index = 0; Index < ByteCount; Index += 1) {
        *BufferByte(Mdl, Index) = Model[DiskOffset + Index] = (UCHAR)Random(256);
    }
}

static VOID TransferAtRandom(ULONG MostBytes)
{
    const ULONG BlockCount = DISK_BYTES >> Setup.BlockShift;
    const ULONG First = (ULONG)Random(BlockCount);
    const ULONG MostBlocks = NvmeSmaller(BlockCount - First, MostBytes >> Setup.BlockShift);
    const ULONG ByteCount = ((ULONG)Random(MostBlocks) + 1) << Setup.BlockShift;
    const ULONG64 Offset = (ULONG64)First << Setup.BlockShift;
    const ULONG ByteOffset = Random(4) == 0 ? 0 : (ULONG)Random(PAGE_SIZE / 4) * 4;
    const PMDL Mdl = AllocateBuffer(ByteOffset, ByteCount, 0xA5);
    if (Random(2) == 0) {
        CHECK_EQUAL(SendTransfer(IRP_MJ_READ, Mdl, (LONG64)Offset, ByteCount), STATUS_SUCCESS);
        CheckBuffer(Mdl, Offset, ByteCount, 0xA5);
    } else {
        FillBuffer(Mdl, Offset, ByteCount);
        CHECK_EQUAL(SendTransfer(IRP_MJ_WRITE, Mdl, (LONG64)Offset, ByteCount), STATUS_SUCCESS);
    }
    FreeBuffer(Mdl);
}

static const struct {
    ULONG QueueEntries;
    UCHAR TransferShift;
    UCHAR BlockShift;
    ULONG MostBytes;
    ULONG Rounds;
    ULONG Registers;
} Workloads[] = {
    {1024, 5, 9, 512 << 10, 600, 1024}, // 128 KiB per command
    {1024, 1, 9, 512 << 10, 600, 1024}, // 8 KiB: several batches for one request
    {1024, 0, 12, 4 << 20, 60, 1024},   // unlimited: 2 MiB per command, a full list page
    {1024, 31, 12, 4 << 20, 60, 1024},  // more than 32 bits
    {1024, 5, 9, 512 << 10, 300, 40},   // map registers for one command and a bit
    {1024, 5, 9, 64 << 10, 600, 2},     // a page per command, one at a time
    {1024, 1, 9, 64 << 10, 600, 7},     // two commands at a time, or three
    {2, 5, 12, 512 << 10, 300, 1024},   // one command at a time
    {3, 1, 10, 256 << 10, 300, 1024},   // two, in rings whose length is no power of two
    {64, 1, 11, 64 << 10, 3000, 1024},  // round and round the rings
};

static VOID Random_transfers_move_exactly_the_bytes_they_should(VOID)
{
    for (ULONG Row = 0; Row < ARRAYSIZE(Workloads); Row += 1) {
        Reset();
        Setup.Cap = (Setup.Cap & ~0xFFFFull) | (Workloads[Row].QueueEntries - 1);
        RegistersGranted = Workloads[Row].Registers;
        Interrupt.IsLine = Row % 2 != 0;
        CurrentProcessor = Row % 3;
        Setup.TransferShift = Workloads[Row].TransferShift;
        Setup.BlockShift = Workloads[Row].BlockShift;
        memcpy(Model, Disk, sizeof(Model));
        Start();
        for (ULONG Round = 0; Round < Workloads[Row].Rounds; Round += 1) {
            TransferAtRandom(Workloads[Row].MostBytes);
        }
        RemoveAndCheckNothingIsHeld();
        CHECK(memcmp(Model, Disk, sizeof(Model)) == 0);
    }
}

static VOID A_command_that_fills_its_list_page_is_not_chained(VOID)
{
    Reset();
    Setup.TransferShift = 0;
    memcpy(Model, Disk, sizeof(Model));
    Start();
    // 2 MiB at an offset: the first page and the 512 entries of one list.
    const PMDL Mdl = AllocateBuffer(PAGE_SIZE - 4, 2u << 20, 0xA5);
    CHECK_EQUAL(SendTransfer(IRP_MJ_READ, Mdl, 0, 2u << 20), STATUS_SUCCESS);
    CheckBuffer(Mdl, 0, 2u << 20, 0xA5);
    FreeBuffer(Mdl);
    RemoveAndCheckNothingIsHeld();
}

static VOID A_flush_reaches_the_controller(VOID)
{
    Reset();
    Start();
    const IO_STACK_LOCATION Location = {0};
    CHECK_EQUAL(Send(Children[0], IRP_MJ_FLUSH_BUFFERS, 0, &Location, NULL, NULL, NULL),
                STATUS_SUCCESS);
    CHECK_EQUAL(Device.FlushCount, 1);
    RemoveAndCheckNothingIsHeld();
}

static VOID Requests_that_make_no_sense_are_refused_before_the_controller_sees_them(VOID)
{
    static const struct {
        LONG64 Offset;
        ULONG ByteCount;
        ULONG BufferOffset;
        ULONG BufferBytes;
        CSHORT Flags;
        NTSTATUS Expected;
    } Rows[] = {
        {0, 0, 0, 512, 0, STATUS_SUCCESS}, // no bytes: nothing to do
        {1, 512, 0, 512, MDL_PAGES_LOCKED, STATUS_INVALID_PARAMETER},
        {256, 512, 0, 512, MDL_PAGES_LOCKED, STATUS_INVALID_PARAMETER},
        {0, 511, 0, 512, MDL_PAGES_LOCKED, STATUS_INVALID_PARAMETER},
        {0, 1024, 0, 512, MDL_PAGES_LOCKED, STATUS_INVALID_PARAMETER}, // the buffer is too short
        {0, 512, 0, 512, 0, STATUS_INVALID_PARAMETER},                 // it has no frames
        {0, 512, 2, 512, MDL_PAGES_LOCKED, STATUS_DATATYPE_MISALIGNMENT},
        {0, 512, 3, 512, MDL_PAGES_LOCKED, STATUS_DATATYPE_MISALIGNMENT},
        {DISK_BYTES, 512, 0, 512, MDL_PAGES_LOCKED, STATUS_NONEXISTENT_SECTOR},
        {DISK_BYTES - 512, 1024, 0, 1024, MDL_PAGES_LOCKED, STATUS_NONEXISTENT_SECTOR},
        {MAXLONGLONG - 511, 512, 0, 512, MDL_PAGES_LOCKED, STATUS_NONEXISTENT_SECTOR},
        {-512, 512, 0, 512, MDL_PAGES_LOCKED, STATUS_NONEXISTENT_SECTOR},
        {-512, 1024, 0, 1024, MDL_PAGES_LOCKED, STATUS_NONEXISTENT_SECTOR},
    };
    Reset();
    Start();
    const ULONG CommandsBefore = Device.CommandNumber;
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        const PMDL Mdl = AllocateBuffer(Rows[Row].BufferOffset, Rows[Row].BufferBytes, 0);
        Mdl->MdlFlags = Rows[Row].Flags;
        CHECK_EQUAL(SendTransfer(IRP_MJ_READ, Mdl, Rows[Row].Offset, Rows[Row].ByteCount),
                    Rows[Row].Expected);
        CHECK_EQUAL(SendTransfer(IRP_MJ_WRITE, Mdl, Rows[Row].Offset, Rows[Row].ByteCount),
                    Rows[Row].Expected);
        FreeBuffer(Mdl);
    }
    CHECK_EQUAL(SendTransfer(IRP_MJ_READ, NULL, 0, 512), STATUS_INVALID_PARAMETER);
    CHECK_EQUAL(Device.CommandNumber, CommandsBefore);
    RemoveAndCheckNothingIsHeld();
}

// ------------------------------------------------------------------------------------------------
// Errors while it runs.

static const struct {
    USHORT Field; // SCT << 8 | SC
    NTSTATUS Expected;
    const CHAR *Words;
} Statuses[] = {
    {0x001, STATUS_INVALID_DEVICE_REQUEST, "SCT 0, SC 0x01"},
    {0x002, STATUS_INVALID_PARAMETER, "SCT 0, SC 0x02"},
    {0x004, STATUS_IO_DEVICE_ERROR, "SCT 0, SC 0x04"},
    {0x006, STATUS_DEVICE_HARDWARE_ERROR, "SCT 0, SC 0x06"},
    {0x00B, STATUS_NO_SUCH_DEVICE, "SCT 0, SC 0x0b"},
    {0x020, STATUS_MEDIA_WRITE_PROTECTED, "SCT 0, SC 0x20"},
    {0x080, STATUS_NONEXISTENT_SECTOR, "SCT 0, SC 0x80"},
    {0x281, STATUS_DEVICE_DATA_ERROR, "unrecovered read error (SCT 2, SC 0x81)"},
    {0x280, STATUS_DEVICE_DATA_ERROR, "write fault (SCT 2, SC 0x80)"},
    {0x7FF, STATUS_IO_DEVICE_ERROR, "SCT 7, SC 0xff"},
    {0x4281, STATUS_DEVICE_DATA_ERROR, "unrecovered read error"}, // with "do not retry"
};

static VOID A_failed_command_fails_its_request_and_nothing_else(VOID)
{
    for (ULONG Row = 0; Row < ARRAYSIZE(Statuses); Row += 1) {
        Reset();
        Setup.Fault = FaultStatus;
        Setup.FaultAtIo = 1 + (ULONG)Random(4); // of five in the request
        Setup.FaultStatusField = Statuses[Row].Field;
        Start();
        const PMDL Mdl = AllocateBuffer(0, 640 << 10, 0);
        HostForgetPrinted();
        CHECK_EQUAL(SendTransfer(IRP_MJ_READ, Mdl, 0, 640 << 10), Statuses[Row].Expected);
        CHECK(strstr(HostPrinted(), Statuses[Row].Words) != NULL);
        CHECK_EQUAL(SendTransfer(IRP_MJ_READ, Mdl, 0, 640 << 10), STATUS_SUCCESS);
        FreeBuffer(Mdl);
        RemoveAndCheckNothingIsHeld();
    }
}

// ------------------------------------------------------------------------------------------------
// Recovery. Requests that are sent together, one page each, from the beginning of the disk.

#define MANY 8
#define TIMEOUT 1000 // milliseconds

static REQUEST Many[MANY];

static VOID StartForRecovery(VOID)
{
    Start();
    Driven()->Parameters.CommandTimeout = TIMEOUT;
}

static VOID BeginMany(UCHAR Major)
{
    for (ULONG Index = 0; Index < MANY; Index += 1) {
        const IO_STACK_LOCATION Location = ReadOrWrite((LONG64)Index * PAGE_SIZE, PAGE_SIZE);
        const PMDL Mdl = AllocateBuffer(0, PAGE_SIZE, (UCHAR)(0x10 + Index));
        CurrentProcessor = Index % 2;
        CHECK_EQUAL(Begin(&Many[Index], Children[0], Major, 0, &Location, Mdl, NULL),
                    STATUS_PENDING);
    }
}

// How many ended with Status; each has ended, within Milliseconds.
static ULONG EndMany(ULONG Milliseconds, NTSTATUS Status)
{
    const LONG64 Last = Now + Milliseconds * 1000ll;
    ULONG Count = 0;
    for (ULONG Index = 0; Index < MANY; Index += 1) {
        const LONG64 Left = (Last - Now) / 1000;
        const NTSTATUS Found = End(&Many[Index], Left > 0 ? (ULONG)Left : 0);
        CHECK(Found != STATUS_PENDING);
        Count += Found == Status;
        if (Many[Index].Locations[1].MajorFunction == IRP_MJ_READ && NT_SUCCESS(Found)) {
            CHECK(memcmp(BufferFrame(Many[Index].Irp.MdlAddress, 0), Disk + Index * PAGE_SIZE,
                         PAGE_SIZE) == 0);
        }
        FreeBuffer(Many[Index].Irp.MdlAddress);
    }
    return Count;
}

static NVME_RECOVERY_COUNTERS QueryRecovery(VOID)
{
    NVME_RECOVERY_COUNTERS Counters;
    ULONG_PTR Information;
    CHECK_EQUAL(
        SendIoctl(Top, IOCTL_NVME_QUERY_RECOVERY, &Counters, 0, sizeof(Counters), &Information),
        STATUS_SUCCESS);
    CHECK_EQUAL(Information, sizeof(Counters));
    return Counters;
}

static ULONG CountLostPages(VOID)
{
    ULONG Count = 0;
    for (ULONG Index = 0; Index < NVME_ADMIN_PAGES; Index += 1) {
        Count += Driven()->AdminPages[Index].IsLost;
    }
    return Count;
}

static NTSTATUS IdentifyByProperty(VOID)
{
    static struct {
        STORAGE_PROPERTY_ID PropertyId;
        STORAGE_QUERY_TYPE QueryType;
        STORAGE_PROTOCOL_SPECIFIC_DATA Specific;
        UCHAR Data[PAGE_SIZE];
    } Query;
    ULONG_PTR Information;
    memset(&Query, 0, sizeof(Query));
    Query.PropertyId = StorageAdapterProtocolSpecificProperty;
    Query.Specific =
        (STORAGE_PROTOCOL_SPECIFIC_DATA){.ProtocolType = ProtocolTypeNvme,
                                         .DataType = NVMeDataTypeIdentify,
                                         .ProtocolDataRequestValue = NVME_IDENTIFY_CONTROLLER,
                                         .ProtocolDataOffset = sizeof(Query.Specific),
                                         .ProtocolDataLength = PAGE_SIZE};
    const NTSTATUS Status = SendIoctl(Children[0], IOCTL_STORAGE_QUERY_PROPERTY, &Query,
                                      sizeof(Query), sizeof(Query), &Information);
    CHECK(!NT_SUCCESS(Status) || memcmp(Query.Data + 4, "S-12345", 7) == 0);
    return Status;
}

// Whoever asked is gone by then, and with him what he had on his stack; the page is nobody's until the
// controller was reset.
static VOID An_admin_command_that_is_not_answered_in_time_hits_nothing_later(VOID)
{
    static const FAULT Faults[] = {FaultHang, FaultLate};
    for (ULONG Row = 0; Row < ARRAYSIZE(Faults); Row += 1) {
        Reset();
        Start();
        Setup.Fault = Faults[Row];
        Setup.FaultAt = Device.CommandNumber + 1;
        Setup.FaultDelay = 5500;
        const LONG64 Before = Now;
        CHECK_EQUAL(IdentifyByProperty(), STATUS_IO_TIMEOUT);
        CHECK((Now - Before) / 1000 >= 5000 && (Now - Before) / 1000 < 6000);
        CHECK_EQUAL(CountLostPages(), 1);
        Setup.Fault = FaultNone;
        CHECK_EQUAL(IdentifyByProperty(), STATUS_SUCCESS); // with other pages
        Sleep(10000);
        CHECK_EQUAL(Driven()->State, NvmeReady);
        CHECK_EQUAL(Device.ResetCount, Row == 0 ? 1 : Device.ResetCount);
        CHECK_EQUAL(CountLostPages(), Device.ResetCount == 0 ? 1 : 0);
        CHECK_EQUAL(IdentifyByProperty(), STATUS_SUCCESS);
        RemoveAndCheckNothingIsHeld();
    }
}

// The one that hangs ends when the controller was reset, not before; the others never know.
static VOID A_command_that_hangs_ends_after_a_reset_and_the_others_succeed(VOID)
{
    for (ULONG Row = 0; Row < 2; Row += 1) {
        Reset();
        Interrupt.IsLine = Row == 1;
        Setup.Fault = FaultHang;
        Setup.FaultAtIo = 1 + (ULONG)Random(MANY);
        StartForRecovery();
        const LONG64 Before = Now;
        BeginMany(IRP_MJ_READ);
        CHECK_EQUAL(EndMany(4 * TIMEOUT, STATUS_IO_TIMEOUT), 1);
        CHECK((Now - Before) / 1000 >= 2 * TIMEOUT);
        CHECK_EQUAL(Device.AbortCount, 1);
        CHECK_EQUAL(Device.ResetCount, 1);
        CHECK_EQUAL(QueryRecovery().Resets, 1);
        CHECK_EQUAL(QueryRecovery().Aborts, 1);
        CHECK_EQUAL(Driven()->State, NvmeReady);
        CHECK_EQUAL(ReadPage(0), STATUS_SUCCESS);
        RemoveAndCheckNothingIsHeld();
    }
}

static VOID A_command_that_hangs_is_aborted_by_a_controller_that_can(VOID)
{
    Reset();
    Setup.Fault = FaultHangUntilAbort;
    Setup.FaultAtIo = 3;
    StartForRecovery();
    BeginMany(IRP_MJ_READ);
    CHECK_EQUAL(EndMany(2 * TIMEOUT, STATUS_IO_TIMEOUT), 1);
    CHECK_EQUAL(Device.AbortCount, 1);
    CHECK_EQUAL(Device.ResetCount, 0);
    CHECK_EQUAL(QueryRecovery().AbortedCommands, 1);
    RemoveAndCheckNothingIsHeld();
}

// Slow is not dead: what comes within the second timeout counts.
static VOID A_late_answer_is_an_answer(VOID)
{
    Reset();
    Setup.Fault = FaultLate;
    Setup.FaultAtIo = 2;
    Setup.FaultDelay = TIMEOUT + TIMEOUT / 2;
    StartForRecovery();
    BeginMany(IRP_MJ_READ);
    CHECK_EQUAL(EndMany(2 * TIMEOUT, STATUS_SUCCESS), MANY);
    CHECK_EQUAL(Device.AbortCount, 1);
    CHECK_EQUAL(Device.ResetCount, 0);
    RemoveAndCheckNothingIsHeld();
}

static VOID Commands_that_were_under_way_at_a_reset_are_given_to_the_controller_again(VOID)
{
    static const FAULT Faults[] = {FaultSilentFatal, FaultForgotten};
    for (ULONG Row = 0; Row < ARRAYSIZE(Faults) * 2; Row += 1) {
        Reset();
        Interrupt.IsLine = Row % 2 != 0;
        Setup.Fault = Faults[Row / 2];
        Setup.FaultAtIo = 1 + (ULONG)Random(MANY);
        StartForRecovery();
        BeginMany(Row % 2 == 0 ? IRP_MJ_READ : IRP_MJ_WRITE);
        CHECK_EQUAL(EndMany(2 * TIMEOUT, STATUS_SUCCESS), MANY);
        for (ULONG Index = 0; Index < MANY && Row % 2 != 0; Index += 1) {
            CHECK_EQUAL(Disk[Index * PAGE_SIZE], 0x10 + Index);
        }
        CHECK_EQUAL(Device.ResetCount, 1);
        CHECK_EQUAL(Device.FunctionResetCount, Faults[Row / 2] == FaultForgotten);
        CHECK_EQUAL(QueryRecovery().Resets, 1);
        RemoveAndCheckNothingIsHeld();
    }
}

// ... but not for ever.
static VOID A_command_that_kills_the_controller_each_time_ends_with_an_error(VOID)
{
    Reset();
    Setup.Fault = FaultSilentFatal;
    Setup.FaultAtIo = 1;
    Setup.FaultCount = 100;
    StartForRecovery();
    CHECK_EQUAL(ReadPage(0), STATUS_IO_DEVICE_ERROR);
    CHECK_EQUAL(Device.IoNumber, 4); // once, and three times more
    Setup.Fault = FaultNone;
    CHECK_EQUAL(Driven()->State, NvmeReady);
    CHECK_EQUAL(ReadPage(0), STATUS_SUCCESS);
    RemoveAndCheckNothingIsHeld();
}

static VOID A_completion_from_before_the_reset_does_not_end_a_command_of_after_it(VOID)
{
    Reset();
    Setup.Fault = FaultGhost;
    Setup.FaultAtIo = 1;
    StartForRecovery();
    CHECK_EQUAL(ReadPage(0), STATUS_IO_TIMEOUT);
    CHECK_EQUAL(Device.ResetCount, 1);
    // The same tracker is used again, and the ghost comes first.
    REQUEST Next;
    const PMDL Mdl = AllocateBuffer(0, PAGE_SIZE, 0xEE);
    const IO_STACK_LOCATION Location = ReadOrWrite(PAGE_SIZE, PAGE_SIZE);
    CHECK_EQUAL(Begin(&Next, Children[0], IRP_MJ_READ, 0, &Location, Mdl, NULL), STATUS_PENDING);
    const ULONG64 Before = Driven()->Queues[Device.GhostQueue]->Counters.UnknownCompletions;
    AddPending(&Rings[Device.GhostQueue], Device.GhostId, 0, 0);
    PostCompletion(Device.GhostQueue);
    RunDpcs();
    CHECK_EQUAL(Next.DoneCount, 0);
    CHECK_EQUAL(Driven()->Queues[Device.GhostQueue]->Counters.UnknownCompletions, Before + 1);
    CHECK_EQUAL(End(&Next, 4 * TIMEOUT), STATUS_SUCCESS);
    CHECK(memcmp(BufferFrame(Mdl, 0), Disk + PAGE_SIZE, PAGE_SIZE) == 0);
    FreeBuffer(Mdl);
    Sleep(TIMEOUT);
    RemoveAndCheckNothingIsHeld();
}

static VOID A_completion_that_nobody_waits_for_is_counted_dropped_and_survived(VOID)
{
    static const FAULT Faults[] = {FaultWrongId, FaultBeyond, FaultStale, FaultTwice};
    for (ULONG Row = 0; Row < ARRAYSIZE(Faults); Row += 1) {
        Reset();
        Setup.Fault = Faults[Row];
        Setup.FaultAtIo = 1 + (ULONG)Random(MANY);
        StartForRecovery();
        HostForgetPrinted();
        BeginMany(IRP_MJ_READ);
        CHECK_EQUAL(EndMany(4 * TIMEOUT, STATUS_SUCCESS), MANY);
        Sleep(TIMEOUT);
        CHECK(strstr(HostPrinted(), "which was not under way") != NULL);
        CHECK_EQUAL(QueryRecovery().ProtocolErrors, 1);
        CHECK_EQUAL(ReadPage(0), STATUS_SUCCESS);
        RemoveAndCheckNothingIsHeld();
    }
}

static VOID A_completion_without_an_interrupt_is_found_and_later_ones_are_polled(VOID)
{
    Reset();
    Setup.Fault = FaultQuiet;
    Setup.FaultAtIo = 1;
    StartForRecovery();
    CurrentProcessor = 0;
    const NVME_QUEUE *Queue = Driven()->Queues[1];
    for (ULONG Round = 0; Round < 3; Round += 1) {
        const LONG64 Before = Now;
        CHECK_EQUAL(ReadPage(0), STATUS_SUCCESS);
        CHECK((Now - Before) / 1000 <= 210);
        CHECK_EQUAL(Queue->Counters.MissedInterrupts, Round + 1);
    }
    CHECK(strstr(HostPrinted(), "queue 1: its interrupts do not arrive") != NULL);
    const LONG64 Before = Now;
    CHECK_EQUAL(ReadPage(0), STATUS_SUCCESS);
    CHECK((Now - Before) / 1000 <= 110); // the timer's period changes at its next turn
    const LONG64 Polled = Now;
    CHECK_EQUAL(ReadPage(0), STATUS_SUCCESS);
    CHECK((Now - Polled) / 1000 <= 5);
    Device.IsQuiet = FALSE;
    Setup.Fault = FaultNone;
    CHECK_EQUAL(ReadPage(0), STATUS_SUCCESS);
    Sleep(200);
    CHECK(strstr(HostPrinted(), "queue 1: its interrupts arrive again") != NULL);
    CHECK_EQUAL(Device.ResetCount, 0);
    RemoveAndCheckNothingIsHeld();
}

// Its registers read as zeros or as ones, and configuration space says that nobody is there.
static VOID A_controller_that_is_pulled_out_ends_every_request(VOID)
{
    static const FAULT Faults[] = {FaultRemovedOnes, FaultRemovedZeros};
    for (ULONG Row = 0; Row < ARRAYSIZE(Faults); Row += 1) {
        Reset();
        Setup.Fault = Faults[Row];
        Setup.FaultAtIo = 2;
        StateChanges = 0;
        StartForRecovery();
        BeginMany(IRP_MJ_READ);
        CHECK(EndMany(TIMEOUT, STATUS_DEVICE_DOES_NOT_EXIST) >= MANY - 1);
        CHECK_EQUAL(Driven()->State, NvmeGone);
        CHECK_EQUAL(StateChanges, 1);
        CHECK_EQUAL(ReadPage(0), STATUS_DEVICE_DOES_NOT_EXIST);
        // What the PnP manager does then; nothing waits for what is not there.
        const LONG64 Before = Now;
        for (ULONG Index = 0; Children[Index] != NULL; Index += 1) {
            CHECK_EQUAL(SendPnpTo(Children[Index], IRP_MN_SURPRISE_REMOVAL, NULL), STATUS_SUCCESS);
        }
        CHECK_EQUAL(SendPnp(IRP_MN_SURPRISE_REMOVAL), STATUS_SUCCESS);
        CHECK_EQUAL(ReadPage(0), STATUS_DEVICE_DOES_NOT_EXIST);
        RemoveAndCheckNothingIsHeld();
        CHECK(Now - Before < 100000);
        CHECK_EQUAL(Device.FunctionResetCount, 0);
        // Another one in its place.
        Reset();
        Start();
        CHECK_EQUAL(ReadPage(0), STATUS_SUCCESS);
        RemoveAndCheckNothingIsHeld();
    }
}

static VOID An_idle_controller_that_is_pulled_out_is_missed(VOID)
{
    Reset();
    Start();
    StateChanges = 0;
    Sleep(3000);
    CHECK_EQUAL(StateChanges, 0);
    Device.IsGone = TRUE;
    Setup.Fault = FaultRemovedZeros;
    Sleep(1200);
    CHECK_EQUAL(StateChanges, 1);
    CHECK_EQUAL(Driven()->State, NvmeGone);
    RemoveAndCheckNothingIsHeld();
}

static VOID A_surprise_removal_ends_every_request_at_once(VOID)
{
    static const FAULT Faults[] = {FaultRemovedOnes, FaultRemovedZeros};
    for (ULONG Row = 0; Row < ARRAYSIZE(Faults); Row += 1) {
        Reset();
        Setup.Fault = Faults[Row];
        Setup.FaultAtIo = 1;
        StartForRecovery();
        BeginMany(IRP_MJ_READ);
        Pass(WAIT_STEP);
        for (ULONG Index = 0; Children[Index] != NULL; Index += 1) {
            CHECK_EQUAL(SendPnpTo(Children[Index], IRP_MN_SURPRISE_REMOVAL, NULL), STATUS_SUCCESS);
        }
        const LONG64 Before = Now;
        CHECK_EQUAL(SendPnp(IRP_MN_SURPRISE_REMOVAL), STATUS_SUCCESS);
        CHECK(Now - Before < 10000);
        CHECK_EQUAL(EndMany(0, STATUS_DEVICE_DOES_NOT_EXIST), MANY);
        RemoveAndCheckNothingIsHeld();
    }
}

static const struct {
    OBEDIENCE Obedience;
    BOOLEAN HasBus;
    NTSTATUS Hung;   // what becomes of the command that hangs; PENDING: for ever
    NTSTATUS Others; // and of what is sent afterwards
    ULONG Resets;
    ULONG FunctionResets;
} Dead[] = {
    {ObeysEnable, TRUE, STATUS_IO_TIMEOUT, STATUS_SUCCESS, 1, 0},
    {ObeysFunctionReset, TRUE, STATUS_IO_TIMEOUT, STATUS_SUCCESS, 1, 1},
    {ObeysBusMaster, TRUE, STATUS_IO_TIMEOUT, STATUS_DEVICE_HARDWARE_ERROR, 0, 1},
    {ObeysNothing, TRUE, STATUS_PENDING, STATUS_DEVICE_HARDWARE_ERROR, 0, 1},
    {ObeysFunctionReset, FALSE, STATUS_PENDING, STATUS_DEVICE_HARDWARE_ERROR, 0, 0},
};

// A command that hangs ends only when the controller cannot reach its memory any more: after CC.EN, a
// function-level reset, or the end of its bus mastering, whichever works first.
static VOID A_hung_command_ends_only_when_its_memory_is_safe(VOID)
{
    for (ULONG Row = 0; Row < ARRAYSIZE(Dead); Row += 1) {
        REQUEST Hung;
        Reset();
        Setup.Fault = FaultHang;
        Setup.FaultAtIo = 1;
        Setup.HasBus = Dead[Row].HasBus;
        StartForRecovery();
        Setup.Obedience = Dead[Row].Obedience;
        const PMDL Mdl = AllocateBuffer(0, PAGE_SIZE, 0);
        const IO_STACK_LOCATION Location = ReadOrWrite(0, PAGE_SIZE);
        CHECK_EQUAL(Begin(&Hung, Children[0], IRP_MJ_READ, 0, &Location, Mdl, NULL),
                    STATUS_PENDING);
        CHECK_EQUAL(End(&Hung, 10 * TIMEOUT), Dead[Row].Hung);
        CHECK_EQUAL(QueryRecovery().Resets, Dead[Row].Resets);
        CHECK_EQUAL(QueryRecovery().FunctionResets, Dead[Row].FunctionResets);
        CHECK_EQUAL(QueryRecovery().LostCommands, Dead[Row].Hung == STATUS_PENDING);
        CHECK_EQUAL(ReadPage(0), Dead[Row].Others);
        if (Dead[Row].Hung != STATUS_PENDING) {
            CHECK(Device.HeldQueue == 0 || !Device.IsMaster);
            FreeBuffer(Mdl);
            Setup.Obedience = ObeysEnable;
            Device.HeldQueue = 0;
            RemoveAndCheckNothingIsHeld();
            continue;
        }
        // Late, and harmless: the frames are still the controller's.
        HostForgetPrinted();
        RemoveChildren();
        CHECK_EQUAL(SendPnp(IRP_MN_REMOVE_DEVICE), STATUS_SUCCESS);
        CHECK(strstr(HostPrinted(), "is lost") != NULL);
        CHECK(LiveThings != 0 && ListCount == 1);
        Execute(Device.HeldQueue, &Device.Held);
        CHECK(memcmp(BufferFrame(Mdl, 0), Disk, PAGE_SIZE) == 0);
        return; // what is lost is lost for the rest of this test, too
    }
}

static VOID A_restart_revives_a_controller_that_was_given_up(VOID)
{
    Reset();
    Setup.Fault = FaultHang;
    Setup.FaultAtIo = 1;
    StartForRecovery();
    Setup.Obedience = ObeysBusMaster;
    CHECK_EQUAL(ReadPage(0), STATUS_IO_TIMEOUT);
    CHECK_EQUAL(Driven()->State, NvmeFailed);
    CHECK_EQUAL(SendPnp(IRP_MN_STOP_DEVICE), STATUS_SUCCESS);
    Setup.Obedience = ObeysEnable;
    PowerOn();
    CHECK_EQUAL(SendPnp(IRP_MN_START_DEVICE), STATUS_SUCCESS);
    Setup.Fault = FaultNone;
    CHECK_EQUAL(ReadPage(0), STATUS_SUCCESS);
    RemoveAndCheckNothingIsHeld();
}

static VOID A_reset_on_request_loses_no_command(VOID)
{
    static const NVME_RESET_KIND Kinds[] = {NvmeControllerReset, NvmeFunctionReset};
    for (ULONG Row = 0; Row < ARRAYSIZE(Kinds) * 2; Row += 1) {
        NVME_RESET Kind = {.Kind = (ULONG)Kinds[Row / 2]};
        ULONG_PTR Information;
        Reset();
        Interrupt.IsLine = Row % 2 != 0;
        StartForRecovery();
        BeginMany(IRP_MJ_READ);
        CHECK_EQUAL(SendIoctl(Top, IOCTL_NVME_RESET, &Kind, sizeof(Kind), 0, &Information),
                    STATUS_SUCCESS);
        CHECK_EQUAL(EndMany(TIMEOUT, STATUS_SUCCESS), MANY);
        CHECK_EQUAL(Device.ResetCount, 1);
        CHECK_EQUAL(Device.FunctionResetCount, Row / 2);
        Kind.Kind = 77;
        CHECK_EQUAL(SendIoctl(Top, IOCTL_NVME_RESET, &Kind, sizeof(Kind), 0, &Information),
                    STATUS_INVALID_PARAMETER);
        RemoveAndCheckNothingIsHeld();
    }
}

// Everything that it needs, it has from the start.
static VOID A_reset_needs_no_memory(VOID)
{
    NVME_RESET Kind = {.Kind = NvmeControllerReset};
    ULONG_PTR Information;
    Reset();
    StartForRecovery();
    BeginMany(IRP_MJ_READ);
    AllocationsLeft = 0;
    CHECK_EQUAL(SendIoctl(Top, IOCTL_NVME_RESET, &Kind, sizeof(Kind), 0, &Information),
                STATUS_SUCCESS);
    CHECK_EQUAL(EndMany(TIMEOUT, STATUS_SUCCESS), MANY);
    AllocationsLeft = NO_LIMIT;
    RemoveAndCheckNothingIsHeld();
}

// A controller that is silent during its recovery, too, at each of its commands.
static VOID A_recovery_that_fails_ends_every_request(VOID)
{
    static const FAULT Faults[] = {FaultSilent, FaultSilentFatal, FaultRemovedZeros};
    for (ULONG Row = 0; Row < ARRAYSIZE(Faults); Row += 1) {
        for (ULONG At = 1; At <= 5; At += 1) {
            NVME_RESET Kind = {.Kind = NvmeControllerReset};
            ULONG_PTR Information;
            Reset();
            StartForRecovery();
            Setup.Fault = Faults[Row];
            Setup.FaultAt = Device.CommandNumber + At;
            Setup.FaultCount = 100;
            const NTSTATUS Expected = Faults[Row] == FaultRemovedZeros
                                          ? STATUS_DEVICE_DOES_NOT_EXIST
                                          : STATUS_DEVICE_HARDWARE_ERROR;
            CHECK_EQUAL(SendIoctl(Top, IOCTL_NVME_RESET, &Kind, sizeof(Kind), 0, &Information),
                        Expected);
            CHECK_EQUAL(ReadPage(0), Expected);
            RemoveAndCheckNothingIsHeld();
        }
    }
}

static VOID The_timeout_can_be_set_within_bounds(VOID)
{
    static const struct {
        ULONG Milliseconds;
        NTSTATUS Expected;
    } Rows[] = {{99, STATUS_INVALID_PARAMETER},
                {100, STATUS_SUCCESS},
                {600000, STATUS_SUCCESS},
                {600001, STATUS_INVALID_PARAMETER}};
    Reset();
    Start();
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        NVME_TIMEOUT Timeout = {Rows[Row].Milliseconds};
        ULONG_PTR Information;
        CHECK_EQUAL(
            SendIoctl(Top, IOCTL_NVME_SET_TIMEOUT, &Timeout, sizeof(Timeout), 0, &Information),
            Rows[Row].Expected);
    }
    CHECK_EQUAL(Driven()->Parameters.CommandTimeout, 600000);
    RemoveAndCheckNothingIsHeld();
}

// ------------------------------------------------------------------------------------------------
// Requests that wait.

// As IoCancelIrp. FALSE: the driver has taken the routine back.
static BOOLEAN Cancel(PREQUEST Request)
{
    const PIRP Irp = &Request->Irp;
    Irp->Cancel = TRUE;
    const PDRIVER_CANCEL Routine = IoSetCancelRoutine(Irp, NULL);
    if (Routine != NULL) {
        Irp->CancelIrql = FakeIrql;
        FakeIrql = DISPATCH_LEVEL;
        Routine(Children[0], Irp);
        CHECK_EQUAL(FakeIrql, PASSIVE_LEVEL);
    }
    return Routine != NULL;
}

// One tracker per queue: all but the first of each queue wait.
static VOID StartWithOneTracker(VOID)
{
    Reset();
    Setup.Cap = (Setup.Cap & ~0xFFFFull) | 1;
    Start();
    BeginMany(IRP_MJ_READ);
}

static VOID A_request_that_waits_is_cancelled_and_the_others_run(VOID)
{
    StartWithOneTracker();
    CHECK(!Cancel(&Many[0])); // it does not wait
    CHECK(Cancel(&Many[4]));
    CHECK_EQUAL(Many[4].DoneCount, 1);
    CHECK_EQUAL(Many[4].Irp.IoStatus.Status, STATUS_CANCELLED);
    CHECK_EQUAL(EndMany(1000, STATUS_SUCCESS), MANY - 1);
    CHECK(!Cancel(&Many[1]));
    RemoveAndCheckNothingIsHeld();
}

// The routine is taken by IoCancelIrp, and has not run yet, when its turn comes.
static VOID A_request_that_is_being_cancelled_is_left_to_its_routine(VOID)
{
    StartWithOneTracker();
    Many[4].Irp.Cancel = TRUE;
    const PDRIVER_CANCEL Routine = IoSetCancelRoutine(&Many[4].Irp, NULL);
    CHECK(Routine != NULL);
    Sleep(100);
    CHECK_EQUAL(Many[4].DoneCount, 0);
    CHECK_EQUAL(Many[6].DoneCount, 1);
    Many[4].Irp.CancelIrql = PASSIVE_LEVEL;
    FakeIrql = DISPATCH_LEVEL;
    Routine(Children[0], &Many[4].Irp);
    CHECK_EQUAL(EndMany(0, STATUS_SUCCESS), MANY - 1);
    RemoveAndCheckNothingIsHeld();
}

// ------------------------------------------------------------------------------------------------
// IOCTLs.

static VOID The_disk_tells_what_it_is(VOID)
{
    DECLSPEC_ALIGN(8) UCHAR Buffer[256];
    ULONG_PTR Information;
    Reset();
    Setup.BlockShift = 12;
    Start();
    CHECK_EQUAL(SendIoctl(Children[0], IOCTL_DISK_GET_LENGTH_INFO, Buffer, 0, 8, &Information),
                STATUS_SUCCESS);
    CHECK_EQUAL(((PGET_LENGTH_INFORMATION)Buffer)->Length.QuadPart, DISK_BYTES);
    CHECK_EQUAL(Information, 8);
    CHECK_EQUAL(SendIoctl(Children[0], IOCTL_DISK_GET_DRIVE_GEOMETRY, Buffer, 0, 24, &Information),
                STATUS_SUCCESS);
    const PDISK_GEOMETRY Geometry = (PDISK_GEOMETRY)Buffer;
    CHECK_EQUAL(Geometry->BytesPerSector, 4096);
    CHECK_EQUAL(Geometry->Cylinders.QuadPart * Geometry->TracksPerCylinder *
                    Geometry->SectorsPerTrack * Geometry->BytesPerSector,
                DISK_BYTES);

    STORAGE_PROPERTY_QUERY *Query = (PVOID)Buffer;
    *Query = (STORAGE_PROPERTY_QUERY){.PropertyId = StorageDeviceProperty};
    CHECK_EQUAL(SendIoctl(Children[0], IOCTL_STORAGE_QUERY_PROPERTY, Buffer, 12, 256, &Information),
                STATUS_SUCCESS);
    const PSTORAGE_DEVICE_DESCRIPTOR Product = (PSTORAGE_DEVICE_DESCRIPTOR)Buffer;
    CHECK_EQUAL(Product->Size, Information);
    CHECK_TEXT((PCSTR)Buffer + Product->ProductIdOffset, "A strict controller");
    CHECK_TEXT((PCSTR)Buffer + Product->ProductRevisionOffset, "1.0");
    CHECK_TEXT((PCSTR)Buffer + Product->SerialNumberOffset, "S-12345");

    *Query = (STORAGE_PROPERTY_QUERY){.PropertyId = StorageAdapterProperty};
    CHECK_EQUAL(SendIoctl(Children[0], IOCTL_STORAGE_QUERY_PROPERTY, Buffer, 12, 256, &Information),
                STATUS_SUCCESS);
    const PSTORAGE_ADAPTER_DESCRIPTOR Adapter = (PSTORAGE_ADAPTER_DESCRIPTOR)Buffer;
    CHECK_EQUAL(Adapter->MaximumTransferLength, 128 << 10);
    CHECK_EQUAL(Adapter->AlignmentMask, 3);
    RemoveAndCheckNothingIsHeld();
}

static VOID An_answer_goes_no_further_than_the_buffer(VOID)
{
    static const struct {
        ULONG Code;
        ULONG PropertyId;
        STORAGE_QUERY_TYPE QueryType;
        ULONG InputBytes;
        ULONG OutputBytes;
        NTSTATUS Expected;
        ULONG Information;
    } Rows[] = {
        {IOCTL_DISK_GET_LENGTH_INFO, 0, 0, 0, 7, STATUS_BUFFER_TOO_SMALL, 0},
        {IOCTL_DISK_GET_DRIVE_GEOMETRY, 0, 0, 0, 23, STATUS_BUFFER_TOO_SMALL, 0},
        {IOCTL_STORAGE_QUERY_PROPERTY, StorageDeviceProperty, 0, 12, 7, STATUS_BUFFER_TOO_SMALL, 0},
        {IOCTL_STORAGE_QUERY_PROPERTY, StorageDeviceProperty, 0, 12, 8, STATUS_SUCCESS, 8},
        {IOCTL_STORAGE_QUERY_PROPERTY, StorageAdapterProperty, 0, 12, 9, STATUS_SUCCESS, 9},
        {IOCTL_STORAGE_QUERY_PROPERTY, StorageDeviceProperty, PropertyExistsQuery, 12, 0,
         STATUS_SUCCESS, 0},
        {IOCTL_STORAGE_QUERY_PROPERTY, StorageDeviceProperty, 0, 11, 256, STATUS_INVALID_PARAMETER,
         0},
        {IOCTL_STORAGE_QUERY_PROPERTY, 77, 0, 12, 256, STATUS_INVALID_DEVICE_REQUEST, 0},
        {IOCTL_STORAGE_QUERY_PROPERTY, MAXULONG, 0, 12, 256, STATUS_INVALID_DEVICE_REQUEST, 0},
        {0x12345678, 0, 0, 0, 256, STATUS_INVALID_DEVICE_REQUEST, 0},
    };
    Reset();
    Start();
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        const STORAGE_PROPERTY_QUERY Query = {.PropertyId = Rows[Row].PropertyId,
                                              .QueryType = Rows[Row].QueryType};
        const SIZE_T ByteCount = NvmeSmaller(256, Rows[Row].OutputBytes) + Rows[Row].InputBytes;
        PUCHAR Buffer = malloc(ByteCount); // of its size: the sanitizer sees a byte too far
        memset(Buffer, 0x5A, ByteCount);
        memcpy(Buffer, &Query, Rows[Row].InputBytes);
        ULONG_PTR Information;
        CHECK_EQUAL(SendIoctl(Children[0], Rows[Row].Code, Buffer, Rows[Row].InputBytes,
                              Rows[Row].OutputBytes, &Information),
                    Rows[Row].Expected);
        CHECK_EQUAL(Information, Rows[Row].Information);
        free(Buffer);
    }
    RemoveAndCheckNothingIsHeld();
}

static const HOST_TEST Tests[] = {
    HOST_ROW(A_disk_is_brought_up_and_down_in_the_order_of_the_specification, "NVMe 7.6", NULL),
    HOST_ROW(A_controller_that_firmware_left_enabled_is_reset_first, "NVMe 7.6.1", NULL),
    HOST_ROW(A_controller_that_cannot_be_used_is_refused_in_bounded_time, "NVMe 3.1", NULL),
    HOST_ROW(A_controller_that_does_not_stop_is_stopped_by_harder_means_or_refused, "NVMe 3.1.6",
             NULL),
    HOST_ROW(Any_silence_during_the_start_ends_it_and_frees_everything, "N1", NULL),
    HOST_ROW(Any_failed_admin_command_ends_the_start_and_frees_everything, "N1", NULL),
    HOST_ROW(Any_failed_allocation_ends_the_start_and_frees_everything, "N1", NULL),
    HOST_ROW(A_start_that_the_bus_refuses_touches_nothing, "contract 11.1.2", NULL),
    HOST_ROW(A_namespace_with_metadata_is_passed_over, "NVMe 5.15", NULL),
    HOST_ROW(A_namespace_whose_blocks_are_of_no_use_is_no_disk, "NVMe 5.15", NULL),
    HOST_ROW(A_stopped_device_refuses_requests_and_can_be_started_again, "contract 11.1.2", NULL),
    HOST_ROW(A_controller_that_does_not_shut_down_is_stopped_all_the_same, "N1", NULL),
    HOST_ROW(Random_transfers_move_exactly_the_bytes_they_should, "N3", NULL),
    HOST_ROW(A_command_that_fills_its_list_page_is_not_chained, "NVMe 4.3", NULL),
    HOST_ROW(A_flush_reaches_the_controller, "NVMe 6.8", NULL),
    HOST_ROW(Requests_that_make_no_sense_are_refused_before_the_controller_sees_them, "NVMe 4.3",
             NULL),
    HOST_ROW(A_failed_command_fails_its_request_and_nothing_else, "NVMe 4.6.1", NULL),
    HOST_ROW(A_command_that_hangs_ends_after_a_reset_and_the_others_succeed, "N2 R1", NULL),
    HOST_ROW(A_command_that_hangs_is_aborted_by_a_controller_that_can, "NVMe 5.1", NULL),
    HOST_ROW(An_admin_command_that_is_not_answered_in_time_hits_nothing_later, "A1 A2", NULL),
    HOST_ROW(A_late_answer_is_an_answer, "R1", NULL),
    HOST_ROW(Commands_that_were_under_way_at_a_reset_are_given_to_the_controller_again, "R2", NULL),
    HOST_ROW(A_command_that_kills_the_controller_each_time_ends_with_an_error, "R3", NULL),
    HOST_ROW(A_completion_from_before_the_reset_does_not_end_a_command_of_after_it, "N3 R2", NULL),
    HOST_ROW(A_completion_that_nobody_waits_for_is_counted_dropped_and_survived, "N3", NULL),
    HOST_ROW(A_completion_without_an_interrupt_is_found_and_later_ones_are_polled, "-", NULL),
    HOST_ROW(A_controller_that_is_pulled_out_ends_every_request, "N1", NULL),
    HOST_ROW(An_idle_controller_that_is_pulled_out_is_missed, "-", NULL),
    HOST_ROW(A_surprise_removal_ends_every_request_at_once, "N1", NULL),
    HOST_ROW(A_hung_command_ends_only_when_its_memory_is_safe, "N1 N2 R1", NULL),
    HOST_ROW(A_restart_revives_a_controller_that_was_given_up, "N1", NULL),
    HOST_ROW(A_reset_on_request_loses_no_command, "R2", NULL),
    HOST_ROW(A_reset_needs_no_memory, "R4", NULL),
    HOST_ROW(A_recovery_that_fails_ends_every_request, "R5", NULL),
    HOST_ROW(The_timeout_can_be_set_within_bounds, "-", NULL),
    HOST_ROW(A_request_that_waits_is_cancelled_and_the_others_run, "-", NULL),
    HOST_ROW(A_request_that_is_being_cancelled_is_left_to_its_routine, "-", NULL),
    HOST_ROW(The_disk_tells_what_it_is, "contract 3.4.4", NULL),
    HOST_ROW(An_answer_goes_no_further_than_the_buffer, "contract 3.4.4", NULL),
};

HOST_DEFINE_SUITE(nvme);
