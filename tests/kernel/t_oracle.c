// Shows the host what the kernel believes to be mapped, so that the host can compare it with the
// emulator's own walk of the page tables: an MMU that is not ours. One line for each run of
// adjacent leaves that are alike:
//
//   # map va=0xfffff88000003000 pa=0xfebd0000 pages=4 leaf=4K access=rw- cache=UC
//
// Then `# oracle ready`, and the kernel holds still until the host sends the byte 'g' on COM1.
#include "kernel/inc/kd.h"
#include "kernel/inc/ke.h"
#include "tests/kernel/tests.h"

#define GO_ON 'g'
#define WAIT_MICROSECONDS 1000
#define WAIT_ROUNDS 30000

static const struct {
    ULONG Protect;
    ULONG64 Offset; // in the gap
    ULONG64 ByteCount;
} IoRows[] = {
    {PAGE_READONLY, 0, PAGE_SIZE},
    {PAGE_READWRITE | PAGE_NOCACHE, 4 * PAGE_SIZE, 3 * PAGE_SIZE},
    {PAGE_READWRITE | PAGE_WRITECOMBINE, 16 * PAGE_SIZE, PAGE_SIZE},
    {PAGE_EXECUTE | PAGE_NOCACHE, 32 * PAGE_SIZE, PAGE_SIZE},
    {PAGE_EXECUTE_READ, 33 * PAGE_SIZE, 2 * PAGE_SIZE},
    {PAGE_EXECUTE_READWRITE | PAGE_WRITECOMBINE, 48 * PAGE_SIZE, PAGE_SIZE},
    {PAGE_READWRITE | PAGE_NOCACHE, 16 * KT_MIB, 4 * KT_MIB},
    {PAGE_READONLY | PAGE_WRITECOMBINE, 32 * KT_MIB - PAGE_SIZE, 2 * KT_MIB + 2 * PAGE_SIZE},
    {PAGE_READWRITE | PAGE_NOCACHE, KT_GIB - 2 * KT_MIB - PAGE_SIZE,
     KT_GIB + 4 * KT_MIB + 2 * PAGE_SIZE},
};

static const MEMORY_CACHING_TYPE CacheTypes[] = {MmNonCached, MmCached, MmWriteCombined};

#define RESERVED_PAGES 3

static struct {
    PVOID Io[ARRAYSIZE(IoRows)];
    PMDL Ram[ARRAYSIZE(CacheTypes)];
    PMDL Reserved;
    PVOID Reservation;
    PVOID Pool;
} Shown;

static VOID MapEverything(ULONG64 Gap)
{
    for (ULONG Row = 0; Row < ARRAYSIZE(IoRows); Row += 1) {
        Shown.Io[Row] = MmMapIoSpaceEx(KtPhysical(Gap + IoRows[Row].Offset), IoRows[Row].ByteCount,
                                       IoRows[Row].Protect);
        KT_CHECK(Shown.Io[Row] != NULL);
    }
    for (ULONG Row = 0; Row < ARRAYSIZE(CacheTypes); Row += 1) {
        Shown.Ram[Row] = KtAllocatePages(4);
        KT_REQUIRE(Shown.Ram[Row] != NULL);
        KT_CHECK(MmMapLockedPagesSpecifyCache(Shown.Ram[Row], KernelMode, CacheTypes[Row], NULL,
                                              FALSE, NormalPagePriority) != NULL);
    }
    Shown.Reserved = KtAllocatePages(RESERVED_PAGES);
    Shown.Reservation = MmAllocateMappingAddress(RESERVED_PAGES * PAGE_SIZE, KT_TAG);
    Shown.Pool = ExAllocatePool2(POOL_FLAG_NON_PAGED, 5 * PAGE_SIZE, KT_TAG);
    KT_REQUIRE(Shown.Reserved != NULL && Shown.Reservation != NULL && Shown.Pool != NULL);
    KT_EQUAL(
        MmMapLockedPagesWithReservedMapping(Shown.Reservation, KT_TAG, Shown.Reserved, MmCached),
        Shown.Reservation);
}

static VOID UnmapEverything(VOID)
{
    MmUnmapReservedMapping(Shown.Reservation, KT_TAG, Shown.Reserved);
    MmFreeMappingAddress(Shown.Reservation, KT_TAG);
    KtFreePages(Shown.Reserved);
    ExFreePool(Shown.Pool);
    for (ULONG Row = 0; Row < ARRAYSIZE(CacheTypes); Row += 1) {
        KtFreePages(Shown.Ram[Row]);
    }
    for (ULONG Row = 0; Row < ARRAYSIZE(IoRows); Row += 1) {
        MmUnmapIoSpace(Shown.Io[Row], IoRows[Row].ByteCount);
    }
}

//
// The report.
//

typedef struct _RUN {
    ULONG_PTR Va;
    ULONG64 ByteCount; // 0: no run yet
    MM_PAGE_INFORMATION First;
} RUN;

static ULONG64 LeafBytes(ULONG Level)
{
    static const ULONG64 Bytes[] = {0, PAGE_SIZE, 2 * KT_MIB, KT_GIB};
    return Bytes[Level];
}

static VOID PrintRun(const RUN *Run)
{
    static const PCSTR LeafNames[] = {"", "4K", "2M", "1G"};
    if (Run->ByteCount != 0) {
        DbgPrint("# map va=0x%llx pa=0x%llx pages=%llu leaf=%s access=%s cache=%s\n", Run->Va,
                 Run->First.PhysicalAddress.QuadPart, Run->ByteCount / PAGE_SIZE,
                 LeafNames[Run->First.Level], Run->First.Access, Run->First.CacheType);
    }
}

static BOOLEAN ContinuesRun(const RUN *Run, ULONG_PTR Va, const MM_PAGE_INFORMATION *Leaf)
{
    return Run->ByteCount != 0 && Va == Run->Va + Run->ByteCount &&
           Leaf->Level == Run->First.Level &&
           (ULONG64)Leaf->PhysicalAddress.QuadPart ==
               (ULONG64)Run->First.PhysicalAddress.QuadPart + Run->ByteCount &&
           RtlEqualMemory(Leaf->Access, Run->First.Access, sizeof(Leaf->Access)) &&
           RtlEqualMemory(Leaf->CacheType, Run->First.CacheType, sizeof(Leaf->CacheType));
}

static BOOLEAN ReportLeaf(ULONG_PTR Va, const MM_PAGE_INFORMATION *Leaf, PVOID Context)
{
    RUN *Run = Context;
    if (!ContinuesRun(Run, Va, Leaf)) {
        PrintRun(Run);
        *Run = (RUN){.Va = Va, .First = *Leaf};
    }
    Run->ByteCount += LeafBytes(Leaf->Level);
    return TRUE;
}

static VOID ReportEverything(VOID)
{
    RUN Run = {.ByteCount = 0};
    MmEnumerateLeaves(ReportLeaf, &Run);
    PrintRun(&Run);
    DbgPrint("# oracle ready\n");
}

static BOOLEAN WaitForHost(VOID)
{
    for (ULONG Round = 0; Round < WAIT_ROUNDS; Round += 1) {
        if (KdPollInput() == GO_ON) {
            return TRUE;
        }
        KeStallExecutionProcessor(WAIT_MICROSECONDS);
    }
    return FALSE;
}

static VOID TheHostSeesWhatWeSee(VOID)
{
    if (!KtHasOption("oracle")) {
        KT_SKIP("the host does not listen; needs the boot option oracle");
    }
    const ULONG64 Gap = KtFindGap(4 * KT_GIB, KT_GIB);
    KT_REQUIRE(Gap != 0);
    MapEverything(Gap);
    ReportEverything();
    KT_CHECK(WaitForHost());
    UnmapEverything();
}

static const KT_TEST Tests[] = {
    {"the host is shown every mapping and compares it with the emulator's MMU",
     TheHostSeesWhatWeSee},
};

const KT_SUITE KtOracleSuite = {"oracle", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
