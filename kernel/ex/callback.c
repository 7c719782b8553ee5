// Callback objects.
//
// Invariant:
//   B1  A registration stays in its object's list while its routine runs: a notification that comes
//       back from it finds the next one. Who unregisters waits for that.

#include <exlockddk.h>

#include "kernel/inc/ex.h"
#include "kernel/inc/ke.h"
#include "kernel/inc/ob.h"

#define EX_CALLBACK_TAG 'kBxE'

struct _CALLBACK_OBJECT {
    KSPIN_LOCK Lock;
    LIST_ENTRY Registrations;
    BOOLEAN AllowsMultiple;
};

typedef struct _EXP_REGISTRATION {
    LIST_ENTRY Link;
    PCALLBACK_OBJECT CallbackObject; // referenced
    PCALLBACK_FUNCTION Function;
    PVOID Context;
    ULONG RunningCount;
    PKEVENT Gone; // of who unregisters, once the routine runs no more
} EXP_REGISTRATION, *PEXP_REGISTRATION;

static OBJECT_TYPE ExpCallbackType = {.Name = "Callback"};

static NTSTATUS ExpMakeCallback(POBJECT_ATTRIBUTES Attributes, BOOLEAN AllowsMultiple,
                                PCALLBACK_OBJECT *CallbackObject)
{
    PCALLBACK_OBJECT Object = ObAllocateObject(&ExpCallbackType, sizeof(*Object));
    if (Object == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    InitializeListHead(&Object->Registrations);
    Object->AllowsMultiple = AllowsMultiple;
    NTSTATUS Status = STATUS_SUCCESS;
    if (Attributes != NULL && Attributes->ObjectName != NULL) {
        Status = ObInsertName(Object, NULL, Attributes->ObjectName);
    }
    if (!NT_SUCCESS(Status)) {
        ObDereferenceObject(Object);
        return Status;
    }
    *CallbackObject = Object;
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI ExCreateCallback(PCALLBACK_OBJECT *CallbackObject,
                                POBJECT_ATTRIBUTES ObjectAttributes, BOOLEAN Create,
                                BOOLEAN AllowMultipleCallbacks)
{
    const BOOLEAN HasName = ObjectAttributes != NULL && ObjectAttributes->ObjectName != NULL;
    NTSTATUS Status = STATUS_UNSUCCESSFUL;
    if (HasName) {
        PVOID Object;
        Status = ObLookupByAttributes(ObjectAttributes, &ExpCallbackType, &Object);
        if (NT_SUCCESS(Status)) {
            *CallbackObject = Object;
            return Status;
        }
    }
    if (!Create || (HasName && Status != STATUS_OBJECT_NAME_NOT_FOUND)) {
        return Status;
    }
    return ExpMakeCallback(ObjectAttributes, AllowMultipleCallbacks, CallbackObject);
}

PVOID NTAPI ExRegisterCallback(PCALLBACK_OBJECT CallbackObject, PCALLBACK_FUNCTION CallbackFunction,
                               PVOID CallbackContext)
{
    PEXP_REGISTRATION Registration =
        ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(EXP_REGISTRATION), EX_CALLBACK_TAG);
    if (Registration == NULL) {
        return NULL;
    }
    Registration->CallbackObject = CallbackObject;
    Registration->Function = CallbackFunction;
    Registration->Context = CallbackContext;
    KIRQL OldIrql;
    KeAcquireSpinLock(&CallbackObject->Lock, &OldIrql);
    const BOOLEAN IsFull =
        !CallbackObject->AllowsMultiple && !IsListEmpty(&CallbackObject->Registrations);
    if (!IsFull) {
        InsertTailList(&CallbackObject->Registrations, &Registration->Link);
    }
    KeReleaseSpinLock(&CallbackObject->Lock, OldIrql);
    if (IsFull) {
        ExFreePoolWithTag(Registration, EX_CALLBACK_TAG);
        return NULL;
    }
    ObReferenceObject(CallbackObject);
    return Registration;
}

VOID NTAPI ExUnregisterCallback(PVOID CallbackRegistration)
{
    PEXP_REGISTRATION Registration = CallbackRegistration;
    PCALLBACK_OBJECT Object = Registration->CallbackObject;
    KEVENT Gone;
    KIRQL OldIrql;
    KeInitializeEvent(&Gone, NotificationEvent, FALSE);
    KeAcquireSpinLock(&Object->Lock, &OldIrql);
    while (Registration->RunningCount > 0) {
        Registration->Gone = &Gone;
        KeReleaseSpinLock(&Object->Lock, OldIrql);
        KeWaitForSingleObject(&Gone, Executive, KernelMode, FALSE, NULL);
        KeAcquireSpinLock(&Object->Lock, &OldIrql);
    }
    RemoveEntryList(&Registration->Link);
    KeReleaseSpinLock(&Object->Lock, OldIrql);
    ExFreePoolWithTag(Registration, EX_CALLBACK_TAG);
    ObDereferenceObject(Object);
}

VOID NTAPI ExNotifyCallback(PCALLBACK_OBJECT CallbackObject, PVOID Argument1, PVOID Argument2)
{
    KIRQL OldIrql;
    KeAcquireSpinLock(&CallbackObject->Lock, &OldIrql);
    for (PLIST_ENTRY Link = CallbackObject->Registrations.Flink;
         Link != &CallbackObject->Registrations; Link = Link->Flink) {
        PEXP_REGISTRATION Registration = CONTAINING_RECORD(Link, EXP_REGISTRATION, Link);
        if (Registration->Gone != NULL) {
            continue;
        }
        Registration->RunningCount += 1;
        KeReleaseSpinLock(&CallbackObject->Lock, OldIrql);
        Registration->Function(Registration->Context, Argument1, Argument2);
        KeAcquireSpinLock(&CallbackObject->Lock, &OldIrql);
        Registration->RunningCount -= 1;
        // It is removed under the lock only, so its link still leads on.
        if (Registration->RunningCount == 0 && Registration->Gone != NULL) {
            KeSetEvent(Registration->Gone, 0, FALSE);
        }
    }
    KeReleaseSpinLock(&CallbackObject->Lock, OldIrql);
}

static PCWSTR const ExpCallbacks[] = {
    u"\\Callback\\PowerState",
    u"\\Callback\\ProcessorAdd",
    u"\\Callback\\SetSystemTime",
};

VOID ExInitSystem(VOID)
{
    for (ULONG Index = 0; Index < ARRAYSIZE(ExpCallbacks); Index += 1) {
        UNICODE_STRING Name;
        OBJECT_ATTRIBUTES Attributes;
        PCALLBACK_OBJECT Object;
        RtlInitUnicodeString(&Name, ExpCallbacks[Index]);
        InitializeObjectAttributes(&Attributes, &Name, OBJ_CASE_INSENSITIVE, NULL, NULL);
        if (!NT_SUCCESS(ExCreateCallback(&Object, &Attributes, TRUE, TRUE))) {
            DbgPrint("ex: no memory for the callback object %wZ\n", &Name);
        }
    }
}
