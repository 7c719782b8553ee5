// Resources: base address registers and interrupts, as drivers learn of them.
//
// On a PC a bus address is a physical address, so the raw list (what the bus sees) and the translated
// one (what the processor sees) differ only in the interrupts. A 64-bit register is one descriptor.
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

//
// Interrupts. One descriptor stands for a line, for one message of MSI-X, or for all messages of
// MSI, which cannot be had one by one.
//

static ULONG IopCountInterrupts(const IO_PCI_FUNCTION *Function)
{
    if (IopUsesMessages(Function)) {
        return Function->Messages->Kind == IopMsix ? Function->Messages->Count : 1;
    }
    return Function->LineVector != 0 ? 1 : 0;
}

static VOID IopDescribeLineInterrupt(const IO_PCI_FUNCTION *Function, IOP_RESOURCE_VIEW View,
                                     PCM_PARTIAL_RESOURCE_DESCRIPTOR Descriptor)
{
    Descriptor->ShareDisposition = CmResourceShareShared;
    Descriptor->Flags = KiGetVectorSource(Function->LineVector)->Mode == LevelSensitive
                            ? CM_RESOURCE_INTERRUPT_LEVEL_SENSITIVE
                            : CM_RESOURCE_INTERRUPT_LATCHED;
    if (View == IopResourcesRaw) {
        Descriptor->u.Interrupt.Level = Function->InterruptLine;
        Descriptor->u.Interrupt.Vector = Function->InterruptLine;
        Descriptor->u.Interrupt.Affinity = ~(KAFFINITY)0;
    } else {
        Descriptor->u.Interrupt.Level = KiIrqlOfVector(Function->LineVector);
        Descriptor->u.Interrupt.Vector = Function->LineVector;
        Descriptor->u.Interrupt.Affinity = IOP_INTERRUPT_AFFINITY;
    }
}

static VOID IopDescribeMessage(const IOP_MESSAGES *Messages, ULONG Number, IOP_RESOURCE_VIEW View,
                               PCM_PARTIAL_RESOURCE_DESCRIPTOR Descriptor)
{
    const ULONG Vector = Messages->FirstVector + Number;
    Descriptor->ShareDisposition = CmResourceShareDeviceExclusive;
    Descriptor->Flags = CM_RESOURCE_INTERRUPT_LATCHED | CM_RESOURCE_INTERRUPT_MESSAGE;
    if (View == IopResourcesRaw) {
        Descriptor->u.MessageInterrupt.Raw.MessageCount =
            (USHORT)(Messages->Kind == IopMsix ? 1 : Messages->Count);
        Descriptor->u.MessageInterrupt.Raw.Vector = Vector;
        Descriptor->u.MessageInterrupt.Raw.Affinity = IopAffinityOfVector(Vector);
    } else {
        Descriptor->u.MessageInterrupt.Translated.Level = KiIrqlOfVector(Vector);
        Descriptor->u.MessageInterrupt.Translated.Vector = Vector;
        Descriptor->u.MessageInterrupt.Translated.Affinity = IopAffinityOfVector(Vector);
    }
}

static VOID IopDescribeInterrupt(const IO_PCI_FUNCTION *Function, ULONG Number,
                                 IOP_RESOURCE_VIEW View, PCM_PARTIAL_RESOURCE_DESCRIPTOR Descriptor)
{
    Descriptor->Type = CmResourceTypeInterrupt;
    if (IopUsesMessages(Function)) {
        IopDescribeMessage(Function->Messages, Number, View, Descriptor);
    } else {
        IopDescribeLineInterrupt(Function, View, Descriptor);
    }
}

//
// The list.
//

static PCM_RESOURCE_LIST IopAllocateResourceList(const IO_PCI_FUNCTION *Function, ULONG Count)
{
    PCM_RESOURCE_LIST Resources = ExAllocatePool2(
        POOL_FLAG_NON_PAGED,
        (SIZE_T)FIELD_OFFSET(CM_RESOURCE_LIST, List[0].PartialResourceList.PartialDescriptors) +
            Count * sizeof(CM_PARTIAL_RESOURCE_DESCRIPTOR),
        IOP_TAG);
    if (Resources != NULL) {
        Resources->Count = 1;
        Resources->List[0].InterfaceType = PCIBus;
        Resources->List[0].BusNumber = Function->Bus;
        Resources->List[0].PartialResourceList.Version = 1;
        Resources->List[0].PartialResourceList.Revision = 1;
    }
    return Resources;
}

NTSTATUS IopBuildResourceList(const IO_PCI_FUNCTION *Function, IOP_RESOURCE_VIEW View,
                              PCM_RESOURCE_LIST *List)
{
    const ULONG InterruptCount = IopCountInterrupts(Function);
    const ULONG Count = IopCountUsableBars(Function) + InterruptCount;
    *List = NULL;
    if (Count == 0) {
        return STATUS_SUCCESS;
    }
    PCM_RESOURCE_LIST Resources = IopAllocateResourceList(Function, Count);
    if (Resources == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    PCM_PARTIAL_RESOURCE_LIST Partial = &Resources->List[0].PartialResourceList;
    for (ULONG Index = 0; Index < ARRAYSIZE(Function->Bars); Index += 1) {
        if (IopIsUsable(&Function->Bars[Index])) {
            IopDescribeBar(&Function->Bars[Index], &Partial->PartialDescriptors[Partial->Count++]);
        }
    }
    for (ULONG Number = 0; Number < InterruptCount; Number += 1) {
        IopDescribeInterrupt(Function, Number, View,
                             &Partial->PartialDescriptors[Partial->Count++]);
    }
    *List = Resources;
    return STATUS_SUCCESS;
}
