// Text that ends with a zero byte.

#include "kernel/inc/rtl.h"

SIZE_T RtlStringLength(PCSTR Text)
{
    SIZE_T Length = 0;
    while (Text[Length] != 0) {
        ++Length;
    }
    return Length;
}

BOOLEAN RtlStringsEqual(PCSTR A, PCSTR B)
{
    while (*A != 0 && *A == *B) {
        ++A;
        ++B;
    }
    return *A == *B;
}

BOOLEAN RtlStringStartsWith(PCSTR Text, PCSTR Prefix)
{
    while (*Prefix != 0 && *Text == *Prefix) {
        ++Text;
        ++Prefix;
    }
    return *Prefix == 0;
}

PCSTR RtlFindSubstring(PCSTR Text, PCSTR Part)
{
    for (;; Text += 1) {
        if (RtlStringStartsWith(Text, Part)) {
            return Text;
        }
        if (*Text == 0) {
            return NULL;
        }
    }
}

BOOLEAN RtlCopyString(PCHAR To, SIZE_T ToByteCount, PCSTR From)
{
    SIZE_T Index = 0;
    for (; From[Index] != 0 && Index + 1 < ToByteCount; Index += 1) {
        To[Index] = From[Index];
    }
    To[Index] = 0;
    return From[Index] == 0;
}
