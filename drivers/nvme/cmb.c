// The controller memory buffer: not used yet.
#include "nvme.h"

NTSTATUS NvmeEnableCmb(PNVME_CONTROLLER Controller)
{
    UNREFERENCED_PARAMETER(Controller);
    return STATUS_SUCCESS;
}

VOID NvmeUnmapCmb(PNVME_CONTROLLER Controller)
{
    UNREFERENCED_PARAMETER(Controller);
}

PVOID NvmeTakeCmb(PNVME_CONTROLLER Controller, ULONG ByteCount, PULONG64 Address)
{
    UNREFERENCED_PARAMETER(Controller);
    UNREFERENCED_PARAMETER(ByteCount);
    *Address = 0;
    return NULL;
}
