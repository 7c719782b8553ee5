// What a caller must never do: each test commits one misuse and must end in a bug check. One boot
// each, chosen by the boot option `bugcheck=<name>`; the table of expected codes and parameters is
// tests/qemu/bugchecks.py.
//
// Parameters that only the running kernel can know (addresses, frames) are announced before the
// misuse, for the host to compare:
//
//   # param 2 0xfffff88000001000
#include "kernel/inc/interrupt.h"
#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "kernel/inc/ldr.h"
#include "kernel/inc/rtl.h"
#include "tests/examples/examples.h"
#include "tests/kernel/misuse.h"
#include "tests/kernel/reference.h"

#define TAG 'kcuB'
#define OTHER_TAG 'rhtO'

//
// Instructions whose place is known: one access each, and a call of which the return address is
// known.
//

extern const UCHAR KtReadInstruction[], KtWriteInstruction[], KtDivideInstruction[],
    KtReturnFromCall[];
ULONG64 KtReadAt(const VOID *Va);
VOID KtWriteAt(PVOID Va);
VOID KtDivideByZero(VOID);
VOID KtOverflowStack(VOID);
// Calls an exported routine with up to three arguments.
ULONG64 KtCallRoutine(const VOID *Routine, ULONG64 First, ULONG64 Second, ULONG64 Third);

__asm__(".text\n"
        "KtReadAt:\n"
        "KtReadInstruction: movq (%rdi), %rax\n"
        "    ret\n"
        "KtWriteAt:\n"
        "KtWriteInstruction: movb $0, (%rdi)\n"
        "    ret\n"
        "KtDivideByZero:\n"
        "    xorl %ecx, %ecx\n"
        "    xorl %edx, %edx\n"
        "KtDivideInstruction: divl %ecx\n"
        "    ret\n"
        "KtOverflowStack:\n"
        "    pushq %rax\n"
        "    jmp KtOverflowStack\n"
        "KtCallRoutine:\n"
        "    subq $40, %rsp\n"
        "    movq %rdi, %rax\n"
        "    movq %rcx, %r8\n"
        "    movq %rsi, %rcx\n"
        "    callq *%rax\n"
        "KtReturnFromCall:\n"
        "    addq $40, %rsp\n"
        "    ret\n");

//
// What the tests misuse.
//

static PVOID MapGap(ULONG PageCount, ULONG Protect)
{
    return MmMapIoSpaceEx(KtPhysical(KtFindGap((ULONG64)PageCount * PAGE_SIZE, PAGE_SIZE)),
                          (SIZE_T)PageCount * PAGE_SIZE, Protect);
}

static PVOID MapMdl(PMDL Mdl)
{
    return Mdl == NULL ? NULL : MmGetSystemAddressForMdlSafe(Mdl, NormalPagePriority);
}

static PVOID Reserve(ULONG PageCount)
{
    return MmAllocateMappingAddress((SIZE_T)PageCount * PAGE_SIZE, TAG);
}

static PVOID MapReserved(PVOID Base, PMDL Mdl)
{
    return Base == NULL || Mdl == NULL
               ? NULL
               : MmMapLockedPagesWithReservedMapping(Base, TAG, Mdl, MmCached);
}

//
// 0xDA: MmUnmapIoSpace.
//

static VOID UnmapIoSpaceTwice(VOID)
{
    PVOID Va = MapGap(3, PAGE_READWRITE);
    NEED(Va != NULL);
    MmUnmapIoSpace(Va, 3 * PAGE_SIZE);
    AnnouncePointer(2, Va);
    MmUnmapIoSpace(Va, 3 * PAGE_SIZE);
}

static VOID UnmapIoSpaceInAnExample(VOID)
{
    ExampleUnmapTwice(KtPhysical(KT_APIC_BASE));
}

static VOID UnmapIoSpaceUnknown(VOID)
{
    static UCHAR Object[16];
    AnnouncePointer(2, Object);
    MmUnmapIoSpace(Object, 1);
}

static VOID UnmapIoSpaceTooMuch(VOID)
{
    PVOID Va = MapGap(3, PAGE_READWRITE);
    NEED(Va != NULL);
    AnnouncePointer(2, Va);
    MmUnmapIoSpace(Va, 4 * PAGE_SIZE);
}

static VOID UnmapIoSpaceTooLittle(VOID)
{
    PVOID Va = MapGap(3, PAGE_READWRITE);
    NEED(Va != NULL);
    AnnouncePointer(2, Va);
    MmUnmapIoSpace(Va, 2 * PAGE_SIZE);
}

static VOID UnmapIoSpaceInside(VOID)
{
    PVOID Va = MapGap(3, PAGE_READWRITE);
    NEED(Va != NULL);
    AnnouncePointer(2, KtAdd(Va, PAGE_SIZE));
    MmUnmapIoSpace(KtAdd(Va, PAGE_SIZE), 2 * PAGE_SIZE);
}

static VOID UnmapIoSpaceZeroBytes(VOID)
{
    PVOID Va = MapGap(1, PAGE_READWRITE);
    NEED(Va != NULL);
    AnnouncePointer(2, Va);
    MmUnmapIoSpace(Va, 0);
}

static VOID UnmapIoSpaceOfAnMdl(VOID)
{
    PVOID Va = MapMdl(KtAllocatePages(1));
    NEED(Va != NULL);
    AnnouncePointer(2, Va);
    MmUnmapIoSpace(Va, PAGE_SIZE);
}

static VOID UnmapIoSpaceOfAReservation(VOID)
{
    PVOID Base = Reserve(1);
    NEED(Base != NULL);
    AnnouncePointer(2, Base);
    MmUnmapIoSpace(Base, PAGE_SIZE);
}

//
// 0xDA: MmUnmapLockedPages.
//

static VOID UnmapMdlNotMapped(VOID)
{
    PMDL Mdl = KtAllocatePages(2);
    PVOID Va = MapGap(2, PAGE_READWRITE);
    NEED(Mdl != NULL && Va != NULL);
    AnnouncePointer(2, Mdl);
    AnnouncePointer(3, Va);
    MmUnmapLockedPages(Va, Mdl);
}

static VOID UnmapMdlTwice(VOID)
{
    PMDL Mdl = KtAllocatePages(2);
    PVOID Va = MapMdl(Mdl);
    NEED(Va != NULL);
    MmUnmapLockedPages(Va, Mdl);
    AnnouncePointer(2, Mdl);
    AnnouncePointer(3, Va);
    MmUnmapLockedPages(Va, Mdl);
}

static VOID UnmapMdlOfAReservation(VOID)
{
    PMDL Mdl = KtAllocatePages(1);
    PVOID Base = Reserve(1);
    NEED(MapReserved(Base, Mdl) != NULL);
    AnnouncePointer(2, Base);
    MmUnmapLockedPages(Base, Mdl);
}

static VOID UnmapMdlChangedSize(VOID)
{
    PMDL Mdl = KtAllocatePages(3);
    PVOID Va = MapMdl(Mdl);
    NEED(Va != NULL);
    Mdl->ByteCount = 2 * PAGE_SIZE;
    MmUnmapLockedPages(Va, Mdl);
}

static VOID UnmapMdlWrongAddress(VOID)
{
    PMDL Mdl = KtAllocatePages(3);
    PVOID Va = MapMdl(Mdl);
    NEED(Va != NULL);
    AnnouncePointer(3, Va);
    AnnouncePointer(4, KtAdd(Va, PAGE_SIZE));
    MmUnmapLockedPages(KtAdd(Va, PAGE_SIZE), Mdl);
}

static VOID UnmapMdlChangedFrame(VOID)
{
    PMDL Mdl = KtAllocatePages(2);
    PVOID Va = MapMdl(Mdl);
    NEED(Va != NULL);
    Announce(3, MmGetMdlPfnArray(Mdl)[0]);
    MmGetMdlPfnArray(Mdl)[0] += 1;
    Announce(4, MmGetMdlPfnArray(Mdl)[0]);
    MmUnmapLockedPages(Va, Mdl);
}

static VOID UnmapMdlChangedStartVa(VOID)
{
    PMDL Mdl = KtAllocatePages(2);
    PVOID Va = MapMdl(Mdl);
    NEED(Va != NULL);
    Mdl->StartVa = (PVOID)(16 * PAGE_SIZE);
    MmUnmapLockedPages(Va, Mdl);
}

//
// 0xDA: reserved mappings.
//

static VOID ReserveZeroBytes(VOID)
{
    AnnouncePointer(4, KtReturnFromCall);
    (VOID) KtCallRoutine(MmAllocateMappingAddress, 0, TAG, 0);
}

static VOID FreeReservationWrongTag(VOID)
{
    PVOID Base = Reserve(2);
    NEED(Base != NULL);
    AnnouncePointer(2, Base);
    MmFreeMappingAddress(Base, OTHER_TAG);
}

static VOID FreeNoReservation(VOID)
{
    PVOID Va = MapGap(1, PAGE_READWRITE);
    NEED(Va != NULL);
    AnnouncePointer(2, Va);
    MmFreeMappingAddress(Va, TAG);
}

static VOID FreeReservationTwice(VOID)
{
    PVOID Base = Reserve(2);
    NEED(Base != NULL);
    MmFreeMappingAddress(Base, TAG);
    AnnouncePointer(2, Base);
    MmFreeMappingAddress(Base, TAG);
}

static VOID FreeReservationWhileMapped(VOID)
{
    PVOID Base = Reserve(5);
    NEED(MapReserved(Base, KtAllocatePages(2)) != NULL);
    AnnouncePointer(2, Base);
    MmFreeMappingAddress(Base, TAG);
}

static VOID MapReservationWrongTag(VOID)
{
    PMDL Mdl = KtAllocatePages(1);
    PVOID Base = Reserve(1);
    NEED(Mdl != NULL && Base != NULL);
    AnnouncePointer(2, Base);
    (VOID) !MmMapLockedPagesWithReservedMapping(Base, OTHER_TAG, Mdl, MmCached);
}

static VOID MapNoReservation(VOID)
{
    PMDL Mdl = KtAllocatePages(1);
    PVOID Va = MapGap(1, PAGE_READWRITE);
    NEED(Mdl != NULL && Va != NULL);
    AnnouncePointer(2, Va);
    (VOID) !MapReserved(Va, Mdl);
}

static VOID MapInsideReservation(VOID)
{
    PMDL Mdl = KtAllocatePages(1);
    PVOID Base = Reserve(3);
    NEED(Mdl != NULL && Base != NULL);
    AnnouncePointer(2, KtAdd(Base, PAGE_SIZE));
    (VOID) !MapReserved(KtAdd(Base, PAGE_SIZE), Mdl);
}

static VOID MapReservationTwice(VOID)
{
    PMDL Mdl = KtAllocatePages(2);
    PVOID Base = Reserve(4);
    NEED(Mdl != NULL && MapReserved(Base, KtAllocatePages(2)) != NULL);
    AnnouncePointer(2, Base);
    AnnouncePointer(3, Base);
    AnnouncePointer(4, KtAdd(Base, 3 * PAGE_SIZE));
    (VOID) !MapReserved(Base, Mdl);
}

static VOID UnmapReservationWrongTag(VOID)
{
    PMDL Mdl = KtAllocatePages(1);
    PVOID Base = Reserve(1);
    NEED(MapReserved(Base, Mdl) != NULL);
    AnnouncePointer(2, Base);
    MmUnmapReservedMapping(Base, OTHER_TAG, Mdl);
}

static VOID UnmapNoReservation(VOID)
{
    PMDL Mdl = KtAllocatePages(1);
    PVOID Va = MapGap(1, PAGE_READWRITE);
    NEED(Mdl != NULL && Va != NULL);
    AnnouncePointer(2, Va);
    MmUnmapReservedMapping(Va, TAG, Mdl);
}

static VOID UnmapReservationTooMany(VOID)
{
    PVOID Base = Reserve(3);
    PMDL Large = KtAllocatePages(4);
    NEED(Large != NULL && MapReserved(Base, KtAllocatePages(3)) != NULL);
    AnnouncePointer(2, Base);
    MmUnmapReservedMapping(Base, TAG, Large);
}

static VOID UnmapReservationNotMapped(VOID)
{
    PVOID Base = Reserve(3);
    PMDL Mdl = KtAllocatePages(2);
    NEED(Base != NULL && Mdl != NULL);
    AnnouncePointer(2, Base);
    MmUnmapReservedMapping(Base, TAG, Mdl);
}

static VOID UnmapReservationTwice(VOID)
{
    PVOID Base = Reserve(3);
    PMDL Mdl = KtAllocatePages(2);
    NEED(MapReserved(Base, Mdl) != NULL);
    MmUnmapReservedMapping(Base, TAG, Mdl);
    AnnouncePointer(2, Base);
    MmUnmapReservedMapping(Base, TAG, Mdl);
}

static VOID UnmapReservationPartly(VOID)
{
    PVOID Base = Reserve(3);
    PMDL Small = KtAllocatePages(1);
    NEED(Small != NULL && MapReserved(Base, KtAllocatePages(3)) != NULL);
    AnnouncePointer(2, Base);
    MmUnmapReservedMapping(Base, TAG, Small);
}

static VOID UnmapReservationOtherMdl(VOID)
{
    PVOID Base = Reserve(3);
    PMDL Other = KtAllocatePages(2);
    NEED(Other != NULL && MapReserved(Base, KtAllocatePages(2)) != NULL);
    AnnouncePointer(2, Other);
    AnnouncePointer(3, Base);
    MmUnmapReservedMapping(Base, TAG, Other);
}

//
// 0x1A, 0x4E: frames.
//

// An MDL that calls itself locked, of a frame that is free again.
static PMDL MakeMdlOfFreeFrame(VOID)
{
    PMDL Pages = KtAllocatePages(1);
    PMDL Mdl = IoAllocateMdl(NULL, PAGE_SIZE, FALSE, FALSE, NULL);
    if (Pages == NULL || Mdl == NULL) {
        return NULL;
    }
    MmGetMdlPfnArray(Mdl)[0] = MmGetMdlPfnArray(Pages)[0];
    Mdl->MdlFlags |= MDL_PAGES_LOCKED;
    KtFreePages(Pages);
    return Mdl;
}

static VOID AnnounceBadFrame(PMDL Mdl)
{
    AnnouncePointer(2, Mdl);
    AnnouncePointer(3, MmGetMdlPfnArray(Mdl));
    Announce(4, MmGetMdlPfnArray(Mdl)[0]);
}

static VOID MapFreeFrame(VOID)
{
    PMDL Mdl = MakeMdlOfFreeFrame();
    NEED(Mdl != NULL);
    AnnounceBadFrame(Mdl);
    (VOID) !MapMdl(Mdl);
}

static VOID MapFreeFrameIntoReservation(VOID)
{
    PMDL Mdl = MakeMdlOfFreeFrame();
    PVOID Base = Reserve(1);
    NEED(Mdl != NULL && Base != NULL);
    AnnounceBadFrame(Mdl);
    (VOID) !MapReserved(Base, Mdl);
}

static VOID MapPageTableFrame(VOID)
{
    PMDL Mdl = MakeMdlOfFreeFrame();
    NEED(Mdl != NULL);
    MmGetMdlPfnArray(Mdl)[0] = (RefReadCr3() & REF_FRAME) >> PAGE_SHIFT;
    AnnounceBadFrame(Mdl);
    (VOID) !MapMdl(Mdl);
}

static VOID FreePagesTwice(VOID)
{
    PMDL Mdl = KtAllocatePages(2);
    NEED(Mdl != NULL);
    MmFreePagesFromMdl(Mdl);
    AnnouncePointer(2, Mdl);
    AnnouncePointer(3, MmGetMdlPfnArray(Mdl));
    MmFreePagesFromMdl(Mdl);
}

static VOID FreePagesOfPool(VOID)
{
    PVOID Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, PAGE_SIZE, TAG);
    PMDL Mdl = IoAllocateMdl(Block, PAGE_SIZE, FALSE, FALSE, NULL);
    NEED(Block != NULL && Mdl != NULL);
    MmBuildMdlForNonPagedPool(Mdl);
    AnnounceBadFrame(Mdl);
    MmFreePagesFromMdl(Mdl);
}

static PVOID Contiguous(MEMORY_CACHING_TYPE CacheType)
{
    return MmAllocateContiguousMemorySpecifyCache(2 * PAGE_SIZE, KtPhysical(0),
                                                  KtPhysical(MAXULONG64), KtPhysical(0), CacheType);
}

static VOID FreeContiguousUnknown(VOID)
{
    static UCHAR Object[16];
    AnnouncePointer(2, Object);
    MmFreeContiguousMemory(Object);
}

static VOID FreeContiguousTwice(VOID)
{
    PVOID Va = Contiguous(MmNonCached);
    NEED(Va != NULL);
    MmFreeContiguousMemory(Va);
    AnnouncePointer(2, Va);
    MmFreeContiguousMemory(Va);
}

static VOID FreeContiguousInside(VOID)
{
    PVOID Va = Contiguous(MmCached);
    NEED(Va != NULL);
    AnnouncePointer(2, KtAdd(Va, PAGE_SIZE));
    MmFreeContiguousMemory(KtAdd(Va, PAGE_SIZE));
}

static VOID FreeContiguousWrongSize(VOID)
{
    PVOID Va = Contiguous(MmCached);
    NEED(Va != NULL);
    AnnouncePointer(2, Va);
    MmFreeContiguousMemorySpecifyCache(Va, PAGE_SIZE, MmCached);
}

static VOID FreeContiguousWrongType(VOID)
{
    PVOID Va = Contiguous(MmCached);
    NEED(Va != NULL);
    AnnouncePointer(2, Va);
    MmFreeContiguousMemorySpecifyCache(Va, 2 * PAGE_SIZE, MmWriteCombined);
}

static VOID FreeContiguousStillMapped(VOID)
{
    PVOID Va = Contiguous(MmWriteCombined);
    NEED(Va != NULL && MmMapIoSpace(MmGetPhysicalAddress(Va), PAGE_SIZE, MmCached) != NULL);
    Announce(2, KtPhysicalOf(Va) >> PAGE_SHIFT);
    MmFreeContiguousMemory(Va);
}

static VOID ReadFreedContiguous(VOID)
{
    PVOID Va = Contiguous(MmNonCached);
    NEED(Va != NULL);
    MmFreeContiguousMemory(Va);
    AnnouncePointer(1, Va);
    AnnouncePointer(3, KtReadInstruction);
    KtReadAt(Va);
}

static VOID FreeNonCachedWrongSize(VOID)
{
    PVOID Va = MmAllocateNonCachedMemory(3 * PAGE_SIZE);
    NEED(Va != NULL);
    AnnouncePointer(2, Va);
    MmFreeNonCachedMemory(Va, 2 * PAGE_SIZE);
}

static VOID FreeNonCachedTwice(VOID)
{
    PVOID Va = MmAllocateNonCachedMemory(3 * PAGE_SIZE);
    NEED(Va != NULL);
    MmFreeNonCachedMemory(Va, 3 * PAGE_SIZE);
    AnnouncePointer(2, Va);
    MmFreeNonCachedMemory(Va, 3 * PAGE_SIZE);
}

static VOID FreeNonCachedInside(VOID)
{
    PVOID Va = MmAllocateNonCachedMemory(3 * PAGE_SIZE);
    NEED(Va != NULL);
    AnnouncePointer(2, KtAdd(Va, PAGE_SIZE));
    MmFreeNonCachedMemory(KtAdd(Va, PAGE_SIZE), PAGE_SIZE);
}

static VOID FreePagesStillMapped(VOID)
{
    PMDL Mdl = KtAllocatePages(1);
    NEED(Mdl != NULL &&
         MmMapIoSpace(KtPhysical(KtPageAddress(Mdl, 0)), PAGE_SIZE, MmCached) != NULL);
    Announce(2, MmGetMdlPfnArray(Mdl)[0]);
    MmFreePagesFromMdl(Mdl);
}

static VOID BuildMdlOverNothing(VOID)
{
    PUCHAR Base = Reserve(1);
    NEED(Base != NULL);
    PMDL Mdl = IoAllocateMdl(Base, PAGE_SIZE, FALSE, FALSE, NULL);
    NEED(Mdl != NULL);
    AnnouncePointer(2, Mdl);
    AnnouncePointer(3, (const VOID *)(ULONG_PTR)RefEntry(Base, 1));
    MmBuildMdlForNonPagedPool(Mdl);
}

static VOID MapWithoutAddresses(VOID)
{
    PMDL Mdl = KtAllocatePages(3);
    NEED(Mdl != NULL);
    MmStartFailures(MM_FAIL_ADDRESSES, 0, MAXULONG);
    (VOID) !MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmCached, NULL, TRUE, NormalPagePriority);
}

static VOID MapObsoleteWithoutAddresses(VOID)
{
    PMDL Mdl = KtAllocatePages(3);
    NEED(Mdl != NULL);
    MmStartFailures(MM_FAIL_ADDRESSES, 0, MAXULONG);
    (VOID) !MmMapLockedPages(Mdl, KernelMode);
}

//
// 0x4E, 0x76: locked pages.
//

// A locked MDL of a block of PageCount pages, all of it.
static PMDL LockPool(ULONG PageCount)
{
    const SIZE_T ByteCount = (SIZE_T)PageCount * PAGE_SIZE;
    PVOID Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, ByteCount, TAG);
    PMDL Mdl = Block != NULL ? IoAllocateMdl(Block, (ULONG)ByteCount, FALSE, FALSE, NULL) : NULL;
    if (Mdl != NULL) {
        MmProbeAndLockPages(Mdl, KernelMode, IoWriteAccess);
    }
    return Mdl;
}

static VOID UnlockTwice(VOID)
{
    PMDL Mdl = LockPool(2);
    NEED(Mdl != NULL);
    MmUnlockPages(Mdl);
    AnnouncePointer(2, Mdl);
    MmUnlockPages(Mdl);
}

static VOID UnlockPagesOfAnMdl(VOID)
{
    PMDL Mdl = KtAllocatePages(1);
    NEED(Mdl != NULL);
    AnnouncePointer(2, Mdl);
    MmUnlockPages(Mdl);
}

static VOID UnlockCopy(VOID)
{
    static UCHAR Copy[sizeof(MDL) + sizeof(PFN_NUMBER)] DECLSPEC_ALIGN(16);
    PMDL Mdl = LockPool(1);
    NEED(Mdl != NULL);
    RtlCopyMemory(Copy, Mdl, sizeof(Copy));
    AnnouncePointer(2, Copy);
    MmUnlockPages((PMDL)Copy);
}

static VOID UnlockForeignFrame(VOID)
{
    PMDL Mdl = LockPool(1);
    PMDL Other = KtAllocatePages(1);
    NEED(Mdl != NULL && Other != NULL);
    MmGetMdlPfnArray(Mdl)[0] = MmGetMdlPfnArray(Other)[0];
    Announce(2, MmGetMdlPfnArray(Mdl)[0]);
    MmUnlockPages(Mdl);
}

static VOID FreeLockedPool(VOID)
{
    PMDL Mdl = LockPool(1);
    NEED(Mdl != NULL);
    Announce(2, MmGetMdlPfnArray(Mdl)[0]);
    ExFreePool(Mdl->StartVa);
}

//
// 0x12E, 0x40, 0x1A: parts of MDLs, and their protection.
//

static VOID BuildPartOutside(VOID)
{
    PMDL Source = LockPool(2);
    PMDL Target = IoAllocateMdl(NULL, 2 * PAGE_SIZE, FALSE, FALSE, NULL);
    NEED(Source != NULL && Target != NULL);
    AnnouncePointer(1, Source);
    AnnouncePointer(2, Target);
    AnnouncePointer(3, KtAdd(Source->StartVa, PAGE_SIZE));
    IoBuildPartialMdl(Source, Target, KtAdd(Source->StartVa, PAGE_SIZE), PAGE_SIZE + 1);
}

static VOID BuildPartTooLarge(VOID)
{
    PMDL Source = LockPool(3);
    PMDL Target = IoAllocateMdl(NULL, PAGE_SIZE, FALSE, FALSE, NULL);
    NEED(Source != NULL && Target != NULL);
    AnnouncePointer(1, Target);
    IoBuildPartialMdl(Source, Target, Source->StartVa, 0);
}

static VOID ProtectChangedMdl(VOID)
{
    PMDL Mdl = LockPool(2);
    PVOID Va = MapMdl(Mdl);
    NEED(Va != NULL);
    AnnouncePointer(2, Mdl);
    AnnouncePointer(3, KtAdd(Va, PAGE_SIZE));
    Announce(4, MmGetMdlPfnArray(Mdl)[1]);
    MmGetMdlPfnArray(Mdl)[1] = MmGetMdlPfnArray(Mdl)[0];
    (VOID) !MmProtectMdlSystemAddress(Mdl, PAGE_READONLY);
}

//
// 0x1E: exceptions that nobody handles.
//

static VOID RaiseUnhandled(VOID)
{
    AnnouncePointer(2, KtReturnFromCall);
    (VOID) KtCallRoutine(ExRaiseStatus, (ULONG)STATUS_IN_PAGE_ERROR, 0, 0);
}

static VOID RaiseInCatchUnhandled(VOID)
{
    KmTry {
        ExRaiseStatus(STATUS_IN_PAGE_ERROR);
    }
    KmCatch (Status) {
        ExRaiseAccessViolation();
    }
}

static VOID LockNothingUnhandled(VOID)
{
    PMDL Mdl = IoAllocateMdl(NULL, PAGE_SIZE, FALSE, FALSE, NULL);
    NEED(Mdl != NULL);
    AnnouncePointer(2, KtReturnFromCall);
    (VOID) KtCallRoutine(MmProbeAndLockPages, (ULONG64)Mdl, KernelMode, IoReadAccess);
}

typedef VOID NTAPI KT_DRIVER_MISUSE(ULONG Way);

// By a driver of tests/drivers.
static VOID MisuseInDriver(ULONG Way)
{
    PLDR_IMAGE Image;
    SIZE_T ByteCount = 0;
    const VOID *File = LdrFindModule("sehgcc.sys", &ByteCount);
    NEED(File != NULL && NT_SUCCESS(LdrLoadImage(File, ByteCount, "sehgcc.sys", &Image)));
    KT_DRIVER_MISUSE *const Misuse = LdrFindImageExport(Image, "SehGccMisuse");
    NEED(Misuse != NULL);
    Misuse(Way);
}

static VOID DriverRaisesUnhandled(VOID)
{
    MisuseInDriver(0);
}

static VOID DriverFaultsUnhandled(VOID)
{
    MisuseInDriver(1);
}

static VOID DriverTriesKernelAddress(VOID)
{
    MisuseInDriver(2);
}

//
// 0xC2, 0x19: pool.
//

static PVOID AllocateBlock(SIZE_T ByteCount)
{
    return ExAllocatePoolWithTag(NonPagedPoolNx, ByteCount, TAG);
}

static VOID FreeBlockTwice(VOID)
{
    // The neighbour keeps the page in the pool.
    PVOID Neighbour = AllocateBlock(100);
    PVOID Block = AllocateBlock(100);
    NEED(Neighbour != NULL && Block != NULL);
    ExFreePoolWithTag(Block, TAG);
    AnnouncePointer(4, Block);
    ExFreePoolWithTag(Block, TAG);
}

static VOID FreePagesOfPoolTwice(VOID)
{
    PVOID Block = AllocateBlock(3 * PAGE_SIZE);
    NEED(Block != NULL);
    ExFreePool(Block);
    AnnouncePointer(2, Block);
    ExFreePool(Block);
}

static VOID FreeBlockWrongTag(VOID)
{
    PVOID Block = AllocateBlock(100);
    NEED(Block != NULL);
    AnnouncePointer(2, Block);
    ExFreePoolWithTag(Block, OTHER_TAG);
}

static VOID FreePagesOfPoolWrongTag(VOID)
{
    PVOID Block = AllocateBlock(5 * PAGE_SIZE);
    NEED(Block != NULL);
    AnnouncePointer(2, Block);
    ExFreePoolWithTag(Block, OTHER_TAG);
}

static VOID FreeInsideBlock(VOID)
{
    PVOID Block = AllocateBlock(2 * PAGE_SIZE);
    NEED(Block != NULL);
    AnnouncePointer(2, KtAdd(Block, PAGE_SIZE));
    ExFreePool(KtAdd(Block, PAGE_SIZE));
}

static VOID FreeKernelData(VOID)
{
    static UCHAR Object[PAGE_SIZE];
    AnnouncePointer(2, Object);
    ExFreePool(Object);
}

static VOID FreePageOfAnMdl(VOID)
{
    const PMDL Mdl = KtAllocatePages(1);
    NEED(Mdl != NULL);
    const PVOID Page = KtDirectMap(KtPageAddress(Mdl, 0));
    AnnouncePointer(2, Page);
    Announce(3, MmGetMdlPfnArray(Mdl)[0]);
    ExFreePool(Page);
}

static VOID FreeUserAddress(VOID)
{
    ExFreePool((PVOID)0x10000);
}

static VOID FreeOverrunBlock(VOID)
{
    PUCHAR Block = AllocateBlock(100);
    NEED(Block != NULL);
    for (ULONG Index = 1; Index <= 16; Index += 1) {
        Block[-(LONG)Index] = 0xFF;
    }
    AnnouncePointer(2, Block - 16);
    AnnouncePointer(3, Block);
    ExFreePool(Block);
}

static VOID AllocateAtHighLevel(VOID)
{
    KIRQL OldIrql;
    KeRaiseIrql(HIGH_LEVEL, &OldIrql);
    (VOID) !AllocateBlock(100);
}

static VOID FreeAtHighLevel(VOID)
{
    PVOID Block = AllocateBlock(100);
    NEED(Block != NULL);
    AnnouncePointer(4, Block);
    KIRQL OldIrql;
    KeRaiseIrql(HIGH_LEVEL, &OldIrql);
    ExFreePool(Block);
}

static VOID AllocateWithTag(ULONG Tag)
{
    AnnouncePointer(4, KtReturnFromCall);
    (VOID) KtCallRoutine(ExAllocatePoolWithTag, NonPagedPoolNx, 100, Tag);
}

static VOID AllocateWithTagZero(VOID)
{
    AllocateWithTag(0);
}

static VOID AllocateWithTagBig(VOID)
{
    AllocateWithTag(' GIB');
}

static VOID AllocateWithTagUnprintable(VOID)
{
    AllocateWithTag(0x01020304);
}

static VOID AllocateMustSucceed(VOID)
{
    (VOID) !ExAllocatePoolWithTag(NonPagedPoolMustSucceed, 100, TAG);
}

static VOID FreeMdlTwice(VOID)
{
    PMDL Neighbour = IoAllocateMdl(NULL, PAGE_SIZE, FALSE, FALSE, NULL);
    PMDL Mdl = IoAllocateMdl(NULL, PAGE_SIZE, FALSE, FALSE, NULL);
    NEED(Neighbour != NULL && Mdl != NULL);
    IoFreeMdl(Mdl);
    AnnouncePointer(2, Mdl);
    IoFreeMdl(Mdl);
}

static VOID FreeForeignMdl(VOID)
{
    PMDL Mdl = KtAllocatePages(1);
    NEED(Mdl != NULL);
    AnnouncePointer(2, Mdl);
    IoFreeMdl(Mdl);
}

//
// 0x50, 0xBE, 0xFC, 0x0A: forbidden accesses.
//

static VOID ReadFault(const VOID *Va)
{
    AnnouncePointer(1, Va);
    AnnouncePointer(3, KtReadInstruction);
    (VOID) KtReadAt(Va);
}

static VOID WriteFault(PVOID Va)
{
    AnnouncePointer(1, Va);
    AnnouncePointer(3, KtWriteInstruction);
    KtWriteAt(Va);
}

static VOID Execute(const VOID *Va)
{
    typedef VOID CODE(VOID);
    CODE *volatile Code = (CODE *)(ULONG_PTR)Va;
    Code();
}

static VOID ReadReservation(VOID)
{
    PVOID Base = Reserve(2);
    NEED(Base != NULL);
    ReadFault(Base);
}

static VOID WriteReservation(VOID)
{
    PVOID Base = Reserve(2);
    NEED(Base != NULL);
    WriteFault(Base);
}

static VOID ExecuteReservation(VOID)
{
    PVOID Base = Reserve(2);
    NEED(Base != NULL);
    AnnouncePointer(1, Base);
    AnnouncePointer(3, Base);
    Execute(Base);
}

static VOID ReadGuardPage(VOID)
{
    PVOID Va = MapGap(2, PAGE_READWRITE);
    NEED(Va != NULL);
    ReadFault(KtAdd(Va, 2 * PAGE_SIZE));
}

static VOID WriteBeforeReservation(VOID)
{
    PVOID Base = Reserve(2);
    NEED(Base != NULL);
    WriteFault((PUCHAR)Base - 1);
}

static VOID ReadAfterUnmap(VOID)
{
    PVOID Va = MapGap(2, PAGE_READWRITE);
    NEED(Va != NULL);
    MmUnmapIoSpace(Va, 2 * PAGE_SIZE);
    ReadFault(Va);
}

static VOID ReadNull(VOID)
{
    ReadFault(NULL);
}

static VOID ReadNowhere(VOID)
{
    ReadFault((PVOID)0xFFFFA00000001000);
}

static VOID ReadNonCanonical(VOID)
{
    ReadFault((PVOID)0x0000900000000000);
}

static VOID WriteNonCanonical(VOID)
{
    WriteFault((PVOID)0x0000900000000000);
}

static VOID AnnounceForbidden(const VOID *Va)
{
    AnnouncePointer(1, Va);
    Announce(2, RefWalk(Va).Entry);
}

static VOID ReadExecuteOnly(VOID)
{
    PVOID Va = MapGap(1, PAGE_EXECUTE);
    NEED(Va != NULL);
    ReadFault(Va);
}

static VOID ReadInaccessible(VOID)
{
    PMDL Mdl = LockPool(1);
    PVOID Va = MapMdl(Mdl);
    NEED(Va != NULL && NT_SUCCESS(MmProtectMdlSystemAddress(Mdl, PAGE_NOACCESS)));
    ReadFault(Va);
}

static VOID WriteProtectedMdl(VOID)
{
    PMDL Mdl = LockPool(1);
    PVOID Va = MapMdl(Mdl);
    NEED(Va != NULL && NT_SUCCESS(MmProtectMdlSystemAddress(Mdl, PAGE_READONLY)));
    AnnounceForbidden(Va);
    KtWriteAt(Va);
}

static VOID ReadPassedPage(VOID)
{
    PMDL Mdl = LockPool(2);
    PVOID Va = MapMdl(Mdl);
    NEED(Va != NULL && NT_SUCCESS(MmAdvanceMdl(Mdl, PAGE_SIZE)));
    ReadFault(Va);
}

static VOID WriteReadOnlyMapping(VOID)
{
    PVOID Va = MapGap(1, PAGE_READONLY);
    NEED(Va != NULL);
    AnnounceForbidden(Va);
    KtWriteAt(Va);
}

static VOID WriteReadOnlyLargeMapping(VOID)
{
    PVOID Va =
        MmMapIoSpaceEx(KtPhysical(KtFindGap(2 * KT_MIB, 2 * KT_MIB)), 2 * KT_MIB, PAGE_READONLY);
    NEED(Va != NULL);
    AnnounceForbidden(KtAdd(Va, 0x12345));
    KtWriteAt(KtAdd(Va, 0x12345));
}

static VOID WriteKernelText(VOID)
{
    (VOID) * (volatile UCHAR *)(ULONG_PTR)KtReadInstruction; // its entry is marked as used
    AnnounceForbidden(KtReadInstruction);
    KtWriteAt((PVOID)(ULONG_PTR)KtReadInstruction);
}

static VOID WriteSelfMap(VOID)
{
    AnnounceForbidden((PVOID)REF_PXE_BASE);
    KtWriteAt((PVOID)REF_PXE_BASE);
}

static VOID ExecuteMapping(VOID)
{
    PVOID Va = MapGap(1, PAGE_READWRITE);
    NEED(Va != NULL);
    AnnounceForbidden(Va);
    Execute(Va);
}

static VOID ExecutePool(VOID)
{
    PVOID Block = AllocateBlock(PAGE_SIZE);
    NEED(Block != NULL);
    AnnounceForbidden(Block);
    Execute(Block);
}

static VOID ExecuteStack(VOID)
{
    volatile UCHAR Code = 0xC3;
    AnnounceForbidden((const VOID *)&Code);
    Execute((const VOID *)&Code);
}

static VOID FaultAtDispatch(PVOID Va, const UCHAR *Instruction)
{
    KIRQL OldIrql;
    AnnouncePointer(1, Va);
    AnnouncePointer(4, Instruction);
    KeRaiseIrql(DISPATCH_LEVEL, &OldIrql);
}

static VOID ReadAtDispatch(VOID)
{
    PVOID Base = Reserve(1);
    NEED(Base != NULL);
    FaultAtDispatch(Base, KtReadInstruction);
    (VOID) KtReadAt(Base);
}

static VOID WriteAtDispatch(VOID)
{
    PVOID Base = Reserve(1);
    NEED(Base != NULL);
    FaultAtDispatch(Base, KtWriteInstruction);
    KtWriteAt(Base);
}

static VOID ExecuteAtDispatch(VOID)
{
    PVOID Base = Reserve(1);
    NEED(Base != NULL);
    FaultAtDispatch(Base, Base);
    Execute(Base);
}

//
// 0x7F, 0x1E, 0x09, 0x0A, 0x0F, 0x10: the processor, IRQL and locks.
//

static VOID OverflowStack(VOID)
{
    AnnouncePointer(3, KtOverflowStack);
    KtOverflowStack();
}

static VOID DivideByZero(VOID)
{
    AnnouncePointer(2, KtDivideInstruction);
    KtDivideByZero();
}

static VOID RaiseToLower(VOID)
{
    KIRQL OldIrql;
    KeRaiseIrql(HIGH_LEVEL, &OldIrql);
    AnnouncePointer(4, KtReturnFromCall);
    (VOID) KtCallRoutine(KfRaiseIrql, DISPATCH_LEVEL, 0, 0);
}

static VOID LowerToHigher(VOID)
{
    AnnouncePointer(4, KtReturnFromCall);
    (VOID) KtCallRoutine(KeLowerIrql, DISPATCH_LEVEL, 0, 0);
}

static KI_LOCK FirstLock = KI_LOCK_INITIALIZER(20, "FirstLock");
static KI_LOCK SecondLock = KI_LOCK_INITIALIZER(21, "SecondLock");

static VOID AcquireLockTwice(VOID)
{
    AnnouncePointer(1, &FirstLock);
    (VOID) !KiAcquireLock(&FirstLock);
    (VOID) !KiAcquireLock(&FirstLock);
}

static VOID ReleaseFreeLock(VOID)
{
    AnnouncePointer(1, &FirstLock);
    KiReleaseLock(&FirstLock, PASSIVE_LEVEL);
}

static VOID AcquireLocksInWrongOrder(VOID)
{
    (VOID) !KiAcquireLock(&SecondLock);
    (VOID) !KiAcquireLock(&FirstLock);
}

static VOID AcquireLockAtHighLevel(VOID)
{
    KIRQL OldIrql;
    AnnouncePointer(1, &FirstLock);
    KeRaiseIrql(HIGH_LEVEL, &OldIrql);
    (VOID) !KiAcquireLock(&FirstLock);
}

//
// The dispatcher.
//

static KEVENT NeverSignalled;

static VOID NTAPI TellBufferInBugCheck(PVOID Buffer, ULONG Length)
{
    DbgPrint("a driver's last words: %s, %u bytes, IRQL %u\n", (PCSTR)Buffer, Length,
             KeGetCurrentIrql());
}

static VOID StopWithACallback(VOID)
{
    static KBUGCHECK_CALLBACK_RECORD Record;
    static CHAR Words[] = "farewell";
    KeInitializeCallbackRecord(&Record);
    KeRegisterBugCheckCallback(&Record, TellBufferInBugCheck, Words, sizeof(Words), (PUCHAR)Words);
    KeBugCheck(MANUALLY_INITIATED_CRASH);
}

// On another processor, with interrupts off.
static volatile ULONG64 OthersCount;

static VOID NTAPI CountForEver(PVOID Context)
{
    UNREFERENCED_PARAMETER(Context);
    (VOID) KeArchDisableInterrupts();
    for (;;) {
        OthersCount += 1;
    }
}

#define WATCHED_MICROSECONDS 20000u

static VOID NTAPI WatchOthersInBugCheck(PVOID Buffer, ULONG Length)
{
    const ULONG64 Before = OthersCount;
    UNREFERENCED_PARAMETER(Buffer);
    UNREFERENCED_PARAMETER(Length);
    KeStallExecutionProcessor(WATCHED_MICROSECONDS);
    DbgPrint("the other processor counted to %s and %s\n", Before != 0 ? "something" : "nothing",
             OthersCount == Before ? "stands still" : "still runs");
}

static VOID StopWhileOthersRun(VOID)
{
    static KBUGCHECK_CALLBACK_RECORD Record;
    static CHAR Words[] = "watch";
    KeSetSystemAffinityThread(1);
    KtStartThreadOn(2, CountForEver, NULL, 0);
    while (OthersCount == 0) {
        KeArchPause();
    }
    KeInitializeCallbackRecord(&Record);
    KeRegisterBugCheckCallback(&Record, WatchOthersInBugCheck, Words, sizeof(Words), (PUCHAR)Words);
    KeBugCheck(MANUALLY_INITIATED_CRASH);
}

// The others stand still, in a DPC, for the sake of a routine that ends like this.
static VOID StopAlone(PVOID Context)
{
    UNREFERENCED_PARAMETER(Context);
    KeBugCheck(MANUALLY_INITIATED_CRASH);
}

static VOID StopWhileOthersStand(VOID)
{
    if (!KiRunAlone(StopAlone, NULL, KT_LATEST_MS)) {
        DbgPrint("a processor does not stand\n");
    }
}

static VOID WaitAtDispatch(VOID)
{
    KIRQL OldIrql;
    KeInitializeEvent(&NeverSignalled, NotificationEvent, FALSE);
    AnnouncePointer(1, KeGetCurrentThread());
    KeRaiseIrql(DISPATCH_LEVEL, &OldIrql);
    KeWaitForSingleObject(&NeverSignalled, Executive, KernelMode, FALSE, NULL);
}

static VOID DelayAtDispatch(VOID)
{
    KIRQL OldIrql;
    LARGE_INTEGER Interval = {.QuadPart = -10000};
    AnnouncePointer(1, KeGetCurrentThread());
    KeRaiseIrql(DISPATCH_LEVEL, &OldIrql);
    KeDelayExecutionThread(KernelMode, FALSE, &Interval);
}

static VOID NTAPI WaitInDpc(PKDPC Dpc, PVOID Context, PVOID Argument1, PVOID Argument2)
{
    UNREFERENCED_PARAMETER(Dpc);
    UNREFERENCED_PARAMETER(Argument1);
    UNREFERENCED_PARAMETER(Argument2);
    KeWaitForSingleObject(Context, Executive, KernelMode, FALSE, NULL);
}

static VOID RunDpc(PKDEFERRED_ROUTINE Routine)
{
    static KDPC Dpc;
    KeInitializeEvent(&NeverSignalled, NotificationEvent, FALSE);
    KeInitializeDpc(&Dpc, Routine, &NeverSignalled);
    KeInsertQueueDpc(&Dpc, NULL, NULL);
}

static VOID WaitInADpc(VOID)
{
    AnnouncePointer(1, KeGetCurrentThread());
    RunDpc(WaitInDpc);
}

static VOID NTAPI LowerInDpc(PKDPC Dpc, PVOID Context, PVOID Argument1, PVOID Argument2)
{
    UNREFERENCED_PARAMETER(Dpc);
    UNREFERENCED_PARAMETER(Context);
    UNREFERENCED_PARAMETER(Argument1);
    UNREFERENCED_PARAMETER(Argument2);
    KeLowerIrql(PASSIVE_LEVEL);
}

static VOID ReturnFromADpcAtAnotherIrql(VOID)
{
    AnnouncePointer(3, (PVOID)LowerInDpc);
    RunDpc(LowerInDpc);
}

static FAST_MUTEX FastMutex;

static VOID AcquireFastMutexTwice(VOID)
{
    ExInitializeFastMutex(&FastMutex);
    AnnouncePointer(1, &FastMutex);
    AnnouncePointer(2, KeGetCurrentThread());
    ExAcquireFastMutex(&FastMutex);
    ExAcquireFastMutex(&FastMutex);
}

static VOID ReleaseFreeFastMutex(VOID)
{
    ExInitializeFastMutex(&FastMutex);
    AnnouncePointer(1, KeGetCurrentThread());
    AnnouncePointer(3, &FastMutex);
    ExReleaseFastMutex(&FastMutex);
}

static VOID AcquireFastMutexAtDispatch(VOID)
{
    KIRQL OldIrql;
    ExInitializeFastMutex(&FastMutex);
    KeRaiseIrql(DISPATCH_LEVEL, &OldIrql);
    ExAcquireFastMutex(&FastMutex);
}

static VOID ReleaseForeignMutex(VOID)
{
    static KMUTEX Mutex;
    KeInitializeMutex(&Mutex, 0);
    KeReleaseMutex(&Mutex, FALSE);
}

static VOID LeaveRegionThatWasNotEntered(VOID)
{
    KeLeaveCriticalRegion();
}

static VOID WaitForTooManyObjects(VOID)
{
    PVOID Objects[THREAD_WAIT_OBJECTS + 1];
    KeInitializeEvent(&NeverSignalled, NotificationEvent, FALSE);
    for (ULONG Index = 0; Index < ARRAYSIZE(Objects); Index += 1) {
        Objects[Index] = &NeverSignalled;
    }
    KeWaitForMultipleObjects(ARRAYSIZE(Objects), Objects, WaitAny, Executive, KernelMode, FALSE,
                             NULL, NULL);
}

static VOID WaitForWhatIsNoObject(VOID)
{
    static ULONG64 Something[8] = {0xFF};
    KeWaitForSingleObject(Something, Executive, KernelMode, FALSE, NULL);
}

static VOID EndThreadAs(PKSTART_ROUTINE Routine)
{
    HANDLE Handle;
    LARGE_INTEGER Interval = {.QuadPart = -1000000};
    PsCreateSystemThread(&Handle, 0, NULL, NULL, NULL, Routine, NULL);
    KeDelayExecutionThread(KernelMode, FALSE, &Interval);
}

static VOID NTAPI EndAtDispatch(PVOID Context)
{
    KIRQL OldIrql;
    UNREFERENCED_PARAMETER(Context);
    KeRaiseIrql(DISPATCH_LEVEL, &OldIrql);
}

static VOID EndAThreadAtDispatch(VOID)
{
    EndThreadAs(EndAtDispatch);
}

static VOID NTAPI EndInARegion(PVOID Context)
{
    UNREFERENCED_PARAMETER(Context);
    KeEnterCriticalRegion();
}

static VOID EndAThreadInACriticalRegion(VOID)
{
    EndThreadAs(EndInARegion);
}

static VOID NTAPI UseUpStack(PVOID Context)
{
    UNREFERENCED_PARAMETER(Context);
    KtOverflowStack();
}

static VOID OverflowTheStackOfAThread(VOID)
{
    EndThreadAs(UseUpStack);
}

static VOID NTAPI RaiseInThread(PVOID Context)
{
    UNREFERENCED_PARAMETER(Context);
    ExRaiseAccessViolation();
}

static VOID RaiseInAThread(VOID)
{
    EndThreadAs(RaiseInThread);
}

static KSPIN_LOCK PlainLock;

static VOID AcquireSpinLockTwice(VOID)
{
    AnnouncePointer(1, &PlainLock);
    (VOID) !KeAcquireSpinLockRaiseToDpc(&PlainLock);
    KeAcquireSpinLockAtDpcLevel(&PlainLock);
}

static VOID AcquireQueuedSpinLockTwice(VOID)
{
    KLOCK_QUEUE_HANDLE Handles[2];
    AnnouncePointer(1, &PlainLock);
    KeAcquireInStackQueuedSpinLock(&PlainLock, &Handles[0]);
    KeAcquireInStackQueuedSpinLock(&PlainLock, &Handles[1]);
}

static VOID ReleaseFreeSpinLock(VOID)
{
    AnnouncePointer(1, &PlainLock);
    KeReleaseSpinLock(&PlainLock, PASSIVE_LEVEL);
}

static VOID AcquireSpinLockAtPassive(VOID)
{
    AnnouncePointer(1, &PlainLock);
    KeAcquireSpinLockAtDpcLevel(&PlainLock);
}

//
// Interrupts: what is raised inside stays inside, and routines come back at the IRQL at which they
// were called. The processor interrupts itself with a vector that no device has.
//

static VOID NTAPI RaiseFromDpc(PKDPC Dpc, PVOID Context, PVOID SystemArgument1,
                               PVOID SystemArgument2)
{
    UNREFERENCED_PARAMETER(Dpc);
    UNREFERENCED_PARAMETER(Context);
    UNREFERENCED_PARAMETER(SystemArgument1);
    UNREFERENCED_PARAMETER(SystemArgument2);
    ExRaiseStatus(STATUS_IN_PAGE_ERROR);
}

static VOID RaiseInDpc(VOID)
{
    KDPC Dpc;
    KeInitializeDpc(&Dpc, RaiseFromDpc, NULL);
    KmTry {
        KeInsertQueueDpc(&Dpc, NULL, NULL);
    }
    KmCatch (Status) {
        DbgPrint("a DPC's exception has reached the thread that it interrupted\n");
    }
}

static PKINTERRUPT SelfInterrupt;

// Returns the vector; 0: something is missing.
static ULONG ConnectToSelf(PKSERVICE_ROUTINE Routine)
{
    static KI_INTERRUPT_SOURCE Source = {.Mode = Latched};
    const ULONG Vector = KiReserveVectors(KiVectorsForMessages, 1);
    if (Vector == 0) {
        return 0;
    }
    KiSetVectorSource(Vector, &Source);
    return NT_SUCCESS(IoConnectInterrupt(&SelfInterrupt, Routine, NULL, NULL, Vector,
                                         KiIrqlOfVector(Vector), KiIrqlOfVector(Vector), Latched,
                                         FALSE, 1, FALSE))
               ? Vector
               : 0;
}

static BOOLEAN NTAPI RaiseFromRoutine(PKINTERRUPT Interrupt, PVOID ServiceContext)
{
    UNREFERENCED_PARAMETER(Interrupt);
    UNREFERENCED_PARAMETER(ServiceContext);
    ExRaiseStatus(STATUS_IN_PAGE_ERROR);
}

static VOID RaiseInInterrupt(VOID)
{
    const ULONG Vector = ConnectToSelf(RaiseFromRoutine);
    NEED(Vector != 0);
    KmTry {
        KeArchRequestInterrupt(Vector);
    }
    KmCatch (Status) {
        DbgPrint("an interrupt's exception has reached the thread that it interrupted\n");
    }
}

static BOOLEAN NTAPI RaiseIrqlInRoutine(PKINTERRUPT Interrupt, PVOID ServiceContext)
{
    KIRQL OldIrql;
    UNREFERENCED_PARAMETER(Interrupt);
    UNREFERENCED_PARAMETER(ServiceContext);
    KeRaiseIrql(HIGH_LEVEL, &OldIrql);
    return TRUE;
}

static VOID InterruptLeavesIrqlRaised(VOID)
{
    const ULONG Vector = ConnectToSelf(RaiseIrqlInRoutine);
    NEED(Vector != 0);
    Announce(2, KiIrqlOfVector(Vector));
    AnnouncePointer(3, RaiseIrqlInRoutine);
    KeArchRequestInterrupt(Vector);
}

static VOID ConnectAtDispatch(VOID)
{
    KeRaiseIrqlToDpcLevel();
    ConnectToSelf(RaiseIrqlInRoutine);
}

//
// Images of drivers: their code is blamed by the name of the file.
//

#define INIT_OF_WINDOWS                                                                            \
    0xE2000020 // writable, executable, discardable: as linkers for Windows make it
#define SECTION_HEADER_BYTES 40
#define SECTIONS_BEHIND_HEADERS 264

// ldruser.sys, with what it imports from; its INIT section as of a linker for Windows. NULL: it is not
// beside this kernel.
static PLDR_IMAGE LoadDrivers(VOID)
{
    PLDR_IMAGE Image = NULL;
    SIZE_T LibraryBytes;
    SIZE_T ByteCount;
    const VOID *Library = LdrFindModule("ldrlib.sys", &LibraryBytes);
    const VOID *File = LdrFindModule("ldruser.sys", &ByteCount);
    const PUCHAR Copy = File != NULL ? AllocateBlock(ByteCount) : NULL;
    if (Copy == NULL || Library == NULL ||
        !NT_SUCCESS(LdrLoadImage(Library, LibraryBytes, "ldrlib.sys", &Image))) {
        return NULL;
    }
    RtlCopyMemory(Copy, File, ByteCount);
    PUCHAR Section = Copy + *(const ULONG *)(Copy + 0x3C) + SECTIONS_BEHIND_HEADERS;
    while (!RtlEqualMemory(Section, "INIT", 4)) {
        Section += SECTION_HEADER_BYTES;
    }
    *(PULONG)(Section + SECTION_HEADER_BYTES - sizeof(ULONG)) = INIT_OF_WINDOWS;
    return NT_SUCCESS(LdrLoadImage(Copy, ByteCount, "ldruser.sys", &Image)) ? Image : NULL;
}

typedef VOID(NTAPI WRITE_ROUTINE)(volatile ULONG *Place);

static VOID ImageWritesItsConstants(VOID)
{
    const PLDR_IMAGE Image = LoadDrivers();
    NEED(Image != NULL);
    WRITE_ROUTINE *const Write = LdrFindImageExport(Image, "LdrUserWrite");
    const PVOID Constant = LdrFindImageExport(Image, "LdrUserConstant");
    AnnounceForbidden(Constant);
    Write(Constant);
}

static VOID ImageExecutesItsData(VOID)
{
    const PLDR_IMAGE Image = LoadDrivers();
    NEED(Image != NULL);
    const PVOID Variable = LdrFindImageExport(Image, "LdrUserVariable");
    AnnounceForbidden(Variable);
    Execute(Variable);
}

static VOID ImageCallsDiscardedCode(VOID)
{
    const PLDR_IMAGE Image = LoadDrivers();
    NEED(Image != NULL);
    const PVOID Once = LdrFindImageExport(Image, "LdrUserOnce");
    LdrDiscardInitSections(Image);
    AnnouncePointer(1, Once);
    Execute(Once);
}

static const MISUSE_TEST Tests[] = {
    MISUSE(UnmapIoSpaceTwice),
    MISUSE(UnmapIoSpaceInAnExample),
    MISUSE(UnmapIoSpaceUnknown),
    MISUSE(UnmapIoSpaceTooMuch),
    MISUSE(UnmapIoSpaceTooLittle),
    MISUSE(UnmapIoSpaceInside),
    MISUSE(UnmapIoSpaceZeroBytes),
    MISUSE(UnmapIoSpaceOfAnMdl),
    MISUSE(UnmapIoSpaceOfAReservation),
    MISUSE(UnmapMdlNotMapped),
    MISUSE(UnmapMdlTwice),
    MISUSE(UnmapMdlOfAReservation),
    MISUSE(UnmapMdlChangedSize),
    MISUSE(UnmapMdlWrongAddress),
    MISUSE(UnmapMdlChangedFrame),
    MISUSE(UnmapMdlChangedStartVa),
    MISUSE(ReserveZeroBytes),
    MISUSE(FreeReservationWrongTag),
    MISUSE(FreeNoReservation),
    MISUSE(FreeReservationTwice),
    MISUSE(FreeReservationWhileMapped),
    MISUSE(MapReservationWrongTag),
    MISUSE(MapNoReservation),
    MISUSE(MapInsideReservation),
    MISUSE(MapReservationTwice),
    MISUSE(UnmapReservationWrongTag),
    MISUSE(UnmapNoReservation),
    MISUSE(UnmapReservationTooMany),
    MISUSE(UnmapReservationNotMapped),
    MISUSE(UnmapReservationTwice),
    MISUSE(UnmapReservationPartly),
    MISUSE(UnmapReservationOtherMdl),
    MISUSE(MapFreeFrame),
    MISUSE(MapFreeFrameIntoReservation),
    MISUSE(MapPageTableFrame),
    MISUSE(FreePagesTwice),
    MISUSE(FreePagesOfPool),
    MISUSE(FreePagesStillMapped),
    MISUSE(FreeContiguousUnknown),
    MISUSE(FreeContiguousTwice),
    MISUSE(FreeContiguousInside),
    MISUSE(FreeContiguousWrongSize),
    MISUSE(FreeContiguousWrongType),
    MISUSE(FreeContiguousStillMapped),
    MISUSE(ReadFreedContiguous),
    MISUSE(FreeNonCachedWrongSize),
    MISUSE(FreeNonCachedTwice),
    MISUSE(FreeNonCachedInside),
    MISUSE(BuildMdlOverNothing),
    MISUSE(MapWithoutAddresses),
    MISUSE(MapObsoleteWithoutAddresses),
    MISUSE(UnlockTwice),
    MISUSE(UnlockPagesOfAnMdl),
    MISUSE(UnlockCopy),
    MISUSE(UnlockForeignFrame),
    MISUSE(FreeLockedPool),
    MISUSE(BuildPartOutside),
    MISUSE(BuildPartTooLarge),
    MISUSE(ProtectChangedMdl),
    MISUSE(RaiseUnhandled),
    MISUSE(RaiseInCatchUnhandled),
    MISUSE(LockNothingUnhandled),
    MISUSE(DriverRaisesUnhandled),
    MISUSE(DriverFaultsUnhandled),
    MISUSE(DriverTriesKernelAddress),
    MISUSE(FreeBlockTwice),
    MISUSE(FreePagesOfPoolTwice),
    MISUSE(FreeBlockWrongTag),
    MISUSE(FreePagesOfPoolWrongTag),
    MISUSE(FreeInsideBlock),
    MISUSE(FreeKernelData),
    MISUSE(FreePageOfAnMdl),
    MISUSE(FreeUserAddress),
    MISUSE(FreeOverrunBlock),
    MISUSE(AllocateAtHighLevel),
    MISUSE(FreeAtHighLevel),
    MISUSE(AllocateWithTagZero),
    MISUSE(AllocateWithTagBig),
    MISUSE(AllocateWithTagUnprintable),
    MISUSE(AllocateMustSucceed),
    MISUSE(FreeMdlTwice),
    MISUSE(FreeForeignMdl),
    MISUSE(ReadReservation),
    MISUSE(WriteReservation),
    MISUSE(ExecuteReservation),
    MISUSE(ReadGuardPage),
    MISUSE(WriteBeforeReservation),
    MISUSE(ReadAfterUnmap),
    MISUSE(ReadNull),
    MISUSE(ReadNowhere),
    MISUSE(ReadNonCanonical),
    MISUSE(WriteNonCanonical),
    MISUSE(ReadExecuteOnly),
    MISUSE(ReadInaccessible),
    MISUSE(WriteProtectedMdl),
    MISUSE(ReadPassedPage),
    MISUSE(WriteReadOnlyMapping),
    MISUSE(WriteReadOnlyLargeMapping),
    MISUSE(WriteKernelText),
    MISUSE(WriteSelfMap),
    MISUSE(ExecuteMapping),
    MISUSE(ExecutePool),
    MISUSE(ExecuteStack),
    MISUSE(ImageWritesItsConstants),
    MISUSE(ImageExecutesItsData),
    MISUSE(ImageCallsDiscardedCode),
    MISUSE(ReadAtDispatch),
    MISUSE(WriteAtDispatch),
    MISUSE(ExecuteAtDispatch),
    MISUSE(OverflowStack),
    MISUSE(DivideByZero),
    MISUSE(RaiseToLower),
    MISUSE(LowerToHigher),
    MISUSE(AcquireLockTwice),
    MISUSE(ReleaseFreeLock),
    MISUSE(AcquireLocksInWrongOrder),
    MISUSE(AcquireLockAtHighLevel),
    MISUSE(StopWithACallback),
    MISUSE(StopWhileOthersRun),
    MISUSE(StopWhileOthersStand),
    MISUSE(WaitAtDispatch),
    MISUSE(DelayAtDispatch),
    MISUSE(WaitInADpc),
    MISUSE(ReturnFromADpcAtAnotherIrql),
    MISUSE(AcquireFastMutexTwice),
    MISUSE(ReleaseFreeFastMutex),
    MISUSE(AcquireFastMutexAtDispatch),
    MISUSE(ReleaseForeignMutex),
    MISUSE(LeaveRegionThatWasNotEntered),
    MISUSE(WaitForTooManyObjects),
    MISUSE(WaitForWhatIsNoObject),
    MISUSE(EndAThreadAtDispatch),
    MISUSE(EndAThreadInACriticalRegion),
    MISUSE(OverflowTheStackOfAThread),
    MISUSE(RaiseInAThread),
    MISUSE(AcquireSpinLockTwice),
    MISUSE(AcquireQueuedSpinLockTwice),
    MISUSE(ReleaseFreeSpinLock),
    MISUSE(AcquireSpinLockAtPassive),
    MISUSE(RaiseInDpc),
    MISUSE(RaiseInInterrupt),
    MISUSE(InterruptLeavesIrqlRaised),
    MISUSE(ConnectAtDispatch),
};

VOID KiRunBugCheckTest(PCSTR Name)
{
    for (ULONG Index = 0; Index < ARRAYSIZE(Tests); Index += 1) {
        if (RtlStringsEqual(Tests[Index].Name, Name)) {
            Tests[Index].Routine();
            DbgPrint("%s: the misuse went unnoticed\n", Name);
            return;
        }
    }
    if (KtRunViolation(Name) || KtRunDmaViolation(Name) || KtRunIoViolation(Name)) {
        DbgPrint("%s: the violation went unnoticed\n", Name);
        return;
    }
    DbgPrint("there is no bug-check test '%s'\n", Name);
}
