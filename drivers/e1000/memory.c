// The memory that the card reaches, by way of the DMA adapter: common buffers.
#include "e1000.h"

static NTSTATUS E1000GetDmaAdapter(PE1000_ADAPTER Adapter)
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
    Description.MaximumLength = E1000_MAXIMUM_FRAME_BYTES;
    Adapter->Dma = IoGetDmaAdapter(Adapter->Pdo, &Description, &MapRegisterCount);
    return Adapter->Dma != NULL ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;
}

static NTSTATUS E1000AllocateDmaBlock(PE1000_ADAPTER Adapter, PE1000_DMA_BLOCK Block,
                                      ULONG ByteCount)
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

static VOID E1000FreeDmaBlock(PE1000_ADAPTER Adapter, PE1000_DMA_BLOCK Block)
{
    if (Block->Va != NULL) {
        Adapter->Dma->DmaOperations->FreeCommonBuffer(Adapter->Dma, Block->ByteCount,
                                                      Block->Address, Block->Va, TRUE);
        Block->Va = NULL;
    }
}

NTSTATUS E1000AllocateRings(PE1000_ADAPTER Adapter)
{
    NTSTATUS Status = E1000GetDmaAdapter(Adapter);
    if (NT_SUCCESS(Status)) {
        Status = E1000AllocateDmaBlock(Adapter, &Adapter->Rings, PAGE_SIZE);
    }
    if (NT_SUCCESS(Status)) {
        Status = E1000AllocateDmaBlock(Adapter, &Adapter->ReceiveBuffers,
                                       E1000_RING_COUNT * E1000_BUFFER_BYTES);
    }
    if (NT_SUCCESS(Status)) {
        Status = E1000AllocateDmaBlock(Adapter, &Adapter->OwnFrame, PAGE_SIZE);
    }
    if (!NT_SUCCESS(Status)) {
        E1000FreeRings(Adapter);
    }
    return Status;
}

VOID E1000FreeRings(PE1000_ADAPTER Adapter)
{
    if (Adapter->Dma != NULL) {
        E1000FreeDmaBlock(Adapter, &Adapter->OwnFrame);
        E1000FreeDmaBlock(Adapter, &Adapter->ReceiveBuffers);
        E1000FreeDmaBlock(Adapter, &Adapter->Rings);
        Adapter->Dma->DmaOperations->PutDmaAdapter(Adapter->Dma);
        Adapter->Dma = NULL;
    }
}
