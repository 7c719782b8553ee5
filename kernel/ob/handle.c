// Handles: numbers for references. There is one table, the kernel's.
//
//   0xFFFFFFFF_80000000 + 4 * index      index = block * 256 + entry
//
// Invariants:
//   H1  An entry in use holds one reference to its object, which also counts as a handle.
//   H2  A block behind the first exists as long as one of its entries is in use.
// Lock: ObpHandleLock for the table. Blocks are allocated and freed outside it.
#include "kernel/ob/obp.h"

#define OBP_HANDLE_BASE 0xFFFFFFFF80000000ULL
#define OBP_BLOCK_ENTRIES 256
#define OBP_BLOCK_COUNT 64

typedef struct _OBP_ENTRY {
    PVOID Object; // NULL: free
    ACCESS_MASK GrantedAccess;
    ULONG Attributes; // OBJ_*
} OBP_ENTRY, *POBP_ENTRY;

typedef struct _OBP_BLOCK {
    ULONG UsedCount;
    OBP_ENTRY Entries[OBP_BLOCK_ENTRIES];
} OBP_BLOCK, *POBP_BLOCK;

static KI_LOCK ObpHandleLock = KI_LOCK_INITIALIZER(OBP_RANK_HANDLES, "ObpHandleLock");
static OBP_BLOCK ObpFirstBlock;
static POBP_BLOCK ObpBlocks[OBP_BLOCK_COUNT] = {&ObpFirstBlock};
static OB_PSEUDO_HANDLE_ROUTINE *ObpPseudoHandles;

// The entry of a handle, in use or not; NULL: it is no handle. The lock is held.
static POBP_ENTRY ObpEntryOf(HANDLE Handle, POBP_BLOCK **Slot)
{
    const ULONG64 Offset = (ULONG64)Handle - OBP_HANDLE_BASE;
    const ULONG64 Index = Offset / 4;
    if (Offset % 4 != 0 || Index >= OBP_BLOCK_COUNT * OBP_BLOCK_ENTRIES ||
        ObpBlocks[Index / OBP_BLOCK_ENTRIES] == NULL) {
        return NULL;
    }
    *Slot = &ObpBlocks[Index / OBP_BLOCK_ENTRIES];
    return &(**Slot)->Entries[Index % OBP_BLOCK_ENTRIES];
}

// Takes a free entry for Entry; NULL: every block is full. The lock is held.
static HANDLE ObpTakeEntry(const OBP_ENTRY *Entry)
{
    for (ULONG Block = 0; Block < OBP_BLOCK_COUNT; Block += 1) {
        if (ObpBlocks[Block] == NULL || ObpBlocks[Block]->UsedCount == OBP_BLOCK_ENTRIES) {
            continue;
        }
        // The very first number stays free: a handle should not look like the base.
        for (ULONG Index = Block == 0 ? 1 : 0; Index < OBP_BLOCK_ENTRIES; Index += 1) {
            if (ObpBlocks[Block]->Entries[Index].Object == NULL) {
                ObpBlocks[Block]->Entries[Index] = *Entry;
                ObpBlocks[Block]->UsedCount += 1;
                return (HANDLE)(OBP_HANDLE_BASE + 4 * ((ULONG64)Block * OBP_BLOCK_ENTRIES + Index));
            }
        }
    }
    return NULL;
}

static BOOLEAN ObpAddBlock(POBP_BLOCK New)
{
    for (ULONG Block = 0; Block < OBP_BLOCK_COUNT; Block += 1) {
        if (ObpBlocks[Block] == NULL) {
            ObpBlocks[Block] = New;
            return TRUE;
        }
    }
    return FALSE;
}

static HANDLE ObpInsertEntry(const OBP_ENTRY *Entry)
{
    KIRQL OldIrql = KiAcquireLock(&ObpHandleLock);
    HANDLE Handle = ObpTakeEntry(Entry);
    KiReleaseLock(&ObpHandleLock, OldIrql);
    if (Handle != NULL) {
        return Handle;
    }
    POBP_BLOCK New = ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(*New), OBP_TAG);
    if (New == NULL) {
        return NULL;
    }
    OldIrql = KiAcquireLock(&ObpHandleLock);
    const BOOLEAN IsAdded = ObpAddBlock(New);
    Handle = ObpTakeEntry(Entry);
    KiReleaseLock(&ObpHandleLock, OldIrql);
    if (!IsAdded) {
        ExFreePoolWithTag(New, OBP_TAG);
    }
    return Handle;
}

NTSTATUS ObCreateHandle(PVOID Object, ACCESS_MASK GrantedAccess, ULONG Attributes, PHANDLE Handle)
{
    const OBP_ENTRY Entry = {Object, GrantedAccess, Attributes};
    ObReferenceObject(Object);
    __atomic_add_fetch(&OB_HEADER_OF(Object)->HandleCount, 1, __ATOMIC_ACQ_REL);
    *Handle = ObpInsertEntry(&Entry);
    if (*Handle == NULL) {
        __atomic_sub_fetch(&OB_HEADER_OF(Object)->HandleCount, 1, __ATOMIC_ACQ_REL);
        ObDereferenceObject(Object);
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    return STATUS_SUCCESS;
}

// Frees the entry, and the block with its last one; returns the object, or NULL.
static PVOID ObpRemoveEntry(HANDLE Handle)
{
    POBP_BLOCK *Slot;
    PVOID Object = NULL;
    POBP_BLOCK Empty = NULL;
    const KIRQL OldIrql = KiAcquireLock(&ObpHandleLock);
    const POBP_ENTRY Entry = ObpEntryOf(Handle, &Slot);
    if (Entry != NULL && Entry->Object != NULL) {
        Object = Entry->Object;
        Entry->Object = NULL;
        (*Slot)->UsedCount -= 1;
        if ((*Slot)->UsedCount == 0 && *Slot != &ObpFirstBlock) {
            Empty = *Slot;
            *Slot = NULL;
        }
    }
    KiReleaseLock(&ObpHandleLock, OldIrql);
    if (Empty != NULL) {
        ExFreePoolWithTag(Empty, OBP_TAG);
    }
    return Object;
}

// What the last handle takes with it.
static VOID ObpCloseLastHandle(PVOID Object)
{
    const POBJECT_TYPE Type = ObTypeOf(Object);
    if (OB_HEADER_OF(Object)->NameGoesWithHandle) {
        ObRemoveName(Object);
    }
    if (Type->CloseLastHandle != NULL) {
        Type->CloseLastHandle(Object);
    }
}

NTSTATUS NTAPI ZwClose(HANDLE Handle)
{
    PVOID Object = ObpRemoveEntry(Handle);
    if (Object == NULL) {
        if (MmVerifierLevel != 0) {
            KiBugCheckSaying(INVALID_KERNEL_HANDLE, (ULONG_PTR)Handle, 1, 0, 0,
                             "handle %p was closed, which is not open", Handle);
        }
        return STATUS_INVALID_HANDLE;
    }
    if (__atomic_sub_fetch(&OB_HEADER_OF(Object)->HandleCount, 1, __ATOMIC_ACQ_REL) == 0) {
        ObpCloseLastHandle(Object);
    }
    ObDereferenceObject(Object);
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI ObCloseHandle(HANDLE Handle, KPROCESSOR_MODE PreviousMode)
{
    UNREFERENCED_PARAMETER(PreviousMode);
    return ZwClose(Handle);
}

BOOLEAN NTAPI ObIsKernelHandle(HANDLE Handle)
{
    return (LONG64)(ULONG64)Handle < 0 && (ULONG64)Handle < (ULONG64)-2;
}

ULONG ObCountHandles(VOID)
{
    ULONG Count = 0;
    const KIRQL OldIrql = KiAcquireLock(&ObpHandleLock);
    for (ULONG Block = 0; Block < OBP_BLOCK_COUNT; Block += 1) {
        Count += ObpBlocks[Block] != NULL ? ObpBlocks[Block]->UsedCount : 0;
    }
    KiReleaseLock(&ObpHandleLock, OldIrql);
    return Count;
}

VOID ObSetPseudoHandles(OB_PSEUDO_HANDLE_ROUTINE *Routine)
{
    ObpPseudoHandles = Routine;
}

// The object of a handle, referenced, with what the handle allows. Object NULL: there is none.
static OBP_ENTRY ObpReferenceEntry(HANDLE Handle)
{
    POBP_BLOCK *Slot;
    OBP_ENTRY Found = {NULL, STANDARD_RIGHTS_ALL | SPECIFIC_RIGHTS_ALL, 0};
    if ((LONG64)(ULONG64)Handle == -1 || (LONG64)(ULONG64)Handle == -2) {
        Found.Object = ObpPseudoHandles != NULL ? ObpPseudoHandles(Handle) : NULL;
        if (Found.Object != NULL) {
            ObReferenceObject(Found.Object);
        }
        return Found;
    }
    const KIRQL OldIrql = KiAcquireLock(&ObpHandleLock);
    const POBP_ENTRY Entry = ObpEntryOf(Handle, &Slot);
    if (Entry != NULL && Entry->Object != NULL) {
        Found = *Entry;
        ObReferenceObject(Found.Object);
    }
    KiReleaseLock(&ObpHandleLock, OldIrql);
    return Found;
}

NTSTATUS NTAPI ObReferenceObjectByHandle(HANDLE Handle, ACCESS_MASK DesiredAccess,
                                         POBJECT_TYPE ObjectType, KPROCESSOR_MODE AccessMode,
                                         PVOID *Object,
                                         POBJECT_HANDLE_INFORMATION HandleInformation)
{
    const OBP_ENTRY Entry = ObpReferenceEntry(Handle);
    NTSTATUS Status = STATUS_SUCCESS;
    *Object = NULL;
    if (Entry.Object == NULL) {
        return STATUS_INVALID_HANDLE;
    }
    if (ObjectType != NULL && ObTypeOf(Entry.Object) != ObjectType) {
        Status = STATUS_OBJECT_TYPE_MISMATCH;
    } else if (AccessMode != KernelMode && (DesiredAccess & ~Entry.GrantedAccess) != 0) {
        Status = STATUS_ACCESS_DENIED;
    }
    if (!NT_SUCCESS(Status)) {
        ObDereferenceObject(Entry.Object);
        return Status;
    }
    if (HandleInformation != NULL) {
        HandleInformation->HandleAttributes = Entry.Attributes;
        HandleInformation->GrantedAccess = Entry.GrantedAccess;
    }
    *Object = Entry.Object;
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI ObReferenceObjectByHandleWithTag(HANDLE Handle, ACCESS_MASK DesiredAccess,
                                                POBJECT_TYPE ObjectType, KPROCESSOR_MODE AccessMode,
                                                ULONG Tag, PVOID *Object,
                                                POBJECT_HANDLE_INFORMATION HandleInformation)
{
    UNREFERENCED_PARAMETER(Tag);
    return ObReferenceObjectByHandle(Handle, DesiredAccess, ObjectType, AccessMode, Object,
                                     HandleInformation);
}

NTSTATUS NTAPI ObOpenObjectByPointer(PVOID Object, ULONG HandleAttributes, PVOID PassedAccessState,
                                     ACCESS_MASK DesiredAccess, POBJECT_TYPE ObjectType,
                                     KPROCESSOR_MODE AccessMode, PHANDLE Handle)
{
    UNREFERENCED_PARAMETER(PassedAccessState);
    UNREFERENCED_PARAMETER(AccessMode);
    *Handle = NULL;
    if (ObjectType != NULL && ObTypeOf(Object) != ObjectType) {
        return STATUS_OBJECT_TYPE_MISMATCH;
    }
    return ObCreateHandle(Object, DesiredAccess, HandleAttributes, Handle);
}
