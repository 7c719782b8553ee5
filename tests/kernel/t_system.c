// What drivers ask the system about itself: versions, user addresses, filters of what is printed.
#include <except.h>
#include <rtlddk.h>
#include <seddk.h>
#include <sysddk.h>

#include "kernel/inc/ke.h"
#include "kernel/inc/ldr.h"
#include "tests/kernel/tests.h"

static VOID TheVersionIsThatOfWindows10(VOID)
{
    RTL_OSVERSIONINFOEXW Version;
    ULONG Major, Minor, Build;
    UNICODE_STRING ServicePack;
    RtlFillMemory(&Version, sizeof(Version), 0xFF);
    Version.dwOSVersionInfoSize = sizeof(Version);
    KT_EQUAL(RtlGetVersion((PRTL_OSVERSIONINFOW)&Version), STATUS_SUCCESS);
    KT_EQUAL(Version.dwMajorVersion, 10);
    KT_CHECK(Version.dwBuildNumber >= 19041);
    KT_EQUAL(Version.wProductType, VER_NT_WORKSTATION);
    Version.dwOSVersionInfoSize = sizeof(RTL_OSVERSIONINFOW);
    Version.wProductType = 77;
    RtlGetVersion((PRTL_OSVERSIONINFOW)&Version);
    KT_EQUAL(Version.wProductType, 77); // behind the shorter structure
    PsGetVersion(&Major, &Minor, &Build, &ServicePack);
    KT_CHECK(Major == 10 && Minor == 0 && Build == Version.dwBuildNumber);
    KT_EQUAL(ServicePack.Length, 0);
    KT_EQUAL(NtBuildNumber & 0xFFFF, Build);
    KT_CHECK(RtlIsNtDdiVersionAvailable(0x06010000) && !RtlIsNtDdiVersionAvailable(0x0B000000));
}

typedef struct _VERSION_ROW {
    ULONG Major;
    ULONG Minor;
    UCHAR Condition;
    BOOLEAN IsMet;
} VERSION_ROW;

static VOID VersionsCompareAsAWhole(VOID)
{
    static const VERSION_ROW Rows[] = {
        {10, 0, VER_EQUAL, TRUE},      {10, 1, VER_EQUAL, FALSE},
        {6, 3, VER_GREATER, TRUE},     {10, 0, VER_GREATER_EQUAL, TRUE},
        {10, 1, VER_LESS, TRUE},       {11, 0, VER_GREATER_EQUAL, FALSE},
        {6, 3, VER_LESS_EQUAL, FALSE}, {10, 0, VER_GREATER, FALSE},
    };
    for (ULONG Index = 0; Index < ARRAYSIZE(Rows); Index += 1) {
        RTL_OSVERSIONINFOEXW Wanted = {.dwMajorVersion = Rows[Index].Major,
                                       .dwMinorVersion = Rows[Index].Minor};
        const ULONGLONG Mask =
            VerSetConditionMask(VerSetConditionMask(0, VER_MAJORVERSION, Rows[Index].Condition),
                                VER_MINORVERSION, Rows[Index].Condition);
        KtSetContext("row %u", Index);
        KT_EQUAL(RtlVerifyVersionInfo(&Wanted, VER_MAJORVERSION | VER_MINORVERSION, Mask),
                 Rows[Index].IsMet ? STATUS_SUCCESS : STATUS_REVISION_MISMATCH);
    }
    RTL_OSVERSIONINFOEXW Build = {.dwBuildNumber = 19000};
    KT_EQUAL(RtlVerifyVersionInfo(&Build, VER_BUILDNUMBER,
                                  VerSetConditionMask(0, VER_BUILDNUMBER, VER_GREATER_EQUAL)),
             STATUS_SUCCESS);
    KT_EQUAL(RtlVerifyVersionInfo(&Build, 0, 1), STATUS_INVALID_PARAMETER);
}

static NTSTATUS Probe(VOID(NTAPI *Routine)(const VOID *, SIZE_T, ULONG), ULONG64 Address,
                      SIZE_T Length, ULONG Alignment)
{
    NTSTATUS volatile Status = STATUS_SUCCESS;
    KmTry {
        Routine((const VOID *)Address, Length, Alignment);
    }
    KmCatch (Raised) {
        Status = Raised;
    }
    return Status;
}

static VOID NTAPI ProbeWrite(const VOID *Address, SIZE_T Length, ULONG Alignment)
{
    ProbeForWrite((PVOID)(ULONG_PTR)Address, Length, Alignment);
}

static VOID ProbesRaiseForWhatIsNotTheUsers(VOID)
{
    KT_EQUAL(Probe(ProbeForRead, 0x10000, 16, 4), STATUS_SUCCESS);
    KT_EQUAL(Probe(ProbeForRead, 0x10002, 16, 4), STATUS_DATATYPE_MISALIGNMENT);
    KT_EQUAL(Probe(ProbeForRead, 0x10002, 0, 4), STATUS_SUCCESS);
    KT_EQUAL(Probe(ProbeForRead, (ULONG_PTR)&KtExSuite, 16, 1), STATUS_ACCESS_VIOLATION);
    KT_EQUAL(Probe(ProbeForRead, MmUserProbeAddress - 8, 16, 1), STATUS_ACCESS_VIOLATION);
    KT_EQUAL(Probe(ProbeForRead, 0x10000, MAXSIZE_T, 1), STATUS_ACCESS_VIOLATION);
    KT_EQUAL(Probe(ProbeWrite, 0x10000, 16, 4), STATUS_ACCESS_VIOLATION); // nothing is mapped
    KT_EQUAL(Probe(ProbeWrite, 0x10000, 0, 4), STATUS_SUCCESS);
    KT_CHECK((ULONG_PTR)MmSystemRangeStart > (ULONG_PTR)MmHighestUserAddress);
}

static VOID ComponentsCanBeSilenced(VOID)
{
    KT_CHECK(DbgQueryDebugFilterState(77, DPFLTR_INFO_LEVEL));
    KT_EQUAL(DbgSetDebugFilterState(77, DPFLTR_INFO_LEVEL, FALSE), STATUS_SUCCESS);
    KT_CHECK(!DbgQueryDebugFilterState(77, DPFLTR_INFO_LEVEL));
    KT_CHECK(DbgQueryDebugFilterState(77, DPFLTR_ERROR_LEVEL));
    DbgPrintEx(77, DPFLTR_INFO_LEVEL, "not ok 1 this line is never printed\n");
    KT_EQUAL(DbgSetDebugFilterState(77, DPFLTR_INFO_LEVEL, TRUE), STATUS_SUCCESS);
    KT_EQUAL(DbgSetDebugFilterState(100000, 0, TRUE), STATUS_INVALID_PARAMETER_1);
}

static VOID NTAPI Notify(HANDLE ParentId, HANDLE ProcessId, BOOLEAN Create)
{
    UNREFERENCED_PARAMETER(ParentId);
    UNREFERENCED_PARAMETER(ProcessId);
    UNREFERENCED_PARAMETER(Create);
}

static VOID NotificationsAreRegisteredOnce(VOID)
{
    KT_EQUAL(PsSetCreateProcessNotifyRoutine(Notify, FALSE), STATUS_SUCCESS);
    KT_EQUAL(PsSetCreateProcessNotifyRoutine(Notify, FALSE), STATUS_INVALID_PARAMETER);
    KT_EQUAL(PsSetCreateProcessNotifyRoutine(Notify, TRUE), STATUS_SUCCESS);
    KT_EQUAL(PsSetCreateProcessNotifyRoutine(Notify, TRUE), STATUS_INVALID_PARAMETER);
    KT_EQUAL(PsSetCreateThreadNotifyRoutine(Notify), STATUS_SUCCESS);
    KT_EQUAL(PsRemoveCreateThreadNotifyRoutine(Notify), STATUS_SUCCESS);
}

static VOID WellKnownThingsHaveTheirNumbers(VOID)
{
    SECURITY_DESCRIPTOR Descriptor;
    KT_EQUAL(SeExports->Privileges[8].LowPart, 10); // to load drivers
    KT_EQUAL(SeExports->NewPrivileges[0].LowPart, 28);
    KT_CHECK(SeSinglePrivilegeCheck(SeExports->Privileges[0], KernelMode));
    KT_CHECK(!SeSinglePrivilegeCheck(SeExports->Privileges[0], UserMode));
    const UCHAR *System = SeExports->Sids[10];
    KT_CHECK(System[0] == 1 && System[1] == 1 && System[7] == 5 && System[8] == 18);
    KT_EQUAL(RtlCreateSecurityDescriptor(&Descriptor, 2), STATUS_UNKNOWN_REVISION);
    KT_EQUAL(RtlCreateSecurityDescriptor(&Descriptor, 1), STATUS_SUCCESS);
    KT_EQUAL(RtlSetDaclSecurityDescriptor(&Descriptor, TRUE, NULL, FALSE), STATUS_SUCCESS);
    KT_EQUAL(Descriptor.Control, 4);
    ULONG Space = 1;
    PHYSICAL_ADDRESS Translated;
    KT_CHECK(HalTranslateBusAddress(PCIBus, 0, KtPhysical(0x3F8), &Space, &Translated));
    KT_CHECK(Space == 1 && Translated.QuadPart == 0x3F8);
}

// tests/drivers/odds.c: what the suites ex, exlock, queue and registry try, from a driver's side.
static VOID AStrangerFindsItsOddsAndEnds(VOID)
{
    SIZE_T ByteCount;
    PLDR_IMAGE Image;
    const VOID *File = LdrFindModule("odds.sys", &ByteCount);
    if (File == NULL) {
        KT_SKIP("booted without the test drivers");
    }
    KT_REQUIRE(NT_SUCCESS(LdrLoadImage(File, ByteCount, "odds.sys", &Image)));
    KT_EQUAL((ULONG)((PDRIVER_INITIALIZE)Image->EntryPoint)(NULL, NULL), STATUS_SUCCESS);
    LdrUnloadImage(Image);
}

static const KT_TEST Tests[] = {
    {"A stranger finds its odds and ends", AStrangerFindsItsOddsAndEnds},
    {"Well-known things have their numbers", WellKnownThingsHaveTheirNumbers},
    {"The version is that of Windows 10", TheVersionIsThatOfWindows10},
    {"Versions compare as a whole", VersionsCompareAsAWhole},
    {"Probes raise for what is not the user's", ProbesRaiseForWhatIsNotTheUsers},
    {"Components can be silenced", ComponentsCanBeSilenced},
    {"Notifications are registered once", NotificationsAreRegisteredOnce},
};

const KT_SUITE KtSystemSuite = {"system", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
