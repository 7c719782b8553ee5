// The kernel console: a 16550 UART at COM1, 115200 baud, 8 bits, no parity, polled.
//
// Lock: one private word, taken with interrupts off, because text may come from any IRQL and from
// trap handlers. It is held for one call, so lines of different processors mix, but not inside a
// DbgPrint. After KdEnterCrash nobody waits for it. Every wait for the hardware is bounded: a UART
// that is not there costs nothing, one that hangs costs text.

#include "kernel/inc/kd.h"
#include "kernel/inc/kearch.h"
#include "kernel/inc/rtl.h"

#define COM1 0x3F8
#define UART_DATA (COM1 + 0)
#define UART_INTERRUPT_ENABLE (COM1 + 1)
#define UART_FIFO_CONTROL (COM1 + 2)
#define UART_LINE_CONTROL (COM1 + 3)
#define UART_MODEM_CONTROL (COM1 + 4)
#define UART_LINE_STATUS (COM1 + 5)
#define UART_SCRATCH (COM1 + 7)

#define LINE_CONTROL_DIVISOR 0x80
#define LINE_CONTROL_8N1 0x03
#define DIVISOR_115200 1
#define FIFO_ENABLE_AND_CLEAR 0x07
#define MODEM_DTR_RTS 0x03
#define LINE_STATUS_DATA_READY 0x01
#define LINE_STATUS_CAN_SEND 0x20
#define LINE_STATUS_ALL_SENT 0x40

#define MAX_POLLS 1000000u
#define SCRATCH_PATTERN 0xA5

static BOOLEAN KdpUartExists;
static BOOLEAN KdpCrashed;
static volatile ULONG KdpLock;

typedef struct _KDP_SETTING {
    USHORT Port;
    UCHAR Value;
} KDP_SETTING;

static const KDP_SETTING KdpSettings[] = {
    {UART_INTERRUPT_ENABLE, 0},
    {UART_LINE_CONTROL, LINE_CONTROL_DIVISOR},
    {UART_DATA, DIVISOR_115200}, // divisor, low byte
    {UART_INTERRUPT_ENABLE, 0},  // divisor, high byte
    {UART_LINE_CONTROL, LINE_CONTROL_8N1},
    {UART_FIFO_CONTROL, FIFO_ENABLE_AND_CLEAR},
    {UART_MODEM_CONTROL, MODEM_DTR_RTS},
};

// Where no device answers, the bus reads as ones, whatever was written.
static BOOLEAN KdpProbeUart(VOID)
{
    KeArchWritePort8(UART_SCRATCH, SCRATCH_PATTERN);
    return KeArchReadPort8(UART_SCRATCH) == SCRATCH_PATTERN;
}

VOID KdInitializeConsole(VOID)
{
    KdpUartExists = KdpProbeUart();
    if (!KdpUartExists) {
        return;
    }
    for (ULONG Index = 0; Index < ARRAYSIZE(KdpSettings); Index += 1) {
        KeArchWritePort8(KdpSettings[Index].Port, KdpSettings[Index].Value);
    }
}

static VOID KdpWaitForLine(UCHAR StatusBit)
{
    for (ULONG Poll = 0; Poll < MAX_POLLS; Poll += 1) {
        if (KeArchReadPort8(UART_LINE_STATUS) & StatusBit) {
            return;
        }
        KeArchPause();
    }
}

static VOID KdpSendByte(CHAR Byte)
{
    KdpWaitForLine(LINE_STATUS_CAN_SEND);
    KeArchWritePort8(UART_DATA, (UCHAR)Byte);
}

// The sink of formatted text. The lock is held.
static VOID KdpSendText(PVOID Context, const CHAR *Text, SIZE_T ByteCount)
{
    UNREFERENCED_PARAMETER(Context);
    for (SIZE_T Index = 0; Index < ByteCount; Index += 1) {
        if (Text[Index] == '\n') {
            KdpSendByte('\r');
        }
        KdpSendByte(Text[Index]);
    }
}

// Returns whether interrupts were on.
static BOOLEAN KdpAcquire(VOID)
{
    const BOOLEAN WereOn = KeArchDisableInterrupts();
    while (__atomic_exchange_n(&KdpLock, 1, __ATOMIC_ACQUIRE) != 0 && !KdpCrashed) {
        KeArchPause();
    }
    return WereOn;
}

static VOID KdpRelease(BOOLEAN WereOn)
{
    __atomic_store_n(&KdpLock, 0, __ATOMIC_RELEASE);
    KeArchRestoreInterrupts(WereOn);
}

//
// What a thread prints, for somebody who wants to read it elsewhere.
//

typedef struct _KDP_CAPTURE {
    PKTHREAD Thread;
    PCHAR Buffer;
    ULONG Capacity;
    ULONG ByteCount;
} KDP_CAPTURE, *PKDP_CAPTURE;

static PKDP_CAPTURE KdpCapture; // NULL: none

// A DPC or an interrupt that comes in between is not what the thread prints.
static BOOLEAN KdpIsCaptured(VOID)
{
    const KDP_CAPTURE *Capture = __atomic_load_n(&KdpCapture, __ATOMIC_RELAXED);
    if (Capture == NULL || KeArchGetCurrentThread() != Capture->Thread) {
        return FALSE;
    }
    // Below DISPATCH_LEVEL the thread may move, and no DPC is what prints.
    const KIRQL Irql = KeArchReadIrql();
    return Irql < DISPATCH_LEVEL || (Irql == DISPATCH_LEVEL && !KeArchGetPcr()->DpcRunning);
}

static VOID KdpKeepText(PVOID Context, const CHAR *Text, SIZE_T ByteCount)
{
    const PKDP_CAPTURE Capture = Context;
    const ULONG Room = Capture->Capacity - Capture->ByteCount;
    const ULONG Count = ByteCount < Room ? (ULONG)ByteCount : Room;
    RtlCopyMemory(Capture->Buffer + Capture->ByteCount, Text, Count);
    Capture->ByteCount += Count;
}

ULONG KdCapture(VOID (*Routine)(VOID), PCHAR Buffer, ULONG Capacity)
{
    KDP_CAPTURE Capture = {KeArchGetCurrentThread(), Buffer, Capacity, 0};
    __atomic_store_n(&KdpCapture, &Capture, __ATOMIC_RELEASE);
    Routine();
    __atomic_store_n(&KdpCapture, NULL, __ATOMIC_RELEASE);
    return Capture.ByteCount;
}

VOID KdPrintArguments(PCSTR Format, __builtin_ms_va_list Arguments)
{
    if (KdpIsCaptured()) {
        RtlFormat(KdpKeepText, KdpCapture, Format, Arguments);
        return;
    }
    if (!KdpUartExists) {
        return;
    }
    const BOOLEAN WereOn = KdpAcquire();
    RtlFormat(KdpSendText, NULL, Format, Arguments);
    KdpRelease(WereOn);
}

ULONG NTAPI DbgPrint(PCSTR Format, ...)
{
    __builtin_ms_va_list Arguments;
    __builtin_ms_va_start(Arguments, Format);
    KdPrintArguments(Format, Arguments);
    __builtin_ms_va_end(Arguments);
    return STATUS_SUCCESS;
}

static VOID KdpPutText(const CHAR *Text, SIZE_T ByteCount)
{
    if (!KdpUartExists) {
        return;
    }
    const BOOLEAN WereOn = KdpAcquire();
    KdpSendText(NULL, Text, ByteCount);
    KdpRelease(WereOn);
}

VOID KdPutCharacter(CHAR Character)
{
    KdpPutText(&Character, 1);
}

VOID KdPutString(PCSTR Text)
{
    KdpPutText(Text, RtlStringLength(Text));
}

LONG KdPollInput(VOID)
{
    if (!KdpUartExists || !(KeArchReadPort8(UART_LINE_STATUS) & LINE_STATUS_DATA_READY)) {
        return -1;
    }
    return KeArchReadPort8(UART_DATA);
}

VOID KdFlushConsole(VOID)
{
    if (KdpUartExists) {
        KdpWaitForLine(LINE_STATUS_ALL_SENT);
    }
}

VOID KdEnterCrash(VOID)
{
    KdpCrashed = TRUE;
    if (!KdpUartExists) {
        // The crash may be so early that nobody has set up the console yet.
        KdInitializeConsole();
    }
}
