// Time as fields and as seconds.
//
// Days are counted from March 1st of year 0, so that the leap day is the last of its year; 400 years
// have a fixed count of days.

#include <rtlddk.h>

#define TICKS_PER_MILLISECOND 10000ll
#define TICKS_PER_SECOND (1000 * TICKS_PER_MILLISECOND)
#define SECONDS_PER_DAY 86400ll
#define TICKS_PER_DAY (SECONDS_PER_DAY * TICKS_PER_SECOND)
#define DAYS_PER_400_YEARS 146097ll
#define DAYS_UNTIL_1601 584694ll         // from March 1st of year 0 to January 1st of 1601
#define SECONDS_UNTIL_1970 11644473600ll // from 1601
#define SECONDS_UNTIL_1980 11960006400ll
#define FIRST_YEAR 1601
#define LAST_YEAR 30827        // of a CSHORT and 63 bits of 100 ns
#define WEEKDAY_OF_FIRST_DAY 1 // January 1st of 1601 was a Monday

// The days before month 0 (March) .. 11 (February) of such a year.
static LONG64 RtlpDaysBeforeMonth(LONG64 Month)
{
    return (153 * Month + 2) / 5;
}

static LONG64 RtlpDaysOfDate(LONG64 Year, LONG64 Month, LONG64 Day)
{
    const LONG64 ShiftedYear = Month <= 2 ? Year - 1 : Year;
    const LONG64 ShiftedMonth = Month <= 2 ? Month + 9 : Month - 3;
    return 365 * ShiftedYear + ShiftedYear / 4 - ShiftedYear / 100 + ShiftedYear / 400 +
           RtlpDaysBeforeMonth(ShiftedMonth) + (Day - 1) - DAYS_UNTIL_1601;
}

VOID NTAPI RtlTimeToTimeFields(PLARGE_INTEGER Time, PTIME_FIELDS TimeFields)
{
    const LONG64 Days = Time->QuadPart / TICKS_PER_DAY;
    const LONG64 Milliseconds = Time->QuadPart % TICKS_PER_DAY / TICKS_PER_MILLISECOND;
    TimeFields->Weekday = (CSHORT)((Days + WEEKDAY_OF_FIRST_DAY) % 7);
    TimeFields->Hour = (CSHORT)(Milliseconds / 3600000);
    TimeFields->Minute = (CSHORT)(Milliseconds / 60000 % 60);
    TimeFields->Second = (CSHORT)(Milliseconds / 1000 % 60);
    TimeFields->Milliseconds = (CSHORT)(Milliseconds % 1000);

    const LONG64 Shifted = Days + DAYS_UNTIL_1601;
    const LONG64 Era = Shifted / DAYS_PER_400_YEARS;
    const LONG64 DayOfEra = Shifted % DAYS_PER_400_YEARS;
    const LONG64 YearOfEra =
        (DayOfEra - DayOfEra / 1460 + DayOfEra / 36524 - DayOfEra / (DAYS_PER_400_YEARS - 1)) / 365;
    const LONG64 DayOfYear = DayOfEra - (365 * YearOfEra + YearOfEra / 4 - YearOfEra / 100);
    const LONG64 Month = (5 * DayOfYear + 2) / 153;
    TimeFields->Day = (CSHORT)(DayOfYear - RtlpDaysBeforeMonth(Month) + 1);
    TimeFields->Month = (CSHORT)(Month < 10 ? Month + 3 : Month - 9);
    TimeFields->Year = (CSHORT)(Era * 400 + YearOfEra + (Month < 10 ? 0 : 1));
}

static BOOLEAN RtlpIsLeapYear(LONG Year)
{
    return (Year % 4 == 0 && Year % 100 != 0) || Year % 400 == 0;
}

static LONG RtlpDaysInMonth(LONG Year, LONG Month)
{
    static const UCHAR Days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return Days[Month - 1] + (Month == 2 && RtlpIsLeapYear(Year) ? 1 : 0);
}

static BOOLEAN RtlpIsIn(LONG Value, LONG First, LONG Last)
{
    return Value >= First && Value <= Last;
}

BOOLEAN NTAPI RtlTimeFieldsToTime(PTIME_FIELDS TimeFields, PLARGE_INTEGER Time)
{
    if (!RtlpIsIn(TimeFields->Year, FIRST_YEAR, LAST_YEAR) || !RtlpIsIn(TimeFields->Month, 1, 12) ||
        !RtlpIsIn(TimeFields->Day, 1, RtlpDaysInMonth(TimeFields->Year, TimeFields->Month)) ||
        !RtlpIsIn(TimeFields->Hour, 0, 23) || !RtlpIsIn(TimeFields->Minute, 0, 59) ||
        !RtlpIsIn(TimeFields->Second, 0, 59) || !RtlpIsIn(TimeFields->Milliseconds, 0, 999)) {
        return FALSE;
    }
    const LONG64 Seconds =
        RtlpDaysOfDate(TimeFields->Year, TimeFields->Month, TimeFields->Day) * SECONDS_PER_DAY +
        TimeFields->Hour * 3600 + TimeFields->Minute * 60 + TimeFields->Second;
    Time->QuadPart = Seconds * TICKS_PER_SECOND + TimeFields->Milliseconds * TICKS_PER_MILLISECOND;
    return TRUE;
}

static BOOLEAN RtlpSecondsSince(PLARGE_INTEGER Time, LONG64 Origin, PULONG ElapsedSeconds)
{
    const LONG64 Seconds = Time->QuadPart / TICKS_PER_SECOND - Origin;
    if (Time->QuadPart < 0 || Seconds < 0 || Seconds > (LONG64)MAXULONG) {
        return FALSE;
    }
    *ElapsedSeconds = (ULONG)Seconds;
    return TRUE;
}

BOOLEAN NTAPI RtlTimeToSecondsSince1970(PLARGE_INTEGER Time, PULONG ElapsedSeconds)
{
    return RtlpSecondsSince(Time, SECONDS_UNTIL_1970, ElapsedSeconds);
}

BOOLEAN NTAPI RtlTimeToSecondsSince1980(PLARGE_INTEGER Time, PULONG ElapsedSeconds)
{
    return RtlpSecondsSince(Time, SECONDS_UNTIL_1980, ElapsedSeconds);
}

VOID NTAPI RtlSecondsSince1970ToTime(ULONG ElapsedSeconds, PLARGE_INTEGER Time)
{
    Time->QuadPart = (ElapsedSeconds + SECONDS_UNTIL_1970) * TICKS_PER_SECOND;
}

VOID NTAPI RtlSecondsSince1980ToTime(ULONG ElapsedSeconds, PLARGE_INTEGER Time)
{
    Time->QuadPart = (ElapsedSeconds + SECONDS_UNTIL_1980) * TICKS_PER_SECOND;
}
