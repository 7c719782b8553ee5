// Exports: the kernel's, a table that kernel/ldr/makeexports.py makes of kernel/ldr/exports.txt, sorted
// by the bytes of the names; and those of images.
#include <wdm.h>

#include "kernel/inc/rtl.h"
#include "kernel/ldr/ldrp.h"

// Each name between two others begins with the letters that these share, so that only the rest is
// compared: many names begin alike.
PVOID LdrFindExport(PCSTR Name)
{
    ULONG First = 0;
    ULONG End = LdrpExportCount;
    ULONG SameBefore = 0; // letters shared with the name before First ...
    ULONG SameBehind = 0; // ... and with the one at End
    while (First < End) {
        const ULONG Middle = First + (End - First) / 2;
        const PCSTR Other = LdrpExports[Middle].Name;
        ULONG Same = SameBefore < SameBehind ? SameBefore : SameBehind;
        while (Name[Same] != 0 && Name[Same] == Other[Same]) {
            Same += 1;
        }
        if (Name[Same] == Other[Same]) {
            return LdrpExports[Middle].Address;
        }
        if ((UCHAR)Name[Same] < (UCHAR)Other[Same]) {
            End = Middle;
            SameBehind = Same;
        } else {
            First = Middle + 1;
            SameBefore = Same;
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

//
// Export directories.
//

// The arrays of a directory, each as a whole in the image.
typedef struct _LDRP_EXPORTS {
    LDRP_VIEW Image;
    IMAGE_DATA_DIRECTORY Place;
    ULONG FirstOrdinal;
    ULONG FunctionCount;
    ULONG NameCount;
    const UCHAR *Functions; // RVAs
    const UCHAR *Names;     // RVAs
    const UCHAR *Ordinals;  // USHORTs
} LDRP_EXPORTS;

static BOOLEAN LdrpReadExports(LDRP_VIEW Image, IMAGE_DATA_DIRECTORY Place, LDRP_EXPORTS *Exports)
{
    const IMAGE_EXPORT_DIRECTORY *Directory =
        LdrpAt(&Image, Place.VirtualAddress, sizeof(*Directory));
    if (Directory == NULL || Directory->NumberOfFunctions > LDRP_MAXIMUM_EXPORTS ||
        Directory->NumberOfNames > LDRP_MAXIMUM_EXPORTS) {
        return FALSE;
    }
    *Exports = (LDRP_EXPORTS){
        .Image = Image,
        .Place = Place,
        .FirstOrdinal = Directory->Base,
        .FunctionCount = Directory->NumberOfFunctions,
        .NameCount = Directory->NumberOfNames,
        .Functions = LdrpAt(&Image, Directory->AddressOfFunctions,
                            Directory->NumberOfFunctions * sizeof(ULONG)),
        .Names =
            LdrpAt(&Image, Directory->AddressOfNames, Directory->NumberOfNames * sizeof(ULONG)),
        .Ordinals = LdrpAt(&Image, Directory->AddressOfNameOrdinals,
                           Directory->NumberOfNames * sizeof(USHORT)),
    };
    return Exports->Functions != NULL && Exports->Names != NULL && Exports->Ordinals != NULL;
}

static PCSTR LdrpNameOfExport(const LDRP_EXPORTS *Exports, ULONG Index)
{
    return LdrpTextAt(&Exports->Image, LdrpReadUlong(Exports->Names + Index * sizeof(ULONG)));
}

static ULONG LdrpFunctionOfName(const LDRP_EXPORTS *Exports, ULONG Index)
{
    USHORT Function;
    __builtin_memcpy(&Function, Exports->Ordinals + Index * sizeof(Function), sizeof(Function));
    return Function;
}

static ULONG LdrpRvaOfFunction(const LDRP_EXPORTS *Exports, ULONG Function)
{
    return LdrpReadUlong(Exports->Functions + Function * sizeof(ULONG));
}

// A function that "lies" in the directory itself is a forwarder.
static BOOLEAN LdrpIsForwarder(const LDRP_EXPORTS *Exports, ULONG Rva)
{
    return Rva - Exports->Place.VirtualAddress < Exports->Place.Size;
}

NTSTATUS LdrpCheckExports(const LDRP_LOAD *Load)
{
    LDRP_EXPORTS Exports;
    const IMAGE_DATA_DIRECTORY Place = LdrpDirectory(Load, IMAGE_DIRECTORY_ENTRY_EXPORT);
    if (Place.Size == 0) {
        return STATUS_SUCCESS;
    }
    LDRP_REQUIRE(Load, LdrpReadExports(Load->Image, Place, &Exports),
                 "the export directory or one of its arrays leaves the image");
    for (ULONG Function = 0; Function < Exports.FunctionCount; Function += 1) {
        const ULONG Rva = LdrpRvaOfFunction(&Exports, Function);
        LDRP_REQUIRE(Load,
                     Rva < Load->Image.ByteCount &&
                         (!LdrpIsForwarder(&Exports, Rva) || LdrpTextAt(&Load->Image, Rva) != NULL),
                     "export %llu leaves the image", (ULONG64)Exports.FirstOrdinal + Function);
    }
    PCSTR Previous = NULL;
    for (ULONG Index = 0; Index < Exports.NameCount; Index += 1) {
        const PCSTR Name = LdrpNameOfExport(&Exports, Index);
        LDRP_REQUIRE(Load, Name != NULL, "the name of export %u leaves the image", Index);
        LDRP_REQUIRE(Load, LdrpFunctionOfName(&Exports, Index) < Exports.FunctionCount,
                     "export %s is number %u of %u", Name, LdrpFunctionOfName(&Exports, Index),
                     Exports.FunctionCount);
        LDRP_REQUIRE(Load, Previous == NULL || LdrpCompareNames(Previous, Name) < 0,
                     "export %s is out of order", Name);
        Previous = Name;
    }
    return STATUS_SUCCESS;
}

// The function's index, or the count when there is none.
static ULONG LdrpFunctionOf(const LDRP_EXPORTS *Exports, LDRP_SYMBOL Symbol)
{
    if (Symbol.Name == NULL) {
        const ULONG Function = Symbol.Ordinal - Exports->FirstOrdinal;
        return Function < Exports->FunctionCount ? Function : Exports->FunctionCount;
    }
    ULONG First = 0;
    ULONG End = Exports->NameCount;
    while (First < End) {
        const ULONG Middle = First + (End - First) / 2;
        const LONG Order = LdrpCompareNames(Symbol.Name, LdrpNameOfExport(Exports, Middle));
        if (Order == 0) {
            return LdrpFunctionOfName(Exports, Middle);
        }
        if (Order < 0) {
            End = Middle;
        } else {
            First = Middle + 1;
        }
    }
    return Exports->FunctionCount;
}

LDRP_FOUND LdrpFindImageExport(const LDR_IMAGE *Image, LDRP_SYMBOL Symbol, PVOID *Address,
                               PCSTR *Forwarder)
{
    LDRP_EXPORTS Exports;
    const LDRP_VIEW View = {(PUCHAR)Image->Base, Image->ByteCount};
    const IMAGE_DATA_DIRECTORY Place = {Image->ExportRva, Image->ExportBytes};
    if (Place.Size == 0 || !LdrpReadExports(View, Place, &Exports)) {
        return LdrpFoundNothing;
    }
    const ULONG Function = LdrpFunctionOf(&Exports, Symbol);
    const ULONG Rva = Function < Exports.FunctionCount ? LdrpRvaOfFunction(&Exports, Function) : 0;
    if (Rva == 0) {
        return LdrpFoundNothing; // an ordinal that is not in use
    }
    *Address = View.Bytes + Rva;
    *Forwarder = (PCSTR)View.Bytes + Rva;
    return LdrpIsForwarder(&Exports, Rva) ? LdrpFoundForwarder : LdrpFoundAddress;
}

PVOID LdrFindImageExport(const LDR_IMAGE *Image, PCSTR Name)
{
    PVOID Address;
    PCSTR Forwarder;
    const LDRP_SYMBOL Symbol = {Name, 0};
    return LdrpFindImageExport(Image, Symbol, &Address, &Forwarder) == LdrpFoundAddress ? Address
                                                                                        : NULL;
}
