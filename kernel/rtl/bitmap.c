// Bitmaps over 64-bit words.
//
// Every routine works word by word: a word that is all ones or all zeros costs one comparison, and
// inside a word the processor's bit-scan finds the place. Bits of the last word beyond BitCount
// stay clear and are never reported.

#include "kernel/inc/ke.h"
#include "kernel/inc/rtl.h"

#define WORD_BITS 64u

// Ones at bit positions [First, First + Count) of one word. First + Count <= 64, Count > 0.
static inline ULONG64 RtlpWordMask(ULONG64 First, ULONG64 Count)
{
    return (~0ull >> (WORD_BITS - Count)) << First;
}

static inline ULONG64 RtlpMinimum(ULONG64 A, ULONG64 B)
{
    return A < B ? A : B;
}

static inline VOID RtlpAssertInside(const RTL_BITS *Bits, ULONG64 First, ULONG64 Count)
{
    NT_ASSERT(Count <= Bits->BitCount && First <= Bits->BitCount - Count);
}

// One step of a walk over the bits [First, First + Count): the part of them that lies in one word.
typedef struct _BIT_STEP {
    ULONG64 Word;
    ULONG64 Mask;
    ULONG64 BitCount;
} BIT_STEP;

static inline BIT_STEP RtlpFirstStep(ULONG64 First, ULONG64 Count)
{
    const ULONG64 Offset = First % WORD_BITS;
    const ULONG64 BitCount = RtlpMinimum(Count, WORD_BITS - Offset);
    return (BIT_STEP){First / WORD_BITS, RtlpWordMask(Offset, BitCount), BitCount};
}

VOID RtlInitializeBits(PRTL_BITS Bits, PULONG64 Words, ULONG64 BitCount)
{
    Bits->Words = Words;
    Bits->BitCount = BitCount;
    memset(Words, 0, RTL_BITS_WORD_COUNT(BitCount) * sizeof(ULONG64));
}

VOID RtlSetBits(PRTL_BITS Bits, ULONG64 First, ULONG64 Count)
{
    RtlpAssertInside(Bits, First, Count);
    while (Count > 0) {
        const BIT_STEP Step = RtlpFirstStep(First, Count);
        Bits->Words[Step.Word] |= Step.Mask;
        First += Step.BitCount;
        Count -= Step.BitCount;
    }
}

VOID RtlClearBits(PRTL_BITS Bits, ULONG64 First, ULONG64 Count)
{
    RtlpAssertInside(Bits, First, Count);
    while (Count > 0) {
        const BIT_STEP Step = RtlpFirstStep(First, Count);
        Bits->Words[Step.Word] &= ~Step.Mask;
        First += Step.BitCount;
        Count -= Step.BitCount;
    }
}

BOOLEAN RtlTestBit(const RTL_BITS *Bits, ULONG64 Index)
{
    RtlpAssertInside(Bits, Index, 1);
    return (Bits->Words[Index / WORD_BITS] >> (Index % WORD_BITS)) & 1;
}

// The first bit in [From, End) whose value differs from that of Background (all zeros or all ones),
// or End.
static ULONG64 RtlpFindDifferent(const RTL_BITS *Bits, ULONG64 From, ULONG64 End,
                                 ULONG64 Background)
{
    if (From >= End) {
        return End;
    }
    const ULONG64 LastWord = (End - 1) / WORD_BITS;
    ULONG64 Word = From / WORD_BITS;
    ULONG64 Different = (Bits->Words[Word] ^ Background) & (~0ull << (From % WORD_BITS));
    while (Different == 0) {
        if (++Word > LastWord) {
            return End;
        }
        Different = Bits->Words[Word] ^ Background;
    }
    return RtlpMinimum(Word * WORD_BITS + (ULONG64)__builtin_ctzll(Different), End);
}

static inline ULONG64 RtlpNextSet(const RTL_BITS *Bits, ULONG64 From, ULONG64 End)
{
    return RtlpFindDifferent(Bits, From, End, 0);
}

static inline ULONG64 RtlpNextClear(const RTL_BITS *Bits, ULONG64 From)
{
    return RtlpFindDifferent(Bits, From, Bits->BitCount, ~0ull);
}

ULONG64 RtlFindSetBit(const RTL_BITS *Bits, ULONG64 From)
{
    const ULONG64 Index = RtlpNextSet(Bits, From, Bits->BitCount);
    return Index < Bits->BitCount ? Index : RTL_NO_BIT;
}

ULONG64 RtlFindClearBit(const RTL_BITS *Bits, ULONG64 From)
{
    const ULONG64 Index = RtlpNextClear(Bits, From);
    return Index < Bits->BitCount ? Index : RTL_NO_BIT;
}

BOOLEAN RtlAreBitsClear(const RTL_BITS *Bits, ULONG64 First, ULONG64 Count)
{
    RtlpAssertInside(Bits, First, Count);
    while (Count > 0) {
        const BIT_STEP Step = RtlpFirstStep(First, Count);
        if ((Bits->Words[Step.Word] & Step.Mask) != 0) {
            return FALSE;
        }
        First += Step.BitCount;
        Count -= Step.BitCount;
    }
    return TRUE;
}

BOOLEAN RtlAreBitsSet(const RTL_BITS *Bits, ULONG64 First, ULONG64 Count)
{
    RtlpAssertInside(Bits, First, Count);
    while (Count > 0) {
        const BIT_STEP Step = RtlpFirstStep(First, Count);
        if ((Bits->Words[Step.Word] & Step.Mask) != Step.Mask) {
            return FALSE;
        }
        First += Step.BitCount;
        Count -= Step.BitCount;
    }
    return TRUE;
}

ULONG64 RtlCountSetBits(const RTL_BITS *Bits)
{
    ULONG64 Count = 0;
    for (ULONG64 Word = 0; Word < RTL_BITS_WORD_COUNT(Bits->BitCount); Word += 1) {
        // Most words are empty, and the processor may lack an instruction that counts.
        if (Bits->Words[Word] != 0) {
            Count += (ULONG64)__builtin_popcountll(Bits->Words[Word]);
        }
    }
    return Count;
}

// The lowest place at or above From that is Phase modulo Alignment.
static inline ULONG64 RtlpAlign(ULONG64 From, ULONG64 Alignment, ULONG64 Phase)
{
    return From + ((Phase - From) & (Alignment - 1));
}

// A run that begins in [From, End), or RTL_NO_BIT. The run itself may pass End.
static ULONG64 RtlpFindRunFrom(const RTL_BITS *Bits, ULONG64 Count, ULONG64 Alignment,
                               ULONG64 Phase, ULONG64 From, ULONG64 End)
{
    ULONG64 Start = RtlpAlign(RtlpNextClear(Bits, From), Alignment, Phase);
    while (Start < End && Count <= Bits->BitCount && Start <= Bits->BitCount - Count) {
        const ULONG64 Obstacle = RtlpNextSet(Bits, Start, Start + Count);
        if (Obstacle == Start + Count) {
            return Start;
        }
        Start = RtlpAlign(RtlpNextClear(Bits, Obstacle), Alignment, Phase);
    }
    return RTL_NO_BIT;
}

ULONG64 RtlFindClearRun(const RTL_BITS *Bits, ULONG64 Count, ULONG64 Alignment, ULONG64 Phase,
                        ULONG64 Hint)
{
    NT_ASSERT(Count > 0 && Alignment != 0 && (Alignment & (Alignment - 1)) == 0 &&
              Phase < Alignment);
    const ULONG64 Start = RtlpFindRunFrom(Bits, Count, Alignment, Phase, Hint, Bits->BitCount);
    if (Start != RTL_NO_BIT || Hint == 0) {
        return Start;
    }
    return RtlpFindRunFrom(Bits, Count, Alignment, Phase, 0, Hint);
}
