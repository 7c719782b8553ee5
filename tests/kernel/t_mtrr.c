// Effective memory types, against what this machine's registers say: the test reads the MTRRs itself.
#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "kernel/inc/rtl.h"
#include "tests/kernel/reference.h"
#include "tests/kernel/tests.h"

#define CPUID_MTRR (1u << 12)
#define MSR_MTRRCAP 0xFE
#define MSR_DEFAULT 0x2FF
#define ENABLED (1u << 11)
#define VALID (1ull << 11)

static BOOLEAN HasMtrrs(VOID)
{
    return (RefCpuid(1).Edx & CPUID_MTRR) != 0 && (KeArchReadMsr(MSR_DEFAULT) & ENABLED) != 0;
}

// "WB" and the like, as the first pair that holds the address says, or the default. Enough for firmware
// whose pairs do not overlap.
static PCSTR TypeOf(ULONG64 Address)
{
    static const PCSTR Names[] = {"UC", "WC", "UC", "UC", "WT", "WP", "WB"};
    const ULONG PairCount = (ULONG)KeArchReadMsr(MSR_MTRRCAP) & 0xFF;
    ULONG64 Type = KeArchReadMsr(MSR_DEFAULT);
    for (ULONG Pair = 0; Pair < PairCount; Pair += 1) {
        const ULONG64 Base = KeArchReadMsr(0x200 + 2 * Pair);
        const ULONG64 Mask = KeArchReadMsr(0x201 + 2 * Pair);
        if ((Mask & VALID) != 0 && ((Address ^ Base) & Mask & REF_FRAME) == 0) {
            Type = Base;
            break;
        }
    }
    return Names[Type & 7];
}

static VOID CheckType(const VOID *Va, PCSTR CacheType, PCSTR EffectiveType)
{
    MM_PAGE_INFORMATION Page;
    MmQueryPage(Va, &Page);
    KtSetContext("0x%p: %s, %s in effect", Va, Page.CacheType, Page.EffectiveType);
    KT_CHECK(RtlStringsEqual(Page.CacheType, CacheType));
    KT_CHECK(RtlStringsEqual(Page.EffectiveType, EffectiveType));
}

static VOID RamIsWhatItsRangeSays(VOID)
{
    PVOID Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 64, KT_TAG);
    KT_REQUIRE(Block != NULL);
    CheckType(Block, "WB", HasMtrrs() ? TypeOf(KtPhysicalOf(Block)) : "WB");
    ExFreePool(Block);
}

static VOID DeviceMemoryIsNeverCachedMoreThanItsRange(VOID)
{
    static const struct {
        MEMORY_CACHING_TYPE Type;
        PCSTR Name;
    } Rows[] = {{MmNonCached, "UC"}, {MmWriteCombined, "WC"}, {MmCached, "WB"}};
    static const ULONG64 Addresses[] = {KT_HOLE, KT_GAP_LOWEST};
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows) * ARRAYSIZE(Addresses); Row += 1) {
        const ULONG64 Address = Addresses[Row / ARRAYSIZE(Rows)];
        const PCSTR Name = Rows[Row % ARRAYSIZE(Rows)].Name;
        PVOID Va = MmMapIoSpace(KtPhysical(Address), PAGE_SIZE, Rows[Row % ARRAYSIZE(Rows)].Type);
        KT_REQUIRE(Va != NULL);
        CheckType(Va, Name, HasMtrrs() && RtlStringsEqual(Name, "WB") ? TypeOf(Address) : Name);
        MmUnmapIoSpace(Va, PAGE_SIZE);
    }
}

// The hole below 4 GiB, where firmware says UC on every machine that has MTRRs programmed.
static VOID ThePciHoleIsUncached(VOID)
{
    if (!HasMtrrs() || !RtlStringsEqual(TypeOf(KT_HOLE), "UC")) {
        KT_SKIP("nobody has programmed the ranges of this machine");
    }
    PVOID Va = MmMapIoSpace(KtPhysical(KT_HOLE), PAGE_SIZE, MmCached);
    KT_REQUIRE(Va != NULL);
    CheckType(Va, "WB", "UC");
    MmUnmapIoSpace(Va, PAGE_SIZE);
}

static const KT_TEST Tests[] = {
    {"the effective type of RAM is what its range says [12.2.11]", RamIsWhatItsRangeSays},
    {"the effective type of device memory is the stricter of entry and range [12.2.11]",
     DeviceMemoryIsNeverCachedMoreThanItsRange},
    {"the PCI hole is uncached in effect, even where an entry says write-back [12.2.11]",
     ThePciHoleIsUncached},
};

const KT_SUITE KtMemoryTypesSuite = {"memorytypes", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
