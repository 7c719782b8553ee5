// The verifier: what is checked at level 1 only.
#include "mm/mi.h"

ULONG MmVerifierLevel;
