// Questions; and wrong calls: they refuse, or stop the machine; either way nothing has changed.
#include "tests/host/steps.h"

//
// Questions.
//

static VOID CheckCacheAttribute(ULONG64 Base, MI_CACHE_TYPE Expected)
{
    static const MEMORY_CACHING_TYPE Types[] = {
        [MiCacheWriteBack] = MmCached,
        [MiCacheWriteCombined] = MmWriteCombined,
        [MiCacheUncached] = MmNonCached,
        [MiCacheUndecided] = MmNotMapped,
    };
    MEMORY_CACHING_TYPE Found;
    CHECK_EQUAL(MmGetCacheAttribute(Pa(Base), &Found), STATUS_SUCCESS);
    CHECK_EQUAL(Found, Types[Expected]);
}

VOID StepQuery(VOID)
{
    const MDL_SLOT *Mdl = &Mdls[CHOOSE(Mdls)];
    Note("query", 0, 0, 0);
    if (ModelMappingCount > 0) {
        const MODEL_MAPPING *Mapping = ModelMappings[Below(ModelMappingCount)];
        const PFN_NUMBER Page = Below(Mapping->PageCount);
        const ULONG Offset = (ULONG)Below(PAGE_SIZE);
        const PVOID Va = (PVOID)(Mapping->Va + PAGES(Page) + Offset);
        const BOOLEAN IsMapped = Page < Mapping->MappedCount;
        const ULONG64 Expected = IsMapped ? PAGES(ModelFrameOf(Mapping, Page)) + Offset : 0;
        CHECK_EQUAL(MmGetPhysicalAddress(Va).QuadPart, Expected);
        CHECK_EQUAL(MmIsAddressValid(Va), IsMapped);
    }
    ULONG64 Base;
    SIZE_T ByteCount;
    ChooseIoBytes(&Base, &ByteCount);
    CHECK_EQUAL(MmIsIoSpaceActive(Pa(Base), ByteCount) != 0,
                ModelIsMapped(RangeOf(Base, ByteCount)));
    CheckCacheAttribute(Base, ModelIoCacheType(PfnOf(Base)));
    if (Mdl->Mdl != NULL && Mdl->Kind == MdlPages) {
        CheckCacheAttribute(PAGES(Mdl->Pfns[0]),
                            (MI_CACHE_TYPE)ModelFrames[Mdl->Pfns[0]].CacheType);
    }
}

//
// Wrong calls: they refuse, or stop the machine; either way nothing has changed.
//

static PFN_NUMBER ChooseFrameOfKernel(VOID)
{
    switch (Below(4)) {
    case 0:
        return FakeRootPfn();
    case 1:
        return (FAKE_KERNEL_PA >> PAGE_SHIFT) + Below(FAKE_KERNEL_BYTES >> PAGE_SHIFT);
    default: {
        // RAM that nobody has locked.
        const PFN_NUMBER Pfn = 0x400 + Below(0x3A00);
        const MI_PFN_STATE State = MiPfnState(Pfn);
        const BOOLEAN IsLockable = State == MiPfnMdl || State == MiPfnPool || State == MiPfnDriver;
        return FakeIsRam(Pfn) && !IsLockable ? Pfn : FakeRootPfn();
    }
    }
}

VOID StepRefusedMap(VOID)
{
    static const ULONG BadProtections[] = {0,
                                           PAGE_NOACCESS,
                                           PAGE_WRITECOPY,
                                           PAGE_EXECUTE_WRITECOPY,
                                           PAGE_READWRITE | PAGE_GUARD,
                                           PAGE_READWRITE | PAGE_READONLY,
                                           PAGE_NOCACHE,
                                           PAGE_READWRITE | PAGE_NOCACHE | PAGE_WRITECOMBINE,
                                           MAXULONG};
    const ULONG64 Register = FAKE_IO_REGISTERS;
    const ULONG64 Kernel = PAGES(ChooseFrameOfKernel());
    Note("refused map", Kernel, 0, 0);
    switch (Below(7)) {
    case 0:
        CHECK(MmMapIoSpaceEx(Pa(Register), PAGE_SIZE,
                             BadProtections[Below(ARRAYSIZE(BadProtections))]) == NULL);
        break;
    case 1:
        CHECK(MmMapIoSpace(Pa(Register + Below(PAGE_SIZE)), 0, MmNonCached) == NULL);
        break;
    case 2:
        CHECK(MmMapIoSpace(Pa(Register), PAGE_SIZE, (MEMORY_CACHING_TYPE)(6 + Below(250))) == NULL);
        break;
    case 3:
        CHECK(MmMapIoSpaceEx(Pa(Register), MAXULONG64 - Below(Register - 1), PAGE_READWRITE) ==
              NULL);
        break;
    case 4:
        CHECK(MmMapIoSpaceEx(Pa(PAGES(MiHighestPfn()) + PAGE_SIZE - 1), 2, PAGE_READONLY) == NULL);
        break;
    case 5:
        CHECK(MmMapIoSpaceEx(Pa(Kernel + Below(PAGE_SIZE)), 1, PAGE_READWRITE | PAGE_NOCACHE) ==
              NULL);
        break;
    default:
        // From RAM into the ACPI tables behind it.
        CHECK(MmMapIoSpaceEx(Pa(FAKE_ACPI - PAGE_SIZE), 2 * PAGE_SIZE,
                             PAGE_READWRITE | PAGE_NOCACHE) == NULL);
        break;
    }
}

VOID StepRefusedMdl(VOID)
{
    MM_PHYSICAL_ADDRESS_LIST List[2] = {{Pa(FAKE_IO_LOW), PAGE_SIZE},
                                        {Pa(FAKE_IO_REGISTERS), PAGE_SIZE}};
    MM_PHYSICAL_ADDRESS_LIST *Bad = &List[Below(2)];
    PMDL Mdl = (PMDL)1;
    Note("refused MDL", 0, 0, 0);
    switch (Below(5)) {
    case 0:
        Bad->PhysicalAddress.QuadPart += 1 + (LONG64)Below(PAGE_SIZE - 1);
        break;
    case 1:
        Bad->NumberOfBytes += 1 + Below(PAGE_SIZE - 1);
        break;
    case 2:
        Bad->NumberOfBytes = 0;
        break;
    case 3:
        Bad->NumberOfBytes = 0x100000000ull - PAGE_SIZE;
        break;
    default:
        Bad->PhysicalAddress.QuadPart = (LONG64)PAGES(ChooseFrameOfKernel());
        break;
    }
    CHECK_EQUAL(MmAllocateMdlForIoSpace(List, 2, &Mdl), STATUS_INVALID_PARAMETER_1);
    CHECK(Mdl == NULL);
}

static VOID MisuseIo(const IO_SLOT *Io)
{
    if (Io->Address == NULL) {
        return;
    }
    const PFN_NUMBER PageCount = Io->Mapping.PageCount;
    Note("misuse I/O", (ULONG_PTR)Io->Address, PageCount, 0);
    if (OneIn(2)) {
        EXPECT_BUG_CHECK(MmUnmapIoSpace(Io->Address, Io->ByteCount + PAGE_SIZE));
        CHECK_BUG_CHECK(SYSTEM_PTE_MISUSE, 0x305, (ULONG_PTR)Io->Address, PageCount + 1, PageCount);
    } else {
        const PVOID Guard = (PVOID)(Io->Mapping.Va + PAGES(PageCount));
        EXPECT_BUG_CHECK(MmUnmapIoSpace(Guard, PAGE_SIZE));
        CHECK_BUG_CHECK(SYSTEM_PTE_MISUSE, 0x400, (ULONG_PTR)Guard, 1, 0);
    }
}

static VOID MisuseReservation(const RESERVATION_SLOT *Slot)
{
    if (Slot->Va == NULL) {
        return;
    }
    const ULONG_PTR Va = (ULONG_PTR)Slot->Va;
    const MDL_SLOT *Source = &Mdls[CHOOSE(Mdls)];
    Note("misuse reservation", Va, Slot->Tag, 0);
    EXPECT_BUG_CHECK(MmFreeMappingAddress(Slot->Va, Slot->Tag + 1));
    CHECK_BUG_CHECK(SYSTEM_PTE_MISUSE, 0x101, Va, Slot->Tag + 1, Slot->Tag);
    if (Slot->Mdl != MDL_SLOTS) {
        EXPECT_BUG_CHECK(MmFreeMappingAddress(Slot->Va, Slot->Tag));
        CHECK_BUG_CHECK(SYSTEM_PTE_MISUSE, 0x103, Va, Slot->Tag, Slot->Mapping.PageCount);
        EXPECT_BUG_CHECK(Ignore(MmMapLockedPagesWithReservedMapping(
            Slot->Va, Slot->Tag, Mdls[Slot->Mdl].Mdl, MmCached)));
        CHECK_BUG_CHECK(SYSTEM_PTE_MISUSE, 0x107, Va, Va, Va + PAGES(Slot->Mapping.PageCount - 1));
    } else if (Source->Mdl != NULL && Source->PageCount <= Slot->Mapping.PageCount) {
        EXPECT_BUG_CHECK(MmUnmapReservedMapping(Slot->Va, Slot->Tag, Source->Mdl));
        CHECK_EQUAL(FakeBugCheck.Code, SYSTEM_PTE_MISUSE);
        CHECK(FakeBugCheck.Parameters[0] == 0x109 || FakeBugCheck.Parameters[0] == 0x10B);
    }
}

VOID StepMisuse(VOID)
{
    if (OneIn(2)) {
        MisuseIo(&Ios[CHOOSE(Ios)]);
    } else {
        MisuseReservation(&Reservations[CHOOSE(Reservations)]);
    }
}
