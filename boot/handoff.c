// From the boot loader to the kernel: the multiboot2 information becomes a LOADER_BLOCK.
// This file and start.S are the only ones that know the boot protocol.
//
//   information (physical)                                  KiLoaderBlock
//   +-----------+--------+--------+-----+---------+
//   | ByteCount | tag    | tag    | ... | end tag | -- rows of TagReaders --> copies
//   +-----------+--------+--------+-----+---------+
//   a tag: {Type, ByteCount, fields...}, 8-byte aligned
//
// Nothing in the information is trusted: a tag must lie within it, and a reader sees only a tag
// that is as long as its fixed part. What is wrong is said on COM1 in one line, and the machine is
// left; what merely does not fit is cut, counted and noted there, too.
// Runs once, on the boot stack, interrupts off, before there is any console, IRQL or lock.

#include <wdm.h>

#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "kernel/inc/loader.h"
#include "kernel/inc/rtl.h"

#define MULTIBOOT2_MAGIC 0x36D76289
#define INFORMATION_ALIGNMENT 8
#define INFORMATION_MAXIMUM_BYTES (16u << 20)
#define BOOT_MAPPED_BYTES (4ull << 30) // start.S maps this much at BOOT_DIRECT_MAP
#define BOOT_DIRECT_MAP 0xFFFF800000000000ull

#define COM1 0x3F8
#define COM1_LINE_STATUS (COM1 + 5)
#define LINE_STATUS_SENT 0x60
#define MAXIMUM_POLLS 0x100000

// Symbols of linker.ld: only their addresses mean something.
extern CHAR KiVirtualBase[], KiImageStart[], KiImageEnd[];

DECLSPEC_NORETURN VOID LoaderHandoff(ULONG64 Magic, ULONG64 Information);

#define SYMBOL_CAPACITY (256u << 10)

static LOADER_BLOCK KiLoaderBlock;

// -------------------------------------------------------------------------------------------------
// The protocol's structures. Every tag begins with Type and ByteCount, which includes these two.

typedef enum _TAG_TYPE {
    TagEnd = 0,
    TagCommandLine = 1,
    TagLoaderName = 2,
    TagModule = 3,
    TagMemoryMap = 6,
    TagFramebuffer = 8,
    TagElfSections = 9,
    TagEfi32System = 11,
    TagEfi64System = 12,
    TagRootPointerOld = 14,
    TagRootPointerNew = 15,
    TagEfiMemoryMap = 17,
    TagEfi32Image = 19,
    TagEfi64Image = 20,
} TAG_TYPE;

typedef struct _TAG {
    ULONG Type;
    ULONG ByteCount;
} TAG;

typedef struct _STRING_TAG {
    TAG Head;
    CHAR Text[];
} STRING_TAG;

typedef struct _MODULE_TAG {
    TAG Head;
    ULONG StartAddress;
    ULONG EndAddress;
    CHAR CommandLine[];
} MODULE_TAG;

typedef struct _MEMORY_MAP_ENTRY {
    ULONG64 BaseAddress;
    ULONG64 ByteCount;
    ULONG Type;
    ULONG Reserved;
} MEMORY_MAP_ENTRY;

typedef struct _MEMORY_MAP_TAG {
    TAG Head;
    ULONG EntryByteCount;
    ULONG EntryVersion;
    UCHAR Entries[];
} MEMORY_MAP_TAG;

typedef struct _FRAMEBUFFER_TAG {
    TAG Head;
    ULONG64 BaseAddress;
    ULONG BytesPerRow;
    ULONG Width;
    ULONG Height;
    UCHAR BitsPerPixel;
    UCHAR Type;
    USHORT Reserved;
} FRAMEBUFFER_TAG;

typedef struct _ELF_SECTIONS_TAG {
    TAG Head;
    ULONG SectionCount;
    ULONG SectionByteCount;
    ULONG NameSectionIndex;
    UCHAR Sections[];
} ELF_SECTIONS_TAG;

typedef struct _ROOT_POINTER_TAG {
    TAG Head;
    UCHAR Bytes[];
} ROOT_POINTER_TAG;

// The ELF64 section header.
typedef struct _ELF_SECTION {
    ULONG Name;
    ULONG Type;
    ULONG64 Flags;
    ULONG64 Address; // for a section outside the image: where GRUB put it
    ULONG64 Offset;
    ULONG64 ByteCount;
    ULONG Link;
    ULONG Info;
    ULONG64 Alignment;
    ULONG64 EntryByteCount;
} ELF_SECTION;

C_ASSERT(sizeof(MEMORY_MAP_ENTRY) == 24);
C_ASSERT(sizeof(FRAMEBUFFER_TAG) == 32);
C_ASSERT(sizeof(ELF_SECTION) == 64);

#define ELF_SECTION_SYMBOLS 2
#define ELF_SECTION_STRINGS 3
#define ELF_SYMBOL_BYTES 24

// Where GRUB put the kernel's symbols, and their copy. On EFI machines GRUB begins at address 0,
// where no operating system keeps anything: what is wanted later must move.
static struct {
    ELF_SECTION Table;
    ELF_SECTION Strings;
    UCHAR Copy[SYMBOL_CAPACITY] __attribute__((aligned(8)));
} Symbols;

static const VOID *BootPointer(ULONG64 PhysicalAddress)
{
    return (const VOID *)(BOOT_DIRECT_MAP + PhysicalAddress);
}

// -------------------------------------------------------------------------------------------------
// Messages, before there is a console.

static VOID PutText(PCSTR Text)
{
    for (; *Text != '\0'; Text += 1) {
        for (ULONG Polls = 0; Polls < MAXIMUM_POLLS; Polls += 1) {
            if ((KeArchReadPort8(COM1_LINE_STATUS) & LINE_STATUS_SENT) == LINE_STATUS_SENT) {
                break;
            }
        }
        KeArchWritePort8(COM1, (UCHAR)*Text);
    }
}

static VOID Note(PCSTR Sentence)
{
    PutText("boot: ");
    PutText(Sentence);
    PutText("\r\n");
}

static DECLSPEC_NORETURN VOID Refuse(PCSTR Reason)
{
    PutText("IoSpace cannot start: ");
    PutText(Reason);
    PutText(".\r\n");
    KeExitMachine(KeExitFailed);
}

// -------------------------------------------------------------------------------------------------
// One reader for each kind of tag. FALSE: the tag is malformed.

// A string tag's text must end within the tag.
static BOOLEAN IsTextTerminated(const TAG *Tag, const CHAR *Text)
{
    for (const CHAR *End = (const CHAR *)Tag + Tag->ByteCount; Text < End; Text += 1) {
        if (*Text == '\0') {
            return TRUE;
        }
    }
    return FALSE;
}

// There is room for every range that a full block can name: the modules, the kernel and the record.
static VOID AddLoadedRange(PLOADER_BLOCK Block, ULONG64 BaseAddress, ULONG64 ByteCount,
                           LOADER_RANGE_KIND Kind)
{
    C_ASSERT(LOADER_MAXIMUM_RANGES >= LOADER_MAXIMUM_MODULES + 2);
    if (ByteCount != 0) {
        Block->LoadedRanges[Block->LoadedRangeCount++] =
            (LOADER_RANGE){.BaseAddress = BaseAddress, .ByteCount = ByteCount, .Kind = Kind};
    }
}

static BOOLEAN ReadCommandLine(PLOADER_BLOCK Block, const TAG *Tag)
{
    const STRING_TAG *String = (const STRING_TAG *)Tag;

    if (!IsTextTerminated(Tag, String->Text)) {
        return FALSE;
    }
    if (!RtlCopyString(Block->CommandLine, sizeof(Block->CommandLine), String->Text)) {
        Note("the command line is too long and was cut");
    }
    return TRUE;
}

static BOOLEAN ReadLoaderName(PLOADER_BLOCK Block, const TAG *Tag)
{
    const STRING_TAG *String = (const STRING_TAG *)Tag;

    if (!IsTextTerminated(Tag, String->Text)) {
        return FALSE;
    }
    (VOID) RtlCopyString(Block->BootLoaderName, sizeof(Block->BootLoaderName), String->Text);
    return TRUE;
}

// GRUB puts a word with blanks into double quotes, and a backslash before a backslash or quote.
// Copies the next word without them, as much of it as there is room for, and returns where to go on.
static const CHAR *CopyWord(PCHAR Buffer, SIZE_T ByteCount, const CHAR *Text, PBOOLEAN WasCut)
{
    BOOLEAN IsQuoted = FALSE;
    SIZE_T Length = 0;

    for (; *Text != '\0' && (IsQuoted || *Text != ' '); Text += 1) {
        if (*Text == '"') {
            IsQuoted = !IsQuoted;
            continue;
        }
        if (*Text == '\\' && (Text[1] == '\\' || Text[1] == '"' || Text[1] == '\'')) {
            Text += 1;
        }
        if (Length + 1 < ByteCount) {
            Buffer[Length++] = *Text;
        } else {
            *WasCut = TRUE;
        }
    }
    Buffer[Length] = '\0';
    return Text;
}

static const CHAR *SkipBlanks(const CHAR *Text)
{
    while (*Text == ' ') {
        Text += 1;
    }
    return Text;
}

// The first word is the module's name. A word of the others that does not fit is left out with all
// that follow it: half a hardware id would be another one.
static VOID ReadModuleCommandLine(PLOADER_MODULE Module, const CHAR *CommandLine)
{
    BOOLEAN WasCut = FALSE;
    const CHAR *Text =
        CopyWord(Module->Name, sizeof(Module->Name), SkipBlanks(CommandLine), &WasCut);
    SIZE_T Used = 0;

    for (Text = SkipBlanks(Text); *Text != '\0' && !WasCut; Text = SkipBlanks(Text)) {
        const SIZE_T Start = Used != 0 ? Used + 1 : 0;
        PCHAR Word = Module->Arguments + Start;
        if (Start >= sizeof(Module->Arguments)) {
            WasCut = TRUE;
            break;
        }
        Text = CopyWord(Word, sizeof(Module->Arguments) - Start, Text, &WasCut);
        if (!WasCut) {
            if (Start != 0) {
                Module->Arguments[Used] = ' ';
            }
            Used = Start + RtlStringLength(Word);
        }
    }
    Module->Arguments[Used] = '\0';
    if (WasCut) {
        Note("the command line of a boot module is too long and was cut");
    }
}

static BOOLEAN ReadModule(PLOADER_BLOCK Block, const TAG *Tag)
{
    const MODULE_TAG *Given = (const MODULE_TAG *)Tag;

    if (!IsTextTerminated(Tag, Given->CommandLine) || Given->EndAddress < Given->StartAddress) {
        return FALSE;
    }
    if (Block->ModuleCount == LOADER_MAXIMUM_MODULES) {
        Block->ModulesDropped++;
        return TRUE;
    }
    PLOADER_MODULE Module = &Block->Modules[Block->ModuleCount++];
    Module->BaseAddress = Given->StartAddress;
    Module->ByteCount = Given->EndAddress - Given->StartAddress;
    ReadModuleCommandLine(Module, Given->CommandLine);
    AddLoadedRange(Block, Module->BaseAddress, Module->ByteCount, LoaderRangeModule);
    return TRUE;
}

// GRUB numbers the types as the BIOS does (E820), on EFI machines too. Any number not listed is
// Reserved.
static LOADER_MEMORY_TYPE MemoryTypeFromNumber(ULONG Number)
{
    static const LOADER_MEMORY_TYPE Types[] = {
        [0] = LoaderMemoryReserved,        [1] = LoaderMemoryUsable,  [2] = LoaderMemoryReserved,
        [3] = LoaderMemoryAcpiReclaimable, [4] = LoaderMemoryAcpiNvs, [5] = LoaderMemoryBad,
    };
    return Number < ARRAYSIZE(Types) ? Types[Number] : LoaderMemoryReserved;
}

// Adds a row. Where there is no room, a usable one is given up: less RAM is a loss, but memory that
// firmware keeps, taken for RAM, is a disaster. FALSE: there is none to give up.
static BOOLEAN AddDescriptor(PLOADER_BLOCK Block, LOADER_MEMORY_DESCRIPTOR Descriptor)
{
    if (Block->MemoryDescriptorCount < LOADER_MAXIMUM_MEMORY_DESCRIPTORS) {
        Block->MemoryDescriptors[Block->MemoryDescriptorCount++] = Descriptor;
        return TRUE;
    }
    Block->MemoryDescriptorsDropped++;
    if (Descriptor.Type == LoaderMemoryUsable) {
        return TRUE;
    }
    for (ULONG Index = Block->MemoryDescriptorCount; Index > 0; Index--) {
        if (Block->MemoryDescriptors[Index - 1].Type == LoaderMemoryUsable) {
            Block->MemoryDescriptors[Index - 1] = Descriptor;
            return TRUE;
        }
    }
    return FALSE;
}

static BOOLEAN ReadMemoryMap(PLOADER_BLOCK Block, const TAG *Tag)
{
    const MEMORY_MAP_TAG *Map = (const MEMORY_MAP_TAG *)Tag;
    const ULONG Stride = Map->EntryByteCount;

    if (Stride < sizeof(MEMORY_MAP_ENTRY) || Stride % sizeof(ULONG64) != 0) {
        return FALSE;
    }
    const ULONG EntryCount = (ULONG)((Tag->ByteCount - sizeof(MEMORY_MAP_TAG)) / Stride);
    for (ULONG Index = 0; Index < EntryCount; Index += 1) {
        const MEMORY_MAP_ENTRY *Entry =
            (const MEMORY_MAP_ENTRY *)(Map->Entries + (SIZE_T)Index * Stride);
        const LOADER_MEMORY_DESCRIPTOR Descriptor = {
            .BaseAddress = Entry->BaseAddress,
            .ByteCount = Entry->ByteCount,
            .Type = MemoryTypeFromNumber(Entry->Type),
        };
        if (!AddDescriptor(Block, Descriptor)) {
            return FALSE;
        }
    }
    return TRUE;
}

static BOOLEAN ReadFramebuffer(PLOADER_BLOCK Block, const TAG *Tag)
{
    static const LOADER_FRAMEBUFFER_TYPE Types[] = {LoaderFramebufferIndexed, LoaderFramebufferRgb,
                                                    LoaderFramebufferText};
    const FRAMEBUFFER_TAG *Given = (const FRAMEBUFFER_TAG *)Tag;

    if (Given->Type < ARRAYSIZE(Types)) {
        Block->Framebuffer = (LOADER_FRAMEBUFFER){
            .Type = Types[Given->Type],
            .BaseAddress = Given->BaseAddress,
            .BytesPerRow = Given->BytesPerRow,
            .Width = Given->Width,
            .Height = Given->Height,
            .BitsPerPixel = Given->BitsPerPixel,
        };
    }
    return TRUE;
}

static BOOLEAN IsBelowBootLimit(const ELF_SECTION *Section)
{
    return Section->Address < BOOT_MAPPED_BYTES &&
           Section->ByteCount <= BOOT_MAPPED_BYTES - Section->Address;
}

// Takes the first symbol table whose strings exist. A kernel without symbols is fine.
static BOOLEAN ReadElfSections(PLOADER_BLOCK Block, const TAG *Tag)
{
    UNREFERENCED_PARAMETER(Block);
    const ELF_SECTIONS_TAG *Given = (const ELF_SECTIONS_TAG *)Tag;
    const ULONG64 SectionBytes = Tag->ByteCount - sizeof(ELF_SECTIONS_TAG);

    if (Given->SectionByteCount != sizeof(ELF_SECTION) ||
        Given->SectionCount > SectionBytes / sizeof(ELF_SECTION)) {
        return FALSE;
    }
    for (ULONG Index = 0; Index < Given->SectionCount; Index += 1) {
        ELF_SECTION Table, Strings; // copies: the tag aligns its headers to 4 bytes only
        memcpy(&Table, Given->Sections + (SIZE_T)Index * sizeof(Table), sizeof(Table));
        if (Table.Type != ELF_SECTION_SYMBOLS || Table.Link >= Given->SectionCount) {
            continue;
        }
        memcpy(&Strings, Given->Sections + (SIZE_T)Table.Link * sizeof(Strings), sizeof(Strings));
        if (Strings.Type == ELF_SECTION_STRINGS && Table.EntryByteCount == ELF_SYMBOL_BYTES &&
            IsBelowBootLimit(&Table) && IsBelowBootLimit(&Strings)) {
            Symbols.Table = Table;
            Symbols.Strings = Strings;
            break;
        }
    }
    return TRUE;
}

static BOOLEAN IsSumZero(const UCHAR *Bytes, ULONG ByteCount)
{
    UCHAR Sum = 0;

    for (ULONG Index = 0; Index < ByteCount; Index += 1) {
        Sum = (UCHAR)(Sum + Bytes[Index]);
    }
    return Sum == 0;
}

// Some firmware gives both the old and the new form; the longer one wins.
static BOOLEAN ReadRootPointer(PLOADER_BLOCK Block, const TAG *Tag)
{
    static const ULONG OldByteCount = 20;
    static const ULONG RevisionOffset = 15;
    const ROOT_POINTER_TAG *Given = (const ROOT_POINTER_TAG *)Tag;
    const ULONG GivenByteCount = (ULONG)(Tag->ByteCount - sizeof(TAG));
    PLOADER_ROOT_POINTER Pointer = &Block->RootPointer;

    if (GivenByteCount < OldByteCount) {
        return FALSE;
    }
    const ULONG ByteCount =
        Given->Bytes[RevisionOffset] == 0 || GivenByteCount < LOADER_ROOT_POINTER_BYTES
            ? OldByteCount
            : LOADER_ROOT_POINTER_BYTES;
    if (Pointer->IsValid && Pointer->ByteCount >= ByteCount) {
        return TRUE;
    }
    memset(Pointer, 0, sizeof(*Pointer));
    memcpy(Pointer->Bytes, Given->Bytes, ByteCount);
    Pointer->ByteCount = ByteCount;
    Pointer->IsValid = memcmp(Pointer->Bytes, "RSD PTR ", 8) == 0 &&
                       IsSumZero(Pointer->Bytes, OldByteCount) &&
                       IsSumZero(Pointer->Bytes, ByteCount);
    return TRUE;
}

// Any tag about EFI exists on EFI machines only.
static BOOLEAN NoteEfi(PLOADER_BLOCK Block, const TAG *Tag)
{
    UNREFERENCED_PARAMETER(Tag);
    Block->FirmwareType = LoaderFirmwareEfi;
    return TRUE;
}

typedef struct _TAG_READER {
    TAG_TYPE Type;
    ULONG MinimumByteCount;
    BOOLEAN (*Read)(PLOADER_BLOCK Block, const TAG *Tag);
    PCSTR Complaint;
} TAG_READER;

static const TAG_READER TagReaders[] = {
    {TagCommandLine, sizeof(STRING_TAG), ReadCommandLine, "its command line is malformed"},
    {TagLoaderName, sizeof(STRING_TAG), ReadLoaderName, "the boot loader's name is malformed"},
    {TagModule, sizeof(MODULE_TAG), ReadModule, "a boot module is malformed"},
    {TagMemoryMap, sizeof(MEMORY_MAP_TAG), ReadMemoryMap, "the memory map is malformed"},
    {TagFramebuffer, sizeof(FRAMEBUFFER_TAG), ReadFramebuffer, "the framebuffer is malformed"},
    {TagElfSections, sizeof(ELF_SECTIONS_TAG), ReadElfSections, "its ELF sections are malformed"},
    {TagRootPointerOld, sizeof(TAG), ReadRootPointer, "the ACPI root pointer is malformed"},
    {TagRootPointerNew, sizeof(TAG), ReadRootPointer, "the ACPI root pointer is malformed"},
    {TagEfi32System, sizeof(TAG), NoteEfi, NULL},
    {TagEfi64System, sizeof(TAG), NoteEfi, NULL},
    {TagEfiMemoryMap, sizeof(TAG), NoteEfi, NULL},
    {TagEfi32Image, sizeof(TAG), NoteEfi, NULL},
    {TagEfi64Image, sizeof(TAG), NoteEfi, NULL},
};

// -------------------------------------------------------------------------------------------------
// The walk over the tags. Each returns NULL, or what is wrong.

static PCSTR ReadTag(PLOADER_BLOCK Block, const TAG *Tag)
{
    for (ULONG Index = 0; Index < ARRAYSIZE(TagReaders); Index += 1) {
        const TAG_READER *Reader = &TagReaders[Index];
        if (Tag->Type == (ULONG)Reader->Type &&
            (Tag->ByteCount < Reader->MinimumByteCount || !Reader->Read(Block, Tag))) {
            return Reader->Complaint;
        }
    }
    return NULL;
}

// Information: 8-byte aligned, ByteCount readable bytes.
static PCSTR ReadInformation(PLOADER_BLOCK Block, const UCHAR *Information, ULONG ByteCount)
{
    ULONG Offset = INFORMATION_ALIGNMENT; // the head: total length and a reserved word

    while (ByteCount - Offset >= sizeof(TAG)) {
        const TAG *Tag = (const TAG *)(Information + Offset);
        if (Tag->ByteCount < sizeof(TAG) || Tag->ByteCount > ByteCount - Offset) {
            return "a tag of the boot information reaches beyond its end";
        }
        if (Tag->Type == TagEnd) {
            return Block->MemoryDescriptorCount == 0 ? "there is no memory map" : NULL;
        }
        const PCSTR Complaint = ReadTag(Block, Tag);
        if (Complaint != NULL) {
            return Complaint;
        }
        const ULONG Step =
            (Tag->ByteCount + INFORMATION_ALIGNMENT - 1) & ~(INFORMATION_ALIGNMENT - 1u);
        if (Step > ByteCount - Offset) {
            break;
        }
        Offset += Step;
    }
    return "the boot information has no end tag";
}

// Moves the symbols that ReadElfSections found into the kernel image.
static VOID CopySymbols(PLOADER_BLOCK Block)
{
    const ULONG64 TableByteCount = Symbols.Table.ByteCount;
    const ULONG64 StringsByteCount = Symbols.Strings.ByteCount;

    if (TableByteCount == 0 || StringsByteCount == 0) {
        return;
    }
    if (TableByteCount + StringsByteCount > SYMBOL_CAPACITY) {
        Note("the kernel has too many symbols; addresses will have no names");
        return;
    }
    UCHAR *const Strings = Symbols.Copy + TableByteCount;
    memcpy(Symbols.Copy, BootPointer(Symbols.Table.Address), TableByteCount);
    memcpy(Strings, BootPointer(Symbols.Strings.Address), StringsByteCount);
    Strings[StringsByteCount - 1] = '\0';
    Block->Symbols = (LOADER_SYMBOLS){
        .Table = Symbols.Copy,
        .TableByteCount = TableByteCount,
        .Strings = (const CHAR *)Strings,
        .StringsByteCount = StringsByteCount,
    };
}

static VOID NoteWhatWasDropped(const LOADER_BLOCK *Block)
{
    if (Block->MemoryDescriptorsDropped != 0) {
        Note("the firmware's memory map is too long; its last rows were dropped");
    }
    if (Block->ModulesDropped != 0) {
        Note("too many boot modules; the last ones were dropped");
    }
}

// From start.S: what GRUB left in EAX and EBX.
DECLSPEC_NORETURN VOID LoaderHandoff(ULONG64 Magic, ULONG64 Information)
{
    if (Magic != MULTIBOOT2_MAGIC) {
        Refuse("the boot loader did not use the multiboot2 protocol");
    }
    if (Information == 0 || Information % INFORMATION_ALIGNMENT != 0) {
        Refuse("the address of the boot information is wrong");
    }
    const UCHAR *Bytes = BootPointer(Information);
    const ULONG ByteCount = *(const ULONG *)Bytes;
    if (ByteCount < INFORMATION_ALIGNMENT || ByteCount > INFORMATION_MAXIMUM_BYTES ||
        ByteCount > BOOT_MAPPED_BYTES - Information) {
        Refuse("the length of the boot information is wrong");
    }

    PLOADER_BLOCK Block = &KiLoaderBlock;
    Block->KernelBase = (ULONG64)(KiImageStart - KiVirtualBase);
    Block->KernelByteCount = (ULONG64)(KiImageEnd - KiImageStart);
    AddLoadedRange(Block, Block->KernelBase, Block->KernelByteCount, LoaderRangeKernel);
    AddLoadedRange(Block, Information, ByteCount, LoaderRangeBootInformation);
    const PCSTR Complaint = ReadInformation(Block, Bytes, ByteCount);
    if (Complaint != NULL) {
        Refuse(Complaint);
    }
    CopySymbols(Block);
    NoteWhatWasDropped(Block);
    KiSystemStartup(Block);
}
