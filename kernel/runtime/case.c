// Upper and lower case of UTF-16 units: simple pairs only, as ranges.

#include <rtlddk.h>

typedef struct _RTL_CASE_RANGE {
    WCHAR First; // of the lower-case letters
    WCHAR Last;
    WCHAR Step; // 2: every other unit is one; those between are their upper-case letters
    LONG ToUpper;
} RTL_CASE_RANGE;

// Ascending.
static const RTL_CASE_RANGE RtlpCaseRanges[] = {
    {'a', 'z', 1, -32},        // ASCII
    {0x00E0, 0x00F6, 1, -32},  // Latin-1
    {0x00F8, 0x00FE, 1, -32},  //
    {0x00FF, 0x00FF, 1, 0x79}, // y with diaeresis: U+0178
    {0x0101, 0x012F, 2, -1},   // Latin Extended-A
    {0x0133, 0x0137, 2, -1},   //
    {0x013A, 0x0148, 2, -1},   //
    {0x014B, 0x0177, 2, -1},   //
    {0x017A, 0x017E, 2, -1},   //
    {0x03AC, 0x03AC, 1, -38},  // Greek
    {0x03AD, 0x03AF, 1, -37},  //
    {0x03B1, 0x03C1, 1, -32},  //
    {0x03C3, 0x03CB, 1, -32},  //
    {0x03CC, 0x03CC, 1, -64},  //
    {0x03CD, 0x03CE, 1, -63},  //
    {0x0430, 0x044F, 1, -32},  // Cyrillic
    {0x0450, 0x045F, 1, -80},  //
    {0x0461, 0x0481, 2, -1},   //
    {0x048B, 0x04BF, 2, -1},   //
    {0x04C2, 0x04CE, 2, -1},   //
    {0x04D1, 0x0527, 2, -1},   //
    {0x0561, 0x0586, 1, -48},  // Armenian
    {0x1E01, 0x1E95, 2, -1},   // Latin Extended Additional
    {0x1EA1, 0x1EFF, 2, -1},   //
    {0x2170, 0x217F, 1, -16},  // Roman numerals
    {0x24D0, 0x24E9, 1, -26},  // letters in circles
    {0xFF41, 0xFF5A, 1, -32},  // full width
};

static BOOLEAN RtlpIsInRange(LONG Unit, LONG First, LONG Last, LONG Step)
{
    return Unit >= First && Unit <= Last && (Unit - First) % Step == 0;
}

WCHAR NTAPI RtlUpcaseUnicodeChar(WCHAR SourceCharacter)
{
    if (SourceCharacter < 'a') {
        return SourceCharacter;
    }
    for (ULONG Index = 0; Index < ARRAYSIZE(RtlpCaseRanges); Index += 1) {
        const RTL_CASE_RANGE *Range = &RtlpCaseRanges[Index];
        if (RtlpIsInRange(SourceCharacter, Range->First, Range->Last, Range->Step)) {
            return (WCHAR)(SourceCharacter + Range->ToUpper);
        }
    }
    return SourceCharacter;
}

WCHAR NTAPI RtlDowncaseUnicodeChar(WCHAR SourceCharacter)
{
    if (SourceCharacter < 'A') {
        return SourceCharacter;
    }
    for (ULONG Index = 0; Index < ARRAYSIZE(RtlpCaseRanges); Index += 1) {
        const RTL_CASE_RANGE *Range = &RtlpCaseRanges[Index];
        if (RtlpIsInRange(SourceCharacter - Range->ToUpper, Range->First, Range->Last,
                          Range->Step)) {
            return (WCHAR)(SourceCharacter - Range->ToUpper);
        }
    }
    return SourceCharacter;
}

CHAR NTAPI RtlUpperChar(CHAR Character)
{
    const WCHAR Upper = RtlUpcaseUnicodeChar((UCHAR)Character);
    return Upper <= 0xFF ? (CHAR)Upper : Character;
}
