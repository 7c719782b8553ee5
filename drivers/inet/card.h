// The driver around the stack: cards, their threads, and the requests in both directions.
#pragma once

#include "inet.h"

#define INET_TAG 'tenI'
#define INET_SENDS 4          // IOCTL_NET_SEND requests at a time, each with a list of frames
#define INET_RECEIVE_COUNT 64 // frames that are taken at a time
#define INET_RETRY_MS 500     // before a card that was not ready is asked again
#define INET_CARD_NAME_CHARACTERS 192

// A request to the card's driver, allocated once. Its completion routine marks it and wakes the thread.
typedef struct _INET_REQUEST {
    struct _INET_CARD *Card;
    PIRP Irp;
    ULONG Code;        // IOCTL_NET_...
    PNET_FRAME Frames; // of IOCTL_NET_SEND
    BOOLEAN IsOut;     // under way; the thread's
    BOOLEAN IsDone;    // by the completion routine, under Card->Lock
} INET_REQUEST, *PINET_REQUEST;

// Somebody's echo request: the slot in the stack and the IRP find each other by this.
typedef struct _INET_PINGER {
    IO_CSQ_IRP_CONTEXT Csq;
    BOOLEAN IsUsed;
    LONGLONG StartTicks;
} INET_PINGER, *PINET_PINGER;

// What an IRP in the queue waits for; in DriverContext[0].
typedef enum _INET_WAIT {
    InetWaitThread, // that the thread looks at it
    InetWaitLease,
    InetWaitPing,
} INET_WAIT;

typedef struct _INET_CARD {
    LIST_ENTRY Link;     // in InetCards
    UNICODE_STRING Name; // of the card's interface
    WCHAR NameBuffer[INET_CARD_NAME_CHARACTERS];
    PFILE_OBJECT File; // NULL: not open, because the card was about to be removed
    PDEVICE_OBJECT Device;
    PVOID Notification; // of what happens to the device

    PKTHREAD Thread;
    KEVENT Wake;
    KSPIN_LOCK Lock;    // for INET_REQUEST.IsDone, and for the queue of IRPs
    BOOLEAN IsStopping; // set by whoever stops; the thread ends
    BOOLEAN HasStopped; // the thread has told the stack
    ULONG64 RetryMs;    // the card is not asked for frames before that
    BOOLEAN KnowsLink;

    INET_REQUEST Sends[INET_SENDS];
    INET_REQUEST Receive;
    INET_REQUEST Return;
    INET_REQUEST Event;
    NET_RECEIVE ReceiveList;
    NET_EVENT EventBuffer; // its Sequence goes in, all comes out

    IO_CSQ Csq;
    LIST_ENTRY Clients; // IRPs
    INET_PINGER Pingers[INET_PINGS];

    PUCHAR PacketMemory;
    PCHAR ReportMemory;
    PMDL Chunks[INET_CHUNK_COUNT];
    INET_PACKET Packets[INET_PACKET_COUNT];
    INET_INTERFACE Interface;
} INET_CARD, *PINET_CARD;

// How the stack is to be set up; from the driver's key.
typedef struct _INET_SETTINGS {
    ULONG Address; // 0: by DHCP
    ULONG Mask;
    ULONG Router;
} INET_SETTINGS, *PINET_SETTINGS;

extern PDRIVER_OBJECT InetDriver;
extern INET_SETTINGS InetSettings;

//
// card.c: a card, from the arrival of its interface to its removal. PASSIVE_LEVEL.
//

VOID InetInitializeCards(VOID); // before everything else

// Binds the card with this interface; nothing happens when it is bound already.
NTSTATUS InetBindCard(_In_ PCUNICODE_STRING Name);
VOID InetUnbindCard(_In_ PCUNICODE_STRING Name);
VOID InetUnbindAll(VOID);

// Puts a client's IRP into the first card's queue, marked pending; STATUS_PENDING. Else the IRP is the
// caller's still.
NTSTATUS InetQueueClient(_In_ PIRP Irp);
ULONG InetCountCards(VOID);

// Allocates, or frees, everything that a card has besides its structure.
_Must_inspect_result_ NTSTATUS InetAllocateCard(_Inout_ PINET_CARD Card);
VOID InetFreeCard(_In_ PINET_CARD Card);

//
// thread.c: the thread of a card, the only user of its interface.
//

KSTART_ROUTINE InetRunCard;
IO_COMPLETION_ROUTINE InetRequestDone;
// One buffered request, waited for. PASSIVE_LEVEL.
_Must_inspect_result_ NTSTATUS InetAskCard(_In_ PDEVICE_OBJECT Device, _In_ ULONG Code,
                                           _Inout_updates_bytes_(ByteCount) PVOID Buffer,
                                           _In_ ULONG InputBytes, _In_ ULONG OutputBytes,
                                           _Out_opt_ PULONG_PTR Information);

//
// client.c: \Device\Inet's requests, in the thread; and the queue in which they wait.
//

VOID InetInitializeClients(_Inout_ PINET_CARD Card);
VOID InetServeClients(_Inout_ PINET_CARD Card);
VOID InetEndClients(_Inout_ PINET_CARD Card, _In_ INET_WAIT Wait, _In_ NTSTATUS Status);
VOID InetClientPingDone(_Inout_ PINET_CARD Card, _In_ PINET_PINGER Pinger, _In_ NTSTATUS Status,
                        _In_opt_ const UCHAR *Hardware, _In_ UCHAR TimeToLive);

//
// reports.c: what the state service can tell.
//

ULONG InetMakeReport(PVOID Context, PCSTR Name, PCHAR Buffer, ULONG Capacity);
