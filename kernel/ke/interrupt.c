// Interrupts of devices: from the vector to the routines that are connected to it.
//
//   source (line, message) ──▶ vector ──▶ KINTERRUPT ──▶ KINTERRUPT ──▶ ...
//
// A level-sensitive vector calls all its routines once: whoever is not satisfied interrupts again. An
// edge is gone once it was taken, so a latched vector calls them until none has anything to do.
//
// Invariants:
//   IV1 A vector's list changes only under its lock, which is held while its routines run: nothing
//       is called that is not connected, and a disconnect waits for the end of the call.
//   IV2 A source is unmasked while its vector has an active routine, and is not quenched; else it is
//       masked.
//   IV3 A routine runs at its SynchronizeIrql with its ActualLock held, and returns at that IRQL.
//
// Storms. A level that stays asserted comes again for ever, and nothing else would run; a device may
// also send messages that nobody wants. A vector storms when KI_STORM_LIMIT interrupts in a row were
// claimed by no routine. A level storms, too, when that many were claimed but came without one
// instruction of the interrupted code in between, nor a DPC: whoever claimed them has not quieted the
// device. The vector is quenched then: its source is masked for a pause, and the console is told whose
// it is. The pauses grow from KI_SHORTEST_PAUSE to KI_LONGEST_PAUSE while it goes on; two interrupts in
// a row as they should be make them short again. A source that cannot be masked is only told of, once
// in a pause.
//
// Lock: each vector's own, at the vector's IRQL; then an interrupt's ActualLock, at its
// SynchronizeIrql.
#include "kernel/inc/interrupt.h"
#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "kernel/inc/kelockinline.h"
#include "kernel/inc/rtl.h"

#define KI_DEVICE_VECTOR_COUNT (KE_LAST_DEVICE_VECTOR - KE_FIRST_DEVICE_VECTOR + 1)
#define KI_DEVICE_CLASS_COUNT (KE_MAXIMUM_DEVICE_IRQL - KE_MINIMUM_DEVICE_IRQL + 1)
#define KI_STORM_LIMIT 5000u
#define KI_SHORTEST_PAUSE 10u // milliseconds
#define KI_LONGEST_PAUSE 10240u
#define KI_LATCHED_PASSES 16u // of a shared edge: more is a storm, and comes to KI_STORM_LIMIT

typedef struct _KI_VECTOR {
    KSPIN_LOCK Lock;
    const KI_INTERRUPT_SOURCE *Source;
    LIST_ENTRY Interrupts;
    ULONG UnclaimedInARow;
    ULONG StuckInARow; // a level, claimed, and nothing else has run meanwhile
    BOOLEAN WasGood;   // the last one was neither
    ULONG PauseMilliseconds;
    KDPC StormDpc; // tells, and sets the timer
    KTIMER PauseTimer;
    KDPC PauseDpc; // ends the pause
    KI_VECTOR_COUNTS Counts;
} KI_VECTOR, *PKI_VECTOR;

static KI_VECTOR KiVectors[KI_DEVICE_VECTOR_COUNT];
static KDEFERRED_ROUTINE KiStormDpc;
static KDEFERRED_ROUTINE KiPauseDpc;

// Bit n: vector n of the class is taken. Changed with interrupts off.
static USHORT KiReservedVectors[KI_DEVICE_CLASS_COUNT];
C_ASSERT(sizeof(KiReservedVectors[0]) * 8 == KE_VECTORS_PER_IRQL);
static KSPIN_LOCK KiReserveLock;

//
// Vectors.
//

static BOOLEAN KiIsDeviceVector(ULONG Vector)
{
    return Vector >= KE_FIRST_DEVICE_VECTOR && Vector <= KE_LAST_DEVICE_VECTOR;
}

static PKI_VECTOR KiFindVector(ULONG Vector)
{
    NT_ASSERT(KiIsDeviceVector(Vector));
    return &KiVectors[Vector - KE_FIRST_DEVICE_VECTOR];
}

typedef struct _KI_CLASS_RANGE {
    ULONG First;
    ULONG Count;
} KI_CLASS_RANGE;

// The lowest IRQLs are the lines', whose routines, shared as they are, take longest.
static const KI_CLASS_RANGE KiClassRanges[] = {
    [KiVectorsForLines] = {0, 2},
    [KiVectorsForMessages] = {2, KI_DEVICE_CLASS_COUNT - 2},
};

// The first free place for Count vectors in a class, or KE_VECTORS_PER_IRQL.
static ULONG KiFindFreeVectors(ULONG Class, ULONG Count)
{
    const ULONG Mask = (1u << Count) - 1;
    ULONG First = 0;
    while (First < KE_VECTORS_PER_IRQL && (KiReservedVectors[Class] & Mask << First) != 0) {
        First += Count;
    }
    return First;
}

// The least used class that has the room, so that devices have IRQLs of their own while they can.
static ULONG KiFindClass(KI_VECTOR_USE Use, ULONG Count)
{
    const ULONG End = KiClassRanges[Use].First + KiClassRanges[Use].Count;
    ULONG Best = KI_DEVICE_CLASS_COUNT;
    for (ULONG Class = KiClassRanges[Use].First; Class < End; Class += 1) {
        if (KiFindFreeVectors(Class, Count) < KE_VECTORS_PER_IRQL &&
            (Best == KI_DEVICE_CLASS_COUNT || __builtin_popcount(KiReservedVectors[Class]) <
                                                  __builtin_popcount(KiReservedVectors[Best]))) {
            Best = Class;
        }
    }
    return Best;
}

ULONG KiReserveVectors(KI_VECTOR_USE Use, ULONG Count)
{
    NT_ASSERT(Count > 0 && Count <= KE_VECTORS_PER_IRQL && (Count & (Count - 1)) == 0);
    ULONG Vector = 0;
    const KIRQL OldIrql = KeAcquireSpinLockRaiseToDpc(&KiReserveLock);
    const ULONG Class = KiFindClass(Use, Count);
    if (Class < KI_DEVICE_CLASS_COUNT) {
        const ULONG First = KiFindFreeVectors(Class, Count);
        KiReservedVectors[Class] |= (USHORT)(((1u << Count) - 1) << First);
        Vector = KE_FIRST_DEVICE_VECTOR + Class * KE_VECTORS_PER_IRQL + First;
    }
    KeReleaseSpinLock(&KiReserveLock, OldIrql);
    return Vector;
}

VOID KiSetVectorSource(ULONG Vector, const KI_INTERRUPT_SOURCE *Source)
{
    const PKI_VECTOR Record = KiFindVector(Vector);
    NT_ASSERT(Record->Source == NULL);
    InitializeListHead(&Record->Interrupts);
    KeInitializeDpc(&Record->StormDpc, KiStormDpc, Record);
    KeInitializeDpc(&Record->PauseDpc, KiPauseDpc, Record);
    KeInitializeTimer(&Record->PauseTimer);
    Record->PauseMilliseconds = KI_SHORTEST_PAUSE;
    Record->Source = Source;
}

const KI_INTERRUPT_SOURCE *KiGetVectorSource(ULONG Vector)
{
    return KiIsDeviceVector(Vector) ? KiFindVector(Vector)->Source : NULL;
}

// Holds the vector's interrupts back, here by the IRQL and elsewhere by the lock.
static KIRQL KiLockVector(PKI_VECTOR Record, ULONG Vector)
{
    const KIRQL OldIrql = KfRaiseIrql(KiIrqlOfVector(Vector));
    KiSpin(&Record->Lock);
    return OldIrql;
}

static VOID KiUnlockVector(PKI_VECTOR Record, KIRQL OldIrql)
{
    KeReleaseSpinLockFromDpcLevel(&Record->Lock);
    KeLowerIrql(OldIrql);
}

VOID KiQueryVector(ULONG Vector, PKI_VECTOR_COUNTS Counts)
{
    const PKI_VECTOR Record = KiFindVector(Vector);
    const KIRQL OldIrql = KiLockVector(Record, Vector);
    *Counts = Record->Counts;
    KiUnlockVector(Record, OldIrql);
}

//
// Masks (IV2).
//

static BOOLEAN KiIsWanted(const KI_VECTOR *Record)
{
    for (const LIST_ENTRY *Link = Record->Interrupts.Flink; Link != &Record->Interrupts;
         Link = Link->Flink) {
        if (CONTAINING_RECORD(Link, KINTERRUPT, Link)->IsActive) {
            return TRUE;
        }
    }
    return FALSE;
}

static VOID KiUpdateMask(const KI_VECTOR *Record)
{
    if (Record->Source->SetMasked != NULL) {
        Record->Source->SetMasked(Record->Source, !KiIsWanted(Record) || Record->Counts.IsQuenched);
    }
}

//
// Storms.
//

// What a report says of the interrupts. At DISPATCH_LEVEL the list may change meanwhile, so the names
// are copied under the lock.
typedef struct _KI_STORM_REPORT {
    CHAR Owners[4 * KI_INTERRUPT_OWNER_BYTES];
    BOOLEAN IsClaimed;
    ULONG PauseMilliseconds;
} KI_STORM_REPORT, *PKI_STORM_REPORT;

static VOID KiNameOwners(const KI_VECTOR *Record, PCHAR Buffer, SIZE_T ByteCount)
{
    SIZE_T Used =
        RtlFormatBuffer(Buffer, ByteCount, "%s", IsListEmpty(&Record->Interrupts) ? "nobody" : "");
    for (const LIST_ENTRY *Link = Record->Interrupts.Flink;
         Link != &Record->Interrupts && Used < ByteCount; Link = Link->Flink) {
        Used += RtlFormatBuffer(Buffer + Used, ByteCount - Used, "%s%s", Used > 0 ? ", " : "",
                                CONTAINING_RECORD(Link, KINTERRUPT, Link)->Owner);
    }
}

static ULONG KiNumberOfVector(const KI_VECTOR *Record)
{
    return (ULONG)(Record - KiVectors) + KE_FIRST_DEVICE_VECTOR;
}

static VOID KiPrintStorm(const KI_VECTOR *Record, const KI_STORM_REPORT *Report)
{
    DbgPrint(
        "interrupts: %s %u storms: its last %u interrupts (vector 0x%x) were %s %s; %s for %u ms\n",
        Record->Source->Mode == LevelSensitive ? "line" : "message", Record->Source->Number,
        KI_STORM_LIMIT, KiNumberOfVector(Record),
        Report->IsClaimed ? "all claimed, but not quieted, by" : "not claimed by", Report->Owners,
        Record->Source->SetMasked != NULL ? "masked" : "it cannot be masked; ignored",
        Report->PauseMilliseconds);
}

static VOID NTAPI KiStormDpc(PKDPC Dpc, PVOID Context, PVOID IsClaimed, PVOID SystemArgument2)
{
    const PKI_VECTOR Record = Context;
    UNREFERENCED_PARAMETER(Dpc);
    UNREFERENCED_PARAMETER(SystemArgument2);
    KI_STORM_REPORT Report = {.IsClaimed = IsClaimed != NULL};
    const KIRQL OldIrql = KiLockVector(Record, KiNumberOfVector(Record));
    KiNameOwners(Record, Report.Owners, sizeof(Report.Owners));
    Report.PauseMilliseconds = Record->PauseMilliseconds;
    if (Record->PauseMilliseconds < KI_LONGEST_PAUSE) {
        Record->PauseMilliseconds *= 2;
    }
    KiUnlockVector(Record, OldIrql);
    KiPrintStorm(Record, &Report);
    const LARGE_INTEGER DueTime = {.QuadPart = -(LONGLONG)Report.PauseMilliseconds * 10000};
    KeSetTimer(&Record->PauseTimer, DueTime, &Record->PauseDpc);
}

static VOID NTAPI KiPauseDpc(PKDPC Dpc, PVOID Context, PVOID SystemArgument1, PVOID SystemArgument2)
{
    const PKI_VECTOR Record = Context;
    UNREFERENCED_PARAMETER(Dpc);
    UNREFERENCED_PARAMETER(SystemArgument1);
    UNREFERENCED_PARAMETER(SystemArgument2);
    const KIRQL OldIrql = KiLockVector(Record, KiNumberOfVector(Record));
    Record->Counts.IsQuenched = FALSE;
    KiUpdateMask(Record);
    KiUnlockVector(Record, OldIrql);
}

static VOID KiQuench(PKI_VECTOR Record, BOOLEAN IsClaimed)
{
    Record->Counts.StormCount += 1;
    Record->Counts.IsQuenched = TRUE;
    Record->UnclaimedInARow = 0;
    Record->StuckInARow = 0;
    KiUpdateMask(Record);
    KeInsertQueueDpc(&Record->StormDpc, (PVOID)(ULONG_PTR)IsClaimed, NULL);
}

// Takes note of an interrupt, and of a storm at its end.
static VOID KiCountInterrupt(PKI_VECTOR Record, BOOLEAN IsClaimed, BOOLEAN IsStuck)
{
    const BOOLEAN IsGood = IsClaimed && !IsStuck;
    const BOOLEAN IsStuckLevel = IsClaimed && IsStuck && Record->Source->Mode == LevelSensitive;
    Record->Counts.InterruptCount += 1;
    Record->Counts.Processors |= (KAFFINITY)1 << KeArchGetPcr()->Number;
    Record->Counts.UnclaimedCount += IsClaimed ? 0 : 1;
    Record->UnclaimedInARow = IsClaimed ? 0 : Record->UnclaimedInARow + 1;
    Record->StuckInARow = IsStuckLevel ? Record->StuckInARow + 1 : 0;
    if (IsGood && Record->WasGood) {
        Record->PauseMilliseconds = KI_SHORTEST_PAUSE;
    }
    Record->WasGood = IsGood;
    if (!Record->Counts.IsQuenched &&
        (Record->UnclaimedInARow >= KI_STORM_LIMIT || Record->StuckInARow >= KI_STORM_LIMIT)) {
        KiQuench(Record, IsClaimed);
    }
}

//
// Calls.
//

static VOID KiRequireIrqlAfterRoutine(const KINTERRUPT *Interrupt)
{
    const KIRQL Irql = KeArchReadIrql();
    if (Irql != Interrupt->SynchronizeIrql) {
        KiBugCheckSaying(IRQL_UNEXPECTED_VALUE, Irql, Interrupt->SynchronizeIrql,
                         (ULONG_PTR)Interrupt->ServiceRoutine, 0,
                         "the interrupt routine of %s returned at IRQL %u; it was called at %u",
                         Interrupt->Owner, Irql, Interrupt->SynchronizeIrql);
    }
}

static BOOLEAN KiCallRoutine(PKINTERRUPT Interrupt)
{
    BOOLEAN IsClaimed;
    const KIRQL Irql = KeArchReadIrql();
    KeArchWriteIrql(Interrupt->SynchronizeIrql);
    KiSpin(Interrupt->ActualLock);
    if (Interrupt->MessageServiceRoutine != NULL) {
        IsClaimed = Interrupt->MessageServiceRoutine(Interrupt, Interrupt->ServiceContext,
                                                     Interrupt->MessageId);
    } else {
        IsClaimed = Interrupt->ServiceRoutine(Interrupt, Interrupt->ServiceContext);
    }
    KiRequireIrqlAfterRoutine(Interrupt);
    KeReleaseSpinLockFromDpcLevel(Interrupt->ActualLock);
    KeArchWriteIrql(Irql);
    Interrupt->ClaimedCount += IsClaimed ? 1 : 0;
    return IsClaimed;
}

static BOOLEAN KiCallRoutines(PKI_VECTOR Record)
{
    BOOLEAN IsClaimed = FALSE;
    for (PLIST_ENTRY Link = Record->Interrupts.Flink; Link != &Record->Interrupts;
         Link = Link->Flink) {
        const PKINTERRUPT Interrupt = CONTAINING_RECORD(Link, KINTERRUPT, Link);
        IsClaimed |= Interrupt->IsActive && KiCallRoutine(Interrupt);
    }
    return IsClaimed;
}

static BOOLEAN KiIsShared(const KI_VECTOR *Record)
{
    return Record->Interrupts.Flink != Record->Interrupts.Blink;
}

// Calls all routines; those of a shared edge until none has anything to do.
static BOOLEAN KiServeVector(PKI_VECTOR Record)
{
    const BOOLEAN IsClaimed = KiCallRoutines(Record);
    if (IsClaimed && Record->Source->Mode == Latched && KiIsShared(Record)) {
        for (ULONG Pass = 1; Pass < KI_LATCHED_PASSES && KiCallRoutines(Record); Pass += 1) {
        }
    }
    return IsClaimed;
}

VOID KiDeviceInterrupt(ULONG Vector, BOOLEAN IsStuck)
{
    const PKI_VECTOR Record = KiFindVector(Vector);
    if (Record->Source == NULL) {
        KeArchGetPcr()->SpuriousInterrupts += 1;
        return;
    }
    KiSpin(&Record->Lock);
    KiCountInterrupt(Record, KiServeVector(Record), IsStuck);
    KeReleaseSpinLockFromDpcLevel(&Record->Lock);
}

//
// Connections.
//

static BOOLEAN KiMayConnect(const KI_VECTOR *Record, const KINTERRUPT *Interrupt)
{
    if (Record->Source->Mode != Interrupt->Mode) {
        return FALSE;
    }
    // All that are connected share, or there is only one of them.
    return IsListEmpty(&Record->Interrupts) ||
           (Interrupt->IsShared &&
            CONTAINING_RECORD(Record->Interrupts.Flink, KINTERRUPT, Link)->IsShared);
}

NTSTATUS KiConnectInterrupt(PKINTERRUPT Interrupt)
{
    if (KiGetVectorSource(Interrupt->Vector) == NULL) {
        return STATUS_INVALID_PARAMETER;
    }
    NT_ASSERT_INVARIANT("IV3", Interrupt->SynchronizeIrql >= KiIrqlOfVector(Interrupt->Vector));
    const PKI_VECTOR Record = KiFindVector(Interrupt->Vector);
    NTSTATUS Status = STATUS_INVALID_PARAMETER;
    const KIRQL OldIrql = KiLockVector(Record, Interrupt->Vector);
    if (KiMayConnect(Record, Interrupt)) {
        Interrupt->Type = KI_INTERRUPT_OBJECT;
        Interrupt->Size = sizeof(*Interrupt);
        Interrupt->IsActive = TRUE;
        if (Interrupt->ActualLock == NULL) {
            Interrupt->ActualLock = &Interrupt->SpinLock;
        }
        InsertTailList(&Record->Interrupts, &Interrupt->Link);
        KiUpdateMask(Record);
        Status = STATUS_SUCCESS;
    }
    KiUnlockVector(Record, OldIrql);
    return Status;
}

static VOID KiCheckInterrupt(const KINTERRUPT *Interrupt)
{
    NT_ASSERT(Interrupt->Type == KI_INTERRUPT_OBJECT);
}

VOID KiDisconnectInterrupt(PKINTERRUPT Interrupt)
{
    KiCheckInterrupt(Interrupt);
    const PKI_VECTOR Record = KiFindVector(Interrupt->Vector);
    const KIRQL OldIrql = KiLockVector(Record, Interrupt->Vector);
    RemoveEntryList(&Interrupt->Link);
    Interrupt->Type = 0;
    if (IsListEmpty(&Record->Interrupts)) {
        // Whoever comes next is not to pay for this one.
        Record->Counts.IsQuenched = FALSE;
        Record->PauseMilliseconds = KI_SHORTEST_PAUSE;
        Record->UnclaimedInARow = 0;
        Record->StuckInARow = 0;
    }
    KiUpdateMask(Record);
    KiUnlockVector(Record, OldIrql);
}

VOID KiSetInterruptActive(PKINTERRUPT Interrupt, BOOLEAN IsActive)
{
    KiCheckInterrupt(Interrupt);
    const PKI_VECTOR Record = KiFindVector(Interrupt->Vector);
    const KIRQL OldIrql = KiLockVector(Record, Interrupt->Vector);
    Interrupt->IsActive = IsActive;
    KiUpdateMask(Record);
    KiUnlockVector(Record, OldIrql);
}

//
// Synchronisation.
//

KIRQL NTAPI KeAcquireInterruptSpinLock(PKINTERRUPT Interrupt)
{
    KiCheckInterrupt(Interrupt);
    const KIRQL OldIrql = KfRaiseIrql(Interrupt->SynchronizeIrql);
    KiSpin(Interrupt->ActualLock);
    return OldIrql;
}

VOID NTAPI KeReleaseInterruptSpinLock(PKINTERRUPT Interrupt, KIRQL OldIrql)
{
    KeReleaseSpinLockFromDpcLevel(Interrupt->ActualLock);
    KeLowerIrql(OldIrql);
}

BOOLEAN NTAPI KeSynchronizeExecution(PKINTERRUPT Interrupt,
                                     PKSYNCHRONIZE_ROUTINE SynchronizeRoutine,
                                     PVOID SynchronizeContext)
{
    const KIRQL OldIrql = KeAcquireInterruptSpinLock(Interrupt);
    const BOOLEAN Result = SynchronizeRoutine(SynchronizeContext);
    KeReleaseInterruptSpinLock(Interrupt, OldIrql);
    return Result;
}

VOID KiEnumerateInterrupts(KI_INTERRUPT_ROUTINE *Routine, PVOID Context)
{
    for (ULONG Index = 0; Index < KI_DEVICE_VECTOR_COUNT; Index += 1) {
        const PKI_VECTOR Record = &KiVectors[Index];
        // The lists of vectors that nothing was ever connected to were never made.
        if (Record->Source == NULL || Record->Interrupts.Flink == NULL) {
            continue;
        }
        const KIRQL OldIrql = KiLockVector(Record, Index + KE_FIRST_DEVICE_VECTOR);
        for (PLIST_ENTRY Link = Record->Interrupts.Flink; Link != &Record->Interrupts;
             Link = Link->Flink) {
            Routine(CONTAINING_RECORD(Link, KINTERRUPT, Link), Context);
        }
        KiUnlockVector(Record, OldIrql);
    }
}
