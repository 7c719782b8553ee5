// Transfers: from the pages of an MDL chain to addresses for a device, and back.
//
// A page goes straight, by its physical address, or by the bounce page of its map register:
//
//   back end     device reaches it   memory of a device   so it goes
//   identity     yes                 any                  straight
//   bounce       yes                 no                   by a bounce page
//   any          no                  no                   by a bounce page
//   any          yes                 yes                  straight
//   any          no                  yes                  not at all: STATUS_INSUFFICIENT_RESOURCES
//
// A device without scatter/gather must find everything in one piece: what is not, goes by bounce pages
// as a whole, end to end.
//
// Bounce pages are written before the device reads (map), and read after the device wrote (flush), never
// else. Where the device is to write, they hold IOP_DMA_PADDING until it has, so that what it did not
// write is not mistaken for data.
//
// The processor sees a frame through a window: a page of addresses that is reserved for each
// processor, so that mapping a frame there cannot fail. At DISPATCH_LEVEL nobody else uses it.
#include "kernel/io/dma.h"
#include "kernel/inc/kearch.h"

typedef struct _IOP_DMA_WINDOW {
    PVOID Va; // NULL: there was no memory for it, and nothing can bounce
    MDL Mdl;
    PFN_NUMBER Pfn; // the MDL's only one
} IOP_DMA_WINDOW, *PIOP_DMA_WINDOW;

C_ASSERT(FIELD_OFFSET(IOP_DMA_WINDOW, Pfn) == FIELD_OFFSET(IOP_DMA_WINDOW, Mdl) + sizeof(MDL));

#define IOP_DMA_OPTION_BYTES 16

static IOP_DMA_WINDOW IopDmaWindows[KE_MAXIMUM_PROCESSORS];
BOOLEAN IopDmaBouncesAll;

VOID IopInitializeDma(VOID)
{
    CHAR Option[IOP_DMA_OPTION_BYTES] = "identity";
    (VOID) KeGetBootOption("dma", Option, sizeof(Option));
    IopDmaBouncesAll = RtlStringsEqual(Option, "bounce");
    if (!IopDmaBouncesAll && !RtlStringsEqual(Option, "identity")) {
        DbgPrint("io: there is no dma=%s; the choice is identity, as now, or bounce\n", Option);
    }
    for (ULONG Number = 0; Number < KE_MAXIMUM_PROCESSORS; Number += 1) {
        IopDmaWindows[Number].Va = MmAllocateMappingAddress(PAGE_SIZE, IOP_DMA_TAG);
    }
}

BOOLEAN IopCanBounce(VOID)
{
    return IopDmaWindows[KE_MAXIMUM_PROCESSORS - 1].Va != NULL;
}

//
// Pages of a chain.
//

typedef struct _IOP_DMA_WALK {
    const MDL *Mdl;
    ULONG Offset; // in this MDL
    ULONG LeftBytes;
} IOP_DMA_WALK;

typedef struct _IOP_DMA_PAGE {
    PFN_NUMBER Pfn;
    ULONG ByteOffset;
    ULONG ByteCount;
    BOOLEAN IsIoSpace;
} IOP_DMA_PAGE;

ULONG64 IopChainByteCount(const MDL *Mdl)
{
    ULONG64 ByteCount = 0;
    for (; Mdl != NULL; Mdl = Mdl->Next) {
        ByteCount += Mdl->ByteCount;
    }
    return ByteCount;
}

static IOP_DMA_WALK IopStartWalk(const IOP_DMA_SPAN *Span)
{
    const MDL *Mdl = Span->Mdl;
    ULONG64 Offset = Span->Offset;
    while (Mdl != NULL && Offset >= Mdl->ByteCount) {
        Offset -= Mdl->ByteCount;
        Mdl = Mdl->Next;
    }
    return (IOP_DMA_WALK){Mdl, (ULONG)Offset, Span->ByteCount};
}

static ULONG IopSmaller(ULONG A, ULONG B)
{
    return A < B ? A : B;
}

// FALSE: no bytes are left.
static BOOLEAN IopNextPage(IOP_DMA_WALK *Walk, IOP_DMA_PAGE *Page)
{
    while (Walk->Mdl != NULL && Walk->Offset >= Walk->Mdl->ByteCount) {
        Walk->Mdl = Walk->Mdl->Next;
        Walk->Offset = 0;
    }
    if (Walk->Mdl == NULL || Walk->LeftBytes == 0) {
        return FALSE;
    }
    const ULONG64 Position = (ULONG64)Walk->Mdl->ByteOffset + Walk->Offset;
    const ULONG InMdl = IopSmaller(Walk->Mdl->ByteCount - Walk->Offset, Walk->LeftBytes);
    Page->Pfn = MmGetMdlPfnArray(Walk->Mdl)[Position >> PAGE_SHIFT];
    Page->ByteOffset = BYTE_OFFSET(Position);
    Page->ByteCount = IopSmaller(PAGE_SIZE - Page->ByteOffset, InMdl);
    Page->IsIoSpace = (Walk->Mdl->MdlFlags & MDL_IO_SPACE) != 0;
    Walk->Offset += Page->ByteCount;
    Walk->LeftBytes -= Page->ByteCount;
    return TRUE;
}

ULONG IopCountPages(const IOP_DMA_SPAN *Span)
{
    IOP_DMA_WALK Walk = IopStartWalk(Span);
    IOP_DMA_PAGE Page;
    ULONG Count = 0;
    while (IopNextPage(&Walk, &Page)) {
        Count += 1;
    }
    return Count;
}

//
// Which way a page goes.
//

static ULONG64 IopAddressOfPage(const IOP_DMA_PAGE *Page)
{
    return (Page->Pfn << PAGE_SHIFT) + Page->ByteOffset;
}

static BOOLEAN IopIsReachable(const IOP_DMA_ADAPTER *Adapter, const IOP_DMA_PAGE *Page)
{
    return IopAddressOfPage(Page) + Page->ByteCount - 1 <= Adapter->HighestAddress;
}

static BOOLEAN IopMustBounce(const IOP_DMA_ADAPTER *Adapter, const IOP_DMA_PAGE *Page)
{
    return !Page->IsIoSpace && (Adapter->BouncesAll || !IopIsReachable(Adapter, Page));
}

// Whether the pieces must lie end to end in bounce pages: the device takes one piece, and there are
// several, or it cannot reach it.
static BOOLEAN IopIsPacked(const IOP_DMA_ADAPTER *Adapter, const IOP_DMA_SPAN *Span)
{
    IOP_DMA_WALK Walk = IopStartWalk(Span);
    IOP_DMA_PAGE Page;
    ULONG64 NextAddress = 0;
    if (Adapter->ScatterGather) {
        return FALSE;
    }
    for (BOOLEAN IsFirst = TRUE; IopNextPage(&Walk, &Page); IsFirst = FALSE) {
        if (IopMustBounce(Adapter, &Page) || (!IsFirst && IopAddressOfPage(&Page) != NextAddress)) {
            return TRUE;
        }
        NextAddress = IopAddressOfPage(&Page) + Page.ByteCount;
    }
    return FALSE;
}

NTSTATUS IopCheckReach(PIOP_DMA_ADAPTER Adapter, const IOP_DMA_SPAN *Span, BOOLEAN CanBounce)
{
    IOP_DMA_PAGE Page;
    if (Adapter->ReachesAll) {
        return STATUS_SUCCESS;
    }
    const BOOLEAN IsPacked = IopIsPacked(Adapter, Span);
    IOP_DMA_WALK Walk = IopStartWalk(Span);
    while (IopNextPage(&Walk, &Page)) {
        const BOOLEAN IsBounced = IsPacked || IopMustBounce(Adapter, &Page);
        const BOOLEAN IsPossible = IsBounced
                                       ? CanBounce && !Page.IsIoSpace && Adapter->Block != NULL
                                       : IopIsReachable(Adapter, &Page);
        if (!IsPossible) {
            return STATUS_INSUFFICIENT_RESOURCES;
        }
    }
    return STATUS_SUCCESS;
}

//
// Copies.
//

typedef enum _IOP_DMA_COPY { IopCopyToBounce, IopCopyFromBounce } IOP_DMA_COPY;

static VOID IopCopyPage(const IOP_DMA_REGISTER *Register, IOP_DMA_COPY Direction)
{
    const KIRQL OldIrql = KeGetCurrentIrql();
    if (OldIrql < DISPATCH_LEVEL) {
        (VOID) KeRaiseIrqlToDpcLevel();
    }
    const PIOP_DMA_WINDOW Window = &IopDmaWindows[KiGetCurrentProcessor()];
    MmInitializeMdl(&Window->Mdl, NULL, PAGE_SIZE);
    Window->Mdl.MdlFlags |= MDL_PAGES_LOCKED;
    Window->Pfn = Register->Pfn;
    const PUCHAR Va =
        MmMapLockedPagesWithReservedMapping(Window->Va, IOP_DMA_TAG, &Window->Mdl, MmCached);
    NT_ASSERT(Va != NULL);
    if (Direction == IopCopyToBounce) {
        RtlCopyMemory(Register->Bounce, Va + Register->ByteOffset, Register->ByteCount);
    } else {
        RtlCopyMemory(Va + Register->ByteOffset, Register->Bounce, Register->ByteCount);
    }
    MmUnmapReservedMapping(Window->Va, IOP_DMA_TAG, &Window->Mdl);
    if (OldIrql < DISPATCH_LEVEL) {
        KeLowerIrql(OldIrql);
    }
}

//
// Map.
//

// Where the next page shall bounce.
typedef struct _IOP_DMA_PLACEMENT {
    BOOLEAN IsPacked;
    ULONG NextByte; // packed: in the hold's bounce pages
} IOP_DMA_PLACEMENT;

static ULONG IopBounceByte(IOP_DMA_PLACEMENT *Placement, ULONG Index, const IOP_DMA_PAGE *Page)
{
    if (!Placement->IsPacked) {
        return (Index << PAGE_SHIFT) + Page->ByteOffset;
    }
    if (Placement->NextByte == 0) {
        Placement->NextByte = (Index << PAGE_SHIFT) + Page->ByteOffset;
    }
    const ULONG Byte = Placement->NextByte;
    Placement->NextByte += Page->ByteCount;
    return Byte;
}

// Adds a piece to the list. FALSE: it needs an element, and all MaximumElements are in use.
static BOOLEAN IopAppendElement(PSCATTER_GATHER_LIST List, ULONG MaximumElements, ULONG64 Address,
                                ULONG ByteCount)
{
    PSCATTER_GATHER_ELEMENT Last = &List->Elements[List->NumberOfElements];
    if (List->NumberOfElements != 0 &&
        (ULONG64)Last[-1].Address.QuadPart + Last[-1].Length == Address) {
        Last[-1].Length += ByteCount;
        return TRUE;
    }
    if (List->NumberOfElements == MaximumElements) {
        return FALSE;
    }
    *Last = (SCATTER_GATHER_ELEMENT){.Address.QuadPart = (LONG64)Address, .Length = ByteCount};
    List->NumberOfElements += 1;
    return TRUE;
}

static VOID IopFillBounce(const IOP_DMA_REGISTER *Register, BOOLEAN IsZeroed)
{
    if (Register->WriteToDevice) {
        IopCopyPage(Register, IopCopyToBounce);
    } else {
        __builtin_memset(Register->Bounce, IsZeroed ? 0 : IOP_DMA_PADDING, Register->ByteCount);
    }
}

ULONG IopMapSpan(PIOP_DMA_HOLD Hold, const IOP_DMA_SPAN *Span, PSCATTER_GATHER_LIST List,
                 ULONG MaximumElements)
{
    const PIOP_DMA_ADAPTER Adapter = Hold->Adapter;
    const ULONG FirstByte = Hold->FirstRegister << PAGE_SHIFT;
    IOP_DMA_PLACEMENT Placement = {IopIsPacked(Adapter, Span), 0};
    IOP_DMA_WALK Walk = IopStartWalk(Span);
    IOP_DMA_PAGE Page;
    ULONG ByteCount = 0;
    List->NumberOfElements = 0;
    List->Reserved = 0;
    while (Hold->UsedCount < Hold->RegisterCount && IopNextPage(&Walk, &Page)) {
        const PIOP_DMA_REGISTER Register = &Hold->Registers[Hold->UsedCount];
        const BOOLEAN IsBounced = Placement.IsPacked || IopMustBounce(Adapter, &Page);
        const ULONG Byte =
            IsBounced ? FirstByte + IopBounceByte(&Placement, Hold->UsedCount, &Page) : 0;
        const ULONG64 Address = IsBounced ? Adapter->RegistersPa + Byte : IopAddressOfPage(&Page);
        if (!IopAppendElement(List, MaximumElements, Address, Page.ByteCount)) {
            break;
        }
        *Register = (IOP_DMA_REGISTER){.Mdl = Span->Mdl,
                                       .Offset = Span->Offset + ByteCount,
                                       .Pfn = Page.Pfn,
                                       .Bounce = IsBounced ? Adapter->Registers + Byte : NULL,
                                       .ByteOffset = (USHORT)Page.ByteOffset,
                                       .ByteCount = (USHORT)Page.ByteCount,
                                       .WriteToDevice = Span->WriteToDevice};
        if (IsBounced) {
            IopFillBounce(Register, Span->IsZeroed);
            Adapter->BouncedPages += 1;
        }
        Hold->UsedCount += 1;
        ByteCount += Page.ByteCount;
    }
    IopCountTransfer(Adapter, ByteCount);
    return ByteCount;
}

ULONG IopCountElements(PIOP_DMA_ADAPTER Adapter, const IOP_DMA_SPAN *Span)
{
    IOP_DMA_PLACEMENT Placement = {IopIsPacked(Adapter, Span), 0};
    IOP_DMA_WALK Walk = IopStartWalk(Span);
    IOP_DMA_PAGE Page;
    ULONG Count = 0;
    ULONG64 NextAddress = 0;
    for (ULONG Index = 0; IopNextPage(&Walk, &Page); Index += 1) {
        const BOOLEAN IsBounced = Placement.IsPacked || IopMustBounce(Adapter, &Page);
        const ULONG64 Address = IsBounced
                                    ? Adapter->RegistersPa + IopBounceByte(&Placement, Index, &Page)
                                    : IopAddressOfPage(&Page);
        Count += Count == 0 || Address != NextAddress ? 1 : 0;
        NextAddress = Address + Page.ByteCount;
    }
    return Count;
}

//
// Flush.
//

// Level 1: the device, or the driver, must have written nowhere else. Register is alone in its page or
// the neighbour of others that lie end to end; bytes of the neighbours are theirs to check.
static VOID IopVerifyPadding(const IOP_DMA_HOLD *Hold, ULONG Index, PVOID Caller)
{
    const IOP_DMA_REGISTER *Register = &Hold->Registers[Index];
    const PUCHAR First = Hold->Adapter->Registers + ((SIZE_T)Hold->FirstRegister << PAGE_SHIFT);
    const PUCHAR End = First + ((SIZE_T)Hold->RegisterCount << PAGE_SHIFT);
    const PUCHAR EndOfData = Register->Bounce + Register->ByteCount;
    const PUCHAR PageOfData = PAGE_ALIGN(Register->Bounce);
    const PUCHAR EndOfPage = PAGE_ALIGN(EndOfData + PAGE_SIZE - 1);
    const BOOLEAN HasNext = Index + 1 < Hold->UsedCount && Register[1].Bounce == EndOfData;
    const BOOLEAN HasPrevious = Index > 0 && Register[-1].Bounce != NULL &&
                                Register[-1].Bounce + Register[-1].ByteCount == Register->Bounce;
    if (!HasPrevious) {
        IopCheckPadding(PageOfData, (SIZE_T)(Register->Bounce - PageOfData), IopDmaPaddingBefore,
                        Caller);
    }
    if (!HasNext && EndOfData < End) {
        IopCheckPadding(EndOfData, (SIZE_T)(EndOfPage - EndOfData), IopDmaPaddingAfter, Caller);
    }
}

static VOID IopUnmapRegister(PIOP_DMA_HOLD Hold, ULONG Index)
{
    const PIOP_DMA_REGISTER Register = &Hold->Registers[Index];
    if (Register->Bounce != NULL && IopIsVerifyingDma()) {
        IopSetPadding(Register->Bounce, Register->ByteCount);
    }
    Register->Mdl = NULL;
    while (Hold->UsedCount != 0 && Hold->Registers[Hold->UsedCount - 1].Mdl == NULL) {
        Hold->UsedCount -= 1;
    }
}

static BOOLEAN IopIsInSpan(const IOP_DMA_REGISTER *Register, const IOP_DMA_SPAN *Span)
{
    return Register->Mdl == Span->Mdl && Register->Mdl != NULL &&
           Register->Offset < Span->Offset + Span->ByteCount &&
           Span->Offset < Register->Offset + Register->ByteCount;
}

static VOID IopVerifyPaddingOfSpan(const IOP_DMA_HOLD *Hold, const IOP_DMA_SPAN *Span, PVOID Caller)
{
    const IOP_DMA_ADAPTER *Adapter = Hold->Adapter;
    if (!IopIsVerifyingDma() || Adapter->Block == NULL) {
        return;
    }
    for (ULONG Index = 0; Index < Hold->UsedCount; Index += 1) {
        if (IopIsInSpan(&Hold->Registers[Index], Span) && Hold->Registers[Index].Bounce != NULL) {
            IopVerifyPadding(Hold, Index, Caller);
        }
    }
    IopCheckGuardPages(Adapter->Block,
                       Adapter->Registers + ((SIZE_T)Adapter->RegisterCount << PAGE_SHIFT), Caller);
}

ULONG IopFlushSpan(PIOP_DMA_HOLD Hold, const IOP_DMA_SPAN *Span, PVOID Caller)
{
    ULONG PageCount = 0;
    IopVerifyPaddingOfSpan(Hold, Span, Caller);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    for (ULONG Index = Hold->UsedCount; Index > 0; Index -= 1) {
        const IOP_DMA_REGISTER *Register = &Hold->Registers[Index - 1];
        if (!IopIsInSpan(Register, Span)) {
            continue;
        }
        if (Register->Bounce != NULL && !Register->WriteToDevice) {
            IopCopyPage(Register, IopCopyFromBounce);
        }
        IopUnmapRegister(Hold, Index - 1);
        PageCount += 1;
    }
    return PageCount;
}

ULONG64 IopMappedByteCount(const IOP_DMA_HOLD *Hold)
{
    ULONG64 ByteCount = 0;
    for (ULONG Index = 0; Index < Hold->UsedCount; Index += 1) {
        ByteCount += Hold->Registers[Index].Mdl != NULL ? Hold->Registers[Index].ByteCount : 0;
    }
    return ByteCount;
}

VOID IopForgetMapped(PIOP_DMA_HOLD Hold)
{
    for (ULONG Index = Hold->UsedCount; Index > 0; Index -= 1) {
        IopUnmapRegister(Hold, Index - 1);
    }
    Hold->IsExMapped = FALSE;
}
