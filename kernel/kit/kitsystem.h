// Ke, Ex, Io, Rtl and Hal of Windows 8 and later, and what mingw-w64 forgot.
#pragma once

// -------------------------------------------------------------------------------------------------
// Types and constants.

typedef unsigned int UINT, *PUINT;
typedef int INT, *PINT;

#ifndef STATUS_DEVICE_HARDWARE_ERROR
#define STATUS_DEVICE_HARDWARE_ERROR ((NTSTATUS)0xC0000483L)
#endif
#ifndef STATUS_DEVICE_FEATURE_NOT_SUPPORTED
#define STATUS_DEVICE_FEATURE_NOT_SUPPORTED ((NTSTATUS)0xC0000463L)
#endif

#ifndef SL_FORCE_DIRECT_WRITE
#define SL_FORCE_DIRECT_WRITE 0x10
#endif
#ifndef CmResourceTypeConnection
#define CmResourceTypeConnection 132
#endif
#ifndef CM_RESOURCE_DMA_V3
#define CM_RESOURCE_DMA_V3 0x0080
#endif

#ifndef PCI_SUBCLASS_MSC_NVM_CTLR
#define PCI_SUBCLASS_MSC_NVM_CTLR 0x08
#endif
#ifndef PCI_PROGRAMMING_INTERFACE_MSC_NVM_EXPRESS
#define PCI_PROGRAMMING_INTERFACE_MSC_NVM_EXPRESS 0x02
#endif

#ifndef RTL_QUERY_REGISTRY_TYPECHECK
#define RTL_QUERY_REGISTRY_TYPECHECK 0x00000100
#define RTL_QUERY_REGISTRY_TYPECHECK_SHIFT 24
#define RTL_QUERY_REGISTRY_TYPECHECK_MASK (0xff << RTL_QUERY_REGISTRY_TYPECHECK_SHIFT)
#endif

typedef VOID(NTAPI INTERFACE_REFERENCE)(_In_ PVOID Context);
typedef VOID(NTAPI INTERFACE_DEREFERENCE)(_In_ PVOID Context);

typedef NTSTATUS(NTAPI DRIVER_DISPATCH_PAGED)(_In_ struct _DEVICE_OBJECT *DeviceObject,
                                              _Inout_ struct _IRP *Irp);
typedef DRIVER_DISPATCH_PAGED *PDRIVER_DISPATCH_PAGED;

typedef VOID(NTAPI EXPAND_STACK_CALLOUT)(_In_opt_ PVOID Parameter);
typedef VOID(NTAPI IO_APC_ROUTINE)(_In_ PVOID ApcContext,
                                   _In_ struct _IO_STATUS_BLOCK *IoStatusBlock,
                                   _In_ ULONG Reserved);

#ifndef Add2Ptr
#define Add2Ptr(Pointer, Bytes) ((PVOID)((PUCHAR)(Pointer) + (Bytes)))
#define PtrOffset(Base, Pointer) ((ULONG)((ULONG_PTR)(Pointer) - (ULONG_PTR)(Base)))
#endif

FORCEINLINE BOOLEAN IsListEmptyNoFence(_In_ const LIST_ENTRY *ListHead)
{
    return ListHead->Flink == ListHead;
}

// -------------------------------------------------------------------------------------------------
// Ke.

NTKERNELAPI VOID NTAPI KeQuerySystemTimePrecise(_Out_ PLARGE_INTEGER CurrentTime);
NTKERNELAPI ULONG64 NTAPI KeQueryInterruptTimePrecise(_Out_ PULONG64 QpcTimeStamp);
NTKERNELAPI ULONGLONG NTAPI KeQueryUnbiasedInterruptTimePrecise(_Out_ PULONG64 QpcTimeStamp);

NTKERNELAPI NTSTATUS NTAPI KeExpandKernelStackAndCalloutEx(_In_ EXPAND_STACK_CALLOUT *Callout,
                                                           _In_opt_ PVOID Parameter,
                                                           _In_ SIZE_T Size, _In_ BOOLEAN Wait,
                                                           _In_opt_ PVOID Context);

// A macro of mingw-w64 with a semicolon of its own. It is for records of more than one kind.
#undef KeInitializeCallbackRecord
#define KeInitializeCallbackRecord(CallbackRecord) ((CallbackRecord)->State = BufferEmpty)

// The x87 and SSE registers of a driver need no saving on x64.
#ifndef KeSaveFloatingPointState
FORCEINLINE NTSTATUS KeSaveFloatingPointState(_Out_ PVOID FloatSave)
{
    UNREFERENCED_PARAMETER(FloatSave);
    return STATUS_SUCCESS;
}

FORCEINLINE NTSTATUS KeRestoreFloatingPointState(_In_ PVOID FloatSave)
{
    UNREFERENCED_PARAMETER(FloatSave);
    return STATUS_SUCCESS;
}
#endif

// KPCR.Number, as every image for x64 reads it. Stays true at DISPATCH_LEVEL only.
FORCEINLINE ULONG KeGetCurrentProcessorNumber(VOID)
{
    return __readgsword(0x184);
}

FORCEINLINE ULONG KeGetCurrentProcessorIndex(VOID)
{
    return KeGetCurrentProcessorNumberEx(NULL);
}

// -------------------------------------------------------------------------------------------------
// Ex: timers, reader-writer spin locks.

FORCEINLINE VOID ExInitializeDeleteTimerParameters(_Out_ PEXT_DELETE_PARAMETERS Parameters)
{
    RtlZeroMemory(Parameters, sizeof(*Parameters));
}

typedef volatile LONG EX_SPIN_LOCK, *PEX_SPIN_LOCK;

NTKERNELAPI KIRQL NTAPI ExAcquireSpinLockShared(_Inout_ PEX_SPIN_LOCK SpinLock);
NTKERNELAPI VOID NTAPI ExReleaseSpinLockShared(_Inout_ PEX_SPIN_LOCK SpinLock, _In_ KIRQL OldIrql);
NTKERNELAPI VOID NTAPI ExAcquireSpinLockSharedAtDpcLevel(_Inout_ PEX_SPIN_LOCK SpinLock);
NTKERNELAPI VOID NTAPI ExReleaseSpinLockSharedFromDpcLevel(_Inout_ PEX_SPIN_LOCK SpinLock);
NTKERNELAPI KIRQL NTAPI ExAcquireSpinLockExclusive(_Inout_ PEX_SPIN_LOCK SpinLock);
NTKERNELAPI VOID NTAPI ExReleaseSpinLockExclusive(_Inout_ PEX_SPIN_LOCK SpinLock,
                                                  _In_ KIRQL OldIrql);
NTKERNELAPI VOID NTAPI ExAcquireSpinLockExclusiveAtDpcLevel(_Inout_ PEX_SPIN_LOCK SpinLock);
NTKERNELAPI VOID NTAPI ExReleaseSpinLockExclusiveFromDpcLevel(_Inout_ PEX_SPIN_LOCK SpinLock);
NTKERNELAPI LOGICAL NTAPI ExTryConvertSharedSpinLockExclusive(_Inout_ PEX_SPIN_LOCK SpinLock);

// -------------------------------------------------------------------------------------------------
// Ob and Io.

NTKERNELAPI NTSTATUS NTAPI ObCloseHandle(_In_ HANDLE Handle, _In_ KPROCESSOR_MODE PreviousMode);

NTKERNELAPI NTSTATUS NTAPI IoSynchronousCallDriver(_In_ PDEVICE_OBJECT DeviceObject, _In_ PIRP Irp);
NTKERNELAPI PIRP NTAPI IoAllocateIrpEx(_In_ PDEVICE_OBJECT DeviceObject, _In_ CCHAR StackSize,
                                       _In_ BOOLEAN ChargeQuota);
NTKERNELAPI VOID NTAPI IoInitializeIrpEx(_Inout_ PIRP Irp, _In_ PDEVICE_OBJECT DeviceObject,
                                         _In_ USHORT PacketSize, _In_ CCHAR StackSize);
NTKERNELAPI NTSTATUS NTAPI IoGetActivityIdIrp(_In_ PIRP Irp, _Out_ LPGUID Guid);
NTKERNELAPI NTSTATUS NTAPI IoSetActivityIdIrp(_Inout_ PIRP Irp, _In_opt_ LPCGUID Guid);

#ifndef CONNECT_MESSAGE_BASED_PASSIVE
#define CONNECT_MESSAGE_BASED_PASSIVE 0x5
#endif

typedef struct _IO_REPORT_INTERRUPT_ACTIVE_STATE_PARAMETERS {
    ULONG Version;
    union {
        PVOID Generic;
        struct _KINTERRUPT *InterruptObject;
        struct _IO_INTERRUPT_MESSAGE_INFO *InterruptMessageTable;
    } ConnectionContext;
} IO_REPORT_INTERRUPT_ACTIVE_STATE_PARAMETERS, *PIO_REPORT_INTERRUPT_ACTIVE_STATE_PARAMETERS;

NTKERNELAPI VOID NTAPI
IoReportInterruptActive(_In_ PIO_REPORT_INTERRUPT_ACTIVE_STATE_PARAMETERS Parameters);
NTKERNELAPI VOID NTAPI
IoReportInterruptInactive(_In_ PIO_REPORT_INTERRUPT_ACTIVE_STATE_PARAMETERS Parameters);

// -------------------------------------------------------------------------------------------------
// Rtl.

DECLSPEC_NORETURN NTSYSAPI VOID NTAPI RtlRaiseStatus(_In_ NTSTATUS Status);
NTSYSAPI NTSTATUS NTAPI RtlInitUnicodeStringEx(_Out_ PUNICODE_STRING DestinationString,
                                               _In_opt_ PCWSTR SourceString);
NTSYSAPI BOOLEAN NTAPI RtlIsZeroMemory(_In_ PVOID Buffer, _In_ SIZE_T Length);
