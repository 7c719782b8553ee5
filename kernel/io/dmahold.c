// Map registers: who has them, who waits for them, and the channel of an adapter.
//
//   request ──▶ waiting ──▶ granted ──routine──▶ DeallocateObject               nothing is left
//                  │                             KeepObject                     channel and registers
//               cancelled                        DeallocateObjectKeepRegisters  registers
//
// Requests are served in order of arrival: nobody overtakes one that waits for registers, so that a large
// request is not starved by small ones. A request for a channel that somebody has is passed over by
// lists, which need no channel: else a driver that holds the channel could never get a list.
//
// Allocation comes first: once a request waits, it can no longer fail. One processor at a time serves
// the line of an adapter, and calls routines without a lock; what such a routine frees is seen by the
// loop that called it, so that the stack does not grow with the line.
#include "kernel/io/dma.h"

//
// Holds.
//

PIOP_DMA_HOLD IopAllocateHold(PIOP_DMA_ADAPTER Adapter, IOP_DMA_KIND Kind, ULONG RegisterCount,
                              SIZE_T ExtraBytes, PVOID Caller)
{
    const SIZE_T ByteCount =
        sizeof(IOP_DMA_HOLD) + (SIZE_T)RegisterCount * sizeof(IOP_DMA_REGISTER) + ExtraBytes;
    const PIOP_DMA_HOLD Hold = ExAllocatePool2(POOL_FLAG_NON_PAGED, ByteCount, IOP_DMA_TAG);
    if (Hold == NULL) {
        return NULL;
    }
    Hold->Signature = IOP_DMA_HOLD_SIGNATURE;
    Hold->Adapter = Adapter;
    Hold->Kind = Kind;
    Hold->Caller = Caller;
    Hold->Time = KeReadCycles();
    Hold->RegisterCount = RegisterCount;
    return Hold;
}

VOID IopFreeContext(PIOP_DMA_CONTEXT Context)
{
    Context->Hold = NULL;
    Context->IdleAdapter = Context->Adapter;
}

VOID IopFreeHold(PIOP_DMA_HOLD Hold)
{
    if (Hold->TransferContext != NULL) {
        IopFreeContext(Hold->TransferContext);
    }
    Hold->Signature = 0;
    ExFreePoolWithTag(Hold, IOP_DMA_TAG);
}

PIOP_DMA_HOLD IopFindHold(PIOP_DMA_ADAPTER Adapter, PVOID MapRegisterBase, ULONG Code,
                          PCSTR Routine, PVOID Caller)
{
    const PIOP_DMA_HOLD Wanted = MapRegisterBase;
    BOOLEAN IsFound;
    if (IopIsVerifyingDma()) {
        IsFound = FALSE;
        const KIRQL OldIrql = KiAcquireLock(&Adapter->Lock);
        for (PLIST_ENTRY Link = Adapter->Holds.Flink; Link != &Adapter->Holds; Link = Link->Flink) {
            IsFound |= CONTAINING_RECORD(Link, IOP_DMA_HOLD, Link) == Wanted;
        }
        KiReleaseLock(&Adapter->Lock, OldIrql);
    } else {
        IsFound = Wanted != NULL && Wanted->Signature == IOP_DMA_HOLD_SIGNATURE &&
                  Wanted->Adapter == Adapter;
    }
    if (!IsFound || Wanted->Kind == IopDmaList) {
        IopStopDma(Code, (ULONG_PTR)MapRegisterBase, (ULONG_PTR)Adapter, 0, Caller,
                   "%s: 0x%p is no map register base of the adapter at 0x%p (never was, or it was "
                   "freed already)",
                   Routine, MapRegisterBase, Adapter);
    }
    return Wanted;
}

BOOLEAN IopClaimContext(PIOP_DMA_HOLD Hold, PVOID Context)
{
    const PIOP_DMA_CONTEXT Claimed = Context;
    if (Claimed == NULL || Claimed->Signature != IOP_DMA_CONTEXT_SIGNATURE ||
        Claimed->Adapter != Hold->Adapter) {
        return FALSE;
    }
    const KIRQL OldIrql = KiAcquireLock(&Hold->Adapter->Lock);
    const BOOLEAN IsFree = Claimed->IdleAdapter != NULL;
    if (IsFree) {
        Claimed->IdleAdapter = NULL;
        Claimed->Hold = Hold;
        Hold->TransferContext = Claimed;
    }
    KiReleaseLock(&Hold->Adapter->Lock, OldIrql);
    return IsFree;
}

//
// Granting. The adapter's lock is held.
//

// Finds registers side by side; *First is theirs. FALSE: there are not so many free.
static BOOLEAN IopFindRegisters(const IOP_DMA_ADAPTER *Adapter, ULONG Count, PULONG First)
{
    *First = 0;
    if (Count > Adapter->FreeCount) {
        return FALSE;
    }
    if (Adapter->Block == NULL || Count == 0) {
        return TRUE;
    }
    const ULONG64 Start = RtlFindClearRun(&Adapter->Bits, Count, 1, 0, 0);
    *First = (ULONG)Start;
    return Start != RTL_NO_BIT;
}

// The first in line that can be served.
static PIOP_DMA_HOLD IopNextToServe(PIOP_DMA_ADAPTER Adapter)
{
    for (PLIST_ENTRY Link = Adapter->Waiting.Flink; Link != &Adapter->Waiting; Link = Link->Flink) {
        const PIOP_DMA_HOLD Hold = CONTAINING_RECORD(Link, IOP_DMA_HOLD, Link);
        if (Hold->Kind == IopDmaChannel && Adapter->Channel != NULL) {
            continue;
        }
        return IopFindRegisters(Adapter, Hold->RegisterCount, &Hold->FirstRegister) ? Hold : NULL;
    }
    return NULL;
}

static VOID IopGrant(PIOP_DMA_HOLD Hold)
{
    const PIOP_DMA_ADAPTER Adapter = Hold->Adapter;
    RemoveEntryList(&Hold->Link);
    InsertTailList(&Adapter->Holds, &Hold->Link);
    Hold->IsWaiting = FALSE;
    Adapter->WaitingCount -= 1;
    Adapter->HoldCounts[Hold->Kind] += 1;
    Adapter->FreeCount -= Hold->RegisterCount;
    if (Adapter->Block != NULL && Hold->RegisterCount != 0) {
        RtlSetBits(&Adapter->Bits, Hold->FirstRegister, Hold->RegisterCount);
    }
    if (Hold->Kind == IopDmaChannel) {
        Adapter->Channel = Hold;
        Adapter->ChannelNumber += 1;
    }
}

static VOID IopLeaveLine(PIOP_DMA_HOLD Hold)
{
    RemoveEntryList(&Hold->Link);
    Hold->IsWaiting = FALSE;
    Hold->Adapter->WaitingCount -= 1;
}

PIOP_DMA_HOLD IopTakeOutOfLine(PIOP_DMA_ADAPTER Adapter, PIOP_DMA_CONTEXT Context)
{
    PIOP_DMA_HOLD Hold = NULL;
    const KIRQL OldIrql = KiAcquireLock(&Adapter->Lock);
    if (Context->Signature == IOP_DMA_CONTEXT_SIGNATURE && Context->Adapter == Adapter &&
        Context->Hold != NULL && Context->Hold->IsWaiting) {
        Hold = Context->Hold;
        IopLeaveLine(Hold);
    }
    KiReleaseLock(&Adapter->Lock, OldIrql);
    return Hold;
}

// Nobody may have written to a register while it was free.
static VOID IopVerifyFreeRegisters(const IOP_DMA_HOLD *Hold)
{
    const IOP_DMA_ADAPTER *Adapter = Hold->Adapter;
    if (IopIsVerifyingDma() && Adapter->Block != NULL) {
        IopCheckPadding(Adapter->Registers + ((SIZE_T)Hold->FirstRegister << PAGE_SHIFT),
                        (SIZE_T)Hold->RegisterCount << PAGE_SHIFT, IopDmaFreeRegister,
                        Hold->Caller);
    }
}

BOOLEAN IopRequestHold(PIOP_DMA_HOLD Hold, BOOLEAN CanWait)
{
    const PIOP_DMA_ADAPTER Adapter = Hold->Adapter;
    const KIRQL OldIrql = KiAcquireLock(&Adapter->Lock);
    InsertTailList(&Adapter->Waiting, &Hold->Link);
    Hold->IsWaiting = TRUE;
    Adapter->WaitingCount += 1;
    const BOOLEAN IsTaken = IopNextToServe(Adapter) == Hold;
    if (IsTaken) {
        IopGrant(Hold);
    } else if (!CanWait) {
        IopLeaveLine(Hold);
    }
    KiReleaseLock(&Adapter->Lock, OldIrql);
    if (IsTaken) {
        IopVerifyFreeRegisters(Hold);
    }
    return IsTaken;
}

VOID IopServeLine(PIOP_DMA_ADAPTER Adapter)
{
    KIRQL OldIrql = KiAcquireLock(&Adapter->Lock);
    if (Adapter->IsDraining) {
        KiReleaseLock(&Adapter->Lock, OldIrql);
        return;
    }
    Adapter->IsDraining = TRUE;
    for (PIOP_DMA_HOLD Hold = IopNextToServe(Adapter); Hold != NULL;
         Hold = IopNextToServe(Adapter)) {
        IopGrant(Hold);
        KiReleaseLock(&Adapter->Lock, OldIrql);
        IopVerifyFreeRegisters(Hold);
        IopRunHold(Hold);
        OldIrql = KiAcquireLock(&Adapter->Lock);
    }
    Adapter->IsDraining = FALSE;
    KiReleaseLock(&Adapter->Lock, OldIrql);
}

//
// Giving back.
//

static VOID IopEndHold(PIOP_DMA_HOLD Hold, BOOLEAN IsLost)
{
    const PIOP_DMA_ADAPTER Adapter = Hold->Adapter;
    IopReferenceAdapter(Adapter);
    const KIRQL OldIrql = KiAcquireLock(&Adapter->Lock);
    RemoveEntryList(&Hold->Link);
    Adapter->HoldCounts[Hold->Kind] -= 1;
    if (IsLost) {
        Adapter->LostCount += Hold->RegisterCount;
    } else {
        Adapter->FreeCount += Hold->RegisterCount;
    }
    if (!IsLost && Adapter->Block != NULL && Hold->RegisterCount != 0) {
        RtlClearBits(&Adapter->Bits, Hold->FirstRegister, Hold->RegisterCount);
    }
    if (Adapter->Channel == Hold) {
        Adapter->Channel = NULL;
    }
    if (Hold->TransferContext != NULL) {
        IopFreeContext(Hold->TransferContext);
        Hold->TransferContext = NULL;
    }
    KiReleaseLock(&Adapter->Lock, OldIrql);
    IopFreeHold(Hold);
    IopServeLine(Adapter);
    IopDereferenceAdapter(Adapter);
}

VOID IopReleaseHold(PIOP_DMA_HOLD Hold)
{
    IopForgetMapped(Hold);
    IopEndHold(Hold, FALSE);
}

VOID IopLoseHold(PIOP_DMA_HOLD Hold)
{
    IopEndHold(Hold, Hold->Adapter->Block != NULL);
}

VOID IopRunHold(PIOP_DMA_HOLD Hold)
{
    const PIOP_DMA_ADAPTER Adapter = Hold->Adapter;
    const KIRQL OldIrql = KeGetCurrentIrql();
    if (OldIrql < DISPATCH_LEVEL) {
        (VOID) KeRaiseIrqlToDpcLevel();
    }
    IopReferenceAdapter(Adapter);
    if (Hold->Kind == IopDmaList) {
        IopRunList(Hold);
    } else {
        IopRunChannel(Hold);
    }
    IopDereferenceAdapter(Adapter);
    if (OldIrql < DISPATCH_LEVEL) {
        KeLowerIrql(OldIrql);
    }
}
