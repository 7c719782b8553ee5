// The headers of an image, checked before there is any memory for it.
//
//   file    | DOS header | ... | NT headers: file header, optional header, directories | section table
//           | ... raw data of the sections ...
//   memory  | headers | section | section | ... each from a multiple of SectionAlignment on
//
// Afterwards every section lies in the file with its raw data, and in the image with its memory; they
// ascend and do not overlap; and every directory lies in the image.
#include "kernel/inc/checked.h"
#include "kernel/inc/rtl.h"
#include "kernel/ldr/ldrp.h"

#define MINIMUM_FILE_ALIGNMENT 512
#define MAXIMUM_FILE_ALIGNMENT 0x10000
#define HEADER_ALIGNMENT 4

// The optional header without its directories.
#define FIXED_OPTIONAL_BYTES FIELD_OFFSET(IMAGE_OPTIONAL_HEADER64, DataDirectory)
#define FIXED_HEADER_BYTES                                                                         \
    (FIELD_OFFSET(IMAGE_NT_HEADERS64, OptionalHeader) + (ULONG)FIXED_OPTIONAL_BYTES)

ULONG LdrpDirectoryCount(const IMAGE_NT_HEADERS64 *Headers)
{
    const ULONG Count = Headers->OptionalHeader.NumberOfRvaAndSizes;
    return Count < IMAGE_NUMBEROF_DIRECTORY_ENTRIES ? Count : IMAGE_NUMBEROF_DIRECTORY_ENTRIES;
}

IMAGE_DATA_DIRECTORY LdrpDirectory(const LDRP_LOAD *Load, ULONG Index)
{
    const IMAGE_DATA_DIRECTORY None = {0, 0};
    return Index < Load->DirectoryCount ? Load->Headers->OptionalHeader.DataDirectory[Index] : None;
}

// The linker may leave VirtualSize to the raw data.
static ULONG LdrpVirtualBytes(const IMAGE_SECTION_HEADER *Section)
{
    return Section->VirtualSize != 0 ? Section->VirtualSize : Section->SizeOfRawData;
}

// Cannot overflow: the section lies in an image whose size is limited.
ULONG LdrpSectionBytes(const IMAGE_SECTION_HEADER *Section)
{
    return (ULONG)ROUND_TO_PAGES(LdrpVirtualBytes(Section));
}

// Linkers make sections that are writable and executable of code that runs once (INIT), because the
// import tables, which only the loader writes, are put there, too. Such a section gets no write access.
// In any other one the driver would write code; there is no place for that.
ULONG LdrpProtectionOfSection(const IMAGE_SECTION_HEADER *Section)
{
    const BOOLEAN IsWritable = (Section->Characteristics & IMAGE_SCN_MEM_WRITE) != 0;
    if ((Section->Characteristics & IMAGE_SCN_MEM_EXECUTE) == 0) {
        return IsWritable ? PAGE_READWRITE : PAGE_READONLY;
    }
    return IsWritable && (Section->Characteristics & IMAGE_SCN_MEM_DISCARDABLE) == 0
               ? 0
               : PAGE_EXECUTE_READ;
}

BOOLEAN LdrpIsInSectionWith(const LDRP_LOAD *Load, ULONG64 Rva, ULONG Wanted)
{
    for (ULONG Index = 0; Index < Load->SectionCount; Index += 1) {
        const IMAGE_SECTION_HEADER *Section = &Load->Sections[Index];
        if (Rva >= Section->VirtualAddress &&
            Rva - Section->VirtualAddress < LdrpVirtualBytes(Section)) {
            return (Section->Characteristics & Wanted) == Wanted;
        }
    }
    return FALSE;
}

static NTSTATUS LdrpCheckFileHeader(PLDRP_LOAD Load)
{
    const IMAGE_DOS_HEADER *Dos = LdrpAt(&Load->File, 0, sizeof(*Dos));
    LDRP_REQUIRE(Load, Dos != NULL && Dos->e_magic == IMAGE_DOS_SIGNATURE,
                 "the file is no image: it does not begin with an MZ header");
    const IMAGE_NT_HEADERS64 *Headers = LdrpAt(&Load->File, Dos->e_lfanew, FIXED_HEADER_BYTES);
    LDRP_REQUIRE(Load, Headers != NULL, "the file ends before its NT headers, at byte 0x%x",
                 Dos->e_lfanew);
    LDRP_REQUIRE(Load, Dos->e_lfanew % HEADER_ALIGNMENT == 0,
                 "the NT headers begin at byte 0x%x, which is not aligned", Dos->e_lfanew);
    LDRP_REQUIRE(Load, Headers->Signature == IMAGE_NT_SIGNATURE,
                 "the NT headers at byte 0x%x have signature 0x%08x", Dos->e_lfanew,
                 Headers->Signature);
    const IMAGE_FILE_HEADER *File = &Headers->FileHeader;
    LDRP_REQUIRE(Load, File->Machine == IMAGE_FILE_MACHINE_AMD64,
                 "the image is for machine 0x%04x, not for x64", File->Machine);
    LDRP_REQUIRE(Load, (File->Characteristics & IMAGE_FILE_EXECUTABLE_IMAGE) != 0,
                 "the linker has not called the file executable");
    Load->Headers = Headers;
    return STATUS_SUCCESS;
}

// Numbers of the optional header that need nothing else to be judged by.
static NTSTATUS LdrpCheckOptionalHeader(PLDRP_LOAD Load)
{
    const IMAGE_OPTIONAL_HEADER64 *Header = &Load->Headers->OptionalHeader;
    LDRP_REQUIRE(Load, Header->Magic == IMAGE_NT_OPTIONAL_HDR64_MAGIC,
                 "the optional header is of kind 0x%x, not PE32+", Header->Magic);
    LDRP_REQUIRE(Load, Header->Subsystem == IMAGE_SUBSYSTEM_NATIVE,
                 "the image is for subsystem %u; a driver is linked for the native one",
                 Header->Subsystem);
    LDRP_REQUIRE(
        Load, RtlIsPowerOfTwo64(Header->SectionAlignment) && Header->SectionAlignment >= PAGE_SIZE,
        "sections are aligned to 0x%x bytes, so that pages have no protection of their own",
        Header->SectionAlignment);
    LDRP_REQUIRE(Load,
                 RtlIsPowerOfTwo64(Header->FileAlignment) &&
                     Header->FileAlignment >= MINIMUM_FILE_ALIGNMENT &&
                     Header->FileAlignment <= MAXIMUM_FILE_ALIGNMENT &&
                     Header->FileAlignment <= Header->SectionAlignment,
                 "raw data is aligned to 0x%x bytes", Header->FileAlignment);
    LDRP_REQUIRE(Load, Header->SizeOfImage != 0 && Header->SizeOfImage <= LDRP_MAXIMUM_IMAGE_BYTES,
                 "the image claims 0x%x bytes of memory", Header->SizeOfImage);
    LDRP_REQUIRE(Load, Header->SizeOfImage % Header->SectionAlignment == 0,
                 "the image's 0x%x bytes are not whole sections", Header->SizeOfImage);
    return STATUS_SUCCESS;
}

// Where directories and section table end in the file.
static NTSTATUS LdrpCheckHeaderSizes(PLDRP_LOAD Load)
{
    const IMAGE_NT_HEADERS64 *Headers = Load->Headers;
    const IMAGE_OPTIONAL_HEADER64 *Header = &Headers->OptionalHeader;
    const ULONG DirectoryCount = LdrpDirectoryCount(Headers);
    const ULONG OptionalBytes = Headers->FileHeader.SizeOfOptionalHeader;
    const ULONG64 NtOffset = (ULONG64)((const UCHAR *)Headers - Load->File.Bytes);
    const ULONG64 TableOffset =
        NtOffset + FIELD_OFFSET(IMAGE_NT_HEADERS64, OptionalHeader) + OptionalBytes;
    const SIZE_T TableBytes =
        (SIZE_T)Headers->FileHeader.NumberOfSections * sizeof(IMAGE_SECTION_HEADER);
    LDRP_REQUIRE(
        Load, OptionalBytes >= FIXED_OPTIONAL_BYTES + DirectoryCount * sizeof(IMAGE_DATA_DIRECTORY),
        "the optional header has %u bytes, too few for its %u directories", OptionalBytes,
        DirectoryCount);
    LDRP_REQUIRE(Load, TableBytes != 0, "the image has no sections");
    Load->Sections = LdrpAt(&Load->File, TableOffset, TableBytes);
    LDRP_REQUIRE(Load, Load->Sections != NULL, "the file ends in its section table");
    LDRP_REQUIRE(Load,
                 Header->SizeOfHeaders >= TableOffset + TableBytes &&
                     Header->SizeOfHeaders <= Load->File.ByteCount &&
                     Header->SizeOfHeaders <= Header->SizeOfImage,
                 "the headers claim 0x%x bytes; their end is at 0x%x, the file's at 0x%llx",
                 Header->SizeOfHeaders, (ULONG)(TableOffset + TableBytes),
                 (ULONG64)Load->File.ByteCount);
    Load->SectionCount = Headers->FileHeader.NumberOfSections;
    Load->DirectoryCount = DirectoryCount;
    return STATUS_SUCCESS;
}

// Sections ascend: this one must begin at FirstRva or later.
static NTSTATUS LdrpCheckSection(const LDRP_LOAD *Load, const IMAGE_SECTION_HEADER *Section,
                                 ULONG64 FirstRva)
{
    const IMAGE_OPTIONAL_HEADER64 *Header = &Load->Headers->OptionalHeader;
    const ULONG64 EndRva = (ULONG64)Section->VirtualAddress + LdrpVirtualBytes(Section);
    LDRP_REQUIRE(Load, LdrpVirtualBytes(Section) != 0, "section %.8s is empty", Section->Name);
    LDRP_REQUIRE(Load, Section->VirtualAddress % Header->SectionAlignment == 0,
                 "section %.8s begins at 0x%x, which is not aligned", Section->Name,
                 Section->VirtualAddress);
    LDRP_REQUIRE(Load, Section->VirtualAddress >= FirstRva,
                 "section %.8s at 0x%x overlaps what lies before it, up to 0x%llx", Section->Name,
                 Section->VirtualAddress, FirstRva);
    LDRP_REQUIRE(Load, EndRva <= Header->SizeOfImage,
                 "section %.8s ends at 0x%llx, behind the image's end at 0x%x", Section->Name,
                 EndRva, Header->SizeOfImage);
    LDRP_REQUIRE(Load,
                 Section->SizeOfRawData == 0 ||
                     LdrpAt(&Load->File, Section->PointerToRawData, Section->SizeOfRawData) != NULL,
                 "section %.8s has 0x%x bytes at 0x%x of the file, which has 0x%llx", Section->Name,
                 Section->SizeOfRawData, Section->PointerToRawData, (ULONG64)Load->File.ByteCount);
    LDRP_REQUIRE(
        Load, Section->SizeOfRawData == 0 || Section->PointerToRawData % Header->FileAlignment == 0,
        "the raw data of section %.8s begins at 0x%x, which is not aligned", Section->Name,
        Section->PointerToRawData);
    LDRP_REQUIRE(Load, LdrpProtectionOfSection(Section) != 0,
                 "section %.8s is to be writable and executable at once", Section->Name);
    return STATUS_SUCCESS;
}

static NTSTATUS LdrpCheckSections(const LDRP_LOAD *Load)
{
    NTSTATUS Status = STATUS_SUCCESS;
    ULONG64 FirstRva = ROUND_TO_PAGES(Load->Headers->OptionalHeader.SizeOfHeaders);
    for (ULONG Index = 0; NT_SUCCESS(Status) && Index < Load->SectionCount; Index += 1) {
        const IMAGE_SECTION_HEADER *Section = &Load->Sections[Index];
        Status = LdrpCheckSection(Load, Section, FirstRva);
        FirstRva = (ULONG64)Section->VirtualAddress + ROUND_TO_PAGES(LdrpVirtualBytes(Section));
    }
    return Status;
}

static NTSTATUS LdrpCheckDirectories(const LDRP_LOAD *Load)
{
    for (ULONG Index = 0; Index < Load->DirectoryCount; Index += 1) {
        const IMAGE_DATA_DIRECTORY Directory = LdrpDirectory(Load, Index);
        const ULONG64 EndRva = (ULONG64)Directory.VirtualAddress + Directory.Size;
        LDRP_REQUIRE(Load,
                     Index == IMAGE_DIRECTORY_ENTRY_SECURITY ||
                         EndRva <= Load->Headers->OptionalHeader.SizeOfImage,
                     "directory %u, 0x%x bytes at 0x%x, leaves the image", Index, Directory.Size,
                     Directory.VirtualAddress);
    }
    return STATUS_SUCCESS;
}

static NTSTATUS LdrpCheckEntryPoint(const LDRP_LOAD *Load)
{
    const ULONG EntryRva = Load->Headers->OptionalHeader.AddressOfEntryPoint;
    const BOOLEAN IsDll = (Load->Headers->FileHeader.Characteristics & IMAGE_FILE_DLL) != 0;
    LDRP_REQUIRE(Load, EntryRva != 0 || IsDll, "the image has no entry point");
    LDRP_REQUIRE(Load, EntryRva == 0 || LdrpIsInSectionWith(Load, EntryRva, IMAGE_SCN_MEM_EXECUTE),
                 "the entry point at 0x%x is not in code", EntryRva);
    return STATUS_SUCCESS;
}

NTSTATUS LdrpReadHeaders(PLDRP_LOAD Load)
{
    NTSTATUS Status = LdrpCheckFileHeader(Load);
    if (NT_SUCCESS(Status)) {
        Status = LdrpCheckOptionalHeader(Load);
    }
    if (NT_SUCCESS(Status)) {
        Status = LdrpCheckHeaderSizes(Load);
    }
    if (NT_SUCCESS(Status)) {
        Status = LdrpCheckSections(Load);
    }
    if (NT_SUCCESS(Status)) {
        Status = LdrpCheckDirectories(Load);
    }
    return NT_SUCCESS(Status) ? LdrpCheckEntryPoint(Load) : Status;
}
