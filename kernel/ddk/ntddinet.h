// The network stack's control device, \Device\Inet. This kernel's own, not NT's. IRP_MJ_DEVICE_CONTROL,
// METHOD_BUFFERED; a request that waits can be cancelled. IRQL of the caller: PASSIVE_LEVEL.
// Addresses are byte arrays in network order. IOCTL_NET_OBTAIN_LEASE (ntddnet.h) is sent here, too.
//
// Every request is about the first card that the stack has bound. STATUS_NO_SUCH_DEVICE: there is
// none. STATUS_BUFFER_TOO_SMALL: less input or output than the structure. STATUS_DEVICE_REMOVED: the
// card went while the request waited.
#pragma once

#include <ntddnet.h>

// Sends an ICMP echo request and waits for its reply. Input: INET_PING. Output: INET_PING_RESULT.
// STATUS_INVALID_PARAMETER: more payload than INET_PING_LIMIT, or an address that no station has.
// STATUS_NETWORK_UNREACHABLE: no address of our own yet, or no way there. STATUS_IO_TIMEOUT: no reply.
// STATUS_DEVICE_BUSY: too many such requests at once.
#define IOCTL_INET_PING NET_CONTROL(0x0840, METHOD_BUFFERED)

#define INET_PING_LIMIT 400

typedef struct _INET_PING {
    UCHAR Address[NET_IPV4_ADDRESS_BYTES];
    ULONG PayloadBytes;
    ULONG TimeoutMilliseconds;
} INET_PING, *PINET_PING;

typedef struct _INET_PING_RESULT {
    ULONG Microseconds;                                // from the request to its reply
    UCHAR EthernetAddress[NET_ETHERNET_ADDRESS_BYTES]; // the reply came from there
    UCHAR TimeToLive;                                  // as it arrived
    UCHAR Padding;
} INET_PING_RESULT, *PINET_PING_RESULT;

C_ASSERT(sizeof(INET_PING) == 0x0C && sizeof(INET_PING_RESULT) == 0x0C);

// What the interface is now. Output: INET_INFORMATION.
#define IOCTL_INET_QUERY NET_CONTROL(0x0841, METHOD_BUFFERED)

typedef struct _INET_INFORMATION {
    UCHAR EthernetAddress[NET_ETHERNET_ADDRESS_BYTES];
    BOOLEAN LinkUp;
    BOOLEAN IsConfigured;                  // the addresses below are in use
    UCHAR Address[NET_IPV4_ADDRESS_BYTES]; // all zero: none
    UCHAR Mask[NET_IPV4_ADDRESS_BYTES];
    UCHAR Router[NET_IPV4_ADDRESS_BYTES];
    ULONG CardCount; // how many cards the stack has bound
    ULONG64 FramesReceived;
    ULONG64 FramesSent;
    ULONG64 FramesDropped; // of those received, for whatever reason
    ULONG64 FramesHeld; // the card's, now: fragments that wait for the rest, replies on their way
} INET_INFORMATION, *PINET_INFORMATION;

C_ASSERT(sizeof(INET_INFORMATION) == 0x38);

// The same at length, as text, with every counter. Output: text without a terminating zero;
// Information: its bytes. What does not fit is left out.
#define IOCTL_INET_DESCRIBE NET_CONTROL(0x0842, METHOD_BUFFERED)
