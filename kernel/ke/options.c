// The boot command line: words separated by blanks, each "name" or "name=value".

#include "kernel/inc/ke.h"
#include "kernel/inc/rtl.h"

#define COMMAND_LINE_BYTES 512

static CHAR KiCommandLine[COMMAND_LINE_BYTES];

VOID KeSetBootCommandLine(PCSTR CommandLine)
{
    if (!RtlCopyString(KiCommandLine, sizeof(KiCommandLine), CommandLine)) {
        DbgPrint("boot options: cut after %llu characters\n", (ULONG64)sizeof(KiCommandLine) - 1);
    }
}

static BOOLEAN KiIsBlank(CHAR Character)
{
    return Character == ' ' || Character == '\t';
}

static PCSTR KiSkipBlanks(PCSTR Text)
{
    while (KiIsBlank(*Text)) {
        ++Text;
    }
    return Text;
}

static PCSTR KiSkipWord(PCSTR Text)
{
    while (*Text != 0 && !KiIsBlank(*Text)) {
        ++Text;
    }
    return Text;
}

// What follows Name in this word: its value, "" for a plain word; NULL when the word is another.
static PCSTR KiMatchWord(PCSTR Word, PCSTR Name)
{
    if (!RtlStringStartsWith(Word, Name)) {
        return NULL;
    }
    PCSTR Rest = Word + RtlStringLength(Name);
    if (*Rest == '=') {
        return Rest + 1;
    }
    return *Rest == 0 || KiIsBlank(*Rest) ? Rest : NULL;
}

static VOID KiCopyWord(PCHAR To, SIZE_T ToByteCount, PCSTR From)
{
    const SIZE_T Length = (SIZE_T)(KiSkipWord(From) - From);
    const SIZE_T Room = ToByteCount - 1;
    const SIZE_T Copied = Length < Room ? Length : Room;
    memcpy(To, From, Copied);
    To[Copied] = 0;
}

BOOLEAN KeGetBootOption(PCSTR Name, PCHAR Value, SIZE_T ValueByteCount)
{
    for (PCSTR Word = KiSkipBlanks(KiCommandLine); *Word != 0;
         Word = KiSkipBlanks(KiSkipWord(Word))) {
        PCSTR Found = KiMatchWord(Word, Name);
        if (Found != NULL) {
            if (Value != NULL && ValueByteCount > 0) {
                KiCopyWord(Value, ValueByteCount, Found);
            }
            return TRUE;
        }
    }
    return FALSE;
}

PCSTR KeNextBootOption(PCSTR Previous, PCSTR Prefix)
{
    PCSTR Word = Previous == NULL ? KiCommandLine : KiSkipWord(Previous);
    for (Word = KiSkipBlanks(Word); *Word != 0; Word = KiSkipBlanks(KiSkipWord(Word))) {
        if (RtlStringStartsWith(Word, Prefix)) {
            return Word;
        }
    }
    return NULL;
}
