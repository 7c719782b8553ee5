// Interval tree: an AVL tree in order of (First, Last), where each node also knows the greatest
// Last below it.
//
//                 [20,29] max 80
//                /              \.
//       [5,80] max 80         [40,41] max 60          who overlaps [50,55]?  MaxLast rules out
//       whole subtrees: /                          \.                [5,80] and [50,60]; below
//       [40,41] only the right side is met. [1,3] max 3                  [50,60] max 60
//
// Invariants (checked by RtlVerifyIntervalTree):
//   T1  In-order traversal is ascending by (First, Last); equal intervals stand side by side.
//   T2  The heights of a node's two subtrees differ by at most one; Height is one more than the
//       greater.
//   T3  MaxLast is the greatest Last of the node and its subtrees.
//   T4  A child's Parent is the node; the root's Parent is NULL; NodeCount is the number of nodes.
// Locks: none; the owner of the tree has one.

#include "kernel/inc/ke.h"
#include "kernel/inc/rtl.h"

typedef RTL_INTERVAL_NODE NODE;

static inline LONG RtlpHeight(const NODE *Node)
{
    return Node == NULL ? 0 : Node->Height;
}

static inline BOOLEAN RtlpIsBefore(ULONG64 FirstA, ULONG64 LastA, ULONG64 FirstB, ULONG64 LastB)
{
    return FirstA < FirstB || (FirstA == FirstB && LastA < LastB);
}

static inline ULONG64 RtlpGreaterLast(ULONG64 Last, const NODE *Child)
{
    return Child != NULL && Child->MaxLast > Last ? Child->MaxLast : Last;
}

// Derives Height and MaxLast from the children. Returns whether either changed.
static BOOLEAN RtlpUpdate(NODE *Node)
{
    const LONG Left = RtlpHeight(Node->Left);
    const LONG Right = RtlpHeight(Node->Right);
    const LONG Height = 1 + (Left > Right ? Left : Right);
    const ULONG64 MaxLast = RtlpGreaterLast(RtlpGreaterLast(Node->Last, Node->Left), Node->Right);
    const BOOLEAN Changed = Height != Node->Height || MaxLast != Node->MaxLast;
    Node->Height = Height;
    Node->MaxLast = MaxLast;
    return Changed;
}

// The place that points to Node: a child link of its parent, or the root.
static NODE **RtlpLinkTo(RTL_INTERVAL_TREE *Tree, const NODE *Node)
{
    NODE *Parent = Node->Parent;
    if (Parent == NULL) {
        return &Tree->Root;
    }
    return Parent->Left == Node ? &Parent->Left : &Parent->Right;
}

// Puts New (may be NULL) where Old hangs now. Old's own links stay as they are.
static VOID RtlpReplace(RTL_INTERVAL_TREE *Tree, const NODE *Old, NODE *New)
{
    *RtlpLinkTo(Tree, Old) = New;
    if (New != NULL) {
        New->Parent = Old->Parent;
    }
}

//      Top                 Pivot
//     /   \               /     \.
//    a   Pivot    =>    Top      c
//        /   \         /   \.
//       b     c       a     b
static NODE *RtlpRotateLeft(RTL_INTERVAL_TREE *Tree, NODE *Top)
{
    NODE *Pivot = Top->Right;
    RtlpReplace(Tree, Top, Pivot);
    Top->Right = Pivot->Left;
    if (Top->Right != NULL) {
        Top->Right->Parent = Top;
    }
    Pivot->Left = Top;
    Top->Parent = Pivot;
    RtlpUpdate(Top);
    RtlpUpdate(Pivot);
    return Pivot;
}

static NODE *RtlpRotateRight(RTL_INTERVAL_TREE *Tree, NODE *Top)
{
    NODE *Pivot = Top->Left;
    RtlpReplace(Tree, Top, Pivot);
    Top->Left = Pivot->Right;
    if (Top->Left != NULL) {
        Top->Left->Parent = Top;
    }
    Pivot->Right = Top;
    Top->Parent = Pivot;
    RtlpUpdate(Top);
    RtlpUpdate(Pivot);
    return Pivot;
}

// Restores T2 at a node whose subtrees differ by at most two. Returns the new top of this subtree.
static NODE *RtlpBalance(RTL_INTERVAL_TREE *Tree, NODE *Node)
{
    const LONG Excess = RtlpHeight(Node->Left) - RtlpHeight(Node->Right);
    if (Excess > 1) {
        if (RtlpHeight(Node->Left->Left) < RtlpHeight(Node->Left->Right)) {
            RtlpRotateLeft(Tree, Node->Left);
        }
        return RtlpRotateRight(Tree, Node);
    }
    if (Excess < -1) {
        if (RtlpHeight(Node->Right->Right) < RtlpHeight(Node->Right->Left)) {
            RtlpRotateRight(Tree, Node->Right);
        }
        return RtlpRotateLeft(Tree, Node);
    }
    return Node;
}

// Restores T2 and T3 from Node up to the root, as far as anything changes.
static VOID RtlpRepairUpward(RTL_INTERVAL_TREE *Tree, NODE *Node)
{
    while (Node != NULL) {
        const LONG OldHeight = Node->Height;
        const ULONG64 OldMaxLast = Node->MaxLast;
        RtlpUpdate(Node);
        Node = RtlpBalance(Tree, Node);
        if (Node->Height == OldHeight && Node->MaxLast == OldMaxLast) {
            return;
        }
        Node = Node->Parent;
    }
}

VOID RtlInsertInterval(PRTL_INTERVAL_TREE Tree, PRTL_INTERVAL_NODE Node)
{
    NT_ASSERT(Node->First <= Node->Last);
    NODE *Parent = NULL;
    NODE **Link = &Tree->Root;
    while (*Link != NULL) {
        Parent = *Link;
        const BOOLEAN GoLeft = RtlpIsBefore(Node->First, Node->Last, Parent->First, Parent->Last);
        Link = GoLeft ? &Parent->Left : &Parent->Right;
    }
    Node->Left = NULL;
    Node->Right = NULL;
    Node->Parent = Parent;
    Node->MaxLast = Node->Last;
    Node->Height = 1;
    *Link = Node;
    ++Tree->NodeCount;
    RtlpRepairUpward(Tree, Parent);
}

static NODE *RtlpLeftmost(NODE *Node)
{
    while (Node->Left != NULL) {
        Node = Node->Left;
    }
    return Node;
}

// Takes out a node with two children: its successor, which has no left child, takes its place.
static VOID RtlpRemoveInnerNode(RTL_INTERVAL_TREE *Tree, NODE *Node)
{
    NODE *Successor = RtlpLeftmost(Node->Right);
    NODE *Lowest = Successor;
    if (Successor->Parent != Node) {
        Lowest = Successor->Parent;
        RtlpReplace(Tree, Successor, Successor->Right);
        Successor->Right = Node->Right;
        Successor->Right->Parent = Successor;
    }
    RtlpReplace(Tree, Node, Successor);
    Successor->Left = Node->Left;
    Successor->Left->Parent = Successor;
    // The walks upward stop where nothing changes: let them compare with what stood here before.
    // The first may stop below the successor, which needs its own look all the same, because Node's
    // Last is gone from its MaxLast.
    Successor->Height = Node->Height;
    Successor->MaxLast = Node->MaxLast;
    RtlpRepairUpward(Tree, Lowest);
    RtlpRepairUpward(Tree, Successor);
}

VOID RtlRemoveInterval(PRTL_INTERVAL_TREE Tree, PRTL_INTERVAL_NODE Node)
{
    NT_ASSERT(Tree->NodeCount > 0 && *RtlpLinkTo(Tree, Node) == Node);
    if (Node->Left != NULL && Node->Right != NULL) {
        RtlpRemoveInnerNode(Tree, Node);
    } else {
        RtlpReplace(Tree, Node, Node->Left != NULL ? Node->Left : Node->Right);
        RtlpRepairUpward(Tree, Node->Parent);
    }
    --Tree->NodeCount;
    Node->Left = NULL;
    Node->Right = NULL;
    Node->Parent = NULL;
}

// The first node in order, within the subtree of Node, that overlaps. O(height): going left
// whenever MaxLast reaches First is safe, for then either an overlap is there, or everything from
// there on begins beyond Last.
static NODE *RtlpFirstOverlapBelow(NODE *Node, ULONG64 First, ULONG64 Last)
{
    while (Node != NULL && Node->MaxLast >= First) {
        if (Node->Left != NULL && Node->Left->MaxLast >= First) {
            Node = Node->Left;
        } else if (Node->First > Last) {
            return NULL;
        } else if (Node->Last >= First) {
            return Node;
        } else {
            Node = Node->Right;
        }
    }
    return NULL;
}

PRTL_INTERVAL_NODE RtlFirstOverlap(const RTL_INTERVAL_TREE *Tree, ULONG64 First, ULONG64 Last)
{
    NT_ASSERT(First <= Last);
    return RtlpFirstOverlapBelow(Tree->Root, First, Last);
}

static NODE *RtlpParentInOrder(const NODE *Node)
{
    NODE *Parent = Node->Parent;
    while (Parent != NULL && Parent->Right == Node) {
        Node = Parent;
        Parent = Parent->Parent;
    }
    return Parent;
}

PRTL_INTERVAL_NODE RtlNextOverlap(const RTL_INTERVAL_NODE *Node, ULONG64 First, ULONG64 Last)
{
    for (;;) {
        NODE *Below = RtlpFirstOverlapBelow(Node->Right, First, Last);
        if (Below != NULL) {
            return Below;
        }
        NODE *Next = RtlpParentInOrder(Node);
        if (Next == NULL || Next->First > Last) {
            return NULL;
        }
        if (Next->Last >= First) {
            return Next;
        }
        Node = Next;
    }
}

PRTL_INTERVAL_NODE RtlFirstInterval(const RTL_INTERVAL_TREE *Tree)
{
    return Tree->Root == NULL ? NULL : RtlpLeftmost(Tree->Root);
}

PRTL_INTERVAL_NODE RtlNextInterval(const RTL_INTERVAL_NODE *Node)
{
    return Node->Right != NULL ? RtlpLeftmost(Node->Right) : RtlpParentInOrder(Node);
}

// T2, T3 and the links of T4, for one node.
static BOOLEAN RtlpIsNodeSound(const NODE *Node)
{
    const LONG Left = RtlpHeight(Node->Left);
    const LONG Right = RtlpHeight(Node->Right);
    NODE Expected = *Node;
    const BOOLEAN Stale = RtlpUpdate(&Expected);
    return !Stale && Left - Right >= -1 && Left - Right <= 1 && Node->First <= Node->Last &&
           (Node->Left == NULL || Node->Left->Parent == Node) &&
           (Node->Right == NULL || Node->Right->Parent == Node);
}

BOOLEAN RtlVerifyIntervalTree(const RTL_INTERVAL_TREE *Tree)
{
    if (Tree->Root != NULL && Tree->Root->Parent != NULL) {
        return FALSE;
    }
    SIZE_T Count = 0;
    const NODE *Previous = NULL;
    for (const NODE *Node = RtlFirstInterval(Tree); Node != NULL; Node = RtlNextInterval(Node)) {
        if (!RtlpIsNodeSound(Node) || ++Count > Tree->NodeCount) {
            return FALSE;
        }
        if (Previous != NULL &&
            RtlpIsBefore(Node->First, Node->Last, Previous->First, Previous->Last)) {
            return FALSE;
        }
        Previous = Node;
    }
    return Count == Tree->NodeCount;
}
