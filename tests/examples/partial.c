// Works on a long request in parts. One partial MDL is built again and again over the request's
// frames; when the request has no system address, each part gets one of its own for as long as it
// is looked at.
#include "examples.h"

static NTSTATUS SumPart(PMDL Part, PULONG Sum)
{
    const UCHAR *Bytes =
        MmGetSystemAddressForMdlSafe(Part, NormalPagePriority | MdlMappingNoExecute);
    if (Bytes == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    for (ULONG Index = 0; Index < MmGetMdlByteCount(Part); Index += 1) {
        *Sum += Bytes[Index];
    }
    MmPrepareMdlForReuse(Part);
    return STATUS_SUCCESS;
}

NTSTATUS ExampleSumInParts(PMDL Mdl, ULONG PartBytes, PULONG Sum)
{
    // The addresses are those of the request's buffer, not system addresses.
    const PUCHAR Buffer = MmGetMdlVirtualAddress(Mdl);
    const ULONG ByteCount = MmGetMdlByteCount(Mdl);
    // A part of that size touches one page more when it begins in the middle of one.
    const PMDL Part = IoAllocateMdl((PVOID)(PAGE_SIZE - 1), PartBytes, FALSE, FALSE, NULL);
    if (Part == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    NTSTATUS Status = STATUS_SUCCESS;
    *Sum = 0;
    for (ULONG Offset = 0; Offset < ByteCount && NT_SUCCESS(Status); Offset += PartBytes) {
        const ULONG BytesLeft = ByteCount - Offset;
        IoBuildPartialMdl(Mdl, Part, Buffer + Offset,
                          BytesLeft < PartBytes ? BytesLeft : PartBytes);
        Status = SumPart(Part, Sum);
    }
    IoFreeMdl(Part);
    return Status;
}
