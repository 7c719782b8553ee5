// MmMapIoSpaceEx, MmMapIoSpace, MmUnmapIoSpace, MmIsIoSpaceActive.
//
// Most mappings are of I/O space far above RAM in which nothing answers: such a range can be
// mapped, its entries read and its forbidden accesses probed, but nothing is ever read from it.
// What must be touched is RAM of an MDL, or a device's memory where the machine has one.
#include "kernel/inc/ke.h"
#include "kernel/inc/rtl.h"
#include "kernel/inc/kearch.h"
#include "tests/kernel/reference.h"
#include "tests/kernel/tests.h"

#define RETURN_INSTRUCTION 0xC3
#define CACHE_MODIFIERS (PAGE_NOCACHE | PAGE_WRITECOMBINE)

static const struct {
    ULONG Protect;
    BOOLEAN IsReadable; // where the processor can forbid it
    BOOLEAN IsWritable;
    BOOLEAN IsExecutable;
} Accesses[] = {
    {PAGE_READONLY, TRUE, FALSE, FALSE},        {PAGE_READWRITE, TRUE, TRUE, FALSE},
    {PAGE_EXECUTE, FALSE, FALSE, TRUE},         {PAGE_EXECUTE_READ, TRUE, FALSE, TRUE},
    {PAGE_EXECUTE_READWRITE, TRUE, TRUE, TRUE},
};

static const struct {
    ULONG Modifier;
    MEMORY_CACHING_TYPE CachingType;
    ULONG CacheIndex;
    ULONG64 EntryBits;
} CacheTypes[] = {
    {0, MmCached, REF_CACHE_WB, 0},
    {PAGE_NOCACHE, MmNonCached, REF_CACHE_UC, REF_PCD | REF_PWT},
    {PAGE_WRITECOMBINE, MmWriteCombined, REF_CACHE_WC, REF_PWT},
};

// What must be true of a leaf, and of the accesses that it forbids.
typedef struct _EXPECTED {
    BOOLEAN ReadFaults;
    BOOLEAN WriteFaults;
    BOOLEAN ExecuteFaults;
} EXPECTED;

static EXPECTED Predict(ULONG Row)
{
    return (EXPECTED){
        .ReadFaults = !Accesses[Row].IsReadable && KeFeatures.Pks,
        .WriteFaults = !Accesses[Row].IsWritable,
        .ExecuteFaults = !Accesses[Row].IsExecutable && KeFeatures.Nx,
    };
}

static PVOID MapRow(ULONG64 Address, SIZE_T ByteCount, ULONG AccessRow, ULONG CacheRow)
{
    KtSetContext("protection 0x%x", Accesses[AccessRow].Protect | CacheTypes[CacheRow].Modifier);
    return MmMapIoSpaceEx(KtPhysical(Address), ByteCount,
                          Accesses[AccessRow].Protect | CacheTypes[CacheRow].Modifier);
}

static VOID CheckEntry(const VOID *Va, ULONG AccessRow, ULONG CacheRow)
{
    const REF_WALK Walk = RefWalk(Va);
    KT_CHECK(Walk.Level != 0);
    KT_EQUAL(Walk.IsWritable, Accesses[AccessRow].IsWritable);
    KT_EQUAL(Walk.IsExecutable || !KeFeatures.Nx,
             Accesses[AccessRow].IsExecutable || !KeFeatures.Nx);
    KT_EQUAL(Walk.IsUser, FALSE);
    KT_EQUAL(Walk.CacheIndex, CacheTypes[CacheRow].CacheIndex);
    KT_EQUAL(Walk.Entry & (REF_PCD | REF_PWT), CacheTypes[CacheRow].EntryBits);
    // A processor without PKS ignores the key, so the entry is the same on every machine.
    KT_EQUAL(REF_KEY(Walk.Entry) != 0, !Accesses[AccessRow].IsReadable);
}

static VOID CheckFault(KE_PROBE_RESULT Result, const VOID *Va, ULONG ErrorCode)
{
    KT_EQUAL(Result.Faulted, TRUE);
    KT_EQUAL(Result.Vector, REF_VECTOR_PAGE_FAULT);
    KT_EQUAL(Result.FaultAddress, Va);
    KT_EQUAL(Result.ErrorCode, ErrorCode);
}

// Only the accesses that must fault: safe where no device answers.
static VOID CheckForbiddenAccesses(PVOID Va, EXPECTED Expected)
{
    ULONG64 Value;
    if (Expected.ReadFaults) {
        CheckFault(KeProbeRead(Va, &Value), Va, REF_FAULT_PRESENT | REF_FAULT_KEY);
    }
    if (Expected.WriteFaults) {
        const KE_PROBE_RESULT Result = KeProbeWrite(Va, 0);
        // A page that forbids reads by its key forbids writes by it as well.
        CheckFault(Result, Va,
                   REF_FAULT_PRESENT | REF_FAULT_WRITE |
                       (Expected.ReadFaults ? Result.ErrorCode & REF_FAULT_KEY : 0));
    }
    if (Expected.ExecuteFaults) {
        CheckFault(KeProbeExecute(Va), Va, REF_FAULT_PRESENT | REF_FAULT_FETCH);
    }
}

// All three accesses, to memory that holds return instructions.
static VOID CheckAllAccesses(PVOID Va, EXPECTED Expected)
{
    ULONG64 Value = 0;
    CheckForbiddenAccesses(Va, Expected);
    KT_EQUAL(KeProbeRead(Va, &Value).Faulted, Expected.ReadFaults);
    if (!Expected.ReadFaults) {
        KT_EQUAL(Value & 0xFF, RETURN_INSTRUCTION);
    }
    KT_EQUAL(KeProbeWrite(Va, RETURN_INSTRUCTION).Faulted, Expected.WriteFaults);
    KT_EQUAL(KeProbeExecute(Va).Faulted, Expected.ExecuteFaults);
}

static BOOLEAN FillWithReturns(ULONG64 Address, ULONG Modifier)
{
    PUCHAR Va = MmMapIoSpaceEx(KtPhysical(Address), PAGE_SIZE, PAGE_READWRITE | Modifier);
    if (Va == NULL) {
        return FALSE;
    }
    for (ULONG Offset = 0; Offset < sizeof(ULONG64); Offset += 1) {
        *(volatile UCHAR *)(Va + Offset) = RETURN_INSTRUCTION;
    }
    MmUnmapIoSpace(Va, PAGE_SIZE);
    return TRUE;
}

static VOID CheckCombination(ULONG64 Address, ULONG AccessRow, ULONG CacheRow)
{
    PVOID Va = MapRow(Address, PAGE_SIZE, AccessRow, CacheRow);
    KT_REQUIRE(Va != NULL);
    KT_EQUAL(RefWalk(Va).PhysicalAddress, Address);
    CheckEntry(Va, AccessRow, CacheRow);
    CheckAllAccesses(Va, Predict(AccessRow));
    MmUnmapIoSpace(Va, PAGE_SIZE);
    KT_EQUAL(RefWalk(Va).Level, 0);
}

static VOID AllCombinationsOnRam(VOID)
{
    for (ULONG CacheRow = 0; CacheRow < ARRAYSIZE(CacheTypes); CacheRow += 1) {
        for (ULONG AccessRow = 0; AccessRow < ARRAYSIZE(Accesses); AccessRow += 1) {
            PMDL Mdl = KtAllocatePages(1);
            KT_REQUIRE(Mdl != NULL);
            KT_CHECK(FillWithReturns(KtPageAddress(Mdl, 0), CacheTypes[CacheRow].Modifier));
            CheckCombination(KtPageAddress(Mdl, 0), AccessRow, CacheRow);
            KtFreePages(Mdl);
        }
    }
}

static VOID AllCombinationsOnDeviceMemory(VOID)
{
    const ULONG64 Address = KtFindDeviceMemory();
    if (Address == 0) {
        KT_SKIP("the machine has no device with plain memory");
    }
    for (ULONG CacheRow = 0; CacheRow < ARRAYSIZE(CacheTypes); CacheRow += 1) {
        KT_CHECK(FillWithReturns(Address, CacheTypes[CacheRow].Modifier));
        for (ULONG AccessRow = 0; AccessRow < ARRAYSIZE(Accesses); AccessRow += 1) {
            CheckCombination(Address, AccessRow, CacheRow);
        }
    }
}

static VOID AllCombinationsWithEveryLeafSize(VOID)
{
    static const ULONG64 LeafBytes[] = {PAGE_SIZE, 2 * KT_MIB, 1 * KT_GIB};
    for (ULONG LeafRow = 0; LeafRow < ARRAYSIZE(LeafBytes); LeafRow += 1) {
        const ULONG64 Gap = KtFindGap(LeafBytes[LeafRow], LeafBytes[LeafRow]);
        KT_REQUIRE(Gap != 0);
        for (ULONG Row = 0; Row < ARRAYSIZE(Accesses) * ARRAYSIZE(CacheTypes); Row += 1) {
            const ULONG AccessRow = Row % ARRAYSIZE(Accesses);
            PVOID Va = MapRow(Gap, LeafBytes[LeafRow], AccessRow, Row / ARRAYSIZE(Accesses));
            KT_REQUIRE(Va != NULL);
            CheckEntry(Va, AccessRow, Row / ARRAYSIZE(Accesses));
            CheckForbiddenAccesses(Va, Predict(AccessRow));
            MmUnmapIoSpace(Va, LeafBytes[LeafRow]);
        }
    }
}

//
// What is refused.
//

static BOOLEAN IsLegalProtect(ULONG Protect)
{
    for (ULONG Row = 0; Row < ARRAYSIZE(Accesses); Row += 1) {
        if ((Protect & ~CACHE_MODIFIERS) == Accesses[Row].Protect) {
            return (Protect & CACHE_MODIFIERS) != CACHE_MODIFIERS;
        }
    }
    return FALSE;
}

static VOID CheckProtect(ULONG64 Gap, ULONG Protect)
{
    KtSetContext("protection 0x%x", Protect);
    PVOID Va = MmMapIoSpaceEx(KtPhysical(Gap), PAGE_SIZE, Protect);
    KT_EQUAL(Va != NULL, IsLegalProtect(Protect));
    if (Va != NULL) {
        MmUnmapIoSpace(Va, PAGE_SIZE);
    }
}

static VOID EveryIllegalProtectionIsRefused(VOID)
{
    const ULONG64 Gap = KtFindGap(PAGE_SIZE, PAGE_SIZE);
    KT_REQUIRE(Gap != 0);
    for (ULONG Protect = 0; Protect < 2 * PAGE_WRITECOMBINE; Protect += 1) {
        CheckProtect(Gap, Protect);
    }
    for (ULONG Bit = 2 * PAGE_WRITECOMBINE; Bit != 0; Bit <<= 1) {
        CheckProtect(Gap, Bit);
        CheckProtect(Gap, Bit | PAGE_READWRITE);
    }
}

static VOID ZeroBytesAreRefused(VOID)
{
    const ULONG64 Gap = KtFindGap(PAGE_SIZE, PAGE_SIZE);
    static const ULONG Offsets[] = {0, 1, PAGE_SIZE - 1};
    for (ULONG Row = 0; Row < ARRAYSIZE(Offsets); Row += 1) {
        KT_EQUAL(MmMapIoSpaceEx(KtPhysical(Gap + Offsets[Row]), 0, PAGE_READWRITE), NULL);
        KT_EQUAL(MmMapIoSpace(KtPhysical(Gap + Offsets[Row]), 0, MmNonCached), NULL);
    }
}

static VOID WrappingAndTooWideRangesAreRefused(VOID)
{
    const ULONG64 End = 1ull << KeFeatures.PhysicalBits;
    const struct {
        ULONG64 Address;
        SIZE_T ByteCount;
    } Ranges[] = {
        {End, 1},
        {End, PAGE_SIZE},
        {End - 1, 2},
        {End - PAGE_SIZE, PAGE_SIZE + 1},
        {KT_GAP_LOWEST, End},
        {KT_GAP_LOWEST, MAXULONG64},
        {KT_GAP_LOWEST, MAXULONG64 - KT_GAP_LOWEST + 1},
        {KT_GAP_LOWEST, MAXULONG64 - KT_GAP_LOWEST + 2},
        {MAXULONG64, 1},
        {MAXULONG64, 2},
        {MAXULONG64 - PAGE_SIZE + 1, PAGE_SIZE},
        {MAXULONG64 - PAGE_SIZE + 1, PAGE_SIZE + 1},
        {1ull << 63, PAGE_SIZE},
    };
    for (ULONG Row = 0; Row < ARRAYSIZE(Ranges); Row += 1) {
        KtSetContext("row %u", Row);
        KT_EQUAL(
            MmMapIoSpaceEx(KtPhysical(Ranges[Row].Address), Ranges[Row].ByteCount, PAGE_READWRITE),
            NULL);
        KT_EQUAL(MmMapIoSpace(KtPhysical(Ranges[Row].Address), Ranges[Row].ByteCount, MmNonCached),
                 NULL);
        KT_EQUAL(MmIsIoSpaceActive(KtPhysical(Ranges[Row].Address), Ranges[Row].ByteCount), FALSE);
    }
}

static VOID TheLastPhysicalPageCanBeMapped(VOID)
{
    const ULONG64 Address = (1ull << KeFeatures.PhysicalBits) - PAGE_SIZE;
    PVOID Va = MmMapIoSpaceEx(KtPhysical(Address), PAGE_SIZE, PAGE_READWRITE | PAGE_NOCACHE);
    KT_REQUIRE(Va != NULL);
    KT_EQUAL(RefWalk(Va).PhysicalAddress, Address);
    MmUnmapIoSpace(Va, PAGE_SIZE);
}

static VOID IllegalCachingTypesAreRefused(VOID)
{
    const ULONG64 Gap = KtFindGap(PAGE_SIZE, PAGE_SIZE);
    static const ULONG Illegal[] = {MmMaximumCacheType, 7, 0x7F, 0xFF, MAXULONG, 0x106};
    for (ULONG Row = 0; Row < ARRAYSIZE(Illegal); Row += 1) {
        KtSetContext("type 0x%x", Illegal[Row]);
        KT_EQUAL(MmMapIoSpace(KtPhysical(Gap), PAGE_SIZE, (MEMORY_CACHING_TYPE)Illegal[Row]), NULL);
    }
}

static VOID CachingTypesMapToTheirEntryBits(VOID)
{
    static const struct {
        ULONG Type;
        ULONG CacheIndex;
    } Rows[] = {
        {MmNonCached, REF_CACHE_UC},          {MmCached, REF_CACHE_WB},
        {MmWriteCombined, REF_CACHE_WC},      {MmHardwareCoherentCached, REF_CACHE_WB},
        {MmNonCachedUnordered, REF_CACHE_UC}, {MmUSWCCached, REF_CACHE_WC},
        {0x100 + MmCached, REF_CACHE_WB}, // only the low byte counts
    };
    const ULONG64 Gap = KtFindGap(PAGE_SIZE, PAGE_SIZE);
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        KtSetContext("type 0x%x", Rows[Row].Type);
        PVOID Va = MmMapIoSpace(KtPhysical(Gap), PAGE_SIZE, (MEMORY_CACHING_TYPE)Rows[Row].Type);
        KT_REQUIRE(Va != NULL);
        const REF_WALK Walk = RefWalk(Va);
        KT_EQUAL(Walk.CacheIndex, Rows[Row].CacheIndex);
        KT_EQUAL(Walk.IsWritable, TRUE);
        KT_EQUAL(Walk.IsExecutable && KeFeatures.Nx, FALSE);
        MmUnmapIoSpace(Va, PAGE_SIZE);
    }
}

//
// RAM.
//

static VOID CheckRefused(ULONG64 Address, SIZE_T ByteCount)
{
    KtSetContext("0x%llx", Address);
    for (ULONG Row = 0; Row < ARRAYSIZE(CacheTypes); Row += 1) {
        KT_EQUAL(MmMapIoSpaceEx(KtPhysical(Address), ByteCount,
                                PAGE_READWRITE | CacheTypes[Row].Modifier),
                 NULL);
        KT_EQUAL(MmMapIoSpace(KtPhysical(Address), ByteCount, CacheTypes[Row].CachingType), NULL);
    }
}

static VOID FreeRamIsRefused(VOID)
{
    KT_RETAIL_ONLY();
    PMDL Mdl = KtAllocatePages(1);
    KT_REQUIRE(Mdl != NULL);
    const ULONG64 Address = KtPageAddress(Mdl, 0);
    KtFreePages(Mdl);
    CheckRefused(Address, PAGE_SIZE);
    CheckRefused(Address + 0x123, 1);
}

static VOID AllRamRangesAreRefused(VOID)
{
    KT_RETAIL_ONLY();
    PPHYSICAL_MEMORY_RANGE Ranges = MmGetPhysicalMemoryRanges();
    KT_REQUIRE(Ranges != NULL);
    for (ULONG Index = 0; Ranges[Index].NumberOfBytes.QuadPart != 0; Index += 1) {
        const ULONG64 Base = (ULONG64)Ranges[Index].BaseAddress.QuadPart;
        const ULONG64 ByteCount = (ULONG64)Ranges[Index].NumberOfBytes.QuadPart;
        CheckRefused(Base, ByteCount);
        // Device memory and RAM together: one byte on the other side is enough.
        CheckRefused(Base + ByteCount - 1, 2);
        CheckRefused(Base - 1, 2);
        CheckRefused(Base + ByteCount - PAGE_SIZE, 2 * PAGE_SIZE);
    }
    CheckRefused(0, 4 * KT_GIB);
    CheckRefused(0, KT_GAP_LOWEST);
    ExFreePool(Ranges);
}

static VOID TheKernelIsRefused(VOID)
{
    static UCHAR Data[16];
    CheckRefused(KtPhysicalOf((const VOID *)(ULONG_PTR)&TheKernelIsRefused), 1);
    CheckRefused(KtPhysicalOf(Data), sizeof(Data));
    CheckRefused(KtPhysicalOf(Accesses), sizeof(Accesses));
}

static VOID PageTablesAreRefused(VOID)
{
    const VOID *Va = KtDirectMap(KtPhysicalOf(Accesses));
    CheckRefused(RefReadCr3() & REF_FRAME, PAGE_SIZE);
    // The entry of level n lies in the table of level n, and names the table of level n - 1.
    for (ULONG Level = REF_LEVEL_COUNT; Level > 1; Level -= 1) {
        const ULONG64 Entry = *RefEntry(Va, Level);
        if (Level < REF_LEVEL_COUNT && (Entry & REF_LARGE) != 0) {
            break;
        }
        CheckRefused(Entry & REF_FRAME, PAGE_SIZE);
    }
}

static VOID PageTablesOfMappingsAreRefused(VOID)
{
    const ULONG64 Gap = KtFindGap(PAGE_SIZE, PAGE_SIZE);
    PVOID Va = MmMapIoSpaceEx(KtPhysical(Gap), PAGE_SIZE, PAGE_READWRITE | PAGE_NOCACHE);
    KT_REQUIRE(Va != NULL);
    for (ULONG Level = 2; Level <= REF_LEVEL_COUNT; Level += 1) {
        CheckRefused(*RefEntry(Va, Level) & REF_FRAME, PAGE_SIZE);
    }
    MmUnmapIoSpace(Va, PAGE_SIZE);
}

static VOID LockedRamIsMapped(VOID)
{
    PMDL Mdl = KtAllocatePages(1);
    KT_REQUIRE(Mdl != NULL);
    PUCHAR Va = MmMapIoSpaceEx(KtPhysical(KtPageAddress(Mdl, 0)), PAGE_SIZE, PAGE_READWRITE);
    KT_REQUIRE(Va != NULL);
    Va[5] = 0xA5;
    const PUCHAR Other =
        MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmCached, NULL, FALSE, NormalPagePriority);
    KT_REQUIRE(Other != NULL);
    KT_EQUAL(Other[5], 0xA5);
    MmUnmapLockedPages(Other, Mdl);
    MmUnmapIoSpace(Va, PAGE_SIZE);
    KtFreePages(Mdl);
}

static VOID NonpagedPoolIsMapped(VOID)
{
    PULONG Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, PAGE_SIZE, KT_TAG);
    KT_REQUIRE(Block != NULL);
    Block[3] = 0x12345678;
    PULONG Va =
        MmMapIoSpaceEx(KtPhysical(KtPhysicalOf(Block)), PAGE_SIZE, PAGE_READONLY | PAGE_NOCACHE);
    KT_REQUIRE(Va != NULL);
    KT_EQUAL(Va[3], 0x12345678);
    // Pool is write-back, whoever asks for what.
    KT_EQUAL(RefWalk(Va).CacheIndex, REF_CACHE_WB);
    MmUnmapIoSpace(Va, PAGE_SIZE);
    ExFreePool(Block);
}

static VOID TheTypeOfLockedRamWins(VOID)
{
    PMDL Mdl = KtAllocatePages(1);
    KT_REQUIRE(Mdl != NULL);
    PVOID First = MmMapIoSpace(KtPhysical(KtPageAddress(Mdl, 0)), PAGE_SIZE, MmNonCached);
    PVOID Second = MmMapIoSpace(KtPhysical(KtPageAddress(Mdl, 0)), PAGE_SIZE, MmWriteCombined);
    KT_REQUIRE(First != NULL && Second != NULL);
    KT_EQUAL(RefWalk(First).CacheIndex, REF_CACHE_UC);
    KT_EQUAL(RefWalk(Second).CacheIndex, REF_CACHE_UC);
    MmUnmapIoSpace(First, PAGE_SIZE);
    MmUnmapIoSpace(Second, PAGE_SIZE);
    KtFreePages(Mdl);
}

static VOID PartlyLockedRamIsRefused(VOID)
{
    KT_RETAIL_ONLY();
    const ULONG64 Address = KtFindFreeRun(2);
    KT_REQUIRE(Address != 0);
    PMDL One = MmAllocatePagesForMdl(KtPhysical(Address), KtPhysical(Address + PAGE_SIZE - 1),
                                     KtPhysical(0), PAGE_SIZE);
    KT_REQUIRE(One != NULL);
    KT_EQUAL(KtPageAddress(One, 0), Address);
    CheckRefused(Address, 2 * PAGE_SIZE);
    KtFreePages(One);
    KtReleaseFreeRun();
}

//
// Geometry.
//

// Every page of the mapping, and the unmapped ones around it.
static VOID CheckPages(const VOID *Va, ULONG64 Address, ULONG64 ByteCount)
{
    const ULONG64 FirstPage = Address / PAGE_SIZE * PAGE_SIZE;
    const ULONG64 PageCount = (Address + ByteCount - 1) / PAGE_SIZE - Address / PAGE_SIZE + 1;
    const VOID *PageVa = PAGE_ALIGN(Va);
    for (ULONG64 Page = 0; Page < PageCount; Page += 1) {
        KT_EQUAL(RefWalk(KtAdd(PageVa, Page * PAGE_SIZE)).PhysicalAddress,
                 FirstPage + Page * PAGE_SIZE);
    }
    KT_EQUAL(RefWalk(KtAdd(PageVa, PageCount * PAGE_SIZE)).Level, 0);
    KT_EQUAL(RefWalk((const VOID *)((ULONG_PTR)PageVa - PAGE_SIZE)).Level, 0);
}

static VOID OffsetsAndLengthsNeedNoAlignment(VOID)
{
    static const ULONG Offsets[] = {0, 1, 4, 0x800, 0xFFC, 0xFFF};
    static const ULONG Lengths[] = {1, 2, 8, 0xFFF, 0x1000, 0x1001, 0x2000, 0x2FFF, 0x3001};
    const ULONG64 Gap = KtFindGap(8 * PAGE_SIZE, PAGE_SIZE);
    KT_REQUIRE(Gap != 0);
    for (ULONG Row = 0; Row < ARRAYSIZE(Offsets) * ARRAYSIZE(Lengths); Row += 1) {
        const ULONG64 Address = Gap + PAGE_SIZE + Offsets[Row % ARRAYSIZE(Offsets)];
        const ULONG Length = Lengths[Row / ARRAYSIZE(Offsets)];
        KtSetContext("0x%llx, 0x%x bytes", Address, Length);
        PVOID Va = MmMapIoSpaceEx(KtPhysical(Address), Length, PAGE_READWRITE | PAGE_NOCACHE);
        KT_REQUIRE(Va != NULL);
        KT_EQUAL((ULONG64)Va % PAGE_SIZE, Address % PAGE_SIZE);
        KT_EQUAL(KtPhysicalOf(Va), Address);
        CheckPages(Va, Address, Length);
        MmUnmapIoSpace(Va, Length);
        KT_EQUAL(RefWalk(Va).Level, 0);
    }
}

static VOID AcceptanceExampleOfTheContract(VOID)
{
    PVOID Va = MmMapIoSpace(KtPhysical(0xFED00004), 8, MmNonCached);
    KT_REQUIRE(Va != NULL);
    KT_EQUAL((ULONG64)Va & (PAGE_SIZE - 1), 4);
    const REF_WALK Walk = RefWalk(Va);
    KT_EQUAL(Walk.Level, 1);
    KT_EQUAL(Walk.Entry & (REF_PRESENT | REF_WRITABLE | REF_PCD | REF_PWT),
             REF_PRESENT | REF_WRITABLE | REF_PCD | REF_PWT);
    KT_EQUAL((Walk.Entry & REF_NO_EXECUTE) != 0, KeFeatures.Nx);
    MmUnmapIoSpace(Va, 8);
    KT_EQUAL(RefWalk(Va).Entry, 0);
}

static VOID ARegisterReadsThroughTheMapping(VOID)
{
    PUCHAR Apic = MmMapIoSpaceEx(KtPhysical(KT_APIC_BASE), PAGE_SIZE, PAGE_READONLY | PAGE_NOCACHE);
    KT_REQUIRE(Apic != NULL);
    const ULONG Version = READ_REGISTER_ULONG((volatile ULONG *)(Apic + KT_APIC_VERSION));
    MmUnmapIoSpace(Apic, PAGE_SIZE);
    if (Version == MAXULONG) {
        KT_SKIP("the local APIC is in x2APIC mode");
    }
    // Integrated APICs have version 0x10 to 0x15.
    KT_EQUAL(Version & 0xF0, 0x10);
}

static VOID GuardPagesSurroundMappings(VOID)
{
    const ULONG64 Gap = KtFindGap(3 * PAGE_SIZE, PAGE_SIZE);
    ULONG64 Value;
    PVOID Va = MmMapIoSpaceEx(KtPhysical(Gap), 3 * PAGE_SIZE, PAGE_READWRITE);
    PVOID Next = MmMapIoSpaceEx(KtPhysical(Gap), 3 * PAGE_SIZE, PAGE_READWRITE);
    KT_REQUIRE(Va != NULL && Next != NULL);
    PVOID Guard = KtAdd(Va, 3 * PAGE_SIZE);
    KT_EQUAL(KeProbeRead(Guard, &Value).Faulted, TRUE);
    KT_EQUAL(KeProbeWrite(Guard, 0).Faulted, TRUE);
    KT_EQUAL(KeProbeExecute(Guard).Faulted, TRUE);
    KT_EQUAL(KeProbeRead(KtAdd(Next, 3 * PAGE_SIZE), &Value).Faulted, TRUE);
    MmUnmapIoSpace(Va, 3 * PAGE_SIZE);
    MmUnmapIoSpace(Next, 3 * PAGE_SIZE);
}

//
// Leaf sizes.
//

typedef struct _LEAF_COUNTS {
    ULONG64 Count[REF_LEVEL_COUNT];
} LEAF_COUNTS;

static LEAF_COUNTS CountLeaves(const VOID *Va, ULONG64 Address, ULONG64 ByteCount)
{
    LEAF_COUNTS Counts = {{0}};
    ULONG64 WrongCount = 0;
    for (ULONG64 Offset = 0; Offset < ByteCount;) {
        const REF_WALK Walk = RefWalk(KtAdd(Va, Offset));
        WrongCount += Walk.PhysicalAddress != Address + Offset;
        if (Walk.Level == 0) {
            break;
        }
        Counts.Count[Walk.Level] += 1;
        Offset += RefLeafBytes(Walk.Level);
    }
    KT_EQUAL(WrongCount, 0);
    return Counts;
}

// The leaves that a range of physical addresses allows when each is the largest possible.
static LEAF_COUNTS PredictLeaves(ULONG64 Address, ULONG64 ByteCount)
{
    LEAF_COUNTS Counts = {{0}};
    const ULONG TopLevel = KtHasOption("leaf4k") ? 1 : KeFeatures.Page1G ? 3 : 2;
    while (ByteCount > 0) {
        ULONG Level = TopLevel;
        while (Level > 1 &&
               (Address % RefLeafBytes(Level) != 0 || ByteCount < RefLeafBytes(Level))) {
            Level -= 1;
        }
        Counts.Count[Level] += 1;
        Address += RefLeafBytes(Level);
        ByteCount -= RefLeafBytes(Level);
    }
    return Counts;
}

static VOID LargestLeavesAreUsed(VOID)
{
    static const struct {
        ULONG64 Offset; // from an address that is a multiple of 1 GiB
        ULONG64 ByteCount;
    } Rows[] = {
        {0, PAGE_SIZE},
        {0, 2 * KT_MIB - PAGE_SIZE},
        {0, 2 * KT_MIB},
        {0, 2 * KT_MIB + PAGE_SIZE},
        {PAGE_SIZE, 2 * KT_MIB},
        {2 * KT_MIB - PAGE_SIZE, 4 * KT_MIB},
        {64 * KT_MIB, 16 * KT_MIB},
        {0, KT_GIB},
        {0, KT_GIB + 2 * KT_MIB + PAGE_SIZE},
        {KT_GIB - 2 * KT_MIB, KT_GIB + 4 * KT_MIB},
        {KT_GIB - PAGE_SIZE, 2 * PAGE_SIZE},
    };
    const ULONG64 Gap = KtFindGap(4 * KT_GIB, KT_GIB);
    KT_REQUIRE(Gap != 0);
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        const ULONG64 Address = Gap + Rows[Row].Offset;
        KtSetContext("0x%llx, 0x%llx bytes", Address, Rows[Row].ByteCount);
        PVOID Va =
            MmMapIoSpaceEx(KtPhysical(Address), Rows[Row].ByteCount, PAGE_READWRITE | PAGE_NOCACHE);
        KT_REQUIRE(Va != NULL);
        const LEAF_COUNTS Actual = CountLeaves(Va, Address, Rows[Row].ByteCount);
        const LEAF_COUNTS Expected = PredictLeaves(Address, Rows[Row].ByteCount);
        for (ULONG Level = 1; Level < REF_LEVEL_COUNT; Level += 1) {
            KT_EQUAL(Actual.Count[Level], Expected.Count[Level]);
        }
        MmUnmapIoSpace(Va, Rows[Row].ByteCount);
        KT_EQUAL(RefWalk(Va).Level, 0);
    }
}

//
// Cache types and references.
//

static VOID AnotherCacheTypeIsRefused(VOID)
{
    const ULONG64 Gap = KtFindGap(PAGE_SIZE, PAGE_SIZE);
    for (ULONG Row = 0; Row < ARRAYSIZE(CacheTypes) * ARRAYSIZE(CacheTypes); Row += 1) {
        const ULONG FirstRow = Row % ARRAYSIZE(CacheTypes);
        const ULONG SecondRow = Row / ARRAYSIZE(CacheTypes);
        KtSetContext("0x%x, then 0x%x", CacheTypes[FirstRow].Modifier,
                     CacheTypes[SecondRow].Modifier);
        PVOID First = MmMapIoSpaceEx(KtPhysical(Gap), PAGE_SIZE,
                                     PAGE_READWRITE | CacheTypes[FirstRow].Modifier);
        KT_REQUIRE(First != NULL);
        PVOID Second = MmMapIoSpaceEx(KtPhysical(Gap), PAGE_SIZE,
                                      PAGE_READWRITE | CacheTypes[SecondRow].Modifier);
        KT_EQUAL(Second != NULL, FirstRow == SecondRow);
        if (Second != NULL) {
            KT_CHECK(Second != First);
            MmUnmapIoSpace(Second, PAGE_SIZE);
        }
        MmUnmapIoSpace(First, PAGE_SIZE);
    }
}

static VOID OverlappingRangesConflict(VOID)
{
    const ULONG64 Gap = KtFindGap(16 * PAGE_SIZE, PAGE_SIZE);
    static const struct {
        ULONG FirstPage;
        ULONG PageCount;
        BOOLEAN Overlaps;
    } Rows[] = {
        {0, 4, FALSE}, {0, 5, TRUE}, {4, 1, TRUE},  {5, 2, TRUE},
        {7, 1, TRUE},  {7, 4, TRUE}, {8, 4, FALSE}, {0, 16, TRUE},
    };
    PVOID Held = MmMapIoSpaceEx(KtPhysical(Gap + 4 * PAGE_SIZE), 4 * PAGE_SIZE,
                                PAGE_READWRITE | PAGE_NOCACHE);
    KT_REQUIRE(Held != NULL);
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        KtSetContext("row %u", Row);
        const PHYSICAL_ADDRESS Address = KtPhysical(Gap + Rows[Row].FirstPage * PAGE_SIZE);
        const SIZE_T ByteCount = Rows[Row].PageCount * PAGE_SIZE;
        PVOID Va = MmMapIoSpaceEx(Address, ByteCount, PAGE_READWRITE | PAGE_WRITECOMBINE);
        KT_EQUAL(Va == NULL, Rows[Row].Overlaps);
        if (Va != NULL) {
            MmUnmapIoSpace(Va, ByteCount);
        }
        KT_EQUAL(MmIsIoSpaceActive(Address, ByteCount) != FALSE, Rows[Row].Overlaps);
    }
    MmUnmapIoSpace(Held, 4 * PAGE_SIZE);
}

static VOID TheTypeLastsAsLongAsAMapping(VOID)
{
    const PHYSICAL_ADDRESS Gap = KtPhysical(KtFindGap(PAGE_SIZE, PAGE_SIZE));
    PVOID First = MmMapIoSpaceEx(Gap, PAGE_SIZE, PAGE_READWRITE | PAGE_NOCACHE);
    PVOID Second = MmMapIoSpaceEx(Gap, PAGE_SIZE, PAGE_READONLY | PAGE_NOCACHE);
    KT_REQUIRE(First != NULL && Second != NULL);
    KT_EQUAL(MmMapIoSpaceEx(Gap, PAGE_SIZE, PAGE_READWRITE), NULL);
    MmUnmapIoSpace(First, PAGE_SIZE);
    KT_EQUAL(MmMapIoSpaceEx(Gap, PAGE_SIZE, PAGE_READWRITE), NULL);
    KT_CHECK(MmIsIoSpaceActive(Gap, 1));
    MmUnmapIoSpace(Second, PAGE_SIZE);
    KT_CHECK(!MmIsIoSpaceActive(Gap, 1));
    PVOID Third = MmMapIoSpaceEx(Gap, PAGE_SIZE, PAGE_READWRITE);
    KT_REQUIRE(Third != NULL);
    MmUnmapIoSpace(Third, PAGE_SIZE);
}

static VOID ARefusalLeavesTheHolderUntouched(VOID)
{
    const PHYSICAL_ADDRESS Gap = KtPhysical(KtFindGap(2 * PAGE_SIZE, PAGE_SIZE));
    PVOID Held = MmMapIoSpaceEx(Gap, 2 * PAGE_SIZE, PAGE_READWRITE | PAGE_NOCACHE);
    KT_REQUIRE(Held != NULL);
    const ULONG64 Entry = RefWalk(Held).Entry;
    MM_MEMORY_USE Before;
    MmQueryMemoryUse(&Before);
    KT_EQUAL(MmMapIoSpaceEx(Gap, PAGE_SIZE, PAGE_READWRITE), NULL);
    KT_EQUAL(KtCountLeaks(&Before), 0);
    KT_EQUAL(RefWalk(Held).Entry, Entry);
    MmUnmapIoSpace(Held, 2 * PAGE_SIZE);
}

//
// Many mappings.
//

#define MANY_COUNT 10000

// Unmaps every Step-th one, beginning with First.
static VOID UnmapEvery(PVOID *Mappings, ULONG First, ULONG Step)
{
    for (ULONG Index = First; Index < MANY_COUNT; Index += Step) {
        MmUnmapIoSpace(Mappings[Index], PAGE_SIZE);
    }
}

static ULONG MapMany(PHYSICAL_ADDRESS Address, PVOID *Mappings)
{
    for (ULONG Index = 0; Index < MANY_COUNT; Index += 1) {
        Mappings[Index] = MmMapIoSpaceEx(Address, PAGE_SIZE, PAGE_READWRITE | PAGE_NOCACHE);
        if (Mappings[Index] == NULL) {
            return Index;
        }
    }
    return MANY_COUNT;
}

static VOID OnePageIsMappedTenThousandTimes(VOID)
{
    PVOID *Mappings = ExAllocatePool2(POOL_FLAG_NON_PAGED, MANY_COUNT * sizeof(PVOID), KT_TAG);
    KT_REQUIRE(Mappings != NULL);
    const PHYSICAL_ADDRESS Gap = KtPhysical(KtFindGap(PAGE_SIZE, PAGE_SIZE));
    MM_MEMORY_USE Before;
    MM_MEMORY_USE During;
    MmQueryMemoryUse(&Before);
    KT_REQUIRE(MapMany(Gap, Mappings) == MANY_COUNT);
    MmQueryMemoryUse(&During);
    KT_EQUAL(During.Mappings, Before.Mappings + MANY_COUNT);
    KT_EQUAL(During.LedgerEntries, Before.LedgerEntries + 1);
    for (ULONG Index = 0; Index < MANY_COUNT; Index += 1) {
        KT_EQUAL(RefWalk(Mappings[Index]).PhysicalAddress, Gap.QuadPart);
    }
    // Not in the order in which they were made.
    UnmapEvery(Mappings, 1, 2);
    KT_CHECK(MmIsIoSpaceActive(Gap, 1));
    UnmapEvery(Mappings, 0, 2);
    KT_CHECK(!MmIsIoSpaceActive(Gap, 1));
    ExFreePool(Mappings);
}

static VOID MappingsWorkAtDispatchLevel(VOID)
{
    const PHYSICAL_ADDRESS Gap = KtPhysical(KtFindGap(2 * KT_MIB, 2 * KT_MIB));
    KIRQL OldIrql;
    KeRaiseIrql(DISPATCH_LEVEL, &OldIrql);
    PVOID Va = MmMapIoSpaceEx(Gap, 2 * KT_MIB, PAGE_READWRITE | PAGE_NOCACHE);
    KT_CHECK(Va != NULL);
    if (Va != NULL) {
        MmUnmapIoSpace(Va, 2 * KT_MIB);
    }
    KT_EQUAL(KeGetCurrentIrql(), DISPATCH_LEVEL);
    KeLowerIrql(OldIrql);
}

typedef struct _LISTED {
    PVOID Va;
    ULONG Count;
    MM_MAPPING_INFORMATION Information;
} LISTED;

static VOID NoteIfListed(const MM_MAPPING_INFORMATION *Information, PVOID Context)
{
    LISTED *Listed = Context;
    if (Information->Va == Listed->Va) {
        Listed->Count += 1;
        Listed->Information = *Information;
    }
}

static VOID LiveMappingsAreListed(VOID)
{
    const PHYSICAL_ADDRESS Gap = KtPhysical(KtFindGap(4 * PAGE_SIZE, PAGE_SIZE));
    PVOID Va = MmMapIoSpaceEx(Gap, 4 * PAGE_SIZE, PAGE_READWRITE | PAGE_NOCACHE);
    KT_REQUIRE(Va != NULL);
    LISTED Listed = {.Va = Va};
    MmEnumerateIoMappings(NoteIfListed, &Listed);
    KT_EQUAL(Listed.Count, 1);
    KT_EQUAL(Listed.Information.FirstPage.QuadPart, Gap.QuadPart);
    KT_EQUAL(Listed.Information.PageCount, 4);
    KT_EQUAL(Listed.Information.LeafCount[0], 4);
    KT_CHECK(RtlStringsEqual(Listed.Information.Access, "rw-"));
    KT_CHECK(RtlStringsEqual(Listed.Information.CacheType, "UC"));
    MmUnmapIoSpace(Va, 4 * PAGE_SIZE);
    Listed.Count = 0;
    MmEnumerateIoMappings(NoteIfListed, &Listed);
    KT_EQUAL(Listed.Count, 0);
}

static const KT_TEST Tests[] = {
    {"MmMapIoSpaceEx: 5 protections x 3 cache types behave as predicted on RAM [2.2.1, 2.2.3, "
     "4.2.1, 4.2.2, 4.2.3, 18.7]",
     AllCombinationsOnRam},
    {"MmMapIoSpaceEx: 5 protections x 3 cache types behave as predicted on device memory [2.2.1, "
     "2.2.3, 4.1.11, 4.2.1, 4.2.2, 4.2.3, 18.7]",
     AllCombinationsOnDeviceMemory},
    {"MmMapIoSpaceEx: 5 protections x 3 cache types with leaves of 4 KiB, 2 MiB and 1 GiB [2.2.1, "
     "4.2.1, 12.1.2, 18.7]",
     AllCombinationsWithEveryLeafSize},
    {"MmMapIoSpaceEx refuses every protection that is not listed [2.2.2, 18.7]",
     EveryIllegalProtectionIsRefused},
    {"zero bytes are refused at any offset [4.1.3, 18.3]", ZeroBytesAreRefused},
    {"ranges that wrap or leave MAXPHYADDR are refused [4.1.4]",
     WrappingAndTooWideRangesAreRefused},
    {"the last physical page can be mapped [4.1.4]", TheLastPhysicalPageCanBeMapped},
    {"MmMapIoSpace refuses cache types of 6 and more [2.1.2, 18.3]", IllegalCachingTypesAreRefused},
    {"MmMapIoSpace gives each cache type its entry bits, never executable [2.1.1, 4.1.9, 12.1.2]",
     CachingTypesMapToTheirEntryBits},
    {"free RAM is refused [4.1.7]", FreeRamIsRefused},
    {"a range that touches RAM is refused, alone or with device memory [4.1.7]",
     AllRamRangesAreRefused},
    {"the kernel image is refused [4.1.7]", TheKernelIsRefused},
    {"page tables of every level are refused [4.1.8, 18.4]", PageTablesAreRefused},
    {"page tables of live mappings are refused [4.1.8, 18.4]", PageTablesOfMappingsAreRefused},
    {"locked RAM is mapped [4.1.6, 18.4]", LockedRamIsMapped},
    {"nonpaged pool is mapped, as write-back [4.1.6, 12.2.5]", NonpagedPoolIsMapped},
    {"the cache type that locked RAM has wins silently [12.2.5]", TheTypeOfLockedRamWins},
    {"RAM that is only partly locked is refused [4.1.7]", PartlyLockedRamIsRefused},
    {"any offset and length: low 12 bits kept, every byte mapped, nothing more [4.1.1, 4.1.2, "
     "18.2]",
     OffsetsAndLengthsNeedNoAlignment},
    {"8 bytes at 0xFED00004 uncached: entry bits, and zero after unmap [4.1.1, 4.3.1, 18.1]",
     AcceptanceExampleOfTheContract},
    {"a device register reads through a mapping [4.1.11]", ARegisterReadsThroughTheMapping},
    {"guard pages follow mappings", GuardPagesSurroundMappings},
    {"mappings use the largest leaves that alignment allows", LargestLeavesAreUsed},
    {"an I/O page that is mapped refuses any other cache type [12.2.2, 18.5]",
     AnotherCacheTypeIsRefused},
    {"overlapping ranges conflict, adjacent ones do not [12.2.1, 12.2.2]",
     OverlappingRangesConflict},
    {"a cache type lasts until the last mapping is gone [4.1.12, 12.2.1, 18.5]",
     TheTypeLastsAsLongAsAMapping},
    {"a refused mapping leaves the holder untouched [12.2.2]", ARefusalLeavesTheHolderUntouched},
    {"one page is mapped 10,000 times and unmapped in another order",
     OnePageIsMappedTenThousandTimes},
    {"map and unmap work at DISPATCH_LEVEL [4.1.10, 4.3.5, 18.28]", MappingsWorkAtDispatchLevel},
    {"live mappings are listed as they are, and no others", LiveMappingsAreListed},
};

const KT_SUITE KtIoSpaceSuite = {"iospace", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
