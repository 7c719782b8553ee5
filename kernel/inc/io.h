// Io: the machine's devices and their drivers, as the rest of the kernel sees them.
//
// IoInitSystem finds the ACPI tables, enumerates PCI, claims or places every base address register,
// and starts their drivers. Requests to devices are ordinary IRPs; two helpers at
// the end send one and wait. Everything here runs at PASSIVE_LEVEL.
#pragma once

#include <wdm.h>

#include "mm/mm.h"

// Never fails: what is not there, or does not work, is told in words, and the kernel goes on.
VOID IoInitSystem(_In_ const LOADER_BLOCK *LoaderBlock);

// -------------------------------------------------------------------------------------------------
// PCI functions.

typedef enum _IO_BAR_STATE {
    IoBarAbsent,
    IoBarAssigned, // where firmware put it
    IoBarPlaced,   // where this kernel put it, because firmware had not, or had put it badly
    IoBarUnusable, // it has no place; drivers don't get it
} IO_BAR_STATE;

typedef struct _IO_PCI_BAR {
    IO_BAR_STATE State;
    BOOLEAN IsPort;
    BOOLEAN Is64Bit;
    BOOLEAN IsPrefetchable;
    ULONG64 Base;
    ULONG64 ByteCount;
    PMM_CLAIM Claim; // NULL: ports, and a small register block in a page that another BAR claimed
} IO_PCI_BAR, *PIO_PCI_BAR;

// Also the device extension of the function's physical device object.
typedef struct _IO_PCI_FUNCTION {
    LIST_ENTRY Link;
    PDEVICE_OBJECT Pdo;
    const struct _IO_PCI_FUNCTION *Bridge; // that leads to its bus; NULL on a root bus
    USHORT Segment;
    UCHAR Bus;
    UCHAR Device;
    UCHAR Function;
    UCHAR HeaderType; // without the multifunction bit
    USHORT VendorId;
    USHORT DeviceId;
    UCHAR BaseClass;
    UCHAR SubClass;
    UCHAR ProgIf;
    UCHAR SecondaryBus;             // of a bridge
    PCSTR DriverName;               // NULL: no driver for it
    NTSTATUS StartStatus;           // of that driver
    UCHAR InterruptLine;            // as firmware wrote it; of no use when there is no pin
    UCHAR InterruptPin;             // 1 is INTA; 0: the function has no line
    USHORT Command;                 // what START has set of the command register; 0: not started
    ULONG MessageLimit;             // how many messages its driver wants; 0: a line
    ULONG LineVector;               // 0: it was not given one
    struct _IOP_MESSAGES *Messages; // NULL: it was not given any
    IO_PCI_BAR Bars[PCI_TYPE0_ADDRESSES];
} IO_PCI_FUNCTION, *PIO_PCI_FUNCTION;

// The function after Previous in order of enumeration; NULL begins with the first, and ends.
const IO_PCI_FUNCTION *IoNextPciFunction(_In_opt_ const IO_PCI_FUNCTION *Previous);

// "00:03.0", with the segment in front where it is not 0.
#define IO_PCI_NAME_BYTES 16
VOID IoFormatPciName(_In_ const IO_PCI_FUNCTION *Function, _Out_writes_z_(ByteCount) PCHAR Buffer,
                     _In_ SIZE_T ByteCount);

// What the class codes mean, in words.
PCSTR IoPciClassName(_In_ const IO_PCI_FUNCTION *Function);

// -------------------------------------------------------------------------------------------------
// Devices and requests.

// The Index-th started device of a type (FILE_DEVICE_DISK, ...), counted from 0; NULL: no more.
PDEVICE_OBJECT IoFindDevice(_In_ DEVICE_TYPE DeviceType, _In_ ULONG Index);

// Loads a boot module by its name ("nvme"), whatever its arguments say, and starts its devices; or
// removes them and unloads it. IRQL = PASSIVE_LEVEL.
// STATUS_OBJECT_NAME_NOT_FOUND   there is none of that name; or it is not loaded
// STATUS_IMAGE_ALREADY_LOADED    it is loaded
// STATUS_DEVICE_BUSY             a device has open files
// STATUS_INVALID_DEVICE_REQUEST  it has no unload routine, or leaves devices behind
// else what LdrLoadImage, DriverEntry, AddDevice, or a device's stack answered.
NTSTATUS IoLoadDriver(_In_ PCSTR Name);
NTSTATUS IoUnloadDriver(_In_ PCSTR Name);

// The driver of that name, or NULL.
PDRIVER_OBJECT IoFindDriver(_In_ PCSTR Name);

// What the PnP manager does with the device of Pdo, asked for by tests and people. Each returns what
// the stack answered; STATUS_NO_SUCH_DEVICE: Pdo is nobody's PDO, or nobody drives it.
NTSTATUS IoStartPdo(_In_ PDEVICE_OBJECT Pdo);
NTSTATUS IoStopPdo(_In_ PDEVICE_OBJECT Pdo);    // QUERY_STOP, STOP
NTSTATUS IoRestartPdo(_In_ PDEVICE_OBJECT Pdo); // START again
// Gives a stopped PCI device's memory registers other places, which START then tells the drivers.
NTSTATUS IoMovePdo(_In_ PDEVICE_OBJECT Pdo);
NTSTATUS
IoRemovePdo(_In_ PDEVICE_OBJECT Pdo); // QUERY_REMOVE, REMOVE; STATUS_DEVICE_BUSY: open files
// SURPRISE_REMOVAL; REMOVE follows at once, or when the last file is closed.
NTSTATUS IoSurpriseRemove(_In_ PDEVICE_OBJECT Pdo);

// Sends IRP_MJ_SHUTDOWN to who registered for it. Before the machine is left.
VOID IoShutdownDrivers(VOID);

// Removes every device that a driver has started, and unloads the drivers, each under the eyes of
// the verifier (MmCheckUnload).
VOID IoUnloadDrivers(VOID);

// How many free IRPs each processor keeps for its next request, 16 at first; this processor's go back
// to the pool now. For tests, which count each block.
VOID IoSetIrpCacheDepth(_In_ ULONG Count);

// IRP_MJ_READ or IRP_MJ_WRITE of ByteCount bytes at ByteOffset through Mdl. *Information gets the
// bytes done. Returns the driver's status; STATUS_INSUFFICIENT_RESOURCES: no IRP.
// STATUS_PENDING: the driver never completed it. The MDL's pages must then stay as they are for
// ever, because the device may still use them.
_Must_inspect_result_ NTSTATUS IoTransferSynchronously(_In_ PDEVICE_OBJECT DeviceObject,
                                                       _In_ UCHAR MajorFunction, _In_ PMDL Mdl,
                                                       _In_ ULONG64 ByteOffset,
                                                       _In_ ULONG ByteCount,
                                                       _Out_ PULONG_PTR Information);

// IRP_MJ_DEVICE_CONTROL with METHOD_BUFFERED. *Information gets the bytes of output. Returns the
// driver's status; STATUS_INSUFFICIENT_RESOURCES: no IRP; STATUS_INVALID_PARAMETER: another method.
// STATUS_PENDING: the driver never completed it; the output is untouched.
_Must_inspect_result_ NTSTATUS IoControlSynchronously(
    _In_ PDEVICE_OBJECT DeviceObject, _In_ ULONG IoControlCode,
    _In_reads_bytes_opt_(InputByteCount) const VOID *Input, _In_ ULONG InputByteCount,
    _Out_writes_bytes_opt_(OutputByteCount) PVOID Output, _In_ ULONG OutputByteCount,
    _Out_ PULONG_PTR Information);

// -------------------------------------------------------------------------------------------------
// DMA (kernel/io/dma.c).

// Prints each DMA object that is still there and was asked for by Owner's code (KiRegisterCode): adapters,
// common buffers, lists, channels, map registers, requests that wait. NULL: by the code of any owner.
// Returns how many. IRQL = PASSIVE_LEVEL.
ULONG IoReportDmaLeaks(_In_opt_ PCSTR Owner);

// Prints every adapter with its counters.
VOID IoPrintDma(VOID);

// Checks the invariants of kernel/io/dma.h. Prints each violation and returns how many there were.
ULONG IoVerifyDma(VOID);

// How many pages of transfers that never ended are kept from use.
ULONG64 IoQuarantinedDmaPages(VOID);
