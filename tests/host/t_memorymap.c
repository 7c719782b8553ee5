// Memory maps that a good firmware would not give: unsorted, overlapping, wrapping, empty, huge;
// and machines with too little RAM, or with much of it.
#include "tests/host/host.h"
#include "tests/host/random.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)

// Starts mm on a machine of these descriptors.
static VOID Start(const LOADER_MEMORY_DESCRIPTOR *Descriptors, ULONG Count)
{
    FAKE_MACHINE Machine = FakeMachineBare;
    CHECK(Count <= FAKE_MAXIMUM_DESCRIPTORS);
    Machine.DescriptorCount = Count;
    memcpy(Machine.Descriptors, Descriptors, Count * sizeof(*Descriptors));
    FakeFillLoaderBlock(&Machine);
    MmInitSystem(&FakeLoaderBlock);
}

static VOID CheckRegions(const MI_PHYSICAL_REGION *Expected, ULONG Count)
{
    ULONG RegionCount;
    const MI_PHYSICAL_REGION *Regions = MiPhysicalRegions(&RegionCount);
    CHECK_EQUAL(RegionCount, Count);
    for (ULONG Index = 0; Index < Count; Index += 1) {
        CHECK_EQUAL(Regions[Index].Range.FirstPfn, Expected[Index].Range.FirstPfn);
        CHECK_EQUAL(Regions[Index].Range.LastPfn, Expected[Index].Range.LastPfn);
        CHECK_EQUAL(Regions[Index].Kind, Expected[Index].Kind);
    }
}

// mm runs: a mapping, an MDL, a pool block.
static VOID CheckAlive(VOID)
{
    const PVOID Va = MmMapIoSpace(Pa(FAKE_IO_LOW), PAGE_SIZE, MmNonCached);
    const PMDL Mdl = MmAllocatePagesForMdl(Pa(0), Pa(MAXULONG64), Pa(0), 4 * PAGE_SIZE);
    const PVOID Mapped = MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmWriteCombined, NULL, FALSE,
                                                      NormalPagePriority);
    CHECK(Va != NULL && Mapped != NULL);
    HostAudit();
    MmFreePagesFromMdl(Mdl);
    ExFreePool(Mdl);
    MmUnmapIoSpace(Va, PAGE_SIZE);
}

#define START(...)                                                                                 \
    do {                                                                                           \
        const LOADER_MEMORY_DESCRIPTOR Descriptors_[] = {__VA_ARGS__};                             \
        Start(Descriptors_, ARRAYSIZE(Descriptors_));                                              \
    } while (0)

#define CHECK_REGIONS(...)                                                                         \
    do {                                                                                           \
        const MI_PHYSICAL_REGION Regions_[] = {__VA_ARGS__};                                       \
        CheckRegions(Regions_, ARRAYSIZE(Regions_));                                               \
    } while (0)

static VOID Unsorted_descriptors_are_sorted_and_neighbours_joined(VOID)
{
    START({40 * MIB, 24 * MIB, LoaderMemoryUsable}, {20 * MIB, 20 * MIB, LoaderMemoryUsable},
          {0xFFFC0000, 0x40000, LoaderMemoryReserved}, {MIB, 19 * MIB, LoaderMemoryUsable});
    CHECK_REGIONS({{0, 0}, MiPhysicalFirmware}, {{0x100, 0x3FFF}, MiPhysicalRam},
                  {{0xFFFC0, 0xFFFFF}, MiPhysicalFirmware});
    CheckAlive();
}

static VOID Whatever_overlaps_RAM_wins(VOID)
{
    START({0, 64 * MIB, LoaderMemoryUsable}, {30 * MIB, MIB, LoaderMemoryReserved},
          {30 * MIB - PAGE_SIZE, 2 * PAGE_SIZE, LoaderMemoryAcpiNvs},
          {40 * MIB, MIB, LoaderMemoryBad}, {40 * MIB, 2 * MIB, LoaderMemoryAcpiReclaimable},
          {0, 64 * MIB, LoaderMemoryUsable});
    CHECK_REGIONS({{0, 0}, MiPhysicalFirmware}, {{1, 0x1DFE}, MiPhysicalRam},
                  {{0x1DFF, 0x1DFF}, MiPhysicalNvs}, {{0x1E00, 0x1EFF}, MiPhysicalFirmware},
                  {{0x1F00, 0x27FF}, MiPhysicalRam}, {{0x2800, 0x28FF}, MiPhysicalBad},
                  {{0x2900, 0x29FF}, MiPhysicalAcpi}, {{0x2A00, 0x3FFF}, MiPhysicalRam});
    CHECK(MmMapIoSpace(Pa(40 * MIB), PAGE_SIZE, MmNonCached) == NULL);
    HostCheckRefusal("memory that firmware calls defective");
    CheckAlive();
}

static VOID RAM_shrinks_and_everything_else_grows_to_whole_pages(VOID)
{
    START({0x100800, 32 * MIB, LoaderMemoryUsable}, {48 * MIB + 1, 1, LoaderMemoryReserved},
          {50 * MIB, 100, LoaderMemoryUsable}, {51 * MIB + 2048, 2048, LoaderMemoryUsable});
    CHECK_REGIONS({{0, 0}, MiPhysicalFirmware}, {{0x101, 0x20FF}, MiPhysicalRam},
                  {{0x3000, 0x3000}, MiPhysicalFirmware});
    CheckAlive();
}

static VOID Empty_wrapping_and_endless_descriptors_do_no_harm(VOID)
{
    START({MIB, 0, LoaderMemoryReserved}, {MIB, 63 * MIB, LoaderMemoryUsable},
          {MAXULONG64 - 100, 1000, LoaderMemoryReserved},
          {1ull << 60, 1ull << 40, LoaderMemoryUsable},
          {1ull << 45, MAXULONG64, LoaderMemoryReserved},
          {MAXULONG64, MAXULONG64, LoaderMemoryUsable});
    CHECK_REGIONS({{0, 0}, MiPhysicalFirmware}, {{0x100, 0x3FFF}, MiPhysicalRam},
                  {{1ull << 33, (1ull << 34) - 1}, MiPhysicalFirmware});
    CheckAlive();
}

static VOID A_type_that_nobody_knows_is_not_RAM(VOID)
{
    START({MIB, 63 * MIB, LoaderMemoryUsable}, {32 * MIB, MIB, (LOADER_MEMORY_TYPE)77});
    CHECK_REGIONS({{0, 0}, MiPhysicalFirmware}, {{0x100, 0x1FFF}, MiPhysicalRam},
                  {{0x2000, 0x20FF}, MiPhysicalFirmware}, {{0x2100, 0x3FFF}, MiPhysicalRam});
}

static VOID RAM_above_4_GiB_is_used(VOID)
{
    ULONG Count = 0;
    PMDL Mdls[4];
    CHECK(MiFreePageCount() > (5 * GIB - 128 * MIB) >> PAGE_SHIFT);
    for (; Count < ARRAYSIZE(Mdls); Count += 1) {
        Mdls[Count] = MmAllocatePagesForMdlEx(Pa(4 * GIB), Pa(MAXULONG64), Pa(0), 512 * MIB,
                                              MmCached, MM_DONT_ZERO_ALLOCATION);
        CHECK(Mdls[Count] != NULL && MmGetMdlByteCount(Mdls[Count]) == 512 * MIB);
        CHECK(MmGetMdlPfnArray(Mdls[Count])[0] >= 4 * GIB >> PAGE_SHIFT);
    }
    for (; Count > 0; Count -= 1) {
        MmFreePagesFromMdl(Mdls[Count - 1]);
        ExFreePool(Mdls[Count - 1]);
    }
}

static VOID CheckTooLittle(const LOADER_MEMORY_DESCRIPTOR *Descriptors, ULONG Count)
{
    EXPECT_BUG_CHECK(Start(Descriptors, Count));
    CHECK_EQUAL(FakeBugCheck.Code, INSTALL_MORE_MEMORY);
    CHECK(FakeBugCheck.Sentence[0] != '\0');
}

static VOID Too_little_RAM_is_said_in_a_clear_sentence(VOID)
{
    static const LOADER_MEMORY_DESCRIPTOR Small[] = {{0, 0x9F000, LoaderMemoryUsable},
                                                     {MIB, 4 * MIB, LoaderMemoryUsable}};
    CheckTooLittle(Small, 2);
    CHECK_EQUAL(FakeBugCheck.Parameters[0], 0x9E + 0x400);
    CHECK(strstr(FakeBugCheck.Sentence, "this machine has") != NULL);
    CheckTooLittle(Small, 0);
    CHECK_EQUAL(FakeBugCheck.Parameters[0], 0);
}

static VOID RAM_that_only_the_direct_map_could_reach_is_too_little(VOID)
{
    // All of it above what the boot loader's tables map.
    static const LOADER_MEMORY_DESCRIPTOR High[] = {{8 * GIB, 256 * MIB, LoaderMemoryUsable}};
    CheckTooLittle(High, 1);
}

static VOID RAM_too_high_for_the_database_is_too_little(VOID)
{
    // The database would have an entry for every frame up to there.
    static const LOADER_MEMORY_DESCRIPTOR Far[] = {{MIB, 63 * MIB, LoaderMemoryUsable},
                                                   {60 * GIB, 64 * MIB, LoaderMemoryUsable}};
    CheckTooLittle(Far, 2);
}

static VOID RAM_beyond_the_direct_map_is_left_alone(VOID)
{
    START({MIB, 2 * GIB - MIB, LoaderMemoryUsable}, {1ull << 44, GIB, LoaderMemoryUsable});
    CHECK(MiFreePageCount() < 2 * GIB >> PAGE_SHIFT);
    CheckAlive();
}

static VOID What_the_boot_loader_left_is_not_given_out(VOID)
{
    const PMDL Mdl = MmAllocatePagesForMdl(Pa(0), Pa(MAXULONG64), Pa(0), 200 * MIB); // all there is
    for (PFN_NUMBER Page = 0; Page < MmGetMdlByteCount(Mdl) >> PAGE_SHIFT; Page += 1) {
        const ULONG64 Address = PAGES(MmGetMdlPfnArray(Mdl)[Page]);
        CHECK(Address < FAKE_KERNEL_PA || Address >= FAKE_KERNEL_PA + FAKE_KERNEL_BYTES);
        CHECK(Address < 0x310000 ||
              Address >= 0x316000); // a module that begins and ends inside a page
        CHECK(Address != 0);
    }
    CHECK_EQUAL(MiPfnState(0x310), MiPfnKernel);
    CHECK_EQUAL(MiPfnState(0x315), MiPfnKernel);
    MmFreePagesFromMdl(Mdl);
    ExFreePool(Mdl);
}

static VOID The_kernel_image_has_no_writable_second_name(VOID)
{
    CHECK_UNMAPPED(MiFrameToVa(FAKE_KERNEL_PA >> PAGE_SHIFT));
    CHECK_PAGE(0x600000200000, FAKE_KERNEL_PA >> PAGE_SHIFT, MiAccessExecuteRead, MiCacheWriteBack);
    CHECK_PAGE(0x600000280000, (FAKE_KERNEL_PA + 0x80000) >> PAGE_SHIFT, MiAccessRead,
               MiCacheWriteBack);
    CHECK_PAGE(0x6000002C0000, (FAKE_KERNEL_PA + 0xC0000) >> PAGE_SHIFT, MiAccessReadWrite,
               MiCacheWriteBack);
}

//
// Random maps, against an array of frames.
//

#define RANDOM_FRAMES 600u
#define RANDOM_ROUNDS 3000u

static const UCHAR RankOfType[] = {[LoaderMemoryUsable] = 1,
                                   [LoaderMemoryAcpiReclaimable] = 2,
                                   [LoaderMemoryAcpiNvs] = 3,
                                   [LoaderMemoryReserved] = 4,
                                   [LoaderMemoryBad] = 5};
static const MI_PHYSICAL_KIND KindOfRank[] = {MiPhysicalIoSpace, MiPhysicalRam,      MiPhysicalAcpi,
                                              MiPhysicalNvs,     MiPhysicalFirmware, MiPhysicalBad};

static VOID MarkNaively(UCHAR *Ranks, const LOADER_MEMORY_DESCRIPTOR *Descriptor)
{
    const UCHAR Rank = RankOfType[Descriptor->Type];
    const ULONG64 End = Descriptor->BaseAddress + Descriptor->ByteCount;
    for (ULONG Frame = 0; Frame < RANDOM_FRAMES; Frame += 1) {
        const ULONG64 Base = PAGES(Frame);
        const BOOLEAN IsWhole = Base >= Descriptor->BaseAddress && Base + PAGE_SIZE <= End;
        const BOOLEAN IsTouched = Base < End && Base + PAGE_SIZE > Descriptor->BaseAddress;
        if ((Rank == 1 ? IsWhole : IsTouched) && Rank > Ranks[Frame]) {
            Ranks[Frame] = Rank;
        }
    }
}

static VOID Random_maps_agree_with_an_array_of_frames(VOID)
{
    static LOADER_BLOCK Block;
    RANDOM Random = RandomStart(11);
    for (ULONG Round = 0; Round < RANDOM_ROUNDS; Round += 1) {
        UCHAR Ranks[RANDOM_FRAMES] = {[0] = 4};
        Block.MemoryDescriptorCount = (ULONG)RandomBelow(&Random, 30);
        for (ULONG Index = 0; Index < Block.MemoryDescriptorCount; Index += 1) {
            LOADER_MEMORY_DESCRIPTOR *Descriptor = &Block.MemoryDescriptors[Index];
            Descriptor->BaseAddress = RandomBelow(&Random, PAGES(RANDOM_FRAMES - 1));
            Descriptor->ByteCount =
                1 + RandomBelow(&Random, PAGES(RANDOM_FRAMES - 1) - Descriptor->BaseAddress);
            if (RandomOneIn(&Random, 2)) {
                Descriptor->BaseAddress &= ~(ULONG64)(PAGE_SIZE - 1);
                Descriptor->ByteCount = 1 + RandomBelow(&Random, PAGES(20));
            }
            Descriptor->Type = (LOADER_MEMORY_TYPE)RandomBelow(&Random, LoaderMemoryTypeCount);
            MarkNaively(Ranks, Descriptor);
        }
        MiInitializePhysicalMap(&Block);
        for (ULONG Frame = 0; Frame < RANDOM_FRAMES - 30; Frame += 1) {
            PFN_NUMBER LastPfn;
            CHECK_EQUAL(MiPhysicalKindOf(Frame, &LastPfn), KindOfRank[Ranks[Frame]]);
            CHECK(LastPfn >= Frame);
            CHECK(LastPfn + 1 >= RANDOM_FRAMES || Ranks[LastPfn + 1] != Ranks[Frame]);
        }
    }
}

static VOID As_many_descriptors_as_there_can_be_fit(VOID)
{
    static LOADER_BLOCK Block;
    ULONG RegionCount;
    for (ULONG Index = 0; Index < LOADER_MAXIMUM_MEMORY_DESCRIPTORS; Index += 1) {
        // Islands in a sea, in descending order.
        const ULONG64 Base = PAGES(2 * (LOADER_MAXIMUM_MEMORY_DESCRIPTORS - Index));
        Block.MemoryDescriptors[Index] =
            (LOADER_MEMORY_DESCRIPTOR){Base, PAGE_SIZE, LoaderMemoryReserved};
    }
    Block.MemoryDescriptors[100] = (LOADER_MEMORY_DESCRIPTOR){0, 64 * MIB, LoaderMemoryUsable};
    Block.MemoryDescriptorCount = LOADER_MAXIMUM_MEMORY_DESCRIPTORS;
    MiInitializePhysicalMap(&Block);
    const MI_PHYSICAL_REGION *Regions = MiPhysicalRegions(&RegionCount);
    CHECK_EQUAL(RegionCount, 1 + 2 * (LOADER_MAXIMUM_MEMORY_DESCRIPTORS - 1) + 1);
    CHECK_EQUAL(Regions[RegionCount - 1].Range.LastPfn, 0x3FFF);
}

static const HOST_TEST Tests[] = {
    HOST_ROW(Unsorted_descriptors_are_sorted_and_neighbours_joined, "physmap.c, P1",
             &FakeMachineBare),
    HOST_ROW(Whatever_overlaps_RAM_wins, "physmap.c, overlaps", &FakeMachineBare),
    HOST_ROW(RAM_shrinks_and_everything_else_grows_to_whole_pages, "physmap.c, borders",
             &FakeMachineBare),
    HOST_ROW(Empty_wrapping_and_endless_descriptors_do_no_harm, "physmap.c, P2", &FakeMachineBare),
    HOST_ROW(A_type_that_nobody_knows_is_not_RAM, "physmap.c, kinds", &FakeMachineBare),
    HOST_ROW(RAM_above_4_GiB_is_used, "contract 7.1.2", &FakeMachineLarge),
    HOST_ROW(Too_little_RAM_is_said_in_a_clear_sentence, "mm.h, MmInitSystem", &FakeMachineBare),
    HOST_ROW(RAM_that_only_the_direct_map_could_reach_is_too_little, "mm.h, MmInitSystem",
             &FakeMachineBare),
    HOST_ROW(RAM_too_high_for_the_database_is_too_little, "mm.h, MmInitSystem", &FakeMachineBare),
    HOST_ROW(RAM_beyond_the_direct_map_is_left_alone, "miarch.h, MI_REGION", &FakeMachineBare),
    HOST_ROW(What_the_boot_loader_left_is_not_given_out, "pfn.c, F1", &FakeMachineMax),
    HOST_ROW(The_kernel_image_has_no_writable_second_name, "design 1.6", &FakeMachineMax),
    HOST_ROW(Random_maps_agree_with_an_array_of_frames, "physmap.c, P1, P2", &FakeMachineBare),
    HOST_ROW(As_many_descriptors_as_there_can_be_fit, "physmap.c", &FakeMachineBare),
};

HOST_DEFINE_SUITE(memorymap);
