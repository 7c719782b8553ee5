// The memory that the controller reaches, by way of the DMA adapter: the common buffer with the queues,
// and the buffers of requests while their commands run.
//
// A controller that does not stop (Unstoppable) keeps all of it: nothing is unmapped or freed, and the
// adapter stays.
#include "oldnvme.h"

PVOID NvmePageVa(const NVME_DEVICE *Device, ULONG Page)
{
    return Device->Pages + (SIZE_T)Page * PAGE_SIZE;
}

ULONG64 NvmePageAddress(const NVME_DEVICE *Device, ULONG Page)
{
    return (ULONG64)Device->PagesAddress.QuadPart + (ULONG64)Page * PAGE_SIZE;
}

static NTSTATUS NvmeGetAdapter(PNVME_DEVICE Device)
{
    DEVICE_DESCRIPTION Description;
    RtlZeroMemory(&Description, sizeof(Description));
    Description.Version = DEVICE_DESCRIPTION_VERSION3;
    Description.Master = TRUE;
    Description.ScatterGather = TRUE;
    Description.Dma64BitAddresses = TRUE;
    Description.DmaAddressWidth = 64;
    Description.InterfaceType = PCIBus;
    Description.MaximumLength = NVME_MAXIMUM_COMMAND_BYTES;
    Device->Adapter = IoGetDmaAdapter(Device->Pdo, &Description, &Device->MapRegisterCount);
    // A page at an odd offset takes two.
    return Device->Adapter != NULL && Device->MapRegisterCount >= 2 ? STATUS_SUCCESS
                                                                    : STATUS_INSUFFICIENT_RESOURCES;
}

NTSTATUS NvmeAllocatePages(PNVME_DEVICE Device)
{
    const NTSTATUS Status = NvmeGetAdapter(Device);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    Device->Pages = Device->Adapter->DmaOperations->AllocateCommonBuffer(
        Device->Adapter, NvmePageCount * PAGE_SIZE, &Device->PagesAddress, TRUE);
    if (Device->Pages == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    RtlZeroMemory(Device->Pages, NvmePageCount * PAGE_SIZE);
    return STATUS_SUCCESS;
}

VOID NvmeFreePages(PNVME_DEVICE Device)
{
    if (Device->Unstoppable) {
        DbgPrint("NVMe: %u pages are lost: the controller may still write to them\n",
                 NvmePageCount);
    } else {
        if (Device->Pages != NULL) {
            Device->Adapter->DmaOperations->FreeCommonBuffer(
                Device->Adapter, NvmePageCount * PAGE_SIZE, Device->PagesAddress, Device->Pages,
                TRUE);
        }
        if (Device->Adapter != NULL) {
            Device->Adapter->DmaOperations->PutDmaAdapter(Device->Adapter);
        }
    }
    Device->Pages = NULL;
    Device->Adapter = NULL;
    RtlZeroMemory(Device->Transfers, sizeof(Device->Transfers));
}

NTSTATUS NvmeMapTransfer(PNVME_DEVICE Device, ULONG CommandId, PMDL Mdl, ULONG Offset,
                         ULONG ByteCount, BOOLEAN WriteToDevice)
{
    const PDMA_OPERATIONS Operations = Device->Adapter->DmaOperations;
    const PNVME_TRANSFER Transfer = &Device->Transfers[CommandId];

    NTSTATUS Status = Operations->InitializeDmaTransferContext(Device->Adapter, Transfer->Context);
    if (NT_SUCCESS(Status)) {
        Status = Operations->GetScatterGatherListEx(
            Device->Adapter, Device->Self, Transfer->Context, Mdl, Offset, ByteCount,
            DMA_SYNCHRONOUS_CALLBACK, NULL, NULL, WriteToDevice, NULL, NULL, &Transfer->List);
    }
    if (!NT_SUCCESS(Status)) {
        Transfer->List = NULL;
        return Status;
    }
    Transfer->WriteToDevice = WriteToDevice;
    return STATUS_SUCCESS;
}

VOID NvmeUnmapTransfers(PNVME_DEVICE Device)
{
    KIRQL OldIrql;
    KeRaiseIrql(DISPATCH_LEVEL, &OldIrql); // so PutScatterGatherList wants it
    for (ULONG CommandId = 0; CommandId < NVME_BATCH_COMMANDS; CommandId += 1) {
        const PNVME_TRANSFER Transfer = &Device->Transfers[CommandId];
        if (Transfer->List != NULL) {
            Device->Adapter->DmaOperations->PutScatterGatherList(Device->Adapter, Transfer->List,
                                                                 Transfer->WriteToDevice);
            Transfer->List = NULL;
        }
    }
    KeLowerIrql(OldIrql);
}
