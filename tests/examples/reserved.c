// A stream of requests that must not fail for want of memory. Everything that can fail is done when
// the stream is opened; mapping a request later allocates nothing.
#include "examples.h"

NTSTATUS ExampleOpenStream(PVOID *Stream)
{
    *Stream = MmAllocateMappingAddress(EXAMPLE_STREAM_PAGES * PAGE_SIZE, EXAMPLE_TAG);
    return *Stream != NULL ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;
}

NTSTATUS ExampleCopyFromStream(PVOID Stream, PMDL Request, PVOID Buffer, ULONG ByteCount)
{
    // Keep the result: MappedSystemVa, and so MmGetSystemAddressForMdlSafe, lacks the byte offset.
    const PVOID Bytes = MmMapLockedPagesWithReservedMapping(Stream, EXAMPLE_TAG, Request, MmCached);
    if (Bytes == NULL) {
        return STATUS_INVALID_PARAMETER; // only a request that is too long, or wrong
    }
    RtlCopyMemory(Buffer, Bytes, ByteCount);
    MmUnmapReservedMapping(Stream, EXAMPLE_TAG, Request);
    return STATUS_SUCCESS;
}

VOID ExampleCloseStream(PVOID Stream)
{
    MmFreeMappingAddress(Stream, EXAMPLE_TAG);
}
