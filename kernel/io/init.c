// The start of Io, in order: tables, configuration space, functions, their interrupts and registers,
// their drivers.
#include "kernel/io/dma.h"
#include "kernel/io/iop.h"

VOID IoInitSystem(const LOADER_BLOCK *LoaderBlock)
{
    IopInitializeDma();
    IopInitializeAcpi(LoaderBlock);
    IopInitializePciConfig();
    IopInitializeLines();
    IopEnumeratePci();
    IopInitializeInterrupts();
    IopAssignBars();
    IopStartDevices();
}
