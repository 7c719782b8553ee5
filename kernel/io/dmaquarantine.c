// Quarantine: memory that a device may write to for ever.
//
// A driver whose device never answers has a transfer that it cannot end: PutScatterGatherList and
// FreeCommonBuffer would say that the device is done. It hands the memory over instead. The frames that the
// device knows of, of the buffer, of bounce pages or of a common buffer, are marked (MmQuarantineFrames): they
// stay with who has them, and nobody gets them once they are freed. So a device that wakes up later writes to
// memory that nobody has; the driver may go on, complete requests, reset its device, and release its adapter.
//
// A driver that releases its adapter with transfers outstanding has handed over nothing. At level 1 of the
// verifier that is a violation, because most often it is a driver that forgot. At level 0 the adapter
// becomes a grave: its bounce pages, its common buffers and its records are never freed, nor the frames of
// the buffers used again.
#include "kernel/io/dmastraight.h"

ULONG64 IopDmaQuarantinedPages;

ULONG64 IoQuarantinedDmaPages(VOID)
{
    return IopDmaQuarantinedPages;
}

static VOID IopQuarantineRun(ULONG64 Address, ULONG64 ByteCount)
{
    const PFN_NUMBER LastPfn = (Address + ByteCount - 1) >> PAGE_SHIFT;
    for (PFN_NUMBER Pfn = Address >> PAGE_SHIFT; Pfn <= LastPfn; Pfn += 1) {
        IopDmaQuarantinedPages += MmQuarantineFrames(&Pfn, 1);
    }
}

static VOID IopQuarantineElements(const SCATTER_GATHER_LIST *List)
{
    for (ULONG Index = 0; Index < List->NumberOfElements; Index += 1) {
        IopQuarantineRun((ULONG64)List->Elements[Index].Address.QuadPart,
                         List->Elements[Index].Length);
    }
}

// What is mapped of the driver's buffer itself.
static VOID IopQuarantineHold(const IOP_DMA_HOLD *Hold)
{
    for (ULONG Index = 0; Index < Hold->UsedCount; Index += 1) {
        const IOP_DMA_REGISTER *Register = &Hold->Registers[Index];
        if (Register->Mdl != NULL && Register->Bounce == NULL) {
            IopDmaQuarantinedPages += MmQuarantineFrames(&Register->Pfn, 1);
        }
    }
}

static VOID IopQuarantineBouncePages(const IOP_DMA_HOLD *Hold)
{
    const IOP_DMA_ADAPTER *Adapter = Hold->Adapter;
    if (Adapter->Block != NULL && Hold->RegisterCount != 0) {
        IopQuarantineRun(Adapter->RegistersPa + ((ULONG64)Hold->FirstRegister << PAGE_SHIFT),
                         (ULONG64)Hold->RegisterCount << PAGE_SHIFT);
    }
}

VOID NTAPI IoQuarantineScatterGatherList(PDMA_ADAPTER DmaAdapter,
                                         PSCATTER_GATHER_LIST ScatterGather)
{
    PVOID const Caller = __builtin_return_address(0);
    const PIOP_DMA_ADAPTER Adapter = IopEnterDma(DmaAdapter, IopDmaQuarantineList, Caller);
    const PIOP_DMA_STRAIGHT Straight = IopFindAmongStraight(Adapter, ScatterGather);
    if (Straight != NULL) {
        IopQuarantineElements(ScatterGather);
        IopPutStraightList(Straight, ScatterGather);
        return;
    }
    const PIOP_DMA_HOLD Hold =
        IopFindList(Adapter, ScatterGather, "IoQuarantineScatterGatherList", Caller);
    IopQuarantineHold(Hold);
    IopQuarantineBouncePages(Hold);
    ScatterGather->Reserved = 0;
    IopLoseHold(Hold);
}

VOID NTAPI IoQuarantineCommonBuffer(PDMA_ADAPTER DmaAdapter, PVOID VirtualAddress)
{
    PVOID const Caller = __builtin_return_address(0);
    const PIOP_DMA_ADAPTER Adapter = IopEnterDma(DmaAdapter, IopDmaQuarantineBuffer, Caller);
    const PIOP_DMA_BUFFER Buffer = IopRemoveBuffer(Adapter, VirtualAddress);
    if (Buffer == NULL) {
        IopStopDma(0x03, 1, (ULONG_PTR)VirtualAddress, (ULONG_PTR)Adapter, Caller,
                   "IoQuarantineCommonBuffer: 0x%p is no common buffer of the adapter at 0x%p",
                   VirtualAddress, Adapter);
    }
    IopQuarantineRun((ULONG64)Buffer->LogicalAddress.QuadPart, Buffer->ByteCount);
    MmFreeContiguousMemory(Buffer->Block);
    ExFreePoolWithTag(Buffer, IOP_DMA_TAG);
}

VOID IopQuarantineAdapter(PIOP_DMA_ADAPTER Adapter)
{
    for (PLIST_ENTRY Link = Adapter->Holds.Flink; Link != &Adapter->Holds; Link = Link->Flink) {
        IopQuarantineHold(CONTAINING_RECORD(Link, IOP_DMA_HOLD, Link));
    }
    for (PIOP_DMA_SLOT Slot = IopNextSlot(Adapter, NULL); Slot != NULL;
         Slot = IopNextSlot(Adapter, Slot)) {
        ((PIOP_DMA_STRAIGHT)Slot->List->Reserved)->Signature = 0; // it can no longer be put
        IopQuarantineElements(Slot->List);
    }
    IopDmaQuarantinedPages += Adapter->BufferPages;
    IopDmaQuarantinedPages += Adapter->Block != NULL ? Adapter->RegisterCount + 2 : 0;
}
