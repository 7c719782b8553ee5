// IRPs: requests on their way down a stack of devices and up again.
//
//   location   StackCount + 1   the sender (no location of its own)
//              StackCount       the top device              │ IofCallDriver
//              ...                                          ▼
//              1                the lowest device           ▲ IofCompleteRequest
//
// A location's completion routine was put there by the device above, and runs as that device.
//
// Invariant, whose breach stops the machine with the code that NT has for it:
//   R1  1 <= CurrentLocation <= StackCount while a driver owns the IRP: calling below 1 is
//       NO_MORE_IRP_STACK_LOCATIONS, completing above StackCount MULTIPLE_IRP_COMPLETE_REQUESTS.
#include "kernel/io/iop.h"

#define IOP_IRP_TAG ' prI'

PIRP NTAPI IoAllocateIrp(CCHAR StackSize, BOOLEAN ChargeQuota)
{
    UNREFERENCED_PARAMETER(ChargeQuota);
    // The location above the top one must still be countable.
    if (StackSize < 1 || StackSize == __SCHAR_MAX__) {
        return NULL;
    }
    PIRP Irp = ExAllocatePool2(POOL_FLAG_NON_PAGED, IoSizeOfIrp(StackSize), IOP_IRP_TAG);
    if (Irp == NULL) {
        return NULL;
    }
    Irp->Type = IO_TYPE_IRP;
    Irp->Size = IoSizeOfIrp(StackSize);
    Irp->StackCount = StackSize;
    Irp->CurrentLocation = (CCHAR)(StackSize + 1);
    Irp->Tail.Overlay.CurrentStackLocation = (PIO_STACK_LOCATION)(Irp + 1) + StackSize;
    InitializeListHead(&Irp->ThreadListEntry);
    return Irp;
}

VOID NTAPI IoFreeIrp(PIRP Irp)
{
    NT_ASSERT(Irp->Type == IO_TYPE_IRP);
    // Whoever still completes it shall be recognised.
    Irp->Type = 0;
    ExFreePoolWithTag(Irp, IOP_IRP_TAG);
}

NTSTATUS NTAPI IofCallDriver(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    if (Irp->CurrentLocation <= 1) {
        KiBugCheckSaying(NO_MORE_IRP_STACK_LOCATIONS, (ULONG_PTR)Irp, 0, 0, 0,
                         "an IRP with %u stack locations was passed further down than it reaches",
                         Irp->StackCount);
    }
    Irp->CurrentLocation--;
    PIO_STACK_LOCATION Stack = --Irp->Tail.Overlay.CurrentStackLocation;
    NT_ASSERT(Stack->MajorFunction <= IRP_MJ_MAXIMUM_FUNCTION);
    Stack->DeviceObject = DeviceObject;
    return DeviceObject->DriverObject->MajorFunction[Stack->MajorFunction](DeviceObject, Irp);
}

static BOOLEAN IopWantsCompletion(const IRP *Irp, const IO_STACK_LOCATION *Stack)
{
    const UCHAR Wanted =
        (NT_SUCCESS(Irp->IoStatus.Status) ? SL_INVOKE_ON_SUCCESS : SL_INVOKE_ON_ERROR) |
        (Irp->Cancel ? SL_INVOKE_ON_CANCEL : 0);
    return Stack->CompletionRoutine != NULL && (Stack->Control & Wanted) != 0;
}

// Leaves the current location: the device above owns the IRP now. FALSE: it keeps it.
static BOOLEAN IopUnwindLocation(PIRP Irp)
{
    PIO_STACK_LOCATION Left = Irp->Tail.Overlay.CurrentStackLocation++;
    Irp->CurrentLocation++;
    const BOOLEAN HasOwner = Irp->CurrentLocation <= Irp->StackCount;
    Irp->PendingReturned = (Left->Control & SL_PENDING_RETURNED) != 0;
    if (!IopWantsCompletion(Irp, Left)) {
        // Nobody else will pass it on for a device that does not look.
        if (Irp->PendingReturned && HasOwner) {
            IoMarkIrpPending(Irp);
        }
        return TRUE;
    }
    PIO_COMPLETION_ROUTINE Routine = Left->CompletionRoutine;
    PVOID Context = Left->Context;
    RtlZeroMemory(Left, sizeof(*Left));
    PDEVICE_OBJECT Owner = HasOwner ? IoGetCurrentIrpStackLocation(Irp)->DeviceObject : NULL;
    return Routine(Owner, Irp, Context) != STATUS_MORE_PROCESSING_REQUIRED;
}

VOID NTAPI IofCompleteRequest(PIRP Irp, CCHAR PriorityBoost)
{
    UNREFERENCED_PARAMETER(PriorityBoost);
    if (Irp->Type != IO_TYPE_IRP || Irp->CurrentLocation > Irp->StackCount) {
        KiBugCheckSaying(MULTIPLE_IRP_COMPLETE_REQUESTS, (ULONG_PTR)Irp, 0, 0, 0,
                         "an IRP was completed that had been completed before");
    }
    NT_ASSERT(Irp->IoStatus.Status != STATUS_PENDING);
    while (Irp->CurrentLocation <= Irp->StackCount) {
        if (!IopUnwindLocation(Irp)) {
            return;
        }
    }
    // Nobody took it back: it is done, and its MDLs with it. A buffer belongs to whoever sent it.
    MmReleaseMdlChain(Irp->MdlAddress);
    if (Irp->UserIosb != NULL) {
        *Irp->UserIosb = Irp->IoStatus;
    }
    IoFreeIrp(Irp);
}

NTSTATUS IopCompleteIrp(PIRP Irp, NTSTATUS Status, ULONG_PTR Information)
{
    Irp->IoStatus.Status = Status;
    Irp->IoStatus.Information = Information;
    IofCompleteRequest(Irp, IO_NO_INCREMENT);
    return Status;
}
