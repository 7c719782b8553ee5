// What the dispatch interrupt and the clock interrupt do.

#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"

VOID KiDispatchInterrupt(VOID)
{
}

VOID KiClockInterrupt(VOID)
{
}
