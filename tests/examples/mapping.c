// Looks at the bytes of a locked MDL, of whatever buffer. The mapping is read-only, so that a stray
// store is found here and not in somebody's data.
#include "examples.h"

NTSTATUS ExampleChecksum(PMDL Mdl, PULONG Sum)
{
    const ULONG Priority = NormalPagePriority | MdlMappingNoWrite | MdlMappingNoExecute;
    const UCHAR *Bytes =
        MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmCached, NULL, FALSE, Priority);
    if (Bytes == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    *Sum = 0;
    for (ULONG Index = 0; Index < MmGetMdlByteCount(Mdl); Index += 1) {
        *Sum += Bytes[Index];
    }
    MmUnmapLockedPages((PVOID)Bytes, Mdl);
    return STATUS_SUCCESS;
}
