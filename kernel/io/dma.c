// DMA adapters: made by IoGetDmaAdapter, released by PutDmaAdapter, and what they say of themselves.
//
// Two back ends, by the boot option dma:
//
//   dma=identity  a logical address is the physical one. Pages that a device cannot reach, and
//                 buffers in several pieces for a device that takes one, go by bounce pages.
//   dma=bounce    every page of RAM goes by a bounce page: what a driver forgets to flush never arrives,
//                 and what it maps in the wrong direction is lost. Memory of devices does not: a
//                 transfer from one to another goes straight at both settings.
#include "kernel/io/dma.h"
#include "kernel/inc/checked.h"

// Registers of one adapter at most: a page each of contiguous memory, or nothing but a record.
#define IOP_DMA_BOUNCE_REGISTERS 513
#define IOP_DMA_DIRECT_REGISTERS 0x10001

#define IOP_DMA_ISA_BITS 24
#define IOP_DMA_MAXIMUM_BITS 64

KI_LOCK IopDmaListLock = KI_LOCK_INITIALIZER(IOP_RANK_DMA_LIST, "IopDmaListLock");
LIST_ENTRY IopDmaAdapters = {&IopDmaAdapters, &IopDmaAdapters};

//
// What a device can do.
//

// Address lines of the device. 0: none such.
static ULONG IopAddressBits(const DEVICE_DESCRIPTION *Description)
{
    if (Description->Version == DEVICE_DESCRIPTION_VERSION3 && Description->DmaAddressWidth != 0) {
        const ULONG Bits = Description->DmaAddressWidth;
        return Bits > PAGE_SHIFT && Bits <= IOP_DMA_MAXIMUM_BITS ? Bits : 0;
    }
    if (Description->Dma64BitAddresses) {
        return 64;
    }
    return Description->Dma32BitAddresses ? 32 : IOP_DMA_ISA_BITS;
}

static ULONG64 IopHighestAddress(ULONG AddressBits)
{
    return AddressBits == 64 ? MAXULONG64 : (1ull << AddressBits) - 1;
}

// The last byte of RAM. MAXULONG64: no pool to ask in.
static ULONG64 IopLastRamAddress(VOID)
{
    const PPHYSICAL_MEMORY_RANGE Ranges = MmGetPhysicalMemoryRanges();
    ULONG64 LastAddress = 0;
    if (Ranges == NULL) {
        return MAXULONG64;
    }
    for (ULONG Index = 0; Ranges[Index].NumberOfBytes.QuadPart != 0; Index += 1) {
        LastAddress = (ULONG64)Ranges[Index].BaseAddress.QuadPart +
                      (ULONG64)Ranges[Index].NumberOfBytes.QuadPart - 1;
    }
    ExFreePool(Ranges);
    return LastAddress;
}

// Registers for MaximumLength bytes at any offset in a page.
static ULONG IopWantedRegisters(const DEVICE_DESCRIPTION *Description, ULONG Maximum)
{
    const ULONG Wanted = (ULONG)BYTES_TO_PAGES((ULONG64)Description->MaximumLength) + 1;
    return Wanted < Maximum ? Wanted : Maximum;
}

//
// Make and destroy.
//

// A page for each register, and a guard before and behind. FALSE: no memory that the device reaches.
static BOOLEAN IopAllocateRegisterPages(PIOP_DMA_ADAPTER Adapter)
{
    PHYSICAL_ADDRESS Highest;
    Highest.QuadPart = (LONG64)Adapter->HighestAddress;
    const SIZE_T ByteCount = ((SIZE_T)Adapter->RegisterCount + 2) << PAGE_SHIFT;
    Adapter->Block = MmAllocateContiguousMemory(ByteCount, Highest);
    if (Adapter->Block == NULL) {
        return FALSE;
    }
    Adapter->Registers = (PUCHAR)Adapter->Block + PAGE_SIZE;
    Adapter->RegistersPa = (ULONG64)MmGetPhysicalAddress(Adapter->Registers).QuadPart;
    if (IopIsVerifyingDma()) {
        IopSetPadding(Adapter->Registers, (SIZE_T)Adapter->RegisterCount << PAGE_SHIFT);
        IopSetGuardPages(Adapter->Block, (PUCHAR)Adapter->Block + ByteCount - PAGE_SIZE);
    }
    return TRUE;
}

static VOID IopFreeAdapter(PIOP_DMA_ADAPTER Adapter)
{
    if (Adapter->Block != NULL) {
        MmFreeContiguousMemory(Adapter->Block);
    }
    if (Adapter->Slots != NULL) {
        ExFreePoolWithTag(Adapter->Slots, IOP_DMA_TAG);
    }
    ExFreePoolWithTag(Adapter, IOP_DMA_TAG);
}

VOID IopReferenceAdapter(PIOP_DMA_ADAPTER Adapter)
{
    __atomic_add_fetch(&Adapter->ReferenceCount, 1, __ATOMIC_RELAXED);
}

VOID IopDereferenceAdapter(PIOP_DMA_ADAPTER Adapter)
{
    if (__atomic_sub_fetch(&Adapter->ReferenceCount, 1, __ATOMIC_ACQ_REL) == 0) {
        IopFreeAdapter(Adapter);
    }
}

static PIOP_DMA_ADAPTER IopAllocateAdapter(const DEVICE_DESCRIPTION *Description,
                                           ULONG RegisterCount, BOOLEAN HasPages)
{
    const SIZE_T WordCount = HasPages ? RTL_BITS_WORD_COUNT(RegisterCount) : 0;
    const PIOP_DMA_ADAPTER Adapter = ExAllocatePool2(
        POOL_FLAG_NON_PAGED, sizeof(*Adapter) + WordCount * sizeof(ULONG64), IOP_DMA_TAG);
    if (Adapter == NULL) {
        return NULL;
    }
    Adapter->Public = (DMA_ADAPTER){1, sizeof(DMA_ADAPTER), IopDmaOperations(Description->Version)};
    Adapter->Signature = IOP_DMA_ADAPTER_SIGNATURE;
    Adapter->Lock = (KI_LOCK)KI_LOCK_INITIALIZER(IOP_RANK_DMA, "IopDmaAdapterLock");
    Adapter->Lock.OwnerProcessor = -1;
    Adapter->ReferenceCount = 1;
    Adapter->Version = Description->Version;
    Adapter->AddressBits = IopAddressBits(Description);
    Adapter->HighestAddress = IopHighestAddress(Adapter->AddressBits);
    Adapter->ScatterGather = Description->ScatterGather;
    Adapter->ReachesAll =
        !HasPages && Description->ScatterGather && Adapter->AddressBits == IOP_DMA_MAXIMUM_BITS;
    Adapter->BouncesAll = IopDmaBouncesAll;
    Adapter->RegisterCount = RegisterCount;
    Adapter->TotalCount = HasPages ? RegisterCount : MAXLONG;
    Adapter->FreeCount = Adapter->TotalCount;
    InitializeListHead(&Adapter->Waiting);
    InitializeListHead(&Adapter->Holds);
    InitializeListHead(&Adapter->Crowd);
    InitializeListHead(&Adapter->Buffers);
    RtlInitializeBits(&Adapter->Bits, Adapter->Words, HasPages ? RegisterCount : 0);
    if (!HasPages && !IopIsVerifyingDma()) {
        IopPrepareStraightLists(Adapter);
    }
    return Adapter;
}

// An adapter with pages for its registers: fewer than wanted, rather than none. NULL: none.
static PIOP_DMA_ADAPTER IopMakeBouncingAdapter(const DEVICE_DESCRIPTION *Description)
{
    ULONG RegisterCount = IopWantedRegisters(Description, IOP_DMA_BOUNCE_REGISTERS);
    while (IopCanBounce() && RegisterCount != 0) {
        const PIOP_DMA_ADAPTER Adapter = IopAllocateAdapter(Description, RegisterCount, TRUE);
        if (Adapter == NULL || IopAllocateRegisterPages(Adapter)) {
            return Adapter;
        }
        IopFreeAdapter(Adapter);
        RegisterCount /= 2;
    }
    return NULL;
}

static PIOP_DMA_ADAPTER IopMakeAdapter(const DEVICE_DESCRIPTION *Description)
{
    const ULONG AddressBits = IopAddressBits(Description);
    if (!Description->Master || AddressBits == 0) {
        return NULL;
    }
    if (IopDmaBouncesAll || !Description->ScatterGather ||
        IopHighestAddress(AddressBits) < IopLastRamAddress()) {
        return IopMakeBouncingAdapter(Description);
    }
    return IopAllocateAdapter(Description,
                              IopWantedRegisters(Description, IOP_DMA_DIRECT_REGISTERS), FALSE);
}

PDMA_ADAPTER IopGetDmaAdapter(PDEVICE_OBJECT PhysicalDeviceObject,
                              const DEVICE_DESCRIPTION *Description, PULONG NumberOfMapRegisters,
                              PVOID Caller)
{
    *NumberOfMapRegisters = 0;
    if (Description->Version > DEVICE_DESCRIPTION_VERSION3) {
        if (IopIsVerifyingDma()) {
            IopStopDma(0x25, Description->Version, (ULONG_PTR)Description, 0, Caller,
                       "IoGetDmaAdapter: there is no version %u of DEVICE_DESCRIPTION",
                       Description->Version);
        }
        return NULL;
    }
    const PIOP_DMA_ADAPTER Adapter = IopMakeAdapter(Description);
    if (Adapter == NULL) {
        return NULL;
    }
    Adapter->DeviceObject = PhysicalDeviceObject;
    Adapter->Caller = Caller;
    Adapter->Time = KeReadCycles();
    const KIRQL OldIrql = KiAcquireLock(&IopDmaListLock);
    InsertTailList(&IopDmaAdapters, &Adapter->Link);
    KiReleaseLock(&IopDmaListLock, OldIrql);
    *NumberOfMapRegisters = Adapter->RegisterCount;
    return &Adapter->Public;
}

PDMA_ADAPTER NTAPI IoGetDmaAdapter(PDEVICE_OBJECT PhysicalDeviceObject,
                                   PDEVICE_DESCRIPTION DeviceDescription,
                                   PULONG NumberOfMapRegisters)
{
    return IopGetDmaAdapter(PhysicalDeviceObject, DeviceDescription, NumberOfMapRegisters,
                            __builtin_return_address(0));
}

PADAPTER_OBJECT NTAPI HalGetAdapter(PDEVICE_DESCRIPTION DeviceDescription,
                                    PULONG NumberOfMapRegisters)
{
    if (IopIsVerifyingDma()) {
        IopStopDma(0x1E, (ULONG_PTR)DeviceDescription, 0, 0, __builtin_return_address(0),
                   "HalGetAdapter is obsolete; use IoGetDmaAdapter");
    }
    return IopGetDmaAdapter(NULL, DeviceDescription, NumberOfMapRegisters,
                            __builtin_return_address(0));
}

//
// Release.
//

// At level 1: everything must be freed before.
static VOID IopVerifyPut(const IOP_DMA_ADAPTER *Adapter, PVOID Caller)
{
    const struct {
        ULONG Code;
        ULONG Count;
        PCSTR What;
    } Rows[] = {
        {0x11, Adapter->WaitingCount, "requests that wait for map registers"},
        {0x07, Adapter->BufferCount, "common buffers"},
        {0x08, Adapter->HoldCounts[IopDmaChannel], "adapter channels"},
        {0x09, Adapter->HoldCounts[IopDmaRegisters], "allocations of map registers"},
        {0x0A, Adapter->HoldCounts[IopDmaList], "scatter-gather lists"},
    };
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        if (Rows[Row].Count != 0) {
            IopStopDma(Rows[Row].Code, (ULONG_PTR)Adapter, Rows[Row].Count,
                       (ULONG_PTR)Adapter->Caller, Caller,
                       "PutDmaAdapter: the adapter at 0x%p still has %u %s", Adapter,
                       Rows[Row].Count, Rows[Row].What);
        }
    }
    if (Adapter->Block != NULL) {
        IopCheckGuardPages(Adapter->Block,
                           Adapter->Registers + ((SIZE_T)Adapter->RegisterCount << PAGE_SHIFT),
                           Caller);
    }
}

static BOOLEAN IopIsAdapterIdle(PIOP_DMA_ADAPTER Adapter)
{
    return IsListEmpty(&Adapter->Holds) && IsListEmpty(&Adapter->Waiting) &&
           IopCountStraightLists(Adapter) == 0 && IsListEmpty(&Adapter->Buffers);
}

static VOID NTAPI IopPutDmaAdapter(PDMA_ADAPTER DmaAdapter)
{
    PVOID const Caller = __builtin_return_address(0);
    const PIOP_DMA_ADAPTER Adapter = IopEnterDma(DmaAdapter, IopDmaPut, Caller);
    if (IopIsVerifyingDma()) {
        IopVerifyPut(Adapter, Caller);
    }
    const KIRQL OldIrql = KiAcquireLock(&IopDmaListLock);
    RemoveEntryList(&Adapter->Link);
    Adapter->Signature = 0;
    Adapter->StraightSignature = 0;
    KiReleaseLock(&IopDmaListLock, OldIrql);
    if (!IopIsAdapterIdle(Adapter)) {
        IopQuarantineAdapter(Adapter);
        return;
    }
    IopDereferenceAdapter(Adapter);
}

//
// What an adapter says of itself.
//

static ULONG NTAPI IopGetDmaAlignment(PDMA_ADAPTER DmaAdapter)
{
    (VOID) IopEnterDma(DmaAdapter, IopDmaGetAlignment, __builtin_return_address(0));
    return 1;
}

static ULONG NTAPI IopReadDmaCounter(PDMA_ADAPTER DmaAdapter)
{
    (VOID) IopEnterDma(DmaAdapter, IopDmaReadCounter, __builtin_return_address(0));
    return 0;
}

static NTSTATUS NTAPI IopGetDmaAdapterInfo(PDMA_ADAPTER DmaAdapter, PDMA_ADAPTER_INFO AdapterInfo)
{
    const PIOP_DMA_ADAPTER Adapter =
        IopEnterDma(DmaAdapter, IopDmaGetAdapterInfo, __builtin_return_address(0));
    if (AdapterInfo->Version != DMA_ADAPTER_INFO_VERSION1) {
        return STATUS_NOT_SUPPORTED;
    }
    AdapterInfo->V1 = (DMA_ADAPTER_INFO_V1){
        .ReadDmaCounterAvailable = FALSE,
        .ScatterGatherLimit = Adapter->ScatterGather ? Adapter->RegisterCount : 1,
        .DmaAddressWidth = Adapter->AddressBits,
        .Flags = ADAPTER_INFO_SYNCHRONOUS_CALLBACK,
        .MinimumTransferUnit = 1,
    };
    return STATUS_SUCCESS;
}

static NTSTATUS NTAPI IopGetDmaTransferInfo(PDMA_ADAPTER DmaAdapter, PMDL Mdl, ULONGLONG Offset,
                                            ULONG Length, BOOLEAN WriteOnly,
                                            PDMA_TRANSFER_INFO TransferInfo)
{
    PVOID const Caller = __builtin_return_address(0);
    const PIOP_DMA_ADAPTER Adapter = IopEnterDma(DmaAdapter, IopDmaGetTransferInfo, Caller);
    const IOP_DMA_SPAN Span = {Mdl, Offset, Length, WriteOnly, FALSE};
    if (TransferInfo->Version != DMA_TRANSFER_INFO_VERSION1 &&
        TransferInfo->Version != DMA_TRANSFER_INFO_VERSION2) {
        return STATUS_NOT_SUPPORTED;
    }
    IopVerifySpan(&Span, 0x24, Offset, "GetDmaTransferInfo", Caller);
    const ULONG64 ChainBytes = IopChainByteCount(Mdl);
    if (Length == 0 || Offset > ChainBytes || Length > ChainBytes - Offset) {
        return STATUS_INVALID_PARAMETER;
    }
    const ULONG PageCount = IopCountPages(&Span);
    const ULONG ElementCount = IopCountElements(Adapter, &Span);
    TransferInfo->V1 = (DMA_TRANSFER_INFO_V1){
        .MapRegisterCount = PageCount,
        .ScatterGatherElementCount = ElementCount,
        .ScatterGatherListSize = (ULONG)IopListByteCount(PageCount),
    };
    if (TransferInfo->Version == DMA_TRANSFER_INFO_VERSION2) {
        TransferInfo->V2.LogicalPageCount = PageCount;
    }
    return STATUS_SUCCESS;
}

//
// What this machine has not: a system DMA controller, domains.
//

static NTSTATUS NTAPI IopConfigureAdapterChannel(PDMA_ADAPTER DmaAdapter, ULONG FunctionNumber,
                                                 PVOID Context)
{
    (VOID) IopEnterDma(DmaAdapter, IopDmaConfigureChannel, __builtin_return_address(0));
    UNREFERENCED_PARAMETER(FunctionNumber);
    UNREFERENCED_PARAMETER(Context);
    return STATUS_NOT_SUPPORTED;
}

static NTSTATUS NTAPI IopCancelMappedTransfer(PDMA_ADAPTER DmaAdapter, PVOID DmaTransferContext)
{
    (VOID) IopEnterDma(DmaAdapter, IopDmaCancelMapped, __builtin_return_address(0));
    UNREFERENCED_PARAMETER(DmaTransferContext);
    return STATUS_NOT_SUPPORTED;
}

static NTSTATUS NTAPI IopAllocateDomainCommonBuffer(PDMA_ADAPTER DmaAdapter, HANDLE DomainHandle,
                                                    PPHYSICAL_ADDRESS MaximumAddress, ULONG Length,
                                                    ULONG Flags, MEMORY_CACHING_TYPE *CacheType,
                                                    NODE_REQUIREMENT PreferredNode,
                                                    PPHYSICAL_ADDRESS LogicalAddress,
                                                    PVOID *VirtualAddress)
{
    (VOID) IopEnterDma(DmaAdapter, IopDmaDomain, __builtin_return_address(0));
    UNREFERENCED_PARAMETER(DomainHandle);
    UNREFERENCED_PARAMETER(MaximumAddress);
    UNREFERENCED_PARAMETER(Length);
    UNREFERENCED_PARAMETER(Flags);
    UNREFERENCED_PARAMETER(CacheType);
    UNREFERENCED_PARAMETER(PreferredNode);
    LogicalAddress->QuadPart = 0;
    *VirtualAddress = NULL;
    return STATUS_NOT_SUPPORTED;
}

static NTSTATUS NTAPI IopJoinDmaDomain(PDMA_ADAPTER DmaAdapter, HANDLE DomainHandle)
{
    (VOID) IopEnterDma(DmaAdapter, IopDmaDomain, __builtin_return_address(0));
    UNREFERENCED_PARAMETER(DomainHandle);
    return STATUS_NOT_SUPPORTED;
}

static NTSTATUS NTAPI IopLeaveDmaDomain(PDMA_ADAPTER DmaAdapter)
{
    (VOID) IopEnterDma(DmaAdapter, IopDmaDomain, __builtin_return_address(0));
    return STATUS_NOT_SUPPORTED;
}

static HANDLE NTAPI IopGetDmaDomain(PDMA_ADAPTER DmaAdapter)
{
    (VOID) IopEnterDma(DmaAdapter, IopDmaDomain, __builtin_return_address(0));
    return NULL;
}

static NTSTATUS NTAPI IopFlushDmaBuffer(PDMA_ADAPTER DmaAdapter, PMDL Mdl, BOOLEAN ReadOperation)
{
    (VOID) IopEnterDma(DmaAdapter, IopDmaFlushBuffer, __builtin_return_address(0));
    KeFlushIoBuffers(Mdl, ReadOperation, TRUE);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return STATUS_SUCCESS;
}

//
// The tables. They are alike but for where they end.
//

#define IOP_DMA_OPERATIONS_1                                                                       \
    .PutDmaAdapter = IopPutDmaAdapter, .AllocateCommonBuffer = IopAllocateCommonBuffer,            \
    .FreeCommonBuffer = IopFreeCommonBuffer, .AllocateAdapterChannel = IopAllocateAdapterChannel,  \
    .FlushAdapterBuffers = IopFlushAdapterBuffers, .FreeAdapterChannel = IopFreeAdapterChannel,    \
    .FreeMapRegisters = IopFreeMapRegisters, .MapTransfer = IopMapTransfer,                        \
    .GetDmaAlignment = IopGetDmaAlignment, .ReadDmaCounter = IopReadDmaCounter,                    \
    .GetScatterGatherList = IopGetScatterGatherList,                                               \
    .PutScatterGatherList = IopPutScatterGatherList

#define IOP_DMA_OPERATIONS_2                                                                       \
    IOP_DMA_OPERATIONS_1, .CalculateScatterGatherList = IopCalculateScatterGatherList,             \
                          .BuildScatterGatherList = IopBuildScatterGatherList,                     \
                          .BuildMdlFromScatterGatherList = IopBuildMdlFromScatterGatherList

static const DMA_OPERATIONS IopDmaTables[] = {
    {.Size = FIELD_OFFSET(DMA_OPERATIONS, CalculateScatterGatherList), IOP_DMA_OPERATIONS_1},
    {.Size = FIELD_OFFSET(DMA_OPERATIONS, GetDmaAdapterInfo), IOP_DMA_OPERATIONS_2},
    {.Size = sizeof(DMA_OPERATIONS),
     IOP_DMA_OPERATIONS_2,
     .GetDmaAdapterInfo = IopGetDmaAdapterInfo,
     .GetDmaTransferInfo = IopGetDmaTransferInfo,
     .InitializeDmaTransferContext = IopInitializeDmaTransferContext,
     .AllocateCommonBufferEx = IopAllocateCommonBufferEx,
     .AllocateAdapterChannelEx = IopAllocateAdapterChannelEx,
     .ConfigureAdapterChannel = IopConfigureAdapterChannel,
     .CancelAdapterChannel = IopCancelAdapterChannel,
     .MapTransferEx = IopMapTransferEx,
     .GetScatterGatherListEx = IopGetScatterGatherListEx,
     .BuildScatterGatherListEx = IopBuildScatterGatherListEx,
     .FlushAdapterBuffersEx = IopFlushAdapterBuffersEx,
     .FreeAdapterObject = IopFreeAdapterObject,
     .CancelMappedTransfer = IopCancelMappedTransfer,
     .AllocateDomainCommonBuffer = IopAllocateDomainCommonBuffer,
     .FlushDmaBuffer = IopFlushDmaBuffer,
     .JoinDmaDomain = IopJoinDmaDomain,
     .LeaveDmaDomain = IopLeaveDmaDomain,
     .GetDmaDomain = IopGetDmaDomain,
     .AllocateCommonBufferWithBounds = IopAllocateCommonBufferWithBounds},
};

// Version 0 is an older name of 1. The tables are read-only, whatever the driver's header says.
DMA_OPERATIONS *IopDmaOperations(ULONG Version)
{
    return (DMA_OPERATIONS *)(ULONG_PTR)&IopDmaTables[Version == 0 ? 0 : Version - 1];
}
