// What the files of the loader tell each other.
//
// A file is hostile until it is proved to be an image. Three rules keep the proof short:
//   G1  Every place in a file or in an image is asked for by LdrpAt, which says NULL where it does not
//       lie inside as a whole. Nothing is added to an address before.
//   G2  What was read once for a check is not read again for its use, unless the memory is the
//       loader's own and nothing writes there.
//   G3  Every loop is bounded by the file's length or by a number in this header.
#pragma once

#include <wdm.h>

#include "kernel/inc/ldr.h"
#include "kernel/ldr/pe.h"

#define LDRP_MAXIMUM_IMAGE_BYTES 0x10000000u
#define LDRP_MAXIMUM_NAME_BYTES 1024 // of an export, terminator included
#define LDRP_MAXIMUM_EXPORTS 0x10000u
#define LDRP_MAXIMUM_IMPORTS 0x10000u
#define LDRP_MAXIMUM_FORWARDS 8
#define LDRP_MAXIMUM_DEPTH 3 // of images that are loaded because another one imports from them

// Bytes that are looked at.
typedef struct _LDRP_VIEW {
    PUCHAR Bytes;
    SIZE_T ByteCount;
} LDRP_VIEW;

// An image on its way.
typedef struct _LDRP_LOAD {
    PCSTR Name;
    ULONG Depth; // 0: somebody asked for it
    LDRP_VIEW File;
    LDRP_VIEW Image;                   // once there is memory for it
    const IMAGE_NT_HEADERS64 *Headers; // in the file, where the loader writes nothing
    const IMAGE_SECTION_HEADER *Sections;
    ULONG SectionCount;
    ULONG DirectoryCount;
    const struct _RUNTIME_FUNCTION *FunctionTable;
    ULONG FunctionCount;
    ULONG ImportCount;
    ULONG64 Imports[LDR_MAXIMUM_IMAGES / 64]; // images that it imports from
} LDRP_LOAD, *PLDRP_LOAD;

// ByteCount bytes from Offset on; NULL: they are not all inside.
static inline PVOID LdrpAt(const LDRP_VIEW *View, ULONG64 Offset, SIZE_T ByteCount)
{
    return ByteCount <= View->ByteCount && Offset <= View->ByteCount - ByteCount
               ? View->Bytes + Offset
               : NULL;
}

// The text at Offset; NULL: it does not end inside, or is too long.
static inline PCSTR LdrpTextAt(const LDRP_VIEW *View, ULONG64 Offset)
{
    if (Offset >= View->ByteCount) {
        return NULL;
    }
    const SIZE_T Room = View->ByteCount - Offset;
    const SIZE_T Limit = Room < LDRP_MAXIMUM_NAME_BYTES ? Room : LDRP_MAXIMUM_NAME_BYTES;
    const CHAR *const Text = (const CHAR *)View->Bytes + Offset;
    SIZE_T Length = 0;
    while (Length < Limit && Text[Length] != 0) {
        Length += 1;
    }
    return Length < Limit ? Text : NULL;
}

static inline ULONG LdrpReadUlong(const VOID *At)
{
    ULONG Value;
    __builtin_memcpy(&Value, At, sizeof(Value));
    return Value;
}

static inline ULONG64 LdrpReadUlong64(const VOID *At)
{
    ULONG64 Value;
    __builtin_memcpy(&Value, At, sizeof(Value));
    return Value;
}

static inline VOID LdrpWriteUlong64(PVOID At, ULONG64 Value)
{
    __builtin_memcpy(At, &Value, sizeof(Value));
}

//
// refusal.c: why an image was refused.
//

// Remembers the sentence, "Name: ...", and returns Status.
NTSTATUS NTAPI LdrpRefuse(_In_ const LDRP_LOAD *Load, _In_ NTSTATUS Status, _In_ PCSTR Format, ...);

// Returns from the caller when the image is not as it must be.
#define LDRP_REQUIRE(Load, Condition, ...)                                                         \
    do {                                                                                           \
        if (!(Condition)) {                                                                        \
            return LdrpRefuse(Load, STATUS_INVALID_IMAGE_FORMAT, __VA_ARGS__);                     \
        }                                                                                          \
    } while (0)

//
// header.c: what the headers say, which is checked before there is any memory.
//

// Fills in Headers, Sections and the counts.
NTSTATUS LdrpReadHeaders(_Inout_ PLDRP_LOAD Load);

// Directories that the headers have; more than are known do not count.
ULONG LdrpDirectoryCount(_In_ const IMAGE_NT_HEADERS64 *Headers);

// A directory, all zero when the image has none.
IMAGE_DATA_DIRECTORY LdrpDirectory(_In_ const LDRP_LOAD *Load, _In_ ULONG Index);

// Bytes of a section in memory, in whole pages.
ULONG LdrpSectionBytes(_In_ const IMAGE_SECTION_HEADER *Section);

// The protection of a section, PAGE_...; 0: it asks for what is never given.
ULONG LdrpProtectionOfSection(_In_ const IMAGE_SECTION_HEADER *Section);

// Whether the RVA lies in a section with all of these characteristics.
BOOLEAN LdrpIsInSectionWith(_In_ const LDRP_LOAD *Load, _In_ ULONG64 Rva, _In_ ULONG Wanted);

//
// relocate.c
//

NTSTATUS LdrpRelocate(_In_ const LDRP_LOAD *Load);

// Whether the image runs at whatever address it is given.
BOOLEAN LdrpIsMovable(_In_ const LDRP_LOAD *Load);

//
// tables.c: tables that are kept for later: functions, exports, the security cookie.
//

// A row of .pdata: RVAs.
typedef struct _LDRP_FUNCTION {
    ULONG Begin;
    ULONG End;
    ULONG UnwindData;
} LDRP_FUNCTION;

NTSTATUS LdrpCheckFunctionTable(_Inout_ PLDRP_LOAD Load);
NTSTATUS LdrpSetSecurityCookie(_In_ const LDRP_LOAD *Load);

//
// export.c: the kernel's exports, and those of images.
//

typedef struct _LDRP_EXPORT {
    PCSTR Name;
    PVOID Address; // of the routine, or of the variable
} LDRP_EXPORT;

// Made by makeexports.py, ascending by name.
extern const LDRP_EXPORT LdrpExports[];
extern const ULONG LdrpExportCount;

// What somebody asks a module for.
typedef struct _LDRP_SYMBOL {
    PCSTR Name; // NULL: by ordinal
    ULONG Ordinal;
} LDRP_SYMBOL;

typedef enum _LDRP_FOUND {
    LdrpFoundAddress,
    LdrpFoundForwarder, // the text of it: "HAL.KeStallExecutionProcessor", "other.#7"
    LdrpFoundNothing,
} LDRP_FOUND;

// Looks the symbol up in the export directory of a loaded image.
LDRP_FOUND LdrpFindImageExport(_In_ const LDR_IMAGE *Image, _In_ LDRP_SYMBOL Symbol,
                               _Out_ PVOID *Address, _Out_ PCSTR *Forwarder);

// Whether the export directory, if there is one, can be searched without looking again.
NTSTATUS LdrpCheckExports(_In_ const LDRP_LOAD *Load);

// Negative, 0 or positive: A comes before B, is the same, comes behind it; byte by byte.
static inline LONG LdrpCompareNames(PCSTR A, PCSTR B)
{
    while (*A != 0 && *A == *B) {
        A += 1;
        B += 1;
    }
    return (LONG)(UCHAR)*A - (LONG)(UCHAR)*B;
}

//
// imports.c
//

NTSTATUS LdrpLinkImports(_Inout_ PLDRP_LOAD Load);

// Upper and lower case are the same in names of modules.
BOOLEAN LdrpIsSameName(_In_ PCSTR A, _In_ PCSTR B);

// The loaded image of this name, upper and lower case alike, or NULL.
PLDR_IMAGE LdrpFindImageByName(_In_ PCSTR Name);

//
// load.c
//

// Loads the module of this name because Load imports from it; NULL: it is not to be had.
PLDR_IMAGE LdrpLoadDependency(_In_ const LDRP_LOAD *Load, _In_ PCSTR Name);

//
// images.c: the loaded images.
//

// A record with these contents, which everybody sees from then on; its version is the record's own.
// NULL: all are in use.
PLDR_IMAGE LdrpPublishImage(_In_ const LDR_IMAGE *Contents);
VOID LdrpWithdrawImage(_Inout_ PLDR_IMAGE Image);

// The loaded images one after the other: the first one for NULL, behind the last one NULL.
PLDR_IMAGE LdrpNextImage(_In_opt_ const LDR_IMAGE *Previous);

ULONG LdrpIndexOfImage(_In_ const LDR_IMAGE *Image);
PLDR_IMAGE LdrpImageOfIndex(_In_ ULONG Index);
