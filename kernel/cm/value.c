// Values, and what is told of keys.
//
// All information has a fixed part and up to two variable ones behind it: a table of chunks says
// where each goes, and one routine copies them as far as they fit.

#include "kernel/cm/cmp.h"

typedef struct _CM_CHUNK {
    ULONG Offset;
    ULONG ByteCount;
    const VOID *Bytes;
} CM_CHUNK;

typedef struct _CM_BUFFER {
    PVOID Buffer;
    ULONG Length;
    PULONG ResultLength;
} CM_BUFFER;

#define NO_CLASS 0xFFFFFFFF

static NTSTATUS CmpReturn(const CM_BUFFER *Target, const VOID *Fixed, ULONG FixedBytes,
                          const CM_CHUNK *Chunks, ULONG ChunkCount)
{
    ULONG Total = FixedBytes;
    for (ULONG Index = 0; Index < ChunkCount; Index += 1) {
        const ULONG End = Chunks[Index].Offset + Chunks[Index].ByteCount;
        Total = Chunks[Index].ByteCount > 0 && End > Total ? End : Total;
    }
    *Target->ResultLength = Total;
    if (Target->Buffer == NULL || Target->Length < FixedBytes) {
        return STATUS_BUFFER_TOO_SMALL;
    }
    RtlCopyMemory(Target->Buffer, Fixed, FixedBytes);
    for (ULONG Index = 0; Index < ChunkCount; Index += 1) {
        const CM_CHUNK *Chunk = &Chunks[Index];
        if (Chunk->ByteCount > 0 && Chunk->Offset < Target->Length) {
            const ULONG Room = Target->Length - Chunk->Offset;
            RtlCopyMemory((PUCHAR)Target->Buffer + Chunk->Offset, Chunk->Bytes,
                          Chunk->ByteCount < Room ? Chunk->ByteCount : Room);
        }
    }
    return Target->Length < Total ? STATUS_BUFFER_OVERFLOW : STATUS_SUCCESS;
}

static ULONG CmpAlign(ULONG Offset, ULONG Alignment)
{
    return (Offset + Alignment - 1) & ~(Alignment - 1);
}

// -------------------------------------------------------------------------------------------------
// Keys.

static NTSTATUS CmpDescribeBasic(const CM_KEY *Key, const CM_BUFFER *Target)
{
    const KEY_BASIC_INFORMATION Fixed = {Key->LastWriteTime, 0, Key->Name.Length, {0}};
    const ULONG NameOffset = FIELD_OFFSET(KEY_BASIC_INFORMATION, Name);
    const CM_CHUNK Chunk = {NameOffset, Key->Name.Length, Key->Name.Buffer};
    return CmpReturn(Target, &Fixed, NameOffset, &Chunk, 1);
}

static NTSTATUS CmpDescribeNode(const CM_KEY *Key, const CM_BUFFER *Target)
{
    const ULONG NameOffset = FIELD_OFFSET(KEY_NODE_INFORMATION, Name);
    const ULONG ClassOffset = CmpAlign(NameOffset + Key->Name.Length, sizeof(ULONG));
    const KEY_NODE_INFORMATION Fixed = {
        Key->LastWriteTime, 0,  Key->Class.Length > 0 ? ClassOffset : NO_CLASS, Key->Class.Length,
        Key->Name.Length,   {0}};
    const CM_CHUNK Chunks[] = {{NameOffset, Key->Name.Length, Key->Name.Buffer},
                               {ClassOffset, Key->Class.Length, Key->Class.Buffer}};
    return CmpReturn(Target, &Fixed, NameOffset, Chunks, ARRAYSIZE(Chunks));
}

static ULONG CmpMax(ULONG A, ULONG B)
{
    return A > B ? A : B;
}

static NTSTATUS CmpDescribeFull(const CM_KEY *Key, const CM_BUFFER *Target)
{
    const ULONG ClassOffset = FIELD_OFFSET(KEY_FULL_INFORMATION, Class);
    KEY_FULL_INFORMATION Fixed = {.LastWriteTime = Key->LastWriteTime,
                                  .ClassOffset = Key->Class.Length > 0 ? ClassOffset : NO_CLASS,
                                  .ClassLength = Key->Class.Length,
                                  .SubKeys = Key->SubKeyCount,
                                  .Values = Key->ValueCount};
    for (PLIST_ENTRY Link = Key->SubKeys.Flink; Link != &Key->SubKeys; Link = Link->Flink) {
        const CM_KEY *SubKey = CONTAINING_RECORD(Link, CM_KEY, SiblingLink);
        Fixed.MaxNameLen = CmpMax(Fixed.MaxNameLen, SubKey->Name.Length);
        Fixed.MaxClassLen = CmpMax(Fixed.MaxClassLen, SubKey->Class.Length);
    }
    for (PLIST_ENTRY Link = Key->Values.Flink; Link != &Key->Values; Link = Link->Flink) {
        const CM_VALUE *Value = CONTAINING_RECORD(Link, CM_VALUE, Link);
        Fixed.MaxValueNameLen = CmpMax(Fixed.MaxValueNameLen, Value->Name.Length);
        Fixed.MaxValueDataLen = CmpMax(Fixed.MaxValueDataLen, Value->DataLength);
    }
    const CM_CHUNK Chunk = {ClassOffset, Key->Class.Length, Key->Class.Buffer};
    return CmpReturn(Target, &Fixed, ClassOffset, &Chunk, 1);
}

static NTSTATUS CmpDescribeName(const CM_KEY *Key, const CM_BUFFER *Target)
{
    ULONG ByteCount = 0;
    for (const CM_KEY *Part = Key; Part != NULL; Part = Part->Parent) {
        ByteCount += Part->Name.Length + (ULONG)sizeof(WCHAR);
    }
    PWCHAR Path = ExAllocatePool2(POOL_FLAG_PAGED, ByteCount, CM_TAG);
    if (Path == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    PWCHAR End = Path + ByteCount / sizeof(WCHAR);
    for (const CM_KEY *Part = Key; Part != NULL; Part = Part->Parent) {
        End -= Part->Name.Length / sizeof(WCHAR);
        RtlCopyMemory(End, Part->Name.Buffer, Part->Name.Length);
        *--End = '\\';
    }
    const ULONG NameOffset = FIELD_OFFSET(KEY_NAME_INFORMATION, Name);
    const CM_CHUNK Chunk = {NameOffset, ByteCount, Path};
    const NTSTATUS Status = CmpReturn(Target, &ByteCount, NameOffset, &Chunk, 1);
    ExFreePoolWithTag(Path, CM_TAG);
    return Status;
}

typedef NTSTATUS CM_DESCRIBE_KEY(const CM_KEY *Key, const CM_BUFFER *Target);

static CM_DESCRIBE_KEY *const CmpKeyClasses[] = {
    [KeyBasicInformation] = CmpDescribeBasic,
    [KeyNodeInformation] = CmpDescribeNode,
    [KeyFullInformation] = CmpDescribeFull,
    [KeyNameInformation] = CmpDescribeName,
};

static NTSTATUS CmpDescribeKey(const CM_KEY *Key, KEY_INFORMATION_CLASS Class,
                               const CM_BUFFER *Target)
{
    return (ULONG)Class < ARRAYSIZE(CmpKeyClasses) ? CmpKeyClasses[Class](Key, Target)
                                                   : STATUS_INVALID_PARAMETER;
}

// The key behind a handle, referenced and under the lock.
static NTSTATUS CmpEnter(HANDLE Handle, PCM_KEY *Key)
{
    const NTSTATUS Status = CmpReferenceKey(Handle, Key);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    CmpAcquireLock();
    if ((*Key)->IsDeleted) {
        CmpReleaseLock();
        ObDereferenceObject(*Key);
        return STATUS_KEY_DELETED;
    }
    return STATUS_SUCCESS;
}

static NTSTATUS CmpLeave(PCM_KEY Key, NTSTATUS Status)
{
    CmpReleaseLock();
    ObDereferenceObject(Key);
    return Status;
}

NTSTATUS NTAPI ZwQueryKey(HANDLE KeyHandle, KEY_INFORMATION_CLASS KeyInformationClass,
                          PVOID KeyInformation, ULONG Length, PULONG ResultLength)
{
    const CM_BUFFER Target = {KeyInformation, Length, ResultLength};
    PCM_KEY Key;
    const NTSTATUS Status = CmpEnter(KeyHandle, &Key);
    return NT_SUCCESS(Status) ? CmpLeave(Key, CmpDescribeKey(Key, KeyInformationClass, &Target))
                              : Status;
}

// The entry of this index, or NULL.
static PLIST_ENTRY CmpEntryAt(PLIST_ENTRY Head, ULONG Index)
{
    PLIST_ENTRY Link = Head->Flink;
    for (; Link != Head && Index > 0; Index -= 1) {
        Link = Link->Flink;
    }
    return Link != Head ? Link : NULL;
}

NTSTATUS NTAPI ZwEnumerateKey(HANDLE KeyHandle, ULONG Index,
                              KEY_INFORMATION_CLASS KeyInformationClass, PVOID KeyInformation,
                              ULONG Length, PULONG ResultLength)
{
    const CM_BUFFER Target = {KeyInformation, Length, ResultLength};
    PCM_KEY Key;
    const NTSTATUS Status = CmpEnter(KeyHandle, &Key);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    PLIST_ENTRY Link = CmpEntryAt(&Key->SubKeys, Index);
    return CmpLeave(Key, Link == NULL ? STATUS_NO_MORE_ENTRIES
                                      : CmpDescribeKey(CONTAINING_RECORD(Link, CM_KEY, SiblingLink),
                                                       KeyInformationClass, &Target));
}

// -------------------------------------------------------------------------------------------------
// Values.

PCM_VALUE CmpFindValue(const CM_KEY *Key, PCUNICODE_STRING Name)
{
    for (PLIST_ENTRY Link = Key->Values.Flink; Link != &Key->Values; Link = Link->Flink) {
        PCM_VALUE Value = CONTAINING_RECORD(Link, CM_VALUE, Link);
        if (RtlEqualUnicodeString(&Value->Name, Name, TRUE)) {
            return Value;
        }
    }
    return NULL;
}

static NTSTATUS CmpDescribeValueFull(const CM_VALUE *Value, const CM_BUFFER *Target,
                                     ULONG Alignment)
{
    const ULONG NameOffset = FIELD_OFFSET(KEY_VALUE_FULL_INFORMATION, Name);
    const ULONG DataOffset = CmpAlign(NameOffset + Value->Name.Length, Alignment);
    const KEY_VALUE_FULL_INFORMATION Fixed = {
        0, Value->Type, DataOffset, Value->DataLength, Value->Name.Length, {0}};
    const CM_CHUNK Chunks[] = {{NameOffset, Value->Name.Length, Value->Name.Buffer},
                               {DataOffset, Value->DataLength, Value->Data}};
    return CmpReturn(Target, &Fixed, NameOffset, Chunks, ARRAYSIZE(Chunks));
}

static NTSTATUS CmpDescribeValue(const CM_VALUE *Value, KEY_VALUE_INFORMATION_CLASS Class,
                                 const CM_BUFFER *Target)
{
    const KEY_VALUE_BASIC_INFORMATION Basic = {0, Value->Type, Value->Name.Length, {0}};
    const KEY_VALUE_PARTIAL_INFORMATION Partial = {0, Value->Type, Value->DataLength, {0}};
    const KEY_VALUE_PARTIAL_INFORMATION_ALIGN64 Aligned = {Value->Type, Value->DataLength, {0}};
    CM_CHUNK Chunk = {FIELD_OFFSET(KEY_VALUE_BASIC_INFORMATION, Name), Value->Name.Length,
                      Value->Name.Buffer};
    switch (Class) {
    case KeyValueBasicInformation:
        return CmpReturn(Target, &Basic, Chunk.Offset, &Chunk, 1);
    case KeyValueFullInformation:
        return CmpDescribeValueFull(Value, Target, sizeof(ULONG));
    case KeyValueFullInformationAlign64:
        return CmpDescribeValueFull(Value, Target, sizeof(ULONG64));
    case KeyValuePartialInformation:
        Chunk = (CM_CHUNK){FIELD_OFFSET(KEY_VALUE_PARTIAL_INFORMATION, Data), Value->DataLength,
                           Value->Data};
        return CmpReturn(Target, &Partial, Chunk.Offset, &Chunk, 1);
    case KeyValuePartialInformationAlign64:
        Chunk = (CM_CHUNK){FIELD_OFFSET(KEY_VALUE_PARTIAL_INFORMATION_ALIGN64, Data),
                           Value->DataLength, Value->Data};
        return CmpReturn(Target, &Aligned, Chunk.Offset, &Chunk, 1);
    }
    return STATUS_INVALID_PARAMETER;
}

NTSTATUS NTAPI ZwQueryValueKey(HANDLE KeyHandle, PUNICODE_STRING ValueName,
                               KEY_VALUE_INFORMATION_CLASS KeyValueInformationClass,
                               PVOID KeyValueInformation, ULONG Length, PULONG ResultLength)
{
    const CM_BUFFER Target = {KeyValueInformation, Length, ResultLength};
    PCM_KEY Key;
    const NTSTATUS Status = CmpEnter(KeyHandle, &Key);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    const CM_VALUE *Value = CmpFindValue(Key, ValueName);
    return CmpLeave(Key, Value == NULL
                             ? STATUS_OBJECT_NAME_NOT_FOUND
                             : CmpDescribeValue(Value, KeyValueInformationClass, &Target));
}

NTSTATUS NTAPI ZwEnumerateValueKey(HANDLE KeyHandle, ULONG Index,
                                   KEY_VALUE_INFORMATION_CLASS KeyValueInformationClass,
                                   PVOID KeyValueInformation, ULONG Length, PULONG ResultLength)
{
    const CM_BUFFER Target = {KeyValueInformation, Length, ResultLength};
    PCM_KEY Key;
    const NTSTATUS Status = CmpEnter(KeyHandle, &Key);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    PLIST_ENTRY Link = CmpEntryAt(&Key->Values, Index);
    return CmpLeave(Key, Link == NULL ? STATUS_NO_MORE_ENTRIES
                                      : CmpDescribeValue(CONTAINING_RECORD(Link, CM_VALUE, Link),
                                                         KeyValueInformationClass, &Target));
}

static PCM_VALUE CmpMakeValue(PCUNICODE_STRING Name, ULONG Type, const VOID *Data, ULONG DataSize)
{
    const ULONG NameOffset = sizeof(CM_VALUE);
    const ULONG DataOffset = CmpAlign(NameOffset + Name->Length, sizeof(ULONG64));
    PUCHAR Block = ExAllocatePool2(POOL_FLAG_PAGED, (SIZE_T)DataOffset + DataSize, CM_TAG);
    if (Block == NULL) {
        return NULL;
    }
    PCM_VALUE Value = (PCM_VALUE)Block;
    Value->Type = Type;
    Value->DataLength = DataSize;
    Value->Data = Block + DataOffset;
    RtlInitEmptyUnicodeString(&Value->Name, (PWSTR)(PVOID)(Block + NameOffset), Name->Length);
    RtlCopyUnicodeString(&Value->Name, Name);
    if (DataSize > 0) {
        RtlCopyMemory(Value->Data, Data, DataSize);
    }
    return Value;
}

static VOID CmpRemoveValue(PCM_KEY Key, PCM_VALUE Value)
{
    RemoveEntryList(&Value->Link);
    Key->ValueCount -= 1;
    ExFreePoolWithTag(Value, CM_TAG);
}

NTSTATUS NTAPI ZwSetValueKey(HANDLE KeyHandle, PUNICODE_STRING ValueName, ULONG TitleIndex,
                             ULONG Type, PVOID Data, ULONG DataSize)
{
    UNREFERENCED_PARAMETER(TitleIndex);
    PCM_KEY Key;
    const NTSTATUS Status = CmpEnter(KeyHandle, &Key);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    PCM_VALUE New = CmpMakeValue(ValueName, Type, Data, DataSize);
    if (New == NULL) {
        return CmpLeave(Key, STATUS_INSUFFICIENT_RESOURCES);
    }
    PCM_VALUE Old = CmpFindValue(Key, ValueName);
    InsertTailList(Old != NULL ? &Old->Link : &Key->Values, &New->Link);
    Key->ValueCount += 1;
    if (Old != NULL) {
        CmpRemoveValue(Key, Old);
    }
    KeQuerySystemTimePrecise(&Key->LastWriteTime);
    return CmpLeave(Key, STATUS_SUCCESS);
}

NTSTATUS NTAPI ZwDeleteValueKey(HANDLE KeyHandle, PUNICODE_STRING ValueName)
{
    PCM_KEY Key;
    const NTSTATUS Status = CmpEnter(KeyHandle, &Key);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    PCM_VALUE Value = CmpFindValue(Key, ValueName);
    if (Value == NULL) {
        return CmpLeave(Key, STATUS_OBJECT_NAME_NOT_FOUND);
    }
    CmpRemoveValue(Key, Value);
    KeQuerySystemTimePrecise(&Key->LastWriteTime);
    return CmpLeave(Key, STATUS_SUCCESS);
}
