// The order in which mm comes to life. Each step uses what the steps before it have made.
#include "kernel/inc/loader.h"
#include "mm/mi.h"

VOID MmInitSystem(const LOADER_BLOCK *LoaderBlock)
{
    MiInitializePhysicalMap(LoaderBlock); // what the machine is
    MiInitializePfnDatabase(LoaderBlock); // which frames are free
    MiInitializeAddressSpace();           // page tables of our own, instead of the boot loader's
    MiReleaseHighMemory();                // which these tables reach
    MiInitializeSystemVa();               // addresses for mappings and for the pool
    MiInitializeLedger();                 // cache types of I/O frames
    MiInitializeDumpMapping();            // tables for the day when none can be made
}
