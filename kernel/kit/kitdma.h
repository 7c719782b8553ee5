// DMA adapters of version 3 (Windows 8 and later), which mingw-w64 does not have. The rules of each
// operation stand in kernel/ddk/dmaddk.h. The structures that have grown are those of mingw-w64:
// kitdmatable.h.
#pragma once

#undef DmaPort
#undef BuildMdlFromScatterGatherList
#undef KIT_DMA_COMPLETION

#define DEVICE_DESCRIPTION_VERSION3 0x0003

#define DMA_ADAPTER_INFO_VERSION1 1
#define ADAPTER_INFO_SYNCHRONOUS_CALLBACK 0x0001
#define ADAPTER_INFO_API_BYPASS 0x0002

typedef struct _DMA_ADAPTER_INFO_V1 {
    ULONG ReadDmaCounterAvailable;
    ULONG ScatterGatherLimit;
    ULONG DmaAddressWidth;
    ULONG Flags;
    ULONG MinimumTransferUnit;
} DMA_ADAPTER_INFO_V1, *PDMA_ADAPTER_INFO_V1;

typedef struct _DMA_ADAPTER_INFO {
    ULONG Version;
    union {
        DMA_ADAPTER_INFO_V1 V1;
    };
} DMA_ADAPTER_INFO, *PDMA_ADAPTER_INFO;

#define DMA_TRANSFER_INFO_VERSION1 1
#define DMA_TRANSFER_INFO_VERSION2 2

typedef struct _DMA_TRANSFER_INFO_V1 {
    ULONG MapRegisterCount;
    ULONG ScatterGatherElementCount;
    ULONG ScatterGatherListSize;
} DMA_TRANSFER_INFO_V1, *PDMA_TRANSFER_INFO_V1;

typedef struct _DMA_TRANSFER_INFO_V2 {
    ULONG MapRegisterCount;
    ULONG ScatterGatherElementCount;
    ULONG ScatterGatherListSize;
    ULONG LogicalPageCount;
} DMA_TRANSFER_INFO_V2, *PDMA_TRANSFER_INFO_V2;

typedef struct _DMA_TRANSFER_INFO {
    ULONG Version;
    union {
        DMA_TRANSFER_INFO_V1 V1;
        DMA_TRANSFER_INFO_V2 V2;
    };
} DMA_TRANSFER_INFO, *PDMA_TRANSFER_INFO;

#define DMA_TRANSFER_CONTEXT_VERSION1 1
#define DMA_TRANSFER_CONTEXT_SIZE_V1 128 // bytes, on 64-bit machines

#define DMA_SYNCHRONOUS_CALLBACK 0x01
#define DMA_ZERO_BUFFERS 0x02
#define DMA_FAIL_ON_BOUNCE 0x04

typedef VOID(NTAPI DMA_COMPLETION_ROUTINE)(_In_ PDMA_ADAPTER DmaAdapter,
                                           _In_ PDEVICE_OBJECT DeviceObject,
                                           _In_ PVOID CompletionContext,
                                           _In_ DMA_COMPLETION_STATUS Status);
typedef DMA_COMPLETION_ROUTINE *PDMA_COMPLETION_ROUTINE;

typedef NTSTATUS(NTAPI *PGET_DMA_ADAPTER_INFO)(_In_ PDMA_ADAPTER DmaAdapter,
                                               _Inout_ PDMA_ADAPTER_INFO AdapterInfo);

typedef NTSTATUS(NTAPI *PGET_DMA_TRANSFER_INFO)(_In_ PDMA_ADAPTER DmaAdapter, _In_ PMDL Mdl,
                                                _In_ ULONGLONG Offset, _In_ ULONG Length,
                                                _In_ BOOLEAN WriteOnly,
                                                _Inout_ PDMA_TRANSFER_INFO TransferInfo);

typedef NTSTATUS(NTAPI *PINITIALIZE_DMA_TRANSFER_CONTEXT)(_In_ PDMA_ADAPTER DmaAdapter,
                                                          _Out_ PVOID DmaTransferContext);

typedef PVOID(NTAPI *PALLOCATE_COMMON_BUFFER_EX)(_In_ PDMA_ADAPTER DmaAdapter,
                                                 _In_opt_ PPHYSICAL_ADDRESS MaximumAddress,
                                                 _In_ ULONG Length,
                                                 _Out_ PPHYSICAL_ADDRESS LogicalAddress,
                                                 _In_ BOOLEAN CacheEnabled,
                                                 _In_ NODE_REQUIREMENT PreferredNode);

typedef NTSTATUS(NTAPI *PALLOCATE_ADAPTER_CHANNEL_EX)(
    _In_ PDMA_ADAPTER DmaAdapter, _In_ PDEVICE_OBJECT DeviceObject, _In_ PVOID DmaTransferContext,
    _In_ ULONG NumberOfMapRegisters, _In_ ULONG Flags, _In_opt_ PDRIVER_CONTROL ExecutionRoutine,
    _In_opt_ PVOID ExecutionContext, _Out_opt_ PVOID *MapRegisterBase);

typedef NTSTATUS(NTAPI *PCONFIGURE_ADAPTER_CHANNEL)(_In_ PDMA_ADAPTER DmaAdapter,
                                                    _In_ ULONG FunctionNumber, _In_ PVOID Context);

typedef BOOLEAN(NTAPI *PCANCEL_ADAPTER_CHANNEL)(_In_ PDMA_ADAPTER DmaAdapter,
                                                _In_ PDEVICE_OBJECT DeviceObject,
                                                _In_ PVOID DmaTransferContext);

typedef NTSTATUS(NTAPI *PMAP_TRANSFER_EX)(
    _In_ PDMA_ADAPTER DmaAdapter, _In_ PMDL Mdl, _In_ PVOID MapRegisterBase, _In_ ULONGLONG Offset,
    _In_ ULONG DeviceOffset, _Inout_ PULONG Length, _In_ BOOLEAN WriteToDevice,
    _Out_writes_bytes_opt_(ScatterGatherBufferLength) PSCATTER_GATHER_LIST ScatterGatherBuffer,
    _In_ ULONG ScatterGatherBufferLength, _In_opt_ PDMA_COMPLETION_ROUTINE DmaCompletionRoutine,
    _In_opt_ PVOID CompletionContext);

typedef NTSTATUS(NTAPI *PGET_SCATTER_GATHER_LIST_EX)(
    _In_ PDMA_ADAPTER DmaAdapter, _In_ PDEVICE_OBJECT DeviceObject, _In_ PVOID DmaTransferContext,
    _In_ PMDL Mdl, _In_ ULONGLONG Offset, _In_ ULONG Length, _In_ ULONG Flags,
    _In_opt_ PDRIVER_LIST_CONTROL ExecutionRoutine, _In_opt_ PVOID Context,
    _In_ BOOLEAN WriteToDevice, _In_opt_ PDMA_COMPLETION_ROUTINE DmaCompletionRoutine,
    _In_opt_ PVOID CompletionContext, _Out_opt_ PSCATTER_GATHER_LIST *ScatterGatherList);

typedef NTSTATUS(NTAPI *PBUILD_SCATTER_GATHER_LIST_EX)(
    _In_ PDMA_ADAPTER DmaAdapter, _In_ PDEVICE_OBJECT DeviceObject, _In_ PVOID DmaTransferContext,
    _In_ PMDL Mdl, _In_ ULONGLONG Offset, _In_ ULONG Length, _In_ ULONG Flags,
    _In_opt_ PDRIVER_LIST_CONTROL ExecutionRoutine, _In_opt_ PVOID Context,
    _In_ BOOLEAN WriteToDevice, _In_ PVOID ScatterGatherBuffer, _In_ ULONG ScatterGatherLength,
    _In_opt_ PDMA_COMPLETION_ROUTINE DmaCompletionRoutine, _In_opt_ PVOID CompletionContext,
    _Out_opt_ PSCATTER_GATHER_LIST *ScatterGatherList);

typedef NTSTATUS(NTAPI *PFLUSH_ADAPTER_BUFFERS_EX)(_In_ PDMA_ADAPTER DmaAdapter, _In_ PMDL Mdl,
                                                   _In_ PVOID MapRegisterBase,
                                                   _In_ ULONGLONG Offset, _In_ ULONG Length,
                                                   _In_ BOOLEAN WriteToDevice);

typedef VOID(NTAPI *PFREE_ADAPTER_OBJECT)(_In_ PDMA_ADAPTER DmaAdapter,
                                          _In_ IO_ALLOCATION_ACTION AllocationAction);

typedef NTSTATUS(NTAPI *PCANCEL_MAPPED_TRANSFER)(_In_ PDMA_ADAPTER DmaAdapter,
                                                 _In_ PVOID DmaTransferContext);

typedef NTSTATUS(NTAPI *PALLOCATE_DOMAIN_COMMON_BUFFER)(
    _In_ PDMA_ADAPTER DmaAdapter, _In_ HANDLE DomainHandle,
    _In_opt_ PPHYSICAL_ADDRESS MaximumAddress, _In_ ULONG Length, _In_ ULONG Flags,
    _In_opt_ MEMORY_CACHING_TYPE *CacheType, _In_ NODE_REQUIREMENT PreferredNode,
    _Out_ PPHYSICAL_ADDRESS LogicalAddress, _Out_ PVOID *VirtualAddress);
typedef NTSTATUS(NTAPI *PJOIN_DMA_DOMAIN)(_In_ PDMA_ADAPTER DmaAdapter, _In_ HANDLE DomainHandle);
typedef NTSTATUS(NTAPI *PLEAVE_DMA_DOMAIN)(_In_ PDMA_ADAPTER DmaAdapter);
typedef HANDLE(NTAPI *PGET_DMA_DOMAIN)(_In_ PDMA_ADAPTER DmaAdapter);

typedef NTSTATUS(NTAPI *PFLUSH_DMA_BUFFER)(_In_ PDMA_ADAPTER DmaAdapter, _In_ PMDL Mdl,
                                           _In_ BOOLEAN ReadOperation);

typedef PVOID(NTAPI *PALLOCATE_COMMON_BUFFER_WITH_BOUNDS)(_In_ PDMA_ADAPTER DmaAdapter,
                                                          _In_opt_ PPHYSICAL_ADDRESS MinimumAddress,
                                                          _In_opt_ PPHYSICAL_ADDRESS MaximumAddress,
                                                          _In_ ULONG Length, _In_ ULONG Flags,
                                                          _In_opt_ MEMORY_CACHING_TYPE *CacheType,
                                                          _In_ NODE_REQUIREMENT PreferredNode,
                                                          _Out_ PPHYSICAL_ADDRESS LogicalAddress);

// Ours: memory of a device that never answered goes to nobody.
NTKERNELAPI VOID NTAPI IoQuarantineScatterGatherList(_In_ PDMA_ADAPTER DmaAdapter,
                                                     _In_ PSCATTER_GATHER_LIST ScatterGather);
NTKERNELAPI VOID NTAPI IoQuarantineCommonBuffer(_In_ PDMA_ADAPTER DmaAdapter,
                                                _In_ PVOID VirtualAddress);

// mingw-w64 makes nothing of it; the compiler must not move accesses across it.
#undef KeFlushIoBuffers
FORCEINLINE VOID KeFlushIoBuffers(_In_ PMDL Mdl, _In_ BOOLEAN ReadOperation,
                                  _In_ BOOLEAN DmaOperation)
{
    UNREFERENCED_PARAMETER(Mdl);
    UNREFERENCED_PARAMETER(ReadOperation);
    UNREFERENCED_PARAMETER(DmaOperation);
    __asm__ volatile("" ::: "memory");
}
