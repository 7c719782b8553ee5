// A driver that other drivers import from (exports.S has what C cannot say).
#include <wdm.h>

DRIVER_INITIALIZE DriverEntry;

__declspec(dllexport) ULONG LdrLibAdd(ULONG A, ULONG B);
__declspec(dllexport) ULONG LdrLibAnswer = 42;

ULONG LdrLibAdd(ULONG A, ULONG B)
{
    return A + B;
}

NTSTATUS DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath)
{
    UNREFERENCED_PARAMETER(DriverObject);
    UNREFERENCED_PARAMETER(RegistryPath);
    return STATUS_SUCCESS;
}
