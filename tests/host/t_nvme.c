// The NVMe driver against a controller that exists only here: one that is as strict as the
// specification, where emulators are forgiving, and that can be told to misbehave.
//
// The driver's own files are compiled into this one, with the kernel below them replaced:
//
//   registers   Bar, plain memory; the controller looks at it whenever the driver asks for the time
//               or stalls, and sees the writes since then
//   frames      Arena; a frame's number is its address, and each has an owner or none
//   DMA         a logical address is another number than the physical one, and the controller must
//               never touch a frame that is not mapped for it: it is told off as a bug of the driver
//   time        a number that waits move on, so a timeout of ten seconds takes no time
//   thread      the driver's one runs when a request was sent, until it waits for the next one
//   IRPs        a stack of two devices: the driver's, and a bus that says yes
#include "tests/host/host.h"

#include <setjmp.h>

#include <ntddstor.h>

static LARGE_INTEGER NTAPI FakeCounter(PLARGE_INTEGER Frequency);
static NTSTATUS NTAPI FakeDelay(KPROCESSOR_MODE Mode, BOOLEAN Alertable, PLARGE_INTEGER Interval);
static NTSTATUS NTAPI FakeWait(PVOID Object, KWAIT_REASON Reason, KPROCESSOR_MODE Mode,
                               BOOLEAN Alertable, PLARGE_INTEGER Timeout);
static LONG NTAPI FakeSetEvent(PRKEVENT Event, KPRIORITY Increment, BOOLEAN Wait);
static BOOLEAN NTAPI FakeInsertDpc(PRKDPC Dpc, PVOID Argument1, PVOID Argument2);
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
static VOID NTAPI FakeRelease(PKSPIN_LOCK Lock, KIRQL Irql);
static PDMA_ADAPTER NTAPI FakeGetAdapter(PDEVICE_OBJECT Pdo, PDEVICE_DESCRIPTION Description,
                                         PULONG RegisterCount);
static PVOID NTAPI FakeMapRegisters(PHYSICAL_ADDRESS Pa, SIZE_T ByteCount, ULONG Protect);
static VOID NTAPI FakeUnmapRegisters(PVOID Va, SIZE_T ByteCount);
static NTSTATUS NTAPI FakeCreateDevice(PDRIVER_OBJECT Driver, ULONG ByteCount, PUNICODE_STRING Name,
                                       DEVICE_TYPE Type, ULONG Characteristics, BOOLEAN Exclusive,
                                       PDEVICE_OBJECT *Device);
static VOID NTAPI FakeDeleteDevice(PDEVICE_OBJECT Device);
static PDEVICE_OBJECT NTAPI FakeAttach(PDEVICE_OBJECT Source, PDEVICE_OBJECT Target);
static VOID NTAPI FakeDetach(PDEVICE_OBJECT Target);
static NTSTATUS NTAPI FakeCall(PDEVICE_OBJECT Device, PIRP Irp);
static VOID NTAPI FakeComplete(PIRP Irp, CCHAR Boost);
static BOOLEAN NTAPI FakeForward(PDEVICE_OBJECT Device, PIRP Irp);
static VOID NTAPI FakeReleaseCancel(KIRQL NewIrql);
static VOID NTAPI FakeInitializeRemove(PIO_REMOVE_LOCK Lock, ULONG Tag, ULONG Minutes, ULONG Mark,
                                       ULONG ByteCount);
static NTSTATUS NTAPI FakeAcquireRemove(PIO_REMOVE_LOCK Lock, PVOID Tag, PCSTR File, ULONG Line,
                                        ULONG ByteCount);
static VOID NTAPI FakeReleaseRemove(PIO_REMOVE_LOCK Lock, PVOID Tag, ULONG ByteCount);
static VOID NTAPI FakeReleaseRemoveAndWait(PIO_REMOVE_LOCK Lock, PVOID Tag, ULONG ByteCount);

#define KeQueryPerformanceCounter FakeCounter
#define KeDelayExecutionThread FakeDelay
#define KeWaitForSingleObject FakeWait
#define KeSetEvent FakeSetEvent
#define KeInitializeEvent(Event, Type, State) ((VOID)((Event)->Header.SignalState = (State)))
#define KeInitializeDpc(Dpc, Routine, Context)                                                     \
    ((VOID)((Dpc)->DeferredRoutine = (Routine), (Dpc)->DeferredContext = (Context)))
#define KeInsertQueueDpc FakeInsertDpc
#define KeFlushQueuedDpcs() ((VOID)0)
#define KfRaiseIrql FakeRaise
#define KeLowerIrql FakeLower
#define IoConnectInterruptEx FakeConnect
#define IoDisconnectInterruptEx FakeDisconnect
#define PsCreateSystemThread FakeCreateThread
#define PsTerminateSystemThread FakeEndThread
#define ObReferenceObjectByHandle FakeReference
#define ObfDereferenceObject(Object) ((VOID)(LiveThings -= 1))
#define ZwClose(Handle) STATUS_SUCCESS
#define KeAcquireSpinLockRaiseToDpc FakeAcquire
#define KeReleaseSpinLock FakeRelease
#define IoGetDmaAdapter FakeGetAdapter
#define MmMapIoSpaceEx FakeMapRegisters
#define MmUnmapIoSpace FakeUnmapRegisters
#define IoCreateDevice FakeCreateDevice
#define IoDeleteDevice FakeDeleteDevice
#define IoAttachDeviceToDeviceStack FakeAttach
#define IoDetachDevice FakeDetach
#define IofCallDriver FakeCall
#define IofCompleteRequest FakeComplete
#define IoForwardIrpSynchronously FakeForward
#define IoReleaseCancelSpinLock FakeReleaseCancel
#define IoInitializeRemoveLockEx FakeInitializeRemove
#define IoAcquireRemoveLockEx FakeAcquireRemove
#define IoReleaseRemoveLockEx FakeReleaseRemove
#define IoReleaseRemoveLockAndWaitEx FakeReleaseRemoveAndWait
#define DriverEntry NvmeDriverEntry

static ULONG LiveThings; // what the driver holds: devices, mappings, DMA adapters, lists, threads

#include "drivers/nvme/controller.c"
#include "drivers/nvme/interrupt.c"
#include "drivers/nvme/io.c"
#include "drivers/nvme/memory.c"
#include "drivers/nvme/nvme.c"
#include "drivers/nvme/queue.c"

// ------------------------------------------------------------------------------------------------
// Frames.

#define FRAME_COUNT 2048u

static DECLSPEC_ALIGN(PAGE_SIZE) UCHAR Arena[FRAME_COUNT * PAGE_SIZE];
static BOOLEAN FrameIsOwned[FRAME_COUNT];
static ULONG MappedCount[FRAME_COUNT]; // how often a frame is mapped for the controller
static ULONG AllocationsLeft;          // until one fails

static ULONG64 Random(ULONG64 Limit)
{
    static ULONG64 State = 0x9E3779B97F4A7C15ull;
    State ^= State << 13;
    State ^= State >> 7;
    State ^= State << 17;
    return State % Limit;
}

static BOOLEAN AllocationFails(VOID)
{
    return AllocationsLeft == 0 || --AllocationsLeft == 0;
}

// A logical address is that far from the physical one.
#define LOGICAL_DISTANCE (1ull << 40)

// The frame's memory, for the controller. Ends the test if it is not mapped for it.
static PUCHAR Dma(ULONG64 Address, ULONG ByteCount)
{
    const ULONG64 Offset = Address - LOGICAL_DISTANCE - (ULONG64)Arena;
    CHECK(Offset < sizeof(Arena));
    CHECK(Offset % PAGE_SIZE + ByteCount <= PAGE_SIZE);
    CHECK(MappedCount[Offset / PAGE_SIZE] != 0);
    return Arena + Offset;
}

static PMDL MakeMdl(ULONG FrameCount, ULONG ByteOffset, ULONG ByteCount)
{
    const PMDL Mdl = calloc(1, sizeof(MDL) + FrameCount * sizeof(PFN_NUMBER));
    Mdl->MdlFlags = MDL_PAGES_LOCKED;
    Mdl->ByteOffset = ByteOffset;
    Mdl->ByteCount = ByteCount;
    return Mdl;
}

// A buffer in frames of no order. Every byte of them is Fill.
static PMDL AllocateBuffer(ULONG ByteOffset, ULONG ByteCount, UCHAR Fill)
{
    const ULONG FrameCount = (ULONG)BYTES_TO_PAGES((ULONG64)ByteOffset + ByteCount);
    const PMDL Mdl = MakeMdl(FrameCount, ByteOffset, ByteCount);
    for (ULONG Index = 0; Index < FrameCount; Index += 1) {
        ULONG Frame = (ULONG)Random(FRAME_COUNT);
        while (FrameIsOwned[Frame]) {
            Frame = (Frame + 1) % FRAME_COUNT;
        }
        FrameIsOwned[Frame] = TRUE;
        memset(Arena + (SIZE_T)Frame * PAGE_SIZE, Fill, PAGE_SIZE);
        MmGetMdlPfnArray(Mdl)[Index] = (ULONG64)Arena / PAGE_SIZE + Frame;
    }
    return Mdl;
}

static ULONG BufferFrames(PMDL Mdl)
{
    return (ULONG)BYTES_TO_PAGES((ULONG64)Mdl->ByteOffset + Mdl->ByteCount);
}

static PUCHAR BufferFrame(PMDL Mdl, ULONG Index)
{
    return (PUCHAR)(MmGetMdlPfnArray(Mdl)[Index] << PAGE_SHIFT);
}

// The byte at an offset into the buffer, which may be negative down to the start of the frame.
static PUCHAR BufferByte(PMDL Mdl, LONG64 Offset)
{
    const ULONG64 Position = (ULONG64)(Mdl->ByteOffset + Offset);
    return BufferFrame(Mdl, (ULONG)(Position / PAGE_SIZE)) + Position % PAGE_SIZE;
}

static VOID FreeBuffer(PMDL Mdl)
{
    for (ULONG Index = 0; Index < BufferFrames(Mdl); Index += 1) {
        FrameIsOwned[(ULONG)(BufferFrame(Mdl, Index) - Arena) / PAGE_SIZE] = FALSE;
    }
    free(Mdl);
}

// ------------------------------------------------------------------------------------------------
// DMA.

static KIRQL Irql;
static ULONG RegistersGranted; // pages that may be mapped at a time
static ULONG RegistersUsed;
static PSCATTER_GATHER_LIST LastList; // kept here when the driver has to forget it

static ULONG FrameIndex(PMDL Mdl, ULONG Index)
{
    return (ULONG)(BufferFrame(Mdl, Index) - Arena) / PAGE_SIZE;
}

static VOID NTAPI FakePutAdapter(PDMA_ADAPTER Adapter)
{
    UNREFERENCED_PARAMETER(Adapter);
    CHECK_EQUAL(RegistersUsed, 0);
    LiveThings -= 1;
}

// At the beginning of Arena.
static PVOID NTAPI FakeAllocateCommon(PDMA_ADAPTER Adapter, ULONG ByteCount,
                                      PPHYSICAL_ADDRESS Address, BOOLEAN CacheEnabled)
{
    UNREFERENCED_PARAMETER(Adapter);
    CHECK(Irql == PASSIVE_LEVEL && CacheEnabled && ByteCount % PAGE_SIZE == 0);
    if (AllocationFails()) {
        return NULL;
    }
    LiveThings += 1;
    for (ULONG Frame = 0; Frame < ByteCount / PAGE_SIZE; Frame += 1) {
        CHECK(!FrameIsOwned[Frame]);
        FrameIsOwned[Frame] = TRUE;
        MappedCount[Frame] = 1;
    }
    memset(Arena, 0xCD, ByteCount);
    Address->QuadPart = (LONG64)(LOGICAL_DISTANCE + (ULONG64)Arena);
    return Arena;
}

static VOID NTAPI FakeFreeCommon(PDMA_ADAPTER Adapter, ULONG ByteCount, PHYSICAL_ADDRESS Address,
                                 PVOID Va, BOOLEAN CacheEnabled)
{
    UNREFERENCED_PARAMETER(Adapter);
    CHECK(Va == Arena && CacheEnabled);
    CHECK_EQUAL((ULONG64)Address.QuadPart, LOGICAL_DISTANCE + (ULONG64)Arena);
    LiveThings -= 1;
    for (ULONG Frame = 0; Frame < ByteCount / PAGE_SIZE; Frame += 1) {
        FrameIsOwned[Frame] = FALSE;
        MappedCount[Frame] = 0;
    }
}

static NTSTATUS NTAPI FakeInitializeContext(PDMA_ADAPTER Adapter, PVOID Context)
{
    UNREFERENCED_PARAMETER(Adapter);
    memset(Context, 0, DMA_TRANSFER_CONTEXT_SIZE_V1);
    return STATUS_SUCCESS;
}

// What a list is for, in front of it.
typedef struct _FAKE_LIST {
    PMDL Mdl;
    ULONG FirstFrame;
    ULONG FrameCount;
    BOOLEAN WriteToDevice;
    SCATTER_GATHER_LIST List;
} FAKE_LIST;

static VOID FillList(PSCATTER_GATHER_LIST List, PMDL Mdl, ULONG64 Start, ULONG ByteCount)
{
    for (ULONG Done = 0; Done < ByteCount;) {
        const ULONG64 At = Start + Done;
        const ULONG Part = NvmeSmaller(ByteCount - Done, PAGE_SIZE - (ULONG)(At % PAGE_SIZE));
        const ULONG64 Address =
            LOGICAL_DISTANCE + (ULONG64)BufferFrame(Mdl, (ULONG)(At / PAGE_SIZE)) + At % PAGE_SIZE;
        PSCATTER_GATHER_ELEMENT Last = &List->Elements[List->NumberOfElements];
        if (List->NumberOfElements != 0 &&
            (ULONG64)Last[-1].Address.QuadPart + Last[-1].Length == Address) {
            Last[-1].Length += Part;
        } else {
            Last->Address.QuadPart = (LONG64)Address;
            Last->Length = Part;
            List->NumberOfElements += 1;
        }
        Done += Part;
    }
}

static NTSTATUS NTAPI FakeGetList(PDMA_ADAPTER Adapter, PDEVICE_OBJECT Device, PVOID Context,
                                  PMDL Mdl, ULONGLONG Offset, ULONG ByteCount, ULONG Flags,
                                  PDRIVER_LIST_CONTROL Routine, PVOID RoutineContext,
                                  BOOLEAN WriteToDevice, PDMA_COMPLETION_ROUTINE Completion,
                                  PVOID CompletionContext, PSCATTER_GATHER_LIST *List)
{
    UNREFERENCED_PARAMETER(Adapter);
    UNREFERENCED_PARAMETER(Device);
    const ULONG64 Start = Mdl->ByteOffset + Offset;
    const ULONG FrameCount = (ULONG)BYTES_TO_PAGES(Start % PAGE_SIZE + ByteCount);
    CHECK(Routine == NULL && RoutineContext == NULL && Completion == NULL);
    CHECK(CompletionContext == NULL && (ULONG64)Context % 16 == 0);
    CHECK_EQUAL(Flags, DMA_SYNCHRONOUS_CALLBACK);
    CHECK(ByteCount != 0 && Offset + ByteCount <= Mdl->ByteCount);
    CHECK(FrameCount <= RegistersGranted);
    if (FrameCount > RegistersGranted - RegistersUsed || AllocationFails()) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    FAKE_LIST *Fake = calloc(1, sizeof(FAKE_LIST) + FrameCount * sizeof(SCATTER_GATHER_ELEMENT));
    Fake->Mdl = Mdl;
    Fake->FirstFrame = (ULONG)(Start / PAGE_SIZE);
    Fake->FrameCount = FrameCount;
    Fake->WriteToDevice = WriteToDevice;
    FillList(&Fake->List, Mdl, Start, ByteCount);
    for (ULONG Index = 0; Index < FrameCount; Index += 1) {
        MappedCount[FrameIndex(Mdl, Fake->FirstFrame + Index)] += 1;
    }
    RegistersUsed += FrameCount;
    LiveThings += 1;
    LastList = *List = &Fake->List;
    return STATUS_SUCCESS;
}

static VOID NTAPI FakePutList(PDMA_ADAPTER Adapter, PSCATTER_GATHER_LIST List,
                              BOOLEAN WriteToDevice)
{
    UNREFERENCED_PARAMETER(Adapter);
    FAKE_LIST *Fake = CONTAINING_RECORD(List, FAKE_LIST, List);
    CHECK_EQUAL(Irql, DISPATCH_LEVEL);
    CHECK_EQUAL(Fake->WriteToDevice, WriteToDevice);
    for (ULONG Index = 0; Index < Fake->FrameCount; Index += 1) {
        MappedCount[FrameIndex(Fake->Mdl, Fake->FirstFrame + Index)] -= 1;
    }
    RegistersUsed -= Fake->FrameCount;
    LiveThings -= 1;
    free(Fake);
}

static PDMA_ADAPTER NTAPI FakeGetAdapter(PDEVICE_OBJECT Pdo, PDEVICE_DESCRIPTION Description,
                                         PULONG RegisterCount)
{
    static DMA_OPERATIONS Operations = {
        .Size = sizeof(DMA_OPERATIONS),
        .PutDmaAdapter = FakePutAdapter,
        .AllocateCommonBuffer = FakeAllocateCommon,
        .FreeCommonBuffer = FakeFreeCommon,
        .InitializeDmaTransferContext = FakeInitializeContext,
        .GetScatterGatherListEx = FakeGetList,
        .PutScatterGatherList = FakePutList,
    };
    static DMA_ADAPTER Adapter = {1, sizeof(DMA_ADAPTER), &Operations};
    CHECK(Pdo != NULL && Irql == PASSIVE_LEVEL);
    CHECK_EQUAL(Description->Version, DEVICE_DESCRIPTION_VERSION3);
    CHECK(Description->Master && Description->ScatterGather && Description->Dma64BitAddresses);
    if (AllocationFails()) {
        return NULL;
    }
    LiveThings += 1;
    RegistersUsed = 0;
    *RegisterCount = RegistersGranted;
    return &Adapter;
}

// ------------------------------------------------------------------------------------------------
// Time, and locks.

static VOID RunController(VOID);

static LONG64 Now; // microseconds

static LARGE_INTEGER NTAPI FakeCounter(PLARGE_INTEGER Frequency)
{
    if (Frequency != NULL) {
        Frequency->QuadPart = 1000000;
    }
    RunController();
    return (LARGE_INTEGER){.QuadPart = Now};
}

static NTSTATUS NTAPI FakeDelay(KPROCESSOR_MODE Mode, BOOLEAN Alertable, PLARGE_INTEGER Interval)
{
    CHECK(Mode == KernelMode && !Alertable && Interval->QuadPart < 0);
    CHECK_EQUAL(Irql, PASSIVE_LEVEL);
    Now += -Interval->QuadPart / 10;
    return STATUS_SUCCESS;
}

static KIRQL NTAPI FakeRaise(KIRQL NewIrql)
{
    const KIRQL Old = Irql;
    CHECK(NewIrql >= Irql);
    Irql = NewIrql;
    return Old;
}

static VOID NTAPI FakeLower(KIRQL NewIrql)
{
    CHECK(NewIrql <= Irql);
    Irql = NewIrql;
}

static LONG NTAPI FakeSetEvent(PRKEVENT Event, KPRIORITY Increment, BOOLEAN Wait)
{
    CHECK(Increment >= 0 && !Wait);
    Event->Header.SignalState = 1;
    return 0;
}

// The driver's one thread: a routine that is run when it has something to do, and left when it waits
// for more. It keeps nothing on its stack meanwhile.
static struct {
    PKSTART_ROUTINE Routine; // NULL: there is no thread
    PVOID Context;
    BOOLEAN IsRunning;
    jmp_buf Left;
} Thread;

static NTSTATUS NTAPI FakeCreateThread(PHANDLE Handle, ULONG Access, POBJECT_ATTRIBUTES Attributes,
                                       HANDLE Process, PCLIENT_ID ClientId, PKSTART_ROUTINE Routine,
                                       PVOID Context)
{
    CHECK(Access != 0 && Attributes == NULL && Process == NULL && ClientId == NULL);
    CHECK(Thread.Routine == NULL && Irql == PASSIVE_LEVEL);
    if (AllocationFails()) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    Thread.Routine = Routine;
    Thread.Context = Context;
    *Handle = &Thread;
    return STATUS_SUCCESS;
}

static NTSTATUS NTAPI FakeReference(HANDLE Handle, ACCESS_MASK Access, POBJECT_TYPE Type,
                                    KPROCESSOR_MODE Mode, PVOID *Object,
                                    POBJECT_HANDLE_INFORMATION Information)
{
    CHECK(Handle == &Thread && Access != 0 && Type == NULL && Information == NULL);
    CHECK_EQUAL(Mode, KernelMode);
    LiveThings += 1;
    *Object = Handle;
    return STATUS_SUCCESS;
}

static VOID RunThread(VOID)
{
    CHECK(!Thread.IsRunning);
    if (Thread.Routine != NULL && setjmp(Thread.Left) == 0) {
        Thread.IsRunning = TRUE;
        Thread.Routine(Thread.Context);
        FAIL("the thread's routine returned");
    }
    Thread.IsRunning = FALSE;
}

static NTSTATUS NTAPI FakeEndThread(NTSTATUS Status)
{
    CHECK(Thread.IsRunning && NT_SUCCESS(Status));
    Thread.Routine = NULL;
    longjmp(Thread.Left, 1);
}

#define WAIT_STEP 50 // microseconds

// The thread without work is left; who waits for its end runs it; every other wait is for the
// controller, which works meanwhile.
static NTSTATUS NTAPI FakeWait(PVOID Object, KWAIT_REASON Reason, KPROCESSOR_MODE Mode,
                               BOOLEAN Alertable, PLARGE_INTEGER Timeout)
{
    CHECK(Reason == Executive && Mode == KernelMode && !Alertable && Irql == PASSIVE_LEVEL);
    if (Object == &Thread) {
        CHECK(Timeout == NULL);
        RunThread();
        CHECK(Thread.Routine == NULL);
        return STATUS_SUCCESS;
    }
    PKEVENT Event = Object;
    const LONG64 End = Timeout != NULL ? Now - Timeout->QuadPart / 10 : Now;
    RunController();
    while (Event->Header.SignalState == 0 && Now < End) {
        Now += WAIT_STEP;
        RunController();
    }
    if (Event->Header.SignalState == 0 && Timeout == NULL) {
        CHECK(Thread.IsRunning);
        longjmp(Thread.Left, 1);
    }
    const BOOLEAN IsSignalled = Event->Header.SignalState != 0;
    Event->Header.SignalState = 0;
    return IsSignalled ? STATUS_SUCCESS : STATUS_TIMEOUT;
}

// ------------------------------------------------------------------------------------------------
// Interrupts.

static struct {
    BOOLEAN IsLine; // else messages; what a test may set before the start
    BOOLEAN IsConnected;
    PKMESSAGE_SERVICE_ROUTINE Message;
    PKSERVICE_ROUTINE Line;
    PVOID Context;
} Interrupt;

static BOOLEAN NTAPI FakeInsertDpc(PRKDPC Dpc, PVOID Argument1, PVOID Argument2)
{
    const KIRQL Old = Irql;
    Irql = DISPATCH_LEVEL;
    Dpc->DeferredRoutine(Dpc, Dpc->DeferredContext, Argument1, Argument2);
    Irql = Old;
    return TRUE;
}

static NTSTATUS NTAPI FakeConnect(PIO_CONNECT_INTERRUPT_PARAMETERS Parameters)
{
    CHECK_EQUAL(Parameters->Version, CONNECT_MESSAGE_BASED);
    CHECK(Parameters->MessageBased.PhysicalDeviceObject != NULL && !Interrupt.IsConnected);
    if (AllocationFails()) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    LiveThings += 1;
    Interrupt.IsConnected = TRUE;
    Interrupt.Message = Parameters->MessageBased.MessageServiceRoutine;
    Interrupt.Line = Parameters->MessageBased.FallBackServiceRoutine;
    Interrupt.Context = Parameters->MessageBased.ServiceContext;
    *Parameters->MessageBased.ConnectionContext.Generic = &Interrupt;
    Parameters->Version = Interrupt.IsLine ? CONNECT_LINE_BASED : CONNECT_MESSAGE_BASED;
    return STATUS_SUCCESS;
}

static VOID NTAPI FakeDisconnect(PIO_DISCONNECT_INTERRUPT_PARAMETERS Parameters)
{
    CHECK(Parameters->ConnectionContext.Generic == &Interrupt && Interrupt.IsConnected);
    CHECK_EQUAL(Parameters->Version, Interrupt.IsLine ? CONNECT_LINE_BASED : CONNECT_MESSAGE_BASED);
    LiveThings -= 1;
    Interrupt.IsConnected = FALSE;
}

static KIRQL NTAPI FakeAcquire(PKSPIN_LOCK Lock)
{
    const KIRQL Old = Irql;
    CHECK_EQUAL(*Lock, 0);
    *Lock = 1;
    Irql = DISPATCH_LEVEL;
    return Old;
}

static VOID NTAPI FakeRelease(PKSPIN_LOCK Lock, KIRQL NewIrql)
{
    CHECK_EQUAL(*Lock, 1);
    *Lock = 0;
    Irql = NewIrql;
}

// ------------------------------------------------------------------------------------------------
// The controller.

#define BAR_BYTES 0x2000
#define BAR_ADDRESS 0xFEB00000ull
#define DISK_BYTES (4u << 20)
#define PENDING_COUNT 256

typedef enum _FAULT {
    FaultNone,
    FaultNeverReady,
    FaultNeverStops, // once enabled; answers until FaultSilent's count is over
    FaultFatalWhenEnabled,
    FaultNeverShutDown,
    FaultSilent,            // from command number FaultAt on nothing is answered
    FaultSilentFatal,       // ... and CSTS.CFS is set
    FaultSilentUnstoppable, // ... and RDY stays
    FaultRemovedOnes,       // ... and all registers read as ones
    FaultRemovedZeros,
    FaultWrongId, // command number FaultAt is first completed with an id that is not its own
    FaultTwice,   // command number FaultAt is completed twice
    FaultStatus,  // command number FaultAt fails with FaultStatusField
} FAULT;

typedef struct _RING {
    ULONG64 Submission;
    ULONG64 Completion;
    ULONG SubmissionEntries;
    ULONG CompletionEntries; // 0: no such queue
    ULONG FetchHead;         // of the submission queue
    ULONG PostTail;          // of the completion queue
    USHORT Phase;
    NVME_COMPLETION Pending[PENDING_COUNT]; // executed, not posted yet
    ULONG PendingCount;
} RING;

// What a test may set before the start.
static struct {
    ULONG64 Cap;
    ULONG Version;
    UCHAR TransferShift;
    UCHAR BlockShift;
    USHORT MetadataBytes; // of namespace 3
    ULONG NamespaceIds[4];
    FAULT Fault;
    ULONG FaultAt;
    USHORT FaultStatusField;
} Setup;

static DECLSPEC_ALIGN(PAGE_SIZE) UCHAR Bar[BAR_BYTES];
static UCHAR Disk[DISK_BYTES];
static RING Rings[2];
static ULONG CommandNumber;
static BOOLEAN IsEnabled;
static BOOLEAN IsSilent;
static CHAR Story[64]; // a letter for each thing that happened to the controller
static ULONG FlushCount;

static volatile NVME_REGISTERS *const Registers = (volatile NVME_REGISTERS *)Bar;

static VOID Tell(CHAR Letter)
{
    const SIZE_T Length = strlen(Story);
    if (Length + 1 < sizeof(Story)) {
        Story[Length] = Letter;
        Story[Length + 1] = '\0';
    }
}

static volatile ULONG *Doorbell(ULONG Index)
{
    return (volatile ULONG *)(Bar + 0x1000 + Index * NVME_CAP_DOORBELL_STRIDE(Setup.Cap));
}

static VOID PowerOn(VOID)
{
    memset(Bar, 0, sizeof(Bar));
    memset(Rings, 0, sizeof(Rings));
    Registers->Cap = Setup.Cap;
    Registers->Vs = Setup.Version;
    CommandNumber = 0;
    IsEnabled = FALSE;
    IsSilent = FALSE;
    Story[0] = '\0';
}

// A well-behaved controller of version 1.4: 1024 entries, 500 ms, namespaces 3 and 7.
static VOID Reset(VOID)
{
    memset(&Setup, 0, sizeof(Setup));
    Setup.Cap = 1ull << 37 | 1ull << 24 | 1023;
    Setup.Version = 0x10400;
    Setup.TransferShift = 5;
    Setup.BlockShift = 9;
    Setup.NamespaceIds[0] = 3;
    Setup.NamespaceIds[1] = 7;
    AllocationsLeft = MAXULONG;
    RegistersGranted = 1024;
    Interrupt.IsLine = FALSE;
    for (ULONG Index = 0; Index < DISK_BYTES; Index += 1) {
        Disk[Index] = (UCHAR)(Index * 7 ^ Index >> 9);
    }
}

// Copies between memory and the pages that a command describes. The driver's descriptions are held
// against the specification on the way.
static VOID Transfer(const NVME_COMMAND *Command, PUCHAR Data, ULONG ByteCount, BOOLEAN ToHost)
{
    CHECK_EQUAL(Command->Prp1 % 4, 0);
    ULONG Done = NvmeSmaller(ByteCount, PAGE_SIZE - (ULONG)(Command->Prp1 % PAGE_SIZE));
    PUCHAR Page = Dma(Command->Prp1, Done);
    memcpy(ToHost ? Page : Data, ToHost ? Data : Page, Done);

    const BOOLEAN HasList = ByteCount - Done > PAGE_SIZE;
    for (ULONG Entry = 0; Done < ByteCount; Entry += 1) {
        CHECK(Entry < PAGE_SIZE / 8); // else the last entry would be a link
        const ULONG64 Address =
            HasList ? *(ULONG64 *)Dma(Command->Prp2 + Entry * 8, 8) : Command->Prp2;
        const ULONG Part = NvmeSmaller(ByteCount - Done, PAGE_SIZE);
        CHECK_EQUAL(Address % PAGE_SIZE, 0);
        Page = Dma(Address, Part);
        memcpy(ToHost ? Page : Data + Done, ToHost ? Data + Done : Page, Part);
        Done += Part;
    }
}

static ULONG NamespaceBlocks(ULONG Id)
{
    return Id == 3 || Id == 7 ? DISK_BYTES >> Setup.BlockShift : 0;
}

static VOID Identify(const NVME_COMMAND *Command)
{
    UCHAR Data[PAGE_SIZE] = {0};
    NVME_IDENTIFY_CONTROLLER_DATA *Controller = (PVOID)Data;
    NVME_IDENTIFY_NAMESPACE_DATA *Namespace = (PVOID)Data;
    switch (Command->Cdw10) {
    case NVME_IDENTIFY_CONTROLLER:
        memcpy(Controller->SerialNumber, "S-12345             ", 20);
        memcpy(Controller->ModelNumber, "A strict controller                     ", 40);
        memcpy(Controller->FirmwareRevision, "1.0     ", 8);
        Controller->MaximumTransferShift = Setup.TransferShift;
        break;
    case NVME_IDENTIFY_ACTIVE_NAMESPACES:
        CHECK_EQUAL(Command->NamespaceId, 0);
        memcpy(Data, Setup.NamespaceIds, sizeof(Setup.NamespaceIds));
        break;
    case NVME_IDENTIFY_NAMESPACE:
        Namespace->BlockCount = NamespaceBlocks(Command->NamespaceId);
        Namespace->CurrentFormat = 2;
        Namespace->Formats[2].BlockShift = Setup.BlockShift;
        Namespace->Formats[2].MetadataByteCount =
            Command->NamespaceId == 3 ? Setup.MetadataBytes : 0;
        break;
    default:
        FAIL("identify 0x%x", Command->Cdw10);
    }
    Transfer(Command, Data, PAGE_SIZE, TRUE);
}

static VOID CreateQueue(const NVME_COMMAND *Command)
{
    RING *Ring = &Rings[1];
    const ULONG Entries = (Command->Cdw10 >> 16) + 1;
    CHECK_EQUAL(Command->Cdw10 & 0xFFFF, 1);
    CHECK(Entries >= 2 && Entries <= NVME_CAP_QUEUE_ENTRIES(Setup.Cap));
    CHECK_EQUAL(Command->Prp1 % PAGE_SIZE, 0);
    if (Command->Opcode == NVME_ADMIN_CREATE_COMPLETION_QUEUE) {
        CHECK_EQUAL(Command->Cdw11, 3); // contiguous, interrupts by message 0
        CHECK_EQUAL(Ring->CompletionEntries, 0);
        Ring->CompletionEntries = Entries;
        Ring->Completion = Command->Prp1;
        Ring->Phase = 1;
        Tell('C');
    } else {
        CHECK_EQUAL(Command->Cdw11, 0x10001); // contiguous, completes to queue 1
        CHECK(Ring->CompletionEntries != 0 && Ring->SubmissionEntries == 0);
        Ring->SubmissionEntries = Entries;
        Ring->Submission = Command->Prp1;
        Tell('S');
    }
}

static VOID DeleteQueue(const NVME_COMMAND *Command)
{
    RING *Ring = &Rings[1];
    CHECK_EQUAL(Command->Cdw10, 1);
    if (Command->Opcode == NVME_ADMIN_DELETE_SUBMISSION_QUEUE) {
        CHECK(Ring->SubmissionEntries != 0);
        Ring->SubmissionEntries = 0;
        Tell('s');
    } else {
        CHECK(Ring->SubmissionEntries == 0 && Ring->CompletionEntries != 0);
        Ring->CompletionEntries = 0;
        Tell('c');
    }
}

static VOID ExecuteAdmin(const NVME_COMMAND *Command)
{
    switch (Command->Opcode) {
    case NVME_ADMIN_IDENTIFY:
        Identify(Command);
        break;
    case NVME_ADMIN_SET_FEATURES:
        CHECK(Command->Cdw10 == NVME_FEATURE_QUEUE_COUNT && Command->Cdw11 == 0);
        break;
    case NVME_ADMIN_CREATE_COMPLETION_QUEUE:
    case NVME_ADMIN_CREATE_SUBMISSION_QUEUE:
        CreateQueue(Command);
        break;
    case NVME_ADMIN_DELETE_COMPLETION_QUEUE:
    case NVME_ADMIN_DELETE_SUBMISSION_QUEUE:
        DeleteQueue(Command);
        break;
    default:
        FAIL("admin command 0x%x", Command->Opcode);
    }
}

static VOID ExecuteIo(const NVME_COMMAND *Command)
{
    if (Command->Opcode == NVME_NVM_FLUSH) {
        CHECK(Command->Prp1 == 0 && Command->Cdw12 == 0);
        FlushCount += 1;
        return;
    }
    const ULONG64 First = Command->Cdw10 | (ULONG64)Command->Cdw11 << 32;
    const ULONG ByteCount = ((Command->Cdw12 & 0xFFFF) + 1) << Setup.BlockShift;
    CHECK(Command->Opcode == NVME_NVM_READ || Command->Opcode == NVME_NVM_WRITE);
    CHECK_EQUAL(Command->Cdw12 >> 16, 0);
    CHECK((First << Setup.BlockShift) + ByteCount <= DISK_BYTES);
    CHECK(Setup.TransferShift == 0 || (ULONG64)ByteCount >> PAGE_SHIFT >> Setup.TransferShift <= 1);
    Transfer(Command, Disk + (First << Setup.BlockShift), ByteCount,
             Command->Opcode == NVME_NVM_READ);
}

static VOID AddPending(RING *Ring, USHORT CommandId, USHORT Status)
{
    CHECK(Ring->PendingCount < PENDING_COUNT);
    Ring->Pending[Ring->PendingCount++] =
        (NVME_COMPLETION){.CommandId = CommandId, .Status = (USHORT)(Status << 1)};
}

static VOID BeginSilence(VOID)
{
    IsSilent = TRUE;
    if (Setup.Fault == FaultSilentFatal) {
        Registers->Csts |= NVME_CSTS_FATAL;
    }
    if (Setup.Fault == FaultRemovedOnes || Setup.Fault == FaultRemovedZeros) {
        memset(Bar, Setup.Fault == FaultRemovedOnes ? 0xFF : 0, sizeof(Bar));
    }
}

static VOID ExecuteCommand(ULONG QueueId, const NVME_COMMAND *Command)
{
    RING *Ring = &Rings[QueueId];
    const BOOLEAN IsFaulty = ++CommandNumber == Setup.FaultAt;
    CHECK_EQUAL(Command->Flags, 0);
    if (IsFaulty && Setup.Fault >= FaultSilent && Setup.Fault <= FaultRemovedZeros) {
        BeginSilence();
        return;
    }
    if (IsFaulty && Setup.Fault == FaultStatus) {
        AddPending(Ring, Command->CommandId, Setup.FaultStatusField);
        return;
    }
    if (IsFaulty && Setup.Fault == FaultWrongId) {
        AddPending(Ring, 0x1234, 0);
    }
    if (IsFaulty && Setup.Fault == FaultTwice) {
        AddPending(Ring, Command->CommandId, 0);
    }
    if (QueueId == 0) {
        ExecuteAdmin(Command);
    } else {
        CHECK_EQUAL(Command->NamespaceId, Setup.MetadataBytes == 0 ? 3 : 7);
        ExecuteIo(Command);
    }
    AddPending(Ring, Command->CommandId, 0);
}

// Posts one completion, any of those that wait: the driver must not count on an order.
static VOID PostCompletion(ULONG QueueId)
{
    RING *Ring = &Rings[QueueId];
    const ULONG Head = *Doorbell(2 * QueueId + 1);
    const ULONG Next = (Ring->PostTail + 1) % Ring->CompletionEntries;
    CHECK(Head < Ring->CompletionEntries);
    if (Next == Head) {
        return; // full
    }
    const ULONG Chosen = (ULONG)Random(Ring->PendingCount);
    NVME_COMPLETION Completion = Ring->Pending[Chosen];
    Ring->Pending[Chosen] = Ring->Pending[--Ring->PendingCount];
    Completion.Status |= Ring->Phase;
    Completion.SubmissionQueueId = (USHORT)QueueId;
    *(NVME_COMPLETION *)Dma(Ring->Completion + Ring->PostTail * 16, 16) = Completion;
    Ring->PostTail = Next;
    Ring->Phase ^= Next == 0;
    if (Interrupt.IsConnected && !Interrupt.IsLine) {
        CHECK(Interrupt.Message(NULL, Interrupt.Context, 0));
    }
}

// The line is held as long as a queue has completions; IntMs and IntMc mask it.
static VOID RaiseLine(VOID)
{
    static BOOLEAN IsMasked;
    IsMasked =
        (IsMasked || (Registers->IntMs & 1) != 0) && (Registers->IntMc & 1) == 0 && IsEnabled;
    Registers->IntMs = Registers->IntMc = 0;
    BOOLEAN IsHeld = FALSE;
    for (ULONG QueueId = 0; QueueId < ARRAYSIZE(Rings); QueueId += 1) {
        IsHeld |= Rings[QueueId].CompletionEntries != 0 &&
                  Rings[QueueId].PostTail != *Doorbell(2 * QueueId + 1);
    }
    if (!Interrupt.IsConnected || !Interrupt.IsLine || IsMasked) {
        return;
    }
    CHECK_EQUAL(Interrupt.Line(NULL, Interrupt.Context), IsHeld);
    CHECK_EQUAL(Registers->IntMs, IsHeld);
}

static VOID RunQueue(ULONG QueueId)
{
    RING *Ring = &Rings[QueueId];
    const ULONG Tail = *Doorbell(2 * QueueId);
    CHECK(Ring->SubmissionEntries == 0 ? Tail == 0 || IsSilent || QueueId == 1
                                       : Tail < Ring->SubmissionEntries);
    while (!IsSilent && Ring->SubmissionEntries != 0 && Ring->FetchHead != Tail) {
        const NVME_COMMAND Command =
            *(const NVME_COMMAND *)Dma(Ring->Submission + Ring->FetchHead * 64, 64);
        Ring->FetchHead = (Ring->FetchHead + 1) % Ring->SubmissionEntries;
        ExecuteCommand(QueueId, &Command);
    }
    if (!IsSilent && Ring->PendingCount != 0 && Ring->CompletionEntries != 0) {
        PostCompletion(QueueId);
    }
}

static VOID Enable(VOID)
{
    RING *Ring = &Rings[0];
    IsEnabled = TRUE;
    Tell('E');
    CHECK_EQUAL(Registers->Cc, 6u << 16 | 4u << 20 | NVME_CC_ENABLE);
    CHECK(Interrupt.IsConnected); // some look at their messages only now
    CHECK((Registers->Aqa & 0xF000F000) == 0);
    memset(Rings, 0, sizeof(Rings));
    memset(Bar + 0x1000, 0, 0x1000);
    Ring->Submission = Registers->Asq;
    Ring->Completion = Registers->Acq;
    Ring->SubmissionEntries = (Registers->Aqa & 0xFFF) + 1;
    Ring->CompletionEntries = (Registers->Aqa >> 16) + 1;
    Ring->Phase = 1;
    if (Setup.Fault == FaultFatalWhenEnabled) {
        Registers->Csts = NVME_CSTS_FATAL;
    } else if (Setup.Fault != FaultNeverReady) {
        Registers->Csts = NVME_CSTS_READY;
    }
}

static VOID Disable(VOID)
{
    if (Setup.Fault == FaultNeverStops || (IsSilent && Setup.Fault == FaultSilentUnstoppable)) {
        return;
    }
    IsEnabled = FALSE;
    IsSilent = FALSE;
    Tell('e');
    memset(Rings, 0, sizeof(Rings));
    Registers->Csts = 0;
    Registers->IntMs = 0;
}

static VOID ShutDown(VOID)
{
    if ((Registers->Csts & NVME_CSTS_SHUTDOWN_MASK) != 0 || Setup.Fault == FaultNeverShutDown) {
        return;
    }
    Tell('H');
    CHECK(Rings[1].SubmissionEntries == 0);
    Registers->Csts |= NVME_CSTS_SHUTDOWN_COMPLETE;
}

static VOID RunController(VOID)
{
    if (IsSilent && (Setup.Fault == FaultRemovedOnes || Setup.Fault == FaultRemovedZeros)) {
        return;
    }
    const BOOLEAN IsWanted = (Registers->Cc & NVME_CC_ENABLE) != 0;
    if (IsWanted && !IsEnabled) {
        Enable();
    } else if (!IsWanted && IsEnabled) {
        Disable();
    }
    if (IsEnabled && (Registers->Csts & NVME_CSTS_READY) != 0) {
        RunQueue(0);
        RunQueue(1);
        RaiseLine();
        if ((Registers->Cc & NVME_CC_SHUTDOWN_MASK) == NVME_CC_SHUTDOWN_NORMAL) {
            ShutDown();
        }
    }
}

static PVOID NTAPI FakeMapRegisters(PHYSICAL_ADDRESS Pa, SIZE_T ByteCount, ULONG Protect)
{
    CHECK_EQUAL(Pa.QuadPart, BAR_ADDRESS);
    CHECK_EQUAL(ByteCount, BAR_BYTES);
    CHECK_EQUAL(Protect, PAGE_READWRITE | PAGE_NOCACHE);
    if (AllocationFails()) {
        return NULL;
    }
    LiveThings += 1;
    return Bar;
}

static VOID NTAPI FakeUnmapRegisters(PVOID Va, SIZE_T ByteCount)
{
    CHECK(Va == Bar && ByteCount == BAR_BYTES);
    LiveThings -= 1;
}

// ------------------------------------------------------------------------------------------------
// Devices and IRPs.

static DRIVER_EXTENSION Extension;
static DRIVER_OBJECT Driver = {.DriverExtension = &Extension};
static DEVICE_OBJECT Bus = {.StackSize = 1};
static PDEVICE_OBJECT Top;
static NTSTATUS BusStatus;
static ULONG CompletedCount;
static ULONG OthersCompleted; // requests that end while the next one is dispatched

static NTSTATUS NTAPI FakeCreateDevice(PDRIVER_OBJECT Owner, ULONG ByteCount, PUNICODE_STRING Name,
                                       DEVICE_TYPE Type, ULONG Characteristics, BOOLEAN Exclusive,
                                       PDEVICE_OBJECT *Device)
{
    CHECK(Owner == &Driver && Name == NULL && !Exclusive);
    CHECK(Type == FILE_DEVICE_DISK && Characteristics == FILE_DEVICE_SECURE_OPEN);
    if (AllocationFails()) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    LiveThings += 1;
    *Device = aligned_alloc(16, ROUND_TO_PAGES(sizeof(DEVICE_OBJECT) + ByteCount));
    memset(*Device, 0, sizeof(DEVICE_OBJECT) + ByteCount);
    (*Device)->Flags = DO_DEVICE_INITIALIZING;
    (*Device)->DeviceExtension = *Device + 1;
    return STATUS_SUCCESS;
}

static VOID NTAPI FakeDeleteDevice(PDEVICE_OBJECT Device)
{
    LiveThings -= 1;
    free(Device);
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

// The remove lock: how many requests hold it. The last one who waits must find itself alone, because
// here nobody else runs.
static struct {
    LONG Count;
    BOOLEAN IsRemoved;
} Remove;

static VOID NTAPI FakeInitializeRemove(PIO_REMOVE_LOCK Lock, ULONG Tag, ULONG Minutes, ULONG Mark,
                                       ULONG ByteCount)
{
    CHECK(Lock != NULL && Tag != 0 && Minutes == 0 && Mark == 0);
    CHECK_EQUAL(ByteCount, sizeof(IO_REMOVE_LOCK));
    memset(&Remove, 0, sizeof(Remove));
}

static NTSTATUS NTAPI FakeAcquireRemove(PIO_REMOVE_LOCK Lock, PVOID Tag, PCSTR File, ULONG Line,
                                        ULONG ByteCount)
{
    CHECK(Lock != NULL && Tag != NULL && File != NULL && Line != 0 && ByteCount != 0);
    Remove.Count += Remove.IsRemoved ? 0 : 1;
    return Remove.IsRemoved ? STATUS_DELETE_PENDING : STATUS_SUCCESS;
}

static VOID NTAPI FakeReleaseRemove(PIO_REMOVE_LOCK Lock, PVOID Tag, ULONG ByteCount)
{
    CHECK(Lock != NULL && Tag != NULL && ByteCount != 0 && Remove.Count > 0);
    Remove.Count -= 1;
}

static VOID NTAPI FakeReleaseRemoveAndWait(PIO_REMOVE_LOCK Lock, PVOID Tag, ULONG ByteCount)
{
    FakeReleaseRemove(Lock, Tag, ByteCount);
    CHECK_EQUAL(Remove.Count, 0);
    Remove.IsRemoved = TRUE;
}

static VOID NTAPI FakeReleaseCancel(KIRQL NewIrql)
{
    CHECK_EQUAL(Irql, DISPATCH_LEVEL);
    Irql = NewIrql;
}

static NTSTATUS NTAPI FakeCall(PDEVICE_OBJECT Device, PIRP Irp)
{
    Irp->CurrentLocation -= 1;
    Irp->Tail.Overlay.CurrentStackLocation -= 1;
    if (Device == &Bus) {
        CompletedCount += 1;
        return Irp->IoStatus.Status;
    }
    const UCHAR Major = IoGetCurrentIrpStackLocation(Irp)->MajorFunction;
    return Driver.MajorFunction[Major](Device, Irp);
}

static VOID NTAPI FakeComplete(PIRP Irp, CCHAR Boost)
{
    CHECK(Irp->IoStatus.Status != STATUS_PENDING && Boost >= 0);
    CHECK(Irql == PASSIVE_LEVEL);
    CompletedCount += 1;
}

static BOOLEAN NTAPI FakeForward(PDEVICE_OBJECT Device, PIRP Irp)
{
    CHECK(Device == &Bus);
    Irp->IoStatus.Status = BusStatus;
    return TRUE;
}

// Sends an IRP to the driver and lets its thread run. STATUS_PENDING: it stays pending all the same.
static NTSTATUS Send(UCHAR Major, UCHAR Minor, IO_STACK_LOCATION Location, PMDL Mdl, PVOID Buffer,
                     ULONG_PTR *Information)
{
    struct {
        IRP Irp;
        IO_STACK_LOCATION Locations[2];
    } Request = {.Irp = {.MdlAddress = Mdl, .StackCount = 2, .CurrentLocation = 3}};
    Location.MajorFunction = Major;
    Location.MinorFunction = Minor;
    Request.Locations[1] = Location;
    Request.Irp.AssociatedIrp.SystemBuffer = Buffer;
    Request.Irp.IoStatus.Status = STATUS_NOT_SUPPORTED;
    Request.Irp.Tail.Overlay.CurrentStackLocation = &Request.Locations[2];
    const ULONG CompletedBefore = CompletedCount;
    NTSTATUS Status = FakeCall(Top, &Request.Irp);
    CHECK_EQUAL(CompletedCount, CompletedBefore + OthersCompleted + (Status != STATUS_PENDING));
    CHECK((Request.Locations[1].Control != 0) == (Status == STATUS_PENDING));
    if (Status == STATUS_PENDING) {
        RunThread();
        Status = CompletedCount != CompletedBefore ? Request.Irp.IoStatus.Status : STATUS_PENDING;
    }
    CHECK(Status == STATUS_PENDING || Request.Irp.IoStatus.Status == Status);
    if (Information != NULL) {
        *Information = Request.Irp.IoStatus.Information;
    }
    return Status;
}

static NTSTATUS SendPnp(UCHAR Minor)
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
    }
    return Send(IRP_MJ_PNP, Minor, Location, NULL, NULL, NULL);
}

static NTSTATUS SendTransfer(UCHAR Major, PMDL Mdl, LONG64 Offset, ULONG ByteCount)
{
    IO_STACK_LOCATION Location = {0};
    ULONG_PTR Information;
    Location.Parameters.Read.Length = ByteCount;
    Location.Parameters.Read.ByteOffset.QuadPart = Offset;
    const NTSTATUS Status = Send(Major, 0, Location, Mdl, NULL, &Information);
    CHECK_EQUAL(Information, NT_SUCCESS(Status) && Status != STATUS_PENDING ? ByteCount : 0);
    return Status;
}

static NTSTATUS SendIoctl(ULONG Code, PVOID Buffer, ULONG InputBytes, ULONG OutputBytes,
                          ULONG_PTR *Information)
{
    IO_STACK_LOCATION Location = {0};
    Location.Parameters.DeviceIoControl.IoControlCode = Code;
    Location.Parameters.DeviceIoControl.InputBufferLength = InputBytes;
    Location.Parameters.DeviceIoControl.OutputBufferLength = OutputBytes;
    return Send(IRP_MJ_DEVICE_CONTROL, 0, Location, NULL, Buffer, Information);
}

static VOID AddDevice(VOID)
{
    CHECK_EQUAL(NvmeDriverEntry(&Driver, NULL), STATUS_SUCCESS);
    CHECK_EQUAL(Extension.AddDevice(&Driver, &Bus), STATUS_SUCCESS);
    CHECK_EQUAL(Top->Flags, DO_DIRECT_IO);
}

static NTSTATUS AddAndStart(VOID)
{
    PowerOn();
    AddDevice();
    return SendPnp(IRP_MN_START_DEVICE);
}

// ... and expects success.
static VOID Start(VOID)
{
    CHECK_EQUAL(AddAndStart(), STATUS_SUCCESS);
}

static VOID RemoveAndCheckNothingIsHeld(VOID)
{
    CHECK_EQUAL(SendPnp(IRP_MN_REMOVE_DEVICE), STATUS_SUCCESS);
    CHECK_EQUAL(LiveThings, 0);
}

// ------------------------------------------------------------------------------------------------
// Bring-up and its refusals.

static VOID A_disk_is_brought_up_and_down_in_the_order_of_the_specification(VOID)
{
    Reset();
    Start();
    CHECK_TEXT(Story, "ECS");
    CHECK_EQUAL(Top->SectorSize, 512);
    RemoveAndCheckNothingIsHeld();
    CHECK_TEXT(Story, "ECSscHe");
    CHECK_EQUAL(Registers->Cc & (NVME_CC_ENABLE | NVME_CC_SHUTDOWN_MASK), 0);
}

static VOID A_controller_that_firmware_left_enabled_is_reset_first(VOID)
{
    Reset();
    PowerOn();
    Registers->Cc = NVME_CC_ENABLE;
    Registers->Csts = NVME_CSTS_READY;
    IsEnabled = TRUE;
    AddDevice();
    CHECK_EQUAL(SendPnp(IRP_MN_START_DEVICE), STATUS_SUCCESS);
    CHECK_TEXT(Story, "eECS");
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
    {0, 0, 0x10400, FaultNeverReady, STATUS_IO_TIMEOUT, 500, 502},
    {7ull << 24, 0, 0x10400, FaultNeverReady, STATUS_IO_TIMEOUT, 3500, 3502},
    {0, 0xFFull << 24, 0x10400, FaultNeverReady, STATUS_IO_TIMEOUT, 500, 502}, // CAP.TO of 0
    {0, 0, 0x10400, FaultFatalWhenEnabled, STATUS_DEVICE_HARDWARE_ERROR, 0, 1},
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
        CHECK_EQUAL(SendTransfer(IRP_MJ_READ, NULL, 0, 512), STATUS_DEVICE_NOT_READY);
        RemoveAndCheckNothingIsHeld();
    }
}

static VOID A_controller_that_does_not_stop_at_all_is_refused(VOID)
{
    Reset();
    PowerOn();
    Registers->Cc = NVME_CC_ENABLE;
    Registers->Csts = NVME_CSTS_READY;
    IsEnabled = TRUE;
    Setup.Fault = FaultNeverStops;
    AddDevice();
    CHECK_EQUAL(SendPnp(IRP_MN_START_DEVICE), STATUS_IO_TIMEOUT);
    RemoveAndCheckNothingIsHeld();
}

static VOID Any_silence_during_the_start_ends_it_and_frees_everything(VOID)
{
    static const FAULT Faults[] = {FaultSilent, FaultSilentFatal, FaultRemovedOnes,
                                   FaultRemovedZeros};
    static const NTSTATUS Expected[] = {STATUS_IO_TIMEOUT, STATUS_DEVICE_HARDWARE_ERROR,
                                        STATUS_DEVICE_NOT_CONNECTED, STATUS_DEVICE_NOT_CONNECTED};
    for (ULONG Row = 0; Row < ARRAYSIZE(Faults); Row += 1) {
        NTSTATUS Status = STATUS_UNSUCCESSFUL;
        for (ULONG At = 1; Status != STATUS_SUCCESS; At += 1) {
            Reset();
            Setup.Fault = Faults[Row];
            Setup.FaultAt = At;
            Status = AddAndStart();
            CHECK(Status == STATUS_SUCCESS || Status == Expected[Row]);
            CHECK(At <= 7); // identify 3, set features, create 2: the seventh is past the start
            if (Status != STATUS_SUCCESS) {
                RemoveAndCheckNothingIsHeld();
            }
        }
        Setup.Fault = FaultNone;
        RemoveAndCheckNothingIsHeld();
    }
}

static VOID Any_failed_admin_command_ends_the_start_and_frees_everything(VOID)
{
    for (ULONG At = 1; At <= 6; At += 1) {
        Reset();
        Setup.Fault = FaultStatus;
        Setup.FaultAt = At;
        Setup.FaultStatusField = 0x06; // internal error
        CHECK_EQUAL(AddAndStart(), STATUS_DEVICE_HARDWARE_ERROR);
        RemoveAndCheckNothingIsHeld();
    }
}

static VOID Any_failed_allocation_ends_the_start_and_frees_everything(VOID)
{
    NTSTATUS Status = STATUS_UNSUCCESSFUL;
    for (ULONG Nth = 1; Status != STATUS_SUCCESS; Nth += 1) {
        Reset();
        PowerOn();
        AllocationsLeft = Nth;
        CHECK_EQUAL(NvmeDriverEntry(&Driver, NULL), STATUS_SUCCESS);
        Status = Extension.AddDevice(&Driver, &Bus);
        if (NT_SUCCESS(Status)) {
            Status = SendPnp(IRP_MN_START_DEVICE);
            CHECK_EQUAL(SendPnp(IRP_MN_REMOVE_DEVICE), STATUS_SUCCESS);
        }
        CHECK_EQUAL(LiveThings, 0);
        CHECK(Status == STATUS_SUCCESS || !NT_SUCCESS(Status));
        CHECK(Nth <= 8);
    }
}

static VOID A_start_that_the_bus_refuses_touches_nothing(VOID)
{
    Reset();
    BusStatus = STATUS_DEVICE_NOT_READY;
    CHECK_EQUAL(AddAndStart(), STATUS_DEVICE_NOT_READY);
    CHECK_TEXT(Story, "");
    RemoveAndCheckNothingIsHeld();
}

static VOID A_namespace_with_metadata_is_passed_over(VOID)
{
    Reset();
    Setup.MetadataBytes = 8;
    Start();
    CHECK(strstr(HostPrinted(), "namespace 3 is passed over") != NULL);
    CHECK(strstr(HostPrinted(), "namespace 7, 8192 blocks") != NULL);
    RemoveAndCheckNothingIsHeld();
}

static VOID A_controller_without_a_usable_namespace_is_refused(VOID)
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
        CHECK_EQUAL(AddAndStart(), STATUS_NO_MEDIA_IN_DEVICE);
        RemoveAndCheckNothingIsHeld();
    }
}

static VOID A_stopped_device_refuses_requests_and_can_be_started_again(VOID)
{
    Reset();
    Start();
    const PMDL Mdl = AllocateBuffer(0, 4096, 0);
    CHECK_EQUAL(SendPnp(IRP_MN_STOP_DEVICE), STATUS_SUCCESS);
    CHECK_EQUAL(LiveThings, 1); // the device object
    CHECK_EQUAL(SendTransfer(IRP_MJ_READ, Mdl, 0, 4096), STATUS_DEVICE_NOT_READY);
    for (ULONG Round = 0; Round < 3; Round += 1) {
        CHECK_EQUAL(SendPnp(IRP_MN_START_DEVICE), STATUS_SUCCESS); // over a started one, too
        CHECK_EQUAL(SendTransfer(IRP_MJ_READ, Mdl, 0, 4096), STATUS_SUCCESS);
    }
    FreeBuffer(Mdl);
    RemoveAndCheckNothingIsHeld();
}

static VOID A_controller_that_does_not_shut_down_is_stopped_all_the_same(VOID)
{
    Reset();
    Setup.Fault = FaultNeverShutDown;
    Start();
    RemoveAndCheckNothingIsHeld();
    CHECK_TEXT(Story, "ECSsce");
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
    CHECK_EQUAL(Send(IRP_MJ_FLUSH_BUFFERS, 0, Location, NULL, NULL, NULL), STATUS_SUCCESS);
    CHECK_EQUAL(FlushCount, 1);
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
    const ULONG CommandsBefore = CommandNumber;
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
    CHECK_EQUAL(CommandNumber, CommandsBefore);
    RemoveAndCheckNothingIsHeld();
}

// ------------------------------------------------------------------------------------------------
// Errors while it runs.

#define START_COMMANDS 6 // what a start with one namespace takes

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
        Setup.FaultAt = START_COMMANDS + 1 + (ULONG)Random(4); // of five in the request
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

static VOID A_command_without_answer_gives_the_controller_up(VOID)
{
    static const struct {
        FAULT Fault;
        NTSTATUS Expected;
        LONG64 LeastMilliseconds;
    } Rows[] = {
        {FaultSilent, STATUS_IO_TIMEOUT, 10000},
        {FaultSilentFatal, STATUS_DEVICE_HARDWARE_ERROR, 0},
        {FaultRemovedOnes, STATUS_DEVICE_NOT_CONNECTED, 0},
        {FaultRemovedZeros, STATUS_DEVICE_NOT_CONNECTED, 0},
    };
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        Reset();
        Setup.Fault = Rows[Row].Fault;
        Setup.FaultAt = START_COMMANDS + 2;
        Start();
        const PMDL Mdl = AllocateBuffer(0, 640 << 10, 0);
        const LONG64 Before = Now;
        CHECK_EQUAL(SendTransfer(IRP_MJ_READ, Mdl, 0, 640 << 10), Rows[Row].Expected);
        CHECK((Now - Before) / 1000 >= Rows[Row].LeastMilliseconds);
        CHECK((Now - Before) / 1000 <= Rows[Row].LeastMilliseconds + NVME_HEALTH_INTERVAL + 1);
        FreeBuffer(Mdl); // the controller must not write to it any more
        CHECK_EQUAL(SendTransfer(IRP_MJ_READ, NULL, 0, 512), STATUS_DEVICE_NOT_READY);
        RemoveAndCheckNothingIsHeld();
    }
}

static VOID A_restart_revives_a_controller_that_was_given_up(VOID)
{
    Reset();
    Setup.Fault = FaultSilent;
    Setup.FaultAt = START_COMMANDS + 1;
    Start();
    const PMDL Mdl = AllocateBuffer(0, 4096, 0);
    CHECK_EQUAL(SendTransfer(IRP_MJ_READ, Mdl, 0, 4096), STATUS_IO_TIMEOUT);
    CHECK_EQUAL(SendPnp(IRP_MN_STOP_DEVICE), STATUS_SUCCESS);
    CHECK_EQUAL(SendPnp(IRP_MN_START_DEVICE), STATUS_SUCCESS);
    CHECK_EQUAL(SendTransfer(IRP_MJ_READ, Mdl, 0, 4096), STATUS_SUCCESS);
    FreeBuffer(Mdl);
    RemoveAndCheckNothingIsHeld();
}

static VOID Memory_of_a_controller_that_does_not_stop_is_never_given_back(VOID)
{
    Reset();
    Setup.Fault = FaultSilentUnstoppable;
    Setup.FaultAt = START_COMMANDS + 1;
    Start();
    const PMDL Mdl = AllocateBuffer(0, 4096, 0);
    CHECK_EQUAL(SendTransfer(IRP_MJ_READ, Mdl, 0, 4096), STATUS_PENDING);
    CHECK_EQUAL(SendTransfer(IRP_MJ_READ, Mdl, 0, 4096), STATUS_DEVICE_NOT_READY);
    HostForgetPrinted();
    CHECK_EQUAL(SendPnp(IRP_MN_REMOVE_DEVICE), STATUS_SUCCESS);
    CHECK_EQUAL(LiveThings, 3); // the adapter, the pages, the list of the request
    CHECK(FrameIsOwned[0]);
    CHECK(strstr(HostPrinted(), "pages are lost") != NULL);
    // Late, and harmless: the frames are still the controller's.
    Setup.Fault = FaultNone;
    IsSilent = FALSE;
    RunController();
    free(CONTAINING_RECORD(LastList, FAKE_LIST, List));
    FreeBuffer(Mdl);
}

static VOID A_completion_that_nobody_waits_for_is_reported_and_survived(VOID)
{
    static const FAULT Faults[] = {FaultWrongId, FaultTwice};
    for (ULONG Row = 0; Row < ARRAYSIZE(Faults); Row += 1) {
        Reset();
        Setup.Fault = Faults[Row];
        Setup.FaultAt = START_COMMANDS + 1;
        Start();
        const PMDL Mdl = AllocateBuffer(0, 640 << 10, 0);
        const NTSTATUS First = SendTransfer(IRP_MJ_READ, Mdl, 0, 640 << 10);
        const NTSTATUS Second = SendTransfer(IRP_MJ_READ, Mdl, 0, 640 << 10);
        CHECK(First == STATUS_DEVICE_PROTOCOL_ERROR || Second == STATUS_DEVICE_PROTOCOL_ERROR);
        CHECK(strstr(HostPrinted(), "which was not under way") != NULL);
        FreeBuffer(Mdl);
        RemoveAndCheckNothingIsHeld();
    }
}

static VOID A_removed_controller_is_let_go_without_a_wait(VOID)
{
    static const UCHAR Bytes[] = {0x00, 0xFF};
    for (ULONG Row = 0; Row < ARRAYSIZE(Bytes); Row += 1) {
        Reset();
        Start();
        IsSilent = TRUE;
        Setup.Fault = FaultRemovedOnes;
        memset(Bar, Bytes[Row], sizeof(Bar));
        const LONG64 Before = Now;
        CHECK_EQUAL(SendPnp(IRP_MN_SURPRISE_REMOVAL), STATUS_SUCCESS);
        CHECK_EQUAL(SendTransfer(IRP_MJ_READ, NULL, 0, 512), STATUS_DEVICE_NOT_READY);
        RemoveAndCheckNothingIsHeld();
        CHECK_EQUAL(Now, Before);
    }
}

// Requests that wait: sent, and the thread has not run yet.
#define WAITING_COUNT 5
#define WAITING_BYTES 4096

static struct {
    IRP Irp;
    IO_STACK_LOCATION Locations[2];
} Waiting[WAITING_COUNT];

static VOID SendWithoutRunning(ULONG Index, BOOLEAN IsCancelled, NTSTATUS Expected)
{
    const PIRP Irp = &Waiting[Index].Irp;
    memset(&Waiting[Index], 0, sizeof(Waiting[Index]));
    Irp->StackCount = 2;
    Irp->CurrentLocation = 3;
    Irp->Cancel = IsCancelled;
    Irp->MdlAddress = AllocateBuffer(0, WAITING_BYTES, 0);
    Irp->IoStatus.Status = STATUS_PENDING;
    Irp->Tail.Overlay.CurrentStackLocation = &Waiting[Index].Locations[2];
    Waiting[Index].Locations[1].MajorFunction = IRP_MJ_READ;
    Waiting[Index].Locations[1].Parameters.Read.Length = WAITING_BYTES;
    CHECK_EQUAL(FakeCall(Top, Irp), STATUS_PENDING);
    CHECK_EQUAL(Irp->IoStatus.Status, Expected);
}

// As IoCancelIrp. FALSE: the driver has taken the routine back.
static BOOLEAN Cancel(ULONG Index)
{
    const PIRP Irp = &Waiting[Index].Irp;
    Irp->Cancel = TRUE;
    const PDRIVER_CANCEL Routine = IoSetCancelRoutine(Irp, NULL);
    if (Routine != NULL) {
        Irp->CancelIrql = Irql;
        Irql = DISPATCH_LEVEL;
        Routine(Top, Irp);
        CHECK_EQUAL(Irql, PASSIVE_LEVEL);
    }
    return Routine != NULL;
}

static VOID FreeWaiting(ULONG Count)
{
    for (ULONG Index = 0; Index < Count; Index += 1) {
        CHECK(Waiting[Index].Irp.CancelRoutine == NULL);
        FreeBuffer(Waiting[Index].Irp.MdlAddress);
    }
}

static VOID A_request_that_waits_is_cancelled_and_the_others_run(VOID)
{
    Reset();
    Start();
    const ULONG Before = CompletedCount;
    SendWithoutRunning(0, FALSE, STATUS_PENDING);
    SendWithoutRunning(1, FALSE, STATUS_PENDING);
    SendWithoutRunning(2, FALSE, STATUS_PENDING);
    SendWithoutRunning(3, TRUE, STATUS_CANCELLED);
    CHECK(Cancel(1));
    CHECK_EQUAL(CompletedCount, Before + 2);
    CHECK_EQUAL(Waiting[1].Irp.IoStatus.Status, STATUS_CANCELLED);
    RunThread();
    CHECK_EQUAL(CompletedCount, Before + 4);
    CHECK_EQUAL(Waiting[0].Irp.IoStatus.Status, STATUS_SUCCESS);
    CHECK_EQUAL(Waiting[2].Irp.IoStatus.Status, STATUS_SUCCESS);
    CHECK(!Cancel(0));
    FreeWaiting(4);
    RemoveAndCheckNothingIsHeld();
}

// The routine is taken by IoCancelIrp, and has not run yet, when the thread comes.
static VOID A_request_that_is_being_cancelled_is_left_to_its_routine(VOID)
{
    Reset();
    Start();
    SendWithoutRunning(0, FALSE, STATUS_PENDING);
    SendWithoutRunning(1, FALSE, STATUS_PENDING);
    Waiting[0].Irp.Cancel = TRUE;
    const PDRIVER_CANCEL Routine = IoSetCancelRoutine(&Waiting[0].Irp, NULL);
    CHECK(Routine != NULL);
    RunThread();
    CHECK_EQUAL(Waiting[0].Irp.IoStatus.Status, STATUS_PENDING);
    CHECK_EQUAL(Waiting[1].Irp.IoStatus.Status, STATUS_SUCCESS);
    Irql = DISPATCH_LEVEL;
    Routine(Top, &Waiting[0].Irp);
    CHECK_EQUAL(Waiting[0].Irp.IoStatus.Status, STATUS_CANCELLED);
    FreeWaiting(2);
    RemoveAndCheckNothingIsHeld();
}

static VOID A_surprise_removal_ends_every_request_that_waits(VOID)
{
    static const UCHAR Bytes[] = {0x00, 0xFF};
    for (ULONG Row = 0; Row < ARRAYSIZE(Bytes); Row += 1) {
        Reset();
        Start();
        const ULONG Before = CompletedCount;
        for (ULONG Index = 0; Index < WAITING_COUNT; Index += 1) {
            SendWithoutRunning(Index, FALSE, STATUS_PENDING);
        }
        IsSilent = TRUE;
        Setup.Fault = Bytes[Row] == 0 ? FaultRemovedZeros : FaultRemovedOnes;
        memset(Bar, Bytes[Row], sizeof(Bar));
        OthersCompleted = WAITING_COUNT;
        CHECK_EQUAL(SendPnp(IRP_MN_SURPRISE_REMOVAL), STATUS_SUCCESS);
        OthersCompleted = 0;
        CHECK_EQUAL(CompletedCount, Before + WAITING_COUNT + 1); // and the PnP request
        CHECK_EQUAL(Waiting[0].Irp.IoStatus.Status, STATUS_DEVICE_NOT_CONNECTED);
        for (ULONG Index = 1; Index < WAITING_COUNT; Index += 1) {
            CHECK_EQUAL(Waiting[Index].Irp.IoStatus.Status, STATUS_DEVICE_NOT_READY);
        }
        FreeWaiting(WAITING_COUNT);
        RemoveAndCheckNothingIsHeld();
    }
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
    CHECK_EQUAL(SendIoctl(IOCTL_DISK_GET_LENGTH_INFO, Buffer, 0, 8, &Information), STATUS_SUCCESS);
    CHECK_EQUAL(((PGET_LENGTH_INFORMATION)Buffer)->Length.QuadPart, DISK_BYTES);
    CHECK_EQUAL(Information, 8);
    CHECK_EQUAL(SendIoctl(IOCTL_DISK_GET_DRIVE_GEOMETRY, Buffer, 0, 24, &Information),
                STATUS_SUCCESS);
    const PDISK_GEOMETRY Geometry = (PDISK_GEOMETRY)Buffer;
    CHECK_EQUAL(Geometry->BytesPerSector, 4096);
    CHECK_EQUAL(Geometry->Cylinders.QuadPart * Geometry->TracksPerCylinder *
                    Geometry->SectorsPerTrack * Geometry->BytesPerSector,
                DISK_BYTES);

    STORAGE_PROPERTY_QUERY *Query = (PVOID)Buffer;
    *Query = (STORAGE_PROPERTY_QUERY){.PropertyId = StorageDeviceProperty};
    CHECK_EQUAL(SendIoctl(IOCTL_STORAGE_QUERY_PROPERTY, Buffer, 12, 256, &Information),
                STATUS_SUCCESS);
    const PSTORAGE_DEVICE_DESCRIPTOR Product = (PSTORAGE_DEVICE_DESCRIPTOR)Buffer;
    CHECK_EQUAL(Product->Size, Information);
    CHECK_TEXT((PCSTR)Buffer + Product->ProductIdOffset, "A strict controller");
    CHECK_TEXT((PCSTR)Buffer + Product->ProductRevisionOffset, "1.0");
    CHECK_TEXT((PCSTR)Buffer + Product->SerialNumberOffset, "S-12345");

    *Query = (STORAGE_PROPERTY_QUERY){.PropertyId = StorageAdapterProperty};
    CHECK_EQUAL(SendIoctl(IOCTL_STORAGE_QUERY_PROPERTY, Buffer, 12, 256, &Information),
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
        CHECK_EQUAL(SendIoctl(Rows[Row].Code, Buffer, Rows[Row].InputBytes, Rows[Row].OutputBytes,
                              &Information),
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
    HOST_ROW(A_controller_that_does_not_stop_at_all_is_refused, "NVMe 3.1.6", NULL),
    HOST_ROW(Any_silence_during_the_start_ends_it_and_frees_everything, "N1", NULL),
    HOST_ROW(Any_failed_admin_command_ends_the_start_and_frees_everything, "N1", NULL),
    HOST_ROW(Any_failed_allocation_ends_the_start_and_frees_everything, "N1", NULL),
    HOST_ROW(A_start_that_the_bus_refuses_touches_nothing, "contract 11.1.2", NULL),
    HOST_ROW(A_namespace_with_metadata_is_passed_over, "NVMe 5.15", NULL),
    HOST_ROW(A_controller_without_a_usable_namespace_is_refused, "NVMe 5.15", NULL),
    HOST_ROW(A_stopped_device_refuses_requests_and_can_be_started_again, "contract 11.1.2", NULL),
    HOST_ROW(A_controller_that_does_not_shut_down_is_stopped_all_the_same, "N1", NULL),
    HOST_ROW(Random_transfers_move_exactly_the_bytes_they_should, "N3", NULL),
    HOST_ROW(A_command_that_fills_its_list_page_is_not_chained, "NVMe 4.3", NULL),
    HOST_ROW(A_flush_reaches_the_controller, "NVMe 6.8", NULL),
    HOST_ROW(Requests_that_make_no_sense_are_refused_before_the_controller_sees_them, "NVMe 4.3",
             NULL),
    HOST_ROW(A_failed_command_fails_its_request_and_nothing_else, "NVMe 4.6.1", NULL),
    HOST_ROW(A_command_without_answer_gives_the_controller_up, "N2", NULL),
    HOST_ROW(A_restart_revives_a_controller_that_was_given_up, "N1", NULL),
    HOST_ROW(Memory_of_a_controller_that_does_not_stop_is_never_given_back, "N1 N2", NULL),
    HOST_ROW(A_completion_that_nobody_waits_for_is_reported_and_survived, "N3", NULL),
    HOST_ROW(A_removed_controller_is_let_go_without_a_wait, "N1", NULL),
    HOST_ROW(A_request_that_waits_is_cancelled_and_the_others_run, "-", NULL),
    HOST_ROW(A_request_that_is_being_cancelled_is_left_to_its_routine, "-", NULL),
    HOST_ROW(A_surprise_removal_ends_every_request_that_waits, "N1", NULL),
    HOST_ROW(The_disk_tells_what_it_is, "contract 3.4.4", NULL),
    HOST_ROW(An_answer_goes_no_further_than_the_buffer, "contract 3.4.4", NULL),
};

HOST_DEFINE_SUITE(nvme);
