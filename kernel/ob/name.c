// Names: directories, links, and the way through them.
//
//   \ ── Device ── Serial0          a name belongs to the object, and stands in its directory's list
//     ── GLOBAL?? ── COM1 ─link─▶ \Device\Serial0
//     ── ?? ─link─▶ \GLOBAL??       DosDevices ─link─▶ \??
//
// Invariants:
//   N1  An object has one name at most; the names of a directory differ, without regard to case.
//   N2  A name keeps its directory alive, and not its object. Whoever finds an object by name gets a
//       reference only while the count is not 0.
//   N3  A way through links takes OBP_MAXIMUM_LINKS of them at most, so that a circle ends.
// Lock: ObpNameLock for all lists of names. Lookups allocate nothing unless there is a link.
#include "kernel/ob/obp.h"

#define OBP_MAXIMUM_LINKS 32

static KI_LOCK ObpNameLock = KI_LOCK_INITIALIZER(OBP_RANK_NAMES, "ObpNameLock");

OBJECT_TYPE ObpDirectoryType = {.Name = "Directory"};
OBJECT_TYPE ObpLinkType = {.Name = "SymbolicLink"};

static struct {
    OB_HEADER Header;
    OBP_DIRECTORY Directory;
} ObpRoot;

//
// Comparing.
//

// ASCII, Latin-1, Greek and Cyrillic: what names of devices are made of.
WCHAR ObUpcase(WCHAR Character)
{
    if ((Character >= 'a' && Character <= 'z') ||
        (Character >= 0xE0 && Character <= 0xFE && Character != 0xF7) ||
        (Character >= 0x3B1 && Character <= 0x3C9 && Character != 0x3C2) ||
        (Character >= 0x430 && Character <= 0x44F)) {
        return (WCHAR)(Character - 0x20);
    }
    return Character >= 0x450 && Character <= 0x45F ? (WCHAR)(Character - 0x50) : Character;
}

BOOLEAN ObNamesEqual(PCUNICODE_STRING A, PCUNICODE_STRING B)
{
    if (A->Length != B->Length) {
        return FALSE;
    }
    for (ULONG Index = 0; Index < A->Length / sizeof(WCHAR); Index += 1) {
        if (ObUpcase(A->Buffer[Index]) != ObUpcase(B->Buffer[Index])) {
            return FALSE;
        }
    }
    return TRUE;
}

//
// Directories. The lock is held.
//

static POB_NAME ObpFindName(const OBP_DIRECTORY *Directory, PCUNICODE_STRING Text)
{
    for (PLIST_ENTRY Link = Directory->Names.Flink; Link != &Directory->Names; Link = Link->Flink) {
        const POB_NAME Name = CONTAINING_RECORD(Link, OB_NAME, Link);
        if (ObNamesEqual(&Name->Text, Text)) {
            return Name;
        }
    }
    return NULL;
}

static PVOID ObpFindObject(const OBP_DIRECTORY *Directory, PCUNICODE_STRING Text)
{
    const KIRQL OldIrql = KiAcquireLock(&ObpNameLock);
    const POB_NAME Name = ObpFindName(Directory, Text);
    PVOID Object = Name != NULL && ObTryReference(Name->Object) ? Name->Object : NULL;
    KiReleaseLock(&ObpNameLock, OldIrql);
    return Object;
}

//
// Lookup.
//

// Where a lookup stands: at Object, which is referenced, with Rest of the path still to go.
typedef struct _OBP_WALK {
    PVOID Object;
    UNICODE_STRING Rest; // empty, or begins with a backslash
    PVOID Buffer;        // what Rest points into, once a link was followed
    ULONG LinkCount;
} OBP_WALK, *POBP_WALK;

static VOID ObpStepTo(POBP_WALK Walk, PVOID Object)
{
    ObDereferenceObject(Walk->Object);
    Walk->Object = Object;
}

// Cuts the first component off Path, which begins with a backslash.
static UNICODE_STRING ObpCutComponent(PUNICODE_STRING Path)
{
    USHORT Length = sizeof(WCHAR);
    while (Length < Path->Length && Path->Buffer[Length / sizeof(WCHAR)] != '\\') {
        Length += sizeof(WCHAR);
    }
    const UNICODE_STRING Component = {(USHORT)(Length - sizeof(WCHAR)),
                                      (USHORT)(Length - sizeof(WCHAR)), Path->Buffer + 1};
    Path->Buffer += Length / sizeof(WCHAR);
    Path->Length -= Length;
    return Component;
}

static NTSTATUS ObpStepDown(POBP_WALK Walk)
{
    const UNICODE_STRING Component = ObpCutComponent(&Walk->Rest);
    if (Component.Length == 0) {
        return STATUS_OBJECT_NAME_INVALID;
    }
    PVOID Found = ObpFindObject(Walk->Object, &Component);
    if (Found == NULL) {
        return Walk->Rest.Length == 0 ? STATUS_OBJECT_NAME_NOT_FOUND : STATUS_OBJECT_PATH_NOT_FOUND;
    }
    ObpStepTo(Walk, Found);
    return STATUS_SUCCESS;
}

// From the link on: its target, and then what was left of the path.
static NTSTATUS ObpFollowLink(POBP_WALK Walk)
{
    const OBP_LINK *Target = Walk->Object;
    const SIZE_T ByteCount = (SIZE_T)Target->Length + Walk->Rest.Length;
    if (Walk->LinkCount++ == OBP_MAXIMUM_LINKS || ByteCount > MAXUSHORT) {
        return STATUS_OBJECT_PATH_INVALID;
    }
    PUCHAR Buffer = ExAllocatePool2(POOL_FLAG_PAGED, ByteCount + sizeof(WCHAR), OBP_TAG);
    if (Buffer == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    RtlCopyMemory(Buffer, Target->Target, Target->Length);
    RtlCopyMemory(Buffer + Target->Length, Walk->Rest.Buffer, Walk->Rest.Length);
    if (Walk->Buffer != NULL) {
        ExFreePoolWithTag(Walk->Buffer, OBP_TAG);
    }
    Walk->Buffer = Buffer;
    Walk->Rest = (UNICODE_STRING){(USHORT)ByteCount, (USHORT)ByteCount, (PWSTR)(PVOID)Buffer};
    ObReferenceObject(&ObpRoot.Directory);
    ObpStepTo(Walk, &ObpRoot.Directory);
    return STATUS_SUCCESS;
}

// Goes on until the path has come to its end, or nobody here understands what is left of it.
static NTSTATUS ObpWalk(POBP_WALK Walk, OB_LINK_RULE LinkRule)
{
    NTSTATUS Status = STATUS_SUCCESS;
    while (NT_SUCCESS(Status)) {
        const POBJECT_TYPE Type = ObTypeOf(Walk->Object);
        const BOOLEAN IsAtEnd = Walk->Rest.Length == 0;
        if (Type == &ObpLinkType && !(IsAtEnd && LinkRule == ObOpenLink)) {
            Status = ObpFollowLink(Walk);
        } else if (Type == &ObpDirectoryType && !IsAtEnd) {
            Status = ObpStepDown(Walk);
        } else {
            return STATUS_SUCCESS;
        }
    }
    return Status;
}

static NTSTATUS ObpBeginWalk(PVOID Root, PCUNICODE_STRING Name, POBP_WALK Walk, PWSTR *Prefixed)
{
    *Prefixed = NULL;
    *Walk = (OBP_WALK){.Object = &ObpRoot.Directory, .Rest = *Name};
    if (Name->Length == 0 || Name->Length % sizeof(WCHAR) != 0) {
        return STATUS_OBJECT_NAME_INVALID;
    }
    if (Root == NULL) {
        if (Name->Buffer[0] != '\\') {
            return STATUS_OBJECT_NAME_INVALID;
        }
        if (Name->Length == sizeof(WCHAR)) {
            Walk->Rest.Length = 0; // "\" is the root itself
        }
        return STATUS_SUCCESS;
    }
    if (Name->Buffer[0] == '\\' || Name->Length > MAXUSHORT - sizeof(WCHAR)) {
        return STATUS_OBJECT_NAME_INVALID;
    }
    // As if it had a backslash in front.
    *Prefixed = ExAllocatePool2(POOL_FLAG_PAGED, Name->Length + sizeof(WCHAR), OBP_TAG);
    if (*Prefixed == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    (*Prefixed)[0] = '\\';
    RtlCopyMemory(*Prefixed + 1, Name->Buffer, Name->Length);
    Walk->Object = Root;
    Walk->Rest.Buffer = *Prefixed;
    Walk->Rest.Length = (USHORT)(Name->Length + sizeof(WCHAR));
    Walk->Buffer = *Prefixed;
    return STATUS_SUCCESS;
}

NTSTATUS ObLookupName(PVOID Root, PCUNICODE_STRING Name, OB_LINK_RULE LinkRule, PVOID *Object,
                      PUNICODE_STRING Remaining, PVOID *Buffer)
{
    OBP_WALK Walk;
    PWSTR Prefixed;
    *Object = NULL;
    NTSTATUS Status = ObpBeginWalk(Root, Name, &Walk, &Prefixed);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    ObReferenceObject(Walk.Object);
    Status = ObpWalk(&Walk, LinkRule);
    if (NT_SUCCESS(Status) && Walk.Rest.Length != 0 &&
        (Remaining == NULL || !ObTypeOf(Walk.Object)->IsNameEnd)) {
        Status = STATUS_OBJECT_PATH_NOT_FOUND;
    }
    if (NT_SUCCESS(Status)) {
        *Object = Walk.Object;
    } else {
        ObDereferenceObject(Walk.Object);
    }
    if (NT_SUCCESS(Status) && Remaining != NULL) {
        *Remaining = Walk.Rest;
        *Buffer = Walk.Buffer;
    } else if (Walk.Buffer != NULL) {
        ExFreePoolWithTag(Walk.Buffer, OBP_TAG);
    }
    return Status;
}

//
// Giving and taking names.
//

static BOOLEAN ObpLinkName(POB_NAME Name)
{
    const POBP_DIRECTORY Directory = Name->Directory;
    const KIRQL OldIrql = KiAcquireLock(&ObpNameLock);
    const BOOLEAN IsFree =
        ObpFindName(Directory, &Name->Text) == NULL && OB_HEADER_OF(Name->Object)->Name == NULL;
    if (IsFree) {
        InsertTailList(&Directory->Names, &Name->Link);
        OB_HEADER_OF(Name->Object)->Name = Name;
    }
    KiReleaseLock(&ObpNameLock, OldIrql);
    return IsFree;
}

// Directory's reference is consumed.
static NTSTATUS ObpNameInDirectory(PVOID Object, PVOID Directory, PCUNICODE_STRING Text)
{
    NTSTATUS Status = STATUS_INSUFFICIENT_RESOURCES;
    POB_NAME Name = ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(*Name) + Text->Length, OBP_TAG);
    if (Name != NULL) {
        Name->Directory = Directory;
        Name->Object = Object;
        Name->Text = (UNICODE_STRING){Text->Length, Text->Length, Name->Buffer};
        RtlCopyMemory(Name->Buffer, Text->Buffer, Text->Length);
        if (ObpLinkName(Name)) {
            return STATUS_SUCCESS;
        }
        ExFreePoolWithTag(Name, OBP_TAG);
        Status = STATUS_OBJECT_NAME_COLLISION;
    }
    ObDereferenceObject(Directory);
    return Status;
}

// Finds the directory that Name's last component is to stand in; *Last gets that component.
static NTSTATUS ObpFindParent(PVOID Root, PCUNICODE_STRING Name, PVOID *Directory,
                              PUNICODE_STRING Last)
{
    USHORT Count = Name->Length / sizeof(WCHAR);
    USHORT Begin = Count;
    while (Begin > 0 && Name->Buffer[Begin - 1] != '\\') {
        Begin -= 1;
    }
    *Last = (UNICODE_STRING){(USHORT)((Count - Begin) * sizeof(WCHAR)),
                             (USHORT)((Count - Begin) * sizeof(WCHAR)), Name->Buffer + Begin};
    // A name is full or relative, as Root says; and no component is empty, the first neither.
    const BOOLEAN IsFull = Count != 0 && Name->Buffer[0] == '\\';
    if (Last->Length == 0 || IsFull != (Root == NULL) || (IsFull && Begin == 2)) {
        return STATUS_OBJECT_NAME_INVALID;
    }
    if (Begin <= 1) {
        *Directory = Begin == 0 ? Root : &ObpRoot.Directory;
        ObReferenceObject(*Directory);
        return STATUS_SUCCESS;
    }
    const UNICODE_STRING Path = {(USHORT)((Begin - 1) * sizeof(WCHAR)),
                                 (USHORT)((Begin - 1) * sizeof(WCHAR)), Name->Buffer};
    const NTSTATUS Status = ObLookupName(Root, &Path, ObFollowLinks, Directory, NULL, NULL);
    return Status == STATUS_OBJECT_NAME_NOT_FOUND ? STATUS_OBJECT_PATH_NOT_FOUND : Status;
}

NTSTATUS ObInsertName(PVOID Object, PVOID Root, PCUNICODE_STRING Name)
{
    PVOID Directory;
    UNICODE_STRING Last;
    const NTSTATUS Status = ObpFindParent(Root, Name, &Directory, &Last);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    if (ObTypeOf(Directory) != &ObpDirectoryType) {
        ObDereferenceObject(Directory);
        return STATUS_OBJECT_PATH_NOT_FOUND;
    }
    return ObpNameInDirectory(Object, Directory, &Last);
}

VOID ObRemoveName(PVOID Object)
{
    const POB_HEADER Header = OB_HEADER_OF(Object);
    const KIRQL OldIrql = KiAcquireLock(&ObpNameLock);
    const POB_NAME Name = Header->Name;
    const BOOLEAN KeptReference = Header->NameKeepsReference;
    if (Name != NULL) {
        RemoveEntryList(&Name->Link);
        Header->Name = NULL;
        Header->NameKeepsReference = FALSE;
        Header->NameGoesWithHandle = FALSE;
    }
    KiReleaseLock(&ObpNameLock, OldIrql);
    if (Name != NULL) {
        ObDereferenceObject(Name->Directory);
        ExFreePoolWithTag(Name, OBP_TAG);
        if (KeptReference) {
            ObDereferenceObject(Object);
        }
    }
}

VOID ObpSetNameLife(PVOID Object, OBP_NAME_LIFE Life)
{
    const POB_HEADER Header = OB_HEADER_OF(Object);
    switch (Life) {
    case ObpNameWithHandle:
        Header->NameGoesWithHandle = TRUE;
        break;
    case ObpNameForEver:
        ObReferenceObject(Object);
        Header->NameKeepsReference = TRUE;
        break;
    }
}

VOID ObpMakeTemporary(PVOID Object)
{
    const POB_HEADER Header = OB_HEADER_OF(Object);
    const KIRQL OldIrql = KiAcquireLock(&ObpNameLock);
    const BOOLEAN KeptReference = Header->NameKeepsReference;
    Header->NameKeepsReference = FALSE;
    Header->NameGoesWithHandle = TRUE;
    KiReleaseLock(&ObpNameLock, OldIrql);
    if (Header->HandleCount == 0) {
        ObRemoveName(Object);
    }
    if (KeptReference) {
        ObDereferenceObject(Object);
    }
}

UNICODE_STRING ObLastName(PVOID Object)
{
    const POB_NAME Name = OB_HEADER_OF(Object)->Name;
    return Name != NULL ? Name->Text : (UNICODE_STRING){0, 0, NULL};
}

//
// Full names.
//

// Writes the name that ends just below End, from behind, and returns where it begins. Buffer NULL:
// only counts. The lock is held.
static SIZE_T ObpBuildName(PVOID Object, PWSTR Buffer, SIZE_T End)
{
    SIZE_T Begin = End;
    for (const OB_NAME *Name = OB_HEADER_OF(Object)->Name; Name != NULL;
         Name = OB_HEADER_OF(Name->Directory)->Name) {
        const SIZE_T Count = Name->Text.Length / sizeof(WCHAR);
        Begin -= Count + 1;
        if (Buffer != NULL) {
            Buffer[Begin] = '\\';
            RtlCopyMemory(&Buffer[Begin + 1], Name->Text.Buffer, Name->Text.Length);
        }
    }
    if (Begin == End && Object == &ObpRoot.Directory) {
        Begin -= 1;
        if (Buffer != NULL) {
            Buffer[Begin] = '\\';
        }
    }
    return Begin;
}

NTSTATUS NTAPI ObQueryNameString(PVOID Object, POBJECT_NAME_INFORMATION ObjectNameInfo,
                                 ULONG Length, PULONG ReturnLength)
{
    const SIZE_T Far = MAXLONG;
    UNICODE_STRING Suffix = {0, 0, NULL};
    const POBJECT_TYPE Type = ObTypeOf(Object);
    PVOID Base = Type->NameBase != NULL ? Type->NameBase(Object, &Suffix) : Object;
    NTSTATUS Status = STATUS_INFO_LENGTH_MISMATCH;
    const KIRQL OldIrql = KiAcquireLock(&ObpNameLock);
    const SIZE_T BaseCount = Base != NULL ? Far - ObpBuildName(Base, NULL, Far) : 0;
    const SIZE_T TextBytes = BaseCount * sizeof(WCHAR) + Suffix.Length;
    const SIZE_T Needed =
        sizeof(*ObjectNameInfo) + (TextBytes != 0 ? TextBytes + sizeof(WCHAR) : 0);
    *ReturnLength = (ULONG)Needed;
    if (TextBytes > MAXUSHORT - sizeof(WCHAR)) {
        Status = STATUS_OBJECT_NAME_INVALID;
    } else if (ObjectNameInfo != NULL && Length >= Needed) {
        PWSTR Text = (PWSTR)(ObjectNameInfo + 1);
        ObjectNameInfo->Name = (UNICODE_STRING){0, 0, NULL};
        if (TextBytes != 0) {
            if (Base != NULL) {
                ObpBuildName(Base, Text, BaseCount);
            }
            RtlCopyMemory(&Text[BaseCount], Suffix.Buffer, Suffix.Length);
            Text[TextBytes / sizeof(WCHAR)] = 0;
            ObjectNameInfo->Name =
                (UNICODE_STRING){(USHORT)TextBytes, (USHORT)(TextBytes + sizeof(WCHAR)), Text};
        }
        Status = STATUS_SUCCESS;
    }
    KiReleaseLock(&ObpNameLock, OldIrql);
    return Status;
}

//
// Directories, links and the first of them.
//

PVOID ObpAllocateDirectory(VOID)
{
    POBP_DIRECTORY Directory = ObAllocateObject(&ObpDirectoryType, sizeof(*Directory));
    if (Directory != NULL) {
        InitializeListHead(&Directory->Names);
    }
    return Directory;
}

PVOID ObpAllocateLink(PCUNICODE_STRING Target, const VOID *Maker)
{
    POBP_LINK Link = ObAllocateObject(&ObpLinkType, sizeof(*Link) + Target->Length);
    if (Link != NULL) {
        Link->Maker = Maker;
        Link->Length = Target->Length;
        RtlCopyMemory(Link->Target, Target->Buffer, Target->Length);
    }
    return Link;
}

// Names a new object for ever; the caller's reference is consumed.
static NTSTATUS ObpInsertForEver(PVOID Object, PCUNICODE_STRING Name)
{
    if (Object == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    const NTSTATUS Status = ObInsertName(Object, NULL, Name);
    if (NT_SUCCESS(Status)) {
        ObpSetNameLife(Object, ObpNameForEver);
    }
    ObDereferenceObject(Object);
    return Status;
}

NTSTATUS ObCreateSymbolicLink(PCUNICODE_STRING Name, PCUNICODE_STRING Target, const VOID *Maker)
{
    return ObpInsertForEver(ObpAllocateLink(Target, Maker), Name);
}

const VOID *ObLinkMaker(PVOID Object)
{
    return ObTypeOf(Object) == &ObpLinkType ? ((const OBP_LINK *)Object)->Maker : NULL;
}

NTSTATUS ObDeleteSymbolicLink(PCUNICODE_STRING Name)
{
    PVOID Link;
    NTSTATUS Status = ObLookupName(NULL, Name, ObOpenLink, &Link, NULL, NULL);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    if (ObTypeOf(Link) == &ObpLinkType) {
        ObRemoveName(Link);
    } else {
        Status = STATUS_OBJECT_TYPE_MISMATCH;
    }
    ObDereferenceObject(Link);
    return Status;
}

// The Index-th object of a directory, referenced, or NULL.
static PVOID ObpObjectAt(const OBP_DIRECTORY *Directory, ULONG Index)
{
    PVOID Object = NULL;
    const KIRQL OldIrql = KiAcquireLock(&ObpNameLock);
    for (PLIST_ENTRY Link = Directory->Names.Flink; Link != &Directory->Names && Object == NULL;
         Link = Link->Flink) {
        const POB_NAME Name = CONTAINING_RECORD(Link, OB_NAME, Link);
        if (Index-- == 0) {
            // One that is being deleted is passed over.
            if (ObTryReference(Name->Object)) {
                Object = Name->Object;
            } else {
                Index = 0;
            }
        }
    }
    KiReleaseLock(&ObpNameLock, OldIrql);
    return Object;
}

VOID ObWalkDirectory(PCUNICODE_STRING Name, OB_WALK_ROUTINE *Routine, PVOID Context)
{
    PVOID Directory;
    if (!NT_SUCCESS(ObLookupName(NULL, Name, ObFollowLinks, &Directory, NULL, NULL))) {
        return;
    }
    BOOLEAN GoOn = ObTypeOf(Directory) == &ObpDirectoryType;
    for (ULONG Index = 0; GoOn; Index += 1) {
        PVOID Object = ObpObjectAt(Directory, Index);
        GoOn = Object != NULL && Routine(Object, Context);
        if (Object != NULL) {
            ObDereferenceObject(Object);
        }
    }
    ObDereferenceObject(Directory);
}

static const UNICODE_STRING ObpFirstDirectories[] = {
    RTL_CONSTANT_STRING(u"\\Device"),     RTL_CONSTANT_STRING(u"\\Driver"),
    RTL_CONSTANT_STRING(u"\\GLOBAL??"),   RTL_CONSTANT_STRING(u"\\Callback"),
    RTL_CONSTANT_STRING(u"\\FileSystem"), RTL_CONSTANT_STRING(u"\\BaseNamedObjects"),
};

static const struct {
    UNICODE_STRING Name;
    UNICODE_STRING Target;
} ObpFirstLinks[] = {
    {RTL_CONSTANT_STRING(u"\\??"), RTL_CONSTANT_STRING(u"\\GLOBAL??")},
    {RTL_CONSTANT_STRING(u"\\DosDevices"), RTL_CONSTANT_STRING(u"\\??")},
    {RTL_CONSTANT_STRING(u"\\GLOBAL??\\Global"), RTL_CONSTANT_STRING(u"\\GLOBAL??")},
};

VOID ObInitSystem(VOID)
{
    ObInitializeStaticObject(&ObpRoot.Header, &ObpDirectoryType);
    InitializeListHead(&ObpRoot.Directory.Names);
    NTSTATUS Status = STATUS_SUCCESS;
    for (ULONG Row = 0; Row < ARRAYSIZE(ObpFirstDirectories) && NT_SUCCESS(Status); Row += 1) {
        Status = ObpInsertForEver(ObpAllocateDirectory(), &ObpFirstDirectories[Row]);
    }
    for (ULONG Row = 0; Row < ARRAYSIZE(ObpFirstLinks) && NT_SUCCESS(Status); Row += 1) {
        Status = ObCreateSymbolicLink(&ObpFirstLinks[Row].Name, &ObpFirstLinks[Row].Target, NULL);
    }
    if (!NT_SUCCESS(Status)) {
        DbgPrint("ob: the first directories could not be made: status 0x%08x\n", Status);
    }
}
