// An architecture that does not exist, for the build machine. It fulfils mm/miarch.h.
//
// Entries. A leaf is a word of fields that is turned by an amount that depends on its level, so
// that whoever reads it at another level, or tests a bit of it, reads nonsense; and nonsense ends
// the test. An entry of the same value lies in memory in another disguise at every address, so that
// it can be read by MiArchLoadPte only.
//
//   63        52 51  49 48  46 45   44 43                  4 3   0
//   +-----------+------+------+-------+---------------------+-----+
//   | 0xA5C     | level|access| cache | frame               | 0xD |  leaf, not yet turned; 0xB: used
//   +-----------+------+------+-------+---------------------+-----+
//   | 0x7AB     | 0                   | frame               | 0x6 |  table
//   +-----------+---------------------+---------------------+-----+
//   | 0x0DE     | level|access| cache | frame               | 0xD |  inaccessible leaf, turned
//   +-----------+------+------+-------+---------------------+-----+
//
// Memory. Physical memory is a sparse file. All of its RAM is visible at FakeFrame, for the fakes
// and the tests; mm sees it where its page tables say: leaves in the direct map, in the pool's region
// and in that of driver images become real mappings of the file on the build machine, and go when the entry goes. The
// addresses of system PTEs are only numbers.
#define _GNU_SOURCE
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/host/arch.h"

#define GIB (1ull << 30)

// Addresses that the build machine leaves alone, also under the address sanitizer.
const MI_VIRTUAL_REGION MiArchLayout[MiRegionCount] = {
    [MiRegionDirectMap] = {0x200000000000, 64 * GIB, "direct map"},
    [MiRegionSelfMap] = {0x280000000000, 512 * GIB, "page tables"},
    [MiRegionSystemPtes] = {0x300000000000, 1 * GIB, "system PTEs"},
    [MiRegionLargeSystemPtes] = {0x380000000000, 512 * GIB, "large mappings"},
    [MiRegionPool] = {0x400000000000, 1 * GIB, "nonpaged pool"},
    [MiRegionDriverImages] = {0x480000000000, 1 * GIB, "driver images"},
    [MiRegionSharedData] = {0x580000000000, PAGE_SIZE, "shared data"},
    [MiRegionKernelImage] = {0x600000000000, 1 * GIB, "kernel image"},
};

#define FAKE_FRAMES_VA 0x500000000000
#define FAKE_BOOT_MAP_BYTES (4 * GIB)

#define LEAF_CHECK 0xA5Cull
#define LEAF_TAIL 0xDull
#define USED_TAIL 0xBull      // instead of LEAF_TAIL: a processor has read the leaf
#define HIDDEN_CHECK 0x0DEull // instead of LEAF_CHECK: inaccessible
#define TABLE_CHECK 0x7ABull
#define TABLE_TAIL 0x6ull
#define PFN_BITS 40
#define PFN_MASK ((1ull << PFN_BITS) - 1)

BOOLEAN FakeMirrorsDirectMap = TRUE;
ULONG64 FakePageFlushes;
ULONG64 FakeFullFlushes;
ULONG64 FakeStores;

static struct {
    ULONG PhysicalBits;
    ULONG LargestLeafLevel;
    int File;
    PFN_NUMBER RootPfn;
} Arch;

//
// The format.
//

static ULONG64 TurnLeft(ULONG64 Value, ULONG Count)
{
    return (Value << Count) | (Value >> (64 - Count));
}

static ULONG TurnOfLevel(ULONG Level)
{
    return 5 * Level + 3;
}

static BOOLEAN IsTable(ULONG64 Value)
{
    return Value >> 52 == TABLE_CHECK && (Value & 0xF) == TABLE_TAIL && ((Value >> 44) & 0xFF) == 0;
}

BOOLEAN MiArchIsInaccessible(MMPTE Pte)
{
    return !IsTable(Pte.Value) && TurnLeft(Pte.Value, 64 - TurnOfLevel(1)) >> 52 == HIDDEN_CHECK;
}

static MMPTE TurnCheck(MMPTE Pte)
{
    return (MMPTE){Pte.Value ^ TurnLeft((LEAF_CHECK ^ HIDDEN_CHECK) << 52, TurnOfLevel(1))};
}

// The fields of a leaf of this level.
static ULONG64 Unpack(MMPTE Pte, ULONG Level)
{
    const ULONG64 Fields = TurnLeft(Pte.Value, 64 - TurnOfLevel(Level));
    if (Fields >> 52 != LEAF_CHECK ||
        ((Fields & 0xF) != LEAF_TAIL && (Fields & 0xF) != USED_TAIL) ||
        ((Fields >> 49) & 7) != Level) {
        FAIL("entry 0x%llx is not one of level %u", Pte.Value, Level);
    }
    return Fields;
}

// Whichever level it is of: the level is written in it.
BOOLEAN MiArchWasUsed(MMPTE Pte)
{
    for (ULONG Level = 1; Level <= 3; Level += 1) {
        const ULONG64 Fields = TurnLeft(Pte.Value, 64 - TurnOfLevel(Level));
        if ((Fields >> 52 == LEAF_CHECK || Fields >> 52 == HIDDEN_CHECK) &&
            ((Fields >> 49) & 7) == Level) {
            return (Fields & 0xF) == USED_TAIL;
        }
    }
    return FALSE;
}

ULONG MiArchTopLevel(VOID)
{
    return 4;
}

BOOLEAN MiArchIsLeafAllowed(ULONG Level)
{
    return Level >= 1 && Level <= Arch.LargestLeafLevel;
}

ULONG MiArchPhysicalBits(VOID)
{
    return Arch.PhysicalBits;
}

BOOLEAN MiArchIsCanonical(ULONG_PTR Va)
{
    const LONG64 Extended = (LONG64)(Va << 16) >> 16;
    return (ULONG_PTR)Extended == Va;
}

MMPTE MiArchMakeLeaf(ULONG Level, PFN_NUMBER Pfn, MI_PROTECTION Protection)
{
    CHECK(MiArchIsLeafAllowed(Level));
    CHECK((Pfn & ((1ull << (9 * (Level - 1))) - 1)) == 0);
    CHECK(Pfn <= PFN_MASK && Pfn >> (Arch.PhysicalBits - PAGE_SHIFT) == 0);
    CHECK((ULONG)Protection.Access < MiAccessCount &&
          (ULONG)Protection.CacheType < MiCacheTypeCount);
    const ULONG64 Fields = LEAF_CHECK << 52 | (ULONG64)Level << 49 |
                           (ULONG64)Protection.Access << 46 | (ULONG64)Protection.CacheType << 44 |
                           Pfn << 4 | LEAF_TAIL;
    return (MMPTE){TurnLeft(Fields, TurnOfLevel(Level))};
}

MMPTE MiArchMakeTable(PFN_NUMBER Pfn)
{
    CHECK(Pfn != 0 && Pfn <= PFN_MASK);
    return (MMPTE){TABLE_CHECK << 52 | Pfn << 4 | TABLE_TAIL};
}

MMPTE MiArchMakeSelfMap(PFN_NUMBER RootPfn)
{
    return MiArchMakeTable(RootPfn);
}

ULONG MiArchSelfMapSlot(VOID)
{
    return (ULONG)(MiArchLayout[MiRegionSelfMap].BaseVa >> 39) & (MI_PTES_PER_TABLE - 1);
}

MMPTE MiArchMakeInaccessible(MMPTE Leaf)
{
    (VOID) Unpack(Leaf, 1);
    return TurnCheck(Leaf);
}

MMPTE MiArchMakeAccessible(MMPTE Pte)
{
    CHECK(MiArchIsInaccessible(Pte));
    return TurnCheck(Pte);
}

MI_PTE_KIND MiArchPteKind(MMPTE Pte, ULONG Level)
{
    CHECK(Level >= 1 && Level <= 4);
    if (Pte.Value == 0 || (Level == 1 && MiArchIsInaccessible(Pte))) {
        return MiPteEmpty;
    }
    if (IsTable(Pte.Value)) {
        // Level 1 has no tables: a walk through the self-map ends at a table as its page.
        return Level > 1 ? MiPteTable : MiPteLeaf;
    }
    (VOID) Unpack(Pte, Level);
    return MiPteLeaf;
}

PFN_NUMBER MiArchPtePfn(MMPTE Pte, ULONG Level)
{
    CHECK(Pte.Value != 0);
    const MMPTE Leaf = Level == 1 && MiArchIsInaccessible(Pte) ? TurnCheck(Pte) : Pte;
    const ULONG64 Fields = IsTable(Leaf.Value) ? Leaf.Value : Unpack(Leaf, Level);
    return (Fields >> 4) & PFN_MASK;
}

MI_PROTECTION MiArchPteProtection(MMPTE Pte, ULONG Level)
{
    if (IsTable(Pte.Value)) {
        CHECK(Level == 1);
        return (MI_PROTECTION){MiAccessRead, MiCacheWriteBack};
    }
    const ULONG64 Fields = Unpack(Pte, Level);
    return (MI_PROTECTION){(MI_ACCESS)((Fields >> 46) & 7), (MI_CACHE_TYPE)((Fields >> 44) & 3)};
}

//
// Memory.
//

PVOID FakeFrame(PFN_NUMBER Pfn)
{
    return (PVOID)(ULONG_PTR)(FAKE_FRAMES_VA + (Pfn << PAGE_SHIFT));
}

static VOID MapHost(ULONG_PTR Va, ULONG64 ByteCount, int Access, int Flags, int File,
                    ULONG64 Offset)
{
    const PVOID Result =
        mmap((PVOID)Va, ByteCount, Access, Flags | MAP_FIXED | MAP_NORESERVE, File, (off_t)Offset);
    if (Result == MAP_FAILED) {
        FAIL("mmap of 0x%llx at 0x%llx: %s", ByteCount, (ULONG64)Va, strerror(errno));
    }
}

static VOID MapFile(ULONG_PTR Va, ULONG64 ByteCount, ULONG64 Offset)
{
    MapHost(Va, ByteCount, PROT_READ | PROT_WRITE, MAP_SHARED, Arch.File, Offset);
}

static VOID MapNothing(ULONG_PTR Va, ULONG64 ByteCount)
{
    MapHost(Va, ByteCount, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

VOID FakeInitializeArch(ULONG PhysicalBits, ULONG LargestLeafLevel)
{
    const MI_VIRTUAL_REGION *DirectMap = &MiArchLayout[MiRegionDirectMap];
    const MI_VIRTUAL_REGION *Pool = &MiArchLayout[MiRegionPool];
    const MI_VIRTUAL_REGION *Images = &MiArchLayout[MiRegionDriverImages];
    Arch.PhysicalBits = PhysicalBits;
    Arch.LargestLeafLevel = LargestLeafLevel;
    Arch.RootPfn = 0;
    Arch.File = memfd_create("physical memory", 0);
    if (Arch.File < 0 || ftruncate(Arch.File, (off_t)DirectMap->ByteCount) != 0) {
        FAIL("no file for the physical memory: %s", strerror(errno));
    }
    MapFile(FAKE_FRAMES_VA, DirectMap->ByteCount, 0);
    MapFile(DirectMap->BaseVa, FAKE_BOOT_MAP_BYTES, 0);
    MapNothing(DirectMap->BaseVa + FAKE_BOOT_MAP_BYTES, DirectMap->ByteCount - FAKE_BOOT_MAP_BYTES);
    MapNothing(Pool->BaseVa, Pool->ByteCount);
    MapNothing(Images->BaseVa, Images->ByteCount);
    WatchInitialize(PhysicalBits);
}

static BOOLEAN IsInRegion(ULONG_PTR Va, MI_REGION Region)
{
    return Va >= MiArchLayout[Region].BaseVa &&
           Va - MiArchLayout[Region].BaseVa < MiArchLayout[Region].ByteCount;
}

static BOOLEAN IsMirrored(ULONG_PTR Va)
{
    return IsInRegion(Va, MiRegionPool) || IsInRegion(Va, MiRegionDriverImages) ||
           (FakeMirrorsDirectMap && IsInRegion(Va, MiRegionDirectMap));
}

VOID FakeMirrorLeaf(ULONG_PTR Va, ULONG64 ByteCount, PFN_NUMBER Pfn)
{
    if (IsMirrored(Va)) {
        MapFile(Va, ByteCount, Pfn << PAGE_SHIFT);
    }
}

VOID FakeMirrorNothing(ULONG_PTR Va, ULONG64 ByteCount)
{
    if (IsMirrored(Va)) {
        MapNothing(Va, ByteCount);
    }
}

// The word that hides an entry at its address.
static ULONG64 DisguiseOf(PFN_NUMBER TablePfn, ULONG Index)
{
    return (TablePfn * MI_PTES_PER_TABLE + Index + 1) * 0x9E3779B97F4A7C15ull;
}

MMPTE FakeLoad(PFN_NUMBER TablePfn, ULONG Index)
{
    const ULONG64 Word = ((const volatile ULONG64 *)FakeFrame(TablePfn))[Index];
    return (MMPTE){Word == 0 ? 0 : Word ^ DisguiseOf(TablePfn, Index)};
}

static VOID LocateEntry(const MMPTE *Pte, PFN_NUMBER *TablePfn, ULONG *Index)
{
    const ULONG64 Offset = (ULONG_PTR)Pte - MiArchLayout[MiRegionDirectMap].BaseVa;
    CHECK(Offset < MiArchLayout[MiRegionDirectMap].ByteCount && Offset % sizeof(MMPTE) == 0);
    *TablePfn = Offset >> PAGE_SHIFT;
    *Index = (ULONG)(Offset & (PAGE_SIZE - 1)) / sizeof(MMPTE);
}

MMPTE MiArchLoadPte(const MMPTE *Pte)
{
    PFN_NUMBER TablePfn;
    ULONG Index;
    LocateEntry(Pte, &TablePfn, &Index);
    return FakeLoad(TablePfn, Index);
}

VOID MiArchStorePte(PMMPTE Pte, MMPTE Value)
{
    PFN_NUMBER TablePfn;
    ULONG Index;
    LocateEntry(Pte, &TablePfn, &Index);
    const MMPTE Old = FakeLoad(TablePfn, Index);
    ((volatile ULONG64 *)FakeFrame(TablePfn))[Index] =
        Value.Value == 0 ? 0 : Value.Value ^ DisguiseOf(TablePfn, Index);
    FakeStores += 1;
    WatchStore(TablePfn, Index, Old, Value);
}

// The processor reads a leaf: it marks it first.
VOID FakeUseLeaf(PFN_NUMBER TablePfn, ULONG Index, ULONG Level)
{
    const MMPTE Leaf = FakeLoad(TablePfn, Index);
    if (!MiArchWasUsed(Leaf)) {
        const ULONG64 Mark = TurnLeft(LEAF_TAIL ^ USED_TAIL, TurnOfLevel(Level));
        ((volatile ULONG64 *)FakeFrame(TablePfn))[Index] =
            (Leaf.Value ^ Mark) ^ DisguiseOf(TablePfn, Index);
    }
}

// An exchange. What it finds unused, nobody has read.
MMPTE MiArchTakePte(PMMPTE Pte)
{
    PFN_NUMBER TablePfn;
    ULONG Index;
    LocateEntry(Pte, &TablePfn, &Index);
    const MMPTE Old = FakeLoad(TablePfn, Index);
    ((volatile ULONG64 *)FakeFrame(TablePfn))[Index] = 0;
    FakeStores += 1;
    WatchTake(TablePfn, Index, Old);
    return Old;
}

BOOLEAN MiArchTakePages(PMMPTE Pte, ULONG Count)
{
    BOOLEAN WasUsed = FALSE;
    for (ULONG Index = 0; Index < Count; Index += 1) {
        WasUsed |= MiArchWasUsed(MiArchTakePte(&Pte[Index]));
    }
    return WasUsed;
}

MMPTE MiArchPlaceFrame(MMPTE Template, PFN_NUMBER Pfn)
{
    CHECK_EQUAL(MiArchPtePfn(Template, 1), 0);
    return MiArchMakeLeaf(1, Pfn, MiArchPteProtection(Template, 1));
}

VOID MiArchStoreLeaves(PMMPTE Pte, ULONG Level, PFN_NUMBER FirstPfn, ULONG Count,
                       MI_PROTECTION Protection)
{
    for (ULONG Index = 0; Index < Count; Index += 1) {
        const PFN_NUMBER Pfn = FirstPfn + Index * (1ull << (9 * (Level - 1)));
        MiArchStorePte(&Pte[Index], MiArchMakeLeaf(Level, Pfn, Protection));
    }
}

ULONG MiArchProcessor(VOID)
{
    return FakeProcessor;
}

ULONG64 MiArchPin(VOID)
{
    return 1;
}

VOID MiArchUnpin(ULONG64 Pin)
{
    CHECK_EQUAL(Pin, 1);
}

VOID MiArchClearPages(PMMPTE Pte, ULONG Count)
{
    for (ULONG Index = 0; Index < Count; Index += 1) {
        MiArchStorePte(&Pte[Index], (MMPTE){0});
    }
}

PFN_NUMBER FakeRootPfn(VOID)
{
    return Arch.RootPfn;
}

FAKE_PAGE FakeWalk(ULONG_PTR Va)
{
    PFN_NUMBER TablePfn = Arch.RootPfn;
    for (ULONG Level = 4; TablePfn != 0; Level -= 1) {
        const ULONG64 PageIndex = Va >> PAGE_SHIFT;
        const ULONG Shift = 9 * (Level - 1);
        const MMPTE Entry =
            FakeLoad(TablePfn, (ULONG)(PageIndex >> Shift) & (MI_PTES_PER_TABLE - 1));
        if (Entry.Value == 0 || (Level == 1 && MiArchIsInaccessible(Entry))) {
            break;
        }
        if (!IsTable(Entry.Value) || Level == 1) {
            return (FAKE_PAGE){Level,
                               MiArchPtePfn(Entry, Level) + (PageIndex & ((1ull << Shift) - 1)),
                               MiArchPteProtection(Entry, Level)};
        }
        TablePfn = MiArchPtePfn(Entry, Level);
    }
    return (FAKE_PAGE){0};
}

//
// Processor state.
//

// The TLB that is watched is the last processor's: with two, what only the first one forgets is remembered.
VOID MiArchFlushPage(ULONG_PTR Va)
{
    FakePageFlushes += 1;
    if (FakeProcessor == (ULONG)KeNumberProcessors - 1) {
        WatchFlushPage(Va);
    }
}

VOID MiArchFlushAll(VOID)
{
    FakeFullFlushes += 1;
    if (FakeProcessor == (ULONG)KeNumberProcessors - 1) {
        WatchFlushAll();
    }
}

// Adjacent pages of the direct map, to be mapped by one system call: a machine without large leaves
// has many.
typedef struct _MIRROR_RUN {
    ULONG_PTR Va;
    ULONG64 ByteCount;
} MIRROR_RUN;

static VOID EndRun(MIRROR_RUN *Run)
{
    if (Run->ByteCount != 0) {
        MapFile(Run->Va, Run->ByteCount, Run->Va - MiArchLayout[MiRegionDirectMap].BaseVa);
        Run->ByteCount = 0;
    }
}

static VOID MirrorTree(PFN_NUMBER TablePfn, ULONG Level, ULONG_PTR BaseVa, MIRROR_RUN *Run)
{
    const ULONG64 EntryBytes = 1ull << (PAGE_SHIFT + 9 * (Level - 1));
    for (ULONG Index = 0; Index < MI_PTES_PER_TABLE; Index += 1) {
        const MMPTE Entry = FakeLoad(TablePfn, Index);
        const ULONG_PTR Va = BaseVa + Index * EntryBytes;
        if (Entry.Value == 0 || (Level == 4 && !IsInRegion(Va, MiRegionDirectMap))) {
            continue;
        }
        if (IsTable(Entry.Value)) {
            MirrorTree(MiArchPtePfn(Entry, Level), Level - 1, Va, Run);
            continue;
        }
        if (Va != Run->Va + Run->ByteCount) {
            EndRun(Run);
            Run->Va = Va;
        }
        Run->ByteCount += EntryBytes;
    }
}

VOID MiArchLoadRoot(PFN_NUMBER RootPfn)
{
    const MI_VIRTUAL_REGION *DirectMap = &MiArchLayout[MiRegionDirectMap];
    const BOOLEAN Mirrors = FakeMirrorsDirectMap;
    MIRROR_RUN Run = {0, 0};
    Arch.RootPfn = RootPfn;
    if (Mirrors) {
        MapNothing(DirectMap->BaseVa, DirectMap->ByteCount);
        MirrorTree(RootPfn, 4, 0, &Run);
        EndRun(&Run);
    } else {
        MapFile(DirectMap->BaseVa, DirectMap->ByteCount, 0);
    }
    // The watcher looks at each leaf, but there is nothing left to map for it.
    FakeMirrorsDirectMap = FALSE;
    WatchLoadRoot(RootPfn);
    FakeMirrorsDirectMap = Mirrors;
}

PFN_NUMBER MiArchReadRoot(VOID)
{
    return Arch.RootPfn;
}

VOID MiArchInitializeCacheTypes(VOID)
{
}

VOID MiArchFlushCacheRange(const VOID *Va, SIZE_T ByteCount)
{
    WatchFlushCache((ULONG_PTR)Va, ByteCount);
}

// The sections of the image that FakeFillLoaderBlock says was loaded.
ULONG MiArchImageSections(const MI_IMAGE_SECTION **Sections)
{
    static const MI_IMAGE_SECTION Image[] = {
        {0x600000200000, 0x600000280000, FAKE_KERNEL_PA, MiAccessExecuteRead, "text"},
        {0x600000280000, 0x6000002C0000, FAKE_KERNEL_PA + 0x80000, MiAccessRead, "rodata"},
        {0x6000002C0000, 0x600000300000, FAKE_KERNEL_PA + 0xC0000, MiAccessReadWrite, "data"},
    };
    *Sections = Image;
    return ARRAYSIZE(Image);
}
