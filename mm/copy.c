// MmCopyMemory: copies from addresses that may be bad, and never faults.
//
// The source is looked up page by page and read through an address of ours, never through the
// caller's, so that it does not matter when his goes away in between. RAM is mostly in the direct
// map, or in the kernel's image; a frame that is mapped uncached or write-combined is in neither,
// and gets an address for as long as its bytes are copied, with the cache type that it has. A frame may
// come out of the direct map while it is copied: that is a fault of ours, which we see to.
//
// Device memory is not read at all: a read there may do something.
#include "mm/mi.h"

// The frame that a source's page lies in. FALSE: there is none, or it may not be read.
typedef BOOLEAN MI_SOURCE_ROUTINE(_In_ ULONG64 Source, _Out_ PPFN_NUMBER Pfn);

static BOOLEAN MiFindPhysicalSource(ULONG64 Source, PPFN_NUMBER Pfn)
{
    *Pfn = Source >> PAGE_SHIFT;
    return MiPfnElement(*Pfn) != NULL;
}

static BOOLEAN MiFindVirtualSource(ULONG64 Source, PPFN_NUMBER Pfn)
{
    MI_PROTECTION Protection;
    return MiTranslateWithProtection(Source, Pfn, &Protection) && MiPfnElement(*Pfn) != NULL &&
           Protection.Access != MiAccessExecute;
}

// Copies bytes of one page of a frame that has no address.
static NTSTATUS MiCopyHidden(PVOID Target, PFN_NUMBER Pfn, ULONG Offset, SIZE_T ByteCount)
{
    // Of a frame that has just been freed the type is open, or none: then nobody else maps it.
    const UCHAR Type = *(const volatile UCHAR *)&MiPfnElement(Pfn)->CacheType;
    const MI_PROTECTION Protection = {MiAccessRead, Type < MiCacheTypeCount ? (MI_CACHE_TYPE)Type
                                                                            : MiCacheWriteBack};
    const ULONG_PTR Va = MiReserveSystemVa(MiRegionPool, 1, 0, 0);
    NTSTATUS Status = Va == 0 ? STATUS_INSUFFICIENT_RESOURCES : MiPreparePages(Va, 1);
    if (NT_SUCCESS(Status)) {
        MI_TLB_BATCH Batch;
        MiInitializeTlbBatch(&Batch);
        MiCommitPages(Va, &Pfn, 1, Protection);
        RtlCopyMemory(Target, (PUCHAR)Va + Offset, ByteCount);
        MiClearRange(Va, 1, &Batch);
        MiFlushTlbBatch(&Batch);
    }
    if (Va != 0) {
        MiReleaseSystemVa(MiRegionPool, Va, 1, 0);
    }
    return Status;
}

// Copies bytes of one page.
static NTSTATUS MiCopyFromFrame(PVOID Target, PFN_NUMBER Pfn, ULONG Offset, SIZE_T ByteCount)
{
    const UCHAR *Page = MiKernelVaOfFrame(Pfn);
    if (Page == NULL) {
        return MiCopyHidden(Target, Pfn, Offset, ByteCount);
    }
    const KE_PROBE_RESULT Result = KeProbeCopy(Target, Page + Offset, ByteCount);
    if (!Result.Faulted) {
        return STATUS_SUCCESS;
    }
    // Another processor took the frame's address away just then.
    if (Result.FaultAddress - (ULONG64)Page < PAGE_SIZE) {
        return MiCopyHidden(Target, Pfn, Offset, ByteCount);
    }
    RtlCopyMemory(Target, Page + Offset, ByteCount); // the target is bad: the fault is the caller's
    return STATUS_SUCCESS;
}

static NTSTATUS MiCopyPages(PUCHAR Target, ULONG64 Source, SIZE_T ByteCount,
                            MI_SOURCE_ROUTINE *FindSource, PSIZE_T Copied)
{
    NTSTATUS Status = STATUS_SUCCESS;
    while (NT_SUCCESS(Status) && *Copied < ByteCount) {
        const ULONG64 At = Source + *Copied;
        const SIZE_T Room = PAGE_SIZE - BYTE_OFFSET(At);
        const SIZE_T Bytes = ByteCount - *Copied < Room ? ByteCount - *Copied : Room;
        PFN_NUMBER Pfn;
        // Source + ByteCount may wrap: there is no RAM at the top of either address space.
        Status = FindSource(At, &Pfn)
                     ? MiCopyFromFrame(Target + *Copied, Pfn, BYTE_OFFSET(At), Bytes)
                     : STATUS_INVALID_ADDRESS;
        *Copied += NT_SUCCESS(Status) ? Bytes : 0;
    }
    return Status;
}

NTSTATUS NTAPI MmCopyMemory(PVOID TargetAddress, MM_COPY_ADDRESS SourceAddress,
                            SIZE_T NumberOfBytes, ULONG Flags, PSIZE_T NumberOfBytesTransferred)
{
    if (MiIsVerifying()) {
        MiVerifyIrql(MiIrqlCopyMemory, 0, 0, __builtin_return_address(0));
    }
    *NumberOfBytesTransferred = 0;
    if (Flags != MM_COPY_MEMORY_PHYSICAL && Flags != MM_COPY_MEMORY_VIRTUAL) {
        MiRefusePlain(__func__, MiReasonFlags);
        return STATUS_INVALID_PARAMETER;
    }
    const NTSTATUS Status =
        MiCopyPages(TargetAddress, (ULONG64)SourceAddress.PhysicalAddress.QuadPart, NumberOfBytes,
                    Flags == MM_COPY_MEMORY_PHYSICAL ? MiFindPhysicalSource : MiFindVirtualSource,
                    NumberOfBytesTransferred);
    if (!NT_SUCCESS(Status)) {
        MiRefusePlain(__func__,
                      Status == STATUS_INVALID_ADDRESS ? MiReasonAccess : MiReasonResources);
    }
    return Status;
}
