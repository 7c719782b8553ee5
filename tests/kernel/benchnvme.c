// What the NVMe driver costs per I/O, on the first disk. Its content is not looked at: the runner puts
// a disk there that answers at once and keeps nothing.
//
// A round is a batch: as many requests as the row's depth, sent one after the other; it is over when all
// are completed.
#include "tests/kernel/bench.h"

#include "kernel/inc/io.h"
#include "kernel/inc/ke.h"

#define MAXIMUM_DEPTH 32u

typedef struct _REQUEST {
    PIRP Irp;
    PMDL Mdl;
    ULONG64 ByteOffset; // where the next transfer begins
} REQUEST;

typedef struct _NVME_BENCH {
    PDEVICE_OBJECT Disk;
    ULONG Depth;
    ULONG ByteCount; // of one transfer
    ULONG64 Step;    // bytes from one transfer of a request to the next
    REQUEST Requests[MAXIMUM_DEPTH];
    volatile ULONG DoneCount; // of all rounds; wraps around
    ULONG FailureCount;
    BOOLEAN HasTimedOut;
} NVME_BENCH;

static const struct {
    PCSTR Name;
    ULONG Depth;
    ULONG ByteCount;
    ULONG64 Step;
} Rows[] = {
    {"nvme-4k-qd32-irp", 32, 4 * KT_KIB, 7919 * 4 * KT_KIB}, // here and there
    {"nvme-4k-qd1-irp", 1, 4 * KT_KIB, 7919 * 4 * KT_KIB},
    {"nvme-128k-seq-irp", 32, 128 * KT_KIB, 32 * 128 * KT_KIB},
};
#define WRAP (KT_GIB - 1) // offsets stay below it

static NTSTATUS NTAPI CountDone(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context)
{
    NVME_BENCH *const Bench = Context;
    UNREFERENCED_PARAMETER(DeviceObject);
    if (!NT_SUCCESS(Irp->IoStatus.Status)) {
        Bench->FailureCount += 1;
    }
    Bench->DoneCount += 1;
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static VOID SendRead(NVME_BENCH *Bench, REQUEST *Request)
{
    IoReuseIrp(Request->Irp, STATUS_NOT_SUPPORTED);
    Request->Irp->MdlAddress = Request->Mdl;
    const PIO_STACK_LOCATION Stack = IoGetNextIrpStackLocation(Request->Irp);
    Stack->MajorFunction = IRP_MJ_READ;
    Stack->Parameters.Read.Length = Bench->ByteCount;
    Stack->Parameters.Read.ByteOffset.QuadPart = (LONG64)Request->ByteOffset;
    IoSetCompletionRoutine(Request->Irp, CountDone, Bench, TRUE, TRUE, TRUE);
    Request->ByteOffset = (Request->ByteOffset + Bench->Step) & WRAP;
    (VOID) IoCallDriver(Bench->Disk, Request->Irp);
}

static ULONG64 ReadBatch(PVOID Context)
{
    NVME_BENCH *const Bench = Context;
    const ULONG Target = Bench->DoneCount + Bench->Depth;
    const ULONG64 Start = KeReadCycles();
    for (ULONG Index = 0; Index < Bench->Depth; Index += 1) {
        SendRead(Bench, &Bench->Requests[Index]);
    }
    const ULONG64 Sending = KeReadCycles() - Start - KtBenchOverhead;
    return Sending + KtAwait(&Bench->DoneCount, Target, &Bench->HasTimedOut);
}

static BOOLEAN AllocateRequests(NVME_BENCH *Bench)
{
    for (ULONG Index = 0; Index < Bench->Depth; Index += 1) {
        Bench->Requests[Index] = (REQUEST){
            .Irp = IoAllocateIrp(Bench->Disk->StackSize, FALSE),
            .Mdl = KtAllocatePages(Bench->ByteCount / PAGE_SIZE),
            .ByteOffset = (ULONG64)Index * Bench->ByteCount,
        };
        if (Bench->Requests[Index].Irp == NULL || Bench->Requests[Index].Mdl == NULL) {
            return FALSE;
        }
    }
    return TRUE;
}

static VOID FreeRequests(const NVME_BENCH *Bench)
{
    for (ULONG Index = 0; Index < Bench->Depth; Index += 1) {
        if (Bench->Requests[Index].Irp != NULL) {
            IoFreeIrp(Bench->Requests[Index].Irp);
        }
        if (Bench->Requests[Index].Mdl != NULL) {
            KtFreePages(Bench->Requests[Index].Mdl);
        }
    }
}

// FALSE: requests did not come back, and nothing may be measured any more.
static BOOLEAN BenchReads(PDEVICE_OBJECT Disk, ULONG Row)
{
    static NVME_BENCH Bench; // it stays, should the driver not give its requests back
    Bench = (NVME_BENCH){.Disk = Disk,
                         .Depth = Rows[Row].Depth,
                         .ByteCount = Rows[Row].ByteCount,
                         .Step = Rows[Row].Step};
    if (AllocateRequests(&Bench)) {
        KtBenchRounds(Rows[Row].Name, ReadBatch, &Bench, Bench.Depth);
    }
    if (Bench.FailureCount != 0) {
        DbgPrint("%s: %u requests failed\n", Rows[Row].Name, Bench.FailureCount);
    }
    if (Bench.HasTimedOut) {
        DbgPrint("%s: requests did not come back\n", Rows[Row].Name);
        return FALSE;
    }
    FreeRequests(&Bench);
    return TRUE;
}

VOID KtBenchNvme(VOID)
{
    const PDEVICE_OBJECT Disk = IoFindDevice(FILE_DEVICE_DISK, 0);
    if (Disk == NULL) {
        return;
    }
    KtPrintImage(Disk->DriverObject);
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        if (KtIsBenchWanted(Rows[Row].Name) && !BenchReads(Disk, Row)) {
            return;
        }
    }
}
