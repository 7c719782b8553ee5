// A walk over the page tables for the dump of a crash: every level, raw and in words.
//
// It trusts nothing: tables are read through the direct map with a probe, because a damaged entry
// may point anywhere. The rest of the kernel walks with mm's one walker; this one works when mm
// does not.

#include "arch/x64/mm/mmx64.h"

#include "kernel/inc/ke.h"

static const PCSTR KiLevelNames[TOP_LEVEL + 1] = {NULL, "PT", "PD", "PDPT", "PML4"};

typedef VOID KI_WALK_ROUTINE(ULONG Level, ULONG64 EntryPa, ULONG64 Entry, MI_PTE_KIND Kind);

static BOOLEAN KiReadEntry(ULONG64 TablePa, ULONG Index, PULONG64 EntryPa, PULONG64 Entry)
{
    *EntryPa = TablePa + Index * sizeof(MMPTE);
    return !KeProbeRead((const VOID *)(MiArchLayout[MiRegionDirectMap].BaseVa + *EntryPa), Entry)
                .Faulted;
}

// Calls Routine (if any) for each entry from the root to where the walk ends.
static KI_WALK KiWalk(ULONG64 Va, KI_WALK_ROUTINE *Routine)
{
    KI_WALK Walk = {.Level = TOP_LEVEL, .Writable = TRUE, .Executable = TRUE};
    ULONG64 TablePa = X64ReadCr3() & PTE_FRAME;
    for (;; --Walk.Level) {
        ULONG64 EntryPa;
        if (!KiReadEntry(TablePa, KiPteIndex(Va, Walk.Level), &EntryPa, &Walk.Entry)) {
            DbgPrint("    %-4s at 0x%016llx cannot be read\n", KiLevelNames[Walk.Level], EntryPa);
            return Walk;
        }
        const MI_PTE_KIND Kind = MiArchPteKind((MMPTE){Walk.Entry}, Walk.Level);
        if (Routine != NULL) {
            Routine(Walk.Level, EntryPa, Walk.Entry, Kind);
        }
        Walk.Writable = Walk.Writable && (Walk.Entry & PTE_WRITE);
        Walk.Executable = Walk.Executable && !(Walk.Entry & PTE_NO_EXECUTE);
        if (Kind != MiPteTable) {
            Walk.Present = Kind == MiPteLeaf;
            return Walk;
        }
        TablePa = Walk.Entry & PTE_FRAME;
    }
}

KI_WALK KiWalkPageTables(ULONG64 Va)
{
    return KiWalk(Va, NULL);
}

typedef struct _KI_BIT_NAME {
    ULONG64 Bit;
    PCSTR Set;
    PCSTR Clear;
} KI_BIT_NAME;

static const KI_BIT_NAME KiEntryBits[] = {
    {PTE_WRITE, " writable", " read-only"},
    {PTE_NO_EXECUTE, " no-execute", " executable"},
    {PTE_USER, " user", ""},
    {PTE_ACCESSED, " accessed", ""},
    {PTE_DIRTY, " dirty", ""},
    {PTE_GLOBAL, " global", ""},
};

// Global and dirty mean something in leaves only.
static VOID KiPrintEntryBits(ULONG64 Entry, MI_PTE_KIND Kind)
{
    if (Entry & PTE_KEY) {
        DbgPrint(" key %llu", (Entry & PTE_KEY) >> PTE_KEY_SHIFT);
    }
    const ULONG64 Ignored = Kind == MiPteLeaf ? 0 : PTE_GLOBAL | PTE_DIRTY;
    for (ULONG Index = 0; Index < sizeof(KiEntryBits) / sizeof(KiEntryBits[0]); Index += 1) {
        const KI_BIT_NAME *Row = &KiEntryBits[Index];
        DbgPrint("%s", Entry & Row->Bit & ~Ignored ? Row->Set : Row->Clear);
    }
}

static VOID KiPrintEntry(ULONG Level, ULONG64 EntryPa, ULONG64 Entry, MI_PTE_KIND Kind)
{
    DbgPrint("    %-4s at 0x%012llx: 0x%016llx ", KiLevelNames[Level], EntryPa, Entry);
    if (Kind == MiPteEmpty) {
        DbgPrint("empty\n");
        return;
    }
    const MMPTE Pte = {Entry};
    if (Kind == MiPteLeaf) {
        static const PCSTR LeafNames[] = {NULL, "4 KiB", "2 MiB", "1 GiB"};
        DbgPrint("%s leaf, frame 0x%llx, %s,", LeafNames[Level], MiArchPtePfn(Pte, Level),
                 KiCacheNameOfEntry(Entry));
    } else {
        DbgPrint("table in frame 0x%llx,", MiArchPtePfn(Pte, Level));
    }
    KiPrintEntryBits(Entry, Kind);
    DbgPrint("\n");
}

VOID KiPrintPageTableWalk(ULONG64 Va)
{
    DbgPrint("  translation of 0x%016llx:\n", Va);
    if (!MiArchIsCanonical(Va)) {
        DbgPrint("    not canonical: there is no such address\n");
        return;
    }
    KiWalk(Va, KiPrintEntry);
}
