// Formatted print and strings.
#include "kernel/inc/rtl.h"
#include "tests/host/host.h"

static CHAR Text[128];

#define CHECK_PRINT(Expected, ...)                                                                 \
    do {                                                                                           \
        CHECK_EQUAL(RtlFormatBuffer(Text, sizeof(Text), __VA_ARGS__), strlen(Expected));           \
        CHECK_TEXT(Text, Expected);                                                                \
    } while (0)

static VOID Numbers_print_in_their_base_and_size(VOID)
{
    CHECK_PRINT("0 7 -7 4294967289", "%d %u %i %u", 0, 7, -7, -7);
    CHECK_PRINT("ff FF 0", "%x %X %x", 0xFF, 0xFF, 0);
    CHECK_PRINT("-1 ffffffffffffffff", "%lld %llx", -1ll, MAXULONG64);
    CHECK_PRINT("ffffffffffffffff 18446744073709551615", "%I64x %zu", MAXULONG64, MAXULONG64);
    CHECK_PRINT("-128 255 -1 65535", "%hhd %hhu %hd %hu", 0x80, 0x1FF, 0xFFFF, 0x1FFFF);
    CHECK_PRINT("-9223372036854775808", "%lld", (LONG64)0x8000000000000000ull);
    CHECK_PRINT("deadbeef", "%lx", 0xDEADBEEFu);
}

static VOID Fields_are_padded_and_justified(VOID)
{
    CHECK_PRINT("|    7|7    |00007|", "|%5d|%-5d|%05d|", 7, 7, 7);
    CHECK_PRINT("|   -7|-0007|  007|", "|%5d|%05d|%5.3d|", -7, -7, 7);
    CHECK_PRINT("|  abc|abc  |   ab|", "|%5s|%-5s|%5.2s|", "abc", "abc", "abc");
    CHECK_PRINT("|   x|", "|%*c|", 4, 'x');
    CHECK_PRINT("|abc|", "|%.*s|", 3, "abcdef");
    CHECK_PRINT("                                  x", "%35s", "x");
    CHECK_PRINT("00000000000000000000000000000042", "%032u", 42);
    CHECK_PRINT("0000000000000000000000000000000000000000000000000000000000000000000007", "%070u",
                7);
    CHECK_PRINT("|7    |  007|-7|", "|%-05d|%05.3d|%01d|", 7, 7, -7);
}

static VOID Prefixes_stand_before_zeros_and_behind_spaces(VOID)
{
    CHECK_PRINT("+7 -7  7 +7 7", "%+d %+d % d %+ d %+u", 7, -7, 7, 7, 7);
    CHECK_PRINT("0xff 0XFF 017 0 7", "%#x %#X %#o %#x %#d", 0xFF, 0xFF, 017, 0, 7);
    CHECK_PRINT("|  0xff|0x00ff|0xff  |  0x0ff|", "|%#6x|%#06x|%-#6x|%#7.3x|", 255, 255, 255, 255);
    CHECK_PRINT("|  +7|+007|", "|%+4d|%+04d|", 7, 7);
    CHECK_PRINT("||   |x", "|%.0d|%3.0u|x", 0, 0);
    CHECK_PRINT("17 1777777777777777777777", "%o %llo", 15, MAXULONG64);
    CHECK_PRINT("-1 4294967295 -1 5 6", "%I32d %I32u %Id %jd %td", -1ll, -1ll, -1ll, 5ll, 6ll);
}

static VOID A_negative_width_means_left_and_a_negative_precision_none(VOID)
{
    CHECK_PRINT("|7   |", "|%*d|", -4, 7);
    CHECK_PRINT("|abc|", "|%.*s|", -1, "abc");
    CHECK_PRINT("|7|", "|%.*d|", -5, 7);
}

static VOID Wide_text_and_counted_strings_are_narrowed(VOID)
{
    UNICODE_STRING Wide = RTL_CONSTANT_STRING(u"unicode");
    UNICODE_STRING Empty = {0, 0, NULL};
    CHAR NarrowText[] = "ansi!";
    const UNICODE_STRING Narrow = {4, 5, (PWSTR)NarrowText};
    CHECK_PRINT("wide wide wide", "%S %ws %ls", u"wide", u"wide", u"wide");
    CHECK_PRINT("narrow|  wi|x|y|z", "%hs|%4.2S|%C|%wc|%hc", "narrow", u"wide", 'x', 'y', 'z');
    CHECK_PRINT("unicode|uni|   unicode|unicode", "%wZ|%.3wZ|%10wZ|%.20wZ", &Wide, &Wide, &Wide,
                &Wide);
    CHECK_PRINT("ansi", "%Z", &Narrow);
    CHECK_PRINT("(null) (null)", "%wZ %Z", NULL, &Empty);
    CHECK_PRINT("(null)", "%S", NULL);
    CHECK_PRINT("?\xe4?", "%S", u"\u20ac\u00e4\u0100");
    CHECK_PRINT("more than sixteen units", "%S", u"more than sixteen units");
}

static WCHAR WideText[64];
static SIZE_T WideLength;

static VOID KeepWide(PVOID Context, const WCHAR *Units, SIZE_T UnitCount)
{
    UNREFERENCED_PARAMETER(Context);
    memcpy(WideText + WideLength, Units, UnitCount * sizeof(WCHAR));
    WideLength += UnitCount;
}

static VOID NTAPI FormatWide(PCWSTR Format, ...)
{
    const RTL_FORMAT_OUTPUT Output = {NULL, KeepWide, NULL, TRUE};
    __builtin_ms_va_list Arguments;
    WideLength = 0;
    __builtin_ms_va_start(Arguments, Format);
    RtlFormatOutput(&Output, Format, Arguments);
    __builtin_ms_va_end(Arguments);
    WideText[WideLength] = 0;
}

#define CHECK_WIDE(Expected, ...)                                                                  \
    do {                                                                                           \
        FormatWide(__VA_ARGS__);                                                                   \
        CHECK_EQUAL(WideLength, ARRAYSIZE(Expected) - 1);                                          \
        CHECK(memcmp(WideText, Expected, sizeof(Expected)) == 0);                                  \
    } while (0)

static VOID Wide_formats_print_wide(VOID)
{
    UNICODE_STRING Wide = RTL_CONSTANT_STRING(u"unicode");
    CHECK_WIDE(u"\\Device\\Disk7", u"\\Device\\%s%d", u"Disk", 7);
    CHECK_WIDE(u"narrow more than sixteen", u"%S %hs", "narrow", "more than sixteen");
    CHECK_WIDE(u"unicode x y z", u"%wZ %c %C %lc", &Wide, 'x', 'y', 'z');
    CHECK_WIDE(u"00000000DEADBEEF %q", u"%p %q", (PVOID)0xDEADBEEFull);
    CHECK_WIDE(u"  0X1F|%|(null)", u"%#6.2X|%%|%s", 0x1F, NULL);
}

static VOID Pointers_have_sixteen_digits(VOID)
{
    CHECK_PRINT("fffff88000001000", "%p", (PVOID)0xFFFFF88000001000ull);
    CHECK_PRINT("0000000000000000", "%p", NULL);
}

static VOID Odd_formats_print_something_harmless(VOID)
{
    CHECK_PRINT("100%", "100%%");
    CHECK_PRINT("(null)", "%s", (PCSTR)NULL);
    CHECK_PRINT("%y7", "%y%d", 7);
    CHECK_PRINT("%", "%");
    CHECK_PRINT("", "%s", "");
}

static VOID A_text_that_does_not_fit_is_cut_and_terminated(VOID)
{
    CHAR Small[4];
    CHECK_EQUAL(RtlFormatBuffer(Small, sizeof(Small), "%s", "abcdef"), 6);
    CHECK_TEXT(Small, "abc");
    CHECK_EQUAL(RtlFormatBuffer(NULL, 0, "%s", "abcdef"), 6);
}

static VOID Strings_compare_search_and_copy(VOID)
{
    CHECK(RtlStringsEqual("abc", "abc") && !RtlStringsEqual("abc", "abd") &&
          !RtlStringsEqual("abc", "ab"));
    CHECK(RtlStringStartsWith("abc", "ab") && RtlStringStartsWith("abc", "") &&
          !RtlStringStartsWith("ab", "abc"));
    CHECK_TEXT(RtlFindSubstring("one two", "two"), "two");
    CHECK_TEXT(RtlFindSubstring("abc", ""), "abc");
    CHECK(RtlFindSubstring("abc", "x") == NULL);
    CHECK_EQUAL(RtlStringLength("four"), 4);
    CHECK(RtlCopyString(Text, sizeof(Text), "whole"));
    CHECK_TEXT(Text, "whole");
    CHECK(!RtlCopyString(Text, 3, "whole"));
    CHECK_TEXT(Text, "wh");
}

static const HOST_TEST Tests[] = {
    HOST_ROW(Numbers_print_in_their_base_and_size, "rtl.h, print", NULL),
    HOST_ROW(Fields_are_padded_and_justified, "rtl.h, print", NULL),
    HOST_ROW(Prefixes_stand_before_zeros_and_behind_spaces, "rtl.h, print", NULL),
    HOST_ROW(A_negative_width_means_left_and_a_negative_precision_none, "rtl.h, print", NULL),
    HOST_ROW(Wide_text_and_counted_strings_are_narrowed, "rtl.h, print", NULL),
    HOST_ROW(Wide_formats_print_wide, "rtl.h, print", NULL),
    HOST_ROW(Pointers_have_sixteen_digits, "rtl.h, print", NULL),
    HOST_ROW(Odd_formats_print_something_harmless, "rtl.h, print", NULL),
    HOST_ROW(A_text_that_does_not_fit_is_cut_and_terminated, "rtl.h, print", NULL),
    HOST_ROW(Strings_compare_search_and_copy, "rtl.h, strings", NULL),
};

HOST_DEFINE_SUITE(print);
