// Registers of the card, and its bring-up in the order of the manual's "Initialization and Reset
// Operation".
//
// Invariants:
//   E1  Every register that the driver relies on is programmed here or in ring.c: CTRL.RST does not
//       reset all of them everywhere (QEMU keeps, among others, the interrupt mask and the ring
//       pointers).
//   E2  Interrupt causes are enabled only while the interrupt routine is connected. The routine reads
//       their register, which clears them and lets go of the line.
//   E3  RCTL is written with its final value once per bring-up, after everything that it enables.
//       QEMU holds back received frames for a second after each write of it.
//   E4  Every wait has a deadline in real time, and tells a card that is slow from one that is
//       gone.
#include "e1000.h"

#define E1000_RESET_MS 100
#define E1000_DRAIN_MS 10 // for the DMA that is under way when the units are stopped
#define E1000_EEPROM_MS 10
#define E1000_LINK_MS 3000 // autonegotiation over copper takes one to two seconds
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

static VOID E1000Sleep(ULONG Milliseconds)
{
    LARGE_INTEGER Interval;

    Interval.QuadPart = -10000ll * Milliseconds;
    (VOID) KeDelayExecutionThread(KernelMode, FALSE, &Interval);
}

// All ones is no legal value of STATUS. A removed card may also read as zeros, so that its receive
// address, once programmed, has lost the valid bit.
BOOLEAN E1000IsGone(const E1000_ADAPTER *Adapter)
{
    return E1000ReadRegister(Adapter, E1000_STATUS) == E1000_ABSENT ||
           (Adapter->State == E1000Started &&
            !(E1000ReadRegister(Adapter, E1000_RAH) & E1000_RAH_AV));
}

// Waits until the bits of Mask read as Value.
static NTSTATUS E1000WaitForBits(const E1000_ADAPTER *Adapter, ULONG Offset, ULONG Mask,
                                 ULONG Value, ULONG Milliseconds)
{
    const E1000_DEADLINE Deadline = E1000StartDeadline(Milliseconds);
    ULONG Polls = 0;

    // Looks once more after the deadline: this processor may have been away in between.
    for (BOOLEAN Over = FALSE;; Over = E1000IsDeadlineOver(Deadline)) {
        const ULONG Current = E1000ReadRegister(Adapter, Offset);
        if (Current == E1000_ABSENT && E1000IsGone(Adapter)) {
            return STATUS_NO_SUCH_DEVICE;
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

BOOLEAN E1000IsLinkUp(const E1000_ADAPTER *Adapter)
{
    const ULONG Status = E1000ReadRegister(Adapter, E1000_STATUS);
    return Status != E1000_ABSENT && (Status & E1000_STATUS_LU) != 0;
}

BOOLEAN E1000IsFullDuplex(const E1000_ADAPTER *Adapter)
{
    return (E1000ReadRegister(Adapter, E1000_STATUS) & E1000_STATUS_FD) != 0;
}

ULONG E1000LinkMegabits(const E1000_ADAPTER *Adapter)
{
    static const ULONG Megabits[] = {10, 100, 1000, 1000};
    const ULONG Status = E1000ReadRegister(Adapter, E1000_STATUS);
    return Megabits[(Status >> E1000_STATUS_SPEED_SHIFT) & E1000_STATUS_SPEED_MASK];
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
        return STATUS_NO_SUCH_DEVICE;
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

    for (ULONG Index = 0; Index < DHCP_MAC_BYTES; Index += 1) {
        AnyBit |= Mac[Index];
    }
    return AnyBit != 0 && !(Mac[0] & GroupBit);
}

static NTSTATUS E1000ReadMacAddress(PE1000_ADAPTER Adapter)
{
    USHORT Words[E1000_EEPROM_WORD_COUNT];

    const NTSTATUS Status = E1000ReadEeprom(Adapter, Words);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    for (ULONG Index = 0; Index < DHCP_MAC_BYTES; Index += 1) {
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

// Registers with one fixed value. No flow control, no timers, no offload, no wake-up.
static const struct {
    ULONG Offset;
    ULONG Value;
} E1000FixedRegisters[] = {
    {E1000_FCAL, 0},   {E1000_FCAH, 0},
    {E1000_FCT, 0},    {E1000_FCTTV, 0},
    {E1000_ITR, 0},    {E1000_RDTR, 0},
    {E1000_RADV, 0},   {E1000_TIDV, 0},
    {E1000_TADV, 0},   {E1000_RXCSUM, 0},
    {E1000_TXDCTL, 0}, {E1000_RXDCTL, E1000_RXDCTL_WTHRESH_ONE | E1000_RXDCTL_GRAN},
    {E1000_WUC, 0},    {E1000_VET, E1000_VET_VLAN},
};

static VOID E1000ProgramGeneral(const E1000_ADAPTER *Adapter)
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

static VOID E1000ClearTable(const E1000_ADAPTER *Adapter, ULONG Offset, ULONG Count)
{
    for (ULONG Index = 0; Index < Count; Index += 1) {
        E1000WriteRegister(Adapter, Offset + Index * sizeof(ULONG), 0);
    }
}

// Frames to our own address and broadcasts come in; no multicast group, no VLAN.
static VOID E1000ProgramAddresses(const E1000_ADAPTER *Adapter)
{
    const UCHAR *const Mac = Adapter->MacAddress;
    const ULONG Low = Mac[0] | Mac[1] << 8 | Mac[2] << 16 | (ULONG)Mac[3] << 24;
    const ULONG High = Mac[4] | Mac[5] << 8 | E1000_RAH_AV;

    E1000ClearTable(Adapter, E1000_RAL, E1000_RA_COUNT * E1000_RA_STRIDE / sizeof(ULONG));
    E1000ClearTable(Adapter, E1000_MTA, E1000_MTA_COUNT);
    E1000ClearTable(Adapter, E1000_VFTA, E1000_VFTA_COUNT);
    E1000WriteRegister(Adapter, E1000_RAL, Low);
    E1000WriteRegister(Adapter, E1000_RAH, High);
}

static VOID E1000ClearStatistics(const E1000_ADAPTER *Adapter)
{
    for (ULONG Index = 0; Index < E1000_STATISTICS_COUNT; Index += 1) {
        (VOID) E1000ReadRegister(Adapter, E1000_STATISTICS + Index * sizeof(ULONG));
    }
}

// A missing link is no failure of the card: somebody may plug the cable in later.
static NTSTATUS E1000WaitForLink(const E1000_ADAPTER *Adapter)
{
    const NTSTATUS Status =
        E1000WaitForBits(Adapter, E1000_STATUS, E1000_STATUS_LU, E1000_STATUS_LU, E1000_LINK_MS);
    if (Status == STATUS_IO_TIMEOUT) {
        DbgPrint("e1000: the link did not come up within %u ms; is the cable plugged in?\n",
                 E1000_LINK_MS);
        return STATUS_SUCCESS;
    }
    return Status;
}

NTSTATUS E1000BringUp(PE1000_ADAPTER Adapter)
{
    NTSTATUS Status = E1000QuiesceDma(Adapter);
    if (NT_SUCCESS(Status)) {
        Status = E1000ReadMacAddress(Adapter);
    }
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    E1000ProgramGeneral(Adapter);
    E1000ProgramAddresses(Adapter);
    E1000ClearStatistics(Adapter);
    E1000StartReceive(Adapter);
    E1000StartTransmit(Adapter);
    E1000WriteRegister(Adapter, E1000_IMS, E1000_INTERRUPT_CAUSES);
    return E1000WaitForLink(Adapter);
}
