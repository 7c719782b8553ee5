// Enumeration of PCI: from each root bus through every bridge that firmware configured.
//
// Each function becomes a physical device object (PDO) of the bus driver, whose extension is the
// IO_PCI_FUNCTION. The list is in order of enumeration and never changes afterwards.
#include "kernel/io/iop.h"

// Deeper than any real machine, and a bound for bridges that lead in a circle.
#define IOP_MAXIMUM_BRIDGE_DEPTH 16

static LIST_ENTRY IopPciFunctions = {&IopPciFunctions, &IopPciFunctions};
static PDRIVER_OBJECT IopPciDriver;

PIO_PCI_FUNCTION IopNextPciFunction(const IO_PCI_FUNCTION *Previous)
{
    PLIST_ENTRY Next = Previous == NULL ? IopPciFunctions.Flink : Previous->Link.Flink;
    return Next == &IopPciFunctions ? NULL : CONTAINING_RECORD(Next, IO_PCI_FUNCTION, Link);
}

const IO_PCI_FUNCTION *IoNextPciFunction(const IO_PCI_FUNCTION *Previous)
{
    return IopNextPciFunction(Previous);
}

VOID IoFormatPciName(const IO_PCI_FUNCTION *Function, PCHAR Buffer, SIZE_T ByteCount)
{
    if (Function->Segment != 0) {
        RtlFormatBuffer(Buffer, ByteCount, "%04x:%02x:%02x.%x", Function->Segment, Function->Bus,
                        Function->Device, Function->Function);
    } else {
        RtlFormatBuffer(Buffer, ByteCount, "%02x:%02x.%x", Function->Bus, Function->Device,
                        Function->Function);
    }
}

typedef struct _IOP_CLASS_NAME {
    UCHAR BaseClass;
    UCHAR SubClass;
    PCSTR Name;
} IOP_CLASS_NAME;

#define IOP_ANY_SUBCLASS 0xFF

// The first row that fits.
static const IOP_CLASS_NAME IopClassNames[] = {
    {0x00, IOP_ANY_SUBCLASS, "device"},
    {0x01, 0x01, "IDE controller"},
    {0x01, 0x06, "SATA controller"},
    {0x01, 0x08, "NVM Express controller"},
    {0x01, IOP_ANY_SUBCLASS, "mass storage controller"},
    {0x02, 0x00, "Ethernet controller"},
    {0x02, IOP_ANY_SUBCLASS, "network controller"},
    {0x03, IOP_ANY_SUBCLASS, "display controller"},
    {0x04, IOP_ANY_SUBCLASS, "multimedia device"},
    {0x05, IOP_ANY_SUBCLASS, "memory controller"},
    {0x06, 0x00, "host bridge"},
    {0x06, 0x01, "ISA bridge"},
    {0x06, 0x04, "PCI bridge"},
    {0x06, IOP_ANY_SUBCLASS, "bridge"},
    {0x0C, 0x03, "USB controller"},
    {0x0C, 0x05, "SMBus controller"},
    {0x0C, IOP_ANY_SUBCLASS, "serial bus controller"},
};

PCSTR IoPciClassName(const IO_PCI_FUNCTION *Function)
{
    for (ULONG Row = 0; Row < ARRAYSIZE(IopClassNames); Row += 1) {
        const IOP_CLASS_NAME *Name = &IopClassNames[Row];
        if (Name->BaseClass == Function->BaseClass &&
            (Name->SubClass == Function->SubClass || Name->SubClass == IOP_ANY_SUBCLASS)) {
            return Name->Name;
        }
    }
    return "device of another class";
}

// Finds out whether there is a function, and makes its device object. NULL: none, or no pool.
static PIO_PCI_FUNCTION IopAddFunction(IOP_PCI_ADDRESS Address, const PCI_COMMON_HEADER *Header,
                                       const IO_PCI_FUNCTION *Bridge)
{
    PDEVICE_OBJECT Pdo;
    if (!NT_SUCCESS(IoCreateDevice(IopPciDriver, sizeof(IO_PCI_FUNCTION), NULL, FILE_DEVICE_UNKNOWN,
                                   0, FALSE, &Pdo))) {
        DbgPrint("pci: no memory for another function\n");
        return NULL;
    }
    PIO_PCI_FUNCTION Function = Pdo->DeviceExtension;
    Function->Pdo = Pdo;
    Function->Bridge = Bridge;
    Function->Segment = Address.Segment;
    Function->Bus = Address.Bus;
    Function->Device = Address.Device;
    Function->Function = Address.Function;
    Function->HeaderType = (UCHAR)PCI_CONFIGURATION_TYPE(Header);
    Function->VendorId = Header->VendorID;
    Function->DeviceId = Header->DeviceID;
    Function->BaseClass = Header->BaseClass;
    Function->SubClass = Header->SubClass;
    Function->ProgIf = Header->ProgIf;
    if (Function->HeaderType == PCI_BRIDGE_TYPE) {
        Function->SecondaryBus = Header->u.type1.SecondaryBus;
    }
    Function->StartStatus = STATUS_NO_SUCH_DEVICE;
    Pdo->Flags |= DO_BUS_ENUMERATED_DEVICE;
    Pdo->Flags &= ~(ULONG)DO_DEVICE_INITIALIZING;
    InsertTailList(&IopPciFunctions, &Function->Link);
    return Function;
}

static BOOLEAN IopReadHeader(IOP_PCI_ADDRESS Address, PPCI_COMMON_HEADER Header)
{
    return IopReadPciConfig(Address, 0, Header, sizeof(*Header)) == sizeof(*Header) &&
           Header->VendorID != PCI_INVALID_VENDORID;
}

static BOOLEAN IopIsBusKnown(USHORT Segment, UCHAR Bus)
{
    for (PIO_PCI_FUNCTION Function = IopNextPciFunction(NULL); Function != NULL;
         Function = IopNextPciFunction(Function)) {
        if (Function->Segment == Segment && Function->Bus == Bus) {
            return TRUE;
        }
    }
    return FALSE;
}

static VOID IopScanBus(USHORT Segment, UCHAR Bus, const IO_PCI_FUNCTION *Bridge, ULONG Depth);

static VOID IopScanBehind(const IO_PCI_FUNCTION *Bridge, ULONG Depth)
{
    if (Bridge->SecondaryBus == 0 || Depth == IOP_MAXIMUM_BRIDGE_DEPTH ||
        IopIsBusKnown(Bridge->Segment, Bridge->SecondaryBus)) {
        CHAR Name[IO_PCI_NAME_BYTES];
        IoFormatPciName(Bridge, Name, sizeof(Name));
        DbgPrint("pci: %s is a bridge to bus %u, which is not looked at\n", Name,
                 Bridge->SecondaryBus);
        return;
    }
    IopScanBus(Bridge->Segment, Bridge->SecondaryBus, Bridge, Depth + 1);
}

static VOID IopScanDevice(IOP_PCI_ADDRESS Address, const IO_PCI_FUNCTION *Bridge, ULONG Depth)
{
    PCI_COMMON_HEADER Header;
    ULONG FunctionCount = 1;
    for (ULONG Number = 0; Number < FunctionCount; Number += 1) {
        Address.Function = (UCHAR)Number;
        if (!IopReadHeader(Address, &Header)) {
            continue;
        }
        if (Number == 0 && (Header.HeaderType & PCI_MULTIFUNCTION) != 0) {
            FunctionCount = IOP_PCI_FUNCTIONS;
        }
        const PIO_PCI_FUNCTION Function = IopAddFunction(Address, &Header, Bridge);
        if (Function != NULL && Function->HeaderType == PCI_BRIDGE_TYPE) {
            IopScanBehind(Function, Depth);
        }
    }
}

static VOID IopScanBus(USHORT Segment, UCHAR Bus, const IO_PCI_FUNCTION *Bridge, ULONG Depth)
{
    for (ULONG Device = 0; Device < IOP_PCI_DEVICES; Device += 1) {
        IopScanDevice((IOP_PCI_ADDRESS){Segment, Bus, (UCHAR)Device, 0}, Bridge, Depth);
    }
}

VOID IopEnumeratePci(VOID)
{
    USHORT Segment;
    UCHAR Bus;
    IopPciDriver = IopCreatePciDriver();
    if (IopPciDriver == NULL) {
        DbgPrint("pci: no memory for the bus driver: there will be no devices\n");
        return;
    }
    for (ULONG Index = 0; IopPciRootBus(Index, &Segment, &Bus); Index += 1) {
        IopScanBus(Segment, Bus, NULL, 0);
    }
    if (IopNextPciFunction(NULL) == NULL) {
        DbgPrint("pci: this machine has no PCI functions\n");
    }
}
