// Refusals: why the last request was turned down, and who was in the way.
//
// A routine that returns NULL or a status cannot say more than "no"; a person who debugs a driver
// wants to know which rule it was and who owns the thing. The exported routines leave that here, in
// a ring that a reader can print.
//
// Lock: none. A slot is claimed by an atomic increment; a reader that races with a writer may see a
// torn entry of the ring's oldest slot, which is why readers take the newest.
#include "mm/mi.h"

#define MI_REFUSAL_COUNT 32

typedef struct _MI_REFUSAL {
    const CHAR *Routine;
    MI_REASON Reason;
    MI_PFN_RANGE Range;
    CHAR Owner[MI_OWNER_CHARS];
} MI_REFUSAL;

static MI_REFUSAL MiRefusals[MI_REFUSAL_COUNT];
static ULONG MiRefusalCount;

static const CHAR *const MiReasonText[] = {
    [MiReasonProtection] = "no such protection, or protections that exclude each other",
    [MiReasonCacheType] = "no such cache type",
    [MiReasonZeroBytes] = "zero bytes",
    [MiReasonBeyondPhysical] = "the range wraps or leaves the processor's physical addresses",
    [MiReasonAlignment] = "not page aligned, or not whole pages",
    [MiReasonTooLarge] = "more than this routine can describe",
    [MiReasonRam] = "RAM that the operating system uses",
    [MiReasonPageTable] = "a live page table",
    [MiReasonKernel] = "the kernel's own image or data",
    [MiReasonBadMemory] = "memory that firmware calls defective",
    [MiReasonFirmware] = "reserved by firmware for itself",
    [MiReasonMixed] = "partly RAM, partly device memory",
    [MiReasonCacheConflict] = "already in use with another cache type",
    [MiReasonClaimed] = "claimed already",
    [MiReasonNoSpace] = "no free I/O space there",
    [MiReasonUnclaimedFrame] = "device memory that no MDL and no mapping has claimed",
    [MiReasonMdlState] = "the MDL is not locked, or is mapped already",
    [MiReasonReservationSize] = "the MDL spans more pages than the reservation",
    [MiReasonUserMode] = "there is no user mode",
    [MiReasonFlags] = "flags that are unknown, not offered, or exclude each other",
    [MiReasonTag] = "pool tag 0",
    [MiReasonWindow] = "no address satisfies these limits",
    [MiReasonNode] = "there is one node, 0, and one partition, NULL",
    [MiReasonIrql] = "not at this IRQL",
    [MiReasonAccess] = "an address where nothing is mapped, or not for this access",
    [MiReasonMdlInUse] = "the MDL describes pages already",
    [MiReasonNoCrash] = "only within a bug check",
    [MiReasonResources] = "no pool, frames or system addresses left",
};
C_ASSERT(ARRAYSIZE(MiReasonText) == MiReasonCount);

VOID MiRefuse(const CHAR *Routine, MI_REASON Reason, MI_PFN_RANGE Range, const CHAR *Owner)
{
    const ULONG Slot = __atomic_fetch_add(&MiRefusalCount, 1, __ATOMIC_RELAXED) % MI_REFUSAL_COUNT;
    MI_REFUSAL *Refusal = &MiRefusals[Slot];
    Refusal->Routine = Routine;
    Refusal->Reason = Reason;
    Refusal->Range = Range;
    RtlCopyString(Refusal->Owner, sizeof(Refusal->Owner), Owner != NULL ? Owner : "");
}

VOID MiRefusePlain(const CHAR *Routine, MI_REASON Reason)
{
    MiRefuse(Routine, Reason, (MI_PFN_RANGE){0, 0}, NULL);
}

ULONG MmRefusalCount(VOID)
{
    return __atomic_load_n(&MiRefusalCount, __ATOMIC_RELAXED);
}

VOID MmDescribeLastRefusal(PCHAR Buffer, SIZE_T ByteCount)
{
    const ULONG Count = MmRefusalCount();
    if (Count == 0) {
        RtlCopyString(Buffer, ByteCount, "");
        return;
    }
    const MI_REFUSAL *Refusal = &MiRefusals[(Count - 1) % MI_REFUSAL_COUNT];
    const CHAR *Held = Refusal->Owner[0] != '\0' ? ", held by " : "";
    if (Refusal->Range.LastPfn == 0) {
        RtlFormatBuffer(Buffer, ByteCount, "%s refused: %s%s%s", Refusal->Routine,
                        MiReasonText[Refusal->Reason], Held, Refusal->Owner);
        return;
    }
    RtlFormatBuffer(Buffer, ByteCount, "%s refused frames 0x%llx-0x%llx: %s%s%s", Refusal->Routine,
                    Refusal->Range.FirstPfn, Refusal->Range.LastPfn, MiReasonText[Refusal->Reason],
                    Held, Refusal->Owner);
}
