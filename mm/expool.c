// The pool as drivers ask for it: flags and types become a kind of memory, and what happens on
// failure. At level 1 of the verifier each block comes from special.c, while there is memory for
// that, and is remembered with its caller.
//
// NonPagedPool is no-execute here, as if every driver had opted in to NonPagedPoolNx; only
// POOL_FLAG_NON_PAGED_EXECUTE, which cannot mean anything else, gives executable memory.
#include "mm/mi.h"

// One request, whichever routine it came through.
typedef struct _MI_POOL_REQUEST {
    MI_POOL_KIND Kind;
    SIZE_T ByteCount;
    ULONG Tag;
    BOOLEAN IsCacheAligned;
    BOOLEAN IsZeroed;
    BOOLEAN MustRaise; // on failure
    PVOID Caller;
} MI_POOL_REQUEST;

static VOID MiCheckPoolIrql(MI_POOL_KIND Kind, ULONG_PTR Type, SIZE_T ByteCount)
{
    const KIRQL Irql = KeGetCurrentIrql();
    const KIRQL MaximumIrql = Kind == MiPoolPaged ? APC_LEVEL : DISPATCH_LEVEL;
    if (Irql > MaximumIrql) {
        MiBugCheck(BAD_POOL_CALLER, 0x08, Irql, Type, ByteCount,
                   "%s pool is allocated at IRQL %u; it may be allocated up to IRQL %u",
                   Kind == MiPoolPaged ? "paged" : "nonpaged", Irql, MaximumIrql);
    }
}

// Special pool is a wish: where there is no memory for it, but some, the block is an ordinary one.
static PVOID MiAllocateTracked(const MI_POOL_REQUEST *Request)
{
    PVOID Block = MiAllocateSpecial(Request->Kind, Request->ByteCount, Request->Tag,
                                    Request->IsCacheAligned, Request->Caller);
    if (Block != NULL || MiIsFailingOnPurpose()) {
        return Block;
    }
    Block =
        MiAllocatePoolOf(Request->Kind, Request->ByteCount, Request->Tag, Request->IsCacheAligned);
    if (Block != NULL) {
        MiTrack(MiTrackPool, Block, Request->ByteCount, Request->Tag, Request->Caller);
    }
    return Block;
}

// What is documented as uninitialised is filled, so that nobody comes to rely on zeros.
static PVOID MiAllocateVerified(const MI_POOL_REQUEST *Request)
{
    PVOID Block = MiMustFail(MM_FAIL_POOL) ? NULL : MiAllocateTracked(Request);
    if (Block != NULL && !Request->IsZeroed) {
        MiFillRandom(Block, Request->ByteCount);
    }
    return Block;
}

static inline PVOID MiAllocateRequested(const CHAR *Routine, const MI_POOL_REQUEST *Request)
{
    PVOID Block = MiIsVerifying() ? MiAllocateVerified(Request)
                                  : MiAllocatePoolOf(Request->Kind, Request->ByteCount,
                                                     Request->Tag, Request->IsCacheAligned);
    if (Block == NULL) {
        MiRefusePlain(Routine, MiReasonResources);
        if (Request->MustRaise) {
            KiRaiseStatus(Routine, STATUS_INSUFFICIENT_RESOURCES, Request->Caller);
        }
    } else if (Request->IsZeroed) {
        RtlZeroMemory(Block, Request->ByteCount);
    }
    return Block;
}

//
// By flags.
//

#define MI_POOL_KIND_FLAGS (POOL_FLAG_NON_PAGED | POOL_FLAG_NON_PAGED_EXECUTE | POOL_FLAG_PAGED)
#define MI_POOL_KNOWN_FLAGS                                                                        \
    (MI_POOL_KIND_FLAGS | POOL_FLAG_USE_QUOTA | POOL_FLAG_UNINITIALIZED | POOL_FLAG_SESSION |      \
     POOL_FLAG_CACHE_ALIGNED | POOL_FLAG_RAISE_ON_FAILURE)
#define MI_POOL_REQUIRED_FLAGS 0xFFFFFFFFull // the others are wishes, ignored when unknown

static BOOLEAN MiArePoolFlagsLegal(POOL_FLAGS Flags)
{
    const POOL_FLAGS Kind = Flags & MI_POOL_KIND_FLAGS;
    return (Flags & MI_POOL_REQUIRED_FLAGS & ~(POOL_FLAGS)MI_POOL_KNOWN_FLAGS) == 0 && Kind != 0 &&
           (Kind & (Kind - 1)) == 0;
}

// No kind, or several, counts as the nonpaged one until it is refused.
static MI_POOL_KIND MiKindOfFlags(POOL_FLAGS Flags)
{
    const POOL_FLAGS Kind = Flags & MI_POOL_KIND_FLAGS;
    return Kind == POOL_FLAG_PAGED               ? MiPoolPaged
           : Kind == POOL_FLAG_NON_PAGED_EXECUTE ? MiPoolExecutable
                                                 : MiPoolNonPaged;
}

static PVOID MiRefusePool(const CHAR *Routine, MI_REASON Reason, BOOLEAN MustRaise, PVOID Caller)
{
    MiRefusePlain(Routine, Reason);
    if (MustRaise) {
        KiRaiseStatus(Routine, STATUS_INVALID_PARAMETER, Caller);
    }
    return NULL;
}

static PVOID MiAllocateByFlags(const CHAR *Routine, POOL_FLAGS Flags, SIZE_T ByteCount, ULONG Tag,
                               PVOID Caller)
{
    const MI_POOL_KIND Kind = MiKindOfFlags(Flags);
    const BOOLEAN MustRaise = (Flags & POOL_FLAG_RAISE_ON_FAILURE) != 0;
    if (MiIsVerifying()) {
        MiVerifyAllocatePool(Kind, Flags, ByteCount, Tag, Caller);
    }
    MiCheckPoolIrql(Kind, (ULONG_PTR)Flags, ByteCount);
    if (!MiArePoolFlagsLegal(Flags) || ByteCount == 0 || Tag == 0) {
        return MiRefusePool(Routine,
                            Tag == 0         ? MiReasonTag
                            : ByteCount == 0 ? MiReasonZeroBytes
                                             : MiReasonFlags,
                            MustRaise, Caller);
    }
    const MI_POOL_REQUEST Request = {
        .Kind = Kind,
        .ByteCount = ByteCount,
        .Tag = Tag,
        .IsCacheAligned = (Flags & POOL_FLAG_CACHE_ALIGNED) != 0,
        .IsZeroed = (Flags & POOL_FLAG_UNINITIALIZED) == 0,
        .MustRaise = MustRaise,
        .Caller = Caller,
    };
    return MiAllocateRequested(Routine, &Request);
}

PVOID NTAPI ExAllocatePool2(POOL_FLAGS Flags, SIZE_T NumberOfBytes, ULONG Tag)
{
    return MiAllocateByFlags(__func__, Flags, NumberOfBytes, Tag, __builtin_return_address(0));
}

// Whether each parameter is one that we can honour, or need not.
static BOOLEAN MiAreParametersLegal(PCPOOL_EXTENDED_PARAMETER Parameters, ULONG Count)
{
    for (ULONG Index = 0; Index < Count; Index += 1) {
        const BOOLEAN IsKnown = Parameters[Index].Type == PoolExtendedParameterPriority ||
                                Parameters[Index].Type == PoolExtendedParameterNumaNode;
        if (!IsKnown && !Parameters[Index].Optional) {
            return FALSE;
        }
    }
    return TRUE;
}

PVOID NTAPI ExAllocatePool3(POOL_FLAGS Flags, SIZE_T NumberOfBytes, ULONG Tag,
                            PCPOOL_EXTENDED_PARAMETER ExtendedParameters,
                            ULONG ExtendedParametersCount)
{
    if (!MiAreParametersLegal(ExtendedParameters, ExtendedParametersCount)) {
        return MiRefusePool(__func__, MiReasonFlags, (Flags & POOL_FLAG_RAISE_ON_FAILURE) != 0,
                            __builtin_return_address(0));
    }
    return MiAllocateByFlags(__func__, Flags, NumberOfBytes, Tag, __builtin_return_address(0));
}

//
// By type.
//

#define MI_BIG_TAG ' GIB' // "BIG " in memory: the pool's own
#define MI_PAGED_TYPE 1
#define MI_MUST_SUCCEED_TYPE 2 // in every family of types the same bits
#define MI_CACHE_ALIGNED_TYPE 4
#define MI_NO_TAG 'enoN' // "None": of the routines that take no tag

static BOOLEAN MiIsTagPrintable(ULONG Tag)
{
    for (ULONG Shift = 0; Shift < 32; Shift += 8) {
        const ULONG Character = (Tag >> Shift) & 0xFF;
        if (Character < ' ' || Character > '~') {
            return FALSE;
        }
    }
    return TRUE;
}

static VOID MiCheckNewTag(POOL_TYPE PoolType, SIZE_T ByteCount, ULONG Tag, PVOID Caller)
{
    const ULONG_PTR Subcode = Tag == 0                 ? 0x9B
                              : Tag == MI_BIG_TAG      ? 0x9C
                              : !MiIsTagPrintable(Tag) ? 0x9D
                                                       : 0;
    if (Subcode != 0) {
        MiBugCheck(BAD_POOL_CALLER, Subcode, (ULONG_PTR)PoolType, ByteCount, (ULONG_PTR)Caller,
                   "pool is asked for with tag 0x%08x; a tag is four printable characters, and not "
                   "\"BIG \"",
                   Tag);
    }
}

static VOID MiCheckPoolType(POOL_TYPE PoolType, SIZE_T ByteCount, ULONG Tag, PVOID Caller)
{
    MiCheckNewTag(PoolType, ByteCount, Tag, Caller);
    if (((ULONG)PoolType & (MI_MUST_SUCCEED_TYPE | MI_PAGED_TYPE)) == MI_MUST_SUCCEED_TYPE) {
        MiBugCheck(BAD_POOL_CALLER, 0x9A, (ULONG_PTR)PoolType, ByteCount, Tag,
                   "must-succeed pool is asked for; there is none");
    }
}

static VOID MiVerifyPoolType(MI_POOL_KIND Kind, POOL_TYPE PoolType, SIZE_T ByteCount, ULONG Tag,
                             PVOID Caller)
{
    const BOOLEAN IsExecutable =
        Kind == MiPoolNonPaged && ((ULONG)PoolType & POOL_NX_ALLOCATION) == 0;
    if (ByteCount == 0) {
        MiBugCheck(BAD_POOL_CALLER, 0x00, 0, (ULONG_PTR)PoolType, Tag,
                   "no bytes of pool are asked for with tag 0x%08x", Tag);
    }
    MiVerifyAllocatePool(IsExecutable ? MiPoolExecutable : Kind, (ULONG)PoolType, ByteCount, Tag,
                         Caller);
}

static PVOID MiAllocateByType(const CHAR *Routine, POOL_TYPE PoolType, SIZE_T ByteCount, ULONG Tag,
                              BOOLEAN MustRaise, PVOID Caller)
{
    const MI_POOL_KIND Kind = ((ULONG)PoolType & MI_PAGED_TYPE) != 0 ? MiPoolPaged : MiPoolNonPaged;
    if (MiIsVerifying()) {
        MiVerifyPoolType(Kind, PoolType, ByteCount, Tag, Caller);
    }
    MiCheckPoolIrql(Kind, (ULONG_PTR)PoolType, ByteCount);
    MiCheckPoolType(PoolType, ByteCount, Tag, Caller);
    const MI_POOL_REQUEST Request = {
        .Kind = Kind,
        .ByteCount = ByteCount != 0 ? ByteCount : 1,
        .Tag = Tag,
        .IsCacheAligned = ((ULONG)PoolType & MI_CACHE_ALIGNED_TYPE) != 0,
        .IsZeroed = ((ULONG)PoolType & POOL_ZERO_ALLOCATION) != 0,
        .MustRaise = MustRaise,
        .Caller = Caller,
    };
    return MiAllocateRequested(Routine, &Request);
}

static BOOLEAN MiRaisesByType(POOL_TYPE PoolType)
{
    return ((ULONG)PoolType & POOL_RAISE_IF_ALLOCATION_FAILURE) != 0;
}

PVOID NTAPI ExAllocatePoolWithTag(POOL_TYPE PoolType, SIZE_T NumberOfBytes, ULONG Tag)
{
    return MiAllocateByType(__func__, PoolType, NumberOfBytes, Tag, MiRaisesByType(PoolType),
                            __builtin_return_address(0));
}

PVOID NTAPI ExAllocatePool(POOL_TYPE PoolType, SIZE_T NumberOfBytes)
{
    return MiAllocateByType(__func__, PoolType, NumberOfBytes, MI_NO_TAG, MiRaisesByType(PoolType),
                            __builtin_return_address(0));
}

// There are no processes whose quota could be charged; what remains is what happens on failure.
PVOID NTAPI ExAllocatePoolWithQuotaTag(POOL_TYPE PoolType, SIZE_T NumberOfBytes, ULONG Tag)
{
    const BOOLEAN MustRaise = ((ULONG)PoolType & POOL_QUOTA_FAIL_INSTEAD_OF_RAISE) == 0;
    return MiAllocateByType(__func__, PoolType, NumberOfBytes, Tag, MustRaise,
                            __builtin_return_address(0));
}

PVOID NTAPI ExAllocatePoolWithQuota(POOL_TYPE PoolType, SIZE_T NumberOfBytes)
{
    const BOOLEAN MustRaise = ((ULONG)PoolType & POOL_QUOTA_FAIL_INSTEAD_OF_RAISE) == 0;
    return MiAllocateByType(__func__, PoolType, NumberOfBytes, MI_NO_TAG, MustRaise,
                            __builtin_return_address(0));
}

PVOID NTAPI ExAllocatePoolWithTagPriority(POOL_TYPE PoolType, SIZE_T NumberOfBytes, ULONG Tag,
                                          EX_POOL_PRIORITY Priority)
{
    UNREFERENCED_PARAMETER(Priority);
    return MiAllocateByType(__func__, PoolType, NumberOfBytes, Tag, MiRaisesByType(PoolType),
                            __builtin_return_address(0));
}

//
// Free.
//

VOID NTAPI ExFreePoolWithTag(PVOID P, ULONG Tag)
{
    MiFreePoolFor(P, Tag, __builtin_return_address(0));
}

VOID NTAPI ExFreePool(PVOID P)
{
    MiFreePoolFor(P, 0, __builtin_return_address(0));
}

VOID NTAPI ExFreePool2(PVOID P, ULONG Tag, PCPOOL_EXTENDED_PARAMETER ExtendedParameters,
                       ULONG ExtendedParametersCount)
{
    UNREFERENCED_PARAMETER(ExtendedParameters);
    UNREFERENCED_PARAMETER(ExtendedParametersCount);
    MiFreePoolFor(P, Tag, __builtin_return_address(0));
}
