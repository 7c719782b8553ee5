// Physical memory: the list of RAM that drivers get, and the physical-range allocator, which claims
// device memory, places it, and says in words why it refuses.
#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "kernel/inc/rtl.h"
#include "tests/kernel/reference.h"
#include "tests/kernel/tests.h"

#define OWNER "the test driver"

//
// MmGetPhysicalMemoryRanges.
//

static VOID RamRangesAreSortedAndWhole(VOID)
{
    PPHYSICAL_MEMORY_RANGE Ranges = MmGetPhysicalMemoryRanges();
    KT_REQUIRE(Ranges != NULL);
    MM_MEMORY_USE Use;
    MmQueryMemoryUse(&Use);
    ULONG64 NextAddress = 1;
    ULONG64 ByteCount = 0;
    for (PPHYSICAL_MEMORY_RANGE Range = Ranges; Range->NumberOfBytes.QuadPart != 0; Range += 1) {
        KT_CHECK((ULONG64)Range->BaseAddress.QuadPart >= NextAddress);
        KT_EQUAL(Range->BaseAddress.QuadPart % PAGE_SIZE, 0);
        KT_EQUAL(Range->NumberOfBytes.QuadPart % PAGE_SIZE, 0);
        // A gap of at least a page: touching ranges would be one.
        NextAddress =
            (ULONG64)(Range->BaseAddress.QuadPart + Range->NumberOfBytes.QuadPart) + PAGE_SIZE;
        ByteCount += (ULONG64)Range->NumberOfBytes.QuadPart;
    }
    KT_CHECK(ByteCount > Use.FreePages * PAGE_SIZE);
    KT_CHECK(NextAddress <= 1ull << KeFeatures.PhysicalBits);
    ExFreePool(Ranges);
}

static BOOLEAN IsInRam(ULONG64 Address)
{
    BOOLEAN Found = FALSE;
    PPHYSICAL_MEMORY_RANGE Ranges = MmGetPhysicalMemoryRanges();
    if (!KT_CHECK(Ranges != NULL)) {
        return FALSE;
    }
    for (PPHYSICAL_MEMORY_RANGE Range = Ranges; Range->NumberOfBytes.QuadPart != 0; Range += 1) {
        Found = Found ||
                (Address >= (ULONG64)Range->BaseAddress.QuadPart &&
                 Address < (ULONG64)(Range->BaseAddress.QuadPart + Range->NumberOfBytes.QuadPart));
    }
    ExFreePool(Ranges);
    return Found;
}

static VOID RamRangesHoldWhatIsInRam(VOID)
{
    static UCHAR Data;
    PVOID Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 64, KT_TAG);
    KT_REQUIRE(Block != NULL);
    KT_CHECK(IsInRam(KtPhysicalOf(&Data)));
    KT_CHECK(IsInRam(KtPhysicalOf(Block)));
    KT_CHECK(IsInRam(RefReadCr3() & REF_FRAME));
    KT_CHECK(!IsInRam(0));
    KT_CHECK(!IsInRam(KT_APIC_BASE));
    KT_CHECK(!IsInRam(0xA0000)); // the video window
    KT_CHECK(!IsInRam(KT_GAP_HIGHEST));
    ExFreePool(Block);
}

//
// Claims.
//

static NTSTATUS Claim(ULONG64 Base, ULONG64 ByteCount, MM_CLAIM_KIND Kind, PMM_CLAIM *NewClaim)
{
    return MmClaimPhysicalRange(KtPhysical(Base), ByteCount, Kind, OWNER, NewClaim);
}

static VOID CheckRefusal(ULONG64 Base, ULONG64 ByteCount, NTSTATUS ExpectedStatus,
                         PCSTR ExpectedWords)
{
    CHAR Text[160];
    PMM_CLAIM NewClaim = NULL;
    KtSetContext("0x%llx, 0x%llx bytes: %s", Base, ByteCount, ExpectedWords);
    const NTSTATUS Status = Claim(Base, ByteCount, MmClaimDevice, &NewClaim);
    KT_EQUAL(Status, ExpectedStatus);
    if (NT_SUCCESS(Status)) {
        MmReleasePhysicalRange(NewClaim);
        return;
    }
    MmDescribeLastRefusal(Text, sizeof(Text));
    if (!KT_CHECK(RtlFindSubstring(Text, ExpectedWords) != NULL)) {
        DbgPrint("    # it said: %s\n", Text);
    }
    KT_CHECK(RtlFindSubstring(Text, "MmClaimPhysicalRange") != NULL);
}

static VOID IllegalRangesAreRefused(VOID)
{
    const ULONG64 End = 1ull << KeFeatures.PhysicalBits;
    CheckRefusal(KT_GAP_LOWEST, 0, STATUS_INVALID_PARAMETER, "zero bytes");
    CheckRefusal(End, PAGE_SIZE, STATUS_INVALID_PARAMETER, "physical addresses");
    CheckRefusal(End - PAGE_SIZE, 2 * PAGE_SIZE, STATUS_INVALID_PARAMETER, "physical addresses");
    CheckRefusal(MAXULONG64, 2, STATUS_INVALID_PARAMETER, "wraps");
    CheckRefusal(KT_GAP_LOWEST, MAXULONG64, STATUS_INVALID_PARAMETER, "wraps");
}

static VOID RamIsRefusedInWords(VOID)
{
    static UCHAR Data;
    CheckRefusal(KtPhysicalOf(&Data), 1, STATUS_CONFLICTING_ADDRESSES,
                 "RAM that the operating system uses");
    PMDL Mdl = KtAllocatePages(1);
    KT_REQUIRE(Mdl != NULL);
    CheckRefusal(KtPageAddress(Mdl, 0), PAGE_SIZE, STATUS_CONFLICTING_ADDRESSES,
                 "RAM that the operating system uses");
    KtFreePages(Mdl);
}

static VOID PageTablesAreRefusedInWords(VOID)
{
    CheckRefusal(RefReadCr3() & REF_FRAME, PAGE_SIZE, STATUS_CONFLICTING_ADDRESSES, "page table");
}

static VOID AnotherOwnerIsNamed(VOID)
{
    PMM_CLAIM Held;
    const ULONG64 Gap = KtFindGap(4 * PAGE_SIZE, PAGE_SIZE);
    KT_REQUIRE(NT_SUCCESS(Claim(Gap + PAGE_SIZE, 2 * PAGE_SIZE, MmClaimDevice, &Held)));
    static const struct {
        ULONG FirstPage;
        ULONG PageCount;
        BOOLEAN Overlaps;
    } Rows[] = {{0, 1, FALSE}, {0, 2, TRUE}, {1, 2, TRUE}, {2, 1, TRUE},
                {2, 2, TRUE},  {0, 4, TRUE}, {3, 1, FALSE}};
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        CheckRefusal(Gap + Rows[Row].FirstPage * PAGE_SIZE, Rows[Row].PageCount * PAGE_SIZE,
                     Rows[Row].Overlaps ? STATUS_CONFLICTING_ADDRESSES : STATUS_SUCCESS, OWNER);
    }
    MmReleasePhysicalRange(Held);
    CheckRefusal(Gap, 4 * PAGE_SIZE, STATUS_SUCCESS, "");
}

static VOID ClaimsAreRoundedToPages(VOID)
{
    PMM_CLAIM Held;
    const ULONG64 Gap = KtFindGap(2 * PAGE_SIZE, PAGE_SIZE);
    KT_REQUIRE(NT_SUCCESS(Claim(Gap + PAGE_SIZE - 1, 2, MmClaimDevice, &Held)));
    CheckRefusal(Gap, 1, STATUS_CONFLICTING_ADDRESSES, OWNER);
    CheckRefusal(Gap + 2 * PAGE_SIZE - 1, 1, STATUS_CONFLICTING_ADDRESSES, OWNER);
    MmReleasePhysicalRange(Held);
}

static VOID TheOwnersNameIsCopied(VOID)
{
    CHAR Name[] = "a driver with a rather long name of more than thirty-one characters";
    PMM_CLAIM Held;
    const ULONG64 Gap = KtFindGap(PAGE_SIZE, PAGE_SIZE);
    KT_REQUIRE(
        NT_SUCCESS(MmClaimPhysicalRange(KtPhysical(Gap), PAGE_SIZE, MmClaimDevice, Name, &Held)));
    RtlFillMemory(Name, sizeof(Name) - 1, 'x');
    CheckRefusal(Gap, PAGE_SIZE, STATUS_CONFLICTING_ADDRESSES, "a driver with a rather long nam");
    MmReleasePhysicalRange(Held);
}

static VOID FirmwareMemoryIsForFirmwareOnly(VOID)
{
    // The BIOS image: reserved on machines that have one.
    const ULONG64 Address = 0xF0000;
    PMM_CLAIM NewClaim;
    const NTSTATUS Status = Claim(Address, PAGE_SIZE, MmClaimDevice, &NewClaim);
    if (NT_SUCCESS(Status)) {
        MmReleasePhysicalRange(NewClaim);
        KT_SKIP("firmware reserves nothing at 0xF0000");
    }
    CheckRefusal(Address, PAGE_SIZE, STATUS_CONFLICTING_ADDRESSES, "firmware");
    KT_REQUIRE(NT_SUCCESS(Claim(Address, PAGE_SIZE, MmClaimFirmware, &NewClaim)));
    MmReleasePhysicalRange(NewClaim);
}

static VOID ClaimsDoNotPreventMappings(VOID)
{
    PMM_CLAIM Held;
    const ULONG64 Gap = KtFindGap(4 * PAGE_SIZE, PAGE_SIZE);
    KT_REQUIRE(NT_SUCCESS(Claim(Gap, 4 * PAGE_SIZE, MmClaimDevice, &Held)));
    PVOID Va =
        MmMapIoSpaceEx(KtPhysical(Gap + PAGE_SIZE), PAGE_SIZE, PAGE_READWRITE | PAGE_NOCACHE);
    KT_CHECK(Va != NULL);
    if (Va != NULL) {
        MmUnmapIoSpace(Va, PAGE_SIZE);
    }
    MmReleasePhysicalRange(Held);
}

//
// Placing.
//

static NTSTATUS Place(ULONG64 ByteCount, ULONG64 Alignment, ULONG64 Lowest, ULONG64 Highest,
                      ULONG64 *Base, PMM_CLAIM *NewClaim)
{
    PHYSICAL_ADDRESS Address = {.QuadPart = 0};
    const NTSTATUS Status =
        MmPlacePhysicalRange(ByteCount, Alignment, Lowest, Highest, OWNER, &Address, NewClaim);
    *Base = (ULONG64)Address.QuadPart;
    return Status;
}

static VOID PlacedRangesAreAlignedAndApart(VOID)
{
    static const struct {
        ULONG64 ByteCount;
        ULONG64 Alignment;
    } Rows[] = {
        {1, PAGE_SIZE},
        {PAGE_SIZE + 1, PAGE_SIZE},
        {64 * KT_KIB, 64 * KT_KIB},
        {16 * KT_MIB, 16 * KT_MIB},
        {KT_GIB, KT_GIB},
        {PAGE_SIZE, KT_GIB},
    };
    PMM_CLAIM Claims[ARRAYSIZE(Rows)];
    ULONG64 Bases[ARRAYSIZE(Rows)];
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        KtSetContext("row %u", Row);
        KT_REQUIRE(NT_SUCCESS(Place(Rows[Row].ByteCount, Rows[Row].Alignment, KT_GAP_LOWEST,
                                    KT_GAP_HIGHEST, &Bases[Row], &Claims[Row])));
        KT_EQUAL(Bases[Row] % Rows[Row].Alignment, 0);
        KT_CHECK(Bases[Row] >= KT_GAP_LOWEST &&
                 Bases[Row] + Rows[Row].ByteCount - 1 <= KT_GAP_HIGHEST);
        for (ULONG Other = 0; Other < Row; Other += 1) {
            KT_CHECK(Bases[Other] + ROUND_TO_PAGES(Rows[Other].ByteCount) <= Bases[Row] ||
                     Bases[Row] + ROUND_TO_PAGES(Rows[Row].ByteCount) <= Bases[Other]);
        }
    }
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        MmReleasePhysicalRange(Claims[Row]);
    }
}

static VOID PlacingKeepsAwayFromRam(VOID)
{
    PMM_CLAIM NewClaim;
    ULONG64 Base;
    // From 1 MiB up there is RAM; the first free place lies behind it.
    KT_REQUIRE(
        NT_SUCCESS(Place(PAGE_SIZE, PAGE_SIZE, 1 * KT_MIB, KT_GAP_HIGHEST, &Base, &NewClaim)));
    KT_CHECK(!IsInRam(Base));
    MmReleasePhysicalRange(NewClaim);
    KT_EQUAL(Place(PAGE_SIZE, PAGE_SIZE, 1 * KT_MIB, 16 * KT_MIB - 1, &Base, &NewClaim),
             STATUS_CONFLICTING_ADDRESSES);
}

static VOID PlacingRefusesIllegalArguments(VOID)
{
    const struct {
        ULONG64 ByteCount;
        ULONG64 Alignment;
        ULONG64 Lowest;
        ULONG64 Highest;
        NTSTATUS Status;
    } Rows[] = {
        {0, PAGE_SIZE, KT_GAP_LOWEST, KT_GAP_HIGHEST, STATUS_INVALID_PARAMETER},
        {PAGE_SIZE, 0, KT_GAP_LOWEST, KT_GAP_HIGHEST, STATUS_INVALID_PARAMETER},
        {PAGE_SIZE, 3 * PAGE_SIZE, KT_GAP_LOWEST, KT_GAP_HIGHEST, STATUS_INVALID_PARAMETER},
        {PAGE_SIZE, PAGE_SIZE / 2, KT_GAP_LOWEST, KT_GAP_HIGHEST, STATUS_INVALID_PARAMETER},
        {PAGE_SIZE, PAGE_SIZE, KT_GAP_HIGHEST, KT_GAP_LOWEST, STATUS_INVALID_PARAMETER},
        {MAXULONG64, PAGE_SIZE, KT_GAP_LOWEST, KT_GAP_HIGHEST, STATUS_INVALID_PARAMETER},
        {2 * PAGE_SIZE, PAGE_SIZE, KT_GAP_LOWEST, KT_GAP_LOWEST + PAGE_SIZE - 1,
         STATUS_CONFLICTING_ADDRESSES},
        {1ull << 39, PAGE_SIZE, KT_GAP_LOWEST, KT_GAP_HIGHEST, STATUS_CONFLICTING_ADDRESSES},
    };
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        PMM_CLAIM NewClaim;
        ULONG64 Base;
        KtSetContext("row %u", Row);
        KT_EQUAL(Place(Rows[Row].ByteCount, Rows[Row].Alignment, Rows[Row].Lowest,
                       Rows[Row].Highest, &Base, &NewClaim),
                 Rows[Row].Status);
    }
}

static VOID AWindowFillsUpExactly(VOID)
{
    PMM_CLAIM Claims[4];
    PMM_CLAIM NoClaim;
    ULONG64 Base;
    const ULONG64 Gap = KtFindGap(ARRAYSIZE(Claims) * PAGE_SIZE, PAGE_SIZE);
    const ULONG64 Last = Gap + ARRAYSIZE(Claims) * PAGE_SIZE - 1;
    for (ULONG Index = 0; Index < ARRAYSIZE(Claims); Index += 1) {
        KT_REQUIRE(NT_SUCCESS(Place(PAGE_SIZE, PAGE_SIZE, Gap, Last, &Base, &Claims[Index])));
        KT_EQUAL(Base, Gap + Index * PAGE_SIZE);
    }
    KT_EQUAL(Place(PAGE_SIZE, PAGE_SIZE, Gap, Last, &Base, &NoClaim), STATUS_CONFLICTING_ADDRESSES);
    MmReleasePhysicalRange(Claims[2]);
    KT_REQUIRE(NT_SUCCESS(Place(PAGE_SIZE, PAGE_SIZE, Gap, Last, &Base, &Claims[2])));
    KT_EQUAL(Base, Gap + 2 * PAGE_SIZE);
    for (ULONG Index = 0; Index < ARRAYSIZE(Claims); Index += 1) {
        MmReleasePhysicalRange(Claims[Index]);
    }
}

static const KT_TEST Tests[] = {
    {"MmGetPhysicalMemoryRanges is sorted, disjoint, in whole pages, and ends with zeros [4.6.1]",
     RamRangesAreSortedAndWhole},
    {"MmGetPhysicalMemoryRanges holds kernel, pool and tables, and no device memory [4.6.2]",
     RamRangesHoldWhatIsInRam},
    {"a claim of zero bytes, that wraps or is too wide, is refused", IllegalRangesAreRefused},
    {"a claim of RAM is refused, in words", RamIsRefusedInWords},
    {"a claim of a page table is refused, in words", PageTablesAreRefusedInWords},
    {"a claim of what another owner holds is refused, by name", AnotherOwnerIsNamed},
    {"claims are rounded out to whole pages", ClaimsAreRoundedToPages},
    {"the owner's name is copied, cut to 31 characters", TheOwnersNameIsCopied},
    {"what firmware reserved can be claimed for firmware only", FirmwareMemoryIsForFirmwareOnly},
    {"a claim does not prevent a mapping of it", ClaimsDoNotPreventMappings},
    {"placed ranges are aligned, inside the window, and apart", PlacedRangesAreAlignedAndApart},
    {"placing keeps away from RAM", PlacingKeepsAwayFromRam},
    {"placing refuses illegal arguments and windows that are too small",
     PlacingRefusesIllegalArguments},
    {"a window fills up exactly, and a released place is found again", AWindowFillsUpExactly},
};

const KT_SUITE KtPhysicalSuite = {"physical", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
