// Lists and counters under a spin lock, at any IRQL: the lock is held with interrupts off, so that
// no interrupt can wait for it on the processor that holds it.

#include <exddk.h>

#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "kernel/inc/kelockinline.h"

static BOOLEAN ExpLock(PKSPIN_LOCK Lock)
{
    const BOOLEAN WereOn = KeArchDisableInterrupts();
    KiSpin(Lock);
    return WereOn;
}

static VOID ExpUnlock(PKSPIN_LOCK Lock, BOOLEAN WereOn)
{
    __atomic_store_n(Lock, 0, __ATOMIC_RELEASE);
    KeArchRestoreInterrupts(WereOn);
}

PLIST_ENTRY FASTCALL ExInterlockedInsertHeadList(PLIST_ENTRY ListHead, PLIST_ENTRY ListEntry,
                                                 PKSPIN_LOCK Lock)
{
    const BOOLEAN WereOn = ExpLock(Lock);
    PLIST_ENTRY First = IsListEmpty(ListHead) ? NULL : ListHead->Flink;
    InsertHeadList(ListHead, ListEntry);
    ExpUnlock(Lock, WereOn);
    return First;
}

PLIST_ENTRY FASTCALL ExInterlockedInsertTailList(PLIST_ENTRY ListHead, PLIST_ENTRY ListEntry,
                                                 PKSPIN_LOCK Lock)
{
    const BOOLEAN WereOn = ExpLock(Lock);
    PLIST_ENTRY Last = IsListEmpty(ListHead) ? NULL : ListHead->Blink;
    InsertTailList(ListHead, ListEntry);
    ExpUnlock(Lock, WereOn);
    return Last;
}

PLIST_ENTRY FASTCALL ExInterlockedRemoveHeadList(PLIST_ENTRY ListHead, PKSPIN_LOCK Lock)
{
    const BOOLEAN WereOn = ExpLock(Lock);
    PLIST_ENTRY Entry = IsListEmpty(ListHead) ? NULL : RemoveHeadList(ListHead);
    ExpUnlock(Lock, WereOn);
    return Entry;
}

PSINGLE_LIST_ENTRY FASTCALL ExInterlockedPushEntryList(PSINGLE_LIST_ENTRY ListHead,
                                                       PSINGLE_LIST_ENTRY ListEntry,
                                                       PKSPIN_LOCK Lock)
{
    const BOOLEAN WereOn = ExpLock(Lock);
    PSINGLE_LIST_ENTRY First = ListHead->Next;
    ListEntry->Next = First;
    ListHead->Next = ListEntry;
    ExpUnlock(Lock, WereOn);
    return First;
}

PSINGLE_LIST_ENTRY FASTCALL ExInterlockedPopEntryList(PSINGLE_LIST_ENTRY ListHead, PKSPIN_LOCK Lock)
{
    const BOOLEAN WereOn = ExpLock(Lock);
    PSINGLE_LIST_ENTRY Entry = ListHead->Next;
    if (Entry != NULL) {
        ListHead->Next = Entry->Next;
    }
    ExpUnlock(Lock, WereOn);
    return Entry;
}

ULONG FASTCALL ExInterlockedAddUlong(PULONG Addend, ULONG Increment, PKSPIN_LOCK Lock)
{
    const BOOLEAN WereOn = ExpLock(Lock);
    const ULONG Before = *Addend;
    *Addend = Before + Increment;
    ExpUnlock(Lock, WereOn);
    return Before;
}

LARGE_INTEGER NTAPI ExInterlockedAddLargeInteger(PLARGE_INTEGER Addend, LARGE_INTEGER Increment,
                                                 PKSPIN_LOCK Lock)
{
    const BOOLEAN WereOn = ExpLock(Lock);
    const LARGE_INTEGER Before = *Addend;
    Addend->QuadPart = (LONG64)((ULONG64)Before.QuadPart + (ULONG64)Increment.QuadPart);
    ExpUnlock(Lock, WereOn);
    return Before;
}
