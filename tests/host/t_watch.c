// The watcher, watched: what it must see, it sees. Each test breaks one rule, and the rule's number
// must be what fails. A test that passes here fails in the child that it starts.
#include <sys/wait.h>
#include <unistd.h>

#include "tests/host/host.h"

#define REGION_VA (0x300000000000 + 0x100000)

// Routine, on a machine of its own, must fail with a message that contains Rule.
static VOID CheckCaught(VOID (*Routine)(VOID), const CHAR *Rule)
{
    int Pipe[2];
    CHAR Text[4096] = {0};
    CHECK(pipe(Pipe) == 0);
    fflush(stdout);
    const pid_t Child = fork();
    if (Child == 0) {
        dup2(Pipe[1], STDOUT_FILENO);
        FakeStartMachine(&FakeMachineMax);
        Routine();
        exit(EXIT_SUCCESS);
    }
    close(Pipe[1]);
    for (SIZE_T Length = 0; Length < sizeof(Text) - 1;) {
        const ssize_t Count = read(Pipe[0], &Text[Length], sizeof(Text) - 1 - Length);
        if (Count <= 0) {
            break;
        }
        Length += (SIZE_T)Count;
    }
    int Status;
    waitpid(Child, &Status, 0);
    if (!WIFEXITED(Status) || WEXITSTATUS(Status) != EXIT_FAILURE) {
        FAIL("%s was not caught: status 0x%x", Rule, Status);
    }
    if (strstr(Text, Rule) == NULL) {
        FAIL("it was caught, but not by %s: %s", Rule, Text);
    }
}

static PMMPTE Entry(ULONG_PTR Va)
{
    ULONG Level;
    CHECK_EQUAL(MiPreparePages(Va, 1), STATUS_SUCCESS);
    const PMMPTE Pte = MiFindPte(Va, &Level);
    CHECK_EQUAL(Level, 1);
    return Pte;
}

static MMPTE Leaf(ULONG64 Address, MI_CACHE_TYPE CacheType)
{
    return MiArchMakeLeaf(1, PfnOf(Address), (MI_PROTECTION){MiAccessReadWrite, CacheType});
}

static VOID ChangeTwice(VOID)
{
    const PMMPTE Pte = Entry(REGION_VA);
    WatchBeginCall("test");
    MiArchStorePte(Pte, Leaf(FAKE_IO_LOW, MiCacheUncached));
    MiArchStorePte(Pte, (MMPTE){0});
}

static VOID ReplaceALeaf(VOID)
{
    const PMMPTE Pte = Entry(REGION_VA);
    MiArchStorePte(Pte, Leaf(FAKE_IO_LOW, MiCacheUncached));
    MiArchStorePte(Pte, Leaf(FAKE_IO_LOW + PAGE_SIZE, MiCacheUncached));
}

static VOID MapATable(VOID)
{
    MiArchStorePte(Entry(REGION_VA), Leaf(PAGES(MiRootPfn), MiCacheWriteBack));
}

static VOID MapFreeRam(VOID)
{
    MiArchStorePte(Entry(REGION_VA), Leaf(PAGES(MiFirstFreePfn()), MiCacheWriteBack));
}

static VOID FreeALinkedTable(VOID)
{
    MiFreeFrame(MiRootPfn);
}

static VOID MapWithTwoTypes(VOID)
{
    const PMMPTE Pte = Entry(REGION_VA);
    MiArchStorePte(&Pte[0], Leaf(FAKE_IO_LOW, MiCacheUncached));
    MiArchStorePte(&Pte[1], Leaf(FAKE_IO_LOW, MiCacheWriteCombined));
}

static VOID MapWithTwoTypesBeforeTheFlush(VOID)
{
    const PMMPTE Pte = Entry(REGION_VA);
    MiArchStorePte(&Pte[0], Leaf(FAKE_IO_LOW, MiCacheUncached));
    MiArchStorePte(&Pte[0], (MMPTE){0});
    MiArchStorePte(&Pte[1], Leaf(FAKE_IO_LOW, MiCacheWriteCombined));
}

static VOID UseAnAddressBeforeTheFlush(VOID)
{
    const PMMPTE Pte = Entry(REGION_VA);
    MiArchStorePte(Pte, Leaf(FAKE_IO_LOW, MiCacheUncached));
    MiArchStorePte(Pte, (MMPTE){0});
    MiArchStorePte(Pte, Leaf(FAKE_IO_LOW + PAGE_SIZE, MiCacheUncached));
}

static VOID ReturnBeforeTheFlush(VOID)
{
    const PMMPTE Pte = Entry(REGION_VA);
    MiArchStorePte(Pte, Leaf(FAKE_IO_LOW, MiCacheUncached));
    WatchBeginCall("test");
    MiArchStorePte(Pte, (MMPTE){0});
    MiArchFlushPage(REGION_VA + PAGE_SIZE); // the wrong one
    WatchEndCall();
}

static VOID MapDirectlyWhatIsNotRam(VOID)
{
    const ULONG_PTR Va = (ULONG_PTR)MiFrameToVa(PfnOf(FAKE_IO_LOW));
    MiArchStorePte(Entry(Va), Leaf(FAKE_IO_LOW, MiCacheWriteBack));
}

static VOID ForgetTheCacheFlush(VOID)
{
    const PFN_NUMBER Pfn = MiAllocateFrame(MiPfnMdl);
    CHECK_EQUAL(MiPrepareAlias(Pfn, 1), STATUS_SUCCESS);
    const PMMPTE Pte = Entry(REGION_VA);
    WatchBeginCall("test");
    MiArchStorePte(Entry((ULONG_PTR)MiFrameToVa(Pfn)), (MMPTE){0});
    MiArchFlushAll();
    MiArchStorePte(Pte, Leaf(PAGES(Pfn), MiCacheUncached));
    WatchEndCall();
}

static VOID ForgetTheCacheFlushAfterwards(VOID)
{
    const PFN_NUMBER Pfn = MiAllocateFrame(MiPfnMdl);
    CHECK_EQUAL(MiPrepareAlias(Pfn, 1), STATUS_SUCCESS);
    const PMMPTE Pte = Entry(REGION_VA);
    const PMMPTE Alias = Entry((ULONG_PTR)MiFrameToVa(Pfn));
    const MMPTE Direct = MiArchLoadPte(Alias);
    MI_TLB_BATCH Batch;
    MiInitializeTlbBatch(&Batch);
    WatchBeginCall("test");
    CHECK_EQUAL(MiDecideRamCacheType(Pfn, MiCacheUncached, &Batch), MiCacheUncached);
    MiFlushTlbBatch(&Batch);
    MiArchStorePte(Pte, Leaf(PAGES(Pfn), MiCacheUncached));
    WatchEndCall();
    WatchBeginCall("test");
    MiArchStorePte(Pte, (MMPTE){0});
    MiArchFlushAll();
    MiArchStorePte(Alias, Direct);
    WatchEndCall();
}

static VOID ReturnWithALock(VOID)
{
    static KI_LOCK Lock = KI_LOCK_INITIALIZER(9, "TestLock");
    WatchBeginCall("test");
    (VOID) !KiAcquireLock(&Lock);
    WatchEndCall();
}

static VOID ReadAtAnotherLevel(VOID)
{
    const MMPTE Large = MiArchMakeLeaf(2, 512, (MI_PROTECTION){MiAccessRead, MiCacheWriteBack});
    (VOID) MiArchPtePfn(Large, 1);
}

static VOID TakeLocksInTheWrongOrder(VOID)
{
    static KI_LOCK High = KI_LOCK_INITIALIZER(9, "HighLock");
    static KI_LOCK Low = KI_LOCK_INITIALIZER(8, "LowLock");
    (VOID) !KiAcquireLock(&High);
    (VOID) !KiAcquireLock(&Low);
}

static VOID LeaveAStaleTable(VOID)
{
    // A table is taken out and freed without a flush of everything.
    const ULONG_PTR Va = MiArchLayout[MiRegionLargeSystemPtes].BaseVa;
    (VOID) Entry(Va);
    ULONG Level;
    PMMPTE Pte = MiFindPte(Va, &Level);
    const PFN_NUMBER TablePfn = PfnOf((ULONG_PTR)Pte - MiArchLayout[MiRegionDirectMap].BaseVa);
    const ULONG64 Index = (Va >> 21) & 511;
    // The entry above it.
    for (PFN_NUMBER Pfn = 1; Pfn <= MiHighestRamPfn(); Pfn += 1) {
        if (MiPfnState(Pfn) == MiPfnTable &&
            FakeLoad(Pfn, (ULONG)Index).Value == MiArchMakeTable(TablePfn).Value) {
            MiArchStorePte((PMMPTE)MiFrameToVa(Pfn) + Index, (MMPTE){0});
        }
    }
    MiFreeFrame(TablePfn);
}

static VOID Every_rule_catches_what_breaks_it(VOID)
{
    CheckCaught(ChangeTwice, "W1:");
    CheckCaught(ReplaceALeaf, "W2:");
    CheckCaught(MapATable, "W3:");
    CheckCaught(MapFreeRam, "W3:");
    CheckCaught(FreeALinkedTable, "W3:");
    CheckCaught(MapWithTwoTypes, "W4:");
    CheckCaught(MapWithTwoTypesBeforeTheFlush, "W4:");
    CheckCaught(UseAnAddressBeforeTheFlush, "W5:");
    CheckCaught(ReturnBeforeTheFlush, "W5:");
    CheckCaught(LeaveAStaleTable, "W5:");
    CheckCaught(MapDirectlyWhatIsNotRam, "W6:");
    CheckCaught(ForgetTheCacheFlush, "W7:");
    CheckCaught(ForgetTheCacheFlushAfterwards, "W7:");
    CheckCaught(ReturnWithALock, "W8:");
}

static VOID Entries_and_locks_are_guarded_too(VOID)
{
    CheckCaught(ReadAtAnotherLevel, "is not one of level 1");
    CheckCaught(TakeLocksInTheWrongOrder, "LowLock of rank 8 is acquired while");
}

static const HOST_TEST Tests[] = {
    HOST_ROW(Every_rule_catches_what_breaks_it, "watch.c, W1-W8", NULL),
    HOST_ROW(Entries_and_locks_are_guarded_too, "fakearch.c, fakeke.c", NULL),
};

HOST_DEFINE_SUITE(watch);
