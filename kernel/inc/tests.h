// What the tests inside the kernel offer to its start. Implemented in tests/kernel.
#pragma once

#include <ntdef.h>

// Runs the self-tests that the boot options choose and prints KTAP. TRUE: at least one ran, and all
// passed.
BOOLEAN KiRunSelfTests(VOID);

// Commits the misuse of this name, which must stop the machine: returning is a failure.
VOID KiRunBugCheckTest(PCSTR Name);

VOID KiRunBenchmarks(VOID);
