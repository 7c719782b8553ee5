// Interrupts of devices: from the vector to the routines that are connected to it.

#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"

VOID KiDeviceInterrupt(ULONG Vector)
{
    UNREFERENCED_PARAMETER(Vector);
    KeArchGetPcr()->SpuriousInterrupts += 1;
}
