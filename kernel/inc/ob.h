// Ob: objects, as the components that make them see them.
//
//   header | body        every pointer that goes around is one to the body, 16 bytes aligned
//
// A component describes each of its types by an OBJECT_TYPE, allocates bodies with ObAllocateObject
// (one reference, the caller's), and lets go with ObDereferenceObject. A body that cannot be
// allocated, because it exists before the pool, gets an OB_HEADER in front and
// ObInitializeStaticObject. Everything for drivers is in <obddk.h>. IRQL = PASSIVE_LEVEL but where
// it says otherwise.
#pragma once

#include <wdm.h>

struct _OB_NAME;

// The members that are not a component's to fill are 0 at first.
struct _OBJECT_TYPE {
    PCSTR Name;
    // The last reference has gone: undo what the body holds; Ob frees the body itself. NULL: nothing.
    // At PASSIVE_LEVEL.
    VOID (*Delete)(_Inout_ PVOID Object);
    // The last handle has gone, references may stay. NULL: nothing.
    VOID (*CloseLastHandle)(_Inout_ PVOID Object);
    // The object whose full name *Suffix continues; NULL: Suffix is all. NULL: its own name.
    PVOID (*NameBase)(_In_ PVOID Object, _Out_ PUNICODE_STRING Suffix);
    // Names are looked up through its objects: the rest of the path is theirs to understand.
    BOOLEAN IsNameEnd;
    // A handle can be waited for: at WaitOffset in the body is a dispatcher object.
    BOOLEAN IsWaitable;
    ULONG WaitOffset;
    volatile LONG ObjectCount; // live ones
};
typedef struct _OBJECT_TYPE OBJECT_TYPE;

typedef struct DECLSPEC_ALIGN(16) _OB_HEADER {
    volatile LONG64 PointerCount; // references, with one for each handle
    volatile LONG HandleCount;
    BOOLEAN IsStatic;           // never freed
    BOOLEAN NameGoesWithHandle; // with the last one
    BOOLEAN NameKeepsReference; // until it is taken away
    POBJECT_TYPE Type;
    struct _OB_NAME *Name; // NULL: it has none
    LIST_ENTRY DeleteLink; // while it waits for the thread that deletes it
} OB_HEADER, *POB_HEADER;

C_ASSERT(sizeof(OB_HEADER) % 16 == 0);

#define OB_HEADER_OF(Object) ((POB_HEADER)(Object)-1)

FORCEINLINE POBJECT_TYPE ObTypeOf(_In_ const VOID *Object)
{
    return ((const OB_HEADER *)Object - 1)->Type;
}

// Makes the first directories: \Device, \Driver, \GLOBAL??, \?? and \DosDevices (which are the same),
// \Callback, \BaseNamedObjects. After MmInitSystem. What fails is told of.
VOID ObInitSystem(VOID);

// A zeroed body of ByteCount bytes in nonpaged pool with one reference, the caller's. NULL: no pool.
// IRQL <= DISPATCH_LEVEL.
_Must_inspect_result_ PVOID ObAllocateObject(_In_ POBJECT_TYPE Type, _In_ SIZE_T ByteCount);

// Gives the body behind Header one reference that never goes. Any IRQL.
VOID ObInitializeStaticObject(_Out_ POB_HEADER Header, _In_ POBJECT_TYPE Type);

// A reference, unless the object is being deleted: FALSE. For lists that hold no references
// themselves, under the lock that the type's Delete takes. IRQL <= DISPATCH_LEVEL.
_Must_inspect_result_ BOOLEAN ObTryReference(_In_ PVOID Object);

// The halves of a dereference, for who releases under a lock that nothing may be deleted under: TRUE means
// that it was the last reference, and ObDeleteReleased is to follow, at PASSIVE_LEVEL.
_Must_inspect_result_ BOOLEAN ObReleaseReference(_In_ PVOID Object);
VOID ObDeleteReleased(_In_ PVOID Object);

// -------------------------------------------------------------------------------------------------
// Names.

// Gives Object a name: "\Device\Foo". Root: a directory that a relative name begins at; NULL: none.
// The name does not keep the object alive; it goes with it.
// STATUS_OBJECT_NAME_INVALID     no name, or one without leading backslash and without Root
// STATUS_OBJECT_NAME_COLLISION   somebody else has it
// STATUS_OBJECT_PATH_NOT_FOUND   no such directory
// STATUS_INSUFFICIENT_RESOURCES  no pool
_Must_inspect_result_ NTSTATUS ObInsertName(_In_ PVOID Object, _In_opt_ PVOID Root,
                                            _In_ PCUNICODE_STRING Name);

// Takes the name away again. Nothing happens when it has none.
VOID ObRemoveName(_In_ PVOID Object);

typedef enum _OB_LINK_RULE { ObFollowLinks, ObOpenLink } OB_LINK_RULE;

// The object of a name, referenced. ObOpenLink: a link at the end of the name is itself the object.
// Remaining (optional): where a name goes on behind an object with IsNameEnd, the rest, with its
// backslash; it points into *Buffer, which the caller frees with ExFreePool unless NULL. Without
// Remaining such a name is not found.
// STATUS_OBJECT_NAME_NOT_FOUND, STATUS_OBJECT_PATH_NOT_FOUND, STATUS_OBJECT_NAME_INVALID,
// STATUS_OBJECT_PATH_INVALID (links that lead in a circle), STATUS_INSUFFICIENT_RESOURCES.
_Must_inspect_result_ NTSTATUS ObLookupName(_In_opt_ PVOID Root, _In_ PCUNICODE_STRING Name,
                                            _In_ OB_LINK_RULE LinkRule, _Outptr_ PVOID *Object,
                                            _Out_opt_ PUNICODE_STRING Remaining,
                                            _Out_opt_ PVOID *Buffer);

// ObLookupName by OBJECT_ATTRIBUTES, whose RootDirectory is a directory's handle; of one type, if Type
// is not NULL. STATUS_OBJECT_TYPE_MISMATCH.
_Must_inspect_result_ NTSTATUS ObLookupByAttributes(_In_ const OBJECT_ATTRIBUTES *Attributes,
                                                    _In_opt_ POBJECT_TYPE Type,
                                                    _Outptr_ PVOID *Object);

// A new object gets the name in Attributes, if there is one, and a handle; the caller's reference is
// consumed in any case. With OBJ_OPENIF an object of the same type and name is opened instead:
// STATUS_OBJECT_NAME_EXISTS. Otherwise as ObInsertName and ObCreateHandle.
_Must_inspect_result_ NTSTATUS ObInsertAndOpen(_In_ PVOID Object,
                                               _In_opt_ const OBJECT_ATTRIBUTES *Attributes,
                                               _In_ ACCESS_MASK DesiredAccess,
                                               _Out_ PHANDLE Handle);

// Opens a named object of one type.
_Must_inspect_result_ NTSTATUS ObOpenByAttributes(_In_ const OBJECT_ATTRIBUTES *Attributes,
                                                  _In_ POBJECT_TYPE Type,
                                                  _In_ ACCESS_MASK DesiredAccess,
                                                  _Out_ PHANDLE Handle);

// A link that stays until ObDeleteSymbolicLink. Maker: an address in the code that asks for it. Errors
// as ObInsertName.
_Must_inspect_result_ NTSTATUS ObCreateSymbolicLink(_In_ PCUNICODE_STRING Name,
                                                    _In_ PCUNICODE_STRING Target,
                                                    _In_opt_ const VOID *Maker);

// The maker of a link; NULL: not known, or no link.
const VOID *ObLinkMaker(_In_ PVOID Object);
NTSTATUS ObDeleteSymbolicLink(_In_ PCUNICODE_STRING Name);

// The last component of the object's name; empty when it has none. Valid as long as the name.
UNICODE_STRING ObLastName(_In_ PVOID Object);

// Calls Routine for each object of a directory, which is referenced meanwhile; FALSE ends the walk.
// Objects that come or go during the walk may be missed.
typedef BOOLEAN OB_WALK_ROUTINE(_In_ PVOID Object, _In_opt_ PVOID Context);
VOID ObWalkDirectory(_In_ PCUNICODE_STRING Name, _In_ OB_WALK_ROUTINE *Routine,
                     _In_opt_ PVOID Context);

// Two names, compared as names are here: without regard to case.
BOOLEAN ObNamesEqual(_In_ PCUNICODE_STRING A, _In_ PCUNICODE_STRING B);
WCHAR ObUpcase(_In_ WCHAR Character);

// -------------------------------------------------------------------------------------------------
// Handles.

// A handle with a reference of its own. STATUS_INSUFFICIENT_RESOURCES.
_Must_inspect_result_ NTSTATUS ObCreateHandle(_In_ PVOID Object, _In_ ACCESS_MASK GrantedAccess,
                                              _In_ ULONG Attributes, _Out_ PHANDLE Handle);

// What is open: for reports and tests.
ULONG ObCountHandles(VOID);

// What a pseudo handle stands for: the current thread (-2) and process (-1). The component that has
// threads tells Ob. Routine returns an object, without reference, or NULL.
typedef PVOID OB_PSEUDO_HANDLE_ROUTINE(_In_ HANDLE Handle);
VOID ObSetPseudoHandles(_In_ OB_PSEUDO_HANDLE_ROUTINE *Routine);

// Calls Routine from a system thread, soon, at PASSIVE_LEVEL, for what must be deleted later. Until
// this is called, objects whose last reference goes above PASSIVE_LEVEL are deleted there and then.
typedef VOID OB_DEFER_ROUTINE(VOID);
VOID ObSetDeferral(_In_ OB_DEFER_ROUTINE *RequestDeletion);
VOID ObDeleteDeferred(VOID);
