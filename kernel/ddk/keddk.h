// Ke, Ex, Rtl and Dbg for drivers: IRQL, spin locks, time, bug checks, lists, pool.
#pragma once

#include <ntdef.h>
#include <ntstatus.h>

// -------------------------------------------------------------------------------------------------
// IRQL: the processor's task priority.

typedef UCHAR KIRQL, *PKIRQL;

#define PASSIVE_LEVEL 0
#define LOW_LEVEL 0
#define APC_LEVEL 1
#define DISPATCH_LEVEL 2
#define CLOCK_LEVEL 13
#define IPI_LEVEL 14
#define POWER_LEVEL 14
#define HIGH_LEVEL 15

// Any IRQL.
KIRQL NTAPI KeGetCurrentIrql(VOID);

// Raises and returns the old IRQL. NewIrql must not be lower than the current one.
_IRQL_raises_(NewIrql) KIRQL NTAPI KfRaiseIrql(_In_ KIRQL NewIrql);
#define KeRaiseIrql(NewIrql, OldIrql) (*(OldIrql) = KfRaiseIrql(NewIrql))

// Back to what KfRaiseIrql returned. NewIrql must not be higher than the current one.
VOID NTAPI KeLowerIrql(_In_ _IRQL_restores_ KIRQL NewIrql);

_IRQL_raises_(DISPATCH_LEVEL) KIRQL NTAPI KeRaiseIrqlToDpcLevel(VOID);

// -------------------------------------------------------------------------------------------------
// Spin locks. The holder runs at DISPATCH_LEVEL; a lock is not recursive. The lock lives in
// nonpaged memory.

typedef ULONG_PTR KSPIN_LOCK, *PKSPIN_LOCK;

FORCEINLINE VOID KeInitializeSpinLock(_Out_ PKSPIN_LOCK SpinLock)
{
    *SpinLock = 0;
}

// Returns the IRQL to pass to KeReleaseSpinLock.
_Must_inspect_result_ _IRQL_requires_max_(DISPATCH_LEVEL)
KIRQL NTAPI KeAcquireSpinLockRaiseToDpc(_Inout_ PKSPIN_LOCK SpinLock);
#define KeAcquireSpinLock(SpinLock, OldIrql) (*(OldIrql) = KeAcquireSpinLockRaiseToDpc(SpinLock))
VOID NTAPI KeReleaseSpinLock(_Inout_ PKSPIN_LOCK SpinLock, _In_ _IRQL_restores_ KIRQL NewIrql);

// For callers that are at DISPATCH_LEVEL already.
VOID NTAPI KeAcquireSpinLockAtDpcLevel(_Inout_ PKSPIN_LOCK SpinLock);
VOID NTAPI KeReleaseSpinLockFromDpcLevel(_Inout_ PKSPIN_LOCK SpinLock);

// -------------------------------------------------------------------------------------------------
// Time.

// Busy-waits at least this long. Any IRQL. Documented for waits up to 50 microseconds.
VOID NTAPI KeStallExecutionProcessor(_In_ ULONG MicroSeconds);

// A counter that never runs backwards, and in *PerformanceFrequency its ticks per second. Any IRQL.
LARGE_INTEGER NTAPI KeQueryPerformanceCounter(_Out_opt_ PLARGE_INTEGER PerformanceFrequency);

// -------------------------------------------------------------------------------------------------
// Stopping, printing, asserting.

// Stops the machine and prints the code, its four parameters and a dump. Any IRQL.
DECLSPEC_NORETURN VOID NTAPI KeBugCheckEx(_In_ ULONG BugCheckCode,
                                          _In_ ULONG_PTR BugCheckParameter1,
                                          _In_ ULONG_PTR BugCheckParameter2,
                                          _In_ ULONG_PTR BugCheckParameter3,
                                          _In_ ULONG_PTR BugCheckParameter4);

// Prints on the kernel console. "long" has 32 bits: %x takes a ULONG, %llx and %I64x a ULONG64; no
// floating point. Any IRQL. Returns STATUS_SUCCESS.
ULONG NTAPI DbgPrint(_In_z_ _Printf_format_string_ PCSTR Format, ...);

// What a failed ASSERT of a checked driver calls. There is no debugger: it stops the machine as
// NT_ASSERT does. Any IRQL.
DECLSPEC_NORETURN VOID NTAPI RtlAssert(_In_ PVOID VoidFailedAssertion, _In_ PVOID VoidFileName,
                                       _In_ ULONG LineNumber, _In_opt_ PSTR MutableMessage);

#ifndef DBG
#define DBG 1
#endif

#if DBG
// [x64] Interrupt 0x2C is NT's assertion trap: a bug check when no debugger takes it.
#define NT_ASSERT(Expression)                                                                      \
    ((Expression) ? (VOID)0 : __extension__({ __asm__ volatile("int $0x2c"); }))
#define KdPrint(ArgumentsInParentheses) DbgPrint ArgumentsInParentheses
#else
#define NT_ASSERT(Expression) ((VOID)sizeof((Expression) ? 1 : 0))
#define KdPrint(ArgumentsInParentheses)
#endif

// -------------------------------------------------------------------------------------------------
// Memory.

#define RtlCopyMemory(Destination, Source, ByteCount)                                              \
    __builtin_memcpy((Destination), (Source), (ByteCount))
#define RtlMoveMemory(Destination, Source, ByteCount)                                              \
    __builtin_memmove((Destination), (Source), (ByteCount))
#define RtlFillMemory(Destination, ByteCount, Fill)                                                \
    __builtin_memset((Destination), (Fill), (ByteCount))
#define RtlZeroMemory(Destination, ByteCount) __builtin_memset((Destination), 0, (ByteCount))
#define RtlEqualMemory(Left, Right, ByteCount) (__builtin_memcmp((Left), (Right), (ByteCount)) == 0)

// -------------------------------------------------------------------------------------------------
// Doubly linked lists. The head is a LIST_ENTRY of its own; the caller serialises.

FORCEINLINE VOID InitializeListHead(_Out_ PLIST_ENTRY ListHead)
{
    ListHead->Flink = ListHead;
    ListHead->Blink = ListHead;
}

FORCEINLINE BOOLEAN IsListEmpty(_In_ const LIST_ENTRY *ListHead)
{
    return ListHead->Flink == ListHead;
}

FORCEINLINE VOID InsertTailList(_Inout_ PLIST_ENTRY ListHead, _Out_ PLIST_ENTRY Entry)
{
    PLIST_ENTRY Last = ListHead->Blink;

    Entry->Flink = ListHead;
    Entry->Blink = Last;
    Last->Flink = Entry;
    ListHead->Blink = Entry;
}

FORCEINLINE VOID InsertHeadList(_Inout_ PLIST_ENTRY ListHead, _Out_ PLIST_ENTRY Entry)
{
    InsertTailList(ListHead->Flink, Entry);
}

// Returns TRUE when the list is empty afterwards.
FORCEINLINE BOOLEAN RemoveEntryList(_In_ PLIST_ENTRY Entry)
{
    PLIST_ENTRY Next = Entry->Flink;
    PLIST_ENTRY Previous = Entry->Blink;

    Previous->Flink = Next;
    Next->Blink = Previous;
    return Next == Previous;
}

// The list must not be empty: an empty one returns its head.
FORCEINLINE PLIST_ENTRY RemoveHeadList(_Inout_ PLIST_ENTRY ListHead)
{
    PLIST_ENTRY Entry = ListHead->Flink;

    RemoveEntryList(Entry);
    return Entry;
}

FORCEINLINE PLIST_ENTRY RemoveTailList(_Inout_ PLIST_ENTRY ListHead)
{
    PLIST_ENTRY Entry = ListHead->Blink;

    RemoveEntryList(Entry);
    return Entry;
}

// -------------------------------------------------------------------------------------------------
// Pool. Blocks of a page or more begin on a page; smaller ones on 16 bytes, and do not cross a page;
// cache-aligned ones begin on a cache line. Paged pool is never paged out (ours), but has its own
// limit: APC_LEVEL.

typedef enum _POOL_TYPE {
    NonPagedPool = 0,
    NonPagedPoolExecute = NonPagedPool,
    PagedPool = 1,
    NonPagedPoolMustSucceed = 2,
    NonPagedPoolCacheAligned = 4,
    PagedPoolCacheAligned = 5,
    NonPagedPoolCacheAlignedMustS = 6,
    NonPagedPoolNx = 0x200,
    NonPagedPoolNxCacheAligned = 0x204,
} POOL_TYPE;

#define POOL_QUOTA_FAIL_INSTEAD_OF_RAISE 8
#define POOL_RAISE_IF_ALLOCATION_FAILURE 16
#define POOL_COLD_ALLOCATION 0x100
#define POOL_NX_ALLOCATION 0x200
#define POOL_ZERO_ALLOCATION 0x400

typedef ULONG64 POOL_FLAGS;

#define POOL_FLAG_USE_QUOTA 0x0000000000000001ULL
#define POOL_FLAG_UNINITIALIZED 0x0000000000000002ULL
#define POOL_FLAG_SESSION 0x0000000000000004ULL
#define POOL_FLAG_CACHE_ALIGNED 0x0000000000000008ULL
#define POOL_FLAG_RESERVED1 0x0000000000000010ULL
#define POOL_FLAG_RAISE_ON_FAILURE 0x0000000000000020ULL
#define POOL_FLAG_NON_PAGED 0x0000000000000040ULL
#define POOL_FLAG_NON_PAGED_EXECUTE 0x0000000000000080ULL
#define POOL_FLAG_PAGED 0x0000000000000100ULL
#define POOL_FLAG_RESERVED2 0x0000000000000200ULL
#define POOL_FLAG_RESERVED3 0x0000000000000400ULL
#define POOL_FLAG_SPECIAL_POOL 0x0000000100000000ULL
#define POOL_FLAG_REQUIRED_END 0x0000000080000000ULL
#define POOL_FLAG_OPTIONAL_START 0x0000000100000000ULL

// A block of NumberOfBytes, zeroed unless POOL_FLAG_UNINITIALIZED; the caller frees it with
// ExFreePool(WithTag). One of NON_PAGED, NON_PAGED_EXECUTE and PAGED says where. Flags below 2^32 are
// required (an unknown one fails), those above optional.
// NULL: no memory, no bytes, tag 0, or a required flag that does not exist. With
// POOL_FLAG_RAISE_ON_FAILURE it raises instead: STATUS_INSUFFICIENT_RESOURCES without memory, else
// STATUS_INVALID_PARAMETER.
// BAD_POOL_CALLER 0x08: called above DISPATCH_LEVEL, or APC_LEVEL for paged pool.
_Must_inspect_result_ _Ret_maybenull_ _IRQL_requires_max_(DISPATCH_LEVEL)
PVOID NTAPI ExAllocatePool2(_In_ POOL_FLAGS Flags, _In_ SIZE_T NumberOfBytes, _In_ ULONG Tag);

typedef enum _EX_POOL_PRIORITY {
    LowPoolPriority = 0,
    LowPoolPrioritySpecialPoolOverrun = 8,
    LowPoolPrioritySpecialPoolUnderrun = 9,
    NormalPoolPriority = 16,
    NormalPoolPrioritySpecialPoolOverrun = 24,
    NormalPoolPrioritySpecialPoolUnderrun = 25,
    HighPoolPriority = 32,
    HighPoolPrioritySpecialPoolOverrun = 40,
    HighPoolPrioritySpecialPoolUnderrun = 41,
} EX_POOL_PRIORITY;

typedef enum _POOL_EXTENDED_PARAMETER_TYPE {
    PoolExtendedParameterInvalidType = 0,
    PoolExtendedParameterPriority,
    PoolExtendedParameterSecurePool,
    PoolExtendedParameterNumaNode,
    PoolExtendedParameterMax,
} POOL_EXTENDED_PARAMETER_TYPE;

typedef struct _POOL_EXTENDED_PARAMETER {
    struct {
        ULONG64 Type : 8; // POOL_EXTENDED_PARAMETER_TYPE
        ULONG64 Optional : 1;
        ULONG64 Reserved : 55;
    };
    union {
        ULONG64 Reserved2;
        PVOID Reserved3;
        EX_POOL_PRIORITY Priority;
        PVOID SecurePoolParams;
        ULONG PreferredNode;
    };
} POOL_EXTENDED_PARAMETER, *PPOOL_EXTENDED_PARAMETER;

typedef const POOL_EXTENDED_PARAMETER *PCPOOL_EXTENDED_PARAMETER;

C_ASSERT(sizeof(POOL_EXTENDED_PARAMETER) == 16);

// As ExAllocatePool2. A priority and a preferred node are taken note of and change nothing (ours); a
// parameter of another type fails the allocation, unless it is optional.
_Must_inspect_result_ _Ret_maybenull_ _IRQL_requires_max_(DISPATCH_LEVEL)
PVOID NTAPI ExAllocatePool3(_In_ POOL_FLAGS Flags, _In_ SIZE_T NumberOfBytes, _In_ ULONG Tag,
                            _In_reads_opt_(ExtendedParametersCount)
                                PCPOOL_EXTENDED_PARAMETER ExtendedParameters,
                            _In_ ULONG ExtendedParametersCount);

// The older routines. The contents are undefined unless POOL_ZERO_ALLOCATION; no bytes give a small
// block. All memory is no-execute, that of NonPagedPool too (ours). NULL: no memory; with
// POOL_RAISE_IF_ALLOCATION_FAILURE, STATUS_INSUFFICIENT_RESOURCES is raised instead.
// BAD_POOL_CALLER 0x08: IRQL, as above. 0x9A: must-succeed pool. 0x9B, 0x9C, 0x9D: tag 0, "BIG ", or
// one that cannot be printed.
_Must_inspect_result_ _Ret_maybenull_ _IRQL_requires_max_(DISPATCH_LEVEL)
PVOID NTAPI ExAllocatePoolWithTag(_In_ POOL_TYPE PoolType, _In_ SIZE_T NumberOfBytes,
                                  _In_ ULONG Tag);
_Must_inspect_result_ _Ret_maybenull_ _IRQL_requires_max_(DISPATCH_LEVEL)
PVOID NTAPI ExAllocatePoolWithTagPriority(_In_ POOL_TYPE PoolType, _In_ SIZE_T NumberOfBytes,
                                          _In_ ULONG Tag, _In_ EX_POOL_PRIORITY Priority);
_Must_inspect_result_ _Ret_maybenull_ _IRQL_requires_max_(DISPATCH_LEVEL)
PVOID NTAPI ExAllocatePool(_In_ POOL_TYPE PoolType, _In_ SIZE_T NumberOfBytes);

// These raise STATUS_INSUFFICIENT_RESOURCES when they fail, but for
// POOL_QUOTA_FAIL_INSTEAD_OF_RAISE. Nobody's quota is charged (ours: there are no processes).
_Must_inspect_result_ _Ret_maybenull_ _IRQL_requires_max_(DISPATCH_LEVEL)
PVOID NTAPI ExAllocatePoolWithQuotaTag(_In_ POOL_TYPE PoolType, _In_ SIZE_T NumberOfBytes,
                                       _In_ ULONG Tag);
_Must_inspect_result_ _Ret_maybenull_ _IRQL_requires_max_(DISPATCH_LEVEL)
PVOID NTAPI ExAllocatePoolWithQuota(_In_ POOL_TYPE PoolType, _In_ SIZE_T NumberOfBytes);

// Short forms of the older routines: with and without zeroing.
FORCEINLINE PVOID ExAllocatePoolZero(_In_ POOL_TYPE PoolType, _In_ SIZE_T NumberOfBytes,
                                     _In_ ULONG Tag)
{
    return ExAllocatePoolWithTag((POOL_TYPE)((ULONG)PoolType | POOL_ZERO_ALLOCATION), NumberOfBytes,
                                 Tag);
}

FORCEINLINE PVOID ExAllocatePoolUninitialized(_In_ POOL_TYPE PoolType, _In_ SIZE_T NumberOfBytes,
                                              _In_ ULONG Tag)
{
    return ExAllocatePoolWithTag(PoolType, NumberOfBytes, Tag);
}

FORCEINLINE PVOID ExAllocatePoolQuotaZero(_In_ POOL_TYPE PoolType, _In_ SIZE_T NumberOfBytes,
                                          _In_ ULONG Tag)
{
    return ExAllocatePoolWithQuotaTag((POOL_TYPE)((ULONG)PoolType | POOL_ZERO_ALLOCATION),
                                      NumberOfBytes, Tag);
}

FORCEINLINE PVOID ExAllocatePoolQuotaUninitialized(_In_ POOL_TYPE PoolType,
                                                   _In_ SIZE_T NumberOfBytes, _In_ ULONG Tag)
{
    return ExAllocatePoolWithQuotaTag(PoolType, NumberOfBytes, Tag);
}

FORCEINLINE PVOID ExAllocatePoolPriorityZero(_In_ POOL_TYPE PoolType, _In_ SIZE_T NumberOfBytes,
                                             _In_ ULONG Tag, _In_ EX_POOL_PRIORITY Priority)
{
    return ExAllocatePoolWithTagPriority((POOL_TYPE)((ULONG)PoolType | POOL_ZERO_ALLOCATION),
                                         NumberOfBytes, Tag, Priority);
}

FORCEINLINE PVOID ExAllocatePoolPriorityUninitialized(_In_ POOL_TYPE PoolType,
                                                      _In_ SIZE_T NumberOfBytes, _In_ ULONG Tag,
                                                      _In_ EX_POOL_PRIORITY Priority)
{
    return ExAllocatePoolWithTagPriority(PoolType, NumberOfBytes, Tag, Priority);
}

// Frees a block. Anything that is not a live block stops the machine with BAD_POOL_CALLER (0x07
// freed twice; 0x09 at too high an IRQL; 0x40, 0x41, 0x99 no block of the pool) or BAD_POOL_HEADER.
VOID NTAPI ExFreePool(_In_ PVOID P);

// As ExFreePool; a tag that is neither 0 nor the block's own stops with BAD_POOL_CALLER 0x0A.
VOID NTAPI ExFreePoolWithTag(_In_ PVOID P, _In_ ULONG Tag);

// The same for a block of ExAllocatePool3; the parameters have no meaning here.
VOID NTAPI ExFreePool2(_In_ PVOID P, _In_ ULONG Tag,
                       _In_reads_opt_(ExtendedParametersCount)
                           PCPOOL_EXTENDED_PARAMETER ExtendedParameters,
                       _In_ ULONG ExtendedParametersCount);
