// The C runtime's character classes and conversions, in the locale "C".

#include <rtlddk.h>

#include "kernel/inc/crt.h"

// The bits of iswctype's mask, as <ctype.h> of the Microsoft compilers has them.
#define CLASS_UPPER 0x0001
#define CLASS_LOWER 0x0002
#define CLASS_DIGIT 0x0004
#define CLASS_SPACE 0x0008
#define CLASS_PUNCT 0x0010
#define CLASS_CONTROL 0x0020
#define CLASS_BLANK 0x0040
#define CLASS_HEX 0x0080
#define CLASS_ALPHA (0x0100 | CLASS_UPPER | CLASS_LOWER)
#define CLASS_GRAPH (CLASS_ALPHA | CLASS_DIGIT | CLASS_PUNCT)

typedef struct _CRT_CLASS_RANGE {
    UCHAR First;
    UCHAR Last;
    USHORT Classes;
} CRT_CLASS_RANGE;

static const CRT_CLASS_RANGE CrtpClasses[] = {
    {0x00, 0x1F, CLASS_CONTROL},
    {'\t', '\r', CLASS_SPACE},
    {' ', ' ', CLASS_SPACE | CLASS_BLANK},
    {'!', '/', CLASS_PUNCT},
    {'0', '9', CLASS_DIGIT | CLASS_HEX},
    {':', '@', CLASS_PUNCT},
    {'A', 'Z', CLASS_UPPER},
    {'A', 'F', CLASS_HEX},
    {'[', '`', CLASS_PUNCT},
    {'a', 'z', CLASS_LOWER},
    {'a', 'f', CLASS_HEX},
    {'{', '~', CLASS_PUNCT},
    {0x7F, 0x7F, CLASS_CONTROL},
};

static INT CrtpHasClass(INT Character, USHORT Mask)
{
    USHORT Classes = 0;
    for (ULONG Index = 0; Index < ARRAYSIZE(CrtpClasses); Index += 1) {
        if (Character >= CrtpClasses[Index].First && Character <= CrtpClasses[Index].Last) {
            Classes |= CrtpClasses[Index].Classes;
        }
    }
    return Classes & Mask;
}

INT NTAPI CrtIsalpha(INT Character)
{
    return CrtpHasClass(Character, CLASS_ALPHA);
}

INT NTAPI CrtIsalnum(INT Character)
{
    return CrtpHasClass(Character, CLASS_ALPHA | CLASS_DIGIT);
}

INT NTAPI CrtIscntrl(INT Character)
{
    return CrtpHasClass(Character, CLASS_CONTROL);
}

INT NTAPI CrtIsdigit(INT Character)
{
    return CrtpHasClass(Character, CLASS_DIGIT);
}

INT NTAPI CrtIsgraph(INT Character)
{
    return CrtpHasClass(Character, CLASS_GRAPH);
}

INT NTAPI CrtIslower(INT Character)
{
    return CrtpHasClass(Character, CLASS_LOWER);
}

INT NTAPI CrtIsprint(INT Character)
{
    return CrtpHasClass(Character, CLASS_GRAPH | CLASS_BLANK);
}

INT NTAPI CrtIspunct(INT Character)
{
    return CrtpHasClass(Character, CLASS_PUNCT);
}

INT NTAPI CrtIsspace(INT Character)
{
    return CrtpHasClass(Character, CLASS_SPACE);
}

INT NTAPI CrtIsupper(INT Character)
{
    return CrtpHasClass(Character, CLASS_UPPER);
}

INT NTAPI CrtIsxdigit(INT Character)
{
    return CrtpHasClass(Character, CLASS_HEX);
}

INT NTAPI CrtIswctype(WCHAR Unit, USHORT TypeMask)
{
    return CrtpHasClass(Unit, TypeMask);
}

INT NTAPI CrtTolower(INT Character)
{
    return CrtIsupper(Character) ? Character + ('a' - 'A') : Character;
}

INT NTAPI CrtToupper(INT Character)
{
    return CrtIslower(Character) ? Character - ('a' - 'A') : Character;
}

// These two know all of Unicode's simple pairs, as on NT.
WCHAR NTAPI CrtTowlower(WCHAR Unit)
{
    return RtlDowncaseUnicodeChar(Unit);
}

WCHAR NTAPI CrtTowupper(WCHAR Unit)
{
    return RtlUpcaseUnicodeChar(Unit);
}

// To may be NULL: then the length is all that is asked for.
SIZE_T NTAPI CrtMbstowcs(PWCHAR To, PCSTR From, SIZE_T UnitCount)
{
    SIZE_T Count = 0;
    for (; From[Count] != 0 && (To == NULL || Count < UnitCount); Count += 1) {
        if (To != NULL) {
            To[Count] = (UCHAR)From[Count];
        }
    }
    if (To != NULL && Count < UnitCount) {
        To[Count] = 0;
    }
    return Count;
}

// (SIZE_T)-1: a unit has no byte of Latin-1.
SIZE_T NTAPI CrtWcstombs(PCHAR To, PCWSTR From, SIZE_T ByteCount)
{
    SIZE_T Count = 0;
    for (; From[Count] != 0 && (To == NULL || Count < ByteCount); Count += 1) {
        if (From[Count] > 0xFF) {
            return (SIZE_T)-1;
        }
        if (To != NULL) {
            To[Count] = (CHAR)From[Count];
        }
    }
    if (To != NULL && Count < ByteCount) {
        To[Count] = 0;
    }
    return Count;
}

INT NTAPI CrtMbtowc(PWCHAR To, PCSTR From, SIZE_T ByteCount)
{
    if (From == NULL || ByteCount == 0) {
        return 0;
    }
    if (To != NULL) {
        *To = (UCHAR)*From;
    }
    return *From != 0 ? 1 : 0;
}

INT NTAPI CrtWctomb(PCHAR To, WCHAR Unit)
{
    if (To == NULL) {
        return 0;
    }
    if (Unit > 0xFF) {
        return -1;
    }
    *To = (CHAR)Unit;
    return 1;
}
