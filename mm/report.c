// Reports for people: the physical map, the virtual layout, the live I/O mappings, the use of
// memory.
#include "mm/mi.h"

#define MI_BYTES_PER_MIB (1ull << 20)

VOID MmPrintPhysicalMap(VOID)
{
    ULONG RegionCount;
    const MI_PHYSICAL_REGION *Regions = MiPhysicalRegions(&RegionCount);
    DbgPrint("Physical regions (what lies between them is I/O space):\n");
    for (ULONG Index = 0; Index < RegionCount; Index += 1) {
        const MI_PFN_RANGE Range = Regions[Index].Range;
        DbgPrint("  0x%016llx-0x%016llx  %8llu KiB  %s\n", Range.FirstPfn << PAGE_SHIFT,
                 ((Range.LastPfn + 1) << PAGE_SHIFT) - 1,
                 MiRangePageCount(Range) << (PAGE_SHIFT - 10),
                 MiPhysicalKindName(Regions[Index].Kind));
    }
}

VOID MmPrintVirtualLayout(VOID)
{
    DbgPrint("Virtual layout:\n");
    for (ULONG Region = 0; Region < MiRegionCount; Region += 1) {
        DbgPrint("  0x%016llx  %10llu MiB  %s\n", (ULONG64)MiArchLayout[Region].BaseVa,
                 MiArchLayout[Region].ByteCount / MI_BYTES_PER_MIB, MiArchLayout[Region].Name);
    }
}

VOID MmPrintMemoryUse(VOID)
{
    MM_MEMORY_USE Use;
    MmQueryMemoryUse(&Use);
    DbgPrint("Memory: %llu KiB free, %llu KiB in page tables, %llu KiB in %llu pool blocks, %llu "
             "KiB in MDLs; "
             "%llu mappings in %llu system PTEs\n",
             Use.FreePages << (PAGE_SHIFT - 10), Use.TablePages << (PAGE_SHIFT - 10),
             Use.PoolPages << (PAGE_SHIFT - 10), Use.PoolBlocks, Use.MdlPages << (PAGE_SHIFT - 10),
             Use.Mappings, Use.SystemPtes);
}

//
// I/O mappings.
//

static VOID MiCountLeaves(const MI_MAPPING *Mapping, PMM_MAPPING_INFORMATION Information)
{
    PFN_NUMBER Page = 0;
    while (Page < Mapping->PageCount) {
        ULONG Level;
        (VOID) MiFindPte(Mapping->Va + (Page << PAGE_SHIFT), &Level);
        Information->LeafCount[Level - 1] += 1;
        Page += MiPagesPerLeaf(Level);
    }
}

static VOID MiDescribeMapping(const MI_MAPPING *Mapping, PMM_MAPPING_INFORMATION Information)
{
    MM_PAGE_INFORMATION Page;
    MmQueryPage((PVOID)Mapping->Va, &Page);
    *Information = (MM_MAPPING_INFORMATION){
        .Va = (PVOID)Mapping->Va,
        .PageCount = Mapping->PageCount,
        .FirstPage.QuadPart = (LONG64)(Mapping->Io.FirstPfn << PAGE_SHIFT),
        .Caller = Mapping->Caller,
    };
    RtlCopyString(Information->Access, sizeof(Information->Access), Page.Access);
    RtlCopyString(Information->CacheType, sizeof(Information->CacheType), Page.CacheType);
    MiCountLeaves(Mapping, Information);
}

typedef struct _MI_IO_CONTEXT {
    MM_MAPPING_ROUTINE *Routine;
    PVOID Context;
} MI_IO_CONTEXT;

static VOID MiTellIoMapping(PMI_MAPPING Mapping, PVOID Context)
{
    const MI_IO_CONTEXT *Caller = Context;
    if (Mapping->Kind == MiMappingIo) {
        MM_MAPPING_INFORMATION Information;
        MiDescribeMapping(Mapping, &Information);
        Caller->Routine(&Information, Caller->Context);
    }
}

VOID MmEnumerateIoMappings(MM_MAPPING_ROUTINE *Routine, PVOID Context)
{
    MI_IO_CONTEXT Caller = {Routine, Context};
    MiEnumerateMappings(MiTellIoMapping, &Caller);
}

static VOID MiFormatLeaves(const MM_MAPPING_INFORMATION *Information, PCHAR Buffer,
                           SIZE_T ByteCount)
{
    static const CHAR *const Sizes[] = {"4K", "2M", "1G"};
    SIZE_T Length = 0;
    Buffer[0] = '\0';
    for (ULONG Row = ARRAYSIZE(Sizes); Row > 0; Row -= 1) {
        if (Information->LeafCount[Row - 1] != 0 && Length < ByteCount) {
            Length += RtlFormatBuffer(Buffer + Length, ByteCount - Length, "%s%llu x %s",
                                      Length != 0 ? " + " : "", Information->LeafCount[Row - 1],
                                      Sizes[Row - 1]);
        }
    }
}

static VOID MiFormatMapping(const MM_MAPPING_INFORMATION *Information, PCHAR Buffer,
                            SIZE_T ByteCount)
{
    CHAR Leaves[64];
    MiFormatLeaves(Information, Leaves, sizeof(Leaves));
    RtlFormatBuffer(Buffer, ByteCount, "0x%p %s %s %s", Information->Va, Information->Access,
                    Information->CacheType, Leaves);
}

static VOID MiPrintIoMapping(const MM_MAPPING_INFORMATION *Information, PVOID Context)
{
    UNREFERENCED_PARAMETER(Context);
    CHAR Line[128];
    ULONG_PTR Offset = 0;
    const PCSTR Symbol = KiFindSymbol((ULONG_PTR)Information->Caller, &Offset);
    MiFormatMapping(Information, Line, sizeof(Line));
    DbgPrint("  0x%010llx  %s  by %s+0x%llx\n", Information->FirstPage.QuadPart, Line,
             Symbol != NULL ? Symbol : "unknown", (ULONG64)Offset);
}

VOID MmPrintIoMappings(VOID)
{
    DbgPrint("Live I/O mappings (physical, virtual, access, cache type, leaves, who):\n");
    MmEnumerateIoMappings(MiPrintIoMapping, NULL);
}

//
// Shootdowns.
//

VOID MmPrintShootdowns(VOID)
{
    static const CHAR *const Reasons[] = {
        [MmShootdownUnmap] = "unmapped or protected",
        [MmShootdownBatch] = "a batch",
        [MmShootdownSlots] = "addresses that waited",
        [MmShootdownReservation] = "a reservation used again",
        [MmShootdownCacheType] = "another cache type",
        [MmShootdownTrim] = "trimmed",
    };
    C_ASSERT(ARRAYSIZE(Reasons) == MmShootdownReasonCount);
    MM_SHOOTDOWN Last[MM_SHOOTDOWN_COUNT];
    const ULONG Count = MmQueryShootdowns(Last, MM_SHOOTDOWN_COUNT);
    DbgPrint("the last %u shootdowns, the last first:\n", Count);
    for (ULONG Index = 0; Index < Count; Index += 1) {
        const MM_SHOOTDOWN *Shootdown = &Last[Index];
        if (Shootdown->LeafCount == 0) {
            DbgPrint("  %llu: everything, %u processors, %llu cycles: %s\n", Shootdown->Number,
                     Shootdown->ProcessorCount, Shootdown->Cycles, Reasons[Shootdown->Reason]);
        } else {
            DbgPrint("  %llu: 0x%p, %llu leaves of %llu pages, %u processors, %llu cycles: %s\n",
                     Shootdown->Number, (PVOID)Shootdown->Va, Shootdown->LeafCount,
                     Shootdown->LeafPages, Shootdown->ProcessorCount, Shootdown->Cycles,
                     Reasons[Shootdown->Reason]);
        }
    }
}
