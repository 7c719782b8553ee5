// The four memory routines that the compiler itself calls. Not linked into host tests, which use
// the C library's.
//
// The string instructions of the processor are used throughout: microcode moves whole cache lines,
// and under emulation they are far faster than any loop.

#include "kernel/inc/rtl.h"

void *memcpy(void *restrict To, const void *restrict From, size_t ByteCount)
{
    void *Cursor = To;
    size_t Words = ByteCount / 8;
    size_t Rest = ByteCount % 8;
    __asm__ volatile("rep movsq" : "+D"(Cursor), "+S"(From), "+c"(Words) : : "memory");
    __asm__ volatile("rep movsb" : "+D"(Cursor), "+S"(From), "+c"(Rest) : : "memory");
    return To;
}

static void RtlpMoveDown(void *To, const void *From, size_t ByteCount)
{
    void *LastTo = (char *)To + ByteCount - 1;
    const void *LastFrom = (const char *)From + ByteCount - 1;
    __asm__ volatile("std; rep movsb; cld"
                     : "+D"(LastTo), "+S"(LastFrom), "+c"(ByteCount)
                     :
                     : "memory");
}

void *memmove(void *To, const void *From, size_t ByteCount)
{
    // Copying upward is wrong only when the target begins inside the source.
    if ((ULONG_PTR)To - (ULONG_PTR)From < ByteCount) {
        RtlpMoveDown(To, From, ByteCount);
        return To;
    }
    return memcpy(To, From, ByteCount);
}

void *memset(void *To, int Value, size_t ByteCount)
{
    const ULONG64 Pattern = 0x0101010101010101ull * (UCHAR)Value;
    void *Cursor = To;
    size_t Words = ByteCount / 8;
    size_t Rest = ByteCount % 8;
    __asm__ volatile("rep stosq" : "+D"(Cursor), "+c"(Words) : "a"(Pattern) : "memory");
    __asm__ volatile("rep stosb" : "+D"(Cursor), "+c"(Rest) : "a"(Pattern) : "memory");
    return To;
}

int memcmp(const void *A, const void *B, size_t ByteCount)
{
    const UCHAR *Left = A;
    const UCHAR *Right = B;
    for (; ByteCount > 0; --ByteCount, ++Left, ++Right) {
        if (*Left != *Right) {
            return *Left < *Right ? -1 : 1;
        }
    }
    return 0;
}
