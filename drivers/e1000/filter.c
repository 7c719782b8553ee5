// Which frames come in: receive addresses, the table of group hashes, the table of VLANs, and the modes
// in RCTL.
//
// The card compares 16 addresses: entry 0 is its own, the others are the list's as far as they reach.
// Groups that find no entry go by a hash of 12 bits, which lets others pass: the driver looks at those.
// Stations that find no entry need promiscuous mode, and the same look.
//
// QEMU stops reception for a second after each write of RCTL; so it is written only when it changes.
#include "e1000.h"

#define E1000_GROUP_BIT 0x01

// -------------------------------------------------------------------------------------------------
// Tables.

// The high half, which makes the entry valid, comes last.
VOID E1000ProgramStation(const E1000_ADAPTER *Adapter, ULONG Entry, const UCHAR *Address)
{
    const ULONG Low = Address[0] | Address[1] << 8 | Address[2] << 16 | (ULONG)Address[3] << 24;
    const ULONG High = Address[4] | Address[5] << 8 | E1000_RAH_AV;

    E1000WriteRegister(Adapter, E1000_RAH + Entry * E1000_RA_STRIDE, 0);
    E1000WriteRegister(Adapter, E1000_RAL + Entry * E1000_RA_STRIDE, Low);
    E1000WriteRegister(Adapter, E1000_RAH + Entry * E1000_RA_STRIDE, High);
}

static BOOLEAN E1000IsGroup(const UCHAR *Address)
{
    return (Address[0] & E1000_GROUP_BIT) != 0;
}

// Bits 47:36 of the address: RCTL.MO is 0.
static ULONG E1000GroupHash(const UCHAR *Address)
{
    return (ULONG)(Address[5] << 8 | Address[4]) >> 4;
}

// Stations first: groups have the hash to fall back on. Returns how many of the list have an entry.
static ULONG E1000ProgramList(const E1000_ADAPTER *Adapter, BOOLEAN IsForGroups, ULONG FirstEntry,
                              ULONG Table[E1000_MTA_COUNT], PBOOLEAN IsFull)
{
    ULONG Entry = FirstEntry;

    for (ULONG Index = 0; Index < Adapter->Filter.Count; Index += 1) {
        const UCHAR *const Address = Adapter->Filter.Addresses[Index];
        if (E1000IsGroup(Address) != IsForGroups) {
            continue;
        }
        if (Entry < E1000_RA_COUNT) {
            E1000ProgramStation(Adapter, Entry, Address);
            Entry += 1;
            continue;
        }
        *IsFull = TRUE;
        const ULONG Hash = E1000GroupHash(Address);
        Table[Hash / 32] |= IsForGroups ? 1u << Hash % 32 : 0;
    }
    return Entry;
}

static VOID E1000ProgramAddresses(PE1000_ADAPTER Adapter, PBOOLEAN HasHashed,
                                  PBOOLEAN HasMoreStations)
{
    ULONG Table[E1000_MTA_COUNT] = {0};
    ULONG Entry = 1;

    *HasHashed = FALSE;
    *HasMoreStations = FALSE;
    if (Adapter->Filter.Flags & NET_FILTER_DIRECTED) {
        E1000ProgramStation(Adapter, 0, Adapter->MacAddress);
    } else {
        E1000WriteRegister(Adapter, E1000_RAH, 0);
    }
    if (Adapter->Filter.Flags & NET_FILTER_LIST) {
        Entry = E1000ProgramList(Adapter, FALSE, Entry, Table, HasMoreStations);
        Entry = E1000ProgramList(Adapter, TRUE, Entry, Table, HasHashed);
    }
    for (; Entry < E1000_RA_COUNT; Entry += 1) {
        E1000WriteRegister(Adapter, E1000_RAH + Entry * E1000_RA_STRIDE, 0);
        E1000WriteRegister(Adapter, E1000_RAL + Entry * E1000_RA_STRIDE, 0);
    }
    for (ULONG Index = 0; Index < E1000_MTA_COUNT; Index += 1) {
        E1000WriteRegister(Adapter, E1000_MTA + Index * sizeof(ULONG), Table[Index]);
    }
}

// -------------------------------------------------------------------------------------------------
// Modes.

static ULONG E1000FilterModes(const E1000_ADAPTER *Adapter, BOOLEAN HasMoreStations)
{
    static const struct {
        ULONG Flag;
        ULONG Modes;
    } Rows[] = {
        {NET_FILTER_BROADCAST, E1000_RCTL_BAM},
        {NET_FILTER_ALL_MULTICAST, E1000_RCTL_MPE},
        {NET_FILTER_PROMISCUOUS, E1000_RCTL_UPE | E1000_RCTL_MPE | E1000_RCTL_BAM},
    };
    ULONG Modes = HasMoreStations ? E1000_RCTL_UPE : 0;

    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        Modes |= Adapter->Filter.Flags & Rows[Row].Flag ? Rows[Row].Modes : 0;
    }
    return Modes;
}

static VOID E1000ProgramVlans(const E1000_ADAPTER *Adapter)
{
    const ULONG Control = E1000ReadRegister(Adapter, E1000_CTRL) & ~E1000_CTRL_VME;

    for (ULONG Index = 0; Index < E1000_VFTA_COUNT; Index += 1) {
        E1000WriteRegister(Adapter, E1000_VFTA + Index * sizeof(ULONG),
                           Adapter->Vlan.Members[Index]);
    }
    E1000WriteRegister(Adapter, E1000_CTRL,
                       Control | (Adapter->Vlan.Flags & NET_VLAN_STRIP ? E1000_CTRL_VME : 0));
}

C_ASSERT(E1000_VFTA_COUNT == NET_VLAN_COUNT / 32);

VOID E1000ProgramFilter(PE1000_ADAPTER Adapter)
{
    const BOOLEAN IsLong = Adapter->Options.MaximumFrameBytes > NET_STANDARD_FRAME_BYTES;
    const BOOLEAN IsByVlan = (Adapter->Vlan.Flags & NET_VLAN_FILTER) != 0;
    const BOOLEAN IsOpen = (Adapter->Filter.Flags & NET_FILTER_PROMISCUOUS) != 0;
    BOOLEAN HasHashed;
    BOOLEAN HasMoreStations;
    KIRQL OldIrql;

    E1000ProgramVlans(Adapter);
    E1000ProgramAddresses(Adapter, &HasHashed, &HasMoreStations);
    KeAcquireSpinLock(&Adapter->Receive.Lock, &OldIrql);
    Adapter->Receive.IsImprecise = !IsOpen && (HasHashed || HasMoreStations);
    KeReleaseSpinLock(&Adapter->Receive.Lock, OldIrql);
    const ULONG Control = E1000_RCTL_EN | E1000_RCTL_SECRC | (IsLong ? E1000_RCTL_LPE : 0) |
                          (IsByVlan ? E1000_RCTL_VFE : 0) |
                          E1000FilterModes(Adapter, HasMoreStations);
    if (E1000ReadRegister(Adapter, E1000_RCTL) != Control) {
        E1000WriteRegister(Adapter, E1000_RCTL, Control);
    }
}

BOOLEAN E1000IsListed(const E1000_ADAPTER *Adapter, const UCHAR *Address)
{
    static const UCHAR Broadcast[NET_ETHERNET_ADDRESS_BYTES] = {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF};
    const ULONG Flags = Adapter->Filter.Flags;

    if (RtlEqualMemory(Address, Broadcast, sizeof(Broadcast))) {
        return (Flags & NET_FILTER_BROADCAST) != 0;
    }
    if (E1000IsGroup(Address)
            ? (Flags & NET_FILTER_ALL_MULTICAST) != 0
            : (Flags & NET_FILTER_DIRECTED) != 0 &&
                  RtlEqualMemory(Address, Adapter->MacAddress, NET_ETHERNET_ADDRESS_BYTES)) {
        return TRUE;
    }
    for (ULONG Index = 0; (Flags & NET_FILTER_LIST) && Index < Adapter->Filter.Count; Index += 1) {
        if (RtlEqualMemory(Address, Adapter->Filter.Addresses[Index], NET_ETHERNET_ADDRESS_BYTES)) {
            return TRUE;
        }
    }
    return FALSE;
}

// -------------------------------------------------------------------------------------------------
// Requests.

NTSTATUS E1000SetFilter(PE1000_ADAPTER Adapter, const NET_FILTER *Filter)
{
    KIRQL OldIrql;

    if ((Filter->Flags & ~(ULONG)NET_FILTER_ALL) != 0 || Filter->Count > NET_FILTER_ADDRESSES) {
        return STATUS_INVALID_PARAMETER;
    }
    KeAcquireSpinLock(&Adapter->Receive.Lock, &OldIrql);
    Adapter->Filter = *Filter;
    KeReleaseSpinLock(&Adapter->Receive.Lock, OldIrql);
    E1000ProgramFilter(Adapter);
    return STATUS_SUCCESS;
}

NTSTATUS E1000SetVlan(PE1000_ADAPTER Adapter, const NET_VLAN *Vlan)
{
    const ULONG Known = NET_VLAN_STRIP | NET_VLAN_FILTER;
    KIRQL OldIrql;

    if ((Vlan->Flags & ~Known) != 0) {
        return STATUS_INVALID_PARAMETER;
    }
    Adapter->Vlan = *Vlan;
    KeAcquireSpinLock(&Adapter->Transmit.Lock, &OldIrql);
    Adapter->Transmit.InsertsTags = (Vlan->Flags & NET_VLAN_STRIP) != 0;
    KeReleaseSpinLock(&Adapter->Transmit.Lock, OldIrql);
    E1000ProgramFilter(Adapter);
    return STATUS_SUCCESS;
}
