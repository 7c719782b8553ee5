// A queue of small records. Every block has a tag, by which the reports name who has it.
#include "examples.h"

typedef struct _NAME {
    LIST_ENTRY Link;
    ULONG Number;
} NAME, *PNAME;

NTSTATUS ExampleQueueNames(PLIST_ENTRY Queue, ULONG NameCount)
{
    for (ULONG Number = 0; Number < NameCount; Number += 1) {
        const PNAME Name = ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(NAME), EXAMPLE_TAG);
        if (Name == NULL) {
            ExampleDropNames(Queue); // all or nothing
            return STATUS_INSUFFICIENT_RESOURCES;
        }
        Name->Number = Number; // the rest is zero
        InsertTailList(Queue, &Name->Link);
    }
    return STATUS_SUCCESS;
}

VOID ExampleDropNames(PLIST_ENTRY Queue)
{
    while (!IsListEmpty(Queue)) {
        ExFreePoolWithTag(CONTAINING_RECORD(RemoveHeadList(Queue), NAME, Link), EXAMPLE_TAG);
    }
}
