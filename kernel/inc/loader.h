// The loader block: all that the kernel knows of the world before it. boot/ fills it from whatever
// the boot loader handed over; nothing else in the kernel knows the boot protocol.
//
// Every address is physical, but for the symbols. Strings are copied and terminated. Arrays have a
// fixed capacity; what did not fit is counted in the matching Dropped field and was reported on the
// console. The block lives in the kernel image and stays valid and unchanged for ever.
#pragma once

#include <ntdef.h>

#define LOADER_MAXIMUM_MEMORY_DESCRIPTORS 512
#define LOADER_MAXIMUM_RANGES 64
#define LOADER_MAXIMUM_MODULES 32
#define LOADER_MODULE_NAME_BYTES 64
#define LOADER_MODULE_ARGUMENTS_BYTES 1024
#define LOADER_COMMAND_LINE_BYTES 256
#define LOADER_NAME_BYTES 64
#define LOADER_ROOT_POINTER_BYTES 36

// What firmware says of a range. Whatever it names otherwise is Reserved.
typedef enum _LOADER_MEMORY_TYPE {
    LoaderMemoryUsable,          // RAM for the operating system; some of it holds what was loaded
    LoaderMemoryReserved,        // not for the operating system: firmware, or device registers
    LoaderMemoryAcpiReclaimable, // RAM with ACPI tables, free once they have been read
    LoaderMemoryAcpiNvs,         // RAM that firmware needs for ever
    LoaderMemoryBad,             // defective RAM
    LoaderMemoryTypeCount,
} LOADER_MEMORY_TYPE;

// A row of the firmware's memory map exactly as given: any byte address, any order, overlaps
// possible, even ranges of zero bytes or beyond the top of the address space.
typedef struct _LOADER_MEMORY_DESCRIPTOR {
    ULONG64 BaseAddress;
    ULONG64 ByteCount;
    LOADER_MEMORY_TYPE Type;
} LOADER_MEMORY_DESCRIPTOR, *PLOADER_MEMORY_DESCRIPTOR;

// RAM that the memory map calls usable, but that holds something the kernel still needs.
typedef enum _LOADER_RANGE_KIND {
    LoaderRangeKernel,          // the image with its zeroed data, boot page tables and boot stack
    LoaderRangeModule,          // a file that the boot loader placed
    LoaderRangeBootInformation, // the boot loader's records; nothing points into them any more
    LoaderRangeKindCount,
} LOADER_RANGE_KIND;

typedef struct _LOADER_RANGE {
    ULONG64 BaseAddress;
    ULONG64 ByteCount;
    LOADER_RANGE_KIND Kind;
} LOADER_RANGE, *PLOADER_RANGE;

// A file that the boot loader put into memory, on a page of its own: a driver's image. mm never uses
// its pages, so that a driver can be loaded again; MmGetVirtualForPhysical says where to read it.
// Name is the first word of the module's command line, Arguments are the others, with one blank
// between them, and without what the boot loader does to blanks, quotes and backslashes: the
// hardware ids that the driver is for, or the word "demand".
typedef struct _LOADER_MODULE {
    ULONG64 BaseAddress;
    ULONG64 ByteCount;
    CHAR Name[LOADER_MODULE_NAME_BYTES];
    CHAR Arguments[LOADER_MODULE_ARGUMENTS_BYTES];
} LOADER_MODULE, *PLOADER_MODULE;

// The ELF symbol table (24-byte entries, ELF64_Sym) and its string table: a copy in the kernel image,
// so it can be read whatever the page tables have come to. Without one both byte counts are 0.
typedef struct _LOADER_SYMBOLS {
    const VOID *Table;
    SIZE_T TableByteCount;
    const CHAR *Strings; // the last byte is 0
    SIZE_T StringsByteCount;
} LOADER_SYMBOLS, *PLOADER_SYMBOLS;

// A copy of the ACPI root pointer (RSDP). Revision 0 has 20 meaningful bytes, later ones 36; the
// rest is zero. IsValid: the signature and the checksums over ByteCount bytes are right.
typedef struct _LOADER_ROOT_POINTER {
    BOOLEAN IsValid;
    ULONG ByteCount;
    UCHAR Bytes[LOADER_ROOT_POINTER_BYTES];
} LOADER_ROOT_POINTER, *PLOADER_ROOT_POINTER;

typedef enum _LOADER_FRAMEBUFFER_TYPE {
    LoaderFramebufferNone,
    LoaderFramebufferIndexed,
    LoaderFramebufferRgb,
    LoaderFramebufferText,
} LOADER_FRAMEBUFFER_TYPE;

typedef struct _LOADER_FRAMEBUFFER {
    LOADER_FRAMEBUFFER_TYPE Type;
    ULONG64 BaseAddress;
    ULONG BytesPerRow;
    ULONG Width; // in pixels, or in characters for text
    ULONG Height;
    ULONG BitsPerPixel;
} LOADER_FRAMEBUFFER, *PLOADER_FRAMEBUFFER;

typedef enum _LOADER_FIRMWARE_TYPE { LoaderFirmwareBios, LoaderFirmwareEfi } LOADER_FIRMWARE_TYPE;

typedef struct _LOADER_BLOCK {
    LOADER_FIRMWARE_TYPE FirmwareType;
    CHAR BootLoaderName[LOADER_NAME_BYTES];
    CHAR CommandLine[LOADER_COMMAND_LINE_BYTES];

    ULONG64 KernelBase; // first byte of the loaded image, page-aligned
    ULONG64 KernelByteCount;

    ULONG MemoryDescriptorCount;
    ULONG MemoryDescriptorsDropped;
    LOADER_MEMORY_DESCRIPTOR MemoryDescriptors[LOADER_MAXIMUM_MEMORY_DESCRIPTORS];

    ULONG LoadedRangeCount;
    LOADER_RANGE LoadedRanges[LOADER_MAXIMUM_RANGES];

    ULONG ModuleCount;
    ULONG ModulesDropped;
    LOADER_MODULE Modules[LOADER_MAXIMUM_MODULES];

    LOADER_SYMBOLS Symbols;
    LOADER_ROOT_POINTER RootPointer;
    LOADER_FRAMEBUFFER Framebuffer;
} LOADER_BLOCK, *PLOADER_BLOCK;

// Where boot/ hands over: the start of the kernel proper (kernel/init.c), on the boot page tables and
// the boot stack.
DECLSPEC_NORETURN VOID KiSystemStartup(PLOADER_BLOCK LoaderBlock);
