// Private to kernel/runtime: what several of its files share, and the exported routines whose names
// the kernel has for something of its own (kernel/ldr/exports.txt: `RtlSetBits = RtlExportSetBits`).
#pragma once

#include <rtlddk.h>

#include "kernel/inc/rtl.h"

#define RTL_STRING_TAG 'grtS'

// Paged pool for text, or NULL.
PVOID RtlpAllocateText(SIZE_T ByteCount);

VOID NTAPI RtlExportCopyString(PSTRING DestinationString, const STRING *SourceString);

VOID NTAPI RtlExportFillMemory(PVOID Destination, SIZE_T Length, UCHAR Fill);
VOID NTAPI RtlExportZeroMemory(PVOID Destination, SIZE_T Length);

VOID NTAPI RtlExportSetBits(PRTL_BITMAP BitMapHeader, ULONG StartingIndex, ULONG NumberToSet);
VOID NTAPI RtlExportClearBits(PRTL_BITMAP BitMapHeader, ULONG StartingIndex, ULONG NumberToClear);
BOOLEAN NTAPI RtlExportTestBit(PRTL_BITMAP BitMapHeader, ULONG BitNumber);
BOOLEAN NTAPI RtlExportAreBitsClear(PRTL_BITMAP BitMapHeader, ULONG StartingIndex, ULONG Length);
BOOLEAN NTAPI RtlExportAreBitsSet(PRTL_BITMAP BitMapHeader, ULONG StartingIndex, ULONG Length);

ULONG NTAPI RtlExportCrc32(const VOID *Buffer, SIZE_T ByteCount, ULONG InitialCrc);
