// What compilers call without being asked.

#include "kernel/inc/crt.h"
#include "kernel/inc/ke.h"

// The caller subtracts RAX from RSP when this returns.
__attribute__((naked)) VOID NTAPI CrtCheckStack(VOID)
{
    __asm__("ret");
}

DECLSPEC_NORETURN INT NTAPI CrtPureCall(VOID)
{
    KiBugCheckSaying(KMODE_EXCEPTION_NOT_HANDLED, (ULONG_PTR)(LONG_PTR)STATUS_NOT_IMPLEMENTED,
                     (ULONG_PTR)__builtin_return_address(0), 0, 0,
                     "a pure virtual function was called");
}
