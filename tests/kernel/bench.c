// The price of a mapping: cycles of one map and unmap, the median of many rounds, less what
// measuring costs. Under -icount one cycle is one instruction, and the figures are exact.
//
//   # calibration 21
//   # bench map-4K 812
#include "kernel/inc/ke.h"
#include "tests/kernel/tests.h"

#define WARM_UP_ROUNDS 8
#define ROUND_COUNT 65 // odd: the median is one of them

typedef VOID KT_WORK(PVOID Context);

static VOID SortCycles(ULONG64 *Cycles)
{
    for (ULONG Index = 1; Index < ROUND_COUNT; Index += 1) {
        const ULONG64 Value = Cycles[Index];
        ULONG Place = Index;
        for (; Place > 0 && Cycles[Place - 1] > Value; Place -= 1) {
            Cycles[Place] = Cycles[Place - 1];
        }
        Cycles[Place] = Value;
    }
}

static ULONG64 MeasureMedian(KT_WORK *Work, PVOID Context)
{
    ULONG64 Cycles[ROUND_COUNT];
    for (ULONG Round = 0; Round < WARM_UP_ROUNDS; Round += 1) {
        Work(Context);
    }
    for (ULONG Round = 0; Round < ROUND_COUNT; Round += 1) {
        const ULONG64 Start = KeReadCycles();
        Work(Context);
        Cycles[Round] = KeReadCycles() - Start;
    }
    SortCycles(Cycles);
    return Cycles[ROUND_COUNT / 2];
}

static VOID DoNothing(PVOID Context)
{
    UNREFERENCED_PARAMETER(Context);
}

static VOID PrintResult(PCSTR Name, ULONG64 Cycles, ULONG64 Overhead)
{
    DbgPrint("# bench %s %llu\n", Name, Cycles > Overhead ? Cycles - Overhead : 0);
}

//
// Device memory, mapped and unmapped.
//

typedef struct _IO_WORK {
    PHYSICAL_ADDRESS Address;
    SIZE_T ByteCount;
} IO_WORK;

static VOID MapAndUnmapIo(PVOID Context)
{
    const IO_WORK *Io = Context;
    PVOID Va = MmMapIoSpaceEx(Io->Address, Io->ByteCount, PAGE_READWRITE | PAGE_NOCACHE);
    if (Va != NULL) {
        MmUnmapIoSpace(Va, Io->ByteCount);
    }
}

static const struct {
    PCSTR Name;
    SIZE_T ByteCount;
} IoRows[] = {
    {"map-4K", 4 * KT_KIB},   {"map-64K", 64 * KT_KIB},   {"map-2M", 2 * KT_MIB},
    {"map-16M", 16 * KT_MIB}, {"map-256M", 256 * KT_MIB}, {"map-1G", KT_GIB},
};

static VOID MeasureIo(ULONG64 Gap, ULONG64 Overhead)
{
    for (ULONG Row = 0; Row < ARRAYSIZE(IoRows); Row += 1) {
        IO_WORK Io = {KtPhysical(Gap), IoRows[Row].ByteCount};
        PrintResult(IoRows[Row].Name, MeasureMedian(MapAndUnmapIo, &Io), Overhead);
    }
}

//
// MDLs, mapped into a reservation and unmapped.
//

typedef struct _RESERVED_WORK {
    PVOID Base;
    PMDL Mdl;
} RESERVED_WORK;

static VOID MapAndUnmapReserved(PVOID Context)
{
    const RESERVED_WORK *Reserved = Context;
    if (MmMapLockedPagesWithReservedMapping(Reserved->Base, KT_TAG, Reserved->Mdl, MmCached) !=
        NULL) {
        MmUnmapReservedMapping(Reserved->Base, KT_TAG, Reserved->Mdl);
    }
}

static const struct {
    PCSTR Name;
    ULONG PageCount;
} ReservedRows[] = {
    {"reserved-1", 1},
    {"reserved-16", 16},
    {"reserved-256", 256},
    {"reserved-4096", 4096},
};

static VOID MeasureReserved(ULONG64 Overhead)
{
    for (ULONG Row = 0; Row < ARRAYSIZE(ReservedRows); Row += 1) {
        const ULONG PageCount = ReservedRows[Row].PageCount;
        RESERVED_WORK Work = {MmAllocateMappingAddress((SIZE_T)PageCount * PAGE_SIZE, KT_TAG),
                              KtAllocatePages(PageCount)};
        if (Work.Base == NULL || Work.Mdl == NULL) {
            DbgPrint("%s: too little memory\n", ReservedRows[Row].Name);
            return;
        }
        PrintResult(ReservedRows[Row].Name, MeasureMedian(MapAndUnmapReserved, &Work), Overhead);
        MmFreeMappingAddress(Work.Base, KT_TAG);
        KtFreePages(Work.Mdl);
    }
}

VOID KiRunBenchmarks(VOID)
{
    const ULONG64 Overhead = MeasureMedian(DoNothing, NULL);
    const ULONG64 Gap = KtFindGap(KT_GIB, KT_GIB);
    DbgPrint("# calibration %llu\n", Overhead);
    if (Gap == 0) {
        DbgPrint("there is no free I/O space to map\n");
        return;
    }
    MeasureIo(Gap, Overhead);
    MeasureReserved(Overhead);
}
