// A card, from the arrival of its interface to its removal.
//
//   bind            open the device, ask for its address, allocate, listen to what happens to it, start
//                   the thread
//   QUERY_REMOVE    the thread ends, the file is closed; the card stays in the list without a file
//   REMOVE_CANCELLED   as bind
//   REMOVE_COMPLETE, the interface's removal, unload:   the card is forgotten
//
// Lock: InetCardLock for the list and for IsStopping, so that no IRP comes to the queue of a thread
// that has ended. The PnP manager calls one routine at a time; the unload routine runs among them.
#include "card.h"

#include <wdmguid.h>

static LIST_ENTRY InetCards = {&InetCards, &InetCards};
static FAST_MUTEX InetCardLock;

VOID InetInitializeCards(VOID)
{
    ExInitializeFastMutex(&InetCardLock);
}

static VOID InetLockCards(VOID)
{
    ExAcquireFastMutex(&InetCardLock);
}

static VOID InetUnlockCards(VOID)
{
    ExReleaseFastMutex(&InetCardLock);
}

// -------------------------------------------------------------------------------------------------
// Memory.

static NTSTATUS InetAllocateRequest(PINET_CARD Card, PINET_REQUEST Request, ULONG Code)
{
    Request->Card = Card;
    Request->Code = Code;
    Request->Irp = IoAllocateIrp(Card->Device->StackSize, FALSE);
    return Request->Irp != NULL ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;
}

static NTSTATUS InetAllocateRequests(PINET_CARD Card)
{
    NTSTATUS Status = InetAllocateRequest(Card, &Card->Receive, IOCTL_NET_RECEIVE);

    if (NT_SUCCESS(Status)) {
        Status = InetAllocateRequest(Card, &Card->Return, IOCTL_NET_RETURN);
    }
    if (NT_SUCCESS(Status)) {
        Status = InetAllocateRequest(Card, &Card->Event, IOCTL_NET_WAIT_EVENT);
    }
    for (ULONG Index = 0; Index < INET_SENDS && NT_SUCCESS(Status); Index += 1) {
        Status = InetAllocateRequest(Card, &Card->Sends[Index], IOCTL_NET_SEND);
    }
    return Status;
}

static VOID InetFreeRequest(PINET_REQUEST Request)
{
    if (Request->Irp != NULL) {
        IoFreeIrp(Request->Irp);
        Request->Irp = NULL;
    }
}

// An MDL for memory of the nonpaged pool; NULL: none.
static PMDL InetDescribeMemory(PVOID Memory, ULONG ByteCount)
{
    const PMDL Mdl = IoAllocateMdl(Memory, ByteCount, FALSE, FALSE, NULL);
    if (Mdl != NULL) {
        MmBuildMdlForNonPagedPool(Mdl);
    }
    return Mdl;
}

static NTSTATUS InetAllocatePackets(PINET_CARD Card)
{
    Card->PacketMemory =
        ExAllocatePool2(POOL_FLAG_NON_PAGED, INET_PACKET_COUNT * INET_PACKET_BYTES, INET_TAG);
    for (ULONG Index = 0; Index < INET_PACKET_COUNT && Card->PacketMemory != NULL; Index += 1) {
        const PINET_PACKET Packet = &Card->Packets[Index];
        Packet->Memory = Card->PacketMemory + Index * INET_PACKET_BYTES;
        Packet->Mdl = InetDescribeMemory(Packet->Memory, INET_PACKET_BYTES);
        if (Packet->Mdl == NULL) {
            return STATUS_INSUFFICIENT_RESOURCES;
        }
    }
    return Card->PacketMemory != NULL ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;
}

static NTSTATUS InetAllocateReport(PINET_CARD Card)
{
    Card->ReportMemory = ExAllocatePool2(POOL_FLAG_NON_PAGED, INET_REPORT_BYTES, INET_TAG);
    for (ULONG Index = 0; Index < INET_CHUNK_COUNT && Card->ReportMemory != NULL; Index += 1) {
        Card->Chunks[Index] =
            InetDescribeMemory(Card->ReportMemory + Index * INET_CHUNK_BYTES, INET_CHUNK_BYTES);
        if (Card->Chunks[Index] == NULL) {
            return STATUS_INSUFFICIENT_RESOURCES;
        }
    }
    return Card->ReportMemory != NULL ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;
}

NTSTATUS InetAllocateCard(PINET_CARD Card)
{
    NTSTATUS Status = InetAllocateRequests(Card);

    if (NT_SUCCESS(Status)) {
        Status = InetAllocatePackets(Card);
    }
    if (NT_SUCCESS(Status)) {
        Status = InetAllocateReport(Card);
    }
    return Status;
}

VOID InetFreeCard(PINET_CARD Card)
{
    InetFreeRequest(&Card->Receive);
    InetFreeRequest(&Card->Return);
    InetFreeRequest(&Card->Event);
    for (ULONG Index = 0; Index < INET_SENDS; Index += 1) {
        InetFreeRequest(&Card->Sends[Index]);
    }
    for (ULONG Index = 0; Index < INET_PACKET_COUNT; Index += 1) {
        if (Card->Packets[Index].Mdl != NULL) {
            IoFreeMdl(Card->Packets[Index].Mdl);
        }
    }
    for (ULONG Index = 0; Index < INET_CHUNK_COUNT; Index += 1) {
        if (Card->Chunks[Index] != NULL) {
            IoFreeMdl(Card->Chunks[Index]);
        }
    }
    if (Card->PacketMemory != NULL) {
        ExFreePoolWithTag(Card->PacketMemory, INET_TAG);
    }
    if (Card->ReportMemory != NULL) {
        ExFreePoolWithTag(Card->ReportMemory, INET_TAG);
    }
}

// -------------------------------------------------------------------------------------------------
// What the stack tells.

static VOID InetPingDone(PVOID Context, PVOID PingContext, NTSTATUS Status, const UCHAR *Hardware,
                         UCHAR TimeToLive)
{
    InetClientPingDone(Context, PingContext, Status, Hardware, TimeToLive);
}

static VOID InetLeaseDone(PVOID Context, NTSTATUS Status)
{
    InetEndClients(Context, InetWaitLease, Status);
}

static VOID InetTell(PVOID Context, PCSTR Text, ULONG Address, const UCHAR *Hardware)
{
    UNREFERENCED_PARAMETER(Context);
    DbgPrint("inet: %u.%u.%u.%u: %s %02x:%02x:%02x:%02x:%02x:%02x\n", Address >> 24,
             Address >> 16 & 0xFF, Address >> 8 & 0xFF, Address & 0xFF, Text, Hardware[0],
             Hardware[1], Hardware[2], Hardware[3], Hardware[4], Hardware[5]);
}

// -------------------------------------------------------------------------------------------------
// Opening and closing.

static VOID InetSetUpInterface(PINET_CARD Card, const UCHAR *Hardware)
{
    const INET_PORT Port = {Card, InetMakeReport, InetPingDone, InetLeaseDone, InetTell};
    const PINET_INTERFACE Interface = &Card->Interface;
    LARGE_INTEGER Ticks = KeQueryPerformanceCounter(NULL);

    Interface->Packets = Card->Packets;
    Interface->Report = Card->ReportMemory;
    Interface->ReportChunks = Card->Chunks;
    Interface->StaticAddress = InetSettings.Address;
    Interface->StaticMask = InetSettings.Mask;
    Interface->StaticRouter = InetSettings.Router;
    InetInitialize(Interface, &Port, Hardware,
                   (ULONG)Ticks.QuadPart ^ (ULONG)(Ticks.QuadPart >> 32));
}

static NTSTATUS InetStartThread(PINET_CARD Card)
{
    OBJECT_ATTRIBUTES Attributes;
    HANDLE Handle;

    InitializeObjectAttributes(&Attributes, NULL, OBJ_KERNEL_HANDLE, NULL, NULL);
    const NTSTATUS Status = PsCreateSystemThread(&Handle, THREAD_ALL_ACCESS, &Attributes, NULL,
                                                 NULL, InetRunCard, Card);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    // Cannot fail: the handle is ours, it is open, and whoever asks is the kernel.
    (VOID) ObReferenceObjectByHandle(Handle, THREAD_ALL_ACCESS, NULL, KernelMode,
                                     (PVOID *)&Card->Thread, NULL);
    ZwClose(Handle);
    return STATUS_SUCCESS;
}

static NTSTATUS NTAPI InetTargetChanged(PVOID Structure, PVOID Context);

// A new life of a card whose name is known. On failure nothing is left but the name.
static NTSTATUS InetOpenCard(PINET_CARD Card)
{
    NET_ADAPTER_INFORMATION Adapter;

    NTSTATUS Status =
        IoGetDeviceObjectPointer(&Card->Name, FILE_ALL_ACCESS, &Card->File, &Card->Device);
    if (!NT_SUCCESS(Status)) {
        Card->File = NULL;
        return Status;
    }
    Status = InetAskCard(Card->Device, IOCTL_NET_QUERY_ADAPTER, &Adapter, 0, sizeof(Adapter), NULL);
    if (NT_SUCCESS(Status)) {
        Status = InetAllocateCard(Card);
    }
    if (NT_SUCCESS(Status) && Card->Notification == NULL) {
        Status = IoRegisterPlugPlayNotification(EventCategoryTargetDeviceChange, 0, Card->File,
                                                InetDriver, InetTargetChanged, Card,
                                                &Card->Notification);
    }
    if (NT_SUCCESS(Status)) {
        InetSetUpInterface(Card, Adapter.EthernetAddress);
        Status = InetStartThread(Card);
    }
    if (!NT_SUCCESS(Status)) {
        InetFreeCard(Card);
        ObDereferenceObject(Card->File);
        Card->File = NULL;
    }
    return Status;
}

// Whatever the thread has, it gives back before it ends; then the memory goes, and the file is closed.
static VOID InetCloseCard(PINET_CARD Card)
{
    if (Card->File == NULL) {
        return;
    }
    InetLockCards();
    Card->IsStopping = TRUE;
    InetUnlockCards();
    KeSetEvent(&Card->Wake, IO_NO_INCREMENT, FALSE);
    (VOID) KeWaitForSingleObject(Card->Thread, Executive, KernelMode, FALSE, NULL);
    ObDereferenceObject(Card->Thread);
    InetFreeCard(Card);
    ObDereferenceObject(Card->File);
    Card->File = NULL;
}

// All but the name, and what keeps the card in the list.
static VOID InetResetCard(PINET_CARD Card)
{
    const LIST_ENTRY Link = Card->Link;
    const PVOID Notification = Card->Notification;
    const USHORT Length = Card->Name.Length;
    const ULONG First = FIELD_OFFSET(INET_CARD, File);

    RtlZeroMemory((PUCHAR)Card + First, sizeof(*Card) - First);
    Card->Link = Link;
    Card->Notification = Notification;
    Card->Name = (UNICODE_STRING){Length, Length, Card->NameBuffer};
    KeInitializeEvent(&Card->Wake, SynchronizationEvent, FALSE);
    KeInitializeSpinLock(&Card->Lock);
    InetInitializeClients(Card);
}

static NTSTATUS NTAPI InetTargetChanged(PVOID Structure, PVOID Context)
{
    const TARGET_DEVICE_REMOVAL_NOTIFICATION *const Change = Structure;
    const PINET_CARD Card = Context;

    if (!RtlEqualMemory(&Change->Event, &GUID_TARGET_DEVICE_REMOVE_CANCELLED, sizeof(GUID))) {
        InetCloseCard(Card);
    } else if (Card->File == NULL) {
        InetLockCards();
        InetResetCard(Card);
        InetUnlockCards();
        (VOID) InetOpenCard(Card);
    }
    return STATUS_SUCCESS;
}

// -------------------------------------------------------------------------------------------------
// The list.

static PINET_CARD InetFindCard(PCUNICODE_STRING Name)
{
    PINET_CARD Found = NULL;

    InetLockCards();
    for (PLIST_ENTRY Link = InetCards.Flink; Link != &InetCards && Found == NULL;
         Link = Link->Flink) {
        const PINET_CARD Card = CONTAINING_RECORD(Link, INET_CARD, Link);
        if (RtlEqualUnicodeString(&Card->Name, Name, TRUE)) {
            Found = Card;
        }
    }
    InetUnlockCards();
    return Found;
}

static VOID InetForgetCard(PINET_CARD Card)
{
    InetLockCards();
    RemoveEntryList(&Card->Link);
    InetUnlockCards();
    InetCloseCard(Card);
    if (Card->Notification != NULL) {
        IoUnregisterPlugPlayNotification(Card->Notification);
    }
    ExFreePoolWithTag(Card, INET_TAG);
}

NTSTATUS InetBindCard(PCUNICODE_STRING Name)
{
    PINET_CARD Card = InetFindCard(Name);

    if (Card != NULL && Card->File != NULL) {
        return STATUS_SUCCESS;
    }
    if (Card != NULL) {
        InetForgetCard(Card); // it was removed, and has come again
    }
    if (Name->Length > sizeof(Card->NameBuffer)) {
        return STATUS_NAME_TOO_LONG;
    }
    Card = ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(*Card), INET_TAG);
    if (Card == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    RtlCopyMemory(Card->NameBuffer, Name->Buffer, Name->Length);
    Card->Name.Length = Name->Length;
    InitializeListHead(&Card->Link);
    InetResetCard(Card);
    InetLockCards();
    InsertTailList(&InetCards, &Card->Link);
    InetUnlockCards();
    const NTSTATUS Status = InetOpenCard(Card);
    if (!NT_SUCCESS(Status)) {
        InetForgetCard(Card);
    }
    return Status;
}

VOID InetUnbindCard(PCUNICODE_STRING Name)
{
    const PINET_CARD Card = InetFindCard(Name);
    if (Card != NULL) {
        InetForgetCard(Card);
    }
}

VOID InetUnbindAll(VOID)
{
    while (!IsListEmpty(&InetCards)) {
        InetForgetCard(CONTAINING_RECORD(InetCards.Flink, INET_CARD, Link));
    }
}

ULONG InetCountCards(VOID)
{
    ULONG Count = 0;

    InetLockCards();
    for (PLIST_ENTRY Link = InetCards.Flink; Link != &InetCards; Link = Link->Flink) {
        Count += CONTAINING_RECORD(Link, INET_CARD, Link)->File != NULL;
    }
    InetUnlockCards();
    return Count;
}

NTSTATUS InetQueueClient(PIRP Irp)
{
    NTSTATUS Status = STATUS_NO_SUCH_DEVICE;

    InetLockCards();
    for (PLIST_ENTRY Link = InetCards.Flink; Link != &InetCards; Link = Link->Flink) {
        const PINET_CARD Card = CONTAINING_RECORD(Link, INET_CARD, Link);
        if (Card->Thread != NULL && !Card->IsStopping) {
            Irp->Tail.Overlay.DriverContext[0] = (PVOID)(ULONG_PTR)InetWaitThread;
            IoCsqInsertIrp(&Card->Csq, Irp, NULL); // marks it pending
            KeSetEvent(&Card->Wake, IO_NO_INCREMENT, FALSE);
            Status = STATUS_PENDING;
            break;
        }
    }
    InetUnlockCards();
    return Status;
}
