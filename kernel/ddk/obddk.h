// Ob for drivers: references, handles, names.
//
// An object is a driver object, a device, a file, an event, a thread ...: a body that drivers point
// to, with a count of references. The last reference that goes deletes it. A handle is a reference
// with a number; all handles here are the kernel's.
#pragma once

#include <ntdef.h>
#include <ntstatus.h>

#include <dispatchddk.h>
#include <keddk.h>

#define DELETE 0x00010000
#define READ_CONTROL 0x00020000
#define WRITE_DAC 0x00040000
#define WRITE_OWNER 0x00080000
#define SYNCHRONIZE 0x00100000
#define STANDARD_RIGHTS_REQUIRED 0x000F0000
#define STANDARD_RIGHTS_ALL 0x001F0000
#define SPECIFIC_RIGHTS_ALL 0x0000FFFF
#define MAXIMUM_ALLOWED 0x02000000
#define GENERIC_ALL 0x10000000
#define GENERIC_EXECUTE 0x20000000
#define GENERIC_WRITE 0x40000000
#define GENERIC_READ 0x80000000

#define DIRECTORY_QUERY 0x0001
#define DIRECTORY_TRAVERSE 0x0002
#define DIRECTORY_CREATE_OBJECT 0x0004
#define DIRECTORY_CREATE_SUBDIRECTORY 0x0008
#define DIRECTORY_ALL_ACCESS (STANDARD_RIGHTS_REQUIRED | 0xF)

#define SYMBOLIC_LINK_QUERY 0x0001
#define SYMBOLIC_LINK_ALL_ACCESS (STANDARD_RIGHTS_REQUIRED | 0x1)

#define DUPLICATE_CLOSE_SOURCE 0x00000001
#define DUPLICATE_SAME_ACCESS 0x00000002
#define DUPLICATE_SAME_ATTRIBUTES 0x00000004

typedef struct _OBJECT_TYPE *POBJECT_TYPE;

typedef struct _OBJECT_HANDLE_INFORMATION {
    ULONG HandleAttributes;
    ACCESS_MASK GrantedAccess;
} OBJECT_HANDLE_INFORMATION, *POBJECT_HANDLE_INFORMATION;

C_ASSERT(sizeof(OBJECT_HANDLE_INFORMATION) == 8);

typedef struct _OBJECT_NAME_INFORMATION {
    UNICODE_STRING Name; // its buffer lies behind this structure
} OBJECT_NAME_INFORMATION, *POBJECT_NAME_INFORMATION;

// The types that drivers name, each by the address of a variable: *IoFileObjectType is the type.
extern POBJECT_TYPE *IoFileObjectType;
extern POBJECT_TYPE *IoDeviceObjectType;
extern POBJECT_TYPE *IoDriverObjectType;
extern POBJECT_TYPE *ExEventObjectType;
extern POBJECT_TYPE *ExSemaphoreObjectType;

// -------------------------------------------------------------------------------------------------
// References.

// One reference more, one less; each returns the new count, for display only. The last one that goes
// deletes the object: at PASSIVE_LEVEL at once, above that from a system thread. IRQL <=
// DISPATCH_LEVEL. REFERENCE_BY_POINTER: the count was 0 already, or is nonsense.
LONG_PTR NTAPI ObfReferenceObject(_In_ PVOID Object);
LONG_PTR NTAPI ObfDereferenceObject(_In_ PVOID Object);
LONG_PTR NTAPI ObfReferenceObjectWithTag(_In_ PVOID Object, _In_ ULONG Tag);
LONG_PTR NTAPI ObfDereferenceObjectWithTag(_In_ PVOID Object, _In_ ULONG Tag);
#define ObReferenceObject ObfReferenceObject
#define ObDereferenceObject ObfDereferenceObject
#define ObReferenceObjectWithTag ObfReferenceObjectWithTag
#define ObDereferenceObjectWithTag ObfDereferenceObjectWithTag

// The object is deleted from a system thread, if this was its last reference: for callers that hold
// locks. IRQL <= DISPATCH_LEVEL.
VOID NTAPI ObDereferenceObjectDeferDelete(_In_ PVOID Object);
VOID NTAPI ObDereferenceObjectDeferDeleteWithTag(_In_ PVOID Object, _In_ ULONG Tag);

// A reference, if the object has the type ObjectType (NULL, from kernel mode only: any).
// STATUS_OBJECT_TYPE_MISMATCH: it has another. IRQL <= DISPATCH_LEVEL.
NTSTATUS NTAPI ObReferenceObjectByPointer(_In_ PVOID Object, _In_ ACCESS_MASK DesiredAccess,
                                          _In_opt_ POBJECT_TYPE ObjectType,
                                          _In_ KPROCESSOR_MODE AccessMode);
NTSTATUS NTAPI ObReferenceObjectByPointerWithTag(_In_ PVOID Object, _In_ ACCESS_MASK DesiredAccess,
                                                 _In_opt_ POBJECT_TYPE ObjectType,
                                                 _In_ KPROCESSOR_MODE AccessMode, _In_ ULONG Tag);

// The object behind a handle, referenced. Access is checked for UserMode only, as documented.
// STATUS_INVALID_HANDLE, STATUS_OBJECT_TYPE_MISMATCH, STATUS_ACCESS_DENIED. IRQL = PASSIVE_LEVEL.
NTSTATUS NTAPI ObReferenceObjectByHandle(_In_ HANDLE Handle, _In_ ACCESS_MASK DesiredAccess,
                                         _In_opt_ POBJECT_TYPE ObjectType,
                                         _In_ KPROCESSOR_MODE AccessMode, _Out_ PVOID *Object,
                                         _Out_opt_ POBJECT_HANDLE_INFORMATION HandleInformation);
NTSTATUS NTAPI
ObReferenceObjectByHandleWithTag(_In_ HANDLE Handle, _In_ ACCESS_MASK DesiredAccess,
                                 _In_opt_ POBJECT_TYPE ObjectType, _In_ KPROCESSOR_MODE AccessMode,
                                 _In_ ULONG Tag, _Out_ PVOID *Object,
                                 _Out_opt_ POBJECT_HANDLE_INFORMATION HandleInformation);

// -------------------------------------------------------------------------------------------------
// Handles. IRQL = PASSIVE_LEVEL.

// A handle to an object that the caller has a pointer to; ZwClose closes it.
// STATUS_OBJECT_TYPE_MISMATCH, STATUS_INSUFFICIENT_RESOURCES.
NTSTATUS NTAPI ObOpenObjectByPointer(_In_ PVOID Object, _In_ ULONG HandleAttributes,
                                     _In_opt_ PVOID PassedAccessState,
                                     _In_ ACCESS_MASK DesiredAccess,
                                     _In_opt_ POBJECT_TYPE ObjectType,
                                     _In_ KPROCESSOR_MODE AccessMode, _Out_ PHANDLE Handle);

// STATUS_INVALID_HANDLE: it is none; with the verifier, INVALID_KERNEL_HANDLE.
NTSTATUS NTAPI ZwClose(_In_ HANDLE Handle);
NTSTATUS NTAPI ObCloseHandle(_In_ HANDLE Handle, _In_ KPROCESSOR_MODE PreviousMode);

// All handles are the kernel's (ours).
BOOLEAN NTAPI ObIsKernelHandle(_In_ HANDLE Handle);

// The object's name goes with its last handle, unless others keep it. STATUS_INVALID_HANDLE.
NTSTATUS NTAPI ZwMakeTemporaryObject(_In_ HANDLE Handle);

// -------------------------------------------------------------------------------------------------
// Names: a tree of directories. Names are compared without regard to case, always (ours).

// The full name of an object, or an empty one. *ReturnLength gets the bytes that it takes.
// STATUS_INFO_LENGTH_MISMATCH: Length is smaller. IRQL = PASSIVE_LEVEL.
NTSTATUS NTAPI ObQueryNameString(_In_ PVOID Object,
                                 _Out_writes_bytes_opt_(Length)
                                     POBJECT_NAME_INFORMATION ObjectNameInfo,
                                 _In_ ULONG Length, _Out_ PULONG ReturnLength);

// The object of a name, referenced. Not documented by Microsoft, but drivers use it.
// STATUS_OBJECT_NAME_NOT_FOUND, STATUS_OBJECT_PATH_NOT_FOUND, STATUS_OBJECT_TYPE_MISMATCH.
NTSTATUS NTAPI ObReferenceObjectByName(_In_ PUNICODE_STRING ObjectName, _In_ ULONG Attributes,
                                       _In_opt_ PVOID PassedAccessState,
                                       _In_ ACCESS_MASK DesiredAccess,
                                       _In_opt_ POBJECT_TYPE ObjectType,
                                       _In_ KPROCESSOR_MODE AccessMode,
                                       _Inout_opt_ PVOID ParseContext, _Out_ PVOID *Object);

// A directory, made or opened. STATUS_OBJECT_NAME_COLLISION: there is such a name (without
// OBJ_OPENIF). STATUS_OBJECT_NAME_EXISTS: there was one, and it was opened.
NTSTATUS NTAPI ZwCreateDirectoryObject(_Out_ PHANDLE DirectoryHandle,
                                       _In_ ACCESS_MASK DesiredAccess,
                                       _In_ POBJECT_ATTRIBUTES ObjectAttributes);
NTSTATUS NTAPI ZwOpenDirectoryObject(_Out_ PHANDLE DirectoryHandle, _In_ ACCESS_MASK DesiredAccess,
                                     _In_ POBJECT_ATTRIBUTES ObjectAttributes);

NTSTATUS NTAPI ZwCreateSymbolicLinkObject(_Out_ PHANDLE LinkHandle, _In_ ACCESS_MASK DesiredAccess,
                                          _In_ POBJECT_ATTRIBUTES ObjectAttributes,
                                          _In_ PUNICODE_STRING LinkTarget);
NTSTATUS NTAPI ZwOpenSymbolicLinkObject(_Out_ PHANDLE LinkHandle, _In_ ACCESS_MASK DesiredAccess,
                                        _In_ POBJECT_ATTRIBUTES ObjectAttributes);

// Where the link leads to. STATUS_BUFFER_TOO_SMALL: *ReturnedLength says how many bytes it takes.
NTSTATUS NTAPI ZwQuerySymbolicLinkObject(_In_ HANDLE LinkHandle, _Inout_ PUNICODE_STRING LinkTarget,
                                         _Out_opt_ PULONG ReturnedLength);

// -------------------------------------------------------------------------------------------------
// Events with handles. IRQL = PASSIVE_LEVEL.

#define EVENT_QUERY_STATE 0x0001
#define EVENT_MODIFY_STATE 0x0002
#define EVENT_ALL_ACCESS (STANDARD_RIGHTS_REQUIRED | SYNCHRONIZE | 0x3)

// Errors as for directories; STATUS_INVALID_PARAMETER: no such EventType.
NTSTATUS NTAPI ZwCreateEvent(_Out_ PHANDLE EventHandle, _In_ ACCESS_MASK DesiredAccess,
                             _In_opt_ POBJECT_ATTRIBUTES ObjectAttributes,
                             _In_ EVENT_TYPE EventType, _In_ BOOLEAN InitialState);
NTSTATUS NTAPI ZwOpenEvent(_Out_ PHANDLE EventHandle, _In_ ACCESS_MASK DesiredAccess,
                           _In_ POBJECT_ATTRIBUTES ObjectAttributes);
NTSTATUS NTAPI ZwSetEvent(_In_ HANDLE EventHandle, _Out_opt_ PLONG PreviousState);
NTSTATUS NTAPI ZwResetEvent(_In_ HANDLE EventHandle, _Out_opt_ PLONG PreviousState);
NTSTATUS NTAPI ZwClearEvent(_In_ HANDLE EventHandle);

// As KeWaitForSingleObject, for an event, a file or a thread. STATUS_OBJECT_TYPE_MISMATCH: there is
// nothing to wait for in such an object.
NTSTATUS NTAPI ZwWaitForSingleObject(_In_ HANDLE Handle, _In_ BOOLEAN Alertable,
                                     _In_opt_ PLARGE_INTEGER Timeout);

// An event of that name, made (signalled) or opened. The pointer is good until the handle is closed.
// NULL: no pool, or a wrong name.
_Must_inspect_result_ _Ret_maybenull_ PKEVENT NTAPI
IoCreateNotificationEvent(_In_ PUNICODE_STRING EventName, _Out_ PHANDLE EventHandle);
_Must_inspect_result_ _Ret_maybenull_ PKEVENT NTAPI
IoCreateSynchronizationEvent(_In_ PUNICODE_STRING EventName, _Out_ PHANDLE EventHandle);
