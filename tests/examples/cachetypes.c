// Fills a frame buffer. Write-combined, the processor gathers neighbouring stores into bursts, and
// may hold them back; a second mapping with another type is refused as long as this one lives.
#include "examples.h"

NTSTATUS ExampleFillFrame(PHYSICAL_ADDRESS Frame, SIZE_T ByteCount, ULONG Pixel)
{
    const PULONG Pixels = MmMapIoSpaceEx(Frame, ByteCount, PAGE_READWRITE | PAGE_WRITECOMBINE);
    if (Pixels == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    for (SIZE_T Index = 0; Index < ByteCount / sizeof(ULONG); Index += 1) {
        WRITE_REGISTER_ULONG(&Pixels[Index], Pixel);
    }
    KeMemoryBarrier(); // what was held back goes out now

    MEMORY_CACHING_TYPE Type;
    NTSTATUS Status = MmGetCacheAttribute(Frame, &Type);
    if (NT_SUCCESS(Status) && Type != MmWriteCombined) {
        Status = STATUS_UNSUCCESSFUL; // not reached: it has the type of its first mapping
    }
    const PVOID Uncached = MmMapIoSpace(Frame, ByteCount, MmNonCached);
    if (Uncached != NULL) {
        MmUnmapIoSpace(Uncached, ByteCount); // not reached: one frame, one cache type
        Status = STATUS_UNSUCCESSFUL;
    }
    MmUnmapIoSpace(Pixels, ByteCount);
    return Status;
}
