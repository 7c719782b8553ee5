// Names for addresses, from the symbol table of the kernel image that the boot loader hands over.
//
// A look-up is a scan over the table as it lies in the image: no lock, no allocation, nothing built
// in advance, so it also works in the middle of a crash.

#include "kernel/inc/loader.h"
#include "kernel/inc/ke.h"

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
        return NULL;
    }
    *Offset = Address - Best->Value;
    return KiSymbolNames + Best->NameOffset;
}

// Named by linker.ld: the objects of drivers/ lie together.
extern const UCHAR KiDriverTextStart[], KiDriverTextEnd[];

BOOLEAN KiIsDriverCode(ULONG_PTR Address)
{
    return Address >= (ULONG_PTR)KiDriverTextStart && Address < (ULONG_PTR)KiDriverTextEnd;
}
