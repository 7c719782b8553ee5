// Io for drivers: driver and device objects, IRPs, and the calls that move IRPs.
#pragma once

#include <ntdef.h>
#include <ntstatus.h>

#include <busddk.h>
#include <keddk.h>
#include <mmddk.h>

typedef ULONG DEVICE_TYPE;

#define FILE_DEVICE_CONTROLLER 0x00000004
#define FILE_DEVICE_DISK 0x00000007
#define FILE_DEVICE_PHYSICAL_NETCARD 0x00000017
#define FILE_DEVICE_UNKNOWN 0x00000022
#define FILE_DEVICE_BUS_EXTENDER 0x0000002A
#define FILE_DEVICE_MASS_STORAGE 0x0000002D

#define FILE_DEVICE_SECURE_OPEN 0x00000100 // device characteristics

#define FILE_LONG_ALIGNMENT 0x00000003 // DEVICE_OBJECT.AlignmentRequirement

#define METHOD_BUFFERED 0
#define METHOD_IN_DIRECT 1
#define METHOD_OUT_DIRECT 2
#define METHOD_NEITHER 3
#define FILE_ANY_ACCESS 0
#define FILE_READ_ACCESS 1
#define FILE_WRITE_ACCESS 2

#define CTL_CODE(DeviceType, Function, Method, Access)                                             \
    (((ULONG)(DeviceType) << 16) | ((Access) << 14) | ((Function) << 2) | (Method))
#define METHOD_FROM_CTL_CODE(Code) ((ULONG)(Code)&3)

#define IRP_MJ_CREATE 0x00
#define IRP_MJ_CLOSE 0x02
#define IRP_MJ_READ 0x03
#define IRP_MJ_WRITE 0x04
#define IRP_MJ_FLUSH_BUFFERS 0x09
#define IRP_MJ_DEVICE_CONTROL 0x0E
#define IRP_MJ_INTERNAL_DEVICE_CONTROL 0x0F
#define IRP_MJ_SHUTDOWN 0x10
#define IRP_MJ_CLEANUP 0x12
#define IRP_MJ_POWER 0x16
#define IRP_MJ_SYSTEM_CONTROL 0x17
#define IRP_MJ_PNP 0x1B
#define IRP_MJ_MAXIMUM_FUNCTION 0x1B

#define IRP_MN_START_DEVICE 0x00
#define IRP_MN_QUERY_REMOVE_DEVICE 0x01
#define IRP_MN_REMOVE_DEVICE 0x02
#define IRP_MN_CANCEL_REMOVE_DEVICE 0x03
#define IRP_MN_STOP_DEVICE 0x04
#define IRP_MN_QUERY_STOP_DEVICE 0x05
#define IRP_MN_CANCEL_STOP_DEVICE 0x06
#define IRP_MN_QUERY_DEVICE_RELATIONS 0x07
#define IRP_MN_QUERY_INTERFACE 0x08
#define IRP_MN_QUERY_CAPABILITIES 0x09
#define IRP_MN_QUERY_RESOURCES 0x0A
#define IRP_MN_QUERY_RESOURCE_REQUIREMENTS 0x0B
#define IRP_MN_QUERY_DEVICE_TEXT 0x0C
#define IRP_MN_FILTER_RESOURCE_REQUIREMENTS 0x0D
#define IRP_MN_READ_CONFIG 0x0F
#define IRP_MN_WRITE_CONFIG 0x10
#define IRP_MN_SURPRISE_REMOVAL 0x17

// The priority boost of IoCompleteRequest; without threads it has no effect.
#define IO_NO_INCREMENT 0
#define IO_DISK_INCREMENT 1
#define IO_NETWORK_INCREMENT 2

struct _DEVICE_OBJECT;
struct _DRIVER_OBJECT;
struct _IRP;
typedef struct _FILE_OBJECT *PFILE_OBJECT;

typedef struct _IO_STATUS_BLOCK {
    union {
        NTSTATUS Status;
        PVOID Pointer;
    };
    ULONG_PTR Information;
} IO_STATUS_BLOCK, *PIO_STATUS_BLOCK;

C_ASSERT(sizeof(IO_STATUS_BLOCK) == 0x10 && FIELD_OFFSET(IO_STATUS_BLOCK, Information) == 8);

// -------------------------------------------------------------------------------------------------
// What a driver supplies.

typedef NTSTATUS(NTAPI DRIVER_INITIALIZE)(_In_ struct _DRIVER_OBJECT *DriverObject,
                                          _In_ PUNICODE_STRING RegistryPath);
typedef DRIVER_INITIALIZE *PDRIVER_INITIALIZE;

typedef NTSTATUS(NTAPI DRIVER_ADD_DEVICE)(_In_ struct _DRIVER_OBJECT *DriverObject,
                                          _In_ struct _DEVICE_OBJECT *PhysicalDeviceObject);
typedef DRIVER_ADD_DEVICE *PDRIVER_ADD_DEVICE;

typedef NTSTATUS(NTAPI DRIVER_DISPATCH)(_In_ struct _DEVICE_OBJECT *DeviceObject,
                                        _Inout_ struct _IRP *Irp);
typedef DRIVER_DISPATCH *PDRIVER_DISPATCH;

typedef VOID(NTAPI DRIVER_STARTIO)(_Inout_ struct _DEVICE_OBJECT *DeviceObject,
                                   _Inout_ struct _IRP *Irp);
typedef DRIVER_STARTIO *PDRIVER_STARTIO;

typedef VOID(NTAPI DRIVER_UNLOAD)(_In_ struct _DRIVER_OBJECT *DriverObject);
typedef DRIVER_UNLOAD *PDRIVER_UNLOAD;

typedef VOID(NTAPI DRIVER_CANCEL)(_Inout_ struct _DEVICE_OBJECT *DeviceObject,
                                  _Inout_ struct _IRP *Irp);
typedef DRIVER_CANCEL *PDRIVER_CANCEL;

// STATUS_MORE_PROCESSING_REQUIRED stops the completion: the IRP is the routine's owner's again. Any
// other value goes on.
typedef NTSTATUS(NTAPI IO_COMPLETION_ROUTINE)(_In_ struct _DEVICE_OBJECT *DeviceObject,
                                              _In_ struct _IRP *Irp, _In_opt_ PVOID Context);
typedef IO_COMPLETION_ROUTINE *PIO_COMPLETION_ROUTINE;

typedef enum _IO_ALLOCATION_ACTION {
    KeepObject = 1,
    DeallocateObject,
    DeallocateObjectKeepRegisters,
} IO_ALLOCATION_ACTION;

typedef IO_ALLOCATION_ACTION(NTAPI DRIVER_CONTROL)(_In_ struct _DEVICE_OBJECT *DeviceObject,
                                                   _Inout_ struct _IRP *Irp,
                                                   _In_ PVOID MapRegisterBase, _In_ PVOID Context);
typedef DRIVER_CONTROL *PDRIVER_CONTROL;

// -------------------------------------------------------------------------------------------------
// Driver objects.

#define IO_TYPE_DEVICE 3
#define IO_TYPE_DRIVER 4
#define IO_TYPE_IRP 6

typedef struct _DRIVER_EXTENSION {
    struct _DRIVER_OBJECT *DriverObject;
    PDRIVER_ADD_DEVICE AddDevice;
    ULONG Count;
    UNICODE_STRING ServiceKeyName;
} DRIVER_EXTENSION, *PDRIVER_EXTENSION;

C_ASSERT(sizeof(DRIVER_EXTENSION) == 0x28);
C_ASSERT(FIELD_OFFSET(DRIVER_EXTENSION, AddDevice) == 8 &&
         FIELD_OFFSET(DRIVER_EXTENSION, ServiceKeyName) == 0x18);

typedef struct _DRIVER_OBJECT {
    CSHORT Type;
    CSHORT Size;
    struct _DEVICE_OBJECT *DeviceObject; // the first of its devices
    ULONG Flags;
    PVOID DriverStart;
    ULONG DriverSize;
    PVOID DriverSection;
    PDRIVER_EXTENSION DriverExtension;
    UNICODE_STRING DriverName;
    PUNICODE_STRING HardwareDatabase;
    PVOID FastIoDispatch;
    PDRIVER_INITIALIZE DriverInit;
    PDRIVER_STARTIO DriverStartIo;
    PDRIVER_UNLOAD DriverUnload;
    PDRIVER_DISPATCH MajorFunction[IRP_MJ_MAXIMUM_FUNCTION + 1];
} DRIVER_OBJECT, *PDRIVER_OBJECT;

C_ASSERT(sizeof(DRIVER_OBJECT) == 0x150);
C_ASSERT(FIELD_OFFSET(DRIVER_OBJECT, DriverExtension) == 0x30 &&
         FIELD_OFFSET(DRIVER_OBJECT, DriverName) == 0x38);
C_ASSERT(FIELD_OFFSET(DRIVER_OBJECT, DriverInit) == 0x58 &&
         FIELD_OFFSET(DRIVER_OBJECT, DriverUnload) == 0x68);
C_ASSERT(FIELD_OFFSET(DRIVER_OBJECT, MajorFunction) == 0x70);

// -------------------------------------------------------------------------------------------------
// Device objects.

#define DO_BUFFERED_IO 0x00000004
#define DO_EXCLUSIVE 0x00000008
#define DO_DIRECT_IO 0x00000010
#define DO_DEVICE_INITIALIZING 0x00000080
#define DO_BUS_ENUMERATED_DEVICE 0x00001000
#define DO_POWER_PAGABLE 0x00002000

typedef struct _WAIT_CONTEXT_BLOCK {
    KDEVICE_QUEUE_ENTRY WaitQueueEntry;
    PDRIVER_CONTROL DeviceRoutine;
    PVOID DeviceContext;
    ULONG NumberOfMapRegisters;
    PVOID DeviceObject;
    PVOID CurrentIrp;
    PKDPC BufferChainingDpc;
} WAIT_CONTEXT_BLOCK, *PWAIT_CONTEXT_BLOCK;

C_ASSERT(sizeof(WAIT_CONTEXT_BLOCK) == 0x48);

typedef struct DECLSPEC_ALIGN(16) _DEVICE_OBJECT {
    CSHORT Type;
    USHORT Size;
    LONG ReferenceCount;
    struct _DRIVER_OBJECT *DriverObject;
    struct _DEVICE_OBJECT *NextDevice;     // of the same driver
    struct _DEVICE_OBJECT *AttachedDevice; // the next higher one in the stack
    struct _IRP *CurrentIrp;
    PVOID Timer;
    ULONG Flags; // DO_*
    ULONG Characteristics;
    PVOID Vpb;
    PVOID DeviceExtension;
    DEVICE_TYPE DeviceType;
    CCHAR StackSize; // stack locations that an IRP to this device needs
    union {
        LIST_ENTRY ListEntry;
        WAIT_CONTEXT_BLOCK Wcb;
    } Queue;
    ULONG AlignmentRequirement;
    KDEVICE_QUEUE DeviceQueue;
    KDPC Dpc;
    ULONG ActiveThreadCount;
    PVOID SecurityDescriptor;
    KEVENT DeviceLock;
    USHORT SectorSize;
    USHORT Spare1;
    PVOID DeviceObjectExtension;
    PVOID Reserved;
} DEVICE_OBJECT, *PDEVICE_OBJECT;

C_ASSERT(sizeof(DEVICE_OBJECT) == 0x150);
C_ASSERT(FIELD_OFFSET(DEVICE_OBJECT, Flags) == 0x30 &&
         FIELD_OFFSET(DEVICE_OBJECT, DeviceExtension) == 0x40);
C_ASSERT(FIELD_OFFSET(DEVICE_OBJECT, StackSize) == 0x4C &&
         FIELD_OFFSET(DEVICE_OBJECT, Queue) == 0x50);
C_ASSERT(FIELD_OFFSET(DEVICE_OBJECT, AlignmentRequirement) == 0x98 &&
         FIELD_OFFSET(DEVICE_OBJECT, Dpc) == 0xC8);
C_ASSERT(FIELD_OFFSET(DEVICE_OBJECT, DeviceLock) == 0x118 &&
         FIELD_OFFSET(DEVICE_OBJECT, SectorSize) == 0x130);
C_ASSERT(FIELD_OFFSET(DEVICE_OBJECT, Reserved) == 0x140);

// A device object with DeviceExtensionSize zeroed bytes behind it, in DriverObject's list.
// DeviceName must be NULL (ours: there is no name space). The caller sets DO_DIRECT_IO or
// DO_BUFFERED_IO and, when ready, clears DO_DEVICE_INITIALIZING. STATUS_INSUFFICIENT_RESOURCES: no
// pool. STATUS_NOT_SUPPORTED (ours): a name. IRQL = PASSIVE_LEVEL.
_Must_inspect_result_ _IRQL_requires_max_(PASSIVE_LEVEL)
NTSTATUS NTAPI IoCreateDevice(_In_ PDRIVER_OBJECT DriverObject, _In_ ULONG DeviceExtensionSize,
                              _In_opt_ PUNICODE_STRING DeviceName, _In_ DEVICE_TYPE DeviceType,
                              _In_ ULONG DeviceCharacteristics, _In_ BOOLEAN Exclusive,
                              _Outptr_ PDEVICE_OBJECT *DeviceObject);

// Frees it. Nothing may be attached to it. IRQL = PASSIVE_LEVEL.
VOID NTAPI IoDeleteDevice(_In_ PDEVICE_OBJECT DeviceObject);

// Puts SourceDevice on top of the stack that TargetDevice belongs to, and returns the device below
// it: the one to pass IRPs to. NULL: the top is still initialising or (ours) the stack would be too
// deep.
_Must_inspect_result_ _Ret_maybenull_ _IRQL_requires_max_(DISPATCH_LEVEL)
PDEVICE_OBJECT NTAPI IoAttachDeviceToDeviceStack(_In_ PDEVICE_OBJECT SourceDevice,
                                                 _In_ PDEVICE_OBJECT TargetDevice);

// TargetDevice is what IoAttachDeviceToDeviceStack returned.
VOID NTAPI IoDetachDevice(_Inout_ PDEVICE_OBJECT TargetDevice);

// -------------------------------------------------------------------------------------------------
// IRPs: a request on its way down a stack of devices, with one stack location for each.

#define SL_PENDING_RETURNED 0x01 // IO_STACK_LOCATION.Control
#define SL_INVOKE_ON_CANCEL 0x20
#define SL_INVOKE_ON_SUCCESS 0x40
#define SL_INVOKE_ON_ERROR 0x80

#define POINTER_ALIGNMENT DECLSPEC_ALIGN(8)

typedef struct _IO_STACK_LOCATION {
    UCHAR MajorFunction;
    UCHAR MinorFunction;
    UCHAR Flags;
    UCHAR Control;
    union {
        struct { // IRP_MJ_READ, IRP_MJ_WRITE: bytes, at a byte offset
            ULONG Length;
            ULONG POINTER_ALIGNMENT Key;
            LARGE_INTEGER ByteOffset;
        } Read, Write;
        struct { // IRP_MJ_DEVICE_CONTROL
            ULONG OutputBufferLength;
            ULONG POINTER_ALIGNMENT InputBufferLength;
            ULONG POINTER_ALIGNMENT IoControlCode;
            PVOID Type3InputBuffer;
        } DeviceIoControl;
        struct { // IRP_MN_START_DEVICE; both NULL for a device without resources
            PCM_RESOURCE_LIST AllocatedResources;
            PCM_RESOURCE_LIST AllocatedResourcesTranslated;
        } StartDevice;
        struct { // IRP_MN_QUERY_INTERFACE
            const GUID *InterfaceType;
            USHORT Size;
            USHORT Version;
            PINTERFACE Interface;
            PVOID InterfaceSpecificData;
        } QueryInterface;
        struct { // IRP_MN_READ_CONFIG, IRP_MN_WRITE_CONFIG
            ULONG WhichSpace;
            PVOID Buffer;
            ULONG Offset;
            ULONG POINTER_ALIGNMENT Length;
        } ReadWriteConfig;
        struct { // IRP_MN_QUERY_DEVICE_RELATIONS
            ULONG Type;
        } QueryDeviceRelations;
        struct {
            PVOID Argument1;
            PVOID Argument2;
            PVOID Argument3;
            PVOID Argument4;
        } Others;
    } Parameters;
    PDEVICE_OBJECT DeviceObject;
    PFILE_OBJECT FileObject;
    PIO_COMPLETION_ROUTINE CompletionRoutine; // of the device above this one
    PVOID Context;
} IO_STACK_LOCATION, *PIO_STACK_LOCATION;

C_ASSERT(sizeof(IO_STACK_LOCATION) == 0x48 && FIELD_OFFSET(IO_STACK_LOCATION, Parameters) == 8);
C_ASSERT(FIELD_OFFSET(IO_STACK_LOCATION, Parameters.Read.Key) == 0x10);
C_ASSERT(FIELD_OFFSET(IO_STACK_LOCATION, Parameters.Read.ByteOffset) == 0x18);
C_ASSERT(FIELD_OFFSET(IO_STACK_LOCATION, Parameters.DeviceIoControl.InputBufferLength) == 0x10);
C_ASSERT(FIELD_OFFSET(IO_STACK_LOCATION, Parameters.DeviceIoControl.IoControlCode) == 0x18);
C_ASSERT(FIELD_OFFSET(IO_STACK_LOCATION, Parameters.DeviceIoControl.Type3InputBuffer) == 0x20);
C_ASSERT(FIELD_OFFSET(IO_STACK_LOCATION, Parameters.StartDevice.AllocatedResourcesTranslated) ==
         0x10);
C_ASSERT(FIELD_OFFSET(IO_STACK_LOCATION, Parameters.QueryInterface.Version) == 0x12);
C_ASSERT(FIELD_OFFSET(IO_STACK_LOCATION, Parameters.QueryInterface.InterfaceSpecificData) == 0x20);
C_ASSERT(FIELD_OFFSET(IO_STACK_LOCATION, Parameters.ReadWriteConfig.Length) == 0x20);
C_ASSERT(FIELD_OFFSET(IO_STACK_LOCATION, DeviceObject) == 0x28 &&
         FIELD_OFFSET(IO_STACK_LOCATION, Context) == 0x40);

#define IRP_NOCACHE 0x00000001 // IRP.Flags
#define IRP_BUFFERED_IO 0x00000010
#define IRP_DEALLOCATE_BUFFER 0x00000020
#define IRP_INPUT_OPERATION 0x00000040
#define IRP_READ_OPERATION 0x00000100
#define IRP_WRITE_OPERATION 0x00000200

typedef struct DECLSPEC_ALIGN(16) _IRP {
    CSHORT Type;
    USHORT Size; // with its stack locations
    PMDL MdlAddress;
    ULONG Flags;
    union {
        struct _IRP *MasterIrp;
        LONG IrpCount;
        PVOID SystemBuffer; // METHOD_BUFFERED: input, and in the same place output
    } AssociatedIrp;
    LIST_ENTRY ThreadListEntry;
    IO_STATUS_BLOCK IoStatus;
    KPROCESSOR_MODE RequestorMode;
    BOOLEAN PendingReturned;
    CCHAR StackCount;
    CCHAR CurrentLocation; // 1 is the lowest device's; StackCount + 1: not sent yet, or completed
    BOOLEAN Cancel;
    KIRQL CancelIrql;
    CCHAR ApcEnvironment;
    UCHAR AllocationFlags;
    PIO_STATUS_BLOCK UserIosb;
    PKEVENT UserEvent;
    union {
        struct {
            PVOID UserApcRoutine;
            PVOID UserApcContext;
        } AsynchronousParameters;
        LARGE_INTEGER AllocationSize;
    } Overlay;
    PDRIVER_CANCEL CancelRoutine;
    PVOID UserBuffer;
    union {
        struct {
            union {
                KDEVICE_QUEUE_ENTRY DeviceQueueEntry;
                PVOID DriverContext[4]; // the driver's while it owns the IRP
            };
            PVOID Thread;
            PCHAR AuxiliaryBuffer;
            LIST_ENTRY ListEntry; // the driver's while it owns the IRP
            PIO_STACK_LOCATION CurrentStackLocation;
            PFILE_OBJECT OriginalFileObject;
        } Overlay;
        KAPC Apc;
        PVOID CompletionKey;
    } Tail;
} IRP, *PIRP;

C_ASSERT(sizeof(IRP) == 0xD0);
C_ASSERT(FIELD_OFFSET(IRP, MdlAddress) == 8 && FIELD_OFFSET(IRP, AssociatedIrp) == 0x18);
C_ASSERT(FIELD_OFFSET(IRP, IoStatus) == 0x30 && FIELD_OFFSET(IRP, RequestorMode) == 0x40);
C_ASSERT(FIELD_OFFSET(IRP, StackCount) == 0x42 && FIELD_OFFSET(IRP, CurrentLocation) == 0x43);
C_ASSERT(FIELD_OFFSET(IRP, UserIosb) == 0x48 && FIELD_OFFSET(IRP, CancelRoutine) == 0x68);
C_ASSERT(FIELD_OFFSET(IRP, Tail) == 0x78 && FIELD_OFFSET(IRP, Tail.Overlay.ListEntry) == 0xA8);
C_ASSERT(FIELD_OFFSET(IRP, Tail.Overlay.CurrentStackLocation) == 0xB8);

#define IoSizeOfIrp(StackSize) ((USHORT)(sizeof(IRP) + (StackSize) * sizeof(IO_STACK_LOCATION)))

// A zeroed IRP with StackSize locations; the caller frees it with IoFreeIrp. NULL: no pool, or
// StackSize < 1.
_Must_inspect_result_ _Ret_maybenull_ _IRQL_requires_max_(DISPATCH_LEVEL)
PIRP NTAPI IoAllocateIrp(_In_ CCHAR StackSize, _In_ BOOLEAN ChargeQuota);

// Frees the IRP, not what it points to.
VOID NTAPI IoFreeIrp(_In_ PIRP Irp);

// Moves the IRP to its next stack location and calls that device's driver. Returns what the driver
// returns; the IRP may be gone by then. No location left: NO_MORE_IRP_STACK_LOCATIONS.
NTSTATUS NTAPI IofCallDriver(_In_ PDEVICE_OBJECT DeviceObject, _Inout_ PIRP Irp);
#define IoCallDriver(DeviceObject, Irp) IofCallDriver((DeviceObject), (Irp))

// Gives the IRP back up the stack: calls the completion routines from the lowest on. The caller has
// set IoStatus, and must not touch the IRP any more. An IRP that was completed before:
// MULTIPLE_IRP_COMPLETE_REQUESTS.
VOID NTAPI IofCompleteRequest(_In_ PIRP Irp, _In_ CCHAR PriorityBoost);
#define IoCompleteRequest(Irp, PriorityBoost) IofCompleteRequest((Irp), (PriorityBoost))

// Passes the IRP to the device below with a copy of the caller's location and waits until that is
// done with it: the caller owns it again and completes it. FALSE: the IRP has no location left.
// IRQL = PASSIVE_LEVEL.
_Must_inspect_result_ _IRQL_requires_max_(PASSIVE_LEVEL)
BOOLEAN NTAPI IoForwardIrpSynchronously(_In_ PDEVICE_OBJECT DeviceObject, _In_ PIRP Irp);

FORCEINLINE PIO_STACK_LOCATION IoGetCurrentIrpStackLocation(_In_ PIRP Irp)
{
    return Irp->Tail.Overlay.CurrentStackLocation;
}

// The location of the device below.
FORCEINLINE PIO_STACK_LOCATION IoGetNextIrpStackLocation(_In_ PIRP Irp)
{
    return Irp->Tail.Overlay.CurrentStackLocation - 1;
}

// The device below gets the caller's location as it is; the caller hears no more of the IRP.
FORCEINLINE VOID IoSkipCurrentIrpStackLocation(_Inout_ PIRP Irp)
{
    Irp->CurrentLocation++;
    Irp->Tail.Overlay.CurrentStackLocation++;
}

// The device below gets the caller's parameters in a location of its own, without completion
// routine.
FORCEINLINE VOID IoCopyCurrentIrpStackLocationToNext(_Inout_ PIRP Irp)
{
    PIO_STACK_LOCATION Next = IoGetNextIrpStackLocation(Irp);

    RtlCopyMemory(Next, IoGetCurrentIrpStackLocation(Irp),
                  FIELD_OFFSET(IO_STACK_LOCATION, CompletionRoutine));
    Next->Control = 0;
}

// The routine runs when the device below has completed the IRP.
FORCEINLINE VOID IoSetCompletionRoutine(_In_ PIRP Irp,
                                        _In_opt_ PIO_COMPLETION_ROUTINE CompletionRoutine,
                                        _In_opt_ PVOID Context, _In_ BOOLEAN InvokeOnSuccess,
                                        _In_ BOOLEAN InvokeOnError, _In_ BOOLEAN InvokeOnCancel)
{
    PIO_STACK_LOCATION Next = IoGetNextIrpStackLocation(Irp);

    Next->CompletionRoutine = CompletionRoutine;
    Next->Context = Context;
    Next->Control = (UCHAR)((InvokeOnSuccess ? SL_INVOKE_ON_SUCCESS : 0) |
                            (InvokeOnError ? SL_INVOKE_ON_ERROR : 0) |
                            (InvokeOnCancel ? SL_INVOKE_ON_CANCEL : 0));
}

// Before a dispatch routine returns STATUS_PENDING.
FORCEINLINE VOID IoMarkIrpPending(_Inout_ PIRP Irp)
{
    IoGetCurrentIrpStackLocation(Irp)->Control |= SL_PENDING_RETURNED;
}
