// Checked arithmetic, and CRC-32.
#include "kernel/inc/checked.h"
#include "kernel/inc/rtl.h"
#include "tests/host/host.h"
#include "tests/host/random.h"

static VOID Sums_and_products_say_when_they_do_not_fit(VOID)
{
    ULONG64 Result;
    CHECK(RtlAddChecked64(MAXULONG64 - 1, 1, &Result) && Result == MAXULONG64);
    CHECK(!RtlAddChecked64(MAXULONG64, 1, &Result));
    CHECK(RtlSubtractChecked64(5, 5, &Result) && Result == 0);
    CHECK(!RtlSubtractChecked64(5, 6, &Result));
    CHECK(RtlMultiplyChecked64(1ull << 32, (1ull << 32) - 1, &Result));
    CHECK(!RtlMultiplyChecked64(1ull << 32, 1ull << 32, &Result));
}

static VOID Alignment_rounds_and_says_when_it_wraps(VOID)
{
    ULONG64 Result;
    CHECK(RtlAlignUpChecked64(1, 4096, &Result) && Result == 4096);
    CHECK(RtlAlignUpChecked64(4096, 4096, &Result) && Result == 4096);
    CHECK(RtlAlignUpChecked64(0, 4096, &Result) && Result == 0);
    CHECK(!RtlAlignUpChecked64(MAXULONG64 - 4094, 4096, &Result));
    CHECK_EQUAL(RtlAlignDown64(8191, 4096), 4096);
    CHECK(RtlIsPowerOfTwo64(1) && RtlIsPowerOfTwo64(1ull << 63) && !RtlIsPowerOfTwo64(0) &&
          !RtlIsPowerOfTwo64(3));
}

static ULONG NaiveCrc(const UCHAR *Bytes, SIZE_T ByteCount)
{
    ULONG Crc = MAXULONG;
    for (SIZE_T Index = 0; Index < ByteCount; Index += 1) {
        Crc ^= Bytes[Index];
        for (ULONG Bit = 0; Bit < 8; Bit += 1) {
            Crc = (Crc >> 1) ^ ((Crc & 1) != 0 ? 0xEDB88320u : 0);
        }
    }
    return ~Crc;
}

static VOID The_CRC_of_the_check_string_is_the_published_one(VOID)
{
    CHECK_EQUAL(RtlCrc32("123456789", 9, 0), 0xCBF43926);
    CHECK_EQUAL(RtlCrc32("", 0, 0), 0);
}

static VOID A_CRC_can_be_continued_at_any_place(VOID)
{
    UCHAR Bytes[100];
    RANDOM Random = RandomStart(3);
    for (ULONG Index = 0; Index < sizeof(Bytes); Index += 1) {
        Bytes[Index] = (UCHAR)RandomNext(&Random);
    }
    const ULONG Whole = NaiveCrc(Bytes, sizeof(Bytes));
    for (ULONG Cut = 0; Cut <= sizeof(Bytes); Cut += 1) {
        CHECK_EQUAL(RtlCrc32(&Bytes[Cut], sizeof(Bytes) - Cut, RtlCrc32(Bytes, Cut, 0)), Whole);
    }
}

static const HOST_TEST Tests[] = {
    HOST_ROW(Sums_and_products_say_when_they_do_not_fit, "checked.h", NULL),
    HOST_ROW(Alignment_rounds_and_says_when_it_wraps, "checked.h", NULL),
    HOST_ROW(The_CRC_of_the_check_string_is_the_published_one, "rtl.h, CRC-32", NULL),
    HOST_ROW(A_CRC_can_be_continued_at_any_place, "rtl.h, CRC-32", NULL),
};

HOST_DEFINE_SUITE(checked);
