// Between fakearch.c and watch.c only.
#pragma once

#include "tests/host/host.h"

// Makes the build machine's address space follow a leaf that was stored, or taken away.
VOID FakeMirrorLeaf(ULONG_PTR Va, ULONG64 ByteCount, PFN_NUMBER Pfn);
VOID FakeMirrorNothing(ULONG_PTR Va, ULONG64 ByteCount);

// The processor reads a leaf of this level.
VOID FakeUseLeaf(PFN_NUMBER TablePfn, ULONG Index, ULONG Level);
