// The benchmarks: the price of the kernel's own services, and the machinery for all of them (bench.h).
// Drivers have files of their own.
//
//   # calibration 21
//   # bench map-4K 812
//
// For a profile (tests/qemu/profile.py) each row's measured part lies between two marks, and says how
// many operations it is:
//
//   # units map-4K 65
#include "tests/kernel/bench.h"

#include "kernel/inc/interrupt.h"
#include "kernel/inc/ke.h"
#include "kernel/inc/ldr.h"
#include "kernel/inc/rtl.h"

ULONG64 KtBenchOverhead;

// A NOP that does nothing but carry a number, which tests/qemu/count.c looks for.
#define MARK_BEGIN 0x4D524B31u
#define MARK_END 0x4D524B32u
#define MARK(Number) __asm__ volatile("nopl %c0(%%rax,%%rax,1)" : : "i"(Number) : "memory")

ULONG64 KtTakeMedian(PULONG64 Values, ULONG Count)
{
    for (ULONG Index = 1; Index < Count; Index += 1) {
        const ULONG64 Value = Values[Index];
        ULONG Place = Index;
        for (; Place > 0 && Values[Place - 1] > Value; Place -= 1) {
            Values[Place] = Values[Place - 1];
        }
        Values[Place] = Value;
    }
    return Values[Count / 2];
}

ULONG64 KtMeasureMedian(KT_WORK *Work, PVOID Context)
{
    ULONG64 Cycles[KT_ROUND_COUNT];
    for (ULONG Round = 0; Round < KT_WARM_UP_ROUNDS; Round += 1) {
        Work(Context);
    }
    for (ULONG Round = 0; Round < KT_ROUND_COUNT; Round += 1) {
        const ULONG64 Start = KeReadCycles();
        Work(Context);
        Cycles[Round] = KeReadCycles() - Start;
    }
    return KtTakeMedian(Cycles, KT_ROUND_COUNT);
}

static VOID DoNothing(PVOID Context)
{
    UNREFERENCED_PARAMETER(Context);
}

BOOLEAN KtIsBenchWanted(PCSTR Name)
{
    CHAR Text[64];
    if (KeGetBootOption("row", Text, sizeof(Text))) {
        return RtlStringsEqual(Name, Text);
    }
    return !KeGetBootOption("filter", Text, sizeof(Text)) || RtlFindSubstring(Name, Text) != NULL;
}

VOID KtPrintBench(PCSTR Name, ULONG64 Value)
{
    DbgPrint("# bench %s %llu\n", Name, Value);
}

static VOID PrintMeasured(PCSTR Name, ULONG64 Cycles)
{
    KtPrintBench(Name, Cycles > KtBenchOverhead ? Cycles - KtBenchOverhead : 0);
}

BOOLEAN KtIsRating(VOID)
{
    return KeGetBootOption("rates", NULL, 0);
}

VOID KtPrintRate(PCSTR Name, ULONG64 Count, ULONG64 Cycles)
{
    DbgPrint("# rate %s %llu %llu\n", Name, Count, Cycles);
}

BOOLEAN KtIsOver(ULONG64 Start)
{
    return KeReadCycles() - Start >= KeGetCyclesPerSecond();
}

static VOID RateWork(PCSTR Name, KT_WORK *Work, PVOID Context)
{
    const ULONG64 Start = KeReadCycles();
    ULONG64 Count = 0;
    for (; !KtIsOver(Start); Count += KT_WARM_UP_ROUNDS) {
        for (ULONG Round = 0; Round < KT_WARM_UP_ROUNDS; Round += 1) {
            Work(Context);
        }
    }
    KtPrintRate(Name, Count, KeReadCycles() - Start);
}

VOID KtBench(PCSTR Name, KT_WORK *Work, PVOID Context)
{
    if (!KtIsBenchWanted(Name)) {
        return;
    }
    if (KtIsRating()) {
        RateWork(Name, Work, Context);
        return;
    }
    MARK(MARK_BEGIN);
    const ULONG64 Cycles = KtMeasureMedian(Work, Context);
    MARK(MARK_END);
    PrintMeasured(Name, Cycles);
    DbgPrint("# units %s %u\n", Name, KT_WARM_UP_ROUNDS + KT_ROUND_COUNT);
}

//
// Work with a device: whoever else has work has priority over the rounds, so that it counts; and the cost
// of a turn of the loop that waits is known, so that waiting does not.
//

#define AWAIT_TURNS 200000000u // some seconds
#define CALIBRATION_TURNS 1000u
#define GIVEN_TURNS 500000u // milliseconds, of virtual time and of real time

// Turns the loop until *Counter is at least Target. Returns the turns that were left. A function of its
// own, so that the turns to calibrate with are the same instructions, and that a profile shows the waiting.
static DECLSPEC_NOINLINE ULONG AwaitTurns(const volatile ULONG *Counter, ULONG Target, ULONG Turns)
{
    while (Turns != 0 && (LONG)(*Counter - Target) < 0) {
        Turns -= 1;
    }
    return Turns;
}

static ULONG64 CallCycles; // of no turn
static ULONG64 TurnCycles; // of CALIBRATION_TURNS turns

static VOID TurnFor(PVOID Context)
{
    const volatile ULONG Counter = 0;
    AwaitTurns(&Counter, 1, *(const ULONG *)Context);
}

// Before any device works: it would be measured, too.
static VOID CalibrateWaiting(VOID)
{
    ULONG Turns = 0;
    CallCycles = KtMeasureMedian(TurnFor, &Turns);
    Turns = CALIBRATION_TURNS;
    TurnCycles = KtMeasureMedian(TurnFor, &Turns) - CallCycles;
}

ULONG64 KtAwait(const volatile ULONG *Counter, ULONG Target, PBOOLEAN HasFailed)
{
    const ULONG64 Start = KeReadCycles();
    const ULONG Left = AwaitTurns(Counter, Target, AWAIT_TURNS);
    const ULONG64 Elapsed = KeReadCycles() - Start;
    const ULONG64 Waiting =
        CallCycles + (ULONG64)(AWAIT_TURNS - Left) * TurnCycles / CALIBRATION_TURNS;
    *HasFailed = *HasFailed || Left == 0;
    return Elapsed > Waiting ? Elapsed - Waiting : 0;
}

VOID KtGiveTime(VOID)
{
    const volatile ULONG Counter = 0;
    AwaitTurns(&Counter, 1, GIVEN_TURNS);
}

ULONG64 KtMeasureRounds(PCSTR Name, KT_ROUND *Round, PVOID Context, ULONG UnitCount)
{
    ULONG64 Cycles[KT_ROUND_COUNT];
    const BOOLEAN IsWanted = KtIsBenchWanted(Name); // else another row needs the figure
    const KPRIORITY Priority = KeSetPriorityThread(KeGetCurrentThread(), LOW_PRIORITY + 1);
    for (ULONG Index = 0; Index < KT_WARM_UP_ROUNDS; Index += 1) {
        Round(Context);
    }
    if (IsWanted) {
        MARK(MARK_BEGIN);
    }
    for (ULONG Index = 0; Index < KT_ROUND_COUNT; Index += 1) {
        Cycles[Index] = Round(Context);
    }
    if (IsWanted) {
        MARK(MARK_END);
    }
    KeSetPriorityThread(KeGetCurrentThread(), Priority);
    DbgPrint("# units %s %u\n", Name, KT_ROUND_COUNT * UnitCount);
    return KtTakeMedian(Cycles, KT_ROUND_COUNT);
}

VOID KtBenchRounds(PCSTR Name, KT_ROUND *Round, PVOID Context, ULONG UnitCount)
{
    if (KtIsBenchWanted(Name)) {
        const ULONG64 Cycles = KtMeasureRounds(Name, Round, Context, UnitCount);
        KtPrintBench(Name, (Cycles + UnitCount / 2) / UnitCount);
    }
}

VOID KtPrintImage(const DRIVER_OBJECT *Driver)
{
    const LDR_IMAGE *const Image = LdrFindImage((ULONG_PTR)Driver->DriverStart);
    if (Image != NULL) {
        DbgPrint("# image %s 0x%llx %llu\n", Image->Name, (ULONG64)Image->Base,
                 (ULONG64)Image->ByteCount);
    }
}

//
// Device memory, mapped and unmapped.
//

typedef struct _IO_WORK {
    PHYSICAL_ADDRESS Address;
    SIZE_T ByteCount;
} IO_WORK;

static VOID MapAndUnmapIo(PVOID Context)
{
    const IO_WORK *Io = Context;
    PVOID Va = MmMapIoSpaceEx(Io->Address, Io->ByteCount, PAGE_READWRITE | PAGE_NOCACHE);
    if (Va != NULL) {
        MmUnmapIoSpace(Va, Io->ByteCount);
    }
}

static const struct {
    PCSTR Name;
    SIZE_T ByteCount;
} IoRows[] = {
    {"map-4K", 4 * KT_KIB},   {"map-64K", 64 * KT_KIB},   {"map-2M", 2 * KT_MIB},
    {"map-16M", 16 * KT_MIB}, {"map-256M", 256 * KT_MIB}, {"map-1G", KT_GIB},
};

static VOID MeasureIo(ULONG64 Gap)
{
    for (ULONG Row = 0; Row < ARRAYSIZE(IoRows); Row += 1) {
        IO_WORK Io = {KtPhysical(Gap), IoRows[Row].ByteCount};
        KtBench(IoRows[Row].Name, MapAndUnmapIo, &Io);
    }
}

//
// Never the same range twice in a row: nothing that was kept from the last mapping fits.
//

typedef struct _WALK_WORK {
    IO_WORK Io;
    ULONG64 FirstAddress;
    ULONG64 EndAddress;
} WALK_WORK;

static VOID MapAndUnmapNext(PVOID Context)
{
    WALK_WORK *Walk = Context;
    MapAndUnmapIo(&Walk->Io);
    Walk->Io.Address.QuadPart += (LONG64)Walk->Io.ByteCount;
    if ((ULONG64)Walk->Io.Address.QuadPart == Walk->EndAddress) {
        Walk->Io.Address.QuadPart = (LONG64)Walk->FirstAddress;
    }
}

static VOID MeasureWalk(PCSTR Name, ULONG64 Gap, SIZE_T ByteCount)
{
    WALK_WORK Walk = {{KtPhysical(Gap), ByteCount}, Gap, Gap + 16 * ByteCount};
    KtBench(Name, MapAndUnmapNext, &Walk);
}

//
// The same page with many other mappings live: of other pages, and of the same one.
//

#define LIVE_COUNT 10000u

static PVOID LiveMappings[LIVE_COUNT];

static VOID MeasureAmongOthers(PCSTR Name, ULONG64 Gap, ULONG64 Stride)
{
    IO_WORK Io = {KtPhysical(Gap), PAGE_SIZE};
    if (!KtIsBenchWanted(Name)) {
        return;
    }
    for (ULONG Index = 0; Index < LIVE_COUNT; Index += 1) {
        LiveMappings[Index] = MmMapIoSpaceEx(KtPhysical(Gap + (Index + 1) * Stride), PAGE_SIZE,
                                             PAGE_READWRITE | PAGE_NOCACHE);
    }
    KtBench(Name, MapAndUnmapIo, &Io);
    for (ULONG Index = 0; Index < LIVE_COUNT; Index += 1) {
        if (LiveMappings[Index] != NULL) {
            MmUnmapIoSpace(LiveMappings[Index], PAGE_SIZE);
        }
    }
}

//
// MDLs, mapped into a reservation and unmapped.
//

typedef struct _RESERVED_WORK {
    PVOID Base;
    PMDL Mdl;
} RESERVED_WORK;

static VOID MapAndUnmapReserved(PVOID Context)
{
    const RESERVED_WORK *Reserved = Context;
    if (MmMapLockedPagesWithReservedMapping(Reserved->Base, KT_TAG, Reserved->Mdl, MmCached) !=
        NULL) {
        MmUnmapReservedMapping(Reserved->Base, KT_TAG, Reserved->Mdl);
    }
}

static const struct {
    PCSTR Name;
    ULONG PageCount;
} ReservedRows[] = {
    {"reserved-1", 1},
    {"reserved-16", 16},
    {"reserved-256", 256},
    {"reserved-4096", 4096},
};

static VOID MeasureReserved(VOID)
{
    for (ULONG Row = 0; Row < ARRAYSIZE(ReservedRows); Row += 1) {
        const ULONG PageCount = ReservedRows[Row].PageCount;
        if (!KtIsBenchWanted(ReservedRows[Row].Name)) {
            continue;
        }
        RESERVED_WORK Work = {MmAllocateMappingAddress((SIZE_T)PageCount * PAGE_SIZE, KT_TAG),
                              KtAllocatePages(PageCount)};
        if (Work.Base == NULL || Work.Mdl == NULL) {
            DbgPrint("%s: too little memory\n", ReservedRows[Row].Name);
            return;
        }
        KtBench(ReservedRows[Row].Name, MapAndUnmapReserved, &Work);
        MmFreeMappingAddress(Work.Base, KT_TAG);
        KtFreePages(Work.Mdl);
    }
}

//
// An MDL of one page, mapped wherever there is room.
//

static VOID MapAndUnmapMdl(PVOID Context)
{
    PMDL Mdl = Context;
    PVOID Va = MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmCached, NULL, FALSE,
                                            NormalPagePriority | MdlMappingNoExecute);
    if (Va != NULL) {
        MmUnmapLockedPages(Va, Mdl);
    }
}

static VOID MeasureMdl(VOID)
{
    PMDL Mdl = KtIsBenchWanted("mdl-1") ? KtAllocatePages(1) : NULL;
    if (Mdl != NULL) {
        KtBench("mdl-1", MapAndUnmapMdl, Mdl);
        KtFreePages(Mdl);
    }
}

//
// A request through a stack of two devices, with a completion routine of its sender: made, sent, passed
// on, completed, freed.
//

static NTSTATUS NTAPI PassOn(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    IoSkipCurrentIrpStackLocation(Irp);
    return IoCallDriver(*(PDEVICE_OBJECT *)DeviceObject->DeviceExtension, Irp);
}

static NTSTATUS NTAPI Complete(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    Irp->IoStatus.Status = STATUS_SUCCESS;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
    return STATUS_SUCCESS;
}

static NTSTATUS NTAPI TakeBack(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    UNREFERENCED_PARAMETER(Irp);
    UNREFERENCED_PARAMETER(Context);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static VOID SendRequest(PVOID Context)
{
    const PDEVICE_OBJECT Top = Context;
    const PIRP Irp = IoAllocateIrp(Top->StackSize, FALSE);
    IoGetNextIrpStackLocation(Irp)->MajorFunction = IRP_MJ_READ;
    IoSetCompletionRoutine(Irp, TakeBack, NULL, TRUE, TRUE, TRUE);
    (VOID) IoCallDriver(Top, Irp);
    IoFreeIrp(Irp);
}

static VOID MeasureRequest(VOID)
{
    static KT_DRIVER Upper = KT_DRIVER_INITIALIZER(.MajorFunction[IRP_MJ_READ] = PassOn);
    static KT_DRIVER Lower = KT_DRIVER_INITIALIZER(.MajorFunction[IRP_MJ_READ] = Complete);
    PDEVICE_OBJECT Bottom;
    PDEVICE_OBJECT Top;
    if (!KtIsBenchWanted("irp-2") ||
        !NT_SUCCESS(
            IoCreateDevice(&Lower.Object, 0, NULL, FILE_DEVICE_UNKNOWN, 0, FALSE, &Bottom))) {
        return;
    }
    Bottom->Flags &= ~(ULONG)DO_DEVICE_INITIALIZING;
    if (NT_SUCCESS(IoCreateDevice(&Upper.Object, sizeof(PDEVICE_OBJECT), NULL, FILE_DEVICE_UNKNOWN,
                                  0, FALSE, &Top))) {
        *(PDEVICE_OBJECT *)Top->DeviceExtension = IoAttachDeviceToDeviceStack(Top, Bottom);
        KtBench("irp-2", SendRequest, Top);
        IoDetachDevice(Bottom);
        IoDeleteDevice(Top);
    }
    IoDeleteDevice(Bottom);
}

//
// The same by a sender that keeps its IRP, to a device that answers later: made anew, sent, pending,
// completed from what would be a DPC. And the locks that a driver takes on the way.
//

static PDEVICE_OBJECT ReusedTarget;
static PIRP PendingIrp;

static NTSTATUS NTAPI Queue(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    IoMarkIrpPending(Irp);
    PendingIrp = Irp;
    return STATUS_PENDING;
}

static VOID SendReused(PVOID Context)
{
    const PIRP Irp = Context;
    IoReuseIrp(Irp, STATUS_NOT_SUPPORTED);
    const PIO_STACK_LOCATION Stack = IoGetNextIrpStackLocation(Irp);
    Stack->MajorFunction = IRP_MJ_READ;
    Stack->Parameters.Read.Length = PAGE_SIZE;
    IoSetCompletionRoutine(Irp, TakeBack, NULL, TRUE, TRUE, TRUE);
    (VOID) IoCallDriver(ReusedTarget, Irp);
    PendingIrp->IoStatus.Status = STATUS_SUCCESS;
    PendingIrp->IoStatus.Information = PAGE_SIZE;
    IoCompleteRequest(PendingIrp, IO_NO_INCREMENT);
}

static VOID AcquireAndReleaseRemoveLock(PVOID Context)
{
    if (NT_SUCCESS(IoAcquireRemoveLock((PIO_REMOVE_LOCK)Context, NULL))) {
        IoReleaseRemoveLock((PIO_REMOVE_LOCK)Context, NULL);
    }
}

static VOID AcquireAndReleaseSpinLock(PVOID Context)
{
    KeAcquireSpinLockAtDpcLevel(Context);
    KeReleaseSpinLockFromDpcLevel(Context);
}

static VOID MeasureReused(VOID)
{
    static KT_DRIVER Driver = KT_DRIVER_INITIALIZER(.MajorFunction[IRP_MJ_READ] = Queue);
    KIRQL OldIrql;
    IO_REMOVE_LOCK RemoveLock;
    KSPIN_LOCK SpinLock = 0;
    const PIRP Irp = IoAllocateIrp(1, FALSE);
    if (Irp == NULL || !NT_SUCCESS(IoCreateDevice(&Driver.Object, 0, NULL, FILE_DEVICE_UNKNOWN, 0,
                                                  FALSE, &ReusedTarget))) {
        return;
    }
    ReusedTarget->Flags &= ~(ULONG)DO_DEVICE_INITIALIZING;
    IoInitializeRemoveLock(&RemoveLock, KT_TAG, 0, 0);
    KeRaiseIrql(DISPATCH_LEVEL, &OldIrql);
    KtBench("irp-1-reused", SendReused, Irp);
    KtBench("remove-lock", AcquireAndReleaseRemoveLock, &RemoveLock);
    KtBench("spin-lock-dpc", AcquireAndReleaseSpinLock, &SpinLock);
    KeLowerIrql(OldIrql);
    IoDeleteDevice(ReusedTarget);
    IoFreeIrp(Irp);
}

//
// From a device's interrupt to its DPC, and back to whoever was interrupted: the processor interrupts
// itself.
//

static BOOLEAN NTAPI QueueDpc(PKINTERRUPT Interrupt, PVOID ServiceContext)
{
    UNREFERENCED_PARAMETER(Interrupt);
    return KeInsertQueueDpc(ServiceContext, NULL, NULL);
}

static VOID NTAPI CountDpc(PKDPC Dpc, PVOID Context, PVOID SystemArgument1, PVOID SystemArgument2)
{
    UNREFERENCED_PARAMETER(Dpc);
    UNREFERENCED_PARAMETER(SystemArgument1);
    UNREFERENCED_PARAMETER(SystemArgument2);
    *(PULONG)Context += 1;
}

static VOID Interrupt(PVOID Context)
{
    KeArchRequestInterrupt(*(const ULONG *)Context);
}

static VOID MeasureInterrupt(VOID)
{
    static KI_INTERRUPT_SOURCE Source = {.Mode = Latched};
    ULONG Vector = KtIsBenchWanted("interrupt-dpc") ? KiReserveVectors(KiVectorsForMessages, 1) : 0;
    if (Vector == 0) {
        return;
    }
    KDPC Dpc;
    ULONG DpcCount = 0;
    PKINTERRUPT Object;
    KeInitializeDpc(&Dpc, CountDpc, &DpcCount);
    KiSetVectorSource(Vector, &Source);
    if (NT_SUCCESS(IoConnectInterrupt(&Object, QueueDpc, &Dpc, NULL, Vector, KiIrqlOfVector(Vector),
                                      KiIrqlOfVector(Vector), Latched, FALSE, 1, FALSE))) {
        KtBench("interrupt-dpc", Interrupt, &Vector);
        if (DpcCount != KT_WARM_UP_ROUNDS + KT_ROUND_COUNT) {
            DbgPrint("interrupt-dpc: %u DPCs ran\n", DpcCount);
        }
        IoDisconnectInterrupt(Object);
    }
}

//
// The dispatcher: two threads that hand the processor to each other, and what a thread does alone.
//

typedef struct _PING_PONG {
    KEVENT Ping;
    KEVENT Pong;
    volatile BOOLEAN IsOver;
} PING_PONG;

static VOID NTAPI AnswerPings(PVOID Context)
{
    PING_PONG *Game = Context;
    while (!Game->IsOver) {
        KeWaitForSingleObject(&Game->Ping, Executive, KernelMode, FALSE, NULL);
        KeSetEvent(&Game->Pong, IO_NO_INCREMENT, FALSE);
    }
}

static VOID Ping(PVOID Context)
{
    PING_PONG *Game = Context;
    KeSetEvent(&Game->Ping, IO_NO_INCREMENT, FALSE);
    KeWaitForSingleObject(&Game->Pong, Executive, KernelMode, FALSE, NULL);
}

static VOID NTAPI YieldForEver(PVOID Context)
{
    LARGE_INTEGER Zero = {.QuadPart = 0};
    const PING_PONG *Game = Context;
    while (!Game->IsOver) {
        KeDelayExecutionThread(KernelMode, FALSE, &Zero);
    }
}

static VOID Yield(PVOID Context)
{
    LARGE_INTEGER Zero = {.QuadPart = 0};
    UNREFERENCED_PARAMETER(Context);
    KeDelayExecutionThread(KernelMode, FALSE, &Zero);
}

static VOID MeasureWithPartner(PCSTR Name, PKSTART_ROUTINE Partner, KT_WORK *Work)
{
    PING_PONG Game = {.IsOver = FALSE};
    if (!KtIsBenchWanted(Name)) {
        return;
    }
    KeInitializeEvent(&Game.Ping, SynchronizationEvent, FALSE);
    KeInitializeEvent(&Game.Pong, SynchronizationEvent, FALSE);
    const PKTHREAD Thread =
        KtStartThread(Partner, &Game, KeQueryPriorityThread(KeGetCurrentThread()));
    KtBench(Name, Work, &Game);
    Game.IsOver = TRUE;
    KeSetEvent(&Game.Ping, IO_NO_INCREMENT, FALSE);
    KtJoin(Thread);
}

static VOID SetAndTake(PVOID Context)
{
    KeSetEvent(Context, IO_NO_INCREMENT, FALSE);
    KeWaitForSingleObject(Context, Executive, KernelMode, FALSE, NULL);
}

static VOID QueueOneDpc(PVOID Context)
{
    KeInsertQueueDpc(Context, NULL, NULL);
}

static VOID MeasureDispatcher(VOID)
{
    KEVENT Event;
    KDPC Dpc;
    ULONG DpcCount = 0;
    KeInitializeEvent(&Event, SynchronizationEvent, FALSE);
    KeInitializeDpc(&Dpc, CountDpc, &DpcCount);
    MeasureWithPartner("ping-pong", AnswerPings, Ping);
    MeasureWithPartner("yield", YieldForEver, Yield);
    KtBench("event", SetAndTake, &Event);
    KtBench("dpc", QueueOneDpc, &Dpc);
}

//
// A driver of about 100 KiB, loaded: all but the copying of its sections, which is told apart.
//

typedef struct _LOAD_WORK {
    const VOID *File;
    SIZE_T ByteCount;
    PVOID Copy;
} LOAD_WORK;

static VOID CopyFile(PVOID Context)
{
    const LOAD_WORK *Work = Context;
    RtlCopyMemory(Work->Copy, Work->File, Work->ByteCount);
}

// The median of loading alone; unloading lies between the rounds. 0: it was refused.
static ULONG64 MeasureLoads(const LOAD_WORK *Work)
{
    ULONG64 Cycles[KT_ROUND_COUNT];
    for (ULONG Round = 0; Round < KT_ROUND_COUNT; Round += 1) {
        PLDR_IMAGE Image;
        const ULONG64 Start = KeReadCycles();
        if (!NT_SUCCESS(LdrLoadImage(Work->File, Work->ByteCount, "ldrlarge.sys", &Image))) {
            return 0;
        }
        Cycles[Round] = KeReadCycles() - Start;
        LdrUnloadImage(Image);
    }
    return KtTakeMedian(Cycles, KT_ROUND_COUNT);
}

static VOID MeasureLoad(VOID)
{
    LOAD_WORK Work = {0};
    Work.File = LdrFindModule("ldrlarge.sys", &Work.ByteCount);
    if (Work.File == NULL || !KtIsBenchWanted("load-100K")) {
        return;
    }
    Work.Copy = ExAllocatePool2(POOL_FLAG_NON_PAGED, Work.ByteCount, KT_TAG);
    const ULONG64 Copying =
        Work.Copy != NULL ? KtMeasureMedian(CopyFile, &Work) - KtBenchOverhead : 0;
    PrintMeasured("load-100K", MeasureLoads(&Work) - Copying);
    KtPrintBench("load-100K-copies", Copying);
    ExFreePoolWithTag(Work.Copy, KT_TAG);
}

// What only this kernel has, or nobody compares by its rate.
static VOID MeasureKernel(ULONG64 Gap)
{
    MeasureWalk("map-4K-walk", Gap, 4 * KT_KIB);
    MeasureWalk("map-2M-walk", Gap, 2 * KT_MIB);
    MeasureAmongOthers("map-4K-others", Gap, PAGE_SIZE);
    MeasureAmongOthers("map-4K-same", Gap, 0);
    MeasureMdl();
    MeasureInterrupt();
    MeasureRequest();
    MeasureReused();
    MeasureDispatcher();
    MeasureLoad();
    KtBenchDma();
}

VOID KiRunBenchmarks(VOID)
{
    const ULONG64 Gap = KtFindGap(KT_GIB, KT_GIB);
    MARK(MARK_END); // of a region that began where the kernel was entered
    ULONG64 Cycles;
    DbgPrint("# boot %llu\n", KeQueryInterruptTimePrecise(&Cycles) * 100);
    DbgPrint("# clock %llu\n", KeGetCyclesPerSecond());
    KtBenchOverhead = KtMeasureMedian(DoNothing, NULL);
    DbgPrint("# calibration %llu\n", KtBenchOverhead);
    CalibrateWaiting();
    if (Gap == 0) {
        DbgPrint("there is no free I/O space to map\n");
        return;
    }
    MeasureIo(Gap);
    MeasureReserved();
    if (!KtIsRating()) {
        MeasureKernel(Gap);
    }
    KtBenchMany(Gap);
    KtBenchNvme();
    KtBenchNet();
}
