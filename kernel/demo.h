// The report that the kernel gives of itself and of the machine by default.
#pragma once

#include <ntdef.h>

#include "kernel/inc/loader.h"

// Prints everything. FALSE: a device that is there did not do its work, or a self-test failed.
BOOLEAN KiRunDemo(_In_ const LOADER_BLOCK *LoaderBlock);

// What the drivers print when they have the machine to themselves for a second, and what they leave behind
// when their devices are removed and they are unloaded. FALSE: something was left.
BOOLEAN KiRunDrivers(_In_ const LOADER_BLOCK *LoaderBlock);
