// MmCopyMemory: from RAM that is cached, hidden, the kernel's own or nobody's; never from devices.
#include "tests/host/host.h"

#define ALL_RAM Pa(0), Pa(MAXULONG64)
#define TAG 'tseT'

static UCHAR Target[4 * PAGE_SIZE];
static SIZE_T Copied;

static NTSTATUS CopyPhysical(ULONG64 Address, SIZE_T Bytes)
{
    MM_COPY_ADDRESS Source = {.PhysicalAddress = Pa(Address)};
    memset(Target, 0xEE, sizeof(Target));
    return MmCopyMemory(Target, Source, Bytes, MM_COPY_MEMORY_PHYSICAL, &Copied);
}

static NTSTATUS CopyVirtual(const VOID *Va, SIZE_T Bytes)
{
    MM_COPY_ADDRESS Source = {.VirtualAddress = (PVOID)(ULONG_PTR)Va};
    memset(Target, 0xEE, sizeof(Target));
    return MmCopyMemory(Target, Source, Bytes, MM_COPY_MEMORY_VIRTUAL, &Copied);
}

static VOID Fill(PUCHAR Bytes, SIZE_T Count, UCHAR Seed)
{
    for (SIZE_T Index = 0; Index < Count; Index += 1) {
        Bytes[Index] = (UCHAR)(Seed + Index * 7 + Index / 251);
    }
}

static VOID Bytes_are_copied_from_physical_and_virtual_addresses(VOID)
{
    static UCHAR Expected[3 * PAGE_SIZE];
    const PUCHAR Va = MmAllocateContiguousMemory(sizeof(Expected), Pa(MAXULONG64));
    Fill(Expected, sizeof(Expected), 3);
    memcpy(Va, Expected, sizeof(Expected));
    const ULONG64 Base = (ULONG64)MmGetPhysicalAddress(Va).QuadPart;
    static const SIZE_T Offsets[] = {0, 1, 4000, 4095, 4096, 8191};
    static const SIZE_T Counts[] = {0, 1, 2, 96, 97, 4096, 4097};
    for (ULONG Row = 0; Row < ARRAYSIZE(Offsets) * ARRAYSIZE(Counts); Row += 1) {
        const SIZE_T Offset = Offsets[Row / ARRAYSIZE(Counts)];
        const SIZE_T Count = Counts[Row % ARRAYSIZE(Counts)];
        CHECK_EQUAL(CopyPhysical(Base + Offset, Count), STATUS_SUCCESS);
        CHECK(Copied == Count && memcmp(Target, Expected + Offset, Count) == 0);
        CHECK_EQUAL(Target[Count], 0xEE);
        CHECK_EQUAL(CopyVirtual(Va + Offset, Count), STATUS_SUCCESS);
        CHECK(Copied == Count && memcmp(Target, Expected + Offset, Count) == 0);
        CHECK_EQUAL(Target[Count], 0xEE);
    }
    MmFreeContiguousMemory(Va);
}

// A frame that the direct map does not show is read with the type that it has, and nothing stays.
static VOID Uncached_RAM_is_copied_and_nothing_stays_mapped(VOID)
{
    static const MEMORY_CACHING_TYPE Types[] = {MmNonCached, MmWriteCombined};
    for (ULONG Row = 0; Row < ARRAYSIZE(Types); Row += 1) {
        const PMDL Mdl = MmAllocatePagesForMdl(ALL_RAM, Pa(0), 2 * PAGE_SIZE);
        const PFN_NUMBER Pfn = MmGetMdlPfnArray(Mdl)[1];
        const PUCHAR Va = MmMapLockedPagesSpecifyCache(Mdl, KernelMode, Types[Row], NULL, FALSE,
                                                       NormalPagePriority);
        Fill(FakeFrame(Pfn), PAGE_SIZE, 9);
        ULONG64 Used;
        ULONG64 After;
        ULONG64 Total;
        MiQuerySystemVa(MiRegionPool, &Used, &Total);
        CHECK_EQUAL(CopyPhysical(PAGES(Pfn) + 5, 100), STATUS_SUCCESS);
        CHECK(Copied == 100 && memcmp(Target, (PUCHAR)FakeFrame(Pfn) + 5, 100) == 0);
        CHECK_EQUAL(CopyVirtual(Va + PAGE_SIZE + 5, 100), STATUS_SUCCESS);
        CHECK(Copied == 100 && memcmp(Target, (PUCHAR)FakeFrame(Pfn) + 5, 100) == 0);
        MiQuerySystemVa(MiRegionPool, &After, &Total);
        CHECK_EQUAL(After, Used);
        HostAudit();
        MmStartFailures(MM_FAIL_ADDRESSES, 0, 1);
        CHECK_EQUAL(CopyPhysical(PAGES(Pfn), 1), STATUS_INSUFFICIENT_RESOURCES);
        CHECK_EQUAL(MmStopFailures(), 1);
        CHECK_EQUAL(Copied, 0);
        MmFreePagesFromMdl(Mdl);
        ExFreePool(Mdl);
    }
}

static VOID Without_a_table_uncached_RAM_is_not_copied_and_nothing_stays_reserved(VOID)
{
    const PVOID Va = MmAllocateNonCachedMemory(PAGE_SIZE);
    // The addresses behind these have no table yet.
    const ULONG_PTR Reserved = MiReserveSystemVa(MiRegionPool, 4 * MI_PTES_PER_TABLE, 0, 0);
    ULONG64 Used;
    ULONG64 After;
    ULONG64 Total;
    MiQuerySystemVa(MiRegionPool, &Used, &Total);
    const ULONG64 Address = (ULONG64)MmGetPhysicalAddress(Va).QuadPart;
    ULONG_PTR Fillers[MI_PTES_PER_TABLE] = {0};
    NTSTATUS Status = STATUS_SUCCESS;
    ULONG Count = 0;
    // Until the lowest free address lies behind them, too.
    while (NT_SUCCESS(Status) && Count < ARRAYSIZE(Fillers)) {
        MmStartFailures(MM_FAIL_FRAMES, 0, 1);
        Status = CopyPhysical(Address, 1);
        MmStopFailures();
        if (NT_SUCCESS(Status)) {
            Fillers[Count] = MiReserveSystemVa(MiRegionPool, 1, 0, 0);
            Count += 1;
        }
    }
    CHECK_EQUAL(Status, STATUS_INSUFFICIENT_RESOURCES);
    CHECK_EQUAL(Copied, 0);
    for (ULONG Index = 0; Index < Count; Index += 1) {
        MiReleaseSystemVa(MiRegionPool, Fillers[Index], 1, 0);
    }
    MiQuerySystemVa(MiRegionPool, &After, &Total);
    CHECK_EQUAL(After, Used);
    CHECK_EQUAL(CopyPhysical(Address, 1), STATUS_SUCCESS);
    MiReleaseSystemVa(MiRegionPool, Reserved, 4 * MI_PTES_PER_TABLE, 0);
    MmFreeNonCachedMemory(Va, PAGE_SIZE);
    HostAudit();
}

static VOID A_copy_stops_at_the_first_byte_that_is_not_there(VOID)
{
    // RAM ends at the ACPI tables.
    CHECK_EQUAL(CopyPhysical(FAKE_ACPI - 10, 100), STATUS_INVALID_ADDRESS);
    CHECK_EQUAL(Copied, 10);
    CHECK_EQUAL(Target[10], 0xEE);
    HostCheckRefusal("MmCopyMemory");
    CHECK_EQUAL(CopyPhysical(0, 10), STATUS_INVALID_ADDRESS);
    CHECK_EQUAL(CopyPhysical(MAXULONG64, 10), STATUS_INVALID_ADDRESS);
    CHECK_EQUAL(Copied, 0);
    // Behind a block of the pool is a guard page.
    const PUCHAR Va = ExAllocatePool2(POOL_FLAG_NON_PAGED, 2 * PAGE_SIZE, TAG);
    CHECK_EQUAL(CopyVirtual(Va + PAGE_SIZE + 1, 2 * PAGE_SIZE), STATUS_INVALID_ADDRESS);
    CHECK_EQUAL(Copied, PAGE_SIZE - 1);
    ExFreePool(Va);
    CHECK_EQUAL(CopyVirtual(Va, 1), STATUS_INVALID_ADDRESS);
    CHECK_EQUAL(CopyVirtual(NULL, 1), STATUS_INVALID_ADDRESS);
    CHECK_EQUAL(CopyVirtual((PVOID)0x8000000000000000, 1), STATUS_INVALID_ADDRESS);
    CHECK_EQUAL(CopyVirtual((PVOID)(MAXULONG64 - 4), 100), STATUS_INVALID_ADDRESS);
}

static VOID Devices_are_not_read(VOID)
{
    const PVOID Va = MmMapIoSpace(Pa(FAKE_IO_REGISTERS), PAGE_SIZE, MmNonCached);
    CHECK_EQUAL(CopyPhysical(FAKE_IO_REGISTERS, 4), STATUS_INVALID_ADDRESS);
    CHECK_EQUAL(CopyVirtual(Va, 4), STATUS_INVALID_ADDRESS);
    CHECK_EQUAL(CopyPhysical(FAKE_ECAM, 4), STATUS_INVALID_ADDRESS);
    CHECK_EQUAL(Copied, 0);
    MmUnmapIoSpace(Va, PAGE_SIZE);
}

static VOID Exactly_one_flag_is_needed(VOID)
{
    MM_COPY_ADDRESS Source = {.VirtualAddress = MiFrameToVa(0x2000)};
    static const ULONG Flags[] = {0, 3, 4, 5, MAXULONG};
    for (ULONG Row = 0; Row < ARRAYSIZE(Flags); Row += 1) {
        Copied = 7;
        CHECK_EQUAL(MmCopyMemory(Target, Source, 1, Flags[Row], &Copied), STATUS_INVALID_PARAMETER);
        CHECK_EQUAL(Copied, 0);
        HostCheckRefusal("flags");
    }
}

static VOID Execute_only_pages_are_not_read(VOID)
{
    const PMDL Mdl = MmAllocatePagesForMdl(ALL_RAM, Pa(0), PAGE_SIZE);
    const PVOID Va =
        MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmCached, NULL, FALSE, NormalPagePriority);
    CHECK_EQUAL(CopyVirtual(Va, 1), STATUS_SUCCESS);
    CHECK_EQUAL(MmProtectMdlSystemAddress(Mdl, PAGE_EXECUTE), STATUS_SUCCESS);
    CHECK_EQUAL(CopyVirtual(Va, 1), STATUS_INVALID_ADDRESS);
    CHECK_EQUAL(MmProtectMdlSystemAddress(Mdl, PAGE_NOACCESS), STATUS_SUCCESS);
    CHECK_EQUAL(CopyVirtual(Va, 1), STATUS_INVALID_ADDRESS);
    MmFreePagesFromMdl(Mdl);
    ExFreePool(Mdl);
}

static VOID At_level_1_the_IRQL_of_a_copy_is_checked(VOID)
{
    MmVerifierLevel = 1;
    FakeIrql = DISPATCH_LEVEL;
    EXPECT_BUG_CHECK((VOID)!CopyPhysical(0x2000000, 1));
    CHECK_EQUAL(FakeBugCheck.Parameters[0], 0x20019);
    FakeIrql = PASSIVE_LEVEL;
}

static const HOST_TEST Tests[] = {
    HOST_ROW(Bytes_are_copied_from_physical_and_virtual_addresses, "contract 4.13.1, 4.13.2",
             &FakeMachineMax),
    HOST_ROW(Uncached_RAM_is_copied_and_nothing_stays_mapped, "contract 4.13.1, 12.2.10",
             &FakeMachineMax),
    HOST_ROW(Without_a_table_uncached_RAM_is_not_copied_and_nothing_stays_reserved,
             "contract 4.13.1", &FakeMachineMax),
    HOST_ROW(A_copy_stops_at_the_first_byte_that_is_not_there, "contract 4.13.2", &FakeMachineMax),
    HOST_ROW(Devices_are_not_read, "contract 4.13.3", &FakeMachineMax),
    HOST_ROW(Exactly_one_flag_is_needed, "contract 4.13.4", &FakeMachineMax),
    HOST_ROW(Execute_only_pages_are_not_read, "contract 4.13.2", &FakeMachineMax),
    HOST_ROW(At_level_1_the_IRQL_of_a_copy_is_checked, "contract 0xC4/0x20019", &FakeMachineMax),
};

HOST_DEFINE_SUITE(copy);
