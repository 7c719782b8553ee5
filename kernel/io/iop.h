// What the files of kernel/io tell each other, grouped by file.
#pragma once

#include <wdm.h>

#include "kernel/inc/io.h"
#include "kernel/inc/ke.h"
#include "kernel/inc/loader.h"
#include "kernel/inc/ob.h"
#include "kernel/inc/rtl.h"

#define IOP_TAG 'pooI'

// Above all ranks of mm: nothing of mm is called under an Io lock.
#define IOP_RANK_DEVICES 16

#define IOP_DEVICE_QUEUE_TYPE 20 // KOBJECTS of the DDK: DeviceQueueObject

//
// device.c
//

// What a device has besides its DEVICE_OBJECT: behind the driver's extension.
typedef struct _IOP_DEVICE {
    DEVOBJ_EXTENSION Public;
    PDEVICE_OBJECT AttachedTo; // the next lower one in the stack
    BOOLEAN IsDeleted;         // by its driver; somebody may still refer to it
} IOP_DEVICE, *PIOP_DEVICE;

FORCEINLINE PIOP_DEVICE IopDeviceOf(const DEVICE_OBJECT *DeviceObject)
{
    return CONTAINING_RECORD(DeviceObject->DeviceObjectExtension, IOP_DEVICE, Public);
}

extern POBJECT_TYPE IopDriverObjectType;
extern POBJECT_TYPE IopDeviceObjectType;

// A driver object that answers every request with STATUS_INVALID_DEVICE_REQUEST, with the name Name,
// "\Driver\name". NULL: no pool, or there is such a name.
_Must_inspect_result_ PDRIVER_OBJECT IopCreateDriver(_In_ PCUNICODE_STRING Name);
// Takes the name away, and the reference of its maker: the object goes with its last device.
VOID IopDeleteDriver(_In_ PDRIVER_OBJECT DriverObject);

// The device on top of the stack that DeviceObject belongs to.
PDEVICE_OBJECT IopTopOfStack(_In_ PDEVICE_OBJECT DeviceObject);

//
// irp.c, request.c
//

// Completes an IRP that the caller has answered; returns Status, as a dispatch routine does.
NTSTATUS IopCompleteIrp(_In_ PIRP Irp, _In_ NTSTATUS Status, _In_ ULONG_PTR Information);

// Sends Irp to DeviceObject and waits, with a bound, until it is completed; the caller owns it
// then.
// STATUS_PENDING: it never was, and it must be forgotten: it frees itself if it ever returns.
_Must_inspect_result_ NTSTATUS IopSendAndWait(_In_ PDEVICE_OBJECT DeviceObject, _In_ PIRP Irp);

//
// acpi.c
//

typedef struct __attribute__((packed)) _ACPI_HEADER {
    CHAR Signature[4];
    ULONG Length; // in bytes, with this header
    UCHAR Revision;
    UCHAR Checksum; // makes the sum of all bytes 0
    CHAR OemId[6];
    CHAR OemTableId[8];
    ULONG OemRevision;
    ULONG CreatorId;
    ULONG CreatorRevision;
} ACPI_HEADER, *PACPI_HEADER;

C_ASSERT(sizeof(ACPI_HEADER) == 36);

// Finds the root table and prints which tables there are.
VOID IopInitializeAcpi(_In_ const LOADER_BLOCK *LoaderBlock);

// Maps the first table with this signature, complete and with the right checksum. NULL: there is
// none. The caller unmaps it with IopUnmapAcpiTable.
_Must_inspect_result_ const ACPI_HEADER *IopMapAcpiTable(_In_ PCSTR Signature);
VOID IopUnmapAcpiTable(_In_ const ACPI_HEADER *Table);

//
// pciconfig.c: configuration space.
//

#define IOP_PCI_DEVICES 32
#define IOP_PCI_FUNCTIONS 8

typedef struct _IOP_PCI_ADDRESS {
    USHORT Segment;
    UCHAR Bus;
    UCHAR Device;
    UCHAR Function;
} IOP_PCI_ADDRESS;

// Maps the windows that MCFG names; without it, ports are used.
VOID IopInitializePciConfig(VOID);

// A root bus for each Index; FALSE: no more.
BOOLEAN IopPciRootBus(_In_ ULONG Index, _Out_ PUSHORT Segment, _Out_ PUCHAR Bus);

// Each returns the bytes transferred: fewer where configuration space ends, 0 for an unreachable
// bus. Touches exactly these bytes. Any IRQL.
ULONG IopReadPciConfig(_In_ IOP_PCI_ADDRESS Address, _In_ ULONG Offset,
                       _Out_writes_bytes_(Length) PVOID Buffer, _In_ ULONG Length);
ULONG IopWritePciConfig(_In_ IOP_PCI_ADDRESS Address, _In_ ULONG Offset,
                        _In_reads_bytes_(Length) const VOID *Buffer, _In_ ULONG Length);

// Registers of a naturally aligned width. Reading what is not there gives all ones.
USHORT IopReadPciUshort(_In_ const IO_PCI_FUNCTION *Function, _In_ ULONG Offset);
ULONG IopReadPciUlong(_In_ const IO_PCI_FUNCTION *Function, _In_ ULONG Offset);
VOID IopWritePciUshort(_In_ const IO_PCI_FUNCTION *Function, _In_ ULONG Offset, _In_ USHORT Value);
VOID IopWritePciUlong(_In_ const IO_PCI_FUNCTION *Function, _In_ ULONG Offset, _In_ ULONG Value);

FORCEINLINE IOP_PCI_ADDRESS IopPciAddress(const IO_PCI_FUNCTION *Function)
{
    return (IOP_PCI_ADDRESS){Function->Segment, Function->Bus, Function->Device,
                             Function->Function};
}

//
// pci.c: enumeration.
//

VOID IopEnumeratePci(VOID);

// For this component only: the same walk with the right to change.
PIO_PCI_FUNCTION IopNextPciFunction(_In_opt_ const IO_PCI_FUNCTION *Previous);

//
// pcibar.c: base address registers.
//

// Learns kind, place and size of each register. Decoding is off meanwhile.
VOID IopSizeBars(_Inout_ PIO_PCI_FUNCTION Function);

// Claims what firmware assigned, for all functions; then places what it did not.
VOID IopAssignBars(VOID);

//
// pcidevice.c: the bus driver's half of each PCI device.
//

_Must_inspect_result_ PDRIVER_OBJECT IopCreatePciDriver(VOID);

//
// resource.c
//

// The function's usable registers as a resource list. *List is NULL when there are none; the caller
// frees it with ExFreePool. STATUS_INSUFFICIENT_RESOURCES: no pool.
_Must_inspect_result_ NTSTATUS IopBuildResourceList(_In_ const IO_PCI_FUNCTION *Function,
                                                    _Outptr_ PCM_RESOURCE_LIST *List);

//
// driver.c
//

// Loads the drivers for the functions that were found, and starts them.
VOID IopStartDevices(VOID);

//
// dma.c
//

// IoGetDmaAdapter on behalf of Caller.
_Must_inspect_result_ PDMA_ADAPTER IopGetDmaAdapter(_In_opt_ PDEVICE_OBJECT PhysicalDeviceObject,
                                                    _In_ const DEVICE_DESCRIPTION *Description,
                                                    _Out_ PULONG NumberOfMapRegisters,
                                                    _In_ PVOID Caller);
