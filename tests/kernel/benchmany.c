// Benchmarks of several processors: the same work by one thread on each of them, together, and what it
// costs to ask the others for something.
//
//   # rate map-4K-by-1 OPERATIONS CYCLES     one thread, while the other processors have nothing to do
//   # rate map-4K-by-2 OPERATIONS CYCLES     two threads on two processors, both together
//
// No thread shares anything with another one but mm itself: each has its own page of device memory, its own
// reservation, its own MDL.
#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "kernel/inc/rtl.h"
#include "mm/mi.h"
#include "tests/kernel/bench.h"

#define ROUNDS_BETWEEN_LOOKS                                                                       \
    64 // at the clock, which QEMU reads under a lock that all its processors share
#define STRIDE_BYTES (16 * KT_MIB)
#define NAME_BYTES 32

typedef struct _MANY_WORK {
    PHYSICAL_ADDRESS Address;
    PVOID Base;
    PMDL Mdl;
    PMDL Between; // nobody's, so that no two threads' MDLs lie in one cache line
} MANY_WORK, *PMANY_WORK;

typedef struct _MANY_ROW {
    PCSTR Name;
    ULONG PageCount;
    KT_WORK *Work;
} MANY_ROW;

// Aligned, so that no two threads write to one cache line.
typedef struct __attribute__((aligned(256))) _MANY_THREAD {
    const MANY_ROW *Row;
    PKTHREAD Thread;
    MANY_WORK Work;
    ULONG64 Count;
    ULONG64 Cycles;
} MANY_THREAD, *PMANY_THREAD;

static volatile LONG Awaited; // threads that have not come to the start yet

// Shares nothing, not even mm: what the host gives a second processor.
static VOID Compute(PVOID Context)
{
    ULONG64 Value = (ULONG_PTR)Context;
    for (ULONG Round = 0; Round < 300; Round += 1) {
        Value ^= Value << 13;
        Value ^= Value >> 7;
    }
    __asm__ volatile("" : : "r"(Value));
}

// Raises IRQL and lowers it again, which QEMU does under a lock that all of its threads share.
static VOID RaiseAndLower(PVOID Context)
{
    UNREFERENCED_PARAMETER(Context);
    KeLowerIrql(KfRaiseIrql(DISPATCH_LEVEL));
}

static VOID MapAndUnmapIo(PVOID Context)
{
    const MANY_WORK *const Work = Context;
    const PVOID Va = MmMapIoSpaceEx(Work->Address, PAGE_SIZE, PAGE_READWRITE | PAGE_NOCACHE);
    if (Va != NULL) {
        MmUnmapIoSpace(Va, PAGE_SIZE);
    }
}

static VOID MapAndUnmapIo16(PVOID Context)
{
    const MANY_WORK *const Work = Context;
    const PVOID Va = MmMapIoSpaceEx(Work->Address, 16 * PAGE_SIZE, PAGE_READWRITE | PAGE_NOCACHE);
    if (Va != NULL) {
        MmUnmapIoSpace(Va, 16 * PAGE_SIZE);
    }
}

static VOID MapAndUnmapReserved(PVOID Context)
{
    const MANY_WORK *const Work = Context;
    if (MmMapLockedPagesWithReservedMapping(Work->Base, KT_TAG, Work->Mdl, MmCached) != NULL) {
        MmUnmapReservedMapping(Work->Base, KT_TAG, Work->Mdl);
    }
}

// With every page written to, so that the processor knows its translation, which the unmap must end.
static VOID MapUseAndUnmapReserved(PVOID Context)
{
    const MANY_WORK *const Work = Context;
    const PVOID Va = MmMapLockedPagesWithReservedMapping(Work->Base, KT_TAG, Work->Mdl, MmCached);
    if (Va != NULL) {
        for (ULONG Offset = 0; Offset < MmGetMdlByteCount(Work->Mdl); Offset += PAGE_SIZE) {
            *(volatile ULONG *)KtAdd(Va, Offset) = Offset;
        }
        MmUnmapReservedMapping(Work->Base, KT_TAG, Work->Mdl);
    }
}

static VOID MapAndUnmapMdl(PVOID Context)
{
    const MANY_WORK *const Work = Context;
    const PVOID Va = MmMapLockedPagesSpecifyCache(Work->Mdl, KernelMode, MmCached, NULL, FALSE,
                                                  NormalPagePriority | MdlMappingNoExecute);
    if (Va != NULL) {
        MmUnmapLockedPages(Va, Work->Mdl);
    }
}

// A page and the MDL that describes it, from nothing and back.
static VOID AllocateAndFreePages(PVOID Context)
{
    const MANY_WORK *const Work = Context;
    const PHYSICAL_ADDRESS Any = KtPhysical(MAXULONG64);
    const PMDL Mdl =
        MmAllocatePagesForMdlEx(KtPhysical(0), Any, KtPhysical(0), MmGetMdlByteCount(Work->Mdl),
                                MmCached, MM_DONT_ZERO_ALLOCATION);
    if (Mdl != NULL) {
        MmFreePagesFromMdl(Mdl);
        ExFreePool(Mdl);
    }
}

static VOID AllocateAndFreePool(PVOID Context)
{
    UNREFERENCED_PARAMETER(Context);
    const PVOID Block = ExAllocatePool2(POOL_FLAG_NON_PAGED | POOL_FLAG_UNINITIALIZED, 100, KT_TAG);
    if (Block != NULL) {
        ExFreePool(Block);
    }
}

//
// Where the border lies between forgetting some pages one by one, and forgetting everything
// (MI_TLB_BATCH_PAGES): each round uses the pages, forgets them, and uses what anybody uses besides.
//

#define BESIDES 64 // pages

static VOID Use(PVOID Context)
{
    const MANY_WORK *const Work = Context;
    const PFN_NUMBER *Pfns = MmGetMdlPfnArray(Work->Mdl);
    for (ULONG Page = 0; Page < Work->Mdl->ByteCount >> PAGE_SHIFT; Page += 1) {
        *(volatile ULONG *)MiFrameToVa(Pfns[Page]) = Page;
    }
    for (ULONG Page = 0; Page < BESIDES; Page += 1) {
        (VOID) * (volatile ULONG *)MiFrameToVa(Page + 1);
    }
}

static VOID UseAndForgetPages(PVOID Context)
{
    const MANY_WORK *const Work = Context;
    const PFN_NUMBER *Pfns = MmGetMdlPfnArray(Work->Mdl);
    Use(Context);
    for (ULONG Page = 0; Page < Work->Mdl->ByteCount >> PAGE_SHIFT; Page += 1) {
        MiArchFlushPage((ULONG_PTR)MiFrameToVa(Pfns[Page]));
    }
}

static VOID UseAndForgetAll(PVOID Context)
{
    Use(Context);
    MiArchFlushAll();
}

static const MANY_ROW Rows[] = {
    {"compute", 1, Compute},
    {"irql", 1, RaiseAndLower},
    {"map-4K", 1, MapAndUnmapIo},
    {"map-64K", 1, MapAndUnmapIo16},
    {"reserved-1", 1, MapAndUnmapReserved},
    {"reserved-16", 16, MapAndUnmapReserved},
    {"reserved-1-used", 1, MapUseAndUnmapReserved},
    {"reserved-16-used", 16, MapUseAndUnmapReserved},
    {"mdl-1", 1, MapAndUnmapMdl},
    {"mdl-16", 16, MapAndUnmapMdl},
    {"pages-1", 1, AllocateAndFreePages},
    {"pages-16", 16, AllocateAndFreePages},
    {"pool-100", 1, AllocateAndFreePool},
    {"forget-4", 4, UseAndForgetPages},
    {"forget-4-all", 4, UseAndForgetAll},
    {"forget-15", 15, UseAndForgetPages},
    {"forget-15-all", 15, UseAndForgetAll},
    {"forget-32", 32, UseAndForgetPages},
    {"forget-32-all", 32, UseAndForgetAll},
    {"forget-64", 64, UseAndForgetPages},
    {"forget-64-all", 64, UseAndForgetAll},
};

static BOOLEAN Prepare(const MANY_ROW *Row, PMANY_THREAD Thread, ULONG64 Address)
{
    *Thread = (MANY_THREAD){.Row = Row, .Work.Address = KtPhysical(Address)};
    Thread->Work.Base = MmAllocateMappingAddress((SIZE_T)Row->PageCount * PAGE_SIZE, KT_TAG);
    Thread->Work.Mdl = KtAllocatePages(Row->PageCount);
    Thread->Work.Between = KtAllocatePages(Row->PageCount);
    return Thread->Work.Base != NULL && Thread->Work.Mdl != NULL;
}

static VOID CleanUp(PMANY_THREAD Thread)
{
    if (Thread->Work.Base != NULL) {
        MmFreeMappingAddress(Thread->Work.Base, KT_TAG);
    }
    if (Thread->Work.Mdl != NULL) {
        KtFreePages(Thread->Work.Mdl);
    }
    if (Thread->Work.Between != NULL) {
        KtFreePages(Thread->Work.Between);
    }
}

static VOID RunForASecond(PMANY_THREAD Thread)
{
    const ULONG64 Start = KeReadCycles();
    for (Thread->Count = 0; !KtIsOver(Start); Thread->Count += ROUNDS_BETWEEN_LOOKS) {
        for (ULONG Round = 0; Round < ROUNDS_BETWEEN_LOOKS; Round += 1) {
            Thread->Row->Work(&Thread->Work);
        }
    }
    Thread->Cycles = KeReadCycles() - Start;
}

// Twice: the first time everything gets warm.
static VOID NTAPI RunTogether(PVOID Context)
{
    const PMANY_THREAD Thread = Context;
    RunForASecond(Thread);
    __atomic_sub_fetch(&Awaited, 1, __ATOMIC_ACQ_REL);
    while (__atomic_load_n(&Awaited, __ATOMIC_ACQUIRE) > 0) {
        KeArchPause();
    }
    RunForASecond(Thread);
}

static VOID PrintSum(const MANY_THREAD *Threads, ULONG ThreadCount)
{
    CHAR Name[NAME_BYTES];
    ULONG64 Count = 0;
    ULONG64 Cycles = 0;
    for (ULONG Number = 0; Number < ThreadCount; Number += 1) {
        Count += Threads[Number].Count;
        Cycles = Cycles > Threads[Number].Cycles ? Cycles : Threads[Number].Cycles;
    }
    RtlFormatBuffer(Name, sizeof(Name), "%s-by-%u", Threads[0].Row->Name, ThreadCount);
    KtPrintRate(Name, Count, Cycles);
}

static VOID RateTogether(const MANY_ROW *Row, ULONG ThreadCount, ULONG64 Gap)
{
    static MANY_THREAD Threads[KE_MAXIMUM_PROCESSORS];
    BOOLEAN IsPrepared = TRUE;
    for (ULONG Number = 0; Number < ThreadCount; Number += 1) {
        IsPrepared = Prepare(Row, &Threads[Number], Gap + Number * STRIDE_BYTES) && IsPrepared;
    }
    Awaited = (LONG)ThreadCount;
    for (ULONG Number = 0; IsPrepared && Number < ThreadCount; Number += 1) {
        Threads[Number].Thread =
            KtStartThreadOn((KAFFINITY)1 << Number, RunTogether, &Threads[Number], 0);
    }
    for (ULONG Number = 0; Number < ThreadCount; Number += 1) {
        KtJoin(Threads[Number].Thread);
        CleanUp(&Threads[Number]);
    }
    if (IsPrepared) {
        PrintSum(Threads, ThreadCount);
    }
}

static BOOLEAN IsWanted(const MANY_ROW *Row)
{
    CHAR Name[NAME_BYTES];
    RtlFormatBuffer(Name, sizeof(Name), "%s-by-", Row->Name);
    return KtIsBenchWanted(Name);
}

static VOID RateRows(ULONG64 Gap)
{
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        if (IsWanted(&Rows[Row])) {
            RateTogether(&Rows[Row], 1, Gap);
            RateTogether(&Rows[Row], (ULONG)KeNumberProcessors, Gap);
        }
    }
}

// One round of interrupts: everybody is told, and waited for.
static VOID Answer(PVOID Context)
{
    UNREFERENCED_PARAMETER(Context);
}

static VOID Ask(PVOID Context)
{
    (VOID) KiBroadcast(Answer, Context, KiWakeSleepers);
}

VOID KtBenchMany(ULONG64 Gap)
{
    if (KeNumberProcessors == 1) {
        return;
    }
    if (KtIsRating()) {
        RateRows(Gap);
    } else {
        KtBench("broadcast", Ask, NULL);
    }
}
