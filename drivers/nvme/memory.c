// The memory that the controller reaches beside its queues' own: admin pages and shadow doorbells, in
// common buffers of the controller's adapter.
//
// A controller that does not stop (Unstoppable) keeps all of it: nothing is freed, and the adapter stays.
#include "nvme.h"

#define NVME_SHADOW_PAGES 2 // doorbells, event indexes

PDMA_ADAPTER NvmeGetAdapter(PNVME_CONTROLLER Controller, ULONG MaximumBytes,
                            PULONG MapRegisterCount)
{
    DEVICE_DESCRIPTION Description;
    RtlZeroMemory(&Description, sizeof(Description));
    Description.Version = DEVICE_DESCRIPTION_VERSION3;
    Description.Master = TRUE;
    Description.ScatterGather = TRUE;
    Description.Dma64BitAddresses = TRUE;
    Description.DmaAddressWidth = 64;
    Description.InterfaceType = PCIBus;
    Description.MaximumLength = MaximumBytes;
    return IoGetDmaAdapter(Controller->Pdo, &Description, MapRegisterCount);
}

static VOID NvmeSetUpAdminPages(PNVME_CONTROLLER Controller)
{
    for (ULONG Index = 0; Index < NVME_ADMIN_PAGES; Index += 1) {
        Controller->AdminPages[Index] = (NVME_ADMIN_PAGE){
            .Va = Controller->AdminBuffer + (SIZE_T)Index * PAGE_SIZE,
            .Address = (ULONG64)Controller->AdminBufferAddress.QuadPart + Index * PAGE_SIZE};
    }
}

NTSTATUS NvmeAllocateControllerMemory(PNVME_CONTROLLER Controller)
{
    Controller->Adapter =
        NvmeGetAdapter(Controller, NVME_MAXIMUM_COMMAND_BYTES, &Controller->MapRegisterCount);
    // A page at an odd offset takes two.
    if (Controller->Adapter == NULL || Controller->MapRegisterCount < 2) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    const PDMA_OPERATIONS Operations = Controller->Adapter->DmaOperations;
    Controller->AdminBuffer = Operations->AllocateCommonBuffer(
        Controller->Adapter, NVME_ADMIN_PAGES * PAGE_SIZE, &Controller->AdminBufferAddress, TRUE);
    Controller->Shadow = Operations->AllocateCommonBuffer(
        Controller->Adapter, NVME_SHADOW_PAGES * PAGE_SIZE, &Controller->ShadowAddress, TRUE);
    if (Controller->AdminBuffer == NULL || Controller->Shadow == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    RtlZeroMemory(Controller->Shadow, NVME_SHADOW_PAGES * PAGE_SIZE);
    NvmeSetUpAdminPages(Controller);
    return STATUS_SUCCESS;
}

static VOID NvmeFreeBuffer(PNVME_CONTROLLER Controller, PVOID Buffer, ULONG PageCount,
                           PHYSICAL_ADDRESS Address)
{
    if (Buffer != NULL) {
        Controller->Adapter->DmaOperations->FreeCommonBuffer(
            Controller->Adapter, PageCount * PAGE_SIZE, Address, Buffer, TRUE);
    }
}

VOID NvmeFreeControllerMemory(PNVME_CONTROLLER Controller)
{
    if (Controller->Unstoppable) {
        DbgPrint("NVMe: the controller's memory is lost: it may still write to it\n");
    } else if (Controller->Adapter != NULL) {
        NvmeFreeBuffer(Controller, Controller->AdminBuffer, NVME_ADMIN_PAGES,
                       Controller->AdminBufferAddress);
        NvmeFreeBuffer(Controller, Controller->Shadow, NVME_SHADOW_PAGES,
                       Controller->ShadowAddress);
        Controller->Adapter->DmaOperations->PutDmaAdapter(Controller->Adapter);
    }
    Controller->AdminBuffer = NULL;
    Controller->Shadow = NULL;
    Controller->Adapter = NULL;
    RtlZeroMemory(Controller->AdminPages, sizeof(Controller->AdminPages));
}
