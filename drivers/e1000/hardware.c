// Registers of the card, and its bring-up in the order of the manual's "Initialization and Reset
// Operation".
//
// Invariants:
//   E1  Every register that the driver relies on is programmed here, or in filter.c and interrupt.c:
//       CTRL.RST does not reset all of them everywhere (QEMU keeps, among others, the interrupt mask
//       and the ring pointers).
//   E2  Interrupt causes are enabled only while the interrupt routine is connected. The routine reads
//       their register, which clears them and lets go of the line.
//   E3  RCTL is written with its final value once per bring-up, after everything that it enables.
//       QEMU holds back received frames for a second after each write of it, also of the same value,
//       and drops what is looped back meanwhile.
//   E4  Every wait has a deadline in real time, and tells a card that is slow from one that is
//       gone.
#define INITGUID // here alone
#include <wdm.h>
#include <wdmguid.h>

#include "e1000.h"

#define E1000_RESET_MS 100
#define E1000_BUS_INTERFACE_VERSION 1 // PCI_BUS_INTERFACE_STANDARD_VERSION, of ntddk.h
#define E1000_DRAIN_MS 10             // for the DMA that is under way when the units are stopped
#define E1000_EEPROM_MS 10
#define E1000_POLL_MICROSECONDS 10
#define E1000_QUICK_POLLS 100 // before a wait begins to sleep between two looks

// -------------------------------------------------------------------------------------------------
// Registers and time.

ULONG E1000ReadRegister(const E1000_ADAPTER *Adapter, ULONG Offset)
{
    return READ_REGISTER_ULONG((volatile ULONG *)(Adapter->Registers + Offset));
}

VOID E1000WriteRegister(const E1000_ADAPTER *Adapter, ULONG Offset, ULONG Value)
{
    WRITE_REGISTER_ULONG((volatile ULONG *)(Adapter->Registers + Offset), Value);
}

E1000_DEADLINE E1000StartDeadline(ULONG Milliseconds)
{
    LARGE_INTEGER Frequency;
    const LARGE_INTEGER Now = KeQueryPerformanceCounter(&Frequency);
    return (E1000_DEADLINE){Now.QuadPart + Frequency.QuadPart * Milliseconds / 1000};
}

BOOLEAN E1000IsDeadlineOver(E1000_DEADLINE Deadline)
{
    return KeQueryPerformanceCounter(NULL).QuadPart >= Deadline.Ticks;
}

VOID E1000Sleep(ULONG Milliseconds)
{
    LARGE_INTEGER Interval;

    Interval.QuadPart = -10000ll * Milliseconds;
    (VOID) KeDelayExecutionThread(KernelMode, FALSE, &Interval);
}

// All ones is no legal value of STATUS. A removed card may also read as zeros, so that the length of its
// receive ring, once programmed, is lost.
BOOLEAN E1000IsGone(const E1000_ADAPTER *Adapter)
{
    return E1000ReadRegister(Adapter, E1000_STATUS) == E1000_ABSENT ||
           (Adapter->State == E1000Started && E1000ReadRegister(Adapter, E1000_RDLEN) == 0);
}

NTSTATUS E1000WaitForBits(const E1000_ADAPTER *Adapter, ULONG Offset, ULONG Mask, ULONG Value,
                          ULONG Milliseconds)
{
    const E1000_DEADLINE Deadline = E1000StartDeadline(Milliseconds);
    ULONG Polls = 0;

    // Looks once more after the deadline: this processor may have been away in between.
    for (BOOLEAN Over = FALSE;; Over = E1000IsDeadlineOver(Deadline)) {
        const ULONG Current = E1000ReadRegister(Adapter, Offset);
        if (Current == E1000_ABSENT && E1000IsGone(Adapter)) {
            return STATUS_DEVICE_DOES_NOT_EXIST;
        }
        if ((Current & Mask) == Value) {
            return STATUS_SUCCESS;
        }
        if (Over) {
            return STATUS_IO_TIMEOUT;
        }
        Polls += 1;
        if (Polls <= E1000_QUICK_POLLS) {
            KeStallExecutionProcessor(E1000_POLL_MICROSECONDS);
        } else {
            E1000Sleep(1);
        }
    }
}

// -------------------------------------------------------------------------------------------------
// Reset.

static VOID E1000StopUnits(const E1000_ADAPTER *Adapter)
{
    E1000WriteRegister(Adapter, E1000_IMC, MAXULONG);
    if (E1000ReadRegister(Adapter, E1000_RCTL) & E1000_RCTL_EN) {
        E1000WriteRegister(Adapter, E1000_RCTL, 0);
    }
    E1000WriteRegister(Adapter, E1000_TCTL, 0);
    // Reading pushes the writes through every bridge on the way to the card.
    (VOID) E1000ReadRegister(Adapter, E1000_STATUS);
    E1000Sleep(E1000_DRAIN_MS);
}

NTSTATUS E1000QuiesceDma(const E1000_ADAPTER *Adapter)
{
    if (E1000IsGone(Adapter)) {
        DbgPrint("e1000: the card no longer answers; it was removed or has failed.\n");
        return STATUS_DEVICE_DOES_NOT_EXIST;
    }
    E1000StopUnits(Adapter);
    E1000WriteRegister(Adapter, E1000_CTRL,
                       E1000ReadRegister(Adapter, E1000_CTRL) | E1000_CTRL_RST);
    // The manual forbids access for a microsecond after the write.
    KeStallExecutionProcessor(E1000_POLL_MICROSECONDS);
    const NTSTATUS Status =
        E1000WaitForBits(Adapter, E1000_CTRL, E1000_CTRL_RST, 0, E1000_RESET_MS);
    if (!NT_SUCCESS(Status)) {
        DbgPrint("e1000: the reset did not finish within %u ms.\n", E1000_RESET_MS);
        return Status;
    }
    E1000WriteRegister(Adapter, E1000_IMC, MAXULONG);
    (VOID) E1000ReadRegister(Adapter, E1000_ICR);
    return STATUS_SUCCESS;
}

// Asks the bus driver for its interface to the function's configuration space.
static NTSTATUS E1000QueryBus(const E1000_ADAPTER *Adapter, PBUS_INTERFACE_STANDARD Bus)
{
    IO_STATUS_BLOCK Result;
    KEVENT Event;

    KeInitializeEvent(&Event, NotificationEvent, FALSE);
    const PIRP Irp = IoBuildSynchronousFsdRequest(IRP_MJ_PNP, Adapter->LowerDevice, NULL, 0, NULL,
                                                  &Event, &Result);
    if (Irp == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    const PIO_STACK_LOCATION Stack = IoGetNextIrpStackLocation(Irp);
    Irp->IoStatus.Status = STATUS_NOT_SUPPORTED;
    Stack->MinorFunction = IRP_MN_QUERY_INTERFACE;
    Stack->Parameters.QueryInterface.InterfaceType = &GUID_BUS_INTERFACE_STANDARD;
    Stack->Parameters.QueryInterface.Size = sizeof(*Bus);
    Stack->Parameters.QueryInterface.Version = E1000_BUS_INTERFACE_VERSION;
    Stack->Parameters.QueryInterface.Interface = (PINTERFACE)Bus;
    NTSTATUS Status = IoCallDriver(Adapter->LowerDevice, Irp);
    if (Status == STATUS_PENDING) {
        (VOID) KeWaitForSingleObject(&Event, Executive, KernelMode, FALSE, NULL);
        Status = Result.Status;
    }
    return Status;
}

BOOLEAN E1000DisableBusMaster(const E1000_ADAPTER *Adapter)
{
    BUS_INTERFACE_STANDARD Bus;
    USHORT Command;

    RtlZeroMemory(&Bus, sizeof(Bus));
    if (!NT_SUCCESS(E1000QueryBus(Adapter, &Bus))) {
        return FALSE;
    }
    BOOLEAN IsOff = Bus.GetBusData(Bus.Context, PCI_WHICHSPACE_CONFIG, &Command,
                                   FIELD_OFFSET(PCI_COMMON_CONFIG, Command),
                                   sizeof(Command)) == sizeof(Command);
    if (IsOff) {
        Command &= (USHORT)~PCI_ENABLE_BUS_MASTER;
        IsOff = Bus.SetBusData(Bus.Context, PCI_WHICHSPACE_CONFIG, &Command,
                               FIELD_OFFSET(PCI_COMMON_CONFIG, Command),
                               sizeof(Command)) == sizeof(Command);
    }
    Bus.InterfaceDereference(Bus.Context);
    return IsOff;
}

// -------------------------------------------------------------------------------------------------
// EEPROM.

static NTSTATUS E1000ReadEepromWord(const E1000_ADAPTER *Adapter, ULONG Word, PUSHORT Value)
{
    E1000WriteRegister(Adapter, E1000_EERD, Word << E1000_EERD_ADDRESS_SHIFT | E1000_EERD_START);
    const NTSTATUS Status =
        E1000WaitForBits(Adapter, E1000_EERD, E1000_EERD_DONE, E1000_EERD_DONE, E1000_EEPROM_MS);
    *Value = (USHORT)(E1000ReadRegister(Adapter, E1000_EERD) >> E1000_EERD_DATA_SHIFT);
    return Status;
}

// Reads the words that the checksum covers, and verifies it.
static NTSTATUS E1000ReadEeprom(const E1000_ADAPTER *Adapter, USHORT Words[E1000_EEPROM_WORD_COUNT])
{
    USHORT Sum = 0;

    for (ULONG Word = 0; Word < E1000_EEPROM_WORD_COUNT; Word += 1) {
        const NTSTATUS Status = E1000ReadEepromWord(Adapter, Word, &Words[Word]);
        if (!NT_SUCCESS(Status)) {
            DbgPrint("e1000: word 0x%02x of the EEPROM could not be read within %u ms.\n", Word,
                     E1000_EEPROM_MS);
            return Status;
        }
        Sum = (USHORT)(Sum + Words[Word]);
    }
    if (Sum != E1000_EEPROM_CHECKSUM_SUM) {
        DbgPrint("e1000: the EEPROM is damaged: its words add up to 0x%04x, not 0x%04x.\n", Sum,
                 E1000_EEPROM_CHECKSUM_SUM);
        return STATUS_CRC_ERROR;
    }
    return STATUS_SUCCESS;
}

// A card's own address is neither a group's nor zero.
static BOOLEAN E1000IsStationAddress(const UCHAR *Mac)
{
    const UCHAR GroupBit = 0x01;
    UCHAR AnyBit = 0;

    for (ULONG Index = 0; Index < NET_ETHERNET_ADDRESS_BYTES; Index += 1) {
        AnyBit |= Mac[Index];
    }
    return AnyBit != 0 && !(Mac[0] & GroupBit);
}

NTSTATUS E1000ReadMacAddress(PE1000_ADAPTER Adapter)
{
    USHORT Words[E1000_EEPROM_WORD_COUNT];

    const NTSTATUS Status = E1000ReadEeprom(Adapter, Words);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    for (ULONG Index = 0; Index < NET_ETHERNET_ADDRESS_BYTES; Index += 1) {
        const USHORT Word = Words[E1000_EEPROM_MAC_WORD + Index / 2];
        Adapter->MacAddress[Index] = (UCHAR)(Index % 2 == 0 ? Word : Word >> 8);
    }
    if (!E1000IsStationAddress(Adapter->MacAddress)) {
        DbgPrint("e1000: the EEPROM holds no station address.\n");
        return STATUS_DEVICE_CONFIGURATION_ERROR;
    }
    return STATUS_SUCCESS;
}

// -------------------------------------------------------------------------------------------------
// Programming (E1).

// Registers with one fixed value. No flow control, no timers, no wake-up.
static const struct {
    ULONG Offset;
    ULONG Value;
} E1000FixedRegisters[] = {
    {E1000_FCAL, 0},
    {E1000_FCAH, 0},
    {E1000_FCT, 0},
    {E1000_FCTTV, 0},
    {E1000_RDTR, 0},
    {E1000_RADV, 0},
    {E1000_TIDV, 0},
    {E1000_TADV, 0},
    {E1000_RXCSUM, E1000_RXCSUM_IPOFL | E1000_RXCSUM_TUOFL},
    {E1000_TXDCTL, 0},
    {E1000_RXDCTL, E1000_RXDCTL_WTHRESH_ONE | E1000_RXDCTL_GRAN},
    {E1000_WUC, 0},
    {E1000_VET, E1000_VET_VLAN},
    {E1000_TIPG, E1000_TIPG_IPGT | E1000_TIPG_IPGR1 << E1000_TIPG_IPGR1_SHIFT |
                     E1000_TIPG_IPGR2 << E1000_TIPG_IPGR2_SHIFT},
};

VOID E1000ProgramGeneral(const E1000_ADAPTER *Adapter)
{
    const ULONG Clear = E1000_CTRL_LRST | E1000_CTRL_ILOS | E1000_CTRL_FRCSPD | E1000_CTRL_FRCDPLX |
                        E1000_CTRL_RFCE | E1000_CTRL_TFCE | E1000_CTRL_VME | E1000_CTRL_PHY_RST;
    const ULONG Control = E1000ReadRegister(Adapter, E1000_CTRL);

    E1000WriteRegister(Adapter, E1000_CTRL, (Control & ~Clear) | E1000_CTRL_ASDE | E1000_CTRL_SLU);
    for (ULONG Index = 0; Index < ARRAYSIZE(E1000FixedRegisters); Index += 1) {
        E1000WriteRegister(Adapter, E1000FixedRegisters[Index].Offset,
                           E1000FixedRegisters[Index].Value);
    }
}

static VOID E1000ProgramAddress(const E1000_ADAPTER *Adapter, ULONG LowRegister, ULONG64 Address)
{
    E1000WriteRegister(Adapter, LowRegister, (ULONG)Address);
    E1000WriteRegister(Adapter, LowRegister + sizeof(ULONG), (ULONG)(Address >> 32));
}

// Both rings begin at descriptor 0 and are the driver's: head is tail.
VOID E1000ProgramRings(const E1000_ADAPTER *Adapter, ULONG64 ReceiveAddress, ULONG ReceiveCount,
                       ULONG64 TransmitAddress, ULONG TransmitCount)
{
    E1000ProgramAddress(Adapter, E1000_RDBAL, ReceiveAddress);
    E1000WriteRegister(Adapter, E1000_RDLEN,
                       ReceiveCount * (ULONG)sizeof(E1000_RECEIVE_DESCRIPTOR));
    E1000WriteRegister(Adapter, E1000_RDH, 0);
    E1000WriteRegister(Adapter, E1000_RDT, 0);
    E1000ProgramAddress(Adapter, E1000_TDBAL, TransmitAddress);
    E1000WriteRegister(Adapter, E1000_TDLEN,
                       TransmitCount * (ULONG)sizeof(E1000_TRANSMIT_DESCRIPTOR));
    E1000WriteRegister(Adapter, E1000_TDH, 0);
    E1000WriteRegister(Adapter, E1000_TDT, 0);
    E1000WriteRegister(Adapter, E1000_TCTL,
                       E1000_TCTL_EN | E1000_TCTL_PSP |
                           E1000_TCTL_CT_STANDARD << E1000_TCTL_CT_SHIFT |
                           E1000_TCTL_COLD_FULL_DUPLEX << E1000_TCTL_COLD_SHIFT);
}

VOID E1000Program(PE1000_ADAPTER Adapter)
{
    E1000ProgramGeneral(Adapter);
    E1000ProgramRings(Adapter, (ULONG64)Adapter->Receive.Block.Address.QuadPart,
                      Adapter->Receive.Count, (ULONG64)Adapter->Transmit.Block.Address.QuadPart,
                      Adapter->Transmit.Count);
    E1000ResetTransmit(Adapter);
    E1000ResetReceive(Adapter);
    // The PHY keeps its mode over a reset of the card: it is told in both cases.
    if (!NT_SUCCESS(E1000SetLoopback(Adapter, Adapter->Options.Loopback != 0))) {
        DbgPrint("e1000: the PHY does not answer.\n");
    }
    E1000ProgramThrottle(Adapter);
    E1000ProgramFilter(Adapter);
    E1000UpdateLink(Adapter);
    E1000WriteRegister(Adapter, E1000_IMS, E1000_INTERRUPT_CAUSES);
}
