// The controller memory buffer: RAM of the controller's own, behind a BAR, in which submission
// queues can lie. The controller then reads commands without a transfer over the bus; the processor
// writes them through a write-combining mapping, 64 bytes at a time on a real machine.
//
//   CMBMSC.CRE --> CmbLoc, CmbSz tell --> map --> CMBMSC.CBA and CMSE: the controller knows its
//   addresses
//
// Invariants:
//   B1  It is used for submission queues only, and only when CmbSz.SQS says that it may be.
//   B2  Nothing reads it: reads of write-combined memory are slow, and nothing of ours needs them.
//       Stores have 8 bytes at most (Q3): QEMU takes no longer ones.
//   B3  The controller is told addresses of it that are the processor's own, and no RAM has them.
#include "nvme.h"

#define NVME_CMB_MOST_BYTES 0x400000 // what is mapped of it, at most: more than all queues need
#define NVME_BAR_OFFSET 0x10         // of BAR 0 in the configuration space
#define NVME_BAR_64_BIT 0x4
#define NVME_BAR_ADDRESS_MASK 0xFFFFFFFFFFFFFFF0ull

// Resources come without the number of their BAR, so the address tells.
BOOLEAN NvmeFindBar(PNVME_CONTROLLER Controller, ULONG Index, PULONG64 Start, PULONG64 ByteCount)
{
    const CM_RESOURCE_LIST *Resources = Controller->Resources;
    ULONG64 Bar = 0;
    if (Controller->Bus.Context == NULL || Resources == NULL || Index < 2 || Index > 5) {
        return FALSE;
    }
    const ULONG Offset = NVME_BAR_OFFSET + Index * (ULONG)sizeof(ULONG);
    const ULONG Wanted = Index < 5 ? sizeof(ULONG64) : sizeof(ULONG);
    if (Controller->Bus.GetBusData(Controller->Bus.Context, PCI_WHICHSPACE_CONFIG, &Bar, Offset,
                                   Wanted) != Wanted) {
        return FALSE;
    }
    if ((Bar & NVME_BAR_64_BIT) == 0) {
        Bar = (ULONG)Bar;
    }
    const CM_PARTIAL_RESOURCE_LIST *List = &Resources->List[0].PartialResourceList;
    for (ULONG Number = 0; Number < List->Count; Number += 1) {
        ULONGLONG First;
        const CM_PARTIAL_RESOURCE_DESCRIPTOR *Descriptor = &List->PartialDescriptors[Number];
        if (Descriptor->Type != CmResourceTypeMemory &&
            Descriptor->Type != CmResourceTypeMemoryLarge) {
            continue;
        }
        *ByteCount = RtlCmDecodeMemIoResource((PCM_PARTIAL_RESOURCE_DESCRIPTOR)Descriptor, &First);
        *Start = First;
        if (First == (Bar & NVME_BAR_ADDRESS_MASK) && *ByteCount != 0) {
            return TRUE;
        }
    }
    return FALSE;
}

// Where it is, and how much of it lies in its BAR. All of that comes from the device.
static BOOLEAN NvmeLocateCmb(PNVME_CONTROLLER Controller, PULONG64 Address, PULONG64 ByteCount)
{
    const ULONG Size = READ_REGISTER_ULONG(&Controller->Registers->CmbSz);
    const ULONG Location = READ_REGISTER_ULONG(&Controller->Registers->CmbLoc);
    ULONG64 BarStart;
    ULONG64 BarBytes;
    Controller->RegisterReads += 2;
    if ((Size & NVME_CMBSZ_SUBMISSION_QUEUES) == 0 || NVME_CMBSZ_UNIT_SHIFT(Size) > 36) {
        return FALSE;
    }
    // 20 bits of units of 2^36 bytes at most: no overflow.
    const ULONG64 Offset = NVME_CMBLOC_OFFSET(Location) << NVME_CMBSZ_UNIT_SHIFT(Size);
    const ULONG64 Bytes = NVME_CMBSZ_UNITS(Size) << NVME_CMBSZ_UNIT_SHIFT(Size);
    if (!NvmeFindBar(Controller, NVME_CMBLOC_BAR(Location), &BarStart, &BarBytes) ||
        Offset >= BarBytes) {
        DbgPrint("NVMe: the controller memory buffer (CMBLOC 0x%x, CMBSZ 0x%x) lies in no BAR\n",
                 Location, Size);
        return FALSE;
    }
    *Address = BarStart + Offset;
    *ByteCount = Bytes < BarBytes - Offset ? Bytes : BarBytes - Offset;
    return *ByteCount >= PAGE_SIZE;
}

static VOID NvmeMapCmb(PNVME_CONTROLLER Controller, ULONG64 Address, ULONG64 ByteCount)
{
    const PHYSICAL_ADDRESS Physical = {.QuadPart = (LONG64)Address};
    const SIZE_T Mapped = ByteCount < NVME_CMB_MOST_BYTES ? ByteCount : NVME_CMB_MOST_BYTES;
    Controller->Cmb = MmMapIoSpaceEx(Physical, Mapped, PAGE_READWRITE | PAGE_WRITECOMBINE);
    if (Controller->Cmb == NULL) {
        DbgPrint("NVMe: the controller memory buffer cannot be mapped, and is not used\n");
        return;
    }
    Controller->CmbAddress = Address;
    Controller->CmbByteCount = Mapped;
    Controller->CmbUsedByteCount = 0;
    DbgPrint("NVMe: %llu KiB of memory in the controller, at 0x%llx, hold submission queues\n",
             ByteCount / 1024, Address);
}

static VOID NvmeWriteSpaceControl(PNVME_CONTROLLER Controller, ULONG64 Value)
{
    if (NVME_CAP_MEMORY_BUFFER(Controller->Capabilities)) {
        WRITE_REGISTER_ULONG64(&Controller->Registers->CmbMsc, Value);
    }
}

NTSTATUS NvmeEnableCmb(PNVME_CONTROLLER Controller)
{
    ULONG64 Address;
    ULONG64 ByteCount;
    if (Controller->Parameters.UseCmb == 0 || Controller->Version < NVME_VERSION(1, 2)) {
        return STATUS_SUCCESS;
    }
    // Before 1.4 there was no CMBMSC: the buffer is there or not, at the addresses of its BAR.
    NvmeWriteSpaceControl(Controller, NVME_CMBMSC_CAPABILITIES);
    if (Controller->Cmb == NULL && NvmeLocateCmb(Controller, &Address, &ByteCount)) {
        NvmeMapCmb(Controller, Address, ByteCount);
    }
    if (Controller->Cmb == NULL) {
        NvmeWriteSpaceControl(Controller, 0);
        return STATUS_SUCCESS;
    }
    NvmeWriteSpaceControl(Controller,
                          Controller->CmbAddress | NVME_CMBMSC_ENABLE | NVME_CMBMSC_CAPABILITIES);
    if (NVME_CAP_MEMORY_BUFFER(Controller->Capabilities) &&
        (READ_REGISTER_ULONG(&Controller->Registers->CmbSts) & NVME_CMBSTS_ADDRESS_INVALID) != 0) {
        DbgPrint("NVMe: the controller does not take 0x%llx for its memory buffer\n",
                 Controller->CmbAddress);
        return Controller->CmbUsedByteCount == 0 ? (NvmeUnmapCmb(Controller), STATUS_SUCCESS)
                                                 : STATUS_DEVICE_HARDWARE_ERROR;
    }
    return STATUS_SUCCESS;
}

VOID NvmeUnmapCmb(PNVME_CONTROLLER Controller)
{
    if (Controller->Cmb == NULL) {
        return;
    }
    NvmeWriteSpaceControl(Controller, 0);
    MmUnmapIoSpace(Controller->Cmb, Controller->CmbByteCount);
    Controller->Cmb = NULL;
    Controller->CmbByteCount = 0;
    Controller->CmbUsedByteCount = 0;
}

PVOID NvmeTakeCmb(PNVME_CONTROLLER Controller, ULONG ByteCount, PULONG64 Address)
{
    const SIZE_T Needed = ROUND_TO_PAGES(ByteCount);
    if (Controller->Cmb == NULL ||
        Needed > Controller->CmbByteCount - Controller->CmbUsedByteCount) {
        return NULL;
    }
    const SIZE_T Offset = Controller->CmbUsedByteCount;
    Controller->CmbUsedByteCount += Needed;
    *Address = Controller->CmbAddress + Offset;
    return Controller->Cmb + Offset;
}
