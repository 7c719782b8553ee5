// What the files of kernel/io tell each other, grouped by file.
#pragma once

#include <wdm.h>

#include "kernel/inc/interrupt.h"
#include "kernel/inc/io.h"
#include "kernel/inc/ke.h"
#include "kernel/inc/loader.h"
#include "kernel/inc/ob.h"
#include "kernel/inc/rtl.h"

#define IOP_TAG 'pooI'

// Above all ranks of mm: nothing of mm is called under an Io lock.
#define IOP_RANK_DEVICES 16
#define IOP_RANK_LINES 17

#define IOP_RANK_IRPS 17
#define IOP_RANK_EXTENSIONS 18
#define IOP_RANK_WORK_ITEMS 18
#define IOP_RANK_TIMERS 18

//
// device.c
//

// What a device has besides its DEVICE_OBJECT: behind the driver's extension.
typedef struct _IOP_DEVICE {
    DEVOBJ_EXTENSION Public;
    PDEVICE_OBJECT AttachedTo; // the next lower one in the stack
    BOOLEAN IsDeleted;         // by its driver; somebody may still refer to it
    BOOLEAN IsLeaving;         // a PDO's: it is about to be removed, and nothing may be opened
    struct _IOP_NODE *Node;    // of a PDO that the PnP manager knows (pnp.h)
    BOOLEAN DeferredStartIo;   // these: cancel.c
    BOOLEAN NonCancelable;
    BOOLEAN StartIoCancelable;
    BOOLEAN StartIoHasKey;
    ULONG StartIoKey;
    volatile LONG StartIoCount;
    ULONG PowerStates; // PoSetPowerState
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

// The lowest device of it: the PDO, if it is a device's.
PDEVICE_OBJECT IopBaseOfStack(_In_ PDEVICE_OBJECT DeviceObject);

// An open file more, or less. FALSE: the device is exclusive, and open.
_Must_inspect_result_ BOOLEAN IopCountOpen(_Inout_ PDEVICE_OBJECT DeviceObject);
VOID IopCountClose(_Inout_ PDEVICE_OBJECT DeviceObject);

//
// irp.c, request.c
//

// IRP.AllocationFlags, of ours: the memory is the caller's (IoInitializeIrp).
#define IOP_IRP_OF_CALLER 0x80

// IRP.Flags: the priority hint, plus one.
#define IOP_PRIORITY_SHIFT 17
#define IOP_PRIORITY_MASK (7u << IOP_PRIORITY_SHIFT)

// Completes an IRP that the caller has answered; returns Status, as a dispatch routine does.
NTSTATUS IopCompleteIrp(_In_ PIRP Irp, _In_ NTSTATUS Status, _In_ ULONG_PTR Information);

// Sends Irp to DeviceObject and waits, with a bound, until it is completed; the caller owns it
// then.
// STATUS_PENDING: it never was, and it must be forgotten: it frees itself if it ever returns.
_Must_inspect_result_ NTSTATUS IopSendAndWait(_In_ PDEVICE_OBJECT DeviceObject, _In_ PIRP Irp);

//
// workitem.c, iotimer.c
//

// Starts the threads that run work items.
VOID IopStartWorkers(VOID);

// Routine gets each thing that may still call somebody, in words, with its address and its routine's.
// It may run at a raised IRQL, and under a lock.
typedef VOID IOP_PENDING_ROUTINE(_In_ PCSTR What, _In_opt_ const VOID *Object,
                                 _In_opt_ const VOID *Routine, _In_opt_ PVOID Context);
VOID IopWalkWorkItems(_In_ IOP_PENDING_ROUTINE *Routine, _In_opt_ PVOID Context);

// A device's timer goes with it.
VOID IopDeleteTimer(_In_ PDEVICE_OBJECT DeviceObject);

//
// finish.c, build.c
//

// What becomes of an IRP that nobody took back.
VOID IopFinishIrp(_In_ PIRP Irp, _In_ CCHAR PriorityBoost);

// The IRP frees itself when it is completed, and may only then be freed; or no longer so.
VOID IopOwnIrpByThread(_Inout_ PIRP Irp);
// ... TRUE: somebody holds it, and frees it instead of the caller.
BOOLEAN IopDisownIrp(_Inout_ PIRP Irp);

// From here on a thread that ends cancels its requests, and waits for them, with a bound.
VOID IopWatchThreads(VOID);

// Frees an IRP that was never sent, with the buffers that were added to it.
VOID IopAbandonIrp(_In_ PIRP Irp);

// Gives the IRP, before it is sent, the buffers of a control code, or of a read or write to
// DeviceObject. STATUS_INSUFFICIENT_RESOURCES, or what MmProbeAndLockPages raised: what was added
// stays, for IopAbandonIrp.
_Must_inspect_result_ NTSTATUS IopAddControlBuffers(_Inout_ PIRP Irp, _In_ ULONG IoControlCode,
                                                    _In_opt_ PVOID Input, _In_ ULONG InputByteCount,
                                                    _In_opt_ PVOID Output,
                                                    _In_ ULONG OutputByteCount);
_Must_inspect_result_ NTSTATUS IopAddTransferBuffer(_Inout_ PIRP Irp,
                                                    _In_ PDEVICE_OBJECT DeviceObject,
                                                    _In_ UCHAR MajorFunction, _In_ PVOID Buffer,
                                                    _In_ ULONG ByteCount, _In_ ULONG64 ByteOffset);

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

// Reads, clears bits, sets bits, writes. The caller is the register's only user.
VOID IopChangePciUshort(_In_ const IO_PCI_FUNCTION *Function, _In_ ULONG Offset, _In_ USHORT Clear,
                        _In_ USHORT Set);

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

// Puts the memory registers of a function that is stopped elsewhere, as far as they have pages of their
// own. STATUS_NOT_SUPPORTED: none has. STATUS_INSUFFICIENT_RESOURCES: there is no other place for one; those
// before it have moved.
NTSTATUS IopMoveBars(_Inout_ PIO_PCI_FUNCTION Function);

// Writes to the function's registers where they are, after it has forgotten; ports too.
VOID IopRestoreBars(_In_ const IO_PCI_FUNCTION *Function);

//
// pcidevice.c: the bus driver's half of each PCI device.
//

_Must_inspect_result_ PDRIVER_OBJECT IopCreatePciDriver(VOID);

//
// pcireset.c
//

// Whether the function is what it was when it was found: FALSE when its slot is empty, or has another.
BOOLEAN IopIsFunctionPresent(_In_ const IO_PCI_FUNCTION *Function);

BOOLEAN IopCanResetFunction(_In_ const IO_PCI_FUNCTION *Function);

// A function-level reset of a started function: afterwards it decodes and masters as before, and its
// messages are programmed. Whatever it was doing is over. PASSIVE_LEVEL; takes 100 milliseconds.
// STATUS_NOT_SUPPORTED: it has no such reset. STATUS_DEVICE_NOT_CONNECTED: there is none any more, or it
// does not come back.
NTSTATUS IopResetFunction(_Inout_ PIO_PCI_FUNCTION Function);

//
// line.c: interrupt lines.
//

#define IOP_INTERRUPT_AFFINITY 1 // lines interrupt the first processor

// The processor that a vector's interrupts come to; the first one for a vector that is no device's.
static inline KAFFINITY IopAffinityOfVector(ULONG Vector)
{
    const KI_INTERRUPT_SOURCE *Source = KiGetVectorSource(Vector);
    return Source != NULL ? (KAFFINITY)1 << Source->Processor : IOP_INTERRUPT_AFFINITY;
}

// Finds the I/O APICs and masks all their lines.
VOID IopInitializeLines(VOID);

//
// processor.c
//

// Notes the processor that an entry of MADT names, if it does.
VOID IopReadMadtProcessor(_In_ const VOID *Entry);

// Starts those that were noted.
VOID IopStartProcessors(VOID);

// The vector of an ISA line, as its old number goes, or of the PCI pins that firmware has put there.
// 0: there is no such line, or there are no more vectors.
ULONG IopGetLineVector(_In_ ULONG IsaLine, _In_ BOOLEAN IsPci);

//
// msi.c: interrupts as messages.
//

#define IOP_MAXIMUM_MESSAGES KE_VECTORS_PER_IRQL

typedef enum _IOP_MESSAGE_KIND { IopMsi, IopMsix } IOP_MESSAGE_KIND;

typedef struct _IOP_MESSAGES {
    IOP_MESSAGE_KIND Kind;
    BOOLEAN Is64Bit;    // MSI: the address
    BOOLEAN IsMaskable; // MSI
    ULONG Capability;   // its offset
    ULONG Count;        // that the function was given; the vectors lie side by side
    ULONG FirstVector;
    ULONG64 TableAddress;                   // MSI-X
    ULONG TableBytes;                       // MSI-X
    volatile struct _IOP_MSIX_ENTRY *Table; // MSI-X; NULL: the device is not started
    KSPIN_LOCK MaskLock;
    ULONG MaskBits;
    KI_INTERRUPT_SOURCE Sources[IOP_MAXIMUM_MESSAGES];
} IOP_MESSAGES, *PIOP_MESSAGES;

// Gives the function up to Limit of the messages that it can send, and vectors for them, if it has
// none yet. FALSE: it can send none, or there are no vectors or no pool.
BOOLEAN IopAssignMessages(_Inout_ PIO_PCI_FUNCTION Function, _In_ ULONG Limit);

// Programs the messages, each masked if possible, and makes the function send them.
// STATUS_INSUFFICIENT_RESOURCES: the MSI-X table cannot be mapped.
_Must_inspect_result_ NTSTATUS IopEnableMessages(_Inout_ PIO_PCI_FUNCTION Function);

// The function sends no messages any more, not even those that firmware has turned on.
VOID IopDisableMessages(_Inout_ PIO_PCI_FUNCTION Function);

// Programs the messages of a started function once more, after it was reset, each masked or not as before.
// Nobody may connect or disconnect meanwhile.
NTSTATUS IopRestoreMessages(_Inout_ PIO_PCI_FUNCTION Function);

// The offset of the function's first capability with this Id; 0: none.
ULONG IopFindCapability(_In_ const IO_PCI_FUNCTION *Function, _In_ UCHAR Id);

//
// interrupt.c
//

// A function that was given messages, and whose driver has not asked for the line.
FORCEINLINE BOOLEAN IopUsesMessages(const IO_PCI_FUNCTION *Function)
{
    return Function->Messages != NULL && Function->MessageLimit != 0;
}

// For all functions, before any is started: their pins, and no interrupts of firmware's making.
VOID IopInitializeInterrupts(VOID);

// Decides how the function interrupts: by up to MessageLimit messages if it can and its driver wants
// any, else by its line, else not at all. What was decided before stays.
VOID IopAssignInterrupts(_Inout_ PIO_PCI_FUNCTION Function, _In_ ULONG MessageLimit);

// Makes the function interrupt as it was decided, or not at all.
_Must_inspect_result_ NTSTATUS IopEnableInterrupts(_Inout_ PIO_PCI_FUNCTION Function);
VOID IopDisableInterrupts(_Inout_ PIO_PCI_FUNCTION Function);

//
// resource.c
//

// As the bus sees them, or as the processor does.
typedef enum _IOP_RESOURCE_VIEW { IopResourcesRaw, IopResourcesTranslated } IOP_RESOURCE_VIEW;

// The function's usable registers and its interrupts as a resource list. *List is NULL when there
// are none; the caller frees it with ExFreePool. STATUS_INSUFFICIENT_RESOURCES: no pool.
_Must_inspect_result_ NTSTATUS IopBuildResourceList(_In_ const IO_PCI_FUNCTION *Function,
                                                    _In_ IOP_RESOURCE_VIEW View,
                                                    _Outptr_ PCM_RESOURCE_LIST *List);

//
// state.c
//

// \Device\KernelState (ntddstate.h).
VOID IopInitializeState(VOID);

//
// driver.c
//

// A file of a device above Pdo was closed: a surprise removal may have waited for that.
VOID IopNoteClosedFile(_In_ PDEVICE_OBJECT Pdo);

// Loads the drivers for the functions that were found, and starts them.
VOID IopStartDevices(_In_ const LOADER_BLOCK *LoaderBlock);

//
// dma.c
//

// IoGetDmaAdapter on behalf of Caller.
_Must_inspect_result_ PDMA_ADAPTER IopGetDmaAdapter(_In_opt_ PDEVICE_OBJECT PhysicalDeviceObject,
                                                    _In_ const DEVICE_DESCRIPTION *Description,
                                                    _Out_ PULONG NumberOfMapRegisters,
                                                    _In_ PVOID Caller);
