// Sequenced lists: a stack whose head is exchanged as a whole, 16 bytes at a time.
//
//   Alignment   Depth:16 Sequence:48
//   Region      HeaderType:1 Reserved:3 NextEntry:60     the address itself: entries are aligned
//
// Invariants:
//   S1  Each change counts Sequence up, so that a head which was popped and pushed again in between
//       (the ABA problem) does not compare equal.
//   S2  A pop reads the first entry's link before it knows whether the entry is still on the list.
//       The entry may have been freed, and its page with it: the read may fault, and is a probe. What
//       it yields counts only when the head has not changed.
// Memory order: the exchange of 16 bytes is a locked one, which orders everything around it: an entry's link
// is written before the entry is on the list, and read after it was seen there. The two halves of the head may be
// read from different moments; the exchange then fails, because Sequence differs.

#include <except.h>
#include <exddk.h>

#include "kernel/inc/ke.h"

#define SLIST_HEADER_TYPE 1ull
#define SLIST_DEPTH_MASK 0xFFFFull
#define SLIST_FLAG_MASK 0xFull

static SLIST_HEADER ExpReadHead(PSLIST_HEADER ListHead)
{
    // Not at once: the exchange finds out whether the halves belong together.
    SLIST_HEADER Head;
    Head.Alignment = __atomic_load_n(&ListHead->Alignment, __ATOMIC_ACQUIRE);
    Head.Region = __atomic_load_n(&ListHead->Region, __ATOMIC_ACQUIRE);
    return Head;
}

static PSLIST_ENTRY ExpFirst(const SLIST_HEADER *Head)
{
    return (PSLIST_ENTRY)(ULONG_PTR)(Head->Region & ~SLIST_FLAG_MASK);
}

static SLIST_HEADER ExpMakeHead(const SLIST_HEADER *Old, ULONG64 Depth, PSLIST_ENTRY First)
{
    SLIST_HEADER Head;
    Head.Alignment =
        ((Old->Alignment & ~SLIST_DEPTH_MASK) + SLIST_DEPTH_MASK + 1) | (Depth & SLIST_DEPTH_MASK);
    Head.Region = (ULONG64)(ULONG_PTR)First | SLIST_HEADER_TYPE;
    return Head;
}

// [x64] CMPXCHG16B: all processors that run this kernel have it, as NT demands it, too.
static BOOLEAN ExpExchangeHead(PSLIST_HEADER ListHead, SLIST_HEADER Old, SLIST_HEADER New)
{
    BOOLEAN IsDone;
    __asm__ volatile("lock cmpxchg16b %1\n\tsete %0"
                     : "=q"(IsDone), "+m"(*ListHead), "+a"(Old.Alignment), "+d"(Old.Region)
                     : "b"(New.Alignment), "c"(New.Region)
                     : "cc", "memory");
    return IsDone;
}

VOID NTAPI InitializeSListHead(PSLIST_HEADER SListHead)
{
    if ((ULONG_PTR)SListHead % sizeof(SLIST_HEADER) != 0) {
        ExRaiseStatus(STATUS_DATATYPE_MISALIGNMENT);
    }
    SListHead->Alignment = 0;
    SListHead->Region = SLIST_HEADER_TYPE;
}

USHORT NTAPI ExQueryDepthSList(PSLIST_HEADER ListHead)
{
    return (USHORT)__atomic_load_n(&ListHead->Alignment, __ATOMIC_RELAXED);
}

PSLIST_ENTRY NTAPI ExpInterlockedPushEntrySList(PSLIST_HEADER ListHead, PSLIST_ENTRY ListEntry)
{
    SLIST_HEADER Old;
    do {
        Old = ExpReadHead(ListHead);
        ListEntry->Next = ExpFirst(&Old);
    } while (!ExpExchangeHead(ListHead, Old, ExpMakeHead(&Old, Old.Alignment + 1, ListEntry)));
    return ExpFirst(&Old);
}

PSLIST_ENTRY NTAPI ExpInterlockedPopEntrySList(PSLIST_HEADER ListHead)
{
    for (;;) {
        const SLIST_HEADER Old = ExpReadHead(ListHead);
        PSLIST_ENTRY First = ExpFirst(&Old);
        if (First == NULL) {
            return NULL;
        }
        ULONG64 Next = 0;
        const BOOLEAN Faulted = KeProbeRead(&First->Next, &Next).Faulted;
        if (Faulted && ExpReadHead(ListHead).Alignment == Old.Alignment) {
            // Nobody has changed the list: an entry of it is not memory. Let the fault say so.
            return First->Next;
        }
        if (!Faulted && ExpExchangeHead(ListHead, Old,
                                        ExpMakeHead(&Old, Old.Alignment - 1, (PSLIST_ENTRY)Next))) {
            return First;
        }
    }
}

PSLIST_ENTRY NTAPI ExpInterlockedFlushSList(PSLIST_HEADER ListHead)
{
    SLIST_HEADER Old;
    do {
        Old = ExpReadHead(ListHead);
        if (ExpFirst(&Old) == NULL) {
            return NULL;
        }
    } while (!ExpExchangeHead(ListHead, Old, ExpMakeHead(&Old, 0, NULL)));
    return ExpFirst(&Old);
}
