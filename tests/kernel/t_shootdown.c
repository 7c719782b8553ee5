// Processors that wait answer each other: whoever spins for a lock at DISPATCH_LEVEL, or waits for what he
// has asked of the others, does what they ask of him meanwhile. Each test ends in time, or hangs.
#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "kernel/inc/rtl.h"
#include "tests/kernel/tests.h"

#define LOCKED_ROUNDS 100
#define CALL_ROUNDS 400
#define CALL_MS 2000    // so long at most
#define RANGE_PAGES 600 // more than any unmap leaves for later

// The longest that others may let a processor wait: nothing that they do lasts this long, but the host may
// be away.
#define LONGEST_ANSWER_MS 2000

static struct {
    KSPIN_LOCK Lock;
    volatile LONG ArrivedCount;
    volatile LONG WaitingCount; // who spins for the lock, or is about to
    volatile LONG CallCount;
    volatile LONG SentCount;
    ULONG64 Start; // of all rounds
    volatile BOOLEAN IsOver;
    volatile LONG FailureCount;
    PKTHREAD Threads[KE_MAXIMUM_PROCESSORS];
} It;

static ULONG64 Milliseconds(ULONG64 Cycles)
{
    return Cycles / (KeGetCyclesPerSecond() / 1000);
}

// One on each processor from FirstNumber on.
static BOOLEAN StartThreads(PKSTART_ROUTINE Routine, ULONG FirstNumber)
{
    BOOLEAN HasAll = TRUE;
    for (ULONG Number = FirstNumber; Number < (ULONG)KeNumberProcessors; Number += 1) {
        It.Threads[Number] = KtStartThreadOn((KAFFINITY)1 << Number, Routine, NULL, 0);
        HasAll = HasAll && It.Threads[Number] != NULL;
    }
    return HasAll;
}

static VOID JoinThreads(VOID)
{
    for (ULONG Number = 0; Number < KE_MAXIMUM_PROCESSORS; Number += 1) {
        KtJoin(It.Threads[Number]);
        It.Threads[Number] = NULL;
    }
    KtSettle();
}

// -------------------------------------------------------------------------------------------------
// Who spins for a lock.

static VOID NTAPI SpinForLock(PVOID Context)
{
    UNREFERENCED_PARAMETER(Context);
    while (!It.IsOver) {
        KIRQL OldIrql;
        KeRaiseIrql(DISPATCH_LEVEL, &OldIrql);
        __atomic_fetch_add(&It.WaitingCount, 1, __ATOMIC_ACQ_REL);
        KeAcquireSpinLockAtDpcLevel(&It.Lock);
        __atomic_fetch_sub(&It.WaitingCount, 1, __ATOMIC_ACQ_REL);
        KeReleaseSpinLockFromDpcLevel(&It.Lock);
        KeLowerIrql(OldIrql);
    }
}

static VOID CountCall(PVOID Context)
{
    UNREFERENCED_PARAMETER(Context);
    __atomic_fetch_add(&It.CallCount, 1, __ATOMIC_ACQ_REL);
}

// With the lock for which all others spin: an unmap, and a broadcast. Returns the cycles that they took.
static ULONG64 ShootWithLock(ULONG64 Address)
{
    const PVOID Va = MmMapIoSpaceEx(KtPhysical(Address), RANGE_PAGES * PAGE_SIZE, PAGE_READWRITE);
    ULONG64 Cycles = 0;
    KIRQL OldIrql;
    KeAcquireSpinLock(&It.Lock, &OldIrql);
    const LONG OtherCount = KeNumberProcessors - 1;
    if (KT_CHECK(Va != NULL) && KT_CHECK(KtAwaitProcessor(&It.WaitingCount, OtherCount))) {
        const ULONG64 Start = KeReadCycles();
        MmUnmapIoSpace(Va, RANGE_PAGES * PAGE_SIZE);
        It.CallCount = 0;
        KT_EQUAL(KiBroadcast(CountCall, NULL, KiWakeSleepers), (ULONG)OtherCount);
        Cycles = KeReadCycles() - Start;
        KT_EQUAL(It.CallCount, OtherCount + 1);
    }
    KeReleaseSpinLock(&It.Lock, OldIrql);
    return Cycles;
}

static VOID WhoSpinsAnswers(VOID)
{
    if (KeNumberProcessors == 1) {
        KT_SKIP("one processor");
    }
    RtlZeroMemory(&It, sizeof(It));
    const PMDL Mdl = KtAllocateRun(RANGE_PAGES);
    KT_REQUIRE(Mdl != NULL);
    KeSetSystemAffinityThread(1);
    ULONG64 Longest = 0;
    if (KT_CHECK(StartThreads(SpinForLock, 1))) {
        for (ULONG Round = 0; Round < LOCKED_ROUNDS; Round += 1) {
            const ULONG64 Cycles = ShootWithLock(KtPageAddress(Mdl, 0));
            Longest = Cycles > Longest ? Cycles : Longest;
        }
    }
    It.IsOver = TRUE;
    JoinThreads();
    KeRevertToUserAffinityThread();
    KT_CHECK(Milliseconds(Longest) < LONGEST_ANSWER_MS);
    DbgPrint("    # the longest unmap and broadcast: %llu cycles\n", Longest);
    KtFreePages(Mdl);
}

// -------------------------------------------------------------------------------------------------
// Who waits for his own shootdown.

static BOOLEAN HasTime(ULONG Round)
{
    return Round < CALL_ROUNDS && Milliseconds(KeReadCycles() - It.Start) < CALL_MS;
}

static VOID NTAPI BroadcastAll(PVOID Context)
{
    UNREFERENCED_PARAMETER(Context);
    __atomic_fetch_add(&It.ArrivedCount, 1, __ATOMIC_ACQ_REL);
    if (!KtAwaitProcessor(&It.ArrivedCount, KeNumberProcessors)) {
        __atomic_fetch_add(&It.FailureCount, 1, __ATOMIC_RELAXED);
        return;
    }
    for (ULONG Round = 0; HasTime(Round); Round += 1) {
        KIRQL OldIrql;
        KeRaiseIrql(Round % 2 == 0 ? DISPATCH_LEVEL : PASSIVE_LEVEL, &OldIrql);
        (VOID) KiBroadcast(CountCall, NULL, KiWakeSleepers);
        KeLowerIrql(OldIrql);
        __atomic_fetch_add(&It.SentCount, 1, __ATOMIC_RELAXED);
    }
}

static VOID SendersAnswerEachOther(VOID)
{
    if (KeNumberProcessors == 1) {
        KT_SKIP("one processor");
    }
    RtlZeroMemory(&It, sizeof(It));
    It.Start = KeReadCycles();
    KT_CHECK(StartThreads(BroadcastAll, 0));
    JoinThreads();
    KT_EQUAL(It.FailureCount, 0);
    KT_CHECK(It.SentCount >= KeNumberProcessors);
    KT_EQUAL(It.CallCount, It.SentCount * KeNumberProcessors);
    KT_CHECK(Milliseconds(KeReadCycles() - It.Start) < KT_LATEST_MS);
}

// Uncached, so that the direct map forgets and remembers the frames as well, beneath mm's locks.
static VOID NTAPI MapAndUnmapAll(PVOID Context)
{
    UNREFERENCED_PARAMETER(Context);
    __atomic_fetch_add(&It.ArrivedCount, 1, __ATOMIC_ACQ_REL);
    BOOLEAN IsGood = KtAwaitProcessor(&It.ArrivedCount, KeNumberProcessors);
    for (ULONG Round = 0; IsGood && HasTime(Round); Round += 1) {
        const PMDL Mdl = KtAllocatePages(3);
        const PVOID Va = Mdl == NULL
                             ? NULL
                             : MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmNonCached, NULL,
                                                            FALSE, NormalPagePriority);
        IsGood = Va != NULL && NT_SUCCESS(MmProtectMdlSystemAddress(Mdl, PAGE_READONLY)) &&
                 KeProbeWrite(Va, 0).Faulted;
        if (Mdl != NULL) {
            KtFreePages(Mdl);
        }
    }
    if (!IsGood) {
        __atomic_fetch_add(&It.FailureCount, 1, __ATOMIC_RELAXED);
    }
}

static VOID UnmappersAnswerEachOther(VOID)
{
    if (KeNumberProcessors == 1) {
        KT_SKIP("one processor");
    }
    RtlZeroMemory(&It, sizeof(It));
    It.Start = KeReadCycles();
    KT_CHECK(StartThreads(MapAndUnmapAll, 0));
    JoinThreads();
    KT_EQUAL(It.FailureCount, 0);
    KT_CHECK(Milliseconds(KeReadCycles() - It.Start) < KT_LATEST_MS);
}

// -------------------------------------------------------------------------------------------------
// Who sleeps.

#define SLEEP_ROUNDS 200
#define SLEEPER 1

static struct {
    PVOID Base; // of the reservation
    KEVENT MayRead;
    volatile LONG ReadCount;
    volatile ULONG Seen;
    volatile BOOLEAN IsOver;
} Shared;

// Reads what is mapped each time that it is told to, and sleeps in between.
static VOID NTAPI ReadWhenTold(PVOID Context)
{
    UNREFERENCED_PARAMETER(Context);
    for (;;) {
        KeWaitForSingleObject(&Shared.MayRead, Executive, KernelMode, FALSE, NULL);
        if (Shared.IsOver) {
            return;
        }
        Shared.Seen = *(volatile ULONG *)Shared.Base;
        __atomic_fetch_add(&Shared.ReadCount, 1, __ATOMIC_RELEASE);
    }
}

static BOOLEAN AwaitSleep(ULONG Number)
{
    const ULONG64 Start = KeReadCycles();
    while (KeArchGetPcrOf(Number)->Sleep == KiAwake) {
        if (Milliseconds(KeReadCycles() - Start) > KT_LATEST_MS) {
            return FALSE;
        }
        KeArchPause();
    }
    return TRUE;
}

static BOOLEAN LetRead(ULONG Round)
{
    KeSetEvent(&Shared.MayRead, IO_NO_INCREMENT, FALSE);
    return KtAwaitProcessor(&Shared.ReadCount, (LONG)Round + 1);
}

// Unmaps one page and maps the other while the reader sleeps. Returns whether it slept all the time.
static BOOLEAN ExchangeWhileAsleep(PMDL Mapped, PMDL Next)
{
    MM_SHOOTDOWN Last = {0};
    KT_CHECK(AwaitSleep(SLEEPER));
    MmUnmapReservedMapping(Shared.Base, KT_TAG, Mapped);
    KT_CHECK(MmMapLockedPagesWithReservedMapping(Shared.Base, KT_TAG, Next, MmCached) != NULL);
    KT_EQUAL(MmQueryShootdowns(&Last, 1), 1);
    return Last.ProcessorCount < (ULONG)KeNumberProcessors;
}

static VOID ExchangeManyTimes(PMDL *Mdls)
{
    ULONG SleptCount = 0;
    PMDL Mapped = Mdls[0];
    KT_REQUIRE(MmMapLockedPagesWithReservedMapping(Shared.Base, KT_TAG, Mapped, MmCached) != NULL);
    for (ULONG Round = 0; Round < SLEEP_ROUNDS; Round += 1) {
        *(volatile ULONG *)Shared.Base = Round;
        KtSetContext("round %u", Round);
        if (!KT_CHECK(LetRead(Round))) {
            break;
        }
        KT_EQUAL(Shared.Seen, Round);
        const PMDL Next = Mapped == Mdls[0] ? Mdls[1] : Mdls[0];
        SleptCount += ExchangeWhileAsleep(Mapped, Next);
        Mapped = Next;
    }
    MmUnmapReservedMapping(Shared.Base, KT_TAG, Mapped);
    KtSetContext("slept through %u of %u", SleptCount, SLEEP_ROUNDS);
    KT_CHECK(SleptCount > 0 || MmVerifierLevel != 0); // at level 1 all are told at once
}

static VOID WhoSleepsIsNotWoken(VOID)
{
    if (KeNumberProcessors == 1) {
        KT_SKIP("one processor");
    }
    RtlZeroMemory(&Shared, sizeof(Shared));
    KeInitializeEvent(&Shared.MayRead, SynchronizationEvent, FALSE);
    Shared.Base = MmAllocateMappingAddress(PAGE_SIZE, KT_TAG);
    PMDL Mdls[] = {KtAllocatePages(1), KtAllocatePages(1)};
    KT_REQUIRE(Shared.Base != NULL && Mdls[0] != NULL && Mdls[1] != NULL);
    KeSetSystemAffinityThread(1);
    const PKTHREAD Reader = KtStartThreadOn((KAFFINITY)1 << SLEEPER, ReadWhenTold, NULL, 0);
    if (KT_CHECK(Reader != NULL)) {
        ExchangeManyTimes(Mdls);
        Shared.IsOver = TRUE;
        KeSetEvent(&Shared.MayRead, IO_NO_INCREMENT, FALSE);
        KtJoin(Reader);
    }
    KeRevertToUserAffinityThread();
    KtFreePages(Mdls[0]);
    KtFreePages(Mdls[1]);
    MmFreeMappingAddress(Shared.Base, KT_TAG);
}

// -------------------------------------------------------------------------------------------------
// How often the others are asked.

static ULONG64 ShootdownNumber(VOID)
{
    MM_SHOOTDOWN Last = {0};
    (VOID) !MmQueryShootdowns(&Last, 1);
    return Last.Number;
}

static VOID TouchAll(PVOID Va, ULONG PageCount)
{
    for (ULONG Page = 0; Page < PageCount; Page += 1) {
        (VOID) * (volatile ULONG *)KtAdd(Va, Page * PAGE_SIZE);
    }
}

static VOID UnmapIoOnce(ULONG64 Address, ULONG PageCount)
{
    const PVOID Va =
        MmMapIoSpaceEx(KtPhysical(Address), (SIZE_T)PageCount * PAGE_SIZE, PAGE_READWRITE);
    if (KT_CHECK(Va != NULL)) {
        TouchAll(Va, PageCount);
        const ULONG64 Before = ShootdownNumber();
        MmUnmapIoSpace(Va, (SIZE_T)PageCount * PAGE_SIZE);
        KT_CHECK(ShootdownNumber() - Before <= 1);
    }
}

static VOID UnmapMdlOnce(ULONG PageCount)
{
    const PMDL Mdl = KtAllocatePages(PageCount);
    const PVOID Va = Mdl == NULL ? NULL
                                 : MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmCached, NULL,
                                                                FALSE, NormalPagePriority);
    if (KT_CHECK(Va != NULL)) {
        TouchAll(Va, PageCount);
        const ULONG64 Before = ShootdownNumber();
        MmUnmapLockedPages(Va, Mdl);
        KT_CHECK(ShootdownNumber() - Before <= 1);
    }
    if (Mdl != NULL) {
        KtFreePages(Mdl);
    }
}

static VOID UnmapReservedOnce(ULONG PageCount)
{
    const PMDL Mdl = KtAllocatePages(PageCount);
    const PVOID Base = MmAllocateMappingAddress((SIZE_T)PageCount * PAGE_SIZE, KT_TAG);
    if (KT_CHECK(Mdl != NULL && Base != NULL)) {
        const PVOID Va = MmMapLockedPagesWithReservedMapping(Base, KT_TAG, Mdl, MmCached);
        TouchAll(Va, PageCount);
        const ULONG64 Before = ShootdownNumber();
        MmUnmapReservedMapping(Base, KT_TAG, Mdl);
        MmFreeMappingAddress(Base, KT_TAG);
        KT_CHECK(ShootdownNumber() - Before <= 1);
    }
    if (Mdl != NULL) {
        KtFreePages(Mdl);
    }
}

static VOID AnUnmapAsksOnce(VOID)
{
    static const ULONG PageCounts[] = {1, 2, 15, 16, 17, 64, 256, 257, 512, RANGE_PAGES};
    if (KeNumberProcessors == 1) {
        KT_SKIP("one processor");
    }
    const PMDL Run = KtAllocateRun(RANGE_PAGES);
    KT_REQUIRE(Run != NULL);
    for (ULONG Row = 0; Row < ARRAYSIZE(PageCounts); Row += 1) {
        KtSetContext("%u pages", PageCounts[Row]);
        UnmapIoOnce(KtPageAddress(Run, 0), PageCounts[Row]);
        UnmapMdlOnce(PageCounts[Row]);
        UnmapReservedOnce(PageCounts[Row]);
    }
    KtFreePages(Run);
}

static const KT_TEST Tests[] = {
    {"a processor that spins for a lock at DISPATCH_LEVEL answers a shootdown in time [12.3.3]",
     WhoSpinsAnswers},
    {"processors that broadcast at the same time answer each other [12.3.3]",
     SendersAnswerEachOther},
    {"processors that unmap at the same time answer each other [12.3.3]", UnmappersAnswerEachOther},
    {"an unmap asks the other processors once at most [12.3.4]", AnUnmapAsksOnce},
    {"a processor that sleeps is not woken, and sees nothing old [12.3.5]", WhoSleepsIsNotWoken},
};

const KT_SUITE KtShootdownSuite = {"stale-shootdown", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
