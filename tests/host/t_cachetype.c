// MmGetCacheAttribute(Ex), MmSetPermanentCacheAttribute; MmMapVideoDisplay,
// MmUnmapVideoDisplay.
#include "tests/host/host.h"

#define MIB (1ull << 20)

static MEMORY_CACHING_TYPE TypeAt(ULONG64 Address)
{
    MEMORY_CACHING_TYPE Type = MmMaximumCacheType;
    CHECK_EQUAL(MmGetCacheAttribute(Pa(Address), &Type), STATUS_SUCCESS);
    MEMORY_CACHING_TYPE SameType = MmMaximumCacheType;
    CHECK_EQUAL(MmGetCacheAttributeEx(Pa(Address), 0, &SameType), STATUS_SUCCESS);
    CHECK_EQUAL(Type, SameType);
    return Type;
}

static const MEMORY_CACHING_TYPE AllTypes[] = {MmNonCached, MmCached, MmWriteCombined};

static VOID The_type_of_device_memory_is_that_of_its_mappings(VOID)
{
    static const SIZE_T Sizes[] = {1, 3 * PAGE_SIZE, 2 * MIB + PAGE_SIZE};
    for (ULONG Size = 0; Size < ARRAYSIZE(Sizes); Size += 1) {
        for (ULONG Row = 0; Row < ARRAYSIZE(AllTypes); Row += 1) {
            const PVOID Va = MmMapIoSpace(Pa(FAKE_IO_HIGH), Sizes[Size], AllTypes[Row]);
            const ULONG64 LastPage = FAKE_IO_HIGH + ((Sizes[Size] - 1) & ~(ULONG64)(PAGE_SIZE - 1));
            CHECK_EQUAL(TypeAt(FAKE_IO_HIGH), AllTypes[Row]);
            CHECK_EQUAL(TypeAt(LastPage + PAGE_SIZE - 1), AllTypes[Row]);
            CHECK_EQUAL(TypeAt(LastPage + PAGE_SIZE), MmNotMapped);
            CHECK_EQUAL(TypeAt(FAKE_IO_HIGH - 1), MmNotMapped);
            MmUnmapIoSpace(Va, Sizes[Size]);
            CHECK_EQUAL(TypeAt(FAKE_IO_HIGH), MmNotMapped);
        }
    }
}

static VOID The_type_of_an_MDLs_pages_is_decided_when_it_is_mapped(VOID)
{
    const PMDL Mdl = MmAllocatePagesForMdl(Pa(0), Pa(MAXULONG64), Pa(0), PAGE_SIZE);
    const ULONG64 Address = PAGES(MmGetMdlPfnArray(Mdl)[0]);
    CHECK_EQUAL(TypeAt(Address), MmNotMapped);
    const PVOID Va = MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmWriteCombined, NULL, FALSE,
                                                  NormalPagePriority);
    CHECK_EQUAL(TypeAt(Address), MmWriteCombined);
    MmUnmapLockedPages(Va, Mdl);
    CHECK_EQUAL(TypeAt(Address + 1), MmWriteCombined);
    MmFreePagesFromMdl(Mdl);
    CHECK_EQUAL(TypeAt(Address), MmNotMapped);
    ExFreePool(Mdl);
}

static VOID RAM_that_the_kernel_uses_is_cached(VOID)
{
    const PVOID Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 100, 'tseT');
    CHECK_EQUAL(TypeAt((ULONG64)MmGetPhysicalAddress(Block).QuadPart), MmCached);
    CHECK_EQUAL(TypeAt(FAKE_KERNEL_PA), MmCached);
    CHECK_EQUAL(TypeAt(PAGES(FakeRootPfn())), MmCached);
    ExFreePool(Block);
}

static VOID An_address_that_is_none_and_unknown_flags_are_refused(VOID)
{
    MEMORY_CACHING_TYPE Type = MmCached;
    CHECK_EQUAL(MmGetCacheAttribute(Pa(1ull << 46), &Type), STATUS_INVALID_PARAMETER_1);
    CHECK_EQUAL(Type, MmNotMapped);
    HostCheckRefusal("MmGetCacheAttribute refused: the range wraps or leaves");
    CHECK_EQUAL(TypeAt((1ull << 46) - 1), MmNotMapped);
    for (ULONG Bit = 0; Bit < 32; Bit += 1) {
        Type = MmCached;
        CHECK_EQUAL(MmGetCacheAttributeEx(Pa(FAKE_KERNEL_PA), 1u << Bit, &Type),
                    STATUS_INVALID_PARAMETER_2);
        CHECK_EQUAL(Type, MmNotMapped);
    }
    HostCheckRefusal("flags that are unknown");
}

//
// Permanent attributes.
//

static NTSTATUS SetPermanent(ULONG64 Address, ULONG64 ByteCount, MEMORY_CACHING_TYPE Type)
{
    const LARGE_INTEGER Bytes = {.QuadPart = (LONG64)ByteCount};
    return MmSetPermanentCacheAttribute(Pa(Address), Bytes, Type, MM_PERMANENT_ADDRESS_IS_IO_SPACE);
}

static VOID TryMapping(ULONG64 Address, SIZE_T ByteCount, MEMORY_CACHING_TYPE Type,
                       BOOLEAN IsAllowed)
{
    const PVOID Va = MmMapIoSpace(Pa(Address), ByteCount, Type);
    CHECK_EQUAL(Va != NULL, IsAllowed);
    if (Va != NULL) {
        MmUnmapIoSpace(Va, ByteCount);
    } else {
        HostCheckRefusal("already in use with another cache type, held by HostCaller");
    }
}

static VOID Another_type_is_refused_for_ever(VOID)
{
    static const SIZE_T Sizes[] = {1, 4 * PAGE_SIZE, 2 * MIB, 32 * MIB};
    ULONG64 Base = FAKE_IO_HIGH;
    for (ULONG Row = 0; Row < ARRAYSIZE(AllTypes); Row += 1, Base += 64 * MIB) {
        CHECK_EQUAL(SetPermanent(Base + PAGE_SIZE, 2 * PAGE_SIZE, AllTypes[Row]), STATUS_SUCCESS);
        for (ULONG Round = 0; Round < 3 * ARRAYSIZE(Sizes) * ARRAYSIZE(AllTypes); Round += 1) {
            const ULONG Other = Round % ARRAYSIZE(AllTypes);
            const SIZE_T ByteCount = Sizes[Round / ARRAYSIZE(AllTypes) % ARRAYSIZE(Sizes)];
            TryMapping(Base + PAGE_SIZE + 5, ByteCount, AllTypes[Other], Other == Row);
            CHECK_EQUAL(TypeAt(Base + 2 * PAGE_SIZE), AllTypes[Row]);
        }
        TryMapping(Base, PAGE_SIZE, AllTypes[(Row + 1) % ARRAYSIZE(AllTypes)], TRUE);
        TryMapping(Base + 3 * PAGE_SIZE, 2 * MIB, AllTypes[(Row + 1) % ARRAYSIZE(AllTypes)], TRUE);
    }
}

static VOID An_MDL_takes_the_permanent_type(VOID)
{
    MM_PHYSICAL_ADDRESS_LIST List = {Pa(FAKE_IO_HIGH), 2 * PAGE_SIZE};
    PMDL Mdl;
    CHECK_EQUAL(SetPermanent(FAKE_IO_HIGH + PAGE_SIZE, PAGE_SIZE, MmWriteCombined), STATUS_SUCCESS);
    CHECK_EQUAL(MmAllocateMdlForIoSpace(&List, 1, &Mdl), STATUS_SUCCESS);
    const PUCHAR Va =
        MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmNonCached, NULL, FALSE, NormalPagePriority);
    CHECK_PAGE(Va, PfnOf(FAKE_IO_HIGH), MiAccessReadWrite, MiCacheUncached);
    CHECK_PAGE(Va + PAGE_SIZE, PfnOf(FAKE_IO_HIGH) + 1, MiAccessReadWrite, MiCacheWriteCombined);
    MmUnmapLockedPages(Va, Mdl);
    IoFreeMdl(Mdl);
}

static VOID A_permanent_attribute_can_be_given_again_but_not_another(VOID)
{
    CHECK_EQUAL(SetPermanent(FAKE_IO_LOW, 2 * PAGE_SIZE, MmNonCached), STATUS_SUCCESS);
    CHECK_EQUAL(SetPermanent(FAKE_IO_LOW + PAGE_SIZE, 2 * PAGE_SIZE, MmHardwareCoherentCached),
                STATUS_CONFLICTING_ADDRESSES);
    HostCheckRefusal("MmSetPermanentCacheAttribute refused frames "
                     "0xc0001-0xc0002: already in use");
    CHECK_EQUAL(SetPermanent(FAKE_IO_LOW + PAGE_SIZE, 2 * PAGE_SIZE, MmNonCachedUnordered),
                STATUS_SUCCESS);
    CHECK_EQUAL(TypeAt(FAKE_IO_LOW + 2 * PAGE_SIZE), MmNonCached);
    CHECK_EQUAL(MiPermanentRangeCount(), 2);
}

static VOID A_range_that_is_not_whole_pages_is_rounded_out(VOID)
{
    CHECK_EQUAL(SetPermanent(FAKE_IO_LOW + PAGE_SIZE - 1, 2, MmWriteCombined), STATUS_SUCCESS);
    CHECK_EQUAL(TypeAt(FAKE_IO_LOW), MmWriteCombined);
    CHECK_EQUAL(TypeAt(FAKE_IO_LOW + 2 * PAGE_SIZE - 1), MmWriteCombined);
    CHECK_EQUAL(TypeAt(FAKE_IO_LOW + 2 * PAGE_SIZE), MmNotMapped);
}

static VOID Every_wrong_parameter_is_refused_and_nothing_changes(VOID)
{
    static const struct {
        ULONG64 Address;
        ULONG64 ByteCount;
        MEMORY_CACHING_TYPE Type;
        ULONG Flags;
        NTSTATUS Status;
        const CHAR *Words;
    } Rows[] = {
        {FAKE_IO_LOW, 0, MmCached, 1, STATUS_INVALID_PARAMETER_1, "zero bytes"},
        {FAKE_IO_LOW, MAXULONG64, MmCached, 1, STATUS_INVALID_PARAMETER_1, "wraps or leaves"},
        {1ull << 46, 1, MmCached, 1, STATUS_INVALID_PARAMETER_1, "wraps or leaves"},
        {FAKE_IO_LOW, 1, MmMaximumCacheType, 1, STATUS_INVALID_PARAMETER_3, "no such cache type"},
        {FAKE_IO_LOW, 1, MmNotMapped, 1, STATUS_INVALID_PARAMETER_3, "no such cache type"},
        {FAKE_IO_LOW, 1, MmCached, 0, STATUS_INVALID_PARAMETER_4, "flags that are unknown"},
        {FAKE_IO_LOW, 1, MmCached, 3, STATUS_INVALID_PARAMETER_4, "flags that are unknown"},
        {FAKE_KERNEL_PA, 1, MmCached, 1, STATUS_INVALID_PARAMETER_4, "RAM that the operating"},
        {FAKE_KERNEL_PA, 1, MmCached, 0, STATUS_INVALID_PARAMETER_4, "flags that are unknown"},
        {FAKE_ACPI - 1, 1, MmCached, 1, STATUS_INVALID_PARAMETER_4, "RAM that the operating"},
        {FAKE_ACPI - 1, 2, MmCached, 1, STATUS_INVALID_PARAMETER_4, "partly RAM"},
    };
    MM_MEMORY_USE Before;
    MmQueryMemoryUse(&Before);
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        const LARGE_INTEGER Bytes = {.QuadPart = (LONG64)Rows[Row].ByteCount};
        CHECK_EQUAL(MmSetPermanentCacheAttribute(Pa(Rows[Row].Address), Bytes, Rows[Row].Type,
                                                 Rows[Row].Flags),
                    Rows[Row].Status);
        HostCheckRefusal("MmSetPermanentCacheAttribute refused");
        HostCheckRefusal(Rows[Row].Words);
    }
    HostCheckSameUse(&Before, "refused attributes");
    CHECK_EQUAL(TypeAt(FAKE_IO_LOW), MmNotMapped);
    CHECK_EQUAL(MiPermanentRangeCount(), 0);
}

static VOID Where_another_type_is_in_force_nothing_changes(VOID)
{
    static const SIZE_T Sizes[] = {PAGE_SIZE, 2 * MIB};
    for (ULONG Row = 0; Row < ARRAYSIZE(Sizes); Row += 1) {
        const PVOID Va = MmMapIoSpace(Pa(FAKE_IO_HIGH), Sizes[Row], MmCached);
        MM_MEMORY_USE Before;
        MmQueryMemoryUse(&Before);
        CHECK_EQUAL(SetPermanent(FAKE_IO_HIGH - 2 * PAGE_SIZE, 3 * PAGE_SIZE, MmNonCached),
                    STATUS_CONFLICTING_ADDRESSES);
        HostCheckSameUse(&Before, "a refused attribute");
        CHECK_EQUAL(TypeAt(FAKE_IO_HIGH - PAGE_SIZE), MmNotMapped);
        MmUnmapIoSpace(Va, Sizes[Row]);
    }
    CHECK_EQUAL(SetPermanent(FAKE_IO_HIGH - 2 * PAGE_SIZE, 3 * PAGE_SIZE, MmNonCached),
                STATUS_SUCCESS);
}

static VOID Without_pool_nothing_changes(VOID)
{
    MM_MEMORY_USE Before;
    MmQueryMemoryUse(&Before);
    MmStartFailures(MM_FAIL_POOL, 0, 1);
    CHECK_EQUAL(SetPermanent(FAKE_IO_LOW, PAGE_SIZE, MmNonCached), STATUS_INSUFFICIENT_RESOURCES);
    CHECK_EQUAL(MmStopFailures(), 1);
    HostCheckRefusal("no pool, frames or system addresses left");
    HostCheckSameUse(&Before, "an attribute without pool");
    TryMapping(FAKE_IO_LOW, PAGE_SIZE, MmCached, TRUE);
}

//
// Video memory.
//

static VOID A_video_display_is_mapped_as_any_device(VOID)
{
    static const MI_CACHE_TYPE Types[] = {MiCacheUncached, MiCacheWriteBack, MiCacheWriteCombined};
    for (ULONG Row = 0; Row < ARRAYSIZE(AllTypes); Row += 1) {
        const PUCHAR Va = MmMapVideoDisplay(Pa(FAKE_IO_LOW + 12), 2 * PAGE_SIZE, AllTypes[Row]);
        CHECK_EQUAL(BYTE_OFFSET(Va), 12);
        CHECK_PAGE(Va + 2 * PAGE_SIZE, PfnOf(FAKE_IO_LOW) + 2, MiAccessReadWrite, Types[Row]);
        CHECK(MmIsIoSpaceActive(Pa(FAKE_IO_LOW), PAGE_SIZE));
        MmUnmapVideoDisplay(Va, 2 * PAGE_SIZE);
        CHECK_UNMAPPED(Va);
    }
    const PVOID Large = MmMapVideoDisplay(Pa(FAKE_IO_HIGH), 16 * MIB, MmWriteCombined);
    CHECK_EQUAL(FakeWalk((ULONG_PTR)Large).Level, 2);
    MmUnmapVideoDisplay(Large, 16 * MIB);
}

static VOID A_video_display_is_refused_as_any_device(VOID)
{
    const PVOID Va = MmMapIoSpace(Pa(FAKE_IO_LOW), PAGE_SIZE, MmNonCached);
    CHECK(MmMapVideoDisplay(Pa(FAKE_IO_LOW), PAGE_SIZE, MmWriteCombined) == NULL);
    HostCheckRefusal("MmMapVideoDisplay refused frames 0xc0000-0xc0000: already in use");
    CHECK(MmMapVideoDisplay(Pa(FAKE_IO_LOW), 0, MmNonCached) == NULL);
    CHECK(MmMapVideoDisplay(Pa(FAKE_IO_LOW), 1, MmMaximumCacheType) == NULL);
    CHECK(MmMapVideoDisplay(Pa(FAKE_KERNEL_PA), 1, MmNonCached) == NULL);
    HostCheckRefusal("MmMapVideoDisplay refused frames 0x200-0x200: ");
    EXPECT_BUG_CHECK(MmUnmapVideoDisplay(Va, 2 * PAGE_SIZE));
    CHECK_BUG_CHECK(SYSTEM_PTE_MISUSE, 0x305, (ULONG_PTR)Va, 2, 1);
    MmUnmapVideoDisplay(Va, PAGE_SIZE); // whichever of the two mapped it
    EXPECT_BUG_CHECK(MmUnmapVideoDisplay(Va, PAGE_SIZE));
    CHECK_BUG_CHECK(SYSTEM_PTE_MISUSE, 0x400, (ULONG_PTR)Va, 1, 0);
}

static VOID A_video_display_is_mapped_at_PASSIVE_LEVEL(VOID)
{
    const PVOID Va = MmMapVideoDisplay(Pa(FAKE_IO_LOW), PAGE_SIZE, MmNonCached);
    MmVerifierLevel = 1;
    FakeIrql = APC_LEVEL;
    EXPECT_BUG_CHECK(Ignore(MmMapVideoDisplay(Pa(FAKE_IO_LOW), PAGE_SIZE, MmNonCached)));
    CHECK_EQUAL(FakeBugCheck.Code, DRIVER_VERIFIER_DETECTED_VIOLATION);
    CHECK_EQUAL(FakeBugCheck.Parameters[0], 0x20019);
    FakeIrql = APC_LEVEL;
    EXPECT_BUG_CHECK(MmUnmapVideoDisplay(Va, PAGE_SIZE));
    CHECK_EQUAL(FakeBugCheck.Parameters[0], 0x20019);
    MmUnmapVideoDisplay(Va, PAGE_SIZE);
}

static const HOST_TEST Tests[] = {
    HOST_ROW(The_type_of_device_memory_is_that_of_its_mappings, "contract 4.11.1, 12.2.1",
             &FakeMachineMax),
    HOST_ROW(The_type_of_an_MDLs_pages_is_decided_when_it_is_mapped,
             "contract 4.11.1, 7.1.8, 12.2.9", &FakeMachineMax),
    HOST_ROW(RAM_that_the_kernel_uses_is_cached, "contract 4.11.3", &FakeMachineMax),
    HOST_ROW(An_address_that_is_none_and_unknown_flags_are_refused, "contract 4.11.2",
             &FakeMachineMax),
    HOST_ROW(Another_type_is_refused_for_ever, "contract 4.12.1, 12.2.2, 12.2.3", &FakeMachineMax),
    HOST_ROW(An_MDL_takes_the_permanent_type, "contract 4.12.1, 12.2.4", &FakeMachineMax),
    HOST_ROW(A_permanent_attribute_can_be_given_again_but_not_another, "contract 4.12.2, 4.12.4",
             &FakeMachineMax),
    HOST_ROW(A_range_that_is_not_whole_pages_is_rounded_out, "contract 4.12.3", &FakeMachineMax),
    HOST_ROW(Every_wrong_parameter_is_refused_and_nothing_changes, "contract 4.12.2",
             &FakeMachineMax),
    HOST_ROW(Where_another_type_is_in_force_nothing_changes, "contract 4.12.2, 12.2.8",
             &FakeMachineMax),
    HOST_ROW(Without_pool_nothing_changes, "contract 4.12.2, 12.2.8", &FakeMachineMax),
    HOST_ROW(A_video_display_is_mapped_as_any_device, "contract 4.9.1", &FakeMachineMax),
    HOST_ROW(A_video_display_is_refused_as_any_device,
             "contract 4.9.1, 0xDA/0x305, 0xDA/0x400, 12.2.2", &FakeMachineMax),
    HOST_ROW(A_video_display_is_mapped_at_PASSIVE_LEVEL, "contract 4.9.2, 0xC4/0x20019",
             &FakeMachineMax),
};
HOST_DEFINE_SUITE(cachetype);
