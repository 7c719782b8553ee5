// The format of an image, PE32+, as Microsoft's "PE Format" has it. Nothing in a file need be aligned,
// so that all structures are packed. RVA: the distance from the base of the image in memory.
#pragma once

#include <ntdef.h>

#define PE_PACKED __attribute__((packed))

#define IMAGE_DOS_SIGNATURE 0x5A4D
#define IMAGE_NT_SIGNATURE 0x00004550
#define IMAGE_FILE_MACHINE_AMD64 0x8664
#define IMAGE_NT_OPTIONAL_HDR64_MAGIC 0x20B
#define IMAGE_SUBSYSTEM_NATIVE 1

#define IMAGE_FILE_RELOCS_STRIPPED 0x0001
#define IMAGE_FILE_EXECUTABLE_IMAGE 0x0002
#define IMAGE_FILE_DLL 0x2000

#define IMAGE_SCN_MEM_DISCARDABLE 0x02000000
#define IMAGE_SCN_MEM_EXECUTE 0x20000000
#define IMAGE_SCN_MEM_WRITE 0x80000000

#define IMAGE_DIRECTORY_ENTRY_EXPORT 0
#define IMAGE_DIRECTORY_ENTRY_IMPORT 1
#define IMAGE_DIRECTORY_ENTRY_EXCEPTION 3
#define IMAGE_DIRECTORY_ENTRY_SECURITY 4 // a place in the file, not in the image
#define IMAGE_DIRECTORY_ENTRY_BASERELOC 5
#define IMAGE_DIRECTORY_ENTRY_LOAD_CONFIG 10
#define IMAGE_NUMBEROF_DIRECTORY_ENTRIES 16

#define IMAGE_REL_BASED_ABSOLUTE 0
#define IMAGE_REL_BASED_DIR64 10

#define IMAGE_ORDINAL_FLAG64 0x8000000000000000ull

typedef struct PE_PACKED _IMAGE_DOS_HEADER {
    USHORT e_magic;
    USHORT Reserved[29];
    ULONG e_lfanew; // where the NT headers are
} IMAGE_DOS_HEADER;

typedef struct PE_PACKED _IMAGE_DATA_DIRECTORY {
    ULONG VirtualAddress; // RVA
    ULONG Size;
} IMAGE_DATA_DIRECTORY;

typedef struct PE_PACKED _IMAGE_FILE_HEADER {
    USHORT Machine;
    USHORT NumberOfSections;
    ULONG TimeDateStamp;
    ULONG PointerToSymbolTable;
    ULONG NumberOfSymbols;
    USHORT SizeOfOptionalHeader;
    USHORT Characteristics;
} IMAGE_FILE_HEADER;

typedef struct PE_PACKED _IMAGE_OPTIONAL_HEADER64 {
    USHORT Magic;
    UCHAR MajorLinkerVersion;
    UCHAR MinorLinkerVersion;
    ULONG SizeOfCode;
    ULONG SizeOfInitializedData;
    ULONG SizeOfUninitializedData;
    ULONG AddressOfEntryPoint;
    ULONG BaseOfCode;
    ULONG64 ImageBase;
    ULONG SectionAlignment;
    ULONG FileAlignment;
    USHORT MajorOperatingSystemVersion;
    USHORT MinorOperatingSystemVersion;
    USHORT MajorImageVersion;
    USHORT MinorImageVersion;
    USHORT MajorSubsystemVersion;
    USHORT MinorSubsystemVersion;
    ULONG Win32VersionValue;
    ULONG SizeOfImage;
    ULONG SizeOfHeaders;
    ULONG CheckSum;
    USHORT Subsystem;
    USHORT DllCharacteristics;
    ULONG64 SizeOfStackReserve;
    ULONG64 SizeOfStackCommit;
    ULONG64 SizeOfHeapReserve;
    ULONG64 SizeOfHeapCommit;
    ULONG LoaderFlags;
    ULONG NumberOfRvaAndSizes; // of the directories, which may be fewer than there is room for
    IMAGE_DATA_DIRECTORY DataDirectory[IMAGE_NUMBEROF_DIRECTORY_ENTRIES];
} IMAGE_OPTIONAL_HEADER64;

typedef struct PE_PACKED _IMAGE_NT_HEADERS64 {
    ULONG Signature;
    IMAGE_FILE_HEADER FileHeader;
    IMAGE_OPTIONAL_HEADER64 OptionalHeader;
} IMAGE_NT_HEADERS64;

typedef struct PE_PACKED _IMAGE_SECTION_HEADER {
    CHAR Name[8]; // not terminated when all are used
    ULONG VirtualSize;
    ULONG VirtualAddress; // RVA
    ULONG SizeOfRawData;
    ULONG PointerToRawData;
    ULONG PointerToRelocations;
    ULONG PointerToLinenumbers;
    USHORT NumberOfRelocations;
    USHORT NumberOfLinenumbers;
    ULONG Characteristics;
} IMAGE_SECTION_HEADER;

typedef struct PE_PACKED _IMAGE_IMPORT_DESCRIPTOR {
    ULONG OriginalFirstThunk; // RVA of what is imported; 0: FirstThunk has it, too
    ULONG TimeDateStamp;
    ULONG ForwarderChain;
    ULONG Name;       // RVA
    ULONG FirstThunk; // RVA of the addresses
} IMAGE_IMPORT_DESCRIPTOR;

typedef struct PE_PACKED _IMAGE_EXPORT_DIRECTORY {
    ULONG Characteristics;
    ULONG TimeDateStamp;
    USHORT MajorVersion;
    USHORT MinorVersion;
    ULONG Name;
    ULONG Base; // the ordinal of the first function
    ULONG NumberOfFunctions;
    ULONG NumberOfNames;
    ULONG AddressOfFunctions;    // RVA of RVAs
    ULONG AddressOfNames;        // RVA of RVAs, ascending by the names
    ULONG AddressOfNameOrdinals; // RVA of indices (USHORT) into the functions
} IMAGE_EXPORT_DIRECTORY;

typedef struct PE_PACKED _IMAGE_BASE_RELOCATION {
    ULONG VirtualAddress; // RVA that the offsets count from
    ULONG SizeOfBlock;    // header included; behind it USHORTs: four bits type, twelve bits offset
} IMAGE_BASE_RELOCATION;

// As much of the load configuration as is looked at.
typedef struct PE_PACKED _IMAGE_LOAD_CONFIG_DIRECTORY64 {
    ULONG Size;
    UCHAR Unused[0x54];
    ULONG64 SecurityCookie; // an address, not an RVA
} IMAGE_LOAD_CONFIG_DIRECTORY64;

C_ASSERT(sizeof(IMAGE_DOS_HEADER) == 64);
C_ASSERT(FIELD_OFFSET(IMAGE_OPTIONAL_HEADER64, DataDirectory) == 112);
C_ASSERT(sizeof(IMAGE_NT_HEADERS64) == 264);
C_ASSERT(sizeof(IMAGE_SECTION_HEADER) == 40);
C_ASSERT(sizeof(IMAGE_IMPORT_DESCRIPTOR) == 20);
C_ASSERT(sizeof(IMAGE_EXPORT_DIRECTORY) == 40);
C_ASSERT(FIELD_OFFSET(IMAGE_LOAD_CONFIG_DIRECTORY64, SecurityCookie) == 0x58);
