// Straight lists: the short way from an MDL to a scatter-gather list, for an adapter that never bounces.
//
//   the driver's buffer, or a block that the adapter keeps:
//
//   | list | element 0 | ... | element n - 1 | IOP_DMA_STRAIGHT |      n pages: at most n pieces
//
// Such a list takes no map register, waits for nothing and moves no data. What is kept of it is for
// PutScatterGatherList, for reports of leaks and for the quarantine, and lies in memory that is there
// already: nothing is allocated. Whatever might be refused is left to the long way (dmalist.c): here is
// decided only whether everything is as usual.
//
// Lock-free: a list stands in a slot of the adapter's table, which is claimed by a compare-and-exchange of
// its first word and freed by a store. Its place follows from its address, so that those of a driver that
// prepares many seldom meet. If they do, the later one joins the crowd: a list under the adapter's lock, as
// the blocks are that the adapter keeps.
//
// Invariant:
//   S1  A slot's List is not NULL from before the driver has the list until he puts it. Who claimed the slot
//       is alone in writing to the rest of it.
//
// Inline, and requests by value: then what a driver passes stays where it is, and is never stored.
//
// An adapter that was made at level 1 of the verifier has no straight lists.
#pragma once

#include "kernel/io/dma.h"

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

//
// dmastraight.c: what is needed less often.
//

// The same for chains of MDLs and devices of fewer address bits.
_Must_inspect_result_ BOOLEAN IopTryUnusualList(_In_ PIOP_DMA_ADAPTER Adapter,
                                                _In_ const IOP_LIST_REQUEST *Request);

// Maps more pages than one.
VOID NTAPI IopMapPages(_Out_ PSCATTER_GATHER_LIST List, _In_ const MDL *Mdl, _In_ ULONG64 Offset,
                       _In_ ULONG ByteCount);

// A list whose place is taken stands in line instead, in a slot of its own.
PIOP_DMA_SLOT IopJoinCrowd(_In_ PIOP_DMA_ADAPTER Adapter, _Inout_ PIOP_DMA_STRAIGHT Straight,
                           _In_ PSCATTER_GATHER_LIST List);

// The end of a list that the adapter keeps, or that is in the crowd.
VOID IopEndUnusualList(_Inout_ PIOP_DMA_STRAIGHT Straight, _In_ PSCATTER_GATHER_LIST List);

// Calls the driver's routine, at DISPATCH_LEVEL.
VOID NTAPI IopCallListRoutine(_In_ PDRIVER_LIST_CONTROL Routine, _In_ PDEVICE_OBJECT DeviceObject,
                              _In_ PSCATTER_GATHER_LIST List, _In_ PVOID Context);

//
// Decide.
//

// At level 1 nothing is looked at that may be gone.
static inline BOOLEAN IopGoesStraight(const DMA_ADAPTER *DmaAdapter)
{
    return !IopIsVerifyingDma() && DmaAdapter != NULL &&
           CONTAINING_RECORD(DmaAdapter, IOP_DMA_ADAPTER, Public)->StraightSignature ==
               IOP_DMA_STRAIGHT_SIGNATURE;
}

// Flags that there are; and somebody learns of the list: a routine, or who waits for the result.
static inline BOOLEAN IopIsUsual(const IOP_LIST_REQUEST Request)
{
    return (Request.Flags & ~(ULONG)IOP_LIST_FLAGS) == 0 &&
           (Request.ListRoutine != NULL ||
            ((Request.Flags & DMA_SYNCHRONOUS_CALLBACK) != 0 && Request.Result != NULL)) &&
           (!Request.HasTransferContext || Request.TransferContext != NULL);
}

// Whether so many pages may be one list, and there is room for it. Not for 0 pages.
static inline BOOLEAN IopHasRoom(const IOP_DMA_ADAPTER *Adapter, const IOP_LIST_REQUEST Request,
                                 ULONG PageCount)
{
    return PageCount - 1 < Adapter->RegisterCount &&
           (Request.HasBuffer ? Request.BufferByteCount >= IopListByteCount(PageCount)
                              : PageCount <= IOP_KEPT_LIST_PAGES);
}

//
// Do.
//

static inline BOOLEAN IopIsSlotMine(PIOP_DMA_SLOT Slot, PSCATTER_GATHER_LIST List)
{
    PSCATTER_GATHER_LIST Free = NULL;
    return __atomic_compare_exchange_n(&Slot->List, &Free, List, FALSE, __ATOMIC_ACQUIRE,
                                       __ATOMIC_RELAXED);
}

static inline PIOP_DMA_SLOT IopClaimSlot(PIOP_DMA_ADAPTER Adapter, PIOP_DMA_STRAIGHT Straight,
                                         PSCATTER_GATHER_LIST List)
{
    const PIOP_DMA_SLOT Place = &Adapter->Slots[(ULONG_PTR)List / 16 % IOP_DMA_SLOT_COUNT];
    return IopIsSlotMine(Place, List) ? Place : IopJoinCrowd(Adapter, Straight, List);
}

// One of the adapter's blocks. NULL: there is none.
static inline PSCATTER_GATHER_LIST IopTakeKeptList(PIOP_DMA_ADAPTER Adapter)
{
    const KIRQL OldIrql = KiAcquireLock(&Adapter->Lock);
    const PSCATTER_GATHER_LIST List = Adapter->KeptLists;
    if (List != NULL) {
        Adapter->KeptLists = *(PVOID *)List;
    }
    KiReleaseLock(&Adapter->Lock, OldIrql);
    return List;
}

// Memory for the list, which is the adapter's to know of from here on. NULL: there is none or too little, or
// the context is in use or none of this adapter's.
FORCEINLINE PSCATTER_GATHER_LIST IopTakeStraightList(PIOP_DMA_ADAPTER Adapter,
                                                     const IOP_LIST_REQUEST Request,
                                                     ULONG PageCount)
{
    const PIOP_DMA_CONTEXT Context = Request.TransferContext;
    if (!IopHasRoom(Adapter, Request, PageCount)) {
        return NULL;
    }
    if (Request.HasTransferContext && Context->IdleAdapter != Adapter) {
        return NULL;
    }
    const PSCATTER_GATHER_LIST List = Request.HasBuffer ? Request.Buffer : IopTakeKeptList(Adapter);
    if (!Request.HasBuffer && List == NULL) {
        return NULL;
    }
    if (Request.HasTransferContext) {
        Context->IdleAdapter = NULL;
    }
    const PIOP_DMA_STRAIGHT Straight = (PVOID)&List->Elements[PageCount];
    Straight->Adapter = Adapter;
    Straight->TransferContext = Request.HasTransferContext ? Context : NULL;
    Straight->List = List;
    Straight->Signature = IOP_DMA_STRAIGHT_SIGNATURE;
    Straight->Unusual = Request.HasBuffer ? 0 : IOP_LIST_KEPT;
    Straight->HasMdl = FALSE;
    List->Reserved = (ULONG_PTR)Straight;
    const PIOP_DMA_SLOT Slot = IopClaimSlot(Adapter, Straight, List);
    Slot->Caller = Request.Caller;
    Slot->PageCount = PageCount;
    Straight->Slot = Slot;
    IopCountTransfer(Adapter, Request.Span.ByteCount);
    return List;
}

// Maps a span that lies in one page.
static inline VOID IopMapOnePage(PSCATTER_GATHER_LIST List, const IOP_DMA_SPAN Span)
{
    const ULONG Position = Span.Mdl->ByteOffset + (ULONG)Span.Offset;
    const PFN_NUMBER Pfn = MmGetMdlPfnArray(Span.Mdl)[Position >> PAGE_SHIFT];
    List->Elements[0].Address.QuadPart = (LONG64)((Pfn << PAGE_SHIFT) + BYTE_OFFSET(Position));
    List->Elements[0].Length = Span.ByteCount;
    List->NumberOfElements = 1;
}

// A list of a span in one MDL. NULL: not as usual.
FORCEINLINE PSCATTER_GATHER_LIST IopMakeStraightList(PIOP_DMA_ADAPTER Adapter,
                                                     const IOP_LIST_REQUEST Request)
{
    const MDL *Mdl = Request.Span.Mdl;
    const ULONG Offset = (ULONG)Request.Span.Offset;
    const ULONG ByteCount = Request.Span.ByteCount;
    if (Request.Span.Offset >= Mdl->ByteCount || ByteCount - 1 >= Mdl->ByteCount - Offset) {
        return NULL;
    }
    const ULONG64 EndInPage = (ULONG64)BYTE_OFFSET(Mdl->ByteOffset + Offset) + ByteCount;
    if (EndInPage <= PAGE_SIZE) {
        const PSCATTER_GATHER_LIST List = IopTakeStraightList(Adapter, Request, 1);
        if (List != NULL) {
            IopMapOnePage(List, Request.Span);
        }
        return List;
    }
    const ULONG PageCount = (ULONG)BYTES_TO_PAGES(EndInPage);
    const PSCATTER_GATHER_LIST List = IopTakeStraightList(Adapter, Request, PageCount);
    if (List != NULL) {
        IopMapPages(List, Mdl, Offset, ByteCount);
    }
    return List;
}

// The driver gets its list.
FORCEINLINE VOID IopDeliverList(PSCATTER_GATHER_LIST List, const IOP_LIST_REQUEST Request)
{
    if (Request.Result != NULL) {
        *Request.Result = List;
    }
    if (Request.ListRoutine != NULL) {
        IopCallListRoutine(Request.ListRoutine, Request.DeviceObject, List, Request.RoutineContext);
    }
}

// FALSE: not the short way.
FORCEINLINE BOOLEAN IopTryStraightList(PDMA_ADAPTER DmaAdapter, const IOP_LIST_REQUEST Request)
{
    const PIOP_DMA_ADAPTER Adapter = CONTAINING_RECORD(DmaAdapter, IOP_DMA_ADAPTER, Public);
    if (!IopGoesStraight(DmaAdapter) || !IopIsUsual(Request)) {
        return FALSE;
    }
    const PSCATTER_GATHER_LIST List =
        Adapter->ReachesAll ? IopMakeStraightList(Adapter, Request) : NULL;
    if (List == NULL) {
        const IOP_LIST_REQUEST Copy = Request;
        return IopTryUnusualList(Adapter, &Copy);
    }
    IopDeliverList(List, Request);
    return TRUE;
}

//
// The end.
//

// The straight list that this is. NULL: none of this adapter's, or the verifier is to have a look.
static inline PIOP_DMA_STRAIGHT IopFindStraightList(const DMA_ADAPTER *DmaAdapter,
                                                    const SCATTER_GATHER_LIST *List)
{
    const PIOP_DMA_STRAIGHT Straight =
        IopGoesStraight(DmaAdapter) && List != NULL ? (PIOP_DMA_STRAIGHT)List->Reserved : NULL;
    return Straight != NULL && Straight->Signature == IOP_DMA_STRAIGHT_SIGNATURE &&
                   Straight->List == List && &Straight->Adapter->Public == DmaAdapter
               ? Straight
               : NULL;
}

// The processor keeps its reads in order: what the driver reads after this is what the device wrote before
// it told of the end.
static inline VOID IopPutStraightList(PIOP_DMA_STRAIGHT Straight, PSCATTER_GATHER_LIST List)
{
    const PIOP_DMA_ADAPTER Adapter = Straight->Adapter;
    Straight->Signature = 0;
    if (Straight->TransferContext != NULL) {
        Straight->TransferContext->IdleAdapter = Adapter;
    }
    if (Straight->Unusual != 0) {
        IopEndUnusualList(Straight, List);
        return;
    }
    __atomic_store_n(&Straight->Slot->List, NULL, __ATOMIC_RELEASE);
}
