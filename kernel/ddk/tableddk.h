// Generic tables for drivers: ordered sets of elements, as splay trees or as AVL trees, and things that
// are done once.
//
// The table's owner gives three routines. AllocateRoutine gets the bytes of an element and of its
// header, and may return NULL; FreeRoutine gets what AllocateRoutine returned; CompareRoutine is called
// with the caller's Buffer first and an element second. No routine may change the table. The caller
// serialises calls: of a splay table even look-ups change the tree, of an AVL table they do not. IRQL:
// any at which the three routines and the elements can be used.
#pragma once

#include <ntdef.h>
#include <ntstatus.h>

#include <keddk.h>

typedef ULONG CLONG;

typedef enum _TABLE_SEARCH_RESULT {
    TableEmptyTree,
    TableFoundNode,
    TableInsertAsLeft,
    TableInsertAsRight
} TABLE_SEARCH_RESULT;

typedef enum _RTL_GENERIC_COMPARE_RESULTS {
    GenericLessThan,
    GenericGreaterThan,
    GenericEqual
} RTL_GENERIC_COMPARE_RESULTS;

// -------------------------------------------------------------------------------------------------
// Splay trees. The root is its own parent.

typedef struct _RTL_SPLAY_LINKS {
    struct _RTL_SPLAY_LINKS *Parent;
    struct _RTL_SPLAY_LINKS *LeftChild;
    struct _RTL_SPLAY_LINKS *RightChild;
} RTL_SPLAY_LINKS, *PRTL_SPLAY_LINKS;

// Makes Links the root, which is returned.
PRTL_SPLAY_LINKS NTAPI RtlSplay(_Inout_ PRTL_SPLAY_LINKS Links);
// Takes Links out of its tree. The new root; NULL: none is left.
PRTL_SPLAY_LINKS NTAPI RtlDelete(_In_ PRTL_SPLAY_LINKS Links);
// The next, or the one before, within the tree below Links, or within the whole tree; NULL: none.
PRTL_SPLAY_LINKS NTAPI RtlSubtreeSuccessor(_In_ PRTL_SPLAY_LINKS Links);
PRTL_SPLAY_LINKS NTAPI RtlSubtreePredecessor(_In_ PRTL_SPLAY_LINKS Links);
PRTL_SPLAY_LINKS NTAPI RtlRealSuccessor(_In_ PRTL_SPLAY_LINKS Links);
PRTL_SPLAY_LINKS NTAPI RtlRealPredecessor(_In_ PRTL_SPLAY_LINKS Links);

struct _RTL_GENERIC_TABLE;
typedef RTL_GENERIC_COMPARE_RESULTS(NTAPI *PRTL_GENERIC_COMPARE_ROUTINE)(
    _In_ struct _RTL_GENERIC_TABLE *Table, _In_ PVOID FirstStruct, _In_ PVOID SecondStruct);
typedef PVOID(NTAPI *PRTL_GENERIC_ALLOCATE_ROUTINE)(_In_ struct _RTL_GENERIC_TABLE *Table,
                                                    _In_ CLONG ByteSize);
typedef VOID(NTAPI *PRTL_GENERIC_FREE_ROUTINE)(_In_ struct _RTL_GENERIC_TABLE *Table,
                                               _In_ PVOID Buffer);

typedef struct _RTL_GENERIC_TABLE {
    PRTL_SPLAY_LINKS TableRoot;
    LIST_ENTRY InsertOrderList;
    PLIST_ENTRY OrderedPointer; // the element of number WhichOrderedElement
    ULONG WhichOrderedElement;  // from 1; 0: OrderedPointer is the list's head
    ULONG NumberGenericTableElements;
    PRTL_GENERIC_COMPARE_ROUTINE CompareRoutine;
    PRTL_GENERIC_ALLOCATE_ROUTINE AllocateRoutine;
    PRTL_GENERIC_FREE_ROUTINE FreeRoutine;
    PVOID TableContext;
} RTL_GENERIC_TABLE, *PRTL_GENERIC_TABLE;

C_ASSERT(sizeof(RTL_GENERIC_TABLE) == 0x48);

VOID NTAPI RtlInitializeGenericTable(_Out_ PRTL_GENERIC_TABLE Table,
                                     _In_ PRTL_GENERIC_COMPARE_ROUTINE CompareRoutine,
                                     _In_ PRTL_GENERIC_ALLOCATE_ROUTINE AllocateRoutine,
                                     _In_ PRTL_GENERIC_FREE_ROUTINE FreeRoutine,
                                     _In_opt_ PVOID TableContext);
// The element, a copy of Buffer; or the equal one that was there, unchanged (*NewElement FALSE). NULL:
// AllocateRoutine had no memory, or BufferSize is too large (ours). The table keeps elements of any size.
PVOID NTAPI RtlInsertElementGenericTable(_In_ PRTL_GENERIC_TABLE Table, _In_ PVOID Buffer,
                                         _In_ CLONG BufferSize, _Out_opt_ PBOOLEAN NewElement);
// The same with what RtlLookupElementGenericTableFull found; the table has not changed since.
PVOID NTAPI RtlInsertElementGenericTableFull(_In_ PRTL_GENERIC_TABLE Table, _In_ PVOID Buffer,
                                             _In_ CLONG BufferSize, _Out_opt_ PBOOLEAN NewElement,
                                             _In_ PVOID NodeOrParent,
                                             _In_ TABLE_SEARCH_RESULT SearchResult);
// FALSE: there is no such element.
BOOLEAN NTAPI RtlDeleteElementGenericTable(_In_ PRTL_GENERIC_TABLE Table, _In_ PVOID Buffer);
// NULL: there is no such element.
PVOID NTAPI RtlLookupElementGenericTable(_In_ PRTL_GENERIC_TABLE Table, _In_ PVOID Buffer);
PVOID NTAPI RtlLookupElementGenericTableFull(_In_ PRTL_GENERIC_TABLE Table, _In_ PVOID Buffer,
                                             _Out_ PVOID *NodeOrParent,
                                             _Out_ TABLE_SEARCH_RESULT *SearchResult);
// The elements in order, NULL behind the last. Where the enumeration is, the tree's root says: looking
// up, inserting or deleting an element moves it (who empties a table restarts each time).
PVOID NTAPI RtlEnumerateGenericTable(_In_ PRTL_GENERIC_TABLE Table, _In_ BOOLEAN Restart);
// The same, and only *RestartKey, NULL at first, says where. The element that it stands for must live.
PVOID NTAPI RtlEnumerateGenericTableWithoutSplaying(_In_ PRTL_GENERIC_TABLE Table,
                                                    _Inout_ PVOID *RestartKey);
// Element I, from 0, in order of insertion; NULL: there are not so many.
PVOID NTAPI RtlGetElementGenericTable(_In_ PRTL_GENERIC_TABLE Table, _In_ ULONG I);
ULONG NTAPI RtlNumberGenericTableElements(_In_ PRTL_GENERIC_TABLE Table);
BOOLEAN NTAPI RtlIsGenericTableEmpty(_In_ PRTL_GENERIC_TABLE Table);

// -------------------------------------------------------------------------------------------------
// AVL trees: the same, balanced.

struct _RTL_AVL_TABLE;
typedef RTL_GENERIC_COMPARE_RESULTS(NTAPI *PRTL_AVL_COMPARE_ROUTINE)(
    _In_ struct _RTL_AVL_TABLE *Table, _In_ PVOID FirstStruct, _In_ PVOID SecondStruct);
typedef PVOID(NTAPI *PRTL_AVL_ALLOCATE_ROUTINE)(_In_ struct _RTL_AVL_TABLE *Table,
                                                _In_ CLONG ByteSize);
typedef VOID(NTAPI *PRTL_AVL_FREE_ROUTINE)(_In_ struct _RTL_AVL_TABLE *Table, _In_ PVOID Buffer);

typedef struct _RTL_BALANCED_LINKS {
    struct _RTL_BALANCED_LINKS *Parent;
    struct _RTL_BALANCED_LINKS *LeftChild;
    struct _RTL_BALANCED_LINKS *RightChild;
    CHAR Balance; // height of the right side less that of the left one
    UCHAR Reserved[3];
} RTL_BALANCED_LINKS, *PRTL_BALANCED_LINKS;

typedef struct _RTL_AVL_TABLE {
    RTL_BALANCED_LINKS BalancedRoot; // the tree is its RightChild
    PVOID OrderedPointer;
    ULONG WhichOrderedElement;
    ULONG NumberGenericTableElements;
    ULONG DepthOfTree;
    PRTL_BALANCED_LINKS RestartKey; // where RtlEnumerateGenericTableAvl is
    ULONG DeleteCount;
    PRTL_AVL_COMPARE_ROUTINE CompareRoutine;
    PRTL_AVL_ALLOCATE_ROUTINE AllocateRoutine;
    PRTL_AVL_FREE_ROUTINE FreeRoutine;
    PVOID TableContext;
} RTL_AVL_TABLE, *PRTL_AVL_TABLE;

C_ASSERT(sizeof(RTL_BALANCED_LINKS) == 0x20 && sizeof(RTL_AVL_TABLE) == 0x68);

VOID NTAPI RtlInitializeGenericTableAvl(_Out_ PRTL_AVL_TABLE Table,
                                        _In_ PRTL_AVL_COMPARE_ROUTINE CompareRoutine,
                                        _In_ PRTL_AVL_ALLOCATE_ROUTINE AllocateRoutine,
                                        _In_ PRTL_AVL_FREE_ROUTINE FreeRoutine,
                                        _In_opt_ PVOID TableContext);
PVOID NTAPI RtlInsertElementGenericTableAvl(_In_ PRTL_AVL_TABLE Table, _In_ PVOID Buffer,
                                            _In_ CLONG BufferSize, _Out_opt_ PBOOLEAN NewElement);
PVOID NTAPI RtlInsertElementGenericTableFullAvl(_In_ PRTL_AVL_TABLE Table, _In_ PVOID Buffer,
                                                _In_ CLONG BufferSize,
                                                _Out_opt_ PBOOLEAN NewElement,
                                                _In_ PVOID NodeOrParent,
                                                _In_ TABLE_SEARCH_RESULT SearchResult);
BOOLEAN NTAPI RtlDeleteElementGenericTableAvl(_In_ PRTL_AVL_TABLE Table, _In_ PVOID Buffer);
PVOID NTAPI RtlLookupElementGenericTableAvl(_In_ PRTL_AVL_TABLE Table, _In_ PVOID Buffer);
PVOID NTAPI RtlLookupElementGenericTableFullAvl(_In_ PRTL_AVL_TABLE Table, _In_ PVOID Buffer,
                                                _Out_ PVOID *NodeOrParent,
                                                _Out_ TABLE_SEARCH_RESULT *SearchResult);
// The table remembers where the enumeration is; deleting the last element returned does not disturb it.
PVOID NTAPI RtlEnumerateGenericTableAvl(_In_ PRTL_AVL_TABLE Table, _In_ BOOLEAN Restart);
PVOID NTAPI RtlEnumerateGenericTableWithoutSplayingAvl(_In_ PRTL_AVL_TABLE Table,
                                                       _Inout_ PVOID *RestartKey);
// Element I, from 0, in order (ours: the table does not remember the order of insertion).
PVOID NTAPI RtlGetElementGenericTableAvl(_In_ PRTL_AVL_TABLE Table, _In_ ULONG I);
ULONG NTAPI RtlNumberGenericTableElementsAvl(_In_ PRTL_AVL_TABLE Table);
BOOLEAN NTAPI RtlIsGenericTableEmptyAvl(_In_ PRTL_AVL_TABLE Table);
