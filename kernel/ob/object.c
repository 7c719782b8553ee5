// Objects: allocation, references, deletion.
//
//   ObAllocateObject ──1──▶ ... ObReferenceObject / ObDereferenceObject ... ──0──▶ Delete, freed
//
// Invariants:
//   O1  A count of 0 never rises again: whoever finds the object in a list then leaves it alone
//       (ObTryReference).
//   O2  Delete runs once, at PASSIVE_LEVEL when there is a thread to run it, and frees the name
//       before the body.
// Lock: ObpDeletionLock for the objects that wait for that thread. The counts need none.
#include "kernel/ob/obp.h"

static KI_LOCK ObpDeletionLock = KI_LOCK_INITIALIZER(OBP_RANK_DELETION, "ObpDeletionLock");
static LIST_ENTRY ObpDeletionList = {&ObpDeletionList, &ObpDeletionList};
static OB_DEFER_ROUTINE *ObpRequestDeletion;

PVOID ObAllocateObject(POBJECT_TYPE Type, SIZE_T ByteCount)
{
    POB_HEADER Header = ByteCount > MAXLONG ? NULL
                                            : ExAllocatePool2(POOL_FLAG_NON_PAGED,
                                                              sizeof(*Header) + ByteCount, OBP_TAG);
    if (Header == NULL) {
        return NULL;
    }
    Header->PointerCount = 1;
    Header->Type = Type;
    __atomic_add_fetch(&Type->ObjectCount, 1, __ATOMIC_RELAXED);
    return Header + 1;
}

VOID ObInitializeStaticObject(POB_HEADER Header, POBJECT_TYPE Type)
{
    *Header = (OB_HEADER){.PointerCount = 1, .IsStatic = TRUE, .Type = Type};
}

static DECLSPEC_NORETURN VOID ObpRefuseCount(PVOID Object, LONG64 Count)
{
    const POBJECT_TYPE Type = ObTypeOf(Object);
    KiBugCheckSaying(REFERENCE_BY_POINTER, (ULONG_PTR)Type, (ULONG_PTR)Object, (ULONG_PTR)Count, 0,
                     "an object was referenced or dereferenced whose last reference had gone");
}

static VOID ObpDelete(POB_HEADER Header)
{
    const POBJECT_TYPE Type = Header->Type;
    ObRemoveName(Header + 1);
    if (Type->Delete != NULL) {
        Type->Delete(Header + 1);
    }
    __atomic_sub_fetch(&Type->ObjectCount, 1, __ATOMIC_RELAXED);
    // A pointer that was kept too long shall be recognised.
    Header->Type = NULL;
    ExFreePoolWithTag(Header, OBP_TAG);
}

static VOID ObpDeleteLater(POB_HEADER Header)
{
    const KIRQL OldIrql = KiAcquireLock(&ObpDeletionLock);
    InsertTailList(&ObpDeletionList, &Header->DeleteLink);
    KiReleaseLock(&ObpDeletionLock, OldIrql);
    ObpRequestDeletion();
}

static POB_HEADER ObpTakeDeferred(VOID)
{
    POB_HEADER Header = NULL;
    const KIRQL OldIrql = KiAcquireLock(&ObpDeletionLock);
    if (!IsListEmpty(&ObpDeletionList)) {
        Header = CONTAINING_RECORD(RemoveHeadList(&ObpDeletionList), OB_HEADER, DeleteLink);
    }
    KiReleaseLock(&ObpDeletionLock, OldIrql);
    return Header;
}

VOID ObDeleteDeferred(VOID)
{
    for (POB_HEADER Header = ObpTakeDeferred(); Header != NULL; Header = ObpTakeDeferred()) {
        ObpDelete(Header);
    }
}

VOID ObSetDeferral(OB_DEFER_ROUTINE *RequestDeletion)
{
    ObpRequestDeletion = RequestDeletion;
}

//
// References.
//

LONG_PTR NTAPI ObfReferenceObject(PVOID Object)
{
    const LONG64 Count =
        __atomic_add_fetch(&OB_HEADER_OF(Object)->PointerCount, 1, __ATOMIC_RELAXED);
    if (Count <= 1) {
        ObpRefuseCount(Object, Count);
    }
    return Count;
}

BOOLEAN ObTryReference(PVOID Object)
{
    volatile LONG64 *Place = &OB_HEADER_OF(Object)->PointerCount;
    LONG64 Count = __atomic_load_n(Place, __ATOMIC_RELAXED);
    while (Count > 0) {
        if (__atomic_compare_exchange_n(Place, &Count, Count + 1, TRUE, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED)) {
            return TRUE;
        }
    }
    return FALSE;
}

// Whether the reference was the last one; *Count gets the new count.
static BOOLEAN ObpRelease(POB_HEADER Header, LONG_PTR *Count)
{
    *Count = __atomic_sub_fetch(&Header->PointerCount, 1, __ATOMIC_ACQ_REL);
    if (*Count < 0 || (*Count == 0 && Header->IsStatic)) {
        ObpRefuseCount(Header + 1, *Count);
    }
    return *Count == 0;
}

BOOLEAN ObReleaseReference(PVOID Object)
{
    LONG_PTR Count;
    return ObpRelease(OB_HEADER_OF(Object), &Count);
}

VOID ObDeleteReleased(PVOID Object)
{
    ObpDelete(OB_HEADER_OF(Object));
}

LONG_PTR NTAPI ObfDereferenceObject(PVOID Object)
{
    const POB_HEADER Header = OB_HEADER_OF(Object);
    LONG_PTR Count;
    if (ObpRelease(Header, &Count)) {
        if (KeGetCurrentIrql() == PASSIVE_LEVEL || ObpRequestDeletion == NULL) {
            ObpDelete(Header);
        } else {
            ObpDeleteLater(Header);
        }
    }
    return Count;
}

LONG_PTR NTAPI ObfReferenceObjectWithTag(PVOID Object, ULONG Tag)
{
    UNREFERENCED_PARAMETER(Tag);
    return ObfReferenceObject(Object);
}

LONG_PTR NTAPI ObfDereferenceObjectWithTag(PVOID Object, ULONG Tag)
{
    UNREFERENCED_PARAMETER(Tag);
    return ObfDereferenceObject(Object);
}

VOID NTAPI ObDereferenceObjectDeferDelete(PVOID Object)
{
    const POB_HEADER Header = OB_HEADER_OF(Object);
    LONG_PTR Count;
    if (ObpRelease(Header, &Count)) {
        if (ObpRequestDeletion == NULL) {
            ObpDelete(Header);
        } else {
            ObpDeleteLater(Header);
        }
    }
}

VOID NTAPI ObDereferenceObjectDeferDeleteWithTag(PVOID Object, ULONG Tag)
{
    UNREFERENCED_PARAMETER(Tag);
    ObDereferenceObjectDeferDelete(Object);
}

NTSTATUS NTAPI ObReferenceObjectByPointer(PVOID Object, ACCESS_MASK DesiredAccess,
                                          POBJECT_TYPE ObjectType, KPROCESSOR_MODE AccessMode)
{
    UNREFERENCED_PARAMETER(DesiredAccess);
    const BOOLEAN AnyType = ObjectType == NULL && AccessMode == KernelMode;
    if (!AnyType && ObTypeOf(Object) != ObjectType) {
        return STATUS_OBJECT_TYPE_MISMATCH;
    }
    ObfReferenceObject(Object);
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI ObReferenceObjectByPointerWithTag(PVOID Object, ACCESS_MASK DesiredAccess,
                                                 POBJECT_TYPE ObjectType,
                                                 KPROCESSOR_MODE AccessMode, ULONG Tag)
{
    UNREFERENCED_PARAMETER(Tag);
    return ObReferenceObjectByPointer(Object, DesiredAccess, ObjectType, AccessMode);
}
