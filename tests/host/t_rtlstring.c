// Strings, bitmaps, time and numbers for drivers (rtlddk.h).
#include "kernel/inc/crt.h"
#include "kernel/runtime/runtime.h"
#include "tests/host/host.h"

#define STRING_OF(Literal) ((UNICODE_STRING)RTL_CONSTANT_STRING(Literal))

static BOOLEAN IsText(const UNICODE_STRING *String, PCWSTR Expected)
{
    return String->Length == CrtWcslen(Expected) * 2 &&
           memcmp(String->Buffer, Expected, String->Length) == 0;
}

static VOID Strings_begin_with_what_they_are_made_of(VOID)
{
    UNICODE_STRING Wide;
    ANSI_STRING Narrow;
    RtlInitUnicodeString(&Wide, u"abc");
    CHECK(Wide.Length == 6 && Wide.MaximumLength == 8 && Wide.Buffer[0] == 'a');
    RtlInitUnicodeString(&Wide, NULL);
    CHECK(Wide.Length == 0 && Wide.MaximumLength == 0 && Wide.Buffer == NULL);
    RtlInitAnsiString(&Narrow, "abc");
    CHECK(Narrow.Length == 3 && Narrow.MaximumLength == 4);
    static WCHAR Long[40000];
    for (ULONG Index = 0; Index < 39999; Index += 1) {
        Long[Index] = 'x';
    }
    CHECK_EQUAL(RtlInitUnicodeStringEx(&Wide, Long), STATUS_NAME_TOO_LONG);
    RtlInitUnicodeString(&Wide, Long);
    CHECK(Wide.Length == 65532 && Wide.MaximumLength == 65534);
}

static VOID Copies_and_appends_stay_within_the_buffer(VOID)
{
    WCHAR Buffer[8] = u"-------";
    UNICODE_STRING String;
    RtlInitEmptyUnicodeString(&String, Buffer, 6 * sizeof(WCHAR));
    RtlCopyUnicodeString(&String, &STRING_OF(u"abc"));
    CHECK(IsText(&String, u"abc") && Buffer[3] == 0 && Buffer[4] == '-');
    CHECK_EQUAL(RtlAppendUnicodeToString(&String, u"de"), STATUS_SUCCESS);
    CHECK(IsText(&String, u"abcde") && Buffer[5] == 0);
    CHECK_EQUAL(RtlAppendUnicodeToString(&String, u"fg"), STATUS_BUFFER_TOO_SMALL);
    CHECK_EQUAL(RtlAppendUnicodeStringToString(&String, &STRING_OF(u"f")), STATUS_SUCCESS);
    CHECK(IsText(&String, u"abcdef") && Buffer[6] == '-');
    CHECK_EQUAL(RtlAppendUnicodeToString(&String, NULL), STATUS_SUCCESS);
    RtlCopyUnicodeString(&String, &STRING_OF(u"longer than six"));
    CHECK(IsText(&String, u"longer") && Buffer[6] == '-');
    RtlCopyUnicodeString(&String, NULL);
    CHECK_EQUAL(String.Length, 0);

    CHAR Bytes[5] = "----";
    ANSI_STRING Narrow, Source;
    RtlInitEmptyAnsiString(&Narrow, Bytes, 3);
    RtlInitAnsiString(&Source, "abcdef");
    RtlExportCopyString(&Narrow, &Source);
    CHECK(Narrow.Length == 3 && memcmp(Bytes, "abc-", 4) == 0);
    RtlExportCopyString(&Narrow, NULL);
    CHECK_EQUAL(RtlAppendAsciizToString(&Narrow, "x"), STATUS_SUCCESS);
    CHECK_EQUAL(RtlAppendStringToString(&Narrow, &Source), STATUS_BUFFER_TOO_SMALL);
    CHECK(memcmp(Bytes, "x\0", 2) == 0);
}

static VOID Comparisons_know_case_and_length(VOID)
{
    CHECK(RtlCompareUnicodeString(&STRING_OF(u"abc"), &STRING_OF(u"ABD"), TRUE) < 0);
    CHECK(RtlCompareUnicodeString(&STRING_OF(u"abc"), &STRING_OF(u"ABC"), FALSE) > 0);
    CHECK(RtlCompareUnicodeString(&STRING_OF(u"ab"), &STRING_OF(u"abc"), FALSE) < 0);
    CHECK(RtlEqualUnicodeString(&STRING_OF(u"\u00c4rger"), &STRING_OF(u"\u00e4RGER"), TRUE));
    CHECK(!RtlEqualUnicodeString(&STRING_OF(u"a"), &STRING_OF(u"A"), FALSE));
    CHECK(RtlPrefixUnicodeString(&STRING_OF(u"\\dev"), &STRING_OF(u"\\Device"), TRUE));
    CHECK(!RtlPrefixUnicodeString(&STRING_OF(u"\\dev"), &STRING_OF(u"\\Device"), FALSE));
    CHECK(!RtlPrefixUnicodeString(&STRING_OF(u"longer"), &STRING_OF(u"long"), FALSE));
    STRING A, B;
    RtlInitString(&A, "abc");
    RtlInitString(&B, "ABCD");
    CHECK(RtlCompareString(&A, &B, TRUE) < 0 && RtlCompareString(&A, &B, FALSE) > 0);
    CHECK(RtlPrefixString(&A, &B, TRUE) && !RtlEqualString(&A, &B, TRUE));
    ULONG Hash, SameHash;
    CHECK_EQUAL(RtlHashUnicodeString(&STRING_OF(u"ab"), FALSE, 0, &Hash), STATUS_SUCCESS);
    CHECK_EQUAL(Hash, 'a' * 65599u + 'b');
    RtlHashUnicodeString(&STRING_OF(u"Ab"), TRUE, 1, &Hash);
    RtlHashUnicodeString(&STRING_OF(u"aB"), TRUE, 1, &SameHash);
    CHECK_EQUAL(Hash, SameHash);
    CHECK_EQUAL(RtlHashUnicodeString(&STRING_OF(u"a"), TRUE, 2, &Hash), STATUS_INVALID_PARAMETER);
}

static VOID Case_is_a_matter_of_pairs(VOID)
{
    static const WCHAR Pairs[][2] = {
        {'a', 'A'},       {0xE4, 0xC4},     {0xFF, 0x178},    {0x101, 0x100}, {0x13A, 0x139},
        {0x3B1, 0x391},   {0x3CC, 0x38C},   {0x430, 0x410},   {0x45F, 0x40F}, {0x561, 0x531},
        {0x1EFF, 0x1EFE}, {0x2170, 0x2160}, {0xFF5A, 0xFF3A}, {0x4C2, 0x4C1}};
    for (ULONG Index = 0; Index < ARRAYSIZE(Pairs); Index += 1) {
        CHECK_EQUAL(RtlUpcaseUnicodeChar(Pairs[Index][0]), Pairs[Index][1]);
        CHECK_EQUAL(RtlDowncaseUnicodeChar(Pairs[Index][1]), Pairs[Index][0]);
    }
    static const WCHAR Single[] = {'0', '[', 0xD7, 0xF7, 0xDF, 0x138, 0x3C2, 0x4E00, 0xFFFF};
    for (ULONG Index = 0; Index < ARRAYSIZE(Single); Index += 1) {
        CHECK_EQUAL(RtlUpcaseUnicodeChar(Single[Index]), Single[Index]);
        CHECK_EQUAL(RtlDowncaseUnicodeChar(Single[Index]), Single[Index]);
    }
    for (ULONG Unit = 0; Unit <= 0xFFFF; Unit += 1) {
        const WCHAR Upper = RtlUpcaseUnicodeChar((WCHAR)Unit);
        CHECK_EQUAL(RtlUpcaseUnicodeChar(Upper), Upper);
        CHECK(Upper == Unit || RtlDowncaseUnicodeChar(Upper) == Unit);
    }
    CHECK_EQUAL((UCHAR)RtlUpperChar((CHAR)0xFF), 0xFF); // its upper case has no byte
}

static VOID Strings_in_pool_are_freed_by_their_routine(VOID)
{
    UNICODE_STRING Wide, Other;
    ANSI_STRING Narrow;
    RtlInitAnsiString(&Narrow, "text");
    CHECK_EQUAL(RtlAnsiStringToUnicodeString(&Wide, &Narrow, TRUE), STATUS_SUCCESS);
    CHECK(IsText(&Wide, u"text") && Wide.MaximumLength == 10 && Wide.Buffer[4] == 0);
    CHECK_EQUAL(RtlUpcaseUnicodeString(&Other, &Wide, TRUE), STATUS_SUCCESS);
    CHECK(IsText(&Other, u"TEXT"));
    CHECK_EQUAL(RtlUnicodeStringToAnsiString(&Narrow, &Other, TRUE), STATUS_SUCCESS);
    CHECK(Narrow.Length == 4 && memcmp(Narrow.Buffer, "TEXT", 5) == 0);
    RtlFreeUnicodeString(&Wide);
    CHECK(Wide.Buffer == NULL);
    RtlFreeUnicodeString(&Wide);
    CHECK_EQUAL(RtlDowncaseUnicodeString(&Wide, &Other, TRUE), STATUS_SUCCESS);
    CHECK(IsText(&Wide, u"text"));
    RtlFreeUnicodeString(&Wide);
    RtlFreeUnicodeString(&Other);
    RtlFreeAnsiString(&Narrow);
    CHECK(RtlCreateUnicodeString(&Wide, u"copy"));
    CHECK(IsText(&Wide, u"copy") && Wide.Buffer[4] == 0);
    CHECK_EQUAL(RtlDuplicateUnicodeString(0, &Wide, &Other), STATUS_SUCCESS);
    CHECK(Other.MaximumLength == 8);
    RtlFreeUnicodeString(&Other);
    CHECK_EQUAL(RtlDuplicateUnicodeString(2, &Wide, &Other), STATUS_INVALID_PARAMETER);
    CHECK_EQUAL(RtlDuplicateUnicodeString(1, &STRING_OF(u""), &Other), STATUS_SUCCESS);
    CHECK(Other.Buffer == NULL);
    CHECK_EQUAL(RtlDuplicateUnicodeString(3, NULL, &Other), STATUS_SUCCESS);
    CHECK(Other.Buffer != NULL && Other.Length == 0 && Other.MaximumLength == 2);
    RtlFreeUnicodeString(&Other);
    RtlFreeUnicodeString(&Wide);

    GUID Guid;
    CHECK_EQUAL(RtlGUIDFromString(&STRING_OF(u"{01234567-89aB-cDeF-0123-456789abcdef}"), &Guid),
                STATUS_SUCCESS);
    CHECK(Guid.Data1 == 0x01234567 && Guid.Data2 == 0x89AB && Guid.Data3 == 0xCDEF &&
          Guid.Data4[0] == 0x01 && Guid.Data4[7] == 0xEF);
    CHECK_EQUAL(RtlStringFromGUID(&Guid, &Wide), STATUS_SUCCESS);
    CHECK(IsText(&Wide, u"{01234567-89AB-CDEF-0123-456789ABCDEF}"));
    RtlFreeUnicodeString(&Wide);
    CHECK_EQUAL(RtlGUIDFromString(&STRING_OF(u"{01234567-89aB-cDeF-0123-456789abcdeg}"), &Guid),
                STATUS_INVALID_PARAMETER);
    CHECK_EQUAL(RtlGUIDFromString(&STRING_OF(u"01234567-89aB-cDeF-0123-456789abcdefff"), &Guid),
                STATUS_INVALID_PARAMETER);
}

static VOID Conversions_into_a_buffer_say_when_it_is_small(VOID)
{
    WCHAR Units[4];
    UNICODE_STRING Wide;
    ANSI_STRING Narrow;
    RtlInitEmptyUnicodeString(&Wide, Units, sizeof(Units));
    RtlInitAnsiString(&Narrow, "abcd");
    CHECK_EQUAL(RtlAnsiStringToUnicodeString(&Wide, &Narrow, FALSE), STATUS_BUFFER_OVERFLOW);
    RtlInitAnsiString(&Narrow, "abc");
    CHECK_EQUAL(RtlAnsiStringToUnicodeString(&Wide, &Narrow, FALSE), STATUS_SUCCESS);
    CHAR Bytes[3];
    RtlInitEmptyAnsiString(&Narrow, Bytes, sizeof(Bytes));
    CHECK_EQUAL(RtlUnicodeStringToAnsiString(&Narrow, &Wide, FALSE), STATUS_BUFFER_OVERFLOW);
    CHECK(Narrow.Length == 2 && memcmp(Bytes, "ab", 3) == 0);
    ULONG Count;
    CHECK_EQUAL(RtlUnicodeToMultiByteN(Bytes, 3, &Count, u"a\u20acb", 6), STATUS_SUCCESS);
    CHECK(Count == 3 && memcmp(Bytes, "a?b", 3) == 0);
    CHECK_EQUAL(RtlMultiByteToUnicodeN(Units, 4, &Count, "xyz", 3), STATUS_SUCCESS);
    CHECK(Count == 4 && Units[1] == 'y');
    RtlMultiByteToUnicodeSize(&Count, "xyz", 3);
    CHECK_EQUAL(Count, 6);
    RtlUnicodeToMultiByteSize(&Count, u"xyz", 6);
    CHECK_EQUAL(Count, 3);
}

static VOID Utf8_is_read_strictly_and_written_shortly(VOID)
{
    CHAR Bytes[16];
    WCHAR Units[16];
    ULONG Count;
    CHECK_EQUAL(RtlUnicodeToUTF8N(Bytes, 16, &Count, u"a\u00e4\u20ac\U0001F600", 10),
                STATUS_SUCCESS);
    CHECK(Count == 10 && memcmp(Bytes, "a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", 10) == 0);
    CHECK_EQUAL(RtlUTF8ToUnicodeN(Units, sizeof(Units), &Count, Bytes, 10), STATUS_SUCCESS);
    CHECK(Count == 10 && memcmp(Units, u"a\u00e4\u20ac\U0001F600", 10) == 0);
    CHECK_EQUAL(RtlUnicodeToUTF8N(NULL, 0, &Count, u"\u20ac", 2), STATUS_SUCCESS);
    CHECK_EQUAL(Count, 3);
    CHECK_EQUAL(RtlUnicodeToUTF8N(Bytes, 2, &Count, u"a\u20ac", 4), STATUS_BUFFER_TOO_SMALL);
    CHECK_EQUAL(Count, 1);
    static const CHAR *const Bad[] = {"\xff",     "\x80",         "\xc3",
                                      "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80"};
    for (ULONG Index = 0; Index < ARRAYSIZE(Bad); Index += 1) {
        CHECK_EQUAL(
            RtlUTF8ToUnicodeN(Units, sizeof(Units), &Count, Bad[Index], (ULONG)strlen(Bad[Index])),
            STATUS_SOME_NOT_MAPPED);
        CHECK(Units[0] == 0xFFFD);
    }
    static const WCHAR Lone[] = {0xD800, 'a', 0xDC00};
    CHECK_EQUAL(RtlUnicodeToUTF8N(Bytes, 16, &Count, Lone, 6), STATUS_SOME_NOT_MAPPED);
    CHECK(Count == 7 && memcmp(Bytes,
                               "\xef\xbf\xbd"
                               "a"
                               "\xef\xbf\xbd",
                               7) == 0);
    CHECK_EQUAL(RtlUnicodeToUTF8N(Bytes, 16, &Count, NULL, 0), STATUS_INVALID_PARAMETER_4);
    CHECK_EQUAL(RtlUnicodeToUTF8N(Bytes, 16, &Count, u"a", 1), STATUS_INVALID_PARAMETER_5);
}

static VOID Integers_are_read_and_written(VOID)
{
    ULONG Value;
    CHECK_EQUAL(RtlUnicodeStringToInteger(&STRING_OF(u"  0x1fG"), 0, &Value), STATUS_SUCCESS);
    CHECK_EQUAL(Value, 0x1F);
    RtlUnicodeStringToInteger(&STRING_OF(u"-5"), 0, &Value);
    CHECK_EQUAL(Value, (ULONG)-5);
    RtlUnicodeStringToInteger(&STRING_OF(u"0b101"), 0, &Value);
    CHECK_EQUAL(Value, 5);
    RtlUnicodeStringToInteger(&STRING_OF(u"ff"), 16, &Value);
    CHECK_EQUAL(Value, 255);
    CHECK_EQUAL(RtlUnicodeStringToInteger(&STRING_OF(u"1"), 7, &Value), STATUS_INVALID_PARAMETER);
    CHECK_EQUAL(RtlCharToInteger("0o17", 0, &Value), STATUS_SUCCESS);
    CHECK_EQUAL(Value, 15);
    WCHAR Units[6];
    UNICODE_STRING String;
    RtlInitEmptyUnicodeString(&String, Units, sizeof(Units));
    CHECK_EQUAL(RtlIntegerToUnicodeString(12345, 0, &String), STATUS_SUCCESS);
    CHECK(IsText(&String, u"12345") && Units[5] == 0);
    CHECK_EQUAL(RtlIntegerToUnicodeString(0xABCDEF, 16, &String), STATUS_SUCCESS);
    CHECK(IsText(&String, u"ABCDEF"));
    CHECK_EQUAL(RtlInt64ToUnicodeString(MAXULONG64, 16, &String), STATUS_BUFFER_OVERFLOW);
    CHECK_EQUAL(RtlIntegerToUnicodeString(1, 3, &String), STATUS_INVALID_PARAMETER);
}

// Against a bitmap of one byte per bit.
static VOID Bitmaps_agree_with_a_naive_one(VOID)
{
    enum { BitCount = 131 };
    ULONG Words[(BitCount + 31) / 32];
    UCHAR Naive[BitCount] = {0};
    RTL_BITMAP BitMap;
    ULONG Seed = 5;
    RtlInitializeBitMap(&BitMap, Words, BitCount);
    RtlClearAllBits(&BitMap);
    for (ULONG Round = 0; Round < 4000; Round += 1) {
        const ULONG First = RtlRandomEx(&Seed) % BitCount;
        const ULONG Count = 1 + RtlRandomEx(&Seed) % 9 % (BitCount - First);
        const BOOLEAN Sets = RtlRandomEx(&Seed) % 2;
        (Sets ? RtlExportSetBits : RtlExportClearBits)(&BitMap, First, Count);
        memset(Naive + First, Sets, Count);
        ULONG SetCount = 0, Longest = 0, LongestStart = 0, Run = 0;
        for (ULONG Index = 0; Index < BitCount; Index += 1) {
            CHECK_EQUAL(RtlExportTestBit(&BitMap, Index), Naive[Index]);
            SetCount += Naive[Index];
            Run = Naive[Index] ? 0 : Run + 1;
            if (Run > Longest) {
                Longest = Run;
                LongestStart = Index + 1 - Run;
            }
        }
        CHECK_EQUAL(RtlNumberOfSetBits(&BitMap), SetCount);
        CHECK_EQUAL(RtlNumberOfClearBits(&BitMap), BitCount - SetCount);
        ULONG Start;
        CHECK_EQUAL(RtlFindLongestRunClear(&BitMap, &Start), Longest);
        CHECK(Longest == 0 || Start == LongestStart);
        const ULONG Wanted = 1 + RtlRandomEx(&Seed) % 6;
        const ULONG Hint = RtlRandomEx(&Seed) % BitCount;
        ULONG Expected = MAXULONG;
        for (ULONG Index = 0; Index < BitCount && Expected == MAXULONG; Index += 1) {
            const ULONG Place = (Hint + Index) % BitCount;
            BOOLEAN IsClear = Place + Wanted <= BitCount;
            for (ULONG Bit = 0; IsClear && Bit < Wanted; Bit += 1) {
                IsClear = !Naive[Place + Bit];
            }
            Expected = IsClear ? Place : Expected;
            if (Place + Wanted <= BitCount) {
                CHECK_EQUAL(RtlExportAreBitsClear(&BitMap, Place, Wanted), IsClear);
            }
        }
        CHECK_EQUAL(RtlFindClearBits(&BitMap, Wanted, Hint), Expected);
    }
}

static VOID Bitmaps_find_and_take(VOID)
{
    ULONG Words[2] = {0xFFFF00FF, 0x0000FFF0};
    RTL_BITMAP BitMap;
    RTL_BITMAP_RUN Runs[4];
    ULONG Start;
    RtlInitializeBitMap(&BitMap, Words, 56);
    CHECK_EQUAL(RtlFindClearRuns(&BitMap, Runs, 4, FALSE), 3);
    CHECK(Runs[0].StartingIndex == 8 && Runs[0].NumberOfBits == 8 && Runs[1].StartingIndex == 32 &&
          Runs[1].NumberOfBits == 4 && Runs[2].StartingIndex == 48 && Runs[2].NumberOfBits == 8);
    CHECK_EQUAL(RtlFindClearRuns(&BitMap, Runs, 2, TRUE), 2);
    CHECK(Runs[0].StartingIndex == 8 && Runs[1].StartingIndex == 48);
    CHECK_EQUAL(RtlFindClearRuns(&BitMap, Runs, 2, FALSE), 2);
    CHECK_EQUAL(Runs[1].StartingIndex, 32);
    CHECK_EQUAL(RtlFindFirstRunClear(&BitMap, &Start), 8);
    CHECK_EQUAL(Start, 8);
    CHECK_EQUAL(RtlFindNextForwardRunClear(&BitMap, 10, &Start), 6);
    CHECK_EQUAL(Start, 10);
    CHECK_EQUAL(RtlFindLastBackwardRunClear(&BitMap, 40, &Start), 4);
    CHECK_EQUAL(Start, 32);
    CHECK_EQUAL(RtlFindLastBackwardRunClear(&BitMap, 5, &Start), 0);
    CHECK_EQUAL(RtlFindClearBitsAndSet(&BitMap, 6, 20), 48);
    CHECK_EQUAL(RtlFindClearBitsAndSet(&BitMap, 6, 20), 8);
    CHECK_EQUAL(RtlFindClearBitsAndSet(&BitMap, 6, 20), MAXULONG);
    CHECK_EQUAL(RtlFindSetBits(&BitMap, 12, 30), 36);
    CHECK_EQUAL(RtlFindSetBitsAndClear(&BitMap, 14, 30), 36); // with the six just set
    CHECK(RtlExportAreBitsSet(&BitMap, 0, 14) && !RtlExportAreBitsSet(&BitMap, 0, 15));
    CHECK(!RtlExportAreBitsSet(&BitMap, 56, 1) && !RtlExportAreBitsSet(&BitMap, 0, 0));
    CHECK_EQUAL(RtlFindClearBits(&BitMap, 0, 12), 12);
    CHECK_EQUAL(RtlFindClearBits(&BitMap, 57, 0), MAXULONG);
    RtlSetAllBits(&BitMap);
    CHECK_EQUAL(RtlNumberOfSetBits(&BitMap), 56);
    RtlClearBit(&BitMap, 55);
    CHECK_EQUAL(RtlFindClearBits(&BitMap, 1, 0), 55);
    RtlSetBit(&BitMap, 55);
    CHECK_EQUAL(RtlFindFirstRunClear(&BitMap, &Start), 0);
}

typedef struct _TIME_ROW {
    LONG64 Seconds; // since 1970
    TIME_FIELDS Fields;
} TIME_ROW;

static VOID Time_is_a_date_and_back(VOID)
{
    static const TIME_ROW Rows[] = {
        {0, {1970, 1, 1, 0, 0, 0, 0, 4}},
        {951782399, {2000, 2, 28, 23, 59, 59, 0, 1}},
        {951782400, {2000, 2, 29, 0, 0, 0, 0, 2}},
        {951868800, {2000, 3, 1, 0, 0, 0, 0, 3}},
        {1709164800, {2024, 2, 29, 0, 0, 0, 0, 4}},
        {4107542400, {2100, 3, 1, 0, 0, 0, 0, 1}},
        {-11644473600, {1601, 1, 1, 0, 0, 0, 0, 1}},
    };
    LARGE_INTEGER Time;
    TIME_FIELDS Fields;
    for (ULONG Index = 0; Index < ARRAYSIZE(Rows); Index += 1) {
        Time.QuadPart = (Rows[Index].Seconds + 11644473600ll) * 10000000;
        RtlTimeToTimeFields(&Time, &Fields);
        CHECK(memcmp(&Fields, &Rows[Index].Fields, sizeof(Fields)) == 0);
        LARGE_INTEGER Back;
        CHECK(RtlTimeFieldsToTime(&Fields, &Back));
        CHECK_EQUAL(Back.QuadPart, Time.QuadPart);
    }
    // Each day of 800 years follows the one before.
    CSHORT Weekday = 0;
    for (LONG64 Day = 0; Day < 292194; Day += 1) {
        Time.QuadPart = Day * 864000000000ll + 123 * 10000;
        RtlTimeToTimeFields(&Time, &Fields);
        Weekday = (CSHORT)((Weekday + 1) % 7);
        CHECK(Fields.Weekday == Weekday && Fields.Milliseconds == 123);
        LARGE_INTEGER Back;
        CHECK(RtlTimeFieldsToTime(&Fields, &Back) && Back.QuadPart == Time.QuadPart);
    }
    CHECK(Fields.Year == 2400 && Fields.Month == 12 && Fields.Day == 31);
    static const TIME_FIELDS Wrong[] = {
        {1600, 1, 1, 0, 0, 0, 0, 0},  {2023, 2, 29, 0, 0, 0, 0, 0},  {2023, 13, 1, 0, 0, 0, 0, 0},
        {2023, 1, 0, 0, 0, 0, 0, 0},  {2023, 1, 1, 24, 0, 0, 0, 0},  {2023, 1, 1, 0, 60, 0, 0, 0},
        {2023, 1, 1, 0, 0, 60, 0, 0}, {2023, 1, 1, 0, 0, 0, 1000, 0}};
    for (ULONG Index = 0; Index < ARRAYSIZE(Wrong); Index += 1) {
        Fields = Wrong[Index];
        CHECK(!RtlTimeFieldsToTime(&Fields, &Time));
    }
    ULONG Seconds;
    RtlSecondsSince1970ToTime(1000, &Time);
    CHECK(RtlTimeToSecondsSince1970(&Time, &Seconds) && Seconds == 1000);
    CHECK(!RtlTimeToSecondsSince1980(&Time, &Seconds));
    RtlSecondsSince1980ToTime(MAXULONG, &Time);
    CHECK(RtlTimeToSecondsSince1980(&Time, &Seconds) && Seconds == MAXULONG);
    Time.QuadPart += 10000000;
    CHECK(!RtlTimeToSecondsSince1980(&Time, &Seconds));
}

static VOID Memory_and_words_are_compared_and_swapped(VOID)
{
    ULONG Words[3] = {7, 7, 8};
    CHECK_EQUAL(RtlCompareMemory("abcd", "abxd", 4), 2);
    CHECK_EQUAL(RtlCompareMemory("abcd", "abcd", 4), 4);
    CHECK_EQUAL(RtlCompareMemoryUlong(Words, 12, 7), 8);
    CHECK_EQUAL(RtlUshortByteSwap(0x1234), 0x3412);
    CHECK_EQUAL(RtlUlongByteSwap(0x12345678), 0x78563412);
    CHECK_EQUAL(RtlUlonglongByteSwap(0x0102030405060708), 0x0807060504030201);
    CHECK_EQUAL(RtlFindMostSignificantBit(0x80000000), 31);
    CHECK_EQUAL(RtlFindLeastSignificantBit(0x80000000), 31);
    CHECK(RtlFindMostSignificantBit(0) == -1 && RtlFindLeastSignificantBit(0) == -1);
    CHECK_EQUAL(RtlNumberOfSetBitsUlongPtr(0xF0F0F0F0F0F0F0F1), 33);
    CHECK_EQUAL(RtlComputeCrc32(0, (PUCHAR) "123456789", 9), 0xCBF43926);
    ULONG Seed = 0, Previous = 0;
    for (ULONG Index = 0; Index < 1000; Index += 1) {
        const ULONG Value = RtlRandomEx(&Seed);
        CHECK(Value < MAXLONG && Value != Previous);
        Previous = Value;
    }
}

static const HOST_TEST Tests[] = {
    HOST_ROW(Strings_begin_with_what_they_are_made_of, "rtlddk.h, strings", NULL),
    HOST_ROW(Copies_and_appends_stay_within_the_buffer, "rtlddk.h, strings", NULL),
    HOST_ROW(Comparisons_know_case_and_length, "rtlddk.h, strings", NULL),
    HOST_ROW(Case_is_a_matter_of_pairs, "rtlddk.h, strings", NULL),
    HOST_ROW(Strings_in_pool_are_freed_by_their_routine, "rtlddk.h, strings", &FakeMachineMax),
    HOST_ROW(Conversions_into_a_buffer_say_when_it_is_small, "rtlddk.h, strings", NULL),
    HOST_ROW(Utf8_is_read_strictly_and_written_shortly, "rtlddk.h, strings", NULL),
    HOST_ROW(Integers_are_read_and_written, "rtlddk.h, numbers", NULL),
    HOST_ROW(Bitmaps_agree_with_a_naive_one, "rtlddk.h, bitmaps", NULL),
    HOST_ROW(Bitmaps_find_and_take, "rtlddk.h, bitmaps", NULL),
    HOST_ROW(Time_is_a_date_and_back, "rtlddk.h, time", NULL),
    HOST_ROW(Memory_and_words_are_compared_and_swapped, "rtlddk.h, memory", NULL),
};

HOST_DEFINE_SUITE(rtlstring);
