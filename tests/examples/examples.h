// The examples of docs/api: routines as a driver would write them, with the headers of kernel/ddk
// and nothing else. The self-tests run them (tests/kernel/t_examples.c).
#pragma once

#include <wdm.h>

// A piece of physical memory, as a device is told of it.
typedef struct _EXAMPLE_FRAGMENT {
    PHYSICAL_ADDRESS Address;
    ULONG ByteCount;
} EXAMPLE_FRAGMENT, *PEXAMPLE_FRAGMENT;

// A ring of descriptors that a device reads.
typedef struct _EXAMPLE_RING {
    PVOID Va;
    PHYSICAL_ADDRESS Address;
    SIZE_T ByteCount;
} EXAMPLE_RING, *PEXAMPLE_RING;

#define EXAMPLE_TAG 'pmxE'
#define EXAMPLE_STREAM_PAGES 16

// iospace.c
NTSTATUS ExampleReadVersion(_In_ PHYSICAL_ADDRESS Registers, _Out_ PULONG Version);
// cachetypes.c
NTSTATUS ExampleFillFrame(_In_ PHYSICAL_ADDRESS Frame, _In_ SIZE_T ByteCount, _In_ ULONG Pixel);
// mdl.c
ULONG ExampleDescribe(_In_ PVOID Buffer, _In_ ULONG ByteCount,
                      _Out_writes_(MaximumCount) PEXAMPLE_FRAGMENT Fragments,
                      _In_ ULONG MaximumCount);
// partial.c
NTSTATUS ExampleSumInParts(_In_ PMDL Mdl, _In_ ULONG PartBytes, _Out_ PULONG Sum);
// locking.c
NTSTATUS ExampleLockBuffer(_In_ PVOID Buffer, _In_ ULONG ByteCount, _Outptr_ PMDL *Mdl);
VOID ExampleUnlockBuffer(_In_ PMDL Mdl);
// mapping.c
NTSTATUS ExampleChecksum(_In_ PMDL Mdl, _Out_ PULONG Sum);
// reserved.c
NTSTATUS ExampleOpenStream(_Outptr_ PVOID *Stream);
NTSTATUS ExampleCopyFromStream(_In_ PVOID Stream, _In_ PMDL Request,
                               _Out_writes_bytes_(ByteCount) PVOID Buffer, _In_ ULONG ByteCount);
VOID ExampleCloseStream(_In_ PVOID Stream);
// pages.c
PMDL ExampleAllocateLowPages(_In_ ULONG ByteCount, _Out_ PHYSICAL_ADDRESS *Address);
VOID ExampleFreeLowPages(_In_ PMDL Mdl);
// contiguous.c
NTSTATUS ExampleCreateRing(_In_ SIZE_T ByteCount, _Out_ PEXAMPLE_RING Ring);
VOID ExampleDeleteRing(_Inout_ PEXAMPLE_RING Ring);
// pool.c
NTSTATUS ExampleQueueNames(_Inout_ PLIST_ENTRY Queue, _In_ ULONG NameCount);
VOID ExampleDropNames(_Inout_ PLIST_ENTRY Queue);
// misuse.c: stops the machine
VOID ExampleUnmapTwice(_In_ PHYSICAL_ADDRESS Registers);
// exceptions.c
NTSTATUS ExampleTryAll(_In_ ULONG StepCount, _In_ ULONG FailingStep, _Out_ PULONG UndoneCount);
