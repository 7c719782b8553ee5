// A driver that imports what this kernel will never have: it must be refused, with every name.
#include <ntifs.h>

DRIVER_INITIALIZE DriverEntry;

NTSTATUS DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath)
{
    UNREFERENCED_PARAMETER(DriverObject);
    DbgPrint("%wZ\n", RegistryPath);
    CcSetFileSizes(NULL, NULL);
    FsRtlNotifyUninitializeSync(NULL);
    return STATUS_SUCCESS;
}
