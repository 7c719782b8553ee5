// IRPs: requests on their way down a stack of devices and up again.
//
//   location   StackCount + 1   the sender (no location of its own)
//              StackCount       the top device              │ IofCallDriver
//              ...                                          ▼
//              1                the lowest device           ▲ IofCompleteRequest
//
// A location's completion routine was put there by the device above, and runs as that device.
//
// Invariants, whose breach stops the machine with the code that NT has for it:
//   R1  1 <= CurrentLocation <= StackCount while a driver owns the IRP: calling below 1 is
//       NO_MORE_IRP_STACK_LOCATIONS, completing above StackCount MULTIPLE_IRP_COMPLETE_REQUESTS.
//   R2  An IRP that was freed is none any more: its Type is 0. Whoever still completes it is
//       recognised.
// Each processor keeps a few free IRPs of one size, at DISPATCH_LEVEL; with the verifier none, so that
// the pool sees each of them come and go.
#include "kernel/inc/kearch.h"
#include "kernel/io/iop.h"

#define IOP_IRP_TAG ' prI'
#define IOP_CACHED_STACK_SIZE 8

typedef struct _IOP_IRP_CACHE {
    PIRP First; // linked through MdlAddress
    ULONG Count;
} IOP_IRP_CACHE, *PIOP_IRP_CACHE;

static IOP_IRP_CACHE IopIrpCaches[KE_MAXIMUM_PROCESSORS];
static ULONG IopIrpCacheDepth = 16;

//
// Allocation.
//

static PIRP IopTakeCachedIrp(VOID)
{
    const KIRQL OldIrql = KeArchReadIrql();
    KeArchWriteIrql(DISPATCH_LEVEL);
    PIOP_IRP_CACHE Cache = &IopIrpCaches[KeArchGetPcr()->Number];
    PIRP Irp = Cache->First;
    if (Irp != NULL) {
        Cache->First = (PIRP)Irp->MdlAddress;
        Cache->Count -= 1;
    }
    KeArchWriteIrql(OldIrql);
    return Irp;
}

// FALSE: there are enough.
static BOOLEAN IopCacheIrp(PIRP Irp)
{
    const KIRQL OldIrql = KeArchReadIrql();
    KeArchWriteIrql(DISPATCH_LEVEL);
    PIOP_IRP_CACHE Cache = &IopIrpCaches[KeArchGetPcr()->Number];
    const BOOLEAN IsKept = Cache->Count < IopIrpCacheDepth;
    if (IsKept) {
        Irp->MdlAddress = (PMDL)Cache->First;
        Cache->First = Irp;
        Cache->Count += 1;
    }
    KeArchWriteIrql(OldIrql);
    return IsKept;
}

VOID IoSetIrpCacheDepth(ULONG Count)
{
    IopIrpCacheDepth = Count;
    for (ULONG Processor = 0; Processor < (ULONG)KeNumberProcessors; Processor += 1) {
        const KAFFINITY Affinity = KeSetSystemAffinityThreadEx((KAFFINITY)1 << Processor);
        for (PIRP Irp = IopTakeCachedIrp(); Irp != NULL; Irp = IopTakeCachedIrp()) {
            ExFreePoolWithTag(Irp, IOP_IRP_TAG);
        }
        KeRevertToUserAffinityThreadEx(Affinity);
    }
}

// Word by word: nine stores are less work than a call, or a string instruction.
static inline VOID IopZeroLocation(PIO_STACK_LOCATION Stack)
{
    const PULONG64 Words = (PULONG64)Stack;
    C_ASSERT(sizeof(*Stack) == 9 * sizeof(*Words));
    Words[0] = Words[1] = Words[2] = 0;
    Words[3] = Words[4] = Words[5] = 0;
    Words[6] = Words[7] = Words[8] = 0;
}

// Makes an IRP in memory that is zero.
static VOID IopSetUpIrp(PIRP Irp, USHORT ByteCount, CCHAR StackSize)
{
    Irp->Type = IO_TYPE_IRP;
    Irp->Size = ByteCount;
    Irp->StackCount = StackSize;
    Irp->CurrentLocation = (CCHAR)(StackSize + 1);
    Irp->Tail.Overlay.CurrentStackLocation = (PIO_STACK_LOCATION)(Irp + 1) + StackSize;
    InitializeListHead(&Irp->ThreadListEntry);
}

static PIRP IopAllocateCachedIrp(CCHAR StackSize)
{
    PIRP Irp = IopTakeCachedIrp();
    if (Irp == NULL) {
        Irp = ExAllocatePool2(POOL_FLAG_NON_PAGED | POOL_FLAG_UNINITIALIZED,
                              IoSizeOfIrp(IOP_CACHED_STACK_SIZE), IOP_IRP_TAG);
        if (Irp == NULL) {
            return NULL;
        }
    }
    RtlZeroMemory(Irp, IoSizeOfIrp(StackSize));
    IopSetUpIrp(Irp, IoSizeOfIrp(StackSize), StackSize);
    Irp->AllocationFlags = IRP_ALLOCATED_FIXED_SIZE;
    return Irp;
}

PIRP NTAPI IoAllocateIrp(CCHAR StackSize, BOOLEAN ChargeQuota)
{
    UNREFERENCED_PARAMETER(ChargeQuota);
    // The location above the top one must still be countable.
    if (StackSize < 1 || StackSize == __SCHAR_MAX__) {
        return NULL;
    }
    if (StackSize <= IOP_CACHED_STACK_SIZE && MmVerifierLevel == 0) {
        return IopAllocateCachedIrp(StackSize);
    }
    PIRP Irp = ExAllocatePool2(POOL_FLAG_NON_PAGED, IoSizeOfIrp(StackSize), IOP_IRP_TAG);
    if (Irp != NULL) {
        IopSetUpIrp(Irp, IoSizeOfIrp(StackSize), StackSize);
    }
    return Irp;
}

PIRP NTAPI IoAllocateIrpEx(PDEVICE_OBJECT DeviceObject, CCHAR StackSize, BOOLEAN ChargeQuota)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    return IoAllocateIrp(StackSize, ChargeQuota);
}

VOID NTAPI IoInitializeIrp(PIRP Irp, USHORT PacketSize, CCHAR StackSize)
{
    RtlZeroMemory(Irp, PacketSize);
    IopSetUpIrp(Irp, PacketSize, StackSize);
    Irp->AllocationFlags = IOP_IRP_OF_CALLER;
}

VOID NTAPI IoReuseIrp(PIRP Irp, NTSTATUS Status)
{
    const UCHAR AllocationFlags = Irp->AllocationFlags;
    const USHORT ByteCount = Irp->Size;
    const CCHAR StackSize = Irp->StackCount;
    const PIO_STACK_LOCATION Stack = (PIO_STACK_LOCATION)(Irp + 1);
    *Irp = (IRP){0};
    for (LONG Index = 0; Index < StackSize; Index += 1) {
        IopZeroLocation(&Stack[Index]);
    }
    IopSetUpIrp(Irp, ByteCount, StackSize);
    Irp->AllocationFlags = AllocationFlags;
    Irp->IoStatus.Status = Status;
}

static DECLSPEC_NORETURN VOID IopRefuse(ULONG_PTR Rule, ULONG_PTR Second, ULONG_PTR Third,
                                        ULONG_PTR Fourth, PCSTR Sentence)
{
    KiBugCheckSaying(DRIVER_VERIFIER_IOMANAGER_VIOLATION, Rule, Second, Third, Fourth, "%s",
                     Sentence);
}

static VOID IopVerifyFree(PIRP Irp)
{
    if (Irp->Type != IO_TYPE_IRP || Irp->AllocationFlags == IOP_IRP_OF_CALLER) {
        IopRefuse(0x1, (ULONG_PTR)Irp, 0, 0,
                  "something was freed as an IRP that IoAllocateIrp has not made");
    }
    if (!IsListEmpty(&Irp->ThreadListEntry)) {
        IopRefuse(0x2, (ULONG_PTR)Irp, 0, 0,
                  "an IRP was freed that its thread still waits for: it frees itself when it is "
                  "completed");
    }
}

VOID NTAPI IoFreeIrp(PIRP Irp)
{
    if (MmVerifierLevel != 0) {
        IopVerifyFree(Irp);
    }
    NT_ASSERT(Irp->Type == IO_TYPE_IRP);
    const BOOLEAN IsCached = (Irp->AllocationFlags & IRP_ALLOCATED_FIXED_SIZE) != 0;
    Irp->Type = 0;
    Irp->AllocationFlags = 0;
    if (!IsCached || !IopCacheIrp(Irp)) {
        ExFreePoolWithTag(Irp, IOP_IRP_TAG);
    }
}

PIRP NTAPI IoMakeAssociatedIrp(PIRP Irp, CCHAR StackSize)
{
    PIRP Part = IoAllocateIrp(StackSize, FALSE);
    if (Part != NULL) {
        Part->Flags |= IRP_ASSOCIATED_IRP;
        Part->AssociatedIrp.MasterIrp = Irp;
        Part->Tail.Overlay.Thread = Irp->Tail.Overlay.Thread;
        Part->RequestorMode = Irp->RequestorMode;
    }
    return Part;
}

//
// The way down.
//

FORCEINLINE NTSTATUS IopDispatch(PDEVICE_OBJECT DeviceObject, PIRP Irp)
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

// The same under the eyes of the verifier.
static DECLSPEC_NOINLINE NTSTATUS NTAPI IopDispatchVerified(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    if (Irp->Type != IO_TYPE_IRP) {
        IopRefuse(0x3, (ULONG_PTR)Irp, 0, 0, "IoCallDriver was given something that is no IRP");
    }
    if (DeviceObject == NULL || DeviceObject->DriverObject == NULL) {
        IopRefuse(0x4, (ULONG_PTR)DeviceObject, 0, 0,
                  "IoCallDriver was given something that is no device object");
    }
    const KIRQL Before = KeGetCurrentIrql();
    const NTSTATUS Status = IopDispatch(DeviceObject, Irp);
    const KIRQL After = KeGetCurrentIrql();
    if (Before != After) {
        IopRefuse(0x5, (ULONG_PTR)DeviceObject, Before, After,
                  "a dispatch routine returned at another IRQL than it was called at");
    }
    return Status;
}

NTSTATUS NTAPI IofCallDriver(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    if (MmVerifierLevel != 0) {
        return IopDispatchVerified(DeviceObject, Irp);
    }
    return IopDispatch(DeviceObject, Irp);
}

//
// The way up.
//

static inline BOOLEAN IopWantsCompletion(const IRP *Irp, const IO_STACK_LOCATION *Stack,
                                         UCHAR Control)
{
    const UCHAR Wanted =
        (NT_SUCCESS(Irp->IoStatus.Status) ? SL_INVOKE_ON_SUCCESS : SL_INVOKE_ON_ERROR) |
        (Irp->Cancel ? SL_INVOKE_ON_CANCEL : 0);
    return Stack->CompletionRoutine != NULL && (Control & Wanted) != 0;
}

// Leaves the current location: the device above owns the IRP now. FALSE: it keeps it.
static BOOLEAN IopUnwindLocation(PIRP Irp)
{
    PIO_STACK_LOCATION Left = Irp->Tail.Overlay.CurrentStackLocation++;
    Irp->CurrentLocation++;
    const BOOLEAN HasOwner = Irp->CurrentLocation <= Irp->StackCount;
    const UCHAR Control = Left->Control;
    Irp->PendingReturned = (Control & SL_PENDING_RETURNED) != 0;
    if (!IopWantsCompletion(Irp, Left, Control)) {
        // Nobody else will pass it on for a device that does not look.
        if (Irp->PendingReturned && HasOwner) {
            IoMarkIrpPending(Irp);
        }
        return TRUE;
    }
    PIO_COMPLETION_ROUTINE Routine = Left->CompletionRoutine;
    PVOID Context = Left->Context;
    // Whoever sends the IRP again without filling in the location anew has no routine in it.
    Left->Control = 0;
    Left->CompletionRoutine = NULL;
    PDEVICE_OBJECT Owner = HasOwner ? IoGetCurrentIrpStackLocation(Irp)->DeviceObject : NULL;
    return Routine(Owner, Irp, Context) != STATUS_MORE_PROCESSING_REQUIRED;
}

static VOID IopVerifyCompletion(const IRP *Irp)
{
    if (Irp->IoStatus.Status == STATUS_PENDING || Irp->IoStatus.Status == -1) {
        IopRefuse(0x6, (ULONG_PTR)Irp, (ULONG)Irp->IoStatus.Status, 0,
                  "an IRP was completed with STATUS_PENDING in its status block");
    }
    if (Irp->CancelRoutine != NULL) {
        IopRefuse(0x7, (ULONG_PTR)Irp->CancelRoutine, (ULONG_PTR)Irp, 0,
                  "an IRP was completed while its cancel routine was still set");
    }
    if (KeGetCurrentIrql() > DISPATCH_LEVEL) {
        IopRefuse(
            0xE, KeGetCurrentIrql(), (ULONG_PTR)Irp, 0,
            "an IRP was completed above DISPATCH_LEVEL: an interrupt routine leaves that to its "
            "DPC");
    }
}

VOID NTAPI IofCompleteRequest(PIRP Irp, CCHAR PriorityBoost)
{
    if (Irp->Type != IO_TYPE_IRP || Irp->CurrentLocation > Irp->StackCount) {
        KiBugCheckSaying(MULTIPLE_IRP_COMPLETE_REQUESTS, (ULONG_PTR)Irp, 0, 0, 0,
                         "an IRP was completed that had been completed before");
    }
    if (MmVerifierLevel != 0) {
        IopVerifyCompletion(Irp);
    }
    NT_ASSERT(Irp->IoStatus.Status != STATUS_PENDING);
    while (Irp->CurrentLocation <= Irp->StackCount) {
        if (!IopUnwindLocation(Irp)) {
            return;
        }
    }
    IopFinishIrp(Irp, PriorityBoost);
}

NTSTATUS IopCompleteIrp(PIRP Irp, NTSTATUS Status, ULONG_PTR Information)
{
    Irp->IoStatus.Status = Status;
    Irp->IoStatus.Information = Information;
    IofCompleteRequest(Irp, IO_NO_INCREMENT);
    return Status;
}

//
// A completion routine that keeps its driver's device.
//

typedef struct _IOP_COMPLETION {
    PDEVICE_OBJECT DeviceObject;
    PIO_COMPLETION_ROUTINE Routine;
    PVOID Context;
    UCHAR Control;
} IOP_COMPLETION, *PIOP_COMPLETION;

// It always runs, so that it can let go.
static NTSTATUS NTAPI IopCompleteAndRelease(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context)
{
    const IOP_COMPLETION Saved = *(PIOP_COMPLETION)Context;
    const IO_STACK_LOCATION Wanted = {.Control = Saved.Control, .CompletionRoutine = Saved.Routine};
    NTSTATUS Status = STATUS_CONTINUE_COMPLETION;
    ExFreePoolWithTag(Context, IOP_TAG);
    if (IopWantsCompletion(Irp, &Wanted, Wanted.Control)) {
        Status = Saved.Routine(DeviceObject, Irp, Saved.Context);
    } else if (Irp->PendingReturned && Irp->CurrentLocation <= Irp->StackCount) {
        IoMarkIrpPending(Irp);
    }
    ObDereferenceObject(Saved.DeviceObject);
    return Status;
}

NTSTATUS NTAPI IoSetCompletionRoutineEx(PDEVICE_OBJECT DeviceObject, PIRP Irp,
                                        PIO_COMPLETION_ROUTINE CompletionRoutine, PVOID Context,
                                        BOOLEAN InvokeOnSuccess, BOOLEAN InvokeOnError,
                                        BOOLEAN InvokeOnCancel)
{
    PIOP_COMPLETION Saved = ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(*Saved), IOP_TAG);
    if (Saved == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    ObReferenceObject(DeviceObject);
    *Saved = (IOP_COMPLETION){DeviceObject, CompletionRoutine, Context,
                              (UCHAR)((InvokeOnSuccess ? SL_INVOKE_ON_SUCCESS : 0) |
                                      (InvokeOnError ? SL_INVOKE_ON_ERROR : 0) |
                                      (InvokeOnCancel ? SL_INVOKE_ON_CANCEL : 0))};
    IoSetCompletionRoutine(Irp, IopCompleteAndRelease, Saved, TRUE, TRUE, TRUE);
    return STATUS_SUCCESS;
}
