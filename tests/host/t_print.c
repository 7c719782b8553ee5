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
    CHECK_PRINT("      0000000000000000000000000000000000000000000000000000000000000007", "%070u",
                7);
    CHECK_PRINT("|7    |  007|-7|", "|%-05d|%05.3d|%01d|", 7, 7, -7);
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
    HOST_ROW(Pointers_have_sixteen_digits, "rtl.h, print", NULL),
    HOST_ROW(Odd_formats_print_something_harmless, "rtl.h, print", NULL),
    HOST_ROW(A_text_that_does_not_fit_is_cut_and_terminated, "rtl.h, print", NULL),
    HOST_ROW(Strings_compare_search_and_copy, "rtl.h, strings", NULL),
};

HOST_DEFINE_SUITE(print);
