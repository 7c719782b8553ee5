// Protections and cache types: every value that a caller can write.
#include "tests/host/host.h"

#define ALL_PROTECTION_BITS 0x7FFu

static ULONG CountBits(ULONG Value)
{
    return (ULONG)__builtin_popcount(Value);
}

// The table of the contract, as a predicate.
static BOOLEAN IsLegal(ULONG Protect)
{
    const ULONG Bases =
        PAGE_READONLY | PAGE_READWRITE | PAGE_EXECUTE | PAGE_EXECUTE_READ | PAGE_EXECUTE_READWRITE;
    const ULONG Modifiers = PAGE_NOCACHE | PAGE_WRITECOMBINE;
    return (Protect & ~(Bases | Modifiers)) == 0 && CountBits(Protect & Bases) == 1 &&
           CountBits(Protect & Modifiers) <= 1;
}

static VOID Exactly_one_base_protection_with_at_most_one_modifier_is_legal(VOID)
{
    ULONG LegalCount = 0;
    for (ULONG Protect = 0; Protect <= ALL_PROTECTION_BITS; Protect += 1) {
        MI_PROTECTION Protection;
        const BOOLEAN IsDecoded = MiDecodePageProtection(Protect, &Protection);
        CHECK_EQUAL(IsDecoded, IsLegal(Protect));
        LegalCount += IsDecoded;
    }
    CHECK_EQUAL(LegalCount, 15);
}

static VOID Bits_that_mean_nothing_are_refused(VOID)
{
    MI_PROTECTION Protection;
    for (ULONG Bit = 11; Bit < 32; Bit += 1) {
        CHECK(!MiDecodePageProtection(PAGE_READWRITE | 1u << Bit, &Protection));
    }
}

static VOID Each_base_and_modifier_means_what_its_name_says(VOID)
{
    static const struct {
        ULONG Protect;
        MI_ACCESS Access;
        MI_CACHE_TYPE CacheType;
    } Rows[] = {
        {PAGE_READONLY, MiAccessRead, MiCacheWriteBack},
        {PAGE_READWRITE | PAGE_NOCACHE, MiAccessReadWrite, MiCacheUncached},
        {PAGE_EXECUTE | PAGE_WRITECOMBINE, MiAccessExecute, MiCacheWriteCombined},
        {PAGE_EXECUTE_READ, MiAccessExecuteRead, MiCacheWriteBack},
        {PAGE_EXECUTE_READWRITE | PAGE_NOCACHE, MiAccessExecuteReadWrite, MiCacheUncached},
    };
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        MI_PROTECTION Protection;
        CHECK(MiDecodePageProtection(Rows[Row].Protect, &Protection));
        CHECK_EQUAL(Protection.Access, Rows[Row].Access);
        CHECK_EQUAL(Protection.CacheType, Rows[Row].CacheType);
    }
}

static VOID Six_caching_types_exist_and_only_the_low_byte_counts(VOID)
{
    static const MI_CACHE_TYPE Expected[] = {MiCacheUncached,      MiCacheWriteBack,
                                             MiCacheWriteCombined, MiCacheWriteBack,
                                             MiCacheUncached,      MiCacheWriteCombined};
    for (LONG Type = -0x200; Type < 0x400; Type += 1) {
        MI_CACHE_TYPE CacheType = MiCacheUndecided;
        const ULONG Low = (ULONG)Type & 0xFF;
        CHECK_EQUAL(MiDecodeCachingType((MEMORY_CACHING_TYPE)Type, &CacheType), Low < 6);
        if (Low < 6) {
            CHECK_EQUAL(CacheType, Expected[Low]);
        }
    }
}

static VOID Names_are_what_reports_show(VOID)
{
    CHECK_TEXT(MiAccessName(MiAccessRead), "r--");
    CHECK_TEXT(MiAccessName(MiAccessReadWrite), "rw-");
    CHECK_TEXT(MiAccessName(MiAccessExecute), "--x");
    CHECK_TEXT(MiAccessName(MiAccessExecuteRead), "r-x");
    CHECK_TEXT(MiAccessName(MiAccessExecuteReadWrite), "rwx");
    CHECK_TEXT(MiCacheTypeName(MiCacheWriteBack), "WB");
    CHECK_TEXT(MiCacheTypeName(MiCacheWriteCombined), "WC");
    CHECK_TEXT(MiCacheTypeName(MiCacheUncached), "UC");
    CHECK_TEXT(MiCacheTypeName(MiCacheUndecided), "--");
}

static const HOST_TEST Tests[] = {
    HOST_ROW(Exactly_one_base_protection_with_at_most_one_modifier_is_legal,
             "contract 2.2.1, 2.2.2, 18.7", NULL),
    HOST_ROW(Bits_that_mean_nothing_are_refused, "contract 2.2.2", NULL),
    HOST_ROW(Each_base_and_modifier_means_what_its_name_says, "contract 2.2.1", NULL),
    HOST_ROW(Six_caching_types_exist_and_only_the_low_byte_counts, "contract 2.1.1, 2.1.2, 18.3",
             NULL),
    HOST_ROW(Names_are_what_reports_show, "mm.h, reports", NULL),
};

HOST_DEFINE_SUITE(protect);
