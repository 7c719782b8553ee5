// Memory, single words, random numbers.

#include <rtlddk.h>

#include "kernel/runtime/runtime.h"

SIZE_T NTAPI RtlCompareMemory(const VOID *Source1, const VOID *Source2, SIZE_T Length)
{
    const UCHAR *Left = Source1;
    const UCHAR *Right = Source2;
    SIZE_T Count = 0;
    while (Count < Length && Left[Count] == Right[Count]) {
        Count += 1;
    }
    return Count;
}

SIZE_T NTAPI RtlCompareMemoryUlong(PVOID Source, SIZE_T Length, ULONG Pattern)
{
    const ULONG *Words = Source;
    SIZE_T Count = 0;
    while (Count < Length / sizeof(ULONG) && Words[Count] == Pattern) {
        Count += 1;
    }
    return Count * sizeof(ULONG);
}

VOID NTAPI RtlCopyMemoryNonTemporal(VOID *Destination, const VOID *Source, SIZE_T Length)
{
    RtlCopyMemory(Destination, Source, Length);
}

VOID FASTCALL RtlPrefetchMemoryNonTemporal(PVOID Source, SIZE_T Length)
{
    UNREFERENCED_PARAMETER(Source);
    UNREFERENCED_PARAMETER(Length);
}

VOID NTAPI RtlExportFillMemory(PVOID Destination, SIZE_T Length, UCHAR Fill)
{
    RtlFillMemory(Destination, Length, Fill);
}

VOID NTAPI RtlExportZeroMemory(PVOID Destination, SIZE_T Length)
{
    RtlZeroMemory(Destination, Length);
}

USHORT FASTCALL RtlUshortByteSwap(USHORT Source)
{
    return __builtin_bswap16(Source);
}

ULONG FASTCALL RtlUlongByteSwap(ULONG Source)
{
    return __builtin_bswap32(Source);
}

ULONGLONG FASTCALL RtlUlonglongByteSwap(ULONGLONG Source)
{
    return __builtin_bswap64(Source);
}

CCHAR NTAPI RtlFindMostSignificantBit(ULONGLONG Set)
{
    return Set == 0 ? -1 : (CCHAR)(63 - __builtin_clzll(Set));
}

CCHAR NTAPI RtlFindLeastSignificantBit(ULONGLONG Set)
{
    return Set == 0 ? -1 : (CCHAR)__builtin_ctzll(Set);
}

// Without POPCNT, which not every processor has: sums of two, four, eight bits, then of the bytes.
ULONG NTAPI RtlNumberOfSetBitsUlongPtr(ULONG_PTR Target)
{
    ULONG64 Sum = Target - ((Target >> 1) & 0x5555555555555555ull);
    Sum = (Sum & 0x3333333333333333ull) + ((Sum >> 2) & 0x3333333333333333ull);
    Sum = (Sum + (Sum >> 4)) & 0x0F0F0F0F0F0F0F0Full;
    return (ULONG)((Sum * 0x0101010101010101ull) >> 56);
}

// Lehmer's generator: the state is a number modulo the prime 2^31 - 1, and never 0.
#define RANDOM_MODULUS 0x7FFFFFFFull
#define RANDOM_MULTIPLIER 48271ull

ULONG NTAPI RtlRandomEx(PULONG Seed)
{
    const ULONG64 State = *Seed % RANDOM_MODULUS;
    *Seed = (ULONG)((State == 0 ? 1 : State) * RANDOM_MULTIPLIER % RANDOM_MODULUS);
    return *Seed - 1;
}

ULONG NTAPI RtlRandom(PULONG Seed)
{
    return RtlRandomEx(Seed);
}

ULONG NTAPI RtlComputeCrc32(ULONG InitialCrc, PUCHAR Buffer, ULONG Length)
{
    return RtlCrc32(Buffer, Length, InitialCrc);
}

ULONG NTAPI RtlExportCrc32(const VOID *Buffer, SIZE_T ByteCount, ULONG InitialCrc)
{
    return RtlCrc32(Buffer, ByteCount, InitialCrc);
}
