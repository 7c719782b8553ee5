// Reproducible random numbers: the same seed gives the same sequence everywhere (xorshift64*).
#pragma once

#include <ntdef.h>

typedef struct _RANDOM {
    ULONG64 State;
} RANDOM;

static inline RANDOM RandomStart(ULONG64 Seed)
{
    return (RANDOM){Seed * 0x9E3779B97F4A7C15ull + 0x1234567ull};
}

static inline ULONG64 RandomNext(RANDOM *Random)
{
    Random->State ^= Random->State >> 12;
    Random->State ^= Random->State << 25;
    Random->State ^= Random->State >> 27;
    return Random->State * 0x2545F4914F6CDD1Dull;
}

// 0 .. Limit - 1. Limit 0 gives 0.
static inline ULONG64 RandomBelow(RANDOM *Random, ULONG64 Limit)
{
    return Limit == 0 ? 0 : (RandomNext(Random) >> 11) % Limit;
}

static inline BOOLEAN RandomOneIn(RANDOM *Random, ULONG64 Count)
{
    return RandomBelow(Random, Count) == 0;
}
