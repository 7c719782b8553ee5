// Arithmetic that says when it does not fit. Each routine returns TRUE and stores the result, or
// returns FALSE.
#pragma once

#include <ntdef.h>

_Must_inspect_result_ static inline BOOLEAN RtlAddChecked64(ULONG64 A, ULONG64 B, PULONG64 Result)
{
    return !__builtin_add_overflow(A, B, Result);
}

_Must_inspect_result_ static inline BOOLEAN RtlSubtractChecked64(ULONG64 A, ULONG64 B,
                                                                 PULONG64 Result)
{
    return !__builtin_sub_overflow(A, B, Result);
}

_Must_inspect_result_ static inline BOOLEAN RtlMultiplyChecked64(ULONG64 A, ULONG64 B,
                                                                 PULONG64 Result)
{
    return !__builtin_mul_overflow(A, B, Result);
}

// Alignment is a power of two.
_Must_inspect_result_ static inline BOOLEAN RtlAlignUpChecked64(ULONG64 Value, ULONG64 Alignment,
                                                                PULONG64 Result)
{
    if (!RtlAddChecked64(Value, Alignment - 1, Result)) {
        return FALSE;
    }
    *Result &= ~(Alignment - 1);
    return TRUE;
}

static inline ULONG64 RtlAlignDown64(ULONG64 Value, ULONG64 Alignment)
{
    return Value & ~(Alignment - 1);
}

static inline BOOLEAN RtlIsPowerOfTwo64(ULONG64 Value)
{
    return Value != 0 && (Value & (Value - 1)) == 0;
}
