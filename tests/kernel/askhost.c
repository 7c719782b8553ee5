// Asks the host to do something to the machine: a line goes out on the serial port, and a line comes
// back (tests/qemu/host.py has the verbs). One question at a time.
#include "kernel/inc/kd.h"
#include "kernel/inc/ke.h"
#include "kernel/inc/rtl.h"
#include "tests/kernel/tests.h"

#define QUESTION_BYTES 512
#define ANSWER_BYTES 256
#define ANSWER_SECONDS 90
#define POLL_MILLISECONDS 1
#define OK_TEXT "ok"

static CHAR KtQuestion[QUESTION_BYTES];
static CHAR KtAnswer[ANSWER_BYTES];

// The next byte from the host; -1: none came in time.
static LONG WaitForByte(LONG64 Deadline)
{
    LONG Byte = KdPollInput();
    while (Byte < 0 && (LONG64)KeQueryInterruptTime() < Deadline) {
        KtSleep(POLL_MILLISECONDS);
        Byte = KdPollInput();
    }
    return Byte;
}

// A line without its end, cut to what there is room for.
static BOOLEAN ReadAnswer(VOID)
{
    const LONG64 Deadline =
        (LONG64)KeQueryInterruptTime() + ANSWER_SECONDS * 10000000ll; // of 100 ns
    ULONG Length = 0;
    LONG Byte = WaitForByte(Deadline);
    while (Byte >= 0 && Byte != '\n') {
        if (Length < ANSWER_BYTES - 1) {
            KtAnswer[Length] = (CHAR)Byte;
            Length += 1;
        }
        Byte = WaitForByte(Deadline);
    }
    KtAnswer[Length] = '\0';
    return Byte == '\n';
}

BOOLEAN NTAPI KtAskHost(PCSTR Format, ...)
{
    if (!KtHasOption("host")) {
        KtSkip("no host does what it is asked for; needs the boot option host");
        return FALSE;
    }
    __builtin_ms_va_list Arguments;
    __builtin_ms_va_start(Arguments, Format);
    RtlFormatBufferArguments(KtQuestion, sizeof(KtQuestion), Format, Arguments);
    __builtin_ms_va_end(Arguments);
    DbgPrint("# host: %s\n", KtQuestion);
    const BOOLEAN HasAnswered = ReadAnswer();
    const BOOLEAN IsDone = HasAnswered && RtlEqualMemory(KtAnswer, OK_TEXT, sizeof(OK_TEXT) - 1);
    if (!IsDone) {
        DbgPrint("    # the host says: %s\n", HasAnswered ? KtAnswer : "nothing");
    }
    return KtCheck(IsDone, "the host does what it is asked for", __FILE__, __LINE__);
}

PCSTR KtHostResult(VOID)
{
    return KtAnswer[sizeof(OK_TEXT) - 1] == ' ' ? KtAnswer + sizeof(OK_TEXT) : "";
}

ULONG64 KtHostNumber(VOID)
{
    ULONG64 Value = 0;
    for (PCSTR Digit = KtHostResult(); *Digit >= '0' && *Digit <= '9'; Digit += 1) {
        Value = 10 * Value + (ULONG64)(*Digit - '0');
    }
    return Value;
}
