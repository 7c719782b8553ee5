// Dbg and Kd for drivers: printing by component and level, and a debugger that is not there.

#include <sysddk.h>

#include "kernel/inc/kd.h"
#include "kernel/inc/ke.h"

BOOLEAN KdDebuggerEnabled = FALSE;
BOOLEAN KdDebuggerNotPresent = TRUE;

#define COMPONENT_LIMIT 160 // DPFLTR_*_ID end before it
#define COMPONENT_DEFAULT 101
#define FIRST_MASK 32 // a level from here on is a mask

// What is not shown, a bit per level: all is shown at first.
static ULONG KdpHidden[COMPONENT_LIMIT];

static ULONG KdpMaskOf(ULONG Level)
{
    return Level < FIRST_MASK ? 1u << Level : Level;
}

NTSTATUS NTAPI DbgQueryDebugFilterState(ULONG ComponentId, ULONG Level)
{
    const ULONG Component = ComponentId < COMPONENT_LIMIT ? ComponentId : COMPONENT_DEFAULT;
    return (KdpMaskOf(Level) & ~__atomic_load_n(&KdpHidden[Component], __ATOMIC_RELAXED)) != 0;
}

NTSTATUS NTAPI DbgSetDebugFilterState(ULONG ComponentId, ULONG Level, BOOLEAN State)
{
    if (ComponentId >= COMPONENT_LIMIT) {
        return STATUS_INVALID_PARAMETER_1;
    }
    if (State) {
        __atomic_fetch_and(&KdpHidden[ComponentId], ~KdpMaskOf(Level), __ATOMIC_RELAXED);
    } else {
        __atomic_fetch_or(&KdpHidden[ComponentId], KdpMaskOf(Level), __ATOMIC_RELAXED);
    }
    return STATUS_SUCCESS;
}

ULONG NTAPI vDbgPrintExWithPrefix(PCCH Prefix, ULONG ComponentId, ULONG Level, PCCH Format,
                                  __builtin_ms_va_list ap)
{
    if (DbgQueryDebugFilterState(ComponentId, Level)) {
        KdPutString(Prefix);
        KdPrintArguments(Format, ap);
    }
    return STATUS_SUCCESS;
}

ULONG NTAPI vDbgPrintEx(ULONG ComponentId, ULONG Level, PCCH Format, __builtin_ms_va_list ap)
{
    return vDbgPrintExWithPrefix("", ComponentId, Level, Format, ap);
}

ULONG NTAPI DbgPrintEx(ULONG ComponentId, ULONG Level, PCSTR Format, ...)
{
    __builtin_ms_va_list Arguments;
    __builtin_ms_va_start(Arguments, Format);
    const ULONG Status = vDbgPrintEx(ComponentId, Level, Format, Arguments);
    __builtin_ms_va_end(Arguments);
    return Status;
}

ULONG NTAPI DbgPrintReturnControlC(PCCH Format, ...)
{
    __builtin_ms_va_list Arguments;
    __builtin_ms_va_start(Arguments, Format);
    KdPrintArguments(Format, Arguments);
    __builtin_ms_va_end(Arguments);
    return STATUS_SUCCESS;
}

VOID NTAPI DbgBreakPoint(VOID)
{
    __asm__ volatile("int3");
}

VOID NTAPI DbgBreakPointWithStatus(ULONG Status)
{
    // [x64] A debugger finds the status in ECX.
    __asm__ volatile("int3" : : "c"(Status));
}

ULONG NTAPI DbgPrompt(PCCH Prompt, PCHAR Response, ULONG MaximumResponseLength)
{
    DbgPrint("%s\n", Prompt);
    if (MaximumResponseLength > 0) {
        Response[0] = 0;
    }
    return 0;
}

NTSTATUS NTAPI KdDisableDebugger(VOID)
{
    return STATUS_DEBUGGER_INACTIVE;
}

NTSTATUS NTAPI KdEnableDebugger(VOID)
{
    return STATUS_DEBUGGER_INACTIVE;
}

BOOLEAN NTAPI KdRefreshDebuggerNotPresent(VOID)
{
    return KdDebuggerNotPresent;
}
