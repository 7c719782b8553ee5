// Ex for drivers: interlocked and sequenced lists, lookaside lists, reader-writer locks.
#include <exddk.h>
#include <rtlddk.h>

#include "kernel/inc/ke.h"
#include "tests/kernel/tests.h"

static VOID InterlockedListsReturnWhatWasThere(VOID)
{
    KSPIN_LOCK Lock = 0;
    LIST_ENTRY Head, A, B;
    InitializeListHead(&Head);
    KT_EQUAL(ExInterlockedRemoveHeadList(&Head, &Lock), NULL);
    KT_EQUAL(ExInterlockedInsertTailList(&Head, &A, &Lock), NULL);
    KT_EQUAL(ExInterlockedInsertTailList(&Head, &B, &Lock), &A);
    KT_EQUAL(ExInterlockedRemoveHeadList(&Head, &Lock), &A);
    KT_EQUAL(ExInterlockedInsertHeadList(&Head, &A, &Lock), &B);
    KT_EQUAL(ExInterlockedRemoveHeadList(&Head, &Lock), &A);
    KT_EQUAL(ExInterlockedRemoveHeadList(&Head, &Lock), &B);
    KT_CHECK(IsListEmpty(&Head));

    SINGLE_LIST_ENTRY Single = {NULL}, First, Second;
    KT_EQUAL(ExInterlockedPushEntryList(&Single, &First, &Lock), NULL);
    KT_EQUAL(ExInterlockedPushEntryList(&Single, &Second, &Lock), &First);
    KT_EQUAL(ExInterlockedPopEntryList(&Single, &Lock), &Second);
    KT_EQUAL(ExInterlockedPopEntryList(&Single, &Lock), &First);
    KT_EQUAL(ExInterlockedPopEntryList(&Single, &Lock), NULL);

    ULONG Count = 40;
    LARGE_INTEGER Large = {.QuadPart = 0xFFFFFFFF}, One = {.QuadPart = 1};
    KT_EQUAL(ExInterlockedAddUlong(&Count, 2, &Lock), 40);
    KT_EQUAL(Count, 42);
    KT_EQUAL(ExInterlockedAddLargeInteger(&Large, One, &Lock).QuadPart, 0xFFFFFFFF);
    KT_EQUAL(Large.QuadPart, 0x100000000);
    KT_EQUAL(Lock, 0);
}

static VOID SequencedListsAreStacks(VOID)
{
    SLIST_HEADER Head;
    SLIST_ENTRY Entries[3];
    InitializeSListHead(&Head);
    KT_EQUAL(ExpInterlockedPopEntrySList(&Head), NULL);
    KT_EQUAL(ExpInterlockedPushEntrySList(&Head, &Entries[0]), NULL);
    KT_EQUAL(ExpInterlockedPushEntrySList(&Head, &Entries[1]), &Entries[0]);
    KT_EQUAL(ExpInterlockedPushEntrySList(&Head, &Entries[2]), &Entries[1]);
    KT_EQUAL(ExQueryDepthSList(&Head), 3);
    KT_EQUAL(Head.HeaderX64.Depth, 3);
    KT_EQUAL((ULONG64)Head.HeaderX64.NextEntry << 4, (ULONG_PTR)&Entries[2]);
    KT_EQUAL(ExpInterlockedPopEntrySList(&Head), &Entries[2]);
    KT_EQUAL(ExQueryDepthSList(&Head), 2);
    KT_EQUAL(ExpInterlockedFlushSList(&Head), &Entries[1]);
    KT_EQUAL(Entries[1].Next, &Entries[0]);
    KT_EQUAL(Entries[0].Next, NULL);
    KT_EQUAL(ExQueryDepthSList(&Head), 0);
    KT_EQUAL(ExpInterlockedFlushSList(&Head), NULL);
}

static VOID EachChangeOfASequencedListCounts(VOID)
{
    SLIST_HEADER Head;
    SLIST_ENTRY Entry;
    InitializeSListHead(&Head);
    ULONG64 Sequence = Head.HeaderX64.Sequence;
    for (ULONG Round = 0; Round < 100; Round += 1) {
        ExpInterlockedPushEntrySList(&Head, &Entry);
        KT_CHECK(Head.HeaderX64.Sequence == Sequence + 1);
        ExpInterlockedPopEntrySList(&Head);
        KT_CHECK(Head.HeaderX64.Sequence == Sequence + 2);
        Sequence = Head.HeaderX64.Sequence;
    }
    KT_EQUAL(Head.HeaderX64.Depth, 0);
}

static ULONG KtAllocateCount, KtFreeCount;

static PVOID NTAPI CountAllocate(POOL_TYPE PoolType, SIZE_T NumberOfBytes, ULONG Tag)
{
    KtAllocateCount += 1;
    return ExAllocatePoolWithTag(PoolType, NumberOfBytes, Tag);
}

static VOID NTAPI CountFree(PVOID Buffer)
{
    KtFreeCount += 1;
    ExFreePool(Buffer);
}

// What ExAllocateFromNPagedLookasideList is in drivers' headers.
static PVOID Allocate(PGENERAL_LOOKASIDE List)
{
    PVOID Entry = InterlockedPopEntrySList(&List->ListHead);
    return Entry != NULL ? Entry : List->Allocate(List->Type, List->Size, List->Tag);
}

static VOID Free(PGENERAL_LOOKASIDE List, PVOID Entry)
{
    if (ExQueryDepthSList(&List->ListHead) >= List->Depth) {
        List->Free(Entry);
    } else {
        InterlockedPushEntrySList(&List->ListHead, Entry);
    }
}

static VOID LookasideListsKeepFreedBlocks(VOID)
{
    NPAGED_LOOKASIDE_LIST List;
    KtAllocateCount = KtFreeCount = 0;
    ExInitializeNPagedLookasideList(&List, CountAllocate, CountFree, POOL_NX_ALLOCATION, 4, KT_TAG,
                                    0);
    KT_EQUAL(List.L.Size, 8);
    PVOID First = Allocate(&List.L);
    KT_REQUIRE(First != NULL);
    Free(&List.L, First);
    PVOID Second = Allocate(&List.L);
    if (MmVerifierLevel == 0) {
        KT_EQUAL(Second, First);
        KT_EQUAL(KtAllocateCount, 1);
    } else {
        KT_EQUAL(KtFreeCount, 1); // nothing is kept, so that a use after the free shows
    }
    Free(&List.L, Second);
    ExDeleteNPagedLookasideList(&List);
    KT_EQUAL(KtFreeCount, KtAllocateCount);
}

static VOID PagedLookasideListsCount(VOID)
{
    PAGED_LOOKASIDE_LIST List;
    ExInitializePagedLookasideList(&List, NULL, NULL, 0, 100, KT_TAG, 0);
    PVOID Blocks[70];
    for (ULONG Index = 0; Index < ARRAYSIZE(Blocks); Index += 1) {
        Blocks[Index] = ExAllocateFromPagedLookasideList(&List);
        KT_REQUIRE(Blocks[Index] != NULL);
    }
    for (ULONG Index = 0; Index < ARRAYSIZE(Blocks); Index += 1) {
        ExFreeToPagedLookasideList(&List, Blocks[Index]);
    }
    KT_EQUAL(List.L.TotalAllocates, 70);
    KT_EQUAL(List.L.AllocateMisses, 70);
    KT_EQUAL(List.L.TotalFrees, 70);
    KT_EQUAL(List.L.FreeMisses, 70 - List.L.Depth);
    ExDeletePagedLookasideList(&List);
}

static VOID NewLookasideListsCheckTheirParameters(VOID)
{
    LOOKASIDE_LIST_EX List;
    KT_EQUAL(ExInitializeLookasideListEx(&List, NULL, NULL, (POOL_TYPE)77, 0, 16, KT_TAG, 0),
             STATUS_INVALID_PARAMETER_4);
    KT_EQUAL(ExInitializeLookasideListEx(&List, NULL, NULL, NonPagedPoolNx, 3, 16, KT_TAG, 0),
             STATUS_INVALID_PARAMETER_5);
    KT_EQUAL(ExInitializeLookasideListEx(&List, NULL, NULL, NonPagedPoolNx, 0, 256, KT_TAG, 0),
             STATUS_SUCCESS);
    PVOID Block = List.L.AllocateEx(List.L.Type, List.L.Size, List.L.Tag, &List);
    KT_REQUIRE(Block != NULL);
    ExpInterlockedPushEntrySList(&List.L.ListHead, Block);
    ExFlushLookasideListEx(&List);
    KT_EQUAL(ExQueryDepthSList(&List.L.ListHead), 0);
    ExDeleteLookasideListEx(&List);
}

static VOID ReadersShareAndWritersDoNot(VOID)
{
    EX_SPIN_LOCK Lock = 0;
    const KIRQL OldIrql = ExAcquireSpinLockShared(&Lock);
    KT_EQUAL(KeGetCurrentIrql(), DISPATCH_LEVEL);
    KT_EQUAL(OldIrql, PASSIVE_LEVEL);
    ExAcquireSpinLockSharedAtDpcLevel(&Lock);
    KT_EQUAL(Lock, 2);
    KT_CHECK(!ExTryConvertSharedSpinLockExclusive(&Lock));
    ExReleaseSpinLockSharedFromDpcLevel(&Lock);
    KT_CHECK(ExTryConvertSharedSpinLockExclusive(&Lock));
    KT_EQUAL(Lock, (LONG)0x80000000);
    ExReleaseSpinLockExclusive(&Lock, OldIrql);
    KT_EQUAL(Lock, 0);
    KT_EQUAL(KeGetCurrentIrql(), PASSIVE_LEVEL);
    const KIRQL Again = ExAcquireSpinLockExclusive(&Lock);
    KT_EQUAL(Lock, (LONG)0x80000000);
    ExReleaseSpinLockExclusive(&Lock, Again);
    KT_EQUAL(Lock, 0);
}

static VOID UniqueNumbersDiffer(VOID)
{
    GUID Guids[8];
    for (ULONG Index = 0; Index < ARRAYSIZE(Guids); Index += 1) {
        KT_EQUAL(ExUuidCreate(&Guids[Index]), STATUS_SUCCESS);
        KT_EQUAL(Guids[Index].Data3 >> 12, 4);
        for (ULONG Other = 0; Other < Index; Other += 1) {
            KT_CHECK(!RtlEqualMemory(&Guids[Index], &Guids[Other], sizeof(GUID)));
        }
    }
}

static VOID StringsComeFromPagedPool(VOID)
{
    UNICODE_STRING Wide;
    ANSI_STRING Narrow;
    RtlInitAnsiString(&Narrow, "\\Device\\Test");
    KT_REQUIRE(NT_SUCCESS(RtlAnsiStringToUnicodeString(&Wide, &Narrow, TRUE)));
    UNICODE_STRING Expected = RTL_CONSTANT_STRING(u"\\DEVICE\\TEST");
    KT_CHECK(RtlEqualUnicodeString(&Wide, &Expected, TRUE));
    RtlFreeUnicodeString(&Wide);
}

static const KT_TEST Tests[] = {
    {"Interlocked lists return what was there", InterlockedListsReturnWhatWasThere},
    {"Sequenced lists are stacks", SequencedListsAreStacks},
    {"Each change of a sequenced list counts", EachChangeOfASequencedListCounts},
    {"Lookaside lists keep freed blocks", LookasideListsKeepFreedBlocks},
    {"Paged lookaside lists count", PagedLookasideListsCount},
    {"New lookaside lists check their parameters", NewLookasideListsCheckTheirParameters},
    {"Readers share and writers do not", ReadersShareAndWritersDoNot},
    {"Unique numbers differ", UniqueNumbersDiffer},
    {"Strings come from paged pool", StringsComeFromPagedPool},
};

const KT_SUITE KtExSuite = {"ex", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
