// Resources.
//
// Who must wait queues up with a block on its stack; who releases hands over to the next ones in
// line, so that the resource never stands free while somebody waits.
//
// Invariants, under SpinLock:
//   R1  ActiveCount is the number of entries that have an owner: OwnerEntry, and those of OwnerTable.
//   R2  With ResourceOwnedExclusive there is one owner, in OwnerEntry.
//   R3  When ActiveCount is 0, nobody waits.

#include <exlockddk.h>

#include "kernel/inc/ke.h"

#define EX_RESOURCE_TAG 'eRxE'
#define FIRST_TABLE_SIZE 4

typedef enum _EXP_WANT { ExpWantShared, ExpWantExclusive } EXP_WANT;

typedef struct _EXP_RESOURCE_WAIT {
    LIST_ENTRY Link;
    KEVENT Granted;
    ERESOURCE_THREAD Thread;
    EXP_WANT Want;
} EXP_RESOURCE_WAIT, *PEXP_RESOURCE_WAIT;

NTSTATUS NTAPI ExInitializeResourceLite(PERESOURCE Resource)
{
    RtlZeroMemory(Resource, sizeof(*Resource));
    InitializeListHead(&Resource->SystemResourcesList);
    return STATUS_SUCCESS;
}

static VOID ExpFreeTable(PERESOURCE Resource)
{
    if (Resource->OwnerTable != NULL) {
        ExFreePoolWithTag(Resource->OwnerTable, EX_RESOURCE_TAG);
        Resource->OwnerTable = NULL;
    }
}

NTSTATUS NTAPI ExDeleteResourceLite(PERESOURCE Resource)
{
    NT_ASSERT(Resource->ActiveCount == 0 && IsListEmpty(&Resource->SystemResourcesList));
    ExpFreeTable(Resource);
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI ExReinitializeResourceLite(PERESOURCE Resource)
{
    ExpFreeTable(Resource);
    return ExInitializeResourceLite(Resource);
}

// -------------------------------------------------------------------------------------------------
// Owners.

static BOOLEAN ExpIsExclusive(const ERESOURCE *Resource)
{
    return (Resource->Flag & ResourceOwnedExclusive) != 0;
}

static ULONG ExpTableSize(const OWNER_ENTRY *Table)
{
    return Table != NULL ? Table->TableSize : 0;
}

// The entry of this owner (0: a free one), or NULL.
static POWNER_ENTRY ExpFindOwner(PERESOURCE Resource, ERESOURCE_THREAD Thread)
{
    if (Resource->OwnerEntry.OwnerThread == Thread) {
        return &Resource->OwnerEntry;
    }
    for (ULONG Index = 1; Index < ExpTableSize(Resource->OwnerTable); Index += 1) {
        if (Resource->OwnerTable[Index].OwnerThread == Thread) {
            return &Resource->OwnerTable[Index];
        }
    }
    return NULL;
}

static VOID ExpAddOwner(PERESOURCE Resource, POWNER_ENTRY Entry, ERESOURCE_THREAD Thread)
{
    Entry->OwnerThread = Thread;
    Entry->OwnerCount = 1;
    Resource->ActiveCount += 1;
    Resource->ActiveEntries += 1;
}

// A table of twice the size takes the place of the old one, which is freed by the caller.
static POWNER_ENTRY ExpReplaceTable(PERESOURCE Resource, POWNER_ENTRY NewTable)
{
    POWNER_ENTRY Old = Resource->OwnerTable;
    for (ULONG Index = 1; Index < ExpTableSize(Old); Index += 1) {
        NewTable[Index] = Old[Index];
    }
    Resource->OwnerTable = NewTable;
    return Old;
}

// -------------------------------------------------------------------------------------------------
// Acquiring.

typedef struct _EXP_ACQUISITION {
    ERESOURCE_THREAD Thread;
    EXP_WANT Want;
    BOOLEAN StarvesWriters;
    BOOLEAN Wait;
} EXP_ACQUISITION;

typedef enum _EXP_OUTCOME { ExpOwned, ExpRefused, ExpMustWait, ExpNeedsTable } EXP_OUTCOME;

// Under the lock: takes the resource, if it can be had.
static EXP_OUTCOME ExpTryAcquire(PERESOURCE Resource, const EXP_ACQUISITION *Wanted)
{
    POWNER_ENTRY Own = ExpFindOwner(Resource, Wanted->Thread);
    if (Own != NULL && (ExpIsExclusive(Resource) || Wanted->Want == ExpWantShared)) {
        Own->OwnerCount += 1;
        return ExpOwned;
    }
    if (Resource->ActiveCount == 0) {
        Resource->Flag |= Wanted->Want == ExpWantExclusive ? ResourceOwnedExclusive : 0;
        ExpAddOwner(Resource, &Resource->OwnerEntry, Wanted->Thread);
        return ExpOwned;
    }
    if (Wanted->Want == ExpWantShared && !ExpIsExclusive(Resource) &&
        (Wanted->StarvesWriters || Resource->NumberOfExclusiveWaiters == 0)) {
        POWNER_ENTRY Free = ExpFindOwner(Resource, 0);
        if (Free == NULL) {
            return ExpNeedsTable;
        }
        ExpAddOwner(Resource, Free, Wanted->Thread);
        return ExpOwned;
    }
    return Wanted->Wait ? ExpMustWait : ExpRefused;
}

// More room for readers. The pool may be empty for a while: there is no way to say so to a caller
// who waits.
static VOID ExpGrowTable(PERESOURCE Resource)
{
    const ULONG OldSize = ExpTableSize(Resource->OwnerTable);
    const ULONG NewSize = OldSize == 0 ? FIRST_TABLE_SIZE : 2 * OldSize;
    POWNER_ENTRY Table =
        ExAllocatePool2(POOL_FLAG_NON_PAGED, NewSize * sizeof(OWNER_ENTRY), EX_RESOURCE_TAG);
    if (Table == NULL) {
        LARGE_INTEGER Interval = {.QuadPart = -10 * 10000ll};
        KeDelayExecutionThread(KernelMode, FALSE, &Interval);
        return;
    }
    Table->TableSize = NewSize;
    KIRQL OldIrql;
    KeAcquireSpinLock(&Resource->SpinLock, &OldIrql);
    // Somebody else may have been quicker.
    POWNER_ENTRY Unused =
        ExpTableSize(Resource->OwnerTable) < NewSize ? ExpReplaceTable(Resource, Table) : Table;
    KeReleaseSpinLock(&Resource->SpinLock, OldIrql);
    if (Unused != NULL) {
        ExFreePoolWithTag(Unused, EX_RESOURCE_TAG);
    }
}

static VOID ExpQueueWait(PERESOURCE Resource, PEXP_RESOURCE_WAIT Wait,
                         const EXP_ACQUISITION *Wanted)
{
    Wait->Thread = Wanted->Thread;
    Wait->Want = Wanted->Want;
    KeInitializeEvent(&Wait->Granted, SynchronizationEvent, FALSE);
    InsertTailList(&Resource->SystemResourcesList, &Wait->Link);
    Resource->ContentionCount += 1;
    if (Wanted->Want == ExpWantExclusive) {
        Resource->NumberOfExclusiveWaiters += 1;
    } else {
        Resource->NumberOfSharedWaiters += 1;
    }
}

static BOOLEAN ExpAcquire(PERESOURCE Resource, EXP_WANT Want, BOOLEAN StarvesWriters, BOOLEAN Wait)
{
    const EXP_ACQUISITION Wanted = {(ERESOURCE_THREAD)KeGetCurrentThread(), Want, StarvesWriters,
                                    Wait};
    for (;;) {
        EXP_RESOURCE_WAIT Block;
        KIRQL OldIrql;
        KeAcquireSpinLock(&Resource->SpinLock, &OldIrql);
        const EXP_OUTCOME Outcome = ExpTryAcquire(Resource, &Wanted);
        if (Outcome == ExpMustWait) {
            ExpQueueWait(Resource, &Block, &Wanted);
        }
        KeReleaseSpinLock(&Resource->SpinLock, OldIrql);
        switch (Outcome) {
        case ExpOwned:
            return TRUE;
        case ExpRefused:
            return FALSE;
        case ExpNeedsTable:
            ExpGrowTable(Resource);
            break;
        case ExpMustWait:
            KeWaitForSingleObject(&Block.Granted, Executive, KernelMode, FALSE, NULL);
            if (Block.Thread == 0) {
                return TRUE;
            }
            break; // there was no room for one more reader: try again
        }
    }
}

BOOLEAN NTAPI ExAcquireResourceExclusiveLite(PERESOURCE Resource, BOOLEAN Wait)
{
    return ExpAcquire(Resource, ExpWantExclusive, FALSE, Wait);
}

BOOLEAN NTAPI ExAcquireResourceSharedLite(PERESOURCE Resource, BOOLEAN Wait)
{
    return ExpAcquire(Resource, ExpWantShared, FALSE, Wait);
}

BOOLEAN NTAPI ExAcquireSharedStarveExclusive(PERESOURCE Resource, BOOLEAN Wait)
{
    return ExpAcquire(Resource, ExpWantShared, TRUE, Wait);
}

BOOLEAN NTAPI ExAcquireSharedWaitForExclusive(PERESOURCE Resource, BOOLEAN Wait)
{
    return ExpAcquire(Resource, ExpWantShared, FALSE, Wait);
}

// -------------------------------------------------------------------------------------------------
// Releasing.

// Lets the first in line go on. Its block's Thread becomes 0 when it owns the resource now.
static VOID ExpGrantFirst(PERESOURCE Resource)
{
    PEXP_RESOURCE_WAIT Wait =
        CONTAINING_RECORD(RemoveHeadList(&Resource->SystemResourcesList), EXP_RESOURCE_WAIT, Link);
    if (Wait->Want == ExpWantExclusive) {
        Resource->NumberOfExclusiveWaiters -= 1;
        Resource->Flag |= ResourceOwnedExclusive;
    } else {
        Resource->NumberOfSharedWaiters -= 1;
    }
    POWNER_ENTRY Free = ExpFindOwner(Resource, 0);
    if (Free != NULL) {
        ExpAddOwner(Resource, Free, Wait->Thread);
        Wait->Thread = 0;
    }
    KeSetEvent(&Wait->Granted, 0, FALSE);
}

static BOOLEAN ExpFirstWants(const ERESOURCE *Resource, EXP_WANT Want)
{
    return !IsListEmpty(&Resource->SystemResourcesList) &&
           CONTAINING_RECORD(Resource->SystemResourcesList.Flink, EXP_RESOURCE_WAIT, Link)->Want ==
               Want;
}

static VOID ExpGrantReaders(PERESOURCE Resource)
{
    while (ExpFirstWants(Resource, ExpWantShared)) {
        ExpGrantFirst(Resource);
    }
}

static DECLSPEC_NORETURN VOID ExpStopNotOwned(PERESOURCE Resource, ERESOURCE_THREAD Thread)
{
    KiBugCheckSaying(
        RESOURCE_NOT_OWNED, (ULONG_PTR)Resource, Thread, (ULONG_PTR)Resource->OwnerTable, 0,
        "the resource at 0x%p was released by 0x%llx, which does not own it", Resource, Thread);
}

VOID NTAPI ExReleaseResourceForThreadLite(PERESOURCE Resource, ERESOURCE_THREAD ResourceThreadId)
{
    KIRQL OldIrql;
    KeAcquireSpinLock(&Resource->SpinLock, &OldIrql);
    POWNER_ENTRY Entry = ResourceThreadId != 0 ? ExpFindOwner(Resource, ResourceThreadId) : NULL;
    if (Entry == NULL) {
        ExpStopNotOwned(Resource, ResourceThreadId);
    }
    Entry->OwnerCount -= 1;
    if (Entry->OwnerCount == 0) {
        Entry->OwnerThread = 0;
        Resource->ActiveCount -= 1;
        Resource->ActiveEntries -= 1;
        if (Resource->ActiveCount == 0) {
            Resource->Flag &= (USHORT)~ResourceOwnedExclusive;
            if (ExpFirstWants(Resource, ExpWantExclusive)) {
                ExpGrantFirst(Resource);
            } else {
                ExpGrantReaders(Resource);
            }
        }
    }
    KeReleaseSpinLock(&Resource->SpinLock, OldIrql);
}

VOID FASTCALL ExReleaseResourceLite(PERESOURCE Resource)
{
    ExReleaseResourceForThreadLite(Resource, (ERESOURCE_THREAD)KeGetCurrentThread());
}

VOID NTAPI ExConvertExclusiveToSharedLite(PERESOURCE Resource)
{
    KIRQL OldIrql;
    KeAcquireSpinLock(&Resource->SpinLock, &OldIrql);
    NT_ASSERT(ExpIsExclusive(Resource));
    Resource->Flag &= (USHORT)~ResourceOwnedExclusive;
    ExpGrantReaders(Resource);
    KeReleaseSpinLock(&Resource->SpinLock, OldIrql);
}

VOID NTAPI ExSetResourceOwnerPointer(PERESOURCE Resource, PVOID OwnerPointer)
{
    KIRQL OldIrql;
    KeAcquireSpinLock(&Resource->SpinLock, &OldIrql);
    POWNER_ENTRY Entry = ExpFindOwner(Resource, (ERESOURCE_THREAD)KeGetCurrentThread());
    if (Entry == NULL) {
        ExpStopNotOwned(Resource, (ERESOURCE_THREAD)KeGetCurrentThread());
    }
    Entry->OwnerThread = (ERESOURCE_THREAD)OwnerPointer;
    KeReleaseSpinLock(&Resource->SpinLock, OldIrql);
}

// -------------------------------------------------------------------------------------------------
// Queries, and the forms with a critical region.

ULONG NTAPI ExIsResourceAcquiredSharedLite(PERESOURCE Resource)
{
    KIRQL OldIrql;
    KeAcquireSpinLock(&Resource->SpinLock, &OldIrql);
    const OWNER_ENTRY *Entry = ExpFindOwner(Resource, (ERESOURCE_THREAD)KeGetCurrentThread());
    const ULONG Count = Entry != NULL ? Entry->OwnerCount : 0;
    KeReleaseSpinLock(&Resource->SpinLock, OldIrql);
    return Count;
}

BOOLEAN NTAPI ExIsResourceAcquiredExclusiveLite(PERESOURCE Resource)
{
    return ExpIsExclusive(Resource) && ExIsResourceAcquiredSharedLite(Resource) > 0;
}

ULONG NTAPI ExGetExclusiveWaiterCount(PERESOURCE Resource)
{
    return Resource->NumberOfExclusiveWaiters;
}

ULONG NTAPI ExGetSharedWaiterCount(PERESOURCE Resource)
{
    return Resource->NumberOfSharedWaiters;
}

PVOID NTAPI ExEnterCriticalRegionAndAcquireResourceExclusive(PERESOURCE Resource)
{
    KeEnterCriticalRegion();
    ExAcquireResourceExclusiveLite(Resource, TRUE);
    return NULL;
}

PVOID NTAPI ExEnterCriticalRegionAndAcquireResourceShared(PERESOURCE Resource)
{
    KeEnterCriticalRegion();
    ExAcquireResourceSharedLite(Resource, TRUE);
    return NULL;
}

PVOID NTAPI ExEnterCriticalRegionAndAcquireSharedWaitForExclusive(PERESOURCE Resource)
{
    KeEnterCriticalRegion();
    ExAcquireSharedWaitForExclusive(Resource, TRUE);
    return NULL;
}

VOID FASTCALL ExReleaseResourceAndLeaveCriticalRegion(PERESOURCE Resource)
{
    ExReleaseResourceLite(Resource);
    KeLeaveCriticalRegion();
}
