// The C runtime's memory and array routines. Copying and filling are the kernel's own, under the
// calling convention of drivers.

#include "kernel/inc/crt.h"
#include "kernel/inc/rtl.h"

PVOID NTAPI CrtMemcpy(PVOID To, const VOID *From, SIZE_T ByteCount)
{
    // Drivers exist that copy overlapping ranges with memcpy; on NT it is memmove.
    return memmove(To, From, ByteCount);
}

PVOID NTAPI CrtMemmove(PVOID To, const VOID *From, SIZE_T ByteCount)
{
    return memmove(To, From, ByteCount);
}

PVOID NTAPI CrtMemset(PVOID To, INT Value, SIZE_T ByteCount)
{
    return memset(To, Value, ByteCount);
}

INT NTAPI CrtMemcmp(const VOID *A, const VOID *B, SIZE_T ByteCount)
{
    return memcmp(A, B, ByteCount);
}

PVOID NTAPI CrtMemchr(const VOID *Bytes, INT Value, SIZE_T ByteCount)
{
    for (const UCHAR *Cursor = Bytes; ByteCount > 0; Cursor += 1, ByteCount -= 1) {
        if (*Cursor == (UCHAR)Value) {
            return (PVOID)Cursor;
        }
    }
    return NULL;
}

CRT_ERROR NTAPI CrtMemmoveS(PVOID To, SIZE_T ToByteCount, const VOID *From, SIZE_T ByteCount)
{
    if (ByteCount == 0) {
        return 0;
    }
    if (To == NULL || From == NULL) {
        return CRT_EINVAL;
    }
    if (ByteCount > ToByteCount) {
        return CRT_ERANGE;
    }
    memmove(To, From, ByteCount);
    return 0;
}

// As CrtMemmoveS, and a failure leaves zeros.
CRT_ERROR NTAPI CrtMemcpyS(PVOID To, SIZE_T ToByteCount, const VOID *From, SIZE_T ByteCount)
{
    const CRT_ERROR Error = CrtMemmoveS(To, ToByteCount, From, ByteCount);
    if (Error != 0 && To != NULL) {
        memset(To, 0, ToByteCount);
    }
    return Error;
}

static VOID CrtpSwap(PUCHAR A, PUCHAR B, SIZE_T ByteCount)
{
    for (SIZE_T Index = 0; Index < ByteCount; Index += 1) {
        const UCHAR Byte = A[Index];
        A[Index] = B[Index];
        B[Index] = Byte;
    }
}

// Moves the element at Root down until no child of it is greater.
static VOID CrtpSiftDown(PUCHAR Base, SIZE_T Root, SIZE_T Count, SIZE_T ElementBytes,
                         CRT_COMPARE *Compare)
{
    for (SIZE_T Child = 2 * Root + 1; Child < Count; Child = 2 * Root + 1) {
        if (Child + 1 < Count &&
            Compare(Base + Child * ElementBytes, Base + (Child + 1) * ElementBytes) < 0) {
            Child += 1;
        }
        if (Compare(Base + Root * ElementBytes, Base + Child * ElementBytes) >= 0) {
            return;
        }
        CrtpSwap(Base + Root * ElementBytes, Base + Child * ElementBytes, ElementBytes);
        Root = Child;
    }
}

// Heap sort: no recursion, no worst case, as a kernel's stack wants it.
VOID NTAPI CrtQsort(PVOID Base, SIZE_T Count, SIZE_T ElementBytes, CRT_COMPARE *Compare)
{
    for (SIZE_T Root = Count / 2; Root > 0; Root -= 1) {
        CrtpSiftDown(Base, Root - 1, Count, ElementBytes, Compare);
    }
    for (SIZE_T Last = Count; Last > 1; Last -= 1) {
        CrtpSwap(Base, (PUCHAR)Base + (Last - 1) * ElementBytes, ElementBytes);
        CrtpSiftDown(Base, 0, Last - 1, ElementBytes, Compare);
    }
}

PVOID NTAPI CrtBsearch(const VOID *Key, const VOID *Base, SIZE_T Count, SIZE_T ElementBytes,
                       CRT_COMPARE *Compare)
{
    const UCHAR *First = Base;
    while (Count > 0) {
        const UCHAR *Middle = First + (Count / 2) * ElementBytes;
        const INT Order = Compare(Key, Middle);
        if (Order == 0) {
            return (PVOID)Middle;
        }
        if (Order > 0) {
            First = Middle + ElementBytes;
            Count -= 1;
        }
        Count /= 2;
    }
    return NULL;
}

static ULONG CrtpRandomState = 1;

VOID NTAPI CrtSrand(ULONG Seed)
{
    __atomic_store_n(&CrtpRandomState, Seed, __ATOMIC_RELAXED);
}

// A linear congruential generator, of which the upper bits are the better ones: 0 .. 0x7FFF.
INT NTAPI CrtRand(VOID)
{
    const ULONG State = __atomic_load_n(&CrtpRandomState, __ATOMIC_RELAXED) * 1103515245u + 12345u;
    __atomic_store_n(&CrtpRandomState, State, __ATOMIC_RELAXED);
    return (INT)((State >> 16) & 0x7FFF);
}
