// Bitmaps of ULONGs, as drivers know them. Everything is found by one routine, which looks for the
// next bit of a value.

#include <rtlddk.h>

#include "kernel/runtime/runtime.h"

#define ULONG_BITS 32
#define NO_BITS_FOUND 0xFFFFFFFF

typedef enum _RTL_BIT_VALUE { RtlBitClear, RtlBitSet } RTL_BIT_VALUE;

VOID NTAPI RtlInitializeBitMap(PRTL_BITMAP BitMapHeader, PULONG BitMapBuffer, ULONG SizeOfBitMap)
{
    BitMapHeader->SizeOfBitMap = SizeOfBitMap;
    BitMapHeader->Buffer = BitMapBuffer;
}

// The first bit of this value in [From, End), or End.
static ULONG RtlpFindBit(const RTL_BITMAP *BitMap, RTL_BIT_VALUE Value, ULONG From, ULONG End)
{
    while (From < End) {
        const ULONG Word = BitMap->Buffer[From / ULONG_BITS];
        const ULONG Wanted = (Value == RtlBitSet ? Word : ~Word) >> (From % ULONG_BITS);
        if (Wanted != 0) {
            const ULONG Found = From + (ULONG)__builtin_ctz(Wanted);
            return Found < End ? Found : End;
        }
        // The last word may end at the largest index there is.
        const ULONG Step = ULONG_BITS - From % ULONG_BITS;
        if (Step >= End - From) {
            break;
        }
        From += Step;
    }
    return End;
}

static RTL_BIT_VALUE RtlpOther(RTL_BIT_VALUE Value)
{
    return Value == RtlBitSet ? RtlBitClear : RtlBitSet;
}

static VOID RtlpChangeBits(PRTL_BITMAP BitMap, RTL_BIT_VALUE Value, ULONG First, ULONG Count)
{
    while (Count > 0) {
        const ULONG Shift = First % ULONG_BITS;
        const ULONG Room = ULONG_BITS - Shift;
        const ULONG Here = Count < Room ? Count : Room;
        const ULONG Mask = (Here == ULONG_BITS ? MAXULONG : (1u << Here) - 1) << Shift;
        if (Value == RtlBitSet) {
            BitMap->Buffer[First / ULONG_BITS] |= Mask;
        } else {
            BitMap->Buffer[First / ULONG_BITS] &= ~Mask;
        }
        First += Here;
        Count -= Here;
    }
}

VOID NTAPI RtlExportSetBits(PRTL_BITMAP BitMapHeader, ULONG StartingIndex, ULONG NumberToSet)
{
    RtlpChangeBits(BitMapHeader, RtlBitSet, StartingIndex, NumberToSet);
}

VOID NTAPI RtlExportClearBits(PRTL_BITMAP BitMapHeader, ULONG StartingIndex, ULONG NumberToClear)
{
    RtlpChangeBits(BitMapHeader, RtlBitClear, StartingIndex, NumberToClear);
}

VOID NTAPI RtlSetBit(PRTL_BITMAP BitMapHeader, ULONG BitNumber)
{
    RtlpChangeBits(BitMapHeader, RtlBitSet, BitNumber, 1);
}

VOID NTAPI RtlClearBit(PRTL_BITMAP BitMapHeader, ULONG BitNumber)
{
    RtlpChangeBits(BitMapHeader, RtlBitClear, BitNumber, 1);
}

// Whole ULONGs, so that the bits behind the end are like the others.
VOID NTAPI RtlClearAllBits(PRTL_BITMAP BitMapHeader)
{
    RtlZeroMemory(BitMapHeader->Buffer, ((SIZE_T)BitMapHeader->SizeOfBitMap + ULONG_BITS - 1) /
                                            ULONG_BITS * sizeof(ULONG));
}

VOID NTAPI RtlSetAllBits(PRTL_BITMAP BitMapHeader)
{
    RtlFillMemory(
        BitMapHeader->Buffer,
        ((SIZE_T)BitMapHeader->SizeOfBitMap + ULONG_BITS - 1) / ULONG_BITS * sizeof(ULONG), 0xFF);
}

BOOLEAN NTAPI RtlExportTestBit(PRTL_BITMAP BitMapHeader, ULONG BitNumber)
{
    return (BitMapHeader->Buffer[BitNumber / ULONG_BITS] >> (BitNumber % ULONG_BITS)) & 1;
}

// Whether [First, First + Count) lies within the bitmap, is not empty, and all of it has this value.
static BOOLEAN RtlpAreBits(const RTL_BITMAP *BitMap, RTL_BIT_VALUE Value, ULONG First, ULONG Count)
{
    const ULONG Size = BitMap->SizeOfBitMap;
    if (Count == 0 || First >= Size || Count > Size - First) {
        return FALSE;
    }
    return RtlpFindBit(BitMap, RtlpOther(Value), First, First + Count) == First + Count;
}

BOOLEAN NTAPI RtlExportAreBitsClear(PRTL_BITMAP BitMapHeader, ULONG StartingIndex, ULONG Length)
{
    return RtlpAreBits(BitMapHeader, RtlBitClear, StartingIndex, Length);
}

BOOLEAN NTAPI RtlExportAreBitsSet(PRTL_BITMAP BitMapHeader, ULONG StartingIndex, ULONG Length)
{
    return RtlpAreBits(BitMapHeader, RtlBitSet, StartingIndex, Length);
}

ULONG NTAPI RtlNumberOfSetBits(PRTL_BITMAP BitMapHeader)
{
    const ULONG Size = BitMapHeader->SizeOfBitMap;
    ULONG Count = 0;
    for (ULONG Word = 0; Word < Size / ULONG_BITS; Word += 1) {
        Count += RtlNumberOfSetBitsUlongPtr(BitMapHeader->Buffer[Word]);
    }
    if (Size % ULONG_BITS != 0) {
        const ULONG Mask = (1u << (Size % ULONG_BITS)) - 1;
        Count += RtlNumberOfSetBitsUlongPtr(BitMapHeader->Buffer[Size / ULONG_BITS] & Mask);
    }
    return Count;
}

ULONG NTAPI RtlNumberOfClearBits(PRTL_BITMAP BitMapHeader)
{
    return BitMapHeader->SizeOfBitMap - RtlNumberOfSetBits(BitMapHeader);
}

// -------------------------------------------------------------------------------------------------
// Runs.

// The next run of this value that begins at or after From. Its length is 0 when there is none.
static RTL_BITMAP_RUN RtlpNextRun(const RTL_BITMAP *BitMap, RTL_BIT_VALUE Value, ULONG From,
                                  ULONG End)
{
    const ULONG Start = RtlpFindBit(BitMap, Value, From, End);
    const RTL_BITMAP_RUN Run = {Start, RtlpFindBit(BitMap, RtlpOther(Value), Start, End) - Start};
    return Run;
}

static ULONG RtlpFindRun(const RTL_BITMAP *BitMap, RTL_BIT_VALUE Value, ULONG Count, ULONG From,
                         ULONG End)
{
    RTL_BITMAP_RUN Run = RtlpNextRun(BitMap, Value, From, End);
    for (; Run.NumberOfBits > 0;
         Run = RtlpNextRun(BitMap, Value, Run.StartingIndex + Run.NumberOfBits, End)) {
        if (Run.NumberOfBits >= Count) {
            return Run.StartingIndex;
        }
    }
    return NO_BITS_FOUND;
}

static ULONG RtlpFindBits(const RTL_BITMAP *BitMap, RTL_BIT_VALUE Value, ULONG Count, ULONG Hint)
{
    const ULONG Size = BitMap->SizeOfBitMap;
    if (Hint >= Size) {
        Hint = 0;
    }
    if (Count == 0) {
        return Hint;
    }
    if (Count > Size) {
        return NO_BITS_FOUND;
    }
    const ULONG Found = RtlpFindRun(BitMap, Value, Count, Hint, Size);
    if (Found != NO_BITS_FOUND) {
        return Found;
    }
    // From the beginning, up to where a run that ends behind the hint can begin.
    const ULONG End =
        Hint + (Count - 1) < Hint || Hint + (Count - 1) > Size ? Size : Hint + (Count - 1);
    return RtlpFindRun(BitMap, Value, Count, 0, End);
}

ULONG NTAPI RtlFindClearBits(PRTL_BITMAP BitMapHeader, ULONG NumberToFind, ULONG HintIndex)
{
    return RtlpFindBits(BitMapHeader, RtlBitClear, NumberToFind, HintIndex);
}

ULONG NTAPI RtlFindSetBits(PRTL_BITMAP BitMapHeader, ULONG NumberToFind, ULONG HintIndex)
{
    return RtlpFindBits(BitMapHeader, RtlBitSet, NumberToFind, HintIndex);
}

static ULONG RtlpFindAndChange(PRTL_BITMAP BitMap, RTL_BIT_VALUE Value, ULONG Count, ULONG Hint)
{
    const ULONG Found = RtlpFindBits(BitMap, Value, Count, Hint);
    if (Found != NO_BITS_FOUND) {
        RtlpChangeBits(BitMap, RtlpOther(Value), Found, Count);
    }
    return Found;
}

ULONG NTAPI RtlFindClearBitsAndSet(PRTL_BITMAP BitMapHeader, ULONG NumberToFind, ULONG HintIndex)
{
    return RtlpFindAndChange(BitMapHeader, RtlBitClear, NumberToFind, HintIndex);
}

ULONG NTAPI RtlFindSetBitsAndClear(PRTL_BITMAP BitMapHeader, ULONG NumberToFind, ULONG HintIndex)
{
    return RtlpFindAndChange(BitMapHeader, RtlBitSet, NumberToFind, HintIndex);
}

ULONG NTAPI RtlFindNextForwardRunClear(PRTL_BITMAP BitMapHeader, ULONG FromIndex,
                                       PULONG StartingRunIndex)
{
    const RTL_BITMAP_RUN Run =
        RtlpNextRun(BitMapHeader, RtlBitClear, FromIndex, BitMapHeader->SizeOfBitMap);
    *StartingRunIndex = Run.NumberOfBits > 0 ? Run.StartingIndex : FromIndex;
    return Run.NumberOfBits;
}

ULONG NTAPI RtlFindFirstRunClear(PRTL_BITMAP BitMapHeader, PULONG StartingIndex)
{
    return RtlFindNextForwardRunClear(BitMapHeader, 0, StartingIndex);
}

ULONG NTAPI RtlFindLastBackwardRunClear(PRTL_BITMAP BitMapHeader, ULONG FromIndex,
                                        PULONG StartingRunIndex)
{
    RTL_BITMAP_RUN Last = {FromIndex, 0};
    const ULONG Size = BitMapHeader->SizeOfBitMap;
    const ULONG End = FromIndex < Size ? FromIndex + 1 : Size;
    RTL_BITMAP_RUN Run = RtlpNextRun(BitMapHeader, RtlBitClear, 0, End);
    for (; Run.NumberOfBits > 0;
         Run = RtlpNextRun(BitMapHeader, RtlBitClear, Run.StartingIndex + Run.NumberOfBits, End)) {
        Last = Run;
    }
    *StartingRunIndex = Last.StartingIndex;
    return Last.NumberOfBits;
}

// Puts Run where it belongs among the Count longest ones; the shortest may fall out.
static ULONG RtlpInsertRun(PRTL_BITMAP_RUN Runs, ULONG Count, ULONG Capacity, RTL_BITMAP_RUN Run)
{
    ULONG Place = Count;
    while (Place > 0 && Runs[Place - 1].NumberOfBits < Run.NumberOfBits) {
        Place -= 1;
    }
    if (Place == Capacity) {
        return Count;
    }
    const ULONG NewCount = Count < Capacity ? Count + 1 : Capacity;
    RtlMoveMemory(Runs + Place + 1, Runs + Place, (NewCount - 1 - Place) * sizeof(*Runs));
    Runs[Place] = Run;
    return NewCount;
}

ULONG NTAPI RtlFindClearRuns(PRTL_BITMAP BitMapHeader, PRTL_BITMAP_RUN RunArray,
                             ULONG SizeOfRunArray, BOOLEAN LocateLongestRuns)
{
    ULONG Count = 0;
    const ULONG End = BitMapHeader->SizeOfBitMap;
    RTL_BITMAP_RUN Run = RtlpNextRun(BitMapHeader, RtlBitClear, 0, End);
    for (; Run.NumberOfBits > 0;
         Run = RtlpNextRun(BitMapHeader, RtlBitClear, Run.StartingIndex + Run.NumberOfBits, End)) {
        if (LocateLongestRuns) {
            Count = RtlpInsertRun(RunArray, Count, SizeOfRunArray, Run);
        } else if (Count < SizeOfRunArray) {
            RunArray[Count++] = Run;
        }
    }
    return Count;
}

ULONG NTAPI RtlFindLongestRunClear(PRTL_BITMAP BitMapHeader, PULONG StartingIndex)
{
    RTL_BITMAP_RUN Run = {0, 0};
    RtlFindClearRuns(BitMapHeader, &Run, 1, TRUE);
    *StartingIndex = Run.StartingIndex;
    return Run.NumberOfBits;
}
