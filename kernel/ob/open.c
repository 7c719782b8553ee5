// Objects by OBJECT_ATTRIBUTES, and the Zw routines for directories and links.
#include "kernel/ob/obp.h"

// The directory that a relative name begins at, referenced, or NULL for none.
static NTSTATUS ObpReferenceRoot(const OBJECT_ATTRIBUTES *Attributes, PVOID *Root)
{
    *Root = NULL;
    if (Attributes->RootDirectory == NULL) {
        return STATUS_SUCCESS;
    }
    return ObReferenceObjectByHandle(Attributes->RootDirectory, DIRECTORY_TRAVERSE,
                                     &ObpDirectoryType, KernelMode, Root, NULL);
}

static VOID ObpReleaseRoot(PVOID Root)
{
    if (Root != NULL) {
        ObDereferenceObject(Root);
    }
}

NTSTATUS ObLookupByAttributes(const OBJECT_ATTRIBUTES *Attributes, POBJECT_TYPE Type, PVOID *Object)
{
    PVOID Root;
    *Object = NULL;
    if (Attributes == NULL || Attributes->ObjectName == NULL) {
        return STATUS_OBJECT_NAME_INVALID;
    }
    NTSTATUS Status = ObpReferenceRoot(Attributes, &Root);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    const BOOLEAN IsLinkWanted =
        Type == &ObpLinkType || (Attributes->Attributes & OBJ_OPENLINK) != 0;
    Status = ObLookupName(Root, Attributes->ObjectName, IsLinkWanted ? ObOpenLink : ObFollowLinks,
                          Object, NULL, NULL);
    ObpReleaseRoot(Root);
    if (NT_SUCCESS(Status) && Type != NULL && ObTypeOf(*Object) != Type) {
        ObDereferenceObject(*Object);
        *Object = NULL;
        return STATUS_OBJECT_TYPE_MISMATCH;
    }
    return Status;
}

NTSTATUS ObOpenByAttributes(const OBJECT_ATTRIBUTES *Attributes, POBJECT_TYPE Type,
                            ACCESS_MASK DesiredAccess, PHANDLE Handle)
{
    PVOID Object;
    *Handle = NULL;
    NTSTATUS Status = ObLookupByAttributes(Attributes, Type, &Object);
    if (NT_SUCCESS(Status)) {
        Status = ObCreateHandle(Object, DesiredAccess, Attributes->Attributes, Handle);
        ObDereferenceObject(Object);
    }
    return Status;
}

static NTSTATUS ObpNameByAttributes(PVOID Object, const OBJECT_ATTRIBUTES *Attributes)
{
    PVOID Root;
    NTSTATUS Status = ObpReferenceRoot(Attributes, &Root);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    Status = ObInsertName(Object, Root, Attributes->ObjectName);
    ObpReleaseRoot(Root);
    if (NT_SUCCESS(Status)) {
        ObpSetNameLife(Object, (Attributes->Attributes & OBJ_PERMANENT) != 0 ? ObpNameForEver
                                                                             : ObpNameWithHandle);
    }
    return Status;
}

NTSTATUS ObInsertAndOpen(PVOID Object, const OBJECT_ATTRIBUTES *Attributes,
                         ACCESS_MASK DesiredAccess, PHANDLE Handle)
{
    const BOOLEAN IsNamed =
        Attributes != NULL && Attributes->ObjectName != NULL && Attributes->ObjectName->Length != 0;
    NTSTATUS Status = STATUS_SUCCESS;
    *Handle = NULL;
    if (IsNamed) {
        Status = ObpNameByAttributes(Object, Attributes);
    }
    if (NT_SUCCESS(Status)) {
        Status = ObCreateHandle(Object, DesiredAccess,
                                Attributes != NULL ? Attributes->Attributes : 0, Handle);
        if (!NT_SUCCESS(Status)) {
            ObRemoveName(Object);
        }
    } else if (Status == STATUS_OBJECT_NAME_COLLISION &&
               (Attributes->Attributes & OBJ_OPENIF) != 0) {
        Status = ObOpenByAttributes(Attributes, ObTypeOf(Object), DesiredAccess, Handle);
        if (NT_SUCCESS(Status)) {
            Status = STATUS_OBJECT_NAME_EXISTS;
        }
    }
    ObDereferenceObject(Object);
    return Status;
}

NTSTATUS NTAPI ObReferenceObjectByName(PUNICODE_STRING ObjectName, ULONG Attributes,
                                       PVOID PassedAccessState, ACCESS_MASK DesiredAccess,
                                       POBJECT_TYPE ObjectType, KPROCESSOR_MODE AccessMode,
                                       PVOID ParseContext, PVOID *Object)
{
    UNREFERENCED_PARAMETER(PassedAccessState);
    UNREFERENCED_PARAMETER(DesiredAccess);
    UNREFERENCED_PARAMETER(AccessMode);
    UNREFERENCED_PARAMETER(ParseContext);
    OBJECT_ATTRIBUTES Name;
    InitializeObjectAttributes(&Name, ObjectName, Attributes, NULL, NULL);
    return ObLookupByAttributes(&Name, ObjectType, Object);
}

NTSTATUS NTAPI ZwMakeTemporaryObject(HANDLE Handle)
{
    PVOID Object;
    const NTSTATUS Status =
        ObReferenceObjectByHandle(Handle, DELETE, NULL, KernelMode, &Object, NULL);
    if (NT_SUCCESS(Status)) {
        ObpMakeTemporary(Object);
        ObDereferenceObject(Object);
    }
    return Status;
}

NTSTATUS NTAPI ZwCreateDirectoryObject(PHANDLE DirectoryHandle, ACCESS_MASK DesiredAccess,
                                       POBJECT_ATTRIBUTES ObjectAttributes)
{
    PVOID Directory = ObpAllocateDirectory();
    return Directory == NULL
               ? STATUS_INSUFFICIENT_RESOURCES
               : ObInsertAndOpen(Directory, ObjectAttributes, DesiredAccess, DirectoryHandle);
}

NTSTATUS NTAPI ZwOpenDirectoryObject(PHANDLE DirectoryHandle, ACCESS_MASK DesiredAccess,
                                     POBJECT_ATTRIBUTES ObjectAttributes)
{
    return ObOpenByAttributes(ObjectAttributes, &ObpDirectoryType, DesiredAccess, DirectoryHandle);
}

NTSTATUS NTAPI ZwCreateSymbolicLinkObject(PHANDLE LinkHandle, ACCESS_MASK DesiredAccess,
                                          POBJECT_ATTRIBUTES ObjectAttributes,
                                          PUNICODE_STRING LinkTarget)
{
    PVOID Link = ObpAllocateLink(LinkTarget, __builtin_return_address(0));
    return Link == NULL ? STATUS_INSUFFICIENT_RESOURCES
                        : ObInsertAndOpen(Link, ObjectAttributes, DesiredAccess, LinkHandle);
}

NTSTATUS NTAPI ZwOpenSymbolicLinkObject(PHANDLE LinkHandle, ACCESS_MASK DesiredAccess,
                                        POBJECT_ATTRIBUTES ObjectAttributes)
{
    return ObOpenByAttributes(ObjectAttributes, &ObpLinkType, DesiredAccess, LinkHandle);
}

NTSTATUS NTAPI ZwQuerySymbolicLinkObject(HANDLE LinkHandle, PUNICODE_STRING LinkTarget,
                                         PULONG ReturnedLength)
{
    PVOID Object;
    NTSTATUS Status = ObReferenceObjectByHandle(LinkHandle, SYMBOLIC_LINK_QUERY, &ObpLinkType,
                                                KernelMode, &Object, NULL);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    const OBP_LINK *Link = Object;
    if (ReturnedLength != NULL) {
        *ReturnedLength = Link->Length;
    }
    if (LinkTarget->MaximumLength < Link->Length) {
        Status = STATUS_BUFFER_TOO_SMALL;
    } else {
        RtlCopyMemory(LinkTarget->Buffer, Link->Target, Link->Length);
        LinkTarget->Length = Link->Length;
    }
    ObDereferenceObject(Object);
    return Status;
}
