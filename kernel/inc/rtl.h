// Rtl: the kernel's library. Pure C, no locks, no allocation; all of it also compiles and runs on
// the build machine. Overflow-checked arithmetic is in "kernel/inc/checked.h"; LIST_ENTRY routines
// are inline in <wdm.h>.
#pragma once

#include <stdarg.h>
#include <stddef.h>

#include <ntdef.h>
#include <wdm.h>

// -------------------------------------------------------------------------------------------------
// Memory (kernel/rtl/memory.c). The compiler calls these by name, too.

void *memcpy(void *restrict To, const void *restrict From, size_t ByteCount);
void *memmove(void *To, const void *From, size_t ByteCount);
void *memset(void *To, int Value, size_t ByteCount);
int memcmp(const void *A, const void *B, size_t ByteCount);

// -------------------------------------------------------------------------------------------------
// Strings (kernel/rtl/string.c).

SIZE_T RtlStringLength(PCSTR Text);
BOOLEAN RtlStringsEqual(PCSTR A, PCSTR B);
BOOLEAN RtlStringStartsWith(PCSTR Text, PCSTR Prefix);
// The first place in Text where Part begins, or NULL. An empty Part is found at once.
PCSTR RtlFindSubstring(PCSTR Text, PCSTR Part);
// Copies with a terminating zero, cut to fit; returns FALSE when it was cut. ToByteCount must not
// be 0.
BOOLEAN RtlCopyString(PCHAR To, SIZE_T ToByteCount, PCSTR From);

// -------------------------------------------------------------------------------------------------
// Formatted print (kernel/rtl/print.c).
//   numbers  %d %i %u %x %X %o   with l, ll, I64, I32, I, z, j, t, h, hh
//   text     %s %c of the format's own kind, %S %C of the other; %hs %hc narrow, %ls %ws %lc wide
//            %Z PANSI_STRING, %wZ PUNICODE_STRING
//   %p %%    flags - 0 + # and space   width and precision, also as *
// As on NT, "long" has 32 bits: %lx takes a ULONG, %llx and %I64x a ULONG64. %p prints 16 digits.
// An unknown conversion prints itself and takes no argument.

typedef VOID (*PRTL_SINK)(PVOID Context, const CHAR *Text, SIZE_T ByteCount);
typedef VOID (*PRTL_WIDE_SINK)(PVOID Context, const WCHAR *Text, SIZE_T UnitCount);

// Where formatted text goes: one of the two sinks is NULL.
typedef struct _RTL_FORMAT_OUTPUT {
    PRTL_SINK Sink;
    PRTL_WIDE_SINK WideSink;
    PVOID Context;
    BOOLEAN HasUpperCasePointers; // %p as the C runtime prints it
} RTL_FORMAT_OUTPUT, *PRTL_FORMAT_OUTPUT;

// Format is a PCWSTR when the output is wide, else a PCSTR.
VOID RtlFormatOutput(const RTL_FORMAT_OUTPUT *Output, const VOID *Format,
                     __builtin_ms_va_list Arguments);
VOID RtlFormat(PRTL_SINK Sink, PVOID Context, PCSTR Format, __builtin_ms_va_list Arguments);

// Into a buffer, always terminated, cut to fit. Returns the length that the whole text has.
SIZE_T NTAPI RtlFormatBuffer(PCHAR Buffer, SIZE_T BufferByteCount, PCSTR Format, ...);
SIZE_T RtlFormatBufferArguments(PCHAR Buffer, SIZE_T BufferByteCount, PCSTR Format,
                                __builtin_ms_va_list Arguments);

// -------------------------------------------------------------------------------------------------
// CRC-32 as in Ethernet, zip and GPT (kernel/rtl/crc32.c). Start with 0; pass the last result to
// continue.

ULONG RtlCrc32(const VOID *Buffer, SIZE_T ByteCount, ULONG InitialCrc);

// -------------------------------------------------------------------------------------------------
// Bitmaps (kernel/rtl/bitmap.c): bit n is bit n % 64 of word n / 64. All counts are in bits.

#define RTL_NO_BIT ((ULONG64)-1)

typedef struct _RTL_BITS {
    PULONG64 Words;
    ULONG64 BitCount;
} RTL_BITS, *PRTL_BITS;

// Words that a bitmap of BitCount bits needs.
#define RTL_BITS_WORD_COUNT(BitCount) (((BitCount) + 63) / 64)

// The caller owns Words, which must hold RTL_BITS_WORD_COUNT(BitCount). All bits become clear.
VOID RtlInitializeBits(PRTL_BITS Bits, PULONG64 Words, ULONG64 BitCount);

VOID RtlSetBits(PRTL_BITS Bits, ULONG64 First, ULONG64 Count);
VOID RtlClearBits(PRTL_BITS Bits, ULONG64 First, ULONG64 Count);
BOOLEAN RtlTestBit(const RTL_BITS *Bits, ULONG64 Index);
BOOLEAN RtlAreBitsClear(const RTL_BITS *Bits, ULONG64 First, ULONG64 Count);
BOOLEAN RtlAreBitsSet(const RTL_BITS *Bits, ULONG64 First, ULONG64 Count);
ULONG64 RtlCountSetBits(const RTL_BITS *Bits);

// The first set (clear) bit at or after From, or RTL_NO_BIT.
ULONG64 RtlFindSetBit(const RTL_BITS *Bits, ULONG64 From);
ULONG64 RtlFindClearBit(const RTL_BITS *Bits, ULONG64 From);

// The start of Count clear bits with Start % Alignment == Phase, or RTL_NO_BIT. Looks from Hint to
// the end, then from the beginning. Alignment is a power of two (1 = any place), Phase < Alignment,
// Count > 0. Changes nothing.
ULONG64 RtlFindClearRun(const RTL_BITS *Bits, ULONG64 Count, ULONG64 Alignment, ULONG64 Phase,
                        ULONG64 Hint);

// -------------------------------------------------------------------------------------------------
// Interval tree (kernel/rtl/intervaltree.c): inclusive intervals in order of (First, Last), which
// may overlap, and be equal. Intrusive; every routine is O(log n), a walk over k overlaps
// O(log n + k) where intervals are disjoint.

typedef struct _RTL_INTERVAL_NODE {
    struct _RTL_INTERVAL_NODE *Left;
    struct _RTL_INTERVAL_NODE *Right;
    struct _RTL_INTERVAL_NODE *Parent;
    ULONG64 First;
    ULONG64 Last;
    ULONG64 MaxLast; // the greatest Last in this subtree
    LONG Height;     // of this subtree; a leaf has 1
} RTL_INTERVAL_NODE, *PRTL_INTERVAL_NODE;

typedef struct _RTL_INTERVAL_TREE {
    PRTL_INTERVAL_NODE Root;
    SIZE_T NodeCount;
} RTL_INTERVAL_TREE, *PRTL_INTERVAL_TREE;

#define RTL_INTERVAL_TREE_INITIALIZER                                                              \
    {                                                                                              \
        NULL, 0                                                                                    \
    }

// The caller fills First and Last, First <= Last.
VOID RtlInsertInterval(PRTL_INTERVAL_TREE Tree, PRTL_INTERVAL_NODE Node);
VOID RtlRemoveInterval(PRTL_INTERVAL_TREE Tree, PRTL_INTERVAL_NODE Node);

// All nodes that share a value with [First, Last], in order: start with RtlFirstOverlap, go on with
// RtlNextOverlap until NULL. The tree must not change in between.
PRTL_INTERVAL_NODE RtlFirstOverlap(const RTL_INTERVAL_TREE *Tree, ULONG64 First, ULONG64 Last);
PRTL_INTERVAL_NODE RtlNextOverlap(const RTL_INTERVAL_NODE *Node, ULONG64 First, ULONG64 Last);

// All nodes in order.
PRTL_INTERVAL_NODE RtlFirstInterval(const RTL_INTERVAL_TREE *Tree);
PRTL_INTERVAL_NODE RtlNextInterval(const RTL_INTERVAL_NODE *Node);

// Checks order, balance, links, MaxLast and NodeCount of the whole tree. For tests and MiVerify.
BOOLEAN RtlVerifyIntervalTree(const RTL_INTERVAL_TREE *Tree);
