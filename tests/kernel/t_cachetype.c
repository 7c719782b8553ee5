// Cache types: MmGetCacheAttribute(Ex), MmSetPermanentCacheAttribute, and what a refusal says;
// MmMapVideoDisplay; and addresses: MmAllocateMappingAddressEx, and how long they rest.
#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "kernel/inc/rtl.h"
#include "tests/kernel/reference.h"
#include "tests/kernel/tests.h"

#define SIZE (2 * KT_MIB)
#define REFUSAL_BYTES 256
#define QUARANTINE 256

static const struct {
    MEMORY_CACHING_TYPE Type;
    ULONG CacheIndex;
} Types[] = {
    {MmNonCached, REF_CACHE_UC}, {MmCached, REF_CACHE_WB}, {MmWriteCombined, REF_CACHE_WC}};

static MEMORY_CACHING_TYPE TypeAt(ULONG64 Address)
{
    MEMORY_CACHING_TYPE Type = MmMaximumCacheType;
    MEMORY_CACHING_TYPE SameType = MmMaximumCacheType;
    KT_EQUAL(MmGetCacheAttribute(KtPhysical(Address), &Type), STATUS_SUCCESS);
    KT_EQUAL(MmGetCacheAttributeEx(KtPhysical(Address), 0, &SameType), STATUS_SUCCESS);
    KT_EQUAL(Type, SameType);
    return Type;
}

static VOID DeviceMemoryHasTheTypeOfItsMappings(VOID)
{
    static const SIZE_T Sizes[] = {1, SIZE};
    const ULONG64 Gap = KtFindGap(SIZE, SIZE);
    KT_REQUIRE(Gap != 0);
    for (ULONG Row = 0; Row < ARRAYSIZE(Types) * ARRAYSIZE(Sizes); Row += 1) {
        const SIZE_T ByteCount = Sizes[Row % ARRAYSIZE(Sizes)];
        const MEMORY_CACHING_TYPE Type = Types[Row / ARRAYSIZE(Sizes)].Type;
        KtSetContext("%llu bytes of type %u", (ULONG64)ByteCount, Type);
        KT_EQUAL(TypeAt(Gap), MmNotMapped);
        const PVOID Va = MmMapIoSpace(KtPhysical(Gap), ByteCount, Type);
        KT_REQUIRE(Va != NULL);
        KT_EQUAL(TypeAt(Gap + ByteCount - 1), Type);
        MmUnmapIoSpace(Va, ByteCount);
        KT_EQUAL(TypeAt(Gap), MmNotMapped);
    }
}

static VOID RamHasTheTypeOfItsFirstMapping(VOID)
{
    static const UCHAR KernelData;
    const PMDL Mdl = KtAllocatePages(1);
    KT_REQUIRE(Mdl != NULL);
    const ULONG64 Address = KtPageAddress(Mdl, 0);
    KT_EQUAL(TypeAt(KtPhysicalOf(&KernelData)), MmCached);
    KT_EQUAL(TypeAt(KtPhysicalOf(Mdl)), MmCached); // pool
    KT_EQUAL(TypeAt(Address), MmNotMapped);
    const PVOID Va = MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmWriteCombined, NULL, FALSE,
                                                  NormalPagePriority | MdlMappingNoExecute);
    KT_REQUIRE(Va != NULL);
    KT_EQUAL(TypeAt(Address), MmWriteCombined);
    MmUnmapLockedPages(Va, Mdl);
    KtFreePages(Mdl);
    KT_EQUAL(TypeAt(Address), MmNotMapped);
}

static VOID WrongQuestionsAreRefused(VOID)
{
    MEMORY_CACHING_TYPE Type = MmCached;
    KT_EQUAL(MmGetCacheAttribute(KtPhysical(1ull << 52), &Type), STATUS_INVALID_PARAMETER_1);
    KT_EQUAL(Type, MmNotMapped);
    KT_EQUAL(MmGetCacheAttributeEx(KtPhysical(0), 1, &Type), STATUS_INVALID_PARAMETER_2);
}

//
// Permanent attributes. They stay, so they are given to addresses that no other test uses.
//

#define PERMANENT_BASE (KT_GAP_HIGHEST + 1 - 64 * KT_MIB)

static NTSTATUS SetPermanent(ULONG64 Address, ULONG64 ByteCount, MEMORY_CACHING_TYPE Type)
{
    const LARGE_INTEGER Bytes = {.QuadPart = (LONG64)ByteCount};
    const NTSTATUS Status = MmSetPermanentCacheAttribute(KtPhysical(Address), Bytes, Type,
                                                         MM_PERMANENT_ADDRESS_IS_IO_SPACE);
    if (NT_SUCCESS(Status)) {
        KtKeepWhatIsHeld();
    }
    return Status;
}

static VOID CheckWhatMaps(ULONG64 Address, SIZE_T ByteCount, ULONG AllowedRow)
{
    for (ULONG Row = 0; Row < ARRAYSIZE(Types); Row += 1) {
        KtSetContext("%llu bytes of type %u", (ULONG64)ByteCount, Types[Row].Type);
        const PVOID Va = MmMapIoSpace(KtPhysical(Address), ByteCount, Types[Row].Type);
        KT_EQUAL(Va != NULL, Row == AllowedRow);
        if (Va != NULL) {
            KT_EQUAL(RefWalk(Va).CacheIndex, Types[Row].CacheIndex);
            MmUnmapIoSpace(Va, ByteCount);
        }
        KT_EQUAL(TypeAt(Address), Types[AllowedRow].Type);
    }
}

static VOID APermanentTypeStays(VOID)
{
    for (ULONG Row = 0; Row < ARRAYSIZE(Types); Row += 1) {
        const ULONG64 Address = PERMANENT_BASE + Row * SIZE;
        KT_EQUAL(SetPermanent(Address + 100, 2 * PAGE_SIZE - 100, Types[Row].Type), STATUS_SUCCESS);
        for (ULONG Round = 0; Round < 3; Round += 1) {
            CheckWhatMaps(Address, 1, Row);
            CheckWhatMaps(Address, 2 * PAGE_SIZE, Row);
            CheckWhatMaps(Address, SIZE, Row);
        }
        KT_EQUAL(SetPermanent(Address, PAGE_SIZE, Types[Row].Type), STATUS_SUCCESS);
        KT_EQUAL(SetPermanent(Address, PAGE_SIZE, Types[(Row + 1) % ARRAYSIZE(Types)].Type),
                 STATUS_CONFLICTING_ADDRESSES);
    }
}

static VOID WrongPermanentTypesAreRefused(VOID)
{
    const LARGE_INTEGER Bytes = {.QuadPart = PAGE_SIZE};
    static const UCHAR KernelData;
    KT_EQUAL(SetPermanent(PERMANENT_BASE, 0, MmCached), STATUS_INVALID_PARAMETER_1);
    KT_EQUAL(SetPermanent(PERMANENT_BASE, PAGE_SIZE, MmMaximumCacheType),
             STATUS_INVALID_PARAMETER_3);
    KT_EQUAL(SetPermanent(KtPhysicalOf(&KernelData), 1, MmCached), STATUS_INVALID_PARAMETER_4);
    KT_EQUAL(MmSetPermanentCacheAttribute(KtPhysical(PERMANENT_BASE), Bytes, MmCached, 0),
             STATUS_INVALID_PARAMETER_4);
    const PVOID Va = MmMapIoSpace(KtPhysical(KT_APIC_BASE), PAGE_SIZE, MmNonCached);
    KT_REQUIRE(Va != NULL);
    KT_EQUAL(SetPermanent(KT_APIC_BASE, PAGE_SIZE, MmCached), STATUS_CONFLICTING_ADDRESSES);
    MmUnmapIoSpace(Va, PAGE_SIZE);
}

//
// What a refusal says.
//

static VOID CheckRefusal(ULONG64 Gap, SIZE_T ByteCount)
{
    CHAR Text[REFUSAL_BYTES];
    KT_EQUAL(MmMapIoSpace(KtPhysical(Gap), ByteCount, MmCached), NULL);
    MmDescribeLastRefusal(Text, sizeof(Text));
    KtSetContext("\"%s\"", Text);
    KT_CHECK(RtlFindSubstring(Text, "MmMapIoSpace refused frames 0x") != NULL);
    KT_CHECK(RtlFindSubstring(Text, "already in use with another cache type, held by ") != NULL);
    KT_CHECK(RtlFindSubstring(Text, "ARefusalNamesWhoDecided+0x") != NULL);
    KT_CHECK(RtlFindSubstring(Text, " (self-tests), ") != NULL);
    KT_CHECK(RtlFindSubstring(Text, " ms ago, as UC") != NULL);
}

static VOID ARefusalNamesWhoDecided(VOID)
{
    static const SIZE_T Sizes[] = {PAGE_SIZE, SIZE};
    const ULONG64 Gap = KtFindGap(SIZE, SIZE);
    KT_REQUIRE(Gap != 0);
    for (ULONG Row = 0; Row < ARRAYSIZE(Sizes); Row += 1) {
        const PVOID Va = MmMapIoSpace(KtPhysical(Gap), Sizes[Row], MmNonCached);
        KT_REQUIRE(Va != NULL);
        CheckRefusal(Gap, PAGE_SIZE);
        CheckRefusal(Gap, SIZE);
        MmUnmapIoSpace(Va, Sizes[Row]);
    }
}

static VOID AVideoDisplayIsMappedAsAnyDevice(VOID)
{
    const ULONG64 Gap = KtFindGap(SIZE, SIZE);
    KT_REQUIRE(Gap != 0);
    for (ULONG Row = 0; Row < ARRAYSIZE(Types); Row += 1) {
        const PVOID Va = MmMapVideoDisplay(KtPhysical(Gap + 0x123), PAGE_SIZE, Types[Row].Type);
        KT_REQUIRE(Va != NULL);
        KT_EQUAL(RefWalk(Va).PhysicalAddress, Gap + 0x123);
        KT_EQUAL(RefWalk(Va).CacheIndex, Types[Row].CacheIndex);
        KT_EQUAL(RefWalk(Va).IsWritable, TRUE);
        KT_EQUAL(MmMapVideoDisplay(KtPhysical(Gap), 1, Types[(Row + 1) % ARRAYSIZE(Types)].Type),
                 NULL);
        MmUnmapVideoDisplay(Va, PAGE_SIZE);
        KT_EQUAL(RefWalk(Va).Level, 0);
    }
    KT_EQUAL(MmMapVideoDisplay(KtPhysical(Gap), 0, MmNonCached), NULL);
}

//
// Addresses.
//

static VOID DivisibleReservationsAreAligned(VOID)
{
    for (ULONG64 Pages = 1; Pages <= 1024; Pages += Pages < 20 ? 1 : Pages) {
        KtSetContext("%llu pages", Pages);
        const PVOID Va =
            MmAllocateMappingAddressEx(Pages * PAGE_SIZE - 1, KT_TAG, MM_MAPPING_ADDRESS_DIVISIBLE);
        KT_EQUAL(Va != NULL, (Pages & (Pages - 1)) == 0);
        if (Va != NULL) {
            KT_EQUAL((ULONG_PTR)Va % (Pages * PAGE_SIZE), 0);
            KT_EQUAL(RefWalk(Va).Level, 0);
            MmFreeMappingAddress(Va, KT_TAG);
        }
    }
    KT_EQUAL(MmAllocateMappingAddressEx(PAGE_SIZE, KT_TAG, 2), NULL);
    KT_EQUAL(MmAllocateMappingAddressEx(PAGE_SIZE, 0, 0), NULL);
}

static PVOID MapAndUnmap(ULONG64 Address, SIZE_T ByteCount)
{
    const PVOID Va = MmMapIoSpace(KtPhysical(Address), ByteCount, MmNonCached);
    if (Va != NULL) {
        MmUnmapIoSpace(Va, ByteCount);
    }
    return Va;
}

static VOID UndoneMappingsFaultForAWhile(VOID)
{
    static const SIZE_T Sizes[] = {PAGE_SIZE, SIZE};
    const ULONG64 Gap = KtFindGap(SIZE, SIZE);
    const ULONG OldLevel = MmVerifierLevel;
    KT_REQUIRE(Gap != 0);
    MmVerifierLevel = 1;
    for (ULONG Row = 0; Row < ARRAYSIZE(Sizes); Row += 1) {
        const PVOID First = MapAndUnmap(Gap, Sizes[Row]);
        for (ULONG Release = 0; Release < QUARANTINE; Release += 1) {
            const PVOID Va = MapAndUnmap(Gap, Sizes[Row]);
            KT_CHECK(Va != NULL && Va != First);
        }
        ULONG64 Value;
        KT_EQUAL(KeProbeRead(First, &Value).Faulted, TRUE);
    }
    MmVerifierLevel = OldLevel;
}

static const KT_TEST Tests[] = {
    {"MmGetCacheAttribute tells the type of device memory while it is mapped [4.11.1, 12.2.1]",
     DeviceMemoryHasTheTypeOfItsMappings},
    {"MmGetCacheAttribute tells the type of RAM: the kernel's is cached, an MDL's open [4.11.1, "
     "4.11.3, 7.1.8, 12.2.9]",
     RamHasTheTypeOfItsFirstMapping},
    {"MmGetCacheAttributeEx refuses flags, and addresses that are none [4.11.2]",
     WrongQuestionsAreRefused},
    {"a permanent cache type stays, and refuses any other [4.12.1, 4.12.3, 4.12.4, 12.2.2]",
     APermanentTypeStays},
    {"MmSetPermanentCacheAttribute refuses RAM, wrong parameters and another type [4.12.2]",
     WrongPermanentTypesAreRefused},
    {"the refusal of a cache type names call site, owner and time [12.2.3]",
     ARefusalNamesWhoDecided},
    {"MmMapVideoDisplay maps as MmMapIoSpace does [4.9.1]", AVideoDisplayIsMappedAsAnyDevice},
    {"MmAllocateMappingAddressEx aligns a divisible reservation to its size [5.1.4, 5.1.7]",
     DivisibleReservationsAreAligned},
    {"at level 1 an undone mapping's addresses rest for 256 others, and fault [14.3]",
     UndoneMappingsFaultForAWhile},
};

const KT_SUITE KtCacheTypeSuite = {"cachetype", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
