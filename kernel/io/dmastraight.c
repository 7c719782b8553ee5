// What straight lists (dmastraight.h) need less often: chains, and more pages than one.
#include "kernel/io/dmastraight.h"

// Where the run of adjacent frames ends that begins with *Pfn: behind *Last, or at the first that does not
// adjoin. By fours, for a large buffer is often one run.
FORCEINLINE const PFN_NUMBER *IopEndOfRun(const PFN_NUMBER *Pfn, const PFN_NUMBER *Last)
{
    PFN_NUMBER Next = *Pfn + 1;
    Pfn += 1;
    if (Pfn > Last || *Pfn != Next) {
        return Pfn;
    }
    for (; Last - Pfn >= 3 && Pfn[0] == Next && Pfn[1] == Next + 1 && Pfn[2] == Next + 2 &&
           Pfn[3] == Next + 3;
         Next += 4) {
        Pfn += 4;
    }
    for (; Pfn <= Last && *Pfn == Next; Next += 1) {
        Pfn += 1;
    }
    return Pfn;
}

// Makes elements of single pages as long as no two adjoin. *Pfn goes on to the page that adjoins its
// successor, or to *Last.
FORCEINLINE PSCATTER_GATHER_ELEMENT IopMapSinglePages(PSCATTER_GATHER_ELEMENT Element,
                                                      const PFN_NUMBER **Pfn,
                                                      const PFN_NUMBER *Last)
{
    const PFN_NUMBER *Next = *Pfn;
    PFN_NUMBER This = *Next;
    while (Next != Last) {
        const PFN_NUMBER Following = Next[1];
        if (Following == This + 1) {
            break;
        }
        Element->Address.QuadPart = (LONG64)(This << PAGE_SHIFT);
        Element->Length = PAGE_SIZE;
        This = Following;
        Element += 1;
        Next += 1;
    }
    *Pfn = Next;
    return Element;
}

// Maps the bytes of one MDL behind Element, which is not the list's first one unless IsFirst. Returns where
// the elements end.
static inline PSCATTER_GATHER_ELEMENT IopMapPiece(PSCATTER_GATHER_ELEMENT Element, BOOLEAN IsFirst,
                                                  const MDL *Mdl, ULONG Offset, ULONG ByteCount)
{
    const ULONG64 Position = (ULONG64)Mdl->ByteOffset + Offset;
    const ULONG64 LastPosition = Position + ByteCount - 1;
    const PFN_NUMBER *Pfn = MmGetMdlPfnArray(Mdl) + (Position >> PAGE_SHIFT);
    const PFN_NUMBER *Last = MmGetMdlPfnArray(Mdl) + (LastPosition >> PAGE_SHIFT);
    const PFN_NUMBER *End = IopEndOfRun(Pfn, Last);
    const ULONG64 Address = (*Pfn << PAGE_SHIFT) + BYTE_OFFSET(Position);
    const ULONG Length = (ULONG)((End - Pfn) << PAGE_SHIFT) - BYTE_OFFSET(Position);
    if (!IsFirst && (ULONG64)Element[-1].Address.QuadPart + Element[-1].Length == Address) {
        Element[-1].Length += Length;
    } else {
        Element->Address.QuadPart = (LONG64)Address;
        Element->Length = Length;
        Element += 1;
    }
    for (Pfn = End; Pfn <= Last; Pfn = End) {
        Element = IopMapSinglePages(Element, &Pfn, Last);
        End = IopEndOfRun(Pfn, Last);
        Element->Address.QuadPart = (LONG64)(*Pfn << PAGE_SHIFT);
        Element->Length = (ULONG)((End - Pfn) << PAGE_SHIFT);
        Element += 1;
    }
    // So far all pages were whole.
    Element[-1].Length -= PAGE_SIZE - 1 - BYTE_OFFSET(LastPosition);
    return Element;
}

VOID NTAPI IopMapPages(PSCATTER_GATHER_LIST List, const MDL *Mdl, ULONG64 Offset, ULONG ByteCount)
{
    PSCATTER_GATHER_ELEMENT Element = List->Elements;
    for (; ByteCount != 0; Mdl = Mdl->Next) {
        if (Offset >= Mdl->ByteCount) {
            Offset -= Mdl->ByteCount;
            continue;
        }
        const ULONG InMdl = Mdl->ByteCount - (ULONG)Offset;
        const ULONG PieceBytes = InMdl < ByteCount ? InMdl : ByteCount;
        Element = IopMapPiece(Element, Element == List->Elements, Mdl, (ULONG)Offset, PieceBytes);
        ByteCount -= PieceBytes;
        Offset = 0;
    }
    List->NumberOfElements = (ULONG)(Element - List->Elements);
}

VOID NTAPI IopCallListRoutine(PDRIVER_LIST_CONTROL Routine, PDEVICE_OBJECT DeviceObject,
                              PSCATTER_GATHER_LIST List, PVOID Context)
{
    const KIRQL OldIrql = KeGetCurrentIrql();
    if (OldIrql < DISPATCH_LEVEL) {
        (VOID) KeRaiseIrqlToDpcLevel();
    }
    Routine(DeviceObject, DeviceObject->CurrentIrp, List, Context);
    if (OldIrql < DISPATCH_LEVEL) {
        KeLowerIrql(OldIrql);
    }
}

// Pages of a span in a chain. 0: it goes beyond, or has no bytes.
static ULONG IopCountChainPages(const IOP_DMA_SPAN *Span)
{
    const ULONG64 ChainBytes = IopChainByteCount(Span->Mdl);
    return Span->Offset <= ChainBytes && Span->ByteCount <= ChainBytes - Span->Offset
               ? IopCountPages(Span)
               : 0;
}

BOOLEAN IopTryUnusualList(PIOP_DMA_ADAPTER Adapter, const IOP_LIST_REQUEST *Request)
{
    const ULONG PageCount = IopCountChainPages(&Request->Span);
    if (PageCount == 0 || !NT_SUCCESS(IopCheckReach(Adapter, &Request->Span, FALSE))) {
        return FALSE;
    }
    const PSCATTER_GATHER_LIST List = IopTakeStraightList(Adapter, *Request, PageCount);
    if (List == NULL) {
        return FALSE;
    }
    IopMapPages(List, Request->Span.Mdl, Request->Span.Offset, Request->Span.ByteCount);
    IopDeliverList(List, *Request);
    return TRUE;
}

PIOP_DMA_SLOT IopJoinCrowd(PIOP_DMA_ADAPTER Adapter, PIOP_DMA_STRAIGHT Straight,
                           PSCATTER_GATHER_LIST List)
{
    const KIRQL OldIrql = KiAcquireLock(&Adapter->Lock);
    Straight->Own.List = List;
    Straight->Unusual |= IOP_LIST_IN_CROWD;
    InsertTailList(&Adapter->Crowd, &Straight->CrowdLink);
    KiReleaseLock(&Adapter->Lock, OldIrql);
    return &Straight->Own;
}

VOID IopEndUnusualList(PIOP_DMA_STRAIGHT Straight, PSCATTER_GATHER_LIST List)
{
    const PIOP_DMA_ADAPTER Adapter = Straight->Adapter;
    const KIRQL OldIrql = KiAcquireLock(&Adapter->Lock);
    if ((Straight->Unusual & IOP_LIST_IN_CROWD) != 0) {
        RemoveEntryList(&Straight->CrowdLink);
    } else {
        __atomic_store_n(&Straight->Slot->List, NULL, __ATOMIC_RELEASE);
    }
    if ((Straight->Unusual & IOP_LIST_KEPT) != 0) {
        *(PVOID *)List = Adapter->KeptLists;
        Adapter->KeptLists = List;
    }
    KiReleaseLock(&Adapter->Lock, OldIrql);
}

static PIOP_DMA_SLOT IopFirstOfCrowd(const IOP_DMA_ADAPTER *Adapter, const LIST_ENTRY *Link)
{
    return Link != &Adapter->Crowd ? &CONTAINING_RECORD(Link, IOP_DMA_STRAIGHT, CrowdLink)->Own
                                   : NULL;
}

PIOP_DMA_SLOT IopNextSlot(const IOP_DMA_ADAPTER *Adapter, PIOP_DMA_SLOT Slot)
{
    const PIOP_DMA_SLOT End = Adapter->Slots != NULL ? Adapter->Slots + IOP_DMA_SLOT_COUNT : NULL;
    if (Slot != NULL && (Slot < Adapter->Slots || Slot >= End)) {
        return IopFirstOfCrowd(Adapter,
                               CONTAINING_RECORD(Slot, IOP_DMA_STRAIGHT, Own)->CrowdLink.Flink);
    }
    for (PIOP_DMA_SLOT Next = Slot != NULL ? Slot + 1 : Adapter->Slots; Next < End; Next += 1) {
        if (Next->List != NULL) {
            return Next;
        }
    }
    return IopFirstOfCrowd(Adapter, Adapter->Crowd.Flink);
}

ULONG IopCountStraightLists(PIOP_DMA_ADAPTER Adapter)
{
    ULONG Count = 0;
    const KIRQL OldIrql = KiAcquireLock(&Adapter->Lock);
    for (PIOP_DMA_SLOT Slot = IopNextSlot(Adapter, NULL); Slot != NULL;
         Slot = IopNextSlot(Adapter, Slot)) {
        Count += 1;
    }
    KiReleaseLock(&Adapter->Lock, OldIrql);
    return Count;
}

VOID IopPrepareStraightLists(PIOP_DMA_ADAPTER Adapter)
{
    const SIZE_T ListBytes = IopListByteCount(IOP_KEPT_LIST_PAGES);
    Adapter->Slots = ExAllocatePool2(
        POOL_FLAG_NON_PAGED,
        IOP_DMA_SLOT_COUNT * sizeof(IOP_DMA_SLOT) + IOP_KEPT_LIST_COUNT * ListBytes, IOP_DMA_TAG);
    if (Adapter->Slots == NULL) {
        return;
    }
    Adapter->StraightSignature = IOP_DMA_STRAIGHT_SIGNATURE;
    PUCHAR List = (PUCHAR)(Adapter->Slots + IOP_DMA_SLOT_COUNT);
    for (ULONG Index = 0; Index < IOP_KEPT_LIST_COUNT; Index += 1) {
        *(PVOID *)List = Adapter->KeptLists;
        Adapter->KeptLists = List;
        List += ListBytes;
    }
}
