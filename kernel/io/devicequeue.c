// Device queues: what waits while a device works on something else.
//
// Invariant:
//   Q1  A queue that is not empty is busy. Who finds it not busy makes it so and goes on at once; who
//       removes from an empty one makes it idle again.
// Entries with keys stand in the order of their keys, equal ones in the order in which they came.
// Lock: the queue's own.
#include "kernel/inc/ps.h"
#include "kernel/io/iop.h"

VOID NTAPI KeInitializeDeviceQueue(PKDEVICE_QUEUE DeviceQueue)
{
    *DeviceQueue = (KDEVICE_QUEUE){.Type = KiDeviceQueueObject, .Size = sizeof(*DeviceQueue)};
    InitializeListHead(&DeviceQueue->DeviceListHead);
}

static PKDEVICE_QUEUE_ENTRY IopQueueEntry(PLIST_ENTRY Link)
{
    return CONTAINING_RECORD(Link, KDEVICE_QUEUE_ENTRY, DeviceListEntry);
}

// The first entry with a key above SortKey, or the head.
static PLIST_ENTRY IopFindPlace(PKDEVICE_QUEUE Queue, ULONG SortKey)
{
    PLIST_ENTRY Link = Queue->DeviceListHead.Flink;
    while (Link != &Queue->DeviceListHead && IopQueueEntry(Link)->SortKey <= SortKey) {
        Link = Link->Flink;
    }
    return Link;
}

static BOOLEAN IopInsert(PKDEVICE_QUEUE Queue, PKDEVICE_QUEUE_ENTRY Entry, const ULONG *SortKey)
{
    const KIRQL OldIrql = KeAcquireSpinLockRaiseToDpc(&Queue->Lock);
    const BOOLEAN IsBusy = Queue->Busy != 0;
    Queue->Busy = TRUE;
    Entry->Inserted = IsBusy;
    if (IsBusy) {
        if (SortKey != NULL) {
            Entry->SortKey = *SortKey;
        }
        // Before the place found: InsertTailList takes any link for the head.
        InsertTailList(SortKey != NULL ? IopFindPlace(Queue, *SortKey) : &Queue->DeviceListHead,
                       &Entry->DeviceListEntry);
    }
    KeReleaseSpinLock(&Queue->Lock, OldIrql);
    return IsBusy;
}

BOOLEAN NTAPI KeInsertDeviceQueue(PKDEVICE_QUEUE DeviceQueue, PKDEVICE_QUEUE_ENTRY DeviceQueueEntry)
{
    return IopInsert(DeviceQueue, DeviceQueueEntry, NULL);
}

BOOLEAN NTAPI KeInsertByKeyDeviceQueue(PKDEVICE_QUEUE DeviceQueue,
                                       PKDEVICE_QUEUE_ENTRY DeviceQueueEntry, ULONG SortKey)
{
    return IopInsert(DeviceQueue, DeviceQueueEntry, &SortKey);
}

// The first entry whose key is not below SortKey, else the first of all.
static PKDEVICE_QUEUE_ENTRY IopChooseByKey(PKDEVICE_QUEUE Queue, ULONG SortKey)
{
    PLIST_ENTRY Link = Queue->DeviceListHead.Flink;
    while (Link != &Queue->DeviceListHead && IopQueueEntry(Link)->SortKey < SortKey) {
        Link = Link->Flink;
    }
    return IopQueueEntry(Link != &Queue->DeviceListHead ? Link : Queue->DeviceListHead.Flink);
}

static PKDEVICE_QUEUE_ENTRY IopRemove(PKDEVICE_QUEUE Queue, const ULONG *SortKey)
{
    PKDEVICE_QUEUE_ENTRY Entry = NULL;
    const KIRQL OldIrql = KeAcquireSpinLockRaiseToDpc(&Queue->Lock);
    if (IsListEmpty(&Queue->DeviceListHead)) {
        Queue->Busy = FALSE;
    } else {
        Entry = SortKey != NULL ? IopChooseByKey(Queue, *SortKey)
                                : IopQueueEntry(Queue->DeviceListHead.Flink);
        RemoveEntryList(&Entry->DeviceListEntry);
        Entry->Inserted = FALSE;
    }
    KeReleaseSpinLock(&Queue->Lock, OldIrql);
    return Entry;
}

PKDEVICE_QUEUE_ENTRY NTAPI KeRemoveDeviceQueue(PKDEVICE_QUEUE DeviceQueue)
{
    return IopRemove(DeviceQueue, NULL);
}

PKDEVICE_QUEUE_ENTRY NTAPI KeRemoveByKeyDeviceQueue(PKDEVICE_QUEUE DeviceQueue, ULONG SortKey)
{
    return IopRemove(DeviceQueue, &SortKey);
}

PKDEVICE_QUEUE_ENTRY NTAPI KeRemoveByKeyDeviceQueueIfBusy(PKDEVICE_QUEUE DeviceQueue, ULONG SortKey)
{
    // An idle queue is empty and stays idle: asking it changes nothing.
    return IopRemove(DeviceQueue, &SortKey);
}

BOOLEAN NTAPI KeRemoveEntryDeviceQueue(PKDEVICE_QUEUE DeviceQueue,
                                       PKDEVICE_QUEUE_ENTRY DeviceQueueEntry)
{
    const KIRQL OldIrql = KeAcquireSpinLockRaiseToDpc(&DeviceQueue->Lock);
    const BOOLEAN WasInserted = DeviceQueueEntry->Inserted;
    if (WasInserted) {
        RemoveEntryList(&DeviceQueueEntry->DeviceListEntry);
        DeviceQueueEntry->Inserted = FALSE;
    }
    KeReleaseSpinLock(&DeviceQueue->Lock, OldIrql);
    return WasInserted;
}
