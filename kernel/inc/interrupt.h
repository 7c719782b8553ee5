// Interrupts of devices, as kernel/ke keeps them: vectors, their sources, and the routines that are
// connected to them. kernel/io decides which device gets which vector and allocates the objects.
#pragma once

#include <ntdef.h>
#include <wdm.h>

#include "kernel/inc/kearch.h"

// -------------------------------------------------------------------------------------------------
// Where the interrupts of a vector come from: an input of an I/O APIC, or a message of a device.

typedef struct _KI_INTERRUPT_SOURCE {
    // Any IRQL, at most once at a time. NULL: this source cannot be masked.
    VOID (*SetMasked)(const struct _KI_INTERRUPT_SOURCE *Source, BOOLEAN IsMasked);
    PVOID Context;
    ULONG Number;    // of the line (global system interrupt) or the message
    ULONG Processor; // which one it interrupts
    KINTERRUPT_MODE Mode;
    KINTERRUPT_POLARITY Polarity;
} KI_INTERRUPT_SOURCE, *PKI_INTERRUPT_SOURCE;

// Reserves Count vectors side by side, of one IRQL, the first one a multiple of Count, which is a
// power of two and at most KE_VECTORS_PER_IRQL. Lines and messages have IRQLs of their own, so that
// many messages leave room for lines. 0: there are no more.
typedef enum _KI_VECTOR_USE { KiVectorsForLines, KiVectorsForMessages } KI_VECTOR_USE;
_Must_inspect_result_ ULONG KiReserveVectors(_In_ KI_VECTOR_USE Use, _In_ ULONG Count);

// Says what a reserved vector is for, before anything is connected to it. Source lives as long as the
// vector does: for ever.
VOID KiSetVectorSource(_In_ ULONG Vector, _In_ const KI_INTERRUPT_SOURCE *Source);

// NULL: the vector is no device's.
const KI_INTERRUPT_SOURCE *KiGetVectorSource(_In_ ULONG Vector);

FORCEINLINE KIRQL KiIrqlOfVector(ULONG Vector)
{
    return (KIRQL)(Vector / KE_VECTORS_PER_IRQL);
}

// -------------------------------------------------------------------------------------------------
// Interrupt objects. The owner fills the first part and connects; nothing of it changes while it is
// connected.

#define KI_INTERRUPT_OWNER_BYTES 32

typedef struct _KINTERRUPT {
    SHORT Type; // KI_INTERRUPT_OBJECT, as long as it is connected
    SHORT Size;
    ULONG Vector;
    KINTERRUPT_MODE Mode;
    KIRQL SynchronizeIrql; // not below the vector's
    BOOLEAN IsShared;
    PKSERVICE_ROUTINE ServiceRoutine;                // this one,
    PKMESSAGE_SERVICE_ROUTINE MessageServiceRoutine; // or this one
    ULONG MessageId;
    PVOID ServiceContext;
    PKSPIN_LOCK ActualLock;               // NULL: its own
    CHAR Owner[KI_INTERRUPT_OWNER_BYTES]; // in words: the device, or the driver

    // Of kernel/ke/interrupt.c from here on.
    LIST_ENTRY Link;
    KSPIN_LOCK SpinLock;
    BOOLEAN IsActive;
    ULONG64 ClaimedCount;
} KINTERRUPT;

#define KI_INTERRUPT_OBJECT 22

// STATUS_INVALID_PARAMETER: the vector has no source or another mode, or is in use and one of the two
// does not share. The first connection of a vector unmasks its source. IRQL <= DISPATCH_LEVEL.
_Must_inspect_result_ NTSTATUS KiConnectInterrupt(_Inout_ PKINTERRUPT Interrupt);

// On return its routine does not run, and will not. IRQL <= DISPATCH_LEVEL.
VOID KiDisconnectInterrupt(_Inout_ PKINTERRUPT Interrupt);

// Whether the routine is called at all.
VOID KiSetInterruptActive(_Inout_ PKINTERRUPT Interrupt, _In_ BOOLEAN IsActive);

// Calls Routine for each connected interrupt, under its vector's lock.
typedef VOID KI_INTERRUPT_ROUTINE(_In_ PKINTERRUPT Interrupt, _In_opt_ PVOID Context);
VOID KiEnumerateInterrupts(_In_ KI_INTERRUPT_ROUTINE *Routine, _In_opt_ PVOID Context);

// What has become of a vector's interrupts so far.
typedef struct _KI_VECTOR_COUNTS {
    ULONG64 InterruptCount;
    ULONG64 UnclaimedCount;
    ULONG64 StormCount;
    KAFFINITY Processors; // where they came
    BOOLEAN IsQuenched;   // in a pause after a storm: masked, if the source can be
} KI_VECTOR_COUNTS, *PKI_VECTOR_COUNTS;

VOID KiQueryVector(_In_ ULONG Vector, _Out_ PKI_VECTOR_COUNTS Counts);
