// One processor alone: the others stand still while a routine runs here.
//
//   caller    KiRunAlone: Word taken ─▶ a DPC to each other ─▶ Missing is 0 ─▶ Routine ─▶ Held is 0
//   others                              KiStandDpc: out of Missing; stands while it is in Held
//
// What stops a processor is a DPC, not an interrupt: an interrupt also stops who holds a spin lock, and the
// routine would wait for that lock for ever. Where a DPC runs, nobody on this processor holds one.
// Interrupts stay on meanwhile, there and here: broadcasts are answered, and the clock goes on. Threads
// and DPCs run nowhere, but for the caller.
//
// Invariants:
//   AL1 There is one round at a time: that of the processor which holds Word. Who waits for his turn
//       stands in the rounds of others as if the DPC ran there.
//   AL2 A processor that is in Held, and no longer in Missing, does nothing before it is out of Held. It
//       may still be on its way out of the round before when the next one begins: so who stands takes
//       itself out of Missing again and again.
//   AL3 Every wait ends: for a turn because each round is bounded, for the others by the deadline, and
//       theirs with the round. A round that was given up leaves DPCs behind that find nothing to do.
// Memory order: Held and Missing are written with release, Held first; a processor takes itself out with
// release, and the caller reads with acquire: what it did before is seen by the routine. Held is cleared
// with release and read with acquire: what the routine did is seen by all.
#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"

#define KI_NO_OWNER (-1)

static struct {
    KSPIN_LOCK Word;
    volatile LONG Owner; // the number of the processor that has Word
    volatile KAFFINITY Held;
    volatile KAFFINITY Missing;
    KDPC Dpcs[KE_MAXIMUM_PROCESSORS];
} KiAlone = {.Owner = KI_NO_OWNER};

static VOID KiStand(VOID)
{
    const KAFFINITY Self = (KAFFINITY)1 << KeArchGetPcr()->Number;
    while ((__atomic_load_n(&KiAlone.Held, __ATOMIC_ACQUIRE) & Self) != 0) {
        if ((__atomic_load_n(&KiAlone.Missing, __ATOMIC_RELAXED) & Self) != 0) {
            __atomic_fetch_and(&KiAlone.Missing, ~Self, __ATOMIC_RELEASE);
        }
        KeArchPause();
    }
}

static VOID NTAPI KiStandDpc(PKDPC Dpc, PVOID DeferredContext, PVOID SystemArgument1,
                             PVOID SystemArgument2)
{
    UNREFERENCED_PARAMETER(Dpc);
    UNREFERENCED_PARAMETER(DeferredContext);
    UNREFERENCED_PARAMETER(SystemArgument1);
    UNREFERENCED_PARAMETER(SystemArgument2);
    KiStand();
}

// AL1. At DISPATCH_LEVEL, where the DPC that another sends here cannot run.
static VOID KiAwaitTurn(VOID)
{
    while (__atomic_exchange_n(&KiAlone.Word, 1, __ATOMIC_ACQUIRE) != 0) {
        KiStand();
        KeArchPause();
    }
    __atomic_store_n(&KiAlone.Owner, (LONG)KeArchGetPcr()->Number, __ATOMIC_RELAXED);
}

static VOID KiEndTurn(VOID)
{
    __atomic_store_n(&KiAlone.Owner, KI_NO_OWNER, __ATOMIC_RELAXED);
    __atomic_store_n(&KiAlone.Held, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&KiAlone.Word, 0, __ATOMIC_RELEASE);
}

static VOID KiCallToStand(ULONG Number)
{
    const PKDPC Dpc = &KiAlone.Dpcs[Number];
    if (Dpc->DeferredRoutine == NULL) {
        KeInitializeDpc(Dpc, KiStandDpc, NULL);
        KeSetImportanceDpc(Dpc, HighImportance);
        KeSetTargetProcessorDpc(Dpc, (CCHAR)Number);
    }
    (VOID) KeInsertQueueDpc(Dpc, NULL, NULL); // one of a round that was given up serves as well
}

// FALSE: somebody has not come in time.
static BOOLEAN KiHoldOthers(ULONG Milliseconds)
{
    const KAFFINITY Others = KeQueryActiveProcessors() & ~((KAFFINITY)1 << KeArchGetPcr()->Number);
    const ULONG64 Start = KeReadCycles();
    const ULONG64 Limit = KeGetCyclesPerSecond() / 1000 * Milliseconds;
    __atomic_store_n(&KiAlone.Held, Others, __ATOMIC_RELEASE);
    __atomic_store_n(&KiAlone.Missing, Others, __ATOMIC_RELEASE);
    for (KAFFINITY Left = Others; Left != 0; Left &= Left - 1) {
        KiCallToStand((ULONG)__builtin_ctzll(Left));
    }
    while (__atomic_load_n(&KiAlone.Missing, __ATOMIC_ACQUIRE) != 0) {
        if (KeReadCycles() - Start > Limit) {
            return FALSE;
        }
        KeArchPause();
    }
    return TRUE;
}

BOOLEAN KiRunAlone(KI_ALONE_ROUTINE *Routine, PVOID Context, ULONG Milliseconds)
{
    const KIRQL OldIrql = KeArchReadIrql();
    NT_ASSERT(OldIrql <= DISPATCH_LEVEL);
    KeArchWriteIrql(DISPATCH_LEVEL);
    if (__atomic_load_n(&KiAlone.Owner, __ATOMIC_RELAXED) == (LONG)KeArchGetPcr()->Number) {
        Routine(Context); // from within such a routine: they stand already
        return TRUE;
    }
    NT_ASSERT_INVARIANT("AL3", KeArchGetPcr()->HeldRanks == 0);
    KiAwaitTurn();
    const BOOLEAN IsAlone = KiHoldOthers(Milliseconds);
    if (IsAlone) {
        Routine(Context);
    }
    KiEndTurn();
    KeArchWriteIrql(OldIrql);
    return IsAlone;
}
