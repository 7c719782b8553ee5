// <wdm.h> of mingw-w64, and what it lacks. This folder stands before mingw-w64's own on the include
// path, so that sources written for Microsoft's headers compile as they are.
//
//   kitsal.h     annotations                     kitmm.h      Mm of Windows 8 and later
//   kitaccess.h  registers, barriers, atomics    kitdma.h     DMA adapters of version 3
//   kitpool.h    pool of Windows 10              kitsystem.h  everything else
//                                                except.h     KmTry and KmCatch
//
// Invariants:
//   K1  A header here gives mingw-w64's header first (#include_next), then only what is missing or
//       wrong there. It never hides what is right.
//   K2  Whatever kernel/ddk declares, a driver sees through this folder with the same value, size,
//       offsets and prototype: tests/ddk/compare.py --kit compares every item.
//   K3  A macro is defined only where there is none yet, so that a later mingw-w64 may have it.
// Written against mingw-w64 10.0; compiles with gcc and with clang.
#pragma once

#include <kitsal.h>

// mingw-w64's register routines miss their barrier, and two of them store in the wrong direction:
// they get other names, and kitaccess.h has better ones.
#define READ_REGISTER_UCHAR MingwReadRegisterUchar
#define READ_REGISTER_USHORT MingwReadRegisterUshort
#define READ_REGISTER_ULONG MingwReadRegisterUlong
#define WRITE_REGISTER_UCHAR MingwWriteRegisterUchar
#define WRITE_REGISTER_USHORT MingwWriteRegisterUshort
#define WRITE_REGISTER_ULONG MingwWriteRegisterUlong
#define READ_REGISTER_BUFFER_UCHAR MingwReadRegisterBufferUchar
#define READ_REGISTER_BUFFER_USHORT MingwReadRegisterBufferUshort
#define READ_REGISTER_BUFFER_ULONG MingwReadRegisterBufferUlong
#define WRITE_REGISTER_BUFFER_UCHAR MingwWriteRegisterBufferUchar
#define WRITE_REGISTER_BUFFER_USHORT MingwWriteRegisterBufferUshort
#define WRITE_REGISTER_BUFFER_ULONG MingwWriteRegisterBufferUlong

// With clang, <intrin.h> defines these two, and <wdm.h> again.
#ifdef __clang__
#include <intrin.h>
#define InterlockedBitTestAndSet MingwInterlockedBitTestAndSet
#define InterlockedBitTestAndReset MingwInterlockedBitTestAndReset
#endif

#include <kitdmatable.h>
#include_next <wdm.h>
#include <kitdma.h>

#ifdef __clang__
#undef InterlockedBitTestAndSet
#undef InterlockedBitTestAndReset
#endif

#undef READ_REGISTER_UCHAR
#undef READ_REGISTER_USHORT
#undef READ_REGISTER_ULONG
#undef WRITE_REGISTER_UCHAR
#undef WRITE_REGISTER_USHORT
#undef WRITE_REGISTER_ULONG
#undef READ_REGISTER_BUFFER_UCHAR
#undef READ_REGISTER_BUFFER_USHORT
#undef READ_REGISTER_BUFFER_ULONG
#undef WRITE_REGISTER_BUFFER_UCHAR
#undef WRITE_REGISTER_BUFFER_USHORT
#undef WRITE_REGISTER_BUFFER_ULONG

#include <kitaccess.h>
#include <kitmm.h>
#include <kitpool.h>
#include <kitsystem.h>

#include <except.h>
