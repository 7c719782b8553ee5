// Interrupts for drivers: connecting to lines and messages, and synchronising with their routines.
//
// A driver finds its interrupts in the resources of IRP_MN_START_DEVICE: one descriptor for a line;
// one for each message of MSI-X; one for all messages of MSI. It connects with the values of the
// translated list (CONNECT_FULLY_SPECIFIED, IoConnectInterrupt), or lets the I/O manager find them
// (CONNECT_LINE_BASED, CONNECT_MESSAGE_BASED).
//
// An interrupt routine runs at the IRQL SynchronizeIrql and holds the interrupt's spin lock. Higher
// interrupts may interrupt it. It may use SSE registers; they belong to whoever was interrupted and are
// saved in any case, so FloatingSave changes nothing (ours).
#pragma once

#include <ntdef.h>
#include <ntstatus.h>

#include <dispatchddk.h>
#include <ioddk.h>
#include <keddk.h>

typedef struct _KINTERRUPT *PKINTERRUPT; // opaque

typedef enum _KINTERRUPT_MODE {
    LevelSensitive, // asserted until the device is satisfied; the routine must make it so
    Latched,        // an edge, or a message
} KINTERRUPT_MODE;

typedef enum _KINTERRUPT_POLARITY {
    InterruptPolarityUnknown,
    InterruptActiveHigh,
    InterruptRisingEdge = InterruptActiveHigh,
    InterruptActiveLow,
    InterruptFallingEdge = InterruptActiveLow,
} KINTERRUPT_POLARITY,
    *PKINTERRUPT_POLARITY;

// Interrupt routines return TRUE when their device has interrupted, FALSE when it was another one.
// A line or a message that nobody claims for long is masked for a while, and told of.
typedef BOOLEAN(NTAPI KSERVICE_ROUTINE)(_In_ struct _KINTERRUPT *Interrupt,
                                        _In_ PVOID ServiceContext);
typedef KSERVICE_ROUTINE *PKSERVICE_ROUTINE;

typedef BOOLEAN(NTAPI KMESSAGE_SERVICE_ROUTINE)(_In_ struct _KINTERRUPT *Interrupt,
                                                _In_ PVOID ServiceContext, _In_ ULONG MessageID);
typedef KMESSAGE_SERVICE_ROUTINE *PKMESSAGE_SERVICE_ROUTINE;

typedef BOOLEAN(NTAPI KSYNCHRONIZE_ROUTINE)(_In_ PVOID SynchronizeContext);
typedef KSYNCHRONIZE_ROUTINE *PKSYNCHRONIZE_ROUTINE;

// -------------------------------------------------------------------------------------------------
// Messages that are connected: what IoConnectInterruptEx makes for CONNECT_MESSAGE_BASED. Freed by
// IoDisconnectInterruptEx.

typedef struct _IO_INTERRUPT_MESSAGE_INFO_ENTRY {
    PHYSICAL_ADDRESS MessageAddress; // what the device writes where
    KAFFINITY TargetProcessorSet;
    PKINTERRUPT InterruptObject;
    ULONG MessageData;
    ULONG Vector;
    KIRQL Irql;
    KINTERRUPT_MODE Mode;
    KINTERRUPT_POLARITY Polarity;
} IO_INTERRUPT_MESSAGE_INFO_ENTRY, *PIO_INTERRUPT_MESSAGE_INFO_ENTRY;

typedef struct _IO_INTERRUPT_MESSAGE_INFO {
    KIRQL UnifiedIrql; // at which all routines run: the highest of the messages
    ULONG MessageCount;
    IO_INTERRUPT_MESSAGE_INFO_ENTRY MessageInfo[1];
} IO_INTERRUPT_MESSAGE_INFO, *PIO_INTERRUPT_MESSAGE_INFO;

// -------------------------------------------------------------------------------------------------
// Connecting.

#define CONNECT_FULLY_SPECIFIED 0x1
#define CONNECT_LINE_BASED 0x2
#define CONNECT_MESSAGE_BASED 0x3
#define CONNECT_FULLY_SPECIFIED_GROUP 0x4
#define CONNECT_MESSAGE_BASED_PASSIVE 0x5 // not supported here
#define CONNECT_CURRENT_VERSION 0x4

typedef struct _IO_CONNECT_INTERRUPT_FULLY_SPECIFIED_PARAMETERS {
    PDEVICE_OBJECT PhysicalDeviceObject;
    PKINTERRUPT *InterruptObject; // out
    PKSERVICE_ROUTINE ServiceRoutine;
    PVOID ServiceContext;
    PKSPIN_LOCK SpinLock; // optional: one lock for several interrupts
    KIRQL SynchronizeIrql;
    BOOLEAN FloatingSave;
    BOOLEAN ShareVector;
    ULONG Vector;
    KIRQL Irql;
    KINTERRUPT_MODE InterruptMode;
    KAFFINITY ProcessorEnableMask;
    USHORT Group; // CONNECT_FULLY_SPECIFIED_GROUP only
} IO_CONNECT_INTERRUPT_FULLY_SPECIFIED_PARAMETERS,
    *PIO_CONNECT_INTERRUPT_FULLY_SPECIFIED_PARAMETERS;

typedef struct _IO_CONNECT_INTERRUPT_LINE_BASED_PARAMETERS {
    PDEVICE_OBJECT PhysicalDeviceObject;
    PKINTERRUPT *InterruptObject; // out
    PKSERVICE_ROUTINE ServiceRoutine;
    PVOID ServiceContext;
    PKSPIN_LOCK SpinLock;  // optional
    KIRQL SynchronizeIrql; // 0: the interrupt's
    BOOLEAN FloatingSave;
} IO_CONNECT_INTERRUPT_LINE_BASED_PARAMETERS, *PIO_CONNECT_INTERRUPT_LINE_BASED_PARAMETERS;

typedef struct _IO_CONNECT_INTERRUPT_MESSAGE_BASED_PARAMETERS {
    PDEVICE_OBJECT PhysicalDeviceObject;
    union { // out
        PVOID *Generic;
        PIO_INTERRUPT_MESSAGE_INFO *InterruptMessageTable;
        PKINTERRUPT *InterruptObject; // after falling back to a line
    } ConnectionContext;
    PKMESSAGE_SERVICE_ROUTINE MessageServiceRoutine;
    PVOID ServiceContext;
    PKSPIN_LOCK SpinLock;  // optional
    KIRQL SynchronizeIrql; // 0: the messages'
    BOOLEAN FloatingSave;
    PKSERVICE_ROUTINE FallBackServiceRoutine; // optional: for a line, if there are no messages
} IO_CONNECT_INTERRUPT_MESSAGE_BASED_PARAMETERS, *PIO_CONNECT_INTERRUPT_MESSAGE_BASED_PARAMETERS;

typedef struct _IO_CONNECT_INTERRUPT_PARAMETERS {
    ULONG Version; // in and out
    union {
        IO_CONNECT_INTERRUPT_FULLY_SPECIFIED_PARAMETERS FullySpecified;
        IO_CONNECT_INTERRUPT_LINE_BASED_PARAMETERS LineBased;
        IO_CONNECT_INTERRUPT_MESSAGE_BASED_PARAMETERS MessageBased;
    };
} IO_CONNECT_INTERRUPT_PARAMETERS, *PIO_CONNECT_INTERRUPT_PARAMETERS;

C_ASSERT(sizeof(IO_CONNECT_INTERRUPT_PARAMETERS) == 0x50);

typedef struct _IO_DISCONNECT_INTERRUPT_PARAMETERS {
    ULONG Version; // as IoConnectInterruptEx left it
    union {
        PVOID Generic;
        PKINTERRUPT InterruptObject;
        PIO_INTERRUPT_MESSAGE_INFO InterruptMessageTable;
    } ConnectionContext;
} IO_DISCONNECT_INTERRUPT_PARAMETERS, *PIO_DISCONNECT_INTERRUPT_PARAMETERS;

typedef struct _IO_REPORT_INTERRUPT_ACTIVE_STATE_PARAMETERS {
    ULONG Version; // as IoConnectInterruptEx left it
    union {
        PVOID Generic;
        PKINTERRUPT InterruptObject;
        PIO_INTERRUPT_MESSAGE_INFO InterruptMessageTable;
    } ConnectionContext;
} IO_REPORT_INTERRUPT_ACTIVE_STATE_PARAMETERS, *PIO_REPORT_INTERRUPT_ACTIVE_STATE_PARAMETERS;

// Connects ServiceRoutine to the vector of a translated interrupt descriptor, with that descriptor's
// level as Irql. SynchronizeIrql is not below Irql: it is the highest IRQL among the interrupts that
// share SpinLock. *InterruptObject is written before the first call of the routine. The caller
// disconnects it with IoDisconnectInterrupt. PASSIVE_LEVEL.
// STATUS_INVALID_PARAMETER  a vector that no device was given, an Irql that is not the vector's, a lower
//                           SynchronizeIrql, no processor in ProcessorEnableMask, no routine, another
//                           mode than the vector's, or a vector that is in use and not shared
// STATUS_INSUFFICIENT_RESOURCES  no pool
_Must_inspect_result_ _IRQL_requires_(PASSIVE_LEVEL)
NTSTATUS NTAPI IoConnectInterrupt(_Out_ PKINTERRUPT *InterruptObject,
                                  _In_ PKSERVICE_ROUTINE ServiceRoutine,
                                  _In_opt_ PVOID ServiceContext, _In_opt_ PKSPIN_LOCK SpinLock,
                                  _In_ ULONG Vector, _In_ KIRQL Irql, _In_ KIRQL SynchronizeIrql,
                                  _In_ KINTERRUPT_MODE InterruptMode, _In_ BOOLEAN ShareVector,
                                  _In_ KAFFINITY ProcessorEnableMask, _In_ BOOLEAN FloatingSave);

// When it returns, the routine does not run, will not run again, and the object is freed.
// PASSIVE_LEVEL.
_IRQL_requires_(PASSIVE_LEVEL) VOID NTAPI IoDisconnectInterrupt(_In_ PKINTERRUPT InterruptObject);

// Connects as Parameters->Version says. CONNECT_LINE_BASED and CONNECT_MESSAGE_BASED connect all
// interrupts of that kind that the device behind PhysicalDeviceObject was started with.
// CONNECT_MESSAGE_BASED falls back to the device's line when it has no messages and there is a
// FallBackServiceRoutine; Version is CONNECT_LINE_BASED then, and the context an interrupt object.
// The context is written before the first call of a routine. The caller disconnects with
// IoDisconnectInterruptEx, with the Version that this routine leaves. PASSIVE_LEVEL.
// STATUS_NOT_SUPPORTED      another Version, CONNECT_MESSAGE_BASED_PASSIVE among them; Version gets the
//                           highest one that is supported
// STATUS_NOT_FOUND          the device has no such interrupts
// others                    as IoConnectInterrupt
_Must_inspect_result_ _IRQL_requires_(PASSIVE_LEVEL)
NTSTATUS NTAPI IoConnectInterruptEx(_Inout_ PIO_CONNECT_INTERRUPT_PARAMETERS Parameters);

// As IoDisconnectInterrupt, for what IoConnectInterruptEx has connected; frees the message table, too.
// PASSIVE_LEVEL.
_IRQL_requires_(PASSIVE_LEVEL) VOID
    NTAPI IoDisconnectInterruptEx(_In_ PIO_DISCONNECT_INTERRUPT_PARAMETERS Parameters);

// The device will not interrupt for a while (it is in a low-power state), or may again. While all
// routines of a line or message are inactive, it is masked. Calls do not nest; a connected
// interrupt is active at first.
_IRQL_requires_max_(DISPATCH_LEVEL) VOID
    NTAPI IoReportInterruptInactive(_In_ PIO_REPORT_INTERRUPT_ACTIVE_STATE_PARAMETERS Parameters);
_IRQL_requires_max_(DISPATCH_LEVEL) VOID
    NTAPI IoReportInterruptActive(_In_ PIO_REPORT_INTERRUPT_ACTIVE_STATE_PARAMETERS Parameters);

// Which processors the interrupt comes to. STATUS_SUCCESS. PASSIVE_LEVEL.
_IRQL_requires_(PASSIVE_LEVEL) NTSTATUS
    NTAPI IoGetAffinityInterrupt(_In_ PKINTERRUPT InterruptObject,
                                 _Out_ PGROUP_AFFINITY GroupAffinity);

// -------------------------------------------------------------------------------------------------
// Synchronising with an interrupt routine.

// Calls Routine as the interrupt's own routine is called: at its SynchronizeIrql, with its spin lock
// held; returns what Routine returns. At or below that IRQL.
BOOLEAN NTAPI KeSynchronizeExecution(_Inout_ PKINTERRUPT Interrupt,
                                     _In_ PKSYNCHRONIZE_ROUTINE SynchronizeRoutine,
                                     _In_opt_ PVOID SynchronizeContext);

// The same in two halves. Acquire returns the IRQL that release restores.
_Must_inspect_result_ KIRQL NTAPI KeAcquireInterruptSpinLock(_Inout_ PKINTERRUPT Interrupt);
VOID NTAPI KeReleaseInterruptSpinLock(_Inout_ PKINTERRUPT Interrupt, _In_ KIRQL OldIrql);

// The vector, IRQL and processors of an interrupt line of a bus: Isa or PCIBus, with the line in
// BusInterruptLevel and BusInterruptVector. 0: there is no such line. PASSIVE_LEVEL.
_IRQL_requires_(PASSIVE_LEVEL) ULONG
    NTAPI HalGetInterruptVector(_In_ INTERFACE_TYPE InterfaceType, _In_ ULONG BusNumber,
                                _In_ ULONG BusInterruptLevel, _In_ ULONG BusInterruptVector,
                                _Out_ PKIRQL Irql, _Out_ PKAFFINITY Affinity);
