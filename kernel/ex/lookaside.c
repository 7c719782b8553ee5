// Lookaside lists. Allocating and freeing is mostly inline in drivers; here is the rest.

#include <exddk.h>

#include "kernel/inc/ke.h"
#include "mm/mm.h"

#define LOOKASIDE_KEPT_BLOCKS 64
#define LOOKASIDE_MINIMUM_BLOCK_SIZE sizeof(PSLIST_ENTRY)

// What every list begins with.
typedef struct _EXP_LOOKASIDE_SETUP {
    POOL_TYPE Type;
    SIZE_T Size;
    ULONG Tag;
} EXP_LOOKASIDE_SETUP;

static VOID ExpInitializeLookaside(PGENERAL_LOOKASIDE_POOL List, const EXP_LOOKASIDE_SETUP *Setup)
{
    RtlZeroMemory(List, sizeof(*List));
    InitializeSListHead(&List->ListHead);
    InitializeListHead(&List->ListEntry);
    // A block that is kept looks like one in use: the verifier wants to see it freed.
    List->Depth = MmVerifierLevel != 0 ? 0 : LOOKASIDE_KEPT_BLOCKS;
    List->MaximumDepth = EX_MAXIMUM_LOOKASIDE_DEPTH_BASE;
    List->Type = Setup->Type;
    List->Tag = Setup->Tag;
    List->Size = (ULONG)(Setup->Size > LOOKASIDE_MINIMUM_BLOCK_SIZE ? Setup->Size
                                                                    : LOOKASIDE_MINIMUM_BLOCK_SIZE);
}

static VOID ExpInitializeGeneral(PGENERAL_LOOKASIDE List, PALLOCATE_FUNCTION Allocate,
                                 PFREE_FUNCTION Free, const EXP_LOOKASIDE_SETUP *Setup)
{
    ExpInitializeLookaside((PGENERAL_LOOKASIDE_POOL)List, Setup);
    List->Allocate = Allocate != NULL ? Allocate : ExAllocatePoolWithTag;
    List->Free = Free != NULL ? Free : ExFreePool;
}

VOID NTAPI ExInitializeNPagedLookasideList(PNPAGED_LOOKASIDE_LIST Lookaside,
                                           PALLOCATE_FUNCTION Allocate, PFREE_FUNCTION Free,
                                           ULONG Flags, SIZE_T Size, ULONG Tag, USHORT Depth)
{
    UNREFERENCED_PARAMETER(Depth);
    NT_ASSERT(KeGetCurrentIrql() <= DISPATCH_LEVEL);
    const EXP_LOOKASIDE_SETUP Setup = {(POOL_TYPE)(NonPagedPool | Flags), Size, Tag};
    ExpInitializeGeneral(&Lookaside->L, Allocate, Free, &Setup);
}

VOID NTAPI ExInitializePagedLookasideList(PPAGED_LOOKASIDE_LIST Lookaside,
                                          PALLOCATE_FUNCTION Allocate, PFREE_FUNCTION Free,
                                          ULONG Flags, SIZE_T Size, ULONG Tag, USHORT Depth)
{
    UNREFERENCED_PARAMETER(Depth);
    NT_ASSERT(KeGetCurrentIrql() <= APC_LEVEL);
    const EXP_LOOKASIDE_SETUP Setup = {(POOL_TYPE)(PagedPool | Flags), Size, Tag};
    ExpInitializeGeneral(&Lookaside->L, Allocate, Free, &Setup);
}

static VOID ExpEmptyLookaside(PGENERAL_LOOKASIDE List)
{
    PSLIST_ENTRY Entry;
    while ((Entry = ExpInterlockedPopEntrySList(&List->ListHead)) != NULL) {
        List->Free(Entry);
    }
}

VOID NTAPI ExDeleteNPagedLookasideList(PNPAGED_LOOKASIDE_LIST Lookaside)
{
    ExpEmptyLookaside(&Lookaside->L);
}

VOID NTAPI ExDeletePagedLookasideList(PPAGED_LOOKASIDE_LIST Lookaside)
{
    ExpEmptyLookaside(&Lookaside->L);
}

PVOID NTAPI ExAllocateFromPagedLookasideList(PPAGED_LOOKASIDE_LIST Lookaside)
{
    PGENERAL_LOOKASIDE List = &Lookaside->L;
    List->TotalAllocates += 1;
    PVOID Entry = ExpInterlockedPopEntrySList(&List->ListHead);
    if (Entry == NULL) {
        List->AllocateMisses += 1;
        Entry = List->Allocate(List->Type, List->Size, List->Tag);
    }
    return Entry;
}

VOID NTAPI ExFreeToPagedLookasideList(PPAGED_LOOKASIDE_LIST Lookaside, PVOID Entry)
{
    PGENERAL_LOOKASIDE List = &Lookaside->L;
    List->TotalFrees += 1;
    if (ExQueryDepthSList(&List->ListHead) >= List->Depth) {
        List->FreeMisses += 1;
        List->Free(Entry);
    } else {
        ExpInterlockedPushEntrySList(&List->ListHead, Entry);
    }
}

// -------------------------------------------------------------------------------------------------
// The newer lists: any pool, and routines that know their list.

static PVOID NTAPI ExpAllocateForLookaside(POOL_TYPE PoolType, SIZE_T NumberOfBytes, ULONG Tag,
                                           PLOOKASIDE_LIST_EX Lookaside)
{
    UNREFERENCED_PARAMETER(Lookaside);
    return ExAllocatePoolWithTag(PoolType, NumberOfBytes, Tag);
}

static PVOID NTAPI ExpAllocateQuotaForLookaside(POOL_TYPE PoolType, SIZE_T NumberOfBytes, ULONG Tag,
                                                PLOOKASIDE_LIST_EX Lookaside)
{
    UNREFERENCED_PARAMETER(Lookaside);
    return ExAllocatePoolWithQuotaTag(PoolType, NumberOfBytes, Tag);
}

static VOID NTAPI ExpFreeForLookaside(PVOID Buffer, PLOOKASIDE_LIST_EX Lookaside)
{
    UNREFERENCED_PARAMETER(Lookaside);
    ExFreePool(Buffer);
}

static BOOLEAN ExpIsLookasidePool(POOL_TYPE PoolType)
{
    return PoolType == NonPagedPool || PoolType == PagedPool || PoolType == NonPagedPoolNx ||
           PoolType == NonPagedPoolCacheAligned || PoolType == PagedPoolCacheAligned ||
           PoolType == NonPagedPoolNxCacheAligned;
}

NTSTATUS NTAPI ExInitializeLookasideListEx(PLOOKASIDE_LIST_EX Lookaside,
                                           PALLOCATE_FUNCTION_EX Allocate, PFREE_FUNCTION_EX Free,
                                           POOL_TYPE PoolType, ULONG Flags, SIZE_T Size, ULONG Tag,
                                           USHORT Depth)
{
    UNREFERENCED_PARAMETER(Depth);
    if (!ExpIsLookasidePool(PoolType)) {
        return STATUS_INVALID_PARAMETER_4;
    }
    const BOOLEAN Raises = (Flags & EX_LOOKASIDE_LIST_EX_FLAGS_RAISE_ON_FAIL) != 0;
    const BOOLEAN HasQuota = (Flags & EX_LOOKASIDE_LIST_EX_FLAGS_FAIL_NO_RAISE) != 0;
    if (Flags > EX_LOOKASIDE_LIST_EX_FLAGS_FAIL_NO_RAISE) {
        return STATUS_INVALID_PARAMETER_5;
    }
    const ULONG TypeFlags = (Raises ? POOL_RAISE_IF_ALLOCATION_FAILURE : 0) |
                            (HasQuota ? POOL_QUOTA_FAIL_INSTEAD_OF_RAISE : 0);
    const EXP_LOOKASIDE_SETUP Setup = {(POOL_TYPE)((ULONG)PoolType | TypeFlags), Size, Tag};
    ExpInitializeLookaside(&Lookaside->L, &Setup);
    const PALLOCATE_FUNCTION_EX OwnAllocate =
        HasQuota ? ExpAllocateQuotaForLookaside : ExpAllocateForLookaside;
    Lookaside->L.AllocateEx = Allocate != NULL ? Allocate : OwnAllocate;
    Lookaside->L.FreeEx = Free != NULL ? Free : ExpFreeForLookaside;
    return STATUS_SUCCESS;
}

VOID NTAPI ExFlushLookasideListEx(PLOOKASIDE_LIST_EX Lookaside)
{
    PSLIST_ENTRY Entry;
    while ((Entry = ExpInterlockedPopEntrySList(&Lookaside->L.ListHead)) != NULL) {
        Lookaside->L.FreeEx(Entry, Lookaside);
    }
}

VOID NTAPI ExDeleteLookasideListEx(PLOOKASIDE_LIST_EX Lookaside)
{
    ExFlushLookasideListEx(Lookaside);
}
