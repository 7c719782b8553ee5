// Trimming: gives back what mm keeps for its next use.
#include "mm/mi.h"

VOID MmTrim(VOID)
{
    (VOID) MiTrimMappings();
    MiTrimLedger();
    MiTrimFrames();
}
