// The start of Io, in order: threads, tables, configuration space, functions, their interrupts and registers,
// their drivers.
#include "kernel/io/dma.h"
#include "kernel/io/iop.h"

VOID IoInitSystem(const LOADER_BLOCK *LoaderBlock)
{
    IopStartWorkers();
    IopWatchThreads();
    IopInitializeDma();
    IopInitializeAcpi(LoaderBlock);
    IopInitializePciConfig();
    IopInitializeLines();
    IopStartProcessors();
    IopEnumeratePci();
    IopInitializeInterrupts();
    IopAssignBars();
    IopInitializeState();
    IopStartDevices(LoaderBlock);
}
