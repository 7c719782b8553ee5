// AVL trees: generic tables whose look-ups change nothing.
//
// The tree is BalancedRoot's right side, whose parent is BalancedRoot; DepthOfTree is its height. Every
// element's Balance, the height of its right side less that of its left one, is -1, 0 or 1. Elements
// never move in memory: what changes place are their links.

#include <tableddk.h>

#include "kernel/inc/crt.h"

typedef struct _RTLP_AVL_ELEMENT {
    RTL_BALANCED_LINKS Links;
    UCHAR Data[];
} RTLP_AVL_ELEMENT, *PRTLP_AVL_ELEMENT;

C_ASSERT(FIELD_OFFSET(RTLP_AVL_ELEMENT, Data) == 0x20);

#define LEFT (-1)
#define RIGHT 1

static PVOID RtlpAvlData(PRTL_BALANCED_LINKS Links)
{
    return CONTAINING_RECORD(Links, RTLP_AVL_ELEMENT, Links)->Data;
}

static PRTL_BALANCED_LINKS *RtlpChild(PRTL_BALANCED_LINKS Links, LONG Side)
{
    return Side == LEFT ? &Links->LeftChild : &Links->RightChild;
}

// On which side of its parent Links is.
static LONG RtlpSide(PRTL_BALANCED_LINKS Links)
{
    return Links->Parent->LeftChild == Links ? LEFT : RIGHT;
}

// One rotation: Links takes its parent's place. Balances are the caller's.
static VOID RtlpAvlLift(PRTL_BALANCED_LINKS Links)
{
    PRTL_BALANCED_LINKS Parent = Links->Parent;
    const LONG Side = RtlpSide(Links);
    PRTL_BALANCED_LINKS Between = *RtlpChild(Links, -Side);
    *RtlpChild(Parent->Parent, RtlpSide(Parent)) = Links;
    Links->Parent = Parent->Parent;
    *RtlpChild(Links, -Side) = Parent;
    Parent->Parent = Links;
    *RtlpChild(Parent, Side) = Between;
    if (Between != NULL) {
        Between->Parent = Parent;
    }
}

// Links is higher by two on one side. TRUE: what stands in its place is less high than Links was.
static BOOLEAN RtlpRebalance(PRTL_BALANCED_LINKS Links, LONG Side)
{
    PRTL_BALANCED_LINKS Child = *RtlpChild(Links, Side);
    if (Child->Balance == -Side) {
        PRTL_BALANCED_LINKS Inner = *RtlpChild(Child, -Side);
        RtlpAvlLift(Inner);
        RtlpAvlLift(Inner);
        Links->Balance = (CHAR)(Inner->Balance == Side ? -Side : 0);
        Child->Balance = (CHAR)(Inner->Balance == -Side ? Side : 0);
        Inner->Balance = 0;
        return TRUE;
    }
    RtlpAvlLift(Child);
    const BOOLEAN Shrinks = Child->Balance != 0;
    Links->Balance = (CHAR)(Shrinks ? 0 : Side);
    Child->Balance = (CHAR)(Shrinks ? 0 : -Side);
    return Shrinks;
}

// Links has become higher by one.
static VOID RtlpGrow(PRTL_AVL_TABLE Table, PRTL_BALANCED_LINKS Links)
{
    while (Links->Parent != &Table->BalancedRoot) {
        const LONG Side = RtlpSide(Links);
        Links = Links->Parent;
        if (Links->Balance == -Side) {
            Links->Balance = 0;
            return;
        }
        if (Links->Balance == Side) {
            RtlpRebalance(Links, Side);
            return;
        }
        Links->Balance = (CHAR)Side;
    }
    Table->DepthOfTree += 1;
}

// A side of Links has become less high by one.
static VOID RtlpShrink(PRTL_AVL_TABLE Table, PRTL_BALANCED_LINKS Links, LONG Side)
{
    while (Links != &Table->BalancedRoot) {
        PRTL_BALANCED_LINKS Next = Links->Parent;
        const LONG NextSide = RtlpSide(Links);
        if (Links->Balance == 0) {
            Links->Balance = (CHAR)-Side;
            return;
        }
        if (Links->Balance == Side) {
            Links->Balance = 0;
        } else if (!RtlpRebalance(Links, -Side)) {
            return;
        }
        Links = Next;
        Side = NextSide;
    }
    Table->DepthOfTree -= 1;
}

static PRTL_BALANCED_LINKS RtlpOutermost(PRTL_BALANCED_LINKS Links, LONG Side)
{
    while (*RtlpChild(Links, Side) != NULL) {
        Links = *RtlpChild(Links, Side);
    }
    return Links;
}

// The next one on that side, in order; NULL: none. The outermost's way up ends at BalancedRoot.
static PRTL_BALANCED_LINKS RtlpNeighbour(PRTL_AVL_TABLE Table, PRTL_BALANCED_LINKS Links, LONG Side)
{
    if (*RtlpChild(Links, Side) != NULL) {
        return RtlpOutermost(*RtlpChild(Links, Side), -Side);
    }
    while (Links->Parent != &Table->BalancedRoot && RtlpSide(Links) == Side) {
        Links = Links->Parent;
    }
    return Links->Parent == &Table->BalancedRoot ? NULL : Links->Parent;
}

// New stands where Old stood.
static VOID RtlpReplace(PRTL_BALANCED_LINKS Old, PRTL_BALANCED_LINKS New)
{
    *RtlpChild(Old->Parent, RtlpSide(Old)) = New;
    *New = *Old;
    New->LeftChild->Parent = New; // whoever is replaced had two sides
    if (New->RightChild != NULL) {
        New->RightChild->Parent = New;
    }
}

static VOID RtlpUnlink(PRTL_AVL_TABLE Table, PRTL_BALANCED_LINKS Links)
{
    PRTL_BALANCED_LINKS Leaving = Links;
    if (Links->LeftChild != NULL && Links->RightChild != NULL) {
        Leaving = RtlpOutermost(Links->RightChild, LEFT); // takes the place of Links
    }
    PRTL_BALANCED_LINKS Parent = Leaving->Parent;
    const LONG Side = RtlpSide(Leaving);
    PRTL_BALANCED_LINKS Child =
        Leaving->LeftChild != NULL ? Leaving->LeftChild : Leaving->RightChild;
    *RtlpChild(Parent, Side) = Child;
    if (Child != NULL) {
        Child->Parent = Parent;
    }
    if (Leaving != Links) {
        RtlpReplace(Links, Leaving);
        Parent = Parent == Links ? Leaving : Parent;
    }
    RtlpShrink(Table, Parent, Side);
}

// -------------------------------------------------------------------------------------------------
// Tables.

VOID NTAPI RtlInitializeGenericTableAvl(PRTL_AVL_TABLE Table,
                                        PRTL_AVL_COMPARE_ROUTINE CompareRoutine,
                                        PRTL_AVL_ALLOCATE_ROUTINE AllocateRoutine,
                                        PRTL_AVL_FREE_ROUTINE FreeRoutine, PVOID TableContext)
{
    *Table = (RTL_AVL_TABLE){.CompareRoutine = CompareRoutine,
                             .AllocateRoutine = AllocateRoutine,
                             .FreeRoutine = FreeRoutine,
                             .TableContext = TableContext};
    Table->BalancedRoot.Parent = &Table->BalancedRoot;
}

static TABLE_SEARCH_RESULT RtlpAvlFind(PRTL_AVL_TABLE Table, PVOID Buffer,
                                       PRTL_BALANCED_LINKS *Found)
{
    TABLE_SEARCH_RESULT Result = TableEmptyTree;
    PRTL_BALANCED_LINKS Next = Table->BalancedRoot.RightChild;
    *Found = NULL;
    while (Next != NULL) {
        *Found = Next;
        switch (Table->CompareRoutine(Table, Buffer, RtlpAvlData(Next))) {
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
static PRTL_BALANCED_LINKS RtlpAvlAdd(PRTL_AVL_TABLE Table, PVOID Buffer, CLONG BufferSize,
                                      PRTL_BALANCED_LINKS Parent, TABLE_SEARCH_RESULT Result)
{
    if (BufferSize > MAXULONG - sizeof(RTLP_AVL_ELEMENT)) {
        return NULL;
    }
    PRTLP_AVL_ELEMENT Element =
        Table->AllocateRoutine(Table, (CLONG)sizeof(RTLP_AVL_ELEMENT) + BufferSize);
    if (Element == NULL) {
        return NULL;
    }
    Parent = Result == TableEmptyTree ? &Table->BalancedRoot : Parent;
    Element->Links = (RTL_BALANCED_LINKS){.Parent = Parent};
    *RtlpChild(Parent, Result == TableInsertAsLeft ? LEFT : RIGHT) = &Element->Links;
    RtlpGrow(Table, &Element->Links);
    Table->NumberGenericTableElements += 1;
    RtlCopyMemory(Element->Data, Buffer, BufferSize);
    return &Element->Links;
}

PVOID NTAPI RtlInsertElementGenericTableFullAvl(PRTL_AVL_TABLE Table, PVOID Buffer,
                                                CLONG BufferSize, PBOOLEAN NewElement,
                                                PVOID NodeOrParent,
                                                TABLE_SEARCH_RESULT SearchResult)
{
    PRTL_BALANCED_LINKS Links = NodeOrParent;
    const BOOLEAN IsNew = SearchResult != TableFoundNode;
    if (IsNew) {
        Links = RtlpAvlAdd(Table, Buffer, BufferSize, NodeOrParent, SearchResult);
    }
    if (NewElement != NULL) {
        *NewElement = IsNew && Links != NULL;
    }
    return Links == NULL ? NULL : RtlpAvlData(Links);
}

PVOID NTAPI RtlInsertElementGenericTableAvl(PRTL_AVL_TABLE Table, PVOID Buffer, CLONG BufferSize,
                                            PBOOLEAN NewElement)
{
    PRTL_BALANCED_LINKS Found;
    const TABLE_SEARCH_RESULT Result = RtlpAvlFind(Table, Buffer, &Found);
    return RtlInsertElementGenericTableFullAvl(Table, Buffer, BufferSize, NewElement, Found,
                                               Result);
}

BOOLEAN NTAPI RtlDeleteElementGenericTableAvl(PRTL_AVL_TABLE Table, PVOID Buffer)
{
    PRTL_BALANCED_LINKS Found;
    if (RtlpAvlFind(Table, Buffer, &Found) != TableFoundNode) {
        return FALSE;
    }
    if (Table->RestartKey == Found) {
        Table->RestartKey = RtlpNeighbour(Table, Found, LEFT);
    }
    RtlpUnlink(Table, Found);
    Table->NumberGenericTableElements -= 1;
    Table->DeleteCount += 1;
    Table->FreeRoutine(Table, CONTAINING_RECORD(Found, RTLP_AVL_ELEMENT, Links));
    return TRUE;
}

PVOID NTAPI RtlLookupElementGenericTableFullAvl(PRTL_AVL_TABLE Table, PVOID Buffer,
                                                PVOID *NodeOrParent,
                                                TABLE_SEARCH_RESULT *SearchResult)
{
    PRTL_BALANCED_LINKS Found;
    *SearchResult = RtlpAvlFind(Table, Buffer, &Found);
    *NodeOrParent = Found;
    return *SearchResult == TableFoundNode ? RtlpAvlData(Found) : NULL;
}

PVOID NTAPI RtlLookupElementGenericTableAvl(PRTL_AVL_TABLE Table, PVOID Buffer)
{
    PRTL_BALANCED_LINKS Found;
    return RtlpAvlFind(Table, Buffer, &Found) == TableFoundNode ? RtlpAvlData(Found) : NULL;
}

PVOID NTAPI RtlEnumerateGenericTableWithoutSplayingAvl(PRTL_AVL_TABLE Table, PVOID *RestartKey)
{
    if (Table->BalancedRoot.RightChild == NULL) {
        return NULL;
    }
    PRTL_BALANCED_LINKS Next = *RestartKey == NULL
                                   ? RtlpOutermost(Table->BalancedRoot.RightChild, LEFT)
                                   : RtlpNeighbour(Table, *RestartKey, RIGHT);
    if (Next == NULL) {
        return NULL;
    }
    *RestartKey = Next;
    return RtlpAvlData(Next);
}

PVOID NTAPI RtlEnumerateGenericTableAvl(PRTL_AVL_TABLE Table, BOOLEAN Restart)
{
    PVOID RestartKey = Restart ? NULL : Table->RestartKey;
    PVOID Data = RtlEnumerateGenericTableWithoutSplayingAvl(Table, &RestartKey);
    Table->RestartKey = RestartKey;
    return Data;
}

PVOID NTAPI RtlGetElementGenericTableAvl(PRTL_AVL_TABLE Table, ULONG I)
{
    PVOID RestartKey = NULL;
    PVOID Data = NULL;
    if (I >= Table->NumberGenericTableElements) {
        return NULL;
    }
    for (ULONG Index = 0; Index <= I; Index += 1) {
        Data = RtlEnumerateGenericTableWithoutSplayingAvl(Table, &RestartKey);
    }
    return Data;
}

ULONG NTAPI RtlNumberGenericTableElementsAvl(PRTL_AVL_TABLE Table)
{
    return Table->NumberGenericTableElements;
}

BOOLEAN NTAPI RtlIsGenericTableEmptyAvl(PRTL_AVL_TABLE Table)
{
    return Table->NumberGenericTableElements == 0;
}
