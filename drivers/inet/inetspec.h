// What is on the wire: Ethernet, ARP (RFC 826), IPv4 (RFC 791), ICMP (RFC 792), UDP (RFC 768).
// Fields are arrays of bytes because they are big-endian and unaligned. IPv4 addresses outside of
// these structures are ULONGs in host order: 10.0.2.15 is 0x0A00020F.
#pragma once

#include <wdm.h>

#define ETHERNET_ADDRESS_BYTES 6
#define ETHERNET_TYPE_IPV4 0x0800
#define ETHERNET_TYPE_ARP 0x0806
#define ETHERNET_TYPE_VLAN 0x8100 // a tag of two bytes and the real type follow
#define ETHERNET_MINIMUM_BYTES 60 // without the check sequence

typedef struct _ETHERNET_HEADER {
    UCHAR Destination[ETHERNET_ADDRESS_BYTES];
    UCHAR Source[ETHERNET_ADDRESS_BYTES];
    UCHAR Type[2];
} ETHERNET_HEADER, *PETHERNET_HEADER;
C_ASSERT(sizeof(ETHERNET_HEADER) == 14);

#define VLAN_TAG_BYTES 4
#define VLAN_IDENTIFIER_MASK 0x0FFF // 0: no VLAN, only a priority (IEEE 802.1Q)

#define ARP_HARDWARE_ETHERNET 1
#define ARP_REQUEST 1
#define ARP_REPLY 2

typedef struct _ARP_MESSAGE {
    UCHAR HardwareType[2];
    UCHAR ProtocolType[2];
    UCHAR HardwareBytes;
    UCHAR ProtocolBytes;
    UCHAR Operation[2];
    UCHAR SenderHardware[ETHERNET_ADDRESS_BYTES];
    UCHAR SenderAddress[4];
    UCHAR TargetHardware[ETHERNET_ADDRESS_BYTES];
    UCHAR TargetAddress[4];
} ARP_MESSAGE, *PARP_MESSAGE;
C_ASSERT(sizeof(ARP_MESSAGE) == 28);

#define IPV4_VERSION 4
#define IPV4_TIME_TO_LIVE 64 // hops
#define IPV4_PROTOCOL_ICMP 1
#define IPV4_PROTOCOL_UDP 17
#define IPV4_DONT_FRAGMENT 0x4000
#define IPV4_MORE_FRAGMENTS 0x2000
#define IPV4_FRAGMENT_OFFSET 0x1FFF // in units of 8 bytes
#define IPV4_FRAGMENT_UNIT 8
#define IPV4_LARGEST_DATAGRAM 65535 // header and payload
#define IPV4_OPTION_NOP 1
#define IPV4_BROADCAST 0xFFFFFFFFu

typedef struct _IPV4_HEADER {
    UCHAR VersionAndLength; // high half: version; low half: header length in 4-byte words
    UCHAR TypeOfService;
    UCHAR TotalLength[2]; // header and payload, in bytes
    UCHAR Identification[2];
    UCHAR Fragment[2];
    UCHAR TimeToLive;
    UCHAR Protocol;
    UCHAR Checksum[2];
    UCHAR Source[4];
    UCHAR Destination[4];
} IPV4_HEADER, *PIPV4_HEADER;
C_ASSERT(sizeof(IPV4_HEADER) == 20);

#define IPV4_LARGEST_HEADER 60

#define ICMP_ECHO_REPLY 0
#define ICMP_UNREACHABLE 3
#define ICMP_ECHO_REQUEST 8
#define ICMP_PROTOCOL_UNREACHABLE 2 // a code of ICMP_UNREACHABLE
#define ICMP_PORT_UNREACHABLE 3
#define ICMP_QUOTED_BYTES 8 // of the payload, behind the header, in an error message

typedef struct _ICMP_HEADER {
    UCHAR Type;
    UCHAR Code;
    UCHAR Checksum[2];
    UCHAR Identifier[2];
    UCHAR Sequence[2];
} ICMP_HEADER, *PICMP_HEADER;
C_ASSERT(sizeof(ICMP_HEADER) == 8);

typedef struct _UDP_HEADER {
    UCHAR SourcePort[2];
    UCHAR DestinationPort[2];
    UCHAR Length[2];   // header and payload, in bytes
    UCHAR Checksum[2]; // 0: the sender computed none
} UDP_HEADER, *PUDP_HEADER;
C_ASSERT(sizeof(UDP_HEADER) == 8);

#define UDP_PORT_ECHO 7 // RFC 862
#define UDP_PORT_DHCP_SERVER 67
#define UDP_PORT_DHCP_CLIENT 68

// The offsets of a frame that the stack builds: no tag, no options.
#define INET_NETWORK_OFFSET sizeof(ETHERNET_HEADER)
#define INET_TRANSPORT_OFFSET (INET_NETWORK_OFFSET + sizeof(IPV4_HEADER))
#define INET_UDP_PAYLOAD_OFFSET (INET_TRANSPORT_OFFSET + sizeof(UDP_HEADER))
