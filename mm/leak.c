// Who asked for what, and when: the verifier's records, and the report of what is left of it.
//
// At level 1 every pool block, MDL, and set of locked or allocated pages has a record. Mappings and
// reservations (mapping.c), and contiguous and non-cached memory (block.c), have one at every level.
// Code belongs to an owner, a driver or the self-tests, by its address; what the kernel itself
// allocates is nobody's leak.
//
// Invariant:
//   K1  A record of pool names a live block, and no two records have the same kind and address.
// Lock: MiTrackLock. The look-ups that explain a fault run during a crash, and take none.
#include "mm/mi.h"

#define MI_TRACK_BUCKETS 1024
#define MI_TRACK_TAG 'karT'
#define MI_MILLISECONDS 1000

ULONG64 MiTrackCount;
static KI_LOCK MiTrackLock = KI_LOCK_INITIALIZER(MI_RANK_TRACK, "MiTrackLock");
static PMI_TRACK MiTracks[MI_TRACK_BUCKETS];

static const CHAR *const MiTrackNames[] = {
    [MiTrackPool] = "a pool block",
    [MiTrackMdl] = "an MDL",
    [MiTrackLockedPages] = "locked pages, by the MDL",
    [MiTrackPages] = "allocated pages, by the MDL",
};
C_ASSERT(ARRAYSIZE(MiTrackNames) == MiTrackKindCount);

// Neighbouring blocks lie 16 bytes or a page apart.
static PMI_TRACK *MiBucketOfTrack(const VOID *Address)
{
    const ULONG_PTR Value = (ULONG_PTR)Address;
    return &MiTracks[((Value >> 4) ^ (Value >> PAGE_SHIFT)) % MI_TRACK_BUCKETS];
}

// The link to the record, or to the NULL at the end. The lock is held.
static PMI_TRACK *MiLinkToTrack(MI_TRACK_KIND Kind, const VOID *Address)
{
    PMI_TRACK *Link = MiBucketOfTrack(Address);
    while (*Link != NULL && ((*Link)->Kind != Kind || (*Link)->Address != Address)) {
        Link = &(*Link)->NextInBucket;
    }
    return Link;
}

BOOLEAN MiTrack(MI_TRACK_KIND Kind, const VOID *Address, SIZE_T ByteCount, ULONG Tag, PVOID Caller)
{
    PMI_TRACK Track = MiAllocatePoolOf(MiPoolNonPaged, sizeof(*Track), MI_TRACK_TAG, FALSE);
    if (Track == NULL) {
        return FALSE;
    }
    *Track = (MI_TRACK){NULL, Kind, Tag, Address, ByteCount, Caller, KeReadCycles()};
    const KIRQL OldIrql = KiAcquireLock(&MiTrackLock);
    PMI_TRACK *Bucket = MiBucketOfTrack(Address);
    Track->NextInBucket = *Bucket;
    *Bucket = Track;
    MiTrackCount += 1;
    KiReleaseLock(&MiTrackLock, OldIrql);
    return TRUE;
}

VOID MiForgetTrack(MI_TRACK_KIND Kind, const VOID *Address)
{
    const KIRQL OldIrql = KiAcquireLock(&MiTrackLock);
    PMI_TRACK *Link = MiLinkToTrack(Kind, Address);
    PMI_TRACK Track = *Link;
    if (Track != NULL) {
        *Link = Track->NextInBucket;
        MiTrackCount -= 1;
    }
    KiReleaseLock(&MiTrackLock, OldIrql);
    if (Track != NULL) {
        MiFreePool(Track);
    }
}

BOOLEAN MiFindTrack(MI_TRACK_KIND Kind, const VOID *Address, PMI_TRACK Track)
{
    const KIRQL OldIrql = KiAcquireLock(&MiTrackLock);
    const MI_TRACK *Found = *MiLinkToTrack(Kind, Address);
    if (Found != NULL) {
        *Track = *Found;
    }
    KiReleaseLock(&MiTrackLock, OldIrql);
    return Found != NULL;
}

// Whether the record's pages cover Address.
static BOOLEAN MiCovers(const MI_TRACK *Track, ULONG_PTR Address)
{
    const ULONG_PTR FirstVa = (ULONG_PTR)PAGE_ALIGN(Track->Address);
    const ULONG_PTR EndVa = (ULONG_PTR)Track->Address + Track->ByteCount;
    return Address >= FirstVa && Address < (ULONG_PTR)PAGE_ALIGN(EndVa + PAGE_SIZE - 1);
}

BOOLEAN MiFindTrackAround(MI_TRACK_KIND Kind, const VOID *Address, PMI_TRACK Track)
{
    for (ULONG Bucket = 0; Bucket < MI_TRACK_BUCKETS; Bucket += 1) {
        for (const MI_TRACK *Each = MiTracks[Bucket]; Each != NULL; Each = Each->NextInBucket) {
            if (Each->Kind == Kind && MiCovers(Each, (ULONG_PTR)Address)) {
                *Track = *Each;
                return TRUE;
            }
        }
    }
    return FALSE;
}

//
// In words.
//

static ULONG64 MiMillisecondsSince(ULONG64 Time)
{
    const ULONG64 CyclesPerMillisecond = KeGetCyclesPerSecond() / MI_MILLISECONDS;
    return CyclesPerMillisecond != 0 ? (KeReadCycles() - Time) / CyclesPerMillisecond : 0;
}

VOID MiDescribeWho(PVOID Caller, ULONG64 Time, PCHAR Buffer, SIZE_T ByteCount)
{
    ULONG_PTR Offset = 0;
    const PCSTR Symbol = KiFindSymbol((ULONG_PTR)Caller, &Offset);
    const PCSTR Owner = KiFindCodeOwner((ULONG_PTR)Caller);
    SIZE_T Length = RtlFormatBuffer(Buffer, ByteCount, "%s+0x%llx%s%s%s",
                                    Symbol != NULL ? Symbol : "unknown code", (ULONG64)Offset,
                                    Owner != NULL ? " (" : "", Owner != NULL ? Owner : "",
                                    Owner != NULL ? ")" : "");
    if (Time != 0 && Length < ByteCount) {
        RtlFormatBuffer(Buffer + Length, ByteCount - Length, ", %llu ms ago",
                        MiMillisecondsSince(Time));
    }
}

//
// The report.
//

typedef struct _MI_LEAK_REPORT {
    PCSTR Owner; // NULL: every owner
    MM_LEAKS Leaks;
} MI_LEAK_REPORT;

static BOOLEAN MiIsLeakOf(const MI_LEAK_REPORT *Report, PVOID Caller)
{
    const PCSTR Owner = KiFindCodeOwner((ULONG_PTR)Caller);
    return Owner != NULL && (Report->Owner == NULL || RtlStringsEqual(Owner, Report->Owner));
}

static VOID MiPrintLeak(MI_LEAK_REPORT *Report, const CHAR *What, const VOID *Address,
                        ULONG64 ByteCount, PVOID Caller, ULONG64 Time)
{
    CHAR Who[MI_WHO_BYTES];
    MiDescribeWho(Caller, Time, Who, sizeof(Who));
    DbgPrint("mm: leak: %s at 0x%p, %llu bytes, by %s\n", What, Address, ByteCount, Who);
    Report->Leaks.Count += 1;
    Report->Leaks.ByteCount += ByteCount;
}

static VOID MiReportMapping(PMI_MAPPING Mapping, PVOID Context)
{
    static const CHAR *const Names[] = {
        [MiMappingIo] = "a mapping of I/O space",
        [MiMappingMdl] = "a mapping of an MDL",
        [MiMappingReserved] = "a reservation of addresses",
    };
    MI_LEAK_REPORT *Report = Context;
    if (MiIsLeakOf(Report, Mapping->Caller)) {
        MiPrintLeak(Report, Names[Mapping->Kind], (PVOID)Mapping->Va,
                    Mapping->PageCount << PAGE_SHIFT, Mapping->Caller, Mapping->Time);
    }
}

static VOID MiReportBlock(const MI_BLOCK *Block, PVOID Context)
{
    static const CHAR *const Names[] = {
        [MiBlockContiguous] = "contiguous memory",
        [MiBlockNonCached] = "non-cached memory",
        [MiBlockStack] = "the stack of a thread",
    };
    C_ASSERT(ARRAYSIZE(Names) == MiBlockKindCount);
    MI_LEAK_REPORT *Report = Context;
    if (MiIsLeakOf(Report, Block->Caller)) {
        MiPrintLeak(Report, Names[Block->Kind], (PVOID)MiBlockVa(Block), Block->ByteCount,
                    Block->Caller, Block->Time);
    }
}

static VOID MiReportTrack(MI_LEAK_REPORT *Report, const MI_TRACK *Track)
{
    if (MiIsLeakOf(Report, Track->Caller)) {
        Report->Leaks.LockedMdl =
            Track->Kind == MiTrackLockedPages ? Track->Address : Report->Leaks.LockedMdl;
        MiPrintLeak(Report, MiTrackNames[Track->Kind], Track->Address, Track->ByteCount,
                    Track->Caller, Track->Time);
    }
}

VOID MmReportLeaks(PCSTR Owner, PMM_LEAKS Leaks)
{
    MI_LEAK_REPORT Report = {.Owner = Owner};
    for (ULONG Bucket = 0; Bucket < MI_TRACK_BUCKETS; Bucket += 1) {
        for (const MI_TRACK *Track = MiTracks[Bucket]; Track != NULL; Track = Track->NextInBucket) {
            MiReportTrack(&Report, Track);
        }
    }
    MiEnumerateMappings(MiReportMapping, &Report);
    MiEnumerateBlocks(MiReportBlock, &Report);
    *Leaks = Report.Leaks;
}

// The frames that an MDL still locks are worse than memory: a device may be writing to them.
static VOID MiStopAtLockedPages(PCSTR Owner, const MM_LEAKS *Leaks)
{
    MI_TRACK Track;
    if (Leaks->LockedMdl != NULL && MiFindTrack(MiTrackLockedPages, Leaks->LockedMdl, &Track)) {
        CHAR Who[MI_WHO_BYTES];
        MiDescribeWho(Track.Caller, Track.Time, Who, sizeof(Who));
        MiBugCheck(DRIVER_LEFT_LOCKED_PAGES_IN_PROCESS, (ULONG_PTR)Track.Caller, 0,
                   (ULONG_PTR)Track.Address, Track.ByteCount >> PAGE_SHIFT,
                   "%s is unloaded, and the MDL at 0x%p still has pages locked, by %s", Owner,
                   Track.Address, Who);
    }
}

VOID MmCheckUnload(PCSTR Owner)
{
    MM_LEAKS Leaks;
    MmReportLeaks(Owner, &Leaks);
    if (!MiIsVerifying() || Leaks.Count == 0) {
        return;
    }
    MiStopAtLockedPages(Owner, &Leaks);
    MiBugCheck(DRIVER_VERIFIER_DETECTED_VIOLATION, 0x62, (ULONG_PTR)Owner, Leaks.ByteCount,
               Leaks.Count,
               "%s is unloaded, and leaves %u things of %llu bytes behind, listed above", Owner,
               Leaks.Count, Leaks.ByteCount);
}
