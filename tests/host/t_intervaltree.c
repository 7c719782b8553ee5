// The interval tree, against a list.
#include "kernel/inc/rtl.h"
#include "tests/host/host.h"
#include "tests/host/random.h"

#define NODES 300u
#define VALUES 100u // few, so that many are equal

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

// How many items share a value with [First, Last].
static ULONG NaiveOverlapCount(ULONG64 First, ULONG64 Last)
{
    ULONG Count = 0;
    for (ULONG Index = 0; Index < NODES; Index += 1) {
        const RTL_INTERVAL_NODE *Node = &Items[Index].Node;
        Count += Items[Index].IsIn && Node->First <= Last && Node->Last >= First;
    }
    return Count;
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
    RtlInsertInterval(&Tree, &Item->Node);
    Item->IsIn = TRUE;
}

// As many as there are, each one an overlap, in order. Equal intervals may come in any order, but
// each of them once: a step behind one of them never leads back.
static VOID CheckOverlaps(ULONG64 First, ULONG64 Last)
{
    static BOOLEAN IsSeen[NODES];
    ULONG Count = 0;
    PRTL_INTERVAL_NODE Previous = NULL;
    RtlZeroMemory(IsSeen, sizeof(IsSeen));
    for (PRTL_INTERVAL_NODE Node = RtlFirstOverlap(&Tree, First, Last); Node != NULL;
         Node = RtlNextOverlap(Node, First, Last)) {
        const SIZE_T Index = (SIZE_T)((ITEM *)Node - Items);
        CHECK(Node->First <= Last && Node->Last >= First && !IsSeen[Index]);
        CHECK(Previous == NULL || !IsBefore(Node, Previous));
        IsSeen[Index] = TRUE;
        Previous = Node;
        Count += 1;
    }
    CHECK_EQUAL(Count, NaiveOverlapCount(First, Last));
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
    Tree.Root->Left->Last = Tree.Root->Left->First;
    CHECK(!RtlVerifyIntervalTree(&Tree));
}

// Three in a row, each with the values that it says.
static PRTL_INTERVAL_NODE MakeSmallTree(VOID)
{
    Tree = (RTL_INTERVAL_TREE)RTL_INTERVAL_TREE_INITIALIZER;
    for (ULONG Index = 0; Index < 3; Index += 1) {
        Items[Index].Node.First = Items[Index].Node.Last = 10 * Index;
        RtlInsertInterval(&Tree, &Items[Index].Node);
    }
    CHECK(RtlVerifyIntervalTree(&Tree));
    return Tree.Root;
}

static VOID The_verifier_sees_a_link_that_is_not_returned(VOID)
{
    MakeSmallTree()->Left->Parent = NULL;
    CHECK(!RtlVerifyIntervalTree(&Tree));
    // A detour, on which the walk finds its way all the same.
    const PRTL_INTERVAL_NODE Root = MakeSmallTree();
    RTL_INTERVAL_NODE Detour = {.Parent = Root, .Right = Root->Left};
    Root->Left->Parent = &Detour;
    CHECK(!RtlVerifyIntervalTree(&Tree));
    MakeSmallTree()->Right->Parent = Tree.Root->Left;
    CHECK(!RtlVerifyIntervalTree(&Tree));
}

static VOID The_verifier_sees_an_interval_that_ends_before_it_begins(VOID)
{
    const PRTL_INTERVAL_NODE Left = MakeSmallTree()->Left;
    Left->First = Left->Last + 1;
    CHECK(!RtlVerifyIntervalTree(&Tree));
}

// Hangs a chain of two below one side of the root; all heights and maxima are right.
static VOID HangChain(PRTL_INTERVAL_NODE *Side, ULONG64 Upper, ULONG64 Lower)
{
    static RTL_INTERVAL_NODE Chain[2];
    const BOOLEAN IsLeft = Lower < Upper;
    Chain[0] = (RTL_INTERVAL_NODE){.Parent = Tree.Root, .First = Upper, .Last = Upper, .Height = 2};
    Chain[1] = (RTL_INTERVAL_NODE){
        .Parent = &Chain[0], .First = Lower, .Last = Lower, .MaxLast = Lower, .Height = 1};
    *(IsLeft ? &Chain[0].Left : &Chain[0].Right) = &Chain[1];
    Chain[0].MaxLast = IsLeft ? Upper : Lower;
    *Side = &Chain[0];
    Tree.Root->MaxLast = IsLeft ? Tree.Root->Last : Lower;
    Tree.Root->Height = 3;
    Tree.NodeCount = 3;
}

static VOID The_verifier_sees_a_tree_out_of_balance(VOID)
{
    MakeSmallTree()->Left = NULL;
    HangChain(&Tree.Root->Right, 20, 30);
    CHECK(!RtlVerifyIntervalTree(&Tree));
    MakeSmallTree()->Right = NULL;
    HangChain(&Tree.Root->Left, 5, 0);
    CHECK(!RtlVerifyIntervalTree(&Tree));
}

// Two nodes of different parents, so that nothing but the order is wrong.
static VOID The_verifier_sees_a_wrong_order(VOID)
{
    const PRTL_INTERVAL_NODE Root = MakeSmallTree();
    Root->First = Root->Last = 25; // MaxLast, 25 instead of 20, is made right
    Root->MaxLast = 25;
    CHECK(!RtlVerifyIntervalTree(&Tree));
}

static const HOST_TEST Tests[] = {
    HOST_ROW(An_empty_tree_has_no_overlaps, "rtl.h, interval tree", NULL),
    HOST_ROW(Overlaps_are_found_all_and_in_order_whatever_was_inserted_and_removed,
             "rtl.h, interval tree", NULL),
    HOST_ROW(The_verifier_sees_every_kind_of_damage, "intervaltree.c, T1-T4", NULL),
    HOST_ROW(The_verifier_sees_a_link_that_is_not_returned, "intervaltree.c, T4", NULL),
    HOST_ROW(The_verifier_sees_an_interval_that_ends_before_it_begins, "intervaltree.c, T1", NULL),
    HOST_ROW(The_verifier_sees_a_tree_out_of_balance, "intervaltree.c, T2", NULL),
    HOST_ROW(The_verifier_sees_a_wrong_order, "intervaltree.c, T1", NULL),
};

HOST_DEFINE_SUITE(intervaltree);
