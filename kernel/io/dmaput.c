// What a driver does with a list that it has: it puts it, or makes an MDL of it.
#include "kernel/io/dmastraight.h"

PIOP_DMA_HOLD IopFindList(PIOP_DMA_ADAPTER Adapter, PSCATTER_GATHER_LIST List, PCSTR Routine,
                          PVOID Caller)
{
    PIOP_DMA_HOLD Found = NULL;
    if (IopIsVerifyingDma()) {
        const KIRQL OldIrql = KiAcquireLock(&Adapter->Lock);
        for (PLIST_ENTRY Link = Adapter->Holds.Flink; Link != &Adapter->Holds; Link = Link->Flink) {
            const PIOP_DMA_HOLD Hold = CONTAINING_RECORD(Link, IOP_DMA_HOLD, Link);
            Found = Hold->Kind == IopDmaList && Hold->List == List ? Hold : Found;
        }
        KiReleaseLock(&Adapter->Lock, OldIrql);
    } else {
        const PIOP_DMA_HOLD Hold = List != NULL ? (PIOP_DMA_HOLD)List->Reserved : NULL;
        Found = Hold != NULL && Hold->Signature == IOP_DMA_HOLD_SIGNATURE && Hold->List == List &&
                        Hold->Adapter == Adapter
                    ? Hold
                    : NULL;
    }
    if (Found == NULL) {
        IopStopDma(0x06, Adapter->TransferCount, (ULONG_PTR)List, (ULONG_PTR)Adapter, Caller,
                   "%s: 0x%p is no list of the adapter at 0x%p (never was, or it was freed "
                   "already)",
                   Routine, List, Adapter);
    }
    return Found;
}

PIOP_DMA_STRAIGHT IopFindAmongStraight(PIOP_DMA_ADAPTER Adapter, const SCATTER_GATHER_LIST *List)
{
    PIOP_DMA_STRAIGHT Found = NULL;
    const KIRQL OldIrql = KiAcquireLock(&Adapter->Lock);
    for (PIOP_DMA_SLOT Slot = IopNextSlot(Adapter, NULL); Slot != NULL && Found == NULL;
         Slot = IopNextSlot(Adapter, Slot)) {
        Found = Slot->List == List ? (PIOP_DMA_STRAIGHT)List->Reserved : NULL;
    }
    KiReleaseLock(&Adapter->Lock, OldIrql);
    return Found;
}

// The long way. Of the same convention, and called last: so that the short way saves no registers.
static DECLSPEC_NOINLINE VOID NTAPI IopPutList(PDMA_ADAPTER DmaAdapter,
                                               PSCATTER_GATHER_LIST ScatterGather,
                                               BOOLEAN WriteToDevice, PVOID Caller)
{
    const PIOP_DMA_ADAPTER Adapter = IopEnterDma(DmaAdapter, IopDmaPutList, Caller);
    const PIOP_DMA_STRAIGHT Straight = IopFindAmongStraight(Adapter, ScatterGather);
    if (Straight != NULL) {
        IopPutStraightList(Straight, ScatterGather);
        return;
    }
    const PIOP_DMA_HOLD Hold = IopFindList(Adapter, ScatterGather, "PutScatterGatherList", Caller);
    if (IopIsVerifyingDma() && Hold->Span.WriteToDevice != WriteToDevice) {
        IopStopDma(0x20, (ULONG_PTR)ScatterGather, (ULONG_PTR)Hold->Span.Mdl, WriteToDevice, Caller,
                   "PutScatterGatherList: the list at 0x%p maps the MDL at 0x%p, %s the device",
                   ScatterGather, Hold->Span.Mdl, Hold->Span.WriteToDevice ? "to" : "from");
    }
    (VOID) IopFlushSpan(Hold, &Hold->Span, Caller);
    ScatterGather->Reserved = 0;
    IopReleaseHold(Hold);
}

VOID NTAPI IopPutScatterGatherList(PDMA_ADAPTER DmaAdapter, PSCATTER_GATHER_LIST ScatterGather,
                                   BOOLEAN WriteToDevice)
{
    const PIOP_DMA_STRAIGHT Straight = IopFindStraightList(DmaAdapter, ScatterGather);
    if (Straight != NULL) {
        IopPutStraightList(Straight, ScatterGather);
        return;
    }
    IopPutList(DmaAdapter, ScatterGather, WriteToDevice, __builtin_return_address(0));
}

// Whether the list's addresses are those of the MDL's own frames.
static BOOLEAN IopIsBufferInPlace(const IOP_DMA_HOLD *Hold)
{
    for (ULONG Index = 0; Index < Hold->UsedCount; Index += 1) {
        if (Hold->Registers[Index].Bounce != NULL) {
            return FALSE;
        }
    }
    return TRUE;
}

// An MDL can tell of no gap: where one element ends and the next begins there must be a new page.
static BOOLEAN IopIsListDescribable(const SCATTER_GATHER_LIST *List)
{
    for (ULONG Index = 1; Index < List->NumberOfElements; Index += 1) {
        const SCATTER_GATHER_ELEMENT *Element = &List->Elements[Index];
        if (BYTE_OFFSET(Element->Address.QuadPart) != 0 ||
            BYTE_OFFSET(Element[-1].Address.QuadPart + Element[-1].Length) != 0) {
            return FALSE;
        }
    }
    return TRUE;
}

// An MDL of the frames that the device uses. It owns no lock, as a partial one.
static PMDL IopMakeLogicalMdl(const SCATTER_GATHER_LIST *List, ULONG ByteCount)
{
    const ULONG ByteOffset = BYTE_OFFSET(List->Elements[0].Address.QuadPart);
    const PMDL Mdl = IopIsListDescribable(List) ? IoAllocateMdl((PVOID)(ULONG_PTR)ByteOffset,
                                                                ByteCount, FALSE, FALSE, NULL)
                                                : NULL;
    if (Mdl == NULL) {
        return NULL;
    }
    PPFN_NUMBER Pfn = MmGetMdlPfnArray(Mdl);
    for (ULONG Index = 0; Index < List->NumberOfElements; Index += 1) {
        const ULONG64 First = (ULONG64)List->Elements[Index].Address.QuadPart;
        const ULONG64 Last = First + List->Elements[Index].Length - 1;
        for (PFN_NUMBER Each = First >> PAGE_SHIFT; Each <= Last >> PAGE_SHIFT; Each += 1) {
            *Pfn = Each;
            Pfn += 1;
        }
    }
    Mdl->MdlFlags |= MDL_PARTIAL;
    return Mdl;
}

NTSTATUS NTAPI IopBuildMdlFromScatterGatherList(PDMA_ADAPTER DmaAdapter,
                                                PSCATTER_GATHER_LIST ScatterGather,
                                                PMDL OriginalMdl, PMDL *TargetMdl)
{
    PVOID const Caller = __builtin_return_address(0);
    const PIOP_DMA_ADAPTER Adapter = IopEnterDma(DmaAdapter, IopDmaBuildMdl, Caller);
    if (OriginalMdl == NULL) {
        return STATUS_INVALID_PARAMETER;
    }
    const PIOP_DMA_STRAIGHT Straight = IopFindAmongStraight(Adapter, ScatterGather);
    if (Straight != NULL) {
        const BOOLEAN HadMdl = Straight->HasMdl;
        Straight->HasMdl = TRUE;
        *TargetMdl = HadMdl ? *TargetMdl : OriginalMdl;
        return HadMdl ? STATUS_NONE_MAPPED : STATUS_SUCCESS;
    }
    const PIOP_DMA_HOLD Hold =
        IopFindList(Adapter, ScatterGather, "BuildMdlFromScatterGatherList", Caller);
    if (Hold->HasMdl) {
        return STATUS_NONE_MAPPED;
    }
    *TargetMdl = IopIsBufferInPlace(Hold) ? OriginalMdl
                                          : IopMakeLogicalMdl(Hold->List, Hold->Span.ByteCount);
    if (*TargetMdl == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    Hold->HasMdl = TRUE;
    return STATUS_SUCCESS;
}
