// Power: requests of device states by power IRPs, and everything else that a system does which
// never sleeps: nothing.

#include <poddk.h>

#include "kernel/inc/ke.h"
#include "kernel/io/iop.h"

#define PO_TAG 'rewP'

NTSTATUS NTAPI PoCallDriver(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    return IoCallDriver(DeviceObject, Irp);
}

VOID NTAPI PoStartNextPowerIrp(PIRP Irp)
{
    UNREFERENCED_PARAMETER(Irp);
}

// -------------------------------------------------------------------------------------------------
// Requests. The IRP has one location more than the stack below needs: what the completion routine
// must know lies in it, and the device that it was asked for.

typedef struct _POP_REQUEST {
    PDEVICE_OBJECT DeviceObject; // as the caller named it
    PDEVICE_OBJECT Target;       // referenced
    PREQUEST_POWER_COMPLETE Complete;
    PVOID Context;
    POWER_STATE State;
    UCHAR MinorFunction;
} POP_REQUEST, *PPOP_REQUEST;

static NTSTATUS NTAPI PopRequestCompleted(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    const PPOP_REQUEST Request = Context;
    IO_STATUS_BLOCK IoStatus = Irp->IoStatus;
    if (Request->Complete != NULL) {
        Request->Complete(Request->DeviceObject, Request->MinorFunction, Request->State,
                          Request->Context, &IoStatus);
    }
    IoFreeIrp(Irp);
    ObDereferenceObject(Request->Target);
    ExFreePoolWithTag(Request, PO_TAG);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

NTSTATUS NTAPI PoRequestPowerIrp(PDEVICE_OBJECT DeviceObject, UCHAR MinorFunction,
                                 POWER_STATE PowerState, PREQUEST_POWER_COMPLETE CompletionFunction,
                                 PVOID Context, PIRP *Irp)
{
    if (MinorFunction != IRP_MN_WAIT_WAKE && MinorFunction != IRP_MN_SET_POWER &&
        MinorFunction != IRP_MN_QUERY_POWER) {
        return STATUS_INVALID_PARAMETER_2;
    }
    PPOP_REQUEST Request = ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(POP_REQUEST), PO_TAG);
    if (Request == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    PDEVICE_OBJECT Target = IoGetAttachedDeviceReference(DeviceObject);
    PIRP NewIrp = IoAllocateIrp(Target->StackSize, FALSE);
    if (NewIrp == NULL) {
        ObDereferenceObject(Target);
        ExFreePoolWithTag(Request, PO_TAG);
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    *Request =
        (POP_REQUEST){DeviceObject, Target, CompletionFunction, Context, PowerState, MinorFunction};
    NewIrp->IoStatus.Status = STATUS_NOT_SUPPORTED;
    PIO_STACK_LOCATION Location = IoGetNextIrpStackLocation(NewIrp);
    Location->MajorFunction = IRP_MJ_POWER;
    Location->MinorFunction = MinorFunction;
    Location->Parameters.Power.Type = DevicePowerState;
    Location->Parameters.Power.State = (ULONG)PowerState.DeviceState;
    IoSetCompletionRoutine(NewIrp, PopRequestCompleted, Request, TRUE, TRUE, TRUE);
    // It may be gone when the call returns, but nobody may cancel another kind than this one.
    if (Irp != NULL && MinorFunction == IRP_MN_WAIT_WAKE) {
        *Irp = NewIrp;
    }
    (VOID) PoCallDriver(Target, NewIrp);
    return STATUS_PENDING;
}

// -------------------------------------------------------------------------------------------------
// States of devices: in the part of the device object that only Io knows.
//   bits 0 .. 3  system state     bits 4 .. 7  device state

#define PO_SYSTEM_MASK 0x0Fu
#define PO_DEVICE_SHIFT 4
#define PO_DEVICE_MASK 0xF0u

POWER_STATE NTAPI PoSetPowerState(PDEVICE_OBJECT DeviceObject, POWER_STATE_TYPE Type,
                                  POWER_STATE State)
{
    PULONG Flags = &IopDeviceOf(DeviceObject)->PowerStates;
    const ULONG Mask = Type == SystemPowerState ? PO_SYSTEM_MASK : PO_DEVICE_MASK;
    const ULONG New = Type == SystemPowerState ? (ULONG)State.SystemState
                                               : (ULONG)State.DeviceState << PO_DEVICE_SHIFT;
    ULONG Old = __atomic_load_n(Flags, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(Flags, &Old, (Old & ~Mask) | (New & Mask), FALSE,
                                        __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
    }
    POWER_STATE Before;
    if (Type == SystemPowerState) {
        const ULONG SystemState = Old & PO_SYSTEM_MASK;
        Before.SystemState =
            SystemState == 0 ? PowerSystemWorking : (SYSTEM_POWER_STATE)SystemState;
    } else {
        Before.DeviceState = (DEVICE_POWER_STATE)((Old & PO_DEVICE_MASK) >> PO_DEVICE_SHIFT);
    }
    return Before;
}

// -------------------------------------------------------------------------------------------------
// Idle devices, a busy system, settings.

PULONG NTAPI PoRegisterDeviceForIdleDetection(PDEVICE_OBJECT DeviceObject,
                                              ULONG ConservationIdleTime, ULONG PerformanceIdleTime,
                                              DEVICE_POWER_STATE State)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    UNREFERENCED_PARAMETER(ConservationIdleTime);
    UNREFERENCED_PARAMETER(PerformanceIdleTime);
    UNREFERENCED_PARAMETER(State);
    return NULL;
}

VOID NTAPI PoSetDeviceBusyEx(PULONG IdlePointer)
{
    UNREFERENCED_PARAMETER(IdlePointer);
}

VOID NTAPI PoStartDeviceBusy(PULONG IdlePointer)
{
    UNREFERENCED_PARAMETER(IdlePointer);
}

VOID NTAPI PoEndDeviceBusy(PULONG IdlePointer)
{
    UNREFERENCED_PARAMETER(IdlePointer);
}

VOID NTAPI PoSetSystemState(EXECUTION_STATE Flags)
{
    UNREFERENCED_PARAMETER(Flags);
}

static UCHAR PopSystemStateHandle; // only its address counts

PVOID NTAPI PoRegisterSystemState(PVOID StateHandle, EXECUTION_STATE Flags)
{
    UNREFERENCED_PARAMETER(Flags);
    return StateHandle != NULL ? StateHandle : &PopSystemStateHandle;
}

VOID NTAPI PoUnregisterSystemState(PVOID StateHandle)
{
    UNREFERENCED_PARAMETER(StateHandle);
}

VOID NTAPI PoSetSystemWake(PIRP Irp)
{
    UNREFERENCED_PARAMETER(Irp);
}

BOOLEAN NTAPI PoGetSystemWake(PIRP Irp)
{
    UNREFERENCED_PARAMETER(Irp);
    return FALSE;
}

BOOLEAN NTAPI PoQueryWatchdogTime(PDEVICE_OBJECT Pdo, PULONG SecondsRemaining)
{
    UNREFERENCED_PARAMETER(Pdo);
    *SecondsRemaining = 0;
    return FALSE;
}

// A registration is a block of pool, so that one that is never taken back is found as a leak.
NTSTATUS NTAPI PoRegisterPowerSettingCallback(PDEVICE_OBJECT DeviceObject, const GUID *SettingGuid,
                                              PPOWER_SETTING_CALLBACK Callback, PVOID Context,
                                              PVOID *Handle)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    UNREFERENCED_PARAMETER(SettingGuid);
    UNREFERENCED_PARAMETER(Callback);
    UNREFERENCED_PARAMETER(Context);
    if (Handle == NULL) {
        return STATUS_SUCCESS;
    }
    *Handle = ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(GUID), PO_TAG);
    return *Handle != NULL ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;
}

NTSTATUS NTAPI PoUnregisterPowerSettingCallback(PVOID Handle)
{
    if (Handle == NULL) {
        return STATUS_INVALID_PARAMETER;
    }
    ExFreePoolWithTag(Handle, PO_TAG);
    return STATUS_SUCCESS;
}
