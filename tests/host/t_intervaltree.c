// The interval tree, against a list.
#include "kernel/inc/rtl.h"
#include "tests/host/host.h"
#include "tests/host/random.h"

#define NODES 300u
#define VALUES 400u

typedef struct _ITEM {
    RTL_INTERVAL_NODE Node; // first member
    BOOLEAN IsIn;
} ITEM;

static ITEM Items[NODES];
static RTL_INTERVAL_TREE Tree;

static BOOLEAN IsBefore(const RTL_INTERVAL_NODE *A, const RTL_INTERVAL_NODE *B)
{
    return A->First < B->First || (A->First == B->First && A->Last < B->Last);
}

// The first item in order, behind After, that shares a value with [First, Last].
static PRTL_INTERVAL_NODE NaiveOverlap(ULONG64 First, ULONG64 Last, const RTL_INTERVAL_NODE *After)
{
    PRTL_INTERVAL_NODE Best = NULL;
    for (ULONG Index = 0; Index < NODES; Index += 1) {
        PRTL_INTERVAL_NODE Node = &Items[Index].Node;
        if (Items[Index].IsIn && Node->First <= Last && Node->Last >= First &&
            (After == NULL || IsBefore(After, Node)) && (Best == NULL || IsBefore(Node, Best))) {
            Best = Node;
        }
    }
    return Best;
}

static VOID Toggle(ITEM *Item, RANDOM *Random)
{
    if (Item->IsIn) {
        RtlRemoveInterval(&Tree, &Item->Node);
        Item->IsIn = FALSE;
        return;
    }
    Item->Node.First = RandomBelow(Random, VALUES);
    Item->Node.Last = Item->Node.First + RandomBelow(Random, RandomOneIn(Random, 8) ? VALUES : 12);
    if (RtlFindInterval(&Tree, Item->Node.First, Item->Node.Last) == NULL) {
        RtlInsertInterval(&Tree, &Item->Node);
        Item->IsIn = TRUE;
    }
}

static VOID CheckOverlaps(ULONG64 First, ULONG64 Last)
{
    PRTL_INTERVAL_NODE Expected = NaiveOverlap(First, Last, NULL);
    PRTL_INTERVAL_NODE Node = RtlFirstOverlap(&Tree, First, Last);
    while (Expected != NULL) {
        CHECK(Node == Expected);
        Expected = NaiveOverlap(First, Last, Node);
        Node = RtlNextOverlap(Node, First, Last);
    }
    CHECK(Node == NULL);
}

static VOID Overlaps_are_found_all_and_in_order_whatever_was_inserted_and_removed(VOID)
{
    RANDOM Random = RandomStart(2);
    for (ULONG Step = 0; Step < 20000; Step += 1) {
        Toggle(&Items[RandomBelow(&Random, NODES)], &Random);
        if (Step % 16 == 0) {
            const ULONG64 First = RandomBelow(&Random, VALUES);
            CheckOverlaps(First, First + RandomBelow(&Random, 30));
        }
        if (Step % 64 == 0) {
            CHECK(RtlVerifyIntervalTree(&Tree));
            CheckOverlaps(0, MAXULONG64);
        }
    }
}

static VOID An_empty_tree_has_no_overlaps(VOID)
{
    CHECK(RtlFirstOverlap(&Tree, 0, MAXULONG64) == NULL);
    CHECK(RtlFirstInterval(&Tree) == NULL);
    CHECK(RtlFindInterval(&Tree, 0, 0) == NULL);
    CHECK(RtlVerifyIntervalTree(&Tree));
}

static VOID The_verifier_sees_every_kind_of_damage(VOID)
{
    for (ULONG Index = 0; Index < 20; Index += 1) {
        Items[Index].Node.First = Index * 2;
        Items[Index].Node.Last = Index * 2;
        RtlInsertInterval(&Tree, &Items[Index].Node);
    }
    CHECK(RtlVerifyIntervalTree(&Tree));
    PRTL_INTERVAL_NODE Node = &Items[3].Node;
    Node->Height += 1;
    CHECK(!RtlVerifyIntervalTree(&Tree));
    Node->Height -= 1;
    Node->MaxLast += 1;
    CHECK(!RtlVerifyIntervalTree(&Tree));
    Node->MaxLast -= 1;
    Tree.NodeCount += 1;
    CHECK(!RtlVerifyIntervalTree(&Tree));
    Tree.NodeCount -= 2;
    CHECK(!RtlVerifyIntervalTree(&Tree));
    Tree.NodeCount += 1;
    Tree.Root->Parent = Node;
    CHECK(!RtlVerifyIntervalTree(&Tree));
    Tree.Root->Parent = NULL;
    CHECK(RtlVerifyIntervalTree(&Tree));
    Tree.Root->Left->First = Tree.Root->First + 1;
    Tree.Root->Left->Last = Tree.Root->First + 1;
    CHECK(!RtlVerifyIntervalTree(&Tree));
}

static const HOST_TEST Tests[] = {
    HOST_ROW(An_empty_tree_has_no_overlaps, "rtl.h, interval tree", NULL),
    HOST_ROW(Overlaps_are_found_all_and_in_order_whatever_was_inserted_and_removed,
             "rtl.h, interval tree", NULL),
    HOST_ROW(The_verifier_sees_every_kind_of_damage, "intervaltree.c, T1-T4", NULL),
};

HOST_DEFINE_SUITE(intervaltree);
