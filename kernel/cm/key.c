// The tree of keys.
//
// Invariants, under the lock:
//   K1  A key that is in the tree has a parent that is in the tree, or is the root.
//   K2  A deleted key has no parent, no subkeys and no values; its handles get STATUS_KEY_DELETED.
// Lock: one mutex for all; every routine runs at PASSIVE_LEVEL.

#include "kernel/cm/cmp.h"

static VOID CmpFreeKey(PVOID Object);

static OBJECT_TYPE CmpKeyType = {.Name = "Key", .Delete = CmpFreeKey};
POBJECT_TYPE CmpKeyTypePointer = &CmpKeyType;
POBJECT_TYPE *CmKeyObjectType = &CmpKeyTypePointer;

PCM_KEY CmpRoot;
static KMUTEX CmpMutex;

VOID CmpAcquireLock(VOID)
{
    NT_ASSERT(KeGetCurrentIrql() == PASSIVE_LEVEL);
    KeWaitForSingleObject(&CmpMutex, Executive, KernelMode, FALSE, NULL);
}

VOID CmpReleaseLock(VOID)
{
    KeReleaseMutex(&CmpMutex, FALSE);
}

static VOID CmpFreeValues(PCM_KEY Key)
{
    while (!IsListEmpty(&Key->Values)) {
        ExFreePoolWithTag(CONTAINING_RECORD(RemoveHeadList(&Key->Values), CM_VALUE, Link), CM_TAG);
    }
    Key->ValueCount = 0;
}

static VOID CmpFreeKey(PVOID Object)
{
    PCM_KEY Key = Object;
    CmpFreeValues(Key);
    RtlFreeUnicodeString(&Key->Name);
    RtlFreeUnicodeString(&Key->Class);
}

static PCM_KEY CmpAllocateKey(PCUNICODE_STRING Name, PCUNICODE_STRING Class)
{
    PCM_KEY Key = ObAllocateObject(&CmpKeyType, sizeof(CM_KEY));
    if (Key == NULL) {
        return NULL;
    }
    InitializeListHead(&Key->SubKeys);
    InitializeListHead(&Key->Values);
    KeQuerySystemTimePrecise(&Key->LastWriteTime);
    if (!NT_SUCCESS(RtlDuplicateUnicodeString(0, Name, &Key->Name)) ||
        !NT_SUCCESS(RtlDuplicateUnicodeString(0, Class, &Key->Class))) {
        ObDereferenceObject(Key);
        return NULL;
    }
    return Key;
}

// -------------------------------------------------------------------------------------------------
// Paths.

// Cuts the first component off Path.
static UNICODE_STRING CmpNextComponent(PUNICODE_STRING Path)
{
    while (Path->Length > 0 && Path->Buffer[0] == '\\') {
        Path->Buffer += 1;
        Path->Length -= sizeof(WCHAR);
    }
    UNICODE_STRING Component = {0, 0, Path->Buffer};
    while (Path->Length > 0 && Path->Buffer[0] != '\\') {
        Path->Buffer += 1;
        Path->Length -= sizeof(WCHAR);
        Component.Length += sizeof(WCHAR);
    }
    Component.MaximumLength = Component.Length;
    return Component;
}

static PCM_KEY CmpFindSubKey(const CM_KEY *Key, PCUNICODE_STRING Name)
{
    for (PLIST_ENTRY Link = Key->SubKeys.Flink; Link != &Key->SubKeys; Link = Link->Flink) {
        PCM_KEY SubKey = CONTAINING_RECORD(Link, CM_KEY, SiblingLink);
        if (RtlEqualUnicodeString(&SubKey->Name, Name, TRUE)) {
            return SubKey;
        }
    }
    return NULL;
}

static PCM_KEY CmpAddSubKey(PCM_KEY Key, PCUNICODE_STRING Name, PCUNICODE_STRING Class)
{
    PCM_KEY SubKey = CmpAllocateKey(Name, Class);
    if (SubKey != NULL) {
        SubKey->Parent = Key;
        InsertTailList(&Key->SubKeys, &SubKey->SiblingLink);
        Key->SubKeyCount += 1;
        KeQuerySystemTimePrecise(&Key->LastWriteTime);
    }
    return SubKey;
}

static NTSTATUS CmpWalk(PCM_KEY Key, UNICODE_STRING Path, CM_CREATE Create, PCUNICODE_STRING Class,
                        PCM_KEY *Result, PULONG Disposition)
{
    *Disposition = REG_OPENED_EXISTING_KEY;
    for (UNICODE_STRING Name = CmpNextComponent(&Path); Name.Length > 0;
         Name = CmpNextComponent(&Path)) {
        if (Key->IsDeleted) {
            return STATUS_KEY_DELETED;
        }
        PCM_KEY SubKey = CmpFindSubKey(Key, &Name);
        const BOOLEAN IsLast = Path.Length == 0;
        if (SubKey == NULL && (Create == CmCreateAll || (Create == CmCreateLast && IsLast))) {
            SubKey = CmpAddSubKey(Key, &Name, IsLast ? Class : NULL);
            if (SubKey == NULL) {
                return STATUS_INSUFFICIENT_RESOURCES;
            }
            *Disposition = REG_CREATED_NEW_KEY;
        }
        if (SubKey == NULL) {
            return STATUS_OBJECT_NAME_NOT_FOUND;
        }
        Key = SubKey;
    }
    if (Key->IsDeleted) {
        return STATUS_KEY_DELETED;
    }
    *Result = Key;
    return STATUS_SUCCESS;
}

NTSTATUS CmpLookup(PCM_KEY Root, PCUNICODE_STRING Path, CM_CREATE Create, PCUNICODE_STRING Class,
                   PCM_KEY *Key, PULONG Disposition)
{
    UNICODE_STRING Rest = *Path;
    if (Root == NULL) {
        UNICODE_STRING Registry = RTL_CONSTANT_STRING(u"Registry");
        if (Rest.Length == 0 || Rest.Buffer[0] != '\\') {
            return STATUS_OBJECT_PATH_SYNTAX_BAD;
        }
        const UNICODE_STRING First = CmpNextComponent(&Rest);
        if (!RtlEqualUnicodeString(&First, &Registry, TRUE)) {
            return STATUS_OBJECT_PATH_SYNTAX_BAD;
        }
        Root = CmpRoot;
    }
    if (Root == NULL) {
        return STATUS_OBJECT_NAME_NOT_FOUND; // the boot has not come so far
    }
    ULONG Way;
    CmpAcquireLock();
    const NTSTATUS Status = CmpWalk(Root, Rest, Create, Class, Key, &Way);
    if (NT_SUCCESS(Status)) {
        ObReferenceObject(*Key);
    }
    CmpReleaseLock();
    if (Disposition != NULL) {
        *Disposition = Way;
    }
    return Status;
}

NTSTATUS CmpReferenceKey(HANDLE Handle, PCM_KEY *Key)
{
    PVOID Object = NULL;
    const NTSTATUS Status =
        ObReferenceObjectByHandle(Handle, 0, &CmpKeyType, KernelMode, &Object, NULL);
    *Key = Object;
    return Status;
}

// -------------------------------------------------------------------------------------------------
// Opening and deleting.

static NTSTATUS CmpOpen(PHANDLE KeyHandle, ACCESS_MASK DesiredAccess,
                        const OBJECT_ATTRIBUTES *Attributes, CM_CREATE Create,
                        PCUNICODE_STRING Class, PULONG Disposition)
{
    static const UNICODE_STRING Empty;
    PCM_KEY Root = NULL;
    if (Attributes->RootDirectory != NULL) {
        const NTSTATUS Status = CmpReferenceKey(Attributes->RootDirectory, &Root);
        if (!NT_SUCCESS(Status)) {
            return Status;
        }
    }
    PCUNICODE_STRING Path = Attributes->ObjectName != NULL ? Attributes->ObjectName : &Empty;
    PCM_KEY Key;
    NTSTATUS Status = STATUS_OBJECT_PATH_SYNTAX_BAD;
    // A path that begins at a key has no backslash in front.
    if (Root == NULL || Path->Length == 0 || Path->Buffer[0] != '\\') {
        Status = CmpLookup(Root, Path, Create, Class, &Key, Disposition);
    }
    if (Root != NULL) {
        ObDereferenceObject(Root);
    }
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    Status = ObCreateHandle(Key, DesiredAccess, Attributes->Attributes, KeyHandle);
    ObDereferenceObject(Key);
    return Status;
}

NTSTATUS NTAPI ZwOpenKey(PHANDLE KeyHandle, ACCESS_MASK DesiredAccess,
                         POBJECT_ATTRIBUTES ObjectAttributes)
{
    return CmpOpen(KeyHandle, DesiredAccess, ObjectAttributes, CmOpenOnly, NULL, NULL);
}

NTSTATUS NTAPI ZwOpenKeyEx(PHANDLE KeyHandle, ACCESS_MASK DesiredAccess,
                           POBJECT_ATTRIBUTES ObjectAttributes, ULONG OpenOptions)
{
    UNREFERENCED_PARAMETER(OpenOptions);
    return ZwOpenKey(KeyHandle, DesiredAccess, ObjectAttributes);
}

NTSTATUS NTAPI ZwCreateKey(PHANDLE KeyHandle, ACCESS_MASK DesiredAccess,
                           POBJECT_ATTRIBUTES ObjectAttributes, ULONG TitleIndex,
                           PUNICODE_STRING Class, ULONG CreateOptions, PULONG Disposition)
{
    UNREFERENCED_PARAMETER(TitleIndex);
    UNREFERENCED_PARAMETER(CreateOptions);
    return CmpOpen(KeyHandle, DesiredAccess, ObjectAttributes, CmCreateLast, Class, Disposition);
}

NTSTATUS NTAPI ZwDeleteKey(HANDLE KeyHandle)
{
    PCM_KEY Key;
    NTSTATUS Status = CmpReferenceKey(KeyHandle, &Key);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    CmpAcquireLock();
    if (Key->IsDeleted) {
        Status = STATUS_KEY_DELETED;
    } else if (Key->Parent == NULL || Key->SubKeyCount > 0) {
        Status = STATUS_CANNOT_DELETE;
    } else {
        RemoveEntryList(&Key->SiblingLink);
        Key->Parent->SubKeyCount -= 1;
        Key->Parent = NULL;
        Key->IsDeleted = TRUE;
        CmpFreeValues(Key);
        ObDereferenceObject(Key); // the tree's
    }
    CmpReleaseLock();
    ObDereferenceObject(Key);
    return Status;
}

NTSTATUS NTAPI ZwFlushKey(HANDLE KeyHandle)
{
    PCM_KEY Key;
    const NTSTATUS Status = CmpReferenceKey(KeyHandle, &Key);
    if (NT_SUCCESS(Status)) {
        ObDereferenceObject(Key);
    }
    return Status;
}

// -------------------------------------------------------------------------------------------------
// The first keys.

#define CONTROL_SET u"\\Registry\\Machine\\System\\CurrentControlSet\\"

static PCWSTR const CmpFirstKeys[] = {
    CONTROL_SET u"Services",
    CONTROL_SET u"Control\\Class",
    CONTROL_SET u"Enum",
    u"\\Registry\\Machine\\Software\\Microsoft\\Windows NT\\CurrentVersion",
    u"\\Registry\\Machine\\Hardware\\DeviceMap",
    u"\\Registry\\User\\.Default",
};

static NTSTATUS CmpMakeKey(PCUNICODE_STRING Path)
{
    PCM_KEY Key;
    const NTSTATUS Status = CmpLookup(NULL, Path, CmCreateAll, NULL, &Key, NULL);
    if (NT_SUCCESS(Status)) {
        ObDereferenceObject(Key);
    }
    return Status;
}

VOID CmInitSystem(VOID)
{
    UNICODE_STRING Name = RTL_CONSTANT_STRING(u"Registry");
    KeInitializeMutex(&CmpMutex, 0);
    CmpRoot = CmpAllocateKey(&Name, NULL);
    for (ULONG Index = 0; Index < ARRAYSIZE(CmpFirstKeys); Index += 1) {
        UNICODE_STRING Path;
        RtlInitUnicodeString(&Path, CmpFirstKeys[Index]);
        if (!NT_SUCCESS(CmpMakeKey(&Path))) {
            DbgPrint("registry: no memory for the key %wZ\n", &Path);
        }
    }
}

NTSTATUS CmCreateServiceKey(PCUNICODE_STRING ServiceKeyName)
{
    UNICODE_STRING Name = RTL_CONSTANT_STRING(u"Parameters");
    PCM_KEY Service, Parameters;
    NTSTATUS Status = CmpLookup(NULL, ServiceKeyName, CmCreateAll, NULL, &Service, NULL);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    Status = CmpLookup(Service, &Name, CmCreateLast, NULL, &Parameters, NULL);
    if (NT_SUCCESS(Status)) {
        ObDereferenceObject(Parameters);
    }
    ObDereferenceObject(Service);
    return Status;
}

// -------------------------------------------------------------------------------------------------
// Keys of devices.

#define DEVICE_PATH_UNITS 160

NTSTATUS NTAPI IoOpenDeviceRegistryKey(PDEVICE_OBJECT DeviceObject, ULONG DevInstKeyType,
                                       ACCESS_MASK DesiredAccess, PHANDLE DevInstRegKey)
{
    static const UNICODE_STRING Enum = RTL_CONSTANT_STRING(CONTROL_SET u"Enum\\");
    static const UNICODE_STRING Class = RTL_CONSTANT_STRING(CONTROL_SET u"Control\\Class\\");
    const ULONG KeyType = DevInstKeyType & 3;
    if (KeyType != PLUGPLAY_REGKEY_DEVICE && KeyType != PLUGPLAY_REGKEY_DRIVER) {
        return STATUS_INVALID_PARAMETER;
    }
    WCHAR Buffer[DEVICE_PATH_UNITS], NumberBuffer[20];
    UNICODE_STRING Path, Number;
    RtlInitEmptyUnicodeString(&Path, Buffer, sizeof(Buffer));
    RtlInitEmptyUnicodeString(&Number, NumberBuffer, sizeof(NumberBuffer));
    RtlInt64ToUnicodeString((ULONG_PTR)DeviceObject, 16, &Number);
    const UNICODE_STRING Name = ObLastName(DeviceObject);
    RtlAppendUnicodeStringToString(&Path, KeyType == PLUGPLAY_REGKEY_DEVICE ? &Enum : &Class);
    RtlAppendUnicodeStringToString(&Path, Name.Length > 0 ? &Name : &Number);
    if (KeyType == PLUGPLAY_REGKEY_DEVICE) {
        RtlAppendUnicodeToString(&Path, u"\\Device Parameters");
    }
    OBJECT_ATTRIBUTES Attributes;
    InitializeObjectAttributes(&Attributes, &Path, OBJ_KERNEL_HANDLE, NULL, NULL);
    return CmpOpen(DevInstRegKey, DesiredAccess, &Attributes, CmCreateAll, NULL, NULL);
}
