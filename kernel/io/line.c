// Interrupt lines: which I/O APICs there are, and which of their inputs a device's line is.
//
// Firmware's table MADT lists the I/O APICs with their first lines, and says which of the sixteen
// historic ISA lines come in elsewhere, or with another polarity or trigger. Where the pins of PCI
// devices come in is told in AML, which this kernel does not interpret. On the machines that it runs
// on, a pin also comes in on the ISA line that firmware has written into the function's Interrupt Line
// register (i440FX, where it is the only way; ICH9, beside the lines from 16 on), so that is used.
//
// A line gets its vector when the first device with a driver needs it, and keeps it. PCI devices on
// one line share the vector.
#include "kernel/io/iop.h"

#define MADT_IOAPIC 1
#define MADT_OVERRIDE 2

#define OVERRIDE_POLARITY(Flags) ((Flags)&3)
#define OVERRIDE_TRIGGER(Flags) ((Flags) >> 2 & 3)
#define OVERRIDE_HIGH 1
#define OVERRIDE_LOW 3
#define OVERRIDE_EDGE 1
#define OVERRIDE_LEVEL 3

typedef struct __attribute__((packed)) _ACPI_MADT {
    ACPI_HEADER Header;
    ULONG LocalApicAddress;
    ULONG Flags;
} ACPI_MADT;

typedef struct __attribute__((packed)) _ACPI_MADT_ENTRY {
    UCHAR Type;
    UCHAR Length; // in bytes, with these two
    union {
        struct __attribute__((packed)) {
            UCHAR Id;
            UCHAR Reserved;
            ULONG Address;
            ULONG FirstLine;
        } IoApic;
        struct __attribute__((packed)) {
            UCHAR Bus; // 0: ISA
            UCHAR IsaLine;
            ULONG Line;
            USHORT Flags;
        } Override;
    };
} ACPI_MADT_ENTRY;

C_ASSERT(sizeof(ACPI_MADT) == 44 && sizeof(ACPI_MADT_ENTRY) == 12);
#define MADT_IOAPIC_BYTES 12
#define MADT_OVERRIDE_BYTES 10

// The ISA lines.
typedef struct _IOP_ISA_LINE {
    ULONG Line;
    USHORT Flags; // of the override; 0: as usual for the bus
} IOP_ISA_LINE;

#define IOP_ISA_LINES 16
static IOP_ISA_LINE IopIsaLines[IOP_ISA_LINES];

// The lines with a vector.
typedef struct _IOP_LINE {
    KI_INTERRUPT_SOURCE Source;
    ULONG Vector;
} IOP_LINE, *PIOP_LINE;

#define IOP_MAXIMUM_LINES 32 // as many as there are vectors for lines
static IOP_LINE IopLines[IOP_MAXIMUM_LINES];
static ULONG IopLineCount;
static KI_LOCK IopLineLock = KI_LOCK_INITIALIZER(IOP_RANK_LINES, "IopLineLock");

//
// The table.
//

static VOID IopAddIoApic(const ACPI_MADT_ENTRY *Entry)
{
    const ULONG Count = KeArchAddLineController(Entry->IoApic.Address, Entry->IoApic.FirstLine);
    if (Count == 0) {
        DbgPrint("interrupts: the I/O APIC at 0x%x cannot be used\n", Entry->IoApic.Address);
        return;
    }
    DbgPrint("interrupts: I/O APIC at 0x%x, lines %u to %u\n", Entry->IoApic.Address,
             Entry->IoApic.FirstLine, Entry->IoApic.FirstLine + Count - 1);
}

static VOID IopReadMadtEntry(const ACPI_MADT_ENTRY *Entry)
{
    if (Entry->Type == MADT_IOAPIC && Entry->Length >= MADT_IOAPIC_BYTES) {
        IopAddIoApic(Entry);
    } else if (Entry->Type == MADT_OVERRIDE && Entry->Length >= MADT_OVERRIDE_BYTES &&
               Entry->Override.IsaLine < IOP_ISA_LINES) {
        IopIsaLines[Entry->Override.IsaLine] =
            (IOP_ISA_LINE){Entry->Override.Line, Entry->Override.Flags};
    }
}

static VOID IopReadMadt(const ACPI_MADT *Madt)
{
    ULONG Offset = sizeof(*Madt);
    while (Offset + 2 <= Madt->Header.Length) {
        const ACPI_MADT_ENTRY *Entry = (const ACPI_MADT_ENTRY *)((const UCHAR *)Madt + Offset);
        if (Entry->Length < 2 || Entry->Length > Madt->Header.Length - Offset) {
            DbgPrint("interrupts: MADT is damaged at offset 0x%x; the rest is ignored\n", Offset);
            return;
        }
        IopReadMadtEntry(Entry);
        IopReadMadtProcessor(Entry);
        Offset += Entry->Length;
    }
}

VOID IopInitializeLines(VOID)
{
    for (ULONG Number = 0; Number < IOP_ISA_LINES; Number += 1) {
        IopIsaLines[Number] = (IOP_ISA_LINE){Number, 0};
    }
    const ACPI_HEADER *Madt = IopMapAcpiTable("APIC");
    if (Madt == NULL || Madt->Length < sizeof(ACPI_MADT)) {
        DbgPrint("interrupts: no table names an I/O APIC; devices have no interrupt lines\n");
    } else {
        IopReadMadt((const ACPI_MADT *)Madt);
    }
    if (Madt != NULL) {
        IopUnmapAcpiTable(Madt);
    }
}

//
// Lines with vectors.
//

static VOID IopSetLineMasked(const KI_INTERRUPT_SOURCE *Source, BOOLEAN IsMasked)
{
    const KE_LINE_SETTING Setting = {
        .Vector = (UCHAR)CONTAINING_RECORD(Source, IOP_LINE, Source)->Vector,
        .IsLevel = Source->Mode == LevelSensitive,
        .IsActiveLow = Source->Polarity == InterruptActiveLow,
        .IsMasked = IsMasked,
    };
    KeArchSetLine(Source->Number, &Setting);
}

// What the bus is used to, unless firmware says otherwise: ISA edges rise, PCI levels are low.
static VOID IopDescribeLine(const IOP_ISA_LINE *IsaLine, BOOLEAN IsPci, PKI_INTERRUPT_SOURCE Source)
{
    const BOOLEAN IsLevel = OVERRIDE_TRIGGER(IsaLine->Flags) == OVERRIDE_LEVEL ||
                            (OVERRIDE_TRIGGER(IsaLine->Flags) != OVERRIDE_EDGE && IsPci);
    const BOOLEAN IsLow = OVERRIDE_POLARITY(IsaLine->Flags) == OVERRIDE_LOW ||
                          (OVERRIDE_POLARITY(IsaLine->Flags) != OVERRIDE_HIGH && IsPci);
    *Source = (KI_INTERRUPT_SOURCE){
        .SetMasked = IopSetLineMasked,
        .Number = IsaLine->Line,
        .Mode = IsLevel ? LevelSensitive : Latched,
        .Polarity = IsLow ? InterruptActiveLow : InterruptActiveHigh,
    };
}

static PIOP_LINE IopFindLine(ULONG Number)
{
    for (ULONG Index = 0; Index < IopLineCount; Index += 1) {
        if (IopLines[Index].Source.Number == Number) {
            return &IopLines[Index];
        }
    }
    return NULL;
}

static ULONG IopAddLine(const IOP_ISA_LINE *IsaLine, BOOLEAN IsPci)
{
    if (IopLineCount == IOP_MAXIMUM_LINES) {
        return 0;
    }
    PIOP_LINE Line = &IopLines[IopLineCount];
    Line->Vector = KiReserveVectors(KiVectorsForLines, 1);
    if (Line->Vector == 0) {
        return 0;
    }
    IopDescribeLine(IsaLine, IsPci, &Line->Source);
    IopSetLineMasked(&Line->Source, TRUE);
    KiSetVectorSource(Line->Vector, &Line->Source);
    IopLineCount += 1;
    return Line->Vector;
}

ULONG IopGetLineVector(ULONG IsaLine, BOOLEAN IsPci)
{
    if (IsaLine >= IOP_ISA_LINES || !KeArchHasLine(IopIsaLines[IsaLine].Line)) {
        return 0;
    }
    const KIRQL OldIrql = KiAcquireLock(&IopLineLock);
    const IOP_LINE *Line = IopFindLine(IopIsaLines[IsaLine].Line);
    const ULONG Vector = Line != NULL ? Line->Vector : IopAddLine(&IopIsaLines[IsaLine], IsPci);
    KiReleaseLock(&IopLineLock, OldIrql);
    return Vector;
}

ULONG NTAPI HalGetInterruptVector(INTERFACE_TYPE InterfaceType, ULONG BusNumber,
                                  ULONG BusInterruptLevel, ULONG BusInterruptVector, PKIRQL Irql,
                                  PKAFFINITY Affinity)
{
    UNREFERENCED_PARAMETER(BusNumber);
    UNREFERENCED_PARAMETER(BusInterruptVector);
    *Irql = PASSIVE_LEVEL;
    *Affinity = 0;
    if (InterfaceType != Isa && InterfaceType != PCIBus) {
        return 0;
    }
    const ULONG Vector = IopGetLineVector(BusInterruptLevel, InterfaceType == PCIBus);
    if (Vector != 0) {
        *Irql = KiIrqlOfVector(Vector);
        *Affinity = IOP_INTERRUPT_AFFINITY;
    }
    return Vector;
}
