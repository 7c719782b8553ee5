// Device queues: the requests that wait for a device which works on one at a time.
//
// Invariant:
//   E1  A queue that is not busy is empty.
// Lock: the queue's own, at DISPATCH_LEVEL.
#include "kernel/inc/ke.h"
#include "kernel/inc/ps.h"

VOID NTAPI KeInitializeDeviceQueue(PKDEVICE_QUEUE DeviceQueue)
{
    DeviceQueue->Type = KiDeviceQueueObject;
    DeviceQueue->Size = sizeof(*DeviceQueue);
    InitializeListHead(&DeviceQueue->DeviceListHead);
    KeInitializeSpinLock(&DeviceQueue->Lock);
    DeviceQueue->Busy = FALSE;
}

static PKDEVICE_QUEUE_ENTRY KiEntryOf(PLIST_ENTRY Link)
{
    return CONTAINING_RECORD(Link, KDEVICE_QUEUE_ENTRY, DeviceListEntry);
}

// The first whose key is higher; the head of the list when there is none.
static PLIST_ENTRY KiPlaceOfKey(PKDEVICE_QUEUE Queue, ULONG SortKey)
{
    PLIST_ENTRY Link = Queue->DeviceListHead.Flink;
    while (Link != &Queue->DeviceListHead && KiEntryOf(Link)->SortKey <= SortKey) {
        Link = Link->Flink;
    }
    return Link;
}

// Place: in front of which the entry goes. FALSE: the device was idle.
static BOOLEAN KiInsertEntry(PKDEVICE_QUEUE Queue, PKDEVICE_QUEUE_ENTRY Entry, PLIST_ENTRY Place)
{
    Entry->Inserted = Queue->Busy != FALSE;
    if (Entry->Inserted) {
        InsertTailList(Place, &Entry->DeviceListEntry);
    }
    Queue->Busy = TRUE;
    return Entry->Inserted;
}

BOOLEAN NTAPI KeInsertDeviceQueue(PKDEVICE_QUEUE DeviceQueue, PKDEVICE_QUEUE_ENTRY DeviceQueueEntry)
{
    const KIRQL OldIrql = KeAcquireSpinLockRaiseToDpc(&DeviceQueue->Lock);
    const BOOLEAN IsQueued =
        KiInsertEntry(DeviceQueue, DeviceQueueEntry, &DeviceQueue->DeviceListHead);
    KeReleaseSpinLock(&DeviceQueue->Lock, OldIrql);
    return IsQueued;
}

BOOLEAN NTAPI KeInsertByKeyDeviceQueue(PKDEVICE_QUEUE DeviceQueue,
                                       PKDEVICE_QUEUE_ENTRY DeviceQueueEntry, ULONG SortKey)
{
    const KIRQL OldIrql = KeAcquireSpinLockRaiseToDpc(&DeviceQueue->Lock);
    DeviceQueueEntry->SortKey = SortKey;
    const BOOLEAN IsQueued =
        KiInsertEntry(DeviceQueue, DeviceQueueEntry, KiPlaceOfKey(DeviceQueue, SortKey));
    KeReleaseSpinLock(&DeviceQueue->Lock, OldIrql);
    return IsQueued;
}

// Takes the entry at Link out; the head of the list: there is none, and the device is idle.
static PKDEVICE_QUEUE_ENTRY KiTakeEntry(PKDEVICE_QUEUE Queue, PLIST_ENTRY Link)
{
    if (Link == &Queue->DeviceListHead) {
        Queue->Busy = FALSE;
        return NULL;
    }
    RemoveEntryList(Link);
    KiEntryOf(Link)->Inserted = FALSE;
    return KiEntryOf(Link);
}

PKDEVICE_QUEUE_ENTRY NTAPI KeRemoveDeviceQueue(PKDEVICE_QUEUE DeviceQueue)
{
    const KIRQL OldIrql = KeAcquireSpinLockRaiseToDpc(&DeviceQueue->Lock);
    const PKDEVICE_QUEUE_ENTRY Entry = KiTakeEntry(DeviceQueue, DeviceQueue->DeviceListHead.Flink);
    KeReleaseSpinLock(&DeviceQueue->Lock, OldIrql);
    return Entry;
}

static PLIST_ENTRY KiFirstFromKey(PKDEVICE_QUEUE Queue, ULONG SortKey)
{
    PLIST_ENTRY Link = Queue->DeviceListHead.Flink;
    while (Link != &Queue->DeviceListHead && KiEntryOf(Link)->SortKey < SortKey) {
        Link = Link->Flink;
    }
    return Link != &Queue->DeviceListHead ? Link : Queue->DeviceListHead.Flink;
}

PKDEVICE_QUEUE_ENTRY NTAPI KeRemoveByKeyDeviceQueue(PKDEVICE_QUEUE DeviceQueue, ULONG SortKey)
{
    const KIRQL OldIrql = KeAcquireSpinLockRaiseToDpc(&DeviceQueue->Lock);
    const PKDEVICE_QUEUE_ENTRY Entry =
        KiTakeEntry(DeviceQueue, KiFirstFromKey(DeviceQueue, SortKey));
    KeReleaseSpinLock(&DeviceQueue->Lock, OldIrql);
    return Entry;
}

PKDEVICE_QUEUE_ENTRY NTAPI KeRemoveByKeyDeviceQueueIfBusy(PKDEVICE_QUEUE DeviceQueue, ULONG SortKey)
{
    const KIRQL OldIrql = KeAcquireSpinLockRaiseToDpc(&DeviceQueue->Lock);
    const PKDEVICE_QUEUE_ENTRY Entry =
        DeviceQueue->Busy != FALSE ? KiTakeEntry(DeviceQueue, KiFirstFromKey(DeviceQueue, SortKey))
                                   : NULL;
    KeReleaseSpinLock(&DeviceQueue->Lock, OldIrql);
    return Entry;
}

BOOLEAN NTAPI KeRemoveEntryDeviceQueue(PKDEVICE_QUEUE DeviceQueue,
                                       PKDEVICE_QUEUE_ENTRY DeviceQueueEntry)
{
    const KIRQL OldIrql = KeAcquireSpinLockRaiseToDpc(&DeviceQueue->Lock);
    const BOOLEAN WasQueued = DeviceQueueEntry->Inserted;
    if (WasQueued) {
        RemoveEntryList(&DeviceQueueEntry->DeviceListEntry);
        DeviceQueueEntry->Inserted = FALSE;
    }
    KeReleaseSpinLock(&DeviceQueue->Lock, OldIrql);
    return WasQueued;
}
