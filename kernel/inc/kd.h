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

// Exported as data; a driver sees that no debugger is there.
extern BOOLEAN KdDebuggerEnabled;
extern BOOLEAN KdDebuggerNotPresent;
