// The physical map of an ordinary machine. What odd memory maps do is in t_memorymap.c.
#include "tests/host/host.h"

static VOID CheckKind(ULONG64 Address, MI_PHYSICAL_KIND Kind, ULONG64 LastAddress)
{
    PFN_NUMBER LastPfn;
    CHECK_EQUAL(MiPhysicalKindOf(PfnOf(Address), &LastPfn), Kind);
    CHECK_EQUAL(LastPfn, PfnOf(LastAddress));
}

static VOID Every_address_has_the_kind_that_firmware_gave_it(VOID)
{
    CheckKind(0, MiPhysicalFirmware, 0); // frame 0 is nobody's
    CheckKind(0x1000, MiPhysicalRam, 0x9EFFF);
    CheckKind(0x9F000, MiPhysicalFirmware, 0x9FFFF); // a page that is partly reserved
    CheckKind(0xA0000, MiPhysicalIoSpace, 0xEFFFF);
    CheckKind(0xF0000, MiPhysicalFirmware, 0xFFFFF);
    CheckKind(0x100000, MiPhysicalRam, FAKE_ACPI - 1);
    CheckKind(FAKE_ACPI, MiPhysicalAcpi, FAKE_ACPI + 0xFFFF);
    CheckKind(FAKE_ACPI + 0x10000, MiPhysicalNvs, FAKE_ACPI + 0x1FFFF);
    CheckKind(FAKE_ACPI + 0x20000, MiPhysicalIoSpace, FAKE_ECAM - 1);
    CheckKind(FAKE_ECAM, MiPhysicalFirmware, FAKE_ECAM + FAKE_ECAM_BYTES - 1);
    CheckKind(0x100000000ull, MiPhysicalRam, 0x101FFFFFFull);
    CheckKind(FAKE_IO_HIGH, MiPhysicalIoSpace, (1ull << 46) - 1);
}

static VOID CheckRange(ULONG64 Base, ULONG64 ByteCount, PFN_NUMBER FirstPfn, PFN_NUMBER LastPfn)
{
    MI_PFN_RANGE Range;
    MI_REASON Reason;
    CHECK(MiRangeFromBytes(Base, ByteCount, &Range, &Reason));
    CHECK_EQUAL(Range.FirstPfn, FirstPfn);
    CHECK_EQUAL(Range.LastPfn, LastPfn);
}

static VOID CheckNoRange(ULONG64 Base, ULONG64 ByteCount, MI_REASON Expected)
{
    MI_PFN_RANGE Range;
    MI_REASON Reason;
    CHECK(!MiRangeFromBytes(Base, ByteCount, &Range, &Reason));
    CHECK_EQUAL(Reason, Expected);
}

static VOID Bytes_become_whole_frames_and_nothing_wraps(VOID)
{
    const ULONG64 Top = 1ull << 46;
    CheckRange(0xFFF, 1, 0, 0);
    CheckRange(0xFFF, 2, 0, 1);
    CheckRange(0x1000, 0x1000, 1, 1);
    CheckRange(0x1001, 0x1000, 1, 2);
    CheckRange(Top - 1, 1, PfnOf(Top) - 1, PfnOf(Top) - 1);
    CheckRange(0, Top, 0, PfnOf(Top) - 1);
    CheckNoRange(0x1234, 0, MiReasonZeroBytes);
    CheckNoRange(0, Top + 1, MiReasonBeyondPhysical);
    CheckNoRange(Top - 1, 2, MiReasonBeyondPhysical);
    CheckNoRange(Top, 1, MiReasonBeyondPhysical);
    CheckNoRange(0x1000, MAXULONG64, MiReasonBeyondPhysical);
    CheckNoRange(MAXULONG64, 1, MiReasonBeyondPhysical);
    CheckNoRange(MAXULONG64, 2, MiReasonBeyondPhysical);
}

static VOID CheckMappable(ULONG64 First, ULONG64 Last, MI_REASON Expected)
{
    MI_REASON Reason = MiReasonCount;
    const BOOLEAN IsMappable = MiIsIoSpace((MI_PFN_RANGE){PfnOf(First), PfnOf(Last)}, &Reason);
    CHECK_EQUAL(IsMappable, Expected == MiReasonCount);
    CHECK_EQUAL(Reason, Expected);
}

static VOID Device_memory_is_mappable_and_RAM_is_not(VOID)
{
    CheckMappable(FAKE_IO_LOW, FAKE_IO_LOW, MiReasonCount);
    CheckMappable(FAKE_ECAM, FAKE_ECAM + FAKE_ECAM_BYTES - 1, MiReasonCount);
    CheckMappable(FAKE_ACPI, FAKE_IO_LOW, MiReasonCount); // ACPI, NVS, a gap
    CheckMappable(0x100000, 0x100000, MiReasonRam);
    CheckMappable(FAKE_ACPI - PAGE_SIZE, FAKE_ACPI, MiReasonMixed);
    CheckMappable(FAKE_IO_LOW, 0x100000000ull, MiReasonMixed);
    CheckMappable(0, FAKE_IO_HIGH, MiReasonMixed);
}

static VOID The_report_names_every_region(VOID)
{
    HostForgetPrinted();
    MmPrintPhysicalMap();
    CHECK(strstr(HostPrinted(), "0x0000000003f00000-0x0000000003f0ffff") != NULL);
    CHECK(strstr(HostPrinted(), "ACPI tables") != NULL &&
          strstr(HostPrinted(), "firmware") != NULL);
    CHECK_TEXT(MiPhysicalKindName(MiPhysicalIoSpace), "I/O space");
    CHECK_TEXT(MiPhysicalKindName(MiPhysicalBad), "bad memory");
}

static const HOST_TEST Tests[] = {
    HOST_ROW(Every_address_has_the_kind_that_firmware_gave_it, "physmap.c, P1", &FakeMachineMax),
    HOST_ROW(Bytes_become_whole_frames_and_nothing_wraps, "contract 4.1.4", &FakeMachineMax),
    HOST_ROW(Device_memory_is_mappable_and_RAM_is_not, "contract 4.1.7", &FakeMachineMax),
    HOST_ROW(The_report_names_every_region, "mm.h, reports", &FakeMachineMax),
};

HOST_DEFINE_SUITE(physmap);
