// What drivers do for a system with users and a page file, and what comes of it in this one: user
// addresses that are never there, code that is never paged out, notifications that never come.

#include <except.h>
#include <sysddk.h>

#include "kernel/inc/ke.h"
#include "mm/mm.h"

// [x64] The lower half of 47-bit addresses, without its last 64 KiB.
#define FIRST_SYSTEM_ADDRESS 0xFFFF800000000000ull
#define USER_PROBE_ADDRESS 0x00007FFFFFFF0000ull

PVOID MmHighestUserAddress = (PVOID)(USER_PROBE_ADDRESS - 1);
PVOID MmSystemRangeStart = (PVOID)FIRST_SYSTEM_ADDRESS;
ULONG64 MmUserProbeAddress = USER_PROBE_ADDRESS;

static VOID ExpProbe(ULONG_PTR Address, SIZE_T Length, ULONG Alignment)
{
    if (Alignment != 0 && (Address & (Alignment - 1)) != 0) {
        ExRaiseDatatypeMisalignment();
    }
    if (Length > USER_PROBE_ADDRESS || Address > USER_PROBE_ADDRESS - Length) {
        ExRaiseAccessViolation();
    }
}

VOID NTAPI ProbeForRead(const VOID *Address, SIZE_T Length, ULONG Alignment)
{
    if (Length != 0) {
        ExpProbe((ULONG_PTR)Address, Length, Alignment);
    }
}

VOID NTAPI ProbeForWrite(PVOID Address, SIZE_T Length, ULONG Alignment)
{
    if (Length == 0) {
        return;
    }
    ExpProbe((ULONG_PTR)Address, Length, Alignment);
    ULONG64 Value;
    if (KeProbeRead(Address, &Value).Faulted) {
        ExRaiseAccessViolation();
    }
}

HANDLE NTAPI MmSecureVirtualMemory(PVOID Address, SIZE_T Size, ULONG ProbeMode)
{
    UNREFERENCED_PARAMETER(Address);
    UNREFERENCED_PARAMETER(Size);
    UNREFERENCED_PARAMETER(ProbeMode);
    return NULL;
}

VOID NTAPI MmUnsecureVirtualMemory(HANDLE SecureHandle)
{
    UNREFERENCED_PARAMETER(SecureHandle);
}

// -------------------------------------------------------------------------------------------------
// Paging. An address is as good a handle as any.

PVOID NTAPI MmLockPagableDataSection(PVOID AddressWithinSection)
{
    return AddressWithinSection;
}

VOID NTAPI MmLockPagableSectionByHandle(PVOID ImageSectionHandle)
{
    UNREFERENCED_PARAMETER(ImageSectionHandle);
}

VOID NTAPI MmUnlockPagableImageSection(PVOID ImageSectionHandle)
{
    UNREFERENCED_PARAMETER(ImageSectionHandle);
}

PVOID NTAPI MmPageEntireDriver(PVOID AddressWithinSection)
{
    return AddressWithinSection;
}

VOID NTAPI MmResetDriverPaging(PVOID AddressWithinSection)
{
    UNREFERENCED_PARAMETER(AddressWithinSection);
}

// -------------------------------------------------------------------------------------------------
// The verifier.

#define STANDARD_VERIFIER_FLAGS 0x000209BB // what `verifier /standard` switches on

LOGICAL NTAPI MmIsDriverVerifying(PDRIVER_OBJECT DriverObject)
{
    UNREFERENCED_PARAMETER(DriverObject);
    return MmVerifierLevel != 0;
}

LOGICAL NTAPI MmIsDriverVerifyingByAddress(PVOID AddressWithinSection)
{
    UNREFERENCED_PARAMETER(AddressWithinSection);
    return MmVerifierLevel != 0;
}

NTSTATUS NTAPI MmIsVerifierEnabled(PULONG VerifierFlags)
{
    *VerifierFlags = MmVerifierLevel != 0 ? STANDARD_VERIFIER_FLAGS : 0;
    return MmVerifierLevel != 0 ? STATUS_SUCCESS : STATUS_NOT_SUPPORTED;
}

// -------------------------------------------------------------------------------------------------
// RAM in three sizes.

#define MEDIUM_SYSTEM_BYTES (64ull << 20)
#define LARGE_SYSTEM_BYTES (256ull << 20)

MM_SYSTEMSIZE NTAPI MmQuerySystemSize(VOID)
{
    PPHYSICAL_MEMORY_RANGE Ranges = MmGetPhysicalMemoryRanges();
    if (Ranges == NULL) {
        return MmSmallSystem;
    }
    ULONG64 ByteCount = 0;
    for (PPHYSICAL_MEMORY_RANGE Range = Ranges; Range->NumberOfBytes.QuadPart != 0; Range += 1) {
        ByteCount += (ULONG64)Range->NumberOfBytes.QuadPart;
    }
    ExFreePool(Ranges);
    return ByteCount >= LARGE_SYSTEM_BYTES    ? MmLargeSystem
           : ByteCount >= MEDIUM_SYSTEM_BYTES ? MmMediumSystem
                                              : MmSmallSystem;
}

// -------------------------------------------------------------------------------------------------
// Notifications.

#define NOTIFY_LIMIT 64

typedef struct _EXP_NOTIFY_TABLE {
    KSPIN_LOCK Lock;
    PVOID Routines[NOTIFY_LIMIT];
} EXP_NOTIFY_TABLE;

static EXP_NOTIFY_TABLE ExpProcessNotify, ExpThreadNotify;

// Puts New where Old is (NULL: a free place). FALSE: Old is nowhere.
static BOOLEAN ExpReplaceRoutine(EXP_NOTIFY_TABLE *Table, PVOID Old, PVOID New)
{
    for (ULONG Index = 0; Index < NOTIFY_LIMIT; Index += 1) {
        if (Table->Routines[Index] == Old) {
            Table->Routines[Index] = New;
            return TRUE;
        }
    }
    return FALSE;
}

static NTSTATUS ExpChangeNotify(EXP_NOTIFY_TABLE *Table, PVOID Routine, BOOLEAN Remove)
{
    NTSTATUS Status = STATUS_SUCCESS;
    KIRQL OldIrql;
    KeAcquireSpinLock(&Table->Lock, &OldIrql);
    if (Routine == NULL) {
        Status = STATUS_INVALID_PARAMETER;
    } else if (Remove) {
        Status =
            ExpReplaceRoutine(Table, Routine, NULL) ? STATUS_SUCCESS : STATUS_INVALID_PARAMETER;
    } else if (ExpReplaceRoutine(Table, Routine, Routine)) {
        Status = STATUS_INVALID_PARAMETER;
    } else if (!ExpReplaceRoutine(Table, NULL, Routine)) {
        Status = STATUS_INSUFFICIENT_RESOURCES;
    }
    KeReleaseSpinLock(&Table->Lock, OldIrql);
    return Status;
}

NTSTATUS NTAPI PsSetCreateProcessNotifyRoutine(PCREATE_PROCESS_NOTIFY_ROUTINE NotifyRoutine,
                                               BOOLEAN Remove)
{
    return ExpChangeNotify(&ExpProcessNotify, (PVOID)NotifyRoutine, Remove);
}

NTSTATUS NTAPI PsSetCreateThreadNotifyRoutine(PCREATE_THREAD_NOTIFY_ROUTINE NotifyRoutine)
{
    return ExpChangeNotify(&ExpThreadNotify, (PVOID)NotifyRoutine, FALSE);
}

NTSTATUS NTAPI PsRemoveCreateThreadNotifyRoutine(PCREATE_THREAD_NOTIFY_ROUTINE NotifyRoutine)
{
    return ExpChangeNotify(&ExpThreadNotify, (PVOID)NotifyRoutine, TRUE);
}

// -------------------------------------------------------------------------------------------------
// Processor state: the context switch and the interrupt entries save what drivers use.

#define XSTATE_MASK_LEGACY 3ull // x87 and SSE
#define CACHE_LINE_BYTES 64

NTSTATUS NTAPI KeSaveFloatingPointState(PKFLOATING_SAVE FloatSave)
{
    FloatSave->Dummy = 0;
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI KeRestoreFloatingPointState(PKFLOATING_SAVE FloatSave)
{
    UNREFERENCED_PARAMETER(FloatSave);
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI KeSaveExtendedProcessorState(ULONG64 Mask, struct _XSTATE_SAVE *XStateSave)
{
    UNREFERENCED_PARAMETER(XStateSave);
    return (Mask & ~XSTATE_MASK_LEGACY) == 0 ? STATUS_SUCCESS : STATUS_NOT_SUPPORTED;
}

VOID NTAPI KeRestoreExtendedProcessorState(struct _XSTATE_SAVE *XStateSave)
{
    UNREFERENCED_PARAMETER(XStateSave);
}

ULONG64 NTAPI RtlGetEnabledExtendedFeatures(ULONG64 FeatureMask)
{
    return FeatureMask & XSTATE_MASK_LEGACY;
}

ULONG NTAPI KeGetRecommendedSharedDataAlignment(VOID)
{
    return CACHE_LINE_BYTES;
}
