// Resources: base address registers as drivers learn of them.
//
// On a PC the raw list (what the bus sees) and the translated one (what the processor sees) are the
// same: a bus address is a physical address. A 64-bit register is one descriptor.
#include "kernel/io/iop.h"

// How a long length is stored: in units, as 32 bits.
typedef struct _IOP_LENGTH_ENCODING {
    USHORT Flag;
    ULONG Shift;
} IOP_LENGTH_ENCODING;

static const IOP_LENGTH_ENCODING IopLengthEncodings[] = {
    {CM_RESOURCE_MEMORY_LARGE_40, 8},
    {CM_RESOURCE_MEMORY_LARGE_48, 16},
    {CM_RESOURCE_MEMORY_LARGE_64, 32},
};

ULONGLONG NTAPI RtlCmDecodeMemIoResource(PCM_PARTIAL_RESOURCE_DESCRIPTOR Descriptor,
                                         PULONGLONG Start)
{
    if (Descriptor->Type != CmResourceTypeMemory && Descriptor->Type != CmResourceTypePort &&
        Descriptor->Type != CmResourceTypeMemoryLarge) {
        return 0;
    }
    if (Start != NULL) {
        *Start = (ULONGLONG)Descriptor->u.Generic.Start.QuadPart;
    }
    if (Descriptor->Type != CmResourceTypeMemoryLarge) {
        return Descriptor->u.Generic.Length;
    }
    for (ULONG Row = 0; Row < ARRAYSIZE(IopLengthEncodings); Row += 1) {
        if ((Descriptor->Flags & CM_RESOURCE_MEMORY_LARGE) == IopLengthEncodings[Row].Flag) {
            return (ULONGLONG)Descriptor->u.Memory40.Length40 << IopLengthEncodings[Row].Shift;
        }
    }
    return 0;
}

// Stores a length of 4 GiB or more in the smallest unit that can hold it.
static NTSTATUS IopEncodeLargeLength(PCM_PARTIAL_RESOURCE_DESCRIPTOR Descriptor, ULONGLONG Length)
{
    for (ULONG Row = 0; Row < ARRAYSIZE(IopLengthEncodings); Row += 1) {
        const IOP_LENGTH_ENCODING *Encoding = &IopLengthEncodings[Row];
        const ULONGLONG Units = Length >> Encoding->Shift;
        if (Units <= MAXULONG) {
            if (Units << Encoding->Shift != Length) {
                break;
            }
            Descriptor->Type = CmResourceTypeMemoryLarge;
            Descriptor->Flags =
                (USHORT)((Descriptor->Flags & ~CM_RESOURCE_MEMORY_LARGE) | Encoding->Flag);
            Descriptor->u.Memory40.Length40 = (ULONG)Units;
            return STATUS_SUCCESS;
        }
    }
    return STATUS_UNSUCCESSFUL;
}

NTSTATUS NTAPI RtlCmEncodeMemIoResource(PCM_PARTIAL_RESOURCE_DESCRIPTOR Descriptor, UCHAR Type,
                                        ULONGLONG Length, ULONGLONG Start)
{
    NTSTATUS Status = STATUS_SUCCESS;
    if (Type != CmResourceTypeMemory && Type != CmResourceTypePort &&
        Type != CmResourceTypeMemoryLarge) {
        return STATUS_INVALID_PARAMETER;
    }
    if (Type == CmResourceTypePort && (Length > MAXULONG || Start > MAXULONG)) {
        return STATUS_INVALID_PARAMETER;
    }
    if (Length > MAXULONG) {
        Status = IopEncodeLargeLength(Descriptor, Length);
    } else {
        Descriptor->Type = Type == CmResourceTypePort ? CmResourceTypePort : CmResourceTypeMemory;
        Descriptor->u.Generic.Length = (ULONG)Length;
    }
    if (NT_SUCCESS(Status)) {
        Descriptor->u.Generic.Start.QuadPart = (LONGLONG)Start;
    }
    return Status;
}

static BOOLEAN IopIsUsable(const IO_PCI_BAR *Bar)
{
    return Bar->State == IoBarAssigned || Bar->State == IoBarPlaced;
}

static ULONG IopCountUsableBars(const IO_PCI_FUNCTION *Function)
{
    ULONG Count = 0;
    for (ULONG Index = 0; Index < ARRAYSIZE(Function->Bars); Index += 1) {
        Count += IopIsUsable(&Function->Bars[Index]);
    }
    return Count;
}

static VOID IopDescribeBar(const IO_PCI_BAR *Bar, PCM_PARTIAL_RESOURCE_DESCRIPTOR Descriptor)
{
    Descriptor->ShareDisposition = CmResourceShareDeviceExclusive;
    Descriptor->Flags =
        Bar->IsPort ? CM_RESOURCE_PORT_IO | CM_RESOURCE_PORT_16_BIT_DECODE | CM_RESOURCE_PORT_BAR
                    : CM_RESOURCE_MEMORY_READ_WRITE | CM_RESOURCE_MEMORY_BAR |
                          (Bar->IsPrefetchable ? CM_RESOURCE_MEMORY_PREFETCHABLE : 0);
    // The size of a BAR is a power of two, so every length can be encoded.
    const NTSTATUS Status = RtlCmEncodeMemIoResource(
        Descriptor, Bar->IsPort ? CmResourceTypePort : CmResourceTypeMemory, Bar->ByteCount,
        Bar->Base);
    NT_ASSERT(NT_SUCCESS(Status));
}

NTSTATUS IopBuildResourceList(const IO_PCI_FUNCTION *Function, PCM_RESOURCE_LIST *List)
{
    const ULONG Count = IopCountUsableBars(Function);
    *List = NULL;
    if (Count == 0) {
        return STATUS_SUCCESS;
    }
    PCM_RESOURCE_LIST Resources = ExAllocatePool2(
        POOL_FLAG_NON_PAGED,
        (SIZE_T)FIELD_OFFSET(CM_RESOURCE_LIST, List[0].PartialResourceList.PartialDescriptors) +
            Count * sizeof(CM_PARTIAL_RESOURCE_DESCRIPTOR),
        IOP_TAG);
    if (Resources == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    Resources->Count = 1;
    Resources->List[0].InterfaceType = PCIBus;
    Resources->List[0].BusNumber = Function->Bus;
    PCM_PARTIAL_RESOURCE_LIST Partial = &Resources->List[0].PartialResourceList;
    Partial->Version = 1;
    Partial->Revision = 1;
    for (ULONG Index = 0; Index < ARRAYSIZE(Function->Bars); Index += 1) {
        if (IopIsUsable(&Function->Bars[Index])) {
            IopDescribeBar(&Function->Bars[Index], &Partial->PartialDescriptors[Partial->Count++]);
        }
    }
    *List = Resources;
    return STATUS_SUCCESS;
}
