// Requests to network cards (IRP_MJ_DEVICE_CONTROL, METHOD_BUFFERED). This kernel's own, not NT's:
// they stand in for a network stack. Addresses are byte arrays in network order.
#pragma once

#include <wdm.h>
#include <ntdef.h>

#define NET_ETHERNET_ADDRESS_BYTES 6
#define NET_IPV4_ADDRESS_BYTES 4

// Output: NET_ADAPTER_INFORMATION.
#define IOCTL_NET_QUERY_ADAPTER                                                                    \
    CTL_CODE(FILE_DEVICE_PHYSICAL_NETCARD, 0x0800, METHOD_BUFFERED, FILE_ANY_ACCESS)

// Asks for an address by DHCP and waits for it, seconds at most. Output: NET_LEASE.
// STATUS_NETWORK_UNREACHABLE: no link. STATUS_IO_TIMEOUT: no answer. STATUS_DEVICE_PROTOCOL_ERROR:
// the server refused.
#define IOCTL_NET_OBTAIN_LEASE                                                                     \
    CTL_CODE(FILE_DEVICE_PHYSICAL_NETCARD, 0x0801, METHOD_BUFFERED, FILE_ANY_ACCESS)

typedef struct _NET_ADAPTER_INFORMATION {
    UCHAR EthernetAddress[NET_ETHERNET_ADDRESS_BYTES];
    BOOLEAN LinkUp;
    BOOLEAN FullDuplex;
    ULONG MegabitsPerSecond; // 0 without link
} NET_ADAPTER_INFORMATION, *PNET_ADAPTER_INFORMATION;

// What the server did not tell is all zero.
typedef struct _NET_LEASE {
    UCHAR Address[NET_IPV4_ADDRESS_BYTES];
    UCHAR Mask[NET_IPV4_ADDRESS_BYTES];
    UCHAR Router[NET_IPV4_ADDRESS_BYTES];
    UCHAR NameServer[NET_IPV4_ADDRESS_BYTES];
    UCHAR Server[NET_IPV4_ADDRESS_BYTES];
    ULONG LeaseSeconds;
} NET_LEASE, *PNET_LEASE;

C_ASSERT(sizeof(NET_ADAPTER_INFORMATION) == 0x0C && sizeof(NET_LEASE) == 0x18);
