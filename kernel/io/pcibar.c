// Base address registers (BARs): where the registers and memory of a PCI function appear.
//
// First every function's registers are sized, and what firmware assigned is claimed in the
// physical-range allocator under a name like "PCI 00:03.0 BAR0". Then whatever firmware left at
// address 0, or put where it collides with something, is placed in free I/O space: below the fixed
// devices at the top of the low 4 GiB, or, for 64-bit registers, also above 4 GiB; behind a bridge,
// in what the bridge forwards. The boot option `placebars` ignores what firmware assigned, so that
// all memory registers go that way.
//
// Invariants:
//   B1  A memory BAR that is assigned or placed lies in its own claim, or, when it is smaller than
//       a page, in a page whose claim belongs to another BAR, without sharing a byte with it.
//   B2  While a register holds all ones or changes, its function decodes nothing.
#include "kernel/inc/checked.h"
#include "kernel/io/iop.h"

#define IOP_CLAIM_NAME_BYTES 32
#define IOP_REASON_BYTES 160

#define PCI_COMMAND_OFFSET FIELD_OFFSET(PCI_COMMON_HEADER, Command)
#define PCI_BAR_OFFSET(Index)                                                                      \
    ((ULONG)FIELD_OFFSET(PCI_COMMON_HEADER, u.type0.BaseAddresses) + 4 * (ULONG)(Index))
#define PCI_DECODES (PCI_ENABLE_IO_SPACE | PCI_ENABLE_MEMORY_SPACE)

// Where a root bus has room: PC firmware keeps device space in the top half of the low 4 GiB, and
// the interrupt controllers and the firmware's own chip begin at 0xFEC00000.
#define IOP_LOW_WINDOW_FIRST 0x80000000ull
#define IOP_LOW_WINDOW_LAST 0xFEBFFFFFull
#define IOP_HIGH_WINDOW_FIRST 0x100000000ull

// Addresses, both ends included. First > Last: empty.
typedef struct _IOP_WINDOW {
    ULONG64 First;
    ULONG64 Last;
} IOP_WINDOW;

static ULONG IopBarRegisterCount(const IO_PCI_FUNCTION *Function)
{
    switch (Function->HeaderType) {
    case PCI_DEVICE_TYPE:
        return PCI_TYPE0_ADDRESSES;
    case PCI_BRIDGE_TYPE:
        return PCI_TYPE1_ADDRESSES;
    default:
        return 0;
    }
}

static USHORT IopStopDecoding(const IO_PCI_FUNCTION *Function)
{
    const USHORT Command = IopReadPciUshort(Function, PCI_COMMAND_OFFSET);
    IopWritePciUshort(Function, PCI_COMMAND_OFFSET, Command & (USHORT)~PCI_DECODES);
    return Command;
}

static VOID IopResumeDecoding(const IO_PCI_FUNCTION *Function, USHORT Command)
{
    IopWritePciUshort(Function, PCI_COMMAND_OFFSET, Command);
}

//
// Sizing.
//

// The bits that a register keeps when all ones are written: the address bits that count.
static ULONG IopProbeRegister(const IO_PCI_FUNCTION *Function, ULONG Index, ULONG Original)
{
    IopWritePciUlong(Function, PCI_BAR_OFFSET(Index), MAXULONG);
    const ULONG Mask = IopReadPciUlong(Function, PCI_BAR_OFFSET(Index));
    IopWritePciUlong(Function, PCI_BAR_OFFSET(Index), Original);
    return Mask;
}

// Ports have 16 address bits; some functions implement no more than these.
static VOID IopSizePortBar(PIO_PCI_BAR Bar, ULONG Original, ULONG Mask)
{
    const ULONG AddressMask = Mask & PCI_ADDRESS_IO_ADDRESS_MASK & MAXUSHORT;
    Bar->IsPort = TRUE;
    Bar->Base = Original & PCI_ADDRESS_IO_ADDRESS_MASK;
    Bar->ByteCount = AddressMask == 0 ? 0 : AddressMask & (~AddressMask + 1);
}

static VOID IopSizeMemoryBar(PIO_PCI_BAR Bar, ULONG64 Original, ULONG64 Mask)
{
    const ULONG64 AddressMask = Mask & ~(ULONG64)~PCI_ADDRESS_MEMORY_ADDRESS_MASK;
    Bar->IsPrefetchable = (Original & PCI_ADDRESS_MEMORY_PREFETCHABLE) != 0;
    Bar->Base = Original & ~(ULONG64)~PCI_ADDRESS_MEMORY_ADDRESS_MASK;
    // The lowest address bit that can be set is the size.
    Bar->ByteCount = AddressMask & (~AddressMask + 1);
}

// Returns how many registers the BAR takes.
static ULONG IopSizeBar(PIO_PCI_FUNCTION Function, ULONG Index)
{
    PIO_PCI_BAR Bar = &Function->Bars[Index];
    const ULONG Low = IopReadPciUlong(Function, PCI_BAR_OFFSET(Index));
    const ULONG LowMask = IopProbeRegister(Function, Index, Low);
    ULONG RegisterCount = 1;
    if ((Low & PCI_ADDRESS_IO_SPACE) != 0) {
        IopSizePortBar(Bar, Low, LowMask);
    } else if ((Low & PCI_ADDRESS_MEMORY_TYPE_MASK) == PCI_TYPE_64BIT &&
               Index + 1 < IopBarRegisterCount(Function)) {
        const ULONG High = IopReadPciUlong(Function, PCI_BAR_OFFSET(Index + 1));
        const ULONG HighMask = IopProbeRegister(Function, Index + 1, High);
        Bar->Is64Bit = TRUE;
        IopSizeMemoryBar(Bar, ((ULONG64)High << 32) | Low, ((ULONG64)HighMask << 32) | LowMask);
        RegisterCount = 2;
    } else {
        IopSizeMemoryBar(Bar, Low, LowMask);
    }
    Bar->State = Bar->ByteCount == 0 ? IoBarAbsent : IoBarUnusable;
    return RegisterCount;
}

VOID IopSizeBars(PIO_PCI_FUNCTION Function)
{
    const USHORT Command = IopStopDecoding(Function);
    ULONG Index = 0;
    while (Index < IopBarRegisterCount(Function)) {
        Index += IopSizeBar(Function, Index);
    }
    IopResumeDecoding(Function, Command);
}

//
// Claiming what firmware assigned.
//

static VOID IopFormatBarName(const IO_PCI_FUNCTION *Function, ULONG Index, PCHAR Name)
{
    CHAR FunctionName[IO_PCI_NAME_BYTES];
    IoFormatPciName(Function, FunctionName, sizeof(FunctionName));
    RtlFormatBuffer(Name, IOP_CLAIM_NAME_BYTES, "PCI %s BAR%u", FunctionName, Index);
}

static BOOLEAN IopBarHasPlace(const IO_PCI_BAR *Bar)
{
    return Bar->State == IoBarAssigned || Bar->State == IoBarPlaced;
}

static BOOLEAN IopSharesPageOnly(const IO_PCI_BAR *A, const IO_PCI_BAR *B)
{
    return IopBarHasPlace(B) && !B->IsPort && A->Base >> PAGE_SHIFT == B->Base >> PAGE_SHIFT &&
           (A->Base + A->ByteCount <= B->Base || B->Base + B->ByteCount <= A->Base);
}

// Whether a small BAR lies in a page that another BAR has claimed, beside that BAR.
static BOOLEAN IopIsInClaimedPage(const IO_PCI_BAR *Bar)
{
    if (Bar->ByteCount >= PAGE_SIZE) {
        return FALSE;
    }
    for (const IO_PCI_FUNCTION *Other = IoNextPciFunction(NULL); Other != NULL;
         Other = IoNextPciFunction(Other)) {
        for (ULONG Index = 0; Index < ARRAYSIZE(Other->Bars); Index += 1) {
            if (&Other->Bars[Index] != Bar && IopSharesPageOnly(Bar, &Other->Bars[Index])) {
                return TRUE;
            }
        }
    }
    return FALSE;
}

// What firmware itself assigned may lie in what it reserved.
static VOID IopClaimMemoryBar(PIO_PCI_BAR Bar, PCSTR Name)
{
    PHYSICAL_ADDRESS Base;
    Base.QuadPart = (LONGLONG)Bar->Base;
    if (Bar->Base == 0 || KeGetBootOption("placebars", NULL, 0)) {
        return;
    }
    if (IopIsInClaimedPage(Bar)) {
        Bar->State = IoBarAssigned;
        return;
    }
    if (NT_SUCCESS(
            MmClaimPhysicalRange(Base, Bar->ByteCount, MmClaimFirmware, Name, &Bar->Claim))) {
        Bar->State = IoBarAssigned;
        return;
    }
    CHAR Reason[IOP_REASON_BYTES];
    MmDescribeLastRefusal(Reason, sizeof(Reason));
    DbgPrint("pci: %s cannot stay at 0x%llx: %s\n", Name, Bar->Base, Reason);
}

static VOID IopClaimBar(PIO_PCI_FUNCTION Function, ULONG Index)
{
    PIO_PCI_BAR Bar = &Function->Bars[Index];
    CHAR Name[IOP_CLAIM_NAME_BYTES];
    IopFormatBarName(Function, Index, Name);
    if (Bar->IsPort) {
        Bar->State = Bar->Base != 0 ? IoBarAssigned : IoBarUnusable;
    } else {
        IopClaimMemoryBar(Bar, Name);
    }
}

//
// Placing.
//

#define PCI_BRIDGE_MEMORY_UNIT_SHIFT 16 // MemoryBase and MemoryLimit hold address bits 31 to 20
#define PCI_BRIDGE_ADDRESS_BITS 0xFFF0u
#define PCI_BRIDGE_LAST_BYTE 0xFFFFFull

// One of a bridge's windows, from its base and limit registers. All zero: it forwards nothing there.
static IOP_WINDOW IopBridgeWindow(USHORT Base, ULONG BaseUpper, USHORT Limit, ULONG LimitUpper)
{
    const ULONG64 First = ((ULONG64)BaseUpper << 32) | ((ULONG64)(Base & PCI_BRIDGE_ADDRESS_BITS)
                                                        << PCI_BRIDGE_MEMORY_UNIT_SHIFT);
    const ULONG64 Last = ((ULONG64)LimitUpper << 32) | ((ULONG64)(Limit & PCI_BRIDGE_ADDRESS_BITS)
                                                        << PCI_BRIDGE_MEMORY_UNIT_SHIFT);
    if (First == 0 && Last == 0) {
        return (IOP_WINDOW){1, 0};
    }
    return (IOP_WINDOW){First, Last | PCI_BRIDGE_LAST_BYTE};
}

// What a bridge forwards to its other side.
static VOID IopReadBridgeWindows(const IO_PCI_FUNCTION *Bridge, IOP_WINDOW *Memory,
                                 IOP_WINDOW *Prefetchable)
{
    PCI_COMMON_HEADER Header;
    RtlZeroMemory(&Header, sizeof(Header));
    IopReadPciConfig(IopPciAddress(Bridge), 0, &Header, sizeof(Header));
    *Memory = IopBridgeWindow(Header.u.type1.MemoryBase, 0, Header.u.type1.MemoryLimit, 0);
    *Prefetchable =
        IopBridgeWindow(Header.u.type1.PrefetchBase, Header.u.type1.PrefetchBaseUpper32,
                        Header.u.type1.PrefetchLimit, Header.u.type1.PrefetchLimitUpper32);
}

#define IOP_MAXIMUM_PLACES 2

// Where a BAR may go, the better place first.
static VOID IopListPlaces(const IO_PCI_FUNCTION *Function, const IO_PCI_BAR *Bar,
                          IOP_WINDOW Places[IOP_MAXIMUM_PLACES])
{
    const IOP_WINDOW Empty = {1, 0};
    if (Function->Bridge == NULL) {
        Places[0] = (IOP_WINDOW){IOP_LOW_WINDOW_FIRST, IOP_LOW_WINDOW_LAST};
        Places[1] = Bar->Is64Bit ? (IOP_WINDOW){IOP_HIGH_WINDOW_FIRST, MAXULONG64} : Empty;
        return;
    }
    IopReadBridgeWindows(Function->Bridge, &Places[1], &Places[0]);
    if (!Bar->IsPrefetchable || (!Bar->Is64Bit && Places[0].Last > MAXULONG)) {
        Places[0] = Empty;
    }
}

// A root bus must not use what a bridge forwards. *Next: the address behind that.
static BOOLEAN IopIsForwarded(ULONG64 Base, ULONG64 ByteCount, ULONG64 *Next)
{
    for (const IO_PCI_FUNCTION *Bridge = IoNextPciFunction(NULL); Bridge != NULL;
         Bridge = IoNextPciFunction(Bridge)) {
        IOP_WINDOW Windows[2];
        if (Bridge->HeaderType != PCI_BRIDGE_TYPE || Bridge->Bridge != NULL) {
            continue;
        }
        IopReadBridgeWindows(Bridge, &Windows[0], &Windows[1]);
        for (ULONG Index = 0; Index < ARRAYSIZE(Windows); Index += 1) {
            const IOP_WINDOW *Window = &Windows[Index];
            if (Window->First <= Window->Last && Window->First < Base + ByteCount &&
                Base <= Window->Last) {
                *Next = Window->Last + 1;
                return TRUE;
            }
        }
    }
    return FALSE;
}

static NTSTATUS IopPlaceInWindow(const IO_PCI_FUNCTION *Function, PIO_PCI_BAR Bar, PCSTR Name,
                                 IOP_WINDOW Window)
{
    const ULONG64 Alignment = Bar->ByteCount < PAGE_SIZE ? PAGE_SIZE : Bar->ByteCount;
    NTSTATUS Status = STATUS_CONFLICTING_ADDRESSES;
    while (Window.First <= Window.Last) {
        PHYSICAL_ADDRESS Base;
        Status = MmPlacePhysicalRange(Bar->ByteCount, Alignment, Window.First, Window.Last, Name,
                                      &Base, &Bar->Claim);
        if (!NT_SUCCESS(Status)) {
            break;
        }
        Bar->Base = (ULONG64)Base.QuadPart;
        if (Function->Bridge != NULL || !IopIsForwarded(Bar->Base, Bar->ByteCount, &Window.First)) {
            return STATUS_SUCCESS;
        }
        MmReleasePhysicalRange(Bar->Claim);
        Bar->Claim = NULL;
        Status = STATUS_CONFLICTING_ADDRESSES;
    }
    return Status;
}

static VOID IopWriteBar(const IO_PCI_FUNCTION *Function, ULONG Index)
{
    const IO_PCI_BAR *Bar = &Function->Bars[Index];
    const USHORT Command = IopStopDecoding(Function);
    IopWritePciUlong(Function, PCI_BAR_OFFSET(Index), (ULONG)Bar->Base);
    if (Bar->Is64Bit) {
        IopWritePciUlong(Function, PCI_BAR_OFFSET(Index + 1), (ULONG)(Bar->Base >> 32));
    }
    IopResumeDecoding(Function, Command);
}

VOID IopRestoreBars(const IO_PCI_FUNCTION *Function)
{
    for (ULONG Index = 0; Index < ARRAYSIZE(Function->Bars); Index += 1) {
        if (IopBarHasPlace(&Function->Bars[Index])) {
            IopWriteBar(Function, Index);
        }
    }
}

static VOID IopPlaceBar(PIO_PCI_FUNCTION Function, ULONG Index)
{
    PIO_PCI_BAR Bar = &Function->Bars[Index];
    IOP_WINDOW Places[IOP_MAXIMUM_PLACES];
    CHAR Name[IOP_CLAIM_NAME_BYTES];
    IopFormatBarName(Function, Index, Name);
    IopListPlaces(Function, Bar, Places);
    for (ULONG Place = 0; Place < ARRAYSIZE(Places); Place += 1) {
        if (NT_SUCCESS(IopPlaceInWindow(Function, Bar, Name, Places[Place]))) {
            Bar->State = IoBarPlaced;
            IopWriteBar(Function, Index);
            DbgPrint("pci: %s is placed at 0x%llx, 0x%llx bytes\n", Name, Bar->Base,
                     Bar->ByteCount);
            return;
        }
    }
    CHAR Reason[IOP_REASON_BYTES];
    MmDescribeLastRefusal(Reason, sizeof(Reason));
    DbgPrint("pci: %s, 0x%llx bytes, fits nowhere, and drivers do not get it: %s\n", Name,
             Bar->ByteCount, Reason);
}

static VOID IopForEachUnplacedBar(VOID (*Routine)(PIO_PCI_FUNCTION Function, ULONG Index))
{
    for (PIO_PCI_FUNCTION Function = IopNextPciFunction(NULL); Function != NULL;
         Function = IopNextPciFunction(Function)) {
        for (ULONG Index = 0; Index < ARRAYSIZE(Function->Bars); Index += 1) {
            if (Function->Bars[Index].State == IoBarUnusable) {
                Routine(Function, Index);
            }
        }
    }
}

static VOID IopPlaceMemoryBar(PIO_PCI_FUNCTION Function, ULONG Index)
{
    if (!Function->Bars[Index].IsPort) {
        IopPlaceBar(Function, Index);
    }
}

VOID IopAssignBars(VOID)
{
    for (PIO_PCI_FUNCTION Function = IopNextPciFunction(NULL); Function != NULL;
         Function = IopNextPciFunction(Function)) {
        IopSizeBars(Function);
    }
    IopForEachUnplacedBar(IopClaimBar);
    IopForEachUnplacedBar(IopPlaceMemoryBar);
}

//
// Moving.
//

// A table of messages lies in a register of the device, and moves with it.
static VOID IopMoveMessages(PIOP_MESSAGES Messages, const IO_PCI_BAR *Old, ULONG64 NewBase)
{
    if (Messages != NULL && Messages->Kind == IopMsix &&
        Messages->TableAddress - Old->Base < Old->ByteCount) {
        Messages->TableAddress += NewBase - Old->Base;
    }
}

// The old place is given back only when there is a new one: so they differ.
static NTSTATUS IopMoveBar(PIO_PCI_FUNCTION Function, ULONG Index)
{
    PIO_PCI_BAR Bar = &Function->Bars[Index];
    const IO_PCI_BAR Old = *Bar;
    Bar->State = IoBarUnusable;
    IopPlaceBar(Function, Index);
    if (Bar->State == IoBarUnusable) {
        *Bar = Old;
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    IopMoveMessages(Function->Messages, &Old, Bar->Base);
    MmReleasePhysicalRange(Old.Claim);
    return STATUS_SUCCESS;
}

NTSTATUS IopMoveBars(PIO_PCI_FUNCTION Function)
{
    NTSTATUS Status = STATUS_NOT_SUPPORTED;
    for (ULONG Index = 0; Index < ARRAYSIZE(Function->Bars); Index += 1) {
        // One without a claim of its own shares its page with others.
        if (!Function->Bars[Index].IsPort && Function->Bars[Index].Claim != NULL) {
            Status = IopMoveBar(Function, Index);
            if (!NT_SUCCESS(Status)) {
                return Status;
            }
        }
    }
    return Status;
}
