// Imports: what an image asks others for, and the addresses that it gets.
//
//   descriptor ──Name──▶ "ntoskrnl.exe"
//     │ └─OriginalFirstThunk──▶ | ▶ hint, "DbgPrint" | ▶ hint, "IoCreateDevice" | 0 |
//     └───FirstThunk──────────▶ | address            | address                  | 0 |
//
// ntoskrnl.exe and HAL.dll are the kernel, whose exports have no ordinals; any other module is an image
// that is loaded, or one of the boot loader's files, which is loaded then. Hints are where a name was when the image was linked; nothing relies on them.
// A data import gets the address of the variable, as every import gets an address.
//
// A module may forward an export to another one: "HAL.KeStallExecutionProcessor". The module's name
// has no extension then.
#include "kernel/inc/rtl.h"
#include "kernel/ldr/ldrp.h"

#define MISSING_BYTES 768
#define MISSING_PRINTED 64

// Why something is missing, the worst last.
typedef enum _LDRP_LACK {
    LdrpLackNothing,
    LdrpLackOrdinal,
    LdrpLackName,
    LdrpLackModule,
    LdrpLackCount,
} LDRP_LACK;

// What became of one import that nobody has.
typedef struct _LDRP_FAILURE {
    LDRP_LACK Lack;
    PCSTR Forwarder; // the last one that was followed, or NULL
} LDRP_FAILURE;

// All that is missing, so that one attempt tells everything.
typedef struct _LDRP_MISSING {
    LDRP_LACK Worst;
    ULONG Count;
    ULONG NamedCount; // in Text
    SIZE_T Length;
    CHAR Text[MISSING_BYTES];
} LDRP_MISSING, *PLDRP_MISSING;

//
// Modules.
//

static CHAR LdrpLower(CHAR Letter)
{
    return Letter >= 'A' && Letter <= 'Z' ? (CHAR)(Letter - 'A' + 'a') : Letter;
}

// Whether the first letters of both are the same, whatever their case.
static BOOLEAN LdrpIsSameText(PCSTR A, SIZE_T LengthOfA, PCSTR B, SIZE_T LengthOfB)
{
    SIZE_T Index = 0;
    while (LengthOfA == LengthOfB && Index < LengthOfA &&
           LdrpLower(A[Index]) == LdrpLower(B[Index])) {
        Index += 1;
    }
    return Index == LengthOfA && Index == LengthOfB;
}

BOOLEAN LdrpIsSameName(PCSTR A, PCSTR B)
{
    return LdrpIsSameText(A, RtlStringLength(A), B, RtlStringLength(B));
}

PLDR_IMAGE LdrpFindImageByName(PCSTR Name)
{
    PLDR_IMAGE Image = LdrpNextImage(NULL);
    while (Image != NULL && !LdrpIsSameName(Image->Name, Name)) {
        Image = LdrpNextImage(Image);
    }
    return Image;
}

// The name up to its last dot.
static SIZE_T LdrpStemLength(PCSTR Name)
{
    SIZE_T Length = RtlStringLength(Name);
    for (SIZE_T Index = 0; Name[Index] != 0; Index += 1) {
        Length = Name[Index] == '.' ? Index : Length;
    }
    return Length;
}

// A module: the kernel, an image, or neither.
typedef struct _LDRP_MODULE {
    BOOLEAN IsKernel;
    PLDR_IMAGE Image;
} LDRP_MODULE;

static LDRP_MODULE LdrpFindModule(const LDRP_LOAD *Load, PCSTR Name)
{
    if (LdrpIsSameName(Name, "ntoskrnl.exe") || LdrpIsSameName(Name, "hal.dll")) {
        return (LDRP_MODULE){TRUE, NULL};
    }
    const PLDR_IMAGE Image = LdrpFindImageByName(Name);
    return (LDRP_MODULE){FALSE, Image != NULL ? Image : LdrpLoadDependency(Load, Name)};
}

// The same for the name without extension that a forwarder has.
static LDRP_MODULE LdrpFindModuleByStem(PCSTR Stem, SIZE_T Length)
{
    if (LdrpIsSameText(Stem, Length, "ntoskrnl", sizeof("ntoskrnl") - 1) ||
        LdrpIsSameText(Stem, Length, "hal", sizeof("hal") - 1)) {
        return (LDRP_MODULE){TRUE, NULL};
    }
    PLDR_IMAGE Image = LdrpNextImage(NULL);
    while (Image != NULL &&
           !LdrpIsSameText(Image->Name, LdrpStemLength(Image->Name), Stem, Length)) {
        Image = LdrpNextImage(Image);
    }
    return (LDRP_MODULE){FALSE, Image};
}

//
// One import.
//

static VOID LdrpNoteImport(PLDRP_LOAD Load, const LDR_IMAGE *From)
{
    const ULONG Index = LdrpIndexOfImage(From);
    Load->Imports[Index / 64] |= 1ull << (Index % 64);
}

// "#7", or a name.
static LDRP_SYMBOL LdrpSymbolOfForwarder(PCSTR Text)
{
    LDRP_SYMBOL Symbol = {Text, 0};
    if (Text[0] == '#') {
        Symbol.Name = NULL;
        for (SIZE_T Index = 1; Text[Index] >= '0' && Text[Index] <= '9'; Index += 1) {
            Symbol.Ordinal = (Symbol.Ordinal * 10 + (ULONG)(Text[Index] - '0')) & 0xFFFF;
        }
    }
    return Symbol;
}

// Follows forwarders, a few of them. NULL: what *Failure says is missing.
static PVOID LdrpFindSymbol(PLDRP_LOAD Load, LDRP_MODULE Module, LDRP_SYMBOL Symbol,
                            LDRP_FAILURE *Failure)
{
    *Failure = (LDRP_FAILURE){LdrpLackNothing, NULL};
    for (ULONG Forwards = 0; Forwards <= LDRP_MAXIMUM_FORWARDS; Forwards += 1) {
        PVOID Address = NULL;
        PCSTR Forwarder = NULL;
        Failure->Lack = Symbol.Name != NULL ? LdrpLackName : LdrpLackOrdinal;
        if (Module.IsKernel) {
            return Symbol.Name != NULL ? LdrFindExport(Symbol.Name) : NULL;
        }
        if (Module.Image == NULL) {
            Failure->Lack = LdrpLackModule;
            return NULL;
        }
        LdrpNoteImport(Load, Module.Image);
        switch (LdrpFindImageExport(Module.Image, Symbol, &Address, &Forwarder)) {
        case LdrpFoundAddress:
            return Address;
        case LdrpFoundNothing:
            return NULL;
        case LdrpFoundForwarder:
            break;
        }
        Failure->Forwarder = Forwarder;
        const SIZE_T StemLength = LdrpStemLength(Forwarder);
        if (Forwarder[StemLength] == 0) {
            return NULL; // names no module
        }
        Module = LdrpFindModuleByStem(Forwarder, StemLength);
        Symbol = LdrpSymbolOfForwarder(Forwarder + StemLength + 1);
    }
    return NULL;
}

// "IoFoo of ntoskrnl.exe", "number 7 of other.sys (not loaded)", "Bar of other.sys (forwarded to ...)"
static SIZE_T LdrpDescribeMissing(PCHAR Text, SIZE_T ByteCount, PCSTR ModuleName,
                                  LDRP_SYMBOL Symbol, const LDRP_FAILURE *Failure)
{
    CHAR Number[16];
    RtlFormatBuffer(Number, sizeof(Number), "number %u", Symbol.Ordinal);
    const PCSTR Name = Symbol.Name != NULL ? Symbol.Name : Number;
    const PCSTR Remark = Failure->Lack == LdrpLackModule ? "not loaded" : "";
    if (Failure->Forwarder != NULL) {
        return RtlFormatBuffer(Text, ByteCount, "%s of %s (forwarded to %s%s%s)", Name, ModuleName,
                               Failure->Forwarder, Remark[0] != 0 ? ": " : "", Remark);
    }
    return RtlFormatBuffer(Text, ByteCount, "%s of %s%s%s%s", Name, ModuleName,
                           Remark[0] != 0 ? " (" : "", Remark, Remark[0] != 0 ? ")" : "");
}

static VOID LdrpNoteMissing(const LDRP_LOAD *Load, PLDRP_MISSING Missing, PCSTR ModuleName,
                            LDRP_SYMBOL Symbol, const LDRP_FAILURE *Failure)
{
    CHAR Text[MISSING_BYTES];
    const SIZE_T Length = LdrpDescribeMissing(Text, sizeof(Text), ModuleName, Symbol, Failure);
    if (Missing->Count < MISSING_PRINTED) {
        DbgPrint("ldr: %s: missing import: %s\n", Load->Name, Text);
    }
    if (Missing->NamedCount == Missing->Count && Length + 2 < MISSING_BYTES - Missing->Length) {
        Missing->Length +=
            RtlFormatBuffer(Missing->Text + Missing->Length, MISSING_BYTES - Missing->Length,
                            "%s%s", Missing->Count != 0 ? ", " : "", Text);
        Missing->NamedCount += 1;
    }
    Missing->Count += 1;
    Missing->Worst = Failure->Lack > Missing->Worst ? Failure->Lack : Missing->Worst;
}

static NTSTATUS LdrpReadSymbol(const LDRP_LOAD *Load, ULONG64 Thunk, LDRP_SYMBOL *Symbol)
{
    if ((Thunk & IMAGE_ORDINAL_FLAG64) != 0) {
        *Symbol = (LDRP_SYMBOL){NULL, (ULONG)Thunk & 0xFFFF};
        return STATUS_SUCCESS;
    }
    // The hint comes first. A sum that wraps is outside, too.
    *Symbol = (LDRP_SYMBOL){
        Thunk < Load->Image.ByteCount ? LdrpTextAt(&Load->Image, Thunk + sizeof(USHORT)) : NULL, 0};
    LDRP_REQUIRE(Load, Symbol->Name != NULL, "the name of an import, at 0x%llx, leaves the image",
                 Thunk);
    return STATUS_SUCCESS;
}

//
// All of them.
//

static NTSTATUS LdrpLinkDescriptor(PLDRP_LOAD Load, const IMAGE_IMPORT_DESCRIPTOR *Descriptor,
                                   PLDRP_MISSING Missing)
{
    const PCSTR NameInImage = LdrpTextAt(&Load->Image, Descriptor->Name);
    CHAR ModuleName[LDR_NAME_BYTES]; // a copy: addresses may be written over what is damaged
    const ULONG NamesRva = Descriptor->OriginalFirstThunk != 0 ? Descriptor->OriginalFirstThunk
                                                               : Descriptor->FirstThunk;
    LDRP_REQUIRE(Load, NameInImage != NULL, "the name of a module, at 0x%x, leaves the image",
                 Descriptor->Name);
    LDRP_REQUIRE(Load, RtlCopyString(ModuleName, sizeof(ModuleName), NameInImage),
                 "imports from %s..., a name that no module has", ModuleName);
    const LDRP_MODULE Module = LdrpFindModule(Load, ModuleName);
    for (ULONG64 Offset = 0;; Offset += sizeof(ULONG64)) {
        LDRP_SYMBOL Symbol;
        LDRP_FAILURE Failure;
        const ULONG64 *From = LdrpAt(&Load->Image, NamesRva + Offset, sizeof(ULONG64));
        const PVOID To = LdrpAt(&Load->Image, Descriptor->FirstThunk + Offset, sizeof(ULONG64));
        LDRP_REQUIRE(Load, From != NULL && To != NULL, "the imports from %s leave the image",
                     ModuleName);
        const ULONG64 Thunk = LdrpReadUlong64(From);
        if (Thunk == 0) {
            return STATUS_SUCCESS;
        }
        Load->ImportCount += 1;
        LDRP_REQUIRE(Load, Load->ImportCount <= LDRP_MAXIMUM_IMPORTS,
                     "there are more than %u imports", LDRP_MAXIMUM_IMPORTS);
        const NTSTATUS Status = LdrpReadSymbol(Load, Thunk, &Symbol);
        if (!NT_SUCCESS(Status)) {
            return Status;
        }
        const PVOID Address = LdrpFindSymbol(Load, Module, Symbol, &Failure);
        if (Address == NULL) {
            LdrpNoteMissing(Load, Missing, ModuleName, Symbol, &Failure);
        }
        LdrpWriteUlong64(To, (ULONG_PTR)Address);
    }
}

static NTSTATUS LdrpRefuseMissing(const LDRP_LOAD *Load, const LDRP_MISSING *Missing)
{
    static const NTSTATUS Statuses[] = {
        [LdrpLackNothing] = STATUS_SUCCESS,
        [LdrpLackOrdinal] = STATUS_DRIVER_ORDINAL_NOT_FOUND,
        [LdrpLackName] = STATUS_DRIVER_ENTRYPOINT_NOT_FOUND,
        [LdrpLackModule] = STATUS_OBJECT_NAME_NOT_FOUND,
    };
    C_ASSERT(ARRAYSIZE(Statuses) == LdrpLackCount);
    const ULONG Unnamed = Missing->Count - Missing->NamedCount;
    if (Unnamed != 0) {
        return LdrpRefuse(Load, Statuses[Missing->Worst], "%u imports are missing: %s, and %u more",
                          Missing->Count, Missing->Text, Unnamed);
    }
    return LdrpRefuse(Load, Statuses[Missing->Worst],
                      Missing->Count == 1 ? "an import is missing: %s" : "imports are missing: %s",
                      Missing->Text);
}

// The directory's size is no bound: some linkers count the descriptors only, some all that belongs to
// them. A descriptor without a name or without addresses ends the list.
NTSTATUS LdrpLinkImports(PLDRP_LOAD Load)
{
    LDRP_MISSING Missing = {.Worst = LdrpLackNothing};
    const IMAGE_DATA_DIRECTORY Directory = LdrpDirectory(Load, IMAGE_DIRECTORY_ENTRY_IMPORT);
    for (ULONG64 Rva = Directory.VirtualAddress; Directory.Size != 0;
         Rva += sizeof(IMAGE_IMPORT_DESCRIPTOR)) {
        IMAGE_IMPORT_DESCRIPTOR Descriptor;
        const VOID *At = LdrpAt(&Load->Image, Rva, sizeof(Descriptor));
        LDRP_REQUIRE(Load, At != NULL, "the list of imports leaves the image");
        __builtin_memcpy(&Descriptor, At, sizeof(Descriptor));
        if (Descriptor.Name == 0 || Descriptor.FirstThunk == 0) {
            break;
        }
        const NTSTATUS Status = LdrpLinkDescriptor(Load, &Descriptor, &Missing);
        if (!NT_SUCCESS(Status)) {
            return Status;
        }
    }
    return Missing.Count != 0 ? LdrpRefuseMissing(Load, &Missing) : STATUS_SUCCESS;
}
