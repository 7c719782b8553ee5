// Versions: what this kernel says it is.

#include <sysddk.h>

#include "kernel/inc/ke.h"

#define VERSION_MAJOR 10
#define VERSION_MINOR 0
#define VERSION_BUILD 19041
#define VERSION_NTDDI 0x0A000008 // Windows 10, version 2004

#define BUILD_IS_FREE 0xF0000000
#define BUILD_IS_CHECKED 0xC0000000

ULONG NtBuildNumber = VERSION_BUILD | (DBG ? BUILD_IS_CHECKED : BUILD_IS_FREE);
ULONG InitSafeBootMode = 0;

NTSTATUS NTAPI RtlGetVersion(PRTL_OSVERSIONINFOW lpVersionInformation)
{
    lpVersionInformation->dwMajorVersion = VERSION_MAJOR;
    lpVersionInformation->dwMinorVersion = VERSION_MINOR;
    lpVersionInformation->dwBuildNumber = VERSION_BUILD;
    lpVersionInformation->dwPlatformId = VER_PLATFORM_WIN32_NT;
    lpVersionInformation->szCSDVersion[0] = 0;
    if (lpVersionInformation->dwOSVersionInfoSize == sizeof(RTL_OSVERSIONINFOEXW)) {
        const PRTL_OSVERSIONINFOEXW Extended = (PRTL_OSVERSIONINFOEXW)lpVersionInformation;
        Extended->wServicePackMajor = 0;
        Extended->wServicePackMinor = 0;
        Extended->wSuiteMask = 0;
        Extended->wProductType = VER_NT_WORKSTATION;
        Extended->wReserved = 0;
    }
    return STATUS_SUCCESS;
}

BOOLEAN NTAPI PsGetVersion(PULONG MajorVersion, PULONG MinorVersion, PULONG BuildNumber,
                           PUNICODE_STRING CSDVersion)
{
    if (MajorVersion != NULL) {
        *MajorVersion = VERSION_MAJOR;
    }
    if (MinorVersion != NULL) {
        *MinorVersion = VERSION_MINOR;
    }
    if (BuildNumber != NULL) {
        *BuildNumber = VERSION_BUILD;
    }
    if (CSDVersion != NULL) {
        *CSDVersion = (UNICODE_STRING){0, 0, NULL};
    }
    return NtBuildNumber >> 28 == BUILD_IS_CHECKED >> 28;
}

// -------------------------------------------------------------------------------------------------
// Comparing. A condition mask has three bits for each bit of a type mask.

#define CONDITION_BITS 3
#define CONDITION_MASK 7

ULONGLONG NTAPI VerSetConditionMask(ULONGLONG ConditionMask, ULONG TypeMask, UCHAR Condition)
{
    for (ULONG Bit = 0; TypeMask >> Bit != 0; Bit += 1) {
        if ((TypeMask >> Bit & 1) != 0) {
            ConditionMask |= (ULONGLONG)(Condition & CONDITION_MASK) << (Bit * CONDITION_BITS);
        }
    }
    return ConditionMask;
}

static ULONG ExpConditionOf(ULONGLONG ConditionMask, ULONG Type)
{
    const ULONG Bit = (ULONG)__builtin_ctz(Type);
    return (ULONG)(ConditionMask >> (Bit * CONDITION_BITS)) & CONDITION_MASK;
}

static BOOLEAN ExpCompare(LONG64 Actual, LONG64 Wanted, ULONG Condition)
{
    switch (Condition) {
    case VER_EQUAL:
        return Actual == Wanted;
    case VER_GREATER:
        return Actual > Wanted;
    case VER_GREATER_EQUAL:
        return Actual >= Wanted;
    case VER_LESS:
        return Actual < Wanted;
    case VER_LESS_EQUAL:
        return Actual <= Wanted;
    default:
        return FALSE;
    }
}

typedef struct _EXP_VERSION_PART {
    ULONG Type;
    LONG Wanted;
    LONG Actual;
} EXP_VERSION_PART;

#define VER_HIERARCHY                                                                              \
    (VER_MAJORVERSION | VER_MINORVERSION | VER_SERVICEPACKMAJOR | VER_SERVICEPACKMINOR)

// Major and minor version and service pack compare as one number, from the most significant part
// on: the first part that differs decides, by the condition of the first part that is asked for.
static BOOLEAN ExpCompareHierarchy(const EXP_VERSION_PART *Parts, ULONG Count, ULONG TypeMask,
                                   ULONGLONG ConditionMask)
{
    ULONG Condition = 0;
    for (ULONG Index = 0; Index < Count; Index += 1) {
        if ((TypeMask & Parts[Index].Type) == 0) {
            continue;
        }
        if (Condition == 0) {
            Condition = ExpConditionOf(ConditionMask, Parts[Index].Type);
        }
        if (Parts[Index].Actual != Parts[Index].Wanted) {
            return ExpCompare(Parts[Index].Actual, Parts[Index].Wanted, Condition);
        }
    }
    return Condition == 0 || ExpCompare(0, 0, Condition);
}

NTSTATUS NTAPI RtlVerifyVersionInfo(PRTL_OSVERSIONINFOEXW VersionInfo, ULONG TypeMask,
                                    ULONGLONG ConditionMask)
{
    if (TypeMask == 0 || ConditionMask == 0) {
        return STATUS_INVALID_PARAMETER;
    }
    const EXP_VERSION_PART Parts[] = {
        {VER_MAJORVERSION, (LONG)VersionInfo->dwMajorVersion, VERSION_MAJOR},
        {VER_MINORVERSION, (LONG)VersionInfo->dwMinorVersion, VERSION_MINOR},
        {VER_SERVICEPACKMAJOR, VersionInfo->wServicePackMajor, 0},
        {VER_SERVICEPACKMINOR, VersionInfo->wServicePackMinor, 0},
    };
    const EXP_VERSION_PART Single[] = {
        {VER_BUILDNUMBER, (LONG)VersionInfo->dwBuildNumber, VERSION_BUILD},
        {VER_PLATFORMID, (LONG)VersionInfo->dwPlatformId, VER_PLATFORM_WIN32_NT},
        {VER_PRODUCT_TYPE, VersionInfo->wProductType, VER_NT_WORKSTATION},
    };
    for (ULONG Index = 0; Index < ARRAYSIZE(Single); Index += 1) {
        if ((TypeMask & Single[Index].Type) != 0 &&
            !ExpCompare(Single[Index].Actual, Single[Index].Wanted,
                        ExpConditionOf(ConditionMask, Single[Index].Type))) {
            return STATUS_REVISION_MISMATCH;
        }
    }
    // No suite is installed: any of some is missing, all of none is there.
    if ((TypeMask & VER_SUITENAME) != 0 && VersionInfo->wSuiteMask != 0) {
        return STATUS_REVISION_MISMATCH;
    }
    return ExpCompareHierarchy(Parts, ARRAYSIZE(Parts), TypeMask & VER_HIERARCHY, ConditionMask)
               ? STATUS_SUCCESS
               : STATUS_REVISION_MISMATCH;
}

BOOLEAN NTAPI RtlIsNtDdiVersionAvailable(ULONG Version)
{
    return Version <= VERSION_NTDDI;
}

BOOLEAN NTAPI RtlIsServicePackVersionInstalled(ULONG Version)
{
    return Version <= VERSION_NTDDI;
}

BOOLEAN NTAPI MmIsThisAnNtAsSystem(VOID)
{
    return FALSE;
}
