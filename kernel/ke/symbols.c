// Names for addresses, from the symbol table of the kernel image that the boot loader hands over.
//
// A look-up is a scan over the table as it lies in the image: no lock, no allocation, nothing built
// in advance, so it also works in the middle of a crash.

#include "kernel/inc/loader.h"
#include "kernel/inc/ke.h"
#include "kernel/inc/ldr.h"
#include "kernel/inc/rtl.h"

typedef struct _KI_ELF_SYMBOL {
    ULONG NameOffset;
    UCHAR Information; // low half: the kind
    UCHAR Visibility;
    USHORT SectionIndex;
    ULONG64 Value;
    ULONG64 ByteCount;
} KI_ELF_SYMBOL;

C_ASSERT(sizeof(KI_ELF_SYMBOL) == 24);

#define ELF_KIND_MASK 0x0F
#define ELF_KIND_NONE 0
#define ELF_KIND_OBJECT 1
#define ELF_KIND_FUNCTION 2
#define ELF_SECTION_UNDEFINED 0

// A label without a size (assembler code) names what follows it up to this distance.
#define LABEL_REACH 0x1000

static const KI_ELF_SYMBOL *KiSymbols;
static SIZE_T KiSymbolCount;
static PCSTR KiSymbolNames;
static SIZE_T KiSymbolNamesByteCount;

VOID KiInitializeSymbols(const LOADER_BLOCK *LoaderBlock)
{
    const LOADER_SYMBOLS *Symbols = &LoaderBlock->Symbols;
    if (Symbols->TableByteCount == 0 || Symbols->StringsByteCount == 0) {
        return;
    }
    KiSymbolNames = Symbols->Strings;
    KiSymbolNamesByteCount = Symbols->StringsByteCount;
    KiSymbols = Symbols->Table;
    KiSymbolCount = Symbols->TableByteCount / sizeof(KI_ELF_SYMBOL);
}

static BOOLEAN KiNamesSomething(const KI_ELF_SYMBOL *Symbol)
{
    const UCHAR Kind = Symbol->Information & ELF_KIND_MASK;
    return Symbol->SectionIndex != ELF_SECTION_UNDEFINED && Symbol->NameOffset != 0 &&
           Symbol->NameOffset < KiSymbolNamesByteCount &&
           (Kind == ELF_KIND_FUNCTION || Kind == ELF_KIND_OBJECT || Kind == ELF_KIND_NONE);
}

static BOOLEAN KiContains(const KI_ELF_SYMBOL *Symbol, ULONG_PTR Address)
{
    const ULONG64 Reach = Symbol->ByteCount != 0 ? Symbol->ByteCount : LABEL_REACH;
    return Address >= Symbol->Value && Address - Symbol->Value < Reach;
}

// A symbol with a size beats a label; between labels the nearer one wins.
static BOOLEAN KiIsBetter(const KI_ELF_SYMBOL *Symbol, const KI_ELF_SYMBOL *Best)
{
    if (Best == NULL || (Symbol->ByteCount != 0) != (Best->ByteCount != 0)) {
        return Best == NULL || Symbol->ByteCount != 0;
    }
    return Symbol->Value > Best->Value;
}

// An image has no symbols: its name, and the distance from its base, which `objdump` counts from, too.
static PCSTR KiFindImageOffset(ULONG_PTR Address, PULONG_PTR Offset)
{
    const LDR_IMAGE *Image = LdrFindImage(Address);
    if (Image == NULL) {
        return NULL;
    }
    *Offset = Address - Image->Base;
    return Image->Name;
}

PCSTR KiFindSymbol(ULONG_PTR Address, PULONG_PTR Offset)
{
    const KI_ELF_SYMBOL *Best = NULL;
    for (SIZE_T Index = 0; Index < KiSymbolCount; Index += 1) {
        const KI_ELF_SYMBOL *Symbol = &KiSymbols[Index];
        if (KiContains(Symbol, Address) && KiNamesSomething(Symbol) && KiIsBetter(Symbol, Best)) {
            Best = Symbol;
        }
    }
    if (Best == NULL) {
        return KiFindImageOffset(Address, Offset);
    }
    *Offset = Address - Best->Value;
    return KiSymbolNames + Best->NameOffset;
}

//
// Whose code.
//

// Named by linker.ld: code of the tests that counts as a driver's.
extern const UCHAR KiTestDriverTextStart[], KiTestDriverTextEnd[];

#define KI_MAXIMUM_OWNERS (32 + LDR_MAXIMUM_IMAGES)

typedef struct _KI_CODE_OWNER {
    PCSTR Name; // NULL: the row is free
    ULONG_PTR Base;
    SIZE_T ByteCount;
    BOOLEAN IsDriver;
} KI_CODE_OWNER;

static KI_CODE_OWNER KiCodeOwners[KI_MAXIMUM_OWNERS];
static ULONG KiCodeOwnerCount;

static KI_CODE_OWNER *KiSlotOfOwner(PCSTR Name)
{
    KI_CODE_OWNER *Free = NULL;
    for (ULONG Index = 0; Index < KiCodeOwnerCount; Index += 1) {
        KI_CODE_OWNER *Owner = &KiCodeOwners[Index];
        if (Owner->Name != NULL && RtlStringsEqual(Owner->Name, Name)) {
            return Owner;
        }
        Free = Owner->Name == NULL ? Owner : Free;
    }
    // The rest stays nameless.
    return Free == NULL && KiCodeOwnerCount < KI_MAXIMUM_OWNERS ? &KiCodeOwners[KiCodeOwnerCount++]
                                                                : Free;
}

VOID KiRegisterCode(PCSTR Name, ULONG_PTR Base, SIZE_T ByteCount, BOOLEAN IsDriver)
{
    KI_CODE_OWNER *Owner = KiSlotOfOwner(Name);
    if (Owner != NULL) {
        *Owner = (KI_CODE_OWNER){Name, Base, ByteCount, IsDriver};
    }
}

VOID KiForgetCode(PCSTR Name)
{
    for (ULONG Index = 0; Index < KiCodeOwnerCount; Index += 1) {
        KI_CODE_OWNER *Owner = &KiCodeOwners[Index];
        if (Owner->Name != NULL && RtlStringsEqual(Owner->Name, Name)) {
            Owner->ByteCount = 0; // first: a crash may be looking on
            Owner->Name = NULL;
        }
    }
}

static const KI_CODE_OWNER *KiOwnerOf(ULONG_PTR Address)
{
    for (ULONG Index = 0; Index < KiCodeOwnerCount; Index += 1) {
        if (Address - KiCodeOwners[Index].Base < KiCodeOwners[Index].ByteCount) {
            return &KiCodeOwners[Index];
        }
    }
    return NULL;
}

PCSTR KiFindCodeOwner(ULONG_PTR Address)
{
    const KI_CODE_OWNER *Owner = KiOwnerOf(Address);
    return Owner != NULL ? Owner->Name : NULL;
}

PCSTR KiNameCode(ULONG_PTR Address, PKI_CODE_NAME Name)
{
    ULONG_PTR Offset;
    PCSTR Symbol = KiFindSymbol(Address, &Offset);
    if (Symbol == NULL) {
        return "unknown code";
    }
    if (LdrFindImage(Address) == NULL) {
        return Symbol;
    }
    RtlFormatBuffer(Name->Text, sizeof(Name->Text), "%s+0x%llx", Symbol, Offset);
    return Name->Text;
}

BOOLEAN KiIsDriverCode(ULONG_PTR Address)
{
    const KI_CODE_OWNER *Owner = KiOwnerOf(Address);
    return (Address >= (ULONG_PTR)KiTestDriverTextStart &&
            Address < (ULONG_PTR)KiTestDriverTextEnd) ||
           (Owner != NULL && Owner->IsDriver);
}
