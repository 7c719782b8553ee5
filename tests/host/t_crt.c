// The C runtime that drivers import. The answers are those of the documentation, written down here.
#include "kernel/inc/crt.h"
#include "tests/host/host.h"

static CHAR Text[64];
static WCHAR Wide[64];

#define CHECK_WIDE(Actual, Expected)                                                               \
    do {                                                                                           \
        PCWSTR Wide_ = (Actual);                                                                   \
        CHECK(Wide_ != NULL && CrtWcscmp(Wide_, (Expected)) == 0);                                 \
    } while (0)

static VOID Text_is_measured_and_compared(VOID)
{
    CHECK_EQUAL(CrtStrlen("four"), 4);
    CHECK_EQUAL(CrtStrnlen("four", 3), 3);
    CHECK_EQUAL(CrtWcslen(u"four"), 4);
    CHECK(CrtStrcmp("abc", "abd") < 0 && CrtStrcmp("b", "abc") > 0 && CrtStrcmp("", "") == 0);
    CHECK(CrtStrcmp("\x80", "a") > 0); // bytes compare as unsigned
    CHECK(CrtStrncmp("abcX", "abcY", 3) == 0 && CrtStrncmp("abcX", "abcY", 4) < 0);
    CHECK(CrtStrncmp("a", "b", 0) == 0);
    CHECK(CrtStricmp("HELLO", "hello") == 0 && CrtStricmp("a", "B") < 0);
    CHECK(CrtStrnicmp("HELLO-x", "hello-y", 6) == 0);
    CHECK(CrtWcscmp(u"abc", u"abd") < 0 && CrtWcsicmp(u"ABC", u"abc") == 0);
    CHECK(CrtWcsnicmp(u"\\Device\\a", u"\\DEVICE\\b", 8) == 0);
}

static VOID Text_is_copied_and_appended(VOID)
{
    CHECK_TEXT(CrtStrcpy(Text, "one"), "one");
    CHECK_TEXT(CrtStrcat(Text, " two"), "one two");
    CHECK_TEXT(CrtStrncat(Text, " three", 3), "one two th");
    memset(Text, 'x', sizeof(Text));
    CrtStrncpy(Text, "ab", 4);
    CHECK(memcmp(Text, "ab\0\0x", 5) == 0);
    CrtStrncpy(Text, "abcdef", 3);
    CHECK(memcmp(Text, "abc\0x", 5) == 0);
    CHECK_WIDE(CrtWcscat(CrtWcscpy(Wide, u"\\Device"), u"\\Disk"), u"\\Device\\Disk");
    CHECK_WIDE(CrtWcsncat(Wide, u"0123", 1), u"\\Device\\Disk0");
}

static VOID Text_is_searched(VOID)
{
    PCSTR Path = "a/b/c";
    CHECK(CrtStrchr(Path, '/') == Path + 1 && CrtStrrchr(Path, '/') == Path + 3);
    CHECK(CrtStrchr(Path, 0) == Path + 5 && CrtStrrchr(Path, 0) == Path + 5);
    CHECK(CrtStrchr(Path, 'x') == NULL && CrtStrrchr(Path, 'x') == NULL);
    CHECK(CrtStrstr(Path, "b/c") == Path + 2 && CrtStrstr(Path, "c/") == NULL);
    CHECK(CrtStrstr(Path, "") == Path);
    CHECK_EQUAL(CrtStrspn("aabbc", "ab"), 4);
    CHECK_EQUAL(CrtStrcspn("hello", "lo"), 2);
    CHECK_TEXT(CrtStrpbrk("key=value", "=:"), "=value");
    CHECK(CrtStrpbrk("key", "=") == NULL);
    CHECK_WIDE(CrtWcsstr(u"one two", u"two"), u"two");
    CHECK_WIDE(CrtWcschr(u"one two", u' '), u" two");
    CHECK_WIDE(CrtWcsrchr(u"\\a\\b", u'\\'), u"\\b");
}

static VOID Text_is_changed_in_place(VOID)
{
    CHECK_TEXT(CrtStrupr(CrtStrcpy(Text, "Mixed 1")), "MIXED 1");
    CHECK_TEXT(CrtStrlwr(Text), "mixed 1");
    CHECK_TEXT(CrtStrrev(Text), "1 dexim");
    CHECK_TEXT(CrtStrnset(Text, '-', 2), "--dexim");
    CHECK_TEXT(CrtStrset(Text, 'z'), "zzzzzzz");
    CHECK_WIDE(CrtWcsupr(CrtWcscpy(Wide, u"com1")), u"COM1");
}

static VOID Tokens_come_one_by_one(VOID)
{
    PCHAR Context = NULL;
    CrtStrcpy(Text, ",,one, two,");
    CHECK_TEXT(CrtStrtok_s(Text, ", ", &Context), "one");
    CHECK_TEXT(CrtStrtok_s(NULL, ", ", &Context), "two");
    CHECK(CrtStrtok_s(NULL, ", ", &Context) == NULL);
    CHECK(CrtStrtok_s(NULL, ", ", &Context) == NULL);
    Context = NULL;
    CHECK(CrtStrtok_s(NULL, ",", &Context) == NULL);
}

static VOID The_secure_forms_refuse_what_does_not_fit(VOID)
{
    CHAR Small[4] = "xyz";
    CHECK_EQUAL(CrtStrcpy_s(Small, sizeof(Small), "abc"), 0);
    CHECK_TEXT(Small, "abc");
    CHECK_EQUAL(CrtStrcpy_s(Small, sizeof(Small), "abcd"), CRT_ERANGE);
    CHECK_TEXT(Small, "");
    CHECK_EQUAL(CrtStrncpy_s(Small, sizeof(Small), "abcdef", 2), 0);
    CHECK_TEXT(Small, "ab");
    CHECK_EQUAL(CrtStrncpy_s(Small, sizeof(Small), "abcdef", CRT_TRUNCATE), CRT_STRUNCATE);
    CHECK_TEXT(Small, "abc");
    CHECK_EQUAL(CrtStrcpy_s(Small, sizeof(Small), "a"), 0);
    CHECK_EQUAL(CrtStrcat_s(Small, sizeof(Small), "bc"), 0);
    CHECK_TEXT(Small, "abc");
    CHECK_EQUAL(CrtStrcat_s(Small, sizeof(Small), "d"), CRT_ERANGE);
    CHECK_TEXT(Small, "");
    CHECK_EQUAL(CrtStrncat_s(Small, sizeof(Small), "wxyz", 2), 0);
    CHECK_TEXT(Small, "wx");
    CHECK_EQUAL(CrtStrcpy_s(NULL, 4, "a"), CRT_EINVAL);
    CHECK_EQUAL(CrtStrcpy_s(Small, 0, "a"), CRT_EINVAL);
    CHECK_EQUAL(CrtStrcpy_s(Small, 4, NULL), CRT_EINVAL);
    CHECK_EQUAL(CrtWcscpy_s(Wide, 4, u"abc"), 0);
    CHECK_EQUAL(CrtWcscat_s(Wide, 4, u"d"), CRT_ERANGE);
    CHECK_EQUAL(CrtMemcpyS(Small, 4, "abcdef", 5), CRT_ERANGE);
    CHECK_EQUAL(Small[1], 0);
    CHECK_EQUAL(CrtMemmoveS(Small, 4, "abc", 4), 0);
    CHECK_EQUAL(CrtMemmoveS(NULL, 4, "abc", 4), CRT_EINVAL);
    CHECK_EQUAL(CrtMemcpyS(NULL, 0, NULL, 0), 0);
}

static VOID Numbers_are_read_in_their_base(VOID)
{
    PCHAR End;
    CHECK_EQUAL(CrtStrToLong(" \t-42x"), (LONG)-42);
    CHECK_EQUAL(CrtStrToLongBase("0x1Fg", &End, 0), 0x1F);
    CHECK_TEXT(End, "g");
    CHECK_EQUAL(CrtStrToLongBase("017", NULL, 0), 15);
    CHECK_EQUAL(CrtStrToLongBase("0x10", NULL, 16), 16);
    CHECK_EQUAL(CrtStrToLongBase("zz", NULL, 36), 35 * 36 + 35);
    CHECK_EQUAL(CrtStrToLongBase("99999999999", NULL, 10), MAXLONG);
    CHECK_EQUAL(CrtStrToLongBase("-99999999999", NULL, 10), (LONG)0x80000000);
    CHECK_EQUAL(CrtStrToLongBase("-2147483648", NULL, 10), (LONG)0x80000000);
    CHECK_EQUAL(CrtStrToUlongBase("4294967295", NULL, 10), MAXULONG);
    CHECK_EQUAL(CrtStrToUlongBase("4294967296", NULL, 10), MAXULONG);
    CHECK_EQUAL(CrtStrToUlongBase("-1", NULL, 10), MAXULONG);
    CHECK_EQUAL(CrtStrToUlong64Base("ffffffffffffffff", NULL, 16), MAXULONG64);
    CHECK_EQUAL(CrtStrToUlong64Base("18446744073709551616", NULL, 10), MAXULONG64);
    CHECK_EQUAL(CrtStrToLongBase("nothing", &End, 10), 0);
    CHECK_TEXT(End, "nothing");
    CHECK_EQUAL(CrtStrToLongBase("0xg", &End, 16), 0);
    CHECK_TEXT(End, "xg");
    CHECK_EQUAL(CrtStrToLongBase("1", &End, 1), 0);
    CHECK_EQUAL(CrtWcsToLong(u"123"), 123);
    CHECK_EQUAL(CrtWcsToUlongBase(u"DEADBEEF", NULL, 16), 0xDEADBEEF);
    CHECK_EQUAL(CrtWcsToLong64(u"-9223372036854775808"), (LONG64)0x8000000000000000ull);
}

static VOID Numbers_are_written_in_their_base(VOID)
{
    CHECK_TEXT(CrtStrFromLong(-42, Text, 10), "-42");
    CHECK_TEXT(CrtStrFromLong(-1, Text, 16), "ffffffff");
    CHECK_TEXT(CrtStrFromLong((LONG)0x80000000, Text, 10), "-2147483648");
    CHECK_TEXT(CrtStrFromUlong(0, Text, 2), "0");
    CHECK_TEXT(CrtStrFromLong64(-1, Text, 10), "-1");
    CHECK_TEXT(CrtStrFromUlong64(MAXULONG64, Text, 36), "3w5e11264sgsf");
    CHECK_WIDE(CrtWcsFromLong(255, Wide, 16), u"ff");
    CHECK_EQUAL(CrtStrFromLongS(1234, Text, 4, 10), CRT_ERANGE);
    CHECK_TEXT(Text, "");
    CHECK_EQUAL(CrtStrFromLongS(123, Text, 4, 10), 0);
    CHECK_TEXT(Text, "123");
    CHECK_EQUAL(CrtStrFromLongS(1, Text, 4, 37), CRT_EINVAL);
    CHECK_EQUAL(CrtStrFromLongS(1, NULL, 4, 10), CRT_EINVAL);
}

static VOID Counted_prints_say_when_they_cut(VOID)
{
    CHECK_EQUAL(CrtSprintf(Text, "%s-%03d", "dev", 7), 7);
    CHECK_TEXT(Text, "dev-007");
    memset(Text, 'x', sizeof(Text));
    CHECK_EQUAL(CrtSnprintf(Text, 4, "abc"), 3);
    CHECK(memcmp(Text, "abc\0x", 5) == 0);
    memset(Text, 'x', sizeof(Text));
    CHECK_EQUAL(CrtSnprintf(Text, 3, "abc"), 3); // just fits: no terminator
    CHECK(memcmp(Text, "abcx", 4) == 0);
    CHECK_EQUAL(CrtSnprintf(Text, 2, "zyx"), (LONG)-1);
    CHECK(memcmp(Text, "zycx", 4) == 0);
    CHECK_EQUAL(CrtSnprintf(NULL, 0, "%d", 12345), 5);
    CHECK_EQUAL(CrtSwprintf(Wide, u"\\Device\\%s%u", u"Serial", 3), 15);
    CHECK_WIDE(Wide, u"\\Device\\Serial3");
    CHECK_EQUAL(CrtSnwprintf(Wide, 4, u"%hs", "abcdef"), (LONG)-1);
    CHECK_EQUAL(CrtSnwprintf(Wide, 8, u"%p", (PVOID)0xABCull), (LONG)-1);
    CHECK_EQUAL(CrtSnwprintf(Wide, 64, u"%p", (PVOID)0xABCull), 16);
    CHECK_WIDE(Wide, u"0000000000000ABC");
}

static VOID Secure_prints_always_terminate(VOID)
{
    CHAR Small[4];
    CHECK_EQUAL(CrtSprintfS(Small, sizeof(Small), "%d", 123), 3);
    CHECK_TEXT(Small, "123");
    CHECK_EQUAL(CrtSprintfS(Small, sizeof(Small), "%d", 1234), (LONG)-1);
    CHECK_TEXT(Small, "");
    CHECK_EQUAL(CrtSnprintfS(Small, sizeof(Small), CRT_TRUNCATE, "%s", "abcdef"), (LONG)-1);
    CHECK_TEXT(Small, "abc");
    CHECK_EQUAL(CrtSnprintfS(Small, sizeof(Small), 2, "%s", "abcdef"), (LONG)-1);
    CHECK_TEXT(Small, "ab");
    CHECK_EQUAL(CrtSprintfS(NULL, 4, "x"), (LONG)-1);
    CHECK_EQUAL(CrtSwprintfS(Wide, 8, u"%s", u"abc"), 3);
    CHECK_EQUAL(CrtSnwprintfS(Wide, 3, CRT_TRUNCATE, u"%s", u"abc"), (LONG)-1);
    CHECK_WIDE(Wide, u"ab");
}

static INT NTAPI CompareBytes(const VOID *A, const VOID *B)
{
    return *(const UCHAR *)A - *(const UCHAR *)B;
}

static INT NTAPI CompareWords(const VOID *A, const VOID *B)
{
    const ULONG Left = *(const ULONG *)A, Right = *(const ULONG *)B;
    return Left < Right ? -1 : Left > Right;
}

static VOID Arrays_are_sorted_and_searched(VOID)
{
    ULONG Words[200];
    CrtSrand(7);
    for (ULONG Round = 0; Round < 50; Round += 1) {
        const ULONG Count = Round * 4;
        for (ULONG Index = 0; Index < Count; Index += 1) {
            Words[Index] = (ULONG)CrtRand() % (Count + 1);
        }
        CrtQsort(Words, Count, sizeof(ULONG), CompareWords);
        for (ULONG Index = 1; Index < Count; Index += 1) {
            CHECK(Words[Index - 1] <= Words[Index]);
        }
        for (ULONG Key = 0; Key <= Count + 1; Key += 1) {
            const ULONG *Found = CrtBsearch(&Key, Words, Count, sizeof(ULONG), CompareWords);
            BOOLEAN IsThere = FALSE;
            for (ULONG Index = 0; Index < Count; Index += 1) {
                IsThere |= Words[Index] == Key;
            }
            CHECK_EQUAL(Found != NULL, IsThere);
            CHECK(Found == NULL || *Found == Key);
        }
    }
    CHAR Letters[] = "kernel";
    CrtQsort(Letters, 6, 1, CompareBytes);
    CHECK_TEXT(Letters, "eeklnr");
    CHECK(CrtMemchr("abc", 'c', 3) != NULL && CrtMemchr("abc", 'c', 2) == NULL);
}

static VOID Characters_have_the_classes_of_ASCII(VOID)
{
    for (INT Character = 0; Character < 0x100; Character += 1) {
        const BOOLEAN IsUpper = Character >= 'A' && Character <= 'Z';
        const BOOLEAN IsLower = Character >= 'a' && Character <= 'z';
        const BOOLEAN IsDigit = Character >= '0' && Character <= '9';
        const BOOLEAN IsGraph = Character > ' ' && Character < 0x7F;
        CHECK_EQUAL(CrtIsupper(Character) != 0, IsUpper);
        CHECK_EQUAL(CrtIslower(Character) != 0, IsLower);
        CHECK_EQUAL(CrtIsdigit(Character) != 0, IsDigit);
        CHECK_EQUAL(CrtIsalpha(Character) != 0, IsUpper || IsLower);
        CHECK_EQUAL(CrtIsalnum(Character) != 0, IsUpper || IsLower || IsDigit);
        CHECK_EQUAL(CrtIsgraph(Character) != 0, IsGraph);
        CHECK_EQUAL(CrtIsprint(Character) != 0, IsGraph || Character == ' ');
        CHECK_EQUAL(CrtIspunct(Character) != 0, IsGraph && !IsUpper && !IsLower && !IsDigit);
        CHECK_EQUAL(CrtIscntrl(Character) != 0, Character < ' ' || Character == 0x7F);
        CHECK_EQUAL(CrtIsspace(Character) != 0,
                    Character == ' ' || (Character >= 9 && Character <= 13));
        CHECK_EQUAL(CrtToupper(Character), IsLower ? Character - 32 : Character);
        CHECK_EQUAL(CrtTolower(Character), IsUpper ? Character + 32 : Character);
    }
    CHECK(CrtIsxdigit('f') && CrtIsxdigit('A') && CrtIsxdigit('0') && !CrtIsxdigit('g'));
    CHECK(CrtIswctype('a', 2) && !CrtIswctype(u'\u00e4', 2));
    CHECK_EQUAL(CrtTowupper(u'\u00e4'), u'\u00c4');
    CHECK_EQUAL(CrtTowlower('A'), 'a');
}

static VOID Bytes_become_units_and_back(VOID)
{
    CHAR Back[8];
    CHECK_EQUAL(CrtMbstowcs(Wide, "a\xe4", 8), 2);
    CHECK_WIDE(Wide, u"a\u00e4");
    CHECK_EQUAL(CrtMbstowcs(NULL, "abc", 0), 3);
    CHECK_EQUAL(CrtWcstombs(Back, u"a\u00e4", sizeof(Back)), 2);
    CHECK_TEXT(Back, "a\xe4");
    CHECK_EQUAL(CrtWcstombs(NULL, u"abc", 0), 3);
    CHECK_EQUAL(CrtWcstombs(Back, u"\u20ac", sizeof(Back)), (SIZE_T)-1);
    CHECK(CrtMbtowc(Wide, "x", 1) == 1 && CrtMbtowc(Wide, "", 1) == 0 &&
          CrtMbtowc(Wide, NULL, 1) == 0);
    CHECK(CrtWctomb(Back, u'x') == 1 && CrtWctomb(Back, u'\u20ac') == -1 &&
          CrtWctomb(NULL, u'x') == 0);
}

static const HOST_TEST Tests[] = {
    HOST_ROW(Text_is_measured_and_compared, "crt.h, text", NULL),
    HOST_ROW(Text_is_copied_and_appended, "crt.h, text", NULL),
    HOST_ROW(Text_is_searched, "crt.h, text", NULL),
    HOST_ROW(Text_is_changed_in_place, "crt.h, text", NULL),
    HOST_ROW(Tokens_come_one_by_one, "crt.h, text", NULL),
    HOST_ROW(The_secure_forms_refuse_what_does_not_fit, "crt.h, text", NULL),
    HOST_ROW(Numbers_are_read_in_their_base, "crt.h, numbers", NULL),
    HOST_ROW(Numbers_are_written_in_their_base, "crt.h, numbers", NULL),
    HOST_ROW(Counted_prints_say_when_they_cut, "crt.h, print", NULL),
    HOST_ROW(Secure_prints_always_terminate, "crt.h, print", NULL),
    HOST_ROW(Arrays_are_sorted_and_searched, "crt.h, arrays", NULL),
    HOST_ROW(Characters_have_the_classes_of_ASCII, "crt.h, characters", NULL),
    HOST_ROW(Bytes_become_units_and_back, "crt.h, characters", NULL),
};

HOST_DEFINE_SUITE(crt);
