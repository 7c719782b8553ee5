// <ntddk.h> of mingw-w64, and what it lacks: see wdm.h. (It includes <wdm.h>, which is ours.)
#pragma once

#include <wdm.h>

// <wdm.h> has brought them.
#define KeGetCurrentProcessorNumber KiMingwProcessorNumber
#define _CONTEXT _MINGW_CONTEXT
#define CONTEXT MINGW_CONTEXT
#include_next <ntddk.h>
#undef _CONTEXT
#undef CONTEXT
#undef KeGetCurrentProcessorNumber

// mingw-w64 has them in a section for legacy drivers only.
NTHALAPI ULONG NTAPI HalGetInterruptVector(_In_ INTERFACE_TYPE InterfaceType, _In_ ULONG BusNumber,
                                           _In_ ULONG BusInterruptLevel,
                                           _In_ ULONG BusInterruptVector, _Out_ PKIRQL Irql,
                                           _Out_ PKAFFINITY Affinity);
NTHALAPI ULONG NTAPI HalGetBusData(_In_ BUS_DATA_TYPE BusDataType, _In_ ULONG BusNumber,
                                   _In_ ULONG SlotNumber, _Out_writes_bytes_(Length) PVOID Buffer,
                                   _In_ ULONG Length);
NTHALAPI ULONG NTAPI HalSetBusData(_In_ BUS_DATA_TYPE BusDataType, _In_ ULONG BusNumber,
                                   _In_ ULONG SlotNumber, _In_reads_bytes_(Length) PVOID Buffer,
                                   _In_ ULONG Length);

typedef VOID(NTAPI DRIVER_REINITIALIZE)(_In_ struct _DRIVER_OBJECT *DriverObject,
                                        _In_opt_ PVOID Context, _In_ ULONG Count);
