// Bitmaps, against an array of booleans.
#include "kernel/inc/rtl.h"
#include "tests/host/host.h"
#include "tests/host/random.h"

#define BITS 200u

typedef struct _PAIR {
    ULONG64 Words[RTL_BITS_WORD_COUNT(BITS)];
    RTL_BITS Bits;
    BOOLEAN Naive[BITS];
} PAIR;

static VOID Start(PAIR *Pair)
{
    memset(Pair, 0, sizeof(*Pair));
    RtlInitializeBits(&Pair->Bits, Pair->Words, BITS);
}

static VOID Change(PAIR *Pair, ULONG64 First, ULONG64 Count, BOOLEAN IsSet)
{
    if (IsSet) {
        RtlSetBits(&Pair->Bits, First, Count);
    } else {
        RtlClearBits(&Pair->Bits, First, Count);
    }
    memset(&Pair->Naive[First], IsSet, Count);
}

static BOOLEAN IsNaiveRun(const PAIR *Pair, ULONG64 First, ULONG64 Count, BOOLEAN IsSet)
{
    for (ULONG64 Bit = First; Bit < First + Count; Bit += 1) {
        if (Bit >= BITS || Pair->Naive[Bit] != IsSet) {
            return FALSE;
        }
    }
    return TRUE;
}

static ULONG64 NaiveFind(const PAIR *Pair, ULONG64 From, BOOLEAN IsSet)
{
    for (ULONG64 Bit = From; Bit < BITS; Bit += 1) {
        if (Pair->Naive[Bit] == IsSet) {
            return Bit;
        }
    }
    return RTL_NO_BIT;
}

static ULONG64 NaiveRun(const PAIR *Pair, ULONG64 Count, ULONG64 Alignment, ULONG64 Phase,
                        ULONG64 From, ULONG64 End)
{
    for (ULONG64 Bit = From; Bit < End; Bit += 1) {
        if (Bit % Alignment == Phase && IsNaiveRun(Pair, Bit, Count, FALSE)) {
            return Bit;
        }
    }
    return RTL_NO_BIT;
}

static VOID CheckRun(const PAIR *Pair, RANDOM *Random)
{
    const ULONG64 Count = 1 + RandomBelow(Random, 40);
    const ULONG64 Alignment = 1ull << RandomBelow(Random, 6);
    const ULONG64 Phase = RandomBelow(Random, Alignment);
    const ULONG64 Hint = RandomBelow(Random, BITS + 1);
    ULONG64 Expected = NaiveRun(Pair, Count, Alignment, Phase, Hint, BITS);
    if (Expected == RTL_NO_BIT) {
        Expected = NaiveRun(Pair, Count, Alignment, Phase, 0, Hint);
    }
    CHECK_EQUAL(RtlFindClearRun(&Pair->Bits, Count, Alignment, Phase, Hint), Expected);
}

static VOID Every_operation_agrees_with_an_array_of_booleans(VOID)
{
    static PAIR Pair;
    RANDOM Random = RandomStart(1);
    Start(&Pair);
    for (ULONG Step = 0; Step < 200000; Step += 1) {
        const ULONG64 First = RandomBelow(&Random, BITS);
        const ULONG64 Count = RandomBelow(&Random, BITS - First + 1);
        Change(&Pair, First, Count < 60 ? Count : Count / 8, RandomBelow(&Random, 2) != 0);
        const ULONG64 At = RandomBelow(&Random, BITS);
        CHECK_EQUAL(RtlTestBit(&Pair.Bits, At), Pair.Naive[At]);
        CHECK_EQUAL(RtlFindSetBit(&Pair.Bits, At), NaiveFind(&Pair, At, TRUE));
        CHECK_EQUAL(RtlFindClearBit(&Pair.Bits, At), NaiveFind(&Pair, At, FALSE));
        const ULONG64 Length = RandomBelow(&Random, BITS - At + 1);
        CHECK_EQUAL(RtlAreBitsSet(&Pair.Bits, At, Length), IsNaiveRun(&Pair, At, Length, TRUE));
        CHECK_EQUAL(RtlAreBitsClear(&Pair.Bits, At, Length), IsNaiveRun(&Pair, At, Length, FALSE));
        CheckRun(&Pair, &Random);
    }
    ULONG64 Count = 0;
    for (ULONG Bit = 0; Bit < BITS; Bit += 1) {
        Count += Pair.Naive[Bit];
    }
    CHECK_EQUAL(RtlCountSetBits(&Pair.Bits), Count);
}

static VOID A_search_in_a_full_bitmap_finds_nothing(VOID)
{
    static PAIR Pair;
    Start(&Pair);
    Change(&Pair, 0, BITS, TRUE);
    CHECK_EQUAL(RtlFindClearBit(&Pair.Bits, 0), RTL_NO_BIT);
    CHECK_EQUAL(RtlFindClearRun(&Pair.Bits, 1, 1, 0, 0), RTL_NO_BIT);
    CHECK_EQUAL(RtlFindClearRun(&Pair.Bits, 1, 1, 0, BITS), RTL_NO_BIT);
    Change(&Pair, BITS - 1, 1, FALSE);
    CHECK_EQUAL(RtlFindClearRun(&Pair.Bits, 1, 1, 0, 0), BITS - 1);
    CHECK_EQUAL(RtlFindClearRun(&Pair.Bits, 2, 1, 0, 0), RTL_NO_BIT);
}

static VOID A_run_longer_than_the_bitmap_is_never_found(VOID)
{
    static PAIR Pair;
    Start(&Pair);
    CHECK_EQUAL(RtlFindClearRun(&Pair.Bits, BITS, 1, 0, 0), 0);
    CHECK_EQUAL(RtlFindClearRun(&Pair.Bits, BITS + 1, 1, 0, 0), RTL_NO_BIT);
    CHECK_EQUAL(RtlFindClearRun(&Pair.Bits, MAXULONG64, 1, 0, 0), RTL_NO_BIT);
}

static const HOST_TEST Tests[] = {
    HOST_ROW(Every_operation_agrees_with_an_array_of_booleans, "rtl.h, bitmaps", NULL),
    HOST_ROW(A_search_in_a_full_bitmap_finds_nothing, "rtl.h, bitmaps", NULL),
    HOST_ROW(A_run_longer_than_the_bitmap_is_never_found, "rtl.h, bitmaps", NULL),
};

HOST_DEFINE_SUITE(bitmap);
