// The start of Io, in order: tables, configuration space, functions, their registers, their
// drivers.
#include "kernel/io/dma.h"
#include "kernel/io/iop.h"

VOID IoInitSystem(const LOADER_BLOCK *LoaderBlock)
{
    IopInitializeDma();
    IopInitializeAcpi(LoaderBlock);
    IopInitializePciConfig();
    IopEnumeratePci();
    IopAssignBars();
    IopStartDevices();
}
