// Mm of Windows 8 and later, which mingw-w64 does not have. The rules of each routine stand in
// kernel/ddk/mmddk.h.
#pragma once

// Both are in <ntddk.h>.
union _FILE_SEGMENT_ELEMENT;
struct _PHYSICAL_MEMORY_RANGE;

typedef const MDL *PCMDL;

#ifndef MdlMappingNoWrite
#define MdlMappingNoWrite 0x80000000U
#define MdlMappingNoExecute 0x40000000U
#define MdlMappingWithGuardPtes 0x20000000U
#endif

#ifndef MDL_LOCKED_PAGE_TABLES
#define MDL_LOCKED_PAGE_TABLES 0x0100
#endif
#ifndef MDL_PAGE_CONTENTS_INVARIANT
#define MDL_PAGE_CONTENTS_INVARIANT 0x4000
#endif

// mingw-w64's names a flag that does not exist.
#undef MDL_MAPPING_FLAGS
#define MDL_MAPPING_FLAGS                                                                          \
    (MDL_MAPPED_TO_SYSTEM_VA | MDL_PAGES_LOCKED | MDL_SOURCE_IS_NONPAGED_POOL |                    \
     MDL_PARTIAL_HAS_BEEN_MAPPED | MDL_PARENT_MAPPED_SYSTEM_VA | MDL_IO_SPACE)

#ifndef MM_ALLOCATE_FAST_LARGE_PAGES
#define MM_ALLOCATE_FAST_LARGE_PAGES 0x00000040
#endif
#ifndef MM_ALLOCATE_TRIM_IF_NECESSARY
#define MM_ALLOCATE_TRIM_IF_NECESSARY 0x00000080
#endif
#ifndef MM_ALLOCATE_AND_HOT_REMOVE
#define MM_ALLOCATE_AND_HOT_REMOVE 0x00000100
#endif
#ifndef MM_PERMANENT_ADDRESS_IS_IO_SPACE
#define MM_PERMANENT_ADDRESS_IS_IO_SPACE 1
#endif
#ifndef MM_MAPPING_ADDRESS_DIVISIBLE
#define MM_MAPPING_ADDRESS_DIVISIBLE 1
#endif
#ifndef MM_FREE_MDL_PAGES_ZERO
#define MM_FREE_MDL_PAGES_ZERO 0x00000001
#endif
#ifndef MM_ALLOCATE_CONTIGUOUS_MEMORY_FAST_ONLY
#define MM_ALLOCATE_CONTIGUOUS_MEMORY_FAST_ONLY 0x00000001
#endif
#ifndef MM_DUMP_MAP_CACHED
#define MM_DUMP_MAP_CACHED 0x1
#define MM_DUMP_MAP_INVALIDATE 0x2
#endif

typedef struct _MM_PHYSICAL_ADDRESS_LIST {
    PHYSICAL_ADDRESS PhysicalAddress;
    SIZE_T NumberOfBytes;
} MM_PHYSICAL_ADDRESS_LIST, *PMM_PHYSICAL_ADDRESS_LIST;

#ifndef MM_COPY_MEMORY_PHYSICAL
#define MM_COPY_MEMORY_PHYSICAL 0x1
#define MM_COPY_MEMORY_VIRTUAL 0x2

typedef struct _MM_COPY_ADDRESS {
    union {
        PVOID VirtualAddress;
        PHYSICAL_ADDRESS PhysicalAddress;
    };
} MM_COPY_ADDRESS, *PMMCOPY_ADDRESS;
#endif

typedef VOID(NTAPI MM_MDL_ROUTINE)(_In_opt_ PVOID DriverContext, _In_ PVOID MappedVa);
typedef MM_MDL_ROUTINE *PMM_MDL_ROUTINE;

// I/O space.
NTKERNELAPI PVOID NTAPI MmMapIoSpaceEx(_In_ PHYSICAL_ADDRESS PhysicalAddress,
                                       _In_ SIZE_T NumberOfBytes, _In_ ULONG Protect);
NTKERNELAPI NTSTATUS NTAPI
MmAllocateMdlForIoSpace(_In_ PMM_PHYSICAL_ADDRESS_LIST PhysicalAddressList,
                        _In_ SIZE_T NumberOfEntries, _Outptr_ PMDL *NewMdl);
NTKERNELAPI NTSTATUS NTAPI MmGetCacheAttribute(_In_ PHYSICAL_ADDRESS PhysicalAddress,
                                               _Out_ MEMORY_CACHING_TYPE *CacheType);
NTKERNELAPI NTSTATUS NTAPI MmGetCacheAttributeEx(_In_ PHYSICAL_ADDRESS PhysicalAddress,
                                                 _In_ ULONG Flags,
                                                 _Out_ MEMORY_CACHING_TYPE *CacheType);
NTKERNELAPI NTSTATUS NTAPI MmSetPermanentCacheAttribute(_In_ PHYSICAL_ADDRESS PhysicalAddress,
                                                        _In_ LARGE_INTEGER NumberOfBytes,
                                                        _In_ MEMORY_CACHING_TYPE CacheType,
                                                        _In_ ULONG Flags);
NTKERNELAPI struct _PHYSICAL_MEMORY_RANGE *NTAPI
MmGetPhysicalMemoryRangesEx(_In_opt_ PVOID PartitionObject);
NTKERNELAPI struct _PHYSICAL_MEMORY_RANGE *NTAPI
MmGetPhysicalMemoryRangesEx2(_In_opt_ PVOID PartitionObject, _In_ ULONG Flags);
NTKERNELAPI NTSTATUS NTAPI MmCopyMemory(_In_ PVOID TargetAddress,
                                        _In_ MM_COPY_ADDRESS SourceAddress,
                                        _In_ SIZE_T NumberOfBytes, _In_ ULONG Flags,
                                        _Out_ PSIZE_T NumberOfBytesTransferred);

// MDLs.
NTKERNELAPI VOID NTAPI MmProbeAndLockSelectedPages(_Inout_ PMDL MemoryDescriptorList,
                                                   _In_ union _FILE_SEGMENT_ELEMENT *SegmentArray,
                                                   _In_ KPROCESSOR_MODE AccessMode,
                                                   _In_ LOCK_OPERATION Operation);
NTKERNELAPI NTSTATUS NTAPI MmMapMdl(_Inout_ PMDL MemoryDescriptorList, _In_ ULONG Protection,
                                    _In_ PMM_MDL_ROUTINE DriverRoutine,
                                    _In_opt_ PVOID DriverContext);
NTKERNELAPI VOID NTAPI MmMapMemoryDumpMdl(_Inout_ PMDL MemoryDumpMdl);
NTKERNELAPI NTSTATUS NTAPI MmMapMemoryDumpMdlEx(_In_ PVOID Va, _In_ PFN_NUMBER PageTotal,
                                                _Inout_ PMDL MemoryDumpMdl, _In_ ULONG Flags);
NTKERNELAPI PVOID NTAPI MmAllocateMappingAddressEx(_In_ SIZE_T NumberOfBytes, _In_ ULONG PoolTag,
                                                   _In_ ULONG Flags);

// Pages.
NTKERNELAPI PMDL NTAPI MmAllocateNodePagesForMdlEx(_In_ PHYSICAL_ADDRESS LowAddress,
                                                   _In_ PHYSICAL_ADDRESS HighAddress,
                                                   _In_ PHYSICAL_ADDRESS SkipBytes,
                                                   _In_ SIZE_T TotalBytes,
                                                   _In_ MEMORY_CACHING_TYPE CacheType,
                                                   _In_ ULONG IdealNode, _In_ ULONG Flags);
NTKERNELAPI PMDL NTAPI MmAllocatePartitionNodePagesForMdlEx(
    _In_ PHYSICAL_ADDRESS LowAddress, _In_ PHYSICAL_ADDRESS HighAddress,
    _In_ PHYSICAL_ADDRESS SkipBytes, _In_ SIZE_T TotalBytes, _In_ MEMORY_CACHING_TYPE CacheType,
    _In_ ULONG IdealNode, _In_ ULONG Flags, _In_opt_ PVOID PartitionObject);
NTKERNELAPI VOID NTAPI MmFreePagesFromMdlEx(_Inout_ PMDL MemoryDescriptorList, _In_ ULONG Flags);
NTKERNELAPI PVOID NTAPI MmAllocateContiguousNodeMemory(
    _In_ SIZE_T NumberOfBytes, _In_ PHYSICAL_ADDRESS LowestAcceptableAddress,
    _In_ PHYSICAL_ADDRESS HighestAcceptableAddress, _In_ PHYSICAL_ADDRESS BoundaryAddressMultiple,
    _In_ ULONG Protect, _In_ NODE_REQUIREMENT PreferredNode);
NTKERNELAPI NTSTATUS NTAPI MmAllocateContiguousMemoryEx(
    _Inout_ PSIZE_T NumberOfBytes, _In_ PHYSICAL_ADDRESS LowestAcceptableAddress,
    _In_ PHYSICAL_ADDRESS HighestAcceptableAddress, _In_ PHYSICAL_ADDRESS BoundaryAddressMultiple,
    _In_ NODE_REQUIREMENT PreferredNode, _In_ ULONG Protect, _In_opt_ PVOID PartitionObject,
    _In_ ULONG Tag, _In_ ULONG Flags, _Outptr_ PVOID *BaseAddress);
