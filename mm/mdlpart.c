// Parts of MDLs: IoBuildPartialMdl and MmAdvanceMdl.
//
//   source   StartVa ─▶ |   page 0   |   page 1   |   page 2   |   page 3   |
//                          ▲ buffer begins                ends ▲
//   partial              |   page 1   |   page 2   |           copied frames, borrowed locks
//   advanced                          |   page 2   |   page 3   |   what was passed is let go
//
// A partial MDL locks nothing: the source's owner unlocks, after the last use of the part. It has the
// source's address as its own, or makes one (MDL_PARTIAL_HAS_BEEN_MAPPED).
//
// When a mapped MDL advances over whole pages, their addresses become guards in front of its mapping:
// nothing is mapped there, and they are released with it. So the record describes at all times just
// what the MDL describes. MDL_FREE_EXTRA_PTES says so, and the slot behind the last frame how many.
//
// Callers serialise the use of an MDL, as documented.
#include "mm/mi.h"

//
// IoBuildPartialMdl.
//

#define MI_PARTIAL_KEEPS (MDL_ALLOCATED_FIXED_SIZE | MDL_ALLOCATED_MUST_SUCCEED)
#define MI_PARTIAL_INHERITS                                                                        \
    (MDL_IO_PAGE_READ | MDL_SOURCE_IS_NONPAGED_POOL | MDL_MAPPED_TO_SYSTEM_VA | MDL_IO_SPACE)

// The part's bytes must be the source's. Length 0 becomes all that follow.
static ULONG MiCheckPartialRange(PMDL Source, PMDL Target, ULONG_PTR Va, ULONG Length)
{
    const ULONG_PTR Offset = Va - (ULONG_PTR)MmGetMdlVirtualAddress(Source);
    if (Offset >= Source->ByteCount || Length > Source->ByteCount - Offset) {
        MiBugCheck(INVALID_MDL_RANGE, (ULONG_PTR)Source, (ULONG_PTR)Target, Va, Length,
                   "IoBuildPartialMdl: the source at 0x%p describes 0x%x bytes from 0x%p on; 0x%x "
                   "bytes from 0x%p on are not all among them",
                   Source, Source->ByteCount, MmGetMdlVirtualAddress(Source), Length, (PVOID)Va);
    }
    return Length != 0 ? Length : Source->ByteCount - (ULONG)Offset;
}

static VOID MiCheckPartialRoom(PMDL Target, PFN_NUMBER PageCount)
{
    const PFN_NUMBER Capacity = MiMdlCapacity(Target);
    if (PageCount > Capacity) {
        MiBugCheck(TARGET_MDL_TOO_SMALL, (ULONG_PTR)Target, PageCount, Capacity, 0,
                   "IoBuildPartialMdl: the target at 0x%p has room for %llu frames, and needs %llu",
                   Target, Capacity, PageCount);
    }
}

// The last use of the target must be over: what is mapped would be lost.
static VOID MiCheckPartialTarget(PMDL Target)
{
    if (MiHasOwnMapping(Target)) {
        DbgPrint("mm: IoBuildPartialMdl: the target at 0x%p is still mapped at 0x%p "
                 "(MmPrepareMdlForReuse was not called); it is unmapped now\n",
                 Target, Target->MappedSystemVa);
        MiUnmapMdl(Target);
    }
    if (MiIsMdlSealed(Target)) {
        DbgPrint(
            "mm: IoBuildPartialMdl: the target at 0x%p still locks its pages; nobody will unlock "
            "them now\n",
            Target);
    }
}

// Where the source's own address shows the byte at Va; NULL when it has none. A reservation's lacks
// the byte offset.
static PVOID MiSystemVaOfPart(PMDL Source, ULONG_PTR Va)
{
    if ((Source->MdlFlags & (MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL)) == 0) {
        return NULL;
    }
    return (PUCHAR)PAGE_ALIGN(Source->MappedSystemVa) + (Va - (ULONG_PTR)Source->StartVa);
}

VOID NTAPI IoBuildPartialMdl(PMDL SourceMdl, PMDL TargetMdl, PVOID VirtualAddress, ULONG Length)
{
    if (MiIsVerifying()) {
        MiVerifyIrql(MiIrqlIoBuildPartialMdl, 0, 0, __builtin_return_address(0));
    }
    const ULONG_PTR Va = (ULONG_PTR)VirtualAddress;
    const ULONG ByteCount = MiCheckPartialRange(SourceMdl, TargetMdl, Va, Length);
    const PFN_NUMBER PageCount = MiPagesSpanned(Va, ByteCount);
    MiCheckPartialRoom(TargetMdl, PageCount);
    MiCheckPartialTarget(TargetMdl);
    const PFN_NUMBER FirstPage = (Va - (ULONG_PTR)SourceMdl->StartVa) >> PAGE_SHIFT;
    RtlMoveMemory(MmGetMdlPfnArray(TargetMdl), &MmGetMdlPfnArray(SourceMdl)[FirstPage],
                  PageCount * sizeof(PFN_NUMBER));
    TargetMdl->MdlFlags = (CSHORT)((TargetMdl->MdlFlags & MI_PARTIAL_KEEPS) |
                                   (SourceMdl->MdlFlags & MI_PARTIAL_INHERITS) | MDL_PARTIAL);
    TargetMdl->Process = SourceMdl->Process;
    TargetMdl->MappedSystemVa = MiSystemVaOfPart(SourceMdl, Va);
    TargetMdl->StartVa = PAGE_ALIGN(VirtualAddress);
    TargetMdl->ByteOffset = BYTE_OFFSET(VirtualAddress);
    TargetMdl->ByteCount = ByteCount;
    MiBreakSeal(TargetMdl);
}

//
// MmAdvanceMdl.
//

// Whether whole pages may be passed. FALSE: who handed out the frames needs them all back together,
// or a reservation must be left as it was entered.
static BOOLEAN MiMayPassPages(const MDL *Mdl, const MI_MAPPING *Mapping)
{
    return (!MiIsMdlSealed(Mdl) || MiIsMdlLocked(Mdl)) &&
           (Mapping == NULL || Mapping->Kind == MiMappingMdl);
}

// How many holds of their own the MDL and its mapping have in the ledger.
static ULONG MiHoldersOfMdl(PMDL Mdl, const MI_MAPPING *Mapping)
{
    return (MiIsMdlLocked(Mdl) || MiPagesHeldByMdl(Mdl) != 0) +
           (Mapping != NULL && Mapping->Locked.HoldsFrames);
}

// Ends the mapping of the leading pages: they become guards.
static VOID MiUnmapPassedPages(PMI_MAPPING Mapping, PFN_NUMBER Passed)
{
    const PMDL Mdl = Mapping->Locked.Mdl;
    if (Mapping->InaccessiblePages != 0) {
        Mapping->InaccessiblePages -= MiCountInaccessible(MiShownVa(Mapping), Passed);
    }
    MiUncommitLeadingPages(Mapping, Passed);
    Mapping->SkippedPages += Passed;
    Mapping->Locked.StartVa = (PUCHAR)Mapping->Locked.StartVa + (Passed << PAGE_SHIFT);
    Mapping->Locked.FirstPfn = MmGetMdlPfnArray(Mdl)[Passed];
}

// Lets go of the frames that are passed, and closes the gap in the array.
static VOID MiShiftFrames(PMDL Mdl, PFN_NUMBER Passed, BOOLEAN LeavesPtes)
{
    const PPFN_NUMBER Pfns = MmGetMdlPfnArray(Mdl);
    const PFN_NUMBER PageCount = MiMdlPageCount(Mdl);
    const PFN_NUMBER Before = (Mdl->MdlFlags & MDL_FREE_EXTRA_PTES) != 0 ? Pfns[PageCount] : 0;
    if (MiIsMdlLocked(Mdl)) {
        MiUnlockFrames(Pfns, Passed);
    }
    RtlMoveMemory(Pfns, &Pfns[Passed], (PageCount - Passed) * sizeof(PFN_NUMBER));
    RtlZeroMemory(&Pfns[PageCount - Passed], Passed * sizeof(PFN_NUMBER));
    if (LeavesPtes) {
        Pfns[PageCount - Passed] = Before + Passed;
        Mdl->MdlFlags |= MDL_FREE_EXTRA_PTES;
    }
}

static NTSTATUS MiPassPages(PMDL Mdl, PFN_NUMBER Passed)
{
    const BOOLEAN IsAll = Passed == MiMdlPageCount(Mdl);
    const PMI_MAPPING Mapping = IsAll ? NULL : MiFindOwnMapping(Mdl);
    if (!MiMayPassPages(Mdl, Mapping)) {
        MiRefusePlain("MmAdvanceMdl", MiReasonMdlInUse);
        return STATUS_NOT_SUPPORTED;
    }
    if (IsAll) {
        MiUnmapMdl(Mdl); // nothing would be left to map
    }
    const ULONG HolderCount = MiHoldersOfMdl(Mdl, Mapping);
    if (MiPagesHeldByMdl(Mdl) != 0) {
        MiForgetHeldPages(Mdl, Passed);
    }
    if (Mapping != NULL) {
        MiUnmapPassedPages(Mapping, Passed);
    }
    for (ULONG Holder = 0; Holder < HolderCount; Holder += 1) {
        MiReleaseIoFrames(MmGetMdlPfnArray(Mdl), Passed);
    }
    MiShiftFrames(Mdl, Passed, Mapping != NULL);
    return STATUS_SUCCESS;
}

// A reservation's address lacks the byte offset, so it stays within a page.
static VOID MiAdvanceSystemVa(PMDL Mdl, ULONG ByteCount)
{
    const PMI_MAPPING Mapping = MiFindOwnMapping(Mdl);
    if ((Mdl->MdlFlags & (MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL)) != 0 &&
        (Mapping == NULL || Mapping->Kind == MiMappingMdl)) {
        Mdl->MappedSystemVa = (PUCHAR)Mdl->MappedSystemVa + ByteCount;
    }
}

NTSTATUS NTAPI MmAdvanceMdl(PMDL Mdl, ULONG NumberOfBytes)
{
    if (MiIsVerifying()) {
        MiVerifyIrql(MiIrqlAdvanceMdl, 0, 0, __builtin_return_address(0));
    }
    if (NumberOfBytes > Mdl->ByteCount) {
        MiRefusePlain(__func__, MiReasonTooLarge);
        return STATUS_INVALID_PARAMETER_2;
    }
    const ULONG64 NewOffset = (ULONG64)Mdl->ByteOffset + NumberOfBytes;
    const PFN_NUMBER Passed = NewOffset >> PAGE_SHIFT;
    if (Passed != 0) {
        const NTSTATUS Status = MiPassPages(Mdl, Passed);
        if (!NT_SUCCESS(Status)) {
            return Status;
        }
    }
    MiAdvanceSystemVa(Mdl, NumberOfBytes);
    Mdl->StartVa = (PUCHAR)Mdl->StartVa + (Passed << PAGE_SHIFT);
    Mdl->ByteOffset = BYTE_OFFSET(NewOffset);
    Mdl->ByteCount -= NumberOfBytes;
    return STATUS_SUCCESS;
}
