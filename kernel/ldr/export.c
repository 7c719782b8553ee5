// What the kernel exports: a table that kernel/ldr/makeexports.py makes of kernel/ldr/exports.txt,
// sorted by the bytes of the names.
#include <wdm.h>

#include "kernel/inc/ldr.h"
#include "kernel/inc/rtl.h"
#include "kernel/ldr/ldrp.h"

PVOID LdrFindExport(PCSTR Name)
{
    ULONG First = 0;
    ULONG End = LdrpExportCount;
    while (First < End) {
        const ULONG Middle = First + (End - First) / 2;
        const LONG Order = LdrpCompareNames(Name, LdrpExports[Middle].Name);
        if (Order == 0) {
            return LdrpExports[Middle].Address;
        }
        if (Order < 0) {
            End = Middle;
        } else {
            First = Middle + 1;
        }
    }
    return NULL;
}

#define LDRP_EXPORT_NAME_BYTES 128

PVOID NTAPI MmGetSystemRoutineAddress(PUNICODE_STRING SystemRoutineName)
{
    CHAR Name[LDRP_EXPORT_NAME_BYTES];
    const ULONG Length = SystemRoutineName->Length / sizeof(WCHAR);
    if (Length >= sizeof(Name)) {
        return NULL;
    }
    for (ULONG Index = 0; Index < Length; Index += 1) {
        const WCHAR Letter = SystemRoutineName->Buffer[Index];
        if (Letter == 0 || Letter > 0x7F) {
            return NULL;
        }
        Name[Index] = (CHAR)Letter;
    }
    Name[Length] = 0;
    return LdrFindExport(Name);
}
