// MmCopyMemory, MmGetVirtualForPhysical, and the forms of MmGetPhysicalMemoryRanges.
#include "kernel/inc/ke.h"
#include "kernel/inc/rtl.h"
#include "tests/kernel/reference.h"
#include "tests/kernel/tests.h"

#define UNTOUCHED 0xA7

static UCHAR Target[2 * PAGE_SIZE + 1];
static SIZE_T Copied;

static NTSTATUS CopyPhysical(ULONG64 Address, SIZE_T ByteCount)
{
    MM_COPY_ADDRESS Source = {.PhysicalAddress = KtPhysical(Address)};
    RtlFillMemory(Target, sizeof(Target), UNTOUCHED);
    return MmCopyMemory(Target, Source, ByteCount, MM_COPY_MEMORY_PHYSICAL, &Copied);
}

static NTSTATUS CopyVirtual(const VOID *Va, SIZE_T ByteCount)
{
    MM_COPY_ADDRESS Source = {.VirtualAddress = (PVOID)(ULONG_PTR)Va};
    RtlFillMemory(Target, sizeof(Target), UNTOUCHED);
    return MmCopyMemory(Target, Source, ByteCount, MM_COPY_MEMORY_VIRTUAL, &Copied);
}

static VOID CheckCopied(NTSTATUS Status, const UCHAR *Expected, SIZE_T ByteCount)
{
    KT_EQUAL(Status, STATUS_SUCCESS);
    KT_EQUAL(Copied, ByteCount);
    KT_CHECK(RtlEqualMemory(Target, Expected, ByteCount));
    KT_EQUAL(Target[ByteCount], UNTOUCHED);
}

static VOID EveryCacheTypeIsCopied(VOID)
{
    static const MEMORY_CACHING_TYPE Types[] = {MmCached, MmNonCached, MmWriteCombined};
    static UCHAR Expected[2 * PAGE_SIZE];
    for (ULONG Index = 0; Index < sizeof(Expected); Index += 1) {
        Expected[Index] = (UCHAR)(Index * 7 + Index / 251);
    }
    for (ULONG Row = 0; Row < ARRAYSIZE(Types); Row += 1) {
        KtSetContext("type %d", Types[Row]);
        PUCHAR Va = MmAllocateContiguousMemorySpecifyCache(
            sizeof(Expected), KtPhysical(0), KtPhysical(MAXULONG64), KtPhysical(0), Types[Row]);
        KT_REQUIRE(Va != NULL);
        RtlCopyMemory(Va, Expected, sizeof(Expected));
        CheckCopied(CopyPhysical(KtPhysicalOf(Va) + 4000, 200), Expected + 4000, 200);
        CheckCopied(CopyVirtual(Va + 1, sizeof(Expected) - 1), Expected + 1, sizeof(Expected) - 1);
        CheckCopied(CopyVirtual(Va, 0), Expected, 0);
        KT_EQUAL(MmVerify(), 0);
        MmFreeContiguousMemory(Va);
    }
}

static VOID TheKernelItselfIsCopied(VOID)
{
    static UCHAR Data[100] = "data of the kernel image";
    CheckCopied(CopyVirtual(Data, sizeof(Data)), Data, sizeof(Data));
    CheckCopied(CopyPhysical(KtPhysicalOf(Data), 50), Data, 50);
    CheckCopied(CopyVirtual((const VOID *)(ULONG_PTR)EveryCacheTypeIsCopied, 16),
                (const UCHAR *)(ULONG_PTR)EveryCacheTypeIsCopied, 16);
}

static VOID TheCopyStopsWhereNothingIs(VOID)
{
    PUCHAR Va = ExAllocatePool2(POOL_FLAG_NON_PAGED, 2 * PAGE_SIZE, KT_TAG);
    KT_REQUIRE(Va != NULL);
    KT_EQUAL(CopyVirtual(Va + PAGE_SIZE + 1, 2 * PAGE_SIZE), STATUS_INVALID_ADDRESS);
    KT_EQUAL(Copied, PAGE_SIZE - 1);
    ExFreePool(Va);
    KT_EQUAL(CopyVirtual(NULL, 1), STATUS_INVALID_ADDRESS);
    KT_EQUAL(CopyVirtual((PVOID)0x8000000000000000, 1), STATUS_INVALID_ADDRESS);
    KT_EQUAL(CopyVirtual((PVOID)(MAXULONG64 - 3), 8), STATUS_INVALID_ADDRESS);
    KT_EQUAL(CopyPhysical(KT_GAP_LOWEST, 8), STATUS_INVALID_ADDRESS);
    KT_EQUAL(CopyPhysical(MAXULONG64 - 3, 8), STATUS_INVALID_ADDRESS);
    KT_EQUAL(Copied, 0);
}

static VOID DevicesAreNotRead(VOID)
{
    PVOID Va = MmMapIoSpace(KtPhysical(KT_APIC_BASE), PAGE_SIZE, MmNonCached);
    KT_REQUIRE(Va != NULL);
    KT_EQUAL(CopyPhysical(KT_APIC_BASE + KT_APIC_VERSION, 4), STATUS_INVALID_ADDRESS);
    KT_EQUAL(CopyVirtual(KtAdd(Va, KT_APIC_VERSION), 4), STATUS_INVALID_ADDRESS);
    KT_EQUAL(Copied, 0);
    MmUnmapIoSpace(Va, PAGE_SIZE);
}

static VOID OneFlagIsNeeded(VOID)
{
    static const ULONG Flags[] = {0, 3, 4, MAXULONG};
    MM_COPY_ADDRESS Source = {.VirtualAddress = Target};
    for (ULONG Row = 0; Row < ARRAYSIZE(Flags); Row += 1) {
        KT_EQUAL(MmCopyMemory(Target, Source, 1, Flags[Row], &Copied), STATUS_INVALID_PARAMETER);
        KT_EQUAL(Copied, 0);
    }
}

static VOID FramesHaveKernelAddresses(VOID)
{
    static UCHAR Data;
    PVOID Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 64, KT_TAG);
    KT_REQUIRE(Block != NULL);
    // Not always the address of the block itself: under the verifier it has one of its own.
    const ULONG64 Address = KtPhysicalOf(Block);
    KT_EQUAL(KtPhysicalOf(MmGetVirtualForPhysical(KtPhysical(Address))), Address);
    KT_EQUAL(MmGetVirtualForPhysical(KtPhysical(KtPhysicalOf(&Data))), &Data);
    ExFreePool(Block);
    KT_EQUAL(MmGetVirtualForPhysical(KtPhysical(KT_APIC_BASE)), NULL);
    KT_EQUAL(MmGetVirtualForPhysical(KtPhysical(RefReadCr3() & REF_FRAME)), NULL);
    KT_EQUAL(MmGetVirtualForPhysical(KtPhysical(MAXULONG64)), NULL);
    PVOID Va = MmAllocateNonCachedMemory(PAGE_SIZE);
    KT_REQUIRE(Va != NULL);
    KT_EQUAL(MmGetVirtualForPhysical(KtPhysical(KtPhysicalOf(Va))), NULL);
    MmFreeNonCachedMemory(Va, PAGE_SIZE);
}

static VOID CheckSameList(PPHYSICAL_MEMORY_RANGE Ranges)
{
    PPHYSICAL_MEMORY_RANGE Expected = MmGetPhysicalMemoryRanges();
    KT_REQUIRE(Ranges != NULL && Expected != NULL);
    ULONG Row = 0;
    do {
        KT_EQUAL(Ranges[Row].BaseAddress.QuadPart, Expected[Row].BaseAddress.QuadPart);
        KT_EQUAL(Ranges[Row].NumberOfBytes.QuadPart, Expected[Row].NumberOfBytes.QuadPart);
        Row += 1;
    } while (Expected[Row - 1].NumberOfBytes.QuadPart != 0);
    ExFreePool(Expected);
    ExFreePool(Ranges);
}

static VOID TheOnePartitionHasAllRam(VOID)
{
    CheckSameList(MmGetPhysicalMemoryRangesEx(NULL));
    CheckSameList(MmGetPhysicalMemoryRangesEx2(NULL, MAXULONG));
    KT_EQUAL(MmGetPhysicalMemoryRangesEx(Target), NULL);
    KT_EQUAL(MmGetPhysicalMemoryRangesEx2(Target, 0), NULL);
}

//
// A frame that comes out of the direct map and goes back, on another processor, while it is copied.
//

#define CHANGE_MS 300

static struct {
    ULONG64 Address; // of the frame
    volatile BOOLEAN IsOver;
    volatile LONG ChangeCount;
} Changing;

// The frame that is freed last is allocated next, by the same processor.
static VOID NTAPI ChangeType(PVOID Context)
{
    UNREFERENCED_PARAMETER(Context);
    while (!Changing.IsOver) {
        const PMDL Mdl = KtAllocatePages(1);
        if (Mdl == NULL) {
            continue;
        }
        __atomic_store_n(&Changing.Address, KtPageAddress(Mdl, 0), __ATOMIC_RELEASE);
        const PVOID Va = MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmNonCached, NULL, FALSE,
                                                      NormalPagePriority | MdlMappingNoExecute);
        Changing.ChangeCount += Va != NULL;
        KtFreePages(Mdl);
    }
}

static VOID AFrameMayChangeMeanwhile(VOID)
{
    if (KeNumberProcessors == 1) {
        KT_SKIP("one processor");
    }
    RtlZeroMemory(&Changing, sizeof(Changing));
    NTSTATUS Status = STATUS_SUCCESS;
    ULONG CopyCount = 0;
    KeSetSystemAffinityThread(1);
    const PKTHREAD Thread = KtStartThreadOn(2, ChangeType, NULL, 0);
    KT_CHECK(Thread != NULL && KtAwaitProcessor(&Changing.ChangeCount, 1));
    const ULONG64 Start = KeReadCycles();
    while (NT_SUCCESS(Status) &&
           KeReadCycles() - Start < KeGetCyclesPerSecond() / 1000 * CHANGE_MS) {
        const ULONG64 Address = __atomic_load_n(&Changing.Address, __ATOMIC_ACQUIRE);
        Status = CopyPhysical(Address, PAGE_SIZE);
        CopyCount += 1;
    }
    Changing.IsOver = TRUE;
    KtJoin(Thread);
    KeRevertToUserAffinityThread();
    KT_EQUAL((ULONG)Status, STATUS_SUCCESS);
    DbgPrint("    # %u copies, %u changes\n", CopyCount, (ULONG)Changing.ChangeCount);
}

static const KT_TEST Tests[] = {
    {"MmCopyMemory copies RAM of every cache type, by either address [4.13.1, 4.13.2]",
     EveryCacheTypeIsCopied},
    {"MmCopyMemory copies the kernel's own data and code [4.13.1, 4.13.2]",
     TheKernelItselfIsCopied},
    {"MmCopyMemory stops at the first byte that is not there, without a fault [4.13.2]",
     TheCopyStopsWhereNothingIs},
    {"MmCopyMemory does not read devices [4.13.3]", DevicesAreNotRead},
    {"MmCopyMemory needs exactly one flag [4.13.4]", OneFlagIsNeeded},
    {"MmCopyMemory copies a frame whose cache type another processor changes [4.13.5]",
     AFrameMayChangeMeanwhile},
    {"MmGetVirtualForPhysical finds pool and image, and nothing else [4.8.1, 4.8.2]",
     FramesHaveKernelAddresses},
    {"MmGetPhysicalMemoryRangesEx and Ex2 know one partition [4.6.4, 4.6.5]",
     TheOnePartitionHasAllRam},
};

const KT_SUITE KtCopySuite = {"copy", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
