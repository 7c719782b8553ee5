// Assertions of drivers: what ASSERT of the DDK calls in a checked driver.
#include "kernel/inc/ke.h"

VOID NTAPI RtlAssert(PVOID VoidFailedAssertion, PVOID VoidFileName, ULONG LineNumber,
                     PSTR MutableMessage)
{
    PCSTR Message = MutableMessage != NULL ? MutableMessage : "";
    KiBugCheckSaying(KMODE_EXCEPTION_NOT_HANDLED, (ULONG)STATUS_ASSERTION_FAILURE,
                     (ULONG_PTR)__builtin_return_address(0), LineNumber, 0,
                     "an assertion of a driver failed: %s (%s, line %u) %s",
                     (PCSTR)VoidFailedAssertion, (PCSTR)VoidFileName, LineNumber, Message);
}
