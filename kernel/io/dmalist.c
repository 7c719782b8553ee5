// Scatter-gather lists: a whole transfer mapped at once, in the system's memory or the driver's.
//
// Where no page bounces there is a short way (dmastraight.h). The long one knows bounce pages, waiting, the
// verifier's rules, and why a request is refused.
#include "kernel/io/dmastraight.h"

// What can be said without looking at the adapter.
static NTSTATUS IopCheckRequest(const IOP_LIST_REQUEST *Request)
{
    const ULONG64 ChainBytes = IopChainByteCount(Request->Span.Mdl);
    IopVerifySpan(&Request->Span, Request->OutsideCode, Request->Va, Request->Routine,
                  Request->Caller);
    if (Request->Span.ByteCount == 0 || (Request->Flags & ~(ULONG)IOP_LIST_FLAGS) != 0) {
        return STATUS_INVALID_PARAMETER;
    }
    if (Request->ListRoutine == NULL &&
        ((Request->Flags & DMA_SYNCHRONOUS_CALLBACK) == 0 || Request->Result == NULL)) {
        return STATUS_INVALID_PARAMETER;
    }
    if (Request->Span.Offset > ChainBytes ||
        Request->Span.ByteCount > ChainBytes - Request->Span.Offset) {
        return STATUS_BUFFER_TOO_SMALL;
    }
    return STATUS_SUCCESS;
}

static NTSTATUS IopCheckAgainstAdapter(PIOP_DMA_ADAPTER Adapter, const IOP_LIST_REQUEST *Request,
                                       ULONG PageCount)
{
    if (IopIsVerifyingDma() && PageCount > Adapter->RegisterCount) {
        IopStopDma(0x15, PageCount, Adapter->RegisterCount, (ULONG_PTR)Adapter, Request->Caller,
                   "%s: %u map registers are needed, IoGetDmaAdapter granted %u", Request->Routine,
                   PageCount, Adapter->RegisterCount);
    }
    if (PageCount > Adapter->RegisterCount) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    if (Request->HasBuffer && Request->BufferByteCount < IopListByteCount(PageCount)) {
        return STATUS_BUFFER_TOO_SMALL;
    }
    return IopCheckReach(Adapter, &Request->Span, (Request->Flags & DMA_FAIL_ON_BOUNCE) == 0);
}

static PIOP_DMA_HOLD IopMakeListHold(PIOP_DMA_ADAPTER Adapter, const IOP_LIST_REQUEST *Request,
                                     ULONG PageCount)
{
    const SIZE_T ListBytes = Request->HasBuffer ? 0 : IopListByteCount(PageCount);
    const PIOP_DMA_HOLD Hold =
        IopAllocateHold(Adapter, IopDmaList, PageCount, ListBytes, Request->Caller);
    if (Hold == NULL) {
        return NULL;
    }
    Hold->DeviceObject = Request->DeviceObject;
    Hold->ListRoutine = Request->ListRoutine;
    Hold->RoutineContext = Request->RoutineContext;
    Hold->Span = Request->Span;
    Hold->Span.IsZeroed = (Request->Flags & DMA_ZERO_BUFFERS) != 0;
    Hold->List = Request->HasBuffer ? Request->Buffer : (PVOID)&Hold->Registers[PageCount];
    return Hold;
}

// The long way.
static NTSTATUS IopRequestList(PDMA_ADAPTER DmaAdapter, IOP_DMA_ROUTINE Routine,
                               const IOP_LIST_REQUEST *Request)
{
    const PIOP_DMA_ADAPTER Adapter = IopEnterDma(DmaAdapter, Routine, Request->Caller);
    NTSTATUS Status = IopCheckRequest(Request);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    const ULONG PageCount = IopCountPages(&Request->Span);
    Status = IopCheckAgainstAdapter(Adapter, Request, PageCount);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    const PIOP_DMA_HOLD Hold = IopMakeListHold(Adapter, Request, PageCount);
    if (Hold == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    if (Request->HasTransferContext && !IopClaimContext(Hold, Request->TransferContext)) {
        IopFreeHold(Hold);
        return STATUS_INVALID_PARAMETER;
    }
    const BOOLEAN CanWait = (Request->Flags & DMA_SYNCHRONOUS_CALLBACK) == 0;
    if (IopRequestHold(Hold, CanWait)) {
        if (Request->Result != NULL) {
            *Request->Result = Hold->List;
        }
        IopRunHold(Hold);
        return STATUS_SUCCESS;
    }
    if (CanWait) {
        return STATUS_SUCCESS;
    }
    IopFreeHold(Hold);
    return STATUS_INSUFFICIENT_RESOURCES;
}

VOID IopRunList(PIOP_DMA_HOLD Hold)
{
    const PDRIVER_LIST_CONTROL Routine = Hold->ListRoutine;
    const PDEVICE_OBJECT DeviceObject = Hold->DeviceObject;
    const PSCATTER_GATHER_LIST List = Hold->List;
    (VOID) IopMapSpan(Hold, &Hold->Span, List, Hold->RegisterCount);
    List->Reserved = (ULONG_PTR)Hold;
    if (Routine != NULL) {
        Routine(DeviceObject, DeviceObject->CurrentIrp, List, Hold->RoutineContext);
    }
}

//
// The operations that make a list.
//

static ULONG64 IopOffsetInChain(PMDL Mdl, PVOID CurrentVa)
{
    return (ULONG64)CurrentVa - (ULONG64)MmGetMdlVirtualAddress(Mdl);
}

FORCEINLINE NTSTATUS IopMakeList(PDMA_ADAPTER DmaAdapter, IOP_DMA_ROUTINE Routine,
                                 const IOP_LIST_REQUEST Request)
{
    if (IopTryStraightList(DmaAdapter, Request)) {
        return STATUS_SUCCESS;
    }
    const IOP_LIST_REQUEST Copy = Request;
    return IopRequestList(DmaAdapter, Routine, &Copy);
}

NTSTATUS NTAPI IopGetScatterGatherList(PDMA_ADAPTER DmaAdapter, PDEVICE_OBJECT DeviceObject,
                                       PMDL Mdl, PVOID CurrentVa, ULONG Length,
                                       PDRIVER_LIST_CONTROL ExecutionRoutine, PVOID Context,
                                       BOOLEAN WriteToDevice)
{
    return IopMakeList(
        DmaAdapter, IopDmaGetList,
        (IOP_LIST_REQUEST){
            .Routine = "GetScatterGatherList",
            .Caller = __builtin_return_address(0),
            .DeviceObject = DeviceObject,
            .Span = {Mdl, IopOffsetInChain(Mdl, CurrentVa), Length, WriteToDevice, FALSE},
            .Va = (ULONG64)CurrentVa,
            .OutsideCode = 0x1F,
            .ListRoutine = ExecutionRoutine,
            .RoutineContext = Context,
        });
}

NTSTATUS NTAPI IopBuildScatterGatherList(PDMA_ADAPTER DmaAdapter, PDEVICE_OBJECT DeviceObject,
                                         PMDL Mdl, PVOID CurrentVa, ULONG Length,
                                         PDRIVER_LIST_CONTROL ExecutionRoutine, PVOID Context,
                                         BOOLEAN WriteToDevice, PVOID ScatterGatherBuffer,
                                         ULONG ScatterGatherLength)
{
    return IopMakeList(
        DmaAdapter, IopDmaBuildList,
        (IOP_LIST_REQUEST){
            .Routine = "BuildScatterGatherList",
            .Caller = __builtin_return_address(0),
            .DeviceObject = DeviceObject,
            .Span = {Mdl, IopOffsetInChain(Mdl, CurrentVa), Length, WriteToDevice, FALSE},
            .Va = (ULONG64)CurrentVa,
            .OutsideCode = 0x1F,
            .ListRoutine = ExecutionRoutine,
            .RoutineContext = Context,
            .HasBuffer = TRUE,
            .Buffer = ScatterGatherBuffer,
            .BufferByteCount = ScatterGatherLength,
        });
}

// What the two operations of version 3 have in common.
FORCEINLINE NTSTATUS IopMakeListEx(PDMA_ADAPTER DmaAdapter, IOP_DMA_ROUTINE Routine,
                                   PDMA_COMPLETION_ROUTINE CompletionRoutine,
                                   PVOID CompletionContext, const IOP_LIST_REQUEST Request)
{
    if (CompletionRoutine != NULL || CompletionContext != NULL) {
        (VOID) IopEnterDma(DmaAdapter, Routine, Request.Caller);
        return STATUS_INVALID_PARAMETER;
    }
    return IopMakeList(DmaAdapter, Routine, Request);
}

NTSTATUS NTAPI
IopGetScatterGatherListEx(PDMA_ADAPTER DmaAdapter, PDEVICE_OBJECT DeviceObject,
                          PVOID DmaTransferContext, PMDL Mdl, ULONGLONG Offset, ULONG Length,
                          ULONG Flags, PDRIVER_LIST_CONTROL ExecutionRoutine, PVOID Context,
                          BOOLEAN WriteToDevice, PDMA_COMPLETION_ROUTINE DmaCompletionRoutine,
                          PVOID CompletionContext, PSCATTER_GATHER_LIST *ScatterGatherList)
{
    return IopMakeListEx(DmaAdapter, IopDmaGetListEx, DmaCompletionRoutine, CompletionContext,
                         (IOP_LIST_REQUEST){
                             .Routine = "GetScatterGatherListEx",
                             .Caller = __builtin_return_address(0),
                             .DeviceObject = DeviceObject,
                             .Span = {Mdl, Offset, Length, WriteToDevice, FALSE},
                             .Va = Offset,
                             .OutsideCode = 0x24,
                             .Flags = Flags,
                             .ListRoutine = ExecutionRoutine,
                             .RoutineContext = Context,
                             .HasTransferContext = TRUE,
                             .TransferContext = DmaTransferContext,
                             .Result = ScatterGatherList,
                         });
}

NTSTATUS NTAPI
IopBuildScatterGatherListEx(PDMA_ADAPTER DmaAdapter, PDEVICE_OBJECT DeviceObject,
                            PVOID DmaTransferContext, PMDL Mdl, ULONGLONG Offset, ULONG Length,
                            ULONG Flags, PDRIVER_LIST_CONTROL ExecutionRoutine, PVOID Context,
                            BOOLEAN WriteToDevice, PVOID ScatterGatherBuffer,
                            ULONG ScatterGatherLength, PDMA_COMPLETION_ROUTINE DmaCompletionRoutine,
                            PVOID CompletionContext, PSCATTER_GATHER_LIST *ScatterGatherList)
{
    return IopMakeListEx(DmaAdapter, IopDmaBuildListEx, DmaCompletionRoutine, CompletionContext,
                         (IOP_LIST_REQUEST){
                             .Routine = "BuildScatterGatherListEx",
                             .Caller = __builtin_return_address(0),
                             .DeviceObject = DeviceObject,
                             .Span = {Mdl, Offset, Length, WriteToDevice, FALSE},
                             .Va = Offset,
                             .OutsideCode = 0x24,
                             .Flags = Flags,
                             .ListRoutine = ExecutionRoutine,
                             .RoutineContext = Context,
                             .HasTransferContext = TRUE,
                             .TransferContext = DmaTransferContext,
                             .HasBuffer = TRUE,
                             .Buffer = ScatterGatherBuffer,
                             .BufferByteCount = ScatterGatherLength,
                             .Result = ScatterGatherList,
                         });
}

// Without an MDL the buffer is all that there is.
static ULONG IopPagesOfBuffer(PMDL Mdl, PVOID CurrentVa, ULONG Length)
{
    const IOP_DMA_SPAN Span = {Mdl, Mdl != NULL ? IopOffsetInChain(Mdl, CurrentVa) : 0, Length,
                               FALSE, FALSE};
    return Mdl != NULL ? IopCountPages(&Span) : ADDRESS_AND_SIZE_TO_SPAN_PAGES(CurrentVa, Length);
}

NTSTATUS NTAPI IopCalculateScatterGatherList(PDMA_ADAPTER DmaAdapter, PMDL Mdl, PVOID CurrentVa,
                                             ULONG Length, PULONG ScatterGatherListSize,
                                             PULONG pNumberOfMapRegisters)
{
    (VOID) IopEnterDma(DmaAdapter, IopDmaCalculateList, __builtin_return_address(0));
    if (Length == 0) {
        return STATUS_INVALID_PARAMETER;
    }
    if (Mdl != NULL) {
        const ULONG64 ChainBytes = IopChainByteCount(Mdl);
        const ULONG64 Offset = IopOffsetInChain(Mdl, CurrentVa);
        if (Offset > ChainBytes || Length > ChainBytes - Offset) {
            return STATUS_BUFFER_TOO_SMALL;
        }
    }
    const ULONG PageCount = IopPagesOfBuffer(Mdl, CurrentVa, Length);
    *ScatterGatherListSize = (ULONG)IopListByteCount(PageCount);
    if (pNumberOfMapRegisters != NULL) {
        *pNumberOfMapRegisters = PageCount;
    }
    return STATUS_SUCCESS;
}
