// The driver's view of the kernel: this header is all that a driver includes.
//
// Names, values, layouts and the calling convention are those of NT on x64. Each header below can
// stand alone:
//   keddk.h     IRQL, spin locks, time, bug checks, dispatcher objects, lists, pool, memory, print
//   ioaccess.h  device registers, ports, barriers
//   mmddk.h     I/O-space mappings, MDLs, reserved mappings
//   busddk.h    resources, PCI configuration space, bus interface
//   ioddk.h     driver and device objects, IRPs
//   obddk.h     objects: references, handles, names
//   pnpddk.h    plug and play
//   dispatchddk.h  waits, threads, timers, DPCs
//   intddk.h    interrupts
//   dmaddk.h    DMA adapters
//   cmddk.h     the registry
//   csqddk.h    cancel-safe queues, remove locks
//   poddk.h     power IRPs, events
//   rtlddk.h    strings and the like
//   seddk.h     privileges, security descriptors, HAL tables
//   sysddk.h    versions, probes, debugger, notifications
//   exddk.h     lists, lookaside lists, reader-writer spin locks
//   exlockddk.h resources, rundown protection, callbacks
//   tableddk.h  generic tables
//
// Comments on the functions give the rules of Microsoft's public documentation; "(ours)" marks what
// it leaves open and this kernel decides. Where no IRQL is given, the function may be called at
// IRQL <= DISPATCH_LEVEL.
#pragma once

#include <ntdef.h>
#include <ntstatus.h>

#include <keddk.h>

#include <busddk.h>
#include <cmddk.h>
#include <csqddk.h>
#include <dispatchddk.h>
#include <dmaddk.h>
#include <except.h>
#include <exddk.h>
#include <exlockddk.h>
#include <intddk.h>
#include <ioaccess.h>
#include <ioddk.h>
#include <mmddk.h>
#include <obddk.h>
#include <pnpddk.h>
#include <poddk.h>
#include <rtlddk.h>
#include <seddk.h>
#include <sysddk.h>
#include <tableddk.h>
