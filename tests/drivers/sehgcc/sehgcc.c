// A driver that gcc compiled, which handles exceptions by KmTry; beside seh.sys in the tests of
// exceptions (tests/kernel/t_seh.c).
#include "../seh/seh.h"

DRIVER_INITIALIZE DriverEntry;

NTSTATUS DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath)
{
    UNREFERENCED_PARAMETER(DriverObject);
    UNREFERENCED_PARAMETER(RegistryPath);
    return STATUS_SUCCESS;
}

#define EXPORT __declspec(dllexport)
#define NEED(Expression)                                                                           \
    do {                                                                                           \
        if (!(Expression)) {                                                                       \
            return __LINE__;                                                                       \
        }                                                                                          \
    } while (0)

EXPORT ULONG NTAPI SehGccBridge(SEH_ROUTINE *Routine, PVOID Context);
ULONG NTAPI SehGccBridge(SEH_ROUTINE *Routine, PVOID Context)
{
    volatile ULONG Result = Routine(Context);
    return Result;
}

EXPORT ULONG NTAPI SehGccTryBridge(SEH_ROUTINE *Routine, PVOID Context);
ULONG NTAPI SehGccTryBridge(SEH_ROUTINE *Routine, PVOID Context)
{
    volatile ULONG Result = 0;
    KmTry {
        Result = SehGccBridge(Routine, Context);
    }
    KmCatch (Status) {
        return (ULONG)Status;
    }
    return Result;
}

static __attribute__((noinline)) VOID Raise(NTSTATUS Status)
{
    ExRaiseStatus(Status);
}

static ULONG NTAPI Load(PVOID Context)
{
    return *(volatile ULONG *)Context;
}

static ULONG NTAPI Divide(PVOID Context)
{
    return 7 / (volatile ULONG)(ULONG_PTR)Context;
}

EXPORT ULONG SehGccRaises(VOID);
ULONG SehGccRaises(VOID)
{
    volatile ULONG Trace = 0;
    KmTry {
        KmTry {
            Raise(SEH_STATUS);
            Trace = 0xF;
        }
        KmCatch (Status) {
            NEED(Status == SEH_STATUS);
            Trace = Trace << 4 | 1;
            Raise(SEH_OTHER);
        }
    }
    KmCatch (Status) {
        NEED(Status == SEH_OTHER);
        Trace = Trace << 4 | 2;
    }
    NEED(Trace == 0x12);
    return 0;
}

EXPORT ULONG SehGccFaults(VOID);
ULONG SehGccFaults(VOID)
{
    NEED(SehGccTryBridge(Load, (PVOID)0x1000) == (ULONG)STATUS_ACCESS_VIOLATION);
    NEED(SehGccTryBridge(Load, (PVOID)0x0000900000000000) == (ULONG)STATUS_ACCESS_VIOLATION);
    NEED(SehGccTryBridge(Divide, NULL) == (ULONG)STATUS_INTEGER_DIVIDE_BY_ZERO);
    volatile ULONG Value = 1;
    KmTry {
        Value = *(volatile ULONG *)0x2000; // in the routine itself
    }
    KmCatch (Status) {
        Value = (ULONG)Status;
    }
    NEED(Value == (ULONG)STATUS_ACCESS_VIOLATION);
    return 0;
}

EXPORT ULONG SehGccRaiseOfTheKernel(VOID);
ULONG SehGccRaiseOfTheKernel(VOID)
{
    volatile NTSTATUS Caught = 0;
    PMDL Mdl = IoAllocateMdl((PVOID)0x10000, 100, FALSE, FALSE, NULL);
    NEED(Mdl != NULL);
    KmTry {
        MmProbeAndLockPages(Mdl, UserMode, IoReadAccess);
    }
    KmCatch (Status) {
        Caught = Status;
    }
    IoFreeMdl(Mdl);
    NEED(Caught == STATUS_ACCESS_VIOLATION);
    return 0;
}

// Never returns: nobody handles it, or nobody may.
EXPORT VOID NTAPI SehGccMisuse(ULONG Way);
VOID NTAPI SehGccMisuse(ULONG Way)
{
    volatile ULONG Value = 0;
    switch (Way) {
    case 0:
        Raise(SEH_STATUS);
        break;
    case 1:
        Value = *(volatile ULONG *)0x3000;
        break;
    case 2:
        KmTry {
            Value = *(volatile ULONG *)0xFFFFA00000001000; // the kernel's half
        }
        KmCatch (Status) {
            Value = (ULONG)Status;
        }
        break;
    }
    DbgPrint("SehGccMisuse(%u) goes on: 0x%x\n", Way, Value);
}
