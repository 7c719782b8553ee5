// The operations of an adapter's channel: allocated, mapped piece by piece, flushed, freed.
#include "kernel/io/dma.h"

//
// Allocation.
//

// A second request for the device while one is outstanding.
static VOID IopVerifyOneChannel(PIOP_DMA_ADAPTER Adapter, PDEVICE_OBJECT DeviceObject, PVOID Caller)
{
    ULONG Count = 0;
    const KIRQL OldIrql = KiAcquireLock(&Adapter->Lock);
    for (PLIST_ENTRY Link = Adapter->Waiting.Flink; Link != &Adapter->Waiting; Link = Link->Flink) {
        const IOP_DMA_HOLD *Hold = CONTAINING_RECORD(Link, IOP_DMA_HOLD, Link);
        Count += Hold->Kind == IopDmaChannel && Hold->DeviceObject == DeviceObject ? 1 : 0;
    }
    Count += Adapter->Channel != NULL && Adapter->Channel->DeviceObject == DeviceObject ? 1 : 0;
    KiReleaseLock(&Adapter->Lock, OldIrql);
    if (Count != 0) {
        IopStopDma(0x0B, (ULONG64)Count + 1, (ULONG_PTR)DeviceObject, (ULONG_PTR)Adapter, Caller,
                   "AllocateAdapterChannel: the device at 0x%p has a channel already, or waits for "
                   "one",
                   DeviceObject);
    }
}

static VOID IopVerifyRegisterCount(const IOP_DMA_ADAPTER *Adapter, ULONG Count, PCSTR Routine,
                                   PVOID Caller)
{
    if (IopIsVerifyingDma() && Count > Adapter->RegisterCount) {
        IopStopDma(0x0C, Count, Adapter->RegisterCount, (ULONG_PTR)Adapter, Caller,
                   "%s: %u map registers are wanted, IoGetDmaAdapter granted %u", Routine, Count,
                   Adapter->RegisterCount);
    }
}

NTSTATUS NTAPI IopAllocateAdapterChannel(PDMA_ADAPTER DmaAdapter, PDEVICE_OBJECT DeviceObject,
                                         ULONG NumberOfMapRegisters,
                                         PDRIVER_CONTROL ExecutionRoutine, PVOID Context)
{
    PVOID const Caller = __builtin_return_address(0);
    const PIOP_DMA_ADAPTER Adapter = IopEnterDma(DmaAdapter, IopDmaAllocateChannel, Caller);
    IopVerifyRegisterCount(Adapter, NumberOfMapRegisters, "AllocateAdapterChannel", Caller);
    if (IopIsVerifyingDma()) {
        IopVerifyOneChannel(Adapter, DeviceObject, Caller);
    }
    if (NumberOfMapRegisters > Adapter->RegisterCount) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    const PIOP_DMA_HOLD Hold =
        IopAllocateHold(Adapter, IopDmaChannel, NumberOfMapRegisters, 0, Caller);
    if (Hold == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    Hold->DeviceObject = DeviceObject;
    Hold->ControlRoutine = ExecutionRoutine;
    Hold->RoutineContext = Context;
    if (IopRequestHold(Hold, TRUE)) {
        IopRunHold(Hold);
    }
    return STATUS_SUCCESS;
}

// The combinations of contract 9.5.
static BOOLEAN IopIsChannelRequestLegal(ULONG Flags, PDRIVER_CONTROL Routine, PVOID *Base)
{
    if ((Flags & ~(ULONG)DMA_SYNCHRONOUS_CALLBACK) != 0) {
        return FALSE;
    }
    return (Flags & DMA_SYNCHRONOUS_CALLBACK) != 0 ? Routine != NULL || Base != NULL
                                                   : Routine != NULL && Base == NULL;
}

NTSTATUS NTAPI IopAllocateAdapterChannelEx(PDMA_ADAPTER DmaAdapter, PDEVICE_OBJECT DeviceObject,
                                           PVOID DmaTransferContext, ULONG NumberOfMapRegisters,
                                           ULONG Flags, PDRIVER_CONTROL ExecutionRoutine,
                                           PVOID ExecutionContext, PVOID *MapRegisterBase)
{
    PVOID const Caller = __builtin_return_address(0);
    const PIOP_DMA_ADAPTER Adapter = IopEnterDma(DmaAdapter, IopDmaAllocateChannelEx, Caller);
    IopVerifyRegisterCount(Adapter, NumberOfMapRegisters, "AllocateAdapterChannelEx", Caller);
    if (!IopIsChannelRequestLegal(Flags, ExecutionRoutine, MapRegisterBase)) {
        return STATUS_INVALID_PARAMETER;
    }
    if (NumberOfMapRegisters > Adapter->RegisterCount) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    const PIOP_DMA_HOLD Hold =
        IopAllocateHold(Adapter, IopDmaChannel, NumberOfMapRegisters, 0, Caller);
    if (Hold == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    if (!IopClaimContext(Hold, DmaTransferContext)) {
        IopFreeHold(Hold);
        return STATUS_INVALID_PARAMETER;
    }
    Hold->DeviceObject = DeviceObject;
    Hold->ControlRoutine = ExecutionRoutine;
    Hold->RoutineContext = ExecutionContext;
    const BOOLEAN CanWait = (Flags & DMA_SYNCHRONOUS_CALLBACK) == 0;
    if (IopRequestHold(Hold, CanWait)) {
        if (MapRegisterBase != NULL) {
            *MapRegisterBase = Hold;
        }
        IopRunHold(Hold);
    } else if (!CanWait) {
        IopFreeHold(Hold);
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI IopInitializeDmaTransferContext(PDMA_ADAPTER DmaAdapter, PVOID DmaTransferContext)
{
    const PIOP_DMA_ADAPTER Adapter =
        IopEnterDma(DmaAdapter, IopDmaInitializeContext, __builtin_return_address(0));
    const PIOP_DMA_CONTEXT Context = DmaTransferContext;
    *Context = (IOP_DMA_CONTEXT){IOP_DMA_CONTEXT_SIGNATURE, Adapter, NULL, Adapter};
    return STATUS_SUCCESS;
}

//
// The end.
//

// What is still mapped when registers are freed was never flushed.
static VOID IopVerifyFlushed(const IOP_DMA_HOLD *Hold, ULONG Code, PCSTR Routine, PVOID Caller)
{
    const ULONG64 ByteCount = IopMappedByteCount(Hold);
    if (IopIsVerifyingDma() && ByteCount != 0) {
        IopStopDma(Code, ByteCount, (ULONG64)Hold->RegisterCount << PAGE_SHIFT, (ULONG_PTR)Hold,
                   Caller, "%s: %llu bytes are still mapped, and were not flushed", Routine,
                   ByteCount);
    }
}

// The channel becomes free; its registers stay with the driver. The driver may have freed them
// meanwhile, and a later request may have the channel: then Number is an old one.
static VOID IopLeaveChannel(PIOP_DMA_ADAPTER Adapter, ULONG64 Number)
{
    const KIRQL OldIrql = KiAcquireLock(&Adapter->Lock);
    const PIOP_DMA_HOLD Hold = Adapter->Channel;
    if (Hold != NULL && Adapter->ChannelNumber == Number) {
        Adapter->Channel = NULL;
        Adapter->HoldCounts[IopDmaChannel] -= 1;
        Adapter->HoldCounts[IopDmaRegisters] += 1;
        Hold->Kind = IopDmaRegisters;
    }
    KiReleaseLock(&Adapter->Lock, OldIrql);
    IopServeLine(Adapter);
}

// Frees channel and registers. There must be one, of that number.
static VOID IopFreeChannel(PIOP_DMA_ADAPTER Adapter, ULONG64 Number, PCSTR Routine, PVOID Caller)
{
    const PIOP_DMA_HOLD Hold = Adapter->Channel;
    if (Hold == NULL || Adapter->ChannelNumber != Number) {
        if (IopIsVerifyingDma()) {
            IopStopDma(0x04, (ULONG_PTR)Adapter, Adapter->ChannelNumber, 0, Caller,
                       "%s: the adapter at 0x%p has no channel to free", Routine, Adapter);
        }
        return;
    }
    IopVerifyFlushed(Hold, 0x0D, Routine, Caller);
    IopReleaseHold(Hold);
}

// What is to become of the channel: as a driver's routine says, or FreeAdapterObject.
static VOID IopEndChannel(PIOP_DMA_ADAPTER Adapter, ULONG64 Number, IO_ALLOCATION_ACTION Action,
                          PCSTR Routine, PVOID Caller)
{
    switch (Action) {
    case KeepObject:
        break;
    case DeallocateObjectKeepRegisters:
        IopLeaveChannel(Adapter, Number);
        break;
    case DeallocateObject:
        IopFreeChannel(Adapter, Number, Routine, Caller);
        break;
    }
}

VOID IopRunChannel(PIOP_DMA_HOLD Hold)
{
    const PIOP_DMA_ADAPTER Adapter = Hold->Adapter;
    const PDRIVER_CONTROL Routine = Hold->ControlRoutine;
    const PDEVICE_OBJECT DeviceObject = Hold->DeviceObject;
    const ULONG64 Number = Adapter->ChannelNumber;
    if (Routine == NULL) {
        return;
    }
    const IO_ALLOCATION_ACTION Action =
        Routine(DeviceObject, DeviceObject->CurrentIrp, Hold, Hold->RoutineContext);
    // From here on the hold may be gone: the driver frees it when its device says so.
    IopEndChannel(Adapter, Number, Action, "the routine of AllocateAdapterChannel",
                  (PVOID)(ULONG_PTR)Routine);
}

VOID NTAPI IopFreeAdapterChannel(PDMA_ADAPTER DmaAdapter)
{
    PVOID const Caller = __builtin_return_address(0);
    const PIOP_DMA_ADAPTER Adapter = IopEnterDma(DmaAdapter, IopDmaFreeChannel, Caller);
    IopFreeChannel(Adapter, Adapter->ChannelNumber, "FreeAdapterChannel", Caller);
}

VOID NTAPI IopFreeAdapterObject(PDMA_ADAPTER DmaAdapter, IO_ALLOCATION_ACTION AllocationAction)
{
    PVOID const Caller = __builtin_return_address(0);
    const PIOP_DMA_ADAPTER Adapter = IopEnterDma(DmaAdapter, IopDmaFreeObject, Caller);
    IopEndChannel(Adapter, Adapter->ChannelNumber, AllocationAction, "FreeAdapterObject", Caller);
}

VOID NTAPI IopFreeMapRegisters(PDMA_ADAPTER DmaAdapter, PVOID MapRegisterBase,
                               ULONG NumberOfMapRegisters)
{
    PVOID const Caller = __builtin_return_address(0);
    const PIOP_DMA_ADAPTER Adapter = IopEnterDma(DmaAdapter, IopDmaFreeRegisters, Caller);
    const PIOP_DMA_HOLD Hold =
        IopFindHold(Adapter, MapRegisterBase, 0x05, "FreeMapRegisters", Caller);
    if (IopIsVerifyingDma() && NumberOfMapRegisters != Hold->RegisterCount) {
        IopStopDma(0x05, (ULONG_PTR)MapRegisterBase, NumberOfMapRegisters, Hold->RegisterCount,
                   Caller, "FreeMapRegisters: %u registers are freed, but %u were allocated",
                   NumberOfMapRegisters, Hold->RegisterCount);
    }
    IopVerifyFlushed(Hold, 0x10, "FreeMapRegisters", Caller);
    IopReleaseHold(Hold);
}

BOOLEAN NTAPI IopCancelAdapterChannel(PDMA_ADAPTER DmaAdapter, PDEVICE_OBJECT DeviceObject,
                                      PVOID DmaTransferContext)
{
    const PIOP_DMA_ADAPTER Adapter =
        IopEnterDma(DmaAdapter, IopDmaCancelChannel, __builtin_return_address(0));
    const PIOP_DMA_CONTEXT Context = DmaTransferContext;
    UNREFERENCED_PARAMETER(DeviceObject);
    const PIOP_DMA_HOLD Hold = IopTakeOutOfLine(Adapter, Context);
    if (Hold == NULL) {
        return FALSE;
    }
    IopFreeHold(Hold);
    IopServeLine(Adapter);
    return TRUE;
}

//
// Transfers.
//

#define IOP_ONE_ELEMENT_BYTES (sizeof(SCATTER_GATHER_LIST) + sizeof(SCATTER_GATHER_ELEMENT))

// Where CurrentVa, an index into the MDL, lies in it. Beyond any MDL when it is before the MDL.
static ULONG64 IopOffsetOfVa(PMDL Mdl, PVOID CurrentVa)
{
    return (ULONG64)CurrentVa - (ULONG64)MmGetMdlVirtualAddress(Mdl);
}

static VOID IopVerifyNotMapped(const IOP_DMA_HOLD *Hold, const IOP_DMA_SPAN *Span, PVOID CurrentVa,
                               PVOID Caller)
{
    for (ULONG Index = 0; Index < Hold->UsedCount; Index += 1) {
        const IOP_DMA_REGISTER *Register = &Hold->Registers[Index];
        if (Register->Mdl == Span->Mdl && Register->Offset < Span->Offset + Span->ByteCount &&
            Span->Offset < Register->Offset + Register->ByteCount) {
            const ULONG64 Va = (ULONG64)MmGetMdlVirtualAddress(Span->Mdl) + Register->Offset;
            IopStopDma(0x1D, Va, Va + Register->ByteCount, (ULONG_PTR)CurrentVa, Caller,
                       "MapTransfer: 0x%p of the MDL at 0x%p is mapped already", CurrentVa,
                       Span->Mdl);
        }
    }
}

// The rules of a piece that is to be mapped.
static VOID IopVerifyMap(const IOP_DMA_HOLD *Hold, const IOP_DMA_SPAN *Span, PVOID CurrentVa,
                         PVOID Caller)
{
    IopVerifySpan(Span, 0x1B, (ULONG64)CurrentVa, "MapTransfer", Caller);
    IopVerifyNotMapped(Hold, Span, CurrentVa, Caller);
    if (Hold->UsedCount == Hold->RegisterCount) {
        IopStopDma(0x00, 2, IopCountPages(Span), 0, Caller,
                   "MapTransfer: all %u map registers are in use; flush first",
                   Hold->RegisterCount);
    }
}

PHYSICAL_ADDRESS NTAPI IopMapTransfer(PDMA_ADAPTER DmaAdapter, PMDL Mdl, PVOID MapRegisterBase,
                                      PVOID CurrentVa, PULONG Length, BOOLEAN WriteToDevice)
{
    PVOID const Caller = __builtin_return_address(0);
    const PIOP_DMA_ADAPTER Adapter = IopEnterDma(DmaAdapter, IopDmaMap, Caller);
    const PIOP_DMA_HOLD Hold = IopFindHold(Adapter, MapRegisterBase, 0x23, "MapTransfer", Caller);
    const IOP_DMA_SPAN Span = {Mdl, IopOffsetOfVa(Mdl, CurrentVa), *Length, WriteToDevice, FALSE};
    DECLSPEC_ALIGN(8) UCHAR Memory[IOP_ONE_ELEMENT_BYTES] = {0};
    const PSCATTER_GATHER_LIST List = (PSCATTER_GATHER_LIST)Memory;
    if (IopIsVerifyingDma()) {
        IopVerifyMap(Hold, &Span, CurrentVa, Caller);
    }
    const ULONG64 ChainBytes = IopChainByteCount(Mdl);
    *Length = 0;
    if (Span.Offset <= ChainBytes && Span.ByteCount <= ChainBytes - Span.Offset &&
        NT_SUCCESS(IopCheckReach(Adapter, &Span, TRUE))) {
        *Length = IopMapSpan(Hold, &Span, List, 1);
    }
    return List->Elements[0].Address;
}

static VOID IopVerifyMapEx(const IOP_DMA_HOLD *Hold, const IOP_DMA_SPAN *Span, PVOID Caller)
{
    if (Hold->IsExMapped) {
        IopStopDma(0x0D, IopMappedByteCount(Hold), (ULONG64)Hold->RegisterCount << PAGE_SHIFT,
                   (ULONG_PTR)Hold, Caller, "MapTransferEx: what it mapped before was not flushed");
    }
    IopVerifySpan(Span, 0x24, Span->Offset, "MapTransferEx", Caller);
}

static ULONG IopElementsIn(ULONG ByteCount)
{
    return ByteCount < sizeof(SCATTER_GATHER_LIST)
               ? 0
               : (ULONG)((ByteCount - sizeof(SCATTER_GATHER_LIST)) /
                         sizeof(SCATTER_GATHER_ELEMENT));
}

NTSTATUS NTAPI IopMapTransferEx(PDMA_ADAPTER DmaAdapter, PMDL Mdl, PVOID MapRegisterBase,
                                ULONGLONG Offset, ULONG DeviceOffset, PULONG Length,
                                BOOLEAN WriteToDevice, PSCATTER_GATHER_LIST ScatterGatherBuffer,
                                ULONG ScatterGatherBufferLength,
                                PDMA_COMPLETION_ROUTINE DmaCompletionRoutine,
                                PVOID CompletionContext)
{
    PVOID const Caller = __builtin_return_address(0);
    const PIOP_DMA_ADAPTER Adapter = IopEnterDma(DmaAdapter, IopDmaMapEx, Caller);
    const PIOP_DMA_HOLD Hold = IopFindHold(Adapter, MapRegisterBase, 0x23, "MapTransferEx", Caller);
    const IOP_DMA_SPAN Span = {Mdl, Offset, *Length, WriteToDevice, FALSE};
    UNREFERENCED_PARAMETER(CompletionContext);
    if (IopIsVerifyingDma()) {
        IopVerifyMapEx(Hold, &Span, Caller);
    }
    const ULONG64 ChainBytes = IopChainByteCount(Mdl);
    const ULONG MaximumElements = IopElementsIn(ScatterGatherBufferLength);
    if (ScatterGatherBuffer == NULL || MaximumElements == 0 || DeviceOffset != 0 ||
        DmaCompletionRoutine != NULL || Offset > ChainBytes || *Length > ChainBytes - Offset) {
        return STATUS_INVALID_PARAMETER;
    }
    IopForgetMapped(Hold);
    const NTSTATUS Status = IopCheckReach(Adapter, &Span, TRUE);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    *Length = IopMapSpan(Hold, &Span, ScatterGatherBuffer, MaximumElements);
    if (*Length == 0 && Span.ByteCount != 0) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    Hold->IsExMapped = TRUE;
    return STATUS_SUCCESS;
}

// The rules of a flush, before anything is done.
static VOID IopVerifyFlush(const IOP_DMA_HOLD *Hold, const IOP_DMA_SPAN *Span, PCSTR Routine,
                           PVOID Caller)
{
    const ULONG64 ChainBytes = IopChainByteCount(Span->Mdl);
    const ULONG64 LeftBytes = Span->Offset <= ChainBytes ? ChainBytes - Span->Offset : 0;
    if (Span->ByteCount > LeftBytes) {
        IopStopDma(0x00, 1, LeftBytes, Span->ByteCount, Caller,
                   "%s: %u bytes are flushed, but %llu are left in the MDL at 0x%p", Routine,
                   Span->ByteCount, LeftBytes, Span->Mdl);
    }
    for (ULONG Index = 0; Index < Hold->UsedCount; Index += 1) {
        if (Hold->Registers[Index].Mdl != NULL &&
            (Hold->Registers[Index].Mdl != Span->Mdl ||
             Hold->Registers[Index].WriteToDevice != Span->WriteToDevice)) {
            IopStopDma(0x20, (ULONG_PTR)Hold, (ULONG_PTR)Span->Mdl, Span->WriteToDevice, Caller,
                       "%s: the registers at 0x%p map the MDL at 0x%p, %s the device", Routine,
                       Hold, Hold->Registers[Index].Mdl,
                       Hold->Registers[Index].WriteToDevice ? "to" : "from");
        }
    }
}

static VOID IopFlush(PIOP_DMA_HOLD Hold, const IOP_DMA_SPAN *Span, PCSTR Routine, PVOID Caller)
{
    if (IopIsVerifyingDma()) {
        IopVerifyFlush(Hold, Span, Routine, Caller);
    }
    const ULONG PageCount = IopFlushSpan(Hold, Span, Caller);
    if (IopIsVerifyingDma() && PageCount == 0 && Span->ByteCount != 0) {
        IopStopDma(0x16, (ULONG_PTR)Hold, (ULONG_PTR)Span->Mdl, Span->Offset, Caller,
                   "%s: nothing of this is mapped by the registers at 0x%p", Routine, Hold);
    }
    Hold->IsExMapped = FALSE;
}

BOOLEAN NTAPI IopFlushAdapterBuffers(PDMA_ADAPTER DmaAdapter, PMDL Mdl, PVOID MapRegisterBase,
                                     PVOID CurrentVa, ULONG Length, BOOLEAN WriteToDevice)
{
    PVOID const Caller = __builtin_return_address(0);
    const PIOP_DMA_ADAPTER Adapter = IopEnterDma(DmaAdapter, IopDmaFlush, Caller);
    const PIOP_DMA_HOLD Hold =
        IopFindHold(Adapter, MapRegisterBase, 0x23, "FlushAdapterBuffers", Caller);
    const IOP_DMA_SPAN Span = {Mdl, IopOffsetOfVa(Mdl, CurrentVa), Length, WriteToDevice, FALSE};
    IopFlush(Hold, &Span, "FlushAdapterBuffers", Caller);
    return TRUE;
}

NTSTATUS NTAPI IopFlushAdapterBuffersEx(PDMA_ADAPTER DmaAdapter, PMDL Mdl, PVOID MapRegisterBase,
                                        ULONGLONG Offset, ULONG Length, BOOLEAN WriteToDevice)
{
    PVOID const Caller = __builtin_return_address(0);
    const PIOP_DMA_ADAPTER Adapter = IopEnterDma(DmaAdapter, IopDmaFlushEx, Caller);
    const PIOP_DMA_HOLD Hold =
        IopFindHold(Adapter, MapRegisterBase, 0x23, "FlushAdapterBuffersEx", Caller);
    const IOP_DMA_SPAN Span = {Mdl, Offset, Length, WriteToDevice, FALSE};
    IopFlush(Hold, &Span, "FlushAdapterBuffersEx", Caller);
    return STATUS_SUCCESS;
}
