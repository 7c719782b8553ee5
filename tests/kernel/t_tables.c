// The page tables as a whole, read by a walker of our own through the self-map: what is mapped
// where, with which rights, and that no frame has two cache types.
#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "kernel/inc/ldr.h"
#include "tests/kernel/reference.h"
#include "tests/kernel/tests.h"

// From linker.ld.
extern const UCHAR KiTextStart[], KiTextEnd[], KiRodataStart[], KiRodataEnd[], KiDataStart[],
    KiDataEnd[];

#define DIRECT_MAP_BASE 0xFFFF800000000000ull
#define DIRECT_MAP_END (DIRECT_MAP_BASE + (1ull << 46))
#define UPPER_HALF 0xFFFF800000000000ull

static BOOLEAN IsInDirectMap(const VOID *Va)
{
    return (ULONG64)Va >= DIRECT_MAP_BASE && (ULONG64)Va < DIRECT_MAP_END;
}

//
// Rights.
//

typedef struct _RIGHTS_COUNT {
    ULONG64 LeafCount;
    ULONG64 WritableExecutableCount;
    ULONG64 UserCount;
    ULONG64 LowerHalfCount;
    ULONG64 ExecutableDirectMapCount;
    ULONG64 DirectMapNotWriteBackCount;
    ULONG64 OutsideImageExecutableCount;
} RIGHTS_COUNT;

// The kernel's image, or a driver's.
static BOOLEAN IsInImage(const VOID *Va)
{
    return ((const UCHAR *)Va >= KiTextStart && (const UCHAR *)Va < KiDataEnd) ||
           LdrFindImage((ULONG_PTR)Va) != NULL;
}

static VOID CountRights(const VOID *Va, const REF_WALK *Leaf, PVOID Context)
{
    RIGHTS_COUNT *Count = Context;
    const BOOLEAN IsExecutable = Leaf->IsExecutable && KeFeatures.Nx;
    Count->LeafCount += 1;
    Count->WritableExecutableCount += IsExecutable && Leaf->IsWritable;
    Count->UserCount += Leaf->IsUser;
    Count->LowerHalfCount += (ULONG64)Va < UPPER_HALF;
    Count->ExecutableDirectMapCount += IsExecutable && IsInDirectMap(Va);
    Count->DirectMapNotWriteBackCount += IsInDirectMap(Va) && Leaf->CacheIndex != REF_CACHE_WB;
    Count->OutsideImageExecutableCount += IsExecutable && !IsInImage(Va);
}

static RIGHTS_COUNT CountAllRights(VOID)
{
    RIGHTS_COUNT Count = {0};
    RefEnumerateLeaves(CountRights, &Count);
    return Count;
}

static VOID NothingIsWritableAndExecutable(VOID)
{
    const RIGHTS_COUNT Count = CountAllRights();
    KT_CHECK(Count.LeafCount > 0);
    KT_EQUAL(Count.WritableExecutableCount, 0);
}

static VOID NothingIsForUsers(VOID)
{
    const RIGHTS_COUNT Count = CountAllRights();
    KT_EQUAL(Count.UserCount, 0);
    KT_EQUAL(Count.LowerHalfCount, 0);
}

static VOID OnlyImagesAreExecutable(VOID)
{
    const RIGHTS_COUNT Count = CountAllRights();
    KT_EQUAL(Count.ExecutableDirectMapCount, 0);
    KT_EQUAL(Count.OutsideImageExecutableCount, 0);
}

static const struct {
    PCSTR Name;
    const UCHAR *Start;
    const UCHAR *End;
    BOOLEAN IsWritable;
    BOOLEAN IsExecutable;
} Sections[] = {
    {"text", KiTextStart, KiTextEnd, FALSE, TRUE},
    {"rodata", KiRodataStart, KiRodataEnd, FALSE, FALSE},
    {"data", KiDataStart, KiDataEnd, TRUE, FALSE},
};

static VOID ImageSectionsHaveTheirRights(VOID)
{
    for (ULONG Row = 0; Row < ARRAYSIZE(Sections); Row += 1) {
        for (const UCHAR *Va = Sections[Row].Start; Va < Sections[Row].End; Va += PAGE_SIZE) {
            const REF_WALK Walk = RefWalk(Va);
            if (Walk.Level == 0) {
                continue; // a guard page
            }
            KtSetContext("%s %p", Sections[Row].Name, Va);
            KT_EQUAL(Walk.IsWritable, Sections[Row].IsWritable);
            KT_EQUAL(Walk.IsExecutable && KeFeatures.Nx,
                     Sections[Row].IsExecutable && KeFeatures.Nx);
            KT_EQUAL(Walk.CacheIndex, REF_CACHE_WB);
        }
    }
}

static VOID KernelTextFaultsOnWrite(VOID)
{
    PVOID Va = (PVOID)(ULONG_PTR)KiTextStart;
    const KE_PROBE_RESULT Result = KeProbeWrite(Va, *KiTextStart);
    KT_EQUAL(Result.Faulted, TRUE);
    KT_EQUAL(Result.ErrorCode, REF_FAULT_PRESENT | REF_FAULT_WRITE);
}

//
// The direct map against the list of RAM.
//

typedef struct _RAM_CHECK {
    const PHYSICAL_MEMORY_RANGE *Ranges;
    ULONG64 OutsideCount;
    ULONG64 WrongPlaceCount;
} RAM_CHECK;

static BOOLEAN IsRam(const PHYSICAL_MEMORY_RANGE *Ranges, ULONG64 Address, ULONG64 ByteCount)
{
    for (; Ranges->NumberOfBytes.QuadPart != 0; Ranges += 1) {
        const ULONG64 Base = (ULONG64)Ranges->BaseAddress.QuadPart;
        if (Address >= Base &&
            Address + ByteCount <= Base + (ULONG64)Ranges->NumberOfBytes.QuadPart) {
            return TRUE;
        }
    }
    return FALSE;
}

static VOID CheckDirectMapLeaf(const VOID *Va, const REF_WALK *Leaf, PVOID Context)
{
    RAM_CHECK *Check = Context;
    if (!IsInDirectMap(Va)) {
        return;
    }
    Check->WrongPlaceCount += Leaf->PhysicalAddress != (ULONG64)Va - DIRECT_MAP_BASE;
    Check->OutsideCount += !IsRam(Check->Ranges, Leaf->PhysicalAddress, RefLeafBytes(Leaf->Level));
}

static VOID DirectMapCoversOnlyRam(VOID)
{
    PPHYSICAL_MEMORY_RANGE Ranges = MmGetPhysicalMemoryRanges();
    KT_REQUIRE(Ranges != NULL);
    RAM_CHECK Check = {Ranges, 0, 0};
    RefEnumerateLeaves(CheckDirectMapLeaf, &Check);
    KT_EQUAL(Check.OutsideCount, 0);
    KT_EQUAL(Check.WrongPlaceCount, 0);
    ExFreePool(Ranges);
}

static VOID DirectMapIsWriteBack(VOID)
{
    KT_EQUAL(CountAllRights().DirectMapNotWriteBackCount, 0);
}

static VOID DeviceFramesHaveNoAlias(VOID)
{
    ULONG64 Value;
    KT_EQUAL(RefWalk(KtDirectMap(KT_APIC_BASE)).Level, 0);
    KT_EQUAL(KeProbeRead(KtDirectMap(KT_APIC_BASE), &Value).Faulted, TRUE);
    KT_EQUAL(RefWalk((PVOID)KT_APIC_BASE).Level, 0);
}

//
// One cache type per frame.
//

#define MAXIMUM_RUN_COUNT 4096

// Frames that are mapped with a type other than write-back, as runs of adjacent leaves.
typedef struct _CACHE_RUN {
    ULONG64 FirstAddress;
    ULONG64 EndAddress;
    ULONG CacheIndex;
} CACHE_RUN;

static struct {
    CACHE_RUN Runs[MAXIMUM_RUN_COUNT];
    ULONG RunCount;
    BOOLEAN IsFull;
    ULONG64 ConflictCount;
} CacheCheck;

static VOID CollectRun(const VOID *Va, const REF_WALK *Leaf, PVOID Context)
{
    UNREFERENCED_PARAMETER(Va);
    UNREFERENCED_PARAMETER(Context);
    if (Leaf->CacheIndex == REF_CACHE_WB) {
        return;
    }
    const ULONG64 EndAddress = Leaf->PhysicalAddress + RefLeafBytes(Leaf->Level);
    if (CacheCheck.RunCount > 0) {
        CACHE_RUN *Last = &CacheCheck.Runs[CacheCheck.RunCount - 1];
        if (Last->EndAddress == Leaf->PhysicalAddress && Last->CacheIndex == Leaf->CacheIndex) {
            Last->EndAddress = EndAddress;
            return;
        }
    }
    if (CacheCheck.RunCount == MAXIMUM_RUN_COUNT) {
        CacheCheck.IsFull = TRUE;
        return;
    }
    CacheCheck.Runs[CacheCheck.RunCount] =
        (CACHE_RUN){Leaf->PhysicalAddress, EndAddress, Leaf->CacheIndex};
    CacheCheck.RunCount += 1;
}

static VOID CountConflicts(const VOID *Va, const REF_WALK *Leaf, PVOID Context)
{
    UNREFERENCED_PARAMETER(Va);
    UNREFERENCED_PARAMETER(Context);
    const ULONG64 EndAddress = Leaf->PhysicalAddress + RefLeafBytes(Leaf->Level);
    for (ULONG Index = 0; Index < CacheCheck.RunCount; Index += 1) {
        const CACHE_RUN *Run = &CacheCheck.Runs[Index];
        CacheCheck.ConflictCount += Run->CacheIndex != Leaf->CacheIndex &&
                                    Run->FirstAddress < EndAddress &&
                                    Leaf->PhysicalAddress < Run->EndAddress;
    }
}

static VOID CheckOneTypePerFrame(VOID)
{
    CacheCheck.RunCount = 0;
    CacheCheck.IsFull = FALSE;
    CacheCheck.ConflictCount = 0;
    RefEnumerateLeaves(CollectRun, NULL);
    RefEnumerateLeaves(CountConflicts, NULL);
    KT_EQUAL(CacheCheck.IsFull, FALSE);
    KT_EQUAL(CacheCheck.ConflictCount, 0);
}

static VOID NoFrameHasTwoCacheTypes(VOID)
{
    CheckOneTypePerFrame();
}

static VOID NoFrameHasTwoCacheTypesWhileDriversMap(VOID)
{
    PMDL Mdls[] = {KtAllocatePages(3), KtAllocatePages(4), KtAllocatePages(5)};
    static const MEMORY_CACHING_TYPE Types[] = {MmNonCached, MmWriteCombined, MmCached};
    for (ULONG Index = 0; Index < ARRAYSIZE(Mdls); Index += 1) {
        KT_REQUIRE(Mdls[Index] != NULL);
        KT_CHECK(MmMapLockedPagesSpecifyCache(Mdls[Index], KernelMode, Types[Index], NULL, FALSE,
                                              NormalPagePriority) != NULL);
    }
    CheckOneTypePerFrame();
    KT_CHECK(CacheCheck.RunCount > 0);
    for (ULONG Index = 0; Index < ARRAYSIZE(Mdls); Index += 1) {
        KtFreePages(Mdls[Index]);
    }
    CheckOneTypePerFrame();
}

//
// The self-map.
//

static VOID SelfMapShowsTheRoot(VOID)
{
    const VOID *Root = (const VOID *)REF_PXE_BASE;
    KT_EQUAL(KtPhysicalOf(Root), RefReadCr3() & REF_FRAME);
    const ULONG64 Entry = *RefEntry((const VOID *)REF_PTE_BASE, REF_LEVEL_COUNT);
    KT_EQUAL(Entry & REF_FRAME, RefReadCr3() & REF_FRAME);
    KT_EQUAL(Entry & REF_WRITABLE, 0);
    KT_EQUAL(Entry & REF_USER, 0);
}

static VOID SelfMapShowsEveryEntry(VOID)
{
    PVOID Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, PAGE_SIZE, KT_TAG);
    KT_REQUIRE(Block != NULL);
    const PVOID Addresses[] = {Block, (PVOID)(ULONG_PTR)KiTextStart,
                               KtDirectMap(KtPhysicalOf(Block))};
    for (ULONG Index = 0; Index < ARRAYSIZE(Addresses); Index += 1) {
        KtSetContext("%p", Addresses[Index]);
        MM_PAGE_INFORMATION Information;
        MmQueryPage(Addresses[Index], &Information);
        const REF_WALK Walk = RefWalk(Addresses[Index]);
        KT_EQUAL(Information.Level, Walk.Level);
        KT_EQUAL(Information.Entry, Walk.Entry);
        KT_EQUAL(Information.PhysicalAddress.QuadPart, Walk.PhysicalAddress);
        KT_EQUAL(KtPhysicalOf(Addresses[Index]), Walk.PhysicalAddress);
    }
    ExFreePool(Block);
}

static VOID SelfMapCannotBeWritten(VOID)
{
    for (ULONG Level = 1; Level <= REF_LEVEL_COUNT; Level += 1) {
        volatile ULONG64 *Entry = RefEntry(KtDirectMap(KtPhysicalOf(KiDataStart)), Level);
        const ULONG64 Before = Level == 1 ? 0 : *Entry;
        KtSetContext("level %u", Level);
        const KE_PROBE_RESULT Result = KeProbeWrite((PVOID)(ULONG_PTR)Entry, 0);
        KT_EQUAL(Result.Faulted, TRUE);
        KT_CHECK((Result.ErrorCode & REF_FAULT_WRITE) != 0);
        KT_EQUAL(Level == 1 ? 0 : *Entry, Before);
    }
}

static VOID SelfMapCannotBeExecuted(VOID)
{
    const KE_PROBE_RESULT Result = KeProbeExecute((const VOID *)REF_PXE_BASE);
    KT_EQUAL(Result.Faulted, KeFeatures.Nx);
}

//
// What must not be there.
//

static VOID NullFaults(VOID)
{
    ULONG64 Value;
    KT_EQUAL(RefWalk(NULL).Level, 0);
    KT_EQUAL(KeProbeRead(NULL, &Value).Faulted, TRUE);
    KT_EQUAL(KeProbeWrite(NULL, 0).Faulted, TRUE);
    KT_EQUAL(KeProbeExecute(NULL).Faulted, TRUE);
}

static VOID BootTablesAreGone(VOID)
{
    KT_EQUAL(RefWalk((const VOID *)(1 * KT_MIB)).Level, 0);
    KT_EQUAL(*RefEntry(NULL, REF_LEVEL_COUNT), 0);
}

typedef struct _LEAF_LIST {
    ULONG64 Count;
    ULONG64 Hash;
} LEAF_LIST;

static VOID AddLeaf(LEAF_LIST *List, ULONG64 Va, ULONG64 Entry, ULONG Level)
{
    static const ULONG64 Multiplier = 0x9E3779B97F4A7C15; // any odd number with mixed bits
    List->Count += 1;
    List->Hash = (List->Hash ^ Va ^ Entry ^ Level) * Multiplier;
}

static VOID AddReferenceLeaf(const VOID *Va, const REF_WALK *Leaf, PVOID Context)
{
    AddLeaf(Context, (ULONG64)Va, Leaf->Entry, Leaf->Level);
}

static BOOLEAN AddReportedLeaf(ULONG_PTR Va, const MM_PAGE_INFORMATION *Leaf, PVOID Context)
{
    AddLeaf(Context, Va, Leaf->Entry, Leaf->Level);
    return TRUE;
}

static VOID ReportListsEveryLeaf(VOID)
{
    LEAF_LIST Ours = {0, 0};
    LEAF_LIST Theirs = {0, 0};
    RefEnumerateLeaves(AddReferenceLeaf, &Ours);
    MmEnumerateLeaves(AddReportedLeaf, &Theirs);
    KT_EQUAL(Theirs.Count, Ours.Count);
    KT_EQUAL(Theirs.Hash, Ours.Hash);
}

static VOID AddressesAreValidOrNot(VOID)
{
    KT_EQUAL(MmIsAddressValid((PVOID)(ULONG_PTR)KiTextStart), TRUE);
    KT_EQUAL(MmIsAddressValid((PVOID)(ULONG_PTR)KiDataStart + PAGE_SIZE),
             RefWalk(KiDataStart + PAGE_SIZE).Level != 0);
    KT_EQUAL(MmIsAddressValid((PVOID)REF_PXE_BASE), TRUE);
    KT_EQUAL(MmIsAddressValid(NULL), FALSE);
    KT_EQUAL(MmIsAddressValid((PVOID)0xFFFFA00000000000), FALSE);
    KT_EQUAL(MmIsAddressValid((PVOID)0x0000900000000000), FALSE);
    KT_EQUAL(MmIsAddressValid((PVOID)0xFFFF700000000000), FALSE);
    KT_EQUAL(MmIsAddressValid((PVOID)MAXULONG64), RefWalk((PVOID)MAXULONG64).Level != 0);
}

static VOID PhysicalAddressesIncludeTheOffset(VOID)
{
    static UCHAR Object[3 * PAGE_SIZE];
    for (ULONG Offset = 0; Offset < sizeof(Object); Offset += 0x7FF) {
        KT_EQUAL(KtPhysicalOf(&Object[Offset]), RefWalk(&Object[Offset]).PhysicalAddress);
        KT_EQUAL(KtPhysicalOf(&Object[Offset]) % PAGE_SIZE, (ULONG64)&Object[Offset] % PAGE_SIZE);
    }
    KT_EQUAL(KtPhysicalOf(NULL), 0);
    KT_EQUAL(KtPhysicalOf((PVOID)0x0000900000000000), 0);
}

static VOID PhysicalAddressesWorkAtHighLevel(VOID)
{
    KIRQL OldIrql;
    KeRaiseIrql(HIGH_LEVEL, &OldIrql);
    const ULONG64 Address = KtPhysicalOf(KiTextStart);
    KeLowerIrql(OldIrql);
    KT_EQUAL(Address, RefWalk(KiTextStart).PhysicalAddress);
}

static const KT_TEST Tests[] = {
    {"no page is writable and executable", NothingIsWritableAndExecutable},
    {"no page is for user mode, the lower half is empty", NothingIsForUsers},
    {"nothing but images is executable", OnlyImagesAreExecutable},
    {"text is r-x, read-only data r--, data rw-", ImageSectionsHaveTheirRights},
    {"kernel text faults on write", KernelTextFaultsOnWrite},
    {"the direct map shows RAM, all at its place, and nothing else", DirectMapCoversOnlyRam},
    {"the direct map is write-back [12.2.10]", DirectMapIsWriteBack},
    {"device frames have no hidden alias [12.2.10]", DeviceFramesHaveNoAlias},
    {"no frame is mapped with two cache types [12.2.10]", NoFrameHasTwoCacheTypes},
    {"no frame is mapped with two cache types while drivers map RAM uncached [12.2.6, 12.2.10]",
     NoFrameHasTwoCacheTypesWhileDriversMap},
    {"the self-map shows the root table, read-only", SelfMapShowsTheRoot},
    {"entries stand at the classic addresses and MmQueryPage agrees", SelfMapShowsEveryEntry},
    {"a write through the self-map faults at every level", SelfMapCannotBeWritten},
    {"the self-map is not executable", SelfMapCannotBeExecuted},
    {"the null page faults", NullFaults},
    {"the identity map of the boot is gone", BootTablesAreGone},
    {"MmEnumerateLeaves lists exactly the leaves that the tables hold", ReportListsEveryLeaf},
    {"MmIsAddressValid tells mapped from unmapped and non-canonical [4.7.1]",
     AddressesAreValidOrNot},
    {"MmGetPhysicalAddress includes the page offset, 0 for invalid addresses [4.5.1, 4.5.2]",
     PhysicalAddressesIncludeTheOffset},
    {"MmGetPhysicalAddress works at HIGH_LEVEL [4.5.3]", PhysicalAddressesWorkAtHighLevel},
};

const KT_SUITE KtTablesSuite = {"tables", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
