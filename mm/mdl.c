// MDLs: lists of frames that describe a buffer.
//
// The life of an MDL, by its flags:
//
//   IoAllocateMdl, MmCreateMdl   ->  0
//     MmBuildMdlForNonPagedPool  ->  SOURCE_IS_NONPAGED_POOL: has a system address from the start
//     MmProbeAndLockPages        ->  PAGES_LOCKED                    (lock.c)
//     IoBuildPartialMdl          ->  PARTIAL, and what the source has (mdlpart.c)
//   MmAllocateMdlForIoSpace      ->  PAGES_LOCKED | IO_SPACE
//   MmAllocatePagesForMdl(Ex)    ->  PAGES_LOCKED
//
//   PAGES_LOCKED  --map-->  PAGES_LOCKED | MAPPED_TO_SYSTEM_VA  --unmap-->  PAGES_LOCKED
//
// An MDL from IoAllocateMdl or MmAllocateMdlForIoSpace stands behind a small header of ours. There
// IoFreeMdl finds how many frames the MDL holds in the ledger, and IoBuildPartialMdl how many fit; and
// an MDL that came from somewhere else, or was freed already, is recognised. (MDLs of MmCreateMdl and
// MmAllocatePagesForMdl have none: drivers free them by ExFreePool.)
//
// IRQL <= DISPATCH_LEVEL for all. No locks here: callers serialise the use of one MDL, as
// documented.
#include "kernel/inc/checked.h"
#include "mm/mi.h"

typedef struct _MI_MDL_HEADER {
    ULONG PageCount;     // room in the frame array
    ULONG Signature;     // the pool leaves it as it is when the block is free
    ULONG HeldPageCount; // leading pages whose I/O frames it holds: MmAllocateMdlForIoSpace
} MI_MDL_HEADER, *PMI_MDL_HEADER;

#define MI_MDL_SIGNATURE 0x4C444D2Bu
#define MI_MDL_FREED 0x4C444D2Du
#define MI_MDL_HEADER_BYTES 16
#define MI_MDL_TAG ' ldM'
C_ASSERT(sizeof(MI_MDL_HEADER) <= MI_MDL_HEADER_BYTES);

// The largest buffer is 4 GiB less one page: its byte count must fit the MDL.
#define MI_MDL_MAXIMUM_PAGES 0xFFFFFu

static PMI_MDL_HEADER MiHeaderOfMdl(PMDL Mdl)
{
    return (PMI_MDL_HEADER)((PUCHAR)Mdl - MI_MDL_HEADER_BYTES);
}

// An MDL with room for PageCount frames, all zero. NULL: no pool.
static PMDL MiAllocateMdl(PFN_NUMBER PageCount)
{
    const PMI_MDL_HEADER Header = MiAllocatePool(
        MI_MDL_HEADER_BYTES + sizeof(MDL) + PageCount * sizeof(PFN_NUMBER), MI_MDL_TAG);
    if (Header == NULL) {
        return NULL;
    }
    Header->Signature = MI_MDL_SIGNATURE;
    Header->PageCount = (ULONG)PageCount;
    return (PMDL)((PUCHAR)Header + MI_MDL_HEADER_BYTES);
}

static VOID MiFreeMdl(PMDL Mdl)
{
    const PMI_MDL_HEADER Header = MiHeaderOfMdl(Mdl);
    Header->Signature = MI_MDL_FREED;
    MiUntrack(MiTrackMdl, Mdl);
    MiFreePool(Header);
}

static VOID MiAppendMdl(PIRP Irp, PMDL Mdl)
{
    PMDL *Link = &Irp->MdlAddress;
    while (*Link != NULL) {
        Link = &(*Link)->Next;
    }
    *Link = Mdl;
}

SIZE_T NTAPI MmSizeOfMdl(PVOID Base, SIZE_T Length)
{
    return sizeof(MDL) + MiPagesSpanned((ULONG_PTR)Base, Length) * sizeof(PFN_NUMBER);
}

// Whether an MDL may describe the buffer. Its pages go to *PageCount.
static BOOLEAN MiIsBufferLegal(PVOID VirtualAddress, SIZE_T Length, PFN_NUMBER *PageCount,
                               const CHAR *Routine)
{
    *PageCount = MiPagesSpanned((ULONG_PTR)VirtualAddress, Length);
    if (Length == 0 || *PageCount > MI_MDL_MAXIMUM_PAGES) {
        MiRefusePlain(Routine, Length == 0 ? MiReasonZeroBytes : MiReasonTooLarge);
        return FALSE;
    }
    return TRUE;
}

// The block is the MDL: the driver frees it by ExFreePool, which forgets the record, too.
static PMDL MiAllocateMdlBlock(PFN_NUMBER PageCount, PVOID Caller)
{
    const SIZE_T ByteCount = sizeof(MDL) + PageCount * sizeof(PFN_NUMBER);
    PMDL Mdl = MiAllocatePool(ByteCount, MI_MDL_TAG);
    if (Mdl != NULL && MiIsVerifying()) {
        MiTrack(MiTrackPool, Mdl, ByteCount, MI_MDL_TAG, Caller);
    }
    return Mdl;
}

PMDL NTAPI MmCreateMdl(PMDL Mdl, PVOID Base, SIZE_T Length)
{
    PFN_NUMBER PageCount;
    if (!MiIsBufferLegal(Base, Length, &PageCount, __func__)) {
        return NULL;
    }
    if (Mdl == NULL) {
        Mdl = MiAllocateMdlBlock(PageCount, __builtin_return_address(0));
    }
    if (Mdl == NULL) {
        MiRefusePlain(__func__, MiReasonResources);
        return NULL;
    }
    MmInitializeMdl(Mdl, Base, Length);
    return Mdl;
}

PMDL NTAPI IoAllocateMdl(PVOID VirtualAddress, ULONG Length, BOOLEAN SecondaryBuffer,
                         BOOLEAN ChargeQuota, PIRP Irp)
{
    if (MiIsVerifying()) {
        MiVerifyIrql(MiIrqlIoAllocateMdl, 0, 0, __builtin_return_address(0));
    }
    UNREFERENCED_PARAMETER(ChargeQuota);
    PFN_NUMBER PageCount;
    if (!MiIsBufferLegal(VirtualAddress, Length, &PageCount, __func__)) {
        return NULL;
    }
    PMDL Mdl = MiAllocateMdl(PageCount);
    if (Mdl == NULL) {
        MiRefusePlain(__func__, MiReasonResources);
        return NULL;
    }
    MmInitializeMdl(Mdl, VirtualAddress, Length);
    if (Irp != NULL && SecondaryBuffer) {
        MiAppendMdl(Irp, Mdl);
    } else if (Irp != NULL) {
        Irp->MdlAddress = Mdl;
    }
    if (MiIsVerifying()) {
        MiTrack(MiTrackMdl, Mdl, MmSizeOfMdl(VirtualAddress, Length), 0,
                __builtin_return_address(0));
    }
    return Mdl;
}

// What stands in the header of an MDL that may not be ours, and so may have none; 0: no header.
static ULONG MiSignatureOfMdl(PMDL Mdl)
{
    PFN_NUMBER Pfn;
    return BYTE_OFFSET(Mdl) >= MI_MDL_HEADER_BYTES && MiTranslate((ULONG_PTR)Mdl, &Pfn)
               ? MiHeaderOfMdl(Mdl)->Signature
               : 0;
}

PFN_NUMBER MiMdlCapacity(PMDL Mdl)
{
    if (MiSignatureOfMdl(Mdl) == MI_MDL_SIGNATURE) {
        return MiHeaderOfMdl(Mdl)->PageCount;
    }
    // In memory of a driver: Size is the only record, and too narrow for a big one, of which only
    // what it describes now is certain.
    const PFN_NUMBER Described = MiMdlPageCount(Mdl);
    const ULONG Size = (USHORT)Mdl->Size;
    const PFN_NUMBER Recorded = Size > sizeof(MDL) ? (Size - sizeof(MDL)) / sizeof(PFN_NUMBER) : 0;
    return Described > Recorded ? Described : Recorded;
}

PFN_NUMBER MiPagesHeldByMdl(PMDL Mdl)
{
    return MiSignatureOfMdl(Mdl) == MI_MDL_SIGNATURE ? MiHeaderOfMdl(Mdl)->HeldPageCount : 0;
}

VOID MiForgetHeldPages(PMDL Mdl, PFN_NUMBER PageCount)
{
    MiHeaderOfMdl(Mdl)->HeldPageCount -= (ULONG)PageCount;
}

// What a driver has forgotten is put right where that is safe, and said.
static VOID MiReportForgotten(PMDL Mdl)
{
    if (MiHasOwnMapping(Mdl) && (Mdl->MdlFlags & MDL_PARTIAL) == 0) {
        DbgPrint("mm: IoFreeMdl: the MDL at 0x%p is still mapped at 0x%p; it is unmapped now\n",
                 Mdl, Mdl->MappedSystemVa);
    }
    if (MiIsMdlLocked(Mdl)) {
        DbgPrint("mm: IoFreeMdl: the MDL at 0x%p still locks %llu pages; they stay locked\n", Mdl,
                 MiMdlPageCount(Mdl));
    }
}

VOID NTAPI IoFreeMdl(PMDL Mdl)
{
    if (MiIsVerifying()) {
        MiVerifyIoFreeMdl(Mdl, __builtin_return_address(0));
    }
    const ULONG Signature = MiSignatureOfMdl(Mdl);
    if (Signature != MI_MDL_SIGNATURE) {
        const BOOLEAN WasFreed = Signature == MI_MDL_FREED;
        MiBugCheck(BAD_POOL_CALLER, WasFreed ? 0x07 : 0x99, (ULONG_PTR)Mdl, 0, 0,
                   "IoFreeMdl: the MDL at 0x%p %s", Mdl,
                   WasFreed ? "was freed already"
                            : "comes from neither IoAllocateMdl nor MmAllocateMdlForIoSpace");
    }
    MiReportForgotten(Mdl);
    MiUnmapMdl(Mdl);
    MiReleaseIoFrames(MmGetMdlPfnArray(Mdl), MiHeaderOfMdl(Mdl)->HeldPageCount);
    MiFreeMdl(Mdl);
}

// An MDL with one of these describes frames already.
#define MI_BUILT_FLAGS                                                                             \
    (MDL_PAGES_LOCKED | MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL | MDL_PARTIAL)

VOID NTAPI MmBuildMdlForNonPagedPool(PMDL MemoryDescriptorList)
{
    if (MiIsVerifying()) {
        MiVerifyBuildMdlForNonPagedPool(MemoryDescriptorList, __builtin_return_address(0));
    }
    NT_ASSERT((MemoryDescriptorList->MdlFlags & MI_BUILT_FLAGS) == 0);
    const ULONG_PTR FirstVa = (ULONG_PTR)MemoryDescriptorList->StartVa;
    const PFN_NUMBER PageCount = MiMdlPageCount(MemoryDescriptorList);
    PPFN_NUMBER Pfns = MmGetMdlPfnArray(MemoryDescriptorList);
    CSHORT Flags = MDL_SOURCE_IS_NONPAGED_POOL;
    for (PFN_NUMBER Page = 0; Page < PageCount; Page += 1) {
        const ULONG_PTR Va = FirstVa + (Page << PAGE_SHIFT);
        if (!MiTranslate(Va, &Pfns[Page])) {
            MiBugCheck(
                MEMORY_MANAGEMENT, 0x1240, (ULONG_PTR)MemoryDescriptorList, MiPteAddress(Va), 0,
                "MmBuildMdlForNonPagedPool: nothing is mapped at 0x%p, a page of the MDL's buffer",
                (PVOID)Va);
        }
        if (MiPfnElement(Pfns[Page]) == NULL) {
            Flags |= MDL_IO_SPACE;
        }
    }
    MemoryDescriptorList->Process = NULL;
    MemoryDescriptorList->MappedSystemVa = MmGetMdlVirtualAddress(MemoryDescriptorList);
    MemoryDescriptorList->MdlFlags |= Flags;
}

//
// Frames of an MDL.
//

VOID MiSetMdlMapped(PMDL Mdl, ULONG_PTR SystemVa)
{
    Mdl->MappedSystemVa = (PVOID)SystemVa;
    Mdl->MdlFlags |= MDL_MAPPED_TO_SYSTEM_VA;
    if ((Mdl->MdlFlags & MDL_PARTIAL) != 0) {
        Mdl->MdlFlags |= MDL_PARTIAL_HAS_BEEN_MAPPED;
    }
}

static BOOLEAN MiIsMappableIoFrame(PFN_NUMBER Pfn)
{
    MI_REASON Reason;
    return MiPfnState(Pfn) == MiPfnNotRam && Pfn <= MiHighestPfn() &&
           MiIsIoSpace((MI_PFN_RANGE){Pfn, Pfn}, &Reason);
}

// Whether an MDL may name the frame of RAM. The kernel's own may be named while somebody locks it.
static BOOLEAN MiIsFrameOfMdls(PFN_NUMBER Pfn)
{
    const MI_PFN_STATE State = MiPfnState(Pfn);
    return State == MiPfnMdl || State == MiPfnPool || State == MiPfnDriver || State == MiPfnImage ||
           (State == MiPfnKernel && MiPfnElement(Pfn)->LockCount != 0);
}

DECLSPEC_NORETURN VOID MiStopUnlockedFrame(PMDL Mdl, const PFN_NUMBER *Slot)
{
    MiBugCheck(MEMORY_MANAGEMENT, 0x1236, (ULONG_PTR)Mdl, (ULONG_PTR)Slot, *Slot,
               "page %llu of the MDL at 0x%p is frame 0x%llx, which is neither locked nor device "
               "memory",
               (ULONG64)(Slot - MmGetMdlPfnArray(Mdl)), Mdl, *Slot);
}

BOOLEAN MiCheckMdlFrames(PMDL Mdl)
{
    BOOLEAN IsAllRam = TRUE;
    const PPFN_NUMBER Pfns = MmGetMdlPfnArray(Mdl);
    const PFN_NUMBER PageCount = MiMdlPageCount(Mdl);
    for (PFN_NUMBER Page = 0; Page < PageCount; Page += 1) {
        if (MiIsFrameOfMdls(Pfns[Page])) {
            continue;
        }
        IsAllRam = FALSE;
        if (!MiIsMappableIoFrame(Pfns[Page])) {
            MiStopUnlockedFrame(Mdl, &Pfns[Page]);
        }
    }
    return IsAllRam;
}

// The pages that the leading run of adjacent I/O frames, or of adjacent frames of RAM, takes up.
static PFN_NUMBER MiFrameRun(const PFN_NUMBER *Pfns, PFN_NUMBER PageCount, PBOOLEAN IsRam)
{
    PFN_NUMBER Count = 1;
    *IsRam = MiPfnElement(Pfns[0]) != NULL;
    while (Count < PageCount && Pfns[Count] == Pfns[Count - 1] + 1 &&
           (MiPfnElement(Pfns[Count]) != NULL) == *IsRam) {
        Count += 1;
    }
    return Count;
}

// For C3: the frames that MDLs and their mappings hold in the ledger.
static ULONG64 MiIoFramesHeld;

ULONG64 MiIoFramesHeldByMdls(VOID)
{
    return MiIoFramesHeld;
}

NTSTATUS MiHoldIoFrames(const PFN_NUMBER *Pfns, PFN_NUMBER PageCount, PVOID Caller)
{
    PFN_NUMBER Held = 0;
    while (Held < PageCount) {
        BOOLEAN IsRam;
        const PFN_NUMBER Run = MiFrameRun(&Pfns[Held], PageCount - Held, &IsRam);
        const MI_PFN_RANGE Range = {Pfns[Held], Pfns[Held] + Run - 1};
        const NTSTATUS Status =
            IsRam ? STATUS_SUCCESS : MiHoldFrames(Range, MiCacheUndecided, Caller);
        if (!NT_SUCCESS(Status)) {
            MiReleaseIoFrames(Pfns, Held);
            return Status;
        }
        __atomic_fetch_add(&MiIoFramesHeld, IsRam ? 0 : Run, __ATOMIC_RELAXED);
        Held += Run;
    }
    return STATUS_SUCCESS;
}

VOID MiReleaseIoFrames(const PFN_NUMBER *Pfns, PFN_NUMBER PageCount)
{
    PFN_NUMBER Released = 0;
    while (Released < PageCount) {
        BOOLEAN IsRam;
        const PFN_NUMBER Run = MiFrameRun(&Pfns[Released], PageCount - Released, &IsRam);
        if (!IsRam) {
            MiReleaseFrames((MI_PFN_RANGE){Pfns[Released], Pfns[Released] + Run - 1});
            __atomic_fetch_sub(&MiIoFramesHeld, Run, __ATOMIC_RELAXED);
        }
        Released += Run;
    }
}

//
// MmAllocateMdlForIoSpace.
//

// Whether one entry of the list names whole pages of I/O space. Its frames go to *Range.
static BOOLEAN MiIsEntryLegal(const MM_PHYSICAL_ADDRESS_LIST *Entry, MI_PFN_RANGE *Range,
                              MI_REASON *Reason)
{
    const ULONG64 Base = (ULONG64)Entry->PhysicalAddress.QuadPart;
    if (((Base | Entry->NumberOfBytes) & (PAGE_SIZE - 1)) != 0) {
        *Reason = MiReasonAlignment;
        return FALSE;
    }
    return MiRangeFromBytes(Base, Entry->NumberOfBytes, Range, Reason) &&
           MiIsIoSpace(*Range, Reason);
}

// Whether all entries are legal, and fit one MDL together. Their pages go to *PageCount.
static BOOLEAN MiIsListLegal(const MM_PHYSICAL_ADDRESS_LIST *List, SIZE_T EntryCount,
                             PFN_NUMBER *PageCount)
{
    *PageCount = 0;
    for (SIZE_T Entry = 0; Entry < EntryCount; Entry += 1) {
        MI_PFN_RANGE Range = {0, 0};
        MI_REASON Reason;
        BOOLEAN IsLegal = MiIsEntryLegal(&List[Entry], &Range, &Reason);
        if (IsLegal && MiRangePageCount(Range) > MI_MDL_MAXIMUM_PAGES - *PageCount) {
            Reason = MiReasonTooLarge;
            IsLegal = FALSE;
        }
        if (!IsLegal) {
            MiRefuse("MmAllocateMdlForIoSpace", Reason, Range, NULL);
            return FALSE;
        }
        *PageCount += MiRangePageCount(Range);
    }
    return TRUE;
}

static VOID MiFillFrames(PPFN_NUMBER Pfns, const MM_PHYSICAL_ADDRESS_LIST *List, SIZE_T EntryCount)
{
    PFN_NUMBER Page = 0;
    for (SIZE_T Entry = 0; Entry < EntryCount; Entry += 1) {
        const PFN_NUMBER FirstPfn = (ULONG64)List[Entry].PhysicalAddress.QuadPart >> PAGE_SHIFT;
        const PFN_NUMBER EntryPages = List[Entry].NumberOfBytes >> PAGE_SHIFT;
        for (PFN_NUMBER Index = 0; Index < EntryPages; Index += 1) {
            Pfns[Page] = FirstPfn + Index;
            Page += 1;
        }
    }
}

NTSTATUS NTAPI MmAllocateMdlForIoSpace(PMM_PHYSICAL_ADDRESS_LIST PhysicalAddressList,
                                       SIZE_T NumberOfEntries, PMDL *NewMdl)
{
    if (MiIsVerifying()) {
        MiVerifyIrql(MiIrqlAllocateMdlForIoSpace, 0, 0, __builtin_return_address(0));
    }
    PFN_NUMBER PageCount;
    *NewMdl = NULL;
    if (NumberOfEntries == 0) {
        MiRefusePlain(__func__, MiReasonZeroBytes);
        return STATUS_INVALID_PARAMETER_2;
    }
    if (!MiIsListLegal(PhysicalAddressList, NumberOfEntries, &PageCount)) {
        return STATUS_INVALID_PARAMETER_1;
    }
    PMDL Mdl = MiAllocateMdl(PageCount);
    if (Mdl == NULL) {
        MiRefusePlain(__func__, MiReasonResources);
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    MmInitializeMdl(Mdl, NULL, PageCount << PAGE_SHIFT);
    Mdl->MdlFlags = MDL_PAGES_LOCKED | MDL_IO_SPACE;
    MiFillFrames(MmGetMdlPfnArray(Mdl), PhysicalAddressList, NumberOfEntries);
    const NTSTATUS Status =
        MiHoldIoFrames(MmGetMdlPfnArray(Mdl), PageCount, __builtin_return_address(0));
    if (!NT_SUCCESS(Status)) {
        MiRefusePlain(__func__, MiReasonResources);
        MiFreeMdl(Mdl);
        return Status;
    }
    MiHeaderOfMdl(Mdl)->HeldPageCount = (ULONG)PageCount;
    *NewMdl = Mdl;
    if (MiIsVerifying()) {
        MiTrack(MiTrackMdl, Mdl, MmSizeOfMdl(NULL, PageCount << PAGE_SHIFT), 0,
                __builtin_return_address(0));
    }
    return STATUS_SUCCESS;
}
