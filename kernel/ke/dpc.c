// DPCs: the queue of routines that a processor runs at DISPATCH_LEVEL, before it goes below.
//
// The first one into the queue asks for the dispatch interrupt, which the task priority holds back
// until the IRQL is below DISPATCH_LEVEL, whoever lowers it and however. Only that interrupt runs DPCs,
// so what a DPC raises never reaches the handlers of the thread that it interrupted.
//
// Invariants:
//   D1  KDPC.DpcData is not NULL exactly while the DPC is in a queue; it points to the queue's processor.
//   D2  While a queue is not empty, the dispatch interrupt is requested, or KiRetireDpcs is at work; but
//       for DPCs of low importance, which may wait for the clock.
// Lock: KPCR.DpcLock, taken at HIGH_LEVEL, because a DPC may be queued at any IRQL.
#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "kernel/inc/kelockinline.h"
#include "kernel/inc/ps.h"

static KIRQL KiLockDpcs(PKPCR Pcr)
{
    const KIRQL OldIrql = KeArchReadIrql();
    KeArchWriteIrql(HIGH_LEVEL);
    KiSpin(&Pcr->DpcLock);
    return OldIrql;
}

static VOID KiUnlockDpcs(PKPCR Pcr, KIRQL OldIrql)
{
    __atomic_store_n(&Pcr->DpcLock, 0, __ATOMIC_RELEASE);
    KeArchWriteIrql(OldIrql);
}

static VOID KiFillDpc(PKDPC Dpc, KI_OBJECT Type, PKDEFERRED_ROUTINE Routine, PVOID Context)
{
    *Dpc = (KDPC){.Type = (UCHAR)Type,
                  .Importance = MediumImportance,
                  .DeferredRoutine = Routine,
                  .DeferredContext = Context};
}

VOID NTAPI KeInitializeDpc(PRKDPC Dpc, PKDEFERRED_ROUTINE DeferredRoutine, PVOID DeferredContext)
{
    KiFillDpc(Dpc, KiDpcObject, DeferredRoutine, DeferredContext);
}

VOID NTAPI KeInitializeThreadedDpc(PRKDPC Dpc, PKDEFERRED_ROUTINE DeferredRoutine,
                                   PVOID DeferredContext)
{
    KiFillDpc(Dpc, KiThreadedDpcObject, DeferredRoutine, DeferredContext);
}

VOID NTAPI KeSetImportanceDpc(PRKDPC Dpc, KDPC_IMPORTANCE Importance)
{
    Dpc->Importance = (UCHAR)Importance;
}

// There is one processor yet.
VOID NTAPI KeSetTargetProcessorDpc(PRKDPC Dpc, CCHAR Number)
{
    Dpc->Number = (USHORT)(UCHAR)Number;
}

// Whether a DPC may not wait for the clock. The lock is held.
static BOOLEAN KiIsUrgent(const KPCR *Pcr, const KDPC *Dpc)
{
    return Dpc->Importance != LowImportance || Pcr->CurrentThread == Pcr->IdleThread;
}

BOOLEAN NTAPI KeInsertQueueDpc(PRKDPC Dpc, PVOID SystemArgument1, PVOID SystemArgument2)
{
    const PKPCR Pcr = KeArchGetPcr();
    const KIRQL OldIrql = KiLockDpcs(Pcr);
    if (Dpc->DpcData != NULL) {
        KiUnlockDpcs(Pcr, OldIrql);
        return FALSE;
    }
    Dpc->DpcData = Pcr;
    Dpc->SystemArgument1 = SystemArgument1;
    Dpc->SystemArgument2 = SystemArgument2;
    if (Dpc->Importance == HighImportance) {
        InsertHeadList(&Pcr->DpcList, &Dpc->DpcListEntry);
    } else {
        InsertTailList(&Pcr->DpcList, &Dpc->DpcListEntry);
    }
    if (!Pcr->DpcRequested && !Pcr->DpcRunning && KiIsUrgent(Pcr, Dpc)) {
        Pcr->DpcRequested = TRUE;
        KeArchRequestDispatchInterrupt();
    }
    KiUnlockDpcs(Pcr, OldIrql);
    return TRUE;
}

BOOLEAN NTAPI KeRemoveQueueDpc(PRKDPC Dpc)
{
    const PKPCR Pcr = KeArchGetPcr();
    const KIRQL OldIrql = KiLockDpcs(Pcr);
    const BOOLEAN WasQueued = Dpc->DpcData != NULL;
    if (WasQueued) {
        RemoveEntryList(&Dpc->DpcListEntry);
        Dpc->DpcData = NULL;
    }
    KiUnlockDpcs(Pcr, OldIrql);
    return WasQueued;
}

VOID KiEnumerateDpcs(KI_DPC_ROUTINE *Routine, PVOID Context)
{
    const PKPCR Pcr = KeArchGetPcr();
    const KIRQL OldIrql = KiLockDpcs(Pcr);
    for (PLIST_ENTRY Entry = Pcr->DpcList.Flink; Entry != &Pcr->DpcList; Entry = Entry->Flink) {
        Routine(CONTAINING_RECORD(Entry, KDPC, DpcListEntry), Context);
    }
    KiUnlockDpcs(Pcr, OldIrql);
}

// The next DPC goes to *Copy: its own record is free again before its routine runs. FALSE: none is
// left, and the next one must ask for the interrupt again.
static BOOLEAN KiTakeDpc(PKPCR Pcr, PKDPC *Dpc, PKDPC Copy)
{
    const KIRQL OldIrql = KiLockDpcs(Pcr);
    const BOOLEAN IsEmpty = IsListEmpty(&Pcr->DpcList);
    if (!IsEmpty) {
        *Dpc = CONTAINING_RECORD(RemoveHeadList(&Pcr->DpcList), KDPC, DpcListEntry);
        *Copy = **Dpc;
        (*Dpc)->DpcData = NULL;
        Pcr->DpcCount += 1;
    }
    Pcr->DpcRunning = !IsEmpty;
    Pcr->DpcRequested = FALSE;
    KiUnlockDpcs(Pcr, OldIrql);
    return !IsEmpty;
}

static VOID KiRequireIrqlAfterDpc(const KDPC *Dpc)
{
    if (KeArchReadIrql() != DISPATCH_LEVEL) {
        KiBugCheckSaying(IRQL_UNEXPECTED_VALUE, KeArchReadIrql(), DISPATCH_LEVEL,
                         (ULONG_PTR)Dpc->DeferredRoutine, 0,
                         "the DPC routine at 0x%p returned at IRQL %u instead of DISPATCH_LEVEL",
                         Dpc->DeferredRoutine, KeArchReadIrql());
    }
}

VOID KiRetireDpcs(VOID)
{
    const PKPCR Pcr = KeArchGetPcr();
    PKDPC Dpc;
    KDPC Copy;
    if (Pcr->TimersDue) {
        Pcr->TimersDue = FALSE;
        KiExpireTimers();
    }
    while (KiTakeDpc(Pcr, &Dpc, &Copy)) {
        Copy.DeferredRoutine(Dpc, Copy.DeferredContext, Copy.SystemArgument1, Copy.SystemArgument2);
        KiRequireIrqlAfterDpc(&Copy);
    }
}

// Below DISPATCH_LEVEL whatever was asked for has run; what is left is of low importance.
VOID NTAPI KeFlushQueuedDpcs(VOID)
{
    NT_ASSERT(KeArchReadIrql() == PASSIVE_LEVEL);
    const PKPCR Pcr = KeArchGetPcr();
    while (!IsListEmpty(&Pcr->DpcList)) {
        KeArchRequestDispatchInterrupt();
        KeArchPause();
    }
}
