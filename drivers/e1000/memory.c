// The memory that the card reaches, by way of the DMA adapter, and what belongs to each ring. All of it
// is allocated when the card starts, or gets rings of another size: nothing is while frames move.
#include "e1000.h"

// Of one transfer: more than any frame needs, because the adapter grants map registers by it, and many
// frames are mapped at a time.
#define E1000_MAXIMUM_TRANSFER 0x100000u

#define E1000_CHUNK_BYTES 0x10000u // of receive buffers
#define E1000_BUFFERS_PER_CHUNK (E1000_CHUNK_BYTES / E1000_BUFFER_BYTES)
#define E1000_BUFFERS_PER_DESCRIPTOR 2u // as many may be lent as are in the ring

NTSTATUS E1000GetDmaAdapter(PE1000_ADAPTER Adapter)
{
    DEVICE_DESCRIPTION Description;
    ULONG MapRegisterCount;

    RtlZeroMemory(&Description, sizeof(Description));
    Description.Version = DEVICE_DESCRIPTION_VERSION3;
    Description.Master = TRUE;
    Description.ScatterGather = TRUE;
    Description.Dma64BitAddresses = TRUE;
    Description.DmaAddressWidth = 64;
    Description.InterfaceType = PCIBus;
    Description.MaximumLength = E1000_MAXIMUM_TRANSFER;
    Adapter->Dma = IoGetDmaAdapter(Adapter->Pdo, &Description, &MapRegisterCount);
    return Adapter->Dma != NULL ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;
}

VOID E1000PutDmaAdapter(PE1000_ADAPTER Adapter)
{
    if (Adapter->Dma != NULL) {
        Adapter->Dma->DmaOperations->PutDmaAdapter(Adapter->Dma);
        Adapter->Dma = NULL;
    }
}

NTSTATUS E1000AllocateBlock(const E1000_ADAPTER *Adapter, PE1000_DMA_BLOCK Block, ULONG ByteCount)
{
    Block->Va = Adapter->Dma->DmaOperations->AllocateCommonBuffer(Adapter->Dma, ByteCount,
                                                                  &Block->Address, TRUE);
    if (Block->Va == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    Block->ByteCount = ByteCount;
    RtlZeroMemory(Block->Va, ByteCount);
    return STATUS_SUCCESS;
}

VOID E1000FreeBlock(const E1000_ADAPTER *Adapter, PE1000_DMA_BLOCK Block)
{
    if (Block->Va != NULL) {
        Adapter->Dma->DmaOperations->FreeCommonBuffer(Adapter->Dma, Block->ByteCount,
                                                      Block->Address, Block->Va, TRUE);
        Block->Va = NULL;
    }
}

static PVOID E1000AllocatePool(SIZE_T ByteCount)
{
    return ExAllocatePool2(POOL_FLAG_NON_PAGED, ByteCount, E1000_TAG);
}

static VOID E1000FreePool(PVOID Memory)
{
    if (Memory != NULL) {
        ExFreePoolWithTag(Memory, E1000_TAG);
    }
}

// -------------------------------------------------------------------------------------------------
// Receiving.

// Every buffer lies in one page, so that its MDL has one frame.
C_ASSERT(PAGE_SIZE % E1000_BUFFER_BYTES == 0);

static VOID E1000SetUpBuffer(PE1000_BUFFER Buffer, const E1000_DMA_BLOCK *Chunk, ULONG Offset)
{
    Buffer->Va = Chunk->Va + Offset;
    Buffer->Address = (ULONG64)Chunk->Address.QuadPart + Offset;
    Buffer->State = E1000BufferFree;
    MmInitializeMdl(&Buffer->Mdl, Buffer->Va, E1000_BUFFER_BYTES);
    MmBuildMdlForNonPagedPool(&Buffer->Mdl);
}

static NTSTATUS E1000AllocateBuffers(const E1000_ADAPTER *Adapter, PE1000_RECEIVE_RING Ring)
{
    for (ULONG Index = 0; Index < Ring->BufferCount; Index += 1) {
        const PE1000_DMA_BLOCK Chunk = &Ring->Chunks[Index / E1000_BUFFERS_PER_CHUNK];
        const NTSTATUS Status = Chunk->Va != NULL
                                    ? STATUS_SUCCESS
                                    : E1000AllocateBlock(Adapter, Chunk, E1000_CHUNK_BYTES);
        if (!NT_SUCCESS(Status)) {
            return Status;
        }
        const PE1000_BUFFER Buffer = &Ring->Buffers[Index];
        E1000SetUpBuffer(Buffer, Chunk, Index % E1000_BUFFERS_PER_CHUNK * E1000_BUFFER_BYTES);
        Buffer->Next = Ring->Free;
        Ring->Free = Buffer;
    }
    return STATUS_SUCCESS;
}

NTSTATUS E1000AllocateReceive(const E1000_ADAPTER *Adapter, PE1000_RECEIVE_RING Ring, ULONG Count)
{
    Ring->Count = Count;
    Ring->BufferCount = Count * E1000_BUFFERS_PER_DESCRIPTOR;
    Ring->ChunkCount = (Ring->BufferCount + E1000_BUFFERS_PER_CHUNK - 1) / E1000_BUFFERS_PER_CHUNK;
    Ring->InRing = E1000AllocatePool(Count * sizeof(PE1000_BUFFER));
    Ring->Buffers = E1000AllocatePool(Ring->BufferCount * sizeof(E1000_BUFFER));
    Ring->Chunks = E1000AllocatePool(Ring->ChunkCount * sizeof(E1000_DMA_BLOCK));
    NTSTATUS Status = STATUS_INSUFFICIENT_RESOURCES;
    if (Ring->InRing != NULL && Ring->Buffers != NULL && Ring->Chunks != NULL) {
        Status =
            E1000AllocateBlock(Adapter, &Ring->Block, Count * sizeof(E1000_RECEIVE_DESCRIPTOR));
    }
    if (NT_SUCCESS(Status)) {
        Ring->Descriptors = (volatile E1000_RECEIVE_DESCRIPTOR *)Ring->Block.Va;
        Status = E1000AllocateBuffers(Adapter, Ring);
    }
    if (!NT_SUCCESS(Status)) {
        E1000FreeReceive(Adapter, Ring);
    }
    return Status;
}

VOID E1000FreeReceive(const E1000_ADAPTER *Adapter, PE1000_RECEIVE_RING Ring)
{
    for (ULONG Index = 0; Ring->Chunks != NULL && Index < Ring->ChunkCount; Index += 1) {
        E1000FreeBlock(Adapter, &Ring->Chunks[Index]);
    }
    E1000FreeBlock(Adapter, &Ring->Block);
    E1000FreePool(Ring->Chunks);
    E1000FreePool(Ring->Buffers);
    E1000FreePool(Ring->InRing);
    Ring->Chunks = NULL;
    Ring->Buffers = NULL;
    Ring->BufferCount = 0;
    Ring->InRing = NULL;
    Ring->Free = NULL;
    Ring->Descriptors = NULL;
}

// -------------------------------------------------------------------------------------------------
// Transmitting.

static VOID E1000SetUpAreas(PE1000_TRANSMIT_RING Ring, ULONG SmallCount)
{
    PUCHAR Memory = Ring->AreaMemory;

    for (ULONG Index = 0; Index < SmallCount + E1000_LARGE_AREA_COUNT; Index += 1) {
        const PE1000_LIST_AREA Area = (PE1000_LIST_AREA)Memory;
        const BOOLEAN IsLarge = Index >= SmallCount;
        PE1000_LIST_AREA *const Stack = IsLarge ? &Ring->LargeAreas : &Ring->SmallAreas;
        Area->IsLarge = IsLarge;
        Area->Next = *Stack;
        *Stack = Area;
        Memory += IsLarge ? E1000_LARGE_AREA_BYTES : E1000_SMALL_AREA_BYTES;
    }
}

NTSTATUS E1000AllocateTransmit(const E1000_ADAPTER *Adapter, PE1000_TRANSMIT_RING Ring, ULONG Count)
{
    const ULONG SlotBytes = Count * E1000_SLOT_BYTES;

    Ring->Count = Count;
    Ring->Batches = E1000AllocatePool(Count * sizeof(E1000_BATCH));
    Ring->AreaMemory = E1000AllocatePool(Count * E1000_SMALL_AREA_BYTES +
                                         E1000_LARGE_AREA_COUNT * E1000_LARGE_AREA_BYTES);
    NTSTATUS Status = STATUS_INSUFFICIENT_RESOURCES;
    if (Ring->Batches != NULL && Ring->AreaMemory != NULL) {
        Status =
            E1000AllocateBlock(Adapter, &Ring->Block, Count * sizeof(E1000_TRANSMIT_DESCRIPTOR));
    }
    if (NT_SUCCESS(Status)) {
        Status = E1000AllocateBlock(Adapter, &Ring->SlotBlock, SlotBytes + PAGE_SIZE);
    }
    if (!NT_SUCCESS(Status)) {
        E1000FreeTransmit(Adapter, Ring);
        return Status;
    }
    Ring->Descriptors = (volatile E1000_TRANSMIT_DESCRIPTOR *)Ring->Block.Va;
    Ring->Slots = Ring->SlotBlock.Va;
    Ring->SlotsAddress = (ULONG64)Ring->SlotBlock.Address.QuadPart;
    Ring->ZerosAddress = Ring->SlotsAddress + SlotBytes;
    E1000SetUpAreas(Ring, Count);
    return STATUS_SUCCESS;
}

VOID E1000FreeTransmit(const E1000_ADAPTER *Adapter, PE1000_TRANSMIT_RING Ring)
{
    E1000FreeBlock(Adapter, &Ring->SlotBlock);
    E1000FreeBlock(Adapter, &Ring->Block);
    E1000FreePool(Ring->AreaMemory);
    E1000FreePool(Ring->Batches);
    Ring->AreaMemory = NULL;
    Ring->Batches = NULL;
    Ring->SmallAreas = NULL;
    Ring->LargeAreas = NULL;
    Ring->Descriptors = NULL;
}
