// The law of the entry format, exhaustively in protection and level. The guest runs the same law on
// the real one.
#include "tests/host/host.h"

static VOID CheckLaw(ULONG Level, PFN_NUMBER Pfn, MI_PROTECTION Protection)
{
    const MMPTE Leaf = MiArchMakeLeaf(Level, Pfn, Protection);
    const MI_PROTECTION Read = MiArchPteProtection(Leaf, Level);
    CHECK_EQUAL(MiArchPteKind(Leaf, Level), MiPteLeaf);
    CHECK_EQUAL(MiArchPtePfn(Leaf, Level), Pfn);
    CHECK(Read.Access == Protection.Access && Read.CacheType == Protection.CacheType);
}

static VOID A_leaf_gives_back_what_it_was_made_of_at_every_level(VOID)
{
    for (ULONG Level = 1; MiArchIsLeafAllowed(Level); Level += 1) {
        for (ULONG Access = 0; Access < MiAccessCount; Access += 1) {
            for (ULONG Type = 0; Type < MiCacheTypeCount; Type += 1) {
                const MI_PROTECTION Protection = {(MI_ACCESS)Access, (MI_CACHE_TYPE)Type};
                for (ULONG Bit = 9 * (Level - 1); Bit < MiArchPhysicalBits() - PAGE_SHIFT;
                     Bit += 1) {
                    CheckLaw(Level, 1ull << Bit, Protection);
                }
                CheckLaw(Level, 0, Protection);
                CheckLaw(Level, MiHighestPfn() & ~(MiPagesPerLeaf(Level) - 1), Protection);
            }
        }
    }
}

static VOID A_table_entry_is_a_table_at_every_level_that_has_tables(VOID)
{
    for (ULONG Level = 2; Level <= MiArchTopLevel(); Level += 1) {
        CHECK_EQUAL(MiArchPteKind(MiArchMakeTable(0x1234), Level), MiPteTable);
        CHECK_EQUAL(MiArchPtePfn(MiArchMakeTable(0x1234), Level), 0x1234);
    }
}

static VOID An_empty_entry_is_empty_at_every_level(VOID)
{
    for (ULONG Level = 1; Level <= MiArchTopLevel(); Level += 1) {
        CHECK_EQUAL(MiArchPteKind((MMPTE){0}, Level), MiPteEmpty);
    }
}

static const HOST_TEST Tests[] = {
    HOST_ROW(A_leaf_gives_back_what_it_was_made_of_at_every_level, "miarch.h, the law of the codec",
             &FakeMachineMax),
    HOST_ROW(A_table_entry_is_a_table_at_every_level_that_has_tables, "miarch.h, format",
             &FakeMachineMax),
    HOST_ROW(An_empty_entry_is_empty_at_every_level, "miarch.h, format", &FakeMachineMax),
};

HOST_DEFINE_SUITE(codec);
