// Stale translations on other processors. On each of them a reader touches one mapping, as fast as it
// can, while this processor unmaps it and uses its addresses and its frames again; each processor is
// the one that unmaps, in turn.
//
//   this processor   map, mark the frame ─▶ Shown ─▶ (Changing) unmap ─▶ Gone ─▶ map another frame ─▶ ...
//   a reader         Phase? ─▶ touch ─▶ Phase still the same? then the touch is judged ─▶ Phase? ...
//
// What is right, for a touch that began after the phase and ended before the next:
//   Shown   the touch succeeds, and reads the mark of this round: neither another round's, which an old
//           translation of the address would show, nor nothing
//   Gone    the touch faults: at level 1 of the verifier, and for a large leaf or a right that was taken
//           away. Otherwise it may also read the old frame's mark, never another's: such addresses rest until
//           everybody has forgotten them
// Each round has a mark of its own, so nothing that was ever shown is taken for what is shown now.
//
// In three rounds of four the readers are waited for in each phase, so that the translation is in their
// TLBs; in the others they race with the unmap, which may find an entry that they are just about to use.
//
// The boot options `rounds=N` (of each kind of mapping; few by default) and `seconds=N` (for each kind,
// at most) make it longer.
#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "kernel/inc/rtl.h"
#include "tests/kernel/tests.h"

#define FEW_ROUNDS 600
#define FEW_SECONDS 1

#define LEAF_PAGES 512
#define FRAME_SETS 7
#define SMALL_PAGES 3
#define RANGE_PAGES 40 // more than any batch holds
#define SECOND_CYCLES KeGetCyclesPerSecond()

typedef enum _PHASE {
    PhaseChanging,
    PhaseShown,
    PhaseGone,
    PhaseOver,
} PHASE;

#define PHASE_BITS 2

typedef enum _TOUCH {
    TouchRead,
    TouchWrite, // beside the mark
} TOUCH;

typedef struct _KIND {
    BOOLEAN (*Prepare)(VOID);
    VOID (*Map)(ULONG Set);   // sets It.Va and It.Touch, with the mark already in the page It.Page
    VOID (*Unmap)(ULONG Set); // takes it away again
    VOID (*Finish)(VOID);
    ULONG PageCount;      // of which each round touches one
    ULONG SetCount;       // sets of frames, of which each round shows one
    BOOLEAN IsGoneAtOnce; // at level 0, too: what is large is never left for later, nor are rights
} KIND;

// On a line of its own, as it changes all the time.
typedef struct DECLSPEC_ALIGN(64) _READER {
    volatile ULONG64 Seen; // the last phase in which it was judged
    ULONG Number;          // its processor
    PKTHREAD Thread;
    ULONG64 TouchCount;
    ULONG64 StaleCount;
    ULONG64 FirstPhase; // of the first stale touch
    ULONG64 FirstValue;
} READER;

static struct {
    volatile ULONG64
        Phase DECLSPEC_ALIGN(64); // round << PHASE_BITS | PHASE; what follows is constant but
                                  // while it is PhaseChanging
    PVOID Va;                     // what is touched
    ULONG64 Mark;
    TOUCH Touch;
    BOOLEAN GoneFaults; // else it may also read the mark
    PVOID BaseVa;       // of the mapping
    ULONG Page;         // in which the touch is
    ULONG PageCount;
    PVOID Reservation;
    PVOID Window; // shows all device memory that is used, all the time
    PMDL Mdls[FRAME_SETS];
    ULONG64 Pa[FRAME_SETS]; // where the frames of a set are side by side
    READER Readers[KE_MAXIMUM_PROCESSORS];
} It;

// -------------------------------------------------------------------------------------------------
// Readers.

static BOOLEAN IsRight(PHASE Phase, KE_PROBE_RESULT Result, ULONG64 Value)
{
    const BOOLEAN ShowsMark = !Result.Faulted && Value == It.Mark;
    return Phase == PhaseShown ? ShowsMark : Result.Faulted || (ShowsMark && !It.GoneFaults);
}

static KE_PROBE_RESULT Touch(PULONG64 Value)
{
    if (It.Touch == TouchRead) {
        return KeProbeRead(It.Va, Value);
    }
    *Value = It.Mark;
    return KeProbeWrite(KtAdd(It.Va, sizeof(ULONG64)), 1);
}

static VOID NTAPI KeepTouching(PVOID Context)
{
    READER *Reader = Context;
    KeSetSystemAffinityThread((KAFFINITY)1 << Reader->Number);
    for (;;) {
        const ULONG64 Before = __atomic_load_n(&It.Phase, __ATOMIC_ACQUIRE);
        const PHASE Phase = (PHASE)(Before & ((1u << PHASE_BITS) - 1));
        if (Phase == PhaseOver) {
            return;
        }
        ULONG64 Value = 0;
        const KE_PROBE_RESULT Result = Touch(&Value);
        const BOOLEAN IsGood = Phase == PhaseChanging || IsRight(Phase, Result, Value);
        if (__atomic_load_n(&It.Phase, __ATOMIC_ACQUIRE) != Before || Phase == PhaseChanging) {
            continue;
        }
        Reader->TouchCount += 1;
        if (!IsGood && Reader->StaleCount++ == 0) {
            Reader->FirstPhase = Before;
            Reader->FirstValue = Result.Faulted ? 0 : Value;
        }
        __atomic_store_n(&Reader->Seen, Before, __ATOMIC_RELEASE);
    }
}

static BOOLEAN StartReaders(ULONG Unmapper)
{
    BOOLEAN HasAll = TRUE;
    for (ULONG Number = 0; Number < (ULONG)KeNumberProcessors; Number += 1) {
        READER *Reader = &It.Readers[Number];
        RtlZeroMemory(Reader, sizeof(*Reader));
        Reader->Number = Number;
        Reader->Thread = Number == Unmapper ? NULL : KtStartThread(KeepTouching, Reader, 0);
        HasAll = HasAll && (Number == Unmapper || Reader->Thread != NULL);
    }
    return HasAll;
}

static VOID StopReaders(ULONG Unmapper)
{
    __atomic_store_n(&It.Phase, PhaseOver, __ATOMIC_RELEASE);
    for (ULONG Number = 0; Number < (ULONG)KeNumberProcessors; Number += 1) {
        const READER *Reader = &It.Readers[Number];
        KtJoin(Reader->Thread);
        KtSetContext("unmapped by %u, touched by %u (%llu times): round %llu, phase %llu, value "
                     "0x%llx",
                     Unmapper, Number, Reader->TouchCount, Reader->FirstPhase >> PHASE_BITS,
                     Reader->FirstPhase & ((1u << PHASE_BITS) - 1), Reader->FirstValue);
        KT_EQUAL(Reader->StaleCount, 0);
    }
}

static ULONG64 SumOfTouches(ULONG64 *StaleCount)
{
    ULONG64 Touches = 0;
    *StaleCount = 0;
    for (ULONG Number = 0; Number < (ULONG)KeNumberProcessors; Number += 1) {
        Touches += It.Readers[Number].TouchCount;
        *StaleCount += It.Readers[Number].StaleCount;
    }
    return Touches;
}

// -------------------------------------------------------------------------------------------------
// Rounds.

static VOID Enter(ULONG64 Round, PHASE Phase)
{
    __atomic_store_n(&It.Phase, Round << PHASE_BITS | Phase, __ATOMIC_SEQ_CST);
}

// FALSE: one does not come.
static BOOLEAN AwaitReaders(VOID)
{
    const ULONG64 Deadline = KeReadCycles() + KT_LATEST_MS / 1000 * SECOND_CYCLES;
    for (ULONG Number = 0; Number < (ULONG)KeNumberProcessors; Number += 1) {
        const READER *Reader = &It.Readers[Number];
        while (Reader->Thread != NULL &&
               __atomic_load_n(&Reader->Seen, __ATOMIC_ACQUIRE) != It.Phase) {
            if (KeReadCycles() > Deadline) {
                return FALSE;
            }
            KeArchPause();
        }
    }
    return TRUE;
}

static ULONG Scramble(ULONG64 Round)
{
    return (ULONG)((Round * 0x9E3779B97F4A7C15) >> 40);
}

static VOID MarkPage(ULONG Set, ULONG64 Mark)
{
    const ULONG64 Offset = (ULONG64)It.Page * PAGE_SIZE;
    PVOID Va;
    if (It.Window != NULL) {
        Va = KtAdd(It.Window, It.Pa[Set] - It.Pa[0] + Offset);
    } else if (It.Pa[Set] != 0) {
        Va = KtDirectMap(It.Pa[Set] + Offset);
    } else {
        Va = KtDirectMap(KtPageAddress(It.Mdls[Set], It.Page));
    }
    *(volatile ULONG64 *)Va = Mark;
}

static ULONG ChoosePageCount(const KIND *Kind, ULONG Set, ULONG Random)
{
    switch (Kind->PageCount) {
    case RANGE_PAGES:
        return 2 + Random % (RANGE_PAGES - 1);
    case SMALL_PAGES:
        return MmGetMdlByteCount(It.Mdls[Set]) / PAGE_SIZE;
    default:
        return Kind->PageCount;
    }
}

// FALSE: it is no use going on.
static BOOLEAN RunRound(const KIND *Kind, ULONG64 Round)
{
    const ULONG Random = Scramble(Round);
    const ULONG Set = Random / 16 % Kind->SetCount;
    It.PageCount = ChoosePageCount(Kind, Set, Random / 16);
    It.Page = Random / 1024 % It.PageCount;
    It.Mark = Round << 8 | 0x5A;
    It.GoneFaults = Kind->IsGoneAtOnce || MmVerifierLevel != 0;
    MarkPage(Set, It.Mark);
    Kind->Map(Set);
    if (!KT_CHECK(It.BaseVa != NULL)) {
        return FALSE;
    }
    It.Va = KtAdd(It.BaseVa, (ULONG64)It.Page * PAGE_SIZE);
    Enter(Round, PhaseShown);
    if (Random % 4 != 0 && !KT_CHECK(AwaitReaders())) {
        return FALSE;
    }
    Enter(Round, PhaseChanging);
    Kind->Unmap(Set);
    Enter(Round, PhaseGone);
    const BOOLEAN HasCome = Random / 4 % 4 == 0 || KT_CHECK(AwaitReaders());
    Enter(Round, PhaseChanging);
    return HasCome;
}

// How far one processor is to go. Returns the round it has come to.
static ULONG64 RunOn(const KIND *Kind, ULONG Unmapper, ULONG64 Round, ULONG64 EndRound,
                     ULONG64 *TouchCount)
{
    const ULONG64 Deadline = KeReadCycles() + KtNumberOption("seconds", FEW_SECONDS) *
                                                  SECOND_CYCLES / (ULONG)KeNumberProcessors;
    ULONG64 StaleCount = 0;
    KeSetSystemAffinityThread((KAFFINITY)1 << Unmapper);
    Enter(Round, PhaseChanging);
    It.Va = &It; // until something is shown
    if (KT_CHECK(StartReaders(Unmapper))) {
        while (Round < EndRound && KeReadCycles() < Deadline && StaleCount == 0 &&
               RunRound(Kind, Round)) {
            Round += 1;
            (VOID) SumOfTouches(&StaleCount);
        }
    }
    StopReaders(Unmapper);
    *TouchCount += SumOfTouches(&StaleCount);
    KeRevertToUserAffinityThread();
    return Round;
}

static ULONG64 RoundsInAll;

static VOID RunKind(const KIND *Kind)
{
    if (KeNumberProcessors == 1) {
        KT_SKIP("one processor");
    }
    RtlZeroMemory(&It, sizeof(It));
    if (KT_CHECK(Kind->Prepare())) {
        const ULONG64 Start = KeReadCycles();
        const ULONG64 Share = KtNumberOption("rounds", FEW_ROUNDS) / (ULONG)KeNumberProcessors + 1;
        ULONG64 TouchCount = 0;
        ULONG64 Round = 1;
        for (ULONG Unmapper = 0; Unmapper < (ULONG)KeNumberProcessors; Unmapper += 1) {
            Round = RunOn(Kind, Unmapper, Round, Round + Share, &TouchCount);
        }
        RoundsInAll += Round - 1;
        DbgPrint("    # %llu rounds, %llu touches by readers, %llu ms; %llu rounds in all\n",
                 Round - 1, TouchCount, (KeReadCycles() - Start) / (SECOND_CYCLES / 1000),
                 RoundsInAll);
    }
    Kind->Finish();
    KtSettle(); // the readers have ended, and the system may still be about to free their stacks
}

// -------------------------------------------------------------------------------------------------
// Kinds of mappings.

static VOID FreeMdls(VOID)
{
    for (ULONG Set = 0; Set < FRAME_SETS; Set += 1) {
        if (It.Mdls[Set] != NULL) {
            KtFreePages(It.Mdls[Set]);
        }
    }
}

static PMDL AllocateContiguous(ULONG PageCount)
{
    return KtAllocateRun(PageCount);
}

static BOOLEAN PrepareRuns(ULONG PageCount)
{
    for (ULONG Set = 0; Set < FRAME_SETS; Set += 1) {
        It.Mdls[Set] = AllocateContiguous(PageCount);
        if (It.Mdls[Set] == NULL) {
            return FALSE;
        }
        It.Pa[Set] = KtPageAddress(It.Mdls[Set], 0);
    }
    return TRUE;
}

static BOOLEAN PreparePages(VOID)
{
    return PrepareRuns(1);
}

static BOOLEAN PrepareRanges(VOID)
{
    return PrepareRuns(RANGE_PAGES);
}

// Two large frames, in a run that is longer by one.
#define LEAF_SETS 2

static BOOLEAN PrepareLeaves(VOID)
{
    It.Mdls[0] = AllocateContiguous((LEAF_SETS + 1) * LEAF_PAGES);
    if (It.Mdls[0] == NULL) {
        return FALSE;
    }
    const ULONG64 LeafBytes = LEAF_PAGES * PAGE_SIZE;
    It.Pa[0] = (KtPageAddress(It.Mdls[0], 0) + LeafBytes - 1) & ~(LeafBytes - 1);
    It.Pa[1] = It.Pa[0] + LeafBytes;
    return TRUE;
}

static BOOLEAN PrepareDevice(VOID)
{
    const ULONG64 Pa = KtFindDeviceMemory();
    It.Window =
        MmMapIoSpaceEx(KtPhysical(Pa), FRAME_SETS * PAGE_SIZE, PAGE_READWRITE | PAGE_NOCACHE);
    for (ULONG Set = 0; Set < FRAME_SETS; Set += 1) {
        It.Pa[Set] = Pa + (ULONG64)Set * PAGE_SIZE;
    }
    return It.Window != NULL;
}

static VOID MapDevice(ULONG Set)
{
    It.BaseVa = MmMapIoSpaceEx(KtPhysical(It.Pa[Set]), PAGE_SIZE, PAGE_READWRITE | PAGE_NOCACHE);
}

static VOID FreeWindow(VOID)
{
    if (It.Window != NULL) {
        MmUnmapIoSpace(It.Window, FRAME_SETS * PAGE_SIZE);
    }
}

static VOID MapIo(ULONG Set)
{
    It.BaseVa =
        MmMapIoSpaceEx(KtPhysical(It.Pa[Set]), (SIZE_T)It.PageCount * PAGE_SIZE, PAGE_READWRITE);
}

static VOID UnmapIo(ULONG Set)
{
    UNREFERENCED_PARAMETER(Set);
    MmUnmapIoSpace(It.BaseVa, (SIZE_T)It.PageCount * PAGE_SIZE);
}

// Some are of one page, which is unmapped in a way of its own.
static BOOLEAN PrepareMdls(VOID)
{
    for (ULONG Set = 0; Set < FRAME_SETS; Set += 1) {
        It.Mdls[Set] = KtAllocatePages(Set % 2 == 0 ? SMALL_PAGES : 1);
        if (It.Mdls[Set] == NULL) {
            return FALSE;
        }
    }
    return TRUE;
}

static VOID MapMdl(ULONG Set)
{
    It.BaseVa = MmMapLockedPagesSpecifyCache(It.Mdls[Set], KernelMode, MmCached, NULL, FALSE,
                                             NormalPagePriority | MdlMappingNoExecute);
}

static VOID UnmapMdl(ULONG Set)
{
    MmUnmapLockedPages(It.BaseVa, It.Mdls[Set]);
}

static BOOLEAN PrepareReservation(VOID)
{
    It.Reservation = MmAllocateMappingAddress(SMALL_PAGES * PAGE_SIZE, KT_TAG);
    return It.Reservation != NULL && PrepareMdls();
}

static VOID MapReserved(ULONG Set)
{
    It.BaseVa = MmMapLockedPagesWithReservedMapping(It.Reservation, KT_TAG, It.Mdls[Set], MmCached);
}

static VOID UnmapReserved(ULONG Set)
{
    MmUnmapReservedMapping(It.BaseVa, KT_TAG, It.Mdls[Set]);
}

static VOID FreeReservation(VOID)
{
    if (It.Reservation != NULL) {
        MmFreeMappingAddress(It.Reservation, KT_TAG);
    }
    FreeMdls();
}

static BOOLEAN PrepareProtected(VOID)
{
    It.Mdls[0] = KtAllocatePages(SMALL_PAGES);
    if (It.Mdls[0] != NULL) {
        MapMdl(0);
    }
    return It.Mdls[0] != NULL && It.BaseVa != NULL;
}

static VOID AllowAll(ULONG Set)
{
    It.Touch = It.Mark >> 8 & 1 ? TouchWrite : TouchRead;
    KT_EQUAL(MmProtectMdlSystemAddress(It.Mdls[Set], PAGE_READWRITE), STATUS_SUCCESS);
}

static VOID AllowLess(ULONG Set)
{
    KT_EQUAL(MmProtectMdlSystemAddress(It.Mdls[Set],
                                       It.Touch == TouchWrite ? PAGE_READONLY : PAGE_NOACCESS),
             STATUS_SUCCESS);
}

static VOID UnmapSinglePages(VOID)
{
    static const KIND Kind = {PreparePages, MapIo, UnmapIo, FreeMdls, 1, FRAME_SETS, FALSE};
    RunKind(&Kind);
}

static VOID UnmapDevicePages(VOID)
{
    static const KIND Kind = {PrepareDevice, MapDevice, UnmapIo, FreeWindow, 1, FRAME_SETS, FALSE};
    if (KtFindDeviceMemory() == 0) {
        KT_SKIP("no device with memory");
    }
    RunKind(&Kind);
}

static VOID UnmapRanges(VOID)
{
    static const KIND Kind = {PrepareRanges, MapIo,      UnmapIo, FreeMdls,
                              RANGE_PAGES,   FRAME_SETS, FALSE};
    RunKind(&Kind);
}

static VOID UnmapLargeLeaves(VOID)
{
    static const KIND Kind = {PrepareLeaves, MapIo, UnmapIo, FreeMdls, LEAF_PAGES, LEAF_SETS, TRUE};
    RunKind(&Kind);
}

static VOID UnmapMdls(VOID)
{
    static const KIND Kind = {PrepareMdls, MapMdl,     UnmapMdl, FreeMdls,
                              SMALL_PAGES, FRAME_SETS, FALSE};
    RunKind(&Kind);
}

static VOID UnmapReservations(VOID)
{
    static const KIND Kind = {PrepareReservation, MapReserved, UnmapReserved, FreeReservation,
                              SMALL_PAGES,        FRAME_SETS,  FALSE};
    RunKind(&Kind);
}

static VOID TakeRightsAway(VOID)
{
    static const KIND Kind = {PrepareProtected, AllowAll, AllowLess, FreeMdls,
                              SMALL_PAGES,      1,        TRUE};
    RunKind(&Kind);
}

static const KT_TEST Tests[] = {
    {"no processor sees an unmapped page, or another than it shows now [4.3.2, 12.3.1, 12.3.2]",
     UnmapSinglePages},
    {"no processor sees an unmapped page of a device, or another than it shows now [4.3.2, 12.3.1, "
     "12.3.2]",
     UnmapDevicePages},
    {"no processor sees an unmapped range, or another than it shows now [4.3.2, 12.3.1, 12.3.2]",
     UnmapRanges},
    {"no processor sees an unmapped large leaf, or another than it shows now [4.3.2, 12.3.1, "
     "12.3.2]",
     UnmapLargeLeaves},
    {"no processor sees an unmapped MDL, or another than it shows now [6.10.2, 12.3.1, 12.3.2]",
     UnmapMdls},
    {"no processor sees what a reservation showed before [5.3.2, 12.3.1, 12.3.2]",
     UnmapReservations},
    {"no processor has a right that was taken away from the mapping of an MDL [6.13.1]",
     TakeRightsAway},
};

const KT_SUITE KtStalePeersSuite = {"stale-peers", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
