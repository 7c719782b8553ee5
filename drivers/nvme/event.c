// Asynchronous events.
#include "nvme.h"

NTSTATUS NvmeStartEvents(PNVME_CONTROLLER Controller)
{
    UNREFERENCED_PARAMETER(Controller);
    return STATUS_SUCCESS;
}

VOID NvmeStopEvents(PNVME_CONTROLLER Controller)
{
    UNREFERENCED_PARAMETER(Controller);
}
