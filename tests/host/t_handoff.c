// The boot loader's information, good and bad: boot/handoff.c against records made here.
// Each record lies in an allocation of exactly its size, so a read beyond its end is found.
#include "boot/handoff.c"

#include "tests/host/host.h"
#include "tests/host/random.h"

#define MAXIMUM_RECORD_BYTES 0x8000
#define RANDOM_ROUNDS 20000

// ---------------------------------------------------------------------------------------------------
// What handoff.c asks of the kernel.

CHAR KiVirtualBase[1], KiImageStart[1], KiImageEnd[1];

static CHAR Printed[1024];
static ULONG PrintedBytes;
static jmp_buf Left;

UCHAR KeArchReadPort8(USHORT Port)
{
    CHECK_EQUAL(Port, COM1_LINE_STATUS);
    return LINE_STATUS_SENT;
}

VOID KeArchWritePort8(USHORT Port, UCHAR Value)
{
    CHECK_EQUAL(Port, COM1);
    CHECK(PrintedBytes + 1 < sizeof(Printed));
    Printed[PrintedBytes++] = (CHAR)Value;
}

DECLSPEC_NORETURN VOID KeExitMachine(KE_EXIT_CODE Code)
{
    CHECK_EQUAL(Code, KeExitFailed);
    longjmp(Left, 1);
}

DECLSPEC_NORETURN VOID KiSystemStartup(PLOADER_BLOCK Unused)
{
    UNREFERENCED_PARAMETER(Unused);
    FAIL("the kernel was started");
}

// ---------------------------------------------------------------------------------------------------
// Records.

static UCHAR Record[MAXIMUM_RECORD_BYTES];
static ULONG RecordBytes;
static LOADER_BLOCK Block;

static VOID Append(const VOID *Bytes, SIZE_T ByteCount)
{
    CHECK(RecordBytes + ByteCount <= sizeof(Record));
    memcpy(Record + RecordBytes, Bytes, ByteCount);
    RecordBytes += (ULONG)ByteCount;
}

static VOID AppendTag(ULONG Type, const VOID *Bytes, SIZE_T ByteCount)
{
    static const UCHAR Zeroes[INFORMATION_ALIGNMENT];
    const TAG Head = {Type, (ULONG)(sizeof(TAG) + ByteCount)};
    Append(&Head, sizeof(Head));
    Append(Bytes, ByteCount);
    Append(Zeroes, (0 - RecordBytes) % INFORMATION_ALIGNMENT);
}

static VOID BeginRecord(VOID)
{
    RecordBytes = 0;
    Append("\0\0\0\0\0\0\0", INFORMATION_ALIGNMENT);
}

static VOID AppendMemoryMap(ULONG EntryCount)
{
    static struct {
        ULONG EntryByteCount, EntryVersion;
        MEMORY_MAP_ENTRY Entries[LOADER_MAXIMUM_MEMORY_DESCRIPTORS + 8];
    } Map = {.EntryByteCount = sizeof(MEMORY_MAP_ENTRY)};
    for (ULONG Index = 0; Index < EntryCount; Index += 1) {
        Map.Entries[Index] = (MEMORY_MAP_ENTRY){Index * 0x1000ull, 0x1000, Index % 8, 0};
    }
    AppendTag(TagMemoryMap, &Map, 8 + EntryCount * sizeof(MEMORY_MAP_ENTRY));
}

static VOID AppendModule(const CHAR *CommandLine)
{
    struct {
        ULONG Start, End;
        CHAR Text[2 * LOADER_MODULE_ARGUMENTS_BYTES];
    } Module = {.Start = 0x100000, .End = 0x100800};
    strcpy(Module.Text, CommandLine);
    AppendTag(TagModule, &Module, 8 + strlen(CommandLine) + 1);
}

static VOID AppendElfSections(VOID)
{
    struct __attribute__((packed)) {
        ULONG Count, ByteCount, Names;
        ELF_SECTION Sections[3];
    } Elf = {3, sizeof(ELF_SECTION), 0, {{0}}};
    Elf.Sections[1].Type = ELF_SECTION_SYMBOLS;
    Elf.Sections[1].Address = 0x5000;
    Elf.Sections[1].ByteCount = 240;
    Elf.Sections[1].EntryByteCount = ELF_SYMBOL_BYTES;
    Elf.Sections[1].Link = 2;
    Elf.Sections[2].Type = ELF_SECTION_STRINGS;
    Elf.Sections[2].ByteCount = 100; // at address 0, as UEFI machines do it
    AppendTag(TagElfSections, &Elf, sizeof(Elf));
}

static VOID AppendRootPointer(ULONG Type, UCHAR Revision, ULONG ByteCount)
{
    UCHAR Bytes[LOADER_ROOT_POINTER_BYTES] = "RSD PTR ";
    Bytes[15] = Revision;
    for (ULONG Index = 0; Index < 20; Index += 1) {
        Bytes[8] = (UCHAR)(Bytes[8] - (Index == 8 ? 0 : Bytes[Index]));
    }
    AppendTag(Type, Bytes, ByteCount);
}

static VOID MakeGoodRecord(ULONG MemoryMapEntries, ULONG Modules)
{
    BeginRecord();
    AppendTag(TagCommandLine, "mode=test leaf4k", 17);
    AppendTag(TagLoaderName, "GRUB", 5);
    AppendMemoryMap(MemoryMapEntries);
    for (ULONG Index = 0; Index < Modules; Index += 1) {
        AppendModule("driver.sys with arguments");
    }
    AppendElfSections();
    AppendRootPointer(TagRootPointerOld, 0, 20);
    AppendRootPointer(TagRootPointerNew, 2, LOADER_ROOT_POINTER_BYTES);
    AppendTag(TagEfi64System, "12345678", 8);
    AppendTag(TagEnd, "", 0);
}

// Reads the first ByteCount bytes of the record. NULL: it was accepted.
static PCSTR ReadRecord(ULONG ByteCount)
{
    memset(&Block, 0, sizeof(Block));
    PrintedBytes = 0;
    memset(Printed, 0, sizeof(Printed));
    UCHAR *const Copy = malloc(ByteCount);
    memcpy(Copy, Record, ByteCount);
    const PCSTR Complaint = ReadInformation(&Block, Copy, ByteCount);
    NoteWhatWasDropped(&Block);
    free(Copy);
    return Complaint;
}

static VOID CheckComplaint(PCSTR Words)
{
    const PCSTR Complaint = ReadRecord(RecordBytes);
    CHECK(Complaint != NULL && strstr(Complaint, Words) != NULL);
}

// ---------------------------------------------------------------------------------------------------

static VOID Every_field_arrives(VOID)
{
    MakeGoodRecord(5, 1);
    CHECK(ReadRecord(RecordBytes) == NULL);
    CHECK_TEXT(Block.CommandLine, "mode=test leaf4k");
    CHECK_TEXT(Block.BootLoaderName, "GRUB");
    CHECK_EQUAL(Block.FirmwareType, LoaderFirmwareEfi);
    CHECK_EQUAL(Block.MemoryDescriptorCount, 5);
    CHECK_EQUAL(Block.MemoryDescriptors[1].Type, LoaderMemoryUsable);
    CHECK_EQUAL(Block.MemoryDescriptors[4].Type, LoaderMemoryAcpiNvs);
    CHECK_EQUAL(Block.MemoryDescriptors[4].BaseAddress, 0x4000);
    CHECK_EQUAL(Block.ModuleCount, 1);
    CHECK_TEXT(Block.Modules[0].Name, "driver.sys");
    CHECK_TEXT(Block.Modules[0].Arguments, "with arguments");
    CHECK_EQUAL(Block.Modules[0].ByteCount, 0x800);
    CHECK_EQUAL(Symbols.Table.Address, 0x5000);
    CHECK_EQUAL(Symbols.Strings.ByteCount, 100);
    CHECK_EQUAL(Block.LoadedRangeCount, 1);
    CHECK_EQUAL(Block.RootPointer.ByteCount, LOADER_ROOT_POINTER_BYTES);
}

static VOID A_long_memory_map_is_cut_and_noted(VOID)
{
    MakeGoodRecord(LOADER_MAXIMUM_MEMORY_DESCRIPTORS + 3, 1);
    CHECK(ReadRecord(RecordBytes) == NULL);
    CHECK_EQUAL(Block.MemoryDescriptorCount, LOADER_MAXIMUM_MEMORY_DESCRIPTORS);
    CHECK_EQUAL(Block.MemoryDescriptorsDropped, 3);
    CHECK(strstr(Printed, "memory map is too long") != NULL);
}

static VOID Too_many_modules_are_cut_and_noted(VOID)
{
    MakeGoodRecord(5, LOADER_MAXIMUM_MODULES + 2);
    CHECK(ReadRecord(RecordBytes) == NULL);
    CHECK_EQUAL(Block.ModuleCount, LOADER_MAXIMUM_MODULES);
    CHECK_EQUAL(Block.ModulesDropped, 2);
    CHECK(strstr(Printed, "too many boot modules") != NULL);
}

static VOID A_long_command_line_is_cut_and_noted(VOID)
{
    CHAR Text[LOADER_COMMAND_LINE_BYTES + 1];
    memset(Text, 'x', sizeof(Text) - 1);
    Text[sizeof(Text) - 1] = '\0';
    BeginRecord();
    AppendTag(TagCommandLine, Text, sizeof(Text));
    AppendMemoryMap(1);
    AppendTag(TagEnd, "", 0);
    CHECK(ReadRecord(RecordBytes) == NULL);
    CHECK_EQUAL(strlen(Block.CommandLine), LOADER_COMMAND_LINE_BYTES - 1);
    CHECK(strstr(Printed, "command line is too long") != NULL);
}

static VOID ReadModuleLine(PCSTR Line)
{
    BeginRecord();
    AppendMemoryMap(1);
    AppendModule(Line);
    AppendTag(TagEnd, "", 0);
    CHECK(ReadRecord(RecordBytes) == NULL);
}

static VOID The_words_of_a_module_come_as_they_were_written(VOID)
{
    // What GRUB makes of a command line, and what was meant.
    static const struct {
        PCSTR Given;
        PCSTR Name;
        PCSTR Arguments;
    } Rows[] = {
        {"", "", ""},
        {"x.sys", "x.sys", ""},
        {"x.sys ", "x.sys", ""},
        {"  x.sys   demand  ", "x.sys", "demand"},
        {"x.sys PCI\\\\VEN_1234&DEV_11E8 PCI\\\\CC_010802", "x.sys",
         "PCI\\VEN_1234&DEV_11E8 PCI\\CC_010802"},
        {"x.sys PCI\\VEN_1234", "x.sys", "PCI\\VEN_1234"}, // another boot loader's
        {"\"a b.sys\" one\\\"two\\' three\\", "a b.sys", "one\"two' three\\"},
        {"x.sys \"open", "x.sys", "open"},
    };

    for (ULONG Index = 0; Index < ARRAYSIZE(Rows); Index += 1) {
        ReadModuleLine(Rows[Index].Given);
        CHECK_TEXT(Block.Modules[0].Name, Rows[Index].Name);
        CHECK_TEXT(Block.Modules[0].Arguments, Rows[Index].Arguments);
        CHECK_EQUAL(PrintedBytes, 0);
    }
}

// A word that does not fit goes as a whole, and so do those behind it, wherever the limit falls.
static VOID A_long_module_line_is_cut_between_words_and_noted(VOID)
{
    for (ULONG First = 1; First <= 8; First += 1) {
        CHAR Line[2 * LOADER_MODULE_ARGUMENTS_BYTES] = "x.sys ";
        memset(Line + 6, '7', First);
        for (ULONG Word = 0; Word < LOADER_MODULE_ARGUMENTS_BYTES / 8; Word += 1) {
            strcat(Line, " 1234567");
        }
        strcat(Line, " 8");
        ReadModuleLine(Line);
        const SIZE_T Length = strlen(Block.Modules[0].Arguments);
        CHECK(Length < LOADER_MODULE_ARGUMENTS_BYTES &&
              Length + 8 >= LOADER_MODULE_ARGUMENTS_BYTES);
        CHECK_TEXT(Block.Modules[0].Arguments + Length - 8, " 1234567");
        CHECK(strstr(Printed, "command line of a boot module is too long") != NULL);
    }
    CHAR Name[LOADER_MODULE_NAME_BYTES + 1] = "";
    memset(Name, 'n', LOADER_MODULE_NAME_BYTES);
    ReadModuleLine(Name);
    CHECK_EQUAL(strlen(Block.Modules[0].Name), LOADER_MODULE_NAME_BYTES - 1);
    CHECK(strstr(Printed, "command line of a boot module is too long") != NULL);
}

static VOID A_record_without_a_memory_map_is_refused(VOID)
{
    BeginRecord();
    AppendTag(TagEnd, "", 0);
    CheckComplaint("there is no memory map");
}

static VOID A_malformed_tag_is_refused_by_name(VOID)
{
    static const struct {
        ULONG Type;
        const CHAR *Bytes;
        ULONG ByteCount;
        PCSTR Words;
    } Rows[] = {
        {TagCommandLine, "xxxx", 4, "command line"},
        {TagLoaderName, "xxxx", 4, "boot loader's name"},
        {TagModule, "\0\0\1\0\0\0\0\0x", 10, "module"},
        {TagModule, "\0\0", 2, "module"},
        {TagMemoryMap, "\7\0\0\0\0\0\0\0", 8, "memory map"},
        {TagMemoryMap, "\x19\0\0\0\0\0\0\0", 8, "memory map"},
        {TagMemoryMap, "", 0, "memory map"},
        {TagFramebuffer, "", 0, "framebuffer"},
        {TagElfSections, "\1\0\0\0\x40\0\0\0\0\0\0\0", 12, "ELF sections"},
        {TagElfSections, "\0\0\0\0\x28\0\0\0\0\0\0\0", 12, "ELF sections"},
        {TagRootPointerOld, "RSD PTR ", 8, "ACPI root pointer"},
    };
    for (ULONG Index = 0; Index < ARRAYSIZE(Rows); Index += 1) {
        BeginRecord();
        AppendTag(Rows[Index].Type, Rows[Index].Bytes, Rows[Index].ByteCount);
        AppendMemoryMap(1);
        AppendTag(TagEnd, "", 0);
        CheckComplaint(Rows[Index].Words);
    }
}

static VOID Every_shortened_record_is_refused(VOID)
{
    MakeGoodRecord(3, 2);
    for (ULONG ByteCount = INFORMATION_ALIGNMENT; ByteCount < RecordBytes; ByteCount += 1) {
        CHECK(ReadRecord(ByteCount) != NULL);
    }
}

static VOID A_root_pointer_with_a_wrong_sum_is_not_valid(VOID)
{
    BeginRecord();
    AppendMemoryMap(1);
    AppendRootPointer(TagRootPointerOld, 0, 20);
    AppendTag(TagEnd, "", 0);
    CHECK(ReadRecord(RecordBytes) == NULL && Block.RootPointer.IsValid);
    Record[RecordBytes - 24] ^= 1;
    CHECK(ReadRecord(RecordBytes) == NULL && !Block.RootPointer.IsValid);
}

static VOID Damaged_records_never_lead_outside(VOID)
{
    RANDOM Random = RandomStart(HostOption("seed", 1));
    MakeGoodRecord(5, 3);
    for (ULONG Round = 0; Round < RANDOM_ROUNDS; Round += 1) {
        static UCHAR Good[MAXIMUM_RECORD_BYTES];
        memcpy(Good, Record, RecordBytes);
        for (ULONG64 Count = 1 + RandomBelow(&Random, 4); Count > 0; Count -= 1) {
            const ULONG64 Range = RecordBytes - INFORMATION_ALIGNMENT;
            Record[INFORMATION_ALIGNMENT + RandomBelow(&Random, Range)] =
                (UCHAR)RandomNext(&Random);
        }
        (VOID) ReadRecord(RecordBytes);
        CHECK(Block.LoadedRangeCount <= LOADER_MAXIMUM_RANGES);
        CHECK(Block.ModuleCount <= LOADER_MAXIMUM_MODULES);
        CHECK(Block.MemoryDescriptorCount <= LOADER_MAXIMUM_MEMORY_DESCRIPTORS);
        memcpy(Record, Good, RecordBytes);
    }
}

static VOID A_boot_loader_of_another_protocol_is_refused(VOID)
{
    if (setjmp(Left) == 0) {
        LoaderHandoff(MULTIBOOT2_MAGIC + 1, 0x10000);
    }
    CHECK(strstr(Printed, "did not use the multiboot2 protocol") != NULL);
    if (setjmp(Left) == 0) {
        LoaderHandoff(MULTIBOOT2_MAGIC, 0x10001);
    }
    CHECK(strstr(Printed, "address of the boot information is wrong") != NULL);
}

static const HOST_TEST Tests[] = {
    HOST_ROW(Every_field_arrives, "boot", NULL),
    HOST_ROW(A_long_memory_map_is_cut_and_noted, "boot", NULL),
    HOST_ROW(Too_many_modules_are_cut_and_noted, "boot", NULL),
    HOST_ROW(A_long_command_line_is_cut_and_noted, "boot", NULL),
    HOST_ROW(The_words_of_a_module_come_as_they_were_written, "boot", NULL),
    HOST_ROW(A_long_module_line_is_cut_between_words_and_noted, "boot", NULL),
    HOST_ROW(A_record_without_a_memory_map_is_refused, "boot", NULL),
    HOST_ROW(A_malformed_tag_is_refused_by_name, "boot", NULL),
    HOST_ROW(Every_shortened_record_is_refused, "boot", NULL),
    HOST_ROW(A_root_pointer_with_a_wrong_sum_is_not_valid, "boot", NULL),
    HOST_ROW(Damaged_records_never_lead_outside, "boot", NULL),
    HOST_ROW(A_boot_loader_of_another_protocol_is_refused, "boot", NULL),
};

HOST_DEFINE_SUITE(handoff);
