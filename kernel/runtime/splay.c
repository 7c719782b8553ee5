// Splay trees, and the generic tables that are made of them.
//
// The root is its own parent. An element stands behind RTLP_SPLAY_ELEMENT in one block of the owner's.

#include <tableddk.h>

#include "kernel/inc/crt.h"

typedef struct _RTLP_SPLAY_ELEMENT {
    RTL_SPLAY_LINKS Links;
    LIST_ENTRY InsertOrder;
    UCHAR Data[];
} RTLP_SPLAY_ELEMENT, *PRTLP_SPLAY_ELEMENT;

C_ASSERT(FIELD_OFFSET(RTLP_SPLAY_ELEMENT, Data) == 0x28);

static PRTLP_SPLAY_ELEMENT RtlpElement(PRTL_SPLAY_LINKS Links)
{
    return CONTAINING_RECORD(Links, RTLP_SPLAY_ELEMENT, Links);
}

// One rotation: Links takes its parent's place.
static VOID RtlpLift(PRTL_SPLAY_LINKS Links)
{
    PRTL_SPLAY_LINKS Parent = Links->Parent;
    PRTL_SPLAY_LINKS Above = Parent->Parent;
    PRTL_SPLAY_LINKS Between;
    if (Parent->LeftChild == Links) {
        Between = Links->RightChild;
        Parent->LeftChild = Between;
        Links->RightChild = Parent;
    } else {
        Between = Links->LeftChild;
        Parent->RightChild = Between;
        Links->LeftChild = Parent;
    }
    if (Between != NULL) {
        Between->Parent = Parent;
    }
    Links->Parent = Above == Parent ? Links : Above;
    if (Above != Parent) {
        *(Above->LeftChild == Parent ? &Above->LeftChild : &Above->RightChild) = Links;
    }
    Parent->Parent = Links;
}

PRTL_SPLAY_LINKS NTAPI RtlSplay(PRTL_SPLAY_LINKS Links)
{
    while (Links->Parent != Links) {
        PRTL_SPLAY_LINKS Parent = Links->Parent;
        if (Parent->Parent != Parent) {
            const BOOLEAN IsLeft = Parent->LeftChild == Links;
            const BOOLEAN ParentIsLeft = Parent->Parent->LeftChild == Parent;
            RtlpLift(IsLeft == ParentIsLeft ? Parent : Links);
        }
        RtlpLift(Links);
    }
    return Links;
}

static PRTL_SPLAY_LINKS RtlpLeftmost(PRTL_SPLAY_LINKS Links)
{
    while (Links->LeftChild != NULL) {
        Links = Links->LeftChild;
    }
    return Links;
}

static PRTL_SPLAY_LINKS RtlpRightmost(PRTL_SPLAY_LINKS Links)
{
    while (Links->RightChild != NULL) {
        Links = Links->RightChild;
    }
    return Links;
}

PRTL_SPLAY_LINKS NTAPI RtlDelete(PRTL_SPLAY_LINKS Links)
{
    RtlSplay(Links);
    PRTL_SPLAY_LINKS Left = Links->LeftChild;
    PRTL_SPLAY_LINKS Right = Links->RightChild;
    if (Left == NULL) {
        if (Right != NULL) {
            Right->Parent = Right;
        }
        return Right;
    }
    Left->Parent = Left;
    PRTL_SPLAY_LINKS Root = RtlSplay(RtlpRightmost(Left));
    Root->RightChild = Right;
    if (Right != NULL) {
        Right->Parent = Root;
    }
    return Root;
}

PRTL_SPLAY_LINKS NTAPI RtlSubtreeSuccessor(PRTL_SPLAY_LINKS Links)
{
    return Links->RightChild == NULL ? NULL : RtlpLeftmost(Links->RightChild);
}

PRTL_SPLAY_LINKS NTAPI RtlSubtreePredecessor(PRTL_SPLAY_LINKS Links)
{
    return Links->LeftChild == NULL ? NULL : RtlpRightmost(Links->LeftChild);
}

PRTL_SPLAY_LINKS NTAPI RtlRealSuccessor(PRTL_SPLAY_LINKS Links)
{
    if (Links->RightChild != NULL) {
        return RtlpLeftmost(Links->RightChild);
    }
    while (Links->Parent->RightChild == Links) {
        Links = Links->Parent;
    }
    return Links->Parent == Links ? NULL : Links->Parent;
}

PRTL_SPLAY_LINKS NTAPI RtlRealPredecessor(PRTL_SPLAY_LINKS Links)
{
    if (Links->LeftChild != NULL) {
        return RtlpRightmost(Links->LeftChild);
    }
    while (Links->Parent->LeftChild == Links) {
        Links = Links->Parent;
    }
    return Links->Parent == Links ? NULL : Links->Parent;
}

// -------------------------------------------------------------------------------------------------
// Tables.

VOID NTAPI RtlInitializeGenericTable(PRTL_GENERIC_TABLE Table,
                                     PRTL_GENERIC_COMPARE_ROUTINE CompareRoutine,
                                     PRTL_GENERIC_ALLOCATE_ROUTINE AllocateRoutine,
                                     PRTL_GENERIC_FREE_ROUTINE FreeRoutine, PVOID TableContext)
{
    *Table = (RTL_GENERIC_TABLE){.CompareRoutine = CompareRoutine,
                                 .AllocateRoutine = AllocateRoutine,
                                 .FreeRoutine = FreeRoutine,
                                 .TableContext = TableContext};
    InitializeListHead(&Table->InsertOrderList);
    Table->OrderedPointer = &Table->InsertOrderList;
}

static TABLE_SEARCH_RESULT RtlpFind(PRTL_GENERIC_TABLE Table, PVOID Buffer, PRTL_SPLAY_LINKS *Found)
{
    TABLE_SEARCH_RESULT Result = TableEmptyTree;
    PRTL_SPLAY_LINKS Next = Table->TableRoot;
    *Found = NULL;
    while (Next != NULL) {
        *Found = Next;
        switch (Table->CompareRoutine(Table, Buffer, RtlpElement(Next)->Data)) {
        case GenericLessThan:
            Result = TableInsertAsLeft;
            Next = Next->LeftChild;
            break;
        case GenericGreaterThan:
            Result = TableInsertAsRight;
            Next = Next->RightChild;
            break;
        case GenericEqual:
            return TableFoundNode;
        }
    }
    return Result;
}

// A new leaf; NULL: no memory.
static PRTL_SPLAY_LINKS RtlpAddElement(PRTL_GENERIC_TABLE Table, PVOID Buffer, CLONG BufferSize,
                                       PRTL_SPLAY_LINKS Parent, TABLE_SEARCH_RESULT Result)
{
    if (BufferSize > MAXULONG - sizeof(RTLP_SPLAY_ELEMENT)) {
        return NULL;
    }
    PRTLP_SPLAY_ELEMENT Element =
        Table->AllocateRoutine(Table, (CLONG)sizeof(RTLP_SPLAY_ELEMENT) + BufferSize);
    if (Element == NULL) {
        return NULL;
    }
    Element->Links = (RTL_SPLAY_LINKS){Parent, NULL, NULL};
    if (Result == TableEmptyTree) {
        Element->Links.Parent = &Element->Links;
    } else {
        *(Result == TableInsertAsLeft ? &Parent->LeftChild : &Parent->RightChild) = &Element->Links;
    }
    InsertTailList(&Table->InsertOrderList, &Element->InsertOrder);
    Table->NumberGenericTableElements += 1;
    RtlCopyMemory(Element->Data, Buffer, BufferSize);
    return &Element->Links;
}

PVOID NTAPI RtlInsertElementGenericTableFull(PRTL_GENERIC_TABLE Table, PVOID Buffer,
                                             CLONG BufferSize, PBOOLEAN NewElement,
                                             PVOID NodeOrParent, TABLE_SEARCH_RESULT SearchResult)
{
    PRTL_SPLAY_LINKS Links = NodeOrParent;
    const BOOLEAN IsNew = SearchResult != TableFoundNode;
    if (IsNew) {
        Links = RtlpAddElement(Table, Buffer, BufferSize, NodeOrParent, SearchResult);
    }
    if (NewElement != NULL) {
        *NewElement = IsNew && Links != NULL;
    }
    if (Links == NULL) {
        return NULL;
    }
    Table->TableRoot = RtlSplay(Links);
    return RtlpElement(Links)->Data;
}

PVOID NTAPI RtlInsertElementGenericTable(PRTL_GENERIC_TABLE Table, PVOID Buffer, CLONG BufferSize,
                                         PBOOLEAN NewElement)
{
    PRTL_SPLAY_LINKS Found;
    const TABLE_SEARCH_RESULT Result = RtlpFind(Table, Buffer, &Found);
    return RtlInsertElementGenericTableFull(Table, Buffer, BufferSize, NewElement, Found, Result);
}

BOOLEAN NTAPI RtlDeleteElementGenericTable(PRTL_GENERIC_TABLE Table, PVOID Buffer)
{
    PRTL_SPLAY_LINKS Found;
    if (RtlpFind(Table, Buffer, &Found) != TableFoundNode) {
        return FALSE;
    }
    PRTLP_SPLAY_ELEMENT Element = RtlpElement(Found);
    Table->TableRoot = RtlDelete(Found);
    RemoveEntryList(&Element->InsertOrder);
    Table->NumberGenericTableElements -= 1;
    Table->WhichOrderedElement = 0;
    Table->OrderedPointer = &Table->InsertOrderList;
    Table->FreeRoutine(Table, Element);
    return TRUE;
}

PVOID NTAPI RtlLookupElementGenericTableFull(PRTL_GENERIC_TABLE Table, PVOID Buffer,
                                             PVOID *NodeOrParent, TABLE_SEARCH_RESULT *SearchResult)
{
    PRTL_SPLAY_LINKS Found;
    *SearchResult = RtlpFind(Table, Buffer, &Found);
    *NodeOrParent = Found;
    if (Found != NULL) {
        Table->TableRoot = RtlSplay(Found);
    }
    return *SearchResult == TableFoundNode ? RtlpElement(Found)->Data : NULL;
}

PVOID NTAPI RtlLookupElementGenericTable(PRTL_GENERIC_TABLE Table, PVOID Buffer)
{
    PVOID Found;
    TABLE_SEARCH_RESULT Result;
    return RtlLookupElementGenericTableFull(Table, Buffer, &Found, &Result);
}

PVOID NTAPI RtlEnumerateGenericTable(PRTL_GENERIC_TABLE Table, BOOLEAN Restart)
{
    if (Table->TableRoot == NULL) {
        return NULL;
    }
    PRTL_SPLAY_LINKS Next =
        Restart ? RtlpLeftmost(Table->TableRoot) : RtlRealSuccessor(Table->TableRoot);
    if (Next == NULL) {
        return NULL;
    }
    Table->TableRoot = RtlSplay(Next);
    return RtlpElement(Next)->Data;
}

PVOID NTAPI RtlEnumerateGenericTableWithoutSplaying(PRTL_GENERIC_TABLE Table, PVOID *RestartKey)
{
    if (Table->TableRoot == NULL) {
        return NULL;
    }
    PRTL_SPLAY_LINKS Next =
        *RestartKey == NULL ? RtlpLeftmost(Table->TableRoot) : RtlRealSuccessor(*RestartKey);
    if (Next == NULL) {
        return NULL;
    }
    *RestartKey = Next;
    return RtlpElement(Next)->Data;
}

PVOID NTAPI RtlGetElementGenericTable(PRTL_GENERIC_TABLE Table, ULONG I)
{
    if (I >= Table->NumberGenericTableElements) {
        return NULL;
    }
    if (I + 1 < Table->WhichOrderedElement) {
        Table->WhichOrderedElement = 0;
        Table->OrderedPointer = &Table->InsertOrderList;
    }
    while (Table->WhichOrderedElement < I + 1) {
        Table->WhichOrderedElement += 1;
        Table->OrderedPointer = Table->OrderedPointer->Flink;
    }
    return CONTAINING_RECORD(Table->OrderedPointer, RTLP_SPLAY_ELEMENT, InsertOrder)->Data;
}

ULONG NTAPI RtlNumberGenericTableElements(PRTL_GENERIC_TABLE Table)
{
    return Table->NumberGenericTableElements;
}

BOOLEAN NTAPI RtlIsGenericTableEmpty(PRTL_GENERIC_TABLE Table)
{
    return Table->TableRoot == NULL;
}
