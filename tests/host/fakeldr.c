// What the loader asks of the rest of the kernel, for the build machine: exports, a mutex that nobody
// contends for, and names of code.
#include "kernel/ldr/ldrp.h"
#include "tests/host/image.h"

ULONG FakeExportedVariable = 0x1234;

ULONG NTAPI FakeExportedRoutine(ULONG Value)
{
    return Value + 1;
}

const LDRP_EXPORT LdrpExports[] = {
    {"HostData", &FakeExportedVariable},
    {"HostFirst", (PVOID)FakeExportedRoutine},
    {"HostFirstAndMore", &FakeExportedVariable},
    {"HostHal", (PVOID)FakeExportedRoutine},
};
const ULONG LdrpExportCount = ARRAYSIZE(LdrpExports);

const CHAR *FakeCodeName; // what is registered, or NULL

VOID KiRegisterCode(PCSTR Name, ULONG_PTR Base, SIZE_T ByteCount, BOOLEAN IsDriver)
{
    CHECK(IsDriver && ByteCount != 0 && BYTE_OFFSET(Base) == 0);
    FakeCodeName = Name;
}

VOID KiForgetCode(PCSTR Name)
{
    UNREFERENCED_PARAMETER(Name);
    FakeCodeName = NULL;
}

VOID NTAPI KeInitializeEvent(PRKEVENT Event, EVENT_TYPE Type, BOOLEAN State)
{
    UNREFERENCED_PARAMETER(Event);
    UNREFERENCED_PARAMETER(Type);
    UNREFERENCED_PARAMETER(State);
}

VOID FASTCALL ExAcquireFastMutex(PFAST_MUTEX FastMutex)
{
    CHECK_EQUAL(FastMutex->Count, 1);
    FastMutex->Count = 0;
    FastMutex->OldIrql = FakeIrql;
    FakeIrql = APC_LEVEL;
}

VOID FASTCALL ExReleaseFastMutex(PFAST_MUTEX FastMutex)
{
    CHECK_EQUAL(FastMutex->Count, 0);
    FastMutex->Count = 1;
    FakeIrql = (KIRQL)FastMutex->OldIrql;
}
