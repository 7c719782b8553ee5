// The NVMe driver's queues under load: many requests at a time, chains of MDLs, waiting and cancelling,
// doorbells, and queues of one's own (ntddnvme.h). On the first disk; what is written goes to a disk whose
// serial number begins with SCRATCH, and gets its content back.
#include <ntddnvme.h>
#include <ntddstor.h>

#include "kernel/inc/interrupt.h"
#include "kernel/inc/io.h"
#include "kernel/inc/rtl.h"
#include "tests/kernel/tests.h"

#define UNCACHED_STACK_SIZE 9 // of IRPs that the kernel keeps no store of, so that leaks show
#define PIECE_BYTES PAGE_SIZE // of each request
#define MANY 300u             // more than a queue has trackers
#define BATCH 32u
#define AWAITED_SECONDS 20

// ------------------------------------------------------------------------------------------------
// Requests, all of the same length, side by side on the disk and in memory.

typedef struct _REQUEST {
    PIRP Irp;
    PMDL Mdl;
    NTSTATUS Status; // when it is done
} REQUEST;

typedef struct _LOAD {
    PDEVICE_OBJECT Disk;
    ULONG Count;
    PMDL Pages;
    PUCHAR Bytes; // Count * PIECE_BYTES
    REQUEST *Requests;
    volatile LONG DoneCount;
    KEVENT Done; // all are
} LOAD;

static NTSTATUS NTAPI RequestIsDone(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context)
{
    LOAD *Load = Context;
    UNREFERENCED_PARAMETER(DeviceObject);
    for (ULONG Index = 0; Index < Load->Count; Index += 1) {
        if (Load->Requests[Index].Irp == Irp) {
            Load->Requests[Index].Status = Irp->IoStatus.Status;
        }
    }
    const LONG DoneCount = __atomic_add_fetch(&Load->DoneCount, 1, __ATOMIC_ACQ_REL);
    if ((ULONG)DoneCount == Load->Count) {
        KeSetEvent(&Load->Done, IO_NO_INCREMENT, FALSE);
    }
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static BOOLEAN PrepareRequest(LOAD *Load, ULONG Index)
{
    REQUEST *Request = &Load->Requests[Index];
    Request->Status = STATUS_PENDING;
    Request->Irp = IoAllocateIrp(UNCACHED_STACK_SIZE, FALSE);
    Request->Mdl =
        IoAllocateMdl(Load->Bytes + Index * PIECE_BYTES, PIECE_BYTES, FALSE, FALSE, NULL);
    if (Request->Irp == NULL || Request->Mdl == NULL) {
        return FALSE;
    }
    MmBuildMdlForNonPagedPool(Request->Mdl);
    Request->Irp->MdlAddress = Request->Mdl;
    const PIO_STACK_LOCATION Stack = IoGetNextIrpStackLocation(Request->Irp);
    Stack->MajorFunction = IRP_MJ_READ;
    Stack->Parameters.Read.Length = PIECE_BYTES;
    Stack->Parameters.Read.ByteOffset.QuadPart = (LONGLONG)Index * PIECE_BYTES;
    IoSetCompletionRoutine(Request->Irp, RequestIsDone, Load, TRUE, TRUE, TRUE);
    return TRUE;
}

static VOID FreeLoad(LOAD *Load)
{
    for (ULONG Index = 0; Load->Requests != NULL && Index < Load->Count; Index += 1) {
        if (Load->Requests[Index].Irp != NULL) {
            IoFreeIrp(Load->Requests[Index].Irp);
        }
        if (Load->Requests[Index].Mdl != NULL) {
            IoFreeMdl(Load->Requests[Index].Mdl);
        }
    }
    if (Load->Requests != NULL) {
        ExFreePool(Load->Requests);
    }
    if (Load->Bytes != NULL) {
        MmUnmapLockedPages(Load->Bytes, Load->Pages);
    }
    if (Load->Pages != NULL) {
        KtFreePages(Load->Pages);
    }
}

// Reads of the first Count pieces of the first disk. FALSE: there is no disk, or no memory.
static BOOLEAN PrepareLoad(LOAD *Load, ULONG Count)
{
    RtlZeroMemory(Load, sizeof(*Load));
    Load->Disk = IoFindDevice(FILE_DEVICE_DISK, 0);
    if (Load->Disk == NULL) {
        return FALSE;
    }
    Load->Count = Count;
    KeInitializeEvent(&Load->Done, NotificationEvent, FALSE);
    Load->Requests = ExAllocatePool2(POOL_FLAG_NON_PAGED, Count * sizeof(REQUEST), 'tqvN');
    Load->Pages = KtAllocatePages(Count * PIECE_BYTES / PAGE_SIZE);
    if (Load->Pages != NULL) {
        Load->Bytes = MmGetSystemAddressForMdlSafe(Load->Pages, NormalPagePriority);
    }
    BOOLEAN IsReady = Load->Requests != NULL && Load->Bytes != NULL;
    for (ULONG Index = 0; IsReady && Index < Count; Index += 1) {
        IsReady = PrepareRequest(Load, Index);
    }
    if (!KT_CHECK(IsReady)) {
        FreeLoad(Load);
    }
    return IsReady;
}

static BOOLEAN AwaitLoad(LOAD *Load)
{
    LARGE_INTEGER Timeout = {.QuadPart = -10000000ll * AWAITED_SECONDS};
    return KT_EQUAL(KeWaitForSingleObject(&Load->Done, Executive, KernelMode, FALSE, &Timeout),
                    STATUS_SUCCESS);
}

// At DISPATCH_LEVEL: nothing is completed before all are sent.
static VOID SendLoadInARow(LOAD *Load)
{
    const KIRQL OldIrql = KeRaiseIrqlToDpcLevel();
    for (ULONG Index = 0; Index < Load->Count; Index += 1) {
        (VOID) IoCallDriver(Load->Disk, Load->Requests[Index].Irp);
    }
    KeLowerIrql(OldIrql);
}

// The bytes that one request after the other reads.
static BOOLEAN IsLoadRight(const LOAD *Load)
{
    ULONG_PTR Information;
    BOOLEAN IsRight = TRUE;
    const PMDL Page = KtAllocatePages(1);
    const PUCHAR Bytes =
        Page != NULL ? MmGetSystemAddressForMdlSafe(Page, NormalPagePriority) : NULL;
    if (!KT_CHECK(Bytes != NULL)) {
        return FALSE;
    }
    for (ULONG Index = 0; Index < Load->Count && IsRight; Index += 1) {
        IsRight = Load->Requests[Index].Status == STATUS_CANCELLED ||
                  (NT_SUCCESS(IoTransferSynchronously(Load->Disk, IRP_MJ_READ, Page,
                                                      (ULONG64)Index * PIECE_BYTES, PIECE_BYTES,
                                                      &Information)) &&
                   RtlEqualMemory(Bytes, Load->Bytes + (SIZE_T)Index * PIECE_BYTES, PIECE_BYTES));
    }
    MmUnmapLockedPages(Bytes, Page);
    KtFreePages(Page);
    return IsRight;
}

static VOID MoreRequestsThanAQueueHolds(VOID)
{
    LOAD Load;
    if (!PrepareLoad(&Load, MANY)) {
        KT_SKIP("no disk");
    }
    SendLoadInARow(&Load);
    if (!AwaitLoad(&Load)) {
        return; // the driver still has them
    }
    for (ULONG Index = 0; Index < Load.Count; Index += 1) {
        KT_EQUAL(Load.Requests[Index].Status, STATUS_SUCCESS);
        KT_EQUAL(Load.Requests[Index].Irp->IoStatus.Information, PIECE_BYTES);
    }
    KT_CHECK(IsLoadRight(&Load));
    FreeLoad(&Load);
}

static VOID WaitingRequestsCanBeCancelled(VOID)
{
    LOAD Load;
    ULONG CancelledCount = 0;
    if (!PrepareLoad(&Load, MANY)) {
        KT_SKIP("no disk");
    }
    const KIRQL OldIrql = KeRaiseIrqlToDpcLevel();
    for (ULONG Index = 0; Index < Load.Count; Index += 1) {
        (VOID) IoCallDriver(Load.Disk, Load.Requests[Index].Irp);
    }
    // The first is with the controller, the last one and one in the middle of the line wait.
    KT_EQUAL(IoCancelIrp(Load.Requests[0].Irp), FALSE);
    KT_EQUAL(IoCancelIrp(Load.Requests[MANY - 1].Irp), TRUE);
    KT_EQUAL(IoCancelIrp(Load.Requests[MANY - 50].Irp), TRUE);
    KeLowerIrql(OldIrql);
    if (!AwaitLoad(&Load)) {
        return;
    }
    for (ULONG Index = 0; Index < Load.Count; Index += 1) {
        const BOOLEAN IsCancelled = Load.Requests[Index].Status == STATUS_CANCELLED;
        CancelledCount += IsCancelled;
        KT_CHECK(IsCancelled == (Index == MANY - 1 || Index == MANY - 50));
    }
    KT_EQUAL(CancelledCount, 2);
    KT_CHECK(IsLoadRight(&Load));
    FreeLoad(&Load);
}

// ------------------------------------------------------------------------------------------------
// Doorbells.

#define QUEUES 8

// The counters of the queue of a processor, and how many entries it has.
static BOOLEAN ReadCountersOf(PDEVICE_OBJECT Disk, ULONG Processor, PNVME_QUEUE_COUNTERS Counters,
                              PULONG EntryCount)
{
    union {
        NVME_COUNTERS Counters;
        UCHAR Bytes[sizeof(NVME_COUNTERS) + QUEUES * sizeof(NVME_QUEUE_REPORT)];
    } *Answer = ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(*Answer), 'tqvN');
    ULONG_PTR Information;
    BOOLEAN IsFound = FALSE;
    if (Answer == NULL) {
        return FALSE;
    }
    if (NT_SUCCESS(IoControlSynchronously(Disk, IOCTL_NVME_QUERY_COUNTERS, NULL, 0, Answer,
                                          sizeof(*Answer), &Information))) {
        for (ULONG Index = 0; Index < Answer->Counters.ReturnedQueueCount; Index += 1) {
            if (Answer->Counters.Queues[Index].Processor == Processor) {
                *Counters = Answer->Counters.Queues[Index].Counters;
                *EntryCount = Answer->Counters.Queues[Index].EntryCount;
                IsFound = TRUE;
            }
        }
    }
    ExFreePool(Answer);
    return IsFound;
}

static BOOLEAN ReadCounters(PDEVICE_OBJECT Disk, PNVME_QUEUE_COUNTERS Counters, PULONG EntryCount)
{
    return ReadCountersOf(Disk, 0, Counters, EntryCount);
}

static VOID OneDoorbellForManyRequests(VOID)
{
    KtStayOnOneProcessor();
    NVME_QUEUE_COUNTERS Before;
    NVME_QUEUE_COUNTERS After;
    ULONG EntryCount;
    LOAD Load;
    if (!PrepareLoad(&Load, BATCH)) {
        KT_SKIP("no disk");
    }
    KT_CHECK(ReadCounters(Load.Disk, &Before, &EntryCount));
    if (EntryCount <= BATCH) {
        FreeLoad(&Load);
        KT_SKIP("the queue holds fewer");
    }
    SendLoadInARow(&Load);
    if (!AwaitLoad(&Load)) {
        return;
    }
    KT_CHECK(ReadCounters(Load.Disk, &After, &EntryCount));
    KT_EQUAL(After.Commands - Before.Commands, BATCH);
    KT_EQUAL(After.Completions - Before.Completions, BATCH);
    KT_CHECK(After.TailDoorbells - Before.TailDoorbells <= 1);
    KT_CHECK(After.HeadDoorbells - Before.HeadDoorbells <= After.Reaps - Before.Reaps);
    KT_EQUAL(After.UnknownCompletions, 0);
    FreeLoad(&Load);
}

#define FIRST_AIR_NUMBER 1000 // the sources of t_interrupt.c, which interrupt whom they like

typedef struct _SPREAD {
    KAFFINITY Possible;    // where interrupts of devices may come
    KAFFINITY Interrupted; // where they have
    ULONG WrongCount;      // vectors whose came elsewhere than they were to
} SPREAD;

static SPREAD QuerySpread(VOID)
{
    SPREAD Spread = {0, 0, 0};
    for (ULONG Vector = KE_FIRST_DEVICE_VECTOR; Vector <= KE_LAST_DEVICE_VECTOR; Vector += 1) {
        const KI_INTERRUPT_SOURCE *Source = KiGetVectorSource(Vector);
        KI_VECTOR_COUNTS Counts;
        if (Source == NULL || Source->Number >= FIRST_AIR_NUMBER) {
            continue;
        }
        KiQueryVector(Vector, &Counts);
        Spread.Possible |= (KAFFINITY)1 << Source->Processor;
        Spread.Interrupted |= Counts.Processors;
        Spread.WrongCount += (Counts.Processors & ~((KAFFINITY)1 << Source->Processor)) != 0;
    }
    return Spread;
}

// Each processor's requests go to its own queue, which interrupts that processor.
static VOID QueuesInterruptTheirProcessors(VOID)
{
    const ULONG ProcessorCount = KeQueryActiveProcessorCount(NULL);
    KAFFINITY Awaited = 0;
    for (ULONG Processor = 0; Processor < ProcessorCount; Processor += 1) {
        LOAD Load;
        NVME_QUEUE_COUNTERS Counters;
        ULONG EntryCount;
        if (!PrepareLoad(&Load, 4)) {
            KT_SKIP("no disk");
        }
        KeSetSystemAffinityThread((KAFFINITY)1 << Processor);
        const BOOLEAN HasQueue =
            ReadCountersOf(Load.Disk, Processor, &Counters, &EntryCount) && EntryCount > 4;
        const ULONG64 Before = Counters.Commands;
        SendLoadInARow(&Load);
        KeRevertToUserAffinityThread();
        if (!AwaitLoad(&Load)) {
            return;
        }
        if (HasQueue) {
            KtSetContext("processor %u", Processor);
            KT_CHECK(ReadCountersOf(Load.Disk, Processor, &Counters, &EntryCount));
            KT_CHECK(Counters.Commands - Before >= 4);
            Awaited |= (KAFFINITY)1 << Processor;
        }
        FreeLoad(&Load);
    }
    const SPREAD Spread = QuerySpread();
    KT_EQUAL(Spread.WrongCount, 0);
    KT_CHECK(ProcessorCount == 1 || KtHasOption("intx") || (Spread.Possible & Awaited) != 1);
    KT_EQUAL(Spread.Interrupted & Awaited & Spread.Possible, Awaited & Spread.Possible);
}

// For people, and for the rows of tests/qemu/machines.py.
static VOID TheDriverTellsOfItsQueues(VOID)
{
    const PDEVICE_OBJECT Disk = IoFindDevice(FILE_DEVICE_DISK, 0);
    ULONG_PTR Information;
    if (Disk == NULL) {
        KT_SKIP("no disk");
    }
    KT_EQUAL(
        IoControlSynchronously(Disk, IOCTL_NVME_PRINT_COUNTERS, NULL, 0, NULL, 0, &Information),
        STATUS_SUCCESS);
}

// ------------------------------------------------------------------------------------------------
// Chains.

#define CHAIN_PIECES 4u

// ByteCounts are those of the pieces, Gaps what lies between them in memory.
typedef struct _CHAIN_ROW {
    ULONG FirstOffset;
    ULONG ByteCounts[CHAIN_PIECES];
    ULONG Gaps[CHAIN_PIECES];
} CHAIN_ROW;

#define CHAIN_BYTES (4 * PAGE_SIZE)

static const CHAIN_ROW ChainRows[] = {
    // Whole pages, which PRPs describe.
    {0, {PAGE_SIZE, PAGE_SIZE, PAGE_SIZE, PAGE_SIZE}, {PAGE_SIZE, 0, PAGE_SIZE, 0}},
    {512, {PAGE_SIZE - 512, PAGE_SIZE, PAGE_SIZE, PAGE_SIZE + 512}, {PAGE_SIZE, 0, 0, 0}},
    // Pieces that begin and end inside pages, at blocks, and inside blocks.
    {0, {512, 1536, PAGE_SIZE, 3 * PAGE_SIZE - 2048}, {512, 1024, 0, 0}},
    {4, {1000, 3096, PAGE_SIZE + 4, 2 * PAGE_SIZE - 4}, {100, 4, 8, 0}},
};

static PMDL BuildChain(PUCHAR Bytes, const CHAIN_ROW *Row, PMDL Pieces[CHAIN_PIECES])
{
    ULONG Offset = Row->FirstOffset;
    for (ULONG Index = 0; Index < CHAIN_PIECES; Index += 1) {
        Pieces[Index] = IoAllocateMdl(Bytes + Offset, Row->ByteCounts[Index], FALSE, FALSE, NULL);
        if (Pieces[Index] == NULL) {
            return NULL;
        }
        MmBuildMdlForNonPagedPool(Pieces[Index]);
        if (Index != 0) {
            Pieces[Index - 1]->Next = Pieces[Index];
        }
        Offset += Row->ByteCounts[Index] + Row->Gaps[Index];
    }
    return Pieces[0];
}

static VOID FreeChain(PMDL Pieces[CHAIN_PIECES])
{
    for (ULONG Index = 0; Index < CHAIN_PIECES; Index += 1) {
        if (Pieces[Index] != NULL) {
            IoFreeMdl(Pieces[Index]);
        }
    }
}

static VOID CheckChain(PDEVICE_OBJECT Disk, const CHAIN_ROW *Row, PUCHAR Bytes,
                       const UCHAR *Expected)
{
    PMDL Pieces[CHAIN_PIECES] = {0};
    ULONG_PTR Information;
    ULONG Offset = Row->FirstOffset;
    ULONG Done = 0;
    RtlFillMemory(Bytes, 2 * CHAIN_BYTES, 0xA5);
    const PMDL Chain = BuildChain(Bytes, Row, Pieces);
    if (KT_CHECK(Chain != NULL)) {
        KT_EQUAL(IoTransferSynchronously(Disk, IRP_MJ_READ, Chain, 0, CHAIN_BYTES, &Information),
                 STATUS_SUCCESS);
        KT_EQUAL(Information, CHAIN_BYTES);
    }
    for (ULONG Index = 0; Index < CHAIN_PIECES; Index += 1) {
        KT_CHECK(RtlEqualMemory(Bytes + Offset, Expected + Done, Row->ByteCounts[Index]));
        Offset += Row->ByteCounts[Index];
        Done += Row->ByteCounts[Index];
        for (ULONG Gap = 0; Gap < Row->Gaps[Index]; Gap += 1) {
            if (!KT_EQUAL(Bytes[Offset + Gap], 0xA5)) {
                break;
            }
        }
        Offset += Row->Gaps[Index];
    }
    FreeChain(Pieces);
}

static VOID ChainsOfMdlsAreReadInto(VOID)
{
    const PDEVICE_OBJECT Disk = IoFindDevice(FILE_DEVICE_DISK, 0);
    ULONG_PTR Information;
    if (Disk == NULL) {
        KT_SKIP("no disk");
    }
    const PMDL Pages = KtAllocatePages(3 * CHAIN_BYTES / PAGE_SIZE);
    const PUCHAR Bytes =
        Pages != NULL ? MmGetSystemAddressForMdlSafe(Pages, NormalPagePriority) : NULL;
    KT_REQUIRE(Bytes != NULL);
    const PUCHAR Expected = Bytes + 2 * CHAIN_BYTES;
    const PMDL Whole = IoAllocateMdl(Expected, CHAIN_BYTES, FALSE, FALSE, NULL);
    if (KT_CHECK(Whole != NULL)) {
        MmBuildMdlForNonPagedPool(Whole);
        KT_EQUAL(IoTransferSynchronously(Disk, IRP_MJ_READ, Whole, 0, CHAIN_BYTES, &Information),
                 STATUS_SUCCESS);
        IoFreeMdl(Whole);
        for (ULONG Row = 0; Row < ARRAYSIZE(ChainRows); Row += 1) {
            KtSetContext("row %u", Row);
            CheckChain(Disk, &ChainRows[Row], Bytes, Expected);
        }
    }
    MmUnmapLockedPages(Bytes, Pages);
    KtFreePages(Pages);
}

// ------------------------------------------------------------------------------------------------
// Queues of one's own.

#define DEPTH 8u

typedef struct _OWNED {
    NVME_QUEUE_INTERFACE Interface;
    NVME_NAMESPACE_INFORMATION Namespace;
    PNVME_QUEUE Queue;
    PDMA_ADAPTER Adapter;
    PMDL Pages;
    PUCHAR Bytes; // DEPTH + 1 pages: one for each command, and one to compare with
    PSCATTER_GATHER_LIST List;
    NVME_IO Ios[DEPTH + 1];
    volatile ULONG DoneCount;
} OWNED;

static NTSTATUS NTAPI KeepIrp(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    UNREFERENCED_PARAMETER(Irp);
    UNREFERENCED_PARAMETER(Context);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

// FALSE: there is no controller.
static BOOLEAN QueryInterface(OWNED *Owned)
{
    const PDEVICE_OBJECT Controller = IoFindDevice(FILE_DEVICE_CONTROLLER, 0);
    RtlZeroMemory(Owned, sizeof(*Owned));
    if (Controller == NULL) {
        return FALSE;
    }
    const PIRP Irp = IoAllocateIrp(UNCACHED_STACK_SIZE, FALSE);
    if (!KT_CHECK(Irp != NULL)) {
        return FALSE;
    }
    const PIO_STACK_LOCATION Stack = IoGetNextIrpStackLocation(Irp);
    Stack->MajorFunction = IRP_MJ_PNP;
    Stack->MinorFunction = IRP_MN_QUERY_INTERFACE;
    Stack->Parameters.QueryInterface.InterfaceType = &GUID_NVME_QUEUE_INTERFACE;
    Stack->Parameters.QueryInterface.Size = sizeof(Owned->Interface);
    Stack->Parameters.QueryInterface.Version = NVME_QUEUE_INTERFACE_VERSION;
    Stack->Parameters.QueryInterface.Interface = (PINTERFACE)&Owned->Interface;
    Irp->IoStatus.Status = STATUS_NOT_SUPPORTED;
    IoSetCompletionRoutine(Irp, KeepIrp, NULL, TRUE, TRUE, TRUE);
    const NTSTATUS Status = IoCallDriver(Controller, Irp);
    IoFreeIrp(Irp);
    return KT_EQUAL(Status, STATUS_SUCCESS) &&
           KT_EQUAL(Owned->Interface.QueryNamespace(Owned->Interface.Context, 1, &Owned->Namespace),
                    STATUS_SUCCESS);
}

static VOID NTAPI TakeList(PDEVICE_OBJECT DeviceObject, PIRP Irp, PSCATTER_GATHER_LIST List,
                           PVOID Context)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    UNREFERENCED_PARAMETER(Irp);
    *(PSCATTER_GATHER_LIST *)Context = List;
}

static BOOLEAN MapForQueue(OWNED *Owned)
{
    const PDEVICE_OBJECT Controller = IoFindDevice(FILE_DEVICE_CONTROLLER, 0);
    Owned->Adapter = Owned->Interface.GetAdapter(Owned->Queue);
    Owned->Pages = KtAllocatePages(DEPTH + 1);
    if (Owned->Pages == NULL) {
        return FALSE;
    }
    Owned->Bytes = MmGetSystemAddressForMdlSafe(Owned->Pages, NormalPagePriority);
    const KIRQL OldIrql = KeRaiseIrqlToDpcLevel();
    const NTSTATUS Status = Owned->Adapter->DmaOperations->GetScatterGatherList(
        Owned->Adapter, Controller, Owned->Pages, MmGetMdlVirtualAddress(Owned->Pages),
        (DEPTH + 1) * PAGE_SIZE, TakeList, &Owned->List, FALSE);
    KeLowerIrql(OldIrql);
    return Owned->Bytes != NULL && NT_SUCCESS(Status) && Owned->List != NULL;
}

static VOID UnmapForQueue(OWNED *Owned)
{
    const KIRQL OldIrql = KeRaiseIrqlToDpcLevel();
    if (Owned->List != NULL) {
        Owned->Adapter->DmaOperations->PutScatterGatherList(Owned->Adapter, Owned->List, FALSE);
        Owned->List = NULL;
    }
    KeLowerIrql(OldIrql);
}

static VOID CloseOwned(OWNED *Owned)
{
    UnmapForQueue(Owned);
    if (Owned->Queue != NULL) {
        Owned->Interface.CloseQueue(Owned->Queue);
    }
    if (Owned->Bytes != NULL) {
        MmUnmapLockedPages(Owned->Bytes, Owned->Pages);
    }
    if (Owned->Pages != NULL) {
        KtFreePages(Owned->Pages);
    }
    Owned->Interface.InterfaceDereference(Owned->Interface.Context);
}

static VOID NTAPI CountDone(PNVME_IO Io)
{
    KT_EQUAL(KeGetCurrentIrql(), DISPATCH_LEVEL);
    ((OWNED *)Io->Context)->DoneCount += 1;
}

// Command Index reads page Index of the disk to page Index of the buffer.
static VOID DescribeRead(OWNED *Owned, ULONG Index)
{
    const ULONG BlocksPerPage = PAGE_SIZE / Owned->Namespace.BlockBytes;
    Owned->Ios[Index] = (NVME_IO){.Opcode = NvmeIoRead,
                                  .NamespaceId = Owned->Namespace.NamespaceId,
                                  .FirstBlock = (ULONG64)Index * BlocksPerPage,
                                  .BlockCount = BlocksPerPage,
                                  .ByteOffset = Index * PAGE_SIZE,
                                  .List = Owned->List,
                                  .Done = CountDone,
                                  .Context = Owned,
                                  .Status = STATUS_PENDING};
}

static BOOLEAN AwaitOwned(OWNED *Owned, ULONG Count, BOOLEAN IsPolled)
{
    LARGE_INTEGER Interval = {.QuadPart = -10000};
    for (ULONG Turn = 0; Owned->DoneCount < Count && Turn < AWAITED_SECONDS * 1000; Turn += 1) {
        if (IsPolled) {
            (VOID) Owned->Interface.Poll(Owned->Queue);
        }
        (VOID) KeDelayExecutionThread(KernelMode, FALSE, &Interval);
    }
    return KT_EQUAL(Owned->DoneCount, Count);
}

static VOID CheckOwnedReads(OWNED *Owned, BOOLEAN IsPolled)
{
    PNVME_IO Ios[DEPTH + 1];
    NVME_QUEUE_COUNTERS Counters;
    for (ULONG Index = 0; Index <= DEPTH; Index += 1) {
        DescribeRead(Owned, Index);
        Ios[Index] = &Owned->Ios[Index];
    }
    // One more than there is room for: at DISPATCH_LEVEL, so that none is done meanwhile.
    const KIRQL OldIrql = KeRaiseIrqlToDpcLevel();
    KT_EQUAL(Owned->Interface.Submit(Owned->Queue, Ios, DEPTH + 1), DEPTH);
    KeLowerIrql(OldIrql);
    if (!AwaitOwned(Owned, DEPTH, IsPolled)) {
        return;
    }
    Owned->Interface.QueryCounters(Owned->Queue, &Counters);
    KT_EQUAL(Counters.Commands, DEPTH);
    KT_EQUAL(Counters.TailDoorbells, 1);
    KT_CHECK(Counters.HeadDoorbells + Counters.SavedDoorbells <= Counters.Reaps + 1);
    KT_CHECK(IsPolled ? Counters.Interrupts == 0 : Counters.Interrupts > 0);
    UnmapForQueue(Owned);
    ULONG_PTR Information;
    const PMDL Last =
        IoAllocateMdl(Owned->Bytes + DEPTH * PAGE_SIZE, PAGE_SIZE, FALSE, FALSE, NULL);
    KT_REQUIRE(Last != NULL);
    MmBuildMdlForNonPagedPool(Last);
    for (ULONG Index = 0; Index < DEPTH; Index += 1) {
        KT_EQUAL(Owned->Ios[Index].Status, STATUS_SUCCESS);
        KT_EQUAL(IoTransferSynchronously(IoFindDevice(FILE_DEVICE_DISK, 0), IRP_MJ_READ, Last,
                                         Index * PAGE_SIZE, PAGE_SIZE, &Information),
                 STATUS_SUCCESS);
        KT_CHECK(RtlEqualMemory(Owned->Bytes + Index * PAGE_SIZE, Owned->Bytes + DEPTH * PAGE_SIZE,
                                PAGE_SIZE));
    }
    IoFreeMdl(Last);
}

static VOID CheckOwnedQueue(const NVME_QUEUE_OPTIONS *Options)
{
    OWNED *Owned = ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(*Owned), 'tqvN');
    KT_REQUIRE(Owned != NULL);
    if (!QueryInterface(Owned)) {
        ExFreePool(Owned);
        KT_SKIP("no NVMe controller");
    }
    if (KT_EQUAL(Owned->Interface.OpenQueue(Owned->Interface.Context, Options, &Owned->Queue),
                 STATUS_SUCCESS) &&
        KT_CHECK(MapForQueue(Owned))) {
        CheckOwnedReads(Owned, Options->IsPolled);
    }
    CloseOwned(Owned);
    ExFreePool(Owned);
}

static VOID QueuesWithInterrupts(VOID)
{
    CheckOwnedQueue(&(NVME_QUEUE_OPTIONS){.Depth = DEPTH});
}

static VOID PolledQueues(VOID)
{
    CheckOwnedQueue(&(NVME_QUEUE_OPTIONS){.Depth = DEPTH, .IsPolled = TRUE});
}

static VOID QueuesWithLists(VOID)
{
    CheckOwnedQueue(&(NVME_QUEUE_OPTIONS){.Depth = DEPTH, .WantsLists = TRUE});
}

// What an emulated controller might let pass.
static VOID CheckRefusals(OWNED *Owned)
{
    const ULONG64 BlockCount = Owned->Namespace.BlockCount;
    const ULONG Id = Owned->Namespace.NamespaceId;
    const struct {
        UCHAR Opcode;
        ULONG NamespaceId;
        ULONG64 FirstBlock;
        ULONG BlockCount;
        ULONG ByteOffset;
        NTSTATUS Expected;
    } Rows[] = {
        {0x99, Id, 0, 1, 0, STATUS_INVALID_DEVICE_REQUEST},
        {NvmeIoRead, 77, 0, 1, 0, STATUS_NO_SUCH_DEVICE},
        {NvmeIoRead, 0, 0, 1, 0, STATUS_NO_SUCH_DEVICE},
        {NvmeIoRead, Id, 0, 0, 0, STATUS_INVALID_PARAMETER},
        {NvmeIoRead, Id, 0, MAXULONG, 0, STATUS_INVALID_PARAMETER},
        {NvmeIoRead, Id, BlockCount, 1, 0, STATUS_NONEXISTENT_SECTOR},
        {NvmeIoRead, Id, MAXULONG64, 1, 0, STATUS_NONEXISTENT_SECTOR},
        {NvmeIoRead, Id, 0, 1, 2, STATUS_DATATYPE_MISALIGNMENT},
        {NvmeIoRead, Id, 0, 1, (DEPTH + 1) * PAGE_SIZE, STATUS_BUFFER_TOO_SMALL},
    };
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        const PNVME_IO Io = &Owned->Ios[0];
        const ULONG DoneCount = Owned->DoneCount;
        KtSetContext("row %u", Row);
        DescribeRead(Owned, 0);
        Io->Opcode = Rows[Row].Opcode;
        Io->NamespaceId = Rows[Row].NamespaceId;
        Io->FirstBlock = Rows[Row].FirstBlock;
        Io->BlockCount = Rows[Row].BlockCount;
        Io->ByteOffset = Rows[Row].ByteOffset;
        KT_EQUAL(Owned->Interface.Submit(Owned->Queue, &Io, 1), 1);
        KT_EQUAL(Owned->DoneCount, DoneCount + 1);
        KT_EQUAL(Io->Status, Rows[Row].Expected);
    }
}

static VOID SenselessCommandsAreRefused(VOID)
{
    const NVME_QUEUE_OPTIONS Options = {.Depth = DEPTH, .IsPolled = TRUE};
    NVME_QUEUE_COUNTERS Counters;
    OWNED *Owned = ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(*Owned), 'tqvN');
    KT_REQUIRE(Owned != NULL);
    if (!QueryInterface(Owned)) {
        ExFreePool(Owned);
        KT_SKIP("no NVMe controller");
    }
    const NVME_QUEUE_OPTIONS None = {.Depth = 0};
    const NVME_QUEUE_OPTIONS Huge = {.Depth = 1u << 20};
    KT_EQUAL(Owned->Interface.OpenQueue(Owned->Interface.Context, &None, &Owned->Queue),
             STATUS_INVALID_PARAMETER);
    KT_EQUAL(Owned->Interface.OpenQueue(Owned->Interface.Context, &Huge, &Owned->Queue),
             STATUS_INVALID_PARAMETER);
    if (KT_EQUAL(Owned->Interface.OpenQueue(Owned->Interface.Context, &Options, &Owned->Queue),
                 STATUS_SUCCESS) &&
        KT_CHECK(MapForQueue(Owned))) {
        CheckRefusals(Owned);
        Owned->Interface.QueryCounters(Owned->Queue, &Counters);
        KT_EQUAL(Counters.Commands, 0);
    }
    CloseOwned(Owned);
    ExFreePool(Owned);
}

static const KT_TEST QueueTests[] = {
    {"more requests than a queue holds wait, and are all done [3.1.2]",
     MoreRequestsThanAQueueHolds},
    {"a request that waits for the controller can be cancelled [3.1.2]",
     WaitingRequestsCanBeCancelled},
    {"requests that are sent in a row at DISPATCH_LEVEL cost one doorbell [3.1.2]",
     OneDoorbellForManyRequests},
    {"each processor's requests go to a queue of its own, which interrupts it [25.4.1]",
     QueuesInterruptTheirProcessors},
    {"the driver tells what its queues are, and what they did [3.4.4]", TheDriverTellsOfItsQueues},
    {"a chain of MDLs is read into, whatever its pieces [3.1.2]", ChainsOfMdlsAreReadInto},
    {"a queue of one's own reads what requests do [3.1.2]", QueuesWithInterrupts},
    {"a polled queue works without interrupts [3.1.2]", PolledQueues},
    {"a queue that describes buffers by SGLs reads the same [3.1.2]", QueuesWithLists},
    {"a command that makes no sense never reaches the controller [3.1.2]",
     SenselessCommandsAreRefused},
};
const KT_SUITE KtNvmeQueueSuite = {"nvme-queue", KtNeedsDevices, QueueTests, ARRAYSIZE(QueueTests)};
