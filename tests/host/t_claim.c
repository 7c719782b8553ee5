// The physical-range allocator.
#include "tests/host/host.h"

#define MIB (1ull << 20)

static PMM_CLAIM Claim(ULONG64 Base, ULONG64 ByteCount, const CHAR *Owner)
{
    PMM_CLAIM Result = NULL;
    CHECK_EQUAL(MmClaimPhysicalRange(Pa(Base), ByteCount, MmClaimDevice, Owner, &Result),
                STATUS_SUCCESS);
    return Result;
}

static VOID CheckRefused(ULONG64 Base, ULONG64 ByteCount, MM_CLAIM_KIND Kind, NTSTATUS Status,
                         const CHAR *Words)
{
    PMM_CLAIM Result;
    CHECK_EQUAL(MmClaimPhysicalRange(Pa(Base), ByteCount, Kind, "somebody", &Result), Status);
    HostCheckRefusal(Words);
}

static VOID A_claim_is_exclusive_in_whole_pages_and_names_its_owner(VOID)
{
    const PMM_CLAIM First = Claim(FAKE_IO_LOW + 100, PAGE_SIZE, "00:04.0 NVMe");
    const NTSTATUS Conflict = STATUS_CONFLICTING_ADDRESSES;
    CheckRefused(FAKE_IO_LOW, 1, MmClaimDevice, Conflict, "claimed already, held by 00:04.0 NVMe");
    CheckRefused(FAKE_IO_LOW + 2 * PAGE_SIZE - 1, 1, MmClaimFirmware, Conflict,
                 "held by 00:04.0 NVMe");
    CheckRefused(FAKE_IO_LOW, 16 * PAGE_SIZE, MmClaimDevice, Conflict, "claimed already");
    const PMM_CLAIM Second = Claim(FAKE_IO_LOW + 2 * PAGE_SIZE, 1, "neighbour");
    CHECK_EQUAL(MiClaimCount(), 2);
    MmReleasePhysicalRange(First);
    MmReleasePhysicalRange(Claim(FAKE_IO_LOW, PAGE_SIZE, "later"));
    MmReleasePhysicalRange(Second);
    CHECK_EQUAL(MiClaimCount(), 0);
}

static VOID The_machine_decides_what_can_be_claimed(VOID)
{
    const NTSTATUS Conflict = STATUS_CONFLICTING_ADDRESSES;
    PMM_CLAIM Ecam;
    CheckRefused(FAKE_ACPI - PAGE_SIZE, PAGE_SIZE, MmClaimDevice, Conflict,
                 "RAM that the operating system uses");
    CheckRefused(FAKE_ACPI - PAGE_SIZE, PAGE_SIZE, MmClaimFirmware, Conflict,
                 "RAM that the operating system uses");
    CheckRefused(PAGES(MiRootPfn), PAGE_SIZE, MmClaimDevice, Conflict, "a live page table");
    CheckRefused(FAKE_ECAM, PAGE_SIZE, MmClaimDevice, Conflict, "reserved by firmware for itself");
    CheckRefused(FAKE_ACPI, PAGE_SIZE, MmClaimDevice, Conflict, "reserved by firmware for itself");
    CheckRefused(FAKE_IO_LOW, 0x100000000ull, MmClaimDevice, Conflict, "");
    CHECK_EQUAL(
        MmClaimPhysicalRange(Pa(FAKE_ECAM), FAKE_ECAM_BYTES, MmClaimFirmware, "ECAM", &Ecam),
        STATUS_SUCCESS);
    MmReleasePhysicalRange(Ecam);
}

static VOID Impossible_ranges_are_parameters_errors(VOID)
{
    const NTSTATUS Parameter = STATUS_INVALID_PARAMETER;
    CheckRefused(FAKE_IO_LOW, 0, MmClaimDevice, Parameter, "zero bytes");
    CheckRefused(FAKE_IO_LOW, MAXULONG64, MmClaimDevice, Parameter, "wraps");
    CheckRefused(1ull << 46, 1, MmClaimDevice, Parameter,
                 "leaves the processor's physical addresses");
}

static VOID CheckPlace(ULONG64 ByteCount, ULONG64 Alignment, ULONG64 Lowest, ULONG64 Highest,
                       ULONG64 Expected, PMM_CLAIM *Result)
{
    PHYSICAL_ADDRESS Base;
    CHECK_EQUAL(
        MmPlacePhysicalRange(ByteCount, Alignment, Lowest, Highest, "placed", &Base, Result),
        STATUS_SUCCESS);
    CHECK_EQUAL(Base.QuadPart, Expected);
}

static VOID A_range_is_placed_at_the_lowest_free_aligned_address(VOID)
{
    PMM_CLAIM Claims[6];
    const ULONG64 High = FAKE_IO_LOW + 64 * MIB - 1;
    Claims[0] = Claim(FAKE_IO_LOW + MIB, PAGE_SIZE, "in the way");
    CheckPlace(MIB, MIB, FAKE_IO_LOW, High, FAKE_IO_LOW, &Claims[1]);
    CheckPlace(MIB, MIB, FAKE_IO_LOW, High, FAKE_IO_LOW + 2 * MIB, &Claims[2]);
    CheckPlace(1, PAGE_SIZE, FAKE_IO_LOW + 1, High, FAKE_IO_LOW + MIB + PAGE_SIZE, &Claims[3]);
    CheckPlace(3 * MIB, 4 * MIB, FAKE_IO_LOW, High, FAKE_IO_LOW + 4 * MIB, &Claims[4]);
    // Across RAM, ACPI tables and the ECAM to the gaps between.
    CheckPlace(16 * MIB, 16 * MIB, 0, MAXULONG64, 64 * MIB, &Claims[5]);
    for (ULONG Index = 0; Index < ARRAYSIZE(Claims); Index += 1) {
        MmReleasePhysicalRange(Claims[Index]);
    }
}

static VOID A_window_is_inclusive_and_its_borders_are_kept(VOID)
{
    PMM_CLAIM Result;
    PHYSICAL_ADDRESS Base;
    CheckPlace(2 * MIB, PAGE_SIZE, FAKE_IO_LOW, FAKE_IO_LOW + 2 * MIB - 1, FAKE_IO_LOW, &Result);
    MmReleasePhysicalRange(Result);
    CHECK_EQUAL(MmPlacePhysicalRange(2 * MIB, PAGE_SIZE, FAKE_IO_LOW, FAKE_IO_LOW + 2 * MIB - 2,
                                     "x", &Base, &Result),
                STATUS_CONFLICTING_ADDRESSES);
    HostCheckRefusal("no free I/O space there");
    CheckPlace(PAGE_SIZE, PAGE_SIZE, (1ull << 46) - PAGE_SIZE, MAXULONG64, (1ull << 46) - PAGE_SIZE,
               &Result);
    MmReleasePhysicalRange(Result);
    CHECK_EQUAL(
        MmPlacePhysicalRange(PAGE_SIZE, PAGE_SIZE, 0x200000, 0x3000000, "x", &Base, &Result),
        STATUS_CONFLICTING_ADDRESSES);
}

static VOID Impossible_requests_to_place_are_parameter_errors(VOID)
{
    static const struct {
        ULONG64 ByteCount;
        ULONG64 Alignment;
        ULONG64 Lowest;
        ULONG64 Highest;
    } Rows[] = {
        {0, PAGE_SIZE, 0, MAXULONG64},        {PAGE_SIZE, 0, 0, MAXULONG64},
        {PAGE_SIZE, 2048, 0, MAXULONG64},     {PAGE_SIZE, 3 * PAGE_SIZE, 0, MAXULONG64},
        {PAGE_SIZE, PAGE_SIZE, 2 * MIB, MIB}, {PAGE_SIZE, PAGE_SIZE, MAXULONG64, MAXULONG64},
        {PAGE_SIZE, PAGE_SIZE, 100, 4000},    {MAXULONG64, PAGE_SIZE, 0, MAXULONG64}};
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        PMM_CLAIM Result;
        PHYSICAL_ADDRESS Base;
        CHECK_EQUAL(MmPlacePhysicalRange(Rows[Row].ByteCount, Rows[Row].Alignment, Rows[Row].Lowest,
                                         Rows[Row].Highest, "x", &Base, &Result),
                    STATUS_INVALID_PARAMETER);
    }
}

static VOID A_conflict_of_cache_types_names_the_claims_owner(VOID)
{
    const PMM_CLAIM Owner = Claim(FAKE_IO_LOW, PAGE_SIZE, "00:03.0 e1000");
    const PVOID Va =
        MmMapIoSpace(Pa(FAKE_IO_LOW), PAGE_SIZE, MmNonCached); // a claim does not stop its driver
    CHECK(Va != NULL);
    CHECK(MmMapIoSpace(Pa(FAKE_IO_LOW), PAGE_SIZE, MmCached) == NULL);
    HostCheckRefusal("held by 00:03.0 e1000");
    MmUnmapIoSpace(Va, PAGE_SIZE);
    MmReleasePhysicalRange(Owner);
}

static VOID A_long_name_is_cut(VOID)
{
    const PMM_CLAIM Long =
        Claim(FAKE_IO_LOW, PAGE_SIZE, "a name of more than thirty-one characters");
    CHAR Name[64];
    CHECK(MiDescribeClaim((MI_PFN_RANGE){PfnOf(FAKE_IO_LOW), PfnOf(FAKE_IO_LOW)}, Name,
                          sizeof(Name)));
    CHECK_TEXT(Name, "a name of more than thirty-one ");
    MmReleasePhysicalRange(Long);
    CHECK(!MiDescribeClaim((MI_PFN_RANGE){PfnOf(FAKE_IO_LOW), PfnOf(FAKE_IO_LOW)}, Name,
                           sizeof(Name)));
}

static const HOST_TEST Tests[] = {
    HOST_ROW(A_claim_is_exclusive_in_whole_pages_and_names_its_owner, "mm.h, physical ranges; O1",
             &FakeMachineMax),
    HOST_ROW(The_machine_decides_what_can_be_claimed, "mm.h, physical ranges; O1", &FakeMachineMax),
    HOST_ROW(Impossible_ranges_are_parameters_errors, "mm.h, physical ranges", &FakeMachineMax),
    HOST_ROW(A_range_is_placed_at_the_lowest_free_aligned_address, "mm.h, MmPlacePhysicalRange",
             &FakeMachineMax),
    HOST_ROW(A_window_is_inclusive_and_its_borders_are_kept, "mm.h, MmPlacePhysicalRange",
             &FakeMachineMax),
    HOST_ROW(Impossible_requests_to_place_are_parameter_errors, "mm.h, MmPlacePhysicalRange",
             &FakeMachineMax),
    HOST_ROW(A_conflict_of_cache_types_names_the_claims_owner, "contract 12.2.3", &FakeMachineMax),
    HOST_ROW(A_long_name_is_cut, "mm.h, physical ranges", &FakeMachineMax),
};

HOST_DEFINE_SUITE(claim);
