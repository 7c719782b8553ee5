// Device interfaces: names of devices by class.
//
//   "\??\" device id # instance # "{class}" [ "\" reference ]     with # for each backslash within
//
// An interface that is enabled is a symbolic link to its PDO. Lock: the PnP mutex.
#include "kernel/io/pnp.h"

#include <wdmguid.h>

typedef struct _IOP_INTERFACE {
    LIST_ENTRY Link;
    PDEVICE_OBJECT Pdo; // not referenced: goes with the node
    GUID Class;
    BOOLEAN IsEnabled;
    UNICODE_STRING Name;
    WCHAR Buffer[];
} IOP_INTERFACE, *PIOP_INTERFACE;

static LIST_ENTRY IopInterfaces = {&IopInterfaces, &IopInterfaces};

#define IOP_GUID_CHARACTERS 38 // "{8-4-4-4-12}"

static VOID IopFormatGuid(const GUID *Guid, PWSTR To)
{
    CHAR Text[IOP_GUID_CHARACTERS + 1];
    RtlFormatBuffer(Text, sizeof(Text), "{%08x-%04x-%04x-%02x%02x-%02x%02x%02x%02x%02x%02x}",
                    Guid->Data1, Guid->Data2, Guid->Data3, Guid->Data4[0], Guid->Data4[1],
                    Guid->Data4[2], Guid->Data4[3], Guid->Data4[4], Guid->Data4[5], Guid->Data4[6],
                    Guid->Data4[7]);
    for (ULONG Index = 0; Index < IOP_GUID_CHARACTERS; Index += 1) {
        To[Index] = (UCHAR)Text[Index];
    }
}

static ULONG IopCountText(PCWSTR Text)
{
    ULONG Length = 0;
    while (Text[Length] != 0) {
        Length += 1;
    }
    return Length;
}

static PIOP_INTERFACE IopMakeInterface(const IOP_NODE *Node, const GUID *Class,
                                       const UNICODE_STRING *Reference)
{
    static const WCHAR Prefix[4] = {'\\', '?', '?', '\\'};
    const ULONG PathCount = IopCountText(Node->InstancePath);
    const ULONG ReferenceCount = Reference != NULL ? Reference->Length / sizeof(WCHAR) : 0;
    const ULONG Count = ARRAYSIZE(Prefix) + PathCount + 1 + IOP_GUID_CHARACTERS +
                        (ReferenceCount != 0 ? 1 + ReferenceCount : 0);
    PIOP_INTERFACE Interface =
        ExAllocatePool2(POOL_FLAG_PAGED, sizeof(*Interface) + (Count + 1) * sizeof(WCHAR), IOP_TAG);
    if (Interface == NULL) {
        return NULL;
    }
    PWSTR To = Interface->Buffer;
    RtlCopyMemory(To, Prefix, sizeof(Prefix));
    To += ARRAYSIZE(Prefix);
    for (ULONG Index = 0; Index < PathCount; Index += 1) {
        *To++ = Node->InstancePath[Index] == '\\' ? '#' : Node->InstancePath[Index];
    }
    *To++ = '#';
    IopFormatGuid(Class, To);
    To += IOP_GUID_CHARACTERS;
    if (ReferenceCount != 0) {
        *To++ = '\\';
        RtlCopyMemory(To, Reference->Buffer, Reference->Length);
    }
    Interface->Pdo = Node->Pdo;
    Interface->Class = *Class;
    Interface->Name = (UNICODE_STRING){(USHORT)(Count * sizeof(WCHAR)),
                                       (USHORT)((Count + 1) * sizeof(WCHAR)), Interface->Buffer};
    return Interface;
}

static PIOP_INTERFACE IopFindInterface(PCUNICODE_STRING Name)
{
    for (PLIST_ENTRY Link = IopInterfaces.Flink; Link != &IopInterfaces; Link = Link->Flink) {
        const PIOP_INTERFACE Interface = CONTAINING_RECORD(Link, IOP_INTERFACE, Link);
        if (ObNamesEqual(&Interface->Name, Name)) {
            return Interface;
        }
    }
    return NULL;
}

static NTSTATUS IopCopyName(const UNICODE_STRING *From, PUNICODE_STRING To)
{
    To->Buffer = ExAllocatePool2(POOL_FLAG_PAGED, From->MaximumLength, IOP_TAG);
    if (To->Buffer == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    RtlCopyMemory(To->Buffer, From->Buffer, From->MaximumLength);
    To->Length = From->Length;
    To->MaximumLength = From->MaximumLength;
    return STATUS_SUCCESS;
}

static NTSTATUS IopRegister(PIOP_NODE Node, const GUID *Class, const UNICODE_STRING *Reference,
                            PUNICODE_STRING Name)
{
    PIOP_INTERFACE New = IopMakeInterface(Node, Class, Reference);
    if (New == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    const NTSTATUS Status = IopCopyName(&New->Name, Name);
    // A name that is registered again is the same interface.
    if (NT_SUCCESS(Status) && IopFindInterface(&New->Name) == NULL) {
        InsertTailList(&IopInterfaces, &New->Link);
    } else {
        ExFreePoolWithTag(New, IOP_TAG);
    }
    return Status;
}

NTSTATUS NTAPI IoRegisterDeviceInterface(PDEVICE_OBJECT PhysicalDeviceObject,
                                         const GUID *InterfaceClassGuid,
                                         PUNICODE_STRING ReferenceString,
                                         PUNICODE_STRING SymbolicLinkName)
{
    NTSTATUS Status = STATUS_INVALID_DEVICE_REQUEST;
    IopAcquirePnp();
    const PIOP_NODE Node = IopNodeOf(PhysicalDeviceObject);
    if (Node != NULL && Node->InstancePath != NULL) {
        Status = IopRegister(Node, InterfaceClassGuid, ReferenceString, SymbolicLinkName);
    }
    IopReleasePnp();
    return Status;
}

// The link goes to the name of the PDO.
static NTSTATUS IopLinkInterface(const IOP_INTERFACE *Interface)
{
    ULONG ByteCount;
    ObQueryNameString(Interface->Pdo, NULL, 0, &ByteCount);
    POBJECT_NAME_INFORMATION Target = ExAllocatePool2(POOL_FLAG_PAGED, ByteCount, IOP_TAG);
    if (Target == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    NTSTATUS Status = ObQueryNameString(Interface->Pdo, Target, ByteCount, &ByteCount);
    if (NT_SUCCESS(Status) && Target->Name.Length == 0) {
        Status = STATUS_INVALID_DEVICE_REQUEST;
    }
    if (NT_SUCCESS(Status)) {
        Status = ObCreateSymbolicLink(&Interface->Name, &Target->Name, NULL);
    }
    ExFreePoolWithTag(Target, IOP_TAG);
    return Status;
}

static NTSTATUS IopSwitchInterface(PIOP_INTERFACE Interface, BOOLEAN Enable)
{
    if (Interface->IsEnabled == Enable) {
        return Enable ? STATUS_OBJECT_NAME_EXISTS : STATUS_OBJECT_NAME_NOT_FOUND;
    }
    const NTSTATUS Status =
        Enable ? IopLinkInterface(Interface) : ObDeleteSymbolicLink(&Interface->Name);
    if (NT_SUCCESS(Status)) {
        Interface->IsEnabled = Enable;
        IopNotifyInterface(Enable ? &GUID_DEVICE_INTERFACE_ARRIVAL : &GUID_DEVICE_INTERFACE_REMOVAL,
                           &Interface->Class, &Interface->Name);
    }
    return Status;
}

NTSTATUS NTAPI IoSetDeviceInterfaceState(PUNICODE_STRING SymbolicLinkName, BOOLEAN Enable)
{
    IopAcquirePnp();
    const PIOP_INTERFACE Interface = IopFindInterface(SymbolicLinkName);
    const NTSTATUS Status =
        Interface != NULL ? IopSwitchInterface(Interface, Enable) : STATUS_OBJECT_NAME_NOT_FOUND;
    IopReleasePnp();
    return Status;
}

static BOOLEAN IopIsListed(const IOP_INTERFACE *Interface, const GUID *Class,
                           const DEVICE_OBJECT *Pdo, ULONG Flags)
{
    return RtlEqualMemory(&Interface->Class, Class, sizeof(GUID)) &&
           (Pdo == NULL || Interface->Pdo == Pdo) &&
           (Interface->IsEnabled || (Flags & DEVICE_INTERFACE_INCLUDE_NONACTIVE) != 0);
}

NTSTATUS NTAPI IoGetDeviceInterfaces(const GUID *InterfaceClassGuid,
                                     PDEVICE_OBJECT PhysicalDeviceObject, ULONG Flags,
                                     PWSTR *SymbolicLinkList)
{
    SIZE_T ByteCount = sizeof(WCHAR);
    IopAcquirePnp();
    for (PLIST_ENTRY Link = IopInterfaces.Flink; Link != &IopInterfaces; Link = Link->Flink) {
        const PIOP_INTERFACE Interface = CONTAINING_RECORD(Link, IOP_INTERFACE, Link);
        if (IopIsListed(Interface, InterfaceClassGuid, PhysicalDeviceObject, Flags)) {
            ByteCount += Interface->Name.MaximumLength;
        }
    }
    PUCHAR To = ExAllocatePool2(POOL_FLAG_PAGED, ByteCount, IOP_TAG);
    *SymbolicLinkList = (PWSTR)(PVOID)To;
    for (PLIST_ENTRY Link = IopInterfaces.Flink; To != NULL && Link != &IopInterfaces;
         Link = Link->Flink) {
        const PIOP_INTERFACE Interface = CONTAINING_RECORD(Link, IOP_INTERFACE, Link);
        if (IopIsListed(Interface, InterfaceClassGuid, PhysicalDeviceObject, Flags)) {
            RtlCopyMemory(To, Interface->Name.Buffer, Interface->Name.MaximumLength);
            To += Interface->Name.MaximumLength;
        }
    }
    IopReleasePnp();
    return *SymbolicLinkList != NULL ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;
}

VOID IopForgetInterfaces(PDEVICE_OBJECT Pdo)
{
    for (PLIST_ENTRY Link = IopInterfaces.Flink, Next; Link != &IopInterfaces; Link = Next) {
        const PIOP_INTERFACE Interface = CONTAINING_RECORD(Link, IOP_INTERFACE, Link);
        Next = Link->Flink;
        if (Interface->Pdo == Pdo) {
            IopSwitchInterface(Interface, FALSE);
            RemoveEntryList(Link);
            ExFreePoolWithTag(Interface, IOP_TAG);
        }
    }
}

VOID IopReportExistingInterfaces(const GUID *Class, IOP_INTERFACE_ROUTINE *Routine, PVOID Context)
{
    for (PLIST_ENTRY Link = IopInterfaces.Flink; Link != &IopInterfaces; Link = Link->Flink) {
        const PIOP_INTERFACE Interface = CONTAINING_RECORD(Link, IOP_INTERFACE, Link);
        if (IopIsListed(Interface, Class, NULL, 0)) {
            Routine(&Interface->Name, Context);
        }
    }
}
