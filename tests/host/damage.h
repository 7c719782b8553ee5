// For tests that damage mm's records by hand, to see that MmVerify names the invariant that is broken,
// and is content again when the damage is repaired.
#pragma once

#include "tests/host/host.h"

static inline VOID CheckSeen(const CHAR *Invariant)
{
    CHAR Words[64];
    snprintf(Words, sizeof(Words), "invariant %s is violated", Invariant);
    HostForgetPrinted();
    CHECK(MmVerify() > 0);
    if (strstr(HostPrinted(), Words) == NULL) {
        FAIL("MmVerify says %s, not %s", HostPrinted(), Words);
    }
    HostForgetPrinted();
}

// Damages Place, looks, and repairs it.
#define CHECK_DAMAGE(Place, Value, Invariant)                                                      \
    do {                                                                                           \
        const __typeof__(Place) Whole_ = (Place);                                                  \
        (Place) = (Value);                                                                         \
        CheckSeen(Invariant);                                                                      \
        (Place) = Whole_;                                                                          \
        CHECK_EQUAL(MmVerify(), 0);                                                                \
    } while (0)
