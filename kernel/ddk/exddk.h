// Ex for drivers: interlocked lists, lookaside lists, reader-writer locks, callbacks, rundown
// protection, processor features, local time.
#pragma once

#include <ntdef.h>
#include <ntstatus.h>

#include <keddk.h>

// -------------------------------------------------------------------------------------------------
// Interlocked lists and counters. The lock is for such routines only: they take it with interrupts
// off, so that they may be called at any IRQL. Each returns what was there before.

// The entry that was first (last), NULL when the list was empty.
PLIST_ENTRY FASTCALL ExInterlockedInsertHeadList(_Inout_ PLIST_ENTRY ListHead,
                                                 _Inout_ PLIST_ENTRY ListEntry,
                                                 _Inout_ PKSPIN_LOCK Lock);
PLIST_ENTRY FASTCALL ExInterlockedInsertTailList(_Inout_ PLIST_ENTRY ListHead,
                                                 _Inout_ PLIST_ENTRY ListEntry,
                                                 _Inout_ PKSPIN_LOCK Lock);
// The entry that is taken out, NULL when the list is empty.
PLIST_ENTRY FASTCALL ExInterlockedRemoveHeadList(_Inout_ PLIST_ENTRY ListHead,
                                                 _Inout_ PKSPIN_LOCK Lock);
PSINGLE_LIST_ENTRY FASTCALL ExInterlockedPushEntryList(_Inout_ PSINGLE_LIST_ENTRY ListHead,
                                                       _Inout_ PSINGLE_LIST_ENTRY ListEntry,
                                                       _Inout_ PKSPIN_LOCK Lock);
PSINGLE_LIST_ENTRY FASTCALL ExInterlockedPopEntryList(_Inout_ PSINGLE_LIST_ENTRY ListHead,
                                                      _Inout_ PKSPIN_LOCK Lock);

ULONG FASTCALL ExInterlockedAddUlong(_Inout_ PULONG Addend, _In_ ULONG Increment,
                                     _Inout_ PKSPIN_LOCK Lock);
LARGE_INTEGER NTAPI ExInterlockedAddLargeInteger(_Inout_ PLARGE_INTEGER Addend,
                                                 _In_ LARGE_INTEGER Increment,
                                                 _Inout_ PKSPIN_LOCK Lock);

// -------------------------------------------------------------------------------------------------
// Sequenced lists: last in, first out, without a lock. Head and entries are aligned to 16 bytes.
// IRQL <= DISPATCH_LEVEL; and, as nothing waits, above it too (ours).

typedef struct DECLSPEC_ALIGN(16) _SLIST_ENTRY {
    struct _SLIST_ENTRY *Next;
} SLIST_ENTRY, *PSLIST_ENTRY;

typedef union DECLSPEC_ALIGN(16) _SLIST_HEADER {
    struct {
        ULONGLONG Alignment;
        ULONGLONG Region;
    };
    struct {
        ULONGLONG Depth : 16;
        ULONGLONG Sequence : 48; // counts the changes, so that none goes unseen
        ULONGLONG HeaderType : 1;
        ULONGLONG Reserved : 3;
        ULONGLONG NextEntry : 60; // the upper 60 bits of its address
    } HeaderX64;
} SLIST_HEADER, *PSLIST_HEADER;

C_ASSERT(sizeof(SLIST_ENTRY) == 16 && sizeof(SLIST_HEADER) == 16);

// STATUS_DATATYPE_MISALIGNMENT is raised for a head that is not aligned.
VOID NTAPI InitializeSListHead(_Out_ PSLIST_HEADER SListHead);
USHORT NTAPI ExQueryDepthSList(_In_ PSLIST_HEADER ListHead);
PSLIST_ENTRY NTAPI ExpInterlockedPushEntrySList(_Inout_ PSLIST_HEADER ListHead,
                                                _Inout_ PSLIST_ENTRY ListEntry);
PSLIST_ENTRY NTAPI ExpInterlockedPopEntrySList(_Inout_ PSLIST_HEADER ListHead);
// All entries at once, linked as they were.
PSLIST_ENTRY NTAPI ExpInterlockedFlushSList(_Inout_ PSLIST_HEADER ListHead);

#define ExInitializeSListHead InitializeSListHead
#define InterlockedPushEntrySList(Head, Entry) ExpInterlockedPushEntrySList(Head, Entry)
#define InterlockedPopEntrySList(Head) ExpInterlockedPopEntrySList(Head)
#define InterlockedFlushSList(Head) ExpInterlockedFlushSList(Head)
#define QueryDepthSList(Head) ExQueryDepthSList(Head)

// -------------------------------------------------------------------------------------------------
// Lookaside lists: freed blocks of one size, kept for the next who asks. The list itself lies in
// nonpaged memory, and must be deleted before that goes. A list keeps up to 64 blocks, none at level 1
// of the verifier, so that a use after the free shows (ours).

typedef struct _LOOKASIDE_LIST_EX *PLOOKASIDE_LIST_EX;

typedef PVOID(NTAPI *PALLOCATE_FUNCTION)(_In_ POOL_TYPE PoolType, _In_ SIZE_T NumberOfBytes,
                                         _In_ ULONG Tag);
typedef PVOID(NTAPI *PALLOCATE_FUNCTION_EX)(_In_ POOL_TYPE PoolType, _In_ SIZE_T NumberOfBytes,
                                            _In_ ULONG Tag, _Inout_ PLOOKASIDE_LIST_EX Lookaside);
typedef VOID(NTAPI *PFREE_FUNCTION)(_In_ PVOID Buffer);
typedef VOID(NTAPI *PFREE_FUNCTION_EX)(_In_ PVOID Buffer, _Inout_ PLOOKASIDE_LIST_EX Lookaside);

#define GENERAL_LOOKASIDE_LAYOUT                                                                   \
    union {                                                                                        \
        SLIST_HEADER ListHead;                                                                     \
        SINGLE_LIST_ENTRY SingleListHead;                                                          \
    };                                                                                             \
    USHORT Depth; /* so many blocks are kept */                                                    \
    USHORT MaximumDepth;                                                                           \
    ULONG TotalAllocates;                                                                          \
    union {                                                                                        \
        ULONG AllocateMisses;                                                                      \
        ULONG AllocateHits;                                                                        \
    };                                                                                             \
    ULONG TotalFrees;                                                                              \
    union {                                                                                        \
        ULONG FreeMisses;                                                                          \
        ULONG FreeHits;                                                                            \
    };                                                                                             \
    POOL_TYPE Type;                                                                                \
    ULONG Tag;                                                                                     \
    ULONG Size;                                                                                    \
    union {                                                                                        \
        PALLOCATE_FUNCTION_EX AllocateEx;                                                          \
        PALLOCATE_FUNCTION Allocate;                                                               \
    };                                                                                             \
    union {                                                                                        \
        PFREE_FUNCTION_EX FreeEx;                                                                  \
        PFREE_FUNCTION Free;                                                                       \
    };                                                                                             \
    LIST_ENTRY ListEntry;                                                                          \
    ULONG LastTotalAllocates;                                                                      \
    union {                                                                                        \
        ULONG LastAllocateMisses;                                                                  \
        ULONG LastAllocateHits;                                                                    \
    };                                                                                             \
    ULONG Future[2];

typedef struct DECLSPEC_ALIGN(64) _GENERAL_LOOKASIDE {
    GENERAL_LOOKASIDE_LAYOUT
} GENERAL_LOOKASIDE, *PGENERAL_LOOKASIDE;

typedef struct _GENERAL_LOOKASIDE_POOL {
    GENERAL_LOOKASIDE_LAYOUT
} GENERAL_LOOKASIDE_POOL, *PGENERAL_LOOKASIDE_POOL;

typedef struct _PAGED_LOOKASIDE_LIST {
    GENERAL_LOOKASIDE L;
} PAGED_LOOKASIDE_LIST, *PPAGED_LOOKASIDE_LIST;

typedef struct DECLSPEC_ALIGN(64) _NPAGED_LOOKASIDE_LIST {
    GENERAL_LOOKASIDE L;
} NPAGED_LOOKASIDE_LIST, *PNPAGED_LOOKASIDE_LIST;

typedef struct _LOOKASIDE_LIST_EX {
    GENERAL_LOOKASIDE_POOL L;
} LOOKASIDE_LIST_EX;

C_ASSERT(FIELD_OFFSET(GENERAL_LOOKASIDE, Tag) == 0x28);
C_ASSERT(FIELD_OFFSET(GENERAL_LOOKASIDE, ListEntry) == 0x40);
C_ASSERT(sizeof(GENERAL_LOOKASIDE) == 0x80 && sizeof(LOOKASIDE_LIST_EX) == 0x60);

#define EX_LOOKASIDE_LIST_EX_FLAGS_RAISE_ON_FAIL 0x00000001U
#define EX_LOOKASIDE_LIST_EX_FLAGS_FAIL_NO_RAISE 0x00000002U
#define EX_MAXIMUM_LOOKASIDE_DEPTH_BASE 256
#define EX_MAXIMUM_LOOKASIDE_DEPTH_LIMIT 1024

// Allocate and Free may be NULL: ExAllocatePoolWithTag and ExFreePool. Flags:
// POOL_RAISE_IF_ALLOCATION_FAILURE, POOL_NX_ALLOCATION. Depth is reserved. IRQL <= DISPATCH_LEVEL.
VOID NTAPI ExInitializeNPagedLookasideList(_Out_ PNPAGED_LOOKASIDE_LIST Lookaside,
                                           _In_opt_ PALLOCATE_FUNCTION Allocate,
                                           _In_opt_ PFREE_FUNCTION Free, _In_ ULONG Flags,
                                           _In_ SIZE_T Size, _In_ ULONG Tag, _In_ USHORT Depth);
// IRQL <= APC_LEVEL for all of a paged list.
VOID NTAPI ExInitializePagedLookasideList(_Out_ PPAGED_LOOKASIDE_LIST Lookaside,
                                          _In_opt_ PALLOCATE_FUNCTION Allocate,
                                          _In_opt_ PFREE_FUNCTION Free, _In_ ULONG Flags,
                                          _In_ SIZE_T Size, _In_ ULONG Tag, _In_ USHORT Depth);

// Free the blocks that are kept; those that are still out are the caller's.
VOID NTAPI ExDeleteNPagedLookasideList(_Inout_ PNPAGED_LOOKASIDE_LIST Lookaside);
VOID NTAPI ExDeletePagedLookasideList(_Inout_ PPAGED_LOOKASIDE_LIST Lookaside);

// A block, or NULL. As inline routines of drivers' headers do, for those that import them.
PVOID NTAPI ExAllocateFromPagedLookasideList(_Inout_ PPAGED_LOOKASIDE_LIST Lookaside);
VOID NTAPI ExFreeToPagedLookasideList(_Inout_ PPAGED_LOOKASIDE_LIST Lookaside, _In_ PVOID Entry);

// STATUS_INVALID_PARAMETER_4: no such pool. STATUS_INVALID_PARAMETER_5: unknown flags, or both.
NTSTATUS NTAPI ExInitializeLookasideListEx(_Out_ PLOOKASIDE_LIST_EX Lookaside,
                                           _In_opt_ PALLOCATE_FUNCTION_EX Allocate,
                                           _In_opt_ PFREE_FUNCTION_EX Free, _In_ POOL_TYPE PoolType,
                                           _In_ ULONG Flags, _In_ SIZE_T Size, _In_ ULONG Tag,
                                           _In_ USHORT Depth);
VOID NTAPI ExDeleteLookasideListEx(_Inout_ PLOOKASIDE_LIST_EX Lookaside);
VOID NTAPI ExFlushLookasideListEx(_Inout_ PLOOKASIDE_LIST_EX Lookaside);

// -------------------------------------------------------------------------------------------------
// Reader-writer spin locks. 0 is a free one. The holder runs at DISPATCH_LEVEL; a waiting writer
// keeps new readers out. Not recursive.

typedef volatile LONG EX_SPIN_LOCK, *PEX_SPIN_LOCK;

_Must_inspect_result_ _IRQL_requires_max_(DISPATCH_LEVEL)
KIRQL NTAPI ExAcquireSpinLockShared(_Inout_ PEX_SPIN_LOCK SpinLock);
_Must_inspect_result_ _IRQL_requires_max_(DISPATCH_LEVEL)
KIRQL NTAPI ExAcquireSpinLockExclusive(_Inout_ PEX_SPIN_LOCK SpinLock);
VOID NTAPI ExReleaseSpinLockShared(_Inout_ PEX_SPIN_LOCK SpinLock,
                                   _In_ _IRQL_restores_ KIRQL OldIrql);
VOID NTAPI ExReleaseSpinLockExclusive(_Inout_ PEX_SPIN_LOCK SpinLock,
                                      _In_ _IRQL_restores_ KIRQL OldIrql);
VOID NTAPI ExAcquireSpinLockSharedAtDpcLevel(_Inout_ PEX_SPIN_LOCK SpinLock);
VOID NTAPI ExAcquireSpinLockExclusiveAtDpcLevel(_Inout_ PEX_SPIN_LOCK SpinLock);
VOID NTAPI ExReleaseSpinLockSharedFromDpcLevel(_Inout_ PEX_SPIN_LOCK SpinLock);
VOID NTAPI ExReleaseSpinLockExclusiveFromDpcLevel(_Inout_ PEX_SPIN_LOCK SpinLock);
// The only reader becomes the writer. FALSE: there are others; nothing has changed.
_Must_inspect_result_ LOGICAL NTAPI
ExTryConvertSharedSpinLockExclusive(_Inout_ PEX_SPIN_LOCK SpinLock);

// -------------------------------------------------------------------------------------------------
// This and that. Any IRQL.

// All callers are the kernel's: KernelMode.
KPROCESSOR_MODE NTAPI ExGetPreviousMode(VOID);

// No time zone is known: local time is system time (ours).
VOID NTAPI ExSystemTimeToLocalTime(_In_ PLARGE_INTEGER SystemTime, _Out_ PLARGE_INTEGER LocalTime);
VOID NTAPI ExLocalTimeToSystemTime(_In_ PLARGE_INTEGER LocalTime, _Out_ PLARGE_INTEGER SystemTime);

// PF_*: what every x64 processor of this kernel has (compare exchange of 8 and 16 bytes, MMX, SSE to
// SSE2, NX, ...).
BOOLEAN NTAPI ExIsProcessorFeaturePresent(_In_ ULONG ProcessorFeature);

typedef enum _SUITE_TYPE {
    SmallBusiness,
    Enterprise,
    BackOffice,
    CommunicationServer,
    TerminalServer,
    SmallBusinessRestricted,
    EmbeddedNT,
    DataCenter,
    SingleUserTS,
    Personal,
    Blade,
    EmbeddedRestricted,
    SecurityAppliance,
    StorageServer,
    ComputeServer,
    WHServer,
    MaxSuiteType,
} SUITE_TYPE;

// Whether this is a product of that name: it is none (ours).
BOOLEAN NTAPI ExVerifySuite(_In_ SUITE_TYPE SuiteType);

// A GUID from the time stamp counter, random in all its bits but the version's (ours: version 4).
// STATUS_SUCCESS. IRQL = PASSIVE_LEVEL.
NTSTATUS NTAPI ExUuidCreate(_Out_ GUID *Uuid);
