// What the NVMe driver costs per I/O, on the first disk: through IRPs, and through a queue of one's own
// (ntddnvme.h). The disk's content is not looked at: the runner puts a disk there that answers at once
// and keeps nothing.
//
// A round is a batch: as many reads as the row's depth are sent, by one call where there is one for
// many; it is over when all are completed. What is counted begins where a request is submitted and ends
// with its completion routine: IRPs are prepared before (irp-1-reused says what that costs). A polled queue
// is polled until then, each time after it was given time to answer all; polls that found nothing are
// waiting, and are not counted. For a rate there are no rounds: what is completed is prepared and sent
// again at once, and who waits sleeps.
#include "tests/kernel/bench.h"

#include <ntddnvme.h>

#include "kernel/inc/io.h"
#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"

#define MAXIMUM_DEPTH 32u
#define WRAP (KT_GIB - 1) // transfers stay below it
#define EMPTY_POLLS 20000000u

typedef enum _METHOD {
    ByIrp,
    ByQueue,  // its completions come by interrupt
    ByPolling // its completions are polled for
} METHOD;

typedef struct _ROW {
    PCSTR Name;
    METHOD Method;
    ULONG Depth;
    ULONG ByteCount; // of one transfer
    ULONG64 Step;    // bytes from one transfer of a request to the next
} ROW;

#define SMALL 4 * KT_KIB, 7919 * 4 * KT_KIB // here and there
#define LARGE 128 * KT_KIB, 32 * 128 * KT_KIB

static const ROW Rows[] = {
    {"nvme-4k-qd32-queue", ByPolling, 32, SMALL},  {"nvme-4k-qd32-interrupt", ByQueue, 32, SMALL},
    {"nvme-4k-qd32-irp", ByIrp, 32, SMALL},        {"nvme-4k-qd1-polled", ByPolling, 1, SMALL},
    {"nvme-4k-qd1-interrupt", ByQueue, 1, SMALL},  {"nvme-4k-qd1-irp", ByIrp, 1, SMALL},
    {"nvme-128k-seq-queue", ByPolling, 32, LARGE}, {"nvme-128k-seq-irp", ByIrp, 32, LARGE},
};

typedef struct _REQUEST {
    PMDL Mdl;
    ULONG64 ByteOffset;        // where the next transfer begins
    volatile BOOLEAN IsFree;   // not under way
    PIRP Irp;                  // ByIrp
    BOOLEAN IsPrepared;        // ByIrp: to be sent
    NVME_IO Io;                // otherwise
    PSCATTER_GATHER_LIST List; // otherwise: the MDL, mapped for the controller all the time
} REQUEST;

typedef struct _NVME_BENCH {
    const ROW *Row;
    PDEVICE_OBJECT Disk;
    NVME_QUEUE_INTERFACE Interface; // Context NULL: there is none
    NVME_NAMESPACE_INFORMATION Namespace;
    PNVME_QUEUE Queue; // NULL: not open
    PDMA_ADAPTER Adapter;
    REQUEST Requests[MAXIMUM_DEPTH];
    PNVME_IO Ios[MAXIMUM_DEPTH]; // of the requests
    volatile ULONG DoneCount;    // of all rounds; wraps around
    KEVENT SomeAreDone;          // set for who measures a rate
    BOOLEAN IsRating;
    ULONG FailureCount;
    BOOLEAN HasTimedOut;
} NVME_BENCH;

// It stays, should the driver not give a request back.
static NVME_BENCH Bench;

// Where the request's next transfer begins.
static ULONG64 NextOffset(REQUEST *Request)
{
    const ULONG64 ByteOffset = Request->ByteOffset;
    Request->ByteOffset = (ByteOffset + Bench.Row->Step) & WRAP;
    return ByteOffset;
}

static VOID CountDone(REQUEST *Request, NTSTATUS Status)
{
    if (!NT_SUCCESS(Status)) {
        Bench.FailureCount += 1;
    }
    Request->IsFree = TRUE;
    Bench.DoneCount += 1;
    if (Bench.IsRating) {
        KeSetEvent(&Bench.SomeAreDone, IO_NO_INCREMENT, FALSE);
    }
}

//
// By IRP. The requests are used again and again, as who has 250 instructions to lose does it.
//

static NTSTATUS NTAPI IrpIsDone(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    CountDone(Context, Irp->IoStatus.Status);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static VOID PrepareIrp(REQUEST *Request)
{
    const PIRP Irp = Request->Irp;
    IoReuseIrp(Irp, STATUS_NOT_SUPPORTED);
    Irp->MdlAddress = Request->Mdl;
    const PIO_STACK_LOCATION Stack = IoGetNextIrpStackLocation(Irp);
    Stack->MajorFunction = IRP_MJ_READ;
    Stack->Parameters.Read.Length = Bench.Row->ByteCount;
    Stack->Parameters.Read.ByteOffset.QuadPart = (LONG64)NextOffset(Request);
    IoSetCompletionRoutine(Irp, IrpIsDone, Request, TRUE, TRUE, TRUE);
}

static VOID PrepareIrps(VOID)
{
    for (ULONG Index = 0; Index < Bench.Row->Depth; Index += 1) {
        REQUEST *const Request = &Bench.Requests[Index];
        if (Request->IsFree) {
            Request->IsFree = FALSE;
            Request->IsPrepared = TRUE;
            PrepareIrp(Request);
        }
    }
}

// Sends every request that is prepared. Returns how many. At DISPATCH_LEVEL, which tells the driver that
// there may be more: it rings once for all.
static ULONG SendIrps(VOID)
{
    const KIRQL OldIrql = KeRaiseIrqlToDpcLevel();
    ULONG Count = 0;
    for (ULONG Index = 0; Index < Bench.Row->Depth; Index += 1) {
        REQUEST *const Request = &Bench.Requests[Index];
        if (Request->IsPrepared) {
            Request->IsPrepared = FALSE;
            (VOID) IoCallDriver(Bench.Disk, Request->Irp);
            Count += 1;
        }
    }
    KeLowerIrql(OldIrql);
    return Count;
}

//
// By a queue of our own.
//

static VOID NTAPI IoIsDone(PNVME_IO Io)
{
    CountDone(Io->Context, Io->Status);
}

// The same by one call.
static ULONG SubmitIos(VOID)
{
    ULONG Count = 0;
    for (ULONG Index = 0; Index < Bench.Row->Depth; Index += 1) {
        REQUEST *const Request = &Bench.Requests[Index];
        if (Request->IsFree) {
            Request->IsFree = FALSE;
            Request->Io.FirstBlock = NextOffset(Request) / Bench.Namespace.BlockBytes;
            Bench.Ios[Count] = &Request->Io;
            Count += 1;
        }
    }
    for (ULONG Place = Count != 0 ? Bench.Interface.Submit(Bench.Queue, Bench.Ios, Count) : 0;
         Place < Count; Place += 1) { // refused; there should be none
        CountDone(Bench.Ios[Place]->Context, STATUS_DEVICE_BUSY);
    }
    return Count;
}

static VOID PrepareFree(VOID)
{
    if (Bench.Row->Method == ByIrp) {
        PrepareIrps();
    }
}

static ULONG SendFree(VOID)
{
    return Bench.Row->Method == ByIrp ? SendIrps() : SubmitIos();
}

// Polls until DoneCount is Target. Returns the cycles of the polls that found something.
static ULONG64 Poll(ULONG Target)
{
    ULONG64 Busy = 0;
    for (ULONG Left = EMPTY_POLLS; Bench.DoneCount != Target; Left -= 1) {
        if (Left == 0) {
            Bench.HasTimedOut = TRUE;
            break;
        }
        if (Bench.Row->Depth > 1) {
            KtGiveTime();
        }
        const ULONG64 Start = KeReadCycles();
        const ULONG Found = Bench.Interface.Poll(Bench.Queue);
        const ULONG64 Cycles = KeReadCycles() - Start;
        Busy += Found != 0 ? Cycles - KtBenchOverhead : 0;
    }
    return Busy;
}

static ULONG64 RunBatch(PVOID Context)
{
    UNREFERENCED_PARAMETER(Context);
    const ULONG Target = Bench.DoneCount + Bench.Row->Depth;
    PrepareFree();
    const ULONG64 Start = KeReadCycles();
    SendFree();
    const ULONG64 Sending = KeReadCycles() - Start - KtBenchOverhead;
    return Sending + (Bench.Row->Method == ByPolling
                          ? Poll(Target)
                          : KtAwait(&Bench.DoneCount, Target, &Bench.HasTimedOut));
}

// Until some request is done. A processor that looks without a pause takes from the host what the disk needs;
// so does one that looks at the clock.
static VOID AwaitSome(VOID)
{
    if (Bench.Row->Method != ByPolling) {
        KeWaitForSingleObject(&Bench.SomeAreDone, Executive, KernelMode, FALSE, NULL);
        return;
    }
    ULONG Left = EMPTY_POLLS;
    while (Left != 0 && Bench.Interface.Poll(Bench.Queue) == 0) {
        KeArchPause();
        Left -= 1;
    }
}

// Keeps the row's depth under way for a second.
static VOID RateRow(VOID)
{
    const ULONG64 Start = KeReadCycles();
    const ULONG FirstDone = Bench.DoneCount;
    ULONG SentCount = FirstDone;
    while (!KtIsOver(Start) || Bench.DoneCount != SentCount) {
        if (!KtIsOver(Start)) {
            PrepareFree();
            SentCount += SendFree();
        }
        AwaitSome();
    }
    if (Bench.FailureCount == 0) {
        KtPrintRate(Bench.Row->Name, Bench.DoneCount - FirstDone, KeReadCycles() - Start);
    }
}

//
// What a row needs.
//

static VOID NTAPI TakeList(PDEVICE_OBJECT DeviceObject, PIRP Irp, PSCATTER_GATHER_LIST List,
                           PVOID Context)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    UNREFERENCED_PARAMETER(Irp);
    *(PSCATTER_GATHER_LIST *)Context = List;
}

// Maps the request's MDL for the controller.
static BOOLEAN MapForQueue(REQUEST *Request)
{
    const KIRQL OldIrql = KeRaiseIrqlToDpcLevel();
    const NTSTATUS Status = Bench.Adapter->DmaOperations->GetScatterGatherList(
        Bench.Adapter, Bench.Disk, Request->Mdl, MmGetMdlVirtualAddress(Request->Mdl),
        Bench.Row->ByteCount, TakeList, &Request->List, FALSE);
    KeLowerIrql(OldIrql);
    return NT_SUCCESS(Status) && Request->List != NULL;
}

static VOID UnmapForQueue(const REQUEST *Request)
{
    const KIRQL OldIrql = KeRaiseIrqlToDpcLevel();
    Bench.Adapter->DmaOperations->PutScatterGatherList(Bench.Adapter, Request->List, FALSE);
    KeLowerIrql(OldIrql);
}

static BOOLEAN PrepareRequest(ULONG Index)
{
    REQUEST *const Request = &Bench.Requests[Index];
    *Request = (REQUEST){.Mdl = KtAllocatePages(Bench.Row->ByteCount / PAGE_SIZE),
                         .IsFree = TRUE,
                         .ByteOffset = (ULONG64)Index * Bench.Row->ByteCount};
    if (Bench.Row->Method == ByIrp) {
        Request->Irp = IoAllocateIrp(Bench.Disk->StackSize, FALSE);
        return Request->Irp != NULL && Request->Mdl != NULL;
    }
    if (Request->Mdl == NULL || !MapForQueue(Request)) {
        return FALSE;
    }
    Request->Io = (NVME_IO){.Opcode = NvmeIoRead,
                            .NamespaceId = Bench.Namespace.NamespaceId,
                            .BlockCount = Bench.Row->ByteCount / Bench.Namespace.BlockBytes,
                            .List = Request->List,
                            .Done = IoIsDone,
                            .Context = Request};
    return TRUE;
}

static VOID FreeRequest(const REQUEST *Request)
{
    if (Request->List != NULL) {
        UnmapForQueue(Request);
    }
    if (Request->Irp != NULL) {
        IoFreeIrp(Request->Irp);
    }
    if (Request->Mdl != NULL) {
        KtFreePages(Request->Mdl);
    }
}

static BOOLEAN PrepareRow(VOID)
{
    if (Bench.Row->Method != ByIrp) {
        const NVME_QUEUE_OPTIONS Options = {.Depth = MAXIMUM_DEPTH,
                                            .IsPolled = Bench.Row->Method == ByPolling};
        if (Bench.Interface.Context == NULL ||
            !NT_SUCCESS(
                Bench.Interface.OpenQueue(Bench.Interface.Context, &Options, &Bench.Queue))) {
            return FALSE;
        }
        Bench.Adapter = Bench.Interface.GetAdapter(Bench.Queue);
    }
    for (ULONG Index = 0; Index < Bench.Row->Depth; Index += 1) {
        if (!PrepareRequest(Index)) {
            return FALSE;
        }
    }
    return TRUE;
}

static VOID CleanUpRow(VOID)
{
    for (ULONG Index = 0; Index < Bench.Row->Depth; Index += 1) {
        FreeRequest(&Bench.Requests[Index]);
    }
    if (Bench.Queue != NULL) {
        Bench.Interface.CloseQueue(Bench.Queue);
    }
}

static VOID BenchRow(const ROW *Row)
{
    RtlZeroMemory(Bench.Requests, sizeof(Bench.Requests));
    Bench.Row = Row;
    Bench.Queue = NULL;
    Bench.FailureCount = 0;
    if (!PrepareRow()) {
        DbgPrint("%s: not to be had\n", Row->Name);
    } else if (Bench.IsRating) {
        RateRow();
    } else {
        KtBenchRounds(Row->Name, RunBatch, NULL, Row->Depth);
    }
    if (Bench.FailureCount != 0) {
        DbgPrint("%s: %u requests failed\n", Row->Name, Bench.FailureCount);
    }
    if (Bench.HasTimedOut) {
        DbgPrint("%s: requests did not come back\n", Row->Name);
    } else {
        CleanUpRow();
    }
}

//
// The driver.
//

static NTSTATUS NTAPI KeepIrp(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    UNREFERENCED_PARAMETER(Irp);
    UNREFERENCED_PARAMETER(Context);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

// Asks the controller's device for its interface. Drivers answer at once.
static VOID QueryInterface(VOID)
{
    const PDEVICE_OBJECT Controller = IoFindDevice(FILE_DEVICE_CONTROLLER, 0);
    const PIRP Irp = Controller != NULL ? IoAllocateIrp(Controller->StackSize, FALSE) : NULL;
    if (Irp == NULL) {
        return;
    }
    const PIO_STACK_LOCATION Stack = IoGetNextIrpStackLocation(Irp);
    Stack->MajorFunction = IRP_MJ_PNP;
    Stack->MinorFunction = IRP_MN_QUERY_INTERFACE;
    Stack->Parameters.QueryInterface.InterfaceType = &GUID_NVME_QUEUE_INTERFACE;
    Stack->Parameters.QueryInterface.Size = sizeof(Bench.Interface);
    Stack->Parameters.QueryInterface.Version = NVME_QUEUE_INTERFACE_VERSION;
    Stack->Parameters.QueryInterface.Interface = (PINTERFACE)&Bench.Interface;
    Irp->IoStatus.Status = STATUS_NOT_SUPPORTED;
    IoSetCompletionRoutine(Irp, KeepIrp, NULL, TRUE, TRUE, TRUE);
    const NTSTATUS Status = IoCallDriver(Controller, Irp);
    IoFreeIrp(Irp);
    if (!NT_SUCCESS(Status) ||
        !NT_SUCCESS(Bench.Interface.QueryNamespace(Bench.Interface.Context, 1, &Bench.Namespace))) {
        Bench.Interface.Context = NULL;
    }
}

VOID KtBenchNvme(VOID)
{
    Bench.Disk = IoFindDevice(FILE_DEVICE_DISK, 0);
    if (Bench.Disk == NULL) {
        return;
    }
    KtPrintImage(Bench.Disk->DriverObject);
    KeInitializeEvent(&Bench.SomeAreDone, SynchronizationEvent, FALSE);
    Bench.IsRating = KtIsRating();
    QueryInterface();
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows) && !Bench.HasTimedOut; Row += 1) {
        if (KtIsBenchWanted(Rows[Row].Name)) {
            BenchRow(&Rows[Row]);
        }
    }
    if (Bench.Interface.Context != NULL && !Bench.HasTimedOut) {
        Bench.Interface.InterfaceDereference(Bench.Interface.Context);
    }
}
