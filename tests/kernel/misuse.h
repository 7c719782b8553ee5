// What the two files of misuses share, bugchecks.c and violations.c: a named test that must end in a bug
// check, and the announcement of parameters that only the running kernel knows.
#pragma once

#include "tests/kernel/tests.h"

typedef struct _MISUSE_TEST {
    PCSTR Name;
    KT_ROUTINE *Routine;
} MISUSE_TEST;

static inline VOID Announce(ULONG Number, ULONG64 Value)
{
    DbgPrint("# param %u 0x%llx\n", Number, Value);
}

static inline VOID AnnouncePointer(ULONG Number, const VOID *Value)
{
    Announce(Number, (ULONG64)Value);
}

// A mapping or an MDL that a test cannot do without. Without it the test returns, and the runner
// sees no bug check.
#define NEED(Expression)                                                                           \
    do {                                                                                           \
        if (!(Expression)) {                                                                       \
            DbgPrint("cannot be set up: %s\n", #Expression);                                       \
            return;                                                                                \
        }                                                                                          \
    } while (0)

#define MISUSE(Routine)                                                                            \
    {                                                                                              \
#Routine, Routine                                                                          \
    }
