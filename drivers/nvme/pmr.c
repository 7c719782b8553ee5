// The persistent memory region: not used yet.
#include "nvme.h"

NTSTATUS NvmeEnablePmr(PNVME_CONTROLLER Controller)
{
    UNREFERENCED_PARAMETER(Controller);
    return STATUS_SUCCESS;
}

VOID NvmeUnmapPmr(PNVME_CONTROLLER Controller)
{
    UNREFERENCED_PARAMETER(Controller);
}

PDEVICE_OBJECT NvmePmrDevice(PNVME_CONTROLLER Controller)
{
    UNREFERENCED_PARAMETER(Controller);
    return NULL;
}

NTSTATUS NvmePmrPnp(PNVME_DEVICE Device, PIRP Irp)
{
    UNREFERENCED_PARAMETER(Device);
    return NvmeFinishIrp(Irp, Irp->IoStatus.Status, Irp->IoStatus.Information);
}

NTSTATUS NvmePmrReadWrite(PNVME_DEVICE Device, PIRP Irp)
{
    UNREFERENCED_PARAMETER(Device);
    return NvmeFinishIrp(Irp, STATUS_INVALID_DEVICE_REQUEST, 0);
}

NTSTATUS NvmePmrFlush(PNVME_DEVICE Device, PIRP Irp)
{
    UNREFERENCED_PARAMETER(Device);
    return NvmeFinishIrp(Irp, STATUS_INVALID_DEVICE_REQUEST, 0);
}

NTSTATUS NvmePmrControl(PNVME_DEVICE Device, PIRP Irp)
{
    UNREFERENCED_PARAMETER(Device);
    return NvmeFinishIrp(Irp, STATUS_INVALID_DEVICE_REQUEST, 0);
}
