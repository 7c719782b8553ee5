// Before mingw-w64's <wdm.h>: members that its DMA structures lack at their ends. Each name below
// occurs there once, as the last member; here it stands for itself and for what follows it.
#pragma once

struct _DMA_ADAPTER;
struct _DMA_ADAPTER_INFO;
struct _DMA_TRANSFER_INFO;
struct _DEVICE_OBJECT;
struct _MDL;
struct _SCATTER_GATHER_LIST;

// DEVICE_DESCRIPTION, from DEVICE_DESCRIPTION_VERSION3 on.
#define DmaPort                                                                                    \
    DmaPort;                                                                                       \
    ULONG DmaAddressWidth;                                                                         \
    ULONG DmaControllerInstance;                                                                   \
    ULONG DmaRequestLine;                                                                          \
    PHYSICAL_ADDRESS DeviceAddress

// DMA_OPERATIONS, version 3. The types of the pointers have names in kitdma.h, where the types of
// their parameters are known.
#define KIT_DMA_COMPLETION                                                                         \
    VOID(NTAPI *)(struct _DMA_ADAPTER *, struct _DEVICE_OBJECT *, PVOID, DMA_COMPLETION_STATUS)
#define BuildMdlFromScatterGatherList                                                              \
    BuildMdlFromScatterGatherList;                                                                 \
    NTSTATUS(NTAPI *GetDmaAdapterInfo)(struct _DMA_ADAPTER *, struct _DMA_ADAPTER_INFO *);         \
    NTSTATUS(NTAPI *GetDmaTransferInfo)                                                            \
    (struct _DMA_ADAPTER *, struct _MDL *, ULONGLONG, ULONG, BOOLEAN,                              \
     struct _DMA_TRANSFER_INFO *);                                                                 \
    NTSTATUS(NTAPI *InitializeDmaTransferContext)(struct _DMA_ADAPTER *, PVOID);                   \
    PVOID(NTAPI *AllocateCommonBufferEx)                                                           \
    (struct _DMA_ADAPTER *, PPHYSICAL_ADDRESS, ULONG, PPHYSICAL_ADDRESS, BOOLEAN, ULONG);          \
    NTSTATUS(NTAPI *AllocateAdapterChannelEx)                                                      \
    (struct _DMA_ADAPTER *, struct _DEVICE_OBJECT *, PVOID, ULONG, ULONG, PDRIVER_CONTROL, PVOID,  \
     PVOID *);                                                                                     \
    NTSTATUS(NTAPI *ConfigureAdapterChannel)(struct _DMA_ADAPTER *, ULONG, PVOID);                 \
    BOOLEAN(NTAPI *CancelAdapterChannel)(struct _DMA_ADAPTER *, struct _DEVICE_OBJECT *, PVOID);   \
    NTSTATUS(NTAPI *MapTransferEx)                                                                 \
    (struct _DMA_ADAPTER *, struct _MDL *, PVOID, ULONGLONG, ULONG, PULONG, BOOLEAN,               \
     struct _SCATTER_GATHER_LIST *, ULONG, KIT_DMA_COMPLETION, PVOID);                             \
    NTSTATUS(NTAPI *GetScatterGatherListEx)                                                        \
    (struct _DMA_ADAPTER *, struct _DEVICE_OBJECT *, PVOID, struct _MDL *, ULONGLONG, ULONG,       \
     ULONG, PDRIVER_LIST_CONTROL, PVOID, BOOLEAN, KIT_DMA_COMPLETION, PVOID,                       \
     struct _SCATTER_GATHER_LIST **);                                                              \
    NTSTATUS(NTAPI *BuildScatterGatherListEx)                                                      \
    (struct _DMA_ADAPTER *, struct _DEVICE_OBJECT *, PVOID, struct _MDL *, ULONGLONG, ULONG,       \
     ULONG, PDRIVER_LIST_CONTROL, PVOID, BOOLEAN, PVOID, ULONG, KIT_DMA_COMPLETION, PVOID,         \
     struct _SCATTER_GATHER_LIST **);                                                              \
    NTSTATUS(NTAPI *FlushAdapterBuffersEx)                                                         \
    (struct _DMA_ADAPTER *, struct _MDL *, PVOID, ULONGLONG, ULONG, BOOLEAN);                      \
    VOID(NTAPI *FreeAdapterObject)(struct _DMA_ADAPTER *, IO_ALLOCATION_ACTION);                   \
    NTSTATUS(NTAPI *CancelMappedTransfer)(struct _DMA_ADAPTER *, PVOID);                           \
    NTSTATUS(NTAPI *AllocateDomainCommonBuffer)                                                    \
    (struct _DMA_ADAPTER *, HANDLE, PPHYSICAL_ADDRESS, ULONG, ULONG, MEMORY_CACHING_TYPE *, ULONG, \
     PPHYSICAL_ADDRESS, PVOID *);                                                                  \
    NTSTATUS(NTAPI *FlushDmaBuffer)(struct _DMA_ADAPTER *, struct _MDL *, BOOLEAN);                \
    NTSTATUS(NTAPI *JoinDmaDomain)(struct _DMA_ADAPTER *, HANDLE);                                 \
    NTSTATUS(NTAPI *LeaveDmaDomain)(struct _DMA_ADAPTER *);                                        \
    HANDLE(NTAPI *GetDmaDomain)(struct _DMA_ADAPTER *);                                            \
    PVOID(NTAPI *AllocateCommonBufferWithBounds)                                                   \
    (struct _DMA_ADAPTER *, PPHYSICAL_ADDRESS, PPHYSICAL_ADDRESS, ULONG, ULONG,                    \
     MEMORY_CACHING_TYPE *, ULONG, PPHYSICAL_ADDRESS)
