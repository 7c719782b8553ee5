// Why the last image was refused, in words.
#include "kernel/inc/rtl.h"
#include "kernel/ldr/ldrp.h"

#define LDRP_REFUSAL_BYTES 1024

static CHAR LdrpLastRefusal[LDRP_REFUSAL_BYTES];

NTSTATUS NTAPI LdrpRefuse(const LDRP_LOAD *Load, NTSTATUS Status, PCSTR Format, ...)
{
    __builtin_ms_va_list Arguments;
    const SIZE_T Length =
        RtlFormatBuffer(LdrpLastRefusal, sizeof(LdrpLastRefusal), "%s: ", Load->Name);
    if (Length < sizeof(LdrpLastRefusal)) {
        __builtin_ms_va_start(Arguments, Format);
        RtlFormatBufferArguments(LdrpLastRefusal + Length, sizeof(LdrpLastRefusal) - Length, Format,
                                 Arguments);
        __builtin_ms_va_end(Arguments);
    }
    DbgPrint("ldr: %s (status 0x%08x)\n", LdrpLastRefusal, (ULONG)Status);
    return Status;
}

VOID LdrDescribeLastRefusal(PCHAR Buffer, SIZE_T ByteCount)
{
    RtlCopyString(Buffer, ByteCount, LdrpLastRefusal);
}
