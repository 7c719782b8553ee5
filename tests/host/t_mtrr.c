// The effective memory type: arch/x64/mm/mtrr.c against registers that the test programs, and against
// the rules of the manual, written down a second time.
#include "arch/x64/mm/mmx64.h"
#include "kernel/inc/ke.h"
#include "tests/host/host.h"

#define CAPABILITIES 0xFE
#define DEFAULT_TYPE 0x2FF
#define VALID (1ull << 11)
#define ENABLED 0x800u
#define FIXED_ENABLED 0x400u

enum { UC = 0, WC = 1, WT = 4, WP = 5, WB = 6 };

static VOID Start(ULONG PairCount, BOOLEAN HasFixed, ULONG64 Default)
{
    memset(FakeMsrs, 0, sizeof(FakeMsrs));
    KeFeatures.Mtrr = TRUE;
    FakeMsrs[CAPABILITIES] = PairCount | (HasFixed ? 0x100u : 0);
    FakeMsrs[DEFAULT_TYPE] = Default;
}

static VOID SetPair(ULONG Pair, ULONG64 Base, ULONG64 ByteCount, ULONG Type)
{
    FakeMsrs[0x200 + 2 * Pair] = Base | Type;
    FakeMsrs[0x201 + 2 * Pair] = (~(ByteCount - 1) & 0xFFFFFFFFFFull) | VALID;
}

static MI_MEMORY_TYPE TypeAt(ULONG64 Address)
{
    return MiArchEffectiveCacheType(Address >> PAGE_SHIFT, MiCacheWriteBack);
}

static MI_MEMORY_TYPE Decode(ULONG Encoding)
{
    switch (Encoding) {
    case WC:
        return MiMemoryWriteCombined;
    case WT:
        return MiMemoryWriteThrough;
    case WP:
        return MiMemoryWriteProtected;
    case WB:
        return MiMemoryWriteBack;
    default:
        return MiMemoryUncached;
    }
}

static VOID Entries_overrule_ranges_unless_they_are_write_back(VOID)
{
    for (ULONG Encoding = 0; Encoding < 256; Encoding += 1) {
        Start(0, FALSE, ENABLED | Encoding);
        KiReadMemoryTypes();
        CHECK_EQUAL(MiArchEffectiveCacheType(0x12345, MiCacheUncached), MiMemoryUncached);
        CHECK_EQUAL(MiArchEffectiveCacheType(0x12345, MiCacheWriteCombined), MiMemoryWriteCombined);
        CHECK_EQUAL(MiArchEffectiveCacheType(0x12345, MiCacheWriteBack), Decode(Encoding));
    }
}

static VOID Without_ranges_the_entry_decides_and_disabled_they_make_all_uncached(VOID)
{
    Start(8, TRUE, WB);
    SetPair(0, 0, 1ull << 39, WB);
    KiReadMemoryTypes();
    CHECK_EQUAL(TypeAt(0x100000), MiMemoryUncached);
    KeFeatures.Mtrr = FALSE;
    KiReadMemoryTypes();
    CHECK_EQUAL(TypeAt(0x100000), MiMemoryWriteBack);
}

// Each of the 88 ranges has a type of its own neighbours' not.
static VOID Every_fixed_range_has_its_type(VOID)
{
    static const ULONG Types[] = {UC, WC, WT, WP, WB};
    static const ULONG FixedMsrs[] = {0x250, 0x258, 0x259, 0x268, 0x269, 0x26A,
                                      0x26B, 0x26C, 0x26D, 0x26E, 0x26F};
    Start(0, TRUE, ENABLED | FIXED_ENABLED | WP);
    for (ULONG Range = 0; Range < 88; Range += 1) {
        FakeMsrs[FixedMsrs[Range / 8]] |= (ULONG64)Types[Range % 5] << (8 * (Range % 8));
    }
    KiReadMemoryTypes();
    for (ULONG64 Address = 0; Address < 0x100000; Address += PAGE_SIZE) {
        const ULONG Range = Address < 0x80000   ? (ULONG)(Address / 0x10000)
                            : Address < 0xC0000 ? 8 + (ULONG)(Address - 0x80000) / 0x4000
                                                : 24 + (ULONG)(Address - 0xC0000) / 0x1000;
        CHECK_EQUAL(TypeAt(Address), Decode(Types[Range % 5]));
    }
    CHECK_EQUAL(TypeAt(0x100000), MiMemoryWriteProtected);
}

static VOID Fixed_ranges_count_only_where_they_are_there_and_enabled(VOID)
{
    Start(0, TRUE, ENABLED | WB);
    KiReadMemoryTypes();
    CHECK_EQUAL(TypeAt(0xA0000), MiMemoryWriteBack);
    Start(0, FALSE, ENABLED | FIXED_ENABLED | WB);
    KiReadMemoryTypes();
    CHECK_EQUAL(TypeAt(0xA0000), MiMemoryWriteBack);
    Start(1, TRUE, ENABLED | FIXED_ENABLED | WB);
    SetPair(0, 0, 0x100000, WC); // a fixed range is stronger
    KiReadMemoryTypes();
    CHECK_EQUAL(TypeAt(0xA0000), MiMemoryUncached);
}

// What firmware does for 2 GiB of RAM below a PCI hole, and 2 GiB above 4 GiB.
static VOID A_PCI_hole_is_uncached_and_RAM_around_it_is_not(VOID)
{
    Start(8, TRUE, ENABLED | WB);
    SetPair(0, 0x80000000, 0x80000000, UC);
    SetPair(1, 0x800000000, 0x800000000, UC);
    KiReadMemoryTypes();
    CHECK_EQUAL(TypeAt(0x7FFFF000), MiMemoryWriteBack);
    CHECK_EQUAL(TypeAt(0x80000000), MiMemoryUncached);
    CHECK_EQUAL(TypeAt(0xFEE00000), MiMemoryUncached);
    CHECK_EQUAL(TypeAt(0xFFFFF000), MiMemoryUncached);
    CHECK_EQUAL(TypeAt(0x100000000), MiMemoryWriteBack);
    CHECK_EQUAL(TypeAt(0x800000000), MiMemoryUncached);
}

static MI_MEMORY_TYPE ExpectedOverlap(ULONG One, ULONG Other)
{
    if (One == Other) {
        return Decode(One);
    }
    return (One == WT && Other == WB) || (One == WB && Other == WT) ? MiMemoryWriteThrough
                                                                    : MiMemoryUncached;
}

static VOID Overlaps_follow_the_precedence_of_the_manual(VOID)
{
    static const ULONG Types[] = {UC, WC, WT, WP, WB};
    for (ULONG One = 0; One < ARRAYSIZE(Types); One += 1) {
        for (ULONG Other = 0; Other < ARRAYSIZE(Types); Other += 1) {
            Start(3, FALSE, ENABLED | WC);
            SetPair(0, 0x40000000, 0x40000000, Types[One]);
            SetPair(2, 0x60000000, 0x20000000, Types[Other]);
            KiReadMemoryTypes();
            CHECK_EQUAL(TypeAt(0x40000000), Decode(Types[One]));
            CHECK_EQUAL(TypeAt(0x7FFFF000), ExpectedOverlap(Types[One], Types[Other]));
            CHECK_EQUAL(TypeAt(0x80000000), MiMemoryWriteCombined);
        }
    }
}

static VOID Pairs_that_are_not_valid_or_not_there_do_not_count(VOID)
{
    Start(1, FALSE, ENABLED | WB);
    SetPair(0, 0x40000000, 0x1000, UC);
    SetPair(1, 0x50000000, 0x1000, UC); // the processor has one pair
    KiReadMemoryTypes();
    CHECK_EQUAL(TypeAt(0x3FFFF000), MiMemoryWriteBack);
    CHECK_EQUAL(TypeAt(0x40000000), MiMemoryUncached);
    CHECK_EQUAL(TypeAt(0x40001000), MiMemoryWriteBack);
    CHECK_EQUAL(TypeAt(0x50000000), MiMemoryWriteBack);
    FakeMsrs[0x201] &= ~VALID;
    KiReadMemoryTypes();
    CHECK_EQUAL(TypeAt(0x40000000), MiMemoryWriteBack);
    // More pairs than any processor has are not all looked at, and nothing is overrun.
    Start(255, FALSE, ENABLED | WB);
    KiReadMemoryTypes();
    CHECK_EQUAL(TypeAt(0), MiMemoryWriteBack);
}

static VOID A_queried_page_tells_its_effective_type(VOID)
{
    MM_PAGE_INFORMATION Page;
    const PVOID Va = ExAllocatePool2(POOL_FLAG_NON_PAGED, PAGE_SIZE, 'tseT');
    MmQueryPage(Va, &Page);
    CHECK_TEXT(Page.CacheType, "WB");
    CHECK_TEXT(Page.EffectiveType, "WB");
    static const struct {
        ULONG Type;
        const CHAR *Name;
    } Rows[] = {{UC, "UC"}, {WC, "WC"}, {WT, "WT"}, {WP, "WP"}, {WB, "WB"}};
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        Start(0, FALSE, ENABLED | Rows[Row].Type);
        KiReadMemoryTypes();
        MmQueryPage(Va, &Page);
        CHECK_TEXT(Page.EffectiveType, Rows[Row].Name);
    }
    ExFreePool(Va);
}

static VOID Another_processor_gets_what_the_first_one_has(VOID)
{
    ULONG64 First[FAKE_MSR_COUNT];
    Start(3, TRUE, ENABLED | FIXED_ENABLED | WB);
    for (ULONG Msr = 0x250; Msr <= 0x26F; Msr += 1) {
        FakeMsrs[Msr] = 0x0606060606060606ull + Msr % 2;
    }
    SetPair(0, 0xC0000000, 0x40000000, UC);
    SetPair(2, 0x100000000, 0x100000000, WT);
    memcpy(First, FakeMsrs, sizeof(First));
    KiReadMemoryTypes();
    static const ULONG Written[] = {0x200, 0x201, 0x204, 0x205, 0x250, 0x26F, DEFAULT_TYPE};
    for (ULONG Row = 0; Row < ARRAYSIZE(Written); Row += 1) {
        FakeMsrs[Written[Row]] = 0;
    }
    KiWriteMemoryTypes();
    CHECK(memcmp(First, FakeMsrs, sizeof(First)) == 0);
    KeFeatures.Mtrr = FALSE;
    KiReadMemoryTypes();
    memset(FakeMsrs, 0, sizeof(FakeMsrs));
    KiWriteMemoryTypes();
    CHECK_EQUAL(FakeMsrs[DEFAULT_TYPE], 0);
}

static const HOST_TEST Tests[] = {
    HOST_ROW(Entries_overrule_ranges_unless_they_are_write_back, "contract 12.2.11", NULL),
    HOST_ROW(Without_ranges_the_entry_decides_and_disabled_they_make_all_uncached,
             "contract 12.2.11", NULL),
    HOST_ROW(Every_fixed_range_has_its_type, "contract 12.2.11", NULL),
    HOST_ROW(Fixed_ranges_count_only_where_they_are_there_and_enabled, "contract 12.2.11", NULL),
    HOST_ROW(A_PCI_hole_is_uncached_and_RAM_around_it_is_not, "contract 12.2.11", NULL),
    HOST_ROW(Overlaps_follow_the_precedence_of_the_manual, "contract 12.2.11", NULL),
    HOST_ROW(Pairs_that_are_not_valid_or_not_there_do_not_count, "contract 12.2.11", NULL),
    HOST_ROW(A_queried_page_tells_its_effective_type, "contract 12.2.11", &FakeMachineMax),
    HOST_ROW(Another_processor_gets_what_the_first_one_has, "mtrr.c", NULL),
};

HOST_DEFINE_SUITE(mtrr);
