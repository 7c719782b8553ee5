// Machines to start mm on, and an independent opinion on which of their frames are RAM.
#include "kernel/inc/ke.h"
#include "kernel/inc/rtl.h"
#include "tests/host/host.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)

// What a PC's firmware says, with RAM up to 63 MiB and ACPI's memory behind it.
#define PC_DESCRIPTORS                                                                             \
    {0x0, 0x9FC00, LoaderMemoryUsable}, {0x9FC00, 0x400, LoaderMemoryReserved},                    \
        {0xF0000, 0x10000, LoaderMemoryReserved},                                                  \
        {0x100000, FAKE_ACPI - 0x100000, LoaderMemoryUsable},                                      \
        {FAKE_ACPI, 0x10000, LoaderMemoryAcpiReclaimable},                                         \
        {FAKE_ACPI + 0x10000, 0x10000, LoaderMemoryAcpiNvs},                                       \
        {FAKE_ECAM, FAKE_ECAM_BYTES, LoaderMemoryReserved},                                        \
        {0xFEC00000, 0x1000, LoaderMemoryReserved},                                                \
    {                                                                                              \
        0xFFFC0000, 0x40000, LoaderMemoryReserved                                                  \
    }

#define PC_DESCRIPTOR_COUNT 9

const FAKE_MACHINE FakeMachineMax = {"max",
                                     46,
                                     3,
                                     FALSE,
                                     FALSE,
                                     PC_DESCRIPTOR_COUNT + 1,
                                     {PC_DESCRIPTORS, {4 * GIB, 32 * MIB, LoaderMemoryUsable}}};

const FAKE_MACHINE FakeMachineQemu64 = {"qemu64",        40, 2, FALSE, FALSE, PC_DESCRIPTOR_COUNT,
                                        {PC_DESCRIPTORS}};

const FAKE_MACHINE FakeMachineLeaf4K = {"leaf4k",
                                        46,
                                        3,
                                        TRUE,
                                        FALSE,
                                        PC_DESCRIPTOR_COUNT + 1,
                                        {PC_DESCRIPTORS, {4 * GIB, 32 * MIB, LoaderMemoryUsable}}};

const FAKE_MACHINE FakeMachineLarge = {"large",
                                       46,
                                       3,
                                       FALSE,
                                       FALSE,
                                       5,
                                       {{0x0, 0x9FC00, LoaderMemoryUsable},
                                        {0x100000, 2 * GIB - 0x100000, LoaderMemoryUsable},
                                        {FAKE_ECAM, FAKE_ECAM_BYTES, LoaderMemoryReserved},
                                        {0xFFFC0000, 0x40000, LoaderMemoryReserved},
                                        {4 * GIB, 3 * GIB, LoaderMemoryUsable}}};

const FAKE_MACHINE FakeMachineBare = {"bare",
                                      46,
                                      3,
                                      FALSE,
                                      TRUE,
                                      PC_DESCRIPTOR_COUNT + 1,
                                      {PC_DESCRIPTORS, {4 * GIB, 32 * MIB, LoaderMemoryUsable}}};

LOADER_BLOCK FakeLoaderBlock;

// A bit per frame that the direct map can reach.
#define RAM_FRAMES (64 * GIB >> PAGE_SHIFT)
static ULONG64 RamWords[RAM_FRAMES / 64];

BOOLEAN FakeIsRam(PFN_NUMBER Pfn)
{
    return Pfn < RAM_FRAMES && (RamWords[Pfn / 64] >> (Pfn % 64) & 1) != 0;
}

// RAM is what lies wholly in one usable descriptor, or several that adjoin, and touches no other
// descriptor.
static VOID MarkFrames(const LOADER_MEMORY_DESCRIPTOR *Descriptor, BOOLEAN IsRam)
{
    if (Descriptor->ByteCount == 0 || Descriptor->BaseAddress >> PAGE_SHIFT >= RAM_FRAMES) {
        return;
    }
    ULONG64 LastAddress = Descriptor->BaseAddress + (Descriptor->ByteCount - 1);
    if (LastAddress < Descriptor->BaseAddress || LastAddress >= RAM_FRAMES << PAGE_SHIFT) {
        LastAddress = (RAM_FRAMES << PAGE_SHIFT) - 1;
    }
    PFN_NUMBER FirstPfn = Descriptor->BaseAddress >> PAGE_SHIFT;
    PFN_NUMBER EndPfn = (LastAddress >> PAGE_SHIFT) + 1;
    if (IsRam) {
        FirstPfn += BYTE_OFFSET(Descriptor->BaseAddress) != 0;
        EndPfn -= BYTE_OFFSET(LastAddress + 1) != 0;
    }
    for (PFN_NUMBER Pfn = FirstPfn; Pfn < EndPfn; Pfn += 1) {
        const ULONG64 Bit = 1ull << (Pfn % 64);
        RamWords[Pfn / 64] = IsRam ? RamWords[Pfn / 64] | Bit : RamWords[Pfn / 64] & ~Bit;
    }
}

static VOID MarkAllFrames(const FAKE_MACHINE *Machine)
{
    for (ULONG Index = 0; Index < Machine->DescriptorCount; Index += 1) {
        if (Machine->Descriptors[Index].Type == LoaderMemoryUsable) {
            MarkFrames(&Machine->Descriptors[Index], TRUE);
        }
    }
    for (ULONG Index = 0; Index < Machine->DescriptorCount; Index += 1) {
        if (Machine->Descriptors[Index].Type != LoaderMemoryUsable) {
            MarkFrames(&Machine->Descriptors[Index], FALSE);
        }
    }
    RamWords[0] &= ~1ull;
}

VOID FakeFillLoaderBlock(const FAKE_MACHINE *Machine)
{
    memset(&FakeLoaderBlock, 0, sizeof(FakeLoaderBlock));
    FakeLoaderBlock.KernelBase = FAKE_KERNEL_PA;
    FakeLoaderBlock.KernelByteCount = FAKE_KERNEL_BYTES;
    FakeLoaderBlock.MemoryDescriptorCount = Machine->DescriptorCount;
    memcpy(FakeLoaderBlock.MemoryDescriptors, Machine->Descriptors, sizeof(Machine->Descriptors));
    FakeLoaderBlock.LoadedRangeCount = 2;
    FakeLoaderBlock.LoadedRanges[0] =
        (LOADER_RANGE){FAKE_KERNEL_PA, FAKE_KERNEL_BYTES, LoaderRangeKernel};
    FakeLoaderBlock.LoadedRanges[1] = (LOADER_RANGE){0x310800, 0x5123, LoaderRangeModule};
    memset(RamWords, 0, sizeof(RamWords));
    MarkAllFrames(Machine);
}

VOID FakeStartMachine(const FAKE_MACHINE *Machine)
{
    FakeInitializeArch(Machine->PhysicalBits, Machine->LargestLeafLevel);
    FakeFillLoaderBlock(Machine);
    if (Machine->Limits4K) {
        FakeSetBootOption("leaf4k", "");
        MmLimitLeafSize();
    }
    if (!Machine->IsStartedByTest) {
        MmInitSystem(&FakeLoaderBlock);
    }
}
