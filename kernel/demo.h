// The report that the kernel gives of itself and of the machine by default.
#pragma once

#include <ntdef.h>

#include "kernel/inc/loader.h"

// Prints everything. FALSE: a device that is there did not do its work, or a self-test failed.
BOOLEAN KiRunDemo(_In_ const LOADER_BLOCK *LoaderBlock);

// What the drivers print when they have the machine to themselves for a second, and what they leave behind
// when their devices are removed and they are unloaded. FALSE: something was left.
BOOLEAN KiRunDrivers(_In_ const LOADER_BLOCK *LoaderBlock);

// Prints the lease that the network stack has, or gets within seconds, and pings the router. Returns what
// the stack answered; STATUS_NO_SUCH_DEVICE: there is no stack, or no card.
NTSTATUS KiShowLease(VOID);

// A station of a network until the host sends a `q`, or for `seconds=N`. FALSE: the drivers have left
// something behind.
BOOLEAN KiRunNetwork(_In_ const LOADER_BLOCK *LoaderBlock);
