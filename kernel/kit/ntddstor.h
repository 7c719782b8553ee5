// <ntddstor.h> of mingw-w64, and what it lacks: see wdm.h.
#pragma once

#include_next <ntddstor.h>

#ifndef BusTypeNvme
#define BusTypeNvme ((STORAGE_BUS_TYPE)0x11) // Windows 10
#endif
