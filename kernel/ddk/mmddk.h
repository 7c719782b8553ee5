// Mm for drivers: I/O-space mappings, MDLs, reserved mappings, physical pages.
// Where a comment gives no IRQL, the function may be called at IRQL <= DISPATCH_LEVEL.
#pragma once

#include <ntdef.h>
#include <ntstatus.h>

struct _IRP;
typedef struct _EPROCESS *PEPROCESS; // opaque; see <dispatchddk.h>

// -------------------------------------------------------------------------------------------------
// Pages.

#define PAGE_SHIFT 12
#define PAGE_SIZE 0x1000

typedef ULONG_PTR PFN_NUMBER, *PPFN_NUMBER; // a physical address / PAGE_SIZE

#define BYTE_OFFSET(Va) ((ULONG)((ULONG_PTR)(Va) & (PAGE_SIZE - 1)))
#define PAGE_ALIGN(Va) ((PVOID)((ULONG_PTR)(Va) & ~(ULONG_PTR)(PAGE_SIZE - 1)))
// Overflows above 2^64 - PAGE_SIZE, as on NT.
#define ROUND_TO_PAGES(ByteCount)                                                                  \
    (((ULONG_PTR)(ByteCount) + PAGE_SIZE - 1) & ~(ULONG_PTR)(PAGE_SIZE - 1))
#define BYTES_TO_PAGES(ByteCount)                                                                  \
    (((ByteCount) >> PAGE_SHIFT) + (((ByteCount) & (PAGE_SIZE - 1)) != 0))
// Truncated to a ULONG. No bytes at an address that is not page aligned span one page: refuse them
// beforehand.
#define ADDRESS_AND_SIZE_TO_SPAN_PAGES(Va, ByteCount)                                              \
    ((ULONG)(((ULONG_PTR)BYTE_OFFSET(Va) + (ULONG_PTR)(ByteCount) + PAGE_SIZE - 1) >> PAGE_SHIFT))
#define COMPUTE_PAGES_SPANNED(Va, ByteCount) ADDRESS_AND_SIZE_TO_SPAN_PAGES(Va, ByteCount)

typedef enum _MEMORY_CACHING_TYPE {
    MmNotMapped = -1,
    MmNonCached = 0, // FALSE in old code
    MmCached = 1,    // TRUE in old code
    MmWriteCombined = 2,
    MmHardwareCoherentCached = 3,
    MmNonCachedUnordered = 4,
    MmUSWCCached = 5,
    MmMaximumCacheType = 6,
} MEMORY_CACHING_TYPE;

// One base protection ...
#define PAGE_NOACCESS 0x01
#define PAGE_READONLY 0x02
#define PAGE_READWRITE 0x04
#define PAGE_WRITECOPY 0x08
#define PAGE_EXECUTE 0x10
#define PAGE_EXECUTE_READ 0x20
#define PAGE_EXECUTE_READWRITE 0x40
#define PAGE_EXECUTE_WRITECOPY 0x80
#define PAGE_GUARD 0x100
// ... with at most one modifier. None of them: cached.
#define PAGE_NOCACHE 0x200
#define PAGE_WRITECOMBINE 0x400

// The Priority argument: one of these, with flags of how to map.
typedef enum _MM_PAGE_PRIORITY {
    LowPagePriority = 0,
    NormalPagePriority = 16,
    HighPagePriority = 32,
} MM_PAGE_PRIORITY;

#define MdlMappingNoWrite 0x80000000U
#define MdlMappingNoExecute 0x40000000U
#define MdlMappingWithGuardPtes 0x20000000U

typedef enum _LOCK_OPERATION {
    IoReadAccess,  // the device reads from memory
    IoWriteAccess, // the device writes to memory: what a disk read needs
    IoModifyAccess,
} LOCK_OPERATION;

#define MM_DONT_ZERO_ALLOCATION 0x00000001
#define MM_ALLOCATE_FROM_LOCAL_NODE_ONLY 0x00000002
#define MM_ALLOCATE_FULLY_REQUIRED 0x00000004
#define MM_ALLOCATE_NO_WAIT 0x00000008
#define MM_ALLOCATE_PREFER_CONTIGUOUS 0x00000010
#define MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS 0x00000020
#define MM_ALLOCATE_FAST_LARGE_PAGES 0x00000040
#define MM_ALLOCATE_TRIM_IF_NECESSARY 0x00000080
#define MM_ALLOCATE_AND_HOT_REMOVE 0x00000100

#define MM_PERMANENT_ADDRESS_IS_IO_SPACE 1
#define MM_MAPPING_ADDRESS_DIVISIBLE 1
#define MM_FREE_MDL_PAGES_ZERO 0x00000001

typedef ULONG NODE_REQUIREMENT;
#define MM_ANY_NODE_OK 0x80000000

#define MM_ALLOCATE_CONTIGUOUS_MEMORY_FAST_ONLY 0x00000001

// A list of these ends with an all-zero entry.
typedef struct _PHYSICAL_MEMORY_RANGE {
    PHYSICAL_ADDRESS BaseAddress;
    LARGE_INTEGER NumberOfBytes;
} PHYSICAL_MEMORY_RANGE, *PPHYSICAL_MEMORY_RANGE;

typedef struct _MM_PHYSICAL_ADDRESS_LIST {
    PHYSICAL_ADDRESS PhysicalAddress;
    SIZE_T NumberOfBytes;
} MM_PHYSICAL_ADDRESS_LIST, *PMM_PHYSICAL_ADDRESS_LIST;

C_ASSERT(sizeof(PHYSICAL_MEMORY_RANGE) == 0x10 &&
         FIELD_OFFSET(PHYSICAL_MEMORY_RANGE, NumberOfBytes) == 8);
// One page of a buffer that is gathered from several places.
typedef union _FILE_SEGMENT_ELEMENT {
    PVOID Buffer; // page aligned
    ULONGLONG Alignment;
} FILE_SEGMENT_ELEMENT, *PFILE_SEGMENT_ELEMENT;

C_ASSERT(sizeof(FILE_SEGMENT_ELEMENT) == 8);
C_ASSERT(sizeof(MM_PHYSICAL_ADDRESS_LIST) == 0x10 &&
         FIELD_OFFSET(MM_PHYSICAL_ADDRESS_LIST, NumberOfBytes) == 8);

// -------------------------------------------------------------------------------------------------
// The MDL: a buffer as the list of its page frames. The PFN_NUMBERs follow the header.
// Drivers may read Next and MdlFlags, and set MDL_MAPPING_CAN_FAIL and MDL_PAGES_LOCKED; for the
// rest use the macros.

typedef struct _MDL {
    struct _MDL *Next;
    CSHORT Size; // of header and array; too narrow for big MDLs, so nothing relies on it
    CSHORT MdlFlags;
    ULONG Reserved;
    struct _EPROCESS *Process;
    PVOID MappedSystemVa;
    PVOID StartVa; // page aligned
    ULONG ByteCount;
    ULONG ByteOffset;
} MDL, *PMDL;
typedef const MDL *PCMDL;

C_ASSERT(sizeof(MDL) == 0x30);
C_ASSERT(FIELD_OFFSET(MDL, Size) == 0x08 && FIELD_OFFSET(MDL, MdlFlags) == 0x0A);
C_ASSERT(FIELD_OFFSET(MDL, Process) == 0x10 && FIELD_OFFSET(MDL, MappedSystemVa) == 0x18);
C_ASSERT(FIELD_OFFSET(MDL, StartVa) == 0x20 && FIELD_OFFSET(MDL, ByteCount) == 0x28);
C_ASSERT(FIELD_OFFSET(MDL, ByteOffset) == 0x2C);
C_ASSERT(sizeof(PFN_NUMBER) == 8);

#define MDL_MAPPED_TO_SYSTEM_VA 0x0001
#define MDL_PAGES_LOCKED 0x0002
#define MDL_SOURCE_IS_NONPAGED_POOL 0x0004
#define MDL_ALLOCATED_FIXED_SIZE 0x0008
#define MDL_PARTIAL 0x0010
#define MDL_PARTIAL_HAS_BEEN_MAPPED 0x0020
#define MDL_IO_PAGE_READ 0x0040
#define MDL_WRITE_OPERATION 0x0080
#define MDL_LOCKED_PAGE_TABLES 0x0100
#define MDL_PARENT_MAPPED_SYSTEM_VA MDL_LOCKED_PAGE_TABLES
#define MDL_FREE_EXTRA_PTES 0x0200
#define MDL_DESCRIBES_AWE 0x0400
#define MDL_IO_SPACE 0x0800
#define MDL_NETWORK_HEADER 0x1000
#define MDL_MAPPING_CAN_FAIL 0x2000
#define MDL_PAGE_CONTENTS_INVARIANT 0x4000
#define MDL_ALLOCATED_MUST_SUCCEED MDL_PAGE_CONTENTS_INVARIANT
#define MDL_INTERNAL 0x8000

#define MmGetMdlPfnArray(Mdl) ((PPFN_NUMBER)((Mdl) + 1))
#define MmGetMdlVirtualAddress(Mdl) ((PVOID)((PUCHAR)(Mdl)->StartVa + (Mdl)->ByteOffset))
#define MmGetMdlByteCount(Mdl) ((Mdl)->ByteCount)
#define MmGetMdlByteOffset(Mdl) ((Mdl)->ByteOffset)
#define MmGetMdlBaseVa(Mdl) ((Mdl)->StartVa)

// Fills the header in memory that the caller provides. Leaves Process, MappedSystemVa and the
// frames as they are.
FORCEINLINE VOID MmInitializeMdl(_Out_ PMDL Mdl, _In_opt_ PVOID BaseVa, _In_ SIZE_T Length)
{
    Mdl->Next = NULL;
    Mdl->Size =
        (CSHORT)(sizeof(MDL) + sizeof(PFN_NUMBER) * ADDRESS_AND_SIZE_TO_SPAN_PAGES(BaseVa, Length));
    Mdl->MdlFlags = 0;
    Mdl->Reserved = 0;
    Mdl->StartVa = PAGE_ALIGN(BaseVa);
    Mdl->ByteOffset = BYTE_OFFSET(BaseVa);
    Mdl->ByteCount = (ULONG)Length;
}

// Bytes that an MDL for this buffer takes. Any IRQL.
SIZE_T NTAPI MmSizeOfMdl(_In_opt_ PVOID Base, _In_ SIZE_T Length);

// -------------------------------------------------------------------------------------------------
// I/O-space mappings.

// Maps NumberOfBytes of device memory (or of locked RAM) from any byte address on. Protect:
// READONLY, READWRITE, EXECUTE, EXECUTE_READ or EXECUTE_READWRITE, with NOCACHE or WRITECOMBINE or,
// for cached, neither. Returns an address with the page offset of PhysicalAddress; the caller
// undoes it with MmUnmapIoSpace.
// NULL: no addresses or memory left; and (ours) no bytes, a range that wraps or leaves the physical
// address space, another combination in Protect, RAM that is not locked, page tables, or a live
// mapping with another cache type.
_Must_inspect_result_ _Ret_maybenull_ _IRQL_requires_max_(DISPATCH_LEVEL)
PVOID NTAPI MmMapIoSpaceEx(_In_ PHYSICAL_ADDRESS PhysicalAddress, _In_ SIZE_T NumberOfBytes,
                           _In_ ULONG Protect);

// MmMapIoSpaceEx with PAGE_READWRITE and the cache type; a type that does not exist returns NULL.
// Never executable (ours).
_Must_inspect_result_ _Ret_maybenull_ _IRQL_requires_max_(DISPATCH_LEVEL)
PVOID NTAPI MmMapIoSpace(_In_ PHYSICAL_ADDRESS PhysicalAddress, _In_ SIZE_T NumberOfBytes,
                         _In_ MEMORY_CACHING_TYPE CacheType);

// Undoes one mapping as a whole: the address that the mapping call returned, and its size. No
// translation survives the return. Stops with SYSTEM_PTE_MISUSE: 0x400 no such mapping, 0x305
// another size, 0x304 inside a mapping.
VOID NTAPI MmUnmapIoSpace(_In_ PVOID BaseAddress, _In_ SIZE_T NumberOfBytes);

// MmMapIoSpace and MmUnmapIoSpace under the names that video drivers used. IRQL = PASSIVE_LEVEL.
_Must_inspect_result_ _Ret_maybenull_ _IRQL_requires_max_(PASSIVE_LEVEL)
PVOID NTAPI MmMapVideoDisplay(_In_ PHYSICAL_ADDRESS PhysicalAddress, _In_ SIZE_T NumberOfBytes,
                              _In_ MEMORY_CACHING_TYPE CacheType);
_IRQL_requires_max_(PASSIVE_LEVEL) VOID
    NTAPI MmUnmapVideoDisplay(_In_ PVOID BaseAddress, _In_ SIZE_T NumberOfBytes);

// The cache type that the page of PhysicalAddress has now: MmNotMapped when nobody has decided one.
// The Ex form takes Flags, which must be 0. RAM that the kernel uses is MmCached.
// STATUS_INVALID_PARAMETER_1  beyond the processor's physical addresses (ours)
// STATUS_INVALID_PARAMETER_2  flags that are not 0 (ours)
NTSTATUS NTAPI MmGetCacheAttribute(_In_ PHYSICAL_ADDRESS PhysicalAddress,
                                   _Out_ MEMORY_CACHING_TYPE *CacheType);
NTSTATUS NTAPI MmGetCacheAttributeEx(_In_ PHYSICAL_ADDRESS PhysicalAddress, _In_ ULONG Flags,
                                     _Out_ MEMORY_CACHING_TYPE *CacheType);

// Fixes the cache type of device memory for as long as the system runs; a mapping with another type
// is refused. Flags: MM_PERMANENT_ADDRESS_IS_IO_SPACE. Whole pages: the range is rounded out.
// STATUS_INVALID_PARAMETER_1     no bytes, wrap, or beyond the processor's physical addresses (ours)
// STATUS_INVALID_PARAMETER_3     no such cache type (ours)
// STATUS_INVALID_PARAMETER_4     other flags, or RAM (ours)
// STATUS_CONFLICTING_ADDRESSES   in use with another type (ours)
// STATUS_INSUFFICIENT_RESOURCES  no pool
NTSTATUS NTAPI MmSetPermanentCacheAttribute(_In_ PHYSICAL_ADDRESS PhysicalAddress,
                                            _In_ LARGE_INTEGER NumberOfBytes,
                                            _In_ MEMORY_CACHING_TYPE CacheType, _In_ ULONG Flags);

// The physical address of one byte, or 0 when nothing is mapped there (ours). Any IRQL. Not for
// DMA.
PHYSICAL_ADDRESS NTAPI MmGetPhysicalAddress(_In_ PVOID BaseAddress);

// TRUE when reading this byte would not fault now. The answer may be stale at once.
BOOLEAN NTAPI MmIsAddressValid(_In_ PVOID VirtualAddress);

// The RAM that the system uses, in bytes, ascending; an all-zero entry ends the list. The caller
// frees it with ExFreePool. NULL: no pool. IRQL = PASSIVE_LEVEL.
_Must_inspect_result_ _Ret_maybenull_ _IRQL_requires_max_(PASSIVE_LEVEL)
PPHYSICAL_MEMORY_RANGE NTAPI MmGetPhysicalMemoryRanges(VOID);

// The same for a partition. NULL, too (ours): PartitionObject is not NULL, the one partition there
// is.
_Must_inspect_result_ _Ret_maybenull_ _IRQL_requires_max_(PASSIVE_LEVEL)
PPHYSICAL_MEMORY_RANGE NTAPI MmGetPhysicalMemoryRangesEx(_In_opt_ PVOID PartitionObject);

// The same; Flags is ignored (ours).
_Must_inspect_result_ _Ret_maybenull_ _IRQL_requires_max_(PASSIVE_LEVEL)
PPHYSICAL_MEMORY_RANGE NTAPI MmGetPhysicalMemoryRangesEx2(_In_opt_ PVOID PartitionObject,
                                                          _In_ ULONG Flags);

// The address at which the kernel itself sees a byte of RAM. NULL (ours): no RAM, RAM that is free or
// holds a page table, and RAM that is mapped with another cache type than write-back. Any IRQL.
PVOID NTAPI MmGetVirtualForPhysical(_In_ PHYSICAL_ADDRESS PhysicalAddress);

// The address of a routine or a variable that the kernel exports, by its name; upper and lower case
// count. NULL: this kernel does not have it. IRQL = PASSIVE_LEVEL.
_Must_inspect_result_ _Ret_maybenull_ _IRQL_requires_max_(PASSIVE_LEVEL)
PVOID NTAPI MmGetSystemRoutineAddress(_In_ PUNICODE_STRING SystemRoutineName);

typedef struct _MM_COPY_ADDRESS {
    union {
        PVOID VirtualAddress;
        PHYSICAL_ADDRESS PhysicalAddress;
    };
} MM_COPY_ADDRESS, *PMMCOPY_ADDRESS;

C_ASSERT(sizeof(MM_COPY_ADDRESS) == 8);

#define MM_COPY_MEMORY_PHYSICAL 0x1
#define MM_COPY_MEMORY_VIRTUAL 0x2

// Copies from an address that may be bad, to one that may not: never faults. Flags: one of the two
// above. NumberOfBytesTransferred gets the bytes copied, also on failure. RAM only.
// STATUS_INVALID_PARAMETER: other flags. STATUS_INVALID_ADDRESS (ours): nothing is mapped there, or
// it cannot be read; an address beyond the physical ones; device memory.
// STATUS_INSUFFICIENT_RESOURCES (ours): no addresses left to look at uncached RAM.
_Must_inspect_result_ _IRQL_requires_max_(APC_LEVEL)
NTSTATUS NTAPI MmCopyMemory(_Out_writes_bytes_(NumberOfBytes) PVOID TargetAddress,
                            _In_ MM_COPY_ADDRESS SourceAddress, _In_ SIZE_T NumberOfBytes,
                            _In_ ULONG Flags, _Out_ PSIZE_T NumberOfBytesTransferred);

// Nonzero when any byte of the range is mapped as I/O space now.
LOGICAL NTAPI MmIsIoSpaceActive(_In_ PHYSICAL_ADDRESS StartAddress, _In_ SIZE_T NumberOfBytes);

// -------------------------------------------------------------------------------------------------
// MDLs.

// An MDL for Length bytes at VirtualAddress, which is not looked at; the frames are not filled in.
// With an Irp it becomes Irp->MdlAddress, or with SecondaryBuffer the tail of that chain. The
// caller frees it with IoFreeMdl.
// NULL: no pool, Length 0 (ours), or more than 4 GiB - PAGE_SIZE.
_Must_inspect_result_ _Ret_maybenull_ _IRQL_requires_max_(DISPATCH_LEVEL)
PMDL NTAPI IoAllocateMdl(_In_opt_ PVOID VirtualAddress, _In_ ULONG Length,
                         _In_ BOOLEAN SecondaryBuffer, _In_ BOOLEAN ChargeQuota,
                         _Inout_opt_ struct _IRP *Irp);

// Obsolete: the same without an IRP, in the memory of the caller (MmSizeOfMdl bytes), or, with Mdl
// NULL, in pool, which the caller frees with ExFreePool. NULL as above.
_Must_inspect_result_ _Ret_maybenull_ _IRQL_requires_max_(DISPATCH_LEVEL)
PMDL NTAPI MmCreateMdl(_Inout_opt_ PMDL Mdl, _In_opt_ PVOID Base, _In_ SIZE_T Length);

// Frees one MDL, not its chain. Neither unlocks nor frees the pages. One that is still mapped is
// unmapped (ours).
VOID NTAPI IoFreeMdl(_In_ PMDL Mdl);

// An MDL of device memory: the pages of all ranges in order, which need not adjoin. Not mapped; its
// pages count as locked. The caller frees it with IoFreeMdl after unmapping. On failure *NewMdl is
// NULL (ours).
// STATUS_INVALID_PARAMETER_1: a base or length that is not whole pages, RAM in a range, or a total
// of 4 GiB or more; and (ours) no bytes in a range, or one that wraps or leaves the physical
// addresses.
// STATUS_INVALID_PARAMETER_2: no entries (ours). STATUS_INSUFFICIENT_RESOURCES: no pool.
_Must_inspect_result_ _IRQL_requires_max_(DISPATCH_LEVEL)
NTSTATUS NTAPI MmAllocateMdlForIoSpace(_In_reads_(NumberOfEntries)
                                           PMM_PHYSICAL_ADDRESS_LIST PhysicalAddressList,
                                       _In_ SIZE_T NumberOfEntries, _Outptr_ PMDL *NewMdl);

// Fills an MDL over nonpaged pool or other memory that never moves: frames from the page tables,
// MappedSystemVa the buffer itself. Such an MDL is neither locked, mapped nor unmapped. A page that
// is not there: MEMORY_MANAGEMENT 0x1240.
VOID NTAPI MmBuildMdlForNonPagedPool(_Inout_ PMDL MemoryDescriptorList);

// Makes TargetMdl describe Length bytes of SourceMdl's buffer (0: all that follows), from
// VirtualAddress on, an address in the source's virtual buffer (MmGetMdlVirtualAddress + offset). The
// frames stay the source's: its owner unlocks them, after the target's last use. The target shares
// the source's system address, if it has one; else it can be mapped on its own, and
// MmPrepareMdlForReuse or IoFreeMdl ends that. Stops with INVALID_MDL_RANGE (source, target,
// address, Length) for bytes that the source has not, and with TARGET_MDL_TOO_SMALL (ours: target,
// pages needed, room) for a target without room.
VOID NTAPI IoBuildPartialMdl(_In_ PMDL SourceMdl, _Inout_ PMDL TargetMdl, _In_ PVOID VirtualAddress,
                             _In_ ULONG Length);

// Moves the beginning of the buffer forward. Frames that are passed are unlocked at once; the
// addresses where they were mapped fault (ours), and come back with the unmap.
// STATUS_INVALID_PARAMETER_2: more bytes than there are; nothing has changed.
// STATUS_NOT_SUPPORTED (ours): frames would be passed that MmAllocatePagesForMdl gave to the MDL, or
// that are mapped into a reservation.
_Must_inspect_result_ _IRQL_requires_max_(DISPATCH_LEVEL)
NTSTATUS NTAPI MmAdvanceMdl(_Inout_ PMDL Mdl, _In_ ULONG NumberOfBytes);

// -------------------------------------------------------------------------------------------------
// Locking: pages that stay where they are until they are unlocked.

// Locks the MDL's buffer: looks up its frames, and keeps them from being freed. Operation says what
// the device will do. Several MDLs may lock one frame. Raises, and leaves the MDL as it was:
// STATUS_ACCESS_VIOLATION        a page is not there, or not for this access; AccessMode UserMode,
//                                or an address that is not the kernel's, because there is no user
//                                mode (ours); a range that wraps
// STATUS_INVALID_PARAMETER       the MDL is empty, or describes pages already (ours)
// STATUS_INSUFFICIENT_RESOURCES  device memory, and no pool for the ledger (ours)
_IRQL_requires_max_(DISPATCH_LEVEL) VOID
    NTAPI MmProbeAndLockPages(_Inout_ PMDL MemoryDescriptorList, _In_ KPROCESSOR_MODE AccessMode,
                              _In_ LOCK_OPERATION Operation);

// The same for a buffer of a process, of which there is none: Process is ignored (ours).
_IRQL_requires_max_(DISPATCH_LEVEL) VOID
    NTAPI MmProbeAndLockProcessPages(_Inout_ PMDL MemoryDescriptorList, _In_opt_ PEPROCESS Process,
                                     _In_ KPROCESSOR_MODE AccessMode,
                                     _In_ LOCK_OPERATION Operation);

// The same for pages from anywhere, one element for each page of the MDL, in their order. Raises
// STATUS_DATATYPE_MISALIGNMENT, too, for a Buffer that is not page aligned (ours).
_IRQL_requires_max_(APC_LEVEL) VOID
    NTAPI MmProbeAndLockSelectedPages(_Inout_ PMDL MemoryDescriptorList,
                                      _In_ PFILE_SEGMENT_ELEMENT SegmentArray,
                                      _In_ KPROCESSOR_MODE AccessMode,
                                      _In_ LOCK_OPERATION Operation);

// Undoes it, and unmaps the MDL first. Its frames mean nothing afterwards. Stops with
// PROCESS_HAS_LOCKED_PAGES 1 when these routines have not locked the MDL, or it was unlocked since;
// with PFN_LIST_CORRUPT 7 when one of its frames is not locked.
VOID NTAPI MmUnlockPages(_Inout_ PMDL MemoryDescriptorList);

// -------------------------------------------------------------------------------------------------
// MDLs in system addresses.

// Maps a locked MDL into system space. CacheType counts only for frames that have no type yet; else
// theirs is used. Priority: MM_PAGE_PRIORITY | MdlMapping... flags; never executable (ours).
// RequestedAddress is for user mode. Returns base + ByteOffset, which MappedSystemVa also gets;
// undone by MmUnmapLockedPages. On failure NULL, or NO_MORE_SYSTEM_PTES when BugCheckOnFailure,
// unless MDL_MAPPING_CAN_FAIL. NULL always (ours): no bytes, or a cache type that does not exist. With
// UserMode, raises STATUS_NO_MEMORY: there are no user addresses.
_Must_inspect_result_ _Ret_maybenull_ _IRQL_requires_max_(DISPATCH_LEVEL)
PVOID NTAPI MmMapLockedPagesSpecifyCache(_Inout_ PMDL MemoryDescriptorList,
                                         _In_ KPROCESSOR_MODE AccessMode,
                                         _In_ MEMORY_CACHING_TYPE CacheType,
                                         _In_opt_ PVOID RequestedAddress,
                                         _In_ ULONG BugCheckOnFailure, _In_ ULONG Priority);

// Obsolete: the above with MmCached, BugCheckOnFailure and HighPagePriority.
_Must_inspect_result_ _IRQL_requires_max_(DISPATCH_LEVEL)
PVOID NTAPI MmMapLockedPages(_Inout_ PMDL MemoryDescriptorList, _In_ KPROCESSOR_MODE AccessMode);

// Undoes them. BaseAddress may lack the byte offset. Stops with SYSTEM_PTE_MISUSE when this MDL is
// not mapped there.
VOID NTAPI MmUnmapLockedPages(_In_ PVOID BaseAddress, _Inout_ PMDL MemoryDescriptorList);

// The MDL's system address; maps it (cached) when it has none. NULL: mapping failed. One caller at
// a time per MDL. After a reserved mapping this is MappedSystemVa, which lacks the byte offset, as
// on NT.
_Must_inspect_result_ _Ret_maybenull_ FORCEINLINE PVOID
MmGetSystemAddressForMdlSafe(_Inout_ PMDL Mdl, _In_ ULONG Priority)
{
    if ((Mdl->MdlFlags & (MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL)) != 0) {
        return Mdl->MappedSystemVa;
    }
    return MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmCached, NULL, FALSE, Priority);
}

// Obsolete: the same, and stops the machine when mapping fails.
FORCEINLINE PVOID MmGetSystemAddressForMdl(_Inout_ PMDL Mdl)
{
    if ((Mdl->MdlFlags & (MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL)) != 0) {
        return Mdl->MappedSystemVa;
    }
    return MmMapLockedPages(Mdl, KernelMode);
}

// Changes what may be done with the pages of a mapped MDL: NewProtect is PAGE_NOACCESS, READONLY,
// READWRITE, EXECUTE, EXECUTE_READ or EXECUTE_READWRITE alone; the cache type stays. In force on
// every processor when it returns. The mapping can be undone whatever its protection.
// STATUS_INVALID_PAGE_PROTECTION: anything else in NewProtect. STATUS_NOT_MAPPED_VIEW: the MDL is not
// mapped, or was built for nonpaged pool (ours). Stops with MEMORY_MANAGEMENT 0x1235 when other
// frames than the MDL's are mapped there.
_Must_inspect_result_ _IRQL_requires_max_(DISPATCH_LEVEL)
NTSTATUS NTAPI MmProtectMdlSystemAddress(_In_ PMDL MemoryDescriptorList, _In_ ULONG NewProtect);

// For the routine that MmMapMdl calls: MappedVa includes the byte offset.
typedef VOID(NTAPI MM_MDL_ROUTINE)(_In_opt_ PVOID DriverContext, _In_ PVOID MappedVa);
typedef MM_MDL_ROUTINE *PMM_MDL_ROUTINE;

// Maps the MDL, calls DriverRoutine once, and unmaps; also when the routine raises. An MDL that has
// a system address is shown there, with the protection that it has. STATUS_SUCCESS: the routine was
// called. Protection as for MmMapIoSpaceEx; the cache type counts only for frames that have none.
// STATUS_INVALID_PAGE_PROTECTION: no such protection. STATUS_INVALID_PARAMETER: the MDL is neither
// locked nor partial, or is empty. STATUS_INSUFFICIENT_RESOURCES: no addresses or no pool. (All ours.)
_Must_inspect_result_ _IRQL_requires_max_(DISPATCH_LEVEL)
NTSTATUS NTAPI MmMapMdl(_Inout_ PMDL MemoryDescriptorList, _In_ ULONG Protection,
                        _In_ PMM_MDL_ROUTINE DriverRoutine, _In_opt_ PVOID DriverContext);

#define MM_DUMP_MAP_CACHED 0x1
#define MM_DUMP_MAP_INVALIDATE 0x2

// For who writes a crash dump, inside a bug check only, at any IRQL: shows the MDL's frames at
// addresses that were set aside, 16 pages, instead of what was shown there before. MappedSystemVa
// gets the address, byte offset included. Elsewhere, or with a larger MDL, it does nothing (ours).
VOID NTAPI MmMapMemoryDumpMdl(_Inout_ PMDL MemoryDumpMdl);

// The same at the beginning of a reservation (MmAllocateMappingAddress) of PageTotal pages or more.
// Flags: MM_DUMP_MAP_CACHED changes nothing, because each frame keeps the cache type that it has (ours);
// MM_DUMP_MAP_INVALIDATE flushes all translations.
// STATUS_NOT_SUPPORTED: not in a bug check (ours). STATUS_INVALID_PARAMETER: no such reservation, an
// MDL of more than PageTotal pages, or unknown flags (ours).
_Must_inspect_result_ NTSTATUS NTAPI MmMapMemoryDumpMdlEx(_In_ PVOID Va, _In_ PFN_NUMBER PageTotal,
                                                          _Inout_ PMDL MemoryDumpMdl,
                                                          _In_ ULONG Flags);

// Before a partial MDL is used again: drops a mapping of its own.
FORCEINLINE VOID MmPrepareMdlForReuse(_Inout_ PMDL Mdl)
{
    if ((Mdl->MdlFlags & MDL_PARTIAL_HAS_BEEN_MAPPED) != 0) {
        MmUnmapLockedPages(Mdl->MappedSystemVa, Mdl);
    }
}

// -------------------------------------------------------------------------------------------------
// Physical pages by MDL.

// Up to TotalBytes of page frames from [LowAddress, HighAddress] (inclusive), then from the same
// window moved on by SkipBytes, and so on; zeroed unless MM_DONT_ZERO_ALLOCATION. Check
// MmGetMdlByteCount: there may be fewer, unless MM_ALLOCATE_FULLY_REQUIRED. The MDL is locked,
// unmapped, at virtual address 0. The caller owns the frames, until MmFreePagesFromMdl, and the
// MDL, until ExFreePool. CacheType says which types the pages may be mapped with.
//   FULLY_REQUIRED              all or NULL
//   REQUIRE_CONTIGUOUS_CHUNKS   one adjacent piece, or, with SkipBytes, pieces of that size, each
//                               aligned to it; a power of two that divides TotalBytes, else NULL
//   PREFER_CONTIGUOUS           pieces as large as can be found
//   FAST_LARGE_PAGES            with chunks only, SkipBytes a multiple of 2 MiB; else NULL
//   TRIM_IF_NECESSARY           what Mm keeps for its next use counts as free (ours)
//   AND_HOT_REMOVE              at PASSIVE_LEVEL, not with FULLY_REQUIRED; else NULL. The pages are
//                               the caller's alone, as all are, and come back when he frees them
//   FROM_LOCAL_NODE_ONLY, NO_WAIT   nothing: there is one node, and no wait
// NULL: no page or no pool; and (ours) no bytes, more than 4 GiB - PAGE_SIZE, no such cache type,
// unknown flags.
_Must_inspect_result_ _Ret_maybenull_ _IRQL_requires_max_(DISPATCH_LEVEL)
PMDL NTAPI MmAllocatePagesForMdlEx(_In_ PHYSICAL_ADDRESS LowAddress,
                                   _In_ PHYSICAL_ADDRESS HighAddress,
                                   _In_ PHYSICAL_ADDRESS SkipBytes, _In_ SIZE_T TotalBytes,
                                   _In_ MEMORY_CACHING_TYPE CacheType, _In_ ULONG Flags);

// The same with MmCached and no flags.
_Must_inspect_result_ _Ret_maybenull_ _IRQL_requires_max_(DISPATCH_LEVEL)
PMDL NTAPI MmAllocatePagesForMdl(_In_ PHYSICAL_ADDRESS LowAddress,
                                 _In_ PHYSICAL_ADDRESS HighAddress, _In_ PHYSICAL_ADDRESS SkipBytes,
                                 _In_ SIZE_T TotalBytes);

// The same from a node. NULL (ours): IdealNode is not 0, the one node there is.
_Must_inspect_result_ _Ret_maybenull_ _IRQL_requires_max_(DISPATCH_LEVEL)
PMDL NTAPI MmAllocateNodePagesForMdlEx(_In_ PHYSICAL_ADDRESS LowAddress,
                                       _In_ PHYSICAL_ADDRESS HighAddress,
                                       _In_ PHYSICAL_ADDRESS SkipBytes, _In_ SIZE_T TotalBytes,
                                       _In_ MEMORY_CACHING_TYPE CacheType, _In_ ULONG IdealNode,
                                       _In_ ULONG Flags);

// The same from a node of a partition. NULL (ours): PartitionObject is not NULL, the one partition
// there is.
_Must_inspect_result_ _Ret_maybenull_ _IRQL_requires_max_(DISPATCH_LEVEL)
PMDL NTAPI MmAllocatePartitionNodePagesForMdlEx(
    _In_ PHYSICAL_ADDRESS LowAddress, _In_ PHYSICAL_ADDRESS HighAddress,
    _In_ PHYSICAL_ADDRESS SkipBytes, _In_ SIZE_T TotalBytes, _In_ MEMORY_CACHING_TYPE CacheType,
    _In_ ULONG IdealNode, _In_ ULONG Flags, _In_opt_ PVOID PartitionObject);

// Frees the frames, after unmapping them where they are still mapped. The MDL itself remains:
// ExFreePool frees it. A frame that is not out: MEMORY_MANAGEMENT 0x1236; one that something else
// still maps or locks: PFN_LIST_CORRUPT 0x9A.
VOID NTAPI MmFreePagesFromMdl(_Inout_ PMDL MemoryDescriptorList);

// The same; with MM_FREE_MDL_PAGES_ZERO the frames are zeroed. Other flags are ignored (ours).
VOID NTAPI MmFreePagesFromMdlEx(_Inout_ PMDL MemoryDescriptorList, _In_ ULONG Flags);

// -------------------------------------------------------------------------------------------------
// Contiguous memory: adjacent frames at adjacent addresses, page aligned, contents undefined. Only
// the bytes asked for may be used. All return NULL when there is no such memory; and (ours) for no
// bytes, limits that nothing satisfies, a boundary that is neither 0 nor a power of two of at least
// a page and of at least NumberOfBytes, and a cache type, protection or node that does not exist.
// Freed with MmFreeContiguousMemory, at IRQL <= DISPATCH_LEVEL, too.

// Cached memory below HighestAcceptableAddress, the highest physical address of any byte. Never
// executable (ours).
_Must_inspect_result_ _Ret_maybenull_ _IRQL_requires_max_(DISPATCH_LEVEL)
PVOID NTAPI MmAllocateContiguousMemory(_In_ SIZE_T NumberOfBytes,
                                       _In_ PHYSICAL_ADDRESS HighestAcceptableAddress);

// No multiple of BoundaryAddressMultiple lies inside the block; 0: no matter. Never executable
// (ours).
_Must_inspect_result_ _Ret_maybenull_ _IRQL_requires_max_(DISPATCH_LEVEL)
PVOID NTAPI MmAllocateContiguousMemorySpecifyCache(_In_ SIZE_T NumberOfBytes,
                                                   _In_ PHYSICAL_ADDRESS LowestAcceptableAddress,
                                                   _In_ PHYSICAL_ADDRESS HighestAcceptableAddress,
                                                   _In_ PHYSICAL_ADDRESS BoundaryAddressMultiple,
                                                   _In_ MEMORY_CACHING_TYPE CacheType);

// PreferredNode: 0, the one node there is, or anything with MM_ANY_NODE_OK.
_Must_inspect_result_ _Ret_maybenull_ _IRQL_requires_max_(DISPATCH_LEVEL)
PVOID NTAPI MmAllocateContiguousMemorySpecifyCacheNode(
    _In_ SIZE_T NumberOfBytes, _In_ PHYSICAL_ADDRESS LowestAcceptableAddress,
    _In_ PHYSICAL_ADDRESS HighestAcceptableAddress, _In_ PHYSICAL_ADDRESS BoundaryAddressMultiple,
    _In_ MEMORY_CACHING_TYPE CacheType, _In_ NODE_REQUIREMENT PreferredNode);

// Protect: PAGE_READWRITE or PAGE_EXECUTE_READWRITE, with PAGE_NOCACHE or PAGE_WRITECOMBINE or, for
// cached, neither.
_Must_inspect_result_ _Ret_maybenull_ _IRQL_requires_max_(DISPATCH_LEVEL)
PVOID NTAPI MmAllocateContiguousNodeMemory(_In_ SIZE_T NumberOfBytes,
                                           _In_ PHYSICAL_ADDRESS LowestAcceptableAddress,
                                           _In_ PHYSICAL_ADDRESS HighestAcceptableAddress,
                                           _In_ PHYSICAL_ADDRESS BoundaryAddressMultiple,
                                           _In_ ULONG Protect, _In_ NODE_REQUIREMENT PreferredNode);

// The same with a tag, for reports, and a status. *NumberOfBytes becomes the bytes that may be
// used: whole pages. Flags: MM_ALLOCATE_CONTIGUOUS_MEMORY_FAST_ONLY looks at the first 256 MiB from
// the lowest address on only (ours). On failure *BaseAddress is NULL (ours), *NumberOfBytes as it
// was. STATUS_INSUFFICIENT_RESOURCES: no such memory. STATUS_INVALID_PAGE_PROTECTION: no such
// protection. STATUS_INVALID_PARAMETER: whatever else returns NULL above; another partition than
// NULL; unknown flags. (All ours.)
_Must_inspect_result_ _IRQL_requires_max_(DISPATCH_LEVEL)
NTSTATUS NTAPI MmAllocateContiguousMemoryEx(_Inout_ PSIZE_T NumberOfBytes,
                                            _In_ PHYSICAL_ADDRESS LowestAcceptableAddress,
                                            _In_ PHYSICAL_ADDRESS HighestAcceptableAddress,
                                            _In_ PHYSICAL_ADDRESS BoundaryAddressMultiple,
                                            _In_ NODE_REQUIREMENT PreferredNode, _In_ ULONG Protect,
                                            _In_opt_ PVOID PartitionObject, _In_ ULONG Tag,
                                            _In_ ULONG Flags, _Outptr_ PVOID *BaseAddress);

// Frees a block of any of them, as a whole. Stops with BAD_POOL_CALLER 0x60 when none begins there,
// and with PFN_LIST_CORRUPT 0x9A when something else still maps or locks it.
VOID NTAPI MmFreeContiguousMemory(_In_ PVOID BaseAddress);

// The same; NumberOfBytes and CacheType must be those of the allocation (ours: BAD_POOL_CALLER 0x60
// with what was given and what it is).
VOID NTAPI MmFreeContiguousMemorySpecifyCache(_In_ PVOID BaseAddress, _In_ SIZE_T NumberOfBytes,
                                              _In_ MEMORY_CACHING_TYPE CacheType);

// -------------------------------------------------------------------------------------------------
// Non-cached memory: whole uncached pages at adjacent addresses, in frames anywhere; contents
// undefined. Not for DMA.

// NULL: no memory, or no bytes (ours).
_Must_inspect_result_ _Ret_maybenull_ _IRQL_requires_max_(APC_LEVEL)
PVOID NTAPI MmAllocateNonCachedMemory(_In_ SIZE_T NumberOfBytes);

// Stops with SYSTEM_PTE_MISUSE (ours): 0x303 no such memory, 0x304 inside of it, 0x305 another
// size. IRQL <= APC_LEVEL.
VOID NTAPI MmFreeNonCachedMemory(_In_ PVOID BaseAddress, _In_ SIZE_T NumberOfBytes);

// -------------------------------------------------------------------------------------------------
// Reserved mappings: addresses now, so that mapping later cannot fail for want of anything.
// Misuse stops with SYSTEM_PTE_MISUSE: 0x101, 0x104, 0x108 another tag; 0x105 no reservation; 0x107
// mapped already; 0x109 to 0x10C not, or not wholly, mapped; 0x103 freed while mapped.

// Room to map NumberOfBytes, page aligned; touching it faults until something is mapped. Freed with
// MmFreeMappingAddress. NULL: no addresses, tag 0, or 2^32 pages or more. No bytes stop with
// 0xDA/0x100.
_Must_inspect_result_ _Ret_maybenull_ _IRQL_requires_max_(APC_LEVEL)
PVOID NTAPI MmAllocateMappingAddress(_In_ SIZE_T NumberOfBytes, _In_ ULONG PoolTag);

// The same with Flags: 0, or MM_MAPPING_ADDRESS_DIVISIBLE for an address that is a multiple of the size
// in pages, which must then be a power of two (ours). NULL also: other flags (ours), another size.
_Must_inspect_result_ _Ret_maybenull_ _IRQL_requires_max_(APC_LEVEL)
PVOID NTAPI MmAllocateMappingAddressEx(_In_ SIZE_T NumberOfBytes, _In_ ULONG PoolTag,
                                       _In_ ULONG Flags);

// Maps a locked MDL at the start of a reservation. Allocates nothing. CacheType counts only for
// frames that have no type yet. Returns base + ByteOffset; MappedSystemVa becomes the base WITHOUT
// the offset. NULL only for wrong parameters: an MDL of more pages than the reservation, or (ours)
// one that is mapped already, not locked or empty, or a cache type that does not exist.
_Must_inspect_result_ _Ret_maybenull_ _IRQL_requires_max_(DISPATCH_LEVEL)
PVOID NTAPI MmMapLockedPagesWithReservedMapping(_In_ PVOID MappingAddress, _In_ ULONG PoolTag,
                                                _Inout_ PMDL MemoryDescriptorList,
                                                _In_ MEMORY_CACHING_TYPE CacheType);

// Undoes it; the reservation can be used again. BaseAddress: its start, or what the mapping call
// returned.
VOID NTAPI MmUnmapReservedMapping(_In_ PVOID BaseAddress, _In_ ULONG PoolTag,
                                  _Inout_ PMDL MemoryDescriptorList);

// Gives the addresses back. IRQL <= APC_LEVEL.
VOID NTAPI MmFreeMappingAddress(_In_ PVOID BaseAddress, _In_ ULONG PoolTag);
