// PCI configuration space, by one of two ways.
//
//   ECAM    A window of device memory, named by the ACPI table MCFG, with 4 KiB for each function:
//           base + (bus << 20 | device << 15 | function << 12 | offset).
//   ports   An address written to 0xCF8 selects the four bytes that 0xCFC shows. Segment 0 only,
//           256 bytes for each function. Used for every bus that no window covers.
//
// Invariant:
//   G1  The address and the data access of a port pair are not separated: IopPortLock is held with
//       IRQL at HIGH_LEVEL, because drivers may read configuration space at any IRQL.
// The windows are written once, at the start, and read without a lock.
#include "kernel/io/iop.h"

#define PCI_ADDRESS_PORT ((PULONG)0xCF8)
#define PCI_DATA_PORT 0xCFC
#define PCI_ADDRESS_ENABLE 0x80000000u // what goes to the address port, with the bits below
#define PCI_ADDRESS_BUS_SHIFT 16
#define PCI_ADDRESS_DEVICE_SHIFT 11
#define PCI_ADDRESS_FUNCTION_SHIFT 8

#define PCI_PORT_CONFIG_BYTES 256
#define PCI_ECAM_CONFIG_BYTES 4096
#define PCI_ECAM_BUS_SHIFT 20
#define PCI_ECAM_DEVICE_SHIFT 15
#define PCI_ECAM_FUNCTION_SHIFT 12

#define IOP_MAXIMUM_ECAM_WINDOWS 4

typedef struct __attribute__((packed)) _ACPI_MCFG_ENTRY {
    ULONG64 BaseAddress; // of bus 0, even when FirstBus is another
    USHORT Segment;
    UCHAR FirstBus;
    UCHAR LastBus;
    ULONG Reserved;
} ACPI_MCFG_ENTRY;

typedef struct __attribute__((packed)) _ACPI_MCFG {
    ACPI_HEADER Header;
    ULONG64 Reserved;
    ACPI_MCFG_ENTRY Entries[];
} ACPI_MCFG;

C_ASSERT(sizeof(ACPI_MCFG_ENTRY) == 16 && sizeof(ACPI_MCFG) == 44);

typedef struct _IOP_ECAM_WINDOW {
    PUCHAR Va; // of FirstBus
    PMM_CLAIM Claim;
    USHORT Segment;
    UCHAR FirstBus;
    UCHAR LastBus;
} IOP_ECAM_WINDOW;

static IOP_ECAM_WINDOW IopWindows[IOP_MAXIMUM_ECAM_WINDOWS];
static ULONG IopWindowCount;
static KSPIN_LOCK IopPortLock;

//
// Finding the windows.
//

static VOID IopSayWindowRefused(const ACPI_MCFG_ENTRY *Entry)
{
    CHAR Reason[160];
    MmDescribeLastRefusal(Reason, sizeof(Reason));
    DbgPrint("pci: the configuration window of segment %u, buses %u to %u, cannot be used: %s\n",
             Entry->Segment, Entry->FirstBus, Entry->LastBus, Reason);
}

static VOID IopMapWindow(const ACPI_MCFG_ENTRY *Entry)
{
    const ULONG64 ByteCount = ((ULONG64)Entry->LastBus - Entry->FirstBus + 1) << PCI_ECAM_BUS_SHIFT;
    PHYSICAL_ADDRESS Base;
    Base.QuadPart =
        (LONGLONG)(Entry->BaseAddress + ((ULONG64)Entry->FirstBus << PCI_ECAM_BUS_SHIFT));
    PMM_CLAIM Claim;
    if (!NT_SUCCESS(
            MmClaimPhysicalRange(Base, ByteCount, MmClaimFirmware, "PCI configuration", &Claim))) {
        IopSayWindowRefused(Entry);
        return;
    }
    PUCHAR Va = MmMapIoSpaceEx(Base, ByteCount, PAGE_READWRITE | PAGE_NOCACHE);
    if (Va == NULL) {
        IopSayWindowRefused(Entry);
        MmReleasePhysicalRange(Claim);
        return;
    }
    IopWindows[IopWindowCount++] =
        (IOP_ECAM_WINDOW){Va, Claim, Entry->Segment, Entry->FirstBus, Entry->LastBus};
    DbgPrint("pci: segment %u, buses %u to %u: configuration window at 0x%llx, mapped at 0x%p\n",
             Entry->Segment, Entry->FirstBus, Entry->LastBus, Base.QuadPart, Va);
}

static VOID IopMapWindows(const ACPI_MCFG *Mcfg)
{
    const ULONG EntryCount =
        Mcfg->Header.Length < sizeof(*Mcfg)
            ? 0
            : (ULONG)((Mcfg->Header.Length - sizeof(*Mcfg)) / sizeof(ACPI_MCFG_ENTRY));
    for (ULONG Index = 0; Index < EntryCount; Index += 1) {
        const ACPI_MCFG_ENTRY Entry = Mcfg->Entries[Index];
        if (Entry.LastBus < Entry.FirstBus || IopWindowCount == IOP_MAXIMUM_ECAM_WINDOWS) {
            DbgPrint("pci: entry %u of MCFG is ignored\n", Index);
            continue;
        }
        IopMapWindow(&Entry);
    }
}

VOID IopInitializePciConfig(VOID)
{
    KeInitializeSpinLock(&IopPortLock);
    const ACPI_HEADER *Mcfg = IopMapAcpiTable("MCFG");
    if (Mcfg != NULL) {
        IopMapWindows((const ACPI_MCFG *)Mcfg);
        IopUnmapAcpiTable(Mcfg);
    }
    if (IopWindowCount == 0) {
        DbgPrint("pci: no configuration window; using ports 0xCF8 and 0xCFC\n");
    }
}

BOOLEAN IopPciRootBus(ULONG Index, PUSHORT Segment, PUCHAR Bus)
{
    const BOOLEAN UsesPorts = IopWindowCount == 0;
    if (Index >= (UsesPorts ? 1 : IopWindowCount)) {
        return FALSE;
    }
    *Segment = UsesPorts ? 0 : IopWindows[Index].Segment;
    *Bus = UsesPorts ? 0 : IopWindows[Index].FirstBus;
    return TRUE;
}

//
// Single accesses of 1, 2 or 4 bytes, naturally aligned. A write takes *Value, a read stores it.
//

typedef enum _IOP_DIRECTION { IopRead, IopWrite } IOP_DIRECTION;

static PUCHAR IopFindInWindow(IOP_PCI_ADDRESS Address, ULONG Offset)
{
    for (ULONG Index = 0; Index < IopWindowCount; Index += 1) {
        const IOP_ECAM_WINDOW *Window = &IopWindows[Index];
        if (Window->Segment == Address.Segment && Address.Bus >= Window->FirstBus &&
            Address.Bus <= Window->LastBus) {
            return Window->Va + ((SIZE_T)(Address.Bus - Window->FirstBus) << PCI_ECAM_BUS_SHIFT) +
                   ((SIZE_T)Address.Device << PCI_ECAM_DEVICE_SHIFT) +
                   ((SIZE_T)Address.Function << PCI_ECAM_FUNCTION_SHIFT) + Offset;
        }
    }
    return NULL;
}

// Width is 1, 2 or 4; nothing else reaches these four.
static ULONG IopReadWindow(PUCHAR Register, ULONG Width)
{
    switch (Width) {
    case sizeof(UCHAR):
        return READ_REGISTER_UCHAR(Register);
    case sizeof(USHORT):
        return READ_REGISTER_USHORT((PUSHORT)Register);
    default:
        return READ_REGISTER_ULONG((PULONG)Register);
    }
}

static VOID IopWriteWindow(PUCHAR Register, ULONG Width, ULONG Value)
{
    switch (Width) {
    case sizeof(UCHAR):
        WRITE_REGISTER_UCHAR(Register, (UCHAR)Value);
        break;
    case sizeof(USHORT):
        WRITE_REGISTER_USHORT((PUSHORT)Register, (USHORT)Value);
        break;
    default:
        WRITE_REGISTER_ULONG((PULONG)Register, Value);
        break;
    }
}

static ULONG IopReadDataPort(ULONG_PTR Port, ULONG Width)
{
    switch (Width) {
    case sizeof(UCHAR):
        return READ_PORT_UCHAR((PUCHAR)Port);
    case sizeof(USHORT):
        return READ_PORT_USHORT((PUSHORT)Port);
    default:
        return READ_PORT_ULONG((PULONG)Port);
    }
}

static VOID IopWriteDataPort(ULONG_PTR Port, ULONG Width, ULONG Value)
{
    switch (Width) {
    case sizeof(UCHAR):
        WRITE_PORT_UCHAR((PUCHAR)Port, (UCHAR)Value);
        break;
    case sizeof(USHORT):
        WRITE_PORT_USHORT((PUSHORT)Port, (USHORT)Value);
        break;
    default:
        WRITE_PORT_ULONG((PULONG)Port, Value);
        break;
    }
}

static VOID IopAccessPorts(IOP_PCI_ADDRESS Address, ULONG Offset, ULONG Width,
                           IOP_DIRECTION Direction, PULONG Value)
{
    const ULONG Selector = PCI_ADDRESS_ENABLE | ((ULONG)Address.Bus << PCI_ADDRESS_BUS_SHIFT) |
                           ((ULONG)Address.Device << PCI_ADDRESS_DEVICE_SHIFT) |
                           ((ULONG)Address.Function << PCI_ADDRESS_FUNCTION_SHIFT) | (Offset & ~3u);
    const KIRQL OldIrql = KfRaiseIrql(HIGH_LEVEL);
    KeAcquireSpinLockAtDpcLevel(&IopPortLock);
    WRITE_PORT_ULONG(PCI_ADDRESS_PORT, Selector);
    if (Direction == IopRead) {
        *Value = IopReadDataPort(PCI_DATA_PORT + (Offset & 3), Width);
    } else {
        IopWriteDataPort(PCI_DATA_PORT + (Offset & 3), Width, *Value);
    }
    KeReleaseSpinLockFromDpcLevel(&IopPortLock);
    KeLowerIrql(OldIrql);
}

static VOID IopAccessConfig(IOP_PCI_ADDRESS Address, ULONG Offset, ULONG Width,
                            IOP_DIRECTION Direction, PULONG Value)
{
    PUCHAR Register = IopFindInWindow(Address, Offset);
    if (Register == NULL) {
        IopAccessPorts(Address, Offset, Width, Direction, Value);
    } else if (Direction == IopRead) {
        *Value = IopReadWindow(Register, Width);
    } else {
        IopWriteWindow(Register, Width, *Value);
    }
}

//
// Transfers of any length.
//

// Bytes of configuration space that a function of this bus can have; 0: no way there.
static ULONG IopConfigByteCount(IOP_PCI_ADDRESS Address)
{
    if (IopFindInWindow(Address, 0) != NULL) {
        return PCI_ECAM_CONFIG_BYTES;
    }
    return Address.Segment == 0 ? PCI_PORT_CONFIG_BYTES : 0;
}

// The widest access at Offset that touches no byte beyond Length.
static ULONG IopWidthAt(ULONG Offset, ULONG Length)
{
    if (Offset % 4 == 0 && Length >= 4) {
        return 4;
    }
    return Offset % 2 == 0 && Length >= 2 ? 2 : 1;
}

static ULONG IopTransferConfig(IOP_PCI_ADDRESS Address, ULONG Offset, PUCHAR Buffer, ULONG Length,
                               IOP_DIRECTION Direction)
{
    const ULONG End = IopConfigByteCount(Address);
    if (Offset >= End) {
        return 0;
    }
    const ULONG Total = Length < End - Offset ? Length : End - Offset;
    ULONG Width;
    for (ULONG Done = 0; Done < Total; Done += Width) {
        ULONG Value = 0;
        Width = IopWidthAt(Offset + Done, Total - Done);
        if (Direction == IopWrite) {
            RtlCopyMemory(&Value, Buffer + Done, Width);
        }
        IopAccessConfig(Address, Offset + Done, Width, Direction, &Value);
        if (Direction == IopRead) {
            RtlCopyMemory(Buffer + Done, &Value, Width);
        }
    }
    return Total;
}

ULONG IopReadPciConfig(IOP_PCI_ADDRESS Address, ULONG Offset, PVOID Buffer, ULONG Length)
{
    return IopTransferConfig(Address, Offset, Buffer, Length, IopRead);
}

ULONG IopWritePciConfig(IOP_PCI_ADDRESS Address, ULONG Offset, const VOID *Buffer, ULONG Length)
{
    return IopTransferConfig(Address, Offset, (PUCHAR)(ULONG_PTR)Buffer, Length, IopWrite);
}

USHORT IopReadPciUshort(const IO_PCI_FUNCTION *Function, ULONG Offset)
{
    USHORT Value = MAXUSHORT;
    IopReadPciConfig(IopPciAddress(Function), Offset, &Value, sizeof(Value));
    return Value;
}

ULONG IopReadPciUlong(const IO_PCI_FUNCTION *Function, ULONG Offset)
{
    ULONG Value = MAXULONG;
    IopReadPciConfig(IopPciAddress(Function), Offset, &Value, sizeof(Value));
    return Value;
}

VOID IopWritePciUshort(const IO_PCI_FUNCTION *Function, ULONG Offset, USHORT Value)
{
    IopWritePciConfig(IopPciAddress(Function), Offset, &Value, sizeof(Value));
}

VOID IopChangePciUshort(const IO_PCI_FUNCTION *Function, ULONG Offset, USHORT Clear, USHORT Set)
{
    const USHORT Value = IopReadPciUshort(Function, Offset);
    IopWritePciUshort(Function, Offset, (USHORT)((Value & ~Clear) | Set));
}

VOID IopWritePciUlong(const IO_PCI_FUNCTION *Function, ULONG Offset, ULONG Value)
{
    IopWritePciConfig(IopPciAddress(Function), Offset, &Value, sizeof(Value));
}

//
// NT's routines by bus and slot.
//

static BOOLEAN IopAddressFromSlot(BUS_DATA_TYPE BusDataType, ULONG BusNumber, ULONG SlotNumber,
                                  IOP_PCI_ADDRESS *Address)
{
    const PCI_SLOT_NUMBER Slot = {.u.AsULONG = SlotNumber};
    *Address = (IOP_PCI_ADDRESS){.Segment = (USHORT)(BusNumber >> 8),
                                 .Bus = (UCHAR)BusNumber,
                                 .Device = (UCHAR)Slot.u.bits.DeviceNumber,
                                 .Function = (UCHAR)Slot.u.bits.FunctionNumber};
    return BusDataType == PCIConfiguration && BusNumber >> 24 == 0;
}

static BOOLEAN IopIsSlotEmpty(IOP_PCI_ADDRESS Address)
{
    USHORT VendorId = PCI_INVALID_VENDORID;
    IopReadPciConfig(Address, FIELD_OFFSET(PCI_COMMON_HEADER, VendorID), &VendorId,
                     sizeof(VendorId));
    return VendorId == PCI_INVALID_VENDORID;
}

ULONG NTAPI HalGetBusDataByOffset(BUS_DATA_TYPE BusDataType, ULONG BusNumber, ULONG SlotNumber,
                                  PVOID Buffer, ULONG Offset, ULONG Length)
{
    IOP_PCI_ADDRESS Address;
    const USHORT NoVendor = PCI_INVALID_VENDORID;
    if (!IopAddressFromSlot(BusDataType, BusNumber, SlotNumber, &Address) ||
        IopConfigByteCount(Address) == 0) {
        return 0;
    }
    if (IopIsSlotEmpty(Address)) {
        RtlCopyMemory(Buffer, &NoVendor, Length < sizeof(NoVendor) ? Length : sizeof(NoVendor));
        return Length < sizeof(NoVendor) ? Length : sizeof(NoVendor);
    }
    return IopReadPciConfig(Address, Offset, Buffer, Length);
}

ULONG NTAPI HalSetBusDataByOffset(BUS_DATA_TYPE BusDataType, ULONG BusNumber, ULONG SlotNumber,
                                  PVOID Buffer, ULONG Offset, ULONG Length)
{
    IOP_PCI_ADDRESS Address;
    if (!IopAddressFromSlot(BusDataType, BusNumber, SlotNumber, &Address) ||
        IopIsSlotEmpty(Address)) {
        return 0;
    }
    return IopWritePciConfig(Address, Offset, Buffer, Length);
}

ULONG NTAPI HalGetBusData(BUS_DATA_TYPE BusDataType, ULONG BusNumber, ULONG SlotNumber,
                          PVOID Buffer, ULONG Length)
{
    return HalGetBusDataByOffset(BusDataType, BusNumber, SlotNumber, Buffer, 0, Length);
}

ULONG NTAPI HalSetBusData(BUS_DATA_TYPE BusDataType, ULONG BusNumber, ULONG SlotNumber,
                          PVOID Buffer, ULONG Length)
{
    return HalSetBusDataByOffset(BusDataType, BusNumber, SlotNumber, Buffer, 0, Length);
}
