// What drivers ask the system about itself, and tell it: versions, user addresses, paging, debugger,
// notifications, saved processor state.
#pragma once

#include <ntdef.h>
#include <ntstatus.h>

#include <ioddk.h>
#include <keddk.h>

// -------------------------------------------------------------------------------------------------
// Versions: this kernel says that it is Windows 10, version 2004.

typedef struct _OSVERSIONINFOW {
    ULONG dwOSVersionInfoSize;
    ULONG dwMajorVersion;
    ULONG dwMinorVersion;
    ULONG dwBuildNumber;
    ULONG dwPlatformId;
    WCHAR szCSDVersion[128];
} OSVERSIONINFOW, *POSVERSIONINFOW, RTL_OSVERSIONINFOW, *PRTL_OSVERSIONINFOW;

typedef struct _OSVERSIONINFOEXW {
    ULONG dwOSVersionInfoSize;
    ULONG dwMajorVersion;
    ULONG dwMinorVersion;
    ULONG dwBuildNumber;
    ULONG dwPlatformId;
    WCHAR szCSDVersion[128];
    USHORT wServicePackMajor;
    USHORT wServicePackMinor;
    USHORT wSuiteMask;
    UCHAR wProductType;
    UCHAR wReserved;
} OSVERSIONINFOEXW, *POSVERSIONINFOEXW, RTL_OSVERSIONINFOEXW, *PRTL_OSVERSIONINFOEXW;

C_ASSERT(sizeof(OSVERSIONINFOW) == 0x114 && sizeof(OSVERSIONINFOEXW) == 0x11C);

#define VER_EQUAL 1
#define VER_GREATER 2
#define VER_GREATER_EQUAL 3
#define VER_LESS 4
#define VER_LESS_EQUAL 5
#define VER_AND 6
#define VER_OR 7

#define VER_MINORVERSION 0x0000001
#define VER_MAJORVERSION 0x0000002
#define VER_BUILDNUMBER 0x0000004
#define VER_PLATFORMID 0x0000008
#define VER_SERVICEPACKMINOR 0x0000010
#define VER_SERVICEPACKMAJOR 0x0000020
#define VER_SUITENAME 0x0000040
#define VER_PRODUCT_TYPE 0x0000080

#define VER_NT_WORKSTATION 0x0000001
#define VER_PLATFORM_WIN32_NT 2

// STATUS_SUCCESS. The structure's size says which of the two it is.
NTSTATUS NTAPI RtlGetVersion(_Inout_ PRTL_OSVERSIONINFOW lpVersionInformation);
// STATUS_REVISION_MISMATCH: not such a version. STATUS_INVALID_PARAMETER: nothing to compare.
NTSTATUS NTAPI RtlVerifyVersionInfo(_In_ PRTL_OSVERSIONINFOEXW VersionInfo, _In_ ULONG TypeMask,
                                    _In_ ULONGLONG ConditionMask);
ULONGLONG NTAPI VerSetConditionMask(_In_ ULONGLONG ConditionMask, _In_ ULONG TypeMask,
                                    _In_ UCHAR Condition);
BOOLEAN NTAPI RtlIsNtDdiVersionAvailable(_In_ ULONG Version);
BOOLEAN NTAPI RtlIsServicePackVersionInstalled(_In_ ULONG Version);
// FALSE: a free build. CSDVersion becomes empty.
BOOLEAN NTAPI PsGetVersion(_Out_opt_ PULONG MajorVersion, _Out_opt_ PULONG MinorVersion,
                           _Out_opt_ PULONG BuildNumber, _Out_opt_ PUNICODE_STRING CSDVersion);

extern ULONG NtBuildNumber;
extern ULONG InitSafeBootMode;

typedef enum _MM_SYSTEM_SIZE { MmSmallSystem, MmMediumSystem, MmLargeSystem } MM_SYSTEMSIZE;

MM_SYSTEMSIZE NTAPI MmQuerySystemSize(VOID);
BOOLEAN NTAPI MmIsThisAnNtAsSystem(VOID); // FALSE

// -------------------------------------------------------------------------------------------------
// User addresses: none is ever mapped (ours: there are no processes).

extern PVOID MmHighestUserAddress;
extern PVOID MmSystemRangeStart;
extern ULONG64 MmUserProbeAddress;

// Raise STATUS_DATATYPE_MISALIGNMENT, or STATUS_ACCESS_VIOLATION when the range is not one of user
// addresses; ProbeForWrite also when it cannot be written. No bytes are never wrong. IRQL <= APC_LEVEL.
VOID NTAPI ProbeForRead(_In_ const VOID *Address, _In_ SIZE_T Length, _In_ ULONG Alignment);
VOID NTAPI ProbeForWrite(_Inout_ PVOID Address, _In_ SIZE_T Length, _In_ ULONG Alignment);

// NULL: not user memory. MmUnsecureVirtualMemory does nothing.
HANDLE NTAPI MmSecureVirtualMemory(_In_ PVOID Address, _In_ SIZE_T Size, _In_ ULONG ProbeMode);
VOID NTAPI MmUnsecureVirtualMemory(_In_ HANDLE SecureHandle);

// -------------------------------------------------------------------------------------------------
// Paging of drivers: their code is never paged out, so that the handles mean nothing.

PVOID NTAPI MmLockPagableDataSection(_In_ PVOID AddressWithinSection);
VOID NTAPI MmLockPagableSectionByHandle(_In_ PVOID ImageSectionHandle);
VOID NTAPI MmUnlockPagableImageSection(_In_ PVOID ImageSectionHandle);
PVOID NTAPI MmPageEntireDriver(_In_ PVOID AddressWithinSection);
VOID NTAPI MmResetDriverPaging(_In_ PVOID AddressWithinSection);

// Whether the verifier is on, for all drivers or for none. *VerifierFlags: the standard ones.
LOGICAL NTAPI MmIsDriverVerifying(_In_ struct _DRIVER_OBJECT *DriverObject);
LOGICAL NTAPI MmIsDriverVerifyingByAddress(_In_ PVOID AddressWithinSection);
NTSTATUS NTAPI MmIsVerifierEnabled(_Out_ PULONG VerifierFlags);

// -------------------------------------------------------------------------------------------------
// Debugger: there is none. What is printed goes to the console, whatever its component and level,
// until DbgSetDebugFilterState says otherwise (ours: NT shows only errors at first).

#define DPFLTR_ERROR_LEVEL 0
#define DPFLTR_WARNING_LEVEL 1
#define DPFLTR_TRACE_LEVEL 2
#define DPFLTR_INFO_LEVEL 3

ULONG NTAPI DbgPrintEx(_In_ ULONG ComponentId, _In_ ULONG Level,
                       _In_z_ _Printf_format_string_ PCSTR Format, ...);
ULONG NTAPI DbgPrintReturnControlC(_In_z_ _Printf_format_string_ PCCH Format, ...);
ULONG NTAPI vDbgPrintEx(_In_ ULONG ComponentId, _In_ ULONG Level, _In_z_ PCCH Format,
                        _In_ __builtin_ms_va_list ap);
ULONG NTAPI vDbgPrintExWithPrefix(_In_z_ PCCH Prefix, _In_ ULONG ComponentId, _In_ ULONG Level,
                                  _In_z_ PCCH Format, _In_ __builtin_ms_va_list ap);
// Level: below 32 a bit's number, else a mask. TRUE (as a status): such a text is shown.
NTSTATUS NTAPI DbgQueryDebugFilterState(_In_ ULONG ComponentId, _In_ ULONG Level);
// STATUS_INVALID_PARAMETER_1: no such component.
NTSTATUS NTAPI DbgSetDebugFilterState(_In_ ULONG ComponentId, _In_ ULONG Level, _In_ BOOLEAN State);

// A breakpoint that nobody handles stops the machine.
VOID NTAPI DbgBreakPoint(VOID);
VOID NTAPI DbgBreakPointWithStatus(_In_ ULONG Status);
// Prints the question and has no answer: 0 characters.
ULONG NTAPI DbgPrompt(_In_z_ PCCH Prompt, _Out_writes_bytes_(MaximumResponseLength) PCHAR Response,
                      _In_ ULONG MaximumResponseLength);

NTSTATUS NTAPI KdDisableDebugger(VOID); // STATUS_DEBUGGER_INACTIVE
NTSTATUS NTAPI KdEnableDebugger(VOID);  // STATUS_DEBUGGER_INACTIVE
BOOLEAN NTAPI KdRefreshDebuggerNotPresent(VOID);

// -------------------------------------------------------------------------------------------------
// Notifications of processes, threads and images: accepted, up to 64 of a kind, and never called
// (ours: there are no processes; threads and images are the system's own).
// STATUS_INVALID_PARAMETER: registered already, or (to remove) never. STATUS_INSUFFICIENT_RESOURCES.

typedef VOID(NTAPI *PCREATE_PROCESS_NOTIFY_ROUTINE)(_In_ HANDLE ParentId, _In_ HANDLE ProcessId,
                                                    _In_ BOOLEAN Create);
typedef VOID(NTAPI *PCREATE_THREAD_NOTIFY_ROUTINE)(_In_ HANDLE ProcessId, _In_ HANDLE ThreadId,
                                                   _In_ BOOLEAN Create);
NTSTATUS NTAPI PsSetCreateProcessNotifyRoutine(_In_ PCREATE_PROCESS_NOTIFY_ROUTINE NotifyRoutine,
                                               _In_ BOOLEAN Remove);
NTSTATUS NTAPI PsSetCreateThreadNotifyRoutine(_In_ PCREATE_THREAD_NOTIFY_ROUTINE NotifyRoutine);
NTSTATUS NTAPI PsRemoveCreateThreadNotifyRoutine(_In_ PCREATE_THREAD_NOTIFY_ROUTINE NotifyRoutine);

// -------------------------------------------------------------------------------------------------
// Processor state. Drivers may use SSE at any time; there is nothing to save. IRQL <= DISPATCH_LEVEL.

typedef struct _KFLOATING_SAVE {
    ULONG Dummy;
} KFLOATING_SAVE, *PKFLOATING_SAVE;

NTSTATUS NTAPI KeSaveFloatingPointState(_Out_ PKFLOATING_SAVE FloatSave);
NTSTATUS NTAPI KeRestoreFloatingPointState(_In_ PKFLOATING_SAVE FloatSave);

struct _XSTATE_SAVE;
// STATUS_NOT_SUPPORTED: Mask asks for more than x87 and SSE.
NTSTATUS NTAPI KeSaveExtendedProcessorState(_In_ ULONG64 Mask,
                                            _Out_ struct _XSTATE_SAVE *XStateSave);
VOID NTAPI KeRestoreExtendedProcessorState(_In_ struct _XSTATE_SAVE *XStateSave);
ULONG64 NTAPI RtlGetEnabledExtendedFeatures(_In_ ULONG64 FeatureMask);

ULONG NTAPI KeGetRecommendedSharedDataAlignment(VOID);
