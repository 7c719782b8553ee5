// The stack's own state as text.
#include "inet.h"

VOID InetPutText(PINET_TEXT Text, PCSTR String)
{
    for (; *String != 0 && Text->ByteCount < Text->Capacity; String += 1) {
        Text->Buffer[Text->ByteCount++] = *String;
    }
}

VOID InetPutNumber(PINET_TEXT Text, ULONG64 Number)
{
    CHAR Digits[21];
    ULONG First = sizeof(Digits) - 1;

    Digits[First] = 0;
    do {
        Digits[--First] = (CHAR)('0' + Number % 10);
        Number /= 10;
    } while (Number != 0);
    InetPutText(Text, &Digits[First]);
}

VOID InetPutAddress(PINET_TEXT Text, ULONG Address)
{
    for (ULONG Shift = 32; Shift > 0; Shift -= 8) {
        InetPutNumber(Text, Address >> (Shift - 8) & 0xFF);
        InetPutText(Text, Shift > 8 ? "." : "");
    }
}

VOID InetPutHardware(PINET_TEXT Text, const UCHAR *Hardware)
{
    static const CHAR Digits[] = "0123456789abcdef";

    for (ULONG Index = 0; Index < ETHERNET_ADDRESS_BYTES; Index += 1) {
        const CHAR Pair[] = {Digits[Hardware[Index] >> 4], Digits[Hardware[Index] & 0xF],
                             Index + 1 < ETHERNET_ADDRESS_BYTES ? ':' : (CHAR)0, 0};
        InetPutText(Text, Pair);
    }
}

static VOID InetDescribeAddress(const INET_INTERFACE *Interface, PINET_TEXT Text)
{
    InetPutText(Text, "station ");
    InetPutHardware(Text, Interface->Hardware);
    InetPutText(Text, Interface->LinkUp ? ", link up" : ", link down");
    InetPutText(Text, ", address ");
    InetPutAddress(Text, Interface->Address);
    InetPutText(Text, ", mask ");
    InetPutAddress(Text, Interface->Mask);
    InetPutText(Text, ", router ");
    InetPutAddress(Text, Interface->Router);
    InetPutText(Text, "\n");
    if (Interface->UsesDhcp) {
        InetPutText(Text, "DHCP: ");
        InetPutText(Text, DhcpDescribeState(Interface->Dhcp.State));
        if (Interface->Dhcp.Lease.Address != 0) {
            InetPutText(Text, ", lease of ");
            InetPutNumber(Text, Interface->Dhcp.Lease.LeaseSeconds);
            InetPutText(Text, " s from ");
            InetPutAddress(Text, Interface->Dhcp.Lease.ServerId);
        }
        InetPutText(Text, "\n");
    }
}

static VOID InetDescribeArp(const INET_INTERFACE *Interface, PINET_TEXT Text)
{
    for (ULONG Index = 0; Index < INET_ARP_ENTRIES; Index += 1) {
        const INET_ARP_ENTRY *const Entry = &Interface->Arp[Index];
        if (Entry->State == InetArpKnown) {
            InetPutText(Text, "ARP: ");
            InetPutAddress(Text, Entry->Address);
            InetPutText(Text, " is at ");
            InetPutHardware(Text, Entry->Hardware);
            InetPutText(Text, ", for ");
            InetPutNumber(Text, (Interface->NowMs - Entry->TimeMs) / 1000);
            InetPutText(Text, " s\n");
        }
    }
}

static VOID InetDescribeCount(PINET_TEXT Text, ULONG64 Count, PCSTR Words)
{
    InetPutText(Text, "  ");
    InetPutNumber(Text, Count);
    InetPutText(Text, " ");
    InetPutText(Text, Words);
    InetPutText(Text, "\n");
}

// What is zero is left out.
static VOID InetDescribeCounters(const INET_INTERFACE *Interface, PINET_TEXT Text, ULONG First,
                                 ULONG End)
{
    for (ULONG Counter = First; Counter < End; Counter += 1) {
        if (Interface->Counters[Counter] != 0) {
            InetDescribeCount(Text, Interface->Counters[Counter], InetDescribeCounter(Counter));
        }
    }
}

VOID InetDescribe(const INET_INTERFACE *Interface, PINET_TEXT Text)
{
    InetDescribeAddress(Interface, Text);
    InetDescribeArp(Interface, Text);
    InetPutText(Text, "counted:\n");
    InetDescribeCounters(Interface, Text, 0, INET_FIRST_DROP);
    InetDescribeCount(Text, Interface->HeldFrames, "fragments that wait now");
    InetPutText(Text, "dropped: ");
    InetPutNumber(Text, InetCountDrops(Interface));
    InetPutText(Text, "\n");
    InetDescribeCounters(Interface, Text, INET_FIRST_DROP, InetCounterCount);
    for (ULONG Verdict = 1; Verdict < DhcpVerdictCount; Verdict += 1) {
        if (Interface->Dhcp.VerdictCounts[Verdict] != 0) {
            InetPutText(Text, "  DHCP:");
            InetDescribeCount(Text, Interface->Dhcp.VerdictCounts[Verdict],
                              DhcpDescribeVerdict(Verdict));
        }
    }
}
