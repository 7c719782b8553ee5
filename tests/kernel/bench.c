// The price of a mapping: cycles of one map and unmap, the median of many rounds, less what
// measuring costs. Under -icount one cycle is one instruction, and the figures are exact.
//
//   # calibration 21
//   # bench map-4K 812
#include "kernel/inc/interrupt.h"
#include "kernel/inc/ke.h"
#include "kernel/inc/ldr.h"
#include "kernel/inc/rtl.h"
#include "tests/kernel/tests.h"

#define WARM_UP_ROUNDS 8
#define ROUND_COUNT 65 // odd: the median is one of them

typedef VOID KT_WORK(PVOID Context);

static VOID SortCycles(ULONG64 *Cycles)
{
    for (ULONG Index = 1; Index < ROUND_COUNT; Index += 1) {
        const ULONG64 Value = Cycles[Index];
        ULONG Place = Index;
        for (; Place > 0 && Cycles[Place - 1] > Value; Place -= 1) {
            Cycles[Place] = Cycles[Place - 1];
        }
        Cycles[Place] = Value;
    }
}

static ULONG64 MeasureMedian(KT_WORK *Work, PVOID Context)
{
    ULONG64 Cycles[ROUND_COUNT];
    for (ULONG Round = 0; Round < WARM_UP_ROUNDS; Round += 1) {
        Work(Context);
    }
    for (ULONG Round = 0; Round < ROUND_COUNT; Round += 1) {
        const ULONG64 Start = KeReadCycles();
        Work(Context);
        Cycles[Round] = KeReadCycles() - Start;
    }
    SortCycles(Cycles);
    return Cycles[ROUND_COUNT / 2];
}

static VOID DoNothing(PVOID Context)
{
    UNREFERENCED_PARAMETER(Context);
}

// Boot option `filter`: only the rows whose name contains it.
static BOOLEAN IsWanted(PCSTR Name)
{
    CHAR Filter[32];
    return !KeGetBootOption("filter", Filter, sizeof(Filter)) ||
           RtlFindSubstring(Name, Filter) != NULL;
}

static VOID PrintResult(PCSTR Name, ULONG64 Cycles, ULONG64 Overhead)
{
    DbgPrint("# bench %s %llu\n", Name, Cycles > Overhead ? Cycles - Overhead : 0);
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

static VOID MeasureIo(ULONG64 Gap, ULONG64 Overhead)
{
    for (ULONG Row = 0; Row < ARRAYSIZE(IoRows); Row += 1) {
        IO_WORK Io = {KtPhysical(Gap), IoRows[Row].ByteCount};
        if (!IsWanted(IoRows[Row].Name)) {
            continue;
        }
        PrintResult(IoRows[Row].Name, MeasureMedian(MapAndUnmapIo, &Io), Overhead);
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

static VOID MeasureWalk(PCSTR Name, ULONG64 Gap, SIZE_T ByteCount, ULONG64 Overhead)
{
    WALK_WORK Walk = {{KtPhysical(Gap), ByteCount}, Gap, Gap + 16 * ByteCount};
    if (IsWanted(Name)) {
        PrintResult(Name, MeasureMedian(MapAndUnmapNext, &Walk), Overhead);
    }
}

//
// The same page with many other mappings live: of other pages, and of the same one.
//

#define LIVE_COUNT 10000u

static PVOID LiveMappings[LIVE_COUNT];

static VOID MeasureAmongOthers(PCSTR Name, ULONG64 Gap, ULONG64 Stride, ULONG64 Overhead)
{
    IO_WORK Io = {KtPhysical(Gap), PAGE_SIZE};
    if (!IsWanted(Name)) {
        return;
    }
    for (ULONG Index = 0; Index < LIVE_COUNT; Index += 1) {
        LiveMappings[Index] = MmMapIoSpaceEx(KtPhysical(Gap + (Index + 1) * Stride), PAGE_SIZE,
                                             PAGE_READWRITE | PAGE_NOCACHE);
    }
    PrintResult(Name, MeasureMedian(MapAndUnmapIo, &Io), Overhead);
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

static VOID MeasureReserved(ULONG64 Overhead)
{
    for (ULONG Row = 0; Row < ARRAYSIZE(ReservedRows); Row += 1) {
        const ULONG PageCount = ReservedRows[Row].PageCount;
        if (!IsWanted(ReservedRows[Row].Name)) {
            continue;
        }
        RESERVED_WORK Work = {MmAllocateMappingAddress((SIZE_T)PageCount * PAGE_SIZE, KT_TAG),
                              KtAllocatePages(PageCount)};
        if (Work.Base == NULL || Work.Mdl == NULL) {
            DbgPrint("%s: too little memory\n", ReservedRows[Row].Name);
            return;
        }
        PrintResult(ReservedRows[Row].Name, MeasureMedian(MapAndUnmapReserved, &Work), Overhead);
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

static VOID MeasureMdl(ULONG64 Overhead)
{
    PMDL Mdl = IsWanted("mdl-1") ? KtAllocatePages(1) : NULL;
    if (Mdl != NULL) {
        PrintResult("mdl-1", MeasureMedian(MapAndUnmapMdl, Mdl), Overhead);
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

static VOID MeasureRequest(ULONG64 Overhead)
{
    static KT_DRIVER Upper = KT_DRIVER_INITIALIZER(.MajorFunction[IRP_MJ_READ] = PassOn);
    static KT_DRIVER Lower = KT_DRIVER_INITIALIZER(.MajorFunction[IRP_MJ_READ] = Complete);
    PDEVICE_OBJECT Bottom;
    PDEVICE_OBJECT Top;
    if (!IsWanted("irp-2") || !NT_SUCCESS(IoCreateDevice(&Lower.Object, 0, NULL,
                                                         FILE_DEVICE_UNKNOWN, 0, FALSE, &Bottom))) {
        return;
    }
    Bottom->Flags &= ~(ULONG)DO_DEVICE_INITIALIZING;
    if (NT_SUCCESS(IoCreateDevice(&Upper.Object, sizeof(PDEVICE_OBJECT), NULL, FILE_DEVICE_UNKNOWN,
                                  0, FALSE, &Top))) {
        *(PDEVICE_OBJECT *)Top->DeviceExtension = IoAttachDeviceToDeviceStack(Top, Bottom);
        PrintResult("irp-2", MeasureMedian(SendRequest, Top), Overhead);
        IoDetachDevice(Bottom);
        IoDeleteDevice(Top);
    }
    IoDeleteDevice(Bottom);
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

static VOID MeasureInterrupt(ULONG64 Overhead)
{
    static KI_INTERRUPT_SOURCE Source = {.Mode = Latched};
    ULONG Vector = IsWanted("interrupt-dpc") ? KiReserveVectors(KiVectorsForMessages, 1) : 0;
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
        const ULONG64 Cycles = MeasureMedian(Interrupt, &Vector);
        if (DpcCount == WARM_UP_ROUNDS + ROUND_COUNT) {
            PrintResult("interrupt-dpc", Cycles, Overhead);
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

static VOID MeasureWithPartner(PCSTR Name, PKSTART_ROUTINE Partner, KT_WORK *Work, ULONG64 Overhead)
{
    PING_PONG Game = {.IsOver = FALSE};
    if (!IsWanted(Name)) {
        return;
    }
    KeInitializeEvent(&Game.Ping, SynchronizationEvent, FALSE);
    KeInitializeEvent(&Game.Pong, SynchronizationEvent, FALSE);
    const PKTHREAD Thread =
        KtStartThread(Partner, &Game, KeQueryPriorityThread(KeGetCurrentThread()));
    PrintResult(Name, MeasureMedian(Work, &Game), Overhead);
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

static VOID MeasureDispatcher(ULONG64 Overhead)
{
    KEVENT Event;
    KDPC Dpc;
    ULONG DpcCount = 0;
    KeInitializeEvent(&Event, SynchronizationEvent, FALSE);
    KeInitializeDpc(&Dpc, CountDpc, &DpcCount);
    MeasureWithPartner("ping-pong", AnswerPings, Ping, Overhead);
    MeasureWithPartner("yield", YieldForEver, Yield, Overhead);
    if (IsWanted("event")) {
        PrintResult("event", MeasureMedian(SetAndTake, &Event), Overhead);
    }
    if (IsWanted("dpc")) {
        PrintResult("dpc", MeasureMedian(QueueOneDpc, &Dpc), Overhead);
    }
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
    ULONG64 Cycles[ROUND_COUNT];
    for (ULONG Round = 0; Round < ROUND_COUNT; Round += 1) {
        PLDR_IMAGE Image;
        const ULONG64 Start = KeReadCycles();
        if (!NT_SUCCESS(LdrLoadImage(Work->File, Work->ByteCount, "ldrlarge.sys", &Image))) {
            return 0;
        }
        Cycles[Round] = KeReadCycles() - Start;
        LdrUnloadImage(Image);
    }
    SortCycles(Cycles);
    return Cycles[ROUND_COUNT / 2];
}

static VOID MeasureLoad(ULONG64 Overhead)
{
    LOAD_WORK Work = {0};
    Work.File = LdrFindModule("ldrlarge.sys", &Work.ByteCount);
    if (Work.File == NULL || !IsWanted("load-100K")) {
        return;
    }
    Work.Copy = ExAllocatePool2(POOL_FLAG_NON_PAGED, Work.ByteCount, KT_TAG);
    const ULONG64 Copying = Work.Copy != NULL ? MeasureMedian(CopyFile, &Work) - Overhead : 0;
    PrintResult("load-100K", MeasureLoads(&Work) - Copying, Overhead);
    PrintResult("load-100K-copies", Copying, 0);
    ExFreePoolWithTag(Work.Copy, KT_TAG);
}

VOID KiRunBenchmarks(VOID)
{
    const ULONG64 Overhead = MeasureMedian(DoNothing, NULL);
    const ULONG64 Gap = KtFindGap(KT_GIB, KT_GIB);
    DbgPrint("# calibration %llu\n", Overhead);
    if (Gap == 0) {
        DbgPrint("there is no free I/O space to map\n");
        return;
    }
    MeasureIo(Gap, Overhead);
    MeasureWalk("map-4K-walk", Gap, 4 * KT_KIB, Overhead);
    MeasureWalk("map-2M-walk", Gap, 2 * KT_MIB, Overhead);
    MeasureAmongOthers("map-4K-others", Gap, PAGE_SIZE, Overhead);
    MeasureAmongOthers("map-4K-same", Gap, 0, Overhead);
    MeasureReserved(Overhead);
    MeasureMdl(Overhead);
    MeasureInterrupt(Overhead);
    MeasureRequest(Overhead);
    MeasureDispatcher(Overhead);
    MeasureLoad(Overhead);
}
