// Ex for drivers: resources (reader-writer locks that wait), rundown protection, callback objects.
#pragma once

#include <ntdef.h>
#include <ntstatus.h>

#include <dispatchddk.h>
#include <obddk.h>

// -------------------------------------------------------------------------------------------------
// Resources: any number of readers, or one writer. Each thread may acquire again what it has. The
// owner is the thread, which must not get APCs meanwhile (KeEnterCriticalRegion). In nonpaged memory
// of the driver's, aligned to 8 bytes. IRQL <= APC_LEVEL, releases and queries <= DISPATCH_LEVEL.

typedef ULONG_PTR ERESOURCE_THREAD, *PERESOURCE_THREAD;

typedef struct _OWNER_ENTRY {
    ERESOURCE_THREAD OwnerThread; // 0: a free entry
    union {
        struct {
            ULONG IoPriorityBoosted : 1;
            ULONG OwnerReferenced : 1;
            ULONG OwnerCount : 30;
        };
        ULONG TableSize; // of the first entry of a table: it is no owner
    };
} OWNER_ENTRY, *POWNER_ENTRY;

typedef struct _ERESOURCE {
    LIST_ENTRY SystemResourcesList; // who waits, in order of arrival (ours)
    POWNER_ENTRY OwnerTable;        // readers beyond the first
    SHORT ActiveCount;              // owners
    USHORT Flag;
    volatile PKSEMAPHORE SharedWaiters;
    volatile PKEVENT ExclusiveWaiters;
    OWNER_ENTRY OwnerEntry; // the writer, or the first reader
    ULONG ActiveEntries;
    ULONG ContentionCount;
    ULONG NumberOfSharedWaiters;
    ULONG NumberOfExclusiveWaiters;
    PVOID Reserved2;
    union {
        PVOID Address;
        ULONG_PTR CreatorBackTraceIndex;
    };
    KSPIN_LOCK SpinLock;
} ERESOURCE, *PERESOURCE;

C_ASSERT(sizeof(ERESOURCE) == 0x68 && FIELD_OFFSET(ERESOURCE, OwnerEntry) == 0x30);

#define ResourceNeverExclusive 0x0010
#define ResourceReleaseByOtherThread 0x0020
#define ResourceOwnedExclusive 0x0080

// STATUS_SUCCESS. A resource must be deleted before its memory goes, and be free then.
NTSTATUS NTAPI ExInitializeResourceLite(_Out_ PERESOURCE Resource);
NTSTATUS NTAPI ExReinitializeResourceLite(_Inout_ PERESOURCE Resource);
NTSTATUS NTAPI ExDeleteResourceLite(_Inout_ PERESOURCE Resource);

// FALSE: Wait is FALSE, and it cannot be had at once. A reader waits behind writers that wait already,
// but for the StarveExclusive form.
BOOLEAN NTAPI ExAcquireResourceExclusiveLite(_Inout_ PERESOURCE Resource, _In_ BOOLEAN Wait);
BOOLEAN NTAPI ExAcquireResourceSharedLite(_Inout_ PERESOURCE Resource, _In_ BOOLEAN Wait);
BOOLEAN NTAPI ExAcquireSharedStarveExclusive(_Inout_ PERESOURCE Resource, _In_ BOOLEAN Wait);
BOOLEAN NTAPI ExAcquireSharedWaitForExclusive(_Inout_ PERESOURCE Resource, _In_ BOOLEAN Wait);

// RESOURCE_NOT_OWNED (0xE3): by a thread that does not own it.
VOID FASTCALL ExReleaseResourceLite(_Inout_ PERESOURCE Resource);
VOID NTAPI ExReleaseResourceForThreadLite(_Inout_ PERESOURCE Resource,
                                          _In_ ERESOURCE_THREAD ResourceThreadId);
VOID NTAPI ExConvertExclusiveToSharedLite(_Inout_ PERESOURCE Resource);

// From now on OwnerPointer, whose lowest two bits are set, owns what this thread has acquired.
VOID NTAPI ExSetResourceOwnerPointer(_Inout_ PERESOURCE Resource, _In_ PVOID OwnerPointer);

BOOLEAN NTAPI ExIsResourceAcquiredExclusiveLite(_In_ PERESOURCE Resource);
// How often the current thread has it, as a reader or as the writer.
ULONG NTAPI ExIsResourceAcquiredSharedLite(_In_ PERESOURCE Resource);
ULONG NTAPI ExGetExclusiveWaiterCount(_In_ PERESOURCE Resource);
ULONG NTAPI ExGetSharedWaiterCount(_In_ PERESOURCE Resource);

// With KeEnterCriticalRegion before, or KeLeaveCriticalRegion behind. The result is NULL (ours).
PVOID NTAPI ExEnterCriticalRegionAndAcquireResourceExclusive(_Inout_ PERESOURCE Resource);
PVOID NTAPI ExEnterCriticalRegionAndAcquireResourceShared(_Inout_ PERESOURCE Resource);
PVOID NTAPI ExEnterCriticalRegionAndAcquireSharedWaitForExclusive(_Inout_ PERESOURCE Resource);
VOID FASTCALL ExReleaseResourceAndLeaveCriticalRegion(_Inout_ PERESOURCE Resource);

// -------------------------------------------------------------------------------------------------
// Rundown protection: counts who uses an object, until somebody waits for all of them to go. IRQL <=
// DISPATCH_LEVEL, to wait <= APC_LEVEL.

typedef struct _EX_RUNDOWN_REF {
    union {
        volatile ULONG_PTR Count; // twice the users; bit 0: it runs down, the rest is the waiter's
        volatile PVOID Ptr;
    };
} EX_RUNDOWN_REF, *PEX_RUNDOWN_REF;

VOID FASTCALL ExInitializeRundownProtection(_Out_ PEX_RUNDOWN_REF RunRef);
VOID FASTCALL ExReInitializeRundownProtection(_Inout_ PEX_RUNDOWN_REF RunRef);
// FALSE: it runs down, or has done so.
_Must_inspect_result_ BOOLEAN FASTCALL ExAcquireRundownProtection(_Inout_ PEX_RUNDOWN_REF RunRef);
_Must_inspect_result_ BOOLEAN FASTCALL ExAcquireRundownProtectionEx(_Inout_ PEX_RUNDOWN_REF RunRef,
                                                                    _In_ ULONG Count);
VOID FASTCALL ExReleaseRundownProtection(_Inout_ PEX_RUNDOWN_REF RunRef);
VOID FASTCALL ExReleaseRundownProtectionEx(_Inout_ PEX_RUNDOWN_REF RunRef, _In_ ULONG Count);
VOID FASTCALL ExWaitForRundownProtectionRelease(_Inout_ PEX_RUNDOWN_REF RunRef);
VOID FASTCALL ExRundownCompleted(_Out_ PEX_RUNDOWN_REF RunRef);

// -------------------------------------------------------------------------------------------------
// Callback objects: named places where some register routines and others call them.
// \Callback\PowerState, \Callback\ProcessorAdd and \Callback\SetSystemTime exist; nobody calls them.

typedef struct _CALLBACK_OBJECT *PCALLBACK_OBJECT;
typedef VOID(NTAPI CALLBACK_FUNCTION)(_In_opt_ PVOID CallbackContext, _In_opt_ PVOID Argument1,
                                      _In_opt_ PVOID Argument2);
typedef CALLBACK_FUNCTION *PCALLBACK_FUNCTION;

// The object, referenced (ObDereferenceObject). STATUS_OBJECT_NAME_NOT_FOUND: there is none, and Create
// is FALSE. STATUS_UNSUCCESSFUL: no name, and Create is FALSE. STATUS_INSUFFICIENT_RESOURCES. IRQL =
// PASSIVE_LEVEL.
NTSTATUS NTAPI ExCreateCallback(_Outptr_ PCALLBACK_OBJECT *CallbackObject,
                                _In_ POBJECT_ATTRIBUTES ObjectAttributes, _In_ BOOLEAN Create,
                                _In_ BOOLEAN AllowMultipleCallbacks);
// A handle for ExUnregisterCallback; NULL: no pool, or the object takes one routine and has it. IRQL <=
// APC_LEVEL.
PVOID NTAPI ExRegisterCallback(_In_ PCALLBACK_OBJECT CallbackObject,
                               _In_ PCALLBACK_FUNCTION CallbackFunction,
                               _In_opt_ PVOID CallbackContext);
// Waits until the routine does not run any more. Not from within a callback. IRQL <= APC_LEVEL.
VOID NTAPI ExUnregisterCallback(_Inout_ PVOID CallbackRegistration);
// Calls all routines, in order of their registration, at the caller's IRQL, <= DISPATCH_LEVEL.
VOID NTAPI ExNotifyCallback(_In_ PCALLBACK_OBJECT CallbackObject, _In_opt_ PVOID Argument1,
                            _In_opt_ PVOID Argument2);
