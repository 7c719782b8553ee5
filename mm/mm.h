// What mm offers to the rest of the kernel beyond the drivers' interface of <wdm.h>: its start, the
// physical-range allocator, reports for people, and the hooks that tests need.
#pragma once

#include <wdm.h>

typedef struct _LOADER_BLOCK LOADER_BLOCK, *PLOADER_BLOCK;

// Takes over the machine's memory: physical map, frames, page tables, system addresses, pool.
// Called once, before anything allocates. Bug checks 0x7D (INSTALL_MORE_MEMORY) when there is too
// little RAM to begin with.
VOID MmInitSystem(_In_ const LOADER_BLOCK *LoaderBlock);

// With the boot option `leaf4k` set before MmInitSystem, every mapping uses 4 KiB leaves.
VOID MmLimitLeafSize(VOID);

// 0: as retail NT. 1: every rule that Driver Verifier checks is checked, too. Set before MmInitSystem
// from the boot option `verifier`.
extern ULONG MmVerifierLevel;

//
// The physical-range allocator: who owns which part of I/O space. IRQL <= DISPATCH_LEVEL
// throughout.
//

typedef enum _MM_CLAIM_KIND {
    MmClaimDevice,   // what the kernel places: must be free I/O space
    MmClaimFirmware, // what firmware named (ECAM, assigned BARs): may lie in what it reserved
} MM_CLAIM_KIND;

typedef struct _MI_CLAIM *PMM_CLAIM;

// Claims [Base, Base + ByteCount), rounded out to whole pages, for Owner (the string is copied, 31
// characters at most). On success the caller owns *Claim until MmReleasePhysicalRange.
// STATUS_INVALID_PARAMETER      no bytes, wrap, or beyond the processor's physical addresses
// STATUS_CONFLICTING_ADDRESSES  RAM, page tables, firmware's own, or somebody else's;
//                               MmDescribeLastRefusal says which
// STATUS_INSUFFICIENT_RESOURCES no pool
_Must_inspect_result_ NTSTATUS MmClaimPhysicalRange(_In_ PHYSICAL_ADDRESS Base,
                                                    _In_ ULONG64 ByteCount, _In_ MM_CLAIM_KIND Kind,
                                                    _In_ const CHAR *Owner, _Out_ PMM_CLAIM *Claim);

// Finds the lowest free I/O space of ByteCount bytes, aligned to Alignment (a power of two, at
// least a page), within [LowestAddress, HighestAddress] inclusive, and claims it.
// STATUS_INVALID_PARAMETER, STATUS_INSUFFICIENT_RESOURCES as above; STATUS_CONFLICTING_ADDRESSES:
// nothing is free there.
_Must_inspect_result_ NTSTATUS MmPlacePhysicalRange(_In_ ULONG64 ByteCount, _In_ ULONG64 Alignment,
                                                    _In_ ULONG64 LowestAddress,
                                                    _In_ ULONG64 HighestAddress,
                                                    _In_ const CHAR *Owner,
                                                    _Out_ PPHYSICAL_ADDRESS Base,
                                                    _Out_ PMM_CLAIM *Claim);

VOID MmReleasePhysicalRange(_In_ PMM_CLAIM Claim);

// The reason of the last refusal by any routine of mm, in words, e.g. "MmMapIoSpaceEx refused
// frames 0x1000-0x1003: RAM that the operating system uses". Empty when nothing was refused yet.
VOID MmDescribeLastRefusal(_Out_ PCHAR Buffer, _In_ SIZE_T ByteCount);

// How many refusals there were: whether the last one is new.
ULONG MmRefusalCount(VOID);

// Unlocks what MmProbeAndLockPages has locked, and frees, each MDL of a chain: what becomes of the
// MDLs of an IRP that nobody took back. Each came from IoAllocateMdl or MmAllocateMdlForIoSpace. NULL:
// an empty chain.
VOID MmReleaseMdlChain(_In_opt_ PMDL First);

//
// The last shootdowns: what the processors were made to forget of translations. IRQL <= DISPATCH_LEVEL.
//

#define MM_SHOOTDOWN_COUNT 32

typedef enum _MM_SHOOTDOWN_REASON {
    MmShootdownUnmap,       // a range was unmapped, or changed its protection
    MmShootdownBatch,       // pages or tables that mm itself gives up
    MmShootdownSlots,       // so many addresses waited that their processor asked for it
    MmShootdownReservation, // one that was unmapped is mapped again, or goes away
    MmShootdownCacheType,   // a frame gets another cache type
    MmShootdownTrim,        // what is kept for later is given back
    MmShootdownReasonCount,
} MM_SHOOTDOWN_REASON;

typedef struct _MM_SHOOTDOWN {
    ULONG64 Number; // from 1 on, in their order
    MM_SHOOTDOWN_REASON Reason;
    ULONG ProcessorCount; // that forgot at once; others slept, and did so on waking
    ULONG_PTR Va;         // of the first leaf
    ULONG64 LeafCount;    // 0: everything
    ULONG64 LeafPages;
    ULONG64 Cycles; // until all had done it
} MM_SHOOTDOWN, *PMM_SHOOTDOWN;

// The last ones, the last first. Returns how many were written.
ULONG MmQueryShootdowns(_Out_writes_(Count) PMM_SHOOTDOWN Shootdowns, _In_ ULONG Count);
VOID MmPrintShootdowns(VOID);

//
// Stacks of threads. IRQL <= DISPATCH_LEVEL.
//

#define MM_KERNEL_STACK_BYTES 0x6000

// The end of a new stack of MM_KERNEL_STACK_BYTES: the address behind its highest byte. Below it and
// above it lies a page that is never mapped, so that running over either end faults. Caller is who
// wants the thread. NULL: no memory.
_Must_inspect_result_ PVOID MmCreateKernelStack(_In_opt_ PVOID Caller);

// Of a thread that will not run again. MEMORY_MANAGEMENT: StackBase is no stack's end.
VOID MmDeleteKernelStack(_In_ PVOID StackBase);

// Frames that somebody has, and that a device may write to for ever, because it never said that it is
// done: once their owner frees them, nobody gets them. What is no RAM, or free, is left alone. Returns how
// many were not in quarantine before. IRQL <= DISPATCH_LEVEL.
ULONG64 MmQuarantineFrames(_In_reads_(PageCount) const PFN_NUMBER *Pfns, _In_ ULONG64 PageCount);

// Shows the page of the kernel image that holds KernelPage at the address of KUSER_SHARED_DATA, to be
// read only. INSTALL_MORE_MEMORY: no memory for the tables. Called once.
VOID MmMapSharedData(_In_ const VOID *KernelPage);

//
// Reports.
//

VOID MmPrintPhysicalMap(VOID);
VOID MmPrintVirtualLayout(VOID);
VOID MmPrintIoMappings(VOID);
VOID MmPrintMemoryUse(VOID);

// A live mapping, as the report of the mappings shows it.
typedef struct _MM_MAPPING_INFORMATION {
    PVOID Va;
    ULONG64 PageCount;
    PHYSICAL_ADDRESS FirstPage;
    ULONG64 LeafCount[3]; // of 4 KiB, 2 MiB and 1 GiB
    CHAR Access[4];       // "rw-"
    CHAR CacheType[4];    // "WB", "WC", "UC"
    PVOID Caller;         // who asked for it
} MM_MAPPING_INFORMATION, *PMM_MAPPING_INFORMATION;

// Calls Routine for each live I/O-space mapping, in no particular order. Routine must not map or
// unmap.
typedef VOID MM_MAPPING_ROUTINE(_In_ const MM_MAPPING_INFORMATION *Information,
                                _In_opt_ PVOID Context);
VOID MmEnumerateIoMappings(_In_ MM_MAPPING_ROUTINE *Routine, _In_opt_ PVOID Context);

//
// For tests and for the dump of a crash.
//

// What the page tables say of one address, decoded. Level 0: nothing is mapped.
typedef struct _MM_PAGE_INFORMATION {
    ULONG Level;                      // 1, 2 or 3: a leaf of 4 KiB, 2 MiB or 1 GiB
    ULONG64 Entry;                    // raw
    PHYSICAL_ADDRESS PhysicalAddress; // of Va itself
    CHAR Access[4];
    CHAR CacheType[4]; // as the entry says
    CHAR EffectiveType
        [4]; // with what the processor is told about the frame: "UC", "WC", "WT", "WP", "WB"
} MM_PAGE_INFORMATION, *PMM_PAGE_INFORMATION;

VOID MmQueryPage(_In_ const VOID *Va, _Out_ PMM_PAGE_INFORMATION Information);

// Calls Routine for every leaf of the address space, ascending. FALSE from Routine ends the walk.
typedef BOOLEAN MM_LEAF_ROUTINE(_In_ ULONG_PTR Va, _In_ const MM_PAGE_INFORMATION *Leaf,
                                _In_opt_ PVOID Context);
VOID MmEnumerateLeaves(_In_ MM_LEAF_ROUTINE *Routine, _In_opt_ PVOID Context);

// Checks every numbered invariant of mm, with the other processors standing still. Prints each violation and
// returns how many there were. No thread may be in the middle of another routine of mm: what it has in hand is in
// no list.
ULONG MmVerify(VOID);

// Gives back what mm keeps for its next use: idle slots of system addresses with their records, the
// verifier's quarantine, empty nodes of the ledger. IRQL <= DISPATCH_LEVEL.
VOID MmTrim(VOID);

// What mm holds, to compare before and after: nothing may change but that free pages become tables.
// MmQueryMemoryUse trims first, so that only what is in use counts.
typedef struct _MM_MEMORY_USE {
    ULONG64 FreePages; // nobody's; and pages that the pool keeps for its next block
    ULONG64
    TablePages; // and mm's other tables: kept for reuse, may grow up to what was once mapped
    ULONG64 PoolPages;
    ULONG64 PoolBlocks;   // allocations that were not freed
    ULONG64 MdlPages;     // out by MmAllocatePagesForMdl
    ULONG64 DriverPages;  // out as contiguous or non-cached memory
    ULONG64 DriverBlocks; // and in how many blocks
    ULONG64 ImagePages;   // of driver images
    ULONG64 Images;
    ULONG64 Mappings;      // I/O, MDL and reserved mappings
    ULONG64 SystemPtes;    // pages of system addresses in use, guards included
    ULONG64 LedgerEntries; // frames and ranges of I/O space that somebody holds
    ULONG64 Claims;
    ULONG64 QuarantinedPages; // nobody's for ever, after their owners freed them
} MM_MEMORY_USE, *PMM_MEMORY_USE;

VOID MmQueryMemoryUse(_Out_ PMM_MEMORY_USE Use);

// Makes allocations fail: after SkipCount more allocations of the kinds in Kinds the next FailCount
// fail. FailCount MAXULONG: all of them until MmStopFailures.
#define MM_FAIL_FRAMES 0x1
#define MM_FAIL_POOL 0x2
#define MM_FAIL_ADDRESSES 0x4
#define MM_FAIL_LOCKS 0x8 // MmProbeAndLock... raises
#define MM_FAIL_ALL (MM_FAIL_FRAMES | MM_FAIL_POOL | MM_FAIL_ADDRESSES | MM_FAIL_LOCKS)
VOID MmStartFailures(_In_ ULONG Kinds, _In_ ULONG SkipCount, _In_ ULONG FailCount);

// Ends it, and goes on with what the boot options ask for, if anything; returns how many allocations
// were made to fail since MmStartFailures.
ULONG MmStopFailures(VOID);

// Low-resource simulation for as long as the kernel runs, from the boot options `fail`, `every` and
// `at`: every Interval-th allocation of Kinds fails, or, with Once, only the Interval-th. Kinds 0 ends
// it.
VOID MmSimulateLowResources(_In_ ULONG Kinds, _In_ ULONG Interval, _In_ BOOLEAN Once);

// Reads these options. To be called behind MmInitSystem, which itself cannot do with less.
VOID MmReadFailureOptions(VOID);

// How many allocations the simulation has made to fail.
ULONG64 MmSimulatedFailureCount(VOID);

//
// Memory of driver images (for the loader). IRQL <= DISPATCH_LEVEL.
//

// ByteCount bytes of zeroed memory, readable and writable, in whole pages with an unmapped one on
// either side. At PreferredBase, or, when that is NULL, anywhere in the region of driver images. The
// caller frees it by MmFreeImage. NULL: not enough memory, or PreferredBase is not to be had.
_Must_inspect_result_ PVOID MmAllocateImage(_In_opt_ PVOID PreferredBase, _In_ SIZE_T ByteCount);

// Changes the protection of whole pages of an image, none of which was discarded: PAGE_READONLY,
// PAGE_READWRITE or PAGE_EXECUTE_READ.
VOID MmProtectImage(_In_ PVOID Va, _In_ SIZE_T ByteCount, _In_ ULONG Protect);

// Frees whole pages of an image; an access to them faults from then on. Bug checks 0x4E/0x9A when an
// MDL locks or maps one of them; so does MmFreeImage.
VOID MmDiscardImagePages(_In_ PVOID Va, _In_ SIZE_T ByteCount);
VOID MmFreeImage(_In_ PVOID Base);

//
// The verifier's report of leaks.
//

typedef struct _MM_LEAKS {
    ULONG Count;
    ULONG64 ByteCount;
    const VOID *LockedMdl; // one of the MDLs that still lock pages, or NULL
} MM_LEAKS, *PMM_LEAKS;

// Prints each thing that is still there and was asked for by Owner's code (KiRegisterCode); NULL: by
// the code of any owner. Mappings and reservations at every level, all else at level 1 only.
VOID MmReportLeaks(_In_opt_ PCSTR Owner, _Out_ PMM_LEAKS Leaks);

// The same, for a driver that is being unloaded. At level 1, stops the machine when there is a leak:
// DRIVER_LEFT_LOCKED_PAGES_IN_PROCESS, or DRIVER_VERIFIER_DETECTED_VIOLATION 0x62.
VOID MmCheckUnload(_In_ PCSTR Owner);
