// Messages: how a PCI function interrupts by writing to memory, without a line.
//
//   MSI     One address and one value in configuration space. Message n adds n to the value, so the
//           vectors lie side by side, and their number is a power of two.
//   MSI-X   A table in one of the function's base address registers, with address, value and mask of
//           each message.
//
// A function keeps its vectors once it has them. They are programmed when the bus driver starts the
// device, before its driver does: some devices (QEMU's NVMe) look at the table only then. Each
// message is masked until a driver connects to it, where the function can mask at all. Messages and
// the line exclude each other.
//
// Lock: a function's MessageLock, with interrupts off, for the mask bits of MSI, which share one
// register. Everything else is changed only while nothing is connected.
#include "kernel/io/iop.h"

#define CAPABILITY_MSI 0x05
#define CAPABILITY_MSIX 0x11
#define CAPABILITY_BYTES_MASK 0xFC
#define CAPABILITY_MAXIMUM 48 // as many as fit, and a bound for lists that lead in a circle
#define STATUS_CAPABILITIES 0x0010

#define MSI_CONTROL 2 // offsets in the capability
#define MSI_ADDRESS 4
#define MSI_UPPER_ADDRESS 8 // 64-bit functions have it, and everything behind moves by 4
#define MSI_DATA 8
#define MSI_MASK 12
#define MSI_64BIT_SHIFT 4
#define MSI_ENABLE 0x0001
#define MSI_CAPABLE(Control) (1u << ((Control) >> 1 & 7)) // messages that the function can send
#define MSI_COUNT_MASK 0x0070
#define MSI_COUNT_SHIFT 4
#define MSI_64BIT 0x0080
#define MSI_MASKABLE 0x0100

#define MSIX_CONTROL 2
#define MSIX_TABLE 4
#define MSIX_TABLE_SIZE(Control) (((Control)&0x07FF) + 1u)
#define MSIX_FUNCTION_MASK 0x4000
#define MSIX_ENABLE 0x8000
#define MSIX_BIR(Table) ((Table)&7)
#define MSIX_OFFSET(Table) ((Table) & ~7u)

typedef struct _IOP_MSIX_ENTRY {
    ULONG AddressLow;
    ULONG AddressHigh;
    ULONG Data;
    ULONG Control;
} IOP_MSIX_ENTRY;

#define MSIX_ENTRY_MASKED 1u

C_ASSERT(sizeof(IOP_MSIX_ENTRY) == 16);

//
// Capabilities.
//

ULONG IopFindCapability(const IO_PCI_FUNCTION *Function, UCHAR Id)
{
    const USHORT Status =
        IopReadPciUshort(Function, (ULONG)FIELD_OFFSET(PCI_COMMON_HEADER, Status));
    if (!(Status & STATUS_CAPABILITIES) || Function->HeaderType == PCI_CARDBUS_BRIDGE_TYPE) {
        return 0;
    }
    ULONG Offset =
        IopReadPciUshort(Function, (ULONG)FIELD_OFFSET(PCI_COMMON_HEADER, u.type0.CapabilitiesPtr));
    for (ULONG Count = 0; Count < CAPABILITY_MAXIMUM; Count += 1) {
        Offset &= CAPABILITY_BYTES_MASK;
        if (Offset < sizeof(PCI_COMMON_HEADER)) {
            return 0;
        }
        const USHORT Header = IopReadPciUshort(Function, Offset);
        if ((UCHAR)Header == Id) {
            return Offset;
        }
        Offset = Header >> 8;
    }
    return 0;
}

VOID IopDisableMessages(PIO_PCI_FUNCTION Function)
{
    const ULONG Msi = IopFindCapability(Function, CAPABILITY_MSI);
    const ULONG Msix = IopFindCapability(Function, CAPABILITY_MSIX);
    if (Msi != 0) {
        IopChangePciUshort(Function, Msi + MSI_CONTROL, MSI_ENABLE, 0);
    }
    if (Msix != 0) {
        IopChangePciUshort(Function, Msix + MSIX_CONTROL, MSIX_ENABLE, 0);
    }
    if (Function->Messages != NULL && Function->Messages->Table != NULL) {
        MmUnmapIoSpace((PVOID)Function->Messages->Table, Function->Messages->TableBytes);
        Function->Messages->Table = NULL;
    }
}

//
// Masks.
//

static PIOP_MESSAGES IopMessagesOf(const KI_INTERRUPT_SOURCE *Source)
{
    return ((PIO_PCI_FUNCTION)Source->Context)->Messages;
}

// The bits of MaskBits for the reset's sake: the table forgets. Each entry has its own register, but the
// bits do not.
static VOID IopNoteMasked(PIOP_MESSAGES Messages, ULONG Number, BOOLEAN IsMasked)
{
    if (IsMasked) {
        (VOID) __atomic_fetch_or(&Messages->MaskBits, 1u << Number, __ATOMIC_RELAXED);
    } else {
        (VOID) __atomic_fetch_and(&Messages->MaskBits, ~(1u << Number), __ATOMIC_RELAXED);
    }
}

static VOID IopSetMsixMasked(const KI_INTERRUPT_SOURCE *Source, BOOLEAN IsMasked)
{
    volatile IOP_MSIX_ENTRY *Table = IopMessagesOf(Source)->Table;
    IopNoteMasked(IopMessagesOf(Source), Source->Number, IsMasked);
    if (Table != NULL) {
        WRITE_REGISTER_ULONG(&Table[Source->Number].Control, IsMasked ? MSIX_ENTRY_MASKED : 0);
    }
}

static ULONG IopMsiMaskOffset(const IOP_MESSAGES *Messages)
{
    return Messages->Capability + MSI_MASK + (Messages->Is64Bit ? MSI_64BIT_SHIFT : 0);
}

static VOID IopSetMsiMasked(const KI_INTERRUPT_SOURCE *Source, BOOLEAN IsMasked)
{
    const PIOP_MESSAGES Messages = IopMessagesOf(Source);
    const BOOLEAN WereOn = KeArchDisableInterrupts();
    KeAcquireSpinLockAtDpcLevel(&Messages->MaskLock);
    Messages->MaskBits &= ~(1u << Source->Number);
    Messages->MaskBits |= (ULONG)IsMasked << Source->Number;
    IopWritePciUlong(Source->Context, IopMsiMaskOffset(Messages), Messages->MaskBits);
    KeReleaseSpinLockFromDpcLevel(&Messages->MaskLock);
    KeArchRestoreInterrupts(WereOn);
}

//
// Vectors.
//

// What the function offers, and how to reach it.
static BOOLEAN IopFindMsix(const IO_PCI_FUNCTION *Function, PIOP_MESSAGES Messages)
{
    Messages->Capability = IopFindCapability(Function, CAPABILITY_MSIX);
    if (Messages->Capability == 0) {
        return FALSE;
    }
    const ULONG Table = IopReadPciUlong(Function, Messages->Capability + MSIX_TABLE);
    const ULONG TableSize =
        MSIX_TABLE_SIZE(IopReadPciUshort(Function, Messages->Capability + MSIX_CONTROL));
    Messages->TableBytes = TableSize * sizeof(IOP_MSIX_ENTRY);
    const IO_PCI_BAR *Bar = &Function->Bars[MSIX_BIR(Table) % PCI_TYPE0_ADDRESSES];
    if (Bar->IsPort || (Bar->State != IoBarAssigned && Bar->State != IoBarPlaced) ||
        MSIX_OFFSET(Table) > Bar->ByteCount ||
        Messages->TableBytes > Bar->ByteCount - MSIX_OFFSET(Table)) {
        return FALSE;
    }
    Messages->TableAddress = Bar->Base + MSIX_OFFSET(Table);
    Messages->Kind = IopMsix;
    Messages->Count = TableSize;
    return TRUE;
}

static BOOLEAN IopFindMsi(const IO_PCI_FUNCTION *Function, PIOP_MESSAGES Messages)
{
    Messages->Capability = IopFindCapability(Function, CAPABILITY_MSI);
    if (Messages->Capability == 0) {
        return FALSE;
    }
    const USHORT Control = IopReadPciUshort(Function, Messages->Capability + MSI_CONTROL);
    Messages->Is64Bit = (Control & MSI_64BIT) != 0;
    Messages->IsMaskable = (Control & MSI_MASKABLE) != 0;
    Messages->Kind = IopMsi;
    Messages->Count = MSI_CAPABLE(Control);
    return TRUE;
}

// Messages of MSI share one address, and so one processor. Of MSI-X the first message, the device's own
// affairs as a rule, goes to the first processor, and so does the second; the others go round: a driver with
// a queue for each processor has message n + 1 for that of processor n.
static ULONG IopProcessorOfMessage(const IOP_MESSAGES *Messages, ULONG Number)
{
    if (Messages->Kind != IopMsix || Number == 0) {
        return 0;
    }
    const ULONG Processor = (Number - 1) % (ULONG)KeNumberProcessors;
    return KeArchCanReceiveMessages(Processor) ? Processor : 0;
}

static VOID IopSetMessageSource(PIO_PCI_FUNCTION Function, ULONG Number)
{
    const PIOP_MESSAGES Messages = Function->Messages;
    const PKI_INTERRUPT_SOURCE Source = &Messages->Sources[Number];
    *Source = (KI_INTERRUPT_SOURCE){
        .SetMasked = Messages->Kind == IopMsix ? IopSetMsixMasked
                     : Messages->IsMaskable    ? IopSetMsiMasked
                                               : NULL,
        .Context = Function,
        .Number = Number,
        .Processor = IopProcessorOfMessage(Messages, Number),
        .Mode = Latched,
        .Polarity = InterruptRisingEdge,
    };
    KiSetVectorSource(Messages->FirstVector + Number, Source);
}

// The largest power of two that is not above Count.
static ULONG IopRoundDownToPower(ULONG Count)
{
    return 1u << (31 - (ULONG)__builtin_clz(Count));
}

// As many of the messages as there are vectors for, by halves.
static BOOLEAN IopReserveMessages(PIOP_MESSAGES Messages, ULONG Limit)
{
    ULONG Count = Messages->Count < Limit ? Messages->Count : Limit;
    for (Count = IopRoundDownToPower(Count); Count > 0; Count /= 2) {
        Messages->FirstVector = KiReserveVectors(KiVectorsForMessages, Count);
        if (Messages->FirstVector != 0) {
            Messages->Count = Count;
            return TRUE;
        }
    }
    return FALSE;
}

BOOLEAN IopAssignMessages(PIO_PCI_FUNCTION Function, ULONG Limit)
{
    if (Function->Messages != NULL) {
        return TRUE;
    }
    PIOP_MESSAGES Messages = ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(*Messages), IOP_TAG);
    if (Messages == NULL) {
        return FALSE;
    }
    if ((!IopFindMsix(Function, Messages) && !IopFindMsi(Function, Messages)) ||
        !IopReserveMessages(Messages, Limit)) {
        ExFreePoolWithTag(Messages, IOP_TAG);
        return FALSE;
    }
    Function->Messages = Messages;
    for (ULONG Number = 0; Number < Messages->Count; Number += 1) {
        IopSetMessageSource(Function, Number);
    }
    return TRUE;
}

//
// Programming.
//

static VOID IopWriteMsixEntry(volatile IOP_MSIX_ENTRY *Entry, ULONG Vector, ULONG Processor)
{
    const KE_MESSAGE Message = KeArchMakeMessage(Vector, Processor);
    WRITE_REGISTER_ULONG(&Entry->AddressLow, (ULONG)Message.Address);
    WRITE_REGISTER_ULONG(&Entry->AddressHigh, (ULONG)(Message.Address >> 32));
    WRITE_REGISTER_ULONG(&Entry->Data, Message.Data);
}

static NTSTATUS IopEnableMsix(const IO_PCI_FUNCTION *Function)
{
    const PIOP_MESSAGES Messages = Function->Messages;
    PHYSICAL_ADDRESS Address;
    Address.QuadPart = (LONGLONG)Messages->TableAddress;
    volatile IOP_MSIX_ENTRY *Table = Messages->Table; // a device that is started once more has it
    if (Table == NULL) {
        Table = MmMapIoSpaceEx(Address, Messages->TableBytes, PAGE_READWRITE | PAGE_NOCACHE);
    }
    if (Table == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    for (ULONG Entry = 0; Entry < Messages->TableBytes / sizeof(*Table); Entry += 1) {
        WRITE_REGISTER_ULONG(&Table[Entry].Control, MSIX_ENTRY_MASKED);
    }
    for (ULONG Entry = 0; Entry < Messages->Count; Entry += 1) {
        IopWriteMsixEntry(&Table[Entry], Messages->FirstVector + Entry,
                          Messages->Sources[Entry].Processor);
    }
    Messages->Table = Table;
    Messages->MaskBits = MAXULONG;
    IopChangePciUshort(Function, Messages->Capability + MSIX_CONTROL, MSIX_FUNCTION_MASK,
                       MSIX_ENABLE);
    return STATUS_SUCCESS;
}

static VOID IopEnableMsi(const IO_PCI_FUNCTION *Function)
{
    const PIOP_MESSAGES Messages = Function->Messages;
    const KE_MESSAGE Message = KeArchMakeMessage(Messages->FirstVector, 0);
    const ULONG Wide = Messages->Is64Bit ? MSI_64BIT_SHIFT : 0;
    IopWritePciUlong(Function, Messages->Capability + MSI_ADDRESS, (ULONG)Message.Address);
    if (Messages->Is64Bit) {
        IopWritePciUlong(Function, Messages->Capability + MSI_UPPER_ADDRESS,
                         (ULONG)(Message.Address >> 32));
    }
    IopWritePciUshort(Function, Messages->Capability + MSI_DATA + Wide, (USHORT)Message.Data);
    if (Messages->IsMaskable) {
        Messages->MaskBits = MAXULONG;
        IopWritePciUlong(Function, IopMsiMaskOffset(Messages), Messages->MaskBits);
    }
    const ULONG CountField = (ULONG)__builtin_ctz(Messages->Count) << MSI_COUNT_SHIFT;
    IopChangePciUshort(Function, Messages->Capability + MSI_CONTROL, MSI_COUNT_MASK,
                       (USHORT)(CountField | MSI_ENABLE));
}

NTSTATUS IopEnableMessages(PIO_PCI_FUNCTION Function)
{
    if (Function->Messages->Kind == IopMsix) {
        return IopEnableMsix(Function);
    }
    IopEnableMsi(Function);
    return STATUS_SUCCESS;
}

//
// After a reset of the function, which clears everything that was programmed, and masks all.
//

NTSTATUS IopRestoreMessages(PIO_PCI_FUNCTION Function)
{
    const ULONG Masked = Function->Messages->MaskBits;
    const NTSTATUS Status = IopEnableMessages(Function);
    for (ULONG Number = 0; NT_SUCCESS(Status) && Number < Function->Messages->Count; Number += 1) {
        const KI_INTERRUPT_SOURCE *Source = &Function->Messages->Sources[Number];
        if (Source->SetMasked != NULL && (Masked & 1u << Number) == 0) {
            Source->SetMasked(Source, FALSE);
        }
    }
    return Status;
}
