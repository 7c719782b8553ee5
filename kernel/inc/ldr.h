// Ldr: drivers as PE images: loading, linking, unloading, finding (kernel/ldr).
//
// An image is one file in the format of a Windows driver, in memory of its own (mm/image.c), linked to
// the kernel's exports and to those of images that were loaded before. Starting the driver in it is
// Io's.
#pragma once

#include <ntdef.h>
#include <wdm.h>

#define LDR_NAME_BYTES 64
#define LDR_MAXIMUM_IMAGES 128

// A row of the table of functions (.pdata): offsets from the base of the image.
struct _RUNTIME_FUNCTION;

// A loaded image. Whoever found it by LdrFindImage may read it as long as the image stays loaded; its
// memory is never used for anything but another LDR_IMAGE.
typedef struct _LDR_IMAGE {
    CHAR Name[LDR_NAME_BYTES]; // of the file: "nvme.sys"
    ULONG_PTR Base;            // page aligned
    SIZE_T ByteCount;          // whole pages, headers included; 0: the record is free
    ULONG_PTR EntryPoint;      // of an NTAPI routine; 0: none (an image that only exports)
    const struct _RUNTIME_FUNCTION *FunctionTable; // ascending, within the image; NULL: none
    ULONG FunctionCount;

    // The loader's own.
    ULONG ReferenceCount;  // by LdrLoadImage, and by each image that imports from this one
    ULONG Version;         // odd while the record changes
    ULONG HeaderOffset;    // of the NT headers in the image
    ULONG ExportRva;       // of the export directory
    ULONG ExportBytes;     // 0: none
    BOOLEAN IsDependency;  // nobody has asked for it, but others import from it
    BOOLEAN IsInitialized; // its discardable sections are gone
    ULONG64 Imports[LDR_MAXIMUM_IMAGES / 64]; // a bit for each image that this one imports from
} LDR_IMAGE, *PLDR_IMAGE;

struct _LOADER_BLOCK;

// To be called once, with the dispatcher at work.
VOID LdrInitSystem(_In_ const struct _LOADER_BLOCK *LoaderBlock);

// The file that the boot loader put into memory under this name, upper and lower case alike, and its
// length; NULL: none. It stays there, so that it can be loaded again. Any IRQL.
const VOID *LdrFindModule(_In_ PCSTR Name, _Out_ PSIZE_T ByteCount);

// The image that Address lies in, or NULL. Takes no lock: any IRQL, and in a crash.
const LDR_IMAGE *LdrFindImage(ULONG_PTR Address);

// Loads an image from a copy of its file, which is not needed any longer afterwards, and links it.
// Nothing in it has run. Name is what other images import from it, and what reports call it; it is
// copied, cut to LDR_NAME_BYTES - 1. The caller unloads it by LdrUnloadImage.
// A module that it imports from, that is not loaded, and that lies in memory as a file (LdrFindModule)
// is loaded, too, and goes with the last image that imports from it. Its driver does not start by that;
// loading it by name later does not load it again.
// On failure *Image is NULL, everything is as before, and a sentence says why: it is printed, and
// LdrDescribeLastRefusal has it. IRQL = PASSIVE_LEVEL.
// STATUS_INVALID_IMAGE_FORMAT          the file is no image for this kernel, or is damaged
// STATUS_DRIVER_ENTRYPOINT_NOT_FOUND   imports by name that nobody exports; the sentence has them all
// STATUS_DRIVER_ORDINAL_NOT_FOUND      the same by number
// STATUS_OBJECT_NAME_NOT_FOUND         imports from a module that is neither loaded nor to be had
// STATUS_CONFLICTING_ADDRESSES         an image that cannot be moved, and its place is taken
// STATUS_IMAGE_ALREADY_LOADED          one of this name is
// STATUS_INSUFFICIENT_RESOURCES        no memory
_Must_inspect_result_ _IRQL_requires_max_(PASSIVE_LEVEL)
NTSTATUS LdrLoadImage(_In_ const VOID *File, _In_ SIZE_T FileBytes, _In_ PCSTR Name,
                      _Outptr_ PLDR_IMAGE *Image);

// Gives back one reference; the last one frees the image's memory, and its references to others. No
// code of it may run any more. IRQL = PASSIVE_LEVEL.
_IRQL_requires_max_(PASSIVE_LEVEL) VOID LdrUnloadImage(_In_ PLDR_IMAGE Image);

// The address of what the image exports under this name, or NULL; a forwarder is not followed.
PVOID LdrFindImageExport(_In_ const LDR_IMAGE *Image, _In_ PCSTR Name);

// To be called when the driver's initialization is over: the image's discardable sections (INIT) go,
// and a call into them faults. IRQL = PASSIVE_LEVEL.
_IRQL_requires_max_(PASSIVE_LEVEL) VOID LdrDiscardInitSections(_In_ PLDR_IMAGE Image);

// The reason of the last refusal by LdrLoadImage, in words; empty when nothing was refused yet.
VOID LdrDescribeLastRefusal(_Out_ PCHAR Buffer, _In_ SIZE_T ByteCount);

// The address of what the kernel exports under this name (kernel/ldr/exports.txt), or NULL. Any IRQL.
PVOID LdrFindExport(_In_ PCSTR Name);
