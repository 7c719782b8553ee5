// A ring of descriptors that driver and device share: one piece of memory that crosses no 64 KiB
// border, as some devices want it.
#include "examples.h"

#define BORDER 0x10000

NTSTATUS ExampleCreateRing(SIZE_T ByteCount, PEXAMPLE_RING Ring)
{
    const PHYSICAL_ADDRESS Lowest = {.QuadPart = 0};
    const PHYSICAL_ADDRESS Highest = {.QuadPart = MAXLONGLONG};
    const PHYSICAL_ADDRESS Border = {.QuadPart = BORDER};
    Ring->ByteCount = ByteCount;
    Ring->Va = MmAllocateContiguousMemorySpecifyCache(ByteCount, Lowest, Highest, Border, MmCached);
    if (Ring->Va == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    RtlZeroMemory(Ring->Va, ByteCount); // the memory comes with whatever was in it
    Ring->Address = MmGetPhysicalAddress(Ring->Va);
    return STATUS_SUCCESS;
}

VOID ExampleDeleteRing(PEXAMPLE_RING Ring)
{
    MmFreeContiguousMemory(Ring->Va);
    Ring->Va = NULL;
}
