// Rtl's short ways to the registry: paths relative to well-known keys, and tables of values.

#include "kernel/cm/cmp.h"

#define CONTROL_SET u"\\Registry\\Machine\\System\\CurrentControlSet\\"

static PCWSTR const CmpPrefixes[RTL_REGISTRY_MAXIMUM] = {
    [RTL_REGISTRY_ABSOLUTE] = u"",
    [RTL_REGISTRY_SERVICES] = CONTROL_SET u"Services\\",
    [RTL_REGISTRY_CONTROL] = CONTROL_SET u"Control\\",
    [RTL_REGISTRY_WINDOWS_NT] =
        u"\\Registry\\Machine\\Software\\Microsoft\\Windows NT\\CurrentVersion\\",
    [RTL_REGISTRY_DEVICEMAP] = u"\\Registry\\Machine\\Hardware\\DeviceMap\\",
    [RTL_REGISTRY_USER] = u"\\Registry\\User\\.Default\\",
};

#define MAXIMUM_PATH_BYTES 2048

// A handle to the key, for ZwClose but when it is the caller's own.
static NTSTATUS CmpOpenRelative(ULONG RelativeTo, PCWSTR Path, CM_CREATE Create, PHANDLE Handle)
{
    if ((RelativeTo & RTL_REGISTRY_HANDLE) != 0) {
        *Handle = (HANDLE)(ULONG_PTR)Path;
        return STATUS_SUCCESS;
    }
    RelativeTo &= ~RTL_REGISTRY_OPTIONAL;
    if (RelativeTo >= RTL_REGISTRY_MAXIMUM) {
        return STATUS_INVALID_PARAMETER;
    }
    UNICODE_STRING Full = {0, MAXIMUM_PATH_BYTES, NULL};
    Full.Buffer = ExAllocatePool2(POOL_FLAG_PAGED, MAXIMUM_PATH_BYTES, CM_TAG);
    if (Full.Buffer == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    RtlAppendUnicodeToString(&Full, CmpPrefixes[RelativeTo]);
    NTSTATUS Status = RtlAppendUnicodeToString(&Full, Path);
    PCM_KEY Key;
    if (NT_SUCCESS(Status)) {
        Status = CmpLookup(NULL, &Full, Create, NULL, &Key, NULL);
    }
    ExFreePoolWithTag(Full.Buffer, CM_TAG);
    if (NT_SUCCESS(Status)) {
        Status = ObCreateHandle(Key, 0, OBJ_KERNEL_HANDLE, Handle);
        ObDereferenceObject(Key);
    }
    return Status;
}

static VOID CmpCloseRelative(ULONG RelativeTo, HANDLE Handle)
{
    if ((RelativeTo & RTL_REGISTRY_HANDLE) == 0) {
        ZwClose(Handle);
    }
}

NTSTATUS NTAPI RtlWriteRegistryValue(ULONG RelativeTo, PCWSTR Path, PCWSTR ValueName,
                                     ULONG ValueType, PVOID ValueData, ULONG ValueLength)
{
    HANDLE Key;
    UNICODE_STRING Name;
    NTSTATUS Status = CmpOpenRelative(RelativeTo, Path, CmCreateAll, &Key);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    RtlInitUnicodeString(&Name, ValueName);
    Status = ZwSetValueKey(Key, &Name, 0, ValueType, ValueData, ValueLength);
    CmpCloseRelative(RelativeTo, Key);
    return Status;
}

NTSTATUS NTAPI RtlDeleteRegistryValue(ULONG RelativeTo, PCWSTR Path, PCWSTR ValueName)
{
    HANDLE Key;
    UNICODE_STRING Name;
    NTSTATUS Status = CmpOpenRelative(RelativeTo, Path, CmOpenOnly, &Key);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    RtlInitUnicodeString(&Name, ValueName);
    Status = ZwDeleteValueKey(Key, &Name);
    CmpCloseRelative(RelativeTo, Key);
    return Status;
}

static NTSTATUS CmpTouch(ULONG RelativeTo, PCWSTR Path, CM_CREATE Create)
{
    HANDLE Key;
    const NTSTATUS Status = CmpOpenRelative(RelativeTo, Path, Create, &Key);
    if (NT_SUCCESS(Status)) {
        CmpCloseRelative(RelativeTo, Key);
    }
    return Status;
}

NTSTATUS NTAPI RtlCheckRegistryKey(ULONG RelativeTo, PWSTR Path)
{
    return CmpTouch(RelativeTo, Path, CmOpenOnly);
}

NTSTATUS NTAPI RtlCreateRegistryKey(ULONG RelativeTo, PWSTR Path)
{
    return CmpTouch(RelativeTo, Path, CmCreateAll);
}

// -------------------------------------------------------------------------------------------------
// Tables.

typedef struct _CM_DATA {
    ULONG Type;
    ULONG Length;
    PVOID Data;
} CM_DATA;

static BOOLEAN CmpIsText(ULONG Type)
{
    return Type == REG_SZ || Type == REG_EXPAND_SZ || Type == REG_MULTI_SZ;
}

// A text becomes a UNICODE_STRING: without its last terminator, which stays behind it.
static NTSTATUS CmpStoreText(PUNICODE_STRING String, const CM_DATA *Value)
{
    ULONG Length = Value->Length & ~1u;
    const WCHAR *Text = Value->Data;
    if (Value->Type != REG_MULTI_SZ && Length >= sizeof(WCHAR) &&
        Text[Length / sizeof(WCHAR) - 1] == 0) {
        Length -= sizeof(WCHAR);
    }
    if (Length + sizeof(WCHAR) > MAXUSHORT) {
        return STATUS_BUFFER_TOO_SMALL;
    }
    if (String->Buffer == NULL) {
        String->Buffer = ExAllocatePool2(POOL_FLAG_PAGED, Length + sizeof(WCHAR), CM_TAG);
        if (String->Buffer == NULL) {
            return STATUS_NO_MEMORY;
        }
        String->MaximumLength = (USHORT)(Length + sizeof(WCHAR));
    } else if (Length + sizeof(WCHAR) > String->MaximumLength) {
        return STATUS_BUFFER_TOO_SMALL;
    }
    RtlCopyMemory(String->Buffer, Text, Length);
    String->Buffer[Length / sizeof(WCHAR)] = 0;
    String->Length = (USHORT)Length;
    return STATUS_SUCCESS;
}

// Other data goes to the context itself when it is no longer than a ULONG. Else the context begins
// with the length of its buffer: negative, for the data alone; or positive, and the length and the
// type come before the data.
static NTSTATUS CmpStoreBinary(PVOID Context, const CM_DATA *Value)
{
    if (Value->Length <= sizeof(ULONG)) {
        RtlCopyMemory(Context, Value->Data, Value->Length);
        return STATUS_SUCCESS;
    }
    LONG Room;
    RtlCopyMemory(&Room, Context, sizeof(Room));
    if (Room < 0) {
        if (0 - (ULONG)Room < Value->Length) {
            return STATUS_BUFFER_TOO_SMALL;
        }
        RtlCopyMemory(Context, Value->Data, Value->Length);
        return STATUS_SUCCESS;
    }
    const ULONG Header[2] = {Value->Length, Value->Type};
    if ((ULONG)Room < sizeof(Header) + Value->Length) {
        return STATUS_BUFFER_TOO_SMALL;
    }
    RtlCopyMemory(Context, Header, sizeof(Header));
    RtlCopyMemory((PUCHAR)Context + sizeof(Header), Value->Data, Value->Length);
    return STATUS_SUCCESS;
}

// A list of strings is given to the routine one by one, unless the row says otherwise.
static NTSTATUS CmpCallForEach(const RTL_QUERY_REGISTRY_TABLE *Row, PCWSTR Name,
                               const CM_DATA *Value, PVOID Context)
{
    PWSTR Text = Value->Data;
    const ULONG Count = Value->Length / sizeof(WCHAR);
    for (ULONG Start = 0; Start < Count && Text[Start] != 0;) {
        ULONG End = Start;
        while (End < Count && Text[End] != 0) {
            End += 1;
        }
        const ULONG Units = End - Start + (End < Count ? 1 : 0);
        const NTSTATUS Status =
            Row->QueryRoutine((PWSTR)Name, REG_SZ, Text + Start, Units * (ULONG)sizeof(WCHAR),
                              Context, Row->EntryContext);
        if (!NT_SUCCESS(Status)) {
            return Status;
        }
        Start = End + 1;
    }
    return STATUS_SUCCESS;
}

static NTSTATUS CmpDeliver(const RTL_QUERY_REGISTRY_TABLE *Row, PCWSTR Name, const CM_DATA *Value,
                           PVOID Context)
{
    if ((Row->Flags & RTL_QUERY_REGISTRY_DIRECT) != 0) {
        return CmpIsText(Value->Type) ? CmpStoreText(Row->EntryContext, Value)
                                      : CmpStoreBinary(Row->EntryContext, Value);
    }
    if (Row->QueryRoutine == NULL) {
        return STATUS_SUCCESS;
    }
    if (Value->Type == REG_MULTI_SZ && (Row->Flags & RTL_QUERY_REGISTRY_NOEXPAND) == 0) {
        return CmpCallForEach(Row, Name, Value, Context);
    }
    return Row->QueryRoutine((PWSTR)Name, Value->Type, Value->Data, Value->Length, Context,
                             Row->EntryContext);
}

// The information of a value in pool, with a terminator behind its name: by name, or by index.
static NTSTATUS CmpReadValue(HANDLE Key, PUNICODE_STRING Name, ULONG Index,
                             PKEY_VALUE_FULL_INFORMATION *Information)
{
    ULONG Length = 256;
    for (;;) {
        *Information = ExAllocatePool2(POOL_FLAG_PAGED, Length, CM_TAG);
        if (*Information == NULL) {
            return STATUS_INSUFFICIENT_RESOURCES;
        }
        ULONG Needed = 0;
        const NTSTATUS Status =
            Name != NULL ? ZwQueryValueKey(Key, Name, KeyValueFullInformationAlign64, *Information,
                                           Length, &Needed)
                         : ZwEnumerateValueKey(Key, Index, KeyValueFullInformationAlign64,
                                               *Information, Length, &Needed);
        if (Status == STATUS_SUCCESS) {
            return STATUS_SUCCESS;
        }
        ExFreePoolWithTag(*Information, CM_TAG);
        *Information = NULL;
        if (Status != STATUS_BUFFER_OVERFLOW && Status != STATUS_BUFFER_TOO_SMALL) {
            return Status;
        }
        Length = Needed;
    }
}

static CM_DATA CmpDataOf(PKEY_VALUE_FULL_INFORMATION Information)
{
    return (CM_DATA){Information->Type, Information->DataLength,
                     (PUCHAR)Information + Information->DataOffset};
}

static NTSTATUS CmpQueryAll(HANDLE Key, const RTL_QUERY_REGISTRY_TABLE *Row, PVOID Context)
{
    for (ULONG Index = 0;; Index += 1) {
        PKEY_VALUE_FULL_INFORMATION Information;
        NTSTATUS Status = CmpReadValue(Key, NULL, Index, &Information);
        if (Status == STATUS_NO_MORE_ENTRIES) {
            return Index == 0 && (Row->Flags & RTL_QUERY_REGISTRY_REQUIRED) != 0
                       ? STATUS_OBJECT_NAME_NOT_FOUND
                       : STATUS_SUCCESS;
        }
        if (!NT_SUCCESS(Status)) {
            return Status;
        }
        UNICODE_STRING Name = {(USHORT)Information->NameLength, (USHORT)Information->NameLength,
                               Information->Name};
        UNICODE_STRING Terminated;
        Status = RtlDuplicateUnicodeString(RTL_DUPLICATE_UNICODE_STRING_NULL_TERMINATE |
                                               RTL_DUPLICATE_UNICODE_STRING_ALLOCATE_NULL_STRING,
                                           &Name, &Terminated);
        if (NT_SUCCESS(Status)) {
            const CM_DATA Value = CmpDataOf(Information);
            Status = CmpDeliver(Row, Terminated.Buffer, &Value, Context);
            RtlFreeUnicodeString(&Terminated);
        }
        ExFreePoolWithTag(Information, CM_TAG);
        if (!NT_SUCCESS(Status)) {
            return Status;
        }
    }
}

static NTSTATUS CmpQueryDefault(const RTL_QUERY_REGISTRY_TABLE *Row, PVOID Context)
{
    if ((Row->Flags & RTL_QUERY_REGISTRY_REQUIRED) != 0) {
        return STATUS_OBJECT_NAME_NOT_FOUND;
    }
    if (Row->DefaultType == REG_NONE) {
        return STATUS_SUCCESS;
    }
    CM_DATA Value = {Row->DefaultType & 0xFFFF, Row->DefaultLength, Row->DefaultData};
    // The length of a text may be left to its terminator.
    if (Value.Length == 0 && Value.Data != NULL && CmpIsText(Value.Type)) {
        UNICODE_STRING Text;
        RtlInitUnicodeString(&Text, Value.Data);
        Value.Length = Text.MaximumLength;
    }
    return CmpDeliver(Row, Row->Name, &Value, Context);
}

static NTSTATUS CmpQueryOne(HANDLE Key, const RTL_QUERY_REGISTRY_TABLE *Row, PVOID Context)
{
    UNICODE_STRING Name;
    PKEY_VALUE_FULL_INFORMATION Information;
    RtlInitUnicodeString(&Name, Row->Name);
    NTSTATUS Status = CmpReadValue(Key, &Name, 0, &Information);
    if (Status == STATUS_OBJECT_NAME_NOT_FOUND) {
        return CmpQueryDefault(Row, Context);
    }
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    const CM_DATA Value = CmpDataOf(Information);
    Status = CmpDeliver(Row, Row->Name, &Value, Context);
    ExFreePoolWithTag(Information, CM_TAG);
    if (NT_SUCCESS(Status) && (Row->Flags & RTL_QUERY_REGISTRY_DELETE) != 0) {
        ZwDeleteValueKey(Key, &Name);
    }
    return Status;
}

static NTSTATUS CmpOpenSubKey(HANDLE Top, PCWSTR Name, PHANDLE SubKey)
{
    UNICODE_STRING Path;
    OBJECT_ATTRIBUTES Attributes;
    RtlInitUnicodeString(&Path, Name);
    InitializeObjectAttributes(&Attributes, &Path, OBJ_KERNEL_HANDLE, Top, NULL);
    return ZwOpenKey(SubKey, KEY_QUERY_VALUE, &Attributes);
}

// Where the rows look: the key of the call, or the subkey that a row has named.
typedef struct _CM_QUERY {
    HANDLE Top;
    HANDLE Current;
} CM_QUERY;

static VOID CmpReturnToTop(CM_QUERY *Query)
{
    if (Query->Current != Query->Top) {
        ZwClose(Query->Current);
        Query->Current = Query->Top;
    }
}

static NTSTATUS CmpQueryRow(CM_QUERY *Query, const RTL_QUERY_REGISTRY_TABLE *Row, PVOID Context)
{
    if ((Row->Flags & (RTL_QUERY_REGISTRY_TOPKEY | RTL_QUERY_REGISTRY_SUBKEY)) != 0) {
        CmpReturnToTop(Query);
    }
    if ((Row->Flags & RTL_QUERY_REGISTRY_SUBKEY) != 0) {
        if (Row->Name == NULL) {
            return STATUS_INVALID_PARAMETER;
        }
        HANDLE SubKey;
        const NTSTATUS Status = CmpOpenSubKey(Query->Top, Row->Name, &SubKey);
        if (!NT_SUCCESS(Status)) {
            return Status;
        }
        Query->Current = SubKey;
        return Row->QueryRoutine != NULL ? CmpQueryAll(SubKey, Row, Context) : STATUS_SUCCESS;
    }
    if ((Row->Flags & RTL_QUERY_REGISTRY_NOVALUE) != 0) {
        return Row->QueryRoutine == NULL
                   ? STATUS_SUCCESS
                   : Row->QueryRoutine(NULL, REG_NONE, NULL, 0, Context, Row->EntryContext);
    }
    if ((Row->Flags & RTL_QUERY_REGISTRY_DIRECT) != 0 &&
        (Row->Name == NULL || Row->QueryRoutine != NULL)) {
        return STATUS_INVALID_PARAMETER;
    }
    return Row->Name != NULL ? CmpQueryOne(Query->Current, Row, Context)
                             : CmpQueryAll(Query->Current, Row, Context);
}

static BOOLEAN CmpIsLastRow(const RTL_QUERY_REGISTRY_TABLE *Row)
{
    return Row->QueryRoutine == NULL &&
           (Row->Flags & (RTL_QUERY_REGISTRY_SUBKEY | RTL_QUERY_REGISTRY_DIRECT)) == 0;
}

NTSTATUS NTAPI RtlQueryRegistryValues(ULONG RelativeTo, PCWSTR Path,
                                      PRTL_QUERY_REGISTRY_TABLE QueryTable, PVOID Context,
                                      PVOID Environment)
{
    UNREFERENCED_PARAMETER(Environment);
    CM_QUERY Query;
    NTSTATUS Status = CmpOpenRelative(RelativeTo, Path, CmOpenOnly, &Query.Top);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    Query.Current = Query.Top;
    for (const RTL_QUERY_REGISTRY_TABLE *Row = QueryTable; NT_SUCCESS(Status) && !CmpIsLastRow(Row);
         Row += 1) {
        Status = CmpQueryRow(&Query, Row, Context);
    }
    CmpReturnToTop(&Query);
    CmpCloseRelative(RelativeTo, Query.Top);
    return Status;
}
