// DMA for drivers: adapter objects and their operations.
//
// A logical address is what the device puts on the bus. It need not be a physical address: with the
// boot option dma=bounce it never is that of the buffer. A map register stands for one page of a
// transfer in flight. IoGetDmaAdapter says how many one transfer may have. Where pages may have to bounce,
// these are all there are, and transfers may have to wait for each other; else they never do.
//
// Where a comment gives no IRQL, the operation may be called at IRQL <= DISPATCH_LEVEL. Misuse stops
// with DRIVER_VERIFIER_DMA_VIOLATION (0xE6): what would damage memory at every verifier level, all else
// at level 1.
#pragma once

#include <ntdef.h>
#include <ntstatus.h>

#include <busddk.h>
#include <ioddk.h>
#include <keddk.h>
#include <mmddk.h>

// -------------------------------------------------------------------------------------------------
// What a device can do, as its driver describes it. To be zeroed before it is filled in.

#define DEVICE_DESCRIPTION_VERSION 0x0000
#define DEVICE_DESCRIPTION_VERSION1 0x0001
#define DEVICE_DESCRIPTION_VERSION2 0x0002
#define DEVICE_DESCRIPTION_VERSION3 0x0003

typedef enum _DMA_WIDTH {
    Width8Bits,
    Width16Bits,
    Width32Bits,
    Width64Bits,
    WidthNoWrap,
    MaximumDmaWidth,
} DMA_WIDTH,
    *PDMA_WIDTH;

typedef enum _DMA_SPEED {
    Compatible,
    TypeA,
    TypeB,
    TypeC,
    TypeF,
    MaximumDmaSpeed,
} DMA_SPEED,
    *PDMA_SPEED;

typedef struct _DEVICE_DESCRIPTION {
    ULONG Version;
    BOOLEAN Master;        // the device moves data by itself; FALSE: a system DMA controller does
    BOOLEAN ScatterGather; // it takes more than one piece of memory per transfer
    BOOLEAN DemandMode; // for the system DMA controller, as all that this header leaves uncommented
    BOOLEAN AutoInitialize;
    BOOLEAN Dma32BitAddresses;
    BOOLEAN IgnoreCount;
    BOOLEAN Reserved1;
    BOOLEAN Dma64BitAddresses; // neither of the two: 24 bits
    ULONG BusNumber;
    ULONG DmaChannel;
    INTERFACE_TYPE InterfaceType;
    DMA_WIDTH DmaWidth;
    DMA_SPEED DmaSpeed;
    ULONG MaximumLength; // the longest transfer, in bytes
    ULONG DmaPort;
    // Read only when Version is DEVICE_DESCRIPTION_VERSION3.
    ULONG DmaAddressWidth; // in bits; 0: as the BOOLEANs say
    ULONG DmaControllerInstance;
    ULONG DmaRequestLine;
    PHYSICAL_ADDRESS DeviceAddress;
} DEVICE_DESCRIPTION, *PDEVICE_DESCRIPTION;

C_ASSERT(sizeof(DEVICE_DESCRIPTION) == 0x40);
C_ASSERT(FIELD_OFFSET(DEVICE_DESCRIPTION, Master) == 4 &&
         FIELD_OFFSET(DEVICE_DESCRIPTION, Dma64BitAddresses) == 0x0B);
C_ASSERT(FIELD_OFFSET(DEVICE_DESCRIPTION, BusNumber) == 0x0C &&
         FIELD_OFFSET(DEVICE_DESCRIPTION, InterfaceType) == 0x14);
C_ASSERT(FIELD_OFFSET(DEVICE_DESCRIPTION, MaximumLength) == 0x20 &&
         FIELD_OFFSET(DEVICE_DESCRIPTION, DmaPort) == 0x24);
C_ASSERT(FIELD_OFFSET(DEVICE_DESCRIPTION, DmaAddressWidth) == 0x28 &&
         FIELD_OFFSET(DEVICE_DESCRIPTION, DmaRequestLine) == 0x30);
C_ASSERT(FIELD_OFFSET(DEVICE_DESCRIPTION, DeviceAddress) == 0x38);

// -------------------------------------------------------------------------------------------------
// Adapters and lists.

// Version is 1, whatever table DmaOperations points to: the table's Size tells.
typedef struct _DMA_ADAPTER {
    USHORT Version;
    USHORT Size;
    struct _DMA_OPERATIONS *DmaOperations;
} DMA_ADAPTER, *PDMA_ADAPTER, *PADAPTER_OBJECT;

C_ASSERT(sizeof(DMA_ADAPTER) == 0x10 && FIELD_OFFSET(DMA_ADAPTER, DmaOperations) == 8);

typedef struct _SCATTER_GATHER_ELEMENT {
    PHYSICAL_ADDRESS Address; // logical
    ULONG Length;
    ULONG_PTR Reserved;
} SCATTER_GATHER_ELEMENT, *PSCATTER_GATHER_ELEMENT;

typedef struct _SCATTER_GATHER_LIST {
    ULONG NumberOfElements;
    ULONG_PTR Reserved;
    SCATTER_GATHER_ELEMENT Elements[]; // mingw-w64: [1], so never use this structure's size
} SCATTER_GATHER_LIST, *PSCATTER_GATHER_LIST;

C_ASSERT(sizeof(SCATTER_GATHER_ELEMENT) == 0x18 &&
         FIELD_OFFSET(SCATTER_GATHER_ELEMENT, Length) == 8);
C_ASSERT(FIELD_OFFSET(SCATTER_GATHER_LIST, Reserved) == 8 &&
         FIELD_OFFSET(SCATTER_GATHER_LIST, Elements) == 0x10);

#define DMA_ADAPTER_INFO_VERSION1 1

#define ADAPTER_INFO_SYNCHRONOUS_CALLBACK 0x0001 // DMA_ADAPTER_INFO.V1.Flags
#define ADAPTER_INFO_API_BYPASS 0x0002

typedef struct _DMA_ADAPTER_INFO_V1 {
    ULONG ReadDmaCounterAvailable; // BOOLEAN
    ULONG ScatterGatherLimit;      // elements per transfer
    ULONG DmaAddressWidth;         // in bits
    ULONG Flags;
    ULONG MinimumTransferUnit; // in bytes
} DMA_ADAPTER_INFO_V1, *PDMA_ADAPTER_INFO_V1;

typedef struct _DMA_ADAPTER_INFO {
    ULONG Version; // the caller says which he wants
    union {
        DMA_ADAPTER_INFO_V1 V1;
    };
} DMA_ADAPTER_INFO, *PDMA_ADAPTER_INFO;

C_ASSERT(sizeof(DMA_ADAPTER_INFO) == 0x18 && FIELD_OFFSET(DMA_ADAPTER_INFO, V1) == 4);
C_ASSERT(FIELD_OFFSET(DMA_ADAPTER_INFO, V1.DmaAddressWidth) == 0x0C);

#define DMA_TRANSFER_INFO_VERSION1 1
#define DMA_TRANSFER_INFO_VERSION2 2

typedef struct _DMA_TRANSFER_INFO_V1 {
    ULONG MapRegisterCount;
    ULONG ScatterGatherElementCount;
    ULONG ScatterGatherListSize; // bytes of a buffer for the list, with what the system adds
} DMA_TRANSFER_INFO_V1, *PDMA_TRANSFER_INFO_V1;

typedef struct _DMA_TRANSFER_INFO_V2 {
    ULONG MapRegisterCount;
    ULONG ScatterGatherElementCount;
    ULONG ScatterGatherListSize;
    ULONG LogicalPageCount;
} DMA_TRANSFER_INFO_V2, *PDMA_TRANSFER_INFO_V2;

typedef struct _DMA_TRANSFER_INFO {
    ULONG Version; // the caller says which he wants
    union {
        DMA_TRANSFER_INFO_V1 V1;
        DMA_TRANSFER_INFO_V2 V2;
    };
} DMA_TRANSFER_INFO, *PDMA_TRANSFER_INFO;

C_ASSERT(sizeof(DMA_TRANSFER_INFO) == 0x14 && FIELD_OFFSET(DMA_TRANSFER_INFO, V1) == 4);
C_ASSERT(FIELD_OFFSET(DMA_TRANSFER_INFO, V2.LogicalPageCount) == 0x10);

#define DMA_TRANSFER_CONTEXT_VERSION1 1
#define DMA_TRANSFER_CONTEXT_SIZE_V1 128 // bytes, on 64-bit machines

#define DMA_SYNCHRONOUS_CALLBACK 0x01 // Flags of the ...Ex operations
#define DMA_ZERO_BUFFERS 0x02
#define DMA_FAIL_ON_BOUNCE 0x04

typedef enum {
    DmaComplete,
    DmaAborted,
    DmaError,
    DmaCancelled,
} DMA_COMPLETION_STATUS;

typedef VOID(NTAPI DMA_COMPLETION_ROUTINE)(_In_ PDMA_ADAPTER DmaAdapter,
                                           _In_ PDEVICE_OBJECT DeviceObject,
                                           _In_ PVOID CompletionContext,
                                           _In_ DMA_COMPLETION_STATUS Status);
typedef DMA_COMPLETION_ROUTINE *PDMA_COMPLETION_ROUTINE;

// Called at DISPATCH_LEVEL. Irp is the device object's CurrentIrp: of use to StartIo drivers only.
typedef VOID(NTAPI DRIVER_LIST_CONTROL)(_In_ struct _DEVICE_OBJECT *DeviceObject,
                                        _In_ struct _IRP *Irp,
                                        _In_ struct _SCATTER_GATHER_LIST *ScatterGather,
                                        _In_ PVOID Context);
typedef DRIVER_LIST_CONTROL *PDRIVER_LIST_CONTROL;

// -------------------------------------------------------------------------------------------------
// Version 1 of the operations.

// Gives the adapter back. Whatever was allocated with it must be freed before. IRQL <=
// DISPATCH_LEVEL. At level 0, memory of a transfer that was never flushed is kept from use for ever.
typedef VOID(NTAPI *PPUT_DMA_ADAPTER)(_In_ PDMA_ADAPTER DmaAdapter);

// Memory that processor and device use at the same time: whole pages, page aligned, contiguous for the
// device, within its reach, contents undefined. Only Length bytes may be used. CacheEnabled is
// ignored: always cached. NULL: none, or no bytes (ours). IRQL = PASSIVE_LEVEL.
typedef PVOID(NTAPI *PALLOCATE_COMMON_BUFFER)(_In_ PDMA_ADAPTER DmaAdapter, _In_ ULONG Length,
                                              _Out_ PPHYSICAL_ADDRESS LogicalAddress,
                                              _In_ BOOLEAN CacheEnabled);

// Length, address and CacheEnabled as when it was allocated. IRQL = PASSIVE_LEVEL.
typedef VOID(NTAPI *PFREE_COMMON_BUFFER)(_In_ PDMA_ADAPTER DmaAdapter, _In_ ULONG Length,
                                         _In_ PHYSICAL_ADDRESS LogicalAddress,
                                         _In_ PVOID VirtualAddress, _In_ BOOLEAN CacheEnabled);

// Calls ExecutionRoutine with NumberOfMapRegisters registers, at once or as soon as they are free. Its
// result says what it keeps: KeepObject the channel, DeallocateObjectKeepRegisters the registers,
// DeallocateObject nothing. One request per device object at a time.
// STATUS_SUCCESS: it was, or will be called. STATUS_INSUFFICIENT_RESOURCES: more registers than the
// adapter has. IRQL = DISPATCH_LEVEL.
typedef NTSTATUS(NTAPI *PALLOCATE_ADAPTER_CHANNEL)(_In_ PDMA_ADAPTER DmaAdapter,
                                                   _In_ PDEVICE_OBJECT DeviceObject,
                                                   _In_ ULONG NumberOfMapRegisters,
                                                   _In_ PDRIVER_CONTROL ExecutionRoutine,
                                                   _In_ PVOID Context);

// Ends what MapTransfer began: the data are where they belong afterwards. TRUE: done.
typedef BOOLEAN(NTAPI *PFLUSH_ADAPTER_BUFFERS)(_In_ PDMA_ADAPTER DmaAdapter, _In_ PMDL Mdl,
                                               _In_ PVOID MapRegisterBase, _In_ PVOID CurrentVa,
                                               _In_ ULONG Length, _In_ BOOLEAN WriteToDevice);

// After KeepObject: frees the channel with its registers. IRQL = DISPATCH_LEVEL.
typedef VOID(NTAPI *PFREE_ADAPTER_CHANNEL)(_In_ PDMA_ADAPTER DmaAdapter);

// After DeallocateObjectKeepRegisters: frees the registers, all of them. IRQL = DISPATCH_LEVEL.
typedef VOID(NTAPI *PFREE_MAP_REGISTERS)(_In_ PDMA_ADAPTER DmaAdapter, PVOID MapRegisterBase,
                                         ULONG NumberOfMapRegisters);

// The logical address of the first piece of *Length bytes from CurrentVa on, an index into the MDL; its
// length goes to *Length. Called again, with what is left, for the next piece. A device without
// ScatterGather gets one piece.
typedef PHYSICAL_ADDRESS(NTAPI *PMAP_TRANSFER)(_In_ PDMA_ADAPTER DmaAdapter, _In_ PMDL Mdl,
                                               _In_ PVOID MapRegisterBase, _In_ PVOID CurrentVa,
                                               _Inout_ PULONG Length, _In_ BOOLEAN WriteToDevice);

// In bytes: 1, because x64 keeps caches and devices coherent. IRQL = PASSIVE_LEVEL.
typedef ULONG(NTAPI *PGET_DMA_ALIGNMENT)(_In_ PDMA_ADAPTER DmaAdapter);

// 0: there is no system DMA controller.
typedef ULONG(NTAPI *PREAD_DMA_COUNTER)(_In_ PDMA_ADAPTER DmaAdapter);

// Maps Length bytes from CurrentVa on, which is an index into the MDL, and calls ExecutionRoutine with
// the list, at once or as soon as registers are free. Chains of MDLs are followed. Any number of
// requests may be outstanding.
// STATUS_SUCCESS: it was, or will be called. STATUS_INSUFFICIENT_RESOURCES: no pool, more registers
// than the adapter has, or memory out of the device's reach without bounce pages.
// STATUS_BUFFER_TOO_SMALL: the MDLs have fewer bytes. STATUS_INVALID_PARAMETER (ours): no bytes.
// IRQL = DISPATCH_LEVEL.
typedef NTSTATUS(NTAPI *PGET_SCATTER_GATHER_LIST)(_In_ PDMA_ADAPTER DmaAdapter,
                                                  _In_ PDEVICE_OBJECT DeviceObject, _In_ PMDL Mdl,
                                                  _In_ PVOID CurrentVa, _In_ ULONG Length,
                                                  _In_ PDRIVER_LIST_CONTROL ExecutionRoutine,
                                                  _In_ PVOID Context, _In_ BOOLEAN WriteToDevice);

// Once per list, when the device is done with it: the data are where they belong afterwards, and list
// and registers are free. WriteToDevice as before. IRQL = DISPATCH_LEVEL.
typedef VOID(NTAPI *PPUT_SCATTER_GATHER_LIST)(_In_ PDMA_ADAPTER DmaAdapter,
                                              _In_ PSCATTER_GATHER_LIST ScatterGather,
                                              _In_ BOOLEAN WriteToDevice);

// -------------------------------------------------------------------------------------------------
// Version 2 adds:

// How many bytes BuildScatterGatherList needs for Length bytes from CurrentVa on, at most, and how many
// registers. Without an MDL, CurrentVa is the buffer's address. STATUS_BUFFER_TOO_SMALL: the MDLs have
// fewer bytes. STATUS_INVALID_PARAMETER (ours): no bytes. Any IRQL.
typedef NTSTATUS(NTAPI *PCALCULATE_SCATTER_GATHER_LIST_SIZE)(
    _In_ PDMA_ADAPTER DmaAdapter, _In_opt_ PMDL Mdl, _In_ PVOID CurrentVa, _In_ ULONG Length,
    _Out_ PULONG ScatterGatherListSize, _Out_opt_ PULONG pNumberOfMapRegisters);

// As GetScatterGatherList, with the list in the caller's memory, which stays his and must stay until
// PutScatterGatherList. STATUS_BUFFER_TOO_SMALL also: the memory is less than
// CalculateScatterGatherList says. IRQL = DISPATCH_LEVEL.
typedef NTSTATUS(NTAPI *PBUILD_SCATTER_GATHER_LIST)(_In_ PDMA_ADAPTER DmaAdapter,
                                                    _In_ PDEVICE_OBJECT DeviceObject, _In_ PMDL Mdl,
                                                    _In_ PVOID CurrentVa, _In_ ULONG Length,
                                                    _In_ PDRIVER_LIST_CONTROL ExecutionRoutine,
                                                    _In_ PVOID Context, _In_ BOOLEAN WriteToDevice,
                                                    _In_ PVOID ScatterGatherBuffer,
                                                    _In_ ULONG ScatterGatherLength);

// An MDL that describes the list's memory as the device sees it; reserved for the system. Its frames
// are those of the logical addresses. *TargetMdl is OriginalMdl when these are its own frames, and else
// a new MDL, which the caller frees with IoFreeMdl.
// STATUS_INVALID_PARAMETER: OriginalMdl is NULL. STATUS_NONE_MAPPED: called twice for a list.
// STATUS_INSUFFICIENT_RESOURCES: no pool.
typedef NTSTATUS(NTAPI *PBUILD_MDL_FROM_SCATTER_GATHER_LIST)(
    _In_ PDMA_ADAPTER DmaAdapter, _In_ PSCATTER_GATHER_LIST ScatterGather, _In_ PMDL OriginalMdl,
    _Out_ PMDL *TargetMdl);

// -------------------------------------------------------------------------------------------------
// Version 3 adds:

// STATUS_NOT_SUPPORTED: no such AdapterInfo->Version.
typedef NTSTATUS(NTAPI *PGET_DMA_ADAPTER_INFO)(_In_ PDMA_ADAPTER DmaAdapter,
                                               _Inout_ PDMA_ADAPTER_INFO AdapterInfo);

// What Length bytes at Offset of the MDL chain need. STATUS_NOT_SUPPORTED: no such
// TransferInfo->Version. STATUS_INVALID_PARAMETER (ours): no bytes, or more than the chain has.
typedef NTSTATUS(NTAPI *PGET_DMA_TRANSFER_INFO)(_In_ PDMA_ADAPTER DmaAdapter, _In_ PMDL Mdl,
                                                _In_ ULONGLONG Offset, _In_ ULONG Length,
                                                _In_ BOOLEAN WriteOnly,
                                                _Inout_ PDMA_TRANSFER_INFO TransferInfo);

// Makes DMA_TRANSFER_CONTEXT_SIZE_V1 bytes of the driver's a transfer context: the name of one request
// that is outstanding. They are to stay until the request is done.
typedef NTSTATUS(NTAPI *PINITIALIZE_DMA_TRANSFER_CONTEXT)(_In_ PDMA_ADAPTER DmaAdapter,
                                                          _Out_ PVOID DmaTransferContext);

// As AllocateCommonBuffer, with no byte above *MaximumAddress, and uncached unless CacheEnabled.
// IRQL = PASSIVE_LEVEL.
typedef PVOID(NTAPI *PALLOCATE_COMMON_BUFFER_EX)(_In_ PDMA_ADAPTER DmaAdapter,
                                                 _In_opt_ PPHYSICAL_ADDRESS MaximumAddress,
                                                 _In_ ULONG Length,
                                                 _Out_ PPHYSICAL_ADDRESS LogicalAddress,
                                                 _In_ BOOLEAN CacheEnabled,
                                                 _In_ NODE_REQUIREMENT PreferredNode);

// As AllocateAdapterChannel. Flags: 0, with ExecutionRoutine alone: it is called at once or later.
// DMA_SYNCHRONOUS_CALLBACK: it is called before this returns; or, without it, *MapRegisterBase gets
// the registers, for FreeAdapterObject to free. With both, both happen (ours).
// STATUS_INSUFFICIENT_RESOURCES: more registers than the adapter has, or, for a synchronous request,
// than are free now. STATUS_INVALID_PARAMETER: another combination, unknown flags, or a context that was
// not initialised or is in use (ours). IRQL = DISPATCH_LEVEL.
typedef NTSTATUS(NTAPI *PALLOCATE_ADAPTER_CHANNEL_EX)(
    _In_ PDMA_ADAPTER DmaAdapter, _In_ PDEVICE_OBJECT DeviceObject, _In_ PVOID DmaTransferContext,
    _In_ ULONG NumberOfMapRegisters, _In_ ULONG Flags, _In_opt_ PDRIVER_CONTROL ExecutionRoutine,
    _In_opt_ PVOID ExecutionContext, _Out_opt_ PVOID *MapRegisterBase);

// STATUS_NOT_SUPPORTED: for system DMA controllers, of which there are none.
typedef NTSTATUS(NTAPI *PCONFIGURE_ADAPTER_CHANNEL)(_In_ PDMA_ADAPTER DmaAdapter,
                                                    _In_ ULONG FunctionNumber, _In_ PVOID Context);

// Takes back an asynchronous request for registers. TRUE: its routine will not be called.
typedef BOOLEAN(NTAPI *PCANCEL_ADAPTER_CHANNEL)(_In_ PDMA_ADAPTER DmaAdapter,
                                                _In_ PDEVICE_OBJECT DeviceObject,
                                                _In_ PVOID DmaTransferContext);

// Maps what it can of *Length bytes at Offset of the MDL chain, and says in *Length how much that is.
// The list goes to ScatterGatherBuffer. To be followed by FlushAdapterBuffersEx for the same bytes
// before the next call. Legal for MDLs of MmAllocateMdlForIoSpace, too.
// STATUS_INVALID_PARAMETER: no list, no room for one element, bytes beyond the chain, or what is for
// system DMA controllers only: DeviceOffset, a completion routine (ours).
// STATUS_INSUFFICIENT_RESOURCES: memory out of the device's reach. *Length stays as it was then (ours).
// STATUS_CANCELLED is not returned.
typedef NTSTATUS(NTAPI *PMAP_TRANSFER_EX)(
    _In_ PDMA_ADAPTER DmaAdapter, _In_ PMDL Mdl, _In_ PVOID MapRegisterBase, _In_ ULONGLONG Offset,
    _In_ ULONG DeviceOffset, _Inout_ PULONG Length, _In_ BOOLEAN WriteToDevice,
    _Out_writes_bytes_opt_(ScatterGatherBufferLength) PSCATTER_GATHER_LIST ScatterGatherBuffer,
    _In_ ULONG ScatterGatherBufferLength, _In_opt_ PDMA_COMPLETION_ROUTINE DmaCompletionRoutine,
    _In_opt_ PVOID CompletionContext);

// As GetScatterGatherList, by offset. DMA_SYNCHRONOUS_CALLBACK as for AllocateAdapterChannelEx, with
// *ScatterGatherList for a result. DMA_FAIL_ON_BOUNCE: rather STATUS_INSUFFICIENT_RESOURCES than
// a transfer that goes by bounce pages. IRQL <= DISPATCH_LEVEL.
typedef NTSTATUS(NTAPI *PGET_SCATTER_GATHER_LIST_EX)(
    _In_ PDMA_ADAPTER DmaAdapter, _In_ PDEVICE_OBJECT DeviceObject, _In_ PVOID DmaTransferContext,
    _In_ PMDL Mdl, _In_ ULONGLONG Offset, _In_ ULONG Length, _In_ ULONG Flags,
    _In_opt_ PDRIVER_LIST_CONTROL ExecutionRoutine, _In_opt_ PVOID Context,
    _In_ BOOLEAN WriteToDevice, _In_opt_ PDMA_COMPLETION_ROUTINE DmaCompletionRoutine,
    _In_opt_ PVOID CompletionContext, _Out_opt_ PSCATTER_GATHER_LIST *ScatterGatherList);

// The same in the caller's memory, as large as GetDmaTransferInfo says; STATUS_BUFFER_TOO_SMALL if not.
// IRQL = DISPATCH_LEVEL.
typedef NTSTATUS(NTAPI *PBUILD_SCATTER_GATHER_LIST_EX)(
    _In_ PDMA_ADAPTER DmaAdapter, _In_ PDEVICE_OBJECT DeviceObject, _In_ PVOID DmaTransferContext,
    _In_ PMDL Mdl, _In_ ULONGLONG Offset, _In_ ULONG Length, _In_ ULONG Flags,
    _In_opt_ PDRIVER_LIST_CONTROL ExecutionRoutine, _In_opt_ PVOID Context,
    _In_ BOOLEAN WriteToDevice, _In_ PVOID ScatterGatherBuffer, _In_ ULONG ScatterGatherLength,
    _In_opt_ PDMA_COMPLETION_ROUTINE DmaCompletionRoutine, _In_opt_ PVOID CompletionContext,
    _Out_opt_ PSCATTER_GATHER_LIST *ScatterGatherList);

// Ends what MapTransferEx began. STATUS_SUCCESS.
typedef NTSTATUS(NTAPI *PFLUSH_ADAPTER_BUFFERS_EX)(_In_ PDMA_ADAPTER DmaAdapter, _In_ PMDL Mdl,
                                                   _In_ PVOID MapRegisterBase,
                                                   _In_ ULONGLONG Offset, _In_ ULONG Length,
                                                   _In_ BOOLEAN WriteToDevice);

// After a synchronous AllocateAdapterChannelEx: DeallocateObject frees the channel and its registers,
// DeallocateObjectKeepRegisters the channel alone, KeepObject nothing.
typedef VOID(NTAPI *PFREE_ADAPTER_OBJECT)(_In_ PDMA_ADAPTER DmaAdapter,
                                          _In_ IO_ALLOCATION_ACTION AllocationAction);

// STATUS_NOT_SUPPORTED: for system DMA controllers, of which there are none.
typedef NTSTATUS(NTAPI *PCANCEL_MAPPED_TRANSFER)(_In_ PDMA_ADAPTER DmaAdapter,
                                                 _In_ PVOID DmaTransferContext);

// Domains are for machines with an IOMMU. STATUS_NOT_SUPPORTED, and NULL for GetDmaDomain.
typedef NTSTATUS(NTAPI *PALLOCATE_DOMAIN_COMMON_BUFFER)(
    _In_ PDMA_ADAPTER DmaAdapter, _In_ HANDLE DomainHandle,
    _In_opt_ PPHYSICAL_ADDRESS MaximumAddress, _In_ ULONG Length, _In_ ULONG Flags,
    _In_opt_ MEMORY_CACHING_TYPE *CacheType, _In_ NODE_REQUIREMENT PreferredNode,
    _Out_ PPHYSICAL_ADDRESS LogicalAddress, _Out_ PVOID *VirtualAddress);
typedef NTSTATUS(NTAPI *PJOIN_DMA_DOMAIN)(_In_ PDMA_ADAPTER DmaAdapter, _In_ HANDLE DomainHandle);
typedef NTSTATUS(NTAPI *PLEAVE_DMA_DOMAIN)(_In_ PDMA_ADAPTER DmaAdapter);
typedef HANDLE(NTAPI *PGET_DMA_DOMAIN)(_In_ PDMA_ADAPTER DmaAdapter);

// Caches and devices are coherent: STATUS_SUCCESS, behind a memory barrier.
typedef NTSTATUS(NTAPI *PFLUSH_DMA_BUFFER)(_In_ PDMA_ADAPTER DmaAdapter, _In_ PMDL Mdl,
                                           _In_ BOOLEAN ReadOperation);

// As AllocateCommonBufferEx, with no byte below *MinimumAddress, either, and of *CacheType; without
// one, cached. Flags must be 0 (ours). IRQL = PASSIVE_LEVEL.
typedef PVOID(NTAPI *PALLOCATE_COMMON_BUFFER_WITH_BOUNDS)(_In_ PDMA_ADAPTER DmaAdapter,
                                                          _In_opt_ PPHYSICAL_ADDRESS MinimumAddress,
                                                          _In_opt_ PPHYSICAL_ADDRESS MaximumAddress,
                                                          _In_ ULONG Length, _In_ ULONG Flags,
                                                          _In_opt_ MEMORY_CACHING_TYPE *CacheType,
                                                          _In_ NODE_REQUIREMENT PreferredNode,
                                                          _Out_ PPHYSICAL_ADDRESS LogicalAddress);

// -------------------------------------------------------------------------------------------------
// The table. Size ends it: 0x68 for version 1, 0x80 for version 2, 0x118 for version 3.

typedef struct _DMA_OPERATIONS {
    ULONG Size;
    PPUT_DMA_ADAPTER PutDmaAdapter;
    PALLOCATE_COMMON_BUFFER AllocateCommonBuffer;
    PFREE_COMMON_BUFFER FreeCommonBuffer;
    PALLOCATE_ADAPTER_CHANNEL AllocateAdapterChannel;
    PFLUSH_ADAPTER_BUFFERS FlushAdapterBuffers;
    PFREE_ADAPTER_CHANNEL FreeAdapterChannel;
    PFREE_MAP_REGISTERS FreeMapRegisters;
    PMAP_TRANSFER MapTransfer;
    PGET_DMA_ALIGNMENT GetDmaAlignment;
    PREAD_DMA_COUNTER ReadDmaCounter;
    PGET_SCATTER_GATHER_LIST GetScatterGatherList;
    PPUT_SCATTER_GATHER_LIST PutScatterGatherList;

    PCALCULATE_SCATTER_GATHER_LIST_SIZE CalculateScatterGatherList;
    PBUILD_SCATTER_GATHER_LIST BuildScatterGatherList;
    PBUILD_MDL_FROM_SCATTER_GATHER_LIST BuildMdlFromScatterGatherList;

    PGET_DMA_ADAPTER_INFO GetDmaAdapterInfo;
    PGET_DMA_TRANSFER_INFO GetDmaTransferInfo;
    PINITIALIZE_DMA_TRANSFER_CONTEXT InitializeDmaTransferContext;
    PALLOCATE_COMMON_BUFFER_EX AllocateCommonBufferEx;
    PALLOCATE_ADAPTER_CHANNEL_EX AllocateAdapterChannelEx;
    PCONFIGURE_ADAPTER_CHANNEL ConfigureAdapterChannel;
    PCANCEL_ADAPTER_CHANNEL CancelAdapterChannel;
    PMAP_TRANSFER_EX MapTransferEx;
    PGET_SCATTER_GATHER_LIST_EX GetScatterGatherListEx;
    PBUILD_SCATTER_GATHER_LIST_EX BuildScatterGatherListEx;
    PFLUSH_ADAPTER_BUFFERS_EX FlushAdapterBuffersEx;
    PFREE_ADAPTER_OBJECT FreeAdapterObject;
    PCANCEL_MAPPED_TRANSFER CancelMappedTransfer;
    PALLOCATE_DOMAIN_COMMON_BUFFER AllocateDomainCommonBuffer;
    PFLUSH_DMA_BUFFER FlushDmaBuffer;
    PJOIN_DMA_DOMAIN JoinDmaDomain;
    PLEAVE_DMA_DOMAIN LeaveDmaDomain;
    PGET_DMA_DOMAIN GetDmaDomain;
    PALLOCATE_COMMON_BUFFER_WITH_BOUNDS AllocateCommonBufferWithBounds;
} DMA_OPERATIONS, *PDMA_OPERATIONS;

C_ASSERT(FIELD_OFFSET(DMA_OPERATIONS, PutDmaAdapter) == 8 &&
         FIELD_OFFSET(DMA_OPERATIONS, FreeMapRegisters) == 0x38);
C_ASSERT(FIELD_OFFSET(DMA_OPERATIONS, GetScatterGatherList) == 0x58 &&
         FIELD_OFFSET(DMA_OPERATIONS, CalculateScatterGatherList) == 0x68);
C_ASSERT(FIELD_OFFSET(DMA_OPERATIONS, GetDmaAdapterInfo) == 0x80 &&
         FIELD_OFFSET(DMA_OPERATIONS, AllocateCommonBufferEx) == 0x98);
C_ASSERT(FIELD_OFFSET(DMA_OPERATIONS, MapTransferEx) == 0xB8 &&
         FIELD_OFFSET(DMA_OPERATIONS, CancelMappedTransfer) == 0xE0);
C_ASSERT(FIELD_OFFSET(DMA_OPERATIONS, AllocateDomainCommonBuffer) == 0xE8 &&
         FIELD_OFFSET(DMA_OPERATIONS, AllocateCommonBufferWithBounds) == 0x110);
C_ASSERT(sizeof(DMA_OPERATIONS) == 0x118);

// -------------------------------------------------------------------------------------------------
// Routines.

// An adapter for a device, which PutDmaAdapter frees; its table is that of
// DeviceDescription->Version. *NumberOfMapRegisters: how many registers transfers may hold at a time,
// enough for MaximumLength bytes at any offset, unless that is too many. PhysicalDeviceObject may be
// NULL.
// NULL: an unknown version, a device for the system DMA controller, an address width that is none, or no
// pool. IRQL = PASSIVE_LEVEL.
_Must_inspect_result_ _Ret_maybenull_ _IRQL_requires_max_(PASSIVE_LEVEL)
PDMA_ADAPTER NTAPI IoGetDmaAdapter(_In_opt_ PDEVICE_OBJECT PhysicalDeviceObject,
                                   _In_ PDEVICE_DESCRIPTION DeviceDescription,
                                   _Out_ PULONG NumberOfMapRegisters);

// Obsolete: IoGetDmaAdapter without a device object. Level 1: 0xE6/0x1E.
_Must_inspect_result_ _Ret_maybenull_ _IRQL_requires_max_(PASSIVE_LEVEL)
PADAPTER_OBJECT NTAPI HalGetAdapter(_In_ PDEVICE_DESCRIPTION DeviceDescription,
                                    _Out_ PULONG NumberOfMapRegisters);

// Ours, instead of PutScatterGatherList and FreeCommonBuffer, for a device that never answered: it may write
// to the memory for ever, so nobody else ever gets it. The list's buffer is mapped no longer and stays the
// driver's, who frees it as always: its pages go to nobody then. Nor do bounce pages, and the pages of a common
// buffer, which is gone. The adapter may be released. IRQL <= DISPATCH_LEVEL; for a common buffer
// PASSIVE_LEVEL. What is no list or buffer of the adapter stops with 0xE6, as there.
_IRQL_requires_max_(DISPATCH_LEVEL) VOID
    NTAPI IoQuarantineScatterGatherList(_In_ PDMA_ADAPTER DmaAdapter,
                                        _In_ PSCATTER_GATHER_LIST ScatterGather);

_IRQL_requires_max_(PASSIVE_LEVEL) VOID
    NTAPI IoQuarantineCommonBuffer(_In_ PDMA_ADAPTER DmaAdapter, _In_ PVOID VirtualAddress);

// Orders the processor's accesses to the MDL's memory before those of a device: on x64 all that is
// needed. Of this MDL only, not of the chain.
FORCEINLINE VOID KeFlushIoBuffers(_In_ PMDL Mdl, _In_ BOOLEAN ReadOperation,
                                  _In_ BOOLEAN DmaOperation)
{
    UNREFERENCED_PARAMETER(Mdl);
    UNREFERENCED_PARAMETER(ReadOperation);
    UNREFERENCED_PARAMETER(DmaOperation);
    __asm__ volatile("" : : : "memory");
}

// The operations of version 1 by the names that they had as routines.

FORCEINLINE NTSTATUS IoAllocateAdapterChannel(_In_ PDMA_ADAPTER DmaAdapter,
                                              _In_ PDEVICE_OBJECT DeviceObject,
                                              _In_ ULONG NumberOfMapRegisters,
                                              _In_ PDRIVER_CONTROL ExecutionRoutine,
                                              _In_ PVOID Context)
{
    return DmaAdapter->DmaOperations->AllocateAdapterChannel(
        DmaAdapter, DeviceObject, NumberOfMapRegisters, ExecutionRoutine, Context);
}

FORCEINLINE BOOLEAN IoFlushAdapterBuffers(_In_ PDMA_ADAPTER DmaAdapter, _In_ PMDL Mdl,
                                          _In_ PVOID MapRegisterBase, _In_ PVOID CurrentVa,
                                          _In_ ULONG Length, _In_ BOOLEAN WriteToDevice)
{
    return DmaAdapter->DmaOperations->FlushAdapterBuffers(DmaAdapter, Mdl, MapRegisterBase,
                                                          CurrentVa, Length, WriteToDevice);
}

FORCEINLINE VOID IoFreeAdapterChannel(_In_ PDMA_ADAPTER DmaAdapter)
{
    DmaAdapter->DmaOperations->FreeAdapterChannel(DmaAdapter);
}

FORCEINLINE VOID IoFreeMapRegisters(_In_ PDMA_ADAPTER DmaAdapter, _In_ PVOID MapRegisterBase,
                                    _In_ ULONG NumberOfMapRegisters)
{
    DmaAdapter->DmaOperations->FreeMapRegisters(DmaAdapter, MapRegisterBase, NumberOfMapRegisters);
}

FORCEINLINE PHYSICAL_ADDRESS IoMapTransfer(_In_ PDMA_ADAPTER DmaAdapter, _In_ PMDL Mdl,
                                           _In_ PVOID MapRegisterBase, _In_ PVOID CurrentVa,
                                           _Inout_ PULONG Length, _In_ BOOLEAN WriteToDevice)
{
    return DmaAdapter->DmaOperations->MapTransfer(DmaAdapter, Mdl, MapRegisterBase, CurrentVa,
                                                  Length, WriteToDevice);
}
