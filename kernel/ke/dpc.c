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

VOID NTAPI KeSetTargetProcessorDpc(PRKDPC Dpc, CCHAR Number)
{
    Dpc->Number = (USHORT)((UCHAR)Number + 1);
}

// The processor whose queue a DPC goes to: the one that it was told, or the one that queues it.
static PKPCR KiTargetOfDpc(const KDPC *Dpc)
{
    const ULONG Number = Dpc->Number - 1u;
    return Number < (ULONG)KeNumberProcessors ? KeArchGetPcrOf(Number) : KeArchGetPcr();
}

// Whether a DPC may not wait for the clock. The lock is held.
static BOOLEAN KiIsUrgent(const KPCR *Pcr, const KDPC *Dpc)
{
    return Dpc->Importance != LowImportance || Pcr->CurrentThread == Pcr->IdleThread;
}

static VOID KiRequestDpcs(const KPCR *Pcr)
{
    if (Pcr == KeArchGetPcr()) {
        KeArchRequestDispatchInterrupt();
    } else {
        KeArchRequestDispatchInterruptOn(Pcr->Number);
    }
}

BOOLEAN NTAPI KeInsertQueueDpc(PRKDPC Dpc, PVOID SystemArgument1, PVOID SystemArgument2)
{
    const PKPCR Pcr = KiTargetOfDpc(Dpc);
    const KIRQL OldIrql = KiLockDpcs(Pcr);
    PVOID Nowhere = NULL;
    // Others may queue it elsewhere at the same time.
    if (!__atomic_compare_exchange_n(&Dpc->DpcData, &Nowhere, Pcr, FALSE, __ATOMIC_ACQUIRE,
                                     __ATOMIC_RELAXED)) {
        KiUnlockDpcs(Pcr, OldIrql);
        return FALSE;
    }
    Dpc->SystemArgument1 = SystemArgument1;
    Dpc->SystemArgument2 = SystemArgument2;
    if (Dpc->Importance == HighImportance) {
        InsertHeadList(&Pcr->DpcList, &Dpc->DpcListEntry);
    } else {
        InsertTailList(&Pcr->DpcList, &Dpc->DpcListEntry);
    }
    if (!Pcr->DpcRequested && !Pcr->DpcRunning && KiIsUrgent(Pcr, Dpc)) {
        Pcr->DpcRequested = TRUE;
        KiRequestDpcs(Pcr);
    }
    KiUnlockDpcs(Pcr, OldIrql);
    return TRUE;
}

BOOLEAN NTAPI KeRemoveQueueDpc(PRKDPC Dpc)
{
    // Meanwhile it may have run, and have been queued elsewhere.
    for (PKPCR Pcr = Dpc->DpcData; Pcr != NULL; Pcr = Dpc->DpcData) {
        const KIRQL OldIrql = KiLockDpcs(Pcr);
        const BOOLEAN IsThere = Dpc->DpcData == Pcr;
        if (IsThere) {
            RemoveEntryList(&Dpc->DpcListEntry);
            __atomic_store_n(&Dpc->DpcData, NULL, __ATOMIC_RELEASE);
        }
        KiUnlockDpcs(Pcr, OldIrql);
        if (IsThere) {
            return TRUE;
        }
    }
    return FALSE;
}

VOID KiEnumerateDpcs(KI_DPC_ROUTINE *Routine, PVOID Context)
{
    for (ULONG Number = 0; Number < (ULONG)KeNumberProcessors; Number += 1) {
        const PKPCR Pcr = KeArchGetPcrOf(Number);
        const KIRQL OldIrql = KiLockDpcs(Pcr);
        for (PLIST_ENTRY Entry = Pcr->DpcList.Flink; Entry != &Pcr->DpcList; Entry = Entry->Flink) {
            Routine(CONTAINING_RECORD(Entry, KDPC, DpcListEntry), Context);
        }
        KiUnlockDpcs(Pcr, OldIrql);
    }
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
        __atomic_store_n(&(*Dpc)->DpcData, NULL, __ATOMIC_RELEASE);
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
static VOID KiFlushOwnDpcs(VOID)
{
    while (!IsListEmpty(&KeArchGetPcr()->DpcList)) {
        KeArchRequestDispatchInterrupt();
        KeArchPause();
    }
}

// A thread that gets to run on a processor knows that what was queued there before has run.
VOID NTAPI KeFlushQueuedDpcs(VOID)
{
    NT_ASSERT(KeArchReadIrql() == PASSIVE_LEVEL);
    if (KeNumberProcessors == 1) {
        KiFlushOwnDpcs();
        return;
    }
    const KAFFINITY Affinity = KeArchGetCurrentThread()->Affinity;
    for (ULONG Number = 0; Number < (ULONG)KeNumberProcessors; Number += 1) {
        KiSetCurrentAffinity((KAFFINITY)1 << Number);
        KiFlushOwnDpcs();
    }
    KiSetCurrentAffinity(Affinity);
}
