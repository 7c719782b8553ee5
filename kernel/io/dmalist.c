// Scatter-gather lists: a whole transfer mapped at once, in the system's memory or the driver's.
#include "kernel/io/dma.h"
#include "kernel/inc/checked.h"

#define IOP_LIST_FLAGS (DMA_SYNCHRONOUS_CALLBACK | DMA_ZERO_BUFFERS | DMA_FAIL_ON_BOUNCE)

// A list that a driver asks for.
typedef struct _IOP_LIST_REQUEST {
    PCSTR Routine;
    PVOID Caller;
    PDEVICE_OBJECT DeviceObject;
    IOP_DMA_SPAN Span;
    ULONG64 Va;        // of the beginning, for the verifier
    ULONG OutsideCode; // what it calls a span that the MDLs have not
    ULONG Flags;
    PDRIVER_LIST_CONTROL ListRoutine;
    PVOID RoutineContext;
    BOOLEAN HasTransferContext;
    PVOID TransferContext;
    BOOLEAN HasBuffer; // the driver's
    PVOID Buffer;
    ULONG BufferByteCount;
    PSCATTER_GATHER_LIST *Result;
} IOP_LIST_REQUEST;

static SIZE_T IopListByteCount(ULONG ElementCount)
{
    return sizeof(SCATTER_GATHER_LIST) + (SIZE_T)ElementCount * sizeof(SCATTER_GATHER_ELEMENT);
}

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

static NTSTATUS IopRequestList(PIOP_DMA_ADAPTER Adapter, const IOP_LIST_REQUEST *Request)
{
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

NTSTATUS NTAPI IopGetScatterGatherList(PDMA_ADAPTER DmaAdapter, PDEVICE_OBJECT DeviceObject,
                                       PMDL Mdl, PVOID CurrentVa, ULONG Length,
                                       PDRIVER_LIST_CONTROL ExecutionRoutine, PVOID Context,
                                       BOOLEAN WriteToDevice)
{
    PVOID const Caller = __builtin_return_address(0);
    const IOP_LIST_REQUEST Request = {
        .Routine = "GetScatterGatherList",
        .Caller = Caller,
        .DeviceObject = DeviceObject,
        .Span = {Mdl, IopOffsetInChain(Mdl, CurrentVa), Length, WriteToDevice, FALSE},
        .Va = (ULONG64)CurrentVa,
        .OutsideCode = 0x1F,
        .ListRoutine = ExecutionRoutine,
        .RoutineContext = Context,
    };
    return IopRequestList(IopEnterDma(DmaAdapter, IopDmaGetList, Caller), &Request);
}

NTSTATUS NTAPI IopBuildScatterGatherList(PDMA_ADAPTER DmaAdapter, PDEVICE_OBJECT DeviceObject,
                                         PMDL Mdl, PVOID CurrentVa, ULONG Length,
                                         PDRIVER_LIST_CONTROL ExecutionRoutine, PVOID Context,
                                         BOOLEAN WriteToDevice, PVOID ScatterGatherBuffer,
                                         ULONG ScatterGatherLength)
{
    PVOID const Caller = __builtin_return_address(0);
    const IOP_LIST_REQUEST Request = {
        .Routine = "BuildScatterGatherList",
        .Caller = Caller,
        .DeviceObject = DeviceObject,
        .Span = {Mdl, IopOffsetInChain(Mdl, CurrentVa), Length, WriteToDevice, FALSE},
        .Va = (ULONG64)CurrentVa,
        .OutsideCode = 0x1F,
        .ListRoutine = ExecutionRoutine,
        .RoutineContext = Context,
        .HasBuffer = TRUE,
        .Buffer = ScatterGatherBuffer,
        .BufferByteCount = ScatterGatherLength,
    };
    return IopRequestList(IopEnterDma(DmaAdapter, IopDmaBuildList, Caller), &Request);
}

NTSTATUS NTAPI
IopGetScatterGatherListEx(PDMA_ADAPTER DmaAdapter, PDEVICE_OBJECT DeviceObject,
                          PVOID DmaTransferContext, PMDL Mdl, ULONGLONG Offset, ULONG Length,
                          ULONG Flags, PDRIVER_LIST_CONTROL ExecutionRoutine, PVOID Context,
                          BOOLEAN WriteToDevice, PDMA_COMPLETION_ROUTINE DmaCompletionRoutine,
                          PVOID CompletionContext, PSCATTER_GATHER_LIST *ScatterGatherList)
{
    PVOID const Caller = __builtin_return_address(0);
    const PIOP_DMA_ADAPTER Adapter = IopEnterDma(DmaAdapter, IopDmaGetListEx, Caller);
    const IOP_LIST_REQUEST Request = {
        .Routine = "GetScatterGatherListEx",
        .Caller = Caller,
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
    };
    if (DmaCompletionRoutine != NULL || CompletionContext != NULL) {
        return STATUS_INVALID_PARAMETER;
    }
    return IopRequestList(Adapter, &Request);
}

NTSTATUS NTAPI
IopBuildScatterGatherListEx(PDMA_ADAPTER DmaAdapter, PDEVICE_OBJECT DeviceObject,
                            PVOID DmaTransferContext, PMDL Mdl, ULONGLONG Offset, ULONG Length,
                            ULONG Flags, PDRIVER_LIST_CONTROL ExecutionRoutine, PVOID Context,
                            BOOLEAN WriteToDevice, PVOID ScatterGatherBuffer,
                            ULONG ScatterGatherLength, PDMA_COMPLETION_ROUTINE DmaCompletionRoutine,
                            PVOID CompletionContext, PSCATTER_GATHER_LIST *ScatterGatherList)
{
    PVOID const Caller = __builtin_return_address(0);
    const PIOP_DMA_ADAPTER Adapter = IopEnterDma(DmaAdapter, IopDmaBuildListEx, Caller);
    const IOP_LIST_REQUEST Request = {
        .Routine = "BuildScatterGatherListEx",
        .Caller = Caller,
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
    };
    if (DmaCompletionRoutine != NULL || CompletionContext != NULL) {
        return STATUS_INVALID_PARAMETER;
    }
    return IopRequestList(Adapter, &Request);
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

//
// The operations on a list.
//

// The hold of a list that a driver has; anything else stops the machine.
static PIOP_DMA_HOLD IopFindList(PIOP_DMA_ADAPTER Adapter, PSCATTER_GATHER_LIST List, PCSTR Routine,
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

VOID NTAPI IopPutScatterGatherList(PDMA_ADAPTER DmaAdapter, PSCATTER_GATHER_LIST ScatterGather,
                                   BOOLEAN WriteToDevice)
{
    PVOID const Caller = __builtin_return_address(0);
    const PIOP_DMA_ADAPTER Adapter = IopEnterDma(DmaAdapter, IopDmaPutList, Caller);
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

// Whether the list's addresses are those of the MDL's own frames.
static BOOLEAN IopIsListStraight(const IOP_DMA_HOLD *Hold)
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
    const PIOP_DMA_HOLD Hold =
        IopFindList(Adapter, ScatterGather, "BuildMdlFromScatterGatherList", Caller);
    if (Hold->HasMdl) {
        return STATUS_NONE_MAPPED;
    }
    *TargetMdl =
        IopIsListStraight(Hold) ? OriginalMdl : IopMakeLogicalMdl(Hold->List, Hold->Span.ByteCount);
    if (*TargetMdl == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    Hold->HasMdl = TRUE;
    return STATUS_SUCCESS;
}
