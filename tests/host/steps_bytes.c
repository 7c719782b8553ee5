// Steps that the bytes of a file choose: what t_corpus.c replays, and the fuzzer makes up. The first
// byte names the machine, the others are choices.
#include "tests/host/steps.h"

#define MIB (1ull << 20)

// Little RAM, because the machine starts anew for each file.
#define SMALL_MACHINE(MachineName, Bits, LeafLevel, IsLimited)                                     \
    {                                                                                              \
        .Name = MachineName, .PhysicalBits = Bits, .LargestLeafLevel = LeafLevel,                  \
        .Limits4K = IsLimited, .DescriptorCount = 7, .Descriptors = {                              \
            {0x0, 0x9FC00, LoaderMemoryUsable},                                                    \
            {0x100000, 16 * MIB, LoaderMemoryUsable},                                              \
            {FAKE_ACPI - MIB, MIB, LoaderMemoryUsable},                                            \
            {FAKE_ACPI, 0x10000, LoaderMemoryAcpiReclaimable},                                     \
            {FAKE_ACPI + 0x10000, 0x10000, LoaderMemoryAcpiNvs},                                   \
            {FAKE_ECAM, FAKE_ECAM_BYTES, LoaderMemoryReserved},                                    \
            {0xFEC00000, 0x1000, LoaderMemoryReserved},                                            \
        }                                                                                          \
    }

static const FAKE_MACHINE Machines[] = {
    SMALL_MACHINE("small", 46, 3, FALSE),
    SMALL_MACHINE("small, no 1 GiB leaves", 40, 2, FALSE),
    SMALL_MACHINE("small, 4 KiB leaves only", 46, 3, TRUE),
};

VOID RunBytes(const UCHAR *Bytes, SIZE_T ByteCount)
{
    if (ByteCount == 0) {
        return;
    }
    FakeStartMachine(&Machines[Bytes[0] % ARRAYSIZE(Machines)]);
    StartSteps((CHOICES){.Bytes = Bytes + 1, .ByteCount = ByteCount - 1});
    DoStepsOfBytes();
    FinishSteps();
}
