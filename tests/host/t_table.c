// Generic tables for drivers (tableddk.h), against a plain array of what is in them.
#include <tableddk.h>

#include "tests/host/host.h"
#include "tests/host/random.h"

#define KEY_COUNT 300
#define OPERATION_COUNT 20000

typedef struct _ELEMENT {
    ULONG Key;
    ULONG Payload;
} ELEMENT;

static ULONG LiveBlocks;
static BOOLEAN RefuseMemory;

static PVOID Allocate(ULONG ByteCount)
{
    LiveBlocks += !RefuseMemory;
    return RefuseMemory ? NULL : malloc(ByteCount);
}

static RTL_GENERIC_COMPARE_RESULTS Compare(const ELEMENT *First, const ELEMENT *Second)
{
    return First->Key < Second->Key   ? GenericLessThan
           : First->Key > Second->Key ? GenericGreaterThan
                                      : GenericEqual;
}

#define DEFINE_ROUTINES(Suffix, TABLE)                                                             \
    static RTL_GENERIC_COMPARE_RESULTS NTAPI Compare##Suffix(TABLE *Table, PVOID First,            \
                                                             PVOID Second)                         \
    {                                                                                              \
        UNREFERENCED_PARAMETER(Table);                                                             \
        return Compare(First, Second);                                                             \
    }                                                                                              \
    static PVOID NTAPI Allocate##Suffix(TABLE *Table, CLONG ByteCount)                             \
    {                                                                                              \
        UNREFERENCED_PARAMETER(Table);                                                             \
        return Allocate(ByteCount);                                                                \
    }                                                                                              \
    static VOID NTAPI Free##Suffix(TABLE *Table, PVOID Buffer)                                     \
    {                                                                                              \
        UNREFERENCED_PARAMETER(Table);                                                             \
        LiveBlocks -= 1;                                                                           \
        free(Buffer);                                                                              \
    }

DEFINE_ROUTINES(Splay, RTL_GENERIC_TABLE)
DEFINE_ROUTINES(Avl, RTL_AVL_TABLE)

// The height; every balance and every parent is right on the way.
static LONG HeightOf(PRTL_BALANCED_LINKS Links, PRTL_BALANCED_LINKS Parent)
{
    if (Links == NULL) {
        return 0;
    }
    const LONG Left = HeightOf(Links->LeftChild, Links);
    const LONG Right = HeightOf(Links->RightChild, Links);
    CHECK(Links->Parent == Parent);
    CHECK(Right - Left == Links->Balance && Links->Balance >= -1 && Links->Balance <= 1);
    return 1 + (Left > Right ? Left : Right);
}

static BOOLEAN AvlIsThere[KEY_COUNT];

static VOID CheckAvlAgainstArray(PRTL_AVL_TABLE Table)
{
    ULONG Count = 0;
    const ELEMENT *Element = RtlEnumerateGenericTableAvl(Table, TRUE);
    for (ULONG Key = 0; Key < KEY_COUNT; Key += 1) {
        if (AvlIsThere[Key]) {
            CHECK(Element != NULL && Element->Key == Key && Element->Payload == ~Key);
            Element = RtlEnumerateGenericTableAvl(Table, FALSE);
            Count += 1;
        }
    }
    CHECK(Element == NULL);
    CHECK_EQUAL(RtlNumberGenericTableElementsAvl(Table), Count);
    CHECK_EQUAL(LiveBlocks, Count);
    CHECK_EQUAL(RtlIsGenericTableEmptyAvl(Table), Count == 0);
    CHECK_EQUAL(HeightOf(Table->BalancedRoot.RightChild, &Table->BalancedRoot), Table->DepthOfTree);
}

static VOID Avl_tables_agree_with_an_array_and_stay_balanced(VOID)
{
    RTL_AVL_TABLE Table;
    RANDOM Random = RandomStart(1);
    LiveBlocks = 0;
    RtlInitializeGenericTableAvl(&Table, CompareAvl, AllocateAvl, FreeAvl, NULL);
    for (ULONG Step = 0; Step < OPERATION_COUNT; Step += 1) {
        const ULONG Key = (ULONG)RandomBelow(&Random, KEY_COUNT);
        ELEMENT Element = {Key, ~Key};
        // Phases that mostly fill and phases that mostly empty.
        if (RandomBelow(&Random, 4) < (Step / 2000 % 2 == 0 ? 3u : 1u)) {
            BOOLEAN IsNew;
            const ELEMENT *Found =
                RtlInsertElementGenericTableAvl(&Table, &Element, sizeof(Element), &IsNew);
            CHECK(Found->Key == Key && IsNew == !AvlIsThere[Key]);
            AvlIsThere[Key] = TRUE;
        } else {
            CHECK_EQUAL(RtlDeleteElementGenericTableAvl(&Table, &Element), AvlIsThere[Key]);
            AvlIsThere[Key] = FALSE;
        }
        CHECK_EQUAL(RtlLookupElementGenericTableAvl(&Table, &Element) != NULL, AvlIsThere[Key]);
        if (Step % 16 == 0) {
            CheckAvlAgainstArray(&Table);
        }
    }
    for (ULONG Key = 0; Key < KEY_COUNT; Key += 1) {
        RtlDeleteElementGenericTableAvl(&Table, &(ELEMENT){Key, 0});
        AvlIsThere[Key] = FALSE;
    }
    CheckAvlAgainstArray(&Table);
    CHECK_EQUAL(Table.DepthOfTree, 0);
}

static BOOLEAN SplayIsThere[KEY_COUNT];

static VOID CheckSplayAgainstArray(PRTL_GENERIC_TABLE Table)
{
    ULONG Count = 0;
    PVOID RestartKey = NULL;
    const ELEMENT *Element = RtlEnumerateGenericTable(Table, TRUE);
    for (ULONG Key = 0; Key < KEY_COUNT; Key += 1) {
        if (SplayIsThere[Key]) {
            CHECK(Element != NULL && Element->Key == Key && Element->Payload == ~Key);
            CHECK(RtlEnumerateGenericTableWithoutSplaying(Table, &RestartKey) == Element);
            CHECK(Table->TableRoot->Parent == Table->TableRoot);
            Element = RtlEnumerateGenericTable(Table, FALSE);
            Count += 1;
        }
    }
    CHECK(Element == NULL && RtlEnumerateGenericTableWithoutSplaying(Table, &RestartKey) == NULL);
    CHECK_EQUAL(RtlNumberGenericTableElements(Table), Count);
    CHECK_EQUAL(LiveBlocks, Count);
    CHECK_EQUAL(RtlIsGenericTableEmpty(Table), Count == 0);
}

static VOID Splay_tables_agree_with_an_array(VOID)
{
    RTL_GENERIC_TABLE Table;
    RANDOM Random = RandomStart(2);
    LiveBlocks = 0;
    RtlInitializeGenericTable(&Table, CompareSplay, AllocateSplay, FreeSplay, NULL);
    for (ULONG Step = 0; Step < OPERATION_COUNT; Step += 1) {
        const ULONG Key = (ULONG)RandomBelow(&Random, KEY_COUNT);
        ELEMENT Element = {Key, ~Key};
        if (RandomBelow(&Random, 4) < (Step / 2000 % 2 == 0 ? 3u : 1u)) {
            BOOLEAN IsNew;
            const ELEMENT *Found =
                RtlInsertElementGenericTable(&Table, &Element, sizeof(Element), &IsNew);
            CHECK(Found->Key == Key && IsNew == !SplayIsThere[Key]);
            SplayIsThere[Key] = TRUE;
        } else {
            CHECK_EQUAL(RtlDeleteElementGenericTable(&Table, &Element), SplayIsThere[Key]);
            SplayIsThere[Key] = FALSE;
        }
        CHECK_EQUAL(RtlLookupElementGenericTable(&Table, &Element) != NULL, SplayIsThere[Key]);
        if (Step % 16 == 0) {
            CheckSplayAgainstArray(&Table);
        }
    }
    for (ULONG Key = 0; Key < KEY_COUNT; Key += 1) {
        RtlDeleteElementGenericTable(&Table, &(ELEMENT){Key, 0});
        SplayIsThere[Key] = FALSE;
    }
    CheckSplayAgainstArray(&Table);
}

static VOID Elements_are_numbered_by_insertion_or_by_order(VOID)
{
    static const ULONG Keys[] = {30, 10, 20, 5};
    RTL_GENERIC_TABLE Splay;
    RTL_AVL_TABLE Avl;
    LiveBlocks = 0;
    RtlInitializeGenericTable(&Splay, CompareSplay, AllocateSplay, FreeSplay, NULL);
    RtlInitializeGenericTableAvl(&Avl, CompareAvl, AllocateAvl, FreeAvl, NULL);
    for (ULONG Index = 0; Index < ARRAYSIZE(Keys); Index += 1) {
        ELEMENT Element = {Keys[Index], 0};
        RtlInsertElementGenericTable(&Splay, &Element, sizeof(Element), NULL);
        RtlInsertElementGenericTableAvl(&Avl, &Element, sizeof(Element), NULL);
    }
    CHECK_EQUAL(((ELEMENT *)RtlGetElementGenericTable(&Splay, 2))->Key, 20);
    CHECK_EQUAL(((ELEMENT *)RtlGetElementGenericTable(&Splay, 0))->Key, 30);
    RtlDeleteElementGenericTable(&Splay, &(ELEMENT){10, 0});
    CHECK_EQUAL(((ELEMENT *)RtlGetElementGenericTable(&Splay, 1))->Key, 20);
    CHECK(RtlGetElementGenericTable(&Splay, 3) == NULL);
    CHECK_EQUAL(((ELEMENT *)RtlGetElementGenericTableAvl(&Avl, 0))->Key, 5);
    CHECK_EQUAL(((ELEMENT *)RtlGetElementGenericTableAvl(&Avl, 3))->Key, 30);
    CHECK(RtlGetElementGenericTableAvl(&Avl, 4) == NULL);
    // Emptied while they are enumerated.
    ULONG Count = 0;
    for (ELEMENT *Next = RtlEnumerateGenericTable(&Splay, TRUE); Next != NULL;
         Next = RtlEnumerateGenericTable(&Splay, TRUE)) {
        CHECK(RtlDeleteElementGenericTable(&Splay, &(ELEMENT){Next->Key, 0}));
        Count += 1;
    }
    CHECK(RtlIsGenericTableEmpty(&Splay) && Count == 3);
    Count = 0;
    for (ELEMENT *Next = RtlEnumerateGenericTableAvl(&Avl, TRUE); Next != NULL;
         Next = RtlEnumerateGenericTableAvl(&Avl, FALSE)) {
        CHECK(RtlDeleteElementGenericTableAvl(&Avl, &(ELEMENT){Next->Key, 0}));
        Count += 1;
    }
    CHECK(RtlIsGenericTableEmptyAvl(&Avl) && Count == 4);
    CHECK_EQUAL(LiveBlocks, 0);
}

static VOID A_table_without_memory_stays_as_it_is(VOID)
{
    RTL_GENERIC_TABLE Splay;
    RTL_AVL_TABLE Avl;
    ELEMENT Element = {1, 0};
    BOOLEAN IsNew = TRUE;
    PVOID Node;
    TABLE_SEARCH_RESULT Result;
    LiveBlocks = 0;
    RtlInitializeGenericTable(&Splay, CompareSplay, AllocateSplay, FreeSplay, NULL);
    RtlInitializeGenericTableAvl(&Avl, CompareAvl, AllocateAvl, FreeAvl, NULL);
    RefuseMemory = TRUE;
    CHECK(RtlInsertElementGenericTable(&Splay, &Element, sizeof(Element), &IsNew) == NULL);
    CHECK(!IsNew && RtlIsGenericTableEmpty(&Splay));
    CHECK(RtlInsertElementGenericTableAvl(&Avl, &Element, sizeof(Element), &IsNew) == NULL);
    CHECK(!IsNew && RtlIsGenericTableEmptyAvl(&Avl));
    RefuseMemory = FALSE;
    CHECK(RtlInsertElementGenericTable(&Splay, &Element, MAXULONG, NULL) == NULL);
    CHECK(RtlInsertElementGenericTableAvl(&Avl, &Element, MAXULONG, NULL) == NULL);
    CHECK(RtlLookupElementGenericTableFullAvl(&Avl, &Element, &Node, &Result) == NULL);
    CHECK_EQUAL(Result, TableEmptyTree);
    RtlInsertElementGenericTableFullAvl(&Avl, &Element, sizeof(Element), &IsNew, Node, Result);
    CHECK(IsNew && RtlLookupElementGenericTableFullAvl(&Avl, &Element, &Node, &Result) != NULL);
    CHECK_EQUAL(Result, TableFoundNode);
    Element.Key = 2;
    RtlLookupElementGenericTableFullAvl(&Avl, &Element, &Node, &Result);
    CHECK_EQUAL(Result, TableInsertAsRight);
    RtlDeleteElementGenericTableAvl(&Avl, &(ELEMENT){1, 0});
    CHECK_EQUAL(LiveBlocks, 0);
}

static const HOST_TEST Tests[] = {
    HOST_ROW(Avl_tables_agree_with_an_array_and_stay_balanced, "tableddk.h", NULL),
    HOST_ROW(Splay_tables_agree_with_an_array, "tableddk.h", NULL),
    HOST_ROW(Elements_are_numbered_by_insertion_or_by_order, "tableddk.h", NULL),
    HOST_ROW(A_table_without_memory_stays_as_it_is, "tableddk.h", NULL),
};

HOST_DEFINE_SUITE(table);
