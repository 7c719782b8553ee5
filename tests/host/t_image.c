// The loader, kernel/ldr, on the image of image.c: what an image becomes, every reason to refuse one,
// and any bytes whatever.
#include <dirent.h>

#include "kernel/ldr/ldrp.h"
#include "tests/host/image.h"
#include "tests/host/random.h"

#define MUTATIONS 3000
#define MAXIMUM_FILE_BYTES 0x8000

static HOST_IMAGE File;
static MM_MEMORY_USE Before;

static VOID Start(VOID)
{
    LdrInitSystem(&FakeLoaderBlock);
    HostBuildImage(&File);
    MmQueryMemoryUse(&Before);
}

static NTSTATUS TryLoad(const CHAR *Name, PLDR_IMAGE *Image)
{
    return LdrLoadImage(File.Bytes, sizeof(File.Bytes), Name, Image);
}

static PLDR_IMAGE Load(const CHAR *Name)
{
    PLDR_IMAGE Image;
    CHECK_EQUAL(TryLoad(Name, &Image), STATUS_SUCCESS);
    return Image;
}

static ULONG64 Read(const LDR_IMAGE *Image, ULONG Rva)
{
    return LdrpReadUlong64((PVOID)(Image->Base + Rva));
}

// The file must be refused with this status and these words, without a trace.
static VOID CheckRefused(const CHAR *What, NTSTATUS Expected, const CHAR *Words)
{
    CHAR Text[1024];
    PLDR_IMAGE Image = (PLDR_IMAGE)8;
    const NTSTATUS Status = TryLoad("refused.sys", &Image);
    LdrDescribeLastRefusal(Text, sizeof(Text));
    if (Status != Expected || Image != NULL || strstr(Text, Words) == NULL ||
        strncmp(Text, "refused.sys: ", 13) != 0) {
        FAIL("%s: status 0x%x, not 0x%x: \"%s\", not \"...%s...\"", What, (ULONG)Status,
             (ULONG)Expected, Text, Words);
    }
    CHECK(strstr(HostPrinted(), Words) != NULL);
    HostForgetPrinted();
    HostCheckSameUse(&Before, What);
}

//
// What an image becomes.
//

static VOID An_image_is_copied_moved_linked_and_protected(VOID)
{
    Start();
    const PLDR_IMAGE Image = Load("image.sys");
    const PUCHAR Base = (PUCHAR)Image->Base;
    CHECK(memcmp(Base, File.Bytes, 0x400) == 0 && Base[0x400] == 0);
    CHECK_EQUAL(Read(Image, 0x3000), Image->Base + 0x1000);
    CHECK_EQUAL(Read(Image, 0x20B0), (ULONG_PTR)FakeExportedRoutine);
    CHECK_EQUAL(Read(Image, 0x20B8), (ULONG_PTR)&FakeExportedVariable);
    CHECK_EQUAL(Read(Image, 0x20C0), 0);
    CHECK_EQUAL(Read(Image, 0x20D0), (ULONG_PTR)FakeExportedRoutine);
    CHECK_EQUAL(Read(Image, 0x2080), 0x2100); // the names stay
    CHECK_EQUAL(Image->ByteCount, IMAGE_BYTES);
    CHECK_EQUAL(Image->EntryPoint, Image->Base + 0x1000);
    CHECK_EQUAL((ULONG_PTR)Image->FunctionTable, Image->Base + 0x2400);
    CHECK_EQUAL(Image->FunctionCount, 2);
    CHECK_TEXT(Image->Name, "image.sys");
    CHECK_TEXT(FakeCodeName, "image.sys");
    static const MI_ACCESS Accesses[] = {MiAccessRead,      MiAccessExecuteRead, MiAccessRead,
                                         MiAccessReadWrite, MiAccessReadWrite,   MiAccessRead};
    for (ULONG Page = 0; Page < ARRAYSIZE(Accesses); Page += 1) {
        CHECK_EQUAL(FakeWalk(Image->Base + PAGES(Page)).Protection.Access, Accesses[Page]);
    }
    HostAudit();
    LdrUnloadImage(Image);
    CHECK(FakeCodeName == NULL);
    HostCheckSameUse(&Before, "an image");
}

static VOID The_security_cookie_is_made_anew(VOID)
{
    Start();
    ULONG64 Last = 0;
    for (ULONG Round = 0; Round < 20; Round += 1) {
        const PLDR_IMAGE Image = Load("image.sys");
        const ULONG64 Cookie = Read(Image, 0x3010);
        CHECK(Cookie != 0 && Cookie != 0x00002B992DDFA232 && Cookie != Last && Cookie >> 48 == 0);
        Last = Cookie;
        LdrUnloadImage(Image);
    }
    HostPut(&File, AT_DATA(0x3010), 8, 0);
    PLDR_IMAGE Image = Load("image.sys");
    CHECK(Read(Image, 0x3010) != 0);
    LdrUnloadImage(Image);
    // One that somebody has chosen stays; so does an image without, or with an old configuration.
    HostPut(&File, AT_DATA(0x3010), 8, 77);
    Image = Load("image.sys");
    CHECK_EQUAL(Read(Image, 0x3010), 77);
    LdrUnloadImage(Image);
    HostPut(&File, AT_DATA(0x3010), 8, 0x00002B992DDFA232);
    HostPut(&File, AT_DIRECTORY(5), 8, 0); // the places are as they are
    HostPut(&File, AT_RDATA(0x2558), 8, 0);
    LdrUnloadImage(Load("image.sys"));
    HostPut(&File, AT_DIRECTORY(10), 4, IMAGE_BYTES - 0x5F);
    HostPut(&File, AT_DIRECTORY(10) + 4, 4, 0x5F);
    LdrUnloadImage(Load("image.sys"));
    HostBuildImage(&File);
    HostPut(&File, AT_RDATA(0x2500), 4, 0x58);
    Image = Load("image.sys");
    CHECK_EQUAL(Read(Image, 0x3010), 0x00002B992DDFA232);
    LdrUnloadImage(Image);
}

static VOID Without_relocations_an_image_is_loaded_as_it_is(VOID)
{
    Start();
    HostPut(&File, AT_DIRECTORY(IMAGE_DIRECTORY_ENTRY_BASERELOC), 8, 0);
    HostPut(&File, AT_DIRECTORY(IMAGE_DIRECTORY_ENTRY_LOAD_CONFIG), 8, 0);
    const PLDR_IMAGE Image = Load("image.sys");
    CHECK_EQUAL(Read(Image, 0x3000), IMAGE_PREFERRED + 0x1000);
    LdrUnloadImage(Image);
}

static VOID An_image_that_cannot_move_gets_its_place_or_nothing(VOID)
{
    Start();
    const ULONG64 Place = MiArchLayout[MiRegionDriverImages].BaseVa + PAGES(50);
    HostPut(&File, AT_FILE_HEADER + 18, 2,
            IMAGE_FILE_EXECUTABLE_IMAGE | IMAGE_FILE_RELOCS_STRIPPED);
    HostPut(&File, AT_DIRECTORY(IMAGE_DIRECTORY_ENTRY_LOAD_CONFIG), 8, 0);
    CheckRefused("outside", STATUS_CONFLICTING_ADDRESSES, "runs at 0x140000000 only");
    HostPut(&File, AT_OPTIONAL + 24, 8, 0);
    CheckRefused("nowhere", STATUS_CONFLICTING_ADDRESSES, "runs at 0x0 only");
    HostPut(&File, AT_OPTIONAL + 24, 8, Place + 8);
    CheckRefused("between pages", STATUS_CONFLICTING_ADDRESSES, "only");
    HostPut(&File, AT_OPTIONAL + 24, 8, Place);
    const PLDR_IMAGE Image = Load("image.sys");
    CHECK_EQUAL(Image->Base, Place);
    MmQueryMemoryUse(&Before);
    CheckRefused("taken", STATUS_CONFLICTING_ADDRESSES, "because its relocations were stripped");
    LdrUnloadImage(Image);
}

static VOID An_image_may_only_export(VOID)
{
    Start();
    HostPut(&File, AT_FILE_HEADER + 18, 2, IMAGE_FILE_EXECUTABLE_IMAGE | IMAGE_FILE_DLL);
    HostPut(&File, AT_OPTIONAL + 16, 4, 0);
    const PLDR_IMAGE Image = Load("image.sys");
    CHECK_EQUAL(Image->EntryPoint, 0);
    LdrUnloadImage(Image);
}

static VOID A_bare_image_is_an_image(VOID)
{
    Start();
    HostPut(&File, AT_OPTIONAL + 108, 4, 0); // no directories at all
    PLDR_IMAGE Image = Load("image.sys");
    CHECK(Image->FunctionTable == NULL && Image->FunctionCount == 0);
    CHECK(LdrFindImageExport(Image, "Alpha") == NULL);
    LdrDiscardInitSections(Image);
    LdrUnloadImage(Image);
    HostBuildImage(&File);
    HostPut(&File, AT_OPTIONAL + 108, 4, 0xFFFFFFFF); // more than are known
    HostPut(&File, AT_SECTION(2) + 8, 4, 0);          // as large as its raw data
    HostPut(&File, AT_SECTION(2) + 16, 8, 0x200ull | 0x1000ull << 32);
    Image = Load("image.sys");
    LdrUnloadImage(Image);
    HostCheckSameUse(&Before, "bare images");
}

static VOID Discardable_sections_go_unless_they_are_needed(VOID)
{
    Start();
    // As linkers for Windows make INIT: writable, executable, discardable.
    HostPut(&File, AT_SECTION(0) + 36, 4, 0xE2000020);
    HostPut(&File, AT_SECTION(1) + 36, 4, 0x42000040);
    const PLDR_IMAGE Image = Load("image.sys");
    CHECK_EQUAL(FakeWalk(Image->Base + 0x1000).Protection.Access, MiAccessExecuteRead);
    LdrDiscardInitSections(Image);
    CHECK_UNMAPPED(Image->Base + 0x1000);
    CHECK_UNMAPPED(Image->Base + 0x5000);
    CHECK(FakeWalk(Image->Base + 0x2000).Level == 1); // exports, functions
    LdrDiscardInitSections(Image);
    HostAudit();
    LdrUnloadImage(Image);
    HostPut(&File, AT_DIRECTORY(IMAGE_DIRECTORY_ENTRY_EXPORT), 8, 0);
    const PLDR_IMAGE Second = Load("image.sys");
    LdrDiscardInitSections(Second);
    CHECK(FakeWalk(Second->Base + 0x2000).Level == 1); // functions
    LdrUnloadImage(Second);
    HostCheckSameUse(&Before, "INIT sections");
}

//
// Images that import from images.
//

// Makes the second descriptor import one symbol from this module: a name, or an ordinal.
static VOID ImportFrom(const CHAR *Module, const CHAR *Name, ULONG Ordinal)
{
    memcpy(&File.Bytes[AT_RDATA(0x20F0)], Module, strlen(Module) + 1);
    if (Name != NULL) {
        memcpy(&File.Bytes[AT_RDATA(0x2142)], Name, strlen(Name) + 1);
    } else {
        HostPut(&File, AT_RDATA(0x20D0), 8, IMAGE_ORDINAL_FLAG64 | Ordinal);
    }
}

static VOID Images_import_from_images_which_stay_as_long(VOID)
{
    static const struct {
        const CHAR *Name;
        ULONG Ordinal;
        ULONG Rva; // 0: the kernel's
    } Rows[] = {{"Alpha", 0, 0x1000}, {"Beta", 0, 0x3008}, {"Delta", 0, 0},
                {NULL, 5, 0x1000},    {NULL, 6, 0x3008},   {NULL, 8, 0}};
    Start();
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        HostBuildImage(&File);
        const PLDR_IMAGE Library = Load("image.sys");
        ImportFrom("IMAGE.sys", Rows[Row].Name, Rows[Row].Ordinal);
        const PLDR_IMAGE User = Load("user.sys");
        CHECK_EQUAL(Read(User, 0x20D0), Rows[Row].Rva != 0 ? Library->Base + Rows[Row].Rva
                                                           : (ULONG_PTR)FakeExportedRoutine);
        CHECK_EQUAL(Library->ReferenceCount, 2);
        LdrUnloadImage(Library);
        CHECK(LdrFindImage(Library->Base) == Library);
        LdrUnloadImage(User);
        HostCheckSameUse(&Before, "a driver and another one");
    }
}

static VOID Forwarders_are_followed_to_their_end(VOID)
{
    Start();
    memcpy(&File.Bytes[AT_RDATA(0x22E0)], "NtOsKrNl.HostFirst", 19);
    const PLDR_IMAGE ToKernel = Load("image.sys");
    ImportFrom("image.sys", "Delta", 0);
    const PLDR_IMAGE OfKernel = Load("user.sys");
    CHECK_EQUAL(Read(OfKernel, 0x20D0), (ULONG_PTR)FakeExportedRoutine);
    LdrUnloadImage(OfKernel);
    LdrUnloadImage(ToKernel);
    HostBuildImage(&File);
    memcpy(&File.Bytes[AT_RDATA(0x22E0)], "Other.#6", 9);
    const PLDR_IMAGE First = Load("image.sys");
    HostBuildImage(&File);
    const PLDR_IMAGE Second = Load("other.dll");
    ImportFrom("image.sys", "Delta", 0);
    const PLDR_IMAGE User = Load("user.sys");
    CHECK_EQUAL(Read(User, 0x20D0), Second->Base + 0x3008);
    CHECK(First->ReferenceCount == 2 && Second->ReferenceCount == 2);
    CHECK(LdrFindImageExport(First, "Delta") == NULL);
    CHECK_EQUAL((ULONG_PTR)LdrFindImageExport(First, "Alpha"), First->Base + 0x1000);
    LdrUnloadImage(First);
    LdrUnloadImage(Second);
    LdrUnloadImage(User);
    HostCheckSameUse(&Before, "forwarders");
}

// Puts the file beside the kernel, under this name.
static VOID PlaceModule(const CHAR *Name)
{
    FakeLoaderBlock.ModuleCount = 1;
    FakeLoaderBlock.Modules[0] =
        (LOADER_MODULE){.BaseAddress = 0x310800, .ByteCount = sizeof(File)};
    memcpy(FakeLoaderBlock.Modules[0].Name, Name, strlen(Name) + 1);
    memcpy((PUCHAR)MiFrameToVa(0x310) + 0x800, &File, sizeof(File));
}

static VOID What_is_imported_from_is_loaded_along(VOID)
{
    Start();
    PlaceModule("library.sys");
    ImportFrom("Library.SYS", "Alpha", 0);
    const PLDR_IMAGE First = Load("first.sys");
    const PLDR_IMAGE Library = LdrpFindImageByName("library.sys");
    CHECK(Library != NULL && Library->IsDependency && Library->ReferenceCount == 1);
    CHECK_TEXT(Library->Name, "library.sys");
    CHECK_EQUAL(Read(First, 0x20D0), Library->Base + 0x1000);
    const PLDR_IMAGE Second = Load("second.sys");
    CHECK_EQUAL(Library->ReferenceCount, 2);
    LdrUnloadImage(First);
    CHECK(LdrFindImage(Library->Base) == Library);
    LdrUnloadImage(Second);
    HostCheckSameUse(&Before, "what was loaded along");
    const PLDR_IMAGE Third = Load("third.sys");
    PLDR_IMAGE Asked;
    CHECK_EQUAL((ULONG)TryLoad("LIBRARY.sys", &Asked), (ULONG)STATUS_SUCCESS);
    CHECK(Asked == LdrpFindImageByName("library.sys") && !Asked->IsDependency);
    PLDR_IMAGE Again;
    CHECK_EQUAL((ULONG)TryLoad("LIBRARY.sys", &Again), (ULONG)STATUS_IMAGE_ALREADY_LOADED);
    CHECK(Again == NULL);
    LdrUnloadImage(Third);
    CHECK(LdrFindImage(Asked->Base) == Asked);
    LdrUnloadImage(Asked);
    HostCheckSameUse(&Before, "what was asked for, too");
}

static VOID What_was_loaded_along_goes_with_a_refusal(VOID)
{
    Start();
    PlaceModule("library.sys");
    ImportFrom("library.sys", "Gamma", 0);
    CheckRefused("no such export", STATUS_DRIVER_ENTRYPOINT_NOT_FOUND, "Gamma of library.sys");
    CHECK(LdrpFindImageByName("library.sys") == NULL);
    // One that imports from itself is loaded until that is too deep.
    ImportFrom("library.sys", "Alpha", 0);
    PlaceModule("library.sys");
    CheckRefused("a circle", STATUS_OBJECT_NAME_NOT_FOUND, "Alpha of library.sys (not loaded)");
    HostPut(&File, 0, 2, 0);
    PlaceModule("library.sys");
    HostBuildImage(&File);
    ImportFrom("library.sys", "Alpha", 0);
    CheckRefused("no image", STATUS_OBJECT_NAME_NOT_FOUND, "Alpha of library.sys (not loaded)");
}

static VOID What_is_missing_is_named(VOID)
{
    Start();
    const PLDR_IMAGE Library = Load("image.sys");
    HostPut(&File, AT_RDATA(0x22D0), 1, '.'); // ".mage.Circle" of the next one: a module of no name
    memcpy(&File.Bytes[AT_RDATA(0x22E0)], "nodot", 6);
    const PLDR_IMAGE Odd = Load("odd.sys");
    MmQueryMemoryUse(&Before);
    static const struct {
        const CHAR *Module;
        const CHAR *Name;
        ULONG Ordinal;
        NTSTATUS Status;
        const CHAR *Words;
    } Rows[] = {
        {"hal.dll", "HostFirs", 0, STATUS_DRIVER_ENTRYPOINT_NOT_FOUND,
         "an import is missing: HostFirs of hal.dll"},
        {"hal.dll", NULL, 7, STATUS_DRIVER_ORDINAL_NOT_FOUND, "number 7 of hal.dll"},
        {"nobody.sys", "Alpha", 0, STATUS_OBJECT_NAME_NOT_FOUND,
         "Alpha of nobody.sys (not loaded)"},
        {"refused.sys", "Alpha", 0, STATUS_OBJECT_NAME_NOT_FOUND, "refused.sys (not loaded)"},
        {"image.sys", "Gamma", 0, STATUS_DRIVER_ENTRYPOINT_NOT_FOUND, "Gamma of image.sys"},
        {"image.sys", "Zeta", 0, STATUS_DRIVER_ENTRYPOINT_NOT_FOUND, "Zeta of image.sys"},
        {"image.sys", NULL, 4, STATUS_DRIVER_ORDINAL_NOT_FOUND, "number 4 of image.sys"},
        {"image.sys", NULL, 9, STATUS_DRIVER_ORDINAL_NOT_FOUND, "number 9 of image.sys"},
        {"image.sys", NULL, 10, STATUS_DRIVER_ORDINAL_NOT_FOUND, "number 10 of image.sys"},
        {"image.sys", "Circle", 0, STATUS_DRIVER_ENTRYPOINT_NOT_FOUND,
         "Circle of image.sys (forwarded to image.Circle)"},
        {"odd.sys", "Circle", 0, STATUS_OBJECT_NAME_NOT_FOUND,
         "forwarded to .mage.Circle: not loaded"},
        {"odd.sys", "Delta", 0, STATUS_DRIVER_ENTRYPOINT_NOT_FOUND, "forwarded to nodot"},
    };
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        HostBuildImage(&File);
        ImportFrom(Rows[Row].Module, Rows[Row].Name, Rows[Row].Ordinal);
        CheckRefused(Rows[Row].Words, Rows[Row].Status, Rows[Row].Words);
        CHECK_EQUAL(Library->ReferenceCount, 1);
    }
    LdrUnloadImage(Odd);
    LdrUnloadImage(Library);
}

// Several at once: all are named, as far as there is room, and the worst one decides.
static VOID All_that_is_missing_is_named_at_once(VOID)
{
    Start();
    HostPut(&File, AT_RDATA(0x2102), 1, 'X');
    HostPut(&File, AT_RDATA(0x2088), 8, IMAGE_ORDINAL_FLAG64 | 3);
    ImportFrom("nobody.sys", "Alpha", 0);
    CheckRefused(
        "three", STATUS_OBJECT_NAME_NOT_FOUND,
        "imports are missing: XostFirst of NTOSKRNL.exe, number 3 of NTOSKRNL.exe, Alpha of "
        "nobody.sys (not loaded)");
    HostBuildImage(&File);
    // More than fit into the sentence.
    HostPut(&File, AT_RDATA(0x2000), 4, 0x2800);
    HostPut(&File, AT_RDATA(0x2010), 4, 0x3100);
    HostPut(&File, AT_SECTION(1) + 8, 4, 0x1000);
    for (ULONG Index = 0; Index < 60; Index += 1) {
        HostPut(&File, AT_RDATA(0x2800 + 8 * Index), 8, IMAGE_ORDINAL_FLAG64 | Index);
    }
    HostPut(&File, AT_RDATA(0x2014), 4, 0x2800);
    HostPut(&File, AT_RDATA(0x2024), 4, 0x3400);
    CheckRefused("many", STATUS_DRIVER_ORDINAL_NOT_FOUND, "120 imports are missing: number 0 of");
    CHAR Text[1024];
    LdrDescribeLastRefusal(Text, sizeof(Text));
    CHECK(strstr(Text, " more") != NULL);
}

//
// Refusals.
//

typedef struct _REFUSAL {
    ULONG Offset;
    ULONG ByteCount;
    ULONG64 Value;
    const CHAR *Words;
} REFUSAL;

static const REFUSAL Refusals[] = {
    {0, 2, 0x4D5A, "does not begin with an MZ header"},
    {60, 4, 0xFFFFFFFF, "ends before its NT headers"},
    {60, 4, IMAGE_FILE_BYTES - 100, "ends before its NT headers"},
    {60, 4, AT_NT + 2, "which is not aligned"},
    {AT_NT, 4, 0x4551, "signature 0x00004551"},
    {AT_FILE_HEADER, 2, 0xAA64, "machine 0xaa64"},
    {AT_FILE_HEADER + 2, 2, 0, "no sections"},
    {AT_FILE_HEADER + 2, 2, 0xFFFF, "ends in its section table"},
    {AT_FILE_HEADER + 16, 2, 0, "too few for its 16 directories"},
    {AT_FILE_HEADER + 16, 2, 239, "the optional header has 239 bytes"},
    {AT_FILE_HEADER + 16, 2, 0xFFFF, "ends in its section table"},
    {AT_FILE_HEADER + 18, 2, 0, "not called the file executable"},
    {AT_OPTIONAL, 2, 0x10B, "of kind 0x10b, not PE32+"},
    {AT_OPTIONAL + 16, 4, 0, "no entry point"},
    {AT_OPTIONAL + 16, 4, 0x2000, "0x2000 is not in code"},
    {AT_OPTIONAL + 16, 4, 0x1100, "0x1100 is not in code"},
    {AT_OPTIONAL + 16, 4, 0xFFFFFFFF, "is not in code"},
    {AT_OPTIONAL + 32, 4, 0x800, "aligned to 0x800 bytes"},
    {AT_OPTIONAL + 32, 4, 0x1800, "aligned to 0x1800 bytes"},
    {AT_OPTIONAL + 32, 4, 0, "aligned to 0x0 bytes"},
    {AT_OPTIONAL + 36, 4, 0x100, "raw data is aligned to 0x100"},
    {AT_OPTIONAL + 36, 4, 0x300, "raw data is aligned to 0x300"},
    {AT_OPTIONAL + 36, 4, 0x2000, "raw data is aligned to 0x2000"},
    {AT_OPTIONAL + 32, 8, 0x20000ull << 32 | 0x20000, "raw data is aligned to 0x20000"},
    {AT_OPTIONAL + 56, 4, 0, "claims 0x0 bytes of memory"},
    {AT_OPTIONAL + 56, 4, 0xFFFFF000, "claims 0xfffff000 bytes"},
    {AT_OPTIONAL + 56, 4, 0x6001, "not whole sections"},
    {AT_OPTIONAL + 56, 4, 0x5000, "section .reloc ends at 0x5100, behind the image's end"},
    {AT_OPTIONAL + 60, 4, 0x10, "the headers claim 0x10 bytes"},
    {AT_OPTIONAL + 60, 4, 0x2000, "the headers claim 0x2000 bytes"},
    {AT_OPTIONAL + 56, 8, 0x1200ull << 32 | 0x1000, "the headers claim 0x1200 bytes"},
    {AT_OPTIONAL + 60, 4, 0x1400, "section .text at 0x1000 overlaps"},
    {AT_OPTIONAL + 68, 2, 2, "subsystem 2"},
    {AT_DIRECTORY(0), 4, 0xFFFFFFFF, "directory 0"},
    {AT_DIRECTORY(1) + 4, 4, 0xFFFFFFFF, "directory 1"},
    {AT_DIRECTORY(15) + 4, 4, IMAGE_BYTES + 1, "directory 15"},
    {AT_SECTION(0) + 8, 12, 0, "section .text"},
    {AT_SECTION(0) + 12, 4, 0, "section .text at 0x0 overlaps"},
    {AT_SECTION(0) + 12, 4, 0x1200, "begins at 0x1200, which is not aligned"},
    {AT_SECTION(0) + 8, 4, 0x1001, "section .rdata at 0x2000 overlaps"},
    {AT_SECTION(1) + 12, 4, 0x1000, "section .rdata at 0x1000 overlaps"},
    {AT_SECTION(3) + 8, 4, 0xFFFFFFFF, "section .reloc ends at"},
    {AT_SECTION(1) + 20, 4, 0x1201, "section .rdata has 0xa00 bytes at 0x1201 of the file"},
    {AT_SECTION(1) + 20, 4, 0xFFFFFE00, "section .rdata has 0xa00 bytes at 0xfffffe00"},
    {AT_SECTION(1) + 16, 4, 0xFFFFFFFF, "section .rdata has 0xffffffff bytes"},
    {AT_SECTION(0) + 20, 4, 0x410, "section .text begins at 0x410, which is not aligned"},
    {AT_SECTION(0) + 36, 4, 0xE0000020, "section .text is to be writable and executable"},
    {AT_RELOC(0x5004), 4, 0, "the block of relocations at 0x5000 has 0x0 bytes"},
    {AT_RELOC(0x5004), 4, 7, "has 0x7 bytes"},
    {AT_RELOC(0x5004), 4, 11, "has 0xb bytes"},
    {AT_RELOC(0x5004), 4, 26, "has 0x1a bytes, of 0x18 that are left"},
    {AT_DIRECTORY(5) + 4, 4, 28, "the block of relocations at 0x5018 has 0x0 bytes"},
    {AT_RELOC(0x5008), 2, 0x3558, "a relocation at 0x2558 is of type 3"},
    {AT_RELOC(0x5000), 4, 0xFFFFF000, "leaves the image"},
    {AT_RELOC(0x500C), 4, 0x5FF9, "a relocation at 0x5ff9 leaves the image"},
    {AT_DIRECTORY(1), 8, 10ull << 32 | (IMAGE_BYTES - 10), "the list of imports leaves the image"},
    {AT_RDATA(0x200C), 4, IMAGE_BYTES, "the name of a module, at 0x6000, leaves"},
    {AT_RDATA(0x2000), 4, IMAGE_BYTES - 4, "the imports from NTOSKRNL.exe leave the image"},
    {AT_RDATA(0x2010), 4, IMAGE_BYTES - 4, "the imports from NTOSKRNL.exe leave the image"},
    {AT_RDATA(0x2080), 8, IMAGE_BYTES, "the name of an import, at 0x6000, leaves"},
    {AT_RDATA(0x2080), 8, IMAGE_BYTES - 2, "the name of an import, at 0x5ffe, leaves"},
    {AT_RDATA(0x2080), 8, 0x7FFFFFFFFFFFFFFF, "the name of an import"},
    {AT_RDATA(0x2558), 8, IMAGE_PREFERRED + 0x2010, "is not in writable memory"},
    {AT_RDATA(0x2558), 8, 0x1000, "is not in writable memory"},
    {AT_DIRECTORY(3), 4, 0x2402, "table of functions begins at 0x2402, which is not aligned"},
    {AT_RDATA(0x2404), 4, 0x1000, "row 0 of the table of functions, 0x1000-0x1000"},
    {AT_RDATA(0x2404), 4, 0x1011, "row 1 of the table of functions"},
    {AT_RDATA(0x2410), 4, IMAGE_BYTES + 1, "row 1 of the table of functions"},
    {AT_RDATA(0x2408), 4, 0x2442, "the function at 0x1000 is damaged"},
    {AT_RDATA(0x2408), 4, IMAGE_BYTES, "the function at 0x1000 is damaged"},
    {AT_RDATA(0x2408), 4, IMAGE_BYTES - 3, "the function at 0x1000 is damaged"}, // a row
    {AT_RDATA(0x2440), 4, 0, "the function at 0x1000 is damaged"},
    {AT_RDATA(0x2440), 4, 3, "the function at 0x1000 is damaged"},
    {AT_DIRECTORY(0), 4, IMAGE_BYTES - 0x200 + 0x1D9, "directory 0"},
    {AT_DIRECTORY(0), 8, 10ull << 32 | (IMAGE_BYTES - 10), "the export directory or one"},
    {AT_RDATA(0x2214), 4, 0x10001, "the export directory or one of its arrays"},
    {AT_RDATA(0x2218), 4, 0x10001, "the export directory or one of its arrays"},
    {AT_RDATA(0x221C), 4, IMAGE_BYTES - 19, "the export directory or one of its arrays"},
    {AT_RDATA(0x2220), 4, IMAGE_BYTES - 15, "the export directory or one of its arrays"},
    {AT_RDATA(0x2224), 4, IMAGE_BYTES - 7, "the export directory or one of its arrays"},
    {AT_RDATA(0x2230), 4, IMAGE_BYTES, "export 5 leaves the image"},
    {AT_RDATA(0x2250), 4, IMAGE_BYTES, "the name of export 0 leaves the image"},
    {AT_RDATA(0x2272), 2, 5, "export Beta is number 5 of 5"},
    {AT_RDATA(0x2290), 1, 'A' - 1, "is out of order"},
    {AT_RDATA(0x2254), 4, 0x2280, "export Alpha is out of order"},
};

static VOID Every_damage_is_refused_with_its_reason(VOID)
{
    Start();
    for (ULONG Row = 0; Row < ARRAYSIZE(Refusals); Row += 1) {
        const REFUSAL *Refusal = &Refusals[Row];
        HostBuildImage(&File);
        const ULONG64 Value[2] = {Refusal->Value, 0};
        memcpy(&File.Bytes[Refusal->Offset], Value, Refusal->ByteCount);
        CheckRefused(Refusal->Words, STATUS_INVALID_IMAGE_FORMAT, Refusal->Words);
    }
    HostAudit();
}

static VOID A_file_that_is_cut_short_is_refused(VOID)
{
    Start();
    PLDR_IMAGE Image;
    for (SIZE_T Bytes = 0; Bytes < sizeof(File.Bytes); Bytes += 1) {
        UCHAR *const Copy = malloc(Bytes != 0 ? Bytes : 1); // the sanitizer looks on
        memcpy(Copy, File.Bytes, Bytes);
        CHECK_EQUAL((ULONG)LdrLoadImage(Copy, Bytes, "short.sys", &Image),
                    (ULONG)STATUS_INVALID_IMAGE_FORMAT);
        free(Copy);
        HostForgetPrinted();
    }
    HostCheckSameUse(&Before, "files that are cut short");
}

static VOID Names_that_do_not_end_are_refused(VOID)
{
    Start();
    HostPut(&File, AT_SECTION(1) + 8, 4, 0x1000);
    HostPut(&File, AT_RDATA(0x200C), 4, 0x2600);
    memset(&File.Bytes[AT_RDATA(0x2600)], 'm', 0x100);
    CheckRefused("a long module", STATUS_INVALID_IMAGE_FORMAT, "a name that no module has");
    HostBuildImage(&File);
    HostPut(&File, AT_SECTION(3) + 8, 4, 0x1000); // to the image's last byte
    memset(&File.Bytes[AT_RELOC(0x5100)], 'n', 0x100);
    HostPut(&File, AT_SECTION(3) + 8, 4, 0x200);
    HostPut(&File, AT_RDATA(0x2080), 8, 0x50FE);
    CheckRefused("an unknown name", STATUS_DRIVER_ENTRYPOINT_NOT_FOUND, "nnnn");
}

static VOID Addresses_that_are_read_as_names_are_refused(VOID)
{
    Start();
    HostPut(&File, AT_DIRECTORY(5), 8, 0);
    HostPut(&File, AT_DIRECTORY(10), 8, 0);
    HostPut(&File, AT_RDATA(0x2000), 4, 0x3000);
    HostPut(&File, AT_RDATA(0x2010), 4, 0x3008); // each address is the next name
    HostPut(&File, AT_DATA(0x3000), 8, 0x2100);
    CheckRefused("imports that feed themselves", STATUS_INVALID_IMAGE_FORMAT,
                 "the name of an import");
}

// The same image with more behind it: .data has 0x20000 bytes, .reloc a whole page, at 0x23000.
#define LARGE_FILE_BYTES (IMAGE_FILE_BYTES + 0x21000)
#define AT_LARGE(Rva) (IMAGE_FILE_BYTES + (Rva)-0x3000)

static UCHAR Large[LARGE_FILE_BYTES];

static VOID BuildLarge(VOID)
{
    HostPut(&File, AT_SECTION(2) + 8, 4, 0x20000);
    HostPut(&File, AT_SECTION(2) + 16, 8, 0x20000ull | (ULONG64)IMAGE_FILE_BYTES << 32);
    HostPut(&File, AT_SECTION(3) + 8, 8, 0x1000ull | 0x23000ull << 32);
    HostPut(&File, AT_SECTION(3) + 16, 8, 0x1000ull | (IMAGE_FILE_BYTES + 0x20000ull) << 32);
    HostPut(&File, AT_OPTIONAL + 56, 4, 0x24000);
    HostPut(&File, AT_DIRECTORY(5), 8, 0);
    HostPut(&File, AT_DIRECTORY(10), 8, 0);
}

static VOID CheckLargeRefused(const CHAR *Words)
{
    PLDR_IMAGE Image;
    CHAR Text[1024];
    memcpy(Large, File.Bytes, sizeof(File.Bytes));
    CHECK_EQUAL((ULONG)LdrLoadImage(Large, sizeof(Large), "large.sys", &Image),
                (ULONG)STATUS_INVALID_IMAGE_FORMAT);
    LdrDescribeLastRefusal(Text, sizeof(Text));
    CHECK(strstr(Text, Words) != NULL);
    HostCheckSameUse(&Before, Words);
}

static VOID Too_many_imports_are_refused(VOID)
{
    Start();
    BuildLarge();
    HostPut(&File, AT_DIRECTORY(1), 4, 0x4000);
    for (ULONG Index = 0; Index < 200; Index += 1) {
        const ULONG64 Name = 0x2100;
        memcpy(&Large[AT_LARGE(0x3000 + 8 * Index)], &Name, sizeof(Name));
    }
    for (ULONG Index = 0; Index < 400; Index += 1) {
        const IMAGE_IMPORT_DESCRIPTOR Descriptor = {0x3000, 0, 0, 0x20E0, 0x10000};
        memcpy(&Large[AT_LARGE(0x4000 + 20 * Index)], &Descriptor, sizeof(Descriptor));
    }
    CheckLargeRefused("more than 65536 imports");
}

static VOID Unwind_information_at_the_end_is_looked_at_as_a_whole(VOID)
{
    static const ULONG Headers[] = {0x00010001, 0x00000009, 0x00000021};
    Start();
    BuildLarge();
    HostPut(&File, AT_RDATA(0x2408), 4, 0x23FFC);
    for (ULONG Row = 0; Row < ARRAYSIZE(Headers); Row += 1) {
        memcpy(&Large[AT_LARGE(0x23FFC)], &Headers[Row], sizeof(Headers[Row]));
        CheckLargeRefused("the function at 0x1000 is damaged");
    }
}

static VOID A_forwarder_that_does_not_end_is_refused(VOID)
{
    Start();
    HostPut(&File, AT_DIRECTORY(0) + 4, 4, 0x800);
    HostPut(&File, AT_RDATA(0x2230), 4, 0x2600);
    memset(&File.Bytes[AT_RDATA(0x2600)], 'f', 0x400);
    CheckRefused("a forwarder", STATUS_INVALID_IMAGE_FORMAT, "export 5 leaves the image");
}

static VOID A_long_name_is_cut(VOID)
{
    CHAR Name[2000];
    PLDR_IMAGE Image;
    Start();
    memset(Name, 'n', sizeof(Name));
    Name[sizeof(Name) - 1] = 0;
    CHECK_EQUAL((ULONG)TryLoad(Name, &Image), (ULONG)STATUS_SUCCESS);
    CHECK_EQUAL(strlen(Image->Name), LDR_NAME_BYTES - 1);
    LdrUnloadImage(Image);
    HostPut(&File, 0, 2, 0);
    CHECK_EQUAL((ULONG)TryLoad(Name, &Image), (ULONG)STATUS_INVALID_IMAGE_FORMAT);
}

static VOID A_name_is_loaded_once_and_records_are_counted(VOID)
{
    Start();
    PLDR_IMAGE Images[LDR_MAXIMUM_IMAGES];
    PLDR_IMAGE Extra;
    CHAR Name[32];
    for (ULONG Index = 0; Index < LDR_MAXIMUM_IMAGES; Index += 1) {
        snprintf(Name, sizeof(Name), "image%u.sys", Index);
        Images[Index] = Load(Name);
    }
    CHECK_EQUAL((ULONG)TryLoad("IMAGE77.SYS", &Extra), (ULONG)STATUS_IMAGE_ALREADY_LOADED);
    MM_MEMORY_USE Full;
    MmQueryMemoryUse(&Full);
    CHECK_EQUAL((ULONG)TryLoad("extra.sys", &Extra), (ULONG)STATUS_INSUFFICIENT_RESOURCES);
    HostCheckSameUse(&Full, "one image too many");
    for (ULONG Index = 0; Index < LDR_MAXIMUM_IMAGES; Index += 1) {
        CHECK(LdrFindImage(Images[Index]->Base + 5) == Images[Index]);
    }
    LdrUnloadImage(Images[50]);
    Extra = Load("extra.sys");
    CHECK(Extra == Images[50]); // a record is used again
    CHECK(LdrFindImage(Extra->Base + 5) == Extra);
    Extra->Version += 1; // somebody changes it
    CHECK(LdrFindImage(Extra->Base + 5) == NULL);
    Extra->Version += 1;
    for (ULONG Index = 0; Index < LDR_MAXIMUM_IMAGES; Index += 1) {
        LdrUnloadImage(Images[Index]);
    }
    HostCheckSameUse(&Before, "all images");
}

static VOID Loading_fails_without_a_trace(VOID)
{
    Start();
    for (ULONG Skip = 0;; Skip += 1) {
        PLDR_IMAGE Image;
        CHECK(Skip < 100);
        MmStartFailures(MM_FAIL_ALL, Skip, 1);
        const NTSTATUS Status = TryLoad("image.sys", &Image);
        if (MmStopFailures() == 0) {
            LdrUnloadImage(Image);
            break;
        }
        CHECK_EQUAL((ULONG)Status, (ULONG)STATUS_INSUFFICIENT_RESOURCES);
        HostCheckSameUse(&Before, "loading without memory");
    }
}

//
// The kernel's exports.
//

static VOID Exports_are_found_by_their_whole_name(VOID)
{
    CHECK(LdrFindExport("HostData") == &FakeExportedVariable);
    CHECK(LdrFindExport("HostFirst") == (PVOID)FakeExportedRoutine);
    CHECK(LdrFindExport("HostFirstAndMore") == &FakeExportedVariable);
    CHECK(LdrFindExport("HostHal") == (PVOID)FakeExportedRoutine);
    static const CHAR *const Unknown[] = {"",         "A",         "Host",      "HostA",
                                          "HostDat",  "HostDataX", "HostFirsu", "HostH",
                                          "HostHalt", "hostdata",  "Z"};
    for (ULONG Index = 0; Index < ARRAYSIZE(Unknown); Index += 1) {
        CHECK(LdrFindExport(Unknown[Index]) == NULL);
    }
    UNICODE_STRING Known = RTL_CONSTANT_STRING(u"HostFirst");
    UNICODE_STRING Foreign = RTL_CONSTANT_STRING(u"Host\u0146irst");
    UNICODE_STRING Zero = RTL_CONSTANT_STRING(u"HostFirst\0");
    WCHAR Letters[200];
    for (ULONG Index = 0; Index < ARRAYSIZE(Letters); Index += 1) {
        Letters[Index] = 'H';
    }
    UNICODE_STRING Long = {sizeof(Letters), sizeof(Letters), Letters};
    CHECK(MmGetSystemRoutineAddress(&Known) == (PVOID)FakeExportedRoutine);
    CHECK(MmGetSystemRoutineAddress(&Foreign) == NULL && MmGetSystemRoutineAddress(&Zero) == NULL);
    CHECK(MmGetSystemRoutineAddress(&Long) == NULL);
}

static VOID Modules_are_found_by_name(VOID)
{
    LdrInitSystem(&FakeLoaderBlock);
    SIZE_T ByteCount = 0;
    FakeLoaderBlock.ModuleCount = 1;
    FakeLoaderBlock.Modules[0] = (LOADER_MODULE){.BaseAddress = 0x310800, .ByteCount = 0x5123};
    memcpy(FakeLoaderBlock.Modules[0].Name, "x.sys", 6);
    CHECK(LdrFindModule("x.sys", &ByteCount) == (PUCHAR)MiFrameToVa(0x310) + 0x800);
    CHECK_EQUAL(ByteCount, 0x5123);
    CHECK(LdrFindModule("y.sys", &ByteCount) == NULL);
}

//
// Any bytes: the real drivers of the corpus, damaged, and whatever the fuzzer has found.
//

static SIZE_T ReadFile(const CHAR *Folder, const CHAR *Name, UCHAR *Bytes)
{
    CHAR Path[4096];
    snprintf(Path, sizeof(Path), "%s/%s", Folder, Name);
    FILE *Stream = fopen(Path, "rb");
    CHECK(Stream != NULL);
    const SIZE_T ByteCount = fread(Bytes, 1, MAXIMUM_FILE_BYTES, Stream);
    fclose(Stream);
    return ByteCount;
}

// A few places get numbers that are at the border of something.
static VOID Damage(UCHAR *Bytes, SIZE_T ByteCount, RANDOM *Random)
{
    static const ULONG Values[] = {0,      1,          7,          0x80,      0xFFF,
                                   0x1000, 0x1FFF,     0x2000,     0x7FFF,    0x8000,
                                   0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF};
    for (ULONG Count = 1 + RandomBelow(Random, 4); Count > 0; Count -= 1) {
        const ULONG Value = Values[RandomBelow(Random, ARRAYSIZE(Values))];
        const ULONG Width = 1u << RandomBelow(Random, 3);
        const SIZE_T Limit = RandomBelow(Random, 2) != 0 ? 0x400 : ByteCount;
        const SIZE_T At = RandomBelow(Random, Limit - Width + 1);
        memcpy(Bytes + At, &Value, Width);
    }
}

static VOID Damaged_drivers_are_loaded_or_refused_but_leave_nothing(VOID)
{
    const CHAR *Folder = HOST_TESTS "/fuzz/images";
    static UCHAR Whole[MAXIMUM_FILE_BYTES];
    DIR *Directory = opendir(Folder);
    RANDOM Random = RandomStart(HostOption("seed", 1));
    ULONG FileCount = 0;
    CHECK(Directory != NULL);
    for (const struct dirent *Entry = readdir(Directory); Entry != NULL;
         Entry = readdir(Directory)) {
        if (Entry->d_name[0] == '.') {
            continue;
        }
        const SIZE_T ByteCount = ReadFile(Folder, Entry->d_name, Whole);
        UCHAR *const Copy = malloc(ByteCount != 0 ? ByteCount : 1);
        memcpy(Copy, Whole, ByteCount);
        RunImageBytes(Copy, ByteCount);
        for (ULONG Round = 0; ByteCount >= 0x400 && Round < MUTATIONS; Round += 1) {
            memcpy(Copy, Whole, ByteCount);
            Damage(Copy, ByteCount, &Random);
            RunImageBytes(Copy, ByteCount);
        }
        free(Copy);
        FileCount += 1;
    }
    closedir(Directory);
    CHECK(FileCount >= 4);
    HostAudit();
}

static const HOST_TEST Tests[] = {
    HOST_ROW(An_image_is_copied_moved_linked_and_protected, "contract 20.1.1, 20.1.2, I1",
             &FakeMachineMax),
    HOST_ROW(The_security_cookie_is_made_anew, "contract 20.1.5", &FakeMachineMax),
    HOST_ROW(Without_relocations_an_image_is_loaded_as_it_is, "contract 20.1.1", &FakeMachineMax),
    HOST_ROW(An_image_that_cannot_move_gets_its_place_or_nothing, "contract 20.1.3",
             &FakeMachineMax),
    HOST_ROW(An_image_may_only_export, "ldr.h", &FakeMachineMax),
    HOST_ROW(A_bare_image_is_an_image, "ldr.h", &FakeMachineMax),
    HOST_ROW(Discardable_sections_go_unless_they_are_needed, "contract 20.1.4", &FakeMachineMax),
    HOST_ROW(Images_import_from_images_which_stay_as_long, "contract 20.2.2", &FakeMachineMax),
    HOST_ROW(Forwarders_are_followed_to_their_end, "contract 20.2.2", &FakeMachineMax),
    HOST_ROW(What_is_imported_from_is_loaded_along, "contract 20.2.3", &FakeMachineMax),
    HOST_ROW(What_was_loaded_along_goes_with_a_refusal, "contract 20.3.3", &FakeMachineMax),
    HOST_ROW(What_is_missing_is_named, "contract 20.2.4", &FakeMachineMax),
    HOST_ROW(All_that_is_missing_is_named_at_once, "contract 20.2.4", &FakeMachineMax),
    HOST_ROW(Every_damage_is_refused_with_its_reason, "contract 20.3.1, G1, G2", &FakeMachineMax),
    HOST_ROW(A_file_that_is_cut_short_is_refused, "contract 20.3.2, G1", &FakeMachineMax),
    HOST_ROW(Names_that_do_not_end_are_refused, "contract 20.3.1, G1", &FakeMachineMax),
    HOST_ROW(Addresses_that_are_read_as_names_are_refused, "G2", &FakeMachineMax),
    HOST_ROW(Too_many_imports_are_refused, "contract 20.3.4, G3", &FakeMachineMax),
    HOST_ROW(Unwind_information_at_the_end_is_looked_at_as_a_whole, "G1", &FakeMachineMax),
    HOST_ROW(A_forwarder_that_does_not_end_is_refused, "contract 20.3.4, G1", &FakeMachineMax),
    HOST_ROW(A_long_name_is_cut, "ldr.h", &FakeMachineMax),
    HOST_ROW(A_name_is_loaded_once_and_records_are_counted, "contract 20.1.6, N1", &FakeMachineMax),
    HOST_ROW(Loading_fails_without_a_trace, "contract 20.3.3, G1", &FakeMachineMax),
    HOST_ROW(Exports_are_found_by_their_whole_name, "contract 20.2.1", NULL),
    HOST_ROW(Modules_are_found_by_name, "ldr.h", &FakeMachineMax),
    HOST_ROW(Damaged_drivers_are_loaded_or_refused_but_leave_nothing, "contract 20.3.3, G1, G2, G3",
             NULL),
};

HOST_DEFINE_SUITE(image);
