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
// Storms. A level that no routine claims comes again for ever, and nothing else would run; a device
// may also send messages that nobody wants. A vector with KI_STORM_LIMIT interrupts in a row that no
// routine claims is quenched: its source is masked, and the console is told whose it is.
//
// Lock: each vector's own, at the vector's IRQL; then an interrupt's ActualLock, at its
// SynchronizeIrql.
#include "kernel/inc/interrupt.h"
#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "kernel/inc/kelockinline.h"

#define KI_DEVICE_VECTOR_COUNT (KE_LAST_DEVICE_VECTOR - KE_FIRST_DEVICE_VECTOR + 1)
#define KI_DEVICE_CLASS_COUNT (KE_MAXIMUM_DEVICE_IRQL - KE_MINIMUM_DEVICE_IRQL + 1)
#define KI_STORM_LIMIT 10000u
#define KI_LATCHED_PASSES 16u // of a shared edge: more is a storm, and comes to KI_STORM_LIMIT

typedef struct _KI_VECTOR {
    KSPIN_LOCK Lock;
    const KI_INTERRUPT_SOURCE *Source;
    LIST_ENTRY Interrupts;
    ULONG UnclaimedInARow;
    KI_VECTOR_COUNTS Counts;
} KI_VECTOR, *PKI_VECTOR;

static KI_VECTOR KiVectors[KI_DEVICE_VECTOR_COUNT];

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

static VOID KiPrintOwners(const KI_VECTOR *Record)
{
    PCSTR Separator = "";
    for (const LIST_ENTRY *Link = Record->Interrupts.Flink; Link != &Record->Interrupts;
         Link = Link->Flink) {
        DbgPrint("%s%s", Separator, CONTAINING_RECORD(Link, KINTERRUPT, Link)->Owner);
        Separator = ", ";
    }
}

static VOID KiQuench(PKI_VECTOR Record, ULONG Vector)
{
    Record->Counts.StormCount += 1;
    Record->Counts.IsQuenched = TRUE;
    Record->UnclaimedInARow = 0;
    KiUpdateMask(Record);
    DbgPrint("interrupts: %s %u storms: none of ",
             Record->Source->Mode == LevelSensitive ? "line" : "message", Record->Source->Number);
    KiPrintOwners(Record);
    DbgPrint(" has claimed its last %u interrupts (vector 0x%x); %s\n", KI_STORM_LIMIT, Vector,
             Record->Source->SetMasked != NULL ? "it is masked" : "it cannot be masked");
}

static VOID KiCountUnclaimed(PKI_VECTOR Record, ULONG Vector)
{
    Record->Counts.UnclaimedCount += 1;
    Record->UnclaimedInARow += 1;
    if (Record->UnclaimedInARow >= KI_STORM_LIMIT) {
        KiQuench(Record, Vector);
    }
}

//
// Calls.
//

static VOID KiCheckReturn(const KINTERRUPT *Interrupt)
{
    const KIRQL Irql = KeArchReadIrql();
    if (Irql != Interrupt->SynchronizeIrql) {
        KiBugCheckSaying(IRQL_NOT_LESS_OR_EQUAL, (ULONG_PTR)Interrupt, Irql, 0,
                         (ULONG_PTR)Interrupt->ServiceRoutine,
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
    KiCheckReturn(Interrupt);
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

VOID KiDeviceInterrupt(ULONG Vector)
{
    const PKI_VECTOR Record = KiFindVector(Vector);
    if (Record->Source == NULL) {
        KeArchGetPcr()->SpuriousInterrupts += 1;
        return;
    }
    KiSpin(&Record->Lock);
    Record->Counts.InterruptCount += 1;
    if (KiCallRoutines(Record)) {
        Record->UnclaimedInARow = 0;
        if (Record->Source->Mode == Latched && KiIsShared(Record)) {
            for (ULONG Pass = 1; Pass < KI_LATCHED_PASSES && KiCallRoutines(Record); Pass += 1) {
            }
        }
    } else {
        KiCountUnclaimed(Record, Vector);
    }
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
        Record->UnclaimedInARow = 0;
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
