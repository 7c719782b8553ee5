// The one process, and the questions about threads and processes that drivers ask.
#include "kernel/ps/psp.h"

#include "kernel/inc/kearch.h"
#include "kernel/inc/ob.h"
#include "kernel/inc/ps.h"

static OBJECT_TYPE PspProcessType = {.Name = "Process"};
POBJECT_TYPE PspProcessTypePointer = &PspProcessType;
POBJECT_TYPE *PsProcessType = &PspProcessTypePointer;

static struct {
    OB_HEADER Header;
    EPROCESS Process;
} PspSystemProcess;

PEPROCESS PsInitialSystemProcess = &PspSystemProcess.Process;

VOID PspInitializeProcess(VOID)
{
    const PEPROCESS Process = PsInitialSystemProcess;
    ObInitializeStaticObject(&PspSystemProcess.Header, &PspProcessType);
    Process->Header.Type = KiProcessObject;
    InitializeListHead(&Process->Header.WaitListHead);
    Process->ProcessId = PSP_SYSTEM_PROCESS_ID;
    Process->CreateTime.QuadPart = (LONG64)KiSystemTimeAtStart();
}

PVOID PspResolvePseudoHandle(HANDLE Handle)
{
    if (Handle == PSP_CURRENT_PROCESS) {
        return PsInitialSystemProcess;
    }
    return Handle == PSP_CURRENT_THREAD ? KeArchGetCurrentThread() : NULL;
}

PETHREAD NTAPI PsGetCurrentThread(VOID)
{
    return (PETHREAD)(PVOID)KeArchGetCurrentThread();
}

HANDLE NTAPI PsGetThreadId(PETHREAD Thread)
{
    return ((PKTHREAD)(PVOID)Thread)->ThreadId;
}

HANDLE NTAPI PsGetCurrentThreadId(VOID)
{
    return KeArchGetCurrentThread()->ThreadId;
}

HANDLE NTAPI PsGetThreadProcessId(PETHREAD Thread)
{
    UNREFERENCED_PARAMETER(Thread);
    return PSP_SYSTEM_PROCESS_ID;
}

PEPROCESS NTAPI IoGetCurrentProcess(VOID)
{
    return PsInitialSystemProcess;
}

HANDLE NTAPI PsGetCurrentProcessId(VOID)
{
    return PSP_SYSTEM_PROCESS_ID;
}

HANDLE NTAPI PsGetProcessId(PEPROCESS Process)
{
    return Process->ProcessId;
}

LONGLONG NTAPI PsGetProcessCreateTimeQuadPart(PEPROCESS Process)
{
    return Process->CreateTime.QuadPart;
}
