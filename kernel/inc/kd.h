// Kd: the kernel console on COM1. DbgPrint, the formatted way in, is declared in <wdm.h>.
//
// "\n" becomes "\r\n" on the wire. Callable at any IRQL: the lock is taken with interrupts off, and
// a bug check walks past it. Before KdInitializeConsole, and on a machine without the UART, output
// is dropped.
#pragma once

#include <ntdef.h>
#include <wdm.h>

VOID KdInitializeConsole(VOID);

VOID KdPutCharacter(CHAR Character);
VOID KdPutString(PCSTR Text);

// A byte that COM1 received, or -1. Never waits.
LONG KdPollInput(VOID);

// Waits, with a bound, until the last byte has left the UART.
VOID KdFlushConsole(VOID);

// From now on the console ignores its lock: only one processor runs, and it may have died holding
// it.
VOID KdEnterCrash(VOID);

// The body of DbgPrint for callers that hold an argument list already.
VOID KdPrintArguments(PCSTR Format, __builtin_ms_va_list Arguments);

// Calls Routine; what it prints, at IRQL <= DISPATCH_LEVEL and not in a DPC, goes to Buffer and not to the
// console. Returns its bytes; what does not fit is left out. One at a time: the caller sees to that.
// IRQL = PASSIVE_LEVEL.
ULONG KdCapture(_In_ VOID (*Routine)(VOID), _Out_writes_bytes_(Capacity) PCHAR Buffer,
                _In_ ULONG Capacity);

// Exported as data; a driver sees that no debugger is there.
extern BOOLEAN KdDebuggerEnabled;
extern BOOLEAN KdDebuggerNotPresent;
