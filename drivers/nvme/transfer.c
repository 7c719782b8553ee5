// Buffers as the controller sees them.
//
// The DMA adapter says where the pieces of a buffer lie for the controller. PRPs (physical region pages)
// tell it page by page:
//
//   buffer  |..aaaa|aaaaaa|aaaaaa|aaa...|     Prp1  page 0 + byte offset
//   page       0      1      2      3         Prp2  of two pages: page 1
//                                                   of more: the tracker's list = {1, 2, 3, ...}
//
// so that all pieces but the first must begin, and all but the last must end, at a page. An MDL's do; a
// chain's need not. An SGL (scatter gather list) tells it piece by piece, each of any length:
//
//   one piece: its descriptor is in the command. More: the tracker's list = {descriptors}.
//
// SGLs serve where a parameter says so, and where PRPs cannot describe a buffer.
//
// The list that the adapter makes goes into the tracker's own memory (BuildScatterGatherListEx): to get
// one from the system would mean pool for each transfer, and a request could fail for want of it.
//
// The adapter's operations are called with the queue lock held. They take the adapter's own locks, and
// wait for nothing (DMA_SYNCHRONOUS_CALLBACK).
#include "nvme.h"
#include "queueinline.h"

#define NVME_DATA_ALIGNMENT_MASK (sizeof(ULONG) - 1)
#define NVME_SGLS_MASK 0x3u // SglSupport: not 0, there are SGLs; 2, of whole dwords only
#define NVME_SGLS_DWORDS 2u

// A place in a list.
typedef struct _NVME_PLACE {
    const SCATTER_GATHER_ELEMENT *Element;
    const SCATTER_GATHER_ELEMENT *End;
    ULONG64 Address;
    ULONG ByteCount; // of the element, from here on
} NVME_PLACE;

// FALSE: the list ends here.
static BOOLEAN NvmeGoToNextElement(NVME_PLACE *Place)
{
    Place->Element += 1;
    if (Place->Element == Place->End) {
        return FALSE;
    }
    Place->Address = (ULONG64)Place->Element->Address.QuadPart;
    Place->ByteCount = Place->Element->Length;
    return TRUE;
}

static BOOLEAN NvmeFindPlace(const SCATTER_GATHER_LIST *List, ULONG Offset, NVME_PLACE *Place)
{
    Place->Element = List->Elements - 1;
    Place->End = List->Elements + List->NumberOfElements;
    while (NvmeGoToNextElement(Place)) {
        if (Offset < Place->ByteCount) {
            Place->Address += Offset;
            Place->ByteCount -= Offset;
            return TRUE;
        }
        Offset -= Place->ByteCount;
    }
    return FALSE;
}

static ULONG NvmeSmallest(ULONG_PTR First, ULONG_PTR Second, ULONG_PTR Third)
{
    const ULONG_PTR Smaller = First < Second ? First : Second;
    return (ULONG)(Smaller < Third ? Smaller : Third);
}

// Lists elements of one whole page each, as scattered memory comes, for as long as more follows. Returns the
// place in the list behind them.
static PULONG64 NvmeListSinglePages(NVME_PLACE *Place, PULONG64 Next, const ULONG64 *End,
                                    PULONG ByteCount)
{
    const SCATTER_GATHER_ELEMENT *Element = Place->Element;
    const ULONG Most = NvmeSmallest((ULONG_PTR)(End - Next), (*ByteCount - 1) / PAGE_SIZE,
                                    (ULONG_PTR)(Place->End - 1 - Element));
    const PULONG64 Last = Next + Most;
    while (Next != Last && Element->Length == PAGE_SIZE &&
           (ULONG)Element->Address.QuadPart % PAGE_SIZE == 0) {
        *Next++ = (ULONG64)Element->Address.QuadPart;
        Element += 1;
    }
    *ByteCount -= (ULONG)(Element - Place->Element) * PAGE_SIZE;
    Place->Element = Element;
    Place->Address = (ULONG64)Element->Address.QuadPart;
    Place->ByteCount = Element->Length;
    return Next;
}

// Fills the tracker's list with the pages from Place on. *PageCount: how many there are.
static NTSTATUS NvmeListPages(const NVME_TRACKER *Tracker, NVME_PLACE *Place, ULONG ByteCount,
                              PULONG PageCount)
{
    const ULONG Room =
        NvmeSmaller(Tracker->Queue->PrpByteCount / sizeof(ULONG64), NVME_PRP_LIST_ENTRIES);
    PULONG64 Next = Tracker->PrpList;
    const PULONG64 End = Next + Room;
    for (;;) {
        if (Place->ByteCount == PAGE_SIZE && Place->Element->Length == PAGE_SIZE) {
            Next = NvmeListSinglePages(Place, Next, End, &ByteCount);
        }
        // Within an element pages follow each other.
        ULONG Usable = NvmeSmaller(Place->ByteCount, ByteCount);
        ULONG64 Address = Place->Address;
        ByteCount -= Usable;
        if (Address % PAGE_SIZE != 0 || (ByteCount != 0 && Usable % PAGE_SIZE != 0)) {
            return STATUS_DATATYPE_MISALIGNMENT;
        }
        if (BYTES_TO_PAGES(Usable) > (ULONG_PTR)(End - Next)) {
            return STATUS_BUFFER_OVERFLOW;
        }
        for (; Usable > PAGE_SIZE; Usable -= PAGE_SIZE) {
            *Next++ = Address;
            Address += PAGE_SIZE;
        }
        *Next++ = Address;
        if (ByteCount == 0) {
            *PageCount = (ULONG)(Next - Tracker->PrpList);
            return STATUS_SUCCESS;
        }
        if (!NvmeGoToNextElement(Place)) {
            return STATUS_BUFFER_TOO_SMALL;
        }
    }
}

static NTSTATUS NvmeDescribeByPages(PNVME_TRACKER Tracker, const SCATTER_GATHER_LIST *List,
                                    ULONG Offset, ULONG ByteCount)
{
    const PNVME_COMMAND Command = &Tracker->Command;
    NVME_PLACE Place;
    if (!NvmeFindPlace(List, Offset, &Place)) {
        return STATUS_BUFFER_TOO_SMALL;
    }
    // An emulator may take such an address, and a controller may not.
    if ((Place.Address & NVME_DATA_ALIGNMENT_MASK) != 0) {
        return STATUS_DATATYPE_MISALIGNMENT;
    }
    const ULONG InPage = PAGE_SIZE - (ULONG)(Place.Address % PAGE_SIZE);
    const ULONG FirstBytes = NvmeSmaller(NvmeSmaller(InPage, Place.ByteCount), ByteCount);
    Command->Prp1 = Place.Address;
    Command->Prp2 = 0;
    ByteCount -= FirstBytes;
    if (ByteCount == 0) {
        return STATUS_SUCCESS;
    }
    if (FirstBytes != InPage) {
        return STATUS_DATATYPE_MISALIGNMENT;
    }
    Place.Address += FirstBytes;
    Place.ByteCount -= FirstBytes;
    if (Place.ByteCount == 0 && !NvmeGoToNextElement(&Place)) {
        return STATUS_BUFFER_TOO_SMALL;
    }
    ULONG PageCount = 0;
    const NTSTATUS Status = NvmeListPages(Tracker, &Place, ByteCount, &PageCount);
    Command->Prp2 = PageCount == 1 ? Tracker->PrpList[0] : Tracker->PrpListAddress;
    return Status;
}

BOOLEAN NvmeCanUseLists(const NVME_CONTROLLER *Controller)
{
    return Controller->Data != NULL && (Controller->Data->SglSupport & NVME_SGLS_MASK) != 0;
}

static ULONG64 NvmeListAlignmentMask(const NVME_CONTROLLER *Controller)
{
    return (Controller->Data->SglSupport & NVME_SGLS_MASK) == NVME_SGLS_DWORDS
               ? NVME_DATA_ALIGNMENT_MASK
               : 0;
}

static VOID NvmeFillDescriptor(PNVME_SGL_DESCRIPTOR Descriptor, ULONG64 Address, ULONG ByteCount,
                               UCHAR Identifier)
{
    *Descriptor =
        (NVME_SGL_DESCRIPTOR){.Address = Address, .ByteCount = ByteCount, .Identifier = Identifier};
}

static NTSTATUS NvmeDescribeByList(PNVME_TRACKER Tracker, const SCATTER_GATHER_LIST *List,
                                   ULONG Offset, ULONG ByteCount)
{
    const PNVME_SGL_DESCRIPTOR InCommand = (PNVME_SGL_DESCRIPTOR)&Tracker->Command.Prp1;
    const PNVME_SGL_DESCRIPTOR Descriptors = (PNVME_SGL_DESCRIPTOR)Tracker->PrpList;
    const ULONG Room = Tracker->Queue->PrpByteCount / sizeof(*Descriptors);
    const ULONG64 AlignmentMask = NvmeListAlignmentMask(Tracker->Queue->Controller);
    NVME_PLACE Place;
    ULONG Count = 0;
    if (!NvmeFindPlace(List, Offset, &Place)) {
        return STATUS_BUFFER_TOO_SMALL;
    }
    // SGLs would do, but a buffer shall not depend on what a controller can.
    if ((Place.Address & NVME_DATA_ALIGNMENT_MASK) != 0) {
        return STATUS_DATATYPE_MISALIGNMENT;
    }
    Tracker->Command.Flags |= NVME_COMMAND_USES_SGL;
    if (Place.ByteCount >= ByteCount) {
        NvmeFillDescriptor(InCommand, Place.Address, ByteCount, NVME_SGL_DATA_BLOCK);
        return STATUS_SUCCESS;
    }
    do {
        const ULONG Usable = NvmeSmaller(Place.ByteCount, ByteCount);
        if (Count == Room) {
            return STATUS_BUFFER_OVERFLOW;
        }
        if (((Place.Address | Usable) & AlignmentMask) != 0) {
            return STATUS_DATATYPE_MISALIGNMENT;
        }
        NvmeFillDescriptor(&Descriptors[Count], Place.Address, Usable, NVME_SGL_DATA_BLOCK);
        Count += 1;
        ByteCount -= Usable;
    } while (ByteCount != 0 && NvmeGoToNextElement(&Place));
    if (ByteCount != 0) {
        return STATUS_BUFFER_TOO_SMALL;
    }
    NvmeFillDescriptor(InCommand, Tracker->PrpListAddress, Count * sizeof(*Descriptors),
                       NVME_SGL_LAST_SEGMENT);
    return STATUS_SUCCESS;
}

NTSTATUS NvmeDescribeList(PNVME_TRACKER Tracker, const SCATTER_GATHER_LIST *List, ULONG Offset,
                          ULONG ByteCount)
{
    NTSTATUS Status = STATUS_NOT_SUPPORTED;
    if (!Tracker->Queue->UsesLists) {
        Status = NvmeDescribeByPages(Tracker, List, Offset, ByteCount);
        if (NT_SUCCESS(Status) || !NvmeCanUseLists(Tracker->Queue->Controller)) {
            return Status;
        }
    }
    Status = NvmeDescribeByList(Tracker, List, Offset, ByteCount);
    if (!NT_SUCCESS(Status)) {
        Tracker->Command.Flags &= (UCHAR)~NVME_COMMAND_DATA_MASK;
        Status = NvmeDescribeByPages(Tracker, List, Offset, ByteCount);
    }
    return Status;
}

// A chain may need more map registers than an MDL of its length: one for each page that it touches.
static BOOLEAN NvmeHasRegisters(const NVME_QUEUE *Queue, PMDL Mdl, ULONG Offset, ULONG ByteCount,
                                BOOLEAN WriteToDevice)
{
    DMA_TRANSFER_INFO Information = {.Version = DMA_TRANSFER_INFO_VERSION1};
    const NTSTATUS Status = Queue->Operations->GetDmaTransferInfo(
        Queue->Adapter, Mdl, Offset, ByteCount, WriteToDevice, &Information);
    return NT_SUCCESS(Status) && Information.V1.MapRegisterCount <= Queue->MapRegisterCount &&
           Information.V1.ScatterGatherListSize <= Queue->ListByteCount;
}

NTSTATUS NvmeMapTransfer(PNVME_TRACKER Tracker, PMDL Mdl, ULONG Offset, ULONG ByteCount,
                         BOOLEAN WriteToDevice)
{
    const PNVME_QUEUE Queue = Tracker->Queue;
    if (Mdl->Next != NULL && !NvmeHasRegisters(Queue, Mdl, Offset, ByteCount, WriteToDevice)) {
        return STATUS_BUFFER_OVERFLOW;
    }
    NTSTATUS Status = NvmeBuildList(Queue, Tracker, Mdl, Offset, ByteCount, WriteToDevice);
    if (!NT_SUCCESS(Status)) {
        Tracker->List = NULL;
        return Status;
    }
    if (NvmeDescribePage(Queue, Tracker, Tracker->List, 0, ByteCount)) {
        return STATUS_SUCCESS;
    }
    Status = NvmeDescribeList(Tracker, Tracker->List, 0, ByteCount);
    if (!NT_SUCCESS(Status)) {
        NvmeUnmapTransfer(Tracker);
    }
    return Status;
}

VOID NvmeUnmapTransfer(PNVME_TRACKER Tracker)
{
    NvmePutList(Tracker->Queue, Tracker);
}
