// The image that the tests of the loader begin with, and the run of any bytes as an image.
//
//   RVA     file
//   0x1000  0x400   .text   two functions
//   0x2000  0x600   .rdata  imports, exports, functions, load configuration
//   0x3000  0x1000  .data   an address in .text, the security cookie; 0x1800 bytes in memory
//   0x5000  0x1200  .reloc  discardable
#include "tests/host/image.h"
#include "kernel/ldr/ldrp.h"

#define LARGE_IMAGE_BYTES 0x100000

static VOID PutText(HOST_IMAGE *Image, ULONG Offset, const CHAR *Text)
{
    memcpy(&Image->Bytes[Offset], Text, strlen(Text) + 1);
}

static VOID PutDirectory(HOST_IMAGE *Image, ULONG Index, ULONG Rva, ULONG ByteCount)
{
    HostPut(Image, AT_DIRECTORY(Index), 4, Rva);
    HostPut(Image, AT_DIRECTORY(Index) + 4, 4, ByteCount);
}

static VOID BuildHeaders(HOST_IMAGE *Image)
{
    IMAGE_DOS_HEADER Dos = {.e_magic = IMAGE_DOS_SIGNATURE, .e_lfanew = AT_NT};
    IMAGE_NT_HEADERS64 Nt = {
        .Signature = IMAGE_NT_SIGNATURE,
        .FileHeader = {.Machine = IMAGE_FILE_MACHINE_AMD64,
                       .NumberOfSections = 4,
                       .SizeOfOptionalHeader = sizeof(IMAGE_OPTIONAL_HEADER64),
                       .Characteristics = IMAGE_FILE_EXECUTABLE_IMAGE},
        .OptionalHeader = {.Magic = IMAGE_NT_OPTIONAL_HDR64_MAGIC,
                           .AddressOfEntryPoint = 0x1000,
                           .ImageBase = IMAGE_PREFERRED,
                           .SectionAlignment = 0x1000,
                           .FileAlignment = 0x200,
                           .SizeOfImage = IMAGE_BYTES,
                           .SizeOfHeaders = 0x400,
                           .Subsystem = IMAGE_SUBSYSTEM_NATIVE,
                           .NumberOfRvaAndSizes = IMAGE_NUMBEROF_DIRECTORY_ENTRIES},
    };
    const IMAGE_SECTION_HEADER Sections[] = {
        {".text", 0x100, 0x1000, 0x200, 0x400, 0, 0, 0, 0, 0x60000020},
        {".rdata", 0x800, 0x2000, 0xA00, 0x600, 0, 0, 0, 0, 0x40000040},
        {".data", 0x1800, 0x3000, 0x200, 0x1000, 0, 0, 0, 0, 0xC0000040},
        {".reloc", 0x100, 0x5000, 0x200, 0x1200, 0, 0, 0, 0, 0x42000040},
    };
    memcpy(Image->Bytes, &Dos, sizeof(Dos));
    memcpy(&Image->Bytes[AT_NT], &Nt, sizeof(Nt));
    memcpy(&Image->Bytes[AT_SECTION(0)], Sections, sizeof(Sections));
}

static VOID BuildImports(HOST_IMAGE *Image)
{
    const IMAGE_IMPORT_DESCRIPTOR Descriptors[] = {
        {0x2080, 0, 0, 0x20E0, 0x20B0}, {0, 0, 0, 0x20F0, 0x20D0}, // no names beside the addresses
    };
    memcpy(&Image->Bytes[AT_RDATA(0x2000)], Descriptors, sizeof(Descriptors));
    PutDirectory(Image, IMAGE_DIRECTORY_ENTRY_IMPORT, 0x2000, 60);
    for (ULONG Table = 0x2080; Table <= 0x20B0; Table += 0x30) {
        HostPut(Image, AT_RDATA(Table), 8, 0x2100);
        HostPut(Image, AT_RDATA(Table + 8), 8, 0x2120);
    }
    HostPut(Image, AT_RDATA(0x20D0), 8, 0x2140);
    PutText(Image, AT_RDATA(0x20E0), "NTOSKRNL.exe");
    PutText(Image, AT_RDATA(0x20F0), "hal.DLL");
    PutText(Image, AT_RDATA(0x2102), "HostFirst");
    PutText(Image, AT_RDATA(0x2122), "HostData");
    PutText(Image, AT_RDATA(0x2142), "HostHal");
}

static VOID BuildExports(HOST_IMAGE *Image)
{
    static const struct {
        const CHAR *Name;
        ULONG Rva;
    } Exports[] = {{"Alpha", 0x1000}, {"Beta", 0x3008}, {"Circle", 0x22D0}, {"Delta", 0x22E0}};
    const IMAGE_EXPORT_DIRECTORY Directory = {.Base = 5,
                                              .NumberOfFunctions = 5, // the last one is not in use
                                              .NumberOfNames = 4,
                                              .AddressOfFunctions = 0x2230,
                                              .AddressOfNames = 0x2250,
                                              .AddressOfNameOrdinals = 0x2270};
    memcpy(&Image->Bytes[AT_RDATA(0x2200)], &Directory, sizeof(Directory));
    PutDirectory(Image, IMAGE_DIRECTORY_ENTRY_EXPORT, 0x2200, 0x200);
    for (ULONG Index = 0; Index < ARRAYSIZE(Exports); Index += 1) {
        HostPut(Image, AT_RDATA(0x2230 + 4 * Index), 4, Exports[Index].Rva);
        HostPut(Image, AT_RDATA(0x2250 + 4 * Index), 4, 0x2280 + 0x10 * Index);
        HostPut(Image, AT_RDATA(0x2270 + 2 * Index), 2, Index);
        PutText(Image, AT_RDATA(0x2280 + 0x10 * Index), Exports[Index].Name);
    }
    PutText(Image, AT_RDATA(0x22D0), "image.Circle");
    PutText(Image, AT_RDATA(0x22E0), "HAL.HostHal");
}

static VOID BuildTables(HOST_IMAGE *Image)
{
    static const ULONG Functions[] = {0x1000, 0x1010, 0x2440, 0x1010, 0x1020, 0x2450};
    memcpy(&Image->Bytes[AT_RDATA(0x2400)], Functions, sizeof(Functions));
    PutDirectory(Image, IMAGE_DIRECTORY_ENTRY_EXCEPTION, 0x2400, sizeof(Functions));
    HostPut(Image, AT_RDATA(0x2440), 4, 0x00000001); // version 1, no codes
    HostPut(Image, AT_RDATA(0x2450), 4, 0x00030409); // a handler, three codes
    PutDirectory(Image, IMAGE_DIRECTORY_ENTRY_LOAD_CONFIG, 0x2500, 0x60);
    HostPut(Image, AT_RDATA(0x2500), 4, 0x60);
    HostPut(Image, AT_RDATA(0x2558), 8, IMAGE_PREFERRED + 0x3010);
    HostPut(Image, AT_DATA(0x3000), 8, IMAGE_PREFERRED + 0x1000);
    HostPut(Image, AT_DATA(0x3010), 8, 0x00002B992DDFA232);
}

static VOID BuildRelocations(HOST_IMAGE *Image)
{
    static const ULONG Blocks[] = {0x2000, 12, 0x0000A558, 0x3000, 12, 0x0000A000};
    memcpy(&Image->Bytes[AT_RELOC(0x5000)], Blocks, sizeof(Blocks));
    PutDirectory(Image, IMAGE_DIRECTORY_ENTRY_BASERELOC, 0x5000, sizeof(Blocks));
}

VOID HostBuildImage(HOST_IMAGE *Image)
{
    memset(Image, 0, sizeof(*Image));
    BuildHeaders(Image);
    BuildImports(Image);
    BuildExports(Image);
    BuildTables(Image);
    BuildRelocations(Image);
}

//
// Any bytes.
//

// What must hold of any image that was loaded, however strange.
static VOID CheckLoaded(const LDR_IMAGE *Image)
{
    CHECK(LdrFindImage(Image->Base) == Image);
    CHECK(LdrFindImage(Image->Base + Image->ByteCount - 1) == Image);
    CHECK(Image->EntryPoint == 0 ||
          FakeWalk(Image->EntryPoint).Protection.Access == MiAccessExecuteRead);
    for (SIZE_T At = 0; At < Image->ByteCount; At += PAGE_SIZE) {
        const FAKE_PAGE Page = FakeWalk(Image->Base + At);
        CHECK(Page.Level == 1 && Page.Protection.Access != MiAccessExecuteReadWrite);
    }
}

// Each page of an image is a few system calls here.
static BOOLEAN IsWorthIt(const UCHAR *Bytes, SIZE_T ByteCount)
{
    const LDRP_VIEW View = {(PUCHAR)Bytes, ByteCount};
    const IMAGE_DOS_HEADER *Dos = LdrpAt(&View, 0, sizeof(*Dos));
    const IMAGE_NT_HEADERS64 *Nt = Dos != NULL ? LdrpAt(&View, Dos->e_lfanew, sizeof(*Nt)) : NULL;
    return Nt == NULL || Nt->OptionalHeader.SizeOfImage < LARGE_IMAGE_BYTES ||
           Nt->OptionalHeader.SizeOfImage > LDRP_MAXIMUM_IMAGE_BYTES;
}

VOID RunImageBytes(const UCHAR *Bytes, SIZE_T ByteCount)
{
    if (!IsWorthIt(Bytes, ByteCount)) {
        return;
    }
    static BOOLEAN IsStarted;
    static MM_MEMORY_USE Before;
    if (!IsStarted) {
        FakeMirrorsDirectMap = FALSE;
        FakeStartMachine(&FakeMachineMax);
        LdrInitSystem(&FakeLoaderBlock);
        MmQueryMemoryUse(&Before);
        IsStarted = TRUE;
    }
    PLDR_IMAGE Image;
    HostForgetPrinted();
    const NTSTATUS Status = LdrLoadImage(Bytes, ByteCount, "bytes.sys", &Image);
    CHECK(NT_SUCCESS(Status) == (Image != NULL));
    if (Image != NULL) {
        PVOID Unused = LdrFindImageExport(Image, "Alpha");
        UNREFERENCED_PARAMETER(Unused);
        CheckLoaded(Image);
        LdrDiscardInitSections(Image);
        LdrUnloadImage(Image);
    }
    HostCheckSameUse(&Before, "an image");
}
