// All mapping routines from all processors at once, at random, as long as the boot option `seconds` says:
// two threads for each processor, one that stays there and one that wanders; and where there are such devices,
// one that reads a disk, and one that sends lists of frames, mapped for DMA, which nobody takes. In some seconds allocations fail on purpose. Every second all invariants of mm are
// verified, while the other processors stand still.
//
// Invariants of the workload:
//   S1  A thread's frames carry its own pattern, which differs from slot to slot and from use to use:
//       whoever else is let at them, or is shown in their place, is seen at the next look.
//   S2  A thread is inside of mm only while it holds the gate, so nobody is when mm is verified.
//   S3  Whatever can fail is given up as a whole; what cannot fail by its contract must not.
// The seed is printed, and is the boot option `seed`; threads draw from numbers of their own.
#include "kernel/inc/io.h"
#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "tests/kernel/disks.h"

#include <exlockddk.h>
#include <ntddnet.h>

#define SLOT_COUNT 12
#define PAGE_LIMIT 16
#define THREAD_LIMIT (2 * KE_MAXIMUM_PROCESSORS)
#define REGION_COUNT 8
#define REGION_BYTES (8 * KT_MIB)
#define LARGE_PAGES 512
#define DEFAULT_SECONDS 1
#define FEW_SECONDS 3
#define PERIOD_MS 1000
#define SHORT_PERIOD_MS 250
#define POLL_MS 50
#define UNITS_PER_MS 10000ull
#define READ_BYTES (64 * KT_KIB)
#define DISK_BYTES (1 * KT_MIB)
#define FRAME_LIMIT 16
#define FRAME_BYTES                                                                                \
    1514 // and each lies in a piece of SPACE_BYTES, across the border of two pages or not
#define SPACE_BYTES 2560

typedef struct _ST_KIND ST_KIND;

typedef struct _ST_SLOT {
    const ST_KIND *Kind; // NULL: empty
    PVOID Base;          // a reservation, or memory
    PVOID Va;            // where it is mapped; NULL: it is not
    PMDL Mdl;
    ULONG PageCount;
    SIZE_T ByteCount;
    ULONG64 Address;
    ULONG64 Tag;
} ST_SLOT, *PST_SLOT;

typedef struct _ST_THREAD {
    PKTHREAD Thread;
    ULONG Number;
    ULONG64 Random;
    ULONG64 UseCount; // of slots, so far: each has a tag of its own
    ST_SLOT Slots[SLOT_COUNT];
    volatile ULONG64 OperationCount;
    ULONG64 OperationsSeen; // at the last verification
} ST_THREAD, *PST_THREAD;

// Create: FALSE: it was refused, and nothing is left of it.
struct _ST_KIND {
    PCSTR Name;
    BOOLEAN (*Create)(PST_THREAD Thread, PST_SLOT Slot);
    VOID (*Use)(PST_THREAD Thread, PST_SLOT Slot);
    VOID (*Destroy)(PST_THREAD Thread, PST_SLOT Slot);
};

static struct {
    ST_THREAD Threads[THREAD_LIMIT];
    ULONG ThreadCount;
    EX_RUNDOWN_REF Gate;
    volatile BOOLEAN IsOver;
    volatile BOOLEAN IsFailing; // allocations fail on purpose
    ULONG64 Gap;
    volatile ULONG64 RefusedCount;
    volatile LONG ErrorCount;
    PCSTR FirstError;
    PCSTR FirstKind;
    ULONG64 FirstActual;
    ULONG64 FirstExpected;
    KT_DISK Disk;
    KT_BUFFER DiskBuffer;
    PUCHAR DiskContent;
    PKTHREAD DiskThread;
    volatile ULONG64 ReadCount;
    PDEVICE_OBJECT Card;
    PUCHAR FrameBytes;
    NET_FRAME Frames[FRAME_LIMIT];
    PKTHREAD CardThread;
    volatile ULONG64 SentCount;
} St;

// -------------------------------------------------------------------------------------------------
// Chance, and complaints.

// Below Limit, which is not 0 (xorshift).
static ULONG Random(PST_THREAD Thread, ULONG Limit)
{
    Thread->Random ^= Thread->Random << 13;
    Thread->Random ^= Thread->Random >> 7;
    Thread->Random ^= Thread->Random << 17;
    return (ULONG)(Thread->Random >> 32) % Limit;
}

static BOOLEAN Once(PST_THREAD Thread, ULONG OutOf)
{
    return Random(Thread, OutOf) == 0;
}

// Only the first one is kept: others may follow from it.
static VOID Complain(PCSTR Kind, PCSTR Error, ULONG64 Actual, ULONG64 Expected)
{
    if (__atomic_fetch_add(&St.ErrorCount, 1, __ATOMIC_SEQ_CST) == 0) {
        St.FirstKind = Kind;
        St.FirstError = Error;
        St.FirstActual = Actual;
        St.FirstExpected = Expected;
    }
    St.IsOver = TRUE;
}

static VOID Expect(const ST_SLOT *Slot, PCSTR Error, ULONG64 Actual, ULONG64 Expected)
{
    if (Actual != Expected) {
        Complain(Slot->Kind->Name, Error, Actual, Expected);
    }
}

// A part of the calls come at DISPATCH_LEVEL.
static KIRQL RaiseSometimes(PST_THREAD Thread)
{
    return KfRaiseIrql(Once(Thread, 4) ? DISPATCH_LEVEL : PASSIVE_LEVEL);
}

// -------------------------------------------------------------------------------------------------
// Patterns (S1): the first and the last word of each page.

#define LAST_WORD (PAGE_SIZE / sizeof(ULONG64) - 1)

static ULONG64 WordOf(const ST_SLOT *Slot, ULONG Page)
{
    return (Slot->Tag + Page) * 0x9E3779B97F4A7C15;
}

static VOID Fill(const ST_SLOT *Slot, PVOID Va)
{
    for (ULONG Page = 0; Page < Slot->PageCount; Page += 1) {
        volatile ULONG64 *const Words = KtAdd(Va, (ULONG64)Page * PAGE_SIZE);
        Words[0] = WordOf(Slot, Page);
        Words[LAST_WORD] = WordOf(Slot, Page);
    }
}

static VOID Check(const ST_SLOT *Slot, const VOID *Va)
{
    for (ULONG Page = 0; Page < Slot->PageCount; Page += 1) {
        const volatile ULONG64 *const Words = KtAdd(Va, (ULONG64)Page * PAGE_SIZE);
        Expect(Slot, "the first word of a page", Words[0], WordOf(Slot, Page));
        Expect(Slot, "the last word of a page", Words[LAST_WORD], WordOf(Slot, Page));
    }
}

// -------------------------------------------------------------------------------------------------
// Device memory, of which there is none: it is mapped and never touched. Each region has a cache type,
// and now and then somebody asks for another one.

static const ULONG RegionProtections[] = {PAGE_READWRITE | PAGE_NOCACHE,
                                          PAGE_READWRITE | PAGE_WRITECOMBINE, PAGE_READWRITE};
static const MEMORY_CACHING_TYPE RegionTypes[] = {MmNonCached, MmWriteCombined, MmCached};

static VOID DrawRange(PST_THREAD Thread, PST_SLOT Slot, PULONG Region)
{
    *Region = Random(Thread, REGION_COUNT);
    Slot->PageCount = Once(Thread, 8) ? LARGE_PAGES * (1 + Random(Thread, 2)) + Random(Thread, 3)
                                      : 1 + Random(Thread, PAGE_LIMIT);
    const ULONG PageInRegion = Once(Thread, 2) ? 0 : Random(Thread, 4 * PAGE_LIMIT);
    Slot->Address = St.Gap + *Region * REGION_BYTES + (ULONG64)PageInRegion * PAGE_SIZE;
}

static BOOLEAN MapDevice(PST_THREAD Thread, PST_SLOT Slot)
{
    ULONG Region;
    DrawRange(Thread, Slot, &Region);
    const ULONG ByteOffset = Once(Thread, 2) ? 0 : Random(Thread, PAGE_SIZE);
    const ULONG Which = Once(Thread, 32) ? Random(Thread, 3) : Region % 3;
    const KIRQL OldIrql = RaiseSometimes(Thread);
    Slot->Address += ByteOffset;
    Slot->ByteCount = (SIZE_T)Slot->PageCount * PAGE_SIZE - ByteOffset;
    Slot->Va = MmMapIoSpaceEx(KtPhysical(Slot->Address), Slot->ByteCount, RegionProtections[Which]);
    KeLowerIrql(OldIrql);
    return Slot->Va != NULL;
}

// Once more, by another name.
static VOID LookAtDisplay(PST_SLOT Slot)
{
    const ULONG Region = (ULONG)((Slot->Address - St.Gap) / REGION_BYTES);
    const PVOID Va = MmMapVideoDisplay(KtPhysical(Slot->Address), 1, RegionTypes[Region % 3]);
    if (Va != NULL) {
        Expect(Slot, "where a display leads", KtPhysicalOf(Va), Slot->Address);
        MmUnmapVideoDisplay(Va, 1);
    }
}

static VOID LookAtDevice(PST_THREAD Thread, PST_SLOT Slot)
{
    const ULONG64 Offset = (ULONG64)Random(Thread, Slot->PageCount) * PAGE_SIZE;
    const ULONG64 Within = Offset < Slot->ByteCount ? Offset : 0;
    Expect(Slot, "where it leads", KtPhysicalOf(KtAdd(Slot->Va, Within)), Slot->Address + Within);
    Expect(Slot, "whether it is mapped", MmIsIoSpaceActive(KtPhysical(Slot->Address), 1) != 0, 1);
    if (Once(Thread, 4)) {
        LookAtDisplay(Slot);
    }
}

static VOID UnmapDevice(PST_THREAD Thread, PST_SLOT Slot)
{
    const KIRQL OldIrql = RaiseSometimes(Thread);
    MmUnmapIoSpace(Slot->Va, Slot->ByteCount);
    KeLowerIrql(OldIrql);
}

//
// The same by an MDL of two ranges.
//

static PVOID MapMdl(PST_THREAD Thread, PMDL Mdl, MEMORY_CACHING_TYPE Type)
{
    const KIRQL OldIrql = RaiseSometimes(Thread);
    const PVOID Va = MmMapLockedPagesSpecifyCache(Mdl, KernelMode, Type, NULL, FALSE,
                                                  NormalPagePriority | MdlMappingNoExecute);
    KeLowerIrql(OldIrql);
    return Va;
}

static VOID UnmapMdl(PST_THREAD Thread, PST_SLOT Slot)
{
    if (Slot->Va != NULL) {
        const KIRQL OldIrql = RaiseSometimes(Thread);
        MmUnmapLockedPages(Slot->Va, Slot->Mdl);
        KeLowerIrql(OldIrql);
        Slot->Va = NULL;
    }
}

static BOOLEAN DescribeDevice(PST_THREAD Thread, PST_SLOT Slot)
{
    ULONG Region;
    DrawRange(Thread, Slot, &Region);
    MM_PHYSICAL_ADDRESS_LIST List[2] = {
        {KtPhysical(Slot->Address), (SIZE_T)Slot->PageCount * PAGE_SIZE},
        {KtPhysical(St.Gap + Region * REGION_BYTES), PAGE_SIZE},
    };
    if (!NT_SUCCESS(MmAllocateMdlForIoSpace(List, ARRAYSIZE(List), &Slot->Mdl))) {
        return FALSE;
    }
    Slot->ByteCount = Region; // whose type it gets
    return TRUE;
}

static VOID RemapDevice(PST_THREAD Thread, PST_SLOT Slot)
{
    if (Slot->Va != NULL) {
        const ULONG Page = Random(Thread, Slot->PageCount + 1);
        Expect(Slot, "where it leads", KtPhysicalOf(KtAdd(Slot->Va, (ULONG64)Page * PAGE_SIZE)),
               KtPageAddress(Slot->Mdl, Page));
        UnmapMdl(Thread, Slot);
    } else {
        Slot->Va = MapMdl(Thread, Slot->Mdl, RegionTypes[Slot->ByteCount % 3]);
    }
}

static VOID ForgetDevice(PST_THREAD Thread, PST_SLOT Slot)
{
    UnmapMdl(Thread, Slot);
    IoFreeMdl(Slot->Mdl);
}

// -------------------------------------------------------------------------------------------------
// Pages by MDL, mapped wherever there is room, and seen by other ways, too.

static MEMORY_CACHING_TYPE DrawType(PST_THREAD Thread)
{
    return Once(Thread, 4) ? RegionTypes[Random(Thread, 2)] : MmCached;
}

static BOOLEAN AllocatePages(PST_THREAD Thread, PST_SLOT Slot)
{
    static const ULONG Flags[] = {0, MM_DONT_ZERO_ALLOCATION, MM_ALLOCATE_PREFER_CONTIGUOUS,
                                  MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS};
    Slot->PageCount = 1 + Random(Thread, PAGE_LIMIT);
    const MEMORY_CACHING_TYPE Type = DrawType(Thread);
    Slot->Mdl = MmAllocatePagesForMdlEx(
        KtPhysical(0), KtPhysical(MAXULONG64), KtPhysical(0), (SIZE_T)Slot->PageCount * PAGE_SIZE,
        Type, MM_ALLOCATE_FULLY_REQUIRED | Flags[Random(Thread, ARRAYSIZE(Flags))]);
    if (Slot->Mdl == NULL) {
        return FALSE;
    }
    Slot->ByteCount = Type;
    return TRUE;
}

static BOOLEAN AllocateAndMapPages(PST_THREAD Thread, PST_SLOT Slot)
{
    if (!AllocatePages(Thread, Slot)) {
        return FALSE;
    }
    Slot->Va = MapMdl(Thread, Slot->Mdl, (MEMORY_CACHING_TYPE)Slot->ByteCount);
    if (Slot->Va == NULL) {
        KtFreePages(Slot->Mdl);
        return FALSE;
    }
    Fill(Slot, Slot->Va);
    return TRUE;
}

// One of its pages as if it were a device's.
static VOID LookAsDevice(PST_THREAD Thread, PST_SLOT Slot)
{
    const ULONG Page = Random(Thread, Slot->PageCount);
    const KIRQL OldIrql = RaiseSometimes(Thread);
    volatile ULONG64 *const Words =
        MmMapIoSpaceEx(KtPhysical(KtPageAddress(Slot->Mdl, Page)), PAGE_SIZE, PAGE_READWRITE);
    if (Words != NULL) {
        Expect(Slot, "a page, mapped as a device's", Words[LAST_WORD], WordOf(Slot, Page));
        MmUnmapIoSpace((PVOID)(ULONG_PTR)Words, PAGE_SIZE);
    }
    KeLowerIrql(OldIrql);
}

static VOID LookByCopy(PST_THREAD Thread, PST_SLOT Slot)
{
    const ULONG Page = Random(Thread, Slot->PageCount);
    ULONG64 Word = 0;
    SIZE_T ByteCount;
    const MM_COPY_ADDRESS Source = {.PhysicalAddress = KtPhysical(KtPageAddress(Slot->Mdl, Page))};
    if (NT_SUCCESS(
            MmCopyMemory(&Word, Source, sizeof(Word), MM_COPY_MEMORY_PHYSICAL, &ByteCount))) {
        Expect(Slot, "a page, copied", Word, WordOf(Slot, Page));
    }
}

static VOID NTAPI CheckShown(PVOID Slot, PVOID Va)
{
    Check(Slot, Va);
}

// Where they are mapped, or else for as long as the look lasts.
static VOID LookByCall(PST_SLOT Slot)
{
    const NTSTATUS Status = MmMapMdl(Slot->Mdl, PAGE_READONLY, CheckShown, Slot);
    if (!NT_SUCCESS(Status)) {
        Expect(Slot, "why it is not shown", (ULONG)Status, (ULONG)STATUS_INSUFFICIENT_RESOURCES);
    }
}

// A part of it by a partial MDL, which is mapped on its own where the whole is not.
static VOID LookAtPart(PST_THREAD Thread, PST_SLOT Slot)
{
    const ULONG Page = Random(Thread, Slot->PageCount);
    const PVOID Start = KtAdd(MmGetMdlVirtualAddress(Slot->Mdl), (ULONG64)Page * PAGE_SIZE);
    const PMDL Part = IoAllocateMdl(Start, PAGE_SIZE, FALSE, FALSE, NULL);
    if (Part == NULL) {
        return;
    }
    IoBuildPartialMdl(Slot->Mdl, Part, Start, PAGE_SIZE);
    const volatile ULONG64 *const Words = MmGetSystemAddressForMdlSafe(Part, NormalPagePriority);
    if (Words != NULL) {
        Expect(Slot, "a page, as a part", Words[LAST_WORD], WordOf(Slot, Page));
    }
    MmPrepareMdlForReuse(Part);
    IoFreeMdl(Part);
}

// Read-only, or not accessible, for a while.
static VOID ProtectForAWhile(PST_THREAD Thread, PST_SLOT Slot)
{
    static const ULONG Protections[] = {PAGE_READONLY, PAGE_NOACCESS, PAGE_EXECUTE_READ};
    const ULONG Protection = Protections[Random(Thread, ARRAYSIZE(Protections))];
    if (NT_SUCCESS(MmProtectMdlSystemAddress(Slot->Mdl, Protection)) &&
        Protection != PAGE_NOACCESS) {
        Check(Slot, Slot->Va);
    }
    Expect(Slot, "whether it can be written again",
           (ULONG)MmProtectMdlSystemAddress(Slot->Mdl, PAGE_READWRITE), STATUS_SUCCESS);
    Slot->Tag += 2 * PAGE_LIMIT;
    Fill(Slot, Slot->Va);
}

static VOID UsePages(PST_THREAD Thread, PST_SLOT Slot)
{
    if (Slot->Va == NULL) {
        Slot->Va = MapMdl(Thread, Slot->Mdl, DrawType(Thread));
    }
    if (Slot->Va != NULL) {
        Check(Slot, Slot->Va);
        if (Once(Thread, 4)) {
            ProtectForAWhile(Thread, Slot);
        } else if (Once(Thread, 2)) {
            UnmapMdl(Thread, Slot);
        }
    }
    switch (Random(Thread, 7)) {
    case 0:
        LookAsDevice(Thread, Slot);
        break;
    case 1:
        LookByCopy(Thread, Slot);
        break;
    case 2:
        LookAtPart(Thread, Slot);
        break;
    case 3:
        LookByCall(Slot);
        break;
    }
}

static VOID FreePages(PST_THREAD Thread, PST_SLOT Slot)
{
    if (Slot->Va != NULL) {
        Check(Slot, Slot->Va);
    }
    UnmapMdl(Thread, Slot);
    KtFreePages(Slot->Mdl);
}

// -------------------------------------------------------------------------------------------------
// Pages into reserved addresses: nothing of that may fail (S3).

static VOID MapReserved(PST_SLOT Slot)
{
    Slot->Va = MmMapLockedPagesWithReservedMapping(Slot->Base, KT_TAG, Slot->Mdl,
                                                   (MEMORY_CACHING_TYPE)Slot->ByteCount);
    Expect(Slot, "where a reserved mapping is", (ULONG64)Slot->Va, (ULONG64)Slot->Base);
}

static BOOLEAN ReserveAndMap(PST_THREAD Thread, PST_SLOT Slot)
{
    if (!AllocatePages(Thread, Slot)) {
        return FALSE;
    }
    const ULONG PageCount = Slot->PageCount + Random(Thread, PAGE_LIMIT);
    Slot->Base = MmAllocateMappingAddress((SIZE_T)PageCount * PAGE_SIZE, KT_TAG);
    if (Slot->Base == NULL) {
        KtFreePages(Slot->Mdl);
        return FALSE;
    }
    MapReserved(Slot);
    if (Slot->Va != NULL) {
        Fill(Slot, Slot->Va);
    }
    return TRUE;
}

static VOID RemapReserved(PST_THREAD Thread, PST_SLOT Slot)
{
    const KIRQL OldIrql = RaiseSometimes(Thread);
    for (ULONG Left = 1 + Random(Thread, 8); Left > 0 && Slot->Va != NULL; Left -= 1) {
        Check(Slot, Slot->Va);
        MmUnmapReservedMapping(Slot->Base, KT_TAG, Slot->Mdl);
        MapReserved(Slot);
    }
    if (Slot->Va != NULL) {
        Check(Slot, Slot->Va);
        Slot->Tag += 2 * PAGE_LIMIT;
        Fill(Slot, Slot->Va);
    }
    KeLowerIrql(OldIrql);
}

static VOID UnmapAndUnreserve(PST_THREAD Thread, PST_SLOT Slot)
{
    UNREFERENCED_PARAMETER(Thread);
    if (Slot->Va != NULL) {
        Check(Slot, Slot->Va);
        MmUnmapReservedMapping(Slot->Base, KT_TAG, Slot->Mdl);
    }
    MmFreeMappingAddress(Slot->Base, KT_TAG);
    KtFreePages(Slot->Mdl);
}

// -------------------------------------------------------------------------------------------------
// Pool, locked and seen at another address.

static BOOLEAN AllocatePool(PST_THREAD Thread, PST_SLOT Slot)
{
    Slot->PageCount = 1 + Random(Thread, PAGE_LIMIT / 2);
    Slot->Base = ExAllocatePool2(POOL_FLAG_NON_PAGED, (SIZE_T)Slot->PageCount * PAGE_SIZE, KT_TAG);
    if (Slot->Base == NULL) {
        return FALSE;
    }
    Fill(Slot, Slot->Base);
    return TRUE;
}

// The pages of the MDL's buffer, or the same ones by a list of them.
static BOOLEAN Lock(PMDL Mdl, BOOLEAN IsByList)
{
    const BOOLEAN MayFail = St.IsFailing;
    volatile BOOLEAN IsLocked = TRUE;
    FILE_SEGMENT_ELEMENT Elements[PAGE_LIMIT] = {0};
    for (ULONG Page = 0; Page < MmGetMdlByteCount(Mdl) / PAGE_SIZE; Page += 1) {
        Elements[Page].Buffer = KtAdd(MmGetMdlVirtualAddress(Mdl), (ULONG64)Page * PAGE_SIZE);
    }
    KmTry {
        if (IsByList) {
            MmProbeAndLockSelectedPages(Mdl, Elements, KernelMode, IoWriteAccess);
        } else {
            MmProbeAndLockPages(Mdl, KernelMode, IoWriteAccess);
        }
    }
    KmCatch (Status) {
        IsLocked = FALSE;
        if (Status != STATUS_INSUFFICIENT_RESOURCES || (!MayFail && !St.IsFailing)) {
            Complain("pool", "why it cannot be locked", (ULONG)Status, STATUS_SUCCESS);
        }
    }
    return IsLocked;
}

// The old routine stops the machine when it fails, unless the MDL says that it may.
static PVOID MapSomehow(PST_THREAD Thread, PMDL Mdl)
{
    if (!Once(Thread, 3)) {
        return MapMdl(Thread, Mdl, MmCached);
    }
    Mdl->MdlFlags |= MDL_MAPPING_CAN_FAIL;
    return MmMapLockedPages(Mdl, KernelMode);
}

// All pages but the last are unlocked at once.
static VOID GiveUpBeginning(PST_SLOT Slot, PMDL Mdl)
{
    const ULONG ByteCount = (Slot->PageCount - 1) * PAGE_SIZE;
    Expect(Slot, "whether it advances", (ULONG)MmAdvanceMdl(Mdl, ByteCount), STATUS_SUCCESS);
    Expect(Slot, "what is left of it", MmGetMdlByteCount(Mdl), PAGE_SIZE);
}

static VOID LockAndMapPool(PST_THREAD Thread, PST_SLOT Slot)
{
    Check(Slot, Slot->Base);
    const PMDL Mdl = IoAllocateMdl(Slot->Base, Slot->PageCount * PAGE_SIZE, FALSE, FALSE, NULL);
    if (Mdl == NULL) {
        return;
    }
    if (Lock(Mdl, Once(Thread, 2))) {
        const PVOID Va = MapSomehow(Thread, Mdl);
        if (Va != NULL) {
            Check(Slot, Va);
            Slot->Tag += 2 * PAGE_LIMIT;
            Fill(Slot, Va);
            Check(Slot, Slot->Base);
            if (Once(Thread, 2)) {
                MmUnmapLockedPages(Va, Mdl);
                GiveUpBeginning(Slot, Mdl);
            }
        }
        MmUnlockPages(Mdl);
    }
    IoFreeMdl(Mdl);
}

static VOID FreePool(PST_THREAD Thread, PST_SLOT Slot)
{
    UNREFERENCED_PARAMETER(Thread);
    Check(Slot, Slot->Base);
    ExFreePool(Slot->Base);
}

// -------------------------------------------------------------------------------------------------
// Adjacent frames, and uncached memory.

static BOOLEAN AllocateContiguous(PST_THREAD Thread, PST_SLOT Slot)
{
    Slot->PageCount = 1 + Random(Thread, PAGE_LIMIT);
    Slot->Base = MmAllocateContiguousMemorySpecifyCache((SIZE_T)Slot->PageCount * PAGE_SIZE,
                                                        KtPhysical(0), KtPhysical(MAXULONG64),
                                                        KtPhysical(0), DrawType(Thread));
    if (Slot->Base == NULL) {
        return FALSE;
    }
    Slot->Address = KtPhysicalOf(Slot->Base);
    Fill(Slot, Slot->Base);
    return TRUE;
}

static VOID LookAtContiguous(PST_THREAD Thread, PST_SLOT Slot)
{
    const ULONG64 Offset = (ULONG64)Random(Thread, Slot->PageCount) * PAGE_SIZE;
    Check(Slot, Slot->Base);
    Expect(Slot, "where it lies", KtPhysicalOf(KtAdd(Slot->Base, Offset)), Slot->Address + Offset);
}

static VOID FreeContiguous(PST_THREAD Thread, PST_SLOT Slot)
{
    const KIRQL OldIrql = RaiseSometimes(Thread);
    Check(Slot, Slot->Base);
    MmFreeContiguousMemory(Slot->Base);
    KeLowerIrql(OldIrql);
}

static BOOLEAN AllocateUncached(PST_THREAD Thread, PST_SLOT Slot)
{
    Slot->PageCount = 1 + Random(Thread, PAGE_LIMIT);
    Slot->Base = MmAllocateNonCachedMemory((SIZE_T)Slot->PageCount * PAGE_SIZE);
    if (Slot->Base == NULL) {
        return FALSE;
    }
    Fill(Slot, Slot->Base);
    return TRUE;
}

static VOID LookAtUncached(PST_THREAD Thread, PST_SLOT Slot)
{
    UNREFERENCED_PARAMETER(Thread);
    Check(Slot, Slot->Base);
}

static VOID FreeUncached(PST_THREAD Thread, PST_SLOT Slot)
{
    UNREFERENCED_PARAMETER(Thread);
    Check(Slot, Slot->Base);
    MmFreeNonCachedMemory(Slot->Base, (SIZE_T)Slot->PageCount * PAGE_SIZE);
}

static const ST_KIND Kinds[] = {
    {"device memory", MapDevice, LookAtDevice, UnmapDevice},
    {"device memory by MDL", DescribeDevice, RemapDevice, ForgetDevice},
    {"pages", AllocateAndMapPages, UsePages, FreePages},
    {"reserved addresses", ReserveAndMap, RemapReserved, UnmapAndUnreserve},
    {"pool", AllocatePool, LockAndMapPool, FreePool},
    {"contiguous memory", AllocateContiguous, LookAtContiguous, FreeContiguous},
    {"uncached memory", AllocateUncached, LookAtUncached, FreeUncached},
};

static volatile ULONG64 CreatedCounts[ARRAYSIZE(Kinds)];

// -------------------------------------------------------------------------------------------------
// Threads.

// S2.
static VOID EnterMm(VOID)
{
    while (!ExAcquireRundownProtection(&St.Gate)) {
        KtSleep(1);
    }
}

static VOID LeaveMm(VOID)
{
    ExReleaseRundownProtection(&St.Gate);
}

static VOID CreateSomething(PST_THREAD Thread, PST_SLOT Slot)
{
    const ULONG Which = Random(Thread, ARRAYSIZE(Kinds));
    Thread->UseCount += 1;
    *Slot = (ST_SLOT){.Kind = &Kinds[Which],
                      .Tag = (ULONG64)(Thread->Number + 1) << 48 | Thread->UseCount << 20};
    if (Kinds[Which].Create(Thread, Slot)) {
        __atomic_fetch_add(&CreatedCounts[Which], 1, __ATOMIC_RELAXED);
    } else {
        __atomic_fetch_add(&St.RefusedCount, 1, __ATOMIC_RELAXED);
        Slot->Kind = NULL;
    }
}

static VOID DestroyIt(PST_THREAD Thread, PST_SLOT Slot)
{
    Slot->Kind->Destroy(Thread, Slot);
    Slot->Kind = NULL;
}

static VOID DoSomething(PST_THREAD Thread)
{
    const PST_SLOT Slot = &Thread->Slots[Random(Thread, SLOT_COUNT)];
    if (Slot->Kind == NULL) {
        CreateSomething(Thread, Slot);
    } else if (Once(Thread, 4)) {
        DestroyIt(Thread, Slot);
    } else {
        Slot->Kind->Use(Thread, Slot);
    }
    if (KeGetCurrentIrql() != PASSIVE_LEVEL) {
        Complain("all", "the IRQL", KeGetCurrentIrql(), PASSIVE_LEVEL);
    }
}

static VOID NTAPI WorkAtRandom(PVOID Context)
{
    const PST_THREAD Thread = Context;
    while (!St.IsOver) {
        EnterMm();
        DoSomething(Thread);
        Thread->OperationCount += 1;
        LeaveMm();
    }
    EnterMm();
    for (ULONG Index = 0; Index < SLOT_COUNT; Index += 1) {
        if (Thread->Slots[Index].Kind != NULL) {
            DestroyIt(Thread, &Thread->Slots[Index]);
        }
    }
    LeaveMm();
}

static BOOLEAN StartThreads(ULONG64 Seed)
{
    const ULONG ProcessorCount = (ULONG)KeNumberProcessors;
    BOOLEAN HasAll = TRUE;
    for (ULONG Number = 0; Number < 2 * ProcessorCount; Number += 1) {
        const PST_THREAD Thread = &St.Threads[Number];
        Thread->Number = Number;
        Thread->Random = (Seed + Number + 1) * 0x9E3779B97F4A7C15 | 1;
        Thread->Thread =
            Number < ProcessorCount
                ? KtStartThreadOn((KAFFINITY)1 << Number, WorkAtRandom, Thread, LOW_PRIORITY + 1)
                : KtStartThread(WorkAtRandom, Thread, LOW_PRIORITY + 1);
        HasAll = HasAll && Thread->Thread != NULL;
    }
    St.ThreadCount = 2 * ProcessorCount;
    return HasAll;
}

//
// A disk: what is read again must be what was read before anything failed.
//

static BOOLEAN OpenDisk(VOID)
{
    if (KtHasOption("nodevices") || !KtOpenDisk(0, &St.Disk) || St.Disk.ByteCount < DISK_BYTES) {
        return FALSE;
    }
    St.DiskContent = ExAllocatePool2(POOL_FLAG_NON_PAGED, DISK_BYTES, KT_TAG);
    if (!KT_CHECK(St.DiskContent != NULL)) {
        return FALSE;
    }
    return KT_EQUAL(KtTransferDisk(&St.Disk, IRP_MJ_READ, St.DiskContent, 0, DISK_BYTES),
                    STATUS_SUCCESS) &&
           KT_CHECK(KtAllocateBuffer(&St.DiskBuffer, READ_BYTES));
}

static VOID CloseDisk(VOID)
{
    if (St.DiskContent != NULL) {
        ExFreePool(St.DiskContent);
    }
    if (St.DiskBuffer.Va != NULL) {
        KtFreeBuffer(&St.DiskBuffer);
    }
}

static VOID ReadOnce(PST_THREAD Thread)
{
    const ULONG Blocks = READ_BYTES / St.Disk.BlockBytes;
    const ULONG ByteCount = (1 + Random(Thread, Blocks)) * St.Disk.BlockBytes;
    const ULONG Offset =
        Random(Thread, (DISK_BYTES - READ_BYTES) / St.Disk.BlockBytes) * St.Disk.BlockBytes;
    const BOOLEAN MayFail = St.IsFailing;
    RtlFillMemory(St.DiskBuffer.Va, ByteCount, 0xEE);
    const NTSTATUS Status =
        KtTransferDisk(&St.Disk, IRP_MJ_READ, St.DiskBuffer.Va, Offset, ByteCount);
    if (NT_SUCCESS(Status)) {
        St.ReadCount += 1;
        if (!RtlEqualMemory(St.DiskBuffer.Va, St.DiskContent + Offset, ByteCount)) {
            Complain("disk", "the place of a read that brought something else", Offset, ByteCount);
        }
    } else if (!MayFail && !St.IsFailing) {
        Complain("disk", "why a read failed", (ULONG)Status, STATUS_SUCCESS);
    }
}

static VOID NTAPI ReadAtRandom(PVOID Context)
{
    const PST_THREAD Thread = Context;
    while (!St.IsOver) {
        EnterMm();
        ReadOnce(Thread);
        Thread->OperationCount += 1;
        LeaveMm();
        KtSleep(1);
    }
}

static VOID StartReading(ULONG64 Seed)
{
    static ST_THREAD Reader;
    Reader = (ST_THREAD){.Random = Seed | 1};
    St.DiskThread = KtStartThread(ReadAtRandom, &Reader, LOW_PRIORITY + 2);
    KT_CHECK(St.DiskThread != NULL);
}

//
// A network card.
//

static BOOLEAN OpenCard(VOID)
{
    St.Card = KtHasOption("nodevices") ? NULL : IoFindDevice(FILE_DEVICE_PHYSICAL_NETCARD, 0);
    if (St.Card == NULL) {
        return FALSE;
    }
    St.FrameBytes = ExAllocatePool2(POOL_FLAG_NON_PAGED, FRAME_LIMIT * SPACE_BYTES, KT_TAG);
    return KT_CHECK(St.FrameBytes != NULL);
}

static VOID CloseCard(VOID)
{
    if (St.FrameBytes != NULL) {
        ExFreePool(St.FrameBytes);
    }
}

// A list of frames to nobody. Returns how many there was memory for.
static ULONG BuildFrames(PST_THREAD Thread)
{
    const ULONG Wanted = 1 + Random(Thread, FRAME_LIMIT);
    for (ULONG Index = 0; Index < Wanted; Index += 1) {
        const ULONG Length =
            NET_ETHERNET_HEADER_BYTES + 1 + Random(Thread, FRAME_BYTES - NET_ETHERNET_HEADER_BYTES);
        const PUCHAR Bytes =
            St.FrameBytes + Index * SPACE_BYTES + Random(Thread, SPACE_BYTES - FRAME_BYTES);
        Bytes[0] = 0x02; // a unicast address that is nobody's
        St.Frames[Index] = (NET_FRAME){
            .Mdl = KtDescribe(Bytes, Length), .ByteCount = Length, .Status = STATUS_PENDING};
        if (St.Frames[Index].Mdl == NULL) {
            return Index;
        }
        if (Index > 0) {
            St.Frames[Index - 1].Next = &St.Frames[Index];
        }
    }
    return Wanted;
}

static NTSTATUS NTAPI SendIsDone(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    UNREFERENCED_PARAMETER(Irp);
    KeSetEvent(Context, IO_NO_INCREMENT, FALSE);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static NTSTATUS SendFrames(VOID)
{
    KEVENT Done;
    const PIRP Irp = IoAllocateIrp(St.Card->StackSize, FALSE);
    if (Irp == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    KeInitializeEvent(&Done, NotificationEvent, FALSE);
    const PIO_STACK_LOCATION Stack = IoGetNextIrpStackLocation(Irp);
    Stack->MajorFunction = IRP_MJ_INTERNAL_DEVICE_CONTROL;
    Stack->Parameters.DeviceIoControl.IoControlCode = IOCTL_NET_SEND;
    Stack->Parameters.DeviceIoControl.Type3InputBuffer = &St.Frames[0];
    IoSetCompletionRoutine(Irp, SendIsDone, &Done, TRUE, TRUE, TRUE);
    (VOID) IoCallDriver(St.Card, Irp);
    KeWaitForSingleObject(&Done, Executive, KernelMode, FALSE, NULL);
    const NTSTATUS Status = Irp->IoStatus.Status;
    IoFreeIrp(Irp);
    return Status;
}

static VOID SendOnce(PST_THREAD Thread)
{
    const BOOLEAN MayFail = St.IsFailing;
    const ULONG Count = BuildFrames(Thread);
    const NTSTATUS Status = Count > 0 ? SendFrames() : STATUS_INSUFFICIENT_RESOURCES;
    for (ULONG Index = 0; Index < Count; Index += 1) {
        St.SentCount += NT_SUCCESS(St.Frames[Index].Status);
        IoFreeMdl(St.Frames[Index].Mdl);
    }
    if (Status == STATUS_INSUFFICIENT_RESOURCES && !MayFail && !St.IsFailing) {
        Complain("card", "why frames were not sent", (ULONG)Status, STATUS_SUCCESS);
    }
}

static VOID NTAPI SendAtRandom(PVOID Context)
{
    const PST_THREAD Thread = Context;
    while (!St.IsOver) {
        EnterMm();
        SendOnce(Thread);
        LeaveMm();
        KtSleep(1); // the card is faster than mm's threads would like
    }
}

static VOID StartSending(ULONG64 Seed)
{
    static ST_THREAD Sender;
    Sender = (ST_THREAD){.Random = ~Seed | 1};
    St.CardThread = KtStartThread(SendAtRandom, &Sender, LOW_PRIORITY + 2);
    KT_CHECK(St.CardThread != NULL);
}

// -------------------------------------------------------------------------------------------------
// The course of it all.

// Whoever sees IsFailing clear before and behind what he does has met no failure on purpose.
static VOID Simulate(ULONG Interval)
{
    if (Interval != 0) {
        St.IsFailing = TRUE;
    }
    MmSimulateLowResources(MM_FAIL_ALL, Interval, FALSE);
    if (Interval == 0) {
        St.IsFailing = FALSE;
    }
}

// Who has not done anything since the last time hangs.
static VOID CheckProgress(VOID)
{
    for (ULONG Number = 0; Number < St.ThreadCount && !St.IsOver; Number += 1) {
        const PST_THREAD Thread = &St.Threads[Number];
        if (Thread->Thread != NULL && Thread->OperationCount == Thread->OperationsSeen) {
            DbgPrint("    # thread %u has done nothing in this period\n", Number);
        }
        Thread->OperationsSeen = Thread->OperationCount;
    }
}

static VOID SleepThrough(ULONG Milliseconds)
{
    const ULONG64 Start = KeQueryInterruptTime();
    while (!St.IsOver && KeQueryInterruptTime() - Start < Milliseconds * UNITS_PER_MS) {
        KtSleep(POLL_MS);
    }
}

// Of each three periods, allocations fail in the last.
static VOID RunPeriods(ULONG Seconds, PST_THREAD Draw, PULONG VerifyCount, PULONG64 FailedCount)
{
    const ULONG PeriodMs = Seconds < FEW_SECONDS ? SHORT_PERIOD_MS : PERIOD_MS;
    const ULONG64 Start = KeQueryInterruptTime();
    for (ULONG Period = 0; !St.IsOver && KeQueryInterruptTime() - Start < Seconds * 10000000ull;
         Period += 1) {
        Simulate(Period % 3 == 2 ? 2 + Random(Draw, 30) : 0);
        SleepThrough(PeriodMs);
        *FailedCount += St.IsFailing ? MmSimulatedFailureCount() : 0;
        ExWaitForRundownProtectionRelease(&St.Gate);
        KT_EQUAL(MmVerify(), 0);
        CheckProgress();
        *VerifyCount += 1;
        ExReInitializeRundownProtection(&St.Gate);
    }
    Simulate(0);
}

static VOID Stop(VOID)
{
    St.IsOver = TRUE;
    for (ULONG Number = 0; Number < THREAD_LIMIT; Number += 1) {
        KtJoin(St.Threads[Number].Thread);
    }
    KtJoin(St.DiskThread);
    KtJoin(St.CardThread);
}

static VOID Report(ULONG Seconds, ULONG VerifyCount, ULONG64 FailedCount)
{
    ULONG64 OperationCount = 0;
    for (ULONG Number = 0; Number < St.ThreadCount; Number += 1) {
        OperationCount += St.Threads[Number].OperationCount;
    }
    DbgPrint("    # %llu operations of %u threads, %llu refused, %llu failures on purpose, %llu "
             "reads of a disk, %llu frames sent, verified %u times\n",
             OperationCount, St.ThreadCount, St.RefusedCount, FailedCount, St.ReadCount,
             St.SentCount, VerifyCount);
    for (ULONG Which = 0; Seconds >= FEW_SECONDS && Which < ARRAYSIZE(Kinds); Which += 1) {
        KtSetContext("%s", Kinds[Which].Name);
        KT_CHECK(CreatedCounts[Which] > 0);
    }
    if (St.ErrorCount != 0) {
        KtSetContext("%s: %s", St.FirstKind, St.FirstError);
        KT_EQUAL(St.FirstActual, St.FirstExpected);
    }
    KT_EQUAL(St.ErrorCount, 0);
    KT_CHECK(VerifyCount > 0);
}

static VOID EverybodyMapsAtOnce(VOID)
{
    const ULONG64 Seed = KtNumberOption("seed", KeReadCycles());
    const ULONG Seconds = (ULONG)KtNumberOption("seconds", DEFAULT_SECONDS);
    ST_THREAD Draw = {.Random = Seed | 1};
    ULONG VerifyCount = 0;
    ULONG64 FailedCount = 0;
    RtlZeroMemory(&St, sizeof(St));
    RtlZeroMemory((PVOID)CreatedCounts, sizeof(CreatedCounts));
    ExInitializeRundownProtection(&St.Gate);
    St.Gap = KtFindGap(REGION_COUNT * REGION_BYTES, 2 * KT_MIB);
    KT_REQUIRE(St.Gap != 0);
    DbgPrint("    # seed=%llu\n", Seed);
    if (OpenDisk()) {
        StartReading(Seed);
    }
    if (OpenCard()) {
        StartSending(Seed);
    }
    KT_CHECK(StartThreads(Seed));
    RunPeriods(Seconds, &Draw, &VerifyCount, &FailedCount);
    Stop();
    Report(Seconds, VerifyCount, FailedCount);
    CloseDisk();
    CloseCard();
}

static const KT_TEST Tests[] = {
    {"stress: all mapping routines from all processors at once, with allocations that fail",
     EverybodyMapsAtOnce},
};

const KT_SUITE KtStressSuite = {"stress", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
