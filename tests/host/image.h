// Images for the tests of the loader: a small one that is built here, with every table that the loader
// looks at, and where each of its fields is.
#pragma once

#include "kernel/inc/ldr.h"
#include "kernel/ldr/pe.h"
#include "tests/host/host.h"

extern ULONG FakeExportedVariable;
ULONG NTAPI FakeExportedRoutine(ULONG Value);
extern const CHAR *FakeCodeName;

#define IMAGE_FILE_BYTES 0x1400
#define IMAGE_BYTES 0x6000
#define IMAGE_PREFERRED 0x140000000ull

// Places in the file.
#define AT_NT 0x80
#define AT_FILE_HEADER (AT_NT + 4)
#define AT_OPTIONAL (AT_NT + 24)
#define AT_DIRECTORY(Index) (AT_OPTIONAL + 112 + 8 * (Index))
#define AT_SECTION(Index) (AT_NT + 264 + 40 * (Index))

// Where an RVA of the first three sections is in the file.
#define AT_TEXT(Rva) (0x400 + (Rva)-0x1000)
#define AT_RDATA(Rva) (0x600 + (Rva)-0x2000)
#define AT_DATA(Rva) (0x1000 + (Rva)-0x3000)
#define AT_RELOC(Rva) (0x1200 + (Rva)-0x5000)

typedef struct _HOST_IMAGE {
    UCHAR Bytes[IMAGE_FILE_BYTES];
} HOST_IMAGE;

VOID HostBuildImage(HOST_IMAGE *Image);

static inline VOID HostPut(HOST_IMAGE *Image, ULONG Offset, ULONG ByteCount, ULONG64 Value)
{
    memcpy(&Image->Bytes[Offset], &Value, ByteCount);
}

// Loads the bytes as a file; whether they are an image or not, nothing may be left of them, and nothing
// outside of them may be looked at.
VOID RunImageBytes(const UCHAR *Bytes, SIZE_T ByteCount);
