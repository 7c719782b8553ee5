// What it costs to map a buffer for a device and to end the mapping: an adapter of 64 address bits, at
// DISPATCH_LEVEL, as a driver does it for each transfer.
#include "tests/kernel/bench.h"

#define MANY_PAGES 32u

typedef struct _DMA_BENCH {
    PDMA_ADAPTER Adapter;
    PMDL Mdl;
    ULONG ByteCount;
    PVOID Buffer; // for lists
    ULONG BufferByteCount;
    DECLSPEC_ALIGN(8) UCHAR TransferContext[DMA_TRANSFER_CONTEXT_SIZE_V1];
} DMA_BENCH;

static DEVICE_OBJECT Device; // of nobody: only its CurrentIrp is looked at

static VOID BuildAndPut(PVOID Context)
{
    DMA_BENCH *const Bench = Context;
    const DMA_OPERATIONS *const Operations = Bench->Adapter->DmaOperations;
    PSCATTER_GATHER_LIST List;
    if (NT_SUCCESS(Operations->BuildScatterGatherListEx(
            Bench->Adapter, &Device, Bench->TransferContext, Bench->Mdl, 0, Bench->ByteCount,
            DMA_SYNCHRONOUS_CALLBACK, NULL, NULL, TRUE, Bench->Buffer, Bench->BufferByteCount, NULL,
            NULL, &List))) {
        Operations->PutScatterGatherList(Bench->Adapter, List, TRUE);
    }
}

static VOID GetAndPut(PVOID Context)
{
    DMA_BENCH *const Bench = Context;
    const DMA_OPERATIONS *const Operations = Bench->Adapter->DmaOperations;
    PSCATTER_GATHER_LIST List;
    if (NT_SUCCESS(Operations->GetScatterGatherListEx(
            Bench->Adapter, &Device, Bench->TransferContext, Bench->Mdl, 0, Bench->ByteCount,
            DMA_SYNCHRONOUS_CALLBACK, NULL, NULL, TRUE, NULL, NULL, &List))) {
        Operations->PutScatterGatherList(Bench->Adapter, List, TRUE);
    }
}

static VOID NTAPI PutAtOnce(PDEVICE_OBJECT DeviceObject, PIRP Irp, PSCATTER_GATHER_LIST List,
                            PVOID Context)
{
    const PDMA_ADAPTER Adapter = ((const DMA_BENCH *)Context)->Adapter;
    UNREFERENCED_PARAMETER(DeviceObject);
    UNREFERENCED_PARAMETER(Irp);
    Adapter->DmaOperations->PutScatterGatherList(Adapter, List, TRUE);
}

// By the routine of version 2: in the driver's memory, too, and its routine is called.
static VOID BuildAndPutInRoutine(PVOID Context)
{
    DMA_BENCH *const Bench = Context;
    (VOID) Bench->Adapter->DmaOperations->BuildScatterGatherList(
        Bench->Adapter, &Device, Bench->Mdl, MmGetMdlVirtualAddress(Bench->Mdl), Bench->ByteCount,
        PutAtOnce, Bench, TRUE, Bench->Buffer, Bench->BufferByteCount);
}

// Every other page comes from the end, so that no two adjoin.
static VOID ScatterPages(PMDL Mdl, ULONG PageCount)
{
    const PPFN_NUMBER Pfns = MmGetMdlPfnArray(Mdl);
    for (ULONG Index = 0; Index < PageCount / 2; Index += 2) {
        const PFN_NUMBER Pfn = Pfns[Index];
        Pfns[Index] = Pfns[PageCount - 1 - Index];
        Pfns[PageCount - 1 - Index] = Pfn;
    }
}

static VOID BenchLists(DMA_BENCH *Bench)
{
    KIRQL OldIrql;
    KeRaiseIrql(DISPATCH_LEVEL, &OldIrql);
    Bench->ByteCount = PAGE_SIZE;
    KtBench("dma-list-1", BuildAndPut, Bench);
    KtBench("dma-list-1-routine", BuildAndPutInRoutine, Bench);
    KtBench("dma-list-1-system", GetAndPut, Bench);
    Bench->ByteCount = MANY_PAGES * PAGE_SIZE;
    KtBench("dma-list-32", BuildAndPut, Bench);
    ScatterPages(Bench->Mdl, MANY_PAGES);
    KtBench("dma-list-32-scattered", BuildAndPut, Bench);
    KeLowerIrql(OldIrql);
}

VOID KtBenchDma(VOID)
{
    DEVICE_DESCRIPTION Description = {
        .Version = DEVICE_DESCRIPTION_VERSION3,
        .Master = TRUE,
        .ScatterGather = TRUE,
        .Dma32BitAddresses = TRUE,
        .Dma64BitAddresses = TRUE,
        .InterfaceType = PCIBus,
        .MaximumLength = MANY_PAGES * PAGE_SIZE,
    };
    ULONG RegisterCount;
    DMA_BENCH Bench = {.Adapter = IoGetDmaAdapter(NULL, &Description, &RegisterCount)};
    const PVOID Block =
        MmAllocateContiguousMemory((SIZE_T)MANY_PAGES * PAGE_SIZE, KtPhysical(MAXULONG64));
    if (Bench.Adapter == NULL || Block == NULL) {
        DbgPrint("too little memory for a DMA adapter\n");
        return;
    }
    const DMA_OPERATIONS *const Operations = Bench.Adapter->DmaOperations;
    (VOID) Operations->InitializeDmaTransferContext(Bench.Adapter, Bench.TransferContext);
    (VOID) Operations->CalculateScatterGatherList(
        Bench.Adapter, NULL, Block, MANY_PAGES * PAGE_SIZE, &Bench.BufferByteCount, NULL);
    Bench.Mdl = IoAllocateMdl(Block, MANY_PAGES * PAGE_SIZE, FALSE, FALSE, NULL);
    Bench.Buffer = ExAllocatePool2(POOL_FLAG_NON_PAGED, Bench.BufferByteCount, KT_TAG);
    if (Bench.Mdl != NULL && Bench.Buffer != NULL) {
        MmBuildMdlForNonPagedPool(Bench.Mdl);
        BenchLists(&Bench);
        ExFreePoolWithTag(Bench.Buffer, KT_TAG);
        IoFreeMdl(Bench.Mdl);
    }
    MmFreeContiguousMemory(Block);
    Operations->PutDmaAdapter(Bench.Adapter);
}
