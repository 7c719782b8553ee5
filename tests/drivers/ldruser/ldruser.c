// A driver that imports from another driver, ldrlib.sys, and whose sections are of every kind.
#include <wdm.h>

DRIVER_INITIALIZE DriverEntry;

__declspec(dllimport) ULONG LdrLibAdd(ULONG A, ULONG B);
__declspec(dllimport) ULONG LdrLibSum(ULONG A, ULONG B);
__declspec(dllimport) KIRQL LdrLibLower(VOID);
__declspec(dllimport) ULONG LdrLibAnswer;

__declspec(dllexport) const ULONG LdrUserConstant = 0x11223344;
__declspec(dllexport) ULONG LdrUserVariable = 0x55667788;
__declspec(dllexport) ULONG LdrUserZeroes[3000];
__declspec(dllexport) const VOID *const LdrUserPointers[] = {&LdrUserConstant, &LdrUserVariable,
                                                             &LdrUserZeroes[2999]};

__declspec(dllexport) ULONG LdrUserCheck(VOID);
__declspec(dllexport) VOID LdrUserWrite(volatile ULONG *Place);
__declspec(dllexport) ULONG LdrUserOnce(VOID);

// 0, or the number of the check that failed.
ULONG LdrUserCheck(VOID)
{
    if (LdrLibAdd(40, 2) != LdrLibAnswer || LdrLibSum(1, 2) != 3) {
        return 1;
    }
    if (LdrLibLower() != KeGetCurrentIrql()) {
        return 2;
    }
    if (*(const ULONG *)LdrUserPointers[0] != 0x11223344 ||
        *(const ULONG *)LdrUserPointers[1] != LdrUserVariable) {
        return 3;
    }
    return LdrUserZeroes[0] + LdrUserZeroes[2999] == 0 ? 0 : 4;
}

VOID LdrUserWrite(volatile ULONG *Place)
{
    *Place = 1;
}

// Code that is needed once. (Linkers for Windows call INIT discardable; this one cannot.)
__attribute__((section("INIT"), noinline)) ULONG LdrUserOnce(VOID)
{
    return 7;
}

NTSTATUS DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath)
{
    UNREFERENCED_PARAMETER(DriverObject);
    UNREFERENCED_PARAMETER(RegistryPath);
    return LdrUserOnce() == 7 ? STATUS_SUCCESS : STATUS_UNSUCCESSFUL;
}
