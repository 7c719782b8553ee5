// What the verifier finds: each test breaks one of its rules, at level 1, and must end in a bug
// check. Like bugchecks.c: one boot each, the expected codes and parameters stand in
// tests/qemu/bugchecks.py, and parameters that only the running kernel knows are announced.
//
// Some rules are for drivers only. Code in the section .testdriver is taken for a driver's, of the
// name "driver test" (linker.ld).
#include "kernel/inc/ke.h"
#include "kernel/inc/rtl.h"
#include "tests/kernel/misuse.h"

#define TAG 'kcuB'
#define OWNER "driver test"

//
// Code that is taken for a driver's.
//

extern const UCHAR KtReturnToDriver[], KtDriverReadInstruction[];

// Calls an exported routine with six arguments.
ULONG64 KtCallAsDriver(const VOID *Routine, const ULONG64 *Arguments);
ULONG64 KtReadAsDriver(const VOID *Va);

__asm__(".section .testdriver, \"ax\"\n"
        "KtCallAsDriver:\n"
        "    subq $56, %rsp\n"
        "    movq %rdi, %rax\n"
        "    movq 32(%rsi), %r10\n"
        "    movq %r10, 32(%rsp)\n"
        "    movq 40(%rsi), %r10\n"
        "    movq %r10, 40(%rsp)\n"
        "    movq (%rsi), %rcx\n"
        "    movq 8(%rsi), %rdx\n"
        "    movq 16(%rsi), %r8\n"
        "    movq 24(%rsi), %r9\n"
        "    callq *%rax\n"
        "KtReturnToDriver:\n"
        "    addq $56, %rsp\n"
        "    ret\n"
        "KtReadAsDriver:\n"
        "KtDriverReadInstruction: movq (%rdi), %rax\n"
        "    ret\n"
        ".text\n");

#define AS_DRIVER(Routine, ...)                                                                    \
    KtCallAsDriver((const VOID *)(Routine), (const ULONG64[6]){__VA_ARGS__})

//
// IRQL: each routine one level above its highest.
//

typedef struct _IRQL_TEST {
    PCSTR Name;
    const VOID *Routine;
    KIRQL Irql;
    ULONG64 First; // arguments; AN_MDL: the address of an MDL
    ULONG64 Second;
} IRQL_TEST;

#define ABOVE_DISPATCH (DISPATCH_LEVEL + 1)
#define AN_MDL 0x4D444Cull
#define A_PLACE 0xFFFFF90000001000ull // addresses that nobody looks at
#define A_USER_PLACE 0x10000ull

#define IRQL_ROW(Routine, Irql, First, Second)                                                     \
    {                                                                                              \
        "Irql" #Routine, (const VOID *)Routine, Irql, First, Second                                \
    }

static const IRQL_TEST IrqlTests[] = {
    IRQL_ROW(MmMapIoSpace, ABOVE_DISPATCH, KT_APIC_BASE, 64),
    IRQL_ROW(MmMapIoSpaceEx, ABOVE_DISPATCH, KT_APIC_BASE, 64),
    IRQL_ROW(MmUnmapIoSpace, ABOVE_DISPATCH, A_PLACE, 64),
    IRQL_ROW(MmMapVideoDisplay, APC_LEVEL, KT_APIC_BASE, 64),
    IRQL_ROW(MmUnmapVideoDisplay, APC_LEVEL, A_PLACE, 64),
    IRQL_ROW(MmProbeAndLockPages, ABOVE_DISPATCH, AN_MDL, KernelMode),
    IRQL_ROW(MmProbeAndLockProcessPages, ABOVE_DISPATCH, AN_MDL, 0),
    IRQL_ROW(MmProbeAndLockSelectedPages, ABOVE_DISPATCH, AN_MDL, 0),
    IRQL_ROW(MmMapLockedPages, ABOVE_DISPATCH, AN_MDL, KernelMode),
    {"IrqlMmMapLockedPagesUser", (const VOID *)MmMapLockedPages, DISPATCH_LEVEL, AN_MDL, UserMode},
    IRQL_ROW(MmMapLockedPagesSpecifyCache, ABOVE_DISPATCH, AN_MDL, KernelMode),
    {"IrqlMmMapLockedPagesSpecifyCacheUser", (const VOID *)MmMapLockedPagesSpecifyCache,
     DISPATCH_LEVEL, AN_MDL, UserMode},
    IRQL_ROW(MmUnlockPages, ABOVE_DISPATCH, AN_MDL, 0),
    IRQL_ROW(MmUnmapLockedPages, ABOVE_DISPATCH, A_PLACE, AN_MDL),
    {"IrqlMmUnmapLockedPagesUser", (const VOID *)MmUnmapLockedPages, DISPATCH_LEVEL, A_USER_PLACE,
     AN_MDL},
    IRQL_ROW(MmAllocatePagesForMdl, ABOVE_DISPATCH, 0, 0),
    IRQL_ROW(MmAllocatePagesForMdlEx, ABOVE_DISPATCH, 0, 0),
    IRQL_ROW(MmAllocateNodePagesForMdlEx, ABOVE_DISPATCH, 0, 0),
    IRQL_ROW(MmFreePagesFromMdl, ABOVE_DISPATCH, AN_MDL, 0),
    IRQL_ROW(MmFreePagesFromMdlEx, ABOVE_DISPATCH, AN_MDL, 0),
    IRQL_ROW(MmAllocateMdlForIoSpace, ABOVE_DISPATCH, 0, 0),
    IRQL_ROW(IoAllocateMdl, ABOVE_DISPATCH, 0, PAGE_SIZE),
    IRQL_ROW(IoFreeMdl, ABOVE_DISPATCH, AN_MDL, 0),
    IRQL_ROW(IoBuildPartialMdl, ABOVE_DISPATCH, AN_MDL, AN_MDL),
    IRQL_ROW(MmBuildMdlForNonPagedPool, ABOVE_DISPATCH, AN_MDL, 0),
    IRQL_ROW(MmAdvanceMdl, ABOVE_DISPATCH, AN_MDL, 1),
    IRQL_ROW(MmProtectMdlSystemAddress, ABOVE_DISPATCH, AN_MDL, PAGE_READONLY),
    IRQL_ROW(MmMapMdl, ABOVE_DISPATCH, AN_MDL, PAGE_READONLY),
    IRQL_ROW(MmMapLockedPagesWithReservedMapping, ABOVE_DISPATCH, A_PLACE, TAG),
    IRQL_ROW(MmUnmapReservedMapping, ABOVE_DISPATCH, A_PLACE, TAG),
    IRQL_ROW(MmAllocateMappingAddress, DISPATCH_LEVEL, PAGE_SIZE, TAG),
    IRQL_ROW(MmAllocateMappingAddressEx, DISPATCH_LEVEL, PAGE_SIZE, TAG),
    IRQL_ROW(MmFreeMappingAddress, DISPATCH_LEVEL, A_PLACE, TAG),
    IRQL_ROW(MmIsAddressValid, ABOVE_DISPATCH, A_PLACE, 0),
    IRQL_ROW(MmAllocateContiguousMemory, ABOVE_DISPATCH, PAGE_SIZE, MAXULONG64),
    IRQL_ROW(MmAllocateContiguousMemorySpecifyCache, ABOVE_DISPATCH, PAGE_SIZE, 0),
    IRQL_ROW(MmAllocateContiguousMemorySpecifyCacheNode, ABOVE_DISPATCH, PAGE_SIZE, 0),
    IRQL_ROW(MmAllocateContiguousMemoryEx, ABOVE_DISPATCH, A_PLACE, 0),
    IRQL_ROW(MmAllocateContiguousNodeMemory, ABOVE_DISPATCH, PAGE_SIZE, 0),
    IRQL_ROW(MmFreeContiguousMemory, ABOVE_DISPATCH, A_PLACE, 0),
    IRQL_ROW(MmFreeContiguousMemorySpecifyCache, ABOVE_DISPATCH, A_PLACE, PAGE_SIZE),
    IRQL_ROW(MmAllocateNonCachedMemory, DISPATCH_LEVEL, PAGE_SIZE, 0),
    IRQL_ROW(MmFreeNonCachedMemory, DISPATCH_LEVEL, A_PLACE, PAGE_SIZE),
    IRQL_ROW(MmCopyMemory, DISPATCH_LEVEL, A_PLACE, A_PLACE),
    IRQL_ROW(MmGetPhysicalMemoryRanges, APC_LEVEL, 0, 0),
    IRQL_ROW(MmGetPhysicalMemoryRangesEx, APC_LEVEL, 0, 0),
    IRQL_ROW(MmGetPhysicalMemoryRangesEx2, APC_LEVEL, 0, 0),
    IRQL_ROW(ExAllocatePool2, ABOVE_DISPATCH, POOL_FLAG_NON_PAGED, 64),
    IRQL_ROW(ExAllocatePoolWithTag, ABOVE_DISPATCH, NonPagedPoolNx, 64),
    {"IrqlExAllocatePool2Paged", (const VOID *)ExAllocatePool2, DISPATCH_LEVEL, POOL_FLAG_PAGED,
     64},
};

static ULONG64 ArgumentOf(ULONG64 Value, PMDL Mdl)
{
    return Value == AN_MDL ? (ULONG64)Mdl : Value;
}

static VOID BreakIrqlRule(const IRQL_TEST *Test)
{
    KIRQL OldIrql;
    const PMDL Mdl = IoAllocateMdl(NULL, PAGE_SIZE, FALSE, FALSE, NULL);
    NEED(Mdl != NULL);
    const ULONG64 First = ArgumentOf(Test->First, Mdl);
    const ULONG64 Second = ArgumentOf(Test->Second, Mdl);
    Announce(3, First);
    Announce(4, Second);
    KeRaiseIrql(Test->Irql, &OldIrql);
    AS_DRIVER(Test->Routine, First, Second, TAG);
}

//
// MDLs.
//

static PMDL MdlOver(PVOID Va, ULONG ByteCount)
{
    return Va == NULL ? NULL : IoAllocateMdl(Va, ByteCount, FALSE, FALSE, NULL);
}

static PVOID Map(PMDL Mdl)
{
    return Mdl == NULL
               ? NULL
               : MmGetSystemAddressForMdlSafe(Mdl, NormalPagePriority | MdlMappingNoExecute);
}

// An MDL whose memory is locked.
static PMDL LockedMdl(VOID)
{
    const PMDL Mdl = MdlOver(ExAllocatePool2(POOL_FLAG_NON_PAGED, PAGE_SIZE, TAG), PAGE_SIZE);
    if (Mdl != NULL) {
        MmProbeAndLockPages(Mdl, KernelMode, IoWriteAccess);
    }
    return Mdl;
}

static PMDL PartialOf(PMDL Source)
{
    const PMDL Partial = IoAllocateMdl(NULL, PAGE_SIZE, FALSE, FALSE, NULL);
    if (Partial != NULL) {
        IoBuildPartialMdl(Source, Partial, MmGetMdlVirtualAddress(Source), PAGE_SIZE);
    }
    return Partial;
}

static VOID AnnounceMdl(PMDL Mdl)
{
    AnnouncePointer(2, Mdl);
    Announce(3, (USHORT)Mdl->MdlFlags);
}

static VOID LockDeviceMemory(VOID)
{
    const PMDL Mdl =
        MdlOver(MmMapIoSpace(KtPhysical(KT_APIC_BASE), PAGE_SIZE, MmNonCached), PAGE_SIZE);
    NEED(Mdl != NULL);
    AnnouncePointer(2, Mdl);
    MmProbeAndLockPages(Mdl, KernelMode, IoReadAccess);
}

static VOID LockTwice(VOID)
{
    const PMDL Mdl = LockedMdl();
    NEED(Mdl != NULL);
    AnnounceMdl(Mdl);
    MmProbeAndLockPages(Mdl, KernelMode, IoWriteAccess);
}

static VOID LockTwiceForProcess(VOID)
{
    const PMDL Mdl = LockedMdl();
    NEED(Mdl != NULL);
    AnnounceMdl(Mdl);
    MmProbeAndLockProcessPages(Mdl, NULL, KernelMode, IoWriteAccess);
}

static VOID UnlockNeverLocked(VOID)
{
    const PMDL Mdl = MdlOver(ExAllocatePool2(POOL_FLAG_NON_PAGED, 100, TAG), 100);
    NEED(Mdl != NULL);
    AnnounceMdl(Mdl);
    MmUnlockPages(Mdl);
}

static VOID UnlockNonPagedPool(VOID)
{
    const PMDL Mdl = MdlOver(ExAllocatePool2(POOL_FLAG_NON_PAGED, 100, TAG), 100);
    NEED(Mdl != NULL);
    MmBuildMdlForNonPagedPool(Mdl);
    AnnounceMdl(Mdl);
    MmUnlockPages(Mdl);
}

static VOID UnlockPartial(VOID)
{
    const PMDL Source = LockedMdl();
    NEED(Source != NULL);
    const PMDL Partial = PartialOf(Source);
    NEED(Partial != NULL);
    AnnounceMdl(Partial);
    MmUnlockPages(Partial);
}

static VOID BuildMdlOverPagedPool(VOID)
{
    const PMDL Mdl = MdlOver(ExAllocatePool2(POOL_FLAG_PAGED, 100, TAG), 100);
    NEED(Mdl != NULL);
    AnnouncePointer(3, Mdl);
    MmBuildMdlForNonPagedPool(Mdl);
}

static VOID BuildMdlOverStack(VOID)
{
    UCHAR Buffer[64];
    const PMDL Mdl = MdlOver(Buffer, sizeof(Buffer));
    NEED(Mdl != NULL);
    AnnouncePointer(3, Mdl);
    AnnouncePointer(4, PAGE_ALIGN(Buffer));
    MmBuildMdlForNonPagedPool(Mdl);
}

static VOID MapUnlockedRam(VOID)
{
    const ULONG64 Address = KtFindFreeFrames(1);
    Announce(2, Address);
    Announce(4, Address >> PAGE_SHIFT);
    (VOID) !MmMapIoSpace(KtPhysical(Address), 100, MmCached);
}

static VOID MapUnlockedRamAsVideo(VOID)
{
    const ULONG64 Address = KtFindFreeFrames(1);
    Announce(2, Address);
    Announce(4, Address >> PAGE_SHIFT);
    (VOID) !MmMapVideoDisplay(KtPhysical(Address), 100, MmCached);
}

static VOID MapUnlockedFrame(VOID)
{
    const PMDL Mdl = IoAllocateMdl(NULL, PAGE_SIZE, FALSE, FALSE, NULL);
    NEED(Mdl != NULL);
    MmGetMdlPfnArray(Mdl)[0] = KtFindFreeFrames(1) >> PAGE_SHIFT;
    Mdl->MdlFlags |= MDL_PAGES_LOCKED;
    AnnouncePointer(2, Mdl);
    Announce(4, MmGetMdlPfnArray(Mdl)[0]);
    (VOID) !Map(Mdl);
}

static VOID MapUnmarkedDeviceMemory(VOID)
{
    const PMDL Mdl = KtAllocateGapMdl(1);
    NEED(Mdl != NULL);
    Mdl->MdlFlags &= ~MDL_IO_SPACE;
    AnnouncePointer(2, Mdl);
    AnnouncePointer(3, MmGetMdlPfnArray(Mdl));
    Announce(4, MmGetMdlPfnArray(Mdl)[0]);
    (VOID) !Map(Mdl);
}

static VOID MapMdlTwice(VOID)
{
    const PMDL Mdl = KtAllocatePages(1);
    NEED(Map(Mdl) != NULL);
    AnnounceMdl(Mdl);
    (VOID) !MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmCached, NULL, FALSE, 0);
}

static VOID MapMdlNotLocked(VOID)
{
    const PMDL Mdl = IoAllocateMdl(NULL, PAGE_SIZE, FALSE, FALSE, NULL);
    NEED(Mdl != NULL);
    AnnounceMdl(Mdl);
    (VOID) !Map(Mdl);
}

static VOID MapWithUnknownPriority(VOID)
{
    const PMDL Mdl = KtAllocatePages(1);
    NEED(Mdl != NULL);
    AnnouncePointer(2, Mdl);
    (VOID) !MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmCached, NULL, FALSE, 1u << 20);
}

static VOID MapReservedUnaligned(VOID)
{
    const PMDL Mdl = KtAllocatePages(1);
    PVOID Base = MmAllocateMappingAddress(PAGE_SIZE, TAG);
    NEED(Mdl != NULL && Base != NULL);
    AnnouncePointer(2, KtAdd(Base, 4));
    AnnouncePointer(3, Mdl);
    (VOID) !MmMapLockedPagesWithReservedMapping(KtAdd(Base, 4), TAG, Mdl, MmCached);
}

static VOID UnmapInheritedAddress(VOID)
{
    const PMDL Source = LockedMdl();
    NEED(Map(Source) != NULL);
    const PMDL Partial = PartialOf(Source);
    NEED(Partial != NULL);
    AnnounceMdl(Partial);
    MmUnmapLockedPages(Partial->MappedSystemVa, Partial);
}

static VOID UnmapMdlNotMappedAtLevel1(VOID)
{
    const PMDL Mdl = KtAllocatePages(1);
    NEED(Mdl != NULL);
    AnnounceMdl(Mdl);
    MmUnmapLockedPages((PVOID)A_PLACE, Mdl);
}

static VOID UnmapUserAddress(VOID)
{
    const PMDL Mdl = KtAllocatePages(1);
    NEED(Mdl != NULL);
    AnnouncePointer(3, Mdl);
    MmUnmapLockedPages((PVOID)A_USER_PLACE, Mdl);
}

static VOID FreeMappedMdl(VOID)
{
    const PMDL Mdl = KtAllocateGapMdl(1);
    NEED(Map(Mdl) != NULL);
    AnnounceMdl(Mdl);
    IoFreeMdl(Mdl);
}

static VOID FreeLockedMdl(VOID)
{
    const PMDL Mdl = LockedMdl();
    NEED(Mdl != NULL);
    AnnounceMdl(Mdl);
    IoFreeMdl(Mdl);
}

// Asked for by the tests, whose owner is no driver: a driver would have stopped at the request.
static VOID UseUpAddresses(VOID)
{
    const PMDL Mdl = KtAllocatePages(1);
    NEED(Mdl != NULL && MmMapIoSpace(KtPhysical(KT_APIC_BASE), PAGE_SIZE, MmNonCached) != NULL);
    MmStartFailures(MM_FAIL_ADDRESSES, 0, MAXULONG);
    (VOID) !MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmCached, NULL, TRUE, NormalPagePriority);
}

//
// Advice for drivers.
//

static VOID DriverMapsOrStops(VOID)
{
    const PMDL Mdl = KtAllocatePages(1);
    NEED(Mdl != NULL);
    AnnounceMdl(Mdl);
    AS_DRIVER(MmMapLockedPagesSpecifyCache, (ULONG64)Mdl, KernelMode, MmCached, 0, TRUE,
              MdlMappingNoExecute);
}

static VOID DriverMapsTheOldWay(VOID)
{
    const PMDL Mdl = KtAllocatePages(1);
    NEED(Mdl != NULL);
    AnnounceMdl(Mdl);
    AS_DRIVER(MmMapLockedPages, (ULONG64)Mdl, KernelMode);
}

static VOID DriverMapsExecutable(VOID)
{
    const PMDL Mdl = KtAllocatePages(1);
    NEED(Mdl != NULL);
    AnnouncePointer(2, KtReturnToDriver);
    AS_DRIVER(MmMapLockedPagesSpecifyCache, (ULONG64)Mdl, KernelMode, MmCached, 0, FALSE,
              NormalPagePriority);
}

static VOID DriverMapsIoSpaceExecutable(VOID)
{
    AnnouncePointer(2, KtReturnToDriver);
    AS_DRIVER(MmMapIoSpaceEx, KT_APIC_BASE, PAGE_SIZE, PAGE_EXECUTE_READ | PAGE_NOCACHE);
}

static VOID DriverWantsLowMemory(VOID)
{
    AS_DRIVER(MmAllocateContiguousMemory, PAGE_SIZE, MAXULONG);
}

static VOID DriverWantsExecutableMemory(VOID)
{
    AnnouncePointer(2, KtReturnToDriver);
    AS_DRIVER(MmAllocateContiguousNodeMemory, PAGE_SIZE, 0, MAXULONG64, 0, PAGE_EXECUTE_READWRITE,
              MM_ANY_NODE_OK);
}

static VOID DriverWantsExecutablePool(VOID)
{
    AnnouncePointer(2, KtReturnToDriver);
    AS_DRIVER(ExAllocatePoolWithTag, NonPagedPool, 64, TAG);
}

//
// Pool.
//

static PUCHAR AllocateSpecial(SIZE_T ByteCount)
{
    return ExAllocatePool2(POOL_FLAG_NON_PAGED, ByteCount, TAG);
}

static VOID AllocateNoBytes(VOID)
{
    (VOID) !AllocateSpecial(0);
}

static VOID AllocateNoBytesTheOldWay(VOID)
{
    (VOID) !ExAllocatePoolWithTag(NonPagedPoolNx, 0, TAG);
}

static VOID WriteBeyondBlock(VOID)
{
    const PUCHAR Block = AllocateSpecial(96);
    NEED(Block != NULL);
    AnnouncePointer(1, Block + 96);
    *(volatile UCHAR *)(Block + 96) = 1;
}

static VOID ReadFreedBlock(VOID)
{
    const PUCHAR Block = AllocateSpecial(96);
    NEED(Block != NULL);
    ExFreePool(Block);
    AnnouncePointer(1, Block);
    (VOID) * (volatile UCHAR *)Block;
}

static VOID DriverReadsFreedBlock(VOID)
{
    const PUCHAR Block = AllocateSpecial(96);
    NEED(Block != NULL);
    ExFreePool(Block);
    AnnouncePointer(1, Block);
    AnnouncePointer(3, KtDriverReadInstruction);
    (VOID) KtReadAsDriver(Block);
}

static VOID DriverReadsBeyondBlock(VOID)
{
    const PUCHAR Block = AllocateSpecial(2 * PAGE_SIZE);
    NEED(Block != NULL);
    AnnouncePointer(1, Block + 2 * PAGE_SIZE);
    AnnouncePointer(3, KtDriverReadInstruction);
    (VOID) KtReadAsDriver(Block + 2 * PAGE_SIZE);
}

static VOID FreeChanged(SIZE_T ByteCount, LONG Offset)
{
    const PUCHAR Block = AllocateSpecial(ByteCount);
    NEED(Block != NULL);
    Block[Offset] += 1;
    AnnouncePointer(1, Block);
    AnnouncePointer(2, Block + Offset);
    ExFreePool(Block);
}

static VOID WriteBeforeBlock(VOID)
{
    FreeChanged(96, -1);
}

static VOID WriteBehindBlock(VOID)
{
    FreeChanged(90, 90);
}

static VOID FreeInsideSpecialBlock(VOID)
{
    const PUCHAR Block = AllocateSpecial(96);
    NEED(Block != NULL);
    AnnouncePointer(1, Block + 32);
    ExFreePool(Block + 32);
}

static VOID FreeSpecialTwice(VOID)
{
    const PUCHAR Block = AllocateSpecial(96);
    NEED(Block != NULL);
    ExFreePool(Block);
    AnnouncePointer(4, Block);
    ExFreePool(Block);
}

static VOID FreePagedPoolAtDispatch(VOID)
{
    KIRQL OldIrql;
    const PVOID Block = ExAllocatePool2(POOL_FLAG_PAGED, 96, TAG);
    NEED(Block != NULL);
    AnnouncePointer(4, Block);
    KeRaiseIrql(DISPATCH_LEVEL, &OldIrql);
    ExFreePool(Block);
}

//
// Leaks.
//

static VOID LeakPool(VOID)
{
    static const CHAR Owner[] = OWNER;
    AS_DRIVER(ExAllocatePool2, POOL_FLAG_NON_PAGED, 100, TAG);
    AS_DRIVER(MmMapIoSpace, KT_APIC_BASE, PAGE_SIZE, MmNonCached);
    AnnouncePointer(2, Owner);
    MmCheckUnload(Owner);
}

static VOID LeaveLockedPages(VOID)
{
    const PMDL Mdl = MdlOver(AllocateSpecial(2 * PAGE_SIZE), 2 * PAGE_SIZE);
    NEED(Mdl != NULL);
    AS_DRIVER(MmProbeAndLockPages, (ULONG64)Mdl, KernelMode, IoReadAccess);
    AnnouncePointer(1, KtReturnToDriver);
    AnnouncePointer(3, Mdl);
    MmCheckUnload(OWNER);
}

static const MISUSE_TEST Tests[] = {
    MISUSE(LockDeviceMemory),
    MISUSE(LockTwice),
    MISUSE(LockTwiceForProcess),
    MISUSE(UnlockNeverLocked),
    MISUSE(UnlockNonPagedPool),
    MISUSE(UnlockPartial),
    MISUSE(BuildMdlOverPagedPool),
    MISUSE(BuildMdlOverStack),
    MISUSE(MapUnlockedRam),
    MISUSE(MapUnlockedRamAsVideo),
    MISUSE(MapUnlockedFrame),
    MISUSE(MapUnmarkedDeviceMemory),
    MISUSE(MapMdlTwice),
    MISUSE(MapMdlNotLocked),
    MISUSE(MapWithUnknownPriority),
    MISUSE(MapReservedUnaligned),
    MISUSE(UnmapInheritedAddress),
    MISUSE(UnmapMdlNotMappedAtLevel1),
    MISUSE(UnmapUserAddress),
    MISUSE(UseUpAddresses),
    MISUSE(FreeMappedMdl),
    MISUSE(FreeLockedMdl),
    MISUSE(DriverMapsOrStops),
    MISUSE(DriverMapsTheOldWay),
    MISUSE(DriverMapsExecutable),
    MISUSE(DriverMapsIoSpaceExecutable),
    MISUSE(DriverWantsLowMemory),
    MISUSE(DriverWantsExecutableMemory),
    MISUSE(DriverWantsExecutablePool),
    MISUSE(AllocateNoBytes),
    MISUSE(AllocateNoBytesTheOldWay),
    MISUSE(WriteBeyondBlock),
    MISUSE(ReadFreedBlock),
    MISUSE(DriverReadsFreedBlock),
    MISUSE(DriverReadsBeyondBlock),
    MISUSE(WriteBeforeBlock),
    MISUSE(WriteBehindBlock),
    MISUSE(FreeInsideSpecialBlock),
    MISUSE(FreeSpecialTwice),
    MISUSE(FreePagedPoolAtDispatch),
    MISUSE(LeakPool),
    MISUSE(LeaveLockedPages),
};

// Named by linker.ld.
extern const UCHAR KiTestTextStart[], KiTestTextEnd[];
extern const UCHAR KiTestDriverTextStart[], KiTestDriverTextEnd[];

static KT_ROUTINE *FindTest(PCSTR Name)
{
    for (ULONG Index = 0; Index < ARRAYSIZE(Tests); Index += 1) {
        if (RtlStringsEqual(Tests[Index].Name, Name)) {
            return Tests[Index].Routine;
        }
    }
    return NULL;
}

static const IRQL_TEST *FindIrqlTest(PCSTR Name)
{
    for (ULONG Index = 0; Index < ARRAYSIZE(IrqlTests); Index += 1) {
        if (RtlStringsEqual(IrqlTests[Index].Name, Name)) {
            return &IrqlTests[Index];
        }
    }
    return NULL;
}

BOOLEAN KtRunViolation(PCSTR Name)
{
    KT_ROUTINE *const Routine = FindTest(Name);
    const IRQL_TEST *const IrqlTest = FindIrqlTest(Name);
    KiRegisterCode(OWNER, (ULONG_PTR)KiTestDriverTextStart,
                   (SIZE_T)(KiTestDriverTextEnd - KiTestDriverTextStart), TRUE);
    KiRegisterCode("self-tests", (ULONG_PTR)KiTestTextStart,
                   (SIZE_T)(KiTestTextEnd - KiTestTextStart), FALSE);
    if (MmVerifierLevel == 0 && (Routine != NULL || IrqlTest != NULL)) {
        DbgPrint("%s needs the boot option verifier=1\n", Name);
    } else if (Routine != NULL) {
        Routine();
    } else if (IrqlTest != NULL) {
        BreakIrqlRule(IrqlTest);
    }
    return Routine != NULL || IrqlTest != NULL;
}
